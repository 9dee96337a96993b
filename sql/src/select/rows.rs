//! System tables as DataFusion reads them: their rows are computed before the query runs, and are those of that moment.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_expr::{EquivalenceProperties, Partitioning, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::stream;

use super::channel::Handle;
use super::runtime::BATCH_ROWS;
use super::{batches, errors, types};
use crate::system::SystemTable;
use crate::types::Datum;

/// A system table in a plan.
#[derive(Debug)]
pub(super) struct SystemScan {
    table: &'static SystemTable,
    schema: SchemaRef,
}

impl SystemScan {
    pub(super) fn new(table: &'static SystemTable) -> SystemScan {
        let columns = table.table();
        let fields: Vec<_> = columns.columns.iter().map(|column| types::field(column, true)).collect();
        SystemScan { table, schema: Arc::new(Schema::new(fields)) }
    }
}

#[async_trait]
impl TableProvider for SystemScan {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        let columns = projection.cloned().unwrap_or_else(|| (0..self.schema.fields().len()).collect());
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::new(self.schema.project(&columns)?)),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Ok(Arc::new(RowsExec { table: self.table, columns, properties: Arc::new(properties) }))
    }
}

/// Some columns of all rows of a system table.
#[derive(Clone, Debug)]
struct RowsExec {
    table: &'static SystemTable,
    columns: Vec<usize>,
    properties: Arc<PlanProperties>,
}

impl DisplayAs for RowsExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Rows of {}.{}", self.table.schema, self.table.name)
    }
}

impl ExecutionPlan for RowsExec {
    fn name(&self) -> &str {
        "RowsExec"
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

    fn with_new_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        Ok(self)
    }

    fn execute(&self, _: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream, DataFusionError> {
        let outside = || DataFusionError::Internal("a system table is read outside of a session".into());
        let handle = context.session_config().get_extension::<Handle>().ok_or_else(outside)?;
        let rows = handle.system.of(self.table).ok_or_else(outside)?;
        let rows: Vec<&[Datum]> = rows.iter().map(Vec::as_slice).collect();
        let batch = |rows| batches::batch(&self.schema(), &self.columns, rows).map_err(errors::wrap);
        let batches = rows.chunks(BATCH_ROWS).map(batch);
        let batches: Vec<Result<RecordBatch, DataFusionError>> = batches.collect();
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), stream::iter(batches))))
    }
}
