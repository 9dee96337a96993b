//! From the parser's expressions to typed ones, by PostgreSQL's rules.
//!
//! A string literal, NULL and an untyped parameter are "unknown" until something beside them
//! (an operator's other side, a column they are assigned to) says what they are.

use sqlparser::ast;

use super::aggregate::Aggregate;
use super::literal::number;
pub use super::literal::string_of;
pub use super::literal::{data_type, type_of};
use super::{CompareOp, Expr, operators};
use crate::SqlError;
use crate::parse::ident;
use crate::types::{DataType, Datum};

/// The types of a statement's parameters, as far as they are known.
#[derive(Clone, Debug, Default)]
pub struct Params {
    /// `$1` is 0.
    pub types: Vec<Option<DataType>>,
}

/// The most parameters of a statement, as in PostgreSQL's protocol.
pub const PARAMS_MAX: usize = 65_535;

impl Params {
    /// All types; what nothing determined is text.
    pub fn finish(self) -> Vec<DataType> {
        self.types.into_iter().map(|ty| ty.unwrap_or(DataType::Text)).collect()
    }
}

/// An expression and its type; `None` while it is unknown.
#[derive(Clone, Debug)]
pub struct Bound {
    /// The expression.
    pub expr: Expr,
    /// Its type.
    pub ty: Option<DataType>,
}

impl Bound {
    pub(super) fn new(expr: Expr, ty: DataType) -> Bound {
        Bound { expr, ty: Some(ty) }
    }
}

/// A column that an expression may name.
#[derive(Clone, Debug)]
pub struct ScopeColumn {
    /// The table's name or alias.
    pub table: String,
    /// The column's name.
    pub name: String,
    /// Its type.
    pub ty: DataType,
}

/// The input row of an expression.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// Its columns, in order.
    pub columns: Vec<ScopeColumn>,
}

impl Scope {
    /// Finds a column: 42703, 42P01, or 42702 if there are several.
    pub fn find(&self, table: Option<&str>, name: &str) -> Result<(usize, DataType), SqlError> {
        let mut hits = self
            .columns
            .iter()
            .enumerate()
            .filter(|(_, column)| column.name == name && table.is_none_or(|table| column.table == table));
        let Some((index, column)) = hits.next() else {
            return Err(match table {
                Some(table) if !self.columns.iter().any(|column| column.table == table) => {
                    SqlError::new("42P01", format!("missing FROM-clause entry for table \"{table}\""))
                }
                Some(table) => SqlError::new("42703", format!("column {table}.{name} does not exist")),
                None => SqlError::new("42703", format!("column \"{name}\" does not exist")),
            });
        };
        if hits.next().is_some() {
            return Err(SqlError::new("42702", format!("column reference \"{name}\" is ambiguous")));
        }
        Ok((index, column.ty))
    }
}

/// A number as it is written, with the signs before it.
fn signed_digits(expr: &ast::Expr) -> Option<String> {
    match expr {
        ast::Expr::Value(value) => match &value.value {
            ast::Value::Number(digits, false) => Some(digits.clone()),
            _ => None,
        },
        ast::Expr::Nested(expr) => signed_digits(expr),
        ast::Expr::UnaryOp { op: ast::UnaryOperator::Minus, expr } => {
            let digits = signed_digits(expr)?;
            Some(digits.strip_prefix('-').map_or_else(|| format!("-{digits}"), str::to_string))
        }
        _ => None,
    }
}

/// Binds the expressions of one clause.
pub struct Binder<'a> {
    /// What names mean.
    pub scope: &'a Scope,
    /// Learns the types of parameters.
    pub params: &'a mut Params,
    /// Collects aggregates; `None` where they are not allowed.
    pub aggregates: Option<&'a mut Vec<Aggregate>>,
    /// For messages: `WHERE`.
    pub clause: &'static str,
}

impl Binder<'_> {
    /// Binds an expression.
    ///
    /// What nests deeply is told apart here, in a frame that stays small; the rest has functions of its own.
    pub fn bind(&mut self, expr: &ast::Expr) -> Result<Bound, SqlError> {
        use ast::Expr as E;
        match expr {
            E::Nested(inner) => self.bind(inner),
            E::Identifier(name) => self.column(None, name),
            E::Value(value) => self.literal(&value.value),
            E::UnaryOp { op, expr } => self.unary(*op, expr),
            E::BinaryOp { op: ast::BinaryOperator::And, .. } => self.connected(expr, &ast::BinaryOperator::And),
            E::BinaryOp { op: ast::BinaryOperator::Or, .. } => self.connected(expr, &ast::BinaryOperator::Or),
            E::BinaryOp { .. } => self.operation(expr),
            E::Case { case_token: _, end_token: _, operand, conditions, else_result } => {
                self.case(operand.as_deref(), conditions, else_result.as_deref())
            }
            E::Function(function) => self.function(function),
            other => self.bind_other(other),
        }
    }

    /// AND, OR. A long chain is a deep tree to the left: walked here, not recursed into.
    fn connected(&mut self, expr: &ast::Expr, op: &ast::BinaryOperator) -> Result<Bound, SqlError> {
        let name = if *op == ast::BinaryOperator::And { "AND" } else { "OR" };
        let mut parts = Vec::new();
        let mut rest = expr;
        while let ast::Expr::BinaryOp { left, op: found, right } = rest
            && found == op
        {
            parts.push(self.boolean(right, name)?);
            rest = left;
        }
        parts.push(self.boolean(rest, name)?);
        parts.reverse();
        Ok(Bound::new(if name == "AND" { Expr::And(parts) } else { Expr::Or(parts) }, DataType::Bool))
    }

    /// Any other operator. As above: `1 + 1 + 1 ..` leans to the left.
    fn operation(&mut self, expr: &ast::Expr) -> Result<Bound, SqlError> {
        use ast::Expr as E;
        let mut rest = expr;
        let mut spine = Vec::new();
        while let E::BinaryOp { left, op, right } = rest
            && !matches!(op, ast::BinaryOperator::And | ast::BinaryOperator::Or)
        {
            spine.push((op, right));
            rest = left;
        }
        if let [(op, right)] = spine.as_slice()
            && let (E::Tuple(a), E::Tuple(b)) = (super::bind_value::inner(rest), super::bind_value::inner(right))
        {
            return Ok(Bound::new(self.compare_rows(op, a, b)?, DataType::Bool));
        }
        let mut bound = self.bind(rest)?;
        for (op, right) in spine.into_iter().rev() {
            let right = self.bind(right)?;
            bound = operators::binary(op, bound, right, self.params)?;
        }
        Ok(bound)
    }

    #[inline(never)]
    fn bind_other(&mut self, expr: &ast::Expr) -> Result<Bound, SqlError> {
        use ast::Expr as E;
        Ok(match expr {
            E::CompoundIdentifier(parts) => match parts.as_slice() {
                [table, name] => self.column(Some(table), name)?,
                _ => return Err(SqlError::unsupported(format!("the name {expr}"))),
            },
            E::TypedString(typed) => {
                let (ty, modifier) = type_of(&typed.data_type)?;
                let text = string_of(&typed.value.value)
                    .ok_or_else(|| SqlError::syntax(format!("invalid literal: {expr}")))?;
                Bound { expr: Expr::Const(Datum::Text(text.into())), ty: None }.cast(ty, modifier, self.params)?
            }
            E::IsNull(a) => Bound::new(Expr::IsNull(Box::new(self.any(a)?)), DataType::Bool),
            E::IsNotNull(a) => Bound::new(Expr::IsNull(Box::new(self.any(a)?)).negated(), DataType::Bool),
            E::IsTrue(a) => Bound::new(Expr::IsBool(Box::new(self.boolean(a, "IS TRUE")?), true), DataType::Bool),
            E::IsNotTrue(a) => {
                Bound::new(Expr::IsBool(Box::new(self.boolean(a, "IS NOT TRUE")?), true).negated(), DataType::Bool)
            }
            E::IsFalse(a) => Bound::new(Expr::IsBool(Box::new(self.boolean(a, "IS FALSE")?), false), DataType::Bool),
            E::IsNotFalse(a) => {
                Bound::new(Expr::IsBool(Box::new(self.boolean(a, "IS NOT FALSE")?), false).negated(), DataType::Bool)
            }
            E::IsUnknown(a) => Bound::new(Expr::IsNull(Box::new(self.boolean(a, "IS UNKNOWN")?)), DataType::Bool),
            E::IsNotUnknown(a) => {
                Bound::new(Expr::IsNull(Box::new(self.boolean(a, "IS NOT UNKNOWN")?)).negated(), DataType::Bool)
            }
            E::IsDistinctFrom(a, b) => Bound::new(self.distinct(a, b)?, DataType::Bool),
            E::IsNotDistinctFrom(a, b) => Bound::new(self.distinct(a, b)?.negated(), DataType::Bool),
            E::InList { expr, list, negated } if matches!(super::bind_value::inner(expr), E::Tuple(_)) => {
                Bound::new(self.rows_in(expr, list)?.negated_if(*negated), DataType::Bool)
            }
            E::InList { expr, list, negated } => {
                let mut all = vec![self.bind(expr)?];
                for item in list {
                    all.push(self.bind(item)?);
                }
                let (mut all, _) = operators::unify(all, "IN", self.params)?;
                let first = all.remove(0);
                Bound::new(Expr::In(Box::new(first), all).negated_if(*negated), DataType::Bool)
            }
            E::Between { expr, negated, low, high } => {
                let (a, low, high) = (self.bind(expr)?, self.bind(low)?, self.bind(high)?);
                let low = operators::compare(CompareOp::Ge, a.clone(), low, self.params)?;
                let high = operators::compare(CompareOp::Le, a, high, self.params)?;
                Bound::new(Expr::And(vec![low, high]).negated_if(*negated), DataType::Bool)
            }
            E::Like { negated, any: false, expr, pattern, escape_char } => {
                self.like(expr, pattern, escape_char, *negated, false)?
            }
            E::ILike { negated, any: false, expr, pattern, escape_char } => {
                self.like(expr, pattern, escape_char, *negated, true)?
            }
            E::Cast {
                kind: ast::CastKind::Cast | ast::CastKind::DoubleColon,
                expr,
                data_type: ty,
                array: false,
                format: None,
            } => {
                let (ty, modifier) = type_of(ty)?;
                self.cast(expr, ty, modifier)?
            }
            E::Ceil { expr, field: ast::CeilFloorKind::DateTimeField(ast::DateTimeField::NoDateTime) } => {
                self.call("ceil", &[expr])?
            }
            E::Floor { expr, field: ast::CeilFloorKind::DateTimeField(ast::DateTimeField::NoDateTime) } => {
                self.call("floor", &[expr])?
            }
            E::Substring { expr, substring_from: Some(from), substring_for, special: _, shorthand: _ } => {
                match substring_for {
                    Some(len) => self.call("substring", &[expr, from, len])?,
                    None => self.call("substring", &[expr, from])?,
                }
            }
            E::Trim { trim_where, trim_what, expr, trim_characters: None } => {
                let name = match trim_where {
                    None | Some(ast::TrimWhereField::Both) => "btrim",
                    Some(ast::TrimWhereField::Leading) => "ltrim",
                    Some(ast::TrimWhereField::Trailing) => "rtrim",
                };
                match trim_what {
                    Some(what) => self.call(name, &[expr, what])?,
                    None => self.call(name, &[expr])?,
                }
            }
            E::Position { expr, r#in } => self.call("position", &[r#in, expr])?,
            E::Overlay { expr, overlay_what, overlay_from, overlay_for } => match overlay_for {
                Some(length) => self.call("overlay", &[expr, overlay_what, overlay_from, length])?,
                None => self.call("overlay", &[expr, overlay_what, overlay_from])?,
            },
            E::SimilarTo { negated, expr, pattern, escape_char } => {
                self.similar(expr, pattern, escape_char.as_ref(), *negated)?
            }
            E::Subquery(_) | E::Exists { .. } | E::InSubquery { .. } => {
                return Err(SqlError::unsupported("a subquery"));
            }
            E::Tuple(_) => return Err(SqlError::unsupported("a row of values in an expression")),
            E::Array(array) => self.array(&array.elem, None)?,
            E::CompoundFieldAccess { root, access_chain } => self.subscript(root, access_chain)?,
            E::AnyOp { left, compare_op, right, is_some: _ } => self.quantified(left, compare_op, right, true)?,
            E::AllOp { left, compare_op, right } => self.quantified(left, compare_op, right, false)?,
            E::Interval(interval) => super::bind_value::interval(interval)?,
            E::Extract { field, syntax: _, expr } => self.extract(field, expr)?,
            E::Collate { .. } => return Err(SqlError::unsupported("COLLATE")),
            E::AtTimeZone { timestamp, time_zone } => self.call("timezone", &[time_zone, timestamp])?,
            other => {
                let text: String = other.to_string().chars().take(80).collect();
                return Err(SqlError::unsupported(format!("the expression {text}")));
            }
        })
    }

    /// A condition: 42804 if it is not boolean.
    pub fn boolean(&mut self, expr: &ast::Expr, clause: &str) -> Result<Expr, SqlError> {
        let bound = self.bind(expr)?;
        let found = bound.ty;
        match found {
            None | Some(DataType::Bool) => bound.coerce(DataType::Bool, self.params),
            Some(found) => Err(SqlError::new(
                "42804",
                format!("argument of {clause} must be type boolean, not type {}", found.name()),
            )),
        }
    }

    pub(super) fn any(&mut self, expr: &ast::Expr) -> Result<Expr, SqlError> {
        Ok(self.bind(expr)?.resolve(self.params)?.0)
    }

    fn column(&mut self, table: Option<&ast::Ident>, name: &ast::Ident) -> Result<Bound, SqlError> {
        let table = table.map(ident);
        let (index, ty) = self.scope.find(table.as_deref(), &ident(name))?;
        Ok(Bound::new(Expr::Column(index), ty))
    }

    fn literal(&mut self, value: &ast::Value) -> Result<Bound, SqlError> {
        if let Some(text) = string_of(value) {
            if text.contains('\0') {
                return Err(SqlError::new("22021", "invalid byte sequence for encoding \"UTF8\": 0x00"));
            }
            return Ok(Bound { expr: Expr::Const(Datum::Text(text.to_string())), ty: None });
        }
        Ok(match value {
            ast::Value::Null => Bound { expr: Expr::Const(Datum::Null), ty: None },
            ast::Value::Boolean(v) => Bound::new(Expr::Const(Datum::Bool(*v)), DataType::Bool),
            ast::Value::Number(digits, false) => number(digits)?,
            ast::Value::Placeholder(name) => {
                let index = name
                    .strip_prefix('$')
                    .and_then(|digits| digits.parse::<usize>().ok())
                    .filter(|number| (1..=PARAMS_MAX).contains(number))
                    .ok_or_else(|| SqlError::new("42P02", format!("there is no parameter {name}")))?
                    - 1;
                if self.params.types.len() <= index {
                    self.params.types.resize(index + 1, None);
                }
                Bound { expr: Expr::Param(index), ty: self.params.types[index] }
            }
            other => return Err(SqlError::unsupported(format!("the literal {other}"))),
        })
    }

    fn unary(&mut self, op: ast::UnaryOperator, expr: &ast::Expr) -> Result<Bound, SqlError> {
        match op {
            ast::UnaryOperator::Not => Ok(Bound::new(self.boolean(expr, "NOT")?.negated(), DataType::Bool)),
            ast::UnaryOperator::Minus => {
                // The least integer has no positive twin: the sign belongs to the literal.
                if let Some(digits) = signed_digits(expr) {
                    return number(&match digits.strip_prefix('-') {
                        Some(positive) => positive.into(),
                        None => format!("-{digits}"),
                    });
                }
                let bound = self.bind(expr)?;
                operators::minus(bound, self.params)
            }
            ast::UnaryOperator::Plus => {
                let bound = self.bind(expr)?;
                match bound.ty {
                    Some(ty) if ty.is_number() => Ok(bound),
                    None => Ok(Bound::new(bound.coerce(DataType::Float, self.params)?, DataType::Float)),
                    Some(ty) => Err(SqlError::new("42883", format!("operator does not exist: + {}", ty.name()))),
                }
            }
            ast::UnaryOperator::BitwiseNot
            | ast::UnaryOperator::PGAbs
            | ast::UnaryOperator::PGSquareRoot
            | ast::UnaryOperator::PGCubeRoot => {
                let bound = self.bind(expr)?;
                operators::prefix(&op.to_string(), bound, self.params)
            }
            other => Err(SqlError::unsupported(format!("the operator {other}"))),
        }
    }

    fn distinct(&mut self, a: &ast::Expr, b: &ast::Expr) -> Result<Expr, SqlError> {
        let (a, b) = (self.bind(a)?, self.bind(b)?);
        let (a, b) = operators::pair("IS DISTINCT FROM", a, b, self.params)?;
        Ok(Expr::Distinct(Box::new(a), Box::new(b)))
    }

    fn like(
        &mut self,
        expr: &ast::Expr,
        pattern: &ast::Expr,
        escape: &Option<ast::ValueWithSpan>,
        negated: bool,
        ignore_case: bool,
    ) -> Result<Bound, SqlError> {
        let escape = match escape.as_ref().map(|value| string_of(&value.value).unwrap_or("\0\0")) {
            None => Some('\\'),
            Some(text) => {
                let mut chars = text.chars();
                let first = chars.next();
                if chars.next().is_some() {
                    return Err(
                        SqlError::new("22019", "invalid escape string").hint("It must be empty or one character.")
                    );
                }
                first
            }
        };
        let (a, pattern) = (self.bind(expr)?, self.bind(pattern)?);
        operators::like(a, pattern, escape, negated, ignore_case, self.params)
    }

    fn case(
        &mut self,
        operand: Option<&ast::Expr>,
        conditions: &[ast::CaseWhen],
        otherwise: Option<&ast::Expr>,
    ) -> Result<Bound, SqlError> {
        let mut tests = Vec::new();
        // ELSE first: as in PostgreSQL, its type is the first that the others meet.
        let mut results = vec![match otherwise {
            Some(otherwise) => self.bind(otherwise)?,
            None => Bound { expr: Expr::Const(Datum::Null), ty: None },
        }];
        for branch in conditions {
            tests.push(match operand {
                None => self.boolean(&branch.condition, "CASE/WHEN")?,
                Some(operand) => {
                    let (a, b) = (self.bind(operand)?, self.bind(&branch.condition)?);
                    operators::compare(CompareOp::Eq, a, b, self.params)?
                }
            });
            results.push(self.bind(&branch.result)?);
        }
        let (mut results, ty) = operators::unify(results, "CASE", self.params)?;
        let otherwise = results.remove(0);
        Ok(Bound::new(Expr::Case(tests.into_iter().zip(results).collect(), Box::new(otherwise)), ty))
    }
}
