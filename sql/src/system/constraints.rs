//! `information_schema` on constraints and sequences.
//!
//! The constraints of a table are its primary key, unless it was declared without one, its UNIQUE constraints, and its
//! foreign keys. A CHECK that says that a column is NOT NULL, which PostgreSQL lists, is not listed.

use super::schema::{DATABASE, public, text, yes};
use crate::catalog::{Catalog, ForeignKey, Table};
use crate::types::{DataType, Datum};

/// A constraint: its name, its kind, and its columns' indexes.
struct Constraint<'a> {
    table: &'a Table,
    name: String,
    kind: &'static str,
    columns: Vec<usize>,
    foreign: Option<&'a ForeignKey>,
}

fn constraints(catalog: &Catalog) -> Vec<Constraint<'_>> {
    let mut all = Vec::new();
    for table in catalog.tables.values() {
        let table: &Table = table;
        if !table.has_hidden_key() {
            let columns = table.key.iter().map(|part| part.column).collect();
            let name = format!("{}_pkey", table.name);
            all.push(Constraint { table, name, kind: "PRIMARY KEY", columns, foreign: None });
        }
        for index in table.indexes.iter().filter(|index| index.constraint) {
            let columns = index.columns.iter().map(|part| part.column).collect();
            all.push(Constraint { table, name: index.name.clone(), kind: "UNIQUE", columns, foreign: None });
        }
        for key in &table.foreign.keys {
            let columns = key.columns.iter().filter_map(|id| table.column_by_id(*id)).collect();
            let (name, kind) = (key.name.clone(), "FOREIGN KEY");
            all.push(Constraint { table, name, kind, columns, foreign: Some(key) });
        }
    }
    all
}

pub(super) fn table_constraints(catalog: &Catalog) -> Vec<Vec<Datum>> {
    let row = |constraint: Constraint<'_>| {
        let mut row = Vec::from(public(&constraint.name));
        row.extend(public(&constraint.table.name));
        let distinct = if constraint.kind == "UNIQUE" { yes(true) } else { Datum::Null };
        row.extend([text(constraint.kind), yes(false), yes(false), yes(true), distinct]);
        row
    };
    constraints(catalog).into_iter().map(row).collect()
}

/// The names of the unique constraint that a foreign key refers to, and of its columns in order.
fn referenced<'a>(catalog: &'a Catalog, key: &ForeignKey) -> Option<(&'a Table, String, Vec<usize>)> {
    let parent = catalog.any_table_by_id(key.parent)?;
    let columns = parent.columns_by_id(&key.parent_columns).ok()?;
    Some(match parent.parent_way(&columns, None)? {
        crate::catalog::Way::Primary => {
            (parent, format!("{}_pkey", parent.name), parent.key.iter().map(|part| part.column).collect())
        }
        crate::catalog::Way::Index(at) => {
            let index = &parent.indexes[at];
            (parent, index.name.clone(), index.columns.iter().map(|part| part.column).collect())
        }
    })
}

pub(super) fn key_column_usage(catalog: &Catalog) -> Vec<Vec<Datum>> {
    let mut rows = Vec::new();
    for constraint in constraints(catalog) {
        let theirs = constraint.foreign.and_then(|key| Some((key, referenced(catalog, key)?)));
        for (at, column) in constraint.columns.iter().enumerate() {
            let position = theirs.as_ref().and_then(|(key, (parent, _, columns))| {
                let wanted = parent.column_by_id(*key.parent_columns.get(at)?)?;
                columns.iter().position(|column| *column == wanted)
            });
            let mut row = Vec::from(public(&constraint.name));
            row.extend(public(&constraint.table.name));
            row.extend([text(&constraint.table.columns[*column].name), Datum::Int(at as i64 + 1)]);
            row.push(position.map_or(Datum::Null, |position| Datum::Int(position as i64 + 1)));
            rows.push(row);
        }
    }
    rows
}

/// Of a foreign key the columns that it refers to, as in PostgreSQL.
pub(super) fn constraint_column_usage(catalog: &Catalog) -> Vec<Vec<Datum>> {
    let mut rows = Vec::new();
    for constraint in constraints(catalog) {
        let (table, columns) = match constraint.foreign {
            None => (constraint.table, constraint.columns.clone()),
            Some(key) => {
                let Some(parent) = catalog.any_table_by_id(key.parent) else { continue };
                (&**parent, key.parent_columns.iter().filter_map(|id| parent.column_by_id(*id)).collect())
            }
        };
        for column in columns {
            let mut row = Vec::from(public(&table.name));
            row.push(text(&table.columns[column].name));
            row.extend(public(&constraint.name));
            rows.push(row);
        }
    }
    rows
}

pub(super) fn referential_constraints(catalog: &Catalog) -> Vec<Vec<Datum>> {
    let mut rows = Vec::new();
    for constraint in constraints(catalog) {
        let Some(key) = constraint.foreign else { continue };
        let mut row = Vec::from(public(&constraint.name));
        match referenced(catalog, key) {
            Some((_, name, _)) => row.extend(public(&name)),
            None => row.extend([Datum::Null, Datum::Null, Datum::Null]),
        }
        row.extend([text("NONE"), text(key.on_update.name()), text(key.on_delete.name())]);
        rows.push(row);
    }
    rows
}

/// Those of IDENTITY columns are not listed, as in PostgreSQL.
pub(super) fn sequences(catalog: &Catalog) -> Vec<Vec<Datum>> {
    let inside = |owner: crate::catalog::sequence::Owner| {
        let table = catalog.any_table_by_id(owner.table)?;
        Some(table.columns[table.column_by_id(owner.column)?].is_identity())
    };
    let shown = catalog.sequences.values().filter(|sequence| sequence.owner.and_then(inside) != Some(true));
    let row = |sequence: &crate::catalog::Sequence| {
        let bits = match sequence.ty {
            DataType::Int2 => 16,
            DataType::Int4 => 32,
            _ => 64,
        };
        let mut row = vec![text(DATABASE), text("public"), text(&sequence.name), text(sequence.ty.name())];
        row.extend([bits, 2, 0].map(Datum::Int));
        let numbers = [sequence.start, sequence.min, sequence.max, sequence.increment];
        row.extend(numbers.map(|number| text(&number.to_string())));
        row.push(yes(sequence.cycle));
        row
    };
    shown.map(|sequence| row(sequence)).collect()
}
