//! A whole snapshot takes the place of the old state, once no keys would be lost by that.
//!
//! Problem: the state of a group may be replaced by one from after a split, which leaves out the keys
//! that were split off. A majority may be sent such snapshots, while the new group is on the sender's disk
//! only. If the receivers gave up what they had at once, and that disk were then lost, so were those keys, though
//! a majority of disks is there (I13).
//!
//! ```text
//!   n1       g1 [a..e)   g2 [e..z)       has applied the split; its log begins after it
//!   n2, n3   g1 [a..z)                   g1 alone would be replaced by [a..e): nobody but n1 has e..z
//!                 |
//!                 |  g1 [a..e) whole: it waits, beside the old state
//!                 |                      n1 is lost now: n2 and n3 go on with the old state and their logs
//!                 |  g2 [e..z) whole: now both take the place of the old state, g1 first
//!                 v
//!            g1 [a..e)   g2 [e..z)
//! ```
//!
//! The rule: **the keys of which a disk holds a state, or a whole snapshot, never become fewer.** So every replica of
//! a group is as good a witness of a split as one that has applied it from its log: for each chosen slot, whoever
//! has accepted it keeps it, or a state that covers it, with all that was ever split off from that. Any
//! majority then has all keys, whatever else is lost, and whoever sends snapshots to whom.
//!
//! Steps:
//! 1. All chunks are staged, and a record says so (`transfer`). The snapshot waits; the old state goes on to be
//!    applied to, and if it catches up by itself, the snapshot is dropped.
//! 2. The node (it sees all its groups) lets it go on once (a) no other group here has, or is about to have, a state of any
//!    of its keys: a group that was split off waits for its parent; and (b) the keys that it would give up are with
//!    other groups here: a state, or a whole snapshot. A group that has no state yet gives up nothing.
//! 3. In one batch the replica marks itself "installing", drops its old state, and says that it has begun.
//! 4. What is staged is moved to its place, the metadata last; that is flushed, and only then Paxos is told.
//!
//! Batches survive a crash in order: where (3) survives, so do the whole snapshots that it relied on. They begin in
//! the same step of the node, or after a restart in its first, and nothing takes their place before. A
//! snapshot that waits gives way to an older one, or to one of fewer keys: what it waits for may be gone with its sender.
//! A split that is applied from the log makes the new group from the old state, whatever was staged of it.
//!
//! Deviation: the paper does not say how a replica that missed a split is brought up (section 3.2.1 has
//! movedir copy what moves).

use bytes::Bytes;
use paxos::codec::DecodeError;
use paxos::{Ballot, NodeId, Slot};
use truetime::Now;

use super::transfer::{CHUNK_BYTES, Receiving, Stage};
use super::{Cx, Group, Result, Stop};
use crate::keyspace;
use crate::message::{NodeMessage, SnapshotEnd, SnapshotMessage};
use crate::meta::GroupMeta;
use crate::storage::{Batch, Storage, Visit};
use crate::types::Span;

/// A snapshot that is whole.
#[derive(Debug)]
pub(super) struct Staged {
    pub(super) end: SnapshotEnd,
    pub(super) meta: GroupMeta,
    /// The first staged key that is still to be moved.
    cursor: Vec<u8>,
}

/// The `number` in the record of a whole snapshot: its installation has begun.
const BEGUN: u64 = 0;
/// The same: it waits.
const WAITS: u64 = 1;

impl Staged {
    /// From what the last chunk says.
    pub(super) fn new(end: SnapshotEnd) -> std::result::Result<Staged, DecodeError> {
        let meta = GroupMeta { installing: false, ..GroupMeta::decode(end.meta.clone())? };
        let mut cursor = keyspace::staged_end_key(meta.group()).to_vec();
        cursor.push(0);
        Ok(Staged { end, meta, cursor })
    }

    /// The record that says that it is whole and waits.
    pub(super) fn waits(&self) -> Bytes {
        self.record(WAITS)
    }

    fn record(&self, number: u64) -> Bytes {
        let message = SnapshotMessage::Chunk { transfer: 0, number, pairs: Vec::new(), last: Some(self.end.clone()) };
        NodeMessage::Snapshot { group: self.meta.group(), message }.encode()
    }

    /// What a restart has to go on with.
    pub(super) fn resumed(me: NodeId, meta: &GroupMeta, store: &dyn Storage, now: Now) -> Result<Option<Receiving>> {
        let group = meta.group();
        let Some(record) = store.get(&keyspace::staged_end_key(group))? else { return Ok(None) };
        let damaged = |why: String| Stop(format!("{group}: the record of a whole snapshot: {why}"));
        let message = NodeMessage::decode(record).map_err(|e| damaged(e.to_string()))?;
        let NodeMessage::Snapshot { message: SnapshotMessage::Chunk { number, last: Some(end), .. }, .. } = message
        else {
            return Err(damaged("it is another message".into()));
        };
        let staged = Staged::new(end).map_err(|e| damaged(e.to_string()))?;
        if staged.meta.group() != group {
            return Err(damaged("it is another group's".into()));
        }
        match number {
            BEGUN if meta.installing => Ok(Some(Receiving::resumed(me, now, Stage::Moving(staged)))),
            WAITS => Ok(Some(Receiving::resumed(me, now, Stage::Whole(staged)))),
            _ => Err(damaged(format!("stage {number} of a replica that installs: {}", meta.installing))),
        }
    }
}

/// Whether some spans together have every key of one.
pub(crate) fn covered(span: &Span, by: &[Span]) -> bool {
    let mut at = span.start.clone();
    while span.contains(&at) {
        let ends = by.iter().filter(|other| other.contains(&at)).map(|other| &other.end);
        // An empty end is beyond all others.
        match ends.max_by_key(|end| (end.is_empty(), *end)) {
            None => return false,
            Some(end) if end.is_empty() => return true,
            Some(end) => at = end.clone(),
        }
    }
    true
}

impl Group {
    fn stage(&self) -> Option<&Stage> {
        self.receiving.as_ref().map(|receiving| &receiving.stage)
    }

    /// The keys of which there is a state.
    pub fn state(&self) -> Option<&Span> {
        (!self.meta.installing).then_some(&self.meta.range.span)
    }

    /// The keys of a whole snapshot that has not begun to take the place of the state.
    pub fn waits_to_install(&self) -> Option<&Span> {
        match self.stage() {
            Some(Stage::Whole(staged)) => Some(&staged.meta.range.span),
            _ => None,
        }
    }

    /// The keys of which there is a state, or is about to be one: no other group may have one of them.
    pub fn claims(&self) -> impl Iterator<Item = &Span> {
        let begun = match self.stage() {
            Some(Stage::Moving(staged) | Stage::Installed(staged)) => Some(&staged.meta.range.span),
            _ => None,
        };
        self.state().into_iter().chain(begun)
    }

    /// The keys that would not be lost if nobody else had them: of a state, or of a whole snapshot.
    pub fn holds(&self) -> impl Iterator<Item = &Span> {
        self.claims().chain(self.waits_to_install())
    }

    /// Whether a snapshot is being received or installed.
    pub fn is_sent_snapshot(&self) -> bool {
        self.receiving.is_some()
    }

    /// Lets a whole snapshot go that is of no more use.
    pub(super) fn drop_overtaken(&mut self, cx: &mut Cx) -> Result<()> {
        if let Some(Stage::Whole(staged)) = self.stage()
            && (self.lead.is_some() || (!self.meta.installing && staged.end.applied <= self.meta.applied))
        {
            return self.drop_staged(cx);
        }
        Ok(())
    }

    /// Nothing stands against the whole snapshot any more: marks the replica as being installed and drops its old
    /// state, in one batch.
    pub fn begin_install(&mut self, cx: &mut Cx) -> Result<()> {
        let group = self.meta.group();
        let Some(receiving) = &mut self.receiving else { return Ok(()) };
        let staged = match std::mem::replace(&mut receiving.stage, Stage::Open) {
            Stage::Whole(staged) => staged,
            other => {
                receiving.stage = other;
                return Ok(());
            }
        };
        assert!(self.lead.is_none(), "{group}: a leader's state is replaced");
        cx.out.notes.push(format!("{group}: installing a snapshot at {}", staged.end.applied));
        let mut batch = Batch::default();
        batch.put(keyspace::staged_end_key(group), staged.record(BEGUN));
        self.meta.installing = true;
        batch.put(keyspace::meta_key(group), self.meta.encode());
        for kind in [keyspace::PREPARED, keyspace::OUTCOME, keyspace::DECISION] {
            let prefix = keyspace::record_prefix(group, kind);
            batch.delete_range(prefix.clone(), keyspace::prefix_end(&prefix));
        }
        // Only the sender's range: what else this replica still counts as its own is another group's by now.
        let (start, end) = keyspace::version_span(&staged.meta.range.span);
        batch.delete_range(start, end);
        cx.store.write(batch)?;
        self.prepared.clear();
        // Whoever was being sent the old state would get what is left of it.
        self.sending.clear();
        receiving.stage = Stage::Moving(staged);
        Ok(())
    }

    /// Moves some of a whole snapshot to its place; the last of it with the metadata that vouch for it.
    /// A crash in between begins again, and writes the same.
    pub(super) fn move_staged(&mut self, cx: &mut Cx) -> Result<()> {
        let group = self.meta.group();
        let Some(receiving) = &mut self.receiving else { return Ok(()) };
        let Stage::Moving(staged) = &mut receiving.stage else { return Ok(()) };
        let prefix = keyspace::staged_prefix(group);
        let end = keyspace::prefix_end(&prefix);
        let (mut batch, mut size, mut rest) = (Batch::default(), 0, None);
        cx.store.scan(&staged.cursor, &end, false, &mut |key, value| {
            if size >= CHUNK_BYTES {
                rest = Some(key.to_vec());
                return Visit::Stop;
            }
            size += key.len() + value.len();
            batch.put(Bytes::copy_from_slice(&key[prefix.len()..]), Bytes::copy_from_slice(value));
            Visit::Next
        })?;
        if let Some(rest) = rest {
            staged.cursor = rest;
        } else {
            batch.put(keyspace::meta_key(group), staged.meta.encode());
            batch.delete_range(prefix, end);
            if let Stage::Moving(staged) = std::mem::replace(&mut receiving.stage, Stage::Open) {
                receiving.stage = Stage::Installed(staged);
            }
            cx.out.flush_state = true;
        }
        Ok(cx.store.write(batch)?)
    }

    /// The state store was flushed: an installed snapshot is durable now.
    pub fn state_durable(&mut self, cx: &mut Cx, applied: Slot) -> Result<()> {
        self.split_unflushed.take_if(|slot| *slot <= applied);
        if !self.meta.installing {
            return self.consensus(cx, paxos::Input::AppliedDurable(applied));
        }
        let durable = |r: &mut Receiving| matches!(&r.stage, Stage::Installed(s) if s.end.applied <= applied);
        match self.receiving.take_if(durable) {
            Some(Receiving { stage: Stage::Installed(staged), from, .. }) => self.finish_install(cx, from, staged),
            _ => Ok(()),
        }
    }

    fn finish_install(&mut self, cx: &mut Cx, from: NodeId, staged: Staged) -> Result<()> {
        let group = self.meta.group();
        let Staged { end, meta, .. } = staged;
        self.meta = meta;
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
        cx.out.notes.push(format!("{group}: installed a snapshot at {} from {from}", end.applied));
        cx.out.ranges_changed = true;
        // What was promised for the old state says nothing of this one.
        self.promised_ts = self.meta.born_ts;
        self.promises.clear();
        self.fuzzy_upto = end.read_upto;
        let input = paxos::Input::SnapshotInstalled { applied: end.applied, epoch: end.epoch, config: end.config };
        self.consensus(cx, input)
    }

    /// The parent has applied the split before a snapshot of this group could take its place. What is staged of it
    /// is gone with the batch that applied the split, and the log begins with its first slot.
    pub fn born(&mut self, cx: &mut Cx, meta: GroupMeta) -> Result<()> {
        let group = meta.group();
        assert!(self.claims().next().is_none(), "{group}: born of a split, and its state is here already");
        self.receiving = None;
        self.meta = meta;
        cx.out.ranges_changed = true;
        self.promised_ts = self.meta.born_ts;
        self.promises.clear();
        let config = self.meta.config.clone();
        self.consensus(cx, paxos::Input::SnapshotInstalled { applied: Slot(0), epoch: Ballot::ZERO, config })
    }

    /// What the node should report as applied when a flush begins: an installed snapshot counts.
    pub fn applied(&self) -> Slot {
        match self.stage() {
            Some(Stage::Installed(staged)) => staged.end.applied,
            // A flush that begins now vouches for no state.
            _ if self.meta.installing => Slot(0),
            _ => self.meta.applied,
        }
    }
}

#[cfg(test)]
mod tests;
