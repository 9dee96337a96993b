//! Programs about parents and children, and a foreign key that comes and goes while they are written.
//!
//! It takes no action of its own, so that what a statement does is the same with and without it; only what it refuses
//! is not. So the model replays as ever, and the judge looks for orphans while the key is surely there.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use sql::types::Datum;

use super::programs::{Book, Kind, Program, Style, When};
use super::statement::{OnConflict, Rows, Set, Statement, Table, What};

/// Keys of parents.
const PARENTS: i64 = 6;
/// Keys of children.
const CHILDREN: i64 = 20;

impl Kind {
    /// Those that are drawn where the schema changes, each with its weight.
    pub const SCHEMA: [(Kind, u32); 8] = [
        (Kind::Items, 12),
        (Kind::ReadItems, 4),
        (Kind::MakeIndex, 3),
        (Kind::DropIndex, 1),
        (Kind::CheckIndexes, 3),
        (Kind::Family, 12),
        (Kind::ReadFamilies, 2),
        (Kind::Foreign, 2),
    ];
}

impl Book {
    /// A program of one of these kinds.
    pub(super) fn families(&mut self, kind: Kind, when: When, rng: &mut ChaCha8Rng) -> Program {
        match kind {
            Kind::Foreign => {
                let statement = match self.foreign.take() {
                    Some(number) => Statement::DropForeign(number),
                    None => Statement::AddForeign(self.fresh().unsigned_abs()),
                };
                Program::new(kind, Style::Alone(When::Strong), vec![statement])
            }
            Kind::ReadFamilies => {
                let all = |table| Statement::select(table, What::All, Rows::all());
                let by = Some(("parent", rng.random_range(0..PARENTS)));
                match rng.random_range(0..4) {
                    0 => {
                        let own = Statement::select(Table::Children, What::All, Rows { by, ..Rows::all() });
                        Program::new(kind, Style::Alone(when), vec![own])
                    }
                    1 => Program::new(kind, Style::Block, vec![all(Table::Children), all(Table::Parents)]),
                    _ => Program::new(kind, Style::ReadOnly(when), vec![all(Table::Children), all(Table::Parents)]),
                }
            }
            _ => {
                let count = if rng.random_range(0..3) == 0 { rng.random_range(2..=3) } else { 1 };
                let queue: Vec<Statement> = (0..count).map(|_| write(rng)).collect();
                let style = if count == 1 { Style::Alone(When::Strong) } else { Style::Block };
                Program::new(kind, style, queue)
            }
        }
    }
}

fn write(rng: &mut ChaCha8Rng) -> Statement {
    let (parent, child) = (rng.random_range(0..PARENTS), rng.random_range(0..CHILDREN));
    let of = if rng.random_range(0..6) == 0 { Datum::Null } else { Datum::Int(rng.random_range(0..PARENTS)) };
    let insert = |table, key: i64, value, conflict, returning| {
        let rows = vec![(vec![key], vec![value])];
        Statement::Insert { table, rows, given: 1, conflict, returning }
    };
    let returning = rng.random();
    match rng.random_range(0..10) {
        0 | 1 => insert(Table::Parents, parent, Datum::Int(child), OnConflict::Nothing, returning),
        2 => Statement::Delete { table: Table::Parents, rows: Rows::of([parent]), returning },
        3..6 => {
            let conflict = match rng.random() {
                true => OnConflict::Nothing,
                false => OnConflict::Update("parent", Set::To(of.clone())),
            };
            insert(Table::Children, child, of, conflict, returning)
        }
        6 | 7 => {
            let set = ("parent", Set::To(of));
            Statement::Update { table: Table::Children, rows: Rows::of([child]), set, returning }
        }
        8 => {
            // All of one parent, by the index of the foreign key if there is one.
            let by = Some(("parent", parent));
            let rows = Rows { by, ..Rows::all() };
            Statement::Update { table: Table::Children, rows, set: ("parent", Set::To(of)), returning }
        }
        _ => Statement::Delete { table: Table::Children, rows: Rows::of([child]), returning },
    }
}
