//! The way to one peer: a bounded queue, and the task that connects and sends batches from it.

use std::collections::VecDeque;
use std::error::Error as _;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::stream;
use paxos::NodeId;
use tokio::sync::Notify;
use tonic::transport::{Channel, Endpoint};
use truetime::fence::HEARTBEAT_NS;

use super::{Batch, Hello, Identity};
use crate::clock::NodeClock;
use crate::gateway::Replies;
use crate::metrics::{Metrics, add};

/// An empty batch is sent after so long, for the clocks' sake.
pub const HEARTBEAT: Duration = Duration::from_nanos(HEARTBEAT_NS.unsigned_abs());
/// Bytes that may wait for a peer that is connected.
const QUEUE_BYTES_MAX: usize = 64 << 20;
/// Bytes that may wait for one that is not: they are old when it comes back.
const QUEUE_OFFLINE_BYTES_MAX: usize = 256 << 10;
/// A batch ends with the message that reaches this size.
const BATCH_BYTES: usize = 2 << 20;
/// The largest message: what a peer reads, less the rest of a batch.
const MESSAGE_BYTES_MAX: usize = super::BATCH_BYTES_MAX - BATCH_BYTES - (1 << 20);

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_millis(1000);
/// A peer that has not refused us for so long has taken us.
const ACCEPTED_AFTER: Duration = Duration::from_millis(300);
/// HTTP/2 pings find a peer that is stopped but not dead.
const PING_INTERVAL: Duration = Duration::from_secs(1);
const PING_TIMEOUT: Duration = Duration::from_secs(2);
/// Flow control must not throttle a batch on a fast network.
const WINDOW_BYTES: u32 = 8 << 20;

/// The way to one peer.
pub struct Link {
    node: u64,
    address: String,
    queue: Mutex<Queue>,
    filled: Notify,
    state: Mutex<State>,
    echo: Mutex<Option<Echo>>,
}

#[derive(Default)]
struct Queue {
    messages: VecDeque<Bytes>,
    bytes: usize,
    online: bool,
}

#[derive(Default)]
struct State {
    connected: bool,
    problem: Option<String>,
}

/// The peer's monotonic clock as it last sent, and when that arrived on ours.
#[derive(Clone, Copy)]
struct Echo {
    theirs_ns: i64,
    arrived_ns: i64,
}

impl Link {
    /// To a peer, not connected yet.
    pub fn new(node: u64, address: String) -> Link {
        Link {
            node,
            address,
            queue: Mutex::default(),
            filled: Notify::new(),
            state: Mutex::default(),
            echo: Mutex::new(None),
        }
    }

    /// Queues messages, and returns how many there was no room for.
    pub fn push(&self, messages: Vec<Bytes>) -> usize {
        let mut queue = lock(&self.queue);
        let bytes_max = if queue.online { QUEUE_BYTES_MAX } else { QUEUE_OFFLINE_BYTES_MAX };
        let mut dropped = 0;
        for message in messages {
            if message.len() > MESSAGE_BYTES_MAX {
                // The stream would break, and break again with each repetition.
                tracing::error!(peer = self.node, bytes = message.len(), "a message is too large to be sent");
                dropped += 1;
                continue;
            }
            // While there is any room, a message is taken whatever its size: one that fills the queue alone
            // would never find it empty enough.
            if queue.bytes >= bytes_max {
                dropped += 1;
                continue;
            }
            queue.bytes += message.len();
            queue.messages.push_back(message);
        }
        drop(queue);
        self.filled.notify_one();
        dropped
    }

    /// Whether the stream is up, and why not.
    pub fn state(&self) -> (bool, Option<String>) {
        let state = lock(&self.state);
        (state.connected, state.problem.clone())
    }

    /// Whether there is a connection, be it that the peer has not taken us yet.
    pub fn is_online(&self) -> bool {
        lock(&self.queue).online
    }

    /// Nothing is queued, or nobody is there to take it.
    pub fn is_empty(&self) -> bool {
        let queue = lock(&self.queue);
        queue.messages.is_empty() || !queue.online
    }

    /// Notes the peer's monotonic clock, to be sent back to it.
    pub fn saw(&self, theirs_ns: i64, arrived_ns: i64) {
        *lock(&self.echo) = Some(Echo { theirs_ns, arrived_ns });
    }

    fn set_online(&self, online: bool) {
        let mut queue = lock(&self.queue);
        queue.online = online;
        if !online {
            queue.messages.clear();
            queue.bytes = 0;
        }
        drop(queue);
        // An echo belongs to one process of the peer: its clock starts anew with the next one.
        *lock(&self.echo) = None;
    }

    fn take(&self) -> Vec<Bytes> {
        let mut queue = lock(&self.queue);
        let mut bytes = 0;
        let mut count = 0;
        for message in &queue.messages {
            if count > 0 && bytes + message.len() > BATCH_BYTES {
                break;
            }
            bytes += message.len();
            count += 1;
        }
        queue.bytes -= bytes;
        queue.messages.drain(..count).collect()
    }

    async fn wait(&self) -> Vec<Bytes> {
        let deadline = tokio::time::Instant::now() + HEARTBEAT;
        loop {
            let messages = self.take();
            if !messages.is_empty() {
                return messages;
            }
            if tokio::time::timeout_at(deadline, self.filled.notified()).await.is_err() {
                return self.take();
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no thread panics while it holds a link")
}

/// Connects, sends, and connects again, for ever.
pub(super) async fn run(
    link: Arc<Link>,
    identity: Identity,
    clock: Arc<NodeClock>,
    replies: Arc<Replies>,
    metrics: Arc<Metrics>,
) {
    let mut backoff = BACKOFF_MIN;
    let mut logged: Option<String> = None;
    loop {
        let began = Instant::now();
        let problem = match connect(&link.address).await {
            Ok(channel) => {
                link.set_online(true);
                let problem = stream_to(&link, channel, &identity, &clock, &metrics, &mut logged).await;
                link.set_online(false);
                replies.lost(NodeId(link.node));
                problem
            }
            Err(problem) => problem,
        };
        let was_connected = {
            let mut state = lock(&link.state);
            state.problem = Some(problem.clone());
            std::mem::take(&mut state.connected)
        };
        if was_connected {
            tracing::warn!(peer = link.node, address = %link.address, "lost the connection to a peer: {problem}");
            logged = Some(problem);
        } else if logged.as_ref() != Some(&problem) {
            tracing::warn!(peer = link.node, address = %link.address, "no connection to a peer: {problem}");
            logged = Some(problem);
        }
        backoff = if began.elapsed() > BACKOFF_MAX { BACKOFF_MIN } else { (backoff * 2).min(BACKOFF_MAX) };
        tokio::time::sleep(backoff).await;
    }
}

async fn connect(address: &str) -> Result<Channel, String> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|err| err.to_string())?;
    let endpoint = endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES);
    let connecting = tokio::time::timeout(CONNECT_TIMEOUT, endpoint.connect()).await;
    connecting.map_err(|_| "no answer".to_string())?.map_err(|err| cause(&err))
}

/// The innermost cause: the outer ones of a transport say no more than "transport error".
fn cause(err: &(dyn std::error::Error + 'static)) -> String {
    let mut inner = err;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

/// Sends batches until the stream ends, and returns why it did.
async fn stream_to(
    link: &Arc<Link>,
    channel: Channel,
    identity: &Identity,
    clock: &Arc<NodeClock>,
    metrics: &Arc<Metrics>,
    logged: &mut Option<String>,
) -> String {
    let hello = Some(identity.hello());
    let start = (link.clone(), clock.clone(), metrics.clone(), hello);
    let batches = stream::unfold(start, |(link, clock, metrics, mut hello)| async move {
        let hello = hello.take();
        // The hello goes at once, so that a refusal comes before anything was lost with it.
        let messages = if hello.is_some() { Vec::new() } else { link.wait().await };
        let batch = seal(&link, &clock, hello, messages);
        add(&metrics.batches_sent, 1);
        Some((batch, (link, clock, metrics, None)))
    });
    let call = crate::wire::peer::send_batches(channel, batches);
    tokio::pin!(call);
    let ended = tokio::select! {
        ended = &mut call => ended,
        () = tokio::time::sleep(ACCEPTED_AFTER) => {
            *lock(&link.state) = State { connected: true, problem: None };
            *logged = None;
            tracing::info!(peer = link.node, address = %link.address, "connected to a peer");
            call.await
        }
    };
    match ended {
        Ok(reason) if reason.is_empty() => "the peer closed the stream".into(),
        Ok(reason) => reason,
        Err(status) if status.source().is_some() => cause(&status),
        Err(status) => status.message().to_string(),
    }
}

/// Puts the clock on a batch, as late as possible.
fn seal(link: &Link, clock: &NodeClock, hello: Option<Hello>, messages: Vec<Bytes>) -> Batch {
    let echo = *lock(&link.echo);
    let now = clock.now();
    Batch {
        hello,
        earliest: now.tt.earliest,
        latest: now.tt.latest,
        messages,
        sent_mono_ns: now.mono_ns,
        echo_mono_ns: echo.map_or(0, |echo| echo.theirs_ns),
        echo_delay_ns: echo.map_or(0, |echo| now.mono_ns - echo.arrived_ns),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_drops_what_is_new_and_batches_are_bounded() {
        let link = Link::new(2, "a:1".into());
        let big = Bytes::from(vec![0; QUEUE_OFFLINE_BYTES_MAX]);
        assert_eq!(link.push(vec![big.clone(), Bytes::from_static(b"x")]), 1);
        link.set_online(false);
        link.set_online(true);
        assert_eq!(link.push(vec![Bytes::from(vec![1; BATCH_BYTES]), Bytes::from_static(b"y"), big]), 0);
        assert_eq!(link.take().len(), 1);
        assert_eq!(link.take().len(), 2);
        assert!(link.take().is_empty() && link.is_empty());
    }
}
