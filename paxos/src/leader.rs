//! The leader: phase 2, pipelined and batched (Lamport's phases 2a and the proposer's half of 2b).
//!
//! Steps:
//! 1. Phase 1 has told which slots are chosen (up to `learned_to`) and which values were accepted above.
//!    The leader proposes those again under its ballot, `Noop` in the holes, then `Start`.
//! 2. Once `Start` is chosen and handed out, the leadership is *established*: commands are taken. Each gets
//!    the next slot; all that are queued by the next step share one Accept per peer and one write.
//! 3. The leader sends Accept at once, while its own disk works; its own vote counts when its own write is
//!    durable, like a peer's. A slot is chosen when a majority has accepted it; votes may come in any order.
//! 4. The chosen index travels on the next Accept; on a heartbeat soon, if there is none.
//!
//! ```text
//!   slot   .. learned_to | first_open ............... next
//!               learn     [flight][flight][flight]   queue, not yet sent
//!                          votes   votes   votes
//! ```
//!
//! Invariants: the leader's ballot is its own promise; every open slot has an entry under that ballot; it
//! calls a slot above `learned_to` chosen only by its own count; the lease end never goes back.
//!
//! A leader steps down when it hears of a higher ballot from a leader, when its clock is not trusted, when
//! the lease could not be renewed for an election timeout, and when it cannot learn what was chosen
//! before it (the only peer that knew may be gone; another majority can do without). A lone acceptor that
//! has promised a higher ballot does not end an established leadership at once while a majority still accepts:
//! the timestamps of a lease that is cut short have to be waited out. After a lease, or when slots stall, the
//! leader stands again above it.
//!
//! Deviation: Spanner's leaders (section 4.1.2) defer the bookkeeping of the lease to the Paxos layer too,
//! but the paper says nothing of batching or of the window; both are bounded here by options.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use truetime::{Now, Timestamp};

use crate::lease::LeaseBook;
use crate::log::Log;
use crate::quorum::Votes;
use crate::replica::Role;
use crate::timer::Timer;
use crate::{
    Ballot, Entry, Event, HardState, Leadership, LeaseRequest, Message, NodeId, Options, Payload, Replica, Slot,
};

/// Commands queued for the next step take at most this many bytes.
const QUEUE_BYTES_MAX: usize = 64 << 20;
/// Peers hear of newly chosen slots within this time, in nanoseconds.
const CHOSEN_NOTICE_NS: i64 = 10_000_000;

/// A leadership.
#[derive(Debug)]
pub(crate) struct Leading {
    pub(crate) ballot: Ballot,
    pub(crate) lease: LeaseBook,
    pub(crate) floor: Timestamp,
    /// Phase 1 told that slots up to here are chosen.
    pub(crate) learned_to: Slot,
    /// The slot of its `Start`.
    pub(crate) start: Slot,
    /// `Start` is chosen and handed out.
    pub(crate) established: bool,
    /// The caller was told so.
    told: bool,
    /// An acceptor has promised a higher ballot.
    pub(crate) outbid: bool,
    /// Since when.
    outbid_since_ns: Option<i64>,
    pub(crate) peers: BTreeMap<NodeId, Progress>,
    pub(crate) first_open: Slot,
    flights: VecDeque<Flight>,
    queue: Vec<Bytes>,
    queue_bytes: usize,
    /// Entries from here on have not been sent.
    unsent: Slot,
    heartbeat: bool,
    /// Since when the lease has not been valid.
    lapsed_since_ns: Option<i64>,
    /// The chosen index when last looked at, and when it moved.
    moved: (Slot, i64),
    pub(crate) hand_over: Option<HandOver>,
}

/// What a leader knows of a peer.
#[derive(Debug)]
pub(crate) struct Progress {
    pub(crate) chosen: Slot,
    pub(crate) accepted: Slot,
    pub(crate) heard_ns: i64,
}

/// An open slot.
#[derive(Debug)]
struct Flight {
    votes: Votes,
    proposed_ns: i64,
    sent_ns: i64,
}

/// A leadership that is being given up.
#[derive(Debug)]
pub(crate) struct HandOver {
    pub(crate) to: Option<NodeId>,
    pub(crate) used: Timestamp,
    pub(crate) deadline_ns: i64,
}

/// What a leader knows of a peer, for display.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerProgress {
    /// Who.
    pub node: NodeId,
    /// It knows slots up to here to be chosen.
    pub chosen: Slot,
    /// The highest slot that it has accepted under this leader.
    pub accepted: Slot,
    /// Nanoseconds since it was last heard of.
    pub silent_ns: i64,
    /// Its lease vote supports this leader up to here.
    pub lease_end: Option<Timestamp>,
}

impl Leading {
    fn next(&self) -> Slot {
        Slot(self.first_open.0 + self.flights.len() as u64)
    }

    /// The last slot given out.
    pub(crate) fn last_proposed(&self) -> Slot {
        Slot(self.next().0 + self.queue.len() as u64 - 1)
    }

    /// Takes a command for the next step; `None` when too much waits.
    pub(crate) fn queue(&mut self, command: Bytes, slots_max: usize) -> Option<Slot> {
        let bytes = self.queue_bytes + command.len();
        if self.flights.len() + self.queue.len() >= slots_max || bytes > QUEUE_BYTES_MAX {
            return None;
        }
        self.queue_bytes = bytes;
        self.queue.push(command);
        Some(self.last_proposed())
    }

    /// Valid while the lease lasts; `None` once it is being handed over.
    pub(crate) fn leadership(&self) -> Option<Leadership> {
        let Leading { ballot, floor, established, .. } = *self;
        self.hand_over.is_none().then_some(Leadership { ballot, floor, lease_end: self.lease.end, established })
    }

    /// Whether every slot proposed is chosen.
    pub(crate) fn drained(&self) -> bool {
        self.flights.is_empty() && self.queue.is_empty()
    }

    /// Peers that were heard of lately still need slots above this.
    pub(crate) fn needed_by_peers(&self, now: Now, options: &Options) -> Option<Slot> {
        let lately = |p: &&Progress| now.mono_ns - p.heard_ns <= options.lease_ns;
        self.peers.values().filter(lately).map(|p| p.chosen).min()
    }

    /// A peer is there, and knows slots up to `chosen` to be chosen.
    pub(crate) fn heard_of(&mut self, now: Now, peer: NodeId, chosen: Slot) {
        if let Some(progress) = self.peers.get_mut(&peer) {
            progress.heard_ns = now.mono_ns;
            progress.chosen = progress.chosen.max(chosen);
        }
    }

    /// Puts the next value into the log, the write and the pipeline.
    fn append(&mut self, now: Now, origin: Ballot, payload: Payload) -> Entry {
        let entry = Entry { slot: self.next(), ballot: self.ballot, origin, payload };
        self.flights.push_back(Flight { votes: Votes::default(), proposed_ns: now.mono_ns, sent_ns: now.mono_ns });
        entry
    }

    pub(crate) fn assert_invariants(&self, id: NodeId, hard: &HardState, log: &Log) {
        let ballot = self.ballot;
        assert_eq!(ballot.node, id, "{id}: leads under {ballot}");
        assert_eq!(ballot, hard.promised, "{id}: leads under {ballot} but promised another");
        assert_eq!(self.unsent, self.next(), "{id}: a step left slots unsent");
        assert!(self.queue.is_empty(), "{id}: a step left commands queued");
        let last = Slot(self.next().0 - 1);
        if !self.flights.is_empty() {
            let own = log.get(last).map(|entry| entry.ballot);
            assert_eq!(own, Some(ballot), "{id}: its own {last} is not under its ballot");
        }
        assert!(hard.chosen <= last, "{id}: {} is chosen, but only {last} proposed", hard.chosen);
        assert!(!self.established || hard.chosen >= self.start, "{id}: established before its start");
        assert!(!self.told || self.established, "{id}: told of a leadership that is not established");
    }

    pub(crate) fn describe(&self) -> String {
        let mut text = format!("leading since {} open {}..{}", self.start, self.first_open, self.next());
        if self.established {
            text += " established";
        }
        if self.outbid {
            text += " outbid";
        }
        if self.hand_over.is_some() {
            text += " handing over";
        }
        text
    }
}

impl Replica {
    /// Phase 1 is complete: begins phase 2.
    pub(crate) fn lead(&mut self, now: Now) {
        let Role::Candidate(candidate) = std::mem::replace(&mut self.role, Role::Follower) else {
            panic!("{}: leads without having stood", self.id)
        };
        let mut learned_to = self.hard.chosen;
        let mut teacher = None;
        let mut floor = self.used_end;
        for (node, promise) in candidate.promises() {
            floor = floor.max(promise.floor);
            if promise.chosen > learned_to {
                (learned_to, teacher) = (promise.chosen, Some(node));
            }
        }
        let mut found: BTreeMap<Slot, &Entry> = BTreeMap::new();
        for entry in candidate.promises().flat_map(|(_, promise)| promise.entries()).filter(|e| e.slot > learned_to) {
            let best = found.entry(entry.slot).or_insert(entry);
            if entry.ballot > best.ballot {
                *best = entry;
            }
        }
        let ballot = candidate.ballot;
        let first_open = learned_to.next();
        let start = found.last_key_value().map_or(learned_to, |(slot, _)| *slot).next();
        let fresh = || Progress { chosen: Slot(0), accepted: Slot(0), heard_ns: now.mono_ns };
        let members = self.config.voters.iter().chain(&self.config.learners);
        let mut leading = Leading {
            ballot,
            lease: LeaseBook::new(),
            floor: floor.unwrap_or(Timestamp::ZERO),
            learned_to,
            start,
            established: false,
            told: false,
            outbid: false,
            outbid_since_ns: None,
            peers: members.filter(|node| **node != self.id).map(|node| (*node, fresh())).collect(),
            first_open,
            flights: VecDeque::new(),
            queue: Vec::new(),
            queue_bytes: 0,
            unsent: first_open,
            heartbeat: false,
            lapsed_since_ns: None,
            moved: (self.hard.chosen, now.mono_ns),
            hand_over: None,
        };
        while leading.next() < start {
            let value = found.get(&leading.next());
            let (origin, payload) = value.map_or((ballot, Payload::Noop), |e| (e.origin, e.payload.clone()));
            put(&mut self.log, &mut self.out, leading.append(now, origin, payload));
        }
        put(&mut self.log, &mut self.out, leading.append(now, ballot, Payload::Start));
        leading.lease = candidate.lease;
        self.role = Role::Leader(Box::new(leading));
        self.leader = Some(self.id);
        self.timers.clear(Timer::Election);
        self.timers.set(Timer::Resend, now.mono_ns + self.options.resend_ns);
        self.timers.set(Timer::Heartbeat, now.mono_ns + self.options.heartbeat_ns);
        if let Some(teacher) = teacher {
            self.hear_of_chosen(now, teacher, learned_to);
            self.catch_up_due(now);
        }
    }

    /// Sends what is queued, and a heartbeat if one is due.
    pub(crate) fn flush(&mut self, now: Now) {
        let Role::Leader(leading) = &mut self.role else { return };
        let ballot = leading.ballot;
        leading.queue_bytes = 0;
        for command in std::mem::take(&mut leading.queue) {
            put(&mut self.log, &mut self.out, leading.append(now, ballot, Payload::Command(command)));
        }
        let next = leading.next();
        let mut from = leading.unsent;
        if from == next && !leading.heartbeat {
            return;
        }
        let lease = LeaseRequest { start: now.tt.earliest, ns: self.options.lease_ns };
        leading.lease.ask(lease);
        let ranges = if from < next { vec![(from, Slot(next.0 - 1))] } else { Vec::new() };
        let mut batches: Vec<Vec<Entry>> = Vec::new();
        while from < next {
            let batch = self.log.batch(from, Slot(next.0 - 1), self.options.message_bytes_max);
            from = batch.last().expect("every open slot has an entry").slot.next();
            batches.push(batch);
        }
        let chosen = self.hard.chosen;
        for (peer, progress) in &leading.peers {
            let lost = now.mono_ns - progress.heard_ns > self.options.lease_ns.saturating_mul(2);
            if batches.is_empty() || lost {
                // A peer that does not answer is not worth the bytes; it catches up when it is back.
                self.out.send(*peer, Message::Accept { ballot, chosen, lease, entries: Vec::new() });
                continue;
            }
            for batch in &batches {
                self.out.send(*peer, Message::Accept { ballot, chosen, lease, entries: batch.clone() });
            }
        }
        leading.unsent = next;
        leading.heartbeat = false;
        if !leading.flights.is_empty() {
            self.timers.set_if_unset(Timer::Resend, now.mono_ns + self.options.resend_ns);
        }
        self.timers.set(Timer::Heartbeat, now.mono_ns + self.options.heartbeat_ns);
        self.timers.clear(Timer::Notice);
        self.vote(now, self.id, lease);
        let accepted = Message::Accepted { ballot, chosen, lease: Some(lease), ranges };
        self.out.send_synced(self.id, accepted);
    }

    /// A vote for some slots, and for the lease.
    pub(crate) fn on_accepted(
        &mut self,
        now: Now,
        from: NodeId,
        ballot: Ballot,
        chosen: Slot,
        lease: Option<LeaseRequest>,
        ranges: &[(Slot, Slot)],
    ) {
        let Role::Leader(leading) = &mut self.role else { return };
        if leading.ballot != ballot {
            return;
        }
        leading.heard_of(now, from, chosen);
        if let Some(progress) = leading.peers.get_mut(&from) {
            let last = ranges.last().map_or(Slot(0), |(_, last)| *last);
            progress.accepted = progress.accepted.max(last);
        }
        if !self.config.voters.contains(&from) {
            return;
        }
        if let Some(lease) = lease {
            leading.lease.grant(&self.quorum, self.id, from, lease);
        }
        let (first, next) = (leading.first_open, leading.next());
        for (a, b) in ranges {
            for slot in first.max(*a).0..next.0.min(b.0 + 1) {
                let flight = &mut leading.flights[(slot - first.0) as usize];
                self.quorum.add(&mut flight.votes, from);
            }
        }
        self.count(now);
    }

    /// Advances over the slots that a majority has accepted.
    pub(crate) fn count(&mut self, now: Now) {
        let Role::Leader(leading) = &mut self.role else { return };
        while leading.flights.front().is_some_and(|flight| self.quorum.reached(flight.votes)) {
            leading.flights.pop_front();
            leading.first_open = leading.first_open.next();
        }
        let counted = Slot(leading.first_open.0 - 1);
        if self.hard.chosen < leading.learned_to || self.hard.chosen >= counted {
            return;
        }
        self.hard.chosen = counted;
        if leading.flights.is_empty() {
            self.timers.clear(Timer::Resend);
        }
        self.timers.set_if_unset(Timer::Notice, now.mono_ns + CHOSEN_NOTICE_NS.min(self.options.heartbeat_ns));
        self.progressed(now);
    }

    /// Notices that `Start` has been handed out, and tells the caller once the lease is valid.
    pub(crate) fn establish(&mut self, now: Now) {
        let Role::Leader(leading) = &mut self.role else { return };
        if leading.told || self.learner.handed < leading.start {
            return;
        }
        assert_eq!(self.learner.epoch, leading.ballot, "{}: its start was overtaken", self.id);
        leading.established = true;
        if let Some(leadership) = leading.leadership().filter(|l| now.trusted && now.tt.before(l.lease_end)) {
            leading.told = true;
            self.out.event(Event::Leading(leadership));
        }
    }

    pub(crate) fn notice_due(&mut self) {
        if let Role::Leader(leading) = &mut self.role {
            leading.heartbeat = true;
        }
    }

    /// The heartbeat, and the checks whether this leadership still makes sense.
    pub(crate) fn heartbeat_due(&mut self, now: Now) {
        let Role::Leader(leading) = &mut self.role else { return };
        leading.heartbeat = true;
        self.timers.set(Timer::Heartbeat, now.mono_ns + self.options.heartbeat_ns);
        let patience_ns = self.options.election_ns.end;
        if leading.moved.0 != self.hard.chosen {
            leading.moved = (self.hard.chosen, now.mono_ns);
        }
        let stuck = !leading.established && now.mono_ns - leading.moved.1 > patience_ns.saturating_mul(2);
        if now.tt.before(leading.lease.end) {
            leading.lapsed_since_ns = None;
        } else {
            leading.lapsed_since_ns.get_or_insert(now.mono_ns);
        }
        if stuck || leading.lapsed_since_ns.is_some_and(|since_ns| now.mono_ns - since_ns > patience_ns) {
            self.depose(now);
        } else {
            self.outbid(now);
        }
    }

    /// An acceptor has promised a higher ballot: stands again, unless that would cost a lease for nothing.
    pub(crate) fn outbid(&mut self, now: Now) {
        let Role::Leader(leading) = &mut self.role else { return };
        if !leading.outbid || leading.hand_over.is_some() {
            return;
        }
        // An acceptor that has promised more refuses everything of this ballot: it would learn
        // nothing for as long as the leadership lasts.
        let shut_out = now.mono_ns - *leading.outbid_since_ns.get_or_insert(now.mono_ns) > self.options.lease_ns;
        let oldest = leading.flights.front().map(|flight| now.mono_ns - flight.proposed_ns);
        let stalled = oldest.is_some_and(|age_ns| age_ns > self.options.resend_ns.saturating_mul(3));
        let failing = !now.tt.before(leading.lease.end.minus_ns(self.options.lease_ns / 2));
        if !leading.established || stalled || failing || shut_out {
            self.depose(now);
            self.campaign(now, false);
        }
    }

    /// Sends again what some peer has not acknowledged; Prepares too.
    pub(crate) fn resend_due(&mut self, now: Now) {
        match &mut self.role {
            Role::Follower => {}
            Role::Candidate(_) => self.send_prepares(now),
            Role::Leader(leading) => {
                let old_ns = now.mono_ns - self.options.resend_ns;
                let lease = LeaseRequest { start: now.tt.earliest, ns: self.options.lease_ns };
                leading.lease.ask(lease);
                let (ballot, chosen, first) = (leading.ballot, self.hard.chosen, leading.first_open);
                for peer in leading.peers.keys() {
                    let mut bytes = 0;
                    let missing = leading
                        .flights
                        .iter()
                        .zip(first.0..)
                        .filter(|(flight, _)| flight.sent_ns <= old_ns && !self.quorum.has(flight.votes, *peer));
                    let entries: Vec<Entry> = missing
                        .filter_map(|(_, slot)| self.log.get(Slot(slot)))
                        .take_while(|entry| {
                            let fits = bytes == 0;
                            bytes += crate::log::entry_bytes(entry);
                            fits || bytes <= self.options.message_bytes_max
                        })
                        .cloned()
                        .collect();
                    if !entries.is_empty() {
                        self.out.send(*peer, Message::Accept { ballot, chosen, lease, entries });
                    }
                }
                for flight in &mut leading.flights {
                    if flight.sent_ns <= old_ns {
                        flight.sent_ns = now.mono_ns;
                    }
                }
                if !leading.flights.is_empty() {
                    self.timers.set(Timer::Resend, now.mono_ns + self.options.resend_ns);
                }
            }
        }
    }

    /// Ends a leadership that has gone wrong; a hand-over ends it the orderly way.
    pub(crate) fn depose(&mut self, now: Now) {
        let Role::Leader(leading) = std::mem::replace(&mut self.role, Role::Follower) else { return };
        self.leadership_ended(now, leading.ballot);
        if leading.established {
            self.note_used(leading.lease.end);
        } else {
            self.withdraw(now, leading.ballot);
        }
    }

    /// What every end of a leadership has in common.
    pub(crate) fn leadership_ended(&mut self, now: Now, ballot: Ballot) {
        for timer in [Timer::Heartbeat, Timer::Resend, Timer::Notice, Timer::HandOver] {
            self.timers.clear(timer);
        }
        self.leader = None;
        self.reset_election(now);
        self.out.event(Event::Deposed(ballot));
    }

    /// What this leader knows of its peers; empty on others.
    pub fn peer_progress(&self, now: Now) -> Vec<PeerProgress> {
        let Role::Leader(leading) = &self.role else { return Vec::new() };
        let of = |(node, progress): (&NodeId, &Progress)| PeerProgress {
            node: *node,
            chosen: progress.chosen,
            accepted: progress.accepted,
            silent_ns: now.mono_ns - progress.heard_ns,
            lease_end: leading.lease.of(*node),
        };
        leading.peers.iter().map(of).collect()
    }
}

/// An entry of the leader itself goes to its log and its disk like any acceptor's.
fn put(log: &mut Log, out: &mut crate::outbox::Outbox, entry: Entry) {
    log.put(entry.clone());
    out.accept(entry);
}
