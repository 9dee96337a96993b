//! What a gateway remembers of its work: how often each kind of statement ran and how long it took, and
//! where the time of the last commits went. Both are bounded, in memory only, and forgotten at a restart.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::engine::CommitInfo;
use crate::types::Datum;

/// The most kinds of statements that are remembered; those that ran least are forgotten first.
pub const STATEMENTS_MAX: usize = 1_000;
/// The most commits that are remembered: the last ones.
pub const RECENT_COMMITS_MAX: usize = 256;

/// What one execution of a statement came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// Rows returned or changed.
    pub rows: u64,
    /// Tries that lost to another transaction, and were followed by another one.
    pub retries: u64,
    /// Whether it failed.
    pub failed: bool,
    /// How long it took, in nanoseconds.
    pub elapsed_ns: i64,
}

/// A commit that wrote something, or held locks.
pub type CommitSeen = CommitInfo;

#[derive(Clone, Debug, Default)]
struct Statement {
    calls: u64,
    rows: u64,
    errors: u64,
    retries: u64,
    total_ns: i64,
    max_ns: i64,
}

/// A gateway's memory of its work.
#[derive(Debug, Default)]
pub struct Statistics {
    statements: Mutex<BTreeMap<Arc<str>, Statement>>,
    commits: Mutex<VecDeque<CommitInfo>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing is half-done while these are held, so a panic elsewhere did no harm.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn int(n: u64) -> Datum {
    Datum::Int(i64::try_from(n).unwrap_or(i64::MAX))
}

fn ms(ns: i64) -> Datum {
    Datum::Float(ns as f64 / 1e6)
}

impl Statistics {
    /// A statement ended.
    pub fn note(&self, query: &Arc<str>, seen: Seen) {
        let mut statements = lock(&self.statements);
        if !statements.contains_key(query) && statements.len() >= STATEMENTS_MAX {
            // A tenth at a time, so that finding those that ran least costs little for each.
            let mut calls: Vec<u64> = statements.values().map(|statement| statement.calls).collect();
            calls.sort_unstable();
            let least = calls[calls.len() / 10];
            let mut to_go = calls.len() / 10 + 1;
            statements.retain(|_, statement| {
                let goes = to_go > 0 && statement.calls <= least;
                to_go -= usize::from(goes);
                !goes
            });
        }
        let statement = statements.entry(Arc::clone(query)).or_default();
        statement.calls += 1;
        statement.rows = statement.rows.saturating_add(seen.rows);
        statement.errors += u64::from(seen.failed);
        statement.retries = statement.retries.saturating_add(seen.retries);
        statement.total_ns = statement.total_ns.saturating_add(seen.elapsed_ns.max(0));
        statement.max_ns = statement.max_ns.max(seen.elapsed_ns);
    }

    /// A transaction committed.
    pub fn note_commit(&self, commit: &CommitInfo) {
        let mut commits = lock(&self.commits);
        if commits.len() >= RECENT_COMMITS_MAX {
            commits.pop_front();
        }
        commits.push_back(commit.clone());
    }

    /// The rows of `meridian.statements`, by their text.
    pub(super) fn statements(&self, node: &Datum) -> Vec<Vec<Datum>> {
        let row = |(query, s): (&Arc<str>, &Statement)| {
            vec![
                node.clone(),
                Datum::Text(query.to_string()),
                int(s.calls),
                int(s.rows),
                int(s.errors),
                int(s.retries),
                ms(s.total_ns),
                Datum::Float(s.total_ns as f64 / 1e6 / s.calls.max(1) as f64),
                ms(s.max_ns),
            ]
        };
        lock(&self.statements).iter().map(row).collect()
    }

    /// The rows of `meridian.recent_commits`, the oldest first.
    pub(super) fn commits(&self, node: &Datum) -> Vec<Vec<Datum>> {
        let row = |commit: &CommitInfo| {
            let groups: Vec<String> = commit.participants.iter().map(u64::to_string).collect();
            let timing = &commit.timing;
            vec![
                node.clone(),
                Datum::Text(commit.txn.to_string()),
                commit.commit_ts.map_or(Datum::Null, Datum::Timestamp),
                Datum::Text(groups.join(", ")),
                ms(timing.lock_wait_ns),
                ms(timing.prepare_ns),
                ms(timing.replicate_ns),
                ms(timing.commit_wait_ns),
                ms(timing.apply_ns),
                ms(timing.total_ns),
                ms(commit.total_ns),
            ]
        };
        lock(&self.commits).iter().map(row).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded_and_what_runs_often_stays() {
        let statistics = Statistics::default();
        let often: Arc<str> = "SELECT often".into();
        for n in 0..STATEMENTS_MAX * 3 {
            statistics.note(&often, Seen { rows: 1, elapsed_ns: n as i64, ..Seen::default() });
            statistics.note(&format!("SELECT {n}").into(), Seen { failed: true, ..Seen::default() });
            statistics.note_commit(&CommitInfo { total_ns: n as i64, ..CommitInfo::default() });
        }
        let statements = statistics.statements(&Datum::Int(1));
        assert!(statements.len() <= STATEMENTS_MAX && statements.len() > STATEMENTS_MAX / 2);
        let calls = STATEMENTS_MAX as i64 * 3;
        let row = statements.iter().find(|row| row[1] == Datum::Text("SELECT often".into())).unwrap();
        assert_eq!(row[2..6], [Datum::Int(calls), Datum::Int(calls), Datum::Int(0), Datum::Int(0)]);
        assert_eq!(row[8], Datum::Float((calls - 1) as f64 / 1e6));
        let commits = statistics.commits(&Datum::Int(1));
        assert_eq!(commits.len(), RECENT_COMMITS_MAX);
        assert_eq!(commits.last().unwrap()[10], Datum::Float((calls - 1) as f64 / 1e6));
    }
}
