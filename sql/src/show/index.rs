//! What SHOW tells of indexes and of the jobs that make them.

use truetime::Timestamp;

use super::{Rows, text, text_columns};
use crate::catalog::constraint::{Commented, comment_key};
use crate::catalog::{Catalog, CheckState, Index, Table};
use crate::parse::names::quoted;
use crate::sink::ColumnInfo;
use crate::types::{DataType, Datum};

fn columns(index: &Index, table: &Table) -> String {
    let parts: Vec<String> = index
        .columns
        .iter()
        .map(|part| {
            let desc = if part.desc { " DESC" } else { "" };
            let nulls = match (part.desc, part.nulls_first) {
                (false, true) => " NULLS FIRST",
                (true, false) => " NULLS LAST",
                _ => "",
            };
            format!("{}{desc}{nulls}", quoted(&table.columns[part.column].name))
        })
        .collect();
    parts.join(", ")
}

fn storing(index: &Index, table: &Table) -> Option<String> {
    let names: Vec<String> = index.storing.iter().map(|column| quoted(&table.columns[*column].name)).collect();
    (!names.is_empty()).then(|| names.join(", "))
}

/// The lines of CREATE TABLE for indexes that are constraints.
pub(super) fn constraints(table: &Table) -> impl Iterator<Item = String> + '_ {
    let constraints = table.indexes.iter().filter(|index| index.constraint);
    constraints.map(|index| format!("  CONSTRAINT {} UNIQUE ({})", quoted(&index.name), columns(index, table)))
}

/// The lines of CREATE TABLE for CHECKs. NOT VALID is no part of that statement: see [`not_valid`].
pub(super) fn checks(table: &Table) -> impl Iterator<Item = String> + '_ {
    let whole = table.named_checks().filter(|(check, _)| check.state != CheckState::NotValid);
    whole.map(|(check, text)| format!("  CONSTRAINT {} CHECK ({text})", quoted(&check.name)))
}

/// The statements after it, for CHECKs that hold for new rows only.
pub(super) fn not_valid(table: &Table) -> impl Iterator<Item = String> + '_ {
    let those = table.named_checks().filter(|(check, _)| check.state == CheckState::NotValid);
    those.map(|(check, text)| {
        let (table, name) = (quoted(&table.name), quoted(&check.name));
        format!("ALTER TABLE {table} ADD CONSTRAINT {name} CHECK ({text}) NOT VALID")
    })
}

/// The COMMENT ONs.
pub(super) fn comments(table: &Table) -> impl Iterator<Item = String> + '_ {
    commented(table).into_iter().map(|(kind, name, text)| {
        let on = quoted(&table.name);
        let what = match kind {
            "table" => format!("TABLE {on}"),
            "column" => format!("COLUMN {on}.{}", quoted(&name)),
            "index" => format!("INDEX {}", quoted(&name)),
            _ => format!("CONSTRAINT {} ON {on}", quoted(&name)),
        };
        format!("COMMENT ON {what} IS '{}'", text.replace('\'', "''"))
    })
}

/// All comments of a table: what kind of thing each is on, its name, and the text.
pub(crate) fn commented(table: &Table) -> Vec<(&'static str, String, String)> {
    let mut found = Vec::new();
    let mut add = |on: Commented, kind: &'static str, name: &str| {
        if let Some(text) = table.comments.get(&comment_key(on)) {
            found.push((kind, name.to_string(), text.clone()));
        }
    };
    add(Commented::Table, "table", &table.name);
    for column in &table.columns {
        add(Commented::Column(column.id), "column", &column.name);
    }
    add(Commented::KeyIndex, "index", &table.key_name());
    for index in &table.indexes {
        add(Commented::Index(index.id), "index", &index.name);
    }
    add(Commented::Key, "constraint", &table.key_name());
    for index in &table.indexes {
        add(Commented::Unique(index.id), "constraint", &index.name);
    }
    for (check, _) in table.named_checks() {
        add(Commented::Check(check.id), "constraint", &check.name);
    }
    found
}

/// The CREATE INDEX of the others.
pub(super) fn statements(table: &Table) -> impl Iterator<Item = String> + '_ {
    let others = table.indexes.iter().filter(|index| !index.constraint && !super::foreign::makes(table, index));
    others.map(|index| {
        let unique = if index.unique { "UNIQUE " } else { "" };
        let (name, on) = (quoted(&index.name), quoted(&table.name));
        let mut text = format!("CREATE {unique}INDEX {name} ON {on} ({})", columns(index, table));
        if let Some(storing) = storing(index, table) {
            text.push_str(&format!(" INCLUDE ({storing})"));
        }
        if let Some(predicate) = &index.predicate {
            text.push_str(&format!(" WHERE {predicate}"));
        }
        text
    })
}

/// SHOW INDEXES.
pub(crate) fn indexes(table: &Table) -> Rows {
    let mut names = text_columns(&["index_name", "columns", "storing", "predicate", "state"]);
    names.insert(1, ColumnInfo { name: "is_unique".into(), ty: DataType::Bool });
    names.push(ColumnInfo { name: "id".into(), ty: DataType::Int });
    let key: Vec<String> = table
        .key
        .iter()
        .map(|part| format!("{}{}", quoted(&table.columns[part.column].name), if part.desc { " DESC" } else { "" }))
        .collect();
    let mut rows = Vec::new();
    let primary = vec![
        text(format!("{}_pkey", table.name)),
        Datum::Bool(true),
        text(key.join(", ")),
        Datum::Null,
        Datum::Null,
        text("public"),
        Datum::Int(i64::from(table.id)),
    ];
    rows.extend((!table.has_hidden_key()).then_some(primary));
    rows.extend(table.indexes.iter().map(|index| {
        vec![
            text(&index.name),
            Datum::Bool(index.unique),
            text(columns(index, table)),
            storing(index, table).map_or(Datum::Null, Datum::Text),
            index.predicate.clone().map_or(Datum::Null, Datum::Text),
            text(index.state.name()),
            Datum::Int(i64::from(index.id)),
        ]
    }));
    (names, rows)
}

/// SHOW JOBS.
pub(crate) fn jobs(catalog: &Catalog) -> Rows {
    let number = |name: &str| ColumnInfo { name: name.into(), ty: DataType::Int };
    let mut columns = vec![number("job_id")];
    columns.extend(text_columns(&["statement", "status", "state"]));
    columns.extend(["rows", "rows_total", "node", "owners"].map(number));
    columns.push(ColumnInfo { name: "created".into(), ty: DataType::Timestamp });
    columns.extend(text_columns(&["error"]));
    let rows = catalog.jobs.values().rev().map(|job| {
        let index = catalog.index_by_id(job.index_id).map(|(_, index)| text(index.state.name()));
        vec![
            Datum::Int(job.id as i64),
            text(&job.statement),
            text(job.status.name()),
            index.or_else(|| job.state().map(text)).unwrap_or(Datum::Null),
            Datum::Int(job.rows as i64),
            job.rows_total.map_or(Datum::Null, |rows| Datum::Int(rows as i64)),
            Datum::Int(job.node as i64),
            Datum::Int(i64::from(job.owners)),
            Datum::Timestamp(Timestamp::from_nanos(job.created)),
            job.error.as_ref().map_or(Datum::Null, |error| text(error.message())),
        ]
    });
    let rows = rows.collect();
    (columns, rows)
}
