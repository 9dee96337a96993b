//! Faults, and what each cost the clients.
//!
//! The service is the stream of acknowledged writes (of all acknowledgements, if the run only read).
//! Two figures say what a fault did to it:
//!
//! ```text
//!   writes/s   ######.          .####################
//!                    ^ fault    ^ writes come again at half the usual rate
//!                    |<-------->| time to recover
//!                     |<----->|   worst gap: no write acknowledged at all
//! ```
//!
//! - The **worst gap** is the longest stretch, from the fault's beginning on, without an
//!   acknowledged write that begins while it is there or shortly after. A fault is looked at until the
//!   next one begins after its end, and for at most [`AFTER_NS`].
//! - The **time to recover** runs from the fault's beginning until the gap is over and writes come at
//!   half their usual rate again; the usual rate is the median of the time that no fault disturbed.
//!   Without a notable gap and without a fall below half there was nothing to recover from.

use check::{Event, Process};
use serde_json::Value;

use super::ops::{Done, End, Work};
use super::summary::per_second;

/// So many faults are told one by one.
pub const FAULTS_MAX: usize = 1000;

/// How long after its end the recovery from a fault is still looked for.
pub const AFTER_NS: u64 = 30_000_000_000;

/// What begins later than this after its end is not its doing.
const BLAME_NS: u64 = 5_000_000_000;

/// A shorter gap is none.
const GAP_NS_MIN: u64 = 100_000_000;

/// A slice of time, to find the usual rate.
const SLICE_NS: u64 = 500_000_000;

/// What a healed cluster needs before its rate is usual again.
const AFTERMATH_NS: u64 = 2_000_000_000;

/// A fault.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fault {
    /// What was done, such as `kill`.
    pub kind: String,
    /// To whom, such as `n2`; empty if to all or unknown.
    pub target: String,
    /// The particulars.
    pub detail: String,
    /// When it began.
    pub began_ns: u64,
    /// When it ended; `None` if it has no length, or was there to the end.
    pub ended_ns: Option<u64>,
    /// It was there until the run ended.
    pub lasting: bool,
    /// What it cost.
    pub cost: Cost,
}

/// What a fault cost.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cost {
    /// When the longest stretch without an acknowledged write began, and how long it was.
    pub gap: (u64, u64),
    /// Writes stopped for a notable time, or fell below half of their usual rate.
    pub disturbed: bool,
    /// From the fault's beginning until writes came as usual. `None`: not while it was looked at.
    pub recovered_ns: Option<u64>,
    /// Operations that failed meanwhile.
    pub failed: u64,
    /// Operations whose answer was lost meanwhile.
    pub in_doubt: u64,
    /// Of each node: the longest stretch without an acknowledgement from it, for whatever reason.
    pub by_node: Vec<(u64, u64)>,
    /// Of each range of keys: the longest stretch without an acknowledged write to it.
    pub by_range: Vec<(u64, u64)>,
}

/// The faults that the nemesis noted, in order, and how many more there are.
pub fn pair(events: &[Event], end_ns: u64) -> (Vec<Fault>, u64) {
    let mut faults: Vec<Fault> = Vec::new();
    let mut open: Vec<usize> = Vec::new();
    let mut left_out = 0;
    for event in events.iter().filter(|e| matches!(&e.process, Process::Named(name) if name == "nemesis")) {
        let target = target(event.value.as_ref());
        let phase = event.value.as_ref().and_then(|v| v.get("phase")?.as_str()).unwrap_or_default();
        let cures = cures(&event.f);
        if phase == "end" || (phase.is_empty() && !cures.is_empty()) {
            let kinds = if phase == "end" { vec![event.f.as_str()] } else { cures };
            let closed = close(&mut faults, &mut open, &kinds, &target, event.time_ns);
            if closed || phase == "end" || event.f == "heal" {
                continue;
            }
        }
        if faults.len() >= FAULTS_MAX {
            left_out += 1;
            continue;
        }
        if phase == "begin" || can_last(&event.f) {
            open.push(faults.len());
        }
        faults.push(Fault {
            kind: event.f.clone(),
            target,
            detail: detail(event.value.as_ref()),
            began_ns: event.time_ns,
            lasting: phase == "begin",
            ..Fault::default()
        });
    }
    for fault in &mut faults {
        fault.lasting &= fault.ended_ns.is_none() && fault.began_ns < end_ns;
    }
    faults.sort_by_key(|fault| fault.began_ns);
    (faults, left_out)
}

/// Without a phase, which kinds of faults this ends.
fn cures(f: &str) -> Vec<&'static str> {
    match f {
        "heal" => vec!["*"],
        "restart" | "start" => vec!["kill", "stop"],
        "resume" | "continue" => vec!["pause", "stop"],
        _ => Vec::new(),
    }
}

/// Without a phase, whether something later may end it.
fn can_last(f: &str) -> bool {
    matches!(f, "kill" | "stop" | "pause" | "partition" | "slow" | "delay" | "skew")
}

fn close(faults: &mut [Fault], open: &mut Vec<usize>, kinds: &[&str], target: &str, now: u64) -> bool {
    let fits = |fault: &Fault| kinds.contains(&"*") || kinds.contains(&fault.kind.as_str());
    if kinds.contains(&"*") {
        let any = !open.is_empty();
        for at in open.drain(..) {
            faults[at].ended_ns = Some(now);
        }
        return any;
    }
    let exact = open.iter().position(|at| fits(&faults[*at]) && faults[*at].target == target);
    let found = exact.or_else(|| {
        let loose = |at: &usize| fits(&faults[*at]) && (target.is_empty() || faults[*at].target.is_empty());
        open.iter().position(loose)
    });
    let Some(position) = found else { return false };
    faults[open.remove(position)].ended_ns = Some(now);
    true
}

/// `n2`, `n1 n3`, or what a text says.
fn target(value: Option<&Value>) -> String {
    let named = value.and_then(|v| v.get("node").or_else(|| v.get("nodes")));
    let one = |v: &Value| match v {
        Value::Number(n) => format!("n{n}"),
        Value::String(s) => s.clone(),
        other => other.to_string(),
    };
    let text = match named {
        None | Some(Value::Null) => String::new(),
        Some(Value::Array(list)) => list.iter().map(one).collect::<Vec<_>>().join(" "),
        Some(other) => one(other),
    };
    text.chars().take(80).collect()
}

/// The other particulars.
fn detail(value: Option<&Value>) -> String {
    let text = match value {
        Some(Value::Object(map)) => {
            let rest = map.iter().filter(|(name, _)| !matches!(name.as_str(), "node" | "nodes" | "phase"));
            let one = |(name, v): (&String, &Value)| match v {
                Value::String(s) => format!("{name} {s}"),
                other => format!("{name} {other}"),
            };
            rest.map(one).collect::<Vec<_>>().join(", ")
        }
        Some(Value::String(s)) => s.clone(),
        None | Some(Value::Null) => String::new(),
        Some(other) => other.to_string(),
    };
    text.chars().take(160).collect()
}

/// The stream of acknowledgements that faults may interrupt.
#[derive(Clone, Debug, Default)]
pub struct Service {
    /// It is made of writes; or else of everything.
    pub of_writes: bool,
    /// How many a second when nothing disturbs; the median.
    pub usual_per_s: f64,
    /// A longer time without one is notable.
    pub notable_ns: u64,
    load_ns: (u64, u64),
    acks: Vec<u64>,
}

impl Service {
    /// Measured in a run.
    pub fn of(done: &[Done], load_ns: (u64, u64), faults: &[Fault]) -> Service {
        let of_writes = done.iter().any(|d| serves(d) && d.work == Work::Write);
        let acks: Vec<u64> = done
            .iter()
            .filter(|d| serves(d) && (!of_writes || d.work == Work::Write))
            .map(|d| d.ended_ns)
            .filter(|at| (load_ns.0..=load_ns.1).contains(at))
            .collect();
        let mut service = Service { of_writes, load_ns, acks, ..Service::default() };
        service.usual_per_s = service.usual(faults);
        let usual_gap = if service.usual_per_s > 0.0 { (10e9 / service.usual_per_s) as u64 } else { 0 };
        service.notable_ns = usual_gap.max(GAP_NS_MIN);
        service
    }

    /// The median rate over slices that no fault disturbed; of all, if there is none.
    fn usual(&self, faults: &[Fault]) -> f64 {
        let (start, end) = self.load_ns;
        let slices = (end - start) / SLICE_NS;
        if slices < 4 {
            return per_second(self.acks.len() as u64, end - start);
        }
        let mut disturbed: Vec<(u64, u64)> = faults
            .iter()
            .map(|f| (f.began_ns, f.ended_ns.unwrap_or(if f.lasting { end } else { f.began_ns }) + AFTERMATH_NS))
            .collect();
        disturbed.sort_unstable();
        let (mut calm, mut all) = (Vec::new(), Vec::new());
        // So long runs are sampled.
        let step = (slices / 4000).max(1);
        let (mut next, mut disturbed_until) = (0, 0);
        for slice in (0..slices).step_by(step as usize) {
            let from = start + slice * SLICE_NS;
            while next < disturbed.len() && disturbed[next].0 < from + SLICE_NS {
                disturbed_until = disturbed_until.max(disturbed[next].1);
                next += 1;
            }
            let count = self.between(from, from + SLICE_NS).len() as u64;
            all.push(count);
            if disturbed_until <= from {
                calm.push(count);
            }
        }
        let slices = if calm.is_empty() { &mut all } else { &mut calm };
        slices.sort_unstable();
        per_second(slices[slices.len() / 2], SLICE_NS)
    }

    /// The acknowledgements with `from <= time < to`.
    fn between(&self, from: u64, to: u64) -> &[u64] {
        let low = self.acks.partition_point(|at| *at < from);
        let high = self.acks.partition_point(|at| *at < to);
        &self.acks[low..high.max(low)]
    }

    /// The longest stretch of the whole load without one: when it began, and how long it was.
    pub fn worst_gap(&self) -> (u64, u64) {
        gap(&self.acks, self.load_ns.0, self.load_ns.1, self.load_ns.1)
    }

    /// All notable gaps, with the longest first, at most `max`.
    pub fn notable_gaps(&self, max: usize) -> Vec<(u64, u64)> {
        let edges = std::iter::once(self.load_ns.0).chain(self.acks.iter().copied());
        let next = self.acks.iter().copied().chain(std::iter::once(self.load_ns.1));
        let gaps = edges.zip(next).map(|(from, to)| (from, to.saturating_sub(from)));
        let mut gaps: Vec<(u64, u64)> = gaps.filter(|(_, length)| *length > self.notable_ns).collect();
        gaps.sort_by_key(|(from, length)| (std::cmp::Reverse(*length), *from));
        gaps.truncate(max);
        gaps
    }

    /// Says what each fault cost.
    pub fn costs(&self, mut faults: Vec<Fault>, done: &[Done]) -> Vec<Fault> {
        let begins: Vec<u64> = faults.iter().map(|f| f.began_ns).collect();
        for fault in &mut faults {
            let from = fault.began_ns.clamp(self.load_ns.0, self.load_ns.1);
            let end = fault.ended_ns.unwrap_or(if fault.lasting { self.load_ns.1 } else { from }).max(from);
            let next = begins.partition_point(|begin| *begin <= end.max(fault.began_ns));
            let next = begins.get(next).copied().unwrap_or(u64::MAX);
            let until = next.min(end.saturating_add(AFTER_NS)).clamp(from, self.load_ns.1);
            fault.cost = self.cost(from, end.saturating_add(BLAME_NS).min(until), until, done);
        }
        faults
    }

    fn cost(&self, from: u64, blame: u64, until: u64, done: &[Done]) -> Cost {
        let worst = gap(self.between(from, until), from, blame, until);
        let gap_end = (worst.1 > self.notable_ns).then_some(worst.0 + worst.1);
        let (fell, back) = self.rate_returns(from, blame, until);
        let disturbed = gap_end.is_some() || fell;
        let recovered = match (gap_end, back) {
            (Some(end), _) if end >= until => None,
            (_, None) => None,
            (end, Some(back)) => Some(end.unwrap_or(from).max(back) - from),
        };
        let low = done.partition_point(|d| d.ended_ns < from);
        let high = done.partition_point(|d| d.ended_ns <= until).max(low);
        let meanwhile = &done[low..high];
        let count = |what: fn(&&Done) -> bool| meanwhile.iter().filter(what).count() as u64;
        let silence = |which: &dyn Fn(&Done) -> bool| {
            let acks: Vec<u64> = meanwhile.iter().filter(|d| serves(d) && which(d)).map(|d| d.ended_ns).collect();
            gap(&acks, from, blame, until).1
        };
        let mut nodes: Vec<u64> = done[..high].iter().rev().take(20_000).filter_map(|d| d.node).collect();
        nodes.sort_unstable();
        nodes.dedup();
        nodes.truncate(64);
        let ranges = done[..high].iter().rev().take(20_000).fold(0, |all, d| all | d.ranges);
        let written =
            |range: u32| silence(&|d: &Done| d.ranges >> range & 1 == 1 && (d.work == Work::Write || !self.of_writes));
        Cost {
            gap: worst,
            disturbed,
            recovered_ns: if disturbed { recovered } else { Some(0) },
            failed: count(|d| d.end == End::Failed),
            in_doubt: count(|d| d.asked || d.end == End::Unknown),
            by_node: nodes.into_iter().map(|node| (node, silence(&|d| d.node == Some(node)))).collect(),
            by_range: (0..64).filter(|r| ranges >> r & 1 == 1).map(|r| (u64::from(r), written(r))).collect(),
        }
    }

    /// Whether the rate fell below half of the usual one, and when it was above it again (at once, if
    /// it did not fall).
    fn rate_returns(&self, from: u64, blame: u64, until: u64) -> (bool, Option<u64>) {
        if self.usual_per_s <= 0.0 {
            return (false, Some(from));
        }
        // Long enough for some forty acknowledgements, so that chance does not look like a fall.
        let window = ((40e9 / self.usual_per_s) as u64).clamp(200_000_000, 4_000_000_000);
        let least = self.usual_per_s * window as f64 / 1e9 / 2.0;
        let (mut fell, mut at) = (false, from);
        while at + window <= until {
            let enough = self.between(at, at + window).len() as f64 >= least;
            match (fell, enough) {
                (false, false) => fell = true,
                (true, true) => return (true, Some(at)),
                _ => {}
            }
            at += window / 4;
            if !fell && at > blame {
                break;
            }
        }
        (fell, (!fell).then_some(from))
    }
}

fn serves(done: &Done) -> bool {
    done.end == End::Ok
}

/// The longest stretch without any of these between two times, of those that begin by `blame`: when it
/// began, and how long it was.
fn gap(acks: &[u64], from: u64, blame: u64, until: u64) -> (u64, u64) {
    let (mut last, mut worst) = (from, (from, 0));
    for at in acks.iter().copied().chain(std::iter::once(until)) {
        let at = at.clamp(last, until.max(last));
        if last > blame {
            break;
        }
        if at - last > worst.1 {
            worst = (last, at - last);
        }
        last = at;
    }
    worst
}
