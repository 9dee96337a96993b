//! Workloads in which writes have an order that readers must not see turned round.
//!
//! - `long-fork`: keys written once each, by independent transactions; two readers must not see two
//!   of them in opposite orders.
//! - `sequential`: one client writes the keys of a chain one after the other, others read them last
//!   to first: a key that is there has all before it.
//! - `causal-reverse`: as `sequential`, but each link is written by whoever comes next, once the one
//!   before was acknowledged, and all are read at one timestamp.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use check::{Kind, Op};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::read_all;
use crate::workload::keys::Groups;
use crate::workload::plan::{Desk, Ended, Mode, Model, Plan, Planner, Workload, key, locked, reads};

/// `long-fork`
pub struct LongFork {
    desk: Arc<Desk>,
    groups: Arc<Groups>,
}

impl LongFork {
    /// On this desk.
    pub fn new(desk: Arc<Desk>) -> LongFork {
        let groups = Arc::new(Groups::new(desk.shards, desk.shards, desk.shards as u32));
        LongFork { desk, groups }
    }
}

impl Workload for LongFork {
    fn model(&self) -> Model {
        Model::Registers
    }

    fn planner(&self, _client: u64) -> Box<dyn Planner> {
        Box::new(ForkClient { desk: self.desk.clone(), groups: self.groups.clone() })
    }

    fn last_reads(&self) -> Vec<Plan> {
        read_all(&self.groups.all())
    }
}

struct ForkClient {
    desk: Arc<Desk>,
    groups: Arc<Groups>,
}

impl Planner for ForkClient {
    fn next(&mut self, rng: &mut ChaCha8Rng) -> Plan {
        if rng.random_range(0..3) == 0 {
            let (group, used) = self.groups.enter();
            let k = self.groups.keys(group)[used as usize];
            return Plan::ops(self.desk.writing(rng), [Op::Write(key(k), self.desk.value())]);
        }
        let mut keys = self.groups.keys(self.groups.look(rng));
        let start = rng.random_range(0..keys.len());
        keys.rotate_left(start);
        Plan::ops(self.desk.reading(rng), reads(keys))
    }
}

/// Links of a chain.
const LINKS: i64 = 6;

/// `sequential`
pub struct Sequential {
    desk: Arc<Desk>,
    chains: Arc<Groups>,
}

impl Sequential {
    /// On this desk.
    pub fn new(desk: Arc<Desk>) -> Sequential {
        let chains = Arc::new(Groups::new(desk.shards, LINKS, 1));
        Sequential { desk, chains }
    }
}

impl Workload for Sequential {
    fn model(&self) -> Model {
        Model::Registers
    }

    fn planner(&self, client: u64) -> Box<dyn Planner> {
        let (desk, chains) = (self.desk.clone(), self.chains.clone());
        Box::new(SequentialClient {
            desk,
            chains,
            writer: client.is_multiple_of(3),
            left: VecDeque::new(),
            reading: VecDeque::new(),
        })
    }

    fn last_reads(&self) -> Vec<Plan> {
        read_all(&self.chains.all())
    }
}

struct SequentialClient {
    desk: Arc<Desk>,
    chains: Arc<Groups>,
    writer: bool,
    /// Links that this client still has to write.
    left: VecDeque<i64>,
    /// Links that it still has to read.
    reading: VecDeque<i64>,
}

impl Planner for SequentialClient {
    fn next(&mut self, rng: &mut ChaCha8Rng) -> Plan {
        if self.writer && rng.random_range(0..8) != 0 {
            if self.left.is_empty() {
                let (chain, _) = self.chains.enter();
                self.left = self.chains.keys(chain).into();
            }
            let write = Op::Write(key(self.left[0]), self.desk.value());
            return Plan::ops(self.desk.writing(rng), [write]);
        }
        if self.reading.is_empty() {
            self.reading = self.chains.keys(self.chains.look(rng)).into_iter().rev().collect();
        }
        let k = self.reading.pop_front().unwrap_or(0);
        let mode = match rng.random_range(0..4) {
            0 => Mode::Single,
            _ => self.desk.reading(rng),
        };
        Plan::ops(mode, reads([k]))
    }

    fn ended(&mut self, end: &Ended<'_>) {
        let written = matches!(end.txn.first(), Some(Op::Write(k, _)) if self.left.front().map(|left| key(*left)).as_ref() == Some(k));
        match end.kind {
            Kind::Ok if written => {
                self.left.pop_front();
            }
            // In doubt: the next link would come from another process, and prove less.
            Kind::Info => self.left.clear(),
            _ => {}
        }
    }
}

/// The chain that all clients write together.
#[derive(Default)]
struct Together {
    chain: i64,
    link: i64,
    /// Someone is writing it.
    taken: bool,
}

/// `causal-reverse`
pub struct CausalReverse {
    desk: Arc<Desk>,
    chains: Arc<Groups>,
    together: Arc<Mutex<Together>>,
}

impl CausalReverse {
    /// On this desk.
    pub fn new(desk: Arc<Desk>) -> CausalReverse {
        let chains = Arc::new(Groups::new(desk.shards, LINKS, 1));
        let chain = chains.enter().0;
        CausalReverse { desk, chains, together: Arc::new(Mutex::new(Together { chain, ..Together::default() })) }
    }
}

impl Workload for CausalReverse {
    fn model(&self) -> Model {
        Model::Registers
    }

    fn planner(&self, _client: u64) -> Box<dyn Planner> {
        let (desk, chains, together) = (self.desk.clone(), self.chains.clone(), self.together.clone());
        Box::new(CausalClient { desk, chains, together, writing: false })
    }

    fn last_reads(&self) -> Vec<Plan> {
        read_all(&self.chains.all())
    }
}

struct CausalClient {
    desk: Arc<Desk>,
    chains: Arc<Groups>,
    together: Arc<Mutex<Together>>,
    writing: bool,
}

impl Planner for CausalClient {
    fn next(&mut self, rng: &mut ChaCha8Rng) -> Plan {
        let mut together = locked(&self.together);
        if !together.taken && rng.random() {
            together.taken = true;
            self.writing = true;
            let k = self.chains.keys(together.chain)[together.link as usize];
            return Plan::ops(self.desk.writing(rng), [Op::Write(key(k), self.desk.value())]);
        }
        let behind = rng.random_range(0..2);
        let keys = self.chains.keys((together.chain - behind).max(0));
        drop(together);
        Plan::ops(self.desk.reading(rng), reads(keys))
    }

    fn ended(&mut self, end: &Ended<'_>) {
        if !std::mem::take(&mut self.writing) {
            return;
        }
        let mut together = locked(&self.together);
        together.taken = false;
        match end.kind {
            Kind::Ok => together.link += 1,
            Kind::Info => together.link = LINKS,
            _ => {}
        }
        if together.link >= LINKS {
            together.chain = self.chains.enter().0;
            together.link = 0;
        }
    }
}
