//! The functions and operators, by topic: tables of signatures with the code of each.
//!
//! They are the same for every way to run a statement: whoever evaluates expressions elsewhere can take them
//! from [`all`].

mod array;
mod array_text;
mod bytes;
mod calendar;
mod format;
mod json;
mod json_change;
mod math;
mod numeric_format;
mod pattern;
mod regex;
mod sequence;
mod text;
mod time;
mod time_format;
mod time_read;

use super::bind::Bound;
use super::resolve::{self, Failure};
use super::signature::short::ELEMENT;
use super::signature::{Result as ResultType, Signature};
use super::{Expr, Params};
use crate::SqlError;
use crate::types::{DataType, Datum};
use crate::value;

pub use super::signature::Function;
pub(super) use array::{element_at, make_array};
pub(super) use pattern::like;

/// The longest text that an operator or a function makes, in bytes.
pub(super) const TEXT_BYTES_MAX: usize = 64 << 20;

const TABLES: &[&[Signature]] = &[
    math::FUNCTIONS,
    text::FUNCTIONS,
    format::FUNCTIONS,
    regex::FUNCTIONS,
    bytes::FUNCTIONS,
    time::FUNCTIONS,
    calendar::FUNCTIONS,
    time_format::FUNCTIONS,
    time_read::FUNCTIONS,
    numeric_format::FUNCTIONS,
    json::FUNCTIONS,
    json_change::FUNCTIONS,
    array::FUNCTIONS,
    array_text::FUNCTIONS,
    sequence::FUNCTIONS,
];

/// greatest and least: their arguments are brought to one type first.
const EXTREMES: &[Signature] = &[
    Signature::lenient("greatest", &[ELEMENT], ResultType::AnyElement, |args, _| {
        Ok(extreme(args, std::cmp::Ordering::Greater))
    })
    .repeated(),
    Signature::lenient("least", &[ELEMENT], ResultType::AnyElement, |args, _| {
        Ok(extreme(args, std::cmp::Ordering::Less))
    })
    .repeated(),
];

/// All of them. Operators are named by their signs.
pub fn all() -> impl Iterator<Item = &'static Signature> {
    TABLES.iter().flat_map(|table| table.iter())
}

/// `greatest` or `least`, of values of one type.
pub(super) fn extreme_of(name: &str, ty: DataType) -> Function {
    let signature = EXTREMES.iter().find(|signature| signature.name == name).expect("one of the two");
    Function { signature, result: ty }
}

/// Picks a function by its name and the types of its arguments: 42883 if there is none, 42725 if there
/// are several. Also the type of its result.
pub fn resolve(name: &str, args: Vec<Bound>, params: &mut Params) -> Result<(Expr, DataType), SqlError> {
    pick(name, args, false, params)?.map_err(|(failure, known)| {
        let types: Vec<&str> = known.iter().map(|ty| ty.map_or("unknown", DataType::name)).collect();
        let types = types.join(", ");
        match failure {
            Failure::None => SqlError::new("42883", format!("function {name}({types}) does not exist")).hint(
                "No function matches the given name and argument types. You might need to add explicit type casts.",
            ),
            Failure::Ambiguous => SqlError::new("42725", format!("function {name}({types}) is not unique"))
                .hint("Could not choose a best candidate function. You might need to add explicit type casts."),
        }
    })
}

type Picked = Result<(Expr, DataType), (Failure, Vec<Option<DataType>>)>;

/// The call of a function or an operator, if the arguments say which; errors of the arguments are outside.
pub(super) fn pick(name: &str, args: Vec<Bound>, is_operator: bool, params: &mut Params) -> Result<Picked, SqlError> {
    let known: Vec<Option<DataType>> = args.iter().map(|arg| arg.ty).collect();
    let named = all().filter(|signature| signature.name == name);
    let (function, types) = match resolve::choose(named, &known, is_operator) {
        Ok(chosen) => chosen,
        Err(failure) => return Ok(Err((failure, known))),
    };
    let args = args.into_iter().zip(types).map(|(arg, ty)| arg.coerce(ty, params)).collect::<Result<_, _>>()?;
    Ok(Ok((Expr::Call(function, args), function.result)))
}

fn extreme(args: &[Datum], want: std::cmp::Ordering) -> Datum {
    let not_null = args.iter().filter(|arg| !arg.is_null());
    let best = not_null.reduce(|best, next| if value::compare(next, best) == want { next } else { best });
    best.cloned().unwrap_or(Datum::Null)
}

/// 54000 if a text would be too long.
pub(super) fn check_length(bytes: usize) -> Result<(), SqlError> {
    if bytes > TEXT_BYTES_MAX {
        return Err(SqlError::new("54000", format!("a value of {bytes} bytes is too long"))
            .detail(format!("A value has at most {TEXT_BYTES_MAX} bytes.")));
    }
    Ok(())
}

/// 22003 if an operation on finite numbers left their range.
pub(super) fn check_float(result: f64, inputs: &[f64]) -> Result<f64, SqlError> {
    if result.is_infinite() && inputs.iter().all(|input| input.is_finite()) {
        return Err(value::float_overflow());
    }
    Ok(result)
}

/// 22012.
pub(super) fn division_by_zero() -> SqlError {
    SqlError::new("22012", "division by zero")
}

/// The text of an argument of type TEXT.
fn text_of(datum: &Datum) -> &str {
    match datum {
        Datum::Text(text) | Datum::Char(text) => text,
        other => panic!("a function that takes text was given {other:?}"),
    }
}

/// The value of an argument of an integer type.
fn int_of(datum: &Datum) -> i64 {
    match datum {
        Datum::Int(v) => *v,
        other => panic!("a function that takes an integer was given {other:?}"),
    }
}

/// The value of an argument of type DOUBLE PRECISION.
fn float_of(datum: &Datum) -> f64 {
    match datum {
        Datum::Float(v) => *v,
        other => panic!("a function that takes a double was given {other:?}"),
    }
}

/// A new text: 54000 if it is too long.
fn new_text(text: String) -> Result<Datum, SqlError> {
    check_length(text.len())?;
    Ok(Datum::Text(text))
}

/// An integer result.
fn int(v: usize) -> Datum {
    Datum::Int(v as i64)
}
