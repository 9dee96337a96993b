//! The production SQL session inside the simulation.
//!
//! Some of a run's clients talk SQL: texts and parameters to [`sql::Session`]s, over an engine that
//! drives the same operations of `txn::client`, with the same gateway, as the server's does over its
//! channels. A session's call is a future that is polled by hand, in the world's only thread, when a
//! reply or a time that it waits for has come; there is no other waker and no other clock.
//!
//! ```text
//!   SqlClient --text--> desk --> Host --poll--> sql::Session --> SimEngine, SimTxn --requests--> nodes
//!       ^                          |  ^                                                 |
//!       +------- results ----------+  +------------------- replies ---------------------+
//! ```
//!
//! A process that dies takes its sessions with it. The clients write down what they were told, and
//! [`judge`] asks of a model of SQL (`model`), replayed in the order of the commit timestamps, whether
//! it would have said the same.

pub mod client;
pub mod engine;
mod families;
pub mod host;
pub mod items;
pub mod judge;
pub mod model;
pub mod programs;
pub mod savepoints;
pub mod statement;
