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
use shell::repl::{DemoControl, DemoNode};

/// How long a node may take to stop gracefully.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a stopping node is looked at.
const STOP_POLL: Duration = Duration::from_millis(20);
/// Lines of a dead node's log that are shown.
const LOG_LINES: usize = 15;

/// All nodes of a demo. Dropping it stops them.
pub struct Nodes {
    nodes: Mutex<Vec<Node>>,
    peers: String,
    clock: String,
    lease: String,
}

struct Node {
    id: u64,
    address: String,
    data: PathBuf,
    child: Option<Child>,
    state: &'static str,
}

impl Nodes {
    /// Starts `count` nodes on ports from `port`, with their data below `data`.
    pub fn start(data: &Path, count: u16, port: u16, clock: &str, lease: &str) -> anyhow::Result<Nodes> {
        let data = fs::canonicalize(data).with_context(|| format!("could not find {}", data.display()))?;
        let node = |index: u16| {
            let id = u64::from(index) + 1;
            let address = format!("127.0.0.1:{}", port + index);
            Node { id, address, data: data.join(format!("node{id}")), child: None, state: "stopped" }
        };
        let mut nodes: Vec<Node> = (0..count).map(node).collect();
        let peers: Vec<String> = nodes.iter().map(|node| format!("{}={}", node.id, node.address)).collect();
        let peers = peers.join(",");
        for node in &mut nodes {
            if let Err(err) = node.start(&peers, clock, lease) {
                stop(&mut nodes);
                return Err(err);
            }
        }
        Ok(Nodes { nodes: Mutex::new(nodes), peers, clock: clock.into(), lease: lease.into() })
    }

    /// Stops every node that was started here: gracefully, and after a while by force.
    pub fn stop(&self) {
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
        let count = nodes.len();
        let node = nodes.iter_mut().find(|node| node.id == id);
        let node = node.ok_or_else(|| format!("there is no node {id}: they are numbered 1 to {count}"))?;
        node.reap();
        act(node)
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        self.stop();
    }
}

impl DemoControl for Nodes {
    fn kill(&self, node: u64) -> Result<String, String> {
        self.with(node, |node| {
            let mut child = node.child.take().ok_or_else(|| format!("node {} is not running", node.id))?;
            let pid = child.id();
            child.kill().map_err(|err| format!("could not kill node {}: {err}", node.id))?;
            // It is gone for certain before the user is told so.
            let _ = child.wait();
            node.state = "killed";
            Ok(format!("node {} (pid {pid}) was killed with SIGKILL", node.id))
        })
    }

    fn restart(&self, node: u64) -> Result<String, String> {
        self.with(node, |node| {
            if node.child.is_some() {
                return Err(format!("node {} is {}", node.id, node.state));
            }
            node.start(&self.peers, &self.clock, &self.lease).map_err(|err| format!("{err:#}"))?;
            let pid = node.child.as_ref().map_or(0, Child::id);
            Ok(format!("node {} was started (pid {pid})", node.id))
        })
    }

    fn pause(&self, node: u64) -> Result<String, String> {
        self.with(node, |node| {
            node.signal(Signal::SIGSTOP)?;
            node.state = "paused";
            Ok(format!("node {} was stopped with SIGSTOP", node.id))
        })
    }

    fn resume(&self, node: u64) -> Result<String, String> {
        self.with(node, |node| {
            node.signal(Signal::SIGCONT)?;
            node.state = "running";
            Ok(format!("node {} goes on", node.id))
        })
    }

    fn describe(&self) -> Vec<DemoNode> {
        let mut nodes = self.lock();
        let describe = |node: &mut Node| {
            node.reap();
            DemoNode {
                node: node.id,
                address: node.address.clone(),
                pid: node.child.as_ref().map(Child::id),
                data: node.data.display().to_string(),
                state: node.state.to_string(),
            }
        };
        nodes.iter_mut().map(describe).collect()
    }
}

impl Node {
    fn log(&self) -> PathBuf {
        self.data.join("meridian.log")
    }

    fn start(&mut self, peers: &str, clock: &str, lease: &str) -> anyhow::Result<()> {
        fs::create_dir_all(&self.data).with_context(|| format!("could not create {}", self.data.display()))?;
        let open = File::options().create(true).append(true).open(self.log());
        let log = open.with_context(|| format!("could not open {}", self.log().display()))?;
        let exe = std::env::current_exe().context("could not find this program's file")?;
        let mut command = Command::new(exe);
        command
            .args(["start", "--node", &self.id.to_string(), "--listen", &self.address, "--peers", peers])
            .args(["--clock", clock, "--lease", lease, "--stop-with-stdin", "--data"])
            .arg(&self.data)
            .stdin(Stdio::piped())
            .stdout(log.try_clone().context("could not open the log twice")?)
            .stderr(log)
            .process_group(0);
        let child = command.spawn().with_context(|| format!("could not start node {}", self.id))?;
        self.child = Some(child);
        self.state = "running";
        Ok(())
    }

    /// Notes that the process has ended by itself.
    fn reap(&mut self) {
        if let Some(child) = &mut self.child
            && matches!(child.try_wait(), Ok(Some(_)))
        {
            self.child = None;
            self.state = "ended";
        }
    }

    fn signal(&self, signal: Signal) -> Result<(), String> {
        let child = self.child.as_ref().ok_or_else(|| format!("node {} is not running", self.id))?;
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
        node.state = "stopped";
    }
}
