//! `information_schema` on what foreign keys refer to, and on sequences.

use super::schema::{DATABASE, public, text, yes};
use crate::catalog::{Catalog, ForeignKey, Table, Way};
use crate::types::{DataType, Datum};

/// The names of the unique constraint that a foreign key refers to, and of its columns in order.
fn referenced<'a>(catalog: &'a Catalog, key: &ForeignKey) -> Option<(&'a Table, String, Vec<usize>)> {
    let parent = catalog.any_table_by_id(key.parent)?;
    let columns = parent.columns_by_id(&key.parent_columns).ok()?;
    Some(match parent.parent_way(&columns, None)? {
        Way::Primary => (parent, parent.key_name(), parent.key.iter().map(|part| part.column).collect()),
        Way::Index(at) => {
            let index = &parent.indexes[at];
            (parent, index.name.clone(), index.columns.iter().map(|part| part.column).collect())
        }
    })
}

/// Where the column that one of a foreign key's columns refers to stands in its unique constraint, from 1.
pub(super) fn position_in_parent(catalog: &Catalog, key: &ForeignKey, at: usize) -> Option<i64> {
    let (parent, _, columns) = referenced(catalog, key)?;
    let wanted = parent.column_by_id(*key.parent_columns.get(at)?)?;
    columns.iter().position(|column| *column == wanted).map(|at| at as i64 + 1)
}

pub(super) fn referential_constraints(catalog: &Catalog) -> Vec<Vec<Datum>> {
    let mut rows = Vec::new();
    for key in catalog.tables.values().flat_map(|table| &table.foreign.keys) {
        let mut row = Vec::from(public(&key.name));
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
