//! Bringing a replica up that is behind the start of the log: the state is streamed to it.
//!
//! The transfer is fuzzy: the sender goes on applying while it reads its store chunk by chunk. What
//! the receiver ends up with is the state at the slot where the transfer began, plus some later
//! versions. Those do no harm: replaying the log from that slot writes the same bytes again, and
//! until it has done so the receiver's safe time is below them. Prepared transactions, which hold
//! safe time back, are sent as they were at the beginning; the collection line as it is at the end.
//!
//! ```text
//!   chunk 0: metadata, prepare records     -> staged, beside the state
//!   chunk 1..: outcomes, decisions, versions -> staged
//!   last chunk: metadata                   -> staged, "whole"; in one batch the replica marks itself
//!                                             "installing" and drops its old state
//!                                          -> what is staged is moved to its place
//!                                          -> flushed, and only then told to Paxos
//! ```
//!
//! The old state stays, and goes on to be applied to, until all of the new one is here. A leader that
//! has truncated its log sends snapshots to all others at once; if each dropped its state
//! at the first chunk, and the leader's disk were then lost, the group would be lost with it, though
//! a majority has its disks. From the batch that drops the old state on, the rest is this replica's own
//! work, and a restart goes on with it: batches survive a crash in order. It costs a second copy of the group's
//! state on the disk for as long as it takes.

use bytes::Bytes;
use paxos::NodeId;
use paxos::codec::DecodeError;
use truetime::{Guarantee, Now};

use super::{Cx, Group, Result, Stop};
use crate::keyspace;
use crate::message::{NodeMessage, SnapshotEnd, SnapshotMessage};
use crate::meta::GroupMeta;
use crate::storage::{Batch, Storage, Visit};

/// A transfer to one receiver.
#[derive(Debug)]
pub(super) struct Sending {
    transfer: i64,
    /// The chunk sent and not yet acknowledged.
    chunk: SnapshotMessage,
    number: u64,
    end: SnapshotEnd,
    meta: GroupMeta,
    /// The part of the store still to be read: areas, and the key to go on from in the first.
    areas: Vec<(Vec<u8>, Vec<u8>)>,
    sent_ns: i64,
    acked_ns: i64,
}

/// A transfer from a sender.
#[derive(Debug)]
pub(super) struct Receiving {
    from: NodeId,
    transfer: i64,
    next: u64,
    heard_ns: i64,
    /// Set when all is here and is moved to its place.
    moving: Option<Moving>,
    /// Set when all is written and waits for the flush.
    installed: Option<(SnapshotEnd, GroupMeta)>,
}

/// A snapshot that takes the place of the old state.
#[derive(Debug)]
struct Moving {
    end: SnapshotEnd,
    meta: GroupMeta,
    /// The first staged key that is still to be moved.
    cursor: Vec<u8>,
}

impl Receiving {
    /// What a restart has to go on with.
    pub(super) fn resumed(me: NodeId, meta: &GroupMeta, store: &dyn Storage, now: Now) -> Result<Option<Receiving>> {
        let group = meta.group();
        if !meta.installing {
            return Ok(None);
        }
        let Some(record) = store.get(&keyspace::staged_end_key(group))? else { return Ok(None) };
        let damaged = |why: String| Stop(format!("{group}: the record of a whole snapshot: {why}"));
        let message = NodeMessage::decode(record).map_err(|e| damaged(e.to_string()))?;
        let NodeMessage::Snapshot { message: SnapshotMessage::Chunk { last: Some(end), .. }, .. } = message else {
            return Err(damaged("it is another message".into()));
        };
        let moving = Moving::new(end).map_err(|e| damaged(e.to_string()))?;
        let heard_ns = now.mono_ns;
        Ok(Some(Receiving { from: me, transfer: 0, next: 0, heard_ns, moving: Some(moving), installed: None }))
    }

    /// Whether there is something to be moved.
    pub(super) fn is_moving(&self) -> bool {
        self.moving.is_some()
    }

    /// Whether it still hangs on its sender.
    fn is_open(&self) -> bool {
        self.moving.is_none() && self.installed.is_none()
    }
}

impl Moving {
    fn new(end: SnapshotEnd) -> std::result::Result<Moving, DecodeError> {
        let meta = GroupMeta { installing: false, ..GroupMeta::decode(end.meta.clone())? };
        let mut cursor = keyspace::staged_end_key(meta.group()).to_vec();
        cursor.push(0);
        Ok(Moving { end, meta, cursor })
    }
}

/// The `number` of an acknowledgement that stands for "I have no state of this group".
pub(crate) const NO_REPLICA: u64 = u64::MAX;
/// How often a replica without a state asks for one, in nanoseconds.
const BEG_NS: i64 = 1_000_000_000;
/// Bytes in one chunk, about.
const CHUNK_BYTES: usize = 512 << 10;
/// An unacknowledged chunk is sent again after this long, in nanoseconds.
const CHUNK_RESEND_NS: i64 = 1_000_000_000;
/// A transfer that the other side has let go is forgotten after this long, in nanoseconds.
const TRANSFER_IDLE_NS: i64 = 10_000_000_000;

impl Group {
    /// Begins to send a snapshot, unless one is under way.
    pub(super) fn begin_transfer(&mut self, cx: &mut Cx, to: NodeId) -> Result<()> {
        if self.sending.contains_key(&to) || self.meta.installing || to == self.me {
            return Ok(());
        }
        if self.split_unflushed.is_some() {
            // The receiver will hold this group without what was split off, durably, and may bring the
            // others to the same slot. If this node then lost the birth of the new group, with what
            // else it has not flushed, nobody would have its keys any more. It will be asked again.
            cx.out.flush_state = true;
            return Ok(());
        }
        let group = self.meta.group();
        let transfer = cx.now.mono_ns;
        let mut pairs = vec![(keyspace::meta_key(group), self.meta.encode())];
        let whole = !self.breaks(Guarantee::SnapshotWhole);
        for (txn, prepared) in self.prepared.iter().filter(|_| whole) {
            pairs.push((keyspace::record_key(group, keyspace::PREPARED, *txn), prepared.encode()));
        }
        let end = SnapshotEnd {
            applied: self.meta.applied,
            epoch: self.meta.epoch,
            config: self.meta.config.clone(),
            meta: Bytes::new(),
            read_upto: self.meta.applied,
        };
        let areas = [keyspace::OUTCOME, keyspace::DECISION]
            .into_iter()
            .map(|kind| {
                let prefix = keyspace::record_prefix(group, kind).to_vec();
                let end = keyspace::prefix_end(&prefix).to_vec();
                (prefix, end)
            })
            .chain([keyspace::version_span(&self.meta.range.span)])
            .rev()
            .collect();
        let chunk = SnapshotMessage::Chunk { transfer, number: 0, pairs, last: None };
        cx.out.notes.push(format!("{group}: sending a snapshot at {} to {to}", self.meta.applied));
        cx.out.messages.push((to, NodeMessage::Snapshot { group, message: chunk.clone() }));
        let now = cx.now.mono_ns;
        let meta = self.meta.clone();
        self.sending.insert(to, Sending { transfer, chunk, number: 0, end, meta, areas, sent_ns: now, acked_ns: now });
        Ok(())
    }

    /// A peer says that it has no state of this group: it missed the split, or a transfer broke off.
    ///
    /// Any replica may help. The leader does if there is one; but a group may be unable to elect
    /// one for want of the very replicas that ask.
    pub fn on_missing(&mut self, cx: &mut Cx, from: NodeId) -> Result<()> {
        let helps = self.lead.is_some() || self.paxos.leader_hint().is_none_or(|leader| leader == from);
        if helps && self.meta.config.voters.contains(&from) {
            self.begin_transfer(cx, from)?;
        }
        Ok(())
    }

    /// Asks for a snapshot, now and then, while this replica has no state to apply anything to and
    /// nobody is sending one: the sender, or this node, went down amid a transfer.
    pub(super) fn beg(&mut self, cx: &mut Cx) {
        let (last_ns, times) = self.begged;
        if !self.meta.installing || self.receiving.is_some() || cx.now.mono_ns - last_ns < BEG_NS {
            return;
        }
        let others: Vec<NodeId> = self.meta.config.voters.iter().copied().filter(|node| *node != self.me).collect();
        let Some(next) = others.get(times % others.len().max(1)) else { return };
        let whom = self.paxos.leader_hint().filter(|node| *node != self.me).unwrap_or(*next);
        self.begged = (cx.now.mono_ns, times + 1);
        let message = SnapshotMessage::Ack { transfer: 0, number: NO_REPLICA };
        cx.out.messages.push((whom, NodeMessage::Snapshot { group: self.meta.group(), message }));
    }

    /// A chunk or an acknowledgement.
    pub fn snapshot(&mut self, cx: &mut Cx, from: NodeId, message: SnapshotMessage) -> Result<()> {
        match message {
            SnapshotMessage::Ack { transfer, number } => self.on_ack(cx, from, transfer, number),
            SnapshotMessage::Chunk { transfer, number, pairs, last } => {
                self.on_chunk(cx, from, transfer, number, pairs, last)
            }
        }
    }

    fn on_ack(&mut self, cx: &mut Cx, from: NodeId, transfer: i64, number: u64) -> Result<()> {
        let Some(sending) = self.sending.get_mut(&from) else { return Ok(()) };
        if sending.transfer != transfer || sending.number != number {
            return Ok(());
        }
        if matches!(sending.chunk, SnapshotMessage::Chunk { last: Some(_), .. }) {
            self.sending.remove(&from);
            return Ok(());
        }
        let mut pairs = Vec::new();
        let mut size = 0;
        while let Some((start, end)) = sending.areas.pop() {
            let mut rest = None;
            cx.store.scan(&start, &end, false, &mut |key, value| {
                if size >= CHUNK_BYTES {
                    rest = Some(key.to_vec());
                    return Visit::Stop;
                }
                size += key.len() + value.len();
                pairs.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
                Visit::Next
            })?;
            if let Some(rest) = rest {
                sending.areas.push((rest, end));
                break;
            }
        }
        let last = sending.areas.is_empty().then(|| {
            let mut meta = sending.meta.clone();
            meta.gc_line = self.meta.gc_line;
            meta.outcomes_before = self.meta.outcomes_before;
            // This replica may itself hold versions from beyond what it has applied.
            let read_upto = self.meta.applied.max(self.fuzzy_upto);
            SnapshotEnd { meta: meta.encode(), read_upto, ..sending.end.clone() }
        });
        sending.number += 1;
        sending.sent_ns = cx.now.mono_ns;
        sending.acked_ns = cx.now.mono_ns;
        sending.chunk = SnapshotMessage::Chunk { transfer, number: sending.number, pairs, last };
        let message = NodeMessage::Snapshot { group: self.meta.group(), message: sending.chunk.clone() };
        cx.out.messages.push((from, message));
        Ok(())
    }

    fn on_chunk(
        &mut self,
        cx: &mut Cx,
        from: NodeId,
        transfer: i64,
        number: u64,
        pairs: Vec<(Bytes, Bytes)>,
        last: Option<SnapshotEnd>,
    ) -> Result<()> {
        let group = self.meta.group();
        let ack = NodeMessage::Snapshot { group, message: SnapshotMessage::Ack { transfer, number } };
        let idle = self
            .receiving
            .as_ref()
            .is_none_or(|r| r.is_open() && (r.from == from || cx.now.mono_ns - r.heard_ns >= TRANSFER_IDLE_NS));
        let fresh = self.receiving.as_ref().is_none_or(|r| r.from != from || r.transfer != transfer);
        if number == 0 && fresh && idle {
            let Some(meta) = pairs.first().and_then(|(_, value)| GroupMeta::decode(value.clone()).ok()) else {
                return Ok(());
            };
            // A state that ends before the log begins would leave a gap.
            if meta.group() != group || self.lead.is_some() || meta.applied < self.paxos.hard().truncated {
                return Ok(());
            }
            let old_news = if self.meta.installing {
                // What was applied here before may have been read here: never back behind it.
                meta.applied < self.meta.applied
            } else {
                meta.applied <= self.meta.applied
            };
            if old_news {
                cx.out.messages.push((from, ack));
                return Ok(());
            }
            cx.out.notes.push(format!("{group}: receiving a snapshot at {} from {from}", meta.applied));
            self.drop_staged(cx)?;
            let heard_ns = cx.now.mono_ns;
            self.receiving = Some(Receiving { from, transfer, next: 0, heard_ns, moving: None, installed: None });
        }
        let Some(receiving) = &mut self.receiving else { return Ok(()) };
        if receiving.from != from || receiving.transfer != transfer || number > receiving.next {
            return Ok(());
        }
        if number < receiving.next || !receiving.is_open() {
            cx.out.messages.push((from, ack));
            return Ok(());
        }
        // A peer's bytes: what is not as it should be ends the transfer, and another is asked for.
        let foreign = pairs.iter().any(|(key, _)| !keyspace::belongs_to(key, group));
        let whole = last.map(Moving::new);
        let other = matches!(&whole, Some(Ok(moving)) if moving.meta.group() != group);
        if foreign || other || matches!(&whole, Some(Err(_))) {
            cx.out.notes.push(format!("{group}: {from} sent a malformed snapshot; it is dropped"));
            return self.drop_staged(cx);
        }
        cx.out.messages.push((from, ack));
        receiving.next += 1;
        receiving.heard_ns = cx.now.mono_ns;
        let mut batch = Batch::default();
        for (key, value) in pairs.into_iter().skip(usize::from(number == 0)) {
            batch.put(keyspace::staged_key(group, &key), value);
        }
        cx.store.write(batch)?;
        let Some(Ok(moving)) = whole else { return Ok(()) };
        if self.lead.is_some() || (!self.meta.installing && moving.end.applied <= self.meta.applied) {
            // It has caught up without it.
            return self.drop_staged(cx);
        }
        self.begin_install(cx, moving)
    }

    /// Drops what has come of a snapshot, and forgets its sender.
    fn drop_staged(&mut self, cx: &mut Cx) -> Result<()> {
        self.receiving = None;
        let prefix = keyspace::staged_prefix(self.meta.group());
        let mut batch = Batch::default();
        batch.delete_range(prefix.clone(), keyspace::prefix_end(&prefix));
        Ok(cx.store.write(batch)?)
    }

    /// The snapshot is whole: marks the replica as being installed and drops its old state, in one batch.
    fn begin_install(&mut self, cx: &mut Cx, moving: Moving) -> Result<()> {
        let group = self.meta.group();
        cx.out.notes.push(format!("{group}: installing a snapshot at {}", moving.end.applied));
        let mut batch = Batch::default();
        let end = SnapshotMessage::Chunk { transfer: 0, number: 0, pairs: Vec::new(), last: Some(moving.end.clone()) };
        batch.put(keyspace::staged_end_key(group), NodeMessage::Snapshot { group, message: end }.encode());
        self.meta.installing = true;
        batch.put(keyspace::meta_key(group), self.meta.encode());
        for kind in [keyspace::PREPARED, keyspace::OUTCOME, keyspace::DECISION] {
            let prefix = keyspace::record_prefix(group, kind);
            batch.delete_range(prefix.clone(), keyspace::prefix_end(&prefix));
        }
        // Only the sender's range: what else this replica still counts as its own may have been
        // split off and be another group's by now.
        let (start, end) = keyspace::version_span(&moving.meta.range.span);
        batch.delete_range(start, end);
        cx.store.write(batch)?;
        self.prepared.clear();
        // Whoever was being sent the old state would get what is left of it.
        self.sending.clear();
        self.receiving.as_mut().expect("its last chunk has just come").moving = Some(moving);
        Ok(())
    }

    /// Moves some of a whole snapshot to its place; the last of it with the metadata that vouch for it.
    /// A crash in between begins again, and writes the same.
    pub(super) fn move_staged(&mut self, cx: &mut Cx) -> Result<()> {
        let group = self.meta.group();
        let Some(receiving) = &mut self.receiving else { return Ok(()) };
        let Some(moving) = &mut receiving.moving else { return Ok(()) };
        let prefix = keyspace::staged_prefix(group);
        let end = keyspace::prefix_end(&prefix);
        let (mut batch, mut size, mut rest) = (Batch::default(), 0, None);
        cx.store.scan(&moving.cursor, &end, false, &mut |key, value| {
            if size >= CHUNK_BYTES {
                rest = Some(key.to_vec());
                return Visit::Stop;
            }
            size += key.len() + value.len();
            batch.put(Bytes::copy_from_slice(&key[prefix.len()..]), Bytes::copy_from_slice(value));
            Visit::Next
        })?;
        if let Some(rest) = rest {
            moving.cursor = rest;
        } else {
            batch.put(keyspace::meta_key(group), moving.meta.encode());
            batch.delete_range(prefix, end);
            let moved = receiving.moving.take().expect("looked at above");
            receiving.installed = Some((moved.end, moved.meta));
            cx.out.flush_state = true;
        }
        Ok(cx.store.write(batch)?)
    }

    /// The state store was flushed: an installed snapshot is durable now.
    pub fn state_durable(&mut self, cx: &mut Cx, applied: paxos::Slot) -> Result<()> {
        self.split_unflushed.take_if(|slot| *slot <= applied);
        if self.meta.installing {
            if let Some(receiving) = &mut self.receiving
                && let Some((end, meta)) = receiving.installed.take_if(|(end, _)| end.applied <= applied)
            {
                self.receiving = None;
                self.finish_install(cx, end, meta)?;
            }
            return Ok(());
        }
        self.consensus(cx, paxos::Input::AppliedDurable(applied))
    }

    fn finish_install(&mut self, cx: &mut Cx, end: SnapshotEnd, meta: GroupMeta) -> Result<()> {
        let group = self.meta.group();
        self.meta = meta;
        self.meta.installing = false;
        let prefix = keyspace::record_prefix(group, keyspace::PREPARED);
        let mut records = Vec::new();
        cx.store.scan(&prefix, &keyspace::prefix_end(&prefix), false, &mut |_, value| {
            records.push(Bytes::copy_from_slice(value));
            Visit::Next
        })?;
        for record in records {
            let prepared = crate::command::PreparedTxn::decode(record)
                .map_err(|e| Stop(format!("{group}: a prepare record of a snapshot: {e}")))?;
            self.prepared.insert(prepared.txn, prepared);
        }
        cx.out.notes.push(format!("{group}: installed a snapshot at {}", end.applied));
        cx.out.ranges_changed = true;
        // What was promised for the old state says nothing of this one.
        self.promised_ts = self.meta.born_ts;
        self.promises.clear();
        self.fuzzy_upto = end.read_upto;
        let input = paxos::Input::SnapshotInstalled { applied: end.applied, epoch: end.epoch, config: end.config };
        self.consensus(cx, input)
    }

    /// What the node should report as applied when a flush begins: an installed snapshot counts.
    pub fn applied(&self) -> paxos::Slot {
        match self.receiving.as_ref().and_then(|r| r.installed.as_ref()) {
            Some((end, _)) => end.applied,
            // A flush that begins now vouches for no state.
            None if self.meta.installing => paxos::Slot(0),
            None => self.meta.applied,
        }
    }

    /// Sends unacknowledged chunks again, and forgets transfers that nobody wants.
    pub(super) fn resend_chunks(&mut self, cx: &mut Cx) -> Result<()> {
        let group = self.meta.group();
        let now = cx.now.mono_ns;
        self.sending.retain(|_, s| now - s.acked_ns < TRANSFER_IDLE_NS);
        for (to, sending) in &mut self.sending {
            if now - sending.sent_ns >= CHUNK_RESEND_NS {
                sending.sent_ns = now;
                cx.out.messages.push((*to, NodeMessage::Snapshot { group, message: sending.chunk.clone() }));
            }
        }
        if self.receiving.as_ref().is_some_and(|r| r.is_open() && now - r.heard_ns >= TRANSFER_IDLE_NS) {
            // The sender is gone; another snapshot will be asked for.
            self.drop_staged(cx)?;
        } else if self.receiving.as_ref().is_some_and(|r| r.installed.is_some()) {
            cx.out.flush_state = true;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
