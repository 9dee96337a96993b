//! What a replica keeps on disk: log entries and a small hard state.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use truetime::Timestamp;

use crate::{Ballot, NodeId, Slot};

/// Who takes part in a group. Fixed at creation for now, but every snapshot carries it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configuration {
    /// Replicas whose promises and accepts count.
    pub voters: BTreeSet<NodeId>,
    /// Replicas that learn and apply but never count.
    pub learners: BTreeSet<NodeId>,
}

impl Configuration {
    /// A configuration of voters only.
    pub fn of_voters(voters: impl IntoIterator<Item = NodeId>) -> Configuration {
        Configuration { voters: voters.into_iter().collect(), learners: BTreeSet::new() }
    }

    /// How many voters are a majority.
    pub fn quorum(&self) -> usize {
        self.voters.len() / 2 + 1
    }
}

/// What a slot holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Fills a gap.
    Noop,
    /// The first new entry of a leadership: phase 1 of `Entry::origin` covered every open slot
    /// and found nothing at or above this one. See the epoch rule in `learner.rs`.
    Start,
    /// A command of the state machine.
    Command(Bytes),
    /// The configuration from here on.
    Config(Configuration),
}

/// An accepted value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where.
    pub slot: Slot,
    /// The ballot under which it was last accepted.
    pub ballot: Ballot,
    /// The ballot under which it was first proposed; a later leader that proposes the value again
    /// keeps it.
    pub origin: Ballot,
    /// The value.
    pub payload: Payload,
}

/// A lease vote: until `until` has surely passed, this replica promises no ballot of another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseVote {
    /// For whom.
    pub holder: NodeId,
    /// `TT.now().latest` at the grant plus the lease length that the holder asked for.
    pub until: Timestamp,
}

/// The small part of the acceptor's durable state, written whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// No accept or promise below this ballot.
    pub promised: Ballot,
    /// The lease vote in force, if any.
    pub lease: Option<LeaseVote>,
    /// The largest `until` of votes that `lease` has replaced, or the largest timestamp used under
    /// one released early. A new leader starts above it, and above `lease` if that is another's.
    pub lease_floor: Option<Timestamp>,
    /// Every slot up to here is known to be chosen. A hint: it may lag.
    pub chosen: Slot,
    /// Entries up to here have been dropped; the applied state covers them.
    pub truncated: Slot,
}

/// One durable write. The caller writes those of one `Ready` in order and atomically.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Replace the hard state.
    HardState(HardState),
    /// Put this entry at its slot, over whatever was there.
    Entry(Entry),
    /// Drop every entry at or below the slot.
    Truncate(Slot),
    /// Drop every entry of the group (a snapshot was installed).
    Clear,
}

/// What a restarted replica finds on its disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// The last hard state written.
    pub hard: HardState,
    /// Every entry kept.
    pub entries: BTreeMap<Slot, Entry>,
    /// The applied index of the state machine on disk.
    pub applied: Slot,
    /// The last `Start` ballot at or below `applied` (the state machine keeps it with its index).
    pub epoch: Ballot,
    /// The configuration at `applied`.
    pub config: Configuration,
}
