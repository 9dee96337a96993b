//! A cluster that `meridian demo` started: its nodes can be hurt through it.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::cluster::{Output, binary, run};
use crate::{Session, eventually};

/// Three nodes and the demo that owns them.
pub struct Demo {
    child: Child,
    port: u16,
}

/// The first of three neighbouring ports that were free a moment ago.
pub fn free_port() -> u16 {
    let bind = |port| TcpListener::bind(("127.0.0.1", port));
    let found = (0..200).find_map(|_| {
        let first = bind(0).ok()?.local_addr().ok()?.port();
        let held: Option<Vec<TcpListener>> = (0..3).map(|n| bind(first.checked_add(n)?).ok()).collect();
        held.map(|_| first)
    });
    found.expect("three neighbouring ports are free")
}

impl Demo {
    /// With its data in a folder that goes with it, and a lease such as `1s`; ready for statements.
    pub fn start(lease: &str) -> Demo {
        let port = free_port();
        let mut command = Command::new(binary());
        command.args(["demo", "--ephemeral", "--no-shell", "--port", &port.to_string(), "--lease", lease]);
        let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let demo = Demo { child: command.spawn().expect("the demo starts"), port };
        demo.await_ready();
        demo
    }

    /// HOST:PORT of a node.
    pub fn address(&self, node: u64) -> String {
        format!("127.0.0.1:{}", u64::from(self.port) + node - 1)
    }

    /// All addresses, as for `--connect`.
    pub fn connect(&self) -> String {
        (1..=3).map(|node| self.address(node)).collect::<Vec<_>>().join(",")
    }

    /// Waits until every node answers a strong query.
    pub fn await_ready(&self) {
        for node in 1..=3 {
            eventually(Duration::from_secs(60), &format!("node {node} answers"), || {
                Session::open(&self.address(node)).ok()?.query("SHOW TABLES").ok()
            });
        }
    }

    /// Runs a line in a shell at a node: a statement, or a meta-command.
    pub fn shell(&self, node: u64, line: &str) -> Output {
        run(&["sql", "--connect", &self.address(node), "-e", line])
    }

    /// Runs a subcommand against all nodes, which ends with one JSON object on standard output.
    pub fn report(&self, args: &[&str]) -> (i32, serde_json::Value, String) {
        let connect = self.connect();
        let out = run(&[args, &["--connect", &connect, "--report", "json"]].concat());
        let last = out.stdout.lines().last().unwrap_or_default();
        let report = serde_json::from_str(last).unwrap_or_else(|e| panic!("{e}: {out:?}"));
        (out.code, report, format!("{}{}", out.stdout, out.stderr))
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // Its nodes end with it: each notices that its standard input has ended.
        let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        let _ = self.child.wait();
    }
}
