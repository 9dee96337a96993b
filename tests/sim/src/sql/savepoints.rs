//! A program that takes back what it did: a statement that fails, one that a timeout cut off, and other work.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use sql::types::Datum;

use super::programs::Book;
use super::statement::{Rows, Set, Statement, Table, What};

impl Book {
    /// The statements of a block with savepoints.
    pub(super) fn saved(&mut self, rng: &mut ChaCha8Rng) -> Vec<Statement> {
        let key = 2_000_000 + self.fresh();
        let insert = Statement::insert(Table::Users, [key], vec![Datum::Text("once".into())]);
        let mut used = Vec::new();
        // Each list once: an UPDATE that finds no row is followed by an INSERT of it.
        let mut append = |book: &Book, rng: &mut ChaCha8Rng| {
            let at = loop {
                let at = book.list_key(rng);
                if !used.contains(&at) {
                    break at;
                }
            };
            used.push(at.clone());
            let (table, list) = at;
            let (rows, set) = (Rows::of(list), ("v", Set::Concat(String::new())));
            Statement::Update { table, rows, set, returning: rng.random() }
        };
        let rows = Rows::of([key]);
        let (table, what, lock) = (Table::Users, What::All, rng.random());
        let read = Statement::Select { table, what, rows, order: None, limit: None, lock };
        let mut queue = vec![append(self, rng), Statement::Savepoint(0), append(self, rng), insert.clone()];
        // The same name again, or another one.
        let inner = rng.random_range(0..2);
        queue.extend([Statement::Savepoint(inner), insert.clone(), Statement::RollbackTo(inner), read.clone()]);
        if rng.random() {
            queue.extend([append(self, rng), Statement::RollbackTo(inner)]);
        }
        if rng.random() {
            queue.extend([Statement::Release(inner), read.clone(), Statement::RollbackTo(0), read.clone()]);
            queue.push(insert);
        }
        queue.extend([append(self, rng), read]);
        if rng.random() {
            let (of_locks, ms) = (rng.random(), rng.random_range(1..30));
            queue.insert(0, Statement::Patience { of_locks, ms });
        }
        queue
    }
}
