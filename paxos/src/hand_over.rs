//! Giving leadership up gracefully, so that a restart of a node costs a round trip and not a lease.
//!
//! Steps: the caller names the largest timestamp that it has used; the leader takes no more commands,
//! waits until every open slot is chosen and until that timestamp has surely passed (I5), gives its own
//! lease vote back, tells the other voters to do the same, and asks the heir to stand at once.
//!
//! ```text
//!   leader   HandOver(used) .. drained, after(used) | Release ---> voters: vote gone, floor >= used
//!                                                   | TimeoutNow -> heir: the same, then phase 1
//! ```
//!
//! Invariant: after the release this node neither leads nor asks for votes under that ballot; a late
//! Accept of it finds no vote (`released`). If the wait takes longer than a lease, nothing is released
//! and the votes run out by themselves.
//!
//! Deviation: the paper (4.2.1) has the leader release its votes after `after(s_max)`; naming an heir is ours.

use truetime::{Now, Timestamp};

use crate::leader::HandOver;
use crate::replica::Role;
use crate::timer::Timer;
use crate::{Message, NodeId, Replica};

impl Replica {
    /// The caller wants to lead no longer.
    pub(crate) fn hand_over(&mut self, now: Now, to: Option<NodeId>, used: Timestamp) {
        let Role::Leader(leading) = &mut self.role else { return };
        if !leading.established || !now.trusted {
            self.depose(now);
            return;
        }
        if leading.hand_over.is_none() {
            let deadline_ns = now.mono_ns + self.options.lease_ns;
            let used = self.used_end.map_or(used, |before| before.max(used));
            leading.hand_over = Some(HandOver { to, used, deadline_ns });
        }
        self.hand_over_due(now);
    }

    /// Finishes a hand-over when it can, or waits on.
    pub(crate) fn hand_over_due(&mut self, now: Now) {
        /// How often to look whether the open slots are chosen.
        const POLL_NS: i64 = 1_000_000;
        let Role::Leader(leading) = &self.role else { return };
        let Some(HandOver { to, used, deadline_ns }) = leading.hand_over else { return };
        let late = now.mono_ns >= deadline_ns;
        let passed = now.tt.after(used);
        if passed && (leading.drained() || late) {
            self.release_leadership(now, to, used);
        } else if late {
            self.depose(now);
        } else {
            let wait_ns = if passed { POLL_NS } else { self.wait_ns(now, used) };
            self.timers.set(Timer::HandOver, now.mono_ns + wait_ns);
        }
    }

    fn release_leadership(&mut self, now: Now, to: Option<NodeId>, used: Timestamp) {
        let Role::Leader(leading) = std::mem::replace(&mut self.role, Role::Follower) else { return };
        let ballot = leading.ballot;
        self.note_used(used);
        // Earlier leaders may have used more than this one: its floor goes on.
        let floor = used.max(leading.floor);
        self.leadership_ended(now, ballot);
        self.release_vote(self.id, ballot, floor);
        let voters = self.other_voters();
        let advance = |node: &NodeId| leading.peers.get(node).map(|p| (p.accepted, p.chosen, p.heard_ns));
        let heir = match to.filter(|node| voters.contains(node)) {
            Some(node) => Some(node),
            None => voters.iter().copied().max_by_key(advance),
        };
        for peer in voters {
            let message = match heir == Some(peer) {
                true => Message::TimeoutNow { ballot, used: floor },
                false => Message::Release { ballot, used: floor },
            };
            self.out.send(peer, message);
        }
        // The heir comes first.
        self.timers.set(Timer::Election, now.mono_ns + self.options.election_ns.end);
    }
}
