//! Tables as DataFusion reads them.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::arrow::record_batch::{RecordBatch, RecordBatchOptions};
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
use txn::Row;

use super::channel::Handle;
use super::functions::NoRandom;
use super::{batches, errors, pushdown, types};
use crate::SqlError;
use crate::catalog::Table;
use crate::entry::Layout;
use crate::expr::{EvalContext, Expr, is_true};
use crate::plan::access::{self, Access};
use crate::row;
use crate::short::{Pages, Scanner};

/// Expressions of a scan are constants.
const CONSTANTS: EvalContext<'static> = EvalContext { params: &[], now: Timestamp::ZERO, random: &NoRandom };

/// A table in a plan: it says what there is, and holds nothing of a run.
#[derive(Debug)]
pub(super) struct TableScan {
    table: Arc<Table>,
    /// Those of the table that the query may name, by their indexes.
    columns: Vec<usize>,
    layout: Layout,
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
        TableScan { layout: Layout::primary(&table), columns, schema, constraints, table }
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
        access::choose(&self.layout, &mut left);
        Ok(conditions
            .into_iter()
            .map(|condition| match condition {
                Some(condition) if !left.contains(&condition) => TableProviderFilterPushDown::Exact,
                _ => TableProviderFilterPushDown::Unsupported,
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

/// Reading some columns of some rows of a table, in the order of its key.
#[derive(Clone, Debug)]
struct ScanExec {
    table: Arc<Table>,
    layout: Layout,
    columns: Vec<usize>,
    /// What must hold for a row.
    conditions: Vec<Expr>,
    access: Access,
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
        let (table, layout, schema) = (Arc::clone(&of.table), of.layout.clone(), &of.schema);
        let access = access::choose(&layout, &mut conditions.clone());
        let schema = Arc::new(schema.project(shown)?);
        let columns: Vec<usize> = shown.iter().map(|shown| of.columns[*shown]).collect();
        let orderings = orderings(&table, &access, &columns);
        let properties = PlanProperties::new(
            EquivalenceProperties::new_with_orderings(schema, orderings),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        let properties = Arc::new(properties);
        Ok(ScanExec { table, layout, columns, conditions, access, limit, learned: Vec::new(), properties })
    }
}

/// The orders that rows in the order of the key have: that of the key, and without its first columns
/// as far as these have one value.
fn orderings(table: &Table, access: &Access, columns: &[usize]) -> Vec<Vec<PhysicalSortExpr>> {
    let fixed = match access {
        Access::Keys { prefix, .. } => prefix.iter().take_while(|values| values.len() == 1).count(),
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
        f.write_str(&crate::explain::scan_line(&self.table, &self.layout, &self.access, ""))?;
        let names: Vec<&str> = self.columns.iter().map(|column| self.table.columns[*column].name.as_str()).collect();
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
        let reading = Reading { handle, scan: self.clone(), at: At::Start, filter: None, wanted: Vec::new() };
        let batches = stream::try_unfold(reading, Reading::next);
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), batches)))
    }
}

/// A scan on its way.
struct Reading {
    handle: Arc<Handle>,
    scan: ScanExec,
    at: At,
    /// What the choice of keys did not settle.
    filter: Option<Expr>,
    /// The columns to decode.
    wanted: Vec<bool>,
}

enum At {
    Start,
    Page(Scanner),
    End,
}

impl Reading {
    /// Chooses the keys: a join has read its other side by now, and knows which ones it wants.
    fn start(&mut self) -> Result<Scanner, DataFusionError> {
        let scan = &self.scan;
        let mut conditions = scan.conditions.clone();
        for expr in &scan.learned {
            let now = snapshot_physical_expr(Arc::clone(expr))?;
            pushdown::learned(&scan.table, &scan.columns, &now, &mut conditions);
        }
        let access = access::choose(&scan.layout, &mut conditions);
        let spans = access.spans(&scan.layout, &CONSTANTS).map_err(errors::wrap)?;
        // What one pass of the optimiser pushed down may meet what another did: the rest is checked here.
        self.wanted = (0..scan.table.columns.len()).map(|column| scan.columns.contains(&column)).collect();
        for condition in &conditions {
            condition.walk(&mut |expr| {
                if let Expr::Column(column) = expr {
                    self.wanted[*column] = true;
                }
            });
        }
        self.filter = (!conditions.is_empty()).then_some(Expr::And(conditions));
        let pages = match scan.limit {
            Some(limit) if self.filter.is_none() => Pages::Exactly(limit as u64),
            // Somebody above may stop early, and in a transaction each page is locks.
            _ => Pages::Growing,
        };
        Ok(Scanner::new(spans, false, pages, self.handle.locks.of(scan.table.id)))
    }

    async fn next(mut self) -> Result<Option<(RecordBatch, Reading)>, DataFusionError> {
        loop {
            let scanner = match std::mem::replace(&mut self.at, At::End) {
                At::Start => self.start()?,
                At::Page(scanner) => scanner,
                At::End => return Ok(None),
            };
            let (scanner, page) = self.handle.next(scanner).await?;
            let Some(page) = page else { return Ok(None) };
            self.at = At::Page(scanner);
            let batch = self.batch(&page).map_err(errors::wrap)?;
            if batch.num_rows() > 0 {
                return Ok(Some((batch, self)));
            }
        }
    }

    fn batch(&self, page: &[Row]) -> Result<RecordBatch, SqlError> {
        let ScanExec { table, columns, .. } = &self.scan;
        let mut rows = Vec::with_capacity(page.len());
        for stored in page {
            let row = row::decode_wanted(table, &stored.key, &stored.value, Some(&self.wanted))?;
            let keep = match &self.filter {
                Some(filter) => is_true(filter, &row, &CONSTANTS)?,
                None => true,
            };
            if keep {
                rows.push(row);
            }
        }
        let schema = self.scan.schema();
        let arrays = columns
            .iter()
            .zip(schema.fields())
            .map(|(column, field)| batches::array(field.data_type(), rows.iter().map(|row| &row[*column])))
            .collect::<Result<_, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        RecordBatch::try_new_with_options(schema, arrays, &options)
            .map_err(|err| SqlError::new("XX000", err.to_string()))
    }
}
