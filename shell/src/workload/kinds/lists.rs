//! `append`: transactions that append to and read lists over all groups.
//!
//! A list shows all of its history in each read, so its versions, and with them every dependency
//! between transactions, can be inferred: the strongest workload there is for isolation.

use std::sync::Arc;

use check::Op;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::read_all;
use crate::workload::keys::Pool;
use crate::workload::plan::{Desk, Mode, Model, Plan, Planner, Step, Workload, key};

/// Keys in use at a time.
const KEYS: i64 = 12;
/// Appends to a key.
const APPENDS: u32 = 32;
/// Operations of a transaction.
const OPS: usize = 8;

/// The workload.
pub struct Append {
    desk: Arc<Desk>,
    pool: Arc<Pool>,
}

impl Append {
    /// On this desk.
    pub fn new(desk: Arc<Desk>) -> Append {
        let pool = Arc::new(Pool::new(desk.shards, KEYS, APPENDS));
        Append { desk, pool }
    }
}

impl Workload for Append {
    fn model(&self) -> Model {
        Model::Lists
    }

    fn planner(&self, _client: u64) -> Box<dyn Planner> {
        Box::new(Client { desk: self.desk.clone(), pool: self.pool.clone() })
    }

    fn last_reads(&self) -> Vec<Plan> {
        read_all(&self.pool.all())
    }
}

struct Client {
    desk: Arc<Desk>,
    pool: Arc<Pool>,
}

impl Client {
    fn append(&self, rng: &mut ChaCha8Rng) -> Op {
        Op::Append(key(self.pool.write(rng)), self.desk.value())
    }
}

impl Planner for Client {
    fn next(&mut self, rng: &mut ChaCha8Rng) -> Plan {
        let count = rng.random_range(1..=OPS);
        match rng.random_range(0..10) {
            0 => Plan::ops(Mode::Single, [self.append(rng)]),
            1..7 => {
                let mut steps = Vec::new();
                for _ in 0..count {
                    steps.push(match rng.random_range(0..10) {
                        0..5 => Step::Do(self.append(rng)),
                        5 => Step::ReadForUpdate(self.pool.read(rng)),
                        _ => Step::Do(Op::Read(key(self.pool.read(rng)))),
                    });
                }
                Plan::new(Mode::ReadWrite, steps)
            }
            7 => Plan::ops(Mode::Single, [Op::Read(key(self.pool.read(rng)))]),
            _ => {
                let mode = self.desk.reading(rng);
                let keys: Vec<i64> = (0..count).map(|_| self.pool.read(rng)).collect();
                Plan::ops(mode, crate::workload::plan::reads(keys))
            }
        }
    }
}
