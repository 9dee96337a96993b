//! `meridian nemesis`: faults beside any load, and how long recovery takes.

use std::io::Write as _;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::{FaultKind, Nemesis, NemesisSpec, recovery};
use crate::args::{ConnectArgs, Report};
use crate::out::Out;
use crate::units::parse_duration;
use crate::workload::run::any_seed;

/// `meridian nemesis`
#[derive(Args, Clone, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct NemesisArgs {
    /// Something else than a schedule of faults
    #[command(subcommand)]
    pub command: Option<NemesisCommand>,
    /// The schedule
    #[command(flatten)]
    pub schedule: ScheduleArgs,
}

/// A schedule of faults.
#[derive(Args, Clone, Debug)]
pub struct ScheduleArgs {
    /// Nodes to connect to
    #[command(flatten)]
    pub connect: ConnectArgs,
    /// Which kinds of faults
    #[arg(long, value_enum, value_delimiter = ',', default_value = "all", value_name = "KIND,...")]
    pub faults: Vec<FaultKind>,
    /// From the beginning of one fault to that of the next, on average
    #[arg(long, default_value = "5s", value_parser = interval)]
    pub interval: Duration,
    /// For how long; Ctrl-C ends it early. Then everything is healed
    #[arg(long, default_value = "30s", value_parser = parse_duration)]
    pub duration: Duration,
    /// Seed of the schedule [default: a random one]
    #[arg(long)]
    pub seed: Option<u64>,
    /// Text for people, or a line of JSON for each fault and one for the summary
    #[arg(long, value_enum, default_value_t = Report::Text)]
    pub report: Report,
}

/// What else there is.
#[derive(Subcommand, Clone, Debug)]
pub enum NemesisCommand {
    /// Ends the leader of a row again and again, and measures until the next acknowledged write of that row
    Recovery(RecoveryArgs),
}

/// `meridian nemesis recovery`
#[derive(Args, Clone, Debug)]
pub struct RecoveryArgs {
    /// Nodes to connect to
    #[command(flatten)]
    pub connect: ConnectArgs,
    /// How the leader ends
    #[arg(long, value_enum, default_value_t = EndKind::Kill)]
    pub kind: EndKind,
    /// How often
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub times: u32,
    /// The form of the report
    #[arg(long, value_enum, default_value_t = Report::Text)]
    pub report: Report,
}

/// How a leader ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EndKind {
    /// SIGKILL
    Kill,
    /// SIGTERM: it hands over
    Stop,
}

/// Parses the time between faults: so short that nothing could be healed is refused.
pub fn interval(text: &str) -> Result<Duration, String> {
    let interval = parse_duration(text)?;
    if interval < Duration::from_millis(100) {
        return Err("the time between faults must be at least 100ms".to_string());
    }
    Ok(interval)
}

/// Runs it and returns the exit code: 1 if a fault could not be done, or the cluster did not come back.
pub async fn run(args: NemesisArgs) -> anyhow::Result<i32> {
    match args.command {
        Some(NemesisCommand::Recovery(args)) => recovery::run(&args, &mut Out::stdout(), &mut Out::stderr()).await,
        None => schedule(args.schedule).await,
    }
}

async fn schedule(args: ScheduleArgs) -> anyhow::Result<i32> {
    let text = args.report == Report::Text;
    let spec =
        NemesisSpec { faults: args.faults.clone(), interval: args.interval, seed: args.seed.unwrap_or_else(any_seed) };
    let mut out = Out::stdout();
    let options = spec.options();
    let nemesis = Nemesis::find(&args.connect.addresses(), spec.clone()).await?;
    if text {
        out.line(format!("seed {}; the same faults again: meridian nemesis {options}", spec.seed));
        let _ = out.flush();
    }
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let (stop, stopped) = watch::channel(false);
    let duration = args.duration;
    tokio::spawn(async move {
        tokio::select! {
            () = tokio::time::sleep(duration) => {}
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        let _ = stop.send(true);
        // Kept until the run is over: it heals in its own time.
        stop.closed().await;
    });
    let (began, lines) = (Instant::now(), Mutex::new(Out::stdout()));
    let note = move |kind: &str, value: Value| {
        let seconds = began.elapsed().as_secs_f64();
        let mut out = lines.lock().unwrap_or_else(|e| e.into_inner());
        match text {
            true => out.line(format!("{seconds:>8.2}s  {}", told(kind, &value))),
            false => out.line(json!({"f": kind, "time_s": seconds, "value": value}).to_string()),
        }
        let _ = out.flush();
    };
    let summary = nemesis.run(note, stopped).await?;
    if text {
        out.line(summary.line());
        for problem in summary.violations.iter().chain(&summary.problems) {
            out.line(format!("problem: {problem}"));
        }
    } else {
        out.line(summary.json().to_string());
    }
    let _ = out.flush();
    Ok(i32::from(!(summary.problems.is_empty() && summary.violations.is_empty())))
}

/// A note for people: `begin  kill         n2  leads [0,1]`.
fn told(kind: &str, value: &Value) -> String {
    let phase = value["phase"].as_str().unwrap_or("");
    let nodes: Vec<String> = match (&value["node"], &value["nodes"]) {
        (Value::Null, Value::Array(nodes)) => nodes.iter().map(|node| format!("n{node}")).collect(),
        (Value::Null, _) => Vec::new(),
        (node, _) => vec![format!("n{node}")],
    };
    let rest = value.as_object().into_iter().flatten();
    let rest = rest.filter(|(name, _)| !matches!(name.as_str(), "node" | "nodes" | "phase"));
    let rest: Vec<String> = rest.map(|(name, value)| format!("{name} {value}").replace('"', "")).collect();
    let line = format!("{phase:<6} {kind:<11} {:<10} {}", nodes.join(" "), rest.join(", "));
    line.trim_end().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_told() {
        let value = json!({"node": 2, "phase": "begin", "for_ms": 1200, "leads": [0, 1]});
        assert_eq!(told("kill", &value), "begin  kill        n2         for_ms 1200, leads [0,1]");
        let value = json!({"nodes": [1, 2], "phase": "end"});
        assert_eq!(told("partition", &value), "end    partition   n1 n2");
        assert!(interval("1ms").is_err() && interval("1s").is_ok());
    }
}
