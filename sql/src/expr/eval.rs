//! Computing expressions, with SQL's three-valued logic.

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
///
/// One function for each kind, so that the frame that repeats down a deep tree stays small.
pub fn eval(expr: &Expr, row: &[Datum], context: &EvalContext<'_>) -> Result<Datum, SqlError> {
    match expr {
        Expr::Const(datum) => Ok(datum.clone()),
        Expr::Column(index) => Ok(row[*index].clone()),
        Expr::Param(index) => param(*index, context),
        Expr::Now => Ok(Datum::Timestamp(context.now)),
        Expr::Aggregate(_) => panic!("an aggregate was not rewritten"),
        Expr::Not(a) => not(a, row, context),
        Expr::And(list) => connect(list, false, row, context),
        Expr::Or(list) => connect(list, true, row, context),
        Expr::IsNull(a) => Ok(Datum::Bool(eval(a, row, context)?.is_null())),
        Expr::IsBool(a, want) => Ok(Datum::Bool(eval(a, row, context)? == Datum::Bool(*want))),
        Expr::Neg(a) => negate(a, row, context),
        Expr::Binary(op, a, b) => {
            let [a, b] = both(a, b, row, context)?;
            binary(*op, a, b)
        }
        Expr::Compare(op, a, b) => {
            let [a, b] = both(a, b, row, context)?;
            Ok(compare(*op, &a, &b))
        }
        Expr::Distinct(a, b) => {
            let [a, b] = both(a, b, row, context)?;
            Ok(Datum::Bool(value::compare(&a, &b).is_ne()))
        }
        Expr::In(a, list) => is_in(a, list, row, context),
        Expr::Like(a, pattern, escape, ignore_case) => {
            let [a, pattern] = both(a, pattern, row, context)?;
            is_like(&a, &pattern, *escape, *ignore_case)
        }
        Expr::Case(branches, otherwise) => case(branches, otherwise, row, context),
        Expr::Coalesce(list) => coalesce(list, row, context),
        Expr::NullIf(a, b) => {
            let [a, b] = both(a, b, row, context)?;
            Ok(if compare(CompareOp::Eq, &a, &b) == Datum::Bool(true) { Datum::Null } else { a })
        }
        Expr::Cast(a, ty) => value::cast(eval(a, row, context)?, *ty),
        Expr::Call(function, args) => {
            let args = args.iter().map(|arg| eval(arg, row, context)).collect::<Result<Vec<_>, _>>()?;
            functions::call(*function, args)
        }
    }
}

fn both(a: &Expr, b: &Expr, row: &[Datum], context: &EvalContext<'_>) -> Result<[Datum; 2], SqlError> {
    Ok([eval(a, row, context)?, eval(b, row, context)?])
}

fn param(index: usize, context: &EvalContext<'_>) -> Result<Datum, SqlError> {
    let datum = context.params.get(index).cloned();
    datum.ok_or_else(|| SqlError::new("08P01", format!("there is no parameter ${}", index + 1)))
}

fn not(a: &Expr, row: &[Datum], context: &EvalContext<'_>) -> Result<Datum, SqlError> {
    Ok(match eval(a, row, context)? {
        Datum::Bool(v) => Datum::Bool(!v),
        _ => Datum::Null,
    })
}

fn negate(a: &Expr, row: &[Datum], context: &EvalContext<'_>) -> Result<Datum, SqlError> {
    Ok(match eval(a, row, context)? {
        Datum::Int(v) => Datum::Int(v.checked_neg().ok_or_else(out_of_range)?),
        Datum::Float(v) => Datum::Float(-v),
        _ => Datum::Null,
    })
}

/// AND, which false decides, or OR, which true does.
fn connect(list: &[Expr], decides: bool, row: &[Datum], context: &EvalContext<'_>) -> Result<Datum, SqlError> {
    let mut unknown = false;
    for expr in list {
        match eval(expr, row, context)? {
            Datum::Bool(v) if v == decides => return Ok(Datum::Bool(decides)),
            Datum::Bool(_) => {}
            _ => unknown = true,
        }
    }
    Ok(if unknown { Datum::Null } else { Datum::Bool(!decides) })
}

fn is_in(a: &Expr, list: &[Expr], row: &[Datum], context: &EvalContext<'_>) -> Result<Datum, SqlError> {
    let a = eval(a, row, context)?;
    let mut unknown = a.is_null();
    for item in list {
        match compare(CompareOp::Eq, &a, &eval(item, row, context)?) {
            Datum::Bool(true) => return Ok(Datum::Bool(true)),
            Datum::Bool(false) => {}
            _ => unknown = true,
        }
    }
    Ok(if unknown { Datum::Null } else { Datum::Bool(false) })
}

fn is_like(a: &Datum, pattern: &Datum, escape: Option<char>, ignore_case: bool) -> Result<Datum, SqlError> {
    Ok(match (a, pattern) {
        (Datum::Text(a), Datum::Text(pattern)) if ignore_case => {
            Datum::Bool(like::matches(&a.to_lowercase(), &pattern.to_lowercase(), escape)?)
        }
        (Datum::Text(a), Datum::Text(pattern)) => Datum::Bool(like::matches(a, pattern, escape)?),
        _ => Datum::Null,
    })
}

fn case(
    branches: &[(Expr, Expr)],
    otherwise: &Expr,
    row: &[Datum],
    context: &EvalContext<'_>,
) -> Result<Datum, SqlError> {
    for (condition, result) in branches {
        if is_true(condition, row, context)? {
            return eval(result, row, context);
        }
    }
    eval(otherwise, row, context)
}

fn coalesce(list: &[Expr], row: &[Datum], context: &EvalContext<'_>) -> Result<Datum, SqlError> {
    for expr in list {
        let datum = eval(expr, row, context)?;
        if !datum.is_null() {
            return Ok(datum);
        }
    }
    Ok(Datum::Null)
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
