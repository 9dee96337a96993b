//! Dependencies between transactions, and the cycles among them.
//!
//! An edge says that one transaction came before another in every order that explains the history:
//!
//! | edge | T1 before T2 because |
//! | --- | --- |
//! | `ww` | T2 overwrote or followed what T1 wrote |
//! | `wr` | T2 read what T1 wrote |
//! | `rw` | T2 overwrote what T1 read |
//! | `process` | the same process did T1 first |
//! | `realtime` | T1 was acknowledged before T2 began |
//!
//! A cycle is a contradiction. Its name says which edges it needs (Adya; and Elle's forms with real
//! time): `G0` only ww; `G1c` ww and wr; `G-single` exactly one rw; `G2-item` several; with `-process`
//! or `-realtime` added if the cycle does not close without such edges. Strong components are found in
//! linear time; in each, the weakest kind of cycle that closes is looked for, shortest first.
//!
//! Real time would have an edge for almost every pair. It is enough to draw those from the frontier:
//! the acknowledged transactions that are not themselves before another acknowledged one.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::Verdict;
use crate::rules::{Fate, Txn};

/// What an edge rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// Write after write.
    Ww,
    /// Read of a write.
    Wr,
    /// Write after read.
    Rw,
    /// The same process.
    Process,
    /// Real time.
    Realtime,
}

/// An edge to another transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edge {
    /// Its position among the transactions.
    pub to: usize,
    /// Its kind.
    pub why: Why,
    /// In words, such as "appended 4 to the list x after 3"; a number of the table of reasons.
    pub reason: usize,
}

/// All dependencies.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    edges: Vec<Vec<Edge>>,
    /// Edges that need not be added again.
    known: BTreeSet<(usize, usize, Why)>,
    reasons: Vec<String>,
}

/// So many transactions of a component are tried as the first of a shortest cycle.
const STARTS_MAX: usize = 100;
/// So many are looked at from one start: a longer cycle is no story.
const VISITS_MAX: usize = 100_000;

impl Graph {
    /// Without edges, for so many transactions.
    pub fn new(count: usize) -> Graph {
        Graph { edges: vec![Vec::new(); count], known: BTreeSet::new(), reasons: vec![String::new()] }
    }

    /// Adds an edge between two different transactions.
    pub fn add(&mut self, from: usize, to: usize, why: Why, reason: impl FnOnce() -> String) {
        if from == to || !self.known.insert((from, to, why)) {
            return;
        }
        self.reasons.push(reason());
        let reason = self.reasons.len() - 1;
        self.edges[from].push(Edge { to, why, reason });
    }

    /// Adds the orders of each process and of real time. A read of a past time owes nothing to either.
    pub fn add_time(&mut self, txns: &[Txn]) {
        let mut happenings: Vec<(usize, bool, usize)> = Vec::new();
        let mut last: BTreeMap<u64, usize> = BTreeMap::new();
        for (at, txn) in txns.iter().enumerate() {
            if txn.stale || !txn.possible() {
                continue;
            }
            happenings.push((txn.begin, false, at));
            if let (Some(end), Fate::Committed) = (txn.end, txn.fate) {
                happenings.push((end, true, at));
            }
            if let Some(before) = last.insert(txn.process, at) {
                self.edges[before].push(Edge { to: at, why: Why::Process, reason: 0 });
            }
        }
        happenings.sort_unstable();
        let mut frontier: Vec<usize> = Vec::new();
        for (_, ends, at) in happenings {
            if ends {
                let begin = txns[at].begin;
                frontier.retain(|other| txns[*other].end.is_none_or(|end| end >= begin));
                frontier.push(at);
            } else {
                for other in &frontier {
                    self.edges[*other].push(Edge { to: at, why: Why::Realtime, reason: 0 });
                }
            }
        }
    }

    /// How many edges there are.
    pub fn len(&self) -> usize {
        self.edges.iter().map(Vec::len).sum()
    }

    /// Whether nothing depends on anything.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Finds contradictions and tells each as a story.
    pub fn find_cycles(&self, txns: &[Txn], verdict: &mut Verdict) {
        let everyone: Vec<usize> = (0..self.edges.len()).collect();
        let components = self.components(&everyone, &|_| true);
        for component in &components {
            let Some((name, cycle)) = self.weakest(component) else {
                verdict.found("cycle", || format!("{} transactions depend on each other in a circle", component.len()));
                continue;
            };
            verdict.found(&name, || self.tell(txns, &cycle));
        }
        verdict.checked.push(format!(
            "{} dependencies of write, read, process and real time: {} cycles",
            self.len(),
            components.len()
        ));
    }

    /// The strong components with more than one member, of some transactions over some edges (Tarjan,
    /// without recursion).
    fn components(&self, members: &[usize], allowed: &dyn Fn(Why) -> bool) -> Vec<Vec<usize>> {
        const NEW: usize = usize::MAX;
        const OUTSIDE: usize = usize::MAX - 1;
        let count = self.edges.len();
        let (mut number, mut low, mut on) = (vec![OUTSIDE; count], vec![0; count], vec![false; count]);
        members.iter().for_each(|member| number[*member] = NEW);
        let (mut stack, mut found, mut next) = (Vec::new(), Vec::new(), 0);
        for root in members.iter().copied() {
            if number[root] != NEW {
                continue;
            }
            let mut calls: Vec<(usize, usize)> = vec![(root, 0)];
            while let Some((node, edge)) = calls.pop() {
                if edge == 0 {
                    (number[node], low[node], on[node]) = (next, next, true);
                    next += 1;
                    stack.push(node);
                }
                if let Some(Edge { to, why, .. }) = self.edges[node].get(edge) {
                    calls.push((node, edge + 1));
                    if number[*to] == OUTSIDE || !allowed(*why) {
                        continue;
                    }
                    if number[*to] == NEW {
                        calls.push((*to, 0));
                    } else if on[*to] {
                        low[node] = low[node].min(number[*to]);
                    }
                    continue;
                }
                if let Some((parent, _)) = calls.last() {
                    low[*parent] = low[*parent].min(low[node]);
                }
                if low[node] == number[node] {
                    let from = stack.iter().rposition(|n| *n == node).unwrap_or(0);
                    let component = stack.split_off(from);
                    component.iter().for_each(|n| on[*n] = false);
                    if component.len() > 1 {
                        found.push(component);
                    }
                }
            }
        }
        found
    }

    /// The first kind of cycle, from the gravest, that closes inside a component.
    fn weakest(&self, component: &[usize]) -> Option<(String, Vec<(usize, Edge)>)> {
        for (suffix, time) in [("", [false, false]), ("-process", [true, false]), ("-realtime", [true, true])] {
            for (name, most_rw, dirty) in
                [("G0", 0, false), ("G1c", 0, true), ("G-single", 1, true), ("G2-item", 2, true)]
            {
                let allowed = |why: Why| match why {
                    Why::Ww => true,
                    Why::Wr => dirty,
                    Why::Rw => most_rw > 0,
                    Why::Process => time[0],
                    Why::Realtime => time[1],
                };
                // The smallest ones have the shortest stories, and there may be very large ones.
                let mut parts = self.components(component, &allowed);
                parts.sort_by_key(Vec::len);
                let cycles = parts.iter().take(STARTS_MAX).flat_map(|part| {
                    let inside: BTreeSet<usize> = part.iter().copied().collect();
                    let starts = part.iter().take(STARTS_MAX / parts.len().min(STARTS_MAX));
                    let found: Vec<_> =
                        starts.filter_map(|start| self.shortest(*start, &inside, &allowed, most_rw)).collect();
                    found
                });
                if let Some(cycle) = cycles.min_by_key(Vec::len) {
                    return Some((format!("{name}{suffix}"), cycle));
                }
            }
        }
        None
    }

    /// The shortest way from a transaction back to itself, over allowed edges, with at most so many
    /// rw edges; two stand for any number.
    fn shortest(
        &self,
        start: usize,
        inside: &BTreeSet<usize>,
        allowed: &dyn Fn(Why) -> bool,
        most_rw: usize,
    ) -> Option<Vec<(usize, Edge)>> {
        let mut came: BTreeMap<(usize, usize), ((usize, usize), Edge)> = BTreeMap::new();
        let mut queue = VecDeque::from([(start, 0)]);
        while let Some((node, rw)) = queue.pop_front() {
            if came.len() > VISITS_MAX {
                return None;
            }
            for edge in self.edges[node].iter().filter(|e| inside.contains(&e.to) && allowed(e.why)) {
                let count = rw + usize::from(edge.why == Why::Rw);
                if most_rw < 2 && count > most_rw {
                    continue;
                }
                let state = (edge.to, count.min(2));
                if edge.to == start {
                    let mut cycle = vec![(node, edge.clone())];
                    let mut state = (node, rw);
                    while state != (start, 0) {
                        let (before, edge) = came.get(&state)?;
                        cycle.push((before.0, edge.clone()));
                        state = *before;
                    }
                    cycle.reverse();
                    return Some(cycle);
                }
                if let Entry::Vacant(slot) = came.entry(state) {
                    slot.insert(((node, rw), edge.clone()));
                    queue.push_back(state);
                }
            }
        }
        None
    }

    fn tell(&self, txns: &[Txn], cycle: &[(usize, Edge)]) -> String {
        let mut story = String::new();
        let name = |at: usize| format!("T{}", 1 + cycle.iter().position(|(node, _)| *node == at).unwrap_or(0));
        for (node, _) in cycle {
            story.push_str(&format!("{}: {}\n", name(*node), txns[*node].tell()));
        }
        for (node, edge) in cycle {
            let (from, to) = (name(*node), name(edge.to));
            let why = match edge.why {
                Why::Process => "the same process did it first".to_string(),
                Why::Realtime => format!("{from} was acknowledged before {to} began"),
                _ => self.reasons[edge.reason].clone(),
            };
            story.push_str(&format!("{from} came before {to}: {why}\n"));
        }
        story.push_str("each came before the next, and the last before the first: no order explains this");
        story
    }
}
