//! Arithmetic of dates, times and intervals: the operators.
//!
//! An instant is counted in nanoseconds, whatever its type counts in.

use truetime::Timestamp;

use super::float_of;
use crate::SqlError;
use crate::expr::signature::short::{DATE, F8, I4, IVL, TIME, TS, TSTZ, out};
use crate::expr::signature::{Signature, strict as f};
use crate::types::{DataType, Datum, Interval};
use crate::value::datetime::{self, DAY_NS, DAY_US, civil_from_days, days_from_civil, month_days};
use crate::value::interval::out_of_range;

pub(super) const FUNCTIONS: &[Signature] = &[
    f("+", &[DATE, I4], out::DATE, |a, _| date_plus(date(&a[0]), int(&a[1]))),
    f("+", &[I4, DATE], out::DATE, |a, _| date_plus(date(&a[1]), int(&a[0]))),
    f("-", &[DATE, I4], out::DATE, |a, _| date_plus(date(&a[0]), -int(&a[1]))),
    f("-", &[DATE, DATE], out::I4, |a, _| Ok(Datum::Int(date(&a[0]) - date(&a[1])))),
    f("+", &[DATE, TIME], out::TS, |a, _| date_and_time(&a[0], &a[1])),
    f("+", &[TIME, DATE], out::TS, |a, _| date_and_time(&a[1], &a[0])),
    f("+", &[DATE, IVL], out::TS, |a, _| plus(&a[0], &a[1], DataType::LocalTimestamp)),
    f("+", &[IVL, DATE], out::TS, |a, _| plus(&a[1], &a[0], DataType::LocalTimestamp)),
    f("-", &[DATE, IVL], out::TS, |a, _| minus(&a[0], &a[1], DataType::LocalTimestamp)),
    f("+", &[TS, IVL], out::TS, |a, _| plus(&a[0], &a[1], DataType::LocalTimestamp)),
    f("+", &[IVL, TS], out::TS, |a, _| plus(&a[1], &a[0], DataType::LocalTimestamp)),
    f("-", &[TS, IVL], out::TS, |a, _| minus(&a[0], &a[1], DataType::LocalTimestamp)),
    f("-", &[TS, TS], out::IVL, |a, _| difference(&a[0], &a[1])),
    f("+", &[TSTZ, IVL], out::TSTZ, |a, _| plus(&a[0], &a[1], DataType::Timestamp)),
    f("+", &[IVL, TSTZ], out::TSTZ, |a, _| plus(&a[1], &a[0], DataType::Timestamp)),
    f("-", &[TSTZ, IVL], out::TSTZ, |a, _| minus(&a[0], &a[1], DataType::Timestamp)),
    f("-", &[TSTZ, TSTZ], out::IVL, |a, _| difference(&a[0], &a[1])),
    f("+", &[TIME, IVL], out::TIME, |a, _| time_plus(&a[0], interval(&a[1]).nanos)),
    f("+", &[IVL, TIME], out::TIME, |a, _| time_plus(&a[1], interval(&a[0]).nanos)),
    f("-", &[TIME, IVL], out::TIME, |a, _| time_plus(&a[0], interval(&a[1]).negated()?.nanos)),
    f("-", &[TIME, TIME], out::IVL, |a, _| {
        Ok(Datum::Interval(Interval::from_nanos((time(&a[0]) - time(&a[1])) * 1000)))
    }),
    f("+", &[IVL, IVL], out::IVL, |a, _| interval(&a[0]).plus(interval(&a[1])).map(Datum::Interval)),
    f("-", &[IVL, IVL], out::IVL, |a, _| interval(&a[0]).plus(interval(&a[1]).negated()?).map(Datum::Interval)),
    f("-", &[IVL], out::IVL, |a, _| interval(&a[0]).negated().map(Datum::Interval)),
    f("*", &[IVL, F8], out::IVL, |a, _| interval(&a[0]).times(float_of(&a[1])).map(Datum::Interval)),
    f("*", &[F8, IVL], out::IVL, |a, _| interval(&a[1]).times(float_of(&a[0])).map(Datum::Interval)),
    f("/", &[IVL, F8], out::IVL, |a, _| match float_of(&a[1]) {
        0.0 => Err(super::division_by_zero()),
        divisor => interval(&a[0]).times(1.0 / divisor).map(Datum::Interval),
    }),
];

fn date(datum: &Datum) -> i64 {
    match datum {
        Datum::Date(days) => i64::from(*days),
        other => panic!("a function that takes a date was given {other:?}"),
    }
}

fn int(datum: &Datum) -> i64 {
    super::int_of(datum)
}

fn time(datum: &Datum) -> i64 {
    match datum {
        Datum::Time(us) => *us,
        other => panic!("a function that takes a time was given {other:?}"),
    }
}

pub(super) fn interval(datum: &Datum) -> Interval {
    match datum {
        Datum::Interval(v) => *v,
        other => panic!("a function that takes an interval was given {other:?}"),
    }
}

/// Nanoseconds since 1970 of a date or a timestamp.
pub(super) fn instant(datum: &Datum) -> i128 {
    match datum {
        Datum::Date(days) => i128::from(*days) * i128::from(DAY_NS),
        Datum::LocalTimestamp(us) => i128::from(*us) * 1000,
        Datum::Timestamp(at) => i128::from(at.as_nanos()),
        other => panic!("a function that takes a timestamp was given {other:?}"),
    }
}

/// A timestamp of either type: 22008.
pub(super) fn timestamp(ns: i128, ty: DataType) -> Result<Datum, SqlError> {
    match ty {
        DataType::Timestamp => datetime::zoned_from_ns(ns).map(Datum::Timestamp),
        _ => datetime::local_from_ns(ns).map(Datum::LocalTimestamp),
    }
}

fn date_plus(date: i64, days: i64) -> Result<Datum, SqlError> {
    datetime::check_date(date + days).map(Datum::Date)
}

fn date_and_time(days: &Datum, of_day: &Datum) -> Result<Datum, SqlError> {
    timestamp(instant(days) + i128::from(time(of_day)) * 1000, DataType::LocalTimestamp)
}

/// Months first, with the day cut to the month's last; then days, then time.
pub(super) fn add_interval(ns: i128, v: Interval) -> i128 {
    let day = i128::from(DAY_NS);
    let mut days = ns.div_euclid(day) as i64;
    if v.months != 0 {
        let (year, month, of_month) = civil_from_days(days);
        let month = month - 1 + i64::from(v.months);
        let (year, month) = (year + month.div_euclid(12), month.rem_euclid(12) + 1);
        days = days_from_civil(year, month, of_month.min(month_days(year, month)));
    }
    i128::from(days + i64::from(v.days)) * day + ns.rem_euclid(day) + i128::from(v.nanos)
}

fn plus(at: &Datum, by: &Datum, ty: DataType) -> Result<Datum, SqlError> {
    timestamp(add_interval(instant(at), interval(by)), ty)
}

fn minus(at: &Datum, by: &Datum, ty: DataType) -> Result<Datum, SqlError> {
    timestamp(add_interval(instant(at), interval(by).negated()?), ty)
}

/// In days and time.
fn difference(a: &Datum, b: &Datum) -> Result<Datum, SqlError> {
    let ns = instant(a) - instant(b);
    let day = i128::from(DAY_NS);
    let days = i32::try_from(ns / day).map_err(|_| out_of_range())?;
    Ok(Datum::Interval(Interval { months: 0, days, nanos: (ns % day) as i64 }))
}

fn time_plus(of_day: &Datum, ns: i64) -> Result<Datum, SqlError> {
    let us = (i128::from(time(of_day)) * 1000 + i128::from(ns)).div_euclid(1000);
    Ok(Datum::Time(us.rem_euclid(i128::from(DAY_US)) as i64))
}

/// The statement's time, without its zone.
pub(super) fn local_now(now: Timestamp) -> i64 {
    now.as_nanos().div_euclid(1000)
}
