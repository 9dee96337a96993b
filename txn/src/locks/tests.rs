//! The lock table against a dumb twin, over random requests on a few keys.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use truetime::Timestamp;

use super::*;
use crate::types::Key;

fn txn(n: u64) -> TxnId {
    TxnId(u128::from(n))
}

fn age(n: u64) -> Priority {
    Priority { start: Timestamp::from_nanos(n as i64), id: txn(n) }
}

fn random_span(rng: &mut ChaCha8Rng) -> Span {
    let key = |n: u8| Key::from(vec![n]);
    let a = rng.random_range(0..6);
    if rng.random_bool(0.7) { Span::point(key(a)) } else { Span::new(key(a), key(a + rng.random_range(1..4))) }
}

/// The same rules without any index, by brute force: who holds what, and who waits for what.
#[derive(Default)]
struct Twin {
    held: Vec<(TxnId, Span, LockMode)>,
    waiting: Vec<(u64, TxnId, Wants)>,
    ages: BTreeMap<TxnId, Priority>,
    protected: BTreeSet<TxnId>,
}

impl Twin {
    fn drop_txn(&mut self, txn: TxnId) -> Vec<u64> {
        self.held.retain(|(t, _, _)| *t != txn);
        self.protected.remove(&txn);
        let gone = self.waiting.iter().filter(|(_, t, _)| *t == txn).map(|(token, _, _)| *token).collect();
        self.waiting.retain(|(_, t, _)| *t != txn);
        gone
    }

    fn stops_an_older(&self, txn: TxnId) -> bool {
        self.held.iter().filter(|(t, _, _)| *t == txn).any(|(_, span, mode)| {
            self.waiting.iter().any(|(_, other, wants)| {
                self.ages[other] < self.ages[&txn] && wants.iter().any(|(s, m)| s.overlaps(span) && conflict(*m, *mode))
            })
        })
    }

    fn is_free(&self, txn: TxnId, wants: &Wants) -> bool {
        wants.iter().all(|(span, mode)| {
            let clash = |s: &Span, m: LockMode| s.overlaps(span) && conflict(m, *mode);
            self.held.iter().all(|(t, s, m)| *t == txn || !clash(s, *m))
                && self
                    .waiting
                    .iter()
                    .all(|(_, t, w)| self.ages[t] >= self.ages[&txn] || w.iter().all(|(s, m)| !clash(s, *m)))
        })
    }

    fn settle(&mut self) -> Effects {
        let mut effects = Effects::default();
        'again: loop {
            self.waiting.sort_by_key(|(token, t, _)| (self.ages[t], *token));
            for i in 0..self.waiting.len() {
                let (token, owner, wants) = self.waiting[i].clone();
                let clash = |span: &Span, mode: LockMode| {
                    wants
                        .iter()
                        .any(|(s, m)| s.overlaps(span) && (mode == LockMode::Exclusive || *m == LockMode::Exclusive))
                };
                let against: Vec<TxnId> =
                    self.held.iter().filter(|(t, s, m)| *t != owner && clash(s, *m)).map(|(t, _, _)| *t).collect();
                let younger: BTreeSet<TxnId> = against
                    .iter()
                    .copied()
                    .filter(|t| self.ages[t] > self.ages[&owner] && !self.protected.contains(t))
                    .collect();
                if !younger.is_empty() {
                    for t in younger {
                        effects.cancelled.extend(self.drop_txn(t));
                        effects.wounded.push(t);
                    }
                    continue 'again;
                }
                let behind = self.waiting[..i].iter().any(|(_, t, w)| {
                    *t != owner && self.ages[t] < self.ages[&owner] && w.iter().any(|(s, m)| clash(s, *m))
                });
                if against.is_empty() && !behind {
                    for (span, mode) in wants {
                        self.held.push((owner, span, mode));
                    }
                    self.waiting.remove(i);
                    effects.granted.push(token);
                    continue 'again;
                }
            }
            return effects;
        }
    }
}

fn sorted(mut e: Effects) -> Effects {
    e.granted.sort();
    e.wounded.sort();
    e.cancelled.sort();
    e
}

#[test]
fn agrees_with_the_twin() {
    for seed in 0..300 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let (mut table, mut twin) = (LockTable::new(), Twin::default());
        for token in 0..120 {
            let owner = rng.random_range(1..7);
            let t = txn(owner);
            twin.ages.insert(t, age(owner));
            let (got, expected) = match rng.random_range(0..10) {
                0..6 if !twin.protected.contains(&t) => {
                    let wants: Vec<_> = (0..rng.random_range(1..3))
                        .map(|_| {
                            let mode = if rng.random_bool(0.5) { LockMode::Shared } else { LockMode::Exclusive };
                            (random_span(&mut rng), mode)
                        })
                        .collect();
                    twin.waiting.push((token, t, wants.clone()));
                    (table.acquire(t, age(owner), wants, token), twin.settle())
                }
                8 if !twin.protected.contains(&t) => {
                    let mode = if rng.random_bool(0.5) { LockMode::Shared } else { LockMode::Exclusive };
                    let wants = vec![(random_span(&mut rng), mode)];
                    let held = table.try_acquire(t, age(owner), wants.clone());
                    // At once, without a wound: the twin says so if it grants the request to someone who
                    // may wound nobody, because nobody else holds or has waited for what it wants.
                    assert_eq!(held, twin.is_free(t, &wants), "seed {seed} step {token}");
                    if held {
                        twin.held.extend(wants.into_iter().map(|(span, mode)| (t, span, mode)));
                    }
                    (Effects::default(), Effects::default())
                }
                9 if !twin.waiting.is_empty() => {
                    let (waiting, _, _) = twin.waiting[rng.random_range(0..twin.waiting.len())];
                    twin.waiting.retain(|(token, _, _)| *token != waiting);
                    (table.cancel(waiting), twin.settle())
                }
                6 if twin.held.iter().any(|(h, _, _)| *h == t) => {
                    table.protect(t);
                    twin.protected.insert(t);
                    (Effects::default(), Effects::default())
                }
                _ => {
                    let got = table.release(t);
                    let mut gone = twin.drop_txn(t);
                    let mut expected = twin.settle();
                    expected.cancelled.append(&mut gone);
                    (got, expected)
                }
            };
            assert_eq!(sorted(got), sorted(expected), "seed {seed} step {token}");
            table.check();
            for owner in (1..7).map(txn) {
                assert_eq!(
                    table.stops_an_older(owner),
                    twin.stops_an_older(owner),
                    "seed {seed} step {token}: {owner}"
                );
            }
            for (holder, span, mode) in &twin.held {
                assert!(table.holds(*holder, span, *mode), "seed {seed} step {token}: {holder} {span:?}");
            }
        }
    }
}

#[test]
fn a_wounded_transaction_leaves_nothing_behind() {
    let mut table = LockTable::new();
    let key = |k: &'static [u8]| Span::point(Key::from_static(k));
    let x = LockMode::Exclusive;
    assert_eq!(table.acquire(txn(1), age(1), vec![(key(b"a"), x)], 1).granted, [1]);
    assert_eq!(table.acquire(txn(3), age(3), vec![(key(b"b"), x)], 2).granted, [2]);
    assert!(table.acquire(txn(3), age(3), vec![(key(b"a"), x)], 3).granted.is_empty(), "the younger waits");
    let effects = table.acquire(txn(2), age(2), vec![(key(b"b"), x)], 4);
    assert_eq!(effects, Effects { granted: vec![4], wounded: vec![txn(3)], cancelled: vec![3] });
    assert!(table.held_by(txn(3)).is_empty());
    table.release(txn(1));
    table.release(txn(2));
    assert!(table.is_empty());
}

#[test]
fn a_later_try_counts_as_older_than_the_ghost_of_an_earlier_one() {
    let mut table = LockTable::new();
    let want = || vec![(Span::point(&b"a"[..]), LockMode::Exclusive)];
    table.acquire(txn(5), age(5), want(), 1);
    let effects = table.acquire(txn(9), age(5), want(), 2);
    assert_eq!(effects, Effects { granted: vec![2], wounded: vec![txn(5)], cancelled: vec![] });
    assert!(table.acquire(txn(5), age(5), want(), 3).granted.is_empty(), "the ghost waits");
    table.check();
}

#[test]
fn requests_for_nothing_and_for_empty_spans_are_granted_and_forgotten() {
    let mut table = LockTable::new();
    let inside_out = Span::new(&b"c"[..], &b"a"[..]);
    assert_eq!(table.acquire(txn(1), age(1), Vec::new(), 1).granted, [1]);
    assert_eq!(table.acquire(txn(1), age(1), vec![(inside_out.clone(), LockMode::Exclusive)], 2).granted, [2]);
    assert!(table.is_empty() && table.owners_in(&inside_out).is_empty());
}

#[test]
fn a_hot_key_with_many_waiters_is_handed_on_in_order() {
    const WAITERS: u64 = 4_000;
    let mut table = LockTable::new();
    let want = |mode| vec![(Span::point(&b"hot"[..]), mode)];
    // Every tenth wants to write; the readers between two writers go on together.
    let mode = |n: u64| if n.is_multiple_of(10) { LockMode::Exclusive } else { LockMode::Shared };
    for n in 0..WAITERS {
        let granted = table.acquire(txn(n), age(n), want(mode(n)), n).granted;
        assert_eq!(granted.is_empty(), n > 0);
    }
    let mut handed_on = vec![0];
    for n in 0..WAITERS {
        handed_on.extend(table.release(txn(n)).granted);
    }
    assert_eq!(handed_on, (0..WAITERS).collect::<Vec<_>>());
    assert!(table.is_empty());
}
