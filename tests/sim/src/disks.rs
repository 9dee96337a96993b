//! What goes wrong with the disks of a run, and what a node does about it: it stops (I14), and stays
//! down until somebody has seen to its disk.
//!
//! ```text
//!            a sync fails, no room, a wrong bit is read, the folder is another one
//!   runs ---------------------------------------------------------------------------> halted
//!    ^                                                                                   |
//!    +---- restarts <---- repaired: room is made, bits are mended, the old disk is back --+
//!                                            (or it stays away, and the rest go on without it)
//! ```
//!
//! A disk that is lost is replaced by an empty one. Nothing that its node promised is on it, so two
//! majorities could meet in that node alone. The server notices by the names of data folders: each node
//! knows its peers' folders, refuses a peer that comes with another one, and stops if a peer knows
//! it by another one. Those few lines are modelled here; the real ones do IO.
//! As with them, a disk may only be lost once every peer has heard of it, and never those of a
//! majority at once.

use std::collections::BTreeMap;

use paxos::NodeId;
use rand::RngExt;
use txn::testing::MemoryStore;

use crate::canary::Canary;
use crate::disk::SimLog;
use crate::faults::Fault;
use crate::invariants::I14;
use crate::rng::{chance, log_uniform};
use crate::storms::Sequel;
use crate::world::{Event, World};

const MS: i64 = 1_000_000;

/// What is wrong with a server's disk, and which disk it is.
#[derive(Debug, Default)]
pub struct DiskHealth {
    /// Its process has stopped over its disk, and is not started before that is repaired.
    pub halted: bool,
    /// The next sync of the log fails.
    pub sync_fails: bool,
    /// There is no room for the log.
    pub full: bool,
    /// The next write of the state store fails.
    pub state_fails: bool,
    /// Syncs take a hundred times longer until then.
    pub slow_until: i64,
    /// The next sync takes so much longer.
    pub stall_ns: i64,
    /// The name of its data folder.
    pub folder: u64,
    /// The folder of each peer that it has heard of, which it never forgets.
    pub known: BTreeMap<NodeId, u64>,
    /// The disk that it should have.
    pub lost: Option<Box<LostDisk>>,
    /// It will not come back in this run.
    pub away: bool,
}

/// A disk that is in no server.
#[derive(Debug)]
pub struct LostDisk {
    log: SimLog,
    store: MemoryStore,
    folder: u64,
    known: BTreeMap<NodeId, u64>,
}

impl World {
    pub(crate) fn strike_disk(&mut self, fault: Fault, node: NodeId) {
        let lease = self.swarm.lease_ns;
        let until = log_uniform(&mut self.nemesis, 50 * MS, 6 * lease);
        match fault {
            Fault::SyncError => self.server(node).disk.sync_fails = true,
            Fault::DiskFull => {
                let all = chance(&mut self.nemesis, 150_000);
                let state_first = self.nemesis.random();
                for id in self.swarm.node_ids().filter(|id| all || *id == node) {
                    if state_first {
                        self.server(id).disk.state_fails = true;
                        self.with_node(id, |process| process.node.store_mut().fail_next_write());
                    } else {
                        self.server(id).disk.full = true;
                    }
                    // Somebody makes room, sooner or later, whether or not the node has noticed.
                    self.after(until, Event::Sequel(Sequel::Repair { node: id }));
                }
            }
            Fault::LogRot => {
                let server = self.server(node);
                if server.log.rot(&mut server.disk_rng) {
                    self.shared.counters.hit("a bit of a log flipped");
                }
                // It is read at the next start.
                if self.nemesis.random() {
                    self.crash_for(node, false, until.min(lease));
                }
            }
            Fault::StateRot => {
                let (record, bit) = (self.nemesis.random_range(0..1 << 30), self.nemesis.random_range(0..1 << 30));
                let unnoticed = self.swarm.canary == Some(Canary::StateRotTaken);
                let server = self.server(node);
                let store = match (&mut server.process, &mut server.store) {
                    (Some(process), _) => process.node.store_mut(),
                    (None, Some(store)) => store,
                    (None, None) => unreachable!("{node}: a store is in a process or on its server"),
                };
                let rotten = if unnoticed { store.rot_unnoticed(record, bit) } else { store.rot(record, bit) };
                if rotten {
                    self.shared.counters.hit("a bit of a state flipped");
                }
            }
            Fault::DiskLost => self.lose_disk(node),
            Fault::SlowDisk => {
                let now = self.now;
                self.server(node).disk.slow_until = now + until;
            }
            Fault::StalledSync => {
                let ns = log_uniform(&mut self.nemesis, 500 * MS, 5_000 * MS);
                self.server(node).disk.stall_ns = ns;
            }
            other => unreachable!("{other:?} is no fault of a disk"),
        }
    }

    /// A process finds that it must not go on: it ends at once, and is not started again before
    /// somebody has repaired its disk.
    pub(crate) fn halt(&mut self, node: NodeId, why: &str, power_cut: bool) {
        self.note(format!("{node} stops: {why}"));
        self.shared.counters.hit(I14);
        self.server(node).disk.halted = true;
        self.crash(node, power_cut);
        let stays = chance(&mut self.nemesis, 300_000);
        let down = log_uniform(&mut self.nemesis, MS, 6 * self.swarm.lease_ns);
        if !stays {
            self.after(down, Event::Sequel(Sequel::Repair { node }));
        }
    }

    /// Whether a failure of its store is one that was put there.
    pub(crate) fn disk_is_bad(&mut self, node: NodeId) -> bool {
        let server = self.server(node);
        let mut stores = server.process.iter().map(|process| process.node.store()).chain(&server.store);
        stores.any(MemoryStore::is_rotten) || server.disk.state_fails || server.disk.full || server.log.is_rotten()
    }

    /// Somebody sees to a disk: it has room, every bit is as it was, or it is the one it should be.
    pub(crate) fn repair(&mut self, node: NodeId) {
        if self.server(node).disk.away {
            return;
        }
        if self.server(node).disk.lost.is_some() {
            // The empty one is taken out.
            self.crash(node, false);
        }
        self.mend(node);
        self.start(node);
    }

    fn mend(&mut self, node: NodeId) {
        let server = self.server(node);
        if let Some(old) = server.disk.lost.take() {
            let LostDisk { log, store, folder, known } = *old;
            (server.log, server.store) = (log, Some(store));
            (server.disk.folder, server.disk.known) = (folder, known);
            self.shared.counters.hit("a lost disk came back");
        }
        let server = self.server(node);
        server.log.mend();
        for store in server.process.iter_mut().map(|process| process.node.store_mut()).chain(&mut server.store) {
            store.mend();
        }
        let disk = &mut server.disk;
        (disk.full, disk.state_fails, disk.sync_fails) = (false, false, false);
        if std::mem::take(&mut disk.halted) {
            self.shared.counters.hit("a disk was repaired");
        }
    }

    /// Faults end: each disk is repaired, or its node stays away, as long as a majority is there.
    pub(crate) fn heal_disks(&mut self) {
        for node in self.swarm.node_ids() {
            let disk = &mut self.server(node).disk;
            (disk.slow_until, disk.stall_ns) = (0, 0);
            let disk = &self.servers[&node].disk;
            if disk.halted || disk.lost.is_some() {
                let (stays, away) = (self.nemesis.random(), self.servers.len() - self.present().len());
                if stays && away < (self.servers.len() - 1) / 2 {
                    self.crash(node, false);
                    let disk = &mut self.server(node).disk;
                    (disk.halted, disk.away) = (true, true);
                    self.note(format!("{node} stays away"));
                    self.shared.counters.hit("a node away for good");
                    continue;
                }
                self.crash(node, false);
            }
            self.mend(node);
        }
    }

    /// How many more disks may be lost at once.
    fn spare_disks(&self) -> usize {
        let gone = self.servers.values().filter(|server| server.disk.lost.is_some()).count();
        let minority = (self.servers.len() - 1) / 2;
        minority.saturating_sub(gone)
    }

    /// Those that are not away for good.
    pub(crate) fn present(&self) -> Vec<NodeId> {
        self.servers.values().filter(|server| !server.disk.away).map(|server| server.id).collect()
    }

    /// This node, or the next that is not away for good.
    pub(crate) fn present_or_next(&self, node: u64) -> NodeId {
        let present = self.present();
        *present.iter().find(|id| id.0 >= node).unwrap_or(&present[0])
    }

    fn lose_disk(&mut self, node: NodeId) {
        let heard_of = |other: NodeId| other == node || self.servers[&other].disk.known.contains_key(&node);
        if self.spare_disks() == 0 || self.servers[&node].disk.lost.is_some() || !self.swarm.node_ids().all(heard_of) {
            return;
        }
        let canary = self.swarm.canary;
        self.shared.counters.hit("a disk was lost");
        self.crash(node, false);
        let server = self.server(node);
        // A start made it, so no name is used twice.
        server.incarnation += 1;
        let folder = server.incarnation;
        let disk = &mut server.disk;
        disk.lost = Some(Box::new(LostDisk {
            log: std::mem::take(&mut server.log),
            store: server.store.replace(MemoryStore::default()).expect("a stopped server holds its store"),
            folder: std::mem::replace(&mut disk.folder, folder),
            known: std::mem::take(&mut disk.known),
        }));
        disk.halted = false;
        if canary == Some(Canary::EmptyDiskVotes) {
            disk.lost = None;
        }
        self.start(node);
    }

    /// A message arrives on a stream between two nodes, which began with their folders. False if it
    /// is not taken in.
    pub(crate) fn acquainted(&mut self, from: NodeId, to: NodeId) -> bool {
        let sender = &self.servers[&from].disk;
        let (folder, as_known) = (sender.folder, sender.known.get(&to).copied());
        let receiver = &mut self.servers.get_mut(&to).expect("every node has a server").disk;
        if self.swarm.canary == Some(Canary::EmptyDiskVotes) {
            receiver.known.insert(from, folder);
            return true;
        }
        if as_known.is_some_and(|name| name != receiver.folder) {
            self.shared.counters.hit("a node without its disk was told so");
            self.halt(to, "its data folder is not the one that its peers know", false);
            return false;
        }
        if *receiver.known.entry(from).or_insert(folder) != folder {
            self.shared.counters.hit("a stranger was refused");
            return false;
        }
        true
    }
}
