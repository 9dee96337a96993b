//! One client: a session, and transfers and snapshots one after the other.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use check::{Kind, Op};
use proto::v1::{TransactionState, Value};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde_json::json;

use super::reader::Snapshot;
use super::resolve::{Outcome, resolve};
use super::{CREDIT, DEBIT, LEDGER, SELECT_BALANCE, Setup, int};
use crate::client::{Client, Failure};
use crate::format::int_value;
use crate::workload::history::Recorder;
use crate::workload::tally::{Gap, Tally};

/// How many violations and unresolved transactions are kept word for word.
pub const LISTED_MAX: usize = 100;

/// The longest pause before a retry after a conflict.
const BACKOFF_MAX: Duration = Duration::from_millis(64);

/// The pause after a lost connection or an error.
const PAUSE: Duration = Duration::from_millis(100);

/// The largest amount of a transfer.
const AMOUNT_MAX: i64 = 100;

/// What all clients share.
pub struct Shared {
    /// The bank.
    pub setup: Setup,
    /// How many of its accounts transfers use.
    pub accounts: i64,
    /// This run's name in the ledger.
    pub run: i64,
    /// Of snapshots among operations.
    pub read_percent: u32,
    /// For an ambiguous commit.
    pub resolve_timeout: Duration,
    /// The start.
    pub began: Instant,
    /// The history.
    pub recorder: Arc<Recorder>,
    /// Set when the run is over.
    pub stop: AtomicBool,
    /// The next unused process number of the history.
    pub next_process: AtomicU64,
    /// The largest commit timestamp acknowledged so far.
    pub acknowledged_ts: AtomicI64,
    /// When the run began, by the cluster's time.
    pub first_ts: i64,
    /// Snapshots to read again, by timestamp.
    pub snapshots: Mutex<BTreeMap<i64, Snapshot>>,
    /// What must not have happened.
    pub violations: Mutex<Vec<String>>,
    /// Transactions whose outcome nobody told.
    pub unresolved: Mutex<Vec<String>>,
    /// Errors by their text, and how often each was met.
    pub errors: Mutex<BTreeMap<String, u64>>,
    /// The longest stretch without a commit.
    pub gap: Mutex<Gap>,
}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

impl Shared {
    /// Notes a broken promise.
    pub fn violation(&self, what: String) {
        let mut violations = locked(&self.violations);
        if violations.len() < LISTED_MAX {
            violations.push(what);
        }
    }

    /// Whether the run is over.
    pub fn stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn error(&self, text: &str) {
        let mut errors = locked(&self.errors);
        if errors.len() < LISTED_MAX || errors.contains_key(text) {
            *errors.entry(text.to_string()).or_default() += 1;
        }
    }
}

/// How a try at a transfer ended.
enum Try {
    Committed {
        transaction: String,
        commit_ts: Option<i64>,
    },
    /// Too little in the account; rolled back.
    Declined,
    /// SQLSTATE 40001: try again.
    Conflict,
    /// The connection or a node was lost, with certainly no effect: try again.
    Lost(String),
    /// It may have committed.
    Ambiguous {
        transaction: String,
        coordinator: u64,
        reason: String,
    },
    /// An error that no retry heals; no effect.
    Failed(String),
}

/// A client of the workload.
pub struct Worker {
    /// For the ledger.
    pub id: i64,
    /// For the history; changes after an unknown outcome.
    pub process: u64,
    /// Its session.
    pub client: Client,
    /// Its choices.
    pub rng: ChaCha8Rng,
    /// Its counts.
    pub tally: Tally,
    /// What all share.
    pub shared: Arc<Shared>,
    /// Transfers so far.
    pub seq: i64,
}

impl Worker {
    /// Works until the run is over.
    pub async fn work(mut self) {
        let mut sessions = 1;
        while !self.shared.stopping() && !self.prepare().await {
            tokio::time::sleep(PAUSE).await;
        }
        while !self.shared.stopping() {
            if self.rng.random_range(0..100) < self.shared.read_percent {
                self.read().await;
            } else {
                self.transfer().await;
            }
            let opened = self.client.sessions();
            if opened > sessions {
                self.tally.lock().reconnects += opened - sessions;
                sessions = opened;
            }
        }
    }

    async fn prepare(&mut self) -> bool {
        let mut statements = vec![("balance", SELECT_BALANCE), ("debit", DEBIT), ("credit", CREDIT)];
        if self.shared.setup.ledger {
            statements.push(("ledger", LEDGER));
        }
        for (name, sql) in statements {
            if let Err(failure) = self.client.prepare(name, sql).await {
                self.note_error(&failure.to_string());
                return false;
            }
        }
        true
    }

    /// Counts an error and keeps its text.
    pub(super) fn note_error(&self, text: &str) {
        self.tally.lock().errors += 1;
        self.shared.error(text);
    }

    async fn transfer(&mut self) {
        let accounts = self.shared.accounts;
        let from = self.rng.random_range(0..accounts);
        let to = (from + self.rng.random_range(1..accounts)) % accounts;
        let amount = self.rng.random_range(1..=AMOUNT_MAX);
        self.seq += 1;
        let (client, seq) = (self.id, self.seq);
        let shared = self.shared.clone();
        let node = self.client.node();
        let op = Op::Transfer(from, to, amount);
        shared.recorder.record(self.process, Kind::Invoke, |event| {
            event.txn = vec![op.clone()];
            event.node = node;
            event.value = Some(json!({"client": client, "seq": seq}));
        });
        let began = Instant::now();
        let mut backoff = Duration::from_millis(1);
        loop {
            let mut status = "";
            let (kind, transaction, commit_ts, error) = match self.try_transfer(from, to, amount).await {
                Try::Committed { transaction, commit_ts } => {
                    self.tally.lock().transfer(began.elapsed());
                    locked(&shared.gap).mark(shared.began.elapsed());
                    (Kind::Ok, transaction, commit_ts, String::new())
                }
                Try::Declined => {
                    self.tally.lock().declined += 1;
                    (Kind::Fail, String::new(), None, "declined".to_string())
                }
                Try::Conflict => {
                    self.tally.lock().retries += 1;
                    if !shared.stopping() {
                        let pause = backoff.mul_f64(self.rng.random_range(0.0..1.0));
                        tokio::time::sleep(pause).await;
                        backoff = (backoff * 2).min(BACKOFF_MAX);
                        continue;
                    }
                    (Kind::Fail, String::new(), None, "the run ended".to_string())
                }
                Try::Lost(reason) => {
                    self.note_error(&reason);
                    tokio::time::sleep(PAUSE).await;
                    if !shared.stopping() {
                        continue;
                    }
                    (Kind::Fail, String::new(), None, reason)
                }
                Try::Failed(reason) => {
                    self.note_error(&reason);
                    tokio::time::sleep(PAUSE).await;
                    (Kind::Fail, String::new(), None, reason)
                }
                Try::Ambiguous { transaction, coordinator, reason } => {
                    let (kind, commit_ts, error) = self.ambiguous(&transaction, coordinator, reason).await;
                    status = match kind {
                        Kind::Ok => "committed",
                        Kind::Fail => "aborted",
                        _ => "",
                    };
                    (kind, transaction, commit_ts, error)
                }
            };
            let node = self.client.node();
            shared.recorder.record(self.process, kind, |event| {
                event.txn = vec![op];
                event.commit_ts = commit_ts;
                event.node = node;
                event.transaction = transaction;
                event.status = status.to_string();
                event.error = error;
                event.value = Some(json!({"client": client, "seq": seq}));
            });
            if kind == Kind::Info {
                self.process = shared.next_process.fetch_add(1, Ordering::Relaxed);
            }
            return;
        }
    }

    async fn ambiguous(&mut self, transaction: &str, coordinator: u64, reason: String) -> (Kind, Option<i64>, String) {
        self.note_error(&reason);
        self.tally.lock().ambiguous += 1;
        let addresses = self.client.addresses().to_vec();
        match resolve(&addresses, transaction, coordinator, self.shared.resolve_timeout).await {
            Outcome::Committed(commit_ts) => {
                self.tally.lock().ambiguous_committed += 1;
                locked(&self.shared.gap).mark(self.shared.began.elapsed());
                self.shared.acknowledged_ts.fetch_max(commit_ts.unwrap_or(0), Ordering::SeqCst);
                (Kind::Ok, commit_ts, String::new())
            }
            Outcome::Aborted => {
                self.tally.lock().ambiguous_aborted += 1;
                (Kind::Fail, None, reason)
            }
            Outcome::Unresolved(why) => {
                self.tally.lock().ambiguous_unresolved += 1;
                let mut unresolved = locked(&self.shared.unresolved);
                if unresolved.len() < LISTED_MAX {
                    unresolved.push(format!("{transaction}: {reason}; asked for its status: {why}"));
                }
                (Kind::Info, None, reason)
            }
        }
    }

    async fn try_transfer(&mut self, from: i64, to: i64, amount: i64) -> Try {
        let ended = self.statements(from, to, amount).await;
        if self.client.state() != TransactionState::Idle && !matches!(ended, Try::Lost(_)) {
            // A rollback that is lost is done by the end of the session.
            let _ = self.client.execute("ROLLBACK", Vec::new()).await;
        }
        ended
    }

    async fn statements(&mut self, from: i64, to: i64, amount: i64) -> Try {
        if let Err(failure) = self.client.execute("BEGIN", Vec::new()).await {
            return without_effect(failure);
        }
        let balance = match self.balance(from).await {
            Ok(balance) => balance,
            Err(ended) => return ended,
        };
        if let Err(ended) = self.balance(to).await {
            return ended;
        }
        if balance < amount {
            return Try::Declined;
        }
        for (name, account) in [("debit", from), ("credit", to)] {
            let parameters = vec![int_value(amount), int_value(account)];
            match self.client.execute_prepared(name, parameters).await {
                Ok(result) if result.complete.tag != "UPDATE 1" => {
                    let tag = result.complete.tag;
                    self.shared.violation(format!("the {name} of account {account}, just read, answered '{tag}'"));
                    return Try::Failed(format!("the {name} answered '{tag}'"));
                }
                Ok(_) => {}
                Err(failure) => return without_effect(failure),
            }
        }
        if self.shared.setup.ledger {
            let row = [self.shared.run, self.id, self.seq, from, to, amount];
            let parameters: Vec<Value> = row.into_iter().map(int_value).collect();
            if let Err(failure) = self.client.execute_prepared("ledger", parameters).await {
                return without_effect(failure);
            }
        }
        self.commit().await
    }

    async fn balance(&mut self, account: i64) -> Result<i64, Try> {
        let result = self.client.execute_prepared("balance", vec![int_value(account)]).await;
        let result = result.map_err(without_effect)?;
        match result.rows.first().and_then(|row| row.values.first()).and_then(int) {
            Some(balance) if balance < 0 => {
                self.shared.violation(format!("account {account} holds {balance}"));
                Ok(balance)
            }
            Some(balance) => Ok(balance),
            None => {
                self.shared.violation(format!("account {account} is missing"));
                Err(Try::Failed(format!("account {account} is missing")))
            }
        }
    }

    async fn commit(&mut self) -> Try {
        let transaction = self.client.ready().transaction;
        // Whatever was acknowledged by now must have a smaller timestamp than this commit.
        let floor = self.shared.acknowledged_ts.load(Ordering::SeqCst);
        match self.client.execute("COMMIT", Vec::new()).await {
            Ok(mut results) => {
                let complete = results.pop().unwrap_or_default().complete;
                if complete.tag != "COMMIT" {
                    // PostgreSQL's way to say that a failed transaction was rolled back.
                    return Try::Conflict;
                }
                let commit = complete.commit.unwrap_or_default();
                let transaction = if transaction.is_empty() { commit.transaction } else { transaction };
                let commit_ts = Some(commit.commit_ts_ns).filter(|ts| *ts != 0);
                if let Some(ts) = commit_ts {
                    if ts <= floor {
                        self.shared.violation(format!(
                            "transaction {transaction} committed at {ts}, though one acknowledged before has {floor}"
                        ));
                    }
                    self.shared.acknowledged_ts.fetch_max(ts, Ordering::SeqCst);
                }
                Try::Committed { transaction, commit_ts }
            }
            Err(Failure::Server(e)) => {
                let reason = format!("COMMIT: {} (SQLSTATE {})", e.message, e.sqlstate);
                match e.sqlstate.as_str() {
                    "40001" | "40P01" => Try::Conflict,
                    "40000" | "40002" | "25P01" | "25P02" => Try::Lost(reason),
                    constraint if constraint.starts_with("23") => Try::Failed(reason),
                    _ => {
                        let transaction = if e.transaction.is_empty() { transaction } else { e.transaction };
                        Try::Ambiguous { transaction, coordinator: e.coordinator, reason }
                    }
                }
            }
            Err(Failure::Disconnected(lost)) if lost.in_doubt => {
                let reason = format!("COMMIT: connection lost: {}", lost.reason);
                Try::Ambiguous { transaction, coordinator: 0, reason }
            }
            Err(Failure::Disconnected(lost)) => Try::Lost(format!("connection lost: {}", lost.reason)),
        }
    }
}

/// A failure before COMMIT: the transaction is gone, and certainly without effect.
fn without_effect(failure: Failure) -> Try {
    match failure {
        Failure::Server(e) if e.sqlstate == "40001" || e.sqlstate == "40P01" => Try::Conflict,
        Failure::Server(e) if super::may_pass(&e.sqlstate) || e.sqlstate == "25P02" => {
            Try::Lost(format!("{} (SQLSTATE {})", e.message, e.sqlstate))
        }
        Failure::Server(e) => Try::Failed(format!("{} (SQLSTATE {})", e.message, e.sqlstate)),
        Failure::Disconnected(lost) => Try::Lost(format!("connection lost: {}", lost.reason)),
    }
}
