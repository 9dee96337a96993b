//! From the parser's expressions to typed ones, by PostgreSQL's rules.
//!
//! A string literal, NULL and an untyped parameter are "unknown" until something beside them
//! (an operator's other side, a column they are assigned to) says what they are.

use sqlparser::ast;

use super::aggregate::{self, Aggregate, AggregateKind};
pub use super::literal::data_type;
use super::literal::{number, string_of};
use super::{CompareOp, Expr, functions, operators};
use crate::SqlError;
use crate::parse::ident;
use crate::types::{DataType, Datum};
use crate::value;

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

    /// Brings it to a type that PostgreSQL would convert it to by itself: 42804 if it would not,
    /// 22P02 if a literal is no value of the type.
    pub fn coerce(self, to: DataType, params: &mut Params) -> Result<Expr, SqlError> {
        match (self.expr, self.ty) {
            (expr, Some(from)) if from == to => Ok(expr),
            (Expr::Const(Datum::Int(v)), Some(DataType::Int)) if to == DataType::Float => {
                Ok(Expr::Const(Datum::Float(v as f64)))
            }
            (expr, Some(DataType::Int)) if to == DataType::Float => Ok(Expr::Cast(Box::new(expr), to)),
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

    /// As [`Bound::coerce`], with the wider rules of an assignment to a column; the column is for
    /// the message.
    pub fn assign(self, to: DataType, column: &str, params: &mut Params) -> Result<Expr, SqlError> {
        match self.ty {
            Some(from) if from != to => {
                let allowed = matches!((from, to), (DataType::Float, DataType::Int) | (DataType::Int, DataType::Float))
                    || to == DataType::Text;
                if !allowed {
                    return Err(SqlError::new(
                        "42804",
                        format!(
                            "column \"{column}\" is of type {} but expression is of type {}",
                            to.name(),
                            from.name()
                        ),
                    )
                    .hint("You will need to rewrite or cast the expression."));
                }
                Ok(Expr::Cast(Box::new(self.expr), to))
            }
            _ => self.coerce(to, params),
        }
    }

    /// What is still unknown becomes text.
    pub fn resolve(self, params: &mut Params) -> Result<(Expr, DataType), SqlError> {
        let ty = self.ty.unwrap_or(DataType::Text);
        Ok((self.coerce(ty, params)?, ty))
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
    pub fn bind(&mut self, expr: &ast::Expr) -> Result<Bound, SqlError> {
        use ast::Expr as E;
        Ok(match expr {
            E::Nested(inner) => self.bind(inner)?,
            E::Identifier(name) => self.column(None, name)?,
            E::CompoundIdentifier(parts) => match parts.as_slice() {
                [table, name] => self.column(Some(table), name)?,
                _ => return Err(SqlError::unsupported(format!("the name {expr}"))),
            },
            E::Value(value) => self.literal(&value.value)?,
            E::TypedString(typed) => {
                let ty = data_type(&typed.data_type)?;
                let text = string_of(&typed.value.value)
                    .ok_or_else(|| SqlError::syntax(format!("invalid literal: {expr}")))?;
                Bound::new(Expr::Const(value::parse_text(text, ty)?), ty)
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
            E::UnaryOp { op, expr } => self.unary(*op, expr)?,
            E::BinaryOp { op: op @ (ast::BinaryOperator::And | ast::BinaryOperator::Or), .. } => {
                // A long chain is a deep tree to the left: walked here, not recursed into.
                let name = if *op == ast::BinaryOperator::And { "AND" } else { "OR" };
                let mut parts = Vec::new();
                let mut rest = expr;
                while let E::BinaryOp { left, op: found, right } = rest
                    && found == op
                {
                    parts.push(self.boolean(right, name)?);
                    rest = left;
                }
                parts.push(self.boolean(rest, name)?);
                parts.reverse();
                Bound::new(if name == "AND" { Expr::And(parts) } else { Expr::Or(parts) }, DataType::Bool)
            }
            E::BinaryOp { .. } => {
                // As above: `1 + 1 + 1 ..` leans to the left.
                let mut rest = expr;
                let mut spine = Vec::new();
                while let E::BinaryOp { left, op, right } = rest
                    && !matches!(op, ast::BinaryOperator::And | ast::BinaryOperator::Or)
                {
                    spine.push((op, right));
                    rest = left;
                }
                let mut bound = self.bind(rest)?;
                for (op, right) in spine.into_iter().rev() {
                    let right = self.bind(right)?;
                    bound = operators::binary(op, bound, right, self.params)?;
                }
                bound
            }
            E::Cast {
                kind: ast::CastKind::Cast | ast::CastKind::DoubleColon,
                expr,
                data_type: ty,
                array: false,
                format: None,
            } => {
                let ty = data_type(ty)?;
                self.cast(expr, ty)?
            }
            E::Case { case_token: _, end_token: _, operand, conditions, else_result } => {
                self.case(operand.as_deref(), conditions, else_result.as_deref())?
            }
            E::Function(function) => self.function(function)?,
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
            E::Position { expr, r#in } => self.call("strpos", &[r#in, expr])?,
            E::Subquery(_) | E::Exists { .. } | E::InSubquery { .. } => {
                return Err(SqlError::unsupported("a subquery"));
            }
            E::Tuple(_) => return Err(SqlError::unsupported("a row of values in an expression")),
            E::Array(_) | E::AnyOp { .. } | E::AllOp { .. } => return Err(SqlError::unsupported("an array")),
            E::Interval(_) => return Err(SqlError::unsupported("an interval")),
            E::Collate { .. } => return Err(SqlError::unsupported("COLLATE")),
            E::AtTimeZone { .. } => return Err(SqlError::unsupported("AT TIME ZONE")),
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

    fn any(&mut self, expr: &ast::Expr) -> Result<Expr, SqlError> {
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
                if let ast::Expr::Value(value) = expr
                    && let ast::Value::Number(digits, false) = &value.value
                {
                    return number(&format!("-{digits}"));
                }
                let bound = self.bind(expr)?;
                let ty = match bound.ty {
                    None => DataType::Float,
                    Some(ty @ (DataType::Int | DataType::Float)) => ty,
                    Some(ty) => {
                        return Err(SqlError::new("42883", format!("operator does not exist: - {}", ty.name())));
                    }
                };
                Ok(Bound::new(Expr::Neg(Box::new(bound.coerce(ty, self.params)?)), ty))
            }
            ast::UnaryOperator::Plus => {
                let bound = self.bind(expr)?;
                match bound.ty {
                    Some(DataType::Int | DataType::Float) => Ok(bound),
                    None => Ok(Bound::new(bound.coerce(DataType::Float, self.params)?, DataType::Float)),
                    Some(ty) => Err(SqlError::new("42883", format!("operator does not exist: + {}", ty.name()))),
                }
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

    fn cast(&mut self, expr: &ast::Expr, to: DataType) -> Result<Bound, SqlError> {
        let bound = self.bind(expr)?;
        let expr = match (&bound.expr, bound.ty) {
            (_, None) => bound.coerce(to, self.params)?,
            (_, Some(from)) if from == to => bound.expr,
            (_, Some(from)) if value::cast_context(from, to).is_none() => {
                return Err(SqlError::new("42846", format!("cannot cast type {} to {}", from.name(), to.name())));
            }
            (Expr::Const(datum), Some(_)) => Expr::Const(value::cast(datum.clone(), to)?),
            _ => Expr::Cast(Box::new(bound.expr), to),
        };
        Ok(Bound::new(expr, to))
    }

    fn case(
        &mut self,
        operand: Option<&ast::Expr>,
        conditions: &[ast::CaseWhen],
        otherwise: Option<&ast::Expr>,
    ) -> Result<Bound, SqlError> {
        let mut tests = Vec::new();
        let mut results = Vec::new();
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
        results.push(match otherwise {
            Some(otherwise) => self.bind(otherwise)?,
            None => Bound { expr: Expr::Const(Datum::Null), ty: None },
        });
        let (mut results, ty) = operators::unify(results, "CASE", self.params)?;
        let otherwise = results.pop().expect("pushed above");
        Ok(Bound::new(Expr::Case(tests.into_iter().zip(results).collect(), Box::new(otherwise)), ty))
    }

    fn call(&mut self, name: &str, args: &[&ast::Expr]) -> Result<Bound, SqlError> {
        let args = args.iter().map(|arg| self.bind(arg)).collect::<Result<Vec<_>, _>>()?;
        let (expr, ty) = functions::resolve(name, args, self.params)?;
        Ok(Bound::new(expr, ty))
    }

    fn function(&mut self, function: &ast::Function) -> Result<Bound, SqlError> {
        let ast::Function { name, uses_odbc_syntax: _, parameters, args, filter, null_treatment, over, within_group } =
            function;
        let name = match name.0.as_slice() {
            [ast::ObjectNamePart::Identifier(name)] => ident(name),
            [ast::ObjectNamePart::Identifier(schema), ast::ObjectNamePart::Identifier(name)]
                if ident(schema) == "pg_catalog" =>
            {
                ident(name)
            }
            _ => return Err(SqlError::new("42883", format!("function {name} does not exist"))),
        };
        if over.is_some() {
            return Err(SqlError::unsupported("a window function"));
        }
        if *parameters != ast::FunctionArguments::None || null_treatment.is_some() || !within_group.is_empty() {
            return Err(SqlError::unsupported(format!("this form of calling {name}")));
        }
        let (list, treatment) = match args {
            ast::FunctionArguments::None => (&[][..], None),
            ast::FunctionArguments::Subquery(_) => return Err(SqlError::unsupported("a subquery")),
            ast::FunctionArguments::List(list) if list.clauses.is_empty() => (&list.args[..], list.duplicate_treatment),
            ast::FunctionArguments::List(_) => {
                return Err(SqlError::unsupported(format!("a clause in the arguments of {name}")));
            }
        };
        let mut star = false;
        let mut args = Vec::new();
        for arg in list {
            match arg {
                ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(expr)) => args.push(expr),
                ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Wildcard) if name == "count" && list.len() == 1 => {
                    star = true
                }
                _ => return Err(SqlError::unsupported(format!("this kind of argument of {name}"))),
            }
        }
        if let Some(kind) = aggregate::kind(&name) {
            let kind = if star { AggregateKind::CountRows } else { kind };
            if star && treatment.is_some() {
                return Err(SqlError::syntax("DISTINCT cannot be used with *"));
            }
            let distinct = treatment == Some(ast::DuplicateTreatment::Distinct);
            return self.aggregate(&name, kind, &args, distinct, filter.as_deref());
        }
        if filter.is_some() || treatment.is_some() {
            return Err(SqlError::new(
                "42809",
                format!("DISTINCT or FILTER specified, but {name} is not an aggregate function"),
            ));
        }
        let text = |text: &str| Ok(Bound::new(Expr::Const(Datum::Text(text.to_string())), DataType::Text));
        match (name.as_str(), args.len()) {
            ("now" | "current_timestamp" | "transaction_timestamp", 0) => {
                return Ok(Bound::new(Expr::Now, DataType::Timestamp));
            }
            ("version", 0) => return text(concat!("Meridian ", env!("CARGO_PKG_VERSION"))),
            ("current_database" | "current_catalog", 0) => return text("meridian"),
            ("current_schema", 0) => return text("public"),
            ("current_user" | "session_user" | "user", 0) => return text("meridian"),
            ("coalesce" | "greatest" | "least", 1..) => {
                let all = args.iter().map(|arg| self.bind(arg)).collect::<Result<Vec<_>, _>>()?;
                let (all, ty) = operators::unify(all, &name.to_uppercase(), self.params)?;
                let expr = match name.as_str() {
                    "coalesce" => Expr::Coalesce(all),
                    "greatest" => Expr::Call(functions::Function::Greatest, all),
                    _ => Expr::Call(functions::Function::Least, all),
                };
                return Ok(Bound::new(expr, ty));
            }
            ("nullif", 2) => {
                let (a, b) = (self.bind(args[0])?, self.bind(args[1])?);
                let (all, ty) = operators::unify(vec![a, b], "NULLIF", self.params)?;
                let [a, b] = <[Expr; 2]>::try_from(all).expect("two were unified");
                return Ok(Bound::new(Expr::NullIf(Box::new(a), Box::new(b)), ty));
            }
            _ => {}
        }
        self.call(&name, &args)
    }

    fn aggregate(
        &mut self,
        name: &str,
        kind: AggregateKind,
        args: &[&ast::Expr],
        distinct: bool,
        filter: Option<&ast::Expr>,
    ) -> Result<Bound, SqlError> {
        let Some(list) = self.aggregates.take() else {
            return Err(SqlError::new("42803", format!("aggregate functions are not allowed in {}", self.clause)));
        };
        let clause = std::mem::replace(&mut self.clause, "an aggregate's argument");
        let inner = (|| {
            let (arg, ty) = match (kind, args) {
                (AggregateKind::CountRows, []) => (Expr::Const(Datum::Int(1)), DataType::Int),
                (_, [arg]) => {
                    let bound = self.bind(arg)?;
                    let wanted = match kind {
                        AggregateKind::Sum | AggregateKind::Avg => DataType::Float,
                        AggregateKind::And | AggregateKind::Or => DataType::Bool,
                        _ => DataType::Text,
                    };
                    let ty = bound.ty.unwrap_or(wanted);
                    (bound.coerce(ty, self.params)?, ty)
                }
                _ => {
                    return Err(SqlError::new(
                        "42883",
                        format!("function {name} does not take {} arguments", args.len()),
                    ));
                }
            };
            let filter = filter.map(|filter| self.boolean(filter, "FILTER")).transpose()?;
            let result = aggregate::result_type(kind, ty)
                .ok_or_else(|| SqlError::new("42883", format!("function {name}({}) does not exist", ty.name())))?;
            Ok((Aggregate { kind, arg, distinct, filter }, result))
        })();
        self.clause = clause;
        let (aggregate, ty) = match inner {
            Ok(inner) => inner,
            Err(err) => {
                self.aggregates = Some(list);
                return Err(err);
            }
        };
        let index = list.iter().position(|known| *known == aggregate).unwrap_or_else(|| {
            list.push(aggregate);
            list.len() - 1
        });
        self.aggregates = Some(list);
        Ok(Bound::new(Expr::Aggregate(index), ty))
    }
}
