//! Running plans: reads and writes of one transaction or snapshot, row by row.

mod check;
pub(crate) mod foreign;
pub(crate) mod index;
mod insert;
mod modify;
mod scan;
mod select;
mod skip;

use truetime::Timestamp;
use txn::client::ClientError;
use txn::types::TXN_BYTES_MAX;
use txn::{LockMode, LockPolicy, Mutation, ReadOp, ReadResult};

use crate::SqlError;
use crate::engine::{Engine, ReadBound, Transaction};
use crate::expr::{EvalContext, Expr, eval};
use crate::plan::Plan;
use crate::sink::{ColumnInfo, Sink};
use crate::types::Datum;
#[cfg(feature = "datafusion")]
pub(crate) use scan::{Found, Pages, RowScanner};

/// The most that a result holds while its transaction is not committed yet, in bytes.
const RESULT_BYTES_MAX: usize = 64 << 20;

/// Why a plan did not run: the second kind may be worth another try.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The statement is wrong.
    Sql(SqlError),
    /// The database could not.
    Client(ClientError),
    /// The plan's catalog does not hold at the timestamp read at; nothing was sent to the client.
    Stale,
}

impl Failure {
    /// Whether the whole transaction may be tried again.
    pub(crate) fn is_retryable(&self) -> bool {
        matches!(self, Failure::Client(ClientError::Aborted { retryable: true, .. }))
    }
}

impl From<SqlError> for Failure {
    fn from(err: SqlError) -> Failure {
        Failure::Sql(err)
    }
}

impl From<ClientError> for Failure {
    fn from(err: ClientError) -> Failure {
        Failure::Client(err)
    }
}

impl From<Failure> for SqlError {
    fn from(failure: Failure) -> SqlError {
        match failure {
            Failure::Sql(err) => err,
            Failure::Client(err) => err.into(),
            Failure::Stale => SqlError::new("40001", "could not serialize access: the schema has changed")
                .hint("Retry the transaction from its start."),
        }
    }
}

/// Where a plan reads.
pub(crate) enum Reader<'a, E: Engine> {
    /// A read-write transaction.
    Txn(&'a mut E::Txn),
    /// Without locks, all at one timestamp: the first read says which.
    Snapshot {
        /// The database.
        engine: &'a E,
        /// When; after the first read, `At`.
        bound: ReadBound,
        /// The plan may be used up to this timestamp.
        valid_until: Timestamp,
    },
    /// The rows of a system table, which are there already.
    Rows(Vec<Vec<Datum>>),
}

impl<E: Engine> Reader<'_, E> {
    /// Reads. `more`: the statement will read something else, too.
    pub(crate) async fn read(
        &mut self,
        ops: Vec<ReadOp>,
        mode: LockMode,
        more: bool,
    ) -> Result<Vec<ReadResult>, Failure> {
        self.read_with(ops, mode, LockPolicy::Wait, more).await
    }

    /// The same. `policy`: what to do about locks in its way.
    async fn read_with(
        &mut self,
        ops: Vec<ReadOp>,
        mode: LockMode,
        policy: LockPolicy,
        more: bool,
    ) -> Result<Vec<ReadResult>, Failure> {
        let count = ops.len();
        let results = match self {
            Reader::Txn(txn) => txn.read_with(ops, mode, policy).await?,
            Reader::Rows(_) => return Err(SqlError::new("XX000", "a system table has no keys").into()),
            Reader::Snapshot { engine, bound, valid_until } => {
                // A group alone may choose a timestamp that is the present for its own data only.
                if *bound == ReadBound::Strong && more {
                    *bound = ReadBound::At(engine.present()?);
                }
                if matches!(bound, ReadBound::At(at) if *at > *valid_until) {
                    return Err(Failure::Stale);
                }
                let (at, results) = engine.snapshot(*bound, ops).await?;
                if at > *valid_until {
                    return Err(Failure::Stale);
                }
                *bound = ReadBound::At(at);
                results
            }
        };
        if results.len() != count {
            return Err(SqlError::new("XX000", format!("{} results for {count} reads", results.len())).into());
        }
        Ok(results)
    }

    /// What of the transaction's writes is there so far, to be kept by [`Reader::undo_to`].
    pub(crate) fn mark(&self) -> usize {
        match self {
            Reader::Txn(txn) => txn.mark(),
            _ => 0,
        }
    }

    /// Takes back what was written since.
    pub(crate) fn undo_to(&mut self, mark: usize) {
        if let Reader::Txn(txn) = self {
            txn.undo_to(mark);
        }
    }

    /// The timestamp read at, once something was.
    pub(crate) fn read_ts(&self) -> Option<Timestamp> {
        match self {
            Reader::Snapshot { bound: ReadBound::At(at), .. } => Some(*at),
            _ => None,
        }
    }

    /// Buffers the writes of a statement: 54000 if they are more than a transaction may have, 25006
    /// without a transaction.
    pub(crate) fn write(&mut self, mutations: Vec<Mutation>) -> Result<(), Failure> {
        let bytes: usize =
            mutations.iter().map(|m| m.key.len() + m.value.as_ref().map_or(0, |value| value.len())).sum();
        if bytes > TXN_BYTES_MAX {
            return Err(SqlError::new("54000", format!("the statement writes {bytes} bytes"))
                .detail(format!("A transaction writes at most {TXN_BYTES_MAX} bytes."))
                .into());
        }
        match self {
            Reader::Txn(txn) => Ok(txn.write(mutations)?),
            Reader::Snapshot { .. } | Reader::Rows(_) => {
                Err(SqlError::new("25006", "cannot write in a read-only transaction").into())
            }
        }
    }
}

/// Where the rows go.
pub(crate) enum Output<'a, S: Sink> {
    /// To the client at once; the columns before the first rows.
    Stream {
        /// The client.
        sink: &'a mut S,
        /// Until they were sent.
        columns: Option<Vec<ColumnInfo>>,
    },
    /// Kept until the transaction has committed.
    Buffer {
        /// The rows so far.
        rows: Vec<Vec<Datum>>,
        /// Their size.
        bytes: usize,
    },
    /// Counted and forgotten, for EXPLAIN ANALYZE.
    Discard,
}

impl<S: Sink> Output<'_, S> {
    /// An empty buffer.
    pub(crate) fn buffer() -> Self {
        Output::Buffer { rows: Vec::new(), bytes: 0 }
    }

    pub(crate) async fn push(&mut self, batch: Vec<Vec<Datum>>) -> Result<(), Failure> {
        if batch.is_empty() {
            return Ok(());
        }
        match self {
            Output::Stream { sink, columns } => {
                if let Some(columns) = columns.take() {
                    sink.columns(columns).await?;
                }
                sink.rows(batch).await?;
            }
            Output::Buffer { rows, bytes } => {
                *bytes += batch.iter().flatten().map(Datum::size_bytes).sum::<usize>();
                if *bytes > RESULT_BYTES_MAX {
                    return Err(SqlError::new("54000", "the result is too big to keep until the commit")
                        .detail(format!("It may have {RESULT_BYTES_MAX} bytes."))
                        .hint("Run the statement in a transaction block, or return fewer rows.")
                        .into());
                }
                rows.extend(batch);
            }
            Output::Discard => {}
        }
        Ok(())
    }

    /// Streams: sends the columns if there was no row.
    pub(crate) async fn finish(self) -> Result<(), SqlError> {
        match self {
            Output::Stream { sink, columns: Some(columns) } if !columns.is_empty() => sink.columns(columns).await,
            _ => Ok(()),
        }
    }

    /// Buffers: nothing was kept.
    pub(crate) fn forget(&mut self) {
        if let Output::Buffer { rows, bytes } = self {
            rows.clear();
            *bytes = 0;
        }
    }

    /// Buffers: what was kept.
    pub(crate) fn into_rows(self) -> Vec<Vec<Datum>> {
        match self {
            Output::Buffer { rows, .. } => rows,
            _ => Vec::new(),
        }
    }
}

/// What a plan did.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    /// Rows returned, or changed.
    pub(crate) rows: u64,
    /// Rows read.
    pub(crate) scanned: u64,
    /// Their bytes, keys and values.
    pub(crate) bytes: u64,
}

/// The bytes of stored rows.
fn bytes_of(rows: &[txn::Row]) -> u64 {
    rows.iter().map(|row| (row.key.len() + row.value.len()) as u64).sum()
}

/// Runs a plan.
pub(crate) async fn run<E: Engine, S: Sink>(
    plan: &Plan,
    context: &EvalContext<'_>,
    reader: &mut Reader<'_, E>,
    output: &mut Output<'_, S>,
) -> Result<Counts, Failure> {
    match plan {
        Plan::Select(plan) => select::run(plan, context, reader, output).await,
        Plan::Query(query) => crate::select::run(query, context, reader, output).await,
        Plan::Insert(plan) => insert::run(plan, context, reader, output).await,
        Plan::Update(plan) => modify::update(plan, context, reader, output).await,
        Plan::Delete(plan) => modify::delete(plan, context, reader, output).await,
    }
}

/// The rows of the query that a statement writes what it finds of, all of them, and how many were read.
async fn found<E: Engine, S: Sink>(
    source: &Plan,
    context: &EvalContext<'_>,
    reader: &mut Reader<'_, E>,
) -> Result<(Vec<Vec<Datum>>, Counts), Failure> {
    let mut output = Output::<S>::buffer();
    let counts = match source {
        Plan::Select(plan) => select::run(plan, context, reader, &mut output).await?,
        Plan::Query(query) => crate::select::run(query, context, reader, &mut output).await?,
        other => panic!("the rows of a statement come from {other:?}"),
    };
    Ok((output.into_rows(), counts))
}

/// The command's tag.
pub(crate) fn tag(plan: &Plan, counts: &Counts) -> String {
    match plan {
        Plan::Select(_) | Plan::Query(_) => format!("SELECT {}", counts.rows),
        Plan::Insert(_) => format!("INSERT 0 {}", counts.rows),
        Plan::Update(_) => format!("UPDATE {}", counts.rows),
        Plan::Delete(_) => format!("DELETE {}", counts.rows),
    }
}

fn project(exprs: &[Expr], row: &[Datum], context: &EvalContext<'_>) -> Result<Vec<Datum>, SqlError> {
    exprs.iter().map(|expr| eval(expr, row, context)).collect()
}

/// Values as a key of a set: equal values have equal bytes, NULLs too.
fn set_key(row: &[Datum]) -> Vec<u8> {
    let mut key = Vec::new();
    for datum in row {
        key.push(u8::from(!datum.is_null()));
        if !datum.is_null() {
            crate::row::encode_key_datum(&mut key, datum, false);
        }
    }
    key
}
