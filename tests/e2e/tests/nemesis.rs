//! Faults on real processes: by the shell, beside a workload, and what they cost.

use std::time::Duration;

use e2e::cluster::run;
use e2e::{Cluster, Demo, eventually};

/// The faults that a shell shows.
fn faults(demo: &Demo) -> String {
    demo.shell(2, "\\faults").stdout
}

fn status(demo: &Demo) -> String {
    run(&["status", "--connect", &demo.connect()]).stdout
}

#[test]
fn faults_of_all_kinds_leave_a_valid_history() {
    let demo = Demo::start("1s");
    let with = ["workload", "append", "run", "--check", "--seed", "4", "--duration", "9s", "--statement-timeout", "4s"];
    let (code, report, all) = demo.report(&[&with[..], &["--nemesis", "all", "--interval", "600ms"]].concat());
    assert_eq!((code, &report["verdict"]), (0, &"valid".into()), "{all}");
    assert_eq!(report["nemesis"]["problems"], serde_json::json!([]), "{all}");
    assert!(report["nemesis"]["count"].as_u64() >= Some(6), "{all}");
    assert!(report["writes"].as_u64() >= Some(50), "{all}");
    // All is healed, and all nodes hold the same.
    assert_eq!(faults(&demo), "no faults\n");
    let equal = || demo.shell(1, "CHECK REPLICAS").stdout;
    eventually(Duration::from_secs(30), "replicas are equal", || (!equal().contains(" f ")).then_some(()));
}

#[test]
fn a_partition_cuts_a_node_off_until_it_is_healed() {
    let demo = Demo::start("1s");
    demo.shell(2, "CREATE TABLE t (id BIGINT PRIMARY KEY, v BIGINT)");
    let said = demo.shell(2, "\\partition 1|23");
    assert!(said.code == 0 && said.stderr.contains("1|23 (4 one-way cuts)"), "{said:?}");
    assert!(faults(&demo).contains("partition"), "{}", faults(&demo));
    eventually(Duration::from_secs(30), "the majority goes on", || {
        (demo.shell(2, "INSERT INTO t VALUES (1, 1) ON CONFLICT DO NOTHING").code == 0).then_some(())
    });
    eventually(Duration::from_secs(30), "the cut is noticed", || {
        status(&demo).contains("no connection to n1").then_some(())
    });
    let said = demo.shell(3, "\\heal");
    assert!(said.code == 0 && said.stderr.contains("all faults are healed"), "{said:?}");
    assert_eq!(faults(&demo), "no faults\n");
    let rows = eventually(Duration::from_secs(30), "node 1 sees the write", || {
        Some(demo.shell(1, "SELECT v FROM t")).filter(|out| out.code == 0)
    });
    assert!(rows.stdout.contains('1'), "{rows:?}");
}

#[test]
fn a_clock_beyond_its_bound_is_fenced_and_comes_back() {
    let demo = Demo::start("1s");
    let said = demo.shell(1, "\\skew 3 +2s");
    assert!(said.code == 0, "{said:?}");
    let fenced = || status(&demo).lines().any(|line| line.contains(&demo.address(3)) && line.contains("fenced"));
    eventually(Duration::from_secs(30), "node 3 is fenced", || fenced().then_some(()));
    assert!(demo.shell(1, "CREATE TABLE t (id BIGINT PRIMARY KEY)").code == 0, "the others serve");
    assert!(demo.shell(1, "\\skew 3 off").code == 0);
    eventually(Duration::from_secs(30), "node 3 is trusted again", || (!fenced()).then_some(()));
}

#[test]
fn killed_and_slow_nodes_are_shown_and_healed() {
    let demo = Demo::start("1s");
    for line in ["\\kill 3", "\\slow-disk 2 5ms", "\\slow 1 3ms"] {
        let said = demo.shell(2, line);
        assert_eq!(said.code, 0, "{line}: {said:?}");
    }
    let shown = faults(&demo);
    for part in ["killed", "slow disk", "slow network"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert!(demo.shell(2, "\\kill 3").stderr.contains("is not running"), "it is dead already");
    assert_eq!(demo.shell(2, "\\heal").code, 0);
    assert_eq!(faults(&demo), "no faults\n");
    demo.await_ready();
}

#[test]
fn a_graceful_stop_of_the_leader_is_hardly_felt() {
    let demo = Demo::start("3s");
    let (code, report, all) = demo.report(&["nemesis", "recovery", "--kind", "stop", "--times", "5"]);
    assert_eq!((code, &report["times"]), (0, &5.into()), "{all}");
    // Far below the lease of 3 s, which a crash has to wait for, and the locks of its sessions went with it.
    assert!(report["worst_ms"].as_f64().is_some_and(|ms| ms < 2_000.0), "{all}");
}

#[test]
fn what_cannot_be_hurt_is_refused_with_a_reason() {
    let demo = Demo::start("1s");
    for (line, part) in [
        ("\\kill 9", "there is no node 9"),
        ("\\partition 1|9", "there is no node 9"),
        ("\\partition 1|1", "on both sides"),
        ("\\skew 1 soon", "soon"),
        ("\\slow 1 for-ever", "for-ever"),
        ("\\resume 1 2 x", "'x' is not the number of a node"),
        ("\\kill", "\\kill N"),
    ] {
        let said = demo.shell(1, line);
        assert!(said.code != 0 && said.stderr.contains(part), "{line}: {said:?}");
    }
    // Nodes that somebody else has started.
    let cluster = Cluster::start();
    let said = cluster.sql(1, &["-e", "\\kill 2"]);
    assert!(said.code != 0 && said.stderr.contains("not started by meridian demo"), "{said:?}");
    let out = run(&["workload", "append", "run", "--connect", &cluster.connect(), "--nemesis", "kill"]);
    assert!(out.code == 1 && out.stderr.contains("not started by meridian demo"), "{out:?}");
}
