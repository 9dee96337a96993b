//! count, sum, avg, min and max, and the check of what else may stand beside them.

use std::collections::BTreeSet;

use super::eval::{EvalContext, eval, is_true};
use super::{BinaryOp, Expr, arithmetic};
use crate::SqlError;
use crate::row;
use crate::types::{DataType, Datum, Numeric};
use crate::value;

/// Which aggregate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AggregateKind {
    /// count(*)
    CountRows,
    /// count(x)
    Count,
    /// sum(x)
    Sum,
    /// avg(x)
    Avg,
    /// min(x)
    Min,
    /// max(x)
    Max,
    /// bool_and(x), every(x)
    And,
    /// bool_or(x)
    Or,
}

/// One aggregate of a query.
#[derive(Clone, Debug, PartialEq)]
pub struct Aggregate {
    /// Which.
    pub kind: AggregateKind,
    /// Of what; a constant for count(*).
    pub arg: Expr,
    /// The type of that.
    pub ty: DataType,
    /// Each value once.
    pub distinct: bool,
    /// FILTER (WHERE ..).
    pub filter: Option<Expr>,
}

/// The most distinct values that an aggregate remembers, in bytes.
pub const DISTINCT_BYTES_MAX: usize = 64 << 20;

/// The state of one aggregate over one group.
#[derive(Clone, Debug, Default)]
pub struct Accumulator {
    count: i64,
    /// Of integers: no sum of so many rows as there can be is too large for it.
    total: i128,
    value: Option<Datum>,
    seen: BTreeSet<Vec<u8>>,
    seen_bytes: usize,
}

impl Accumulator {
    /// Takes one row in.
    pub fn add(&mut self, aggregate: &Aggregate, input: &[Datum], context: &EvalContext<'_>) -> Result<(), SqlError> {
        if let Some(filter) = &aggregate.filter
            && !is_true(filter, input, context)?
        {
            return Ok(());
        }
        if aggregate.kind == AggregateKind::CountRows {
            self.count += 1;
            return Ok(());
        }
        let datum = eval(&aggregate.arg, input, context)?;
        if datum.is_null() {
            return Ok(());
        }
        if aggregate.distinct {
            let mut key = Vec::new();
            row::encode_key_datum(&mut key, &datum, false);
            self.seen_bytes += key.len();
            if !self.seen.insert(key) {
                return Ok(());
            }
            if self.seen_bytes > DISTINCT_BYTES_MAX {
                return Err(SqlError::new("53200", "too many distinct values for an aggregate")
                    .detail(format!("It remembers at most {DISTINCT_BYTES_MAX} bytes.")));
            }
        }
        self.count += 1;
        if let (AggregateKind::Sum | AggregateKind::Avg, Datum::Int(v)) = (aggregate.kind, &datum) {
            self.total += i128::from(*v);
            return Ok(());
        }
        let datum = match (aggregate.kind, datum) {
            // An average of reals is a double.
            (AggregateKind::Avg, Datum::Float4(v)) => Datum::Float(f64::from(v)),
            (_, datum) => datum,
        };
        let Some(old) = self.value.take() else {
            self.value = Some(datum);
            return Ok(());
        };
        self.value = Some(match (aggregate.kind, old, datum) {
            (AggregateKind::Sum | AggregateKind::Avg, Datum::Interval(a), Datum::Interval(b)) => {
                Datum::Interval(a.plus(b)?)
            }
            (AggregateKind::Sum | AggregateKind::Avg, a, b) => arithmetic::binary(BinaryOp::Add, a, b)?,
            (AggregateKind::Min, a, b) => {
                if value::compare(&b, &a).is_lt() {
                    b
                } else {
                    a
                }
            }
            (AggregateKind::Max, a, b) => {
                if value::compare(&b, &a).is_gt() {
                    b
                } else {
                    a
                }
            }
            (AggregateKind::And, Datum::Bool(a), Datum::Bool(b)) => Datum::Bool(a && b),
            (AggregateKind::Or, Datum::Bool(a), Datum::Bool(b)) => Datum::Bool(a || b),
            (_, old, _) => old,
        });
        Ok(())
    }

    /// The result: 22003 if it does not fit its type.
    pub fn finish(self, aggregate: &Aggregate) -> Result<Datum, SqlError> {
        use AggregateKind as K;
        let kind = aggregate.kind;
        if matches!(kind, K::CountRows | K::Count) {
            return Ok(Datum::Int(self.count));
        }
        if self.count == 0 {
            return Ok(Datum::Null);
        }
        if matches!(kind, K::Sum | K::Avg) && aggregate.ty.is_integer() {
            let total = Numeric::from_i128(self.total, 0)?;
            return match (kind, aggregate.ty) {
                (K::Sum, DataType::Int) => Ok(Datum::Numeric(total)),
                (K::Sum, _) => value::cast(Datum::Numeric(total), DataType::Int),
                _ => total.div(&Numeric::from(self.count)).map(Datum::Numeric),
            };
        }
        match (kind, self.value) {
            (K::Avg, Some(Datum::Float(sum))) => Ok(Datum::Float(sum / self.count as f64)),
            (K::Avg, Some(Datum::Numeric(sum))) => sum.div(&Numeric::from(self.count)).map(Datum::Numeric),
            (K::Avg, Some(Datum::Interval(sum))) => sum.times(1.0 / self.count as f64).map(Datum::Interval),
            (_, value) => Ok(value.unwrap_or(Datum::Null)),
        }
    }
}

/// The kind of an aggregate by its name.
pub fn kind(name: &str) -> Option<AggregateKind> {
    Some(match name {
        "count" => AggregateKind::Count,
        "sum" => AggregateKind::Sum,
        "avg" => AggregateKind::Avg,
        "min" => AggregateKind::Min,
        "max" => AggregateKind::Max,
        "bool_and" | "every" => AggregateKind::And,
        "bool_or" => AggregateKind::Or,
        _ => return None,
    })
}

/// The type of the result; `None` if there is no such aggregate for the type.
pub fn result_type(kind: AggregateKind, arg: DataType) -> Option<DataType> {
    match (kind, arg) {
        (AggregateKind::CountRows | AggregateKind::Count, _) => Some(DataType::Int),
        (AggregateKind::Sum, DataType::Int2 | DataType::Int4) => Some(DataType::Int),
        (AggregateKind::Sum | AggregateKind::Avg, DataType::Int | DataType::Numeric) => Some(DataType::Numeric),
        (AggregateKind::Avg, DataType::Int2 | DataType::Int4) => Some(DataType::Numeric),
        (AggregateKind::Sum, DataType::Float | DataType::Float4) => Some(arg),
        (AggregateKind::Avg, DataType::Float | DataType::Float4) => Some(DataType::Float),
        (AggregateKind::Sum | AggregateKind::Avg, DataType::Interval) => Some(DataType::Interval),
        // As in PostgreSQL 15, there is no least or largest of these.
        (
            AggregateKind::Min | AggregateKind::Max,
            DataType::Bool | DataType::Json | DataType::Uuid | DataType::Bytes,
        ) => None,
        (AggregateKind::Min | AggregateKind::Max, _) => Some(arg),
        (AggregateKind::And | AggregateKind::Or, DataType::Bool) => Some(DataType::Bool),
        _ => None,
    }
}

/// Turns an expression over the input row into one over the grouped row: the values of GROUP BY, then
/// those of the aggregates. A column that is in neither is 42803.
pub fn rewrite(expr: &mut Expr, groups: &[Expr], column_name: &dyn Fn(usize) -> String) -> Result<(), SqlError> {
    if let Some(index) = groups.iter().position(|group| group == expr) {
        *expr = Expr::Column(index);
        return Ok(());
    }
    match expr {
        Expr::Aggregate(index) => {
            *expr = Expr::Column(groups.len() + *index);
            Ok(())
        }
        Expr::Column(index) => Err(SqlError::new(
            "42803",
            format!(
                "column \"{}\" must appear in the GROUP BY clause or be used in an aggregate function",
                column_name(*index)
            ),
        )),
        other => {
            let mut result = Ok(());
            other.for_children_mut(&mut |child| {
                if result.is_ok() {
                    result = rewrite(child, groups, column_name);
                }
            });
            result
        }
    }
}
