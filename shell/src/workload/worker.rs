//! One client of a workload: asks its planner, runs the plan, records how it went.
//!
//! Nothing is repeated: a transaction that failed is a `fail` in the history, and the next is
//! another. One in doubt is asked for by its name until its status is known: then it is an `ok` or
//! a `fail` with that status; or else `info`, and the client goes on under a new process number.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use check::{Kind, Op};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde_json::json;

use super::bank::resolve::{Outcome, resolve};
use super::history::Recorder;
use super::plan::{At, Desk, Ended, Mode, Plan, Planner, locked};
use super::session::{End, Ran, Session, Stop, writes};
use super::tally::{Gap, Tally};

/// The longest pause after a conflict.
const BACKOFF_MAX: Duration = Duration::from_millis(16);

/// The pause after a lost connection or an error.
const PAUSE: Duration = Duration::from_millis(100);

/// How many different texts are kept.
const LISTED_MAX: usize = 100;

/// The longest that the answer to a COMMIT is waited for if it is to be lost.
const LOSE_US_MAX: u64 = 8000;

/// What all clients share.
pub struct Shared {
    /// Values and times.
    pub desk: Arc<Desk>,
    /// The history.
    pub recorder: Arc<Recorder>,
    /// The start.
    pub began: Instant,
    /// Set when the run is over.
    pub stop: AtomicBool,
    /// The next unused process number.
    pub next_process: AtomicU64,
    /// Of 1,000 commits, how many answers are lost on purpose.
    pub lose_permille: u32,
    /// For an ambiguous commit.
    pub resolve_timeout: Duration,
    /// Transactions that nobody could tell of: their names, and who asked for them.
    pub unresolved: Mutex<BTreeMap<String, u64>>,
    /// Answers that cannot be.
    pub violations: Mutex<Vec<String>>,
    /// Errors by their text, and how often each was met.
    pub errors: Mutex<BTreeMap<String, u64>>,
    /// The longest stretch without a success.
    pub gap: Mutex<Gap>,
}

impl Shared {
    fn error(&self, text: &str) {
        let mut errors = locked(&self.errors);
        if errors.len() < LISTED_MAX || errors.contains_key(text) {
            *errors.entry(text.to_string()).or_default() += 1;
        }
    }

    fn violation(&self, text: &str) {
        self.recorder.note("workload", "violation", json!(text));
        let mut violations = locked(&self.violations);
        if violations.len() < LISTED_MAX {
            violations.push(text.to_string());
        }
    }
}

/// A client.
pub struct Worker {
    /// Its number in the history; changes after an unknown outcome.
    pub process: u64,
    /// Its connection.
    pub session: Session,
    /// Its mind.
    pub planner: Box<dyn Planner>,
    /// Its choices.
    pub rng: ChaCha8Rng,
    /// Its counts.
    pub tally: Tally,
    /// What all share.
    pub shared: Arc<Shared>,
}

impl Worker {
    fn stopping(&self) -> bool {
        self.shared.stop.load(Ordering::Relaxed)
    }

    /// Works until the run is over.
    pub async fn work(mut self) {
        while let Err(failure) = self.session.prepare().await {
            self.shared.error(&failure.to_string());
            if self.stopping() {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
        let mut sessions = self.session.client.sessions();
        while !self.stopping() {
            let plan = self.planner.next(&mut self.rng);
            let pause = self.one(plan).await.0;
            let opened = self.session.client.sessions();
            self.tally.lock().reconnects += opened - sessions;
            sessions = opened;
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
        }
    }

    /// Runs a plan; says how long to pause, and how it ended.
    pub async fn one(&mut self, plan: Plan) -> (Duration, Kind) {
        let shared = self.shared.clone();
        let invoked = plan.invoked();
        let mode = plan.mode;
        let node = self.session.client.node();
        if !invoked.is_empty() {
            shared.recorder.record(self.process, Kind::Invoke, |event| {
                event.txn = invoked.clone();
                event.node = node;
                event.stale = matches!(mode, Mode::Past(_));
                if let Mode::Past(At::Exact(ts)) = mode {
                    event.read_ts = Some(ts);
                }
            });
        }
        let lose = self.rng.random_range(0..1000) < shared.lose_permille;
        let lose = lose.then(|| Duration::from_micros(self.rng.random_range(0..LOSE_US_MAX)));
        let began = Instant::now();
        let ran = self.session.run(plan, lose, &mut self.rng).await;
        if invoked.is_empty() {
            return self.unrecorded(&ran);
        }
        self.record(ran, mode, began).await
    }

    /// The end of something that is no part of the history, such as a schema change.
    fn unrecorded(&mut self, ran: &Ran) -> (Duration, Kind) {
        let (kind, pause) = match &ran.end {
            End::Ok { .. } => (Kind::Ok, Duration::ZERO),
            End::Fail(stop) => {
                self.shared.error(stop.text());
                (Kind::Fail, PAUSE)
            }
            End::Doubt { reason, .. } => {
                self.shared.error(reason);
                (Kind::Info, PAUSE)
            }
        };
        self.planner.ended(&Ended { kind, txn: &[], ts: None });
        (pause, kind)
    }

    async fn record(&mut self, ran: Ran, mode: Mode, began: Instant) -> (Duration, Kind) {
        let shared = self.shared.clone();
        let Ran { txn, end, mut transaction } = ran;
        let node = self.session.client.node();
        let mut pause = Duration::ZERO;
        let (mut status, mut error) = ("", String::new());
        let (mut commit_ts, mut read_ts) = (None, None);
        let kind = match end {
            End::Ok { commit_ts: committed, read_ts: read } => {
                commit_ts = committed;
                read_ts = match mode {
                    Mode::Past(At::Exact(ts)) => Some(ts),
                    _ => read,
                };
                Kind::Ok
            }
            End::Fail(stop) => {
                pause = self.failed(&stop).await;
                error = stop.text().to_string();
                Kind::Fail
            }
            End::Doubt { transaction: name, coordinator, reason } => {
                shared.error(&reason);
                transaction = name;
                error = reason;
                let (kind, word, ts) = self.ambiguous(&transaction, coordinator).await;
                (status, commit_ts) = (word, ts.filter(|_| writes(&txn)));
                kind
            }
        };
        if let Some(ts) = commit_ts {
            shared.desk.acknowledged(ts);
        }
        shared.recorder.record(self.process, kind, |event| {
            event.txn = txn.clone();
            event.commit_ts = commit_ts;
            event.read_ts = read_ts;
            event.node = node;
            event.transaction = transaction;
            event.status = status.to_string();
            event.error = error;
        });
        self.count(kind, &txn, mode, began);
        if kind == Kind::Info {
            self.process = shared.next_process.fetch_add(1, Ordering::Relaxed);
        }
        self.planner.ended(&Ended { kind, txn: &txn, ts: commit_ts.or(read_ts) });
        (pause, kind)
    }

    fn count(&self, kind: Kind, txn: &[Op], mode: Mode, began: Instant) {
        let mut counts = self.tally.lock();
        match kind {
            Kind::Ok if writes(txn) => counts.transfer(began.elapsed()),
            Kind::Ok if matches!(mode, Mode::Past(_)) => counts.reads_past += 1,
            Kind::Ok => counts.reads_strong += 1,
            Kind::Fail => counts.declined += 1,
            Kind::Info | Kind::Invoke => {}
        }
        drop(counts);
        if kind == Kind::Ok {
            locked(&self.shared.gap).mark(self.shared.began.elapsed());
        }
    }

    /// How long to pause after a failure; moves on from a node in trouble.
    async fn failed(&mut self, stop: &Stop) -> Duration {
        match stop {
            Stop::Conflict(_) => {
                self.tally.lock().retries += 1;
                BACKOFF_MAX.mul_f64(self.rng.random_range(0.0..1.0))
            }
            Stop::Refused(_) => Duration::ZERO,
            Stop::Trouble(why) => {
                self.tally.lock().errors += 1;
                self.shared.error(why);
                // It may be cut off from the others, and they not.
                if self.rng.random() {
                    let _ = self.session.client.reconnect().await;
                }
                PAUSE
            }
            Stop::Violation(why) => {
                self.shared.violation(why);
                Duration::ZERO
            }
        }
    }

    async fn ambiguous(&mut self, transaction: &str, coordinator: u64) -> (Kind, &'static str, Option<i64>) {
        self.tally.lock().ambiguous += 1;
        let addresses = self.session.client.addresses().to_vec();
        let timeout = if transaction.is_empty() { Duration::ZERO } else { self.shared.resolve_timeout };
        match resolve(&addresses, transaction, coordinator, timeout).await {
            Outcome::Committed(ts) => {
                self.tally.lock().ambiguous_committed += 1;
                (Kind::Ok, "committed", ts)
            }
            Outcome::Aborted => {
                self.tally.lock().ambiguous_aborted += 1;
                (Kind::Fail, "aborted", None)
            }
            Outcome::Unresolved(_) => {
                self.tally.lock().ambiguous_unresolved += 1;
                // A statement of its own may have no name that the client was told.
                let unnamed = format!("process {}, of no known name", self.process);
                let name = if transaction.is_empty() { unnamed } else { transaction.to_string() };
                locked(&self.shared.unresolved).insert(name, self.process);
                (Kind::Info, "", None)
            }
        }
    }
}
