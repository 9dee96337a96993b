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
//! | I8 | nobody sees a write before its timestamp has passed | `check`: each row of each answer |
//! | I9 | a transaction happens in all groups or in none | `check`: values; `observe`: nothing stays prepared |
//! | I10 | a commit happens once, and its status agrees | `check`: each appended number |
//! | I11 | a transaction whose locks were lost does not commit | `check`: what a commit read is what was there just before it |
//! | I12 | a timestamp is read the same, everywhere and for ever | `check`: each read without locks |
//! | I13 | an acknowledged commit is not lost | `check`: each acknowledged number is there at the end |
//! | I14 | a replica whose disk fails stops | `processes`: each failure that it finds |
//!
//! Each failure names its invariant. A batch of runs in which one of them was never judged proves nothing about
//! it, and fails.

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

/// Those that were never judged.
pub fn never_judged(counters: &Counters) -> Vec<&'static str> {
    JUDGED.into_iter().filter(|name| counters.get(name) == 0).collect()
}
