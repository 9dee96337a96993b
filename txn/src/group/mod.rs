//! One replica of one shard: where Paxos, locks, MVCC and two-phase commit meet.
//!
//! # The life of a transaction here
//!
//! ```text
//!   gateway            leader of the coordinator              leader of a participant
//!     | Read  ---------> lock, read latest                          |
//!     | Prepare -------------------------------------------------> lock writes, pick prepare_ts,
//!     | Commit --------> lock writes                                log Prepare
//!     |                  wait for every Prepared <----------------- Prepared(prepare_ts)
//!     |                  s >= prepare_ts, >= TT.latest at arrival,  |
//!     |                  > every timestamp used; log Commit(s)      |
//!     |                  chosen: apply, tell participants --------> log Decide(s), apply,
//!     |                  wait until TT.after(s)                     wait until TT.after(s),
//!     | <- Committed(s)  release locks                              release locks
//! ```
//!
//! With a single participant the middle column is all there is.
//!
//! # Reads without locks
//!
//! A read at `t` needs that nothing at or below `t` is still to come: the leader promises it (its
//! later timestamps are above `t`) and waits for its proposals at or below `t`; a follower relies
//! on records it has applied and on promises it has received. On both, a prepared transaction
//! whose writes meet the keys and whose prepare timestamp is at or below `t` holds the read back.
//!
//! A record is applied as soon as it is chosen, before its timestamp has surely passed; in return
//! no answer that rests on a version leaves before that version's timestamp has surely passed
//! (`hold`, I8). So commit wait overlaps replication and never delays the log.
//!
//! # Files
//!
//! `apply` applies the log; `lead` gains and loses leadership; `locking`, `commit`, `participant`,
//! `coordinator` and `split` are the leader's work; `snapshot_read` is any replica's; `transfer`
//! moves the state to a replica that is too far behind, and `install` puts it in the place of what is there;
//! `housekeeping` is timers and inspection.
//!
//! # Deviations from the paper
//!
//! The participants' prepare timestamps go to the coordinator directly, and so does the question
//! how a transaction ended (4.2.1 leaves it open). A split waits until no transaction holds locks
//! in the new range, where Spanner's movedir copies in the background (3.2.1).

mod apply;
mod commit;
mod coordinator;
mod housekeeping;
mod install;
mod lead;
mod locking;
mod participant;
mod snapshot_read;
mod split;
mod transfer;

use std::collections::BTreeMap;

use paxos::{GroupId, NodeId, Replica, Slot};
use truetime::{Guarantee, Now, Timestamp};

use crate::api::{GroupError, Reply, Request, RequestBody};
use crate::command::PreparedTxn;
use crate::keyspace;
use crate::message::{NodeMessage, TwoPhase};
use crate::meta::GroupMeta;
use crate::ready::{NodeOptions, Outgoing};
use crate::storage::{Storage, StorageError, Visit};
use crate::types::{Span, TxnId};

pub(crate) use install::covered;
use lead::Lead;
use snapshot_read::Reader;
pub(crate) use transfer::NO_REPLICA;

/// The replica cannot go on: its disk failed or holds what it must not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop(pub String);

impl From<StorageError> for Stop {
    fn from(e: StorageError) -> Stop {
        Stop(e.to_string())
    }
}

/// Result of everything that touches the disk.
pub type Result<T> = std::result::Result<T, Stop>;

/// Where a reply goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReplyTo {
    /// The gateway's node.
    pub node: NodeId,
    /// The request's number there.
    pub id: u64,
}

/// What a step may use, and where it leaves its effects.
pub struct Cx<'a> {
    /// The time.
    pub now: Now,
    /// The node's settings.
    pub options: &'a NodeOptions,
    /// The node's state store.
    pub store: &'a mut dyn Storage,
    /// Effects.
    pub out: &'a mut Out,
}

/// The effects of one group's step; the node merges those of all its groups.
#[derive(Debug, Default)]
pub struct Out {
    /// Log writes, and the largest number of a Paxos `Ready` among them.
    pub writes: Vec<paxos::Write>,
    /// As above; 0 if there are no writes.
    pub persist: u64,
    /// Something waits for the fsync.
    pub sync: bool,
    /// May leave at once.
    pub messages: Vec<(NodeId, NodeMessage)>,
    /// Only after the fsync.
    pub after_sync: Vec<(NodeId, NodeMessage)>,
    /// For other groups' leaders.
    pub two_phase: Vec<(GroupId, TwoPhase)>,
    /// For gateways.
    pub replies: Vec<Outgoing>,
    /// Groups born by a split, to be created by the node.
    pub births: Vec<GroupMeta>,
    /// See `NodeReady`.
    pub flush_state: bool,
    /// See `NodeReady`.
    pub ranges_changed: bool,
    /// See `NodeReady`.
    pub notes: Vec<String>,
}

impl Out {
    fn reply(&mut self, to: ReplyTo, reply: Reply) {
        self.replies.push(Outgoing { to: to.node, id: to.id, reply, lease_end: None });
    }

    fn refuse(&mut self, to: ReplyTo, error: GroupError) {
        self.reply(to, Reply::Error(error));
    }
}

/// An answer that this node must not give, because its clock cannot say whether its time has come. Another replica
/// answers a read; and of what was committed, the next leader tells if it is asked again.
fn untold(outgoing: Outgoing) -> Outgoing {
    let error = match outgoing.reply {
        Reply::Rows { .. } => GroupError::NotLeader(None),
        _ => GroupError::Unavailable("the clock of this node is not trusted".into()),
    };
    Outgoing { reply: Reply::Error(error), lease_end: None, ..outgoing }
}

/// One replica of one shard.
pub struct Group {
    me: NodeId,
    meta: GroupMeta,
    paxos: Replica,
    /// Applied prepare records without a decision.
    prepared: BTreeMap<TxnId, PreparedTxn>,
    /// Promises of a leader that wait for their slot to be applied.
    promises: BTreeMap<Slot, Timestamp>,
    /// The largest promise whose slot is applied.
    promised_ts: Timestamp,
    /// The leader's state, while this replica leads.
    lead: Option<Lead>,
    /// Snapshot reads that wait for safe time or for a decision.
    readers: Vec<Reader>,
    /// The last safe time asked of the leader, and when.
    wanted: Option<(Timestamp, i64)>,
    /// Replies that wait until a timestamp has surely passed (I8), by that timestamp.
    held: BTreeMap<(Timestamp, u64), Outgoing>,
    next_held: u64,
    /// Snapshots being sent, by receiver.
    sending: BTreeMap<NodeId, transfer::Sending>,
    /// A snapshot being received.
    receiving: Option<transfer::Receiving>,
    /// Where the sweep of old versions stands, while one runs.
    sweep: Option<Option<crate::types::Key>>,
    next_housekeeping_ns: i64,
    /// After a snapshot: until this slot is applied, versions from beyond the applied one may be here.
    fuzzy_upto: Slot,
    /// The slot of a split that was applied and is not durable yet.
    split_unflushed: Option<Slot>,
    /// When a replica without a state last asked for one, and how often it has.
    begged: (i64, usize),
    paxos_wake_ns: Option<i64>,
    commits: u64,
    aborts: u64,
}

/// Promises that wait for their slot; more are dropped, the oldest first.
const PROMISES_MAX: usize = 64;

impl Group {
    /// A replica from what the state store says of it; `log` is what the log store holds.
    pub fn open(
        me: NodeId,
        meta: GroupMeta,
        log: crate::ready::GroupLog,
        options: &NodeOptions,
        store: &dyn Storage,
        now: Now,
        rng: rand_chacha::ChaCha8Rng,
    ) -> Result<Group> {
        let mut hard = log.hard;
        if !meta.installing && hard.truncated > meta.applied {
            return Err(Stop(format!(
                "{}: the state is at {} but the log begins after {}: the state store has lost what it had made durable",
                meta.group(),
                meta.applied,
                hard.truncated
            )));
        }
        // A group's first leader must stay above every timestamp used before its birth.
        hard.lease_floor = Some(hard.lease_floor.unwrap_or(Timestamp::MIN).max(meta.born_ts));
        let restored = paxos::Restored {
            hard,
            entries: log.entries,
            applied: meta.applied,
            epoch: meta.epoch,
            config: meta.config.clone(),
        };
        let mut prepared = BTreeMap::new();
        let prefix = keyspace::record_prefix(meta.group(), keyspace::PREPARED);
        let end = keyspace::prefix_end(&prefix);
        let mut bad = None;
        store.scan(&prefix, &end, false, &mut |_, value| match PreparedTxn::decode(bytes::Bytes::copy_from_slice(
            value,
        )) {
            Ok(p) => {
                prepared.insert(p.txn, p);
                Visit::Next
            }
            Err(e) => {
                bad = Some(e);
                Visit::Stop
            }
        })?;
        if let Some(e) = bad {
            return Err(Stop(format!("a prepare record of {}: {e}", meta.group())));
        }
        let receiving = install::Staged::resumed(me, &meta, store, now)?;
        Ok(Group {
            me,
            paxos: Replica::new(me, options.paxos.clone(), restored, now, rng),
            promised_ts: meta.born_ts,
            meta,
            prepared,
            promises: BTreeMap::new(),
            lead: None,
            readers: Vec::new(),
            wanted: None,
            held: BTreeMap::new(),
            next_held: 0,
            sending: BTreeMap::new(),
            receiving,
            sweep: None,
            next_housekeeping_ns: now.mono_ns,
            fuzzy_upto: Slot(0),
            split_unflushed: None,
            begged: (now.mono_ns, 0),
            paxos_wake_ns: Some(now.mono_ns),
            commits: 0,
            aborts: 0,
        })
    }

    /// Its metadata.
    pub fn meta(&self) -> &GroupMeta {
        &self.meta
    }

    /// Who leads, as far as is known.
    pub fn leader_hint(&self) -> Option<NodeId> {
        if self.lead.is_some() { Some(self.me) } else { self.paxos.leader_hint() }
    }

    /// Whether a leadership, or a candidacy, is still to be given up.
    pub fn leads(&self) -> bool {
        self.lead.is_some()
    }

    // ---- inputs: each does its work at once; the node calls `pump` after the last one --------

    /// Gives an input to consensus.
    pub fn consensus(&mut self, cx: &mut Cx, input: paxos::Input) -> Result<()> {
        let ready = self.paxos.step(cx.now, input);
        self.absorb(cx, ready)
    }

    /// A request of a gateway.
    pub fn request(&mut self, cx: &mut Cx, from: NodeId, request: Request) -> Result<()> {
        let to = ReplyTo { node: from, id: request.id };
        match request.body {
            RequestBody::Read { txn, priority, leadership, ops, mode, policy } => {
                self.on_read(cx, to, locking::ReadRequest { txn, priority, leadership, ops, mode, policy })
            }
            RequestBody::Snapshot { at, ops } => self.on_snapshot(cx, to, at, ops),
            RequestBody::Commit { txn, priority, leadership, writes, participants, deadline } => {
                let request = commit::CommitRequest { txn, priority, leadership, writes, participants, deadline };
                self.on_commit(cx, to, request)
            }
            RequestBody::Prepare { txn, priority, leadership, writes, coordinator } => {
                self.on_prepare(cx, to, participant::PrepareRequest { txn, priority, leadership, writes, coordinator })
            }
            RequestBody::Abort { txn } => self.on_abort(cx, to, txn),
            RequestBody::KeepAlive { txn, leadership } => self.on_keep_alive(cx, to, txn, leadership),
            RequestBody::Status { txn } => self.on_status(cx, to, txn),
            RequestBody::Split { at, new_group, leader } => self.on_split(cx, to, at, new_group, leader),
            RequestBody::HandOver { to: heir } => self.on_hand_over(cx, to, heir),
            RequestBody::Inspect => self.on_inspect(cx, to),
            RequestBody::Checksum => self.on_checksum(cx, to),
        }
    }

    /// A leader's promise.
    pub fn safe_time(&mut self, slot: Slot, ts: Timestamp) {
        if slot <= self.meta.applied {
            self.promised_ts = self.promised_ts.max(ts);
        } else {
            let entry = self.promises.entry(slot).or_insert(ts);
            *entry = (*entry).max(ts);
            if self.promises.len() > PROMISES_MAX {
                self.promises.pop_first();
            }
        }
    }

    /// Everything that follows from the inputs so far, and from the passing of time.
    pub fn pump(&mut self, cx: &mut Cx) -> Result<()> {
        if self.paxos_wake_ns.is_some_and(|at| at <= cx.now.mono_ns) {
            self.consensus(cx, paxos::Input::Tick)?;
        }
        self.end_lock_waits(cx)?;
        self.settle(cx)?;
        self.run_readers(cx)?;
        self.answer_wants(cx);
        self.release_held(cx);
        self.drop_overtaken(cx)?;
        self.move_staged(cx)?;
        self.housekeeping(cx)?;
        // What housekeeping ended may have let others go on.
        self.settle(cx)?;
        self.assert_invariants();
        Ok(())
    }

    /// Goes on with everything that can, until nothing can.
    fn settle(&mut self, cx: &mut Cx) -> Result<()> {
        loop {
            let mut progress = self.run_granted(cx)?;
            progress |= self.try_split(cx)?;
            progress |= self.run_stalled(cx)?;
            if self.take_proposed() {
                self.consensus(cx, paxos::Input::Tick)?;
                progress = true;
            }
            progress |= self.finish_waits(cx)?;
            if !progress {
                return Ok(());
            }
        }
    }

    /// When `pump` wants to be called again, on the monotonic clock.
    pub fn wake_at_ns(&self, now: Now) -> i64 {
        let mut at = self.next_housekeeping_ns;
        if self.receiving.as_ref().is_some_and(transfer::Receiving::is_moving) {
            return now.mono_ns;
        }
        if let Some(paxos) = self.paxos_wake_ns {
            at = at.min(paxos);
        }
        let passes = |ts: Timestamp| until_after(now, ts);
        if let Some(((ts, _), _)) = self.held.first_key_value() {
            at = at.min(passes(*ts));
        }
        if let Some(ns) = self.lead.as_ref().and_then(|l| l.wake_at_ns(now)) {
            at = at.min(ns);
        }
        if !self.readers.is_empty() {
            at = at.min(now.mono_ns + READER_POLL_NS);
        }
        at
    }

    /// Keeps a reply back until `newest` has surely passed (I8).
    fn hold(&mut self, cx: &mut Cx, newest: Timestamp, outgoing: Outgoing) {
        if self.surely_passed(cx, newest) || self.breaks(Guarantee::CommitWait) {
            cx.out.replies.push(outgoing);
        } else if cx.now.trusted {
            self.next_held += 1;
            self.held.insert((newest, self.next_held), outgoing);
        } else {
            cx.out.replies.push(untold(outgoing));
        }
    }

    fn release_held(&mut self, cx: &mut Cx) {
        while let Some(newest) = self.held.first_key_value().map(|((newest, _), _)| *newest) {
            let passed = self.surely_passed(cx, newest);
            if !passed && cx.now.trusted {
                break;
            }
            let (_, outgoing) = self.held.pop_first().expect("looked at above");
            cx.out.replies.push(if passed { outgoing } else { untold(outgoing) });
        }
    }

    /// Whether a timestamp has surely passed. A clock that is not trusted cannot tell, but those of others can: no
    /// leader assigns or promises one that is more than a lease, and what it is uncertain, ahead of true time.
    fn surely_passed(&self, cx: &Cx, ts: Timestamp) -> bool {
        if cx.now.trusted {
            return cx.now.tt.after(ts);
        }
        let used = self.promised_ts.max(self.meta.assigned_ts).max(self.meta.commit_ts);
        ts <= used.minus_ns(2 * cx.options.paxos.lease_ns)
    }

    /// Whether a guarantee is broken on purpose.
    fn breaks(&self, guarantee: Guarantee) -> bool {
        self.paxos.sabotage().breaks(guarantee)
    }

    /// Until when an answer that rests on this lease may leave (I5).
    fn sealed_by(&self, now: Now, lease_end: Option<Timestamp>) -> Option<Timestamp> {
        let slack_ns = if self.breaks(Guarantee::LeaseEpsilon) { now.tt.width_ns() as i64 } else { 0 };
        let end = lease_end.filter(|_| !self.breaks(Guarantee::LeaseOnRead));
        end.map(|end| end.plus_ns(slack_ns))
    }

    /// Whether every span lies in this group's range.
    fn covers<'s>(&self, mut spans: impl Iterator<Item = &'s Span>) -> bool {
        spans.all(|span| self.meta.range.span.covers(span))
    }

    fn wrong_range(&self) -> GroupError {
        GroupError::WrongRange(vec![self.meta.range.clone()])
    }

    /// How a transaction ended, if it is recorded here.
    fn outcome(&self, cx: &Cx, txn: TxnId) -> Result<Option<Option<Timestamp>>> {
        let key = keyspace::record_key(self.meta.group(), keyspace::OUTCOME, txn);
        match cx.store.get(&key)? {
            None => Ok(None),
            Some(bytes) => match crate::meta::decode_outcome(bytes) {
                Ok(outcome) => Ok(Some(outcome)),
                Err(e) => Err(Stop(format!("the outcome of {txn}: {e}"))),
            },
        }
    }

    fn assert_invariants(&self) {
        assert!(
            self.promised_ts >= self.meta.born_ts && self.meta.assigned_ts >= self.meta.born_ts,
            "{}: a timestamp from before its birth",
            self.meta.group()
        );
        if let Some(lead) = &self.lead {
            lead.assert_invariants(self.meta.group(), self.prepared.len());
            assert!(
                lead.last_ts() >= self.meta.assigned_ts,
                "{}: applied {} above the last assigned {}",
                self.meta.group(),
                self.meta.assigned_ts,
                lead.last_ts()
            );
        }
    }
}

/// How often a waiting reader looks again without any other cause, in nanoseconds.
const READER_POLL_NS: i64 = 20_000_000;

/// The monotonic time at which `ts` will have surely passed, if the clocks run alike.
fn until_after(now: Now, ts: Timestamp) -> i64 {
    let left = ts.as_nanos().saturating_sub(now.tt.earliest.as_nanos()).saturating_add(1);
    now.mono_ns.saturating_add(left.max(0))
}

#[cfg(test)]
mod golden;
