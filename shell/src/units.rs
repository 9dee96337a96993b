//! Timestamps and durations as text.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};

/// Nanoseconds since the epoch as RFC 3339 in UTC, with as many digits as it needs.
pub fn timestamp(ns: i64) -> String {
    DateTime::<Utc>::from_timestamp_nanos(ns).to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

/// As [`timestamp`], in PostgreSQL's form: `2026-01-02 03:04:05.678+00`.
pub fn sql_timestamp(ns: i64) -> String {
    let text = DateTime::<Utc>::from_timestamp_nanos(ns).format("%Y-%m-%d %H:%M:%S%.9f").to_string();
    format!("{}+00", text.trim_end_matches('0').trim_end_matches('.'))
}

/// Nanoseconds as milliseconds with three significant places at most, such as `12.3` or `0.045`.
pub fn ms(ns: i64) -> String {
    let ms = ns as f64 / 1e6;
    if ms.abs() >= 100.0 {
        format!("{ms:.0}")
    } else if ms.abs() >= 1.0 {
        format!("{ms:.1}")
    } else {
        format!("{ms:.3}")
    }
}

/// A duration for people: `950 ms`, `12.3 s`, `4 m 05 s`, `3 h 20 m`.
pub fn human(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{} ms", duration.as_millis()),
        1..60 => format!("{:.1} s", duration.as_secs_f64()),
        60..3600 => format!("{} m {:02} s", seconds / 60, seconds % 60),
        3600..86400 => format!("{} h {:02} m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {:02} h", seconds / 86400, seconds / 3600 % 24),
    }
}

/// Parses `30s`, `5m`, `1h`, `100ms`, `250us`, `1.5s`; a bare number is seconds.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let bad = || format!("'{text}' is not a duration: write it like 30s, 5m or 100ms");
    let number: f64 = number.parse().map_err(|_| bad())?;
    let seconds = match unit.trim() {
        "ns" => number / 1e9,
        "us" | "µs" => number / 1e6,
        "ms" => number / 1e3,
        "s" | "" => number,
        "m" | "min" => number * 60.0,
        "h" => number * 3600.0,
        "d" => number * 86400.0,
        _ => return Err(bad()),
    };
    Duration::try_from_secs_f64(seconds).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(parse_duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(parse_duration("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(parse_duration("100ms"), Ok(Duration::from_millis(100)));
        assert_eq!(parse_duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_duration("7"), Ok(Duration::from_secs(7)));
        for bad in ["", "s", "-5s", "5 parsecs", "1e99999d", "..s"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
        assert_eq!(human(Duration::from_millis(950)), "950 ms");
        assert_eq!(human(Duration::from_secs(245)), "4 m 05 s");
    }

    #[test]
    fn timestamps() {
        assert_eq!(timestamp(0), "1970-01-01T00:00:00Z");
        assert_eq!(sql_timestamp(0), "1970-01-01 00:00:00+00");
        assert_eq!(sql_timestamp(-10_000_000), "1969-12-31 23:59:59.99+00");
        assert_eq!(timestamp(1_700_000_000_123_000_000), "2023-11-14T22:13:20.123Z");
        assert_eq!(timestamp(1_700_000_000_123_456_789), "2023-11-14T22:13:20.123456789Z");
        assert_eq!(ms(12_345_678), "12.3");
        assert_eq!(ms(45_000), "0.045");
    }
}
