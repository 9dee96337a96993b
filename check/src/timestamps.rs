//! What Spanner promises of the timestamps that it gives, checked in nearly linear time.
//!
//! - External consistency (I7): acknowledged before another began means a smaller commit timestamp. A
//!   strong read may be of an earlier time, if nothing of what it reads was written since and
//!   acknowledged before it began (4.2.4).
//! - Versions of a key are ordered by timestamp, and no two have the same one.
//! - A transaction saw exactly what was committed below its timestamp; a snapshot, what was committed
//!   at or below its own, whichever replica answered and however long ago it was (I12).
//! - A read at a chosen time is of that time.
//!
//! So everything that was said can be replayed in the order of the timestamps, and every answer has
//! one right value. A key that a transaction without a known timestamp may have written is left to
//! the other checks. What a key held before the history began is learnt from the first who says it.

use std::collections::{BTreeMap, BTreeSet};

use crate::Verdict;
use crate::history::{Key, Op, Value};
use crate::rules::{Fate, Txn};

/// What one transaction did to one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Append(Value),
    Add(Value),
    Set(Option<Value>),
}

/// All versions of all keys, by timestamp.
#[derive(Default)]
struct Versions<'a> {
    of: BTreeMap<&'a Key, Vec<(i64, usize, Change)>>,
    /// Written by somebody whose timestamp is not known.
    cloudy: BTreeSet<&'a Key>,
    initial: BTreeMap<Key, Option<Value>>,
}

/// Checks every promise.
pub fn check(txns: &[Txn], verdict: &mut Verdict) {
    real_time(txns, verdict);
    let mut versions = Versions::of(txns, verdict);
    let (mut exact, mut snapshots) = (0u64, 0u64);
    let mut same: BTreeMap<(i64, String), (usize, &Op)> = BTreeMap::new();
    for (at, txn) in txns.iter().enumerate().filter(|(_, t)| t.fate == Fate::Committed) {
        if let (Some(asked), Some(read)) = (txn.asked_ts, txn.read_ts)
            && asked != read
        {
            verdict.found("other-timestamp", || format!("a read at {asked} was answered of {read}: {}", txn.tell()));
        }
        // A snapshot sees what was committed at its timestamp; a transaction, only what was before.
        let upto = match (txn.read_ts, txn.commit_ts) {
            (Some(ts), _) => ts,
            (None, Some(ts)) => ts.saturating_sub(1),
            (None, None) => continue,
        };
        exact += versions.replay(txn, upto, verdict);
        if let Some(ts) = txn.read_ts {
            snapshots += 1;
            if !txn.stale
                && let Some((key, missed)) = versions.missed(txns, txn, ts)
            {
                verdict.found("stale-strong-read", || {
                    let missed = txns[missed].tell();
                    format!(
                        "a write of {key} was acknowledged before a strong read of it began\n{missed}\n{}",
                        txn.tell()
                    )
                });
            }
            for op in &txn.ops {
                let name = match op {
                    Op::Read(k) | Op::ReadValue(k, _) | Op::ReadList(k, _) => format!("r {k}"),
                    Op::Scan(low, high, Some(_)) => format!("scan {low} {high}"),
                    Op::Total(accounts, Some(_)) => format!("total {accounts}"),
                    _ => continue,
                };
                if let Some((first, before)) = same.get(&(ts, name.clone()))
                    && *before != op
                {
                    verdict.found("unequal-snapshots", || {
                        format!("two reads at {ts} differ (I12)\n{}\n{}", txns[*first].tell(), txn.tell())
                    });
                } else {
                    same.insert((ts, name), (at, op));
                }
            }
        }
    }
    let written: usize = versions.of.values().map(Vec::len).sum();
    if written + exact as usize + snapshots as usize > 0 {
        verdict.checked.push(format!(
            "{written} versions and {exact} answers replayed in the order of their timestamps; {snapshots} snapshots; {} keys \
             left out because a writer's timestamp is not known",
            versions.cloudy.len()
        ));
    }
}

fn real_time(txns: &[Txn], verdict: &mut Verdict) {
    let mut happenings: Vec<(usize, bool, usize)> = Vec::new();
    for (at, txn) in txns.iter().enumerate().filter(|(_, t)| t.fate == Fate::Committed && !t.stale) {
        happenings.push((txn.begin, false, at));
        happenings.extend(txn.end.map(|end| (end, true, at)));
    }
    happenings.sort_unstable();
    let mut last: Option<(i64, usize)> = None;
    let mut floors: BTreeMap<usize, (i64, usize)> = BTreeMap::new();
    let mut count = 0u64;
    for (_, ends, at) in happenings {
        let txn = &txns[at];
        if !ends {
            floors.extend(last.map(|last| (at, last)));
            continue;
        }
        if let Some(ts) = txn.commit_ts {
            count += 1;
            last = last.max(Some((ts, at)));
        }
        let Some((floor, before)) = floors.remove(&at) else { continue };
        if txn.commit_ts.is_none_or(|ts| ts > floor) {
            continue;
        }
        verdict.found("timestamp-against-real-time", || {
            format!(
                "the first was acknowledged before the second began, and yet is later by its timestamp (I7)\n{}\n{}",
                txns[before].tell(),
                txn.tell()
            )
        });
    }
    if count > 0 {
        verdict.checked.push(format!("{count} commit timestamps agree with real time"));
    }
}

impl<'a> Versions<'a> {
    fn of(txns: &'a [Txn], verdict: &mut Verdict) -> Versions<'a> {
        let mut versions = Versions::default();
        for (at, txn) in txns.iter().enumerate().filter(|(_, t)| t.possible()) {
            for op in &txn.ops {
                let (key, change) = match op {
                    Op::Append(key, value) => (key, Change::Append(*value)),
                    Op::Add(key, value) => (key, Change::Add(*value)),
                    Op::Write(key, value) | Op::Cas(key, _, value) => (key, Change::Set(Some(*value))),
                    Op::Delete(key) => (key, Change::Set(None)),
                    _ => continue,
                };
                match txn.commit_ts {
                    Some(ts) => versions.of.entry(key).or_default().push((ts, at, change)),
                    None => drop(versions.cloudy.insert(key)),
                }
            }
        }
        for (key, list) in &mut versions.of {
            // Stable: the operations of one transaction keep their order.
            list.sort_by_key(|(ts, at, _)| (*ts, *at));
            for pair in list.windows(2) {
                // The elements of a set are rows of their own.
                let apart = matches!((pair[0].2, pair[1].2), (Change::Add(_), Change::Add(_)));
                if pair[0].0 == pair[1].0 && pair[0].1 != pair[1].1 && !apart {
                    verdict.found("equal-timestamps", || {
                        format!(
                            "two wrote {key} at one timestamp\n{}\n{}",
                            txns[pair[0].1].tell(),
                            txns[pair[1].1].tell()
                        )
                    });
                }
            }
        }
        versions
    }

    /// What was done to a key up to a timestamp.
    fn upto(&self, key: &Key, ts: i64) -> &[(i64, usize, Change)] {
        let Some(list) = self.of.get(key) else { return &[] };
        &list[..list.partition_point(|(at, ..)| *at <= ts)]
    }

    /// A key that a strong read at `ts` read, and who had written it later by its timestamp, though the
    /// write was acknowledged before the read began.
    fn missed(&self, txns: &[Txn], txn: &Txn, ts: i64) -> Option<(&'a Key, usize)> {
        let late = |(_, writer, _): &&(i64, usize, Change)| txns[*writer].end.is_some_and(|end| end < txn.begin);
        let of = |key: &'a Key, list: &[(i64, usize, Change)]| {
            let later = &list[list.partition_point(|(at, ..)| *at <= ts)..];
            later.iter().find(late).map(|(_, writer, _)| (key, *writer))
        };
        txn.ops.iter().find_map(|op| match op {
            Op::Read(key) | Op::ReadValue(key, _) | Op::ReadList(key, _) => {
                self.of.get_key_value(key).and_then(|(key, list)| of(key, list))
            }
            Op::Scan(low, high, _) if low < high => {
                let range = &Key::Number(*low)..&Key::Number(*high);
                self.of.range::<Key, _>(range).find_map(|(key, list)| of(key, list))
            }
            _ => None,
        })
    }

    /// Compares what a transaction saw with what was there; returns how many answers that were.
    fn replay(&mut self, txn: &Txn, upto: i64, verdict: &mut Verdict) -> u64 {
        let mut own: BTreeMap<&Key, usize> = BTreeMap::new();
        let mut added: BTreeMap<&Key, Vec<Value>> = BTreeMap::new();
        let mut count = 0;
        for op in &txn.ops {
            let wrong = match op {
                Op::Append(key, _) => {
                    *own.entry(key).or_default() += 1;
                    continue;
                }
                Op::Write(key, _) | Op::Delete(key) => {
                    own.insert(key, 0);
                    continue;
                }
                Op::Add(key, value) => {
                    added.entry(key).or_default().push(*value);
                    continue;
                }
                Op::ReadList(key, list) if added.contains_key(key) => {
                    // Which of them the set had before is for others to say; all must be there now.
                    let mine = &added[key];
                    match mine.iter().find(|value| !list.contains(value)) {
                        Some(lost) => Some(format!("{lost}, which it had added to {key} itself, is not there")),
                        None if self.cloudy.contains(key) => None,
                        None => {
                            let others: Vec<Value> =
                                list.iter().copied().filter(|value| !mine.contains(value)).collect();
                            self.wrong_set(key, &others, mine, upto)
                        }
                    }
                }
                Op::ReadList(key, list) if !self.cloudy.contains(key) => {
                    let mine = own.get(key).copied().unwrap_or(0);
                    self.wrong_list(key, &list[..list.len().saturating_sub(mine)], upto)
                }
                // Own writes are the business of the check for internal consistency.
                Op::Read(key) | Op::ReadValue(key, _) | Op::Cas(key, ..) if own.contains_key(key) => continue,
                Op::Read(key) if !self.cloudy.contains(key) => self.wrong_value(key, None, upto),
                Op::ReadValue(key, value) if !self.cloudy.contains(key) => self.wrong_value(key, Some(*value), upto),
                Op::Cas(key, old, _) => {
                    own.insert(key, 0);
                    if self.cloudy.contains(key) { None } else { self.wrong_value(key, Some(*old), upto) }
                }
                Op::Scan(low, high, Some(rows)) if own.is_empty() => self.wrong_scan(*low, *high, rows, upto),
                _ => continue,
            };
            count += 1;
            if let Some(wrong) = wrong {
                let name = if txn.read_ts.is_some() { "inexact-snapshot" } else { "inexact-read" };
                verdict.found(name, || format!("{wrong}: {}", txn.tell()));
            }
        }
        count
    }

    fn wrong_list(&self, key: &Key, list: &[Value], ts: i64) -> Option<String> {
        let there = self.upto(key, ts);
        let values = there.iter().filter_map(|(_, _, change)| match change {
            Change::Append(value) | Change::Add(value) => Some(*value),
            Change::Set(_) => None,
        });
        let mut values: Vec<Value> = values.collect();
        let mut seen = list.to_vec();
        if there.iter().any(|(_, _, change)| matches!(change, Change::Add(_))) {
            values.sort_unstable();
            // Added twice, it is there once.
            values.dedup();
            seen.sort_unstable();
        }
        (values != seen).then(|| format!("at {ts} the list {key} was {values:?}, but {seen:?} was read"))
    }

    /// As [`Versions::wrong_list`], but for what the reader had added itself.
    fn wrong_set(&self, key: &Key, others: &[Value], mine: &[Value], ts: i64) -> Option<String> {
        let there = self.upto(key, ts).iter().filter_map(|(_, _, change)| match change {
            Change::Add(value) if !mine.contains(value) => Some(*value),
            _ => None,
        });
        let (there, seen): (BTreeSet<Value>, BTreeSet<Value>) = (there.collect(), others.iter().copied().collect());
        let wrong = there != seen || seen.len() != others.len();
        wrong.then(|| format!("at {ts} others had added {there:?} to {key}, but {others:?} was read"))
    }

    fn wrong_value(&mut self, key: &Key, seen: Option<Value>, ts: i64) -> Option<String> {
        let there = match self.upto(key, ts).last() {
            Some((_, _, Change::Set(value))) => *value,
            // The read of a list or a set that says nothing is of an empty one.
            Some(_) => return seen.is_none().then(|| format!("at {ts} {key} was there, but was not read")),
            None => *self.initial.entry(key.clone()).or_insert(seen),
        };
        (there != seen).then(|| format!("at {ts} {key} was {}, but {} was read", show(there), show(seen)))
    }

    fn wrong_scan(&mut self, low: i64, high: i64, rows: &[(i64, Value)], ts: i64) -> Option<String> {
        let seen: BTreeMap<i64, Value> = rows.iter().copied().collect();
        let sorted = rows.windows(2).all(|pair| pair[0].0 < pair[1].0);
        let inside = rows.iter().all(|(key, _)| (low..high).contains(key));
        if !sorted || !inside {
            return Some(format!("the rows of [{low}, {high}) are out of order, twice, or not of the range"));
        }
        if low >= high {
            return None;
        }
        let keys = self.of.range::<Key, _>(&Key::Number(low)..&Key::Number(high)).map(|(key, _)| (*key).clone());
        let keys: BTreeSet<Key> = keys.chain(seen.keys().map(|key| Key::Number(*key))).collect();
        keys.iter().filter(|key| !self.cloudy.contains(key)).cloned().collect::<Vec<_>>().iter().find_map(|key| {
            let Key::Number(number) = key else { return None };
            self.wrong_value(key, seen.get(number).copied(), ts)
        })
    }
}

fn show(value: Option<Value>) -> String {
    value.map_or("absent".into(), |value| value.to_string())
}
