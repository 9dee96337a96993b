//! The short path's functions as functions of DataFusion, so that both paths compute the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::DataType as ArrowType;
use datafusion::common::DFSchema;
use datafusion::error::DataFusionError;
use datafusion::functions_aggregate::count::count_udaf;
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::logical_expr::expr::{AggregateFunction, ScalarFunction, WindowFunction, WindowFunctionParams};
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawAggregateExpr, RawBinaryExpr, RawWindowExpr};
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    AggregateUDF, ColumnarValue, Expr as PlanExpr, ExprSchemable, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, Volatility, WindowFunctionDefinition,
};
use truetime::Timestamp;

use super::{arith, casts, errors, types};
use crate::SqlError;
use crate::engine::Random;
use crate::expr::{Bound, EvalContext, Expr, Params, eval, functions};
use crate::types::DataType;

/// Those that need to know when the statement runs, if no argument says it.
const OF_THE_STATEMENT: &[&str] = &["age", "current_date", "current_time", "localtime", "localtimestamp"];

/// For what is constant in a statement.
pub(super) struct NoRandom;

impl Random for NoRandom {
    fn random_u64(&self) -> u64 {
        panic!("a volatile function is not among those that DataFusion is given")
    }
}

/// All that give the same for the same arguments. They take the place of DataFusion's.
pub(super) fn scalars() -> Vec<Arc<ScalarUDF>> {
    let mut names: BTreeMap<&'static str, bool> = BTreeMap::new();
    for signature in functions::all().filter(|signature| is_plain(signature.name) && !signature.volatile) {
        *names.entry(signature.name).or_insert(false) |= !signature.args.is_empty();
    }
    names.into_iter().map(|(name, with_args)| ours(name, with_args, None)).collect()
}

/// Whether there is such a function on the short path.
pub(super) fn is_known(name: &str) -> bool {
    functions::all().any(|signature| signature.name == name)
}

fn is_plain(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic())
}

fn ours(name: &'static str, with_args: bool, now: Option<i64>) -> Arc<ScalarUDF> {
    let volatility =
        if now.is_none() && OF_THE_STATEMENT.contains(&name) { Volatility::Stable } else { Volatility::Immutable };
    let signature = if with_args { Signature::user_defined(volatility) } else { Signature::nullary(volatility) };
    Arc::new(ScalarUDF::new_from_impl(Ours { name, with_args, now, signature }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Ours {
    name: &'static str,
    with_args: bool,
    /// When the statement runs, in nanoseconds since the epoch; once it does.
    now: Option<i64>,
    signature: Signature,
}

impl Ours {
    /// The function for arguments of some types, over a row of them.
    fn resolve(&self, args: &[ArrowType]) -> Result<(Expr, DataType), SqlError> {
        let types: Vec<Option<DataType>> = args
            .iter()
            .map(|ty| if *ty == ArrowType::Null { Ok(None) } else { types::sql_type(ty).map(Some) })
            .collect::<Result<_, _>>()?;
        let resolve = |types: &mut dyn Iterator<Item = Option<DataType>>| {
            let bound = types.enumerate().map(|(index, ty)| Bound { expr: Expr::Column(index), ty }).collect();
            functions::resolve(self.name, bound, &mut Params::default())
        };
        resolve(&mut types.iter().copied()).or_else(|err| {
            // A text constant has no type of its own in PostgreSQL; here it is text, and read as what is wanted.
            resolve(&mut types.iter().map(|ty| ty.filter(|ty| *ty != DataType::Text))).map_err(|_| err)
        })
    }
}

impl ScalarUDFImpl for Ours {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    /// Each argument stays what it is: the function brings it to what it needs itself.
    fn coerce_types(&self, args: &[ArrowType]) -> Result<Vec<ArrowType>, DataFusionError> {
        self.resolve(args).map_err(errors::wrap)?;
        Ok(args.to_vec())
    }

    fn return_type(&self, args: &[ArrowType]) -> Result<ArrowType, DataFusionError> {
        let (_, ty) = self.resolve(args).map_err(errors::wrap)?;
        Ok(types::arrow_type(ty))
    }

    fn simplify(&self, args: Vec<PlanExpr>, info: &SimplifyContext) -> Result<ExprSimplifyResult, DataFusionError> {
        let start = info.query_execution_start_time().and_then(|at| at.timestamp_nanos_opt());
        if self.now.is_some() || start.is_none() || !OF_THE_STATEMENT.contains(&self.name) {
            return Ok(ExprSimplifyResult::Original(args));
        }
        let function = ours(self.name, self.with_args, start);
        Ok(ExprSimplifyResult::Simplified(PlanExpr::ScalarFunction(ScalarFunction::new_udf(function, args))))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue, DataFusionError> {
        let found: Vec<ArrowType> = args.args.iter().map(ColumnarValue::data_type).collect();
        let (expr, ty) = self.resolve(&found).map_err(errors::wrap)?;
        let now = Timestamp::from_nanos(self.now.unwrap_or_default());
        let context = EvalContext { params: &[], now, random: &NoRandom };
        casts::by_rows(&args, &types::arrow_type(ty), |row| eval(&expr, row, &context))
    }
}

/// What DataFusion's planner asks before it makes expressions of its own.
#[derive(Debug)]
pub(super) struct OurExpressions;

impl ExprPlanner for OurExpressions {
    /// Operators on JSONB and of arrays, which DataFusion does not know or takes for something else.
    fn plan_binary_op(
        &self,
        expr: RawBinaryExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawBinaryExpr>, DataFusionError> {
        let ours = |ty: &ArrowType| matches!(ty, ArrowType::LargeUtf8 | ArrowType::List(_));
        if !ours(&expr.left.get_type(schema)?) && !ours(&expr.right.get_type(schema)?) {
            return Ok(PlannerResult::Original(expr));
        }
        let sign = expr.op.to_string();
        match functions::all().find(|signature| signature.name == sign) {
            None => Ok(PlannerResult::Original(expr)),
            Some(signature) => Ok(PlannerResult::Planned(PlanExpr::ScalarFunction(ScalarFunction::new_udf(
                self::ours(signature.name, true, None),
                vec![expr.left, expr.right],
            )))),
        }
    }

    /// Averages are sums divided by counts, with the digits that PostgreSQL gives a quotient.
    fn plan_aggregate(&self, expr: RawAggregateExpr) -> Result<PlannerResult<RawAggregateExpr>, DataFusionError> {
        if expr.func.name() != "avg" {
            return Ok(PlannerResult::Original(expr));
        }
        let RawAggregateExpr { func: _, args, distinct, filter, order_by, null_treatment } = expr;
        let of = |function: Arc<AggregateUDF>| {
            let (args, filter, order_by) = (args.clone(), filter.clone(), order_by.clone());
            PlanExpr::AggregateFunction(AggregateFunction::new_udf(
                function,
                args,
                distinct,
                filter,
                order_by,
                null_treatment,
            ))
        };
        Ok(PlannerResult::Planned(quotient(of(sum_udaf()), of(count_udaf()))))
    }

    fn plan_window(&self, expr: RawWindowExpr) -> Result<PlannerResult<RawWindowExpr>, DataFusionError> {
        let average = matches!(&expr.func_def, WindowFunctionDefinition::AggregateUDF(func) if func.name() == "avg");
        if !average {
            return Ok(PlannerResult::Original(expr));
        }
        let RawWindowExpr { func_def: _, args, partition_by, order_by, window_frame, filter, null_treatment, distinct } =
            expr;
        let of = |function: Arc<AggregateUDF>| {
            let params = WindowFunctionParams {
                args: args.clone(),
                partition_by: partition_by.clone(),
                order_by: order_by.clone(),
                window_frame: window_frame.clone(),
                filter: filter.clone(),
                null_treatment,
                distinct,
            };
            let fun = WindowFunctionDefinition::AggregateUDF(function);
            PlanExpr::WindowFunction(Box::new(WindowFunction { fun, params }))
        };
        Ok(PlannerResult::Planned(quotient(of(sum_udaf()), of(count_udaf()))))
    }
}

fn quotient(sum: PlanExpr, count: PlanExpr) -> PlanExpr {
    PlanExpr::ScalarFunction(ScalarFunction::new_udf(arith::average(), vec![sum, count]))
}
