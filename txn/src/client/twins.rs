//! A dumb twin for reads: the whole store in one map, overlaid by the writes, then cut. Against it,
//! scans over random ranges, pages, limits and buffered writes, with refusals in between.

use std::collections::BTreeMap;

use paxos::{Ballot, GroupId, NodeId};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use truetime::{Interval, Now, Timestamp};

use super::*;
use crate::api::{GroupError, RequestBody};
use crate::types::{Key, Mutation, RangeDescriptor, Row, Span, Value};

fn key(rng: &mut impl Rng) -> Key {
    let len = rng.random_range(0..3);
    (0..len).map(|_| b'a' + rng.random_range(0..6u8)).collect::<Vec<u8>>().into()
}

fn span(rng: &mut impl Rng) -> Span {
    match rng.random_range(0..5) {
        0 => Span::point(key(rng)),
        1 => Span::all(),
        _ => Span::new(key(rng), key(rng)),
    }
}

/// What a group would answer to one op, with small pages.
fn serve(store: &BTreeMap<Key, Value>, op: &ReadOp, page: usize) -> ReadResult {
    let mut rows: Vec<Row> = store
        .iter()
        .filter(|(key, _)| op.span.contains(key))
        .map(|(key, value)| Row { key: key.clone(), value: value.clone(), commit_ts: Timestamp::from_nanos(1) })
        .collect();
    if op.reverse {
        rows.reverse();
    }
    if op.limit > 0 {
        rows.truncate(op.limit as usize);
    }
    let mut resume = None;
    if rows.len() > page {
        rows.truncate(page);
        resume = Some(match (rows.last(), op.reverse) {
            (Some(last), false) => Span { start: Span::point(last.key.clone()).end, end: op.span.end.clone() },
            (Some(last), true) => Span { start: op.span.start.clone(), end: last.key.clone() },
            (None, _) => op.span.clone(),
        });
    }
    ReadResult { rows, resume }
}

fn twin(store: &BTreeMap<Key, Value>, writes: &[Mutation], op: &ReadOp) -> Vec<(Key, Value)> {
    let mut all = store.clone();
    for Mutation { key, value } in writes {
        match value {
            Some(value) => all.insert(key.clone(), value.clone()),
            None => all.remove(key),
        };
    }
    let mut rows: Vec<_> = all.into_iter().filter(|(key, _)| op.span.contains(key)).collect();
    if op.reverse {
        rows.reverse();
    }
    if op.limit > 0 {
        rows.truncate(op.limit as usize);
    }
    rows
}

/// The true ranges: the key space cut at random.
fn ranges(rng: &mut impl Rng) -> Vec<RangeDescriptor> {
    let mut cuts: Vec<Key> = (0..rng.random_range(0..4)).map(|_| key(rng)).filter(|key| !key.is_empty()).collect();
    cuts.sort();
    cuts.dedup();
    let starts = std::iter::once(Key::new()).chain(cuts.iter().cloned());
    let ends = cuts.iter().cloned().chain(std::iter::once(Key::new()));
    let spans = starts.zip(ends).map(|(start, end)| Span { start, end });
    spans.zip(1..).map(|(span, n)| RangeDescriptor { group: GroupId(n), span, epoch: 1 }).collect()
}

fn read_like_the_twin(seed: u64) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let store: BTreeMap<Key, Value> =
        (0..rng.random_range(0..30)).map(|n: u32| (key(&mut rng), n.to_string().into())).collect();
    let truth = ranges(&mut rng);
    let options = GatewayOptions { page_bytes_max: rng.random_range(1..40), ..GatewayOptions::default() };
    let mut gw = Gateway::new(NodeId(1), vec![NodeId(1), NodeId(2)], options, 1);
    for range in &truth {
        if rng.random_bool(0.7) {
            gw.router.learn_range(range.clone());
        }
    }
    let mut now = Now { tt: Interval::around(Timestamp::from_nanos(1), 1), mono_ns: 0, trusted: true };
    let (id, priority) = gw.begin(now);
    let mut txn = ReadWrite::new(id, priority);
    let mut writes = Vec::new();
    for n in 0..rng.random_range(0..15) {
        let value = rng.random_bool(0.5).then(|| Value::from(format!("w{n}")));
        let mutation = Mutation { key: key(&mut rng), value };
        txn.buffer(vec![mutation.clone()]).unwrap();
        writes.push(mutation);
    }
    let keep = rng.random_range(0..=writes.len());
    txn.undo_to(keep);
    writes.truncate(keep);

    let ops: Vec<ReadOp> = (0..rng.random_range(1..4))
        .map(|_| ReadOp { span: span(&mut rng), reverse: rng.random_bool(0.5), limit: rng.random_range(0..6) })
        .collect();
    let mut seen: Vec<Vec<(Key, Value)>> = vec![Vec::new(); ops.len()];
    let mut todo: Vec<(usize, ReadOp)> = ops.iter().cloned().enumerate().collect();
    let mut rounds = 0;
    while !todo.is_empty() {
        rounds += 1;
        assert!(rounds < 1000, "seed {seed}: pages without end");
        let asked = todo.iter().map(|(_, op)| op.clone()).collect();
        let mut ready =
            txn.step(now, &mut gw, ClientInput::Read { ops: asked, mode: LockMode::Shared, policy: LockPolicy::Wait });
        let mut queue = ready.sends;
        let results = loop {
            match ready.outcome {
                Some(Outcome::Rows { results, .. }) => break results,
                Some(other) => panic!("seed {seed}: {other:?}"),
                None => {}
            }
            if queue.is_empty() {
                now.mono_ns = ready.wake_at_ns.expect("waits for nothing").max(now.mono_ns);
                ready = txn.step(now, &mut gw, ClientInput::Tick);
            } else {
                let (_, request) = queue.swap_remove(rng.random_range(0..queue.len()));
                let RequestBody::Read { ops, .. } = &request.body else {
                    ready = txn.step(now, &mut gw, ClientInput::Tick);
                    continue;
                };
                let range = truth.iter().find(|range| range.group == request.group);
                let reply = match range {
                    None => Reply::Error(GroupError::WrongRange(truth.clone())),
                    Some(range) if !ops.iter().all(|op| range.span.covers(&op.span)) => {
                        Reply::Error(GroupError::WrongRange(truth.clone()))
                    }
                    _ if rng.random_bool(0.1) => Reply::Error(GroupError::Unavailable("busy".into())),
                    _ => {
                        let page = rng.random_range(1..5);
                        let results = ops.iter().map(|op| serve(&store, op, page)).collect();
                        let leadership = Some(Ballot { round: 1, node: NodeId(1) });
                        Reply::Rows { results, leadership, read_ts: None, wait_ns: 0 }
                    }
                };
                ready = txn.step(now, &mut gw, ClientInput::Reply { request: request.id, reply });
            }
            queue.append(&mut ready.sends);
        };
        let mut next = Vec::new();
        for ((index, op), result) in todo.into_iter().zip(results) {
            seen[index].extend(result.rows.iter().map(|row| (row.key.clone(), row.value.clone())));
            if let Some(span) = result.resume {
                let limit = op.limit.saturating_sub(result.rows.len() as u64);
                assert!(op.limit == 0 || limit > 0, "seed {seed}: resume after the limit");
                next.push((index, ReadOp { span, reverse: op.reverse, limit }));
            }
        }
        todo = next;
    }
    for (op, seen) in ops.iter().zip(seen) {
        assert_eq!(seen, twin(&store, &writes, op), "seed {seed}: {op:?} over {store:?} with {writes:?}");
    }
}

#[test]
fn reads_equal_their_twin() {
    (0..3000).for_each(read_like_the_twin);
}

#[test]
fn router_splits_spans_like_its_twin() {
    for seed in 0..1000 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut router = Router::new(NodeId(1), vec![NodeId(1)]);
        let mut facts: Vec<RangeDescriptor> = Vec::new();
        for n in 0..rng.random_range(0..6) {
            let fact = RangeDescriptor { group: GroupId(n), span: span(&mut rng), epoch: 1 };
            router.learn_range(fact.clone());
            facts.push(fact);
        }
        let asked = span(&mut rng);
        let parts = router.split_span(&asked);
        for _ in 0..50 {
            let key = key(&mut rng);
            // The last fact about a key is the true one.
            let expected = facts.iter().rev().find(|fact| fact.span.contains(&key)).map(|fact| fact.group);
            assert_eq!(router.locate(&key).map(|range| range.group), expected, "seed {seed}: {key:?}");
            let part: Vec<_> = parts.iter().filter(|(_, span)| span.contains(&key)).collect();
            assert_eq!(part.len(), usize::from(asked.contains(&key)), "seed {seed}: {key:?} in {parts:?}");
            for (range, _) in part {
                assert_eq!(range.as_ref().map(|range| range.group), expected, "seed {seed}: {key:?}");
            }
        }
    }
}
