//! What may be lost when a clock lies, and when.
//!
//! A clock that lies is *at large* from the moment at which it leaves its bound until its node is fenced, or the clock is
//! good again. What happened at such a time may contradict real time: each check that rests on clocks is first made
//! of everything that was *not* under way while a clock was at large, and must hold there. Then it is made of all, and what
//! it finds is counted, by the name of the guarantee that was lost. Every other check is made of everything, and
//! excuses nothing.
//!
//! ```text
//!    clock       good      | lies          fenced      good again
//!    at large              <-------------->
//!    T1             |--------|                                      excused
//!    T2                                         |----|              owed everything, but by what T1 did
//! ```
//!
//! Two things outlast the time at large, both by a lease at most. A vote that a liar has given too early lets two
//! leaders overlap until the older one's lease ends. And where a liar led, versions were collected too early.

use truetime::Timestamp;

use crate::check::{RESTS_ON_CLOCKS, all_else};
use crate::clients::Shared;
use crate::counters::Counters;
use crate::events;
use crate::history::{Attempt, Ending, History, SnapshotRead};
use crate::sql::judge;
use paxos::NodeId;

/// From when to when something was so of a node; what still is has no end.
#[derive(Clone, Debug, Default)]
struct Spans(Vec<(NodeId, i64, i64)>);

impl Spans {
    /// Whether it is so from now on. Says whether that is new.
    fn set(&mut self, node: NodeId, now: i64, so: bool) -> bool {
        let open = self.0.iter_mut().find(|(of, _, until)| *of == node && *until == i64::MAX);
        match (open, so) {
            (None, true) => self.0.push((node, now, i64::MAX)),
            (Some((_, _, until)), false) => *until = now,
            _ => return false,
        }
        true
    }

    fn touch(&self, from: i64, until: i64) -> bool {
        self.0.iter().any(|(_, began, ended)| *began <= until && from <= *ended)
    }
}

/// The run's lies, and what they excuse.
#[derive(Clone, Debug, Default)]
pub struct Lies {
    /// A clock was at large.
    spans: Spans,
    /// A liar was fenced.
    fenced: Spans,
    /// The widest lie.
    widest_ns: i64,
}

impl Lies {
    /// A lie begins.
    pub fn told(&mut self, by_ns: i64) {
        self.widest_ns = self.widest_ns.max(by_ns.abs());
    }

    /// Whether a node's clock lies, and whether it is fenced, from now on.
    pub fn look(&mut self, node: NodeId, now: i64, lies: bool, fenced: bool) {
        self.spans.set(node, now, lies && !fenced);
        self.fenced.set(node, now, lies && fenced);
    }

    /// Whether a clock was at large at some time between these.
    pub fn touch(&self, from: i64, until: i64) -> bool {
        self.spans.touch(from, until)
    }

    /// Whether this node was fenced at some time between these.
    pub fn was_fenced(&self, node: NodeId, from: i64, until: i64) -> bool {
        self.fenced.0.iter().any(|(of, began, ended)| *of == node && *began <= until && from <= *ended)
    }

    /// Whether a commit went well from its beginning to its end while a liar was fenced.
    fn others_went_on(&self, history: &History) -> bool {
        let within = |a: &Attempt| self.fenced.0.iter().any(|(_, from, until)| *from < a.invoked && a.ended < *until);
        history.attempts.iter().any(|a| matches!(a.ending, Ending::Committed(_)) && within(a))
    }

    /// Whether no clock ever lied.
    pub fn is_empty(&self) -> bool {
        self.spans.0.is_empty()
    }

    /// By how much a timestamp may be wrong at most: a leader acts within its lease only, by its own clock.
    pub fn reach_ns(&self, lease_ns: i64) -> i64 {
        self.widest_ns.min(2 * lease_ns)
    }

    fn touch_attempt(&self, attempt: &Attempt) -> bool {
        self.touch(attempt.invoked, attempt.ended)
    }

    fn touch_read(&self, read: &SnapshotRead) -> bool {
        self.touch(read.invoked, read.seen.at)
    }

    /// Whether one of SQL was under way while a clock was at large.
    pub fn touch_sql(&self, attempt: &judge::Attempt) -> bool {
        self.touch(attempt.invoked, attempt.ended)
    }

    /// What no clock at large had to do with.
    fn sober(&self, history: &History) -> History {
        History {
            attempts: history.attempts.iter().filter(|a| !self.touch_attempt(a)).cloned().collect(),
            snapshots: history.snapshots.iter().filter(|read| !self.touch_read(read)).cloned().collect(),
        }
    }
}

/// The judgement of a whole run: all of it, but for what its lies excuse.
pub fn judge(shared: &mut Shared, epsilon_ns: i64, lease_ns: i64) -> Result<(), String> {
    let Shared { history, sql, counters, lies, .. } = shared;
    if lies.is_empty() {
        crate::check::check(history, counters)?;
        judge::check(&sql.attempts, epsilon_ns)?;
        return events::second_opinion(history, &sql.attempts, false).map(|_| ());
    }
    if lies.others_went_on(history) {
        counters.hit("beyond: the others went on without a liar");
    }
    let sober = lies.sober(history);
    for (lost, check) in RESTS_ON_CLOCKS {
        check(&sober, counters).map_err(|why| format!("{why}\nno clock lied then"))?;
        if check(history, &mut Counters::default()).is_err() {
            counters.hit(lost);
        }
    }
    all_else(history, counters)?;
    judge::check_beyond(&sql.attempts, epsilon_ns, lies.reach_ns(lease_ns), lies, counters)?;
    if events::second_opinion(history, &sql.attempts, true)? {
        counters.hit("beyond the promise: real time lost, says the judge of histories");
    }
    Ok(())
}

/// Whether a read of `asked` may be told that it is too old, though it is within the retention by so much.
pub fn collected_early(lies: &Lies, asked: Timestamp, earliest: Timestamp, lease_ns: i64) -> bool {
    !lies.is_empty() && asked.since_ns(earliest) <= lies.reach_ns(lease_ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_at_large_begins_once_and_ends_once() {
        let mut lies = Lies::default();
        let one = NodeId(1);
        lies.look(one, 5, false, false);
        assert!(lies.is_empty());
        lies.look(one, 10, true, false);
        lies.look(one, 12, true, false);
        assert!(lies.touch(0, 10) && lies.touch(500, 600) && !lies.touch(0, 9));
        lies.look(one, 20, true, true);
        assert!(lies.touch(20, 30) && !lies.touch(21, 30) && lies.was_fenced(one, 19, 21));
        lies.look(one, 40, false, true);
        assert!(!lies.touch(21, 90) && !lies.was_fenced(one, 41, 90));
    }
}
