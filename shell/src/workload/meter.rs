//! What the nodes spent: fsyncs, CPU time, bytes, messages, summed over all nodes and over
//! restarts while the workload runs.

use std::collections::BTreeMap;
use std::time::Duration;

use proto::v1::database_client::DatabaseClient;
use proto::v1::{Counters, StatusRequest, StatusResponse};
use tonic::transport::Channel;

use super::history::Recorder;
use crate::client::{self, ClientOptions};

/// How long a node may take to answer.
const TIMEOUT: Duration = Duration::from_millis(700);

/// What all nodes did since the meter began.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spent {
    /// fsyncs of all nodes.
    pub fsyncs: u64,
    /// Bytes written to logs.
    pub log_bytes: u64,
    /// CPU time, user plus system, in microseconds.
    pub cpu_us: i64,
    /// Messages between nodes.
    pub messages: u64,
    /// Batches of them.
    pub batches: u64,
    /// Processes that were replaced meanwhile; what they did after the last look is not counted.
    pub restarts: u64,
}

impl Spent {
    /// Counts what lies between two looks at one node; without an earlier one the node was just
    /// started.
    fn add(&mut self, before: Option<&Counters>, now: &Counters) {
        let zero = Counters::default();
        let before = before.unwrap_or(&zero);
        self.fsyncs += now.fsyncs.saturating_sub(before.fsyncs);
        self.log_bytes += now.log_bytes.saturating_sub(before.log_bytes);
        self.cpu_us += (now.cpu_us - before.cpu_us).max(0);
        self.messages += now.messages_sent.saturating_sub(before.messages_sent);
        self.batches += now.batches_sent.saturating_sub(before.batches_sent);
    }
}

/// A node as last seen.
#[derive(Clone, Debug)]
struct Seen {
    pid: u32,
    counters: Counters,
}

/// Asks all nodes from time to time.
#[derive(Default)]
pub struct Meter {
    clients: BTreeMap<String, DatabaseClient<Channel>>,
    seen: BTreeMap<u64, Seen>,
    spent: Spent,
    clocks: BTreeMap<u64, (String, i64)>,
    /// The epsilons of those who answered the last time.
    answered: Vec<(u64, i64)>,
    started: bool,
}

impl Meter {
    /// For the nodes at these addresses, and those that they know.
    pub fn new(addresses: &[String]) -> Meter {
        let mut meter = Meter::default();
        for address in addresses {
            meter.learn(address);
        }
        meter
    }

    fn learn(&mut self, address: &str) {
        if !self.clients.contains_key(address)
            && let Ok(client) = client::lazy(address, &ClientOptions::default())
        {
            self.clients.insert(address.to_string(), client);
        }
    }

    /// Looks at all nodes at the same time. What is counted begins with the first look.
    pub async fn look(&mut self) {
        loop {
            let known = self.clients.len();
            let asked = self.clients.values_mut().map(|c| tokio::time::timeout(TIMEOUT, c.status(StatusRequest {})));
            let answers = futures::future::join_all(asked).await;
            let answers: Vec<StatusResponse> =
                answers.into_iter().filter_map(|a| a.ok()?.ok()).map(tonic::Response::into_inner).collect();
            self.answered.clear();
            for status in &answers {
                self.take(status);
                for peer in &status.peers {
                    let given = answers.iter().any(|a| a.node == peer.node);
                    if !given && !peer.address.is_empty() {
                        self.learn(&peer.address);
                    }
                }
            }
            if self.started || self.clients.len() == known {
                break;
            }
        }
        self.started = true;
    }

    fn take(&mut self, status: &StatusResponse) {
        let counters = status.counters.unwrap_or_default();
        if let Some(clock) = &status.clock {
            let epsilon_ns = clock.latest_ns.saturating_sub(clock.earliest_ns) / 2;
            self.clocks.insert(status.node, (clock.source.clone(), epsilon_ns));
            self.answered.push((status.node, epsilon_ns));
        }
        match self.seen.get(&status.node) {
            Some(seen) if seen.pid == status.pid && seen.counters.cpu_us <= counters.cpu_us => {
                let before = seen.counters;
                self.spent.add(Some(&before), &counters);
            }
            Some(_) => {
                self.spent.restarts += 1;
                self.spent.add(None, &counters);
            }
            // A node that was down at the start: only what it does from now on.
            None => {}
        }
        self.seen.insert(status.node, Seen { pid: status.pid, counters });
    }

    /// What was spent between the first look and the last.
    pub fn spent(&self) -> Spent {
        self.spent
    }

    /// The nodes seen, with the source of their clock and its epsilon in nanoseconds.
    pub fn clocks(&self) -> &BTreeMap<u64, (String, i64)> {
        &self.clocks
    }

    /// Writes the epsilons of the last look into a history.
    pub fn note(&self, recorder: &Recorder) {
        for (node, epsilon_ns) in &self.answered {
            recorder.note("monitor", "epsilon", serde_json::json!({"node": node, "epsilon_ns": epsilon_ns}));
        }
    }

    /// The addresses of the nodes.
    pub fn addresses(&self) -> Vec<String> {
        self.clients.keys().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(pid: u32, fsyncs: u64, cpu_us: i64) -> StatusResponse {
        let counters = Counters { fsyncs, cpu_us, ..Counters::default() };
        StatusResponse { node: 1, pid, counters: Some(counters), ..StatusResponse::default() }
    }

    #[test]
    fn a_restarted_node_counts_from_zero() {
        let mut meter = Meter::default();
        for (pid, fsyncs, cpu_us) in [(7, 1000, 50), (7, 1010, 70), (8, 4, 5), (8, 6, 9)] {
            meter.take(&status(pid, fsyncs, cpu_us));
        }
        assert_eq!(meter.spent(), Spent { fsyncs: 10 + 6, cpu_us: 20 + 9, restarts: 1, ..Spent::default() });
    }
}
