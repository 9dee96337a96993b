//! The writes of a transaction before its commit, and how its own reads see them.
//!
//! A map of the newest write of each key, and a log of what each write replaced, so that a failed
//! statement can be undone. [`WriteBuffer::overlay`] merges the map into rows that a group
//! returned: both are ordered, so it is the merge step of a merge sort, in which a buffered
//! write wins over a stored row and a buffered delete hides it.

use std::collections::BTreeMap;
use std::ops::Bound;

use truetime::Timestamp;

use crate::types::{KEY_BYTES_MAX, Key, Mutation, Row, Span, TXN_BYTES_MAX, VALUE_BYTES_MAX, Value};

use super::error::ClientError;

/// A place in the log of writes.
pub type Mark = usize;

/// Buffered writes.
#[derive(Clone, Debug, Default)]
pub struct WriteBuffer {
    writes: BTreeMap<Key, Option<Value>>,
    /// Each write's key, and what was buffered for it before.
    log: Vec<(Key, Option<Option<Value>>)>,
    bytes: usize,
}

impl WriteBuffer {
    /// Adds writes, all or none. Fails if a key, a value or the whole is too large.
    pub fn write(&mut self, mutations: Vec<Mutation>) -> Result<(), ClientError> {
        for Mutation { key, value } in &mutations {
            if key.len() > KEY_BYTES_MAX {
                let len = key.len();
                return Err(ClientError::TooLarge(format!("a key of {len} bytes is longer than {KEY_BYTES_MAX}")));
            }
            let len = value.as_ref().map_or(0, |value| value.len());
            if len > VALUE_BYTES_MAX {
                return Err(ClientError::TooLarge(format!("a value of {len} bytes is longer than {VALUE_BYTES_MAX}")));
            }
        }
        let mark = self.mark();
        for Mutation { key, value } in mutations {
            self.bytes += size(&key, &value);
            let before = self.writes.insert(key.clone(), value);
            if let Some(before) = &before {
                self.bytes -= size(&key, before);
            }
            self.log.push((key, before));
        }
        if self.bytes > TXN_BYTES_MAX {
            self.undo_to(mark);
            return Err(ClientError::TooLarge(format!("the transaction writes more than {TXN_BYTES_MAX} bytes")));
        }
        Ok(())
    }

    /// The present place, for [`WriteBuffer::undo_to`].
    pub fn mark(&self) -> Mark {
        self.log.len()
    }

    /// Forgets all writes since the mark.
    pub fn undo_to(&mut self, mark: Mark) {
        while self.log.len() > mark {
            let Some((key, before)) = self.log.pop() else { break };
            let undone = match before {
                Some(value) => {
                    self.bytes += size(&key, &value);
                    self.writes.insert(key.clone(), value)
                }
                None => self.writes.remove(&key),
            };
            self.bytes -= undone.map_or(0, |value| size(&key, &value));
        }
    }

    /// What is buffered for a key: a value, a delete (`Some(None)`), or nothing.
    pub fn get(&self, key: &[u8]) -> Option<&Option<Value>> {
        self.writes.get(key)
    }

    /// Whether nothing is buffered.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// The newest write of each key, in key order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&Key, &Option<Value>)> {
        self.writes.iter()
    }

    /// How many stored rows of the span the buffered writes may hide.
    pub fn deletes_in(&self, span: &Span) -> u64 {
        self.range(span).filter(|(_, value)| value.is_none()).count() as u64
    }

    /// Merges the buffered writes of `covered` into `rows`, which are all stored rows of `covered`
    /// in scan order. A row of the buffer has no commit timestamp yet: [`Timestamp::ZERO`].
    pub fn overlay(&self, rows: Vec<Row>, covered: &Span, reverse: bool) -> Vec<Row> {
        let mut own: Vec<(&Key, &Option<Value>)> = self.range(covered).collect();
        if own.is_empty() {
            return rows;
        }
        if reverse {
            own.reverse();
        }
        let before = |a: &Key, b: &Key| if reverse { a > b } else { a < b };
        let mut merged = Vec::with_capacity(rows.len() + own.len());
        let mut own = own.into_iter().peekable();
        let mut push_own = |merged: &mut Vec<Row>, until: Option<&Key>| {
            while let Some((key, value)) = own.next_if(|(key, _)| until.is_none_or(|until| !before(until, key))) {
                if let Some(value) = value {
                    merged.push(Row { key: key.clone(), value: value.clone(), commit_ts: Timestamp::ZERO });
                }
            }
        };
        for row in rows {
            push_own(&mut merged, Some(&row.key));
            if !self.writes.contains_key(&row.key) {
                merged.push(row);
            }
        }
        push_own(&mut merged, None);
        merged
    }

    fn range(&self, span: &Span) -> impl Iterator<Item = (&Key, &Option<Value>)> {
        // A range whose end is below its start would panic; an empty one at its start does not.
        let end = match span.end.is_empty() {
            true => Bound::Unbounded,
            false => Bound::Excluded(span.end.clone().max(span.start.clone())),
        };
        let start =
            if span.is_empty() { Bound::Included(span.end.clone()) } else { Bound::Included(span.start.clone()) };
        self.writes.range((start, end)).filter(move |(key, _)| span.contains(key))
    }
}

fn size(key: &Key, value: &Option<Value>) -> usize {
    key.len() + value.as_ref().map_or(0, |value| value.len())
}
