//! CREATE INDEX and DROP INDEX, which run their jobs and tell the client how far they are; CHECK TABLE; CANCEL JOB.

use std::sync::Arc;

use sqlparser::ast;

use super::Session;
use super::run::{send, tag};
use crate::catalog::{IndexState, Table, undefined_table};
use crate::check::Comparison;
use crate::ddl::index::{self, Begun};
use crate::engine::{AdminCommand, CommitInfo, Engine, ReadBound};
use crate::entry::Layout;
use crate::expr::EvalContext;
use crate::jobs::{self, Job, JobStatus};
use crate::parse::TimeExpr;
use crate::plan::index::Maintained;
use crate::show::text_columns;
use crate::sink::{ColumnInfo, Completion, Notice, Sink};
use crate::types::{DataType, Datum};
use crate::{SqlError, ddl, row};

/// How often a client hears of its job: each time this much more is done.
const TOLD_EVERY: f64 = 0.1;

/// Says what is new about a job.
struct Teller<'a, S: Sink> {
    sink: &'a mut S,
    said: f64,
    status: JobStatus,
}

impl<S: Sink> Teller<'_, S> {
    fn tell(&mut self, job: &Job) {
        if job.status == JobStatus::RollingBack && self.status == JobStatus::Running {
            let why = job.error.as_ref().map_or("it failed", |error| error.message());
            self.sink.notice(Notice::info("00000", format!("job {}: rolling back: {why}", job.id)));
        }
        self.status = job.status;
        let done = job.fraction();
        if job.status == JobStatus::Running
            && job.rows > 0
            && (done - self.said >= TOLD_EVERY || (done >= 1.0 && self.said < 1.0))
        {
            self.said = done;
            let percent = (done * 100.0) as u64;
            let message = format!("job {}: {} rows of {}, {percent}%", job.id, job.rows, job.table);
            self.sink.notice(Notice::info("00000", message));
        }
    }
}

impl<E: Engine> Session<E> {
    pub(super) async fn create_index<S: Sink>(
        &mut self,
        create: &ast::CreateIndex,
        sink: &mut S,
    ) -> Result<Completion, SqlError> {
        self.outside_block("CREATE INDEX")?;
        let described = index::describe(create)?;
        if described.concurrently {
            sink.notice(Notice::info("00000", "CONCURRENTLY is not needed: no CREATE INDEX keeps writers waiting"));
        }
        let catalog = self.db.load_strong().await?;
        let begun = index::create(&self.db, &catalog, &described, &create.to_string()).await?;
        self.run_job("CREATE INDEX", begun, sink).await
    }

    pub(super) async fn drop_index<S: Sink>(
        &mut self,
        names: &[String],
        if_exists: bool,
        sink: &mut S,
    ) -> Result<Completion, SqlError> {
        self.outside_block("DROP INDEX")?;
        let mut done = tag("DROP INDEX");
        for name in names {
            let catalog = self.db.load_strong().await?;
            let statement = format!("DROP INDEX {name}");
            let begun = index::drop(&self.db, &catalog, name, if_exists, false, &statement).await?;
            done = self.run_job("DROP INDEX", begun, sink).await?;
        }
        Ok(done)
    }

    pub(super) async fn run_job<S: Sink>(
        &mut self,
        what: &str,
        begun: Begun,
        sink: &mut S,
    ) -> Result<Completion, SqlError> {
        let mut done = tag(what);
        let (job, info): (Box<Job>, CommitInfo) = match begun {
            Begun::Job(job, info) => (job, info),
            Begun::Nothing(sqlstate, message) => {
                sink.notice(Notice::info(sqlstate, message));
                return Ok(done);
            }
        };
        self.last_commit = Some(info.clone());
        done.commit = Some(info);
        let mut teller = Teller { sink, said: 0.0, status: JobStatus::Running };
        let ended = jobs::run(&self.db, job.id, &job.owner, &mut |job| teller.tell(job)).await?;
        // It has happened, whether or not the catalog can be read just now: who needs it tries again.
        let _ = self.db.load_strong().await;
        match &ended.error {
            Some(error) if ended.status == JobStatus::Failed => Err(error.to_sql()),
            _ => Ok(done),
        }
    }

    pub(super) async fn cancel_job(&mut self, id: u64) -> Result<Completion, SqlError> {
        self.outside_block("CANCEL JOB")?;
        jobs::cancel(self.db.engine(), id).await?;
        Ok(tag("CANCEL JOB"))
    }

    pub(super) async fn split_index(&mut self, name: &str, rows: &[Vec<ast::Expr>]) -> Result<Completion, SqlError> {
        self.outside_block("ALTER INDEX .. SPLIT AT")?;
        let catalog = self.db.load_strong().await?;
        let missing = || SqlError::new("42704", format!("index \"{name}\" does not exist"));
        let (table, index) = catalog.index(name).ok_or_else(missing)?;
        let context = EvalContext { params: &[], now: self.db.engine().now().latest, random: self.db.engine() };
        let layout = Layout::of(table, index);
        for at in ddl::split_keys(table, &layout, rows, &context)? {
            self.db.engine().admin(AdminCommand::Split { at }).await?;
        }
        Ok(tag("ALTER INDEX"))
    }

    /// CHECK TABLE, CHECK INDEXES: one row for each index that is public at the timestamp.
    pub(super) async fn check_table<S: Sink>(
        &mut self,
        name: Option<&str>,
        as_of: Option<TimeExpr>,
        sink: &mut S,
    ) -> Result<Completion, SqlError> {
        if !matches!(self.state(), super::SessionState::Idle) {
            return Err(SqlError::new("25001", "CHECK TABLE cannot run inside a transaction block"));
        }
        let time = as_of.or(self.settings.read_time());
        let at = match time {
            Some(time) => self.timestamp(time)?,
            None => self.db.engine().present()?,
        };
        // That of the timestamp, exactly: also if the one that is known would do for planning.
        let catalog = self.db.load(ReadBound::At(at)).await?;
        let tables: Vec<Arc<Table>> = match name {
            Some(name) => vec![Arc::clone(catalog.table(name).ok_or_else(|| undefined_table(name))?)],
            None => catalog.tables.values().cloned().collect(),
        };
        let mut rows = Vec::new();
        for table in &tables {
            for index in table.indexes.iter().filter(|index| index.state == IndexState::Public) {
                let mut comparison = Comparison::new(at, table, Maintained::new(table, index)?);
                while comparison.page(self.db.engine()).await? {}
                let problem = match (comparison.first_missing(), comparison.first_extra()) {
                    (Some(missing), _) => {
                        let key = row::encode_key(table, missing)?;
                        Datum::Text(format!("no entry of {}", row::pretty_key(&key, &catalog)))
                    }
                    (None, Some(extra)) => Datum::Text(format!("no row of {}", row::pretty_key(extra, &catalog))),
                    (None, None) => Datum::Null,
                };
                rows.push(vec![
                    Datum::Text(table.name.clone()),
                    Datum::Text(index.name.clone()),
                    Datum::Int(comparison.rows as i64),
                    Datum::Int(comparison.entries as i64),
                    Datum::Int(comparison.missing as i64),
                    Datum::Int(comparison.extra as i64),
                    problem,
                ]);
            }
        }
        send(check_columns(), rows, sink).await?;
        let what = if name.is_some() { "CHECK TABLE" } else { "CHECK INDEXES" };
        Ok(Completion { read_ts: Some(at), ..tag(what) })
    }
}

fn check_columns() -> Vec<ColumnInfo> {
    let mut columns = text_columns(&["table_name", "index_name"]);
    let number = |name: &str| ColumnInfo { name: name.into(), ty: DataType::Int };
    columns.extend(["rows", "entries", "missing", "extra"].map(number));
    columns.extend(text_columns(&["problem"]));
    columns
}
