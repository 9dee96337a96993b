//! Durations as users write them: `100us`, `7ms`, `-1.5s`, `0s`.

/// Units from the largest to the smallest, with their nanoseconds. `µs` has two spellings in
/// Unicode, both read as `us`.
const UNITS: [(&str, i64); 6] = [
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Nanoseconds from text: an optional sign, digits with an optional fraction, and one of the units
/// ns, us (µs), ms, s, m, h; a plain `0` needs no unit. The error is a lower-case sentence: no
/// number, no unit, unknown unit, finer than a nanosecond, or beyond 64 bits (about 292 years).
pub fn parse_duration_ns(text: &str) -> Result<i64, String> {
    let trimmed = text.trim();
    let (negative, unsigned) = match trimmed.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, trimmed.strip_prefix('+').unwrap_or(trimmed)),
    };
    let number_len = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
    let (number, unit) = unsigned.split_at(number_len);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || fraction.contains('.') || (number.contains('.') && fraction.is_empty()) {
        return Err(format!("{text:?} is not a duration: expected a number and a unit, such as 7ms"));
    }
    let unit_ns = match unit {
        "" if number.bytes().all(|b| b == b'0' || b == b'.') => 1,
        "" => {
            return Err(format!("duration {text:?} has no unit: write {trimmed}ms or another of ns, us, ms, s, m, h"));
        }
        "µs" | "μs" => 1_000,
        _ => match UNITS.iter().find(|(name, _)| *name == unit) {
            Some((_, ns)) => *ns,
            None => return Err(format!("duration {text:?} has the unknown unit {unit:?}: use ns, us, ms, s, m or h")),
        },
    };

    let too_large = || format!("duration {text:?} is too large: at most 292 years");
    let mut ns = 0i128;
    for digit in whole.bytes() {
        ns = ns * 10 + i128::from(digit - b'0');
        if ns > i128::from(u64::MAX) {
            return Err(too_large());
        }
    }
    ns *= i128::from(unit_ns);
    // 3.6e12 ns in an hour have 14 digits of fraction at most before a nanosecond is split.
    let fraction = fraction.trim_end_matches('0');
    if !fraction.is_empty() {
        let finer = || format!("duration {text:?} is finer than a nanosecond");
        let digits: i128 =
            if fraction.len() <= 14 { fraction.parse().map_err(|_| finer())? } else { return Err(finer()) };
        let (product, scale) = (digits * i128::from(unit_ns), 10i128.pow(fraction.len() as u32));
        if product % scale != 0 {
            return Err(finer());
        }
        ns += product / scale;
    }
    let signed = if negative { -ns } else { ns };
    i64::try_from(signed).map_err(|_| too_large())
}

/// The shortest exact text that [`parse_duration_ns`] reads back to the same number: `100us`,
/// `1.5ms`, `90s`, `2h`, `-40ms`, and `0s`.
pub fn format_duration_ns(ns: i64) -> String {
    if ns == 0 {
        return "0s".to_string();
    }
    let sign = if ns < 0 { "-" } else { "" };
    let ns = ns.unsigned_abs();
    // People read 90s more easily than 1.5m: minutes and hours only when they are whole.
    for (unit, unit_ns) in UNITS {
        let unit_ns = unit_ns.unsigned_abs();
        let (whole, rest) = (ns / unit_ns, ns % unit_ns);
        if rest == 0 && whole > 0 {
            return format!("{sign}{whole}{unit}");
        }
        if whole > 0 && unit_ns <= 1_000_000_000 {
            let width = unit_ns.ilog10() as usize;
            let fraction = format!("{rest:0width$}");
            return format!("{sign}{whole}.{}{unit}", fraction.trim_end_matches('0'));
        }
    }
    unreachable!("every nonzero number has whole nanoseconds")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};

    #[test]
    fn reads_every_unit_sign_and_fraction() {
        for (text, ns) in [
            ("0", 0),
            ("0s", 0),
            ("0.0", 0),
            ("1ns", 1),
            ("100us", 100_000),
            ("100µs", 100_000),
            ("100μs", 100_000),
            ("7ms", 7_000_000),
            ("+40ms", 40_000_000),
            ("-1.5s", -1_500_000_000),
            ("1.000000001s", 1_000_000_001),
            ("2m", 120_000_000_000),
            (" 1h ", 3_600_000_000_000),
            ("-9223372036854775808ns", i64::MIN),
            ("9223372036854775807ns", i64::MAX),
        ] {
            assert_eq!(parse_duration_ns(text), Ok(ns), "{text}");
        }
    }

    #[test]
    fn says_what_is_wrong() {
        for (text, part) in [
            ("", "not a duration"),
            ("ms", "not a duration"),
            ("-", "not a duration"),
            ("--1s", "not a duration"),
            ("1.s", "not a duration"),
            (".5s", "not a duration"),
            ("1.2.3s", "not a duration"),
            ("7", "no unit"),
            ("7 ms", "unknown unit"),
            ("7days", "unknown unit"),
            ("0.5ns", "finer than a nanosecond"),
            ("1.0000000000000000001h", "finer than a nanosecond"),
            ("9223372036854775808ns", "too large"),
            ("99999999999999999999999999999999999999999999h", "too large"),
        ] {
            let err = parse_duration_ns(text).unwrap_err();
            assert!(err.contains(part), "{text}: {err}");
        }
    }

    #[test]
    fn formats_for_people() {
        for (ns, text) in [
            (0, "0s"),
            (1, "1ns"),
            (999, "999ns"),
            (1_500, "1.5us"),
            (100_000, "100us"),
            (7_000_000, "7ms"),
            (-40_000_000, "-40ms"),
            (90_000_000_000, "90s"),
            (120_000_000_000, "2m"),
            (7_200_000_000_000, "2h"),
        ] {
            assert_eq!(format_duration_ns(ns), text);
        }
    }

    #[test]
    fn what_is_printed_reads_back() {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
        for ns in [i64::MIN, i64::MIN + 1, -1, 0, 1, i64::MAX] {
            assert_eq!(parse_duration_ns(&format_duration_ns(ns)), Ok(ns));
        }
        for _ in 0..20_000 {
            // All magnitudes alike, and round numbers as often as odd ones.
            let ns: i64 = rng.random::<i64>() >> rng.random_range(0..63);
            let round = 10i64.pow(rng.random_range(0..12));
            for ns in [ns, ns / round * round] {
                assert_eq!(parse_duration_ns(&format_duration_ns(ns)), Ok(ns));
            }
        }
    }
}
