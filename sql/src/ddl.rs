//! What CREATE TABLE describes, and where to split.

pub(crate) mod alter;
pub(crate) mod comment;
pub(crate) mod constraint;
mod dependents;
pub(crate) mod foreign;
mod generated;
pub(crate) mod index;
mod parents;
mod rename;
pub(crate) mod retype;
pub(crate) mod sequence;
pub(crate) mod steps;
pub(crate) mod table;
pub(crate) mod truncate;
pub(crate) mod view;

use std::sync::Arc;

use sqlparser::ast;
use sqlparser::ast::helpers::stmt_create_table::CreateTableBuilder;
use txn::client::ClientError;
use txn::{Key, LockMode, Mutation, ReadOp, Span};

use crate::SqlError;
use crate::catalog::{self, Column, KeyColumn, NAME_BYTES_MAX, TABLE_COLUMNS_MAX, Table};
use crate::engine::Transaction;
use crate::entry::Layout;
use crate::expr::{Binder, EvalContext, Params, Scope, eval};
use crate::parse::{ident, object_name};
use crate::row;

/// How often a schema change is tried before its conflict is the client's.
const ATTEMPTS_MAX: u32 = 20;

fn check_name(name: String) -> Result<String, SqlError> {
    if name.len() > NAME_BYTES_MAX || name.contains('\0') || name.is_empty() {
        return Err(SqlError::new("42622", format!("name of {} bytes is not usable", name.len()))
            .detail(format!("A name has 1 to {NAME_BYTES_MAX} bytes.")));
    }
    Ok(name)
}

/// The table that a CREATE TABLE describes; its id is 0.
pub(crate) fn describe(create: &ast::CreateTable) -> Result<Table, SqlError> {
    // Whatever else the parser found in the statement is something that we would have to honour.
    let plain = CreateTableBuilder::new(create.name.clone())
        .if_not_exists(create.if_not_exists)
        .columns(create.columns.clone())
        .constraints(create.constraints.clone())
        .hive_formats(create.hive_formats.clone())
        .build();
    if plain != *create || create.hive_formats.as_ref().is_some_and(|formats| *formats != ast::HiveFormat::default()) {
        return Err(SqlError::unsupported("a clause of this CREATE TABLE"));
    }
    let name = check_name(object_name(&create.name)?)?;
    if create.columns.len() > TABLE_COLUMNS_MAX {
        return Err(SqlError::new("54011", format!("tables can have at most {TABLE_COLUMNS_MAX} columns")));
    }
    let mut table = Table { name, ..Table::default() };
    for column in &create.columns {
        add_column(&mut table, column)?;
    }
    for column in &create.columns {
        for option in &column.options {
            if let ast::ColumnOption::Unique(unique) = &option.option {
                index::constraint(&mut table, unique, Some(&ident(&column.name)))?;
            }
        }
    }
    for constraint in &create.constraints {
        match constraint {
            ast::TableConstraint::PrimaryKey(key) => primary_key(&mut table, key)?,
            ast::TableConstraint::Unique(unique) => index::constraint(&mut table, unique, None)?,
            // Once all columns, and the tables that they refer to, are known.
            ast::TableConstraint::ForeignKey(_) | ast::TableConstraint::Check(_) => {}
            _ => return Err(SqlError::unsupported("a constraint of this CREATE TABLE")),
        }
    }
    index::drop_redundant(&mut table);
    constraint::of_create(&mut table, create)?;
    generated::finish(&mut table)?;
    Ok(table)
}

fn add_column(table: &mut Table, column: &ast::ColumnDef) -> Result<(), SqlError> {
    let name = check_name(ident(&column.name))?;
    if table.column_index(&name).is_some() {
        return Err(SqlError::new("42701", format!("column \"{name}\" specified more than once")));
    }
    generated::check_name(&name)?;
    let index = table.columns.len();
    let (ty, modifier, generated) = generated::type_of(&column.data_type)?;
    let not_null = generated.is_some();
    let mut result = Column { modifier, not_null, generated, ..Column::new(table.next_number(), name.clone(), ty) };
    let mut is_key = false;
    let mut null = false;
    for option in &column.options {
        match &option.option {
            ast::ColumnOption::Null => null = true,
            ast::ColumnOption::NotNull => result.not_null = true,
            ast::ColumnOption::PrimaryKey(key) if key.characteristics.is_none() => is_key = true,
            ast::ColumnOption::Default(expr) => {
                let scope = Scope::default();
                let mut params = Params::default();
                let mut binder =
                    Binder { scope: &scope, params: &mut params, aggregates: None, clause: "DEFAULT expressions" };
                let bound = binder.bind(expr).map_err(|err| match err.sqlstate {
                    "42703" => SqlError::new("0A000", "cannot use column reference in DEFAULT expression"),
                    _ => err,
                })?;
                bound.assign(&result, &mut params)?;
                if !params.types.is_empty() {
                    return Err(SqlError::new("42P02", "there are no parameters in a DEFAULT expression"));
                }
                result.default = Some(expr.to_string());
            }
            // Once all columns are known.
            ast::ColumnOption::Unique(_) | ast::ColumnOption::Check(_) => {}
            // Once the tables that they refer to are known.
            ast::ColumnOption::ForeignKey(_) => {}
            ast::ColumnOption::Generated { .. } => generated::option(table, &mut result, &option.option)?,
            other => return Err(SqlError::unsupported(format!("the column option {other}"))),
        }
    }
    generated::check(table, &result)?;
    if null && (result.not_null || is_key) {
        return Err(SqlError::syntax(format!(
            "conflicting NULL/NOT NULL declarations for column \"{name}\" of table \"{}\"",
            table.name
        )));
    }
    table.columns.push(result);
    if is_key { set_key(table, vec![KeyColumn { column: index, desc: false }]) } else { Ok(()) }
}

fn primary_key(table: &mut Table, key: &ast::PrimaryKeyConstraint) -> Result<(), SqlError> {
    if key.index_name.is_some()
        || key.index_type.is_some()
        || !key.index_options.is_empty()
        || key.characteristics.is_some()
    {
        return Err(SqlError::unsupported("an option of PRIMARY KEY"));
    }
    let mut columns: Vec<KeyColumn> = Vec::new();
    for item in &key.columns {
        let ast::IndexColumn {
            column:
                ast::OrderByExpr {
                    expr: ast::Expr::Identifier(name),
                    options: ast::OrderByOptions { asc, nulls_first: None },
                    with_fill: None,
                },
            operator_class: None,
        } = item
        else {
            return Err(SqlError::unsupported("an expression or option in PRIMARY KEY"));
        };
        let name = ident(name);
        let column = table
            .column_index(&name)
            .ok_or_else(|| SqlError::new("42703", format!("column \"{name}\" named in key does not exist")))?;
        if columns.iter().any(|known| known.column == column) {
            return Err(SqlError::new("42701", format!("column \"{name}\" appears twice in primary key constraint")));
        }
        columns.push(KeyColumn { column, desc: *asc == Some(false) });
    }
    set_key(table, columns)
}

/// 42704 if values of the column's type have no order that a key keeps.
fn check_key_type(table: &Table, column: usize) -> Result<(), SqlError> {
    let ty = table.columns[column].ty;
    if ty.is_orderable_in_key() {
        return Ok(());
    }
    Err(SqlError::new("42704", format!("data type {} has no order that a key or an index could keep", ty.name()))
        .detail(format!("Column \"{}\" is of that type.", table.columns[column].name)))
}

fn set_key(table: &mut Table, key: Vec<KeyColumn>) -> Result<(), SqlError> {
    if !table.key.is_empty() {
        return Err(SqlError::new(
            "42P16",
            format!("multiple primary keys for table \"{}\" are not allowed", table.name),
        ));
    }
    for part in &key {
        check_key_type(table, part.column)?;
        table.columns[part.column].not_null = true;
    }
    table.key = key;
    Ok(())
}

pub(crate) fn point(key: Key) -> ReadOp {
    ReadOp { span: Span::point(key), reverse: false, limit: 0 }
}

/// Reads and locks some catalog rows, the version always first.
pub(crate) async fn lock<T: Transaction>(txn: &mut T, keys: Vec<Key>) -> Result<Vec<Option<txn::Value>>, ClientError> {
    let results = txn.read(keys.into_iter().map(point).collect(), LockMode::Exclusive).await?;
    Ok(results.into_iter().map(|result| result.rows.into_iter().next().map(|row| row.value)).collect())
}

pub(crate) fn set(key: Key, value: impl Into<Vec<u8>>) -> Mutation {
    Mutation { key, value: Some(value.into().into()) }
}

pub(crate) fn stored_number(row: Option<&Option<txn::Value>>) -> Result<Option<u64>, SqlError> {
    row.and_then(Option::as_ref).map(|bytes| catalog::parse_number(bytes)).transpose()
}

/// The keys of a SPLIT AT: each row gives the first columns of the primary key, or of the index.
pub(crate) fn split_keys(
    table: &Arc<Table>,
    layout: &Layout,
    rows: &[Vec<ast::Expr>],
    context: &EvalContext<'_>,
) -> Result<Vec<Key>, SqlError> {
    let scope = Scope::default();
    let mut keys = Vec::with_capacity(rows.len());
    for values in rows {
        if values.is_empty() || values.len() > layout.parts.len() {
            let names: Vec<&str> = layout.parts.iter().map(|part| table.columns[part.column].name.as_str()).collect();
            let message = format!("SPLIT AT takes 1 to {} values: ({})", names.len(), names.join(", "));
            return Err(SqlError::syntax(message));
        }
        let mut key = layout.prefix.clone();
        for (part, value) in layout.parts.iter().zip(values) {
            let column = &table.columns[part.column];
            let mut params = Params::default();
            let mut binder = Binder { scope: &scope, params: &mut params, aggregates: None, clause: "SPLIT AT" };
            let expr = binder.bind(value)?.assign(column, &mut params)?;
            let datum = eval(&expr, &[], context)?;
            if datum.is_null() {
                return Err(SqlError::new("23502", format!("null value in column \"{}\" of a split", column.name)));
            }
            part.encode_value(&mut key, Some(&datum));
        }
        row::check_key_size(&key)?;
        keys.push(key.into());
    }
    Ok(keys)
}
