//! Standing for election: the probe and phase 1 (Lamport's phases 1a and the proposer's half of 1b).
//!
//! Steps: a replica that has heard of no leader for a random time, and whose own lease vote for
//! another node has surely expired, first *probes*: would a majority promise? A probe changes
//! nothing anywhere, so a replica that is cut off, and comes back, has not raised any ballot. Then it
//! promises to itself, durably, and sends Prepare for all slots above its chosen index.
//!
//! ```text
//!   follower --timeout--> probe --majority willing--> phase 1 --majority with itself--> leader
//!      ^                    |                            |
//!      +--- refused by too many, timed out, or another leads: withdraw, wait a random time
//! ```
//!
//! Invariants: a ballot is used for one candidacy (its round is above all that were promised or heard
//! of, and the own promise is durable before anybody hears of it); a leader's own promise is one
//! of its majority, so its own log and its own lease floor are covered.
//!
//! Deviation: Spanner does not describe its elections; the probe is the known remedy against a
//! replica whose link is bad.

use std::collections::BTreeMap;

use truetime::{Now, Timestamp};

use crate::lease::LeaseBook;
use crate::quorum::{Quorum, Votes};
use crate::replica::Role;
use crate::timer::Timer;
use crate::{Ballot, Entry, LeaseRequest, Message, NodeId, Refusal, Replica, Slot};

/// A promise may come in this many parts at most.
const PARTS_MAX: u32 = 1 << 16;

/// A candidacy.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) ballot: Ballot,
    /// Only asking so far.
    pub(crate) probe: bool,
    /// Phase 1 covers slots from here on.
    open: Slot,
    willing: Votes,
    refused: Votes,
    /// When the first lease vote that stood in the way will have expired.
    leased_until: Option<Timestamp>,
    promises: BTreeMap<NodeId, Promise>,
    pub(crate) lease: LeaseBook,
}

/// What one acceptor has promised, part by part.
#[derive(Debug)]
pub(crate) struct Promise {
    pub(crate) chosen: Slot,
    pub(crate) floor: Option<Timestamp>,
    parts: u32,
    got: BTreeMap<u32, Vec<Entry>>,
}

impl Promise {
    fn complete(&self) -> bool {
        self.got.len() == self.parts as usize
    }

    /// What it reports as accepted.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.got.values().flatten()
    }
}

impl Candidate {
    /// The promises that are complete.
    pub(crate) fn promises(&self) -> impl Iterator<Item = (NodeId, &Promise)> {
        self.promises.iter().filter(|(_, p)| p.complete()).map(|(node, p)| (*node, p))
    }

    fn elected(&self, id: NodeId, quorum: &Quorum) -> bool {
        let mut votes = Votes::default();
        self.promises().for_each(|(node, _)| quorum.add(&mut votes, node));
        quorum.has(votes, id) && quorum.reached(votes)
    }

    pub(crate) fn assert_invariants(&self, id: NodeId, promised: Ballot) {
        assert_eq!(self.ballot.node, id, "{id}: stands under {}", self.ballot);
        assert!(self.probe || self.ballot == promised, "{id}: stands under {} after {promised}", self.ballot);
    }

    pub(crate) fn describe(&self) -> String {
        let what = if self.probe { "probing" } else { "standing" };
        let promised: Vec<String> = self.promises().map(|(node, _)| node.to_string()).collect();
        format!("{what} under {} from {} promised by [{}]", self.ballot, self.open, promised.join(" "))
    }
}

impl Replica {
    /// The election timer has fired.
    pub(crate) fn election_due(&mut self, now: Now) {
        match self.role {
            Role::Leader(_) => {}
            Role::Candidate(_) => self.lose(now),
            Role::Follower => self.campaign(now, true),
        }
    }

    /// Stands for election; without `probe`, at once.
    pub(crate) fn campaign(&mut self, now: Now, probe: bool) {
        if !self.is_voter() || matches!(self.role, Role::Leader(_)) {
            return;
        }
        self.abandon(now);
        if !now.trusted {
            self.reset_election(now);
            return;
        }
        if let Some(until) = self.blocking_vote(now, self.id) {
            self.retry(now, Some(until));
            return;
        }
        let round = self.hard.promised.round.max(self.round_seen) + 1;
        let mut candidate = Candidate {
            ballot: Ballot { round, node: self.id },
            probe: probe && self.quorum.majority() > 1,
            open: self.hard.chosen.next(),
            willing: Votes::default(),
            refused: Votes::default(),
            leased_until: None,
            promises: BTreeMap::new(),
            lease: LeaseBook::new(),
        };
        self.quorum.add(&mut candidate.willing, self.id);
        self.leader = None;
        self.role = Role::Candidate(Box::new(candidate));
        self.reset_election(now);
        self.send_prepares(now);
    }

    /// Sends Prepare, or the probe, to every voter that has not answered.
    pub(crate) fn send_prepares(&mut self, now: Now) {
        let lease = LeaseRequest { start: now.tt.earliest, ns: self.options.lease_ns };
        let Role::Candidate(candidate) = &mut self.role else { return };
        candidate.lease.ask(lease);
        let (ballot, probe, open) = (candidate.ballot, candidate.probe, candidate.open);
        let answered: Vec<NodeId> = self
            .config
            .voters
            .iter()
            .copied()
            .filter(|node| match probe {
                true => self.quorum.has(candidate.willing, *node),
                false => candidate.promises.get(node).is_some_and(Promise::complete),
            })
            .collect();
        if !probe && self.hard.promised < ballot {
            self.promise(now, self.id, ballot, open, lease);
        }
        for peer in self.other_voters() {
            if !answered.contains(&peer) {
                // Only after its own promise is durable: so no two candidacies share a ballot.
                self.out.send_synced(peer, Message::Prepare { ballot, probe, from: open, lease });
            }
        }
        self.timers.set(Timer::Resend, now.mono_ns + self.options.resend_ns);
    }

    /// A voter would promise.
    pub(crate) fn on_willing(&mut self, now: Now, from: NodeId, ballot: Ballot) {
        // Much may have changed since the probe went out.
        let stale = self.blocking_vote(now, self.id).is_some() || self.hard.promised > ballot;
        let Role::Candidate(candidate) = &mut self.role else { return };
        if candidate.ballot != ballot || !candidate.probe {
            return;
        }
        self.quorum.add(&mut candidate.willing, from);
        if !self.quorum.reached(candidate.willing) {
            return;
        }
        if stale {
            self.lose(now);
            return;
        }
        candidate.probe = false;
        candidate.refused = Votes::default();
        self.reset_election(now);
        self.send_prepares(now);
    }

    /// An acceptor has promised: `about` is its chosen index and lease floor, `part` which part this
    /// is, of how many, with which entries.
    pub(crate) fn on_promise(
        &mut self,
        now: Now,
        from: NodeId,
        ballot: Ballot,
        lease: LeaseRequest,
        about: (Slot, Option<Timestamp>),
        part: (u32, u32, Vec<Entry>),
    ) {
        let ((chosen, floor), (part, parts, entries)) = (about, part);
        if !self.config.voters.contains(&from) || part >= parts || parts > PARTS_MAX {
            return;
        }
        match &mut self.role {
            Role::Leader(leading) if leading.ballot == ballot => {
                leading.lease.grant(&self.quorum, self.id, from, lease);
            }
            Role::Candidate(candidate) if candidate.ballot == ballot && !candidate.probe => {
                candidate.lease.grant(&self.quorum, self.id, from, lease);
                let fresh = || Promise { chosen, floor, parts, got: BTreeMap::new() };
                let promise = candidate.promises.entry(from).or_insert_with(fresh);
                if (promise.chosen, promise.parts) != (chosen, parts) {
                    // It has learned more since it answered first: its parts are cut anew.
                    *promise = fresh();
                }
                promise.floor = promise.floor.max(floor);
                promise.got.insert(part, entries);
                if candidate.elected(self.id, &self.quorum) {
                    self.lead(now);
                }
            }
            _ => {}
        }
    }

    /// A Prepare, a probe or an Accept was refused.
    pub(crate) fn on_reject(&mut self, now: Now, from: NodeId, ballot: Ballot, promised: Ballot, reason: Refusal) {
        self.round_seen = self.round_seen.max(promised.round);
        match &mut self.role {
            Role::Candidate(candidate) if candidate.ballot == ballot => {
                self.quorum.add(&mut candidate.refused, from);
                if let Refusal::Leased(until) = reason {
                    candidate.leased_until = Some(candidate.leased_until.map_or(until, |at| at.min(until)));
                }
                if self.quorum.unreachable(candidate.refused) {
                    self.lose(now);
                }
            }
            Role::Leader(leading) if leading.ballot == ballot && reason == Refusal::Promised && promised > ballot => {
                leading.outbid = true;
                self.outbid(now);
            }
            _ => {}
        }
    }

    /// The candidacy has come to nothing; the next one is after a random time.
    fn lose(&mut self, now: Now) {
        let leased_until = match &self.role {
            Role::Candidate(candidate) => candidate.leased_until,
            _ => None,
        };
        self.abandon(now);
        self.retry(now, leased_until);
    }

    fn retry(&mut self, now: Now, leased_until: Option<Timestamp>) {
        let wait_ns = leased_until.map_or(0, |until| self.wait_ns(now, until));
        let start = self.options.election_ns.start;
        let backoff_ns = self.random_ns(start / 16 + 1, start / 3 + 2);
        self.timers.set(Timer::Election, now.mono_ns + wait_ns + backoff_ns);
    }

    /// Ends a candidacy, if there is one, and gives its votes back.
    pub(crate) fn abandon(&mut self, now: Now) {
        if let Role::Candidate(candidate) = &self.role {
            let (ballot, probe) = (candidate.ballot, candidate.probe);
            self.role = Role::Follower;
            self.timers.clear(Timer::Resend);
            self.reset_election(now);
            if !probe {
                self.withdraw(now, ballot);
            }
        }
    }
}
