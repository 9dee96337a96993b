//! A node's log store: what is written is durable only after a sync, and a crash loses any suffix
//! of what was not synced.
//!
//! A batch is atomic and batches survive in order, as a write-ahead log with checksums gives it. A
//! process that is killed loses nothing that was written; a power cut may. Both are drawn here, by
//! how long a prefix survives.

use std::collections::{BTreeMap, VecDeque};

use paxos::{GroupId, NodeId, Write};
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

/// The log store of one node.
#[derive(Debug, Default)]
pub struct SimLog {
    durable: BTreeMap<GroupId, GroupLog>,
    pending: VecDeque<Batch>,
    /// Batches that a lying disk called durable. Empty but for the canary.
    lied: Vec<Vec<(GroupId, Write)>>,
    /// How many of `pending` the running sync covers; none runs if `None`.
    syncing: Option<usize>,
    /// Another sync is asked for as soon as this one ends.
    wanted: bool,
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
        if !lie {
            for writes in std::mem::take(&mut self.lied) {
                apply(&mut self.durable, writes);
            }
        }
        (persist, messages, self.wanted)
    }

    /// The process, or the machine, stops. What was written but not synced survives up to a random
    /// point, or wholly if only the process died.
    pub fn crash(&mut self, power_cut: bool, rng: &mut ChaCha8Rng) -> u64 {
        let mut unsynced: Vec<_> = std::mem::take(&mut self.lied);
        unsynced.extend(self.pending.drain(..).map(|batch| batch.writes));
        let total = unsynced.len();
        let kept = if power_cut { rng.random_range(0..=total) } else { total };
        for writes in unsynced.into_iter().take(kept) {
            apply(&mut self.durable, writes);
        }
        self.syncing = None;
        self.wanted = false;
        (total - kept) as u64
    }

    /// What a restart finds.
    pub fn contents(&self) -> BTreeMap<GroupId, GroupLog> {
        self.durable.clone()
    }
}

fn apply(groups: &mut BTreeMap<GroupId, GroupLog>, writes: Vec<(GroupId, Write)>) {
    for (group, write) in writes {
        let log = groups.entry(group).or_default();
        match write {
            Write::HardState(hard) => log.hard = hard,
            Write::Entry(entry) => {
                log.entries.insert(entry.slot, entry);
            }
            Write::Truncate(slot) => log.entries = log.entries.split_off(&slot.next()),
            Write::Clear => log.entries.clear(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, stream};
    use paxos::{HardState, Slot};

    fn chosen(log: &SimLog) -> u64 {
        log.contents().get(&GroupId(1)).map_or(0, |g| g.hard.chosen.0)
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
            seen.insert(chosen(&log));
        }
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [2, 3, 4]);
    }

    #[test]
    fn a_killed_process_loses_nothing_that_it_wrote() {
        let mut log = SimLog::default();
        write(&mut log, 1);
        log.crash(false, &mut stream(1, 1, Purpose::Disk, 0));
        assert_eq!(chosen(&log), 1);
    }
}
