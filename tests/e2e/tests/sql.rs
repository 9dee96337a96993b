//! The shell and the command line, as scripts use them.

use e2e::Cluster;
use e2e::cluster::run;

#[test]
fn statements_formats_and_exit_codes() {
    let cluster = Cluster::start();
    let ok = |args: &[&str]| {
        let out = cluster.sql(2, args);
        assert_eq!(out.code, 0, "{args:?}: {}{}", out.stdout, out.stderr);
        out.stdout
    };
    ok(&["-e", "CREATE TABLE t (id BIGINT PRIMARY KEY, name TEXT, at TIMESTAMPTZ)"]);
    ok(&["-e", "INSERT INTO t VALUES (1, 'it''s', '2026-01-02T03:04:05Z'), (2, NULL, NULL)"]);
    assert_eq!(ok(&["--format", "csv", "-e", "SELECT id, name FROM t ORDER BY id"]), "id,name\n1,it's\n2,\n");
    assert_eq!(ok(&["--format", "tsv", "-e", "SELECT id FROM t ORDER BY id DESC"]), "id\n2\n1\n");
    let json: serde_json::Value =
        serde_json::from_str(&ok(&["--format", "json", "-e", "SELECT * FROM t ORDER BY id"])).expect("json");
    assert_eq!(json[0]["name"], "it's");
    assert!(json[1]["name"].is_null());
    assert!(ok(&["-e", "SELECT * FROM t"]).contains("(2 rows)"));
    let script = cluster.path("script.sql");
    std::fs::write(&script, "SELECT 1 AS one;\nSELECT nonsense;\nSELECT 2 AS two;\n").expect("written");
    let out = cluster.sql(1, &["-f", &script]);
    assert_eq!(out.code, 1, "{out:?}");
    assert!(out.stdout.contains("one") && !out.stdout.contains("two"), "stops at the first error: {out:?}");
    assert!(out.stderr.contains("nonsense") && out.stderr.contains("42703"), "{out:?}");
}

#[test]
fn show_and_explain_tell_the_truth() {
    let cluster = Cluster::start();
    let mut s = cluster.session(1);
    s.must("CREATE TABLE t (id BIGINT PRIMARY KEY, v BIGINT)");
    s.must("INSERT INTO t VALUES (1, 1), (2, 2), (3, 3)");
    s.must("ALTER TABLE t SPLIT AT VALUES (2), (3)");
    let leaders = s.must("SHOW RANGES FROM TABLE t");
    assert_eq!(leaders.rows.len(), 3, "{leaders:?}");
    assert_eq!(s.must("SHOW NODES").rows.len(), 3);
    assert!(s.must("SHOW GROUPS").rows.len() >= 4);
    let text = |answer: e2e::Statement| answer.rows.into_iter().flatten().collect::<Vec<_>>().join("\n").to_lowercase();
    assert!(text(s.must("EXPLAIN SELECT * FROM t WHERE id = 2")).contains("point"));
    assert!(text(s.must("EXPLAIN SELECT * FROM t WHERE id > 2")).contains("range"));
    assert!(text(s.must("EXPLAIN SELECT * FROM t WHERE v > 2")).contains("full scan"));
    let analyzed = text(s.must("EXPLAIN ANALYZE UPDATE t SET v = v + 1 WHERE id = 2"));
    for phase in ["lock wait", "prepare", "replication", "commit wait", "apply"] {
        assert!(analyzed.contains(phase), "{phase} is missing:\n{analyzed}");
    }
    let mut writer = cluster.session(2);
    writer.must("BEGIN");
    writer.must("UPDATE t SET v = 9 WHERE id = 3");
    assert!(s.must("SHOW LOCKS").rows.iter().flatten().any(|v| v.contains("/t/3")), "{:?}", s.must("SHOW LOCKS"));
    assert!(!s.must("SHOW TRANSACTIONS").rows.is_empty());
    writer.must("ROLLBACK");
}

#[test]
fn a_demo_runs_its_statements_and_leaves_nothing_behind() {
    let port = e2e::demo::free_port();
    let out = run(&[
        "demo",
        "--ephemeral",
        "--port",
        &port.to_string(),
        "-e",
        "CREATE TABLE t (id BIGINT PRIMARY KEY)",
        "-e",
        "INSERT INTO t VALUES (1), (2)",
        "-e",
        "SELECT count(*) AS n FROM t",
    ]);
    assert_eq!(out.code, 0, "{}{}", out.stdout, out.stderr);
    assert!(out.stdout.contains('n') && out.stdout.contains('2'), "{}", out.stdout);
    // What it started is stopped: the ports are free again.
    for offset in 0..3 {
        std::net::TcpListener::bind(("127.0.0.1", port + offset)).expect("the demo's port is free again");
    }
}
