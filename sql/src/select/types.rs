//! SQL's types and Arrow's: the only place, with `batches`, that knows both.
//!
//! | SQL | Arrow | |
//! |---|---|---|
//! | SMALLINT, INTEGER, BIGINT | Int16, Int32, Int64 | |
//! | REAL, DOUBLE PRECISION | Float32, Float64 | -0 becomes 0, and there is one NaN: Arrow compares bits |
//! | NUMERIC(p, s) | Decimal128(p, s) up to 38 digits, Decimal256 beyond | |
//! | NUMERIC | Decimal256(76, 20) | zeros at its end are not shown; what does not fit is 22003 |
//! | TEXT, VARCHAR | Utf8 | |
//! | CHAR | Utf8, without its padding | shown as text |
//! | JSONB | LargeUtf8 | its canonical text; nothing else is LargeUtf8 |
//! | BYTEA, UUID | Binary, FixedSizeBinary(16) | |
//! | DATE, TIME | Date32, Time64(us) | |
//! | TIMESTAMP, TIMESTAMPTZ | Timestamp(us), Timestamp(ns, UTC) | |
//! | INTERVAL | Interval(MonthDayNano) | compared by months, then days, then the rest |
//! | arrays | List | of one dimension; more are lists of lists |

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::{
    DECIMAL128_MAX_PRECISION, DECIMAL256_MAX_PRECISION, DataType as ArrowType, Field, IntervalUnit, TimeUnit,
};
use datafusion::common::ScalarValue;

use super::batches;
use crate::SqlError;
use crate::catalog::Column;
use crate::types::{DataType, Datum, Element, TypeModifier};

/// The zone of every TIMESTAMPTZ.
pub(super) const UTC: &str = "+00:00";
/// Digits after the point of a NUMERIC that says nothing of its digits, and of a quotient.
pub(super) const FREE_SCALE: i8 = 20;

/// The Arrow type of a SQL type.
pub(super) fn arrow_type(ty: DataType) -> ArrowType {
    match ty {
        DataType::Bool => ArrowType::Boolean,
        DataType::Int2 => ArrowType::Int16,
        DataType::Int4 => ArrowType::Int32,
        DataType::Int => ArrowType::Int64,
        DataType::Float4 => ArrowType::Float32,
        DataType::Float => ArrowType::Float64,
        DataType::Numeric => ArrowType::Decimal256(DECIMAL256_MAX_PRECISION, FREE_SCALE),
        DataType::Text | DataType::Char => ArrowType::Utf8,
        DataType::Json => ArrowType::LargeUtf8,
        DataType::Bytes => ArrowType::Binary,
        DataType::Uuid => ArrowType::FixedSizeBinary(16),
        DataType::Date => ArrowType::Date32,
        DataType::Time => ArrowType::Time64(TimeUnit::Microsecond),
        DataType::LocalTimestamp => ArrowType::Timestamp(TimeUnit::Microsecond, None),
        DataType::Timestamp => ArrowType::Timestamp(TimeUnit::Nanosecond, Some(UTC.into())),
        DataType::Interval => ArrowType::Interval(IntervalUnit::MonthDayNano),
        DataType::Array(element) => ArrowType::new_list(arrow_type(element.data_type()), true),
    }
}

/// The Arrow type of a type with its modifier.
pub(super) fn modified_type(ty: DataType, modifier: Option<TypeModifier>) -> ArrowType {
    match (ty, modifier) {
        (DataType::Numeric, Some(TypeModifier::Numeric { precision, scale })) => decimal(precision, scale),
        (DataType::Array(element), modifier) => ArrowType::new_list(modified_type(element.data_type(), modifier), true),
        (ty, _) => arrow_type(ty),
    }
}

fn decimal(precision: u16, scale: i16) -> ArrowType {
    match (u8::try_from(precision), i8::try_from(scale)) {
        (Ok(precision), Ok(scale)) if scale >= 0 && precision <= DECIMAL128_MAX_PRECISION => {
            ArrowType::Decimal128(precision, scale)
        }
        (Ok(precision), Ok(scale)) if scale >= 0 && precision <= DECIMAL256_MAX_PRECISION => {
            ArrowType::Decimal256(precision, scale)
        }
        _ => arrow_type(DataType::Numeric),
    }
}

/// The SQL type of a value of an Arrow type.
pub(super) fn sql_type(ty: &ArrowType) -> Result<DataType, SqlError> {
    Ok(match ty {
        ArrowType::Boolean => DataType::Bool,
        ArrowType::Int8 | ArrowType::UInt8 | ArrowType::Int16 => DataType::Int2,
        ArrowType::UInt16 | ArrowType::Int32 => DataType::Int4,
        ArrowType::UInt32 | ArrowType::Int64 | ArrowType::UInt64 => DataType::Int,
        ArrowType::Float16 | ArrowType::Float32 => DataType::Float4,
        ArrowType::Float64 => DataType::Float,
        ArrowType::Decimal32(..) | ArrowType::Decimal64(..) | ArrowType::Decimal128(..) | ArrowType::Decimal256(..) => {
            DataType::Numeric
        }
        ArrowType::Utf8 | ArrowType::Utf8View | ArrowType::Null => DataType::Text,
        ArrowType::LargeUtf8 => DataType::Json,
        ArrowType::FixedSizeBinary(16) => DataType::Uuid,
        ArrowType::Binary | ArrowType::LargeBinary | ArrowType::BinaryView | ArrowType::FixedSizeBinary(_) => {
            DataType::Bytes
        }
        ArrowType::Date32 | ArrowType::Date64 => DataType::Date,
        ArrowType::Time32(_) | ArrowType::Time64(_) => DataType::Time,
        ArrowType::Timestamp(_, None) => DataType::LocalTimestamp,
        ArrowType::Timestamp(_, Some(_)) => DataType::Timestamp,
        ArrowType::Interval(_) | ArrowType::Duration(_) => DataType::Interval,
        ArrowType::Dictionary(_, inner) => sql_type(inner)?,
        ArrowType::List(inner) | ArrowType::LargeList(inner) | ArrowType::FixedSizeList(inner, _) => {
            match sql_type(inner.data_type())? {
                // The dimensions are each value's own.
                array @ DataType::Array(_) => array,
                scalar => DataType::Array(element(scalar)),
            }
        }
        other => return Err(SqlError::unsupported(format!("a value of the type {other}"))),
    })
}

/// What an array of a scalar type holds.
fn element(scalar: DataType) -> Element {
    scalar.as_element().expect("an array's values are no arrays")
}

/// The field of a column.
pub(super) fn field(column: &Column, nullable: bool) -> Field {
    Field::new(&column.name, modified_type(column.ty, column.modifier), nullable)
}

/// A value as a constant of a plan.
pub(super) fn scalar(datum: &Datum, ty: DataType) -> Result<ScalarValue, SqlError> {
    let array = batches::array(&arrow_type(ty), [datum].into_iter())?;
    ScalarValue::try_from_array(&array, 0).map_err(super::errors::sql)
}

/// A constant of a plan as a value of a column: only if it is of that very type.
pub(super) fn datum_of(scalar: &ScalarValue, column: &Column) -> Option<Datum> {
    if scalar.is_null() {
        return Some(Datum::Null);
    }
    let plain = !matches!(column.ty, DataType::Char | DataType::Json | DataType::Interval | DataType::Array(_));
    if !plain || scalar.data_type() != modified_type(column.ty, column.modifier) {
        return None;
    }
    datums(&scalar.to_array().ok()?, column.ty).ok()?.pop()
}

/// The values of an array as those of a SQL type.
pub(super) fn datums(array: &ArrayRef, ty: DataType) -> Result<Vec<Datum>, SqlError> {
    batches::datums(array, ty)
}
