//! The Paxos log of all groups of a node, over RocksDB with a write-ahead log.
//!
//! ```text
//!   key    group (8, big endian)  kind (1: 0 hard state, 1 entry)  slot (8, big endian; 0)
//!   value  the record's own encoding                               crc32 of key and record (4)
//! ```
//!
//! The checksum is of our own, over RocksDB's: it is made before the record leaves our hands and
//! checked when it comes back, so it also covers what lies between. It includes the key, so a
//! record that comes back in the wrong place is found out. A mismatch stops the node (I14).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use paxos::{Entry, GroupId, HardState, Slot, Write};
use rocksdb::{DB, DBCompressionType, DBRecoveryMode, IteratorMode, Options, WriteBatch, WriteOptions};
use txn::GroupLog;

/// One memtable of the log store: with frequent truncation, most entries never reach a file.
const WRITE_BUFFER_BYTES: usize = 64 << 20;
/// Write-ahead log files beyond this make RocksDB flush the oldest memtable.
const WAL_BYTES_MAX: u64 = 256 << 20;

/// Table files that are open at once; the others are opened when they are read.
const OPEN_FILES_MAX: i32 = 64;

const KIND_HARD_STATE: u8 = 0;
const KIND_ENTRY: u8 = 1;
const KEY_BYTES: usize = 17;
const CRC_BYTES: usize = 4;

/// Why the log cannot be read or written. None can be retried: the node stops.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// RocksDB failed: a full disk, a failed sync, a corrupt file.
    #[error("could not {what} the log in {}: {source}", folder.display())]
    Rocks {
        /// `open`, `read` or `write`.
        what: &'static str,
        /// Where.
        folder: PathBuf,
        /// RocksDB's words.
        source: rocksdb::Error,
    },
    /// A record does not hold what was written.
    #[error("the log in {} is damaged: record {key}: {why}", folder.display())]
    Damaged {
        /// Where.
        folder: PathBuf,
        /// The record's key, in hexadecimal.
        key: String,
        /// What is wrong with it.
        why: String,
    },
}

/// The log store.
pub struct LogStore {
    db: DB,
    folder: PathBuf,
}

impl LogStore {
    /// Opens the log in a folder, and creates it if it is not there.
    pub fn open(folder: &Path) -> Result<LogStore, LogError> {
        LogStore::open_with(folder, OPEN_FILES_MAX)
    }

    /// As [`LogStore::open`], with so many table files open at once.
    pub fn open_with(folder: &Path, open_files_max: i32) -> Result<LogStore, LogError> {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.set_max_open_files(open_files_max);
        options.set_compression_type(DBCompressionType::Lz4);
        options.set_write_buffer_size(WRITE_BUFFER_BYTES);
        options.set_max_total_wal_size(WAL_BYTES_MAX);
        options.set_max_background_jobs(2);
        options.set_keep_log_file_num(3);
        options.set_max_log_file_size(4 << 20);
        options.set_paranoid_checks(true);
        // A torn record at the end is a write that was never vouched for. Anything else that is
        // damaged must not be skipped, as RocksDB's default would.
        options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
        options.set_track_and_verify_wals_in_manifest(true);
        let db = DB::open(&options, folder).map_err(|source| LogError::Rocks {
            what: "open",
            folder: folder.to_path_buf(),
            source,
        })?;
        Ok(LogStore { db, folder: folder.to_path_buf() })
    }

    /// Reads everything, checking every record.
    pub fn load(&self) -> Result<BTreeMap<GroupId, GroupLog>, LogError> {
        let mut logs: BTreeMap<GroupId, GroupLog> = BTreeMap::new();
        for item in self.db.iterator(IteratorMode::Start) {
            let (key, value) =
                item.map_err(|source| LogError::Rocks { what: "read", folder: self.folder.clone(), source })?;
            let damaged = |why: String| LogError::Damaged { folder: self.folder.clone(), key: hex(&key), why };
            let (group, kind, slot) = parse_key(&key).ok_or_else(|| damaged("its key is malformed".into()))?;
            let record = check(&key, &value).ok_or_else(|| damaged("its checksum does not match".into()))?;
            let log = logs.entry(group).or_default();
            if kind == KIND_HARD_STATE {
                log.hard = HardState::decode(record).map_err(|err| damaged(err.to_string()))?;
            } else {
                let entry = Entry::decode(record).map_err(|err| damaged(err.to_string()))?;
                if entry.slot != slot {
                    return Err(damaged(format!("it holds slot {}", entry.slot)));
                }
                log.entries.insert(slot, entry);
            }
        }
        Ok(logs)
    }

    /// Writes in order and atomically, with an fsync if asked; that covers all earlier writes too.
    /// Returns the bytes written.
    pub fn append<'a>(
        &self,
        writes: impl Iterator<Item = &'a (GroupId, Write)>,
        sync: bool,
    ) -> Result<usize, LogError> {
        let mut batch = WriteBatch::default();
        for (group, write) in writes {
            match write {
                Write::HardState(hard) => put(&mut batch, key(*group, KIND_HARD_STATE, Slot(0)), &hard.encode()),
                Write::Entry(entry) => put(&mut batch, key(*group, KIND_ENTRY, entry.slot), &entry.encode()),
                Write::Truncate(slot) => {
                    batch.delete_range(key(*group, KIND_ENTRY, Slot(0)), key(*group, KIND_ENTRY, slot.next()));
                }
                Write::Clear => {
                    batch.delete_range(key(*group, KIND_ENTRY, Slot(0)), key(*group, KIND_ENTRY + 1, Slot(0)));
                }
            }
        }
        let bytes = batch.size_in_bytes();
        let mut options = WriteOptions::default();
        options.set_sync(sync);
        self.db.write_opt(batch, &options).map_err(|source| LogError::Rocks {
            what: "write",
            folder: self.folder.clone(),
            source,
        })?;
        Ok(bytes)
    }
}

fn key(group: GroupId, kind: u8, slot: Slot) -> [u8; KEY_BYTES] {
    let mut key = [0; KEY_BYTES];
    key[..8].copy_from_slice(&group.0.to_be_bytes());
    key[8] = kind;
    key[9..].copy_from_slice(&slot.0.to_be_bytes());
    key
}

fn parse_key(key: &[u8]) -> Option<(GroupId, u8, Slot)> {
    let key: &[u8; KEY_BYTES] = key.try_into().ok()?;
    let group = u64::from_be_bytes(key[..8].try_into().expect("8 bytes"));
    let slot = u64::from_be_bytes(key[9..].try_into().expect("8 bytes"));
    (key[8] <= KIND_ENTRY).then_some((GroupId(group), key[8], Slot(slot)))
}

fn put(batch: &mut WriteBatch, key: [u8; KEY_BYTES], record: &[u8]) {
    let mut value = Vec::with_capacity(record.len() + CRC_BYTES);
    value.extend_from_slice(record);
    value.extend_from_slice(&checksum(&key, record).to_le_bytes());
    batch.put(key, value);
}

/// The record of a value whose checksum matches.
fn check(key: &[u8], value: &[u8]) -> Option<Bytes> {
    let (record, crc) = value.split_at_checked(value.len().checked_sub(CRC_BYTES)?)?;
    (crc == checksum(key, record).to_le_bytes()).then(|| Bytes::copy_from_slice(record))
}

fn checksum(key: &[u8], record: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(record);
    hasher.finalize()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use paxos::{Ballot, NodeId, Payload};

    fn entry(slot: u64, text: &str) -> Entry {
        let ballot = Ballot { round: 3, node: NodeId(1) };
        Entry { slot: Slot(slot), ballot, origin: ballot, payload: Payload::Command(Bytes::from(text.to_string())) }
    }

    fn fill(log: &LogStore) -> HardState {
        let hard =
            HardState { promised: Ballot { round: 4, node: NodeId(2) }, chosen: Slot(2), ..HardState::default() };
        let mut writes: Vec<(GroupId, Write)> =
            (1..=5).map(|slot| (GroupId(7), Write::Entry(entry(slot, "old")))).collect();
        writes.push((GroupId(7), Write::Entry(entry(4, "new"))));
        writes.push((GroupId(7), Write::HardState(hard.clone())));
        writes.push((GroupId(7), Write::Truncate(Slot(2))));
        writes.push((GroupId(8), Write::Entry(entry(1, "gone"))));
        writes.push((GroupId(8), Write::Clear));
        writes.push((GroupId(8), Write::Entry(entry(9, "after"))));
        assert!(log.append(writes.iter(), true).unwrap() > 0);
        hard
    }

    #[test]
    fn a_reopened_log_holds_what_was_written_last() {
        let folder = tempfile::tempdir().unwrap();
        let log = LogStore::open(folder.path()).unwrap();
        let hard = fill(&log);
        drop(log);
        let logs = LogStore::open(folder.path()).unwrap().load().unwrap();
        let seven = &logs[&GroupId(7)];
        assert_eq!(seven.hard, hard);
        assert_eq!(seven.entries.keys().copied().collect::<Vec<_>>(), [Slot(3), Slot(4), Slot(5)]);
        assert_eq!(seven.entries[&Slot(4)], entry(4, "new"));
        assert_eq!(logs[&GroupId(8)].entries.keys().copied().collect::<Vec<_>>(), [Slot(9)]);
    }

    #[test]
    fn a_record_that_was_altered_or_moved_is_refused() {
        for damage in ["alter", "move", "cut", "key"] {
            let folder = tempfile::tempdir().unwrap();
            let log = LogStore::open(folder.path()).unwrap();
            fill(&log);
            let at = key(GroupId(7), KIND_ENTRY, Slot(3));
            let mut value = log.db.get(at).unwrap().unwrap();
            match damage {
                "alter" => {
                    value[2] ^= 1;
                    log.db.put(at, &value).unwrap();
                }
                "move" => log.db.put(key(GroupId(7), KIND_ENTRY, Slot(6)), &value).unwrap(),
                "cut" => log.db.put(at, &value[..3]).unwrap(),
                _ => log.db.put(b"stray", &value).unwrap(),
            }
            let err = log.load().unwrap_err();
            assert!(matches!(err, LogError::Damaged { .. }), "{damage}: {err}");
        }
    }
}
