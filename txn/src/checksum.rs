//! A hash of a replica's logical state: equal on replicas that applied the same slots, however far
//! each of them has come with dropping old versions (I6).

use truetime::Timestamp;

use crate::gc::{Version, visit_kept};
use crate::storage::{Storage, StorageError};
use crate::types::{Key, Span};

/// A 64-bit hash made of two CRC-32s, over the bytes and over their lengths: it detects what went
/// wrong, not what somebody forged.
#[derive(Default)]
pub struct Hasher64 {
    bytes: crc32fast::Hasher,
    lengths: crc32fast::Hasher,
    count: u32,
}

impl Hasher64 {
    /// Of nothing.
    pub fn new() -> Hasher64 {
        Hasher64::default()
    }

    /// Adds one string of bytes; where one ends and the next begins matters.
    pub fn update(&mut self, bytes: &[u8]) {
        self.count = self.count.wrapping_add(1);
        self.bytes.update(bytes);
        self.lengths.update(&(bytes.len() as u64).to_le_bytes());
        self.lengths.update(&crc32fast::hash(bytes).to_le_bytes());
        self.lengths.update(&self.count.to_le_bytes());
    }

    /// The hash.
    pub fn finish(self) -> u64 {
        u64::from(self.bytes.finalize()) << 32 | u64::from(self.lengths.finalize())
    }
}

/// Adds about `versions_max` versions of the span, from the key `cursor` on, to a hash; returns
/// where to go on, or `None` at the end.
pub fn hash_chunk(
    store: &dyn Storage,
    span: &Span,
    line: Timestamp,
    cursor: Option<Key>,
    versions_max: usize,
    hasher: &mut Hasher64,
) -> Result<Option<Key>, StorageError> {
    visit_kept(store, span, line, cursor, versions_max, &mut |version| {
        if let Version::Kept(raw, bytes) = version {
            hasher.update(raw);
            hasher.update(bytes);
        }
    })
}
