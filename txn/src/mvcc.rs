//! Many versions of each key, and reads at a timestamp.
//!
//! A version lies under its key and commit timestamp, newest first; a delete is a version too (a
//! tombstone). A read at `t` takes, for each key, the first version at or below `t`:
//!
//! ```text
//!   a@30  a@20  a@10  b@25x  b@5  c@40        read at 22: a@20, b@5
//!    |     ^           |      ^    |          read at 30: a@30 (b is deleted at 25)
//!    too new           too new     too new
//! ```
//!
//! # Scans
//!
//! A seek costs a storage engine about as much as a handful of steps, and most keys have only a few
//! versions. So a scan steps over what it does not want, and seeks when a key has more of it:
//!
//! ```text
//!   forward, at 22:   a@99 a@98 .. a@23 | a@20 | a@10 ..  b@5      too new: seek to a@22;
//!                                                                  older than taken: seek behind a
//!   reverse, at 22:   .. a@23 | a@20 a@10 .. a@1  <-- b@5          oldest first: the last one met
//!                                                                  that is not too new is taken
//! ```
//!
//! In reverse no seek leads from a key's oldest version to the one wanted, as that would be a seek
//! forward: if a key has many versions, a second, forward look finds it.
//!
//! # Invariants
//!
//! - What a read at `t` returns depends on nothing above `t`, and on no version that collection at a
//!   line at or below `t` may drop: so it is the same for ever (I12).
//! - `newest` is at least the timestamp of every version that a row, or the absence of one, is due
//!   to: the answer may be shown once it has surely passed (I8).
//! - Pages add up: a read and the reads of what it leaves in `resume` return what one would have.

use bytes::Bytes;
use truetime::Timestamp;

use crate::api::{ReadOp, ReadResult};
use crate::keyspace::{push_ts, split_version, unescape, version_key, version_span};
use crate::storage::{Batch, Storage, StorageError, Visit};
use crate::types::{Key, Mutation, Row, Span, Value};

const TOMBSTONE: u8 = 0;
const VALUE: u8 = 1;
/// Unwanted versions stepped over before a scan seeks.
const STEPS_MAX: u32 = 4;

type Result<T> = std::result::Result<T, StorageError>;

/// Adds versions of these writes at `ts` to a batch.
pub fn put_versions(batch: &mut Batch, writes: &[Mutation], ts: Timestamp) {
    for Mutation { key, value } in writes {
        let mut bytes = Vec::with_capacity(1 + value.as_ref().map_or(0, Bytes::len));
        match value {
            None => bytes.push(TOMBSTONE),
            Some(value) => {
                bytes.push(VALUE);
                bytes.extend_from_slice(value);
            }
        }
        batch.put(version_key(key, ts), bytes);
    }
}

/// Whether the bytes of a version are those of a tombstone.
pub fn is_tombstone(bytes: &[u8]) -> bool {
    bytes.first() == Some(&TOMBSTONE)
}

fn value_of(prefix: &[u8], ts: Timestamp, bytes: &[u8]) -> Result<Option<Value>> {
    match bytes.split_first() {
        Some((&TOMBSTONE, [])) => Ok(None),
        Some((&VALUE, value)) => Ok(Some(Bytes::copy_from_slice(value))),
        _ => Err(StorageError(format!("the version of {prefix:02x?} at {ts} is malformed"))),
    }
}

/// The error for bytes among the versions that are no version's key.
pub(crate) fn malformed(raw: &[u8]) -> StorageError {
    StorageError(format!("{raw:02x?} is no version's key"))
}

/// The newest version of a key at or below `at`: its timestamp, and its value unless deleted.
pub fn get(store: &dyn Storage, key: &[u8], at: Timestamp) -> Result<Option<(Timestamp, Option<Value>)>> {
    let from = version_key(key, at);
    let to = version_key(key, Timestamp::MIN);
    let mut found = Ok(None);
    let mut visit = |raw: &[u8], bytes: &[u8]| {
        found = match split_version(raw) {
            Some((prefix, ts)) => value_of(prefix, ts, bytes).map(|value| Some((ts, value))),
            None => Err(malformed(raw)),
        };
        Visit::Stop
    };
    store.scan(&from, &with_last(to), false, &mut visit)?;
    found
}

/// The range's end that still includes `key`.
fn with_last(mut key: Vec<u8>) -> Vec<u8> {
    key.push(0);
    key
}

/// Reads as a [`ReadOp`] asks, at `at`. Stops once `bytes_left` is used up; the rest of the span is
/// then in `resume`. With any bytes left at the start it returns at least one row, however large, if
/// there is one. `newest` is raised to the largest commit timestamp of any version that decided
/// what the rows are, tombstones included.
pub fn read(
    store: &dyn Storage,
    op: &ReadOp,
    at: Timestamp,
    bytes_left: &mut usize,
    newest: &mut Timestamp,
) -> Result<ReadResult> {
    let mut result = ReadResult::default();
    if op.span.is_empty() {
        return Ok(result);
    }
    if *bytes_left == 0 {
        result.resume = Some(op.span.clone());
        return Ok(result);
    }
    if op.span.is_point() {
        if let Some((commit_ts, value)) = get(store, &op.span.start, at)? {
            *newest = (*newest).max(commit_ts);
            if let Some(value) = value {
                *bytes_left = bytes_left.saturating_sub(op.span.start.len() + value.len());
                result.rows.push(Row { key: op.span.start.clone(), value, commit_ts });
            }
        }
        return Ok(result);
    }
    let mut scan = Scan { op, at, bytes_left, newest, result, error: None };
    let (from, to) = version_span(&op.span);
    if op.reverse {
        scan.reverse(store, &from, &to)?;
    } else {
        scan.forward(store, &from, &to)?;
    }
    match scan.error {
        Some(e) => Err(e),
        None => Ok(scan.result),
    }
}

struct Scan<'a> {
    op: &'a ReadOp,
    at: Timestamp,
    bytes_left: &'a mut usize,
    newest: &'a mut Timestamp,
    result: ReadResult,
    error: Option<StorageError>,
}

impl Scan<'_> {
    fn forward(&mut self, store: &dyn Storage, from: &[u8], to: &[u8]) -> Result<()> {
        // The key being looked at, whether its version was taken, and how many were stepped over.
        let (mut current, mut taken, mut steps) = (Vec::new(), false, 0);
        store.scan(from, to, false, &mut |raw, bytes| {
            let Some((prefix, ts)) = split_version(raw) else { return self.fail(malformed(raw)) };
            if prefix != current {
                current.clear();
                current.extend_from_slice(prefix);
                (taken, steps) = (false, 0);
            }
            if !taken && ts <= self.at {
                (taken, steps) = (true, 0);
                return self.take(prefix, ts, bytes);
            }
            steps += 1;
            if steps <= STEPS_MAX {
                return Visit::Next;
            }
            let mut target = prefix.to_vec();
            if taken {
                push_ts(&mut target, Timestamp::MIN);
                Visit::Seek(with_last(target))
            } else {
                push_ts(&mut target, self.at);
                Visit::Seek(target)
            }
        })
    }

    fn reverse(&mut self, store: &dyn Storage, from: &[u8], to: &[u8]) -> Result<()> {
        // The key being looked at, how many of its versions were met, and the newest of them that
        // the read may see.
        let (mut current, mut steps) = (Vec::new(), 0);
        let (mut best_ts, mut best) = (None, Vec::new());
        store.scan(from, to, true, &mut |raw, bytes| {
            let Some((prefix, ts)) = split_version(raw) else { return self.fail(malformed(raw)) };
            if prefix != current {
                // The key after this one, in order, is done with.
                if let Some(ts) = best_ts.take()
                    && self.take(&current, ts, &best) == Visit::Stop
                {
                    return Visit::Stop;
                }
                current.clear();
                current.extend_from_slice(prefix);
                steps = 0;
            }
            steps += 1;
            if steps <= STEPS_MAX {
                if ts <= self.at {
                    best_ts = Some(ts);
                    best.clear();
                    best.extend_from_slice(bytes);
                }
                return Visit::Next;
            }
            if ts <= self.at {
                best_ts = None;
                if self.look(store, prefix, ts) == Visit::Stop {
                    return Visit::Stop;
                }
            }
            Visit::Seek(prefix.to_vec())
        })?;
        if let Some(ts) = best_ts.filter(|_| self.error.is_none()) {
            self.take(&current, ts, &best);
        }
        Ok(())
    }

    /// Finds and takes the visible version of a key that has one at `oldest`, from the new end.
    fn look(&mut self, store: &dyn Storage, prefix: &[u8], oldest: Timestamp) -> Visit {
        let (mut from, mut to) = (prefix.to_vec(), prefix.to_vec());
        push_ts(&mut from, self.at);
        push_ts(&mut to, oldest);
        let mut then = Visit::Stop;
        let looked = store.scan(&from, &with_last(to), false, &mut |raw, bytes| {
            then = match split_version(raw) {
                Some((prefix, ts)) => self.take(prefix, ts, bytes),
                None => self.fail(malformed(raw)),
            };
            Visit::Stop
        });
        match looked {
            Ok(()) => then,
            Err(e) => self.fail(e),
        }
    }

    fn fail(&mut self, error: StorageError) -> Visit {
        self.error = Some(error);
        Visit::Stop
    }

    /// Takes in the visible version of a key.
    fn take(&mut self, prefix: &[u8], ts: Timestamp, bytes: &[u8]) -> Visit {
        let value = match value_of(prefix, ts, bytes) {
            Err(e) => return self.fail(e),
            Ok(None) => {
                *self.newest = (*self.newest).max(ts);
                return Visit::Next;
            }
            Ok(Some(value)) => value,
        };
        let Some(key) = unescape(prefix) else { return self.fail(malformed(prefix)) };
        if *self.bytes_left == 0 {
            self.result.resume = Some(self.rest(&key));
            return Visit::Stop;
        }
        *self.newest = (*self.newest).max(ts);
        *self.bytes_left = self.bytes_left.saturating_sub(key.len() + value.len());
        self.result.rows.push(Row { key, value, commit_ts: ts });
        if self.op.limit > 0 && self.result.rows.len() as u64 >= self.op.limit { Visit::Stop } else { Visit::Next }
    }

    /// The part of the span from `key` on, in the direction of the scan.
    fn rest(&self, key: &Key) -> Span {
        if self.op.reverse {
            Span { start: self.op.span.start.clone(), end: Span::point(key.clone()).end }
        } else {
            Span { start: key.clone(), end: self.op.span.end.clone() }
        }
    }
}

/// The timestamp of a key's newest version.
pub fn newest_version(store: &dyn Storage, key: &[u8]) -> Result<Option<Timestamp>> {
    Ok(get(store, key, Timestamp::MAX)?.map(|(ts, _)| ts))
}

#[cfg(test)]
mod golden;
#[cfg(test)]
mod tests;
