//! What happens by the passing of time: silence, repeated questions, safe time for idle followers,
//! collection of old versions; and what a group tells of itself.

use truetime::Guarantee;

use std::collections::BTreeSet;

use paxos::GroupId;

use super::lead::{Proposal, State};
use super::{Cx, Group, ReplyTo, Result};
use crate::api::{AbortReason, GroupError, Inspection, Reply, TxnRow};
use crate::checksum;
use crate::command::Command;
use crate::gc;
use crate::keyspace;
use crate::message::TwoPhase;
use crate::meta::decode_decision;
use crate::ready::GroupStatus;
use crate::storage::{Storage, Visit};
use crate::types::TxnId;

/// How often a group looks after itself, in nanoseconds.
const HOUSEKEEPING_NS: i64 = 50_000_000;
/// How often, while old versions are being swept.
const SWEEP_NS: i64 = 5_000_000;
/// Versions looked at in one go of the sweep.
const SWEEP_VERSIONS: usize = 512;
/// A participant's question about a transaction whose commit request never came is answered with
/// an abort after this long, in nanoseconds.
const ACK_WAIT_NS: i64 = 3_000_000_000;
/// A replica this many slots behind the chosen one still keeps up.
const KEPT_UP_SLOTS: u64 = 64;
/// Decisions forgotten by one record.
const FORGET_MAX: usize = 256;

impl Group {
    pub(super) fn housekeeping(&mut self, cx: &mut Cx) -> Result<()> {
        let now = cx.now.mono_ns;
        if let Some(lead) = &mut self.lead
            && now >= lead.next_safe_time_ns
        {
            lead.next_safe_time_ns = now + cx.options.safe_time_ns;
            self.publish_safe_time(cx);
        }
        if now < self.next_housekeeping_ns {
            return Ok(());
        }
        self.next_housekeeping_ns = now + HOUSEKEEPING_NS;
        self.resend_chunks(cx)?;
        self.beg(cx);
        if self.leading(cx.now).is_ok() {
            self.expire(cx)?;
            self.ask_again(cx);
            self.forget_decisions(cx);
            self.move_gc_line(cx);
            self.lead_where_preferred(cx)?;
        }
        self.run_sweep(cx)
    }

    /// Ends transactions that nobody speaks for any more.
    fn expire(&mut self, cx: &mut Cx) -> Result<()> {
        let now = cx.now.mono_ns;
        let (idle_ns, wait_ns) = (cx.options.txn_idle_ns, cx.options.commit_wait_ns);
        let silent: Vec<TxnId> = self
            .lead()
            .txns
            .iter()
            .filter(|(_, a)| match &a.state {
                State::Open if !a.acks.is_empty() || a.refused => now - a.heard_ns >= ACK_WAIT_NS.min(idle_ns),
                State::Open => now - a.heard_ns >= idle_ns,
                State::Commit(commit) => commit.ts.is_none() && now - commit.arrived_ns >= wait_ns,
                State::Prepare(prepare) => prepare.ts.is_none() && now - prepare.arrived_ns >= wait_ns,
                _ => false,
            })
            .map(|(txn, _)| *txn)
            .collect();
        for txn in silent {
            let active = &self.lead().txns[&txn];
            match &active.state {
                State::Open if !active.acks.is_empty() => {
                    let participants: BTreeSet<GroupId> = active.acks.keys().copied().collect();
                    self.doom(cx, txn, AbortReason::GivenUp)?;
                    self.decide_abort(cx, txn, Vec::new(), participants, AbortReason::GivenUp)?;
                }
                State::Open => {
                    self.doom(cx, txn, AbortReason::LocksLost)?;
                    self.lead().txns.remove(&txn);
                }
                State::Commit(_) => self.abort_commit(cx, txn, AbortReason::Participant)?,
                State::Prepare(_) => self.refuse_prepare(cx, txn, AbortReason::LocksLost)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Participants ask for decisions; coordinators repeat them.
    fn ask_again(&mut self, cx: &mut Cx) {
        let now = cx.now.mono_ns;
        let every_ns = cx.options.inquire_ns;
        let mut ask = Vec::new();
        let from = self.meta.group();
        let lead = self.lead();
        for (txn, active) in &mut lead.txns {
            if let State::Prepared { asked_ns } = &mut active.state
                && now.saturating_sub(*asked_ns) >= every_ns
            {
                *asked_ns = now;
                ask.push(*txn);
            }
        }
        for (txn, decision) in &mut lead.unacked {
            if now.saturating_sub(decision.told_ns) >= every_ns {
                decision.told_ns = now;
                for group in &decision.participants {
                    let body = TwoPhase::Decided { txn: *txn, from, commit_ts: Some(decision.ts) };
                    cx.out.two_phase.push((*group, body));
                }
            }
        }
        for txn in ask {
            self.tell_prepared(cx, txn);
            // An older one waits for it here, and it may wait for that one elsewhere: only its
            // coordinator can end this, and does unless it has decided.
            if self.lead().locks.stops_an_older(txn)
                && let Some(prepared) = self.prepared.get(&txn)
            {
                let coordinator = prepared.coordinator;
                self.tell_refused(cx, txn, coordinator, AbortReason::Wounded);
            }
        }
    }

    /// Loads the decisions that participants have not acknowledged, as leadership begins.
    pub(super) fn load_decisions(&mut self, cx: &mut Cx) -> Result<()> {
        let prefix = keyspace::record_prefix(self.meta.group(), keyspace::DECISION);
        let mut found = Vec::new();
        cx.store.scan(&prefix, &keyspace::prefix_end(&prefix), false, &mut |key, value| {
            found.push((keyspace::record_txn(key), bytes::Bytes::copy_from_slice(value)));
            Visit::Next
        })?;
        for (txn, value) in found {
            let (Some(txn), Ok((ts, participants))) = (txn, decode_decision(value)) else {
                return Err(super::Stop(format!("{}: a decision record is malformed", self.meta.group())));
            };
            let participants = participants.into_iter().collect();
            self.lead().unacked.insert(txn, super::lead::Unacked { ts, participants, told_ns: i64::MIN });
        }
        Ok(())
    }

    /// Forgets decisions that every participant has applied.
    fn forget_decisions(&mut self, cx: &mut Cx) {
        let lead = self.lead();
        if lead.acknowledged.is_empty() || !self.has_room() {
            return;
        }
        let lead = self.lead();
        let txns: Vec<TxnId> = lead.acknowledged.iter().copied().take(FORGET_MAX).collect();
        if self.propose(cx, &Command::Forget { txns: txns.clone() }, Proposal::Gc).is_ok() {
            let lead = self.lead();
            for txn in txns {
                lead.acknowledged.remove(&txn);
            }
        }
    }

    fn move_gc_line(&mut self, cx: &mut Cx) {
        let now = cx.now;
        let options = cx.options;
        if now.mono_ns < self.lead().next_gc_ns || !self.has_room() {
            return;
        }
        self.lead().next_gc_ns = now.mono_ns + options.gc_every_ns;
        let line = now.tt.earliest.minus_ns(options.version_retention_ns);
        let outcomes_before = now.tt.earliest.minus_ns(options.outcome_retention_ns);
        if line > self.meta.gc_line {
            let _ = self.propose(cx, &Command::Gc { line, outcomes_before }, Proposal::Gc);
        }
    }

    /// Sweeps a few old versions. Every replica does so at its own pace: what a reader can see does
    /// not depend on it.
    fn run_sweep(&mut self, cx: &mut Cx) -> Result<()> {
        let Some(cursor) = self.sweep.take() else { return Ok(()) };
        if self.meta.installing {
            return Ok(());
        }
        let mut line = self.meta.gc_line;
        if self.breaks(Guarantee::CollectionLine) {
            line = line.plus_ns(cx.options.version_retention_ns / 2);
        }
        let (batch, next) = gc::sweep(&*cx.store, &self.meta.range.span, line, cursor, SWEEP_VERSIONS)?;
        if !batch.is_empty() {
            cx.store.write(batch)?;
        }
        if next.is_some() {
            self.sweep = Some(next);
            self.next_housekeeping_ns = cx.now.mono_ns + SWEEP_NS;
        }
        Ok(())
    }

    /// Hands leadership to the node that should have it, once that node has kept up for a while.
    fn lead_where_preferred(&mut self, cx: &mut Cx) -> Result<()> {
        let preferred = self.meta.preferred;
        if preferred == self.me {
            return Ok(());
        }
        let lease_ns = cx.options.paxos.lease_ns;
        let chosen = self.paxos.chosen();
        let keeps_up = self
            .paxos
            .peer_progress(cx.now)
            .into_iter()
            .any(|p| p.node == preferred && p.silent_ns <= lease_ns / 4 && p.chosen.0 + KEPT_UP_SLOTS >= chosen.0);
        let now_ns = cx.now.mono_ns;
        let lead = self.lead();
        if !keeps_up {
            lead.preferred_away_ns = now_ns;
        }
        if now_ns - lead.preferred_away_ns < 2 * lease_ns || !lead.prepared_nothing() {
            return Ok(());
        }
        self.hand_over(cx, Some(preferred))
    }

    pub(super) fn on_inspect(&mut self, cx: &mut Cx, to: ReplyTo) -> Result<()> {
        if let Err(e) = self.leading(cx.now) {
            cx.out.refuse(to, e);
            return Ok(());
        }
        let now = cx.now;
        let prepared: Vec<_> = self.prepared.iter().map(|(txn, p)| (*txn, p.prepare_ts)).collect();
        let lead = self.lead();
        let waiting = lead.locks.waiting_owners();
        let txns = lead
            .txns
            .iter()
            .map(|(txn, a)| TxnRow {
                txn: *txn,
                priority: a.priority,
                state: match &a.state {
                    _ if waiting.contains(txn) => "waiting",
                    State::Open if a.doomed.is_some() => "aborted",
                    State::Open => "open",
                    State::Commit(_) => "committing",
                    State::Prepare(_) => "preparing",
                    State::Prepared { .. } => "prepared",
                    State::Deciding => "deciding",
                    State::Aborting { .. } => "aborting",
                }
                .into(),
                prepare_ts: prepared.iter().find(|(t, _)| t == txn).map(|(_, ts)| *ts),
                idle_ns: now.mono_ns - a.heard_ns,
            })
            .collect();
        let locks = lead.locks.rows();
        cx.out.reply(to, Reply::Inspection(Inspection { txns, locks }));
        Ok(())
    }

    pub(super) fn on_checksum(&mut self, cx: &mut Cx, to: ReplyTo) -> Result<()> {
        if self.meta.installing || self.meta.applied < self.fuzzy_upto {
            cx.out.refuse(to, GroupError::Unavailable("this replica is receiving a snapshot".into()));
            return Ok(());
        }
        let hash = self.checksum(&*cx.store)?;
        cx.out.reply(to, Reply::Checksum { applied: self.meta.applied.0, hash });
        Ok(())
    }

    /// A hash of what the replica holds, the same on all that have applied the same slots (I6).
    pub fn checksum(&self, store: &dyn Storage) -> Result<u64> {
        if self.meta.installing || self.meta.applied < self.fuzzy_upto {
            return Err(super::Stop("this replica is receiving a snapshot".into()));
        }
        let mut hasher = checksum::Hasher64::new();
        let meta = &self.meta;
        let line = (meta.range.epoch, meta.epoch, meta.assigned_ts, meta.commit_ts, meta.gc_line);
        hasher.update(format!("{line:?} {:?}", meta.range.span).as_bytes());
        for prepared in self.prepared.values() {
            hasher.update(&prepared.encode());
        }
        let mut cursor = None;
        loop {
            cursor = checksum::hash_chunk(store, &meta.range.span, meta.gc_line, cursor, 4096, &mut hasher)?;
            if cursor.is_none() {
                break;
            }
        }
        Ok(hasher.finish())
    }

    /// How the replica is.
    pub fn status(&self, now: truetime::Now) -> GroupStatus {
        GroupStatus {
            range: self.meta.range.clone(),
            leader: self.leader_hint(),
            lease_end: self.leading(now).ok().map(|l| l.lease_end),
            applied: self.meta.applied,
            chosen: self.paxos.chosen(),
            first_slot: self.paxos.first_slot(),
            safe_ts: self.safe_ts(now),
            commits: self.commits,
            aborts: self.aborts,
        }
    }
}
