//! The backfill of an index: entries for the rows that were there before statements wrote them.
//!
//! Some rows at a time, in the order of the primary key, in one transaction that also writes down how far it has come:
//! the rows are read under shared locks, so that no statement changes them before their entries are there, and
//! statements that change other rows go on. By then every statement that writes a row also writes its entry, so
//! each row is either seen here or has its entry already. To write an entry that is there does no harm.
//!
//! In a unique index a row may meet the entry of another: then the table's rows are not unique. The entry is locked and
//! read first.

use std::collections::BTreeMap;

use txn::{Key, LockMode, Mutation, ReadOp, Span};

use super::Job;
use crate::SqlError;
use crate::catalog::{Index, Table};
use crate::engine::{Engine, ReadBound};
use crate::plan::index::Maintained;
use crate::row;
use crate::session::Database;
use crate::short::index::Owners;
use crate::short::{Failure, Reader};
use crate::types::Datum;
use crate::value;

/// 23505, as PostgreSQL says it.
pub(crate) fn not_unique(table: &Table, index: &Index, row: &[Datum]) -> SqlError {
    let values: Vec<String> =
        index.columns.iter().map(|part| value::to_text(&row[part.column]).unwrap_or_else(|| "null".into())).collect();
    SqlError::new("23505", format!("could not create unique index \"{}\"", index.name)).detail(format!(
        "Key ({})=({}) is duplicated.",
        index.column_names(table),
        values.join(", ")
    ))
}

/// The next rows, and how far the job has come with them.
pub(super) async fn chunk<E: Engine>(
    db: &Database<E>,
    txn: &mut E::Txn,
    job: &mut Job,
    table: &Table,
    index: &Index,
    rows_max: u64,
) -> Result<(), Failure> {
    let known = Maintained::new(table, index)?;
    if job.resume.is_none() {
        job.ends = ends(db.engine(), table).await?;
    }
    let start = job.resume.clone().map_or_else(|| table.span().start, Key::from);
    let op = ReadOp { span: Span { start, end: table.span().end }, reverse: false, limit: rows_max };
    let mut reader: Reader<'_, E> = Reader::Txn(txn);
    let result = reader.read(vec![op], LockMode::Shared, false).await?.pop().unwrap_or_default();
    let full = result.rows.len() as u64 >= rows_max;
    let mut next = result.resume.map(|rest| rest.start);

    let mut entries: Vec<(Key, Vec<Datum>, crate::entry::Entry)> = Vec::new();
    let (mut bytes, mut last) = (0, None);
    let count = result.rows.len();
    for (at, stored) in result.rows.into_iter().enumerate() {
        let row = row::decode_row(table, &stored.key, &stored.value)?;
        if let Some(entry) = known.entry(&row)? {
            bytes += entry.key.len() + entry.value.len();
            entries.push((stored.key.clone(), row, entry));
        }
        job.rows += 1;
        last = Some(stored.key.clone());
        if bytes > db.job_options().chunk_bytes || (full && at + 1 == count) {
            next = Some(Span::point(stored.key).end);
            break;
        }
    }
    if index.unique {
        let keys = entries.iter().filter(|(_, _, entry)| entry.is_unique).map(|(_, _, entry)| entry.key.clone());
        let owners = Owners::read(&known, table, keys.collect(), &mut reader).await?;
        let mut taken: BTreeMap<&Key, &Key> = BTreeMap::new();
        for (key, row, entry) in entries.iter().filter(|(_, _, entry)| entry.is_unique) {
            let other = owners.get(&entry.key).is_some_and(|owner| owner != key);
            if other || taken.insert(&entry.key, key).is_some() {
                return Err(not_unique(table, index, row).into());
            }
        }
    }
    let writes = entries.into_iter().map(|(_, _, entry)| Mutation { key: entry.key, value: Some(entry.value) });
    reader.write(writes.collect())?;
    job.backfilled = next.is_none();
    if let (Some((first, end)), Some(last)) = (&job.ends, &last) {
        job.rows_total = Some(estimate(first, last, end, job.rows));
    }
    if job.backfilled {
        job.rows_total = Some(job.rows);
    }
    job.resume = next.map(|next| next.to_vec());
    Ok(())
}

/// The first and the last key of a table.
async fn ends<E: Engine>(engine: &E, table: &Table) -> Result<Option<(Vec<u8>, Vec<u8>)>, Failure> {
    let op = |reverse| ReadOp { span: table.span(), reverse, limit: 1 };
    let at = ReadBound::At(engine.present()?);
    let (_, results) = engine.snapshot(at, vec![op(false), op(true)]).await?;
    let mut keys = results.into_iter().filter_map(|result| Some(result.rows.into_iter().next()?.key.to_vec()));
    Ok(keys.next().zip(keys.next()))
}

/// How many rows there are, if they lie as densely everywhere as they did so far: by the first bytes in which the
/// first and the last key differ.
fn estimate(first: &[u8], at: &[u8], last: &[u8], rows: u64) -> u64 {
    let same = first.iter().zip(last).take_while(|(a, b)| a == b).count();
    let number = |key: &[u8]| {
        let mut bytes = [0; 8];
        for (to, from) in bytes.iter_mut().zip(key.iter().skip(same)) {
            *to = *from;
        }
        u64::from_be_bytes(bytes) as f64
    };
    let part = (number(at) - number(first)) / (number(last) - number(first)).max(1.0);
    if part > 0.0 { ((rows as f64 / part) as u64).max(rows) } else { rows }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_guessed_from_where_the_keys_lie() {
        assert_eq!(estimate(b"t\x00\x00", b"t\x20\x00", b"t\x80\x00", 100), 400);
        assert_eq!(estimate(b"t\x00", b"t\x80", b"t\x80", 7), 7);
        assert_eq!(estimate(b"t\x05", b"t\x05", b"t\x05", 1), 1);
    }
}
