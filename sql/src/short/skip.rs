//! SKIP LOCKED.
//!
//! A queue's workers want the first row that nobody works on, and no other row locked. So rows are
//! found without any lock, filtered and brought into order; then they are locked by their keys, in
//! that order, as many as are still wanted. Whose lock cannot be had at once is left out. A row may
//! have changed since it was found: it is looked at again once it is locked, as PostgreSQL does.
//!
//! This is a weaker read than all others: what it leaves out, and what is inserted beside what it
//! found, may be there as of the transaction's commit. What it returns is locked like any other row.

use std::cmp::Ordering;

use txn::{Key, LockMode, LockPolicy, ReadOp, Span};

use super::scan::{Found, Pages, RowScanner, decode};
use super::select::{Pipeline, check_work, compare, row_bytes};
use super::{Counts, Failure, Reader, project};
use crate::SqlError;
use crate::engine::Engine;
use crate::expr::EvalContext;
use crate::plan::{Scan, SelectPlan};
use crate::sink::Sink;
use crate::types::Datum;

/// The most keys that are locked at a time.
const KEYS_MAX: usize = 256;

/// Gives the rows that could be locked to the pipeline. Answers how many were read to find them.
pub(super) async fn run<E: Engine, S: Sink>(
    plan: &SelectPlan,
    scan: &Scan,
    context: &EvalContext<'_>,
    reader: &mut Reader<'_, E>,
    pipeline: &mut Pipeline<'_, '_, '_, S>,
) -> Result<Counts, Failure> {
    let mode = plan.lock.unwrap_or(LockMode::Shared);
    let mut left = pipeline.wanted().unwrap_or(usize::MAX);
    let mut counts = Counts::default();
    let pages = if left == usize::MAX || !plan.sort.is_empty() { Pages::Full } else { Pages::Growing };
    let mut scanner = RowScanner::new(scan, context, pages, mode)?.policy(LockPolicy::Unlocked);
    let mut found: Vec<(Key, Vec<Datum>)> = Vec::new();
    let mut bytes = 0;
    while left > 0
        && let Some(page) = scanner.next(reader, context).await?
    {
        (counts.scanned, counts.bytes) = (scanner.scanned, scanner.bytes);
        for Found { key, row, .. } in page {
            // Only what it is sorted by, if it is.
            let row = if plan.sort.is_empty() { Vec::new() } else { project(&plan.project, &row, context)? };
            bytes += key.len() + row_bytes(&row);
            found.push((key, row));
        }
        check_work(bytes, "SKIP LOCKED")?;
        if plan.sort.is_empty() {
            let keys = std::mem::take(&mut found).into_iter().map(|(key, _)| key).collect();
            bytes = 0;
            lock(scan, keys, mode, &mut left, context, reader, pipeline).await?;
        }
    }
    found.sort_by(|(_, a), (_, b)| {
        let by_key = plan.sort.iter().map(|key| compare(key, &a[key.column], &b[key.column]));
        by_key.into_iter().find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
    });
    let keys = found.into_iter().map(|(key, _)| key).collect();
    lock(scan, keys, mode, &mut left, context, reader, pipeline).await?;
    Ok(counts)
}

/// Locks rows in this order until no more are wanted.
async fn lock<E: Engine, S: Sink>(
    scan: &Scan,
    keys: Vec<Key>,
    mode: LockMode,
    left: &mut usize,
    context: &EvalContext<'_>,
    reader: &mut Reader<'_, E>,
    pipeline: &mut Pipeline<'_, '_, '_, S>,
) -> Result<(), Failure> {
    let mut keys = keys.into_iter().peekable();
    while *left > 0 && keys.peek().is_some() {
        let mut chunk: Vec<Span> = keys.by_ref().take((*left).min(KEYS_MAX)).map(Span::point).collect();
        while !chunk.is_empty() {
            let op = |span: &Span| ReadOp { span: span.clone(), reverse: false, limit: 0 };
            let results = reader.read_with(chunk.iter().map(op).collect(), mode, LockPolicy::Skip, true).await?;
            let mut again = Vec::new();
            let mut rows = Vec::new();
            for (span, result) in chunk.iter().zip(results) {
                match result.resume {
                    // The reply was full before it.
                    Some(_) => again.push(span.clone()),
                    // Nothing comes after a row that was not answered yet.
                    None if again.is_empty() => {
                        for stored in result.rows {
                            rows.extend(decode(scan, stored, context)?.map(|found| found.row));
                        }
                    }
                    None => again.push(span.clone()),
                }
            }
            if again.len() == chunk.len() {
                return Err(SqlError::new("XX000", "a read made no progress").into());
            }
            *left -= rows.len();
            pipeline.take(rows).await?;
            chunk = again;
        }
    }
    Ok(())
}
