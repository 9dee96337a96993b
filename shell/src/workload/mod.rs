//! Workloads: load on a real cluster whose answers are checked while it runs.

pub mod bank;
pub mod history;
pub mod meter;
pub mod tally;

use crate::args::{BankCommand, Workload};
use crate::out::Out;

/// Runs a workload's step and returns the exit code: 1 if it failed or its invariant is violated.
pub async fn run(workload: &Workload) -> anyhow::Result<i32> {
    let (mut out, mut err) = (Out::stdout(), Out::stderr());
    let Workload::Bank(command) = workload;
    match command {
        BankCommand::Init(args) => bank::init::run(args, &mut err).await,
        BankCommand::Run(args) => {
            let mut interrupt = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())?;
            let stop = async move {
                interrupt.recv().await;
            };
            bank::run::run(args, stop, &mut out, &mut err).await
        }
        BankCommand::Check(args) => bank::check::run(args, &mut out, &mut err).await,
    }
}
