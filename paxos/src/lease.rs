//! Timed leases in TrueTime's terms (Spanner paper, section 4.2.1 and appendix A).
//!
//! Problem: a leader that answers reads alone, and assigns timestamps, must know that no other
//! leader does so at the same true time (I5), through pauses, crashes and clocks that differ.
//!
//! Steps:
//! 1. Every Prepare and Accept asks for a lease: `start` = the sender's `TT.now().earliest`, `ns`.
//! 2. A voter that agrees stores `LeaseVote { holder, until }` with `until >= TT.now().latest + ns`
//!    and acknowledges only when that is durable. Until `after(until)` it promises nothing to
//!    any other node.
//! 3. A vote that is acknowledged supports the lease up to `start + ns`. The leader holds it while
//!    `TT.now().latest < end`, where `end` is the largest value that a majority supports. Its own
//!    vote is always one of them: so its own disk bounds what it may have used.
//!
//! ```text
//!  true time  --------------------------------------------------------------------->
//!  leader     start (earliest when asked)......... latest = end: stops
//!  voter            latest when it votes ............. until: earliest > until: may promise again
//!             <--------------- ns ---------------->
//!                   <---------------- ns + margin ------------>
//! ```
//!
//! Disjoint: `start` is no later than the true time of asking, which is before the true time of the
//! vote, so `end <= until`; the leader stops before true time reaches `end`, and a voter of its
//! majority, which every later majority meets, waits until true time has passed `until`.
//!
//! Fewer writes: a vote is stored with a margin of a quarter lease, obeyed as stored, and stored
//! again only when a request reaches beyond it. So an idle group does not sync on each heartbeat.
//!
//! Lies: clocks that break their promise are fenced by others, a moment too late. Three rules, which
//! honest clocks never meet, keep what a leap does in that moment from lasting as long as the leap is wide:
//! - a voter refuses a request that starts in its future, or a lease that is over already: the first would
//!   let a leader that has leapt ahead use timestamps that everybody must wait for, the second would
//!   let a voter that has leapt ahead write down a promise, and so a floor, that lies there;
//! - a leader whose own vote ended long ago does not renew it, but stands for election again, and
//!   is refused (a leader that was stopped for so long has lost its lease as well);
//! - a lease that begins in its holder's future is not used: its clock was set back.
//!
//! Floors: a vote that ends is folded into `lease_floor`, and a promise carries the floor of all
//! earlier votes for *other* nodes. A majority of promises meets every earlier lease, so their
//! maximum is above every timestamp that an earlier leader used. Of its own earlier leaderships a
//! node knows itself: exactly while it runs (`used_end`), by its own stored vote and floor after a restart.
//!
//! Released early: the holder names the largest timestamp that it used, waits it out, and tells the
//! voters, who fold that instead of `until`. A candidate that was never established has used
//! nothing and releases at once, so that a split vote costs no lease.
//!
//! Deviations: the paper's leader asks for lease votes on their own and extends them implicitly by a
//! successful write; here every Accept, heartbeats among them, asks. The paper lets the
//! leader abdicate by releasing its votes; here that is the hand-over and the withdrawal.

use std::collections::BTreeMap;

use truetime::{Guarantee, Now, Timestamp};

use crate::quorum::Quorum;
use crate::replica::Role;
use crate::{Ballot, LeaseRequest, LeaseVote, NodeId, Replica};

/// The margin of a stored vote is the lease divided by this.
const MARGIN_DIVISOR: i64 = 4;

/// What supports the lease of a candidate or leader.
#[derive(Debug)]
pub(crate) struct LeaseBook {
    /// Up to where each voter supports it.
    granted: BTreeMap<NodeId, Timestamp>,
    /// The latest start and the longest length asked for: a grant of more is not of our asking.
    asked: Option<LeaseRequest>,
    /// It may be used while `TT.now().latest` is below this.
    pub(crate) end: Timestamp,
}

impl LeaseBook {
    /// Supported by nobody.
    pub(crate) fn new() -> LeaseBook {
        LeaseBook { granted: BTreeMap::new(), asked: None, end: Timestamp::MIN }
    }

    /// This request goes out.
    pub(crate) fn ask(&mut self, request: LeaseRequest) {
        let asked = self.asked.get_or_insert(request);
        asked.start = asked.start.max(request.start);
        asked.ns = asked.ns.max(request.ns);
    }

    /// A vote that is durable.
    pub(crate) fn grant(&mut self, quorum: &Quorum, own: NodeId, from: NodeId, lease: LeaseRequest) {
        if !self.asked.is_some_and(|asked| lease.start <= asked.start && lease.ns <= asked.ns) {
            return;
        }
        let end = self.granted.entry(from).or_insert(lease.end());
        *end = lease.end().max(*end);
        let supported = quorum.reached_by_majority(|node| self.granted.get(&node).copied());
        if let (Some(supported), Some(own)) = (supported, self.granted.get(&own)) {
            self.end = self.end.max(supported.min(*own));
        }
    }

    /// Up to where one voter supports it.
    pub(crate) fn of(&self, node: NodeId) -> Option<Timestamp> {
        self.granted.get(&node).copied()
    }
}

impl LeaseRequest {
    /// Whether honest clocks can have made it: its `start` is not in the future, and its end not in the past.
    pub(crate) fn is_plausible(&self, now: Now) -> bool {
        self.start <= now.tt.latest && !now.tt.after(self.end())
    }
}

impl Replica {
    /// The vote for another node that forbids a promise to `node`, if it may still hold.
    pub(crate) fn blocking_vote(&self, now: Now, node: NodeId) -> Option<Timestamp> {
        let vote = self.hard.lease.filter(|_| !self.options.sabotage.breaks(Guarantee::OldLeaseOver));
        vote.filter(|vote| vote.holder != node && !now.tt.after(vote.until)).map(|vote| vote.until)
    }

    /// A leader whose clock is so far beyond its own vote that it was stopped for long, or has leapt.
    pub(crate) fn lease_is_long_over(&self, now: Now) -> bool {
        let own = self.hard.lease.filter(|vote| vote.holder == self.id);
        matches!(self.role, Role::Leader(_))
            && own.is_some_and(|vote| now.tt.after(vote.until.plus_ns(self.options.lease_ns)))
    }

    /// Whether a request of `holder` under `ballot` may have this replica's vote.
    pub(crate) fn may_vote(&self, now: Now, holder: NodeId, ballot: Ballot, lease: LeaseRequest) -> bool {
        now.trusted
            && lease.is_plausible(now)
            && self.is_voter()
            && self.released != Some(ballot)
            && self.blocking_vote(now, holder).is_none()
    }

    /// Votes; the caller has checked [`Replica::may_vote`] and acknowledges after the sync only.
    pub(crate) fn vote(&mut self, now: Now, holder: NodeId, lease: LeaseRequest) {
        assert!(self.blocking_vote(now, holder).is_none(), "{}: a second vote while one holds", self.id);
        let needed = now.tt.latest.plus_ns(lease.ns);
        let mut until = needed.plus_ns(lease.ns / MARGIN_DIVISOR);
        match self.hard.lease {
            Some(vote) if vote.holder == holder && !now.tt.after(vote.until) => {
                if vote.until >= needed {
                    return;
                }
                until = until.max(vote.until);
            }
            Some(vote) => self.raise_floor(vote.until),
            None => {}
        }
        self.hard.lease = Some(LeaseVote { holder, until });
        self.out.hard_synced();
    }

    fn raise_floor(&mut self, to: Timestamp) {
        self.hard.lease_floor = Some(self.hard.lease_floor.map_or(to, |floor| floor.max(to)));
    }

    /// `holder` has given its lease back, having used nothing above `used`.
    pub(crate) fn release_vote(&mut self, holder: NodeId, ballot: Ballot, used: Timestamp) {
        self.released = Some(ballot);
        if self.hard.lease.is_some_and(|vote| vote.holder == holder) {
            self.hard.lease = None;
            if used > Timestamp::ZERO {
                self.raise_floor(used);
            }
            // Should this be lost, the old vote is back: that only takes longer.
            self.out.hard_lazily();
        }
    }

    /// A peer's release counts only for the ballot of the vote: a later candidacy of the same node
    /// may have asked for a new one since.
    pub(crate) fn on_release(&mut self, from: NodeId, ballot: Ballot, used: Timestamp) {
        if ballot.node == from && ballot == self.hard.promised {
            self.release_vote(from, ballot, used);
        }
    }

    /// This node used no timestamp above `at`.
    pub(crate) fn note_used(&mut self, at: Timestamp) {
        self.used_end = Some(self.used_end.map_or(at, |used| used.max(at)));
    }

    /// Gives back the votes of a candidacy that used no timestamp, if those of earlier leaderships
    /// of this node have passed.
    pub(crate) fn withdraw(&mut self, now: Now, ballot: Ballot) {
        let used = self.used_end.unwrap_or(Timestamp::ZERO);
        if self.used_end.is_some() && !(now.trusted && now.tt.after(used)) {
            return;
        }
        self.release_vote(self.id, ballot, used);
        for peer in self.other_voters() {
            self.out.send(peer, crate::Message::Release { ballot, used });
        }
    }

    /// How long until `at` has surely passed, in monotonic nanoseconds; a guess, bounded on both sides.
    pub(crate) fn wait_ns(&self, now: Now, at: Timestamp) -> i64 {
        const WAIT_NS_MIN: i64 = 100_000;
        let wait_ns = at.since_ns(now.tt.earliest).saturating_add(1);
        wait_ns.clamp(WAIT_NS_MIN, self.options.lease_ns.saturating_mul(2).max(WAIT_NS_MIN))
    }
}
