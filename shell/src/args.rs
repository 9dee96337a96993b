//! The command line of `meridian sql`, `meridian workload` and `meridian status`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use crate::format::Format;
use crate::nemesis::beside::BesideArgs;
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

/// `meridian check`
#[derive(Args, Clone, Debug)]
pub struct CheckArgs {
    /// The history: a line of JSON for each event; `-` is standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The form of the verdict
    #[arg(long, value_enum, default_value_t = Report::Text)]
    pub report: Report,
    /// Also write the report as one HTML page, with a timeline of load, latency, clocks and faults
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
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
    /// Transactions that append to lists and read them, over all groups: the strongest test of isolation
    #[command(subcommand)]
    Append(RunCommand),
    /// Transactions that read and write registers, over all groups
    #[command(subcommand)]
    Register(RunCommand),
    /// Writes that depend on what is not there: pairs of keys, and ranges
    #[command(subcommand)]
    WriteSkew(RunCommand),
    /// Keys written once each, that no two readers may see in opposite orders
    #[command(subcommand)]
    LongFork(RunCommand),
    /// Chains written in order by one client, and read last to first
    #[command(subcommand)]
    Sequential(RunCommand),
    /// Chains written in order by all clients, and read at one timestamp
    #[command(subcommand)]
    CausalReverse(RunCommand),
    /// The largest number plus one: numbers must rise with commit timestamps
    #[command(subcommand)]
    Monotonic(RunCommand),
    /// Elements added to sets: what was acknowledged is in every later read
    #[command(subcommand)]
    Set(RunCommand),
    /// One transaction sets a key in each group; nobody may see only some of them
    #[command(subcommand)]
    MultiKey(RunCommand),
    /// Transactions that must see their own writes
    #[command(subcommand)]
    Internal(RunCommand),
    /// Transactions rolled back or cut off, that nobody may see
    #[command(subcommand)]
    DirtyRead(RunCommand),
    /// Tables with defaults, made and dropped under load
    #[command(subcommand)]
    DefaultValues(RunCommand),
    /// Ranges read page by page while rows come and go
    #[command(subcommand)]
    PagedScan(RunCommand),
    /// Timestamps read again and again, which must not change
    #[command(subcommand)]
    ExactSnapshot(RunCommand),
    /// Keys inserted by several clients at once: one wins
    #[command(subcommand)]
    Unique(RunCommand),
    /// Rows read by their keys and by an index, which must agree
    #[command(subcommand)]
    Index(RunCommand),
    /// Reads, writes, and compare and set of single keys
    #[command(subcommand)]
    Cas(RunCommand),
    /// Every workload in turn, each for the duration, and a table of verdicts
    #[command(subcommand)]
    All(RunCommand),
}

impl Workload {
    /// The name and the command of a workload of the common harness: all but `bank` and `all`.
    pub fn harness(&self) -> Option<(&'static str, &RunCommand)> {
        Some(match self {
            Workload::Bank(_) | Workload::All(_) => return None,
            Workload::Append(command) => ("append", command),
            Workload::Register(command) => ("register", command),
            Workload::WriteSkew(command) => ("write-skew", command),
            Workload::LongFork(command) => ("long-fork", command),
            Workload::Sequential(command) => ("sequential", command),
            Workload::CausalReverse(command) => ("causal-reverse", command),
            Workload::Monotonic(command) => ("monotonic", command),
            Workload::Set(command) => ("set", command),
            Workload::MultiKey(command) => ("multi-key", command),
            Workload::Internal(command) => ("internal", command),
            Workload::DirtyRead(command) => ("dirty-read", command),
            Workload::DefaultValues(command) => ("default-values", command),
            Workload::PagedScan(command) => ("paged-scan", command),
            Workload::ExactSnapshot(command) => ("exact-snapshot", command),
            Workload::Unique(command) => ("unique", command),
            Workload::Index(command) => ("index", command),
            Workload::Cas(command) => ("cas", command),
        })
    }
}

/// The one step of most workloads: their tables are made and emptied by themselves.
#[derive(Subcommand, Clone, Debug)]
pub enum RunCommand {
    /// Run it, and report
    Run(RunArgs),
}

/// `meridian workload NAME run`
#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    /// Nodes to connect to
    #[command(flatten)]
    pub connect: ConnectArgs,
    /// How many clients, each with a session of its own, spread over the nodes
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub clients: u64,
    /// For how long; Ctrl-C ends it early, with the report
    #[arg(long, default_value = "30s", value_parser = parse_duration)]
    pub duration: Duration,
    /// Seed of the random choices [default: a random one]
    #[arg(long)]
    pub seed: Option<u64>,
    /// Record each operation as a line of JSON
    #[arg(long, value_name = "FILE")]
    pub history: Option<PathBuf>,
    /// The form of the report
    #[arg(long, value_enum, default_value_t = Report::Text)]
    pub report: Report,
    /// Of 1,000 commits, of how many the client hangs up before the answer, and then asks for the outcome
    #[arg(long, default_value_t = 10, value_name = "PERMILLE", value_parser = clap::value_parser!(u32).range(0..=1000))]
    pub lose_replies: u32,
    /// How long one statement may take before its connection counts as lost
    #[arg(long, default_value = "10s", value_parser = parse_duration)]
    pub statement_timeout: Duration,
    /// How long to ask for the outcome of each ambiguous commit
    #[arg(long, default_value = "30s", value_parser = parse_duration)]
    pub resolve_timeout: Duration,
    /// What is done to the cluster meanwhile
    #[command(flatten)]
    pub beside: BesideArgs,
    /// What is done with the history
    #[command(flatten)]
    pub judge: JudgeArgs,
}

/// How a run is judged.
#[derive(Args, Clone, Debug)]
pub struct JudgeArgs {
    /// run: judge the history at the end; exit code 1 if it cannot have been
    #[arg(long)]
    pub check: bool,
    /// run: fewer operations than this prove nothing: exit code 1
    #[arg(long, default_value_t = 50, value_name = "COUNT")]
    pub min_ops: u64,
    /// run: also write the report as one HTML page, with a timeline of load, latency, clocks and faults
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

impl JudgeArgs {
    /// Whether the events are needed at the end of the run.
    pub fn needs_events(&self) -> bool {
        self.check || self.html.is_some()
    }
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
    /// run: what is done to the cluster meanwhile
    #[command(flatten)]
    pub beside: BesideArgs,
    /// run: what is done with the history
    #[command(flatten)]
    pub judge: JudgeArgs,
}
