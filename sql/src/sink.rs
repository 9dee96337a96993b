//! Where the results of statements go.

use std::future::Future;

use truetime::Timestamp;

use crate::SqlError;
use crate::engine::CommitInfo;
use crate::types::{DataType, Datum};

/// One column of a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnInfo {
    /// Its name, as PostgreSQL would choose it.
    pub name: String,
    /// Its type.
    pub ty: DataType,
}

/// How a statement ended that did not fail.
#[derive(Clone, Debug, Default)]
pub struct Completion {
    /// PostgreSQL's command tag, such as `INSERT 0 1`.
    pub tag: String,
    /// What it committed: `COMMIT`, and a statement outside a transaction block.
    pub commit: Option<CommitInfo>,
    /// The timestamp of a read without locks.
    pub read_ts: Option<Timestamp>,
    /// How long it took, in nanoseconds; 0, the caller fills it in.
    pub elapsed_ns: i64,
}

/// A remark that is not an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// `NOTICE` or `WARNING`.
    pub severity: &'static str,
    /// As for an error.
    pub sqlstate: &'static str,
    /// Lower case, without a full stop.
    pub message: String,
}

impl Notice {
    /// A `WARNING`.
    pub fn warning(sqlstate: &'static str, message: impl Into<String>) -> Notice {
        Notice { severity: "WARNING", sqlstate, message: message.into() }
    }

    /// A `NOTICE`.
    pub fn info(sqlstate: &'static str, message: impl Into<String>) -> Notice {
        Notice { severity: "NOTICE", sqlstate, message: message.into() }
    }
}

/// Receives the results. For each statement: `columns` once if it returns rows, then `rows` any
/// number of times, then `complete` once, unless it failed. An error of `columns` or `rows` stops
/// the statement, which then fails with it; their futures are the backpressure.
pub trait Sink: Send {
    /// The columns of the rows that follow.
    fn columns(&mut self, columns: Vec<ColumnInfo>) -> impl Future<Output = Result<(), SqlError>> + Send;
    /// Some rows, never none.
    fn rows(&mut self, rows: Vec<Vec<Datum>>) -> impl Future<Output = Result<(), SqlError>> + Send;
    /// The statement is done.
    fn complete(&mut self, completion: Completion);
    /// A remark.
    fn notice(&mut self, notice: Notice);
}
