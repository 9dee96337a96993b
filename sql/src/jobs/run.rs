//! Running a job to its end, taking one over, and asking one to stop.

use txn::LockMode;
use txn::client::ClientError;

use super::step::{Step, step, write};
use super::{Job, JobKind, backfill, validate};
use crate::SqlError;
use crate::catalog::{self, Index, Table};
use crate::check::Comparison;
use crate::ddl::{lock, point, set};
use crate::engine::{Engine, Transaction};
use crate::plan::index::Maintained;
use crate::session::Database;
use crate::short::Failure;

/// How often in a row a step may find the database unavailable before the job is left to others.
const FAILURES_MAX: u32 = 40;
/// The pause after that, in nanoseconds.
const PAUSE_NS: i64 = 100_000_000;
/// How often one who does not own a job looks at it, in nanoseconds.
const LOOK_NS: i64 = 300_000_000;
/// How often CANCEL JOB is tried before its conflict is the client's.
const ATTEMPTS_MAX: u32 = 20;

/// Works on a job as this owner until it has ended, or watches it if somebody else has taken it over. `tell` hears of
/// each step. 57P03 if the database is not available: the job goes on elsewhere.
pub(crate) async fn run<E: Engine>(
    db: &Database<E>,
    id: u64,
    owner: &str,
    tell: &mut (dyn FnMut(&Job) + Send),
) -> Result<Job, SqlError> {
    let options = db.job_options();
    let (mut rows_max, mut failures) = (options.chunk_rows.max(1), 0);
    loop {
        let mut step = step(db, id, owner, rows_max).await;
        if let Ok(Step::Validate(table, index)) = &step {
            step = validate(db, id, owner, table, index).await;
        }
        if let Ok(Step::Look(tables, job)) = &step {
            step = validate::look(db, id, owner, tables, job).await;
        }
        match step {
            Ok(Step::Did(job)) => {
                failures = 0;
                rows_max = (rows_max * 2).min(options.chunk_rows.max(1));
                tell(&job);
                if job.has_ended() {
                    return Ok(*job);
                }
            }
            Ok(Step::Ended(job)) => return Ok(*job),
            Ok(Step::Wait(until)) => db.engine().sleep_until_after(until).await,
            Ok(Step::Other) => return watch(db, id, tell).await,
            Ok(Step::Missing) => return Err(SqlError::new("42704", format!("job {id} does not exist any more"))),
            Ok(Step::Validate(..) | Step::Look(..)) => unreachable!("done above"),
            // Somebody needed a row that this held: take fewer.
            Err(Failure::Client(ClientError::Aborted { retryable: true, .. })) => rows_max = (rows_max / 2).max(1),
            // The row tells what came of it.
            Err(Failure::Client(ClientError::Ambiguous { .. })) => {}
            Err(failure) => {
                failures += 1;
                // A comparison that takes longer than versions are kept begins again, at a later timestamp.
                let passes =
                    matches!(failure, Failure::Client(ClientError::Unavailable(_) | ClientError::TooOld { .. }));
                if failures > FAILURES_MAX || !passes {
                    let err = SqlError::from(failure);
                    return Err(err.hint(format!("Job {id} goes on when it can; SHOW JOBS tells how far it is.")));
                }
                let now = db.engine().now().latest;
                db.engine().sleep_until_after(now.plus_ns(PAUSE_NS)).await;
            }
        }
    }
}

/// Waits for the end of somebody else's job.
async fn watch<E: Engine>(db: &Database<E>, id: u64, tell: &mut (dyn FnMut(&Job) + Send)) -> Result<Job, SqlError> {
    let mut failures = 0;
    loop {
        let now = db.engine().now().latest;
        db.engine().sleep_until_after(now.plus_ns(LOOK_NS)).await;
        match db.load_strong().await {
            Ok(catalog) => {
                failures = 0;
                let gone = || SqlError::new("42704", format!("job {id} does not exist any more"));
                let job = catalog.jobs.get(&id).ok_or_else(gone)?;
                tell(job);
                if job.has_ended() {
                    return Ok((**job).clone());
                }
            }
            Err(err) => {
                failures += 1;
                if failures > FAILURES_MAX {
                    return Err(err);
                }
            }
        }
    }
}

/// Compares a unique index with its table at one timestamp: every row has the entry that says so.
async fn validate<E: Engine>(
    db: &Database<E>,
    id: u64,
    owner: &str,
    table: &Table,
    index: &Index,
) -> Result<Step, Failure> {
    let known = Maintained::new(table, index)?;
    let mut comparison = Comparison::of_rows(db.engine().present()?, table, known);
    let lease_ns = db.job_options().lease_ns;
    let mut renewed_ns = db.engine().mono_ns();
    while comparison.page(db.engine()).await? {
        if db.engine().mono_ns() - renewed_ns > lease_ns / 3 {
            renewed_ns = db.engine().mono_ns();
            match write(db, id, owner, |_| {}).await? {
                Step::Did(_) => {}
                other => return Ok(other),
            }
        }
    }
    let failed = comparison.first_missing().map(|row| backfill::not_unique(table, index, row));
    write(db, id, owner, |job| match &failed {
        Some(err) => _ = job.fail(err),
        None => job.validated = true,
    })
    .await
}

/// Takes over the jobs whose owners have lost them, and runs them. To be called about every second by each gateway.
pub(crate) async fn tend<E: Engine>(db: &Database<E>) -> Result<u64, SqlError> {
    let catalog = db.catalog().await?;
    let mut done = 0;
    for job in catalog.jobs.values().filter(|job| !job.has_ended()) {
        if !db.engine().now().after(truetime::Timestamp::from_nanos(job.lease_until)) {
            continue;
        }
        if let Some(owner) = take_over(db, job.id).await? {
            run(db, job.id, &owner, &mut |_| {}).await?;
            done += 1;
        }
    }
    Ok(done)
}

/// Becomes the owner of a job, if nobody is.
async fn take_over<E: Engine>(db: &Database<E>, id: u64) -> Result<Option<String>, SqlError> {
    let engine = db.engine();
    let mut txn = engine.begin(None);
    let owner = txn.id().to_string();
    let work = async {
        let rows = lock(&mut txn, vec![catalog::job_key(id)]).await?;
        let Some(Some(bytes)) = rows.first() else { return Ok(false) };
        let mut job = Job::from_bytes(bytes)?;
        if job.has_ended() || !engine.now().after(truetime::Timestamp::from_nanos(job.lease_until)) {
            return Ok(false);
        }
        job.owner = owner.clone();
        job.node = engine.node();
        job.owners += 1;
        job.lease_until = engine.now().latest.plus_ns(db.job_options().lease_ns).as_nanos();
        txn.write(vec![set(catalog::job_key(id), job.to_bytes())])?;
        Ok::<_, Failure>(true)
    };
    match work.await {
        Ok(true) => {
            txn.commit(None).await?;
            Ok(Some(owner))
        }
        Ok(false) => {
            txn.rollback().await;
            Ok(None)
        }
        Err(failure) => {
            txn.rollback().await;
            Err(failure.into())
        }
    }
}

/// CANCEL JOB: its owner will see it at its next step. 42704 if there is none, 55000 if it cannot be stopped.
pub(crate) async fn cancel<E: Engine>(engine: &E, id: u64) -> Result<(), SqlError> {
    let mut priority = None;
    for attempt in 1.. {
        let mut txn = engine.begin(priority);
        priority = Some(txn.priority());
        let work = async {
            let results = txn.read(vec![point(catalog::job_key(id))], LockMode::Exclusive).await?;
            let row = results.first().and_then(|result| result.rows.first());
            let missing = || SqlError::new("42704", format!("job {id} does not exist"));
            let mut job = Job::from_bytes(&row.ok_or_else(missing)?.value)?;
            if job.has_ended() {
                return Err(SqlError::new("55000", format!("job {id} has ended")).into());
            }
            if job.kind == JobKind::CreateTable {
                return Err(SqlError::new("55000", format!("job {id} creates a table and cannot be canceled"))
                    .hint("DROP TABLE ends it.")
                    .into());
            }
            if !job.is_undoable() {
                let what = if job.kind == JobKind::DropIndex { "drops an index" } else { "cannot be undone" };
                return Err(SqlError::new("55000", format!("job {id} {what} and cannot be canceled")).into());
            }
            job.cancel = true;
            txn.write(vec![set(catalog::job_key(id), job.to_bytes())])?;
            Ok::<_, Failure>(())
        };
        match work.await {
            Ok(()) => match txn.commit(None).await {
                Ok(_) => return Ok(()),
                Err(ClientError::Aborted { retryable: true, .. }) if attempt < ATTEMPTS_MAX => {}
                Err(err) => return Err(err.into()),
            },
            Err(failure) => {
                txn.rollback().await;
                if !failure.is_retryable() || attempt >= ATTEMPTS_MAX {
                    return Err(failure.into());
                }
            }
        }
    }
    unreachable!("the last attempt returns")
}
