//! Times that end: of a statement, and of a client that says nothing within a block.
//!
//! A statement is cut off where nothing is decided by it: while it reads, waits for locks, or waits for
//! its client to take rows. A commit that has begun is waited for, however long it takes, and so is a
//! schema change: its client is never left without knowing what came of it because of a timeout.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use super::Session;
use super::block::Block;
use super::savepoint::Failed;
use crate::SqlError;
use crate::engine::Engine;

/// When the present statement is to be over, on the engine's monotonic clock; never if none.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Deadline(Option<i64>);

impl Deadline {
    /// So many nanoseconds from now.
    pub fn of<E: Engine>(engine: &E, ns: Option<i64>) -> Deadline {
        Deadline(ns.map(|ns| engine.mono_ns().saturating_add(ns)))
    }
}

/// Work that may be given up: 57014 once the statement's time is over.
pub(super) async fn in_time<E, T, F>(
    engine: &E,
    Deadline(at_ns): Deadline,
    work: impl Future<Output = Result<T, F>>,
) -> Result<T, F>
where
    E: Engine,
    F: From<SqlError>,
{
    let Some(at_ns) = at_ns else { return work.await };
    let mut work = pin!(work);
    let mut end = pin!(engine.sleep((at_ns - engine.mono_ns()).max(0)));
    poll_fn(|context| match work.as_mut().poll(context) {
        Poll::Ready(result) => Poll::Ready(result),
        Poll::Pending => end
            .as_mut()
            .poll(context)
            .map(|()| Err(SqlError::new("57014", "canceling statement due to statement timeout").into())),
    })
    .await
}

impl<E: Engine> Session<E> {
    /// How long the client may say nothing now, in nanoseconds: `None` for as long as it likes. After that
    /// the front-end calls [`Session::end_idle`].
    pub fn idle_timeout_ns(&self) -> Option<i64> {
        match self.block {
            Block::Idle => None,
            _ => self.settings.timeout_ns("idle_in_transaction_session_timeout"),
        }
    }

    /// The client has said nothing for too long: its transaction is rolled back, and its session is over. The
    /// error is the last thing to be sent to it.
    pub async fn end_idle(&mut self) -> SqlError {
        if self.block.abandon().await {
            self.block = Block::Failed(Failed::Dead(Vec::new()));
        }
        SqlError::new("25P03", "terminating connection due to idle-in-transaction timeout")
    }
}
