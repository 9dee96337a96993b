//! The `Faults` service of a demo: wire types to [`Fault`]s, and back.
//!
//! It listens on the loopback interface only: whoever can reach it can kill the demo's nodes.

use std::time::Duration;

use proto::v1;
use proto::v1::fault_request::Fault as Asked;
use proto::v1::faults_server::{Faults, FaultsServer};
use tonic::{Request, Response, Status};

use crate::demo::host::{Action, Fault, Host, Refusal};
use crate::demo::proxy::Slow;

/// The service, ready to be added to a server.
pub fn service(host: Host) -> FaultsServer<FaultsService> {
    FaultsServer::new(FaultsService { host })
}

/// Over the nodes of a demo.
pub struct FaultsService {
    host: Host,
}

#[tonic::async_trait]
impl Faults for FaultsService {
    async fn inject(&self, request: Request<v1::FaultRequest>) -> Result<Response<v1::FaultResponse>, Status> {
        let request = request.into_inner();
        let fault = request.fault.ok_or_else(|| Status::invalid_argument("it is not said which fault"))?;
        let fault = fault_from(fault).map_err(Status::invalid_argument)?;
        match self.host.inject(&request.nodes, fault).await {
            Ok(said) => Ok(Response::new(v1::FaultResponse { said })),
            Err(Refusal::Invalid(why)) => Err(Status::invalid_argument(why)),
            Err(Refusal::Impossible(why)) => Err(Status::failed_precondition(why)),
        }
    }

    async fn describe(&self, _: Request<v1::DescribeFaultsRequest>) -> Result<Response<v1::FaultsState>, Status> {
        let nodes = self.host.nodes().into_iter().map(|node| v1::FaultyNode {
            node: node.node,
            address: node.address,
            pid: node.pid.unwrap_or_default(),
            data: node.data,
            state: node.state.into(),
        });
        let faults = self.host.active().into_iter().map(|fault| v1::ActiveFault {
            kind: fault.kind.into(),
            nodes: fault.nodes,
            detail: fault.detail,
            for_ms: i64::try_from(fault.since.as_millis()).unwrap_or(i64::MAX),
        });
        Ok(Response::new(v1::FaultsState {
            nodes: nodes.collect(),
            faults: faults.collect(),
            lease_ns: self.host.lease_ns(),
            proxied: self.host.proxied(),
        }))
    }
}

fn fault_from(fault: Asked) -> Result<Fault, String> {
    let time = |ns: i64| u64::try_from(ns).map(Duration::from_nanos).map_err(|_| "a delay must not be negative");
    Ok(match fault {
        Asked::Process(action) => Fault::Process(match v1::ProcessAction::try_from(action) {
            Ok(v1::ProcessAction::Kill) => Action::Kill,
            Ok(v1::ProcessAction::Start) => Action::Start,
            Ok(v1::ProcessAction::Stop) => Action::Stop,
            Ok(v1::ProcessAction::Restart) => Action::Restart,
            Ok(v1::ProcessAction::Pause) => Action::Pause,
            Ok(v1::ProcessAction::Resume) => Action::Resume,
            _ => return Err(format!("there is no action {action}")),
        }),
        Asked::Partition(partition) => {
            let cuts = partition.cuts.into_iter().map(|cut| (cut.from, cut.to)).collect();
            Fault::Partition(cuts, partition.text)
        }
        Asked::Heal(heal) => Fault::Heal { network_only: heal.network_only },
        Asked::Skew(text) => Fault::Skew(text),
        Asked::SlowNetwork(slow) => Fault::SlowNetwork(Slow {
            delay: time(slow.delay_ns)?,
            jitter: time(slow.jitter_ns)?,
            bytes_per_s: slow.bytes_per_s,
        }),
        Asked::FsyncDelayNs(delay_ns) => Fault::SlowDisk(delay_ns),
        Asked::ResetConnections(_) => Fault::Reset,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_sense_is_an_error() {
        for action in [0, 7, -1] {
            assert!(fault_from(Asked::Process(action)).is_err());
        }
        let slow = v1::SlowNetwork { delay_ns: -1, ..v1::SlowNetwork::default() };
        assert!(fault_from(Asked::SlowNetwork(slow)).is_err());
        assert_eq!(fault_from(Asked::Process(1)), Ok(Fault::Process(Action::Kill)));
    }
}
