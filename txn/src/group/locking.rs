//! Locking reads, and the bookkeeping of wounds, grants and silence.
//!
//! A read first finds out which keys it will return, locks just those (to the last row, if a limit
//! or the size of a reply ends it there), and reads again if it had to wait. So a limited scan does
//! not lock a whole table, and yet meets no phantoms in what it has seen.
//!
//! A read may refuse to wait, or wait for so long only (`LockPolicy`): then it is refused, and its
//! transaction is as before.

use paxos::Ballot;
use truetime::{Guarantee, Timestamp};

use super::lead::{Active, State, Waiting};
use super::{Cx, Group, ReplyTo, Result};
use crate::api::{AbortReason, GroupError, READ_BYTES_MAX, ReadOp, ReadResult, Reply};
use crate::locks::{Effects, Wants};
use crate::mvcc;
use crate::ready::Outgoing;
use crate::types::{Key, LockMode, LockPolicy, Priority, Span, TxnId};

/// A locking read, as asked.
#[derive(Debug)]
pub(super) struct ReadRequest {
    pub txn: TxnId,
    pub priority: Priority,
    pub leadership: Option<Ballot>,
    pub ops: Vec<ReadOp>,
    pub mode: LockMode,
    pub policy: LockPolicy,
}

impl Group {
    /// Finds, or begins, a transaction that is still open here.
    pub(super) fn enter(
        &mut self,
        cx: &Cx,
        txn: TxnId,
        priority: Priority,
        leadership: Option<Ballot>,
    ) -> std::result::Result<(), GroupError> {
        if txn.start() < self.meta.outcomes_before {
            return Err(GroupError::Aborted(AbortReason::GivenUp));
        }
        let unnoticed = self.breaks(Guarantee::LostLocksAbort);
        let lead = self.lead();
        let leadership = leadership.filter(|_| !unnoticed);
        if leadership.is_some_and(|b| b != lead.ballot) {
            return Err(GroupError::Aborted(AbortReason::LocksLost));
        }
        match lead.txns.get_mut(&txn) {
            Some(active) => {
                if let Some(reason) = active.doomed {
                    return Err(GroupError::Aborted(reason));
                }
                active.heard_ns = cx.now.mono_ns;
            }
            None if leadership.is_some() => return Err(GroupError::Aborted(AbortReason::LocksLost)),
            None => {
                lead.txns.insert(txn, Active::new(priority, cx.now));
            }
        }
        Ok(())
    }

    pub(super) fn on_read(&mut self, cx: &mut Cx, to: ReplyTo, request: ReadRequest) -> Result<()> {
        if let Err(e) = self.leading(cx.now) {
            cx.out.refuse(to, e);
            return Ok(());
        }
        if let Some(e) = self.out_of_bounds(request.ops.iter().map(|op| &op.span)) {
            cx.out.refuse(to, e);
            return Ok(());
        }
        if self.lead().waiting.len() >= cx.options.waiting_requests_max {
            cx.out.refuse(to, GroupError::Unavailable("too many requests wait for locks".into()));
            return Ok(());
        }
        if let Err(e) = self.enter(cx, request.txn, request.priority, request.leadership) {
            cx.out.refuse(to, e);
            return Ok(());
        }
        if !matches!(self.lead().txns[&request.txn].state, State::Open) {
            cx.out.refuse(to, GroupError::Invalid("the transaction is already committing".into()));
            return Ok(());
        }
        match request.policy {
            LockPolicy::NoWait | LockPolicy::Skip | LockPolicy::Unlocked => return self.read_at_once(cx, to, &request),
            LockPolicy::Wait | LockPolicy::WaitAtMost(_) => {}
        }
        let at_most = request.policy;
        let waiting = Waiting::Read { to, request: Box::new(request), arrived_ns: cx.now.mono_ns };
        let token = self.enqueue(waiting);
        self.try_read(cx, token)?;
        if let LockPolicy::WaitAtMost(ns) = at_most
            && let Some(lead) = self.lead.as_mut().filter(|lead| lead.waiting.contains_key(&token))
        {
            lead.lock_deadlines.insert((cx.now.mono_ns.saturating_add(ns.max(0)), token));
        }
        Ok(())
    }

    /// A read that waits for no lock. Between its look and its locks nothing else happens here, so it need not
    /// look again.
    fn read_at_once(&mut self, cx: &mut Cx, to: ReplyTo, request: &ReadRequest) -> Result<()> {
        let mut newest = Timestamp::MIN;
        let (mut results, wants) = read_latest(cx, request, &mut newest)?;
        let locks = &mut self.lead().locks;
        match request.policy {
            LockPolicy::NoWait if !locks.try_acquire(request.txn, request.priority, wants) => {
                cx.out.refuse(to, GroupError::LockNotAvailable);
                return Ok(());
            }
            LockPolicy::Skip => {
                for result in &mut results {
                    // A limit is the number of rows looked at: the gateway asks for keys, and needs none.
                    result.rows.retain(|row| {
                        let want = vec![(Span::point(row.key.clone()), request.mode)];
                        locks.try_acquire(request.txn, request.priority, want)
                    });
                }
            }
            _ => {}
        }
        self.answer_read(cx, to, results, newest, 0);
        Ok(())
    }

    fn answer_read(&mut self, cx: &mut Cx, to: ReplyTo, results: Vec<ReadResult>, newest: Timestamp, wait_ns: i64) {
        let reply = Reply::Rows { results, leadership: Some(self.lead().ballot), read_ts: None, wait_ns };
        let lease_end = self.leading(cx.now).ok().map(|l| l.lease_end);
        let lease_end = self.sealed_by(cx.now, lease_end);
        self.hold(cx, newest, Outgoing { to: to.node, id: to.id, reply, lease_end });
    }

    /// Refuses the reads that have waited for as long as they would.
    pub(super) fn end_lock_waits(&mut self, cx: &mut Cx) -> Result<()> {
        while let Some(lead) = &mut self.lead
            && let Some((_, token)) = lead.lock_deadlines.first().copied().filter(|(at, _)| *at <= cx.now.mono_ns)
        {
            lead.lock_deadlines.pop_first();
            // What was granted in this very step is to be read yet, and is no wait any more.
            if lead.granted.contains(&token) {
                continue;
            }
            if let Some(Waiting::Read { to, .. }) = lead.waiting.remove(&token) {
                cx.out.refuse(to, GroupError::LockNotAvailable);
                let effects = lead.locks.cancel(token);
                self.effects(cx, effects, None)?;
            }
        }
        Ok(())
    }

    pub(super) fn enqueue(&mut self, waiting: Waiting) -> u64 {
        let lead = self.lead();
        let token = lead.next_token;
        lead.next_token += 1;
        lead.waiting.insert(token, waiting);
        token
    }

    /// Reads what is committed, locks it, and answers if the locks were free.
    fn try_read(&mut self, cx: &mut Cx, token: u64) -> Result<()> {
        let lead = self.lead();
        let Some(Waiting::Read { to, request, arrived_ns }) = lead.waiting.remove(&token) else {
            return Ok(());
        };
        // Its gateway gave the read up and went on to commit. The transaction may even have ended in this very
        // step, after the grant: a lock that it took now would be nobody's, and kept for ever.
        if !lead.txns.get(&request.txn).is_some_and(|active| matches!(active.state, State::Open)) {
            cx.out.refuse(to, GroupError::Invalid("the transaction is already committing".into()));
            return Ok(());
        }
        let mut newest = Timestamp::MIN;
        let (results, wants) = read_latest(cx, &request, &mut newest)?;
        let wants = if self.breaks(Guarantee::RangeLockEnd) {
            wants.into_iter().map(|(span, mode)| (Span::point(span.start), mode)).collect()
        } else {
            wants
        };
        let effects = self.lead().locks.acquire(request.txn, request.priority, wants, token);
        if effects.granted.contains(&token) {
            self.answer_read(cx, to, results, newest, cx.now.mono_ns - arrived_ns);
        } else {
            self.lead().waiting.insert(token, Waiting::Read { to, request, arrived_ns });
        }
        self.effects(cx, effects, Some(token))
    }

    /// Goes on with requests whose locks were granted.
    pub(super) fn run_granted(&mut self, cx: &mut Cx) -> Result<bool> {
        let mut progress = false;
        while let Some(token) = self.lead.as_mut().and_then(|lead| lead.granted.pop_front()) {
            progress = true;
            match self.lead().waiting.get(&token) {
                Some(Waiting::Read { .. }) => self.try_read(cx, token)?,
                Some(Waiting::Commit(txn)) => {
                    let txn = *txn;
                    self.lead().waiting.remove(&token);
                    self.commit_locked(cx, txn)?;
                }
                Some(Waiting::Prepare(txn)) => {
                    let txn = *txn;
                    self.lead().waiting.remove(&token);
                    self.prepare_locked(cx, txn);
                }
                None => {}
            }
        }
        Ok(progress)
    }

    /// Takes in what the lock table did: `own` is the request whose call it was, if any, which
    /// its caller handles itself.
    pub(super) fn effects(&mut self, cx: &mut Cx, effects: Effects, own: Option<u64>) -> Result<()> {
        let lead = self.lead();
        lead.granted.extend(effects.granted.into_iter().filter(|t| Some(*t) != own));
        for token in effects.cancelled {
            if let Some(Waiting::Read { to, .. }) = lead.waiting.remove(&token) {
                cx.out.refuse(to, GroupError::Aborted(AbortReason::Wounded));
            }
        }
        for txn in effects.wounded {
            self.doom(cx, txn, AbortReason::Wounded)?;
        }
        Ok(())
    }

    /// A transaction that is not decided loses its locks here and can no longer commit.
    pub(super) fn doom(&mut self, cx: &mut Cx, txn: TxnId, reason: AbortReason) -> Result<()> {
        let lead = self.lead();
        let Some(active) = lead.txns.get_mut(&txn) else { return Ok(()) };
        if active.doomed.is_some() {
            return Ok(());
        }
        match &active.state {
            State::Open => {
                active.doomed = Some(reason);
                // What it waits for here will never come.
                let mine: Vec<u64> = lead
                    .waiting
                    .iter()
                    .filter(|(_, w)| matches!(w, Waiting::Read { request, .. } if request.txn == txn))
                    .map(|(token, _)| *token)
                    .collect();
                for token in mine {
                    if let Some(Waiting::Read { to, .. }) = lead.waiting.remove(&token) {
                        cx.out.refuse(to, GroupError::Aborted(reason));
                    }
                }
                self.unlock(cx, txn)
            }
            State::Commit(commit) if commit.ts.is_none() => self.abort_commit(cx, txn, reason),
            State::Prepare(prepare) if prepare.ts.is_none() => self.refuse_prepare(cx, txn, reason),
            // Proposed, prepared or decided: these are protected.
            _ => Ok(()),
        }
    }

    /// Drops a transaction's locks and lets those behind it go on.
    pub(super) fn unlock(&mut self, cx: &mut Cx, txn: TxnId) -> Result<()> {
        let effects = self.lead().locks.release(txn);
        self.effects(cx, effects, None)
    }

    pub(super) fn on_keep_alive(&mut self, cx: &mut Cx, to: ReplyTo, txn: TxnId, leadership: Ballot) -> Result<()> {
        if let Err(e) = self.leading(cx.now) {
            cx.out.refuse(to, e);
            return Ok(());
        }
        let lead = self.lead();
        let reply = match lead.txns.get_mut(&txn) {
            _ if leadership != lead.ballot => Reply::Error(GroupError::Aborted(AbortReason::LocksLost)),
            None => Reply::Error(GroupError::Aborted(AbortReason::LocksLost)),
            Some(active) => match active.doomed {
                Some(reason) => Reply::Error(GroupError::Aborted(reason)),
                None => {
                    active.heard_ns = cx.now.mono_ns;
                    Reply::Done
                }
            },
        };
        cx.out.reply(to, reply);
        Ok(())
    }

    pub(super) fn on_abort(&mut self, cx: &mut Cx, to: ReplyTo, txn: TxnId) -> Result<()> {
        if let Err(e) = self.leading(cx.now) {
            cx.out.refuse(to, e);
            return Ok(());
        }
        cx.out.reply(to, Reply::Done);
        self.give_up(cx, txn)
    }

    /// The gateway, or silence, ends a transaction: if it is not decided, it is now.
    pub(super) fn give_up(&mut self, cx: &mut Cx, txn: TxnId) -> Result<()> {
        let lead = self.lead();
        let Some(active) = lead.txns.get_mut(&txn) else { return Ok(()) };
        match &active.state {
            State::Open => {
                self.doom(cx, txn, AbortReason::GivenUp)?;
                if let Some(active) = self.lead().txns.get(&txn)
                    && active.acks.is_empty()
                    && active.asked.is_empty()
                {
                    self.lead().txns.remove(&txn);
                }
                Ok(())
            }
            State::Commit(commit) if commit.ts.is_none() => self.abort_commit(cx, txn, AbortReason::GivenUp),
            State::Prepare(prepare) if prepare.ts.is_none() => self.refuse_prepare(cx, txn, AbortReason::GivenUp),
            _ => Ok(()),
        }
    }
}

/// The latest rows of a request, and the locks that cover them.
fn read_latest(cx: &Cx, request: &ReadRequest, newest: &mut Timestamp) -> Result<(Vec<ReadResult>, Wants)> {
    let mut bytes_left = READ_BYTES_MAX;
    let mut results = Vec::with_capacity(request.ops.len());
    let mut wants = Vec::with_capacity(request.ops.len());
    for op in &request.ops {
        let result = mvcc::read(&*cx.store, op, Timestamp::MAX, &mut bytes_left, newest)?;
        let covered = covered(op, &result);
        if !covered.is_empty() {
            wants.push((covered, request.mode));
        }
        results.push(result);
    }
    Ok((results, wants))
}

/// The part of a read's span that its rows are the whole truth about.
fn covered(op: &ReadOp, result: &ReadResult) -> Span {
    let full = op.limit > 0 && result.rows.len() as u64 >= op.limit;
    let last = result.rows.last().map(|row| &row.key);
    match (&result.resume, last) {
        (Some(rest), _) if op.reverse => Span { start: rest.end.clone(), end: op.span.end.clone() },
        (Some(rest), _) => Span { start: op.span.start.clone(), end: rest.start.clone() },
        (None, Some(last)) if full && op.reverse => Span { start: last.clone(), end: op.span.end.clone() },
        (None, Some(last)) if full => Span { start: op.span.start.clone(), end: after(last) },
        _ => op.span.clone(),
    }
}

/// The first key after this one.
fn after(key: &Key) -> Key {
    Span::point(key.clone()).end
}
