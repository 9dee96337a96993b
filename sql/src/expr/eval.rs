//! Computing expressions, with SQL's three-valued logic.

use std::fmt;

use truetime::Timestamp;

use super::arithmetic::{binary, out_of_range};
use super::functions::{self, Function};
use super::{BinaryOp, CompareOp, Expr};
use crate::SqlError;
use crate::engine::Random;
use crate::types::{DataType, Datum, Element, TypeModifier};
use crate::value;

/// What an expression may depend on beside its row.
#[derive(Clone, Copy)]
pub struct EvalContext<'a> {
    /// Already of the types that the plan gave them.
    pub params: &'a [Datum],
    /// `now()`.
    pub now: Timestamp,
    /// For `random()` and `gen_random_uuid()`.
    pub random: &'a dyn Random,
}

impl fmt::Debug for EvalContext<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EvalContext").field("params", &self.params).field("now", &self.now).finish_non_exhaustive()
    }
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
        Expr::Binary(op, a, b) => operate(*op, a, b, row, context),
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
        Expr::Cast(a, ty) => cast(a, *ty, row, context),
        Expr::Modify(a, modifier, explicit) => modify(a, *modifier, *explicit, row, context),
        Expr::Call(function, args) => call(*function, args, row, context),
        Expr::Array(element, items) => array(*element, items, row, context),
        Expr::Subscript(a, bounds, slice) => subscript(a, bounds, *slice, row, context),
        Expr::Quantified(op, a, array, any) => quantified(*op, a, array, *any, row, context),
    }
}

#[inline(never)]
fn operate(op: BinaryOp, a: &Expr, b: &Expr, row: &[Datum], context: &EvalContext<'_>) -> Result<Datum, SqlError> {
    let [a, b] = both(a, b, row, context)?;
    binary(op, a, b)
}

/// Arithmetic of small integers is a cast of an operator: both at once, for the sake of the stack.
#[inline(never)]
fn cast(a: &Expr, ty: DataType, row: &[Datum], context: &EvalContext<'_>) -> Result<Datum, SqlError> {
    let datum = match a {
        Expr::Binary(op, a, b) => operate(*op, a, b, row, context)?,
        a => eval(a, row, context)?,
    };
    value::cast(datum, ty)
}

#[inline(never)]
fn modify(
    a: &Expr,
    modifier: TypeModifier,
    explicit: bool,
    row: &[Datum],
    context: &EvalContext<'_>,
) -> Result<Datum, SqlError> {
    value::apply_modifier(eval(a, row, context)?, modifier, explicit)
}

#[inline(never)]
fn array(element: Element, items: &[Expr], row: &[Datum], context: &EvalContext<'_>) -> Result<Datum, SqlError> {
    functions::make_array(element, all(items, row, context)?)
}

/// Most functions have one or two arguments, which need no list.
#[inline(never)]
fn call(function: Function, args: &[Expr], row: &[Datum], context: &EvalContext<'_>) -> Result<Datum, SqlError> {
    match args {
        [a] => function.call(&[eval(a, row, context)?], context),
        [a, b] => function.call(&[eval(a, row, context)?, eval(b, row, context)?], context),
        args => function.call(&all(args, row, context)?, context),
    }
}

fn all(exprs: &[Expr], row: &[Datum], context: &EvalContext<'_>) -> Result<Vec<Datum>, SqlError> {
    exprs.iter().map(|expr| eval(expr, row, context)).collect()
}

#[inline(never)]
fn subscript(
    a: &Expr,
    bounds: &[(Option<Expr>, Option<Expr>)],
    slice: bool,
    row: &[Datum],
    context: &EvalContext<'_>,
) -> Result<Datum, SqlError> {
    let a = eval(a, row, context)?;
    let side = |bound: &Option<Expr>| bound.as_ref().map(|bound| eval(bound, row, context)).transpose();
    let bounds = bounds.iter().map(|(low, high)| Ok((side(low)?, side(high)?)));
    functions::element_at(&a, &bounds.collect::<Result<Vec<_>, SqlError>>()?, slice)
}

/// One that decides is enough; else a NULL leaves it unknown.
#[inline(never)]
fn quantified(
    op: CompareOp,
    a: &Expr,
    array: &Expr,
    any: bool,
    row: &[Datum],
    context: &EvalContext<'_>,
) -> Result<Datum, SqlError> {
    let [a, array] = both(a, array, row, context)?;
    let Datum::Array(array) = array else { return Ok(Datum::Null) };
    let mut unknown = false;
    for item in &array.items {
        match compare(op, &a, item) {
            Datum::Bool(v) if v == any => return Ok(Datum::Bool(any)),
            Datum::Bool(_) => {}
            _ => unknown = true,
        }
    }
    Ok(if unknown { Datum::Null } else { Datum::Bool(!any) })
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
        Datum::Float4(v) => Datum::Float4(-v),
        Datum::Numeric(v) => Datum::Numeric(v.neg()),
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
        (Datum::Text(a) | Datum::Char(a), Datum::Text(pattern)) if ignore_case => {
            Datum::Bool(functions::like(&a.to_lowercase(), &pattern.to_lowercase(), escape)?)
        }
        (Datum::Text(a) | Datum::Char(a), Datum::Text(pattern)) => Datum::Bool(functions::like(a, pattern, escape)?),
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
