//! The lock table of one leader: shared and exclusive locks on keys and on ranges, with wound-wait.
//!
//! # Rules
//!
//! A request names some spans and a mode for each, and is granted for all of them at once or waits.
//!
//! 1. It conflicts with locks of others that overlap one of its spans, unless both are shared.
//! 2. A *younger* holder in its way that is not protected is **wounded**: it loses all its locks and
//!    its waiting requests here, at once, even if the request must wait for somebody else.
//! 3. For an *older* holder, or a protected one (prepared, or being committed), it **waits**.
//! 4. It also waits for conflicting requests of older transactions that wait already, so that a
//!    stream of shared locks cannot starve an exclusive one. An older one passes younger waiters.
//!
//! ```text
//!   old   --wants X--> [ key: young holds S ]                     young is wounded
//!   young --wants X--> [ key: old holds S ]                       young waits
//!   old   --wants X--> [ key: young holds S, is protected ]       old waits
//!   young --wants S--> [ key: old holds S, mid waits for X ]      young waits behind mid
//!   two hold S, both want X: the older wounds the younger         no deadlock of upgrades
//! ```
//!
//! A request may also refuse to wait ([`LockTable::try_acquire`]): then it is granted at once or not at all,
//! and wounds nobody. One that has waited for too long is taken back ([`LockTable::cancel`]).
//!
//! Age is the start of a transaction's first try. Of two tries of one transaction the later counts
//! as older: the earlier one is a ghost, whose gateway has given it up.
//!
//! Range locks are what keeps phantoms out: a scan locks its span, so an insert into it conflicts.
//!
//! # Who waits for whom
//!
//! Within one table a wait leads from a younger transaction to an older one, or to a protected one.
//! The first kind cannot close a cycle, over all groups, since all of them order transactions alike.
//! The second can: a transaction is protected in the groups where it has prepared, and may still
//! wait in another.
//!
//! ```text
//!   group A:  old waits for young, which has prepared here
//!   group B:  young waits to prepare, or to commit: old holds a lock
//! ```
//!
//! The table cannot break this one: only the coordinator can, by aborting the younger while it is
//! undecided. [`LockTable::stops_an_older`] says of which prepared transaction it should be asked to;
//! otherwise it ends when the younger has waited for too long. (The paper has wound-wait in 4.2.1
//! and does not go into this.)

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use self::held::Held;
use self::waiting::{Place, Waiter, Waiting};
use crate::api::LockRow;
use crate::types::{LockMode, Priority, Span, TxnId};

mod held;
mod waiting;

/// The spans that a request wants, each with its mode.
pub type Wants = Vec<(Span, LockMode)>;

/// What a call brought about, for its caller to act on. Requests are named by their tokens.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// Requests granted, the caller's own included; the oldest first.
    pub granted: Vec<u64>,
    /// Transactions wounded; they hold nothing any more.
    pub wounded: Vec<TxnId>,
    /// Waiting requests of transactions that were wounded or released: never to be granted.
    pub cancelled: Vec<u64>,
}

/// The order of wound-wait, smaller is older; unique to a transaction.
type Age = (Priority, Reverse<TxnId>);

#[derive(Debug)]
struct Owner {
    age: Age,
    protected: bool,
    locks: BTreeMap<Span, LockMode>,
    waiting: BTreeSet<u64>,
}

/// The lock table of one leader.
#[derive(Debug, Default)]
pub struct LockTable {
    /// Everyone who holds something or waits for something.
    owners: BTreeMap<TxnId, Owner>,
    held: Held,
    waiting: Waiting,
}

fn conflict(a: LockMode, b: LockMode) -> bool {
    a == LockMode::Exclusive || b == LockMode::Exclusive
}

impl LockTable {
    /// With no locks.
    pub fn new() -> LockTable {
        LockTable::default()
    }

    /// Asks for locks. If `token`, which must be new, is among the effects' `granted`, they are held;
    /// otherwise the request waits under that name. Several of one owner may. Locks that the owner
    /// holds already are no obstacle: it gets the stronger of both modes. An owner's priority is the
    /// one of its first request.
    pub fn acquire(&mut self, owner: TxnId, priority: Priority, mut wants: Wants, token: u64) -> Effects {
        wants.retain(|(span, _)| !span.is_empty());
        let entry = self.owners.entry(owner).or_insert_with(|| Owner {
            age: (priority, Reverse(owner)),
            protected: false,
            locks: BTreeMap::new(),
            waiting: BTreeSet::new(),
        });
        let age = entry.age;
        entry.waiting.insert(token);
        self.waiting.insert(token, Waiter { owner, age, wants });
        let mut effects = Effects::default();
        self.settle(BTreeSet::from([(age, token)]), &mut effects);
        // An owner that asked for nothing leaves no trace.
        if self.owners.get(&owner).is_some_and(|o| o.locks.is_empty() && o.waiting.is_empty()) {
            self.owners.remove(&owner);
        }
        effects
    }

    /// Asks for locks that are to be had at once or not at all: waits for nobody and wounds nobody, not even
    /// who is younger. Says whether they are held. Neither passes an older transaction that waits for them.
    pub fn try_acquire(&mut self, owner: TxnId, priority: Priority, mut wants: Wants) -> bool {
        wants.retain(|(span, _)| !span.is_empty());
        let age = self.owners.get(&owner).map_or((priority, Reverse(owner)), |entry| entry.age);
        let asked = Waiter { owner, age, wants };
        let (blocked, wounds) = self.obstacles(&asked);
        if blocked || !wounds.is_empty() {
            return false;
        }
        if !asked.wants.is_empty() {
            let fresh = || Owner { age, protected: false, locks: BTreeMap::new(), waiting: BTreeSet::new() };
            let entry = self.owners.entry(owner).or_insert_with(fresh);
            hold(&mut self.held, entry, asked);
        }
        true
    }

    /// Forgets a request that waits, if it does: those behind it may go on.
    pub fn cancel(&mut self, token: u64) -> Effects {
        let mut effects = Effects::default();
        let Some(waiter) = self.waiting.remove(token) else { return effects };
        let owner = self.owners.get_mut(&waiter.owner).expect("an owner lives as long as its requests");
        owner.waiting.remove(&token);
        if owner.locks.is_empty() && owner.waiting.is_empty() {
            self.owners.remove(&waiter.owner);
        }
        let mut candidates = BTreeSet::new();
        for (span, _) in &waiter.wants {
            self.waiting.candidates(span, &mut candidates);
        }
        self.settle(candidates, &mut effects);
        effects
    }

    /// Drops all locks and waiting requests of a transaction, if it is known.
    pub fn release(&mut self, owner: TxnId) -> Effects {
        let mut effects = Effects::default();
        let mut candidates = BTreeSet::new();
        effects.cancelled = self.remove(owner, &mut candidates);
        self.settle(candidates, &mut effects);
        effects
    }

    /// From now on the transaction cannot be wounded: it is prepared, or its commit is being logged.
    /// If it still waits for something, which only a confused gateway brings about, it goes on to.
    pub fn protect(&mut self, owner: TxnId) {
        if let Some(entry) = self.owners.get_mut(&owner) {
            entry.protected = true;
        }
    }

    /// Whether an older transaction waits for a lock of this one, or would but for others. Such a
    /// wait can be part of a cycle if this one is prepared here and undecided: see above.
    pub fn stops_an_older(&self, owner: TxnId) -> bool {
        self.owners.get(&owner).is_some_and(|entry| {
            entry.locks.iter().any(|(span, mode)| self.waiting.older_conflict(entry.age, span, *mode))
        })
    }

    /// Every lock that a transaction holds.
    pub fn held_by(&self, owner: TxnId) -> Wants {
        match self.owners.get(&owner) {
            Some(entry) => entry.locks.iter().map(|(span, mode)| (span.clone(), *mode)).collect(),
            None => Vec::new(),
        }
    }

    /// Whether a transaction holds one lock that covers the span in at least this mode.
    pub fn holds(&self, owner: TxnId, span: &Span, mode: LockMode) -> bool {
        self.owners.get(&owner).is_some_and(|entry| {
            entry.locks.get(span).is_some_and(|held| *held >= mode)
                || entry.locks.iter().any(|(held, m)| *m >= mode && held.covers(span))
        })
    }

    /// Transactions that hold, or wait for, a lock that overlaps the span.
    pub fn owners_in(&self, span: &Span) -> Vec<TxnId> {
        let mut found = BTreeSet::new();
        self.held.conflicting(span, LockMode::Exclusive, |txn| {
            found.insert(txn);
        });
        for (_, waiter) in self.waiting.iter() {
            if waiter.wants.iter().any(|(want, _)| want.overlaps(span)) {
                found.insert(waiter.owner);
            }
        }
        found.into_iter().collect()
    }

    /// Transactions with a waiting request.
    pub fn waiting_owners(&self) -> BTreeSet<TxnId> {
        self.waiting.iter().map(|(_, waiter)| waiter.owner).collect()
    }

    /// Every lock held, by transaction, then every one waited for, by request: for display.
    pub fn rows(&self) -> Vec<LockRow> {
        let mut rows = Vec::new();
        let row = |txn, span: &Span, mode, held| LockRow { txn, span: span.clone(), mode, held };
        for (txn, owner) in &self.owners {
            rows.extend(owner.locks.iter().map(|(span, mode)| row(*txn, span, *mode, true)));
        }
        for (_, waiter) in self.waiting.iter() {
            rows.extend(waiter.wants.iter().map(|(span, mode)| row(waiter.owner, span, *mode, false)));
        }
        rows
    }

    /// Whether nothing is held or waited for.
    pub fn is_empty(&self) -> bool {
        self.owners.is_empty()
    }

    /// Checks the table against its rules, at a length that only tests can afford. (Two holders of
    /// one key are looked at with every grant.)
    pub fn check(&self) {
        let held: Vec<LockRow> = self.rows().into_iter().filter(|r| r.held).collect();
        assert_eq!(self.held.len(), held.len(), "the index and the owners disagree");
        for (i, a) in held.iter().enumerate() {
            for b in &held[i + 1..] {
                assert!(
                    a.txn == b.txn || !conflict(a.mode, b.mode) || !a.span.overlaps(&b.span),
                    "conflicting locks are held: {a:?} and {b:?}"
                );
            }
        }
        for (token, waiter) in self.waiting.iter() {
            assert!(self.owners[&waiter.owner].waiting.contains(&token), "{token}: its owner forgot it");
            let (blocked, wounds) = self.obstacles(waiter);
            assert!(blocked, "{token} waits for nothing");
            assert!(wounds.is_empty(), "{token} waits for {wounds:?}, which it should have wounded");
        }
        let waiting: usize = self.owners.values().map(|o| o.waiting.len()).sum();
        assert_eq!(waiting, self.waiting.iter().count(), "an owner waits for a request that is gone");
        assert!(self.owners.values().all(|o| !o.locks.is_empty() || !o.waiting.is_empty()), "an idle owner");
    }

    /// Whether a request must wait, and whom it wounds.
    fn obstacles(&self, waiter: &Waiter) -> (bool, BTreeSet<TxnId>) {
        let mut blocked = false;
        let mut wounds = BTreeSet::new();
        for (span, mode) in &waiter.wants {
            self.held.conflicting(span, *mode, |txn| {
                if txn == waiter.owner {
                    return;
                }
                let holder = &self.owners[&txn];
                if holder.protected || holder.age < waiter.age {
                    blocked = true;
                } else {
                    wounds.insert(txn);
                }
            });
        }
        let behind = |(span, mode): &(Span, LockMode)| self.waiting.older_conflict(waiter.age, span, *mode);
        (blocked || waiter.wants.iter().any(behind), wounds)
    }

    /// Tries requests, the oldest first, until none of those concerned can go on.
    fn settle(&mut self, mut candidates: BTreeSet<Place>, effects: &mut Effects) {
        while let Some((age, token)) = candidates.pop_first() {
            let Some(waiter) = self.waiting.get(token) else { continue };
            let (blocked, wounds) = self.obstacles(waiter);
            if !wounds.is_empty() {
                for txn in wounds {
                    effects.cancelled.extend(self.remove(txn, &mut candidates));
                    effects.wounded.push(txn);
                }
                // What it wounded may have let an older request go first: look again in order.
                candidates.insert((age, token));
            } else if !blocked {
                self.grant(token);
                effects.granted.push(token);
            }
        }
    }

    fn grant(&mut self, token: u64) {
        let waiter = self.waiting.remove(token).expect("the caller looked it up");
        let owner = self.owners.get_mut(&waiter.owner).expect("an owner lives as long as its requests");
        owner.waiting.remove(&token);
        hold(&mut self.held, owner, waiter);
    }

    /// Takes a transaction out of the table. Adds the requests that may go on to the candidates,
    /// and returns its own that were waiting.
    fn remove(&mut self, owner: TxnId, candidates: &mut BTreeSet<Place>) -> Vec<u64> {
        let Some(entry) = self.owners.remove(&owner) else { return Vec::new() };
        let mut freed: Vec<Span> = Vec::with_capacity(entry.locks.len());
        for token in &entry.waiting {
            let waiter = self.waiting.remove(*token).expect("owners and waiters agree");
            freed.extend(waiter.wants.into_iter().map(|(span, _)| span));
        }
        for (span, _) in entry.locks {
            self.held.remove(owner, &span);
            freed.push(span);
        }
        for span in &freed {
            self.waiting.candidates(span, candidates);
        }
        entry.waiting.into_iter().collect()
    }
}

/// Notes that everything that was asked for is held.
fn hold(held: &mut Held, owner: &mut Owner, asked: Waiter) {
    for (span, mode) in asked.wants {
        let before = owner.locks.get(&span).copied();
        if before.is_none_or(|held| held < mode) {
            held.put(asked.owner, &span, mode, before.is_none());
            owner.locks.insert(span, mode);
        }
    }
}

#[cfg(test)]
mod golden;
#[cfg(test)]
mod tests;
