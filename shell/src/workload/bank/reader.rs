//! Snapshots: at the present, at a random time since the run began, and at a time read before.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::Ordering;

use check::{Kind, Op};
use rand::RngExt;

use super::worker::{Shared, Worker, locked};
use super::{ROWS, SUM, int};
use crate::client::{Client, Failure, StatementResult};
use crate::units::timestamp;

/// How many snapshots are remembered.
const SNAPSHOTS_MAX: usize = 512;

/// Past reads stay within this many nanoseconds (half the default retention).
const PAST_NS_MAX: i64 = 30 * 60 * 1_000_000_000;

/// A snapshot as first read. The same timestamp must give the same for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The sum of all balances.
    pub sum: i64,
    /// How many accounts there were.
    pub count: i64,
    /// A hash of all rows, once they were read one by one.
    pub rows: Option<u64>,
    /// The node that said so.
    pub node: u64,
}

/// Reads the sum and the count, at a timestamp or at the present. The second value is the read
/// timestamp, 0 if the server did not say.
pub async fn sum(client: &mut Client, at: Option<i64>) -> Result<(Snapshot, i64), Failure> {
    let sql = at.map_or_else(|| SUM.to_string(), |ns| format!("{SUM} AS OF SYSTEM TIME {ns}"));
    let result = one(client, &sql).await?;
    let values = result.rows.first().map(|row| row.values.as_slice()).unwrap_or_default();
    // The sum of no rows is NULL.
    let number = |index: usize| values.get(index).and_then(int).unwrap_or(0);
    let node = client.node().unwrap_or(0);
    Ok((Snapshot { sum: number(0), count: number(1), rows: None, node }, result.complete.read_ts_ns))
}

/// Reads all balances at a timestamp or at the present.
pub async fn rows(client: &mut Client, at: Option<i64>) -> Result<(BTreeMap<i64, i64>, i64), Failure> {
    let sql = at.map_or_else(|| ROWS.to_string(), |ns| format!("{ROWS} AS OF SYSTEM TIME {ns}"));
    let result = one(client, &sql).await?;
    let pairs = result.rows.iter().filter_map(|row| Some((int(row.values.first()?)?, int(row.values.get(1)?)?)));
    Ok((pairs.collect(), result.complete.read_ts_ns))
}

async fn one(client: &mut Client, sql: &str) -> Result<StatementResult, Failure> {
    Ok(client.execute(sql, Vec::new()).await?.pop().unwrap_or_default())
}

/// Sum, count and hash of balances.
pub fn digest(balances: &BTreeMap<i64, i64>, node: u64) -> Snapshot {
    let mut hasher = DefaultHasher::new();
    balances.hash(&mut hasher);
    let count = i64::try_from(balances.len()).unwrap_or(i64::MAX);
    Snapshot { sum: balances.values().sum(), count, rows: Some(hasher.finish()), node }
}

impl Worker {
    /// One snapshot read.
    pub(super) async fn read(&mut self) {
        let shared = self.shared.clone();
        let choice = self.rng.random_range(0..10);
        let newest = shared.acknowledged_ts.load(Ordering::SeqCst);
        let oldest = shared.first_ts.max(newest - PAST_NS_MAX);
        let again = (choice >= 8).then(|| self.remembered(oldest)).flatten();
        let at = match choice {
            0..5 => None,
            _ => again.or_else(|| (newest > oldest).then(|| self.rng.random_range(oldest..=newest))),
        };
        let (accounts, node) = (shared.setup.accounts, self.client.node());
        shared.recorder.record(self.process, Kind::Invoke, |event| {
            event.txn = vec![Op::Total(accounts, None)];
            event.read_ts = at;
            event.stale = at.is_some();
            event.node = node;
        });
        // Reading row by row costs more and sees more: always the second time, sometimes the first.
        let by_row = again.is_some() || self.rng.random_range(0..8) == 0;
        let answer = if by_row {
            let answer = rows(&mut self.client, at).await;
            answer.map(|(balances, ts)| (digest(&balances, self.client.node().unwrap_or(0)), ts))
        } else {
            sum(&mut self.client, at).await
        };
        let (snapshot, read_ts) = match answer {
            Ok((snapshot, read_ts)) => (snapshot, at.unwrap_or(read_ts)),
            Err(failure) => {
                self.note_error(&format!("snapshot: {failure}"));
                let node = self.client.node();
                shared.recorder.record(self.process, Kind::Fail, |event| {
                    event.txn = vec![Op::Total(accounts, None)];
                    event.node = node;
                    event.error = failure.to_string();
                });
                return;
            }
        };
        let node = self.client.node();
        shared.recorder.record(self.process, Kind::Ok, |event| {
            event.txn = vec![Op::Total(accounts, Some(snapshot.sum))];
            event.read_ts = Some(read_ts).filter(|ts| *ts != 0);
            event.node = node;
        });
        {
            let mut counts = self.tally.lock();
            match (at, again) {
                (None, _) => counts.reads_strong += 1,
                (_, None) => counts.reads_past += 1,
                (_, Some(_)) => counts.reads_again += 1,
            }
        }
        if at.is_none() && read_ts != 0 && read_ts < newest {
            shared.violation(format!(
                "a strong read on n{} was at {}, before the commit at {} that was acknowledged before it",
                snapshot.node,
                timestamp(read_ts),
                timestamp(newest)
            ));
        }
        judge(&shared, read_ts, snapshot);
    }

    /// A random one of the snapshots remembered.
    fn remembered(&mut self, oldest: i64) -> Option<i64> {
        let mut snapshots = locked(&self.shared.snapshots);
        *snapshots = snapshots.split_off(&oldest);
        if snapshots.is_empty() {
            return None;
        }
        let at = self.rng.random_range(0..snapshots.len());
        snapshots.keys().nth(at).copied()
    }
}

/// Checks a snapshot against the total and against an earlier reading, and remembers it.
pub fn judge(shared: &Shared, read_ts: i64, snapshot: Snapshot) {
    let setup = &shared.setup;
    let when = if read_ts == 0 { "the present".to_string() } else { format!("{} ({read_ts})", timestamp(read_ts)) };
    if snapshot.sum != setup.total() || snapshot.count != setup.accounts {
        shared.violation(format!(
            "at {when} n{} sums {} accounts to {}, not {} to {}",
            snapshot.node,
            snapshot.count,
            snapshot.sum,
            setup.accounts,
            setup.total()
        ));
    }
    if read_ts == 0 {
        return;
    }
    let mut snapshots = locked(&shared.snapshots);
    if let Some(first) = snapshots.get_mut(&read_ts) {
        let same_rows = first.rows.is_none() || snapshot.rows.is_none() || first.rows == snapshot.rows;
        if (first.sum, first.count) != (snapshot.sum, snapshot.count) || !same_rows {
            let (before, now) = (first.node, snapshot.node);
            shared.violation(format!("at {when} n{now} reads other rows than n{before} did before"));
        }
        first.rows = first.rows.or(snapshot.rows);
        return;
    }
    if snapshots.len() >= SNAPSHOTS_MAX {
        // Every other one goes, so that old and new ones stay.
        let mut keep = false;
        snapshots.retain(|_, _| {
            keep = !keep;
            keep
        });
    }
    snapshots.insert(read_ts, snapshot);
}
