//! The other side of the foreign keys that ALTER TABLE adds, validates or drops: the tables that they refer to.
//!
//! Their descriptors change in the same transactions as the table's own. Why, and what would go wrong if one of them
//! looked afterwards as it had looked before: see `catalog/foreign.rs`.

use std::collections::BTreeMap;

use sqlparser::ast::{self, AlterTableOperation as Op};

use super::lock;
use super::steps::Steps;
use crate::SqlError;
use crate::catalog::{self, Catalog, ForeignKey, Table, undefined_table};
use crate::engine::Transaction;
use crate::parse::{ident, object_name};
use crate::short::Failure;

/// As they are stored, by name; the table itself is not among them.
pub(super) type Parents = BTreeMap<String, Table>;

/// The names of those that a statement may concern. What refers to a table that is not there is for the caller to say.
fn named(catalog: &Catalog, table: &Table, operations: &[Op]) -> Result<Vec<String>, SqlError> {
    let mut names = Vec::new();
    for op in operations {
        match op {
            Op::AddConstraint { constraint: ast::TableConstraint::ForeignKey(of), .. } => {
                names.push(object_name(&of.foreign_table)?);
            }
            Op::DropConstraint { name, .. } | Op::ValidateConstraint { name } => {
                let name = ident(name);
                for key in table.foreign.keys.iter().filter(|key| key.name == name && key.parent != table.id) {
                    names.push(catalog.any_table_by_id(key.parent).ok_or_else(changed)?.name.clone());
                }
            }
            _ => {}
        }
    }
    names.retain(|name| *name != table.name);
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

/// 40001.
pub(super) fn changed() -> SqlError {
    SqlError::new("40001", "could not serialize access: the schema has changed").hint("Try again.")
}

/// Those that a statement may concern, as a catalog has them.
pub(super) fn known(catalog: &Catalog, table: &Table, operations: &[Op]) -> Result<Parents, SqlError> {
    let names = named(catalog, table, operations)?;
    Ok(names.into_iter().filter_map(|name| Some((name.clone(), (**catalog.table(&name)?).clone()))).collect())
}

/// The same as they are stored, and locked.
pub(super) async fn locked<T: Transaction>(
    txn: &mut T,
    catalog: &Catalog,
    table: &Table,
    operations: &[Op],
) -> Result<Parents, Failure> {
    let names = named(catalog, table, operations)?;
    if names.is_empty() {
        return Ok(Parents::new());
    }
    let rows = lock(txn, names.iter().map(|name| catalog::table_key(name)).collect()).await?;
    let mut parents = Parents::new();
    for (name, row) in names.into_iter().zip(rows) {
        if let Some(bytes) = row {
            parents.insert(name, Table::from_bytes(&bytes)?);
        }
    }
    Ok(parents)
}

/// The keys of one descriptor that another has not.
pub(super) fn more<'a>(of: &'a Table, than: &'a Table) -> impl Iterator<Item = &'a ForeignKey> {
    of.foreign.keys.iter().filter(|key| !than.foreign.keys.iter().any(|known| known.is_same(key)))
}

/// What the tables on the other side are in the first step, in the last one, and at the end of the way back. Of all
/// steps between them nothing is to be said: they are as in the first.
#[derive(Default)]
pub(super) struct Sides {
    pub(super) first: Vec<Table>,
    pub(super) last: Vec<Table>,
    pub(super) undone: Vec<Table>,
}

/// Derives them for the steps of a table, which a job of this number does if there are several. 55006.
pub(super) fn sides(before: &Table, steps: &Steps, parents: &Parents, job: u64) -> Result<Sides, SqlError> {
    let (first, after) = (&steps.forth[0], &steps.forth[steps.forth.len() - 1]);
    let looked_at = first.foreign.keys.iter().filter(|key| steps.keys.contains(&key.name));
    let ids = more(after, before).chain(more(before, after)).chain(looked_at).map(|key| key.parent);
    let mut ids: Vec<u32> = ids.filter(|id| *id != before.id).collect();
    ids.sort_unstable();
    ids.dedup();
    let mut sides = Sides::default();
    for id in ids {
        let stored = parents.values().find(|parent| parent.id == id).ok_or_else(changed)?;
        let refers = |table: &Table| table.foreign.keys.iter().any(|key| key.parent == id);
        let as_in = |parent: &Table, there: bool| {
            let mut parent = parent.clone();
            parent.foreign.referenced_by.retain(|child| *child != before.id);
            // In its place, so that what does not change compares as equal.
            if there {
                let place = stored.foreign.referenced_by.iter().position(|child| *child == before.id);
                let place = place.unwrap_or(parent.foreign.referenced_by.len());
                parent.foreign.referenced_by.insert(place, before.id);
            }
            parent
        };
        let mut parent = stored.clone();
        if more(after, before).any(|key| key.parent == id) {
            // It is never again what it was without this key.
            parent.next_number();
        }
        if steps.forth.len() == 1 {
            let last = as_in(&parent, refers(after));
            if last != *stored {
                if stored.is_in_steps() {
                    return Err(stored.in_steps());
                }
                sides.first.push(last);
            }
            continue;
        }
        // The job has it as it is now: nothing else may change it, its indexes too.
        stored.refuse_in_steps()?;
        let held = as_in(&parent, refers(before) || refers(after));
        sides.first.push(Table { changing: job, ..held });
        sides.last.push(as_in(&parent, refers(after)));
        sides.undone.push(as_in(&parent, refers(before)));
    }
    Ok(sides)
}

/// 42P01, unless the table that a key refers to is one of them, or its own.
pub(super) fn find<'a>(table: &'a Table, name: &str, parents: &'a Parents) -> Result<&'a Table, SqlError> {
    let parent = if name == table.name { Some(table) } else { parents.get(name) };
    let parent = parent.filter(|parent| !parent.foreign.making || parent.id == table.id);
    parent.ok_or_else(|| undefined_table(name))
}
