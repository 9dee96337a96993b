//! Between the scans of a plan and the session that reads for them.

use std::collections::BTreeMap;
use std::task::Poll;

use datafusion::arrow::record_batch::RecordBatch;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use futures::channel::{mpsc, oneshot};
use futures::{SinkExt, StreamExt};
use txn::{LockMode, Row};

use super::guard::guarded;
use super::{batches, errors};
use crate::SqlError;
use crate::engine::Engine;
use crate::short::{Counts, Failure, Output, Reader, Scanner};
use crate::sink::Sink;
use crate::system::SystemRows;
use crate::types::DataType;

/// The most requests that wait for the session: a plan's scans run one after the other, or a few
/// side by side under a UNION.
const REQUESTS_MAX: usize = 16;

/// Which tables are read with which locks; the others are shared.
#[derive(Clone, Debug, Default)]
pub(super) struct Locks(BTreeMap<u32, LockMode>);

impl Locks {
    /// The stronger of what was asked for.
    pub(super) fn add(&mut self, table: u32, mode: LockMode) {
        let known = self.0.entry(table).or_insert(mode);
        *known = (*known).max(mode);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn of(&self, table: u32) -> LockMode {
        self.0.get(&table).copied().unwrap_or(LockMode::Shared)
    }
}

/// The next page of a scan, please. The scanner travels with it and comes back.
pub(super) struct Request {
    scanner: Scanner,
    reply: oneshot::Sender<(Scanner, Option<Vec<Row>>)>,
}

/// What the scans of one run ask through.
pub(super) struct Handle {
    requests: mpsc::Sender<Request>,
    /// With which locks they read.
    pub(super) locks: Locks,
    /// The rows of system tables.
    pub(super) system: SystemRows,
}

/// A channel for one run.
pub(super) fn open(locks: Locks, system: SystemRows) -> (Handle, mpsc::Receiver<Request>) {
    let (requests, receiver) = mpsc::channel(REQUESTS_MAX);
    (Handle { requests, locks, system }, receiver)
}

impl Handle {
    /// The next page, and the scanner for the one after it; no page at the end.
    pub(super) async fn next(&self, scanner: Scanner) -> Result<(Scanner, Option<Vec<Row>>), DataFusionError> {
        // The session hears of a failed read first, and drops the plan: nobody sees this error.
        let gone = || DataFusionError::Execution("the session stopped reading".into());
        let (reply, answer) = oneshot::channel();
        self.requests.clone().send(Request { scanner, reply }).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())
    }
}

enum Event {
    Request(Request),
    Batch(Option<Result<RecordBatch, DataFusionError>>),
    Panic(SqlError),
}

/// Polls the result and serves the scans, until the result ends or something fails.
pub(super) async fn drive<E: Engine, S: Sink>(
    mut stream: SendableRecordBatchStream,
    mut requests: mpsc::Receiver<Request>,
    columns: &[DataType],
    reader: &mut Reader<'_, E>,
    output: &mut Output<'_, S>,
) -> Result<Counts, Failure> {
    let mut counts = Counts::default();
    loop {
        let event = std::future::poll_fn(|context| {
            if let Poll::Ready(Some(request)) = requests.poll_next_unpin(context) {
                return Poll::Ready(Event::Request(request));
            }
            match guarded(|| stream.as_mut().poll_next(context)) {
                Err(err) => Poll::Ready(Event::Panic(err)),
                Ok(Poll::Ready(batch)) => Poll::Ready(Event::Batch(batch)),
                Ok(Poll::Pending) => match requests.poll_next_unpin(context) {
                    Poll::Ready(Some(request)) => Poll::Ready(Event::Request(request)),
                    _ => Poll::Pending,
                },
            }
        });
        match event.await {
            Event::Request(Request { mut scanner, reply }) => {
                // To its end, whatever becomes of the scan: a transaction's read is never dropped halfway.
                let page = scanner.next(reader).await?;
                for row in page.iter().flatten() {
                    counts.scanned += 1;
                    counts.bytes += (row.key.len() + row.value.len()) as u64;
                }
                // A scan that is no longer wanted has dropped its end.
                let _ = reply.send((scanner, page));
            }
            Event::Batch(None) => return Ok(counts),
            Event::Batch(Some(batch)) => {
                let rows = batches::rows(&batch.map_err(errors::sql)?, columns)?;
                counts.rows += rows.len() as u64;
                output.push(rows).await?;
            }
            Event::Panic(err) => return Err(err.into()),
        }
    }
}
