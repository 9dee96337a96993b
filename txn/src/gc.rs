//! Dropping versions that no readable timestamp can see.
//!
//! For each key, the newest version at or below the line is what a read at the line sees: it stays,
//! unless it is a tombstone, and every older one goes. Reads at or above the line are unchanged.
//!
//! ```text
//!   line 20:   a@30  a@20  a@10        b@25  b@15x  b@5        c@8x  c@7
//!              keep  keep  drop        keep  drop   drop       drop  drop      (x: a tombstone)
//! ```
//!
//! All versions of a key are judged, and dropped, in one batch: a tombstone never goes before what it
//! hides.

use truetime::Timestamp;

use crate::keyspace::{split_version, unescape, version_span};
use crate::mvcc::{is_tombstone, malformed};
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

/// Visits versions and says of each whether collection keeps it. Stops only where another key
/// begins, so that each is judged whole: one with more than `versions_max` versions in one go.
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
            error = Some(malformed(raw));
            return Visit::Stop;
        };
        if prefix != key {
            if seen >= versions_max.max(1) {
                next = unescape(prefix);
                // Without this, a sweep would take damage for the end of the span.
                error = next.is_none().then(|| malformed(raw));
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
