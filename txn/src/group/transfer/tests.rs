//! A replica is sent a snapshot and loses power at every point of it.

use std::collections::BTreeMap;

use bytes::Bytes;
use paxos::{Ballot, Configuration, GroupId, NodeId, Slot};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use truetime::{Interval, Now, Timestamp};

use super::CHUNK_BYTES;
use crate::keyspace;
use crate::message::{NodeMessage, SnapshotEnd, SnapshotMessage};
use crate::meta::GroupMeta;
use crate::node::Node;
use crate::ready::{NodeInput, NodeOptions, NodeReady};
use crate::storage::{Batch, Storage};
use crate::testing::MemoryStore;
use crate::types::{RangeDescriptor, Span};

const GROUP: GroupId = GroupId(0);
const VERSIONS: usize = 5;

fn now(ms: i64) -> Now {
    let tt = Interval::around(Timestamp::from_nanos(1_800_000_000_000_000_000 + ms * 1_000_000), 1_000);
    Now { tt, mono_ns: ms * 1_000_000, trusted: true }
}

fn node(store: MemoryStore) -> Node<MemoryStore> {
    let mut options = NodeOptions::new(NodeId(2), (1..=3).map(NodeId).collect(), 500_000_000);
    let range = RangeDescriptor { group: GROUP, span: Span::new("", ""), epoch: 1 };
    options.bootstrap = vec![(range, NodeId(1))];
    let (node, _) = Node::new(options, store, BTreeMap::new(), now(0), ChaCha8Rng::seed_from_u64(1)).unwrap();
    node
}

/// A version as the old state has it (`o`) or the new one (`n`); that of the first key is only in the old.
fn version(n: usize, state: u8) -> (Bytes, Bytes) {
    let key = keyspace::version_key(&[b'a' + n as u8], Timestamp::from_nanos(1)).into();
    (key, vec![state; CHUNK_BYTES / 2].into())
}

fn state(node: &Node<MemoryStore>) -> Vec<Option<u8>> {
    let first = |n| node.store().get(&version(n, 0).0).unwrap().map(|value| value[0]);
    (0..VERSIONS).map(first).collect()
}

fn old() -> Vec<Option<u8>> {
    vec![Some(b'o'); VERSIONS]
}

fn new() -> Vec<Option<u8>> {
    (0..VERSIONS).map(|n| (n > 0).then_some(b'n')).collect()
}

fn snapshot() -> Vec<SnapshotMessage> {
    let range = RangeDescriptor { group: GROUP, span: Span::new("", ""), epoch: 1 };
    let config = Configuration::of_voters((1..=3).map(NodeId));
    let mut meta = GroupMeta::new(range, config.clone(), NodeId(1), Timestamp::ZERO);
    meta.applied = Slot(9);
    let meta = meta.encode();
    let end = SnapshotEnd { applied: Slot(9), epoch: Ballot::ZERO, config, meta: meta.clone(), read_upto: Slot(9) };
    let mut chunks = vec![vec![(keyspace::meta_key(GROUP), meta)]];
    chunks.extend((1..VERSIONS).map(|n| vec![version(n, b'n')]));
    let last = chunks.len() - 1;
    let chunk = |(number, pairs)| SnapshotMessage::Chunk {
        transfer: 7,
        number: number as u64,
        pairs,
        last: (number == last).then(|| end.clone()),
    };
    chunks.into_iter().enumerate().map(chunk).collect()
}

fn filled() -> Node<MemoryStore> {
    let mut node = node(MemoryStore::new());
    let mut batch = Batch::default();
    for n in 0..VERSIONS {
        let (key, value) = version(n, b'o');
        batch.put(key, value);
    }
    node.store_mut().write(batch).unwrap();
    node.store_mut().flush();
    node
}

fn take(node: &mut Node<MemoryStore>, message: SnapshotMessage) -> NodeReady {
    let message = NodeMessage::Snapshot { group: GROUP, message };
    node.step(now(1), NodeInput::Message { from: NodeId(1), message })
}

/// Lets it go on with what needs nobody else, until it asks for a flush.
fn settle(node: &mut Node<MemoryStore>, mut ready: NodeReady) {
    while !ready.flush_state {
        ready = node.step(now(2), NodeInput::Tick);
        assert!(ready.fatal.is_none(), "{:?}", ready.fatal);
    }
    node.store_mut().flush();
    let _ = node.step(now(3), NodeInput::StateDurable(node.applied()));
}

#[test]
fn the_old_state_is_whole_until_all_of_the_new_one_is_here() {
    let mut node = filled();
    let mut chunks = snapshot();
    let last = chunks.pop().unwrap();
    for chunk in chunks {
        assert!(!take(&mut node, chunk).flush_state);
        assert_eq!(state(&node), old());
        assert!(node.checksum(GROUP).unwrap().is_ok(), "it can still serve");
    }
    let ready = take(&mut node, last);
    settle(&mut node, ready);
    assert_eq!((state(&node), node.applied()), (new(), vec![(GROUP, Slot(9))]));
    let staged = keyspace::staged_prefix(GROUP);
    let mut left = 0;
    let mut count = |_: &[u8], _: &[u8]| {
        left += 1;
        crate::storage::Visit::Next
    };
    node.store().scan(&staged, &keyspace::prefix_end(&staged), false, &mut count).unwrap();
    assert_eq!(left, 0);
}

#[test]
fn whatever_a_crash_leaves_of_it_is_the_old_state_or_becomes_the_new_one() {
    let mut whole = [0, 0];
    let mut node = filled();
    for chunk in snapshot() {
        let _ = take(&mut node, chunk);
    }
    // As if it had been stopped before any flush, at each step of the move.
    let mut stores = vec![node.store().clone()];
    for _ in 0..VERSIONS {
        let _ = node.step(now(2), NodeInput::Tick);
        stores.push(node.store().clone());
    }
    for store in stores {
        for keep in 0..=store.unflushed() {
            let mut store = store.clone();
            store.crash(keep);
            let mut node = self::node(store);
            let installing = node.checksum(GROUP).unwrap().is_err();
            if installing {
                // Without its sender.
                let ready = node.step(now(1), NodeInput::Tick);
                settle(&mut node, ready);
            }
            let found = state(&node);
            let is_new = found == new();
            assert!(is_new || (found == old() && !installing), "{keep}: {found:?}");
            assert_eq!(node.applied(), vec![(GROUP, Slot(if is_new { 9 } else { 0 }))]);
            whole[usize::from(is_new)] += 1;
        }
    }
    assert!(whole[0] > VERSIONS && whole[1] > VERSIONS, "{whole:?}");
}
