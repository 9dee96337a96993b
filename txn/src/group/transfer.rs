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
//!   last chunk: metadata                   -> staged, and a record: "whole". The rest is in `install`
//! ```
//!
//! The old state stays, and goes on to be applied to, until all of the new one is here. A leader that
//! has truncated its log sends snapshots to all others at once; if each dropped its state
//! at the first chunk, and the leader's disk were then lost, the group would be lost with it, though
//! a majority has its disks. From the record on, the rest is this replica's own
//! work, and a restart goes on with it: batches survive a crash in order. It costs a second copy of the group's
//! state on the disk for as long as it takes.

use bytes::Bytes;
use paxos::NodeId;
use truetime::{Guarantee, Now};

use super::install::Staged;
use super::{Cx, Group, Result};
use crate::keyspace;
use crate::message::{NodeMessage, SnapshotEnd, SnapshotMessage};
use crate::meta::GroupMeta;
use crate::storage::{Batch, Visit};

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
    pub(super) from: NodeId,
    transfer: i64,
    next: u64,
    heard_ns: i64,
    pub(super) stage: Stage,
}

/// How far a transfer is.
#[derive(Debug)]
pub(super) enum Stage {
    /// Chunks are still to come.
    Open,
    /// All is here, and waits until it may take the place of the old state.
    Whole(Staged),
    /// It is moved to its place.
    Moving(Staged),
    /// All is written and waits for the flush.
    Installed(Staged),
}

impl Receiving {
    /// What a restart found.
    pub(super) fn resumed(me: NodeId, now: Now, stage: Stage) -> Receiving {
        Receiving { from: me, transfer: 0, next: 0, heard_ns: now.mono_ns, stage }
    }

    /// Whether there is something to be moved.
    pub(super) fn is_moving(&self) -> bool {
        matches!(self.stage, Stage::Moving(_))
    }

    /// Whether it still hangs on its sender.
    fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Open)
    }

    /// Whether it gives way to another transfer, of which this is the metadata.
    fn gives_way(&self, now: Now, from: NodeId, meta: &GroupMeta) -> bool {
        match &self.stage {
            Stage::Open => self.from == from || now.mono_ns - self.heard_ns >= TRANSFER_IDLE_NS,
            // It may wait for what is gone with its sender, and those that are left have older states; or for a
            // group that has taken some of its keys.
            Stage::Whole(staged) => meta.applied < staged.end.applied || meta.range.span != staged.meta.range.span,
            Stage::Moving(_) | Stage::Installed(_) => false,
        }
    }
}

/// The `number` of an acknowledgement that stands for "I have no state of this group".
pub(crate) const NO_REPLICA: u64 = u64::MAX;
/// How often a replica without a state asks for one, in nanoseconds.
const BEG_NS: i64 = 1_000_000_000;
/// Bytes in one chunk, about.
pub(super) const CHUNK_BYTES: usize = 512 << 10;
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
            // This node may yet lose the birth of the new group, with what else it has not flushed. Then nobody has a
            // snapshot of it for the receiver, which would wait in vain. It will be asked again.
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
        let fresh = self.receiving.as_ref().is_none_or(|r| r.from != from || r.transfer != transfer);
        if number == 0 && fresh {
            let Some(meta) = pairs.first().and_then(|(_, value)| GroupMeta::decode(value.clone()).ok()) else {
                return Ok(());
            };
            if self.receiving.as_ref().is_some_and(|r| !r.gives_way(cx.now, from, &meta)) {
                return Ok(());
            }
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
            self.receiving = Some(Receiving { from, transfer, next: 0, heard_ns, stage: Stage::Open });
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
        let whole = last.map(Staged::new);
        let other = matches!(&whole, Some(Ok(staged)) if staged.meta.group() != group);
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
        if let Some(Ok(staged)) = whole {
            batch.put(keyspace::staged_end_key(group), staged.waits());
            receiving.stage = Stage::Whole(staged);
        }
        cx.store.write(batch)?;
        // It may have caught up without it.
        self.drop_overtaken(cx)
    }

    /// Drops what has come of a snapshot, and forgets its sender.
    pub(super) fn drop_staged(&mut self, cx: &mut Cx) -> Result<()> {
        self.receiving = None;
        let prefix = keyspace::staged_prefix(self.meta.group());
        let mut batch = Batch::default();
        batch.delete_range(prefix.clone(), keyspace::prefix_end(&prefix));
        Ok(cx.store.write(batch)?)
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
        } else if matches!(&self.receiving, Some(Receiving { stage: Stage::Installed(_), .. })) {
            cx.out.flush_state = true;
        }
        Ok(())
    }
}
