//! The test cluster: virtual time, a network with faults, disks that lose what was not synced.
//!
//! After every step of any node it checks what must hold for all of them together:
//! - each slot is handed out once, in order, and with the same value everywhere (I3, epoch rule);
//! - at most one running node has a leadership at any true time, and what other nodes used as leaders has
//!   passed by then (I5);
//! - no leader's floor is below a timestamp that a leader under another ballot has used.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use bytes::Bytes;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use truetime::Timestamp;

use super::node::{Node, SimClock, State};
use crate::{
    Ballot, Chosen, Configuration, Event, Input, Message, NodeId, Options, ProposeError, Ready, Replica, Slot,
};

/// How messages and syncs fare.
#[derive(Clone, Debug)]
pub struct Network {
    /// Of a thousand messages, so many are lost.
    pub lost_permille: u32,
    /// Of a thousand messages, so many arrive twice.
    pub doubled_permille: u32,
    /// How long a message takes.
    pub delay_ns: Range<i64>,
    /// How long a sync takes.
    pub sync_ns: Range<i64>,
}

/// Some messages: by sender, receiver and name, each if given.
#[derive(Clone, Debug, Default)]
pub struct Link {
    /// From this node only.
    pub from: Option<NodeId>,
    /// To this node only.
    pub to: Option<NodeId>,
    /// Of this [`Message::name`] only.
    pub name: Option<String>,
}

impl Link {
    fn matches(&self, from: NodeId, to: NodeId, message: &Message) -> bool {
        self.from.is_none_or(|node| node == from)
            && self.to.is_none_or(|node| node == to)
            && self.name.as_deref().is_none_or(|name| name == message.name())
    }
}

enum Happening {
    Arrives { from: NodeId, to: NodeId, bytes: Bytes },
    Synced { node: NodeId, incarnation: u64, persist: u64 },
    Snapshot { to: NodeId, state: State },
}

/// A cluster.
pub struct Cluster {
    /// The settings that nodes start with.
    pub options: Options,
    /// Entries kept below the durable applied index.
    pub keep_slots: u64,
    /// Who takes part.
    pub config: Configuration,
    /// The nodes.
    pub nodes: BTreeMap<NodeId, Node>,
    /// How messages and syncs fare.
    pub network: Network,
    /// Messages that are lost.
    pub drops: Vec<Link>,
    /// Messages that are kept back until [`Cluster::let_go`].
    pub holds: Vec<Link>,
    /// Snapshots that are asked for are sent.
    pub snapshots: bool,
    /// Leaders use timestamps, up to the very end of their leases.
    pub use_timestamps: bool,
    /// What happened, one line each, if wanted.
    pub trace: Vec<String>,
    /// Whether messages are traced too.
    pub trace_messages: bool,
    /// The randomness of the world; replicas have their own.
    pub rng: ChaCha8Rng,
    now_ns: i64,
    sequence: u64,
    queue: BTreeMap<(i64, u64), Happening>,
    held: Vec<(NodeId, NodeId, Bytes)>,
    truth: BTreeMap<Slot, Chosen>,
    used: BTreeMap<Ballot, Timestamp>,
    steps: u64,
}

/// True time when a cluster starts.
const START_NS: i64 = 10_000_000_000;

impl Cluster {
    /// A cluster of `voters` and, numbered after them, `learners`; all running.
    pub fn new(seed: u64, voters: u64, learners: u64, options: Options, epsilon_ns: i64) -> Cluster {
        let all = voters + learners;
        let clock = SimClock { offset_ns: 0, epsilon_ns, trusted: true };
        let mut cluster = Cluster {
            options,
            keep_slots: crate::learner::KEEP_SLOTS,
            config: Configuration {
                voters: (1..=voters).map(NodeId).collect(),
                learners: (voters + 1..=all).map(NodeId).collect(),
            },
            nodes: (1..=all).map(|id| (NodeId(id), Node::new(clock))).collect(),
            network: Network {
                lost_permille: 0,
                doubled_permille: 0,
                delay_ns: 1_000_000..1_000_001,
                sync_ns: 500_000..500_001,
            },
            drops: Vec::new(),
            holds: Vec::new(),
            snapshots: true,
            use_timestamps: false,
            trace: Vec::new(),
            trace_messages: false,
            rng: ChaCha8Rng::seed_from_u64(seed),
            now_ns: START_NS,
            sequence: 0,
            queue: BTreeMap::new(),
            held: Vec::new(),
            truth: BTreeMap::new(),
            used: BTreeMap::new(),
            steps: 0,
        };
        for id in cluster.ids() {
            cluster.start(id);
        }
        cluster
    }

    /// All nodes.
    pub fn ids(&self) -> Vec<NodeId> {
        self.nodes.keys().copied().collect()
    }

    /// True time, in nanoseconds since the epoch.
    pub fn now_ns(&self) -> i64 {
        self.now_ns
    }

    /// How many steps replicas have taken.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Every slot handed out anywhere.
    pub fn truth(&self) -> &BTreeMap<Slot, Chosen> {
        &self.truth
    }

    /// The largest timestamp used under a ballot.
    pub fn used(&self, ballot: Ballot) -> Option<Timestamp> {
        self.used.get(&ballot).copied()
    }

    /// A node; panics if there is none of this number.
    pub fn node(&mut self, id: NodeId) -> &mut Node {
        self.nodes.get_mut(&id).unwrap_or_else(|| panic!("there is no {id}"))
    }

    /// The running node with an established leadership, if any.
    pub fn leader(&self) -> Option<NodeId> {
        let leads = |node: &Node| match &node.replica {
            Some(replica) if !node.paused => replica.leadership(node.now(self.now_ns)).is_some_and(|l| l.established),
            _ => false,
        };
        self.nodes.iter().find(|(_, node)| leads(node)).map(|(id, _)| *id)
    }

    /// Lets `ns` of true time pass.
    pub fn run_for(&mut self, ns: i64) {
        let until_ns = self.now_ns + ns;
        while self.run_one(until_ns) {}
        self.now_ns = until_ns;
    }

    /// Lets true time pass until `done`, or `ns` at most; whether it was.
    pub fn run_until(&mut self, ns: i64, mut done: impl FnMut(&Cluster) -> bool) -> bool {
        let until_ns = self.now_ns + ns;
        while !done(self) {
            if !self.run_one(until_ns) {
                self.now_ns = until_ns;
                return done(self);
            }
        }
        true
    }

    fn run_one(&mut self, until_ns: i64) -> bool {
        let running = self.nodes.iter().filter(|(_, node)| node.replica.is_some() && !node.paused);
        let wake = running.filter_map(|(id, node)| node.wake_ns.map(|at_ns| (at_ns, *id))).min();
        let event = self.queue.first_key_value().map(|(key, _)| *key);
        match (wake, event) {
            (Some((at_ns, id)), event) if at_ns <= until_ns && event.is_none_or(|(event_ns, _)| at_ns < event_ns) => {
                self.now_ns = self.now_ns.max(at_ns);
                self.step(id, Input::Tick);
            }
            (_, Some(key)) if key.0 <= until_ns => {
                self.now_ns = self.now_ns.max(key.0);
                let happening = self.queue.remove(&key).expect("it was there");
                self.happen(happening);
            }
            _ => return false,
        }
        true
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Arrives { from, to, bytes } => {
                let message = Message::decode(bytes).expect("a message sent reads back");
                if self.trace_messages {
                    self.trace.push(format!("{from} -> {to} {message}"));
                }
                self.step(to, Input::Message { from, message });
            }
            Happening::Synced { node: id, incarnation, persist } => {
                let node = self.node(id);
                if node.incarnation != incarnation || node.disk.frozen {
                    return;
                }
                let messages = node.disk.sync(persist);
                for (to, message) in messages {
                    self.send(id, to, &message);
                }
                self.step(id, Input::Persisted(persist));
            }
            Happening::Snapshot { to, state } => {
                let config = self.config.clone();
                let node = self.node(to);
                if node.replica.is_none() || node.paused || state.last() <= node.state.last() {
                    return;
                }
                let (applied, epoch) = (state.last(), state.epoch());
                node.state = state.clone();
                node.durable = state;
                self.trace.push(format!("{to} installs a snapshot at {applied}"));
                self.step(to, Input::SnapshotInstalled { applied, epoch, config });
            }
        }
    }

    fn later(&mut self, delay_ns: Range<i64>, happening: Happening) {
        let at_ns = self.now_ns + self.rng.random_range(delay_ns);
        self.sequence += 1;
        self.queue.insert((at_ns, self.sequence), happening);
    }

    fn send(&mut self, from: NodeId, to: NodeId, message: &Message) {
        if self.drops.iter().any(|link| link.matches(from, to, message)) {
            return;
        }
        let bytes = message.encode();
        if self.holds.iter().any(|link| link.matches(from, to, message)) {
            self.held.push((from, to, bytes));
            return;
        }
        if self.rng.random_range(0..1000) < self.network.lost_permille {
            return;
        }
        let copies = if self.rng.random_range(0..1000) < self.network.doubled_permille { 2 } else { 1 };
        for _ in 0..copies {
            let delay_ns = self.network.delay_ns.clone();
            self.later(delay_ns, Happening::Arrives { from, to, bytes: bytes.clone() });
        }
    }

    /// Sends the messages that were kept back, last first if `backwards`, and keeps back no more.
    pub fn let_go(&mut self, backwards: bool) {
        self.holds.clear();
        let mut held = std::mem::take(&mut self.held);
        if backwards {
            held.reverse();
        }
        for (from, to, bytes) in held {
            let delay_ns = self.network.delay_ns.clone();
            self.later(delay_ns, Happening::Arrives { from, to, bytes });
        }
    }

    /// Gives an input to a node, and does what its `Ready` says.
    pub fn step(&mut self, id: NodeId, input: Input) {
        let now_ns = self.now_ns;
        let node = self.node(id);
        if node.paused {
            node.stalled.push_back(input);
            return;
        }
        let now = node.now(now_ns);
        let Some(replica) = &mut node.replica else { return };
        let ready = replica.step(now, input);
        self.steps += 1;
        self.obey(id, ready);
        self.check(id);
    }

    fn obey(&mut self, id: NodeId, ready: Ready) {
        let Ready { persist, writes, sync, messages, after_sync, chosen, events, wake_at_ns } = ready;
        let node = self.nodes.get_mut(&id).expect("it has just stepped");
        node.wake_ns = wake_at_ns;
        for chosen in chosen {
            assert_eq!(chosen.slot, node.state.last().next(), "{id} was handed slots out of order");
            let known = self.truth.entry(chosen.slot).or_insert_with(|| chosen.clone());
            assert_eq!(*known, chosen, "{id} was handed another value");
            self.trace.push(format!("{id} applies {chosen}"));
            node.state.applied.insert(chosen.slot, chosen);
        }
        if persist != 0 {
            node.disk.write(persist, writes, after_sync);
            if sync && !node.disk.frozen {
                let incarnation = node.incarnation;
                let delay_ns = self.network.sync_ns.clone();
                self.later(delay_ns, Happening::Synced { node: id, incarnation, persist });
            }
        } else {
            assert!(writes.is_empty() && after_sync.is_empty() && !sync, "effects without a number");
        }
        for (to, message) in messages {
            self.send(id, to, &message);
        }
        for event in events {
            self.trace.push(format!("{id} {event}"));
            match event {
                Event::NeedsSnapshot(to) if self.snapshots && self.nodes.contains_key(&to) => {
                    let state = self.nodes[&id].state.clone();
                    self.later(5_000_000..5_000_001, Happening::Snapshot { to, state });
                }
                Event::Leading(leadership) => {
                    for (ballot, used) in &self.used {
                        assert!(
                            *ballot == leadership.ballot || leadership.floor >= *used,
                            "{id}: {leadership:?} is below what {ballot} used: {used}"
                        );
                    }
                }
                _ => {}
            }
        }
    }

    /// What must hold between nodes.
    fn check(&mut self, id: NodeId) {
        let now_ns = self.now_ns;
        let of = |(id, node): (&NodeId, &Node)| match &node.replica {
            Some(replica) if !node.paused => replica.leadership(node.now(now_ns)).map(|l| (*id, l)),
            _ => None,
        };
        let leaders: Vec<_> = self.nodes.iter().filter_map(of).collect();
        assert!(leaders.len() <= 1, "two leases at {now_ns}: {leaders:?}");
        let Some((leader, leadership)) = leaders.first().copied() else { return };
        for (ballot, used) in &self.used {
            // Its own earlier timestamps need not have passed, after a restart: its floor is above them.
            let passed = ballot.node == leader || used.as_nanos() <= now_ns;
            assert!(passed, "{leader} leads at {now_ns} though {ballot} used {used}");
        }
        if self.use_timestamps && leader == id && leadership.established {
            let latest = self.nodes[&id].now(now_ns).tt.latest;
            let last = leadership.lease_end.prev();
            let used = if self.rng.random_bool(0.01) { last } else { latest.max(leadership.floor.next()) };
            if used < leadership.lease_end && used > leadership.floor {
                let before = self.used.entry(leadership.ballot).or_insert(used);
                *before = used.max(*before);
            }
        }
    }

    /// Proposes on a node, and lets it send at once.
    pub fn propose(&mut self, id: NodeId, command: &str) -> Result<Slot, ProposeError> {
        let slot = self.queue_proposal(id, command)?;
        self.step(id, Input::Tick);
        Ok(slot)
    }

    /// Proposes on a node; it goes out with the node's next step.
    pub fn queue_proposal(&mut self, id: NodeId, command: &str) -> Result<Slot, ProposeError> {
        let now_ns = self.now_ns;
        let node = self.node(id);
        let now = node.now(now_ns);
        match &mut node.replica {
            Some(replica) if !node.paused => replica.propose(now, Bytes::copy_from_slice(command.as_bytes())),
            _ => Err(ProposeError::NotLeader(None)),
        }
    }

    /// Hands leadership over, naming the largest timestamp used.
    pub fn hand_over(&mut self, id: NodeId, to: Option<NodeId>) {
        let now_ns = self.now_ns;
        let node = self.node(id);
        let latest = node.now(now_ns).tt.latest;
        let ballot = node.replica.as_ref().map(|replica| replica.hard().promised);
        let used = ballot.and_then(|ballot| self.used(ballot)).map_or(latest, |used| used.max(latest));
        self.step(id, Input::HandOver { to, used });
    }

    /// Messages between the two are lost, both ways.
    pub fn cut(&mut self, a: NodeId, b: NodeId) {
        for (from, to) in [(a, b), (b, a)] {
            self.drops.push(Link { from: Some(from), to: Some(to), name: None });
        }
    }

    /// Messages between this node and all others are lost, both ways.
    pub fn isolate(&mut self, id: NodeId) {
        self.drops.push(Link { from: Some(id), ..Link::default() });
        self.drops.push(Link { to: Some(id), ..Link::default() });
    }

    /// No message is lost on purpose any more.
    pub fn heal(&mut self) {
        self.drops.clear();
    }

    /// Starts a node from what its disk holds.
    pub fn start(&mut self, id: NodeId) {
        let (now_ns, options, keep_slots, seed) =
            (self.now_ns, self.options.clone(), self.keep_slots, self.rng.random());
        let config = self.config.clone();
        let node = self.node(id);
        assert!(node.replica.is_none(), "{id} runs already");
        node.state = node.durable.clone();
        node.paused = false;
        let (now, restored) = (node.now(now_ns), node.restored(&config));
        let mut replica = Replica::new(id, options, restored, now, ChaCha8Rng::seed_from_u64(seed));
        replica.set_keep_slots(keep_slots);
        node.replica = Some(replica);
        node.wake_ns = Some(now_ns);
    }

    /// Kills a node; of what it wrote and did not sync, the first `survive` batches are found again.
    pub fn crash(&mut self, id: NodeId, survive: usize) {
        let node = self.node(id);
        node.replica = None;
        node.wake_ns = None;
        node.incarnation += 1;
        node.stalled.clear();
        node.disk.crash(survive);
    }

    /// Stops a node, as a debugger would.
    pub fn pause(&mut self, id: NodeId) {
        self.node(id).paused = true;
    }

    /// Lets a stopped node go on, with all that has come in the meantime.
    pub fn resume(&mut self, id: NodeId) {
        let node = self.node(id);
        node.paused = false;
        let stalled = std::mem::take(&mut node.stalled);
        for input in stalled {
            self.step(id, input);
        }
    }

    /// Lets the syncs of a frozen disk finish.
    pub fn thaw(&mut self, id: NodeId) {
        let node = self.node(id);
        node.disk.frozen = false;
        let incarnation = node.incarnation;
        if let Some(persist) = node.disk.unsynced_last() {
            let delay_ns = self.network.sync_ns.clone();
            self.later(delay_ns, Happening::Synced { node: id, incarnation, persist });
        }
    }

    /// Makes the applied state of a node durable, so that it may truncate its log.
    pub fn make_durable(&mut self, id: NodeId) {
        let node = self.node(id);
        if node.replica.is_none() || node.paused {
            return;
        }
        node.durable = node.state.clone();
        let applied = node.durable.last();
        self.step(id, Input::AppliedDurable(applied));
    }

    /// Which nodes run.
    pub fn running(&self) -> BTreeSet<NodeId> {
        self.nodes.iter().filter(|(_, node)| node.replica.is_some()).map(|(id, _)| *id).collect()
    }
}
