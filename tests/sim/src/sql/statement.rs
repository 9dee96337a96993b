//! The statements that clients use: as text for the session, and as data for the model.

use std::fmt::Write as _;

use sql::types::Datum;

/// A table of the workloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// Lists of numbers, as text.
    Lists,
    /// The same under keys of two columns, the second descending.
    Pairs,
    /// The bank.
    Accounts,
    /// Who is on call in which ward.
    Doctors,
    /// What a department has spent.
    Budget,
    /// Numbers that only rise.
    Mono,
    /// Inserted once each, and deleted.
    Users,
    /// Rows that are inserted one after the other, each in another range.
    Steps,
    /// Rows that move.
    Tokens,
    /// Indexed, by indexes that come and go; not always there.
    Items,
    /// Referred to, at times.
    Parents,
    /// Refers to them.
    Children,
    /// Made and dropped under load.
    Made(u64),
}

/// A column that is not of the primary key: its name, its declaration, and its DEFAULT.
pub struct ColumnDef {
    /// Its name.
    pub name: &'static str,
    declared: &'static str,
    /// NULL if it has none.
    pub default: Option<Default>,
}

/// A DEFAULT of the workloads.
#[derive(Clone, Copy)]
pub enum Default {
    /// BIGINT.
    Int(i64),
    /// TEXT.
    Text(&'static str),
    /// BOOLEAN.
    Bool(bool),
}

impl Default {
    /// As a value.
    pub fn datum(self) -> Datum {
        match self {
            Default::Int(n) => Datum::Int(n),
            Default::Text(text) => Datum::Text(text.into()),
            Default::Bool(on) => Datum::Bool(on),
        }
    }
}

const fn column(name: &'static str, declared: &'static str, default: Option<Default>) -> ColumnDef {
    ColumnDef { name, declared, default }
}

static TEXTS: [ColumnDef; 1] = [column("v", "TEXT NOT NULL DEFAULT ''", Some(Default::Text("")))];
static BALANCES: [ColumnDef; 1] = [column("balance", "BIGINT NOT NULL", None)];
static CALLS: [ColumnDef; 1] = [column("oncall", "BOOLEAN NOT NULL DEFAULT true", Some(Default::Bool(true)))];
static COSTS: [ColumnDef; 1] = [column("cost", "BIGINT NOT NULL", None)];
static MARKS: [ColumnDef; 1] = [column("mark", "BIGINT", None)];
static PEOPLE: [ColumnDef; 2] =
    [column("name", "TEXT NOT NULL", None), column("visits", "BIGINT NOT NULL DEFAULT 1", Some(Default::Int(1)))];
static PARENT: [ColumnDef; 1] = [column("parent", "BIGINT", None)];
static ITEMS: [ColumnDef; 2] = [column("a", "BIGINT", None), column("b", "BIGINT", None)];
static MADE: [ColumnDef; 4] = [
    column("a", "BIGINT NOT NULL DEFAULT 42", Some(Default::Int(42))),
    column("b", "TEXT DEFAULT 'new'", Some(Default::Text("new"))),
    column("c", "BOOLEAN NOT NULL DEFAULT false", Some(Default::Bool(false))),
    column("d", "BIGINT", None),
];

impl Table {
    /// Those that are there from the start.
    pub const FIXED: [Table; 11] = [
        Table::Lists,
        Table::Pairs,
        Table::Accounts,
        Table::Doctors,
        Table::Budget,
        Table::Mono,
        Table::Users,
        Table::Steps,
        Table::Tokens,
        Table::Parents,
        Table::Children,
    ];

    /// Its name.
    pub fn name(self) -> String {
        match self {
            Table::Made(n) => format!("made{n}"),
            other => format!("{other:?}").to_lowercase(),
        }
    }

    /// The columns of its primary key, all BIGINT.
    pub fn key(self) -> &'static [&'static str] {
        match self {
            Table::Pairs => &["k", "part"],
            Table::Doctors => &["ward", "id"],
            Table::Budget => &["dept", "item"],
            Table::Steps => &["step", "run"],
            _ => &["k"],
        }
    }

    /// Its other columns.
    pub fn columns(self) -> &'static [ColumnDef] {
        match self {
            Table::Lists | Table::Pairs => &TEXTS,
            Table::Accounts => &BALANCES,
            Table::Doctors => &CALLS,
            Table::Budget => &COSTS,
            Table::Users => &PEOPLE,
            Table::Mono | Table::Steps | Table::Tokens | Table::Parents => &MARKS,
            Table::Children => &PARENT,
            Table::Items => &ITEMS,
            Table::Made(_) => &MADE,
        }
    }

    fn create(self, if_not_exists: bool) -> String {
        let mut text = String::from(if if_not_exists { "CREATE TABLE IF NOT EXISTS " } else { "CREATE TABLE " });
        text += &format!("{} (", self.name());
        for name in self.key() {
            text += &format!("{name} BIGINT NOT NULL, ");
        }
        for column in self.columns() {
            text += &format!("{} {}, ", column.name, column.declared);
        }
        let desc = if self == Table::Pairs { " DESC" } else { "" };
        text + &format!("PRIMARY KEY ({}{desc}))", self.key().join(", "))
    }
}

/// Which rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    /// The first columns of the key are these.
    pub prefix: Vec<i64>,
    /// If there are any: the first column of the key is one of these.
    pub among: Vec<i64>,
    /// The next column of the key is above this.
    pub above: Option<i64>,
    /// And at or below this.
    pub up_to: Option<i64>,
    /// This boolean column is true.
    pub flag: Option<&'static str>,
    /// This column, not of the key, has this value.
    pub by: Option<(&'static str, i64)>,
}

impl Rows {
    /// The column of the key that comes after those that are given.
    pub fn next_column(&self) -> usize {
        self.prefix.len().max(usize::from(!self.among.is_empty()))
    }

    /// All of them.
    pub fn all() -> Rows {
        Rows::default()
    }

    /// Those whose key begins so.
    pub fn of(prefix: impl Into<Vec<i64>>) -> Rows {
        Rows { prefix: prefix.into(), ..Rows::default() }
    }
}

/// What to select.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Whole rows, the key first.
    All,
    /// How many.
    Count,
    /// The sum of a column.
    Sum(&'static str),
    /// The largest of a column.
    Max(&'static str),
}

/// What to set.
#[derive(Clone, Debug, PartialEq)]
pub enum Set {
    /// To this.
    To(Datum),
    /// More by this.
    Plus(i64),
    /// Longer by this.
    Concat(String),
}

/// If the key is there.
#[derive(Clone, Debug, PartialEq)]
pub enum OnConflict {
    /// 23505.
    Error,
    /// Leave it.
    Nothing,
    /// Change the row that is there.
    Update(&'static str, Set),
}

/// A statement.
#[derive(Clone, Debug, PartialEq)]
pub enum Statement {
    /// CREATE TABLE, perhaps IF NOT EXISTS.
    Create(Table, bool),
    /// DROP TABLE.
    Drop(Table),
    /// CREATE INDEX, of this number.
    CreateIndex {
        /// Its number.
        number: u64,
        /// UNIQUE.
        unique: bool,
        /// What follows the table's name.
        columns: &'static str,
    },
    /// DROP INDEX.
    DropIndex(u64),
    /// Compares the indexes with their table.
    CheckIndexes,
    /// SHOW JOBS.
    ShowJobs,
    /// ALTER TABLE children ADD CONSTRAINT .. FOREIGN KEY, of this number.
    AddForeign(u64),
    /// ALTER TABLE children DROP CONSTRAINT.
    DropForeign(u64),
    /// SET LOCAL of a timeout, in milliseconds: of the wait for a lock, or of a statement.
    Patience {
        /// Which.
        of_locks: bool,
        /// How long.
        ms: u64,
    },
    /// SAVEPOINT, of a name for each number.
    Savepoint(u8),
    /// ROLLBACK TO.
    RollbackTo(u8),
    /// RELEASE.
    Release(u8),
    /// SELECT.
    Select {
        /// From.
        table: Table,
        /// Which columns.
        what: What,
        /// Which rows.
        rows: Rows,
        /// ORDER BY the last column of the key; descending if true.
        order: Option<bool>,
        /// LIMIT.
        limit: Option<u64>,
        /// FOR UPDATE.
        lock: bool,
    },
    /// INSERT.
    Insert {
        /// Into.
        table: Table,
        /// Keys, and the values of `columns`.
        rows: Vec<(Vec<i64>, Vec<Datum>)>,
        /// How many of the columns are given; the others have their DEFAULT.
        given: usize,
        /// ON CONFLICT.
        conflict: OnConflict,
        /// RETURNING *.
        returning: bool,
    },
    /// UPDATE.
    Update {
        /// The table.
        table: Table,
        /// Which rows.
        rows: Rows,
        /// What to set.
        set: (&'static str, Set),
        /// RETURNING *.
        returning: bool,
    },
    /// DELETE.
    Delete {
        /// The table.
        table: Table,
        /// Which rows.
        rows: Rows,
        /// RETURNING *.
        returning: bool,
    },
}

/// Writes values into a text: as parameters, or as literals.
struct Values {
    params: Option<Vec<Datum>>,
}

impl Values {
    fn put(&mut self, datum: &Datum) -> String {
        match &mut self.params {
            Some(params) => {
                params.push(datum.clone());
                format!("${}", params.len())
            }
            None => match datum {
                Datum::Int(n) => n.to_string(),
                Datum::Text(text) => format!("'{text}'"),
                Datum::Bool(on) => on.to_string(),
                Datum::Null => "NULL".into(),
                other => unreachable!("no workload has {other:?}"),
            },
        }
    }

    fn rows(&mut self, table: Table, rows: &Rows) -> String {
        let mut terms = Vec::new();
        for (name, value) in table.key().iter().zip(&rows.prefix) {
            terms.push(format!("{name} = {}", self.put(&Datum::Int(*value))));
        }
        if !rows.among.is_empty() {
            let list: Vec<String> = rows.among.iter().map(|n| self.put(&Datum::Int(*n))).collect();
            terms.push(format!("{} IN ({})", table.key()[0], list.join(", ")));
        }
        if let Some(next) = table.key().get(rows.next_column()) {
            terms.extend(rows.above.map(|from| format!("{next} > {}", self.put(&Datum::Int(from)))));
            terms.extend(rows.up_to.map(|to| format!("{next} <= {}", self.put(&Datum::Int(to)))));
        }
        terms.extend(rows.flag.map(str::to_string));
        terms.extend(rows.by.map(|(column, value)| format!("{column} = {}", self.put(&Datum::Int(value)))));
        if terms.is_empty() { String::new() } else { format!(" WHERE {}", terms.join(" AND ")) }
    }

    fn set(&mut self, owner: &str, column: &str, set: &Set) -> String {
        match set {
            Set::To(datum) => format!("{column} = {}", self.put(datum)),
            Set::Plus(n) => format!("{column} = {owner}{column} + {}", self.put(&Datum::Int(*n))),
            Set::Concat(text) => format!("{column} = {owner}{column} || {}", self.put(&Datum::Text(text.clone()))),
        }
    }
}

impl Statement {
    /// Whole rows, without locks of their own.
    pub fn select(table: Table, what: What, rows: Rows) -> Statement {
        Statement::Select { table, what, rows, order: None, limit: None, lock: false }
    }

    /// One row; an error if it is there.
    pub fn insert(table: Table, key: impl Into<Vec<i64>>, values: Vec<Datum>) -> Statement {
        let given = values.len();
        let rows = vec![(key.into(), values)];
        Statement::Insert { table, rows, given, conflict: OnConflict::Error, returning: false }
    }

    /// Whether it is about the schema, of which the model knows nothing.
    pub fn is_about_schema(&self) -> bool {
        let foreign = matches!(self, Statement::AddForeign(_) | Statement::DropForeign(_));
        foreign
            || matches!(
                self,
                Statement::CreateIndex { .. } | Statement::DropIndex(_) | Statement::CheckIndexes | Statement::ShowJobs
            )
    }

    /// The table.
    pub fn table(&self) -> Table {
        match self {
            Statement::CreateIndex { .. } | Statement::DropIndex(_) | Statement::CheckIndexes | Statement::ShowJobs => {
                Table::Items
            }
            Statement::AddForeign(_) | Statement::DropForeign(_) => Table::Children,
            // What a block with savepoints inserts.
            Statement::Patience { .. } | Statement::Savepoint(_) | Statement::RollbackTo(_) | Statement::Release(_) => {
                Table::Users
            }
            Statement::Create(table, _)
            | Statement::Drop(table)
            | Statement::Select { table, .. }
            | Statement::Insert { table, .. }
            | Statement::Update { table, .. }
            | Statement::Delete { table, .. } => *table,
        }
    }

    /// Its text and parameters; `inline` has no parameters.
    pub fn text(&self, inline: bool) -> (String, Vec<Datum>) {
        let mut values = Values { params: (!inline).then(Vec::new) };
        let text = self.write(&mut values);
        (text, values.params.unwrap_or_default())
    }

    fn write(&self, values: &mut Values) -> String {
        let returned = |on: bool| if on { " RETURNING *" } else { "" };
        match self {
            Statement::Create(table, if_not_exists) => table.create(*if_not_exists),
            Statement::Drop(table) => format!("DROP TABLE {}", table.name()),
            Statement::CreateIndex { number, unique, columns } => {
                let unique = if *unique { "UNIQUE " } else { "" };
                format!("CREATE {unique}INDEX i{number} ON items {columns}")
            }
            Statement::DropIndex(number) => format!("DROP INDEX i{number}"),
            Statement::CheckIndexes => "CHECK TABLE items".into(),
            Statement::ShowJobs => "SHOW JOBS".into(),
            Statement::AddForeign(number) => {
                format!("ALTER TABLE children ADD CONSTRAINT f{number} FOREIGN KEY (parent) REFERENCES parents")
            }
            Statement::DropForeign(number) => format!("ALTER TABLE children DROP CONSTRAINT f{number}"),
            Statement::Patience { of_locks, ms } => {
                let name = if *of_locks { "lock_timeout" } else { "statement_timeout" };
                format!("SET LOCAL {name} = '{ms}ms'")
            }
            Statement::Savepoint(n) => format!("SAVEPOINT s{n}"),
            Statement::RollbackTo(n) => format!("ROLLBACK TO SAVEPOINT s{n}"),
            Statement::Release(n) => format!("RELEASE s{n}"),
            Statement::Select { table, what, rows, order, limit, lock } => {
                let what = match what {
                    What::All => "*".into(),
                    What::Count => "count(*)".into(),
                    // A sum of bigints is a numeric.
                    What::Sum(column) => format!("sum({column})::bigint"),
                    What::Max(column) => format!("max({column})"),
                };
                let mut text = format!("SELECT {what} FROM {}{}", table.name(), values.rows(*table, rows));
                if let Some(desc) = order {
                    let last = table.key().last().expect("a key has a column");
                    let _ = write!(text, " ORDER BY {last}{}", if *desc { " DESC" } else { "" });
                }
                if let Some(limit) = limit {
                    let _ = write!(text, " LIMIT {limit}");
                }
                text + if *lock { " FOR UPDATE" } else { "" }
            }
            Statement::Insert { table, rows, given, conflict, returning } => {
                let columns = table.columns().iter().take(*given).map(|column| column.name);
                let names: Vec<&str> = table.key().iter().copied().chain(columns).collect();
                let mut text = format!("INSERT INTO {} ({}) VALUES ", table.name(), names.join(", "));
                for (at, (key, given)) in rows.iter().enumerate() {
                    let key = key.iter().map(|n| Datum::Int(*n));
                    let row: Vec<String> = key.chain(given.iter().cloned()).map(|datum| values.put(&datum)).collect();
                    let _ = write!(text, "{}({})", if at > 0 { ", " } else { "" }, row.join(", "));
                }
                match conflict {
                    OnConflict::Error => {}
                    OnConflict::Nothing => text += " ON CONFLICT DO NOTHING",
                    OnConflict::Update(column, set) => {
                        let set = values.set(&format!("{}.", table.name()), column, set);
                        let _ = write!(text, " ON CONFLICT ({}) DO UPDATE SET {set}", table.key().join(", "));
                    }
                }
                text + returned(*returning)
            }
            Statement::Update { table, rows, set: (column, set), returning } => {
                let set = values.set("", column, set);
                format!("UPDATE {} SET {set}{}{}", table.name(), values.rows(*table, rows), returned(*returning))
            }
            Statement::Delete { table, rows, returning } => {
                format!("DELETE FROM {}{}{}", table.name(), values.rows(*table, rows), returned(*returning))
            }
        }
    }
}
