//! What disks hold: logs, metadata, versions.

use bytes::Bytes;
use paxos::{Configuration, Entry, GroupId, HardState};
use truetime::Timestamp;
use txn::command::{Command, PreparedTxn};
use txn::meta::{self, GroupMeta};
use txn::testing::MemoryStore;
use txn::{Batch, ReadOp, Span, Storage as _, checksum, gc, keyspace, mvcc};

use crate::stable;

/// A log entry, a hard state or a configuration: the first byte says which.
pub fn paxos_stored(data: &[u8]) {
    let Some((which, data)) = data.split_first() else { return };
    match which % 3 {
        0 => drop(stable(data, Entry::decode, Entry::encode)),
        1 => drop(stable(data, HardState::decode, HardState::encode)),
        _ => drop(stable(data, Configuration::decode, Configuration::encode)),
    }
}

/// A command of the log, or a prepare record.
pub fn txn_command(data: &[u8]) {
    stable(data, Command::decode, Command::encode);
    stable(data, PreparedTxn::decode, PreparedTxn::encode);
}

/// A group's metadata, an outcome, a decision.
pub fn txn_meta(data: &[u8]) {
    stable(data, GroupMeta::decode, GroupMeta::encode);
    stable(data, meta::decode_outcome, |outcome| meta::encode_outcome(*outcome));
    stable(data, meta::decode_decision, |(ts, groups)| meta::encode_decision(*ts, groups));
}

/// Keys and values of the state store: pairs of a length and bytes, read in every way there is.
pub fn txn_store(data: &[u8]) {
    let mut store = MemoryStore::new();
    let mut batch = Batch::default();
    let mut rest = data;
    while let Some((lengths, after)) = rest.split_first() {
        // Short keys, so that they meet.
        let (key, after) = after.split_at(usize::from(lengths & 31).min(after.len()));
        let (value, after) = after.split_at(usize::from(lengths >> 5).min(after.len()));
        rest = after;
        if let Some((user, ts)) = keyspace::decode_version_key(key) {
            assert_eq!(keyspace::version_key(&user, ts), key, "a version's key is written in one way only");
        }
        let _ = (keyspace::meta_group(key), keyspace::record_txn(key), keyspace::belongs_to(key, GroupId(1)));
        let mut raw = vec![keyspace::version_prefix(b"")[0]];
        raw.extend_from_slice(key);
        batch.put(raw, value.to_vec());
    }
    store.write(batch).expect("memory");
    let user = Bytes::copy_from_slice(data.get(1..4).unwrap_or_default());
    let spans = [Span::all(), Span::new(user.clone(), Bytes::new()), Span::point(user.clone())];
    for at in [Timestamp::MIN, Timestamp::ZERO, Timestamp::MAX] {
        for span in &spans {
            for reverse in [false, true] {
                let op = ReadOp { span: span.clone(), reverse, limit: 3 };
                let (mut left, mut newest) = (1000, Timestamp::MIN);
                let _ = mvcc::read(&store, &op, at, &mut left, &mut newest);
            }
            let _ = gc::sweep(&store, span, at, None, 2);
            let _ = checksum::hash_chunk(&store, span, at, Some(user.clone()), 2, &mut checksum::Hasher64::new());
        }
        let _ = (mvcc::get(&store, &user, at), mvcc::newest_version(&store, &user));
    }
}
