//! Everything on the client's side of the wire: the gRPC client, the SQL shell, the workloads,
//! `meridian check` and `meridian status`. The `meridian` binary parses [`args`] and calls into here.

pub mod args;
pub mod check;
pub mod client;
pub mod format;
pub mod last;
pub mod lexer;
pub mod nemesis;
pub mod out;
pub mod repl;
pub mod report;
pub mod status;
pub mod units;
pub mod workload;
