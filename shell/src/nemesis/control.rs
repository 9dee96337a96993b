//! The way to whoever can hurt the cluster: the `Faults` service of the demo that started it.

use std::time::Duration;

use proto::v1::fault_request::Fault;
use proto::v1::faults_client::FaultsClient;
use proto::v1::{
    Cut, DescribeFaultsRequest, FaultRequest, FaultsState, Heal, Partition, ProcessAction, ResetConnections,
    SlowNetwork,
};
use tonic::transport::{Channel, Endpoint};

use super::cuts::Cuts;
use crate::client;

/// Said where nobody can be asked.
pub const NOT_A_DEMO: &str = "this cluster was not started by meridian demo: its processes cannot be killed from here";

/// How long a fault may take: a node that stops hands over first.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How long a node may take to say where faults are.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);

/// Hurts a cluster. Errors are sentences for the user.
#[derive(Clone, Debug)]
pub struct Control {
    address: String,
    client: FaultsClient<Channel>,
}

impl Control {
    /// At HOST:PORT, as nodes tell it; empty is [`NOT_A_DEMO`]. Connects when it is first used.
    pub fn at(address: &str) -> Result<Control, String> {
        if address.is_empty() {
            return Err(NOT_A_DEMO.to_string());
        }
        let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|e| e.to_string())?;
        let endpoint = endpoint.connect_timeout(ASK_TIMEOUT).tcp_nodelay(true);
        Ok(Control { address: address.to_string(), client: FaultsClient::new(endpoint.connect_lazy()) })
    }

    /// Asks these nodes where faults can be injected; the first answer counts.
    pub async fn learn(addresses: &[String]) -> Result<Control, String> {
        let asked = addresses.iter().map(|address| client::status(address, ASK_TIMEOUT));
        let answers = futures::future::join_all(asked).await;
        if let Some(status) = answers.iter().flatten().next() {
            return Control::at(&status.faults_at);
        }
        let why = addresses.iter().zip(&answers).filter_map(|(a, s)| s.as_ref().err().map(|why| format!("{a}: {why}")));
        Err(format!("no node answers: {}", why.collect::<Vec<_>>().join("; ")))
    }

    /// Begins or ends a fault, and says what was done.
    pub async fn inject(&self, nodes: &[u64], fault: Fault) -> Result<String, String> {
        let request = FaultRequest { nodes: nodes.to_vec(), fault: Some(fault) };
        let mut client = self.client.clone();
        self.within(client.inject(request)).await.map(|answer| answer.said)
    }

    /// The nodes, and the faults that are on.
    pub async fn describe(&self) -> Result<FaultsState, String> {
        let mut client = self.client.clone();
        self.within(client.describe(DescribeFaultsRequest {})).await
    }

    async fn within<T>(
        &self,
        call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    ) -> Result<T, String> {
        let answer = tokio::time::timeout(TIMEOUT, call).await;
        match answer.map_err(|_| format!("the demo did not answer within {TIMEOUT:?}"))? {
            Ok(answer) => Ok(answer.into_inner()),
            Err(status) if status.code() == tonic::Code::Unavailable => Err(format!(
                "the demo that started this cluster does not answer at {}: faults are injected on its own machine",
                self.address
            )),
            Err(status) => Err(status.message().to_string()),
        }
    }
}

/// Something done to processes.
pub fn process(action: ProcessAction) -> Fault {
    Fault::Process(action.into())
}

/// These cuts and no others; none: no partition.
pub fn partition(cuts: &Cuts, text: &str) -> Fault {
    let cuts = cuts.iter().map(|(from, to)| Cut { from: *from, to: *to }).collect();
    Fault::Partition(Partition { cuts, text: text.to_string() })
}

/// The end of all faults, or of those of the network.
pub fn heal(network_only: bool) -> Fault {
    Fault::Heal(Heal { network_only })
}

/// A delay on all ways from and to a node; zero: none.
pub fn slow_network(delay: Duration, jitter: Duration) -> Fault {
    Fault::SlowNetwork(SlowNetwork { delay_ns: ns(delay), jitter_ns: ns(jitter), bytes_per_s: 0 })
}

/// A delay of each sync; zero: none.
pub fn slow_disk(delay: Duration) -> Fault {
    Fault::FsyncDelayNs(ns(delay))
}

/// Connections broken once.
pub fn reset() -> Fault {
    Fault::ResetConnections(ResetConnections {})
}

fn ns(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}
