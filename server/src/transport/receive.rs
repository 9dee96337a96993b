//! The receiving end of a peer's stream.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::{Stream, StreamExt as _};
use paxos::NodeId;
use tonic::Status;
use truetime::{ClockSpec, Interval};
use txn::NodeMessage;

use super::{Batch, Hello, Transport};
use crate::clock::NodeClock;
use crate::engine::EngineHandle;
use crate::gateway::Replies;
use crate::gateway::admin::check_epsilon;
use crate::injected::Injected;
use crate::metrics::{Metrics, add};
use crate::storage::Stranger;

/// How long a new stream may take to say hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// The same refusal is logged again only after so long.
const REFUSAL_LOG_EVERY: Duration = Duration::from_secs(60);
/// The longest name of a data folder that is listened to; ours have 16 digits.
const FOLDER_NAME_BYTES_MAX: usize = 64;

/// Takes in what peers send.
pub struct Receiver {
    transport: Arc<Transport>,
    clock: Arc<NodeClock>,
    engine: EngineHandle,
    replies: Arc<Replies>,
    metrics: Arc<Metrics>,
    lease_ns: i64,
    injected: Arc<Injected>,
    refusals: Mutex<BTreeMap<u64, (String, Instant)>>,
}

impl Receiver {
    /// Hands what it receives to the engine, or to the gateway's operations if it is a reply.
    pub fn new(
        transport: Arc<Transport>,
        clock: Arc<NodeClock>,
        engine: EngineHandle,
        replies: Arc<Replies>,
        metrics: Arc<Metrics>,
        lease_ns: i64,
        injected: Arc<Injected>,
    ) -> Receiver {
        Receiver { transport, clock, engine, replies, metrics, lease_ns, injected, refusals: Mutex::default() }
    }

    /// Takes in one stream, to its end.
    pub async fn run(&self, mut batches: impl Stream<Item = Result<Batch, Status>> + Unpin) -> Result<(), Status> {
        let first = tokio::time::timeout(HELLO_TIMEOUT, batches.next()).await;
        let first = first.map_err(|_| Status::deadline_exceeded("no hello"))?.transpose()?;
        let Some((hello, first)) = first.and_then(|mut batch| Some((batch.hello.take()?, batch))) else {
            return Err(Status::invalid_argument("the first batch of a stream must say hello"));
        };
        if let Some(reason) = self.transport.identity().refuse(&hello) {
            self.log_refusal(hello.node, &reason);
            return Err(Status::failed_precondition(reason));
        }
        self.meet(&hello)?;
        self.batch(hello.node, first).await?;
        while let Some(batch) = batches.next().await {
            self.batch(hello.node, batch?).await?;
        }
        Ok(())
    }

    /// Whether the peer, and this node, still have the folders that they had.
    fn meet(&self, hello: &Hello) -> Result<(), Status> {
        let folder = hello.folders.get(&hello.node);
        let folder = folder.ok_or_else(|| Status::invalid_argument("a hello must name the sender's data folder"))?;
        if hello.folders.values().any(|name| name.len() > FOLDER_NAME_BYTES_MAX) {
            return Err(Status::invalid_argument("the name of a data folder is too long"));
        }
        let identity = self.transport.identity();
        // What a peer claims is kept for ever: only of nodes that there are.
        let ours = identity.peers.ids();
        let claims = hello.folders.iter().filter(|(node, _)| ours.contains(node));
        let claims = claims.map(|(node, name)| (*node, name.clone())).collect();
        match identity.acquaintances.meet(hello.node, folder, &claims) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(Stranger::Peer(reason))) => {
                self.log_refusal(hello.node, &reason);
                Err(Status::failed_precondition(reason))
            }
            Ok(Err(Stranger::Me(reason))) => crate::fatal(&reason),
            Err(err) => crate::fatal(&err.to_string()),
        }
    }

    /// Changes this node's clock source for another node's administrator.
    pub fn set_clock(&self, spec: ClockSpec) -> Result<(), Status> {
        check_epsilon(&spec, self.lease_ns).map_err(Status::invalid_argument)?;
        self.clock.set_spec(spec);
        Ok(())
    }

    /// Slows this node's disk down, if it was started to be hurt.
    pub fn set_fsync_delay_ns(&self, delay_ns: i64) -> Result<(), Status> {
        self.injected.set_fsync_delay_ns(delay_ns).map_err(Status::failed_precondition)
    }

    fn log_refusal(&self, node: u64, reason: &str) {
        let mut refusals = self.refusals.lock().expect("no thread panics while it holds the refusals");
        // Anyone may send any number: the map must not grow with them.
        if refusals.len() > 64 {
            refusals.clear();
        }
        let known = refusals.get(&node);
        if known.is_none_or(|(known, at)| known != reason || at.elapsed() > REFUSAL_LOG_EVERY) {
            tracing::warn!(peer = node, "refused a peer: {reason}");
            refusals.insert(node, (reason.to_string(), Instant::now()));
        }
    }

    async fn batch(&self, from: u64, batch: Batch) -> Result<(), Status> {
        let interval = Interval::checked(batch.earliest, batch.latest);
        let arrived_ns = self.clock.mono_ns();
        if let Some(interval) = interval {
            self.clock.observe(from, interval, round_trip_ns(&batch, arrived_ns));
        }
        if let Some(link) = self.transport.link(from) {
            link.saw(batch.sent_mono_ns, arrived_ns);
        }
        let bytes = batch.messages.iter().map(bytes::Bytes::len).sum();
        let mut messages = Vec::with_capacity(batch.messages.len());
        for bytes in batch.messages {
            match NodeMessage::decode(bytes) {
                Ok(NodeMessage::Reply { id, reply }) => self.replies.deliver(id, reply),
                Ok(message) => messages.push(message),
                Err(err) => {
                    add(&self.metrics.messages_malformed, 1);
                    tracing::warn!(peer = from, "closing the stream of a peer that sent garbage: {err}");
                    return Err(Status::invalid_argument(format!("garbage: {err}")));
                }
            }
        }
        if !messages.is_empty() {
            let sent = self.engine.send_messages(NodeId(from), messages, bytes).await;
            sent.map_err(|err| Status::unavailable(err.to_string()))?;
        }
        Ok(())
    }
}

/// The time since we sent what this batch echoes, less the time that it lay at the peer; `None`
/// without an echo.
fn round_trip_ns(batch: &Batch, arrived_ns: i64) -> Option<i64> {
    truetime::fence::round_trip_ns(arrived_ns, batch.echo_mono_ns, batch.echo_delay_ns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use truetime::Timestamp;

    #[test]
    fn only_a_sensible_echo_is_a_round_trip() {
        let batch = |echo_mono_ns, echo_delay_ns| Batch {
            hello: None,
            earliest: Timestamp::ZERO,
            latest: Timestamp::ZERO,
            messages: Vec::new(),
            sent_mono_ns: 1,
            echo_mono_ns,
            echo_delay_ns,
        };
        assert_eq!(round_trip_ns(&batch(0, 0), 100), None);
        assert_eq!(round_trip_ns(&batch(10, -1), 100), None);
        assert_eq!(round_trip_ns(&batch(10, 91), 100), None);
        assert_eq!(round_trip_ns(&batch(i64::MIN, i64::MAX), 100), None);
        assert_eq!(round_trip_ns(&batch(1000, 50_000), 100_000), Some(49_050));
    }
}
