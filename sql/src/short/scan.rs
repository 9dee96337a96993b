//! Reading spans in order, page by page.

use std::collections::VecDeque;

use txn::{LockMode, ReadOp, Row, Span};

use super::{Failure, Reader};
use crate::SqlError;
use crate::engine::Engine;
use crate::expr::{EvalContext, is_true};
use crate::plan::Scan;
use crate::row;
use crate::types::Datum;

/// The most keys of one read.
const POINTS_MAX: usize = 1024;
/// Rows of the first page where a LIMIT may be reached early but rows are filtered; it doubles.
const FIRST_PAGE_ROWS: u64 = 64;
/// Where the doubling ends.
const PAGE_ROWS_MAX: u64 = 1 << 14;

/// How much to ask for at a time.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pages {
    /// As much as a reply holds.
    Full,
    /// So many rows and no more.
    Exactly(u64),
    /// Small pages first.
    Growing,
}

/// The rows of some spans, in key order or in reverse.
pub(super) struct Scanner {
    spans: VecDeque<Span>,
    reverse: bool,
    pages: Pages,
    page_rows: u64,
    mode: LockMode,
}

impl Scanner {
    pub(super) fn new(mut spans: Vec<Span>, reverse: bool, pages: Pages, mode: LockMode) -> Scanner {
        if reverse {
            spans.reverse();
        }
        Scanner { spans: spans.into(), reverse, pages, page_rows: FIRST_PAGE_ROWS, mode }
    }

    /// The next rows, maybe none yet; `None` at the end.
    pub(super) async fn next<E: Engine>(&mut self, reader: &mut Reader<'_, E>) -> Result<Option<Vec<Row>>, Failure> {
        if let Pages::Exactly(0) = self.pages {
            return Ok(None);
        }
        let Some(first) = self.spans.front() else { return Ok(None) };
        let limit = match self.pages {
            Pages::Full => 0,
            Pages::Exactly(rows) => rows,
            Pages::Growing => self.page_rows,
        };
        let points = self.spans.iter().take(POINTS_MAX).take_while(|span| span.is_point()).count();
        let count = match self.pages {
            _ if !first.is_point() => 1,
            // Reading locks: no more keys than rows are wanted.
            Pages::Full => points,
            _ => points.min(usize::try_from(limit).unwrap_or(POINTS_MAX)),
        };
        self.page_rows = (self.page_rows * 2).min(PAGE_ROWS_MAX);
        let spans: Vec<Span> = self.spans.drain(..count).collect();
        let op = |span: &Span| ReadOp {
            span: span.clone(),
            reverse: self.reverse,
            limit: if span.is_point() { 0 } else { limit },
        };
        let more = !self.spans.is_empty();
        let results = reader.read(spans.iter().map(op).collect(), self.mode, more).await?;

        let mut rows = Vec::new();
        let mut left = Vec::new();
        for (span, result) in spans.into_iter().zip(results) {
            if !left.is_empty() {
                // Rows of later spans must not overtake: they are read again.
                left.push(span);
                continue;
            }
            let full = limit > 0 && !span.is_point() && result.rows.len() as u64 >= limit;
            let rest = match (result.resume, result.rows.last()) {
                (Some(resume), None) if resume == span => {
                    return Err(SqlError::new("XX000", "a read made no progress").into());
                }
                (Some(resume), _) => Some(resume),
                (None, Some(last)) if full && self.reverse => Some(Span::new(span.start, last.key.clone())),
                (None, Some(last)) if full => Some(Span { start: Span::point(last.key.clone()).end, end: span.end }),
                _ => None,
            };
            rows.extend(result.rows);
            left.extend(rest.filter(|rest| !rest.is_empty()));
        }
        for span in left.into_iter().rev() {
            self.spans.push_front(span);
        }
        if let Pages::Exactly(wanted) = &mut self.pages {
            *wanted = wanted.saturating_sub(rows.len() as u64);
        }
        Ok(Some(rows))
    }
}

/// The decoded rows of a page for which the filter holds.
pub(super) fn decode(scan: &Scan, page: &[Row], context: &EvalContext<'_>) -> Result<Vec<Vec<Datum>>, SqlError> {
    let mut rows = Vec::with_capacity(page.len());
    for stored in page {
        let row = row::decode_row(&scan.table, &stored.key, &stored.value)?;
        let keep = match &scan.filter {
            Some(filter) => is_true(filter, &row, context)?,
            None => true,
        };
        if keep {
            rows.push(row);
        }
    }
    Ok(rows)
}
