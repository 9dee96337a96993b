//! `meridian workload all`: each workload in turn, and a table of verdicts.

use std::future::Future;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use tokio::sync::Notify;

use super::outcome::Report;
use super::{bank, kinds};
use crate::args::{self, BankArgs, RunArgs};
use crate::out::Out;

/// `all.jsonl` becomes `all-append.jsonl`.
fn own_file(path: &Path, name: &str) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let file = match path.extension() {
        Some(extension) => format!("{stem}-{name}.{}", extension.to_string_lossy()),
        None => format!("{stem}-{name}"),
    };
    path.with_file_name(file)
}

/// The arguments for one of them.
fn own(args: &RunArgs, name: &str) -> RunArgs {
    let mut own = args.clone();
    own.history = args.history.as_deref().map(|path| own_file(path, name));
    own.judge.html = args.judge.html.as_deref().map(|path| own_file(path, name));
    own
}

/// `meridian workload all run`. Ctrl-C ends the present one and starts no other.
pub async fn run(
    args: &RunArgs,
    stop: impl Future<Output = ()> + Send + 'static,
    out: &mut Out,
    err: &mut Out,
) -> anyhow::Result<i32> {
    let text = args.report == args::Report::Text;
    let interrupted = Arc::new((AtomicBool::new(false), Notify::new()));
    let told = interrupted.clone();
    tokio::spawn(async move {
        stop.await;
        told.0.store(true, Ordering::SeqCst);
        told.1.notify_one();
    });
    let mut rows = vec![Report::COLUMNS.map(str::to_string).to_vec()];
    let (mut reports, mut good) = (Vec::new(), true);
    for name in kinds::NAMES.into_iter().chain(["bank"]) {
        if interrupted.0.load(Ordering::SeqCst) {
            good = false;
            break;
        }
        let lines: &mut Out = if text { &mut *out } else { &mut *err };
        lines.line(format!("\n=== {name}"));
        let own = own(args, name);
        let stop = interrupted.1.notified();
        let (row, report, valid, shown) = if name == "bank" {
            let summary = bank::run::load(&bank_args(&own), stop, lines).await?;
            (summary.row(), summary.json(), summary.good(), summary.text())
        } else {
            let report = super::run::load(name, &own, stop, lines).await?;
            (report.row(), report.json(), report.good(), report.text())
        };
        for line in shown {
            lines.line(line);
        }
        good &= valid;
        rows.push(row);
        reports.push(report);
        let _ = lines.flush();
    }
    let lines: &mut Out = if text { &mut *out } else { &mut *err };
    lines.line("");
    for line in table(&rows) {
        lines.line(line);
    }
    if text {
        out.line(if good { "all valid" } else { "NOT ALL ARE VALID" });
    } else {
        out.line(json!({"good": good, "workloads": Value::Array(reports)}).to_string());
    }
    let _ = out.flush();
    Ok(i32::from(!good))
}

/// Columns side by side: the first to the left, the last too, numbers to the right.
fn table(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |at: usize| rows.iter().filter_map(|row| row.get(at)).map(String::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).enumerate().map(|(at, (cell, width))| {
            if at == 0 || at + 1 == columns { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_string()
    };
    rows.iter().map(line).collect()
}

/// A small bank of its own.
fn bank_args(args: &RunArgs) -> BankArgs {
    BankArgs {
        connect: args.connect.clone(),
        accounts: Some(200),
        shards: 4,
        initial_balance: 1000,
        ledger: false,
        init: true,
        clients: args.clients,
        duration: args.duration,
        read_percent: 20,
        report: args.report,
        history: args.history.clone(),
        seed: args.seed,
        statement_timeout: args.statement_timeout,
        resolve_timeout: args.resolve_timeout,
        beside: args.beside.clone(),
        judge: args.judge.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_as_shown() {
        let row = |cells: [&str; 3]| cells.map(str::to_string).to_vec();
        let lines = table(&[row(["workload", "ops/s", "verdict"]), row(["append", "17", "valid"])]);
        assert_eq!(lines, ["workload  ops/s  verdict", "append       17  valid"]);
    }

    #[test]
    fn each_workload_has_files_of_its_own() {
        assert_eq!(own_file(Path::new("/tmp/h.jsonl"), "set"), PathBuf::from("/tmp/h-set.jsonl"));
        assert_eq!(own_file(Path::new("history"), "set"), PathBuf::from("history-set"));
    }
}
