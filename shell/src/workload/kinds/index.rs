//! `index`: rows that are written by their keys, and read both by their keys and by an index that has all of them.
//!
//! The index is on `(k, v)`, so each write of a value takes one entry away and puts another in its place. A scan
//! reads the entries only, a read the row only; both stand in one transaction, or at one timestamp, and the judge
//! takes them for reads of the same registers. An index that disagrees with its table is then a read
//! that nobody can explain.

use std::sync::Arc;

use check::Op;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::read_all;
use crate::workload::keys::{Groups, SPAN};
use crate::workload::plan::{Desk, Mode, Model, Plan, Planner, Step, Workload, key, reads};

/// `index`
pub struct Index {
    desk: Arc<Desk>,
    groups: Arc<Groups>,
}

impl Index {
    /// On this desk.
    pub fn new(desk: Arc<Desk>) -> Index {
        let groups = Arc::new(Groups::new(desk.shards, 2 * desk.shards, 24));
        Index { desk, groups }
    }
}

impl Workload for Index {
    fn model(&self) -> Model {
        Model::Indexed
    }

    fn planner(&self, _client: u64) -> Box<dyn Planner> {
        Box::new(IndexClient { desk: self.desk.clone(), groups: self.groups.clone() })
    }

    fn last_reads(&self) -> Vec<Plan> {
        let keys = self.groups.all();
        let mut plans = read_all(&keys);
        // The whole index, too.
        let most = keys.iter().map(|k| k % SPAN).max().unwrap_or(0) + 1;
        for shard in 0..self.desk.shards {
            plans.push(Plan::ops(Mode::Strong, [Op::Scan(shard * SPAN, shard * SPAN + most, None)]));
        }
        plans
    }
}

struct IndexClient {
    desk: Arc<Desk>,
    groups: Arc<Groups>,
}

impl IndexClient {
    /// Some keys by the table, the same by the index.
    fn both_ways(&self, keys: &[i64], rng: &mut ChaCha8Rng) -> Vec<Op> {
        let one = keys[rng.random_range(0..keys.len())];
        reads([one]).chain([Op::Scan(one, one + 1, None)]).collect()
    }
}

impl Planner for IndexClient {
    fn next(&mut self, rng: &mut ChaCha8Rng) -> Plan {
        let look = self.groups.keys(self.groups.look(rng));
        if rng.random_range(0..3) == 0 {
            let ops = self.both_ways(&look, rng);
            return Plan::ops(self.desk.reading(rng), ops);
        }
        let (group, _) = self.groups.enter();
        let keys = self.groups.keys(group);
        let one = keys[rng.random_range(0..keys.len())];
        match rng.random_range(0..6) {
            0 => Plan::ops(self.desk.writing(rng), [Op::Delete(key(one))]),
            1 => Plan::new(Mode::ReadWrite, vec![Step::Insert(one, self.desk.value())]),
            2 => {
                // What was read by the index, and then written.
                let write = Op::Write(key(one), self.desk.value());
                Plan::ops(Mode::ReadWrite, [Op::Scan(one, one + 1, None), write])
            }
            _ => Plan::ops(self.desk.writing(rng), [Op::Write(key(one), self.desk.value())]),
        }
    }
}
