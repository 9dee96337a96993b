//! What of a query reaches DataFusion.
//!
//! DataFusion's planner drops some clauses without a word: locks, FOR SYSTEM_TIME, TABLESAMPLE, hints.
//! So every part of the tree is taken apart here field by field, as the short path does: what is not
//! honoured is refused, what is honoured elsewhere (locks) is taken out, and what PostgreSQL writes
//! differently is rewritten. A field that a new parser adds does not compile until it is looked at.

use std::ops::ControlFlow;

use sqlparser::ast::{self, VisitMut, VisitorMut};
use txn::LockMode;

use super::names;
use super::rewrite::{check_expr, plain, plain_frame};
use crate::SqlError;
use crate::parse::{empty_select, ident, object_name};

/// A query that DataFusion may plan.
pub(super) struct Checked {
    /// Without what is not for DataFusion.
    pub(super) query: ast::Query,
    /// The tables that locking clauses name, as written in FROM.
    pub(super) locks: Vec<(String, LockMode)>,
}

/// The functions that may stand in FROM.
const TABLE_FUNCTIONS: &[&str] = &["generate_series", "unnest"];

/// Checks a query and everything in it.
pub(super) fn check(query: &ast::Query) -> Result<Checked, SqlError> {
    let mut query = query.clone();
    let mut walk = Walk { locks: Vec::new() };
    match query.visit(&mut walk) {
        ControlFlow::Break(err) => Err(err),
        ControlFlow::Continue(()) => Ok(Checked { query, locks: walk.locks }),
    }
}

struct Walk {
    locks: Vec<(String, LockMode)>,
}

fn flow(result: Result<(), SqlError>) -> ControlFlow<SqlError> {
    match result {
        Ok(()) => ControlFlow::Continue(()),
        Err(err) => ControlFlow::Break(err),
    }
}

impl VisitorMut for Walk {
    type Break = SqlError;

    fn pre_visit_query(&mut self, query: &mut ast::Query) -> ControlFlow<SqlError> {
        flow(self.query(query))
    }

    fn pre_visit_select(&mut self, select: &mut ast::Select) -> ControlFlow<SqlError> {
        flow(check_select(select))
    }

    fn pre_visit_table_factor(&mut self, factor: &mut ast::TableFactor) -> ControlFlow<SqlError> {
        flow(check_factor(factor))
    }

    /// Positions, counts and the arguments of functions in FROM are plain numbers again.
    fn post_visit_query(&mut self, query: &mut ast::Query) -> ControlFlow<SqlError> {
        if let Some(ast::OrderBy { kind: ast::OrderByKind::Expressions(items), .. }) = &mut query.order_by {
            items.iter_mut().for_each(|item| plain(&mut item.expr));
        }
        if let Some(ast::LimitClause::LimitOffset { limit, offset, .. }) = &mut query.limit_clause {
            limit.iter_mut().for_each(plain);
            offset.iter_mut().for_each(|offset| plain(&mut offset.value));
        }
        ControlFlow::Continue(())
    }

    fn post_visit_select(&mut self, select: &mut ast::Select) -> ControlFlow<SqlError> {
        if let ast::GroupByExpr::Expressions(list, _) = &mut select.group_by {
            list.iter_mut().for_each(plain);
        }
        if let Some(ast::Distinct::On(list)) = &mut select.distinct {
            list.iter_mut().for_each(plain);
        }
        for ast::NamedWindowDefinition(_, window) in &mut select.named_window {
            if let ast::NamedWindowExpr::WindowSpec(spec) = window {
                plain_frame(spec);
            }
        }
        ControlFlow::Continue(())
    }

    fn post_visit_table_factor(&mut self, factor: &mut ast::TableFactor) -> ControlFlow<SqlError> {
        let args = match factor {
            ast::TableFactor::Table { args: Some(args), .. } => &mut args.args,
            ast::TableFactor::Function { args, .. } => args,
            _ => return ControlFlow::Continue(()),
        };
        for arg in args {
            if let ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(expr)) = arg {
                plain(expr);
            }
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<SqlError> {
        flow(check_expr(expr))
    }
}

impl Walk {
    fn query(&mut self, query: &mut ast::Query) -> Result<(), SqlError> {
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
        if for_clause.is_some() || settings.is_some() || format_clause.is_some() || !pipe_operators.is_empty() {
            return Err(SqlError::unsupported("a clause after the query"));
        }
        for cte in with.iter().flat_map(|with| &with.cte_tables) {
            // Whether it is materialised changes no answer: its tables are read at one timestamp.
            let ast::Cte { alias: _, query: _, from: None, materialized: _, closing_paren_token: _ } = cte else {
                return Err(SqlError::unsupported("FROM after a query in WITH"));
            };
        }
        check_set(body)?;
        select_values(body);
        if let Some(order_by) = order_by {
            check_order(order_by)?;
        }
        *limit_clause = limits(limit_clause.take(), fetch.take())?;
        for lock in std::mem::take(locks) {
            self.lock(lock, body)?;
        }
        Ok(())
    }

    /// Takes a locking clause: it is honoured by the scans of the tables it names.
    fn lock(&mut self, lock: ast::LockClause, body: &ast::SetExpr) -> Result<(), SqlError> {
        let ast::LockClause { lock_type, of, nonblock } = lock;
        match nonblock {
            None => {}
            Some(ast::NonBlock::Nowait) => return Err(SqlError::unsupported("NOWAIT in a query of this kind")),
            Some(ast::NonBlock::SkipLocked) => {
                return Err(SqlError::unsupported("SKIP LOCKED in a query of this kind"));
            }
        }
        let (mode, clause) = match lock_type {
            ast::LockType::Share => (LockMode::Shared, "FOR SHARE"),
            ast::LockType::Update => (LockMode::Exclusive, "FOR UPDATE"),
        };
        let not_allowed = |what: &str| SqlError::new("0A000", format!("{clause} is not allowed with {what}"));
        let select = match body {
            ast::SetExpr::Select(select) => select,
            ast::SetExpr::Values(_) => {
                return Err(SqlError::new("0A000", format!("{clause} cannot be applied to VALUES")));
            }
            _ => return Err(not_allowed("UNION/INTERSECT/EXCEPT")),
        };
        match () {
            () if select.distinct.is_some() => return Err(not_allowed("DISTINCT clause")),
            () if names::has_group_by(select) => return Err(not_allowed("GROUP BY clause")),
            () if select.having.is_some() => return Err(not_allowed("HAVING clause")),
            () if names::has_aggregates(select) => return Err(not_allowed("aggregate functions")),
            () => {}
        }
        let mut found = Vec::new();
        for from in &select.from {
            tables_of(from, &mut found);
        }
        match of {
            None => self.locks.extend(found.into_iter().map(|(_, table)| (table, mode))),
            Some(of) => {
                let name = object_name(&of)?;
                let before = self.locks.len();
                self.locks
                    .extend(found.into_iter().filter(|(alias, _)| *alias == name).map(|(_, table)| (table, mode)));
                if self.locks.len() == before {
                    return Err(SqlError::new(
                        "42P01",
                        format!("relation \"{name}\" in {clause} clause not found in FROM clause"),
                    ));
                }
            }
        }
        Ok(())
    }
}

/// The tables of a FROM item, each with the name it goes by. Also those of its subqueries, as in
/// PostgreSQL, under the subquery's name.
fn tables_of(from: &ast::TableWithJoins, found: &mut Vec<(String, String)>) {
    for factor in std::iter::once(&from.relation).chain(from.joins.iter().map(|join| &join.relation)) {
        match factor {
            ast::TableFactor::Table { name, alias, .. } => {
                if let Ok(table) = object_name(name) {
                    let alias = alias.as_ref().map_or_else(|| table.clone(), |alias| ident(&alias.name));
                    found.push((alias, table));
                }
            }
            ast::TableFactor::NestedJoin { table_with_joins, .. } => tables_of(table_with_joins, found),
            ast::TableFactor::Derived { subquery, alias, .. } => {
                let mut inner = Vec::new();
                if let ast::SetExpr::Select(select) = &*subquery.body {
                    select.from.iter().for_each(|from| tables_of(from, &mut inner));
                }
                let alias = alias.as_ref().map_or_else(String::new, |alias| ident(&alias.name));
                found.extend(inner.into_iter().map(|(_, table)| (alias.clone(), table)));
            }
            _ => {}
        }
    }
}

fn check_set(body: &mut ast::SetExpr) -> Result<(), SqlError> {
    match body {
        ast::SetExpr::Select(_) | ast::SetExpr::Query(_) => Ok(()),
        ast::SetExpr::SetOperation { left, op, set_quantifier, right } => {
            if *op == ast::SetOperator::Minus {
                return Err(SqlError::syntax("MINUS is not PostgreSQL's: use EXCEPT"));
            }
            use ast::SetQuantifier as Q;
            if !matches!(set_quantifier, Q::All | Q::Distinct | Q::None) {
                return Err(SqlError::unsupported(format!("{op} {set_quantifier}")));
            }
            check_set(left)?;
            check_set(right)
        }
        ast::SetExpr::Values(ast::Values { explicit_row: false, value_keyword: false, rows: _ }) => Ok(()),
        ast::SetExpr::Values(_) => Err(SqlError::unsupported("this form of VALUES")),
        ast::SetExpr::Insert(_) | ast::SetExpr::Update(_) | ast::SetExpr::Delete(_) | ast::SetExpr::Merge(_) => {
            Err(SqlError::unsupported("a data-modifying statement in WITH"))
        }
        ast::SetExpr::Table(_) => Err(SqlError::unsupported("TABLE")),
    }
}

/// VALUES with a subquery in it as SELECTs: DataFusion computes VALUES before any subquery has run.
fn select_values(body: &mut ast::SetExpr) {
    match body {
        ast::SetExpr::SetOperation { left, right, .. } => {
            select_values(left);
            select_values(right);
        }
        ast::SetExpr::Values(values) if has_subquery(values) => {
            let rows = std::mem::take(&mut values.rows).into_iter().map(|row| select_of(row.content));
            let all = rows.reduce(|left, right| ast::SetExpr::SetOperation {
                op: ast::SetOperator::Union,
                set_quantifier: ast::SetQuantifier::All,
                left: Box::new(left),
                right: Box::new(right),
            });
            *body = all.expect("VALUES has rows, or it would have no subquery");
        }
        _ => {}
    }
}

fn has_subquery(values: &ast::Values) -> bool {
    let found = ast::visit_expressions(values, |expr| match expr {
        ast::Expr::Subquery(_) | ast::Expr::InSubquery { .. } | ast::Expr::Exists { .. } => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    found.is_break()
}

/// A SELECT of one row, with the names that VALUES gives its columns.
fn select_of(row: Vec<ast::Expr>) -> ast::SetExpr {
    let mut select = empty_select();
    let named = row.into_iter().enumerate().map(|(index, expr)| ast::SelectItem::ExprWithAlias {
        expr,
        alias: ast::Ident::new(format!("column{}", index + 1)),
    });
    select.projection = named.collect();
    ast::SetExpr::Select(Box::new(select))
}

fn check_order(order_by: &ast::OrderBy) -> Result<(), SqlError> {
    let ast::OrderBy { kind: ast::OrderByKind::Expressions(items), interpolate: None } = order_by else {
        return Err(SqlError::unsupported("this form of ORDER BY"));
    };
    items.iter().try_for_each(check_order_item)
}

fn check_order_item(item: &ast::OrderByExpr) -> Result<(), SqlError> {
    let ast::OrderByExpr { expr: _, options: ast::OrderByOptions { asc: _, nulls_first: _ }, with_fill: None } = item
    else {
        return Err(SqlError::unsupported("WITH FILL"));
    };
    Ok(())
}

/// LIMIT, OFFSET and FETCH FIRST as one clause.
fn limits(clause: Option<ast::LimitClause>, fetch: Option<ast::Fetch>) -> Result<Option<ast::LimitClause>, SqlError> {
    let (mut limit, mut offset) = match clause {
        None => (None, None),
        Some(ast::LimitClause::LimitOffset { limit, offset, limit_by }) if limit_by.is_empty() => (limit, offset),
        Some(_) => return Err(SqlError::unsupported("this form of LIMIT")),
    };
    match fetch {
        None => {}
        Some(ast::Fetch { with_ties: false, percent: false, quantity }) if limit.is_none() => {
            let one = || ast::Expr::Value(ast::Value::Number("1".into(), false).into());
            limit = Some(quantity.unwrap_or_else(one));
        }
        Some(_) => return Err(SqlError::unsupported("this form of FETCH FIRST")),
    }
    // LIMIT NULL is no limit.
    let null = |expr: &ast::Expr| matches!(expr, ast::Expr::Value(value) if value.value == ast::Value::Null);
    limit = limit.filter(|limit| !null(limit));
    offset = offset.filter(|offset| !null(&offset.value));
    if limit.is_none() && offset.is_none() {
        return Ok(None);
    }
    Ok(Some(ast::LimitClause::LimitOffset { limit, offset, limit_by: Vec::new() }))
}

fn check_select(select: &mut ast::Select) -> Result<(), SqlError> {
    if matches!(select.distinct, Some(ast::Distinct::All)) {
        select.distinct = None;
    }
    if select.into.is_some() {
        return Err(SqlError::unsupported("SELECT INTO").hint("Create the table, and fill it by INSERT .. SELECT."));
    }
    let ast::Select {
        select_token: _,
        optimizer_hints,
        distinct: _,
        select_modifiers: None,
        top: None,
        top_before_distinct: false,
        projection,
        exclude: None,
        into: None,
        from,
        lateral_views,
        prewhere: None,
        selection: _,
        connect_by,
        group_by,
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
    if !clean || !cluster_by.is_empty() || !distribute_by.is_empty() || !sort_by.is_empty() {
        return Err(SqlError::unsupported("a clause of this SELECT"));
    }
    match group_by {
        ast::GroupByExpr::Expressions(_, modifiers) if modifiers.is_empty() => {}
        _ => return Err(SqlError::unsupported("this form of GROUP BY")),
    }
    for join in from.iter().flat_map(|from| &from.joins) {
        check_join(join)?;
    }
    names::name_items(projection, from.is_empty())
}

fn check_join(join: &ast::Join) -> Result<(), SqlError> {
    let ast::Join { relation: _, global: false, join_operator } = join else {
        return Err(SqlError::unsupported("a GLOBAL join"));
    };
    use ast::JoinOperator as J;
    match join_operator {
        J::Join(constraint)
        | J::Inner(constraint)
        | J::Left(constraint)
        | J::LeftOuter(constraint)
        | J::Right(constraint)
        | J::RightOuter(constraint)
        | J::FullOuter(constraint) => match constraint {
            ast::JoinConstraint::None => Err(SqlError::syntax("a join needs ON, USING or NATURAL")),
            _ => Ok(()),
        },
        J::CrossJoin(ast::JoinConstraint::None) => Ok(()),
        _ => Err(SqlError::unsupported("a join of this kind")),
    }
}

fn check_factor(factor: &mut ast::TableFactor) -> Result<(), SqlError> {
    match factor {
        ast::TableFactor::Table {
            name,
            alias,
            args,
            with_hints,
            version,
            with_ordinality,
            partitions,
            json_path,
            sample,
            index_hints,
        } => {
            if version.is_some() {
                return Err(SqlError::unsupported("FOR SYSTEM_TIME").hint("Use AS OF SYSTEM TIME after the query."));
            }
            if sample.is_some() {
                return Err(
                    SqlError::unsupported("TABLESAMPLE").hint("WHERE random() < 0.1 reads all, and keeps a tenth.")
                );
            }
            if !with_hints.is_empty() || !partitions.is_empty() || !index_hints.is_empty() || json_path.is_some() {
                return Err(SqlError::unsupported("a hint on a table"));
            }
            if *with_ordinality {
                return Err(SqlError::unsupported("WITH ORDINALITY"));
            }
            check_alias(alias.as_ref())?;
            match args {
                None => Ok(()),
                Some(ast::TableFunctionArgs { args: _, settings: None }) => table_function(name, alias),
                Some(_) => Err(SqlError::unsupported("SETTINGS")),
            }
        }
        ast::TableFactor::Derived { lateral: _, subquery: _, alias, sample: None } => check_alias(alias.as_ref()),
        ast::TableFactor::Derived { .. } => Err(SqlError::unsupported("TABLESAMPLE of a subquery")),
        ast::TableFactor::NestedJoin { table_with_joins, alias } => {
            check_alias(alias.as_ref())?;
            table_with_joins.joins.iter().try_for_each(check_join)
        }
        ast::TableFactor::UNNEST {
            alias,
            array_exprs: _,
            with_offset: false,
            with_offset_alias: None,
            with_ordinality: false,
        } => {
            check_alias(alias.as_ref())?;
            name_column(alias, "unnest");
            Ok(())
        }
        ast::TableFactor::UNNEST { .. } => Err(SqlError::unsupported("WITH ORDINALITY")),
        ast::TableFactor::Function { lateral: _, name, args: _, with_ordinality: false, alias } => {
            check_alias(alias.as_ref())?;
            table_function(name, alias)
        }
        _ => Err(SqlError::unsupported("this source of rows in FROM")),
    }
}

fn check_alias(alias: Option<&ast::TableAlias>) -> Result<(), SqlError> {
    match alias {
        Some(ast::TableAlias { explicit: _, name: _, columns, at: None })
            if columns.iter().all(|column| column.data_type.is_none()) =>
        {
            Ok(())
        }
        None => Ok(()),
        Some(_) => Err(SqlError::unsupported("this form of a table's alias")),
    }
}

fn table_function(name: &ast::ObjectName, alias: &mut Option<ast::TableAlias>) -> Result<(), SqlError> {
    let name = object_name(name)?;
    if !TABLE_FUNCTIONS.contains(&name.as_str()) {
        return Err(SqlError::unsupported(format!("the function {name} in FROM")));
    }
    name_column(alias, &name);
    Ok(())
}

/// The one column of a function in FROM is called as its alias, or as the function.
fn name_column(alias: &mut Option<ast::TableAlias>, function: &str) {
    let name = alias.as_ref().map_or_else(|| ast::Ident::new(function), |alias| alias.name.clone());
    let alias = alias.get_or_insert_with(|| ast::TableAlias {
        explicit: true,
        name: name.clone(),
        columns: Vec::new(),
        at: None,
    });
    if alias.columns.is_empty() {
        alias.columns.push(ast::TableAliasColumnDef { name, data_type: None });
    }
}
