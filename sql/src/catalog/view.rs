//! Views as the catalog has them: queries with names.
//!
//! A view keeps the text of its query, in which every `*` was written out and every table has its schema's name,
//! so that neither a new column nor a CTE of the statement that uses it changes what it means.

use serde::{Deserialize, Serialize};

use crate::SqlError;
use crate::types::DataType;

/// A column of a view.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewColumn {
    /// Its name.
    pub name: String,
    /// Its type, as the view was made.
    pub ty: DataType,
}

/// A view.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// Unique for ever, among tables, indexes and views.
    pub id: u32,
    /// Its name, unique among tables, indexes and views.
    pub name: String,
    /// What it returns.
    pub columns: Vec<ViewColumn>,
    /// The SQL text of its query.
    pub query: String,
    /// The tables and views in it, by name.
    pub relations: Vec<String>,
}

impl View {
    /// A descriptor as stored; XX001 if the bytes are none.
    pub fn from_bytes(bytes: &[u8]) -> Result<View, SqlError> {
        serde_json::from_slice(bytes)
            .map_err(|err| SqlError::new("XX001", format!("a view's descriptor is damaged: {err}")))
    }

    /// As [`View::from_bytes`] reads it.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a descriptor has only strings and numbers")
    }
}
