//! One server of the cluster: the production node and gateway, and what surrounds them.

use paxos::{GroupId, NodeId, Slot};
use rand_chacha::ChaCha8Rng;
use truetime::Now;
use txn::node::Node;
use txn::testing::MemoryStore;
use txn::{NodeMessage, Outgoing};

use crate::clock::SimClock;
use crate::desk::Desk;
use crate::disk::SimLog;
use crate::disks::DiskHealth;
use crate::fencing::Guard;
use crate::rng::{Purpose, stream};
use crate::swarm::Swarm;
use crate::world::Event;

/// What leaves a node.
#[derive(Debug)]
pub enum Parcel {
    /// As it is.
    Message(NodeId, NodeMessage),
    /// Sealed as it leaves.
    Reply(Outgoing),
}

/// One server.
pub struct Server {
    /// Its number.
    pub id: NodeId,
    /// Raised by every start: events of an earlier process mean nothing to a later one.
    pub incarnation: u64,
    /// The running process, if it runs.
    pub process: Option<Process>,
    /// It runs, but is stopped: what reaches it waits here.
    pub deferred: Option<Vec<Event>>,
    /// A clock reading from before a pause, and for how many inputs it will be used. Only a canary
    /// does that.
    pub stale: Option<(Now, u32)>,
    /// Counts pauses, so that the end of one is not taken for that of another.
    pub pauses: u64,
    /// The log store.
    pub log: SimLog,
    /// The state store, while no process holds it.
    pub store: Option<MemoryStore>,
    /// The clock.
    pub clock: SimClock,
    /// What it knows of others' clocks; only in runs beyond the promise.
    pub guard: Option<Guard>,
    /// What is wrong with its disk.
    pub disk: DiskHealth,
    /// Draws how long its disk takes and what it loses.
    pub disk_rng: ChaCha8Rng,
    /// Draws how long its process takes.
    pub cpu_rng: ChaCha8Rng,
}

/// What lives and dies with a process.
pub struct Process {
    /// Its groups.
    pub node: Node<MemoryStore>,
    /// Its gateway, and the clients connected to it.
    pub desk: Desk,
    /// When the next `Tick` is due.
    pub tick_at: Option<i64>,
    /// When the gateway is next to be called.
    pub desk_tick_at: Option<i64>,
    /// Nothing leaves before what was made earlier.
    pub last_departure: i64,
    /// A flush of the state store is under way: what it will have made durable, and up to where.
    pub flushing: Option<(Vec<(GroupId, Slot)>, u64)>,
    /// Another flush is to begin at its end.
    pub flush_again: bool,
    /// Asked to stop.
    pub stopping: bool,
}

impl Server {
    /// A server that has never run.
    pub fn new(id: NodeId, seed: u64, swarm: &Swarm) -> Server {
        let clock_rng = stream(seed, id.0, Purpose::Clock, 0);
        let mut clock = SimClock::new(swarm.epsilon_ns, swarm.clock_limit_ns, clock_rng);
        clock.set_sawtooth(swarm.sawtooth_ns);
        Server {
            id,
            incarnation: 0,
            process: None,
            deferred: None,
            stale: None,
            pauses: 0,
            log: SimLog::default(),
            store: Some(MemoryStore::default()),
            clock,
            guard: None,
            disk: DiskHealth::default(),
            disk_rng: stream(seed, id.0, Purpose::Disk, 0),
            cpu_rng: stream(seed, id.0, Purpose::Cpu, 0),
        }
    }

    /// Whether its process runs, and is not stopped.
    pub fn is_awake(&self) -> bool {
        self.process.is_some() && self.deferred.is_none()
    }
}
