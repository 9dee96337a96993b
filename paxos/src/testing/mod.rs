//! A cluster of replicas in one thread on virtual time: for golden scripts, random tests and
//! simulators. The seed decides everything.
//!
//! ```text
//!   chaos.rs    random faults, then healing; what must hold throughout and afterwards
//!   cluster.rs  virtual time, messages, syncs, crashes; checks agreement and leases at every step
//!   node.rs     one replica with its disk, its state machine and its clock
//! ```

pub mod chaos;
pub mod cluster;
pub mod node;

pub use chaos::{Chaos, Report};
pub use cluster::{Cluster, Link, Network};
pub use node::{Disk, Node, SimClock, State};
