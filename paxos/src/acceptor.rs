//! The acceptor: promises and accepts (Lamport, "Paxos Made Simple", phases 1b and 2b).
//!
//! Steps: a promise of ballot b refuses every lower one from then on, and reports what was accepted
//! in the slots that are still open; one promise covers them all. An accept stores the value under
//! its ballot. Both are durable before they are acknowledged (I4).
//!
//! ```text
//!             known chosen | open
//!   slot      1 2 3 4 5 6  | 7    8    9    10
//!   acceptor  the values   | b2.1 -    b2.1 -       holes are normal: accepts come in any order
//!                            ^ a promise reports 7 and 9
//! ```
//!
//! Invariants: `promised` never goes back and is at least the ballot of every entry; no promise to
//! another node while a lease vote may hold; a slot at or below the chosen index keeps its value.
//!
//! Slots that the acceptor knows to be chosen are not reported but summed up by its chosen index;
//! the candidate learns those like any laggard. That keeps a promise as small as the window.

use truetime::Now;

use crate::log::{entry_bytes, same_value};
use crate::replica::Role;
use crate::{Ballot, Entry, LeaseRequest, Message, NodeId, Refusal, Replica, Slot};

/// An accept this many slots beyond the chosen index is dropped: its sender is not sane.
const ACCEPT_AHEAD_SLOTS_MAX: u64 = 1_000_000;

impl Replica {
    /// Phase 1b.
    pub(crate) fn on_prepare(
        &mut self,
        now: Now,
        from: NodeId,
        ballot: Ballot,
        probe: bool,
        open: Slot,
        lease: LeaseRequest,
    ) {
        if ballot.node != from || !self.is_voter() || !self.config.voters.contains(&from) {
            return;
        }
        if let Some(reason) = self.refusal(now, from, ballot, open, lease) {
            if reason == Refusal::Behind {
                self.needs_snapshot(now, from);
            }
            self.out.send(from, Message::Reject { ballot, promised: self.hard.promised, reason });
        } else if probe {
            self.out.send(from, Message::Willing { ballot });
        } else {
            self.reset_election(now);
            self.promise(now, from, ballot, open, lease);
        }
    }

    fn refusal(&self, now: Now, from: NodeId, ballot: Ballot, open: Slot, lease: LeaseRequest) -> Option<Refusal> {
        if !now.trusted || !lease.is_plausible(now) {
            Some(Refusal::Untrusted)
        } else if ballot < self.hard.promised || self.released == Some(ballot) {
            Some(Refusal::Promised)
        } else if let Some(until) = self.blocking_vote(now, from) {
            Some(Refusal::Leased(until))
        } else if open <= self.log.truncated() {
            // It could lead, but not serve before it has a snapshot; this replica can do better.
            Some(Refusal::Behind)
        } else {
            None
        }
    }

    /// Promises, to itself too; nothing stands against it.
    pub(crate) fn promise(&mut self, now: Now, to: NodeId, ballot: Ballot, open: Slot, lease: LeaseRequest) {
        self.raise_promise(now, ballot);
        self.vote(now, to, lease);
        let floor = self.hard.lease_floor;
        let mut parts: Vec<Vec<Entry>> = vec![Vec::new()];
        let mut bytes = 0;
        for entry in self.log.from(open.max(self.hard.chosen.next())) {
            bytes += entry_bytes(entry);
            if bytes > self.options.message_bytes_max && parts.last().is_some_and(|part| !part.is_empty()) {
                parts.push(Vec::new());
                bytes = entry_bytes(entry);
            }
            parts.last_mut().expect("there is one").push(entry.clone());
        }
        let count = u32::try_from(parts.len()).expect("the window is bounded");
        let chosen = self.hard.chosen;
        for (part, entries) in (0u32..).zip(parts) {
            let message = Message::Promise { ballot, chosen, floor, lease, part, parts: count, entries };
            self.out.send_synced(to, message);
        }
    }

    /// Refuses everything below `ballot` from now on, this node's own ambitions included.
    pub(crate) fn raise_promise(&mut self, now: Now, ballot: Ballot) {
        if ballot <= self.hard.promised {
            return;
        }
        match &self.role {
            Role::Leader(leading) if leading.ballot < ballot => self.depose(now),
            Role::Candidate(candidate) if candidate.ballot < ballot => self.abandon(now),
            _ => {}
        }
        self.hard.promised = ballot;
        self.out.hard_synced();
    }

    /// Phase 2b, and everything else that a leader says.
    pub(crate) fn on_accept(
        &mut self,
        now: Now,
        from: NodeId,
        ballot: Ballot,
        chosen: Slot,
        lease: LeaseRequest,
        entries: Vec<Entry>,
    ) {
        if ballot.node != from || from == self.id || !self.config.voters.contains(&from) {
            return;
        }
        if ballot < self.hard.promised {
            let promised = self.hard.promised;
            self.out.send(from, Message::Reject { ballot, promised, reason: Refusal::Promised });
            // What it says of chosen slots is true all the same.
            self.hear_of_chosen(now, from, chosen);
            return;
        }
        self.raise_promise(now, ballot);
        if matches!(self.role, Role::Candidate(_)) {
            self.abandon(now);
        }
        let mut ranges: Vec<(Slot, Slot)> = Vec::new();
        for entry in entries {
            let slot = entry.slot;
            if !self.accept(ballot, entry) {
                continue;
            }
            match ranges.last_mut() {
                Some((_, last)) if last.next() == slot => *last = slot,
                _ => ranges.push((slot, slot)),
            }
        }
        let granted = self.may_vote(now, from, ballot, lease);
        if granted {
            self.vote(now, from, lease);
        }
        self.leader = Some(from);
        self.reset_election(now);
        self.announced(now, from, ballot, chosen);
        let message = Message::Accepted { ballot, chosen: self.hard.chosen, lease: granted.then_some(lease), ranges };
        self.out.send_synced(from, message);
    }

    /// Stores one value; false if it must not be acknowledged.
    fn accept(&mut self, ballot: Ballot, entry: Entry) -> bool {
        let slot = entry.slot;
        if slot.0 == 0 || entry.ballot != ballot || slot.0 > self.hard.chosen.0 + ACCEPT_AHEAD_SLOTS_MAX {
            return false;
        }
        if let Some(old) = self.log.get(slot)
            && (slot <= self.hard.chosen || old.ballot == ballot)
        {
            // A slot has one chosen value, and a ballot proposes one value per slot.
            assert!(same_value(old, &entry), "{}: two values in {slot}: {old:?} and {entry:?}", self.id);
            return true;
        }
        if slot > self.hard.chosen {
            self.log.put(entry.clone());
            self.out.accept(entry);
        }
        true
    }
}
