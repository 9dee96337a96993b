//! Running INSERT and UPSERT.

use std::collections::{BTreeMap, BTreeSet};

use txn::{Key, LockMode, Mutation, Span};

use super::scan::{Pages, Scanner};
use super::{Counts, Failure, Output, Reader, project};
use crate::SqlError;
use crate::catalog::Table;
use crate::engine::Engine;
use crate::expr::{EvalContext, eval, is_true};
use crate::plan::{Conflict, InsertPlan};
use crate::row;
use crate::sink::Sink;
use crate::types::Datum;
use crate::value;

/// 23502 if a column that must not be NULL is.
pub(super) fn check_nulls(table: &Table, row: &[Datum]) -> Result<(), SqlError> {
    match table.columns.iter().zip(row).find(|(column, datum)| column.not_null && datum.is_null()) {
        None => Ok(()),
        Some((column, _)) => Err(SqlError::new(
            "23502",
            format!(
                "null value in column \"{}\" of relation \"{}\" violates not-null constraint",
                column.name, table.name
            ),
        )
        .detail(format!("Failing row contains ({}).", shown(row.iter())))),
    }
}

fn shown<'a>(row: impl Iterator<Item = &'a Datum>) -> String {
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
    let mut keys: Vec<Key> = keys.collect();
    keys.sort_unstable();
    keys.dedup();
    let mut scanner =
        Scanner::new(keys.into_iter().map(Span::point).collect(), false, Pages::Full, LockMode::Exclusive);
    let mut found = BTreeMap::new();
    while let Some(rows) = scanner.next(reader).await? {
        found.extend(rows.into_iter().map(|row| (row.key, row.value)));
    }
    Ok(found)
}

pub(super) fn put(table: &Table, key: Key, row: &[Datum]) -> Result<Mutation, SqlError> {
    Ok(Mutation { key, value: Some(row::encode_value(table, row)?.into()) })
}

pub(super) async fn run<E: Engine, S: Sink>(
    plan: &InsertPlan,
    context: &EvalContext<'_>,
    reader: &mut Reader<'_, E>,
    output: &mut Output<'_, S>,
) -> Result<Counts, Failure> {
    let table = &plan.table;
    let mut rows: Vec<(Key, Vec<Datum>)> = Vec::with_capacity(plan.rows.len());
    for exprs in &plan.rows {
        let row = project(exprs, &[], context)?;
        check_nulls(table, &row)?;
        rows.push((row::encode_key(table, &row)?.into(), row));
    }
    let blind = matches!(&plan.conflict, Conflict::Replace(columns) if columns.len() == table.columns.len());
    let existing =
        if blind { BTreeMap::new() } else { read_keys(rows.iter().map(|(key, _)| key.clone()), reader).await? };

    let mut touched: BTreeSet<Key> = BTreeSet::new();
    let mut mutations = Vec::with_capacity(rows.len());
    let mut returned = Vec::new();
    let mut count = 0;
    for (key, row) in rows {
        let twice = touched.contains(&key);
        let old = existing.get(&key);
        let new = match &plan.conflict {
            Conflict::Error if twice || old.is_some() => return Err(duplicate_key(table, &row).into()),
            Conflict::Nothing if twice || old.is_some() => continue,
            Conflict::Update { .. } | Conflict::Replace(_) if twice => {
                let command = if plan.upsert { "UPSERT" } else { "ON CONFLICT DO UPDATE" };
                return Err(SqlError::new("21000", format!("{command} command cannot affect row a second time"))
                    .hint(
                        "Ensure that no rows proposed for insertion within the same command have duplicate key values.",
                    )
                    .into());
            }
            Conflict::Update { assignments, filter } if let Some(value) = old => {
                let old = row::decode_row(table, &key, value)?;
                let mut both = old.clone();
                both.extend(row);
                touched.insert(key.clone());
                if let Some(filter) = filter
                    && !is_true(filter, &both, context)?
                {
                    continue;
                }
                let mut new = old;
                for (column, expr) in assignments {
                    new[*column] = eval(expr, &both, context)?;
                }
                check_nulls(table, &new)?;
                new
            }
            Conflict::Replace(columns) if let Some(value) = old => {
                let mut new = row::decode_row(table, &key, value)?;
                for column in columns {
                    new[*column] = row[*column].clone();
                }
                new
            }
            _ => row,
        };
        mutations.push(put(table, key.clone(), &new)?);
        touched.insert(key);
        count += 1;
        if let Some(exprs) = &plan.returning {
            returned.push(project(exprs, &new, context)?);
        }
    }
    reader.write(mutations)?;
    output.push(returned).await?;
    Ok(Counts { rows: count, scanned: existing.len() as u64 })
}
