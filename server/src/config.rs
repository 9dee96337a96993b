//! The command line of `meridian start`, checked.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, ValueEnum};
use truetime::{ClockSpec, parse_duration_ns};

use crate::gateway::admission::AdmissionOptions;

/// The least that queries can work with: a few batches of rows, and a sort's share.
const QUERY_BYTES_MIN: usize = 16 << 20;

/// The most nodes of a cluster: each is a voter of each group.
pub const NODES_MAX: usize = 9;
/// The largest node number: names of transactions hold 16 bits of it.
pub const NODE_ID_MAX: u64 = 65_535;
/// Bounds of the lease, in nanoseconds: below, elections never settle; above, a failed leader is
/// missed for too long.
const LEASE_NS: std::ops::RangeInclusive<i64> = 200_000_000..=60_000_000_000;
/// Bounds of the retention, in nanoseconds.
const RETENTION_NS: std::ops::RangeInclusive<i64> = 1_000_000_000..=7 * 24 * 3_600_000_000_000;

/// A malformed or contradictory setting. Displays as one line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

fn bad<T>(why: impl Into<String>) -> Result<T, ConfigError> {
    Err(ConfigError(why.into()))
}

/// Every node of the cluster and its address, by number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peers(BTreeMap<u64, String>);

impl Peers {
    /// In order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &str)> {
        self.0.iter().map(|(id, address)| (*id, address.as_str()))
    }

    /// The address of a node.
    pub fn address(&self, node: u64) -> Option<&str> {
        self.0.get(&node).map(String::as_str)
    }

    /// Every number, in order.
    pub fn ids(&self) -> Vec<u64> {
        self.0.keys().copied().collect()
    }

    /// From numbers and addresses, both checked.
    pub fn new(nodes: impl IntoIterator<Item = (u64, String)>) -> Result<Peers, ConfigError> {
        let mut peers = BTreeMap::new();
        for (id, address) in nodes {
            if id == 0 || id > NODE_ID_MAX {
                return bad(format!("node number {id} is out of range: 1 to {NODE_ID_MAX}"));
            }
            check_address(&address)?;
            if let Some((other, _)) = peers.iter().find(|(_, known)| **known == address) {
                return bad(format!("nodes {other} and {id} have the same address {address}"));
            }
            if peers.insert(id, address).is_some() {
                return bad(format!("node {id} is named twice"));
            }
        }
        match peers.len() {
            0 => bad("the list of nodes is empty"),
            n if n > NODES_MAX => bad(format!("{n} nodes are too many: at most {NODES_MAX}")),
            _ => Ok(Peers(peers)),
        }
    }
}

impl fmt::Display for Peers {
    /// As `--peers` takes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nodes: Vec<String> = self.0.iter().map(|(id, address)| format!("{id}={address}")).collect();
        f.write_str(&nodes.join(","))
    }
}

impl FromStr for Peers {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Peers, ConfigError> {
        let mut nodes = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let Some((id, address)) = part.split_once('=') else {
                return bad(format!("{part:?} is not of the form 1=HOST:PORT"));
            };
            let Ok(id) = id.trim().parse() else {
                return bad(format!("{:?} is not a node number", id.trim()));
            };
            nodes.push((id, address.trim().to_string()));
        }
        Peers::new(nodes)
    }
}

/// Checks that an address has the form HOST:PORT.
pub fn check_address(address: &str) -> Result<(), ConfigError> {
    let Some((host, port)) = address.rsplit_once(':') else {
        return bad(format!("{address:?} is not of the form HOST:PORT"));
    };
    let bracketed = host.starts_with('[') && host.ends_with(']');
    if host.is_empty() || host.contains(char::is_whitespace) || (host.contains(':') && !bracketed) {
        return bad(format!("{address:?} has no valid host before its port"));
    }
    match port.parse::<u16>() {
        Ok(port) if port > 0 => Ok(()),
        _ => bad(format!("{address:?} has no valid port: 1 to 65535")),
    }
}

/// The form of the node's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

fn duration(text: &str) -> Result<i64, String> {
    parse_duration_ns(text)
}

fn clock(text: &str) -> Result<ClockSpec, String> {
    text.parse()
}

/// `meridian start`
#[derive(Args, Clone, Debug)]
pub struct StartArgs {
    /// This node's number, from 1
    #[arg(long, value_name = "ID")]
    pub node: u64,
    /// The folder of this node's data; made if it is not there
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// The address to listen on, for clients and nodes
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: String,
    /// Every node of the cluster, this one included, with the address at which others reach it
    #[arg(long, value_name = "1=HOST:PORT,...")]
    pub peers: Peers,
    /// The clock's source: fixed:EPSILON, kernel, or sim:SOURCE,FAULT,...
    #[arg(long, value_name = "SOURCE", default_value = "fixed:1ms", value_parser = clock)]
    pub clock: ClockSpec,
    /// The length of a leader's lease
    #[arg(long, value_name = "DURATION", default_value = "3s", value_parser = duration)]
    pub lease: i64,
    /// How long old versions are kept
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration)]
    pub retention: i64,
    /// How often versions older than that are collected
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    pub gc_every: i64,
    /// Flush the state after so many bytes; a restart replays about as much of the log
    #[arg(long, value_name = "BYTES", default_value_t = 64 << 20)]
    pub state_flush_bytes: u64,
    /// Flush the state after so long, if anything was written
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    pub state_flush_after: i64,
    /// Sessions of clients at most
    #[arg(long, value_name = "N", default_value_t = 4096)]
    pub sessions_max: u64,
    /// Statements and transaction blocks worked on at once; more wait in a queue
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub active_max: usize,
    /// Statements in that queue at most; more are refused
    #[arg(long, value_name = "N", default_value_t = 2048)]
    pub queue_max: usize,
    /// How long a statement may wait there
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub queue_wait: i64,
    /// What all sessions together may hold: requests, and writes that wait for their commit
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 30)]
    pub session_memory_max: usize,
    /// What all queries that DataFusion runs may hold together; what does not fit goes to a folder of the data
    #[arg(long, value_name = "BYTES", default_value_t = 256 << 20)]
    pub query_memory_max: usize,
    /// The form of the log, which goes to standard error
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// What is logged: error, warn, info, debug, trace, or a filter such as server=debug,info
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub log: String,
    /// Stop when standard input ends; set by `meridian demo`
    #[arg(long, hide = true)]
    pub stop_with_stdin: bool,
    /// Addresses by which to reach peers instead of those of --peers; set by `meridian demo`, for its proxies
    #[arg(long, hide = true, value_name = "2=HOST:PORT,...")]
    pub peer_via: Option<Peers>,
    /// Where faults can be injected into this cluster; set by `meridian demo`
    #[arg(long, hide = true, value_name = "HOST:PORT")]
    pub faults_at: Option<String>,
}

/// The checked settings of a node.
#[derive(Clone, Debug)]
pub struct Config {
    /// This node.
    pub node: u64,
    /// Its data folder.
    pub data: PathBuf,
    /// Where it listens.
    pub listen: String,
    /// The cluster.
    pub peers: Peers,
    /// The clock's source.
    pub clock: ClockSpec,
    /// A leader's lease, in nanoseconds.
    pub lease_ns: i64,
    /// How long old versions are kept, in nanoseconds.
    pub retention_ns: i64,
    /// How often they are collected, in nanoseconds.
    pub gc_every_ns: i64,
    /// The state is flushed after so many bytes,
    pub state_flush_bytes: u64,
    /// or so many nanoseconds.
    pub state_flush_ns: i64,
    /// Sessions at most.
    pub sessions_max: u64,
    /// How much is worked on at once.
    pub admission: AdmissionOptions,
    /// What all sessions may hold, in bytes.
    pub session_memory_max: usize,
    /// What all queries of the long path may hold, in bytes.
    pub query_memory_max: usize,
    /// Peers that are reached by other addresses than clients are told.
    pub peer_via: Option<Peers>,
    /// Where faults can be injected, if anywhere.
    pub faults_at: Option<String>,
}

impl StartArgs {
    /// Checks what clap cannot.
    pub fn check(&self) -> Result<Config, ConfigError> {
        check_address(&self.listen).map_err(|err| ConfigError(format!("--listen: {err}")))?;
        let Some(address) = self.peers.address(self.node) else {
            return bad(format!("--peers does not name this node, {}: it names {}", self.node, self.peers));
        };
        let port = |address: &str| address.rsplit_once(':').map(|(_, port)| port.to_string());
        if port(address) != port(&self.listen) {
            return bad(format!(
                "--listen is {}, but --peers has {address} for this node: the ports must be the same",
                self.listen
            ));
        }
        if !LEASE_NS.contains(&self.lease) {
            return bad("--lease must lie between 200ms and 60s");
        }
        if !RETENTION_NS.contains(&self.retention) {
            return bad("--retention must lie between 1s and 168h");
        }
        if self.gc_every < 100_000_000 {
            return bad("--gc-every must be at least 100ms");
        }
        if self.state_flush_after <= 0 || self.state_flush_bytes == 0 {
            return bad("--state-flush-bytes and --state-flush-after must be above zero");
        }
        if self.sessions_max == 0 {
            return bad("--sessions-max must be above zero");
        }
        if self.active_max == 0 || self.queue_wait <= 0 {
            return bad("--active-max and --queue-wait must be above zero");
        }
        if self.session_memory_max < txn::types::TXN_BYTES_MAX {
            return bad(format!("--session-memory-max must hold a transaction: {} bytes", txn::types::TXN_BYTES_MAX));
        }
        if self.query_memory_max < QUERY_BYTES_MIN {
            return bad(format!("--query-memory-max must be at least {QUERY_BYTES_MIN} bytes"));
        }
        if let Some(at) = &self.faults_at {
            check_address(at).map_err(|err| ConfigError(format!("--faults-at: {err}")))?;
        }
        let strange = |id: &u64| *id == self.node || self.peers.address(*id).is_none();
        if let Some(id) = self.peer_via.iter().flat_map(Peers::ids).find(strange) {
            return bad(format!("--peer-via names node {id}, which is no peer of node {}", self.node));
        }
        Ok(Config {
            node: self.node,
            data: self.data.clone(),
            listen: self.listen.clone(),
            peers: self.peers.clone(),
            clock: self.clock.clone(),
            lease_ns: self.lease,
            retention_ns: self.retention,
            gc_every_ns: self.gc_every,
            state_flush_bytes: self.state_flush_bytes,
            state_flush_ns: self.state_flush_after,
            sessions_max: self.sessions_max,
            admission: AdmissionOptions {
                active_max: self.active_max,
                queued_max: self.queue_max,
                wait_max: Duration::from_nanos(self.queue_wait.unsigned_abs()),
            },
            session_memory_max: self.session_memory_max,
            query_memory_max: self.query_memory_max,
            peer_via: self.peer_via.clone(),
            faults_at: self.faults_at.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        start: StartArgs,
    }

    fn check(extra: &[&str]) -> Result<Config, String> {
        let mut args: BTreeMap<&str, &str> = BTreeMap::new();
        args.insert("--node", "2");
        args.insert("--data", "/tmp/x");
        args.insert("--listen", "127.0.0.1:7002");
        args.insert("--peers", "1=127.0.0.1:7001,2=127.0.0.1:7002,3=127.0.0.1:7003");
        for pair in extra.chunks(2) {
            args.insert(pair[0], pair[1]);
        }
        let line = std::iter::once("meridian").chain(args.iter().flat_map(|(name, value)| [*name, *value]));
        let cli = Cli::try_parse_from(line).map_err(|err| err.to_string())?;
        cli.start.check().map_err(|err| err.to_string())
    }

    #[test]
    fn good_settings_are_taken() {
        let config = check(&["--lease", "1s", "--clock", "fixed:7ms"]).unwrap();
        assert_eq!((config.lease_ns, config.clock.to_string().as_str()), (1_000_000_000, "fixed:7ms"));
        assert_eq!(config.peers.ids(), [1, 2, 3]);
        assert!(check(&["--listen", "0.0.0.0:7002"]).is_ok());
        assert!(check(&["--listen", "[::1]:7002"]).is_ok());
    }

    #[test]
    fn each_mistake_is_named() {
        for (extra, part) in [
            (["--node", "4"], "--peers does not name this node, 4"),
            (["--node", "x"], "invalid"),
            (["--listen", "127.0.0.1"], "not of the form HOST:PORT"),
            (["--listen", "127.0.0.1:0"], "no valid port"),
            (["--listen", "127.0.0.1:7009"], "the ports must be the same"),
            (["--peers", "1=a:1,1=b:2"], "node 1 is named twice"),
            (["--peers", "1=a:1,2=a:1"], "nodes 1 and 2 have the same address a:1"),
            (["--peers", "1"], "not of the form 1=HOST:PORT"),
            (["--peers", "one=a:1"], "not a node number"),
            (["--peers", "0=a:1"], "out of range"),
            (["--peers", "1=a b:1"], "no valid host"),
            (["--peers", ""], "the list of nodes is empty"),
            (["--lease", "3"], "has no unit"),
            (["--lease", "1ms"], "--lease must lie between"),
            (["--retention", "1ms"], "--retention must lie between"),
            (["--clock", "sundial"], "sundial"),
            (["--gc-every", "1ms"], "--gc-every must be at least"),
            (["--state-flush-after", "0s"], "must be above zero"),
            (["--sessions-max", "0"], "must be above zero"),
            (["--active-max", "0"], "must be above zero"),
            (["--queue-wait", "0s"], "must be above zero"),
            (["--session-memory-max", "1000"], "must hold a transaction"),
            (["--query-memory-max", "1000"], "--query-memory-max must be at least"),
            (["--peer-via", "2=a:1"], "--peer-via names node 2, which is no peer of node 2"),
            (["--peer-via", "4=a:1"], "--peer-via names node 4"),
            (["--faults-at", "here"], "--faults-at: \"here\" is not of the form HOST:PORT"),
        ] {
            let err = check(&extra).unwrap_err();
            assert!(err.contains(part), "{extra:?}: {err}");
        }
    }
}
