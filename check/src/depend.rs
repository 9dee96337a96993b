//! Who depends on whom, from what was read.
//!
//! A list that is only ever appended to tells its own past: each read shows all versions before it,
//! in order. So the longest read of a key gives the order of its versions, every other read must be a
//! prefix of it, and a reader of a prefix came before whoever appended the next element. A register
//! shows one version: who wrote it is known, because values are unique; what came next is known from
//! commit timestamps, or else from transactions that read one version and wrote the next.

use std::collections::{BTreeMap, BTreeSet};

use crate::Verdict;
use crate::graph::{Graph, Why};
use crate::history::{Key, Op, Value};
use crate::rules::{Fate, Txn};

/// Who wrote what.
struct Writers<'a> {
    txns: &'a [Txn],
    /// Of each value: the transaction, and whether it wrote the key again afterwards.
    of: BTreeMap<(&'a Key, Value), (usize, bool)>,
}

/// Checks each read by itself, and returns all dependencies.
pub fn infer(txns: &[Txn], verdict: &mut Verdict) -> Graph {
    let mut graph = Graph::new(txns.len());
    let mut lists = Writers { txns, of: BTreeMap::new() };
    let mut registers = Writers { txns, of: BTreeMap::new() };
    for (at, txn) in txns.iter().enumerate() {
        let mut last: BTreeMap<&Key, (bool, Value)> = BTreeMap::new();
        for op in &txn.ops {
            let (list, key, value) = match op {
                Op::Append(key, value) => (true, key, *value),
                Op::Write(key, value) | Op::Cas(key, _, value) => (false, key, *value),
                _ => continue,
            };
            let writers = if list { &mut lists } else { &mut registers };
            writers.of.insert((key, value), (at, false));
            if let Some((_, before)) = last.insert(key, (list, value))
                && let Some(entry) = writers.of.get_mut(&(key, before))
            {
                entry.1 = true;
            }
        }
    }
    let reads = list_reads(txns, verdict);
    infer_lists(&lists, &reads, &mut graph, verdict);
    infer_registers(&registers, &mut graph, verdict);
    graph.add_time(txns);
    graph
}

/// The first read of each list by each transaction that committed, without what it appended itself.
/// Later reads must agree with it.
fn list_reads<'a>(txns: &'a [Txn], verdict: &mut Verdict) -> BTreeMap<&'a Key, Vec<(usize, &'a [Value])>> {
    let mut reads: BTreeMap<&Key, Vec<(usize, &[Value])>> = BTreeMap::new();
    // A set is also read as a list, in any order.
    let sets: BTreeSet<&Key> = txns
        .iter()
        .flat_map(|t| &t.ops)
        .filter_map(|op| if let Op::Add(key, _) = op { Some(key) } else { None })
        .collect();
    for (at, txn) in txns.iter().enumerate().filter(|(_, t)| t.fate == Fate::Committed) {
        let mut first: BTreeMap<&Key, &[Value]> = BTreeMap::new();
        let mut own: BTreeMap<&Key, Vec<Value>> = BTreeMap::new();
        for op in &txn.ops {
            match op {
                Op::Append(key, value) => own.entry(key).or_default().push(*value),
                Op::ReadList(key, list) if !sets.contains(key) => {
                    let mine = own.get(key).map_or(&[][..], Vec::as_slice);
                    let Some(others) = list.strip_suffix(mine) else {
                        verdict
                            .found("internal", || format!("it does not see its own appends to {key}: {}", txn.tell()));
                        continue;
                    };
                    match first.get(key) {
                        Some(before) if *before != others => {
                            verdict.found("internal", || format!("two of its reads of {key} disagree: {}", txn.tell()))
                        }
                        Some(_) => {}
                        None => {
                            first.insert(key, others);
                            reads.entry(key).or_default().push((at, others));
                        }
                    }
                }
                _ => {}
            }
        }
    }
    reads
}

fn infer_lists<'a>(
    writers: &Writers<'a>,
    reads: &BTreeMap<&'a Key, Vec<(usize, &'a [Value])>>,
    graph: &mut Graph,
    verdict: &mut Verdict,
) {
    let txns = writers.txns;
    // Committed appends that no read shows come after all that is shown.
    let mut unseen: BTreeMap<&Key, Vec<(usize, Value)>> = BTreeMap::new();
    let mut orders: BTreeMap<&Key, &[Value]> = BTreeMap::new();
    for (key, reads) in reads {
        let longest = reads.iter().map(|(_, list)| *list).max_by_key(|list| list.len()).unwrap_or_default();
        orders.insert(key, longest);
    }
    let shown: BTreeSet<(&Key, Value)> =
        orders.iter().flat_map(|(key, order)| order.iter().map(|value| (*key, *value))).collect();
    for ((key, value), (at, _)) in &writers.of {
        if !shown.contains(&(*key, *value)) && txns[*at].fate == Fate::Committed {
            unseen.entry(key).or_default().push((*at, *value));
        }
    }
    for (key, order) in &orders {
        let mut places: BTreeMap<Value, usize> = BTreeMap::new();
        for (place, value) in order.iter().enumerate() {
            if places.insert(*value, place).is_some() {
                verdict.found("duplicate-elements", || format!("{value} is twice in the list {key}: {order:?}"));
            }
        }
        for pair in order.windows(2) {
            if let (Some((a, _)), Some((b, _))) = (writers.of.get(&(*key, pair[0])), writers.of.get(&(*key, pair[1]))) {
                graph.add(*a, *b, Why::Ww, || format!("{} follows {} in the list {key}", pair[1], pair[0]));
            }
        }
        if let Some(last) = order.last().and_then(|value| writers.of.get(&(*key, *value))) {
            for (at, value) in unseen.get(key).into_iter().flatten() {
                graph.add(last.0, *at, Why::Ww, || format!("{value} is in no read of the list {key}, so it came last"));
            }
        }
        for (at, list) in &reads[key] {
            read_list(writers, key, order, &places, (*at, list), graph, verdict);
            if list.len() == order.len() {
                for (writer, value) in unseen.get(key).into_iter().flatten() {
                    graph.add(*at, *writer, Why::Rw, || format!("its read of the list {key} lacks {value}"));
                }
            }
        }
    }
    let total: usize = reads.values().map(Vec::len).sum();
    if total > 0 {
        verdict
            .checked
            .push(format!("{total} reads of {} lists: each is a prefix of its list's one order", reads.len()));
    }
}

fn read_list(
    writers: &Writers<'_>,
    key: &Key,
    order: &[Value],
    places: &BTreeMap<Value, usize>,
    (at, list): (usize, &[Value]),
    graph: &mut Graph,
    verdict: &mut Verdict,
) {
    let txns = writers.txns;
    for (i, value) in list.iter().enumerate() {
        let last = i + 1 == list.len();
        match writers.of.get(&(key, *value)) {
            None => verdict.found("garbage-read", || format!("nobody appended {value} to {key}: {}", txns[at].tell())),
            Some((writer, _)) if txns[*writer].fate == Fate::Aborted => verdict.found("G1a", || {
                format!(
                    "{value} in {key} is of a transaction that failed\nreader: {}\nwriter: {}",
                    txns[at].tell(),
                    txns[*writer].tell()
                )
            }),
            Some((writer, true)) if last && *writer != at => verdict.found("G1b", || {
                format!(
                    "{value} in {key} is not the last that its writer appended\nreader: {}\nwriter: {}",
                    txns[at].tell(),
                    txns[*writer].tell()
                )
            }),
            Some(_) => {}
        }
    }
    if order.get(..list.len()) != Some(list) {
        let differs = list.iter().zip(order).position(|(a, b)| a != b).unwrap_or(0);
        verdict.found("incompatible-order", || {
            format!("the list {key} is {order:?} to others, which differs at place {differs}: {}", txns[at].tell())
        });
        return;
    }
    if let Some((writer, _)) = list.last().and_then(|value| writers.of.get(&(key, *value))) {
        graph.add(*writer, at, Why::Wr, || format!("{} of the list {key} was read", list[list.len() - 1]));
    }
    // Its own appends follow its read, in any order that keeps them together.
    let next = order.iter().skip(list.len()).find(|value| writers.of.get(&(key, **value)).is_none_or(|w| w.0 != at));
    if let Some((value, (writer, _))) = next.and_then(|value| Some((value, writers.of.get(&(key, *value))?)))
        && places.contains_key(value)
    {
        graph.add(at, *writer, Why::Rw, || format!("its read of the list {key} ends before {value}"));
    }
}

/// A read of a register, and whether its transaction wrote it before.
fn infer_registers(writers: &Writers<'_>, graph: &mut Graph, verdict: &mut Verdict) {
    let txns = writers.txns;
    let mut reads: BTreeMap<&Key, Vec<(usize, Value)>> = BTreeMap::new();
    // The version that follows another, and whose it is.
    let mut follows: BTreeMap<(&Key, Value), Vec<(Value, usize)>> = BTreeMap::new();
    let mut deleted: BTreeSet<&Key> = BTreeSet::new();
    let mut count = 0u64;
    for (at, txn) in txns.iter().enumerate().filter(|(_, t)| t.possible()) {
        let mut own: BTreeMap<&Key, Option<Value>> = BTreeMap::new();
        let mut read: BTreeMap<&Key, Value> = BTreeMap::new();
        for op in &txn.ops {
            let (key, seen, written) = match op {
                Op::ReadValue(key, value) => (key, Some(*value), None),
                Op::Cas(key, old, new) => (key, Some(*old), Some(*new)),
                Op::Write(key, value) => (key, None, Some(*value)),
                Op::Delete(key) => {
                    deleted.insert(key);
                    own.insert(key, None);
                    continue;
                }
                _ => continue,
            };
            if let Some(value) = seen.filter(|_| txn.fate == Fate::Committed) {
                count += 1;
                match own.get(key) {
                    Some(mine) if *mine != Some(value) => {
                        verdict.found("internal", || format!("it does not see its own write of {key}: {}", txn.tell()));
                    }
                    Some(_) => {}
                    None if read.get(key).is_some_and(|before| *before != value) => {
                        verdict.found("internal", || format!("two of its reads of {key} disagree: {}", txn.tell()));
                    }
                    None => {
                        read.insert(key, value);
                        reads.entry(key).or_default().push((at, value));
                    }
                }
            }
            if let Some(value) = written {
                if let (Some(before), false) = (read.get(key), own.contains_key(key)) {
                    follows.entry((key, *before)).or_default().push((value, at));
                }
                own.insert(key, Some(value));
            }
        }
    }
    if count > 0 {
        verdict.checked.push(format!("{count} reads of {} registers", reads.len()));
    }
    for (key, reads) in &reads {
        let order = if deleted.contains(key) { None } else { by_timestamp(writers, key) };
        let places: BTreeMap<usize, usize> =
            order.iter().flatten().enumerate().map(|(place, (_, txn))| (*txn, place)).collect();
        let mut initial = None;
        for (at, value) in reads {
            let Some((writer, overwritten)) = writers.of.get(&(*key, *value)) else {
                // The value that the workload began with has no writer; but there was only one.
                if *initial.get_or_insert(*value) != *value {
                    verdict.found("garbage-read", || format!("nobody wrote {value} to {key}: {}", txns[*at].tell()));
                }
                continue;
            };
            match txns[*writer].fate {
                Fate::Aborted => verdict.found("G1a", || {
                    format!(
                        "{value} of {key} is of a transaction that failed\nreader: {}\nwriter: {}",
                        txns[*at].tell(),
                        txns[*writer].tell()
                    )
                }),
                _ if *overwritten && writer != at => verdict.found("G1b", || {
                    format!(
                        "{value} of {key} was overwritten by its own writer\nreader: {}\nwriter: {}",
                        txns[*at].tell(),
                        txns[*writer].tell()
                    )
                }),
                _ => graph.add(*writer, *at, Why::Wr, || format!("{value} of the register {key} was read")),
            }
            if let Some(order) = &order {
                let place = places.get(writer);
                if let Some((_, next)) = place.and_then(|place| order.get(place + 1)) {
                    graph.add(*at, *next, Why::Rw, || {
                        format!("it read {value} of the register {key}, which that overwrote")
                    });
                }
            } else {
                for (next, other) in follows.get(&(*key, *value)).into_iter().flatten() {
                    graph.add(*at, *other, Why::Rw, || {
                        format!("it read {value} of the register {key}, which {next} followed")
                    });
                }
            }
        }
        if let Some(order) = &order {
            for pair in order.windows(2) {
                graph
                    .add(pair[0].1, pair[1].1, Why::Ww, || format!("it wrote the register {key} at a later timestamp"));
            }
        }
    }
    for ((key, before), next) in &follows {
        if let Some((writer, _)) = writers.of.get(&(*key, *before)) {
            for (value, at) in next {
                graph
                    .add(*writer, *at, Why::Ww, || format!("it read {before} of the register {key} and wrote {value}"));
            }
        }
        let committed: Vec<_> = next.iter().filter(|(_, at)| txns[*at].fate == Fate::Committed).collect();
        if let [first, second, ..] = committed.as_slice() {
            verdict.found("lost-update", || {
                format!(
                    "both read {before} of {key}, and both wrote it\nT1: {}\nT2: {}",
                    txns[first.1].tell(),
                    txns[second.1].tell()
                )
            });
        }
    }
}

/// The writers of a register by commit timestamp, if all that may have committed have one.
fn by_timestamp(writers: &Writers<'_>, key: &Key) -> Option<Vec<(i64, usize)>> {
    let mut order = Vec::new();
    for ((_, _), (at, _)) in writers.of.range((key, Value::MIN)..=(key, Value::MAX)) {
        match (writers.txns[*at].fate, writers.txns[*at].commit_ts) {
            (Fate::Aborted, _) => {}
            (_, Some(ts)) => order.push((ts, *at)),
            (_, None) => return None,
        }
    }
    order.sort_unstable();
    order.dedup();
    Some(order)
}
