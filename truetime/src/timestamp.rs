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

    /// Nanoseconds from `earlier` to `self`, negative if `self` is the earlier one; stops at the
    /// ends of `i64`.
    pub const fn since_ns(self, earlier: Timestamp) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// From RFC 3339 text such as `2026-11-23T06:41:33.5+02:00`. The error says, in lower case,
    /// what is wrong: not RFC 3339, more than nine digits after the point, or a time outside the
    /// years 1677 to 2262 that 64 bits of nanoseconds can hold.
    pub fn parse_rfc3339(text: &str) -> Result<Timestamp, String> {
        let at = chrono::DateTime::parse_from_rfc3339(text)
            .map_err(|err| format!("{text:?} is not an RFC 3339 timestamp: {err}"))?;
        // The parser drops digits below a nanosecond; a bound that moved silently would be worse than an error.
        let digits = text.split_once('.').map_or(0, |(_, rest)| rest.bytes().take_while(u8::is_ascii_digit).count());
        if digits > 9 {
            return Err(format!("timestamp {text:?} has more than nine digits after the point"));
        }
        let ns = at
            .timestamp_nanos_opt()
            .ok_or_else(|| format!("timestamp {text:?} is out of range: {} to {}", Timestamp::MIN, Timestamp::MAX))?;
        Ok(Timestamp(ns))
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 with nanoseconds, such as `2026-11-23T06:41:33.000000001Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = chrono::DateTime::from_timestamp_nanos(self.0);
        f.write_str(&at.to_rfc3339_opts(chrono::SecondsFormat::Nanos, true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc3339_round_trips_to_the_nanosecond_and_to_both_ends() {
        for ns in [i64::MIN, i64::MIN + 1, -1_000_000_001, -1, 0, 1, 999_999_999, 1_795_416_093_000_000_001, i64::MAX] {
            let at = Timestamp::from_nanos(ns);
            assert_eq!(Timestamp::parse_rfc3339(&at.to_string()), Ok(at));
        }
    }

    #[test]
    fn rfc3339_takes_offsets_and_short_fractions() {
        let at = |text| Timestamp::parse_rfc3339(text).unwrap().as_nanos();
        assert_eq!(at("1970-01-01T02:00:00.5+02:00"), 500_000_000);
        assert_eq!(at("1969-12-31T22:00:00-02:00"), 0);
        assert_eq!(at("1970-01-01T00:00:01Z"), 1_000_000_000);
    }

    #[test]
    fn rfc3339_refuses_what_it_cannot_hold() {
        for (text, part) in [
            ("", "not an RFC 3339"),
            ("now", "not an RFC 3339"),
            ("2026-11-23", "not an RFC 3339"),
            ("2026-11-23T06:41:33", "not an RFC 3339"),
            ("2026-11-23T06:41:33.0000000001Z", "more than nine digits"),
            ("1600-01-01T00:00:00Z", "out of range"),
            ("2262-04-11T23:47:16.854775808Z", "out of range"),
        ] {
            let err = Timestamp::parse_rfc3339(text).unwrap_err();
            assert!(err.contains(part), "{text}: {err}");
        }
    }
}
