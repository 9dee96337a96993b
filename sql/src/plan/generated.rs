//! Columns that do not take their values from the client: defaults, computed columns, identities.
//!
//! A computed column (GENERATED ALWAYS AS (..) STORED) is a column like any other to whoever reads it, and so to
//! indexes and constraints. Whoever writes a row computes it last, from the row's other columns, also where
//! only they change. Its expression must depend on these and on nothing else.

use sqlparser::ast;

use super::{Plan, table_scope};
use crate::SqlError;
use crate::catalog::{Column, Generated, Table};
use crate::expr::{Binder, EvalContext, Expr, Params, Scope, eval};
use crate::parse;
use crate::types::Datum;

/// The functions that need what only the session can fetch.
pub const SEQUENCE_FUNCTIONS: [&str; 5] = ["nextval", "currval", "lastval", "setval", "pg_get_serial_sequence"];

/// The columns of a table that are computed, each with its expression over the row.
pub type Computed = Vec<(usize, Expr)>;

/// A column's DEFAULT, or NULL.
pub fn default_value(table: &Table, index: usize, params: &mut Params) -> Result<Expr, SqlError> {
    let column = &table.columns[index];
    match &column.default {
        None => Ok(Expr::Const(Datum::Null)),
        Some(text) => {
            let scope = Scope::default();
            let mut binder = Binder { scope: &scope, params: &mut *params, aggregates: None, clause: "DEFAULT" };
            let bound = binder.bind(&parse::parse_expr(text)?)?;
            bound.assign(column, params)
        }
    }
}

/// The computed columns of a table.
pub fn computed(table: &Table) -> Result<Computed, SqlError> {
    let mut computed = Vec::new();
    for (at, column) in table.columns.iter().enumerate() {
        if let Some(Generated::Stored(text)) = &column.generated {
            computed.push((at, bind(table, column, &parse::parse_expr(text)?)?));
        }
    }
    Ok(computed)
}

/// Computes these columns of a row.
pub fn compute(computed: &Computed, row: &mut [Datum], context: &EvalContext<'_>) -> Result<(), SqlError> {
    for (column, expr) in computed {
        row[*column] = eval(expr, row, context)?;
    }
    Ok(())
}

/// The expression of a computed column: 42P17 if it depends on anything but the row's other columns.
pub fn bind(table: &Table, column: &Column, expr: &ast::Expr) -> Result<Expr, SqlError> {
    let scope = table_scope(table, &table.name);
    let mut params = Params::default();
    let clause = "column generation expressions";
    let mut binder = Binder { scope: &scope, params: &mut params, aggregates: None, clause };
    let expr = binder.bind(expr)?.assign(column, &mut params)?;
    if !params.types.is_empty() {
        return Err(SqlError::new("42P02", "there are no parameters in a generation expression"));
    }
    let (mut volatile, mut generated) = (false, None);
    expr.walk(&mut |expr| match expr {
        Expr::Now => volatile = true,
        Expr::Call(function, _) => volatile |= function.signature.volatile,
        Expr::Column(at) if table.columns[*at].is_stored() => generated = Some(*at),
        _ => {}
    });
    if let Some(at) = generated {
        let message =
            format!("cannot use generated column \"{}\" in column generation expression", table.columns[at].name);
        return Err(
            SqlError::new("42P17", message).detail("A generated column cannot reference another generated column.")
        );
    }
    if volatile {
        return Err(SqlError::new("42P17", "generation expression is not immutable"));
    }
    Ok(expr)
}

fn why(column: &Column) -> Option<String> {
    match column.generated {
        Some(Generated::Stored(_)) => Some(format!("Column \"{}\" is a generated column.", column.name)),
        Some(Generated::Identity { always: true, .. }) => {
            Some(format!("Column \"{}\" is an identity column defined as GENERATED ALWAYS.", column.name))
        }
        _ => None,
    }
}

/// 428C9 if INSERT may not give a column a value.
pub fn may_insert(column: &Column, overriding: Overriding) -> Result<(), SqlError> {
    let Some(why) = why(column) else { return Ok(()) };
    if overriding == Overriding::System && column.is_identity() {
        return Ok(());
    }
    let message = format!("cannot insert a non-DEFAULT value into column \"{}\"", column.name);
    let err = SqlError::new("428C9", message).detail(why);
    Err(if column.is_identity() { err.hint("Use OVERRIDING SYSTEM VALUE to override.") } else { err })
}

/// 428C9 if UPDATE may not give a column a value.
pub fn may_update(column: &Column) -> Result<(), SqlError> {
    match why(column) {
        None => Ok(()),
        Some(why) => {
            Err(SqlError::new("428C9", format!("column \"{}\" can only be updated to DEFAULT", column.name))
                .detail(why))
        }
    }
}

/// What INSERT says of the values of identity columns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overriding {
    /// Nothing.
    #[default]
    Nothing,
    /// OVERRIDING SYSTEM VALUE: those that are given are taken.
    System,
    /// OVERRIDING USER VALUE: those that are given are ignored.
    User,
}

/// Whether a SELECT asks for numbers of sequences: it may have to be run again.
pub fn draws(plan: &Plan) -> bool {
    let Plan::Select(plan) = plan else { return false };
    let mut draws = false;
    let mut look = |expr: &Expr| {
        expr.walk(&mut |expr| {
            if let Expr::Call(function, _) = expr {
                draws |= SEQUENCE_FUNCTIONS.contains(&function.name());
            }
        });
    };
    plan.project.iter().chain(&plan.filter).chain(plan.values.iter().flatten().flatten()).for_each(&mut look);
    plan.limit.iter().chain(&plan.offset).for_each(&mut look);
    plan.scan.iter().flat_map(|scan| &scan.filter).for_each(&mut look);
    if let Some(grouping) = &plan.grouping {
        grouping.keys.iter().chain(&grouping.having).for_each(&mut look);
        grouping.aggregates.iter().map(|aggregate| &aggregate.arg).for_each(&mut look);
    }
    draws
}
