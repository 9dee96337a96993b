//! Dropping versions that no readable timestamp can see.
//!
//! For each key, the newest version at or below the line is what a read at the line sees: it stays,
//! unless it is a tombstone, and every older one goes. Reads at or above the line are unchanged.

use truetime::Timestamp;

use crate::keyspace::{split_version, unescape, version_span};
use crate::mvcc::is_tombstone;
use crate::storage::{Batch, Storage, StorageError, Visit};
use crate::types::{Key, Span};

/// Looks at up to `versions_max` versions of the span, from the key `cursor` on, and returns the
/// deletions and where to go on; `None` at the end of the span.
pub fn sweep(
    store: &dyn Storage,
    span: &Span,
    line: Timestamp,
    cursor: Option<Key>,
    versions_max: usize,
) -> Result<(Batch, Option<Key>), StorageError> {
    let mut batch = Batch::default();
    let next = visit_kept(store, span, line, cursor, versions_max, &mut |version| {
        if let Version::Dropped(raw) = version {
            batch.delete(raw.to_vec());
        }
    })?;
    Ok((batch, next))
}

/// A version, as collection at a line sees it.
pub(crate) enum Version<'a> {
    /// It stays: its raw key and bytes.
    Kept(&'a [u8], &'a [u8]),
    /// It goes: its raw key.
    Dropped(&'a [u8]),
}

/// Visits versions and says of each whether collection keeps it. Never stops amid a key's versions
/// but at the start of one, so that each key is judged whole; a key with more than `versions_max`
/// versions is visited in one go.
pub(crate) fn visit_kept(
    store: &dyn Storage,
    span: &Span,
    line: Timestamp,
    cursor: Option<Key>,
    versions_max: usize,
    visit: &mut dyn FnMut(Version),
) -> Result<Option<Key>, StorageError> {
    let rest = Span { start: cursor.unwrap_or_else(|| span.start.clone()), end: span.end.clone() };
    if rest.is_empty() {
        return Ok(None);
    }
    let (from, to) = version_span(&rest);
    let mut key: Vec<u8> = Vec::new();
    // Whether the version that a read at the line sees was met.
    let mut met = false;
    let mut seen = 0;
    let mut next = None;
    let mut error = None;
    store.scan(&from, &to, false, &mut |raw, bytes| {
        let Some((prefix, ts)) = split_version(raw) else {
            error = Some(StorageError(format!("{raw:02x?} is no version's key")));
            return Visit::Stop;
        };
        if prefix != key {
            if seen >= versions_max {
                next = unescape(prefix);
                return Visit::Stop;
            }
            key.clear();
            key.extend_from_slice(prefix);
            met = false;
        }
        seen += 1;
        let keep = if ts > line {
            true
        } else if met {
            false
        } else {
            met = true;
            !is_tombstone(bytes)
        };
        visit(if keep { Version::Kept(raw, bytes) } else { Version::Dropped(raw) });
        Visit::Next
    })?;
    match error {
        Some(e) => Err(e),
        None => Ok(next),
    }
}
