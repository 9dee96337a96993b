//! Multi-Paxos for one group: a pure state machine, `step(now, input) -> Ready`.
//!
//! The crate knows nothing of keys or transactions: a command is opaque bytes. It owns the
//! acceptor's promises, the leader's phases, timed leases and catch-up; its caller owns disks,
//! sockets and timers, and does exactly what [`Ready`] says, in its order.

pub mod codec;
pub mod entry;
pub mod ids;
pub mod message;
pub mod ready;

pub use entry::{Configuration, Entry, HardState, LeaseVote, Payload, Restored, Write};
pub use ids::{Ballot, GroupId, NodeId, Slot};
pub use message::Message;
pub use ready::{Chosen, Event, Input, Leadership, Options, ProposeError, Ready};
