//! The bytes of a node's state store, which all its groups share.
//!
//! ```text
//!   01 group 00                     metadata of a group (applied index, range, ...)
//!   01 group kind txn               1 prepare records, 2 outcomes, 3 decisions
//!   02 key' ~timestamp              versions, newest first
//!   03 group any of the above       a snapshot that is not whole yet
//!   03 group 00                     it is whole, and waits or takes the place of the state
//! ```
//!
//! Numbers are big-endian. `key'` escapes 00 as 00 ff and ends with 00 01, so that encoded keys keep
//! their order and none is a prefix of another. Versions carry no group: a split moves no bytes.

use bytes::Bytes;
use paxos::GroupId;
use truetime::Timestamp;

use crate::types::{Key, Span, TxnId};

/// Kind of prepare records.
pub const PREPARED: u8 = 1;
/// Kind of transactions' outcomes.
pub const OUTCOME: u8 = 2;
/// Kind of commit decisions that participants may still have to learn.
pub const DECISION: u8 = 3;

const GROUPS: u8 = 0x01;
const VERSIONS: u8 = 0x02;
const STAGED: u8 = 0x03;
const ESCAPED_ZERO: u8 = 0xff;
const END: u8 = 0x01;
const TS_BYTES: usize = 8;

fn group_key(group: GroupId, kind: u8, extra: usize) -> Vec<u8> {
    let mut key = Vec::with_capacity(10 + extra);
    key.push(GROUPS);
    key.extend_from_slice(&group.0.to_be_bytes());
    key.push(kind);
    key
}

/// Key of a group's metadata.
pub fn meta_key(group: GroupId) -> Bytes {
    group_key(group, 0, 0).into()
}

/// What all keys of a snapshot of the group begin with, while it is received. The rest is their own key.
pub fn staged_prefix(group: GroupId) -> Bytes {
    let mut key = group_key(group, 0, 0);
    key[0] = STAGED;
    key.pop();
    key.into()
}

/// The record that says that the snapshot is whole. It comes before all of it.
pub fn staged_end_key(group: GroupId) -> Bytes {
    [&staged_prefix(group)[..], &[0]].concat().into()
}

/// Where a key of the snapshot lies until it is whole.
pub fn staged_key(group: GroupId, key: &[u8]) -> Bytes {
    [&staged_prefix(group)[..], key].concat().into()
}

/// What all keys of a group's records of one kind begin with.
pub fn record_prefix(group: GroupId, kind: u8) -> Bytes {
    group_key(group, kind, 0).into()
}

/// Key of a transaction's record.
pub fn record_key(group: GroupId, kind: u8, txn: TxnId) -> Bytes {
    let mut key = group_key(group, kind, 16);
    key.extend_from_slice(&txn.0.to_be_bytes());
    key.into()
}

/// The transaction of a record's key.
pub fn record_txn(key: &[u8]) -> Option<TxnId> {
    let id: [u8; 16] = key.get(10..26)?.try_into().ok()?;
    (key.len() == 26 && key[0] == GROUPS).then(|| TxnId(u128::from_be_bytes(id)))
}

/// The first key after all that begin with `prefix`.
pub fn prefix_end(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            break;
        }
    }
    end.into()
}

/// All groups' metadata and records.
pub fn groups_span() -> (Bytes, Bytes) {
    (Bytes::from_static(&[GROUPS]), Bytes::from_static(&[GROUPS + 1]))
}

/// The group of a metadata or record key.
pub fn group_of(key: &[u8]) -> Option<GroupId> {
    let id: [u8; 8] = key.get(1..9)?.try_into().ok()?;
    (key[0] == GROUPS).then(|| GroupId(u64::from_be_bytes(id)))
}

/// The group whose metadata key this is.
pub fn meta_group(key: &[u8]) -> Option<GroupId> {
    (key.len() == 10 && key[9] == 0).then(|| group_of(key)).flatten()
}

/// Whether a key may be in a snapshot of the group: its records, or any version.
pub fn belongs_to(key: &[u8], group: GroupId) -> bool {
    key.first() == Some(&VERSIONS) || group_of(key) == Some(group)
}

fn escape(key: &[u8], extra: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(key.len() + 3 + extra);
    out.push(VERSIONS);
    for byte in key {
        out.push(*byte);
        if *byte == 0 {
            out.push(ESCAPED_ZERO);
        }
    }
    out
}

/// What all versions of a key begin with.
pub fn version_prefix(key: &[u8]) -> Vec<u8> {
    let mut out = escape(key, 2 + TS_BYTES);
    out.extend_from_slice(&[0, END]);
    out
}

/// Key of a version.
pub fn version_key(key: &[u8], ts: Timestamp) -> Vec<u8> {
    let mut out = version_prefix(key);
    push_ts(&mut out, ts);
    out
}

/// Appends a timestamp so that a larger one sorts first.
pub fn push_ts(out: &mut Vec<u8>, ts: Timestamp) {
    // Flipping the sign bit makes signed order unsigned order; the complement turns it round.
    let ordered = (ts.as_nanos() as u64) ^ (1 << 63);
    out.extend_from_slice(&(!ordered).to_be_bytes());
}

/// Splits the key of a version into the part that all versions of its key share, and its
/// timestamp. `None` for bytes that are no version's key.
pub fn split_version(raw: &[u8]) -> Option<(&[u8], Timestamp)> {
    let at = raw.len().checked_sub(TS_BYTES)?;
    let (prefix, ts) = raw.split_at(at);
    if prefix.len() < 3 || prefix[0] != VERSIONS || !prefix.ends_with(&[0, END]) {
        return None;
    }
    let inverted = u64::from_be_bytes(ts.try_into().ok()?);
    Some((prefix, Timestamp::from_nanos((!inverted ^ (1 << 63)) as i64)))
}

/// The key whose versions begin with `prefix`.
pub fn unescape(prefix: &[u8]) -> Option<Key> {
    let body = prefix.strip_prefix(&[VERSIONS])?.strip_suffix(&[0, END])?;
    let mut key = Vec::with_capacity(body.len());
    let mut bytes = body.iter();
    while let Some(byte) = bytes.next() {
        key.push(*byte);
        if *byte == 0 && bytes.next() != Some(&ESCAPED_ZERO) {
            return None;
        }
    }
    Some(key.into())
}

/// From the key of a version, its key and timestamp.
pub fn decode_version_key(raw: &[u8]) -> Option<(Key, Timestamp)> {
    let (prefix, ts) = split_version(raw)?;
    Some((unescape(prefix)?, ts))
}

/// All versions of all keys of a span: from, to.
pub fn version_span(span: &Span) -> (Vec<u8>, Vec<u8>) {
    let end = if span.end.is_empty() { vec![VERSIONS + 1] } else { version_prefix(&span.end) };
    (version_prefix(&span.start), end)
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn random_key(rng: &mut ChaCha8Rng) -> Key {
        let len = rng.random_range(0..5);
        (0..len).map(|_| [0u8, 1, 2, 0xfe, 0xff][rng.random_range(0..5)]).collect::<Vec<_>>().into()
    }

    #[test]
    fn order_of_versions_is_order_of_keys_then_newest_first() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let stamps = [i64::MIN, -1, 0, 1, 1 << 40, i64::MAX];
        for _ in 0..20_000 {
            let (a, b) = (random_key(&mut rng), random_key(&mut rng));
            let (s, t) = (stamps[rng.random_range(0..6)], stamps[rng.random_range(0..6)]);
            let (s, t) = (Timestamp::from_nanos(s), Timestamp::from_nanos(t));
            let expected = a.cmp(&b).then(t.cmp(&s));
            assert_eq!(version_key(&a, s).cmp(&version_key(&b, t)), expected, "{a:?}@{s} {b:?}@{t}");
            assert_eq!(decode_version_key(&version_key(&a, s)), Some((a.clone(), s)));
            let (from, to) = version_span(&Span::new(a.clone(), b.clone()));
            let key = random_key(&mut rng);
            let inside = key >= a && (b.is_empty() || key < b);
            let raw = version_key(&key, s);
            assert_eq!(raw >= from && raw < to, inside, "{key:?} in {a:?}..{b:?}");
        }
    }

    #[test]
    fn foreign_bytes_are_no_versions() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        for _ in 0..20_000 {
            let len = rng.random_range(0..16);
            let raw: Vec<u8> = (0..len).map(|_| [0u8, 1, 2, 0xff][rng.random_range(0..4)]).collect();
            if let Some((key, ts)) = decode_version_key(&raw) {
                assert_eq!(version_key(&key, ts), raw);
            }
            let _ = (group_of(&raw), meta_group(&raw), record_txn(&raw));
        }
    }
}
