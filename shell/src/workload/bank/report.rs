//! The report at the end of a run, for people and as one JSON object.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::Setup;
use super::worker::{Shared, locked};
use crate::args::BankArgs;
use crate::nemesis::NemesisSummary;
use crate::units::{human, ms};
use crate::workload::judge::Judged;
use crate::workload::meter::{Meter, Spent};
use crate::workload::tally::{Counts, Gap};

/// How many errors and violations the text lists.
const LISTED_MAX: usize = 20;

/// All that a run found out.
pub struct Summary {
    setup: Setup,
    clients: u64,
    read_percent: u32,
    seed: u64,
    elapsed: Duration,
    counts: Counts,
    spent: Spent,
    clocks: BTreeMap<u64, (String, i64)>,
    gap: Gap,
    violations: Vec<String>,
    unresolved: Vec<String>,
    errors: BTreeMap<String, u64>,
    final_read: Result<(), String>,
    nemesis: Option<NemesisSummary>,
    min_ops: u64,
    judged: Judged,
}

impl Summary {
    /// Collects what the clients, the meter, the last read and the judge said.
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        args: &BankArgs,
        shared: &Shared,
        counts: Counts,
        elapsed: Duration,
        meter: &Meter,
        seed: u64,
        final_read: Result<(), String>,
        nemesis: Option<NemesisSummary>,
        judged: Judged,
    ) -> Summary {
        Summary {
            setup: shared.setup,
            clients: args.clients,
            read_percent: args.read_percent,
            seed,
            elapsed,
            counts,
            spent: meter.spent(),
            clocks: meter.clocks().clone(),
            gap: locked(&shared.gap).clone(),
            violations: locked(&shared.violations).clone(),
            unresolved: locked(&shared.unresolved).clone(),
            errors: locked(&shared.errors).clone(),
            final_read,
            nemesis,
            min_ops: args.judge.min_ops,
            judged,
        }
    }

    /// "held" or "violated".
    pub fn invariant(&self) -> &'static str {
        if self.violations.is_empty() { "held" } else { "violated" }
    }

    /// Whether the run proves something good: the invariant held, the accounts were read at the
    /// end, and, unless only reads were asked for, something was committed.
    pub fn good(&self) -> bool {
        self.violations.is_empty() && self.final_read.is_ok() && self.judged.good() && self.worked()
    }

    fn worked(&self) -> bool {
        let done = self.counts.transfers + self.counts.reads();
        done >= self.min_ops && (self.counts.transfers > 0 || self.read_percent == 100)
    }

    /// A row of the table of `workload all`.
    pub fn row(&self) -> Vec<String> {
        let c = &self.counts;
        let word = if !self.violations.is_empty() || !self.judged.good() {
            "INVALID"
        } else if !self.good() {
            "proves nothing"
        } else {
            self.judged.word()
        };
        vec![
            "bank".to_string(),
            c.transfers.to_string(),
            c.reads().to_string(),
            c.declined.to_string(),
            c.ambiguous.to_string(),
            self.unresolved.len().to_string(),
            format!("{:.0}", (c.transfers + c.reads()) as f64 / self.elapsed.as_secs_f64().max(1e-3)),
            format!("{:.1}", c.quantile_ms(0.99)),
            word.to_string(),
        ]
    }

    fn rate(&self) -> f64 {
        self.counts.transfers as f64 / self.elapsed.as_secs_f64().max(1e-3)
    }

    /// A cost per committed transfer; those found committed by their status count too.
    fn per_transfer(&self, amount: f64) -> f64 {
        let committed = self.counts.transfers + self.counts.ambiguous_committed;
        if committed == 0 { 0.0 } else { amount / committed as f64 }
    }

    /// The object of `--report json`.
    pub fn json(&self) -> Value {
        let c = &self.counts;
        let round = |value: f64| (value * 1e3).round() / 1e3;
        let clocks = self.clocks.iter();
        let clocks =
            clocks.map(|(node, (source, ns))| json!({"node": node, "source": source, "epsilon_ms": *ns as f64 / 1e6}));
        // Two objects, because the macro's recursion has a limit.
        let mut report = json!({
            "workload": "bank",
            "duration_s": round(self.elapsed.as_secs_f64()),
            "transfers": c.transfers,
            "transfers_per_s": round(self.rate()),
            "p50_ms": c.quantile_ms(0.50),
            "p95_ms": c.quantile_ms(0.95),
            "p99_ms": c.quantile_ms(0.99),
            "max_ms": c.max_ms(),
            "mean_ms": round(c.latency_us.mean() / 1e3),
            "declined": c.declined,
            "retries": c.retries,
            "errors": c.errors,
            "error_texts": self.errors,
            "reconnects": c.reconnects,
            "ambiguous": c.ambiguous,
            "ambiguous_committed": c.ambiguous_committed,
            "ambiguous_aborted": c.ambiguous_aborted,
            "ambiguous_unresolved": c.ambiguous_unresolved,
            "unresolved": self.unresolved,
            "reads": c.reads(),
            "reads_strong": c.reads_strong,
            "reads_past": c.reads_past,
            "reads_again": c.reads_again,
            "invariant": self.invariant(),
            "violations": self.violations,
            "final_read": self.final_read.clone().err().unwrap_or_else(|| "ok".to_string()),
            "longest_gap_s": round(self.gap.longest.as_secs_f64()),
            "longest_gap_at_s": round(self.gap.at.as_secs_f64()),
        });
        let cost = json!({
            "fsyncs": self.spent.fsyncs,
            "fsyncs_per_transfer": round(self.per_transfer(self.spent.fsyncs as f64)),
            "cpu_s": round(self.spent.cpu_us as f64 / 1e6),
            "cpu_ms_per_transfer": round(self.per_transfer(self.spent.cpu_us as f64 / 1e3)),
            "log_bytes_per_transfer": round(self.per_transfer(self.spent.log_bytes as f64)),
            "messages_per_transfer": round(self.per_transfer(self.spent.messages as f64)),
            "batches_per_transfer": round(self.per_transfer(self.spent.batches as f64)),
            "node_restarts": self.spent.restarts,
            "nodes": self.clocks.len(),
            "clocks": clocks.collect::<Vec<_>>(),
            "clients": self.clients,
            "accounts": self.setup.accounts,
            "shards": self.setup.shards,
            "ledger": self.setup.ledger,
            "read_percent": self.read_percent,
            "seed": self.seed,
        });
        if let (Some(report), Value::Object(cost)) = (report.as_object_mut(), cost) {
            report.extend(cost);
        }
        report["nemesis"] = self.nemesis.as_ref().map_or(Value::Null, NemesisSummary::json);
        self.judged.json(&mut report);
        report
    }

    /// The report for people.
    pub fn text(&self) -> Vec<String> {
        let c = &self.counts;
        let clocks: Vec<String> =
            self.clocks.iter().map(|(node, (source, ns))| format!("n{node} {source} (± {} ms)", ms(*ns))).collect();
        let mut lines = vec![
            String::new(),
            format!("nodes          {}: {}", self.clocks.len(), clocks.join(", ")),
            format!(
                "set-up         {} accounts in {} shards, {} clients, {} % reads, seed {}",
                self.setup.accounts, self.setup.shards, self.clients, self.read_percent, self.seed
            ),
            format!(
                "transfers      {} in {} ({:.1}/s), {} declined",
                c.transfers,
                human(self.elapsed),
                self.rate(),
                c.declined
            ),
            format!(
                "latency ms     p50 {:.2}, p95 {:.2}, p99 {:.2}, max {:.2}",
                c.quantile_ms(0.5),
                c.quantile_ms(0.95),
                c.quantile_ms(0.99),
                c.max_ms()
            ),
            format!("trouble        {} retries, {} errors, {} reconnects", c.retries, c.errors, c.reconnects),
            format!(
                "ambiguous      {} ({} committed, {} aborted, {} unresolved)",
                c.ambiguous, c.ambiguous_committed, c.ambiguous_aborted, c.ambiguous_unresolved
            ),
            format!(
                "longest gap    {} without a transfer, from {:.1} s on",
                human(self.gap.longest),
                self.gap.at.as_secs_f64()
            ),
            format!(
                "per transfer   {:.3} fsyncs, {:.3} ms of CPU, {:.0} log bytes, {:.1} messages in {:.1} batches (all nodes)",
                self.per_transfer(self.spent.fsyncs as f64),
                self.per_transfer(self.spent.cpu_us as f64 / 1e3),
                self.per_transfer(self.spent.log_bytes as f64),
                self.per_transfer(self.spent.messages as f64),
                self.per_transfer(self.spent.batches as f64),
            ),
            format!("in all         {} fsyncs, {:.2} s of CPU", self.spent.fsyncs, self.spent.cpu_us as f64 / 1e6),
            format!(
                "snapshots      {} ({} at the present, {} past, {} read again)",
                c.reads(),
                c.reads_strong,
                c.reads_past,
                c.reads_again
            ),
        ];
        let mut errors: Vec<_> = self.errors.iter().collect();
        errors.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        lines.extend(errors.iter().take(LISTED_MAX).map(|(text, count)| format!("  {count:>6} x {text}")));
        lines.extend(self.unresolved.iter().map(|what| format!("UNRESOLVED     {what}")));
        lines.extend(self.nemesis.iter().flat_map(NemesisSummary::text));
        if let Err(why) = &self.final_read {
            lines.push(format!("UNREADABLE     the accounts could not be read at the end: {why}"));
        }
        lines.extend(self.violations.iter().take(LISTED_MAX).map(|what| format!("VIOLATION      {what}")));
        if c.transfers == 0 && self.read_percent < 100 {
            lines.push("FAILED         nothing was committed, so nothing was tested".to_string());
        } else if !self.worked() {
            lines.push(format!("FAILED         fewer than {} operations, which prove nothing", self.min_ops));
        }
        lines.extend(self.judged.text());
        lines.push(format!("invariant      {}", self.invariant()));
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary() -> Summary {
        let mut counts = Counts { retries: 2, reads_past: 3, reads_strong: 1, ..Counts::default() };
        for _ in 0..100 {
            counts.transfer(Duration::from_millis(4));
        }
        Summary {
            setup: Setup { accounts: 1000, initial_balance: 1000, shards: 4, ledger: false, runs: 1 },
            clients: 8,
            read_percent: 10,
            seed: 7,
            elapsed: Duration::from_secs(10),
            counts,
            spent: Spent { fsyncs: 250, cpu_us: 45_000, ..Spent::default() },
            clocks: BTreeMap::from([(1, ("fixed:1ms".to_string(), 1_000_000))]),
            gap: Gap::default(),
            violations: Vec::new(),
            unresolved: Vec::new(),
            errors: BTreeMap::new(),
            final_read: Ok(()),
            nemesis: None,
            min_ops: 50,
            judged: Judged::default(),
        }
    }

    #[test]
    fn the_json_report_has_the_promised_names() {
        let report = summary().json();
        for (name, value) in [
            ("transfers", json!(100)),
            ("transfers_per_s", json!(10.0)),
            ("retries", json!(2)),
            ("ambiguous", json!(0)),
            ("reads", json!(4)),
            ("invariant", json!("held")),
            ("fsyncs_per_transfer", json!(2.5)),
            ("cpu_ms_per_transfer", json!(0.45)),
        ] {
            assert_eq!(report[name], value, "{name}");
        }
        for name in ["p50_ms", "p95_ms", "p99_ms"] {
            let ms = report[name].as_f64().expect("a number");
            assert!((3.9..4.1).contains(&ms), "{name} {ms}");
        }
        assert!(!report.to_string().contains('\n'), "one line");
    }

    #[test]
    fn a_run_that_proved_nothing_is_not_good() {
        assert!(summary().good());
        assert!(!Summary { counts: Counts::default(), ..summary() }.good());
        assert!(!Summary { final_read: Err("no leader".into()), ..summary() }.good());
        let violated = Summary { violations: vec!["sum".into()], ..summary() };
        assert!(!violated.good());
        assert_eq!(violated.json()["invariant"], "violated");
        assert!(violated.text().iter().any(|line| line.starts_with("VIOLATION")));
    }
}
