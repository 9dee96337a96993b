//! CHECK: its names, and what CREATE TABLE says of it.

use std::collections::BTreeSet;

use sqlparser::ast;

use super::index::auto_name;
use super::{check_name, rename};
use crate::SqlError;
use crate::catalog::{Check, CheckKind, CheckState, Table};
use crate::expr::Expr;
use crate::parse::ident;
use crate::plan::check::bind_check;

/// The most CHECKs of a table: each is computed for each row that is written.
const CHECKS_MAX: usize = 256;

/// A CHECK that holds for all rows, or that nobody has looked at; it is not in the table yet.
pub(super) fn check(
    table: &mut Table,
    check: &ast::CheckConstraint,
    own: Option<&ast::Ident>,
) -> Result<Check, SqlError> {
    let ast::CheckConstraint { name, expr, enforced } = check;
    if *enforced == Some(false) {
        return Err(SqlError::unsupported("NOT ENFORCED"));
    }
    if table.checks.len() >= CHECKS_MAX {
        return Err(SqlError::new("54011", format!("tables can have at most {CHECKS_MAX} check constraints")));
    }
    let text = expr.to_string();
    let bound = bind_check(table, &text)?;
    let text = rename::unqualified(&text, table)?;
    let mut columns = BTreeSet::new();
    bound.walk(&mut |expr| {
        if let Expr::Column(at) = expr {
            columns.insert(*at);
        }
    });
    let name = match name.as_ref().or(own) {
        Some(name) => {
            let name = check_name(ident(name))?;
            if table.has_constraint(&name) {
                return Err(exists(table, &name));
            }
            name
        }
        None => {
            // As PostgreSQL does: it is called after its column, if it has one.
            let of: Vec<&str> = match columns.first() {
                Some(at) if columns.len() == 1 => vec![table.columns[*at].name.as_str()],
                _ => Vec::new(),
            };
            let names = (0..).map(|number| auto_name(&table.name, &of, "check", number));
            let free = |name: &String| !table.has_constraint(name);
            names.into_iter().find(free).expect("some number is free")
        }
    };
    Ok(Check { id: table.next_number(), name, kind: CheckKind::Holds(text), state: CheckState::Public })
}

/// 42710.
pub(super) fn exists(table: &Table, name: &str) -> SqlError {
    SqlError::new("42710", format!("constraint \"{name}\" for relation \"{}\" already exists", table.name))
}

/// The CHECKs of a CREATE TABLE: those that are named first, so that the others make way.
pub(super) fn of_create(table: &mut Table, create: &ast::CreateTable) -> Result<(), SqlError> {
    let mut found: Vec<(&ast::CheckConstraint, Option<&ast::Ident>)> = Vec::new();
    for column in &create.columns {
        for option in &column.options {
            if let ast::ColumnOption::Check(check) = &option.option {
                found.push((check, option.name.as_ref()));
            }
        }
    }
    for constraint in &create.constraints {
        if let ast::TableConstraint::Check(check) = constraint {
            found.push((check, None));
        }
    }
    found.sort_by_key(|(check, own)| check.name.is_none() && own.is_none());
    for (of, own) in found {
        let made = check(table, of, own).map_err(|err| match err.sqlstate {
            "42710" => match of.name.as_ref().or(own).map(ident) {
                Some(name) if table.check(&name).is_some() => {
                    SqlError::new("42710", format!("check constraint \"{name}\" already exists"))
                }
                _ => err,
            },
            _ => err,
        })?;
        table.checks.push(made);
    }
    Ok(())
}
