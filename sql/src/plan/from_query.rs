//! Planning INSERT .. SELECT, UPDATE .. FROM, DELETE .. USING, and subqueries in statements that write:
//! a query finds the rows, and the short path writes them.
//!
//! ```text
//!   UPDATE t SET v = u.v + 1 FROM u WHERE t.id = u.id RETURNING t.id, u.v
//!   SELECT t.*, u.v + 1, u.* FROM t, u WHERE t.id = u.id
//! ```
//!
//! The rows of such a query are longer than the table's: its columns come first, then the new values,
//! then what else RETURNING may name. All rows are found before the first one is written.

use std::sync::Arc;

use sqlparser::ast;

use super::check::Checks;
use super::foreign::{self, Writes};
use super::generated::{Overriding, computed, default_value};
use super::{Access, DeletePlan, InsertPlan, Plan, Planned, Scan, UpdatePlan, dml, index, single_table, table_scope};
use crate::SqlError;
use crate::catalog::{Catalog, Table};
use crate::entry::Layout;
use crate::expr::bind::ScopeColumn;
use crate::expr::{Bound, Expr, Params, Scope};
use crate::parse::{Statement, empty_select};
use crate::select::{Queries, Query};

/// Plans an INSERT whose rows come from a query.
pub(super) fn insert(
    insert: &ast::Insert,
    how: (bool, Overriding),
    catalog: &Catalog,
    queries: &Queries,
    params: Params,
) -> Result<Planned, SqlError> {
    let Some(source) = &insert.source else { return Err(SqlError::unsupported("this form of INSERT")) };
    let select = Statement::Select { query: source.clone(), as_of: None };
    let source = super::plan_with(&select, catalog, queries, params)?;
    if source.system.is_some() {
        return Err(SqlError::unsupported("INSERT of the rows of a system table"));
    }
    if source.plan.writes() {
        return Err(SqlError::unsupported("FOR UPDATE in INSERT .. SELECT"));
    }
    let mut params = Params { types: source.params.iter().copied().map(Some).collect() };
    let given: Vec<Bound> = source
        .columns
        .iter()
        .enumerate()
        .map(|(index, column)| Bound { expr: Expr::Column(index), ty: Some(column.ty) })
        .collect();
    // The statement without its query: what it does with rows is planned as for VALUES.
    let parts = dml::parts(insert, how, catalog)?;
    let row = dml::row_of(&parts, given, &mut params)?;
    let given = parts.targets[..source.columns.len()].to_vec();
    let (plan, columns) = dml::finish(parts, vec![row], given, catalog, &mut params)?;
    let mut tables = source.tables;
    let table = Arc::clone(&plan.table);
    let plan = InsertPlan { source: Some(Box::new(source.plan)), ..plan };
    tables.push(table);
    Ok(Planned {
        plan: Plan::Insert(plan),
        params: params.finish(),
        columns,
        version: catalog.version,
        tables,
        system: None,
    })
}

/// What finds the rows of an UPDATE or DELETE.
struct Finder {
    query: Query,
    table: Arc<Table>,
    /// All columns of its rows, named for RETURNING.
    scope: Scope,
}

/// Plans the query: the table's columns, some values, and the columns of all other tables.
fn finder(
    target: &ast::TableWithJoins,
    others: &[ast::TableWithJoins],
    values: Vec<ast::Expr>,
    selection: Option<&ast::Expr>,
    catalog: &Catalog,
    queries: &Queries,
    params: &mut Params,
) -> Result<Finder, SqlError> {
    let (table, alias) = single_table(target, catalog)?;
    let all_of = |name: ast::ObjectName| {
        let kind = ast::SelectItemQualifiedWildcardKind::ObjectName(name);
        ast::SelectItem::QualifiedWildcard(kind, ast::WildcardAdditionalOptions::default())
    };
    // By their names: the key of a table without one is hidden from `*`.
    let column = |name: &str| {
        let parts = [alias.as_str(), name].map(|part| ast::Ident::with_quote('"', part));
        ast::SelectItem::UnnamedExpr(ast::Expr::CompoundIdentifier(parts.to_vec()))
    };
    let mut projection: Vec<ast::SelectItem> = table.columns.iter().map(|of| column(&of.name)).collect();
    let width = table.columns.len() + values.len();
    projection.extend(values.into_iter().enumerate().map(|(index, expr)| {
        // A name that no column has.
        let alias = ast::Ident::with_quote('"', format!("\u{1}value {index}"));
        ast::SelectItem::ExprWithAlias { expr, alias }
    }));
    let mut names = Vec::new();
    others.iter().for_each(|from| names_of(from, &mut names));
    projection.extend(names.iter().cloned().map(all_of));
    let select = ast::Select {
        projection,
        from: std::iter::once(target).chain(others).cloned().collect(),
        selection: selection.cloned(),
        ..empty_select()
    };
    let query = ast::Query {
        with: None,
        body: Box::new(ast::SetExpr::Select(Box::new(select))),
        order_by: None,
        limit_clause: None,
        fetch: None,
        locks: Vec::new(),
        for_clause: None,
        settings: None,
        format_clause: None,
        pipe_operators: Vec::new(),
    };
    let query = Query::plan(&query, catalog, queries, Some(&table), params)?;
    let mut scope = table_scope(&table, &alias);
    let output = query.output();
    for (index, (qualifier, column)) in output.into_iter().enumerate().skip(table.columns.len()) {
        let table = if index < width { String::new() } else { qualifier.unwrap_or_default() };
        // The new values have no name that a statement could say.
        scope.columns.push(ScopeColumn { table, name: column.name, ty: column.ty });
    }
    Ok(Finder { query, table, scope })
}

/// What the items of FROM or USING are called.
fn names_of(from: &ast::TableWithJoins, names: &mut Vec<ast::ObjectName>) {
    for factor in std::iter::once(&from.relation).chain(from.joins.iter().map(|join| &join.relation)) {
        match factor {
            ast::TableFactor::Table { alias: Some(alias), .. }
            | ast::TableFactor::Derived { alias: Some(alias), .. }
            | ast::TableFactor::Function { alias: Some(alias), .. }
            | ast::TableFactor::UNNEST { alias: Some(alias), .. } => {
                names.push(ast::ObjectName::from(vec![alias.name.clone()]));
            }
            ast::TableFactor::Table { name, args: None, .. } => {
                names.extend(name.0.last().cloned().map(|part| ast::ObjectName(vec![part])));
            }
            ast::TableFactor::NestedJoin { table_with_joins, .. } => names_of(table_with_joins, names),
            _ => {}
        }
    }
}

/// A scan that says no more than which table.
fn scan_of(table: &Arc<Table>) -> Scan {
    let layout = Layout::primary(table);
    Scan { table: Arc::clone(table), layout, index: None, access: Access::Full, filter: None, reverse: false }
}

/// Plans an UPDATE with FROM or with subqueries.
pub(super) fn update(
    update: &ast::Update,
    catalog: &Catalog,
    queries: &Queries,
    mut params: Params,
) -> Result<Planned, SqlError> {
    let ast::Update {
        update_token: _,
        optimizer_hints,
        table: target,
        assignments,
        from,
        selection,
        returning,
        output: None,
        or: None,
        order_by,
        limit: None,
    } = update
    else {
        return Err(SqlError::unsupported("this form of UPDATE"));
    };
    if !optimizer_hints.is_empty() || !order_by.is_empty() {
        return Err(SqlError::unsupported("this form of UPDATE"));
    }
    let others = match from {
        None => &[][..],
        Some(ast::UpdateTableFromKind::AfterSet(others)) => others.as_slice(),
        Some(_) => return Err(SqlError::unsupported("FROM before SET")),
    };
    let (table, alias) = single_table(target, catalog)?;
    // DEFAULT needs no query, and a query could not say it.
    let mut columns: Vec<(usize, Option<ast::Expr>)> = Vec::new();
    for (index, value) in dml::targets_of(&table, assignments)? {
        columns.push((index, (!dml::is_default(value)).then(|| value.clone())));
    }
    let values: Vec<ast::Expr> = columns.iter().filter_map(|(_, value)| value.clone()).collect();
    let first = table.columns.len();
    let Finder { query, table, scope } =
        finder(target, others, values, selection.as_ref(), catalog, queries, &mut params)?;
    let mut at = first;
    let mut list = Vec::with_capacity(columns.len());
    for (index, value) in columns {
        let expr = match value {
            None => default_value(&table, index, &mut params)?,
            Some(value) => {
                let bound = match dml::unknown_literal(&value) {
                    Some(bound) => bound,
                    None => Bound { expr: Expr::Column(at), ty: Some(scope.columns[at].ty) },
                };
                at += 1;
                bound.assign(&table.columns[index], &mut params)?
            }
        };
        list.push((index, expr));
    }
    let (returning, columns) = dml::returning(returning, &scope, &alias, &mut params)?;
    let indexes = index::maintained(&table, catalog.sabotage)?;
    let tables = query.tables().to_vec();
    let source = Some(Box::new(Plan::Query(Box::new(query))));
    let (scan, checks, computed) = (scan_of(&table), Checks::of(&table)?, computed(&table)?);
    let changed: Vec<usize> = list.iter().chain(&computed).map(|(at, _)| *at).collect();
    let foreign = foreign::graph(&table, catalog, Writes::Updates(&changed))?;
    let plan =
        Plan::Update(UpdatePlan { scan, source, assignments: list, returning, indexes, checks, computed, foreign });
    Ok(Planned { plan, params: params.finish(), columns, version: catalog.version, tables, system: None })
}

/// Plans a DELETE with USING or with subqueries.
pub(super) fn delete(
    delete: &ast::Delete,
    catalog: &Catalog,
    queries: &Queries,
    mut params: Params,
) -> Result<Planned, SqlError> {
    let ast::Delete {
        delete_token: _,
        optimizer_hints,
        tables,
        from: ast::FromTable::WithFromKeyword(from),
        using,
        selection,
        returning,
        output: None,
        order_by,
        limit: None,
    } = delete
    else {
        return Err(SqlError::unsupported("this form of DELETE"));
    };
    let [target] = from.as_slice() else { return Err(SqlError::unsupported("DELETE from several tables")) };
    if !optimizer_hints.is_empty() || !tables.is_empty() || !order_by.is_empty() {
        return Err(SqlError::unsupported("this form of DELETE"));
    }
    let others = using.as_deref().unwrap_or_default();
    let (_, alias) = single_table(target, catalog)?;
    let Finder { query, table, scope } =
        finder(target, others, Vec::new(), selection.as_ref(), catalog, queries, &mut params)?;
    let (returning, columns) = dml::returning(returning, &scope, &alias, &mut params)?;
    let indexes = index::maintained(&table, catalog.sabotage)?;
    let tables = query.tables().to_vec();
    let source = Some(Box::new(Plan::Query(Box::new(query))));
    let foreign = foreign::graph(&table, catalog, Writes::Deletes)?;
    let plan = Plan::Delete(DeletePlan { scan: scan_of(&table), source, returning, indexes, foreign });
    Ok(Planned { plan, params: params.finish(), columns, version: catalog.version, tables, system: None })
}
