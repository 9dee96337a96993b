//! Nodes that run out of open files, or whose disk is damaged or fails: they say so and stop, or refuse
//! what is too much, and the group goes on without them.

use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use e2e::{Cluster, Options, Session, eventually};

fn table(session: &mut Session, rows: u64) {
    session.must("CREATE TABLE t (id BIGINT PRIMARY KEY, v TEXT)");
    for id in 0..rows {
        session.must(&format!("INSERT INTO t VALUES ({id}, '{}')", format!("{id:04}").repeat(64)));
    }
}

#[test]
fn a_node_with_too_few_open_files_does_not_start_and_says_how_many_it_needs() {
    let mut cluster = Cluster::start();
    let mut s = cluster.session(2);
    table(&mut s, 3);
    cluster.stop(1);
    cluster.start_node_under(1, "ulimit -n 100");
    assert_eq!(cluster.reap(1), 1);
    let log = cluster.log(1);
    assert!(log.contains("needs at least") && log.contains("the limit is 100") && log.contains("ulimit -n"), "{log}");
    s.must("INSERT INTO t VALUES (100, 'x')");
    cluster.start_node(1);
    cluster.await_ready();
}

#[test]
fn a_node_that_is_full_of_sessions_refuses_more_and_goes_on() {
    let mut cluster = Cluster::start();
    let mut s = cluster.session(2);
    table(&mut s, 3);
    cluster.stop(1);
    // 32 sessions, and spare connections to tell others that there are no more.
    cluster.start_node_under(1, "ulimit -n 320");
    cluster.await_ready();
    assert!(cluster.log(1).contains("leaves room for"), "{}", cluster.log(1));
    let address = cluster.address(1);
    let mut held: Vec<Session> = Vec::new();
    let mut refusals = Vec::new();
    for _ in 0..120 {
        match Session::open(&address) {
            Ok(mut session) => match session.query("SELECT count(*) FROM t") {
                Ok(_) => held.push(session),
                Err(failure) => refusals.push((failure, Some(session))),
            },
            Err(failure) => refusals.push((failure, None)),
        }
    }
    assert!((16..=64).contains(&held.len()), "{} sessions", held.len());
    let told = refusals.iter().find(|(failure, _)| failure.sqlstate() == "53300");
    let (told, _) = told.unwrap_or_else(|| panic!("nobody was told why: {:?}", refusals.first().map(|r| &r.0)));
    assert!(format!("{told:?}").contains("open files"), "{told:?}");
    // Those who are in are served, and the node takes part in the group.
    for session in &mut held {
        session.must("SELECT count(*) FROM t");
    }
    cluster.stop(3);
    eventually(Duration::from_secs(20), "a write that needs node 1", || {
        s.query("UPSERT INTO t VALUES (100, 'x')").ok()
    });
    // When some leave, others get in.
    drop(refusals);
    held.truncate(1);
    let mut again = eventually(Duration::from_secs(20), "there is room again", || {
        let mut session = Session::open(&address).ok()?;
        session.query("SELECT 1").ok().map(|_| session)
    });
    again.must("SELECT count(*) FROM t");
    assert!(cluster.is_up(1), "{}", cluster.log(1));
}

/// Files below a folder of a node's data whose names end so, the largest first.
fn files(folder: &Path, end: &str) -> Vec<PathBuf> {
    let mut found: Vec<(u64, PathBuf)> = std::fs::read_dir(folder)
        .expect("a folder")
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let matches = entry.file_name().to_string_lossy().ends_with(end);
            matches.then(|| (entry.metadata().map_or(0, |m| m.len()), entry.path()))
        })
        .collect();
    found.sort();
    found.into_iter().rev().map(|(_, path)| path).collect()
}

fn written_bytes(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    std::fs::File::open(path).and_then(|mut file| file.read_to_end(&mut bytes)).expect("readable");
    // A log file is allocated ahead: what follows its last record is zero.
    while bytes.last() == Some(&0) {
        bytes.pop();
    }
    bytes
}

fn flip(path: &Path, at: u64) {
    let mut file = std::fs::File::options().read(true).write(true).open(path).expect("it opens");
    let mut byte = [0];
    file.seek(SeekFrom::Start(at)).expect("seek");
    file.read_exact(&mut byte).expect("read");
    file.seek(SeekFrom::Start(at)).expect("seek");
    file.write_all(&[byte[0] ^ 0x10]).expect("write");
}

fn copy(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    let done = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(done.is_ok_and(|status| status.success()), "cp {from:?}");
}

/// Damages a data folder in one of many ways.
fn damage(kind: &str, data: &Path) {
    let (log, state) = (data.join("log"), data.join("state"));
    let newest = |folder: &Path, end: &str| files(folder, end).into_iter().next().expect("such a file");
    let middle = |path: PathBuf| flip(&path, written_bytes(&path).len() as u64 / 2);
    let manifest = |folder: &Path| {
        let name = std::fs::read_to_string(folder.join("CURRENT")).expect("CURRENT");
        folder.join(name.trim())
    };
    match kind {
        "a flipped bit in the log" => middle(newest(&log, ".log")),
        "a hole in the log" => {
            let path = newest(&log, ".log");
            let mut bytes = written_bytes(&path);
            let (at, gone) = (bytes.len() / 2, bytes.len() / 8);
            bytes.drain(at..at + gone);
            std::fs::write(&path, bytes).expect("written");
        }
        "a flipped bit in the log's manifest" => middle(manifest(&log)),
        "a flipped bit in the state's manifest" => middle(manifest(&state)),
        "flipped bits in the state's tables" => files(&state, ".sst").into_iter().for_each(middle),
        "a table of the state cut" => {
            let path = newest(&state, ".sst");
            let len = written_bytes(&path).len() as u64;
            std::fs::File::options().write(true).open(&path).and_then(|file| file.set_len(len / 2)).expect("cut");
        }
        "a table of the state gone" => std::fs::remove_file(newest(&state, ".sst")).expect("removed"),
        "the log gone" => std::fs::remove_dir_all(&log).expect("removed"),
        "an identity that is none" => flip(&data.join("IDENTITY"), 0),
        other => panic!("no such damage: {other}"),
    }
}

/// The kinds of damage, and a word that the node must say.
const DAMAGES: [(&str, &str); 9] = [
    ("a flipped bit in the log", "orrupt"),
    ("a hole in the log", "orrupt"),
    ("a flipped bit in the log's manifest", "orrupt"),
    ("a flipped bit in the state's manifest", "orrupt"),
    ("flipped bits in the state's tables", "orrupt"),
    ("a table of the state cut", "orrupt"),
    ("a table of the state gone", "orrupt"),
    ("the log gone", "the log"),
    ("an identity that is none", "is damaged"),
];

#[test]
fn damaged_files_are_refused_and_never_served() {
    let options = Options { args: vec!["--state-flush-after".into(), "200ms".into()], ..Options::default() };
    let mut cluster = Cluster::start_with(options);
    let mut s = cluster.session(2);
    table(&mut s, 200);
    let (data, whole) = (cluster.data(1), PathBuf::from(cluster.path("whole")));
    eventually(Duration::from_secs(20), "the state is flushed", || {
        (!files(&data.join("state"), ".sst").is_empty()).then_some(())
    });
    cluster.kill(1);
    copy(&data, &whole);
    for (kind, word) in DAMAGES {
        copy(&whole, &data);
        damage(kind, &data);
        let before = cluster.log(1).len();
        cluster.start_node(1);
        // Some damage is only found when the place is read: by a read of its own replica, at a past time.
        eventually(Duration::from_secs(20), &format!("{kind}: the node stops"), || {
            if !cluster.is_up(1) {
                return Some(());
            }
            if let Ok(mut session) = Session::open(&cluster.address(1)) {
                session.limit = Duration::from_secs(3);
                if let Ok(answer) = session.query("SELECT count(*), min(v), max(v) FROM t AS OF SYSTEM TIME '-500ms'") {
                    let all = ["200".to_string(), "0000".repeat(64), "0199".repeat(64)];
                    assert_eq!(answer.rows, [all], "{kind}: wrong data were served");
                }
            }
            None
        });
        let code = cluster.reap(1);
        let log = cluster.log(1)[before..].to_string();
        assert!(code == 1, "{kind}: exit code {code}\n{log}");
        assert!(log.contains(word), "{kind}: it does not say {word:?}\n{log}");
        s.must("UPSERT INTO t VALUES (0, '0')");
        s.must(&format!("UPSERT INTO t VALUES (0, '{}')", "0000".repeat(64)));
    }
    // As it was, and with the torn end that a power cut leaves: these are good.
    for torn in [false, true] {
        copy(&whole, &data);
        if torn {
            let path = files(&data.join("log"), ".log").remove(0);
            let len = written_bytes(&path).len() as u64;
            std::fs::File::options().write(true).open(&path).and_then(|file| file.set_len(len - 7)).expect("cut");
        }
        cluster.start_node(1);
        cluster.await_ready();
        assert_eq!(cluster.session(1).must("SELECT count(*) FROM t").rows, [["200"]]);
        cluster.kill(1);
    }
}
