//! What SQL clients do: transactions as programs, each statement following from what the earlier ones
//! returned.
//!
//! | kind | statements | what would break it |
//! | --- | --- | --- |
//! | append | lists of unique numbers in two tables, by UPDATE, INSERT or ON CONFLICT | lost updates, cycles |
//! | transfer, total | balances, and their sum now, then, or at a timestamp | read skew |
//! | doctors | someone of a ward stays on call, by count(*) under a predicate | write skew |
//! | budget | a sum over a range stays below a limit | phantoms |
//! | mono | max + 1 | a timestamp order that is not the order of things |
//! | users | inserts that may meet their key, RETURNING, deletes | duplicates, wrong 23505 |
//! | steps | rows inserted one after the other, read together | causal reverse, long fork |
//! | move, pages | rows that move while they are read page by page | a page of another timestamp |
//! | make, use, drop | tables with DEFAULTs, used at once by others | NULL for a DEFAULT, a table that is not there |
//! | items, index, check | rows under indexes that come and go | entries without rows, rows without entries |
//! | family, foreign | parents and children, under a foreign key that comes and goes | an orphan |
//! | mistake | a statement that fails in the midst of a block | effects of what failed |
//! | savepoints | the same, taken back, as is what a timeout cut off, and other work | effects of what was taken back, or its loss |

use std::collections::VecDeque;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use sql::types::Datum;
use truetime::Timestamp;

use super::host::Returned;
use super::judge::Attempt;
use super::statement::{OnConflict, Rows, Set, Statement, Table, What};
use crate::rng::pick;

/// Accounts of the bank.
pub const ACCOUNTS: i64 = 12;
/// What each has at first.
pub const BALANCE: i64 = 100;
/// Wards.
pub const WARDS: i64 = 2;
/// Doctors of a ward.
pub const DOCTORS: i64 = 3;
/// Departments.
pub const DEPARTMENTS: i64 = 2;
/// What a department may spend.
pub const BUDGET: i64 = 100;
/// Rows that move.
pub const TOKENS: i64 = 15;
/// Rows of a page.
const PAGE: u64 = 4;
/// Tables made under load, at one time.
const MADE_MAX: usize = 4;

/// The kinds of program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// What everything rests on.
    Setup,
    /// Appends to lists.
    Append,
    /// Reads lists without locks.
    ReadLists,
    /// Moves money.
    Transfer,
    /// Sums the bank.
    Total,
    /// Goes off call if another stays.
    Doctors,
    /// Spends if there is room.
    Budget,
    /// Inserts max + 1.
    Mono,
    /// Inserts what may be there.
    Users,
    /// Inserts step after step.
    Steps,
    /// Reads all steps.
    ReadSteps,
    /// Moves a row.
    Move,
    /// Reads page by page.
    Pages,
    /// Creates a table.
    Make,
    /// Uses a table that another client has created.
    UseMade,
    /// Drops it.
    DropMade,
    /// Writes rows that have indexes.
    Items,
    /// Reads them, perhaps by an index.
    ReadItems,
    /// Creates an index.
    MakeIndex,
    /// Drops one.
    DropIndex,
    /// Compares the indexes with the table.
    CheckIndexes,
    /// Writes parents and children.
    Family,
    /// Reads them.
    ReadFamilies,
    /// Makes a foreign key of them, or drops it.
    Foreign,
    /// Makes a mistake in a block.
    Mistake,
    /// Makes a mistake, and more, and takes it back.
    Savepoints,
    /// Reads everything.
    Audit,
    /// Reads what was read, at the same timestamp.
    Again,
}

impl Kind {
    /// Those that are drawn.
    pub const DRAWN: [Kind; 18] = [
        Kind::Append,
        Kind::ReadLists,
        Kind::Transfer,
        Kind::Total,
        Kind::Doctors,
        Kind::Budget,
        Kind::Mono,
        Kind::Users,
        Kind::Steps,
        Kind::ReadSteps,
        Kind::Move,
        Kind::Pages,
        Kind::Make,
        Kind::UseMade,
        Kind::DropMade,
        Kind::Mistake,
        Kind::Savepoints,
        Kind::Again,
    ];
}

/// When a read without locks happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Now.
    Strong,
    /// So many milliseconds ago.
    AgoMs(i64),
    /// Then.
    Exactly(Timestamp),
}

/// How statements are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// BEGIN, COMMIT.
    Block,
    /// One statement on its own; if it is a SELECT, now or in the past.
    Alone(When),
    /// BEGIN READ ONLY.
    ReadOnly(When),
}

/// A transaction to be tried until it commits.
#[derive(Clone, Debug)]
pub struct Program {
    /// Its kind.
    pub kind: Kind,
    /// How it runs.
    pub style: Style,
    /// What is to be run next.
    pub queue: VecDeque<Statement>,
    /// It ends by ROLLBACK.
    pub rollback: bool,
    seen: Vec<i64>,
    number: i64,
    key: Vec<i64>,
}

/// What SQL clients share.
#[derive(Debug, Default)]
pub struct Book {
    /// What they did, in the order of the endings.
    pub attempts: Vec<Attempt>,
    /// What they do, and how often.
    pub mix: Vec<(Kind, u32)>,
    /// The tables are there.
    pub ready: bool,
    /// Tables that some client has made and none has begun to drop.
    pub made: Vec<u64>,
    /// Indexes that are there, as far as is known.
    pub indexes: Vec<u64>,
    /// The foreign key that is there, as far as is known.
    pub foreign: Option<u64>,
    /// Reads without locks, to be done again.
    pub answered: Vec<(Statement, Timestamp)>,
    last: i64,
    /// The largest number of `mono` that was acknowledged.
    pub mono: i64,
}

impl Book {
    /// Of clients that do these.
    pub fn new(mix: Vec<(Kind, u32)>) -> Book {
        Book { mix, ..Book::default() }
    }

    /// A number never used before.
    pub fn fresh(&mut self) -> i64 {
        self.last += 1;
        self.last
    }

    /// A program, and what is to be done after it.
    pub fn draw(&mut self, rng: &mut ChaCha8Rng) -> VecDeque<Program> {
        let total: u32 = self.mix.iter().map(|(_, weight)| weight).sum();
        let mut at = rng.random_range(0..total);
        let mut kind = Kind::Append;
        for (drawn, weight) in &self.mix {
            kind = *drawn;
            if at < *weight {
                break;
            }
            at -= weight;
        }
        self.program(kind, rng)
    }

    fn program(&mut self, kind: Kind, rng: &mut ChaCha8Rng) -> VecDeque<Program> {
        let when = match rng.random_range(0..3) {
            0 => When::AgoMs(rng.random_range(0..1_500)),
            _ => When::Strong,
        };
        let read_only = |queue: Vec<Statement>| Program::new(kind, Style::ReadOnly(when), queue);
        let block = |queue: Vec<Statement>| Program::new(kind, Style::Block, queue);
        let alone = |statement| Program::new(kind, Style::Alone(When::Strong), vec![statement]);
        let point = |table, key: i64, lock| Statement::Select {
            table,
            what: What::All,
            rows: Rows::of([key]),
            order: None,
            limit: None,
            lock,
        };
        let program = match kind {
            Kind::Append => {
                let count = rng.random_range(1..=8);
                let mut queue = Vec::new();
                for _ in 0..count {
                    let (table, key) = self.list_key(rng);
                    let again = queue.iter().any(|s: &Statement| s.table() == table && key_of(s) == Some(&key));
                    if again {
                        continue;
                    }
                    let lock = rng.random();
                    queue.push(match rng.random_range(0..4) {
                        0 => Statement::Select {
                            table,
                            what: What::All,
                            rows: Rows::of(key),
                            order: None,
                            limit: None,
                            lock,
                        },
                        1 => Statement::Insert {
                            table,
                            rows: vec![(key, vec![Datum::Text(String::new())])],
                            given: 1,
                            conflict: OnConflict::Update("v", Set::Concat(String::new())),
                            returning: lock,
                        },
                        _ => Statement::Update {
                            table,
                            rows: Rows::of(key),
                            set: ("v", Set::Concat(String::new())),
                            returning: lock,
                        },
                    });
                }
                let single = matches!(queue.as_slice(), [Statement::Insert { .. }]);
                if single { alone(queue.remove(0)) } else { block(queue) }
            }
            Kind::ReadLists => {
                let mut queue = Vec::new();
                for (table, keys) in [(Table::Lists, 8), (Table::Pairs, 3)] {
                    let rows = Rows { above: Some((self.generation() - 1) * keys - 1), ..Rows::all() };
                    queue.push(Statement::select(table, What::All, rows));
                }
                if rng.random() { alone(queue.remove(0)).at(when) } else { read_only(queue) }
            }
            Kind::Transfer => {
                let from = rng.random_range(0..ACCOUNTS);
                let to = (from + rng.random_range(1..ACCOUNTS)) % ACCOUNTS;
                let lock = rng.random();
                let mut program = block(vec![point(Table::Accounts, from, lock), point(Table::Accounts, to, lock)]);
                program.number = rng.random_range(1..=BALANCE / 2);
                program.key = vec![from, to];
                program
            }
            Kind::Total => {
                let sum = Statement::select(Table::Accounts, What::Sum("balance"), Rows::all());
                let rows = Statement::select(Table::Accounts, What::All, Rows::all());
                match rng.random_range(0..4) {
                    0 => block(vec![sum]),
                    1 => alone(sum).at(when),
                    _ => read_only(vec![rows, sum]),
                }
            }
            Kind::Doctors => {
                let ward = rng.random_range(0..WARDS);
                let rows = Rows { flag: Some("oncall"), ..Rows::of([ward]) };
                let mut program = block(vec![Statement::select(Table::Doctors, What::Count, rows)]);
                program.key = vec![ward, rng.random_range(0..DOCTORS)];
                program
            }
            Kind::Budget => {
                let dept = rng.random_range(0..DEPARTMENTS);
                let mut program = block(vec![Statement::select(Table::Budget, What::Sum("cost"), Rows::of([dept]))]);
                program.key = vec![dept, rng.random_range(0..1_000)];
                program.number = rng.random_range(20..60);
                program
            }
            Kind::Mono => {
                let above = self.mono - 10;
                let rows = Rows { above: Some(above), ..Rows::all() };
                let mut program = block(vec![Statement::select(Table::Mono, What::Max("k"), rows)]);
                program.number = above.max(0);
                program
            }
            Kind::Users => self.users(rng),
            Kind::Steps => {
                let run = self.fresh();
                let step = |at: i64| alone(Statement::insert(Table::Steps, [at * 10, run], vec![Datum::Int(run)]));
                return (0..3).map(step).collect();
            }
            Kind::ReadSteps => {
                let above = Some(self.last - 200);
                let read = |at: i64| Statement::select(Table::Steps, What::All, Rows { above, ..Rows::of([at * 10]) });
                // Later steps first: whoever sees one sees the earlier ones too.
                match rng.random_range(0..3) {
                    0 => read_only((0..3).rev().map(read).collect()),
                    // Three ranges in one statement.
                    1 => {
                        let rows = Rows { among: vec![0, 10, 20], above, ..Rows::all() };
                        alone(Statement::select(Table::Steps, What::All, rows)).at(when)
                    }
                    // The whole table is more than a page, in the end.
                    _ if rng.random_range(0..8) == 0 => {
                        alone(Statement::select(Table::Steps, What::All, Rows::all())).at(when)
                    }
                    _ => alone(read(rng.random_range(0..3))).at(when),
                }
            }
            Kind::Move => {
                let key = rng.random_range(0..200);
                let rows = Rows { above: Some(key), up_to: Some(key + 15), ..Rows::all() };
                let gone = Statement::Delete { table: Table::Tokens, rows, returning: true };
                let mut program = block(vec![gone]);
                program.key = vec![rng.random_range(0..200)];
                program
            }
            Kind::Pages => read_only(vec![page(None)]),
            Kind::Make if self.made.len() >= MADE_MAX => return self.program(Kind::UseMade, rng),
            Kind::Make => {
                let table = Table::Made(self.fresh().unsigned_abs());
                alone(Statement::Create(table, false))
            }
            Kind::UseMade if self.made.is_empty() => return self.program(Kind::Make, rng),
            Kind::UseMade => {
                let table = Table::Made(*pick(rng, &self.made));
                let values = [Datum::Int(7), Datum::Text("given".into()), Datum::Bool(true), Datum::Int(1)];
                let given = rng.random_range(0..=values.len());
                let insert = Statement::Insert {
                    table,
                    rows: vec![(vec![self.fresh()], values[..given].to_vec())],
                    given,
                    conflict: OnConflict::Error,
                    returning: rng.random(),
                };
                let select = Statement::select(table, What::All, Rows::all());
                match rng.random_range(0..4) {
                    0 => alone(select),
                    1 => block(vec![select, insert]),
                    2 => Program::new(kind, Style::ReadOnly(When::Strong), vec![select]),
                    _ => alone(insert),
                }
            }
            Kind::DropMade if self.made.len() < 2 || rng.random_range(0..3) > 0 => {
                return self.program(Kind::UseMade, rng);
            }
            Kind::DropMade => {
                let number = self.made.remove(rng.random_range(0..self.made.len()));
                alone(Statement::Drop(Table::Made(number)))
            }
            Kind::Mistake => {
                let key = 1_000_000 + self.fresh();
                let insert = Statement::insert(Table::Users, [key], vec![Datum::Text("twice".into())]);
                let (table, list) = self.list_key(rng);
                let append = Statement::Update {
                    table,
                    rows: Rows::of(list),
                    set: ("v", Set::Concat(String::new())),
                    returning: false,
                };
                block(vec![append, insert.clone(), insert])
            }
            Kind::Items | Kind::ReadItems | Kind::MakeIndex | Kind::DropIndex | Kind::CheckIndexes => {
                self.about_indexes(kind, when, rng)
            }
            Kind::Family | Kind::ReadFamilies | Kind::Foreign => self.families(kind, when, rng),
            Kind::Savepoints => block(self.saved(rng)),
            Kind::Again if self.answered.is_empty() => return self.program(Kind::Total, rng),
            Kind::Again => {
                let (statement, at) = pick(rng, &self.answered).clone();
                let style = if rng.random() || statement.is_about_schema() {
                    Style::Alone(When::Exactly(at))
                } else {
                    Style::ReadOnly(When::Exactly(at))
                };
                Program::new(kind, style, vec![statement])
            }
            Kind::Setup | Kind::Audit => unreachable!("never drawn"),
        };
        VecDeque::from([program])
    }

    /// Lists are left alone once they are about so long.
    fn generation(&self) -> i64 {
        self.last / 400
    }

    pub(super) fn list_key(&self, rng: &mut ChaCha8Rng) -> (Table, Vec<i64>) {
        let generation = self.generation();
        if rng.random() {
            (Table::Lists, vec![generation * 8 + rng.random_range(0..8)])
        } else {
            (Table::Pairs, vec![generation * 3 + rng.random_range(0..3), rng.random_range(0..4)])
        }
    }

    fn users(&mut self, rng: &mut ChaCha8Rng) -> Program {
        let mut keys: Vec<i64> = (0..rng.random_range(1..=3)).map(|_| rng.random_range(0..20)).collect();
        keys.sort_unstable();
        keys.dedup();
        let rows: Vec<_> =
            keys.iter().map(|key| (vec![*key], vec![Datum::Text(format!("u{}", self.fresh()))])).collect();
        let returning = rng.random();
        let statement = match rng.random_range(0..6) {
            0 | 1 => Statement::Delete { table: Table::Users, rows: Rows::of([keys[0]]), returning },
            at => {
                let conflict = match at {
                    2 | 3 => OnConflict::Error,
                    4 => OnConflict::Nothing,
                    _ => OnConflict::Update("visits", Set::Plus(1)),
                };
                Statement::Insert { table: Table::Users, rows, given: 1, conflict, returning }
            }
        };
        let style = if rng.random() { Style::Alone(When::Strong) } else { Style::Block };
        let mut program = Program::new(Kind::Users, style, vec![statement]);
        if style == Style::Block && rng.random_range(0..3) == 0 {
            program.queue.push_back(Statement::select(Table::Users, What::All, Rows::all()));
            program.rollback = rng.random();
        }
        program
    }
}

fn key_of(statement: &Statement) -> Option<&Vec<i64>> {
    match statement {
        Statement::Select { rows, .. } | Statement::Update { rows, .. } => Some(&rows.prefix),
        Statement::Insert { rows, .. } => rows.first().map(|(key, _)| key),
        _ => None,
    }
}

fn page(above: Option<i64>) -> Statement {
    let rows = Rows { above, ..Rows::all() };
    let (table, what) = (Table::Tokens, What::All);
    Statement::Select { table, what, rows, order: Some(false), limit: Some(PAGE), lock: false }
}

fn int(row: &[Datum], at: usize) -> i64 {
    if let Some(Datum::Int(n)) = row.get(at) { *n } else { 0 }
}

/// The tables and their first rows.
pub fn setup(schema: bool) -> VecDeque<Program> {
    let items = schema.then_some(Table::Items);
    let create = Table::FIXED.iter().copied().chain(items).map(|table| Statement::Create(table, true));
    let fill = |table, rows: Vec<(Vec<i64>, Vec<Datum>)>| {
        let given = rows[0].1.len();
        Statement::Insert { table, rows, given, conflict: OnConflict::Nothing, returning: false }
    };
    let doctors = (0..WARDS).flat_map(|ward| (0..DOCTORS).map(move |id| (vec![ward, id], Vec::new())));
    let fills = [
        fill(Table::Accounts, (0..ACCOUNTS).map(|k| (vec![k], vec![Datum::Int(BALANCE)])).collect()),
        fill(Table::Doctors, doctors.collect()),
        fill(Table::Tokens, (0..TOKENS).map(|k| (vec![k * 13], vec![Datum::Int(k)])).collect()),
    ];
    let alone = |statement| Program::new(Kind::Setup, Style::Alone(When::Strong), vec![statement]);
    create.chain(fills).map(alone).collect()
}

/// Reads every table that was there from the start, in one transaction.
pub fn audit(when: When) -> Program {
    let all = Table::FIXED.iter().map(|table| Statement::select(*table, What::All, Rows::all()));
    Program::new(Kind::Audit, Style::ReadOnly(when), all.collect())
}

impl Program {
    pub(super) fn new(kind: Kind, style: Style, queue: Vec<Statement>) -> Program {
        let queue = queue.into();
        Program { kind, style, queue, rollback: false, seen: Vec::new(), number: 0, key: Vec::new() }
    }

    pub(super) fn at(mut self, when: When) -> Program {
        self.style = Style::Alone(when);
        self
    }

    /// For another try: what is appended is new.
    pub fn renewed(&self, book: &mut Book) -> Program {
        let mut program = self.clone();
        let mut number = || format!("{},", book.fresh());
        for statement in &mut program.queue {
            match statement {
                Statement::Update { set: (_, Set::Concat(text)), .. } => *text = number(),
                Statement::Insert { rows, conflict: OnConflict::Update(_, Set::Concat(text)), .. } => {
                    *text = number();
                    for (_, values) in rows {
                        *values = vec![Datum::Text(text.clone())];
                    }
                }
                _ => {}
            }
        }
        program
    }

    /// A statement has returned: what follows from it.
    pub fn react(&mut self, statement: &Statement, returned: &Returned) {
        let first = returned.rows.first();
        match (self.kind, statement) {
            (_, Statement::Update { table, rows, set: (_, Set::Concat(text)), .. }) if returned.tag == "UPDATE 0" => {
                let insert = Statement::insert(*table, rows.prefix.clone(), vec![Datum::Text(text.clone())]);
                self.queue.push_front(insert);
            }
            (Kind::Transfer, Statement::Select { .. }) => {
                self.seen.push(first.map_or(0, |row| int(row, 1)));
                if let [from, _] = self.seen[..] {
                    let amount = self.number.min(from);
                    for (key, change) in [(self.key[0], -amount), (self.key[1], amount)] {
                        let (table, rows, set) = (Table::Accounts, Rows::of([key]), ("balance", Set::Plus(change)));
                        self.queue.push_back(Statement::Update { table, rows, set, returning: amount % 2 == 0 });
                    }
                    self.rollback = from == 0;
                }
            }
            (Kind::Doctors, Statement::Select { .. }) => {
                let others = first.is_some_and(|row| int(row, 0) >= 2);
                let key = if others { self.key.clone() } else { vec![self.key[0]] };
                let (table, rows, set) = (Table::Doctors, Rows::of(key), ("oncall", Set::To(Datum::Bool(!others))));
                self.queue.push_back(Statement::Update { table, rows, set, returning: false });
            }
            (Kind::Budget, Statement::Select { .. }) => {
                let spent = first.map_or(0, |row| int(row, 0));
                self.queue.push_back(if spent + self.number <= BUDGET {
                    let (table, rows) = (Table::Budget, vec![(self.key.clone(), vec![Datum::Int(self.number)])]);
                    Statement::Insert { table, rows, given: 1, conflict: OnConflict::Nothing, returning: false }
                } else {
                    Statement::Delete { table: Table::Budget, rows: Rows::of([self.key[0]]), returning: true }
                });
            }
            (Kind::Mono, Statement::Select { .. }) => {
                let next = first.map_or(0, |row| int(row, 0)).max(self.number) + 1;
                self.queue.push_back(Statement::insert(Table::Mono, [next], vec![Datum::Null]));
            }
            (Kind::Move, Statement::Delete { .. }) => {
                for (at, row) in returned.rows.iter().enumerate() {
                    // Where it falls on another row, the whole block fails and nothing has moved.
                    let to = self.key[0] + at as i64;
                    self.queue.push_back(Statement::insert(Table::Tokens, [to], vec![Datum::Int(int(row, 1))]));
                }
            }
            (Kind::Audit, Statement::ShowJobs) => {
                let goes_on =
                    |row: &Vec<Datum>| matches!(row.get(2), Some(Datum::Text(status)) if status.starts_with('r'));
                if returned.rows.iter().any(goes_on) {
                    self.queue.push_back(Statement::ShowJobs);
                }
            }
            (Kind::Pages, Statement::Select { .. }) if returned.rows.len() as u64 == PAGE => {
                self.queue.push_back(page(returned.rows.last().map(|row| int(row, 0))));
            }
            _ => {}
        }
    }
}
