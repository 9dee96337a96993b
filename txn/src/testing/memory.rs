//! An ordered map in memory with the durability of the real thing: a crash loses batches written
//! since the last flush, but only from the end, so what is left is a state that once was.
//!
//! A record can rot: then it holds other bits than were written, and its checksum says so to whoever
//! reads it. Unlike a real disk it can be mended too, as if a mirror had kept the right bits.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

use bytes::Bytes;
use paxos::GroupId;

use crate::keyspace;
use crate::meta::GroupMeta;
use crate::storage::{Batch, Op, Storage, StorageError, Visit};

/// What a key held before a batch.
type Undo = Vec<(Bytes, Option<Bytes>)>;

/// A state store in memory. Each batch since the last flush can be undone.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    map: BTreeMap<Bytes, Bytes>,
    unflushed: VecDeque<Undo>,
    /// Records that hold a wrong bit: their key, value and checksum, as they would now be read.
    rotten: BTreeMap<Bytes, Vec<u8>>,
    fail_next_write: bool,
    /// A write has failed: whoever asked for it must not go on.
    write_failed: bool,
    written: u64,
    flushed: u64,
}

impl MemoryStore {
    /// Empty.
    pub fn new() -> MemoryStore {
        MemoryStore::default()
    }

    /// A mark of what is written so far, for [`MemoryStore::flush_to`]: a flush takes time, and what
    /// is written meanwhile is not part of it.
    pub fn mark(&self) -> u64 {
        self.written
    }

    /// Everything written before the mark is durable.
    pub fn flush_to(&mut self, mark: u64) {
        while self.flushed < mark && self.unflushed.pop_front().is_some() {
            self.flushed += 1;
        }
    }

    /// Everything written is durable.
    pub fn flush(&mut self) {
        self.flush_to(self.written);
    }

    /// How many batches a crash could lose.
    pub fn unflushed(&self) -> usize {
        self.unflushed.len()
    }

    /// A crash after which only the first `keep` of the unflushed batches are left; they then
    /// count as flushed.
    pub fn crash(&mut self, keep: usize) {
        while self.unflushed.len() > keep {
            let undo = self.unflushed.pop_back().expect("longer than keep");
            for (key, before) in undo.into_iter().rev() {
                match before {
                    Some(value) => self.map.insert(key, value),
                    None => self.map.remove(&key),
                };
            }
        }
        self.unflushed.clear();
        self.written = 0;
        self.flushed = 0;
        (self.fail_next_write, self.write_failed) = (false, false);
    }

    /// The next write fails, as on a full or broken disk.
    pub fn fail_next_write(&mut self) {
        self.fail_next_write = true;
    }

    /// Flips one bit of a record or of its checksum: `record` and `bit` choose which, of any size. It
    /// stays wrong on the disk, whatever is written over it, until it is mended. False if there is no
    /// record.
    pub fn rot(&mut self, record: usize, bit: usize) -> bool {
        if self.map.is_empty() {
            return false;
        }
        let (key, value) = self.map.iter().nth(record % self.map.len()).expect("within its length");
        let mut bytes = [&key[..], &value[..]].concat();
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        // The key is how the record was found.
        let bit = key.len() * 8 + bit % ((bytes.len() - key.len()) * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        self.rotten.insert(key.clone(), bytes);
        true
    }

    /// The same for readers that look at no checksum: a record holds another value from now on.
    pub fn rot_unnoticed(&mut self, record: usize, bit: usize) -> bool {
        let count = self.map.len().max(1);
        let Some((key, value)) = self.map.iter().nth(record % count).filter(|(_, value)| !value.is_empty()) else {
            return false;
        };
        let (key, mut value) = (key.clone(), value.to_vec());
        let bit = bit % (value.len() * 8);
        value[bit / 8] ^= 1 << (bit % 8);
        self.map.insert(key, value.into());
        true
    }

    /// Every record holds again what was written, and writes succeed.
    pub fn mend(&mut self) {
        self.rotten.clear();
        (self.fail_next_write, self.write_failed) = (false, false);
    }

    /// Whether a record holds a wrong bit.
    pub fn is_rotten(&self) -> bool {
        !self.rotten.is_empty()
    }

    fn check(&self, key: &[u8]) -> Result<(), StorageError> {
        let Some(bytes) = self.rotten.get(key) else { return Ok(()) };
        let (record, crc) = bytes.split_at(bytes.len() - 4);
        if crc32fast::hash(record).to_le_bytes() == crc {
            return Ok(());
        }
        Err(StorageError(format!("the checksum of record {} does not match", key.escape_ascii())))
    }

    /// Whether a write has failed since the store was last opened or mended.
    pub fn write_failed(&self) -> bool {
        self.write_failed
    }

    /// The groups of which there is a state, and not only a name.
    pub fn groups_with_state(&self) -> Vec<GroupId> {
        let (start, end) = keyspace::groups_span();
        let metas = self.map.range(start..end).filter_map(|(key, value)| Some((keyspace::meta_group(key)?, value)));
        let whole = |value: &Bytes| GroupMeta::decode(value.clone()).is_ok_and(|meta| !meta.installing);
        metas.filter(|(_, value)| whole(value)).map(|(group, _)| group).collect()
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    fn set(&mut self, undo: &mut Undo, key: Bytes, value: Option<Bytes>) {
        let before = match value {
            Some(value) => self.map.insert(key.clone(), value),
            None => self.map.remove(&key),
        };
        undo.push((key, before));
    }
}

impl Storage for MemoryStore {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        self.check(key)?;
        Ok(self.map.get(key).cloned())
    }

    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        reverse: bool,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Visit,
    ) -> Result<(), StorageError> {
        // The part still ahead: [low, high), and whether `high` itself belongs to it.
        let (mut low, mut high) = (from.to_vec(), (to.to_vec(), false));
        loop {
            let upper = if high.1 { Bound::Included(&high.0[..]) } else { Bound::Excluded(&high.0[..]) };
            if low > high.0 || (low == high.0 && !high.1) {
                return Ok(());
            }
            let mut range = self.map.range::<[u8], _>((Bound::Included(&low[..]), upper));
            let target = loop {
                let next = if reverse { range.next_back() } else { range.next() };
                let Some((key, value)) = next else { return Ok(()) };
                if !self.rotten.is_empty() {
                    self.check(key)?;
                }
                match visit(key, value) {
                    Visit::Next => {}
                    Visit::Seek(target) => break target,
                    Visit::Stop => return Ok(()),
                }
            };
            if reverse {
                if target[..] < high.0[..] {
                    high = (target, true);
                }
            } else if target > low {
                low = target;
            }
        }
    }

    fn write(&mut self, batch: Batch) -> Result<(), StorageError> {
        if std::mem::take(&mut self.fail_next_write) {
            self.write_failed = true;
            return Err(StorageError("injected failure".into()));
        }
        let mut undo = Undo::new();
        for op in batch.ops {
            match op {
                Op::Put(key, value) => self.set(&mut undo, key, Some(value)),
                Op::Delete(key) => self.set(&mut undo, key, None),
                Op::DeleteRange(from, to) => {
                    if from < to {
                        let keys: Vec<Bytes> = self.map.range(from..to).map(|(key, _)| key.clone()).collect();
                        for key in keys {
                            self.set(&mut undo, key, None);
                        }
                    }
                }
            }
        }
        self.unflushed.push_back(undo);
        self.written += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_flipped_bit_is_found_by_whoever_reads_the_record_and_by_no_one_else() {
        let mut store = MemoryStore::new();
        let mut batch = Batch::default();
        for (key, value) in [("a", "1"), ("b", "22"), ("c", "")] {
            batch.put(key.as_bytes().to_vec(), value.as_bytes().to_vec());
        }
        store.write(batch.clone()).unwrap();
        for bit in 0..8 * 6 {
            assert!(store.rot(1, bit));
            assert!(store.get(b"b").is_err(), "bit {bit}");
            for reverse in [false, true] {
                assert!(store.scan(b"a", b"z", reverse, &mut |_, _| Visit::Next).is_err());
                assert!(store.scan(b"c", b"z", reverse, &mut |_, _| Visit::Next).is_ok());
            }
            assert_eq!(store.get(b"a").unwrap().as_deref(), Some(&b"1"[..]));
            // Neither a write nor a crash mends a disk.
            store.write(batch.clone()).unwrap();
            store.crash(0);
            assert!(store.is_rotten() && store.get(b"b").is_err());
            store.mend();
            store.write(batch.clone()).unwrap();
            assert_eq!(store.get(b"b").unwrap().as_deref(), Some(&b"22"[..]));
        }
        assert!(!MemoryStore::new().rot(0, 0));
    }
}
