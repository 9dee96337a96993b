//! The clock: set, shown, and fenced when it lies.

use std::time::Duration;

use e2e::{Cluster, eventually};

#[test]
fn a_lying_clock_is_fenced_and_returns() {
    let cluster = Cluster::start();
    let mut s = cluster.session(1);
    s.must("CREATE TABLE t (id BIGINT PRIMARY KEY, v BIGINT)");
    s.must("INSERT INTO t VALUES (1, 0)");
    let column = |answer: &e2e::Statement, name: &str| answer.columns.iter().position(|c| c == name);
    let trusted = |s: &mut e2e::Session, node: &str| {
        let answer = s.query("SHOW CLOCK").ok()?;
        let (node_column, trusted) = (column(&answer, "node")?, column(&answer, "trusted")?);
        answer.rows.iter().find(|r| r[node_column] == node).map(|r| r[trusted] == "t")
    };
    s.must("SET NODE 3 CLOCK = 'sim:fixed:1ms,offset=+3s'");
    eventually(Duration::from_secs(20), "node 3 is fenced", || (!trusted(&mut s, "3")?).then_some(()));
    // It leads nothing, and the others go on.
    eventually(Duration::from_secs(20), "node 3 leads nothing", || {
        let answer = s.query("SHOW GROUPS").ok()?;
        let leader = column(&answer, "leader")?;
        answer.rows.iter().all(|r| r[leader] != "3").then_some(())
    });
    eventually(Duration::from_secs(20), "writes go on", || s.query("UPDATE t SET v = v + 1").ok());
    s.must("SET NODE 3 CLOCK = 'fixed:1ms'");
    eventually(Duration::from_secs(20), "node 3 is trusted again", || trusted(&mut s, "3")?.then_some(()));
    s.must("UPDATE t SET v = v + 1");
}

#[test]
fn every_node_shows_its_interval_and_bad_sources_are_refused() {
    let cluster = Cluster::start();
    let mut s = cluster.session(2);
    let answer = s.must("SHOW CLOCK");
    assert_eq!(answer.rows.len(), 3, "{answer:?}");
    for name in ["node", "source", "epsilon", "earliest", "latest", "trusted"] {
        assert!(answer.columns.iter().any(|c| c == name), "{name} is not among {:?}", answer.columns);
    }
    for (sql, part) in [
        ("SET CLUSTER CLOCK = 'sundial'", "sundial"),
        ("SET CLUSTER CLOCK = 'fixed:-1ms'", "negative"),
        ("SET NODE 9 CLOCK = 'fixed:1ms'", "9"),
        // A bound so wide that no lease could hold would stop the cluster.
        ("SET CLUSTER CLOCK = 'fixed:5s'", "lease"),
    ] {
        let (state, message) = s.must_fail(sql);
        assert!(message.contains(part), "{sql}: {state} {message}");
    }
    s.must("SELECT 1");
}
