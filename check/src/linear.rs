//! Whether the operations on one register have an order that agrees with real time (linearizability;
//! Wing and Gong's search in Lowe's just-in-time form).
//!
//! The events of a register are walked through in their order, with the set of all states in which the
//! register may be: its value, and which of the operations under way have taken effect already. When
//! an operation is acknowledged, only states remain in which it has taken effect. No state left: no
//! order exists. Registers are independent of each other, so each is judged alone.
//!
//! Only registers that no transaction of several operations touches are judged here; the others'
//! transactions are judged by their dependencies. Reads of a past time owe nothing to real time.

use std::collections::{BTreeMap, BTreeSet};

use crate::Verdict;
use crate::history::{Key, Op, Value};
use crate::rules::{Fate, Txn};

/// More states than this are not followed: it is said that the register was not judged.
const STATES_MAX: usize = 100_000;

#[derive(Clone, Copy, Debug)]
enum Act {
    Read(Option<Value>),
    Set(Option<Value>),
    Cas(Value, Value),
}

impl Act {
    fn of(op: &Op, fate: Fate) -> Option<(&Key, Act)> {
        Some(match op {
            // A read that did not end well constrains nothing.
            Op::Read(_) | Op::ReadValue(..) if fate != Fate::Committed => return None,
            Op::Read(key) => (key, Act::Read(None)),
            Op::ReadValue(key, value) => (key, Act::Read(Some(*value))),
            Op::Write(key, value) => (key, Act::Set(Some(*value))),
            Op::Delete(key) => (key, Act::Set(None)),
            Op::Cas(key, old, new) => (key, Act::Cas(*old, *new)),
            _ => return None,
        })
    }

    /// The register's value afterwards, if it can happen now.
    fn apply(self, value: Option<Value>) -> Option<Option<Value>> {
        match self {
            Act::Read(seen) => (seen == value).then_some(value),
            Act::Set(new) => Some(new),
            Act::Cas(old, new) => (value == Some(old)).then_some(Some(new)),
        }
    }
}

/// A value, and the operations under way that have taken effect.
type State = (Option<Value>, BTreeSet<usize>);

/// Judges every register that it may.
pub fn check(txns: &[Txn], verdict: &mut Verdict) {
    let mut registers: BTreeMap<&Key, Vec<(usize, Act)>> = BTreeMap::new();
    let mut others: BTreeSet<&Key> = BTreeSet::new();
    for (at, txn) in txns.iter().enumerate().filter(|(_, t)| t.possible() && !t.stale) {
        for op in &txn.ops {
            let key = match op {
                Op::Read(k) | Op::ReadValue(k, _) | Op::Write(k, _) | Op::Delete(k) | Op::Cas(k, ..) => k,
                Op::Append(k, _) | Op::ReadList(k, _) | Op::Add(k, _) => k,
                _ => continue,
            };
            match Act::of(op, txn.fate) {
                _ if txn.ops.len() > 1 => drop(others.insert(key)),
                Some((key, act)) => registers.entry(key).or_default().push((at, act)),
                None if matches!(op, Op::Read(_) | Op::ReadValue(..)) => {}
                None => drop(others.insert(key)),
            }
        }
    }
    let (mut judged, mut left) = (0, 0);
    for (key, acts) in registers.iter().filter(|(key, _)| !others.contains(*key)) {
        match judge(txns, acts) {
            Ok(true) => judged += 1,
            Ok(false) => left += 1,
            Err(at) => {
                judged += 1;
                verdict.found("not-linearizable", || {
                    let from = acts.iter().position(|(txn, _)| *txn == at).unwrap_or(0).saturating_sub(6);
                    let around = acts.iter().skip(from).take(10).map(|(txn, _)| txns[*txn].tell());
                    let around: Vec<String> = around.collect();
                    format!(
                        "no order of the operations on {key} explains this one:\n{}\namong those around it:\n{}",
                        txns[at].tell(),
                        around.join("\n")
                    )
                });
            }
        }
    }
    if judged > 0 {
        verdict.checked.push(format!("{judged} registers are linearizable"));
    }
    if left > 0 {
        verdict.checked.push(format!("{left} registers have too many operations in doubt to be judged alone"));
    }
}

/// `Ok(true)`: there is an order; `Ok(false)`: too hard; `Err`: the operation that has no place.
fn judge(txns: &[Txn], acts: &[(usize, Act)]) -> Result<bool, usize> {
    let written: BTreeSet<Value> = acts
        .iter()
        .filter_map(|(_, act)| match act {
            Act::Set(value) => *value,
            Act::Cas(_, value) => Some(*value),
            Act::Read(_) => None,
        })
        .collect();
    // What was read and never written was there at first.
    let initial = acts.iter().find_map(|(_, act)| match act {
        Act::Read(Some(value)) | Act::Cas(value, _) if !written.contains(value) => Some(*value),
        _ => None,
    });
    let mut happenings: Vec<(usize, bool, usize)> = Vec::new();
    for (at, (txn, _)) in acts.iter().enumerate() {
        happenings.push((txns[*txn].begin, false, at));
        if let (Some(end), Fate::Committed) = (txns[*txn].end, txns[*txn].fate) {
            happenings.push((end, true, at));
        }
    }
    happenings.sort_unstable();
    let mut under_way: BTreeSet<usize> = BTreeSet::new();
    let mut states: BTreeSet<State> = BTreeSet::from([(initial, BTreeSet::new())]);
    for (_, ends, act) in happenings {
        if !ends {
            under_way.insert(act);
            continue;
        }
        // Let operations under way take effect, one after another, until this one has.
        let mut done: BTreeSet<State> = BTreeSet::new();
        let mut seen: BTreeSet<State> = states.clone();
        let mut open: Vec<State> = states.into_iter().collect();
        while let Some((value, taken)) = open.pop() {
            if taken.contains(&act) {
                let mut taken = taken;
                taken.remove(&act);
                done.insert((value, taken));
                continue;
            }
            for next in under_way.iter().filter(|next| !taken.contains(next)) {
                if let Some(value) = acts[*next].1.apply(value) {
                    let mut taken = taken.clone();
                    taken.insert(*next);
                    let state = (value, taken);
                    if seen.insert(state.clone()) {
                        open.push(state);
                    }
                }
            }
            if seen.len() > STATES_MAX {
                return Ok(false);
            }
        }
        if done.is_empty() {
            return Err(acts[act].0);
        }
        under_way.remove(&act);
        states = done;
    }
    Ok(true)
}
