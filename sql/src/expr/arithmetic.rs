//! Arithmetic of two numbers of one type, and concatenation of two texts.

use super::BinaryOp;
use super::functions::{check_float, check_length, division_by_zero};
use crate::SqlError;
use crate::types::{DataType, Datum, Numeric};
use crate::value::{float_overflow, integer_out_of_range};

/// 22003 of an integer operation.
pub(super) fn out_of_range() -> SqlError {
    integer_out_of_range(DataType::Int)
}

/// NULL if either is.
#[inline(never)]
pub(super) fn binary(op: BinaryOp, a: Datum, b: Datum) -> Result<Datum, SqlError> {
    Ok(match (a, b) {
        (Datum::Null, _) | (_, Datum::Null) => Datum::Null,
        (Datum::Int(a), Datum::Int(b)) => Datum::Int(integers(op, a, b)?),
        (Datum::Float(a), Datum::Float(b)) => Datum::Float(floats(op, a, b)?),
        (Datum::Float4(a), Datum::Float4(b)) => {
            let result = floats(op, f64::from(a), f64::from(b))? as f32;
            if result.is_infinite() && a.is_finite() && b.is_finite() {
                return Err(float_overflow());
            }
            Datum::Float4(result)
        }
        (Datum::Numeric(a), Datum::Numeric(b)) => Datum::Numeric(numerics(op, &a, &b)?),
        (Datum::Text(a), Datum::Text(b)) => {
            check_length(a.len() + b.len())?;
            Datum::Text(a + &b)
        }
        (a, b) => panic!("{} of {a:?} and {b:?}", op.symbol()),
    })
}

fn integers(op: BinaryOp, a: i64, b: i64) -> Result<i64, SqlError> {
    let result = match op {
        BinaryOp::Add => a.checked_add(b),
        BinaryOp::Sub => a.checked_sub(b),
        BinaryOp::Mul => a.checked_mul(b),
        BinaryOp::Div | BinaryOp::Rem if b == 0 => return Err(division_by_zero()),
        BinaryOp::Div => a.checked_div(b),
        // The least integer modulo -1 is 0, though its quotient does not fit.
        BinaryOp::Rem => Some(a.wrapping_rem(b)),
        BinaryOp::Concat => panic!("|| of integers"),
    };
    result.ok_or_else(out_of_range)
}

fn floats(op: BinaryOp, a: f64, b: f64) -> Result<f64, SqlError> {
    let result = match op {
        BinaryOp::Add => a + b,
        BinaryOp::Sub => a - b,
        BinaryOp::Mul => a * b,
        BinaryOp::Div | BinaryOp::Rem if b == 0.0 && !a.is_nan() => return Err(division_by_zero()),
        BinaryOp::Div => a / b,
        BinaryOp::Rem => a % b,
        BinaryOp::Concat => panic!("|| of floats"),
    };
    check_float(result, &[a, b])
}

fn numerics(op: BinaryOp, a: &Numeric, b: &Numeric) -> Result<Numeric, SqlError> {
    match op {
        BinaryOp::Add => a.add(b),
        BinaryOp::Sub => a.sub(b),
        BinaryOp::Mul => a.mul(b),
        BinaryOp::Div => a.div(b),
        BinaryOp::Rem => a.rem(b),
        BinaryOp::Concat => panic!("|| of numerics"),
    }
}
