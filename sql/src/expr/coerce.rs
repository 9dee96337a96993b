//! Bringing an expression to a type: by itself, for a column, or because a cast says so.

use super::bind::{Bound, Params};
use super::{BinaryOp, Expr};
use crate::SqlError;
use crate::catalog::Column;
use crate::types::{DataType, Datum, TypeModifier};
use crate::value::{self, CastContext};

/// The conversion of an expression of a known type. Constants are converted at once; a wider integer needs
/// nothing.
pub(super) fn convert(expr: Expr, from: DataType, to: DataType) -> Result<Expr, SqlError> {
    let widens = match (from, to) {
        (DataType::Int2 | DataType::Int4, DataType::Int) | (DataType::Int2, DataType::Int4) => true,
        (from, to) => from == to,
    };
    match expr {
        expr if widens => Ok(expr),
        Expr::Const(datum) => value::cast(datum, to).map(Expr::Const),
        expr => Ok(Expr::Cast(Box::new(expr), to)),
    }
}

/// The length or precision of a type.
pub(super) fn modify(expr: Expr, modifier: Option<TypeModifier>, explicit: bool) -> Result<Expr, SqlError> {
    match (expr, modifier) {
        (expr, None | Some(TypeModifier::Varchar(None))) => Ok(expr),
        (Expr::Const(datum), Some(modifier)) => value::apply_modifier(datum, modifier, explicit).map(Expr::Const),
        (expr, Some(modifier)) => Ok(Expr::Modify(Box::new(expr), modifier, explicit)),
    }
}

/// An operator on numbers of one type, whose result is of that type: 22003 at run time if it is not.
pub(super) fn arithmetic(op: BinaryOp, a: Expr, b: Expr, ty: DataType) -> Expr {
    narrow(Expr::Binary(op, Box::new(a), Box::new(b)), ty)
}

/// The small integers are computed as bigints, and checked.
pub(super) fn narrow(expr: Expr, ty: DataType) -> Expr {
    if matches!(ty, DataType::Int2 | DataType::Int4) { Expr::Cast(Box::new(expr), ty) } else { expr }
}

impl Bound {
    /// Brings it to a type that PostgreSQL would convert it to by itself: 42804 if it would not,
    /// 22P02 if a literal is no value of the type.
    pub fn coerce(self, to: DataType, params: &mut Params) -> Result<Expr, SqlError> {
        match (self.expr, self.ty) {
            (expr, Some(from)) if value::cast_context(from, to) == Some(CastContext::Implicit) => {
                convert(expr, from, to)
            }
            (_, Some(from)) => {
                Err(SqlError::new("42804", format!("expected type {}, found type {}", to.name(), from.name())))
            }
            (Expr::Const(Datum::Null), None) => Ok(Expr::Const(Datum::Null)),
            (Expr::Const(Datum::Text(text)), None) => value::parse_text(&text, to).map(Expr::Const),
            (Expr::Param(index), None) => match params.types[index] {
                Some(known) => Bound::new(Expr::Param(index), known).coerce(to, params),
                None => {
                    params.types[index] = Some(to);
                    Ok(Expr::Param(index))
                }
            },
            (expr, None) => Ok(Expr::Cast(Box::new(expr), to)),
        }
    }

    /// As [`Bound::coerce`], with the wider rules of an assignment to a column, and its length or precision.
    pub fn assign(self, column: &Column, params: &mut Params) -> Result<Expr, SqlError> {
        let to = column.ty;
        let expr = match self.ty {
            Some(from) => match value::cast_context(from, to) {
                Some(CastContext::Implicit | CastContext::Assignment) => convert(self.expr, from, to)?,
                _ => {
                    return Err(SqlError::new(
                        "42804",
                        format!(
                            "column \"{}\" is of type {} but expression is of type {}",
                            column.name,
                            to.name(),
                            from.name()
                        ),
                    )
                    .hint("You will need to rewrite or cast the expression."));
                }
            },
            None => self.coerce(to, params)?,
        };
        modify(expr, column.modifier, false)
    }

    /// A cast that the user wrote: 42846 if there is none.
    pub(super) fn cast(
        self,
        to: DataType,
        modifier: Option<TypeModifier>,
        params: &mut Params,
    ) -> Result<Bound, SqlError> {
        let expr = match self.ty {
            None => self.coerce(to, params)?,
            Some(from) if value::cast_context(from, to).is_none() => return Err(value::no_cast(from, to)),
            Some(from) => convert(self.expr, from, to)?,
        };
        Ok(Bound::new(modify(expr, modifier, true)?, to))
    }

    /// What is still unknown becomes text.
    pub fn resolve(self, params: &mut Params) -> Result<(Expr, DataType), SqlError> {
        let ty = self.ty.unwrap_or(DataType::Text);
        Ok((self.coerce(ty, params)?, ty))
    }
}
