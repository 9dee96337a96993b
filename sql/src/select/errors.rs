//! DataFusion's errors in PostgreSQL's form.

use datafusion::arrow::datatypes::DataType as ArrowType;
use datafusion::arrow::error::ArrowError;
use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;

use super::types;
use crate::SqlError;
use crate::types::DataType;

/// Wraps an error of ours, so that it comes through DataFusion unharmed.
pub(super) fn wrap(err: SqlError) -> DataFusionError {
    DataFusionError::External(Box::new(err))
}

/// The SQL error of a failed plan.
pub(super) fn sql(err: DataFusionError) -> SqlError {
    if let Some(own) = own(&err) {
        return own;
    }
    match err.find_root() {
        DataFusionError::SchemaError(err, _) => schema(err),
        DataFusionError::ArrowError(err, _) => arrow(err),
        DataFusionError::ResourcesExhausted(_) => {
            SqlError::new("53200", "the queries of this node have no memory left")
                .hint("Try again when others have ended, read or sort less, or raise --query-memory-max.")
        }
        DataFusionError::NotImplemented(text) => SqlError::new("0A000", format!("not supported: {}", one_line(text))),
        DataFusionError::SQL(err, _) => SqlError::syntax(one_line(&err.to_string())),
        DataFusionError::Plan(text) => plan(text),
        DataFusionError::Execution(text) => execution(text),
        DataFusionError::Collection(all) if !all.is_empty() => sql_of_first(all),
        other => SqlError::new("XX000", one_line(&other.strip_backtrace())),
    }
}

fn sql_of_first(all: &[DataFusionError]) -> SqlError {
    match all[0].find_root() {
        DataFusionError::SchemaError(err, _) => schema(err),
        DataFusionError::Plan(text) => plan(text),
        other => SqlError::new("XX000", one_line(&other.strip_backtrace())),
    }
}

/// An error of ours somewhere in it.
fn own(err: &DataFusionError) -> Option<SqlError> {
    let mut at: Option<&(dyn std::error::Error + 'static)> = Some(err);
    while let Some(err) = at {
        if let Some(own) = err.downcast_ref::<SqlError>() {
            return Some(own.clone());
        }
        match err.downcast_ref::<DataFusionError>() {
            Some(DataFusionError::External(inner)) => at = Some(&**inner),
            Some(DataFusionError::Shared(inner)) => at = Some(&**inner),
            Some(DataFusionError::Collection(all)) => at = all.first().map(|first| first as _),
            Some(DataFusionError::ArrowError(inner, _)) => match &**inner {
                ArrowError::ExternalError(inner) => at = Some(&**inner),
                _ => return None,
            },
            _ => at = err.source(),
        }
    }
    None
}

fn schema(err: &SchemaError) -> SqlError {
    match err {
        SchemaError::AmbiguousReference { field } => {
            SqlError::new("42702", format!("column reference \"{}\" is ambiguous", field.name))
        }
        SchemaError::DuplicateQualifiedField { name, .. } | SchemaError::DuplicateUnqualifiedField { name } => {
            SqlError::new("42701", format!("column \"{name}\" specified more than once"))
        }
        SchemaError::FieldNotFound { field, valid_fields } => match &field.relation {
            None => SqlError::new("42703", format!("column \"{}\" does not exist", field.name)),
            Some(table) if valid_fields.iter().any(|valid| valid.relation.as_ref() == Some(table)) => {
                SqlError::new("42703", format!("column {table}.{} does not exist", field.name))
            }
            Some(table) => SqlError::new("42P01", format!("missing FROM-clause entry for table \"{table}\"")),
        },
    }
}

fn arrow(err: &ArrowError) -> SqlError {
    match err {
        ArrowError::DivideByZero => SqlError::new("22012", "division by zero"),
        ArrowError::ArithmeticOverflow(_) => SqlError::new("22003", "value out of range"),
        ArrowError::CastError(text) | ArrowError::ParseError(text) => SqlError::new("22P02", one_line(text)),
        ArrowError::InvalidArgumentError(text) if text.contains("too large to store") => {
            SqlError::new("22003", "numeric field overflow").detail(one_line(text))
        }
        ArrowError::ComputeError(text) if text.to_lowercase().contains("overflow") => {
            SqlError::new("22003", "value out of range")
        }
        other => SqlError::new("XX000", one_line(&other.to_string())),
    }
}

/// What DataFusion says in words only. Each line was seen in its source.
fn plan(text: &str) -> SqlError {
    let lower = text.to_lowercase();
    let shown = one_line(text);
    let has = |what: &str| lower.contains(what);
    if let Some(name) = between(text, "Invalid function '", "'") {
        return SqlError::new("42883", format!("function {name} does not exist"))
            .hint("No function matches the given name. You might need to add explicit type casts.");
    }
    let code = match () {
        _ if has("must appear in the group by clause") || has("must be part of the group by") => {
            return match between(text, "column \"", "\"") {
                Some(column) => SqlError::new(
                    "42803",
                    format!(
                        "column \"{column}\" must appear in the GROUP BY clause or be used in an aggregate function"
                    ),
                ),
                None => SqlError::new("42803", shown),
            };
        }
        _ if has("function") && (has("failed to match any signature") || has("no function matches")) => "42883",
        _ if has("does not support") && has("type") => "42883",
        _ if has("cannot coerce") || has("cannot infer common argument type") => "42883",
        _ if has("non-boolean predicate") => {
            let found = text.rsplit_once("returning ").and_then(|(_, ty)| ty.trim().parse::<ArrowType>().ok());
            let found = found.and_then(|ty| types::sql_type(&ty).ok()).map_or("unknown", DataType::name);
            return SqlError::new("42804", format!("argument of WHERE must be type boolean, not type {found}"));
        }
        _ if has("aggregate functions are not allowed in the where") => {
            return SqlError::new("42803", "aggregate functions are not allowed in WHERE");
        }
        _ if has("different number of columns") => {
            let name = ["INTERSECT", "EXCEPT"].into_iter().find(|name| text.contains(name)).unwrap_or("UNION");
            return SqlError::syntax(format!("each {name} query must have the same number of columns"));
        }
        _ if has("should only return one column") => return SqlError::syntax("subquery must return only one column"),
        _ if has("aggregate") && has("group by") => "42803",
        _ if has("limit must be") => return SqlError::new("2201W", "LIMIT must not be negative"),
        _ if has("offset must be") => return SqlError::new("2201X", "OFFSET must not be negative"),
        _ if has("unsupported") || has("not supported") || has("physical plan does not support") => "0A000",
        _ => "42601",
    };
    SqlError::new(code, lower_first(&shown))
}

fn execution(text: &str) -> SqlError {
    let lower = text.to_lowercase();
    if lower.contains("more than one row") {
        return SqlError::new("21000", "more than one row returned by a subquery used as an expression");
    }
    if lower.contains("divide by zero") {
        return SqlError::new("22012", "division by zero");
    }
    if lower.contains("overflow") {
        return SqlError::new("22003", "value out of range");
    }
    SqlError::new("22023", lower_first(&one_line(text)))
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let rest = &text[text.find(before)? + before.len()..];
    Some(&rest[..rest.find(after)?])
}

fn one_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default().trim().trim_end_matches('.');
    line.chars().take(300).collect()
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |first| first.to_lowercase().chain(chars).collect())
}
