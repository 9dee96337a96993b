//! What a gateway and a group say to each other.
//!
//! Locking reads, prepares and commits go to the group's leader; snapshot reads to any replica.
//! Every request is answered exactly once, or never (a lost message, a crash): a gateway has its
//! own deadline.

use std::fmt;

use paxos::{Ballot, GroupId, NodeId};
use truetime::Timestamp;

use crate::types::{Key, LockMode, LockPolicy, Mutation, Priority, RangeDescriptor, Row, Span, TxnId};

/// One read of a request: the rows of a span, in key order or in reverse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadOp {
    /// Which keys. Must lie within the group's range.
    pub span: Span,
    /// Largest key first.
    pub reverse: bool,
    /// At most so many rows; 0 for no limit.
    pub limit: u64,
}

/// The rows of one [`ReadOp`]. A reply holds at most `READ_BYTES_MAX` bytes of rows: `resume` says
/// what part of the span is still to be read (and, in a locking read, is not locked yet).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadResult {
    /// In the order asked.
    pub rows: Vec<Row>,
    /// What was not read because the reply was full.
    pub resume: Option<Span>,
}

/// Bytes of rows in one reply, about.
pub const READ_BYTES_MAX: usize = 1 << 20;

/// A request to one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Chosen by the gateway; comes back with the reply.
    pub id: u64,
    /// Which group.
    pub group: GroupId,
    /// What.
    pub body: RequestBody,
}

/// What is asked of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestBody {
    /// Lock and read (a read-write transaction). Answered by `Rows`.
    Read {
        /// Who.
        txn: TxnId,
        /// Its age.
        priority: Priority,
        /// The leadership under which this transaction locked here before, if it did: if that is
        /// gone, so are its locks, and the answer is `Aborted` (I11).
        leadership: Option<Ballot>,
        /// What.
        ops: Vec<ReadOp>,
        /// How to lock it.
        mode: LockMode,
        /// What to do if that cannot be had at once.
        policy: LockPolicy,
    },
    /// Read without locks, at a timestamp. Answered by `Rows` (with `read_ts`).
    Snapshot {
        /// When: `None` is a strong read of this group alone, at a time of the leader's choice
        /// (paper, 4.2.4); only the leader answers it.
        at: Option<Timestamp>,
        /// What.
        ops: Vec<ReadOp>,
    },
    /// Commit here, as the only participant or as the coordinator of others. Answered by
    /// `Committed` or an error. A repeated request gets the first answer (I10).
    Commit {
        /// Who.
        txn: TxnId,
        /// Its age.
        priority: Priority,
        /// As in `Read`.
        leadership: Option<Ballot>,
        /// Writes of keys of this group; may be empty.
        writes: Vec<Mutation>,
        /// The other participants: each has been or is being sent `Prepare`.
        participants: Vec<GroupId>,
        /// What the transaction rests on (a schema) is known to hold up to here only: its commit
        /// timestamp must not be later, else it is aborted with `TooLate`.
        deadline: Option<Timestamp>,
    },
    /// Prepare as a participant, then tell the coordinator. Answered by `Prepared`, which the
    /// gateway needs only for its timing, or by an error.
    Prepare {
        /// Who.
        txn: TxnId,
        /// Its age.
        priority: Priority,
        /// As in `Read`.
        leadership: Option<Ballot>,
        /// Writes of keys of this group; may be empty (read-only participant).
        writes: Vec<Mutation>,
        /// The coordinator.
        coordinator: GroupId,
    },
    /// Forget the transaction, if it is not prepared. Answered by `Done`.
    Abort {
        /// Who.
        txn: TxnId,
    },
    /// The session is alive: keep its locks. Answered by `Done`, or `Aborted` if they are gone.
    KeepAlive {
        /// Who.
        txn: TxnId,
        /// As in `Read`.
        leadership: Ballot,
    },
    /// How did it end? Asked of the coordinator's (or only) group. Answered by `Status`. A
    /// transaction that is not decided yet is decided by this: it is aborted for ever, unless its
    /// commit is already being replicated, and then the answer waits for it.
    Status {
        /// Who.
        txn: TxnId,
    },
    /// Split the group's range at a key, which becomes the first key of a new group. Answered by
    /// `Done`.
    Split {
        /// The first key of the new group.
        at: Key,
        /// The new group's number, never used before.
        new_group: GroupId,
        /// Who should lead it.
        leader: NodeId,
    },
    /// Hand leadership over. Answered by `Done` when it has begun.
    HandOver {
        /// To whom; any if none.
        to: Option<NodeId>,
    },
    /// Describe the group's transactions and locks. Answered by `Inspection`.
    Inspect,
    /// Hash the replica's logical state (I6). Answered by `Checksum`. Any replica.
    Checksum,
}

/// A reply of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Of `Read` and `Snapshot`.
    Rows {
        /// One for each op.
        results: Vec<ReadResult>,
        /// Locking reads: the leadership that holds the locks.
        leadership: Option<Ballot>,
        /// Snapshot reads: the timestamp read at.
        read_ts: Option<Timestamp>,
        /// How long the request waited for locks, or for safe time.
        wait_ns: i64,
    },
    /// The transaction has committed, and its timestamp has surely passed.
    Committed {
        /// When.
        commit_ts: Timestamp,
        /// Where the time went.
        timing: CommitTiming,
    },
    /// The participant has prepared.
    Prepared {
        /// The prepare timestamp.
        prepare_ts: Timestamp,
        /// How long it waited for locks.
        lock_wait_ns: i64,
        /// How long replication took.
        replicate_ns: i64,
    },
    /// How a transaction ended.
    Status(TxnStatus),
    /// Done.
    Done,
    /// Of `Inspect`.
    Inspection(Inspection),
    /// Of `Checksum`.
    Checksum {
        /// The applied slot hashed.
        applied: u64,
        /// The hash of the logical state.
        hash: u64,
    },
    /// Not done.
    Error(GroupError),
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TxnStatus {
    /// At this timestamp.
    Committed(Timestamp),
    /// It has not and never will.
    Aborted,
    /// Older than outcomes are kept: it can no longer commit, but it may have.
    Unknown,
}

/// Where a commit's time went, at its coordinator, in nanoseconds. The phases do not overlap and
/// add up to `total_ns`, but for what is not accounted for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CommitTiming {
    /// From the arrival of the request until the write locks were held.
    pub lock_wait_ns: i64,
    /// Until every participant had prepared.
    pub prepare_ns: i64,
    /// Until the record was chosen.
    pub replicate_ns: i64,
    /// From then until the timestamp had surely passed: what of the commit wait replication did
    /// not hide.
    pub commit_wait_ns: i64,
    /// Applying it and releasing the locks.
    pub apply_ns: i64,
    /// From arrival to answer.
    pub total_ns: i64,
}

/// Why a group refused, by what the gateway should do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupError {
    /// Ask another node; nothing was done.
    NotLeader(Option<NodeId>),
    /// The keys are not (all) in this group: learn these ranges and ask again; nothing was done.
    WrongRange(Vec<RangeDescriptor>),
    /// No such group on this node; nothing was done.
    NoGroup,
    /// Too much at once, or the clock is not trusted, or the lease ran out: try again a little
    /// later. A read has done nothing; a commit may be under way, or even done, and only a later
    /// answer or its status tells.
    Unavailable(String),
    /// The transaction is aborted and will never commit. Retry it from its start.
    Aborted(AbortReason),
    /// The read timestamp is below what is kept.
    TooOld {
        /// The earliest timestamp still readable.
        earliest: Timestamp,
    },
    /// A malformed request: fail the statement.
    Invalid(String),
    /// A lock of a read could not be had in the time that its policy allows. The read has locked nothing, and
    /// the transaction may go on.
    LockNotAvailable,
}

/// Why a transaction was aborted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AbortReason {
    /// An older transaction needed its locks.
    Wounded,
    /// The leader that held its locks is gone, or it was silent for too long.
    LocksLost,
    /// A participant could not prepare.
    Participant,
    /// Its gateway, or someone who asked for its status, gave it up.
    GivenUp,
    /// The range was split under it.
    Split,
    /// No timestamp at or below its deadline was left.
    TooLate,
}

impl fmt::Display for AbortReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AbortReason::Wounded => "an older transaction needed its locks",
            AbortReason::LocksLost => "its locks were lost",
            AbortReason::Participant => "a participant could not prepare",
            AbortReason::GivenUp => "it was given up",
            AbortReason::Split => "its range was split",
            AbortReason::TooLate => "no timestamp at or before its deadline was left",
        })
    }
}

/// A group's transactions and locks, for `SHOW TRANSACTIONS` and `SHOW LOCKS`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inspection {
    /// Open, waiting, prepared and committing transactions.
    pub txns: Vec<TxnRow>,
    /// Locks held and waited for.
    pub locks: Vec<LockRow>,
}

/// One transaction of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxnRow {
    /// Who.
    pub txn: TxnId,
    /// Its age.
    pub priority: Priority,
    /// `open`, `waiting`, `prepared`, `committing`.
    pub state: String,
    /// Its prepare timestamp, if prepared.
    pub prepare_ts: Option<Timestamp>,
    /// How long ago it was last heard of.
    pub idle_ns: i64,
}

/// One lock of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockRow {
    /// Whose.
    pub txn: TxnId,
    /// On what.
    pub span: Span,
    /// How.
    pub mode: LockMode,
    /// Held, or waited for.
    pub held: bool,
}
