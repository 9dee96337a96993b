//! CREATE TABLE and DROP TABLE: their transactions.
//!
//! A table comes with its indexes, with the sequences of its columns, and with what its foreign keys do to the tables
//! that they refer to, all in one transaction. If it refers to another table it is in the making then, and a job
//! does the rest: see `catalog/foreign.rs`.

use std::collections::BTreeMap;

use txn::client::ClientError;
use txn::{Key, Mutation};

use super::foreign::{self, Wanted};
use super::{ATTEMPTS_MAX, dependents, index, lock, set, stored_number};
use crate::SqlError;
use crate::catalog::sequence::Owner;
use crate::catalog::{self, Catalog, FIRST_TABLE_ID, Sequence, TABLES_MAX, Table};
use crate::engine::{CommitInfo, Engine, Transaction};
use crate::jobs::{Job, JobKind};
use crate::sequence::is_numbered;
use crate::session::Database;
use crate::short::Failure;

/// What a schema change came to.
pub(crate) enum Change {
    /// Committed; what it did beside.
    Done(CommitInfo, Vec<String>),
    /// Begun: a job does the rest.
    Begun(Box<Job>, CommitInfo, Vec<String>),
    /// There was nothing to do; why.
    Nothing(&'static str, String),
}

/// What CREATE TABLE makes.
pub(crate) struct New {
    /// Its id is 0, and it has no foreign keys yet.
    pub(crate) table: Table,
    /// Those.
    pub(crate) foreign: Vec<Wanted>,
    /// The sequences of its columns, each with the column's index.
    pub(crate) sequences: Vec<(usize, Sequence)>,
    pub(crate) if_not_exists: bool,
    pub(crate) statement: String,
}

/// What came of one try.
struct Made {
    job: Option<Box<Job>>,
    said: Vec<String>,
}

/// Takes the next id.
fn take_id(next: &mut u64) -> Result<u32, SqlError> {
    let id = u32::try_from(*next).map_err(|_| SqlError::new("54000", "all table ids are used up"))?;
    *next += 1;
    Ok(id)
}

/// One try of CREATE TABLE; none if the table is there.
async fn make<E: Engine>(
    db: &Database<E>,
    catalog: &Catalog,
    new: &New,
    txn: &mut E::Txn,
) -> Result<Option<Made>, Failure> {
    let mut table = new.table.clone();
    let mut names: Vec<&str> = new.foreign.iter().map(|key| key.parent.as_str()).collect();
    names.retain(|name| *name != table.name);
    names.sort_unstable();
    names.dedup();
    let mut keys = vec![catalog::version_key(), catalog::id_key(), catalog::table_key(&table.name)];
    keys.extend(names.iter().map(|name| catalog::table_key(name)));
    let rows = lock(txn, keys).await?;
    if rows.get(2).is_some_and(Option::is_some) {
        return Ok(None);
    }
    let mut parents = BTreeMap::new();
    for (name, row) in names.iter().zip(rows.iter().skip(3)) {
        let bytes = row.as_ref().ok_or_else(|| catalog::undefined_table(name))?;
        let parent = Table::from_bytes(bytes)?;
        // The job that changes it has the descriptor as it was.
        if parent.is_in_steps() {
            return Err(parent.in_steps().into());
        }
        parents.insert(name.to_string(), parent);
    }
    let version = stored_number(rows.first())?.unwrap_or(0);
    let mut next = stored_number(rows.get(1))?.unwrap_or(u64::from(FIRST_TABLE_ID));
    table.id = take_id(&mut next)?;
    let said = foreign::attach(&mut table, &new.foreign, &mut parents, catalog)?;
    for index in &mut table.indexes {
        index.id = take_id(&mut next)?;
    }
    let mut sequences = Vec::with_capacity(new.sequences.len());
    for (column, sequence) in &new.sequences {
        let owner = Some(Owner { table: table.id, column: table.columns[*column].id });
        sequences.push(Sequence { id: take_id(&mut next)?, owner, ..sequence.clone() });
    }

    let mut names = index::name_keys(&table);
    for sequence in &sequences {
        names.extend(name_keys(&sequence.name));
    }
    let rows = lock(txn, names.iter().map(|(_, key)| key.clone()).collect()).await?;
    if let Some((_, (name, _))) = rows.iter().zip(&names).find(|(row, _)| row.is_some()) {
        return Err(SqlError::new("42P07", format!("relation \"{name}\" already exists")).into());
    }
    let mut writes = vec![set(catalog::version_key(), (version + 1).to_string())];
    let mut job = None;
    if table.foreign.making {
        let id = next;
        next += 1;
        let made = Job::new(db, id, JobKind::CreateTable, &table, None, &new.statement, txn.id());
        writes.push(set(catalog::job_key(made.id), made.to_bytes()));
        writes.extend(Job::forgotten(catalog));
        job = Some(Box::new(made));
    }
    writes.push(set(catalog::id_key(), next.to_string()));
    writes.push(set(catalog::table_key(&table.name), table.to_bytes()));
    writes.extend(parents.values().map(|parent| set(catalog::table_key(&parent.name), parent.to_bytes())));
    writes.extend(index::names(&table, true));
    writes.extend(sequences.iter().map(|sequence| set(catalog::sequence_key(&sequence.name), sequence.to_bytes())));
    txn.write(writes)?;
    Ok(Some(Made { job, said }))
}

/// The keys under which a name would be taken.
pub(super) fn name_keys(name: &str) -> [(String, Key); 4] {
    let keys: [fn(&str) -> Key; 4] = [catalog::table_key, catalog::index_key, catalog::sequence_key, catalog::view_key];
    keys.map(|key| (name.to_string(), key(name)))
}

/// CREATE TABLE.
pub(crate) async fn create<E: Engine>(db: &Database<E>, catalog: &Catalog, new: &New) -> Result<Change, SqlError> {
    if catalog.tables.len() >= TABLES_MAX {
        return Err(SqlError::new("54000", format!("there are {TABLES_MAX} tables already")));
    }
    let mut priority = None;
    for attempt in 1.. {
        let mut txn = db.engine().begin(priority);
        priority = Some(txn.priority());
        match make(db, catalog, new, &mut txn).await {
            Ok(Some(made)) => match txn.commit(None).await {
                Ok(info) => {
                    return Ok(match made.job {
                        Some(job) => Change::Begun(job, info, made.said),
                        None => Change::Done(info, made.said),
                    });
                }
                Err(ClientError::Aborted { retryable: true, .. }) if attempt < ATTEMPTS_MAX => {}
                Err(err) => return Err(err.into()),
            },
            Ok(None) => {
                txn.rollback().await;
                let message = format!("relation \"{}\" already exists", new.table.name);
                if new.if_not_exists {
                    return Ok(Change::Nothing("42P07", format!("{message}, skipping")));
                }
                return Err(SqlError::new("42P07", message));
            }
            Err(failure) => {
                txn.rollback().await;
                if !failure.is_retryable() || attempt >= ATTEMPTS_MAX {
                    return Err(failure.into());
                }
            }
        }
    }
    unreachable!("the last attempt returns")
}

/// What a try of DROP TABLE comes to.
enum Unmade {
    /// What went with the tables.
    Done(Vec<String>),
    /// None of them is there.
    Nothing,
    /// Only a catalog that is not out of date tells what belongs to them.
    Blind,
}

/// One try of DROP TABLE.
async fn unmake<E: Engine>(
    (catalog, strong): (&Catalog, bool),
    names: &[String],
    (if_exists, cascade): (bool, bool),
    txn: &mut E::Txn,
) -> Result<Unmade, Failure> {
    let mut keys = vec![catalog::version_key()];
    keys.extend(names.iter().map(|name| catalog::table_key(name)));
    keys.extend(names.iter().map(|name| catalog::view_key(name)));
    let rows = lock(txn, keys).await?;
    let version = stored_number(rows.first())?.unwrap_or(0);
    let mut tables: Vec<Table> = Vec::new();
    let (found, views) = rows[1..].split_at(names.len());
    for ((name, row), view) in names.iter().zip(found).zip(views) {
        match row {
            // One that was named twice goes once.
            Some(row) if tables.iter().all(|table| table.name != *name) => tables.push(Table::from_bytes(row)?),
            Some(_) => {}
            None if view.is_some() => {
                return Err(SqlError::new("42809", format!("\"{name}\" is not a table"))
                    .hint("Use DROP VIEW to remove a view.")
                    .into());
            }
            None if if_exists => {}
            None => return Err(SqlError::new("42P01", format!("table \"{name}\" does not exist")).into()),
        }
    }
    if tables.is_empty() {
        return Ok(Unmade::Nothing);
    }
    let numbered = |table: &Table| table.columns.iter().any(|column| is_numbered(column.generated.as_ref()));
    if !strong && tables.iter().any(|table| !table.foreign.is_empty() || numbered(table)) {
        return Ok(Unmade::Blind);
    }
    // The tables on the other side of foreign keys, as they are stored.
    let goes = |id: u32| tables.iter().any(|table| table.id == id);
    let ids = tables.iter().flat_map(|table| {
        let parents = table.foreign.keys.iter().map(|key| key.parent);
        parents.chain(table.foreign.referenced_by.iter().copied())
    });
    let mut others: Vec<u32> = ids.filter(|id| !goes(*id)).collect();
    others.sort_unstable();
    others.dedup();
    let mut stored = Vec::with_capacity(others.len());
    for id in others {
        // Both sides of a constraint are there: it came after this catalog.
        let Some(other) = catalog.any_table_by_id(id) else { return Ok(Unmade::Blind) };
        let rows = lock(txn, vec![catalog::table_key(&other.name)]).await?;
        let table = rows.first().and_then(Option::as_ref).map(|row| Table::from_bytes(row)).transpose()?;
        stored.extend(table.filter(|table| table.id == id));
    }
    if let Some(busy) = stored.iter().find(|other| other.is_in_steps()) {
        return Err(busy.in_steps().into());
    }
    let mut said = Vec::new();
    let mut depends: Vec<(String, String)> = Vec::new();
    for other in &mut stored {
        let name = other.name.clone();
        other.foreign.keys.retain(|key| {
            let Some(parent) = tables.iter().find(|table| table.id == key.parent) else { return true };
            depends.push((
                format!("constraint {} on table {name} depends on table {}", key.name, parent.name),
                parent.name.clone(),
            ));
            said.push(format!("drop cascades to constraint {} on table {name}", key.name));
            false
        });
        other.foreign.referenced_by.retain(|id| !goes(*id));
    }
    if !cascade && let Some((_, first)) = depends.first() {
        let what = if tables.len() == 1 {
            format!("cannot drop table {first} because other objects depend on it")
        } else {
            "cannot drop desired object(s) because other objects depend on them".into()
        };
        let lines: Vec<String> = depends.into_iter().map(|(line, _)| line).collect();
        return Err(SqlError::new("2BP01", what)
            .detail(lines.join("\n"))
            .hint("Use DROP ... CASCADE to drop the dependent objects too.")
            .into());
    }
    let views = dependents::must_go(txn, "table", names, cascade).await?;
    said.extend(views.iter().map(|view| format!("drop cascades to view {view}")));
    if said.len() > 1 {
        said = vec![format!("drop cascades to {} other objects", said.len())];
    }
    let mut writes = vec![set(catalog::version_key(), (version + 1).to_string())];
    writes.extend(stored.iter().map(|other| set(catalog::table_key(&other.name), other.to_bytes())));
    writes.extend(views.iter().map(|view| Mutation { key: catalog::view_key(view), value: None }));
    for table in &tables {
        writes.extend(index::names(table, false));
        writes.push(Mutation { key: catalog::table_key(&table.name), value: None });
    }
    let owned = catalog.sequences.values().filter(|sequence| sequence.owner.is_some_and(|owner| goes(owner.table)));
    for sequence in owned {
        writes.push(Mutation { key: catalog::sequence_key(&sequence.name), value: None });
        writes.push(Mutation { key: sequence.state_key(), value: None });
    }
    txn.write(writes)?;
    Ok(Unmade::Done(said))
}

/// DROP TABLE. Does not wait for other gateways.
pub(crate) async fn drop<E: Engine>(db: &Database<E>, names: &[String], how: (bool, bool)) -> Result<Change, SqlError> {
    let (mut catalog, mut strong) = (db.catalog().await?, false);
    let mut priority = None;
    for attempt in 1.. {
        let mut txn = db.engine().begin(priority);
        priority = Some(txn.priority());
        match unmake::<E>((&catalog, strong), names, how, &mut txn).await {
            Ok(Unmade::Blind) => {
                txn.rollback().await;
                if attempt >= ATTEMPTS_MAX {
                    return Err(SqlError::new("40001", "could not serialize access: the schema keeps changing")
                        .hint("Try again."));
                }
                (catalog, strong) = (db.load_strong().await?, true);
            }
            Ok(Unmade::Done(said)) => match txn.commit(None).await {
                Ok(info) => return Ok(Change::Done(info, said)),
                Err(ClientError::Aborted { retryable: true, .. }) if attempt < ATTEMPTS_MAX => {}
                Err(err) => return Err(err.into()),
            },
            Ok(Unmade::Nothing) => {
                txn.rollback().await;
                let message = format!("table \"{}\" does not exist, skipping", names.join(", "));
                return Ok(Change::Nothing("00000", message));
            }
            Err(failure) => {
                txn.rollback().await;
                if !failure.is_retryable() || attempt >= ATTEMPTS_MAX {
                    return Err(failure.into());
                }
            }
        }
    }
    unreachable!("the last attempt returns")
}
