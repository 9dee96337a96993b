//! What a workload is: shared state, and for each client a planner that says what to do next.
//!
//! A planner knows no SQL and no network. It draws a [`Plan`], a transaction of a few steps, from
//! the generator that it is given; the client runs it ([`super::session`]), records it, and tells
//! the planner how it ended. So a workload is a page of choices, and all of them share one way to
//! run, to fail and to be in doubt.
//!
//! ```text
//!   planner --Plan--> client --SQL--> a node
//!      ^                | invoke, then ok | fail | info --> history
//!      '---- Ended -----'
//! ```

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use check::{Event, Key, Kind, Op, Value};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// Past reads stay within this many nanoseconds (half the default retention).
const PAST_NS_MAX: i64 = 30 * 60 * 1_000_000_000;

/// Locks; a client that panicked does not take the others with it.
pub fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

/// What the keys of a workload name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Model {
    /// Lists, in table `workload_lists`.
    Lists,
    /// Registers, in table `workload_registers`.
    Registers,
    /// Registers whose ranges are read by an index.
    Indexed,
    /// Sets, in table `workload_sets`.
    Sets,
    /// Registers in tables that come and go: see [`super::kinds::defaults`].
    Defaults,
}

/// One step of a transaction.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// A read or a write, by the statement that suits it.
    Do(Op),
    /// A read that locks as a write does: `SELECT .. FOR UPDATE`.
    ReadForUpdate(i64),
    /// A plain INSERT: it fails if the key is there, so its success has seen that it was not.
    Insert(i64, Value),
    /// A scan of `low <= k < high`, so many rows at a time, each page by a statement of its own.
    Pages(i64, i64, u32),
    /// Schema changes, outside a transaction: their statements.
    Schema(Vec<String>),
}

impl Step {
    /// What the invocation says of it.
    pub fn invoked(&self) -> Vec<Op> {
        match self {
            Step::Do(op) => vec![op.clone()],
            Step::ReadForUpdate(key) => vec![Op::Read(Key::Number(*key))],
            Step::Insert(key, value) => vec![Op::Read(Key::Number(*key)), Op::Write(Key::Number(*key), *value)],
            Step::Pages(low, high, _) => vec![Op::Scan(*low, *high, None)],
            Step::Schema(_) => Vec::new(),
        }
    }
}

/// How a transaction is run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mode {
    /// `BEGIN` .. `COMMIT`, with locks.
    ReadWrite,
    /// `BEGIN` .. `ROLLBACK`: must leave no trace.
    RollBack,
    /// `BEGIN` .., and the session is cut off: must leave no trace.
    CutOff,
    /// One statement without a block.
    Single,
    /// `BEGIN READ ONLY` at the present.
    Strong,
    /// `BEGIN READ ONLY AS OF SYSTEM TIME` this.
    Past(At),
}

/// A time in the past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// Exactly then, in nanoseconds since the epoch.
    Exact(i64),
    /// So long ago, by the clock of the node that is asked.
    Ago(Duration),
}

/// More steps, made from what the first ones saw.
pub type Then = Box<dyn FnOnce(&[Op]) -> Vec<Step> + Send>;

/// A transaction to run.
pub struct Plan {
    /// How.
    pub mode: Mode,
    /// What.
    pub steps: Vec<Step>,
    /// What then.
    pub then: Option<Then>,
    /// What `then` may write, as far as it is known beforehand: part of the invocation.
    pub intent: Vec<Op>,
}

impl Plan {
    /// These steps, one after the other.
    pub fn new(mode: Mode, steps: Vec<Step>) -> Plan {
        Plan { mode, steps, then: None, intent: Vec::new() }
    }

    /// These operations, one after the other.
    pub fn ops(mode: Mode, ops: impl IntoIterator<Item = Op>) -> Plan {
        Plan::new(mode, ops.into_iter().map(Step::Do).collect())
    }

    /// Then these steps.
    pub fn then(mut self, intent: Vec<Op>, then: impl FnOnce(&[Op]) -> Vec<Step> + Send + 'static) -> Plan {
        self.then = Some(Box::new(then));
        self.intent = intent;
        self
    }

    /// What the invocation says.
    pub fn invoked(&self) -> Vec<Op> {
        self.steps.iter().flat_map(Step::invoked).chain(self.intent.iter().cloned()).collect()
    }
}

/// How a transaction ended.
pub struct Ended<'a> {
    /// Ok, Fail or Info.
    pub kind: Kind,
    /// What it did and saw, if it is known to have taken effect.
    pub txn: &'a [Op],
    /// Its commit timestamp or read timestamp.
    pub ts: Option<i64>,
}

/// The mind of one client.
pub trait Planner: Send {
    /// What to do next.
    fn next(&mut self, rng: &mut ChaCha8Rng) -> Plan;
    /// How it ended.
    fn ended(&mut self, _end: &Ended<'_>) {}
}

/// A workload: what its clients share.
pub trait Workload: Send + Sync {
    /// What its keys name.
    fn model(&self) -> Model;
    /// A client's planner; clients are numbered from 0.
    fn planner(&self, client: u64) -> Box<dyn Planner>;
    /// Reads of everything that the run may have written, for the end.
    fn last_reads(&self) -> Vec<Plan>;
    /// What it can say of a history beside what the judge says: what cannot have been.
    fn audit(&self, _events: &[Event]) -> Vec<check::Anomaly> {
        Vec::new()
    }
}

/// What all clients of all workloads share: unique values and the span of time that may be read.
pub struct Desk {
    values: AtomicI64,
    newest_ts: AtomicI64,
    first_ts: i64,
    began: Instant,
    /// Into how many ranges the tables are split.
    pub shards: i64,
}

impl Desk {
    /// `first_ts`: when the run began, by the cluster's time.
    pub fn new(first_ts: i64, shards: i64, began: Instant) -> Desk {
        Desk { values: AtomicI64::new(0), newest_ts: AtomicI64::new(first_ts), first_ts, began, shards }
    }

    /// A value that no other write has.
    pub fn value(&self) -> Value {
        self.values.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// A commit was acknowledged with this timestamp.
    pub fn acknowledged(&self, ts: i64) {
        self.newest_ts.fetch_max(ts, Ordering::SeqCst);
    }

    /// A past time: mostly an exact one since the run began, now and then a little ahead of what
    /// was acknowledged, or an age.
    pub fn past(&self, rng: &mut ChaCha8Rng) -> Mode {
        let newest = self.newest_ts.load(Ordering::SeqCst);
        let oldest = self.first_ts.max(newest - PAST_NS_MAX);
        let age_max = self.began.elapsed().saturating_sub(Duration::from_millis(500));
        let age_max = age_max.min(Duration::from_nanos(PAST_NS_MAX.unsigned_abs()));
        match rng.random_range(0..20) {
            0 => Mode::Past(At::Exact(newest + rng.random_range(0..20_000_000))),
            1..6 if !age_max.is_zero() => Mode::Past(At::Ago(age_max.mul_f64(rng.random_range(0.0..1.0)))),
            6..13 => {
                // Near the present: where a replica may not have everything yet.
                Mode::Past(At::Exact((newest - rng.random_range(0..50_000_000)).max(oldest)))
            }
            _ => Mode::Past(At::Exact(rng.random_range(oldest..=newest))),
        }
    }

    /// How to run a transaction that only reads: at the present without locks, with them, or at a
    /// past time.
    pub fn reading(&self, rng: &mut ChaCha8Rng) -> Mode {
        match rng.random_range(0..10) {
            0..4 => Mode::Strong,
            4..6 => Mode::ReadWrite,
            _ => self.past(rng),
        }
    }

    /// How to run one write: mostly in a block, sometimes without one.
    pub fn writing(&self, rng: &mut ChaCha8Rng) -> Mode {
        if rng.random_range(0..8) == 0 { Mode::Single } else { Mode::ReadWrite }
    }
}

/// A key by its number.
pub fn key(number: i64) -> Key {
    Key::Number(number)
}

/// A read of each key, in this order.
pub fn reads(keys: impl IntoIterator<Item = i64>) -> impl Iterator<Item = Op> {
    keys.into_iter().map(|k| Op::Read(key(k)))
}
