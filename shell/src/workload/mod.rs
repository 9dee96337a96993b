//! Workloads: load on a real cluster, recorded as a history and judged.
//!
//! A workload is a few pages of choices ([`plan`], [`kinds`]); the rest is common to all: tables split
//! over four groups ([`tables`]), clients spread over the nodes ([`worker`]), a recorder ([`history`]),
//! and the end ([`run`], [`judge`]): faults healed, everything in doubt asked for, everything read
//! once more, the history judged by crate `check`. Exit code 1: an anomaly, or too little was
//! committed to prove anything.
//!
//! ```text
//!   planner -> client -> nodes               monitor
//!                 |                              |
//!                 '--------> recorder <----------'
//!                               | at the end
//!                            judge -> verdict
//! ```
//!
//! What each covers, of the twenty workloads that have found the bugs of this field's systems:
//!
//! | | looks for | workload |
//! | --- | --- | --- |
//! | 1 | any dependency cycle: list-append of 1 to 8 operations over all groups | `append` |
//! | 2 | the same on registers | `register` |
//! | 3 | lost or torn transfers: each snapshot, present or past, has the whole sum | `bank` |
//! | 4 | a register that is not linearizable: read, write, compare and set of one key | `cas` |
//! | 5 | an acknowledged insert that a later read lacks | `set` |
//! | 6 | two readers that see two writes in opposite orders | `long-fork` |
//! | 7 | numbers that do not rise with commit timestamps: max + 1 | `monotonic` |
//! | 8 | a client's later write seen without its earlier one | `sequential` |
//! | 9 | an effect seen without its cause, over clients and groups | `causal-reverse` |
//! | 10 | write skew, on pairs of keys and on ranges: phantoms | `write-skew` |
//! | 11 | transactions over several groups seen in part | `multi-key` |
//! | 12 | transactions that do not see their own writes | `internal` |
//! | 13 | effects of transactions that were rolled back or cut off | `dirty-read` |
//! | 14 | rows without their defaults while tables come and go | `default-values` |
//! | 15 | an index that disagrees with its table | `index` |
//! | 16 | a scan whose pages are of different times | `paged-scan` |
//! | 17 | a timestamp that is read differently later, or elsewhere | `exact-snapshot`, and `bank` |
//! | 18 | a bound of staleness that is not kept | none: SQL has no bounded staleness yet; exact ages are in all |
//! | 19 | a key inserted twice | `unique` |
//! | 20 | a commit that is applied twice, or not, after its answer was lost | all, by `--lose-replies` |

pub mod all;
pub mod bank;
pub mod history;
pub mod judge;
pub mod keys;
pub mod kinds;
pub mod meter;
pub mod outcome;
pub mod plan;
pub mod run;
pub mod session;
pub mod tables;
pub mod tally;
pub mod watch;
pub mod worker;

use tokio::signal::unix::{SignalKind, signal};

use crate::args::{BankCommand, RunCommand, Workload};
use crate::out::Out;

/// Runs a workload's step and returns the exit code: 1 if it failed or its invariant is violated.
pub async fn run(workload: &Workload) -> anyhow::Result<i32> {
    let (mut out, mut err) = (Out::stdout(), Out::stderr());
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stop = async move {
        interrupt.recv().await;
    };
    match workload {
        Workload::Bank(BankCommand::Init(args)) => bank::init::run(args, &mut err).await,
        Workload::Bank(BankCommand::Run(args)) => bank::run::run(args, stop, &mut out, &mut err).await,
        Workload::Bank(BankCommand::Check(args)) => bank::check::run(args, &mut out, &mut err).await,
        Workload::All(RunCommand::Run(args)) => all::run(args, stop, &mut out, &mut err).await,
        other => {
            let (name, RunCommand::Run(args)) = other.harness().expect("all others are of one kind");
            run::run(name, args, stop, &mut out, &mut err).await
        }
    }
}
