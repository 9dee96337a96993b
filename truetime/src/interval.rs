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

    /// An interval from ends that someone else sent: `None` when they are out of order.
    pub fn checked(earliest: Timestamp, latest: Timestamp) -> Option<Interval> {
        (earliest <= latest).then_some(Interval { earliest, latest })
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

    /// Half the width, in nanoseconds. A peer may send any two ends, so this must not overflow.
    pub fn epsilon_ns(&self) -> i64 {
        (self.width_ns() / 2) as i64
    }

    /// `latest - earliest`, in nanoseconds.
    pub fn width_ns(&self) -> u64 {
        self.latest.as_nanos().abs_diff(self.earliest.as_nanos())
    }

    /// Whether `t` lies within, ends included.
    pub fn contains(&self, t: Timestamp) -> bool {
        self.earliest <= t && t <= self.latest
    }

    /// Both ends moved by `ns`, stopping at the ends of time.
    pub fn shifted_ns(&self, ns: i64) -> Interval {
        Interval::new(self.earliest.plus_ns(ns), self.latest.plus_ns(ns))
    }

    /// Whether the two could both contain true time, if they were read at the same instant.
    pub fn overlaps(&self, other: &Interval) -> bool {
        self.earliest <= other.latest && other.earliest <= self.latest
    }
}

impl std::fmt::Display for Interval {
    /// `[earliest, latest]`, both in RFC 3339.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "[{}, {}]", self.earliest, self.latest)
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
