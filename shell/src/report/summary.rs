//! What happened in a run, in numbers: one pass over the history, nothing guessed.

use std::collections::{BTreeMap, BTreeSet};

use check::{Event, Kind, Process};

use super::faults::{self, Fault, Service};
use super::ops::{self, Done, End, Work};

/// So many kinds of errors are told apart.
const CLASSES_MAX: usize = 24;

/// So many violations are kept.
const VIOLATIONS_MAX: usize = 50;

/// What the first line of a history says of the run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Setup {
    /// The workload; empty if the history does not say.
    pub workload: String,
    /// Of the random choices.
    pub seed: Option<u64>,
    /// How many clients.
    pub clients: Option<u64>,
    /// How long they were to work, in nanoseconds.
    pub duration_ns: Option<u64>,
    /// The command that runs it again.
    pub command: String,
    /// The options that hurt the cluster meanwhile; empty if nothing did.
    pub nemesis: String,
    /// Of 1,000 commits, of how many the answer was lost on purpose.
    pub lose_permille: Option<u64>,
    /// Into how many ranges the keys are split; 0 if unknown.
    pub shards: i64,
    /// Whether keys are placed in ranges as the common workloads do.
    pub keys_by_span: bool,
}

/// How many operations ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Operations {
    /// Begun.
    pub begun: u64,
    /// Took effect.
    pub ok: u64,
    /// Certainly had none.
    pub failed: u64,
    /// Nobody knew when the answer was lost.
    pub in_doubt: u64,
    /// Of these, found to have committed.
    pub doubt_committed: u64,
    /// Of these, found to have had no effect.
    pub doubt_aborted: u64,
    /// Of these, not found out.
    pub doubt_unknown: u64,
}

/// A distribution of durations, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    /// How many.
    pub count: u64,
    /// Half were no longer.
    pub p50: u64,
    /// 95 of 100 were no longer.
    pub p95: u64,
    /// 99 of 100 were no longer.
    pub p99: u64,
    /// The longest.
    pub max: u64,
}

impl Latency {
    /// Of these durations; sorts them.
    pub fn of(durations: &mut [u64]) -> Latency {
        durations.sort_unstable();
        let Some(max) = durations.last() else { return Latency::default() };
        // The nearest rank: a duration that was really measured.
        let at = |percent: usize| durations[(durations.len() * percent).div_ceil(100).max(1) - 1];
        Latency { count: durations.len() as u64, p50: at(50), p95: at(95), p99: at(99), max: *max }
    }
}

/// A node's clock uncertainty over the run, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epsilon {
    /// The node.
    pub node: u64,
    /// The smallest seen.
    pub min_ns: u64,
    /// The largest seen.
    pub max_ns: u64,
}

/// All that a report says, but the verdict.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// From the first line of the history.
    pub setup: Setup,
    /// How many events there are.
    pub events: u64,
    /// From the first operation to the end of the load, in nanoseconds of the history's clock.
    pub load_ns: (u64, u64),
    /// How the operations ended.
    pub operations: Operations,
    /// Of each kind of work that took effect: its latencies.
    pub work: Vec<(Work, Latency)>,
    /// Why operations failed, the most frequent first.
    pub failures: Vec<(String, u64)>,
    /// The faults, in the order of their beginnings, with what each cost.
    pub faults: Vec<Fault>,
    /// Faults beyond those told.
    pub faults_left_out: u64,
    /// The service that was measured: which operations, how many a second when all is well.
    pub service: Service,
    /// The longest time without an acknowledgement: when it began, and how long it was.
    pub worst_gap: (u64, u64),
    /// The uncertainty of each node's clock.
    pub epsilon: Vec<Epsilon>,
    /// The nodes that answered.
    pub nodes: BTreeSet<u64>,
    /// What the workload itself called impossible, as it happened.
    pub violations: Vec<String>,
    /// The operations.
    pub(super) done: Vec<Done>,
}

impl Summary {
    /// Of a history. Never panics, whatever the events are.
    pub fn of(events: &[Event]) -> Summary {
        let setup = setup(events);
        let done = ops::of(events, &setup);
        let mut summary = Summary {
            events: events.len() as u64,
            load_ns: load(events, &setup, &done),
            nodes: done.iter().filter_map(|d| d.node).collect(),
            setup,
            ..Summary::default()
        };
        summary.count(&done, events);
        for work in Work::ALL {
            let ok = done.iter().filter(|d| d.work == work && d.end == End::Ok);
            let mut durations: Vec<u64> = ok.map(Done::took_ns).collect();
            if !durations.is_empty() {
                summary.work.push((work, Latency::of(&mut durations)));
            }
        }
        summary.failures = failures(events);
        summary.epsilon = epsilon(events);
        summary.violations = named(events, "workload", "violation")
            .filter_map(|e| e.value.as_ref()?.as_str().map(str::to_string))
            .take(VIOLATIONS_MAX)
            .collect();
        let (found, left_out) = faults::pair(events, summary.load_ns.1);
        summary.service = Service::of(&done, summary.load_ns, &found);
        summary.worst_gap = summary.service.worst_gap();
        summary.faults = summary.service.costs(found, &done);
        summary.faults_left_out = left_out;
        summary.done = done;
        summary
    }

    /// How long the load lasted.
    pub fn load_took_ns(&self) -> u64 {
        self.load_ns.1 - self.load_ns.0
    }

    /// Operations that took effect, a second.
    pub fn rate(&self) -> f64 {
        per_second(self.operations.ok, self.load_took_ns())
    }

    /// The command that runs the same load again; empty if the history does not say what it was.
    pub fn command(&self) -> String {
        let setup = &self.setup;
        if !setup.command.is_empty() || setup.workload.is_empty() {
            return setup.command.clone();
        }
        let mut command = format!("meridian workload {} run", setup.workload);
        if let Some(clients) = setup.clients {
            command.push_str(&format!(" --clients {clients}"));
        }
        if let Some(ns) = setup.duration_ns {
            command.push_str(&format!(" --duration {}s", ns as f64 / 1e9));
        }
        if let Some(seed) = setup.seed {
            command.push_str(&format!(" --seed {seed}"));
        }
        if let Some(permille) = setup.lose_permille {
            command.push_str(&format!(" --lose-replies {permille}"));
        }
        if !setup.nemesis.is_empty() {
            command.push_str(&format!(" {}", setup.nemesis));
        }
        command + " --check"
    }

    fn count(&mut self, done: &[Done], events: &[Event]) {
        let o = &mut self.operations;
        o.begun = done.len() as u64;
        for d in done {
            match d.end {
                End::Ok => o.ok += 1,
                End::Failed => o.failed += 1,
                End::Unknown => o.doubt_unknown += 1,
            }
            match d.end {
                End::Ok if d.asked => o.doubt_committed += 1,
                End::Failed if d.asked => o.doubt_aborted += 1,
                _ => {}
            }
        }
        o.in_doubt = o.doubt_committed + o.doubt_aborted + o.doubt_unknown;
        for event in named(events, "resolver", "status") {
            let status = event.value.as_ref().and_then(|v| v.get("status")?.as_str());
            let resolved = match status {
                Some("committed") => &mut o.doubt_committed,
                Some("aborted") => &mut o.doubt_aborted,
                _ => continue,
            };
            if o.doubt_unknown > 0 {
                o.doubt_unknown -= 1;
                *resolved += 1;
            }
        }
    }
}

/// So many a second.
pub fn per_second(count: u64, ns: u64) -> f64 {
    if ns == 0 { 0.0 } else { count as f64 / (ns as f64 / 1e9) }
}

/// The events of this process that say `f`.
pub fn named<'a>(events: &'a [Event], process: &'a str, f: &'a str) -> impl Iterator<Item = &'a Event> {
    events.iter().filter(move |e| e.f == f && matches!(&e.process, Process::Named(name) if name == process))
}

fn setup(events: &[Event]) -> Setup {
    let event = events.iter().find(|e| matches!(&e.process, Process::Named(name) if name == "setup"));
    let Some(value) = event.and_then(|e| e.value.as_ref()) else { return Setup::default() };
    let text = |name: &str| value.get(name).and_then(|v| v.as_str()).unwrap_or_default().to_string();
    let seconds = value.get("duration_s").and_then(serde_json::Value::as_f64);
    let workload = text("workload");
    let shards = value.get("shards").and_then(serde_json::Value::as_i64).unwrap_or(0);
    Setup {
        seed: value.get("seed").and_then(serde_json::Value::as_u64),
        lose_permille: value.get("lose_permille").and_then(serde_json::Value::as_u64),
        clients: value.get("clients").and_then(serde_json::Value::as_u64),
        duration_ns: seconds.filter(|s| *s > 0.0).map(|s| (s * 1e9) as u64),
        command: text("command"),
        nemesis: text("nemesis"),
        shards,
        keys_by_span: shards > 1 && !matches!(workload.as_str(), "bank" | "set" | "default-values"),
        workload,
    }
}

/// When the clients were at work. What they still had open, the healing and the last reads are not load.
fn load(events: &[Event], setup: &Setup, done: &[Done]) -> (u64, u64) {
    let Some(start) = done.iter().map(|d| d.began_ns).min() else { return (0, 0) };
    let mut end = done.iter().map(|d| d.ended_ns).max().unwrap_or(start);
    if let Some(last_reads) = named(events, "workload", "final").next() {
        end = end.min(last_reads.time_ns);
    }
    if let Some(duration) = setup.duration_ns {
        end = end.min(events[0].time_ns.saturating_add(duration));
    }
    (start, end.max(start))
}

fn epsilon(events: &[Event]) -> Vec<Epsilon> {
    let mut nodes: BTreeMap<u64, Epsilon> = BTreeMap::new();
    for (_, node, ns) in epsilons(events) {
        let known = nodes.entry(node).or_insert(Epsilon { node, min_ns: ns, max_ns: ns });
        known.min_ns = known.min_ns.min(ns);
        known.max_ns = known.max_ns.max(ns);
    }
    nodes.into_values().collect()
}

/// Each measurement of a clock's uncertainty: when, of which node, how large.
pub fn epsilons(events: &[Event]) -> impl Iterator<Item = (u64, u64, u64)> {
    named(events, "monitor", "epsilon").filter_map(|event| {
        let value = event.value.as_ref()?;
        Some((event.time_ns, value.get("node")?.as_u64()?, value.get("epsilon_ns")?.as_u64()?))
    })
}

fn failures(events: &[Event]) -> Vec<(String, u64)> {
    let mut classes: BTreeMap<String, u64> = BTreeMap::new();
    let failed = |e: &&Event| e.kind == Kind::Fail && matches!(e.process, Process::Client(_));
    for event in events.iter().filter(failed) {
        let mut class = class(&event.error);
        if classes.len() >= CLASSES_MAX && !classes.contains_key(&class) {
            class = "other errors".to_string();
        }
        *classes.entry(class).or_default() += 1;
    }
    let mut classes: Vec<(String, u64)> = classes.into_iter().collect();
    classes.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    classes
}

/// What kind of error a text tells of: its SQLSTATE, or its beginning without numbers.
pub fn class(error: &str) -> String {
    if let Some((_, rest)) = error.rsplit_once("(SQLSTATE ") {
        let code = rest.trim_end().trim_end_matches(')');
        let meaning = match code {
            "40001" => "aborted by a conflict; may be tried again",
            "40003" => "outcome unknown",
            "40P01" => "deadlock",
            "23505" => "the key is there already",
            "25P02" => "the transaction had failed before",
            "57014" => "cancelled, or took too long",
            "57P01" => "the node is stopping",
            "57P03" => "not ready yet",
            "53300" => "too many connections",
            "53400" | "53000" | "53200" => "overloaded",
            "08006" | "08001" | "08003" | "08000" => "connection lost",
            _ => "",
        };
        return if meaning.is_empty() { code.chars().take(60).collect() } else { format!("{code} {meaning}") };
    }
    if error.is_empty() {
        return "no reason given".to_string();
    }
    if error.starts_with("connection to ") || error.starts_with("COMMIT: connection lost") {
        return "connection lost".to_string();
    }
    let head = error.split([':', '\n']).next().unwrap_or_default();
    let mut class = String::new();
    for c in head.chars().take(60) {
        match c {
            '0'..='9' if class.ends_with('#') => {}
            '0'..='9' => class.push('#'),
            c => class.push(c),
        }
    }
    class
}
