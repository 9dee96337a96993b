//! Reads without locks, at a timestamp, on any replica (Spanner paper, 4.1.3 and 4.2.2 to 4.2.4).
//!
//! A read at `t` is answered once no write at or below `t` can still appear among its keys:
//!
//! - the log part: a leader promises to assign only larger timestamps, and waits for its own
//!   proposals at or below `t`; a follower needs a record it applied, or a promise it received,
//!   at or above `t`, and asks the leader for one if it has none;
//! - the two-phase part: no prepared transaction with a prepare timestamp at or below `t` writes
//!   one of the keys.
//!
//! The answer is then the same on every replica for ever (I12), so a lease that ends while it is
//! under way does it no harm. A read without a timestamp is a strong read of this group alone:
//! the leader picks a time that needs no waiting, and its lease is checked again as the answer
//! leaves.

use paxos::NodeId;
use truetime::{Guarantee, Timestamp};

use super::{Cx, Group, ReplyTo, Result};
use crate::api::{GroupError, READ_BYTES_MAX, ReadOp, Reply};
use crate::message::NodeMessage;
use crate::mvcc;
use crate::ready::Outgoing;

/// A snapshot read that waits.
#[derive(Debug)]
pub(super) struct Reader {
    to: ReplyTo,
    at: Option<Timestamp>,
    ops: Vec<ReadOp>,
    arrived_ns: i64,
}

/// What became of a try.
enum Tried {
    Answered,
    Waits,
}

/// How long a read waits for its timestamp, in nanoseconds.
const READ_WAIT_NS: i64 = 10_000_000_000;
/// A follower asks the leader for the same safe time again after this long.
const WANT_AGAIN_NS: i64 = 50_000_000;

impl Group {
    pub(super) fn on_snapshot(
        &mut self,
        cx: &mut Cx,
        to: ReplyTo,
        at: Option<Timestamp>,
        ops: Vec<ReadOp>,
    ) -> Result<()> {
        let reader = Reader { to, at, ops, arrived_ns: cx.now.mono_ns };
        match self.try_snapshot(cx, &reader)? {
            Tried::Answered => {}
            Tried::Waits if self.readers.len() >= cx.options.waiting_requests_max => {
                cx.out.refuse(to, GroupError::Unavailable("too many reads wait for safe time".into()));
            }
            Tried::Waits => self.readers.push(reader),
        }
        Ok(())
    }

    /// Looks again at the readers that wait, if anything changed for them.
    pub(super) fn run_readers(&mut self, cx: &mut Cx) -> Result<()> {
        if self.readers.is_empty() {
            return Ok(());
        }
        for reader in std::mem::take(&mut self.readers) {
            if let Tried::Answered = self.try_snapshot(cx, &reader)? {
                continue;
            }
            if cx.now.mono_ns - reader.arrived_ns >= READ_WAIT_NS {
                let why = match reader.at {
                    Some(at) if at > cx.now.tt.latest => format!("the read timestamp {at} lies in the future"),
                    _ => "the read timestamp is not safe yet".into(),
                };
                cx.out.refuse(reader.to, GroupError::Unavailable(why));
                continue;
            }
            self.readers.push(reader);
        }
        Ok(())
    }

    fn try_snapshot(&mut self, cx: &mut Cx, reader: &Reader) -> Result<Tried> {
        let to = reader.to;
        if self.meta.installing {
            cx.out.refuse(to, GroupError::Unavailable("this replica is receiving a snapshot".into()));
            return Ok(Tried::Answered);
        }
        if !self.covers(reader.ops.iter().map(|op| &op.span)) {
            cx.out.refuse(to, self.wrong_range());
            return Ok(Tried::Answered);
        }
        let mut lease_end = None;
        let at = match reader.at {
            Some(at) => at,
            None => match self.leading(cx.now) {
                Err(e) => {
                    cx.out.refuse(to, e);
                    return Ok(Tried::Answered);
                }
                Ok(leadership) => {
                    lease_end = Some(leadership.lease_end);
                    self.strong_ts(cx, &reader.ops, leadership.lease_end)
                }
            },
        };
        if at < self.meta.gc_line {
            cx.out.refuse(to, GroupError::TooOld { earliest: self.meta.gc_line });
            return Ok(Tried::Answered);
        }
        if !self.log_is_safe_at(cx, at, &reader.ops) || self.prepared_in_the_way(at, &reader.ops) {
            return Ok(Tried::Waits);
        }
        let mut bytes_left = READ_BYTES_MAX;
        let mut newest = Timestamp::MIN;
        let mut results = Vec::with_capacity(reader.ops.len());
        for op in &reader.ops {
            results.push(mvcc::read(&*cx.store, op, at, &mut bytes_left, &mut newest)?);
        }
        let wait_ns = cx.now.mono_ns - reader.arrived_ns;
        let reply = Reply::Rows { results, leadership: None, read_ts: Some(at), wait_ns };
        let lease_end = self.sealed_by(cx.now, lease_end);
        self.hold(cx, newest, Outgoing { to: to.node, id: to.id, reply, lease_end });
        Ok(Tried::Answered)
    }

    /// A time for a strong read of this group alone. Everything answered before the read arrived is
    /// applied here, so the last commit's timestamp will do (4.2.4), and `TT.now().earliest` too,
    /// which keeps the read ahead of version collection in an idle group. If something at or
    /// below it is in flight or prepared, `TT.now().latest` is read at instead, and waited for.
    fn strong_ts(&mut self, cx: &Cx, ops: &[ReadOp], lease_end: Timestamp) -> Timestamp {
        let applied = self.meta.commit_ts.max(self.meta.assigned_ts);
        let lead = self.lead.as_ref().expect("the caller checked leadership");
        for at in [applied.max(cx.now.tt.earliest), applied] {
            let clear = lead.first_inflight_ts().is_none_or(|first| at < first);
            let held = at < lease_end || self.breaks(Guarantee::LeaseOnRead);
            if clear && held && !self.prepared_in_the_way(at, ops) {
                return at;
            }
        }
        // Never below what was answered before, even if the clock has been set back beyond it: then
        // the answer waits until that time has come again.
        cx.now.tt.latest.max(applied)
    }

    /// Whether no slot to come holds a write at or below `at`, but for decisions of prepared
    /// transactions. If not, sees to it that it will be so.
    fn log_is_safe_at(&mut self, cx: &mut Cx, at: Timestamp, ops: &[ReadOp]) -> bool {
        if at <= self.meta.born_ts && self.meta.applied.0 == 0 {
            return true;
        }
        let split = self.split_in_the_way(ops.iter().map(|op| &op.span)).is_some();
        let unchecked = self.breaks(Guarantee::LeaseOnRead);
        match self.leading(cx.now) {
            Ok(leadership) => {
                let lead = self.lead.as_mut().expect("leading");
                if at > lead.ts.last() {
                    // While its keys are being split off, no new promise may be made for them.
                    let promised = lead.ts.promise(at, leadership.lease_end) || unchecked;
                    if split || at > cx.now.tt.latest || !promised {
                        return false;
                    }
                }
                let held = lead.first_inflight_ts().is_some_and(|first| at >= first);
                !held || self.breaks(Guarantee::SafeTimeHeldByInflight)
            }
            Err(_) => {
                if at <= self.paxos_safe_ts() {
                    return true;
                }
                self.want_safe_time(cx, at);
                false
            }
        }
    }

    fn prepared_in_the_way(&self, at: Timestamp, ops: &[ReadOp]) -> bool {
        !self.breaks(Guarantee::SafeTimeHeldByPrepared)
            && self
                .prepared
                .values()
                .any(|p| p.prepare_ts <= at && p.writes.iter().any(|w| ops.iter().any(|op| op.span.contains(&w.key))))
    }

    /// Reads of any key at or below this are served here without waiting.
    pub fn safe_ts(&self, now: truetime::Now) -> Timestamp {
        let log = match (self.leading(now), &self.lead) {
            (Ok(_), Some(lead)) => lead.first_inflight_ts().map_or(lead.last_ts(), Timestamp::prev),
            _ => self.paxos_safe_ts(),
        };
        self.prepared.values().map(|p| p.prepare_ts.prev()).fold(log, Timestamp::min)
    }

    /// Asks the leader to promise a safe time.
    fn want_safe_time(&mut self, cx: &mut Cx, ts: Timestamp) {
        let again = match self.wanted {
            None => true,
            Some((wanted, when)) => ts > wanted || cx.now.mono_ns - when >= WANT_AGAIN_NS,
        };
        if !again {
            return;
        }
        let Some(leader) = self.paxos.leader_hint().filter(|node| *node != self.me) else { return };
        self.wanted = Some((ts, cx.now.mono_ns));
        cx.out.messages.push((leader, NodeMessage::WantSafeTime { group: self.meta.group(), ts }));
    }

    /// A follower has a reader waiting.
    pub fn on_want_safe_time(&mut self, cx: &mut Cx, from: NodeId, ts: Timestamp) {
        if let Some(lead) = &mut self.lead {
            let want = lead.wants.entry(from).or_insert((ts, cx.now.mono_ns));
            want.0 = want.0.max(ts);
        }
    }

    /// Promises what followers wait for, if the clock and the lease allow it by now.
    pub(super) fn answer_wants(&mut self, cx: &mut Cx) {
        if self.lead.as_ref().is_none_or(|lead| lead.wants.is_empty()) {
            return;
        }
        let Ok(leadership) = self.leading(cx.now) else { return };
        let splitting = self.lead().splitting.is_some();
        let (group, slot) = (self.meta.group(), self.paxos.last_proposed());
        let lead = self.lead();
        let now = cx.now;
        lead.wants.retain(|_, (_, since)| now.mono_ns - *since < READ_WAIT_NS);
        let mut answered = Vec::new();
        for (node, (ts, _)) in &lead.wants {
            let known = *ts <= lead.ts.last();
            if known || (!splitting && *ts <= now.tt.latest && lead.ts.promise(*ts, leadership.lease_end)) {
                answered.push(*node);
            }
        }
        for node in answered {
            lead.wants.remove(&node);
            let message = NodeMessage::SafeTime { group, ballot: lead.ballot, slot, ts: lead.ts.last() };
            cx.out.messages.push((node, message));
        }
    }

    /// Tells every follower the safe time.
    pub(super) fn publish_safe_time(&mut self, cx: &mut Cx) {
        let Ok(leadership) = self.leading(cx.now) else { return };
        let (group, slot, me) = (self.meta.group(), self.paxos.last_proposed(), self.me);
        let lead = self.lead();
        if lead.splitting.is_none() {
            let _ = lead.ts.promise(cx.now.tt.earliest, leadership.lease_end);
        }
        let (ballot, ts) = (lead.ballot, lead.ts.last());
        let config = self.paxos.config();
        for node in config.voters.iter().chain(&config.learners).filter(|node| **node != me) {
            cx.out.messages.push((*node, NodeMessage::SafeTime { group, ballot, slot, ts }));
        }
    }
}
