//! One step of a job that changes whole descriptors: ALTER TABLE, TRUNCATE.
//!
//! The job's row has the descriptors of all steps to come (`ddl/steps.rs`). A step puts the next ones in the place of the
//! present ones, once the wait for the step before is over; before the last one the rows may have to be looked at. Nobody
//! else changes a table that is in steps, so the descriptors are still what they were made for; a table that was
//! dropped meanwhile is left alone.

use txn::LockMode;

use super::step::Step;
use super::{Job, JobError, JobStatus};
use crate::SqlError;
use crate::catalog::{self, CATALOG_LEASE_NS, Table};
use crate::ddl::{lock, point, set, stored_number};
use crate::engine::{Engine, Transaction};
use crate::session::Database;
use crate::short::Failure;

/// The table of this id, if these are the bytes of it.
fn table_of(id: u32, bytes: Option<&txn::Value>) -> Result<Option<Table>, SqlError> {
    let table = bytes.map(|bytes| Table::from_bytes(bytes)).transpose()?;
    Ok(table.filter(|table| table.id == id))
}

pub(super) async fn work<E: Engine>(
    db: &Database<E>,
    txn: &mut E::Txn,
    mut job: Box<Job>,
    hasty: bool,
) -> Result<(Step, bool), Failure> {
    let engine = db.engine();
    let ops = job.tables().map(|(name, _)| point(catalog::table_key(name))).collect();
    let results = txn.read(ops, LockMode::Shared).await?;
    let mut tables = Vec::new();
    for ((_, id), result) in job.tables().zip(&results) {
        tables.extend(table_of(id, result.rows.first().map(|row| &row.value))?);
    }
    if tables.is_empty() {
        let message = format!("relation \"{}\" does not exist", job.table);
        job.error = Some(JobError::of(&SqlError::new("42P01", message).detail("It was dropped meanwhile.")));
        job.status = JobStatus::Failed;
        txn.write(vec![set(catalog::job_key(job.id), job.to_bytes())])?;
        return Ok((Step::Did(job), true));
    }
    if job.cancel && job.status == JobStatus::Running && job.is_undoable() {
        job.fail(&SqlError::new("57014", "canceling statement due to user request"));
    }
    let Some(wait) = job.wait_ends() else {
        // What was just read under a lock is what everybody reads from now on.
        job.wait_until = Some(engine.now().latest.plus_ns(CATALOG_LEASE_NS).as_nanos());
        txn.write(vec![set(catalog::job_key(job.id), job.to_bytes())])?;
        return Ok((Step::Did(job), true));
    };
    // What has surely passed has, though a later look at a clock with a larger epsilon may not show it.
    let waited = engine.now().after(wait) || hasty;
    if !waited {
        return Ok((Step::Wait(wait), false));
    }
    let running = job.status == JobStatus::Running;
    if running && job.steps.len() == 1 && job.looks() && !job.validated {
        return Ok((Step::Look(tables, job), false));
    }
    let left = if running { &mut job.steps } else { &mut job.back };
    let next = if left.is_empty() { Vec::new() } else { left.remove(0) };
    if left.is_empty() {
        job.status = if running { JobStatus::Done } else { JobStatus::Failed };
        job.steps.clear();
        job.back.clear();
    }
    let mut keys = vec![catalog::version_key()];
    keys.extend(next.iter().map(|table| catalog::table_key(&table.name)));
    let rows = lock(txn, keys).await?;
    assert!(waited && job.wait_until.is_some(), "job {}: a step before the wait for the last one is over", job.id);
    let mut writes = Vec::new();
    for (table, row) in next.iter().zip(rows.iter().skip(1)) {
        let old = job.tables().find(|(name, _)| *name == table.name).map(|(_, id)| id);
        let Some(present) = table_of(old.unwrap_or(table.id), row.as_ref())? else { continue };
        assert_eq!(present.changing, job.id, "job {}: table \"{}\" is not in its steps", job.id, table.name);
        writes.push(set(catalog::table_key(&table.name), table.to_bytes()));
    }
    job.wait_until = None;
    let version = stored_number(rows.first())?.unwrap_or(0);
    writes.push(set(catalog::version_key(), (version + 1).to_string()));
    writes.push(set(catalog::job_key(job.id), job.to_bytes()));
    txn.write(writes)?;
    Ok((if job.has_ended() { Step::Ended(job) } else { Step::Did(job) }, true))
}
