//! What a run may be told to leave out of what its seed drew, to find out what its failure needs; and how many
//! nodes it is to have, to measure a cluster of one size.
//!
//! A run under overrides is as repeatable as any other: the seed and the flags decide it. It is another run,
//! though: what is left out shifts what comes after it.

use std::fmt;

use paxos::NodeId;

use crate::aimed::Aim;
use crate::faults::Fault;
use crate::swarm::Swarm;

/// What to leave out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Kinds of faults and aims, by their names in the settings that a failure prints, such as `PowerCutAll`.
    pub without: Vec<String>,
    /// At most so many clients.
    pub clients: Option<u64>,
    /// At most so many SQL clients.
    pub sql_clients: Option<u64>,
    /// At most so many transactions of all clients together.
    pub plans: Option<u64>,
    /// Faults end after so many simulated milliseconds, and all that follows comes sooner by as much.
    pub faults_until_ms: Option<i64>,
    /// So many nodes.
    pub nodes: Option<u64>,
    /// No loss, no duplicates, no slow messages and no slow syncs.
    pub even: bool,
    /// The clocks leave their bounds, whatever the seed says of that.
    pub beyond: bool,
}

impl Overrides {
    /// Changes the settings.
    pub(crate) fn apply(&self, swarm: &mut Swarm) {
        let left_out = |name: String| self.without.contains(&name);
        swarm.faults.retain(|(fault, _)| !left_out(format!("{fault:?}")));
        swarm.aims.retain(|aim| !left_out(format!("{aim:?}")));
        let least = |value: &mut u64, most: Option<u64>| *value = most.map_or(*value, |most| most.min(*value));
        least(&mut swarm.clients, self.clients.map(|clients| clients.max(1)));
        least(&mut swarm.sql_clients, self.sql_clients);
        least(&mut swarm.plans_max, self.plans);
        if let Some(nodes) = self.nodes {
            swarm.nodes = nodes;
            for (_, leader) in &mut swarm.bootstrap {
                *leader = NodeId(1 + (leader.0 - 1) % nodes);
            }
        }
        if let Some(ms) = self.faults_until_ms {
            let sooner = (swarm.faults_until - ms.saturating_mul(1_000_000)).max(0);
            swarm.faults_until -= sooner;
            swarm.load_until -= sooner;
            swarm.rest_by -= sooner;
        }
        if self.even {
            let network = &mut swarm.network;
            (network.loss_ppm, network.duplicate_ppm, network.slow_ppm) = (0, 0, 0);
            swarm.sync_slow_ppm = 0;
        }
    }

    /// What is left out, whether or not clocks leave their bounds.
    pub fn without_beyond(&self) -> Overrides {
        Overrides { beyond: false, ..self.clone() }
    }

    /// Whether there is a fault or an aim of this name.
    pub fn is_known(name: &str) -> bool {
        let faults = Fault::every().map(|fault| format!("{fault:?}"));
        let mut names = faults.chain(Aim::every().map(|aim| format!("{aim:?}")));
        names.any(|known| known == name)
    }
}

impl fmt::Display for Overrides {
    /// As flags of the command line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.without.is_empty() {
            write!(f, " --without {}", self.without.join(","))?;
        }
        for (flag, value) in
            [("clients", self.clients), ("sql-clients", self.sql_clients), ("plans", self.plans), ("nodes", self.nodes)]
        {
            if let Some(value) = value {
                write!(f, " --{flag} {value}")?;
            }
        }
        if let Some(ms) = self.faults_until_ms {
            write!(f, " --faults-until {ms}")?;
        }
        if self.even {
            f.write_str(" --even")?;
        }
        if self.beyond { f.write_str(" --beyond") } else { Ok(()) }
    }
}
