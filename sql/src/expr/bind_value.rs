//! Binding what makes values of the richer types: casts, arrays and their subscripts, intervals, rows.

use sqlparser::ast;

use super::bind::{Binder, Bound};
use super::literal::string_of;
use super::{CompareOp, Expr, coerce, functions, operators, resolve};
use crate::SqlError;
use crate::types::{DataType, Datum, Element, Interval, TypeModifier};
use crate::value;

/// Without parentheses around it.
pub(super) fn inner(expr: &ast::Expr) -> &ast::Expr {
    match expr {
        ast::Expr::Nested(expr) => inner(expr),
        expr => expr,
    }
}

/// `INTERVAL '1 day'`, `INTERVAL '90' MINUTE`, `INTERVAL '1-2' YEAR TO MONTH`.
pub(super) fn interval(interval: &ast::Interval) -> Result<Bound, SqlError> {
    let ast::Interval { value, leading_field, leading_precision, last_field, fractional_seconds_precision } = interval;
    let text = match &**value {
        ast::Expr::Value(value) => string_of(&value.value),
        _ => None,
    };
    let text = text.ok_or_else(|| SqlError::syntax(format!("invalid interval: {value}")))?;
    if leading_precision.is_some() || fractional_seconds_precision.is_some() {
        return Err(SqlError::unsupported("a precision of an interval's field"));
    }
    let unit = |field: &ast::DateTimeField| field.to_string().to_lowercase();
    let plain = text.trim().parse::<f64>().is_ok();
    let last = last_field.as_ref().or(leading_field.as_ref()).map(unit);
    let parsed = match (&last, plain) {
        // A number without a unit is of the last field.
        (Some(unit), true) => Interval::parse(&format!("{} {unit}", text.trim()))?,
        _ => Interval::parse(text)?,
    };
    let cut = match last.as_deref() {
        Some("year") => Interval { months: parsed.months / 12 * 12, days: 0, nanos: 0 },
        Some("month") => Interval { days: 0, nanos: 0, ..parsed },
        Some("day") => Interval { nanos: 0, ..parsed },
        Some("hour") => Interval { nanos: parsed.nanos / 3_600_000_000_000 * 3_600_000_000_000, ..parsed },
        Some("minute") => Interval { nanos: parsed.nanos / 60_000_000_000 * 60_000_000_000, ..parsed },
        _ => parsed,
    };
    Ok(Bound::new(Expr::Const(Datum::Interval(cut)), DataType::Interval))
}

impl Binder<'_> {
    /// A cast that the user wrote.
    pub(super) fn cast(
        &mut self,
        expr: &ast::Expr,
        to: DataType,
        modifier: Option<TypeModifier>,
    ) -> Result<Bound, SqlError> {
        // An array's values are cast, so that ARRAY[] has a type.
        let bound = match (inner(expr), to) {
            (ast::Expr::Array(array), DataType::Array(element)) => self.array(&array.elem, Some(element))?,
            _ => self.bind(expr)?,
        };
        bound.cast(to, modifier, self.params)
    }

    /// `current_time(3)`.
    pub(super) fn with_digits(&mut self, bound: Bound, digits: &ast::Expr) -> Result<Bound, SqlError> {
        let digits = match digits {
            ast::Expr::Value(value) => match &value.value {
                ast::Value::Number(digits, false) => digits.parse::<u8>().ok().filter(|digits| *digits <= 9),
                _ => None,
            },
            _ => None,
        };
        let digits = digits.ok_or_else(|| SqlError::syntax("a precision is a number from 0 to 9"))?;
        let expr = coerce::modify(bound.expr, Some(TypeModifier::Precision(digits)), true)?;
        Ok(Bound { expr, ty: bound.ty })
    }

    /// `ARRAY[..]`; `wanted` is what a cast makes of its values.
    pub(super) fn array(&mut self, items: &[ast::Expr], wanted: Option<Element>) -> Result<Bound, SqlError> {
        let nested = items.iter().any(|item| matches!(inner(item), ast::Expr::Array(_)));
        let mut bound = Vec::with_capacity(items.len());
        for item in items {
            bound.push(match (inner(item), wanted) {
                (ast::Expr::Array(array), wanted) => self.array(&array.elem, wanted)?,
                (item, _) => self.bind(item)?,
            });
        }
        if let Some(element) = wanted {
            let ty = if nested { DataType::Array(element) } else { element.data_type() };
            let items = bound.into_iter().map(|item| Ok(item.cast(ty, None, self.params)?.expr));
            let items = items.collect::<Result<Vec<_>, SqlError>>()?;
            return Ok(Bound::new(Expr::Array(element, items), DataType::Array(element)));
        }
        if bound.is_empty() {
            return Err(SqlError::new("42P18", "cannot determine type of empty array")
                .hint("Explicitly cast to the desired type, for example ARRAY[]::integer[]."));
        }
        let (items, ty) = operators::unify(bound, "ARRAY", self.params)?;
        let element = match ty {
            DataType::Array(element) => element,
            scalar => scalar.as_element().expect("no array"),
        };
        Ok(Bound::new(Expr::Array(element, items), DataType::Array(element)))
    }

    /// `a[1]`, `a[1:2]`, and `j['key']` of JSONB.
    pub(super) fn subscript(&mut self, root: &ast::Expr, chain: &[ast::AccessExpr]) -> Result<Bound, SqlError> {
        let mut root = self.bind(root)?;
        let mut subscripts = Vec::new();
        for access in chain {
            match access {
                ast::AccessExpr::Subscript(subscript) => subscripts.push(subscript),
                ast::AccessExpr::Dot(_) => return Err(SqlError::unsupported("a field of a value")),
            }
        }
        if root.ty == Some(DataType::Json) {
            for subscript in subscripts {
                let ast::Subscript::Index { index } = subscript else {
                    return Err(SqlError::new("42804", "jsonb subscript does not support slices"));
                };
                let index = self.bind(index)?;
                root = operators::call("->", root, index, self.params)?;
            }
            return Ok(root);
        }
        let Some(ty @ DataType::Array(element)) = root.ty else {
            let name = root.ty.map_or("unknown", DataType::name);
            return Err(SqlError::new(
                "42804",
                format!("cannot subscript type {name} because it does not support subscripting"),
            ));
        };
        let slice = subscripts.iter().any(|subscript| matches!(subscript, ast::Subscript::Slice { .. }));
        let mut bounds = Vec::new();
        for subscript in subscripts {
            bounds.push(match subscript {
                // Beside a slice an index is a slice from 1.
                ast::Subscript::Index { index } if slice => (None, Some(self.bound(index)?)),
                ast::Subscript::Index { index } => {
                    let index = self.bound(index)?;
                    (Some(index.clone()), Some(index))
                }
                ast::Subscript::Slice { stride: Some(_), .. } => {
                    return Err(SqlError::unsupported("a stride of a slice"));
                }
                ast::Subscript::Slice { lower_bound, upper_bound, stride: None } => {
                    let mut side =
                        |bound: &Option<ast::Expr>| bound.as_ref().map(|bound| self.bound(bound)).transpose();
                    (side(lower_bound)?, side(upper_bound)?)
                }
            });
        }
        let result = if slice { ty } else { element.data_type() };
        Ok(Bound::new(Expr::Subscript(Box::new(root.expr), bounds, slice), result))
    }

    fn bound(&mut self, expr: &ast::Expr) -> Result<Expr, SqlError> {
        let bound = self.bind(expr)?;
        match bound.ty {
            Some(from) if from != DataType::Int4 => match value::cast_context(from, DataType::Int4) {
                Some(value::CastContext::Implicit | value::CastContext::Assignment) => {
                    coerce::convert(bound.expr, from, DataType::Int4)
                }
                _ => Err(SqlError::new("42804", "array subscript must have type integer")),
            },
            _ => bound.coerce(DataType::Int4, self.params),
        }
    }

    /// `a = ANY(array)`, `a < ALL(array)`.
    pub(super) fn quantified(
        &mut self,
        left: &ast::Expr,
        op: &ast::BinaryOperator,
        right: &ast::Expr,
        any: bool,
    ) -> Result<Bound, SqlError> {
        if let ast::Expr::Subquery(_) = inner(right) {
            return Err(SqlError::unsupported("a subquery"));
        }
        let a = self.bind(left)?;
        // A list that is written out is IN.
        if let (ast::BinaryOperator::Eq, true, ast::Expr::Array(array)) = (op, any, inner(right)) {
            let nested = array.elem.iter().any(|item| matches!(inner(item), ast::Expr::Array(_)));
            if !nested && !array.elem.is_empty() {
                let mut all = vec![a];
                for item in &array.elem {
                    all.push(self.bind(item)?);
                }
                let (mut all, _) = operators::unify(all, "IN", self.params)?;
                let first = all.remove(0);
                return Ok(Bound::new(Expr::In(Box::new(first), all), DataType::Bool));
            }
        }
        let Some(op) = operators::comparison(op) else {
            return Err(SqlError::unsupported(format!("the operator {op} with ANY or ALL")));
        };
        let b = self.bind(right)?;
        let wrong = || SqlError::new("42809", "op ANY/ALL (array) requires array on right side");
        let (ty, b) = match (a.ty, b.ty) {
            (ty, None) => {
                let element = ty.unwrap_or(DataType::Text).as_element().ok_or_else(wrong)?;
                (element.data_type(), b.coerce(DataType::Array(element), self.params)?)
            }
            (ty, Some(array @ DataType::Array(element))) => {
                let item = element.data_type();
                let meet = resolve::common(ty.unwrap_or(item), item).and_then(DataType::as_element);
                let element = meet.ok_or_else(|| operators::undefined(op.symbol(), ty, Some(item)))?;
                (element.data_type(), coerce::convert(b.expr, array, DataType::Array(element))?)
            }
            _ => return Err(wrong()),
        };
        let a = a.coerce(ty, self.params)?;
        Ok(Bound::new(Expr::Quantified(op, Box::new(a), Box::new(b), any), DataType::Bool))
    }

    /// EXTRACT(field FROM x).
    pub(super) fn extract(&mut self, field: &ast::DateTimeField, expr: &ast::Expr) -> Result<Bound, SqlError> {
        let name = field.to_string().to_lowercase();
        let name = name.trim_matches(|c| matches!(c, '\'' | '"')).to_string();
        let name = Bound::new(Expr::Const(Datum::Text(name)), DataType::Text);
        let of = self.bind(expr)?;
        let (expr, ty) = functions::resolve("extract", vec![name, of], self.params)?;
        Ok(Bound::new(expr, ty))
    }

    pub(super) fn similar(
        &mut self,
        expr: &ast::Expr,
        pattern: &ast::Expr,
        escape: Option<&ast::ValueWithSpan>,
        negated: bool,
    ) -> Result<Bound, SqlError> {
        let mut args = vec![self.bind(expr)?, self.bind(pattern)?];
        if let Some(escape) = escape {
            let text = string_of(&escape.value).unwrap_or_default();
            if text.chars().count() > 1 {
                return Err(SqlError::new("22019", "invalid escape string").hint("It must be empty or one character."));
            }
            args.push(Bound::new(Expr::Const(Datum::Text(text.into())), DataType::Text));
        }
        let (expr, ty) = functions::resolve("similar_to", args, self.params)?;
        Ok(Bound::new(expr.negated_if(negated), ty))
    }

    /// `(a, b) < (1, 2)`: the first pair that differs decides.
    pub(super) fn compare_rows(
        &mut self,
        op: &ast::BinaryOperator,
        a: &[ast::Expr],
        b: &[ast::Expr],
    ) -> Result<Expr, SqlError> {
        let op = operators::comparison(op)
            .ok_or_else(|| SqlError::unsupported(format!("the operator {op} between rows of values")))?;
        if a.len() != b.len() {
            return Err(SqlError::syntax("unequal number of entries in row expressions"));
        }
        let mut pairs = Vec::new();
        for (a, b) in a.iter().zip(b) {
            let (a, b) = (self.bind(a)?, self.bind(b)?);
            pairs.push(operators::pair(op.symbol(), a, b, self.params)?);
        }
        let compare =
            |op: CompareOp, (a, b): &(Expr, Expr)| Expr::Compare(op, Box::new(a.clone()), Box::new(b.clone()));
        let all = |op: CompareOp| pairs.iter().map(|pair| compare(op, pair)).collect::<Vec<_>>();
        let strict = match op {
            CompareOp::Eq => return Ok(one_or(all(op), Expr::And)),
            CompareOp::Ne => return Ok(one_or(all(op), Expr::Or)),
            CompareOp::Lt | CompareOp::Le => CompareOp::Lt,
            CompareOp::Gt | CompareOp::Ge => CompareOp::Gt,
        };
        let last = pairs.len() - 1;
        let ways = (0..pairs.len()).map(|at| {
            let mut parts: Vec<Expr> = pairs[..at].iter().map(|pair| compare(CompareOp::Eq, pair)).collect();
            parts.push(compare(if at == last { op } else { strict }, &pairs[at]));
            one_or(parts, Expr::And)
        });
        Ok(one_or(ways.collect(), Expr::Or))
    }

    /// `(a, b) IN ((1, 2), (3, 4))`.
    pub(super) fn rows_in(&mut self, expr: &ast::Expr, list: &[ast::Expr]) -> Result<Expr, SqlError> {
        let ast::Expr::Tuple(a) = inner(expr) else { panic!("asked for rows only") };
        let mut ways = Vec::with_capacity(list.len());
        for item in list {
            match inner(item) {
                ast::Expr::Tuple(b) => ways.push(self.compare_rows(&ast::BinaryOperator::Eq, a, b)?),
                _ => return Err(SqlError::syntax("unequal number of entries in row expressions")),
            }
        }
        Ok(one_or(ways, Expr::Or))
    }
}

fn one_or(mut list: Vec<Expr>, join: fn(Vec<Expr>) -> Expr) -> Expr {
    if list.len() == 1 { list.remove(0) } else { join(list) }
}
