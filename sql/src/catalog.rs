//! The catalog: which tables there are, kept as rows of their own under system keys.
//!
//! Keys start with one byte: `0x00` system, `0x10` tables. Group 0 holds the system span. Below it:
//!
//! ```text
//!   00 "id"              the next id of a table,      "17"
//!                        index or job
//!   00 "version"         raised by every change       "5"
//!   00 "table/" NAME     a table's descriptor         {"id":16,"name":"accounts",...}
//!   00 "index/" NAME     an index's table             accounts
//!   00 "job/" NUMBER     a schema change under way    see `jobs`
//!   00 "view/" NAME      a view's descriptor          {"id":17,"name":"rich","query":"SELECT ..",...}
//!   00 "sequence/" NAME  a sequence                   see `catalog/sequence.rs`
//! ```
//!
//! A schema change is an ordinary transaction that writes `version`, so the commit timestamp of
//! that row is the time of the last change: a catalog whose `changed_at` is at or below `t`, read at
//! or after `t`, is the catalog at `t`.
//!
//! Each gateway caches a catalog, and may use it until [`CATALOG_LEASE_NS`] after it began to read it.
//! What follows: a new table needs no wait (a gateway that does not know a name reads the catalog again
//! before it says so), and a dropped table is in no gateway's use once the lease after the answer to the
//! drop's commit has surely passed, which is when `DROP TABLE` answers: a read that began after the
//! commit's answer saw the drop, and one that began before it has run out. The lease is one of timestamps,
//! and not of what a gateway happens to do in time: a transaction carries the end of its catalog's lease
//! to its commit as a deadline, and the group that chooses its timestamp keeps it; a read without locks
//! looks at the timestamp that it was given ([`Catalog::valid_until`]).
//!
//! The rows of a dropped table stay where they are: reads at past timestamps still need them, and
//! ids are never reused. A later issue removes them after the retention.

pub mod constraint;
mod foreign;
mod generated;
mod index;
pub mod sequence;
mod view;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use truetime::{Interval, Sabotage, Timestamp};
use txn::{Key, ReadOp, Row, Span};

use crate::SqlError;
use crate::jobs::Job;
use crate::types::{DataType, TypeModifier};

pub use constraint::{Check, CheckKind, CheckState, Missing};
pub use foreign::{Action, Foreign, ForeignKey, Way};
pub use generated::{Generated, HIDDEN_KEY};
pub use index::{Index, IndexColumn, IndexState};
pub use sequence::Sequence;
pub use view::{View, ViewColumn};

/// How long after it was read a cached catalog may be used, in nanoseconds.
pub const CATALOG_LEASE_NS: i64 = 2_000_000_000;
/// The most columns of a table.
pub const TABLE_COLUMNS_MAX: usize = 1000;
/// The longest name of a table or column, in bytes, as in PostgreSQL.
pub const NAME_BYTES_MAX: usize = 63;
/// The most tables.
pub const TABLES_MAX: usize = 10_000;

/// First byte of a system key.
pub const SYSTEM_PREFIX: u8 = 0x00;
/// First byte of a table's key.
pub const TABLE_PREFIX: u8 = 0x10;
/// Ids below are not given to users' tables.
pub const FIRST_TABLE_ID: u32 = 16;

/// The keys of the catalog: group 0's range.
pub fn system_span() -> Span {
    Span::new(Key::new(), vec![TABLE_PREFIX])
}

/// The keys of all tables: group 1's range before the first split.
pub fn user_span() -> Span {
    Span::new(vec![TABLE_PREFIX], Key::new())
}

/// The key of the schema's version.
pub fn version_key() -> Key {
    Key::from_static(b"\0version")
}

/// The key of the next table id.
pub fn id_key() -> Key {
    Key::from_static(b"\0id")
}

/// The key of a table's descriptor.
pub fn table_key(name: &str) -> Key {
    let mut key = b"\0table/".to_vec();
    key.extend_from_slice(name.as_bytes());
    key.into()
}

/// The key of the row that holds the name of an index: its value is the name of the table.
pub fn index_key(name: &str) -> Key {
    let mut key = b"\0index/".to_vec();
    key.extend_from_slice(name.as_bytes());
    key.into()
}

/// The key of a view's descriptor.
pub fn view_key(name: &str) -> Key {
    let mut key = b"\0view/".to_vec();
    key.extend_from_slice(name.as_bytes());
    key.into()
}

/// The key of a sequence's descriptor.
pub fn sequence_key(name: &str) -> Key {
    let mut key = b"\0sequence/".to_vec();
    key.extend_from_slice(name.as_bytes());
    key.into()
}

/// The keys of all views' descriptors.
pub fn view_span() -> Span {
    Span::new(&b"\0view/"[..], &b"\0view0"[..])
}

/// The key of a schema change's row: in the order of their numbers.
pub fn job_key(id: u64) -> Key {
    format!("\0job/{id:020}").into_bytes().into()
}

/// All keys that begin with an id.
fn span_of(id: u32) -> Span {
    let mut start = vec![TABLE_PREFIX];
    start.extend_from_slice(&id.to_be_bytes());
    let mut end = vec![TABLE_PREFIX];
    match id.checked_add(1) {
        Some(next) => end.extend_from_slice(&next.to_be_bytes()),
        None => end = vec![TABLE_PREFIX + 1],
    }
    Span::new(start, end)
}

/// The read that fetches the whole catalog.
pub fn read_op() -> ReadOp {
    ReadOp { span: Span::new(vec![SYSTEM_PREFIX], vec![TABLE_PREFIX]), reverse: false, limit: 0 }
}

/// A column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Unique in the table, for ever; rows name columns by it.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// Its type.
    pub ty: DataType,
    /// Its length or precision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modifier: Option<TypeModifier>,
    /// Whether NULL is refused.
    pub not_null: bool,
    /// The SQL text of its DEFAULT.
    pub default: Option<String>,
    /// Where its values come from, if not from the client alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generated: Option<Generated>,
    /// What it is in rows that do not say: those from before the column was added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<Missing>,
}

impl Column {
    /// One that may be NULL, and has no default.
    pub fn new(id: u32, name: impl Into<String>, ty: DataType) -> Column {
        Column {
            id,
            name: name.into(),
            ty,
            modifier: None,
            not_null: false,
            default: None,
            generated: None,
            missing: None,
        }
    }

    /// Whether what is missing in rows is a value of it.
    fn is_sound(&self) -> bool {
        self.missing.as_ref().is_none_or(|missing| missing.datum().is_of(self.ty))
    }
}

/// A column of a primary key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyColumn {
    /// Its index in [`Table::columns`].
    pub column: usize,
    /// Whether larger values come first.
    pub desc: bool,
}

/// A table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Unique for ever.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// In the order they were declared.
    pub columns: Vec<Column>,
    /// The primary key: never empty.
    pub key: Vec<KeyColumn>,
    /// Its secondary indexes, those that come and go too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub indexes: Vec<Index>,
    /// Its foreign keys, and those that refer to it.
    #[serde(default, skip_serializing_if = "Foreign::is_empty")]
    pub foreign: Foreign,
    /// What its rows must be, beside their types: those that come and go too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<Check>,
    /// Columns that come or go: nobody sees them, and whoever rewrites a row keeps what it has of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hidden: Vec<Column>,
    /// No statement may use it until TRUNCATE is done.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub closed: bool,
    /// The job that is changing it, step by step: nothing else may. 0 if there is none.
    #[serde(default, skip_serializing_if = "constraint::is_none")]
    pub changing: u64,
    /// The last number given to a column or a check; 0 if they were numbered without a gap.
    #[serde(default, skip_serializing_if = "constraint::is_zero")]
    pub numbers: u32,
    /// Comments, by what they are on: see [`constraint::comment_key`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub comments: BTreeMap<String, String>,
}

impl Table {
    /// An index by name.
    pub fn index(&self, name: &str) -> Option<&Index> {
        self.indexes.iter().find(|index| index.name == name)
    }

    /// The index of a column.
    pub fn column_index(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }

    /// Where a column stands in the primary key.
    pub fn key_position(&self, column: usize) -> Option<usize> {
        self.key.iter().position(|key| key.column == column)
    }

    /// The indexes of the columns that are not of the primary key.
    pub fn value_columns(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.columns.len()).filter(|index| self.key_position(*index).is_none())
    }

    /// The names of the primary key's columns, separated by commas.
    pub fn key_names(&self) -> String {
        let names: Vec<&str> = self.key.iter().map(|key| self.columns[key.column].name.as_str()).collect();
        names.join(", ")
    }

    /// All its rows.
    pub fn span(&self) -> Span {
        span_of(self.id)
    }

    /// What the keys of its rows begin with.
    pub fn key_prefix(&self) -> Vec<u8> {
        let mut key = Vec::with_capacity(24);
        key.push(TABLE_PREFIX);
        key.extend_from_slice(&self.id.to_be_bytes());
        key
    }

    /// A descriptor as stored; XX001 if the bytes are no sound descriptor.
    pub fn from_bytes(bytes: &[u8]) -> Result<Table, SqlError> {
        let bad = |why: String| SqlError::new("XX001", format!("a table's descriptor is damaged: {why}"));
        let table: Table = serde_json::from_slice(bytes).map_err(|err| bad(err.to_string()))?;
        let sound = !table.key.is_empty()
            && table.key.iter().all(|key| key.column < table.columns.len())
            && table.indexes.iter().all(|index| index.is_sound(&table))
            && table.columns.iter().chain(&table.hidden).all(Column::is_sound)
            && table.foreign.is_sound(&table);
        if sound {
            Ok(table)
        } else {
            Err(bad(format!(
                "table \"{}\" has no primary key, an index or a constraint without columns, or a value of another type",
                table.name
            )))
        }
    }

    /// As [`Table::from_bytes`] reads it.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a descriptor has only strings and numbers")
    }
}

/// All tables, as of one timestamp.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    /// Every change that was answered before this is in it: the earliest possible time at which its
    /// strong read began. (The read's own timestamp may be much older: a group that nothing is
    /// prepared in answers at its last commit.)
    pub known_at: Timestamp,
    /// Raised by every schema change.
    pub version: u64,
    /// When the last schema change committed.
    pub changed_at: Timestamp,
    /// By name.
    pub tables: BTreeMap<String, Arc<Table>>,
    /// Views, by name.
    pub views: BTreeMap<String, Arc<View>>,
    /// Those that nobody can use yet, by name: see `catalog/foreign.rs`.
    pub making: BTreeMap<String, Arc<Table>>,
    /// By name.
    pub sequences: BTreeMap<String, Arc<Sequence>>,
    /// Schema changes under way, and the last ones that have ended, by number.
    pub jobs: BTreeMap<u64, Arc<Job>>,
    /// What is broken on purpose.
    pub sabotage: Sabotage,
}

impl Catalog {
    /// From the rows of the system span.
    pub fn from_rows(known_at: Timestamp, rows: &[Row]) -> Result<Catalog, SqlError> {
        let mut catalog = Catalog { known_at, changed_at: Timestamp::MIN, ..Catalog::default() };
        for row in rows {
            if row.key == version_key() {
                catalog.version = parse_number(&row.value)?;
                catalog.changed_at = row.commit_ts;
            } else if row.key.starts_with(b"\0table/") {
                let table = Table::from_bytes(&row.value)?;
                let tables = if table.foreign.making { &mut catalog.making } else { &mut catalog.tables };
                tables.insert(table.name.clone(), Arc::new(table));
            } else if row.key.starts_with(b"\0view/") {
                let view = View::from_bytes(&row.value)?;
                catalog.views.insert(view.name.clone(), Arc::new(view));
            } else if row.key.starts_with(b"\0sequence/") {
                let sequence = Sequence::from_bytes(&row.value)?;
                catalog.sequences.insert(sequence.name.clone(), Arc::new(sequence));
            } else if row.key.starts_with(b"\0job/") {
                let job = Job::from_bytes(&row.value)?;
                catalog.jobs.insert(job.id, Arc::new(job));
            }
        }
        Ok(catalog)
    }

    /// Until when it is known to hold, or to be one step behind at most: what was planned with it is
    /// committed, or read, at or before this timestamp, or not at all.
    pub fn valid_until(&self) -> Timestamp {
        self.known_at.plus_ns(CATALOG_LEASE_NS)
    }

    /// Whether it may still be used.
    pub fn is_fresh(&self, now: &Interval) -> bool {
        now.before(self.valid_until())
    }

    /// A table by name.
    pub fn table(&self, name: &str) -> Option<&Arc<Table>> {
        self.tables.get(name)
    }

    /// The table that has an index, and the index, by the index's name.
    pub fn index(&self, name: &str) -> Option<(&Arc<Table>, &Index)> {
        self.tables.values().find_map(|table| Some((table, table.index(name)?)))
    }

    /// The same by its id.
    pub fn index_by_id(&self, id: u32) -> Option<(&Arc<Table>, &Index)> {
        let find = |table: &'_ Arc<Table>| table.indexes.iter().position(|index| index.id == id);
        self.tables.values().find_map(|table| find(table).map(|at| (table, &table.indexes[at])))
    }

    /// A table by id.
    pub fn table_by_id(&self, id: u32) -> Option<&Arc<Table>> {
        self.tables.values().find(|table| table.id == id)
    }
}

/// A decimal number, as the system rows hold it.
pub fn parse_number(bytes: &[u8]) -> Result<u64, SqlError> {
    std::str::from_utf8(bytes)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| SqlError::new("XX001", "a number of the catalog is damaged"))
}

/// 42P01.
pub fn undefined_table(name: &str) -> SqlError {
    SqlError::new("42P01", format!("relation \"{name}\" does not exist"))
}
