//! From a checked query to a logical plan: names are those of our catalog and of our functions.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::convert::Infallible;
use std::ops::ControlFlow;
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
use sqlparser::ast::{self, Visit, Visitor};

use super::outer::OuterNames;
use super::rows::SystemScan;
use super::runtime::Queries;
use super::scan::TableScan;
use super::{errors, types};
use crate::SqlError;
use crate::catalog::{Catalog, Table, undefined_table};
use crate::expr::Params;
use crate::plan::index::HINT;
use crate::system::{self, SystemTable};

/// A planned query.
pub(super) struct Planned {
    /// Analysed.
    pub(super) plan: LogicalPlan,
    /// The tables in it.
    pub(super) tables: Vec<Arc<Table>>,
    /// The system tables in it.
    pub(super) systems: Vec<&'static SystemTable>,
}

/// Plans a query that was checked; `target` is the table that its rows are written to. Learns the types of
/// its parameters.
pub(super) fn plan(
    query: ast::Query,
    catalog: &Catalog,
    queries: &Queries,
    target: Option<&Table>,
    params: &mut Params,
) -> Result<Planned, SqlError> {
    let target = target.map(|table| table.id);
    let mut planners = queries.state().expr_planners().to_vec();
    planners.insert(0, Arc::new(OuterNames::of(&query, catalog)));
    let names = Names { catalog, queries, target, planners, used: Mutex::default(), systems: Mutex::default() };
    let count = placeholders(&query)?;
    if params.types.len() < count {
        params.types.resize(count, None);
    }
    for number in counts(&query) {
        params.types[number - 1].get_or_insert(crate::types::DataType::Int);
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
    let systems = names.systems.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(Planned { plan, tables: used.into_values().collect(), systems })
}

fn logical(query: &ast::Query, names: &Names<'_>, params: &Params) -> Result<LogicalPlan, DataFusionError> {
    let fields: Vec<Option<FieldRef>> =
        params.types.iter().map(|ty| ty.map(|ty| types::arrow_type(ty).into_nullable_field_ref())).collect();
    let options = ParserOptions::from(&names.options().sql_parser);
    let mut context = PlannerContext::new().with_prepare_param_data_types(fields);
    let statement = ast::Statement::Query(Box::new(query.clone()));
    SqlToRel::new_with_options(names, options).sql_statement_to_plan_with_context(statement, &mut context)
}

/// The parameters that are a LIMIT or an OFFSET.
fn counts(query: &ast::Query) -> Vec<usize> {
    struct Walk(Vec<usize>);
    impl Visitor for Walk {
        type Break = Infallible;

        fn pre_visit_query(&mut self, query: &ast::Query) -> ControlFlow<Infallible> {
            if let Some(ast::LimitClause::LimitOffset { limit, offset, .. }) = &query.limit_clause {
                let both = limit.iter().chain(offset.iter().map(|offset| &offset.value));
                self.0.extend(both.filter_map(placeholder));
            }
            ControlFlow::Continue(())
        }
    }
    let mut walk = Walk(Vec::new());
    let ControlFlow::Continue(()) = query.visit(&mut walk);
    walk.0
}

/// The number of a parameter, if an expression is one.
fn placeholder(expr: &ast::Expr) -> Option<usize> {
    let ast::Expr::Value(value) = expr else { return None };
    let ast::Value::Placeholder(name) = &value.value else { return None };
    name.strip_prefix('$').and_then(|digits| digits.parse().ok())
}

/// The number of the last parameter of a query.
fn placeholders(query: &ast::Query) -> Result<usize, SqlError> {
    let mut count = 0;
    let found = ast::visit_expressions(query, |expr| {
        if let ast::Expr::Value(value) = expr
            && let ast::Value::Placeholder(name) = &value.value
        {
            match placeholder(expr) {
                Some(number) if (1..=crate::expr::bind::PARAMS_MAX).contains(&number) => count = count.max(number),
                _ => return ControlFlow::Break(name.clone()),
            }
        }
        ControlFlow::Continue(())
    });
    match found {
        ControlFlow::Break(name) => Err(SqlError::new("42P02", format!("there is no parameter {name}"))),
        ControlFlow::Continue(()) => Ok(count),
    }
}

/// What names mean in one statement.
struct Names<'a> {
    catalog: &'a Catalog,
    queries: &'a Queries,
    /// The table that is written to.
    target: Option<u32>,
    planners: Vec<Arc<dyn ExprPlanner>>,
    /// The tables that were looked up, by id.
    used: Mutex<BTreeMap<u32, Arc<Table>>>,
    /// The system tables that were.
    systems: Mutex<Vec<&'static SystemTable>>,
}

impl ContextProvider for Names<'_> {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>, DataFusionError> {
        let table = match &name {
            TableReference::Bare { table } => table,
            TableReference::Partial { schema, table } if &**schema == "public" => table,
            TableReference::Partial { schema, table } if system::SCHEMAS.contains(&&**schema) => {
                let found = system::find(schema, table);
                let found = found.ok_or_else(|| errors::wrap(undefined_table(&format!("{schema}.{table}"))))?;
                let mut systems = self.systems.lock().unwrap_or_else(PoisonError::into_inner);
                if !systems.iter().any(|known| std::ptr::eq(*known, found)) {
                    systems.push(found);
                }
                return Ok(provider_as_source(Arc::new(SystemScan::new(found))));
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
        Ok(provider_as_source(Arc::new(TableScan::new(Arc::clone(found), self.target == Some(found.id)))))
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
        &self.planners
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
        names_of(self.queries.state().scalar_functions())
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udaf_names(&self) -> Vec<String> {
        names_of(self.queries.state().aggregate_functions())
    }

    fn udwf_names(&self) -> Vec<String> {
        names_of(self.queries.state().window_functions())
    }
}

/// The names of functions, in order: DataFusion looks among them for one that is like an unknown one.
fn names_of<F>(functions: &HashMap<String, F>) -> Vec<String> {
    let sorted: BTreeSet<&String> = functions.keys().collect();
    sorted.into_iter().cloned().collect()
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
