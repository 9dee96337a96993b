//! What SHOW returns.

mod foreign;
pub(crate) mod index;

use txn::Span;

use crate::SqlError;
use crate::catalog::{Catalog, Column, Table, View};
use crate::engine::AdminRows;
use crate::parse::names::quoted;
use crate::row::pretty_key;
use crate::sink::ColumnInfo;
use crate::types::{DataType, Datum};
use crate::value;

/// Columns and rows.
pub(crate) type Rows = (Vec<ColumnInfo>, Vec<Vec<Datum>>);

/// Text columns by name.
pub(crate) fn text_columns(names: &[&str]) -> Vec<ColumnInfo> {
    names.iter().map(|name| ColumnInfo { name: name.to_string(), ty: DataType::Text }).collect()
}

fn text(value: impl Into<String>) -> Datum {
    Datum::Text(value.into())
}

pub(crate) fn tables(catalog: &Catalog) -> Rows {
    let mut columns = text_columns(&["table_name", "primary_key"]);
    columns.push(ColumnInfo { name: "columns".into(), ty: DataType::Int });
    columns.push(ColumnInfo { name: "id".into(), ty: DataType::Int });
    let row = |table: &Table| {
        vec![
            text(&table.name),
            if table.has_hidden_key() { Datum::Null } else { text(table.key_names()) },
            Datum::Int(table.visible_columns().count() as i64),
            Datum::Int(i64::from(table.id)),
        ]
    };
    (columns, catalog.tables.values().map(|table| row(table)).collect())
}

pub(crate) fn views(catalog: &Catalog) -> Rows {
    let row = |view: &View| vec![text(&view.name), text(&view.query)];
    (text_columns(&["view_name", "definition"]), catalog.views.values().map(|view| row(view)).collect())
}

/// The statement that would make the view.
pub(crate) fn create_view(view: &View) -> Rows {
    let columns: Vec<String> = view.columns.iter().map(|column| quoted(&column.name)).collect();
    let statement = format!("CREATE VIEW {} ({}) AS\n{}", quoted(&view.name), columns.join(", "), view.query);
    (text_columns(&["view_name", "create_statement"]), vec![vec![text(&view.name), text(statement)]])
}

pub(crate) fn columns(table: &Table) -> Rows {
    let mut columns = text_columns(&["column_name", "data_type"]);
    columns.push(ColumnInfo { name: "nullable".into(), ty: DataType::Bool });
    columns.push(ColumnInfo { name: "column_default".into(), ty: DataType::Text });
    columns.push(ColumnInfo { name: "key_position".into(), ty: DataType::Int });
    let rows = table.visible_columns().map(|(index, column)| {
        vec![
            text(&column.name),
            text(value::type_text(column.ty, column.modifier)),
            Datum::Bool(!column.not_null),
            foreign::shown_default(column).map_or(Datum::Null, text),
            table.key_position(index).map_or(Datum::Null, |position| Datum::Int(position as i64 + 1)),
        ]
    });
    let rows = rows.collect();
    (columns, rows)
}

/// The statement that would make the table.
pub(crate) fn create_table(table: &Table, catalog: &Catalog) -> Rows {
    let mut lines: Vec<String> = table
        .visible_columns()
        .map(|(_, column)| {
            let null = if column.not_null { " NOT NULL" } else { "" };
            let (name, ty, default) = (quoted(&column.name), foreign::serial(column), foreign::source(column));
            format!("  {name} {}{null}{default}", ty.map_or_else(|| type_name(column), str::to_string))
        })
        .collect();
    let key: Vec<String> = table
        .key
        .iter()
        .map(|part| format!("{}{}", quoted(&table.columns[part.column].name), if part.desc { " DESC" } else { "" }))
        .collect();
    if !table.has_hidden_key() {
        lines.push(format!("  PRIMARY KEY ({})", key.join(", ")));
    }
    lines.extend(index::constraints(table));
    lines.extend(index::checks(table));
    lines.extend(foreign::constraints(table, catalog));
    let mut statement = format!("CREATE TABLE {} (\n{}\n)", quoted(&table.name), lines.join(",\n"));
    let not_valid = index::not_valid(table).chain(foreign::not_valid(table, catalog));
    for more in index::statements(table).chain(not_valid).chain(index::comments(table)) {
        statement.push_str(";\n");
        statement.push_str(&more);
    }
    (text_columns(&["table_name", "create_statement"]), vec![vec![text(&table.name), text(statement)]])
}

/// The shorter of PostgreSQL's names.
fn type_name(column: &Column) -> String {
    let long = value::type_text(column.ty, column.modifier).to_uppercase();
    let words = [
        ("CHARACTER VARYING", "VARCHAR"),
        ("CHARACTER", "CHAR"),
        ("TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ"),
        (" WITHOUT TIME ZONE", ""),
    ];
    let mut text = words.iter().fold(long, |text, (long, short)| text.replace(long, short));
    // TIMESTAMP(3) WITH TIME ZONE
    if let Some(rest) = text.strip_suffix(" WITH TIME ZONE") {
        text = rest.replace("TIMESTAMP", "TIMESTAMPTZ");
    }
    text
}

/// The engine's rows, with keys for people.
pub(crate) fn admin(rows: AdminRows, catalog: &Catalog) -> Rows {
    let AdminRows { columns, mut rows } = rows;
    let is_key = |name: &str, ty: DataType| ty == DataType::Bytes && matches!(name, "start_key" | "end_key" | "key");
    for row in &mut rows {
        for ((name, ty), datum) in columns.iter().zip(row.iter_mut()) {
            if let Datum::Bytes(key) = datum
                && is_key(name, *ty)
            {
                *datum =
                    text(if key.is_empty() && name == "end_key" { "/Max".into() } else { pretty_key(key, catalog) });
            }
        }
    }
    let columns = columns
        .into_iter()
        .map(|(name, ty)| ColumnInfo { ty: if is_key(&name, ty) { DataType::Text } else { ty }, name })
        .collect();
    (columns, rows)
}

/// Only the ranges that hold some of the table.
pub(crate) fn ranges_of(mut rows: AdminRows, table: &Table) -> Result<AdminRows, SqlError> {
    let at = |name: &str| {
        rows.columns
            .iter()
            .position(|(found, _)| found == name)
            .ok_or_else(|| SqlError::new("XX000", format!("the ranges have no column {name}")))
    };
    let (start, end) = (at("start_key")?, at("end_key")?);
    let spans: Vec<Span> = std::iter::once(table.span()).chain(table.indexes.iter().map(|i| i.span())).collect();
    rows.rows.retain(|row| match (&row[start], &row[end]) {
        (Datum::Bytes(start), Datum::Bytes(end)) => {
            let range = Span::new(start.clone(), end.clone());
            spans.iter().any(|span| range.overlaps(span))
        }
        _ => false,
    });
    Ok(rows)
}
