//! TrueTime: a clock that knows its own uncertainty (Spanner paper, section 3).
//!
//! A reading is not an instant but an [`Interval`] that contains true time, given the promise of
//! its source. The crate is pure: it never reads a clock. The caller hands in raw readings and
//! gets intervals back, so the server and the simulator run the same code.

pub mod interval;
pub mod timestamp;

pub use interval::{Interval, Now};
pub use timestamp::Timestamp;
