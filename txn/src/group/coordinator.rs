//! The coordinator: hears from participants, decides, and answers whoever asks.
//!
//! A transaction that this group knows nothing of cannot commit any more once the group has
//! logged so: `Abort` is the record that settles it against a commit request still on its way. It
//! is logged for a participant that asks in vain, and for a client that asks for the status.

use std::collections::BTreeSet;

use paxos::GroupId;
use truetime::Timestamp;

use super::lead::{Proposal, State};
use super::{Cx, Group, ReplyTo, Result};
use crate::api::{AbortReason, GroupError, Reply, TxnStatus};
use crate::command::Command;
use crate::message::TwoPhase;
use crate::ready::Outgoing;
use crate::types::TxnId;

impl Group {
    /// A participant has prepared, or asks again how it ended.
    pub(super) fn on_prepared(&mut self, cx: &mut Cx, txn: TxnId, from: GroupId, ts: Timestamp) -> Result<()> {
        if self.leading(cx.now).is_err() {
            return Ok(());
        }
        if let Some(commit_ts) = self.outcome(cx, txn)? {
            cx.out.two_phase.push((from, TwoPhase::Decided { txn, from: self.meta.group(), commit_ts }));
            return Ok(());
        }
        if let Some(decision) = self.lead().unacked.get(&txn) {
            let commit_ts = Some(decision.ts);
            cx.out.two_phase.push((from, TwoPhase::Decided { txn, from: self.meta.group(), commit_ts }));
            return Ok(());
        }
        if txn.start() < self.meta.outcomes_before {
            // Its outcome is forgotten, and a commit is kept until every participant has
            // acknowledged it: so it did not commit, and by its age it no longer can.
            cx.out.two_phase.push((from, TwoPhase::Decided { txn, from: self.meta.group(), commit_ts: None }));
            return Ok(());
        }
        let active = self.heard_of(cx, txn);
        match &mut active.state {
            State::Commit(commit) => {
                if commit.participants.contains(&from) {
                    commit.prepared.insert(from, ts);
                    return self.try_commit(cx, txn);
                }
                Ok(())
            }
            State::Aborting { participants, .. } => {
                participants.insert(from);
                Ok(())
            }
            // The commit request may be on its way; see `expire` for when it is not.
            _ => {
                active.acks.insert(from, ts);
                Ok(())
            }
        }
    }

    pub(super) fn on_refused(&mut self, cx: &mut Cx, txn: TxnId, from: GroupId) -> Result<()> {
        if self.leading(cx.now).is_err() || self.outcome(cx, txn)?.is_some() {
            return Ok(());
        }
        let active = self.heard_of(cx, txn);
        match &active.state {
            State::Commit(commit) if commit.ts.is_none() && commit.participants.contains(&from) => {
                self.abort_commit(cx, txn, AbortReason::Participant)
            }
            State::Open => {
                active.refused = true;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    pub(super) fn on_status(&mut self, cx: &mut Cx, to: ReplyTo, txn: TxnId) -> Result<()> {
        if let Err(e) = self.leading(cx.now) {
            cx.out.refuse(to, e);
            return Ok(());
        }
        if let Some(outcome) = self.outcome(cx, txn)? {
            match outcome {
                None => cx.out.reply(to, Reply::Status(TxnStatus::Aborted)),
                Some(ts) => {
                    let reply = Reply::Status(TxnStatus::Committed(ts));
                    self.hold(cx, ts, Outgoing { to: to.node, id: to.id, reply, lease_end: None });
                }
            }
            return Ok(());
        }
        if self.prepared.contains_key(&txn) {
            let why = "this group has prepared the transaction and waits for its coordinator";
            cx.out.refuse(to, GroupError::Unavailable(why.into()));
            return Ok(());
        }
        if txn.start() < self.meta.outcomes_before {
            cx.out.reply(to, Reply::Status(TxnStatus::Unknown));
            return Ok(());
        }
        let active = self.heard_of(cx, txn);
        active.asked.push(to);
        match &mut active.state {
            State::Open => {
                let participants = active.acks.keys().copied().collect();
                self.decide_abort(cx, txn, Vec::new(), participants, AbortReason::GivenUp)
            }
            State::Commit(commit) if commit.ts.is_none() => self.abort_commit(cx, txn, AbortReason::GivenUp),
            State::Prepare(prepare) if prepare.ts.is_none() => {
                self.refuse_prepare(cx, txn, AbortReason::GivenUp)?;
                self.decide_abort(cx, txn, Vec::new(), BTreeSet::new(), AbortReason::GivenUp)
            }
            // Being replicated: the answer comes when it is decided.
            State::Commit(_) | State::Aborting { .. } | State::Deciding => Ok(()),
            State::Prepare(_) | State::Prepared { .. } => {
                active.asked.pop();
                let why = "this group is a participant and waits for its coordinator";
                cx.out.refuse(to, GroupError::Unavailable(why.into()));
                Ok(())
            }
        }
    }

    /// Logs that the transaction can never commit. `reply` and the participants are told once that
    /// is certain. Without participants nobody else can be prepared, and nothing need be logged
    /// unless somebody asked for the status.
    pub(super) fn decide_abort(
        &mut self,
        cx: &mut Cx,
        txn: TxnId,
        reply: Vec<ReplyTo>,
        participants: BTreeSet<GroupId>,
        reason: AbortReason,
    ) -> Result<()> {
        let lead = self.lead();
        let Some(active) = lead.txns.get_mut(&txn) else { return Ok(()) };
        let mut participants = participants;
        participants.extend(active.acks.keys().copied());
        lead.stalled.remove(&txn);
        self.aborts += 1;
        let active = self.lead().txns.get_mut(&txn).expect("looked up above");
        if participants.is_empty() && active.asked.is_empty() {
            active.state = State::Open;
            active.doomed = Some(reason);
            for to in reply {
                cx.out.refuse(to, GroupError::Aborted(reason));
            }
            return self.unlock(cx, txn);
        }
        active.state = State::Aborting { reply, reason, participants };
        active.doomed = Some(reason);
        self.unlock(cx, txn)?;
        self.lead().stalled.insert(txn);
        self.try_abort(cx, txn);
        Ok(())
    }

    pub(super) fn try_abort(&mut self, cx: &mut Cx, txn: TxnId) {
        if self.leading(cx.now).is_err() || !self.has_room() {
            return;
        }
        if self.propose(cx, &Command::Abort { txn }, Proposal::Abort(txn)).is_ok() {
            self.lead().stalled.remove(&txn);
        }
    }

    pub(super) fn abort_chosen(&mut self, cx: &mut Cx, txn: TxnId) {
        let Some(active) = self.lead().txns.remove(&txn) else { return };
        let State::Aborting { reply, reason, participants } = active.state else {
            unreachable!("{txn}: only a transaction being aborted is proposed as aborted");
        };
        for to in reply {
            cx.out.refuse(to, GroupError::Aborted(reason));
        }
        for to in active.asked {
            cx.out.reply(to, Reply::Status(TxnStatus::Aborted));
        }
        self.tell_participants(cx, txn, &participants, None);
    }
}
