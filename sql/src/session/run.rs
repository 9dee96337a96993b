//! Running one statement, in whatever block the session is.

use std::sync::Arc;

use truetime::Timestamp;

use super::Session;
use super::block::{Block, ReadOnly, aborted};
use super::database::Cached;
use super::table::run_drawing;
use super::timeout::{Deadline, in_time};
use super::touched::Touched;
use crate::SqlError;
use crate::catalog::Catalog;
use crate::ddl;
use crate::engine::{AdminCommand, CommitInfo, Engine, ReadBound, Transaction};
use crate::entry::Layout;
use crate::expr::EvalContext;
use crate::parse::{Statement, TimeExpr};
use crate::plan::{self, Plan, Planned};
use crate::sequence::{Draw, Sources};
use crate::short::{self, Counts, Failure, Output, Reader};
use crate::sink::{ColumnInfo, Completion, Sink};
use crate::types::{DataType, Datum};
use crate::value;

/// How often a statement of its own is tried before its conflict is the client's.
const ATTEMPTS_MAX: u32 = 50;

/// How long a statement waits for a table that is being truncated, in nanoseconds.
const CLOSED_MAX_NS: i64 = 30_000_000_000;
/// How often it looks, in nanoseconds.
const CLOSED_LOOK_NS: i64 = 100_000_000;

/// What a plan's run came to.
pub(super) struct Ran {
    pub(super) counts: Counts,
    pub(super) commit: Option<CommitInfo>,
    pub(super) read_ts: Option<Timestamp>,
    pub(super) lock_wait_ns: i64,
}

impl<E: Engine> Session<E> {
    /// Runs a statement; answers the plan that it used, for the cache.
    pub(super) async fn dispatch<S: Sink>(
        &mut self,
        cached: &Cached,
        params: &[Datum],
        sink: &mut S,
    ) -> Result<Option<Arc<Planned>>, SqlError> {
        let statement = &*cached.statement;
        self.deadline = Deadline::of(self.db.engine(), self.settings.timeout_ns("statement_timeout"));
        if matches!(self.block, Block::Failed(_)) && !statement.ends_a_failure() {
            return Err(aborted());
        }
        let plannable = statement.is_query() || matches!(statement, Statement::Explain { .. });
        if !plannable && !params.is_empty() {
            return Err(SqlError::new("08P01", "the statement takes no parameters"));
        }
        let completion = match statement {
            Statement::Select { .. } | Statement::Insert { .. } | Statement::Update(_) | Statement::Delete(_) => {
                return self.query(cached, params, sink).await.map(Some);
            }
            Statement::Explain { options, statement } => self.explain(*options, statement, params, sink).await?,
            Statement::Begin(begin) => self.begin(begin, sink)?,
            Statement::Commit { chain } => self.commit(*chain, sink).await?,
            Statement::Rollback { chain } => self.rollback(*chain, sink).await?,
            Statement::Savepoint(name) => self.savepoint(name)?,
            Statement::RollbackTo(name) => self.rollback_to(name).await?,
            Statement::Release(name) => self.release(name)?,
            Statement::SetTransaction(modes) => self.set_transaction(modes, sink)?,
            Statement::Set { name, value, local } => self.set(name, value.as_deref(), *local, sink)?,
            Statement::Reset(name) => self.reset(name.as_deref())?,
            Statement::Discard(what) => self.discard(what)?,
            Statement::Deallocate(name) => self.deallocate(name.as_deref())?,
            Statement::Prepare { name, types, text, statement } => {
                self.prepare_sql(name, types, text, statement).await?
            }
            Statement::Execute { name, values } => {
                self.execute_sql(name, values, sink).await?;
                return Ok(None);
            }
            Statement::CreateTable(create) => self.create_table(create, sink).await?,
            Statement::DropTable { if_exists, names, cascade } => {
                self.drop_table(names, (*if_exists, *cascade), sink).await?
            }
            Statement::CreateView(create) => self.create_view(create, sink).await?,
            Statement::DropView { if_exists, names, cascade } => {
                self.outside_block("DROP VIEW")?;
                let change = ddl::view::drop(self.db.engine(), names, *if_exists, *cascade).await?;
                self.gone("DROP VIEW", change, sink).await?
            }
            Statement::Sequence(statement) => self.sequence(statement, sink).await?,
            Statement::CreateIndex(create) => self.create_index(create, sink).await?,
            Statement::DropIndex { if_exists, names } => self.drop_index(names, *if_exists, sink).await?,
            Statement::AlterTable(alter) => self.alter_table(alter, sink).await?,
            // A table with anything that would restart is refused.
            Statement::Truncate { names, restart: _, cascade } => self.truncate(names, *cascade, sink).await?,
            Statement::Comment { on, text } => self.comment(on, text.as_deref(), sink).await?,
            Statement::SplitIndex { index, rows } => self.split_index(index, rows).await?,
            Statement::CancelJob(id) => self.cancel_job(*id).await?,
            Statement::CheckTable { table, as_of } => self.check_table(table.as_deref(), *as_of, sink).await?,
            Statement::Split { table, rows } => {
                self.outside_block("ALTER TABLE .. SPLIT AT")?;
                self.refuse_writes("ALTER TABLE")?;
                let catalog = self.db.load_strong().await?;
                let table = catalog.table(table).ok_or_else(|| crate::catalog::undefined_table(table))?;
                let context = EvalContext { params: &[], now: self.db.engine().now().latest, random: self.db.engine() };
                for at in ddl::split_keys(table, &Layout::primary(table), rows, &context)? {
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

    /// Plans and runs a SELECT, INSERT, UPDATE or DELETE.
    pub(super) async fn query<S: Sink>(
        &mut self,
        cached: &Cached,
        params: &[Datum],
        sink: &mut S,
    ) -> Result<Arc<Planned>, SqlError> {
        let (planned, ran) = self.plan_and_run(cached, params, Some(&mut *sink)).await?;
        self.tally.rows = ran.counts.rows;
        sink.complete(Completion {
            tag: short::tag(&planned.plan, &ran.counts),
            commit: ran.commit,
            read_ts: ran.read_ts,
            elapsed_ns: 0,
        });
        Ok(planned)
    }

    pub(super) fn outside_block(&self, what: &str) -> Result<(), SqlError> {
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

    /// When a statement reads, if not now.
    pub(super) fn read_time(&self, statement: &Statement) -> Result<Option<Timestamp>, SqlError> {
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
    /// Also, until when it may be used. Waits for a table that is closed, if it is not read in the past.
    pub(super) async fn plan(&self, cached: &Cached) -> Result<(Arc<Planned>, Timestamp), SqlError> {
        let mut waited_ns = 0;
        loop {
            let (planned, valid_until) = self.plan_once(cached).await?;
            let closed = planned.tables.iter().chain(planned.plan.also()).find(|table| table.closed).cloned();
            let Some(table) = closed else {
                return Ok((planned, valid_until));
            };
            if self.read_time(&cached.statement)?.is_some() {
                // Until it is open again its rows are those that it had.
                return Ok((planned, valid_until));
            }
            if waited_ns >= CLOSED_MAX_NS {
                return Err(table.in_steps());
            }
            self.db.engine().sleep(CLOSED_LOOK_NS).await;
            waited_ns += CLOSED_LOOK_NS;
            self.db.load_strong().await?;
        }
    }

    async fn plan_once(&self, cached: &Cached) -> Result<(Arc<Planned>, Timestamp), SqlError> {
        let at = self.read_time(&cached.statement)?;
        // What is read at a given time is planned with the catalog of that time, which never changes.
        let valid_until = |catalog: &Catalog| if at.is_some() { Timestamp::MAX } else { catalog.valid_until() };
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
            return Ok((Arc::clone(planned), valid_until(&catalog)));
        }
        match plan::plan(&cached.statement, &catalog, self.db.queries()) {
            // The table may be new: look again before saying so.
            Err(err) if err.sqlstate == "42P01" && at.is_none() => {
                let catalog = self.db.load_strong().await?;
                plan::plan(&cached.statement, &catalog, self.db.queries())
                    .map(|planned| (Arc::new(planned), valid_until(&catalog)))
            }
            result => result.map(|planned| (Arc::new(planned), valid_until(&catalog))),
        }
    }

    /// Plans and runs, again if the plan has become too old before anything came of it.
    pub(super) async fn plan_and_run<S: Sink>(
        &mut self,
        cached: &Cached,
        params: &[Datum],
        mut sink: Option<&mut S>,
    ) -> Result<(Arc<Planned>, Ran), SqlError> {
        for _ in 0..ATTEMPTS_MAX {
            let (planned, valid_until) = in_time(self.db.engine(), self.deadline, self.plan(cached)).await?;
            let run = self.run_plan(&cached.statement, (&planned, valid_until), params, sink.as_deref_mut());
            if let Some(ran) = run.await? {
                return Ok((planned, ran));
            }
            self.db.load_strong().await?;
        }
        Err(SqlError::new("40001", "could not serialize access: the schema keeps changing")
            .hint("Retry the transaction from its start."))
    }

    /// Runs a plan; `None` if it is too old, and nothing came of it. Without a sink the rows are counted only.
    pub(super) async fn run_plan<S: Sink>(
        &mut self,
        statement: &Statement,
        (planned, valid_until): (&Planned, Timestamp),
        params: &[Datum],
        sink: Option<&mut S>,
    ) -> Result<Option<Ran>, SqlError> {
        let params = convert_params(&planned.params, params)?;
        if let Some(system) = planned.system {
            return self.run_system(planned, system, &params, sink).await.map(Some);
        }
        let given;
        let planned = match planned.plan.query() {
            Some(query) if !query.systems().is_empty() => {
                let rows = self.db.rows_of(query.systems(), &self.settings);
                let rows = in_time(self.db.engine(), self.deadline, rows).await?;
                let mut copy = planned.clone();
                copy.plan.query_mut().expect("it has one").give(rows);
                given = copy;
                &given
            }
            _ => planned,
        };
        let writes = planned.plan.writes();
        let what = verb(&planned.plan);
        let at = self.read_time(statement)?;
        let engine = self.db.engine().clone();
        let (db, drawn) = (self.db.clone(), Arc::clone(&self.drawn));
        // What may have to be run again is kept until it is done.
        let draws = plan::generated::draws(&planned.plan);
        if let Block::Open(open) = &mut self.block {
            for table in planned.tables.iter().chain(planned.plan.also()) {
                open.touched.add(table, valid_until);
            }
            let draw = Draw::new(&db, &drawn, false);
            let sources = Sources { engine: &engine, draw: &draw };
            let context = EvalContext { params: &params, now: open.now, random: &sources };
            let before = open.txn.lock_wait_ns();
            let (direct, later) = if draws { (None, sink) } else { (sink, None) };
            let mut output = if draws { Output::buffer() } else { stream(direct, &planned.columns) };
            open.txn.set_lock_timeout(self.settings.timeout_ns("lock_timeout"));
            let mut reader: Reader<'_, E> = Reader::Txn(&mut open.txn);
            let how = (&engine, self.deadline);
            let result = run_drawing(how, &planned.plan, &context, &mut reader, &mut output, &draw).await;
            let finished = draw.finish(result.is_err()).await;
            let counts = result?;
            finished?;
            finish(output, later, &planned.columns).await?;
            let lock_wait_ns = open.txn.lock_wait_ns() - before;
            return Ok(Some(Ran { counts, commit: None, read_ts: None, lock_wait_ns }));
        }
        if writes && matches!(self.block, Block::ReadOnly(_)) {
            return Err(read_only(what));
        }
        if writes {
            if at.is_some() && self.settings.read_time().is_none() {
                return Err(read_only(what));
            }
            self.refuse_writes(what)?;
            return self.autocommit((planned, valid_until), &params, sink).await;
        }
        let (bound, now) = match &self.block {
            // One group may answer at a time long past, if nothing was written to it since: good for
            // one statement, but the next one may read another group.
            Block::ReadOnly(ReadOnly { bound: ReadBound::Strong, now, .. }) => (ReadBound::At(engine.present()?), *now),
            Block::ReadOnly(block) => (block.bound, block.now),
            _ => (at.map_or(ReadBound::Strong, ReadBound::At), engine.now().latest),
        };
        let read_only = at.is_some() || self.settings.read_only() || matches!(self.block, Block::ReadOnly(_));
        let draw = Draw::new(&db, &drawn, read_only);
        let sources = Sources { engine: &engine, draw: &draw };
        let context = EvalContext { params: &params, now, random: &sources };
        let (direct, later) = if draws { (None, sink) } else { (sink, None) };
        let mut output = if draws { Output::buffer() } else { stream(direct, &planned.columns) };
        let mut reader: Reader<'_, E> = Reader::Snapshot { engine: &engine, bound, valid_until };
        let how = (&engine, self.deadline);
        let result = run_drawing(how, &planned.plan, &context, &mut reader, &mut output, &draw).await;
        let finished = draw.finish(result.is_err()).await;
        let counts = match result {
            Err(Failure::Stale) => return Ok(None),
            counts => counts?,
        };
        finished?;
        let read_ts = reader.read_ts();
        finish(output, later, &planned.columns).await?;
        if let Some(at) = read_ts {
            self.last_read_ts = Some(at);
            if let Block::ReadOnly(block) = &mut self.block {
                block.bound = ReadBound::At(at);
            }
        }
        Ok(Some(Ran { counts, commit: None, read_ts, lock_wait_ns: 0 }))
    }

    /// A read-write statement as a transaction of its own. Its rows are kept until it has committed,
    /// so that it can be tried again.
    async fn autocommit<S: Sink>(
        &mut self,
        (planned, valid_until): (&Planned, Timestamp),
        params: &[Datum],
        sink: Option<&mut S>,
    ) -> Result<Option<Ran>, SqlError> {
        let (db, drawn) = (self.db.clone(), Arc::clone(&self.drawn));
        let draw = Draw::new(&db, &drawn, false);
        let ran = self.tries((planned, valid_until), params, sink, &draw).await;
        let finished = draw.finish(ran.is_err()).await;
        let ran = ran?;
        finished.map(|()| ran)
    }

    async fn tries<S: Sink>(
        &mut self,
        (planned, valid_until): (&Planned, Timestamp),
        params: &[Datum],
        sink: Option<&mut S>,
        draw: &Draw<'_, E>,
    ) -> Result<Option<Ran>, SqlError> {
        let engine = self.db.engine().clone();
        let mut touched = Touched::default();
        for table in planned.tables.iter().chain(planned.plan.also()) {
            touched.add(table, valid_until);
        }
        let sources = Sources { engine: &engine, draw };
        let mut priority = None;
        for attempt in 1.. {
            let mut txn = engine.begin(priority);
            priority = Some(txn.priority());
            draw.again();
            let context = EvalContext { params, now: engine.now().latest, random: &sources };
            let mut output = if sink.is_some() { Output::<S>::buffer() } else { Output::Discard };
            txn.set_lock_timeout(self.settings.timeout_ns("lock_timeout"));
            let mut reader: Reader<'_, E> = Reader::Txn(&mut txn);
            let how = (&engine, self.deadline);
            let counts = match run_drawing(how, &planned.plan, &context, &mut reader, &mut output, draw).await {
                Ok(counts) => counts,
                Err(failure) => {
                    txn.rollback().await;
                    if failure.is_retryable() && attempt < ATTEMPTS_MAX {
                        self.tally.retries += 1;
                        continue;
                    }
                    return Err(failure.into());
                }
            };
            let deadline = match touched.deadline(&self.db).await {
                Ok(Some(deadline)) if engine.now().latest > deadline => {
                    txn.rollback().await;
                    return Ok(None);
                }
                Ok(deadline) => deadline,
                Err(err) => {
                    txn.rollback().await;
                    return Err(err);
                }
            };
            let lock_wait_ns = txn.lock_wait_ns();
            let info = match txn.commit(deadline).await {
                Ok(info) => info,
                Err(txn::client::ClientError::Aborted { retryable: true, .. }) if attempt < ATTEMPTS_MAX => {
                    self.tally.retries += 1;
                    continue;
                }
                Err(err) => return Err(err.into()),
            };
            self.committed(&info);
            if let Some(sink) = sink
                && !planned.columns.is_empty()
            {
                sink.columns(planned.columns.clone()).await?;
                let rows = output.into_rows();
                if !rows.is_empty() {
                    sink.rows(rows).await?;
                }
            }
            return Ok(Some(Ran { counts, commit: Some(info), read_ts: None, lock_wait_ns }));
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

pub(super) fn stream<'a, S: Sink>(sink: Option<&'a mut S>, columns: &[ColumnInfo]) -> Output<'a, S> {
    match sink {
        Some(sink) => Output::Stream { sink, columns: Some(columns.to_vec()) },
        None => Output::Discard,
    }
}

/// Sends what is still to be sent of a result: all of it, if it was kept.
async fn finish<S: Sink>(output: Output<'_, S>, later: Option<&mut S>, columns: &[ColumnInfo]) -> Result<(), SqlError> {
    match later {
        Some(sink) if !columns.is_empty() => send(columns.to_vec(), output.into_rows(), sink).await,
        _ => output.finish().await,
    }
}

fn read_only(what: &str) -> SqlError {
    SqlError::new("25006", format!("cannot execute {what} in a read-only transaction"))
}

fn verb(plan: &Plan) -> &'static str {
    match plan {
        Plan::Select(plan) if plan.lock.is_some() => "SELECT FOR UPDATE",
        Plan::Query(query) if query.takes_locks() => "SELECT FOR UPDATE",
        Plan::Select(_) | Plan::Query(_) => "SELECT",
        Plan::Insert(plan) if plan.upsert => "UPSERT",
        Plan::Insert(_) => "INSERT",
        Plan::Update(_) => "UPDATE",
        Plan::Delete(_) => "DELETE",
    }
}

/// The parameters as the plan wants them: 08P01 for a wrong number, 42804 for a wrong type, 22P02 for
/// a text that is no value of the type.
pub(super) fn convert_params(types: &[DataType], given: &[Datum]) -> Result<Vec<Datum>, SqlError> {
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
