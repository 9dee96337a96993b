//! One step of a job: one transaction that finds out where the job is, and takes it further.
//!
//! All of a job's transactions are as young as can be: they wait for whoever holds a lock, nobody is wounded by them,
//! and anybody wounds them. Then they are tried again, with fewer rows at a time.

use truetime::{Guarantee, Timestamp};
use txn::{LockMode, Mutation, Priority};

use super::{Job, JobError, JobKind, JobStatus, alter, backfill, foreign};
use crate::SqlError;
use crate::catalog::{self, CATALOG_LEASE_NS, Index, IndexState, Table};
use crate::ddl::{lock, point, set, stored_number};
use crate::engine::{Engine, Transaction};
use crate::session::Database;
use crate::short::Failure;

/// What came of a step.
pub(super) enum Step {
    /// Something; there is more to be done.
    Did(Box<Job>),
    /// Nothing can be done before this has surely passed.
    Wait(Timestamp),
    /// The index is to be compared with its table.
    Validate(Box<Table>, Box<Index>),
    /// All rows of the first table are to be looked at; the others are those that they refer to.
    Look(Vec<Table>, Box<Job>),
    /// The rows cannot be what the index wants them to be: it was said so in the row.
    Ended(Box<Job>),
    /// Somebody else does it.
    Other,
    /// There is no such job any more.
    Missing,
}

/// A transaction that wounds nobody.
async fn youngest<E: Engine>(engine: &E) -> E::Txn {
    let plain = engine.begin(None);
    let id = plain.priority().id;
    plain.rollback().await;
    engine.begin(Some(Priority { start: Timestamp::MAX, id }))
}

/// Takes a job one step further, if it is this owner's.
pub(super) async fn step<E: Engine>(db: &Database<E>, id: u64, owner: &str, rows_max: u64) -> Result<Step, Failure> {
    let mut txn = youngest(db.engine()).await;
    match work(db, &mut txn, id, owner, rows_max).await {
        Ok((step, true)) => {
            txn.commit(None).await?;
            Ok(step)
        }
        Ok((step, false)) => {
            txn.rollback().await;
            Ok(step)
        }
        Err(failure) => {
            txn.rollback().await;
            // What is wrong with the rows does not go away.
            let Failure::Sql(err) = failure else { return Err(failure) };
            let mut new = false;
            let step = write(db, id, owner, |job| new = job.fail(&err)).await?;
            // While a job is rolled back, nothing is left that could be done about it.
            if new || !matches!(step, Step::Did(_)) { Ok(step) } else { Err(Failure::Sql(err)) }
        }
    }
}

impl Job {
    /// From now on what was done is undone; false if it is so already.
    pub(super) fn fail(&mut self, err: &SqlError) -> bool {
        let runs = self.status == JobStatus::Running && (self.is_undoable() || !self.is_of_tables());
        if runs {
            self.status = JobStatus::RollingBack;
            self.error = Some(JobError::of(err));
        }
        runs
    }
}

/// Changes an owner's job row and nothing else.
pub(super) async fn write<E: Engine>(
    db: &Database<E>,
    id: u64,
    owner: &str,
    change: impl FnOnce(&mut Job) + Send,
) -> Result<Step, Failure> {
    let mut txn = youngest(db.engine()).await;
    let work = async {
        let mut job = match mine(db, &mut txn, id, owner).await? {
            Ok(job) => job,
            Err(step) => return Ok((step, false)),
        };
        change(&mut job);
        txn.write(vec![set(catalog::job_key(id), job.to_bytes())])?;
        Ok::<_, Failure>((Step::Did(job), true))
    };
    match work.await {
        Ok((step, true)) => txn.commit(None).await.map(|_| step).map_err(Failure::Client),
        Ok((step, false)) => {
            txn.rollback().await;
            Ok(step)
        }
        Err(failure) => {
            txn.rollback().await;
            Err(failure)
        }
    }
}

/// Locks the row of a job that is this owner's, with its lease extended.
async fn mine<E: Engine>(
    db: &Database<E>,
    txn: &mut E::Txn,
    id: u64,
    owner: &str,
) -> Result<Result<Box<Job>, Step>, Failure> {
    let rows = lock(txn, vec![catalog::job_key(id)]).await?;
    let Some(Some(bytes)) = rows.first() else { return Ok(Err(Step::Missing)) };
    let mut job = Box::new(Job::from_bytes(bytes)?);
    if job.has_ended() {
        return Ok(Err(Step::Ended(job)));
    }
    if job.owner != owner {
        return Ok(Err(Step::Other));
    }
    job.lease_until = db.engine().now().latest.plus_ns(db.job_options().lease_ns).as_nanos();
    Ok(Ok(job))
}

async fn work<E: Engine>(
    db: &Database<E>,
    txn: &mut E::Txn,
    id: u64,
    owner: &str,
    rows_max: u64,
) -> Result<(Step, bool), Failure> {
    let engine = db.engine();
    let hasty = engine.sabotage().breaks(Guarantee::SchemaSteps);
    let mut job = match mine(db, txn, id, owner).await? {
        Ok(job) => job,
        Err(step) => return Ok((step, false)),
    };
    if job.is_of_tables() {
        return alter::work(db, txn, job, hasty).await;
    }
    if job.kind == JobKind::CreateTable {
        return foreign::step(db, txn, job).await;
    }
    let results = txn.read(vec![point(catalog::table_key(&job.table))], LockMode::Shared).await?;
    let table = results.first().and_then(|result| result.rows.first()).map(|row| Table::from_bytes(&row.value));
    let table = table.transpose()?.filter(|table| table.id == job.table_id);
    let found = table.and_then(|table| {
        let index = table.indexes.iter().find(|index| index.id == job.index_id)?.clone();
        Some((table, index))
    });
    let Some((table, index)) = found else {
        let message = format!("relation \"{}\" does not exist", job.table);
        job.error = Some(JobError::of(&SqlError::new("42P01", message).detail("It was dropped meanwhile.")));
        job.status = if job.kind == JobKind::DropIndex { JobStatus::Done } else { JobStatus::Failed };
        txn.write(vec![set(catalog::job_key(id), job.to_bytes())])?;
        return Ok((Step::Did(job), true));
    };

    if job.cancel && job.status == JobStatus::Running && index.state != IndexState::Public {
        job.fail(&SqlError::new("57014", "canceling statement due to user request"));
    }
    let Some(wait) = job.wait_ends() else {
        // What was just read under a lock is what everybody reads from now on.
        job.wait_until = Some(engine.now().latest.plus_ns(CATALOG_LEASE_NS).as_nanos());
        txn.write(vec![set(catalog::job_key(id), job.to_bytes())])?;
        return Ok((Step::Did(job), true));
    };
    // What has surely passed has, though a later look at a clock with a larger epsilon may not show it.
    let passed = engine.now().after(wait);
    if !passed && !hasty {
        return Ok((Step::Wait(wait), false));
    }
    let next = match (job.status, job.kind, index.state) {
        (JobStatus::Done | JobStatus::Failed, ..) => unreachable!("a job that has ended is not worked on"),
        (_, JobKind::CreateTable | JobKind::AlterTable | JobKind::Truncate, _) => unreachable!("done above"),
        (JobStatus::Running, JobKind::CreateIndex, IndexState::DeleteOnly) => Some(IndexState::WriteOnly),
        (JobStatus::Running, JobKind::CreateIndex, IndexState::WriteOnly) if !job.backfilled => {
            backfill::chunk(db, txn, &mut job, &table, &index, rows_max).await?;
            txn.write(vec![set(catalog::job_key(id), job.to_bytes())])?;
            return Ok((Step::Did(job), true));
        }
        (JobStatus::Running, JobKind::CreateIndex, IndexState::WriteOnly) if index.unique && !job.validated => {
            return Ok((Step::Validate(Box::new(table), Box::new(index)), false));
        }
        (JobStatus::Running, JobKind::CreateIndex, IndexState::WriteOnly | IndexState::Public) => {
            job.status = JobStatus::Done;
            Some(IndexState::Public)
        }
        (_, _, IndexState::Public) => Some(IndexState::WriteOnly),
        (_, _, IndexState::WriteOnly) => Some(IndexState::DeleteOnly),
        (status, _, IndexState::DeleteOnly) => {
            job.status = if status == JobStatus::Running { JobStatus::Done } else { JobStatus::Failed };
            None
        }
    };
    transition(txn, &mut job, index.state, next, passed || hasty).await?;
    Ok((if job.has_ended() { Step::Ended(job) } else { Step::Did(job) }, true))
}

/// The next state of an index: `None` is its end. Only after the wait for the last step.
async fn transition<T: Transaction>(
    txn: &mut T,
    job: &mut Job,
    from: IndexState,
    next: Option<IndexState>,
    waited: bool,
) -> Result<(), Failure> {
    let rows = lock(txn, vec![catalog::version_key(), catalog::table_key(&job.table)]).await?;
    let Some(Some(bytes)) = rows.get(1) else { panic!("job {}: its table's row is locked, and gone", job.id) };
    let mut table = Table::from_bytes(bytes)?;
    let at = table.indexes.iter().position(|index| index.id == job.index_id);
    let at = at.unwrap_or_else(|| panic!("job {}: its table's row is locked, and has no index any more", job.id));
    let state = table.indexes[at].state;
    assert_eq!(state, from, "job {}: the step is from another state", job.id);
    let distance = match next {
        None => state == IndexState::DeleteOnly,
        Some(next) => (state as i8 - next as i8).abs() <= 1,
    };
    assert!(distance, "job {}: from {} to {next:?} is more than a step", job.id, state.name());
    assert!(waited && job.wait_until.is_some(), "job {}: a step before the wait for the last one is over", job.id);
    let mut writes = Vec::new();
    match next {
        Some(next) => table.indexes[at].state = next,
        None => {
            let index = table.indexes.remove(at);
            catalog::constraint::forget_index(&mut table, index.id);
            writes.push(Mutation { key: catalog::index_key(&index.name), value: None });
        }
    }
    job.wait_until = None;
    let version = stored_number(rows.first())?.unwrap_or(0);
    writes.push(set(catalog::version_key(), (version + 1).to_string()));
    writes.push(set(catalog::table_key(&table.name), table.to_bytes()));
    writes.push(set(catalog::job_key(job.id), job.to_bytes()));
    txn.write(writes)?;
    Ok(())
}
