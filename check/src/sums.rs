//! Answers that have a sum or a set to agree with: the bank, and sets.
//!
//! The bank needs nothing but its totals: money only moves, so every snapshot, of whatever time, has
//! the whole sum. A set needs no order: each acknowledged element is in every read that begins
//! later, and no element is read that was never added.

use std::collections::{BTreeMap, BTreeSet};

use crate::Verdict;
use crate::history::{Event, Key, Op, Process, Value};
use crate::rules::{Fate, Txn};

/// Checks totals and sets.
pub fn check(events: &[Event], txns: &[Txn], verdict: &mut Verdict) {
    totals(events, txns, verdict);
    sets(txns, verdict);
}

fn totals(events: &[Event], txns: &[Txn], verdict: &mut Verdict) {
    let setup = events.iter().find(|e| e.process == Process::Named("setup".into()) && e.value.is_some());
    let of = |name: &str| setup.and_then(|e| e.value.as_ref()?.get(name)?.as_i64());
    let mut expected = of("accounts").zip(of("initial_balance")).and_then(|(n, each)| n.checked_mul(each));
    let mut count = 0u64;
    for txn in txns.iter().filter(|t| t.fate == Fate::Committed) {
        for op in &txn.ops {
            let Op::Total(_, Some(sum)) = op else { continue };
            count += 1;
            let right = *expected.get_or_insert(*sum);
            if *sum != right {
                verdict.found("wrong-total", || {
                    format!("the balances sum up to {sum} and not to {right}: {}", txn.tell())
                });
            }
        }
    }
    if count > 0 {
        verdict.checked.push(format!("{count} totals, each of the whole sum"));
    }
}

fn sets(txns: &[Txn], verdict: &mut Verdict) {
    // Of each element: the first attempt that is not known to have failed, and the first acknowledgement.
    let mut added: BTreeMap<&Key, BTreeMap<Value, (usize, Option<usize>)>> = BTreeMap::new();
    for txn in txns {
        for op in &txn.ops {
            let Op::Add(key, value) = op else { continue };
            let set = added.entry(key).or_default();
            if !txn.possible() {
                continue;
            }
            let acknowledged = if txn.fate == Fate::Committed { txn.end } else { None };
            let entry = set.entry(*value).or_insert((txn.begin, acknowledged));
            entry.1 = match (entry.1, acknowledged) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
        }
    }
    let mut reads = 0u64;
    for txn in txns.iter().filter(|t| t.fate == Fate::Committed) {
        for op in &txn.ops {
            let (key, list) = match op {
                Op::ReadList(key, list) => (key, list.as_slice()),
                Op::Read(key) => (key, &[][..]),
                _ => continue,
            };
            let Some(set) = added.get(key) else { continue };
            reads += 1;
            let seen: BTreeSet<Value> = list.iter().copied().collect();
            if seen.len() < list.len() {
                verdict.found("duplicate-elements", || format!("an element is twice in the set {key}: {}", txn.tell()));
            }
            let end = txn.end.unwrap_or(usize::MAX);
            for value in &seen {
                if set.get(value).is_none_or(|(begin, _)| *begin > end) {
                    verdict.found("garbage-read", || format!("nobody had added {value} to {key}: {}", txn.tell()));
                }
            }
            if txn.stale {
                continue;
            }
            for (value, (_, acknowledged)) in set {
                if acknowledged.is_some_and(|at| at < txn.begin) && !seen.contains(value) {
                    verdict.found("lost-element", || {
                        format!("{value} was acknowledged, and is not in a later read of the set {key}: {}", txn.tell())
                    });
                }
            }
        }
    }
    if reads > 0 {
        verdict.checked.push(format!("{reads} reads of {} sets", added.len()));
    }
}
