//! What must hold once everything has come to rest, of what the disks of all nodes then hold.
//!
//! - **I9.** No replica of any group, leader or not, holds a prepared transaction. Every group that recorded the
//!   ending of a transaction recorded the same one, and its client was told no other.
//! - **I2.** A commit that was chosen behind the start of a newer leader has had no effect.
//! - **I12.** Some of the reads without locks that were answered long before are asked again, of every node for its own
//!   replicas, at their timestamps: what they now find is judged with all other reads.

use std::collections::BTreeMap;

use paxos::{GroupId, NodeId};
use rand::RngExt;
use truetime::Timestamp;
use txn::command::PreparedTxn;
use txn::storage::{Storage, StorageError, Visit};
use txn::testing::MemoryStore;
use txn::{TxnId, keyspace, meta};

use crate::chosen::ChosenLogs;
use crate::clock::truth;
use crate::history::Ending;
use crate::invariants::I9;
use crate::plan::{Plan, When};
use crate::rng::{Purpose, stream};
use crate::sql::judge;
use crate::trace::ms_of;
use crate::world::World;

/// So many of the earlier reads are repeated.
const REPEATED: usize = 8;
/// A read so close to the line below which versions are collected may be too old by the time it is repeated.
const RETENTION_MARGIN_NS: i64 = 500_000_000;

/// How a transaction ended, and who first said so.
type Endings = BTreeMap<TxnId, (Option<Timestamp>, NodeId, GroupId)>;

fn show(ending: Option<Timestamp>) -> String {
    ending.map_or("aborted".into(), |ts| format!("committed at {}", ms_of(ts)))
}

/// The records of one kind of one group.
fn records(store: &MemoryStore, group: GroupId, kind: u8) -> Result<Vec<(TxnId, bytes::Bytes)>, StorageError> {
    let prefix = keyspace::record_prefix(group, kind);
    let mut found = Vec::new();
    store.scan(&prefix, &keyspace::prefix_end(&prefix), false, &mut |key, value| {
        found.extend(keyspace::record_txn(key).map(|txn| (txn, bytes::Bytes::copy_from_slice(value))));
        Visit::Next
    })?;
    Ok(found)
}

/// Reads one store; the error says what is wrong with it.
fn read_store(node: NodeId, store: &MemoryStore, chosen: &ChosenLogs, endings: &mut Endings) -> Result<u64, String> {
    let failed = |e: StorageError| format!("I14: rest: {node} has a good disk and cannot read it: {e}");
    let mut read = 0;
    for group in store.groups_with_state() {
        if let Some((txn, bytes)) = records(store, group, keyspace::PREPARED).map_err(failed)?.first() {
            let coordinator = PreparedTxn::decode(bytes.clone()).map_or("?".into(), |p| p.coordinator.to_string());
            return Err(format!(
                "I9: rest: {txn} is still prepared in {group} on {node}, coordinated by {coordinator}"
            ));
        }
        for (txn, bytes) in records(store, group, keyspace::OUTCOME).map_err(failed)? {
            let ending = meta::decode_outcome(bytes).map_err(|e| format!("I6: rest: {txn} in {group}: {e}"))?;
            if ending.is_some() && chosen.is_void(group, txn) {
                let why = "its commit was chosen behind the start of a newer leader";
                return Err(format!("I2: rest: {txn} {} in {group} on {node}: {why}", show(ending)));
            }
            let (first, by, of) = *endings.entry(txn).or_insert((ending, node, group));
            if first != ending {
                let (one, other) = (show(first), show(ending));
                return Err(format!("I9: rest: {txn} {one} by {of} on {by}, and {other} by {group} on {node}"));
            }
            read += 1;
        }
    }
    Ok(read)
}

impl World {
    /// Everything has come to rest: reads all disks.
    pub(crate) fn judge_rest(&mut self) -> Result<(), String> {
        let mut endings = Endings::new();
        for server in self.servers.values() {
            let Some(process) = &server.process else { continue };
            let read = read_store(server.id, process.node.store(), &self.chosen, &mut endings)?;
            self.shared.counters.add(I9, read);
        }
        let keys = self.shared.history.attempts.iter().filter_map(|attempt| match attempt.ending {
            Ending::Committed(ts) => Some((attempt.txn, Some(ts))),
            Ending::Aborted(_) => Some((attempt.txn, None)),
            Ending::Open => None,
        });
        let sql = self.shared.sql.attempts.iter().filter_map(|attempt| match attempt.ending {
            judge::Ending::Committed(ts) => Some((attempt.txn?, Some(ts))),
            judge::Ending::Aborted => Some((attempt.txn?, None)),
            judge::Ending::Nothing => None,
        });
        for (txn, told) in keys.chain(sql) {
            if let Some((ending, by, group)) = endings.get(&txn)
                && *ending != told
            {
                let (ending, told) = (show(*ending), show(told));
                return Err(format!("I9: rest: {txn} {ending} by {group} on {by}, and its client was told: {told}"));
            }
        }
        Ok(())
    }

    /// Some of the reads without locks that were answered before now, once more through each node that is there.
    pub(crate) fn earlier_reads(&self) -> Vec<Plan> {
        let rng = &mut stream(self.seed, 0, Purpose::World, 2);
        let line = truth(self.now).minus_ns(self.swarm.version_retention_ns).plus_ns(RETENTION_MARGIN_NS);
        let mut reads: Vec<_> = self.shared.history.snapshots.iter().filter(|read| read.read_ts > line).collect();
        let mut plans = Vec::new();
        for _ in 0..REPEATED.min(reads.len()) {
            let read = reads.swap_remove(rng.random_range(0..reads.len()));
            plans.extend(self.present().into_iter().map(|node| {
                let when = When::Exactly(read.read_ts);
                Plan::Snapshot { ops: read.seen.ops.clone(), when, gateway: Some(node) }
            }));
        }
        plans
    }
}
