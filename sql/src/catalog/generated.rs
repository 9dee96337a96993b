//! Columns whose values do not come from the client: computed ones, numbered ones, and the key of a table that was
//! declared without one.
//!
//! Every table has a primary key, because its rows have keys. Where none was declared, a column is added with a name
//! that no column may have, [`HIDDEN_KEY`], and a random UUID as its default: no two writers meet at one place
//! of the key space. It is left out of `SELECT *`, of INSERT without a list of columns and of what tells of a
//! table's columns; whoever names it can read it.

use serde::{Deserialize, Serialize};

use super::{Column, Table};

/// The name of the key of a table without one.
pub const HIDDEN_KEY: &str = "meridian_row_id";

/// Where a column's values come from, if not from the client alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Generated {
    /// GENERATED ALWAYS AS (expression) STORED: its SQL text.
    Stored(String),
    /// GENERATED AS IDENTITY: the column's default has the sequence.
    Identity {
        /// ALWAYS, and not BY DEFAULT.
        always: bool,
        /// The options of its sequence, as they were written.
        options: Option<String>,
    },
    /// SERIAL and its like: the column's default has the sequence.
    Serial,
}

impl Column {
    /// Whether it is the key of a table that was declared without one.
    pub fn is_hidden(&self) -> bool {
        self.name == HIDDEN_KEY
    }

    /// Whether it is GENERATED .. STORED.
    pub fn is_stored(&self) -> bool {
        matches!(self.generated, Some(Generated::Stored(_)))
    }

    /// Whether it is GENERATED .. AS IDENTITY.
    pub fn is_identity(&self) -> bool {
        matches!(self.generated, Some(Generated::Identity { .. }))
    }
}

impl Table {
    /// Whether it was declared without a primary key.
    pub fn has_hidden_key(&self) -> bool {
        self.key.iter().any(|part| self.columns[part.column].is_hidden())
    }

    /// The columns that were declared, with their indexes.
    pub fn visible_columns(&self) -> impl Iterator<Item = (usize, &Column)> {
        self.columns.iter().enumerate().filter(|(_, column)| !column.is_hidden())
    }
}
