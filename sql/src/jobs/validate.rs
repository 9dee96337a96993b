//! A look at all rows of a table, for checks and foreign keys that are kept by all who write since before the look's timestamp.
//!
//! All rows are read as of one timestamp, without locks, in the order of their keys, and the rows that they refer to as of the
//! same one; how far it has come is written down now and then, with the timestamp, so that another gateway can go on
//! from there. If the versions of then are gone, it begins again. A row that is written later keeps the checks by itself.

use std::sync::Arc;

use txn::client::ClientError;
use txn::{Key, ReadOp, Span};

use super::Job;
use super::step::{Step, write};
use crate::SqlError;
use crate::catalog::Table;
use crate::check::points;
use crate::engine::{Engine, ReadBound};
use crate::expr::EvalContext;
use crate::plan::check::{Checks, Violation};
use crate::plan::foreign::{Outgoing, outgoing};
use crate::row;
use crate::session::Database;
use crate::short::Failure;
use crate::short::foreign::{not_present, pick};
use crate::types::Datum;
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

/// What the rows are asked.
struct Asked<'a> {
    table: &'a Table,
    checks: Checks,
    parents: Vec<Outgoing>,
    at: Timestamp,
}

/// Some rows that were looked at.
struct Page {
    rows: u64,
    found: Option<SqlError>,
    /// What is left; none at the end of the table.
    rest: Option<Span>,
}

impl<'a> Asked<'a> {
    /// Of the first of a job's tables.
    fn new(tables: &'a [Table], job: &Job, at: Timestamp) -> Result<Asked<'a>, SqlError> {
        let table = &tables[0];
        let checks = Checks::those(table, |check| job.checks.contains(&check.id))?;
        let mut parents = Vec::with_capacity(job.keys.len());
        for name in &job.keys {
            let lost = || SqlError::new("XX001", format!("foreign key \"{name}\" of \"{}\" is gone", table.name));
            // One of the same name that goes comes after it.
            let key = table.foreign.keys.iter().find(|key| key.name == *name).ok_or_else(lost)?;
            let parent = tables.iter().find(|parent| parent.id == key.parent).ok_or_else(lost)?;
            parents.push(outgoing(table, key, &Arc::new(parent.clone()))?);
        }
        Ok(Asked { table, checks, parents, at })
    }

    async fn page<E: Engine>(&self, engine: &E, op: &ReadOp) -> Result<Page, Failure> {
        let (_, results) = engine.snapshot(ReadBound::At(self.at), vec![op.clone()]).await?;
        let result = results.into_iter().next().unwrap_or_default();
        let rest = match (result.resume, result.rows.last()) {
            (Some(rest), None) if rest == op.span => {
                return Err(SqlError::new("XX000", "a read made no progress").into());
            }
            (Some(rest), _) => Some(rest),
            (None, Some(last)) if result.rows.len() as u64 >= op.limit => {
                Some(Span { start: Span::point(last.key.clone()).end, end: op.span.end.clone() })
            }
            (None, _) => None,
        };
        let context = EvalContext { params: &[], now: self.at, random: engine };
        let mut rows = Vec::with_capacity(result.rows.len());
        for stored in &result.rows {
            let row = row::decode_row(self.table, &stored.key, &stored.value)?;
            if let Some(violation) = self.checks.violation(None, &row, &context)? {
                let found = Some(violated(self.table, violation));
                return Ok(Page { rows: rows.len() as u64 + 1, found, rest });
            }
            rows.push(row);
        }
        let found = self.orphan(engine, &rows).await?;
        Ok(Page { rows: rows.len() as u64, found, rest })
    }

    /// The first of these rows that refers to nothing.
    async fn orphan<E: Engine>(&self, engine: &E, rows: &[Vec<Datum>]) -> Result<Option<SqlError>, Failure> {
        for key in &self.parents {
            let mut wanted = Vec::new();
            for values in rows.iter().filter_map(|row| pick(row, &key.columns)) {
                // No row of the other table can have such a value.
                let Some(there) = key.lookup.key(&values) else {
                    return Ok(Some(not_present(self.table, key, &values)));
                };
                wanted.push((values, Key::from(there)));
            }
            let keys: Vec<Key> = wanted.iter().map(|(_, key)| key.clone()).collect();
            let found = points(engine, self.at, &keys).await?;
            if let Some(at) = found.iter().position(Option::is_none) {
                return Ok(Some(not_present(self.table, key, &wanted[at].0)));
            }
        }
        Ok(None)
    }
}

/// Looks at some rows, or at all that are left. A row for which a check cannot be computed is as one against it.
pub(super) async fn look<E: Engine>(
    db: &Database<E>,
    id: u64,
    owner: &str,
    tables: &[Table],
    job: &Job,
) -> Result<Step, Failure> {
    match rows(db, id, owner, tables, job).await {
        Err(Failure::Sql(err)) => write(db, id, owner, |job| _ = job.fail(&err)).await,
        other => other,
    }
}

async fn rows<E: Engine>(db: &Database<E>, id: u64, owner: &str, tables: &[Table], job: &Job) -> Result<Step, Failure> {
    let engine = db.engine();
    let at = match job.read_at {
        Some(at) => Timestamp::from_nanos(at),
        None => engine.present()?,
    };
    let asked = Asked::new(tables, job, at)?;
    let all = asked.table.span();
    let start = job.resume.clone().map_or_else(|| all.start.clone(), Key::from);
    let limit = db.job_options().chunk_rows.max(1);
    let mut op = ReadOp { span: Span { start, end: all.end }, reverse: false, limit };
    let (mut rows, mut found, mut done) = (0, None, false);
    // As many rows as one step of a backfill has, and more if they are quick.
    while !done && found.is_none() && rows < limit {
        let page = match asked.page(engine, &op).await {
            Err(Failure::Client(ClientError::TooOld { .. })) => {
                return write(db, id, owner, |job| (job.read_at, job.resume, job.rows) = (None, None, 0)).await;
            }
            page => page?,
        };
        rows += page.rows;
        found = page.found;
        match page.rest {
            Some(rest) => op.span = rest,
            None => done = true,
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
