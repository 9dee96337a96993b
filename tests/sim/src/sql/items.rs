//! Programs about indexes that come and go while rows are written, read by them, and compared with them.

use std::collections::BTreeSet;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use sql::types::Datum;

use super::programs::{Book, Kind, Program, Style, When};
use super::statement::{OnConflict, Rows, Set, Statement, Table, What};
use crate::rng::pick;

/// Keys of items.
const ITEMS: i64 = 40;
/// Values of their first column.
const ITEM_VALUES: i64 = 6;
/// Indexes at one time, about.
const INDEXES_MAX: usize = 3;
/// What they are like.
const INDEXED: [(bool, &str); 6] = [
    (false, "(a)"),
    (false, "(a DESC, b) STORING (b)"),
    (false, "(b) WHERE a > 2"),
    (false, "(a) STORING (b)"),
    (true, "(b)"),
    (true, "(b DESC, a)"),
];

/// Waits for the end of all schema changes, and compares the indexes with their table.
pub fn audit_of_indexes() -> [Program; 2] {
    let alone = |statement| Program::new(Kind::Audit, Style::Alone(When::Strong), vec![statement]);
    let jobs = Program::new(Kind::Audit, Style::ReadOnly(When::Strong), vec![Statement::ShowJobs]);
    [jobs, alone(Statement::CheckIndexes)]
}

impl Book {
    /// A program of one of these kinds.
    pub(super) fn about_indexes(&mut self, kind: Kind, when: When, rng: &mut ChaCha8Rng) -> Program {
        let alone = |kind, statement| Program::new(kind, Style::Alone(When::Strong), vec![statement]);
        match kind {
            Kind::Items => self.items(rng),
            Kind::ReadItems => {
                let by = Some(("a", rng.random_range(0..ITEM_VALUES)));
                let read = Statement::select(Table::Items, What::All, Rows { by, ..Rows::all() });
                match rng.random_range(0..4) {
                    0 => Program::new(kind, Style::Block, vec![read]),
                    1 => Program::new(kind, Style::ReadOnly(when), vec![read]),
                    _ => alone(kind, read).at(when),
                }
            }
            Kind::MakeIndex if self.indexes.len() < INDEXES_MAX => self.make(rng),
            Kind::DropIndex if self.indexes.is_empty() => self.make(rng),
            Kind::CheckIndexes => alone(kind, Statement::CheckIndexes).at(when),
            _ => {
                let at = rng.random_range(0..self.indexes.len());
                alone(Kind::DropIndex, Statement::DropIndex(self.indexes.remove(at)))
            }
        }
    }

    fn make(&mut self, rng: &mut ChaCha8Rng) -> Program {
        let (unique, columns) = *pick(rng, &INDEXED);
        let create = Statement::CreateIndex { number: self.fresh().unsigned_abs(), unique, columns };
        Program::new(Kind::MakeIndex, Style::Alone(When::Strong), vec![create])
    }

    /// One statement, or some, that write items in various ways.
    fn items(&mut self, rng: &mut ChaCha8Rng) -> Program {
        let count = if rng.random_range(0..3) == 0 { rng.random_range(2..=4) } else { 1 };
        let mut queue = Vec::new();
        for _ in 0..count {
            let table = Table::Items;
            let rows = match rng.random_range(0..3) {
                0 => Rows { by: Some(("a", rng.random_range(0..ITEM_VALUES))), ..Rows::all() },
                _ => Rows::of([rng.random_range(0..ITEMS)]),
            };
            let (a, b) = (rng.random_range(0..=ITEM_VALUES), rng.random_range(0..1_000));
            let value = |n| if n == ITEM_VALUES { Datum::Null } else { Datum::Int(n) };
            queue.push(match rng.random_range(0..8) {
                0..4 => {
                    let keys: BTreeSet<i64> = (0..rng.random_range(1..3)).map(|_| rng.random_range(0..ITEMS)).collect();
                    let row = |(at, key)| (vec![key], vec![value(a), Datum::Int(b + at)]);
                    let rows = (0i64..).zip(keys).map(row).collect();
                    let conflict =
                        if rng.random() { OnConflict::Error } else { OnConflict::Update("a", Set::To(value(a))) };
                    Statement::Insert { table, rows, given: 2, conflict, returning: rng.random() }
                }
                4 => Statement::Update { table, rows, set: ("a", Set::To(value(a))), returning: rng.random() },
                5 => Statement::Update { table, rows, set: ("b", Set::Plus(1)), returning: rng.random() },
                _ => Statement::Delete { table, rows, returning: rng.random() },
            });
        }
        let style = if count == 1 { Style::Alone(When::Strong) } else { Style::Block };
        Program::new(Kind::Items, style, queue)
    }
}
