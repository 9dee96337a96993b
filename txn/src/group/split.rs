//! Splitting the range: a log record that every replica applies at the same slot, and that moves
//! no bytes.
//!
//! Before the leader proposes it, nothing may hold or wait for locks in the new range: open
//! transactions there are aborted, those prepared or being replicated are waited for, and new
//! requests are turned away for the moment. The record's timestamp is above everything the old
//! group has used for these keys, and the new group's first leader starts above it.

use paxos::{GroupId, NodeId};

use super::lead::Proposal;
use super::{Cx, Group, ReplyTo, Result};
use crate::api::{AbortReason, GroupError};
use crate::command::Command;
use crate::types::{Key, Span};

/// A split that is being prepared.
#[derive(Debug)]
pub(super) struct Splitting {
    pub to: ReplyTo,
    pub at: Key,
    pub new_group: GroupId,
    pub leader: NodeId,
    /// Given up then, on the monotonic clock.
    pub until_ns: i64,
    pub proposed: bool,
}

/// How long a split waits for prepared transactions in the new range, in nanoseconds.
const SPLIT_WAIT_NS: i64 = 10_000_000_000;

impl Group {
    pub(super) fn on_split(
        &mut self,
        cx: &mut Cx,
        to: ReplyTo,
        at: Key,
        new_group: GroupId,
        leader: NodeId,
    ) -> Result<()> {
        if let Err(e) = self.leading(cx.now) {
            cx.out.refuse(to, e);
            return Ok(());
        }
        let range = &self.meta.range.span;
        let error = if !range.contains(&at) {
            Some(self.wrong_range())
        } else if range.start == at {
            Some(GroupError::Invalid("a range already starts at this key".into()))
        } else if new_group <= self.meta.group() || !self.meta.config.voters.contains(&leader) {
            Some(GroupError::Invalid("the new group's number or leader is not valid".into()))
        } else if self.lead().splitting.is_some() {
            Some(GroupError::Unavailable("another split of this range is under way".into()))
        } else {
            None
        };
        match error {
            Some(e) => cx.out.refuse(to, e),
            None => {
                let until_ns = cx.now.mono_ns + SPLIT_WAIT_NS;
                self.lead().splitting = Some(Splitting { to, at, new_group, leader, until_ns, proposed: false });
            }
        }
        Ok(())
    }

    /// Why these spans cannot be locked or written here now: they are not this group's, or are being
    /// split off.
    pub(super) fn out_of_bounds<'s>(&self, spans: impl Iterator<Item = &'s Span> + Clone) -> Option<GroupError> {
        if !self.covers(spans.clone()) {
            return Some(self.wrong_range());
        }
        self.split_in_the_way(spans)
    }

    /// Whether a split under way forbids these spans for the moment.
    pub(super) fn split_in_the_way<'s>(&self, mut spans: impl Iterator<Item = &'s Span>) -> Option<GroupError> {
        let splitting = self.lead.as_ref()?.splitting.as_ref()?;
        let right = Span { start: splitting.at.clone(), end: self.meta.range.span.end.clone() };
        spans.any(|s| s.overlaps(&right)).then(|| GroupError::Unavailable("the range is being split".into()))
    }

    /// Goes on with a split, as far as locks allow.
    pub(super) fn try_split(&mut self, cx: &mut Cx) -> Result<bool> {
        let Some(lead) = &self.lead else { return Ok(false) };
        let Some(splitting) = &lead.splitting else { return Ok(false) };
        if splitting.proposed {
            if !lead.inflight.values().any(|p| matches!(p.what, Proposal::Split(_))) {
                self.lead().splitting = None;
                return Ok(true);
            }
            return Ok(false);
        }
        let Ok(leadership) = self.leading(cx.now) else { return Ok(false) };
        if cx.now.mono_ns >= splitting.until_ns {
            let to = splitting.to;
            self.lead().splitting = None;
            cx.out.refuse(to, GroupError::Unavailable("transactions in the new range do not end".into()));
            return Ok(true);
        }
        let right = Span { start: splitting.at.clone(), end: self.meta.range.span.end.clone() };
        for txn in lead.locks.owners_in(&right) {
            self.doom(cx, txn, AbortReason::Split)?;
        }
        let room = self.has_room();
        let lead = self.lead();
        if !lead.locks.owners_in(&right).is_empty() || !room {
            return Ok(false);
        }
        let Some(ts) = lead.ts.assign(cx.now.tt.latest, leadership.lease_end) else { return Ok(false) };
        let Some(splitting) = &mut lead.splitting else { return Ok(false) };
        let to = splitting.to;
        let command =
            Command::Split { at: splitting.at.clone(), new_group: splitting.new_group, leader: splitting.leader, ts };
        splitting.proposed = true;
        if self.propose(cx, &command, Proposal::Split(to)).is_err() {
            self.lead().splitting = None;
            cx.out.refuse(to, GroupError::Unavailable("too many proposals in flight".into()));
        }
        Ok(true)
    }
}
