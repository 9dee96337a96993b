//! The timestamps that a leader assigns: each above every one it, or any leader before it, has
//! assigned or served a read at, and each within the lease (Spanner paper, 4.1.2, 4.1.4 and 4.2.3).
//!
//! ```text
//!            floor                 last           lease_end
//!   ----------|---------------------|----------------|--------> true time
//!    earlier leaders' timestamps    this leader's     another leader's
//! ```
//!
//! Changing epsilon cannot break the order: whatever `TT.now().latest` says, `last` only grows (I2).

use truetime::{Guarantee, Sabotage, Timestamp};

/// One leadership's timestamps.
#[derive(Clone, Debug)]
pub struct Timestamps {
    last: Timestamp,
    /// Promises are forgotten: only where that is done on purpose.
    forgetful: bool,
}

impl Timestamps {
    /// For a leader that must stay above `floor`.
    pub fn above(floor: Timestamp) -> Timestamps {
        Timestamps { last: floor, forgetful: false }
    }

    /// The same, under what is broken on purpose.
    pub fn sabotaged(self, sabotage: Sabotage) -> Timestamps {
        Timestamps { forgetful: sabotage.breaks(Guarantee::PromiseKept), ..self }
    }

    /// The largest timestamp assigned, served or promised.
    pub fn last(&self) -> Timestamp {
        self.last
    }

    /// Assigns the smallest timestamp that is at least `at_least`, above every earlier one and
    /// below `lease_end`; `None` if there is none yet (the lease must be extended first).
    pub fn assign(&mut self, at_least: Timestamp, lease_end: Timestamp) -> Option<Timestamp> {
        let ts = at_least.max(self.last.next());
        if ts >= lease_end {
            return None;
        }
        self.last = ts;
        Some(ts)
    }

    /// Promises that no later write will be at or below `ts`, if the lease covers it.
    pub fn promise(&mut self, ts: Timestamp, lease_end: Timestamp) -> bool {
        if ts >= lease_end {
            return false;
        }
        if !self.forgetful {
            self.last = self.last.max(ts);
        }
        true
    }

    /// Another group's timestamp was applied here: later ones must be above it.
    pub fn observe(&mut self, ts: Timestamp) {
        self.last = self.last.max(ts);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ts(ns: i64) -> Timestamp {
        Timestamp::from_nanos(ns)
    }

    #[test]
    fn never_repeats_even_when_the_clock_says_less() {
        let mut t = Timestamps::above(ts(100));
        assert_eq!(t.assign(ts(50), ts(1000)), Some(ts(101)));
        assert_eq!(t.assign(ts(500), ts(1000)), Some(ts(500)));
        assert_eq!(t.assign(ts(200), ts(1000)), Some(ts(501)));
        assert!(t.promise(ts(700), ts(1000)));
        assert_eq!(t.assign(ts(600), ts(1000)), Some(ts(701)));
    }

    #[test]
    fn stays_within_the_lease() {
        let mut t = Timestamps::above(ts(0));
        assert_eq!(t.assign(ts(1000), ts(1000)), None);
        assert!(!t.promise(ts(1000), ts(1000)));
        assert_eq!(t.last(), ts(0));
    }
}
