//! Arithmetic that never wraps around: PostgreSQL's 22003 and 22012 instead.
//!
//! DataFusion's own operators wrap integers and let floats become infinite. After its types were
//! brought together, [`super::rules`] puts these functions in their place.

use std::hash::Hash;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Float64Array};
use datafusion::arrow::compute::cast;
use datafusion::arrow::compute::kernels::numeric;
use datafusion::arrow::datatypes::DataType as ArrowType;
use datafusion::arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{
    ColumnarValue, Operator, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::scalar::ScalarValue;

use super::{batches, casts, errors, types};
use crate::SqlError;
use crate::types::{DataType, Datum};
use crate::value;

/// One operator.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Arithmetic {
    op: Operator,
    signature: Signature,
}

/// The function of an operator for operands of these types, if DataFusion's own will not do.
pub(super) fn function(op: Operator, a: &ArrowType, b: &ArrowType) -> Option<Arc<ScalarUDF>> {
    use Operator as O;
    if !matches!(op, O::Plus | O::Minus | O::Multiply | O::Divide | O::Modulo) {
        return None;
    }
    let signature = || Signature::any(2, Volatility::Immutable);
    if op == O::Divide && a.is_decimal() && b.is_decimal() {
        return Some(Arc::new(ScalarUDF::new_from_impl(Quotient { name: "divide", signature: signature() })));
    }
    (a == b && (a.is_integer() || a.is_floating()))
        .then(|| Arc::new(ScalarUDF::new_from_impl(Arithmetic { op, signature: signature() })))
}

/// An average, from the sum and the count.
pub(super) fn average() -> Arc<ScalarUDF> {
    let signature = Signature::any(2, Volatility::Immutable);
    Arc::new(ScalarUDF::new_from_impl(Quotient { name: "avg", signature }))
}

/// The quotient of two numbers: a double of floats, and of all others a NUMERIC with as many digits as
/// PostgreSQL gives it (DataFusion gives four more than the dividend has).
#[derive(Debug, PartialEq, Eq, Hash)]
struct Quotient {
    name: &'static str,
    signature: Signature,
}

impl ScalarUDFImpl for Quotient {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, args: &[ArrowType]) -> Result<ArrowType, DataFusionError> {
        match &args[0] {
            ty if ty.is_floating() => Ok(ArrowType::Float64),
            ty if ty.is_numeric() || ty.is_null() => Ok(types::arrow_type(DataType::Numeric)),
            ty => {
                let name = types::sql_type(ty).map_or("unknown", DataType::name);
                Err(errors::wrap(SqlError::new("42883", format!("function {}({name}) does not exist", self.name))))
            }
        }
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue, DataFusionError> {
        let result = args.return_field.data_type().clone();
        let (ty, digits) = match result {
            ArrowType::Float64 => (DataType::Float, 0),
            _ => (DataType::Numeric, i64::from(types::FREE_SCALE)),
        };
        casts::by_rows(&args, &result, |row| {
            let [a, b] = [value::cast(row[0].clone(), ty)?, value::cast(row[1].clone(), ty)?];
            Ok(match (a, b) {
                (Datum::Float(a), Datum::Float(b)) => Datum::Float(one_float(Operator::Divide, a, b)?),
                (Datum::Numeric(a), Datum::Numeric(b)) => Datum::Numeric(a.div(&b)?.round(digits)?),
                _ => Datum::Null,
            })
        })
    }
}

impl ScalarUDFImpl for Arithmetic {
    fn name(&self) -> &str {
        match self.op {
            Operator::Plus => "add",
            Operator::Minus => "subtract",
            Operator::Multiply => "multiply",
            Operator::Divide => "divide",
            _ => "modulo",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, args: &[ArrowType]) -> Result<ArrowType, DataFusionError> {
        Ok(args[0].clone())
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue, DataFusionError> {
        let scalars = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if scalars { 1 } else { args.number_rows };
        let left = args.args[0].to_array(rows)?;
        let right = args.args[1].to_array(rows)?;
        let array = match left.data_type() {
            ty if ty.is_floating() => {
                let (a, b) = (cast(&left, &ArrowType::Float64)?, cast(&right, &ArrowType::Float64)?);
                let result = floats(self.op, a.as_primitive(), b.as_primitive()).map_err(errors::wrap)?;
                cast(&result, ty)?
            }
            _ => integers(self.op, &left, &right).map_err(errors::wrap)?,
        };
        if scalars {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?));
        }
        Ok(ColumnarValue::Array(array))
    }
}

fn integers(op: Operator, left: &ArrayRef, right: &ArrayRef) -> Result<ArrayRef, SqlError> {
    let result = match op {
        Operator::Plus => numeric::add(left, right),
        Operator::Minus => numeric::sub(left, right),
        Operator::Multiply => numeric::mul(left, right),
        Operator::Divide => numeric::div(left, right),
        _ => numeric::rem(left, right),
    };
    result.map_err(|err| match err {
        ArrowError::DivideByZero => SqlError::new("22012", "division by zero"),
        ArrowError::ArithmeticOverflow(_) => out_of_range(left.data_type()),
        err => errors::sql(err.into()),
    })
}

/// 22003 of an integer type.
fn out_of_range(ty: &ArrowType) -> SqlError {
    let name = match ty {
        ArrowType::Int16 => "smallint",
        ArrowType::Int32 => "integer",
        _ => "bigint",
    };
    SqlError::new("22003", format!("{name} out of range"))
}

fn one_float(op: Operator, a: f64, b: f64) -> Result<f64, SqlError> {
    let result = match op {
        Operator::Plus => a + b,
        Operator::Minus => a - b,
        Operator::Multiply => a * b,
        _ if b == 0.0 => return Err(SqlError::new("22012", "division by zero")),
        Operator::Divide => a / b,
        _ => a % b,
    };
    if result.is_infinite() && a.is_finite() && b.is_finite() {
        return Err(SqlError::new("22003", "value out of range: overflow"));
    }
    Ok(batches::canonical(result))
}

fn floats(op: Operator, left: &Float64Array, right: &Float64Array) -> Result<ArrayRef, SqlError> {
    let values: Vec<Option<f64>> = left
        .iter()
        .zip(right.iter())
        .map(|pair| match pair {
            (Some(a), Some(b)) => one_float(op, a, b).map(Some),
            _ => Ok(None),
        })
        .collect::<Result<_, _>>()?;
    Ok(Arc::new(Float64Array::from(values)))
}
