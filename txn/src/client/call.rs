//! One request to one group, sent until it is answered.
//!
//! A refusal that says "nothing was done" is followed by another try, at the node that it names or
//! at the next one, after a pause that grows. So is silence, but then nobody knows whether the
//! request was executed: only requests that are safe to repeat go through here. Every copy has
//! its own number; all of them are remembered, because a late answer to an early copy may be
//! final.
//!
//! Silence is cut short when the gateway learns that another node leads the group now: a leader that was
//! killed or cut off never answers, and its successor is known long before `request_timeout_ns` is over.

use std::collections::BTreeSet;

use paxos::{GroupId, NodeId};
use truetime::Now;

use crate::api::{GroupError, Request, RequestBody};

use super::gateway::{Advice, Gateway};

/// A request and its tries.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub group: GroupId,
    body: RequestBody,
    /// A fixed node, or the leader.
    node: Option<NodeId>,
    flight: Option<Flight>,
    sent: BTreeSet<u64>,
    not_before_ns: i64,
    attempts: u32,
    finished: bool,
    /// A copy got no answer: it may have been executed.
    pub unanswered: bool,
}

#[derive(Clone, Copy, Debug)]
struct Flight {
    id: u64,
    node: NodeId,
    deadline_ns: i64,
    /// When to look whether the node leads still; never for a fixed node.
    look_ns: i64,
}

impl Call {
    /// A call that is sent by the next [`Call::poll`].
    pub fn new(group: GroupId, body: RequestBody, node: Option<NodeId>) -> Call {
        Call {
            group,
            body,
            node,
            flight: None,
            sent: BTreeSet::new(),
            not_before_ns: i64::MIN,
            attempts: 0,
            finished: false,
            unanswered: false,
        }
    }

    /// Whether one of its copies has this number.
    pub fn owns(&self, id: u64) -> bool {
        self.sent.contains(&id)
    }

    /// Whether a copy waits for its answer.
    pub fn in_flight(&self) -> bool {
        self.flight.is_some()
    }

    /// No more tries.
    pub fn finish(&mut self) {
        self.finished = true;
        self.flight = None;
    }

    /// Sends what is due. Says whether a copy was given up as lost.
    pub fn poll(&mut self, now: Now, gw: &mut Gateway, sends: &mut Vec<(NodeId, Request)>) -> bool {
        let overdue = self.flight.is_some_and(|flight| flight.deadline_ns <= now.mono_ns);
        if overdue {
            self.lost(now, gw);
        }
        let moved = self.moved(now, gw);
        if !self.finished && self.flight.is_none() && self.not_before_ns <= now.mono_ns {
            let id = gw.request_id();
            let node = self.node.unwrap_or_else(|| gw.router.leader(self.group));
            let deadline_ns = now.mono_ns.saturating_add(gw.options.request_timeout_ns);
            let look_ns = if self.node.is_some() { i64::MAX } else { gw.look_at_ns(now) };
            self.flight = Some(Flight { id, node, deadline_ns, look_ns });
            self.sent.insert(id);
            sends.push((node, Request { id, group: self.group, body: self.body.clone() }));
        }
        overdue || moved
    }

    /// Gives the present copy up if another node leads the group now. The next one is sent by the next poll:
    /// the caller may not want it any more.
    fn moved(&mut self, now: Now, gw: &Gateway) -> bool {
        let Some(flight) = &mut self.flight else { return false };
        if flight.look_ns > now.mono_ns {
            return false;
        }
        flight.look_ns = gw.look_at_ns(now);
        if !gw.leads_elsewhere(self.group, flight.node) {
            return false;
        }
        self.flight = None;
        self.unanswered = true;
        self.not_before_ns = now.mono_ns.saturating_add(1);
        true
    }

    /// The copy got no answer. Says whether it was the present one.
    pub fn send_failed(&mut self, now: Now, gw: &mut Gateway, id: u64) -> bool {
        let present = self.flight.is_some_and(|flight| flight.id == id);
        if present {
            self.lost(now, gw);
        }
        present
    }

    fn lost(&mut self, now: Now, gw: &mut Gateway) {
        let Some(flight) = self.flight.take() else { return };
        gw.router.note_failure(self.group, flight.node);
        self.unanswered = true;
        self.attempts += 1;
        self.not_before_ns = now.mono_ns.saturating_add(gw.pause_ns(Advice::Later, self.attempts, flight.id));
    }

    /// Takes in a refusal: learns, and plans another try if that makes sense. Says if it does not:
    /// then the refusal is the answer. A refusal of an early copy is no news.
    pub fn refused(&mut self, now: Now, gw: &mut Gateway, id: u64, error: &GroupError) -> bool {
        let present = self.flight.is_some_and(|flight| flight.id == id);
        let Some(flight) = self.flight.filter(|_| present) else {
            return matches!(error, GroupError::Aborted(_));
        };
        let advice = gw.learn(self.group, flight.node, error);
        if advice == Advice::GiveUp {
            return true;
        }
        self.flight = None;
        self.attempts += 1;
        self.not_before_ns = now.mono_ns.saturating_add(gw.pause_ns(advice, self.attempts, id));
        false
    }

    /// An answer that makes no sense: as if there were none.
    pub fn garbled(&mut self, now: Now, gw: &mut Gateway, id: u64) {
        self.send_failed(now, gw, id);
    }

    /// When something is due.
    pub fn wake_at_ns(&self) -> Option<i64> {
        match (self.finished, self.flight) {
            (true, _) => None,
            (_, Some(flight)) => Some(flight.deadline_ns.min(flight.look_ns)),
            _ => Some(self.not_before_ns),
        }
    }
}
