//! What the queries of a node share: memory, the folder to spill to, functions and rules.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use datafusion::common::alias::AliasGenerator;
use datafusion::config::ConfigOptions;
use datafusion::error::DataFusionError;
use datafusion::execution::FunctionRegistry;
use datafusion::execution::SessionStateDefaults;
use datafusion::execution::TaskContext;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::logical_expr::planner::ExprPlanner;
use datafusion::optimizer::OptimizerConfig;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{DefaultPhysicalPlanner, PhysicalPlanner};
use datafusion::prelude::SessionConfig;
use truetime::Timestamp;

use super::channel::Handle;
use super::{functions, rules};
use crate::SqlError;

/// The memory of all queries of a node if nothing else is said, in bytes.
pub const QUERY_BYTES_MAX: usize = 256 << 20;
/// The most bytes of the files that queries spill to.
const SPILL_BYTES_MAX: u64 = 64 << 30;
/// Rows of a batch.
pub(super) const BATCH_ROWS: usize = 4096;
/// Of a sort that spills, for merging: small, because the pool is.
const SORT_RESERVATION_BYTES: usize = 1 << 20;
/// How many consumers of memory the message of an exhausted pool names.
const CONSUMERS_NAMED: NonZeroUsize = NonZeroUsize::new(3).expect("3 is not 0");

/// How much the queries of a node may take.
#[derive(Clone, Debug)]
pub struct QueryOptions {
    /// The memory of all of them together, in bytes.
    pub memory_bytes: usize,
    /// A folder of their own for what does not fit; without one, such a query fails with 53200.
    pub spill: Option<PathBuf>,
}

impl Default for QueryOptions {
    fn default() -> Self {
        QueryOptions { memory_bytes: QUERY_BYTES_MAX, spill: None }
    }
}

/// What the queries of a node share. Cheap to clone.
#[derive(Clone)]
pub struct Queries(Arc<Shared>);

struct Shared {
    state: SessionState,
    runtime: Arc<RuntimeEnv>,
}

impl std::fmt::Debug for Queries {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queries").field("memory", &self.0.runtime.memory_pool).finish_non_exhaustive()
    }
}

/// What the optimiser asks for in one run of a query.
struct Run<'a> {
    state: &'a SessionState,
    now: chrono::DateTime<chrono::Utc>,
    aliases: Arc<AliasGenerator>,
}

impl OptimizerConfig for Run<'_> {
    fn query_execution_start_time(&self) -> Option<chrono::DateTime<chrono::Utc>> {
        Some(self.now)
    }

    fn alias_generator(&self) -> &Arc<AliasGenerator> {
        &self.aliases
    }

    fn options(&self) -> Arc<ConfigOptions> {
        Arc::clone(self.state.config_options())
    }

    fn function_registry(&self) -> Option<&dyn FunctionRegistry> {
        Some(self.state)
    }
}

fn config() -> SessionConfig {
    let mut options = ConfigOptions::new();
    options.catalog.create_default_catalog_and_schema = false;
    options.sql_parser.dialect = datafusion::config::Dialect::PostgreSQL;
    options.sql_parser.parse_float_as_decimal = true;
    options.sql_parser.map_string_types_to_utf8view = false;
    options.sql_parser.default_null_ordering = "nulls_max".into();
    options.sql_parser.enable_subquery_sort_elimination = false;
    // Nothing is cut into parallel parts. One session's task reads for all scans of a query, one request
    // after the other, so more partitions would only shuffle rows between tasks; and a node's cores are
    // shared by the queries of all its sessions anyway.
    options.execution.target_partitions = 1;
    options.execution.planning_concurrency = 1;
    options.execution.sort_spill_reservation_bytes = SORT_RESERVATION_BYTES;
    options.execution.time_zone = Some("+00:00".into());
    // A rule that fails is a bug to be seen, not to be passed over.
    options.optimizer.skip_failed_rules = false;
    // It panics for floats (DataFusion 55.2, aggregates/topk/hash_table.rs).
    options.optimizer.enable_topk_aggregation = false;
    options.explain.physical_plan_only = true;
    SessionConfig::from(options).with_batch_size(BATCH_ROWS)
}

impl Default for Queries {
    fn default() -> Self {
        Queries::new(&QueryOptions::default()).expect("without a folder nothing can fail")
    }
}

impl Queries {
    /// With its own memory. Fails if the folder cannot be used.
    pub fn new(options: &QueryOptions) -> Result<Queries, SqlError> {
        let pool = TrackConsumersPool::new(FairSpillPool::new(options.memory_bytes), CONSUMERS_NAMED);
        let mode = match &options.spill {
            Some(folder) => DiskManagerMode::Directories(vec![folder.clone()]),
            None => DiskManagerMode::Disabled,
        };
        let disk = DiskManagerBuilder::default().with_mode(mode).with_max_temp_directory_size(SPILL_BYTES_MAX);
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(pool))
            .with_disk_manager_builder(disk)
            .build_arc()
            .map_err(super::errors::sql)?;
        let mut scalars = SessionStateDefaults::default_scalar_functions();
        // Later ones of a name replace earlier ones.
        scalars.extend(functions::scalars());
        let mut planners: Vec<Arc<dyn ExprPlanner>> = vec![Arc::new(functions::OurExpressions)];
        planners.extend(SessionStateDefaults::default_expr_planners());
        let state = SessionStateBuilder::new()
            .with_config(config())
            .with_runtime_env(Arc::clone(&runtime))
            .with_expr_planners(planners)
            .with_scalar_functions(scalars)
            .with_aggregate_functions(SessionStateDefaults::default_aggregate_functions())
            .with_window_functions(SessionStateDefaults::default_window_functions())
            .with_table_function_list(SessionStateDefaults::default_table_functions())
            .with_analyzer_rules(rules::analyzer())
            .build();
        Ok(Queries(Arc::new(Shared { state, runtime })))
    }

    pub(super) fn state(&self) -> &SessionState {
        &self.0.state
    }

    /// Names resolved and types brought together.
    pub(super) fn analyze(&self, plan: LogicalPlan) -> Result<LogicalPlan, DataFusionError> {
        let options = self.0.state.config_options();
        self.0.state.analyzer().execute_and_check(plan, options, |_, _| {})
    }

    /// For one run, in which it is `now`.
    pub(super) fn optimize(&self, plan: LogicalPlan, now: Timestamp) -> Result<LogicalPlan, DataFusionError> {
        let run = Run {
            state: &self.0.state,
            now: chrono::DateTime::from_timestamp_nanos(now.as_nanos()),
            aliases: Arc::new(AliasGenerator::new()),
        };
        self.0.state.optimizer().optimize(plan, &run, |_, _| {})
    }

    pub(super) async fn physical(&self, plan: &LogicalPlan) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        DefaultPhysicalPlanner::default().create_physical_plan(plan, &self.0.state).await
    }

    /// What the operators of one run find their surroundings in.
    pub(super) fn task(&self, handle: Handle) -> Arc<TaskContext> {
        let config = self.0.state.config().clone().with_extension(Arc::new(handle));
        let runtime = Arc::clone(&self.0.runtime);
        // Plans hold their functions themselves: nothing is looked up by name any more.
        Arc::new(TaskContext::new(
            None,
            String::new(),
            config,
            Default::default(),
            Default::default(),
            Default::default(),
            Default::default(),
            runtime,
        ))
    }
}
