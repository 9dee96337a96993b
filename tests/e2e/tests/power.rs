//! Loss of power, on real RocksDB: the data folders lie on file systems that lose what was not synced.
//!
//! Clients insert pairs of rows, each pair in one transaction over two groups, and note what was
//! acknowledged. At random moments one disk, the leader's, or all of them lose power, their processes are
//! killed, and the disks come back with what was synced. Then each acknowledged pair must be there, and
//! each pair wholly or not at all (I9, I13). `POWER_ROUNDS=50` makes a longer run than the three rounds of the tests.
//!
//! # What RocksDB is trusted for, and what not
//!
//! Trusted, and tried here:
//! - a write with `sync` is on the disk when it returns, with all writes before it: the write-ahead log
//!   is appended to in order, and synced by `fdatasync`;
//! - a `WriteBatch` is there wholly or not at all, after any crash: one record with one checksum;
//! - reading the log again stops at a torn record at its end, and fails at damage before that;
//! - memtables are flushed in order, so the state, which has no write-ahead log, is a prefix of its batches;
//! - a table file is synced before the manifest names it, the manifest before CURRENT does, and the folder after.
//!
//! Not trusted: the bytes of a record (a checksum of our own, over key and value, is checked as the log is
//! read), a write or sync after a failure (the process ends; nothing is tried again), and an empty folder
//! where a log should be. Nobody can tell a log whose synced end was cut off later from one that was torn by
//! a power cut: that the disk keeps what it has synced is trusted, and a majority of disks is asked.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use e2e::{Cluster, Disk, Failure, Options, Session, eventually, pause};

const DISK_MIB: u64 = 400;
/// A pair is `(n, n + FAR)`: two ranges.
const FAR: i64 = 1_000_000_000;

/// A cluster on disks of its own, or why there cannot be one.
fn cluster() -> Option<(Cluster, Vec<Disk>)> {
    let args = ["--state-flush-after", "300ms"].map(String::from).to_vec();
    let mut cluster = Cluster::prepare(Options { args, lease: "1s".into(), ..Options::default() });
    let mut disks = Vec::new();
    for node in cluster.nodes() {
        match Disk::new(&cluster.data(node), DISK_MIB) {
            Ok(disk) => disks.push(disk),
            Err(why) => {
                eprintln!("SKIPPED: a power cut needs root, ext4 on a loop device, and python3: {why}");
                return None;
            }
        }
    }
    for node in cluster.nodes() {
        cluster.start_node(node);
    }
    cluster.await_ready();
    let mut s = cluster.session(1);
    s.must("CREATE TABLE t (id BIGINT PRIMARY KEY, pair BIGINT NOT NULL)");
    s.must(&format!("ALTER TABLE t SPLIT AT VALUES ({FAR})"));
    Some((cluster, disks))
}

/// What the clients know.
#[derive(Default)]
struct Known {
    next: AtomicI64,
    stop: AtomicBool,
    acknowledged: Mutex<BTreeSet<i64>>,
    in_doubt: AtomicI64,
}

/// A client that inserts pairs until it is told to stop, at whichever node answers.
fn insert(known: &Known, addresses: &[String], first: usize) {
    let mut at = first;
    let mut session: Option<Session> = None;
    while !known.stop.load(Ordering::Relaxed) {
        let Some(open) = &mut session else {
            at += 1;
            session = Session::open(&addresses[at % addresses.len()]).ok();
            if session.is_none() {
                pause(Duration::from_millis(20));
            }
            continue;
        };
        open.limit = Duration::from_secs(8);
        let n = known.next.fetch_add(1, Ordering::Relaxed);
        match open.query(&format!("INSERT INTO t VALUES ({n}, {}), ({}, {n})", n + FAR, n + FAR)) {
            Ok(_) => {
                known.acknowledged.lock().expect("no panic").insert(n);
            }
            Err(failure) => {
                if matches!(&failure, Failure::Lost(_)) || failure.sqlstate() == "40003" {
                    known.in_doubt.fetch_add(1, Ordering::Relaxed);
                }
                session = None;
            }
        }
    }
}

/// All rows, as any node tells them once it can.
fn rows(cluster: &Cluster, node: u64) -> BTreeSet<i64> {
    let answer = eventually(Duration::from_secs(60), &format!("node {node} reads all rows"), || {
        Session::open(&cluster.address(node)).ok()?.query("SELECT id FROM t").ok()
    });
    answer.rows.iter().map(|row| row[0].parse().expect("a number")).collect()
}

fn check(cluster: &Cluster, known: &Known, what: &str) -> usize {
    // Taken first: what is acknowledged later may be missing from what is read.
    let acknowledged = known.acknowledged.lock().expect("no panic").clone();
    for node in cluster.nodes() {
        let rows = rows(cluster, node);
        let lost: Vec<&i64> = acknowledged.iter().filter(|n| !rows.contains(n)).collect();
        assert!(lost.is_empty(), "{what}: node {node} has lost acknowledged rows: {lost:?}");
        let half: Vec<&i64> =
            rows.iter().filter(|n| !rows.contains(&if **n < FAR { **n + FAR } else { **n - FAR })).collect();
        assert!(half.is_empty(), "{what}: node {node} has half of a transaction: {half:?}");
    }
    acknowledged.len()
}

fn assert_replicas_equal(cluster: &Cluster) {
    eventually(Duration::from_secs(60), "replicas are equal", || {
        let answer = Session::open(&cluster.address(1)).ok()?.query("CHECK REPLICAS").ok()?;
        let column = answer.columns.iter().position(|c| c == "equal")?;
        assert!(answer.rows.iter().all(|row| row[column] != "f"), "replicas differ: {answer:?}");
        (!answer.rows.is_empty() && answer.rows.iter().all(|row| row[column] == "t")).then_some(())
    });
}

/// A number that looks random, from a round.
fn draw(round: u64, salt: u64) -> u64 {
    let mixed = round.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(salt.wrapping_mul(0xbf58_476d_1ce4_e5b9));
    (mixed ^ (mixed >> 31)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 33
}

#[test]
fn what_was_acknowledged_survives_a_loss_of_power() {
    let rounds: u64 = std::env::var("POWER_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(3);
    let Some((mut cluster, disks)) = cluster() else { return };
    let known = Arc::new(Known::default());
    let addresses: Vec<String> = cluster.nodes().iter().map(|node| cluster.address(*node)).collect();
    let clients: Vec<_> = (0..6)
        .map(|client| {
            let (known, addresses) = (known.clone(), addresses.clone());
            std::thread::spawn(move || insert(&known, &addresses, client))
        })
        .collect();
    let begun = Instant::now();
    for round in 0..rounds {
        let before = known.acknowledged.lock().expect("no panic").len();
        eventually(Duration::from_secs(60), "work goes on", || {
            (known.acknowledged.lock().expect("no panic").len() > before + 20).then_some(())
        });
        pause(Duration::from_millis(draw(round, 1) % 1500));
        let (name, victims) = match round % 3 {
            0 => ("all nodes", cluster.nodes()),
            1 => ("the leader", vec![cluster.leader_of("t", draw(round, 2) % 3 + 1)]),
            _ => ("one node", vec![draw(round, 3) % 3 + 1]),
        };
        for node in &victims {
            disks[*node as usize - 1].cut();
        }
        for node in &victims {
            // Unless it has ended by itself, at the error that it got.
            if cluster.is_up(*node) {
                cluster.kill(*node);
            } else {
                cluster.reap(*node);
            }
        }
        for node in &victims {
            disks[*node as usize - 1].replug();
            cluster.start_node(*node);
        }
        let acknowledged = check(&cluster, &known, &format!("round {round}, {name}"));
        eprintln!("round {round}: power of {name} cut, {acknowledged} pairs acknowledged so far, all there");
    }
    known.stop.store(true, Ordering::Relaxed);
    clients.into_iter().for_each(|client| client.join().expect("the client lives"));
    cluster.await_ready();
    let acknowledged = check(&cluster, &known, "at the end");
    assert_replicas_equal(&cluster);
    eprintln!(
        "{rounds} power cuts in {:.0?}: {acknowledged} pairs acknowledged, {} in doubt, none lost, none half",
        begun.elapsed(),
        known.in_doubt.load(Ordering::Relaxed)
    );
}

#[test]
fn a_disk_that_fails_stops_its_node_at_once_and_no_other() {
    let Some((mut cluster, disks)) = cluster() else { return };
    let mut s = cluster.session(2);
    s.must("INSERT INTO t VALUES (1, 1)");
    let leader = cluster.leader_of("t", 2);
    let other = cluster.nodes().into_iter().find(|node| *node != leader).expect("three nodes");
    disks[leader as usize - 1].cut();
    let mut s = cluster.session(other);
    eventually(Duration::from_secs(20), "the others go on", || s.query("UPSERT INTO t VALUES (2, 2)").ok());
    assert_eq!(cluster.reap(leader), 1, "the node whose disk fails stops");
    let log = cluster.log(leader);
    let stops = log.lines().filter(|line| line.contains("the node stops")).count();
    assert_eq!(stops, 1, "it says so once, and tries nothing again:\n{log}");
    assert!(log.contains("could not") && log.contains("nput/output error"), "it says why:\n{log}");
    disks[leader as usize - 1].replug();
    cluster.start_node(leader);
    cluster.await_ready();
    assert_eq!(cluster.session(leader).must("SELECT count(*) FROM t").rows, [["2"]]);
    assert_replicas_equal(&cluster);
}
