//! End to end, on real processes: what must hold, seen to hold. One test binary; each file is one
//! concern.

mod bad_input;
mod clock;
mod faults;
mod nemesis;
mod overload;
mod power;
mod queries;
mod resources;
mod snapshots;
mod sql;
mod transactions;
mod workloads;
