//! The judge, until crate `check` has it.

use check::{Event, Verdict};

/// Counts, and no more.
pub fn judge(events: &[Event]) -> Verdict {
    Verdict { anomalies: Vec::new(), checked: vec![format!("{} events, by the rules of a history only", events.len())] }
}
