//! What a node keeps on disk: its identity, the Paxos log, and the applied state.
//!
//! ```text
//!   DATA/LOCK        held while the process lives
//!   DATA/IDENTITY    whose folder this is
//!   DATA/PEERS       which data folder each peer had when it was first met
//!   DATA/log/        RocksDB with a write-ahead log: every promise and every accepted entry (I4)
//!   DATA/state/      RocksDB without one: rebuilt from the log above its durable applied index
//! ```
//!
//! A write or a sync that fails stops the process: it is never retried over (I14).

pub mod acquaintances;
pub mod identity;
pub mod log;
pub mod state;

pub use acquaintances::{Acquaintances, Stranger};
pub use identity::{DataFolder, IdentityError};
pub use log::{LogError, LogStore};
pub use state::{RocksState, StateOptions};
