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

fn column<'a>(answer: &'a e2e::Statement, row: &'a [String], name: &str) -> Option<&'a str> {
    Some(&row[answer.columns.iter().position(|c| c == name)?])
}

/// Why a node's clock is not trusted, or `None` if it is.
fn problem(s: &mut e2e::Session, node: u64) -> Option<String> {
    let answer = s.query("SHOW CLOCK").ok()?;
    let row = answer.rows.iter().find(|row| column(&answer, row, "node") == Some(&node.to_string()))?;
    (column(&answer, row, "trusted") == Some("f")).then(|| column(&answer, row, "problem").unwrap_or_default().into())
}

const HOUR_NS: i64 = 3_600_000_000_000;

#[test]
fn a_leaders_clock_that_leaps_a_day_leaves_no_trace_in_what_is_committed() {
    let cluster = Cluster::start();
    let mut s = cluster.session(1);
    s.must("CREATE TABLE t (id BIGINT PRIMARY KEY, v BIGINT)");
    s.must("INSERT INTO t VALUES (1, 0)");
    let first = s.must("UPDATE t SET v = 1 WHERE id = 1").complete.commit.expect("a commit").commit_ts_ns;
    for (round, fault) in ["offset=+24h", "offset=-24h", "step=+24h@1s", "step=-24h@1s"].iter().enumerate() {
        let leader = cluster.leader_of("t", 1);
        let other = cluster.nodes().into_iter().find(|n| *n != leader).expect("three nodes");
        let mut s = cluster.session(other);
        s.must(&format!("SET NODE {leader} CLOCK = 'sim:fixed:1ms,{fault}'"));
        // Work goes on meanwhile, and no commit has a timestamp from another day.
        let mut written = 0;
        let why = eventually(Duration::from_secs(30), &format!("{fault}: node {leader} is fenced"), || {
            if let Ok(answer) = s.query("UPDATE t SET v = v + 1 WHERE id = 1") {
                let at = answer.complete.commit.expect("a commit").commit_ts_ns;
                assert!((first..first + HOUR_NS).contains(&at), "{fault}: a commit at {at}, the first was at {first}");
                written += 1;
            }
            problem(&mut s, leader)
        });
        assert!(why.contains("ahead") || why.contains("behind"), "{fault}: {why}");
        eventually(Duration::from_secs(20), "another node leads", || {
            (cluster.leader_of("t", other) != leader).then_some(())
        });
        s.must("UPDATE t SET v = v + 1 WHERE id = 1");
        s.must(&format!("SET NODE {leader} CLOCK = 'fixed:1ms'"));
        eventually(Duration::from_secs(20), "it is trusted again", || problem(&mut s, leader).is_none().then_some(()));
        // Through the node that had lied, too.
        let mut there = cluster.session(leader);
        let at = there.must("UPDATE t SET v = v + 1 WHERE id = 1").complete.commit.expect("a commit").commit_ts_ns;
        assert!((first..first + HOUR_NS).contains(&at), "round {round}: {at}");
    }
}

#[test]
fn a_cluster_restarted_with_yesterdays_date_refuses_until_it_is_set_right() {
    let mut cluster = Cluster::start();
    let mut s = cluster.session(1);
    s.must("CREATE TABLE t (id BIGINT PRIMARY KEY, v BIGINT)");
    let before = s.must("INSERT INTO t VALUES (1, 1)").complete.commit.expect("a commit").commit_ts_ns;
    for kill in [false, true] {
        for node in cluster.nodes() {
            if kill { cluster.kill(node) } else { _ = cluster.stop(node) }
        }
        cluster.set_clock("sim:fixed:1ms,offset=-24h");
        for node in cluster.nodes() {
            cluster.start_node(node);
        }
        for node in cluster.nodes() {
            let mut s = cluster.session(node);
            for sql in ["SELECT * FROM t", "INSERT INTO t VALUES (2, 2)", "BEGIN"] {
                let (state, message) = s.must_fail(sql);
                assert_eq!(state, "57P03", "{sql}: {message}");
                assert!(message.contains("clock of this node is behind"), "{sql}: {message}");
            }
            let why = eventually(Duration::from_secs(10), "SHOW CLOCK says why", || problem(&mut s, node));
            assert!(why.contains("behind") && cluster.log(node).contains("were used before"), "{why}");
        }
        cluster.set_clock("fixed:1ms");
        for node in cluster.nodes() {
            cluster.session(1).must(&format!("SET NODE {node} CLOCK = 'fixed:1ms'"));
        }
        cluster.await_ready();
        let mut s = cluster.session(2);
        assert_eq!(s.must("SELECT v FROM t WHERE id = 1").rows, [["1"]]);
        let after = s.must("UPSERT INTO t VALUES (1, 1)").complete.commit.expect("a commit").commit_ts_ns;
        assert!(after > before, "{after} after {before}");
    }
}
