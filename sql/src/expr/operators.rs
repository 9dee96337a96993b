//! Which operators there are for which types.

use sqlparser::ast::BinaryOperator;

use super::bind::{Bound, Params};
use super::coerce::{arithmetic, convert, narrow};
use super::resolve::{self, Failure};
use super::{BinaryOp, CompareOp, Expr, functions};
use crate::SqlError;
use crate::types::DataType;

const HINT: &str = "No operator matches the given name and argument types. You might need to add explicit type casts.";

pub(super) fn undefined(symbol: &str, a: Option<DataType>, b: Option<DataType>) -> SqlError {
    let name = |ty: Option<DataType>| ty.map_or("unknown", DataType::name);
    SqlError::new("42883", format!("operator does not exist: {} {symbol} {}", name(a), name(b))).hint(HINT)
}

fn ambiguous(symbol: &str, a: Option<DataType>, b: Option<DataType>) -> SqlError {
    let name = |ty: Option<DataType>| ty.map_or("unknown", DataType::name);
    SqlError::new("42725", format!("operator is not unique: {} {symbol} {}", name(a), name(b)))
        .hint("Could not choose a best candidate operator. You might need to add explicit type casts.")
}

/// The type that two operands of a comparison or of arithmetic meet at, if they do. A REAL meets other
/// numbers as a double: PostgreSQL has no exact type for both.
fn meet(a: Option<DataType>, b: Option<DataType>) -> Option<DataType> {
    match (a, b) {
        (Some(a), Some(b)) if a != b && (a == DataType::Float4 || b == DataType::Float4) => {
            (a.is_number() && b.is_number()).then_some(DataType::Float)
        }
        // A CHAR meets a text as a text: with the blanks at its end cut.
        (Some(DataType::Char), Some(DataType::Text)) | (Some(DataType::Text), Some(DataType::Char)) => {
            Some(DataType::Text)
        }
        (Some(a), Some(b)) => resolve::common(a, b),
        (Some(known), None) | (None, Some(known)) => Some(known),
        (None, None) => Some(DataType::Text),
    }
}

/// Both operands, brought to one type.
pub(super) fn pair(symbol: &str, a: Bound, b: Bound, params: &mut Params) -> Result<(Expr, Expr), SqlError> {
    let ty = meet(a.ty, b.ty).ok_or_else(|| undefined(symbol, a.ty, b.ty))?;
    Ok((a.coerce(ty, params)?, b.coerce(ty, params)?))
}

/// A comparison.
pub(super) fn compare(op: CompareOp, a: Bound, b: Bound, params: &mut Params) -> Result<Expr, SqlError> {
    let (a, b) = pair(op.symbol(), a, b, params)?;
    Ok(Expr::Compare(op, Box::new(a), Box::new(b)))
}

/// All of them, brought to one type: the results of CASE, the items of IN.
pub(crate) fn unify(all: Vec<Bound>, what: &str, params: &mut Params) -> Result<(Vec<Expr>, DataType), SqlError> {
    let mut ty = None;
    for bound in &all {
        if bound.ty.is_none() {
            continue;
        }
        let met = match (ty, bound.ty) {
            (None, found) => found,
            (found, next) if what == "IN" => Some(meet(found, next).ok_or_else(|| undefined("=", found, next))?),
            (Some(found), Some(next)) => Some(resolve::common(found, next).ok_or_else(|| {
                SqlError::new("42804", format!("{what} types {} and {} cannot be matched", found.name(), next.name()))
            })?),
            (found, None) => found,
        };
        ty = met;
    }
    let ty = ty.unwrap_or(DataType::Text);
    let all = all.into_iter().map(|bound| bound.coerce(ty, params)).collect::<Result<_, _>>()?;
    Ok((all, ty))
}

/// LIKE and ILIKE.
pub(super) fn like(
    a: Bound,
    pattern: Bound,
    escape: Option<char>,
    negated: bool,
    ignore_case: bool,
    params: &mut Params,
) -> Result<Bound, SqlError> {
    let is_text = |ty: Option<DataType>| ty.is_none_or(DataType::is_string);
    if !is_text(a.ty) || !is_text(pattern.ty) {
        return Err(undefined(if ignore_case { "~~*" } else { "~~" }, a.ty, pattern.ty));
    }
    // A CHAR keeps its blanks here, as in PostgreSQL.
    let a = match a.ty {
        Some(DataType::Char) => a.expr,
        _ => a.coerce(DataType::Text, params)?,
    };
    let pattern = pattern.coerce(DataType::Text, params)?;
    Ok(Bound::new(Expr::Like(Box::new(a), Box::new(pattern), escape, ignore_case).negated_if(negated), DataType::Bool))
}

/// The comparison that a sign means.
pub(super) fn comparison(op: &BinaryOperator) -> Option<CompareOp> {
    Some(match op {
        BinaryOperator::Eq => CompareOp::Eq,
        BinaryOperator::NotEq => CompareOp::Ne,
        BinaryOperator::Lt => CompareOp::Lt,
        BinaryOperator::LtEq => CompareOp::Le,
        BinaryOperator::Gt => CompareOp::Gt,
        BinaryOperator::GtEq => CompareOp::Ge,
        _ => return None,
    })
}

/// Any binary operator but AND and OR.
pub(super) fn binary(op: &BinaryOperator, a: Bound, b: Bound, params: &mut Params) -> Result<Bound, SqlError> {
    if let Some(op) = comparison(op) {
        return Ok(Bound::new(compare(op, a, b, params)?, DataType::Bool));
    }
    let numeric = match op {
        BinaryOperator::Plus => Some(BinaryOp::Add),
        BinaryOperator::Minus => Some(BinaryOp::Sub),
        BinaryOperator::Multiply => Some(BinaryOp::Mul),
        BinaryOperator::Divide => Some(BinaryOp::Div),
        BinaryOperator::Modulo => Some(BinaryOp::Rem),
        BinaryOperator::StringConcat => return concat(a, b, params),
        BinaryOperator::PGLikeMatch => return like(a, b, Some('\\'), false, false, params),
        BinaryOperator::PGILikeMatch => return like(a, b, Some('\\'), false, true, params),
        BinaryOperator::PGNotLikeMatch => return like(a, b, Some('\\'), true, false, params),
        BinaryOperator::PGNotILikeMatch => return like(a, b, Some('\\'), true, true, params),
        _ => None,
    };
    let is_number = |ty: Option<DataType>| ty.is_none_or(DataType::is_number);
    if let Some(numeric) = numeric
        && (a.ty.is_some() || b.ty.is_some())
        && is_number(a.ty)
        && is_number(b.ty)
        && let Some(ty) = meet(a.ty, b.ty)
    {
        let is_float = matches!(ty, DataType::Float | DataType::Float4);
        if numeric == BinaryOp::Rem && is_float {
            return Err(undefined("%", a.ty, b.ty));
        }
        let (a, b) = (a.coerce(ty, params)?, b.coerce(ty, params)?);
        return Ok(Bound::new(arithmetic(numeric, a, b, ty), ty));
    }
    call(&op.to_string(), a, b, params)
}

/// An operator of the tables of functions.
pub(super) fn call(symbol: &str, a: Bound, b: Bound, params: &mut Params) -> Result<Bound, SqlError> {
    let (a_ty, b_ty) = (a.ty, b.ty);
    if !functions::all().any(|signature| signature.name == symbol && signature.args.len() == 2) {
        return Err(SqlError::unsupported(format!("the operator {symbol}")));
    }
    match functions::pick(symbol, vec![a, b], true, params)? {
        Ok((expr, ty)) => Ok(Bound::new(expr, ty)),
        Err((Failure::None, _)) if a_ty.is_some() || b_ty.is_some() => Err(undefined(symbol, a_ty, b_ty)),
        Err(_) => Err(ambiguous(symbol, a_ty, b_ty)),
    }
}

/// An operator before its operand.
pub(super) fn prefix(symbol: &str, a: Bound, params: &mut Params) -> Result<Bound, SqlError> {
    let name = a.ty.map_or("unknown", DataType::name);
    let (none, several) = (
        SqlError::new("42883", format!("operator does not exist: {symbol} {name}")).hint(HINT),
        SqlError::new("42725", format!("operator is not unique: {symbol} {name}"))
            .hint("Could not choose a best candidate operator. You might need to add explicit type casts."),
    );
    match functions::pick(symbol, vec![a], true, params)? {
        Ok((expr, ty)) => Ok(Bound::new(expr, ty)),
        Err((Failure::None, _)) => Err(none),
        Err(_) => Err(several),
    }
}

/// Unary minus.
pub(super) fn minus(a: Bound, params: &mut Params) -> Result<Bound, SqlError> {
    match a.ty {
        Some(ty) if ty.is_number() => {
            let expr = a.coerce(ty, params)?;
            Ok(Bound::new(narrow(Expr::Neg(Box::new(expr)), ty), ty))
        }
        None => Ok(Bound::new(Expr::Neg(Box::new(a.coerce(DataType::Float, params)?)), DataType::Float)),
        Some(_) => prefix("-", a, params),
    }
}

/// `||`: text with anything, or what the tables know.
fn concat(a: Bound, b: Bound, params: &mut Params) -> Result<Bound, SqlError> {
    let text = |ty: Option<DataType>| ty.is_some_and(DataType::is_string);
    let array = |ty: Option<DataType>| matches!(ty, Some(DataType::Array(_)));
    let unknown = a.ty.is_none() && b.ty.is_none();
    let as_text = unknown
        || (text(a.ty) && !array(b.ty))
        || (text(b.ty) && !array(a.ty))
        // Beside an unknown one: a scalar that has no || of its own.
        || ((a.ty.is_none() || b.ty.is_none())
            && ![a.ty, b.ty].iter().flatten().any(|ty| {
                matches!(ty, DataType::Bytes | DataType::Json | DataType::Array(_))
            }));
    if !as_text {
        return call("||", a, b, params);
    }
    let mut side = |bound: Bound| match bound.ty {
        Some(from) => convert(bound.expr, from, DataType::Text),
        None => bound.coerce(DataType::Text, params),
    };
    let (a, b) = (side(a)?, side(b)?);
    Ok(Bound::new(Expr::Binary(BinaryOp::Concat, Box::new(a), Box::new(b)), DataType::Text))
}
