//! Gaining and losing leadership, and what a leader keeps in memory.
//!
//! A leader's locks, open transactions and proposals in flight live in `Lead` and die with it.
//! A new leader starts above every timestamp that any earlier one used, takes again the locks of
//! prepared transactions, and asks their coordinators how they ended.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use paxos::{Ballot, GroupId, Leadership, NodeId, ProposeError, Slot};
use truetime::{Now, Timestamp};

use super::commit::{CommitState, PrepareState};
use super::locking::ReadRequest;
use super::split::Splitting;
use super::{Cx, Group, ReplyTo, until_after};
use crate::api::{AbortReason, GroupError, Reply};
use crate::command::Command;
use crate::locks::LockTable;
use crate::ready::Outgoing;
use crate::timestamps::Timestamps;
use crate::types::{Priority, TxnId};

/// A transaction that a leader knows of.
#[derive(Debug)]
pub(super) struct Active {
    pub priority: Priority,
    /// When its gateway was last heard of, on the monotonic clock.
    pub heard_ns: i64,
    /// It has lost its locks here and cannot commit.
    pub doomed: Option<AbortReason>,
    pub state: State,
    /// Participants that prepared before the commit request came, and their prepare timestamps.
    pub acks: BTreeMap<GroupId, Timestamp>,
    /// A participant refused before the commit request came.
    pub refused: bool,
    /// Who asks how it ended.
    pub asked: Vec<ReplyTo>,
}

impl Active {
    pub fn new(priority: Priority, now: Now) -> Active {
        Active {
            priority,
            heard_ns: now.mono_ns,
            doomed: None,
            state: State::Open,
            acks: BTreeMap::new(),
            refused: false,
            asked: Vec::new(),
        }
    }
}

/// How far a transaction has come at this leader.
#[derive(Debug)]
pub(super) enum State {
    /// It holds, or waits for, locks.
    Open,
    /// A commit request has arrived: here it is decided.
    Commit(Box<CommitState>),
    /// A prepare request has arrived.
    Prepare(Box<PrepareState>),
    /// Prepared; waits for the coordinator. When it last asked.
    Prepared { asked_ns: i64 },
    /// The decision is being logged, or waits for its timestamp to pass.
    Deciding,
    /// The record that it can never commit is being logged.
    Aborting {
        /// Who is to be told that it is aborted.
        reply: Vec<ReplyTo>,
        reason: AbortReason,
        participants: BTreeSet<GroupId>,
    },
}

/// A request that waits for locks.
#[derive(Debug)]
pub(super) enum Waiting {
    Read { to: ReplyTo, request: Box<ReadRequest>, arrived_ns: i64 },
    Commit(TxnId),
    Prepare(TxnId),
}

/// A proposal in flight.
#[derive(Debug)]
pub(super) struct InFlight {
    pub what: Proposal,
    /// The timestamp assigned to it, if any.
    pub ts: Option<Timestamp>,
}

#[derive(Debug)]
pub(super) enum Proposal {
    Commit(TxnId),
    Abort(TxnId),
    Prepare(TxnId),
    Decide(TxnId, GroupId, Option<Timestamp>),
    Split(ReplyTo),
    Gc,
}

/// What a leader keeps in memory.
pub(super) struct Lead {
    pub ballot: Ballot,
    /// When the node that should lead was last seen not to keep up, on the monotonic clock.
    pub preferred_away_ns: i64,
    pub ts: Timestamps,
    pub locks: LockTable,
    pub txns: BTreeMap<TxnId, Active>,
    pub waiting: BTreeMap<u64, Waiting>,
    /// When reads give up waiting, on the monotonic clock; some of them may have been granted since.
    pub lock_deadlines: BTreeSet<(i64, u64)>,
    pub next_token: u64,
    /// Requests whose locks were granted since.
    pub granted: VecDeque<u64>,
    /// Transactions that can go on as soon as there is a timestamp or a slot for them.
    pub stalled: BTreeSet<TxnId>,
    pub inflight: BTreeMap<Slot, InFlight>,
    /// Something was proposed and consensus has not been stepped since.
    pub proposed: bool,
    /// Decided transactions whose locks go once their timestamp has surely passed.
    pub waits: BTreeSet<(Timestamp, TxnId)>,
    pub splitting: Option<Splitting>,
    /// Followers that have a reader waiting for a safe time, and since when.
    pub wants: BTreeMap<NodeId, (Timestamp, i64)>,
    pub next_safe_time_ns: i64,
    pub next_gc_ns: i64,
    /// Leadership is being handed over: nothing new is begun.
    pub leaving: bool,
    /// Commit decisions that not every participant has acknowledged.
    pub unacked: BTreeMap<TxnId, Unacked>,
    /// Those that every participant has: to be forgotten.
    pub acknowledged: BTreeSet<TxnId>,
}

/// A commit decision on its way to its participants.
#[derive(Debug)]
pub(super) struct Unacked {
    pub ts: Timestamp,
    pub participants: BTreeSet<GroupId>,
    /// When they were last told, on the monotonic clock.
    pub told_ns: i64,
}

impl Lead {
    pub fn last_ts(&self) -> Timestamp {
        self.ts.last()
    }

    /// The timestamp of the earliest proposal in flight that carries one. Slots are in timestamp
    /// order, so it is that of the first.
    pub fn first_inflight_ts(&self) -> Option<Timestamp> {
        self.inflight.values().find_map(|p| p.ts)
    }

    /// Whether no transaction is between prepare and decision.
    pub fn prepared_nothing(&self) -> bool {
        !self.txns.values().any(|a| matches!(a.state, State::Prepared { .. } | State::Deciding))
    }

    pub fn wake_at_ns(&self, now: Now) -> Option<i64> {
        let mut at = self.next_safe_time_ns;
        if let Some((ts, _)) = self.waits.first() {
            at = at.min(until_after(now, *ts));
        }
        if let Some((deadline_ns, _)) = self.lock_deadlines.first() {
            at = at.min(*deadline_ns);
        }
        if !self.stalled.is_empty() || self.splitting.is_some() {
            at = at.min(now.mono_ns + STALLED_POLL_NS);
        }
        for (ts, _) in self.wants.values() {
            let left = ts.as_nanos().saturating_sub(now.tt.latest.as_nanos()).max(0);
            at = at.min(now.mono_ns.saturating_add(left.max(STALLED_POLL_NS)));
        }
        Some(at)
    }

    pub fn assert_invariants(&self, group: GroupId, prepared: usize) {
        let known = self.txns.values().filter(|a| matches!(a.state, State::Prepared { .. } | State::Deciding)).count();
        assert!(known >= prepared, "{group}: {prepared} prepared transactions, the leader knows {known}");
        assert!(self.granted.is_empty() && !self.proposed, "{group}: a step ended with work left to do");
    }
}

/// How often something that waits for a slot, a lease or a lock-free range looks again.
const STALLED_POLL_NS: i64 = 5_000_000;

impl Group {
    /// Leadership was won, and everything chosen before it is applied.
    pub(super) fn begin_lead(&mut self, cx: &mut Cx, leadership: Leadership) -> super::Result<()> {
        if self.meta.installing {
            // Its state is not the log's: it must not serve, so it gives leadership up again.
            let input = paxos::Input::HandOver { to: None, used: leadership.floor };
            return self.consensus(cx, input);
        }
        let floor = leadership.floor.max(self.meta.assigned_ts).max(self.meta.commit_ts).max(self.promised_ts);
        let mut lead = Lead {
            ballot: leadership.ballot,
            preferred_away_ns: cx.now.mono_ns,
            ts: Timestamps::above(floor).sabotaged(self.paxos.sabotage()),
            locks: LockTable::new(),
            txns: BTreeMap::new(),
            waiting: BTreeMap::new(),
            lock_deadlines: BTreeSet::new(),
            next_token: 1,
            granted: VecDeque::new(),
            stalled: BTreeSet::new(),
            inflight: BTreeMap::new(),
            proposed: false,
            waits: BTreeSet::new(),
            splitting: None,
            wants: BTreeMap::new(),
            next_safe_time_ns: cx.now.mono_ns,
            next_gc_ns: cx.now.mono_ns + cx.options.gc_every_ns,
            leaving: false,
            unacked: BTreeMap::new(),
            acknowledged: BTreeSet::new(),
        };
        for (txn, prepared) in &self.prepared {
            let effects = lead.locks.acquire(*txn, prepared.priority, prepared.locks.clone(), 0);
            assert!(
                effects.granted.contains(&0) && effects.wounded.is_empty(),
                "{}: prepared transactions hold conflicting locks",
                self.meta.group()
            );
            lead.locks.protect(*txn);
            let mut active = Active::new(prepared.priority, cx.now);
            // Asks its coordinator at once.
            active.state = State::Prepared { asked_ns: i64::MIN };
            lead.txns.insert(*txn, active);
        }
        cx.out.notes.push(format!(
            "{}: leading with {} above {floor}, {} prepared",
            self.meta.group(),
            leadership.ballot,
            self.prepared.len()
        ));
        cx.out.ranges_changed = true;
        self.lead = Some(lead);
        self.next_housekeeping_ns = cx.now.mono_ns;
        self.load_decisions(cx)
    }

    /// Leadership is gone: whoever waits is told to ask the new leader, which knows, or will
    /// find out, how each transaction ended.
    pub(super) fn end_lead(&mut self, cx: &mut Cx, ballot: Ballot) {
        let Some(lead) = self.lead.take() else { return };
        assert_eq!(lead.ballot, ballot, "{}: deposed from a ballot that it did not hold", self.meta.group());
        cx.out.notes.push(format!("{}: no longer leading ({ballot})", self.meta.group()));
        cx.out.ranges_changed = true;
        let hint = self.paxos.leader_hint().filter(|node| *node != self.me);
        let refuse = |cx: &mut Cx, to: ReplyTo| cx.out.refuse(to, GroupError::NotLeader(hint));
        for (_, waiting) in lead.waiting {
            if let Waiting::Read { to, .. } = waiting {
                refuse(cx, to);
            }
        }
        for (_, active) in lead.txns {
            for to in active.asked {
                refuse(cx, to);
            }
            match active.state {
                State::Commit(commit) => match (commit.chosen_ns, commit.ts) {
                    // Decided and applied: only its commit wait is left.
                    (Some(_), Some(ts)) => {
                        let timing = commit.timing(cx.now);
                        for to in &commit.reply {
                            let reply = Reply::Committed { commit_ts: ts, timing };
                            self.hold(cx, ts, Outgoing { to: to.node, id: to.id, reply, lease_end: None });
                        }
                    }
                    // Logged, so it may yet be chosen under the next leader: to say that nothing was
                    // done would let the client call it aborted (I10, I13).
                    (None, Some(_)) => commit.reply.iter().for_each(|to| {
                        let why = "the leader changed while the commit was under way".to_string();
                        cx.out.refuse(*to, GroupError::Unavailable(why));
                    }),
                    _ => commit.reply.iter().for_each(|to| refuse(cx, *to)),
                },
                State::Prepare(prepare) => prepare.reply.iter().for_each(|to| refuse(cx, *to)),
                State::Aborting { reply, .. } => reply.into_iter().for_each(|to| refuse(cx, to)),
                State::Open | State::Prepared { .. } | State::Deciding => {}
            }
        }
        for (_, proposal) in lead.inflight {
            if let Proposal::Split(to) = proposal.what {
                refuse(cx, to);
            }
        }
        if let Some(splitting) = lead.splitting {
            refuse(cx, splitting.to);
        }
    }

    /// The leadership in force, or why this replica cannot act as leader now.
    pub(super) fn leading(&self, now: Now) -> Result<Leadership, GroupError> {
        let Some(lead) = &self.lead else {
            return Err(GroupError::NotLeader(self.paxos.leader_hint().filter(|node| *node != self.me)));
        };
        if lead.leaving {
            return Err(GroupError::NotLeader(None));
        }
        match self.paxos.leadership(now) {
            Some(l) if l.established && l.ballot == lead.ballot => Ok(l),
            _ => Err(GroupError::Unavailable("the leader's lease ran out".into())),
        }
    }

    /// The leader's state; only for use where leadership was checked in this step.
    pub(super) fn lead(&mut self) -> &mut Lead {
        self.lead.as_mut().expect("checked: this replica leads")
    }

    /// Proposes a record. The caller keeps it to try again if there is no room.
    pub(super) fn propose(&mut self, cx: &Cx, command: &Command, what: Proposal) -> Result<(), ProposeError> {
        let slot = self.paxos.propose(cx.now, command.encode())?;
        let lead = self.lead.as_mut().expect("checked: this replica leads");
        lead.proposed = true;
        let before = lead.inflight.insert(slot, InFlight { what, ts: command.assigned_ts() });
        assert!(before.is_none(), "{}: slot {slot} proposed twice", self.meta.group());
        Ok(())
    }

    /// Whether consensus is to be stepped for new proposals.
    pub(super) fn take_proposed(&mut self) -> bool {
        self.lead.as_mut().is_some_and(|lead| std::mem::take(&mut lead.proposed))
    }

    /// A slot is applied: if this leader proposed it, goes on with what waits for it.
    pub(super) fn after_apply(&mut self, cx: &mut Cx, slot: Slot, origin: Ballot) {
        let Some(lead) = &mut self.lead else { return };
        if origin != lead.ballot {
            return;
        }
        let Some(proposal) = lead.inflight.remove(&slot) else { return };
        match proposal.what {
            Proposal::Commit(txn) => self.commit_chosen(cx, txn),
            Proposal::Abort(txn) => self.abort_chosen(cx, txn),
            Proposal::Prepare(txn) => self.prepare_chosen(cx, txn),
            Proposal::Decide(txn, from, commit_ts) => self.decide_chosen(cx, txn, from, commit_ts),
            Proposal::Split(to) => cx.out.reply(to, Reply::Done),
            Proposal::Gc => {}
        }
    }

    /// Begins to hand leadership over.
    pub(super) fn on_hand_over(&mut self, cx: &mut Cx, to: ReplyTo, heir: Option<NodeId>) -> super::Result<()> {
        match self.leading(cx.now) {
            Err(e) => {
                cx.out.refuse(to, e);
                Ok(())
            }
            Ok(_) => {
                cx.out.reply(to, Reply::Done);
                self.hand_over(cx, heir)
            }
        }
    }

    /// As `on_hand_over`, without anyone asking: a graceful stop.
    pub fn hand_over(&mut self, cx: &mut Cx, heir: Option<NodeId>) -> super::Result<()> {
        let Some(lead) = &mut self.lead else { return Ok(()) };
        if std::mem::replace(&mut lead.leaving, true) {
            return Ok(());
        }
        let used = lead.last_ts();
        self.consensus(cx, paxos::Input::HandOver { to: heir, used })
    }
}
