//! CREATE INDEX, DROP INDEX, UNIQUE: what they describe, and the transactions that begin them.
//!
//! The names of indexes and of tables are one space, as in PostgreSQL: an index has a row `00 "index/" NAME` which
//! holds its table's name, so that whoever takes a name locks and reads two keys.

use sqlparser::ast;
use txn::client::ClientError;
use txn::{Key, Mutation};

use super::{ATTEMPTS_MAX, check_name, lock, set, stored_number};
use crate::SqlError;
use crate::catalog::{self, Catalog, Index, IndexColumn, IndexState, NAME_BYTES_MAX, Table};
use crate::engine::{CommitInfo, Engine, Transaction};
use crate::jobs::{Job, JobKind};
use crate::parse::{ident, object_name};
use crate::plan::index::bind_predicate;
use crate::session::Database;
use crate::short::Failure;

/// The most indexes of a table.
pub const INDEXES_MAX: usize = 64;
/// The most columns of an index, as in PostgreSQL.
const INDEX_COLUMNS_MAX: usize = 32;

/// What a schema change of this kind came to.
pub(crate) enum Begun {
    /// A job does the rest, as this owner.
    Job(Box<Job>, CommitInfo),
    /// There was nothing to do; why.
    Nothing(&'static str, String),
}

/// An index as a CREATE INDEX describes it.
pub(crate) struct Described {
    pub(crate) table: String,
    pub(crate) if_not_exists: bool,
    pub(crate) concurrently: bool,
    name: Option<String>,
    unique: bool,
    /// It is a UNIQUE constraint.
    constraint: bool,
    columns: Vec<(String, bool, bool)>,
    storing: Vec<String>,
    predicate: Option<String>,
}

/// 0A000 for what there is not.
pub(crate) fn describe(create: &ast::CreateIndex) -> Result<Described, SqlError> {
    let ast::CreateIndex {
        name,
        table_name,
        using,
        columns,
        unique,
        concurrently,
        if_not_exists,
        include,
        nulls_distinct,
        with,
        predicate,
        index_options,
        alter_options,
    } = create;
    if using.as_ref().is_some_and(|using| *using != ast::IndexType::BTree) {
        return Err(SqlError::unsupported("an index type other than btree"));
    }
    if *nulls_distinct == Some(false) {
        return Err(SqlError::unsupported("NULLS NOT DISTINCT"));
    }
    if !with.is_empty() || !index_options.is_empty() || !alter_options.is_empty() {
        return Err(SqlError::unsupported("an option of this CREATE INDEX"));
    }
    if *if_not_exists && name.is_none() {
        return Err(SqlError::syntax("CREATE INDEX IF NOT EXISTS needs a name"));
    }
    Ok(Described {
        table: object_name(table_name)?,
        if_not_exists: *if_not_exists,
        concurrently: *concurrently,
        name: name.as_ref().map(|name| check_name(object_name(name)?)).transpose()?,
        unique: *unique,
        constraint: false,
        columns: columns.iter().map(column).collect::<Result<_, _>>()?,
        storing: include.iter().map(ident).collect(),
        predicate: predicate.as_ref().map(ToString::to_string),
    })
}

/// Name, DESC, NULLS FIRST: by PostgreSQL's rule NULLs are larger than all values.
fn column(item: &ast::IndexColumn) -> Result<(String, bool, bool), SqlError> {
    let ast::IndexColumn {
        column:
            ast::OrderByExpr {
                expr: ast::Expr::Identifier(name),
                options: ast::OrderByOptions { asc, nulls_first },
                with_fill: None,
            },
        operator_class: None,
    } = item
    else {
        return Err(SqlError::unsupported("an expression or an operator class in an index"));
    };
    let desc = *asc == Some(false);
    Ok((ident(name), desc, nulls_first.unwrap_or(desc)))
}

impl Described {
    /// The index; its id is 0. 42703, 42701, and what is wrong with its condition.
    fn index(&self, table: &Table, name: String) -> Result<Index, SqlError> {
        let at = |name: &String| {
            let missing = || SqlError::new("42703", format!("column \"{name}\" does not exist"));
            table.column_index(name).ok_or_else(missing)
        };
        let mut columns: Vec<IndexColumn> = Vec::new();
        for (name, desc, nulls_first) in &self.columns {
            let column = at(name)?;
            if columns.iter().any(|known| known.column == column) {
                return Err(SqlError::new("42701", format!("column \"{name}\" appears twice in the index")));
            }
            super::check_key_type(table, column)?;
            columns.push(IndexColumn { column, desc: *desc, nulls_first: *nulls_first });
        }
        let storing: Vec<usize> = self.storing.iter().map(at).collect::<Result<_, _>>()?;
        if columns.len() + storing.len() > INDEX_COLUMNS_MAX {
            let message = format!("cannot use more than {INDEX_COLUMNS_MAX} columns in an index");
            return Err(SqlError::new("54011", message));
        }
        if let Some(predicate) = &self.predicate {
            bind_predicate(table, predicate)?;
        }
        let (unique, constraint, predicate) = (self.unique, self.constraint, self.predicate.clone());
        Ok(Index { id: 0, name, unique, constraint, columns, storing, predicate, state: IndexState::DeleteOnly })
    }
}

/// The name that PostgreSQL would give: `t_a_b_idx`, `t_a_key`, with a number if that is taken.
pub(crate) fn auto_name(table: &str, columns: &[&str], suffix: &str, number: u32) -> String {
    let mut base = [&[table], columns].concat().join("_");
    let end = if number == 0 { format!("_{suffix}") } else { format!("_{suffix}{number}") };
    while base.len() + end.len() > NAME_BYTES_MAX {
        base.pop();
    }
    base + &end
}

/// What a UNIQUE describes; `own` is the column that it was said of.
pub(crate) fn describe_unique(
    table: &str,
    unique: &ast::UniqueConstraint,
    own: Option<&str>,
) -> Result<Described, SqlError> {
    let ast::UniqueConstraint {
        name,
        index_name: None,
        index_type_display: _,
        index_type: None,
        columns,
        index_options,
        characteristics: None,
        nulls_distinct,
    } = unique
    else {
        return Err(SqlError::unsupported("an option of UNIQUE"));
    };
    if !index_options.is_empty() || *nulls_distinct == ast::NullsDistinctOption::NotDistinct {
        return Err(SqlError::unsupported("an option of UNIQUE"));
    }
    let columns: Vec<(String, bool, bool)> = match own {
        Some(own) => vec![(own.to_string(), false, false)],
        None => columns.iter().map(column).collect::<Result<_, _>>()?,
    };
    if columns.iter().any(|(_, desc, nulls_first)| *desc || *nulls_first) {
        return Err(SqlError::syntax("a UNIQUE constraint has no order"));
    }
    Ok(Described {
        table: table.to_string(),
        if_not_exists: false,
        concurrently: false,
        name: name.as_ref().map(|name| check_name(ident(name))).transpose()?,
        unique: true,
        constraint: true,
        columns,
        storing: Vec::new(),
        predicate: None,
    })
}

/// A plain index on columns, in their order.
pub(super) fn plain(table: &str, columns: &[&str]) -> Described {
    Described {
        table: table.to_string(),
        if_not_exists: false,
        concurrently: false,
        name: None,
        unique: false,
        constraint: false,
        columns: columns.iter().map(|column| (column.to_string(), false, false)).collect(),
        storing: Vec::new(),
        predicate: None,
    }
}

/// The index of a UNIQUE in CREATE TABLE: the table is new and empty, so it is public at once.
pub(super) fn constraint(table: &mut Table, unique: &ast::UniqueConstraint, own: Option<&str>) -> Result<(), SqlError> {
    let described = describe_unique(&table.name, unique, own)?;
    let columns = &described.columns;
    if table.indexes.len() >= INDEXES_MAX {
        return Err(SqlError::new("54011", format!("tables can have at most {INDEXES_MAX} indexes")));
    }
    for (name, ..) in columns {
        let missing = || SqlError::new("42703", format!("column \"{name}\" named in key does not exist"));
        super::check_key_type(table, table.column_index(name).ok_or_else(missing)?)?;
    }
    let names: Vec<&str> = columns.iter().map(|(name, ..)| name.as_str()).collect();
    let name = match &described.name {
        Some(name) => name.clone(),
        None => {
            let free = |name: &String| table.index(name).is_none();
            let mut names = (0..).map(|number| auto_name(&table.name, &names, "key", number));
            names.find(free).expect("some number is free")
        }
    };
    if table.index(&name).is_some() || name == table.name {
        return Err(SqlError::new("42P07", format!("relation \"{name}\" already exists")));
    }
    let index = Index { state: IndexState::Public, ..described.index(table, name)? };
    table.indexes.push(index);
    Ok(())
}

/// As in PostgreSQL, a constraint that says again what the primary key or an earlier one says makes no index.
pub(super) fn drop_redundant(table: &mut Table) {
    let mut known: Vec<Vec<usize>> = Vec::new();
    if table.key.iter().all(|part| !part.desc) {
        known.push(table.key.iter().map(|part| part.column).collect());
    }
    table.indexes.retain(|index| {
        let columns: Vec<usize> = index.columns.iter().map(|part| part.column).collect();
        let new = !known.contains(&columns);
        known.push(columns);
        new
    });
}

/// What a try of a transaction came to: whether it shall be tried again.
pub(super) async fn finish<E: Engine, T>(
    txn: E::Txn,
    result: Result<Option<T>, Failure>,
    attempt: u32,
) -> Result<Option<Option<(T, CommitInfo)>>, SqlError> {
    match result {
        Ok(Some(done)) => match txn.commit(None).await {
            Ok(info) => Ok(Some(Some((done, info)))),
            Err(ClientError::Aborted { retryable: true, .. }) if attempt < ATTEMPTS_MAX => Ok(None),
            Err(err) => Err(err.into()),
        },
        Ok(None) => {
            txn.rollback().await;
            Ok(Some(None))
        }
        Err(failure) => {
            txn.rollback().await;
            if failure.is_retryable() && attempt < ATTEMPTS_MAX { Ok(None) } else { Err(failure.into()) }
        }
    }
}

fn stored_table(row: Option<&Option<txn::Value>>, name: &str) -> Result<Table, SqlError> {
    let bytes = row.and_then(Option::as_ref).ok_or_else(|| catalog::undefined_table(name))?;
    Table::from_bytes(bytes)
}

/// The next two ids: of an index, and of its job.
fn next_ids(row: Option<&Option<txn::Value>>) -> Result<(u32, u64), SqlError> {
    let id = stored_number(row)?.unwrap_or(u64::from(catalog::FIRST_TABLE_ID));
    Ok((u32::try_from(id).map_err(|_| SqlError::new("54000", "all ids are used up"))?, id + 1))
}

/// CREATE INDEX: the index is there, delete-only, and a job to do the rest.
pub(crate) async fn create<E: Engine>(
    db: &Database<E>,
    catalog: &Catalog,
    described: &Described,
    statement: &str,
) -> Result<Begun, SqlError> {
    let engine = db.engine();
    let mut priority = None;
    let mut number = 0;
    for attempt in 1.. {
        let mut txn = engine.begin(priority);
        priority = Some(txn.priority());
        let columns: Vec<&str> = described.columns.iter().map(|(name, ..)| name.as_str()).collect();
        let name = match &described.name {
            Some(name) => name.clone(),
            None => auto_name(&described.table, &columns, if described.constraint { "key" } else { "idx" }, number),
        };
        let mut taken = false;
        let work = async {
            let keys = vec![
                catalog::version_key(),
                catalog::id_key(),
                catalog::table_key(&described.table),
                catalog::index_key(&name),
                catalog::table_key(&name),
                catalog::view_key(&name),
                catalog::sequence_key(&name),
            ];
            let rows = lock(&mut txn, keys).await?;
            let mut table = stored_table(rows.get(2), &described.table)?;
            if table.is_in_steps() {
                return Err(Failure::Sql(table.in_steps()));
            }
            taken = rows[3..].iter().any(Option::is_some) || (described.constraint && table.has_constraint(&name));
            if taken {
                return Ok(None);
            }
            if table.indexes.len() >= INDEXES_MAX {
                let message = format!("tables can have at most {INDEXES_MAX} indexes");
                return Err(Failure::Sql(SqlError::new("54011", message)));
            }
            let mut index = described.index(&table, name.clone())?;
            let (id, job) = next_ids(rows.get(1))?;
            index.id = id;
            let job = Job::new(db, job, JobKind::CreateIndex, &table, Some(&index), statement, txn.id());
            table.indexes.push(index);
            let version = stored_number(rows.first())?.unwrap_or(0);
            let mut writes = vec![
                set(catalog::version_key(), (version + 1).to_string()),
                set(catalog::id_key(), (job.id + 1).to_string()),
                set(catalog::table_key(&table.name), table.to_bytes()),
                set(catalog::index_key(&name), table.name.as_bytes()),
                set(catalog::job_key(job.id), job.to_bytes()),
            ];
            writes.extend(Job::forgotten(catalog));
            txn.write(writes)?;
            Ok::<_, Failure>(Some(job))
        };
        let result = work.await;
        match finish::<E, _>(txn, result, attempt).await? {
            None => {}
            Some(Some((job, info))) => return Ok(Begun::Job(Box::new(job), info)),
            Some(None) if taken && described.name.is_none() => number += 1,
            Some(None) => {
                let message = format!("relation \"{name}\" already exists");
                if described.if_not_exists {
                    return Ok(Begun::Nothing("42P07", format!("{message}, skipping")));
                }
                return Err(SqlError::new("42P07", message));
            }
        }
    }
    unreachable!("the last attempt returns")
}

/// DROP INDEX: the index is no longer read, and a job does the rest. One of a constraint goes with its constraint only.
pub(crate) async fn drop<E: Engine>(
    db: &Database<E>,
    catalog: &Catalog,
    name: &str,
    if_exists: bool,
    as_constraint: bool,
    statement: &str,
) -> Result<Begun, SqlError> {
    let engine = db.engine();
    let missing = format!("index \"{name}\" does not exist");
    let mut priority = None;
    for attempt in 1.. {
        let mut txn = engine.begin(priority);
        priority = Some(txn.priority());
        let work = async {
            let rows =
                lock(&mut txn, vec![catalog::version_key(), catalog::id_key(), catalog::index_key(name)]).await?;
            let Some(Some(owner)) = rows.get(2) else {
                return if if_exists { Ok(None) } else { Err(SqlError::new("42704", missing.clone()).into()) };
            };
            let owner = String::from_utf8_lossy(owner).into_owned();
            let tables = lock(&mut txn, vec![catalog::table_key(&owner)]).await?;
            let mut table = stored_table(tables.first(), &owner)?;
            let at = table.indexes.iter().position(|index| index.name == name);
            let at = at.ok_or_else(|| SqlError::new("XX001", format!("index \"{name}\" is not in its table")))?;
            if table.is_in_steps() {
                return Err(Failure::Sql(table.in_steps()));
            }
            let index = &table.indexes[at];
            if index.constraint && !as_constraint {
                let message =
                    format!("cannot drop index {name} because constraint {name} on table {owner} requires it");
                return Err(SqlError::new("2BP01", message)
                    .hint(format!("You can drop constraint {name} on table {owner} instead."))
                    .into());
            }
            super::foreign::may_drop_index(&table, name, catalog)?;
            if index.state != IndexState::Public {
                return Err(SqlError::new("55006", format!("index \"{name}\" is being created or dropped"))
                    .hint("SHOW JOBS tells how far it is, and CANCEL JOB ends it.")
                    .into());
            }
            let (_, job) = next_ids(rows.get(1))?;
            let job = Job::new(db, job, JobKind::DropIndex, &table, Some(index), statement, txn.id());
            // Whoever still reads the index finds all in it: this step needs no wait before it.
            table.indexes[at].state = IndexState::WriteOnly;
            let version = stored_number(rows.first())?.unwrap_or(0);
            let mut writes = vec![
                set(catalog::version_key(), (version + 1).to_string()),
                set(catalog::id_key(), (job.id + 1).to_string()),
                set(catalog::table_key(&owner), table.to_bytes()),
                set(catalog::job_key(job.id), job.to_bytes()),
            ];
            writes.extend(Job::forgotten(catalog));
            txn.write(writes)?;
            Ok::<_, Failure>(Some(job))
        };
        let result = work.await;
        match finish::<E, _>(txn, result, attempt).await? {
            None => {}
            Some(Some((job, info))) => return Ok(Begun::Job(Box::new(job), info)),
            Some(None) => return Ok(Begun::Nothing("00000", format!("{missing}, skipping"))),
        }
    }
    unreachable!("the last attempt returns")
}

/// What a new table, or one that goes, does to the names of its indexes.
pub(super) fn names(table: &Table, there: bool) -> impl Iterator<Item = Mutation> + '_ {
    table.indexes.iter().map(move |index| {
        let owner = there.then(|| table.name.clone().into_bytes().into());
        Mutation { key: catalog::index_key(&index.name), value: owner }
    })
}

/// The keys under which a new table's names would be taken: as an index or a view, and of its indexes as anything.
pub(super) fn name_keys(table: &Table) -> Vec<(String, Key)> {
    let own = [catalog::index_key(&table.name), catalog::sequence_key(&table.name), catalog::view_key(&table.name)];
    let own = own.map(|key| (table.name.clone(), key));
    let indexes = table.indexes.iter().flat_map(|index| super::table::name_keys(&index.name));
    own.into_iter().chain(indexes).collect()
}
