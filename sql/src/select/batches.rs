//! Values as columns of Arrow, and back.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Decimal128Array, Decimal256Array, FixedSizeBinaryArray,
    LargeStringArray, ListArray, NullArray, PrimitiveArray, StringArray,
};
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{
    ArrowPrimitiveType, DataType as ArrowType, Date32Type, Decimal128Type, Decimal256Type, DurationNanosecondType,
    Float32Type, Float64Type, Int16Type, Int32Type, Int64Type, IntervalMonthDayNano, IntervalMonthDayNanoType,
    IntervalUnit, SchemaRef, Time64MicrosecondType, TimeUnit, TimestampMicrosecondType, TimestampNanosecondType,
    UInt64Type, i256,
};
use datafusion::arrow::record_batch::{RecordBatch, RecordBatchOptions};
use num_bigint::BigInt;
use truetime::Timestamp;

use super::types::{FREE_SCALE, UTC};
use super::{errors, types};
use crate::SqlError;
use crate::types::{ArrayValue, DataType, Datum, Interval, Json, Numeric};
use crate::value;

/// Some columns of rows, as the schema has them.
pub(super) fn batch(schema: &SchemaRef, columns: &[usize], rows: &[&[Datum]]) -> Result<RecordBatch, SqlError> {
    let arrays = columns
        .iter()
        .zip(schema.fields())
        .map(|(column, field)| array(field.data_type(), rows.iter().map(|row| &row[*column])))
        .collect::<Result<_, _>>()?;
    // Of no columns, a batch has its rows only by their count.
    let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
    RecordBatch::try_new_with_options(Arc::clone(schema), arrays, &options)
        .map_err(|err| SqlError::new("XX000", err.to_string()))
}

/// Values of one column. XX001 for a value that is not of the type.
pub(super) fn array<'a>(ty: &ArrowType, values: impl Iterator<Item = &'a Datum>) -> Result<ArrayRef, SqlError> {
    let values: Vec<&Datum> = values.collect();
    macro_rules! primitive {
        ($arrow:ty, $($pattern:pat => $value:expr),+) => {
            Arc::new(collect::<PrimitiveArray<$arrow>, _>(&values, |datum| Ok(match datum {
                $($pattern => $value,)+
                other => return Err(strange(other)),
            }))?)
        };
    }
    Ok(match ty {
        ArrowType::Null => Arc::new(NullArray::new(values.len())),
        ArrowType::Boolean => Arc::new(collect::<BooleanArray, _>(&values, |datum| match datum {
            Datum::Bool(v) => Ok(*v),
            other => Err(strange(other)),
        })?),
        ArrowType::Int16 => primitive!(Int16Type, Datum::Int(v) => narrow(*v)?),
        ArrowType::Int32 => primitive!(Int32Type, Datum::Int(v) => narrow(*v)?),
        ArrowType::Int64 => primitive!(Int64Type, Datum::Int(v) => *v),
        ArrowType::Float32 => primitive!(Float32Type, Datum::Float4(v) => canonical(f64::from(*v)) as f32),
        ArrowType::Float64 => primitive!(Float64Type, Datum::Float(v) => canonical(*v)),
        ArrowType::Decimal128(precision, scale) => {
            let array: Decimal128Array =
                collect(&values, |datum| decimal(datum, *scale, |v| v.to_string().parse::<i128>().ok()))?;
            Arc::new(array.with_precision_and_scale(*precision, *scale).map_err(overflow)?)
        }
        ArrowType::Decimal256(precision, scale) => {
            let array: Decimal256Array =
                collect(&values, |datum| decimal(datum, *scale, |v| i256::from_string(&v.to_string())))?;
            Arc::new(array.with_precision_and_scale(*precision, *scale).map_err(overflow)?)
        }
        ArrowType::Utf8 => Arc::new(collect::<StringArray, _>(&values, |datum| match datum {
            Datum::Text(v) => Ok(v.as_str()),
            // Without what CHAR pads and ignores.
            Datum::Char(v) => Ok(v.trim_end_matches(' ')),
            other => Err(strange(other)),
        })?),
        ArrowType::LargeUtf8 => Arc::new(collect::<LargeStringArray, _>(&values, |datum| match datum {
            Datum::Json(v) => Ok(v.to_text()),
            other => Err(strange(other)),
        })?),
        ArrowType::Binary => Arc::new(collect::<BinaryArray, _>(&values, |datum| match datum {
            Datum::Bytes(v) => Ok(v.as_slice()),
            other => Err(strange(other)),
        })?),
        ArrowType::FixedSizeBinary(16) => {
            let bytes: Vec<Option<&[u8; 16]>> = options(&values, |datum| match datum {
                Datum::Uuid(v) => Ok(v),
                other => Err(strange(other)),
            })?;
            Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size(bytes.into_iter(), 16).map_err(arrow)?)
        }
        ArrowType::Date32 => primitive!(Date32Type, Datum::Date(v) => *v),
        ArrowType::Time64(TimeUnit::Microsecond) => primitive!(Time64MicrosecondType, Datum::Time(v) => *v),
        ArrowType::Timestamp(TimeUnit::Microsecond, None) => {
            primitive!(TimestampMicrosecondType, Datum::LocalTimestamp(v) => *v)
        }
        ArrowType::Timestamp(TimeUnit::Nanosecond, Some(_)) => {
            let array = collect::<PrimitiveArray<TimestampNanosecondType>, _>(&values, |datum| match datum {
                Datum::Timestamp(v) => Ok(v.as_nanos()),
                other => Err(strange(other)),
            })?;
            Arc::new(array.with_timezone(UTC))
        }
        ArrowType::Interval(IntervalUnit::MonthDayNano) => primitive!(
            IntervalMonthDayNanoType,
            Datum::Interval(v) => IntervalMonthDayNano::new(v.months, v.days, v.nanos)
        ),
        ArrowType::List(inner) => {
            let mut items = Vec::new();
            let mut lengths = Vec::with_capacity(values.len());
            for value in &values {
                match value {
                    Datum::Null => lengths.push(0),
                    Datum::Array(v) if v.dimensions.len() <= 1 => {
                        lengths.push(v.items.len());
                        items.extend(&v.items);
                    }
                    Datum::Array(_) => {
                        return Err(SqlError::unsupported("an array of several dimensions in a query of this kind"));
                    }
                    other => return Err(strange(other)),
                }
            }
            let items = array(inner.data_type(), items.into_iter())?;
            let nulls = NullBuffer::from_iter(values.iter().map(|value| !value.is_null()));
            let offsets = OffsetBuffer::from_lengths(lengths);
            Arc::new(ListArray::try_new(Arc::clone(inner), offsets, items, Some(nulls)).map_err(arrow)?)
        }
        other => return Err(SqlError::new("XX000", format!("no column is made of the type {other}"))),
    })
}

fn options<'a, T>(
    values: &[&'a Datum],
    one: impl Fn(&'a Datum) -> Result<T, SqlError>,
) -> Result<Vec<Option<T>>, SqlError> {
    values.iter().map(|datum| if datum.is_null() { Ok(None) } else { one(datum).map(Some) }).collect()
}

fn collect<'a, A: FromIterator<Option<T>>, T>(
    values: &[&'a Datum],
    one: impl Fn(&'a Datum) -> Result<T, SqlError>,
) -> Result<A, SqlError> {
    options(values, one).map(|values| values.into_iter().collect())
}

fn strange(datum: &Datum) -> SqlError {
    SqlError::new("XX001", format!("a value of another type in a column: {datum:?}"))
}

fn arrow(err: datafusion::arrow::error::ArrowError) -> SqlError {
    errors::sql(err.into())
}

fn overflow(_: datafusion::arrow::error::ArrowError) -> SqlError {
    SqlError::new("22003", "numeric field overflow")
}

fn narrow<T: TryFrom<i64>>(v: i64) -> Result<T, SqlError> {
    T::try_from(v).map_err(|_| strange(&Datum::Int(v)))
}

/// Arrow compares floats by their bits: -0 must be 0 and every NaN the same one, as PostgreSQL has it.
pub(super) fn canonical(v: f64) -> f64 {
    if v.is_nan() {
        f64::NAN.abs()
    } else if v == 0.0 {
        0.0
    } else {
        v
    }
}

/// The number without its point, with so many digits after it.
fn decimal<T>(datum: &Datum, scale: i8, from: impl Fn(&BigInt) -> Option<T>) -> Result<T, SqlError> {
    let Datum::Numeric(v) = datum else { return Err(strange(datum)) };
    let too_long = || {
        SqlError::new("22003", "a number has too many digits for a query of this kind")
            .detail(format!("A query with joins, subqueries or the like keeps {scale} digits after the point."))
            .hint("Declare the column as NUMERIC(precision, scale).")
    };
    let rounded = v.round(i64::from(scale))?;
    if rounded.compare(v).is_ne() {
        return Err(too_long());
    }
    let missing = u32::try_from(i64::from(scale) - i64::from(rounded.scale())).map_err(|_| too_long())?;
    from(&(rounded.unscaled() * BigInt::from(10).pow(missing))).ok_or_else(too_long)
}

/// The rows of a batch, each column as its SQL type.
pub(super) fn rows(batch: &RecordBatch, types: &[DataType]) -> Result<Vec<Vec<Datum>>, SqlError> {
    assert_eq!(batch.num_columns(), types.len(), "a plan's result has the columns it was planned with");
    let mut rows: Vec<Vec<Datum>> = (0..batch.num_rows()).map(|_| Vec::with_capacity(types.len())).collect();
    for (array, ty) in batch.columns().iter().zip(types) {
        for (row, datum) in rows.iter_mut().zip(datums(array, *ty)?) {
            row.push(datum);
        }
    }
    Ok(rows)
}

/// The values of an array as those of a SQL type.
pub(super) fn datums(array: &ArrayRef, ty: DataType) -> Result<Vec<Datum>, SqlError> {
    match array.data_type() {
        ArrowType::Null => return Ok(vec![Datum::Null; array.len()]),
        ArrowType::Decimal128(_, scale) if ty == DataType::Numeric => {
            let scale = *scale;
            return each(array.as_primitive::<Decimal128Type>().iter(), |v| numeric(BigInt::from(v), scale));
        }
        ArrowType::Decimal32(..) | ArrowType::Decimal64(..) | ArrowType::Decimal256(..) if ty == DataType::Numeric => {
            let (ArrowType::Decimal32(_, scale) | ArrowType::Decimal64(_, scale) | ArrowType::Decimal256(_, scale)) =
                *array.data_type()
            else {
                unreachable!("one of the three")
            };
            let wide = cast(array, &ArrowType::Decimal256(76, scale)).map_err(arrow)?;
            return each(wide.as_primitive::<Decimal256Type>().iter(), |v| {
                let digits = v.to_string().parse::<BigInt>();
                numeric(digits.map_err(|_| SqlError::new("XX000", "a decimal without digits"))?, scale)
            });
        }
        ArrowType::UInt64 => {
            return each(array.as_primitive::<UInt64Type>().iter(), |v| {
                i64::try_from(v).map(Datum::Int).map_err(|_| SqlError::new("22003", "bigint out of range"))
            });
        }
        ArrowType::List(_) | ArrowType::LargeList(_) | ArrowType::FixedSizeList(..) => return lists(array, ty),
        ArrowType::Duration(_) => {
            let ns = cast(array, &ArrowType::Duration(TimeUnit::Nanosecond)).map_err(arrow)?;
            // The difference of two times: days of 24 hours, and no months.
            return each(ns.as_primitive::<DurationNanosecondType>().iter(), |ns| {
                let day = value::datetime::DAY_NS;
                Ok(Datum::Interval(Interval { months: 0, days: (ns / day) as i32, nanos: ns % day }))
            });
        }
        _ => {}
    }
    let wanted = types::arrow_type(ty);
    let array = if *array.data_type() == wanted { Arc::clone(array) } else { cast(array, &wanted).map_err(arrow)? };
    fn primitive<T: ArrowPrimitiveType>(
        array: &ArrayRef,
        one: impl Fn(T::Native) -> Datum,
    ) -> Result<Vec<Datum>, SqlError> {
        each(array.as_primitive::<T>().iter(), |v| Ok(one(v)))
    }
    match ty {
        DataType::Bool => each(array.as_boolean().iter(), |v| Ok(Datum::Bool(v))),
        DataType::Int2 => primitive::<Int16Type>(&array, |v| Datum::Int(i64::from(v))),
        DataType::Int4 => primitive::<Int32Type>(&array, |v| Datum::Int(i64::from(v))),
        DataType::Int => primitive::<Int64Type>(&array, Datum::Int),
        DataType::Float4 => primitive::<Float32Type>(&array, Datum::Float4),
        DataType::Float => primitive::<Float64Type>(&array, Datum::Float),
        DataType::Numeric => each(array.as_primitive::<Decimal256Type>().iter(), |v| {
            let digits = v.to_string().parse::<BigInt>();
            numeric(digits.map_err(|_| SqlError::new("XX000", "a decimal without digits"))?, FREE_SCALE)
        }),
        DataType::Text => each(array.as_string::<i32>().iter(), |v| Ok(Datum::Text(v.into()))),
        DataType::Char => each(array.as_string::<i32>().iter(), |v| Ok(Datum::Char(v.into()))),
        DataType::Json => each(array.as_string::<i64>().iter(), |v| Json::parse(v).map(Datum::json)),
        DataType::Bytes => each(array.as_binary::<i32>().iter(), |v| Ok(Datum::Bytes(v.into()))),
        DataType::Uuid => each(array.as_fixed_size_binary().iter(), |v| {
            v.try_into().map(Datum::Uuid).map_err(|_| SqlError::new("XX000", "a uuid has 16 bytes"))
        }),
        DataType::Date => primitive::<Date32Type>(&array, Datum::Date),
        DataType::Time => primitive::<Time64MicrosecondType>(&array, Datum::Time),
        DataType::LocalTimestamp => primitive::<TimestampMicrosecondType>(&array, Datum::LocalTimestamp),
        DataType::Timestamp => {
            primitive::<TimestampNanosecondType>(&array, |ns| Datum::Timestamp(Timestamp::from_nanos(ns)))
        }
        DataType::Interval => primitive::<IntervalMonthDayNanoType>(&array, |v| {
            Datum::Interval(Interval { months: v.months, days: v.days, nanos: v.nanoseconds })
        }),
        DataType::Array(_) => lists(&array, ty),
    }
}

fn each<T>(
    values: impl Iterator<Item = Option<T>>,
    one: impl Fn(T) -> Result<Datum, SqlError>,
) -> Result<Vec<Datum>, SqlError> {
    values.map(|value| value.map_or(Ok(Datum::Null), &one)).collect()
}

/// A number with so many digits after the point: where nobody asked for them, zeros are not shown.
fn numeric(unscaled: BigInt, scale: i8) -> Result<Datum, SqlError> {
    let number = Numeric::new(unscaled, i64::from(scale))?;
    Ok(Datum::Numeric(if scale >= FREE_SCALE { number.trimmed() } else { number }))
}

fn lists(array: &ArrayRef, ty: DataType) -> Result<Vec<Datum>, SqlError> {
    let DataType::Array(element) = ty else {
        return Err(SqlError::new("XX000", format!("a list is no {}", ty.name())));
    };
    let row = |index: usize| match array.data_type() {
        ArrowType::List(_) => array.as_list::<i32>().value(index),
        ArrowType::LargeList(_) => array.as_list::<i64>().value(index),
        _ => array.as_fixed_size_list().value(index),
    };
    (0..array.len())
        .map(|index| {
            if array.is_null(index) {
                return Ok(Datum::Null);
            }
            let items = row(index);
            let nested = types::sql_type(items.data_type())?;
            if !matches!(nested, DataType::Array(_)) {
                return Ok(Datum::array(element, datums(&items, element.data_type())?));
            }
            // A list of lists is one array, if all of these have one form.
            let mut all = Vec::new();
            let mut inner: Option<Vec<usize>> = None;
            let parts = datums(&items, nested)?;
            let count = parts.len();
            for part in parts {
                let Datum::Array(part) = part else {
                    return Err(SqlError::new("2202E", "multidimensional arrays must not contain NULLs"));
                };
                if *inner.get_or_insert_with(|| part.dimensions.clone()) != part.dimensions {
                    let message = "multidimensional arrays must have array expressions with matching dimensions";
                    return Err(SqlError::new("2202E", message));
                }
                all.extend(part.items);
            }
            let mut dimensions = vec![count];
            dimensions.extend(inner.unwrap_or_default());
            if all.is_empty() {
                return Ok(Datum::array(element, Vec::new()));
            }
            Ok(Datum::Array(Box::new(ArrayValue { element, dimensions, items: all })))
        })
        .collect()
}
