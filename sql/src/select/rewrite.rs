//! What of an expression reaches DataFusion, and how: the second half of `check`.

use sqlparser::ast;

use super::functions;
use crate::SqlError;
use crate::parse::ident;

/// Functions that DataFusion has under a name of PostgreSQL's, for something else.
const OTHER_MEANING: &[&str] = &["to_char", "to_date", "to_timestamp", "date_format", "version", "contains"];

/// Takes the cast off a number again that `check_expr` put around it.
pub(super) fn plain(expr: &mut ast::Expr) {
    if let ast::Expr::Cast { expr: inner, data_type: ast::DataType::Int4(None), .. } = expr
        && matches!(&**inner, ast::Expr::Value(value) if matches!(value.value, ast::Value::Number(..)))
    {
        *expr = (**inner).clone();
    }
}

/// The same for the bounds of a window.
pub(super) fn plain_frame(spec: &mut ast::WindowSpec) {
    let Some(frame) = &mut spec.window_frame else { return };
    for bound in std::iter::once(&mut frame.start_bound).chain(&mut frame.end_bound) {
        if let ast::WindowFrameBound::Preceding(Some(expr)) | ast::WindowFrameBound::Following(Some(expr)) = bound {
            plain(expr);
        }
    }
}

/// Checks an expression whose parts were checked already, and writes it as DataFusion understands it.
pub(super) fn check_expr(expr: &mut ast::Expr) -> Result<(), SqlError> {
    match expr {
        ast::Expr::Function(function) => check_function(function),
        ast::Expr::Collate { collation, .. } => {
            let name = collation.to_string();
            if matches!(name.as_str(), "\"C\"" | "\"POSIX\"" | "\"ucs_basic\"" | "pg_catalog.\"default\"") {
                // All text is compared by its bytes.
                let ast::Expr::Collate { expr: inner, .. } =
                    std::mem::replace(expr, ast::Expr::value(ast::Value::Null))
                else {
                    unreachable!("it was a COLLATE above");
                };
                *expr = ast::Expr::Nested(inner);
                return Ok(());
            }
            Err(SqlError::unsupported(format!("the collation {name}")))
        }
        // A number with an exponent may have more digits than a decimal of Arrow.
        ast::Expr::Value(value) if matches!(&value.value, ast::Value::Number(digits, _) if digits.contains(['e', 'E'])) =>
        {
            let number = std::mem::replace(expr, ast::Expr::value(ast::Value::Null));
            let text = ast::Expr::value(ast::Value::SingleQuotedString(number.to_string()));
            *expr = cast(text, ast::DataType::DoublePrecision);
            Ok(())
        }
        // A whole number is an integer if it fits, where DataFusion has a bigint.
        ast::Expr::Value(value) if matches!(&value.value, ast::Value::Number(digits, _) if digits.parse::<i32>().is_ok()) =>
        {
            let number = std::mem::replace(expr, ast::Expr::value(ast::Value::Null));
            *expr = cast(number, ast::DataType::Int4(None));
            Ok(())
        }
        ast::Expr::CompoundIdentifier(parts) if parts.len() > 2 => {
            let names: Vec<String> = parts.iter().map(ident).collect();
            match names.as_slice() {
                [schema, _, _] if schema == "public" => {
                    parts.remove(0);
                    Ok(())
                }
                [.., table, _] => {
                    Err(SqlError::new("42P01", format!("invalid reference to FROM-clause entry for table \"{table}\"")))
                }
                _ => unreachable!("there are more than two"),
            }
        }
        ast::Expr::CompoundFieldAccess { access_chain, .. } => {
            for access in access_chain {
                if let ast::AccessExpr::Subscript(subscript) = access {
                    match subscript {
                        ast::Subscript::Index { index } => plain(index),
                        ast::Subscript::Slice { lower_bound, upper_bound, stride } => {
                            [lower_bound, upper_bound, stride].into_iter().flatten().for_each(plain);
                        }
                    }
                }
            }
            Ok(())
        }
        ast::Expr::Like { any: true, .. } | ast::Expr::ILike { any: true, .. } => {
            Err(SqlError::unsupported("LIKE ANY of a list"))
        }
        ast::Expr::Trim { .. } | ast::Expr::Substring { .. } | ast::Expr::Ceil { .. } | ast::Expr::Floor { .. } => {
            functions_of_their_own_syntax(expr);
            Ok(())
        }
        ast::Expr::Position { .. }
        | ast::Expr::Extract { .. }
        | ast::Expr::Overlay { .. }
        | ast::Expr::AtTimeZone { .. } => {
            functions_of_their_own_syntax(expr);
            Ok(())
        }
        _ => Ok(()),
    }
}

/// `TRIM(BOTH x FROM y)` and the like as plain calls, so that our own functions serve them.
fn functions_of_their_own_syntax(expr: &mut ast::Expr) {
    use ast::Expr as E;
    let taken = std::mem::replace(expr, E::value(ast::Value::Null));
    *expr = match taken {
        E::Trim { expr, trim_where, trim_what, trim_characters } => {
            let name = match trim_where {
                Some(ast::TrimWhereField::Leading) => "ltrim",
                Some(ast::TrimWhereField::Trailing) => "rtrim",
                _ => "btrim",
            };
            let mut args = vec![*expr];
            args.extend(trim_what.map(|what| *what));
            args.extend(trim_characters.into_iter().flatten());
            call(name, args)
        }
        E::Substring { expr, substring_from, substring_for, special: _, shorthand: _ } => {
            let one = || Box::new(E::value(ast::Value::Number("1".into(), false)));
            let from = substring_from.unwrap_or_else(one);
            let mut args = vec![*expr, *from];
            args.extend(substring_for.map(|length| *length));
            call("substr", args)
        }
        E::Position { expr, r#in } => call("strpos", vec![*r#in, *expr]),
        E::Ceil { expr, field: ast::CeilFloorKind::DateTimeField(ast::DateTimeField::NoDateTime) } => {
            call("ceil", vec![*expr])
        }
        E::Floor { expr, field: ast::CeilFloorKind::DateTimeField(ast::DateTimeField::NoDateTime) } => {
            call("floor", vec![*expr])
        }
        E::Extract { field, syntax: _, expr } => {
            let field = ast::Value::SingleQuotedString(field.to_string().to_lowercase());
            call("extract", vec![E::value(field), *expr])
        }
        E::Overlay { expr, overlay_what, overlay_from, overlay_for } => {
            let mut args = vec![*expr, *overlay_what, *overlay_from];
            args.extend(overlay_for.map(|length| *length));
            call("overlay", args)
        }
        E::AtTimeZone { timestamp, time_zone } => call("timezone", vec![*time_zone, *timestamp]),
        other => other,
    };
}

fn cast(expr: ast::Expr, data_type: ast::DataType) -> ast::Expr {
    let kind = ast::CastKind::Cast;
    ast::Expr::Cast { kind, expr: Box::new(expr), data_type, array: false, format: None }
}

fn call(name: &str, args: Vec<ast::Expr>) -> ast::Expr {
    let args = args.into_iter().map(|arg| ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(arg))).collect();
    ast::Expr::Function(ast::Function {
        name: ast::ObjectName::from(vec![ast::Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: ast::FunctionArguments::None,
        args: ast::FunctionArguments::List(ast::FunctionArgumentList {
            duplicate_treatment: None,
            args,
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

fn check_function(function: &mut ast::Function) -> Result<(), SqlError> {
    let ast::Function {
        name,
        uses_odbc_syntax: false,
        parameters: ast::FunctionArguments::None,
        args,
        filter: _,
        null_treatment: _,
        over,
        within_group: _,
    } = function
    else {
        return Err(SqlError::unsupported("this form of a function call"));
    };
    // `pg_catalog.f` is `f`.
    if let [ast::ObjectNamePart::Identifier(schema), ast::ObjectNamePart::Identifier(_)] = name.0.as_slice()
        && ident(schema) == "pg_catalog"
    {
        name.0.remove(0);
    }
    let [ast::ObjectNamePart::Identifier(last)] = name.0.as_mut_slice() else {
        return Err(SqlError::unsupported(format!("the function {name}")));
    };
    let called = ident(last);
    if OTHER_MEANING.contains(&called.as_str()) && !functions::is_known(&called) {
        return Err(SqlError::unsupported(format!("the function {called}")));
    }
    let renamed = match called.as_str() {
        "every" => Some("bool_and"),
        "transaction_timestamp" | "statement_timestamp" | "current_timestamp" => Some("now"),
        _ => None,
    };
    if let Some(ast::WindowType::WindowSpec(spec)) = over {
        plain_frame(spec);
    }
    if let Some(renamed) = renamed {
        *last = ast::Ident::new(renamed);
        if matches!(args, ast::FunctionArguments::None) {
            *args = ast::FunctionArguments::List(ast::FunctionArgumentList {
                duplicate_treatment: None,
                args: Vec::new(),
                clauses: Vec::new(),
            });
        }
    }
    Ok(())
}
