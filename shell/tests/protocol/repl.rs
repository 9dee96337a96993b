//! The shell on scripts.

use std::sync::{Arc, Mutex};

use shell::client::Client;
use shell::format::Format;
use shell::out::Out;
use shell::repl::{Flow, Shell};

use crate::fake::{Cluster, Fault};

type Bytes = Arc<Mutex<Vec<u8>>>;

async fn shell(cluster: &Cluster) -> (Shell, Bytes, Bytes) {
    let client = Client::connect(&cluster.addresses).await.expect("up");
    let ((out, shown), (err, said)) = (Out::memory(), Out::memory());
    (Shell::new(client, out, err), shown, said)
}

fn text(bytes: &Bytes) -> String {
    String::from_utf8(std::mem::take(&mut *bytes.lock().expect("one thread"))).expect("utf-8")
}

#[tokio::test]
async fn a_script_stops_at_its_first_error() {
    let cluster = Cluster::start(1).await;
    let (mut shell, shown, said) = shell(&cluster).await;
    assert_eq!(shell.script("SELECT 1; nonsense; SELECT 1").await, Flow::Failed);
    assert_eq!(text(&shown), " one\n-----\n   1\n(1 row)\n\n");
    assert_eq!(text(&said), "ERROR:  syntax error\nSQLSTATE: 42601\n");
    assert_eq!(shell.script("\\set ON_ERROR_STOP off\nnonsense; SELECT 1 \\gx").await, Flow::Failed);
    assert_eq!(text(&shown), "-[ RECORD 1 ]--\none | 1\n\n");
}

#[tokio::test]
async fn results_and_the_rest_go_different_ways() {
    let cluster = Cluster::start(1).await;
    let (mut shell, shown, said) = shell(&cluster).await;
    shell.set_format(Format::Json);
    let script = "\\timing on\n\\set n 1\nCREATE TABLE t (a BIGINT);\nSELECT :n;\n\\echo hi :n\n\\format tsv\nSELECT 1";
    assert_eq!(shell.script(script).await, Flow::Done);
    assert_eq!(text(&shown), "[\n  {\"one\":1}\n]\nhi 1\none\n1\n");
    assert!(text(&said).starts_with("timing is on\ntime: "));
    assert_eq!(shell.script("\\kill 1").await, Flow::Failed);
    assert!(text(&said).contains("not started by meridian demo"));
}

#[tokio::test]
async fn a_lost_connection_is_told_and_asof_is_set_again() {
    let cluster = Cluster::start(2).await;
    let (mut shell, shown, said) = shell(&cluster).await;
    assert_eq!(shell.script("\\asof -5s").await, Flow::Done);
    cluster.state().cut_at = Some("SELECT 1".into());
    assert_eq!(shell.script("SELECT 1").await, Flow::Done, "a read runs again");
    assert!(text(&shown).contains("(1 row)"));
    let told = text(&said);
    for part in ["reads are as of -5s", "connection to n1 (", "now on n2 (", "reads are again as of -5s"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(cluster.state().seen.contains(&(2, "SET read_timestamp = '-5s'".to_string())));
    cluster.state().cut_at = Some("UPDATE".into());
    assert_eq!(shell.script("BEGIN; UPDATE t SET a = 1; SELECT 1").await, Flow::Failed);
    assert!(text(&said).contains("the open transaction was rolled back"));
}

#[tokio::test]
async fn a_commit_in_doubt_is_settled() {
    let cluster = Cluster::start(2).await;
    let (mut shell, _, said) = shell(&cluster).await;
    cluster.state().fault_every = 1;
    for (fault, flow, told) in [
        (Fault::LoseAfter, Flow::Done, "transaction 00000001 committed at"),
        (Fault::LoseBefore, Flow::Failed, "transaction 00000002 was rolled back"),
        (Fault::InDoubtCommitted, Flow::Done, "transaction 00000003 committed at"),
    ] {
        cluster.state().faults.push_back(fault);
        assert_eq!(shell.script("BEGIN; COMMIT").await, flow);
        let said = text(&said);
        assert!(said.contains(told), "{said}");
    }
}
