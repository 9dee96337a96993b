//! SERIAL, GENERATED, and the key of a table without one, in CREATE TABLE.

use sqlparser::ast;

use crate::SqlError;
use crate::catalog::{Column, Generated, HIDDEN_KEY, KeyColumn, Table};
use crate::expr::bind;
use crate::plan::generated::computed;
use crate::types::{DataType, TypeModifier};

/// A column's type, and whether it is one of those that number rows.
pub(super) fn type_of(ty: &ast::DataType) -> Result<(DataType, Option<TypeModifier>, Option<Generated>), SqlError> {
    if let ast::DataType::Custom(name, arguments) = ty
        && arguments.is_empty()
    {
        let ty = match name.to_string().to_lowercase().as_str() {
            "smallserial" | "serial2" => Some(DataType::Int2),
            "serial" | "serial4" => Some(DataType::Int4),
            "bigserial" | "serial8" => Some(DataType::Int),
            _ => None,
        };
        if let Some(ty) = ty {
            return Ok((ty, None, Some(Generated::Serial)));
        }
    }
    let (ty, modifier) = bind::type_of(ty)?;
    Ok((ty, modifier, None))
}

/// 42701 for the one name that no column may have.
pub(super) fn check_name(name: &str) -> Result<(), SqlError> {
    if name == HIDDEN_KEY {
        return Err(SqlError::new("42701", format!("column name \"{name}\" conflicts with a system column name")));
    }
    Ok(())
}

/// GENERATED ..: the expression itself is looked at once all columns are known.
pub(super) fn option(table: &Table, column: &mut Column, option: &ast::ColumnOption) -> Result<(), SqlError> {
    let of = || format!("for column \"{}\" of table \"{}\"", column.name, table.name);
    let ast::ColumnOption::Generated { generated_as, sequence_options, generation_expr, generation_expr_mode, .. } =
        option
    else {
        return Err(SqlError::unsupported("this form of GENERATED"));
    };
    let generated = match (generation_expr, sequence_options) {
        (Some(expr), _) if *generation_expr_mode == Some(ast::GeneratedExpressionMode::Stored) => {
            Generated::Stored(expr.to_string())
        }
        (None, Some(options)) => {
            if !matches!(column.ty, DataType::Int2 | DataType::Int4 | DataType::Int) {
                return Err(SqlError::new("22023", "identity column type must be smallint, integer, or bigint"));
            }
            column.not_null = true;
            let text: String = options.iter().map(ToString::to_string).collect();
            let text = text.trim().to_string();
            let always = *generated_as == ast::GeneratedAs::Always;
            Generated::Identity { always, options: (!text.is_empty()).then_some(text) }
        }
        _ => return Err(SqlError::unsupported("a generated column that is not STORED")),
    };
    match (&column.generated, &generated) {
        (None, _) => {}
        (Some(Generated::Stored(_)), Generated::Stored(_)) => {
            return Err(SqlError::syntax(format!("multiple generation clauses specified {}", of())));
        }
        (Some(Generated::Identity { .. }), Generated::Identity { .. }) => {
            return Err(SqlError::syntax(format!("multiple identity specifications {}", of())));
        }
        (Some(Generated::Serial), Generated::Identity { .. }) => {
            return Err(SqlError::syntax(format!("both default and identity specified {}", of())));
        }
        (Some(Generated::Serial), Generated::Stored(_)) => {
            return Err(SqlError::syntax(format!("both default and generation expression specified {}", of())));
        }
        _ => return Err(SqlError::syntax(format!("both identity and generation expression specified {}", of()))),
    }
    column.generated = Some(generated);
    Ok(())
}

/// 42601 for a column that has its value from two places.
pub(super) fn check(table: &Table, column: &Column) -> Result<(), SqlError> {
    if column.default.is_none() {
        return Ok(());
    }
    let what = match column.generated {
        None => return Ok(()),
        Some(Generated::Stored(_)) => "both default and generation expression specified",
        Some(Generated::Identity { .. }) => "both default and identity specified",
        Some(Generated::Serial) => "multiple default values specified",
    };
    Err(SqlError::syntax(format!("{what} for column \"{}\" of table \"{}\"", column.name, table.name)))
}

/// Gives a table its key if it was declared without one, and looks at its computed columns.
pub(super) fn finish(table: &mut Table) -> Result<(), SqlError> {
    if table.key.is_empty() {
        table.key.push(KeyColumn { column: table.columns.len(), desc: false });
        let (not_null, default) = (true, Some("gen_random_uuid()".into()));
        let id = table.next_number();
        table.columns.push(Column { not_null, default, ..Column::new(id, HIDDEN_KEY, DataType::Uuid) });
    }
    computed(table).map(|_| ())
}
