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
//! A table keeps its splits' places in the old ids: the new ones begin as one range.

use super::index::finish;
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

/// 0A000 for a table whose id others go by: it would have another one.
fn refuse_bound(table: &Table) -> Result<(), SqlError> {
    if !table.foreign.referenced_by.is_empty() {
        let message = "cannot truncate a table referenced in a foreign key constraint";
        return Err(SqlError::new("0A000", message).hint("DELETE its rows."));
    }
    let numbered = table.columns.iter().any(|column| is_numbered(column.generated.as_ref()));
    if !table.foreign.is_empty() || numbered {
        let what = "TRUNCATE of a table with foreign keys, or with columns that draw from sequences of their own,";
        return Err(SqlError::unsupported(what).hint("DELETE its rows."));
    }
    Ok(())
}

/// Closes the tables; a job does the rest. 42P01, 55006.
pub(crate) async fn begin<E: Engine>(
    db: &Database<E>,
    catalog: &Catalog,
    names: &[String],
    statement: &str,
) -> Result<(Box<Job>, CommitInfo), SqlError> {
    let engine = db.engine();
    let mut names = names.to_vec();
    names.sort_unstable();
    names.dedup();
    if names.len() > TABLES_MAX {
        return Err(SqlError::new("54000", format!("TRUNCATE takes at most {TABLES_MAX} tables")));
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
            let (mut closed, mut opened): (Vec<Table>, Vec<Table>) = (Vec::new(), Vec::new());
            for (name, row) in names.iter().zip(rows.iter().skip(2)) {
                let bytes = row.as_ref().ok_or_else(|| catalog::undefined_table(name))?;
                let table = Table::from_bytes(bytes)?;
                table.refuse_in_steps()?;
                refuse_bound(&table)?;
                let mut after = table.clone();
                after.id = new_id()?;
                for at in 0..after.indexes.len() {
                    let (old, new) = (after.indexes[at].id, new_id()?);
                    after.indexes[at].id = new;
                    catalog::constraint::move_comments(&mut after, old, new);
                }
                opened.push(after);
                closed.push(Table { closed: true, changing: job_id, ..table });
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
            Ok::<_, Failure>(Some(Box::new(job)))
        };
        let result = work.await;
        match finish::<E, _>(txn, result, attempt).await? {
            None => {}
            Some(Some((job, info))) => return Ok((job, info)),
            Some(None) => return Err(SqlError::syntax("TRUNCATE of no table")),
        }
    }
    unreachable!("the last attempt returns")
}
