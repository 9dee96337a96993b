//! Faults of processes that take more than one blow: restarts in a row, one node after another, and
//! many at once.

use paxos::{GroupId, NodeId};
use rand::RngExt;
use txn::NodeInput;

use crate::faults::Fault;
use crate::rng::log_uniform;
use crate::world::{Event, World};

const MS: i64 = 1_000_000;
/// A rolling restart looks so often whether the node is back.
const ROLL_NS: i64 = 10 * MS;

/// A usurper looks so often whether there is somebody to be overthrown.
const USURP_NS: i64 = 3 * MS;

/// What a fault still has to do.
#[derive(Debug)]
pub enum Sequel {
    /// Kill a node once more, so many times.
    Storm {
        /// Which.
        node: NodeId,
        /// How many times.
        left: u32,
    },
    /// Restart the next node once this one is back from its restart.
    Roll {
        /// This one.
        node: NodeId,
        /// What its process was before.
        incarnation: u64,
    },
    /// The clocks change ends, and this node is cut off.
    Apart {
        /// It led, as this began.
        leader: NodeId,
    },
    /// A leader that is heard by one follower alone loses power, unless it is another process by now.
    Abandon {
        /// Which.
        node: NodeId,
        /// The process.
        incarnation: u64,
        /// For so long.
        down: i64,
    },
    /// As soon as another leads a group, the links are whole again, and that one stops for longer than its lease.
    Usurp {
        /// Which group.
        group: GroupId,
        /// Other than this one.
        from: NodeId,
        /// It is waited for until then.
        until: i64,
        /// These.
        links: Vec<(NodeId, NodeId)>,
    },
    /// Somebody sees to a disk.
    Repair {
        /// Whose.
        node: NodeId,
    },
    /// Something without which an aim would wait in vain.
    Provoke(Fault),
}

impl World {
    pub(crate) fn strike_processes(&mut self, fault: Fault, node: NodeId) {
        let lease = self.swarm.lease_ns;
        match fault {
            Fault::RestartStorm => {
                let all = self.nemesis.random_range(0..3) == 0;
                for id in self.swarm.node_ids().filter(|id| all || *id == node) {
                    let left = self.nemesis.random_range(3..12);
                    self.follow(Sequel::Storm { node: id, left });
                }
            }
            Fault::RollingRestart => self.roll(NodeId(1)),
            Fault::KillMinority => {
                let count = (self.swarm.nodes as usize - 1) / 2;
                for id in self.some_nodes(count.max(1)) {
                    let down = log_uniform(&mut self.nemesis, MS, 3 * lease);
                    self.crash_for(id, false, down);
                }
            }
            Fault::KillAll => {
                for id in self.swarm.node_ids() {
                    let down = log_uniform(&mut self.nemesis, MS, lease);
                    self.crash_for(id, false, down);
                }
            }
            Fault::PauseMajority => {
                let count = self.swarm.nodes as usize / 2 + 1;
                for id in self.some_nodes(count) {
                    let ns = log_uniform(&mut self.nemesis, 100 * MS, 3 * lease);
                    self.stop_for(id, ns);
                }
            }
            other => unreachable!("{other:?} is no fault of processes"),
        }
    }

    pub(crate) fn follow(&mut self, sequel: Sequel) {
        match sequel {
            Sequel::Repair { node } => self.repair(node),
            _ if self.healed => {}
            Sequel::Provoke(fault) => self.apply(fault),
            Sequel::Apart { leader } => self.turn_apart(leader),
            Sequel::Abandon { node, incarnation, down } => {
                if self.server(node).incarnation == incarnation {
                    self.crash_for(node, true, down);
                }
            }
            Sequel::Usurp { group, from, until, links } => {
                let (now, lease) = (self.now, self.swarm.lease_ns);
                let next = self.leaders().into_iter().find(|(leader, led)| *led == group && *leader != from);
                if next.is_none() && now < until {
                    return self.after(USURP_NS, Event::Sequel(Sequel::Usurp { group, from, until, links }));
                }
                self.after(0, Event::Mend { links });
                if let Some((leader, _)) = next {
                    let ns = lease + self.nemesis.random_range(0..lease);
                    self.stop_for(leader, ns);
                }
            }
            Sequel::Storm { node, left } => {
                if self.server(node).process.is_some() {
                    self.shared.counters.hit("killed in a restart storm");
                }
                let power_cut = self.nemesis.random_range(0..3) == 0;
                let down = log_uniform(&mut self.nemesis, MS / 10, 5 * MS);
                self.crash_for(node, power_cut, down);
                if left > 1 {
                    let up = log_uniform(&mut self.nemesis, MS / 10, 50 * MS);
                    self.after(down + up, Event::Sequel(Sequel::Storm { node, left: left - 1 }));
                }
            }
            Sequel::Roll { node, incarnation } => {
                let server = self.server(node);
                if server.incarnation > incarnation && server.is_awake() {
                    self.shared.counters.hit("restarted in a rolling restart");
                    self.roll(NodeId(node.0 + 1));
                } else {
                    self.after(ROLL_NS, Event::Sequel(Sequel::Roll { node, incarnation }));
                }
            }
        }
    }

    /// Restarts this node and then, once it is back, the next.
    fn roll(&mut self, node: NodeId) {
        if node.0 <= self.swarm.nodes {
            let incarnation = self.server(node).incarnation;
            self.ask_to_stop(node);
            self.after(ROLL_NS, Event::Sequel(Sequel::Roll { node, incarnation }));
        }
    }

    /// Asks a process to stop, which is then restarted.
    pub(crate) fn ask_to_stop(&mut self, node: NodeId) {
        let lease = self.swarm.lease_ns;
        let server = self.server(node);
        let incarnation = server.incarnation;
        if server.is_awake()
            && let Some(process) = &mut server.process
        {
            process.stopping = true;
            self.after(3 * lease, Event::StopNow { node, incarnation });
            self.step(node, NodeInput::Shutdown);
        }
    }

    fn some_nodes(&mut self, count: usize) -> Vec<NodeId> {
        let mut nodes: Vec<NodeId> = self.swarm.node_ids().collect();
        while nodes.len() > count {
            nodes.remove(self.nemesis.random_range(0..nodes.len()));
        }
        nodes
    }
}
