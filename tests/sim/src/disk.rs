//! A node's log store: what is written is durable only after a sync, and a crash loses any suffix
//! of what was not synced.
//!
//! A batch is atomic and batches survive in order, as a write-ahead log with checksums gives it. A
//! process that is killed loses nothing that was written; a power cut may. Both are drawn here, by
//! how long a prefix survives. The batch after it may be torn: some of it is on the disk, and a
//! checksum over the whole; whoever opens the log drops it, and may do so only at the end.
//!
//! After a failed sync nobody knows what is on the disk: as after a power cut, any prefix of what was
//! written since the last good one. And a record may rot: then its checksum does not match, and
//! the log does not open.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use paxos::{Entry, GroupId, HardState, NodeId, Slot, Write};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use txn::{GroupLog, NodeMessage};

/// One `NodeReady`'s writes, and what waits for them.
#[derive(Debug)]
struct Batch {
    persist: u64,
    writes: Vec<(GroupId, Write)>,
    after_sync: Vec<(NodeId, NodeMessage)>,
}

/// The last batch in the log, of which perhaps not all was written.
#[derive(Debug)]
struct Tail {
    writes: Vec<(GroupId, Write)>,
    /// Of all of it.
    crc: u32,
}

/// What there is to say of a crash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Batches of which nothing is left to use.
    pub batches: u64,
    /// Of the first of them, a part is on the disk.
    pub torn: bool,
}

/// The log store of one node.
#[derive(Debug, Default)]
pub struct SimLog {
    durable: BTreeMap<GroupId, GroupLog>,
    /// What a crash left half done; looked at when the log is next opened.
    tail: Option<Tail>,
    /// Records that hold a wrong bit, as they would now be read, each with its checksum: the hard
    /// state of a group (none), or the entry of a slot.
    rotten: BTreeMap<(GroupId, Option<Slot>), Vec<u8>>,
    pending: VecDeque<Batch>,
    /// Batches that a lying disk called durable. Empty but for the canary.
    lied: Vec<Vec<(GroupId, Write)>>,
    /// How many of `pending` the running sync covers; none runs if `None`.
    syncing: Option<usize>,
    /// Another sync is asked for as soon as this one ends.
    wanted: bool,
    /// A sync has failed, and its node goes on: nothing after what it covered will be found again, whatever later
    /// syncs say. Only a canary does that.
    holed: bool,
}

impl SimLog {
    /// Writes a batch. `after_sync` is given back by the sync that makes it durable.
    pub fn append(&mut self, persist: u64, writes: Vec<(GroupId, Write)>, after_sync: Vec<(NodeId, NodeMessage)>) {
        self.pending.push_back(Batch { persist, writes, after_sync });
    }

    /// Asks for a sync. True if it begins now; if one is running, the next begins at its end.
    pub fn begin_sync(&mut self) -> bool {
        if self.syncing.is_some() {
            self.wanted = true;
            return false;
        }
        self.wanted = false;
        self.syncing = Some(self.pending.len());
        true
    }

    /// The running sync is done: the number to report as persisted, what may leave now, and
    /// whether the next sync is to begin. With `lie`, nothing has become durable.
    pub fn end_sync(&mut self, lie: bool) -> (u64, Vec<(NodeId, NodeMessage)>, bool) {
        let count = self.syncing.take().expect("a sync that ends has begun");
        let (mut persist, mut messages) = (0, Vec::new());
        for batch in self.pending.drain(..count) {
            persist = persist.max(batch.persist);
            messages.extend(batch.after_sync);
            self.lied.push(batch.writes);
        }
        if !lie && !self.holed {
            for writes in std::mem::take(&mut self.lied) {
                self.apply(writes);
            }
        }
        (persist, messages, self.wanted)
    }

    /// The process, or the machine, stops. What was written but not synced survives up to a random
    /// point, or wholly if only the process died.
    pub fn crash(&mut self, power_cut: bool, rng: &mut ChaCha8Rng) -> Lost {
        let mut unsynced: Vec<_> = std::mem::take(&mut self.lied);
        unsynced.extend(self.pending.drain(..).map(|batch| batch.writes));
        let total = unsynced.len();
        let kept = if power_cut { rng.random_range(0..=total) } else { total };
        let mut unsynced = unsynced.into_iter();
        for writes in unsynced.by_ref().take(kept) {
            self.apply(writes);
        }
        let mut torn = false;
        if let Some(mut writes) = unsynced.next()
            && rng.random()
        {
            let crc = checksum(&writes);
            let there = rng.random_range(0..writes.len().max(1));
            writes.truncate(there);
            self.tail = Some(Tail { writes, crc });
            torn = true;
        }
        self.syncing = None;
        self.wanted = false;
        self.holed = false;
        Lost { batches: (total - kept) as u64, torn }
    }

    /// The sync that ends has failed, and nobody cares.
    pub fn go_on(&mut self) {
        self.holed = true;
    }

    /// What a restart finds if it looks at no checksum: records with wrong bits, as long as they are records.
    pub fn open_blindly(&mut self) -> Result<BTreeMap<GroupId, GroupLog>, String> {
        for ((group, slot), bytes) in std::mem::take(&mut self.rotten) {
            let record = Bytes::copy_from_slice(&bytes[..bytes.len() - CRC_BYTES]);
            let Some(log) = self.durable.get_mut(&group) else { continue };
            match slot {
                Some(slot) if log.entries.contains_key(&slot) => {
                    log.entries.insert(slot, Entry::decode(record).map_err(|e| e.to_string())?);
                }
                Some(_) => {}
                None => log.hard = HardState::decode(record).map_err(|e| e.to_string())?,
            }
        }
        self.open()
    }

    /// What a restart finds. A torn batch at the end is dropped; any other record whose checksum
    /// does not match is an error.
    pub fn open(&mut self) -> Result<BTreeMap<GroupId, GroupLog>, String> {
        for ((group, slot), bytes) in &self.rotten {
            if !self.holds(*group, *slot) {
                continue;
            }
            let (record, crc) = bytes.split_at(bytes.len() - CRC_BYTES);
            if crc32fast::hash(record).to_le_bytes() != crc {
                let record = slot.map_or("hard state".into(), |slot| format!("entry {slot}"));
                return Err(format!("the log is damaged: the checksum of the {record} of {group} does not match"));
            }
        }
        if let Some(Tail { writes, crc }) = self.tail.take()
            && checksum(&writes) == crc
        {
            self.apply(writes);
        }
        Ok(self.durable.clone())
    }

    /// What is durable of each group's log.
    pub fn durable(&self) -> &BTreeMap<GroupId, GroupLog> {
        &self.durable
    }

    fn holds(&self, group: GroupId, slot: Option<Slot>) -> bool {
        let log = self.durable.get(&group);
        log.is_some_and(|log| slot.is_none_or(|slot| log.entries.contains_key(&slot)))
    }

    /// Flips one bit of a durable record or of its checksum. False if there is none.
    pub fn rot(&mut self, rng: &mut ChaCha8Rng) -> bool {
        let Some(at) = (!self.durable.is_empty()).then(|| rng.random_range(0..self.durable.len())) else {
            return false;
        };
        let (group, log) = self.durable.iter().nth(at).expect("within its length");
        let record = rng.random_range(0..=log.entries.len());
        let (slot, mut bytes) = match log.entries.values().nth(record) {
            Some(entry) => (Some(entry.slot), entry.encode().to_vec()),
            None => (None, log.hard.encode().to_vec()),
        };
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        let bit = rng.random_range(0..bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        self.rotten.insert((*group, slot), bytes);
        true
    }

    /// Every record holds again what was written.
    pub fn mend(&mut self) {
        self.rotten.clear();
    }

    /// Whether a record that is still there holds a wrong bit.
    pub fn is_rotten(&self) -> bool {
        self.rotten.keys().any(|(group, slot)| self.holds(*group, *slot))
    }

    fn apply(&mut self, writes: Vec<(GroupId, Write)>) {
        for (group, write) in writes {
            let log = self.durable.entry(group).or_default();
            // What is written anew has no rot.
            match write {
                Write::HardState(hard) => {
                    log.hard = hard;
                    self.rotten.remove(&(group, None));
                }
                Write::Entry(entry) => {
                    self.rotten.remove(&(group, Some(entry.slot)));
                    log.entries.insert(entry.slot, entry);
                }
                Write::Truncate(slot) => log.entries = log.entries.split_off(&slot.next()),
                Write::Clear => log.entries.clear(),
            }
        }
    }
}

const CRC_BYTES: usize = 4;

fn checksum(writes: &[(GroupId, Write)]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for (group, write) in writes {
        let (kind, bytes) = match write {
            Write::HardState(hard) => (0, hard.encode()),
            Write::Entry(entry) => (1, entry.encode()),
            Write::Truncate(slot) => (2, slot.0.to_be_bytes().to_vec().into()),
            Write::Clear => (3, Bytes::new()),
        };
        hasher.update(&group.0.to_be_bytes());
        hasher.update(&[kind]);
        hasher.update(&bytes);
    }
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, stream};
    use paxos::{Ballot, Payload};

    fn chosen(log: &mut SimLog) -> u64 {
        log.open().unwrap().get(&GroupId(1)).map_or(0, |g| g.hard.chosen.0)
    }

    fn write(log: &mut SimLog, n: u64) {
        let hard = HardState { chosen: Slot(n), ..HardState::default() };
        log.append(n, vec![(GroupId(1), Write::HardState(hard))], Vec::new());
    }

    #[test]
    fn a_power_cut_loses_a_suffix_of_what_was_not_synced_and_nothing_else() {
        let mut seen = std::collections::BTreeSet::new();
        for part in 0..100 {
            let mut rng = stream(1, 1, Purpose::Disk, part);
            let mut log = SimLog::default();
            write(&mut log, 1);
            write(&mut log, 2);
            assert!(log.begin_sync());
            write(&mut log, 3);
            assert!(!log.begin_sync(), "one sync at a time");
            assert_eq!(log.end_sync(false), (2, Vec::new(), true));
            write(&mut log, 4);
            log.crash(true, &mut rng);
            seen.insert(chosen(&mut log));
        }
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [2, 3, 4]);
    }

    #[test]
    fn a_killed_process_loses_nothing_that_it_wrote() {
        let mut log = SimLog::default();
        write(&mut log, 1);
        log.crash(false, &mut stream(1, 1, Purpose::Disk, 0));
        assert_eq!(chosen(&mut log), 1);
    }

    #[test]
    fn a_torn_batch_is_dropped_whole() {
        let mut torn = 0;
        for part in 0..100 {
            let mut rng = stream(1, 1, Purpose::Disk, part);
            let mut log = SimLog::default();
            let hard = |n| Write::HardState(HardState { chosen: Slot(n), ..HardState::default() });
            log.append(1, vec![(GroupId(1), hard(1)), (GroupId(2), hard(1)), (GroupId(3), hard(1))], Vec::new());
            let lost = log.crash(true, &mut rng);
            torn += u64::from(lost.torn);
            let groups = log.open().unwrap().len();
            assert_eq!(groups, if lost.batches == 0 { 3 } else { 0 }, "{lost:?}");
        }
        assert!(torn > 10);
    }

    #[test]
    fn any_flipped_bit_keeps_the_log_from_opening_until_it_is_mended_or_written_over() {
        let ballot = Ballot { round: 1, node: NodeId(1) };
        let payload = Payload::Command(Bytes::from_static(b"x"));
        let entry = Write::Entry(Entry { slot: Slot(1), ballot, origin: ballot, payload });
        for part in 0..100 {
            let mut rng = stream(1, 1, Purpose::Disk, part);
            let mut log = SimLog::default();
            assert!(!log.rot(&mut rng), "there is nothing to rot");
            write(&mut log, 1);
            log.append(2, vec![(GroupId(1), entry.clone())], Vec::new());
            log.crash(false, &mut rng);
            assert!(log.rot(&mut rng) && log.is_rotten());
            assert!(log.open().unwrap_err().contains("checksum"));
            if part % 2 == 0 {
                log.mend();
            } else {
                write(&mut log, 1);
                log.append(3, vec![(GroupId(1), entry.clone())], Vec::new());
                log.crash(false, &mut rng);
            }
            assert!(!log.is_rotten() && chosen(&mut log) == 1);
        }
    }
}
