//! Schema changes that take a while: jobs.
//!
//! # Problem
//!
//! An index comes in several steps with waits between them, and a backfill that reads a whole table. The gateway that
//! began it may be gone before it is done; the index must not stay half built, nor be built by two at once in a way
//! that does harm.
//!
//! # A job
//!
//! is a row of the catalogue, `00 "job/" NUMBER`, that says what is to be done, how far it has come, and who does it
//! until when. All that is done for a job is done in transactions that lock this row, find their owner's name in it,
//! and write the progress beside what they do:
//!
//! ```text
//!   CREATE INDEX --> delete-only --wait--> write-only --wait--> backfill .. --> validate --> public
//!                         |                     |   ^                |              |
//!                         |                     |   |   a duplicate, CANCEL JOB     |
//!                         v                     v   +----------------+--------------+
//!        absent <--wait-- delete-only <--wait-- write-only            (rolling back)
//!                                                   ^
//!   DROP INDEX -------------------------------------+
//! ```
//!
//! 1. The session that asked for the change runs the job ([`run`]) and tells its client how far it is.
//! 2. The owner's lease ([`JobOptions::lease_ns`]) is extended by each of its steps. Once it has surely run out, any
//!    gateway takes the job over ([`tend`], about every second) and goes on from where the row says it is. An owner
//!    that was merely slow finds another's name in the row, and from then on only watches.
//! 3. Waits are by `wait_until` in the row: see `catalog/index.rs` for why they are enough. It is written by whoever
//!    finds a step done, after having read its effect, and before anything else is done.
//! 4. The backfill goes through the table in the order of its keys, some rows at a time ([`backfill`]).
//! 5. A unique index is then compared with its table at one timestamp before it is used ([`crate::check`]).
//! 6. ALTER TABLE and TRUNCATE go the same way with other steps (`ddl/steps.rs`): each is a whole descriptor, and all rows
//!    are looked at ([`validate`]) where a check or a foreign key wants it.
//! 7. A job that has ended stays for a while, to be seen by `SHOW JOBS`.

mod alter;
pub(crate) mod backfill;
mod foreign;
mod run;
mod step;
mod validate;

use serde::{Deserialize, Serialize};
use truetime::Timestamp;
use txn::{Mutation, TxnId};

use crate::SqlError;
use crate::catalog::{self, Catalog, Index, Table};
use crate::engine::Engine;
use crate::session::Database;

pub(crate) use run::{cancel, run, tend};

/// Jobs that have ended and can still be seen.
const ENDED_MAX: usize = 50;

/// How jobs are done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobOptions {
    /// A gateway that was not heard of for so long has lost its jobs, in nanoseconds.
    pub lease_ns: i64,
    /// Rows of one step of a backfill at most.
    pub chunk_rows: u64,
    /// Bytes of entries of one step of a backfill, about.
    pub chunk_bytes: usize,
}

impl Default for JobOptions {
    fn default() -> JobOptions {
        JobOptions { lease_ns: 5_000_000_000, chunk_rows: 500, chunk_bytes: 256 << 10 }
    }
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobKind {
    /// CREATE TABLE of a table that refers to another one.
    CreateTable,
    /// CREATE INDEX.
    CreateIndex,
    /// DROP INDEX.
    DropIndex,
    /// ALTER TABLE.
    AlterTable,
    /// TRUNCATE.
    Truncate,
}

/// How it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobStatus {
    /// Under way.
    Running,
    /// It has failed, and what was done is being undone.
    RollingBack,
    /// Done.
    Done,
    /// Failed, and undone.
    Failed,
}

impl JobStatus {
    /// As people see it.
    pub fn name(self) -> &'static str {
        match self {
            JobStatus::Running => "running",
            JobStatus::RollingBack => "rolling back",
            JobStatus::Done => "done",
            JobStatus::Failed => "failed",
        }
    }
}

/// Why a job failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobError {
    sqlstate: String,
    message: String,
    detail: Option<String>,
}

impl JobError {
    fn of(err: &SqlError) -> JobError {
        JobError { sqlstate: err.sqlstate.into(), message: err.message.clone(), detail: err.detail.clone() }
    }

    /// In words.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// For the client.
    pub fn to_sql(&self) -> SqlError {
        let known = ["23503", "23505", "23514", "23502", "22003", "22012", "57014", "42P01", "54000"];
        let sqlstate = known.into_iter().find(|known| *known == self.sqlstate).unwrap_or("XX000");
        SqlError { detail: self.detail.clone(), ..SqlError::new(sqlstate, self.message.clone()) }
    }
}

/// A job, as its row has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Its number: an id of the catalogue.
    pub id: u64,
    /// What.
    pub kind: JobKind,
    /// The statement that asked for it.
    pub statement: String,
    /// The table's name,
    pub table: String,
    /// and its id.
    pub table_id: u32,
    /// The index's name,
    pub index: String,
    /// and its id.
    pub index_id: u32,
    /// How it stands.
    pub status: JobStatus,
    /// Since the last step was seen done: nobody goes by the state before it once this has surely passed. In
    /// nanoseconds, as all times of the row.
    pub wait_until: Option<i64>,
    /// The backfill goes on here; none before its beginning.
    pub resume: Option<Vec<u8>>,
    /// Every row has been looked at.
    pub backfilled: bool,
    /// The index was compared with its table.
    pub validated: bool,
    /// Rows looked at.
    pub rows: u64,
    /// How many there are, about.
    pub rows_total: Option<u64>,
    /// The first and the last key of the table as the backfill began, to know how far it is.
    pub ends: Option<(Vec<u8>, Vec<u8>)>,
    /// The owner's name: that of the transaction by which it became the owner.
    pub owner: String,
    /// The owner's node.
    pub node: u64,
    /// The owner is the owner at least until then.
    pub lease_until: i64,
    /// How many owners it has had.
    pub owners: u32,
    /// CANCEL JOB was said.
    pub cancel: bool,
    /// Why it failed.
    pub error: Option<JobError>,
    /// When it was begun.
    pub created: i64,
    /// Of a change of whole descriptors: the steps that are left, each with the tables as they are to be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Vec<Table>>,
    /// The same steps back; none of what cannot be undone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub back: Vec<Vec<Table>>,
    /// The checks for which all rows of the first table are looked at before the last step.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<u32>,
    /// The foreign keys for which they are looked at.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<String>,
    /// At which timestamp they are looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_at: Option<i64>,
    /// The other tables that it changes, and their ids.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<(String, u32)>,
}

impl Job {
    /// A new one, of the gateway that makes it.
    pub(crate) fn new<E: Engine>(
        db: &Database<E>,
        id: u64,
        kind: JobKind,
        table: &Table,
        index: Option<&Index>,
        statement: &str,
        owner: TxnId,
    ) -> Job {
        let now = db.engine().now();
        Job {
            id,
            kind,
            statement: statement.chars().take(1000).collect(),
            table: table.name.clone(),
            table_id: table.id,
            index: index.map(|index| index.name.clone()).unwrap_or_default(),
            index_id: index.map_or(0, |index| index.id),
            status: JobStatus::Running,
            wait_until: None,
            resume: None,
            backfilled: false,
            validated: false,
            rows: 0,
            rows_total: None,
            ends: None,
            owner: owner.to_string(),
            node: db.engine().node(),
            lease_until: now.latest.plus_ns(db.job_options().lease_ns).as_nanos(),
            owners: 1,
            cancel: false,
            error: None,
            created: now.latest.as_nanos(),
            steps: Vec::new(),
            back: Vec::new(),
            checks: Vec::new(),
            keys: Vec::new(),
            read_at: None,
            others: Vec::new(),
        }
    }

    /// Whether it changes descriptors as wholes.
    pub(crate) fn is_of_tables(&self) -> bool {
        matches!(self.kind, JobKind::AlterTable | JobKind::Truncate)
    }

    /// Whether it may be undone.
    pub(crate) fn is_undoable(&self) -> bool {
        match self.kind {
            JobKind::CreateIndex => true,
            JobKind::DropIndex | JobKind::CreateTable => false,
            JobKind::AlterTable | JobKind::Truncate => !self.back.is_empty(),
        }
    }

    /// Whether all rows are looked at before its last step.
    pub(crate) fn looks(&self) -> bool {
        !self.checks.is_empty() || !self.keys.is_empty()
    }

    /// Of a change of whole descriptors that is under way: what it does next.
    pub(crate) fn state(&self) -> Option<&'static str> {
        match self.kind {
            JobKind::Truncate if !self.has_ended() => Some("closed"),
            JobKind::AlterTable if self.status == JobStatus::RollingBack => Some("undoing"),
            JobKind::AlterTable if !self.has_ended() => {
                Some(if self.steps.len() == 1 && self.looks() { "validating" } else { "in steps" })
            }
            _ => None,
        }
    }

    /// Its tables, and their ids.
    pub(crate) fn tables(&self) -> impl Iterator<Item = (&str, u32)> {
        let others = self.others.iter().map(|(name, id)| (name.as_str(), *id));
        std::iter::once((self.table.as_str(), self.table_id)).chain(others)
    }

    /// Whether nothing is left to be done.
    pub fn has_ended(&self) -> bool {
        matches!(self.status, JobStatus::Done | JobStatus::Failed)
    }

    /// How much of the backfill is done, from 0 to 1.
    pub fn fraction(&self) -> f64 {
        match (self.backfilled, self.rows_total) {
            (true, _) => 1.0,
            (_, Some(total)) if total > 0 => (self.rows as f64 / total as f64).min(1.0),
            _ => 0.0,
        }
    }

    /// As stored; XX001 if the bytes are no sound job.
    pub fn from_bytes(bytes: &[u8]) -> Result<Job, SqlError> {
        serde_json::from_slice(bytes).map_err(|err| SqlError::new("XX001", format!("a job's row is damaged: {err}")))
    }

    /// As [`Job::from_bytes`] reads it.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a job has only strings and numbers")
    }

    /// Deletes the oldest of the jobs that have ended, so that no more than some stay.
    pub(crate) fn forgotten(catalog: &Catalog) -> Vec<Mutation> {
        let ended: Vec<u64> = catalog.jobs.values().filter(|job| job.has_ended()).map(|job| job.id).collect();
        let most = ended.len().saturating_sub(ENDED_MAX);
        ended[..most].iter().map(|id| Mutation { key: catalog::job_key(*id), value: None }).collect()
    }

    /// When the wait after the last step ends, if that is known.
    pub(crate) fn wait_ends(&self) -> Option<Timestamp> {
        self.wait_until.map(Timestamp::from_nanos)
    }
}
