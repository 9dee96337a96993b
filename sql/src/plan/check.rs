//! The checks of a table in plans: bound once, with the statement.
//!
//! As in PostgreSQL, NULLs are looked for first, and then the CHECKs in the order of their names; one that is NULL
//! holds. A CHECK may call what is not immutable (`CHECK (at <= now())`): it is the statement's time that counts.

use crate::SqlError;
use crate::catalog::{Check, CheckKind, CheckState, Table};
use crate::expr::{Binder, EvalContext, Expr, Params, eval};
use crate::parse;
use crate::plan::table_scope;
use crate::types::{DataType, Datum};

/// A CHECK's condition: 42804, 42803, 42P02, and what else may be wrong with it.
pub fn bind_check(table: &Table, text: &str) -> Result<Expr, SqlError> {
    let scope = table_scope(table, &table.name);
    let mut params = Params::default();
    let mut binder = Binder { scope: &scope, params: &mut params, aggregates: None, clause: "check constraints" };
    let expr = binder.boolean(&parse::parse_expr(text)?, "CHECK").map_err(|err| match err.message.as_str() {
        "a subquery is not supported" => SqlError::new("0A000", "cannot use subquery in check constraint"),
        _ => err,
    })?;
    if !params.types.is_empty() {
        return Err(SqlError::new("42P02", "there are no parameters in a check constraint"));
    }
    Ok(expr)
}

/// What a row is asked.
#[derive(Clone, Debug)]
enum Bound {
    Fits(usize, DataType),
    /// And whether that is on its way out.
    NotNull(usize, bool),
    Holds(String, Expr),
}

/// What a row must be, beside what its columns say.
#[derive(Clone, Debug, Default)]
pub struct Checks(Vec<Bound>);

/// Why a row must not be.
#[derive(Clone, Debug)]
pub enum Violation {
    /// This column is NULL.
    Null(usize),
    /// The CHECK of this name is false.
    Check(String),
    /// A number is too large for what its column takes just now.
    Range(DataType),
}

impl Checks {
    /// All checks of a table: whoever writes keeps each, however far it has come.
    pub fn of(table: &Table) -> Result<Checks, SqlError> {
        Checks::those(table, |_| true)
    }

    /// Some of them.
    pub fn those(table: &Table, wanted: impl Fn(&Check) -> bool) -> Result<Checks, SqlError> {
        let at = |id: u32| {
            let lost = || SqlError::new("XX001", format!("a check of \"{}\" is of no column", table.name));
            table.column_by_id(id).ok_or_else(lost)
        };
        let mut bound = Vec::new();
        for check in table.checks.iter().filter(|check| wanted(check)) {
            bound.push(match &check.kind {
                CheckKind::Holds(text) => Bound::Holds(check.name.clone(), bind_check(table, text)?),
                CheckKind::NotNull(id) => Bound::NotNull(at(*id)?, check.state == CheckState::Leaving),
                CheckKind::Fits(id, ty) => Bound::Fits(at(*id)?, *ty),
            });
        }
        let order = |bound: &Bound| match bound {
            Bound::Fits(..) => (0, String::new()),
            Bound::NotNull(..) => (1, String::new()),
            Bound::Holds(name, _) => (2, name.clone()),
        };
        bound.sort_by_cached_key(order);
        Ok(Checks(bound))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first that a row is against. `old` is the row before, if there was one: what is on its way out is not asked of a
    /// value that stays as it is, because somebody who is a step ahead may have put it there.
    pub fn violation(
        &self,
        old: Option<&[Datum]>,
        row: &[Datum],
        context: &EvalContext<'_>,
    ) -> Result<Option<Violation>, SqlError> {
        let stays = |at: usize| old.is_some_and(|old| old[at] == row[at]);
        for check in &self.0 {
            match check {
                Bound::Fits(at, ty) if !row[*at].is_null() && !row[*at].is_of(*ty) && !stays(*at) => {
                    return Ok(Some(Violation::Range(*ty)));
                }
                Bound::NotNull(at, leaving) if row[*at].is_null() && !(*leaving && stays(*at)) => {
                    return Ok(Some(Violation::Null(*at)));
                }
                Bound::Holds(name, expr) if eval(expr, row, context)? == Datum::Bool(false) => {
                    return Ok(Some(Violation::Check(name.clone())));
                }
                _ => {}
            }
        }
        Ok(None)
    }
}
