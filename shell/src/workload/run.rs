//! Runs a workload: makes its tables, starts its clients, shows a line each second, waits until the
//! cluster answers, reads everything once more, and has the history judged.

use std::future::Future;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use check::Kind;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::json;

use super::bank::options;
use super::bank::resolve::{Outcome, resolve};
use super::history::Recorder;
use super::judge::{self, Judged};
use super::kinds;
use super::meter::Meter;
use super::outcome::Report;
use super::plan::{Desk, Workload, locked};
use super::session::Session;
use super::tables;
use super::tally::{Counts, HEADING_OPS, Tally};
use super::watch::Watch;
use super::worker::{Shared, Worker};
use crate::args::{self, RunArgs};
use crate::client::Client;
use crate::nemesis::beside::Beside;
use crate::out::Out;

/// How long the last reads may take, all together.
const LAST_MAX: Duration = Duration::from_secs(120);

/// The pause between two tries of a last read.
const PAUSE: Duration = Duration::from_millis(200);

/// `meridian workload NAME run`. Ends after the duration, or when `stop` does.
pub async fn run(
    name: &'static str,
    args: &RunArgs,
    stop: impl Future<Output = ()>,
    out: &mut Out,
    err: &mut Out,
) -> anyhow::Result<i32> {
    let text = args.report == args::Report::Text;
    // Lines for people go where they cannot disturb a program that reads the report.
    let report = load(name, args, stop, if text { &mut *out } else { &mut *err }).await?;
    let lines: &mut Out = if text { &mut *out } else { &mut *err };
    for row in report.text() {
        lines.line(row);
    }
    judge::say_files(args.history.as_ref(), &args.judge, lines);
    if !text {
        out.line(report.json().to_string());
    }
    let _ = out.flush();
    Ok(i32::from(!report.good()))
}

/// A seed nobody chose.
pub fn any_seed() -> u64 {
    RandomState::new().build_hasher().finish() >> 11
}

/// Runs it and says what came of it.
pub async fn load(
    name: &'static str,
    args: &RunArgs,
    stop: impl Future<Output = ()>,
    lines: &mut Out,
) -> anyhow::Result<Report> {
    let client_options = options(args.statement_timeout);
    let seed = args.seed.unwrap_or_else(any_seed);
    let nemesis = args.beside.find(&args.connect.addresses(), seed).await?;
    let mut client = Client::connect_with(&args.connect.addresses(), client_options.clone()).await?;
    // Which table it needs does not depend on when it began.
    let probe = kinds::make(name, Arc::new(Desk::new(0, tables::SHARDS, Instant::now())));
    let model = probe.ok_or_else(|| anyhow::anyhow!("there is no workload '{name}'"))?.model();
    let first_ts = tables::prepare(&mut client, model).await?;
    let addresses = client.addresses().to_vec();
    let mut meter = Meter::new(&addresses);
    meter.look().await;

    let began = Instant::now();
    let recorder = Recorder::create(args.history.as_deref(), args.judge.needs_events(), began)
        .map_err(|e| anyhow::anyhow!("cannot create the history {:?}: {e}", args.history))?;
    let recorder = Arc::new(recorder);
    let more = json!({"shards": tables::SHARDS, "lose_permille": args.lose_replies, "nemesis": args.beside.options()});
    recorder.note("setup", "setup", judge::setup(name, seed, args.clients, args.duration, more));
    let desk = Arc::new(Desk::new(first_ts, tables::SHARDS, began));
    let workload = kinds::make(name, desk.clone()).expect("it was made a moment ago");
    let shared = Arc::new(Shared {
        desk,
        recorder: recorder.clone(),
        began,
        stop: AtomicBool::new(false),
        next_process: AtomicU64::new(args.clients),
        lose_permille: args.lose_replies,
        resolve_timeout: args.resolve_timeout,
        unresolved: Mutex::default(),
        violations: Mutex::default(),
        errors: Mutex::default(),
        gap: Mutex::default(),
    });
    let (mut tallies, mut workers) = (Vec::new(), Vec::new());
    for id in 0..args.clients {
        let tally = Tally::default();
        tallies.push(tally.clone());
        let mut own = addresses.clone();
        let count = own.len().max(1);
        own.rotate_left(usize::try_from(id).unwrap_or(0) % count);
        let worker = Worker {
            process: id,
            session: Session::new(Client::offline(&own, client_options.clone()), model),
            planner: workload.planner(id),
            rng: ChaCha8Rng::seed_from_u64(seed ^ (id + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15)),
            tally,
            shared: shared.clone(),
        };
        workers.push(tokio::spawn(worker.work()));
    }
    let nemesis = nemesis.map(|nemesis| Beside::begin(nemesis, recorder.clone()));
    let mut total = Counts::default();
    let watch =
        Watch { began, duration: args.duration, heading: HEADING_OPS, tallies: &tallies, recorder: &shared.recorder };
    watch.run(stop, &mut total, &mut meter, lines).await;

    shared.stop.store(true, Ordering::SeqCst);
    let elapsed = began.elapsed();
    locked(&shared.gap).mark(elapsed);
    let hurt = Beside::end(nemesis, &shared.violations).await;
    let healed = judge::healed(&addresses, &client_options).await;
    for worker in workers {
        worker.await.map_err(|e| anyhow::anyhow!("a client failed: {e}"))?;
    }
    for tally in &tallies {
        tally.drain_into(&mut total);
    }
    meter.look().await;
    let last = match healed.and(hurt.as_ref().map_err(|why| format!("{why:#}"))) {
        Ok(_) => last_reads(&*workload, &shared, &addresses, args).await,
        Err(why) => Err(why),
    };
    still_unknown(&shared, &addresses).await;
    let violations = locked(&shared.violations).clone();
    let audited = workload.clone();
    let judged = judge::judge(&args.judge, recorder, violations.clone(), move |events| audited.audit(events));
    let judged: Judged = judged.await?;
    Ok(Report {
        name,
        counts: total,
        elapsed,
        spent: meter.spent(),
        clocks: meter.clocks().clone(),
        clients: args.clients,
        seed,
        gap: locked(&shared.gap).clone(),
        errors: locked(&shared.errors).clone(),
        unresolved: locked(&shared.unresolved).keys().cloned().collect(),
        violations,
        last,
        nemesis: hurt.ok().flatten(),
        min_ops: args.judge.min_ops,
        judged,
    })
}

/// Once the clients rest, everything is read at the present, through all nodes in turn.
async fn last_reads(
    workload: &dyn Workload,
    shared: &Arc<Shared>,
    addresses: &[String],
    args: &RunArgs,
) -> Result<u64, String> {
    shared.recorder.note("workload", "final", json!(null));
    let session = Session::new(Client::offline(addresses, options(args.statement_timeout)), workload.model());
    let mut reader = Worker {
        process: shared.next_process.fetch_add(1, Ordering::SeqCst),
        session,
        planner: workload.planner(u64::MAX),
        rng: ChaCha8Rng::seed_from_u64(0),
        tally: Tally::default(),
        shared: shared.clone(),
    };
    let began = Instant::now();
    while let Err(failure) = reader.session.prepare().await {
        if began.elapsed() > LAST_MAX {
            return Err(format!("the last reads do not succeed: {failure}"));
        }
        tokio::time::sleep(PAUSE).await;
        let _ = reader.session.client.reconnect().await;
    }
    let mut done = 0;
    let mut left = workload.last_reads();
    while !left.is_empty() {
        if done % 16 == 15 {
            let _ = reader.session.client.reconnect().await;
        }
        // A plan is used up by a try; the same one is drawn again.
        let plans = workload.last_reads();
        let Some(plan) = plans.into_iter().nth(done) else { break };
        if reader.one(plan).await.1 == Kind::Ok {
            left.pop();
            done += 1;
        } else if began.elapsed() > LAST_MAX {
            let errors = locked(&shared.errors);
            let why = errors.keys().next().cloned().unwrap_or_default();
            return Err(format!("the last reads do not succeed: {why}"));
        } else {
            tokio::time::sleep(PAUSE).await;
        }
    }
    Ok(done as u64)
}

/// Asks once more for what nobody could tell of; the answers go into the history.
async fn still_unknown(shared: &Shared, addresses: &[String]) {
    let names: Vec<(String, u64)> = locked(&shared.unresolved).clone().into_iter().collect();
    for (name, process) in names {
        let (status, ts) = match resolve(addresses, &name, 0, Duration::from_secs(5)).await {
            Outcome::Committed(ts) => ("committed", ts),
            Outcome::Aborted => ("aborted", None),
            Outcome::Unresolved(_) => continue,
        };
        let value = json!({"process": process, "transaction": name, "status": status, "commit_ts": ts});
        shared.recorder.note("resolver", "status", value);
        locked(&shared.unresolved).remove(&name);
    }
}
