//! The interval that `TrueTime::now()` returns, and the [`Now`] that every `step` receives.

use crate::Timestamp;

/// `[earliest, latest]`, both inclusive: true time lies within, given the source's promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    /// No later than true time.
    pub earliest: Timestamp,
    /// No earlier than true time.
    pub latest: Timestamp,
}

impl Interval {
    /// An interval from its ends. Panics when they are out of order: that is a bug of the caller.
    pub fn new(earliest: Timestamp, latest: Timestamp) -> Interval {
        assert!(earliest <= latest, "interval ends out of order: {earliest} > {latest}");
        Interval { earliest, latest }
    }

    /// `at` plus and minus `epsilon_ns`.
    pub fn around(at: Timestamp, epsilon_ns: i64) -> Interval {
        assert!(epsilon_ns >= 0, "negative epsilon {epsilon_ns} ns");
        Interval::new(at.minus_ns(epsilon_ns), at.plus_ns(epsilon_ns))
    }

    /// `TT.after(t)`: true only if `t` has definitely passed.
    pub fn after(&self, t: Timestamp) -> bool {
        self.earliest > t
    }

    /// `TT.before(t)`: true only if `t` has definitely not arrived.
    pub fn before(&self, t: Timestamp) -> bool {
        self.latest < t
    }

    /// Half the width, in nanoseconds.
    pub fn epsilon_ns(&self) -> i64 {
        (self.latest.as_nanos() - self.earliest.as_nanos()) / 2
    }

    /// Whether the two could both contain true time, if they were read at the same instant.
    pub fn overlaps(&self, other: &Interval) -> bool {
        self.earliest <= other.latest && other.earliest <= self.latest
    }
}

/// What time it is for one `step`: the TrueTime interval for everything that has a timestamp, and
/// a monotonic reading for timers. `mono_ns` never goes back within one process and means
/// nothing outside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// The TrueTime interval.
    pub tt: Interval,
    /// Nanoseconds on a monotonic clock with an arbitrary origin.
    pub mono_ns: i64,
    /// False while the clock is unsynchronised or fenced: then the node neither leads nor grants
    /// lease votes.
    pub trusted: bool,
}
