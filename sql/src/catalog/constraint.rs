//! What a table's descriptor says of its rows beside their types, and of columns that come and go.
//!
//! # The states of a check
//!
//! Like an index (see `index.rs`), a check comes in steps, because gateways go by catalogs that may differ by one step:
//!
//! ```text
//!           ADD CONSTRAINT                       all rows were looked at
//!   absent ----------------> validating -----------------------------------> public
//!     |                       |      ^                                         |
//!     |   a row is against it |      | VALIDATE                                | DROP CONSTRAINT
//!     |<----------------------+      v                                         v
//!     +--------------------------> not valid                                 absent
//!           .. NOT VALID
//! ```
//!
//! In every state but absent whoever writes a row keeps the check. So once the lease of the catalogs without it has run
//! out, no row against it is written, and a look at all rows at one later timestamp tells whether it holds for ever.
//! Nobody concludes anything from a check for what it reads: a check that goes needs no steps.
//!
//! Two more kinds of checks have no name that users know. NOT NULL is one while it comes and while it goes, because
//! readers do conclude from it (an index without NULLs gives more orders): it is kept before it is relied on, and
//! relied on no more before it is kept no more. And a column that became wider (an INTEGER that is now a BIGINT) takes only
//! what its old type takes until everybody can read the new one: see `ddl/steps.rs` for all of it.
//!
//! # Missing values
//!
//! ADD COLUMN .. DEFAULT 5 rewrites nothing: [`Missing`] says what the column is in rows that do not say, as PostgreSQL's
//! `attmissingval` does. It never changes afterwards, whatever becomes of the default. A row that has NULL there says so.

use serde::{Deserialize, Serialize};

use super::{Column, IndexState, Table};
use crate::SqlError;
use crate::row::{datum_from_bytes, datum_to_bytes};
use crate::types::{DataType, Datum};

/// A value that a column has in rows without it; never NULL.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Missing {
    datum: Datum,
    bytes: Vec<u8>,
}

impl Missing {
    /// None for NULL, which a value that is not there is anyhow.
    pub fn new(datum: Datum) -> Option<Missing> {
        (!datum.is_null()).then(|| Missing { bytes: datum_to_bytes(&datum), datum })
    }

    /// The value.
    pub fn datum(&self) -> &Datum {
        &self.datum
    }
}

/// By their bytes: NaN is NaN.
impl PartialEq for Missing {
    fn eq(&self, other: &Missing) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Missing {}

impl From<Missing> for String {
    fn from(missing: Missing) -> String {
        missing.bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl TryFrom<String> for Missing {
    type Error = String;

    fn try_from(text: String) -> Result<Missing, String> {
        let bytes: Option<Vec<u8>> =
            (0..text.len().div_ceil(2)).map(|at| u8::from_str_radix(text.get(at * 2..at * 2 + 2)?, 16).ok()).collect();
        let bytes = bytes.ok_or("a missing value that is not hexadecimal")?;
        let datum = datum_from_bytes(&bytes).map_err(|err| err.message)?;
        Ok(Missing { datum, bytes })
    }
}

/// What a check wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CheckKind {
    /// That this SQL is not false: CHECK.
    Holds(String),
    /// That the column of this id is not NULL.
    NotNull(u32),
    /// That the column's value is one of this type, too.
    Fits(u32, DataType),
}

/// How far a check has come, or has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CheckState {
    /// Kept by whoever writes; the rows that were there before are being looked at.
    Validating,
    /// The same, but nobody looks at them.
    NotValid,
    /// It holds for all rows.
    Public,
    /// Kept until all gateways know that it need not be.
    Leaving,
}

impl CheckState {
    /// As people see it.
    pub fn name(self) -> &'static str {
        match self {
            CheckState::Validating => "validating",
            CheckState::NotValid => "not valid",
            CheckState::Public => "public",
            CheckState::Leaving => "leaving",
        }
    }
}

/// A condition on the rows of a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Unique in the table, among columns and checks, for ever.
    pub id: u32,
    /// Unique among the table's constraints, for a CHECK; for messages, otherwise.
    pub name: String,
    /// What it wants.
    pub kind: CheckKind,
    /// How far it is.
    pub state: CheckState,
}

impl Check {
    /// The text of a CHECK.
    pub fn text(&self) -> Option<&str> {
        match &self.kind {
            CheckKind::Holds(text) => Some(text),
            CheckKind::NotNull(_) | CheckKind::Fits(..) => None,
        }
    }
}

/// What a comment is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Commented {
    /// The table.
    Table,
    /// The column of this id.
    Column(u32),
    /// The index of this id, as an index.
    Index(u32),
    /// The same as a constraint.
    Unique(u32),
    /// The check of this id.
    Check(u32),
    /// The primary key, as a constraint.
    Key,
    /// The primary key, as an index.
    KeyIndex,
}

/// The key of [`Table::comments`].
pub fn comment_key(on: Commented) -> String {
    match on {
        Commented::Table => "table".into(),
        Commented::Column(id) => format!("column {id}"),
        Commented::Index(id) => format!("index {id}"),
        Commented::Unique(id) => format!("unique {id}"),
        Commented::Check(id) => format!("check {id}"),
        Commented::Key => "key".into(),
        Commented::KeyIndex => "key index".into(),
    }
}

/// An index has another id: what was said of it stays.
pub(crate) fn move_comments(table: &mut Table, old: u32, new: u32) {
    for on in [Commented::Index as fn(u32) -> Commented, Commented::Unique] {
        if let Some(text) = table.comments.remove(&comment_key(on(old))) {
            table.comments.insert(comment_key(on(new)), text);
        }
    }
}

/// The comments on an index, as an index and as a constraint, are gone with it.
pub(crate) fn forget_index(table: &mut Table, id: u32) {
    for on in [Commented::Index(id), Commented::Unique(id)] {
        table.comments.remove(&comment_key(on));
    }
}

/// For serde.
#[allow(clippy::trivially_copy_pass_by_ref)]
pub(super) fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// The same of a job's number.
#[allow(clippy::trivially_copy_pass_by_ref)]
pub(super) fn is_none(number: &u64) -> bool {
    *number == 0
}

impl Table {
    /// A number that no column and no check of the table ever had.
    pub fn next_number(&mut self) -> u32 {
        let columns = self.columns.iter().chain(&self.hidden).map(|column| column.id);
        let most = columns.chain(self.checks.iter().map(|check| check.id)).max().unwrap_or(0);
        self.numbers = self.numbers.max(most) + 1;
        self.numbers
    }

    /// Where the column of an id is.
    pub fn column_by_id(&self, id: u32) -> Option<usize> {
        self.columns.iter().position(|column| column.id == id)
    }

    /// The CHECKs that users know of.
    pub fn named_checks(&self) -> impl Iterator<Item = (&Check, &str)> {
        self.checks.iter().filter_map(|check| Some((check, check.text()?)))
    }

    /// A CHECK by its name.
    pub fn check(&self, name: &str) -> Option<&Check> {
        self.named_checks().map(|(check, _)| check).find(|check| check.name == name)
    }

    /// The name of its primary key.
    pub fn key_name(&self) -> String {
        format!("{}_pkey", self.name)
    }

    /// Whether one of its constraints has that name.
    pub fn has_constraint(&self, name: &str) -> bool {
        let unique = self.indexes.iter().any(|index| index.constraint && index.name == name);
        let foreign = self.foreign.keys.iter().any(|key| key.name == name);
        unique || foreign || self.check(name).is_some() || self.key_name() == name
    }

    /// Whether a change of it is under way that is not about an index.
    pub fn is_in_steps(&self) -> bool {
        self.changing != 0
    }

    /// 55006 while any change of it is under way.
    pub fn refuse_in_steps(&self) -> Result<(), SqlError> {
        if self.is_in_steps() || self.indexes.iter().any(|index| index.state != IndexState::Public) {
            return Err(self.in_steps());
        }
        Ok(())
    }

    /// 55006.
    pub fn in_steps(&self) -> SqlError {
        if !self.is_in_steps() {
            let message = format!("an index of table \"{}\" is being created or dropped", self.name);
            return SqlError::new("55006", message).hint("SHOW JOBS tells how far it is, and CANCEL JOB ends it.");
        }
        SqlError::new("55006", format!("table \"{}\" is being changed by job {}", self.name, self.changing))
            .hint("SHOW JOBS tells how far it is, and CANCEL JOB may end it.")
    }

    /// The same table with other columns in their place: what names columns by where they are is told where they are
    /// now. Panics if one that a key or an index uses is gone: that was to be refused.
    pub fn with_columns(&self, columns: Vec<Column>) -> Table {
        let moved = |at: usize| {
            let id = self.columns[at].id;
            let at = columns.iter().position(|column| column.id == id);
            at.unwrap_or_else(|| panic!("column {id} of \"{}\" is gone, and in use", self.name))
        };
        let mut table = self.clone();
        table.key.iter_mut().for_each(|part| part.column = moved(part.column));
        for index in &mut table.indexes {
            index.columns.iter_mut().for_each(|part| part.column = moved(part.column));
            index.storing.iter_mut().for_each(|column| *column = moved(*column));
        }
        table.columns = columns;
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_value_survives_the_catalog() {
        for datum in [Datum::Int(-5), Datum::Text("é'".into()), Datum::Float(f64::NAN), Datum::Bool(false)] {
            let missing = Missing::new(datum).unwrap();
            let text = serde_json::to_string(&missing).unwrap();
            assert_eq!(serde_json::from_str::<Missing>(&text).unwrap(), missing);
        }
        assert!(Missing::new(Datum::Null).is_none());
        for damaged in ["\"\"", "\"0\"", "\"zz\"", "\"01\"", "\"ff\"", "\"é0\"", "7"] {
            assert!(serde_json::from_str::<Missing>(damaged).is_err(), "{damaged}");
        }
    }

    #[test]
    fn numbers_are_never_used_again() {
        let mut table = Table::default();
        let first = table.next_number();
        table.columns.push(Column::new(first, "a", DataType::Int));
        let second = table.next_number();
        table.columns.push(Column::new(second, "b", DataType::Int));
        table.columns.pop();
        assert_eq!((first, second, table.next_number()), (1, 2, 3));
        // A descriptor from before they were counted.
        table.numbers = 0;
        assert_eq!(table.next_number(), 2);
    }
}
