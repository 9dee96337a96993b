//! TrueTime: a clock that knows its own uncertainty (Spanner paper, section 3).
//!
//! A reading is not an instant but an [`Interval`] that contains true time, given the promise of
//! its source. The crate is pure: it never reads a clock. The caller hands in raw readings and
//! gets intervals back, so the server and the simulator run the same code.
//!
//! ```text
//!   Reading --(ClockSpec)--> Clock --> Now { tt, mono_ns, trusted } --> every step()
//!                              ^
//!                 fence(..)    |                        intervals on messages of peers
//!                              +-- Fence, PeerClocks <-- observe(..)
//! ```

pub mod clock;
pub mod compare;
pub mod duration;
pub mod fence;
pub mod interval;
pub mod marzullo;
pub mod sabotage;
pub mod source;
pub mod timestamp;

pub use clock::{Clock, ClockAnomaly, ClockStatus, KernelClock, Reading};
pub use compare::{Conflict, PeerClocks, Verdict};
pub use duration::{format_duration_ns, parse_duration_ns};
pub use fence::Fence;
pub use interval::{Interval, Now};
pub use sabotage::{Guarantee, Sabotage};
pub use source::ClockSpec;
pub use timestamp::Timestamp;
