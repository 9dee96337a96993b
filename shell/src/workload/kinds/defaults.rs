//! `default-values`: tables with defaults are created and dropped under load; a row that is there
//! has its defaults, from the first moment on and on every node.
//!
//! The first client makes a table every now and then; the others insert rows into the newest ones,
//! also into one that is only just being made, giving nothing but the key.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use check::{Key, Kind, Op};
use proto::v1::Row;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::workload::bank::{int, text};
use crate::workload::keys::SPAN;
use crate::workload::plan::{Desk, Ended, Mode, Model, Plan, Planner, Step, Workload, key, locked, reads};

/// Rows of a table, after which the next one is made.
const ROWS: i64 = 60;

/// Tables that are kept; an older one is dropped.
const KEPT: i64 = 4;

/// The workload.
pub struct Defaults {
    desk: Arc<Desk>,
    tables: Arc<Tables>,
}

struct Tables {
    /// The newest that is known to be there; -1: none.
    newest: AtomicI64,
    /// How many rows the newest was given.
    rows: Mutex<i64>,
    /// Keys inserted lately.
    recent: Mutex<VecDeque<i64>>,
}

/// How many inserted keys are remembered.
const RECENT: usize = 200;

impl Defaults {
    /// On this desk.
    pub fn new(desk: Arc<Desk>) -> Defaults {
        let tables = Tables { newest: AtomicI64::new(-1), rows: Mutex::new(0), recent: Mutex::default() };
        Defaults { desk, tables: Arc::new(tables) }
    }
}

fn name(table: i64) -> String {
    format!("workload_defaults_{table}")
}

fn default(table: i64) -> i64 {
    1000 + table
}

/// The statement that inserts a row, and the value that its register then has.
pub fn insert(k: i64) -> (String, i64) {
    (format!("INSERT INTO {} (k) VALUES ({})", name(k / SPAN), k % SPAN), default(k / SPAN))
}

/// The statement that reads a row.
pub fn select(k: i64) -> String {
    format!("SELECT v, w FROM {} WHERE k = {}", name(k / SPAN), k % SPAN)
}

/// The register's value, if the row has its defaults; else what is wrong with it.
pub fn judge(k: i64, row: &Row) -> Result<i64, String> {
    let (v, w) = (row.values.first().and_then(int), row.values.get(1).and_then(text));
    let table = k / SPAN;
    match (v, w) {
        (Some(v), Some(w)) if w == format!("w{table}") => Ok(v),
        _ => Err(format!("row {} of {} lacks its defaults: {v:?}, {w:?}", k % SPAN, name(table))),
    }
}

impl Workload for Defaults {
    fn model(&self) -> Model {
        Model::Defaults
    }

    fn planner(&self, client: u64) -> Box<dyn Planner> {
        let (desk, tables) = (self.desk.clone(), self.tables.clone());
        Box::new(Client { desk, tables, maker: client == 0, making: None })
    }

    fn last_reads(&self) -> Vec<Plan> {
        let newest = self.tables.newest.load(Ordering::SeqCst);
        // What may have been dropped is not there to be read.
        let recent = locked(&self.tables.recent);
        let keys: Vec<i64> = recent.iter().copied().filter(|k| k / SPAN > newest - KEPT + 1).collect();
        super::read_all(&keys)
    }
}

struct Client {
    desk: Arc<Desk>,
    tables: Arc<Tables>,
    maker: bool,
    making: Option<i64>,
}

impl Planner for Client {
    fn next(&mut self, rng: &mut ChaCha8Rng) -> Plan {
        let newest = self.tables.newest.load(Ordering::SeqCst);
        let used = *locked(&self.tables.rows);
        if self.maker && (newest < 0 || used >= ROWS) {
            let table = newest + 1;
            self.making = Some(table);
            let (name, default) = (name(table), default(table));
            let mut statements = vec![format!(
                "CREATE TABLE IF NOT EXISTS {name} (k BIGINT PRIMARY KEY, v BIGINT DEFAULT {default}, w TEXT DEFAULT 'w{table}')"
            )];
            if table >= KEPT {
                statements.push(format!("DROP TABLE IF EXISTS {}", self::name(table - KEPT)));
            }
            return Plan::new(Mode::Single, vec![Step::Schema(statements)]);
        }
        // Sometimes the one that is about to be made.
        let ahead = i64::from(rng.random_range(0..8) == 0);
        let table = (newest + ahead).max(0);
        if rng.random() && used < ROWS {
            *locked(&self.tables.rows) += 1;
            // All rows of a table have the same values, so a key is never tried twice.
            let k = table * SPAN + self.desk.value() % SPAN;
            return Plan::ops(self.desk.writing(rng), [Op::Write(key(k), default(table))]);
        }
        let recent = locked(&self.tables.recent);
        let from = recent.len().saturating_sub(20);
        let keys: Vec<i64> = if recent.is_empty() {
            vec![table * SPAN]
        } else {
            (0..3).map(|_| recent[rng.random_range(from..recent.len())]).collect()
        };
        drop(recent);
        // Not in the past: a table that was not there yet has no rows to read.
        let mode = match rng.random_range(0..3) {
            0 => Mode::ReadWrite,
            _ => Mode::Strong,
        };
        Plan::ops(mode, reads(keys))
    }

    fn ended(&mut self, end: &Ended<'_>) {
        let written = match end.txn.first() {
            Some(Op::Write(Key::Number(k), _)) if end.kind != Kind::Fail => Some(*k),
            _ => None,
        };
        if let Some(k) = written {
            let mut recent = locked(&self.tables.recent);
            recent.push_back(k);
            if recent.len() > RECENT {
                recent.pop_front();
            }
        }
        let Some(table) = self.making.take() else { return };
        if end.kind == Kind::Ok {
            self.tables.newest.store(table, Ordering::SeqCst);
            *locked(&self.tables.rows) = 0;
        }
    }
}
