//! Multi-Paxos for one group: a pure state machine, `step(now, input) -> Ready`.
//!
//! The crate knows nothing of keys or transactions: a command is opaque bytes. It owns the
//! acceptor's promises, the leader's phases, timed leases and catch-up; its caller owns disks,
//! sockets and timers, and does exactly what [`Ready`] says, in its order.
//!
//! ```text
//!               replica.rs   new / step / propose; who handles which input; invariants
//!   campaign.rs  phase 1          leader.rs   phase 2, pipelined and batched; hand-over
//!   acceptor.rs  promises, accepts  learner.rs  what is chosen, in order; catch-up; epoch rule
//!   lease.rs     timed leases     outbox.rs   what leaves now, and what waits for the disk
//! ```

mod acceptor;
mod campaign;
pub mod codec;
pub(crate) mod describe;
pub mod entry;
mod hand_over;
pub mod ids;
mod leader;
mod learner;
mod lease;
mod log;
pub mod message;
mod outbox;
pub mod quorum;
pub mod ready;
mod replica;
mod stored;
pub mod testing;
mod timer;

pub use entry::{Configuration, Entry, HardState, LeaseVote, Payload, Restored, Write};
pub use ids::{Ballot, GroupId, NodeId, Slot};
pub use leader::PeerProgress;
pub use message::{LeaseRequest, Message, Refusal};
pub use ready::{Chosen, Event, Input, Leadership, Options, ProposeError, Ready};
pub use replica::Replica;
