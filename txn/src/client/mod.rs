//! The gateway's side of transactions: it drives one transaction against the groups that hold its
//! keys.
//!
//! # Problem
//!
//! A session speaks SQL to one node, its gateway. The rows lie in many groups, each led by some
//! node, and both change: ranges split, leaders fail. Messages get lost, and a lost answer to a
//! commit must not become a second commit or a guess.
//!
//! # Parts
//!
//! ```text
//!     session                                    groups
//!        |        ClientInput                       ^
//!        v                         sends            |
//!   ReadWrite / SnapshotRead / GroupOp / StatusQuery ----> Request --> leader or replica
//!        |        ClientReady                       ^         |
//!        |                                          +-- Reply +
//!        +-- Gateway (shared): Router, names, settings
//! ```
//!
//! Each operation is a struct with `step(now, gateway, input) -> ClientReady`: it never waits, reads
//! no clock, and is run by the server's sessions and by the simulator alike. The caller delivers
//! every reply by its request number, says when a request could not be sent, and calls with `Tick`
//! at `wake_at_ns`. Replies to requests of the past are harmless.
//!
//! - [`ReadWrite`]: locking reads, buffered writes, commit by one group or by two-phase commit.
//! - [`SnapshotRead`]: lock-free reads of several groups at one timestamp.
//! - [`StatusQuery`]: how a transaction ended, after an ambiguous commit.
//! - [`GroupOp`]: any other request to one group.
//!
//! # Invariants
//!
//! - Locks count only under the leadership that granted them: it is sent along with every later
//!   request to the group, and two different ones in one transaction abort it (I11).
//! - Once `Commit` may have been executed, nobody but the coordinator's group says how it ended
//!   (I9, I10): its answer, the first answer to a repeated request, or its `Status`.
//! - All pages of a snapshot read are of one timestamp (I12).
//!
//! # Deviations from the paper
//!
//! The paper's client (4.2.1) picks the coordinator and sends each participant its writes, as
//! here; but it talks to the groups itself, while here a gateway node does it for the session and
//! so has an interval of its own for strong reads of several groups (4.2.2).

mod buffer;
mod call;
mod commit;
mod error;
mod gateway;
#[cfg(test)]
mod golden;
mod group_op;
mod readwrite;
mod router;
mod scan;
mod snapshot;
#[cfg(test)]
mod twins;

use paxos::{GroupId, NodeId};
use truetime::{Now, Timestamp};

use crate::api::{CommitTiming, ReadOp, ReadResult, Reply, Request, TxnStatus};
use crate::types::{LockMode, LockPolicy};

pub use buffer::{Mark, WriteBuffer};
pub use error::ClientError;
pub use gateway::{Gateway, GatewayOptions};
pub use group_op::{GroupOp, StatusQuery};
pub use readwrite::ReadWrite;
pub use router::Router;
pub use snapshot::SnapshotRead;

/// Everything that can wake an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientInput {
    /// Lock and read. Only of a [`ReadWrite`]; answered by `Rows` or `Failed`.
    Read {
        /// What.
        ops: Vec<ReadOp>,
        /// How to lock it.
        mode: LockMode,
        /// What to do about locks that cannot be had at once.
        policy: LockPolicy,
    },
    /// Commit. Only of a [`ReadWrite`]; answered by `Committed` or `Failed`.
    Commit {
        /// At or before this, or not at all: then it fails as `Aborted` because it was `TooLate`.
        deadline: Option<Timestamp>,
    },
    /// Nobody waits for the read in progress any more. Only of a [`ReadWrite`], which goes on without it:
    /// the read has no answer, and what it locks meanwhile stays locked, as after a lost answer.
    Cancel,
    /// Give up. Only of a [`ReadWrite`]; answered by `RolledBack`.
    Rollback,
    /// A reply came.
    Reply {
        /// To which request.
        request: u64,
        /// The answer.
        reply: Reply,
    },
    /// A request could not be sent, or its connection broke: it may or may not have arrived.
    SendFailed {
        /// Which request.
        request: u64,
    },
    /// Time has passed. Also begins the operations that need no other input.
    Tick,
}

/// What a step asks of its caller.
#[must_use]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientReady {
    /// To be sent, in order; the node may be the gateway's own.
    pub sends: Vec<(NodeId, Request)>,
    /// The operation asked for has ended, so.
    pub outcome: Option<Outcome>,
    /// When to call again with `Tick`, on the monotonic clock.
    pub wake_at_ns: Option<i64>,
}

impl ClientReady {
    /// The steps of all inputs in turn, up to the one that ends the operation; without any input, time has
    /// passed.
    pub fn gather(inputs: Vec<ClientInput>, mut step: impl FnMut(ClientInput) -> ClientReady) -> ClientReady {
        if inputs.is_empty() {
            return step(ClientInput::Tick);
        }
        let mut all = ClientReady::default();
        for input in inputs {
            let ready = step(input);
            all.sends.extend(ready.sends);
            all.wake_at_ns = ready.wake_at_ns;
            if ready.outcome.is_some() {
                all.outcome = ready.outcome;
                break;
            }
        }
        all
    }
}

/// How an operation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Rows, one result for each op.
    Rows {
        /// In the order of the ops. A row of the transaction's own buffered writes has the commit
        /// timestamp zero.
        results: Vec<ReadResult>,
        /// Snapshot reads: the timestamp read at.
        read_ts: Option<Timestamp>,
        /// Locking reads: all waits for locks, added up. Snapshot reads: the longest wait for safe time.
        wait_ns: i64,
    },
    /// Committed.
    Committed(CommitReport),
    /// Given up; its locks are being released.
    RolledBack,
    /// Of a [`StatusQuery`].
    Status(TxnStatus),
    /// Of a [`GroupOp`].
    Reply(Reply),
    /// Not done, or not known.
    Failed(ClientError),
}

/// What a commit did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommitReport {
    /// When it committed; `None` if it had touched nothing.
    pub commit_ts: Option<Timestamp>,
    /// The groups that took part, the coordinator first.
    pub participants: Vec<GroupId>,
    /// Whose record decided it; `None` if it had touched nothing.
    pub coordinator: Option<GroupId>,
    /// Where the time went at the coordinator; zero if the outcome was learned from its status.
    pub timing: CommitTiming,
    /// From the commit's start to its answer, as the gateway saw it.
    pub total_ns: i64,
    /// Lock wait and replication, in nanoseconds, of those participants that had answered by then.
    pub prepares: Vec<(GroupId, i64, i64)>,
}

/// Any of the operations, for a caller that runs them all alike.
pub trait Operation {
    /// Takes in one input.
    fn step(&mut self, now: Now, gw: &mut Gateway, input: ClientInput) -> ClientReady;
}

fn earliest(a: Option<i64>, b: Option<i64>) -> Option<i64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
