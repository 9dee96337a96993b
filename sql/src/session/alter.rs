//! ALTER TABLE, TRUNCATE and COMMENT ON: who does them, and when they are answered.
//!
//! A statement that changes what others see of a table is answered once no gateway goes by the catalog before it: who
//! was told that it is done finds it so wherever he asks next. The wait is that of DROP TABLE, a lease after the commit's answer.
//!
//! UNIQUE constraints are indexes, which have jobs of their own: ADD UNIQUE, and DROP CONSTRAINT of one, are each an ALTER
//! TABLE of its own. DROP COLUMN .. CASCADE of a column that has indexes first drops these, one after the other, and then
//! the column: if it is cut off in between, some of the indexes are gone, and the column is not. ADD FOREIGN KEY first makes
//! the index that the constraint needs, and drops it again if the constraint does not come: cut off in between, it stays. ADD COLUMN
//! .. REFERENCES adds the column, and then the constraint to it, or drops the column again: cut off in between, it
//! stays without the constraint.

use std::sync::Arc;

use sqlparser::ast::{self, AlterTableOperation as Op};

use super::Session;
use super::run::tag;
use crate::SqlError;
use crate::catalog::{CATALOG_LEASE_NS, Catalog, Table, undefined_table};
use crate::ddl::alter::{self, Altered};
use crate::ddl::index::{self, Begun};
use crate::ddl::{comment, foreign, truncate};
use crate::engine::Engine;
use crate::parse::names::quoted;
use crate::parse::{CommentOn, ident, object_name};
use crate::sink::{Completion, Notice, Sink};

/// The indexes that DROP COLUMN .. CASCADE drops first.
fn cascades(table: &Table, operations: &[Op]) -> Vec<String> {
    let mut indexes = Vec::new();
    for op in operations {
        let Op::DropColumn { column_names, drop_behavior: Some(ast::DropBehavior::Cascade), .. } = op else { continue };
        for at in column_names.iter().filter_map(|name| table.column_index(&ident(name))) {
            if table.key_position(at).is_none() {
                let using = table.indexes.iter().filter(|index| alter::index_uses(table, index, at));
                indexes.extend(using.map(|index| index.name.clone()));
            }
        }
    }
    indexes.sort_unstable();
    indexes.dedup();
    indexes
}

impl<E: Engine> Session<E> {
    pub(super) async fn alter_table<S: Sink>(
        &mut self,
        statement: &ast::AlterTable,
        sink: &mut S,
    ) -> Result<Completion, SqlError> {
        self.outside_block("ALTER TABLE")?;
        let ast::AlterTable { name, if_exists, only: _, operations, location, on_cluster, table_type, end_token: _ } =
            statement;
        if location.is_some() || on_cluster.is_some() || table_type.is_some() {
            return Err(SqlError::unsupported("a clause of this ALTER TABLE"));
        }
        let name = object_name(name)?;
        let catalog = self.db.load_strong().await?;
        let Some(table) = catalog.table(&name).cloned() else {
            let missing = undefined_table(&name);
            if !*if_exists {
                return Err(missing);
            }
            sink.notice(Notice::info("00000", format!("{}, skipping", missing.message)));
            return Ok(tag("ALTER TABLE"));
        };
        if let [op] = operations.as_slice()
            && let Some((column, keys)) = foreign::apart(op)
        {
            return self.add_referring(&catalog, &table, statement, (column, keys), sink).await;
        }
        self.alter_existing(&catalog, &table, statement, sink).await
    }

    /// ADD COLUMN .. REFERENCES: the column, and then its foreign keys.
    async fn add_referring<S: Sink>(
        &mut self,
        catalog: &Arc<Catalog>,
        table: &Arc<Table>,
        statement: &ast::AlterTable,
        (column, keys): (Op, Vec<Op>),
        sink: &mut S,
    ) -> Result<Completion, SqlError> {
        let with = |operations: Vec<Op>| ast::AlterTable { operations, ..statement.clone() };
        let column = vec![column];
        let there = alter::may_refer(self.db.engine(), catalog, table, &column, &keys)?.is_none();
        let back = match &column[0] {
            Op::AddColumn { column_def, .. } => Op::DropColumn {
                has_column_keyword: true,
                column_names: vec![column_def.name.clone()],
                if_exists: true,
                drop_behavior: Some(ast::DropBehavior::Cascade),
            },
            other => unreachable!("{other} adds no column"),
        };
        let done = self.alter_existing(catalog, table, &with(column), sink).await?;
        if there {
            return Ok(done);
        }
        let changed = || SqlError::new("40001", "could not serialize access: the schema has changed");
        let catalog = self.db.load_strong().await?;
        let table = catalog.table_by_id(table.id).cloned().ok_or_else(changed)?;
        let result = self.alter_existing(&catalog, &table, &with(keys), sink).await;
        if result.is_err()
            && let Ok(catalog) = self.db.load_strong().await
            && let Some(table) = catalog.table_by_id(table.id).cloned()
        {
            // Unless they are still under way: then the table is in steps, and keeps it.
            let _ = self.alter_existing(&catalog, &table, &with(vec![back]), sink).await;
        }
        result
    }

    async fn alter_existing<S: Sink>(
        &mut self,
        catalog: &Arc<Catalog>,
        table: &Arc<Table>,
        statement: &ast::AlterTable,
        sink: &mut S,
    ) -> Result<Completion, SqlError> {
        let (name, operations) = (&table.name, &statement.operations);
        if let Some(begun) = self.unique(catalog, table, statement).await? {
            return self.run_job("ALTER TABLE", begun, sink).await;
        }
        let mut catalog = Arc::clone(catalog);
        for index in cascades(table, operations) {
            table.refuse_in_steps()?;
            let what = match table.index(&index).is_some_and(|index| index.constraint) {
                true => format!("constraint {index} on table {name}"),
                false => format!("index {index}"),
            };
            sink.notice(Notice::info("00000", format!("drop cascades to {what}")));
            let begun = index::drop(&self.db, &catalog, &index, true, true, &statement.to_string()).await?;
            self.run_job("ALTER TABLE", begun, sink).await?;
            catalog = self.db.load_strong().await?;
        }
        let mut made = Vec::new();
        for (described, key) in alter::indexes_first(self.db.engine(), &catalog, table, operations)? {
            let begun = index::create(&self.db, &catalog, &described, &statement.to_string()).await?;
            if let Begun::Job(job, _) = &begun {
                sink.notice(Notice::info(
                    "00000",
                    format!(
                        "ALTER TABLE will create implicit index \"{}\" for foreign key constraint \"{key}\"",
                        job.index
                    ),
                ));
                made.push(job.index.clone());
            }
            self.run_job("ALTER TABLE", begun, sink).await?;
            catalog = self.db.load_strong().await?;
        }
        let result = self.alter_once(&catalog, name, statement, sink).await;
        if result.is_err() {
            // Nothing is left of a statement that failed. If it is still under way, or has happened, its index stays.
            for index in &made {
                let Ok(catalog) = self.db.load_strong().await else { break };
                if let Ok(begun) = index::drop(&self.db, &catalog, index, true, false, &statement.to_string()).await {
                    let _ = self.run_job("ALTER TABLE", begun, sink).await;
                }
            }
        }
        result
    }

    /// What is left once the indexes are as it wants them.
    async fn alter_once<S: Sink>(
        &mut self,
        catalog: &Catalog,
        name: &str,
        statement: &ast::AlterTable,
        sink: &mut S,
    ) -> Result<Completion, SqlError> {
        let (altered, notices) = alter::begin(&self.db, catalog, name, statement).await?;
        notices.into_iter().for_each(|notice| sink.notice(notice));
        let done = match altered {
            Altered::Nothing => return Ok(tag("ALTER TABLE")),
            Altered::Done(info) => {
                self.committed(&info);
                Completion { commit: Some(info), ..tag("ALTER TABLE") }
            }
            Altered::Job(job, info) => self.run_job("ALTER TABLE", Begun::Job(job, info), sink).await?,
        };
        self.everywhere().await;
        Ok(done)
    }

    /// What ALTER TABLE does to a UNIQUE constraint, if that is what it is about.
    async fn unique(
        &self,
        catalog: &Catalog,
        table: &Arc<Table>,
        statement: &ast::AlterTable,
    ) -> Result<Option<Begun>, SqlError> {
        match statement.operations.as_slice() {
            [Op::AddConstraint { constraint: ast::TableConstraint::Unique(unique), not_valid }] => {
                if *not_valid {
                    return Err(SqlError::new("0A000", "UNIQUE constraints cannot be marked NOT VALID"));
                }
                let described = index::describe_unique(&table.name, unique, None)?;
                index::create(&self.db, catalog, &described, &statement.to_string()).await.map(Some)
            }
            [Op::DropConstraint { if_exists, name, drop_behavior: _ }] => {
                let name = ident(name);
                if !table.index(&name).is_some_and(|index| index.constraint) {
                    return Ok(None);
                }
                index::drop(&self.db, catalog, &name, *if_exists, true, &statement.to_string()).await.map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Waits until no gateway goes by a catalog from before what was just answered.
    async fn everywhere(&self) {
        // It has happened, whether or not the catalog can be read just now: who needs it tries again.
        let _ = self.db.load_strong().await;
        let answered = self.db.engine().now().latest;
        self.db.engine().sleep_until_after(answered.plus_ns(CATALOG_LEASE_NS)).await;
    }

    pub(super) async fn truncate<S: Sink>(
        &mut self,
        names: &[String],
        cascade: bool,
        sink: &mut S,
    ) -> Result<Completion, SqlError> {
        self.outside_block("TRUNCATE TABLE")?;
        let catalog = self.db.load_strong().await?;
        let list: Vec<String> = names.iter().map(|name| quoted(name)).collect();
        let text = format!("TRUNCATE TABLE {}{}", list.join(", "), if cascade { " CASCADE" } else { "" });
        let (job, info, said) = truncate::begin(&self.db, &catalog, (names, cascade), &text).await?;
        said.into_iter().for_each(|said| sink.notice(Notice::info("00000", said)));
        self.run_job("TRUNCATE TABLE", Begun::Job(job, info), sink).await
    }

    pub(super) async fn comment<S: Sink>(
        &mut self,
        on: &CommentOn,
        text: Option<&str>,
        sink: &mut S,
    ) -> Result<Completion, SqlError> {
        self.outside_block("COMMENT")?;
        let catalog = self.db.load_strong().await?;
        let change = comment::comment(self.db.engine(), &catalog, on, text).await?;
        let done = self.changed("COMMENT", change, sink).await?;
        let _ = self.db.load_strong().await;
        Ok(done)
    }
}
