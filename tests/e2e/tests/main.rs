//! End to end, on real processes: what must hold, seen to hold. One test binary; each file is one
//! concern.

mod bad_input;
mod clock;
mod faults;
mod snapshots;
mod sql;
mod transactions;
