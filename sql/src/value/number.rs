//! Text of integers and floats.

use super::invalid;
use crate::SqlError;
use crate::types::DataType;

/// 22003 of a computation.
pub(crate) fn integer_out_of_range(ty: DataType) -> SqlError {
    SqlError::new("22003", format!("{} out of range", ty.name()))
}

/// 22003 of a float that became infinite.
pub(crate) fn float_overflow() -> SqlError {
    SqlError::new("22003", "value out of range: overflow")
}

pub(super) fn parse_integer(text: &str, ty: DataType) -> Result<i64, SqlError> {
    let trimmed = text.trim();
    let range = || SqlError::new("22003", format!("value \"{trimmed}\" is out of range for type {}", ty.name()));
    let value: i64 = trimmed.parse().map_err(|err: std::num::ParseIntError| match err.kind() {
        std::num::IntErrorKind::PosOverflow | std::num::IntErrorKind::NegOverflow => range(),
        _ => invalid(ty, text),
    })?;
    let fits = match ty {
        DataType::Int2 => i16::try_from(value).is_ok(),
        DataType::Int4 => i32::try_from(value).is_ok(),
        _ => true,
    };
    if fits { Ok(value) } else { Err(range()) }
}

pub(super) fn parse_float(text: &str) -> Result<f64, SqlError> {
    let trimmed = text.trim();
    let lower = trimmed.to_ascii_lowercase();
    let value: f64 = lower.parse().map_err(|_| invalid(DataType::Float, text))?;
    let underflow = value == 0.0 && mantissa_is_not_zero(&lower);
    if (value.is_infinite() && !lower.contains("inf")) || underflow {
        return Err(SqlError::new("22003", format!("\"{trimmed}\" is out of range for type double precision")));
    }
    Ok(value)
}

pub(super) fn parse_real(text: &str) -> Result<f32, SqlError> {
    let trimmed = text.trim();
    let lower = trimmed.to_ascii_lowercase();
    let value: f32 = lower.parse().map_err(|_| invalid(DataType::Float4, text))?;
    let underflow = value == 0.0 && mantissa_is_not_zero(&lower);
    if (value.is_infinite() && !lower.contains("inf")) || underflow {
        return Err(SqlError::new("22003", format!("\"{trimmed}\" is out of range for type real")));
    }
    Ok(value)
}

fn mantissa_is_not_zero(text: &str) -> bool {
    text.bytes().take_while(|b| *b != b'e').any(|b| (b'1'..=b'9').contains(&b))
}

pub(super) fn float_text(v: f64) -> String {
    if v.is_finite() { shortest(&format!("{v:e}"), 15, || v.to_string()) } else { not_finite(v) }
}

pub(super) fn real_text(v: f32) -> String {
    if v.is_finite() { shortest(&format!("{v:e}"), 6, || v.to_string()) } else { not_finite(f64::from(v)) }
}

fn not_finite(v: f64) -> String {
    let text = if v.is_nan() {
        "NaN"
    } else if v > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    };
    text.into()
}

/// As PostgreSQL does: an exponent for what would need more than so many digits before the point or 4
/// zeros after it. `{:e}` has the shortest digits that read back to the same value.
fn shortest(scientific: &str, digits_max: i32, plain: impl Fn() -> String) -> String {
    let (digits, exponent) = scientific.split_once('e').expect("`{:e}` has an exponent");
    let exponent: i32 = exponent.parse().expect("`{:e}` has a decimal exponent");
    if digits.trim_start_matches('-') != "0" && !(-4..digits_max).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    plain()
}
