//! Applying the log: what every replica does with a chosen record, alike.

use paxos::{Ballot, Chosen, Event, Payload, Slot};
use truetime::{Guarantee, Timestamp};

use super::{Cx, Group, Result, Stop};
use crate::command::Command;
use crate::keyspace;
use crate::meta::{GroupMeta, encode_decision, encode_outcome, first_txn_at};
use crate::mvcc;
use crate::storage::Batch;
use crate::types::{RangeDescriptor, Span};

impl Group {
    /// Takes over what a step of consensus asks for.
    pub(super) fn absorb(&mut self, cx: &mut Cx, ready: paxos::Ready) -> Result<()> {
        let group = self.meta.group();
        let wrap = |(to, message)| (to, crate::message::NodeMessage::Paxos { group, message });
        cx.out.writes.extend(ready.writes);
        cx.out.persist = cx.out.persist.max(ready.persist);
        cx.out.sync |= ready.sync;
        cx.out.messages.extend(ready.messages.into_iter().map(wrap));
        cx.out.after_sync.extend(ready.after_sync.into_iter().map(wrap));
        self.paxos_wake_ns = ready.wake_at_ns;
        if !ready.chosen.is_empty() {
            self.apply_chosen(cx, ready.chosen)?;
        }
        for event in ready.events {
            match event {
                Event::Leading(leadership) => self.begin_lead(cx, leadership)?,
                Event::Deposed(ballot) => self.end_lead(cx, ballot),
                Event::LeaderHint(_) => cx.out.ranges_changed = true,
                Event::NeedsSnapshot(peer) => self.begin_transfer(cx, peer)?,
            }
        }
        Ok(())
    }

    /// Applies chosen slots, all in one batch with the metadata that vouches for them.
    pub(super) fn apply_chosen(&mut self, cx: &mut Cx, chosen: Vec<Chosen>) -> Result<()> {
        if self.meta.installing {
            // There is no state to apply this to. Once there is, it is handed out again.
            return Ok(());
        }
        let mut batch = Batch::default();
        let mut applied: Vec<(Slot, Ballot)> = Vec::with_capacity(chosen.len());
        for Chosen { slot, origin, payload } in chosen {
            if slot <= self.meta.applied {
                continue;
            }
            assert_eq!(slot, self.meta.applied.next(), "{}: applied out of order", self.meta.group());
            match payload {
                Payload::Noop => {}
                Payload::Start => self.meta.epoch = origin,
                Payload::Config(config) => self.meta.config = config,
                Payload::Command(bytes) => {
                    let command = Command::decode(bytes)
                        .map_err(|e| Stop(format!("{} {slot}: a chosen record: {e}", self.meta.group())))?;
                    self.apply(cx, &mut batch, command);
                }
            }
            self.meta.applied = slot;
            applied.push((slot, origin));
        }
        if applied.is_empty() {
            return Ok(());
        }
        let meta_key = keyspace::meta_key(self.meta.group());
        if self.breaks(Guarantee::AppliedWithData) {
            let mut alone = Batch::default();
            alone.put(meta_key.clone(), self.meta.encode());
            cx.store.write(alone)?;
        }
        batch.put(meta_key, self.meta.encode());
        cx.store.write(batch)?;
        while let Some(entry) = self.promises.first_entry() {
            if *entry.key() > self.meta.applied {
                break;
            }
            self.promised_ts = self.promised_ts.max(entry.remove());
        }
        for (slot, origin) in applied {
            self.after_apply(cx, slot, origin);
        }
        Ok(())
    }

    fn apply(&mut self, cx: &mut Cx, batch: &mut Batch, command: Command) {
        let group = self.meta.group();
        if let Some(ts) = command.assigned_ts() {
            assert!(ts > self.meta.assigned_ts, "{group}: timestamp {ts} is not above {}", self.meta.assigned_ts);
            self.meta.assigned_ts = ts;
        }
        match command {
            Command::Commit { txn, ts, writes, participants } => {
                mvcc::put_versions(batch, &writes, ts);
                batch.put(keyspace::record_key(group, keyspace::OUTCOME, txn), encode_outcome(Some(ts)));
                if !participants.is_empty() {
                    let decision = encode_decision(ts, &participants);
                    batch.put(keyspace::record_key(group, keyspace::DECISION, txn), decision);
                }
                self.meta.commit_ts = self.meta.commit_ts.max(ts);
            }
            Command::Abort { txn } => {
                batch.put(keyspace::record_key(group, keyspace::OUTCOME, txn), encode_outcome(None));
            }
            Command::Prepare(prepared) => {
                batch.put(keyspace::record_key(group, keyspace::PREPARED, prepared.txn), prepared.encode());
                let txn = prepared.txn;
                let twice = self.prepared.insert(txn, prepared);
                assert!(twice.is_none(), "{group}: {txn} prepared twice");
            }
            Command::Decide { txn, commit_ts } => {
                let Some(prepared) = self.prepared.remove(&txn) else { return };
                batch.delete(keyspace::record_key(group, keyspace::PREPARED, txn));
                batch.put(keyspace::record_key(group, keyspace::OUTCOME, txn), encode_outcome(commit_ts));
                if let Some(ts) = commit_ts {
                    assert!(
                        ts >= prepared.prepare_ts,
                        "{group}: {txn} commits at {ts}, below its prepare timestamp {}",
                        prepared.prepare_ts
                    );
                    mvcc::put_versions(batch, &prepared.writes, ts);
                    self.meta.commit_ts = self.meta.commit_ts.max(ts);
                }
            }
            Command::Split { at, new_group, leader, ts } => {
                let old = self.meta.range.span.clone();
                let right = Span { start: at.clone(), end: old.end };
                assert!(self.meta.range.span.covers(&right), "{group}: split outside its range");
                let range = RangeDescriptor { group: new_group, span: right, epoch: self.meta.range.epoch + 1 };
                let mut child = GroupMeta::new(range, self.meta.config.clone(), leader, ts);
                child.gc_line = self.meta.gc_line;
                child.outcomes_before = self.meta.outcomes_before;
                batch.put(keyspace::meta_key(new_group), child.encode());
                // A snapshot of it that was on its way here is not needed any more.
                let staged = keyspace::staged_prefix(new_group);
                batch.delete_range(staged.clone(), keyspace::prefix_end(&staged));
                self.meta.range.span.end = at;
                self.meta.range.epoch += 1;
                // A transfer under way began with the old range, and would end with a collection
                // line that the new group does not share: its receiver asks again.
                self.sending.clear();
                self.split_unflushed = Some(self.meta.applied.next());
                cx.out.births.push(child);
                cx.out.ranges_changed = true;
            }
            Command::Gc { line, outcomes_before } => {
                self.meta.gc_line = self.meta.gc_line.max(line);
                if outcomes_before > self.meta.outcomes_before {
                    batch.delete_range(
                        keyspace::record_prefix(group, keyspace::OUTCOME),
                        keyspace::record_key(group, keyspace::OUTCOME, first_txn_at(outcomes_before)),
                    );
                    self.meta.outcomes_before = outcomes_before;
                }
                self.sweep = Some(None);
            }
            Command::Forget { txns } => {
                for txn in txns {
                    batch.delete(keyspace::record_key(group, keyspace::DECISION, txn));
                }
            }
        }
    }

    /// No write at or below this is still to come, but for prepared transactions.
    pub(super) fn paxos_safe_ts(&self) -> Timestamp {
        self.promised_ts.max(self.meta.assigned_ts)
    }
}
