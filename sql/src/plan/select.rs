//! Planning SELECT.

use std::collections::BTreeSet;
use std::sync::Arc;

use sqlparser::ast;
use txn::{LockMode, LockPolicy};

use super::index::{self, Chosen, Wishes};
use super::{
    Grouping, Plan, SelectPlan, SortKey, condition, index_hint, projection, single_table, table_scope, values,
};
use crate::SqlError;
use crate::catalog::{Catalog, Table};
use crate::expr::aggregate::{self, Aggregate, AggregateKind};
use crate::expr::{Binder, Expr, Params, Scope};
use crate::parse::ident;
use crate::sink::ColumnInfo;
use crate::types::{DataType, Datum};

type Planned = (Plan, Vec<ColumnInfo>, Option<Arc<Table>>);

pub(super) fn plan(query: &ast::Query, catalog: &Catalog, params: &mut Params) -> Result<Planned, SqlError> {
    let ast::Query {
        with,
        body,
        order_by,
        limit_clause,
        fetch,
        locks,
        for_clause,
        settings,
        format_clause,
        pipe_operators,
    } = query;
    if with.is_some() {
        return Err(SqlError::unsupported("WITH"));
    }
    if for_clause.is_some() || settings.is_some() || format_clause.is_some() || !pipe_operators.is_empty() {
        return Err(SqlError::unsupported("a clause after the query"));
    }
    let select = match &**body {
        ast::SetExpr::Select(select) => select,
        ast::SetExpr::SetOperation { op, .. } => return Err(SqlError::unsupported(op)),
        ast::SetExpr::Values(list) => {
            let (plan, columns) = values::plan(list, query, params)?;
            return Ok((Plan::Select(Box::new(plan)), columns, None));
        }
        ast::SetExpr::Query(_) => return Err(SqlError::unsupported("a query in parentheses")),
        _ => return Err(SqlError::unsupported("this kind of query")),
    };
    check_select(select)?;

    let (table, alias) = match select.from.as_slice() {
        [] => (None, None),
        [from] => {
            let (table, alias) = single_table(from, catalog)?;
            (Some(table), Some(alias))
        }
        _ => return Err(SqlError::unsupported("a join")),
    };
    let scope = match (&table, &alias) {
        (Some(table), Some(alias)) => table_scope(table, alias),
        _ => Scope::default(),
    };
    let (parts, filter) = match &table {
        Some(_) => (condition(&scope, select.selection.as_ref(), params)?, None),
        None => {
            let mut binder = Binder { scope: &scope, params, aggregates: None, clause: "WHERE" };
            (Vec::new(), select.selection.as_ref().map(|selection| binder.boolean(selection, "WHERE")).transpose()?)
        }
    };

    let mut aggregates: Vec<Aggregate> = Vec::new();
    let mut binder = Binder { scope: &scope, params, aggregates: Some(&mut aggregates), clause: "SELECT" };
    let (mut project, columns) = projection(&select.projection, alias.as_deref(), &mut binder)?;
    let visible = project.len();
    let mut having = select.having.as_ref().map(|having| binder.boolean(having, "HAVING")).transpose()?;
    let mut sort = Vec::new();
    if let Some(order_by) = order_by {
        order(order_by, select.distinct.is_some(), &columns, &mut project, &mut sort, &mut binder)?;
    }
    let group_by = match &select.group_by {
        ast::GroupByExpr::Expressions(list, modifiers) if modifiers.is_empty() => list.as_slice(),
        _ => return Err(SqlError::unsupported("this form of GROUP BY")),
    };
    let mut keys = Vec::new();
    for item in group_by {
        keys.push(group_key(item, &scope, &columns, &project, params)?);
    }

    let grouped = !keys.is_empty() || having.is_some() || !aggregates.is_empty();
    let mut grouping = if grouped {
        let name = |index: usize| format!("{}.{}", scope.columns[index].table, scope.columns[index].name);
        for expr in project.iter_mut().chain(having.iter_mut()) {
            aggregate::rewrite(expr, &keys, &name)?;
        }
        Some(Grouping { keys, aggregates, having, first: false })
    } else {
        None
    };

    let (lock, policy) = lock_mode(locks, alias.as_deref())?;
    if lock.is_some() && (grouped || select.distinct.is_some()) {
        return Err(SqlError::unsupported("FOR UPDATE or FOR SHARE with DISTINCT, GROUP BY or an aggregate"));
    }
    let (limit, offset) = limits(limit_clause, fetch, params)?;
    let mut scan = None;
    if let (Some(table), [from]) = (&table, select.from.as_slice()) {
        let order: Option<Vec<(usize, SortKey)>> = sort
            .iter()
            .map(|key: &SortKey| match &project[key.column] {
                Expr::Column(index) => Some((*index, *key)),
                _ => None,
            })
            .collect();
        let order = order.filter(|_| grouping.is_none());
        // A row that is locked is read, too.
        let needed = lock.is_none().then(|| needed(&project, grouping.as_ref()));
        let mut hint = index_hint(from);
        if policy == LockPolicy::Skip {
            // A row is looked at again once it is locked: an index's entry could be of another state of it.
            if hint.is_some() {
                return Err(SqlError::unsupported("an index hint with SKIP LOCKED"));
            }
            hint = Some(format!("{}_pkey", table.name));
        }
        let wishes = Wishes { hint: hint.as_deref(), needed, order: order.as_deref(), limited: limit.is_some() };
        let first = match &grouping {
            Some(grouping) => first(table, grouping, &parts, &wishes)?,
            None => None,
        };
        let chosen = match first {
            Some(first) => {
                grouping.iter_mut().for_each(|grouping| grouping.first = true);
                first
            }
            None => index::choose(table, parts, &wishes)?,
        };
        if chosen.ordered && grouping.is_none() {
            sort.clear();
        }
        scan = Some(chosen.scan);
    }
    let distinct = select.distinct.is_some();
    let values = None;
    let plan =
        SelectPlan { scan, values, filter, grouping, project, visible, distinct, sort, limit, offset, lock, policy };
    Ok((Plan::Select(Box::new(plan)), columns, table))
}

/// The column of which all aggregates are the min, or all the max, with the order in which that comes first.
fn extreme(grouping: &Grouping) -> Option<(usize, SortKey)> {
    let [first, others @ ..] = grouping.aggregates.as_slice() else { return None };
    let desc = match first.kind {
        AggregateKind::Min => false,
        AggregateKind::Max => true,
        _ => return None,
    };
    let alike = |other: &Aggregate| other.kind == first.kind && other.arg == first.arg && other.filter.is_none();
    match &first.arg {
        Expr::Column(column) if grouping.keys.is_empty() && first.filter.is_none() && others.iter().all(alike) => {
            Some((*column, SortKey { column: 0, desc, nulls_first: desc }))
        }
        _ => None,
    }
}

/// A scan whose first row says all of the aggregates, if there is one.
fn first(
    table: &Arc<Table>,
    grouping: &Grouping,
    parts: &[Expr],
    wishes: &Wishes<'_>,
) -> Result<Option<Chosen>, SqlError> {
    let Some((column, key)) = extreme(grouping) else { return Ok(None) };
    let mut parts = parts.to_vec();
    // A NULL is neither least nor greatest.
    let not_null = Expr::IsNull(Box::new(Expr::Column(column))).negated();
    if table.key_position(column).is_none() {
        parts.push(not_null.clone());
    }
    let order = [(column, key)];
    let wishes = Wishes { needed: wishes.needed.clone(), order: Some(&order), limited: true, ..*wishes };
    let chosen = index::choose(table, parts, &wishes)?;
    // If many rows were read beside their entries until one passes, reading all rows would be better.
    let joins = chosen.scan.index.as_ref().is_some_and(|index| !index.covering);
    let only_not_null = chosen.scan.filter.as_ref().is_none_or(|filter| *filter == not_null);
    Ok(Some(chosen).filter(|chosen| chosen.ordered && (!joins || only_not_null)))
}

/// The columns that a SELECT needs beside those of its WHERE.
fn needed(project: &[Expr], grouping: Option<&Grouping>) -> BTreeSet<usize> {
    let mut needed = BTreeSet::new();
    let mut add = |expr: &Expr| {
        expr.walk(&mut |expr| {
            if let Expr::Column(column) = expr {
                needed.insert(*column);
            }
        });
    };
    match grouping {
        None => project.iter().for_each(&mut add),
        Some(grouping) => {
            grouping.keys.iter().for_each(&mut add);
            grouping.aggregates.iter().for_each(|aggregate| add(&aggregate.arg));
        }
    }
    needed
}

/// Refuses every clause that is not honoured.
fn check_select(select: &ast::Select) -> Result<(), SqlError> {
    match &select.distinct {
        None | Some(ast::Distinct::Distinct) => {}
        Some(ast::Distinct::All) => return Err(SqlError::unsupported("SELECT ALL")),
        Some(ast::Distinct::On(_)) => return Err(SqlError::unsupported("DISTINCT ON")),
    }
    if select.into.is_some() {
        return Err(SqlError::unsupported("SELECT INTO"));
    }
    if !select.named_window.is_empty() {
        return Err(SqlError::unsupported("WINDOW"));
    }
    // Every field by name, so that a new one of the parser does not compile until it is looked at.
    let ast::Select {
        select_token: _,
        optimizer_hints,
        distinct: _,
        select_modifiers: None,
        top: None,
        top_before_distinct: false,
        projection: _,
        exclude: None,
        into: None,
        from: _,
        lateral_views,
        prewhere: None,
        selection: _,
        connect_by,
        group_by: _,
        cluster_by,
        distribute_by,
        sort_by,
        having: _,
        named_window: _,
        qualify: None,
        window_before_qualify: false,
        value_table_mode: None,
        flavor: ast::SelectFlavor::Standard,
    } = select
    else {
        return Err(SqlError::unsupported("a clause of this SELECT"));
    };
    let clean = optimizer_hints.is_empty() && lateral_views.is_empty() && connect_by.is_empty();
    if clean && cluster_by.is_empty() && distribute_by.is_empty() && sort_by.is_empty() {
        Ok(())
    } else {
        Err(SqlError::unsupported("a clause of this SELECT"))
    }
}

/// A position of the select list (`ORDER BY 2`), if the expression is one.
fn list_position(expr: &ast::Expr, columns: &[ColumnInfo], clause: &str) -> Result<Option<usize>, SqlError> {
    let ast::Expr::Value(value) = expr else { return Ok(None) };
    let ast::Value::Number(digits, false) = &value.value else { return Ok(None) };
    match digits.parse::<usize>() {
        Ok(number) if (1..=columns.len()).contains(&number) => Ok(Some(number - 1)),
        _ => Err(SqlError::new("42P10", format!("{clause} position {digits} is not in select list"))),
    }
}

pub(super) fn order(
    order_by: &ast::OrderBy,
    distinct: bool,
    columns: &[ColumnInfo],
    project: &mut Vec<Expr>,
    sort: &mut Vec<SortKey>,
    binder: &mut Binder<'_>,
) -> Result<(), SqlError> {
    let ast::OrderBy { kind: ast::OrderByKind::Expressions(items), interpolate: None } = order_by else {
        return Err(SqlError::unsupported("this form of ORDER BY"));
    };
    for item in items {
        let ast::OrderByExpr { expr, options: ast::OrderByOptions { asc, nulls_first }, with_fill: None } = item else {
            return Err(SqlError::unsupported("WITH FILL"));
        };
        let desc = *asc == Some(false);
        let named = match expr {
            ast::Expr::Identifier(name) => {
                let name = ident(name);
                let mut hits =
                    columns.iter().enumerate().filter(|(_, column)| column.name == name).map(|(index, _)| index);
                match (hits.next(), hits.next()) {
                    (Some(first), Some(second)) if project[first] != project[second] => {
                        return Err(SqlError::new("42702", format!("ORDER BY \"{name}\" is ambiguous")));
                    }
                    (first, _) => first,
                }
            }
            _ => list_position(expr, columns, "ORDER BY")?,
        };
        let column = match named {
            Some(column) => column,
            None => {
                binder.clause = "ORDER BY";
                let (expr, _) = binder.bind(expr)?.resolve(binder.params)?;
                match project.iter().position(|known| *known == expr) {
                    Some(column) => column,
                    None if distinct => {
                        return Err(SqlError::new(
                            "42P10",
                            "for SELECT DISTINCT, ORDER BY expressions must appear in select list",
                        ));
                    }
                    None => {
                        project.push(expr);
                        project.len() - 1
                    }
                }
            }
        };
        sort.push(SortKey { column, desc, nulls_first: nulls_first.unwrap_or(desc) });
    }
    Ok(())
}

fn group_key(
    item: &ast::Expr,
    scope: &Scope,
    columns: &[ColumnInfo],
    project: &[Expr],
    params: &mut Params,
) -> Result<Expr, SqlError> {
    let from_list = |index: usize| {
        let mut found = false;
        project[index].walk(&mut |expr| found |= matches!(expr, Expr::Aggregate(_)));
        if found {
            return Err(SqlError::new("42803", "aggregate functions are not allowed in GROUP BY"));
        }
        Ok(project[index].clone())
    };
    if let Some(index) = list_position(item, columns, "GROUP BY")? {
        return from_list(index);
    }
    if let ast::Expr::Identifier(name) = item {
        let name = ident(name);
        if scope.find(None, &name).is_err()
            && let Some(index) = columns.iter().position(|column| column.name == name)
        {
            return from_list(index);
        }
    }
    let mut binder = Binder { scope, params, aggregates: None, clause: "GROUP BY" };
    let bound = binder.bind(item)?;
    Ok(bound.resolve(params)?.0)
}

fn lock_mode(locks: &[ast::LockClause], alias: Option<&str>) -> Result<(Option<LockMode>, LockPolicy), SqlError> {
    let mut mode = None;
    let mut policy = LockPolicy::Wait;
    for ast::LockClause { lock_type, of, nonblock } in locks {
        // Of several clauses on one table the strictest counts.
        policy = match (nonblock, policy) {
            (Some(ast::NonBlock::Nowait), _) => LockPolicy::NoWait,
            (Some(ast::NonBlock::SkipLocked), LockPolicy::Wait) => LockPolicy::Skip,
            (_, known) => known,
        };
        if let Some(of) = of {
            let name = crate::parse::object_name(of)?;
            if alias != Some(name.as_str()) {
                return Err(SqlError::new(
                    "42P01",
                    format!("relation \"{name}\" in FOR UPDATE clause not found in FROM clause"),
                ));
            }
        }
        let asked = match lock_type {
            ast::LockType::Share => LockMode::Shared,
            ast::LockType::Update => LockMode::Exclusive,
        };
        mode = mode.max(Some(asked));
    }
    Ok((mode, policy))
}

pub(super) fn limits(
    clause: &Option<ast::LimitClause>,
    fetch: &Option<ast::Fetch>,
    params: &mut Params,
) -> Result<(Option<Expr>, Option<Expr>), SqlError> {
    let (limit, offset) = match clause {
        None => (None, None),
        Some(ast::LimitClause::LimitOffset { limit, offset, limit_by }) if limit_by.is_empty() => {
            (limit.as_ref(), offset.as_ref().map(|offset| &offset.value))
        }
        Some(_) => return Err(SqlError::unsupported("this form of LIMIT")),
    };
    let one = ast::Expr::Value(ast::Value::Number("1".into(), false).into());
    let limit = match fetch {
        None => limit,
        Some(ast::Fetch { with_ties: false, percent: false, quantity }) if limit.is_none() => {
            Some(quantity.as_ref().unwrap_or(&one))
        }
        Some(_) => return Err(SqlError::unsupported("this form of FETCH FIRST")),
    };
    let mut count = |expr: Option<&ast::Expr>, clause: &'static str| {
        let Some(expr) = expr else { return Ok(None) };
        let scope = Scope::default();
        let mut binder = Binder { scope: &scope, params: &mut *params, aggregates: None, clause };
        let bound = binder.bind(expr)?;
        let ty = bound.ty;
        let expr = bound.coerce(DataType::Int, params).map_err(|err| match ty {
            Some(ty) => {
                SqlError::new("42804", format!("argument of {clause} must be type bigint, not type {}", ty.name()))
            }
            None => err,
        })?;
        // LIMIT NULL is no limit.
        Ok::<_, SqlError>((expr != Expr::Const(Datum::Null)).then_some(expr))
    };
    Ok((count(limit, "LIMIT")?, count(offset, "OFFSET")?))
}
