//! Tables as DataFusion reads them.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Constraint, Constraints, DFSchema};
use datafusion::config::ConfigOptions;
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr as PlanExpr, TableProviderFilterPushDown, TableType};
use datafusion::physical_expr::expressions::Column as PhysicalColumn;
use datafusion::physical_expr::{EquivalenceProperties, Partitioning, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_expr_common::physical_expr::{snapshot_generation, snapshot_physical_expr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::filter_pushdown::{
    ChildPushdownResult, FilterPushdownPhase, FilterPushdownPropagation, PushedDown,
};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::stream;
use truetime::Timestamp;

use super::channel::{Handle, Rest};
use super::functions::NoRandom;
use super::{batches, errors, pushdown, types};
use crate::catalog::Table;
use crate::entry::Layout;
use crate::expr::{EvalContext, Expr};
use crate::plan::Scan;
use crate::plan::access::{self, Access};
use crate::plan::index::{self, Wishes};
use crate::short::{Pages, RowScanner};
use crate::types::Datum;

/// Expressions of a scan are constants.
pub(super) const CONSTANTS: EvalContext<'static> = EvalContext { params: &[], now: Timestamp::ZERO, random: &NoRandom };

/// A table in a plan: it says what there is, and holds nothing of a run.
#[derive(Debug)]
pub(super) struct TableScan {
    table: Arc<Table>,
    /// Those of the table that the query may name, by their indexes.
    columns: Vec<usize>,
    schema: SchemaRef,
    constraints: Constraints,
}

impl TableScan {
    /// The key of a table that was declared without one is hidden, but from who writes what it finds.
    pub(super) fn new(table: Arc<Table>, with_hidden: bool) -> TableScan {
        let columns: Vec<usize> =
            (0..table.columns.len()).filter(|column| with_hidden || !table.columns[*column].is_hidden()).collect();
        // Only a key is surely without NULLs in every row that was ever written.
        let field = |column: &usize| types::field(&table.columns[*column], table.key_position(*column).is_none());
        let schema = Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()));
        let place = |column: usize| columns.iter().position(|shown| *shown == column);
        let key: Option<Vec<usize>> = table.key.iter().map(|part| place(part.column)).collect();
        let constraints = Constraints::new_unverified(key.map(Constraint::PrimaryKey).into_iter().collect());
        TableScan { columns, schema, constraints, table }
    }
}

#[async_trait]
impl TableProvider for TableScan {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn constraints(&self) -> Option<&Constraints> {
        Some(&self.constraints)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&PlanExpr],
    ) -> Result<Vec<TableProviderFilterPushDown>, DataFusionError> {
        let conditions: Vec<Option<Expr>> =
            filters.iter().map(|filter| pushdown::condition(&self.table, filter)).collect();
        let mut left: Vec<Expr> = conditions.iter().flatten().cloned().collect();
        access::choose(&Layout::primary(&self.table), &mut left);
        Ok(conditions
            .into_iter()
            .map(|condition| match condition {
                None => TableProviderFilterPushDown::Unsupported,
                // An index may know it.
                Some(condition) if left.contains(&condition) => TableProviderFilterPushDown::Inexact,
                Some(_) => TableProviderFilterPushDown::Exact,
            })
            .collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[PlanExpr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        let shown: Vec<usize> = match projection {
            Some(shown) => shown.clone(),
            None => (0..self.columns.len()).collect(),
        };
        let mut conditions = Vec::with_capacity(filters.len());
        let mut others = Vec::new();
        for filter in filters {
            match pushdown::condition(&self.table, filter) {
                Some(condition) => conditions.push(condition),
                // It was accepted in another form, before the optimiser wrote it anew.
                None => others.push(filter.clone()),
            }
        }
        let Some(rest) = others.into_iter().reduce(PlanExpr::and) else {
            return Ok(Arc::new(ScanExec::new(self, &shown, conditions, limit)?));
        };
        let all: Vec<usize> = (0..self.columns.len()).collect();
        let scan = Arc::new(ScanExec::new(self, &all, conditions, None)?);
        let rest = state.create_physical_expr(rest, &DFSchema::try_from(self.schema())?)?;
        let filter = Arc::new(FilterExec::try_new(rest, scan)?);
        let column = |shown: usize| {
            let name = self.schema.field(shown).name();
            let expr: Arc<dyn PhysicalExpr> = Arc::new(PhysicalColumn::new(name, shown));
            (expr, name.clone())
        };
        Ok(Arc::new(ProjectionExec::try_new(shown.into_iter().map(column), filter)?))
    }
}

/// Reading some columns of some rows of a table, by its key or by an index.
#[derive(Clone, Debug)]
struct ScanExec {
    /// How, as far as is known before it begins.
    chosen: Arc<Scan>,
    columns: Vec<usize>,
    /// What must hold for a row.
    conditions: Vec<Expr>,
    limit: Option<usize>,
    /// What joins above will have learned of their other side when the scan begins.
    learned: Vec<Arc<dyn PhysicalExpr>>,
    properties: Arc<PlanProperties>,
}

impl ScanExec {
    fn new(
        of: &TableScan,
        shown: &[usize],
        conditions: Vec<Expr>,
        limit: Option<usize>,
    ) -> Result<ScanExec, DataFusionError> {
        let table = &of.table;
        let schema = Arc::new(of.schema.project(shown)?);
        let columns: Vec<usize> = shown.iter().map(|shown| of.columns[*shown]).collect();
        let chosen = choose(table, &columns, conditions.clone(), None)?;
        // What is read by an index has an order too, but no promise is made of it.
        let orderings = match &chosen.index {
            None => orderings(table, &chosen.access, &columns),
            Some(_) => Vec::new(),
        };
        let properties = PlanProperties::new(
            EquivalenceProperties::new_with_orderings(schema, orderings),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        let (chosen, properties) = (Arc::new(chosen), Arc::new(properties));
        Ok(ScanExec { chosen, columns, conditions, limit, learned: Vec::new(), properties })
    }
}

/// The best way to the rows for which these hold; `by` is the name of the index, or of the primary key, that it must be.
fn choose(
    table: &Arc<Table>,
    columns: &[usize],
    conditions: Vec<Expr>,
    by: Option<&str>,
) -> Result<Scan, DataFusionError> {
    let needed = Some(columns.iter().copied().collect());
    let wishes = Wishes { hint: by, needed, order: None, limited: false };
    Ok(index::choose(table, conditions, &wishes).map_err(errors::wrap)?.scan)
}

/// The orders that rows in the order of the key have: that of the key, and without its first columns
/// as far as these have one value.
fn orderings(table: &Table, access: &Access, columns: &[usize]) -> Vec<Vec<PhysicalSortExpr>> {
    let fixed = match access {
        Access::Keys { prefix, .. } => prefix.iter().take_while(|values| values.is_single()).count(),
        Access::Full => 0,
    };
    let order = |from: usize| -> Vec<PhysicalSortExpr> {
        table.key[from..]
            .iter()
            .map_while(|part| {
                let index = columns.iter().position(|column| *column == part.column)?;
                let name = &table.columns[part.column].name;
                let expr: Arc<dyn PhysicalExpr> = Arc::new(PhysicalColumn::new(name, index));
                let options = SortOptions { descending: part.desc, nulls_first: part.desc };
                Some(PhysicalSortExpr { expr, options })
            })
            .collect()
    };
    let mut all = vec![order(0)];
    if fixed > 0 {
        all.push(order(fixed));
    }
    all.retain(|order| !order.is_empty());
    all
}

impl DisplayAs for ScanExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Scan { table, layout, access, index, .. } = &*self.chosen;
        let by = index.as_ref().map_or_else(String::new, |index| format!("@{}", index.name));
        f.write_str(&crate::explain::scan_line(table, layout, access, &by))?;
        if let Some(index) = index {
            f.write_str(if index.covering { "  covering" } else { "  index join" })?;
        }
        let names: Vec<&str> = self.columns.iter().map(|column| table.columns[*column].name.as_str()).collect();
        write!(f, "  columns: {}", if names.is_empty() { "none".into() } else { names.join(", ") })?;
        if let Some(limit) = self.limit {
            write!(f, "  limit: {limit}")?;
        }
        if !self.learned.is_empty() {
            f.write_str("  dynamic")?;
        }
        Ok(())
    }
}

impl ExecutionPlan for ScanExec {
    fn name(&self) -> &str {
        "ScanExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion, DataFusionError>,
    ) -> Result<TreeNodeRecursion, DataFusionError> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn handle_child_pushdown_result(
        &self,
        phase: FilterPushdownPhase,
        result: ChildPushdownResult,
        _: &ConfigOptions,
    ) -> Result<FilterPushdownPropagation<Arc<dyn ExecutionPlan>>, DataFusionError> {
        let filters = result.parent_filters.into_iter().map(|parent| parent.filter);
        // Constant conditions came with `scan`. No promise is made for these: who asks checks again.
        let learned: Vec<_> = filters.clone().filter(|filter| snapshot_generation(filter) != 0).collect();
        let none = filters.map(|_| PushedDown::No).collect();
        let updated = (phase == FilterPushdownPhase::Post && !learned.is_empty())
            .then(|| Arc::new(ScanExec { learned, ..self.clone() }) as Arc<dyn ExecutionPlan>);
        Ok(FilterPushdownPropagation { filters: none, updated_node: updated })
    }

    fn with_new_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        Ok(self)
    }

    fn execute(&self, _: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream, DataFusionError> {
        let handle = context
            .session_config()
            .get_extension::<Handle>()
            .ok_or_else(|| DataFusionError::Internal("a scan runs outside of a session".into()))?;
        let reading = Reading { handle, scan: self.clone(), at: At::Start };
        let batches = stream::try_unfold(reading, Reading::next);
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), batches)))
    }
}

/// A scan on its way.
struct Reading {
    handle: Arc<Handle>,
    scan: ScanExec,
    at: At,
}

enum At {
    Start,
    Rest(Box<Rest>),
    End,
}

impl Reading {
    /// Chooses the keys: a join has read its other side by now, and knows which ones it wants.
    fn start(&mut self) -> Result<Rest, DataFusionError> {
        let ScanExec { chosen, columns, conditions, limit, learned, .. } = &self.scan;
        let table = &chosen.table;
        let mut conditions = conditions.clone();
        for expr in learned {
            let now = snapshot_physical_expr(Arc::clone(expr))?;
            pushdown::learned(table, columns, &now, &mut conditions);
        }
        let primary = table.key_name();
        let by = chosen.index.as_ref().map_or(primary.as_str(), |index| &index.name);
        // What the keys do not settle is checked here: what one pass of the optimiser pushed down may meet what another
        // one did.
        let scan = choose(table, columns, conditions, Some(by))?;
        let mut wanted = vec![false; table.columns.len()];
        columns.iter().for_each(|column| wanted[*column] = true);
        if let Some(filter) = &scan.filter {
            filter.walk(&mut |expr| {
                if let Expr::Column(column) = expr {
                    wanted[*column] = true;
                }
            });
        }
        let pages = match limit {
            Some(limit) if scan.filter.is_none() => Pages::Exactly(*limit as u64),
            // Somebody above may stop early, and in a transaction each page is locks.
            _ => Pages::Growing,
        };
        let mode = self.handle.locks.of(table.id);
        let rest = RowScanner::new(Arc::new(scan), &CONSTANTS, pages, mode).map_err(errors::wrap)?;
        Ok(rest.wanted(wanted))
    }

    async fn next(mut self) -> Result<Option<(RecordBatch, Reading)>, DataFusionError> {
        loop {
            let rest = match std::mem::replace(&mut self.at, At::End) {
                At::Start => self.start()?,
                At::Rest(rest) => *rest,
                At::End => return Ok(None),
            };
            let (rest, rows) = self.handle.next(rest).await?;
            let Some(rows) = rows else { return Ok(None) };
            self.at = At::Rest(Box::new(rest));
            if !rows.is_empty() {
                let rows: Vec<&[Datum]> = rows.iter().map(|found| found.row.as_slice()).collect();
                let batch = batches::batch(&self.scan.schema(), &self.scan.columns, &rows);
                return Ok(Some((batch.map_err(errors::wrap)?, self)));
            }
        }
    }
}
