//! The command line of `meridian sql`, `meridian workload` and `meridian status`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use crate::format::Format;
use crate::units::parse_duration;

/// Where a cluster on this machine listens by default.
pub const CONNECT_DEFAULT: &str = "127.0.0.1:26257,127.0.0.1:26258,127.0.0.1:26259";

/// The variable that replaces the default of `--connect`.
pub const CONNECT_VARIABLE: &str = "MERIDIAN_CONNECT";

/// Without `--connect`: what the environment says, or else [`CONNECT_DEFAULT`].
pub fn connect_default() -> Vec<String> {
    let list = std::env::var(CONNECT_VARIABLE).ok().filter(|list| !list.trim().is_empty());
    let list = list.unwrap_or_else(|| CONNECT_DEFAULT.to_string());
    list.split(',').map(|a| a.trim().to_string()).filter(|a| !a.is_empty()).collect()
}

/// Where the nodes are.
#[derive(Args, Clone, Debug)]
pub struct ConnectArgs {
    /// Nodes to connect to; the first that answers is used, and the rest of the cluster is learnt
    /// from it [default: $MERIDIAN_CONNECT, or else 127.0.0.1:26257 to 26259]
    #[arg(long, value_name = "HOST:PORT,...", value_delimiter = ',')]
    pub connect: Vec<String>,
}

impl ConnectArgs {
    /// The addresses given, or the default ones.
    pub fn addresses(&self) -> Vec<String> {
        let given: Vec<String> = self.connect.iter().filter(|a| !a.trim().is_empty()).cloned().collect();
        if given.is_empty() { connect_default() } else { given }
    }
}

/// `meridian sql`
#[derive(Args, Clone, Debug)]
pub struct SqlArgs {
    /// Nodes to connect to
    #[command(flatten)]
    pub connect: ConnectArgs,
    /// Run this text (statements and meta-commands) and exit; may be repeated
    #[arg(short = 'e', long = "execute", value_name = "SQL")]
    pub execute: Vec<String>,
    /// Run this file and exit; `-` is standard input
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// The form of results
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
}

/// `meridian status`
#[derive(Args, Clone, Debug)]
pub struct StatusArgs {
    /// Nodes to ask
    #[command(flatten)]
    pub connect: ConnectArgs,
    /// The form of the table
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
}

/// `meridian workload`
#[derive(Args, Clone, Debug)]
pub struct WorkloadArgs {
    /// Which
    #[command(subcommand)]
    pub workload: Workload,
}

/// The workloads.
#[derive(Subcommand, Clone, Debug)]
pub enum Workload {
    /// Transfers between accounts, while snapshots check that no money appears or vanishes
    #[command(subcommand)]
    Bank(BankCommand),
}

/// The steps of the bank workload. All take the same options, and each ignores what it needs not.
#[derive(Subcommand, Clone, Debug)]
pub enum BankCommand {
    /// Drop and create the tables, split and fill them
    Init(BankArgs),
    /// Run transfers and snapshot readers, and report
    Run(BankArgs),
    /// Check the balances, and the recorded history if given
    Check(BankArgs),
}

/// The form of the workload's report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Report {
    /// For people
    Text,
    /// One JSON object as the last line of standard output; the rest goes to standard error
    Json,
}

/// `meridian workload bank`
#[derive(Args, Clone, Debug)]
pub struct BankArgs {
    /// Nodes to connect to
    #[command(flatten)]
    pub connect: ConnectArgs,
    /// How many accounts [default: 1000 for init; what init made for run and check]
    #[arg(long, value_parser = clap::value_parser!(i64).range(2..=10_000_000))]
    pub accounts: Option<i64>,
    /// init: into how many ranges the accounts are split
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(i64).range(1..=1000))]
    pub shards: i64,
    /// init: what each account holds at first
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(i64).range(0..=1_000_000_000))]
    pub initial_balance: i64,
    /// init: also keep a table with one row for each transfer, so that check can account for each
    #[arg(long)]
    pub ledger: bool,
    /// run: begin with init
    #[arg(long)]
    pub init: bool,
    /// run: how many clients, each with a session of its own, spread over the nodes
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub clients: u64,
    /// run: for how long; Ctrl-C ends it early, with the report
    #[arg(long, default_value = "30s", value_parser = parse_duration)]
    pub duration: Duration,
    /// run: which share of the operations are snapshot reads of all balances
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=100))]
    pub read_percent: u32,
    /// The form of the report
    #[arg(long, value_enum, default_value_t = Report::Text)]
    pub report: Report,
    /// run: record each operation as a line of JSON; check: account for what was recorded
    #[arg(long, value_name = "FILE")]
    pub history: Option<PathBuf>,
    /// run: seed of the random choices [default: a random one]
    #[arg(long)]
    pub seed: Option<u64>,
    /// How long one statement may take before its connection counts as lost
    #[arg(long, default_value = "10s", value_parser = parse_duration)]
    pub statement_timeout: Duration,
    /// run: how long to ask for the outcome of each ambiguous commit
    #[arg(long, default_value = "30s", value_parser = parse_duration)]
    pub resolve_timeout: Duration,
}
