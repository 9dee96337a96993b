//! The judge: reads a recorded history and says whether a strictly serializable database with
//! Spanner's timestamps could have produced it, or shows what could not have been.
//!
//! ```text
//!   events --> rules --> transactions --+--> lists, registers: dependencies --> graph: cycles
//!                                       +--> linear: registers of one key
//!                                       +--> timestamps: what Spanner promises of them
//!                                       +--> sums: the bank, sets
//! ```
//!
//! - [`rules`] checks that the history can prove anything, and pairs its events to transactions;
//! - [`depend`] infers in which order versions of a key came, and who therefore depends on whom;
//! - [`graph`] looks for cycles of dependencies, which no serial order could have, and tells the
//!   shortest as a story;
//! - [`linear`] looks for an order of the operations on one register that agrees with real time;
//! - [`timestamps`] replays everything in the order of the timestamps that the database itself gave;
//! - [`sums`] knows the workloads whose answers have a sum or a set to agree with.
//!
//! A history in which the nemesis set a clock beyond its bound (`skew-beyond`) is judged like any other, but the
//! database owes it less: see [`Verdict::clock_lied`].
//!
//! Each finds what the others cannot: dependencies need no timestamps and trust none, while the
//! timestamps judge each answer exactly and in linear time.
//!
//! Pure: text in, verdict out. The simulator and the command line share it.

pub mod depend;
pub mod graph;
pub mod history;
pub mod linear;
pub mod rules;
pub mod sums;
pub mod timestamps;

use std::collections::BTreeMap;

pub use history::{Event, Key, Kind, Op, Process, Value};
pub use rules::{Fate, Txn};

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
    /// What cannot have been, at most [`STORIES_MAX`] of each name. None: the history is valid.
    pub anomalies: Vec<Anomaly>,
    /// How many of each name there are.
    pub counts: BTreeMap<String, u64>,
    /// What was checked, with counts, in words: a line each.
    pub checked: Vec<String>,
    /// The history says that a clock left the bound that it promised. Real time is then not owed: an answer may
    /// be stale, and timestamps may disagree with the order of events. All else is: each transaction is whole,
    /// once, and in one order with all others.
    pub clock_lied: bool,
}

/// So many anomalies of one name are told in full.
pub const STORIES_MAX: u64 = 8;

impl Verdict {
    /// Nothing was found that cannot have been; where a clock lied, nothing that does not rest on real time.
    pub fn is_valid(&self) -> bool {
        let mut names = self.counts.keys().chain(self.anomalies.iter().map(|anomaly| &anomaly.name));
        names.all(|name| self.clock_lied && rests_on_real_time(name))
    }

    /// Notes an anomaly that somebody else has found.
    pub fn add(&mut self, anomaly: Anomaly) {
        let Anomaly { name, story } = anomaly;
        self.found(&name, || story);
    }

    /// Notes an anomaly; its story is only told if few of its name were before.
    pub(crate) fn found(&mut self, name: &str, story: impl FnOnce() -> String) {
        let count = self.counts.entry(name.to_string()).or_insert(0);
        *count += 1;
        if *count <= STORIES_MAX {
            self.anomalies.push(Anomaly { name: name.to_string(), story: story() });
        }
    }
}

/// Whether an anomaly of this name contradicts real time alone, and no order of the transactions.
pub fn rests_on_real_time(name: &str) -> bool {
    // A process observes its own transactions in real time.
    let edges = name.ends_with("-realtime") || name.ends_with("-process");
    edges || matches!(name, "stale-strong-read" | "timestamp-against-real-time" | "not-linearizable" | "lost-element")
}

/// Whether the nemesis set a clock beyond its bound.
fn clock_lied(events: &[Event]) -> bool {
    events.iter().any(|e| e.f == "skew-beyond" && matches!(&e.process, Process::Named(name) if name == "nemesis"))
}

/// Judges a history. Never panics, whatever the events are.
pub fn judge(events: &[Event]) -> Verdict {
    let mut verdict = Verdict { clock_lied: clock_lied(events), ..Verdict::default() };
    let txns = rules::transactions(events, &mut verdict);
    let committed = txns.iter().filter(|t| t.fate == Fate::Committed).count();
    let aborted = txns.iter().filter(|t| t.fate == Fate::Aborted).count();
    verdict.checked.push(format!(
        "{} transactions: {committed} took effect, {aborted} certainly did not, {} are in doubt",
        txns.len(),
        txns.len() - committed - aborted
    ));
    if committed == 0 {
        verdict.found("nothing-committed", || "no operation took effect: this history proves nothing".into());
    }
    let graph = depend::infer(&txns, &mut verdict);
    graph.find_cycles(&txns, &mut verdict);
    linear::check(&txns, &mut verdict);
    timestamps::check(&txns, &mut verdict);
    sums::check(events, &txns, &mut verdict);
    verdict
}
