//! What a node keeps on disk: its identity, the Paxos log, and the applied state.
//!
//! ```text
//!   DATA/LOCK        held while the process lives
//!   DATA/IDENTITY    whose folder this is
//!   DATA/log/        RocksDB with a write-ahead log: every promise and every accepted entry (I4)
//!   DATA/state/      RocksDB without one: rebuilt from the log above its durable applied index
//! ```
//!
//! A write or a sync that fails stops the process: it is never retried over (I14).

pub mod identity;
pub mod log;
pub mod state;

pub use identity::{DataFolder, IdentityError};
pub use log::{LogError, LogStore};
pub use state::{RocksState, StateOptions};
