//! Running INSERT and UPSERT.

use std::collections::{BTreeMap, BTreeSet};

use txn::client::ClientError;
use txn::{AbortReason, Key, LockMode, Mutation, Span};

use super::check::{check_nulls, check_row};
use super::foreign::{self, Changed};
use super::index::Writer;
use super::scan::{Pages, Scanner};
use super::{Counts, Failure, Output, Reader, found, project};
use crate::SqlError;
use crate::catalog::Table;
use crate::engine::Engine;
use crate::expr::{EvalContext, eval, is_true};
use crate::plan::generated::compute;
use crate::plan::{Arbiter, Conflict, InsertPlan};
use crate::row;
use crate::sink::Sink;
use crate::types::Datum;
use crate::value;

pub(super) fn shown<'a>(row: impl Iterator<Item = &'a Datum>) -> String {
    let text = |datum: &Datum| match value::to_text(datum) {
        None => "null".to_string(),
        Some(text) if text.chars().count() > 64 => text.chars().take(64).chain("...".chars()).collect(),
        Some(text) => text,
    };
    row.map(text).collect::<Vec<_>>().join(", ")
}

/// 23505.
pub(super) fn duplicate_key(table: &Table, row: &[Datum]) -> SqlError {
    let values = shown(table.key.iter().map(|part| &row[part.column]));
    SqlError::new("23505", format!("duplicate key value violates unique constraint \"{}_pkey\"", table.name))
        .detail(format!("Key ({})=({values}) already exists.", table.key_names()))
}

/// The rows that are there for these keys, locked for writing.
pub(super) async fn read_keys<E: Engine>(
    keys: impl Iterator<Item = Key>,
    reader: &mut Reader<'_, E>,
) -> Result<BTreeMap<Key, txn::Value>, Failure> {
    read_points(keys, LockMode::Exclusive, reader).await
}

/// The same, with a lock of this mode.
pub(super) async fn read_points<E: Engine>(
    keys: impl Iterator<Item = Key>,
    mode: LockMode,
    reader: &mut Reader<'_, E>,
) -> Result<BTreeMap<Key, txn::Value>, Failure> {
    let mut keys: Vec<Key> = keys.collect();
    keys.sort_unstable();
    keys.dedup();
    let mut scanner = Scanner::new(keys.into_iter().map(Span::point).collect(), false, Pages::Full, mode);
    let mut found = BTreeMap::new();
    while let Some(rows) = scanner.next(reader).await? {
        found.extend(rows.into_iter().map(|row| (row.key, row.value)));
    }
    Ok(found)
}

/// 21000.
fn second_time(plan: &InsertPlan) -> SqlError {
    let command = if plan.upsert { "UPSERT" } else { "ON CONFLICT DO UPDATE" };
    SqlError::new("21000", format!("{command} command cannot affect row a second time"))
        .hint("Ensure that no rows proposed for insertion within the same command have duplicate constrained values.")
}

pub(super) async fn run<E: Engine, S: Sink>(
    plan: &InsertPlan,
    context: &EvalContext<'_>,
    reader: &mut Reader<'_, E>,
    output: &mut Output<'_, S>,
) -> Result<Counts, Failure> {
    let table = &plan.table;
    let (inputs, Counts { mut scanned, mut bytes, .. }) = match &plan.source {
        None => (vec![Vec::new(); plan.rows.len()], Counts::default()),
        Some(source) => found::<E, S>(source, context, reader).await?,
    };
    // What replaces only some columns may be right, though by itself it would not be.
    let partial = matches!(&plan.conflict, Conflict::Replace(columns) if columns.len() < table.columns.len());
    let mut rows: Vec<(Key, Vec<Datum>)> = Vec::with_capacity(inputs.len());
    for (index, input) in inputs.iter().enumerate() {
        let exprs = &plan.rows[if plan.source.is_some() { 0 } else { index }];
        let mut row = project(exprs, input, context)?;
        compute(&plan.computed, &mut row, context)?;
        if partial {
            check_nulls(table, &row)?;
        } else {
            check_row(table, &plan.checks, None, &row, context)?;
        }
        rows.push((row::encode_key(table, &row)?.into(), row));
    }
    // Old entries of indexes can only be deleted by whoever has seen the old row.
    let blind = plan.indexes.is_empty()
        && table.hidden.is_empty()
        && matches!(&plan.conflict, Conflict::Replace(columns) if columns.len() == table.columns.len());
    let mut known: BTreeMap<Key, Vec<Datum>> = BTreeMap::new();
    let mut count_read = |there: &BTreeMap<Key, txn::Value>| {
        scanned += there.len() as u64;
        bytes += there.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum::<u64>();
    };
    if !blind {
        let there = read_keys(rows.iter().map(|(key, _)| key.clone()), reader).await?;
        count_read(&there);
        for (key, value) in there {
            let row = row::decode_row(table, &key, &value)?;
            known.insert(key, row);
        }
    }
    let mut writer = Writer::new(table, &plan.indexes, rows.iter().map(|(_, row)| row), reader).await?;
    if let (Conflict::Update { .. }, Arbiter::Index(index)) = (&plan.conflict, plan.arbiter) {
        let mut owners = Vec::new();
        for (_, row) in &rows {
            owners.extend(writer.conflict(index, row)?.filter(|owner| !known.contains_key(owner)));
        }
        let there = read_keys(owners.into_iter(), reader).await?;
        count_read(&there);
        for (key, value) in there {
            let row = row::decode_row(table, &key, &value)?;
            known.insert(key, row);
        }
    }

    let mut touched: BTreeSet<Key> = BTreeSet::new();
    let mut written: BTreeMap<Key, Vec<Datum>> = BTreeMap::new();
    let (mut returned, mut changes) = (Vec::new(), Vec::new());
    let mut count = 0;
    for (key, row) in rows {
        let primary = known.contains_key(&key) || (blind && touched.contains(&key));
        // The row that the arbiter says is in the way.
        let (hit, except) = match plan.arbiter {
            Arbiter::Index(index) => (writer.conflict(index, &row)?, Some(index)),
            Arbiter::Any | Arbiter::Primary => (primary.then(|| key.clone()), None),
        };
        if hit.is_some() && matches!(plan.conflict, Conflict::Nothing) {
            continue;
        }
        let on_primary = plan.arbiter == Arbiter::Primary || plan.arbiter == Arbiter::Any;
        let handled = hit.is_some() && matches!(plan.conflict, Conflict::Update { .. } | Conflict::Replace(_));
        if !handled {
            if primary {
                return Err(duplicate_key(table, &row).into());
            }
            if let Some(index) = writer.any_conflict(&row, except)? {
                if matches!(plan.conflict, Conflict::Nothing) && plan.arbiter == Arbiter::Any {
                    continue;
                }
                return Err(writer.duplicate(index, &row).into());
            }
        }
        let (key, old, new) = match (&plan.conflict, hit) {
            (Conflict::Update { .. } | Conflict::Replace(_), Some(owner)) if touched.contains(&owner) => {
                return Err(second_time(plan).into());
            }
            (Conflict::Update { assignments, filter }, Some(owner)) => {
                let old = known.get(&owner).cloned();
                // A statement that locks sees both at one time, as long as it has its locks.
                let old = old.ok_or_else(|| ClientError::aborted(AbortReason::LocksLost))?;
                let mut both = old[..table.columns.len()].to_vec();
                both.extend(row);
                touched.insert(owner.clone());
                if let Some(filter) = filter
                    && !is_true(filter, &both, context)?
                {
                    continue;
                }
                let mut new = old.clone();
                for (column, expr) in assignments {
                    new[*column] = eval(expr, &both, context)?;
                }
                compute(&plan.computed, &mut new, context)?;
                check_row(table, &plan.checks, Some(&old), &new, context)?;
                (owner, Some(old), new)
            }
            (Conflict::Replace(columns), Some(_)) if !blind && on_primary => {
                let old = known[&key].clone();
                let mut new = old.clone();
                for column in columns {
                    new[*column] = row[*column].clone();
                }
                compute(&plan.computed, &mut new, context)?;
                check_row(table, &plan.checks, Some(&old), &new, context)?;
                (key, Some(old), new)
            }
            _ => {
                if partial {
                    check_row(table, &plan.checks, None, &row, context)?;
                }
                (key, None, row)
            }
        };
        writer.change(&key, old.as_deref(), &new, reader).await?;
        if plan.foreign.is_some() {
            changes.push(Changed { key: key.clone(), old, new: Some(new.clone()) });
        }
        touched.insert(key.clone());
        count += 1;
        if let Some(exprs) = &plan.returning {
            returned.push(project(exprs, &new, context)?);
        }
        if !blind {
            known.insert(key.clone(), new.clone());
        }
        written.insert(key, new);
    }
    let mut mutations = writer.mutations;
    for (key, row) in written {
        mutations.push(Mutation { key, value: Some(row::encode_value(table, &row)?.into()) });
    }
    reader.write(mutations)?;
    foreign::settle(plan.foreign.as_deref(), changes, context, reader).await?;
    output.push(returned).await?;
    Ok(Counts { rows: count, scanned, bytes })
}
