//! The receiving end of a peer's stream.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use paxos::NodeId;
use proto::v1::peer_server::Peer;
use proto::v1::{PeerBatch, PeerClosed, SetClockRequest, SetClockResponse};
use tonic::{Request, Response, Status, Streaming};
use truetime::{Interval, Timestamp};
use txn::NodeMessage;

use super::Transport;
use crate::clock::NodeClock;
use crate::engine::{EngineHandle, Event};
use crate::gateway::Replies;
use crate::metrics::{Metrics, add};

/// How long a new stream may take to say hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// The same refusal is logged again only after so long.
const REFUSAL_LOG_EVERY: Duration = Duration::from_secs(60);
/// Monotonic clocks may drift: a measured delay is trusted to one part in so many.
const DELAY_TRUST: i64 = 1000;

/// The `Peer` service of a node.
pub struct PeerService {
    transport: Arc<Transport>,
    clock: Arc<NodeClock>,
    engine: EngineHandle,
    replies: Arc<Replies>,
    metrics: Arc<Metrics>,
    refusals: Mutex<BTreeMap<u64, (String, Instant)>>,
}

impl PeerService {
    /// Hands what it receives to the engine, or to the gateway's operations if it is a reply.
    pub fn new(
        transport: Arc<Transport>,
        clock: Arc<NodeClock>,
        engine: EngineHandle,
        replies: Arc<Replies>,
        metrics: Arc<Metrics>,
    ) -> PeerService {
        PeerService { transport, clock, engine, replies, metrics, refusals: Mutex::default() }
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

    async fn batch(&self, from: u64, batch: PeerBatch) -> Result<(), Status> {
        let interval =
            Interval::checked(Timestamp::from_nanos(batch.earliest_ns), Timestamp::from_nanos(batch.latest_ns));
        let arrived_ns = self.clock.mono_ns();
        if let Some(interval) = interval {
            self.clock.observe(from, interval, round_trip_ns(&batch, arrived_ns));
        }
        if let Some(link) = self.transport.link(from) {
            link.saw(batch.sent_mono_ns, arrived_ns);
        }
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
            let event = Event::Messages { from: NodeId(from), messages };
            self.engine.send(event).await.map_err(|err| Status::unavailable(err.to_string()))?;
        }
        Ok(())
    }
}

/// The time since we sent what this batch echoes, less the time that it lay at the peer; `None`
/// without an echo.
fn round_trip_ns(batch: &PeerBatch, arrived_ns: i64) -> Option<i64> {
    if batch.echo_mono_ns <= 0 || batch.echo_delay_ns < 0 {
        return None;
    }
    let since_ns = arrived_ns.checked_sub(batch.echo_mono_ns)?;
    let rtt_ns = since_ns.checked_sub(batch.echo_delay_ns)?;
    // A negative one is nonsense: the peer claims to have waited for longer than we have.
    (rtt_ns >= 0).then(|| rtt_ns.saturating_add(batch.echo_delay_ns / DELAY_TRUST))
}

#[tonic::async_trait]
impl Peer for PeerService {
    async fn stream(&self, request: Request<Streaming<PeerBatch>>) -> Result<Response<PeerClosed>, Status> {
        let mut stream = request.into_inner();
        let first = tokio::time::timeout(HELLO_TIMEOUT, stream.message()).await;
        let first = first.map_err(|_| Status::deadline_exceeded("no hello"))??;
        let Some((hello, first)) = first.and_then(|mut batch| Some((batch.hello.take()?, batch))) else {
            return Err(Status::invalid_argument("the first batch of a stream must say hello"));
        };
        if let Some(reason) = self.transport.identity().refuse(&hello) {
            self.log_refusal(hello.node, &reason);
            return Err(Status::failed_precondition(reason));
        }
        let from = hello.node;
        self.batch(from, first).await?;
        while let Some(batch) = stream.message().await? {
            self.batch(from, batch).await?;
        }
        Ok(Response::new(PeerClosed::default()))
    }

    async fn set_clock(&self, request: Request<SetClockRequest>) -> Result<Response<SetClockResponse>, Status> {
        let spec = request.into_inner().spec.parse();
        let spec = spec.map_err(|err| Status::invalid_argument(format!("{err}")))?;
        self.clock.set_spec(spec);
        Ok(Response::new(SetClockResponse {}))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_sensible_echo_is_a_round_trip() {
        let batch = |echo_mono_ns, echo_delay_ns| PeerBatch { echo_mono_ns, echo_delay_ns, ..PeerBatch::default() };
        assert_eq!(round_trip_ns(&batch(0, 0), 100), None);
        assert_eq!(round_trip_ns(&batch(10, -1), 100), None);
        assert_eq!(round_trip_ns(&batch(10, 91), 100), None);
        assert_eq!(round_trip_ns(&batch(i64::MIN, i64::MAX), 100), None);
        assert_eq!(round_trip_ns(&batch(1000, 50_000), 100_000), Some(49_050));
    }
}
