//! A dumb twin of SQL: tables are maps, statements are loops. It runs one statement after the other,
//! in the order of the commit timestamps, and so says what each should have returned.

use std::collections::BTreeMap;

use sql::types::Datum;

use super::statement::{OnConflict, Rows, Set, Statement, Table, What};

/// What a statement should return.
#[derive(Clone, Debug, PartialEq)]
pub struct Expected {
    /// Rows, if it returns any: in this order if `ordered`, else in any.
    pub rows: Vec<Vec<Datum>>,
    /// Whether their order is fixed.
    pub ordered: bool,
    /// The tag.
    pub tag: String,
}

/// Why a statement should fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fails {
    /// 23505.
    DuplicateKey,
    /// 42P01.
    NoTable,
    /// 42P07.
    TableExists,
}

/// The tables that blocks with savepoints write.
const SAVED: [Table; 3] = [Table::Lists, Table::Pairs, Table::Users];

type Stored = BTreeMap<Vec<i64>, Vec<Datum>>;

/// A place to go back to.
#[derive(Clone, Debug)]
struct Savepoint {
    name: u8,
    /// The tables that blocks with savepoints write, as they were.
    tables: Vec<(Table, Option<Stored>)>,
    /// How much had been written.
    written: usize,
}

/// All tables.
#[derive(Clone, Debug, Default)]
pub struct Model {
    tables: BTreeMap<Table, Stored>,
    /// Dropped tables with their rows: a transaction that was on its way may still use them.
    dropped: BTreeMap<Table, Stored>,
    /// Of the transaction that is being replayed, the outermost first.
    savepoints: Vec<Savepoint>,
    /// Rows that were written since this was last emptied.
    pub written: Vec<(Table, Vec<i64>)>,
}

fn whole(key: &[i64], values: &[Datum]) -> Vec<Datum> {
    key.iter().map(|n| Datum::Int(*n)).chain(values.iter().cloned()).collect()
}

fn position(table: Table, column: &str) -> usize {
    table.columns().iter().position(|c| c.name == column).expect("a column of the table")
}

fn number(datum: &Datum) -> i64 {
    if let Datum::Int(n) = datum { *n } else { 0 }
}

/// Whether a key is among those that a statement looks at.
pub fn looks_at(rows: &Rows, key: &[i64]) -> bool {
    let next = key.get(rows.next_column()).copied().unwrap_or(0);
    key.starts_with(&rows.prefix)
        && (rows.among.is_empty() || rows.among.contains(&key[0]))
        && rows.above.is_none_or(|from| next > from)
        && rows.up_to.is_none_or(|to| next <= to)
}

fn matches(table: Table, rows: &Rows, key: &[i64], values: &[Datum]) -> bool {
    looks_at(rows, key)
        && rows.by.is_none_or(|(column, value)| values[position(table, column)] == Datum::Int(value))
        && rows.flag.is_none_or(|column| values[position(table, column)] == Datum::Bool(true))
}

fn apply_set(old: &Datum, set: &Set) -> Datum {
    match (set, old) {
        (Set::To(datum), _) => datum.clone(),
        (Set::Plus(n), old) => Datum::Int(number(old) + n),
        (Set::Concat(more), Datum::Text(old)) => Datum::Text(format!("{old}{more}")),
        (Set::Concat(_), _) => Datum::Null,
    }
}

fn counted(tag: &str, count: usize, returned: Option<Vec<Vec<Datum>>>) -> Expected {
    Expected { rows: returned.unwrap_or_default(), ordered: false, tag: format!("{tag} {count}") }
}

impl Model {
    /// Runs a statement. `ghosts`: a table that was dropped is as good as one that was not.
    pub fn run(&mut self, statement: &Statement, ghosts: bool) -> Result<Expected, Fails> {
        let done = |tag: &str| Expected { rows: Vec::new(), ordered: false, tag: tag.into() };
        let table = statement.table();
        match statement {
            Statement::Patience { .. } => return Ok(done("SET")),
            Statement::Savepoint(name) => {
                let kept = SAVED.map(|table| (table, self.tables.get(&table).cloned()));
                self.savepoints.push(Savepoint { name: *name, tables: kept.into(), written: self.written.len() });
                return Ok(done("SAVEPOINT"));
            }
            Statement::RollbackTo(name) => {
                let at = self.savepoint(*name);
                self.savepoints.truncate(at + 1);
                let Savepoint { tables, written, .. } = self.savepoints[at].clone();
                for (table, stored) in tables {
                    match stored {
                        Some(stored) => self.tables.insert(table, stored),
                        None => self.tables.remove(&table),
                    };
                }
                self.written.truncate(written);
                return Ok(done("ROLLBACK"));
            }
            Statement::Release(name) => {
                let at = self.savepoint(*name);
                self.savepoints.truncate(at);
                return Ok(done("RELEASE"));
            }
            Statement::Create(_, if_not_exists) if self.tables.contains_key(&table) => {
                return if *if_not_exists { Ok(done("CREATE TABLE")) } else { Err(Fails::TableExists) };
            }
            Statement::Create(..) => {
                self.tables.insert(table, Stored::new());
                return Ok(done("CREATE TABLE"));
            }
            Statement::Drop(_) => {
                let stored = self.tables.remove(&table).ok_or(Fails::NoTable)?;
                self.dropped.insert(table, stored);
                return Ok(done("DROP TABLE"));
            }
            _ => {}
        }
        let stored = match (self.tables.get_mut(&table), self.dropped.get_mut(&table)) {
            (Some(stored), _) => stored,
            (None, Some(stored)) if ghosts => stored,
            _ => return Err(Fails::NoTable),
        };
        Ok(match statement {
            Statement::Create(..)
            | Statement::Drop(_)
            | Statement::Patience { .. }
            | Statement::Savepoint(_)
            | Statement::RollbackTo(_)
            | Statement::Release(_) => unreachable!("done above"),
            Statement::CreateIndex { .. }
            | Statement::DropIndex(_)
            | Statement::CheckIndexes
            | Statement::ShowJobs
            | Statement::AddForeign(_)
            | Statement::DropForeign(_) => unreachable!("no statement for the model"),
            Statement::Select { what, rows, order, limit, .. } => {
                let found = stored.iter().filter(|(key, values)| matches(table, rows, key, values));
                let mut found: Vec<Vec<Datum>> = found.map(|(key, values)| whole(key, values)).collect();
                let column = |name: &str| table.key().len() + position_or_key(table, name);
                let numbers = |name: &str| {
                    let at = table.key().iter().position(|key| *key == name).unwrap_or_else(|| column(name));
                    found.iter().map(|row| number(&row[at])).collect::<Vec<i64>>()
                };
                let one = |datum: Datum| vec![vec![datum]];
                found = match what {
                    What::All => {
                        if let Some(desc) = order {
                            let last = table.key().len() - 1;
                            found.sort_by_key(|row| number(&row[last]));
                            if *desc {
                                found.reverse();
                            }
                        }
                        found.truncate(limit.map_or(usize::MAX, |n| n as usize));
                        found
                    }
                    What::Count => one(Datum::Int(found.len() as i64)),
                    What::Sum(_) | What::Max(_) if found.is_empty() => one(Datum::Null),
                    What::Sum(name) => one(Datum::Int(numbers(name).iter().sum())),
                    What::Max(name) => one(numbers(name).into_iter().max().map_or(Datum::Null, Datum::Int)),
                };
                let tag = format!("SELECT {}", found.len());
                Expected { rows: found, ordered: order.is_some(), tag }
            }
            Statement::Insert { rows, given, conflict, returning, .. } => {
                let mut new: Vec<(Vec<i64>, Vec<Datum>)> = Vec::new();
                for (key, values) in rows {
                    let there = stored.get(key);
                    let twice = new.iter().any(|(known, _)| known == key);
                    match (conflict, there) {
                        (OnConflict::Error, Some(_)) => return Err(Fails::DuplicateKey),
                        (OnConflict::Error, None) if twice => return Err(Fails::DuplicateKey),
                        (OnConflict::Nothing, Some(_)) => {}
                        (OnConflict::Nothing, None) if twice => {}
                        (OnConflict::Update(column, set), Some(old)) => {
                            let (mut changed, at) = (old.clone(), position(table, column));
                            changed[at] = apply_set(&old[at], set);
                            new.push((key.clone(), changed));
                        }
                        _ => {
                            let defaults = table.columns().iter().skip(*given);
                            let defaults = defaults.map(|c| c.default.map_or(Datum::Null, |default| default.datum()));
                            new.push((key.clone(), values.iter().cloned().chain(defaults).collect()));
                        }
                    }
                }
                let rows = returning.then(|| new.iter().map(|(key, values)| whole(key, values)).collect());
                let count = new.len();
                self.written.extend(new.iter().map(|(key, _)| (table, key.clone())));
                stored.extend(new);
                counted("INSERT 0", count, rows)
            }
            Statement::Update { rows, set: (column, set), returning, .. } => {
                let (at, mut returned, mut count) = (position(table, column), Vec::new(), 0);
                for (key, values) in stored.iter_mut().filter(|(key, values)| matches(table, rows, key, values)) {
                    values[at] = apply_set(&values[at], set);
                    self.written.push((table, key.clone()));
                    returned.push(whole(key, values));
                    count += 1;
                }
                counted("UPDATE", count, returning.then_some(returned))
            }
            Statement::Delete { rows, returning, .. } => {
                let gone: Stored = stored.extract_if(.., |key, values| matches(table, rows, key, values)).collect();
                self.written.extend(gone.keys().map(|key| (table, key.clone())));
                let returned = gone.iter().map(|(key, values)| whole(key, values)).collect();
                counted("DELETE", gone.len(), returning.then_some(returned))
            }
        })
    }

    /// Another transaction begins.
    pub fn begin(&mut self) {
        self.savepoints.clear();
    }

    fn savepoint(&self, name: u8) -> usize {
        self.savepoints.iter().rposition(|known| known.name == name).expect("programs name savepoints that they set")
    }

    /// Whether a row is there.
    pub fn holds(&self, table: Table, key: &[i64]) -> bool {
        self.tables.get(&table).is_some_and(|stored| stored.contains_key(key))
    }
}

impl Model {
    /// A child whose parent is not there.
    pub fn orphan(&self) -> Option<&[i64]> {
        let parents = self.tables.get(&Table::Parents);
        let is_orphan = |values: &[Datum]| match values {
            [Datum::Int(parent)] => !parents.is_some_and(|parents| parents.contains_key([*parent].as_slice())),
            _ => false,
        };
        let children = self.tables.get(&Table::Children)?;
        children.iter().find(|(_, values)| is_orphan(values)).map(|(key, _)| key.as_slice())
    }
}

fn position_or_key(table: Table, name: &str) -> usize {
    table.columns().iter().position(|c| c.name == name).unwrap_or(0)
}

/// A result as it can be compared: rows of any order are sorted.
pub fn comparable(rows: &[Vec<Datum>], ordered: bool) -> Vec<String> {
    let mut lines: Vec<String> = rows.iter().map(|row| format!("{row:?}")).collect();
    if !ordered {
        lines.sort();
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_do_what_they_say() {
        let mut model = Model::default();
        let insert = Statement::insert(Table::Users, [7], vec![Datum::Text("ann".into())]);
        assert_eq!(model.run(&insert, false), Err(Fails::NoTable));
        model.run(&Statement::Create(Table::Users, false), false).unwrap();
        assert_eq!(model.run(&Statement::Create(Table::Users, false), false), Err(Fails::TableExists));
        assert_eq!(model.run(&insert, false).unwrap().tag, "INSERT 0 1");
        assert_eq!(model.run(&insert, false), Err(Fails::DuplicateKey));
        let more = Statement::Update {
            table: Table::Users,
            rows: Rows::of([7]),
            set: ("visits", Set::Plus(2)),
            returning: true,
        };
        let ran = model.run(&more, false).unwrap();
        assert_eq!(ran.rows, [vec![Datum::Int(7), Datum::Text("ann".into()), Datum::Int(3)]]);
        let sum = Statement::select(Table::Users, What::Sum("visits"), Rows { above: Some(6), ..Rows::all() });
        assert_eq!(model.run(&sum, false).unwrap().rows, [[Datum::Int(3)]]);
        model.run(&Statement::Drop(Table::Users), false).unwrap();
        assert_eq!(model.run(&sum, false), Err(Fails::NoTable));
        assert_eq!(model.run(&sum, true).unwrap().rows, [[Datum::Int(3)]], "what was on its way sees the old rows");
        model.run(&Statement::Create(Table::Users, false), false).unwrap();
        model.begin();
        model.run(&insert, false).unwrap();
        model.run(&Statement::Savepoint(1), false).unwrap();
        model.run(&more, false).unwrap();
        model.run(&Statement::Savepoint(1), false).unwrap();
        model.run(&more, false).unwrap();
        assert_eq!(model.run(&insert, false), Err(Fails::DuplicateKey));
        assert_eq!(model.run(&Statement::RollbackTo(1), false).unwrap().tag, "ROLLBACK");
        assert_eq!(model.run(&sum, false).unwrap().rows, [[Datum::Int(3)]]);
        model.run(&Statement::Release(1), false).unwrap();
        model.run(&Statement::RollbackTo(1), false).unwrap();
        assert_eq!(model.run(&sum, false).unwrap().rows, [[Datum::Int(1)]]);
        assert_eq!(more.text(false).0, "UPDATE users SET visits = visits + $1 WHERE k = $2 RETURNING *");
        assert_eq!(more.text(true).0, "UPDATE users SET visits = visits + 2 WHERE k = 7 RETURNING *");
    }
}
