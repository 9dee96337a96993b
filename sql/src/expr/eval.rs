//! Computing expressions, with SQL's three-valued logic.

use std::cmp::Ordering;

use truetime::Timestamp;

use super::{BinaryOp, CompareOp, Expr, functions, like};
use crate::SqlError;
use crate::types::Datum;
use crate::value;

/// What an expression may depend on beside its row.
#[derive(Clone, Copy, Debug)]
pub struct EvalContext<'a> {
    /// Already of the types that the plan gave them.
    pub params: &'a [Datum],
    /// `now()`.
    pub now: Timestamp,
}

/// 22003 of an integer operation.
pub(super) fn out_of_range() -> SqlError {
    SqlError::new("22003", "bigint out of range")
}

/// 22012.
pub(super) fn division_by_zero() -> SqlError {
    SqlError::new("22012", "division by zero")
}

/// Whether a condition holds: false and NULL do not.
pub fn is_true(expr: &Expr, row: &[Datum], context: &EvalContext<'_>) -> Result<bool, SqlError> {
    Ok(matches!(eval(expr, row, context)?, Datum::Bool(true)))
}

/// The value of an expression for one row.
pub fn eval(expr: &Expr, row: &[Datum], context: &EvalContext<'_>) -> Result<Datum, SqlError> {
    Ok(match expr {
        Expr::Const(datum) => datum.clone(),
        Expr::Column(index) => row[*index].clone(),
        Expr::Param(index) => match context.params.get(*index) {
            Some(datum) => datum.clone(),
            None => return Err(SqlError::new("08P01", format!("there is no parameter ${}", index + 1))),
        },
        Expr::Now => Datum::Timestamp(context.now),
        Expr::Aggregate(_) => panic!("an aggregate was not rewritten"),
        Expr::Not(a) => match eval(a, row, context)? {
            Datum::Bool(v) => Datum::Bool(!v),
            _ => Datum::Null,
        },
        Expr::And(list) => {
            let mut unknown = false;
            for expr in list {
                match eval(expr, row, context)? {
                    Datum::Bool(false) => return Ok(Datum::Bool(false)),
                    Datum::Bool(true) => {}
                    _ => unknown = true,
                }
            }
            if unknown { Datum::Null } else { Datum::Bool(true) }
        }
        Expr::Or(list) => {
            let mut unknown = false;
            for expr in list {
                match eval(expr, row, context)? {
                    Datum::Bool(true) => return Ok(Datum::Bool(true)),
                    Datum::Bool(false) => {}
                    _ => unknown = true,
                }
            }
            if unknown { Datum::Null } else { Datum::Bool(false) }
        }
        Expr::IsNull(a) => Datum::Bool(eval(a, row, context)?.is_null()),
        Expr::IsBool(a, want) => Datum::Bool(eval(a, row, context)? == Datum::Bool(*want)),
        Expr::Neg(a) => match eval(a, row, context)? {
            Datum::Int(v) => Datum::Int(v.checked_neg().ok_or_else(out_of_range)?),
            Datum::Float(v) => Datum::Float(-v),
            _ => Datum::Null,
        },
        Expr::Binary(op, a, b) => binary(*op, eval(a, row, context)?, eval(b, row, context)?)?,
        Expr::Compare(op, a, b) => compare(*op, &eval(a, row, context)?, &eval(b, row, context)?),
        Expr::Distinct(a, b) => {
            Datum::Bool(value::compare(&eval(a, row, context)?, &eval(b, row, context)?) != Ordering::Equal)
        }
        Expr::In(a, list) => {
            let a = eval(a, row, context)?;
            let mut unknown = a.is_null();
            for item in list {
                match compare(CompareOp::Eq, &a, &eval(item, row, context)?) {
                    Datum::Bool(true) => return Ok(Datum::Bool(true)),
                    Datum::Bool(false) => {}
                    _ => unknown = true,
                }
            }
            if unknown { Datum::Null } else { Datum::Bool(false) }
        }
        Expr::Like(a, pattern, escape, ignore_case) => match (eval(a, row, context)?, eval(pattern, row, context)?) {
            (Datum::Text(a), Datum::Text(pattern)) if *ignore_case => {
                Datum::Bool(like::matches(&a.to_lowercase(), &pattern.to_lowercase(), *escape)?)
            }
            (Datum::Text(a), Datum::Text(pattern)) => Datum::Bool(like::matches(&a, &pattern, *escape)?),
            _ => Datum::Null,
        },
        Expr::Case(branches, otherwise) => {
            for (condition, result) in branches {
                if is_true(condition, row, context)? {
                    return eval(result, row, context);
                }
            }
            eval(otherwise, row, context)?
        }
        Expr::Coalesce(list) => {
            for expr in list {
                let datum = eval(expr, row, context)?;
                if !datum.is_null() {
                    return Ok(datum);
                }
            }
            Datum::Null
        }
        Expr::NullIf(a, b) => {
            let (a, b) = (eval(a, row, context)?, eval(b, row, context)?);
            if compare(CompareOp::Eq, &a, &b) == Datum::Bool(true) { Datum::Null } else { a }
        }
        Expr::Cast(a, ty) => value::cast(eval(a, row, context)?, *ty)?,
        Expr::Call(function, args) => {
            let args = args.iter().map(|arg| eval(arg, row, context)).collect::<Result<Vec<_>, _>>()?;
            functions::call(*function, args)?
        }
    })
}

fn compare(op: CompareOp, a: &Datum, b: &Datum) -> Datum {
    if a.is_null() || b.is_null() {
        return Datum::Null;
    }
    let order = value::compare(a, b);
    Datum::Bool(match op {
        CompareOp::Eq => order.is_eq(),
        CompareOp::Ne => order.is_ne(),
        CompareOp::Lt => order.is_lt(),
        CompareOp::Le => order.is_le(),
        CompareOp::Gt => order.is_gt(),
        CompareOp::Ge => order.is_ge(),
    })
}

/// The longest text that an operator or a function makes, in bytes.
pub(super) const TEXT_BYTES_MAX: usize = 64 << 20;

/// 54000 if a text would be too long.
pub(super) fn check_length(bytes: usize) -> Result<(), SqlError> {
    if bytes > TEXT_BYTES_MAX {
        return Err(SqlError::new("54000", format!("a value of {bytes} bytes is too long"))
            .detail(format!("A value has at most {TEXT_BYTES_MAX} bytes.")));
    }
    Ok(())
}

fn binary(op: BinaryOp, a: Datum, b: Datum) -> Result<Datum, SqlError> {
    Ok(match (a, b) {
        (Datum::Null, _) | (_, Datum::Null) => Datum::Null,
        (Datum::Int(a), Datum::Int(b)) => Datum::Int(
            match op {
                BinaryOp::Add => a.checked_add(b),
                BinaryOp::Sub => a.checked_sub(b),
                BinaryOp::Mul => a.checked_mul(b),
                BinaryOp::Div | BinaryOp::Rem if b == 0 => return Err(division_by_zero()),
                BinaryOp::Div => a.checked_div(b),
                // The least integer modulo -1 is 0, though its quotient does not fit.
                BinaryOp::Rem => Some(a.wrapping_rem(b)),
                BinaryOp::Concat => panic!("|| of integers"),
            }
            .ok_or_else(out_of_range)?,
        ),
        (Datum::Float(a), Datum::Float(b)) => {
            let result = match op {
                BinaryOp::Add => a + b,
                BinaryOp::Sub => a - b,
                BinaryOp::Mul => a * b,
                BinaryOp::Div | BinaryOp::Rem if b == 0.0 => return Err(division_by_zero()),
                BinaryOp::Div => a / b,
                BinaryOp::Rem => a % b,
                BinaryOp::Concat => panic!("|| of floats"),
            };
            Datum::Float(functions::check_float(result, &[a, b])?)
        }
        (Datum::Text(a), Datum::Text(b)) => {
            check_length(a.len() + b.len())?;
            Datum::Text(a + &b)
        }
        (Datum::Bytes(mut a), Datum::Bytes(b)) => {
            check_length(a.len() + b.len())?;
            a.extend_from_slice(&b);
            Datum::Bytes(a)
        }
        (a, b) => panic!("{} of {a:?} and {b:?}", op.symbol()),
    })
}
