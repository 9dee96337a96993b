//! What goes wrong between nodes, and between clients and their gateways, besides what is cut by chance.
//!
//! | fault | what it does |
//! | --- | --- |
//! | `Ring` | each node hears its neighbours on a ring only: a majority, and no two nodes the same one; of three, a chain |
//! | `Bridge` | two halves that hear one node only, which hears both |
//! | `OneGroup` | what some nodes say of one group does not arrive, and all else does |
//! | `SlowLinks` | some links take ten to a hundred times longer, each way by itself |
//! | `Stall` | a link delivers nothing, and then everything at once and in order, as TCP does |
//! | `ClientsCut` | clients do not reach a gateway, or its answers do not reach them; the nodes hear each other |
//! | `Freeze`, `Race` | a wall clock stands still, or runs twice as fast, until it is at an end of its bound |
//! | `Strobe` | a wall clock jumps from one side of its bound to the other, and back, every few milliseconds |
//! | `EpsilonChange` | a clock's bound becomes another, smaller or larger |
//! | `Apart` | a leader's clock is at one end of its bound and all others at the other; then the leader is cut off, and they change ends |
//!
//! The epsilon of some runs is a sawtooth besides: it grows between synchronisations, and falls at each.

use paxos::{GroupId, NodeId};
use rand::RngExt;
use txn::NodeMessage;

use crate::faults::Fault;
use crate::rng::{log_uniform, pick};
use crate::storms::Sequel;
use crate::world::{Event, World};

const MS: i64 = 1_000_000;

/// The group that a message is about, if it is about one.
pub fn group_of(message: &NodeMessage) -> Option<GroupId> {
    match message {
        NodeMessage::Paxos { group, .. }
        | NodeMessage::SafeTime { group, .. }
        | NodeMessage::WantSafeTime { group, .. }
        | NodeMessage::Snapshot { group, .. }
        | NodeMessage::TwoPhase { group, .. } => Some(*group),
        NodeMessage::Request(request) => Some(request.group),
        NodeMessage::Reply { .. } => None,
    }
}

/// The directed links that a ring does without.
fn ring(nodes: &[NodeId]) -> Vec<(NodeId, NodeId)> {
    if nodes.len() <= 3 {
        return bridge(nodes);
    }
    // So many neighbours on each side leave a majority.
    let near = (nodes.len() / 2).div_ceil(2);
    let far = |a: usize, b: usize| {
        let gap = a.abs_diff(b);
        gap.min(nodes.len() - gap) > near
    };
    let all = (0..nodes.len()).flat_map(|a| (0..nodes.len()).map(move |b| (a, b)));
    all.filter(|(a, b)| far(*a, *b)).map(|(a, b)| (nodes[a], nodes[b])).collect()
}

/// Those between two halves, with the node in the middle in neither.
fn bridge(nodes: &[NodeId]) -> Vec<(NodeId, NodeId)> {
    let (left, right) = (&nodes[..nodes.len() / 2], &nodes[nodes.len() / 2 + 1..]);
    left.iter().flat_map(|a| right.iter().flat_map(move |b| [(*a, *b), (*b, *a)])).collect()
}

impl World {
    pub(crate) fn strike_links(&mut self, fault: Fault, node: NodeId, ns: i64) {
        let until = self.now + ns;
        let mut nodes: Vec<NodeId> = self.swarm.node_ids().collect();
        // The node is in the middle, and the others are where they are.
        let turn = (node.0 as usize + nodes.len() / 2) % nodes.len();
        nodes.rotate_left(turn);
        match fault {
            Fault::Ring => self.cut_for(ring(&nodes), ns),
            Fault::Bridge => self.cut_for(bridge(&nodes), ns),
            Fault::OneGroup => {
                let group = GroupId(self.nemesis.random_range(0..self.next_group));
                for other in nodes.into_iter().filter(|other| *other != node) {
                    let (there, back) = (self.nemesis.random::<bool>(), self.nemesis.random::<bool>());
                    for (link, cut) in [((node, other), there), ((other, node), back)] {
                        if cut {
                            self.network.cut_group(link, group, until);
                        }
                    }
                }
            }
            Fault::SlowLinks => {
                for other in nodes.into_iter().filter(|other| *other != node) {
                    for link in [(node, other), (other, node)] {
                        if self.nemesis.random() {
                            self.network.slow(link, self.nemesis.random_range(10..100), until);
                        }
                    }
                }
            }
            Fault::Stall => {
                let other = *pick(&mut self.nemesis, &nodes);
                if other != node {
                    self.network.stall((node, other), until);
                }
            }
            Fault::ClientsCut => {
                self.network.cut_clients(node, until);
            }
            other => unreachable!("{other:?} is no fault of a link"),
        }
    }

    pub(crate) fn strike_clock(&mut self, fault: Fault, node: NodeId) {
        let now = self.now;
        let period = log_uniform(&mut self.nemesis, MS, 50 * MS);
        let permille = self.nemesis.random_range(50..=1000);
        let clock = &mut self.server(node).clock;
        match fault {
            Fault::Freeze => clock.run_at(now, 0),
            Fault::Race => clock.run_at(now, 2_000_000),
            Fault::Strobe => clock.strobe(period),
            Fault::EpsilonChange => clock.set_epsilon_permille(permille),
            other => unreachable!("{other:?} is no fault of a clock"),
        }
    }
}

impl World {
    /// A leader gets a lease that is as long, and votes that are as short, as clocks within their bounds can make them.
    pub(crate) fn strike_apart(&mut self, node: NodeId) {
        let leaders = self.leaders();
        let leader = if leaders.is_empty() { node } else { pick(&mut self.nemesis, &leaders).0 };
        self.set_apart(leader, true);
        self.after(self.swarm.lease_ns / 2, Event::Sequel(Sequel::Apart { leader }));
    }

    /// Then it is cut off, and is as slow to see its lease end, and the others as quick to see it over, as may be.
    pub(crate) fn turn_apart(&mut self, leader: NodeId) {
        self.set_apart(leader, false);
        let others = self.swarm.node_ids().filter(|id| *id != leader);
        self.cut_for(others.flat_map(|id| [(id, leader), (leader, id)]).collect(), 2 * self.swarm.lease_ns);
    }

    /// Puts a leader's clock at one end of its bound, and all others at the other.
    fn set_apart(&mut self, leader: NodeId, late: bool) {
        let now = self.now;
        for id in self.swarm.node_ids() {
            self.server(id).clock.go_to_end(now, late == (id == leader));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_a_ring_each_hears_a_majority_and_no_two_the_same() {
        for count in 4..=7u64 {
            let nodes: Vec<NodeId> = (1..=count).map(NodeId).collect();
            let cut = ring(&nodes);
            let hears = |node: NodeId| -> Vec<NodeId> {
                nodes.iter().copied().filter(|other| !cut.contains(&(*other, node))).collect()
            };
            for (at, node) in nodes.iter().enumerate() {
                assert!(hears(*node).len() * 2 > nodes.len(), "{node} of {count}");
                assert!(count < 5 || nodes[at + 1..].iter().all(|other| hears(*other) != hears(*node)), "{count}");
            }
        }
        let three: Vec<NodeId> = (1..=3).map(NodeId).collect();
        assert_eq!(ring(&three), [(NodeId(1), NodeId(3)), (NodeId(3), NodeId(1))]);
    }
}
