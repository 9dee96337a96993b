//! SQL: statements become reads and mutations of a [`engine::Transaction`], or reads of a snapshot.
//!
//! ```text
//!   text --parse--> Statement --plan(Catalog)--> Plan --short(Reader | Transaction)--> rows --> Sink
//!                                                  \---select(the same Reader)-------/
//! ```
//!
//! The crate imports no transport, no storage engine, no clock and no timer: everything of that
//! kind comes through [`engine::Engine`]. [`session::Database`] is what the gateways share,
//! [`session::Session`] is one client.

pub mod catalog;
mod check;
mod ddl;
pub mod engine;
pub mod entry;
pub mod error;
mod explain;
pub mod expr;
pub mod jobs;
pub mod parse;
pub mod plan;
pub mod row;
#[cfg(feature = "datafusion")]
mod select;
#[cfg(not(feature = "datafusion"))]
#[path = "select/off.rs"]
mod select;
pub mod sequence;
pub mod session;
pub mod settings;
mod short;
mod show;
pub mod sink;
pub mod system;
pub mod types;
pub mod value;

pub use catalog::{system_span, user_span};
pub use error::SqlError;
pub use jobs::JobOptions;
pub use select::{Queries, QueryOptions, tolerates as tolerates_panic};
pub use session::{Database, PreparedInfo, Session, SessionState};
pub use sink::{ColumnInfo, Completion, Notice, Sink};
