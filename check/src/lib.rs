//! The judge: reads a recorded history and says whether a strictly serializable database with
//! Spanner's timestamps could have produced it, or shows what could not have been.
//!
//! Pure: text in, verdict out. The simulator and the command line share it.

pub mod history;

pub use history::{Event, Key, Kind, Op, Process, Value};

/// Something that cannot have been.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anomaly {
    /// Its name in the field, such as `G1c` or `G-single-realtime`; or the promise that was broken.
    pub name: String,
    /// What happened, for a reader: one line each step.
    pub story: String,
}

/// What a history proves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// What cannot have been. None: the history is valid.
    pub anomalies: Vec<Anomaly>,
    /// What was checked, with counts, in words: a line each.
    pub checked: Vec<String>,
}
