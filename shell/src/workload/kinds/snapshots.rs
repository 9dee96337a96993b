//! Workloads about snapshots.
//!
//! - `paged-scan`: a range is read page by page, each page by a statement of its own, while rows come,
//!   go and change in it: all pages must be of one timestamp.
//! - `exact-snapshot`: what was read at a timestamp is read again at that very timestamp, by other
//!   clients and so on other replicas: it must be the same for ever.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use check::{Key, Kind, Op};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::read_all;
use crate::workload::keys::{Groups, SPAN};
use crate::workload::plan::{At, Desk, Ended, Mode, Model, Plan, Planner, Step, Workload, key, locked, reads};

/// Keys of the range on each side of the boundary between two groups.
const SIDE: i64 = 20;

/// Changes of a range before the next one is used.
const CHANGES: u32 = 400;

/// `paged-scan`
pub struct PagedScan {
    desk: Arc<Desk>,
    ranges: Arc<Groups>,
}

impl PagedScan {
    /// On this desk.
    pub fn new(desk: Arc<Desk>) -> PagedScan {
        PagedScan { desk, ranges: Arc::new(Groups::new(1, 1, CHANGES)) }
    }
}

/// The n-th range: around a boundary between two groups, and never where another one is.
fn bounds(n: i64, shards: i64) -> (i64, i64) {
    let boundary = (1 + n % (shards - 1)) * SPAN;
    let turn = n / (shards - 1);
    if turn == 0 {
        return (boundary - SIDE, boundary + SIDE);
    }
    // Later ones lie wholly in one group.
    let low = boundary + SIDE + (turn - 1) * 2 * SIDE;
    (low, low + 2 * SIDE)
}

impl Workload for PagedScan {
    fn model(&self) -> Model {
        Model::Registers
    }

    fn planner(&self, _client: u64) -> Box<dyn Planner> {
        Box::new(PageClient { desk: self.desk.clone(), ranges: self.ranges.clone() })
    }

    fn last_reads(&self) -> Vec<Plan> {
        let shards = self.desk.shards;
        let scan = |n: i64| {
            let (low, high) = bounds(n, shards);
            Plan::ops(Mode::Strong, [Op::Scan(low, high, None)])
        };
        self.ranges.all().into_iter().map(scan).collect()
    }
}

struct PageClient {
    desk: Arc<Desk>,
    ranges: Arc<Groups>,
}

impl Planner for PageClient {
    fn next(&mut self, rng: &mut ChaCha8Rng) -> Plan {
        let shards = self.desk.shards;
        if rng.random_range(0..3) == 0 {
            let (low, high) = bounds(self.ranges.look(rng), shards);
            return Plan::new(self.desk.reading(rng), vec![Step::Pages(low, high, rng.random_range(1..=9))]);
        }
        let (n, _) = self.ranges.enter();
        let (low, high) = bounds(n, shards);
        let mode = self.desk.writing(rng);
        let count = if mode == Mode::Single { 1 } else { rng.random_range(1..=3) };
        let change = |rng: &mut ChaCha8Rng| {
            let k = key(rng.random_range(low..high));
            if rng.random_range(0..3) == 0 { Op::Delete(k) } else { Op::Write(k, self.desk.value()) }
        };
        let changes: Vec<Op> = (0..count).map(|_| change(rng)).collect();
        Plan::ops(mode, changes)
    }
}

/// How many snapshots are remembered.
const REMEMBERED: usize = 256;

/// Snapshots: when, and which keys.
type Remembered = Arc<Mutex<VecDeque<(i64, Vec<i64>)>>>;

/// `exact-snapshot`
pub struct ExactSnapshot {
    desk: Arc<Desk>,
    groups: Arc<Groups>,
    remembered: Remembered,
}

impl ExactSnapshot {
    /// On this desk.
    pub fn new(desk: Arc<Desk>) -> ExactSnapshot {
        let groups = Arc::new(Groups::new(desk.shards, desk.shards, 32));
        ExactSnapshot { desk, groups, remembered: Remembered::default() }
    }
}

impl Workload for ExactSnapshot {
    fn model(&self) -> Model {
        Model::Registers
    }

    fn planner(&self, _client: u64) -> Box<dyn Planner> {
        let (desk, groups, remembered) = (self.desk.clone(), self.groups.clone(), self.remembered.clone());
        Box::new(ExactClient { desk, groups, remembered })
    }

    fn last_reads(&self) -> Vec<Plan> {
        read_all(&self.groups.all())
    }
}

struct ExactClient {
    desk: Arc<Desk>,
    groups: Arc<Groups>,
    remembered: Remembered,
}

impl Planner for ExactClient {
    fn next(&mut self, rng: &mut ChaCha8Rng) -> Plan {
        match rng.random_range(0..10) {
            0..4 => {
                let (group, _) = self.groups.enter();
                let keys = self.groups.keys(group);
                let first = rng.random_range(0..keys.len());
                let writes = keys[first..].iter().map(|k| Op::Write(key(*k), self.desk.value()));
                Plan::ops(Mode::ReadWrite, writes.collect::<Vec<_>>())
            }
            4..8 => {
                let remembered = locked(&self.remembered);
                let chosen = if remembered.is_empty() {
                    None
                } else {
                    remembered.get(rng.random_range(0..remembered.len())).cloned()
                };
                drop(remembered);
                match chosen {
                    Some((ts, keys)) => Plan::ops(Mode::Past(At::Exact(ts)), reads(keys)),
                    None => Plan::ops(Mode::Strong, reads(self.groups.keys(0))),
                }
            }
            8 => Plan::ops(Mode::Strong, reads(self.groups.keys(self.groups.look(rng)))),
            _ => Plan::ops(self.desk.past(rng), reads(self.groups.keys(self.groups.look(rng)))),
        }
    }

    fn ended(&mut self, end: &Ended<'_>) {
        let (Kind::Ok, Some(ts)) = (end.kind, end.ts) else { return };
        let keys = end.txn.iter().filter_map(|op| match op {
            Op::Read(Key::Number(k)) | Op::ReadValue(Key::Number(k), _) => Some(*k),
            _ => None,
        });
        let keys: Vec<i64> = keys.collect();
        if keys.is_empty() {
            return;
        }
        let mut remembered = locked(&self.remembered);
        if remembered.len() >= REMEMBERED {
            // An old one goes, but not always the oldest: some are read again until the end.
            let at = ts.unsigned_abs() as usize % REMEMBERED;
            remembered.remove(at);
        }
        remembered.push_back((ts, keys));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_never_overlap_and_the_first_ones_cross_a_boundary() {
        let mut seen: Vec<(i64, i64)> = (0..30).map(|n| bounds(n, 4)).collect();
        assert!(seen[..3].iter().all(|(low, high)| low / SPAN != (high - 1) / SPAN), "{seen:?}");
        seen.sort_unstable();
        assert!(seen.windows(2).all(|pair| pair[0].1 <= pair[1].0), "{seen:?}");
    }
}
