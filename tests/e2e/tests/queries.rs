//! Joins and other queries of the second path, over real shards: their locks, their snapshots, their
//! memory.

use e2e::{Cluster, Session};

fn shop(s: &mut Session) {
    s.must("CREATE TABLE a (id BIGINT PRIMARY KEY, v BIGINT)");
    s.must("CREATE TABLE b (id BIGINT PRIMARY KEY, a BIGINT)");
    s.must("INSERT INTO a VALUES (1, 10), (2, 20), (3, 30)");
    s.must("INSERT INTO b VALUES (1, 1), (2, 2), (3, 3)");
    s.must("ALTER TABLE a SPLIT AT VALUES (2), (3)");
    s.must("ALTER TABLE b SPLIT AT VALUES (2)");
}

#[test]
fn a_join_takes_locks_that_keep_writers_out() {
    let cluster = Cluster::start();
    let (mut old, mut young) = (cluster.session(1), cluster.session(2));
    shop(&mut old);
    // The older one reads what the younger one has written to: that one is wounded.
    old.must("BEGIN");
    old.must("SELECT v FROM a WHERE id = 1");
    young.must("BEGIN");
    young.must("UPDATE b SET a = 1 WHERE id = 3");
    let rows = old.must("SELECT b.id, v FROM a JOIN b ON b.a = a.id ORDER BY b.id").rows;
    assert_eq!(rows, [["1", "10"], ["2", "20"], ["3", "30"]]);
    let (state, message) = young.must_fail("COMMIT");
    assert_eq!(state, "40001", "{message}");
    young.query("ROLLBACK").ok();
    old.must("UPDATE b SET a = 2 WHERE id = 3");
    let rows = old.must("SELECT b.id, v FROM a JOIN b ON b.a = a.id ORDER BY b.id").rows;
    assert_eq!(rows, [["1", "10"], ["2", "20"], ["3", "20"]], "its own write");
    old.must("COMMIT");

    // The older one writes to what the younger one has read by a join.
    old.must("BEGIN");
    old.must("SELECT v FROM a WHERE id = 1");
    young.must("BEGIN");
    young.must("SELECT count(*) FROM a JOIN b ON b.a = a.id");
    old.must("UPDATE a SET v = 11 WHERE id = 1");
    old.must("COMMIT");
    let (state, message) = young.must_fail("COMMIT");
    assert_eq!(state, "40001", "{message}");
}

#[test]
fn a_join_reads_one_snapshot_and_the_past() {
    let cluster = Cluster::start();
    let mut s = cluster.session(1);
    shop(&mut s);
    let before = s.must("SELECT count(*), sum(v) FROM a JOIN b ON b.a = a.id");
    let at = before.complete.read_ts_ns;
    assert_ne!(at, 0, "a read without locks has a timestamp");
    s.must("UPDATE a SET v = v + 100");
    let query = "SELECT sum(v) FROM a JOIN b ON b.a = a.id";
    assert_eq!(s.must(query).rows, [["360"]]);
    assert_eq!(s.must(&format!("{query} AS OF SYSTEM TIME '{at}'")).rows, [["60"]]);
    for node in cluster.nodes() {
        assert_eq!(cluster.session(node).must(query).rows, [["360"]], "node {node}");
    }
    // A LIMIT over a join in a transaction leaves it usable.
    s.must("BEGIN");
    assert_eq!(s.must("SELECT a.id FROM a CROSS JOIN b LIMIT 1").rows.len(), 1);
    s.must("UPDATE a SET v = 0 WHERE id IN (SELECT a FROM b WHERE id = 3)");
    s.must("COMMIT");
    assert_eq!(s.must(query).rows, [["230"]]);
}
