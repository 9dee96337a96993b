//! Conversions between types: which there are, and what they do.

use super::datetime::{self, DAY_NS, DAY_US};
use super::{ArrayValue, float_overflow, integer_out_of_range, parse_text, to_text};
use crate::SqlError;
use crate::types::{DataType, Datum, Interval, Json, Numeric};

/// When PostgreSQL converts by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CastContext {
    /// Anywhere in an expression.
    Implicit,
    /// To put a value into a column.
    Assignment,
    /// Only where a cast is written.
    Explicit,
}

/// The order of numbers in which each converts to the next by itself.
fn number_rank(ty: DataType) -> Option<u8> {
    Some(match ty {
        DataType::Int2 => 0,
        DataType::Int4 => 1,
        DataType::Int => 2,
        DataType::Numeric => 3,
        DataType::Float4 => 4,
        DataType::Float => 5,
        _ => return None,
    })
}

/// The least context in which a value of one type becomes one of another; `None` if it never does: 42846.
pub fn cast_context(from: DataType, to: DataType) -> Option<CastContext> {
    use CastContext::{Assignment, Explicit, Implicit};
    use DataType as T;
    if from == to {
        return Some(Implicit);
    }
    if let (Some(a), Some(b)) = (number_rank(from), number_rank(to)) {
        return Some(if a < b { Implicit } else { Assignment });
    }
    Some(match (from, to) {
        (T::Array(a), T::Array(b)) => return cast_context(a.data_type(), b.data_type()),
        (T::Text, T::Char) | (T::Char, T::Text) => Implicit,
        (_, T::Text | T::Char) => Assignment,
        (T::Text | T::Char, _) => Explicit,
        (T::Int4, T::Bool) | (T::Bool, T::Int4) => Explicit,
        (T::Date, T::LocalTimestamp | T::Timestamp) | (T::LocalTimestamp, T::Timestamp) | (T::Time, T::Interval) => {
            Implicit
        }
        (T::LocalTimestamp, T::Date | T::Time) | (T::Timestamp, T::Date | T::Time | T::LocalTimestamp) => Assignment,
        (T::Interval, T::Time) => Assignment,
        (T::Json, to) if to == T::Bool || to.is_number() => Explicit,
        _ => return None,
    })
}

fn integer(v: Option<i64>, to: DataType) -> Result<Datum, SqlError> {
    let datum = v.map(Datum::Int).filter(|datum| datum.is_of(to));
    datum.ok_or_else(|| integer_out_of_range(to))
}

fn float_to_integer(v: f64, to: DataType) -> Result<Datum, SqlError> {
    let rounded = v.round_ties_even();
    // 2^63 is a float, and the first one that does not fit.
    let fits = (-9223372036854775808.0..9223372036854775808.0).contains(&rounded);
    integer(fits.then_some(rounded as i64), to)
}

fn to_real(v: f64) -> Result<Datum, SqlError> {
    let real = v as f32;
    if real.is_infinite() && v.is_finite() {
        return Err(float_overflow());
    }
    if real == 0.0 && v != 0.0 {
        return Err(SqlError::new("22003", "value out of range: underflow"));
    }
    Ok(Datum::Float4(real))
}

fn numeric_to_float(v: &Numeric, to: DataType) -> Result<Datum, SqlError> {
    let (datum, infinite) = match to {
        DataType::Float4 => (Datum::Float4(v.to_f32()), v.to_f32().is_infinite()),
        _ => (Datum::Float(v.to_f64()), v.to_f64().is_infinite()),
    };
    if infinite {
        return Err(SqlError::new("22003", format!("\"{v}\" is out of range for type {}", to.name())));
    }
    Ok(datum)
}

/// A conversion that [`cast_context`] knows, by a cast that the user wrote or one that was added: 42846 for any
/// other, and what the value says: 22003, 22008, 22P02.
pub fn cast(datum: Datum, to: DataType) -> Result<Datum, SqlError> {
    use DataType as T;
    Ok(match (datum, to) {
        (Datum::Null, _) => Datum::Null,
        (Datum::Int(v), T::Int2 | T::Int4 | T::Int) => integer(Some(v), to)?,
        (datum, to) if datum.data_type() == Some(to) => datum,
        (Datum::Int(v), T::Float) => Datum::Float(v as f64),
        (Datum::Int(v), T::Float4) => Datum::Float4(v as f32),
        (Datum::Int(v), T::Numeric) => Datum::Numeric(Numeric::from(v)),
        (Datum::Int(v), T::Bool) => Datum::Bool(v != 0),
        (Datum::Bool(v), T::Int4) => Datum::Int(i64::from(v)),
        (Datum::Float(v), T::Int2 | T::Int4 | T::Int) => float_to_integer(v, to)?,
        (Datum::Float(v), T::Float4) => to_real(v)?,
        (Datum::Float(v), T::Numeric) => Datum::Numeric(Numeric::from_f64(v)?),
        (Datum::Float4(v), T::Int2 | T::Int4 | T::Int) => float_to_integer(f64::from(v), to)?,
        (Datum::Float4(v), T::Float) => Datum::Float(f64::from(v)),
        (Datum::Float4(v), T::Numeric) => Datum::Numeric(Numeric::from_f32(v)?),
        (Datum::Numeric(v), T::Int2 | T::Int4 | T::Int) => integer(v.to_i64(), to)?,
        (Datum::Numeric(v), T::Float | T::Float4) => numeric_to_float(&v, to)?,
        (Datum::Bool(v), T::Text) => Datum::Text(if v { "true" } else { "false" }.into()),
        (Datum::Bool(v), T::Char) => Datum::Char(if v { "true" } else { "false" }.into()),
        (Datum::Text(text), to) => parse_text(&text, to)?,
        (Datum::Char(text), T::Text) => Datum::Text(text.trim_end_matches(' ').into()),
        (Datum::Char(text), to) => parse_text(&text, to)?,
        (Datum::Date(days), T::LocalTimestamp) => Datum::LocalTimestamp(datetime::local_from_ns(date_ns(days))?),
        (Datum::Date(days), T::Timestamp) => Datum::Timestamp(datetime::zoned_from_ns(date_ns(days))?),
        (Datum::LocalTimestamp(us), T::Timestamp) => Datum::Timestamp(datetime::zoned_from_ns(i128::from(us) * 1000)?),
        (Datum::LocalTimestamp(us), T::Date) => Datum::Date(datetime::check_date(us.div_euclid(DAY_US))?),
        (Datum::LocalTimestamp(us), T::Time) => Datum::Time(us.rem_euclid(DAY_US)),
        (Datum::Timestamp(at), T::LocalTimestamp) => {
            Datum::LocalTimestamp(datetime::local_from_ns(i128::from(at.as_nanos()))?)
        }
        (Datum::Timestamp(at), T::Date) => Datum::Date(datetime::check_date(at.as_nanos().div_euclid(DAY_NS))?),
        (Datum::Timestamp(at), T::Time) => Datum::Time((at.as_nanos().rem_euclid(DAY_NS) + 500) / 1000),
        (Datum::Time(us), T::Interval) => Datum::Interval(Interval::from_nanos(us * 1000)),
        (Datum::Interval(v), T::Time) => Datum::Time(v.nanos.rem_euclid(DAY_NS) / 1000),
        (Datum::Json(json), to) if to == T::Bool || to.is_number() => from_json(&json, to)?,
        (Datum::Array(array), T::Array(element)) => {
            let ArrayValue { dimensions, items, .. } = *array;
            let items = items.into_iter().map(|item| cast(item, element.data_type())).collect::<Result<_, _>>()?;
            Datum::Array(Box::new(ArrayValue { element, dimensions, items }))
        }
        (datum, T::Text) => Datum::Text(to_text(&datum).expect("not NULL")),
        (datum, T::Char) => Datum::Char(to_text(&datum).expect("not NULL")),
        (datum, to) => return Err(no_cast(datum.data_type().expect("not NULL"), to)),
    })
}

/// 42846.
pub(crate) fn no_cast(from: DataType, to: DataType) -> SqlError {
    SqlError::new("42846", format!("cannot cast type {} to {}", from.name(), to.name()))
}

fn date_ns(days: i32) -> i128 {
    i128::from(days) * i128::from(DAY_NS)
}

fn from_json(json: &Json, to: DataType) -> Result<Datum, SqlError> {
    match (json, to) {
        (Json::Bool(v), DataType::Bool) => Ok(Datum::Bool(*v)),
        (Json::Number(v), to) if to.is_number() => cast(Datum::Numeric(v.clone()), to),
        (json, to) => {
            let kind = if json.kind() == "number" { "numeric" } else { json.kind() };
            Err(SqlError::new("22023", format!("cannot cast jsonb {kind} to type {}", to.name())))
        }
    }
}
