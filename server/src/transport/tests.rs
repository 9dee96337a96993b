//! Two transports over real sockets.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use paxos::{GroupId, NodeId};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use truetime::{ClockSpec, Timestamp};
use txn::client::ClientInput;
use txn::{Mutation, NodeMessage, Request, RequestBody};

use super::{BATCH_BYTES_MAX, Batch, FORMAT, Hello, Identity, Receiver, Transport};
use crate::clock::NodeClock;
use crate::config::Peers;
use crate::engine::{EVENTS_BYTES_MAX, EngineHandle, Event, Events};
use crate::gateway::{Inbox, Replies};
use crate::metrics::{Metrics, get};
use crate::storage::Acquaintances;

struct Node {
    transport: Arc<Transport>,
    clock: Arc<NodeClock>,
    metrics: Arc<Metrics>,
    replies: Arc<Replies>,
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
    let transport = Arc::new(Transport::new(identity, None, metrics.clone()));
    let clock = Arc::new(NodeClock::new(id, peers.ids(), ClockSpec::fixed(1_000_000)));
    let replies = Arc::new(Replies::default());
    let (handle, events) = EngineHandle::channel();
    let (lease_ns, injected) = (3_000_000_000, Arc::default());
    let receiver =
        Receiver::new(transport.clone(), clock.clone(), handle, replies.clone(), metrics.clone(), lease_ns, injected);
    let server = Server::builder().add_service(crate::wire::peer::service(Arc::new(receiver)));
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    transport.start(&clock, &replies);
    Node { transport, clock, metrics, replies, events, _home: home }
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

/// A message of about so many bytes.
fn large(bytes: usize) -> Bytes {
    let writes = vec![Mutation { key: Bytes::from_static(b"k"), value: Some(Bytes::from(vec![7; bytes])) }];
    let (txn, coordinator) = (txn::TxnId(1), GroupId(1));
    let body = RequestBody::Prepare { txn, priority: txn::Priority::default(), leadership: None, writes, coordinator };
    NodeMessage::Request(Request { id: 1, group: GroupId(1), body }).encode()
}

/// Node 1 here, and node 2 in a runtime of its own, which can be taken away with all its sockets.
async fn with_mortal(peers: &Peers, listener: TcpListener, two: std::net::TcpListener) -> (Node, MortalNode) {
    (node(1, "c", peers, listener), MortalNode::start(peers, two))
}

struct MortalNode {
    runtime: Option<tokio::runtime::Runtime>,
    node: Node,
}

impl MortalNode {
    fn start(peers: &Peers, listener: std::net::TcpListener) -> MortalNode {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        listener.set_nonblocking(true).unwrap();
        let node = {
            let _inside = runtime.enter();
            node(2, "c", peers, TcpListener::from_std(listener).unwrap())
        };
        MortalNode { runtime: Some(runtime), node }
    }

    fn die(mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }
}

impl Drop for MortalNode {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn mortal_pair() -> (Node, MortalNode, Peers) {
    let one = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let two = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addresses = [(1, one.local_addr().unwrap().to_string()), (2, two.local_addr().unwrap().to_string())];
    let peers = Peers::new(addresses).unwrap();
    let (one, two) = with_mortal(&peers, one, two).await;
    (one, two, peers)
}

fn connected(node: &Node) -> bool {
    node.transport.states().iter().all(|peer| peer.connected)
}

/// Whether a message that is sent again and again arrives.
async fn gets_through(from: &Node, to: &Node) {
    until(|| {
        from.transport.send(to.transport.me(), vec![message(9).encode()]);
        to.events.try_recv().is_ok()
    })
    .await;
}

#[tokio::test]
async fn a_peer_that_comes_back_is_found_and_what_it_owed_is_given_up() {
    let (one, two, peers) = mortal_pair().await;
    until(|| connected(&one)).await;
    let inbox = Arc::new(Inbox::default());
    one.replies.register(5, NodeId(2), &inbox);
    two.die();
    // Whoever waits for an answer hears of the loss at once, not at the end of a timeout.
    until(|| inbox.take() == [ClientInput::SendFailed { request: 5 }]).await;
    until(|| !connected(&one)).await;
    assert!(one.transport.drained(), "nothing is kept for a peer that is away");
    assert!(!one.transport.ask(NodeId(2), message(1).encode()), "nothing is asked of a peer that is away");
    let address = peers.address(2).unwrap();
    let mut listener = None;
    until(|| {
        listener = std::net::TcpListener::bind(address).ok();
        listener.is_some()
    })
    .await;
    let two = MortalNode::start(&peers, listener.unwrap());
    until(|| connected(&one) && connected(&two.node)).await;
    assert!(one.transport.ask(NodeId(2), message(1).encode()));
    gets_through(&one, &two.node).await;
    gets_through(&two.node, &one).await;
}

#[tokio::test]
async fn a_peer_that_accepts_and_says_nothing_is_given_up() {
    let one = TcpListener::bind("127.0.0.1:0").await.unwrap();
    // As a stopped process, or a cut cable: the connection stands, and nobody is there.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addresses = [(1, one.local_addr().unwrap().to_string()), (2, silent.local_addr().unwrap().to_string())];
    let peers = Peers::new(addresses).unwrap();
    let one = node(1, "c", &peers, one);
    let (socket, _) = silent.accept().await.unwrap();
    let inbox = Arc::new(Inbox::default());
    one.replies.register(5, NodeId(2), &inbox);
    one.transport.send(NodeId(2), vec![message(1).encode()]);
    until(|| inbox.take() == [ClientInput::SendFailed { request: 5 }]).await;
    // It tries again.
    drop(socket);
    let (_socket, _) = silent.accept().await.unwrap();
}

#[tokio::test]
async fn a_message_that_is_too_large_is_refused_and_breaks_nothing() {
    let [one, two] = pair(["c", "c"]).await;
    until(|| connected(&one)).await;
    assert!(!one.transport.send(NodeId(2), vec![large(BATCH_BYTES_MAX)]));
    assert_eq!(get(&one.metrics.messages_dropped), 1);
    gets_through(&one, &two).await;
    // The largest transaction there is does get through.
    until(|| connected(&one)).await;
    assert!(one.transport.send(NodeId(2), vec![large(txn::types::TXN_BYTES_MAX)]));
    until(|| matches!(two.events.try_recv(), Ok(Event::Messages { bytes, .. }) if bytes > txn::types::TXN_BYTES_MAX))
        .await;
}

#[tokio::test]
async fn an_engine_that_does_not_keep_up_holds_its_peers_back() {
    let [one, two] = pair(["c", "c"]).await;
    until(|| connected(&one)).await;
    // Nobody takes events at node 2: what it holds stays bounded, and so does the queue of node 1.
    let one_mib = large(1 << 20);
    let (mut last, mut unchanged) = (0, 0);
    until(|| {
        one.transport.send(NodeId(2), vec![one_mib.clone(); 8]);
        let sent = get(&one.metrics.messages_sent);
        unchanged = if sent == last { unchanged + 1 } else { 0 };
        last = sent;
        unchanged > 60
    })
    .await;
    assert!(get(&one.metrics.messages_dropped) > 64);
    let mut held = 0;
    while let Ok(Event::Messages { bytes, .. }) = two.events.try_recv() {
        held += bytes;
        // Only what was there, not what comes in as room is made.
        if held > EVENTS_BYTES_MAX {
            break;
        }
    }
    assert!(held > EVENTS_BYTES_MAX / 2, "{held} bytes had come");
    let sent = get(&one.metrics.messages_sent) as usize * one_mib.len();
    assert!(sent < 2 * EVENTS_BYTES_MAX + (256 << 20), "{sent} bytes were taken by queues and sockets");
    // Once it keeps up, everything flows again.
    until(|| {
        while two.events.try_recv().is_ok() {}
        one.transport.drained()
    })
    .await;
    gets_through(&one, &two).await;
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

/// A stream of node 2 that says hello with these folders, and ends.
async fn greeted(one: &Node, folders: &[(u64, &str)]) -> Result<(), tonic::Status> {
    let (handle, _events) = EngineHandle::channel();
    let (transport, clock, metrics) = (one.transport.clone(), one.clock.clone(), one.metrics.clone());
    let receiver = Receiver::new(transport, clock, handle, one.replies.clone(), metrics, 3_000_000_000, Arc::default());
    let folders = folders.iter().map(|(node, name)| (*node, name.to_string())).collect();
    let now = one.clock.now().tt;
    let first = Batch {
        hello: Some(Hello { node: 2, folders, ..one.transport.identity().hello() }),
        earliest: now.earliest,
        latest: now.latest,
        messages: Vec::new(),
        sent_mono_ns: 1,
        echo_mono_ns: 0,
        echo_delay_ns: 0,
    };
    receiver.run(futures::stream::iter([Ok(first)])).await
}

#[tokio::test]
async fn a_peer_cannot_make_a_node_remember_what_there_is_not() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let peers = Peers::new([(1, listener.local_addr().unwrap().to_string()), (2, "127.0.0.1:1".into())]).unwrap();
    let one = node(1, "c", &peers, listener);
    let known = || one.transport.identity().acquaintances.known().into_keys().collect::<Vec<_>>();
    let long = "f".repeat(1 << 20);
    assert_eq!(greeted(&one, &[(2, &long)]).await.unwrap_err().code(), tonic::Code::InvalidArgument);
    assert_eq!(known(), [1]);
    let strangers: Vec<(u64, &str)> = (2..2000).map(|node| (node, "f")).collect();
    greeted(&one, &strangers).await.unwrap();
    assert_eq!(known(), [1, 2]);
}
