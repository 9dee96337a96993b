//! The applied state of a node's groups, over RocksDB without a write-ahead log.
//!
//! A batch is visible at once and durable after [`RocksState::flush`]. With a single column family
//! the memtables are flushed in the order in which they were written, so after a crash the state
//! is a prefix of the batches, as `txn::Storage` demands.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use rocksdb::{BlockBasedOptions, Cache, DB, DBCompressionType, Options, ReadOptions, WriteBatch, WriteOptions};
use txn::{Batch, Op, Storage, StorageError, Visit};

/// Settings of the state store.
#[derive(Clone, Debug)]
pub struct StateOptions {
    /// The cache of uncompressed blocks.
    pub block_cache_bytes: usize,
    /// One memtable. RocksDB flushes it when it is full, and the server more often than that.
    pub write_buffer_bytes: usize,
    /// Memtables at most, before writes wait for a flush.
    pub write_buffers_max: i32,
    /// Threads for flushes and compactions.
    pub background_jobs_max: i32,
    /// Table files that are open at once; the others are opened when they are read.
    pub open_files_max: i32,
}

impl Default for StateOptions {
    fn default() -> StateOptions {
        StateOptions {
            block_cache_bytes: 128 << 20,
            write_buffer_bytes: 64 << 20,
            write_buffers_max: 4,
            background_jobs_max: 2,
            open_files_max: 512,
        }
    }
}

/// The state store. Clones share it.
#[derive(Clone)]
pub struct RocksState {
    shared: Arc<Shared>,
}

struct Shared {
    db: DB,
    write: WriteOptions,
    folder: PathBuf,
    written_bytes: AtomicU64,
}

impl RocksState {
    /// Opens the store in a folder, and creates it if it is not there.
    pub fn open(folder: &Path, options: &StateOptions) -> Result<RocksState, StorageError> {
        let mut table = BlockBasedOptions::default();
        table.set_block_cache(&Cache::new_lru_cache(options.block_cache_bytes));
        table.set_cache_index_and_filter_blocks(true);
        table.set_pin_l0_filter_and_index_blocks_in_cache(true);
        table.set_format_version(5);

        let mut db = Options::default();
        db.create_if_missing(true);
        db.set_block_based_table_factory(&table);
        db.set_compression_type(DBCompressionType::Lz4);
        db.set_write_buffer_size(options.write_buffer_bytes);
        db.set_max_write_buffer_number(options.write_buffers_max);
        db.set_max_background_jobs(options.background_jobs_max);
        db.set_level_compaction_dynamic_level_bytes(true);
        db.set_max_open_files(options.open_files_max);
        db.set_keep_log_file_num(3);
        db.set_max_log_file_size(4 << 20);
        db.set_paranoid_checks(true);

        let mut write = WriteOptions::default();
        write.disable_wal(true);
        let db = DB::open(&db, folder).map_err(|err| failed(folder, "open", &err))?;
        Ok(RocksState {
            shared: Arc::new(Shared { db, write, folder: folder.to_path_buf(), written_bytes: AtomicU64::new(0) }),
        })
    }

    /// Makes everything written so far durable. Takes as long as the disk; other threads may read
    /// and write meanwhile.
    pub fn flush(&self) -> Result<(), StorageError> {
        self.shared.db.flush().map_err(|err| failed(&self.shared.folder, "flush", &err))
    }

    /// Bytes of keys and values written since the store was opened.
    pub fn written_bytes(&self) -> u64 {
        self.shared.written_bytes.load(Ordering::Relaxed)
    }
}

fn failed(folder: &Path, what: &str, err: &rocksdb::Error) -> StorageError {
    StorageError(format!("could not {what} the state store in {}: {err}", folder.display()))
}

impl Storage for RocksState {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        let found = self.shared.db.get_pinned(key).map_err(|err| failed(&self.shared.folder, "read", &err))?;
        Ok(found.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        reverse: bool,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Visit,
    ) -> Result<(), StorageError> {
        if from >= to {
            return Ok(());
        }
        let mut options = ReadOptions::default();
        // The bounds keep the iterator from walking over the tombstones of a neighbour.
        options.set_iterate_lower_bound(from);
        options.set_iterate_upper_bound(to);
        let mut at = self.shared.db.raw_iterator_opt(options);
        if reverse {
            at.seek_to_last();
        } else {
            at.seek_to_first();
        }
        while let Some((key, value)) = at.item() {
            match visit(key, value) {
                Visit::Next if reverse => at.prev(),
                Visit::Next => at.next(),
                Visit::Seek(target) if reverse => at.seek_for_prev(target),
                Visit::Seek(target) => at.seek(target),
                Visit::Stop => return Ok(()),
            }
        }
        // An iterator that fails looks like one that has ended.
        at.status().map_err(|err| failed(&self.shared.folder, "read", &err))
    }

    fn write(&mut self, batch: Batch) -> Result<(), StorageError> {
        let mut out = WriteBatch::default();
        for op in &batch.ops {
            match op {
                Op::Put(key, value) => out.put(key, value),
                Op::Delete(key) => out.delete(key),
                // RocksDB refuses a range whose ends are out of order; an empty one is nothing to do.
                Op::DeleteRange(from, to) if from < to => out.delete_range(from, to),
                Op::DeleteRange(..) => {}
            }
        }
        self.shared.written_bytes.fetch_add(out.size_in_bytes() as u64, Ordering::Relaxed);
        self.shared.db.write_opt(out, &self.shared.write).map_err(|err| failed(&self.shared.folder, "write", &err))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(state: &RocksState, from: &[u8], to: &[u8], reverse: bool) -> Vec<Vec<u8>> {
        let mut keys = Vec::new();
        state
            .scan(from, to, reverse, &mut |key, _| {
                keys.push(key.to_vec());
                Visit::Next
            })
            .unwrap();
        keys
    }

    #[test]
    fn it_is_a_store_as_the_groups_expect_one() {
        let folder = tempfile::tempdir().unwrap();
        let mut stores = 0;
        txn::testing::conformance(&mut || {
            stores += 1;
            let folder = folder.path().join(stores.to_string());
            Box::new(RocksState::open(&folder, &StateOptions::default()).unwrap())
        });
    }

    #[test]
    fn what_was_flushed_is_there_after_a_reopen_and_a_batch_is_whole_or_gone() {
        let folder = tempfile::tempdir().unwrap();
        let mut state = RocksState::open(folder.path(), &StateOptions::default()).unwrap();
        let mut batch = Batch::default();
        for key in ["a", "b", "c", "d"] {
            batch.put(key.as_bytes().to_vec(), b"1".to_vec());
        }
        batch.delete_range(b"b".to_vec(), b"d".to_vec());
        batch.delete_range(b"z".to_vec(), b"a".to_vec());
        state.write(batch).unwrap();
        assert!(state.written_bytes() > 0);
        state.flush().unwrap();
        drop(state);
        let state = RocksState::open(folder.path(), &StateOptions::default()).unwrap();
        assert_eq!(keys(&state, b"", b"zz", false), [b"a", b"d"]);
        assert_eq!(keys(&state, b"", b"d", true), [b"a"]);
        assert_eq!(keys(&state, b"d", b"a", true), Vec::<Vec<u8>>::new());
        assert_eq!(state.get(b"b").unwrap(), None);
        assert_eq!(state.get(b"d").unwrap().as_deref(), Some(&b"1"[..]));
    }

    #[test]
    fn scans_seek_and_stop_both_ways_within_their_bounds() {
        let folder = tempfile::tempdir().unwrap();
        let mut state = RocksState::open(folder.path(), &StateOptions::default()).unwrap();
        let mut batch = Batch::default();
        for key in 0..10u8 {
            batch.put(vec![key], vec![key]);
        }
        state.write(batch).unwrap();
        for (reverse, to, want) in [(false, 5u8, vec![2, 5, 6]), (true, 4, vec![7, 4, 3])] {
            let mut seen = Vec::new();
            let mut visit = |key: &[u8], _: &[u8]| {
                seen.push(key[0]);
                match seen.len() {
                    1 => Visit::Seek(vec![to]),
                    2 => Visit::Next,
                    _ => Visit::Stop,
                }
            };
            state.scan(&[2], &[8], reverse, &mut visit).unwrap();
            assert_eq!(seen, want);
        }
        // A seek beyond the bounds ends the scan.
        for reverse in [false, true] {
            let mut seen = 0;
            let target = if reverse { vec![0] } else { vec![9] };
            let mut visit = |_: &[u8], _: &[u8]| {
                seen += 1;
                Visit::Seek(target.clone())
            };
            state.scan(&[2], &[8], reverse, &mut visit).unwrap();
            assert_eq!(seen, 1);
        }
    }
}
