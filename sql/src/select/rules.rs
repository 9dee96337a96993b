//! PostgreSQL's rules for types, around DataFusion's.
//!
//! Before DataFusion brings types together: a text constant takes the type of what it stands beside,
//! and a comparison of, say, text with a number is refused, where DataFusion would convert. After it:
//! arithmetic and casts are replaced by ours.

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType as ArrowType;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::config::ConfigOptions;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::expr::{AggregateFunction, Case, Cast, InList, ScalarFunction, WindowFunction};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    AggregateUDF, Between, BinaryExpr, Expr, ExprSchemable, LogicalPlan, Operator, WindowFunctionDefinition,
};
use datafusion::optimizer::AnalyzerRule;
use datafusion::optimizer::analyzer::resolve_grouping_function::ResolveGroupingFunction;
use datafusion::optimizer::analyzer::type_coercion::TypeCoercion;

use super::{arith, casts, errors, extreme, types};
use crate::SqlError;
use crate::types::DataType;
use crate::value;

/// The rules, in order.
pub(super) fn analyzer() -> Vec<Arc<dyn AnalyzerRule + Send + Sync>> {
    vec![
        Arc::new(ResolveGroupingFunction::new()),
        Arc::new(BeforeCoercion),
        Arc::new(TypeCoercion::new()),
        Arc::new(AfterCoercion),
    ]
}

type Rewritten = Result<Transformed<Expr>, DataFusionError>;

/// Rewrites every expression of a plan, from the leaves up.
fn rewrite(
    plan: LogicalPlan,
    mut one: impl FnMut(Expr, &DFSchema) -> Rewritten,
) -> Result<LogicalPlan, DataFusionError> {
    plan.transform_up_with_subqueries(|plan| {
        let mut schema = merge_schema(&plan.inputs());
        if let LogicalPlan::TableScan(scan) = &plan {
            schema.merge(&DFSchema::try_from_qualified_schema(scan.table_name.clone(), &scan.source.schema())?);
        }
        let names = NamePreserver::new(&plan);
        plan.map_expressions(|expr| {
            let name = names.save(&expr);
            let rewritten = expr.transform_up(|expr| one(expr, &schema))?;
            Ok(if rewritten.transformed { rewritten.update_data(|expr| name.restore(expr)) } else { rewritten })
        })?
        .map_data(LogicalPlan::recompute_schema)
    })
    .data()
}

#[derive(Debug)]
struct BeforeCoercion;

impl AnalyzerRule for BeforeCoercion {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan, DataFusionError> {
        rewrite(plan, before)
    }

    fn name(&self) -> &str {
        "before_coercion"
    }
}

fn before(expr: Expr, schema: &DFSchema) -> Rewritten {
    Ok(match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            // What stands beside || or a pattern need not be of one type.
            let alike = compares(op) || computes(op);
            let both = vec![*left, *right];
            let (mut all, changed) = if alike { agree(both, Some(op), schema)? } else { (both, false) };
            let (right, left) = (all.pop().expect("there are two"), all.pop().expect("there are two"));
            refuse_mixed(&left, op, &right, schema)?;
            Transformed::new_transformed(
                Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right))),
                changed,
            )
        }
        Expr::Between(Between { expr, negated, low, high }) => {
            let (mut all, changed) = agree(vec![*expr, *low, *high], None, schema)?;
            let (high, low) = (all.pop().expect("there are three"), all.pop().expect("there are three"));
            let expr = all.pop().expect("there are three");
            refuse_mixed(&expr, Operator::GtEq, &low, schema)?;
            refuse_mixed(&expr, Operator::LtEq, &high, schema)?;
            Transformed::new_transformed(
                Expr::Between(Between::new(Box::new(expr), negated, Box::new(low), Box::new(high))),
                changed,
            )
        }
        Expr::InList(InList { expr, mut list, negated }) => {
            list.insert(0, *expr);
            let (mut all, changed) = agree(list, None, schema)?;
            let first = all.remove(0);
            for item in &all {
                refuse_mixed(&first, Operator::Eq, item, schema)?;
            }
            Transformed::new_transformed(Expr::InList(InList::new(Box::new(first), all, negated)), changed)
        }
        Expr::Case(Case { expr, when_then_expr, else_expr }) => {
            let (whens, mut thens): (Vec<_>, Vec<_>) = when_then_expr.into_iter().unzip();
            let has_else = else_expr.is_some();
            thens.extend(else_expr);
            let (thens, mut changed) = agree(thens.into_iter().map(|then| *then).collect(), None, schema)?;
            let mut thens: Vec<Box<Expr>> = thens.into_iter().map(Box::new).collect();
            let else_expr = has_else.then(|| thens.pop().expect("it was put there"));
            let (expr, whens) = match expr {
                None => (None, whens),
                Some(expr) => {
                    let all = std::iter::once(*expr).chain(whens.into_iter().map(|when| *when)).collect();
                    let (mut all, more) = agree(all, Some(Operator::Eq), schema)?;
                    changed |= more;
                    let first = all.remove(0);
                    (Some(Box::new(first)), all.into_iter().map(Box::new).collect())
                }
            };
            let when_then_expr = whens.into_iter().zip(thens).collect();
            Transformed::new_transformed(Expr::Case(Case { expr, when_then_expr, else_expr }), changed)
        }
        // The sum of bigints does not fit in a bigint.
        Expr::AggregateFunction(AggregateFunction { func, mut params }) if func.name() == "sum" => {
            let changed = widen(&mut params.args, schema)?;
            Transformed::new_transformed(Expr::AggregateFunction(AggregateFunction { func, params }), changed)
        }
        Expr::WindowFunction(window) if is_sum(&window) => {
            let mut window = window;
            let changed = widen(&mut window.params.args, schema)?;
            Transformed::new_transformed(Expr::WindowFunction(window), changed)
        }
        other => Transformed::no(other),
    })
}

fn is_sum(window: &WindowFunction) -> bool {
    matches!(&window.fun, WindowFunctionDefinition::AggregateUDF(func) if func.name() == "sum")
}

fn widen(args: &mut [Expr], schema: &DFSchema) -> Result<bool, DataFusionError> {
    let [arg] = args else { return Ok(false) };
    if arg.get_type(schema)? != ArrowType::Int64 {
        return Ok(false);
    }
    let inner = std::mem::take(arg);
    *arg = Expr::Cast(Cast::new(Box::new(inner), ArrowType::Decimal128(19, 0)));
    Ok(true)
}

/// Text constants take the type of the first operand that is no text; what is added to a time is an interval. Beside a
/// float a numeric is a float, as in PostgreSQL; DataFusion would have it the other way.
fn agree(all: Vec<Expr>, op: Option<Operator>, schema: &DFSchema) -> Result<(Vec<Expr>, bool), DataFusionError> {
    let (mut all, changed) = texts_agree(all, op, schema)?;
    let types = all.iter().map(|expr| expr.get_type(schema)).collect::<Result<Vec<_>, _>>()?;
    if !types.iter().any(ArrowType::is_floating) || !types.iter().any(ArrowType::is_decimal) {
        return Ok((all, changed));
    }
    for (expr, ty) in all.iter_mut().zip(types) {
        if ty.is_decimal() {
            let inner = std::mem::take(expr);
            *expr = Expr::Cast(Cast::new(Box::new(inner), ArrowType::Float64));
        }
    }
    Ok((all, true))
}

fn texts_agree(
    mut all: Vec<Expr>,
    op: Option<Operator>,
    schema: &DFSchema,
) -> Result<(Vec<Expr>, bool), DataFusionError> {
    let is_constant = |expr: &Expr| matches!(expr, Expr::Literal(ScalarValue::Utf8(Some(_)), _));
    if !all.iter().any(is_constant) || all.iter().all(is_constant) {
        return Ok((all, false));
    }
    let mut wanted = None;
    for expr in all.iter().filter(|expr| !is_constant(expr)) {
        let ty = expr.get_type(schema)?;
        if ty != ArrowType::Null {
            wanted = Some(ty);
            break;
        }
    }
    let Some(wanted) = wanted else { return Ok((all, false)) };
    let Some(ty) = types::sql_type(&wanted).ok().filter(|ty| !ty.is_string()) else { return Ok((all, false)) };
    let added = op == Some(Operator::Plus) && family(&wanted) == Some(Family::Time);
    let ty = if added { DataType::Interval } else { ty };
    for expr in &mut all {
        if let Expr::Literal(ScalarValue::Utf8(Some(text)), _) = expr {
            let datum = value::parse_text(text, ty).map_err(errors::wrap)?;
            *expr = Expr::Literal(types::scalar(&datum, ty).map_err(errors::wrap)?, None);
        }
    }
    Ok((all, true))
}

/// What may be compared and computed with each other.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    Number,
    Text,
    Bool,
    Bytes,
    Time,
}

fn family(ty: &ArrowType) -> Option<Family> {
    match ty {
        ty if ty.is_numeric() => Some(Family::Number),
        ArrowType::Utf8 | ArrowType::Utf8View => Some(Family::Text),
        ArrowType::Boolean => Some(Family::Bool),
        ArrowType::Binary | ArrowType::LargeBinary | ArrowType::BinaryView => Some(Family::Bytes),
        ArrowType::Timestamp(..) | ArrowType::Date32 | ArrowType::Date64 => Some(Family::Time),
        _ => None,
    }
}

fn compares(op: Operator) -> bool {
    use Operator as O;
    matches!(op, O::Eq | O::NotEq | O::Lt | O::LtEq | O::Gt | O::GtEq | O::IsDistinctFrom | O::IsNotDistinctFrom)
}

fn computes(op: Operator) -> bool {
    matches!(op, Operator::Plus | Operator::Minus | Operator::Multiply | Operator::Divide | Operator::Modulo)
}

/// 42883 for operands that PostgreSQL has no operator for.
fn refuse_mixed(left: &Expr, op: Operator, right: &Expr, schema: &DFSchema) -> Result<(), DataFusionError> {
    if !compares(op) && !computes(op) {
        return Ok(());
    }
    let (a, b) = (left.get_type(schema)?, right.get_type(schema)?);
    let (Some(family_a), Some(family_b)) = (family(&a), family(&b)) else { return Ok(()) };
    let fine = match (family_a, family_b) {
        (a, b) if compares(op) => a == b,
        (Family::Number, Family::Number) => true,
        // Times minus times, dates plus days.
        (Family::Time, Family::Time | Family::Number) | (Family::Number, Family::Time) => true,
        _ => false,
    };
    if fine {
        return Ok(());
    }
    let name = |ty: &ArrowType| types::sql_type(ty).map_or("unknown", DataType::name);
    Err(errors::wrap(
        SqlError::new("42883", format!("operator does not exist: {} {op} {}", name(&a), name(&b)).replace("!=", "<>"))
            .hint("No operator matches the given name and argument types. You might need to add explicit type casts."),
    ))
}

#[derive(Debug)]
struct AfterCoercion;

impl AnalyzerRule for AfterCoercion {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan, DataFusionError> {
        rewrite(plan, after)
    }

    fn name(&self) -> &str {
        "after_coercion"
    }
}

fn after(expr: Expr, schema: &DFSchema) -> Rewritten {
    Ok(match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let (a, b) = (left.get_type(schema)?, right.get_type(schema)?);
            match arith::function(op, &a, &b) {
                Some(function) => Transformed::yes(call(function, vec![*left, *right])),
                None => Transformed::no(Expr::BinaryExpr(BinaryExpr { left, op, right })),
            }
        }
        Expr::Negative(inner) => match inner.get_type(schema)? {
            ty if ty.is_signed_integer() && !matches!(*inner, Expr::Literal(..)) => {
                let zero = Expr::Literal(ScalarValue::new_zero(&ty)?, None);
                let subtract = arith::function(Operator::Minus, &ty, &ty).expect("integers are subtracted");
                Transformed::yes(call(subtract, vec![zero, *inner]))
            }
            _ => Transformed::no(Expr::Negative(inner)),
        },
        Expr::Cast(Cast { expr, field }) => {
            let from = expr.get_type(schema)?;
            match casts::function(&from, field.data_type()).map_err(errors::wrap)? {
                Some(function) => Transformed::yes(call(function, vec![*expr])),
                None => Transformed::no(Expr::Cast(Cast { expr, field })),
            }
        }
        Expr::AggregateFunction(AggregateFunction { func, params }) => {
            match in_place_of(&func, &params.args, schema)? {
                Some(func) => Transformed::yes(Expr::AggregateFunction(AggregateFunction { func, params })),
                None => Transformed::no(Expr::AggregateFunction(AggregateFunction { func, params })),
            }
        }
        Expr::WindowFunction(mut window) => {
            let replaced = match &window.fun {
                WindowFunctionDefinition::AggregateUDF(func) => in_place_of(func, &window.params.args, schema)?,
                WindowFunctionDefinition::WindowUDF(_) => None,
            };
            let changed = replaced.is_some();
            if let Some(func) = replaced {
                window.fun = WindowFunctionDefinition::AggregateUDF(func);
            }
            Transformed::new_transformed(Expr::WindowFunction(window), changed)
        }
        other => Transformed::no(other),
    })
}

/// Our aggregate function in the place of DataFusion's.
fn in_place_of(
    func: &AggregateUDF,
    args: &[Expr],
    schema: &DFSchema,
) -> Result<Option<Arc<AggregateUDF>>, DataFusionError> {
    match args {
        [arg] => Ok(extreme::function(func.name(), &arg.get_type(schema)?)),
        _ => Ok(None),
    }
}

fn call(function: Arc<datafusion::logical_expr::ScalarUDF>, args: Vec<Expr>) -> Expr {
    Expr::ScalarFunction(ScalarFunction::new_udf(function, args))
}
