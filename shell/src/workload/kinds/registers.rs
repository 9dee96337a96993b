//! Workloads on registers whose keys are drawn from a moving window.
//!
//! - `register`: transactions of reads and writes over all groups;
//! - `cas`: one key at a time: read, write, compare and set;
//! - `multi-key`: one transaction sets a key in each group to one value, others read all of them;
//! - `internal`: transactions that read what they themselves wrote;
//! - `dirty-read`: half of the transactions are rolled back or cut off, and nobody may see them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use check::{Key, Kind, Op};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::read_all;
use crate::workload::keys::{Groups, Pool};
use crate::workload::plan::{Desk, Ended, Mode, Model, Plan, Planner, Step, Workload, key, locked, reads};

/// Keys in use at a time.
const KEYS: i64 = 10;
/// Writes of a key.
const WRITES: u32 = 32;

/// What a planner is, as a function of the desk, a pool and the generator.
type Draw = fn(&Desk, &Pool, &mut ChaCha8Rng) -> Plan;

/// A planner without memory.
struct Drawn {
    desk: Arc<Desk>,
    pool: Arc<Pool>,
    draw: Draw,
}

impl Planner for Drawn {
    fn next(&mut self, rng: &mut ChaCha8Rng) -> Plan {
        (self.draw)(&self.desk, &self.pool, rng)
    }
}

macro_rules! pooled {
    ($(#[$doc:meta])* $name:ident, $draw:path) => {
        $(#[$doc])*
        pub struct $name {
            desk: Arc<Desk>,
            pool: Arc<Pool>,
        }

        impl $name {
            /// On this desk.
            pub fn new(desk: Arc<Desk>) -> $name {
                let pool = Arc::new(Pool::new(desk.shards, KEYS, WRITES));
                $name { desk, pool }
            }
        }

        impl Workload for $name {
            fn model(&self) -> Model {
                Model::Registers
            }

            fn planner(&self, _client: u64) -> Box<dyn Planner> {
                Box::new(Drawn { desk: self.desk.clone(), pool: self.pool.clone(), draw: $draw })
            }

            fn last_reads(&self) -> Vec<Plan> {
                read_all(&self.pool.all())
            }
        }
    };
}

pooled!(
    /// `register`
    Registers,
    register
);
pooled!(
    /// `internal`
    Internal,
    internal
);
pooled!(
    /// `dirty-read`
    DirtyRead,
    dirty_read
);

fn write(desk: &Desk, pool: &Pool, rng: &mut ChaCha8Rng) -> Op {
    Op::Write(key(pool.write(rng)), desk.value())
}

fn some_reads(pool: &Pool, rng: &mut ChaCha8Rng, most: usize) -> Vec<Op> {
    let count = rng.random_range(1..=most);
    let keys: Vec<i64> = (0..count).map(|_| pool.read(rng)).collect();
    reads(keys).collect()
}

fn register(desk: &Desk, pool: &Pool, rng: &mut ChaCha8Rng) -> Plan {
    match rng.random_range(0..10) {
        0 => Plan::ops(Mode::Single, [write(desk, pool, rng)]),
        1..6 => {
            let count = rng.random_range(1..=6);
            let mut steps = Vec::new();
            for _ in 0..count {
                steps.push(match rng.random_range(0..6) {
                    0..3 => Step::Do(write(desk, pool, rng)),
                    3 => Step::ReadForUpdate(pool.read(rng)),
                    _ => Step::Do(Op::Read(key(pool.read(rng)))),
                });
            }
            Plan::new(Mode::ReadWrite, steps)
        }
        6 => Plan::ops(Mode::Single, [Op::Read(key(pool.read(rng)))]),
        _ => Plan::ops(desk.reading(rng), some_reads(pool, rng, 6)),
    }
}

/// Writes and reads the same few keys several times in one transaction.
fn internal(desk: &Desk, pool: &Pool, rng: &mut ChaCha8Rng) -> Plan {
    if rng.random_range(0..4) == 0 {
        return Plan::ops(desk.reading(rng), some_reads(pool, rng, 6));
    }
    let keys = [pool.write(rng), pool.write(rng)];
    let mut steps = Vec::new();
    for _ in 0..rng.random_range(3..=8) {
        let k = keys[rng.random_range(0..keys.len())];
        steps.push(match rng.random_range(0..6) {
            0..3 => Step::Do(Op::Write(key(k), desk.value())),
            3 => Step::ReadForUpdate(k),
            _ => Step::Do(Op::Read(key(k))),
        });
    }
    // At least one write, and a last look at both.
    steps.push(Step::Do(Op::Write(key(keys[0]), desk.value())));
    steps.extend(reads(keys).map(Step::Do));
    Plan::new(Mode::ReadWrite, steps)
}

fn dirty_read(desk: &Desk, pool: &Pool, rng: &mut ChaCha8Rng) -> Plan {
    if rng.random_range(0..5) < 2 {
        return Plan::ops(desk.reading(rng), some_reads(pool, rng, 6));
    }
    let mode = match rng.random_range(0..8) {
        0..4 => Mode::RollBack,
        4 => Mode::CutOff,
        _ => Mode::ReadWrite,
    };
    let count = rng.random_range(1..=4);
    let writes: Vec<Op> = (0..count).map(|_| write(desk, pool, rng)).collect();
    Plan::ops(mode, writes)
}

/// `cas`
pub struct Cas {
    desk: Arc<Desk>,
    pool: Arc<Pool>,
    /// What each key was last seen to hold: a guess that is often right.
    seen: Arc<Mutex<BTreeMap<i64, i64>>>,
}

impl Cas {
    /// On this desk.
    pub fn new(desk: Arc<Desk>) -> Cas {
        let pool = Arc::new(Pool::new(desk.shards, 5, WRITES));
        Cas { desk, pool, seen: Arc::default() }
    }
}

impl Workload for Cas {
    fn model(&self) -> Model {
        Model::Registers
    }

    fn planner(&self, _client: u64) -> Box<dyn Planner> {
        Box::new(CasClient { desk: self.desk.clone(), pool: self.pool.clone(), seen: self.seen.clone() })
    }

    fn last_reads(&self) -> Vec<Plan> {
        // One key a transaction, as all of this workload.
        self.pool.all().into_iter().map(|k| Plan::ops(Mode::Strong, reads([k]))).collect()
    }
}

struct CasClient {
    desk: Arc<Desk>,
    pool: Arc<Pool>,
    seen: Arc<Mutex<BTreeMap<i64, i64>>>,
}

impl Planner for CasClient {
    fn next(&mut self, rng: &mut ChaCha8Rng) -> Plan {
        match rng.random_range(0..10) {
            0..2 => Plan::ops(self.desk.writing(rng), [write(&self.desk, &self.pool, rng)]),
            2..7 => {
                let k = self.pool.write(rng);
                let old = locked(&self.seen).get(&k).copied();
                let Some(old) = old else {
                    return Plan::ops(self.desk.writing(rng), [Op::Write(key(k), self.desk.value())]);
                };
                let cas = Op::Cas(key(k), old, self.desk.value());
                // One that did not match is, in the history, the read that shows why.
                Plan::ops(Mode::ReadWrite, [cas]).then(Vec::new(), move |done| {
                    if done.is_empty() { vec![Step::Do(Op::Read(key(k)))] } else { Vec::new() }
                })
            }
            7 => Plan::ops(Mode::Single, reads([self.pool.read(rng)])),
            _ => Plan::ops(self.desk.reading(rng), reads([self.pool.read(rng)])),
        }
    }

    fn ended(&mut self, end: &Ended<'_>) {
        if end.kind != Kind::Ok {
            return;
        }
        for op in end.txn {
            if let Op::Write(Key::Number(k), v) | Op::ReadValue(Key::Number(k), v) | Op::Cas(Key::Number(k), _, v) = op
            {
                locked(&self.seen).insert(*k, *v);
            }
        }
    }
}

/// `multi-key`
pub struct MultiKey {
    desk: Arc<Desk>,
    groups: Arc<Groups>,
}

impl MultiKey {
    /// On this desk.
    pub fn new(desk: Arc<Desk>) -> MultiKey {
        let groups = Arc::new(Groups::new(desk.shards, desk.shards, WRITES));
        MultiKey { desk, groups }
    }
}

impl Workload for MultiKey {
    fn model(&self) -> Model {
        Model::Registers
    }

    fn planner(&self, _client: u64) -> Box<dyn Planner> {
        Box::new(MultiKeyClient { desk: self.desk.clone(), groups: self.groups.clone() })
    }

    fn last_reads(&self) -> Vec<Plan> {
        read_all(&self.groups.all())
    }
}

struct MultiKeyClient {
    desk: Arc<Desk>,
    groups: Arc<Groups>,
}

impl Planner for MultiKeyClient {
    fn next(&mut self, rng: &mut ChaCha8Rng) -> Plan {
        if rng.random() {
            let keys = self.groups.keys(self.groups.look(rng));
            return Plan::ops(self.desk.reading(rng), reads(keys));
        }
        let (group, _) = self.groups.enter();
        let mut keys = self.groups.keys(group);
        // In any order: locks are taken as they come.
        let start = rng.random_range(0..keys.len());
        keys.rotate_left(start);
        let value = self.desk.value();
        Plan::ops(Mode::ReadWrite, keys.into_iter().map(|k| Op::Write(key(k), value)))
    }
}
