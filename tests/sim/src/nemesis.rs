//! What the faults do to the world.

use paxos::{GroupId, NodeId};
use rand::RngExt;
use txn::{NodeInput, NodeMessage, Request, RequestBody};

use crate::faults::Fault;
use crate::plan;
use crate::rng::{log_uniform, pick};
use crate::swarm::sql_key;
use crate::world::{Event, World};

const MS: i64 = 1_000_000;

impl World {
    /// One fault, and the time of the next.
    pub(crate) fn strike(&mut self) {
        if self.healed {
            return;
        }
        let every = self.swarm.fault_every_ns;
        let next = self.nemesis.random_range(0..=2 * every);
        self.after(next, Event::Nemesis);
        let total: u32 = self.swarm.faults.iter().map(|(_, weight)| weight).sum();
        let mut at = self.nemesis.random_range(0..total);
        let mut drawn = self.swarm.faults[0].0;
        for (fault, weight) in &self.swarm.faults {
            drawn = *fault;
            if at < *weight {
                break;
            }
            at -= weight;
        }
        self.apply(drawn);
    }

    pub(crate) fn apply(&mut self, fault: Fault) {
        self.shared.counters.hit(fault.name());
        let lease = self.swarm.lease_ns;
        let node = NodeId(1 + self.nemesis.random_range(0..self.swarm.nodes));
        let short = log_uniform(&mut self.nemesis, MS, 3 * lease);
        let cut = log_uniform(&mut self.nemesis, 50 * MS, 4 * lease);
        self.note(format!("fault: {fault:?}"));
        match fault {
            Fault::Kill => self.crash_for(node, false, short),
            Fault::PowerCut => self.crash_for(node, true, short),
            Fault::PowerCutAll => {
                for id in self.swarm.node_ids() {
                    let down = log_uniform(&mut self.nemesis, MS, lease);
                    self.crash_for(id, true, down);
                }
            }
            Fault::LongAbsence => {
                let long = lease * self.nemesis.random_range(4..9);
                self.crash_for(node, false, long);
            }
            Fault::Pause => self.stop_for(node, short),
            Fault::PauseLeader => {
                let leaders = self.leaders();
                if !leaders.is_empty() {
                    let (leader, _) = *pick(&mut self.nemesis, &leaders);
                    let ns = lease / 2 + self.nemesis.random_range(0..3 * lease);
                    self.stop_for(leader, ns);
                }
            }
            Fault::Isolate => {
                let others = self.swarm.node_ids().filter(|id| *id != node);
                self.cut_for(others.flat_map(|id| [(id, node), (node, id)]).collect(), cut);
            }
            Fault::Halves => {
                let sides: Vec<(NodeId, bool)> = self.swarm.node_ids().map(|id| (id, self.nemesis.random())).collect();
                let mut links = Vec::new();
                for (a, left) in &sides {
                    links.extend(sides.iter().filter(|(_, right)| left != right).map(|(b, _)| (*a, *b)));
                }
                self.cut_for(links, cut);
            }
            Fault::OneWay => {
                let other =
                    NodeId(1 + (node.0 + self.nemesis.random_range(0..self.swarm.nodes - 1)) % self.swarm.nodes);
                let mut links = vec![(node, other)];
                if self.nemesis.random() {
                    // It hears everyone and is heard by no one, or the other way round.
                    let hears: bool = self.nemesis.random();
                    let others = self.swarm.node_ids().filter(|id| *id != node);
                    links = others.map(|id| if hears { (node, id) } else { (id, node) }).collect();
                }
                self.cut_for(links, cut);
            }
            Fault::ClockJump => {
                let now = self.now;
                if self.nemesis.random() {
                    self.server(node).clock.redraw(now);
                } else {
                    for id in self.swarm.node_ids() {
                        self.server(id).clock.redraw(now);
                    }
                }
            }
            Fault::Distrust => {
                self.server(node).clock.trusted = false;
                self.after(short, Event::Trust { node });
            }
            Fault::Shutdown => self.ask_to_stop(node),
            Fault::HandOver => {
                if let Some((leader, group)) = self.some_leader() {
                    let heir = self.nemesis.random::<bool>().then_some(node);
                    self.ask(leader, group, RequestBody::HandOver { to: heir });
                }
            }
            Fault::Split => self.split(node),
            Fault::Apart => self.strike_apart(node),
            fault if Fault::DISKS.contains(&fault) => self.strike_disk(fault, node),
            fault if Fault::LINKS.contains(&fault) => self.strike_links(fault, node, cut),
            fault if Fault::CLOCKS.contains(&fault) => self.strike_clock(fault, node),
            fault => self.strike_processes(fault, node),
        }
    }

    pub(crate) fn crash_for(&mut self, node: NodeId, power_cut: bool, ns: i64) {
        if self.server(node).process.is_some() {
            self.crash(node, power_cut);
            self.after(ns, Event::Start { node });
        }
    }

    pub(crate) fn stop_for(&mut self, node: NodeId, ns: i64) {
        self.note(format!("{node} is stopped for {} ms", ns / MS));
        self.pause(node, ns);
    }

    pub(crate) fn cut_for(&mut self, links: Vec<(NodeId, NodeId)>, ns: i64) {
        self.note(format!("cut for {} ms: {links:?}", ns / MS));
        self.network.cut(&links);
        self.after(ns, Event::Mend { links });
    }

    /// Who leads what, by each node's own word.
    pub(crate) fn leaders(&mut self) -> Vec<(NodeId, GroupId)> {
        let now_ns = self.now;
        let mut leaders = Vec::new();
        for server in self.servers.values_mut().filter(|server| server.is_awake()) {
            let now = server.clock.now(now_ns);
            let Some(process) = &server.process else { continue };
            let led = process.node.status(now).into_iter().filter(|status| status.lease_end.is_some());
            leaders.extend(led.map(|status| (server.id, status.range.group)));
        }
        leaders
    }

    fn some_leader(&mut self) -> Option<(NodeId, GroupId)> {
        let leaders = self.leaders();
        (!leaders.is_empty()).then(|| *pick(&mut self.nemesis, &leaders))
    }

    fn split(&mut self, heir: NodeId) {
        if self.next_group >= 14 {
            return;
        }
        let kind = *pick(&mut self.nemesis, &['a', 'b', 'p', 'r', 's']);
        let mut at = plan::key(kind, self.nemesis.random_range(0..self.swarm.keys * 2));
        if self.swarm.sql_clients > 0 && self.nemesis.random() {
            at = sql_key(&mut self.nemesis).into();
        }
        let leaders = self.leaders();
        let now_ns = self.now;
        for (leader, group) in leaders {
            let server = self.server(leader);
            let now = server.clock.now(now_ns);
            let Some(process) = &server.process else { continue };
            let holds = process.node.status(now).into_iter().any(|status| {
                status.range.group == group && status.range.span.contains(&at) && status.range.span.start != at
            });
            if holds {
                let new_group = GroupId(self.next_group);
                self.next_group += 1;
                self.shared.counters.hit("split asked");
                self.ask(leader, group, RequestBody::Split { at, new_group, leader: heir });
                return;
            }
        }
    }

    /// A request of the world itself, at a node that leads the group.
    pub(crate) fn ask(&mut self, node: NodeId, group: GroupId, body: RequestBody) -> u64 {
        let id = self.next_world_request;
        self.next_world_request += 1;
        let message = NodeMessage::Request(Request { id, group, body });
        self.step(node, NodeInput::Message { from: node, message });
        id
    }
}
