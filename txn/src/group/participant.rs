//! A participant: prepares, and then does what the coordinator decided.
//!
//! Once prepared it keeps its locks, over any change of leader, until it knows the decision. It
//! asks for it again and again, so it is never blocked for ever (I9).

use std::collections::BTreeSet;

use paxos::{Ballot, GroupId};
use truetime::{Guarantee, Timestamp};

use super::commit::{PrepareState, write_locks};
use super::lead::{Active, Proposal, State, Waiting};
use super::{Cx, Group, ReplyTo, Result};
use crate::api::{AbortReason, GroupError, Reply};
use crate::command::{Command, PreparedTxn};
use crate::message::TwoPhase;
use crate::types::{Mutation, Priority, Span, TxnId};

/// A prepare, as asked.
#[derive(Debug)]
pub(super) struct PrepareRequest {
    pub txn: TxnId,
    pub priority: Priority,
    pub leadership: Option<Ballot>,
    pub writes: Vec<Mutation>,
    pub coordinator: GroupId,
}

impl Group {
    pub(super) fn on_prepare(&mut self, cx: &mut Cx, to: ReplyTo, request: PrepareRequest) -> Result<()> {
        if let Err(e) = self.leading(cx.now) {
            cx.out.refuse(to, e);
            return Ok(());
        }
        let txn = request.txn;
        if let Some(outcome) = self.outcome(cx, txn)? {
            match outcome {
                // Decided long ago: the coordinator has told the gateway, or will.
                Some(ts) => cx.out.reply(to, Reply::Prepared { prepare_ts: ts, lock_wait_ns: 0, replicate_ns: 0 }),
                None => {
                    cx.out.refuse(to, GroupError::Aborted(AbortReason::GivenUp));
                    self.tell_refused(cx, txn, request.coordinator, AbortReason::GivenUp);
                }
            }
            return Ok(());
        }
        if let Some(prepared) = self.prepared.get(&txn) {
            let prepare_ts = prepared.prepare_ts;
            cx.out.reply(to, Reply::Prepared { prepare_ts, lock_wait_ns: 0, replicate_ns: 0 });
            return Ok(());
        }
        if let Some(active) = self.lead().txns.get_mut(&txn) {
            match &mut active.state {
                State::Prepare(prepare) => {
                    prepare.reply.push(to);
                    return Ok(());
                }
                State::Open => {}
                State::Aborting { .. } => {
                    cx.out.refuse(to, GroupError::Aborted(AbortReason::GivenUp));
                    return Ok(());
                }
                State::Commit(_) | State::Prepared { .. } | State::Deciding => {
                    cx.out.refuse(to, GroupError::Invalid("this group is the coordinator".into()));
                    return Ok(());
                }
            }
        }
        let spans: Vec<Span> = request.writes.iter().map(|m| Span::point(m.key.clone())).collect();
        if let Some(e) = self.out_of_bounds(spans.iter()) {
            cx.out.refuse(to, e);
            return Ok(());
        }
        if let Err(e) = self.enter(cx, txn, request.priority, request.leadership) {
            if let GroupError::Aborted(reason) = e {
                self.tell_refused(cx, txn, request.coordinator, reason);
            }
            cx.out.refuse(to, e);
            return Ok(());
        }
        let token = self.enqueue(Waiting::Prepare(txn));
        let lead = self.lead();
        let locks = write_locks(&request.writes);
        lead.txns.get_mut(&txn).expect("entered above").state = State::Prepare(Box::new(PrepareState {
            reply: vec![to],
            writes: request.writes,
            coordinator: request.coordinator,
            arrived_ns: cx.now.mono_ns,
            locked_ns: None,
            ts: None,
        }));
        let effects = lead.locks.acquire(txn, request.priority, locks, token);
        let granted = effects.granted.contains(&token);
        if granted {
            lead.waiting.remove(&token);
        }
        self.effects(cx, effects, Some(token))?;
        if granted {
            self.prepare_locked(cx, txn);
        }
        Ok(())
    }

    pub(super) fn prepare_locked(&mut self, cx: &mut Cx, txn: TxnId) {
        let Some(active) = self.lead().txns.get_mut(&txn) else { return };
        let State::Prepare(prepare) = &mut active.state else { return };
        prepare.locked_ns.get_or_insert(cx.now.mono_ns);
        self.try_prepare(cx, txn);
    }

    /// Logs the prepare record, if the locks are held and there is a timestamp within the lease.
    ///
    /// The timestamp is `TT.now().latest` and not just above the last one: a prepared transaction
    /// holds back every read above its prepare timestamp, so a larger one holds back fewer.
    pub(super) fn try_prepare(&mut self, cx: &mut Cx, txn: TxnId) {
        let leadership = self.leading(cx.now);
        let room = self.has_room();
        let (early, wounded) = (self.breaks(Guarantee::PrepareDurable), self.breaks(Guarantee::PreparedIsSafe));
        let lead = self.lead();
        let Some(active) = lead.txns.get(&txn) else { return };
        let State::Prepare(prepare) = &active.state else { return };
        if prepare.ts.is_some() || prepare.locked_ns.is_none() {
            return;
        }
        lead.stalled.insert(txn);
        let Ok(leadership) = leadership else { return };
        if !room {
            return;
        }
        let Some(ts) = lead.ts.assign(cx.now.tt.latest, leadership.lease_end) else { return };
        let coordinator = prepare.coordinator;
        let command = Command::Prepare(PreparedTxn {
            txn,
            priority: active.priority,
            prepare_ts: ts,
            coordinator: prepare.coordinator,
            writes: prepare.writes.clone(),
            locks: lead.locks.held_by(txn),
        });
        if self.propose(cx, &command, Proposal::Prepare(txn)).is_err() {
            return;
        }
        let lead = self.lead();
        lead.stalled.remove(&txn);
        if !wounded {
            lead.locks.protect(txn);
        }
        let Some(State::Prepare(prepare)) = lead.txns.get_mut(&txn).map(|a| &mut a.state) else { return };
        prepare.ts = Some(ts);
        if early {
            let reply = Reply::Prepared { prepare_ts: ts, lock_wait_ns: 0, replicate_ns: 0 };
            prepare.reply.iter().for_each(|to| cx.out.reply(*to, reply.clone()));
            let body = TwoPhase::Prepared { txn, from: self.meta.group(), prepare_ts: ts };
            cx.out.two_phase.push((coordinator, body));
        }
    }

    /// The prepare record is chosen and applied.
    pub(super) fn prepare_chosen(&mut self, cx: &mut Cx, txn: TxnId) {
        let Some(active) = self.lead().txns.get_mut(&txn) else { return };
        let state = std::mem::replace(&mut active.state, State::Prepared { asked_ns: cx.now.mono_ns });
        let State::Prepare(prepare) = state else { unreachable!("only a prepare is proposed as one") };
        let locked = prepare.locked_ns.unwrap_or(cx.now.mono_ns);
        let reply = Reply::Prepared {
            prepare_ts: prepare.ts.expect("proposed with a timestamp"),
            lock_wait_ns: locked - prepare.arrived_ns,
            replicate_ns: cx.now.mono_ns - locked,
        };
        for to in prepare.reply {
            cx.out.reply(to, reply.clone());
        }
        self.tell_prepared(cx, txn);
    }

    /// Tells the coordinator, and so asks it for the decision.
    pub(super) fn tell_prepared(&self, cx: &mut Cx, txn: TxnId) {
        let Some(prepared) = self.prepared.get(&txn) else { return };
        let from = self.meta.group();
        let body = TwoPhase::Prepared { txn, from, prepare_ts: prepared.prepare_ts };
        cx.out.two_phase.push((prepared.coordinator, body));
    }

    pub(super) fn tell_refused(&self, cx: &mut Cx, txn: TxnId, coordinator: GroupId, reason: AbortReason) {
        let from = self.meta.group();
        cx.out.two_phase.push((coordinator, TwoPhase::Refused { txn, from, reason }));
    }

    /// A prepare that is not proposed yet will not be.
    pub(super) fn refuse_prepare(&mut self, cx: &mut Cx, txn: TxnId, reason: AbortReason) -> Result<()> {
        let lead = self.lead();
        let Some(active) = lead.txns.get_mut(&txn) else { return Ok(()) };
        let State::Prepare(prepare) = std::mem::replace(&mut active.state, State::Open) else {
            unreachable!("the caller saw a prepare");
        };
        active.doomed = Some(reason);
        lead.stalled.remove(&txn);
        for to in prepare.reply {
            cx.out.refuse(to, GroupError::Aborted(reason));
        }
        self.tell_refused(cx, txn, prepare.coordinator, reason);
        self.unlock(cx, txn)
    }

    /// The coordinator's decision has arrived.
    pub(super) fn on_decided(
        &mut self,
        cx: &mut Cx,
        txn: TxnId,
        coordinator: GroupId,
        commit_ts: Option<Timestamp>,
    ) -> Result<()> {
        if self.leading(cx.now).is_err() {
            return Ok(());
        }
        if commit_ts.is_some() && !self.prepared.contains_key(&txn) {
            // Applied before: the coordinator may stop telling.
            self.acknowledge(cx, coordinator, txn);
        }
        if let (Some(ts), Some(prepared)) = (commit_ts, self.prepared.get(&txn))
            && ts < prepared.prepare_ts
        {
            // No coordinator of ours decides so: a peer's nonsense must not reach the log.
            cx.out.notes.push(format!("{}: {txn} was said to commit below its prepare timestamp", self.meta.group()));
            return Ok(());
        }
        let Some(active) = self.lead().txns.get(&txn) else { return Ok(()) };
        match &active.state {
            State::Prepared { .. } => {
                if !self.has_room() {
                    // It is asked for again.
                    return Ok(());
                }
                let command = Command::Decide { txn, commit_ts };
                if self.propose(cx, &command, Proposal::Decide(txn, coordinator, commit_ts)).is_ok() {
                    let lead = self.lead();
                    if let Some(ts) = commit_ts {
                        lead.ts.observe(ts);
                    }
                    lead.txns.get_mut(&txn).expect("looked up above").state = State::Deciding;
                }
                Ok(())
            }
            // It never prepared, and now never will.
            State::Prepare(prepare) if commit_ts.is_none() && prepare.ts.is_none() => {
                self.refuse_prepare(cx, txn, AbortReason::Participant)
            }
            State::Open if commit_ts.is_none() => self.give_up(cx, txn),
            _ => Ok(()),
        }
    }

    /// The decision is chosen and applied here.
    pub(super) fn decide_chosen(
        &mut self,
        cx: &mut Cx,
        txn: TxnId,
        coordinator: GroupId,
        commit_ts: Option<Timestamp>,
    ) {
        match commit_ts {
            Some(ts) => {
                self.lead().waits.insert((ts, txn));
                self.acknowledge(cx, coordinator, txn);
            }
            None => {
                // Its locks may go at once; a timestamp that has passed does that.
                self.lead().waits.insert((Timestamp::MIN, txn));
            }
        }
    }

    /// A message of two-phase commit.
    pub fn two_phase(&mut self, cx: &mut Cx, body: TwoPhase) -> Result<()> {
        match body {
            TwoPhase::Prepared { txn, from, prepare_ts } => self.on_prepared(cx, txn, from, prepare_ts),
            TwoPhase::Refused { txn, from, .. } => self.on_refused(cx, txn, from),
            TwoPhase::Decided { txn, from, commit_ts } => self.on_decided(cx, txn, from, commit_ts),
            TwoPhase::Acknowledged { txn, from } => {
                self.on_acknowledged(cx, txn, from);
                Ok(())
            }
        }
    }

    pub(super) fn tell_participants(
        &self,
        cx: &mut Cx,
        txn: TxnId,
        participants: &BTreeSet<GroupId>,
        commit_ts: Option<Timestamp>,
    ) {
        for group in participants {
            let from = self.meta.group();
            cx.out.two_phase.push((*group, TwoPhase::Decided { txn, from, commit_ts }));
        }
    }

    fn acknowledge(&self, cx: &mut Cx, coordinator: GroupId, txn: TxnId) {
        cx.out.two_phase.push((coordinator, TwoPhase::Acknowledged { txn, from: self.meta.group() }));
    }

    /// A participant has applied a commit decision.
    fn on_acknowledged(&mut self, cx: &mut Cx, txn: TxnId, from: GroupId) {
        if self.leading(cx.now).is_err() {
            return;
        }
        let lead = self.lead();
        let Some(decision) = lead.unacked.get_mut(&txn) else { return };
        decision.participants.remove(&from);
        if decision.participants.is_empty() {
            lead.unacked.remove(&txn);
            lead.acknowledged.insert(txn);
        }
    }

    /// The entry for a transaction that this group first hears of from another group.
    pub(super) fn heard_of(&mut self, cx: &Cx, txn: TxnId) -> &mut Active {
        let priority = Priority { start: txn.start(), id: txn };
        self.lead().txns.entry(txn).or_insert_with(|| Active::new(priority, cx.now))
    }
}
