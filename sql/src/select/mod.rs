//! The second path of SELECT: DataFusion runs what the short path does not serve.
//!
//! ```text
//!   ast --check--> ast --DataFusion's planner, rules--> logical plan (kept with the statement)
//!       --parameters, now(), optimiser--> physical plan --stream--> rows
//!                                              |  ^
//!                                     requests v  | pages
//!                                 the session's own Reader (transaction or snapshot)
//! ```
//!
//! A plan's streams are `'static` and may run on other tasks, and a session's transaction is neither
//! shared nor cancelled in the middle of a read. So no table is read where its stream is polled: each
//! scan sends a request through a bounded channel, and [`run`] serves one at a time, to its end, before
//! it polls the result again. See `docs/design/2026-11-30-two-paths.md`.

mod arith;
mod batches;
mod casts;
mod channel;
mod check;
mod errors;
mod extreme;
mod functions;
mod guard;
mod names;
mod outer;
mod provider;
mod pushdown;
mod rewrite;
mod rows;
mod rules;
mod runtime;
mod scan;
mod types;

use std::sync::Arc;

use datafusion::common::ParamValues;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::{ExecutionPlan, displayable, execute_stream};
use sqlparser::ast;
use txn::LockMode;

use crate::SqlError;
use crate::catalog::{Catalog, Table};
use crate::engine::{Engine, ReadBound};
use crate::expr::{EvalContext, Params};
use crate::short::{Counts, Failure, Output, Reader};
use crate::sink::{ColumnInfo, Sink};
use crate::system::{SystemRows, SystemTable};
use crate::types::{DataType, Datum};
use channel::Locks;
pub use guard::tolerates;
use guard::{guarded, guarded_future};
use provider::Planned;
pub use runtime::{Queries, QueryOptions};

/// A query that DataFusion runs.
#[derive(Clone, Debug)]
pub struct Query {
    queries: Queries,
    /// Analysed, with its parameters still in it.
    plan: LogicalPlan,
    parameters: Vec<DataType>,
    columns: Vec<ColumnInfo>,
    tables: Vec<Arc<Table>>,
    systems: Vec<&'static SystemTable>,
    /// The rows of these, once it is about to run.
    system: SystemRows,
    locks: Locks,
}

impl Query {
    /// Plans a query; a statement will write to what it finds in `target`. Learns the types of the parameters that are not known yet.
    pub(crate) fn plan(
        query: &ast::Query,
        catalog: &Catalog,
        queries: &Queries,
        target: Option<&Table>,
        params: &mut Params,
    ) -> Result<Query, SqlError> {
        let checked = check::check(query)?;
        let planned = guarded(|| provider::plan(checked.query, catalog, queries, target, params))??;
        let mut locks = Locks::default();
        for (name, mode) in checked.locks {
            // A name that is no table is a subquery's or a CTE's: those lock by clauses of their own.
            if let Some(table) = planned.tables.iter().find(|table| table.name == name) {
                locks.add(table.id, mode);
            }
        }
        if let Some(target) = target {
            locks.add(target.id, LockMode::Exclusive);
        }
        let columns = names::columns(&planned.plan)?;
        let parameters = params.types.iter().map(|ty| ty.unwrap_or(DataType::Text)).collect();
        let Planned { plan, tables, systems } = planned;
        let system = SystemRows::default();
        Ok(Query { queries: queries.clone(), plan, parameters, columns, tables, systems, system, locks })
    }

    /// The columns of its rows.
    pub(crate) fn columns(&self) -> &[ColumnInfo] {
        &self.columns
    }

    /// The columns of its rows, each with the name of its table, if it is of one.
    pub(crate) fn output(&self) -> Vec<(Option<String>, ColumnInfo)> {
        let tables = self.plan.schema().iter().map(|(table, _)| table.map(|table| table.table().to_string()));
        tables.zip(self.columns.iter().cloned()).collect()
    }

    /// The tables that it reads.
    pub(crate) fn tables(&self) -> &[Arc<Table>] {
        &self.tables
    }

    /// The system tables that it reads: their rows must be given before it runs.
    pub(crate) fn systems(&self) -> &[&'static SystemTable] {
        &self.systems
    }

    /// Gives the rows of its system tables, for one run.
    pub(crate) fn give(&mut self, rows: SystemRows) {
        self.system = rows;
    }

    /// Whether it says FOR UPDATE or FOR SHARE, and so needs a read-write transaction.
    pub(crate) fn takes_locks(&self) -> bool {
        !self.locks.is_empty()
    }

    /// The plan for one run.
    async fn physical(&self, context: &EvalContext<'_>) -> Result<Arc<dyn ExecutionPlan>, SqlError> {
        let mut plan = self.plan.clone();
        if !self.parameters.is_empty() {
            let values = self.parameters.iter().zip(context.params);
            let scalars = values.map(|(ty, datum)| types::scalar(datum, *ty)).collect::<Result<Vec<_>, _>>()?;
            plan = plan.replace_params_with_values(&ParamValues::from(scalars)).map_err(errors::sql)?;
        }
        let plan = guarded(|| self.queries.optimize(plan, context.now))?.map_err(errors::sql)?;
        guarded_future(self.queries.physical(&plan)).await?.map_err(errors::sql)
    }
}

/// Runs a query: its rows go to the output.
pub(crate) async fn run<E: Engine, S: Sink>(
    query: &Query,
    context: &EvalContext<'_>,
    reader: &mut Reader<'_, E>,
    output: &mut Output<'_, S>,
) -> Result<Counts, Failure> {
    // A group alone may choose a timestamp that is the present for its own data only.
    if let Reader::Snapshot { engine, bound, .. } = reader
        && *bound == ReadBound::Strong
        && !query.tables.is_empty()
    {
        *bound = ReadBound::At(engine.present()?);
    }
    let physical = query.physical(context).await?;
    let (handle, requests) = channel::open(query.locks.clone(), query.system.clone());
    let stream = guarded(|| execute_stream(physical, query.queries.task(handle)))?.map_err(errors::sql)?;
    let columns: Vec<DataType> = query.columns.iter().map(|column| column.ty).collect();
    channel::drive(stream, requests, &columns, reader, output).await
}

/// Its operators, one line each, for EXPLAIN.
pub(crate) async fn explain(query: &Query, context: &EvalContext<'_>) -> Result<Vec<String>, SqlError> {
    // Without values, the parameters stay in the plan as they are.
    let physical = if query.parameters.len() == context.params.len() {
        query.physical(context).await?
    } else {
        let nulls = vec![Datum::Null; query.parameters.len()];
        query.physical(&EvalContext { params: &nulls, ..*context }).await?
    };
    let text = displayable(physical.as_ref()).indent(false).to_string();
    Ok(text.lines().map(str::to_string).collect())
}
