//! One node of the test cluster: a replica, and what stands in for its disk, its state machine and its clock.

use std::collections::{BTreeMap, VecDeque};

use truetime::{Interval, Now, Timestamp};

use crate::{
    Ballot, Chosen, Configuration, Entry, HardState, Input, Message, NodeId, Payload, Replica, Restored, Slot, Write,
};

/// A disk: what is durable, and what was written since the last sync.
#[derive(Debug, Default)]
pub struct Disk {
    hard: HardState,
    entries: BTreeMap<Slot, Entry>,
    unsynced: VecDeque<Batch>,
    /// Syncs do not finish while it is set.
    pub frozen: bool,
}

#[derive(Debug)]
struct Batch {
    persist: u64,
    writes: Vec<Write>,
    after_sync: Vec<(NodeId, Message)>,
}

impl Disk {
    /// Takes the writes of one `Ready`.
    pub fn write(&mut self, persist: u64, writes: Vec<Write>, after_sync: Vec<(NodeId, Message)>) {
        self.unsynced.push_back(Batch { persist, writes, after_sync });
    }

    /// Everything up to the batch is durable; returns the messages that waited for it.
    pub fn sync(&mut self, persist: u64) -> Vec<(NodeId, Message)> {
        let mut messages = Vec::new();
        while self.unsynced.front().is_some_and(|batch| batch.persist <= persist) {
            let batch = self.unsynced.pop_front().expect("it has a front");
            self.apply(batch.writes);
            messages.extend(batch.after_sync);
        }
        messages
    }

    /// The last batch written, if it is not durable.
    pub fn unsynced_last(&self) -> Option<u64> {
        self.unsynced.back().map(|batch| batch.persist)
    }

    /// Loses what was not synced, but for the first `survive` batches: a disk may have got so far.
    pub fn crash(&mut self, survive: usize) {
        for batch in std::mem::take(&mut self.unsynced).into_iter().take(survive) {
            self.apply(batch.writes);
        }
    }

    /// How many batches are not durable.
    pub fn unsynced(&self) -> usize {
        self.unsynced.len()
    }

    fn apply(&mut self, writes: Vec<Write>) {
        for write in writes {
            match write {
                // Through the bytes, as a real disk would.
                Write::HardState(hard) => {
                    self.hard = HardState::decode(hard.encode()).expect("a hard state written reads back");
                }
                Write::Entry(entry) => {
                    let entry = Entry::decode(entry.encode()).expect("an entry written reads back");
                    self.entries.insert(entry.slot, entry);
                }
                Write::Truncate(slot) => self.entries = self.entries.split_off(&slot.next()),
                Write::Clear => self.entries.clear(),
            }
        }
    }
}

/// A state machine that keeps everything it was handed.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// Every slot, as handed out.
    pub applied: BTreeMap<Slot, Chosen>,
}

impl State {
    /// The last slot applied.
    pub fn last(&self) -> Slot {
        self.applied.last_key_value().map_or(Slot(0), |(slot, _)| *slot)
    }

    /// The ballot of the last `Start`.
    pub fn epoch(&self) -> Ballot {
        let starts = self.applied.values().rev().find(|chosen| chosen.payload == Payload::Start);
        starts.map_or(Ballot::ZERO, |start| start.origin)
    }

    /// The commands, in order, as text.
    pub fn commands(&self) -> Vec<String> {
        let text = |chosen: &Chosen| match &chosen.payload {
            Payload::Command(command) => Some(String::from_utf8_lossy(command).into_owned()),
            _ => None,
        };
        self.applied.values().filter_map(text).collect()
    }
}

/// A clock that errs by `offset_ns` and promises to err by no more than `epsilon_ns`.
#[derive(Clone, Copy, Debug)]
pub struct SimClock {
    /// How far its reading is ahead of true time.
    pub offset_ns: i64,
    /// Half the width of its interval.
    pub epsilon_ns: i64,
    /// What it says of itself.
    pub trusted: bool,
}

/// One node.
#[derive(Debug)]
pub struct Node {
    /// Absent while it is crashed.
    pub replica: Option<Replica>,
    /// Its log.
    pub disk: Disk,
    /// The state in memory.
    pub state: State,
    /// The state on disk.
    pub durable: State,
    /// Its clock.
    pub clock: SimClock,
    /// Stopped, but not dead: nothing happens until it is resumed.
    pub paused: bool,
    /// What came while it was paused.
    pub(crate) stalled: VecDeque<Input>,
    /// Counts restarts, so that what a dead process waited for does not reach the next one.
    pub(crate) incarnation: u64,
    /// When it wants to be called, in true time.
    pub(crate) wake_ns: Option<i64>,
}

impl Node {
    pub(crate) fn new(clock: SimClock) -> Node {
        Node {
            replica: None,
            disk: Disk::default(),
            state: State::default(),
            durable: State::default(),
            clock,
            paused: false,
            stalled: VecDeque::new(),
            incarnation: 0,
            wake_ns: None,
        }
    }

    /// What time it is on this node.
    pub fn now(&self, true_ns: i64) -> Now {
        let SimClock { offset_ns, epsilon_ns, trusted } = self.clock;
        let at = Timestamp::from_nanos(true_ns + offset_ns);
        Now { tt: Interval::around(at, epsilon_ns), mono_ns: true_ns, trusted }
    }

    /// What its disk holds, for a restart.
    pub(crate) fn restored(&self, config: &Configuration) -> Restored {
        Restored {
            hard: self.disk.hard.clone(),
            entries: self.disk.entries.clone(),
            applied: self.durable.last(),
            epoch: self.durable.epoch(),
            config: config.clone(),
        }
    }
}
