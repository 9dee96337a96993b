//! A replica is sent a snapshot, or two, and loses power at every point of it.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use paxos::{Ballot, Configuration, Entry, GroupId, HardState, NodeId, Payload, Slot};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use truetime::{Interval, Now, Timestamp};

use super::{CHUNK_BYTES, covered};
use crate::command::Command;
use crate::keyspace;
use crate::message::{NodeMessage, SnapshotEnd, SnapshotMessage};
use crate::meta::GroupMeta;
use crate::node::Node;
use crate::ready::{GroupLog, NodeInput, NodeOptions, NodeReady};
use crate::storage::{Batch, Storage};
use crate::testing::MemoryStore;
use crate::types::{RangeDescriptor, Span};

const GROUP: GroupId = GroupId(0);
const CHILD: GroupId = GroupId(5);
const VERSIONS: usize = 5;

fn now(ms: i64) -> Now {
    let tt = Interval::around(Timestamp::from_nanos(1_800_000_000_000_000_000 + ms * 1_000_000), 1_000);
    Now { tt, mono_ns: ms * 1_000_000, trusted: true }
}

fn node(store: MemoryStore) -> Node<MemoryStore> {
    node_with(store, BTreeMap::new())
}

fn node_with(store: MemoryStore, logs: BTreeMap<GroupId, GroupLog>) -> Node<MemoryStore> {
    let mut options = NodeOptions::new(NodeId(2), (1..=3).map(NodeId).collect(), 500_000_000);
    let range = RangeDescriptor { group: GROUP, span: Span::new("", ""), epoch: 1 };
    options.bootstrap = vec![(range, NodeId(1))];
    let (node, _) = Node::new(options, store, logs, now(0), ChaCha8Rng::seed_from_u64(1)).unwrap();
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
    snapshot_of(GROUP, Span::new("", ""), 9, 1..VERSIONS)
}

/// From after the split at `d`.
fn left() -> Vec<SnapshotMessage> {
    snapshot_of(GROUP, Span::new("", "d"), 9, 1..3)
}

/// What was split off.
fn right() -> Vec<SnapshotMessage> {
    snapshot_of(CHILD, Span::new("d", ""), 4, 3..VERSIONS)
}

fn snapshot_of(group: GroupId, span: Span, applied: u64, versions: Range<usize>) -> Vec<SnapshotMessage> {
    let range = RangeDescriptor { group, span, epoch: 2 };
    let config = Configuration::of_voters((1..=3).map(NodeId));
    let mut meta = GroupMeta::new(range, config.clone(), NodeId(1), Timestamp::ZERO);
    meta.applied = Slot(applied);
    let (applied, meta) = (Slot(applied), meta.encode());
    let end = SnapshotEnd { applied, epoch: Ballot::ZERO, config, meta: meta.clone(), read_upto: applied };
    let mut chunks = vec![vec![(keyspace::meta_key(group), meta)]];
    chunks.extend(versions.map(|n| vec![version(n, b'n')]));
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
    take_of(node, GROUP, message)
}

fn take_of(node: &mut Node<MemoryStore>, group: GroupId, message: SnapshotMessage) -> NodeReady {
    let message = NodeMessage::Snapshot { group, message };
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
    assert_eq!(staged(&node, GROUP), 0);
}

fn staged(node: &Node<MemoryStore>, group: GroupId) -> usize {
    let prefix = keyspace::staged_prefix(group);
    let mut found = 0;
    let mut count = |_: &[u8], _: &[u8]| {
        found += 1;
        crate::storage::Visit::Next
    };
    node.store().scan(&prefix, &keyspace::prefix_end(&prefix), false, &mut count).unwrap();
    found
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

/// Steps without its peers until nothing is left to do, with a flush after each.
fn come_to_rest(node: &mut Node<MemoryStore>) {
    for ms in 2..12 {
        let ready = node.step(now(ms), NodeInput::Tick);
        assert!(ready.fatal.is_none(), "{:?}", ready.fatal);
        let applied = node.applied();
        node.store_mut().flush();
        let _ = node.step(now(ms), NodeInput::StateDurable(applied));
    }
}

#[test]
fn a_snapshot_from_after_a_split_waits_for_what_was_split_off() {
    let mut node = filled();
    for chunk in left() {
        let _ = take(&mut node, chunk);
    }
    come_to_rest(&mut node);
    assert_eq!((state(&node), node.applied()), (old(), vec![(GROUP, Slot(0))]), "nobody else may have it");
    assert!(node.checksum(GROUP).unwrap().is_ok(), "it can still serve");
    let mut chunks = right();
    let last = chunks.pop().unwrap();
    for chunk in chunks {
        let _ = take_of(&mut node, CHILD, chunk);
    }
    come_to_rest(&mut node);
    assert_eq!((state(&node), node.applied()), (old(), vec![(GROUP, Slot(0)), (CHILD, Slot(0))]));
    let _ = take_of(&mut node, CHILD, last);
    come_to_rest(&mut node);
    assert_eq!((state(&node), node.applied()), (new(), vec![(GROUP, Slot(9)), (CHILD, Slot(4))]));
    assert_eq!((staged(&node, GROUP), staged(&node, CHILD)), (0, 0));
}

#[test]
fn whatever_a_crash_leaves_of_two_snapshots_all_keys_are_there() {
    let mut found = BTreeMap::new();
    // The order in which they arrive does not matter, once that of the parent has begun.
    for parent_first in [true, false] {
        let mut node = filled();
        let (mut of_parent, mut of_child) = (left().into_iter(), right().into_iter());
        let _ = take(&mut node, of_parent.next().unwrap());
        if parent_first {
            of_parent.by_ref().for_each(|chunk| drop(take(&mut node, chunk)));
        }
        of_child.by_ref().for_each(|chunk| drop(take_of(&mut node, CHILD, chunk)));
        of_parent.for_each(|chunk| drop(take(&mut node, chunk)));
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
                come_to_rest(&mut node);
                let state = state(&node);
                assert!(state == old() || state == new(), "{parent_first} {keep}: {state:?}");
                let applied: Vec<u64> = node.applied().into_iter().map(|(_, slot)| slot.0).collect();
                let expected: &[&[u64]] = if state == new() { &[&[9, 4]] } else { &[&[0], &[0, 0]] };
                assert!(expected.contains(&&applied[..]), "{parent_first} {keep}: {applied:?}");
                *found.entry(state == new()).or_insert(0) += 1;
            }
        }
    }
    assert!(found[&false] > VERSIONS && found[&true] > VERSIONS, "{found:?}");
}

#[test]
fn a_snapshot_that_waits_gives_way_to_an_older_one() {
    let mut node = filled();
    for chunk in left() {
        let _ = take(&mut node, chunk);
    }
    // Its sender is gone, and with it what was split off. Those that are left have not applied the split.
    for (transfer, applied) in [(20, 9), (21, 6)] {
        for mut chunk in snapshot_of(GROUP, Span::new("", if applied == 9 { "d" } else { "" }), applied, 1..VERSIONS) {
            let SnapshotMessage::Chunk { transfer: number, .. } = &mut chunk else { unreachable!("it is a chunk") };
            *number = transfer;
            let ready = take(&mut node, chunk);
            assert_eq!(ready.messages.is_empty(), applied == 9, "one like it is not wanted");
        }
    }
    come_to_rest(&mut node);
    assert_eq!((state(&node), node.applied()), (new(), vec![(GROUP, Slot(6))]));
}

#[test]
fn a_split_that_is_applied_makes_the_group_whatever_was_staged_of_it() {
    let (before, whole) = (right().len() - 1, right().len());
    for chunks in [1, before, whole] {
        let mut node = filled();
        let _ = take(&mut node, left().remove(0));
        for chunk in right().into_iter().take(chunks) {
            let _ = take_of(&mut node, CHILD, chunk);
        }
        assert_eq!(node.applied(), vec![(GROUP, Slot(0)), (CHILD, Slot(0))]);
        assert!(node.checksum(CHILD).unwrap().is_err(), "it has no state");
        // It finds the split in its log after all.
        let ballot = Ballot { round: 1, node: NodeId(1) };
        let split = Command::Split {
            at: Bytes::from_static(b"d"),
            new_group: CHILD,
            leader: NodeId(1),
            ts: Timestamp::from_nanos(7),
        };
        let entry = |slot, payload| Entry { slot: Slot(slot), ballot, origin: ballot, payload };
        let entries = [entry(1, Payload::Start), entry(2, Payload::Command(split.encode()))];
        let hard = HardState { promised: ballot, chosen: Slot(2), ..HardState::default() };
        let log = GroupLog { hard, entries: entries.into_iter().map(|entry| (entry.slot, entry)).collect() };
        let mut node = node_with(node.store().clone(), BTreeMap::from([(GROUP, log)]));
        come_to_rest(&mut node);
        assert_eq!((state(&node), node.applied()), (old(), vec![(GROUP, Slot(2)), (CHILD, Slot(0))]));
        assert!(node.checksum(CHILD).unwrap().is_ok(), "its state is what the parent had");
        assert_eq!(staged(&node, CHILD), 0);
    }
}

#[test]
fn a_group_that_its_parent_will_make_is_not_asked_for() {
    let mut node = filled();
    let ready = take_of(&mut node, CHILD, right().remove(0));
    assert!(ready.messages.is_empty());
    assert_eq!(node.applied(), vec![(GROUP, Slot(0))]);
}

#[test]
fn covered_is_what_looking_at_each_key_says() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let mut seen = [0, 0];
    for _ in 0..20_000 {
        let mut span = || {
            let (start, end) = (rng.random_range(0..8u8), rng.random_range(0..9u8));
            Span::new(vec![start], if end == 8 { vec![] } else { vec![end] })
        };
        let whole = span();
        let by: Vec<Span> = (0..4).map(|_| span()).collect();
        // The keys 0 to 7, and one beyond all ends.
        let slowly = (0..9u8).filter(|key| whole.contains(&[*key])).all(|key| by.iter().any(|s| s.contains(&[key])));
        assert_eq!(covered(&whole, &by), slowly, "{whole:?} by {by:?}");
        seen[usize::from(slowly)] += 1;
    }
    assert!(seen[0] > 1_000 && seen[1] > 1_000, "{seen:?}");
}
