//! Timestamps: signed 64-bit nanoseconds since the Unix epoch, shown as RFC 3339 in UTC.

use std::fmt;

/// A point in true time, in nanoseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// Before every other timestamp.
    pub const MIN: Timestamp = Timestamp(i64::MIN);
    /// The Unix epoch.
    pub const ZERO: Timestamp = Timestamp(0);
    /// After every other timestamp.
    pub const MAX: Timestamp = Timestamp(i64::MAX);

    /// From nanoseconds since the Unix epoch.
    pub const fn from_nanos(ns: i64) -> Timestamp {
        Timestamp(ns)
    }

    /// Nanoseconds since the Unix epoch.
    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// Later by `ns`, stopping at [`Timestamp::MAX`].
    pub const fn plus_ns(self, ns: i64) -> Timestamp {
        Timestamp(self.0.saturating_add(ns))
    }

    /// Earlier by `ns`, stopping at [`Timestamp::MIN`].
    pub const fn minus_ns(self, ns: i64) -> Timestamp {
        Timestamp(self.0.saturating_sub(ns))
    }

    /// The next timestamp.
    pub const fn next(self) -> Timestamp {
        self.plus_ns(1)
    }

    /// The one before.
    pub const fn prev(self) -> Timestamp {
        self.minus_ns(1)
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 with nanoseconds, such as `2026-11-23T06:41:33.000000001Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = chrono::DateTime::from_timestamp_nanos(self.0);
        f.write_str(&at.to_rfc3339_opts(chrono::SecondsFormat::Nanos, true))
    }
}
