//! The simulator's command line: one seed, some seeds, or new seeds for some seconds.

use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use sim::canary::Canary;
use sim::counters::Counters;
use sim::invariants::never_judged;
use sim::minimize::minimize;
use sim::overrides::Overrides;
use sim::rare::{ALL_WITHIN, never_reached};
use sim::{Outcome, run_under, run_with};

const USAGE: &str = "usage: sim --seed N [--verbose] | --seeds COUNT [--from N] | --seconds N [--from N]
       [--canary NAME] [--beyond] [--keep-going] [--nodes N]
       sim --seed N --minimize [--canary NAME] [--beyond]   what of a failing run does its failure need?
       sim --seed N [--without Kill,Halves,..] [--clients N] [--sql-clients N] [--plans N] [--faults-until MS] [--even]
       sim --canary all [--seeds TIMES] [--from N]
With --beyond, the clocks of a minority leave their bounds; else they do so in about one run of twelve.
Without --from, the first seed is drawn from the clock, and printed.";

#[derive(Default)]
struct Args {
    seed: Option<u64>,
    seeds: Option<u64>,
    seconds: Option<u64>,
    from: Option<u64>,
    canary: Option<Canary>,
    all_canaries: bool,
    minimize: bool,
    overrides: Overrides,
    verbose: bool,
    keep_going: bool,
}

fn parse() -> Result<Args, String> {
    let mut args = Args::default();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        let number = |text: String| text.parse::<u64>().map_err(|_| format!("{text:?} is not a number"));
        match word.as_str() {
            "--seed" => args.seed = Some(number(value()?)?),
            "--seeds" => args.seeds = Some(number(value()?)?),
            "--seconds" => args.seconds = Some(number(value()?)?),
            "--from" => args.from = Some(number(value()?)?),
            "--canary" => {
                let name = value()?;
                args.all_canaries = name == "all";
                if !args.all_canaries {
                    args.canary = Some(Canary::parse(&name).filter(|c| c.is_here()).ok_or_else(|| unknown(&name))?);
                }
            }
            "--minimize" => args.minimize = true,
            "--without" => {
                args.overrides.without = value()?.split(',').map(str::to_string).collect();
                if let Some(name) = args.overrides.without.iter().find(|name| !Overrides::is_known(name)) {
                    return Err(format!(
                        "there is no fault {name:?}: they are named as a failure's settings name them"
                    ));
                }
            }
            "--clients" => args.overrides.clients = Some(number(value()?)?),
            "--sql-clients" => args.overrides.sql_clients = Some(number(value()?)?),
            "--plans" => args.overrides.plans = Some(number(value()?)?),
            "--faults-until" => args.overrides.faults_until_ms = i64::try_from(number(value()?)?).ok(),
            "--nodes" => {
                let nodes = number(value()?)?;
                if !(3..=9).contains(&nodes) {
                    return Err("a cluster has 3 to 9 nodes here".into());
                }
                args.overrides.nodes = Some(nodes);
            }
            "--even" => args.overrides.even = true,
            "--beyond" => args.overrides.beyond = true,
            "--verbose" => args.verbose = true,
            "--keep-going" => args.keep_going = true,
            _ => return Err(format!("unknown argument {word:?}")),
        }
    }
    match (args.seed, args.seeds, args.seconds) {
        _ if args.all_canaries => Ok(args),
        (Some(_), None, None) => Ok(args),
        _ if args.minimize => Err("that needs --seed".into()),
        (None, Some(_), None) | (None, None, Some(_)) => Ok(args),
        _ => Err("say one of --seed, --seeds, --seconds".into()),
    }
}

fn unknown(name: &str) -> String {
    let names: Vec<&str> = Canary::ALL.iter().filter(|c| c.is_here()).map(|canary| canary.name()).collect();
    format!("no canary {name:?} in this build: there are {}; some need --features canaries", names.join(", "))
}

/// So many seeds together must have judged every invariant.
const JUDGED_WITHIN: u64 = 60;

/// Looks for every canary `times` times, each time from the seed after the last finding.
#[allow(clippy::print_stdout)] // this is a command-line tool
fn all_canaries(from: u64, times: u64) -> ExitCode {
    let mut missed = false;
    println!("{:<28} {:>5} {:>5}  first finding", "canary", "mean", "worst");
    for canary in Canary::ALL.into_iter().filter(|canary| canary.is_here()) {
        let (mut seed, mut total, mut worst, mut first) = (from, 0, 0, None);
        let mut found = 0;
        while found < times {
            let began = seed;
            let failure = loop {
                let outcome = run_with(seed, Some(canary), false);
                seed += 1;
                if outcome.failure.is_some() || seed - began >= canary.seeds_max() {
                    break outcome.failure;
                }
            };
            let Some(failure) = failure else { break };
            found += 1;
            total += seed - began;
            worst = worst.max(seed - began);
            first.get_or_insert(failure);
        }
        missed |= found < times;
        let mean = if found > 0 { format!("{:.1}", total as f64 / found as f64) } else { "missed".into() };
        let first: String = first.unwrap_or_default().chars().take(70).collect();
        println!("{:<28} {mean:>5} {worst:>5}  {first}", canary.name());
    }
    if missed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

#[allow(clippy::print_stdout)] // this is a command-line tool
fn main() -> ExitCode {
    let args = match parse() {
        Ok(args) => args,
        Err(why) => {
            eprintln!("{why}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    if args.all_canaries {
        return all_canaries(args.from.unwrap_or(1), args.seeds.unwrap_or(5));
    }
    if let Some(seed) = args.seed.filter(|_| args.minimize) {
        return smallest(seed, args.canary, &args.overrides);
    }
    if let Some(seed) = args.seed {
        let started = Instant::now();
        let outcome = run_under(seed, args.canary, args.verbose, &args.overrides, &[]);
        let ratio = outcome.elapsed_ns as f64 / 1e9 / started.elapsed().as_secs_f64().max(1e-9);
        println!("{}", outcome.settings);
        println!("{}", line(&outcome));
        println!("{ratio:.0} times real time");
        print!("{}", outcome.counters);
        report_failure(&outcome, &again(seed, args.canary, &args.overrides));
        return if outcome.failure.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    }

    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let from = args.from.unwrap_or(since_epoch.as_micros() as u64 % 1_000_000_000_000);
    let started = Instant::now();
    let limit = args.seconds.map(Duration::from_secs);
    let (mut runs, mut failed, mut simulated_ns, mut events) = (0u64, Vec::new(), 0i64, 0u64);
    let mut counters = Counters::default();
    println!("seeds from {from}");
    while args.seeds.is_none_or(|count| runs < count) && limit.is_none_or(|limit| started.elapsed() < limit) {
        let outcome = run_under(from + runs, args.canary, args.verbose, &args.overrides, &[]);
        runs += 1;
        simulated_ns += outcome.elapsed_ns;
        events += outcome.events;
        counters.merge(&outcome.counters);
        println!("{}", line(&outcome));
        if outcome.failure.is_some() {
            failed.push(outcome.seed);
            report_failure(&outcome, &again(outcome.seed, args.canary, &args.overrides));
            if !args.keep_going {
                break;
            }
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    let simulated = simulated_ns as f64 / 1e9;
    let ratio = simulated / seconds.max(1e-9);
    println!(
        "{runs} runs, {simulated:.0} simulated seconds and {events} events in {seconds:.1} s: {ratio:.0} times real time"
    );
    print!("{counters}");
    let mut never = if runs >= JUDGED_WITHIN { never_judged(&counters) } else { Vec::new() };
    if args.canary.is_none() {
        never.extend(never_reached(&counters, if runs >= ALL_WITHIN { runs } else { 0 }));
    }
    if failed.is_empty() && never.is_empty() {
        return ExitCode::SUCCESS;
    }
    for name in never {
        println!("never happened: {name}");
    }
    println!("failed: {failed:?}");
    ExitCode::FAILURE
}

/// The commit that is checked out here, as far as that can be read.
fn commit() -> String {
    let read = |path: &str| std::fs::read_to_string(format!(".git/{path}")).ok().map(|text| text.trim().to_string());
    let head = read("HEAD");
    let of_branch = head.as_deref().and_then(|head| read(head.strip_prefix("ref: ")?));
    of_branch.or(head).unwrap_or_else(|| "unknown".into())
}

/// The command that runs it again.
fn again(seed: u64, canary: Option<Canary>, overrides: &Overrides) -> String {
    let broken = matches!(canary, Some(Canary::Broken(_)));
    let features = if broken { " --features canaries" } else { "" };
    let canary = canary.map_or(String::new(), |canary| format!(" --canary {}", canary.name()));
    format!("cargo run --release -p sim{features} -- --seed {seed}{canary}{overrides}")
}

/// Runs of a minimization, at most.
const MINIMIZE_RUNS_MAX: u64 = 300;

#[allow(clippy::print_stdout)] // this is a command-line tool
fn smallest(seed: u64, canary: Option<Canary>, from: &Overrides) -> ExitCode {
    let Some(found) = minimize(seed, canary, from, MINIMIZE_RUNS_MAX, &mut |text| println!("{text}")) else {
        println!("seed {seed} does not fail");
        return ExitCode::SUCCESS;
    };
    println!("\nthe story:");
    for line in &found.story {
        println!("{line}");
    }
    println!("\nafter {} runs; {}", found.runs, line(&found.outcome));
    println!("SEED={seed} COMMIT={}: {}", commit(), found.outcome.failure.unwrap_or_default());
    println!("again: {} --verbose", again(seed, canary, &found.overrides));
    ExitCode::FAILURE
}

fn line(outcome: &Outcome) -> String {
    let Outcome { seed, hash, commits, reads, events, elapsed_ns, failure, .. } = outcome;
    let verdict = if failure.is_some() { "FAILED" } else { "ok" };
    let seconds = *elapsed_ns as f64 / 1e9;
    format!("seed {seed} hash {hash:016x} {commits} commits {reads} reads {events} events {seconds:.1} s {verdict}")
}

#[allow(clippy::print_stdout)] // this is a command-line tool
fn report_failure(outcome: &Outcome, again: &str) {
    let Some(why) = &outcome.failure else { return };
    println!("SEED={} COMMIT={} {}", outcome.seed, commit(), outcome.settings);
    for event in &outcome.last_events {
        println!("{event}");
    }
    println!("SEED={}: {why}", outcome.seed);
    println!("again: {again} --verbose");
    println!("smaller: {again} --minimize");
}
