//! Transactions over replicated shards: MVCC, locks, two-phase commit, safe-time reads, and the
//! gateway's side of all of these. Pure state machines: `step(now, input) -> Ready`.
//!
//! `node.rs` is one server's whole state: all its groups. `group/` is one replica of one shard,
//! the only place where Paxos meets locks, MVCC and two-phase commit. `client/` is the gateway:
//! it drives one transaction against the groups that hold its keys.

pub mod api;
pub mod checksum;
pub mod client;
pub mod command;
pub mod encoding;
pub mod gc;
pub mod group;
pub mod keyspace;
pub mod locks;
pub mod message;
pub mod meta;
pub mod mvcc;
pub mod node;
pub mod ready;
pub mod storage;
pub mod testing;
pub mod timestamps;
pub mod types;

pub use api::{
    AbortReason, CommitTiming, GroupError, Inspection, LockRow, ReadOp, ReadResult, Reply, Request, RequestBody,
    TxnRow, TxnStatus,
};
pub use message::{NodeMessage, SnapshotEnd, SnapshotMessage, TwoPhase};
pub use ready::{GroupLog, GroupStatus, NodeInput, NodeOptions, NodeReady, Outgoing};
pub use storage::{Batch, Op, Storage, StorageError, Visit};
pub use types::{Key, LockMode, LockPolicy, Mutation, Priority, RangeDescriptor, Row, Span, TxnId, Value};
