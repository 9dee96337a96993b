//! Messages between nodes: one gRPC stream for each ordered pair, one batch for all that is queued.
//!
//! ```text
//!   engine --encoded messages--> Link (bounded queue) --PeerBatch--> receive --> engine, replies
//! ```
//!
//! - A link connects, says hello, and sends a batch whenever something is queued, and at least every
//!   [`link::HEARTBEAT`], because each batch also carries the sender's clock (see `truetime::compare`).
//! - The receiver checks the hello: another cluster, another format, another peer list, a false name or
//!   a data folder other than before are refused with a reason that both sides log and `SHOW NODES` shows.
//! - Nothing is repeated here. Consensus and gateways repeat what got no answer, so a full queue
//!   or a broken stream loses messages and nothing else.
//! - Bytes that do not decode end the stream: they are logged and counted, never a panic.

mod link;
mod receive;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use paxos::NodeId;
use truetime::Timestamp;

use crate::clock::NodeClock;
use crate::config::Peers;
use crate::gateway::Replies;
use crate::metrics::Metrics;
use crate::storage::Acquaintances;

pub use link::Link;
pub use receive::Receiver;

/// The format of the message bodies that this version speaks.
pub const FORMAT: u32 = 1;
/// The largest batch that is read, in bytes: a whole transaction and some room.
pub const BATCH_BYTES_MAX: usize = txn::types::TXN_BYTES_MAX + (16 << 20);

/// What a node says first on a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Its number.
    pub node: u64,
    /// Its cluster.
    pub cluster_id: String,
    /// The format of its message bodies.
    pub format: u32,
    /// The peer list it was started with.
    pub nodes: Vec<(u64, String)>,
    /// The data folder of each node that it knows of, its own among them.
    pub folders: BTreeMap<u64, String>,
}

/// What travels at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// In the first batch of a stream.
    pub hello: Option<Hello>,
    /// The sender's clock as it sends. The ends may be out of order: a peer says them.
    pub earliest: Timestamp,
    /// As above.
    pub latest: Timestamp,
    /// Encoded `txn::NodeMessage`s.
    pub messages: Vec<Bytes>,
    /// The sender's monotonic clock.
    pub sent_mono_ns: i64,
    /// The receiver's monotonic clock, as it last sent to the sender; 0 if it has not.
    pub echo_mono_ns: i64,
    /// How long ago that arrived.
    pub echo_delay_ns: i64,
}

/// Who this node is, as it tells its peers.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its number.
    pub node: u64,
    /// Its cluster.
    pub cluster_id: String,
    /// The peer list it was started with.
    pub peers: Peers,
    /// The data folders of this node and of those it has met.
    pub acquaintances: Arc<Acquaintances>,
}

impl Identity {
    /// The first words on a stream.
    pub fn hello(&self) -> Hello {
        let nodes = self.peers.iter().map(|(node, address)| (node, address.to_string())).collect();
        Hello {
            node: self.node,
            cluster_id: self.cluster_id.clone(),
            format: FORMAT,
            nodes,
            folders: self.acquaintances.known(),
        }
    }

    /// Why a peer with this hello is not one of ours, if so.
    pub fn refuse(&self, hello: &Hello) -> Option<String> {
        let me = self.node;
        let them = hello.node;
        if hello.format != FORMAT {
            return Some(format!("node {them} speaks message format {}, and node {me} speaks {FORMAT}", hello.format));
        }
        let mut theirs: Vec<u64> = hello.nodes.iter().map(|(node, _)| *node).collect();
        theirs.sort_unstable();
        let ours = self.peers.ids();
        if theirs != ours {
            return Some(format!("the peer lists differ: node {them} names {theirs:?}, and node {me} names {ours:?}"));
        }
        if hello.cluster_id != self.cluster_id {
            return Some(format!(
                "node {them} is of cluster {}, and node {me} of cluster {}: their first starts had different peer lists",
                hello.cluster_id, self.cluster_id
            ));
        }
        if them == me {
            return Some(format!("there are two nodes {me}"));
        }
        (!ours.contains(&them)).then(|| format!("node {them} is not in the peer list"))
    }
}

fn dialled(via: &Option<Peers>, node: u64) -> Option<&str> {
    via.as_ref()?.address(node)
}

/// The links to all peers.
pub struct Transport {
    identity: Identity,
    links: BTreeMap<u64, Arc<Link>>,
    via: Option<Peers>,
    metrics: Arc<Metrics>,
}

/// How a peer is doing, for `SHOW NODES`.
#[derive(Clone, Debug)]
pub struct PeerState {
    /// The peer; this node too.
    pub node: u64,
    /// Its address.
    pub address: String,
    /// Whether the stream to it is up.
    pub connected: bool,
    /// Why it is not, if known.
    pub problem: Option<String>,
}

impl Transport {
    /// Links to every peer. They connect once [`Transport::start`] is called. What `via` names is reached by
    /// its addresses, though others are told those of the identity.
    pub fn new(identity: Identity, via: Option<Peers>, metrics: Arc<Metrics>) -> Transport {
        let others = identity.peers.iter().filter(|(id, _)| *id != identity.node);
        let dial = |id: u64, address: &str| dialled(&via, id).unwrap_or(address).to_string();
        let links = others.map(|(id, address)| (id, Arc::new(Link::new(id, dial(id, address))))).collect();
        Transport { identity, links, via, metrics }
    }

    /// The address by which this node reaches a peer.
    pub fn dial<'a>(&'a self, peer: &'a PeerState) -> &'a str {
        dialled(&self.via, peer.node).unwrap_or(&peer.address)
    }

    /// This node.
    pub fn me(&self) -> NodeId {
        NodeId(self.identity.node)
    }

    /// As peers know it.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Begins to connect. `replies` hears of requests whose stream broke.
    pub fn start(&self, clock: &Arc<NodeClock>, replies: &Arc<Replies>) {
        for link in self.links.values() {
            let (link, clock, replies) = (link.clone(), clock.clone(), replies.clone());
            tokio::spawn(link::run(link, self.identity.clone(), clock, replies, self.metrics.clone()));
        }
    }

    /// Queues messages. Says whether all of them were taken; those that were not are lost.
    pub fn send(&self, to: NodeId, messages: Vec<Bytes>) -> bool {
        let Some(link) = self.links.get(&to.0) else { return false };
        let count = messages.len();
        let dropped = link.push(messages);
        crate::metrics::add(&self.metrics.messages_sent, (count - dropped) as u64);
        crate::metrics::add(&self.metrics.messages_dropped, dropped as u64);
        dropped == 0
    }

    /// As [`Transport::send`], for a message whose answer somebody waits for: not to a peer that is away, which
    /// would answer too late or never. Whoever was told yes hears of the loss if the connection breaks.
    pub fn ask(&self, to: NodeId, message: Bytes) -> bool {
        // Should it break in between, the answer was registered before, and is given up as all others.
        self.links.get(&to.0).is_some_and(|link| link.is_online()) && self.send(to, vec![message])
    }

    /// The link to a peer.
    pub fn link(&self, node: u64) -> Option<&Arc<Link>> {
        self.links.get(&node)
    }

    /// How every node is doing, as seen from here.
    pub fn states(&self) -> Vec<PeerState> {
        let state = |(node, address): (u64, &str)| {
            let (connected, problem) = self.links.get(&node).map_or((true, None), |link| link.state());
            PeerState { node, address: address.to_string(), connected, problem }
        };
        self.identity.peers.iter().map(state).collect()
    }

    /// Whether everything queued has left, or cannot.
    pub fn drained(&self) -> bool {
        self.links.values().all(|link| link.is_empty())
    }
}
