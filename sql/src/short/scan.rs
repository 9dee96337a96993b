//! Reading spans in order, page by page.

use std::collections::VecDeque;
use std::ops::Deref;

use txn::client::ClientError;
use txn::{AbortReason, Key, LockMode, LockPolicy, ReadOp, Row, Span};

use super::{Failure, Reader, bytes_of};
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
pub(crate) enum Pages {
    /// As much as a reply holds.
    Full,
    /// So many rows and no more.
    Exactly(u64),
    /// Small pages first.
    Growing,
}

/// The rows of some spans, in key order or in reverse.
pub(crate) struct Scanner {
    spans: VecDeque<Span>,
    reverse: bool,
    pages: Pages,
    page_rows: u64,
    mode: LockMode,
    policy: LockPolicy,
    /// Something else is read beside this.
    pub(super) joins: bool,
}

impl Scanner {
    pub(crate) fn new(mut spans: Vec<Span>, reverse: bool, pages: Pages, mode: LockMode) -> Scanner {
        if reverse {
            spans.reverse();
        }
        let policy = LockPolicy::Wait;
        Scanner { spans: spans.into(), reverse, pages, page_rows: FIRST_PAGE_ROWS, mode, policy, joins: false }
    }

    /// With something else to do about locks than to wait for them.
    pub(super) fn policy(self, policy: LockPolicy) -> Scanner {
        Scanner { policy, ..self }
    }

    /// The next rows, maybe none yet; `None` at the end.
    pub(crate) async fn next<E: Engine>(&mut self, reader: &mut Reader<'_, E>) -> Result<Option<Vec<Row>>, Failure> {
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
        let more = self.joins || !self.spans.is_empty();
        let results = reader.read_with(spans.iter().map(op).collect(), self.mode, self.policy, more).await?;

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

/// A row that was read.
pub(crate) struct Found {
    /// Of the row, also where it was read out of an index.
    pub(super) key: Key,
    /// What is not needed is NULL, if an index had all that is.
    pub(crate) row: Vec<Datum>,
    /// As stored.
    pub(super) bytes: usize,
}

/// The rows of a scan for which its filter holds, in its order: from the table, from the entries of an index, or from the table
/// by the keys that the entries have.
pub(crate) struct RowScanner<S> {
    scan: S,
    scanner: Scanner,
    /// The columns that matter; all if `None`.
    wanted: Option<Vec<bool>>,
    mode: LockMode,
    policy: LockPolicy,
    /// Rows and entries that were read.
    pub(crate) scanned: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
}

impl<S: Deref<Target = Scan>> RowScanner<S> {
    pub(crate) fn new(
        scan: S,
        context: &EvalContext<'_>,
        pages: Pages,
        mode: LockMode,
    ) -> Result<RowScanner<S>, SqlError> {
        let mut scanner = Scanner::new(scan.access.spans(&scan.layout, context)?, scan.reverse, pages, mode);
        scanner.joins = scan.index.as_ref().is_some_and(|index| !index.covering);
        Ok(RowScanner { scan, scanner, wanted: None, mode, policy: LockPolicy::Wait, scanned: 0, bytes: 0 })
    }

    /// Of the rows, only these columns matter.
    #[cfg(feature = "datafusion")]
    pub(crate) fn wanted(self, wanted: Vec<bool>) -> RowScanner<S> {
        RowScanner { wanted: Some(wanted), ..self }
    }

    /// With something else to do about locks than to wait for them.
    pub(super) fn policy(self, policy: LockPolicy) -> RowScanner<S> {
        RowScanner { policy, scanner: self.scanner.policy(policy), ..self }
    }

    fn count(&mut self, page: &[Row]) {
        self.scanned += page.len() as u64;
        self.bytes += bytes_of(page);
    }

    /// The next rows, maybe none yet; `None` at the end.
    pub(crate) async fn next<E: Engine>(
        &mut self,
        reader: &mut Reader<'_, E>,
        context: &EvalContext<'_>,
    ) -> Result<Option<Vec<Found>>, Failure> {
        let Some(page) = self.scanner.next(reader).await? else { return Ok(None) };
        self.count(&page);
        let Scan { table, layout, index, .. } = &*self.scan;
        let wanted = self.wanted.as_deref();
        let mut found = Vec::with_capacity(page.len());
        match index {
            None => {
                for stored in page {
                    found.extend(decode_wanted(&self.scan, stored, wanted, context)?);
                }
            }
            Some(index) if index.covering => {
                for stored in page {
                    let row = layout.decode(table, &stored.key, &stored.value)?;
                    if holds(&self.scan, &row, context)? {
                        let key = row::encode_key(table, &row)?.into();
                        found.push(Found { key, row, bytes: stored.key.len() + stored.value.len() });
                    }
                }
            }
            Some(index) => {
                let keys = page.iter().map(|entry| layout.row_key(table, &entry.key, &entry.value));
                let keys: Vec<Key> = keys.collect::<Result<_, SqlError>>()?;
                let points = keys.iter().cloned().map(Span::point).collect();
                let mut rows = Scanner::new(points, false, Pages::Full, self.mode).policy(self.policy);
                let mut due = keys.into_iter();
                while let Some(page) = rows.next(reader).await? {
                    self.scanned += page.len() as u64;
                    self.bytes += bytes_of(&page);
                    for stored in page {
                        if due.next().is_none_or(|key| key != stored.key) {
                            return Err(lost_row(reader, &index.name));
                        }
                        found.extend(decode_wanted(&self.scan, stored, wanted, context)?);
                    }
                }
                if due.next().is_some() {
                    return Err(lost_row(reader, &index.name));
                }
            }
        }
        Ok(Some(found))
    }
}

/// A stored row of the table, if the filter holds for it.
pub(super) fn decode(scan: &Scan, stored: Row, context: &EvalContext<'_>) -> Result<Option<Found>, SqlError> {
    decode_wanted(scan, stored, None, context)
}

fn decode_wanted(
    scan: &Scan,
    stored: Row,
    wanted: Option<&[bool]>,
    context: &EvalContext<'_>,
) -> Result<Option<Found>, SqlError> {
    let row = row::decode_wanted(&scan.table, &stored.key, &stored.value, wanted)?;
    let bytes = stored.key.len() + stored.value.len();
    Ok(holds(scan, &row, context)?.then_some(Found { key: stored.key, row, bytes }))
}

fn holds(scan: &Scan, row: &[Datum], context: &EvalContext<'_>) -> Result<bool, SqlError> {
    scan.filter.as_ref().map_or(Ok(true), |filter| is_true(filter, row, context))
}

/// An entry without its row. Where a leader lost the locks on the entry, the row may have gone with it meanwhile: such a
/// transaction cannot commit any more (I11), and is told so. Without locks nothing explains it.
fn lost_row<E: Engine>(reader: &Reader<'_, E>, index: &str) -> Failure {
    if let Reader::Txn(_) = reader {
        return ClientError::aborted(AbortReason::LocksLost).into();
    }
    SqlError::new("XX001", format!("index \"{index}\" has an entry without a row"))
        .hint("CHECK TABLE tells what is wrong.")
        .into()
}
