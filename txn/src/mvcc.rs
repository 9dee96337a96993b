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
//! A scan visits versions in key order. It steps over a few versions that it does not want before
//! it seeks, since a seek costs a storage engine about as much as a handful of steps. In reverse a
//! key's oldest version comes first, so a reverse scan, having met a key, seeks straight to the
//! version that the read would see, and from there to the key before.

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

fn value_of(raw: &[u8], bytes: &[u8]) -> Result<Option<Value>> {
    match bytes.split_first() {
        Some((&TOMBSTONE, [])) => Ok(None),
        Some((&VALUE, value)) => Ok(Some(Bytes::copy_from_slice(value))),
        _ => Err(StorageError(format!("the version at {raw:02x?} is malformed"))),
    }
}

fn malformed(raw: &[u8]) -> StorageError {
    StorageError(format!("{raw:02x?} is no version's key"))
}

/// The newest version of a key at or below `at`: its timestamp, and its value unless deleted.
pub fn get(store: &dyn Storage, key: &[u8], at: Timestamp) -> Result<Option<(Timestamp, Option<Value>)>> {
    let from = version_key(key, at);
    let to = version_key(key, Timestamp::MIN);
    let mut found = Ok(None);
    let mut visit = |raw: &[u8], bytes: &[u8]| {
        found = match split_version(raw) {
            Some((_, ts)) => value_of(raw, bytes).map(|value| Some((ts, value))),
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

/// Reads as a [`ReadOp`] asks, at `at`. Stops once `bytes_left` is used up, after at least one row;
/// the rest of the span is then in `resume`. `newest` is raised to the largest commit timestamp of
/// any version that decided what the rows are, tombstones included.
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
    if *bytes_left == 0 {
        result.resume = Some(op.span.clone());
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
        // The key whose version was taken: its older ones are stepped over.
        let mut done: Vec<u8> = Vec::new();
        let mut steps = 0;
        store.scan(from, to, false, &mut |raw, bytes| {
            let Some((prefix, ts)) = split_version(raw) else { return self.fail(malformed(raw)) };
            if prefix == done || ts > self.at {
                steps += 1;
                if steps <= STEPS_MAX {
                    return Visit::Next;
                }
                steps = 0;
                let mut target = prefix.to_vec();
                push_ts(&mut target, if prefix == done { Timestamp::MIN } else { self.at });
                if prefix == done {
                    target.push(0);
                }
                return Visit::Seek(target);
            }
            steps = 0;
            done.clear();
            done.extend_from_slice(prefix);
            self.take(raw, prefix, ts, bytes)
        })
    }

    fn reverse(&mut self, store: &dyn Storage, from: &[u8], to: &[u8]) -> Result<()> {
        // The key being looked at: its visible version is sought from its oldest on.
        let mut sought: Vec<u8> = Vec::new();
        store.scan(from, to, true, &mut |raw, bytes| {
            let Some((prefix, ts)) = split_version(raw) else { return self.fail(malformed(raw)) };
            // The reverse scan meets the oldest version first. If even that is too new, the key
            // did not exist; otherwise the wanted one is found by a forward look from `at`.
            if prefix == sought {
                return Visit::Seek(prefix.to_vec());
            }
            sought.clear();
            sought.extend_from_slice(prefix);
            if ts > self.at {
                return Visit::Seek(prefix.to_vec());
            }
            let mut from = prefix.to_vec();
            push_ts(&mut from, self.at);
            let mut to = prefix.to_vec();
            push_ts(&mut to, ts);
            let to = with_last(to);
            let mut taken = Visit::Stop;
            let looked = if from.as_slice() == raw {
                taken = self.take(raw, prefix, ts, bytes);
                Ok(())
            } else {
                store.scan(&from, &to, false, &mut |raw, bytes| {
                    taken = match split_version(raw) {
                        Some((prefix, ts)) => self.take(raw, prefix, ts, bytes),
                        None => self.fail(malformed(raw)),
                    };
                    Visit::Stop
                })
            };
            match (looked, taken) {
                (Err(e), _) => self.fail(e),
                (Ok(()), Visit::Stop) => Visit::Stop,
                (Ok(()), _) => Visit::Seek(prefix.to_vec()),
            }
        })
    }

    fn fail(&mut self, error: StorageError) -> Visit {
        self.error = Some(error);
        Visit::Stop
    }

    /// Takes in the visible version of a key.
    fn take(&mut self, raw: &[u8], prefix: &[u8], ts: Timestamp, bytes: &[u8]) -> Visit {
        if is_tombstone(bytes) {
            *self.newest = (*self.newest).max(ts);
            return Visit::Next;
        }
        let Some(key) = unescape(prefix) else { return self.fail(malformed(raw)) };
        if *self.bytes_left == 0 {
            self.result.resume = Some(self.rest(&key));
            return Visit::Stop;
        }
        let value = match value_of(raw, bytes) {
            Ok(Some(value)) => value,
            Ok(None) => return Visit::Next,
            Err(e) => return self.fail(e),
        };
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
mod tests;
