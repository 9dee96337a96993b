//! Savepoints: SAVEPOINT, ROLLBACK TO, RELEASE, and what an error leaves of a block.
//!
//! A savepoint is a place in the transaction's buffer of writes. Going back to it cuts the buffer
//! there; a statement that failed may have left some writes in it, and they go the same way. Locks
//! stay, those taken since the savepoint too: what was read under them was answered to the client, so
//! they are needed for the transaction to be serializable with those reads.
//!
//! ```text
//!   Open --SAVEPOINT a--> Open [a] --an error--> Failed, kept [a] --ROLLBACK TO a--> Open [a]
//!                            |                        |
//!                            |                        +--its locks are lost--> Failed, dead
//!                            +--an error that ends the transaction (40001)---> Failed, dead
//! ```
//!
//! Without a savepoint nothing can bring a failed block back, so its locks go at once.

use super::Session;
use super::block::{Block, Open, ReadOnly, aborted};
use super::run::tag;
use super::scope::Kept;
use crate::SqlError;
use crate::engine::{Engine, Transaction};
use crate::sink::Completion;

/// The most savepoints of a block.
const SAVEPOINTS_MAX: usize = 10_000;

/// A place to go back to.
#[derive(Debug)]
pub(super) struct Savepoint {
    name: String,
    /// Of the transaction's writes; 0 in a read-only block.
    mark: usize,
    /// The settings as they were.
    settings: Kept,
}

/// The savepoints of a block, the outermost first.
pub(super) type Savepoints = Vec<Savepoint>;

/// What an error left of a block.
#[derive(Debug)]
pub(super) enum Failed<E: Engine> {
    /// Its transaction has ended; the names of its savepoints.
    Dead(Vec<String>),
    /// Its transaction can go on from a savepoint.
    Open(Open<E>),
    /// The same of a read-only one.
    ReadOnly(ReadOnly),
}

fn names(savepoints: Savepoints) -> Vec<String> {
    savepoints.into_iter().map(|savepoint| savepoint.name).collect()
}

fn unknown(name: &str) -> SqlError {
    SqlError::new("3B001", format!("savepoint \"{name}\" does not exist"))
}

/// 40001: the transaction went with its locks, so that there is nothing to go back to.
fn lost() -> SqlError {
    SqlError::new("40001", "could not serialize access: the transaction was aborted")
        .detail("It has ended, with its locks, and cannot go on from a savepoint.")
        .hint("ROLLBACK, and retry the transaction from its start.")
}

fn find(savepoints: &Savepoints, name: &str) -> Result<usize, SqlError> {
    // The newest of that name.
    savepoints.iter().rposition(|savepoint| savepoint.name == name).ok_or_else(|| unknown(name))
}

impl<E: Engine> Block<E> {
    fn savepoints(&mut self) -> Option<&mut Savepoints> {
        match self {
            Block::Open(open) => Some(&mut open.savepoints),
            Block::ReadOnly(block) => Some(&mut block.savepoints),
            Block::Idle | Block::Failed(_) => None,
        }
    }

    /// A statement failed: the block fails with it. Its transaction is kept if it is whole and there
    /// is a savepoint to go back to.
    pub(super) async fn fail(&mut self) {
        let failed = match std::mem::replace(self, Block::Idle) {
            Block::Idle => return,
            Block::Open(open) if !open.savepoints.is_empty() && open.txn.can_go_on() => Failed::Open(open),
            Block::Open(Open { txn, savepoints, .. }) => {
                txn.rollback().await;
                Failed::Dead(names(savepoints))
            }
            Block::ReadOnly(block) if !block.savepoints.is_empty() => Failed::ReadOnly(block),
            Block::ReadOnly(_) => Failed::Dead(Vec::new()),
            Block::Failed(failed) => failed,
        };
        *self = Block::Failed(failed);
    }
}

impl<E: Engine> Session<E> {
    fn in_block(&self, what: &str) -> Result<(), SqlError> {
        match self.block {
            Block::Idle => Err(SqlError::new("25P01", format!("{what} can only be used in transaction blocks"))),
            _ => Ok(()),
        }
    }

    /// SAVEPOINT.
    pub(super) fn savepoint(&mut self, name: &str) -> Result<Completion, SqlError> {
        self.in_block("SAVEPOINT")?;
        let settings = self.scope.keep(&self.settings);
        let mark = if let Block::Open(open) = &self.block { open.txn.mark() } else { 0 };
        let savepoints = self.block.savepoints().ok_or_else(aborted)?;
        if savepoints.len() >= SAVEPOINTS_MAX {
            return Err(SqlError::new("54000", format!("a block has at most {SAVEPOINTS_MAX} savepoints"))
                .hint("RELEASE those that are no longer needed."));
        }
        savepoints.push(Savepoint { name: name.into(), mark, settings });
        Ok(tag("SAVEPOINT"))
    }

    /// RELEASE: forgets the savepoint and those after it, and keeps what was done since.
    pub(super) fn release(&mut self, name: &str) -> Result<Completion, SqlError> {
        self.in_block("RELEASE SAVEPOINT")?;
        let savepoints = self.block.savepoints().ok_or_else(aborted)?;
        let at = find(savepoints, name)?;
        savepoints.truncate(at);
        Ok(tag("RELEASE"))
    }

    /// ROLLBACK TO: also of a failed block, which goes on.
    pub(super) async fn rollback_to(&mut self, name: &str) -> Result<Completion, SqlError> {
        self.in_block("ROLLBACK TO SAVEPOINT")?;
        // Wounded meanwhile, or by the very error.
        let whole = match &self.block {
            Block::Open(open) | Block::Failed(Failed::Open(open)) => open.txn.can_go_on(),
            _ => true,
        };
        if !whole {
            self.block.fail().await;
            if let Block::Failed(Failed::Open(_)) = &self.block
                && let Block::Failed(Failed::Open(open)) = std::mem::replace(&mut self.block, Block::Idle)
            {
                open.txn.rollback().await;
                self.block = Block::Failed(Failed::Dead(names(open.savepoints)));
            }
        }
        let savepoints = match &self.block {
            Block::Open(Open { savepoints, .. }) | Block::Failed(Failed::Open(Open { savepoints, .. })) => savepoints,
            Block::ReadOnly(block) | Block::Failed(Failed::ReadOnly(block)) => &block.savepoints,
            Block::Failed(Failed::Dead(names)) => {
                return Err(if names.iter().any(|known| known == name) { lost() } else { unknown(name) });
            }
            Block::Idle => return Err(aborted()),
        };
        let at = find(savepoints, name)?;
        self.block = match std::mem::replace(&mut self.block, Block::Idle) {
            Block::Failed(Failed::Open(open)) => Block::Open(open),
            Block::Failed(Failed::ReadOnly(block)) => Block::ReadOnly(block),
            block => block,
        };
        if let Some(savepoints) = self.block.savepoints() {
            // It stays, and can be gone back to again.
            savepoints.truncate(at + 1);
            let Savepoint { mark, settings, .. } = &savepoints[at];
            self.scope.go_back(&mut self.settings, settings);
            let mark = *mark;
            if let Block::Open(open) = &mut self.block {
                open.txn.undo_to(mark);
            }
        }
        Ok(tag("ROLLBACK"))
    }
}
