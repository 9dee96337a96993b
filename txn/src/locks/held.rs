//! The locks that are held, by the keys they lie on.

use std::collections::BTreeMap;
use std::collections::btree_map::Range;
use std::ops::Bound;

use super::conflict;
use crate::types::{Key, LockMode, Span, TxnId};

/// The entries of a map by key that lie in a span.
pub(super) fn within<'m, V>(map: &'m BTreeMap<Key, V>, span: &Span) -> Range<'m, Key, V> {
    let start = &span.start[..];
    let end = match () {
        () if span.end.is_empty() => Bound::Unbounded,
        () if span.is_empty() => Bound::Excluded(start),
        () => Bound::Excluded(&span.end[..]),
    };
    map.range::<[u8], _>((Bound::Included(start), end))
}

/// Locks that are held. Most lie on single keys, which are found in logarithmic time.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// By key; one entry for each owner.
    points: BTreeMap<Key, Vec<(TxnId, LockMode)>>,
    ranges: BTreeMap<(Span, TxnId), LockMode>,
}

impl Held {
    /// Notes a lock; `new` if its owner has none on just this span, else its mode is raised.
    pub fn put(&mut self, owner: TxnId, span: &Span, mode: LockMode, new: bool) {
        if !span.is_point() {
            self.ranges.insert((span.clone(), owner), mode);
            return;
        }
        let holders = self.points.entry(span.start.clone()).or_default();
        if new {
            holders.push((owner, mode));
        } else {
            let held = holders.iter_mut().find(|(txn, _)| *txn == owner);
            held.expect("the owner knows the lock, so it is here").1 = mode;
        }
        // If one holder is exclusive it is alone, so looking at the first is enough.
        let alone = holders.len() == 1;
        assert!(alone || !conflict(holders[0].1, mode), "{owner}: a conflicting lock on {:?} is held", span.start);
    }

    /// Forgets a lock.
    pub fn remove(&mut self, owner: TxnId, span: &Span) {
        if !span.is_point() {
            self.ranges.remove(&(span.clone(), owner));
        } else if let Some(holders) = self.points.get_mut(&span.start) {
            holders.retain(|(txn, _)| *txn != owner);
            if holders.is_empty() {
                self.points.remove(&span.start);
            }
        }
    }

    /// Visits the owners of locks that overlap the span and conflict with the mode.
    pub fn conflicting(&self, span: &Span, mode: LockMode, mut visit: impl FnMut(TxnId)) {
        for (_, holders) in within(&self.points, span) {
            // As in `put`: of several holders none is exclusive.
            if conflict(holders[0].1, mode) {
                holders.iter().for_each(|(txn, _)| visit(*txn));
            }
        }
        let before_end = |range: &Span| span.end.is_empty() || range.start < span.end;
        for ((range, txn), held) in self.ranges.iter().take_while(|((range, _), _)| before_end(range)) {
            if range.overlaps(span) && conflict(*held, mode) {
                visit(*txn);
            }
        }
    }

    /// How many locks there are.
    pub fn len(&self) -> usize {
        self.points.values().map(Vec::len).sum::<usize>() + self.ranges.len()
    }
}
