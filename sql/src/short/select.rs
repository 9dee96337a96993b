//! Running SELECT.
//!
//! ```text
//!   scan -> filter -> [group] -> project -> [distinct] -> [sort] -> offset, limit -> output
//! ```
//!
//! Without the steps in brackets rows stream; with them they are kept, up to a bound.

use std::collections::{BTreeMap, BTreeSet};

use txn::client::ClientError;
use txn::{LockMode, LockPolicy};

use super::scan::{Pages, RowScanner};
use super::{Counts, Failure, Output, Reader, project, set_key, skip};
use crate::SqlError;
use crate::catalog::Table;
use crate::engine::Engine;
use crate::expr::aggregate::Accumulator;
use crate::expr::{EvalContext, Expr, eval, is_true};
use crate::plan::{Grouping, SelectPlan, SortKey};
use crate::sink::Sink;
use crate::types::Datum;
use crate::value;

/// The most that a sort, a DISTINCT or a GROUP BY keeps, in bytes.
pub(super) const WORK_BYTES_MAX: usize = 64 << 20;

pub(super) fn check_work(bytes: usize, what: &str) -> Result<(), SqlError> {
    if bytes > WORK_BYTES_MAX {
        return Err(SqlError::new("53200", format!("{what} needs too much memory"))
            .detail(format!("It keeps at most {WORK_BYTES_MAX} bytes."))
            .hint("Read fewer rows, or order by the primary key, which needs no sort."));
    }
    Ok(())
}

pub(super) fn row_bytes(row: &[Datum]) -> usize {
    row.iter().map(Datum::size_bytes).sum::<usize>() + std::mem::size_of::<Vec<Datum>>()
}

/// LIMIT or OFFSET: `None` for none.
fn count(expr: &Option<Expr>, clause: &str, context: &EvalContext<'_>) -> Result<Option<u64>, SqlError> {
    let Some(expr) = expr else { return Ok(None) };
    match eval(expr, &[], context)? {
        Datum::Int(v) => u64::try_from(v).map(Some).map_err(|_| {
            SqlError::new(if clause == "LIMIT" { "2201W" } else { "2201X" }, format!("{clause} must not be negative"))
        }),
        _ => Ok(None),
    }
}

/// Everything after the grouping.
pub(super) struct Pipeline<'a, 'b, 'c, S: Sink> {
    plan: &'a SelectPlan,
    context: &'a EvalContext<'a>,
    output: &'b mut Output<'c, S>,
    skip: u64,
    left: Option<u64>,
    seen: BTreeSet<Vec<u8>>,
    seen_bytes: usize,
    kept: Vec<Vec<Datum>>,
    kept_bytes: usize,
    sent: u64,
}

impl<S: Sink> Pipeline<'_, '_, '_, S> {
    fn is_done(&self) -> bool {
        self.left == Some(0)
    }

    /// How many rows a sort needs to keep.
    pub(super) fn wanted(&self) -> Option<usize> {
        self.left.and_then(|left| usize::try_from(left.saturating_add(self.skip)).ok())
    }

    pub(super) async fn take(&mut self, rows: Vec<Vec<Datum>>) -> Result<(), Failure> {
        let mut batch = Vec::with_capacity(rows.len());
        for row in rows {
            let row = project(&self.plan.project, &row, self.context)?;
            if self.plan.distinct {
                let key = set_key(&row);
                let bytes = key.len();
                if !self.seen.insert(key) {
                    continue;
                }
                self.seen_bytes += bytes;
                check_work(self.seen_bytes, "DISTINCT")?;
            }
            batch.push(row);
        }
        if self.plan.sort.is_empty() {
            return self.send(batch).await;
        }
        self.kept_bytes += batch.iter().map(|row| row_bytes(row)).sum::<usize>();
        self.kept.extend(batch);
        // With a LIMIT only the first rows matter: cut the rest off whenever it doubled.
        if let Some(wanted) = self.wanted()
            && self.kept.len() > wanted.saturating_mul(2).max(1024)
        {
            self.sort();
            self.kept.truncate(wanted);
            self.kept_bytes = self.kept.iter().map(|row| row_bytes(row)).sum();
        }
        check_work(self.kept_bytes, "sorting")?;
        Ok(())
    }

    fn sort(&mut self) {
        let keys = &self.plan.sort;
        self.kept.sort_by(|a, b| {
            keys.iter()
                .map(|key| compare(key, &a[key.column], &b[key.column]))
                .find(|order| order.is_ne())
                .unwrap_or(std::cmp::Ordering::Equal)
        });
    }

    async fn send(&mut self, mut rows: Vec<Vec<Datum>>) -> Result<(), Failure> {
        let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(rows.len());
        rows.drain(..skipped);
        self.skip -= skipped as u64;
        if let Some(left) = &mut self.left {
            rows.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= rows.len() as u64;
        }
        for row in &mut rows {
            row.truncate(self.plan.visible);
        }
        self.sent += rows.len() as u64;
        self.output.push(rows).await
    }

    async fn finish(mut self) -> Result<u64, Failure> {
        if !self.plan.sort.is_empty() {
            self.sort();
            let rows = std::mem::take(&mut self.kept);
            self.send(rows).await?;
        }
        Ok(self.sent)
    }
}

pub(super) fn compare(key: &SortKey, a: &Datum, b: &Datum) -> std::cmp::Ordering {
    let order = match (a.is_null(), b.is_null()) {
        (false, false) => value::compare(a, b),
        (a, b) => {
            let nulls = if key.nulls_first { b.cmp(&a) } else { a.cmp(&b) };
            return nulls;
        }
    };
    if key.desc { order.reverse() } else { order }
}

#[derive(Default)]
struct Groups {
    groups: BTreeMap<Vec<u8>, (Vec<Datum>, Vec<Accumulator>)>,
    bytes: usize,
}

impl Groups {
    fn add(&mut self, grouping: &Grouping, row: &[Datum], context: &EvalContext<'_>) -> Result<(), SqlError> {
        let values = project(&grouping.keys, row, context)?;
        let key = set_key(&values);
        if !self.groups.contains_key(&key) {
            self.bytes +=
                key.len() + row_bytes(&values) + grouping.aggregates.len() * std::mem::size_of::<Accumulator>();
            check_work(self.bytes, "GROUP BY")?;
        }
        let fresh = || (values, vec![Accumulator::default(); grouping.aggregates.len()]);
        let (_, accumulators) = self.groups.entry(key).or_insert_with(fresh);
        for (accumulator, aggregate) in accumulators.iter_mut().zip(&grouping.aggregates) {
            accumulator.add(aggregate, row, context)?;
        }
        Ok(())
    }

    fn finish(mut self, grouping: &Grouping, context: &EvalContext<'_>) -> Result<Vec<Vec<Datum>>, SqlError> {
        if grouping.keys.is_empty() && self.groups.is_empty() {
            self.groups.insert(Vec::new(), (Vec::new(), vec![Accumulator::default(); grouping.aggregates.len()]));
        }
        let mut rows = Vec::with_capacity(self.groups.len());
        for (mut row, accumulators) in self.groups.into_values() {
            for (accumulator, aggregate) in accumulators.into_iter().zip(&grouping.aggregates) {
                row.push(accumulator.finish(aggregate)?);
            }
            let keep = match &grouping.having {
                Some(having) => is_true(having, &row, context)?,
                None => true,
            };
            if keep {
                rows.push(row);
            }
        }
        Ok(rows)
    }
}

/// NOWAIT: 55P03 that names the table. Any other wait for a lock ends by its timeout.
fn not_available(failure: Failure, policy: LockPolicy, table: &Table) -> Failure {
    match failure {
        Failure::Client(ClientError::LockNotAvailable) if policy == LockPolicy::NoWait => {
            let message = format!("could not obtain lock on row in relation \"{}\"", table.name);
            SqlError::new("55P03", message).into()
        }
        other => other,
    }
}

pub(super) async fn run<E: Engine, S: Sink>(
    plan: &SelectPlan,
    context: &EvalContext<'_>,
    reader: &mut Reader<'_, E>,
    output: &mut Output<'_, S>,
) -> Result<Counts, Failure> {
    let skip = count(&plan.offset, "OFFSET", context)?.unwrap_or(0);
    let left = count(&plan.limit, "LIMIT", context)?;
    let mut pipeline = Pipeline {
        plan,
        context,
        output,
        skip,
        left,
        seen: BTreeSet::new(),
        seen_bytes: 0,
        kept: Vec::new(),
        kept_bytes: 0,
        sent: 0,
    };
    let mut groups = Groups::default();
    let (mut scanned, mut bytes) = (0, 0);
    match &plan.scan {
        None if let Some(values) = &plan.values => {
            let rows = values.iter().map(|row| project(row, &[], context)).collect::<Result<Vec<_>, _>>()?;
            pipeline.take(rows).await?;
        }
        None => {
            let keep = match &plan.filter {
                Some(filter) => is_true(filter, &[], context)?,
                None => true,
            };
            match (&plan.grouping, keep) {
                (Some(grouping), true) => groups.add(grouping, &[], context)?,
                (None, true) => pipeline.take(vec![Vec::new()]).await?,
                (_, false) => {}
            }
        }
        Some(scan) if let Reader::Rows(rows) = reader => {
            let mut rows = std::mem::take(rows);
            scanned = rows.len() as u64;
            if let Some(filter) = &scan.filter {
                let mut kept = Vec::new();
                for row in rows {
                    if is_true(filter, &row, context)? {
                        kept.push(row);
                    }
                }
                rows = kept;
            }
            match &plan.grouping {
                Some(grouping) => {
                    for row in &rows {
                        groups.add(grouping, row, context)?;
                    }
                }
                None => pipeline.take(rows).await?,
            }
        }
        Some(scan) => {
            let streams = plan.grouping.is_none() && plan.sort.is_empty();
            let first = plan.grouping.as_ref().is_some_and(|grouping| grouping.first);
            let pages = match left {
                _ if first && scan.filter.is_none() => Pages::Exactly(1),
                _ if first => Pages::Growing,
                Some(left) if streams && scan.filter.is_none() && !plan.distinct => {
                    Pages::Exactly(if left == 0 { 0 } else { left.saturating_add(skip) })
                }
                Some(_) if streams => Pages::Growing,
                _ => Pages::Full,
            };
            let mode = plan.lock.unwrap_or(LockMode::Shared);
            if plan.policy == LockPolicy::Skip {
                let counts = skip::run(plan, scan, context, reader, &mut pipeline).await?;
                let rows = pipeline.finish().await?;
                return Ok(Counts { rows, ..counts });
            }
            let mut scanner = RowScanner::new(scan, context, pages, mode)?.policy(plan.policy);
            let refused = |failure| not_available(failure, plan.policy, &scan.table);
            while !pipeline.is_done()
                && let Some(found) = scanner.next(reader, context).await.map_err(refused)?
            {
                (scanned, bytes) = (scanner.scanned, scanner.bytes);
                let rows: Vec<Vec<Datum>> = found.into_iter().map(|found| found.row).collect();
                match &plan.grouping {
                    Some(grouping) => {
                        for row in rows.iter().take(if first { 1 } else { usize::MAX }) {
                            groups.add(grouping, row, context)?;
                        }
                        if first && !rows.is_empty() {
                            break;
                        }
                    }
                    None => pipeline.take(rows).await?,
                }
            }
        }
    }
    if let Some(grouping) = &plan.grouping {
        let rows = groups.finish(grouping, context)?;
        pipeline.take(rows).await?;
    }
    let rows = pipeline.finish().await?;
    Ok(Counts { rows, scanned, bytes })
}
