//! Where a plan's keys are: the ranges that it reads or writes, and the groups that hold them.

use std::collections::BTreeSet;

use txn::Span;

use crate::SqlError;
use crate::catalog::Catalog;
use crate::engine::AdminRows;
use crate::expr::{EvalContext, eval};
use crate::plan::Plan;
use crate::row;
use crate::types::Datum;

/// The most ranges that are listed.
const RANGES_SHOWN_MAX: usize = 16;

/// Where a plan's keys are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Places {
    /// `/t/1`, `[/t/1, /t/5)`; the last may say how many more there are.
    pub ranges: Vec<String>,
    /// In order; none if nobody could say.
    pub groups: Vec<u64>,
}

/// The spans that a plan reads, or locks before it writes.
pub(crate) fn spans(plan: &Plan, context: &EvalContext<'_>) -> Result<Vec<Span>, SqlError> {
    if plan.query().is_some() || matches!(plan, Plan::Insert(insert) if insert.source.is_some()) {
        // A query's scans know their keys when it runs; what it finds is known even later.
        return Ok(Vec::new());
    }
    match plan {
        Plan::Query(_) => Ok(Vec::new()),
        Plan::Select(plan) => match &plan.scan {
            Some(scan) if crate::system::of(&scan.table).is_none() => scan.access.spans(&scan.layout, context),
            _ => Ok(Vec::new()),
        },
        Plan::Update(plan) => plan.scan.access.spans(&plan.scan.layout, context),
        Plan::Delete(plan) => plan.scan.access.spans(&plan.scan.layout, context),
        Plan::Insert(plan) => {
            let mut spans = Vec::with_capacity(plan.rows.len());
            for exprs in &plan.rows {
                let values = exprs.iter().map(|expr| eval(expr, &[], context)).collect::<Result<Vec<_>, _>>()?;
                // A NULL in the key is an error of the statement, not of its explanation.
                if plan.table.key.iter().any(|part| values[part.column].is_null()) {
                    continue;
                }
                spans.push(Span::point(row::encode_key(&plan.table, &values)?));
            }
            Ok(spans)
        }
    }
}

/// What these spans are called, and who holds them by the rows of SHOW RANGES.
pub(crate) fn places(spans: &[Span], catalog: &Catalog, held: Option<&AdminRows>) -> Places {
    let pretty = |key: &[u8]| if key.is_empty() { "/Max".to_string() } else { row::pretty_key(key, catalog) };
    let name = |span: &Span| match span.is_point() {
        true => pretty(&span.start),
        false => format!("[{}, {})", pretty(&span.start), pretty(&span.end)),
    };
    let mut ranges: Vec<String> = spans.iter().take(RANGES_SHOWN_MAX).map(name).collect();
    if spans.len() > RANGES_SHOWN_MAX {
        ranges.push(format!(".. {} more", spans.len() - RANGES_SHOWN_MAX));
    }
    let mut groups = BTreeSet::new();
    if let Some(AdminRows { columns, rows }) = held {
        let at = |name: &str| columns.iter().position(|(found, _)| found == name);
        if let (Some(start), Some(end), Some(group)) = (at("start_key"), at("end_key"), at("group")) {
            for row in rows {
                if let (Datum::Bytes(start), Datum::Bytes(end), Datum::Int(group)) =
                    (&row[start], &row[end], &row[group])
                {
                    let range = Span::new(start.clone(), end.clone());
                    if spans.iter().any(|span| span.overlaps(&range)) {
                        groups.insert(group.unsigned_abs());
                    }
                }
            }
        }
    }
    Places { ranges, groups: groups.into_iter().collect() }
}
