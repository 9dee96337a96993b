//! The thread that runs the node: one closed set of events in, effects out.
//!
//! ```text
//!   Event --> Node::step --> messages ----------------------------> transport
//!     ^                      writes --> log writer --.
//!     |                      after_sync, held        |
//!     '--- Persisted <--- (one fsync) ---------------'--> held messages leave
//! ```
//!
//! Each turn takes everything that is queued, up to [`EVENTS_PER_TURN_MAX`], before it hands
//! anything out: so the messages of many steps leave in one batch for each peer, and their writes
//! share one fsync. What a step says may leave at once, leaves at the end of the turn; what vouches
//! for a write leaves when the log writer has reported it durable, never earlier (I4).
//!
//! The queues on both sides are bounded. When the disk is slow, [`LogWriter::append`] makes the engine
//! wait, then the queue of events fills, then peers' streams and gateways wait. The log writer itself
//! waits for nobody, so the circle never closes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, TrySendError, channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use paxos::{GroupId, NodeId, Slot};
use truetime::Now;
use txn::client::Gateway;
use txn::node::Node;
use txn::{NodeInput, NodeMessage, NodeReady, Request};

use crate::clock::NodeClock;
use crate::gateway::Replies;
use crate::log_writer::{Append, LogWriter};
use crate::storage::RocksState;
use crate::transport::Transport;

/// Events that may wait; senders wait (peers) or fail (gateways) when there are more.
pub const EVENTS_QUEUED_MAX: usize = 16 << 10;
/// Bytes of peers' messages that may wait; then their streams wait.
pub const EVENTS_BYTES_MAX: usize = 128 << 20;
/// Events taken before their effects are handed out.
const EVENTS_PER_TURN_MAX: usize = 512;
/// How long a task waits before it tries a full queue again.
const FULL_PAUSE: Duration = Duration::from_millis(1);
/// The longest wait for an event, so that a wrong wake-up time cannot stop the node for long.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// The node that the engine runs.
pub type ServerNode = Node<RocksState>;

/// What a query does with the node.
pub type Look = Box<dyn FnOnce(&ServerNode, Now) + Send>;

/// Everything that can wake the engine.
pub enum Event {
    /// Messages of a peer, decoded; no replies.
    Messages {
        /// The peer.
        from: NodeId,
        /// What it says, in order.
        messages: Vec<NodeMessage>,
        /// As it came, about.
        bytes: usize,
    },
    /// Requests of this node's gateway to groups of this node.
    Requests(Vec<Request>),
    /// The log writer has made something durable: see [`EngineHandle::persisted`].
    Persisted,
    /// The flusher: what was applied when the flush began is durable.
    Flushed(Vec<(GroupId, Slot)>),
    /// A look at the node.
    Query(Look),
    /// Hand leaderships over, then end.
    Shutdown,
    /// End without waiting for that.
    Halt,
}

/// Sends events to the engine. Cheap to clone.
#[derive(Clone)]
pub struct EngineHandle {
    queue: SyncSender<Event>,
    shared: Arc<Shared>,
}

/// The end that the engine reads.
pub struct Events {
    queue: Receiver<Event>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Of peers' messages in the queue.
    bytes: AtomicUsize,
    /// The last step that is durable.
    persisted: AtomicU64,
}

/// Bytes that are counted as queued, for an event that is not yet. The stream of a peer may end while it waits
/// for a place in the queue; what its messages were counted as must not stay behind, or in the end nobody gets in.
struct Room<'a> {
    shared: &'a Shared,
    bytes: usize,
}

impl Room<'_> {
    fn take(shared: &Shared, bytes: usize) -> Room<'_> {
        shared.bytes.fetch_add(bytes, Ordering::Relaxed);
        Room { shared, bytes }
    }

    fn forget(mut self) {
        self.bytes = 0;
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        self.shared.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The engine has ended: the process is about to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the node is stopping")]
pub struct Stopped;

impl EngineHandle {
    /// A handle and the end that the engine reads.
    pub fn channel() -> (EngineHandle, Events) {
        let (queue, receiver) = sync_channel(EVENTS_QUEUED_MAX);
        let shared = Arc::new(Shared::default());
        (EngineHandle { queue, shared: shared.clone() }, Events { queue: receiver, shared })
    }

    /// Everything up to this step is durable. Never waits: the log writer, which calls it, must go on
    /// when the engine waits for the log writer.
    pub fn persisted(&self, number: u64) {
        self.shared.persisted.fetch_max(number, Ordering::Release);
        // The engine looks at each turn, and with a full queue the next one comes soon.
        self.try_send(Event::Persisted);
    }

    /// Queues messages of a peer; waits while too many of its kind do.
    pub async fn send_messages(&self, from: NodeId, messages: Vec<NodeMessage>, bytes: usize) -> Result<(), Stopped> {
        // What is alone is taken whatever its size, or it could never be.
        while self.shared.bytes.load(Ordering::Relaxed) > EVENTS_BYTES_MAX {
            tokio::time::sleep(FULL_PAUSE).await;
        }
        let room = Room::take(&self.shared, bytes);
        self.send(Event::Messages { from, messages, bytes }).await?;
        // The event gives it back.
        room.forget();
        Ok(())
    }

    /// Queues an event, or says that the queue is full or gone.
    pub fn try_send(&self, event: Event) -> bool {
        self.queue.try_send(event).is_ok()
    }

    /// Queues an event; waits while the queue is full.
    pub async fn send(&self, mut event: Event) -> Result<(), Stopped> {
        loop {
            match self.queue.try_send(event) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Full(back)) => event = back,
                Err(TrySendError::Disconnected(_)) => return Err(Stopped),
            }
            tokio::time::sleep(FULL_PAUSE).await;
        }
    }

    /// As [`EngineHandle::send`], for threads of our own.
    pub fn send_blocking(&self, event: Event) -> Result<(), Stopped> {
        self.queue.send(event).map_err(|_| Stopped)
    }

    /// Looks at the node.
    pub async fn query<T: Send + 'static>(
        &self,
        look: impl FnOnce(&ServerNode, Now) -> T + Send + 'static,
    ) -> Result<T, Stopped> {
        let (answer, answered) = tokio::sync::oneshot::channel();
        let look = move |node: &ServerNode, now: Now| {
            // Whoever asked may have gone away.
            let _ = answer.send(look(node, now));
        };
        self.send(Event::Query(Box::new(look))).await?;
        answered.await.map_err(|_| Stopped)
    }
}

impl Events {
    /// Waits for an event.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Event, RecvTimeoutError> {
        self.queue.recv_timeout(timeout).inspect(|event| self.taken(event))
    }

    /// An event that is there.
    pub fn try_recv(&self) -> Result<Event, TryRecvError> {
        self.queue.try_recv().inspect(|event| self.taken(event))
    }

    fn taken(&self, event: &Event) {
        if let Event::Messages { bytes, .. } = event {
            self.shared.bytes.fetch_sub(*bytes, Ordering::Relaxed);
        }
    }

    fn persisted(&self) -> u64 {
        self.shared.persisted.load(Ordering::Acquire)
    }
}

/// When the state is flushed.
#[derive(Clone, Copy, Debug)]
pub struct FlushPolicy {
    /// After so many bytes written,
    pub bytes: u64,
    /// or so many nanoseconds, if anything was written.
    pub ns: i64,
}

/// What the engine works with.
pub struct Parts {
    /// The node.
    pub node: ServerNode,
    /// What it said when it was made.
    pub first: NodeReady,
    /// The clock.
    pub clock: Arc<NodeClock>,
    /// The log.
    pub log: LogWriter,
    /// The peers.
    pub transport: Arc<Transport>,
    /// Requests of this node's gateway that wait for their replies.
    pub replies: Arc<Replies>,
    /// The gateway, whose router learns from the node.
    pub gateway: Arc<Mutex<Gateway>>,
    /// When to flush.
    pub flush: FlushPolicy,
}

/// Starts the engine. The thread ends after `Shutdown` or `Halt`, with the state flushed and the
/// log synced.
pub fn start(parts: Parts, handle: &EngineHandle, events: Events) -> std::io::Result<JoinHandle<()>> {
    let flusher = Flusher::start(parts.node.store().clone(), handle.clone())?;
    let body = move || {
        let me = parts.transport.me();
        let flushed_bytes = parts.node.store().written_bytes();
        let flushed_mono_ns = parts.clock.mono_ns();
        let mut engine = Engine {
            me,
            node: parts.node,
            clock: parts.clock,
            log: parts.log,
            transport: parts.transport,
            replies: parts.replies,
            gateway: parts.gateway,
            policy: parts.flush,
            flusher,
            flushing: false,
            flush_wanted: false,
            flushed_bytes,
            flushed_mono_ns,
            persist_last: 0,
            persisted: 0,
            held: VecDeque::new(),
            out: BTreeMap::new(),
            appends: Vec::new(),
            wake_at_ns: None,
            stopped: false,
        };
        engine.take(parts.first);
        engine.hand_out();
        engine.run(&events);
        engine.end();
    };
    std::thread::Builder::new().name("engine".into()).spawn(body)
}

struct Engine {
    me: NodeId,
    node: ServerNode,
    clock: Arc<NodeClock>,
    log: LogWriter,
    transport: Arc<Transport>,
    replies: Arc<Replies>,
    gateway: Arc<Mutex<Gateway>>,
    policy: FlushPolicy,
    flusher: Flusher,
    flushing: bool,
    flush_wanted: bool,
    flushed_bytes: u64,
    flushed_mono_ns: i64,
    /// The last step with writes, and the last that is durable.
    persist_last: u64,
    persisted: u64,
    /// Messages that wait for a step's writes.
    held: VecDeque<(u64, Vec<(NodeId, NodeMessage)>)>,
    /// What leaves at the end of the turn.
    out: BTreeMap<NodeId, Vec<Bytes>>,
    appends: Vec<Append>,
    wake_at_ns: Option<i64>,
    stopped: bool,
}

impl Engine {
    fn run(&mut self, events: &Events) {
        while !self.stopped {
            match events.recv_timeout(self.wait()) {
                Ok(event) => self.turn(event, events),
                Err(RecvTimeoutError::Timeout) => self.step(NodeInput::Tick),
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.take_persisted(events.persisted());
            // Timers that fell due while there were events to take in.
            if !self.stopped && self.wake_at_ns.is_some_and(|at| at <= self.clock.mono_ns()) {
                self.step(NodeInput::Tick);
            }
            self.hand_out();
            self.flush_if_due();
        }
    }

    fn wait(&self) -> Duration {
        let Some(at) = self.wake_at_ns else { return WAIT_MAX };
        let ns = at.saturating_sub(self.clock.mono_ns()).max(0);
        Duration::from_nanos(ns.unsigned_abs()).min(WAIT_MAX)
    }

    fn turn(&mut self, first: Event, events: &Events) {
        self.event(first);
        for _ in 1..EVENTS_PER_TURN_MAX {
            match events.try_recv() {
                Ok(event) if !self.stopped => self.event(event),
                Ok(_) | Err(TryRecvError::Empty | TryRecvError::Disconnected) => return,
            }
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Messages { from, messages, .. } => {
                for message in messages {
                    self.step(NodeInput::Message { from, message });
                }
            }
            Event::Requests(requests) => {
                for request in requests {
                    self.step(NodeInput::Message { from: self.me, message: NodeMessage::Request(request) });
                }
            }
            // Taken in at the end of the turn.
            Event::Persisted => {}
            Event::Flushed(applied) => {
                self.flushing = false;
                self.step(NodeInput::StateDurable(applied));
            }
            Event::Query(look) => look(&self.node, self.clock.now()),
            Event::Shutdown => self.step(NodeInput::Shutdown),
            Event::Halt => self.stopped = true,
        }
    }

    fn take_persisted(&mut self, number: u64) {
        if number <= self.persisted || self.stopped {
            return;
        }
        self.persisted = number;
        while self.held.front().is_some_and(|(waits_for, _)| *waits_for <= number) {
            let (_, messages) = self.held.pop_front().expect("looked at above");
            self.send(messages);
        }
        self.step(NodeInput::Persisted(number));
    }

    fn step(&mut self, input: NodeInput) {
        // The clock is read after the input was received, never before: a timestamp from before a
        // request arrived would break external consistency (the simulator's canary `stale-clock`).
        let ready = self.node.step(self.clock.now(), input);
        self.take(ready);
    }

    /// Sorts the effects of one step.
    fn take(&mut self, ready: NodeReady) {
        if let Some(why) = ready.fatal {
            crate::fatal(&why);
        }
        for note in &ready.notes {
            tracing::info!("{note}");
        }
        self.send(ready.messages);
        if ready.persist > 0 {
            self.persist_last = ready.persist;
            self.appends.push(Append { persist: ready.persist, writes: ready.writes, sync: ready.sync });
        } else if !ready.writes.is_empty() {
            crate::fatal("a step has log writes and no number for them");
        }
        if !ready.after_sync.is_empty() {
            // Without writes of its own, it may still vouch for those on their way.
            if self.persist_last > self.persisted {
                self.held.push_back((self.persist_last, ready.after_sync));
            } else {
                self.send(ready.after_sync);
            }
        }
        if !ready.replies.is_empty() {
            // A fresh reading: the process may have been stopped since the step began.
            let now = self.clock.now();
            for outgoing in ready.replies {
                let to = outgoing.to;
                match outgoing.seal(now) {
                    NodeMessage::Reply { id, reply } if to == self.me => self.replies.deliver(id, reply),
                    message => self.send(vec![(to, message)]),
                }
            }
        }
        if ready.ranges_changed {
            self.tell_gateway();
        }
        self.flush_wanted |= ready.flush_state;
        self.wake_at_ns = ready.wake_at_ns;
        self.stopped |= ready.stopped;
    }

    fn send(&mut self, messages: Vec<(NodeId, NodeMessage)>) {
        for (to, message) in messages {
            assert!(to != self.me, "a message of the node to itself: {message:?}");
            self.out.entry(to).or_default().push(message.encode());
        }
    }

    fn hand_out(&mut self) {
        for append in self.appends.drain(..) {
            self.log.append(append);
        }
        for (to, messages) in &mut self.out {
            if !messages.is_empty() {
                self.transport.send(*to, std::mem::take(messages));
            }
        }
    }

    fn tell_gateway(&self) {
        let ranges = self.node.ranges();
        let mut gateway = self.gateway.lock().expect("no thread panics while it holds the gateway");
        for (range, leader) in ranges {
            let group = range.group;
            gateway.router.learn_range(range);
            if leader.is_some() {
                gateway.router.learn_leader(group, leader);
            }
        }
    }

    fn flush_if_due(&mut self) {
        if self.flushing {
            return;
        }
        let written = self.node.store().written_bytes();
        let now_ns = self.clock.mono_ns();
        let unflushed = written - self.flushed_bytes;
        let aged = unflushed > 0 && now_ns - self.flushed_mono_ns >= self.policy.ns;
        if self.flush_wanted || aged || unflushed >= self.policy.bytes {
            self.flushing = true;
            self.flush_wanted = false;
            self.flushed_bytes = written;
            self.flushed_mono_ns = now_ns;
            self.flusher.flush(self.node.applied());
        }
    }

    /// The last flush, so that the next start has nothing to replay.
    fn end(mut self) {
        self.hand_out();
        self.log.finish();
        if let Err(err) = self.node.store().flush() {
            crate::fatal(&err.to_string());
        }
    }
}

/// The thread that flushes the state while the engine goes on.
struct Flusher {
    queue: std::sync::mpsc::Sender<Vec<(GroupId, Slot)>>,
}

impl Flusher {
    fn start(state: RocksState, engine: EngineHandle) -> std::io::Result<Flusher> {
        let (queue, jobs) = channel::<Vec<(GroupId, Slot)>>();
        let body = move || {
            while let Ok(applied) = jobs.recv() {
                match state.flush() {
                    Ok(()) => {
                        if engine.send_blocking(Event::Flushed(applied)).is_err() {
                            return;
                        }
                    }
                    Err(err) => crate::fatal(&err.to_string()),
                }
            }
        };
        std::thread::Builder::new().name("state-flusher".into()).spawn(body)?;
        Ok(Flusher { queue })
    }

    fn flush(&self, applied: Vec<(GroupId, Slot)>) {
        // The thread only ends with the engine.
        let _ = self.queue.send(applied);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stream_that_ends_while_it_waits_for_the_engine_leaves_nothing_behind() {
        let (handle, events) = EngineHandle::channel();
        while handle.try_send(Event::Persisted) {}
        let mut waits = Box::pin(handle.send_messages(NodeId(2), Vec::new(), 80 << 20));
        assert!(futures::poll!(&mut waits).is_pending(), "the queue is full");
        drop(waits);
        assert_eq!(handle.shared.bytes.load(Ordering::Relaxed), 0);
        // What does get in is counted until it is taken.
        while events.try_recv().is_ok() {}
        handle.send_messages(NodeId(2), Vec::new(), 7).await.unwrap();
        assert_eq!(handle.shared.bytes.load(Ordering::Relaxed), 7);
        assert!(events.try_recv().is_ok());
        assert_eq!(handle.shared.bytes.load(Ordering::Relaxed), 0);
    }
}
