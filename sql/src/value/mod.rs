//! Values: their order, their text, and conversions from one type to another.
//!
//! Text is compared by its bytes (PostgreSQL's "C" collation), CHAR without the blanks at its end. Floats
//! have a total order: NaN is equal to itself and above everything else; -0 equals 0.

pub mod array;
pub mod bytes;
mod cast;
pub mod datetime;
pub(crate) mod datetime_parse;
pub mod interval;
pub mod json;
mod json_parse;
mod modifier;
mod number;
pub mod numeric;
mod numeric_math;
pub mod uuid;

use std::cmp::Ordering;

pub(crate) use cast::no_cast;
pub use cast::{CastContext, cast, cast_context};
pub use datetime::parse_timestamp;
pub use modifier::{apply_modifier, restore_modifier, type_text};
pub(crate) use number::{float_overflow, integer_out_of_range};

use crate::SqlError;
use crate::types::{ArrayValue, DataType, Datum, Element, Interval, Json, Numeric};

impl Datum {
    /// Its type; `None` for NULL. An integer says BIGINT, whatever its column says: see [`Datum::is_of`].
    pub fn data_type(&self) -> Option<DataType> {
        Some(match self {
            Datum::Null => return None,
            Datum::Bool(_) => DataType::Bool,
            Datum::Int(_) => DataType::Int,
            Datum::Float(_) => DataType::Float,
            Datum::Text(_) => DataType::Text,
            Datum::Bytes(_) => DataType::Bytes,
            Datum::Timestamp(_) => DataType::Timestamp,
            Datum::Float4(_) => DataType::Float4,
            Datum::Numeric(_) => DataType::Numeric,
            Datum::Char(_) => DataType::Char,
            Datum::Date(_) => DataType::Date,
            Datum::Time(_) => DataType::Time,
            Datum::LocalTimestamp(_) => DataType::LocalTimestamp,
            Datum::Interval(_) => DataType::Interval,
            Datum::Uuid(_) => DataType::Uuid,
            Datum::Json(_) => DataType::Json,
            Datum::Array(array) => DataType::Array(array.element),
        })
    }

    /// Whether it can be a value of the type: NULL can, and an integer that is in the type's range.
    pub fn is_of(&self, ty: DataType) -> bool {
        match (self, ty) {
            (Datum::Null, _) => true,
            (Datum::Int(v), DataType::Int2) => i16::try_from(*v).is_ok(),
            (Datum::Int(v), DataType::Int4) => i32::try_from(*v).is_ok(),
            (Datum::Array(array), DataType::Array(element)) => {
                array.element == element && array.items.iter().all(|item| item.is_of(element.data_type()))
            }
            (datum, ty) => datum.data_type() == Some(ty),
        }
    }

    /// Whether it is NULL.
    pub fn is_null(&self) -> bool {
        matches!(self, Datum::Null)
    }

    /// About how much memory it takes, in bytes.
    pub fn size_bytes(&self) -> usize {
        std::mem::size_of::<Datum>()
            + match self {
                Datum::Text(text) | Datum::Char(text) => text.len(),
                Datum::Bytes(bytes) => bytes.len(),
                Datum::Numeric(v) => v.heap_bytes(),
                Datum::Json(v) => v.size_bytes(),
                Datum::Array(v) => v.size_bytes(),
                _ => 0,
            }
    }

    /// JSONB.
    pub fn json(value: Json) -> Datum {
        Datum::Json(Box::new(value))
    }

    /// An array of one dimension.
    pub fn array(element: Element, items: Vec<Datum>) -> Datum {
        Datum::Array(Box::new(ArrayValue::flat(element, items)))
    }
}

/// The order of two values of one type, NULL last.
pub fn compare(a: &Datum, b: &Datum) -> Ordering {
    match (a, b) {
        (Datum::Null, Datum::Null) => Ordering::Equal,
        (Datum::Null, _) => Ordering::Greater,
        (_, Datum::Null) => Ordering::Less,
        (Datum::Bool(a), Datum::Bool(b)) => a.cmp(b),
        (Datum::Int(a), Datum::Int(b)) => a.cmp(b),
        (Datum::Float(a), Datum::Float(b)) => compare_floats(*a, *b),
        (Datum::Float4(a), Datum::Float4(b)) => compare_floats(f64::from(*a), f64::from(*b)),
        (Datum::Numeric(a), Datum::Numeric(b)) => a.compare(b),
        (Datum::Text(a), Datum::Text(b)) => a.as_bytes().cmp(b.as_bytes()),
        (Datum::Char(a), Datum::Char(b)) => a.trim_end_matches(' ').as_bytes().cmp(b.trim_end_matches(' ').as_bytes()),
        (Datum::Bytes(a), Datum::Bytes(b)) => a.cmp(b),
        (Datum::Timestamp(a), Datum::Timestamp(b)) => a.cmp(b),
        (Datum::Date(a), Datum::Date(b)) => a.cmp(b),
        (Datum::Time(a), Datum::Time(b)) | (Datum::LocalTimestamp(a), Datum::LocalTimestamp(b)) => a.cmp(b),
        (Datum::Interval(a), Datum::Interval(b)) => a.total_ns().cmp(&b.total_ns()),
        (Datum::Uuid(a), Datum::Uuid(b)) => a.cmp(b),
        (Datum::Json(a), Datum::Json(b)) => a.compare(b),
        (Datum::Array(a), Datum::Array(b)) if a.element == b.element => a.compare(b),
        _ => panic!("compared values of two types: {a:?} and {b:?}"),
    }
}

fn compare_floats(a: f64, b: f64) -> Ordering {
    match (a.is_nan(), b.is_nan()) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Greater,
        (false, true) => Ordering::Less,
        (false, false) => a.partial_cmp(&b).expect("neither is NaN"),
    }
}

/// The value as PostgreSQL prints it; `None` for NULL.
pub fn to_text(datum: &Datum) -> Option<String> {
    Some(match datum {
        Datum::Null => return None,
        Datum::Bool(true) => "t".into(),
        Datum::Bool(false) => "f".into(),
        Datum::Int(v) => v.to_string(),
        Datum::Float(v) => number::float_text(*v),
        Datum::Float4(v) => number::real_text(*v),
        Datum::Numeric(v) => v.to_string(),
        Datum::Text(v) | Datum::Char(v) => v.clone(),
        Datum::Bytes(v) => format!("\\x{}", bytes::hex(v)),
        Datum::Timestamp(v) => datetime::zoned_text(*v),
        Datum::Date(v) => datetime::date_text(*v),
        Datum::Time(v) => datetime::time_text(*v),
        Datum::LocalTimestamp(v) => datetime::local_text(*v),
        Datum::Interval(v) => v.to_text(),
        Datum::Uuid(v) => uuid::to_text(v),
        Datum::Json(v) => v.to_text(),
        Datum::Array(v) => v.to_text(),
    })
}

fn invalid(ty: DataType, text: &str) -> SqlError {
    let shown: String = text.chars().take(100).collect();
    SqlError::new("22P02", format!("invalid input syntax for type {}: \"{shown}\"", ty.name()))
}

/// Reads a value of a type from its text: 22P02, 22003, 22007, 22008 if it is none.
pub fn parse_text(text: &str, ty: DataType) -> Result<Datum, SqlError> {
    match ty {
        DataType::Bool => parse_bool(text.trim()).map(Datum::Bool).ok_or_else(|| invalid(ty, text)),
        DataType::Int2 | DataType::Int4 | DataType::Int => number::parse_integer(text, ty).map(Datum::Int),
        DataType::Float => number::parse_float(text).map(Datum::Float),
        DataType::Float4 => number::parse_real(text).map(Datum::Float4),
        DataType::Numeric => Numeric::parse(text).map(Datum::Numeric),
        DataType::Text => no_zero(text).map(|text| Datum::Text(text.into())),
        DataType::Char => no_zero(text).map(|text| Datum::Char(text.into())),
        DataType::Bytes => bytes::parse(text).map(Datum::Bytes).ok_or_else(|| invalid(ty, text)),
        DataType::Timestamp => datetime::parse_timestamp(text).map(Datum::Timestamp),
        DataType::Date => datetime::parse_date(text).map(Datum::Date),
        DataType::Time => datetime::parse_time(text).map(Datum::Time),
        DataType::LocalTimestamp => datetime::parse_local(text).map(Datum::LocalTimestamp),
        DataType::Interval => Interval::parse(text).map(Datum::Interval),
        DataType::Uuid => uuid::parse(text).map(Datum::Uuid).ok_or_else(|| invalid(ty, text)),
        DataType::Json => Json::parse(text).map(Datum::json),
        DataType::Array(element) => ArrayValue::parse(text, element).map(|array| Datum::Array(Box::new(array))),
    }
}

fn no_zero(text: &str) -> Result<&str, SqlError> {
    if text.contains('\0') {
        return Err(SqlError::new("22021", "invalid byte sequence for encoding \"UTF8\": 0x00"));
    }
    Ok(text)
}

fn parse_bool(text: &str) -> Option<bool> {
    let lower = text.to_ascii_lowercase();
    let prefix_of = |word: &str| !lower.is_empty() && word.starts_with(&lower);
    match lower.as_str() {
        "1" | "on" => Some(true),
        "0" | "off" | "of" => Some(false),
        _ if prefix_of("true") || prefix_of("yes") => Some(true),
        _ if prefix_of("false") || prefix_of("no") => Some(false),
        _ => None,
    }
}
