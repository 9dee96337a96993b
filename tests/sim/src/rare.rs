//! The rare states that a batch of runs must reach: one that never does proves nothing about them, and fails.
//!
//! [`SOMETIMES`] are reached by each sixty seeds or so, and the tests demand it; a thousand must reach [`RARELY`]
//! too, and every fault and every aim that there is.

use crate::aimed::Aim;
use crate::counters::Counters;
use crate::faults::Fault;

/// So many runs must have reached each of [`SOMETIMES`].
pub const SOMETIMES_WITHIN: u64 = 60;
/// So many runs must have reached everything.
pub const ALL_WITHIN: u64 = 1_000;

/// States that few runs of a dozen reach.
pub const SOMETIMES: &[&str] = &[
    "a bit of a log flipped",
    "a bit of a state flipped",
    "a disk was lost",
    "a disk was repaired",
    "a lost disk came back",
    "a node away for good",
    "a node without its disk was told so",
    "a stranger was refused",
    "aborted: locks lost",
    "aborted: split",
    "aborted: too late",
    "aborted: wounded",
    "aimed: client's answer lost",
    "aimed: coordinator, before its answer",
    "aimed: coordinator, decision synced",
    "aimed: coordinator, decision written",
    "aimed: disk with the only copy of a group",
    "aimed: gateway, commit sent",
    "aimed: leader stopped before a read's answer",
    "aimed: leader, handed over",
    "aimed: participant, before its vote",
    "aimed: reply of a commit lost",
    "client walked away",
    "commit asked for again",
    "commit in doubt",
    "committed after a retry",
    "committed before its deadline",
    "earlier reads repeated through every node",
    "in doubt, had aborted",
    "in doubt, had committed",
    "in doubt, resolved by inquiry",
    "killed in a restart storm",
    "leader changed",
    "leader changed with a transaction prepared",
    "log batches lost",
    "log record torn",
    "prepared as the leader changed",
    "read too old",
    "replicas compared during the run",
    "restarted in a rolling restart",
    "safe time held by a prepared transaction",
    "safe time of a follower held by a prepared transaction",
    "shutdown handed everything over",
    "snapshot installed",
    "split under load",
    "sql: a savepoint brought a block back",
    "sql: committed",
    "sql: could not serialize (40001)",
    "sql: duplicate key (23505)",
    "sql: foreign key added",
    "sql: foreign key dropped",
    "sql: foreign key violated (23503)",
    "sql: in doubt, had aborted",
    "sql: in doubt, had committed",
    "sql: index compared with its table",
    "sql: index made",
    "sql: index not unique",
    "sql: no such table (42P01)",
    "sql: schema change taken over",
    "status of a known ending confirmed",
    "stopped over a failed sync",
];

/// States that need a thousand.
pub const RARELY: &[&str] = &[
    "aborted: a participant refused",
    "aborted: given up",
    "answer lost on the way to its client",
    "call lost on the way to its gateway",
    "client gave up waiting",
    "message of a cut group lost",
    "no room to start",
    "prepared asked twice",
    "read failed",
    "reply refused as it left",
    "rot of a log found",
    "rot of a state found at a start",
    "snapshot installed with a transaction prepared",
    "sql: commit in doubt",
    "sql: not available (57P03)",
    "sql: outcome not known (40003)",
    "stopped over a full disk",
    "stopped over its state store",
    "value of an older leader behind the start of a newer",
];

/// What so many runs should have reached and did not.
pub fn never_reached(counters: &Counters, runs: u64) -> Vec<&'static str> {
    let mut due: Vec<&'static str> = Vec::new();
    if runs >= SOMETIMES_WITHIN {
        due.extend(SOMETIMES);
    }
    if runs >= ALL_WITHIN {
        due.extend(RARELY);
        due.extend(Fault::every().map(Fault::name));
        due.extend(Aim::every().map(Aim::name));
    }
    due.retain(|name| counters.get(name) == 0);
    due.sort_unstable();
    due.dedup();
    due
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_runs_must_reach_more() {
        let none = Counters::default();
        assert!(never_reached(&none, SOMETIMES_WITHIN - 1).is_empty());
        assert_eq!(never_reached(&none, SOMETIMES_WITHIN).len(), SOMETIMES.len());
        let all = never_reached(&none, ALL_WITHIN);
        assert!(all.contains(&"fault: disk lost") && all.contains(&"aimed: vote lost") && all.len() > 100);
        let mut reached = Counters::default();
        all.iter().for_each(|name| reached.hit(name));
        assert!(never_reached(&reached, ALL_WITHIN).is_empty());
    }
}
