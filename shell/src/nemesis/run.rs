//! Carries a schedule out.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::anyhow;
use proto::v1::fault_request::Fault;
use proto::v1::{ProcessAction, StatusResponse};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use super::control::{self, Control};
use super::cuts::{self, Cuts};
use super::schedule::{Draw, FaultKind, Schedule, Split, Victim};
use super::watch::{leaders, look, until, well};
use super::{NemesisSpec, NemesisSummary};

/// How long a node that was started may take to answer.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a liar may take to fence itself.
const FENCE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long all nodes may take to be well in the end.
const HEAL_TIMEOUT: Duration = Duration::from_secs(90);
/// When an end that failed is tried again.
const END_AGAIN: Duration = Duration::from_millis(500);
/// So much is added to a clock beyond its bound, at least: no delay of a message explains it.
const BEYOND_NS: i64 = 500_000_000;

/// Has found who can hurt the cluster, and has not begun.
pub struct Nemesis {
    control: Control,
    spec: NemesisSpec,
    nodes: BTreeMap<u64, String>,
    schedule: Schedule,
    problems: Vec<String>,
}

impl Nemesis {
    /// Asks these nodes who can hurt the cluster. An error: nobody can, or there is nothing to be done.
    pub async fn find(addresses: &[String], spec: NemesisSpec) -> anyhow::Result<Nemesis> {
        let control = Control::learn(addresses).await.map_err(|why| anyhow!(why))?;
        let state = control.describe().await.map_err(|why| anyhow!(why))?;
        let lease = Duration::from_nanos(u64::try_from(state.lease_ns).unwrap_or_default());
        let mut kinds = FaultKind::expand(&spec.faults);
        let mut problems = Vec::new();
        if !state.proxied {
            kinds.retain(|kind| !matches!(kind, FaultKind::Partition | FaultKind::SlowNet));
            problems.push("the demo has no proxies between its nodes: their network is left alone".to_string());
        }
        let schedule = Schedule::new(spec.seed, &kinds, spec.interval, lease);
        let schedule = schedule.ok_or_else(|| anyhow!("there is no kind of fault that could be injected"))?;
        let nodes = state.nodes.into_iter().map(|node| (node.node, node.address)).collect();
        Ok(Nemesis { control, spec, nodes, schedule, problems })
    }

    /// Hurts the cluster until `stop` says so (or its sender is gone), heals it, and waits until all nodes are
    /// well. Each fault's begin and end is noted by its kind, with a value such as `{"node":2,"phase":"begin"}`.
    /// An error: the cluster did not come back.
    pub async fn run(
        self,
        note: impl Fn(&str, Value) + Send + Sync + 'static,
        mut stop: watch::Receiver<bool>,
    ) -> anyhow::Result<NemesisSummary> {
        let Nemesis { control, spec, nodes, schedule, problems } = self;
        let mut run =
            Run { control, nodes, note, active: Vec::new(), faults: BTreeMap::new(), problems, violations: Vec::new() };
        run.work(schedule, &mut stop).await;
        let healed_in = run.heal().await?;
        Ok(NemesisSummary {
            seed: spec.seed,
            faults: run.faults,
            problems: run.problems,
            violations: run.violations,
            healed_in,
            reproduce: format!("meridian nemesis {}", spec.options()),
        })
    }
}

/// A fault that is on.
struct Active {
    kind: FaultKind,
    /// Whom it meets.
    nodes: Vec<u64>,
    /// Who is of no use meanwhile.
    disabled: BTreeSet<u64>,
    ends: Instant,
    undo: Vec<(Vec<u64>, Fault)>,
}

struct Run<N> {
    control: Control,
    nodes: BTreeMap<u64, String>,
    note: N,
    active: Vec<Active>,
    faults: BTreeMap<&'static str, u64>,
    problems: Vec<String>,
    violations: Vec<String>,
}

impl<N: Fn(&str, Value)> Run<N> {
    async fn work(&mut self, schedule: Schedule, stop: &mut watch::Receiver<bool>) {
        let mut begins = Instant::now();
        for draw in schedule {
            begins += draw.wait;
            // What disables nodes may have to wait for others to be of use again.
            loop {
                let next_end = self.active.iter().map(|active| active.ends).min();
                let now = Instant::now();
                let mut wake = begins;
                if now >= begins {
                    if *stop.borrow() || self.begin(&draw).await {
                        break;
                    }
                    wake = next_end.unwrap_or(now + Duration::from_millis(100));
                }
                let wake = next_end.map_or(wake, |end| end.min(wake));
                tokio::select! {
                    () = tokio::time::sleep_until(wake) => {}
                    () = stopped(stop) => return,
                }
                self.end_due(Instant::now()).await;
            }
            if *stop.borrow() {
                return;
            }
            // A wait for others shifts what follows, and does not crowd it.
            begins = begins.max(Instant::now());
        }
    }

    fn noted(&self, kind: FaultKind, nodes: &[u64], phase: &str, more: Value) {
        let mut value = match nodes {
            [node] => json!({"node": node, "phase": phase}),
            nodes => json!({"nodes": nodes, "phase": phase}),
        };
        if let (Some(value), Value::Object(more)) = (value.as_object_mut(), more) {
            value.extend(more);
        }
        (self.note)(kind.name(), value);
    }

    fn disabled(&self) -> BTreeSet<u64> {
        self.active.iter().flat_map(|active| active.disabled.iter().copied()).collect()
    }

    /// Begins a fault. False: it has to wait for another one's end.
    async fn begin(&mut self, draw: &Draw) -> bool {
        let seen = look(&self.nodes).await;
        let ids: Vec<u64> = self.nodes.keys().copied().collect();
        let led = leaders(&seen);
        let victim = match draw.victim {
            Victim::LeaderOf(group) if !led.is_empty() => led[group % led.len()].1,
            Victim::LeaderOf(at) | Victim::Node(at) => ids[at % ids.len()],
        };
        // The next node that is there, and is not hurt like this already.
        let free = |node: &u64| {
            let same = |active: &Active| active.nodes.contains(node) && active.kind == draw.kind;
            seen.contains_key(node) && !self.active.iter().any(same)
        };
        let from = ids.iter().position(|node| *node == victim).unwrap_or(0);
        let Some(victim) = (0..ids.len()).map(|step| ids[(from + step) % ids.len()]).find(free) else {
            return self.active.is_empty();
        };
        let leads = led.iter().filter(|(_, node)| *node == victim).map(|(group, _)| *group).collect::<Vec<_>>();
        let plan = self.plan(draw, victim, &ids, &seen);
        let mut disabled = self.disabled();
        let others = !disabled.is_empty();
        disabled.extend(&plan.disabled);
        let too_many = disabled.len() * 2 >= ids.len();
        if draw.kind.disables() && others && (too_many || draw.kind == FaultKind::KillAll) {
            return false;
        }
        if draw.kind == FaultKind::Partition && self.active.iter().any(|a| a.kind == FaultKind::Partition) {
            return false;
        }
        let mut more = plan.more;
        more["for_ms"] = json!(draw.length.as_millis() as u64);
        if !leads.is_empty() && plan.nodes.contains(&victim) {
            more["leads"] = json!(leads);
        }
        // Before it happens: what it costs is its doing.
        self.noted(draw.kind, &plan.nodes, "begin", more);
        *self.faults.entry(draw.kind.name()).or_default() += 1;
        if let Err(why) = self.control.inject(&plan.hurt, plan.fault).await {
            self.problems.push(format!("{} of {:?}: {why}", draw.kind.name(), plan.nodes));
            self.noted(draw.kind, &plan.nodes, "end", json!({"problem": why}));
            return true;
        }
        let active = Active {
            kind: draw.kind,
            nodes: plan.nodes,
            disabled: plan.disabled,
            ends: Instant::now() + draw.length,
            undo: plan.undo,
        };
        match draw.kind {
            // It is over when the node answers again.
            FaultKind::Restart => drop(self.end(active).await),
            FaultKind::SkewBeyond => {
                self.fenced(victim).await;
                self.active.push(active);
            }
            _ => self.active.push(active),
        }
        true
    }

    fn plan(&self, draw: &Draw, victim: u64, ids: &[u64], seen: &BTreeMap<u64, StatusResponse>) -> Plan {
        let off = |fault| vec![(vec![victim], fault)];
        let one = |fault, undo| Plan {
            nodes: vec![victim],
            hurt: vec![victim],
            disabled: BTreeSet::new(),
            fault,
            undo: off(undo),
            more: json!({}),
        };
        let act = control::process;
        let epsilon_ns = seen.get(&victim).and_then(|status| status.clock.as_ref()).map_or(0, |clock| {
            // Of a bound that changes by itself, half is sure.
            let whole = clock.source.starts_with("fixed:");
            (clock.latest_ns - clock.earliest_ns) / if whole { 2 } else { 4 }
        });
        let mut plan = match draw.kind {
            FaultKind::Kill => one(act(ProcessAction::Kill), act(ProcessAction::Start)),
            FaultKind::Pause => one(act(ProcessAction::Pause), act(ProcessAction::Resume)),
            FaultKind::All => unreachable!("a schedule draws none of these, but what it stands for"),
            FaultKind::Restart => one(act(ProcessAction::Stop), act(ProcessAction::Start)),
            FaultKind::SlowDisk => {
                let more = json!({"fsync_delay": format!("{:?}", draw.delay)});
                Plan { more, ..one(control::slow_disk(draw.delay), control::slow_disk(Duration::ZERO)) }
            }
            FaultKind::SlowNet => {
                let more = json!({"delay": format!("{:?}", draw.delay)});
                let none = control::slow_network(Duration::ZERO, Duration::ZERO);
                Plan { more, ..one(control::slow_network(draw.delay, draw.delay / 2), none) }
            }
            FaultKind::Skew => {
                let offset_ns = epsilon_ns * draw.skew_permille / 1000;
                let half_ms = draw.length.as_millis() / 2;
                let text = match draw.skew_jumps {
                    true => format!("offset={},step={}@{half_ms}ms", signed(offset_ns), signed(-2 * offset_ns)),
                    false => format!("offset={}", signed(offset_ns)),
                };
                let more = json!({"clock": text, "epsilon_ns": epsilon_ns});
                Plan { more, ..one(Fault::Skew(text), Fault::Skew(String::new())) }
            }
            FaultKind::SkewBeyond => {
                let beyond_ns = (BEYOND_NS + 100 * epsilon_ns) * draw.skew_permille.signum();
                let text = format!("offset={}", signed(beyond_ns));
                let more = json!({"clock": text, "epsilon_ns": epsilon_ns});
                Plan { more, ..one(Fault::Skew(text), Fault::Skew(String::new())) }
            }
            FaultKind::KillAll => Plan {
                nodes: ids.to_vec(),
                // The dead cannot be killed.
                hurt: seen.keys().copied().collect(),
                disabled: ids.iter().copied().collect(),
                fault: act(ProcessAction::Kill),
                undo: ids.iter().map(|node| (vec![*node], act(ProcessAction::Start))).collect(),
                more: json!({}),
            },
            FaultKind::Partition => {
                let (cuts, alone, text) = split(draw.split, victim, ids);
                let disabled = if alone.is_empty() { ids } else { &alone };
                Plan {
                    nodes: if alone.is_empty() { ids.to_vec() } else { alone.clone() },
                    disabled: disabled.iter().copied().collect(),
                    more: json!({"cuts": text}),
                    hurt: Vec::new(),
                    fault: control::partition(&cuts, &text),
                    undo: vec![(Vec::new(), control::partition(&Cuts::new(), "off"))],
                }
            }
        };
        if draw.kind.disables() && plan.disabled.is_empty() {
            plan.disabled.insert(victim);
        }
        plan
    }

    /// Sees that a liar fences itself, and notes it.
    async fn fenced(&mut self, node: u64) {
        let began = Instant::now();
        let only = self.nodes.iter().filter(|(id, _)| **id == node).map(|(id, at)| (*id, at.clone())).collect();
        let fenced = until(FENCE_TIMEOUT, &only, |seen| {
            let clock = seen.get(&node).and_then(|status| status.clock.as_ref());
            clock.filter(|clock| !clock.trusted).map(|clock| clock.fenced.clone()).ok_or_else(String::new)
        });
        match fenced.await {
            Ok(why) => {
                let value = json!({"node": node, "after_ms": began.elapsed().as_millis() as u64, "why": why});
                (self.note)("fenced", value);
            }
            Err(_) => {
                (self.note)("not-fenced", json!({"node": node}));
                let violation = format!("node {node} did not fence itself, with a clock beyond its bound");
                self.violations.push(violation);
            }
        }
    }

    async fn end_due(&mut self, now: Instant) {
        while let Some(at) = self.active.iter().position(|active| active.ends <= now) {
            let active = self.active.remove(at);
            if let Some(mut again) = self.end(active).await {
                again.ends = Instant::now() + END_AGAIN;
                self.active.push(again);
            }
        }
    }

    /// Ends a fault. Returns it if it has to be ended later: a paused node takes no other clock.
    async fn end(&mut self, active: Active) -> Option<Active> {
        let mut wrong = Vec::new();
        for (nodes, fault) in active.undo.clone() {
            // What another fault has ended meanwhile (a restart, all killed) needs no end.
            if let Err(why) = self.control.inject(&nodes, fault).await
                && !why.contains("already")
            {
                wrong.push(why);
            }
        }
        if matches!(active.kind, FaultKind::Kill | FaultKind::KillAll | FaultKind::Restart) {
            let answers = |seen: &BTreeMap<u64, StatusResponse>| {
                let silent = active.nodes.iter().find(|node| !seen.contains_key(node));
                silent.map_or(Ok(()), |node| Err(format!("node {node} was started and does not answer")))
            };
            wrong.extend(until(START_TIMEOUT, &self.nodes, answers).await.err());
        }
        let others = self.active.iter().any(|other| other.disabled.iter().any(|node| active.nodes.contains(node)));
        if !wrong.is_empty() && others {
            return Some(active);
        }
        let more = if wrong.is_empty() { json!({}) } else { json!({"problem": wrong.join("; ")}) };
        self.noted(active.kind, &active.nodes, "end", more);
        for why in wrong {
            self.problems.push(format!("end of {} of {:?}: {why}", active.kind.name(), active.nodes));
        }
        None
    }

    /// Ends everything, and waits until all nodes are well.
    async fn heal(&mut self) -> anyhow::Result<Duration> {
        let began = Instant::now();
        // First what keeps nodes from answering.
        let mut rest = std::mem::take(&mut self.active);
        rest.sort_by_key(|active| !active.kind.disables());
        for active in rest {
            self.end(active).await;
        }
        // Also what had failed to end.
        if let Err(why) = self.control.inject(&[], control::heal(false)).await {
            self.problems.push(why);
        }
        until(HEAL_TIMEOUT, &self.nodes, |seen| well(&self.nodes, seen)).await.map_err(|why| {
            anyhow!("the cluster is not well {HEAL_TIMEOUT:?} after the last fault was healed: {why}")
        })?;
        (self.note)("heal", json!({"phase": "end", "after_ms": began.elapsed().as_millis() as u64}));
        Ok(began.elapsed())
    }
}

struct Plan {
    /// For the note.
    nodes: Vec<u64>,
    /// For the request.
    hurt: Vec<u64>,
    disabled: BTreeSet<u64>,
    fault: Fault,
    undo: Vec<(Vec<u64>, Fault)>,
    more: Value,
}

/// The cuts, who is then of no use (nobody: some of all are), and the text.
fn split(split: Split, victim: u64, ids: &[u64]) -> (Cuts, Vec<u64>, String) {
    let others: Vec<u64> = ids.iter().copied().filter(|node| *node != victim).collect();
    let name = |nodes: &[u64]| nodes.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
    let turned = || {
        // So that the victim is in the middle of a bridge, and on another place of the ring each time.
        let mut turned = others.clone();
        turned.insert(ids.len() / 2, victim);
        turned
    };
    match split {
        Split::Isolate => {
            let cuts = cuts::sides(&[vec![victim], others.clone()]);
            (cuts, vec![victim], format!("{victim}|{}", name(&others)))
        }
        Split::Halves => {
            let few = ((ids.len() - 1) / 2).max(1);
            let mut alone = vec![victim];
            alone.extend(&others[..few - 1]);
            let rest = others[few - 1..].to_vec();
            let text = format!("{}|{}", name(&alone), name(&rest));
            (cuts::sides(&[alone.clone(), rest]), alone, text)
        }
        Split::Ring => (cuts::ring(&turned()), Vec::new(), format!("ring {}", name(&turned()))),
        Split::Bridge => (cuts::bridge(&turned()), Vec::new(), format!("bridge {}", name(&turned()))),
        Split::Mute => {
            let cuts = others.iter().map(|other| (victim, *other)).collect();
            (cuts, vec![victim], format!("{victim}>{}", name(&others)))
        }
        Split::Deaf => {
            let cuts = others.iter().map(|other| (*other, victim)).collect();
            (cuts, vec![victim], format!("{}>{victim}", name(&others)))
        }
        Split::OneWay => {
            let cuts = others.first().map(|other| (victim, *other)).into_iter().collect();
            (cuts, vec![victim], format!("{victim}>{}", name(&others[..1.min(others.len())])))
        }
    }
}

/// Nanoseconds as a clock's offset is written.
fn signed(ns: i64) -> String {
    format!("{ns:+}ns")
}

/// Until the run is to end.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // A sender that is gone says it as well.
    let _ = stop.wait_for(|stop| *stop).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shape_meets_the_victim_and_leaves_a_majority() {
        for count in 3..=7u64 {
            let ids: Vec<u64> = (1..=count).collect();
            for victim in &ids {
                for shape in [Split::Isolate, Split::Halves, Split::Mute, Split::Deaf, Split::OneWay] {
                    let (cuts, alone, text) = split(shape, *victim, &ids);
                    assert!(!cuts.is_empty() && alone.contains(victim), "{text}");
                    assert!(alone.len() * 2 < ids.len(), "{text}");
                    let rest = |node: &u64| !alone.contains(node);
                    assert!(!cuts.iter().any(|(from, to)| rest(from) && rest(to)), "{text}");
                }
                for shape in [Split::Ring, Split::Bridge] {
                    let (cuts, alone, text) = split(shape, *victim, &ids);
                    assert!(!cuts.is_empty() && alone.is_empty(), "{text}");
                }
                let (bridge, _, _) = split(Split::Bridge, *victim, &ids);
                if count % 2 == 1 {
                    assert!(!bridge.iter().any(|(from, to)| from == victim || to == victim), "{victim} of {count}");
                }
            }
        }
    }
}
