//! The inputs and outputs of [`crate::Replica::step`].

use bytes::Bytes;
use truetime::Timestamp;

use crate::{Ballot, Message, NodeId, Payload, Slot, Write};

/// Settings of one group, the same on all its replicas but for tests of unlike settings.
#[derive(Clone, Debug)]
pub struct Options {
    /// Length of a leader lease.
    pub lease_ns: i64,
    /// How often an idle leader sends a heartbeat, which also extends its lease.
    pub heartbeat_ns: i64,
    /// A replica that heard of no leader for a random time in this range stands for election.
    pub election_ns: std::ops::Range<i64>,
    /// Unacknowledged messages are sent again after this long.
    pub resend_ns: i64,
    /// Slots proposed but not yet chosen; more are refused with `Busy`.
    pub inflight_slots_max: usize,
    /// Bytes of entries in one message.
    pub message_bytes_max: usize,
    /// Entries kept below the durable applied index, for peers that are briefly away.
    pub keep_slots: u64,
    /// What is broken on purpose; nothing, but in a simulator that looks for it.
    pub sabotage: truetime::Sabotage,
}

impl Default for Options {
    fn default() -> Options {
        Options::with_lease(3_000_000_000)
    }
}

impl Options {
    /// The defaults that go with a lease of this length.
    pub fn with_lease(lease_ns: i64) -> Options {
        Options {
            lease_ns,
            heartbeat_ns: lease_ns / 10,
            election_ns: lease_ns / 3..lease_ns * 2 / 3,
            resend_ns: lease_ns / 10,
            inflight_slots_max: 4096,
            message_bytes_max: 1 << 20,
            keep_slots: crate::learner::KEEP_SLOTS,
            sabotage: truetime::Sabotage::default(),
        }
    }
}

/// Everything that can wake a replica.
#[derive(Clone, Debug)]
pub enum Input {
    /// Time has passed, or queued proposals are to be sent.
    Tick,
    /// A message of a peer, already decoded.
    Message {
        /// Who sent it.
        from: NodeId,
        /// What it says.
        message: Message,
    },
    /// The writes of the `Ready` with this `persist` number, and of all before it, are durable.
    Persisted(u64),
    /// The applied state is durable up to here: the log may be truncated below.
    AppliedDurable(Slot),
    /// A snapshot has been installed and is durable: the state is that of `applied`. What was handed
    /// out above that is handed out again; nothing at or below the truncated slot may be lacking.
    SnapshotInstalled {
        /// The slot up to which it is applied.
        applied: Slot,
        /// The last `Start` ballot at or below it.
        epoch: Ballot,
        /// The configuration there.
        config: crate::Configuration,
    },
    /// Give up leadership gracefully, to `to` if given. `used` is the largest timestamp used under
    /// the lease: the replica waits until it has surely passed before it releases the lease.
    HandOver {
        /// The heir; any up-to-date voter if none.
        to: Option<NodeId>,
        /// The largest timestamp used.
        used: Timestamp,
    },
    /// Stand for election as soon as the lease votes allow it (a new group's preferred leader).
    Campaign,
}

/// The leadership that a replica holds, valid only while its lease lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leadership {
    /// Its ballot.
    pub ballot: Ballot,
    /// Every timestamp that this leader assigns or serves must be above this.
    pub floor: Timestamp,
    /// Every timestamp it assigns or serves must be below this; it grows as leases are extended.
    pub lease_end: Timestamp,
    /// The `Start` entry is chosen and everything before it was handed out as chosen: the leader
    /// may serve (its caller must have applied it all).
    pub established: bool,
}

/// A chosen slot, handed out once, in order, without gaps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// Where.
    pub slot: Slot,
    /// Under which ballot it was first proposed.
    pub origin: Ballot,
    /// The value, after the epoch rule: a stale command arrives here as `Noop`.
    pub payload: Payload,
}

/// What the caller may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// This replica leads, with its `Start` chosen and handed out.
    Leading(Leadership),
    /// This replica led (or was about to) and no longer does.
    Deposed(Ballot),
    /// The node believed to lead, for routing hints.
    LeaderHint(Option<NodeId>),
    /// This peer is behind the log's start: send it a snapshot of the applied state.
    NeedsSnapshot(NodeId),
}

/// What a step asks of its caller, in this order: hand `chosen` to the state machine, send
/// `messages` at any time, write `writes` (with an fsync if `sync`), and only when that is durable
/// send `after_sync` and answer with `Input::Persisted(persist)`.
#[must_use]
#[derive(Debug, Default)]
pub struct Ready {
    /// The number of this batch of writes; 0 if there is none.
    pub persist: u64,
    /// To be made durable, in order and atomically.
    pub writes: Vec<Write>,
    /// Whether something waits for it: without, the write may ride on a later fsync.
    pub sync: bool,
    /// May leave at once.
    pub messages: Vec<(NodeId, Message)>,
    /// May leave only once `writes` are durable.
    pub after_sync: Vec<(NodeId, Message)>,
    /// Newly chosen slots.
    pub chosen: Vec<Chosen>,
    /// Changes of role.
    pub events: Vec<Event>,
    /// When to call again with `Tick`, on the monotonic clock.
    pub wake_at_ns: Option<i64>,
}

/// Why a proposal was not taken. Nothing was logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProposeError {
    /// This replica does not lead, or no longer; the hint may be old.
    NotLeader(Option<NodeId>),
    /// Too many slots are in flight.
    Busy,
}

/// A command ready to be proposed, to keep the alias in one place.
pub type Command = Bytes;
