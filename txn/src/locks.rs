//! The lock table of one leader: shared and exclusive locks on keys and on ranges, with wound-wait.
//!
//! # Rules
//!
//! A request names some spans and a mode for each, and is granted for all of them at once or waits.
//!
//! 1. It conflicts with locks of others that overlap one of its spans, unless both are shared.
//! 2. A *younger* holder in its way that is not protected is **wounded**: it loses all its locks and
//!    its waiting requests here, at once.
//! 3. For an *older* holder, or a protected one (prepared, or being committed), it **waits**.
//! 4. It also waits for conflicting requests of older transactions that wait already, so that a
//!    stream of shared locks cannot starve an exclusive one. An older one passes younger waiters.
//!
//! ```text
//!   old  --wants X--> [ key: young holds S ]      young is wounded
//!   young --wants X--> [ key: old holds S ]       young waits
//!   young --wants S--> [ key: old holds S, mid waits for X ]   young waits behind mid
//! ```
//!
//! # Why there is no deadlock
//!
//! Every wait leads from a younger transaction to an older one, or to a protected one, and
//! protected transactions never wait for locks: there can be no cycle. It holds over all groups,
//! since all order transactions by the same age.
//!
//! Range locks are what keeps phantoms out: a scan locks its span, so an insert into it conflicts.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::LockRow;
use crate::types::{Key, LockMode, Priority, Span, TxnId};

/// What a call brought about, for its caller to act on. Requests are named by their tokens.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// Requests granted, the caller's own included.
    pub granted: Vec<u64>,
    /// Transactions wounded; they hold nothing any more.
    pub wounded: Vec<TxnId>,
    /// Waiting requests of wounded transactions: they will never be granted.
    pub cancelled: Vec<u64>,
}

#[derive(Debug)]
struct Owner {
    priority: Priority,
    protected: bool,
    locks: BTreeMap<Span, LockMode>,
    waiting: BTreeSet<u64>,
}

#[derive(Debug)]
struct Waiter {
    owner: TxnId,
    priority: Priority,
    wants: Vec<(Span, LockMode)>,
}

/// The lock table of one leader.
#[derive(Debug, Default)]
pub struct LockTable {
    owners: BTreeMap<TxnId, Owner>,
    /// Locks on single keys: by far the most.
    points: BTreeMap<Key, Vec<(TxnId, LockMode)>>,
    /// Locks on ranges.
    ranges: Vec<(Span, TxnId, LockMode)>,
    waiters: BTreeMap<u64, Waiter>,
    /// Waiting requests by the single keys they want.
    waiting_points: BTreeMap<Key, BTreeSet<(Priority, u64)>>,
    /// Waiting requests that want a range.
    waiting_ranges: BTreeSet<(Priority, u64)>,
}

fn conflict(a: LockMode, b: LockMode) -> bool {
    a == LockMode::Exclusive || b == LockMode::Exclusive
}

impl LockTable {
    /// With no locks.
    pub fn new() -> LockTable {
        LockTable::default()
    }

    /// Asks for locks. If `token` is among the effects' `granted`, they are held; otherwise the
    /// request waits under that name. Locks that the owner holds already, or holds in a stronger
    /// mode, are no obstacle.
    pub fn acquire(&mut self, owner: TxnId, priority: Priority, wants: Vec<(Span, LockMode)>, token: u64) -> Effects {
        let entry = self.owners.entry(owner).or_insert_with(|| Owner {
            priority,
            protected: false,
            locks: BTreeMap::new(),
            waiting: BTreeSet::new(),
        });
        let priority = entry.priority;
        entry.waiting.insert(token);
        for (span, _) in &wants {
            self.index_wait(span, priority, token, true);
        }
        let before = self.waiters.insert(token, Waiter { owner, priority, wants });
        assert!(before.is_none(), "token {token} is waiting already");
        let mut effects = Effects::default();
        self.settle(BTreeSet::from([(priority, token)]), &mut effects);
        self.drop_idle(owner);
        effects
    }

    /// Drops all locks and waiting requests of a transaction.
    pub fn release(&mut self, owner: TxnId) -> Effects {
        let mut effects = Effects::default();
        let mut candidates = BTreeSet::new();
        self.remove(owner, &mut candidates);
        self.settle(candidates, &mut effects);
        effects
    }

    /// From now on the transaction cannot be wounded: it is prepared, or its commit is being logged.
    pub fn protect(&mut self, owner: TxnId) {
        if let Some(entry) = self.owners.get_mut(&owner) {
            assert!(entry.waiting.is_empty(), "{owner}: protected while it waits for locks");
            entry.protected = true;
        }
    }

    /// Every lock that a transaction holds.
    pub fn held_by(&self, owner: TxnId) -> Vec<(Span, LockMode)> {
        match self.owners.get(&owner) {
            Some(entry) => entry.locks.iter().map(|(span, mode)| (span.clone(), *mode)).collect(),
            None => Vec::new(),
        }
    }

    /// Whether a transaction holds a lock that covers the span in at least this mode.
    pub fn holds(&self, owner: TxnId, span: &Span, mode: LockMode) -> bool {
        self.owners.get(&owner).is_some_and(|entry| entry.locks.iter().any(|(held, m)| held.covers(span) && *m >= mode))
    }

    /// Transactions that hold, or wait for, a lock that overlaps the span.
    pub fn owners_in(&self, span: &Span) -> Vec<TxnId> {
        let mut found = BTreeSet::new();
        self.for_holders(span, |txn, _| {
            found.insert(txn);
        });
        for waiter in self.waiters.values() {
            if waiter.wants.iter().any(|(want, _)| want.overlaps(span)) {
                found.insert(waiter.owner);
            }
        }
        found.into_iter().collect()
    }

    /// Transactions with a waiting request.
    pub fn waiting_owners(&self) -> BTreeSet<TxnId> {
        self.waiters.values().map(|w| w.owner).collect()
    }

    /// Every lock held or waited for, for display.
    pub fn rows(&self) -> Vec<LockRow> {
        let mut rows = Vec::new();
        for (txn, owner) in &self.owners {
            rows.extend(owner.locks.iter().map(|(span, mode)| LockRow {
                txn: *txn,
                span: span.clone(),
                mode: *mode,
                held: true,
            }));
        }
        for waiter in self.waiters.values() {
            rows.extend(waiter.wants.iter().map(|(span, mode)| LockRow {
                txn: waiter.owner,
                span: span.clone(),
                mode: *mode,
                held: false,
            }));
        }
        rows
    }

    /// Whether nothing is held or waited for.
    pub fn is_empty(&self) -> bool {
        self.owners.is_empty()
    }

    /// Checks the table against its rules, at length: for tests.
    pub fn check(&self) {
        let held: Vec<LockRow> = self.rows().into_iter().filter(|r| r.held).collect();
        for (i, a) in held.iter().enumerate() {
            for b in &held[i + 1..] {
                assert!(
                    a.txn == b.txn || !conflict(a.mode, b.mode) || !a.span.overlaps(&b.span),
                    "conflicting locks are held: {a:?} and {b:?}"
                );
            }
        }
        for (token, waiter) in &self.waiters {
            let owner = &self.owners[&waiter.owner];
            assert!(!owner.protected, "a protected transaction waits");
            assert!(owner.waiting.contains(token));
            let (blocked, wounds) = self.obstacles(waiter);
            assert!(blocked, "{token} waits for nothing");
            assert!(wounds.is_empty(), "{token} waits for a younger transaction");
        }
        let points: usize = self.points.values().map(Vec::len).sum();
        let locks: usize = self.owners.values().map(|o| o.locks.len()).sum();
        assert_eq!(points + self.ranges.len(), locks, "the indexes and the owners disagree");
        assert!(self.owners.values().all(|o| !o.locks.is_empty() || !o.waiting.is_empty()), "an idle owner");
    }

    /// Visits the holders of locks that overlap a span.
    fn for_holders(&self, span: &Span, mut visit: impl FnMut(TxnId, LockMode)) {
        if span.is_point() {
            if let Some(holders) = self.points.get(&span.start) {
                holders.iter().for_each(|(txn, mode)| visit(*txn, *mode));
            }
        } else {
            let after = self.points.range(span.start.clone()..);
            for (_, holders) in after.take_while(|(key, _)| span.contains(key)) {
                holders.iter().for_each(|(txn, mode)| visit(*txn, *mode));
            }
        }
        for (held, txn, mode) in &self.ranges {
            if held.overlaps(span) {
                visit(*txn, *mode);
            }
        }
    }

    /// Visits the waiting requests that want something which overlaps a span.
    fn for_waiters(&self, span: &Span, mut visit: impl FnMut(Priority, u64)) {
        if span.is_point() {
            if let Some(waiting) = self.waiting_points.get(&span.start) {
                waiting.iter().for_each(|(priority, token)| visit(*priority, *token));
            }
        } else {
            let after = self.waiting_points.range(span.start.clone()..);
            for (_, waiting) in after.take_while(|(key, _)| span.contains(key)) {
                waiting.iter().for_each(|(priority, token)| visit(*priority, *token));
            }
        }
        for (priority, token) in &self.waiting_ranges {
            let waiter = &self.waiters[token];
            if waiter.wants.iter().any(|(want, _)| !want.is_point() && want.overlaps(span)) {
                visit(*priority, *token);
            }
        }
    }

    /// Whether a request must wait, and whom it wounds.
    fn obstacles(&self, waiter: &Waiter) -> (bool, BTreeSet<TxnId>) {
        let mut blocked = false;
        let mut wounds = BTreeSet::new();
        for (span, mode) in &waiter.wants {
            self.for_holders(span, |txn, held| {
                if txn == waiter.owner || !conflict(held, *mode) {
                    return;
                }
                let holder = &self.owners[&txn];
                if holder.protected || holder.priority < waiter.priority {
                    blocked = true;
                } else {
                    wounds.insert(txn);
                }
            });
            self.for_waiters(span, |priority, token| {
                if priority >= waiter.priority || blocked {
                    return;
                }
                let other = &self.waiters[&token];
                if other.owner != waiter.owner
                    && other.wants.iter().any(|(want, m)| want.overlaps(span) && conflict(*m, *mode))
                {
                    blocked = true;
                }
            });
        }
        (blocked, wounds)
    }

    /// Tries requests, the oldest first, until none of those concerned can go on.
    fn settle(&mut self, mut candidates: BTreeSet<(Priority, u64)>, effects: &mut Effects) {
        while let Some((priority, token)) = candidates.pop_first() {
            let Some(waiter) = self.waiters.get(&token) else { continue };
            let (blocked, wounds) = self.obstacles(waiter);
            if !wounds.is_empty() {
                for txn in wounds {
                    effects.cancelled.extend(self.remove(txn, &mut candidates));
                    effects.wounded.push(txn);
                }
                // What it wounded may have let an older request go first: look again in order.
                candidates.insert((priority, token));
                continue;
            }
            if !blocked {
                self.grant(token);
                effects.granted.push(token);
            }
        }
    }

    fn grant(&mut self, token: u64) {
        let waiter = self.waiters.remove(&token).expect("the caller looked it up");
        let owner = self.owners.get_mut(&waiter.owner).expect("an owner lives as long as its requests");
        owner.waiting.remove(&token);
        for (span, mode) in waiter.wants {
            let owner = self.owners.get_mut(&waiter.owner).expect("as above");
            let held = owner.locks.entry(span.clone()).or_insert(mode);
            *held = mode.max(*held);
            let mode = *held;
            self.index_wait(&span, waiter.priority, token, false);
            if span.is_point() {
                let holders = self.points.entry(span.start).or_default();
                match holders.iter_mut().find(|(txn, _)| *txn == waiter.owner) {
                    Some((_, held)) => *held = mode,
                    None => holders.push((waiter.owner, mode)),
                }
            } else {
                match self.ranges.iter_mut().find(|(s, txn, _)| *txn == waiter.owner && *s == span) {
                    Some((_, _, held)) => *held = mode,
                    None => self.ranges.push((span, waiter.owner, mode)),
                }
            }
        }
    }

    fn index_wait(&mut self, span: &Span, priority: Priority, token: u64, waits: bool) {
        if !span.is_point() {
            if waits {
                self.waiting_ranges.insert((priority, token));
            } else {
                self.waiting_ranges.remove(&(priority, token));
            }
        } else if waits {
            self.waiting_points.entry(span.start.clone()).or_default().insert((priority, token));
        } else if let Some(waiting) = self.waiting_points.get_mut(&span.start) {
            waiting.remove(&(priority, token));
            if waiting.is_empty() {
                self.waiting_points.remove(&span.start);
            }
        }
    }

    /// Takes a transaction out of the table. Adds the requests that may go on to the candidates,
    /// and returns its own that were waiting.
    fn remove(&mut self, owner: TxnId, candidates: &mut BTreeSet<(Priority, u64)>) -> Vec<u64> {
        let Some(entry) = self.owners.remove(&owner) else { return Vec::new() };
        let mut freed: Vec<Span> = Vec::with_capacity(entry.locks.len());
        for token in &entry.waiting {
            let waiter = self.waiters.remove(token).expect("owners and waiters agree");
            for (span, _) in waiter.wants {
                self.index_wait(&span, waiter.priority, *token, false);
                freed.push(span);
            }
        }
        for (span, _) in entry.locks {
            if span.is_point() {
                if let Some(holders) = self.points.get_mut(&span.start) {
                    holders.retain(|(txn, _)| *txn != owner);
                    if holders.is_empty() {
                        self.points.remove(&span.start);
                    }
                }
            } else {
                self.ranges.retain(|(s, txn, _)| *txn != owner || *s != span);
            }
            freed.push(span);
        }
        for span in &freed {
            self.for_waiters(span, |priority, token| {
                candidates.insert((priority, token));
            });
        }
        entry.waiting.into_iter().collect()
    }

    /// An owner that got nothing and waits for nothing leaves no trace.
    fn drop_idle(&mut self, owner: TxnId) {
        if self.owners.get(&owner).is_some_and(|o| o.locks.is_empty() && o.waiting.is_empty() && !o.protected) {
            self.owners.remove(&owner);
        }
    }
}

#[cfg(test)]
mod tests;
