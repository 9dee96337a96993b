//! Runs the golden scripts in `testscripts/cluster/`: three nodes with two groups (`g1` up to key m,
//! `g2` from there), a perfect network of 1 ms, disks that sync in 1 ms, clocks with an epsilon of
//! 2 ms and a lease of 500 ms.
//!
//! Commands (times in milliseconds since the start; `SPAN` is a key or `a..c`):
//!
//! ```text
//! begin TXN [node=N]              a read-write transaction; the order of begins is that of age
//! read TXN SPAN... [lock=x]       locks and reads; `...` if it waits
//! put TXN K=V...                  buffers writes
//! commit TXN     rollback TXN
//! snapshot SPAN... [node=N] [at=MS]    without `at`: a strong read
//! drop                            forgets every gateway operation that waits: its gateway is gone
//! status TXN group=G [node=N]     how did it end?
//! split at=KEY group=G leader=N
//! hand-over group=G to=N
//! run MS                          time passes; prints what ended meanwhile
//! crash N   restart N   freeze N   thaw N   cut N   heal
//! lose KIND [group=G]             drops messages of a kind from now on: decided, prepared, reply
//! groups    locks [group=G]    txns [group=G]    versions K [node=N]    equal
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::error::Error;
use std::fmt::Write as _;

use goldenscript::{ArgumentConsumer, Command};
use paxos::{GroupId, NodeId, Write as LogWrite};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use truetime::{Interval, Now, Timestamp};

use crate::api::{Inspection, ReadOp, Reply, RequestBody, TxnStatus};
use crate::client::{
    ClientError, ClientInput, ClientReady, Gateway, GatewayOptions, GroupOp, Operation, Outcome, ReadWrite,
    SnapshotRead, StatusQuery,
};
use crate::message::{NodeMessage, TwoPhase};
use crate::node::Node;
use crate::ready::{GroupLog, NodeInput, NodeOptions, NodeReady, Outgoing};
use crate::testing::MemoryStore;
use crate::types::{Key, LockMode, Mutation, RangeDescriptor, Span, TxnId};

type Outcomes<T> = Result<T, Box<dyn Error>>;

const MS: i64 = 1_000_000;
const EPSILON_MS: i64 = 2;
/// The start of the script, so that timestamps are not near zero.
const EPOCH_MS: i64 = 100_000;

struct Server {
    node: Option<Node<MemoryStore>>,
    /// What a crash leaves: the store, and the synced log.
    store: Option<MemoryStore>,
    logs: BTreeMap<GroupId, GroupLog>,
    /// Batches on their way to the disk: when done, number, writes, messages that wait.
    syncing: VecDeque<Syncing>,
    gateway: Gateway,
    frozen: bool,
    cut: bool,
    wake_ns: i64,
    rng: u64,
}

struct Syncing {
    at_ms: i64,
    persist: u64,
    writes: Vec<(GroupId, LogWrite)>,
    messages: Vec<(NodeId, NodeMessage)>,
}

enum Op {
    Txn(Box<ReadWrite>),
    Other(Box<dyn Operation>),
}

struct Client {
    node: NodeId,
    op: Op,
    wake_ns: Option<i64>,
    busy: bool,
}

struct World {
    now_ms: i64,
    servers: BTreeMap<NodeId, Server>,
    network: VecDeque<(i64, NodeId, NodeId, NodeMessage)>,
    clients: BTreeMap<String, Client>,
    names: BTreeMap<TxnId, String>,
    lost: BTreeSet<String>,
    reads: u32,
    inspection: Option<Inspection>,
    out: String,
}

fn options(id: NodeId) -> NodeOptions {
    let mut options = NodeOptions::new(id, (1..=3).map(NodeId).collect(), 500 * MS);
    let range = |group, start: &'static str, end: &'static str, leader| {
        let span = Span::new(start.as_bytes(), end.as_bytes());
        (RangeDescriptor { group: GroupId(group), span, epoch: 1 }, NodeId(leader))
    };
    options.bootstrap = vec![range(1, "", "m", 1), range(2, "m", "", 2)];
    options.txn_idle_ns = 2_000 * MS;
    options
}

impl World {
    fn new() -> World {
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

    fn now(&self) -> Now {
        let at = Timestamp::from_nanos((EPOCH_MS + self.now_ms) * MS);
        Now { tt: Interval::around(at, EPSILON_MS * MS), mono_ns: self.now_ms * MS, trusted: true }
    }

    fn start(&mut self, id: NodeId) {
        let now = self.now();
        let server = self.servers.get_mut(&id).expect("three servers");
        server.rng += 1;
        let rng = ChaCha8Rng::seed_from_u64(id.0 * 1000 + server.rng);
        let store = server.store.take().expect("it is down");
        let (node, ready) = Node::new(options(id), store, server.logs.clone(), now, rng).expect("the store is sound");
        server.node = Some(node);
        self.take(id, ready);
    }

    fn crash(&mut self, id: NodeId) {
        let server = self.servers.get_mut(&id).expect("three servers");
        let Some(mut node) = server.node.take() else { return };
        node.store_mut().crash(0);
        server.store = Some(node.store().clone());
        server.syncing.clear();
        server.frozen = false;
        self.network.retain(|(_, _, to, _)| *to != id);
    }

    /// Does what a step asks for.
    fn take(&mut self, id: NodeId, ready: NodeReady) {
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

    fn flush(&mut self, id: NodeId) {
        let now = self.now();
        let server = self.servers.get_mut(&id).expect("three servers");
        let Some(node) = &mut server.node else { return };
        let applied = node.applied();
        node.store_mut().flush();
        let ready = node.step(now, NodeInput::StateDurable(applied));
        self.take(id, ready);
    }

    fn send(&mut self, from: NodeId, to: NodeId, message: NodeMessage) {
        let kind = match &message {
            NodeMessage::TwoPhase { body: TwoPhase::Decided { .. }, .. } => "decided",
            NodeMessage::TwoPhase { body: TwoPhase::Prepared { .. }, .. } => "prepared",
            NodeMessage::Reply { .. } => "reply",
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

    fn reply(&mut self, from: NodeId, outgoing: Outgoing, now: Now) {
        let to = outgoing.to;
        if self.lost.contains("reply") {
            return;
        }
        let message = outgoing.seal(now);
        self.send(from, to, message);
    }

    fn deliver(&mut self, from: NodeId, to: NodeId, message: NodeMessage) {
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

    fn client(&mut self, name: &str, input: ClientInput) {
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

    fn run(&mut self, ms: i64) {
        for _ in 0..=ms {
            self.settle();
            self.now_ms += 1;
        }
        self.now_ms -= 1;
    }

    /// Everything that happens at this millisecond.
    fn settle(&mut self) {
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

    fn disk(&mut self, id: NodeId) -> bool {
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

    fn begin(&mut self, name: &str, node: NodeId, op: Op, input: Option<ClientInput>) {
        self.clients.insert(name.into(), Client { node, op, wake_ns: None, busy: input.is_some() });
        if let Some(input) = input {
            self.client(name, input);
        }
    }

    /// Lets an operation run until it ends, or for a while; says so if it waits.
    fn finish(&mut self, name: &str) {
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

    fn inspect(&mut self, group: GroupId) -> Outcomes<Inspection> {
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

    fn name(&self, txn: TxnId) -> String {
        self.names.get(&txn).cloned().unwrap_or_else(|| txn.to_string())
    }
}

fn at_ms(ts: Timestamp) -> String {
    format!("{}", ts.as_nanos() / MS - EPOCH_MS)
}

fn show_span(span: &Span) -> String {
    let text = |k: &Key| String::from_utf8_lossy(k).into_owned();
    if span.is_point() { text(&span.start) } else { format!("{}..{}", text(&span.start), text(&span.end)) }
}

fn show(outcome: Outcome) -> String {
    match outcome {
        Outcome::Rows { results, .. } => {
            let rows: Vec<String> = results
                .iter()
                .flat_map(|r| &r.rows)
                .map(|r| format!("{}={}", String::from_utf8_lossy(&r.key), String::from_utf8_lossy(&r.value)))
                .collect();
            format!("[{}]", rows.join(" "))
        }
        Outcome::Committed(report) => match report.commit_ts {
            Some(ts) => format!(
                "committed at {} by {:?}",
                at_ms(ts),
                report.participants.iter().map(|g| g.0).collect::<Vec<_>>()
            ),
            None => "committed without a timestamp".into(),
        },
        Outcome::RolledBack => "rolled back".into(),
        Outcome::Status(TxnStatus::Committed(ts)) => format!("it committed at {}", at_ms(ts)),
        Outcome::Status(TxnStatus::Aborted) => "it is aborted".into(),
        Outcome::Status(TxnStatus::Unknown) => "not known".into(),
        Outcome::Reply(reply) => format!("{reply:?}"),
        Outcome::Failed(ClientError::TooOld { earliest }) => format!("too old: the earliest is {}", at_ms(earliest)),
        Outcome::Failed(ClientError::Ambiguous { coordinator, .. }) => format!("ambiguous: ask {coordinator}"),
        Outcome::Failed(e) => format!("failed: {e}"),
    }
}

fn parse_span(text: &str) -> Span {
    match text.split_once("..") {
        Some((start, end)) => Span::new(start.as_bytes().to_vec(), end.as_bytes().to_vec()),
        None => Span::point(text.as_bytes().to_vec()),
    }
}

fn ops(args: &mut ArgumentConsumer<'_>) -> Vec<ReadOp> {
    let mut ops = Vec::new();
    while let Some(text) = args.next_pos() {
        ops.push(ReadOp { span: parse_span(text), reverse: false, limit: 0 });
    }
    ops
}

fn node_of(args: &mut ArgumentConsumer<'_>) -> Outcomes<NodeId> {
    Ok(NodeId(args.take_key("node").map_or(Ok(1), str::parse)?))
}

fn pos<'a>(args: &mut ArgumentConsumer<'a>) -> Outcomes<&'a str> {
    args.next_pos().ok_or_else(|| "an argument is missing".into())
}

impl goldenscript::Runner for World {
    type Command = Command;

    fn run(&mut self, command: &Command, _context: &goldenscript::Context) -> Outcomes<String> {
        let mut args = command.consume_args();
        match command.name.as_str() {
            "begin" => {
                let node = node_of(&mut args)?;
                let name = pos(&mut args)?;
                self.now_ms += 1;
                let now = self.now();
                let gateway = &mut self.servers.get_mut(&node).ok_or("no such node")?.gateway;
                let (id, priority) = gateway.begin(now);
                self.names.insert(id, name.into());
                self.begin(name, node, Op::Txn(Box::new(ReadWrite::new(id, priority))), None);
            }
            "read" | "put" | "commit" | "rollback" => {
                let mode = match args.take_key("lock") {
                    Some(_) => LockMode::Exclusive,
                    None => LockMode::Shared,
                };
                let name = pos(&mut args)?;
                let client = self.clients.get_mut(name).ok_or("no such transaction")?;
                let input = match command.name.as_str() {
                    "put" => {
                        let Op::Txn(txn) = &mut client.op else { return Err("no transaction".into()) };
                        let mut writes = Vec::new();
                        while let Some((key, value)) = args.next_key() {
                            let value = (value != "-").then(|| value.as_bytes().to_vec().into());
                            writes.push(Mutation { key: key.as_bytes().to_vec().into(), value });
                        }
                        txn.buffer(writes)?;
                        args.reject_next()?;
                        return Ok(String::new());
                    }
                    "read" => ClientInput::Read { ops: ops(&mut args), mode },
                    "commit" => ClientInput::Commit,
                    _ => ClientInput::Rollback,
                };
                client.busy = true;
                self.client(name, input);
                self.finish(name);
            }
            "snapshot" => {
                let node = node_of(&mut args)?;
                let at = args.take_key("at").map(str::parse::<i64>).transpose()?;
                let at = at.map(|ms| Timestamp::from_nanos((EPOCH_MS + ms + 1) * MS - 1));
                self.reads += 1;
                let name = format!("read{}", self.reads);
                let op = SnapshotRead::new(ops(&mut args), at, node);
                self.begin(&name, node, Op::Other(Box::new(op)), Some(ClientInput::Tick));
                self.finish(&name);
            }
            "drop" => self.clients.clear(),
            "status" => {
                let node = node_of(&mut args)?;
                let group = GroupId(args.take_key("group").ok_or("which group?")?.parse()?);
                let name = pos(&mut args)?;
                let txn = *self.names.iter().find(|(_, n)| *n == name).ok_or("no such transaction")?.0;
                let op = Op::Other(Box::new(StatusQuery::new(txn, group)));
                self.begin(&format!("status of {name}"), node, op, Some(ClientInput::Tick));
                self.finish(&format!("status of {name}"));
            }
            "split" | "hand-over" => {
                let body = if command.name == "split" {
                    let at = args.take_key("at").ok_or("where?")?.as_bytes().to_vec().into();
                    let new_group = GroupId(args.take_key("new").ok_or("which?")?.parse()?);
                    RequestBody::Split {
                        at,
                        new_group,
                        leader: NodeId(args.take_key("leader").ok_or("who?")?.parse()?),
                    }
                } else {
                    let to = args.take_key("to").map(str::parse).transpose()?.map(NodeId);
                    RequestBody::HandOver { to }
                };
                let group = GroupId(args.take_key("group").ok_or("which group?")?.parse()?);
                let op = Op::Other(Box::new(GroupOp::new(group, body, None)));
                self.begin(&command.name, NodeId(1), op, Some(ClientInput::Tick));
                self.finish(&command.name);
            }
            "run" => {
                let ms = pos(&mut args)?.parse()?;
                self.run(ms);
                self.now_ms += 1;
            }
            "crash" => self.crash(NodeId(pos(&mut args)?.parse()?)),
            "restart" => self.start(NodeId(pos(&mut args)?.parse()?)),
            "freeze" | "thaw" | "cut" => {
                let id = NodeId(pos(&mut args)?.parse()?);
                let server = self.servers.get_mut(&id).ok_or("no such node")?;
                match command.name.as_str() {
                    "cut" => server.cut = true,
                    other => server.frozen = other == "freeze",
                }
            }
            "heal" => {
                self.servers.values_mut().for_each(|s| s.cut = false);
                self.lost.clear();
            }
            "lose" => {
                self.lost.insert(pos(&mut args)?.into());
            }
            "flush" => {
                for id in (1..=3).map(NodeId) {
                    self.flush(id);
                }
            }
            "groups" => {
                let now = self.now();
                for (id, server) in &self.servers {
                    let Some(node) = &server.node else {
                        writeln!(self.out, "{id} is down")?;
                        continue;
                    };
                    for g in node.status(now) {
                        if g.lease_end.is_some() {
                            writeln!(self.out, "{} {} led by {id}", g.range.group, show_span(&g.range.span))?;
                        }
                    }
                }
            }
            "locks" | "txns" => {
                let group = GroupId(args.take_key("group").map_or(Ok(1), str::parse)?);
                let inspection = self.inspect(group)?;
                if command.name == "locks" {
                    for l in inspection.locks {
                        let held = if l.held { "holds" } else { "waits for" };
                        writeln!(self.out, "{} {held} {:?} {}", self.name(l.txn), l.mode, show_span(&l.span))?;
                    }
                } else {
                    for t in inspection.txns {
                        writeln!(self.out, "{} {}", self.name(t.txn), t.state)?;
                    }
                }
            }
            "equal" => {
                for group in self.servers[&NodeId(1)].node.as_ref().ok_or("n1 is down")?.applied() {
                    let hashes: BTreeSet<u64> =
                        self.servers.values().filter_map(|s| s.node.as_ref()?.checksum(group.0)?.ok()).collect();
                    let all = if hashes.len() == 1 { "equal" } else { "NOT equal" };
                    writeln!(self.out, "replicas of {} are {all}", group.0)?;
                }
            }
            other => return Err(format!("unknown command {other}").into()),
        }
        args.reject_next()?;
        Ok(std::mem::take(&mut self.out))
    }
}

#[test]
fn scripts() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("testscripts/cluster");
    let mut count = 0;
    let entries = std::fs::read_dir(folder).expect("testscripts/cluster");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    for path in paths {
        goldenscript::run(&mut World::new(), &path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        count += 1;
    }
    assert!(count >= 10, "only {count} scripts were found");
}
