//! Queries at a past timestamp: the same rows on every node, for as long as they are kept.

use std::time::Duration;

use e2e::{Cluster, Options, eventually, pause};

#[test]
fn the_past_is_the_same_everywhere_also_after_deletes_and_a_restart() {
    let mut cluster = Cluster::start();
    let mut s = cluster.session(1);
    s.must("CREATE TABLE t (id BIGINT PRIMARY KEY, v TEXT)");
    s.must("INSERT INTO t VALUES (1, 'one'), (2, 'two'), (3, 'three')");
    s.must("ALTER TABLE t SPLIT AT VALUES (2)");
    let ts = s.must("UPDATE t SET v = 'TWO' WHERE id = 2").complete.commit.expect("commit").commit_ts_ns;
    s.must("DELETE FROM t WHERE id = 1");
    s.must("UPDATE t SET v = 'later'");
    let then = [["1", "one"], ["2", "TWO"], ["3", "three"]];
    let query = format!("SELECT id, v FROM t AS OF SYSTEM TIME {ts} ORDER BY id");
    for node in cluster.nodes() {
        assert_eq!(cluster.session(node).must(&query).rows, then, "node {node}");
    }
    for node in cluster.nodes() {
        cluster.stop(node);
    }
    for node in cluster.nodes() {
        cluster.start_node(node);
    }
    cluster.await_ready();
    for node in cluster.nodes() {
        let mut s = cluster.session(node);
        let rows = eventually(Duration::from_secs(20), "the past is readable", || s.query(&query).ok()).rows;
        assert_eq!(rows, then, "node {node}, after the restart");
        s.must(&format!("BEGIN READ ONLY AS OF SYSTEM TIME {ts}"));
        assert_eq!(s.must("SELECT count(*) FROM t").rows, [["3"]]);
        assert_eq!(s.must_fail("DELETE FROM t").0, "25006");
        s.must("ROLLBACK");
        assert_eq!(s.must("SELECT count(*) FROM t").rows, [["2"]]);
    }
}

#[test]
fn below_the_retention_the_error_names_the_earliest_readable_timestamp() {
    let args = ["--retention", "10s", "--gc-every", "500ms"].map(String::from).to_vec();
    let cluster = Cluster::start_with(Options { args, ..Options::default() });
    let mut s = cluster.session(1);
    s.must("CREATE TABLE t (id BIGINT PRIMARY KEY, v BIGINT)");
    let ts = s.must("INSERT INTO t VALUES (1, 1)").complete.commit.expect("commit").commit_ts_ns;
    s.must("UPDATE t SET v = 2");
    let query = format!("SELECT v FROM t AS OF SYSTEM TIME {ts}");
    assert_eq!(s.must(&query).rows, [["1"]]);
    let (state, message) = eventually(Duration::from_secs(40), "the version is collected", || match s.query(&query) {
        Err(e2e::Failure::Server(e)) => Some((e.sqlstate, format!("{} {} {}", e.message, e.detail, e.hint))),
        _ => None,
    });
    assert_eq!(state, "72000", "{message}");
    assert!(message.contains("20"), "it names a timestamp: {message}");
    pause(Duration::from_millis(500));
    assert_eq!(s.must("SELECT v FROM t").rows, [["2"]]);
    assert_eq!(s.must("SELECT v FROM t AS OF SYSTEM TIME '-1s'").rows, [["2"]]);
}
