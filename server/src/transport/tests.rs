//! Two transports over real sockets.

use std::sync::Arc;
use std::time::Duration;

use paxos::{GroupId, NodeId};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use truetime::{ClockSpec, Timestamp};
use txn::NodeMessage;

use super::{FORMAT, Hello, Identity, Receiver, Transport};
use crate::clock::NodeClock;
use crate::config::Peers;
use crate::engine::{EngineHandle, Event, Events};
use crate::gateway::Replies;
use crate::metrics::{Metrics, get};
use crate::storage::Acquaintances;

struct Node {
    transport: Arc<Transport>,
    clock: Arc<NodeClock>,
    metrics: Arc<Metrics>,
    events: Events,
    _home: TempDir,
}

fn identity(node: u64, cluster_id: &str, peers: &Peers, home: &TempDir) -> Identity {
    let acquaintances = Arc::new(Acquaintances::open(home.path(), node, &format!("folder{node}")).unwrap());
    Identity { node, cluster_id: cluster_id.into(), peers: peers.clone(), acquaintances }
}

fn node(id: u64, cluster_id: &str, peers: &Peers, listener: TcpListener) -> Node {
    let home = tempfile::tempdir().unwrap();
    let identity = identity(id, cluster_id, peers, &home);
    let metrics = Arc::new(Metrics::default());
    let transport = Arc::new(Transport::new(identity, metrics.clone()));
    let clock = Arc::new(NodeClock::new(id, peers.ids(), ClockSpec::fixed(1_000_000)));
    let replies = Arc::new(Replies::default());
    let (handle, events) = EngineHandle::channel();
    let receiver =
        Receiver::new(transport.clone(), clock.clone(), handle, replies.clone(), metrics.clone(), 3_000_000_000);
    let server = Server::builder().add_service(crate::wire::peer::service(Arc::new(receiver)));
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    transport.start(&clock, &replies);
    Node { transport, clock, metrics, events, _home: home }
}

async fn pair(clusters: [&str; 2]) -> [Node; 2] {
    let one = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let two = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addresses = [(1, one.local_addr().unwrap().to_string()), (2, two.local_addr().unwrap().to_string())];
    let peers = Peers::new(addresses).unwrap();
    [node(1, clusters[0], &peers, one), node(2, clusters[1], &peers, two)]
}

async fn until(mut done: impl FnMut() -> bool) {
    let waiting = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(5));
        while !done() {
            ticks.tick().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("it takes too long");
}

fn message(ts: i64) -> NodeMessage {
    NodeMessage::WantSafeTime { group: GroupId(1), ts: Timestamp::from_nanos(ts) }
}

#[tokio::test]
async fn messages_arrive_in_order_and_clocks_are_compared_by_round_trips() {
    let [one, two] = pair(["c", "c"]).await;
    until(|| one.transport.states().iter().all(|peer| peer.connected)).await;
    let sent: Vec<NodeMessage> = (0..100).map(message).collect();
    assert!(one.transport.send(NodeId(2), sent.iter().map(NodeMessage::encode).collect()));
    let mut got = Vec::new();
    until(|| {
        while let Ok(event) = two.events.try_recv() {
            let Event::Messages { from, messages, .. } = event else { panic!("not a message of a peer") };
            assert_eq!(from, NodeId(1));
            got.extend(messages);
        }
        got.len() >= 100
    })
    .await;
    assert_eq!(got, sent);
    assert!(get(&one.metrics.batches_sent) < 100);

    // A clock that is behind is found out by a round trip alone.
    two.clock.set_spec("sim:fixed:1ms,offset=-1m".parse().unwrap());
    until(|| one.clock.view().peers.iter().any(|peer| peer.conflict.is_some())).await;
    two.clock.set_spec("fixed:1ms".parse().unwrap());
    until(|| one.clock.view().peers.iter().all(|peer| peer.conflict.is_none())).await;
}

#[tokio::test]
async fn another_cluster_is_refused_with_a_reason_on_both_sides() {
    let [one, two] = pair(["c", "d"]).await;
    let refused = |node: &Node| {
        let problems = node.transport.states().into_iter().filter_map(|peer| peer.problem);
        problems.into_iter().any(|problem| problem.contains("their first starts had different peer lists"))
    };
    until(|| refused(&one) && refused(&two)).await;
    one.transport.send(NodeId(2), vec![message(1).encode()]);
    assert!(two.events.try_recv().is_err());
}

#[tokio::test]
async fn garbage_ends_the_stream_and_is_counted() {
    let [one, two] = pair(["c", "c"]).await;
    until(|| one.transport.states().iter().all(|peer| peer.connected)).await;
    one.transport.send(NodeId(2), vec![bytes::Bytes::from_static(&[0xff; 40])]);
    until(|| get(&two.metrics.messages_malformed) == 1).await;
    // The next stream is as good as new.
    let mut arrived = false;
    until(|| {
        one.transport.send(NodeId(2), vec![message(7).encode()]);
        arrived |= two.events.try_recv().is_ok();
        arrived
    })
    .await;
}

#[test]
fn a_stranger_is_told_what_differs() {
    let peers: Peers = "1=a:1,2=b:2,3=c:3".parse().unwrap();
    let home = tempfile::tempdir().unwrap();
    let me = identity(1, "c", &peers, &home);
    let good = Hello { node: 2, ..me.hello() };
    assert_eq!(me.refuse(&good), None);
    for (hello, part) in [
        (Hello { format: FORMAT + 1, ..good.clone() }, "message format"),
        (Hello { nodes: vec![(1, "a:1".into()), (2, "b:2".into())], ..good.clone() }, "the peer lists differ"),
        (Hello { cluster_id: "d".into(), ..good.clone() }, "is of cluster d"),
        (Hello { node: 1, ..good.clone() }, "there are two nodes 1"),
        (Hello { node: 9, ..good }, "not in the peer list"),
    ] {
        let reason = me.refuse(&hello).unwrap();
        assert!(reason.contains(part), "{reason}");
    }
}
