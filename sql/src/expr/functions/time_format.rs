//! `to_char` of times, and the patterns that `to_timestamp` reads by.

use super::calendar::{iso_week, weekday};
use super::new_text;
use super::text_of;
use super::time::{instant, interval};
use crate::SqlError;
use crate::expr::signature::short::{IVL, TEXT, TIME, TS, TSTZ, out};
use crate::expr::signature::{Signature, strict as f};
use crate::types::Datum;
use crate::value::datetime::{DAY_NS, civil_from_days, days_from_civil};
use crate::value::datetime_parse::{MONTHS, WEEKDAYS};

pub(super) const FUNCTIONS: &[Signature] = &[
    f("to_char", &[TS, TEXT], out::TEXT, |a, _| format(fields(instant(&a[0])), text_of(&a[1]))),
    f("to_char", &[TSTZ, TEXT], out::TEXT, |a, _| format(fields(instant(&a[0])), text_of(&a[1]))),
    f("to_char", &[IVL, TEXT], out::TEXT, |a, _| {
        let v = interval(&a[0]);
        let seconds = v.nanos / 1_000_000_000;
        let fields = Fields {
            year: i64::from(v.months / 12),
            month: i64::from(v.months % 12),
            day: i64::from(v.days),
            days: None,
            hour: seconds / 3600,
            minute: seconds / 60 % 60,
            second: seconds % 60,
            nanos: v.nanos % 1_000_000_000,
        };
        format(fields, text_of(&a[1]))
    }),
    f("to_char", &[TIME, TEXT], out::TEXT, |a, _| {
        let Datum::Time(us) = a[0] else { panic!("a function that takes a time was given {:?}", a[0]) };
        format(fields(i128::from(us) * 1000), text_of(&a[1]))
    }),
];

/// What is printed.
struct Fields {
    year: i64,
    month: i64,
    day: i64,
    /// Days since 1970; `None` of an interval, which has no place in the calendar.
    days: Option<i64>,
    hour: i64,
    minute: i64,
    second: i64,
    nanos: i64,
}

fn fields(ns: i128) -> Fields {
    let days = ns.div_euclid(i128::from(DAY_NS)) as i64;
    let of_day = ns.rem_euclid(i128::from(DAY_NS)) as i64;
    let (year, month, day) = civil_from_days(days);
    let seconds = of_day / 1_000_000_000;
    Fields {
        year,
        month,
        day,
        days: Some(days),
        hour: seconds / 3600,
        minute: seconds / 60 % 60,
        second: seconds % 60,
        nanos: of_day % 1_000_000_000,
    }
}

/// A piece of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// A keyword, with FM before it and TH or th after it.
    Key {
        /// In upper case.
        key: &'static str,
        /// As it was written, whose letters say which case the output has.
        written: String,
        /// Without padding.
        plain: bool,
        /// TH, th.
        ordinal: Option<&'static str>,
    },
    /// Itself.
    Text(String),
}

/// The keywords, the longer before those that begin them.
const KEYS: &[&str] = &[
    "TZH", "TZM", "HH24", "HH12", "SSSSS", "SSSS", "IYYY", "IYY", "Y,YYY", "YYYY", "YYY", "MONTH", "MON", "DAY",
    "IDDD", "DDD", "FF1", "FF2", "FF3", "FF4", "FF5", "FF6", "A.M.", "P.M.", "B.C.", "A.D.", "HH", "MI", "SS", "MS",
    "US", "AM", "PM", "BC", "AD", "IY", "YY", "MM", "DD", "ID", "DY", "WW", "IW", "CC", "TZ", "OF", "RM", "I", "Y",
    "D", "W", "J", "Q",
];

/// Takes a pattern apart.
pub(super) fn pieces(pattern: &str) -> Vec<Piece> {
    let mut out: Vec<Piece> = Vec::new();
    let mut rest = pattern;
    let mut plain = false;
    let push = |out: &mut Vec<Piece>, text: &str| match out.last_mut() {
        Some(Piece::Text(last)) => last.push_str(text),
        _ => out.push(Piece::Text(text.into())),
    };
    while let Some(first) = rest.chars().next() {
        let upper: String = rest.chars().take(8).collect::<String>().to_ascii_uppercase();
        if let Some(tail) = rest.strip_prefix('"') {
            let end = tail.find('"').unwrap_or(tail.len());
            push(&mut out, &tail[..end]);
            rest = &tail[(end + 1).min(tail.len())..];
            continue;
        }
        if upper.starts_with("FM") || upper.starts_with("FX") || upper.starts_with("TM") {
            plain |= !upper.starts_with("FX");
            rest = &rest[2..];
            continue;
        }
        match KEYS.iter().find(|key| upper.starts_with(**key)) {
            Some(key) => {
                let (written, tail) = rest.split_at(key.len());
                rest = tail;
                let ordinal = ["TH", "th"].into_iter().find(|suffix| rest.starts_with(*suffix));
                rest = &rest[ordinal.map_or(0, str::len)..];
                out.push(Piece::Key { key, written: written.into(), plain, ordinal });
                plain = false;
            }
            None => {
                push(&mut out, &rest[..first.len_utf8()]);
                rest = &rest[first.len_utf8()..];
            }
        }
    }
    out
}

fn ordinal(number: i64, suffix: &str) -> String {
    let ending = match (number.abs() % 100, number.abs() % 10) {
        (11..=13, _) => "th",
        (_, 1) => "st",
        (_, 2) => "nd",
        (_, 3) => "rd",
        _ => "th",
    };
    if suffix == "TH" { ending.to_uppercase() } else { ending.into() }
}

/// A name in the case that the pattern was written in, padded to nine unless FM.
fn name(full: &str, written: &str, length: usize, plain: bool) -> String {
    let short = &full[..length.min(full.len())];
    let second_is_upper = written.chars().nth(1).is_some_and(|c| c.is_ascii_uppercase());
    let first_is_upper = written.starts_with(|c: char| c.is_ascii_uppercase());
    let text = match (first_is_upper, second_is_upper) {
        (true, true) => short.to_uppercase(),
        (true, false) => short[..1].to_uppercase() + &short[1..],
        (false, _) => short.into(),
    };
    if plain || length <= 3 { text } else { format!("{text:<9}") }
}

fn format(v: Fields, pattern: &str) -> Result<Datum, SqlError> {
    let mut out = String::new();
    for piece in pieces(pattern) {
        let (key, written, plain, suffix) = match piece {
            Piece::Text(text) => {
                out.push_str(&text);
                continue;
            }
            Piece::Key { key, written, plain, ordinal } => (key, written, plain, ordinal),
        };
        let is_lower = written.starts_with(|c: char| c.is_ascii_lowercase());
        let cased = |text: &str| if is_lower { text.to_lowercase() } else { text.to_string() };
        let calendar = || {
            v.days.ok_or_else(|| {
                SqlError::new("22007", "invalid format specification for an interval value")
                    .hint("Intervals are not tied to specific calendar dates.")
            })
        };
        let shown_year = |year: i64| if year > 0 || v.days.is_none() { year } else { 1 - year };
        let twelve = |hour: i64| if hour % 12 == 0 { 12 } else { hour % 12 };
        // Numbers with their widths; the rest is text already.
        let (number, width) = match key {
            "YYYY" => (shown_year(v.year), 4),
            "YYY" => (shown_year(v.year) % 1000, 3),
            "YY" => (shown_year(v.year) % 100, 2),
            "Y" => (shown_year(v.year) % 10, 1),
            "IYYY" => (shown_year(iso_week(calendar()?).1), 4),
            "IYY" => (iso_week(calendar()?).1 % 1000, 3),
            "IY" => (iso_week(calendar()?).1 % 100, 2),
            "I" => (iso_week(calendar()?).1 % 10, 1),
            "MM" => (v.month, 2),
            "DD" => (v.day, 2),
            "DDD" => {
                (v.days.map_or(v.year * 360 + v.month * 30 + v.day, |days| days - days_from_civil(v.year, 1, 1) + 1), 3)
            }
            "IDDD" => {
                let (week, _) = iso_week(calendar()?);
                ((week - 1) * 7 + (weekday(calendar()?) + 6) % 7 + 1, 3)
            }
            "D" => (weekday(calendar()?) + 1, 1),
            "ID" => ((weekday(calendar()?) + 6) % 7 + 1, 1),
            "WW" => ((calendar()? - days_from_civil(v.year, 1, 1)) / 7 + 1, 2),
            "IW" => (iso_week(calendar()?).0, 2),
            "W" => ((v.day - 1) / 7 + 1, 1),
            "Q" => ((v.month - 1) / 3 + 1, 1),
            "CC" => (if v.year > 0 { (v.year + 99) / 100 } else { v.year / 100 }, 2),
            "J" => (calendar()? + 2_440_588, 0),
            "HH" | "HH12" => (twelve(v.hour), 2),
            "HH24" => (v.hour, 2),
            "MI" => (v.minute, 2),
            "SS" => (v.second, 2),
            "MS" => (v.nanos / 1_000_000, 3),
            "US" => (v.nanos / 1_000, 6),
            "SSSS" | "SSSSS" => (v.hour * 3600 + v.minute * 60 + v.second, 0),
            _ => {
                let fraction = |digits: usize| format!("{:09}", v.nanos.abs())[..digits].to_string();
                let afternoon = v.hour % 24 >= 12;
                let text = match key {
                    "Y,YYY" => {
                        let year = shown_year(v.year);
                        format!("{},{:03}", year / 1000, year % 1000)
                    }
                    "MONTH" => name(MONTHS[(v.month.max(1) - 1) as usize], &written, 9, plain),
                    "MON" => name(MONTHS[(v.month.max(1) - 1) as usize], &written, 3, plain),
                    "DAY" => name(WEEKDAYS[weekday(calendar()?) as usize], &written, 9, plain),
                    "DY" => name(WEEKDAYS[weekday(calendar()?) as usize], &written, 3, plain),
                    "AM" | "PM" => cased(if afternoon { "PM" } else { "AM" }),
                    "A.M." | "P.M." => cased(if afternoon { "P.M." } else { "A.M." }),
                    "BC" | "AD" => cased(if v.year > 0 { "AD" } else { "BC" }),
                    "B.C." | "A.D." => cased(if v.year > 0 { "A.D." } else { "B.C." }),
                    "TZ" => cased("UTC"),
                    "OF" | "TZH" => "+00".into(),
                    "TZM" => "00".into(),
                    "RM" => {
                        let roman = ["I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII"];
                        let text = cased(roman[(v.month.max(1) - 1) as usize]);
                        if plain { text } else { format!("{text:<4}") }
                    }
                    _ => fraction(usize::from(key.as_bytes()[2] - b'0')),
                };
                out.push_str(&text);
                continue;
            }
        };
        if plain || width == 0 {
            out.push_str(&number.to_string());
        } else {
            let sign = if number < 0 { "-" } else { "" };
            out.push_str(&format!("{sign}{:0width$}", number.abs()));
        }
        if let Some(suffix) = suffix {
            out.push_str(&ordinal(number, suffix));
        }
    }
    new_text(out)
}
