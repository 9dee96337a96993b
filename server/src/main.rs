//! The `meridian` binary: the node, the shell, the workloads and the demo.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use server::config::StartArgs;
use server::demo::DemoArgs;
use shell::args::{CheckArgs, SqlArgs, StatusArgs, WorkloadArgs};
use shell::nemesis::args::NemesisArgs;
use shell::out::Out;
use shell::repl::ReplOptions;

/// An open, self-hosted, Spanner-style SQL database.
#[derive(Parser)]
#[command(name = "meridian", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// A cluster on this machine, and a shell
    Demo(DemoArgs),
    /// One node
    Start(StartArgs),
    /// A shell, or statements
    Sql(SqlArgs),
    /// Load, with a verdict on consistency
    Workload(WorkloadArgs),
    /// Judges a recorded history: 0 valid, 1 an anomaly, 2 not a history
    Check(CheckArgs),
    /// Hurts the cluster of a demo by a schedule: kills, pauses, partitions, clocks, disks; or times its recovery
    Nemesis(NemesisArgs),
    /// Every node: address, clock, groups, counters
    Status(StatusArgs),
}

/// Threads for tasks. The engine, the log and the disk have threads of their own.
const RUNTIME_THREADS: usize = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(RUNTIME_THREADS).enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(err) => return complain(&anyhow::Error::from(err)),
    };
    let code = runtime.block_on(run(cli.command));
    // A thread that waits for the terminal must not keep the process.
    runtime.shutdown_background();
    match code {
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        Err(err) => complain(&err),
    }
}

async fn run(command: Command) -> anyhow::Result<i32> {
    match command {
        Command::Demo(args) => server::demo::run(args).await,
        Command::Start(args) => server::run::run(args).await.map(|()| 0),
        Command::Sql(args) => shell::repl::run(ReplOptions::from(&args)).await,
        Command::Workload(args) => shell::workload::run(&args.workload).await,
        Command::Check(args) => shell::check::run(&args, &mut Out::stdout(), &mut Out::stderr()),
        Command::Nemesis(args) => shell::nemesis::args::run(args).await,
        Command::Status(args) => shell::status::run(&args, &mut Out::stdout(), &mut Out::stderr()).await,
    }
}

#[allow(clippy::print_stderr)]
fn complain(err: &anyhow::Error) -> ExitCode {
    eprintln!("meridian: {err:#}");
    ExitCode::FAILURE
}
