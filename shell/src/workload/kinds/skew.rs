//! Workloads in which a write depends on what is *not* there.
//!
//! - `write-skew`: two keys in two groups, of which only one may be written; and ranges that may
//!   have one row only. Two transactions that each see nothing and write different keys would both
//!   commit under snapshot isolation.
//! - `unique`: several clients INSERT the same key: one wins; UPSERTs never make a second row.

use std::sync::Arc;

use check::Op;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::read_all;
use crate::workload::keys::{Groups, SPAN};
use crate::workload::plan::{Desk, Mode, Model, Plan, Planner, Step, Workload, key, reads};

/// How many transactions try each pair.
const TRIES: u32 = 6;

/// Ranges for the phantoms begin here in each group's range, above all keys of pairs.
const RANGES_FROM: i64 = SPAN / 2;
/// Keys of a range.
const RANGE: i64 = 8;

/// `write-skew`
pub struct WriteSkew {
    desk: Arc<Desk>,
    pairs: Arc<Groups>,
    ranges: Arc<Groups>,
}

impl WriteSkew {
    /// On this desk.
    pub fn new(desk: Arc<Desk>) -> WriteSkew {
        let pairs = Arc::new(Groups::new(desk.shards, 2, TRIES));
        let ranges = Arc::new(Groups::new(1, 1, TRIES));
        WriteSkew { desk, pairs, ranges }
    }
}

/// The two ranges of a predicate, in two groups: `[low, low + RANGE)` each.
fn two_ranges(n: i64, shards: i64) -> [i64; 2] {
    let at = RANGES_FROM + n * RANGE;
    [n % shards * SPAN + at, (n + 1) % shards * SPAN + at]
}

impl Workload for WriteSkew {
    fn model(&self) -> Model {
        Model::Registers
    }

    fn planner(&self, _client: u64) -> Box<dyn Planner> {
        Box::new(SkewClient { desk: self.desk.clone(), pairs: self.pairs.clone(), ranges: self.ranges.clone() })
    }

    fn last_reads(&self) -> Vec<Plan> {
        let mut plans = read_all(&self.pairs.all());
        for n in self.ranges.all() {
            let scans = two_ranges(n, self.desk.shards).map(|low| Op::Scan(low, low + RANGE, None));
            plans.push(Plan::ops(Mode::Strong, scans));
        }
        plans
    }
}

struct SkewClient {
    desk: Arc<Desk>,
    pairs: Arc<Groups>,
    ranges: Arc<Groups>,
}

impl SkewClient {
    fn pair(&self, rng: &mut ChaCha8Rng) -> Plan {
        if rng.random_range(0..3) == 0 {
            let keys = self.pairs.keys(self.pairs.look(rng));
            return Plan::ops(self.desk.reading(rng), reads(keys));
        }
        let (pair, _) = self.pairs.enter();
        let keys = self.pairs.keys(pair);
        let write = Op::Write(key(keys[rng.random_range(0..2)]), self.desk.value());
        Plan::ops(Mode::ReadWrite, reads(keys)).then(vec![write.clone()], move |seen| {
            let free = seen.iter().all(|op| matches!(op, Op::Read(_)));
            if free { vec![Step::Do(write)] } else { Vec::new() }
        })
    }

    fn range(&self, rng: &mut ChaCha8Rng) -> Plan {
        let shards = self.desk.shards;
        let scans = |n: i64| two_ranges(n, shards).map(|low| Op::Scan(low, low + RANGE, None));
        if rng.random_range(0..3) == 0 {
            return Plan::ops(self.desk.reading(rng), scans(self.ranges.look(rng)));
        }
        let (n, _) = self.ranges.enter();
        let low = two_ranges(n, shards)[rng.random_range(0..2)];
        let (k, value) = (low + rng.random_range(0..RANGE), self.desk.value());
        Plan::ops(Mode::ReadWrite, scans(n)).then(vec![Op::Write(key(k), value)], move |seen| {
            let empty = seen.iter().all(|op| matches!(op, Op::Scan(_, _, Some(rows)) if rows.is_empty()));
            if empty { vec![Step::Do(Op::Write(key(k), value))] } else { Vec::new() }
        })
    }
}

impl Planner for SkewClient {
    fn next(&mut self, rng: &mut ChaCha8Rng) -> Plan {
        if rng.random() { self.pair(rng) } else { self.range(rng) }
    }
}

/// `unique`
pub struct Unique {
    desk: Arc<Desk>,
    groups: Arc<Groups>,
}

impl Unique {
    /// On this desk.
    pub fn new(desk: Arc<Desk>) -> Unique {
        let groups = Arc::new(Groups::new(desk.shards, desk.shards, 16));
        Unique { desk, groups }
    }
}

impl Workload for Unique {
    fn model(&self) -> Model {
        Model::Registers
    }

    fn planner(&self, _client: u64) -> Box<dyn Planner> {
        Box::new(UniqueClient { desk: self.desk.clone(), groups: self.groups.clone() })
    }

    fn last_reads(&self) -> Vec<Plan> {
        let keys = self.groups.all();
        let mut plans = read_all(&keys);
        // Counted as rows, too.
        let most = keys.iter().map(|k| k % SPAN).max().unwrap_or(0) + 1;
        for shard in 0..self.desk.shards {
            plans.push(Plan::ops(Mode::Strong, [Op::Scan(shard * SPAN, shard * SPAN + most, None)]));
        }
        plans
    }
}

struct UniqueClient {
    desk: Arc<Desk>,
    groups: Arc<Groups>,
}

impl Planner for UniqueClient {
    fn next(&mut self, rng: &mut ChaCha8Rng) -> Plan {
        let look = self.groups.keys(self.groups.look(rng));
        if rng.random_range(0..3) == 0 {
            return match rng.random_range(0..3) {
                0 => Plan::ops(self.desk.reading(rng), look.iter().map(|k| Op::Scan(*k, k + 2, None))),
                _ => Plan::ops(self.desk.reading(rng), reads(look)),
            };
        }
        let (group, _) = self.groups.enter();
        let keys = self.groups.keys(group);
        let one = keys[rng.random_range(0..keys.len())];
        match rng.random_range(0..4) {
            0 => Plan::ops(self.desk.writing(rng), [Op::Write(key(one), self.desk.value())]),
            1 => {
                // Two at once, in two groups: both or neither.
                let other = keys[rng.random_range(0..keys.len())];
                let mut steps = vec![Step::Insert(one, self.desk.value())];
                if other != one {
                    steps.push(Step::Insert(other, self.desk.value()));
                }
                Plan::new(Mode::ReadWrite, steps)
            }
            _ => Plan::new(Mode::ReadWrite, vec![Step::Insert(one, self.desk.value())]),
        }
    }
}
