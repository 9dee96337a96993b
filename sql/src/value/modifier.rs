//! What a length or a precision does to a value, and the names of types that have one.

use super::numeric::Numeric;
use super::{ArrayValue, datetime};
use crate::SqlError;
use crate::types::{DataType, Datum, TypeModifier};
use truetime::Timestamp;

/// The type as PostgreSQL's `format_type` writes it: `character varying(10)`, `numeric(8,2)[]`.
pub fn type_text(ty: DataType, modifier: Option<TypeModifier>) -> String {
    let (scalar, brackets) = match ty {
        DataType::Array(element) => (element.data_type(), "[]"),
        scalar => (scalar, ""),
    };
    let text = match (scalar, modifier) {
        (_, Some(TypeModifier::Varchar(None))) => "character varying".into(),
        (_, Some(TypeModifier::Varchar(Some(length)))) => format!("character varying({length})"),
        (_, Some(TypeModifier::Char(length))) => format!("character({length})"),
        (_, Some(TypeModifier::Numeric { precision, scale })) => format!("numeric({precision},{scale})"),
        (DataType::Interval, Some(TypeModifier::Precision(digits))) => format!("interval({digits})"),
        (scalar, Some(TypeModifier::Precision(digits))) => match scalar.name().split_once(' ') {
            Some((first, rest)) => format!("{first}({digits}) {rest}"),
            None => format!("{}({digits})", scalar.name()),
        },
        (scalar, None) => scalar.name().into(),
    };
    text + brackets
}

/// The value as the modifier wants it. What is too long is 22001, unless it is only blanks, or the cast was
/// written by the user (`explicit`): then it is cut. Too many digits are 22003.
pub fn apply_modifier(datum: Datum, modifier: TypeModifier, explicit: bool) -> Result<Datum, SqlError> {
    Ok(match (datum, modifier) {
        (Datum::Array(array), modifier) => {
            let ArrayValue { element, dimensions, items } = *array;
            let items =
                items.into_iter().map(|item| apply_modifier(item, modifier, explicit)).collect::<Result<_, _>>()?;
            Datum::Array(Box::new(ArrayValue { element, dimensions, items }))
        }
        (Datum::Text(text), TypeModifier::Varchar(Some(length))) => {
            Datum::Text(fit(text, length, explicit, "character varying")?)
        }
        (Datum::Char(text), TypeModifier::Char(length)) => {
            Datum::Char(pad(fit(text, length, explicit, "character")?, length))
        }
        (Datum::Numeric(v), TypeModifier::Numeric { precision, scale }) => {
            Datum::Numeric(v.with_precision(precision, scale)?)
        }
        (Datum::Time(us), TypeModifier::Precision(digits)) => Datum::Time(datetime::round_fraction(us, 6, digits)),
        (Datum::LocalTimestamp(us), TypeModifier::Precision(digits)) => {
            Datum::LocalTimestamp(datetime::round_fraction(us, 6, digits))
        }
        (Datum::Timestamp(at), TypeModifier::Precision(digits)) => {
            Datum::Timestamp(Timestamp::from_nanos(datetime::round_fraction(at.as_nanos(), 9, digits)))
        }
        (Datum::Interval(v), TypeModifier::Precision(digits)) => Datum::Interval(v.rounded(digits)),
        (datum, _) => datum,
    })
}

/// A value that lost its form in a key (the zeros after a number, the blanks after a text), as the modifier says
/// that it was.
pub fn restore_modifier(datum: Datum, modifier: Option<TypeModifier>) -> Datum {
    match (datum, modifier) {
        (Datum::Char(text), Some(TypeModifier::Char(length))) => Datum::Char(pad(text, length)),
        (Datum::Numeric(v), Some(TypeModifier::Numeric { scale, .. })) => Datum::Numeric(zeros_to(v, scale)),
        (datum, _) => datum,
    }
}

fn zeros_to(v: Numeric, scale: i16) -> Numeric {
    let wanted = i64::from(scale.max(0));
    if i64::from(v.scale()) >= wanted { v } else { v.round(wanted).unwrap_or(v) }
}

fn fit(mut text: String, length: u32, explicit: bool, name: &str) -> Result<String, SqlError> {
    let Some((cut, _)) = text.char_indices().nth(length as usize) else { return Ok(text) };
    if !explicit && text[cut..].contains(|c| c != ' ') {
        return Err(SqlError::new("22001", format!("value too long for type {name}({length})")));
    }
    text.truncate(cut);
    Ok(text)
}

fn pad(mut text: String, length: u32) -> String {
    let missing = (length as usize).saturating_sub(text.chars().count());
    text.extend(std::iter::repeat_n(' ', missing));
    text
}
