//! Secondary indexes as the catalog has them.
//!
//! # The states of an index
//!
//! Gateways learn of a schema change at different times, so for a while two of them go by different
//! catalogs. Were one to write an index that the other does not know of, the other would leave entries behind, or
//! leave them out. So an index comes and goes in steps, as in F1 ("Online, Asynchronous Schema Change in F1",
//! VLDB 2013, section 3): each gateway is at most one step behind, and any two neighbouring states agree.
//!
//! ```text
//!             CREATE INDEX                                            backfill, validation
//!   absent <----------------> delete-only <----------------> write-only <----------------> public
//!             DROP INDEX, or a CREATE INDEX that failed: the same steps back
//! ```
//!
//! | state | entries are deleted | entries are written, uniqueness is kept | is read |
//! | --- | --- | --- | --- |
//! | delete-only | yes | no | no |
//! | write-only | yes | yes | no |
//! | public | yes | yes | yes |
//!
//! Neighbours: while some know nothing of the index and others delete, there is no entry that could be left behind.
//! While some only delete and others write, an entry may be missing (the backfill comes later, and reads all), but none
//! is left behind. While some only write and others read, all write.
//!
//! Checks have states of their own (`constraint.rs`), and columns that come or go are hidden on the way (`ddl/steps.rs`).
//!
//! # Why two gateways never disagree by more than one step
//!
//! 1. A gateway goes by a catalog up to a timestamp, `known_at` + lease: no transaction that it planned commits
//!    later, and no read without locks is at a later timestamp (see `catalog.rs`).
//! 2. After the commit of a step was answered, or somebody has read its effect, every catalog that is read
//!    afterwards has it. So a catalog without it was known before that moment, and ends a lease after it.
//! 3. The next step commits only once that end has surely passed. The job writes the end down as `wait_until`
//!    before it goes on, whoever runs it; the step asserts that it was written, and has passed, and that the
//!    descriptor is in the state before.
//!
//! So at each timestamp transactions go by the state of then, or by the one before it. What happens within one
//! transaction block is bounded by the least of its statements' ends.

use serde::{Deserialize, Serialize};

use super::{TABLE_PREFIX, Table};
use txn::Span;

/// How far an index has come, or has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum IndexState {
    /// Old entries are deleted, none is written.
    DeleteOnly,
    /// Entries are deleted and written, and none is read.
    WriteOnly,
    /// In use.
    Public,
}

impl IndexState {
    /// As people see it.
    pub fn name(self) -> &'static str {
        match self {
            IndexState::DeleteOnly => "delete-only",
            IndexState::WriteOnly => "write-only",
            IndexState::Public => "public",
        }
    }

    /// Whether new entries are written, and uniqueness is kept.
    pub fn writes(self) -> bool {
        self >= IndexState::WriteOnly
    }
}

/// A column of an index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexColumn {
    /// Its index in [`Table::columns`].
    pub column: usize,
    /// Whether larger values come first.
    pub desc: bool,
    /// Whether NULLs come before all values.
    pub nulls_first: bool,
}

/// An index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    /// Unique for ever, among tables and indexes.
    pub id: u32,
    /// Its name, unique among tables and indexes.
    pub name: String,
    /// Whether no two rows may agree in all its columns; NULLs never agree.
    pub unique: bool,
    /// Whether it was declared as a UNIQUE constraint.
    #[serde(default)]
    pub constraint: bool,
    /// What it is ordered by.
    pub columns: Vec<IndexColumn>,
    /// Columns whose values its entries have beside: their indexes in [`Table::columns`].
    #[serde(default)]
    pub storing: Vec<usize>,
    /// The SQL text of the condition of the rows that it has entries of.
    #[serde(default)]
    pub predicate: Option<String>,
    /// How far it has come.
    pub state: IndexState,
}

impl Index {
    /// All its entries.
    pub fn span(&self) -> Span {
        super::span_of(self.id)
    }

    /// What the keys of its entries begin with.
    pub fn key_prefix(&self) -> Vec<u8> {
        let mut key = Vec::with_capacity(32);
        key.push(TABLE_PREFIX);
        key.extend_from_slice(&self.id.to_be_bytes());
        key
    }

    /// The names of its columns, separated by commas.
    pub fn column_names(&self, table: &Table) -> String {
        let names: Vec<&str> = self.columns.iter().map(|part| table.columns[part.column].name.as_str()).collect();
        names.join(", ")
    }

    /// Whether the descriptor makes sense beside its table's.
    pub(super) fn is_sound(&self, table: &Table) -> bool {
        let columns = self.columns.iter().map(|part| part.column).chain(self.storing.iter().copied());
        !self.columns.is_empty() && columns.into_iter().all(|column| column < table.columns.len())
    }
}
