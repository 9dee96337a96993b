//! Starting, stopping and hurting real processes.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::session::Session;
use crate::{eventually, pause};

/// How a cluster is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many nodes.
    pub nodes: usize,
    /// As for `--clock`.
    pub clock: String,
    /// As for `--lease`.
    pub lease: String,
    /// More arguments of `meridian start`.
    pub args: Vec<String>,
}

impl Default for Options {
    fn default() -> Options {
        Options { nodes: 3, clock: "fixed:1ms".into(), lease: "2s".into(), args: Vec::new() }
    }
}

/// What a command printed.
#[derive(Clone, Debug)]
pub struct Output {
    /// Its exit code; -1 if a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// A cluster of real processes on this machine.
pub struct Cluster {
    dir: TempDir,
    options: Options,
    ports: Vec<u16>,
    children: Vec<Option<Child>>,
}

/// The `meridian` binary under test.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("MERIDIAN_BIN") {
        return path.into();
    }
    let exe = std::env::current_exe().expect("a test knows its own path");
    let dir = exe.parent().and_then(Path::parent).expect("a test lies in target/PROFILE/deps");
    let path = dir.join("meridian");
    assert!(path.exists(), "{} is missing: run `make build` first, or `make test`", path.display());
    path
}

/// Runs the binary to its end.
pub fn run(args: &[&str]) -> Output {
    let out = Command::new(binary()).args(args).stdin(Stdio::null()).output().expect("the binary runs");
    Output {
        code: out.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&out.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&out.stderr).into_owned(),
    }
}

/// Ports that were free a moment ago.
pub fn free_ports(count: usize) -> Vec<u16> {
    let held: Vec<TcpListener> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
    held.iter().map(|l| l.local_addr().expect("bound").port()).collect()
}

impl Cluster {
    /// Three nodes with a clock of 1 ms and a lease of 2 s, ready for statements.
    pub fn start() -> Cluster {
        Cluster::start_with(Options::default())
    }

    /// As asked, ready for statements.
    pub fn start_with(options: Options) -> Cluster {
        let mut cluster = Cluster::prepare(options);
        for node in cluster.nodes() {
            cluster.start_node(node);
        }
        cluster.await_ready();
        cluster
    }

    /// As asked, with no node started yet.
    pub fn prepare(options: Options) -> Cluster {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let ports = free_ports(options.nodes);
        let children = (0..options.nodes).map(|_| None).collect();
        Cluster { dir, options, ports, children }
    }

    /// Node numbers, from 1.
    pub fn nodes(&self) -> Vec<u64> {
        (1..=self.options.nodes as u64).collect()
    }

    /// HOST:PORT of a node.
    pub fn address(&self, node: u64) -> String {
        format!("127.0.0.1:{}", self.ports[node as usize - 1])
    }

    /// All addresses, as for `--connect`.
    pub fn connect(&self) -> String {
        self.nodes().iter().map(|n| self.address(*n)).collect::<Vec<_>>().join(",")
    }

    /// As for `--peers`.
    pub fn peers(&self) -> String {
        self.nodes().iter().map(|n| format!("{n}={}", self.address(*n))).collect::<Vec<_>>().join(",")
    }

    /// A node's data folder.
    pub fn data(&self, node: u64) -> PathBuf {
        self.dir.path().join(format!("node{node}"))
    }

    /// What a node has written to its log so far.
    pub fn log(&self, node: u64) -> String {
        std::fs::read_to_string(self.dir.path().join(format!("node{node}.log"))).unwrap_or_default()
    }

    /// A path in the cluster's folder, which goes with it.
    pub fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_string_lossy().into_owned()
    }

    /// The clock of nodes that are started from now on.
    pub fn set_clock(&mut self, clock: &str) {
        self.options.clock = clock.into();
    }

    /// Starts a node that is down.
    pub fn start_node(&mut self, node: u64) {
        self.start_node_under(node, ":");
    }

    /// As [`Cluster::start_node`], after a command of the shell such as `ulimit -n 400`.
    pub fn start_node_under(&mut self, node: u64, before: &str) {
        let log = self.dir.path().join(format!("node{node}.log"));
        let log = File::options().create(true).append(true).open(log).expect("a log file");
        let mut command = Command::new("sh");
        command
            .args(["-c", &format!("{before}; exec \"$0\" \"$@\"")])
            .arg(binary())
            .args(["start", "--node", &node.to_string(), "--listen", &self.address(node), "--peers", &self.peers()])
            .args(["--clock", &self.options.clock, "--lease", &self.options.lease])
            .arg("--data")
            .arg(self.data(node))
            .args(&self.options.args)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log);
        let child = command.spawn().expect("the node starts");
        let old = self.children[node as usize - 1].replace(child);
        assert!(old.is_none(), "node {node} is up already");
    }

    /// Waits until every node answers a strong query.
    pub fn await_ready(&self) {
        for node in self.nodes() {
            eventually(Duration::from_secs(60), &format!("node {node} answers; its log:\n{}", self.log(node)), || {
                Session::open(&self.address(node)).ok()?.query("SHOW TABLES").ok()
            });
        }
    }

    /// Whether the process of a node that was started has not ended.
    pub fn is_up(&mut self, node: u64) -> bool {
        self.children[node as usize - 1].as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// The process of a node that is up.
    pub fn pid(&self, node: u64) -> u32 {
        self.children[node as usize - 1].as_ref().expect("the node is up").id()
    }

    fn signal(&self, node: u64, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.pid(node).to_string()]).status();
        assert!(status.is_ok_and(|s| s.success()), "kill -{name} of node {node}");
    }

    /// SIGKILL.
    pub fn kill(&mut self, node: u64) {
        self.signal(node, "KILL");
        self.reap(node);
    }

    /// SIGKILL of every node at once.
    pub fn kill_all(&mut self) {
        let up: Vec<u64> = self.nodes().into_iter().filter(|n| self.children[*n as usize - 1].is_some()).collect();
        for node in &up {
            self.signal(*node, "KILL");
        }
        for node in up {
            self.reap(node);
        }
    }

    /// SIGTERM, and waits for the node to end; says how long that took.
    pub fn stop(&mut self, node: u64) -> Duration {
        let begun = Instant::now();
        self.signal(node, "TERM");
        let code = self.reap(node);
        assert_eq!(code, 0, "a graceful stop of node {node}; its log:\n{}", self.log(node));
        begun.elapsed()
    }

    /// SIGSTOP.
    pub fn freeze(&self, node: u64) {
        self.signal(node, "STOP");
    }

    /// SIGCONT.
    pub fn thaw(&self, node: u64) {
        self.signal(node, "CONT");
    }

    /// Waits for a process to end and says with what code; -1 for a signal.
    pub fn reap(&mut self, node: u64) -> i32 {
        let mut child = self.children[node as usize - 1].take().expect("the node is up");
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(status) = child.try_wait().expect("the node can be waited for") {
                return status.code().unwrap_or(-1);
            }
            assert!(Instant::now() < deadline, "node {node} does not end; its log:\n{}", self.log(node));
            pause(Duration::from_millis(20));
        }
    }

    /// A session at a node.
    pub fn session(&self, node: u64) -> Session {
        eventually(Duration::from_secs(30), &format!("a session at node {node}"), || {
            Session::open(&self.address(node)).ok()
        })
    }

    /// Runs `meridian sql` against one node.
    pub fn sql(&self, node: u64, args: &[&str]) -> Output {
        let address = self.address(node);
        let mut all = vec!["sql", "--connect", &address];
        all.extend(args);
        run(&all)
    }

    /// Starts `meridian workload bank ...` in the background.
    pub fn bank(&self, args: &[&str]) -> Child {
        Command::new(binary())
            .args(["workload", "bank"])
            .args(args)
            .args(["--connect", &self.connect()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the workload starts")
    }

    /// The node that leads the group of a table's first range.
    pub fn leader_of(&self, table: &str, ask: u64) -> u64 {
        eventually(Duration::from_secs(30), &format!("a leader of {table}"), || {
            let rows = self.session(ask).query(&format!("SHOW RANGES FROM TABLE {table}")).ok()?;
            let column = rows.columns.iter().position(|c| c == "leader")?;
            rows.rows.first()?[column].parse().ok().filter(|n| *n > 0)
        })
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in self.children.iter_mut().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            for node in self.nodes() {
                let log = self.log(node);
                let tail: Vec<&str> = log.lines().rev().take(30).collect();
                eprintln!("--- log of node {node}, its end:");
                for line in tail.into_iter().rev() {
                    eprintln!("{line}");
                }
            }
        }
    }
}
