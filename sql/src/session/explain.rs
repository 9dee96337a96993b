//! EXPLAIN and EXPLAIN ANALYZE.

use std::sync::Arc;

use serde_json::json;

use super::Session;
use super::database::Cached;
use super::run::{Ran, convert_params, send, tag};
use super::timeout::in_time;
use crate::SqlError;
use crate::catalog::Catalog;
use crate::engine::{AdminCommand, Engine};
use crate::explain::{self, Places, Tree};
use crate::expr::EvalContext;
use crate::parse::{ExplainOptions, Statement};
use crate::plan::Planned;
use crate::show::text_columns;
use crate::sink::{ColumnInfo, Completion, Sink};
use crate::types::Datum;

pub(super) fn columns() -> Vec<ColumnInfo> {
    text_columns(&["QUERY PLAN"])
}

fn ms(ns: i64) -> f64 {
    ns as f64 / 1e6
}

impl<E: Engine> Session<E> {
    pub(super) async fn explain<S: Sink>(
        &mut self,
        options: ExplainOptions,
        statement: &Statement,
        params: &[Datum],
        sink: &mut S,
    ) -> Result<Completion, SqlError> {
        let cached = Cached::inner(statement);
        let start = self.db.engine().mono_ns();
        let (mut planned, _) = in_time(self.db.engine(), self.deadline, self.plan(&cached)).await?;
        let planning_ns = self.db.engine().mono_ns() - start;
        let mut done = tag("EXPLAIN");
        let mut ran = None;
        if options.analyze {
            let start = self.db.engine().mono_ns();
            let result;
            (planned, result) = self.plan_and_run::<S>(&cached, params, None).await?;
            let total_ns = self.db.engine().mono_ns() - start;
            done.commit = result.commit.clone();
            done.read_ts = result.read_ts;
            ran = Some((result, total_ns));
        }
        let detailed = options.analyze || options.verbose || options.json;
        let places = if detailed { self.places(&planned, params).await? } else { Places::default() };
        let mut tree = explain::tree(&planned.plan);
        if let Some(query) = planned.plan.query() {
            let params = match params.len() == planned.params.len() {
                true => convert_params(&planned.params, params)?,
                false => Vec::new(),
            };
            let engine = self.db.engine();
            let context = EvalContext { params: &params, now: engine.now().latest, random: engine };
            tree.operators(&crate::select::explain(query, &context).await?);
        }
        let lines = if options.json {
            vec![json_text(tree, &places, options, planning_ns, ran.as_ref())]
        } else {
            text_lines(tree, &places, options, planning_ns, ran.as_ref())
        };
        let rows = lines.into_iter().map(|line| vec![Datum::Text(line)]).collect();
        send(columns(), rows, sink).await?;
        Ok(done)
    }

    /// Which keys a plan is about, and who holds them. Without the values of its parameters nobody can say.
    async fn places(&self, planned: &Planned, params: &[Datum]) -> Result<Places, SqlError> {
        if params.len() != planned.params.len() {
            return Ok(Places::default());
        }
        let params = convert_params(&planned.params, params)?;
        let context = EvalContext { params: &params, now: self.db.engine().now().latest, random: self.db.engine() };
        let spans = explain::spans(&planned.plan, &context)?;
        if spans.is_empty() {
            return Ok(Places::default());
        }
        // Who holds the ranges is asked of all nodes; if that fails the plan is explained all the same.
        let held = self.db.engine().admin(AdminCommand::ShowRanges).await.ok();
        let catalog: Arc<Catalog> = self.db.catalog().await?;
        Ok(explain::places(&spans, &catalog, held.as_ref()))
    }
}

fn text_lines(
    tree: Tree,
    places: &Places,
    options: ExplainOptions,
    planning_ns: i64,
    ran: Option<&(Ran, i64)>,
) -> Vec<String> {
    let mut lines = tree.lines;
    if !places.ranges.is_empty() {
        lines.push(format!("Ranges: {}", places.ranges.join(", ")));
    }
    if !places.groups.is_empty() {
        let groups: Vec<String> = places.groups.iter().map(u64::to_string).collect();
        lines.push(format!("Groups: {}", groups.join(", ")));
    }
    if ran.is_some() || options.summary {
        lines.push(format!("Planning Time: {:.3} ms", ms(planning_ns)));
    }
    if let Some((ran, total_ns)) = ran {
        let commit_ns = ran.commit.as_ref().map_or(0, |commit| commit.total_ns);
        let elapsed_ns = (total_ns - commit_ns).max(0);
        lines.extend(explain::analyze_lines(&ran.counts, elapsed_ns, ran.lock_wait_ns, ran.commit.as_ref()));
    }
    lines
}

/// One text, as PostgreSQL sends it: an array with one object.
fn json_text(
    mut tree: Tree,
    places: &Places,
    options: ExplainOptions,
    planning_ns: i64,
    ran: Option<&(Ran, i64)>,
) -> String {
    if !places.ranges.is_empty() {
        tree.set("Ranges", json!(places.ranges));
    }
    if !places.groups.is_empty() {
        tree.set("Groups", json!(places.groups));
    }
    let mut whole = serde_json::Map::new();
    if let Some((ran, total_ns)) = ran {
        tree.set("Rows Read", ran.counts.scanned);
        tree.set("Bytes Read", ran.counts.bytes);
        tree.set_of_first("Actual Rows", ran.counts.rows);
        tree.set_of_first("Actual Loops", 1);
        if options.timing {
            tree.set_of_first("Actual Total Time", ms(*total_ns));
        }
    }
    whole.insert("Plan".into(), tree.json());
    if ran.is_some() || options.summary {
        whole.insert("Planning Time".into(), json!(ms(planning_ns)));
    }
    if let Some((ran, total_ns)) = ran {
        whole.insert("Execution Time".into(), json!(ms(*total_ns)));
        whole.insert("Lock Wait Time".into(), json!(ms(ran.lock_wait_ns)));
        if let Some(at) = ran.read_ts {
            whole.insert("Read Timestamp".into(), json!(at.to_string()));
        }
        if let Some(commit) = &ran.commit {
            let timing = &commit.timing;
            whole.insert(
                "Commit".into(),
                json!({
                    "Commit Timestamp": commit.commit_ts.map(|at| at.to_string()),
                    "Participants": commit.participants,
                    "Lock Wait Time": ms(timing.lock_wait_ns),
                    "Prepare Time": ms(timing.prepare_ns),
                    "Replication Time": ms(timing.replicate_ns),
                    "Commit Wait Time": ms(timing.commit_wait_ns),
                    "Apply Time": ms(timing.apply_ns),
                    "Total Time": ms(commit.total_ns),
                }),
            );
        }
    }
    serde_json::to_string_pretty(&json!([whole])).expect("a plan has only texts and numbers")
}
