//! Transaction blocks: BEGIN, COMMIT, ROLLBACK, and the next one by AND CHAIN.

use std::sync::{Arc, OnceLock};

use truetime::Timestamp;

use super::run::tag;
use super::savepoint::{Failed, Savepoints};
use super::touched::Touched;
use super::{Session, SessionState};
use crate::SqlError;
use crate::catalog::Catalog;
use crate::engine::{Engine, ReadBound, Transaction};
use crate::parse::{Begin, TimeExpr};
use crate::sink::{Completion, Notice, Sink};

/// How far in the future a read may be, in nanoseconds: it waits until then.
const FUTURE_NS_MAX: i64 = 60_000_000_000;

/// The transaction block that a session is in.
#[derive(Debug)]
pub(super) enum Block<E: Engine> {
    Idle,
    Open(Open<E>),
    ReadOnly(ReadOnly),
    Failed(Failed<E>),
}

pub(super) struct Open<E: Engine> {
    pub(super) txn: E::Txn,
    /// `now()` in all its statements.
    pub(super) now: Timestamp,
    /// The tables it touched: they must still be there when it commits.
    pub(super) touched: Touched,
    pub(super) savepoints: Savepoints,
}

impl<E: Engine> std::fmt::Debug for Open<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Open").field("txn", &self.txn.id()).finish_non_exhaustive()
    }
}

#[derive(Debug)]
pub(super) struct ReadOnly {
    /// `Strong` until the first read has chosen.
    pub(super) bound: ReadBound,
    pub(super) now: Timestamp,
    /// The tables as of its timestamp, once a statement had to read them.
    pub(super) catalog: OnceLock<Arc<Catalog>>,
    pub(super) savepoints: Savepoints,
}

impl ReadOnly {
    pub(super) fn new(bound: ReadBound, now: Timestamp) -> ReadOnly {
        ReadOnly { bound, now, catalog: OnceLock::new(), savepoints: Vec::new() }
    }
}

/// 25P02.
pub(super) fn aborted() -> SqlError {
    SqlError::new("25P02", "current transaction is aborted, commands ignored until end of transaction block")
}

impl<E: Engine> Block<E> {
    pub(super) fn state(&self) -> SessionState {
        match self {
            Block::Idle => SessionState::Idle,
            Block::Open(open) => SessionState::Open { txn: open.txn.id() },
            Block::ReadOnly(block) => SessionState::ReadOnly {
                read_ts: match block.bound {
                    ReadBound::At(at) => Some(at),
                    _ => None,
                },
            },
            Block::Failed(_) => SessionState::Failed,
        }
    }

    /// Leaves the block, giving its transaction up. Whether there was a block.
    pub(super) async fn abandon(&mut self) -> bool {
        match std::mem::replace(self, Block::Idle) {
            Block::Idle => false,
            Block::Open(open) | Block::Failed(Failed::Open(open)) => {
                open.txn.rollback().await;
                true
            }
            Block::ReadOnly(_) | Block::Failed(_) => true,
        }
    }
}

impl<E: Engine> Session<E> {
    /// The timestamp that a time means now: 22023 if it is far in the future.
    pub(super) fn timestamp(&self, time: TimeExpr) -> Result<Timestamp, SqlError> {
        let latest = self.db.engine().now().latest;
        match time {
            // A clock that is not trusted does not know when that was.
            TimeExpr::Ago(ns) => Ok(self.db.engine().present()?.minus_ns(ns)),
            TimeExpr::At(at) if at > latest.plus_ns(FUTURE_NS_MAX) => {
                Err(SqlError::new("22023", format!("cannot read at {at}, which is in the future"))
                    .detail(format!("It is about {latest} now.")))
            }
            TimeExpr::At(at) => Ok(at),
        }
    }

    pub(super) fn begin<S: Sink>(&mut self, begin: &Begin, sink: &mut S) -> Result<Completion, SqlError> {
        let done = tag(if begin.start { "START TRANSACTION" } else { "BEGIN" });
        match self.block {
            Block::Failed(_) => return Err(aborted()),
            Block::Open(_) | Block::ReadOnly(_) => {
                sink.notice(Notice::warning("25001", "there is already a transaction in progress"));
                return Ok(done);
            }
            Block::Idle => {}
        }
        if begin.weaker {
            sink.notice(Notice::info("00000", "the isolation level is always serializable"));
        }
        let now = self.db.engine().now().latest;
        let time = begin.as_of.or(self.settings.read_time());
        let read_only = begin.read_only.unwrap_or(self.settings.read_only() || time.is_some());
        if !read_only && time.is_some() {
            return Err(SqlError::new("25006", "cannot begin a read-write transaction while read_timestamp is set")
                .hint("SET read_timestamp = DEFAULT brings the session back to the present."));
        }
        self.began = begin.clone();
        if read_only {
            let bound = match time {
                Some(time) => ReadBound::At(self.timestamp(time)?),
                None => ReadBound::Strong,
            };
            self.block = Block::ReadOnly(ReadOnly::new(bound, now));
        } else {
            let (txn, touched, savepoints) = (self.db.engine().begin(None), Touched::default(), Vec::new());
            self.block = Block::Open(Open { txn, now, touched, savepoints });
        }
        Ok(done)
    }

    /// SET TRANSACTION: of a block that has not read yet.
    pub(super) fn set_transaction<S: Sink>(&mut self, modes: &Begin, sink: &mut S) -> Result<Completion, SqlError> {
        let pristine = match &self.block {
            Block::Open(open) => open.touched.is_empty() && open.savepoints.is_empty(),
            _ => false,
        };
        match (&self.block, modes.read_only) {
            (Block::Idle, _) => {
                sink.notice(Notice::warning("25P01", "SET TRANSACTION can only be used in transaction blocks"));
            }
            (Block::Open(_), Some(true)) if pristine => {
                // Nothing was asked of its transaction, so that no group knows of it.
                self.block = Block::Idle;
                self.begin(&Begin { read_only: Some(true), ..modes.clone() }, sink)?;
            }
            (Block::Open(_), Some(true)) => {
                return Err(SqlError::unsupported("SET TRANSACTION READ ONLY after a statement of the block"));
            }
            (Block::ReadOnly(_), Some(false)) => {
                return Err(SqlError::new("25001", "transaction read-write mode must be set before any query"));
            }
            _ => {}
        }
        Ok(tag("SET"))
    }

    /// AND CHAIN: 25P01 outside of a block.
    fn may_chain(&self, what: &str, chain: bool) -> Result<(), SqlError> {
        match self.block {
            Block::Idle if chain => {
                Err(SqlError::new("25P01", format!("{what} AND CHAIN can only be used in transaction blocks")))
            }
            _ => Ok(()),
        }
    }

    pub(super) async fn commit<S: Sink>(&mut self, chain: bool, sink: &mut S) -> Result<Completion, SqlError> {
        self.may_chain("COMMIT", chain)?;
        let result = self.commit_block(sink).await;
        let committed = result.as_ref().is_ok_and(|done| done.tag == "COMMIT");
        self.scope.end(&mut self.settings, committed);
        if chain && result.is_ok() {
            self.begin(&self.began.clone(), sink)?;
        }
        result
    }

    async fn commit_block<S: Sink>(&mut self, sink: &mut S) -> Result<Completion, SqlError> {
        let mut done = tag("COMMIT");
        match std::mem::replace(&mut self.block, Block::Idle) {
            Block::Idle => sink.notice(Notice::warning("25P01", "there is no transaction in progress")),
            Block::Failed(failed) => {
                self.block = Block::Failed(failed);
                self.block.abandon().await;
                done.tag = "ROLLBACK".into();
            }
            Block::ReadOnly(block) => {
                if let ReadBound::At(at) = block.bound {
                    done.read_ts = Some(at);
                    self.last_read_ts = Some(at);
                }
            }
            Block::Open(open) => {
                let deadline = match open.touched.deadline(&self.db).await {
                    Ok(deadline) => deadline,
                    Err(err) => {
                        open.txn.rollback().await;
                        return Err(err);
                    }
                };
                match open.txn.commit(deadline).await {
                    Ok(info) => {
                        self.committed(&info);
                        done.commit = Some(info);
                    }
                    Err(err) => return Err(err.into()),
                }
            }
        }
        Ok(done)
    }

    pub(super) async fn rollback<S: Sink>(&mut self, chain: bool, sink: &mut S) -> Result<Completion, SqlError> {
        self.may_chain("ROLLBACK", chain)?;
        if !self.block.abandon().await {
            sink.notice(Notice::warning("25P01", "there is no transaction in progress"));
        }
        self.scope.end(&mut self.settings, false);
        if chain {
            self.begin(&self.began.clone(), sink)?;
        }
        Ok(tag("ROLLBACK"))
    }
}
