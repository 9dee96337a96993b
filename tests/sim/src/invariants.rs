//! The invariants of the design, by name, and how often each was judged.
//!
//! | | holds | where it is judged |
//! | --- | --- | --- |
//! | I1 | an interval contains true time, given its source's promise | `observe`: each node, each look |
//! | I2 | a leader never assigns a timestamp at or below an earlier one, whatever epsilon becomes | `chosen`: in the order of the log |
//! | I3 | at most one value is chosen for a slot | `chosen`: the logs of all replicas, through all restarts |
//! | I4 | what a promise or an accept vouches for is durable before it leaves | `chosen`: each one as it leaves |
//! | I5 | the leases of two leaders are disjoint in true time | `observe`: each group, each look |
//! | I6 | replicas that applied the same slots hold the same | `observe`: while it runs, and at rest |
//! | I7 | acknowledged before asked for means a smaller timestamp | `check`, `sql::judge`, the judge of histories |
//! | I8 | nobody sees a write before its timestamp has passed | `observe`: each answer as it leaves; `check`: each row as it arrives |
//! | I9 | a transaction happens in all groups or in none | `check`: values; `rest`: no replica holds a prepared transaction, and all groups and the client agree on how each ended |
//! | I10 | a commit happens once, and its status agrees | `check`: each appended number |
//! | I11 | a transaction whose locks were lost does not commit | `check`: what a commit read is what was there just before it |
//! | I12 | a timestamp is read the same, everywhere and for ever | `check`: each read without locks; `rest` repeats some through every node |
//! | I13 | an acknowledged commit is not lost | `check`: each acknowledged number is there at the end |
//! | I14 | a replica whose disk fails stops | `processes`: each failure that it finds |
//!
//! Each failure begins with the name of the invariant that is broken (`I5: ..`), or with one of these:
//!
//! | | |
//! | --- | --- |
//! | `panic` | a node found an invariant of its own broken, and stopped |
//! | `liveness` | something never ends, or nothing happens |
//! | `answer` | somebody was told what makes no sense |
//!
//! A batch of runs in which one of them was never judged proves nothing about it, and fails.

use crate::counters::Counters;

/// The counters of how often each was judged, in order.
pub const JUDGED: [&str; 14] = [I1, I2, I3, I4, I5, I6, I7, I8, I9, I10, I11, I12, I13, I14];

/// Clocks.
pub const I1: &str = "I1 judged: an interval contains true time";
/// Timestamps of leaders.
pub const I2: &str = "I2 judged: assigned timestamps rise";
/// Consensus.
pub const I3: &str = "I3 judged: one value is chosen for a slot";
/// Durability of what is vouched for.
pub const I4: &str = "I4 judged: nothing leaves before it is durable";
/// Leases.
pub const I5: &str = "I5 judged: one leader at a time";
/// Replicas.
pub const I6: &str = "I6 judged: replicas hold the same";
/// External consistency.
pub const I7: &str = "I7 judged: timestamps agree with real time";
/// Commit wait.
pub const I8: &str = "I8 judged: nothing is seen before its time";
/// Atomicity.
pub const I9: &str = "I9 judged: transactions are whole";
/// At most once.
pub const I10: &str = "I10 judged: commits happen once";
/// Locks.
pub const I11: &str = "I11 judged: what was read was locked";
/// Snapshots.
pub const I12: &str = "I12 judged: a timestamp is read alike";
/// Durability.
pub const I13: &str = "I13 judged: what was acknowledged is there";
/// Failing disks.
pub const I14: &str = "I14 judged: a failing disk stops its node";

/// Names of failures that are of no invariant of the design.
const OTHERS: [&str; 6] = ["panic", "liveness", "answer", "deadline", "index", "fence"];

/// What a failure begins with: the name of what is broken. `None` if it has none.
pub fn name_of(failure: &str) -> Option<&str> {
    let (name, _) = failure.split_once(": ")?;
    let judged = JUDGED.iter().any(|judged| judged.split(' ').next() == Some(name));
    (judged || OTHERS.contains(&name)).then_some(name)
}

/// The invariant that an anomaly of the command line's judge breaks.
pub fn of_anomaly(anomaly: &str) -> &'static str {
    match anomaly {
        "garbage-read" | "G1a" | "G1b" | "wrong-total" => "I9",
        "duplicate-elements" => "I10",
        "stale-strong-read" | "timestamp-against-real-time" | "not-linearizable" => "I7",
        "lost-element" => "I13",
        "other-timestamp" | "unequal-snapshots" | "inexact-snapshot" => "I12",
        "equal-timestamps" => "I2",
        "nothing-committed" => "liveness",
        "bad-history" => "answer",
        name if name.ends_with("-realtime") || name.ends_with("-process") => "I7",
        // Cycles, and reads that fit into no order.
        _ => "I11",
    }
}

/// Those that were never judged.
pub fn never_judged(counters: &Counters) -> Vec<&'static str> {
    JUDGED.into_iter().filter(|name| counters.get(name) == 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_have_names() {
        assert_eq!(name_of("I12: snapshot: of g1"), Some("I12"));
        assert_eq!(name_of("panic: g1: 17 is not above 18"), Some("panic"));
        for nameless in ["snapshot: of g1", "I15: no such invariant", "I12", "I1 2: x", ""] {
            assert_eq!(name_of(nameless), None, "{nameless:?}");
        }
        for anomaly in ["G1a", "G-single-realtime", "G2-item", "nothing-committed", "unheard-of"] {
            assert!(name_of(&format!("{}: judge of keys: {anomaly}", of_anomaly(anomaly))).is_some());
        }
    }

    /// Whatever the sources hand over as a failure of a run begins with a name. Errors that get their name from
    /// whoever passes them on are listed.
    #[test]
    fn no_failure_in_the_sources_is_nameless() {
        let sources = [
            include_str!("check.rs"),
            include_str!("chosen.rs"),
            include_str!("clients.rs"),
            include_str!("fencing.rs"),
            include_str!("lib.rs"),
            include_str!("observe.rs"),
            include_str!("processes.rs"),
            include_str!("rest.rs"),
            include_str!("sql/client.rs"),
            include_str!("sql/judge.rs"),
            include_str!("traffic.rs"),
            include_str!("world.rs"),
        ];
        let passed_on =
            ["{} reads asked, {} answered", "reading {}..{} (limit", "{} rows, not {}; missing", "{:?}, not {:?}"];
        let makers = [
            "Err(format!(",
            "Err(",
            "fail(format!(",
            "failures.push(format!(",
            "get_or_insert(format!(",
            "get_or_insert(",
        ];
        let mut seen = 0;
        for source in sources {
            let source = source.split("#[cfg(test)]").next().unwrap_or_default();
            for maker in makers {
                for text in source.split(maker).skip(1).filter_map(|rest| rest.trim_start().strip_prefix('"')) {
                    let named = name_of(text).is_some() || text.starts_with("{promise}: ");
                    let listed = passed_on.iter().any(|listed| text.starts_with(listed));
                    let line = text.lines().next().unwrap_or_default();
                    assert!(named || listed, "a failure without the name of what it breaks: {maker}\"{line}");
                    seen += 1;
                }
            }
        }
        assert!(seen > 40, "only {seen} failures were found in the sources");
    }
}
