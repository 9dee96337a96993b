//! Comparing an index with its table, at one timestamp.
//!
//! Two passes, each page by page, so that tables of any size can be compared: every row must have the entry that it
//! should have, and every entry must be that of a row. Nothing is locked; what is compared is what a reader at that
//! timestamp would see.

use truetime::Timestamp;
use txn::{Key, ReadOp, ReadResult, Span};

use crate::SqlError;
use crate::catalog::Table;
use crate::engine::{Engine, ReadBound};
use crate::entry::Entry;
use crate::plan::index::Maintained;
use crate::row;
use crate::short::Failure;
use crate::types::Datum;

/// Rows of a page.
const PAGE_ROWS: u64 = 500;

/// The values that these keys had at a time, in their order.
pub(crate) async fn points<E: Engine>(
    engine: &E,
    at: Timestamp,
    keys: &[Key],
) -> Result<Vec<Option<txn::Value>>, Failure> {
    let mut values = Vec::with_capacity(keys.len());
    // A reply that is full leaves the last ones out: they are asked for again.
    while values.len() < keys.len() {
        let before = values.len();
        let left = &keys[values.len()..];
        let op = |key: &Key| ReadOp { span: Span::point(key.clone()), reverse: false, limit: 0 };
        let (_, results) = engine.snapshot(ReadBound::At(at), left.iter().map(op).collect()).await?;
        for result in results {
            if result.rows.is_empty() && result.resume.is_some() {
                break;
            }
            values.push(result.rows.into_iter().next().map(|row| row.value));
        }
        if values.len() == before {
            return Err(SqlError::new("XX000", "a read made no progress").into());
        }
    }
    Ok(values)
}

/// A comparison under way.
pub(crate) struct Comparison<'a> {
    at: Timestamp,
    table: &'a Table,
    known: Maintained,
    /// What is left of the rows,
    rows_left: Option<Span>,
    /// and of the entries.
    entries_left: Option<Span>,
    /// Rows compared.
    pub(crate) rows: u64,
    /// Entries compared.
    pub(crate) entries: u64,
    /// Rows without their entry.
    pub(crate) missing: u64,
    /// Entries that are not their row's, or without a row.
    pub(crate) extra: u64,
    first_missing: Option<Vec<Datum>>,
    first_extra: Option<Key>,
}

impl<'a> Comparison<'a> {
    /// Of an index with its table.
    pub(crate) fn new(at: Timestamp, table: &'a Table, known: Maintained) -> Comparison<'a> {
        let entries_left = Some(known.index.span());
        Comparison { entries_left, ..Comparison::of_rows(at, table, known) }
    }

    /// Only whether each row has its entry.
    pub(crate) fn of_rows(at: Timestamp, table: &'a Table, known: Maintained) -> Comparison<'a> {
        Comparison {
            at,
            table,
            known,
            rows_left: Some(table.span()),
            entries_left: None,
            rows: 0,
            entries: 0,
            missing: 0,
            extra: 0,
            first_missing: None,
            first_extra: None,
        }
    }

    /// A row without its entry, if there is any.
    pub(crate) fn first_missing(&self) -> Option<&[Datum]> {
        self.first_missing.as_deref()
    }

    /// An entry without its row, if there is any.
    pub(crate) fn first_extra(&self) -> Option<&Key> {
        self.first_extra.as_ref()
    }

    /// Compares the next page; false once all is compared.
    pub(crate) async fn page<E: Engine>(&mut self, engine: &E) -> Result<bool, Failure> {
        if let Some(span) = self.rows_left.take() {
            let (page, rest) = self.read_page(engine, span).await?;
            self.rows_left = rest;
            self.compare_rows(engine, page).await?;
        } else if let Some(span) = self.entries_left.take() {
            let (page, rest) = self.read_page(engine, span).await?;
            self.entries_left = rest;
            self.compare_entries(engine, page).await?;
        }
        Ok(self.rows_left.is_some() || self.entries_left.is_some())
    }

    async fn read_page<E: Engine>(&self, engine: &E, span: Span) -> Result<(Vec<txn::Row>, Option<Span>), Failure> {
        let op = ReadOp { span: span.clone(), reverse: false, limit: PAGE_ROWS };
        let (_, results) = engine.snapshot(ReadBound::At(self.at), vec![op]).await?;
        let ReadResult { rows, resume } = results.into_iter().next().unwrap_or_default();
        let full = rows.len() as u64 >= PAGE_ROWS;
        let rest = match (resume, rows.last()) {
            (Some(rest), _) => Some(rest),
            (None, Some(last)) if full => Some(Span { start: Span::point(last.key.clone()).end, end: span.end }),
            _ => None,
        };
        Ok((rows, rest.filter(|rest| !rest.is_empty())))
    }

    async fn compare_rows<E: Engine>(&mut self, engine: &E, page: Vec<txn::Row>) -> Result<(), Failure> {
        let mut expected: Vec<(Vec<Datum>, Entry)> = Vec::with_capacity(page.len());
        for stored in page {
            let row = row::decode_row(self.table, &stored.key, &stored.value)?;
            self.rows += 1;
            expected.extend(self.known.entry(&row)?.map(|entry| (row, entry)));
        }
        let keys: Vec<Key> = expected.iter().map(|(_, entry)| entry.key.clone()).collect();
        let found = points(engine, self.at, &keys).await?;
        for ((row, entry), value) in expected.into_iter().zip(found) {
            if value.as_ref() != Some(&entry.value) {
                self.missing += 1;
                self.first_missing.get_or_insert(row);
            }
        }
        Ok(())
    }

    async fn compare_entries<E: Engine>(&mut self, engine: &E, page: Vec<txn::Row>) -> Result<(), Failure> {
        let mut keys = Vec::with_capacity(page.len());
        for entry in &page {
            self.entries += 1;
            keys.push(self.known.layout.row_key(self.table, &entry.key, &entry.value)?);
        }
        let rows = points(engine, self.at, &keys).await?;
        for ((entry, key), value) in page.into_iter().zip(keys).zip(rows) {
            let due = match value {
                None => None,
                Some(value) => self.known.entry(&row::decode_row(self.table, &key, &value)?)?,
            };
            if due.is_none_or(|due| due.key != entry.key || due.value != entry.value) {
                self.extra += 1;
                self.first_extra.get_or_insert(entry.key);
            }
        }
        Ok(())
    }
}
