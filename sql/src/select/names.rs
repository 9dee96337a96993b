//! What PostgreSQL calls the columns of a result.
//!
//! DataFusion names an unnamed column after its expression, and wants the names of a list to differ.
//! So each gets PostgreSQL's name as an alias; a second one of a name is marked, and the mark is
//! taken off again where the result leaves.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion::logical_expr::LogicalPlan;
use sqlparser::ast;

use super::types;
use crate::SqlError;
use crate::expr::aggregate;
use crate::parse::{ident, object_name};
use crate::plan::output_name;
use crate::sink::ColumnInfo;

/// Between a name and its number. No name has it: a client's text would have to.
const MARK: char = '\u{1}';

/// Names the items of a select list.
pub(super) fn name_items(items: &mut [ast::SelectItem], no_from: bool) -> Result<(), SqlError> {
    let mut taken: BTreeSet<String> = BTreeSet::new();
    for item in items.iter() {
        if let ast::SelectItem::UnnamedExpr(ast::Expr::Identifier(name)) = item {
            taken.insert(ident(name));
        }
    }
    // What `*` names may be named once more beside it.
    let star = items.iter().any(|item| matches!(item, ast::SelectItem::Wildcard(_)));
    let stars: Vec<String> = items.iter().filter_map(star_of).collect();
    let mut columns: Vec<Vec<String>> = Vec::new();
    for item in items {
        if let ast::SelectItem::UnnamedExpr(expr) = item
            && let Some(column) = column_of(expr)
        {
            // A plain column keeps its name, and its table's; a second time it gets another.
            let of_star = star || column.iter().rev().nth(1).is_some_and(|table| stars.contains(table));
            let again = of_star || columns.iter().any(|known| same_column(known, &column));
            if again {
                let name = column.last().cloned().unwrap_or_default();
                let number = columns.len() + 2;
                let alias = ast::Ident::with_quote('"', format!("{name}{MARK}{MARK}{number}"));
                *item = ast::SelectItem::ExprWithAlias { expr: expr.clone(), alias };
            }
            columns.push(column);
            continue;
        }
        let (expr, name) = match item {
            ast::SelectItem::UnnamedExpr(expr) => (expr.clone(), name_of(expr)),
            ast::SelectItem::ExprWithAlias { expr, alias } => (expr.clone(), ident(alias)),
            ast::SelectItem::Wildcard(options) | ast::SelectItem::QualifiedWildcard(_, options) => {
                if *options != ast::WildcardAdditionalOptions::default() {
                    return Err(SqlError::unsupported("an option after *"));
                }
                if no_from {
                    return Err(SqlError::syntax("SELECT * with no tables specified is not valid"));
                }
                continue;
            }
            ast::SelectItem::ExprWithAliases { .. } => {
                return Err(SqlError::unsupported("several aliases of one expression"));
            }
        };
        let mut alias = name.clone();
        let mut number = 2;
        while !taken.insert(alias.clone()) {
            alias = format!("{name}{MARK}{number}");
            number += 1;
        }
        *item = ast::SelectItem::ExprWithAlias { expr, alias: ast::Ident::with_quote('"', alias) };
    }
    Ok(())
}

/// The table of `t.*`.
fn star_of(item: &ast::SelectItem) -> Option<String> {
    match item {
        ast::SelectItem::QualifiedWildcard(ast::SelectItemQualifiedWildcardKind::ObjectName(name), _) => {
            object_name(name).ok()
        }
        _ => None,
    }
}

/// The parts of a column's name, if an expression is nothing else.
fn column_of(expr: &ast::Expr) -> Option<Vec<String>> {
    match expr {
        ast::Expr::Identifier(name) => Some(vec![ident(name)]),
        ast::Expr::CompoundIdentifier(parts) => Some(parts.iter().map(ident).collect()),
        _ => None,
    }
}

/// Whether two names may mean one column: one says no more than the other.
fn same_column(a: &[String], b: &[String]) -> bool {
    a.iter().rev().zip(b.iter().rev()).all(|(a, b)| a == b)
}

/// The name of a column without an alias, also of a subquery.
fn name_of(expr: &ast::Expr) -> String {
    use ast::Expr as E;
    match expr {
        E::Nested(inner) => name_of(inner),
        E::Exists { .. } => "exists".into(),
        E::Collate { expr, .. } => name_of(expr),
        // As its only column.
        E::Subquery(query) => match &*query.body {
            ast::SetExpr::Select(select) => match select.projection.as_slice() {
                [ast::SelectItem::UnnamedExpr(expr)] => name_of(expr),
                [ast::SelectItem::ExprWithAlias { alias, .. }] => ident(alias),
                _ => "?column?".into(),
            },
            ast::SetExpr::Values(_) => "column1".into(),
            _ => "?column?".into(),
        },
        other => output_name(other),
    }
}

/// The columns of a plan, as the client sees them.
pub(super) fn columns(plan: &LogicalPlan) -> Result<Vec<ColumnInfo>, SqlError> {
    let fields = plan.schema().fields().iter();
    fields
        .map(|field| {
            let name = field.name().split(MARK).next().unwrap_or_default().to_string();
            Ok(ColumnInfo { name, ty: types::sql_type(field.data_type())? })
        })
        .collect()
}

/// Whether a SELECT has a GROUP BY.
pub(super) fn has_group_by(select: &ast::Select) -> bool {
    match &select.group_by {
        ast::GroupByExpr::Expressions(list, _) => !list.is_empty(),
        ast::GroupByExpr::All(_) => true,
    }
}

/// Whether a SELECT has one of the plain aggregates in its list.
pub(super) fn has_aggregates(select: &ast::Select) -> bool {
    select.projection.iter().any(|item| {
        let (ast::SelectItem::UnnamedExpr(expr) | ast::SelectItem::ExprWithAlias { expr, .. }) = item else {
            return false;
        };
        let found = ast::visit_expressions(expr, |expr| match expr {
            ast::Expr::Function(ast::Function { name, over: None, .. })
                if aggregate::kind(&name.to_string().to_lowercase()).is_some() =>
            {
                ControlFlow::Break(())
            }
            _ => ControlFlow::Continue(()),
        });
        found.is_break()
    })
}
