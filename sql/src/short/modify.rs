//! Running UPDATE and DELETE: the rows are read and locked first, all of them, and then written, so
//! that a statement never meets its own changes.

use std::collections::{BTreeMap, BTreeSet};

use txn::client::ClientError;
use txn::types::TXN_BYTES_MAX;
use txn::{AbortReason, Key, LockMode, Mutation, Value};

use super::check::check_row;
use super::index::{self, Owners};
use super::insert::{duplicate_key, read_keys};
use super::scan::{Pages, RowScanner};
use super::{Counts, Failure, Output, Reader, found, project};
use crate::SqlError;
use crate::engine::Engine;
use crate::entry::Entry;
use crate::expr::{EvalContext, eval};
use crate::plan::{DeletePlan, Plan, Scan, UpdatePlan};
use crate::row;
use crate::sink::Sink;
use crate::types::Datum;

/// A row to be changed.
struct Target {
    key: Key,
    /// As it is stored: its columns, then those that are hidden.
    row: Vec<Datum>,
    /// What expressions see: the row and what a query found beside it. None if that is the row alone.
    found: Option<Vec<Datum>>,
}

impl Target {
    fn seen(&self) -> &[Datum] {
        self.found.as_deref().unwrap_or(&self.row)
    }
}

async fn targets<E: Engine, S: Sink>(
    scan: &Scan,
    source: Option<&Plan>,
    context: &EvalContext<'_>,
    reader: &mut Reader<'_, E>,
) -> Result<(Vec<Target>, Counts), Failure> {
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
            targets.push(Target { key: found.key, row: found.row, found: None });
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
) -> Result<(Vec<Target>, Counts), Failure> {
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
        targets.push(Target { key, row, found: Some(found) });
    }
    Ok((targets, Counts { rows: 0, ..counts }))
}

/// A row that changes, and where to.
struct Change {
    old_key: Key,
    old: Vec<Datum>,
    new_key: Key,
    new: Vec<Datum>,
}

pub(super) async fn update<E: Engine, S: Sink>(
    plan: &UpdatePlan,
    context: &EvalContext<'_>,
    reader: &mut Reader<'_, E>,
    output: &mut Output<'_, S>,
) -> Result<Counts, Failure> {
    let table = &plan.scan.table;
    let (targets, counts) = targets::<E, S>(&plan.scan, plan.source.as_deref(), context, reader).await?;
    let moves = plan.assignments.iter().any(|(column, _)| table.key_position(*column).is_some());
    let mut changes = Vec::with_capacity(targets.len());
    let mut returned = Vec::new();
    let count = targets.len() as u64;
    for target in targets {
        let mut new = target.row.clone();
        for (column, expr) in &plan.assignments {
            new[*column] = eval(expr, target.seen(), context)?;
        }
        check_row(table, &plan.checks, Some(&target.row), &new, context)?;
        let Target { key: old_key, row: old, found } = target;
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
    for change in &changes {
        writes.insert(change.new_key.clone(), Some(row::encode_value(table, &change.new)?.into()));
    }
    for known in &plan.indexes {
        let mut steps = Vec::with_capacity(changes.len());
        for change in &changes {
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
    reader.write(writes.into_iter().map(|(key, value)| Mutation { key, value }).collect())?;
    output.push(returned).await?;
    Ok(Counts { rows: count, ..counts })
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
    let mut mutations = Vec::with_capacity(targets.len());
    for known in &plan.indexes {
        let mut entries = Vec::with_capacity(targets.len());
        for Target { key, row, .. } in &targets {
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
    let mut returned = Vec::new();
    for target in targets {
        if let Some(exprs) = &plan.returning {
            returned.push(project(exprs, target.seen(), context)?);
        }
        mutations.push(Mutation { key: target.key, value: None });
    }
    reader.write(mutations)?;
    output.push(returned).await?;
    Ok(Counts { rows: count, ..counts })
}
