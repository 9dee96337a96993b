//! The steps of CREATE TABLE for a table that refers to another one: see `catalog/foreign.rs`.
//!
//! The table is there, in the making, and the tables that it refers to say so. What is left is to wait until no gateway
//! goes by a catalog without that, and then to make it usable.

use truetime::{Guarantee, Timestamp};
use txn::Mutation;

use super::step::Step;
use super::{Job, JobError, JobStatus};
use crate::SqlError;
use crate::catalog::{self, CATALOG_LEASE_NS, Table};
use crate::ddl::{lock, set, stored_number};
use crate::engine::{Engine, Transaction};
use crate::session::Database;
use crate::short::Failure;

/// Takes such a job one step further; whether there is something to be committed.
pub(super) async fn step<E: Engine>(
    db: &Database<E>,
    txn: &mut E::Txn,
    mut job: Box<Job>,
) -> Result<(Step, bool), Failure> {
    let engine = db.engine();
    let hasty = engine.sabotage().breaks(Guarantee::SchemaSteps);
    let rows = lock(txn, vec![catalog::version_key(), catalog::table_key(&job.table)]).await?;
    let table = rows.get(1).and_then(Option::as_ref).map(|bytes| Table::from_bytes(bytes)).transpose()?;
    let Some(mut table) = table.filter(|table| table.id == job.table_id) else {
        let message = format!("relation \"{}\" does not exist", job.table);
        job.error = Some(JobError::of(&SqlError::new("42P01", message).detail("It was dropped meanwhile.")));
        job.status = JobStatus::Failed;
        txn.write(vec![keep(&job)])?;
        return Ok((Step::Did(job), true));
    };
    let Some(wait): Option<Timestamp> = job.wait_ends() else {
        // What was just read under a lock is what everybody reads from now on.
        job.wait_until = Some(engine.now().latest.plus_ns(CATALOG_LEASE_NS).as_nanos());
        txn.write(vec![keep(&job)])?;
        return Ok((Step::Did(job), true));
    };
    if !engine.now().after(wait) && !hasty {
        return Ok((Step::Wait(wait), false));
    }
    assert!(table.foreign.making, "job {}: table {} is usable before its job has ended", job.id, table.name);
    table.foreign.making = false;
    job.status = JobStatus::Done;
    let version = stored_number(rows.first())?.unwrap_or(0);
    txn.write(vec![
        set(catalog::version_key(), (version + 1).to_string()),
        set(catalog::table_key(&table.name), table.to_bytes()),
        keep(&job),
    ])?;
    Ok((Step::Ended(job), true))
}

fn keep(job: &Job) -> Mutation {
    set(catalog::job_key(job.id), job.to_bytes())
}
