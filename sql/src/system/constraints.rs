//! The constraints of tables in `information_schema`: primary keys, UNIQUE, CHECK; and `meridian.comments`.

use super::references::position_in_parent;
use super::schema::{public, text, yes};
use super::{Source, SystemTable};
use crate::catalog::{Catalog, ForeignKey, Table};
use crate::ddl::steps::columns_of;
use crate::show::index::commented;
use crate::types::DataType::Text;
use crate::types::Datum;

pub(super) static TABLES: &[SystemTable] = &[SystemTable {
    schema: "meridian",
    name: "comments",
    columns: &[("table_name", Text), ("object_type", Text), ("object_name", Text), ("comment", Text)],
    source: Source::Catalog(comments),
}];

/// One of a table's constraints.
struct Constraint<'a> {
    table: &'a Table,
    name: String,
    kind: &'static str,
    enforced: bool,
    /// In their order, for a key.
    columns: Vec<String>,
    foreign: Option<&'a ForeignKey>,
}

fn constraints(catalog: &Catalog) -> Vec<Constraint<'_>> {
    let mut found = Vec::new();
    for table in catalog.tables.values() {
        let name = |at: usize| table.columns[at].name.clone();
        if !table.has_hidden_key() {
            found.push(Constraint {
                table,
                name: table.key_name(),
                kind: "PRIMARY KEY",
                enforced: true,
                columns: table.key.iter().map(|part| name(part.column)).collect(),
                foreign: None,
            });
        }
        for index in table.indexes.iter().filter(|index| index.constraint) {
            found.push(Constraint {
                table,
                name: index.name.clone(),
                kind: "UNIQUE",
                enforced: index.state.writes(),
                columns: index.columns.iter().map(|part| name(part.column)).collect(),
                foreign: None,
            });
        }
        for (check, clause) in table.named_checks() {
            let ids = columns_of(table, clause);
            let columns = table.columns.iter().filter(|column| ids.contains(&column.id));
            found.push(Constraint {
                table,
                name: check.name.clone(),
                kind: "CHECK",
                enforced: true,
                columns: columns.map(|column| column.name.clone()).collect(),
                foreign: None,
            });
        }
        for key in &table.foreign.keys {
            found.push(Constraint {
                table,
                name: key.name.clone(),
                kind: "FOREIGN KEY",
                enforced: true,
                columns: table.names_by_id(&key.columns).into_iter().map(str::to_string).collect(),
                foreign: Some(key),
            });
        }
    }
    found
}

pub(super) fn table_constraints(catalog: &Catalog) -> Vec<Vec<Datum>> {
    let row = |of: Constraint<'_>| {
        let mut row = Vec::from(public(&of.name));
        row.extend(public(&of.table.name));
        let distinct = if of.kind == "UNIQUE" { yes(true) } else { Datum::Null };
        row.extend([text(of.kind), yes(false), yes(false), yes(of.enforced), distinct]);
        row
    };
    constraints(catalog).into_iter().map(row).collect()
}

pub(super) fn key_column_usage(catalog: &Catalog) -> Vec<Vec<Datum>> {
    let mut rows = Vec::new();
    for of in constraints(catalog).into_iter().filter(|of| of.kind != "CHECK") {
        for (at, column) in of.columns.iter().enumerate() {
            let mut row = Vec::from(public(&of.name));
            row.extend(public(&of.table.name));
            let position = of.foreign.and_then(|key| position_in_parent(catalog, key, at));
            row.extend([text(column), Datum::Int(at as i64 + 1), position.map_or(Datum::Null, Datum::Int)]);
            rows.push(row);
        }
    }
    rows
}

pub(super) fn constraint_column_usage(catalog: &Catalog) -> Vec<Vec<Datum>> {
    let mut rows = Vec::new();
    for of in constraints(catalog) {
        // Of a foreign key those that it refers to, as in PostgreSQL.
        let parent = of.foreign.and_then(|key| Some((key, catalog.any_table_by_id(key.parent)?)));
        let (table, columns) = match parent {
            None => (of.table, of.columns),
            Some((key, parent)) => {
                (&**parent, parent.names_by_id(&key.parent_columns).into_iter().map(str::to_string).collect())
            }
        };
        for column in &columns {
            let mut row = Vec::from(public(&table.name));
            row.push(text(column));
            row.extend(public(&of.name));
            rows.push(row);
        }
    }
    rows
}

pub(super) fn check_constraints(catalog: &Catalog) -> Vec<Vec<Datum>> {
    let mut rows = Vec::new();
    for table in catalog.tables.values() {
        for (check, clause) in table.named_checks() {
            let mut row = Vec::from(public(&check.name));
            row.push(Datum::Text(format!("({clause})")));
            rows.push(row);
        }
    }
    rows
}

fn comments(catalog: &Catalog) -> Vec<Vec<Datum>> {
    let of = |table: &Table| {
        let row = |(kind, name, comment): (&str, String, String)| {
            vec![text(&table.name), text(kind), Datum::Text(name), Datum::Text(comment)]
        };
        commented(table).into_iter().map(row).collect::<Vec<_>>()
    };
    catalog.tables.values().flat_map(|table| of(table)).collect()
}
