//! `meridian demo`: a cluster of real processes on this machine, and a shell.
//!
//! Each node is a process of this same binary, in a process group of its own, so that Ctrl-C at the
//! terminal reaches the shell and not the nodes. Each holds the reading end of a pipe from here and
//! stops when it ends: so nodes never outlive their demo, however that dies.
//!
//! ```text
//!   shell, workload, nemesis --Faults--> host --signals--> processes    nodes
//!         (any process)                   |--cuts, delays--> proxies    proxy, between the nodes
//!                                         '--calls--> clocks, disks     in the nodes
//! ```
//!
//! The nodes tell their clients where the Faults service is (`--faults-at`), so a shell or a workload of any
//! other process can hurt them as the demo's own shell can.

pub mod host;
pub mod nodes;
pub mod proxy;

use std::fs;
use std::io::IsTerminal;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use serde::{Deserialize, Serialize};
use shell::client::Client;
use shell::format::Format;
use shell::repl::ReplOptions;
use tokio::signal::unix::{SignalKind, signal};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use crate::frontend::faults;
use host::Host;
use nodes::{Nodes, Settings};
use proxy::Net;

/// Where a demo keeps its data by default.
const DATA_DEFAULT: &str = "meridian-data";
/// The first port by default.
const PORT_DEFAULT: u16 = 26257;
/// How long the cluster may take until it answers.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// How often it is asked.
const READY_EVERY: Duration = Duration::from_millis(100);

/// `meridian demo`
#[derive(Args, Clone, Debug)]
pub struct DemoArgs {
    /// How many nodes [default: 3, or what the data folder was made for]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=9))]
    pub nodes: Option<u16>,
    /// Where the data is kept between runs [default: ./meridian-data]
    #[arg(long, value_name = "DIR", conflicts_with = "ephemeral")]
    pub data: Option<PathBuf>,
    /// Keep the data in a temporary folder, removed at exit
    #[arg(long)]
    pub ephemeral: bool,
    /// The clocks' source: fixed:EPSILON, kernel, or sim:SOURCE,FAULT,...
    #[arg(long, value_name = "SOURCE", default_value = "fixed:1ms")]
    pub clock: String,
    /// The first node's port; the others take the next ones [default: 26257, or that of the last run]
    #[arg(long, value_name = "BASE", value_parser = clap::value_parser!(u16).range(1..=65_000))]
    pub port: Option<u16>,
    /// The length of a leader's lease
    #[arg(long, value_name = "DURATION", default_value = "3s")]
    pub lease: String,
    /// Run this text and exit; may be repeated
    #[arg(short = 'e', long = "execute", value_name = "SQL")]
    pub execute: Vec<String>,
    /// Run this file and exit; `-` is standard input
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// The form of results
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
    /// Do not open a shell: run until a signal comes
    #[arg(long, conflicts_with_all = ["execute", "file"])]
    pub no_shell: bool,
    /// Let the nodes reach each other directly: their network can then not be hurt
    #[arg(long)]
    pub no_proxies: bool,
}

/// What a demo remembers of itself in its data folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Saved {
    nodes: u16,
    port: u16,
}

/// Runs a demo to its end, and returns the exit code.
pub async fn run(args: DemoArgs) -> anyhow::Result<i32> {
    let scripted = !args.execute.is_empty() || args.file.is_some();
    let interactive = !scripted && !args.no_shell && std::io::stdin().is_terminal();
    // Before anything is started, so that no signal finds the default action.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut interrupt = signal(SignalKind::interrupt())?;

    let ephemeral = if args.ephemeral { Some(tempfile::tempdir().context("no temporary folder")?) } else { None };
    let data = match (&ephemeral, &args.data) {
        (Some(dir), _) => dir.path().to_path_buf(),
        (None, Some(data)) => data.clone(),
        (None, None) => PathBuf::from(DATA_DEFAULT),
    };
    fs::create_dir_all(&data).with_context(|| format!("could not create {}", data.display()))?;
    let saved = settle(&data, args.nodes, args.port)?;
    check_ports(saved)?;

    let nodes = start(&data, saved, &args).await?;
    for node in nodes.describe() {
        let pid = node.pid.map(|pid| pid.to_string()).unwrap_or_default();
        say(&format!("node {}  {}  pid {pid}  data {}", node.node, node.address, node.data));
    }
    let addresses: Vec<String> = nodes.describe().into_iter().map(|node| node.address).collect();

    let work = async {
        await_ready(&nodes, &addresses).await?;
        if args.no_shell {
            say("the cluster is ready; Ctrl-C or SIGTERM stops it");
            return std::future::pending().await;
        }
        let options = ReplOptions {
            connect: addresses.clone(),
            execute: args.execute.clone(),
            file: args.file.clone(),
            format: args.format,
        };
        shell::repl::run(options).await
    };
    let code = tokio::select! {
        code = work => code,
        _ = terminate.recv() => Ok(if args.no_shell { 0 } else { 143 }),
        _ = hangup.recv() => Ok(129),
        // At a terminal, Ctrl-C belongs to the shell: it ends a statement.
        _ = interrupt.recv(), if !interactive => Ok(if args.no_shell { 0 } else { 130 }),
    };
    nodes.stop_all();
    if let Some(dir) = ephemeral {
        dir.close().context("could not remove the temporary folder")?;
    }
    code
}

/// Starts the nodes, the proxies between them, and the service that hurts both.
async fn start(data: &Path, saved: Saved, args: &DemoArgs) -> anyhow::Result<Arc<Nodes>> {
    let lease_ns = truetime::parse_duration_ns(&args.lease).map_err(|why| anyhow::anyhow!("--lease: {why}"))?;
    let addresses = nodes::addresses(saved.nodes, saved.port);
    let net = match args.no_proxies {
        true => None,
        false => Some(Arc::new(Net::open(&addresses).await.context("no proxies between the nodes")?)),
    };
    // The nodes are told its address before they are there to be hurt.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.context("no port for the faults")?;
    let via = net.iter().flat_map(|net| addresses.iter().map(|(node, _)| net.via(*node))).collect();
    let settings = Settings {
        clock: args.clock.clone(),
        lease: args.lease.clone(),
        faults_at: listener.local_addr().context("no port for the faults")?.to_string(),
        via,
    };
    let nodes = Arc::new(Nodes::start(data, &addresses, settings)?);
    let service = faults::service(Host::new(nodes.clone(), net, lease_ns));
    let serve = Server::builder().add_service(service).serve_with_incoming(TcpIncoming::from(listener));
    tokio::spawn(async move {
        if let Err(err) = serve.await {
            say(&format!("faults can no longer be injected: {err}"));
        }
    });
    Ok(nodes)
}

#[allow(clippy::print_stderr)]
fn say(line: &str) {
    eprintln!("{line}");
}

/// What the folder was made for, what the user asks for, and the defaults, in this order for the
/// nodes; the port may change from run to run.
fn settle(data: &Path, nodes: Option<u16>, port: Option<u16>) -> anyhow::Result<Saved> {
    let file = data.join("demo.json");
    let known: Option<Saved> = match fs::read(&file) {
        Ok(text) => Some(serde_json::from_slice(&text).with_context(|| format!("{} is damaged", file.display()))?),
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => None,
        Err(err) => return Err(err).with_context(|| format!("could not read {}", file.display())),
    };
    if let (Some(known), Some(nodes)) = (known, nodes)
        && known.nodes != nodes
    {
        bail!(
            "{} holds a cluster of {} nodes, not of {nodes}: choose another folder with --data",
            data.display(),
            known.nodes
        );
    }
    let saved = Saved {
        nodes: nodes.or(known.map(|known| known.nodes)).unwrap_or(3),
        port: port.or(known.map(|known| known.port)).unwrap_or(PORT_DEFAULT),
    };
    if known != Some(saved) {
        let text = serde_json::to_vec(&saved).expect("two numbers are plain JSON");
        fs::write(&file, text).with_context(|| format!("could not write {}", file.display()))?;
    }
    Ok(saved)
}

fn check_ports(saved: Saved) -> anyhow::Result<()> {
    for port in saved.port..saved.port + saved.nodes {
        if let Err(err) = TcpListener::bind(("127.0.0.1", port)) {
            bail!("port {port} cannot be used ({err}): choose another with --port, or stop what listens there");
        }
    }
    Ok(())
}

/// Waits until some node answers a query that needs a leader.
async fn await_ready(nodes: &Nodes, addresses: &[String]) -> anyhow::Result<()> {
    let deadline = Instant::now() + READY_TIMEOUT;
    loop {
        if let Some(why) = nodes.died() {
            bail!("{why}");
        }
        let last = match Client::connect(addresses).await {
            Ok(mut client) => match client.execute("SHOW TABLES", Vec::new()).await {
                Ok(_) => return Ok(()),
                Err(failure) => format!("{failure:?}"),
            },
            Err(err) => err.to_string(),
        };
        if Instant::now() > deadline {
            bail!("the cluster does not answer: {last}");
        }
        tokio::time::sleep(READY_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_remembers_its_nodes_and_its_port() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(settle(dir.path(), Some(5), None).unwrap(), Saved { nodes: 5, port: PORT_DEFAULT });
        assert_eq!(settle(dir.path(), None, Some(4000)).unwrap(), Saved { nodes: 5, port: 4000 });
        assert_eq!(settle(dir.path(), None, None).unwrap(), Saved { nodes: 5, port: 4000 });
        let err = settle(dir.path(), Some(3), None).unwrap_err().to_string();
        assert!(err.contains("a cluster of 5 nodes, not of 3"), "{err}");
    }

    #[test]
    fn a_busy_port_is_named() {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = held.local_addr().unwrap().port();
        let err = check_ports(Saved { nodes: 1, port }).unwrap_err().to_string();
        assert!(err.contains(&port.to_string()) && err.contains("--port"), "{err}");
    }
}
