//! Losing connections, and what is known afterwards.

use std::time::Duration;

use proto::v1::TransactionState;
use shell::client::{Client, ClientOptions, Failure, status};

use crate::fake::{Cluster, Fault};

#[tokio::test]
async fn a_client_learns_the_nodes_and_moves_on() {
    let cluster = Cluster::start(2).await;
    let mut client = Client::connect(&cluster.addresses[..1]).await.expect("up");
    assert_eq!((client.node(), client.addresses().len()), (Some(1), 2));
    client.set_session_statements(vec!["SET read_timestamp = '-5s'".into()]);
    client.prepare("one", "SELECT 1").await.expect("planned");
    client.execute("BEGIN", Vec::new()).await.expect("begun");
    assert_eq!(client.state(), TransactionState::Open);
    cluster.state().cut_at = Some("UPDATE accounts".into());
    let lost = client.execute("UPDATE accounts SET x = 1", Vec::new()).await.expect_err("cut");
    let Failure::Disconnected(lost) = lost else { panic!("{lost}") };
    assert!(!lost.in_doubt, "an open transaction is rolled back");
    assert_eq!((lost.node, lost.transaction.as_str()), (1, "00000001"));
    let result = client.execute_prepared("one", Vec::new()).await.expect("prepared again on the other node");
    assert_eq!((client.node(), result.rows.len()), (Some(2), 1));
    assert!(cluster.state().seen.contains(&(2, "SET read_timestamp = '-5s'".to_string())));
}

#[tokio::test]
async fn what_may_have_committed_is_in_doubt_and_is_not_repeated() {
    let cluster = Cluster::start(2).await;
    let mut client = Client::connect(&cluster.addresses).await.expect("up");
    cluster.state().cut_at = Some("INSERT".into());
    let lost = client.execute("INSERT INTO t VALUES (1)", Vec::new()).await.expect_err("cut");
    assert!(matches!(&lost, Failure::Disconnected(d) if d.in_doubt), "{lost}");
    assert!(!cluster.state().seen.iter().any(|(_, sql)| sql.starts_with("INSERT")));
    let commits = [(Fault::LoseAfter, true), (Fault::LoseBefore, true)];
    for (fault, in_doubt) in commits {
        cluster.state().fault_every = 1;
        cluster.state().faults.push_back(fault);
        client.execute("BEGIN", Vec::new()).await.expect("begun");
        let lost = client.execute("COMMIT", Vec::new()).await.expect_err("cut");
        assert!(
            matches!(&lost, Failure::Disconnected(d) if d.in_doubt == in_doubt && !d.transaction.is_empty()),
            "{lost}"
        );
    }
}

#[tokio::test]
async fn a_silent_or_absent_node_is_passed_over() {
    let cluster = Cluster::start(1).await;
    // It accepts connections in its backlog, like a stopped process, and never answers.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let gone_address = gone.local_addr().expect("bound").to_string();
    drop(gone);
    let silent_address = silent.local_addr().expect("bound").to_string();
    let options = ClientOptions { connect_timeout: Duration::from_millis(200), ..ClientOptions::default() };
    let addresses = [gone_address.clone(), silent_address, cluster.addresses[0].clone()];
    let client = Client::connect_with(&addresses, options.clone()).await.expect("the third answers");
    assert_eq!(client.node(), Some(1));
    let failed = Client::connect_with(&addresses[..2], options).await.err().expect("nobody answers").to_string();
    assert!(failed.contains("refused") && failed.contains("no answer"), "{failed}");
    assert_eq!(status(&cluster.addresses[0], Duration::from_secs(5)).await.expect("up").node, 1);
    assert!(status(&gone_address, Duration::from_secs(5)).await.is_err());
}
