//! The report for a terminal.

use check::Verdict;

use super::format::{count, moment, ms, plural, rate, span};
use super::summary::Summary;
use super::{Options, Standing, anomalies, headline};

/// So many faults are listed; the report on HTML has more.
const FAULTS_LISTED: usize = 60;

/// So many anomalies are told.
const STORIES_TOLD: usize = 8;

/// The report. The verdict comes last, where a terminal shows it.
pub fn render(summary: &Summary, verdict: Option<&Verdict>, options: &Options) -> String {
    let mut lines = Vec::new();
    if !options.title.is_empty() {
        lines.push(options.title.clone());
    }
    lines.push(run(summary));
    lines.extend(operations(summary));
    lines.extend(latency(summary));
    lines.extend(faults(summary));
    if !summary.epsilon.is_empty() {
        let one = |e: &super::summary::Epsilon| match (ms(e.min_ns), ms(e.max_ns)) {
            (min, max) if min == max => format!("n{} {min} ms", e.node),
            (min, max) => format!("n{} {min} to {max} ms", e.node),
        };
        lines.push(format!("epsilon    {}", summary.epsilon.iter().map(one).collect::<Vec<_>>().join(", ")));
    }
    lines.extend(again(summary, options));
    lines.extend(summary.violations.iter().map(|what| format!("violation  {what}")));
    lines.extend(proof(verdict));
    lines.extend(options.problems.iter().map(|why| format!("problem    {why}")));
    let standing = Standing::of(summary, verdict, options);
    lines.push(format!("verdict    {}: {}", standing.word(), headline(summary, verdict, options)));
    lines.push(String::new());
    lines.join("\n")
}

/// What each fault cost, and how the run is repeated; nothing if there was none.
pub fn costs(summary: &Summary) -> Vec<String> {
    if summary.faults.is_empty() {
        return Vec::new();
    }
    let mut lines = faults(summary);
    lines.extend(again(summary, &Options::default()));
    lines
}

fn run(summary: &Summary) -> String {
    let setup = &summary.setup;
    let mut parts = Vec::new();
    if !setup.workload.is_empty() {
        parts.push(setup.workload.clone());
    }
    parts.extend(setup.clients.map(|n| plural(n, "client")));
    parts.extend(setup.seed.map(|seed| format!("seed {seed}")));
    if !summary.nodes.is_empty() {
        parts.push(plural(summary.nodes.len() as u64, "node"));
    }
    parts.push(format!("{} of load", span(summary.load_took_ns())));
    parts.push(plural(summary.events, "event"));
    format!("run        {}", parts.join(", "))
}

fn operations(summary: &Summary) -> Vec<String> {
    let o = &summary.operations;
    let mut lines = vec![format!(
        "operations {} took effect ({}), {} failed, {} without an answer",
        count(o.ok),
        rate(summary.rate()),
        count(o.failed),
        count(o.in_doubt)
    )];
    if o.in_doubt > 0 {
        lines.push(format!("in doubt   {}", doubt(summary)));
    }
    lines.extend(summary.failures.iter().map(|(class, n)| format!("failed     {:>9} × {class}", count(*n))));
    lines
}

/// How the operations in doubt were resolved.
pub fn doubt(summary: &Summary) -> String {
    let o = &summary.operations;
    format!(
        "{} had committed, {} had not, {} unknown to the end",
        count(o.doubt_committed),
        count(o.doubt_aborted),
        count(o.doubt_unknown)
    )
}

fn latency(summary: &Summary) -> Vec<String> {
    if summary.work.is_empty() {
        return Vec::new();
    }
    let head = format!("{:<32}{:>9}{:>9}{:>9}{:>9}{:>10}", "latency", "count", "p50 ms", "p95 ms", "p99 ms", "max ms");
    let row = |(work, l): &(super::ops::Work, super::summary::Latency)| {
        let name = format!("  {}", work.name());
        let [p50, p95, p99, max] = [l.p50, l.p95, l.p99, l.max].map(ms);
        format!("{name:<32}{:>9}{p50:>9}{p95:>9}{p99:>9}{max:>10}", count(l.count))
    };
    std::iter::once(head).chain(summary.work.iter().map(row)).collect()
}

fn faults(summary: &Summary) -> Vec<String> {
    let what = if summary.service.of_writes { "write" } else { "operation" };
    let (at, gap) = summary.worst_gap;
    let mut lines = Vec::new();
    if summary.operations.ok > 0 {
        lines.push(format!(
            "worst gap  {} without an acknowledged {what}, from {} on; usually {}",
            span(gap),
            moment(at),
            rate(summary.service.usual_per_s)
        ));
    }
    if summary.faults.is_empty() {
        return lines;
    }
    lines.push(format!(
        "{:<32}{:>11}{:>10}{:>10}{:>11}{:>8}{:>9}",
        "faults", "at", "lasted", "worst gap", "recovered", "failed", "in doubt"
    ));
    for fault in summary.faults.iter().take(FAULTS_LISTED) {
        let name: String = [&fault.kind, &fault.target, &fault.detail].map(String::as_str).join(" ");
        let name: String = name.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(29).collect();
        lines.push(format!(
            "  {name:<30}{:>11}{:>10}{:>10}{:>11}{:>8}{:>9}",
            moment(fault.began_ns),
            lasted(fault),
            span(fault.cost.gap.1),
            recovered(fault),
            count(fault.cost.failed),
            count(fault.cost.in_doubt)
        ));
    }
    let more = summary.faults.len().saturating_sub(FAULTS_LISTED) as u64 + summary.faults_left_out;
    if more > 0 {
        lines.push(format!("  and {} more", count(more)));
    }
    lines
}

/// How long a fault was there.
pub fn lasted(fault: &super::faults::Fault) -> String {
    match fault.ended_ns {
        Some(end) => span(end.saturating_sub(fault.began_ns)),
        None if fault.lasting => "to the end".to_string(),
        None => "-".to_string(),
    }
}

/// How long it took until writes came as usual.
pub fn recovered(fault: &super::faults::Fault) -> String {
    match fault.cost.recovered_ns {
        _ if !fault.cost.disturbed => "no dip".to_string(),
        Some(ns) => span(ns),
        None => "not seen".to_string(),
    }
}

fn proof(verdict: Option<&Verdict>) -> Vec<String> {
    let Some(verdict) = verdict else { return Vec::new() };
    let mut lines: Vec<String> = verdict.checked.iter().map(|what| format!("checked    {what}")).collect();
    let names = anomalies(Some(verdict));
    if names.is_empty() {
        lines.push("anomalies  none".to_string());
    }
    lines.extend(names.iter().map(|(name, n)| format!("anomalies  {} × {name}", count(*n))));
    for anomaly in verdict.anomalies.iter().take(STORIES_TOLD) {
        lines.push(format!("{}:", anomaly.name));
        lines.extend(anomaly.story.lines().map(|line| format!("  {line}")));
    }
    let more = verdict.anomalies.len().saturating_sub(STORIES_TOLD) as u64;
    if more > 0 {
        lines.push(format!("and {} more of their stories", count(more)));
    }
    lines
}

fn again(summary: &Summary, options: &Options) -> Vec<String> {
    let mut lines = Vec::new();
    let command = summary.command();
    if !command.is_empty() {
        lines.push(format!("run again  {command}"));
    }
    if !options.history.is_empty() {
        lines.push(format!("judge      meridian check {}", options.history));
    }
    lines
}
