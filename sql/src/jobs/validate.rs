//! A look at all rows of a table, for checks that are kept by all who write since before the look's timestamp.
//!
//! All rows are read as of one timestamp, without locks, in the order of their keys; how far it has come is written down
//! now and then, with the timestamp, so that another gateway can go on from there. If the versions of then are
//! gone, it begins again. A row that is written later keeps the checks by itself.

use txn::client::ClientError;
use txn::{Key, ReadOp, Span};

use super::Job;
use super::step::{Step, write};
use crate::SqlError;
use crate::catalog::Table;
use crate::engine::{Engine, ReadBound};
use crate::expr::EvalContext;
use crate::plan::check::{Checks, Violation};
use crate::row;
use crate::session::Database;
use crate::short::Failure;
use truetime::Timestamp;

/// As PostgreSQL says it of rows that were there before.
fn violated(table: &Table, violation: Violation) -> SqlError {
    match violation {
        Violation::Null(column) => {
            let column = &table.columns[column].name;
            let message = format!("column \"{column}\" of relation \"{}\" contains null values", table.name);
            SqlError::new("23502", message)
        }
        Violation::Check(name) => {
            let message = format!("check constraint \"{name}\" of relation \"{}\" is violated by some row", table.name);
            SqlError::new("23514", message)
        }
        Violation::Range(ty) => SqlError::new("22003", format!("{} out of range", ty.name())),
    }
}

/// Looks at some rows, or at all that are left. A row for which a check cannot be computed is as one against it.
pub(super) async fn look<E: Engine>(
    db: &Database<E>,
    id: u64,
    owner: &str,
    table: &Table,
    job: &Job,
) -> Result<Step, Failure> {
    match rows(db, id, owner, table, job).await {
        Err(Failure::Sql(err)) => write(db, id, owner, |job| _ = job.fail(&err)).await,
        other => other,
    }
}

async fn rows<E: Engine>(db: &Database<E>, id: u64, owner: &str, table: &Table, job: &Job) -> Result<Step, Failure> {
    let engine = db.engine();
    let checks = Checks::those(table, |check| job.checks.contains(&check.id))?;
    let at = match job.read_at {
        Some(at) => Timestamp::from_nanos(at),
        None => engine.present()?,
    };
    let start = job.resume.clone().map_or_else(|| table.span().start, Key::from);
    let limit = db.job_options().chunk_rows.max(1);
    let mut op = ReadOp { span: Span { start, end: table.span().end }, reverse: false, limit };
    let context = EvalContext { params: &[], now: at, random: engine };
    let (mut rows, mut found, mut done) = (0, None, false);
    // As many rows as one step of a backfill has, and more if they are quick.
    while !done && found.is_none() && rows < limit {
        let (_, results) = match engine.snapshot(ReadBound::At(at), vec![op.clone()]).await {
            Err(ClientError::TooOld { .. }) => {
                return write(db, id, owner, |job| (job.read_at, job.resume, job.rows) = (None, None, 0)).await;
            }
            results => results?,
        };
        let result = results.into_iter().next().unwrap_or_default();
        let full = result.rows.len() as u64 >= op.limit;
        for stored in &result.rows {
            let row = row::decode_row(table, &stored.key, &stored.value)?;
            rows += 1;
            if let Some(violation) = checks.violation(None, &row, &context)? {
                found = Some(violated(table, violation));
                break;
            }
        }
        match (result.resume, result.rows.last()) {
            (Some(rest), None) if rest == op.span => {
                return Err(SqlError::new("XX000", "a read made no progress").into());
            }
            (Some(rest), _) => op.span = rest,
            (None, Some(last)) if full => op.span.start = Span::point(last.key.clone()).end,
            (None, _) => done = true,
        }
    }
    write(db, id, owner, |job| {
        job.rows += rows;
        job.read_at = Some(at.as_nanos());
        job.resume = Some(op.span.start.to_vec());
        match &found {
            Some(err) => _ = job.fail(err),
            None if done => {
                job.rows_total = Some(job.rows);
                (job.validated, job.backfilled) = (true, true);
            }
            None => {}
        }
    })
    .await
}
