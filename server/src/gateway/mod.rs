//! The gateway: SQL's engine over the groups of the cluster.
//!
//! The operations of `txn::client` never wait; here they are driven. Each has an [`Inbox`]; a drive
//! is a loop of: step, send what the step asks for, wait for a reply or for the time that the step
//! named. Requests to this node's own groups go to the engine without the network.
//!
//! An open transaction must be heard of by the groups that hold its locks also while its session is
//! idle. One task for the whole node ([`keep_alive`]) steps every idle transaction that is due,
//! instead of a task for each.

pub mod admin;
pub mod admission;
pub mod drain;
pub mod memory;
mod replies;
mod show;
pub mod status;
mod transaction;

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use paxos::NodeId;
use rand::Rng as _;
use rand_chacha::ChaCha20Rng;
use sql::engine::{AdminCommand, AdminRows, Engine, ReadBound};
use truetime::{Interval, Now, Timestamp};
use txn::client::{ClientError, ClientInput, ClientReady, Gateway, Operation, Outcome, SnapshotRead};
use txn::{NodeMessage, Priority, ReadOp, ReadResult, Request};

use crate::clock::NodeClock;
use crate::engine::{EngineHandle, Event};
use crate::injected::Injected;
use crate::metrics::Metrics;
use crate::transport::Transport;

use admission::{Admission, AdmissionOptions};
use drain::Drain;
use memory::Memory;
pub use replies::{Inbox, Replies};
pub use transaction::{GatewayTxn, keep_alive};

/// Everything that the sessions of a node share. Cheap to clone.
#[derive(Clone)]
pub struct GatewayEngine {
    shared: Arc<Shared>,
}

struct Shared {
    gateway: Arc<Mutex<Gateway>>,
    clock: Arc<NodeClock>,
    engine: EngineHandle,
    transport: Arc<Transport>,
    replies: Arc<Replies>,
    metrics: Arc<Metrics>,
    open: transaction::OpenTxns,
    about: About,
    admission: Arc<Admission>,
    memory: Arc<Memory>,
    drain: Drain,
    /// For `random()` and `gen_random_uuid()`.
    random: Mutex<ChaCha20Rng>,
}

/// What a node says of itself.
#[derive(Clone, Debug)]
pub struct About {
    /// Its data folder.
    pub data_dir: String,
    /// The length of a leader's lease, in nanoseconds.
    pub lease_ns: i64,
    /// When it started, on the monotonic clock.
    pub started_mono_ns: i64,
    /// How much it works on at once.
    pub admission: AdmissionOptions,
    /// What its sessions may hold, in bytes.
    pub session_memory_max: usize,
    /// Faults that it injects into itself.
    pub injected: Arc<Injected>,
}

impl GatewayEngine {
    /// Over the node's parts.
    #[allow(clippy::too_many_arguments)] // each is another part of the node
    pub fn new(
        gateway: Arc<Mutex<Gateway>>,
        clock: Arc<NodeClock>,
        engine: EngineHandle,
        transport: Arc<Transport>,
        replies: Arc<Replies>,
        metrics: Arc<Metrics>,
        about: About,
        random: ChaCha20Rng,
    ) -> GatewayEngine {
        let open = transaction::OpenTxns::default();
        let admission = Arc::new(Admission::new(about.admission));
        let memory = Arc::new(Memory::new(about.session_memory_max));
        let drain = Drain::default();
        let shared = Shared {
            gateway,
            clock,
            engine,
            transport,
            replies,
            metrics,
            open,
            about,
            admission,
            memory,
            drain,
            random: Mutex::new(random),
        };
        GatewayEngine { shared: Arc::new(shared) }
    }

    /// Who works and who waits.
    pub fn admission(&self) -> &Arc<Admission> {
        &self.shared.admission
    }

    /// Why this node's clock must be wrong, if it is below what was used before: then what it would begin
    /// now would begin in the past.
    pub fn clock_behind(&self) -> Option<String> {
        self.shared.clock.behind()
    }

    /// What the sessions hold.
    pub fn memory(&self) -> &Arc<Memory> {
        &self.shared.memory
    }

    /// What the sessions are to do when the node stops.
    pub fn drain(&self) -> &Drain {
        &self.shared.drain
    }

    /// The peers.
    pub fn transport(&self) -> &Transport {
        &self.shared.transport
    }

    /// Where faults can be injected into the cluster; empty if nowhere.
    pub fn faults_at(&self) -> &str {
        self.shared.about.injected.faults_at().unwrap_or_default()
    }

    /// The node's counters.
    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// Runs an operation to its end.
    async fn drive(&self, mut operation: impl Operation + Send) -> Outcome {
        let inbox = Arc::new(Inbox::default());
        let mut sent = Sent { shared: &self.shared, ids: Vec::new() };
        let mut ready = self.shared.step(&mut operation, ClientInput::Tick);
        loop {
            sent.ids.extend(ready.sends.iter().map(|(_, request)| request.id));
            self.shared.send(ready.sends, &inbox);
            if let Some(outcome) = ready.outcome {
                return outcome;
            }
            self.shared.wait(&inbox, ready.wake_at_ns).await;
            ready = self.shared.step_all(&mut operation, inbox.take());
        }
    }
}

/// Forgets the requests of an operation when it ends, also when its future is dropped.
struct Sent<'a> {
    shared: &'a Shared,
    ids: Vec<u64>,
}

impl Drop for Sent<'_> {
    fn drop(&mut self) {
        for id in &self.ids {
            self.shared.replies.forget(*id);
        }
    }
}

impl Shared {
    fn gateway(&self) -> MutexGuard<'_, Gateway> {
        self.gateway.lock().expect("no thread panics while it holds the gateway")
    }

    fn now(&self) -> Now {
        self.clock.now()
    }

    fn step(&self, operation: &mut impl Operation, input: ClientInput) -> ClientReady {
        let now = self.now();
        operation.step(now, &mut self.gateway(), input)
    }

    /// Takes in everything that came; without anything, time has passed. Stops at the outcome.
    fn step_all(&self, operation: &mut impl Operation, inputs: Vec<ClientInput>) -> ClientReady {
        ClientReady::gather(inputs, |input| self.step(operation, input))
    }

    /// Sends requests; what cannot be sent comes back to the inbox.
    fn send(&self, sends: Vec<(NodeId, Request)>, inbox: &Arc<Inbox>) {
        if sends.is_empty() {
            return;
        }
        let me = self.transport.me();
        let mut local = Vec::new();
        for (node, request) in sends {
            let id = request.id;
            self.replies.register(id, node, inbox);
            if node == me {
                local.push(request);
            } else if !self.transport.ask(node, NodeMessage::Request(request).encode()) {
                self.replies.failed(id);
            }
        }
        self.send_local(local);
    }

    fn send_local(&self, requests: Vec<Request>) {
        if requests.is_empty() {
            return;
        }
        let ids: Vec<u64> = requests.iter().map(|request| request.id).collect();
        if !self.engine.try_send(Event::Requests(requests)) {
            for id in ids {
                self.replies.failed(id);
            }
        }
    }

    /// Sends requests whose answers nobody waits for.
    fn send_and_forget(&self, sends: Vec<(NodeId, Request)>) {
        let me = self.transport.me();
        let (local, remote): (Vec<_>, Vec<_>) = sends.into_iter().partition(|(node, _)| *node == me);
        for (node, request) in remote {
            self.transport.send(node, vec![NodeMessage::Request(request).encode()]);
        }
        self.send_local(local.into_iter().map(|(_, request)| request).collect());
    }

    async fn wait(&self, inbox: &Inbox, wake_at_ns: Option<i64>) {
        match wake_at_ns {
            None => inbox.wait().await,
            Some(at) => {
                let deadline = tokio::time::Instant::from_std(self.clock.instant(at));
                let _ = tokio::time::timeout_at(deadline, inbox.wait()).await;
            }
        }
    }
}

impl Engine for GatewayEngine {
    type Txn = GatewayTxn;

    fn now(&self) -> Interval {
        self.shared.now().tt
    }

    fn present(&self) -> Result<Timestamp, ClientError> {
        let now = self.shared.now();
        // An interval that is not trusted may lie in the past, and the reads would miss commits.
        if !now.trusted {
            return Err(ClientError::Unavailable("the gateway's clock is not trusted".into()));
        }
        Ok(now.tt.latest)
    }

    fn mono_ns(&self) -> i64 {
        self.shared.clock.mono_ns()
    }

    async fn sleep_until_after(&self, t: Timestamp) {
        loop {
            let now = self.now();
            if now.after(t) {
                return;
            }
            // A clock that is slewed may need another round.
            let ns = t.since_ns(now.earliest).max(0).unsigned_abs() + 1;
            tokio::time::sleep(Duration::from_nanos(ns).min(Duration::from_secs(1))).await;
        }
    }

    async fn sleep(&self, ns: i64) {
        tokio::time::sleep(Duration::from_nanos(ns.max(0).unsigned_abs())).await;
    }

    fn random_u64(&self) -> u64 {
        self.shared.random.lock().expect("no thread panics while it draws").next_u64()
    }

    fn node(&self) -> u64 {
        self.shared.transport.me().0
    }

    fn begin(&self, priority: Option<Priority>) -> GatewayTxn {
        GatewayTxn::begin(self.shared.clone(), priority)
    }

    async fn snapshot(&self, bound: ReadBound, ops: Vec<ReadOp>) -> Result<(Timestamp, Vec<ReadResult>), ClientError> {
        let at = match bound {
            ReadBound::Strong => None,
            ReadBound::At(at) => Some(at),
            // Exactly so long before what may be the present: earlier by the uncertainty at most.
            ReadBound::Staleness(ns) => Some(self.now().earliest.minus_ns(ns)),
        };
        let me = self.shared.transport.me();
        match self.drive(SnapshotRead::new(ops, at, me)).await {
            Outcome::Rows { results, read_ts: Some(read_ts), .. } => Ok((read_ts, results)),
            // Nothing was read, so nobody has chosen a timestamp.
            Outcome::Rows { results, read_ts: None, .. } => Ok((self.now().latest, results)),
            Outcome::Failed(err) => Err(err),
            outcome => unreachable!("a snapshot read ended with {outcome:?}"),
        }
    }

    async fn admin(&self, command: AdminCommand) -> Result<AdminRows, ClientError> {
        admin::run(self, command).await
    }
}
