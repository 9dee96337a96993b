//! What the world reads in the logs of all nodes, and nobody in the cluster could: whether they agree.
//!
//! - **I3.** Each replica's log, up to where it knows slots to be chosen, holds the values that all others
//!   hold: at any time, through restarts, and of those that are gone by now too.
//! - **I2.** In the order of the slots, the timestamps that leaders assigned rise, over all leaderships. A
//!   value of an older leadership behind the start of a newer one has no effect (the epoch rule), and
//!   so its timestamp is none; at rest, its transaction has not committed by it.
//! - **I4.** As a promise or an acceptance leaves a node, what it vouches for is in the durable part of that
//!   node's log. The nodes have their own order of writing and sending; this does not trust it. Of a slot that is
//!   chosen, though, a quorum of disks holds the value whatever this one does, and nothing is vouched for.

use std::collections::BTreeMap;

use paxos::{Ballot, Entry, GroupId, Message, NodeId, Payload, Slot};
use truetime::Timestamp;
use txn::command::Command;
use txn::{GroupLog, NodeMessage, TxnId};

use crate::counters::Counters;
use crate::invariants::{I2, I3, I4};
use crate::trace::ms_of;
use crate::world::World;

/// The values that are chosen.
#[derive(Debug, Default)]
pub struct ChosenLogs {
    groups: BTreeMap<GroupId, ChosenLog>,
    /// Up to where each replica's log was read.
    read: BTreeMap<(NodeId, GroupId), Slot>,
}

/// Those of one group.
#[derive(Debug, Default)]
struct ChosenLog {
    values: BTreeMap<Slot, (NodeId, Entry)>,
    /// Some node has told another that slots up to here are chosen.
    told: Slot,
    /// Up to where timestamps were looked at, the leadership then in force, and the last timestamp.
    walked: Slot,
    epoch: Option<Ballot>,
    /// Slots were passed over, of which nothing is known.
    gaps: bool,
    /// The commits that were looked at, and whether one of that transaction has an effect.
    commits: BTreeMap<TxnId, bool>,
    last: Option<(Slot, Timestamp)>,
}

impl ChosenLogs {
    /// Reads on in a replica's durable log.
    fn read(&mut self, node: NodeId, group: GroupId, log: &GroupLog, counters: &mut Counters) -> Result<(), String> {
        let read = self.read.entry((node, group)).or_default();
        let known = self.groups.entry(group).or_default();
        // What is called truncated may still be there, and be of an older leadership: nobody reads it.
        let from = (*read).min(log.hard.chosen).max(log.hard.truncated);
        let new = log.entries.range(Slot(from.0 + 1)..).map(|(_, entry)| entry);
        for entry in new.take_while(|entry| entry.slot <= log.hard.chosen) {
            let (first, value) = known.values.entry(entry.slot).or_insert_with(|| (node, entry.clone()));
            if (&value.payload, value.origin) != (&entry.payload, entry.origin) {
                let slot = entry.slot;
                return Err(format!(
                    "I3: consensus: {slot} of {group} is {value:?} by {first}, and {entry:?} by {node}"
                ));
            }
            counters.hit(I3);
        }
        *read = log.hard.chosen;
        Ok(())
    }
}

impl ChosenLogs {
    /// Whether each commit of a transaction in a group's log is a value of an older leadership behind the start of a
    /// newer one, and so must have no effect.
    pub fn is_void(&self, group: GroupId, txn: TxnId) -> bool {
        self.groups.get(&group).is_some_and(|log| !log.gaps && log.commits.get(&txn) == Some(&false))
    }
}

impl ChosenLog {
    /// Goes on in the order of the slots, as far as there are values. One that no replica kept for long
    /// enough to be read is passed over.
    fn walk(&mut self, group: GroupId, counters: &mut Counters) -> Result<(), String> {
        for (slot, (_, entry)) in self.values.range(Slot(self.walked.0 + 1)..) {
            self.gaps |= self.walked.next() != *slot;
            self.walked = *slot;
            if entry.payload == Payload::Start {
                self.epoch = self.epoch.max(Some(entry.origin));
            }
            let Payload::Command(bytes) = &entry.payload else { continue };
            let void = self.epoch.is_some_and(|epoch| entry.origin < epoch);
            let command =
                Command::decode(bytes.clone()).map_err(|e| format!("I3: consensus: {slot} of {group}: {e}"))?;
            if void {
                counters.hit("value of an older leader behind the start of a newer");
            }
            if let Command::Commit { txn, .. } = &command {
                *self.commits.entry(*txn).or_default() |= !void;
            }
            let Some(ts) = command.assigned_ts().filter(|_| !void) else { continue };
            if let Some((before, last)) = self.last
                && ts <= last
            {
                let (ts, last) = (ms_of(ts), ms_of(last));
                return Err(format!("I2: timestamps: {group} assigned {ts} in {slot}, after {last} in {before}"));
            }
            self.last = Some((*slot, ts));
            counters.hit(I2);
        }
        Ok(())
    }
}

/// What an acceptance or a promise lacks in the log of its sender, in slots after those that are chosen.
fn unvouched(log: Option<&GroupLog>, chosen: Slot, message: &Message) -> Option<String> {
    let empty = GroupLog::default();
    let log = log.unwrap_or(&empty);
    match message {
        Message::Promise { ballot, .. } if log.hard.promised < *ballot => Some(format!("its promise of {ballot}")),
        Message::Accepted { ballot, ranges, .. } => {
            let slots = ranges.iter().flat_map(|(first, last)| (first.0.max(chosen.0 + 1)..=last.0).map(Slot));
            let there = |slot: &Slot| {
                *slot <= log.hard.truncated || log.entries.get(slot).is_some_and(|entry| entry.ballot >= *ballot)
            };
            slots.filter(|slot| !there(slot)).map(|slot| format!("its acceptance of {slot} under {ballot}")).next()
        }
        _ => None,
    }
}

impl World {
    /// Reads what is new in all logs.
    pub(crate) fn read_logs(&mut self) -> Result<(), String> {
        let (chosen, counters) = (&mut self.chosen, &mut self.shared.counters);
        for server in self.servers.values() {
            for (group, log) in server.log.durable() {
                chosen.read(server.id, *group, log, counters)?;
            }
        }
        for (group, log) in &mut chosen.groups {
            log.walk(*group, counters)?;
        }
        Ok(())
    }

    /// A message leaves a node for another.
    pub(crate) fn vouched(&mut self, from: NodeId, message: &NodeMessage) {
        let NodeMessage::Paxos { group, message } = message else { return };
        let told = &mut self.chosen.groups.entry(*group).or_default().told;
        if let Message::Promise { chosen, .. }
        | Message::Accept { chosen, .. }
        | Message::Accepted { chosen, .. }
        | Message::ChosenEntries { chosen, .. } = message
        {
            *told = (*told).max(*chosen);
        }
        let told = *told;
        if !matches!(message, Message::Promise { .. } | Message::Accepted { .. }) {
            return;
        }
        self.shared.counters.hit(I4);
        let log = self.servers[&from].log.durable().get(group);
        if let Some(what) = unvouched(log, told, message) {
            self.fail(format!("I4: durability: {from} tells of {what} in {group} before it is durable"));
        }
    }
}

#[cfg(test)]
mod tests {
    use paxos::HardState;

    use super::*;

    fn entry(slot: u64, round: u64, ts: i64) -> Entry {
        let ballot = Ballot { round, node: NodeId(1) };
        let command = Command::Commit {
            txn: txn::TxnId::new(Timestamp::from_nanos(ts), NodeId(1), slot),
            ts: Timestamp::from_nanos(ts),
            writes: Vec::new(),
            participants: Vec::new(),
        };
        Entry { slot: Slot(slot), ballot, origin: ballot, payload: Payload::Command(command.encode()) }
    }

    fn log(entries: &[Entry]) -> GroupLog {
        let chosen = entries.last().map_or(Slot(0), |entry| entry.slot);
        let entries = entries.iter().map(|entry| (entry.slot, entry.clone())).collect();
        GroupLog { hard: HardState { chosen, ..HardState::default() }, entries }
    }

    fn judge(logs: &[&[Entry]]) -> Result<(), String> {
        let (mut chosen, mut counters) = (ChosenLogs::default(), Counters::default());
        for (node, entries) in (1..).zip(logs) {
            chosen.read(NodeId(node), GroupId(1), &log(entries), &mut counters)?;
        }
        chosen.groups.values_mut().try_for_each(|log| log.walk(GroupId(1), &mut counters))
    }

    #[test]
    fn two_values_of_a_slot_and_falling_timestamps_are_found() {
        assert_eq!(judge(&[&[entry(1, 1, 10), entry(2, 1, 11)], &[entry(1, 1, 10)]]), Ok(()));
        assert!(judge(&[&[entry(1, 1, 10)], &[entry(1, 2, 12)]]).unwrap_err().starts_with("I3: "));
        assert!(judge(&[&[entry(1, 1, 10), entry(2, 1, 10)]]).unwrap_err().starts_with("I2: "));
        // Behind the start of a newer leadership, a value of an older one has no effect.
        let start = Entry { payload: Payload::Start, ..entry(2, 2, 0) };
        assert_eq!(judge(&[&[entry(1, 1, 10), start, entry(3, 1, 5), entry(4, 2, 11)]]), Ok(()));
    }

    #[test]
    fn what_is_not_in_the_log_is_not_vouched_for() {
        let ballot = Ballot { round: 1, node: NodeId(1) };
        let accepted = |ranges| Message::Accepted { ballot, chosen: Slot(0), lease: None, ranges };
        let log = log(&[entry(1, 1, 10)]);
        let (one, two) = (accepted(vec![(Slot(1), Slot(1))]), accepted(vec![(Slot(1), Slot(2))]));
        assert_eq!(unvouched(Some(&log), Slot(0), &one), None);
        assert!(unvouched(Some(&log), Slot(0), &two).is_some());
        assert!(unvouched(None, Slot(0), &one).is_some());
        assert_eq!(unvouched(None, Slot(2), &two), None, "they are chosen");
    }
}
