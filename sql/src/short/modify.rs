//! Running UPDATE and DELETE: the rows are read and locked first, all of them, and then written, so
//! that a statement never meets its own changes.

use std::collections::{BTreeMap, BTreeSet};

use txn::client::ClientError;
use txn::types::TXN_BYTES_MAX;
use txn::{AbortReason, Key, LockMode, Mutation, Value};

use super::check::check_row;
use super::foreign::{self, Changed};
use super::index::{self, Owners};
use super::insert::{duplicate_key, read_keys};
use super::scan::{Pages, RowScanner};
use super::{Counts, Failure, Output, Reader, found, project};
use crate::SqlError;
use crate::catalog::Table;
use crate::engine::Engine;
use crate::entry::Entry;
use crate::expr::{EvalContext, eval};
use crate::plan::generated::compute;
use crate::plan::index::Maintained;
use crate::plan::{DeletePlan, Plan, Scan, UpdatePlan};
use crate::row;
use crate::sink::Sink;
use crate::types::Datum;

/// A row, and its key.
pub(super) type Target = (Key, Vec<Datum>);

/// A row to be changed.
struct Chosen {
    key: Key,
    /// As it is stored: its columns, then those that are hidden.
    row: Vec<Datum>,
    /// What expressions see: the row and what a query found beside it. None if that is the row alone.
    found: Option<Vec<Datum>>,
}

impl Chosen {
    fn seen(&self) -> &[Datum] {
        self.found.as_deref().unwrap_or(&self.row)
    }
}

async fn targets<E: Engine, S: Sink>(
    scan: &Scan,
    source: Option<&Plan>,
    context: &EvalContext<'_>,
    reader: &mut Reader<'_, E>,
) -> Result<(Vec<Chosen>, Counts), Failure> {
    if let Some(source) = source {
        return from_query::<E, S>(scan, source, context, reader).await;
    }
    let mut scanner = RowScanner::new(scan, context, Pages::Full, LockMode::Exclusive)?;
    let mut targets = Vec::new();
    let mut bytes = 0;
    while let Some(page) = scanner.next(reader, context).await? {
        for found in page {
            bytes += found.bytes;
            if bytes > TXN_BYTES_MAX {
                return Err(SqlError::new("54000", "the statement changes too many rows at once")
                    .detail(format!("A transaction writes at most {TXN_BYTES_MAX} bytes."))
                    .hint("Change them in parts, by ranges of the primary key.")
                    .into());
            }
            targets.push(Chosen { key: found.key, row: found.row, found: None });
        }
    }
    Ok((targets, Counts { rows: 0, scanned: scanner.scanned, bytes: scanner.bytes }))
}

/// The rows that a query finds. They are locked by then; what is written back is what is stored, and not what
/// came out of the query, which knows no hidden columns and is not careful with the form of a number.
async fn from_query<E: Engine, S: Sink>(
    scan: &Scan,
    source: &Plan,
    context: &EvalContext<'_>,
    reader: &mut Reader<'_, E>,
) -> Result<(Vec<Chosen>, Counts), Failure> {
    let (rows, counts) = found::<E, S>(source, context, reader).await?;
    let mut first: BTreeMap<Key, Vec<Datum>> = BTreeMap::new();
    for row in rows {
        // A row that was found several times is changed once, as the first time says.
        first.entry(row::encode_key(&scan.table, &row)?.into()).or_insert(row);
    }
    let mut stored = read_keys(first.keys().cloned(), reader).await?;
    let width = scan.table.columns.len();
    let mut targets = Vec::with_capacity(first.len());
    for (key, mut found) in first {
        let value = stored.remove(&key).ok_or_else(|| ClientError::aborted(AbortReason::LocksLost))?;
        let row = row::decode_row(&scan.table, &key, &value)?;
        found[..width].clone_from_slice(&row[..width]);
        targets.push(Chosen { key, row, found: Some(found) });
    }
    Ok((targets, Counts { rows: 0, ..counts }))
}

/// A row that changes, and where to.
pub(super) struct Change {
    pub(super) old_key: Key,
    pub(super) old: Vec<Datum>,
    pub(super) new_key: Key,
    pub(super) new: Vec<Datum>,
}

pub(super) async fn update<E: Engine, S: Sink>(
    plan: &UpdatePlan,
    context: &EvalContext<'_>,
    reader: &mut Reader<'_, E>,
    output: &mut Output<'_, S>,
) -> Result<Counts, Failure> {
    let table = &plan.scan.table;
    let (targets, counts) = targets::<E, S>(&plan.scan, plan.source.as_deref(), context, reader).await?;
    let mut changed = plan.assignments.iter().chain(&plan.computed).map(|(column, _)| *column);
    let moves = changed.any(|column| table.key_position(column).is_some());
    let mut changes = Vec::with_capacity(targets.len());
    let mut returned = Vec::new();
    let count = targets.len() as u64;
    for target in targets {
        let mut new = target.row.clone();
        for (column, expr) in &plan.assignments {
            new[*column] = eval(expr, target.seen(), context)?;
        }
        compute(&plan.computed, &mut new, context)?;
        check_row(table, &plan.checks, Some(&target.row), &new, context)?;
        let Chosen { key: old_key, row: old, found } = target;
        if let Some(exprs) = &plan.returning {
            let shown = match found {
                None => project(exprs, &new, context)?,
                Some(mut found) => {
                    let width = table.columns.len();
                    found[..width].clone_from_slice(&new[..width]);
                    project(exprs, &found, context)?
                }
            };
            returned.push(shown);
        }
        let new_key: Key = if moves { row::encode_key(table, &new)?.into() } else { old_key.clone() };
        changes.push(Change { old_key, old, new_key, new });
    }
    write_changes(table, &plan.indexes, &changes, reader).await?;
    if plan.foreign.is_some() {
        let changed = |change: Change| Changed { key: change.new_key, old: Some(change.old), new: Some(change.new) };
        let changes = changes.into_iter().map(changed).collect();
        foreign::settle(plan.foreign.as_deref(), changes, context, reader).await?;
    }
    output.push(returned).await?;
    Ok(Counts { rows: count, ..counts })
}

/// Writes rows that change, with their entries: 23505 if they could not all be there.
pub(super) async fn write_changes<E: Engine>(
    table: &Table,
    indexes: &[Maintained],
    changes: &[Change],
    reader: &mut Reader<'_, E>,
) -> Result<(), Failure> {
    // The statement as a whole must leave each key once: rows may change places.
    let moved = || changes.iter().filter(|change| change.old_key != change.new_key);
    let left: BTreeSet<&Key> = moved().map(|change| &change.old_key).collect();
    if !left.is_empty() {
        let there = read_keys(moved().map(|change| change.new_key.clone()), reader).await?;
        let mut arrived = BTreeSet::new();
        for change in moved() {
            let key = &change.new_key;
            if !arrived.insert(key) || (there.contains_key(key) && !left.contains(key)) {
                return Err(duplicate_key(table, &change.new).into());
            }
        }
    }
    let mut writes: BTreeMap<Key, Option<Value>> = left.into_iter().map(|key| (key.clone(), None)).collect();
    for change in changes {
        writes.insert(change.new_key.clone(), Some(row::encode_value(table, &change.new)?.into()));
    }
    for known in indexes {
        let mut steps = Vec::with_capacity(changes.len());
        for change in changes {
            let (old, new) = (known.entry(&change.old)?, known.entry(&change.new)?);
            if old != new {
                steps.push((change, old, new));
            }
        }
        let mut wanted: Vec<Key> = Vec::new();
        for (_, old, new) in &steps {
            let enters = new.as_ref().filter(|new| known.keeps_unique() && new.is_unique);
            let leaves = old.as_ref().filter(|old| known.may_be_of_another() && old.is_unique);
            wanted.extend(enters.into_iter().chain(leaves).map(|entry| entry.key.clone()));
        }
        let owners = Owners::read(known, table, wanted, reader).await?;
        let owned = |change: &Change, old: &Entry| {
            !known.may_be_of_another() || !old.is_unique || owners.is(old, &change.old_key)
        };
        let mut free: BTreeSet<Key> = BTreeSet::new();
        for (change, old, _) in &steps {
            if let Some(old) = old
                && owned(change, old)
            {
                free.insert(old.key.clone());
                writes.insert(old.key.clone(), None);
            }
        }
        let mut taken: BTreeSet<Key> = BTreeSet::new();
        for (change, _, new) in steps {
            let Some(new) = new.filter(|_| known.index.state.writes()) else { continue };
            if known.keeps_unique() && new.is_unique {
                let there = owners.get(&new.key).is_some() && !free.contains(&new.key);
                if there || !taken.insert(new.key.clone()) {
                    return Err(index::duplicate(table, &known.index, &change.new).into());
                }
            }
            writes.insert(new.key, Some(new.value));
        }
    }
    reader.write(writes.into_iter().map(|(key, value)| Mutation { key, value }).collect())
}

pub(super) async fn delete<E: Engine, S: Sink>(
    plan: &DeletePlan,
    context: &EvalContext<'_>,
    reader: &mut Reader<'_, E>,
    output: &mut Output<'_, S>,
) -> Result<Counts, Failure> {
    let table = &plan.scan.table;
    let (targets, counts) = targets::<E, S>(&plan.scan, plan.source.as_deref(), context, reader).await?;
    let count = targets.len() as u64;
    let mut returned = Vec::new();
    if let Some(exprs) = &plan.returning {
        for target in &targets {
            returned.push(project(exprs, target.seen(), context)?);
        }
    }
    let targets: Vec<Target> = targets.into_iter().map(|target| (target.key, target.row)).collect();
    write_deletes(table, &plan.indexes, &targets, reader).await?;
    if plan.foreign.is_some() {
        let changes = targets.into_iter().map(|(key, row)| Changed { key, old: Some(row), new: None }).collect();
        foreign::settle(plan.foreign.as_deref(), changes, context, reader).await?;
    }
    output.push(returned).await?;
    Ok(Counts { rows: count, ..counts })
}

/// Deletes rows with their entries.
pub(super) async fn write_deletes<E: Engine>(
    table: &Table,
    indexes: &[Maintained],
    targets: &[Target],
    reader: &mut Reader<'_, E>,
) -> Result<(), Failure> {
    let mut mutations = Vec::with_capacity(targets.len());
    for known in indexes {
        let mut entries = Vec::with_capacity(targets.len());
        for (key, row) in targets {
            entries.extend(known.entry(row)?.map(|entry| (key, entry)));
        }
        let doubtful = entries.iter().filter(|(_, entry)| known.may_be_of_another() && entry.is_unique);
        let doubtful = doubtful.map(|(_, entry)| entry.key.clone()).collect();
        let owners = Owners::read(known, table, doubtful, reader).await?;
        let owned = entries
            .into_iter()
            .filter(|(key, entry)| !known.may_be_of_another() || !entry.is_unique || owners.is(entry, key));
        mutations.extend(owned.map(|(_, entry)| Mutation { key: entry.key, value: None }));
    }
    mutations.extend(targets.iter().map(|(key, _)| Mutation { key: key.clone(), value: None }));
    reader.write(mutations)
}
