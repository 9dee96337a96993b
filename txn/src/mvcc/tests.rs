//! Reads, collection and checksums against a dumb twin: a list of versions.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::checksum::{Hasher64, hash_chunk};
use crate::gc::sweep;
use crate::testing::MemoryStore;

fn ts(n: i64) -> Timestamp {
    Timestamp::from_nanos(n)
}

fn key(n: u8) -> Key {
    vec![0, n].into()
}

struct Twin(Vec<(Key, Timestamp, Option<Value>)>);

impl Twin {
    /// The newest version that a read of the whole span looks at, tombstones included.
    fn newest(&self, span: &Span, at: Timestamp) -> Timestamp {
        let seen = self.0.iter().filter(|(key, ts, _)| span.contains(key) && *ts <= at);
        seen.map(|(_, ts, _)| *ts).max().unwrap_or(Timestamp::MIN)
    }

    fn rows(&self, op: &ReadOp, at: Timestamp) -> Vec<Row> {
        let mut keys: Vec<&Key> = self.0.iter().map(|(k, _, _)| k).filter(|k| op.span.contains(k)).collect();
        keys.sort();
        keys.dedup();
        if op.reverse {
            keys.reverse();
        }
        let mut rows: Vec<Row> = Vec::new();
        for k in keys {
            let newest = self.0.iter().filter(|(key, t, _)| key == k && *t <= at).max_by_key(|(_, t, _)| *t);
            if let Some((_, commit_ts, Some(value))) = newest {
                rows.push(Row { key: k.clone(), value: value.clone(), commit_ts: *commit_ts });
            }
        }
        if op.limit > 0 {
            rows.truncate(op.limit as usize);
        }
        rows
    }
}

/// Reads to the end of the span, page by page.
fn read_all(store: &MemoryStore, op: &ReadOp, at: Timestamp, page: usize) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut op = op.clone();
    loop {
        let (mut left, mut newest) = (page, Timestamp::MIN);
        let result = read(store, &op, at, &mut left, &mut newest).expect("a read");
        assert!(newest <= at);
        assert!(result.rows.iter().all(|r| r.commit_ts <= newest), "newest covers what is returned");
        assert!(result.resume.is_none() || !result.rows.is_empty(), "a page makes progress");
        if op.limit > 0 {
            op.limit -= result.rows.len() as u64;
        }
        rows.extend(result.rows);
        match result.resume {
            Some(rest) => op.span = rest,
            None => return rows,
        }
    }
}

fn filled(rng: &mut ChaCha8Rng) -> (MemoryStore, Twin) {
    let (mut store, mut twin) = (MemoryStore::new(), Twin(Vec::new()));
    for commit in 1..rng.random_range(20..120) {
        let mut keys: Vec<u8> = (0..rng.random_range(1..4)).map(|_| rng.random_range(0..8)).collect();
        keys.sort();
        keys.dedup();
        let writes: Vec<Mutation> = keys
            .into_iter()
            .map(|k| Mutation { key: key(k), value: rng.random_bool(0.75).then(|| vec![commit as u8; 3].into()) })
            .collect();
        let mut batch = Batch::default();
        put_versions(&mut batch, &writes, ts(commit));
        store.write(batch).expect("a write");
        twin.0.extend(writes.into_iter().map(|w| (w.key, ts(commit), w.value)));
    }
    (store, twin)
}

fn random_op(rng: &mut ChaCha8Rng) -> ReadOp {
    let a = rng.random_range(0..8);
    let span = match rng.random_range(0..4) {
        0 => Span::point(key(a)),
        1 => Span::all(),
        _ => Span::new(key(a), key(a + rng.random_range(1..5))),
    };
    ReadOp { span, reverse: rng.random_bool(0.5), limit: if rng.random_bool(0.4) { rng.random_range(1..4) } else { 0 } }
}

#[test]
fn reads_agree_with_the_twin() {
    for seed in 0..300 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let (store, twin) = filled(&mut rng);
        for _ in 0..60 {
            let op = random_op(&mut rng);
            let at = ts(rng.random_range(0..130));
            let page = [1, 7, 1 << 20][rng.random_range(0..3)];
            assert_eq!(read_all(&store, &op, at, page), twin.rows(&op, at), "seed {seed}: {op:?} at {at}");
            if op.limit == 0 {
                let (mut left, mut newest) = (usize::MAX, Timestamp::MIN);
                read(&store, &op, at, &mut left, &mut newest).expect("a read");
                assert_eq!(newest, twin.newest(&op.span, at), "seed {seed}: {op:?} at {at}");
            }
            let got = get(&store, &op.span.start, at).expect("a read").map(|(ts, _)| ts);
            let expected = twin.newest(&Span::point(op.span.start.clone()), at);
            assert_eq!(got.unwrap_or(Timestamp::MIN), expected, "seed {seed}: {op:?} at {at}");
        }
    }
}

#[test]
fn collection_changes_no_read_at_or_above_its_line_and_no_checksum() {
    for seed in 0..150 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let (mut store, twin) = filled(&mut rng);
        let line = ts(rng.random_range(0..120));
        let hash = |store: &MemoryStore| {
            let (mut hasher, mut cursor) = (Hasher64::new(), None);
            loop {
                cursor = hash_chunk(store, &Span::all(), line, cursor, 5, &mut hasher).expect("a hash");
                if cursor.is_none() {
                    return hasher.finish();
                }
            }
        };
        let before = (store.len(), hash(&store));
        let mut cursor = None;
        loop {
            let (batch, next) = sweep(&store, &Span::all(), line, cursor, 7).expect("a sweep");
            store.write(batch).expect("a write");
            if next.is_none() {
                break;
            }
            cursor = next;
        }
        assert_eq!(hash(&store), before.1, "seed {seed}");
        assert!(store.len() <= before.0);
        let (batch, _) = sweep(&store, &Span::all(), line, None, usize::MAX).expect("a sweep");
        assert!(batch.is_empty(), "seed {seed}: a second sweep finds nothing");
        for _ in 0..40 {
            let op = random_op(&mut rng);
            let at = ts(rng.random_range(line.as_nanos()..130));
            assert_eq!(read_all(&store, &op, at, 9), twin.rows(&op, at), "seed {seed}: {op:?} at {at}, line {line}");
        }
    }
}

#[test]
fn the_memory_store_conforms_and_a_crash_keeps_a_prefix() {
    crate::testing::conformance(&mut || Box::new(MemoryStore::new()));
    let mut store = MemoryStore::new();
    for n in 0..10u8 {
        let mut batch = Batch::default();
        batch.put(vec![1], vec![n]);
        batch.put(vec![2, n], vec![n]);
        store.write(batch).expect("a write");
        if n == 3 {
            store.flush();
        }
    }
    store.crash(2);
    assert_eq!(store.get(&[1]).expect("a read").as_deref(), Some(&[5][..]));
    assert_eq!(store.len(), 7);
}

#[test]
fn damage_is_an_error_and_not_an_end() {
    let good = version_key(b"b", ts(5));
    // An escape that means nothing.
    let mut escape = vec![2, b'b', 0, 7, 0, 1];
    push_ts(&mut escape, ts(5));
    for bad in [
        (vec![2, b'b', 0, 1, 9], vec![1]),
        (escape.clone(), vec![1]),
        // No tag, an unknown one, and a deletion with a value.
        (good.clone(), vec![]),
        (good.clone(), vec![7]),
        (good.clone(), vec![TOMBSTONE, 1]),
    ] {
        let mut store = MemoryStore::new();
        let mut batch = Batch::default();
        put_versions(&mut batch, &[Mutation { key: (&b"a"[..]).into(), value: Some((&b"1"[..]).into()) }], ts(3));
        batch.put(bad.0.clone(), bad.1.clone());
        store.write(batch).expect("a write");
        for reverse in [false, true] {
            let op = ReadOp { span: Span::all(), reverse, limit: 0 };
            let (mut left, mut newest) = (usize::MAX, Timestamp::MIN);
            assert!(read(&store, &op, ts(9), &mut left, &mut newest).is_err(), "{bad:02x?}, reverse {reverse}");
        }
        if bad.0 != good {
            assert!(sweep(&store, &Span::all(), ts(9), None, 1).is_err(), "{bad:02x?}");
        }
    }
}
