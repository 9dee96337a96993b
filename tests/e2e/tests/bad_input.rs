//! Bad input of every kind: a clear error each, and no harm.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use e2e::cluster::{Output, binary, free_ports, run};
use e2e::{Cluster, eventually};

#[test]
fn statements_that_cannot_be() {
    let cluster = Cluster::start();
    let mut s = cluster.session(1);
    s.must("CREATE TABLE t (id TEXT PRIMARY KEY, v BIGINT NOT NULL)");
    s.must("INSERT INTO t VALUES ('a', 1)");
    for (sql, state) in [
        ("SELEC 1", "42601"),
        ("SELECT * FROM nowhere", "42P01"),
        ("SELECT nothing FROM t", "42703"),
        ("INSERT INTO t VALUES ('a', 2)", "23505"),
        ("INSERT INTO t VALUES ('b', NULL)", "23502"),
        ("UPDATE t SET v = v / 0", "22012"),
        ("SELECT 9223372036854775807 + 1", "22003"),
        ("CREATE TABLE t (id BIGINT PRIMARY KEY)", "42P07"),
        ("SELECT * FROM t TABLESAMPLE BERNOULLI (10)", "0A000"),
        ("SELECT * FROM t JOIN t AS u", "42601"),
        ("COMMIT THE BIT", "42601"),
        ("ROLLBACK TO SAVEPOINT nowhere", "25P01"),
    ] {
        let (got, message) = s.must_fail(sql);
        assert_eq!(got, state, "{sql}: {message}");
        // PostgreSQL's messages begin with a small letter, or with a keyword.
        let mut start = message.chars();
        let capital = start.next().is_none_or(char::is_uppercase) && start.next().is_none_or(char::is_lowercase);
        assert!(!capital, "{sql}: {message:?}");
        s.query("ROLLBACK").ok();
    }
    let (state, message) = s.must_fail("UPDATE t SET v = 'x' || id");
    assert!(state.starts_with("42") || state.starts_with("22"), "{state} {message}");
    let big = "k".repeat(1 << 20);
    let (state, message) = s.must_fail(&format!("INSERT INTO t VALUES ('{big}', 1)"));
    assert_eq!(state, "54000", "{message}");
    assert_eq!(s.must("SELECT * FROM t").rows, [["a", "1"]]);
}

#[test]
fn garbage_on_the_port_does_no_harm() {
    let cluster = Cluster::start();
    let mut s = cluster.session(1);
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 4096], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\xff\xff"]
    {
        for node in cluster.nodes() {
            let mut socket = TcpStream::connect(cluster.address(node)).expect("the port is open");
            socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
            let _ = socket.write_all(garbage);
            let _ = socket.shutdown(std::net::Shutdown::Write);
            let mut answer = Vec::new();
            let _ = socket.read_to_end(&mut answer);
        }
    }
    s.must("SELECT 1");
    for node in cluster.nodes() {
        cluster.session(node).must("SHOW TABLES");
    }
}

fn refused(args: &[&str], parts: &[&str]) -> Output {
    let out = run(args);
    assert_ne!(out.code, 0, "{args:?} succeeded");
    assert!(!out.stderr.contains("panicked"), "{args:?}: {}", out.stderr);
    for part in parts {
        assert!(out.stderr.contains(part), "{args:?} does not mention {part:?}: {}", out.stderr);
    }
    out
}

#[test]
fn nodes_that_must_not_start() {
    let mut cluster = Cluster::start();
    let data = |node| cluster.data(node).to_string_lossy().into_owned();
    let (one, peers, address) = (data(1), cluster.peers(), cluster.address(1));
    let start = |node: &str, data: &str, listen: &str, peers: &str| {
        ["start", "--node", node, "--data", data, "--listen", listen, "--peers", peers].map(String::from).to_vec()
    };
    let check = |args: Vec<String>, parts: &[&str]| {
        refused(&args.iter().map(String::as_str).collect::<Vec<_>>(), parts);
    };
    // While node 1 runs: its port and its folder are taken.
    let fresh = cluster.path("fresh");
    check(start("1", &fresh, &address, &peers), &["in use", &address]);
    cluster.kill(1);
    let two = cluster.data(2).to_string_lossy().into_owned();
    let _ = two;
    // A folder that belongs to another node.
    let free = free_ports(1)[0];
    let listen = format!("127.0.0.1:{free}");
    let renamed = cluster.peers().replace(&cluster.address(2), &listen);
    check(start("2", &one, &listen, &renamed), &["node 1"]);
    // A peer list that the folder's cluster does not have.
    check(start("1", &one, &address, &format!("1={address},2=127.0.0.1:1")), &["peer"]);
    // Nonsense.
    check(start("7", &fresh, &address, &peers), &["7", "--peers"]);
    check(start("1", &fresh, "nowhere", &peers), &["nowhere"]);
    check(start("1", &fresh, &address, "1;2"), &["--peers"]);
    let mut bad_clock = start("1", &fresh, &address, &peers);
    bad_clock.extend(["--clock", "sundial"].map(String::from));
    check(bad_clock, &["sundial"]);
    cluster.start_node(1);
    cluster.await_ready();
}

#[test]
fn a_node_with_another_peer_list_is_kept_out() {
    let cluster = Cluster::start();
    let mut s = cluster.session(1);
    s.must("CREATE TABLE t (id BIGINT PRIMARY KEY)");
    let port = free_ports(1)[0];
    let listen = format!("127.0.0.1:{port}");
    // It believes that it is node 2 of a cluster in which node 4 also votes.
    let peers = format!("1={},2={listen},4={}", cluster.address(1), cluster.address(3));
    let log = std::fs::File::create(cluster.path("stranger.log")).expect("a log");
    let mut stranger = std::process::Command::new(binary())
        .args(["start", "--node", "2", "--listen", &listen, "--peers", &peers, "--clock", "fixed:1ms"])
        .args(["--data", &cluster.path("stranger")])
        .stdout(log.try_clone().expect("a handle"))
        .stderr(log)
        .spawn()
        .expect("it starts");
    eventually(Duration::from_secs(20), "the stranger is refused", || cluster.log(1).contains("refused").then_some(()));
    s.must("INSERT INTO t VALUES (1)");
    stranger.kill().expect("it runs");
    stranger.wait().expect("it ends");
    assert_eq!(s.must("SELECT count(*) FROM t").rows, [["1"]]);
}

#[test]
fn a_node_that_lost_its_disk_is_kept_out() {
    let mut cluster = Cluster::start();
    let mut s = cluster.session(1);
    s.must("CREATE TABLE t (id BIGINT PRIMARY KEY)");
    s.must("INSERT INTO t VALUES (1)");
    // All of it: it comes with another folder than its peers know.
    cluster.kill(3);
    std::fs::rename(cluster.data(3), cluster.path("lost")).expect("the folder goes");
    cluster.start_node(3);
    assert_eq!(cluster.reap(3), 1, "the node is told, and stops:\n{}", cluster.log(3));
    assert!(cluster.log(3).contains("node 3 has lost its data folder"), "{}", cluster.log(3));
    s.must("INSERT INTO t VALUES (2)");
    // Only the log: it knows by itself.
    std::fs::remove_dir_all(cluster.data(3)).expect("the new folder goes");
    std::fs::rename(cluster.path("lost"), cluster.data(3)).expect("the old folder returns");
    let log = cluster.data(3).join("log");
    std::fs::rename(&log, cluster.path("log3")).expect("the log goes");
    cluster.start_node(3);
    assert_eq!(cluster.reap(3), 1);
    assert!(
        cluster.log(3).contains("log is gone") || cluster.log(3).contains("is gone, and with it"),
        "{}",
        cluster.log(3)
    );
    // With everything back it is one of them again, and caught up.
    std::fs::rename(cluster.path("log3"), &log).expect("the log returns");
    cluster.start_node(3);
    cluster.kill(1);
    let mut s = cluster.session(3);
    eventually(Duration::from_secs(20), "node 3 answers", || {
        let rows = s.query("SELECT count(*) FROM t").ok()?.rows;
        (rows == [["2"]]).then_some(())
    });
}

#[test]
fn nobody_there() {
    let port = free_ports(1)[0];
    refused(&["sql", "--connect", &format!("127.0.0.1:{port}"), "-e", "SELECT 1"], &["connect"]);
    let out = run(&["status", "--connect", &format!("127.0.0.1:{port}")]);
    assert!(!out.stderr.contains("panicked"), "{out:?}");
}

/// Runs a command; whether it succeeded.
fn sh(command: &str) -> bool {
    std::process::Command::new("sh").args(["-c", command]).status().is_ok_and(|s| s.success())
}

#[test]
fn a_full_disk_stops_its_node_and_no_other() {
    let mut cluster = Cluster::start();
    let mut s = cluster.session(2);
    s.must("CREATE TABLE t (id BIGINT PRIMARY KEY, v TEXT)");
    cluster.stop(1);
    let (data, aside) = (cluster.data(1).to_string_lossy().into_owned(), cluster.path("aside"));
    if !sh(&format!("cp -a {data} {aside} && mount -t tmpfs -o size=64m tmpfs {data} 2>/dev/null")) {
        eprintln!("SKIPPED: a full disk needs root, to mount a small file system");
        return;
    }
    assert!(sh(&format!("cp -a {aside}/. {data}/")));
    cluster.start_node(1);
    cluster.await_ready();
    // All that is left, and then more than the log has already allocated.
    sh(&format!("dd if=/dev/zero of={data}/ballast bs=1M 2>/dev/null"));
    let big = "x".repeat(200_000);
    let mut s = cluster.session(2);
    for id in 0..40 {
        eventually(Duration::from_secs(20), "the others go on", || {
            s.query(&format!("UPSERT INTO t VALUES ({id}, '{big}')")).ok()
        });
    }
    assert_eq!(cluster.reap(1), 1, "the node whose disk is full stops");
    assert!(cluster.log(1).contains("No space left on device"), "and says why:\n{}", cluster.log(1));
    // With room again it comes back and catches up.
    assert!(sh(&format!("rm {data}/ballast")));
    cluster.start_node(1);
    let rows = eventually(Duration::from_secs(60), "node 1 has caught up", || {
        cluster.session(1).query("SELECT count(*) FROM t").ok()
    });
    let held = rows.rows == [["40"]];
    cluster.kill(1);
    assert!(sh(&format!("umount {data}")));
    assert!(held, "{rows:?}");
}
