//! What a run proved and what its faults cost, from its recorded history alone.
//!
//! ```text
//!   events --> summary: counts, latencies, faults and their cost, epsilon
//!          --> series:  the same over time, in buckets          (html only)
//!   verdict ----------------------------> text, or one HTML file
//! ```
//!
//! Events in, text out: nothing is asked of a cluster. A history of any tool in the form of crate `check` can be shown; what
//! it does not have (faults, epsilon, nodes) is left out.
//!
//! - [`summary`] counts and measures;
//! - [`faults`] pairs the beginnings and ends of faults, and says what each cost;
//! - [`series`] puts everything on one axis of time;
//! - [`text`](text()) and [`html`](html()) show it, and [`format`](mod@format) writes its numbers.

pub mod faults;
pub mod format;
pub mod html;
pub mod ops;
pub mod series;
pub mod summary;
pub mod text;

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod tests;

use std::path::Path;

use check::{Event, Verdict};

pub use summary::Summary;

/// What a report says of itself.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Its heading; without one, the name of the workload.
    pub title: String,
    /// Where the history is, for whoever wants to judge it again.
    pub history: String,
    /// Why the run proves nothing although the history is valid, such as too few operations: a line each.
    pub problems: Vec<String>,
}

/// The report for a terminal.
pub fn text(events: &[Event], verdict: Option<&Verdict>, options: &Options) -> String {
    text::render(&Summary::of(events), verdict, options)
}

/// For a terminal: what each fault cost, and how the run is repeated. Nothing without faults.
pub fn faults(events: &[Event]) -> Vec<String> {
    text::costs(&Summary::of(events))
}

/// The report as one HTML page that needs no other file. Its size is bounded, whatever the history is.
pub fn html(events: &[Event], verdict: Option<&Verdict>, options: &Options) -> String {
    let summary = Summary::of(events);
    let series = series::Series::of(events, &summary);
    html::render(&summary, &series, verdict, options)
}

/// Writes the HTML report into a file. The error names it.
pub fn write_html(path: &Path, events: &[Event], verdict: Option<&Verdict>, options: &Options) -> anyhow::Result<()> {
    let page = html(events, verdict, options);
    std::fs::write(path, page).map_err(|e| anyhow::anyhow!("cannot write {}: {e}", path.display()))
}

/// The verdict in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Judged, and nothing found.
    Valid,
    /// Judged, and something was found that cannot have been.
    Invalid,
    /// Nothing was found, but too little was done to prove anything.
    ProvesNothing,
    /// Nobody looked.
    NotJudged,
}

impl Standing {
    /// Of a run.
    pub fn of(summary: &Summary, verdict: Option<&Verdict>, options: &Options) -> Standing {
        match verdict {
            Some(verdict) if !verdict.is_valid() => Standing::Invalid,
            _ if summary.operations.ok == 0 || !options.problems.is_empty() => Standing::ProvesNothing,
            Some(_) => Standing::Valid,
            None => Standing::NotJudged,
        }
    }

    /// The word.
    pub fn word(self) -> &'static str {
        match self {
            Standing::Valid => "VALID",
            Standing::Invalid => "INVALID",
            Standing::ProvesNothing => "PROVES NOTHING",
            Standing::NotJudged => "NOT JUDGED",
        }
    }
}

/// The verdict in words, for the top of a report.
pub fn headline(summary: &Summary, verdict: Option<&Verdict>, options: &Options) -> String {
    let done = format::count(summary.operations.ok);
    match Standing::of(summary, verdict, options) {
        Standing::Valid if verdict.is_some_and(|verdict| verdict.clock_lied) => {
            let names = anomalies(verdict);
            let names: Vec<String> = names.iter().map(|(name, count)| format!("{count} × {name}")).collect();
            let lost = if names.is_empty() { "nothing".to_string() } else { names.join(", ") };
            format!(
                "{done} operations took effect, and none of their answers contradicts serializability. A clock left its \
                 bound, so real time was not owed; what that cost: {lost}"
            )
        }
        Standing::Valid if summary.faults.is_empty() => {
            format!("{done} operations took effect, and none of their answers contradicts strict serializability")
        }
        Standing::Valid => {
            let faults = format::plural(summary.faults.len() as u64, "fault");
            format!(
                "{done} operations took effect under {faults}, and none of their answers contradicts strict serializability"
            )
        }
        Standing::Invalid => {
            let names = anomalies(verdict);
            let names: Vec<String> = names.iter().map(|(name, count)| format!("{count} × {name}")).collect();
            format!("this cannot have been under strict serializability: {}", names.join(", "))
        }
        Standing::ProvesNothing if summary.operations.ok == 0 => "no operation took effect".to_string(),
        Standing::ProvesNothing => options.problems.join("; "),
        Standing::NotJudged => format!("{done} operations took effect, and nobody checked their answers"),
    }
}

/// The names of what was found, and how many of each.
pub fn anomalies(verdict: Option<&Verdict>) -> Vec<(String, u64)> {
    let Some(verdict) = verdict else { return Vec::new() };
    let mut counts = verdict.counts.clone();
    for anomaly in &verdict.anomalies {
        if !verdict.counts.contains_key(&anomaly.name) {
            *counts.entry(anomaly.name.clone()).or_insert(0) += 1;
        }
    }
    counts.into_iter().collect()
}
