//! What a node says of itself, and gathering that from all nodes.

use std::time::Duration;

use tonic::transport::{Channel, Endpoint};
use truetime::{ClockSpec, Interval};
use txn::GroupStatus;

use super::GatewayEngine;
use super::admission::AdmissionState;
use crate::metrics::{cpu_us, get, resident_bytes};
use crate::transport::PeerState;
use crate::wire;

/// How long another node may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(1500);

/// What a node says of itself.
#[derive(Clone, Debug)]
pub struct NodeStatus {
    /// Which node.
    pub node: u64,
    /// Its version.
    pub version: String,
    /// Its cluster.
    pub cluster_id: String,
    /// All nodes, as it sees them.
    pub peers: Vec<PeerState>,
    /// Its clock.
    pub clock: ClockSummary,
    /// Its replicas.
    pub groups: Vec<GroupStatus>,
    /// Its counters.
    pub counters: Counters,
    /// Its data folder.
    pub data_dir: String,
    /// Its process.
    pub pid: u32,
    /// Since it started.
    pub uptime_ms: i64,
    /// Where faults can be injected into its cluster; empty if nowhere.
    pub faults_at: String,
    /// Injected into each sync of its log; zero: none.
    pub fsync_delay: Duration,
}

/// A node's clock, as `SHOW CLOCK` shows it.
#[derive(Clone, Debug)]
pub struct ClockSummary {
    /// As for `--clock`.
    pub source: String,
    /// The interval as the node answered.
    pub interval: Interval,
    /// Whether the node may lead and vote.
    pub trusted: bool,
    /// Why not, if it is fenced.
    pub fenced: Option<String>,
    /// Jumps of the system clock.
    pub anomalies: u64,
    /// With which peers' clocks it differs, a sentence each.
    pub conflicts: Vec<String>,
}

/// Since the process started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Syncs of the log.
    pub fsyncs: u64,
    /// Bytes written to the log.
    pub log_bytes: u64,
    /// User and system time.
    pub cpu_us: i64,
    /// Commits decided by groups led here.
    pub commits: u64,
    /// Aborts likewise.
    pub aborts: u64,
    /// To peers.
    pub messages_sent: u64,
    /// To peers.
    pub batches_sent: u64,
    /// Memory.
    pub resident_bytes: u64,
    /// A peer's queue was full.
    pub messages_dropped: u64,
    /// Of peers.
    pub messages_malformed: u64,
    /// Of clients.
    pub sessions_open: u64,
    /// There were enough.
    pub sessions_refused: u64,
    /// Statements and transaction blocks worked on, waiting, and refused.
    pub admission: AdmissionState,
    /// Requests and buffered writes of all sessions.
    pub session_bytes: u64,
    /// On their way to the disk.
    pub log_queue_bytes: u64,
    /// Of clients and peers.
    pub connections_open: u64,
    /// There were enough.
    pub connections_refused: u64,
}

/// A node and its answer, or why there is none.
pub type Answer = (PeerState, Result<NodeStatus, String>);

impl GatewayEngine {
    /// This node's status. Empty of groups if the node is stopping.
    pub async fn status(&self) -> NodeStatus {
        let shared = &self.shared;
        let groups = shared.engine.query(|node, now| node.status(now)).await.unwrap_or_default();
        let view = shared.clock.view();
        let metrics = &shared.metrics;
        let counters = Counters {
            fsyncs: get(&metrics.fsyncs),
            log_bytes: get(&metrics.log_bytes),
            cpu_us: cpu_us(),
            commits: groups.iter().map(|group| group.commits).sum(),
            aborts: groups.iter().map(|group| group.aborts).sum(),
            messages_sent: get(&metrics.messages_sent),
            batches_sent: get(&metrics.batches_sent),
            resident_bytes: resident_bytes(),
            messages_dropped: get(&metrics.messages_dropped),
            messages_malformed: get(&metrics.messages_malformed),
            sessions_open: get(&metrics.sessions_open),
            sessions_refused: get(&metrics.sessions_refused),
            admission: shared.admission.state(),
            session_bytes: shared.memory.used_bytes() as u64,
            log_queue_bytes: get(&metrics.log_queue_bytes),
            connections_open: get(&metrics.connections_open),
            connections_refused: get(&metrics.connections_refused),
        };
        let conflicts = view.peers.iter().filter_map(|peer| peer.conflict).map(|conflict| conflict.brief());
        NodeStatus {
            node: shared.transport.identity().node,
            version: crate::VERSION.to_string(),
            cluster_id: shared.transport.identity().cluster_id.clone(),
            peers: shared.transport.states(),
            clock: ClockSummary {
                source: view.status.spec.to_string(),
                interval: view.status.interval,
                trusted: view.status.trusted,
                fenced: view.status.fenced,
                anomalies: view.status.anomalies,
                conflicts: conflicts.collect(),
            },
            groups,
            counters,
            data_dir: shared.about.data_dir.clone(),
            pid: std::process::id(),
            uptime_ms: (shared.clock.mono_ns() - shared.about.started_mono_ns) / 1_000_000,
            faults_at: self.faults_at().to_string(),
            fsync_delay: shared.about.injected.fsync_delay(),
        }
    }

    /// Asks every node, this one too, at the same time. One answer each, in order of their numbers.
    pub async fn gather(&self) -> Vec<Answer> {
        let me = self.shared.transport.me().0;
        let asked = self.shared.transport.states().into_iter().map(async |peer| {
            let dial = self.shared.transport.dial(&peer);
            let answer = if peer.node == me { Ok(self.status().await) } else { ask(dial).await };
            let answer = match answer {
                Ok(status) if status.node != peer.node => Err(format!("node {} answers there", status.node)),
                answer => answer,
            };
            (peer, answer)
        });
        futures::future::join_all(asked).await
    }

    /// Changes the clock source of a node.
    pub async fn set_clock(&self, node: u64, spec: &ClockSpec) -> Result<(), String> {
        if node == self.shared.transport.me().0 {
            self.shared.clock.set_spec(spec.clone());
            return Ok(());
        }
        let peers = self.shared.transport.states();
        let peer = peers.iter().find(|peer| peer.node == node).ok_or_else(|| format!("there is no node {node}"))?;
        within(async { wire::peer::set_clock(channel(self.shared.transport.dial(peer))?, spec).await }).await
    }
}

async fn ask(address: &str) -> Result<NodeStatus, String> {
    within(async { wire::peer::ask_status(channel(address)?).await }).await
}

/// The way to a node, connected when it is first used.
pub fn channel(address: &str) -> Result<Channel, String> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|err| err.to_string())?;
    Ok(endpoint.connect_timeout(ANSWER_TIMEOUT).tcp_nodelay(true).connect_lazy())
}

/// The answer of a node, if it comes soon.
pub async fn within<T>(call: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    tokio::time::timeout(ANSWER_TIMEOUT, call).await.unwrap_or_else(|_| Err("no answer".to_string()))
}
