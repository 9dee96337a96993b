//! Running UPDATE and DELETE: the rows are read and locked first, all of them, and then written, so
//! that a statement never meets its own changes.

use std::collections::BTreeSet;

use txn::types::TXN_BYTES_MAX;
use txn::{Key, LockMode, Mutation};

use super::insert::{check_nulls, duplicate_key, put, read_keys};
use super::scan::{Pages, Scanner};
use super::{Counts, Failure, Output, Reader, project};
use crate::SqlError;
use crate::engine::Engine;
use crate::expr::{EvalContext, eval, is_true};
use crate::plan::{DeletePlan, Scan, UpdatePlan};
use crate::row;
use crate::sink::Sink;
use crate::types::Datum;

type Target = (Key, Vec<Datum>);

async fn targets<E: Engine>(
    scan: &Scan,
    context: &EvalContext<'_>,
    reader: &mut Reader<'_, E>,
) -> Result<(Vec<Target>, u64), Failure> {
    let mut scanner = Scanner::new(scan.access.spans(&scan.table, context)?, false, Pages::Full, LockMode::Exclusive);
    let mut targets = Vec::new();
    let mut bytes = 0;
    let mut scanned = 0;
    while let Some(page) = scanner.next(reader).await? {
        scanned += page.len() as u64;
        for stored in page {
            let row = row::decode_row(&scan.table, &stored.key, &stored.value)?;
            if let Some(filter) = &scan.filter
                && !is_true(filter, &row, context)?
            {
                continue;
            }
            bytes += stored.key.len() + stored.value.len();
            if bytes > TXN_BYTES_MAX {
                return Err(SqlError::new("54000", "the statement changes too many rows at once")
                    .detail(format!("A transaction writes at most {TXN_BYTES_MAX} bytes."))
                    .hint("Change them in parts, by ranges of the primary key.")
                    .into());
            }
            targets.push((stored.key, row));
        }
    }
    Ok((targets, scanned))
}

pub(super) async fn update<E: Engine, S: Sink>(
    plan: &UpdatePlan,
    context: &EvalContext<'_>,
    reader: &mut Reader<'_, E>,
    output: &mut Output<'_, S>,
) -> Result<Counts, Failure> {
    let table = &plan.scan.table;
    let (targets, scanned) = targets(&plan.scan, context, reader).await?;
    let moves = plan.assignments.iter().any(|(column, _)| table.key_position(*column).is_some());
    let mut left: BTreeSet<Key> = BTreeSet::new();
    let mut arrivals: Vec<Target> = Vec::new();
    let mut mutations = Vec::with_capacity(targets.len());
    let mut returned = Vec::new();
    let count = targets.len() as u64;
    for (key, old) in targets {
        let mut new = old.clone();
        for (column, expr) in &plan.assignments {
            new[*column] = eval(expr, &old, context)?;
        }
        check_nulls(table, &new)?;
        if let Some(exprs) = &plan.returning {
            returned.push(project(exprs, &new, context)?);
        }
        let new_key: Key = if moves { row::encode_key(table, &new)?.into() } else { key.clone() };
        if new_key == key {
            mutations.push(put(table, key, &new)?);
        } else {
            left.insert(key);
            arrivals.push((new_key, new));
        }
    }
    if !arrivals.is_empty() {
        // The statement as a whole must leave each key once: rows may change places.
        let there = read_keys(arrivals.iter().map(|(key, _)| key.clone()), reader).await?;
        let mut arrived = BTreeSet::new();
        for (key, row) in &arrivals {
            if !arrived.insert(key.clone()) || (there.contains_key(key) && !left.contains(key)) {
                return Err(duplicate_key(table, row).into());
            }
        }
        mutations
            .extend(left.into_iter().filter(|key| !arrived.contains(key)).map(|key| Mutation { key, value: None }));
        for (key, row) in arrivals {
            mutations.push(put(table, key, &row)?);
        }
    }
    reader.write(mutations)?;
    output.push(returned).await?;
    Ok(Counts { rows: count, scanned })
}

pub(super) async fn delete<E: Engine, S: Sink>(
    plan: &DeletePlan,
    context: &EvalContext<'_>,
    reader: &mut Reader<'_, E>,
    output: &mut Output<'_, S>,
) -> Result<Counts, Failure> {
    let (targets, scanned) = targets(&plan.scan, context, reader).await?;
    let count = targets.len() as u64;
    let mut mutations = Vec::with_capacity(targets.len());
    let mut returned = Vec::new();
    for (key, row) in targets {
        if let Some(exprs) = &plan.returning {
            returned.push(project(exprs, &row, context)?);
        }
        mutations.push(Mutation { key, value: None });
    }
    reader.write(mutations)?;
    output.push(returned).await?;
    Ok(Counts { rows: count, scanned })
}
