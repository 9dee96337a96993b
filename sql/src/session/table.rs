//! CREATE TABLE, DROP TABLE and the statements about sequences; and running a plan that draws numbers.

use sqlparser::ast;

use super::Session;
use super::run::tag;
use super::timeout::{Deadline, in_time};
use crate::SqlError;
use crate::catalog::CATALOG_LEASE_NS;
use crate::ddl::index::Begun;
use crate::ddl::table::{Change, New};
use crate::ddl::{self, sequence};
use crate::engine::Engine;
use crate::expr::EvalContext;
use crate::parse::SequenceStatement;
use crate::plan::Plan;
use crate::sequence::{Draw, is_numbered};
use crate::short::{self, Counts, Failure, Output, Reader};
use crate::sink::{Completion, Notice, Sink};

impl<E: Engine> Session<E> {
    pub(super) async fn create_table<S: Sink>(
        &mut self,
        create: &ast::CreateTable,
        sink: &mut S,
    ) -> Result<Completion, SqlError> {
        self.outside_block("CREATE TABLE")?;
        let mut table = ddl::describe(create)?;
        let foreign = ddl::foreign::described(create)?;
        let numbered = table.columns.iter().any(|column| is_numbered(column.generated.as_ref()));
        let catalog =
            if numbered || !foreign.is_empty() { self.db.load_strong().await? } else { self.db.catalog().await? };
        let sequences = sequence::of_columns(&mut table, &catalog)?;
        let (if_not_exists, statement) = (create.if_not_exists, create.to_string());
        let new = New { table, foreign, sequences, if_not_exists, statement };
        let change = ddl::table::create(&self.db, &catalog, &new).await?;
        let completion = self.changed("CREATE TABLE", change, sink).await?;
        // It has happened, whether or not the catalog can be read just now: who needs it tries again.
        let _ = self.db.load_strong().await;
        Ok(completion)
    }

    pub(super) async fn drop_table<S: Sink>(
        &mut self,
        names: &[String],
        how: (bool, bool),
        sink: &mut S,
    ) -> Result<Completion, SqlError> {
        self.outside_block("DROP TABLE")?;
        let change = ddl::table::drop(&self.db, names, how).await?;
        self.gone("DROP TABLE", change, sink).await
    }

    /// After something was dropped or replaced: waits until no gateway goes by a catalog that still has it.
    pub(super) async fn gone<S: Sink>(
        &mut self,
        what: &str,
        change: Change,
        sink: &mut S,
    ) -> Result<Completion, SqlError> {
        let completion = self.changed(what, change, sink).await?;
        let _ = self.db.load_strong().await;
        if completion.commit.is_some() {
            let answered = self.db.engine().now().latest;
            self.db.engine().sleep_until_after(answered.plus_ns(CATALOG_LEASE_NS)).await;
        }
        Ok(completion)
    }

    pub(super) async fn changed<S: Sink>(
        &mut self,
        what: &str,
        change: Change,
        sink: &mut S,
    ) -> Result<Completion, SqlError> {
        let mut done = tag(what);
        match change {
            Change::Done(info, said) => {
                said.into_iter().for_each(|said| sink.notice(Notice::info("00000", said)));
                self.committed(&info);
                done.commit = Some(info);
            }
            Change::Begun(job, info, said) => {
                said.into_iter().for_each(|said| sink.notice(Notice::info("00000", said)));
                return self.run_job(what, Begun::Job(job, info), sink).await;
            }
            Change::Nothing(sqlstate, message) => sink.notice(Notice::info(sqlstate, message)),
        }
        Ok(done)
    }

    /// CREATE, ALTER, DROP SEQUENCE.
    pub(super) async fn sequence<S: Sink>(
        &mut self,
        statement: &SequenceStatement,
        sink: &mut S,
    ) -> Result<Completion, SqlError> {
        let what = match statement {
            SequenceStatement::Create { .. } => "CREATE SEQUENCE",
            SequenceStatement::Alter { .. } => "ALTER SEQUENCE",
            SequenceStatement::Drop { .. } => "DROP SEQUENCE",
        };
        self.outside_block(what)?;
        let catalog = self.db.load_strong().await?;
        let engine = self.db.engine();
        let changed = match statement {
            SequenceStatement::Create { if_not_exists, name, options } => {
                sequence::create(engine, &catalog, name, options, *if_not_exists).await?
            }
            SequenceStatement::Alter { if_exists, name, options } => {
                let changed = sequence::alter(engine, &catalog, name, options, *if_exists).await?;
                if let Some(sequence) = catalog.sequences.get(name) {
                    self.db.numbers().forget(sequence.id);
                }
                changed
            }
            SequenceStatement::Drop { if_exists, names, cascade } => {
                sequence::drop(engine, &catalog, names, (*if_exists, *cascade)).await?
            }
        };
        let change = match changed {
            Ok((info, said)) => Change::Done(info, said),
            Err((sqlstate, message)) => Change::Nothing(sqlstate, message),
        };
        let completion = self.changed(what, change, sink).await?;
        let _ = self.db.load_strong().await;
        Ok(completion)
    }
}

/// Runs a plan; again, as often as it needs more numbers of sequences.
pub(super) async fn run_drawing<E: Engine, S: Sink>(
    (engine, deadline): (&E, Deadline),
    plan: &Plan,
    context: &EvalContext<'_>,
    reader: &mut Reader<'_, E>,
    output: &mut Output<'_, S>,
    draw: &Draw<'_, E>,
) -> Result<Counts, Failure> {
    let mark = reader.mark();
    loop {
        let work = short::run(plan, context, reader, output);
        match in_time(engine, deadline, work).await {
            Err(_) if draw.lacks() => {
                in_time(engine, deadline, draw.fetch()).await?;
                output.forget();
                // A default may be asked for late: by the action of a foreign key.
                reader.undo_to(mark);
            }
            result => return result,
        }
    }
}
