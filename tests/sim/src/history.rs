//! What clients saw, in true time, for the checker.

use paxos::NodeId;
use truetime::Timestamp;
use txn::{AbortReason, Mutation, ReadOp, Row, TxnId};

use crate::plan::Kind;

/// How an attempt at a read-write transaction ended, as far as its client knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// At this timestamp.
    Committed(Timestamp),
    /// Never; with the reason where the cluster gave one.
    Aborted(Option<AbortReason>),
    /// Not known yet.
    Open,
}

/// Rows that a client got, in answer to `ops`.
#[derive(Clone, Debug)]
pub struct Seen {
    /// What was asked.
    pub ops: Vec<ReadOp>,
    /// For each, what was found.
    pub rows: Vec<Vec<Row>>,
    /// When they arrived.
    pub at: i64,
}

/// One attempt at a read-write transaction. A retry is another one, with another name.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// The client.
    pub client: u64,
    /// Which workload.
    pub kind: Kind,
    /// Its name.
    pub txn: TxnId,
    /// When its client asked for it.
    pub invoked: i64,
    /// When its client knew the ending; that of the run if never.
    pub ended: i64,
    /// How it ended.
    pub ending: Ending,
    /// Its reads.
    pub reads: Vec<Seen>,
    /// What it wrote if it committed.
    pub writes: Vec<Mutation>,
}

/// One answered read without locks.
#[derive(Clone, Debug)]
pub struct SnapshotRead {
    /// The client.
    pub client: u64,
    /// Through which gateway.
    pub gateway: NodeId,
    /// When its client asked for it.
    pub invoked: i64,
    /// Whether it had to see everything acknowledged before.
    pub strong: bool,
    /// The timestamp asked for.
    pub asked: Option<Timestamp>,
    /// The timestamp read at.
    pub read_ts: Timestamp,
    /// What was found.
    pub seen: Seen,
}

/// Everything that clients did and saw.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// In the order of their endings.
    pub attempts: Vec<Attempt>,
    /// In the order of their answers.
    pub snapshots: Vec<SnapshotRead>,
}

impl History {
    /// How many attempts committed.
    pub fn commits(&self) -> u64 {
        self.attempts.iter().filter(|a| matches!(a.ending, Ending::Committed(_))).count() as u64
    }
}
