//! The `Peer` service, both ends of it, and calls between nodes: wire types stay in here.

use std::sync::Arc;

use futures::{Stream, StreamExt as _};
use proto::v1;
use proto::v1::database_client::DatabaseClient;
use proto::v1::peer_client::PeerClient;
use proto::v1::peer_server::{Peer, PeerServer};
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming};
use truetime::{ClockSpec, Timestamp};

use super::node_status_from;
use crate::gateway::status::NodeStatus;
use crate::transport::{BATCH_BYTES_MAX, Batch, Hello, Receiver};

/// The largest status that is read, in bytes: one row for each of many groups.
const STATUS_BYTES_MAX: usize = 64 << 20;

fn hello(hello: Hello) -> v1::PeerHello {
    let nodes = hello.nodes.into_iter().map(|(node, address)| v1::NodeAddress { node, address }).collect();
    v1::PeerHello {
        node: hello.node,
        cluster_id: hello.cluster_id,
        format: hello.format,
        nodes,
        folders: hello.folders.into_iter().collect(),
    }
}

fn hello_from(hello: v1::PeerHello) -> Hello {
    let nodes = hello.nodes.into_iter().map(|node| (node.node, node.address)).collect();
    Hello {
        node: hello.node,
        cluster_id: hello.cluster_id,
        format: hello.format,
        nodes,
        folders: hello.folders.into_iter().collect(),
    }
}

fn batch(batch: Batch) -> v1::PeerBatch {
    v1::PeerBatch {
        hello: batch.hello.map(hello),
        earliest_ns: batch.earliest.as_nanos(),
        latest_ns: batch.latest.as_nanos(),
        messages: batch.messages,
        sent_mono_ns: batch.sent_mono_ns,
        echo_mono_ns: batch.echo_mono_ns,
        echo_delay_ns: batch.echo_delay_ns,
    }
}

fn batch_from(batch: v1::PeerBatch) -> Batch {
    Batch {
        hello: batch.hello.map(hello_from),
        earliest: Timestamp::from_nanos(batch.earliest_ns),
        latest: Timestamp::from_nanos(batch.latest_ns),
        messages: batch.messages,
        sent_mono_ns: batch.sent_mono_ns,
        echo_mono_ns: batch.echo_mono_ns,
        echo_delay_ns: batch.echo_delay_ns,
    }
}

/// Sends batches to a peer until the stream ends; returns the reason that the peer gave, if any.
pub async fn send_batches(
    channel: Channel,
    batches: impl Stream<Item = Batch> + Send + 'static,
) -> Result<String, Status> {
    let mut client = PeerClient::new(channel).max_encoding_message_size(BATCH_BYTES_MAX);
    client.stream(batches.map(batch)).await.map(|closed| closed.into_inner().reason)
}

/// Asks a node for its status.
pub async fn ask_status(channel: Channel) -> Result<NodeStatus, String> {
    let mut client = DatabaseClient::new(channel).max_decoding_message_size(STATUS_BYTES_MAX);
    let answer = client.status(v1::StatusRequest {}).await.map_err(|status| status.message().to_string())?;
    node_status_from(answer.into_inner())
}

/// Changes the clock source of a node.
pub async fn set_clock(channel: Channel, spec: &ClockSpec) -> Result<(), String> {
    let request = v1::SetClockRequest { spec: spec.to_string() };
    let answer = PeerClient::new(channel).set_clock(request).await;
    answer.map(|_| ()).map_err(|status| status.message().to_string())
}

/// Slows the disk of a node down, or no more.
pub async fn set_fsync_delay(channel: Channel, delay_ns: i64) -> Result<(), String> {
    let answer = PeerClient::new(channel).set_fsync_delay(v1::SetFsyncDelayRequest { delay_ns }).await;
    answer.map(|_| ()).map_err(|status| status.message().to_string())
}

/// The receiving end of the `Peer` service.
pub struct PeerService {
    receiver: Arc<Receiver>,
}

/// The service, ready to be added to a server.
pub fn service(receiver: Arc<Receiver>) -> PeerServer<PeerService> {
    PeerServer::new(PeerService { receiver }).max_decoding_message_size(BATCH_BYTES_MAX)
}

#[tonic::async_trait]
impl Peer for PeerService {
    async fn stream(&self, request: Request<Streaming<v1::PeerBatch>>) -> Result<Response<v1::PeerClosed>, Status> {
        let batches = request.into_inner().map(|batch| batch.map(batch_from));
        self.receiver.run(batches).await?;
        Ok(Response::new(v1::PeerClosed::default()))
    }

    async fn set_clock(&self, request: Request<v1::SetClockRequest>) -> Result<Response<v1::SetClockResponse>, Status> {
        let spec: Result<ClockSpec, String> = request.into_inner().spec.parse();
        let spec = spec.map_err(Status::invalid_argument)?;
        self.receiver.set_clock(spec)?;
        Ok(Response::new(v1::SetClockResponse {}))
    }

    async fn set_fsync_delay(
        &self,
        request: Request<v1::SetFsyncDelayRequest>,
    ) -> Result<Response<v1::SetFsyncDelayResponse>, Status> {
        self.receiver.set_fsync_delay_ns(request.into_inner().delay_ns)?;
        Ok(Response::new(v1::SetFsyncDelayResponse {}))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_round_trips() {
        let sent = Batch {
            hello: Some(Hello {
                node: 1,
                cluster_id: "c".into(),
                format: 2,
                nodes: vec![(1, "a:1".into()), (2, "b:2".into())],
                folders: [(1, "f".to_string())].into(),
            }),
            earliest: Timestamp::from_nanos(3),
            latest: Timestamp::from_nanos(4),
            messages: vec![bytes::Bytes::from_static(b"x")],
            sent_mono_ns: 5,
            echo_mono_ns: 6,
            echo_delay_ns: 7,
        };
        assert_eq!(batch_from(batch(sent.clone())), sent);
    }
}
