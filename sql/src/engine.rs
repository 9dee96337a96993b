//! What SQL needs from the database below: transactions, snapshots, and a few cluster-wide
//! operations. The server implements it over real groups; tests implement it over a map.
//!
//! Futures are `Send`, so that a session can run on any thread of the server.

use std::future::Future;

use crate::sequence::Sequences;
use truetime::{Interval, Sabotage, Timestamp};
use txn::client::{ClientError, CommitReport};
use txn::{CommitTiming, Key, LockMode, LockPolicy, Mutation, Priority, ReadOp, ReadResult, TxnId};

/// What a commit did, for `\last` and `EXPLAIN ANALYZE`.
#[derive(Clone, Debug, Default)]
pub struct CommitInfo {
    /// The transaction.
    pub txn: TxnId,
    /// When it committed; `None` if it had touched nothing.
    pub commit_ts: Option<Timestamp>,
    /// The groups that took part, the coordinator first.
    pub participants: Vec<u64>,
    /// Where the time went at the coordinator.
    pub timing: CommitTiming,
    /// What the gateway saw, from commit to answer.
    pub total_ns: i64,
}

impl CommitInfo {
    /// What the gateway's client says of the commit of a transaction.
    pub fn of(txn: TxnId, report: CommitReport) -> CommitInfo {
        CommitInfo {
            txn,
            commit_ts: report.commit_ts,
            participants: report.participants.iter().map(|group| group.0).collect(),
            timing: report.timing,
            total_ns: report.total_ns,
        }
    }
}

/// The timestamp at which a read-only transaction or statement reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadBound {
    /// Sees everything that committed before it began, in the data read: the timestamp may be below
    /// commits elsewhere, so nothing else may be read at it (see [`Engine::present`]).
    Strong,
    /// Exactly then. In the future, it waits.
    At(Timestamp),
    /// Exactly so long ago, in nanoseconds.
    Staleness(i64),
}

/// A read-write transaction.
pub trait Transaction: Send {
    /// Its name.
    fn id(&self) -> TxnId;
    /// Its age, which a retry passes to [`Engine::begin`].
    fn priority(&self) -> Priority;
    /// Locks and reads; sees its own buffered writes. One result for each op, complete up to the
    /// op's limit or up to about `txn::READ_BYTES_MAX` bytes, and then `resume` says what is left.
    fn read(
        &mut self,
        ops: Vec<ReadOp>,
        mode: LockMode,
    ) -> impl Future<Output = Result<Vec<ReadResult>, ClientError>> + Send {
        self.read_with(ops, mode, LockPolicy::Wait)
    }
    /// The same, for locks that may not be worth a wait. Any read's future may be dropped before it is
    /// ready: the transaction goes on as if the answer had been lost.
    fn read_with(
        &mut self,
        ops: Vec<ReadOp>,
        mode: LockMode,
        policy: LockPolicy,
    ) -> impl Future<Output = Result<Vec<ReadResult>, ClientError>> + Send;
    /// From now on, a read that waits for locks does so for this long at most, in nanoseconds; `None` for
    /// ever. Then it fails with [`ClientError::LockNotAvailable`], and the transaction goes on.
    fn set_lock_timeout(&mut self, ns: Option<i64>);
    /// Buffers writes.
    fn write(&mut self, mutations: Vec<Mutation>) -> Result<(), ClientError>;
    /// A mark of the buffer, for [`Transaction::undo_to`].
    fn mark(&self) -> usize;
    /// Forgets the writes buffered since the mark: a statement failed.
    fn undo_to(&mut self, mark: usize);
    /// Whether nothing has ended it: its locks are held, as far as is known, and it may read and commit. A
    /// statement's error leaves it so, unless the error was the end of it.
    fn can_go_on(&self) -> bool;
    /// Nanoseconds spent waiting for locks so far.
    fn lock_wait_ns(&self) -> i64;
    /// Commits, at or before the deadline if there is one: else it is `Aborted`, retryable. Whoever wrote or
    /// read by a catalog passes until when that catalog is known to hold.
    fn commit(self, deadline: Option<Timestamp>) -> impl Future<Output = Result<CommitInfo, ClientError>> + Send;
    /// Gives up; the locks go at once.
    fn rollback(self) -> impl Future<Output = ()> + Send;
}

/// A cluster-wide operation that is not a transaction. Its rows go straight to the client.
#[derive(Clone, Debug, PartialEq)]
pub enum AdminCommand {
    /// Nodes, their addresses, and whether each is reachable.
    ShowNodes,
    /// Groups: replicas, leader, lease, applied and safe time.
    ShowGroups,
    /// Ranges: start and end key (raw bytes, as BYTEA), group, leader.
    ShowRanges,
    /// Open transactions of all groups.
    ShowTransactions,
    /// Locks of all groups (spans as raw BYTEA keys).
    ShowLocks,
    /// Each node's interval, epsilon, source, trust and conflicts.
    ShowClock,
    /// Choose the clock source of one node, or of all if `None`.
    SetClock {
        /// The node.
        node: Option<u64>,
        /// As for `--clock`.
        spec: String,
    },
    /// Compare the checksums of all replicas.
    CheckReplicas,
    /// How a transaction ended; answered with one row: status, commit timestamp.
    TransactionStatus {
        /// The transaction.
        txn: TxnId,
        /// The coordinator's group; all groups are asked if it is not known.
        coordinator: Option<u64>,
    },
    /// Split the range that holds the key there, and give the new group a leader on another node.
    Split {
        /// The first key of the new range.
        at: Key,
    },
}

/// Rows of an [`AdminCommand`], as text columns with a name each.
#[derive(Clone, Debug, Default)]
pub struct AdminRows {
    /// Column names and types.
    pub columns: Vec<(String, crate::types::DataType)>,
    /// Rows.
    pub rows: Vec<Vec<crate::types::Datum>>,
}

/// Where random numbers come from: the server's generator, or the simulator's seed.
pub trait Random: Sync {
    /// The next 64 random bits.
    fn random_u64(&self) -> u64;

    /// Where numbers of sequences come from; nowhere, outside of a session's statements.
    fn sequences(&self) -> Option<&dyn Sequences> {
        None
    }
}

/// For expressions that were found to ask for none when they were bound.
pub(crate) struct NoRandom;

impl Random for NoRandom {
    fn random_u64(&self) -> u64 {
        panic!("an expression that must not be volatile asked for a random number")
    }
}

impl<E: Engine> Random for E {
    fn random_u64(&self) -> u64 {
        Engine::random_u64(self)
    }
}

/// The database below SQL, as one gateway sees it. Cheap to clone.
pub trait Engine: Clone + Send + Sync + 'static {
    /// Its read-write transactions.
    type Txn: Transaction;

    /// The gateway's clock.
    fn now(&self) -> Interval;

    /// A monotonic reading in nanoseconds with an arbitrary origin, for durations.
    fn mono_ns(&self) -> i64;

    /// Waits until `t` has surely passed: until `TT.after(t)`.
    fn sleep_until_after(&self, t: Timestamp) -> impl Future<Output = ()> + Send;

    /// Waits for so long, in nanoseconds.
    fn sleep(&self, ns: i64) -> impl Future<Output = ()> + Send;

    /// 64 random bits, for `random()` and `gen_random_uuid()`: hard to guess in a server, and of the seed in a
    /// simulation.
    fn random_u64(&self) -> u64;

    /// This gateway's node.
    fn node(&self) -> u64;

    /// What is broken on purpose: nothing, but in the simulator.
    fn sabotage(&self) -> Sabotage {
        Sabotage::default()
    }

    /// Begins a read-write transaction; a retry passes the priority of its first try.
    fn begin(&self, priority: Option<Priority>) -> Self::Txn;

    /// A timestamp above every commit answered so far, for reads of which the first does not touch all
    /// that the later ones will. `Unavailable` while the clock is not trusted.
    fn present(&self) -> Result<Timestamp, ClientError> {
        Ok(self.now().latest)
    }

    /// Reads without locks, all ops at one timestamp, and says which. `At` a timestamp beyond the
    /// safe time waits for it. Paging and limits as in [`Transaction::read`]; following pages are
    /// read `At` the timestamp returned.
    fn snapshot(
        &self,
        bound: ReadBound,
        ops: Vec<ReadOp>,
    ) -> impl Future<Output = Result<(Timestamp, Vec<ReadResult>), ClientError>> + Send;

    /// Does a cluster-wide operation.
    fn admin(&self, command: AdminCommand) -> impl Future<Output = Result<AdminRows, ClientError>> + Send;
}
