//! The client, the shell and the bank against a fake server, with the faults that a real one shows
//! only now and then.

mod bank;
mod client;
mod fake;
mod repl;
