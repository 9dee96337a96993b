//! A state store in memory that can crash, and a suite that every store must pass.
//!
//! For tests and the simulator; the server stores in RocksDB.

mod conformance;
mod memory;

pub use conformance::conformance;
pub use memory::MemoryStore;
