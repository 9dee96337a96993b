//! Parts of dates and times, cutting them, building them, and zones.

use super::time::{instant, interval, local_now, timestamp};
use super::{float_of, int_of, text_of};
use crate::SqlError;
use crate::expr::signature::short::{DATE, F8, I4, IVL, TEXT, TIME, TS, TSTZ, out};
use crate::expr::signature::{Signature, strict as f};
use crate::types::{DataType, Datum, Interval, Numeric};
use crate::value::datetime::{self, DAY_NS, DAY_US, civil_from_days, days_from_civil, month_days};
use crate::value::datetime_parse::parse_offset;
use crate::value::interval::out_of_range;

const SECOND_NS: i128 = 1_000_000_000;
const DAY: i128 = DAY_NS as i128;
const TYPE_TS: &str = "timestamp without time zone";

pub(super) const FUNCTIONS: &[Signature] = &[
    f("extract", &[TEXT, DATE], out::NUM, |a, _| part(text_of(&a[0]), &a[1])),
    f("extract", &[TEXT, TIME], out::NUM, |a, _| part(text_of(&a[0]), &a[1])),
    f("extract", &[TEXT, TS], out::NUM, |a, _| part(text_of(&a[0]), &a[1])),
    f("extract", &[TEXT, TSTZ], out::NUM, |a, _| part(text_of(&a[0]), &a[1])),
    f("extract", &[TEXT, IVL], out::NUM, |a, _| part(text_of(&a[0]), &a[1])),
    f("date_part", &[TEXT, DATE], out::F8, |a, _| float_part(text_of(&a[0]), &a[1])),
    f("date_part", &[TEXT, TIME], out::F8, |a, _| float_part(text_of(&a[0]), &a[1])),
    f("date_part", &[TEXT, TS], out::F8, |a, _| float_part(text_of(&a[0]), &a[1])),
    f("date_part", &[TEXT, TSTZ], out::F8, |a, _| float_part(text_of(&a[0]), &a[1])),
    f("date_part", &[TEXT, IVL], out::F8, |a, _| float_part(text_of(&a[0]), &a[1])),
    f("date_trunc", &[TEXT, TS], out::TS, |a, e| trunc(text_of(&a[0]), instant(&a[1]), e.result)),
    f("date_trunc", &[TEXT, TSTZ], out::TSTZ, |a, e| trunc(text_of(&a[0]), instant(&a[1]), e.result)),
    f("date_trunc", &[TEXT, TSTZ, TEXT], out::TSTZ, |a, e| {
        let offset = zone_offset_ns(text_of(&a[2]))?;
        match trunc(text_of(&a[0]), instant(&a[1]) + offset, DataType::LocalTimestamp)? {
            Datum::LocalTimestamp(us) => timestamp(i128::from(us) * 1000 - offset, e.result),
            other => Ok(other),
        }
    }),
    f("date_trunc", &[TEXT, IVL], out::IVL, |a, _| {
        trunc_interval(text_of(&a[0]), interval(&a[1])).map(Datum::Interval)
    }),
    f("date_bin", &[IVL, TS, TS], out::TS, |a, e| bin(interval(&a[0]), instant(&a[1]), instant(&a[2]), e.result)),
    f("date_bin", &[IVL, TSTZ, TSTZ], out::TSTZ, |a, e| bin(interval(&a[0]), instant(&a[1]), instant(&a[2]), e.result)),
    f("age", &[TS, TS], out::IVL, |a, _| Ok(Datum::Interval(age(instant(&a[0]), instant(&a[1]))))),
    f("age", &[TSTZ, TSTZ], out::IVL, |a, _| Ok(Datum::Interval(age(instant(&a[0]), instant(&a[1]))))),
    f("age", &[TS], out::IVL, |a, e| Ok(Datum::Interval(age(midnight(e.context.now), instant(&a[0]))))),
    f("age", &[TSTZ], out::IVL, |a, e| Ok(Datum::Interval(age(midnight(e.context.now), instant(&a[0]))))),
    f("make_date", &[I4, I4, I4], out::DATE, |a, _| make_date(int_of(&a[0]), int_of(&a[1]), int_of(&a[2]))),
    f("make_time", &[I4, I4, F8], out::TIME, |a, _| {
        make_time(int_of(&a[0]), int_of(&a[1]), float_of(&a[2])).map(|ns| Datum::Time((ns / 1000) as i64))
    }),
    f("make_timestamp", &[I4, I4, I4, I4, I4, F8], out::TS, |a, e| make_timestamp(a, e.result)),
    f("make_timestamptz", &[I4, I4, I4, I4, I4, F8], out::TSTZ, |a, e| make_timestamp(a, e.result)),
    f("make_interval", &[I4, I4, I4, I4, I4, I4, F8], out::IVL, |a, _| make_interval(a)),
    f("justify_days", &[IVL], out::IVL, |a, _| justify_days(interval(&a[0])).map(Datum::Interval)),
    f("justify_hours", &[IVL], out::IVL, |a, _| justify_hours(interval(&a[0])).map(Datum::Interval)),
    f("justify_interval", &[IVL], out::IVL, |a, _| justify_interval(interval(&a[0])).map(Datum::Interval)),
    f("isfinite", &[DATE], out::BOOL, |_, _| Ok(Datum::Bool(true))),
    f("isfinite", &[TS], out::BOOL, |_, _| Ok(Datum::Bool(true))),
    f("isfinite", &[TSTZ], out::BOOL, |_, _| Ok(Datum::Bool(true))),
    f("isfinite", &[IVL], out::BOOL, |_, _| Ok(Datum::Bool(true))),
    f("timezone", &[TEXT, TS], out::TSTZ, |a, e| timestamp(instant(&a[1]) - zone_offset_ns(text_of(&a[0]))?, e.result)),
    f("timezone", &[TEXT, TSTZ], out::TS, |a, e| timestamp(instant(&a[1]) + zone_offset_ns(text_of(&a[0]))?, e.result)),
    f("timezone", &[IVL, TS], out::TSTZ, |a, e| {
        timestamp(instant(&a[1]) - i128::from(interval(&a[0]).nanos), e.result)
    }),
    f("timezone", &[IVL, TSTZ], out::TS, |a, e| {
        timestamp(instant(&a[1]) + i128::from(interval(&a[0]).nanos), e.result)
    }),
    f("current_date", &[], out::DATE, |_, e| Ok(Datum::Date(local_now(e.context.now).div_euclid(DAY_US) as i32))),
    f("current_time", &[], out::TIME, |_, e| Ok(Datum::Time(local_now(e.context.now).rem_euclid(DAY_US)))),
    f("localtime", &[], out::TIME, |_, e| Ok(Datum::Time(local_now(e.context.now).rem_euclid(DAY_US)))),
    f("localtimestamp", &[], out::TS, |_, e| Ok(Datum::LocalTimestamp(local_now(e.context.now)))),
    f("to_timestamp", &[F8], out::TSTZ, |a, e| {
        let seconds = float_of(&a[0]);
        if !seconds.is_finite() || seconds.abs() > 1e12 {
            return Err(datetime::out_of_range("timestamp"));
        }
        // To the microsecond: a double has no more for times near the present.
        timestamp((seconds * 1e6).round() as i128 * 1000, e.result)
    }),
];

fn midnight(now: truetime::Timestamp) -> i128 {
    i128::from(now.as_nanos().div_euclid(DAY_NS)) * DAY
}

/// Nanoseconds east of UTC. As in PostgreSQL, an offset alone (`+02`) is POSIX's, and lies west.
fn zone_offset_ns(zone: &str) -> Result<i128, SqlError> {
    let unknown = || {
        SqlError::new("22023", format!("time zone \"{zone}\" not recognized"))
            .hint("The only zone by name is UTC; give an offset as an interval, such as INTERVAL '2 hours'.")
    };
    let lower = zone.trim().to_ascii_lowercase();
    let rest =
        ["etc/utc", "utc", "gmt", "zulu", "z"].iter().find_map(|name| lower.strip_prefix(name)).unwrap_or(&lower);
    if rest.is_empty() && !lower.is_empty() {
        return Ok(0);
    }
    let signed = if rest.starts_with(['+', '-']) { rest.to_string() } else { format!("+{rest}") };
    match parse_offset(&signed) {
        Some((seconds, "")) if seconds.abs() < 24 * 3600 => Ok(i128::from(-seconds) * SECOND_NS),
        _ => Err(unknown()),
    }
}

/// A unit's name in the singular.
fn unit(name: &str) -> String {
    let lower = name.to_ascii_lowercase();
    match lower.as_str() {
        "years" | "y" | "yr" | "yrs" => "year",
        "months" | "mon" | "mons" => "month",
        "weeks" | "w" => "week",
        "days" | "d" => "day",
        "hours" | "h" | "hr" | "hrs" => "hour",
        "minutes" | "m" | "min" | "mins" => "minute",
        "seconds" | "s" | "sec" | "secs" => "second",
        "millisecond" | "ms" | "msec" | "msecs" => "milliseconds",
        "microsecond" | "us" | "usec" | "usecs" => "microseconds",
        "centuries" | "c" | "cent" => "century",
        "decades" | "dec" => "decade",
        "millennia" | "millenium" | "mil" | "mils" => "millennium",
        "quarters" | "qtr" => "quarter",
        "dayofweek" => "dow",
        "dayofyear" => "doy",
        other => other,
    }
    .to_string()
}

fn unit_error(name: &str, ty: &str) -> SqlError {
    let known = [
        "year",
        "month",
        "week",
        "day",
        "hour",
        "minute",
        "second",
        "milliseconds",
        "microseconds",
        "century",
        "decade",
        "millennium",
        "quarter",
        "dow",
        "doy",
        "isodow",
        "isoyear",
        "julian",
        "epoch",
        "timezone",
        "timezone_hour",
        "timezone_minute",
    ];
    let name = name.to_ascii_lowercase();
    if known.contains(&unit(&name).as_str()) {
        SqlError::new("0A000", format!("unit \"{name}\" not supported for type {ty}"))
    } else {
        SqlError::new("22023", format!("unit \"{name}\" not recognized for type {ty}"))
    }
}

/// The number of the ISO week, and its year.
pub(super) fn iso_week(days: i64) -> (i64, i64) {
    // The week belongs to the year of its Thursday.
    let thursday = days - (days + 3).rem_euclid(7) + 3;
    let (year, ..) = civil_from_days(thursday);
    ((thursday - days_from_civil(year, 1, 1)) / 7 + 1, year)
}

/// 0 is Sunday.
pub(super) fn weekday(days: i64) -> i64 {
    (days + 4).rem_euclid(7)
}

fn decimal(unscaled: i128, scale: u16) -> Result<Numeric, SqlError> {
    Numeric::from_i128(unscaled, scale)
}

/// Nanoseconds as a number of units of 10^9 / 10^digits, with PostgreSQL's 6 digits, or 9 if they are needed.
fn fraction(ns: i128, shown_digits: u16) -> Result<Numeric, SqlError> {
    if ns % 1000 == 0 { decimal(ns / 1000, shown_digits) } else { decimal(ns, shown_digits + 3) }
}

fn float_part(name: &str, datum: &Datum) -> Result<Datum, SqlError> {
    // 'hour' of a date is 0: date_part takes it as a timestamp.
    let datum = match datum {
        Datum::Date(days) => Datum::LocalTimestamp(i64::from(*days).saturating_mul(DAY_US)),
        other => other.clone(),
    };
    match part(name, &datum)? {
        Datum::Numeric(v) => Ok(Datum::Float(v.to_f64())),
        other => Ok(other),
    }
}

fn part(name: &str, datum: &Datum) -> Result<Datum, SqlError> {
    let field = unit(name);
    let number = match datum {
        Datum::Interval(v) => interval_part(&field, *v)?,
        Datum::Time(us) => clock_part(&field, i128::from(*us) * 1000)?,
        Datum::Date(days) => match field.as_str() {
            "epoch" => Some(Numeric::from(i64::from(*days) * 86_400)),
            "julian" => Some(Numeric::from(i64::from(*days) + 2_440_588)),
            field => date_part(field, i64::from(*days)),
        },
        other => instant_part(&field, instant(other), matches!(other, Datum::Timestamp(_)))?,
    };
    let ty = match datum {
        Datum::Interval(_) => "interval",
        Datum::Time(_) => "time without time zone",
        Datum::Date(_) => "date",
        Datum::Timestamp(_) => "timestamp with time zone",
        _ => TYPE_TS,
    };
    number.map(Datum::Numeric).ok_or_else(|| unit_error(name, ty))
}

fn instant_part(field: &str, ns: i128, zoned: bool) -> Result<Option<Numeric>, SqlError> {
    let (days, of_day) = (ns.div_euclid(DAY) as i64, ns.rem_euclid(DAY));
    Ok(match field {
        "epoch" => Some(fraction(ns, 6)?),
        "timezone" | "timezone_hour" | "timezone_minute" if zoned => Some(Numeric::ZERO),
        "julian" => {
            let fraction = decimal(of_day, 0)?.div_to(&decimal(DAY, 0)?, 20)?;
            Some(Numeric::from(days + 2_440_588).add(&fraction)?)
        }
        field => match date_part(field, days) {
            None if field == "epoch" => None,
            None => clock_part(field, of_day)?.filter(|_| field != "epoch"),
            found => found,
        },
    })
}

fn date_part(field: &str, days: i64) -> Option<Numeric> {
    let (year, month, day) = civil_from_days(days);
    let shown = |year: i64| if year > 0 { year } else { year - 1 };
    Some(Numeric::from(match field {
        "year" => shown(year),
        "month" => month,
        "day" => day,
        "quarter" => (month - 1) / 3 + 1,
        "week" => iso_week(days).0,
        "isoyear" => shown(iso_week(days).1),
        "dow" => weekday(days),
        "isodow" => (weekday(days) + 6) % 7 + 1,
        "doy" => days - days_from_civil(year, 1, 1) + 1,
        "decade" => year.div_euclid(10),
        "century" if year > 0 => (year + 99) / 100,
        "century" => -((99 - (year - 1)) / 100),
        "millennium" if year > 0 => (year + 999) / 1000,
        "millennium" => -((999 - (year - 1)) / 1000),
        _ => return None,
    }))
}

/// Of the time of a day, or of an interval's.
fn clock_part(field: &str, ns: i128) -> Result<Option<Numeric>, SqlError> {
    let of_minute = ns % (60 * SECOND_NS);
    Ok(Some(match field {
        "hour" => decimal(ns / (3600 * SECOND_NS), 0)?,
        "minute" => decimal(ns / (60 * SECOND_NS) % 60, 0)?,
        "second" => fraction(of_minute, 6)?,
        "milliseconds" => fraction(of_minute, 3)?,
        "microseconds" if of_minute % 1000 == 0 => decimal(of_minute / 1000, 0)?,
        "microseconds" => decimal(of_minute, 3)?,
        "epoch" => fraction(ns, 6)?,
        _ => return Ok(None),
    }))
}

fn interval_part(field: &str, v: Interval) -> Result<Option<Numeric>, SqlError> {
    let (years, months) = (i64::from(v.months / 12), i64::from(v.months % 12));
    Ok(Some(match field {
        "year" => Numeric::from(years),
        "month" => Numeric::from(months),
        "day" => Numeric::from(i64::from(v.days)),
        "quarter" => Numeric::from(months / 3 + 1),
        "decade" => Numeric::from(years / 10),
        "century" => Numeric::from(years / 100),
        "millennium" => Numeric::from(years / 1000),
        // A year has 365.25 days here, and a month 30.
        "epoch" => {
            let quarter_days = i128::from(years) * 1461 + i128::from(months) * 120 + i128::from(v.days) * 4;
            fraction(quarter_days * (DAY / 4) + i128::from(v.nanos), 6)?
        }
        field => return clock_part(field, i128::from(v.nanos)),
    }))
}

fn trunc(name: &str, ns: i128, ty: DataType) -> Result<Datum, SqlError> {
    let days = ns.div_euclid(DAY) as i64;
    let (year, month, _) = civil_from_days(days);
    let down = |unit: i128| ns - ns.rem_euclid(unit);
    let day = |days: i64| i128::from(days) * DAY;
    let first_of = |year: i64| day(days_from_civil(year, 1, 1));
    let cut = match unit(name).as_str() {
        "microseconds" => down(1000),
        "milliseconds" => down(1_000_000),
        "second" => down(SECOND_NS),
        "minute" => down(60 * SECOND_NS),
        "hour" => down(3600 * SECOND_NS),
        "day" => day(days),
        "week" => day(days - (days + 3).rem_euclid(7)),
        "month" => day(days_from_civil(year, month, 1)),
        "quarter" => day(days_from_civil(year, (month - 1) / 3 * 3 + 1, 1)),
        "year" => first_of(year),
        "decade" => first_of(year.div_euclid(10) * 10),
        "century" => first_of((year - 1).div_euclid(100) * 100 + 1),
        "millennium" => first_of((year - 1).div_euclid(1000) * 1000 + 1),
        _ => {
            let ty = if ty == DataType::Timestamp { "timestamp with time zone" } else { TYPE_TS };
            return Err(unit_error(name, ty));
        }
    };
    timestamp(cut, ty)
}

fn trunc_interval(name: &str, v: Interval) -> Result<Interval, SqlError> {
    let nanos = |unit: i64| Interval { nanos: v.nanos - v.nanos % unit, ..v };
    let months = |unit: i32| Interval { months: v.months / unit * unit, ..Interval::default() };
    Ok(match unit(name).as_str() {
        "microseconds" => nanos(1000),
        "milliseconds" => nanos(1_000_000),
        "second" => nanos(1_000_000_000),
        "minute" => nanos(60_000_000_000),
        "hour" => nanos(3_600_000_000_000),
        "day" => Interval { nanos: 0, ..v },
        "month" => months(1),
        "quarter" => months(3),
        "year" => months(12),
        "decade" => months(120),
        "century" => months(1200),
        "millennium" => months(12_000),
        "week" => {
            return Err(SqlError::new("0A000", "unit \"week\" not supported for type interval")
                .detail("Months usually have fractional weeks."));
        }
        _ => return Err(unit_error(name, "interval")),
    })
}

fn bin(stride: Interval, at: i128, origin: i128, ty: DataType) -> Result<Datum, SqlError> {
    if stride.months != 0 {
        return Err(SqlError::new("0A000", "timestamps cannot be binned into intervals containing months or years"));
    }
    let width = i128::from(stride.days) * DAY + i128::from(stride.nanos);
    if width <= 0 {
        return Err(SqlError::new("22008", "stride must be greater than zero"));
    }
    timestamp(origin + (at - origin).div_euclid(width) * width, ty)
}

/// The difference in years, months and days of the calendar.
fn age(a: i128, b: i128) -> Interval {
    let fields = |ns: i128| {
        let days = ns.div_euclid(DAY) as i64;
        (civil_from_days(days), ns.rem_euclid(DAY) as i64)
    };
    let (((a_year, a_month, a_day), a_clock), ((b_year, b_month, b_day), b_clock)) = (fields(a), fields(b));
    let sign = if a < b { -1 } else { 1 };
    let mut years = (a_year - b_year) * sign;
    let mut months = (a_month - b_month) * sign;
    let mut days = (a_day - b_day) * sign;
    let mut clock = (a_clock - b_clock) * sign;
    if clock < 0 {
        clock += DAY_NS;
        days -= 1;
    }
    // A borrowed month is that of the earlier time.
    let borrowed = if a < b { month_days(a_year, a_month) } else { month_days(b_year, b_month) };
    while days < 0 {
        days += borrowed;
        months -= 1;
    }
    while months < 0 {
        months += 12;
        years -= 1;
    }
    let months = (years * 12 + months) * sign;
    Interval { months: months as i32, days: (days * sign) as i32, nanos: clock * sign }
}

fn make_date(year: i64, month: i64, day: i64) -> Result<Datum, SqlError> {
    let bad = || SqlError::new("22008", format!("date field value out of range: {year}-{month:02}-{day:02}"));
    let inner = if year < 0 { year + 1 } else { year };
    if year == 0 || !(1..=12).contains(&month) || !(1..=month_days(inner, month)).contains(&day) {
        return Err(bad());
    }
    datetime::check_date(days_from_civil(inner, month, day)).map(Datum::Date).map_err(|_| bad())
}

fn make_time(hour: i64, minute: i64, second: f64) -> Result<i128, SqlError> {
    let bad = || SqlError::new("22008", format!("time field value out of range: {hour}:{minute:02}:{second:02}"));
    if !(0..=24).contains(&hour) || !(0..=59).contains(&minute) || !(0.0..=60.0).contains(&second) {
        return Err(bad());
    }
    let us = i128::from(hour * 3600 + minute * 60) * 1_000_000 + (second * 1e6).round() as i128;
    if us > i128::from(DAY_US) { Err(bad()) } else { Ok(us * 1000) }
}

fn make_timestamp(args: &[Datum], ty: DataType) -> Result<Datum, SqlError> {
    let date = make_date(int_of(&args[0]), int_of(&args[1]), int_of(&args[2]))?;
    let of_day = make_time(int_of(&args[3]), int_of(&args[4]), float_of(&args[5]))?;
    timestamp(instant(&date) + of_day, ty)
}

fn make_interval(args: &[Datum]) -> Result<Datum, SqlError> {
    let short = |v: i64| i32::try_from(v).map_err(|_| out_of_range());
    let months = short(int_of(&args[0]) * 12 + int_of(&args[1]))?;
    let days = short(int_of(&args[2]) * 7 + int_of(&args[3]))?;
    let seconds = float_of(&args[6]);
    if !seconds.is_finite() || seconds.abs() > 9e9 {
        return Err(out_of_range());
    }
    let nanos = i128::from(int_of(&args[4]) * 3600 + int_of(&args[5]) * 60) * SECOND_NS
        + (seconds * 1e6).round() as i128 * 1000;
    Ok(Datum::Interval(Interval { months, days, nanos: i64::try_from(nanos).map_err(|_| out_of_range())? }))
}

/// Moves whole units of one field to the next, and gives both one sign.
fn carry(small: i64, unit: i64, large: i64) -> (i64, i64) {
    let (mut large, mut small) = (large + small / unit, small % unit);
    if large > 0 && small < 0 {
        (large, small) = (large - 1, small + unit);
    } else if large < 0 && small > 0 {
        (large, small) = (large + 1, small - unit);
    }
    (small, large)
}

fn short(v: i64) -> Result<i32, SqlError> {
    i32::try_from(v).map_err(|_| out_of_range())
}

fn justify_days(v: Interval) -> Result<Interval, SqlError> {
    let (days, months) = carry(i64::from(v.days), 30, i64::from(v.months));
    Ok(Interval { months: short(months)?, days: short(days)?, ..v })
}

fn justify_hours(v: Interval) -> Result<Interval, SqlError> {
    let (nanos, days) = carry(v.nanos, DAY_NS, i64::from(v.days));
    Ok(Interval { nanos, days: short(days)?, ..v })
}

fn justify_interval(v: Interval) -> Result<Interval, SqlError> {
    let mut nanos = v.nanos % DAY_NS;
    let days = i64::from(v.days) + v.nanos / DAY_NS;
    let (mut months, mut days) = (i64::from(v.months) + days / 30, days % 30);
    // All of one sign: that of the months, or else of the days.
    if months > 0 && (days < 0 || (days == 0 && nanos < 0)) {
        (months, days) = (months - 1, days + 30);
    } else if months < 0 && (days > 0 || (days == 0 && nanos > 0)) {
        (months, days) = (months + 1, days - 30);
    }
    if days > 0 && nanos < 0 {
        (days, nanos) = (days - 1, nanos + DAY_NS);
    } else if days < 0 && nanos > 0 {
        (days, nanos) = (days + 1, nanos - DAY_NS);
    }
    Ok(Interval { months: short(months)?, days: short(days)?, nanos })
}
