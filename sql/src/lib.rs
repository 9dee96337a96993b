//! SQL: statements become reads and mutations of a [`engine::Transaction`], or reads of a snapshot.
//!
//! The crate imports no transport and no storage engine.

pub mod engine;
pub mod error;
pub mod types;

pub use error::SqlError;
