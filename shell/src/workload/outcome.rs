//! The report at the end of a run, for people, as one JSON object, and as a row of a table.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::judge::Judged;
use super::meter::Spent;
use super::tally::{Counts, Gap};
use crate::nemesis::NemesisSummary;
use crate::units::{human, ms};

/// How many errors and violations the text lists.
const LISTED_MAX: usize = 20;

/// All that a run found out.
pub struct Report {
    /// The workload.
    pub name: &'static str,
    /// What the clients counted. "Transfers" are transactions that wrote, "declined" those that failed.
    pub counts: Counts,
    /// How long they worked.
    pub elapsed: Duration,
    /// What the nodes spent.
    pub spent: Spent,
    /// The nodes' clocks: source, and epsilon in nanoseconds.
    pub clocks: BTreeMap<u64, (String, i64)>,
    /// How many clients there were.
    pub clients: u64,
    /// Of their choices.
    pub seed: u64,
    /// The longest stretch without a success.
    pub gap: Gap,
    /// Errors by text.
    pub errors: BTreeMap<String, u64>,
    /// Transactions that nobody could tell of, to the end.
    pub unresolved: Vec<String>,
    /// Answers that cannot be.
    pub violations: Vec<String>,
    /// How many final reads there were, or why there were none.
    pub last: Result<u64, String>,
    /// What hurt the cluster meanwhile, if anything did.
    pub nemesis: Option<NemesisSummary>,
    /// As asked for.
    pub min_ops: u64,
    /// What the history proves.
    pub judged: Judged,
}

impl Report {
    /// Transactions that certainly took effect.
    pub fn committed(&self) -> u64 {
        self.counts.transfers + self.counts.reads()
    }

    fn failed(&self) -> u64 {
        self.counts.declined
    }

    /// Why the run proves nothing, or worse; none: it is good.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.committed() < self.min_ops {
            let (done, least) = (self.committed(), self.min_ops);
            problems.push(format!("only {done} transactions took effect, and {least} are needed to prove something"));
        } else if self.counts.transfers == 0 {
            problems.push("nothing was written, so nothing was tested".to_string());
        }
        if let Err(why) = &self.last {
            problems.push(why.clone());
        }
        problems
    }

    /// Whether the run proves something good.
    pub fn good(&self) -> bool {
        self.problems().is_empty() && self.violations.is_empty() && self.judged.good()
    }

    /// The verdict in a word.
    pub fn word(&self) -> &'static str {
        if !self.judged.good() || !self.violations.is_empty() {
            "INVALID"
        } else if !self.problems().is_empty() {
            "proves nothing"
        } else {
            self.judged.word()
        }
    }

    fn rate(&self) -> f64 {
        self.committed() as f64 / self.elapsed.as_secs_f64().max(1e-3)
    }

    fn per_commit(&self, amount: f64) -> f64 {
        if self.counts.transfers == 0 { 0.0 } else { amount / self.counts.transfers as f64 }
    }

    /// Headings of [`Report::row`].
    pub const COLUMNS: [&str; 9] =
        ["workload", "writes", "reads", "failed", "in doubt", "unknown", "ops/s", "p99 ms", "verdict"];

    /// A row of the table of `all`.
    pub fn row(&self) -> Vec<String> {
        let c = &self.counts;
        vec![
            self.name.to_string(),
            c.transfers.to_string(),
            c.reads().to_string(),
            self.failed().to_string(),
            c.ambiguous.to_string(),
            self.unresolved.len().to_string(),
            format!("{:.0}", self.rate()),
            format!("{:.1}", c.quantile_ms(0.99)),
            self.word().to_string(),
        ]
    }

    /// For people.
    pub fn text(&self) -> Vec<String> {
        let c = &self.counts;
        let clocks: Vec<String> =
            self.clocks.iter().map(|(node, (source, ns))| format!("n{node} {source} (± {} ms)", ms(*ns))).collect();
        let mut lines = vec![
            String::new(),
            format!("workload       {}, {} clients, seed {}", self.name, self.clients, self.seed),
            format!("nodes          {}: {}", self.clocks.len(), clocks.join(", ")),
            format!(
                "transactions   {} took effect in {} ({:.1}/s): {} wrote, {} read the present, {} read the past",
                self.committed(),
                human(self.elapsed),
                self.rate(),
                c.transfers,
                c.reads_strong,
                c.reads_past + c.reads_again
            ),
            format!(
                "latency ms     of those that wrote: p50 {:.2}, p95 {:.2}, p99 {:.2}, max {:.2}",
                c.quantile_ms(0.5),
                c.quantile_ms(0.95),
                c.quantile_ms(0.99),
                c.max_ms()
            ),
            format!(
                "trouble        {} failed ({} by conflicts), {} errors, {} reconnects",
                self.failed(),
                c.retries,
                c.errors,
                c.reconnects
            ),
            format!(
                "in doubt       {}: {} had committed, {} had not, {} unknown to the end",
                c.ambiguous,
                c.ambiguous_committed,
                c.ambiguous_aborted,
                self.unresolved.len()
            ),
            format!(
                "longest gap    {} without a success, from {:.1} s on",
                human(self.gap.longest),
                self.gap.at.as_secs_f64()
            ),
            format!(
                "per write      {:.3} fsyncs, {:.3} ms of CPU (all nodes)",
                self.per_commit(self.spent.fsyncs as f64),
                self.per_commit(self.spent.cpu_us as f64 / 1e3)
            ),
        ];
        let mut errors: Vec<_> = self.errors.iter().collect();
        errors.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        lines.extend(errors.iter().take(LISTED_MAX).map(|(text, count)| format!("  {count:>6} x {text}")));
        lines.extend(self.unresolved.iter().take(LISTED_MAX).map(|what| format!("UNRESOLVED     {what}")));
        lines.extend(self.nemesis.iter().flat_map(NemesisSummary::text));
        if let Ok(count) = &self.last {
            lines.push(format!("last reads     {count} transactions, after everything was healed"));
        }
        if self.judged.verdict.is_none() {
            lines.extend(self.violations.iter().take(LISTED_MAX).map(|what| format!("VIOLATION      {what}")));
        }
        lines.extend(self.judged.text());
        lines.extend(self.problems().iter().map(|why| format!("FAILED         {why}")));
        lines
    }

    /// The object of `--report json`.
    pub fn json(&self) -> Value {
        let c = &self.counts;
        let round = |value: f64| (value * 1e3).round() / 1e3;
        let mut report = json!({
            "workload": self.name,
            "seed": self.seed,
            "clients": self.clients,
            "duration_s": round(self.elapsed.as_secs_f64()),
            "committed": self.committed(),
            "ops_per_s": round(self.rate()),
            "writes": c.transfers,
            "reads_strong": c.reads_strong,
            "reads_past": c.reads_past + c.reads_again,
            "failed": self.failed(),
            "conflicts": c.retries,
            "errors": c.errors,
            "error_texts": self.errors,
            "reconnects": c.reconnects,
            "ambiguous": c.ambiguous,
            "ambiguous_committed": c.ambiguous_committed,
            "ambiguous_aborted": c.ambiguous_aborted,
            "ambiguous_unresolved": self.unresolved.len(),
            "p50_ms": c.quantile_ms(0.50),
            "p95_ms": c.quantile_ms(0.95),
            "p99_ms": c.quantile_ms(0.99),
            "longest_gap_s": round(self.gap.longest.as_secs_f64()),
            "longest_gap_at_s": round(self.gap.at.as_secs_f64()),
        });
        report["node_restarts"] = json!(self.spent.restarts);
        report["violations"] = json!(self.violations);
        report["problems"] = json!(self.problems());
        report["nemesis"] = self.nemesis.as_ref().map_or(Value::Null, NemesisSummary::json);
        self.judged.json(&mut report);
        report["good"] = json!(self.good());
        report
    }
}
