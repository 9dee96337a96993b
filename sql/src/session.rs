//! One client's session: the transaction it is in, its settings and prepared statements.
//!
//! ```text
//!            BEGIN                       an error
//!   Idle ------------> Open, ReadOnly <-------------> Failed
//!     ^                      |          ROLLBACK TO      |
//!     +---- COMMIT, ROLLBACK +---- COMMIT, ROLLBACK -----+  (both roll back)
//! ```
//!
//! Outside a block each statement commits on its own, also where several come in one text: unlike
//! PostgreSQL, where they would be one transaction. A statement of its own that loses to another
//! transaction is tried again with its first age, as long as the client has seen none of its rows. In
//! a block the client must do that (40001), and its locks go at the first error, unless there is a
//! savepoint to go back to (`savepoint.rs`).

mod alter;
mod block;
mod database;
mod explain;
mod index;
mod prepared;
mod run;
mod savepoint;
mod scope;
mod show;
mod table;
mod tally;
mod timeout;
mod touched;
mod view;

use std::collections::BTreeMap;
use std::sync::Arc;

use truetime::Timestamp;
use txn::TxnId;

use crate::SqlError;
use crate::engine::{CommitInfo, Engine};
use crate::error::Ambiguous;
use crate::parse::{self, Begin, Statement};
use crate::plan::Planned;
use crate::sequence::Drawn;
use crate::settings::Settings;
use crate::sink::{ColumnInfo, Sink};
use crate::system::Seen;
use crate::types::{DataType, Datum};
use block::Block;
use database::Cached;
pub use database::Database;
use scope::Scope;
use timeout::Deadline;

/// The most prepared statements of a session.
pub const PREPARED_MAX: usize = 4096;
/// The most bytes of their texts.
pub const PREPARED_BYTES_MAX: usize = 16 << 20;
/// The most statements of one text.
pub const STATEMENTS_MAX: usize = 10_000;

/// Where a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionState {
    /// Outside a transaction block.
    Idle,
    /// In a read-write transaction.
    Open {
        /// Its name.
        txn: TxnId,
    },
    /// In a read-only transaction.
    ReadOnly {
        /// Its timestamp, once it has one.
        read_ts: Option<Timestamp>,
    },
    /// In a transaction block after an error: only COMMIT and ROLLBACK end it, and both roll back.
    Failed,
}

/// What a prepared statement takes and returns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PreparedInfo {
    /// The types of its parameters.
    pub parameters: Vec<DataType>,
    /// Its columns; none if it returns no rows.
    pub columns: Vec<ColumnInfo>,
}

/// One client's session.
#[derive(Debug)]
pub struct Session<E: Engine> {
    db: Database<E>,
    block: Block<E>,
    settings: Settings,
    prepared: BTreeMap<String, (usize, Cached)>,
    /// Of the texts of all that are prepared.
    prepared_bytes: usize,
    /// The types that PREPARE said.
    declared: BTreeMap<String, Vec<DataType>>,
    /// The settings around those of the present block.
    scope: Scope,
    /// When the present statement is to be over.
    deadline: Deadline,
    /// What the present statement has come to so far.
    tally: Seen,
    /// How the present block was begun: for AND CHAIN.
    began: Begin,
    last_commit: Option<CommitInfo>,
    last_read_ts: Option<Timestamp>,
    last_ambiguous: Option<Ambiguous>,
    /// The numbers that it has drawn from sequences.
    drawn: Arc<Drawn>,
}

impl<E: Engine> Session<E> {
    fn new(db: Database<E>) -> Session<E> {
        Session {
            db,
            block: Block::Idle,
            settings: Settings::default(),
            prepared: BTreeMap::new(),
            prepared_bytes: 0,
            declared: BTreeMap::new(),
            scope: Scope::default(),
            deadline: Deadline::default(),
            tally: Seen::default(),
            began: Begin::default(),
            last_commit: None,
            last_read_ts: None,
            last_ambiguous: None,
            drawn: Arc::default(),
        }
    }

    /// Runs a text of any number of statements; with parameters, of one. The first error ends it.
    /// What was sent to the sink before stays sent.
    pub async fn execute<S: Sink>(&mut self, sql: &str, params: &[Datum], sink: &mut S) -> Result<(), SqlError> {
        let result = self.execute_text(sql, params, sink).await;
        self.after(result).await
    }

    async fn execute_text<S: Sink>(&mut self, sql: &str, params: &[Datum], sink: &mut S) -> Result<(), SqlError> {
        if let Some(cached) = self.db.cached(sql) {
            let planned = self.statement(&cached, params, sink).await?;
            self.recache(sql, cached, planned);
            return Ok(());
        }
        let mut statements = parse::parse_all(sql)?;
        if statements.len() > STATEMENTS_MAX {
            return Err(SqlError::new("54000", format!("{} statements are too many", statements.len())));
        }
        if statements.len() == 1 {
            let cached = Cached::new(statements.remove(0));
            let planned = self.statement(&cached, params, sink).await?;
            self.recache(sql, cached, planned);
            return Ok(());
        }
        if !params.is_empty() {
            return Err(SqlError::syntax("cannot give parameters to several statements at once"));
        }
        for statement in statements {
            let cached = Cached::new(statement);
            self.statement(&cached, &[], sink).await?;
        }
        Ok(())
    }

    fn recache(&self, sql: &str, mut cached: Cached, planned: Option<Arc<Planned>>) {
        let same = match (&cached.planned, &planned) {
            (Some(old), Some(new)) => Arc::ptr_eq(old, new),
            _ => false,
        };
        if planned.is_some() && !same {
            cached.planned = planned;
            self.db.cache(sql, cached);
        }
    }

    /// Parses and plans one statement under a name; the name `""` is replaced without a word.
    pub async fn prepare(&mut self, name: &str, sql: &str) -> Result<PreparedInfo, SqlError> {
        let result = self.prepare_text(name, sql).await;
        self.after(result).await
    }

    async fn prepare_text(&mut self, name: &str, sql: &str) -> Result<PreparedInfo, SqlError> {
        let bytes = name.len() + sql.len();
        self.check_prepared(name, bytes)?;
        let mut cached = match self.db.cached(sql) {
            Some(cached) => cached,
            None => {
                let mut statements = parse::parse_all(sql)?;
                match statements.len() {
                    1 => Cached::new(statements.remove(0)),
                    0 => return Err(SqlError::syntax("cannot prepare an empty statement")),
                    _ => return Err(SqlError::syntax("cannot insert multiple commands into a prepared statement")),
                }
            }
        };
        if matches!(self.block, Block::Failed(_)) && !cached.statement.ends_a_failure() {
            return Err(block::aborted());
        }
        let info = match &*cached.statement {
            statement if statement.is_query() => {
                let (planned, _) = self.plan(&cached).await?;
                let info = PreparedInfo { parameters: planned.params.clone(), columns: planned.columns.clone() };
                cached.planned = Some(planned);
                info
            }
            Statement::Explain { statement, .. } => {
                let inner = Cached::inner(statement);
                PreparedInfo { parameters: self.plan(&inner).await?.0.params.clone(), columns: explain::columns() }
            }
            Statement::Show(show) => PreparedInfo { parameters: Vec::new(), columns: show::static_columns(show) },
            _ => PreparedInfo::default(),
        };
        self.keep_prepared(name, bytes, cached);
        Ok(info)
    }

    /// Whether another statement may be prepared.
    fn check_prepared(&self, name: &str, bytes: usize) -> Result<(), SqlError> {
        if !name.is_empty() && self.prepared.contains_key(name) {
            return Err(SqlError::new("42P05", format!("prepared statement \"{name}\" already exists")));
        }
        if self.prepared.len() >= PREPARED_MAX {
            return Err(SqlError::new("53400", format!("a session has at most {PREPARED_MAX} prepared statements")));
        }
        let replaced = self.prepared.get(name).map_or(0, |(bytes, _)| *bytes);
        if self.prepared_bytes - replaced + bytes > PREPARED_BYTES_MAX {
            let message = format!("a session's prepared statements have at most {PREPARED_BYTES_MAX} bytes");
            return Err(SqlError::new("53400", message).hint("Close those that are no longer needed."));
        }
        Ok(())
    }

    fn keep_prepared(&mut self, name: &str, bytes: usize, cached: Cached) {
        self.close_prepared(name);
        self.prepared_bytes += bytes;
        self.prepared.insert(name.to_string(), (bytes, cached));
    }

    /// Runs a prepared statement. 26000 if there is none of that name.
    pub async fn execute_prepared<S: Sink>(
        &mut self,
        name: &str,
        params: &[Datum],
        sink: &mut S,
    ) -> Result<(), SqlError> {
        let result = self.execute_cached(name, params, sink).await;
        self.after(result).await
    }

    async fn execute_cached<S: Sink>(&mut self, name: &str, params: &[Datum], sink: &mut S) -> Result<(), SqlError> {
        let cached = self
            .prepared
            .get(name)
            .map(|(_, cached)| cached.clone())
            .ok_or_else(|| SqlError::new("26000", format!("prepared statement \"{name}\" does not exist")))?;
        let planned = self.statement(&cached, params, sink).await?;
        if let (Some(planned), Some(entry)) = (planned, self.prepared.get_mut(name)) {
            entry.1.planned = Some(planned);
        }
        Ok(())
    }

    /// Forgets a prepared statement, if there is one.
    pub fn close_prepared(&mut self, name: &str) {
        if let Some((bytes, _)) = self.prepared.remove(name) {
            self.prepared_bytes -= bytes;
            self.declared.remove(name);
        }
    }

    /// Where the session stands.
    pub fn state(&self) -> SessionState {
        self.block.state()
    }

    /// The last commit.
    pub fn last_commit(&self) -> Option<&CommitInfo> {
        self.last_commit.as_ref()
    }

    /// Ends the session: an open transaction is rolled back.
    pub async fn close(mut self) {
        self.block.abandon().await;
    }

    /// After any error a block is failed.
    async fn after<T>(&mut self, result: Result<T, SqlError>) -> Result<T, SqlError> {
        if let Err(err) = &result {
            if let Some(ambiguous) = &err.ambiguous {
                self.last_ambiguous = Some((**ambiguous).clone());
            }
            self.block.fail().await;
        }
        result
    }
}
