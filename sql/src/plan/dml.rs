//! Planning INSERT, UPDATE and DELETE.

use std::sync::Arc;

use sqlparser::ast;

use super::check::Checks;
use super::foreign::{self, Writes};
use super::generated::{Overriding, computed, default_value, may_insert, may_update};
use super::index::Maintained;
use super::{
    Arbiter, Conflict, DeletePlan, InsertPlan, Plan, UpdatePlan, find_table, index, index_hint, projection, scan,
    single_table, table_scope,
};
use crate::SqlError;
use crate::catalog::{Catalog, IndexState, Table};
use crate::expr::{Binder, Bound, Expr, Params, Scope};
use crate::parse::ident;
use crate::sink::ColumnInfo;
use crate::types::Datum;

type Planned = (Plan, Vec<ColumnInfo>, Option<Arc<Table>>);

fn column(table: &Table, name: &str) -> Result<usize, SqlError> {
    table.column_index(name).ok_or_else(|| {
        SqlError::new("42703", format!("column \"{name}\" of relation \"{}\" does not exist", table.name))
    })
}

fn single_name(name: &ast::ObjectName) -> Result<String, SqlError> {
    match name.0.as_slice() {
        [ast::ObjectNamePart::Identifier(name)] => Ok(ident(name)),
        _ => Err(SqlError::unsupported(format!("the column name {name}"))),
    }
}

/// DEFAULT, as the parser has it: a name without quotes.
pub(super) fn is_default(expr: &ast::Expr) -> bool {
    matches!(expr, ast::Expr::Identifier(name) if name.quote_style.is_none() && name.value.eq_ignore_ascii_case("default"))
}

fn assign(
    table: &Table,
    index: usize,
    value: &ast::Expr,
    scope: &Scope,
    params: &mut Params,
    clause: &'static str,
) -> Result<Expr, SqlError> {
    if is_default(value) {
        return default_value(table, index, params);
    }
    let mut binder = Binder { scope, params: &mut *params, aggregates: None, clause };
    let bound = binder.bind(value)?;
    let column = &table.columns[index];
    bound.assign(column, params)
}

fn assignments(
    table: &Table,
    list: &[ast::Assignment],
    scope: &Scope,
    params: &mut Params,
) -> Result<Vec<(usize, Expr)>, SqlError> {
    let targets = targets_of(table, list)?.into_iter();
    targets.map(|(index, value)| Ok((index, assign(table, index, value, scope, params, "UPDATE")?))).collect()
}

/// The columns that SET names, and what it gives them.
pub(super) fn targets_of<'a>(
    table: &Table,
    list: &'a [ast::Assignment],
) -> Result<Vec<(usize, &'a ast::Expr)>, SqlError> {
    let mut result: Vec<(usize, &ast::Expr)> = Vec::new();
    let mut add = |name: &ast::ObjectName, value: &'a ast::Expr| {
        let name = single_name(name)?;
        let index = column(table, &name)?;
        if !is_default(value) {
            may_update(&table.columns[index])?;
        }
        if result.iter().any(|(known, _)| *known == index) {
            return Err(SqlError::syntax(format!("multiple assignments to same column \"{name}\"")));
        }
        result.push((index, value));
        Ok(())
    };
    for ast::Assignment { target, value } in list {
        match (target, value) {
            (ast::AssignmentTarget::ColumnName(name), value) => add(name, value)?,
            (ast::AssignmentTarget::Tuple(names), ast::Expr::Tuple(values)) if names.len() == values.len() => {
                for (name, value) in names.iter().zip(values) {
                    add(name, value)?;
                }
            }
            _ => return Err(SqlError::unsupported("this form of assignment to several columns")),
        }
    }
    Ok(result)
}

/// A text constant or NULL alone: it has no type yet, and takes the column's.
pub(super) fn unknown_literal(expr: &ast::Expr) -> Option<Bound> {
    let ast::Expr::Value(value) = expr else { return None };
    let datum = match &value.value {
        ast::Value::Null => Datum::Null,
        value => Datum::Text(crate::expr::bind::string_of(value)?.to_string()),
    };
    Some(Bound { expr: Expr::Const(datum), ty: None })
}

pub(super) fn returning(
    items: &Option<Vec<ast::SelectItem>>,
    scope: &Scope,
    alias: &str,
    params: &mut Params,
) -> Result<(Option<Vec<Expr>>, Vec<ColumnInfo>), SqlError> {
    let Some(items) = items else { return Ok((None, Vec::new())) };
    let mut binder = Binder { scope, params, aggregates: None, clause: "RETURNING" };
    let (exprs, columns) = projection(items, Some(alias), &mut binder)?;
    Ok((Some(exprs), columns))
}

/// An INSERT but for its rows.
pub(super) struct Parts<'a> {
    table: Arc<Table>,
    alias: String,
    /// The columns that are given, in the statement's order.
    pub(super) targets: Vec<usize>,
    /// Whether the statement lists them.
    listed: bool,
    upsert: bool,
    overriding: Overriding,
    insert: &'a ast::Insert,
}

/// Takes an INSERT apart.
pub(super) fn parts<'a>(
    insert: &'a ast::Insert,
    (upsert, overriding): (bool, Overriding),
    catalog: &Catalog,
) -> Result<Parts<'a>, SqlError> {
    let ast::Insert {
        insert_token: _,
        optimizer_hints,
        or: None,
        ignore: false,
        into: true,
        table: ast::TableObject::TableName(name),
        table_alias,
        columns,
        overwrite: false,
        source: _,
        assignments: set,
        partitioned: None,
        after_columns,
        has_table_keyword: false,
        on: _,
        returning: _,
        output: None,
        replace_into: false,
        priority: None,
        insert_alias: None,
        settings: None,
        format_clause: None,
        multi_table_insert_type: None,
        multi_table_into_clauses,
        multi_table_when_clauses,
        multi_table_else_clause: None,
    } = insert
    else {
        return Err(SqlError::unsupported("this form of INSERT"));
    };
    let extras = !optimizer_hints.is_empty() || !set.is_empty() || !after_columns.is_empty();
    if extras || !multi_table_into_clauses.is_empty() || !multi_table_when_clauses.is_empty() {
        return Err(SqlError::unsupported("this form of INSERT"));
    }
    let table = find_table(name, catalog)?;
    let alias = table_alias.as_ref().map_or_else(|| table.name.clone(), |alias| ident(&alias.alias));

    let mut targets = Vec::new();
    for name in columns {
        let name = single_name(name)?;
        let index = column(&table, &name)?;
        if targets.contains(&index) {
            return Err(SqlError::new("42701", format!("column \"{name}\" specified more than once")));
        }
        targets.push(index);
    }
    let listed = !columns.is_empty();
    if !listed {
        targets = table.visible_columns().map(|(index, _)| index).collect();
    }
    Ok(Parts { table, alias, targets, listed, upsert, overriding, insert })
}

/// 42601 unless so many values fit the columns; the first row has `first`.
fn check_width(parts: &Parts<'_>, given: usize, first: usize) -> Result<(), SqlError> {
    if given > parts.targets.len() {
        return Err(SqlError::syntax("INSERT has more expressions than target columns"));
    }
    if given < parts.targets.len() && (parts.listed || given != first) {
        return Err(SqlError::syntax("INSERT has more target columns than expressions"));
    }
    Ok(())
}

/// A whole row from the values of its first columns.
pub(super) fn row_of(parts: &Parts<'_>, given: Vec<Bound>, params: &mut Params) -> Result<Vec<Expr>, SqlError> {
    check_width(parts, given.len(), given.len())?;
    let table = &parts.table;
    let mut exprs = vec![None; table.columns.len()];
    for (index, bound) in parts.targets.iter().zip(given) {
        let column = &table.columns[*index];
        if parts.overriding == Overriding::User && column.is_identity() {
            continue;
        }
        may_insert(column, parts.overriding)?;
        exprs[*index] = Some(bound.assign(column, params)?);
    }
    whole_row(table, exprs, params)
}

fn whole_row(table: &Table, exprs: Vec<Option<Expr>>, params: &mut Params) -> Result<Vec<Expr>, SqlError> {
    let whole = exprs.into_iter().enumerate();
    whole.map(|(index, expr)| expr.map_or_else(|| default_value(table, index, params), Ok)).collect()
}

/// The plan, given its rows: what it does with duplicates, and what it returns.
pub(super) fn finish(
    parts: Parts<'_>,
    rows: Vec<Vec<Expr>>,
    given: Vec<usize>,
    catalog: &Catalog,
    params: &mut Params,
) -> Result<(InsertPlan, Vec<ColumnInfo>), SqlError> {
    let Parts { table, alias, upsert, insert, .. } = parts;
    let indexes = index::maintained(&table, catalog.sabotage)?;
    let (conflict, arbiter) = match &insert.on {
        None if upsert => (Conflict::Replace(given), Arbiter::Primary),
        None => (Conflict::Error, Arbiter::Any),
        Some(_) if upsert => return Err(SqlError::syntax("UPSERT takes no ON CONFLICT")),
        Some(ast::OnInsert::OnConflict(on)) => conflict(on, &table, &indexes, &alias, params)?,
        Some(_) => return Err(SqlError::unsupported("ON DUPLICATE KEY UPDATE")),
    };
    let scope = table_scope(&table, &alias);
    let (returning, columns) = returning(&insert.returning, &scope, &alias, params)?;
    let checks = Checks::of(&table)?;
    let computed = computed(&table)?;
    if upsert && table.has_hidden_key() {
        return Err(SqlError::new(
            "42P10",
            format!("UPSERT needs a primary key, which \"{}\" does not have", table.name),
        ));
    }
    let writes = match conflict {
        Conflict::Error | Conflict::Nothing => Writes::Inserts,
        Conflict::Update { .. } | Conflict::Replace(_) => Writes::InsertsOrUpdates,
    };
    let foreign = foreign::graph(&table, catalog, writes)?;
    let plan = InsertPlan {
        table,
        rows,
        source: None,
        conflict,
        arbiter,
        indexes,
        checks,
        returning,
        upsert,
        computed,
        foreign,
    };
    Ok((plan, columns))
}

pub(super) fn insert(
    insert: &ast::Insert,
    how: (bool, Overriding),
    catalog: &Catalog,
    params: &mut Params,
) -> Result<Planned, SqlError> {
    let parts = parts(insert, how, catalog)?;
    let table = Arc::clone(&parts.table);
    let default_row = ast::Parens {
        opening_token: ast::helpers::attached_token::AttachedToken::empty(),
        content: Vec::new(),
        closing_token: ast::helpers::attached_token::AttachedToken::empty(),
    };
    let default_values = [default_row];
    let values = match insert.source.as_deref() {
        None => &default_values[..],
        Some(query) => values_of(query)?,
    };
    let mut rows = Vec::with_capacity(values.len());
    let no_scope = Scope::default();
    let mut given = Vec::new();
    for (number, row) in values.iter().enumerate() {
        let row = &row.content;
        check_width(&parts, row.len(), values[0].content.len())?;
        let mut exprs = vec![None; table.columns.len()];
        for (index, value) in parts.targets.iter().zip(row) {
            let column = &table.columns[*index];
            if parts.overriding == Overriding::User && column.is_identity() {
                continue;
            }
            if !is_default(value) {
                may_insert(column, parts.overriding)?;
            }
            exprs[*index] = Some(assign(&table, *index, value, &no_scope, params, "VALUES")?);
        }
        if number == 0 {
            given = parts.targets[..row.len()].to_vec();
        }
        rows.push(whole_row(&table, exprs, params)?);
    }
    let (plan, columns) = finish(parts, rows, given, catalog, params)?;
    Ok((Plan::Insert(plan), columns, Some(table)))
}

/// The rows of a plain VALUES list.
fn values_of(query: &ast::Query) -> Result<&[ast::Parens<Vec<ast::Expr>>], SqlError> {
    let ast::Query {
        with: None,
        body,
        order_by: None,
        limit_clause: None,
        fetch: None,
        locks,
        for_clause: None,
        settings: None,
        format_clause: None,
        pipe_operators,
    } = query
    else {
        return Err(SqlError::unsupported("this form of INSERT"));
    };
    match &**body {
        ast::SetExpr::Values(ast::Values { explicit_row: false, value_keyword: false, rows })
            if locks.is_empty() && pipe_operators.is_empty() =>
        {
            Ok(rows)
        }
        ast::SetExpr::Select(_) => Err(SqlError::unsupported("INSERT .. SELECT")),
        _ => Err(SqlError::unsupported("this form of INSERT")),
    }
}

fn conflict(
    on: &ast::OnConflict,
    table: &Table,
    indexes: &[Maintained],
    alias: &str,
    params: &mut Params,
) -> Result<(Conflict, Arbiter), SqlError> {
    let ast::OnConflict { conflict_target, action } = on;
    // As in PostgreSQL, neither a partial index nor one that is not built yet.
    let whole = |known: &Maintained| {
        known.index.unique && known.index.state == IndexState::Public && known.index.predicate.is_none()
    };
    let arbiter = match conflict_target {
        Some(ast::ConflictTarget::Columns(names)) => {
            let mut named = names.iter().map(|name| column(table, &ident(name))).collect::<Result<Vec<_>, _>>()?;
            let mut key: Vec<usize> = table.key.iter().map(|part| part.column).collect();
            named.sort_unstable();
            key.sort_unstable();
            let same = |known: &Maintained| {
                let mut columns: Vec<usize> = known.index.columns.iter().map(|part| part.column).collect();
                columns.sort_unstable();
                whole(known) && columns == named
            };
            match indexes.iter().position(same) {
                _ if named == key => Arbiter::Primary,
                Some(at) => Arbiter::Index(at),
                None => {
                    return Err(SqlError::new(
                        "42P10",
                        "there is no unique or exclusion constraint matching the ON CONFLICT specification",
                    ));
                }
            }
        }
        Some(ast::ConflictTarget::OnConstraint(name)) => {
            let name = single_name(name)?;
            let known = |known: &Maintained| known.index.constraint && known.index.name == name && whole(known);
            match indexes.iter().position(known) {
                _ if name == format!("{}_pkey", table.name) => Arbiter::Primary,
                Some(at) => Arbiter::Index(at),
                None => {
                    return Err(SqlError::new(
                        "42704",
                        format!("constraint \"{name}\" for table \"{}\" does not exist", table.name),
                    ));
                }
            }
        }
        None => Arbiter::Any,
    };
    let conflict = match action {
        ast::OnConflictAction::DoNothing => Conflict::Nothing,
        ast::OnConflictAction::DoUpdate(ast::DoUpdate { assignments: list, selection }) => {
            if conflict_target.is_none() {
                return Err(SqlError::syntax(
                    "ON CONFLICT DO UPDATE requires inference specification or constraint name",
                ));
            }
            let mut scope = table_scope(table, alias);
            scope.columns.extend(table_scope(table, "excluded").columns);
            // As in PostgreSQL, a name without a table is ambiguous between the two rows.
            let assignments = assignments(table, list, &scope, params)?;
            if assignments.iter().any(|(column, _)| table.key_position(*column).is_some()) {
                return Err(SqlError::unsupported("changing the primary key in ON CONFLICT DO UPDATE"));
            }
            let filter = match selection {
                None => None,
                Some(selection) => {
                    let mut binder = Binder { scope: &scope, params, aggregates: None, clause: "WHERE" };
                    Some(binder.boolean(selection, "WHERE")?)
                }
            };
            Conflict::Update { assignments, filter }
        }
    };
    Ok((conflict, arbiter))
}

pub(super) fn update(update: &ast::Update, catalog: &Catalog, params: &mut Params) -> Result<Planned, SqlError> {
    let ast::Update {
        update_token: _,
        optimizer_hints,
        table: from,
        assignments: list,
        from: None,
        selection,
        returning: items,
        output: None,
        or: None,
        order_by,
        limit: None,
    } = update
    else {
        return Err(SqlError::unsupported("this form of UPDATE (FROM, LIMIT or another clause)"));
    };
    if !optimizer_hints.is_empty() || !order_by.is_empty() {
        return Err(SqlError::unsupported("this form of UPDATE"));
    }
    let (table, alias) = single_table(from, catalog)?;
    let scope = table_scope(&table, &alias);
    let assignments = assignments(&table, list, &scope, params)?;
    let scan = scan(&table, &scope, selection.as_ref(), index_hint(from).as_deref(), params)?;
    let (returning, columns) = returning(items, &scope, &alias, params)?;
    let indexes = index::maintained(&table, catalog.sabotage)?;
    let checks = Checks::of(&table)?;
    let computed = computed(&table)?;
    let changed: Vec<usize> = assignments.iter().map(|(at, _)| *at).chain(computed.iter().map(|(at, _)| *at)).collect();
    let foreign = foreign::graph(&table, catalog, Writes::Updates(&changed))?;
    let plan = UpdatePlan { scan, source: None, assignments, returning, indexes, checks, computed, foreign };
    Ok((Plan::Update(plan), columns, Some(table)))
}

pub(super) fn delete(delete: &ast::Delete, catalog: &Catalog, params: &mut Params) -> Result<Planned, SqlError> {
    let ast::Delete {
        delete_token: _,
        optimizer_hints,
        tables,
        from: ast::FromTable::WithFromKeyword(from),
        using: None,
        selection,
        returning: items,
        output: None,
        order_by,
        limit: None,
    } = delete
    else {
        return Err(SqlError::unsupported("this form of DELETE (USING, LIMIT or another clause)"));
    };
    let [from] = from.as_slice() else { return Err(SqlError::unsupported("DELETE from several tables")) };
    if !optimizer_hints.is_empty() || !tables.is_empty() || !order_by.is_empty() {
        return Err(SqlError::unsupported("this form of DELETE"));
    }
    let (table, alias) = single_table(from, catalog)?;
    let scope = table_scope(&table, &alias);
    let scan = scan(&table, &scope, selection.as_ref(), index_hint(from).as_deref(), params)?;
    let (returning, columns) = returning(items, &scope, &alias, params)?;
    let indexes = index::maintained(&table, catalog.sabotage)?;
    let foreign = foreign::graph(&table, catalog, Writes::Deletes)?;
    Ok((Plan::Delete(DeletePlan { scan, source: None, returning, indexes, foreign }), columns, Some(table)))
}
