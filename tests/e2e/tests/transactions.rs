//! What a transaction may see, how long it takes, and what it may not disturb.

use std::time::{Duration, Instant};

use e2e::{Cluster, Options, Session};

fn accounts(session: &mut Session) {
    session.must("CREATE TABLE a (id BIGINT PRIMARY KEY, v BIGINT NOT NULL)");
    session.must("INSERT INTO a VALUES (1, 10), (2, 20), (3, 30)");
}

#[test]
fn commit_wait_is_what_epsilon_says_and_is_accounted_for() {
    let cluster = Cluster::start_with(Options { clock: "fixed:50ms".into(), ..Options::default() });
    let mut s = cluster.session(1);
    accounts(&mut s);
    for _ in 0..3 {
        let begun = Instant::now();
        let answer = s.must("UPDATE a SET v = v + 1 WHERE id = 1");
        let took = begun.elapsed();
        assert!(took >= Duration::from_millis(100), "a commit at epsilon 50 ms took only {took:?}");
        let c = answer.complete.commit.expect("it committed");
        let phases = c.lock_wait_ns + c.prepare_ns + c.replicate_ns + c.commit_wait_ns + c.apply_ns;
        assert!(phases * 100 >= c.total_ns * 95, "the phases account for {phases} of {} ns", c.total_ns);
        assert!(c.commit_wait_ns > 50_000_000, "{c:?}");
    }
    s.must("SET CLUSTER CLOCK = 'fixed:100us'");
    s.must("UPDATE a SET v = v + 1 WHERE id = 1");
    let answer = s.must("UPDATE a SET v = v + 1 WHERE id = 1");
    let c = answer.complete.commit.expect("it committed");
    assert!(c.total_ns < 90_000_000, "a commit at epsilon 100 us: {c:?}");
    assert!(c.commit_wait_ns < 10_000_000, "{c:?}");
}

#[test]
fn timestamps_agree_with_real_time_across_nodes_and_clock_changes() {
    let cluster = Cluster::start();
    let mut s1 = cluster.session(1);
    accounts(&mut s1);
    s1.must("ALTER TABLE a SPLIT AT VALUES (2), (3)");
    let mut last = 0;
    for (round, clock) in ["fixed:20ms", "fixed:100us", "fixed:5ms", "fixed:0s"].iter().enumerate() {
        s1.must(&format!("SET CLUSTER CLOCK = '{clock}'"));
        for step in 0..12u64 {
            let node = step % 3 + 1;
            let mut s = cluster.session(node);
            let id = (step + round as u64) % 3 + 1;
            let commit = s.must(&format!("UPDATE a SET v = v + 1 WHERE id = {id}")).complete.commit.expect("commit");
            assert!(commit.commit_ts_ns > last, "timestamp {} after {last}", commit.commit_ts_ns);
            last = commit.commit_ts_ns;
        }
    }
}

#[test]
fn a_reader_neither_waits_for_a_writer_nor_delays_it() {
    let cluster = Cluster::start();
    let mut writer = cluster.session(1);
    accounts(&mut writer);
    writer.must("BEGIN");
    writer.must("UPDATE a SET v = 11 WHERE id = 1");
    for node in cluster.nodes() {
        let mut reader = cluster.session(node);
        reader.must("BEGIN READ ONLY");
        let begun = Instant::now();
        let answer = reader.must("SELECT v FROM a WHERE id = 1");
        assert!(begun.elapsed() < Duration::from_secs(1), "the reader waited {:?}", begun.elapsed());
        assert_eq!(answer.rows, [["10"]]);
    }
    let mut reader = cluster.session(2);
    reader.must("BEGIN READ ONLY");
    reader.must("SELECT * FROM a");
    let begun = Instant::now();
    writer.must("COMMIT");
    assert!(begun.elapsed() < Duration::from_secs(1), "the writer waited {:?}", begun.elapsed());
    // The snapshot does not move; a new one sees the write.
    assert_eq!(reader.must("SELECT v FROM a WHERE id = 1").rows, [["10"]]);
    reader.must("COMMIT");
    assert_eq!(reader.must("SELECT v FROM a WHERE id = 1").rows, [["11"]]);
}

#[test]
fn a_transaction_over_three_groups_is_atomic_and_reported() {
    let cluster = Cluster::start();
    let mut s = cluster.session(1);
    accounts(&mut s);
    s.must("ALTER TABLE a SPLIT AT VALUES (2), (3)");
    s.must("BEGIN");
    s.must("UPDATE a SET v = v - 5 WHERE id = 1");
    s.must("UPDATE a SET v = v + 2 WHERE id = 2");
    s.must("UPDATE a SET v = v + 3 WHERE id = 3");
    let commit = s.must("COMMIT").complete.commit.expect("it committed");
    assert_eq!(commit.participants.len(), 3, "{commit:?}");
    let status = s.must(&format!("SHOW TRANSACTION STATUS '{}'", commit.transaction));
    assert!(status.rows[0].iter().any(|v| v == "committed"), "{status:?}");
    for node in cluster.nodes() {
        let rows = cluster.session(node).must("SELECT id, v FROM a ORDER BY id").rows;
        assert_eq!(rows, [["1", "5"], ["2", "22"], ["3", "33"]], "node {node}");
    }
    s.must("BEGIN");
    s.must("UPDATE a SET v = 0 WHERE id = 1");
    s.must("UPDATE a SET v = 0 WHERE id = 3");
    s.must("ROLLBACK");
    assert_eq!(s.must("SELECT sum(v) FROM a").rows, [["60"]]);
}

#[test]
fn the_younger_of_two_in_conflict_is_wounded_and_told_why() {
    let cluster = Cluster::start();
    let (mut old, mut young) = (cluster.session(1), cluster.session(2));
    accounts(&mut old);
    old.must("BEGIN");
    old.must("SELECT v FROM a WHERE id = 2");
    young.must("BEGIN");
    young.must("UPDATE a SET v = 0 WHERE id = 1");
    old.must("UPDATE a SET v = v + 1 WHERE id = 1");
    let (state, message) = young.must_fail("COMMIT");
    assert_eq!(state, "40001", "{message}");
    young.query("ROLLBACK").ok();
    old.must("COMMIT");
    assert_eq!(old.must("SELECT v FROM a WHERE id = 1").rows, [["11"]]);
}

#[test]
fn write_skew_and_phantoms_are_refused() {
    let cluster = Cluster::start();
    let (mut a, mut b) = (cluster.session(1), cluster.session(2));
    accounts(&mut a);
    for (first, second) in [
        ("UPDATE a SET v = 0 WHERE id = 1", "UPDATE a SET v = 0 WHERE id = 2"),
        ("INSERT INTO a VALUES (7, 1)", "INSERT INTO a VALUES (8, 1)"),
    ] {
        a.must("BEGIN");
        b.must("BEGIN");
        a.must("SELECT sum(v) FROM a");
        b.must("SELECT sum(v) FROM a");
        // One of the two waits for the other or wounds it: run them side by side.
        let write_b = std::thread::spawn({
            let second = second.to_string();
            move || {
                let done = b.query(&second).is_ok() && b.query("COMMIT").is_ok();
                b.query("ROLLBACK").ok();
                (done, b)
            }
        });
        let done_a = a.query(first).is_ok() && a.query("COMMIT").is_ok();
        a.query("ROLLBACK").ok();
        let (done_b, back) = write_b.join().expect("the writer lives");
        b = back;
        assert!(!(done_a && done_b), "both committed: {first} and {second}");
        assert!(done_a || done_b, "neither committed: {first} and {second}");
    }
}
