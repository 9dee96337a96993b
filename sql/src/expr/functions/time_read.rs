//! `to_timestamp` and `to_date`: reading times by a pattern.

use super::text_of;
use super::time::timestamp;
use super::time_format::{Piece, pieces};
use crate::SqlError;
use crate::expr::signature::short::{TEXT, out};
use crate::expr::signature::{Signature, strict as f};
use crate::types::Datum;
use crate::value::datetime::{self, DAY_NS, days_from_civil, month_days};
use crate::value::datetime_parse::{MONTHS, WEEKDAYS, parse_offset};

pub(super) const FUNCTIONS: &[Signature] = &[
    f("to_timestamp", &[TEXT, TEXT], out::TSTZ, |a, e| timestamp(read(text_of(&a[0]), text_of(&a[1]))?, e.result)),
    f("to_date", &[TEXT, TEXT], out::DATE, |a, _| {
        let ns = read(text_of(&a[0]), text_of(&a[1]))?;
        datetime::check_date(ns.div_euclid(i128::from(DAY_NS)) as i64).map(Datum::Date)
    }),
];

/// What was read.
#[derive(Default)]
struct Read {
    year: Option<i64>,
    month: Option<i64>,
    day: Option<i64>,
    day_of_year: Option<i64>,
    julian: Option<i64>,
    hour: i64,
    twelve: bool,
    pm: Option<bool>,
    minute: i64,
    second: i64,
    nanos: i64,
    of_day: Option<i64>,
    bc: bool,
    offset_s: i64,
}

fn bad(text: &str, key: &str) -> SqlError {
    let shown: String = text.chars().take(20).collect();
    SqlError::new("22007", format!("invalid value \"{shown}\" for \"{key}\"")).detail("Value must be an integer.")
}

fn range(text: &str) -> SqlError {
    let shown: String = text.chars().take(60).collect();
    SqlError::new("22008", format!("date/time field value out of range: \"{shown}\""))
}

/// Takes a number of at most so many digits.
fn number(rest: &mut &str, width: usize, key: &str) -> Result<(i64, usize), SqlError> {
    *rest = rest.trim_start();
    let signed = rest.strip_prefix('-').filter(|_| key.ends_with("YYYY"));
    let body = signed.unwrap_or(rest);
    let count = body.bytes().take(width).take_while(u8::is_ascii_digit).count();
    if count == 0 {
        return Err(bad(rest, key));
    }
    let value: i64 = body[..count].parse().map_err(|_| bad(rest, key))?;
    *rest = &body[count..];
    Ok((if signed.is_some() { -value } else { value }, count))
}

/// Takes a name, whole or by its first three letters.
fn name(rest: &mut &str, names: &[&str], whole: bool, key: &str) -> Result<i64, SqlError> {
    *rest = rest.trim_start();
    let lower = rest.to_ascii_lowercase();
    let found = names.iter().position(|name| lower.starts_with(if whole { name } else { &name[..3] }));
    let Some(at) = found else {
        let shown: String = rest.chars().take(20).collect();
        return Err(SqlError::new("22007", format!("invalid value \"{shown}\" for \"{key}\""))
            .detail("The given value did not match any of the allowed values for this field."));
    };
    *rest = &rest[if whole { names[at].len() } else { 3 }..];
    Ok(at as i64 + 1)
}

fn word(rest: &mut &str, words: &[&str], key: &str) -> Result<usize, SqlError> {
    *rest = rest.trim_start();
    let lower = rest.to_ascii_lowercase();
    let at = words.iter().position(|word| lower.starts_with(word)).ok_or_else(|| bad(rest, key))?;
    *rest = &rest[words[at].len()..];
    Ok(at)
}

fn read(text: &str, pattern: &str) -> Result<i128, SqlError> {
    let mut rest = text;
    let mut v = Read::default();
    let pieces = pieces(pattern);
    for (at, piece) in pieces.iter().enumerate() {
        let key = match piece {
            Piece::Text(separator) => {
                skip(&mut rest, separator);
                continue;
            }
            Piece::Key { key, .. } => *key,
        };
        if rest.trim().is_empty() {
            break;
        }
        // A number before another number has its own width; else all digits are its.
        let next_is_key = matches!(pieces.get(at + 1), Some(Piece::Key { .. }));
        let year_width = if next_is_key { 4 } else { 7 };
        match key {
            "YYYY" | "IYYY" => v.year = Some(number(&mut rest, year_width, key)?.0),
            "YYY" | "YY" | "Y" | "IYY" | "IY" | "I" => {
                let width = key.len() - usize::from(key.starts_with('I') && key != "I");
                let (short, count) = number(&mut rest, width.max(if next_is_key { 0 } else { 4 }), key)?;
                v.year = Some(match count {
                    1 | 2 => short + if short < 70 { 2000 } else { 1900 },
                    3 => short + if short < 520 { 2000 } else { 1000 },
                    _ => short,
                });
            }
            "Y,YYY" => {
                let (thousands, _) = number(&mut rest, 3, key)?;
                rest = rest.strip_prefix(',').ok_or_else(|| bad(rest, key))?;
                v.year = Some(thousands * 1000 + number(&mut rest, 3, key)?.0);
            }
            "MM" => v.month = Some(number(&mut rest, 2, key)?.0),
            "MONTH" => v.month = Some(name(&mut rest, &MONTHS, true, key)?),
            "MON" => v.month = Some(name(&mut rest, &MONTHS, false, key)?),
            "DD" => v.day = Some(number(&mut rest, 2, key)?.0),
            "DDD" => v.day_of_year = Some(number(&mut rest, 3, key)?.0),
            "J" => v.julian = Some(number(&mut rest, 8, key)?.0),
            "DAY" => drop(name(&mut rest, &WEEKDAYS, true, key)?),
            "DY" => drop(name(&mut rest, &WEEKDAYS, false, key)?),
            "D" | "ID" | "Q" | "W" => drop(number(&mut rest, 1, key)?),
            "WW" | "IW" | "CC" => drop(number(&mut rest, 2, key)?),
            "HH24" => v.hour = number(&mut rest, 2, key)?.0,
            "HH" | "HH12" => (v.hour, v.twelve) = (number(&mut rest, 2, key)?.0, true),
            "MI" => v.minute = number(&mut rest, 2, key)?.0,
            "SS" => v.second = number(&mut rest, 2, key)?.0,
            "SSSS" | "SSSSS" => v.of_day = Some(number(&mut rest, 5, key)?.0),
            "MS" | "US" | "FF1" | "FF2" | "FF3" | "FF4" | "FF5" | "FF6" => {
                let width = match key {
                    "MS" => 3,
                    "US" => 6,
                    _ => usize::from(key.as_bytes()[2] - b'0'),
                };
                let (value, count) = number(&mut rest, width, key)?;
                v.nanos = value * 10i64.pow(9 - count as u32);
            }
            "AM" | "PM" => v.pm = Some(word(&mut rest, &["am", "pm"], key)? == 1),
            "A.M." | "P.M." => v.pm = Some(word(&mut rest, &["a.m.", "p.m."], key)? == 1),
            "BC" | "AD" => v.bc = word(&mut rest, &["ad", "bc"], key)? == 1,
            "B.C." | "A.D." => v.bc = word(&mut rest, &["a.d.", "b.c."], key)? == 1,
            "TZH" | "OF" | "TZ" => {
                rest = rest.trim_start();
                match parse_offset(rest) {
                    Some((offset, left)) => (v.offset_s, rest) = (offset, left),
                    None => drop(word(&mut rest, &["utc", "gmt", "z"], key)?),
                }
            }
            "TZM" => v.offset_s += number(&mut rest, 2, key)?.0 * 60 * v.offset_s.signum(),
            other => {
                return Err(SqlError::new(
                    "0A000",
                    format!("formatting field \"{other}\" is only supported in to_char"),
                ));
            }
        }
    }
    v.instant(text)
}

/// As PostgreSQL: a separator of the pattern takes any separator of the text, and blanks.
fn skip(rest: &mut &str, separator: &str) {
    for c in separator.chars() {
        if c.is_alphanumeric() {
            *rest = rest.strip_prefix(c).unwrap_or_else(|| rest.get(1..).unwrap_or(rest));
            continue;
        }
        let trimmed = rest.trim_start();
        *rest = match trimmed.chars().next() {
            Some(next) if !next.is_alphanumeric() && !matches!(next, '+' | '-') || trimmed.starts_with(c) => {
                &trimmed[trimmed.chars().next().map_or(0, char::len_utf8)..]
            }
            _ => trimmed,
        };
    }
}

impl Read {
    fn instant(self, text: &str) -> Result<i128, SqlError> {
        let year = match (self.year, self.bc) {
            (Some(year), true) => 1 - year,
            (Some(year), false) if year < 0 => year + 1,
            // No year at all is 1 BC.
            (year, _) => year.unwrap_or(0),
        };
        let days = if let Some(julian) = self.julian {
            julian - 2_440_588
        } else if let Some(day) = self.day_of_year {
            days_from_civil(year, 1, day)
        } else {
            let (month, day) = (self.month.unwrap_or(1), self.day.unwrap_or(1));
            if !(1..=12).contains(&month) {
                return Err(range(text));
            }
            if !(1..=month_days(year, month)).contains(&day) {
                return Err(range(text));
            }
            days_from_civil(year, month, day)
        };
        let mut hour = self.hour;
        if self.twelve || self.pm.is_some() {
            if !(1..=12).contains(&hour) {
                return Err(SqlError::new("22007", format!("hour \"{hour}\" is invalid for the 12-hour clock"))
                    .hint("Use the 24-hour clock, or give an hour between 1 and 12."));
            }
            hour = hour % 12 + if self.pm == Some(true) { 12 } else { 0 };
        }
        if hour > 24 || self.minute > 59 || self.second > 59 {
            return Err(range(text));
        }
        let seconds = self.of_day.unwrap_or(hour * 3600 + self.minute * 60 + self.second) - self.offset_s;
        Ok(i128::from(days) * i128::from(DAY_NS) + i128::from(seconds) * 1_000_000_000 + i128::from(self.nanos))
    }
}
