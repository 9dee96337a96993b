//! From a checked query to a logical plan: names are those of our catalog and of our functions.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::arrow::datatypes::{DataType as ArrowType, FieldRef, SchemaRef};
use datafusion::catalog::TableFunctionArgs;
use datafusion::catalog::cte_worktable::CteWorkTable;
use datafusion::common::datatype::DataTypeExt;
use datafusion::common::{DFSchema, TableReference};
use datafusion::config::ConfigOptions;
use datafusion::datasource::provider_as_source;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::planner::{ContextProvider, ExprPlanner, TypePlanner};
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{AggregateUDF, Expr, HigherOrderUDF, LogicalPlan, ScalarUDF, TableSource, WindowUDF};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::sql::planner::{ParserOptions, PlannerContext, SqlToRel};
use sqlparser::ast;

use super::runtime::Queries;
use super::scan::TableScan;
use super::{errors, types};
use crate::SqlError;
use crate::catalog::{Catalog, Table, undefined_table};
use crate::expr::Params;
use crate::plan::index::HINT;
use crate::system;

/// A planned query.
pub(super) struct Planned {
    /// Analysed.
    pub(super) plan: LogicalPlan,
    /// The tables in it.
    pub(super) tables: Vec<Arc<Table>>,
}

/// Plans a query that was checked. Learns the types of its parameters.
pub(super) fn plan(
    query: ast::Query,
    catalog: &Catalog,
    queries: &Queries,
    params: &mut Params,
) -> Result<Planned, SqlError> {
    let names = Names { catalog, queries, used: Mutex::default() };
    let count = placeholders(&query)?;
    if params.types.len() < count {
        params.types.resize(count, None);
    }
    let mut first = logical(&query, &names, params).map_err(errors::sql)?;
    if params.types.iter().any(Option::is_none) {
        // What stands beside a parameter says its type; what nothing determines is text.
        let found = first.get_parameter_types().map_err(errors::sql)?;
        for (index, ty) in params.types.iter_mut().enumerate().filter(|(_, ty)| ty.is_none()) {
            *ty = match found.get(&format!("${}", index + 1)) {
                Some(Some(found)) => Some(types::sql_type(found)?),
                _ => Some(crate::types::DataType::Text),
            };
        }
        first = logical(&query, &names, params).map_err(errors::sql)?;
    }
    let plan = queries.analyze(first).map_err(errors::sql)?;
    let used = names.used.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(Planned { plan, tables: used.into_values().collect() })
}

fn logical(query: &ast::Query, names: &Names<'_>, params: &Params) -> Result<LogicalPlan, DataFusionError> {
    let fields: Vec<Option<FieldRef>> =
        params.types.iter().map(|ty| ty.map(|ty| types::arrow_type(ty).into_nullable_field_ref())).collect();
    let options = ParserOptions::from(&names.options().sql_parser);
    let mut context = PlannerContext::new().with_prepare_param_data_types(fields);
    let statement = ast::Statement::Query(Box::new(query.clone()));
    SqlToRel::new_with_options(names, options).sql_statement_to_plan_with_context(statement, &mut context)
}

/// The number of the last parameter of a query.
fn placeholders(query: &ast::Query) -> Result<usize, SqlError> {
    let mut count = 0;
    let found = ast::visit_expressions(query, |expr| {
        if let ast::Expr::Value(value) = expr
            && let ast::Value::Placeholder(name) = &value.value
        {
            match name.strip_prefix('$').and_then(|digits| digits.parse::<usize>().ok()) {
                Some(number) if (1..=crate::expr::bind::PARAMS_MAX).contains(&number) => count = count.max(number),
                _ => return std::ops::ControlFlow::Break(name.clone()),
            }
        }
        std::ops::ControlFlow::Continue(())
    });
    match found {
        std::ops::ControlFlow::Break(name) => Err(SqlError::new("42P02", format!("there is no parameter {name}"))),
        std::ops::ControlFlow::Continue(()) => Ok(count),
    }
}

/// What names mean in one statement.
struct Names<'a> {
    catalog: &'a Catalog,
    queries: &'a Queries,
    /// The tables that were looked up, by id.
    used: Mutex<BTreeMap<u32, Arc<Table>>>,
}

impl ContextProvider for Names<'_> {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>, DataFusionError> {
        let table = match &name {
            TableReference::Bare { table } => table,
            TableReference::Partial { schema, table } if &**schema == "public" => table,
            TableReference::Partial { schema, .. } if system::SCHEMAS.contains(&&**schema) => {
                return Err(errors::wrap(SqlError::unsupported("a system table in a query of this kind")));
            }
            TableReference::Partial { schema, .. } => {
                return Err(errors::wrap(SqlError::new("3F000", format!("schema \"{schema}\" does not exist"))));
            }
            TableReference::Full { .. } => {
                return Err(errors::wrap(SqlError::unsupported("a reference to another database")));
            }
        };
        if table.contains(HINT) {
            return Err(errors::wrap(SqlError::unsupported("an index hint in a query of this kind")));
        }
        let found = self.catalog.table(table).ok_or_else(|| errors::wrap(undefined_table(table)))?;
        self.used.lock().unwrap_or_else(PoisonError::into_inner).insert(found.id, Arc::clone(found));
        Ok(provider_as_source(Arc::new(TableScan::new(Arc::clone(found)))))
    }

    fn get_table_function_source(&self, name: &str, args: Vec<Expr>) -> Result<Arc<dyn TableSource>, DataFusionError> {
        let state = self.queries.state();
        let function = state
            .table_functions()
            .get(name)
            .ok_or_else(|| errors::wrap(SqlError::unsupported(format!("the function {name} in FROM"))))?;
        let context = SimplifyContext::builder().with_config_options(Arc::clone(state.config_options())).build();
        let simplifier = ExprSimplifier::new(context);
        let schema = DFSchema::empty();
        let args = args
            .into_iter()
            .map(|arg| simplifier.coerce(arg, &schema).and_then(|arg| simplifier.simplify(arg)))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(provider_as_source(function.create_table_provider_with_args(TableFunctionArgs::new(&args, state))?))
    }

    fn create_cte_work_table(&self, name: &str, schema: SchemaRef) -> Result<Arc<dyn TableSource>, DataFusionError> {
        Ok(provider_as_source(Arc::new(CteWorkTable::new(name, schema))))
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        self.queries.state().expr_planners()
    }

    fn get_type_planner(&self) -> Option<Arc<dyn TypePlanner>> {
        Some(Arc::new(Types))
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.queries.state().scalar_functions().get(name).cloned()
    }

    fn get_higher_order_meta(&self, _name: &str) -> Option<Arc<HigherOrderUDF>> {
        None
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.queries.state().aggregate_functions().get(name).cloned()
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        self.queries.state().window_functions().get(name).cloned()
    }

    fn get_variable_type(&self, _names: &[String]) -> Option<ArrowType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        self.queries.state().config_options()
    }

    fn udf_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udaf_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udwf_names(&self) -> Vec<String> {
        Vec::new()
    }
}

/// The types of casts, as the short path reads them.
#[derive(Debug)]
struct Types;

impl TypePlanner for Types {
    fn plan_type_field(&self, ty: &ast::DataType) -> Result<Option<FieldRef>, DataFusionError> {
        match crate::expr::bind::type_of(ty) {
            Ok((ty, modifier)) => Ok(Some(types::modified_type(ty, modifier).into_nullable_field_ref())),
            // DataFusion's own.
            Err(err) if err.sqlstate == "0A000" => Ok(None),
            Err(err) => Err(errors::wrap(err)),
        }
    }
}
