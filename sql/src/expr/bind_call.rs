//! Binding calls: functions, what the session knows, and aggregates.

use sqlparser::ast;

use super::aggregate::{self, Aggregate, AggregateKind};
use super::bind::{Binder, Bound};
use super::{Expr, functions, operators};
use crate::SqlError;
use crate::parse::ident;
use crate::plan::generated::SEQUENCE_FUNCTIONS;
use crate::types::{DataType, Datum};

impl Binder<'_> {
    pub(super) fn call(&mut self, name: &str, args: &[&ast::Expr]) -> Result<Bound, SqlError> {
        let args = args.iter().map(|arg| self.bind(arg)).collect::<Result<Vec<_>, _>>()?;
        let (expr, ty) = functions::resolve(name, args, self.params)?;
        Ok(Bound::new(expr, ty))
    }

    pub(super) fn function(&mut self, function: &ast::Function) -> Result<Bound, SqlError> {
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
                // Their first argument is a name, and no other function takes one.
                ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(ast::Expr::Cast { expr, data_type, .. }))
                    if *data_type == ast::DataType::Regclass && SEQUENCE_FUNCTIONS.contains(&name.as_str()) =>
                {
                    args.push(&**expr);
                }
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
            ("now" | "current_timestamp" | "transaction_timestamp" | "statement_timestamp", 0) => {
                return Ok(Bound::new(Expr::Now, DataType::Timestamp));
            }
            ("current_timestamp" | "localtimestamp" | "current_time" | "localtime", 1) => {
                let bound = match name.as_str() {
                    "current_timestamp" => Bound::new(Expr::Now, DataType::Timestamp),
                    name => self.call(name, &[])?,
                };
                return self.with_digits(bound, args[0]);
            }
            ("pg_typeof", 1) => {
                let ty = self.bind(args[0])?.ty;
                return text(ty.map_or("unknown", DataType::name));
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
                    name => Expr::Call(functions::extreme_of(name, ty), all),
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
                (AggregateKind::CountRows, []) => (Expr::Const(Datum::Int(1)), DataType::Int4),
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
            Ok((Aggregate { kind, arg, ty, distinct, filter }, result))
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
