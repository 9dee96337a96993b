//! VALUES as a query of its own: rows of constants, with columns `column1`, `column2` and so on.

use sqlparser::ast;

use super::SelectPlan;
use super::select::{limits, order};
use crate::SqlError;
use crate::expr::bind::ScopeColumn;
use crate::expr::operators::unify;
use crate::expr::{Binder, Expr, Params, Scope};
use crate::sink::ColumnInfo;
use txn::LockPolicy;

pub(super) fn plan(
    values: &ast::Values,
    query: &ast::Query,
    params: &mut Params,
) -> Result<(SelectPlan, Vec<ColumnInfo>), SqlError> {
    if !query.locks.is_empty() {
        return Err(SqlError::unsupported("FOR UPDATE or FOR SHARE of VALUES"));
    }
    let width = values.rows.first().map_or(0, |row| row.content.len());
    if values.rows.iter().any(|row| row.content.len() != width) {
        return Err(SqlError::syntax("VALUES lists must all be the same length"));
    }
    let none = Scope::default();
    let mut rows = vec![Vec::with_capacity(width); values.rows.len()];
    let mut columns = Vec::with_capacity(width);
    for at in 0..width {
        let mut bound = Vec::with_capacity(values.rows.len());
        for row in &values.rows {
            let mut binder = Binder { scope: &none, params: &mut *params, aggregates: None, clause: "VALUES" };
            bound.push(binder.bind(&row.content[at])?);
        }
        let (exprs, ty) = unify(bound, "VALUES", params)?;
        for (row, expr) in rows.iter_mut().zip(exprs) {
            row.push(expr);
        }
        columns.push(ColumnInfo { name: format!("column{}", at + 1), ty });
    }
    let column =
        |column: &ColumnInfo| ScopeColumn { table: "*VALUES*".into(), name: column.name.clone(), ty: column.ty };
    let scope = Scope { columns: columns.iter().map(column).collect() };
    let mut project: Vec<Expr> = (0..width).map(Expr::Column).collect();
    let mut sort = Vec::new();
    if let Some(order_by) = &query.order_by {
        let mut binder = Binder { scope: &scope, params: &mut *params, aggregates: None, clause: "ORDER BY" };
        order(order_by, false, &columns, &mut project, &mut sort, &mut binder)?;
    }
    let (limit, offset) = limits(&query.limit_clause, &query.fetch, params)?;
    let plan = SelectPlan {
        scan: None,
        values: Some(rows),
        filter: None,
        grouping: None,
        project,
        visible: width,
        distinct: false,
        sort,
        limit,
        offset,
        lock: None,
        policy: LockPolicy::Wait,
    };
    Ok((plan, columns))
}
