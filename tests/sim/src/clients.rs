//! Clients: each is connected to one gateway, carries out one plan at a time, and writes down what
//! it saw. When its gateway is gone, or silent for too long, it connects to another; whether a
//! commit it had asked for has happened, it then asks by the transaction's name.
//!
//! Now and then it walks away from a transaction without a word; or it asks for the status of one whose
//! ending it was told, which must be that one (I10).

use paxos::NodeId;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use truetime::Timestamp;
use txn::{AbortReason, LockMode, Mutation, Priority, ReadOp, Row, TxnId, TxnStatus};

use crate::counters::Counters;
use crate::excuses::Lies;
use crate::history::{Attempt, Ending, History, Seen, SnapshotRead};
use crate::plan::{self, Kind, Plan, Pool, ReadWritePlan, When};
use crate::rng::chance;
use crate::sql::host::{SqlAnswer, SqlCall};
use crate::sql::programs::Book;
use crate::trace::ms_of;

/// Whoever sits at a connection to a gateway.
pub trait Actor {
    /// The gateway that it is connected to.
    fn gateway(&self) -> NodeId;
    /// Whether it has left.
    fn has_left(&self) -> bool;
    /// In a few words, for a report of what does not end.
    fn describe(&self) -> String;
    /// Its pause is over.
    fn wake(&mut self, now: i64, shared: &mut Shared) -> Act;
    /// Its gateway answered, or is given up.
    fn answer(&mut self, now: i64, answer: Answer, shared: &mut Shared) -> Act;
}

/// What a client asks of its gateway.
#[derive(Clone, Debug)]
pub enum Call {
    /// Begin a read-write transaction; with the age of the one it retries.
    Begin(Option<Priority>),
    /// Lock and read.
    Read(Vec<ReadOp>, LockMode),
    /// Write this and commit.
    /// Perhaps with a deadline, so many nanoseconds ahead.
    Commit(Vec<Mutation>, Option<i64>),
    /// Give up the transaction.
    Rollback,
    /// Read without locks, at this replica first; at any if none.
    Snapshot(Vec<ReadOp>, When, Option<NodeId>),
    /// How did this transaction end?
    Status(TxnId),
    /// A text for the SQL session.
    Sql(SqlCall),
    /// How did the last SQL call end that was not answered? Of this transaction, if its name is known.
    SqlStatus(Option<TxnId>),
}

/// What a gateway answers.
#[derive(Clone, Debug)]
pub enum Answer {
    /// The transaction's name and age.
    Begun(TxnId, Priority),
    /// What the locking read found.
    Rows(Vec<Vec<Row>>),
    /// What the read without locks found, and when it happened.
    SnapshotRows {
        /// The timestamp asked for, if one was.
        asked: Option<Timestamp>,
        /// The timestamp read at.
        read_ts: Timestamp,
        /// For each read, what was found.
        rows: Vec<Vec<Row>>,
    },
    /// Committed, then.
    Committed(Timestamp),
    /// Rolled back as asked.
    RolledBack,
    /// Aborted for ever.
    Aborted(Option<AbortReason>),
    /// It may have committed.
    InDoubt,
    /// How it ended.
    Status(TxnStatus),
    /// Nothing came of it, and nothing was done.
    Failed(String),
    /// That timestamp is no longer readable; none if a strong read took too long.
    TooOld(Option<Timestamp>),
    /// The call itself is said to be wrong, which it never is.
    Wrong(String),
    /// What the SQL session returned.
    Sql(Box<SqlAnswer>),
    /// The connection broke, or the client gave up waiting.
    Broken,
}

impl Answer {
    /// In a few words.
    pub fn describe(&self) -> String {
        match self {
            Answer::Rows(rows) => format!("rows {:?}", rows.iter().map(Vec::len).collect::<Vec<_>>()),
            Answer::SnapshotRows { read_ts, rows, .. } => {
                format!("rows {:?} at {}", rows.iter().map(Vec::len).collect::<Vec<_>>(), ms_of(*read_ts))
            }
            Answer::Committed(ts) => format!("committed at {}", ms_of(*ts)),
            Answer::Begun(txn, priority) => format!("begun {txn}, as old as {}", ms_of(priority.start)),
            Answer::Failed(why) => format!("failed: {why}"),
            Answer::Sql(answer) => answer.describe(),
            other => format!("{other:?}"),
        }
    }
}

/// What a client does next.
#[derive(Clone, Debug)]
pub enum Act {
    /// Wake it after so long.
    Wait(i64),
    /// Call its gateway.
    Call(Call),
    /// Its connection to this gateway ends; wake it after so long.
    HangUp(NodeId, i64),
    /// It has nothing to do, ever again.
    Leave,
}

/// What clients share.
#[derive(Debug)]
pub struct Shared {
    /// What they saw.
    pub history: History,
    /// The same of those that talk SQL, and what they draw from.
    pub sql: Book,
    /// What they draw from.
    pub pool: Pool,
    /// Rare states.
    pub counters: Counters,
    /// Clocks that were beyond their bounds.
    pub lies: Lies,
    /// What they do, and how often.
    pub mix: Vec<(Kind, u32)>,
    /// The longest pause between two calls.
    pub think_max_ns: i64,
    /// The furthest deadline of a commit; 0: none has one.
    pub deadline_max_ns: i64,
    /// The nodes.
    pub nodes: Vec<NodeId>,
    /// Plans that may still be begun.
    pub plans_left: u64,
    /// Begin nothing new.
    pub closing: bool,
    /// What must not happen, did.
    pub failure: Option<String>,
}

#[derive(Clone, Debug)]
enum State {
    Idle,
    Beginning,
    Reading(usize),
    Committing,
    RollingBack,
    /// Before the next try of the same plan.
    Retrying,
    Snapshot,
    /// Before another question about the ending.
    Doubting,
    Asking,
    /// Asking for what it knows.
    Verifying(TxnId, Ending),
    Left,
}

/// One client.
#[derive(Debug)]
pub struct Client {
    /// Its number.
    pub id: u64,
    /// Its gateway.
    pub gateway: NodeId,
    /// Plans to carry out before any drawn ones.
    pub agenda: Vec<Plan>,
    /// Draws plans once the agenda is done.
    draws: bool,
    rng: ChaCha8Rng,
    /// Draws what only some clients do, and seldom.
    whims: ChaCha8Rng,
    state: State,
    plan: Option<Plan>,
    /// The last transaction whose ending it knows.
    ended: Option<(TxnId, Ending)>,
    tries: u32,
    priority: Option<Priority>,
    attempt: Option<Attempt>,
    invoked: i64,
}

/// After so many tries a client drops its plan; it must know the ending of each try all the same.
const TRIES_MAX: u32 = 40;

impl Client {
    /// A client that draws plans, after those of its agenda.
    pub fn new(id: u64, gateway: NodeId, agenda: Vec<Plan>, draws: bool, rng: ChaCha8Rng, whims: ChaCha8Rng) -> Client {
        Client {
            id,
            gateway,
            agenda,
            draws,
            rng,
            whims,
            state: State::Idle,
            plan: None,
            ended: None,
            tries: 0,
            priority: None,
            attempt: None,
            invoked: 0,
        }
    }

    fn think(&mut self, shared: &Shared) -> Act {
        Act::Wait(match self.rng.random_range(0..3) {
            0 => 0,
            1 => self.rng.random_range(0..=shared.think_max_ns / 10),
            _ => self.rng.random_range(0..=shared.think_max_ns),
        })
    }

    fn next_plan(&mut self, now: i64, shared: &mut Shared) -> Act {
        self.tries = 0;
        self.priority = None;
        self.plan = if !self.agenda.is_empty() {
            Some(self.agenda.remove(0))
        } else if self.draws && !shared.closing && shared.plans_left > 0 {
            shared.plans_left -= 1;
            if chance(&mut self.rng, 50_000) {
                self.reconnect(shared);
            }
            let total: u32 = shared.mix.iter().map(|(_, weight)| weight).sum();
            let mut at = self.rng.random_range(0..total);
            let drawn = shared.mix.iter().find(|(_, weight)| {
                let here = at < *weight;
                at = at.saturating_sub(*weight);
                here
            });
            let kind = drawn.map_or(Kind::Append, |(kind, _)| *kind);
            Some(shared.pool.draw(kind, &mut self.rng))
        } else {
            None
        };
        if self.plan.is_none() {
            self.state = State::Left;
            return Act::Leave;
        }
        self.start(now, shared)
    }

    /// Begins a try of the plan.
    fn start(&mut self, now: i64, shared: &mut Shared) -> Act {
        self.tries += 1;
        self.invoked = now;
        match self.plan.clone() {
            Some(Plan::ReadWrite(_)) => {
                self.state = State::Beginning;
                // A retry keeps its age, so that it wins in the end; now and then it forgets.
                if chance(&mut self.rng, 50_000) {
                    self.priority = None;
                }
                Act::Call(Call::Begin(self.priority))
            }
            Some(Plan::Snapshot { ops, when, gateway }) => {
                if let Some(gateway) = gateway {
                    self.gateway = gateway;
                }
                self.state = State::Snapshot;
                Act::Call(Call::Snapshot(ops, when, gateway))
            }
            None => self.drop_plan(shared),
        }
    }

    fn read_write(&self) -> &ReadWritePlan {
        match &self.plan {
            Some(Plan::ReadWrite(plan)) => plan,
            other => unreachable!("a transaction without a plan: {other:?}"),
        }
    }

    fn attempt(&mut self) -> &mut Attempt {
        self.attempt.as_mut().expect("a transaction that has begun is written down")
    }

    fn step(&mut self, step: usize, shared: &mut Shared) -> Act {
        let plan = self.read_write().clone();
        if let Some((ops, mode)) = plan.steps.get(step) {
            self.state = State::Reading(step);
            return Act::Call(Call::Read(ops.clone(), *mode));
        }
        let reads: Vec<Vec<Row>> = self.attempt().reads.iter().flat_map(|seen| seen.rows.clone()).collect();
        match plan.writes(&reads, &mut shared.pool) {
            Some(writes) if plan.is_setup() || !chance(&mut self.rng, 20_000) => {
                self.attempt().writes = writes.clone();
                self.state = State::Committing;
                let ahead = |max_ns| self.whims.random_range(0..=max_ns);
                let deadline = Some(shared.deadline_max_ns).filter(|ns| *ns > 0 && !plan.is_setup()).map(ahead);
                Act::Call(Call::Commit(writes, deadline))
            }
            _ => {
                self.state = State::RollingBack;
                Act::Call(Call::Rollback)
            }
        }
    }

    fn ask(&mut self, shared: &mut Shared) -> Act {
        let txn = self.attempt().txn;
        self.state = State::Asking;
        shared.counters.hit("status asked");
        Act::Call(Call::Status(txn))
    }

    fn end(&mut self, now: i64, ending: Ending, shared: &mut Shared) {
        let mut attempt = self.attempt.take().expect("a transaction that has begun is written down");
        attempt.ended = now;
        attempt.ending = ending;
        self.ended = Some((attempt.txn, ending));
        shared.history.attempts.push(attempt);
    }

    /// Asks for an ending that it knows.
    fn verify(&mut self, shared: &mut Shared) -> Option<Act> {
        let (txn, ending) = self.ended.take()?;
        if !self.draws || shared.closing || !chance(&mut self.whims, 30_000) {
            return None;
        }
        shared.counters.hit("status of a known ending asked");
        self.state = State::Verifying(txn, ending);
        Some(Act::Call(Call::Status(txn)))
    }

    /// Leaves its transaction behind, with its locks: all that its gateway sees is that the connection ends.
    fn walk_away(&mut self, now: i64, shared: &mut Shared) -> Act {
        shared.counters.hit("client walked away");
        self.end(now, Ending::Aborted(None), shared);
        let gateway = self.gateway;
        self.reconnect(shared);
        self.plan = None;
        self.state = State::Idle;
        Act::HangUp(gateway, self.whims.random_range(0..=shared.think_max_ns))
    }

    fn done(&mut self, shared: &Shared) -> Act {
        self.plan = None;
        self.state = State::Idle;
        self.think(shared)
    }

    fn retry(&mut self, shared: &Shared) -> Act {
        // What was set before the client is never given up: the run's own limit ends it.
        let setup = matches!(&self.plan, Some(Plan::ReadWrite(plan)) if plan.is_setup());
        if self.draws && !setup && (self.tries >= TRIES_MAX || shared.closing) {
            return self.drop_plan(shared);
        }
        self.state = State::Retrying;
        let most = shared.think_max_ns.max(1_000_000) << self.tries.min(5);
        Act::Wait(self.rng.random_range(0..=most.min(300_000_000)))
    }

    fn drop_plan(&mut self, shared: &Shared) -> Act {
        self.done(shared)
    }

    fn reconnect(&mut self, shared: &Shared) {
        // Only the agenda of the auditor is bound to its gateways.
        if self.draws {
            self.gateway = shared.nodes[self.rng.random_range(0..shared.nodes.len())];
        }
    }
}

impl Actor for Client {
    fn gateway(&self) -> NodeId {
        self.gateway
    }

    fn has_left(&self) -> bool {
        matches!(self.state, State::Left)
    }

    fn describe(&self) -> String {
        let txn = self.attempt.as_ref().map_or(String::new(), |a| format!(", transaction {}", a.txn));
        format!("client {} at {}: {:?}, try {}{txn}", self.id, self.gateway, self.state, self.tries)
    }

    fn wake(&mut self, now: i64, shared: &mut Shared) -> Act {
        match &self.state {
            State::Idle => match self.verify(shared) {
                Some(act) => act,
                None => self.next_plan(now, shared),
            },
            State::Retrying => self.start(now, shared),
            State::Doubting => self.ask(shared),
            State::Reading(step) => {
                let step = *step;
                // Without its first plan there would be nothing to read.
                if self.draws && step > 0 && !self.read_write().is_setup() && chance(&mut self.whims, 2_000) {
                    return self.walk_away(now, shared);
                }
                self.step(step, shared)
            }
            other => unreachable!("a client waits in no such state: {other:?}"),
        }
    }

    fn answer(&mut self, now: i64, answer: Answer, shared: &mut Shared) -> Act {
        if matches!(answer, Answer::Broken) {
            shared.counters.hit("connection lost");
            self.reconnect(shared);
        }
        if let Answer::Wrong(why) = &answer {
            shared.failure.get_or_insert(format!("answer: client {} is told that its call is wrong: {why}", self.id));
        }
        match (self.state.clone(), answer) {
            (State::Beginning, Answer::Begun(txn, priority)) => {
                self.priority = Some(priority);
                self.attempt = Some(Attempt {
                    client: self.id,
                    kind: self.read_write().kind,
                    txn,
                    invoked: self.invoked,
                    ended: i64::MAX,
                    ending: Ending::Open,
                    reads: Vec::new(),
                    writes: Vec::new(),
                });
                self.state = State::Reading(0);
                self.think(shared)
            }
            (State::Reading(step), Answer::Rows(rows)) => {
                let (ops, _) = self.read_write().steps[step].clone();
                self.attempt().reads.push(Seen { ops, rows, at: now });
                self.state = State::Reading(step + 1);
                self.think(shared)
            }
            (State::Committing, Answer::Committed(ts)) => {
                if self.tries > 1 {
                    shared.counters.hit("committed after a retry");
                }
                self.end(now, Ending::Committed(ts), shared);
                self.done(shared)
            }
            (State::Committing, Answer::InDoubt | Answer::Broken) => {
                shared.counters.hit("commit in doubt");
                self.state = State::Doubting;
                self.think(shared)
            }
            (State::RollingBack, Answer::RolledBack) => {
                self.end(now, Ending::Aborted(None), shared);
                self.done(shared)
            }
            (State::Asking, Answer::Status(status)) => match status {
                TxnStatus::Committed(ts) => {
                    shared.counters.hit("in doubt, had committed");
                    self.end(now, Ending::Committed(ts), shared);
                    self.done(shared)
                }
                TxnStatus::Aborted => {
                    shared.counters.hit("in doubt, had aborted");
                    self.end(now, Ending::Aborted(None), shared);
                    self.retry(shared)
                }
                TxnStatus::Unknown => {
                    let text = format!("I10: the status of {} is unknown within its retention", self.attempt().txn);
                    shared.failure.get_or_insert(text);
                    self.state = State::Left;
                    Act::Leave
                }
            },
            (State::Verifying(txn, ending), Answer::Status(status)) => {
                let same = match (ending, status) {
                    (Ending::Committed(at), TxnStatus::Committed(ts)) => at == ts,
                    (Ending::Aborted(_), TxnStatus::Aborted) => true,
                    _ => false,
                };
                if !same {
                    let text = format!("I10: {txn} ended as {ending:?}, and its status is {status:?}");
                    shared.failure.get_or_insert(text);
                }
                shared.counters.hit("status of a known ending confirmed");
                self.done(shared)
            }
            (State::Verifying(..), _) => self.done(shared),
            (State::Asking, _) => {
                self.state = State::Doubting;
                Act::Wait(self.rng.random_range(1_000_000..100_000_000))
            }
            (State::Snapshot, Answer::SnapshotRows { asked, read_ts, rows }) => {
                let Some(Plan::Snapshot { ops, when, .. }) = self.plan.clone() else {
                    unreachable!("a snapshot without its plan");
                };
                match when {
                    When::Exactly(_) => shared.counters.hit("snapshot read again"),
                    When::Strong => shared.counters.hit("strong read"),
                    When::Offset(ns) if ns > 0 => shared.counters.hit("read of a moment to come"),
                    When::Offset(_) => shared.counters.hit("read of the past"),
                }
                shared.pool.answered.push((ops.clone(), read_ts));
                shared.history.snapshots.push(SnapshotRead {
                    client: self.id,
                    gateway: self.gateway,
                    invoked: self.invoked,
                    strong: when == When::Strong,
                    asked,
                    read_ts,
                    seen: Seen { ops, rows, at: now },
                });
                self.done(shared)
            }
            (State::Snapshot, Answer::TooOld(_)) => {
                shared.counters.hit("read too old");
                self.done(shared)
            }
            (State::Snapshot | State::Beginning, answer) => {
                if let Answer::Failed(_) = answer {
                    shared.counters.hit("read failed");
                }
                self.retry(shared)
            }
            (State::Reading(_) | State::Committing | State::RollingBack, answer) => {
                let reason = match answer {
                    Answer::Aborted(reason) => reason,
                    _ => None,
                };
                if let Some(reason) = reason {
                    shared.counters.hit(match reason {
                        AbortReason::Wounded => "aborted: wounded",
                        AbortReason::LocksLost => "aborted: locks lost",
                        AbortReason::Participant => "aborted: a participant refused",
                        AbortReason::GivenUp => "aborted: given up",
                        AbortReason::Split => "aborted: split",
                        AbortReason::TooLate => "aborted: too late",
                    });
                }
                self.end(now, Ending::Aborted(reason), shared);
                self.retry(shared)
            }
            (state, answer) => unreachable!("client {} in {state:?} got {answer:?}", self.id),
        }
    }
}

/// The agenda of the client that reads everything once the cluster is at rest: through every
/// node, at one timestamp each, and at those timestamps again through every other.
pub fn final_reads(nodes: &[NodeId]) -> Vec<Plan> {
    let everything = || vec![plan::read(plan::everything())];
    let through = |node: &NodeId, ops, when| Plan::Snapshot { ops, when, gateway: Some(*node) };
    let strong = nodes.iter().map(|node| through(node, everything(), When::Strong));
    let banks = nodes.iter().map(|node| through(node, plan::all_of('b'), When::Strong));
    strong.chain(banks).collect()
}
