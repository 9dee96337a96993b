//! COMMENT ON: a text beside what it is on, in the table's descriptor, by the ids of columns, indexes and constraints, so that
//! it stays with them when they are renamed. `meridian.comments` shows all of them.

use super::alter::no_column;
use super::index::finish;
use super::table::Change;
use super::{ATTEMPTS_MAX, lock, set, stored_number};
use crate::SqlError;
use crate::catalog::constraint::{Commented, comment_key};
use crate::catalog::{self, Catalog, Table};
use crate::engine::{Engine, Transaction};
use crate::parse::CommentOn;
use crate::short::Failure;

/// The longest comment, in bytes.
const COMMENT_BYTES_MAX: usize = 8 << 10;

/// Which of the table's things it is. 42703, 42704.
fn find(table: &Table, on: &CommentOn) -> Result<Commented, SqlError> {
    Ok(match on {
        CommentOn::Table(_) => Commented::Table,
        CommentOn::Column(_, name) => {
            let at = table.column_index(name).ok_or_else(|| no_column(table, name))?;
            Commented::Column(table.columns[at].id)
        }
        CommentOn::Index(name) if *name == table.key_name() => Commented::KeyIndex,
        CommentOn::Index(name) => match table.index(name) {
            Some(index) => Commented::Index(index.id),
            None => return Err(no_index(name)),
        },
        CommentOn::Constraint(name, _) if *name == table.key_name() => Commented::Key,
        CommentOn::Constraint(name, _) => {
            let unique = table.index(name).filter(|index| index.constraint).map(|index| Commented::Unique(index.id));
            let check = table.check(name).map(|check| Commented::Check(check.id));
            let missing = || {
                let message = format!("constraint \"{name}\" for table \"{}\" does not exist", table.name);
                SqlError::new("42704", message)
            };
            check.or(unique).ok_or_else(missing)?
        }
    })
}

/// 42P01, as PostgreSQL says it of an index.
fn no_index(name: &str) -> SqlError {
    SqlError::new("42P01", format!("relation \"{name}\" does not exist"))
}

/// The name of the table that it is in.
fn owner(catalog: &Catalog, on: &CommentOn) -> Result<String, SqlError> {
    match on {
        CommentOn::Table(table) | CommentOn::Column(table, _) | CommentOn::Constraint(_, table) => Ok(table.clone()),
        CommentOn::Index(name) => {
            let of_key = || catalog.tables.values().find(|table| table.key_name() == *name);
            let table = catalog.index(name).map(|(table, _)| table).or_else(of_key);
            table.map(|table| table.name.clone()).ok_or_else(|| no_index(name))
        }
    }
}

/// COMMENT ON .. IS; NULL and '' take it away.
pub(crate) async fn comment<E: Engine>(
    engine: &E,
    catalog: &Catalog,
    on: &CommentOn,
    text: Option<&str>,
) -> Result<Change, SqlError> {
    if text.is_some_and(|text| text.len() > COMMENT_BYTES_MAX) {
        return Err(SqlError::new("54000", format!("a comment has at most {COMMENT_BYTES_MAX} bytes")));
    }
    let name = owner(catalog, on)?;
    let mut priority = None;
    for attempt in 1..=ATTEMPTS_MAX {
        let mut txn = engine.begin(priority);
        priority = Some(txn.priority());
        let work = async {
            let rows = lock(&mut txn, vec![catalog::version_key(), catalog::table_key(&name)]).await?;
            let bytes = rows.get(1).and_then(Option::as_ref).ok_or_else(|| catalog::undefined_table(&name))?;
            let mut table = Table::from_bytes(bytes)?;
            if table.is_in_steps() {
                return Err(Failure::Sql(table.in_steps()));
            }
            let key = comment_key(find(&table, on)?);
            let _ = match text.filter(|text| !text.is_empty()) {
                Some(text) => table.comments.insert(key, text.to_string()),
                None => table.comments.remove(&key),
            };
            let version = stored_number(rows.first())?.unwrap_or(0);
            txn.write(vec![
                set(catalog::version_key(), (version + 1).to_string()),
                set(catalog::table_key(&name), table.to_bytes()),
            ])?;
            Ok::<_, Failure>(Some(()))
        };
        let result = work.await;
        match finish::<E, _>(txn, result, attempt).await? {
            None => {}
            Some(Some(((), info))) => return Ok(Change::Done(info, Vec::new())),
            Some(None) => return Ok(Change::Nothing("00000", "there was nothing to do".into())),
        }
    }
    unreachable!("the last attempt returns")
}
