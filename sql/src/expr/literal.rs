//! Literals, and the names of types.

use sqlparser::ast;

use super::Expr;
use super::bind::Bound;
use crate::SqlError;
use crate::types::{DataType, Datum};
use crate::value;

/// The text of a string literal of any form.
pub(super) fn string_of(value: &ast::Value) -> Option<&str> {
    match value {
        ast::Value::SingleQuotedString(text)
        | ast::Value::EscapedStringLiteral(text)
        | ast::Value::UnicodeStringLiteral(text) => Some(text),
        ast::Value::DollarQuotedString(quoted) => Some(&quoted.value),
        _ => None,
    }
}

/// A number: a bigint if it is a whole one that fits, else a double.
pub(super) fn number(digits: &str) -> Result<Bound, SqlError> {
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    if plain && let Ok(v) = digits.parse() {
        return Ok(Bound::new(Expr::Const(Datum::Int(v)), DataType::Int));
    }
    match value::parse_text(digits, DataType::Float)? {
        Datum::Float(v) => Ok(Bound::new(Expr::Const(Datum::Float(v)), DataType::Float)),
        other => panic!("parsed {digits:?} as a float and got {other:?}"),
    }
}

/// The type that a name means: 0A000 for one that there is not yet, 42704 for none at all.
pub fn data_type(ty: &ast::DataType) -> Result<DataType, SqlError> {
    use ast::DataType as A;
    Ok(match ty {
        A::Bool | A::Boolean => DataType::Bool,
        A::BigInt(None)
        | A::Int8(None)
        | A::Int(None)
        | A::Integer(None)
        | A::Int4(None)
        | A::SmallInt(None)
        | A::Int2(None)
        | A::Int64 => DataType::Int,
        A::DoublePrecision
        | A::Float8
        | A::Float4
        | A::Real
        | A::Float64
        | A::Double(ast::ExactNumberInfo::None)
        | A::Float(_) => DataType::Float,
        A::Text | A::String(None) => DataType::Text,
        A::Varchar(None) | A::CharacterVarying(None) => DataType::Text,
        A::Varchar(Some(_)) | A::CharacterVarying(Some(_)) => {
            return Err(SqlError::unsupported("a VARCHAR with a length").hint("Use TEXT."));
        }
        A::Bytea => DataType::Bytes,
        A::Timestamp(None, ast::TimezoneInfo::WithTimeZone | ast::TimezoneInfo::Tz) => DataType::Timestamp,
        A::Timestamp(..) => return Err(SqlError::unsupported(format!("the type {ty}")).hint("Use TIMESTAMPTZ.")),
        A::Custom(name, _) => {
            return Err(SqlError::new("42704", format!("type \"{}\" does not exist", name.to_string().to_lowercase())));
        }
        other => return Err(SqlError::unsupported(format!("the type {other}"))),
    })
}
