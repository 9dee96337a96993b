//! The requests that wait, by the keys they want, the oldest first.

use std::collections::{BTreeMap, BTreeSet};

use super::held::within;
use super::{Age, Wants, conflict};
use crate::types::{Key, LockMode, Span, TxnId};

/// A request that waits.
#[derive(Debug)]
pub(super) struct Waiter {
    pub owner: TxnId,
    pub age: Age,
    pub wants: Wants,
}

impl Waiter {
    fn wants_of(&self, span: &Span, mode: LockMode) -> bool {
        self.wants.iter().any(|(want, m)| !want.is_point() && want.overlaps(span) && conflict(*m, mode))
    }
}

/// A request's place in the order: its owner's age, then its token.
pub(super) type Place = (Age, u64);

/// Those that wait for one key. Kept apart by mode, so that the oldest in the way is the first of
/// its set however many wait.
#[derive(Debug, Default)]
struct Queue {
    shared: BTreeSet<Place>,
    exclusive: BTreeSet<Place>,
}

impl Queue {
    fn of(&mut self, mode: LockMode) -> &mut BTreeSet<Place> {
        match mode {
            LockMode::Shared => &mut self.shared,
            LockMode::Exclusive => &mut self.exclusive,
        }
    }

    fn older_conflict(&self, age: Age, mode: LockMode) -> bool {
        let older = |places: &BTreeSet<Place>| places.first().is_some_and(|(first, _)| *first < age);
        older(&self.exclusive) || (mode == LockMode::Exclusive && older(&self.shared))
    }
}

/// The requests that wait.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    by_token: BTreeMap<u64, Waiter>,
    points: BTreeMap<Key, Queue>,
    /// Requests that want at least one range.
    ranges: BTreeSet<Place>,
}

impl Waiting {
    /// Adds a request under a token of its own.
    pub fn insert(&mut self, token: u64, waiter: Waiter) {
        let place = (waiter.age, token);
        for (span, mode) in &waiter.wants {
            if span.is_point() {
                self.points.entry(span.start.clone()).or_default().of(*mode).insert(place);
            } else {
                self.ranges.insert(place);
            }
        }
        let before = self.by_token.insert(token, waiter);
        assert!(before.is_none(), "token {token} is waiting already");
    }

    /// Takes a request out.
    pub fn remove(&mut self, token: u64) -> Option<Waiter> {
        let waiter = self.by_token.remove(&token)?;
        let place = (waiter.age, token);
        self.ranges.remove(&place);
        for (span, mode) in waiter.wants.iter().filter(|(span, _)| span.is_point()) {
            if let Some(queue) = self.points.get_mut(&span.start) {
                queue.of(*mode).remove(&place);
                if queue.shared.is_empty() && queue.exclusive.is_empty() {
                    self.points.remove(&span.start);
                }
            }
        }
        Some(waiter)
    }

    /// A request.
    pub fn get(&self, token: u64) -> Option<&Waiter> {
        self.by_token.get(&token)
    }

    /// All requests, by token.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &Waiter)> {
        self.by_token.iter().map(|(token, waiter)| (*token, waiter))
    }

    /// Whether a request older than `age` wants something that overlaps the span and conflicts.
    pub fn older_conflict(&self, age: Age, span: &Span, mode: LockMode) -> bool {
        within(&self.points, span).any(|(_, queue)| queue.older_conflict(age, mode))
            || self.ranges.range(..(age, 0)).any(|(_, token)| self.by_token[token].wants_of(span, mode))
    }

    /// Adds the requests that may go on once something on the span is gone. Of those that want one
    /// key, whoever is younger than the oldest that wants it exclusively cannot: it stays behind
    /// that one, which goes on waiting, or else holds the key from now on.
    pub fn candidates(&self, span: &Span, into: &mut BTreeSet<Place>) {
        for (_, queue) in within(&self.points, span) {
            match queue.exclusive.first() {
                None => into.extend(&queue.shared),
                Some((age, _)) => {
                    into.extend(queue.shared.range(..=(*age, u64::MAX)));
                    into.extend(queue.exclusive.range(..=(*age, u64::MAX)));
                }
            }
        }
        let wants = |token: &u64| self.by_token[token].wants_of(span, LockMode::Exclusive);
        into.extend(self.ranges.iter().filter(|(_, token)| wants(token)));
    }
}
