//! count, sum, avg, min and max, and the check of what else may stand beside them.

use std::collections::BTreeSet;

use super::Expr;
use super::eval::{EvalContext, eval, is_true};
use crate::SqlError;
use crate::row;
use crate::types::{DataType, Datum};
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
    /// avg(x), a double
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
        let Some(old) = self.value.take() else {
            self.value = Some(match (aggregate.kind, datum) {
                (AggregateKind::Avg, Datum::Int(v)) => Datum::Float(v as f64),
                (_, datum) => datum,
            });
            return Ok(());
        };
        self.value = Some(match (aggregate.kind, old, datum) {
            (AggregateKind::Sum, Datum::Int(a), Datum::Int(b)) => {
                Datum::Int(a.checked_add(b).ok_or_else(super::eval::out_of_range)?)
            }
            (AggregateKind::Sum | AggregateKind::Avg, Datum::Float(a), Datum::Float(b)) => Datum::Float(a + b),
            (AggregateKind::Avg, Datum::Float(a), Datum::Int(b)) => Datum::Float(a + b as f64),
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

    /// The result.
    pub fn finish(self, aggregate: &Aggregate) -> Datum {
        match (aggregate.kind, self.value) {
            (AggregateKind::CountRows | AggregateKind::Count, _) => Datum::Int(self.count),
            (AggregateKind::Avg, Some(Datum::Float(sum))) => Datum::Float(sum / self.count as f64),
            (_, value) => value.unwrap_or(Datum::Null),
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
        (AggregateKind::Sum, DataType::Int | DataType::Float) => Some(arg),
        (AggregateKind::Avg, DataType::Int | DataType::Float) => Some(DataType::Float),
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
