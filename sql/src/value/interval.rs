//! INTERVAL: months, days and a time of nanoseconds, which are not converted into each other.
//!
//! Text is in PostgreSQL's form (`1 year 2 mons 3 days 04:05:06.789`); ISO 8601's (`P1Y2M3DT4H5M6S`) and
//! SQL's (`1-2 3 04:05:06`) are read too. For comparison a month has 30 days and a day 24 hours, so that
//! `1 mon` and `30 days` are equal.

use super::datetime::{DAY_NS, push_seconds};
use super::datetime_parse::fraction_ns;
use crate::SqlError;

/// A length of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interval {
    /// Months; 12 are a year.
    pub months: i32,
    /// Days.
    pub days: i32,
    /// Nanoseconds.
    pub nanos: i64,
}

/// Nanoseconds of a second.
const SECOND_NS: i64 = 1_000_000_000;
/// Nanoseconds of an hour.
const HOUR_NS: i64 = 3600 * SECOND_NS;
/// The longest text, in bytes.
const TEXT_BYTES_MAX: usize = 256;

/// 22008.
pub fn out_of_range() -> SqlError {
    SqlError::new("22008", "interval out of range")
}

fn invalid(text: &str) -> SqlError {
    let shown: String = text.chars().take(100).collect();
    SqlError::new("22007", format!("invalid input syntax for type interval: \"{shown}\""))
}

impl Interval {
    /// So many nanoseconds.
    pub fn from_nanos(nanos: i64) -> Interval {
        Interval { nanos, ..Interval::default() }
    }

    /// For comparison: all of it in nanoseconds.
    pub fn total_ns(self) -> i128 {
        let days = i128::from(self.months) * 30 + i128::from(self.days);
        days * i128::from(DAY_NS) + i128::from(self.nanos)
    }

    /// One with this total: the inverse of `total_ns`, but for how it is divided. `None` if there is none.
    pub fn from_total_ns(total: i128) -> Option<Interval> {
        let day = i128::from(DAY_NS);
        let clamp = |v: i128| v.clamp(i128::from(i32::MIN), i128::from(i32::MAX));
        // What does not fit into one unit stays in the next.
        let months = clamp(total / day / 30);
        let rest = total - months * 30 * day;
        let days = clamp(rest / day);
        let nanos = i64::try_from(rest - days * day).ok()?;
        Some(Interval { months: months as i32, days: days as i32, nanos })
    }

    /// The sum: 22008.
    pub fn plus(self, other: Interval) -> Result<Interval, SqlError> {
        Ok(Interval {
            months: self.months.checked_add(other.months).ok_or_else(out_of_range)?,
            days: self.days.checked_add(other.days).ok_or_else(out_of_range)?,
            nanos: self.nanos.checked_add(other.nanos).ok_or_else(out_of_range)?,
        })
    }

    /// The other way: 22008.
    pub fn negated(self) -> Result<Interval, SqlError> {
        Ok(Interval {
            months: self.months.checked_neg().ok_or_else(out_of_range)?,
            days: self.days.checked_neg().ok_or_else(out_of_range)?,
            nanos: self.nanos.checked_neg().ok_or_else(out_of_range)?,
        })
    }

    /// Multiplied, as PostgreSQL does: what is left of months becomes days, and of days time.
    pub fn times(self, factor: f64) -> Result<Interval, SqlError> {
        let months = f64::from(self.months) * factor;
        let days = f64::from(self.days) * factor;
        let nanos = self.nanos as f64 * factor;
        let fits = |v: f64| (-2147483648.5..2147483647.5).contains(&v);
        if !fits(months) || !fits(days) || nanos.is_nan() {
            return Err(out_of_range());
        }
        let whole_months = months.trunc();
        // Whole units carry the rounding errors of a factor such as 0.1; PostgreSQL takes them off at the
        // microsecond.
        let round = |v: f64| (v * 1e6).round() / 1e6;
        let month_days = round((months - whole_months) * 30.0);
        let whole_days = days.trunc();
        let mut rest_s = round((days - whole_days) * 86_400.0 + (month_days - month_days.trunc()) * 86_400.0);
        let mut total_days = whole_days + month_days.trunc();
        if rest_s.abs() >= 86_400.0 {
            total_days += (rest_s / 86_400.0).trunc();
            rest_s -= (rest_s / 86_400.0).trunc() * 86_400.0;
        }
        let total_ns = nanos.round() + rest_s * 1e9;
        if !fits(total_days) || !(-9.223372036854775e18..9.223372036854775e18).contains(&total_ns) {
            return Err(out_of_range());
        }
        // Whole numbers exactly, where a float would lose digits.
        let exact =
            if factor.fract() == 0.0 && factor.abs() < 9e15 { self.nanos.checked_mul(factor as i64) } else { None };
        let nanos = match exact {
            Some(exact) => exact,
            None => total_ns.round() as i64,
        };
        Ok(Interval { months: whole_months as i32, days: total_days as i32, nanos })
    }

    /// Rounded to so many digits of a second's fraction.
    pub(super) fn rounded(self, digits: u8) -> Interval {
        Interval { nanos: super::datetime::round_fraction(self.nanos, 9, digits), ..self }
    }

    /// As PostgreSQL prints it.
    pub fn to_text(self) -> String {
        let mut out = String::new();
        let mut signed_before = false;
        let mut part = |out: &mut String, value: i64, one: &str, many: &str| {
            if value == 0 {
                return;
            }
            let space = if out.is_empty() { "" } else { " " };
            let plus = if signed_before && value > 0 { "+" } else { "" };
            out.push_str(&format!("{space}{plus}{value} {}", if value == 1 { one } else { many }));
            signed_before = value < 0;
        };
        part(&mut out, i64::from(self.months / 12), "year", "years");
        part(&mut out, i64::from(self.months % 12), "mon", "mons");
        part(&mut out, i64::from(self.days), "day", "days");
        if self.nanos != 0 || out.is_empty() {
            let sign = match (self.nanos < 0, signed_before) {
                (true, _) => "-",
                (false, true) => "+",
                (false, false) => "",
            };
            let nanos = self.nanos.unsigned_abs() as i128;
            let seconds = (nanos / i128::from(SECOND_NS)) as i64;
            let space = if out.is_empty() { "" } else { " " };
            out.push_str(&format!("{space}{sign}{:02}:{:02}:", seconds / 3600, seconds / 60 % 60));
            push_seconds(&mut out, seconds % 60, (nanos % i128::from(SECOND_NS)) as i64, 9);
        }
        out
    }

    /// From text: 22007, 22008.
    pub fn parse(text: &str) -> Result<Interval, SqlError> {
        let lower = text.trim().to_ascii_lowercase();
        if lower.is_empty() || !lower.is_ascii() || lower.len() > TEXT_BYTES_MAX {
            return Err(invalid(text));
        }
        if let Some(body) = lower.strip_prefix('p') {
            return iso(body, text);
        }
        let mut sum = Sum::default();
        let body = lower.strip_prefix('@').unwrap_or(&lower).trim();
        let (body, ago) = match body.strip_suffix("ago") {
            Some(body) => (body.trim_end(), true),
            None => (body, false),
        };
        let mut rest = body;
        let mut last_number: Option<Decimal> = None;
        let mut any = false;
        while !rest.is_empty() {
            let first = rest.as_bytes()[0];
            if first.is_ascii_whitespace() || first == b',' {
                rest = &rest[1..];
                continue;
            }
            if first.is_ascii_alphabetic() {
                let count = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
                let number = last_number.take().ok_or_else(|| invalid(text))?;
                sum.add_unit(number, &rest[..count]).ok_or_else(|| invalid(text))??;
                rest = &rest[count..];
                any = true;
                continue;
            }
            let negative = first == b'-';
            let body = rest.strip_prefix(['-', '+']).unwrap_or(rest);
            let end = body.find(|c: char| !c.is_ascii_digit() && !matches!(c, '.' | ':')).unwrap_or(body.len());
            let token = &body[..end];
            rest = &body[end..];
            if token.contains(':') {
                // A number before it is of days: `3 04:05:06`.
                if let Some(days) = last_number.take() {
                    sum.add_unit(days, "day").ok_or_else(|| invalid(text))??;
                }
                let nanos = clock(token).ok_or_else(|| invalid(text))??;
                sum.nanos += if negative { -nanos } else { nanos };
                any = true;
                continue;
            }
            if let Some(tail) = rest.strip_prefix('-')
                && !token.is_empty()
                && tail.starts_with(|c: char| c.is_ascii_digit())
            {
                // `1-2`: years and months.
                let end = tail.find(|c: char| !c.is_ascii_digit()).unwrap_or(tail.len());
                let (years, months): (i128, i128) = match (token.parse(), tail[..end].parse()) {
                    (Ok(years), Ok(months)) if months < 12 => (years, months),
                    _ => return Err(invalid(text)),
                };
                let total = years * 12 + months;
                sum.months += if negative { -total } else { total };
                rest = &tail[end..];
                any = true;
                continue;
            }
            if last_number.is_some() {
                return Err(invalid(text));
            }
            last_number = Some(Decimal::parse(token, negative).ok_or_else(|| invalid(text))?);
        }
        if let Some(seconds) = last_number {
            sum.add_unit(seconds, "s").ok_or_else(|| invalid(text))??;
            any = true;
        }
        if !any {
            return Err(invalid(text));
        }
        let result = sum.finish()?;
        if ago { result.negated() } else { Ok(result) }
    }
}

/// Nanoseconds of `04:05`, `04:05:06.789`; without hours, `mm:ss.f`.
fn clock(token: &str) -> Option<Result<i128, SqlError>> {
    let fields: Vec<&str> = token.split(':').collect();
    let (seconds, fraction) = match fields.last()?.split_once('.') {
        Some((whole, fraction)) => (whole, fraction),
        None => (*fields.last()?, ""),
    };
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number = |text: &str| -> Option<i128> { text.parse().ok() };
    let (hours, minutes, seconds) = match fields.as_slice() {
        [minutes, _] if token.contains('.') => (0, number(minutes)?, number(seconds)?),
        [hours, minutes] => (number(hours)?, number(minutes)?, 0),
        [hours, minutes, _] => (number(hours)?, number(minutes)?, number(seconds)?),
        _ => return None,
    };
    if minutes > 59 || seconds > 59 {
        return Some(Err(SqlError::new("22008", format!("interval field value out of range: \"{token}\""))));
    }
    let fraction = i128::from(fraction_ns(fraction));
    Some(Ok((hours * 3600 + minutes * 60 + seconds) * i128::from(SECOND_NS) + fraction))
}

/// A number with up to 18 digits after the point.
#[derive(Clone, Copy, Debug)]
struct Decimal {
    /// In units of 10^-18.
    scaled: i128,
}

const ONE: i128 = 1_000_000_000_000_000_000;

impl Decimal {
    fn parse(text: &str, negative: bool) -> Option<Decimal> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        if (whole.is_empty() && fraction.is_empty()) || whole.len() > 18 || fraction.contains('.') {
            return None;
        }
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        let kept = &fraction[..fraction.len().min(18)];
        let fraction: i128 = if kept.is_empty() { 0 } else { format!("{kept:0<18}").parse().ok()? };
        let scaled = whole * ONE + fraction;
        Some(Decimal { scaled: if negative { -scaled } else { scaled } })
    }

    /// Times a whole number: the whole part, and the rest in units of 10^-18.
    fn times(self, factor: i128) -> (i128, i128) {
        let (whole, rest) = (self.scaled / ONE * factor, self.scaled % ONE * factor);
        (whole + rest / ONE, rest % ONE)
    }
}

#[derive(Default)]
struct Sum {
    months: i128,
    days: i128,
    nanos: i128,
}

impl Sum {
    /// Adds so many of a unit; `None` if there is no such unit.
    fn add_unit(&mut self, number: Decimal, unit: &str) -> Option<Result<(), SqlError>> {
        let months_of = match unit {
            "mon" | "mons" | "month" | "months" => 1,
            "y" | "yr" | "yrs" | "year" | "years" => 12,
            "dec" | "decs" | "decade" | "decades" => 120,
            "c" | "cent" | "century" | "centuries" => 1200,
            "mil" | "mils" | "millennium" | "millennia" => 12_000,
            _ => 0,
        };
        if months_of > 0 {
            let (months, rest) = number.times(months_of);
            self.months += months;
            // Of a year's fraction whole months count; of a month's, days and time.
            if months_of == 1 {
                self.add_days(Decimal { scaled: rest * 30 });
            }
            return Some(Ok(()));
        }
        let nanos_of = match unit {
            "d" | "day" | "days" => {
                self.add_days(number);
                return Some(Ok(()));
            }
            "w" | "week" | "weeks" => {
                self.add_days(Decimal { scaled: number.scaled.checked_mul(7)? });
                return Some(Ok(()));
            }
            "h" | "hr" | "hrs" | "hour" | "hours" => HOUR_NS,
            "m" | "min" | "mins" | "minute" | "minutes" => 60 * SECOND_NS,
            "s" | "sec" | "secs" | "second" | "seconds" => SECOND_NS,
            "ms" | "msec" | "msecs" | "msecond" | "mseconds" | "millisecond" | "milliseconds" => 1_000_000,
            "us" | "usec" | "usecs" | "usecond" | "useconds" | "microsecond" | "microseconds" => 1_000,
            "ns" | "nanosecond" | "nanoseconds" => 1,
            _ => return None,
        };
        self.nanos += number.times(i128::from(nanos_of)).0;
        Some(Ok(()))
    }

    fn add_days(&mut self, number: Decimal) {
        let (days, rest) = number.times(1);
        self.days += days;
        // To the microsecond, so that 0.1 days are what they look like.
        let nanos = rest * i128::from(DAY_NS / 1000) / ONE * 1000;
        self.nanos += nanos;
    }

    fn finish(self) -> Result<Interval, SqlError> {
        Ok(Interval {
            months: i32::try_from(self.months).map_err(|_| out_of_range())?,
            days: i32::try_from(self.days).map_err(|_| out_of_range())?,
            nanos: i64::try_from(self.nanos).map_err(|_| out_of_range())?,
        })
    }
}

/// `1Y2M3DT4H5M6.7S`.
fn iso(body: &str, text: &str) -> Result<Interval, SqlError> {
    let mut sum = Sum::default();
    let (date, time) = body.split_once('t').unwrap_or((body, ""));
    let mut any = false;
    for (part, units) in [
        (date, &[('y', "year"), ('m', "month"), ('w', "week"), ('d', "day")][..]),
        (time, &[('h', "hour"), ('m', "minute"), ('s', "second")][..]),
    ] {
        let mut rest = part;
        while !rest.is_empty() {
            let negative = rest.starts_with('-');
            let unsigned = rest.strip_prefix(['-', '+']).unwrap_or(rest);
            let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(|| invalid(text))?;
            let number = Decimal::parse(&unsigned[..end], negative).ok_or_else(|| invalid(text))?;
            let letter = unsigned[end..].chars().next().ok_or_else(|| invalid(text))?;
            let unit = units.iter().find(|(known, _)| *known == letter).ok_or_else(|| invalid(text))?.1;
            sum.add_unit(number, unit).ok_or_else(|| invalid(text))??;
            rest = &unsigned[end + 1..];
            any = true;
        }
    }
    if !any {
        return Err(invalid(text));
    }
    sum.finish()
}
