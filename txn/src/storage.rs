//! The storage that a node's groups share: an ordered map of byte strings with atomic batches.
//!
//! A batch is atomic and at once visible, but durable only after a flush, which the caller of
//! the node does when it likes: the state is rebuilt from the Paxos log above its durable applied
//! index. After a crash the state is some prefix of the batches written.

use std::fmt;

use bytes::Bytes;

/// A failed read or write. The replica stops: it is never retried over (I14).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageError(pub String);

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "storage failed: {}", self.0)
    }
}

impl std::error::Error for StorageError {}

/// What a scan does after a visit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Visit {
    /// The next key in scan order.
    Next,
    /// The first key at or after this one in scan order (at or before it, in reverse).
    Seek(Vec<u8>),
    /// End the scan.
    Stop,
}

/// One change of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Set a key.
    Put(Bytes, Bytes),
    /// Remove a key.
    Delete(Bytes),
    /// Remove all keys from the first (inclusive) to the second (exclusive).
    DeleteRange(Bytes, Bytes),
}

/// Changes that happen together or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// In order: a later one wins.
    pub ops: Vec<Op>,
}

impl Batch {
    /// Set a key.
    pub fn put(&mut self, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.ops.push(Op::Put(key.into(), value.into()));
    }

    /// Remove a key.
    pub fn delete(&mut self, key: impl Into<Bytes>) {
        self.ops.push(Op::Delete(key.into()));
    }

    /// Remove all keys in a range.
    pub fn delete_range(&mut self, from: impl Into<Bytes>, to: impl Into<Bytes>) {
        self.ops.push(Op::DeleteRange(from.into(), to.into()));
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }
}

/// An ordered map of byte strings.
pub trait Storage {
    /// The value of a key.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError>;

    /// Visits keys from `from` (inclusive) to `to` (exclusive), in order, or in reverse order from
    /// the last key below `to` down to `from`.
    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        reverse: bool,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Visit,
    ) -> Result<(), StorageError>;

    /// Applies a batch atomically; visible at once, durable after a flush.
    fn write(&mut self, batch: Batch) -> Result<(), StorageError>;
}
