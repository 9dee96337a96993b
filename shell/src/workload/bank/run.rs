//! Runs the bank: starts the clients, shows a line each second, and reports.

use std::collections::BTreeMap;
use std::future::Future;
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use check::{Kind, Op};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::json;

use super::report::Summary;
use super::worker::{Shared, Worker, locked};
use super::{Setup, init, options, reader, retrying};
use crate::args::{BankArgs, Report};
use crate::client::{Client, Failure};
use crate::nemesis::beside::Beside;
use crate::out::Out;
use crate::workload::history::Recorder;
use crate::workload::judge;
use crate::workload::meter::Meter;
use crate::workload::run::any_seed;
use crate::workload::tally::{Counts, HEADING, Tally};
use crate::workload::watch::Watch;

/// `meridian workload bank run`. Ends after the duration, or when `stop` does.
pub async fn run(args: &BankArgs, stop: impl Future<Output = ()>, out: &mut Out, err: &mut Out) -> anyhow::Result<i32> {
    let text = args.report == Report::Text;
    let summary = {
        // Lines for people go where they cannot disturb a program that reads the report.
        let lines: &mut Out = if text { &mut *out } else { &mut *err };
        load(args, stop, lines).await?
    };
    for row in summary.text() {
        if text { out.line(row) } else { err.line(row) }
    }
    judge::say_files(args.history.as_ref(), &args.judge, if text { &mut *out } else { &mut *err });
    if !text {
        out.line(summary.json().to_string());
    }
    let _ = out.flush();
    Ok(i32::from(!summary.good()))
}

/// Runs it and says what came of it.
pub async fn load(args: &BankArgs, stop: impl Future<Output = ()>, lines: &mut Out) -> anyhow::Result<Summary> {
    let addresses = args.connect.addresses();
    let seed = args.seed.unwrap_or_else(any_seed);
    let nemesis = args.beside.find(&addresses, seed).await?;
    let mut client = Client::connect_with(&addresses, options(args.statement_timeout)).await?;
    if args.init {
        init::make(&mut client, args, lines).await?;
    }
    let setup = Setup::load(&mut client).await?;
    let accounts = args.accounts.unwrap_or(setup.accounts);
    anyhow::ensure!(
        accounts <= setup.accounts,
        "the bank has {} accounts, not {accounts}: run 'meridian workload bank init --accounts {accounts}'",
        setup.accounts
    );
    anyhow::ensure!(!args.ledger || setup.ledger, "the bank has no ledger: run init with --ledger");
    retrying(&mut client, "UPDATE bank_setup SET value = value + 1 WHERE name = 'runs'", 20).await?;
    let (first, first_ts) = first_sum(&mut client).await?;
    let mut meter = Meter::new(client.addresses());
    meter.look().await;

    let run = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_nanos()).unwrap_or(0));
    let began = Instant::now();
    let recorder = Recorder::create(args.history.as_deref(), args.judge.needs_events(), began)
        .map_err(|e| anyhow::anyhow!("cannot create the history {:?}: {e}", args.history))?;
    let recorder = Arc::new(recorder);
    let more = json!({
        "accounts": setup.accounts, "initial_balance": setup.initial_balance, "run": run, "ledger": setup.ledger,
        "nemesis": args.beside.options(),
    });
    recorder.note("setup", "setup", judge::setup("bank", seed, args.clients, args.duration, more));
    let shared = Arc::new(Shared {
        setup,
        accounts,
        run,
        read_percent: args.read_percent,
        resolve_timeout: args.resolve_timeout,
        began,
        recorder,
        stop: AtomicBool::new(false),
        next_process: AtomicU64::new(args.clients + 1),
        acknowledged_ts: AtomicI64::new(first_ts),
        first_ts,
        snapshots: Mutex::default(),
        violations: Mutex::default(),
        unresolved: Mutex::default(),
        errors: Mutex::default(),
        gap: Mutex::default(),
    });
    reader::judge(&shared, first_ts, first);

    let nodes = client.addresses().to_vec();
    let (mut tallies, mut workers) = (Vec::new(), Vec::new());
    for id in 0..args.clients {
        let tally = Tally::default();
        tallies.push(tally.clone());
        let mut addresses = nodes.clone();
        let count = addresses.len().max(1);
        addresses.rotate_left(usize::try_from(id).unwrap_or(0) % count);
        let worker = Worker {
            id: i64::try_from(id).unwrap_or(i64::MAX),
            process: id + 1,
            client: Client::offline(&addresses, options(args.statement_timeout)),
            rng: ChaCha8Rng::seed_from_u64(seed ^ (id + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15)),
            tally,
            shared: shared.clone(),
            seq: 0,
        };
        workers.push(tokio::spawn(worker.work()));
    }
    let nemesis = nemesis.map(|nemesis| Beside::begin(nemesis, shared.recorder.clone()));
    let mut total = Counts::default();
    let watch =
        Watch { began, duration: args.duration, heading: HEADING, tallies: &tallies, recorder: &shared.recorder };
    watch.run(stop, &mut total, &mut meter, lines).await;

    shared.stop.store(true, Ordering::SeqCst);
    let elapsed = began.elapsed();
    locked(&shared.gap).mark(elapsed);
    let hurt = Beside::end(nemesis, &shared.violations).await;
    for worker in workers {
        worker.await.map_err(|e| anyhow::anyhow!("a client failed: {e}"))?;
    }
    for tally in &tallies {
        tally.drain_into(&mut total);
    }
    meter.look().await;
    let final_read = match &hurt {
        Ok(_) => last_read(&shared, &nodes, args).await,
        Err(why) => Err(format!("{why:#}")),
    };
    let recorder = shared.recorder.clone();
    let violations = locked(&shared.violations).clone();
    let judged = judge::judge(&args.judge, recorder, violations, |_| Vec::new()).await?;
    Ok(Summary::new(args, &shared, total, elapsed, &meter, seed, final_read, hurt.ok().flatten(), judged))
}

/// The first strong snapshot: the bank must be whole before anything is blamed on this run.
async fn first_sum(client: &mut Client) -> anyhow::Result<(reader::Snapshot, i64)> {
    let mut last = None;
    for _ in 0..30 {
        match reader::sum(client, None).await {
            Ok(first) => return Ok(first),
            Err(failure @ Failure::Server(_)) if !super::may_pass(failure.sqlstate()) => return Err(failure.into()),
            Err(failure) => last = Some(failure),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Err(last.map_or_else(|| anyhow::anyhow!("the bank cannot be read"), Into::into))
}

/// Once the clients rest, every account is read at the present. The error says why it could not.
async fn last_read(shared: &Shared, nodes: &[String], args: &BankArgs) -> Result<(), String> {
    let mut client = Client::offline(nodes, options(args.statement_timeout));
    let process = shared.next_process.fetch_add(1, Ordering::SeqCst);
    let accounts = shared.setup.accounts;
    shared.recorder.record(process, Kind::Invoke, |event| event.txn = vec![Op::Total(accounts, None)]);
    let began = Instant::now();
    loop {
        match reader::rows(&mut client, None).await {
            Ok((balances, ts)) => {
                let node = client.node();
                let snapshot = reader::digest(&balances, node.unwrap_or(0));
                let read_ts = Some(ts).filter(|ts| *ts != 0);
                shared.recorder.record(process, Kind::Ok, |event| {
                    event.txn = vec![Op::Total(accounts, Some(snapshot.sum))];
                    event.read_ts = read_ts;
                    event.node = node;
                });
                let negative: BTreeMap<_, _> = balances.iter().filter(|(_, balance)| **balance < 0).collect();
                if !negative.is_empty() {
                    shared.violation(format!("accounts below zero at the end: {negative:?}"));
                }
                reader::judge(shared, ts, snapshot);
                return Ok(());
            }
            Err(failure) if began.elapsed() > args.resolve_timeout => {
                shared.recorder.record(process, Kind::Fail, |event| {
                    event.txn = vec![Op::Total(accounts, None)];
                    event.error = failure.to_string();
                });
                return Err(failure.to_string());
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}
