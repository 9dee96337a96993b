//! The learner: which slots are chosen, handing them out in order, and catching up.
//!
//! Problem: a leader says "all slots up to c are chosen", but not with which values. A replica may
//! hold another value there, accepted under an older ballot and never chosen.
//!
//! Steps: an entry at or below c is the chosen one if it was accepted under the very ballot of the
//! leader that says so. (A leader proposes one value per slot; it calls a slot chosen because a
//! majority accepted that value, or because phase 1 told it so, and then it does not propose
//! there.) What is missing, or has another ballot, is fetched from a peer that knows it chosen; if
//! the peer has truncated it, the peer's caller sends a snapshot.
//!
//! The epoch rule. Chosen slots are handed out in order; `epoch` is the ballot of the last `Start`
//! handed out. A command (or configuration, or `Start`) first proposed under a lower ballot is handed
//! out as `Noop`. Why:
//!
//! ```text
//!   slot     6    7    8         9    10   11
//!   n1       a    b    -         -    x               x under b1, only here; then n1 is cut off
//!   n2       a    b    Start b2  d                    b2's phase 1 asked n2 and n3: it saw no x
//!   n3       a    b    Start b2  d    x    Start b3   b3's phase 1 asked n1 and n3: it found x,
//!                                                     and must propose it again
//! ```
//!
//! With many slots in flight, a value of b1 may sit on a lone acceptor, above what the phase 1 of b2
//! saw. It was not chosen then, but a third leader that finds it must propose it again, and it becomes
//! chosen: after b2 has moved on, with timestamps and locks that know nothing of x. A command
//! checked its locks and took its timestamp under its own leadership; under a later one it must have no
//! effect. Every replica hands out the same slots in the same order, so all make the same choice.
//!
//! So a leader proposes again what phase 1 found (with its `origin`: those come before its `Start` and
//! keep their effect), fills holes with `Noop`, proposes `Start`, and only then new commands.
//!
//! Invariants: the handed-out slots have no gaps and go up by one; each has one value for ever; a
//! command handed out has the `epoch` as its origin.
//!
//! Deviation: the Spanner paper does not say how entries of a former leader that were in flight are
//! told apart (section 4.1.2 requires only that leaders' timestamps are disjoint); this is how.

use std::collections::BTreeMap;

use truetime::{Guarantee, Now};

use crate::log::same_value;
use crate::replica::Role;
use crate::timer::Timer;
use crate::{Ballot, Chosen, Configuration, Entry, Event, Message, NodeId, Payload, Replica, Slot, Write};

/// Entries kept below the durable applied index, for peers that are briefly away, unless told otherwise.
pub(crate) const KEEP_SLOTS: u64 = 1000;
/// The log is truncated up to the durable applied index as long as it takes more bytes than this.
const KEEP_BYTES_MAX: usize = 64 << 20;
/// The caller is asked at most this often to send a snapshot to the same peer, in nanoseconds.
const SNAPSHOT_ASK_NS: i64 = 1_000_000_000;
/// Peers whose snapshots are remembered at most.
const SNAPSHOT_PEERS_MAX: usize = 256;
/// A gap is given this part of the resend interval to close by itself: messages overtake each other.
const PATIENCE_DIVISOR: i64 = 8;
/// The hard state is written along with other writes once the chosen index is this far ahead.
const HINT_SLOTS: u64 = 64;

/// What is known of chosen slots, besides `HardState::chosen`.
#[derive(Debug)]
pub(crate) struct Learner {
    /// Handed out up to here.
    pub(crate) handed: Slot,
    /// The ballot of the last `Start` handed out.
    pub(crate) epoch: Ballot,
    /// The last leader heard of, and how far it said that slots are chosen.
    announced: (Ballot, Slot),
    /// Slots up to here are chosen, somebody said.
    pub(crate) target: Slot,
    /// Who said so.
    source: Option<NodeId>,
    /// How often the current gap was asked for in vain.
    asked: usize,
    /// When a snapshot was last asked for, by peer.
    snapshot_asked: BTreeMap<NodeId, i64>,
    /// The chosen index last written.
    hinted: Slot,
}

impl Learner {
    /// Of a state machine that has applied so much.
    pub(crate) fn new(applied: Slot, epoch: Ballot, chosen: Slot) -> Learner {
        Learner {
            handed: applied,
            epoch,
            announced: (Ballot::ZERO, Slot(0)),
            target: chosen,
            source: None,
            asked: 0,
            snapshot_asked: BTreeMap::new(),
            hinted: chosen,
        }
    }
}

impl Replica {
    /// The leader of `ballot` says that slots up to `chosen` are.
    pub(crate) fn announced(&mut self, now: Now, from: NodeId, ballot: Ballot, chosen: Slot) {
        // What an older leader announced says nothing about entries of this ballot.
        let announced = &mut self.learner.announced;
        *announced = if ballot > announced.0 { (ballot, chosen) } else { (*announced).max((ballot, chosen)) };
        self.mark_chosen(now);
        self.hear_of_chosen(now, from, chosen);
    }

    /// Slots up to `chosen` are, whatever their values.
    pub(crate) fn hear_of_chosen(&mut self, now: Now, from: NodeId, chosen: Slot) {
        if chosen > self.learner.target {
            self.learner.target = chosen;
            self.learner.source = Some(from);
        }
        self.watch_gap(now);
    }

    /// Advances over entries that the last announcement covers.
    fn mark_chosen(&mut self, now: Now) {
        let (ballot, to) = self.learner.announced;
        let before = self.hard.chosen;
        while self.hard.chosen < to {
            let next = self.hard.chosen.next();
            if self.log.get(next).is_none_or(|entry| entry.ballot != ballot) {
                break;
            }
            self.hard.chosen = next;
        }
        if self.hard.chosen > before {
            self.progressed(now);
        }
    }

    /// The chosen index has moved.
    pub(crate) fn progressed(&mut self, now: Now) {
        self.learner.asked = 0;
        self.timers.set_if_unset(Timer::Hint, now.mono_ns + self.options.heartbeat_ns);
    }

    fn watch_gap(&mut self, now: Now) {
        if self.hard.chosen >= self.learner.target {
            self.timers.clear(Timer::CatchUp);
        } else {
            let patience_ns = self.options.resend_ns / PATIENCE_DIVISOR;
            self.timers.set_if_unset(Timer::CatchUp, now.mono_ns + patience_ns);
        }
    }

    /// Asks for the first missing slot: the one who told first, then the other voters in turn.
    pub(crate) fn catch_up_due(&mut self, now: Now) {
        if self.hard.chosen >= self.learner.target {
            return;
        }
        let others = self.other_voters();
        let peer = match self.learner.source {
            Some(source) if self.learner.asked < 2 => Some(source),
            _ if others.is_empty() => self.learner.source,
            _ => Some(others[self.learner.asked % others.len()]),
        };
        self.learner.asked += 1;
        if let Some(peer) = peer.filter(|peer| *peer != self.id) {
            self.out.send(peer, Message::CatchUp { from: self.hard.chosen.next() });
        }
        self.timers.set(Timer::CatchUp, now.mono_ns + self.options.resend_ns);
    }

    /// A laggard asks.
    pub(crate) fn on_catch_up(&mut self, now: Now, from: NodeId, slot: Slot) {
        if slot <= self.log.truncated() {
            self.needs_snapshot(now, from);
            return;
        }
        if let Role::Leader(leading) = &mut self.role {
            leading.heard_of(now, from, Slot(slot.0.saturating_sub(1)));
        }
        let entries = self.log.batch(slot, self.hard.chosen, self.options.message_bytes_max);
        if !entries.is_empty() {
            self.out.send(from, Message::ChosenEntries { chosen: self.hard.chosen, entries });
        }
    }

    /// The caller is to send a snapshot to `peer`, but not too often.
    pub(crate) fn needs_snapshot(&mut self, now: Now, peer: NodeId) {
        let asked = &mut self.learner.snapshot_asked;
        if asked.get(&peer).is_some_and(|at_ns| now.mono_ns < at_ns + SNAPSHOT_ASK_NS) {
            return;
        }
        if asked.len() >= SNAPSHOT_PEERS_MAX {
            asked.clear();
        }
        asked.insert(peer, now.mono_ns);
        self.out.event(Event::NeedsSnapshot(peer));
    }

    /// Entries that a peer knows to be chosen.
    pub(crate) fn on_chosen_entries(&mut self, now: Now, from: NodeId, chosen: Slot, entries: Vec<Entry>) {
        // A leader learns from others only what was chosen before its phase 1. Were it to take more, it could call
        // slots chosen in which others hold another value of its own ballot.
        let limit = match &self.role {
            Role::Leader(leading) => leading.learned_to,
            _ => Slot(u64::MAX),
        };
        let before = self.hard.chosen;
        for entry in entries {
            let slot = entry.slot;
            let old = self.log.get(slot);
            if slot <= self.hard.chosen {
                let same = old.is_none_or(|old| same_value(old, &entry));
                assert!(same, "{}: two values chosen in {slot}: {old:?} and {entry:?}", self.id);
                continue;
            }
            if slot != self.hard.chosen.next() || slot > limit {
                break;
            }
            if old != Some(&entry) {
                // A leader that has to learn of a higher ballot is one no more.
                self.raise_promise(now, entry.ballot);
                self.log.put(entry.clone());
                self.out.write(Write::Entry(entry));
            }
            self.hard.chosen = slot;
        }
        if self.hard.chosen == before {
            return;
        }
        self.progressed(now);
        if !matches!(self.role, Role::Leader(_)) {
            self.hear_of_chosen(now, from, chosen);
            self.mark_chosen(now);
        }
        self.count(now);
        self.timers.clear(Timer::CatchUp);
        if self.hard.chosen < self.learner.target {
            self.learner.source = Some(from);
            self.catch_up_due(now);
        }
    }

    /// Hands out what is chosen, under the epoch rule.
    pub(crate) fn hand_out(&mut self, now: Now, out: &mut Vec<Chosen>) {
        while self.learner.handed < self.hard.chosen {
            let slot = self.learner.handed.next();
            let Some(entry) = self.log.get(slot) else { panic!("{}: {slot} is chosen but missing", self.id) };
            let (origin, epoch) = (entry.origin, self.learner.epoch);
            let mut payload = entry.payload.clone();
            let kept = self.options.sabotage.breaks(Guarantee::EpochRule);
            if payload != Payload::Noop && origin < epoch && !kept {
                payload = Payload::Noop;
            }
            match &payload {
                Payload::Noop => {}
                Payload::Start => self.learner.epoch = origin,
                Payload::Command(_) | Payload::Config(_) if kept => {}
                Payload::Command(_) | Payload::Config(_) => {
                    assert_eq!(origin, epoch, "{}: {slot} was proposed before its leader's start", self.id);
                }
            }
            self.learner.handed = slot;
            if let Payload::Config(config) = &payload {
                self.set_config(now, config.clone());
            }
            out.push(Chosen { slot, origin, payload });
        }
    }

    /// Writes the chosen index along with what is written anyway, now and then.
    pub(crate) fn hint_chosen(&mut self) {
        if self.out.has_writes() && self.hard.chosen.0 >= self.learner.hinted.0 + HINT_SLOTS {
            self.out.hard_lazily();
        }
        if self.out.writes_hard() {
            self.learner.hinted = self.hard.chosen;
            self.timers.clear(Timer::Hint);
        }
    }

    /// Truncates the log below what the applied state covers durably, but for a tail.
    ///
    /// It waits for no other replica's disk: a group with a minority down, or a majority slow, must not
    /// fill the disks of the rest. So the log is bounded by what is chosen between two flushes of the state, and
    /// besides by `keep_slots` entries and whatever peers need that a leader heard of within a lease, these two
    /// together by 64 MiB. Whoever is behind that gets a snapshot; that none is lost by it is up to the caller
    /// (a state that replaces another must cover all that the other did).
    pub(crate) fn applied_durable(&mut self, now: Now, applied: Slot) {
        let applied = applied.min(self.learner.handed);
        let mut to = Slot(applied.0.saturating_sub(self.keep_slots));
        if let Role::Leader(leading) = &self.role {
            to = to.min(leading.needed_by_peers(now, &self.options).unwrap_or(to));
        }
        let before = self.log.truncated();
        self.log.truncate(to.max(before));
        while self.log.bytes() > KEEP_BYTES_MAX && self.log.truncated() < applied {
            self.log.truncate(self.log.truncated().next());
        }
        self.hard.truncated = self.log.truncated();
        if self.hard.truncated > before {
            self.out.write(Write::Truncate(self.hard.truncated));
            self.out.hard_lazily();
        }
    }

    /// The applied state was replaced by that of a peer. Promises, votes and entries above it stay.
    pub(crate) fn snapshot_installed(&mut self, now: Now, applied: Slot, epoch: Ballot, config: Configuration) {
        if applied <= self.learner.handed {
            // The state machine was replaced by one that is behind what it had been handed: it gets
            // the rest again, from the log.
            if applied >= self.log.truncated() {
                self.learner.handed = applied;
                self.learner.epoch = epoch;
                self.set_config(now, config);
            }
            return;
        }
        self.log.truncate(applied);
        self.hard.truncated = applied;
        self.hard.chosen = self.hard.chosen.max(applied);
        self.learner.handed = applied;
        self.learner.epoch = epoch;
        self.learner.target = self.learner.target.max(applied);
        self.out.write(Write::Clear);
        for entry in self.log.from(applied.next()) {
            self.out.accept(entry.clone());
        }
        self.out.hard_synced();
        self.set_config(now, config);
        self.mark_chosen(now);
        self.count(now);
        self.watch_gap(now);
    }
}
