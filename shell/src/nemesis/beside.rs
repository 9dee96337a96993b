//! A nemesis beside a workload: it begins with the clients, and heals the cluster before the last reads.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::args::interval;
use super::{FaultKind, Nemesis, NemesisSpec, NemesisSummary};
use crate::workload::history::Recorder;
use crate::workload::plan::locked;

/// Faults beside a workload.
#[derive(Args, Clone, Debug)]
pub struct BesideArgs {
    /// run: hurt the cluster meanwhile, if `meridian demo` started it; the faults are noted in the history
    #[arg(long, value_enum, value_delimiter = ',', value_name = "KIND,...")]
    pub nemesis: Vec<FaultKind>,
    /// run: from the beginning of one fault to that of the next, on average
    #[arg(long, default_value = "5s", value_parser = interval)]
    pub interval: Duration,
}

impl BesideArgs {
    /// Finds who can hurt the cluster, if it is to be hurt: before anything is made in it.
    pub async fn find(&self, addresses: &[String], seed: u64) -> anyhow::Result<Option<Nemesis>> {
        if self.nemesis.is_empty() {
            return Ok(None);
        }
        let spec = NemesisSpec { faults: self.nemesis.clone(), interval: self.interval, seed };
        Nemesis::find(addresses, spec).await.map(Some)
    }

    /// For the first line of the history: the options that bring the same faults again.
    pub fn options(&self) -> Value {
        if self.nemesis.is_empty() {
            return json!(null);
        }
        let kinds: Vec<&str> = self.nemesis.iter().map(|kind| kind.name()).collect();
        json!(format!("--nemesis {} --interval {}ms", kinds.join(","), self.interval.as_millis()))
    }
}

/// One that is at work. Dropped, it heals in its own time.
pub struct Beside {
    stop: watch::Sender<bool>,
    task: JoinHandle<anyhow::Result<NemesisSummary>>,
}

impl Beside {
    /// Begins; what it does is noted in the history as of the process `nemesis`.
    pub fn begin(nemesis: Nemesis, recorder: Arc<Recorder>) -> Beside {
        let (stop, stopped) = watch::channel(false);
        let note = move |kind: &str, value| recorder.note("nemesis", kind, value);
        Beside { stop, task: tokio::spawn(nemesis.run(note, stopped)) }
    }

    /// Ends all faults, and waits until all nodes are well. The error says which are not. What no fault may
    /// lead to joins the `violations`.
    pub async fn end(
        beside: Option<Beside>,
        violations: &Mutex<Vec<String>>,
    ) -> anyhow::Result<Option<NemesisSummary>> {
        let Some(Beside { stop, task }) = beside else { return Ok(None) };
        let _ = stop.send(true);
        let summary = task.await.map_err(|e| anyhow::anyhow!("the nemesis failed: {e}"))??;
        locked(violations).extend(summary.violations.iter().cloned());
        Ok(Some(summary))
    }
}
