//! Running one statement, in whatever block the session is.

use std::collections::BTreeMap;
use std::sync::Arc;

use truetime::Timestamp;

use super::Session;
use super::block::{Block, ReadOnly, aborted};
use super::database::Cached;
use crate::SqlError;
use crate::catalog::CATALOG_LEASE_NS;
use crate::ddl::{self, Change};
use crate::engine::{AdminCommand, CommitInfo, Engine, ReadBound, Transaction};
use crate::expr::EvalContext;
use crate::parse::{Statement, TimeExpr};
use crate::plan::{self, Plan, Planned};
use crate::short::{self, Counts, Output, Reader};
use crate::sink::{ColumnInfo, Completion, Notice, Sink};
use crate::types::{DataType, Datum};
use crate::value;

/// How often a statement of its own is tried before its conflict is the client's.
const ATTEMPTS_MAX: u32 = 50;

/// What a plan's run came to.
pub(super) struct Ran {
    pub(super) counts: Counts,
    pub(super) commit: Option<CommitInfo>,
    pub(super) read_ts: Option<Timestamp>,
    pub(super) lock_wait_ns: i64,
}

impl<E: Engine> Session<E> {
    /// Runs a statement; answers the plan that it used, for the cache.
    pub(super) async fn statement<S: Sink>(
        &mut self,
        cached: &Cached,
        params: &[Datum],
        sink: &mut S,
    ) -> Result<Option<Arc<Planned>>, SqlError> {
        let statement = &*cached.statement;
        if matches!(self.block, Block::Failed) && !matches!(statement, Statement::Commit | Statement::Rollback) {
            return Err(aborted());
        }
        let plannable = matches!(
            statement,
            Statement::Select { .. }
                | Statement::Insert { .. }
                | Statement::Update(_)
                | Statement::Delete(_)
                | Statement::Explain { .. }
        );
        if !plannable && !params.is_empty() {
            return Err(SqlError::new("08P01", "the statement takes no parameters"));
        }
        let completion = match statement {
            Statement::Select { .. } | Statement::Insert { .. } | Statement::Update(_) | Statement::Delete(_) => {
                let planned = self.plan(cached).await?;
                let ran = self.run_plan(statement, &planned, params, Some(&mut *sink)).await?;
                sink.complete(Completion {
                    tag: short::tag(&planned.plan, &ran.counts),
                    commit: ran.commit,
                    read_ts: ran.read_ts,
                    elapsed_ns: 0,
                });
                return Ok(Some(planned));
            }
            Statement::Explain { analyze, statement } => self.explain(*analyze, statement, params, sink).await?,
            Statement::Begin(begin) => self.begin(begin, sink)?,
            Statement::Commit => self.commit(sink).await?,
            Statement::Rollback => self.rollback(sink).await,
            Statement::SetTransaction(begin) => {
                if begin.read_only == Some(true) && !matches!(self.block, Block::ReadOnly(_)) {
                    return Err(SqlError::unsupported("SET TRANSACTION READ ONLY").hint("Use BEGIN READ ONLY."));
                }
                if begin.read_only == Some(false) && matches!(self.block, Block::ReadOnly(_)) {
                    return Err(SqlError::new("25001", "transaction read-write mode must be set before any query"));
                }
                tag("SET")
            }
            Statement::Set { name, value } => {
                self.settings.set(name, value.as_deref())?;
                tag("SET")
            }
            Statement::CreateTable(create) => {
                self.outside_block("CREATE TABLE")?;
                let table = ddl::describe(create)?;
                let catalog = self.db.catalog().await?;
                let change = ddl::create(self.db.engine(), &catalog, table, create.if_not_exists).await?;
                let completion = self.changed("CREATE TABLE", change, sink);
                // It has happened, whether or not the catalog can be read just now: who needs it tries again.
                let _ = self.db.load_strong().await;
                completion
            }
            Statement::DropTable { if_exists, names } => {
                self.outside_block("DROP TABLE")?;
                let change = ddl::drop(self.db.engine(), names, *if_exists).await?;
                let completion = self.changed("DROP TABLE", change, sink);
                let _ = self.db.load_strong().await;
                if completion.commit.is_some() {
                    // Until then another gateway may use a catalog that still has the table.
                    let answered = self.db.engine().now().latest;
                    self.db.engine().sleep_until_after(answered.plus_ns(CATALOG_LEASE_NS)).await;
                }
                completion
            }
            Statement::Split { table, rows } => {
                self.outside_block("ALTER TABLE .. SPLIT AT")?;
                self.refuse_writes("ALTER TABLE")?;
                let catalog = self.db.load_strong().await?;
                let table = catalog.table(table).ok_or_else(|| crate::catalog::undefined_table(table))?;
                let context = EvalContext { params: &[], now: self.db.engine().now().latest, random: self.db.engine() };
                for at in ddl::split_keys(table, rows, &context)? {
                    self.db.engine().admin(AdminCommand::Split { at }).await?;
                }
                tag("ALTER TABLE")
            }
            Statement::SetClock { node, spec } => {
                let command = AdminCommand::SetClock { node: *node, spec: spec.clone() };
                self.admin(command, "SET", sink).await?
            }
            Statement::CheckReplicas => self.admin(AdminCommand::CheckReplicas, "CHECK REPLICAS", sink).await?,
            Statement::Show(show) => self.show(show, sink).await?,
        };
        sink.complete(completion);
        Ok(None)
    }

    fn outside_block(&self, what: &str) -> Result<(), SqlError> {
        match self.block {
            Block::Idle => self.refuse_writes(what),
            _ => Err(SqlError::new("25001", format!("{what} cannot run inside a transaction block"))),
        }
    }

    /// 25006 while the session reads in the past, or only reads.
    fn refuse_writes(&self, what: &str) -> Result<(), SqlError> {
        if self.settings.read_time().is_some() {
            return Err(SqlError::new("25006", format!("cannot execute {what} while read_timestamp is set"))
                .hint("SET read_timestamp = DEFAULT brings the session back to the present."));
        }
        if self.settings.read_only() {
            return Err(read_only(what));
        }
        Ok(())
    }

    fn changed<S: Sink>(&mut self, what: &str, change: Change, sink: &mut S) -> Completion {
        let mut done = tag(what);
        match change {
            Change::Done(info) => {
                self.last_commit = Some(info.clone());
                done.commit = Some(info);
            }
            Change::Nothing(sqlstate, message) => sink.notice(Notice::info(sqlstate, message)),
        }
        done
    }

    /// When a statement reads, if not now.
    fn read_time(&self, statement: &Statement) -> Result<Option<Timestamp>, SqlError> {
        let own: Option<TimeExpr> = match statement {
            Statement::Select { as_of, .. } => *as_of,
            _ => None,
        };
        match (&self.block, own) {
            (Block::Idle, own) => {
                let session =
                    if matches!(statement, Statement::Select { .. }) { self.settings.read_time() } else { None };
                own.or(session).map(|time| self.timestamp(time)).transpose()
            }
            (_, Some(_)) => {
                Err(SqlError::unsupported("AS OF SYSTEM TIME in a transaction block")
                    .hint("Give it to BEGIN READ ONLY."))
            }
            (Block::ReadOnly(block), None) => Ok(match block.bound {
                ReadBound::At(at) => Some(at),
                _ => None,
            }),
            (_, None) => Ok(None),
        }
    }

    /// The plan of a statement, the cached one if the catalog has not changed since.
    pub(super) async fn plan(&self, cached: &Cached) -> Result<Arc<Planned>, SqlError> {
        let at = self.read_time(&cached.statement)?;
        let catalog = match (at, &self.block) {
            (Some(at), Block::ReadOnly(block)) => match block.catalog.get() {
                Some(catalog) => Arc::clone(catalog),
                None => {
                    let catalog = self.db.catalog_at(at).await?;
                    Arc::clone(block.catalog.get_or_init(|| catalog))
                }
            },
            (Some(at), _) => self.db.catalog_at(at).await?,
            (None, _) => self.db.catalog().await?,
        };
        if let Some(planned) = &cached.planned
            && planned.version == catalog.version
        {
            return Ok(Arc::clone(planned));
        }
        match plan::plan(&cached.statement, &catalog) {
            // The table may be new: look again before saying so.
            Err(err) if err.sqlstate == "42P01" && at.is_none() => {
                let catalog = self.db.load_strong().await?;
                plan::plan(&cached.statement, &catalog).map(Arc::new)
            }
            result => result.map(Arc::new),
        }
    }

    /// Runs a plan. Without a sink the rows are counted only.
    pub(super) async fn run_plan<S: Sink>(
        &mut self,
        statement: &Statement,
        planned: &Planned,
        params: &[Datum],
        sink: Option<&mut S>,
    ) -> Result<Ran, SqlError> {
        let params = convert_params(&planned.params, params)?;
        let writes = planned.plan.writes();
        let what = verb(&planned.plan);
        let at = self.read_time(statement)?;
        let engine = self.db.engine().clone();
        if let Block::Open(open) = &mut self.block {
            if let Some(table) = &planned.table {
                open.tables.insert(table.name.clone(), table.id);
            }
            let context = EvalContext { params: &params, now: open.now, random: &engine };
            let before = open.txn.lock_wait_ns();
            let mut output = stream(sink, &planned.columns);
            let mut reader: Reader<'_, E> = Reader::Txn(&mut open.txn);
            let counts = short::run(&planned.plan, &context, &mut reader, &mut output).await?;
            output.finish().await?;
            let lock_wait_ns = open.txn.lock_wait_ns() - before;
            return Ok(Ran { counts, commit: None, read_ts: None, lock_wait_ns });
        }
        if writes && matches!(self.block, Block::ReadOnly(_)) {
            return Err(read_only(what));
        }
        if writes {
            if at.is_some() && self.settings.read_time().is_none() {
                return Err(read_only(what));
            }
            self.refuse_writes(what)?;
            return self.autocommit(planned, &params, sink).await;
        }
        let (bound, now) = match &self.block {
            // One group may answer at a time long past, if nothing was written to it since: good for
            // one statement, but the next one may read another group.
            Block::ReadOnly(ReadOnly { bound: ReadBound::Strong, now, .. }) => (ReadBound::At(engine.present()?), *now),
            Block::ReadOnly(block) => (block.bound, block.now),
            _ => (at.map_or(ReadBound::Strong, ReadBound::At), engine.now().latest),
        };
        let context = EvalContext { params: &params, now, random: &engine };
        let mut output = stream(sink, &planned.columns);
        let mut reader: Reader<'_, E> = Reader::Snapshot { engine: &engine, bound };
        let counts = short::run(&planned.plan, &context, &mut reader, &mut output).await?;
        output.finish().await?;
        let read_ts = reader.read_ts();
        if let Some(at) = read_ts {
            self.last_read_ts = Some(at);
            if let Block::ReadOnly(block) = &mut self.block {
                block.bound = ReadBound::At(at);
            }
        }
        Ok(Ran { counts, commit: None, read_ts, lock_wait_ns: 0 })
    }

    /// A read-write statement as a transaction of its own. Its rows are kept until it has committed,
    /// so that it can be tried again.
    async fn autocommit<S: Sink>(
        &mut self,
        planned: &Planned,
        params: &[Datum],
        sink: Option<&mut S>,
    ) -> Result<Ran, SqlError> {
        let engine = self.db.engine().clone();
        let tables: BTreeMap<String, u32> = planned.table.iter().map(|table| (table.name.clone(), table.id)).collect();
        let mut priority = None;
        for attempt in 1.. {
            let mut txn = engine.begin(priority);
            priority = Some(txn.priority());
            let context = EvalContext { params, now: engine.now().latest, random: &engine };
            let mut output = if sink.is_some() { Output::<S>::buffer() } else { Output::Discard };
            let mut reader: Reader<'_, E> = Reader::Txn(&mut txn);
            let counts = match short::run(&planned.plan, &context, &mut reader, &mut output).await {
                Ok(counts) => counts,
                Err(failure) => {
                    txn.rollback().await;
                    if failure.is_retryable() && attempt < ATTEMPTS_MAX {
                        continue;
                    }
                    return Err(failure.into());
                }
            };
            if let Err(err) = self.check_tables(&tables).await {
                txn.rollback().await;
                return Err(err);
            }
            let lock_wait_ns = txn.lock_wait_ns();
            let info = match txn.commit().await {
                Ok(info) => info,
                Err(txn::client::ClientError::Aborted { retryable: true, .. }) if attempt < ATTEMPTS_MAX => continue,
                Err(err) => return Err(err.into()),
            };
            self.last_commit = Some(info.clone());
            if let Some(sink) = sink
                && !planned.columns.is_empty()
            {
                sink.columns(planned.columns.clone()).await?;
                let rows = output.into_rows();
                if !rows.is_empty() {
                    sink.rows(rows).await?;
                }
            }
            return Ok(Ran { counts, commit: Some(info), read_ts: None, lock_wait_ns });
        }
        unreachable!("the last attempt returns")
    }

    /// Runs an admin command and sends its rows.
    pub(super) async fn admin<S: Sink>(
        &mut self,
        command: AdminCommand,
        what: &str,
        sink: &mut S,
    ) -> Result<Completion, SqlError> {
        let rows = self.db.engine().admin(command).await?;
        // Only keys need the catalog: the rest must be told also while there is none to be had.
        let keys = rows.columns.iter().any(|(_, ty)| *ty == DataType::Bytes);
        let catalog = if keys { self.db.catalog().await? } else { Arc::default() };
        let (columns, rows) = crate::show::admin(rows, &catalog);
        if !columns.is_empty() {
            send(columns, rows, sink).await?;
        }
        Ok(tag(what))
    }
}

/// Sends a small result.
pub(super) async fn send<S: Sink>(
    columns: Vec<ColumnInfo>,
    rows: Vec<Vec<Datum>>,
    sink: &mut S,
) -> Result<(), SqlError> {
    sink.columns(columns).await?;
    if rows.is_empty() { Ok(()) } else { sink.rows(rows).await }
}

pub(super) fn tag(tag: &str) -> Completion {
    Completion { tag: tag.into(), ..Completion::default() }
}

fn stream<'a, S: Sink>(sink: Option<&'a mut S>, columns: &[ColumnInfo]) -> Output<'a, S> {
    match sink {
        Some(sink) => Output::Stream { sink, columns: Some(columns.to_vec()) },
        None => Output::Discard,
    }
}

fn read_only(what: &str) -> SqlError {
    SqlError::new("25006", format!("cannot execute {what} in a read-only transaction"))
}

fn verb(plan: &Plan) -> &'static str {
    match plan {
        Plan::Select(plan) if plan.lock.is_some() => "SELECT FOR UPDATE",
        Plan::Select(_) => "SELECT",
        Plan::Insert(plan) if plan.upsert => "UPSERT",
        Plan::Insert(_) => "INSERT",
        Plan::Update(_) => "UPDATE",
        Plan::Delete(_) => "DELETE",
    }
}

/// The parameters as the plan wants them: 08P01 for a wrong number, 42804 for a wrong type, 22P02 for
/// a text that is no value of the type.
fn convert_params(types: &[DataType], given: &[Datum]) -> Result<Vec<Datum>, SqlError> {
    if types.len() != given.len() {
        return Err(SqlError::new(
            "08P01",
            format!("the statement requires {} parameters, and {} were given", types.len(), given.len()),
        ));
    }
    let convert = |(index, (ty, datum)): (usize, (&DataType, &Datum))| match (datum, ty) {
        (Datum::Text(text), ty) => value::parse_text(text, *ty),
        (datum, ty) if datum.is_of(*ty) => Ok(datum.clone()),
        // An integer out of the range of its type, too.
        (Datum::Int(_), ty) if ty.is_number() => value::cast(datum.clone(), *ty),
        (Datum::Float(_), DataType::Float4 | DataType::Numeric) => value::cast(datum.clone(), *ty),
        (datum, DataType::Text | DataType::Char) => value::cast(datum.clone(), *ty),
        (datum, ty) => Err(SqlError::new(
            "42804",
            format!(
                "parameter ${} is of type {} but the statement needs {}",
                index + 1,
                datum.data_type().map_or("unknown", DataType::name),
                ty.name()
            ),
        )),
    };
    types.iter().zip(given).enumerate().map(convert).collect()
}
