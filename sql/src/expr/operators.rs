//! Which operators there are for which types.

use sqlparser::ast::BinaryOperator;

use super::bind::{Bound, Params};
use super::{BinaryOp, CompareOp, Expr};
use crate::SqlError;
use crate::types::DataType;

fn undefined(symbol: &str, a: Option<DataType>, b: Option<DataType>) -> SqlError {
    let name = |ty: Option<DataType>| ty.map_or("unknown", DataType::name);
    SqlError::new("42883", format!("operator does not exist: {} {symbol} {}", name(a), name(b)))
        .hint("No operator matches the given name and argument types. You might need to add explicit type casts.")
}

/// The type that two operands meet at, if they do.
fn meet(a: Option<DataType>, b: Option<DataType>) -> Option<DataType> {
    match (a, b) {
        (Some(a), Some(b)) if a == b => Some(a),
        (Some(DataType::Int), Some(DataType::Float)) | (Some(DataType::Float), Some(DataType::Int)) => {
            Some(DataType::Float)
        }
        (Some(_), Some(_)) => None,
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
        if bound.ty.is_some() {
            ty = Some(
                match ty {
                    None => bound.ty,
                    found => match meet(found, bound.ty) {
                        Some(ty) => Some(ty),
                        None if what == "IN" => return Err(undefined("=", found, bound.ty)),
                        None => {
                            let name = |ty: Option<DataType>| ty.map_or("unknown", DataType::name);
                            return Err(SqlError::new(
                                "42804",
                                format!("{what} types {} and {} cannot be matched", name(found), name(bound.ty)),
                            ));
                        }
                    },
                }
                .expect("one of the two is known"),
            );
        }
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
    let is_text = |ty: Option<DataType>| ty.is_none_or(|ty| ty == DataType::Text);
    if !is_text(a.ty) || !is_text(pattern.ty) {
        return Err(undefined(if ignore_case { "~~*" } else { "~~" }, a.ty, pattern.ty));
    }
    let a = a.coerce(DataType::Text, params)?;
    let pattern = pattern.coerce(DataType::Text, params)?;
    Ok(Bound::new(Expr::Like(Box::new(a), Box::new(pattern), escape, ignore_case).negated_if(negated), DataType::Bool))
}

/// Any binary operator but AND and OR.
pub(super) fn binary(op: &BinaryOperator, a: Bound, b: Bound, params: &mut Params) -> Result<Bound, SqlError> {
    let compared = match op {
        BinaryOperator::Eq => Some(CompareOp::Eq),
        BinaryOperator::NotEq => Some(CompareOp::Ne),
        BinaryOperator::Lt => Some(CompareOp::Lt),
        BinaryOperator::LtEq => Some(CompareOp::Le),
        BinaryOperator::Gt => Some(CompareOp::Gt),
        BinaryOperator::GtEq => Some(CompareOp::Ge),
        _ => None,
    };
    if let Some(op) = compared {
        return Ok(Bound::new(compare(op, a, b, params)?, DataType::Bool));
    }
    let arithmetic = match op {
        BinaryOperator::Plus => BinaryOp::Add,
        BinaryOperator::Minus => BinaryOp::Sub,
        BinaryOperator::Multiply => BinaryOp::Mul,
        BinaryOperator::Divide => BinaryOp::Div,
        BinaryOperator::Modulo => BinaryOp::Rem,
        BinaryOperator::StringConcat => return concat(a, b, params),
        BinaryOperator::PGLikeMatch => return like(a, b, Some('\\'), false, false, params),
        BinaryOperator::PGILikeMatch => return like(a, b, Some('\\'), false, true, params),
        BinaryOperator::PGNotLikeMatch => return like(a, b, Some('\\'), true, false, params),
        BinaryOperator::PGNotILikeMatch => return like(a, b, Some('\\'), true, true, params),
        other => return Err(SqlError::unsupported(format!("the operator {other}"))),
    };
    if a.ty.is_none() && b.ty.is_none() {
        return Err(SqlError::new("42725", format!("operator is not unique: unknown {} unknown", arithmetic.symbol()))
            .hint("Could not choose a best candidate operator. You might need to add explicit type casts."));
    }
    let ty = meet(a.ty, b.ty).filter(|ty| matches!(ty, DataType::Int | DataType::Float));
    let ty = ty.ok_or_else(|| undefined(arithmetic.symbol(), a.ty, b.ty))?;
    let (a, b) = (a.coerce(ty, params)?, b.coerce(ty, params)?);
    Ok(Bound::new(Expr::Binary(arithmetic, Box::new(a), Box::new(b)), ty))
}

/// `||`: bytes with bytes, or text with anything.
fn concat(a: Bound, b: Bound, params: &mut Params) -> Result<Bound, SqlError> {
    let bytes = |ty: Option<DataType>| ty == Some(DataType::Bytes);
    let text = |ty: Option<DataType>| ty.is_none_or(|ty| ty == DataType::Text);
    let ty = match (a.ty, b.ty) {
        (a, b) if (bytes(a) && (bytes(b) || b.is_none())) || (a.is_none() && bytes(b)) => DataType::Bytes,
        (a, b) if text(a) || text(b) => DataType::Text,
        (a, b) => return Err(undefined("||", a, b)),
    };
    let mut side = |bound: Bound| match bound.ty {
        Some(from) if from != ty => Ok(Expr::Cast(Box::new(bound.expr), ty)),
        _ => bound.coerce(ty, params),
    };
    let (a, b) = (side(a)?, side(b)?);
    Ok(Bound::new(Expr::Binary(BinaryOp::Concat, Box::new(a), Box::new(b)), ty))
}
