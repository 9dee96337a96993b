//! The log of one replica in memory: every entry that its disk holds or is about to hold.
//!
//! Above the chosen index there may be holes: accepts arrive in any order. From `truncated` up
//! to the chosen index there are none, and each entry there is the chosen one.

use std::collections::BTreeMap;

use crate::{Ballot, Entry, Payload, Slot};

/// What an entry costs in memory besides its command, in bytes.
const ENTRY_OVERHEAD_BYTES: usize = 96;

/// How many bytes an entry counts for, in the log and in a message.
pub(crate) fn entry_bytes(entry: &Entry) -> usize {
    ENTRY_OVERHEAD_BYTES + payload_bytes(&entry.payload)
}

fn payload_bytes(payload: &Payload) -> usize {
    match payload {
        Payload::Noop | Payload::Start => 0,
        Payload::Command(command) => command.len(),
        Payload::Config(config) => 8 * (config.voters.len() + config.learners.len()),
    }
}

/// Whether two entries hold the same value. The ballot under which a value was accepted is not a
/// part of it; the one under which it was first proposed is.
pub(crate) fn same_value(a: &Entry, b: &Entry) -> bool {
    a.origin == b.origin && a.payload == b.payload
}

/// Entries by slot.
#[derive(Debug, Default)]
pub(crate) struct Log {
    entries: BTreeMap<Slot, Entry>,
    bytes: usize,
    truncated: Slot,
    ballot_max: Ballot,
}

impl Log {
    /// Of these entries; those at or below `truncated` are dropped.
    pub(crate) fn new(mut entries: BTreeMap<Slot, Entry>, truncated: Slot) -> Log {
        let entries = entries.split_off(&truncated.next());
        let bytes = entries.values().map(entry_bytes).sum();
        let ballot_max = entries.values().map(|e| e.ballot).max().unwrap_or_default();
        Log { entries, bytes, truncated, ballot_max }
    }

    /// The entry at a slot.
    pub(crate) fn get(&self, slot: Slot) -> Option<&Entry> {
        self.entries.get(&slot)
    }

    /// Entries from a slot on, in order.
    pub(crate) fn from(&self, slot: Slot) -> impl Iterator<Item = &Entry> {
        self.entries.range(slot..).map(|(_, entry)| entry)
    }

    /// Puts an entry at its slot, over whatever was there.
    pub(crate) fn put(&mut self, entry: Entry) {
        assert!(entry.slot > self.truncated, "{} was truncated", entry.slot);
        self.bytes += entry_bytes(&entry);
        self.ballot_max = self.ballot_max.max(entry.ballot);
        if let Some(old) = self.entries.insert(entry.slot, entry) {
            self.bytes -= entry_bytes(&old);
        }
    }

    /// Drops every entry at or below a slot.
    pub(crate) fn truncate(&mut self, slot: Slot) {
        while let Some(first) = self.entries.first_entry().filter(|e| *e.key() <= slot) {
            self.bytes -= entry_bytes(&first.remove());
        }
        self.truncated = self.truncated.max(slot);
    }

    /// Everything at or below this has been dropped.
    pub(crate) fn truncated(&self) -> Slot {
        self.truncated
    }

    /// The last slot with an entry; the truncated one if there is none.
    pub(crate) fn last(&self) -> Slot {
        self.entries.last_key_value().map_or(self.truncated, |(slot, _)| *slot)
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many entries are held.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// No entry was ever accepted above this ballot.
    pub(crate) fn ballot_max(&self) -> Ballot {
        self.ballot_max
    }

    /// Entries from `from` to `to`, both included, as far as they fit into `bytes_max`, but at
    /// least one if there is one. Stops before a hole.
    pub(crate) fn batch(&self, from: Slot, to: Slot, bytes_max: usize) -> Vec<Entry> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        let mut next = from;
        for entry in self.from(from).take_while(|e| e.slot <= to) {
            bytes += entry_bytes(entry);
            if entry.slot != next || (bytes > bytes_max && !batch.is_empty()) {
                break;
            }
            batch.push(entry.clone());
            next = next.next();
        }
        batch
    }
}
