//! What nodes say to each other, and its bytes.

use bytes::Bytes;

use paxos::{Ballot, Configuration, GroupId, Slot};
use truetime::Timestamp;

use crate::api::{AbortReason, Reply, Request};
use crate::types::TxnId;

/// Between two groups that share a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TwoPhase {
    /// Participant to coordinator: prepared, and waiting for the decision. Sent again until one
    /// comes, so it is also the question "how did it end?".
    Prepared {
        /// Which.
        txn: TxnId,
        /// The participant.
        from: GroupId,
        /// Its prepare timestamp.
        prepare_ts: Timestamp,
    },
    /// Participant to coordinator: it cannot prepare and holds nothing.
    Refused {
        /// Which.
        txn: TxnId,
        /// The participant.
        from: GroupId,
        /// Why.
        reason: AbortReason,
    },
    /// Coordinator to participant.
    Decided {
        /// Which.
        txn: TxnId,
        /// The coordinator.
        from: GroupId,
        /// Committed then, or aborted.
        commit_ts: Option<Timestamp>,
    },
    /// Participant to coordinator: the commit decision is applied, and need not be told again.
    Acknowledged {
        /// Which.
        txn: TxnId,
        /// The participant.
        from: GroupId,
    },
}

/// A snapshot on its way to a replica that is too far behind, in chunks that are acknowledged one
/// by one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotMessage {
    /// One chunk.
    Chunk {
        /// Which transfer: its start in the sender's monotonic time.
        transfer: i64,
        /// From 0.
        number: u64,
        /// Key-value pairs of the state store.
        pairs: Vec<(Bytes, Bytes)>,
        /// Set on the last chunk: what the state is of.
        last: Option<SnapshotEnd>,
    },
    /// Got it: send the next.
    Ack {
        /// Which transfer.
        transfer: i64,
        /// Which chunk.
        number: u64,
    },
}

/// What a snapshot is of: the replica's metadata as the transfer began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotEnd {
    /// Applied up to here.
    pub applied: Slot,
    /// The last `Start` applied.
    pub epoch: Ballot,
    /// The configuration.
    pub config: Configuration,
    /// The group's metadata record, encoded.
    pub meta: Bytes,
    /// What the sender had applied when it read the last pair: until the receiver has applied as
    /// much, it may hold versions from beyond its own applied slot.
    pub read_upto: Slot,
}

/// Any message between two nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeMessage {
    /// Consensus.
    Paxos {
        /// In which group.
        group: GroupId,
        /// The message.
        message: paxos::Message,
    },
    /// A leader's promise to a follower: no slot above `slot` will hold a write at or below `ts`.
    SafeTime {
        /// In which group.
        group: GroupId,
        /// The leader's ballot.
        ballot: Ballot,
        /// The last slot proposed when the promise was made.
        slot: Slot,
        /// The timestamp.
        ts: Timestamp,
    },
    /// A follower has a reader waiting for safe time `ts`: promise it if possible.
    WantSafeTime {
        /// In which group.
        group: GroupId,
        /// The timestamp.
        ts: Timestamp,
    },
    /// A snapshot.
    Snapshot {
        /// Of which group.
        group: GroupId,
        /// The chunk or its acknowledgement.
        message: SnapshotMessage,
    },
    /// Two-phase commit; delivered to the group's leader.
    TwoPhase {
        /// To which group.
        group: GroupId,
        /// How often it may still be passed on to a better guess.
        hops: u8,
        /// The message.
        body: TwoPhase,
    },
    /// From a gateway to a group.
    Request(Request),
    /// From a group to a gateway.
    Reply {
        /// The request's number.
        id: u64,
        /// The answer.
        reply: Reply,
    },
}
