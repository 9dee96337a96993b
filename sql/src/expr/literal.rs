//! Literals, and the names of types.

use sqlparser::ast;

use super::Expr;
use super::bind::Bound;
use crate::SqlError;
use crate::types::{DataType, Datum, Numeric, TypeModifier};

/// The longest VARCHAR or CHAR, in characters, as in PostgreSQL.
const LENGTH_MAX: u64 = 10_485_760;
/// The most digits of NUMERIC(precision, scale), as in PostgreSQL.
const PRECISION_MAX: u64 = 1000;
/// The most digits of a second's fraction: nanoseconds.
const FRACTION_DIGITS_MAX: u64 = 9;

/// The text of a string literal of any form.
pub fn string_of(value: &ast::Value) -> Option<&str> {
    match value {
        ast::Value::SingleQuotedString(text)
        | ast::Value::EscapedStringLiteral(text)
        | ast::Value::UnicodeStringLiteral(text) => Some(text),
        ast::Value::DollarQuotedString(quoted) => Some(&quoted.value),
        _ => None,
    }
}

/// A number: an integer or a bigint if it is a whole one that fits, else a numeric.
pub(super) fn number(digits: &str) -> Result<Bound, SqlError> {
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    if plain && let Ok(v) = digits.parse::<i64>() {
        let ty = if i32::try_from(v).is_ok() { DataType::Int4 } else { DataType::Int };
        return Ok(Bound::new(Expr::Const(Datum::Int(v)), ty));
    }
    Ok(Bound::new(Expr::Const(Datum::Numeric(Numeric::parse(digits)?)), DataType::Numeric))
}

/// The type that a name means: 0A000 for one that there is not yet, 42704 for none at all.
pub fn data_type(ty: &ast::DataType) -> Result<DataType, SqlError> {
    type_of(ty).map(|(ty, _)| ty)
}

/// As [`data_type`], with its length or precision: 22023 for one that it cannot have.
pub fn type_of(ty: &ast::DataType) -> Result<(DataType, Option<TypeModifier>), SqlError> {
    use ast::DataType as A;
    use ast::TimezoneInfo as Z;
    Ok(match ty {
        A::Bool | A::Boolean => (DataType::Bool, None),
        A::SmallInt(None) | A::Int2(None) | A::Int16 => (DataType::Int2, None),
        A::Int(None) | A::Integer(None) | A::Int4(None) | A::Int32 => (DataType::Int4, None),
        A::BigInt(None) | A::Int8(None) | A::Int64 => (DataType::Int, None),
        A::Float4 | A::Real | A::Float32 => (DataType::Float4, None),
        A::DoublePrecision | A::Float8 | A::Float64 | A::Double(ast::ExactNumberInfo::None) => (DataType::Float, None),
        A::Float(info) => (float(info)?, None),
        A::Numeric(info) | A::Decimal(info) | A::Dec(info) => (DataType::Numeric, numeric(info)?),
        A::Text | A::String(None) => (DataType::Text, None),
        A::Varchar(length) | A::CharacterVarying(length) | A::CharVarying(length) => {
            (DataType::Text, Some(TypeModifier::Varchar(char_length(length, "varchar")?)))
        }
        A::Char(length) | A::Character(length) => {
            (DataType::Char, Some(TypeModifier::Char(char_length(length, "char")?.unwrap_or(1))))
        }
        A::Bytea => (DataType::Bytes, None),
        A::Date => (DataType::Date, None),
        A::Time(digits, Z::None | Z::WithoutTimeZone) => (DataType::Time, fraction(*digits)?),
        A::Timestamp(digits, Z::None | Z::WithoutTimeZone) => (DataType::LocalTimestamp, fraction(*digits)?),
        A::Timestamp(digits, Z::WithTimeZone | Z::Tz) => (DataType::Timestamp, fraction(*digits)?),
        A::Time(..) => {
            return Err(SqlError::unsupported("TIME WITH TIME ZONE").hint("Use TIME, or TIMESTAMPTZ."));
        }
        A::Interval { fields: None, precision } => (DataType::Interval, fraction(*precision)?),
        A::Uuid => (DataType::Uuid, None),
        A::JSONB => (DataType::Json, None),
        A::JSON => return Err(SqlError::unsupported("JSON").hint("Use JSONB.")),
        A::Array(ast::ArrayElemTypeDef::SquareBracket(inner, _) | ast::ArrayElemTypeDef::AngleBracket(inner)) => {
            // INT[][] is INT[]: the dimensions are the value's.
            let (inner, modifier) = type_of(inner)?;
            (inner.as_element().map_or(inner, DataType::Array), modifier)
        }
        A::Custom(name, arguments) => custom(&name.to_string().to_lowercase(), arguments)?,
        other => return Err(SqlError::unsupported(format!("the type {other}"))),
    })
}

fn custom(name: &str, arguments: &[String]) -> Result<(DataType, Option<TypeModifier>), SqlError> {
    if arguments.is_empty() {
        match name.strip_prefix("pg_catalog.").unwrap_or(name) {
            "bpchar" => return Ok((DataType::Char, None)),
            "name" => return Ok((DataType::Text, None)),
            "bool" => return Ok((DataType::Bool, None)),
            _ => {}
        }
    }
    Err(SqlError::new("42704", format!("type \"{name}\" does not exist")))
}

fn float(info: &ast::ExactNumberInfo) -> Result<DataType, SqlError> {
    match info {
        ast::ExactNumberInfo::None | ast::ExactNumberInfo::Precision(25..=53) => Ok(DataType::Float),
        ast::ExactNumberInfo::Precision(1..=24) => Ok(DataType::Float4),
        ast::ExactNumberInfo::Precision(0) => {
            Err(SqlError::new("22023", "precision for type float must be at least 1 bit"))
        }
        ast::ExactNumberInfo::Precision(_) => {
            Err(SqlError::new("22023", "precision for type float must be less than 54 bits"))
        }
        ast::ExactNumberInfo::PrecisionAndScale(..) => Err(SqlError::syntax("syntax error at or near \",\"")),
    }
}

fn numeric(info: &ast::ExactNumberInfo) -> Result<Option<TypeModifier>, SqlError> {
    let (precision, scale) = match *info {
        ast::ExactNumberInfo::None => return Ok(None),
        ast::ExactNumberInfo::Precision(precision) => (precision, 0),
        ast::ExactNumberInfo::PrecisionAndScale(precision, scale) => (precision, scale),
    };
    if !(1..=PRECISION_MAX).contains(&precision) {
        return Err(SqlError::new(
            "22023",
            format!("NUMERIC precision {precision} must be between 1 and {PRECISION_MAX}"),
        ));
    }
    if !(-(PRECISION_MAX as i64)..=PRECISION_MAX as i64).contains(&scale) {
        return Err(SqlError::new(
            "22023",
            format!("NUMERIC scale {scale} must be between -{PRECISION_MAX} and {PRECISION_MAX}"),
        ));
    }
    Ok(Some(TypeModifier::Numeric { precision: precision as u16, scale: scale as i16 }))
}

fn char_length(length: &Option<ast::CharacterLength>, name: &str) -> Result<Option<u32>, SqlError> {
    match length {
        None => Ok(None),
        Some(ast::CharacterLength::IntegerLength { length: 0, .. }) => {
            Err(SqlError::new("22023", format!("length for type {name} must be at least 1")))
        }
        Some(ast::CharacterLength::IntegerLength { length, .. }) if *length > LENGTH_MAX => {
            Err(SqlError::new("22023", format!("length for type {name} cannot exceed {LENGTH_MAX}")))
        }
        Some(ast::CharacterLength::IntegerLength { length, .. }) => Ok(Some(*length as u32)),
        Some(ast::CharacterLength::Max) => Err(SqlError::unsupported("the length MAX")),
    }
}

fn fraction(digits: Option<u64>) -> Result<Option<TypeModifier>, SqlError> {
    match digits {
        None => Ok(None),
        Some(digits) if digits > FRACTION_DIGITS_MAX => Err(SqlError::new(
            "22023",
            format!("a precision of {digits} digits is more than {FRACTION_DIGITS_MAX}, which are nanoseconds"),
        )),
        Some(digits) => Ok(Some(TypeModifier::Precision(digits as u8))),
    }
}
