//! The judge of a run: one oracle, and second opinions that do not share its reasoning.
//!
//! Every committed transaction tells its timestamp, so the order in which everything must appear
//! to have happened is known: no search is needed. The oracle puts all committed writes at their
//! timestamps and then asks of each read whether it saw exactly what the oracle holds: a
//! transaction's reads just below its commit timestamp, a read without locks at its read
//! timestamp. That the timestamps agree with real time is checked beside it; both together are
//! strict serializability (I7), snapshots that are the same for ever (I12), and nothing of an
//! aborted transaction to be seen (I9).
//!
//! The second opinions look only at values: the bank's total, lists that are prefixes of one
//! another, every append exactly once, at least one switch of a pair on, never too many rows.

use std::collections::BTreeMap;
use std::ops::Bound;

use truetime::Timestamp;
use txn::{Key, ReadOp, Row, Value};

use crate::clock::truth;
use crate::counters::Counters;
use crate::history::{Attempt, Ending, History, SnapshotRead};
use crate::invariants::{I7, I8, I9, I10, I11, I12, I13};
use crate::plan::{ACCOUNTS, BALANCE, PHANTOMS, kind_of, list, number};
use crate::trace::ms_of;

/// All committed versions.
#[derive(Debug, Default)]
struct Oracle {
    versions: BTreeMap<Key, BTreeMap<Timestamp, Option<Value>>>,
}

impl Oracle {
    fn of(history: &History) -> Result<Oracle, String> {
        let mut oracle = Oracle::default();
        for attempt in &history.attempts {
            let Ending::Committed(ts) = attempt.ending else { continue };
            for write in &attempt.writes {
                let versions = oracle.versions.entry(write.key.clone()).or_default();
                if versions.insert(ts, write.value.clone()).is_some() {
                    return Err(format!("I2: two commits wrote {} at {}", show(&write.key), ms_of(ts)));
                }
            }
        }
        Ok(oracle)
    }

    fn value_at(&self, key: &Key, at: Timestamp) -> Option<(Timestamp, Value)> {
        let (ts, value) = self.versions.get(key)?.range(..=at).next_back()?;
        Some((*ts, value.clone()?))
    }

    /// What a read at `at` must find.
    fn read(&self, op: &ReadOp, at: Timestamp) -> Vec<Row> {
        let limit = if op.limit == 0 { usize::MAX } else { op.limit as usize };
        let upper = if op.span.end.is_empty() { Bound::Unbounded } else { Bound::Excluded(op.span.end.clone()) };
        let keys = self.versions.range((Bound::Included(op.span.start.clone()), upper)).map(|(key, _)| key);
        let row = |key: &Key| {
            let (commit_ts, value) = self.value_at(key, at)?;
            Some(Row { key: key.clone(), value, commit_ts })
        };
        if op.reverse {
            keys.rev().filter_map(row).take(limit).collect()
        } else {
            keys.filter_map(row).take(limit).collect()
        }
    }

    fn compare(&self, ops: &[ReadOp], found: &[Vec<Row>], at: Timestamp) -> Result<(), String> {
        if ops.len() != found.len() {
            return Err(format!("{} reads asked, {} answered", ops.len(), found.len()));
        }
        for (op, found) in ops.iter().zip(found) {
            let expected = self.read(op, at);
            if &expected != found {
                let missing = expected.iter().filter(|row| !found.contains(row)).map(show_row).collect::<Vec<_>>();
                let extra = found.iter().filter(|row| !expected.contains(row)).map(show_row).collect::<Vec<_>>();
                return Err(format!(
                    "reading {}..{} (limit {}, reverse {}) at {}: should be there: [{}]; should not: [{}]",
                    show(&op.span.start),
                    show(&op.span.end),
                    op.limit,
                    op.reverse,
                    ms_of(at),
                    missing.join(", "),
                    extra.join(", ")
                ));
            }
        }
        Ok(())
    }
}

fn show(key: &[u8]) -> String {
    key.escape_ascii().to_string()
}

fn show_row(row: &Row) -> String {
    format!("{}={:?}@{}", show(&row.key), list(&row.value), ms_of(row.commit_ts))
}

fn name(attempt: &Attempt) -> String {
    let Attempt { client, kind, txn, invoked, ended, ending, .. } = attempt;
    let ms = |at: &i64| format!("{:.6} ms", *at as f64 / 1e6);
    let ending = match ending {
        Ending::Committed(ts) => format!("committed at {}", ms_of(*ts)),
        other => format!("{other:?}"),
    };
    format!("{kind:?} {txn} of client {client}, from {} to {}, {ending}", ms(invoked), ms(ended))
}

fn name_read(read: &SnapshotRead) -> String {
    let ms = |at: i64| format!("{:.6} ms", at as f64 / 1e6);
    let kind = if read.strong { "strong read" } else { "read" };
    format!(
        "{kind} of client {} through {}, from {} to {}, at {}",
        read.client,
        read.gateway,
        ms(read.invoked),
        ms(read.seen.at),
        ms_of(read.read_ts)
    )
}

/// Everything that must hold of a history; the error says what does not, and the counters how often each
/// invariant was judged.
pub fn check(history: &History, counters: &mut Counters) -> Result<(), String> {
    RESTS_ON_CLOCKS.iter().try_for_each(|(_, check)| check(history, counters))?;
    all_else(history, counters)
}

/// One check of a history.
type Check = fn(&History, &mut Counters) -> Result<(), String>;

/// What holds only as long as clocks do, each with what is lost if it does not.
pub const RESTS_ON_CLOCKS: [(&str, Check); 4] = [
    ("beyond the promise: I7 lost, a commit was answered before its time", commit_wait),
    ("beyond the promise: I8 lost, a write was seen before its time", visibility),
    ("beyond the promise: I7 lost, commits against real time", real_time_order),
    ("beyond the promise: I7 lost, a strong read missed a commit", strong_reads),
];

/// What holds whatever clocks say.
pub fn all_else(history: &History, counters: &mut Counters) -> Result<(), String> {
    for attempt in &history.attempts {
        if attempt.ending == Ending::Open {
            return Err(format!("liveness: never learned the ending of {}", name(attempt)));
        }
    }
    let oracle = Oracle::of(history)?;
    for attempt in &history.attempts {
        for seen in &attempt.reads {
            match attempt.ending {
                Ending::Committed(ts) => {
                    let compared = oracle.compare(&seen.ops, &seen.rows, ts.prev());
                    compared.map_err(|e| format!("I11: serializability: {}: {e}", name(attempt)))?;
                    counters.hit(I11);
                }
                _ => {
                    only_committed_versions(&oracle, attempt, &seen.rows)?;
                    counters.hit(I9);
                }
            }
        }
    }
    for read in &history.snapshots {
        if let Some(asked) = read.asked.filter(|asked| *asked != read.read_ts) {
            return Err(format!("I12: {} was asked at {}", name_read(read), ms_of(asked)));
        }
        let compared = oracle.compare(&read.seen.ops, &read.seen.rows, read.read_ts);
        compared.map_err(|e| format!("I12: snapshot: {}: {e}", name_read(read)))?;
        counters.hit(I12);
    }
    values(history, &oracle, counters)
}

fn passed(ts: Timestamp, at: i64) -> bool {
    ts < truth(at)
}

/// I7: a commit had surely happened when it was answered.
fn commit_wait(history: &History, _: &mut Counters) -> Result<(), String> {
    for attempt in &history.attempts {
        if let Ending::Committed(ts) = attempt.ending
            && !passed(ts, attempt.ended)
        {
            return Err(format!("I7: commit wait: answered before its time: {}", name(attempt)));
        }
    }
    Ok(())
}

/// I8: whatever anyone saw had surely happened by then.
fn visibility(history: &History, counters: &mut Counters) -> Result<(), String> {
    for attempt in &history.attempts {
        for seen in &attempt.reads {
            counters.hit(I8);
            if let Some(row) = seen.rows.iter().flatten().find(|row| !passed(row.commit_ts, seen.at)) {
                return Err(format!("I8: visibility: {} saw {} too early", name(attempt), show_row(row)));
            }
        }
    }
    for read in &history.snapshots {
        if let Some(row) = read.seen.rows.iter().flatten().find(|row| !passed(row.commit_ts, read.seen.at)) {
            return Err(format!("I8: visibility: {} saw {} too early", name_read(read), show_row(row)));
        }
    }
    Ok(())
}

fn committed(history: &History) -> impl Iterator<Item = (&Attempt, Timestamp)> {
    history.attempts.iter().filter_map(|a| match a.ending {
        Ending::Committed(ts) => Some((a, ts)),
        _ => None,
    })
}

/// I7: acknowledged before invoked means a smaller timestamp.
fn real_time_order(history: &History, counters: &mut Counters) -> Result<(), String> {
    let mut ended: Vec<_> = committed(history).map(|(a, ts)| (a.ended, ts, a)).collect();
    ended.sort_by_key(|(at, ts, _)| (*at, *ts));
    let mut invoked: Vec<_> = committed(history).collect();
    invoked.sort_by_key(|(a, _)| a.invoked);
    let (mut next, mut newest) = (0, None::<(Timestamp, &Attempt)>);
    for (attempt, ts) in invoked {
        counters.hit(I7);
        while let Some((_, earlier, a)) = ended.get(next).filter(|(at, _, _)| *at < attempt.invoked) {
            if newest.is_none_or(|(ts, _)| *earlier > ts) {
                newest = Some((*earlier, a));
            }
            next += 1;
        }
        if let Some((_, earlier)) = newest.filter(|(earlier, _)| *earlier >= ts) {
            return Err(format!("I7: real time: {} began after {}", name(attempt), name(earlier)));
        }
    }
    Ok(())
}

/// I7: a strong read sees, of the keys it reads, everything that was acknowledged or seen by anyone before it was
/// invoked.
fn strong_reads(history: &History, counters: &mut Counters) -> Result<(), String> {
    // For each key, when versions of it became known to someone.
    let mut known: BTreeMap<&Key, Vec<(i64, Timestamp)>> = BTreeMap::new();
    for (attempt, ts) in committed(history) {
        for write in &attempt.writes {
            known.entry(&write.key).or_default().push((attempt.ended, ts));
        }
    }
    let seen = history.attempts.iter().flat_map(|a| &a.reads).chain(history.snapshots.iter().map(|s| &s.seen));
    for seen in seen {
        for row in seen.rows.iter().flatten() {
            known.entry(&row.key).or_default().push((seen.at, row.commit_ts));
        }
    }
    for list in known.values_mut() {
        list.sort();
        let mut newest = Timestamp::MIN;
        for (_, ts) in list {
            newest = newest.max(*ts);
            *ts = newest;
        }
    }
    for read in history.snapshots.iter().filter(|read| read.strong) {
        counters.hit(I7);
        for (key, list) in &known {
            if !read.seen.ops.iter().any(|op| op.span.contains(key)) {
                continue;
            }
            let before = list.partition_point(|(at, _)| *at < read.invoked);
            if before > 0 && list[before - 1].1 > read.read_ts {
                let newest = ms_of(list[before - 1].1);
                return Err(format!("I7: real time: {} but {} of {newest} was known", name_read(read), show(key)));
            }
        }
    }
    Ok(())
}

/// An attempt that did not commit must still have read nothing but what others committed.
fn only_committed_versions(oracle: &Oracle, attempt: &Attempt, rows: &[Vec<Row>]) -> Result<(), String> {
    for row in rows.iter().flatten() {
        let version = oracle.versions.get(&row.key).and_then(|versions| versions.get(&row.commit_ts));
        if version != Some(&Some(row.value.clone())) {
            return Err(format!("I9: dirty read: {} saw {}", name(attempt), show_row(row)));
        }
    }
    Ok(())
}

/// The second opinions.
fn values(history: &History, oracle: &Oracle, counters: &mut Counters) -> Result<(), String> {
    let mut last_lists: BTreeMap<&Key, Vec<u64>> = BTreeMap::new();
    for (key, versions) in &oracle.versions {
        if let Some(Some(value)) = versions.values().next_back() {
            last_lists.insert(key, list(value));
        }
    }
    let mut appended: BTreeMap<u64, u32> = BTreeMap::new();
    for (key, numbers) in last_lists.iter().filter(|(key, _)| kind_of(key) == 'a') {
        for n in numbers {
            *appended.entry(*n).or_default() += 1;
            counters.hit(I10);
            if appended[n] > 1 {
                return Err(format!("I10: append: {n} is there twice, in {}", show(key)));
            }
        }
    }
    for attempt in &history.attempts {
        let committed = matches!(attempt.ending, Ending::Committed(_));
        for write in attempt.writes.iter().filter(|w| kind_of(&w.key) == 'a') {
            let Some(n) = write.value.as_ref().and_then(|value| list(value).last().copied()) else { continue };
            if appended.contains_key(&n) != committed {
                let promise = if committed { "I13: append, lost" } else { "I9: append, of no commit" };
                return Err(format!("{promise}: {n} in {} of {}", show(&write.key), name(attempt)));
            }
            counters.hit(if committed { I13 } else { I9 });
        }
    }
    let committed = history.attempts.iter().filter(|a| matches!(a.ending, Ending::Committed(_)));
    let seen = committed.flat_map(|a| &a.reads).chain(history.snapshots.iter().map(|s| &s.seen));
    for seen in seen {
        for row in seen.rows.iter().flatten().filter(|row| kind_of(&row.key) == 'a') {
            let last = last_lists.get(&row.key).map_or(&[][..], |l| l);
            if !last.starts_with(&list(&row.value)) {
                return Err(format!("I11: append: {} is no prefix of {last:?}", show_row(row)));
            }
        }
        whole_bank(&seen.ops, &seen.rows)?;
        switches(&seen.rows)?;
        phantoms(&seen.rows)?;
    }
    Ok(())
}

/// Whoever sees every account sees all the money.
fn whole_bank(ops: &[ReadOp], rows: &[Vec<Row>]) -> Result<(), String> {
    let accounts: BTreeMap<&Key, u64> = rows
        .iter()
        .flatten()
        .filter(|row| kind_of(&row.key) == 'b')
        .map(|row| (&row.key, number(&row.value)))
        .collect();
    let total: u64 = accounts.values().sum();
    let whole = ops.len() == 10 && ops.iter().all(|op| op.limit == 0 && kind_of(&op.span.start) == 'b');
    if whole && !accounts.is_empty() && (accounts.len() as u64 != ACCOUNTS || total != ACCOUNTS * BALANCE) {
        return Err(format!("I9: bank: {} accounts with {total}, not {}", accounts.len(), ACCOUNTS * BALANCE));
    }
    Ok(())
}

/// Both switches of a pair are never off.
fn switches(rows: &[Vec<Row>]) -> Result<(), String> {
    let off = |row: &&Row| kind_of(&row.key) == 's' && number(&row.value) == 0;
    let offs: Vec<&Row> = rows.iter().flatten().filter(off).collect();
    // The numbers of a pair lie within one ten.
    let pair = |row: &Row| row.key.get(2..row.key.len().saturating_sub(1)).map(<[u8]>::to_vec);
    for (i, row) in offs.iter().enumerate() {
        if let Some(other) = offs[i + 1..].iter().find(|other| pair(other) == pair(row) && other.key != row.key) {
            return Err(format!("I11: write skew: {} and {}", show_row(row), show_row(other)));
        }
    }
    Ok(())
}

/// No digit's range is over-full.
fn phantoms(rows: &[Vec<Row>]) -> Result<(), String> {
    let mut counts: BTreeMap<u8, usize> = BTreeMap::new();
    for row in rows.iter().flatten().filter(|row| kind_of(&row.key) == 'p') {
        let count = counts.entry(row.key[0]).or_default();
        *count += 1;
        if *count > PHANTOMS {
            return Err(format!("I11: phantom: more than {PHANTOMS} rows of digit {}", char::from(row.key[0])));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Seen;
    use crate::plan::{Kind, key, read};
    use paxos::NodeId;
    use txn::{Mutation, Span, TxnId};

    fn ts(at: i64) -> Timestamp {
        truth(at)
    }

    fn numbers(numbers: &[u64]) -> Value {
        numbers.iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<u8>>().into()
    }

    fn append(txn: u128, from_to: (i64, i64), commit: i64, found: &[(&[u64], i64)], new: &[u64]) -> Attempt {
        let rows = found.iter().map(|(v, at)| Row { key: key('a', 1), value: numbers(v), commit_ts: ts(*at) });
        Attempt {
            client: 1,
            kind: Kind::Append,
            txn: TxnId(txn),
            invoked: from_to.0,
            ended: from_to.1,
            ending: Ending::Committed(ts(commit)),
            reads: vec![Seen { ops: vec![read(Span::point(key('a', 1)))], rows: vec![rows.collect()], at: from_to.1 }],
            writes: vec![Mutation { key: key('a', 1), value: Some(numbers(new)) }],
        }
    }

    fn verdict(attempts: Vec<Attempt>, snapshots: Vec<SnapshotRead>) -> String {
        check(&History { attempts, snapshots }, &mut Counters::default()).err().unwrap_or_default()
    }

    #[test]
    fn a_good_history_passes() {
        let one = append(1, (0, 100), 50, &[], &[1]);
        let two = append(2, (110, 200), 150, &[(&[1], 50)], &[1, 2]);
        assert_eq!(verdict(vec![one, two], vec![]), "");
    }

    #[test]
    fn a_lost_update_is_found() {
        let one = append(1, (0, 100), 50, &[], &[1]);
        let two = append(2, (90, 200), 150, &[], &[2]);
        assert!(verdict(vec![one, two], vec![]).starts_with("I11: serializability"));
    }

    #[test]
    fn a_timestamp_against_real_time_is_found() {
        let one = append(1, (0, 100), 50, &[], &[1]);
        let two = append(2, (110, 200), 40, &[], &[2]);
        assert!(verdict(vec![one, two], vec![]).starts_with("I7: real time"));
    }

    #[test]
    fn a_commit_answered_before_its_time_is_found() {
        assert!(verdict(vec![append(1, (0, 100), 100, &[], &[1])], vec![]).starts_with("I7: commit wait"));
    }

    #[test]
    fn a_dirty_read_and_a_visible_abort_are_found() {
        let mut one = append(1, (0, 100), 50, &[], &[1]);
        one.ending = Ending::Aborted(None);
        let mut two = append(2, (110, 200), 150, &[(&[1], 50)], &[1, 2]);
        assert!(verdict(vec![one.clone(), two.clone()], vec![]).starts_with("I11: serializability"));
        two.ending = Ending::Aborted(None);
        assert!(verdict(vec![one, two], vec![]).starts_with("I9: dirty read"));
    }

    #[test]
    fn a_stale_strong_read_is_found() {
        let one = append(1, (0, 100), 50, &[], &[1]);
        let seen = Seen { ops: one.reads[0].ops.clone(), rows: vec![vec![]], at: 130 };
        let stale = |strong| SnapshotRead {
            client: 2,
            gateway: NodeId(1),
            invoked: 120,
            strong,
            asked: None,
            read_ts: ts(40),
            seen: seen.clone(),
        };
        assert_eq!(verdict(vec![one.clone()], vec![stale(false)]), "", "a read of the past owes nothing to real time");
        assert!(verdict(vec![one], vec![stale(true)]).starts_with("I7: real time"));
    }

    #[test]
    fn a_snapshot_that_misses_a_row_is_found() {
        let one = append(1, (0, 100), 50, &[], &[1]);
        let seen = Seen { ops: one.reads[0].ops.clone(), rows: vec![vec![]], at: 130 };
        let read = SnapshotRead {
            client: 2,
            gateway: NodeId(1),
            invoked: 120,
            strong: true,
            asked: None,
            read_ts: ts(60),
            seen,
        };
        assert!(verdict(vec![one], vec![read]).starts_with("I12: snapshot"));
    }
}
