//! The inputs and outputs of [`crate::node::Node::step`], and a node's settings.

use std::collections::BTreeMap;

use paxos::{Entry, GroupId, HardState, NodeId, Slot};
use truetime::{Now, Timestamp};

use crate::api::{GroupError, Reply};
use crate::message::NodeMessage;
use crate::types::RangeDescriptor;

/// Settings of a node.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    /// Who this is.
    pub id: NodeId,
    /// Every node of the cluster: the voters of every group.
    pub voters: Vec<NodeId>,
    /// The groups of a new cluster, each with the node that should lead it first. A node whose
    /// store is empty creates them.
    pub bootstrap: Vec<(RangeDescriptor, NodeId)>,
    /// Consensus.
    pub paxos: paxos::Options,
    /// A transaction of which nothing was heard for so long loses its locks.
    pub txn_idle_ns: i64,
    /// A commit that waits for locks for so long is refused.
    pub commit_wait_ns: i64,
    /// How often a prepared participant asks its coordinator's group for the decision.
    pub inquire_ns: i64,
    /// How long outcomes of transactions are kept (I10).
    pub outcome_retention_ns: i64,
    /// How long old versions are kept.
    pub version_retention_ns: i64,
    /// How often a leader moves the line below which versions are collected.
    pub gc_every_ns: i64,
    /// How often a leader tells idle followers its safe time.
    pub safe_time_ns: i64,
    /// Requests of one group that may wait for locks or safe time; more are refused.
    pub waiting_requests_max: usize,
}

impl NodeOptions {
    /// The defaults, with a lease of this length.
    pub fn new(id: NodeId, voters: Vec<NodeId>, lease_ns: i64) -> NodeOptions {
        NodeOptions {
            id,
            voters,
            bootstrap: Vec::new(),
            paxos: paxos::Options::with_lease(lease_ns),
            txn_idle_ns: 10_000_000_000,
            commit_wait_ns: 10_000_000_000,
            inquire_ns: 200_000_000,
            outcome_retention_ns: 3_600_000_000_000,
            version_retention_ns: 3_600_000_000_000,
            gc_every_ns: 30_000_000_000,
            safe_time_ns: 200_000_000,
            waiting_requests_max: 16_384,
        }
    }
}

/// What the log store holds for one group at a restart.
#[derive(Clone, Debug, Default)]
pub struct GroupLog {
    /// The last hard state.
    pub hard: HardState,
    /// Every entry kept.
    pub entries: BTreeMap<Slot, Entry>,
}

/// Everything that can wake a node.
#[derive(Clone, Debug)]
pub enum NodeInput {
    /// Time has passed.
    Tick,
    /// A message of another node, or a request of this node's own gateway (`from` is this node).
    Message {
        /// The sender.
        from: NodeId,
        /// What it says.
        message: NodeMessage,
    },
    /// The log writes of the `NodeReady` with this number, and of all before it, are durable.
    Persisted(u64),
    /// The state store was flushed: what [`crate::node::Node::applied`] said when the flush
    /// began is durable.
    StateDurable(Vec<(GroupId, Slot)>),
    /// Hand every leadership over; `NodeReady::stopped` says when that is done.
    Shutdown,
}

/// A reply to a gateway, to be sealed at the moment it leaves.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// The gateway's node; may be this one.
    pub to: NodeId,
    /// The request's number.
    pub id: u64,
    /// The answer.
    pub reply: Reply,
    /// The answer rests on a lease that ends then.
    pub lease_end: Option<Timestamp>,
}

impl Outgoing {
    /// Checks the lease once more: the process may have been stopped since the answer was made.
    pub fn seal(self, now: Now) -> NodeMessage {
        match self.lease_end {
            Some(end) if !now.tt.before(end) => NodeMessage::Reply {
                id: self.id,
                reply: Reply::Error(GroupError::Unavailable("the leader's lease ran out".into())),
            },
            _ => NodeMessage::Reply { id: self.id, reply: self.reply },
        }
    }
}

/// What a step asks of its caller: as [`paxos::Ready`], for all groups of a node.
#[must_use]
#[derive(Debug, Default)]
pub struct NodeReady {
    /// The number of this batch of log writes; 0 if there is none.
    pub persist: u64,
    /// To be made durable in the log store, in order and atomically.
    pub writes: Vec<(GroupId, paxos::Write)>,
    /// Whether something waits for the fsync.
    pub sync: bool,
    /// May leave at once. Never to this node itself.
    pub messages: Vec<(NodeId, NodeMessage)>,
    /// May leave only once `writes` are durable.
    pub after_sync: Vec<(NodeId, NodeMessage)>,
    /// Replies to gateways, local or remote; seal each as it leaves. They may leave at once.
    pub replies: Vec<Outgoing>,
    /// Flush the state store soon and answer with `StateDurable`: a snapshot was installed, or one is to
    /// be sent and what it rests on must be durable first.
    pub flush_state: bool,
    /// The set of ranges or leaders on this node changed: tell the gateway.
    pub ranges_changed: bool,
    /// Things worth a line in the log.
    pub notes: Vec<String>,
    /// When to call again with `Tick`, on the monotonic clock.
    pub wake_at_ns: Option<i64>,
    /// `Shutdown` is complete.
    pub stopped: bool,
    /// The store failed or an invariant of the disk is broken: stop the process (I14).
    pub fatal: Option<String>,
}

/// One group as its replica here sees it.
#[derive(Clone, Debug)]
pub struct GroupStatus {
    /// Which.
    pub range: RangeDescriptor,
    /// Who leads, as far as is known.
    pub leader: Option<NodeId>,
    /// Set if this replica leads with a valid lease.
    pub lease_end: Option<Timestamp>,
    /// Applied index.
    pub applied: Slot,
    /// Chosen index.
    pub chosen: Slot,
    /// First slot kept in the log.
    pub first_slot: Slot,
    /// Reads at or below are served here without waiting.
    pub safe_ts: Timestamp,
    /// Commits and aborts decided here while leading, since the start.
    pub commits: u64,
    /// As above.
    pub aborts: u64,
}
