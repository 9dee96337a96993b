//! What the world sees of its nodes from above: rare states worth counting, invariants that hold
//! at every instant, and whether everything has come to rest.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use paxos::{GroupId, NodeId, Slot};
use truetime::Timestamp;
use txn::command::PreparedTxn;
use txn::storage::{Storage, Visit};
use txn::testing::MemoryStore;
use txn::{NodeMessage, Reply, Request, RequestBody, SnapshotMessage, TwoPhase, TxnId, TxnStatus, keyspace};

use crate::clock::truth;
use crate::counters::Counters;
use crate::invariants::{I1, I5, I6, I8, I9};
use crate::trace::ms_of;
use crate::world::World;

/// What was seen so far.
#[derive(Debug, Default)]
pub struct Observer {
    /// Who last told each group's coordinator that a transaction is prepared.
    prepared_by: BTreeMap<(TxnId, GroupId), (NodeId, u64)>,
    /// Transactions whose commit was asked for.
    asked: BTreeSet<TxnId>,
    /// Their deadlines.
    deadlines: BTreeMap<TxnId, Timestamp>,
    /// The last leader of each group.
    leaders: BTreeMap<GroupId, NodeId>,
    /// The hash of each group at each slot.
    hashes: BTreeMap<(GroupId, Slot), (NodeId, u64)>,
    /// Replicas that were sent a snapshot hold some of what comes after it, up to here.
    ahead: BTreeMap<(NodeId, GroupId), Slot>,
    /// The furthest that each group has been applied anywhere.
    applied: BTreeMap<GroupId, Slot>,
    samples: u64,
    /// Groups that were there at the start.
    groups_max: usize,
}

/// The timestamps at which a replica has transactions prepared.
pub fn prepared(store: &MemoryStore, group: GroupId) -> Vec<Timestamp> {
    let prefix = keyspace::record_prefix(group, keyspace::PREPARED);
    let mut found = Vec::new();
    // What rot has taken is not counted.
    let _ = store.scan(&prefix, &keyspace::prefix_end(&prefix), false, &mut |_, value| {
        found.extend(PreparedTxn::decode(Bytes::copy_from_slice(value)).map(|prepared| prepared.prepare_ts));
        Visit::Next
    });
    found
}

impl Observer {
    /// No transaction committed after its deadline.
    pub fn deadlines_were_kept(
        &self,
        committed: impl Iterator<Item = (TxnId, Timestamp)>,
        counters: &mut Counters,
    ) -> Result<(), String> {
        for (txn, at) in committed {
            let Some(deadline) = self.deadlines.get(&txn) else { continue };
            if at > *deadline {
                let (at, deadline) = (ms_of(at), ms_of(*deadline));
                return Err(format!("deadline: {txn} committed at {at}, and its deadline was {deadline}"));
            }
            counters.hit("committed before its deadline");
        }
        Ok(())
    }

    /// A message leaves a node.
    pub fn sent(&mut self, message: &NodeMessage, from: NodeId, counters: &mut Counters) {
        match message {
            NodeMessage::TwoPhase { body: TwoPhase::Prepared { txn, from: group, .. }, .. } => {
                let (by, times) = self.prepared_by.entry((*txn, *group)).or_insert((from, 0));
                *times += 1;
                if *by != from {
                    *by = from;
                    counters.hit("prepared as the leader changed");
                }
                if *times == 2 {
                    counters.hit("prepared asked twice");
                }
            }
            NodeMessage::TwoPhase { body: TwoPhase::Decided { txn, .. }, group, .. }
                if self.prepared_by.get(&(*txn, *group)).is_some_and(|(_, times)| *times > 1) =>
            {
                counters.hit("in doubt, resolved by inquiry");
            }
            NodeMessage::Request(Request { body: RequestBody::Commit { txn, deadline, .. }, .. }) => {
                if !self.asked.insert(*txn) {
                    counters.hit("commit asked for again");
                }
                if let Some(deadline) = deadline {
                    self.deadlines.insert(*txn, *deadline);
                }
            }
            NodeMessage::Snapshot { message: SnapshotMessage::Chunk { last: Some(_), .. }, .. } => {
                counters.hit("snapshot sent");
            }
            _ => {}
        }
    }
}

impl World {
    /// A replica of this node has installed a snapshot. Its sender went on applying while it sent, so
    /// the hash means nothing before the replica has come as far as the sender was at the end.
    pub(crate) fn installed(&mut self, node: NodeId) {
        for server in self.servers.values() {
            for (group, slot) in server.process.iter().flat_map(|process| process.node.applied()) {
                let applied = self.observer.applied.entry(group).or_default();
                *applied = slot.max(*applied);
            }
        }
        for (group, slot) in &self.observer.applied {
            self.observer.ahead.insert((node, *group), *slot);
        }
    }

    /// An answer leaves a node: the timestamps that it tells of have surely passed (I8).
    pub(crate) fn judge_answer(&mut self, node: NodeId, reply: &Reply) {
        let told = match reply {
            Reply::Rows { results, .. } => {
                let rows = results.iter().flat_map(|result| &result.rows);
                rows.map(|row| row.commit_ts).max()
            }
            Reply::Committed { commit_ts, .. } | Reply::Status(TxnStatus::Committed(commit_ts)) => Some(*commit_ts),
            _ => None,
        };
        let Some(told) = told else { return };
        self.shared.counters.hit(I8);
        if told >= truth(self.now) && self.shared.lies.touch(self.now, self.now) {
            self.shared.counters.hit("beyond the promise: I8 lost, an answer left before its time");
        } else if told >= truth(self.now) {
            let (told, now) = (ms_of(told), ms_of(truth(self.now)));
            self.fail(format!("I8: answers: {node} tells of a write at {told} at {now}: {reply:?}"));
        }
    }

    /// Looks at all nodes at once.
    pub(crate) fn sample(&mut self) {
        let (now_ns, mut failures) = (self.now, Vec::new());
        let mut leases: BTreeMap<GroupId, (NodeId, Timestamp)> = BTreeMap::new();
        let (seen, counters) = (&mut self.observer, &mut self.shared.counters);
        seen.samples += 1;
        let (hash_now, look_at_prepared) = (seen.samples % 250 == 0, seen.samples % 8 == 0);
        for server in self.servers.values() {
            let Some(process) = &server.process else { continue };
            // It asserts that its interval contains true time, unless it is to lie.
            let now = server.clock.now(now_ns);
            counters.hit(I1);
            for status in process.node.status(now) {
                let group = status.range.group;
                if let Some(end) = status.lease_end {
                    counters.hit(I5);
                    if let Some((other, until)) = leases.insert(group, (server.id, end)) {
                        // A vote that a liar gave too early lasts no longer than the older lease.
                        if self.shared.lies.touch(now_ns - 2 * self.swarm.lease_ns, now_ns) {
                            counters.hit("beyond the promise: I5 lost, two leaders");
                        } else {
                            failures.push(format!(
                                "I5: leases: {other} leads {group} until {} and {} until {}",
                                ms_of(until),
                                server.id,
                                ms_of(end)
                            ));
                        }
                    }
                    if seen.leaders.insert(group, server.id).is_some_and(|before| before != server.id) {
                        counters.hit("leader changed");
                        if !prepared(process.node.store(), group).is_empty() {
                            counters.hit("leader changed with a transaction prepared");
                        }
                    }
                }
                let held = || prepared(process.node.store(), group).iter().any(|ts| ts.prev() == status.safe_ts);
                if look_at_prepared && held() {
                    counters.hit(match status.lease_end {
                        Some(_) => "safe time held by a prepared transaction",
                        None => "safe time of a follower held by a prepared transaction",
                    });
                }
                let applied = seen.applied.entry(group).or_default();
                *applied = status.applied.max(*applied);
                let whole = seen.ahead.get(&(server.id, group)).is_none_or(|slot| status.applied >= *slot);
                if hash_now
                    && whole
                    && let Some(Ok(hash)) = process.node.checksum(group)
                {
                    let (node, first) = *seen.hashes.entry((group, status.applied)).or_insert((server.id, hash));
                    if first != hash {
                        let (at, me) = (status.applied, server.id);
                        failures.push(format!("I6: replicas: {node} and {me} differ in {group} at {at}"));
                    }
                    if node != server.id {
                        counters.hit(I6);
                        counters.hit("replicas compared during the run");
                    }
                }
            }
            let groups = process.node.ranges().len();
            if seen.groups_max > 0 && groups > seen.groups_max {
                counters.hit("split under load");
            }
            seen.groups_max = seen.groups_max.max(groups);
        }
        failures.extend(self.read_logs().err());
        failures.extend(self.watch_fences().err());
        if let Some(failure) = failures.into_iter().next() {
            self.fail(failure);
        }
    }

    /// Whether nothing is under way: every node runs, all replicas of a group hold the same, and no
    /// transaction is prepared.
    pub(crate) fn is_at_rest(&mut self) -> bool {
        self.unrest().is_empty()
    }

    /// What is still under way, in words.
    pub(crate) fn unrest(&mut self) -> String {
        let mut text = String::new();
        let mut states: BTreeMap<GroupId, Vec<(NodeId, Slot)>> = BTreeMap::new();
        let mut replicas: BTreeMap<GroupId, usize> = BTreeMap::new();
        let mut leaders: BTreeMap<GroupId, NodeId> = BTreeMap::new();
        let now_ns = self.now;
        for server in self.servers.values() {
            let Some(process) = &server.process else {
                if server.disk.away {
                    continue;
                }
                text += &format!("  {} is down\n", server.id);
                continue;
            };
            let now = server.clock.now(now_ns);
            if server.clock.fenced {
                text += &format!("  the clock of {} is fenced\n", server.id);
            }
            for status in process.node.status(now) {
                let group = status.range.group;
                *replicas.entry(group).or_default() += 1;
                states.entry(group).or_default().push((server.id, status.applied));
                if status.lease_end.is_some() {
                    leaders.insert(group, server.id);
                }
            }
        }
        let mut failures = Vec::new();
        let present = self.present().len();
        for (group, states) in &states {
            if replicas[group] != present {
                text += &format!("  {group} has {} replicas\n", replicas[group]);
            }
            let slots: BTreeSet<Slot> = states.iter().map(|(_, slot)| *slot).collect();
            if slots.len() > 1 {
                text += &format!("  {group} is applied up to {slots:?}\n");
            } else {
                // A hash reads the whole state: only once it means something.
                let node = |id: &NodeId| self.servers[id].process.as_ref().map(|process| &process.node);
                let hash = |id| node(id).and_then(|node| node.checksum(*group)?.ok()).unwrap_or(0);
                let hashes: BTreeSet<u64> = states.iter().map(|(id, _)| hash(id)).collect();
                if hashes.len() > 1 {
                    failures.push(format!("I6: replicas: {group} differs at rest: {states:?}"));
                }
            }
            let Some(leader) = leaders.get(group) else {
                text += &format!("  {group} has no leader\n");
                continue;
            };
            let request = self.ask(*leader, *group, RequestBody::Inspect);
            match self.world_replies.remove(&request) {
                Some(Reply::Inspection(inspection)) => {
                    self.shared.counters.hit(I9);
                    for row in inspection.txns {
                        text += &format!("  {group}: transaction {} is {}\n", row.txn, row.state);
                    }
                    for lock in inspection.locks {
                        text += &format!("  {group}: {} has a lock on {:?}\n", lock.txn, lock.span);
                    }
                }
                other => text += &format!("  {group} is not inspected: {other:?}\n"),
            }
        }
        if let Some(failure) = failures.into_iter().next() {
            self.fail(failure);
        }
        text
    }
}
