//! The world: one heap of events in one thread, ordered by time and then by the order of their
//! making. Everything that happens to the nodes comes out of it, and all that is random in it is
//! drawn from the run's seed: the same seed is the same run, event for event.
//!
//! ```text
//!   clients --calls--> desks (gateways) --requests--> +-------+ --messages--> network --> nodes
//!      ^                 |    ^                       | nodes | --log writes-> disk ----> nodes
//!      +----answers------+    +------replies----------+-------+ --wake-up----> clock ---> nodes
//!                                    nemesis: kills, cuts, stops, skews any of these
//! ```
//!
//! A run has four acts: faults; then the cluster is healed and the load goes on for a while; then
//! clients finish what they have begun, and everything is read once more through every node; then
//! all must come to rest. What never comes to rest is a failure of liveness.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};

use bytes::Bytes;
use paxos::{GroupId, NodeId};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use txn::{NodeInput, Reply, TxnId};

use crate::aimed::Aims;
use crate::beyond::{Beyond, Turn};
use crate::canary::Canary;
use crate::chosen::ChosenLogs;
use crate::clients::{Actor, Answer, Call, Client, Shared, final_reads};
use crate::counters::Counters;
use crate::excuses::Lies;
use crate::fencing::Stamp;
use crate::history::History;
use crate::network::Network;
use crate::observe::Observer;
use crate::overrides::Overrides;
use crate::plan::{self, Plan, Pool, When};
use crate::rng::{Purpose, stream};
use crate::server::{Parcel, Process, Server};
use crate::sql::client::{SqlClient, final_audit};
use crate::sql::host::SqlCall;
use crate::sql::programs::{self, Book, Program};
use crate::storms::Sequel;
use crate::swarm::Swarm;
use crate::trace::{Happened, Trace};

/// A request number that belongs to the world itself and not to a gateway.
pub const WORLD_REQUEST: u64 = 1 << 63;
/// The first number of an SQL client, and that of the last.
const SQL_CLIENTS: u64 = 1_000;
const SQL_AUDITOR: u64 = 1_999;
/// How often the world looks at all nodes.
const SAMPLE_NS: i64 = 10_000_000;
/// So many events without an end are a loop.
const EVENTS_MAX: u64 = 30_000_000;

/// Something that is to happen.
#[derive(Debug)]
pub enum Event {
    /// A message arrives.
    Deliver { from: NodeId, to: NodeId, bytes: Bytes },
    /// What a node made leaves it.
    Depart { node: NodeId, incarnation: u64, parcels: Vec<Parcel> },
    /// A node wanted to be called.
    Tick { node: NodeId, incarnation: u64 },
    /// A gateway wanted to be called.
    DeskTick { node: NodeId, incarnation: u64 },
    /// A log sync ends.
    Synced { node: NodeId, incarnation: u64 },
    /// A flush of the state store begins.
    Flush { node: NodeId, incarnation: u64 },
    /// A flush of the state store ends.
    Flushed { node: NodeId, incarnation: u64 },
    /// A client's call reaches its gateway.
    Call { node: NodeId, incarnation: u64, client: u64, seq: u64, call: Call },
    /// A client has hung up.
    HangUp { node: NodeId, incarnation: u64, client: u64 },
    /// An answer reaches a client.
    Answer { client: u64, seq: u64, answer: Answer },
    /// A client waits no longer for an answer.
    GiveUp { client: u64, seq: u64 },
    /// A client's pause is over.
    Wake { client: u64 },
    /// Another fault.
    Nemesis,
    /// A node starts.
    Start { node: NodeId },
    /// A stopped process goes on.
    Resume { node: NodeId, pause: u64 },
    /// Cut links work again.
    Mend { links: Vec<(NodeId, NodeId)> },
    /// A clock is trusted again.
    Trust { node: NodeId },
    /// A process that was asked to stop has had its time.
    StopNow { node: NodeId, incarnation: u64 },
    /// More of a fault.
    Sequel(Sequel),
    /// A clock leaves its bound, or comes back.
    Turn(Turn),
    /// The clock that came with a message is compared.
    Heard { from: NodeId, to: NodeId, stamp: Stamp },
    /// A node judges its clock, and tells it to all.
    Pulse { node: NodeId, incarnation: u64 },
    /// Faults end.
    Heal,
    /// Clients begin nothing new.
    Close,
    /// Look at everyone.
    Sample,
}

impl Event {
    /// The process without which it cannot happen, if there is one.
    fn process(&self) -> Option<(NodeId, Option<u64>)> {
        match self {
            Event::Deliver { to, .. } | Event::Heard { to, .. } => Some((*to, None)),
            Event::Depart { node, incarnation, .. }
            | Event::Tick { node, incarnation }
            | Event::Pulse { node, incarnation }
            | Event::DeskTick { node, incarnation }
            | Event::Synced { node, incarnation }
            | Event::Flush { node, incarnation }
            | Event::Flushed { node, incarnation }
            | Event::Call { node, incarnation, .. }
            | Event::HangUp { node, incarnation, .. } => Some((*node, Some(*incarnation))),
            _ => None,
        }
    }
}

/// What is to happen, by time and then by the order of its making. The heap moves its entries about
/// a lot, so it holds only where the events are.
#[derive(Default)]
struct Agenda {
    heap: BinaryHeap<Reverse<(i64, u64, usize)>>,
    events: Vec<Option<Event>>,
    free: Vec<usize>,
    next_seq: u64,
}

impl Agenda {
    fn push(&mut self, at: i64, event: Event) {
        let place = self.free.pop().unwrap_or(self.events.len());
        if place == self.events.len() {
            self.events.push(None);
        }
        self.events[place] = Some(event);
        self.heap.push(Reverse((at, self.next_seq, place)));
        self.next_seq += 1;
    }

    fn pop(&mut self) -> Option<(i64, Event)> {
        let Reverse((at, _, place)) = self.heap.pop()?;
        self.free.push(place);
        Some((at, self.events[place].take().expect("each place is in the heap once")))
    }
}

/// A client and its connection.
pub(crate) struct Seat {
    pub client: Box<dyn Actor>,
    /// The call under way, and the process that has it.
    pub seq: u64,
    pub waiting: Option<(NodeId, u64)>,
}

/// Which act the run is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Load,
    Closing,
    Reading,
    ReadingAgain,
    Resting,
    Done,
}

/// A whole run.
pub struct World {
    pub(crate) seed: u64,
    /// Its settings.
    pub swarm: Swarm,
    pub(crate) now: i64,
    agenda: Agenda,
    /// What happened.
    pub trace: Trace,
    pub(crate) network: Network,
    pub(crate) servers: BTreeMap<NodeId, Server>,
    pub(crate) seats: BTreeMap<u64, Seat>,
    /// What the clients share.
    pub shared: Shared,
    pub(crate) nemesis: ChaCha8Rng,
    pub(crate) rng: ChaCha8Rng,
    /// Draws which calls have a deadline that they will hardly meet.
    pub(crate) hurry: ChaCha8Rng,
    stage: Stage,
    pub(crate) healed: bool,
    /// Which group decides a transaction: whoever sends a commit tells its client that much.
    pub(crate) coordinators: BTreeMap<TxnId, GroupId>,
    /// Transactions said to be aborted because their commit was never sent: it must never be.
    pub(crate) buried: BTreeSet<TxnId>,
    /// Each SQL client's last call, the last one of its calls that began a transaction, and that.
    pub(crate) sql_last: BTreeMap<u64, u64>,
    pub(crate) sql_begun: BTreeMap<u64, (u64, TxnId)>,
    /// SQL calls whose ending their clients were told: they must not begin anything after that.
    pub(crate) sql_buried: BTreeSet<(u64, u64)>,
    pub(crate) next_group: u64,
    pub(crate) next_world_request: u64,
    /// Answers to the world's own requests.
    pub(crate) world_replies: BTreeMap<u64, Reply>,
    pub(crate) observer: Observer,
    pub(crate) chosen: ChosenLogs,
    pub(crate) aims: Aims,
}

impl World {
    /// The cluster of a seed, about to start.
    pub fn new(seed: u64, canary: Option<Canary>, verbose: bool, overrides: &Overrides) -> World {
        let mut swarm = Swarm::draw(seed, canary);
        overrides.apply(&mut swarm);
        if overrides.beyond && swarm.beyond.is_none() {
            swarm.beyond = Some(Beyond::draw(seed, &swarm));
        }
        let nodes: Vec<NodeId> = swarm.node_ids().collect();
        let shared = Shared {
            history: History::default(),
            sql: Book::new(swarm.sql_mix.clone()),
            pool: Pool::new(swarm.keys),
            counters: Counters::default(),
            lies: Lies::default(),
            mix: swarm.mix.clone(),
            think_max_ns: swarm.think_max_ns,
            deadline_max_ns: swarm.deadline_max_ns,
            nodes: nodes.clone(),
            plans_left: swarm.plans_max,
            closing: false,
            failure: None,
        };
        let mut world = World {
            seed,
            now: 0,
            agenda: Agenda::default(),
            trace: Trace::new(verbose),
            network: Network::new(swarm.network.clone(), seed),
            servers: nodes.iter().map(|id| (*id, Server::new(*id, seed, &swarm))).collect(),
            seats: BTreeMap::new(),
            shared,
            nemesis: stream(seed, 0, Purpose::Nemesis, 0),
            rng: stream(seed, 0, Purpose::World, 0),
            hurry: stream(seed, 0, Purpose::World, 1),
            stage: Stage::Load,
            healed: false,
            coordinators: BTreeMap::new(),
            buried: BTreeSet::new(),
            sql_last: BTreeMap::new(),
            sql_begun: BTreeMap::new(),
            sql_buried: BTreeSet::new(),
            next_group: swarm.bootstrap.len() as u64,
            next_world_request: WORLD_REQUEST,
            world_replies: BTreeMap::new(),
            observer: Observer::default(),
            chosen: ChosenLogs::default(),
            aims: Aims::new(swarm.aims.clone(), swarm.aims_every_ns, seed),
            swarm,
        };
        for node in nodes {
            let delay = world.rng.random_range(0..50_000_000);
            world.after(delay, Event::Start { node });
        }
        for id in 0..world.swarm.clients {
            let agenda = if id == 0 { vec![plan::setup()] } else { Vec::new() };
            world.seat(id, agenda, true);
        }
        for id in 0..world.swarm.sql_clients {
            let agenda = if id == 0 { programs::setup(world.swarm.schema) } else { VecDeque::new() };
            world.seat_sql(SQL_CLIENTS + id, agenda, true);
        }
        if !world.swarm.faults.is_empty() {
            let first = world.swarm.lease_ns + world.nemesis.random_range(0..1_000_000_000);
            world.after(first, Event::Nemesis);
        }
        world.plan_lies();
        world.after(world.swarm.faults_until, Event::Heal);
        world.after(world.swarm.load_until, Event::Close);
        world.after(SAMPLE_NS, Event::Sample);
        world
    }

    fn seat(&mut self, id: u64, agenda: Vec<Plan>, draws: bool) {
        let mut rng = stream(self.seed, 0, Purpose::Client, id);
        let gateway = self.present_or_next(1 + rng.random_range(0..self.swarm.nodes));
        let client = Client::new(id, gateway, agenda, draws, rng, stream(self.seed, 1, Purpose::Client, id));
        self.sit(id, Box::new(client));
    }

    fn seat_sql(&mut self, id: u64, agenda: VecDeque<Program>, draws: bool) {
        let mut rng = stream(self.seed, 0, Purpose::Client, id);
        let gateway = self.present_or_next(1 + rng.random_range(0..self.swarm.nodes));
        self.sit(id, Box::new(SqlClient::new(id, gateway, agenda, draws, rng)));
    }

    fn sit(&mut self, id: u64, client: Box<dyn Actor>) {
        self.seats.insert(id, Seat { client, seq: 0, waiting: None });
        let delay = self.rng.random_range(60_000_000..160_000_000);
        self.after(delay, Event::Wake { client: id });
    }

    /// Lets it all happen. True if it came to an end, and nothing was wrong on the way; the rest
    /// is the checker's.
    pub fn run(&mut self) -> Result<(), String> {
        while self.stage != Stage::Done {
            let Some((at, event)) = self.agenda.pop() else { return Err("liveness: the world stands still".into()) };
            assert!(at >= self.now, "time runs backwards");
            self.now = at;
            if self.now > self.swarm.rest_by || self.trace.events > EVENTS_MAX {
                return Err(self.what_does_not_end());
            }
            self.happen(event);
            if let Some(failure) = self.shared.failure.take() {
                return Err(failure);
            }
        }
        Ok(())
    }

    /// How long the run was, in simulated nanoseconds.
    pub fn elapsed_ns(&self) -> i64 {
        self.now
    }

    pub(crate) fn fail(&mut self, why: String) {
        self.shared.failure.get_or_insert(why);
    }

    pub(crate) fn note(&mut self, text: String) {
        self.trace.record(self.now, Happened::Other(text));
    }

    pub(crate) fn at(&mut self, at: i64, event: Event) {
        self.agenda.push(at.max(self.now), event);
    }

    pub(crate) fn after(&mut self, ns: i64, event: Event) {
        self.at(self.now.saturating_add(ns), event);
    }

    pub(crate) fn happen(&mut self, event: Event) {
        if let Some((node, incarnation)) = event.process() {
            let server = self.servers.get_mut(&node).expect("every node has a server");
            let same = incarnation.is_none_or(|i| i == server.incarnation);
            if server.process.is_none() || !same {
                if let Event::Call { client, seq, .. } = event {
                    self.after(100_000, Event::Answer { client, seq, answer: Answer::Broken });
                }
                return;
            }
            if let Some(deferred) = &mut server.deferred {
                deferred.push(event);
                return;
            }
        }
        match event {
            Event::Deliver { from, to, bytes } => self.arrive(from, to, bytes),
            Event::Depart { node, parcels, .. } => self.depart(node, parcels),
            Event::Tick { node, .. } => {
                let process = self.process(node);
                if process.tick_at.is_some_and(|at| at <= self.now) {
                    self.process(node).tick_at = None;
                    self.step(node, NodeInput::Tick);
                }
            }
            Event::DeskTick { node, .. } => {
                if self.process(node).desk_tick_at.is_some_and(|at| at <= self.now) {
                    self.process(node).desk_tick_at = None;
                    self.with_desk(node, |desk, now| desk.tick(now));
                }
            }
            Event::Synced { node, .. } => self.synced(node),
            Event::Flush { node, .. } => {
                let every = self.swarm.flush_max_ns;
                let delay = self.server(node).disk_rng.random_range(0..=every);
                self.flush(node);
                self.later(node, delay, |node, incarnation| Event::Flush { node, incarnation });
            }
            Event::Flushed { node, .. } => self.flushed(node),
            Event::Call { node, client, seq, call, .. } => {
                let call = match self.about_sql(client, seq, call) {
                    Some(call) => call,
                    None => return,
                };
                let mut coordinator = None;
                if let Call::Status(txn) = &call {
                    coordinator = self.coordinators.get(txn).copied();
                    if coordinator.is_none() {
                        // Its commit was never sent, and never will be.
                        self.buried.insert(*txn);
                        let answer = Answer::Status(txn::TxnStatus::Aborted);
                        self.after(100_000, Event::Answer { client, seq, answer });
                        return;
                    }
                }
                self.with_desk(node, |desk, now| desk.call(now, client, seq, call, coordinator));
            }
            Event::HangUp { node, client, .. } => {
                let politely = self.rng.random_range(0..2) == 0;
                self.with_desk(node, |desk, now| desk.hang_up(now, client, politely));
            }
            Event::Answer { client, seq, answer } => self.answer(client, seq, answer),
            Event::GiveUp { client, seq } => {
                let Some(seat) = self.seats.get_mut(&client) else { return };
                if seat.seq == seq
                    && let Some((node, incarnation)) = seat.waiting
                {
                    self.shared.counters.hit("client gave up waiting");
                    self.after(0, Event::HangUp { node, incarnation, client });
                    self.answer(client, seq, Answer::Broken);
                }
            }
            Event::Wake { client } => {
                let seat = self.seats.get_mut(&client).expect("every client has a seat");
                let act = seat.client.wake(self.now, &mut self.shared);
                self.act(client, act);
            }
            Event::Nemesis => self.strike(),
            Event::Start { node } => self.start(node),
            Event::Resume { node, pause } => {
                if self.server(node).pauses == pause {
                    self.resume(node);
                }
            }
            Event::Mend { links } => {
                self.note(format!("mended {links:?}"));
                if !self.healed {
                    self.network.mend(&links);
                }
            }
            Event::Trust { node } => {
                self.server(node).clock.trusted = true;
                self.note(format!("{node} trusts its clock again"));
            }
            Event::StopNow { node, incarnation } => {
                if self.server(node).incarnation == incarnation {
                    self.crash(node, false);
                    self.after(1_000_000, Event::Start { node });
                }
            }
            Event::Sequel(sequel) => self.follow(sequel),
            Event::Turn(turn) => self.turn(turn),
            Event::Heard { from, to, stamp } => self.heard(from, to, stamp),
            Event::Pulse { node, .. } => self.pulse(node),
            Event::Heal => self.heal(),
            Event::Close => {
                self.note("clients begin nothing new".into());
                self.shared.closing = true;
                self.stage = Stage::Closing;
            }
            Event::Sample => {
                self.sample();
                self.next_act();
                self.after(SAMPLE_NS, Event::Sample);
            }
        }
    }

    /// A call as its gateway gets it. A question for the ending of an SQL call is put as SQL, if
    /// a commit of it has ever left; if none has, none ever will.
    fn about_sql(&mut self, client: u64, seq: u64, call: Call) -> Option<Call> {
        let doubted = (client, self.sql_last.get(&client).copied().unwrap_or(0));
        match call {
            Call::Sql(_) if self.sql_buried.contains(&(client, seq)) => None,
            Call::SqlStatus(name) => {
                self.sql_buried.insert(doubted);
                let begun = self.sql_begun.get(&client).filter(|(seq, _)| *seq == doubted.1).map(|(_, txn)| *txn);
                let txn = name.or(begun);
                if let Some((txn, group)) = txn.and_then(|txn| Some((txn, self.coordinators.get(&txn)?))) {
                    let text = format!("SHOW TRANSACTION STATUS '{txn}' {}", group.0);
                    return Some(Call::Sql(SqlCall { connect: true, prepared: false, text, params: Vec::new() }));
                }
                self.buried.extend(txn);
                let answer = Answer::Status(txn::TxnStatus::Aborted);
                self.after(100_000, Event::Answer { client, seq, answer });
                None
            }
            call => Some(call),
        }
    }

    pub(crate) fn server(&mut self, node: NodeId) -> &mut Server {
        self.servers.get_mut(&node).expect("every node has a server")
    }

    pub(crate) fn process(&mut self, node: NodeId) -> &mut Process {
        self.server(node).process.as_mut().expect("only events of a running process get here")
    }

    /// After some time, if the process still runs.
    pub(crate) fn later(&mut self, node: NodeId, ns: i64, event: impl FnOnce(NodeId, u64) -> Event) {
        let incarnation = self.server(node).incarnation;
        self.after(ns, event(node, incarnation));
    }

    // ---- the acts ----------------------------------------------------------------------------------

    fn heal(&mut self) {
        self.note("faults end".into());
        self.healed = true;
        self.network.heal();
        self.heal_disks();
        for id in self.swarm.node_ids() {
            self.server(id).clock.trusted = true;
            self.end_lie(id);
            self.resume(id);
            self.after(1_000_000, Event::Start { node: id });
        }
    }

    fn next_act(&mut self) {
        let auditor = self.swarm.clients + 1;
        match self.stage {
            Stage::Load | Stage::Done => {}
            Stage::Closing if self.seats.values().all(|seat| seat.client.has_left()) => {
                self.note("clients have left; everything is read once more".into());
                let nodes = self.present();
                self.seat(auditor, final_reads(&nodes), false);
                if self.swarm.sql_clients > 0 && self.shared.sql.ready {
                    self.seat_sql(SQL_AUDITOR, final_audit(self.swarm.schema), false);
                }
                self.stage = Stage::Reading;
            }
            Stage::Reading if self.has_left(auditor) && self.has_left(SQL_AUDITOR) => {
                let mine: Vec<_> = self.shared.history.snapshots.iter().filter(|s| s.client == auditor).collect();
                let mut agenda = Vec::new();
                for read in mine {
                    for node in self.present().into_iter().filter(|node| *node != read.gateway) {
                        let when = When::Exactly(read.read_ts);
                        agenda.push(Plan::Snapshot { ops: read.seen.ops.clone(), when, gateway: Some(node) });
                    }
                }
                agenda.extend(self.earlier_reads());
                self.seat(auditor + 1, agenda, false);
                self.stage = Stage::ReadingAgain;
            }
            Stage::ReadingAgain if self.has_left(auditor + 1) => {
                self.note("only rest is left".into());
                let again = self.shared.history.snapshots.iter().filter(|read| read.client == auditor + 1).count();
                self.shared.counters.add("earlier reads repeated through every node", again as u64);
                self.stage = Stage::Resting;
            }
            Stage::Resting => self.rest(),
            _ => {}
        }
    }

    fn rest(&mut self) {
        if self.is_at_rest() {
            self.note("at rest".into());
            self.stage = Stage::Done;
            if let Err(why) = self.judge_rest() {
                self.fail(why);
            }
        }
    }

    fn has_left(&self, client: u64) -> bool {
        self.seats.get(&client).is_none_or(|seat| seat.client.has_left())
    }

    fn what_does_not_end(&mut self) -> String {
        let mut text = format!("liveness: not at rest after {} ms, in act {:?}\n", self.now / 1_000_000, self.stage);
        for seat in self.seats.values().filter(|seat| !seat.client.has_left()) {
            text += &format!("  {}, waiting {:?}\n", seat.client.describe(), seat.waiting);
        }
        text + &self.unrest()
    }
}
