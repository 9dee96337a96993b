//! TRUNCATE: tables and their indexes get new ids, under which there is nothing.
//!
//! Nothing is deleted, however many rows there are, and reads at past timestamps find the old rows under the old ids, by
//! the catalog of then. But no two gateways may go by different ids: one that still went by the old ones would
//! acknowledge rows that nobody sees. So it takes two steps:
//!
//! ```text
//!   open, old ids --> closed --wait--> open, new ids
//! ```
//!
//! Who finds a table closed waits until it is open again ([`crate::session`]); who still has it open goes by the old
//! ids, and may, until its catalog's lease ends. After the wait nobody does, and the ids are changed. To those who wait it is as
//! in PostgreSQL, where TRUNCATE locks the table. If the gateway is lost in between, another one finishes the job. Several
//! tables are closed in one transaction, and opened in one.
//!
//! Foreign keys name tables by their ids, so the tables on both sides change together. Those that refer to a truncated table are
//! truncated, too: they are in the list, or CASCADE puts them there. Those that it refers to keep their rows; their lists of who
//! refers to them have other ids in the end, and until then nothing else may change them. Who deletes from one of
//! them would look at the table that is closed, and waits like its own readers: else he might look under the
//! old ids for what somebody a step ahead writes under the new ones.
//!
//! A table keeps its splits' places in the old ids: the new ones begin as one range.

use std::collections::BTreeMap;

use super::index::finish;
use super::parents::changed;
use super::{ATTEMPTS_MAX, lock, set, stored_number};
use crate::SqlError;
use crate::catalog::{self, Catalog, Table};
use crate::engine::{CommitInfo, Engine, Transaction};
use crate::jobs::{Job, JobKind};
use crate::sequence::is_numbered;
use crate::session::Database;
use crate::short::Failure;

/// The most tables of one TRUNCATE.
const TABLES_MAX: usize = 100;

/// 0A000 for a table whose id others go by that do not change with it.
fn refuse_bound(table: &Table) -> Result<(), SqlError> {
    if table.columns.iter().any(|column| is_numbered(column.generated.as_ref())) {
        let what = "TRUNCATE of a table with columns that draw from sequences of their own";
        return Err(SqlError::unsupported(what).hint("DELETE its rows."));
    }
    Ok(())
}

/// 54000.
fn too_many() -> SqlError {
    SqlError::new("54000", format!("TRUNCATE takes at most {TABLES_MAX} tables"))
}

/// 0A000.
fn referenced(table: &Table, by: &str) -> SqlError {
    let message = "cannot truncate a table referenced in a foreign key constraint";
    SqlError::new("0A000", message)
        .detail(format!("Table \"{by}\" references \"{}\".", table.name))
        .hint(format!("Truncate table \"{by}\" at the same time, or use TRUNCATE ... CASCADE."))
}

/// A table that another one names by its id, as it is stored, and locked.
async fn named<T: Transaction>(txn: &mut T, catalog: &Catalog, id: u32) -> Result<Table, Failure> {
    let known = catalog.any_table_by_id(id).ok_or_else(changed)?;
    let rows = lock(txn, vec![catalog::table_key(&known.name)]).await?;
    let bytes = rows.first().and_then(Option::as_ref).ok_or_else(changed)?;
    let table = Table::from_bytes(bytes)?;
    if table.id != id {
        return Err(changed().into());
    }
    if table.foreign.making {
        return Err(SqlError::new("55006", format!("table \"{}\" is being created", table.name)).into());
    }
    Ok(table)
}

/// The tables that refer to the listed ones, too, and to those: by CASCADE, and said so, or not at all.
async fn with_referring<T: Transaction>(
    txn: &mut T,
    catalog: &Catalog,
    tables: &mut Vec<Table>,
    cascade: bool,
) -> Result<Vec<String>, Failure> {
    let (mut said, mut at) = (Vec::new(), 0);
    while let Some(table) = tables.get(at).cloned() {
        at += 1;
        for id in &table.foreign.referenced_by {
            if tables.iter().any(|known| known.id == *id) {
                continue;
            }
            let child = named(txn, catalog, *id).await?;
            if !cascade {
                return Err(referenced(&table, &child.name).into());
            }
            said.push(format!("truncate cascades to table \"{}\"", child.name));
            tables.push(child);
        }
    }
    Ok(said)
}

/// With the new ids of tables in the place of the old ones.
fn renumbered(mut table: Table, ids: &BTreeMap<u32, u32>) -> Table {
    let new = |id: &mut u32| *id = ids.get(id).copied().unwrap_or(*id);
    new(&mut table.id);
    table.foreign.referenced_by.iter_mut().for_each(new);
    table.foreign.keys.iter_mut().for_each(|key| new(&mut key.parent));
    table
}

/// Closes the tables; a job does the rest. Says which tables it closes that were not named. 42P01, 55006, 0A000.
pub(crate) async fn begin<E: Engine>(
    db: &Database<E>,
    catalog: &Catalog,
    (names, cascade): (&[String], bool),
    statement: &str,
) -> Result<(Box<Job>, CommitInfo, Vec<String>), SqlError> {
    let engine = db.engine();
    let mut names = names.to_vec();
    names.sort_unstable();
    names.dedup();
    if names.len() > TABLES_MAX {
        return Err(too_many());
    }
    let mut priority = None;
    for attempt in 1..=ATTEMPTS_MAX {
        let mut txn = engine.begin(priority);
        priority = Some(txn.priority());
        let work = async {
            let mut keys = vec![catalog::version_key(), catalog::id_key()];
            keys.extend(names.iter().map(|name| catalog::table_key(name)));
            let rows = lock(&mut txn, keys).await?;
            let version = stored_number(rows.first())?.unwrap_or(0);
            let job_id = stored_number(rows.get(1))?.unwrap_or(u64::from(catalog::FIRST_TABLE_ID));
            let mut next = job_id;
            let mut new_id = || {
                next += 1;
                u32::try_from(next).map_err(|_| SqlError::new("54000", "all table ids are used up"))
            };
            let mut tables = Vec::with_capacity(names.len());
            for (name, row) in names.iter().zip(rows.iter().skip(2)) {
                let table = row.as_ref().map(|bytes| Table::from_bytes(bytes)).transpose()?;
                let table = table.filter(|table| !table.foreign.making);
                tables.push(table.ok_or_else(|| catalog::undefined_table(name))?);
            }
            let said = with_referring(&mut txn, catalog, &mut tables, cascade).await?;
            if tables.len() > TABLES_MAX {
                return Err(too_many().into());
            }
            let mut ids = BTreeMap::new();
            for table in &tables {
                table.refuse_in_steps()?;
                refuse_bound(table)?;
                ids.insert(table.id, new_id()?);
            }
            // The tables that they refer to, and that stay as they are.
            let referred = tables.iter().flat_map(|table| table.foreign.keys.iter().map(|key| key.parent));
            let mut others: Vec<u32> = referred.filter(|id| !ids.contains_key(id)).collect();
            others.sort_unstable();
            others.dedup();
            let (mut closed, mut opened): (Vec<Table>, Vec<Table>) = (Vec::new(), Vec::new());
            for table in tables {
                let mut after = renumbered(table.clone(), &ids);
                for at in 0..after.indexes.len() {
                    let (old, new) = (after.indexes[at].id, new_id()?);
                    after.indexes[at].id = new;
                    catalog::constraint::move_comments(&mut after, old, new);
                }
                opened.push(after);
                closed.push(Table { closed: true, changing: job_id, ..table });
            }
            for id in others {
                let parent = named(&mut txn, catalog, id).await?;
                parent.refuse_in_steps()?;
                opened.push(renumbered(parent.clone(), &ids));
                closed.push(Table { changing: job_id, ..parent });
            }
            let Some(first) = closed.first() else { return Ok(None) };
            let mut job = Job::new(db, job_id, JobKind::Truncate, first, None, statement, txn.id());
            job.others = closed.iter().skip(1).map(|table| (table.name.clone(), table.id)).collect();
            job.steps = vec![opened];
            let mut all = vec![
                set(catalog::version_key(), (version + 1).to_string()),
                set(catalog::id_key(), (next + 1).to_string()),
                set(catalog::job_key(job_id), job.to_bytes()),
            ];
            all.extend(closed.iter().map(|table| set(catalog::table_key(&table.name), table.to_bytes())));
            all.extend(Job::forgotten(catalog));
            txn.write(all)?;
            Ok::<_, Failure>(Some((Box::new(job), said)))
        };
        let result = work.await;
        match finish::<E, _>(txn, result, attempt).await? {
            None => {}
            Some(Some(((job, said), info))) => return Ok((job, info, said)),
            Some(None) => return Err(SqlError::syntax("TRUNCATE of no table")),
        }
    }
    unreachable!("the last attempt returns")
}
