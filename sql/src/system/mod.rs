//! Tables whose rows are computed: `information_schema.*`, which tools read, and `meridian.*`, which
//! people read to see what the cluster is doing.
//!
//! One such table is a [`SystemTable`]: a schema, a name, columns, and where its rows come from. To a
//! plan it is a [`Table`] like any other, with an id that no stored table has and no key; the
//! execution asks [`Database::system_rows`] for its rows, all of them and as of now, whatever the time
//! at which the statement reads. There is no other way to its rows, so that every path that executes
//! plans shows the same.
//!
//! ```text
//!   name --find--> SystemTable --table()--> Arc<Table> --plan--> Scan
//!                       |                                          |
//!                       +---------- Database::system_rows <--------+   Vec<Vec<Datum>>
//! ```
//!
//! They are read only: no locks, no writes. What one gateway knows of itself (`statements`,
//! `recent_commits`) has the gateway's number in a column `node`.

mod cluster;
mod constraints;
mod references;
mod schema;
mod statistics;

use std::sync::Arc;

pub use statistics::{CommitSeen, RECENT_COMMITS_MAX, STATEMENTS_MAX, Seen, Statistics};

use crate::SqlError;
use crate::catalog::{Catalog, Column, Table};
use crate::engine::Engine;
use crate::session::Database;
use crate::settings::Settings;
use crate::types::{DataType, Datum};

/// The schemas that have only system tables.
pub const SCHEMAS: [&str; 2] = ["information_schema", "meridian"];
/// Ids from here on are those of system tables.
const IDS_FROM: u32 = u32::MAX - 1_000;

/// A table whose rows are computed.
#[derive(Debug)]
pub struct SystemTable {
    /// `information_schema` or `meridian`.
    pub schema: &'static str,
    /// Its name, without the schema; no two have the same.
    pub name: &'static str,
    /// Its columns.
    pub columns: &'static [(&'static str, DataType)],
    source: Source,
}

/// Where rows come from.
#[derive(Debug)]
enum Source {
    /// The catalog.
    Catalog(fn(&Catalog) -> Vec<Vec<Datum>>),
    /// The nodes and groups of the cluster.
    Cluster(cluster::Ask),
    /// The session's settings.
    Settings,
    /// What this gateway remembers.
    Statements,
    /// The same.
    RecentCommits,
}

/// All of them. The place of one is its id for as long as a plan lives.
fn all() -> impl Iterator<Item = &'static SystemTable> {
    schema::TABLES.iter().chain(cluster::TABLES).chain(constraints::TABLES)
}

/// A system table by its schema and name.
pub fn find(schema: &str, name: &str) -> Option<&'static SystemTable> {
    all().find(|table| table.schema == schema && table.name == name)
}

/// The system table that a plan's table stands for, if it is one.
pub fn of(table: &Table) -> Option<&'static SystemTable> {
    all().nth(usize::try_from(table.id.checked_sub(IDS_FROM)?).ok()?)
}

impl SystemTable {
    /// As plans know it.
    pub fn table(&self) -> Arc<Table> {
        let place =
            all().position(|table| std::ptr::eq(table, self)).expect("there is no other than those of the list");
        let column = |(at, (name, ty)): (usize, &(&str, DataType))| Column::new(at as u32 + 1, *name, *ty);
        Arc::new(Table {
            id: IDS_FROM + place as u32,
            name: self.name.into(),
            columns: self.columns.iter().enumerate().map(column).collect(),
            ..Table::default()
        })
    }

    /// 42501, of a statement that would change it or lock its rows.
    pub fn refuse(&self) -> SqlError {
        SqlError::new("42501", format!("permission denied: \"{}\" is a system catalog", self.name))
    }
}

/// The rows of some system tables, as they were when a query began.
#[derive(Clone, Debug, Default)]
pub struct SystemRows(Arc<Vec<Given>>);

#[derive(Debug)]
struct Given {
    table: &'static SystemTable,
    rows: Vec<Vec<Datum>>,
}

impl SystemRows {
    /// Those of one of them.
    pub fn of(&self, table: &SystemTable) -> Option<&[Vec<Datum>]> {
        self.0.iter().find(|given| std::ptr::eq(given.table, table)).map(|given| given.rows.as_slice())
    }
}

impl<E: Engine> Database<E> {
    /// The rows of several system tables.
    pub async fn rows_of(&self, tables: &[&'static SystemTable], settings: &Settings) -> Result<SystemRows, SqlError> {
        let mut all = Vec::with_capacity(tables.len());
        for table in tables {
            all.push(Given { table, rows: self.system_rows(table, settings).await? });
        }
        Ok(SystemRows(Arc::new(all)))
    }

    /// All rows of a system table, each with a value for each of its columns.
    pub async fn system_rows(&self, table: &SystemTable, settings: &Settings) -> Result<Vec<Vec<Datum>>, SqlError> {
        let node = || Datum::Int(i64::try_from(self.engine().node()).unwrap_or(i64::MAX));
        let rows = match &table.source {
            Source::Catalog(rows) => rows(&*self.catalog().await?),
            Source::Cluster(ask) => cluster::rows(self, table, *ask).await?,
            Source::Settings => {
                let text = |text: &str| Datum::Text(text.into());
                settings.all().map(|(name, value, about)| vec![text(name), text(value), text(about)]).collect()
            }
            Source::Statements => self.statistics().statements(&node()),
            Source::RecentCommits => self.statistics().commits(&node()),
        };
        for row in &rows {
            assert_eq!(row.len(), table.columns.len(), "a row of {}.{} has other columns", table.schema, table.name);
        }
        Ok(rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_is_found_by_its_name_and_by_its_id() {
        for table in all() {
            assert!(SCHEMAS.contains(&table.schema));
            assert!(std::ptr::eq(find(table.schema, table.name).unwrap(), table), "two tables {}", table.name);
            assert!(std::ptr::eq(of(&table.table()).unwrap(), table));
            let names = table.columns.iter().map(|(name, _)| *name).collect::<std::collections::BTreeSet<_>>();
            assert_eq!(names.len(), table.columns.len(), "two columns of {} have one name", table.name);
        }
        assert!(all().count() < 1_000);
        assert!(find("public", "tables").is_none() && find("meridian", "tables").is_none());
    }
}
