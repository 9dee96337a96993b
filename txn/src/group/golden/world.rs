//! The world of the golden scripts: three nodes, their disks and clocks, a network, and gateways.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::error::Error;
use std::fmt::Write as _;

use paxos::{GroupId, NodeId, Write as LogWrite};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use truetime::{Interval, Now, Timestamp};

use super::show;
use crate::api::{Inspection, Reply, RequestBody};
use crate::client::{ClientInput, ClientReady, Gateway, GatewayOptions, GroupOp, Operation, Outcome, ReadWrite};
use crate::message::{NodeMessage, TwoPhase};
use crate::node::Node;
use crate::ready::{GroupLog, NodeInput, NodeOptions, NodeReady, Outgoing};
use crate::testing::MemoryStore;
use crate::types::{RangeDescriptor, Span, TxnId};

pub(super) type Outcomes<T> = Result<T, Box<dyn Error>>;

pub(super) const MS: i64 = 1_000_000;
pub(super) const EPSILON_MS: i64 = 2;
/// The start of the script, so that timestamps are not near zero.
pub(super) const EPOCH_MS: i64 = 100_000;

pub(super) struct Server {
    pub(super) node: Option<Node<MemoryStore>>,
    /// What a crash leaves: the store, and the synced log.
    pub(super) store: Option<MemoryStore>,
    pub(super) logs: BTreeMap<GroupId, GroupLog>,
    /// Batches on their way to the disk: when done, number, writes, messages that wait.
    pub(super) syncing: VecDeque<Syncing>,
    pub(super) gateway: Gateway,
    pub(super) frozen: bool,
    pub(super) cut: bool,
    pub(super) wake_ns: i64,
    pub(super) rng: u64,
}

pub(super) struct Syncing {
    pub(super) at_ms: i64,
    pub(super) persist: u64,
    pub(super) writes: Vec<(GroupId, LogWrite)>,
    pub(super) messages: Vec<(NodeId, NodeMessage)>,
}

pub(super) enum Op {
    Txn(Box<ReadWrite>),
    Other(Box<dyn Operation>),
}

pub(super) struct Client {
    pub(super) node: NodeId,
    pub(super) op: Op,
    pub(super) wake_ns: Option<i64>,
    pub(super) busy: bool,
}

pub(super) struct World {
    pub(super) now_ms: i64,
    pub(super) servers: BTreeMap<NodeId, Server>,
    pub(super) network: VecDeque<(i64, NodeId, NodeId, NodeMessage)>,
    pub(super) clients: BTreeMap<String, Client>,
    pub(super) names: BTreeMap<TxnId, String>,
    pub(super) lost: BTreeSet<String>,
    pub(super) reads: u32,
    pub(super) inspection: Option<Inspection>,
    pub(super) out: String,
}

pub(super) fn options(id: NodeId) -> NodeOptions {
    let mut options = NodeOptions::new(id, (1..=3).map(NodeId).collect(), 500 * MS);
    let range = |group, start: &'static str, end: &'static str, leader| {
        let span = Span::new(start.as_bytes(), end.as_bytes());
        (RangeDescriptor { group: GroupId(group), span, epoch: 1 }, NodeId(leader))
    };
    options.bootstrap = vec![range(1, "", "m", 1), range(2, "m", "", 2)];
    options.txn_idle_ns = 2_000 * MS;
    options.commit_wait_ns = 2_000 * MS;
    options
}

impl World {
    pub(super) fn new() -> World {
        let mut world = World {
            now_ms: 0,
            servers: BTreeMap::new(),
            network: VecDeque::new(),
            clients: BTreeMap::new(),
            names: BTreeMap::new(),
            lost: BTreeSet::new(),
            reads: 0,
            inspection: None,
            out: String::new(),
        };
        for id in (1..=3).map(NodeId) {
            let gateway = Gateway::new(id, (1..=3).map(NodeId).collect(), GatewayOptions::default(), id.0 << 32);
            world.servers.insert(
                id,
                Server {
                    node: None,
                    store: Some(MemoryStore::new()),
                    logs: BTreeMap::new(),
                    syncing: VecDeque::new(),
                    gateway,
                    frozen: false,
                    cut: false,
                    wake_ns: 0,
                    rng: 0,
                },
            );
        }
        for id in (1..=3).map(NodeId) {
            world.start(id);
        }
        world.run(400);
        world.out.clear();
        world
    }

    pub(super) fn now(&self) -> Now {
        let at = Timestamp::from_nanos((EPOCH_MS + self.now_ms) * MS);
        Now { tt: Interval::around(at, EPSILON_MS * MS), mono_ns: self.now_ms * MS, trusted: true }
    }

    pub(super) fn start(&mut self, id: NodeId) {
        let now = self.now();
        let server = self.servers.get_mut(&id).expect("three servers");
        server.rng += 1;
        let rng = ChaCha8Rng::seed_from_u64(id.0 * 1000 + server.rng);
        let store = server.store.take().expect("it is down");
        let (node, ready) = Node::new(options(id), store, server.logs.clone(), now, rng).expect("the store is sound");
        server.node = Some(node);
        self.take(id, ready);
    }

    pub(super) fn crash(&mut self, id: NodeId) {
        let server = self.servers.get_mut(&id).expect("three servers");
        let Some(mut node) = server.node.take() else { return };
        node.store_mut().crash(0);
        server.store = Some(node.store().clone());
        server.syncing.clear();
        server.frozen = false;
        self.network.retain(|(_, _, to, _)| *to != id);
    }

    /// Does what a step asks for.
    pub(super) fn take(&mut self, id: NodeId, ready: NodeReady) {
        assert_eq!(ready.fatal, None, "{id} stops");
        let now = self.now();
        for (to, message) in ready.messages {
            self.send(id, to, message);
        }
        for outgoing in ready.replies {
            self.reply(id, outgoing, now);
        }
        let at_ms = self.now_ms + 1;
        let server = self.servers.get_mut(&id).expect("three servers");
        if ready.persist > 0 {
            let (persist, writes, messages) = (ready.persist, ready.writes, ready.after_sync);
            server.syncing.push_back(Syncing { at_ms, persist, writes, messages });
        }
        server.wake_ns = ready.wake_at_ns.unwrap_or(i64::MAX);
        if let Some(node) = &server.node {
            for (range, leader) in node.ranges() {
                let group = range.group;
                server.gateway.router.learn_range(range);
                if leader.is_some() {
                    server.gateway.router.learn_leader(group, leader);
                }
            }
        }
        if ready.flush_state {
            self.flush(id);
        }
    }

    pub(super) fn flush(&mut self, id: NodeId) {
        let now = self.now();
        let server = self.servers.get_mut(&id).expect("three servers");
        let Some(node) = &mut server.node else { return };
        let applied = node.applied();
        node.store_mut().flush();
        let ready = node.step(now, NodeInput::StateDurable(applied));
        self.take(id, ready);
    }

    pub(super) fn send(&mut self, from: NodeId, to: NodeId, message: NodeMessage) {
        let kind = match &message {
            NodeMessage::TwoPhase { body: TwoPhase::Decided { .. }, .. } => "decided",
            NodeMessage::TwoPhase { body: TwoPhase::Prepared { .. }, .. } => "prepared",
            NodeMessage::Reply { .. } => "reply",
            NodeMessage::Paxos { message: paxos::Message::Accepted { .. }, .. } => "accepted",
            _ => "other",
        };
        let cut = self.servers[&from].cut || self.servers[&to].cut;
        if from != to && (cut || self.lost.contains(kind)) {
            return;
        }
        // Every message goes through its bytes.
        let message = NodeMessage::decode(message.encode()).expect("our own encoding");
        let delay = i64::from(from != to);
        self.network.push_back((self.now_ms + delay, from, to, message));
    }

    pub(super) fn reply(&mut self, from: NodeId, outgoing: Outgoing, now: Now) {
        let to = outgoing.to;
        if self.lost.contains("reply") {
            return;
        }
        let message = outgoing.seal(now);
        self.send(from, to, message);
    }

    pub(super) fn deliver(&mut self, from: NodeId, to: NodeId, message: NodeMessage) {
        let now = self.now();
        if let NodeMessage::Reply { id, reply } = message {
            let names: Vec<String> =
                self.clients.iter().filter(|(_, c)| c.node == to).map(|(n, _)| n.clone()).collect();
            for name in names {
                self.client(&name, ClientInput::Reply { request: id, reply: reply.clone() });
            }
            return;
        }
        let server = self.servers.get_mut(&to).expect("three servers");
        if let Some(node) = &mut server.node {
            let ready = node.step(now, NodeInput::Message { from, message });
            self.take(to, ready);
        }
    }

    pub(super) fn client(&mut self, name: &str, input: ClientInput) {
        let now = self.now();
        let Some(client) = self.clients.get_mut(name) else { return };
        let id = client.node;
        let gateway = &mut self.servers.get_mut(&id).expect("three servers").gateway;
        let ClientReady { sends, outcome, wake_at_ns } = match &mut client.op {
            Op::Txn(txn) => txn.step(now, gateway, input),
            Op::Other(op) => op.step(now, gateway, input),
        };
        client.wake_ns = wake_at_ns;
        if let Some(outcome) = outcome {
            client.busy = false;
            if let Outcome::Reply(Reply::Inspection(inspection)) = outcome {
                self.inspection = Some(inspection);
                return;
            }
            let line = show(outcome);
            writeln!(self.out, "{} {name}: {line}", self.now_ms).expect("a string");
        }
        for (to, request) in sends {
            self.send(id, to, NodeMessage::Request(request));
        }
    }

    pub(super) fn run(&mut self, ms: i64) {
        for _ in 0..=ms {
            self.settle();
            self.now_ms += 1;
        }
        self.now_ms -= 1;
    }

    /// Everything that happens at this millisecond.
    pub(super) fn settle(&mut self) {
        loop {
            let mut busy = false;
            let due = self.network.iter().position(|(at, _, to, _)| *at <= self.now_ms && !self.servers[to].frozen);
            if let Some((_, from, to, message)) = due.and_then(|i| self.network.remove(i)) {
                self.deliver(from, to, message);
                busy = true;
            }
            for id in (1..=3).map(NodeId) {
                busy |= self.disk(id);
                let now = self.now();
                let server = self.servers.get_mut(&id).expect("three servers");
                if server.frozen || server.wake_ns > now.mono_ns {
                    continue;
                }
                if let Some(node) = &mut server.node {
                    let ready = node.step(now, NodeInput::Tick);
                    self.take(id, ready);
                    let wake = self.servers[&id].wake_ns;
                    assert!(wake > now.mono_ns, "{id} wants to be woken at {wake} again and again");
                    busy = true;
                }
            }
            let due: Vec<String> = self
                .clients
                .iter()
                .filter(|(_, c)| c.wake_ns.is_some_and(|at| at <= self.now_ms * MS))
                .map(|(name, _)| name.clone())
                .collect();
            for name in due {
                self.client(&name, ClientInput::Tick);
                busy = true;
            }
            if !busy {
                return;
            }
        }
    }

    pub(super) fn disk(&mut self, id: NodeId) -> bool {
        let now = self.now();
        let server = self.servers.get_mut(&id).expect("three servers");
        if server.frozen || server.syncing.front().is_none_or(|s| s.at_ms > self.now_ms) {
            return false;
        }
        let done = server.syncing.pop_front().expect("looked at above");
        for (group, write) in done.writes {
            let log = server.logs.entry(group).or_default();
            match write {
                LogWrite::HardState(hard) => log.hard = hard,
                LogWrite::Entry(entry) => {
                    log.entries.insert(entry.slot, entry);
                }
                LogWrite::Truncate(slot) => log.entries.retain(|s, _| *s > slot),
                LogWrite::Clear => log.entries.clear(),
            }
        }
        let ready = server.node.as_mut().map(|node| node.step(now, NodeInput::Persisted(done.persist)));
        for (to, message) in done.messages {
            self.send(id, to, message);
        }
        if let Some(ready) = ready {
            self.take(id, ready);
        }
        true
    }

    pub(super) fn begin(&mut self, name: &str, node: NodeId, op: Op, input: Option<ClientInput>) {
        self.clients.insert(name.into(), Client { node, op, wake_ns: None, busy: input.is_some() });
        if let Some(input) = input {
            self.client(name, input);
        }
    }

    /// Lets an operation run until it ends, or for a while; says so if it waits.
    pub(super) fn finish(&mut self, name: &str) {
        for _ in 0..20 {
            if !self.clients.get(name).is_some_and(|c| c.busy) {
                return;
            }
            self.run(1);
            self.now_ms += 1;
        }
        if self.clients.get(name).is_some_and(|c| c.busy) {
            writeln!(self.out, "{} {name}: ...", self.now_ms).expect("a string");
        }
    }

    pub(super) fn inspect(&mut self, group: GroupId) -> Outcomes<Inspection> {
        let name = format!("inspect {group}");
        let node = *self.servers.iter().find(|(_, s)| s.node.is_some() && !s.cut).ok_or("all are down")?.0;
        let op = Op::Other(Box::new(GroupOp::new(group, RequestBody::Inspect, None)));
        self.begin(&name, node, op, Some(ClientInput::Tick));
        for _ in 0..500 {
            if let Some(found) = self.inspection.take() {
                self.clients.remove(&name);
                return Ok(found);
            }
            self.run(1);
            self.now_ms += 1;
        }
        Err("no answer".into())
    }

    pub(super) fn name(&self, txn: TxnId) -> String {
        self.names.get(&txn).cloned().unwrap_or_else(|| txn.to_string())
    }
}
