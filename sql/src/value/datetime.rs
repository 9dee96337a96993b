//! Dates and times: calendar, text in PostgreSQL's forms, and conversions between them.
//!
//! The calendar is the proleptic Gregorian one; a year has a year zero inside, which is 1 BC outside.
//! There is one time zone, UTC: a time without a zone is one of UTC, and a zone in a text is taken off.
//!
//! ```text
//!   date                  days, i32              4713-11-24 BC .. 5874897-12-31
//!   time                  microseconds, i64      00:00:00 .. 24:00:00
//!   timestamp             microseconds, i64      4713-11-24 BC .. 294247-01-08
//!   timestamp with zone   nanoseconds, i64       1677-09-21 .. 2262-04-11 (commit timestamps have nanoseconds)
//! ```

use truetime::Timestamp;

use super::datetime_parse;
use crate::SqlError;

/// Microseconds of a day.
pub const DAY_US: i64 = 86_400_000_000;
/// Nanoseconds of a day.
pub const DAY_NS: i64 = 86_400_000_000_000;
/// PostgreSQL's first date, 4713-11-24 BC (the Julian day 0), in days since 1970-01-01.
const DATE_MIN: i64 = -2_440_588;
/// PostgreSQL's last one, 5874897-12-31.
const DATE_MAX: i64 = 2_145_042_905;
/// The first day whose microseconds do not fit: 294247-01-09.
const LOCAL_DATE_END: i64 = 106_751_991;

/// 22008.
pub(crate) fn out_of_range(what: &str) -> SqlError {
    SqlError::new("22008", format!("{what} out of range"))
}

/// Days since 1970-01-01 of a day of the calendar. The month may be any: 13 is the next January.
pub fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = year + (month - 1).div_euclid(12);
    let month = (month - 1).rem_euclid(12) + 1;
    // Years that begin in March, so that the leap day is the last.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Year, month and day of a number of days since 1970-01-01.
pub fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

/// Whether the year has a 29 February.
pub fn is_leap(year: i64) -> bool {
    year.rem_euclid(4) == 0 && (year.rem_euclid(100) != 0 || year.rem_euclid(400) == 0)
}

/// How many days the month has.
pub fn month_days(year: i64, month: i64) -> i64 {
    match month {
        2 => 28 + i64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// A date that PostgreSQL has: 22008 if it is none.
pub fn check_date(days: i64) -> Result<i32, SqlError> {
    if (DATE_MIN..=DATE_MAX).contains(&days) { Ok(days as i32) } else { Err(out_of_range("date")) }
}

/// A timestamp without zone from nanoseconds, rounded: 22008 if PostgreSQL has none such.
pub fn local_from_ns(ns: i128) -> Result<i64, SqlError> {
    let us = (ns + 500).div_euclid(1000);
    let bounds = i128::from(DATE_MIN) * i128::from(DAY_US)..i128::from(LOCAL_DATE_END) * i128::from(DAY_US);
    if bounds.contains(&us) { Ok(us as i64) } else { Err(out_of_range("timestamp")) }
}

/// A timestamp with zone from nanoseconds: 22008 if they are too many.
pub fn zoned_from_ns(ns: i128) -> Result<Timestamp, SqlError> {
    i64::try_from(ns).map(Timestamp::from_nanos).map_err(|_| {
        out_of_range("timestamp")
            .detail("A timestamp with time zone is between 1677-09-21 and 2262-04-11, to the nanosecond.")
    })
}

/// `:05.25`: seconds and the fraction, without zeros at its end.
pub(super) fn push_seconds(out: &mut String, seconds: i64, fraction: i64, digits: usize) {
    out.push_str(&format!("{seconds:02}"));
    if fraction != 0 {
        let text = format!("{fraction:0digits$}");
        out.push('.');
        out.push_str(text.trim_end_matches('0'));
    }
}

fn push_clock(out: &mut String, us: i64) {
    let seconds = us / 1_000_000;
    out.push_str(&format!("{:02}:{:02}:", seconds / 3600, seconds / 60 % 60));
    push_seconds(out, seconds % 60, us % 1_000_000, 6);
}

/// The year as it is printed, and whether ` BC` follows the date.
pub(super) fn shown_year(year: i64) -> (i64, bool) {
    if year > 0 { (year, false) } else { (1 - year, true) }
}

fn push_date(out: &mut String, days: i64) -> bool {
    let (year, month, day) = civil_from_days(days);
    let (year, bc) = shown_year(year);
    out.push_str(&format!("{year:04}-{month:02}-{day:02}"));
    bc
}

/// `2026-01-02`.
pub fn date_text(days: i32) -> String {
    let mut out = String::with_capacity(10);
    if push_date(&mut out, i64::from(days)) {
        out.push_str(" BC");
    }
    out
}

/// `03:04:05.678`.
pub fn time_text(us: i64) -> String {
    let mut out = String::with_capacity(15);
    push_clock(&mut out, us);
    out
}

/// `2026-01-02 03:04:05.678`.
pub fn local_text(us: i64) -> String {
    let mut out = String::with_capacity(26);
    let bc = push_date(&mut out, us.div_euclid(DAY_US));
    out.push(' ');
    push_clock(&mut out, us.rem_euclid(DAY_US));
    if bc {
        out.push_str(" BC");
    }
    out
}

/// `2026-01-02 03:04:05.678901234+00`: as PostgreSQL prints it, but to the nanosecond.
pub fn zoned_text(at: Timestamp) -> String {
    let ns = at.as_nanos();
    let mut out = String::with_capacity(32);
    push_date(&mut out, ns.div_euclid(DAY_NS));
    let of_day = ns.rem_euclid(DAY_NS);
    let seconds = of_day / 1_000_000_000;
    out.push_str(&format!(" {:02}:{:02}:", seconds / 3600, seconds / 60 % 60));
    push_seconds(&mut out, seconds % 60, of_day % 1_000_000_000, 9);
    out.push_str("+00");
    out
}

/// From text: 22007, 22008.
pub fn parse_date(text: &str) -> Result<i32, SqlError> {
    let parts = datetime_parse::parse(text, "date")?;
    let days = parts.days.ok_or_else(|| datetime_parse::invalid("date", text))?;
    check_date(days).map_err(|_| SqlError::new("22008", format!("date out of range: \"{text}\"")))
}

/// From text: 22007, 22008.
pub fn parse_time(text: &str) -> Result<i64, SqlError> {
    let parts = datetime_parse::parse(text, "time")?;
    if parts.days.is_some() && parts.of_day_ns.is_none() {
        return Err(datetime_parse::invalid("time", text));
    }
    let ns = parts.of_day_ns.ok_or_else(|| datetime_parse::invalid("time", text))?;
    Ok((ns + 500) / 1000)
}

fn parse_instant(text: &str, what: &'static str) -> Result<i128, SqlError> {
    let parts = datetime_parse::parse(text, what)?;
    let days = parts.days.ok_or_else(|| datetime_parse::invalid(what, text))?;
    let offset = if what == "timestamp" { 0 } else { i128::from(parts.offset_s.unwrap_or(0)) };
    let of_day = i128::from(parts.of_day_ns.unwrap_or(0));
    Ok(i128::from(days) * i128::from(DAY_NS) + of_day - offset * 1_000_000_000)
}

fn with_text(error: SqlError, text: &str) -> SqlError {
    SqlError { message: format!("timestamp out of range: \"{text}\""), ..error }
}

/// From text; a zone in it means nothing: 22007, 22008.
pub fn parse_local(text: &str) -> Result<i64, SqlError> {
    local_from_ns(parse_instant(text, "timestamp")?).map_err(|err| with_text(err, text))
}

/// From text: RFC 3339, or what PostgreSQL prints and reads. Without a zone it is UTC: 22007, 22008.
pub fn parse_timestamp(text: &str) -> Result<Timestamp, SqlError> {
    zoned_from_ns(parse_instant(text, "timestamp with time zone")?).map_err(|err| with_text(err, text))
}

/// Rounded to so many digits of a second's fraction; `unit_digits` are those that the value has.
pub(super) fn round_fraction(value: i64, unit_digits: u32, digits: u8) -> i64 {
    let Some(cut) = unit_digits.checked_sub(u32::from(digits)) else { return value };
    let unit = 10i64.pow(cut);
    let down = value.div_euclid(unit) * unit;
    let rest = value - down;
    if cut > 0 && rest * 2 >= unit { down.saturating_add(unit) } else { down }
}
