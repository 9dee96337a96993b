//! Casts as PostgreSQL makes them: the same code as on the short path, row by row.

use std::sync::Arc;

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::DataType as ArrowType;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use datafusion::scalar::ScalarValue;

use super::{batches, errors, types};
use crate::SqlError;
use crate::types::{DataType, Datum, TypeModifier};
use crate::value::{self, CastContext};

/// A cast to one type.
#[derive(Debug, PartialEq, Eq, Hash)]
struct CastTo {
    to: ArrowType,
    name: String,
    signature: Signature,
}

/// The function of a cast, if Arrow's own would print, round or read differently. 42846 if there is no way.
pub(super) fn function(from: &ArrowType, to: &ArrowType) -> Result<Option<Arc<ScalarUDF>>, SqlError> {
    let (Ok(a), Ok(b)) = (types::sql_type(from), types::sql_type(to)) else { return Ok(None) };
    let context = value::cast_context(a, b);
    let widens = context == Some(CastContext::Implicit)
        && ((a.is_integer() && b.is_number()) || (a == DataType::Float4 && b == DataType::Float));
    // What is of one SQL type, DataFusion converts between Arrow's forms of it.
    if a == b || *from == ArrowType::Null || widens || matches!(b, DataType::Array(_)) {
        return Ok(None);
    }
    if context.is_none() {
        return Err(SqlError::new("42846", format!("cannot cast type {} to {}", a.name(), b.name())));
    }
    let name = format!("cast_to_{}", b.internal_name());
    let signature = Signature::any(1, Volatility::Immutable);
    Ok(Some(Arc::new(ScalarUDF::new_from_impl(CastTo { to: to.clone(), name, signature }))))
}

/// The modifier that an Arrow type stands for.
fn modifier(ty: &ArrowType) -> Option<TypeModifier> {
    match ty {
        ty if *ty == types::arrow_type(DataType::Numeric) => None,
        ArrowType::Decimal128(precision, scale) | ArrowType::Decimal256(precision, scale) => {
            Some(TypeModifier::Numeric { precision: u16::from(*precision), scale: i16::from(*scale) })
        }
        _ => None,
    }
}

impl ScalarUDFImpl for CastTo {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[ArrowType]) -> Result<ArrowType, DataFusionError> {
        Ok(self.to.clone())
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue, DataFusionError> {
        let ty = types::sql_type(&self.to).map_err(errors::wrap)?;
        let modifier = modifier(&self.to);
        by_rows(&args, &self.to, |row| {
            let datum = value::cast(row[0].clone(), ty)?;
            modifier.map_or(Ok(datum.clone()), |modifier| value::apply_modifier(datum, modifier, true))
        })
    }
}

/// Computes a function one row at a time. Its values are of the SQL type of the result.
pub(super) fn by_rows(
    args: &ScalarFunctionArgs,
    result: &ArrowType,
    one: impl Fn(&[Datum]) -> Result<Datum, SqlError>,
) -> Result<ColumnarValue, DataFusionError> {
    let scalars = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
    let rows = if scalars { 1 } else { args.number_rows };
    let compute = || -> Result<ArrayRef, SqlError> {
        let mut columns = Vec::with_capacity(args.args.len());
        for arg in &args.args {
            let array = arg.to_array(rows).map_err(errors::sql)?;
            columns.push(types::datums(&array, types::sql_type(array.data_type())?)?);
        }
        let mut results = Vec::with_capacity(rows);
        let mut row = vec![Datum::Null; columns.len()];
        for index in 0..rows {
            for (cell, values) in row.iter_mut().zip(&mut columns) {
                *cell = std::mem::replace(&mut values[index], Datum::Null);
            }
            results.push(one(&row)?);
        }
        batches::array(result, results.iter())
    };
    let array = compute().map_err(errors::wrap)?;
    if scalars {
        return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?));
    }
    Ok(ColumnarValue::Array(array))
}
