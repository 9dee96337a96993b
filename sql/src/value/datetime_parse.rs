//! Reading dates and times.
//!
//! Much of what PostgreSQL reads: ISO 8601 with `T` or a blank, `20260102`, names of months, `1/2/2026`
//! (month first), AM and PM, BC, zones as `Z`, `UTC` or an offset, `epoch`. Not: zones by their names, other
//! than UTC's, and words that mean the present (`now`, `today`) or no time at all (`infinity`).

use super::datetime::{days_from_civil, month_days};
use crate::SqlError;

/// What a text gave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Parts {
    /// Days since 1970-01-01.
    pub(super) days: Option<i64>,
    /// Nanoseconds since midnight, up to and with 24:00.
    pub(super) of_day_ns: Option<i64>,
    /// The zone, in seconds east of UTC.
    pub(super) offset_s: Option<i64>,
}

/// The longest text that can be one, in bytes.
const TEXT_BYTES_MAX: usize = 128;

/// 22007.
pub(super) fn invalid(what: &str, text: &str) -> SqlError {
    let shown: String = text.chars().take(100).collect();
    SqlError::new("22007", format!("invalid input syntax for type {what}: \"{shown}\""))
}

fn field_range(text: &str) -> SqlError {
    SqlError::new("22008", format!("date/time field value out of range: \"{text}\""))
}

/// English names of months: the first three letters tell them apart.
pub(crate) const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];
/// English names of days, from Sunday.
pub(crate) const WEEKDAYS: [&str; 7] = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];

fn by_name(names: &[&str], word: &str) -> Option<i64> {
    let found = names.iter().position(|name| {
        *name == word || (word.len() >= 3 && &name[..3] == word) || (word == "sept" && *name == "september")
    });
    found.map(|at| at as i64 + 1)
}

struct Reader<'a> {
    text: &'a str,
    what: &'a str,
    parts: Parts,
    year: Option<(i64, usize)>,
    month: Option<i64>,
    day: Option<i64>,
    bc: bool,
    pm: Option<bool>,
    /// Numbers whose meaning depends on what else there is.
    loose: Vec<(i64, usize)>,
}

/// Reads a text: 22007 if it is not of the form, 22008 if a part is out of range. `what` is the type, for messages.
pub(super) fn parse(text: &str, what: &str) -> Result<Parts, SqlError> {
    let bad = || invalid(what, text);
    let trimmed = text.trim();
    if trimmed.is_empty() || !trimmed.is_ascii() || trimmed.len() > TEXT_BYTES_MAX {
        return Err(bad());
    }
    let lower = trimmed.to_ascii_lowercase();
    match lower.as_str() {
        "epoch" if what != "time" => {
            return Ok(Parts { days: Some(0), of_day_ns: Some(0), offset_s: None });
        }
        "infinity" | "-infinity" | "+infinity" if what != "time" => {
            return Err(SqlError::unsupported(format!("the value {lower} of type {what}")));
        }
        "now" | "today" | "tomorrow" | "yesterday" => {
            return Err(
                SqlError::unsupported(format!("the value '{lower}' of type {what}")).hint("Use now() or current_date.")
            );
        }
        _ => {}
    }
    let mut reader = Reader {
        text: trimmed,
        what,
        parts: Parts::default(),
        year: None,
        month: None,
        day: None,
        bc: false,
        pm: None,
        loose: Vec::new(),
    };
    let mut rest = lower.as_str();
    while !rest.is_empty() {
        rest = reader.field(rest)?;
    }
    reader.finish()
}

fn digits(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

impl Reader<'_> {
    fn bad(&self) -> SqlError {
        invalid(self.what, self.text)
    }

    /// Takes one field off the front.
    fn field<'t>(&mut self, rest: &'t str) -> Result<&'t str, SqlError> {
        let first = rest.as_bytes()[0];
        match first {
            b' ' | b',' | b'\t' | b'\n' => Ok(&rest[1..]),
            b'0'..=b'9' => {
                let count = digits(rest);
                match rest.as_bytes().get(count) {
                    Some(b':') => self.clock(rest),
                    Some(b'-' | b'/' | b'.') if self.parts.days.is_none() && self.has_no_date() => {
                        self.date(rest, count)
                    }
                    _ => self.number(rest, count),
                }
            }
            b'+' | b'-' if self.parts.of_day_ns.is_some() || self.has_date() => self.zone(rest),
            // A dash between the parts of `8-Jan-1999`.
            b'-' | b'/' if !self.loose.is_empty() || self.month.is_some() => Ok(&rest[1..]),
            b'a'..=b'z' => self.word(rest),
            _ => Err(self.bad()),
        }
    }

    fn has_no_date(&self) -> bool {
        self.year.is_none() && self.month.is_none() && self.loose.is_empty()
    }

    fn has_date(&self) -> bool {
        self.year.is_some() && self.month.is_some() && self.day.is_some()
    }

    fn int(&self, text: &str) -> Result<i64, SqlError> {
        text.parse().map_err(|_| self.bad())
    }

    /// `2026-01-02`, `1/2/2026`, `2026.002`, `8-Jan-1999`.
    fn date<'t>(&mut self, rest: &'t str, count: usize) -> Result<&'t str, SqlError> {
        let separator = rest.as_bytes()[count];
        let first = self.int(&rest[..count])?;
        let after = &rest[count + 1..];
        let second_len = digits(after);
        if second_len == 0 {
            // The month's name is next.
            self.loose.push((first, count));
            return Ok(after);
        }
        let second = self.int(&after[..second_len])?;
        let tail = &after[second_len..];
        if tail.as_bytes().first() != Some(&separator) {
            if separator == b'.' && second_len == 3 && count >= 4 {
                // A year and a day of it.
                self.year = Some((first, count));
                self.month = Some(1);
                self.day = Some(second);
                if !(1..=366).contains(&second) {
                    return Err(field_range(self.text));
                }
                self.parts.days = Some(days_from_civil(first, 1, second));
                return Ok(tail);
            }
            return Err(self.bad());
        }
        let third_len = digits(&tail[1..]);
        if third_len == 0 {
            return Err(self.bad());
        }
        let third = self.int(&tail[1..1 + third_len])?;
        if count >= 3 {
            (self.year, self.month, self.day) = (Some((first, count)), Some(second), Some(third));
        } else {
            (self.month, self.day, self.year) = (Some(first), Some(second), Some((third, third_len)));
        }
        let left = &tail[1 + third_len..];
        // The T of ISO 8601.
        match left.as_bytes() {
            [b't', next, ..] if next.is_ascii_digit() => Ok(&left[1..]),
            _ => Ok(left),
        }
    }

    /// `03:04`, `03:04:05.678`.
    fn clock<'t>(&mut self, rest: &'t str) -> Result<&'t str, SqlError> {
        if self.parts.of_day_ns.is_some() {
            return Err(self.bad());
        }
        let hour_len = digits(rest);
        let minute_len = digits(&rest[hour_len + 1..]);
        if hour_len > 3 || !(1..=2).contains(&minute_len) {
            return Err(self.bad());
        }
        let hour = self.int(&rest[..hour_len])?;
        let minute = self.int(&rest[hour_len + 1..hour_len + 1 + minute_len])?;
        let mut left = &rest[hour_len + 1 + minute_len..];
        let (mut second, mut fraction) = (0, 0);
        if let Some(tail) = left.strip_prefix(':') {
            let second_len = digits(tail);
            if !(1..=2).contains(&second_len) {
                return Err(self.bad());
            }
            second = self.int(&tail[..second_len])?;
            left = &tail[second_len..];
            if let Some(tail) = left.strip_prefix('.') {
                let len = digits(tail);
                fraction = fraction_ns(&tail[..len]);
                left = &tail[len..];
            }
        }
        let total = (hour * 3600 + minute * 60 + second) * 1_000_000_000 + fraction;
        if hour > 24 || minute > 59 || second > 60 || total > super::datetime::DAY_NS {
            return Err(field_range(self.text));
        }
        self.parts.of_day_ns = Some(total);
        Ok(left)
    }

    /// A number that stands alone.
    fn number<'t>(&mut self, rest: &'t str, count: usize) -> Result<&'t str, SqlError> {
        let mut left = &rest[count..];
        let text = &rest[..count];
        if self.has_date() || self.parts.days.is_some() {
            // `040506`, `0405` after a date.
            if self.parts.of_day_ns.is_none() && matches!(count, 4 | 6) {
                let clock = match count {
                    4 => format!("{}:{}", &text[..2], &text[2..]),
                    _ => format!("{}:{}:{}", &text[..2], &text[2..4], &text[4..]),
                };
                self.clock(&clock)?;
                return Ok(left);
            }
            return Err(self.bad());
        }
        if count == 8 && self.has_no_date() {
            self.year = Some((self.int(&text[..4])?, 4));
            self.month = Some(self.int(&text[4..6])?);
            self.day = Some(self.int(&text[6..])?);
            if let [b't', next, ..] = left.as_bytes()
                && next.is_ascii_digit()
            {
                left = &left[1..];
            }
            return Ok(left);
        }
        if self.what == "time" && self.parts.of_day_ns.is_none() && matches!(count, 4 | 6) {
            let clock = match count {
                4 => format!("{}:{}", &text[..2], &text[2..]),
                _ => format!("{}:{}:{}", &text[..2], &text[2..4], &text[4..]),
            };
            self.clock(&clock)?;
            return Ok(left);
        }
        if count > 7 || self.loose.len() > 2 {
            return Err(self.bad());
        }
        self.loose.push((self.int(text)?, count));
        Ok(left)
    }

    /// `+02`, `-0330`, `+05:30:15`.
    fn zone<'t>(&mut self, rest: &'t str) -> Result<&'t str, SqlError> {
        if self.parts.offset_s.is_some() {
            return Err(self.bad());
        }
        let (offset, left) = parse_offset(rest).ok_or_else(|| self.bad())?;
        if offset.abs() >= 16 * 3600 {
            return Err(SqlError::new("22009", format!("time zone displacement out of range: \"{}\"", self.text)));
        }
        self.parts.offset_s = Some(offset);
        Ok(left)
    }

    fn word<'t>(&mut self, rest: &'t str) -> Result<&'t str, SqlError> {
        let count = rest.bytes().take_while(u8::is_ascii_lowercase).count();
        let (word, left) = rest.split_at(count);
        let mut left = left;
        match word {
            "z" | "utc" | "gmt" | "zulu" | "ut" if self.parts.offset_s.is_none() => self.parts.offset_s = Some(0),
            "am" | "pm" if self.pm.is_none() => self.pm = Some(word == "pm"),
            "bc" if !self.bc => self.bc = true,
            "ad" | "t" | "at" | "on" => {}
            _ if by_name(&MONTHS, word).is_some() && self.month.is_none() => {
                self.month = by_name(&MONTHS, word);
                left = left.strip_prefix('.').unwrap_or(left);
            }
            _ if by_name(&WEEKDAYS, word).is_some() => left = left.strip_prefix('.').unwrap_or(left),
            _ if self.parts.of_day_ns.is_some() && word.len() >= 2 => {
                let name = &rest[..rest.find(' ').unwrap_or(rest.len())];
                return Err(SqlError::new("22023", format!("time zone \"{name}\" not recognized"))
                    .hint("Give an offset such as +02: the only zone by name is UTC."));
            }
            _ => return Err(self.bad()),
        }
        Ok(left)
    }

    fn finish(mut self) -> Result<Parts, SqlError> {
        if self.month.is_some() && self.day.is_none() && self.year.is_none() {
            // `8 Jan 1999`, `January 8, 1999`, `1999-Jan-08`.
            match self.loose[..] {
                [(a, a_len), (b, b_len)] => {
                    if a_len > 2 || a > 31 {
                        (self.year, self.day) = (Some((a, a_len)), Some(b));
                    } else {
                        (self.year, self.day) = (Some((b, b_len)), Some(a));
                    }
                }
                _ => return Err(self.bad()),
            }
        } else if !self.loose.is_empty() {
            return Err(self.bad());
        }
        if let Some(pm) = self.pm {
            let ns = self.parts.of_day_ns.ok_or_else(|| self.bad())?;
            let hour = ns / 3_600_000_000_000;
            if !(1..=12).contains(&hour) {
                return Err(field_range(self.text));
            }
            let shift = match (pm, hour) {
                (true, 12) => 0,
                (true, _) => 12,
                (false, 12) => -12,
                (false, _) => 0,
            };
            self.parts.of_day_ns = Some(ns + shift * 3_600_000_000_000);
        }
        if self.parts.days.is_none()
            && let (Some((year, year_len)), Some(month), Some(day)) = (self.year, self.month, self.day)
        {
            let year = match (year_len, self.bc) {
                // Two digits: 1970 to 2069.
                (0..=2, false) => year + if year < 70 { 2000 } else { 1900 },
                (_, true) if year > 0 => 1 - year,
                (_, true) => return Err(field_range(self.text)),
                (_, false) if year == 0 => return Err(field_range(self.text)),
                (_, false) => year,
            };
            if !(1..=12).contains(&month) || !(1..=month_days(year, month)).contains(&day) {
                let error = field_range(self.text);
                // As PostgreSQL: a month that can only be a day hints at the order.
                return Err(if month > 12 && self.text.contains('/') {
                    error.hint("Perhaps you need a different \"datestyle\" setting.")
                } else {
                    error
                });
            }
            self.parts.days = Some(days_from_civil(year, month, day));
        } else if self.parts.days.is_none() && (self.bc || self.month.is_some()) {
            return Err(self.bad());
        }
        Ok(self.parts)
    }
}

/// Nanoseconds of a fraction's digits, rounded.
pub(super) fn fraction_ns(digits: &str) -> i64 {
    let kept: i64 = format!("{:0<9}", &digits[..digits.len().min(9)]).parse().expect("digits");
    kept + i64::from(digits.as_bytes().get(9).is_some_and(|digit| *digit >= b'5'))
}

/// Seconds east of UTC of `+02`, `-0330`, `+05:30:15`, and what follows.
pub(crate) fn parse_offset(text: &str) -> Option<(i64, &str)> {
    let negative = match text.as_bytes().first()? {
        b'+' => false,
        b'-' => true,
        _ => return None,
    };
    let body = &text[1..];
    let count = digits(body);
    let (mut seconds, mut left) = match count {
        1 | 2 => (body[..count].parse::<i64>().ok()? * 3600, &body[count..]),
        3 | 4 => {
            let at = count - 2;
            let minutes: i64 = body[at..count].parse().ok()?;
            if minutes > 59 {
                return None;
            }
            (body[..at].parse::<i64>().ok()? * 3600 + minutes * 60, &body[count..])
        }
        _ => return None,
    };
    if count <= 2 {
        for unit in [60, 1] {
            let Some(tail) = left.strip_prefix(':') else { break };
            let len = digits(tail);
            let value: i64 = tail[..len].parse().ok().filter(|v| len == 2 && *v < 60)?;
            seconds += value * unit;
            left = &tail[len..];
        }
    }
    Some((if negative { -seconds } else { seconds }, left))
}
