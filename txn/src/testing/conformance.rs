//! What every state store must do, checked against a plain map.

use std::collections::BTreeMap;

use bytes::Bytes;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::storage::{Batch, Op, Storage, Visit};

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

fn key(rng: &mut ChaCha8Rng) -> Vec<u8> {
    let len = rng.random_range(1..4);
    (0..len).map(|_| [0u8, 1, 0x7f, 0xff][rng.random_range(0..4)]).collect()
}

/// Runs the suite on empty stores from `make`; panics at the first difference.
pub fn conformance(make: &mut dyn FnMut() -> Box<dyn Storage>) {
    for seed in 0..20 {
        random_operations(&mut *make(), seed);
    }
    later_operations_of_a_batch_win(&mut *make());
    seeks_go_on_from_the_target(&mut *make());
}

fn collect(store: &dyn Storage, from: &[u8], to: &[u8], reverse: bool) -> Pairs {
    let mut found = Vec::new();
    store
        .scan(from, to, reverse, &mut |k, v| {
            found.push((k.to_vec(), v.to_vec()));
            Visit::Next
        })
        .expect("a scan");
    found
}

fn random_operations(store: &mut dyn Storage, seed: u64) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut model: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    for round in 0..200u32 {
        let mut batch = Batch::default();
        for _ in 0..rng.random_range(1..6) {
            let key_a = key(&mut rng);
            match rng.random_range(0..10) {
                0..7 => {
                    let value = round.to_be_bytes().to_vec();
                    model.insert(key_a.clone(), value.clone());
                    batch.put(key_a, value);
                }
                7..9 => {
                    model.remove(&key_a);
                    batch.delete(key_a);
                }
                _ => {
                    let key_b = key(&mut rng);
                    let (from, to) = if key_a < key_b { (key_a, key_b) } else { (key_b, key_a) };
                    model.retain(|k, _| *k < from || *k >= to);
                    batch.delete_range(from, to);
                }
            }
        }
        store.write(batch).expect("a write");
        let probe = key(&mut rng);
        let got = store.get(&probe).expect("a read").map(|v| v.to_vec());
        assert_eq!(got, model.get(&probe).cloned(), "seed {seed} round {round}: get {probe:?}");
        let (from, to) = (key(&mut rng), key(&mut rng));
        let mut expected: Pairs = Vec::new();
        if from < to {
            expected = model.range(from.clone()..to.clone()).map(|(k, v)| (k.clone(), v.clone())).collect();
        }
        assert_eq!(collect(store, &from, &to, false), expected, "seed {seed} round {round}: {from:?}..{to:?}");
        expected.reverse();
        assert_eq!(collect(store, &from, &to, true), expected, "seed {seed} round {round}, reverse: {from:?}..{to:?}");
    }
}

fn later_operations_of_a_batch_win(store: &mut dyn Storage) {
    let bytes = |s: &'static str| Bytes::from_static(s.as_bytes());
    let ops = vec![
        Op::Put(bytes("a"), bytes("1")),
        Op::Put(bytes("b"), bytes("1")),
        Op::DeleteRange(bytes("a"), bytes("c")),
        Op::Put(bytes("b"), bytes("2")),
        Op::Put(bytes("c"), bytes("1")),
        Op::Delete(bytes("c")),
    ];
    store.write(Batch { ops }).expect("a write");
    assert_eq!(collect(store, b"a", b"z", false), [(b"b".to_vec(), b"2".to_vec())]);
}

fn seeks_go_on_from_the_target(store: &mut dyn Storage) {
    let mut batch = Batch::default();
    for k in ["a", "b", "c", "d", "e"] {
        batch.put(k, "v");
    }
    store.write(batch).expect("a write");
    for (reverse, jumps, expected) in [
        // From a to the first at or after bb, which is c; from d beyond the end.
        (false, [("a", "bb"), ("d", "z")], vec!["a", "c", "d"]),
        // A seek to where the scan stands or behind it makes it go on from there.
        (false, [("b", "c"), ("d", "e")], vec!["a", "b", "c", "d"]),
        // From d to the last at or before c, which is c; from b below the start.
        (true, [("d", "c"), ("b", "A")], vec!["d", "c", "b"]),
    ] {
        let mut seen = Vec::new();
        store
            .scan(b"a", b"e", reverse, &mut |k, _| {
                let k = String::from_utf8(k.to_vec()).expect("letters");
                let jump = jumps.iter().find(|(at, _)| *at == k);
                seen.push(k);
                match jump {
                    Some((_, target)) => Visit::Seek(target.as_bytes().to_vec()),
                    None => Visit::Next,
                }
            })
            .expect("a scan");
        assert_eq!(seen, expected, "reverse {reverse}, jumps {jumps:?}");
    }
    let mut seen = 0;
    store
        .scan(b"a", b"z", false, &mut |_, _| {
            seen += 1;
            Visit::Stop
        })
        .expect("a scan");
    assert_eq!(seen, 1);
}
