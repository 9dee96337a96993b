//! What a row must be before it is written: its NULLs and its checks.

use super::insert::shown;
use crate::SqlError;
use crate::catalog::Table;
use crate::expr::EvalContext;
use crate::plan::check::{Checks, Violation};
use crate::types::Datum;

/// 23502 if a column that must not be NULL is.
pub(super) fn check_nulls(table: &Table, row: &[Datum]) -> Result<(), SqlError> {
    match table.columns.iter().zip(row).position(|(column, datum)| column.not_null && datum.is_null()) {
        None => Ok(()),
        Some(column) => Err(null(table, column, row)),
    }
}

fn null(table: &Table, column: usize, row: &[Datum]) -> SqlError {
    let (column, relation) = (&table.columns[column].name, &table.name);
    let message = format!("null value in column \"{column}\" of relation \"{relation}\" violates not-null constraint");
    SqlError::new("23502", message).detail(failing(table, row))
}

fn failing(table: &Table, row: &[Datum]) -> String {
    format!("Failing row contains ({}).", shown(table.visible_columns().map(|(at, _)| &row[at])))
}

/// 23502, 23514, 22003: the row must not be written, in place of the old one if there is one.
pub(super) fn check_row(
    table: &Table,
    checks: &Checks,
    old: Option<&[Datum]>,
    row: &[Datum],
    context: &EvalContext<'_>,
) -> Result<(), SqlError> {
    check_nulls(table, row)?;
    match checks.violation(old, row, context)? {
        None => Ok(()),
        Some(Violation::Null(column)) => Err(null(table, column, row)),
        Some(Violation::Check(name)) => {
            let message = format!("new row for relation \"{}\" violates check constraint \"{name}\"", table.name);
            Err(SqlError::new("23514", message).detail(failing(table, row)))
        }
        Some(Violation::Range(ty)) => Err(SqlError::new("22003", format!("{} out of range", ty.name()))
            .hint(format!("The column's type is being changed from {}; retry when that is done.", ty.name()))),
    }
}
