//! Commit at the group that decides: the only participant, or the coordinator of several.
//!
//! ```text
//!   arrived -- lock wait --> locked -- prepare --> all prepared -- replicate --> chosen
//!           -- rest of the commit wait --> TT.after(s) -- apply --> answered
//! ```
//!
//! The timestamp is at least `TT.now().latest` *as the request arrived* (4.1.2, start rule) and at
//! least every prepare timestamp, so the wait runs while the participants prepare and the record
//! is replicated.
//!
//! A commit may have a deadline: whoever asks for it rests on something (the schema) that is known to hold
//! up to then. The timestamp is chosen here and nowhere else, so here is where the deadline is kept: as the
//! record is about to be proposed, and not before, because locks, participants and the lease may all be
//! waited for. The timestamps of a leader only grow: once the next one would be too late, all are.

use std::collections::{BTreeMap, BTreeSet};

use paxos::{Ballot, GroupId, Leadership};
use truetime::{Guarantee, Now, Timestamp};

use super::lead::{Proposal, State, Waiting};
use super::{Cx, Group, ReplyTo, Result, until_after};
use crate::api::{AbortReason, CommitTiming, GroupError, Reply, TxnStatus};
use crate::command::Command;
use crate::ready::Outgoing;
use crate::types::{LockMode, Mutation, Priority, Span, TxnId};

/// A commit, as asked.
#[derive(Debug)]
pub(super) struct CommitRequest {
    pub txn: TxnId,
    pub priority: Priority,
    pub leadership: Option<Ballot>,
    pub writes: Vec<Mutation>,
    pub participants: Vec<GroupId>,
    pub deadline: Option<Timestamp>,
}

/// A commit under way at the group that decides.
#[derive(Debug)]
pub(super) struct CommitState {
    /// Who is to be answered: every copy of the request.
    pub reply: Vec<ReplyTo>,
    pub writes: Vec<Mutation>,
    pub participants: BTreeSet<GroupId>,
    /// No timestamp after this.
    pub deadline: Option<Timestamp>,
    /// Prepare timestamps of those that have prepared.
    pub prepared: BTreeMap<GroupId, Timestamp>,
    /// `TT.now().latest` as the request arrived.
    pub arrived_latest: Timestamp,
    pub arrived_ns: i64,
    pub locked_ns: Option<i64>,
    /// When the last participant had prepared.
    pub prepared_ns: Option<i64>,
    /// Assigned as the record is proposed: from then on only the log decides.
    pub ts: Option<Timestamp>,
    pub chosen_ns: Option<i64>,
    /// When the timestamp will surely have passed, as foreseen when the record was chosen.
    pub passed_ns: i64,
}

impl CommitState {
    /// Its timestamp will not be below this, as far as is known.
    fn at_least(&self) -> Timestamp {
        self.prepared.values().copied().fold(self.arrived_latest, Timestamp::max)
    }

    /// Where the time went, if it is answered now.
    pub fn timing(&self, now: Now) -> CommitTiming {
        let locked = self.locked_ns.unwrap_or(now.mono_ns);
        let prepared = self.prepared_ns.unwrap_or(locked).max(locked);
        let chosen = self.chosen_ns.unwrap_or(now.mono_ns);
        let passed = self.passed_ns.clamp(chosen, now.mono_ns.max(chosen));
        CommitTiming {
            lock_wait_ns: locked - self.arrived_ns,
            prepare_ns: prepared - locked,
            replicate_ns: chosen - prepared,
            commit_wait_ns: passed - chosen,
            apply_ns: now.mono_ns - passed,
            total_ns: now.mono_ns - self.arrived_ns,
        }
    }
}

/// A prepare under way at a participant.
#[derive(Debug)]
pub(super) struct PrepareState {
    pub reply: Vec<ReplyTo>,
    pub writes: Vec<Mutation>,
    pub coordinator: GroupId,
    pub arrived_ns: i64,
    pub locked_ns: Option<i64>,
    /// Assigned as the record is proposed.
    pub ts: Option<Timestamp>,
}

/// The exclusive locks that writes need.
pub(super) fn write_locks(writes: &[Mutation]) -> Vec<(Span, LockMode)> {
    writes.iter().map(|m| (Span::point(m.key.clone()), LockMode::Exclusive)).collect()
}

impl Group {
    pub(super) fn on_commit(&mut self, cx: &mut Cx, to: ReplyTo, request: CommitRequest) -> Result<()> {
        if let Err(e) = self.leading(cx.now) {
            cx.out.refuse(to, e);
            return Ok(());
        }
        let txn = request.txn;
        // A repeated request gets the first answer (I10).
        if let Some(outcome) = self.outcome(cx, txn)?
            && !self.breaks(Guarantee::CommitOnce)
        {
            self.answer_outcome(cx, to, txn, outcome);
            return Ok(());
        }
        if let Some(active) = self.lead().txns.get_mut(&txn) {
            active.heard_ns = cx.now.mono_ns;
            match &mut active.state {
                State::Commit(commit) => {
                    commit.reply.push(to);
                    return Ok(());
                }
                State::Aborting { reply, .. } => {
                    reply.push(to);
                    return Ok(());
                }
                State::Open => {}
                State::Prepare(_) | State::Prepared { .. } | State::Deciding => {
                    cx.out.refuse(to, GroupError::Invalid("this group is a participant, not the coordinator".into()));
                    return Ok(());
                }
            }
        }
        let participants: BTreeSet<GroupId> =
            request.participants.iter().copied().filter(|g| *g != self.meta.group()).collect();
        let spans: Vec<Span> = request.writes.iter().map(|m| Span::point(m.key.clone())).collect();
        if let Some(e) = self.out_of_bounds(spans.iter()) {
            cx.out.refuse(to, e);
            return Ok(());
        }
        if let Err(e) = self.enter(cx, txn, request.priority, request.leadership) {
            match e {
                GroupError::Aborted(reason) if !participants.is_empty() => {
                    // Others may have prepared: they must find the decision.
                    self.lead().txns.entry(txn).or_insert_with(|| super::lead::Active::new(request.priority, cx.now));
                    return self.decide_abort(cx, txn, vec![to], participants, reason);
                }
                e => cx.out.refuse(to, e),
            }
            return Ok(());
        }
        let active = self.lead().txns.get_mut(&txn).expect("entered above");
        let prepared = active.acks.clone();
        let refused = active.refused;
        active.state = State::Commit(Box::new(CommitState {
            reply: vec![to],
            writes: request.writes,
            participants,
            deadline: request.deadline,
            prepared,
            arrived_latest: cx.now.tt.latest,
            arrived_ns: cx.now.mono_ns,
            locked_ns: None,
            prepared_ns: None,
            ts: None,
            chosen_ns: None,
            passed_ns: 0,
        }));
        if refused {
            return self.abort_commit(cx, txn, AbortReason::Participant);
        }
        let token = self.enqueue(Waiting::Commit(txn));
        let lead = self.lead();
        let State::Commit(commit) = &lead.txns[&txn].state else { unreachable!("set above") };
        let effects = lead.locks.acquire(txn, request.priority, write_locks(&commit.writes), token);
        let granted = effects.granted.contains(&token);
        if granted {
            lead.waiting.remove(&token);
        }
        self.effects(cx, effects, Some(token))?;
        if granted { self.commit_locked(cx, txn) } else { Ok(()) }
    }

    fn answer_outcome(&mut self, cx: &mut Cx, to: ReplyTo, txn: TxnId, outcome: Option<Timestamp>) {
        match outcome {
            None => cx.out.refuse(to, GroupError::Aborted(AbortReason::GivenUp)),
            Some(commit_ts) => {
                let timing = match self.lead().txns.get(&txn).map(|a| &a.state) {
                    Some(State::Commit(commit)) => commit.timing(cx.now),
                    _ => CommitTiming::default(),
                };
                let reply = Reply::Committed { commit_ts, timing };
                self.hold(cx, commit_ts, Outgoing { to: to.node, id: to.id, reply, lease_end: None });
            }
        }
    }

    /// The write locks are held.
    pub(super) fn commit_locked(&mut self, cx: &mut Cx, txn: TxnId) -> Result<()> {
        let lead = self.lead();
        let Some(active) = lead.txns.get_mut(&txn) else { return Ok(()) };
        let State::Commit(commit) = &mut active.state else { return Ok(()) };
        commit.locked_ns.get_or_insert(cx.now.mono_ns);
        self.try_commit(cx, txn)
    }

    /// Logs the decision, if the locks are held, everyone has prepared, and there is a timestamp
    /// within the lease; aborts it if every timestamp left is after its deadline.
    pub(super) fn try_commit(&mut self, cx: &mut Cx, txn: TxnId) -> Result<()> {
        let leadership = self.leading(cx.now);
        let unbound = self.breaks(Guarantee::CommitDeadline);
        let lead = self.lead();
        let Some(active) = lead.txns.get(&txn) else { return Ok(()) };
        let State::Commit(commit) = &active.state else { return Ok(()) };
        if commit.ts.is_some() || commit.locked_ns.is_none() {
            return Ok(());
        }
        // A leader whose lease has ended decides nothing any more: the next one may be in time.
        if let (Some(deadline), false, Ok(_)) = (commit.deadline, unbound, &leadership)
            && commit.at_least().max(lead.ts.last().next()) > deadline
        {
            return self.abort_commit(cx, txn, AbortReason::TooLate);
        }
        self.propose_commit(cx, txn, leadership);
        Ok(())
    }

    fn propose_commit(&mut self, cx: &mut Cx, txn: TxnId, leadership: std::result::Result<Leadership, GroupError>) {
        let early = self.breaks(Guarantee::DecisionLogged);
        let lead = self.lead();
        let Some(active) = lead.txns.get_mut(&txn) else { return };
        let State::Commit(commit) = &mut active.state else { return };
        if commit.prepared.len() < commit.participants.len() {
            return;
        }
        commit.prepared_ns.get_or_insert(cx.now.mono_ns);
        let at_least = commit.at_least();
        lead.stalled.insert(txn);
        let Ok(leadership) = leadership else { return };
        if !self.has_room() {
            return;
        }
        let lead = self.lead();
        let Some(ts) = lead.ts.assign(at_least, leadership.lease_end) else { return };
        let Some(State::Commit(commit)) = lead.txns.get_mut(&txn).map(|a| &mut a.state) else { return };
        let command = Command::Commit {
            txn,
            ts,
            writes: std::mem::take(&mut commit.writes),
            participants: commit.participants.iter().copied().collect(),
        };
        if self.propose(cx, &command, Proposal::Commit(txn)).is_ok() {
            let lead = self.lead();
            lead.stalled.remove(&txn);
            lead.locks.protect(txn);
            let Some(State::Commit(commit)) = lead.txns.get_mut(&txn).map(|a| &mut a.state) else { return };
            commit.ts = Some(ts);
            if early {
                let reply = Reply::Committed { commit_ts: ts, timing: commit.timing(cx.now) };
                for to in std::mem::take(&mut commit.reply) {
                    let outgoing = Outgoing { to: to.node, id: to.id, reply: reply.clone(), lease_end: None };
                    self.hold(cx, ts, outgoing);
                }
            }
        } else {
            // The timestamp is used up, which does no harm; the writes are kept for the next try.
            let Command::Commit { writes, .. } = command else { unreachable!("made above") };
            let Some(State::Commit(commit)) = self.lead().txns.get_mut(&txn).map(|a| &mut a.state) else { return };
            commit.writes = writes;
        }
    }

    /// Whether consensus would take one more proposal.
    pub(super) fn has_room(&self) -> bool {
        self.lead.as_ref().is_some_and(|lead| lead.inflight.len() < PROPOSALS_MAX)
    }

    /// Tries again what waited for a timestamp or for room.
    pub(super) fn run_stalled(&mut self, cx: &mut Cx) -> Result<bool> {
        let Some(lead) = &self.lead else { return Ok(false) };
        if lead.stalled.is_empty() || !self.has_room() || self.leading(cx.now).is_err() {
            return Ok(false);
        }
        let stalled: Vec<TxnId> = lead.stalled.iter().copied().collect();
        let before = stalled.len();
        for txn in stalled {
            match self.lead().txns.get(&txn).map(|a| &a.state) {
                Some(State::Commit(_)) => self.try_commit(cx, txn)?,
                Some(State::Prepare(_)) => self.try_prepare(cx, txn),
                Some(State::Aborting { .. }) => self.try_abort(cx, txn),
                Some(State::Prepared { .. }) => {
                    // A decision arrived while there was no room for it; it is asked for again.
                    self.lead().stalled.remove(&txn);
                }
                _ => {
                    self.lead().stalled.remove(&txn);
                }
            }
        }
        Ok(self.lead().stalled.len() < before)
    }

    /// The decision is chosen and applied.
    pub(super) fn commit_chosen(&mut self, cx: &mut Cx, txn: TxnId) {
        let lead = self.lead();
        let Some(active) = lead.txns.get_mut(&txn) else { return };
        let State::Commit(commit) = &mut active.state else { return };
        let ts = commit.ts.expect("proposed with a timestamp");
        commit.chosen_ns = Some(cx.now.mono_ns);
        commit.passed_ns = until_after(cx.now, ts);
        let participants = commit.participants.clone();
        lead.waits.insert((ts, txn));
        if !participants.is_empty() {
            let told_ns = cx.now.mono_ns;
            lead.unacked.insert(txn, super::lead::Unacked { ts, participants: participants.clone(), told_ns });
        }
        self.commits += 1;
        self.tell_participants(cx, txn, &participants, Some(ts));
    }

    /// Ends what waited for its timestamp to pass: locks go, clients are answered.
    pub(super) fn finish_waits(&mut self, cx: &mut Cx) -> Result<bool> {
        let mut progress = false;
        while let Some((ts, txn)) = self.lead.as_ref().and_then(|lead| lead.waits.first().copied()) {
            if !self.surely_passed(cx, ts) {
                break;
            }
            let lead = self.lead();
            lead.waits.remove(&(ts, txn));
            progress = true;
            let Some(active) = lead.txns.remove(&txn) else { continue };
            if let State::Commit(commit) = active.state {
                let reply = Reply::Committed { commit_ts: ts, timing: commit.timing(cx.now) };
                for to in commit.reply {
                    cx.out.reply(to, reply.clone());
                }
            }
            for to in active.asked {
                let aborted = ts == Timestamp::MIN;
                let status = if aborted { TxnStatus::Aborted } else { TxnStatus::Committed(ts) };
                cx.out.reply(to, Reply::Status(status));
            }
            self.unlock(cx, txn)?;
        }
        Ok(progress)
    }

    /// A commit that is not proposed yet ends as aborted.
    pub(super) fn abort_commit(&mut self, cx: &mut Cx, txn: TxnId, reason: AbortReason) -> Result<()> {
        let lead = self.lead();
        let Some(active) = lead.txns.get_mut(&txn) else { return Ok(()) };
        let State::Commit(commit) = &mut active.state else { return Ok(()) };
        assert!(commit.ts.is_none(), "{txn}: aborted after its commit was proposed");
        let reply = std::mem::take(&mut commit.reply);
        let participants = std::mem::take(&mut commit.participants);
        self.decide_abort(cx, txn, reply, participants, reason)
    }
}

/// Proposals of one group in flight; what would be more waits at the leader.
const PROPOSALS_MAX: usize = 2048;
