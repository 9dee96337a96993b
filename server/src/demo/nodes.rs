//! The node processes of a demo.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long a node may take to stop gracefully.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a stopping node is looked at.
const STOP_POLL: Duration = Duration::from_millis(20);
/// Lines of a dead node's log that are shown.
const LOG_LINES: usize = 15;

/// What all nodes are started with.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// As for `--clock`.
    pub clock: String,
    /// As for `--lease`.
    pub lease: String,
    /// As for `--faults-at`.
    pub faults_at: String,
    /// As for `--peer-via` of each node; empty: they reach each other directly.
    pub via: Vec<String>,
}

/// All nodes of a demo. Dropping it stops them.
pub struct Nodes {
    nodes: Mutex<Vec<Node>>,
    peers: String,
    settings: Settings,
}

struct Node {
    id: u64,
    address: String,
    data: PathBuf,
    child: Option<Child>,
    state: &'static str,
    since: Instant,
}

/// A node of a demo, as it is now.
#[derive(Clone, Debug)]
pub struct NodeView {
    /// Its number.
    pub node: u64,
    /// HOST:PORT.
    pub address: String,
    /// Of its process, if it runs.
    pub pid: Option<u32>,
    /// Its data folder.
    pub data: String,
    /// `running`, `paused`, `killed`, `stopped`, or `ended` by itself.
    pub state: &'static str,
    /// For so long.
    pub since: Duration,
}

/// The numbers and addresses of so many nodes on ports from `port`.
pub fn addresses(count: u16, port: u16) -> Vec<(u64, String)> {
    (0..count).map(|index| (u64::from(index) + 1, format!("127.0.0.1:{}", port + index))).collect()
}

impl Nodes {
    /// Starts these nodes, with their data below `data`.
    pub fn start(data: &Path, nodes: &[(u64, String)], settings: Settings) -> anyhow::Result<Nodes> {
        let data = fs::canonicalize(data).with_context(|| format!("could not find {}", data.display()))?;
        let node = |(id, address): &(u64, String)| Node {
            id: *id,
            address: address.clone(),
            data: data.join(format!("node{id}")),
            child: None,
            state: "stopped",
            since: Instant::now(),
        };
        let peers: Vec<String> = nodes.iter().map(|(id, address)| format!("{id}={address}")).collect();
        let nodes = Mutex::new(nodes.iter().map(node).collect());
        let all = Nodes { nodes, peers: peers.join(","), settings };
        for node in all.lock().iter_mut() {
            // The others are stopped when this is dropped.
            node.start(&all.peers, &all.settings)?;
        }
        Ok(all)
    }

    /// Every number, in order.
    pub fn ids(&self) -> Vec<u64> {
        self.lock().iter().map(|node| node.id).collect()
    }

    /// Stops every node that was started here: gracefully, and after a while by force.
    pub fn stop_all(&self) {
        stop(&mut self.lock());
    }

    /// Why a node has ended that nobody killed, with the end of its log.
    pub fn died(&self) -> Option<String> {
        for node in self.lock().iter_mut() {
            node.reap();
            if node.state == "ended" {
                let log = fs::read_to_string(node.log()).unwrap_or_default();
                let lines: Vec<&str> = log.lines().collect();
                let end = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
                return Some(format!(
                    "node {} did not start; its log, {}, ends with:\n{end}",
                    node.id,
                    node.log().display()
                ));
            }
        }
        None
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Node>> {
        // A panic elsewhere must not keep us from stopping what we started.
        self.nodes.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn with<T>(&self, id: u64, act: impl FnOnce(&mut Node) -> Result<T, String>) -> Result<T, String> {
        let mut nodes = self.lock();
        let node = nodes.iter_mut().find(|node| node.id == id).ok_or_else(|| format!("there is no node {id}"))?;
        node.reap();
        act(node)
    }

    /// SIGKILL, to all of them before any is waited for: they are gone for certain when this returns.
    pub fn kill(&self, ids: &[u64]) -> Result<String, String> {
        let mut nodes = self.lock();
        nodes.iter_mut().for_each(Node::reap);
        let chosen = ids.iter().map(|id| nodes.iter().position(|node| node.id == *id));
        let chosen: Vec<usize> = chosen.collect::<Option<_>>().ok_or("there is no such node")?;
        if let Some(at) = chosen.iter().find(|at| nodes[**at].child.is_none()) {
            return Err(nodes[*at].not_running());
        }
        for at in &chosen {
            nodes[*at].signal(Signal::SIGKILL)?;
        }
        let mut said = Vec::new();
        for at in chosen {
            let node = &mut nodes[at];
            if let Some(mut child) = node.child.take() {
                let _ = child.wait();
                said.push(format!("node {} (pid {}) was killed with SIGKILL", node.id, child.id()));
            }
            node.is("killed");
        }
        Ok(said.join("; "))
    }

    /// Starts a node that does not run.
    pub fn start_one(&self, node: u64) -> Result<String, String> {
        self.with(node, |node| {
            if node.child.is_some() {
                return Err(format!("node {} is {} already", node.id, node.state));
            }
            node.start(&self.peers, &self.settings).map_err(|err| format!("{err:#}"))?;
            let pid = node.child.as_ref().map_or(0, Child::id);
            Ok(format!("node {} was started (pid {pid})", node.id))
        })
    }

    /// SIGTERM: the node hands over. Waits for its end, without keeping others from being hurt.
    pub fn stop_one(&self, id: u64) -> Result<String, String> {
        self.with(id, |node| {
            node.signal(Signal::SIGTERM)?;
            // A paused process takes in the other signal only once it goes on.
            node.signal(Signal::SIGCONT)
        })?;
        let began = Instant::now();
        loop {
            let gone = self.with(id, |node| {
                if node.child.is_some() && began.elapsed() > STOP_TIMEOUT {
                    node.signal(Signal::SIGKILL)?;
                }
                Ok(node.child.is_none())
            })?;
            if gone {
                self.with(id, |node| {
                    node.is("stopped");
                    Ok(())
                })?;
                let took = began.elapsed().as_millis();
                return match began.elapsed() > STOP_TIMEOUT {
                    true => Err(format!("node {id} did not stop within {STOP_TIMEOUT:?}, and was killed")),
                    false => Ok(format!("node {id} handed over and stopped, in {took} ms")),
                };
            }
            std::thread::sleep(STOP_POLL);
        }
    }

    /// Stops a node gracefully, if it runs, and starts it.
    pub fn restart(&self, id: u64) -> Result<String, String> {
        if self.with(id, |node| Ok(node.child.is_none()))? {
            return self.start_one(id);
        }
        let stopped = self.stop_one(id)?;
        Ok(format!("{stopped}; {}", self.start_one(id)?))
    }

    /// SIGSTOP.
    pub fn pause(&self, node: u64) -> Result<String, String> {
        self.with(node, |node| {
            node.signal(Signal::SIGSTOP)?;
            node.is("paused");
            Ok(format!("node {} was stopped with SIGSTOP", node.id))
        })
    }

    /// SIGCONT.
    pub fn resume(&self, node: u64) -> Result<String, String> {
        self.with(node, |node| {
            node.signal(Signal::SIGCONT)?;
            node.is("running");
            Ok(format!("node {} goes on", node.id))
        })
    }

    /// Every node as it is now, in order.
    pub fn describe(&self) -> Vec<NodeView> {
        let mut nodes = self.lock();
        let describe = |node: &mut Node| {
            node.reap();
            NodeView {
                node: node.id,
                address: node.address.clone(),
                pid: node.child.as_ref().map(Child::id),
                data: node.data.display().to_string(),
                state: node.state,
                since: node.since.elapsed(),
            }
        };
        nodes.iter_mut().map(describe).collect()
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        self.stop_all();
    }
}

impl Node {
    fn log(&self) -> PathBuf {
        self.data.join("meridian.log")
    }

    fn is(&mut self, state: &'static str) {
        if self.state != state {
            self.state = state;
            self.since = Instant::now();
        }
    }

    fn not_running(&self) -> String {
        format!("node {} is not running: it is {}", self.id, self.state)
    }

    fn start(&mut self, peers: &str, settings: &Settings) -> anyhow::Result<()> {
        fs::create_dir_all(&self.data).with_context(|| format!("could not create {}", self.data.display()))?;
        let open = File::options().create(true).append(true).open(self.log());
        let log = open.with_context(|| format!("could not open {}", self.log().display()))?;
        let exe = std::env::current_exe().context("could not find this program's file")?;
        let mut command = Command::new(exe);
        command
            .args(["start", "--node", &self.id.to_string(), "--listen", &self.address, "--peers", peers])
            .args(["--clock", &settings.clock, "--lease", &settings.lease])
            .args(["--faults-at", &settings.faults_at, "--stop-with-stdin", "--data"])
            .arg(&self.data)
            .stdin(Stdio::piped())
            .stdout(log.try_clone().context("could not open the log twice")?)
            .stderr(log)
            .process_group(0);
        if let Some(via) = settings.via.get(self.id as usize - 1).filter(|via| !via.is_empty()) {
            command.args(["--peer-via", via]);
        }
        let child = command.spawn().with_context(|| format!("could not start node {}", self.id))?;
        self.child = Some(child);
        self.is("running");
        Ok(())
    }

    /// Notes that the process has ended by itself.
    fn reap(&mut self) {
        if let Some(child) = &mut self.child
            && matches!(child.try_wait(), Ok(Some(_)))
        {
            self.child = None;
            self.is("ended");
        }
    }

    fn signal(&self, signal: Signal) -> Result<(), String> {
        let child = self.child.as_ref().ok_or_else(|| self.not_running())?;
        let pid = i32::try_from(child.id()).map_err(|err| err.to_string())?;
        // The child is not reaped yet, so the number is still its own.
        kill(Pid::from_raw(pid), signal).map_err(|err| format!("could not signal node {}: {err}", self.id))
    }
}

fn stop(nodes: &mut [Node]) {
    for node in nodes.iter_mut() {
        node.reap();
        if node.child.is_some() {
            // A paused process takes in the other signal only once it goes on.
            let _ = node.signal(Signal::SIGTERM);
            let _ = node.signal(Signal::SIGCONT);
        }
    }
    let deadline = Instant::now() + STOP_TIMEOUT;
    while nodes.iter().any(|node| node.child.is_some()) && Instant::now() < deadline {
        nodes.iter_mut().for_each(Node::reap);
        std::thread::sleep(STOP_POLL);
    }
    for node in nodes {
        if let Some(mut child) = node.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        node.is("stopped");
    }
}
