//! The nemesis: hurts a running cluster by a schedule, beside any load.
//!
//! ```text
//!   seed --> Schedule --> Draw: when, which kind, leader or node, how long
//!                           |
//!                           v      asks who leads now        Faults service of the demo
//!                         Run -----------------------> nodes        ^
//!                           |-- begin, and later end ---------------'
//!                           '-- note(kind, {"node":2,"phase":"begin"}) --> the history, the screen
//! ```
//!
//! 1. Faults begin one interval apart on average; one in four begins while the one before is still on.
//! 2. Half of them meet the leader of some group: a fault that meets nobody's leader costs nothing.
//! 3. **A majority stays of use**: what disables nodes (kill, pause, restart, partition, a clock beyond its
//!    bound) waits until those that are disabled already, and its own victims, are a minority together.
//!    Only `kill-all` does otherwise, and for a fifth of an interval at most.
//! 4. In the end everything is healed: dead nodes are started, paused ones go on, the network is mended,
//!    clocks and disks are as before; and all nodes must answer.
//!
//! The same seed gives the same faults in the same order ([`schedule`]); who leads, and how long a process
//! takes to stop, is the cluster's.

pub mod args;
pub mod beside;
pub mod control;
pub mod cuts;
pub mod recovery;
mod run;
pub mod schedule;
mod watch;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

pub use run::Nemesis;
pub use schedule::FaultKind;

/// What the nemesis is told.
#[derive(Clone, Debug)]
pub struct NemesisSpec {
    /// Which kinds of faults.
    pub faults: Vec<FaultKind>,
    /// From the beginning of one to that of the next, on average.
    pub interval: Duration,
    /// Decides all the rest.
    pub seed: u64,
}

impl NemesisSpec {
    /// The options that repeat it, such as `--faults kill,pause --interval 5s --seed 7`.
    pub fn options(&self) -> String {
        let kinds: Vec<&str> = self.faults.iter().map(|kind| kind.name()).collect();
        format!("--faults {} --interval {}ms --seed {}", kinds.join(","), self.interval.as_millis(), self.seed)
    }
}

/// What the nemesis did.
#[derive(Clone, Debug, Default)]
pub struct NemesisSummary {
    /// As told.
    pub seed: u64,
    /// How many faults of each kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// Faults that could not be done, and why.
    pub problems: Vec<String>,
    /// What no fault may lead to: a liar that did not fence itself.
    pub violations: Vec<String>,
    /// From the stop until all nodes answered again.
    pub healed_in: Duration,
    /// A command that repeats it.
    pub reproduce: String,
}

impl NemesisSummary {
    /// All faults.
    pub fn count(&self) -> u64 {
        self.faults.values().sum()
    }

    /// The lines of a workload's report.
    pub fn text(&self) -> Vec<String> {
        let mut lines = vec![format!("nemesis        {}", self.line())];
        lines.extend(self.problems.iter().map(|why| format!("               not done: {why}")));
        lines
    }

    /// A part of a workload's report.
    pub fn json(&self) -> Value {
        json!({
            "seed": self.seed,
            "count": self.count(),
            "faults": self.faults,
            "problems": self.problems,
            "violations": self.violations,
            "healed_ms": u64::try_from(self.healed_in.as_millis()).unwrap_or(u64::MAX),
            "reproduce": self.reproduce,
        })
    }

    /// For people: `12 faults: kill 5, pause 7`.
    pub fn line(&self) -> String {
        let kinds: Vec<String> = self.faults.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        let kinds = if kinds.is_empty() { String::new() } else { format!(": {}", kinds.join(", ")) };
        format!(
            "{} faults{kinds}; all nodes answered {:.1} s after the last",
            self.count(),
            self.healed_in.as_secs_f64()
        )
    }
}
