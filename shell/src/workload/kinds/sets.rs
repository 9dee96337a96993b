//! `set`: elements are added to sets whose rows lie in all groups; an element whose insertion was
//! acknowledged is in every later read, until the end.

use std::sync::Arc;

use check::Op;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::read_all;
use crate::workload::keys::Groups;
use crate::workload::plan::{Desk, Mode, Model, Plan, Planner, Step, Workload, key, reads};

/// Adds to a set before the next begins.
const ADDS: u32 = 96;

/// The workload.
pub struct Sets {
    desk: Arc<Desk>,
    sets: Arc<Groups>,
}

impl Sets {
    /// On this desk.
    pub fn new(desk: Arc<Desk>) -> Sets {
        Sets { desk, sets: Arc::new(Groups::new(1, 1, ADDS)) }
    }
}

impl Workload for Sets {
    fn model(&self) -> Model {
        Model::Sets
    }

    fn planner(&self, _client: u64) -> Box<dyn Planner> {
        Box::new(Client { desk: self.desk.clone(), sets: self.sets.clone() })
    }

    fn last_reads(&self) -> Vec<Plan> {
        read_all(&self.sets.all())
    }
}

struct Client {
    desk: Arc<Desk>,
    sets: Arc<Groups>,
}

impl Planner for Client {
    fn next(&mut self, rng: &mut ChaCha8Rng) -> Plan {
        if rng.random_range(0..3) == 0 {
            return Plan::ops(self.desk.reading(rng), reads([self.sets.look(rng)]));
        }
        let (set, _) = self.sets.enter();
        let mode = self.desk.writing(rng);
        let count = if mode == Mode::Single { 1 } else { rng.random_range(1..=3) };
        let mut steps: Vec<Step> = (0..count).map(|_| Step::Do(Op::Add(key(set), self.desk.value()))).collect();
        if mode == Mode::ReadWrite && rng.random_range(0..4) == 0 {
            steps.push(Step::Do(Op::Read(key(set))));
        }
        Plan::new(mode, steps)
    }
}
