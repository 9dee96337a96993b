//! The functions: which there are, for which types, and what they compute.

use super::bind::Bound;
use super::eval::{check_length, division_by_zero, out_of_range};
use super::{Expr, Params};
use crate::SqlError;
use crate::types::{DataType, Datum};
use crate::value;

/// A function, for the types that binding chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Function {
    Abs,
    Ceil,
    Floor,
    Round,
    RoundTo,
    Sign,
    Sqrt,
    Power,
    Mod,
    Length,
    OctetLength,
    Lower,
    Upper,
    Substr,
    Trim,
    TrimStart,
    TrimEnd,
    Concat,
    Replace,
    Strpos,
    Left,
    Right,
    Greatest,
    Least,
}

use DataType as T;

/// Picks a function by its name and the types of its arguments: 42883 if there is none. Also the
/// type of its result.
pub fn resolve(name: &str, args: Vec<Bound>, params: &mut Params) -> Result<(Expr, DataType), SqlError> {
    let known: Vec<Option<DataType>> = args.iter().map(|arg| arg.ty).collect();
    let number = |index: usize| matches!(known.get(index), Some(Some(T::Int | T::Float) | None));
    let is =
        |index: usize, ty: DataType| matches!(known.get(index), Some(found) if found.is_none_or(|found| found == ty));
    let text = |index: usize| is(index, T::Text);
    let int = |index: usize| is(index, T::Int);
    let bytes = |index: usize| known.get(index) == Some(&Some(T::Bytes));
    let one_int = known == [Some(T::Int)];
    let count = args.len();
    // The function, the types that the arguments are brought to, and the type of the result.
    let chosen: Option<(Function, Vec<DataType>, DataType)> = match (name, count) {
        ("abs", 1) if one_int => Some((Function::Abs, vec![T::Int], T::Int)),
        ("abs", 1) if number(0) => Some((Function::Abs, vec![T::Float], T::Float)),
        ("ceil" | "ceiling", 1) if number(0) => Some((Function::Ceil, vec![T::Float], T::Float)),
        ("floor", 1) if number(0) => Some((Function::Floor, vec![T::Float], T::Float)),
        ("round", 1) if number(0) => Some((Function::Round, vec![T::Float], T::Float)),
        ("round", 2) if number(0) && int(1) => Some((Function::RoundTo, vec![T::Float, T::Int], T::Float)),
        ("sign", 1) if number(0) => Some((Function::Sign, vec![T::Float], T::Float)),
        ("sqrt", 1) if number(0) => Some((Function::Sqrt, vec![T::Float], T::Float)),
        ("power" | "pow", 2) if number(0) && number(1) => Some((Function::Power, vec![T::Float, T::Float], T::Float)),
        ("mod", 2) if int(0) && int(1) => Some((Function::Mod, vec![T::Int, T::Int], T::Int)),
        ("length" | "octet_length", 1) if bytes(0) => Some((Function::OctetLength, vec![T::Bytes], T::Int)),
        ("length" | "char_length" | "character_length", 1) if text(0) => {
            Some((Function::Length, vec![T::Text], T::Int))
        }
        ("octet_length", 1) if text(0) => Some((Function::OctetLength, vec![T::Text], T::Int)),
        ("lower", 1) if text(0) => Some((Function::Lower, vec![T::Text], T::Text)),
        ("upper", 1) if text(0) => Some((Function::Upper, vec![T::Text], T::Text)),
        ("substr" | "substring", 2) if text(0) && int(1) => Some((Function::Substr, vec![T::Text, T::Int], T::Text)),
        ("substr" | "substring", 3) if text(0) && int(1) && int(2) => {
            Some((Function::Substr, vec![T::Text, T::Int, T::Int], T::Text))
        }
        ("trim" | "btrim", 1 | 2) if text(0) && (count == 1 || text(1)) => {
            Some((Function::Trim, vec![T::Text; count], T::Text))
        }
        ("ltrim", 1 | 2) if text(0) && (count == 1 || text(1)) => {
            Some((Function::TrimStart, vec![T::Text; count], T::Text))
        }
        ("rtrim", 1 | 2) if text(0) && (count == 1 || text(1)) => {
            Some((Function::TrimEnd, vec![T::Text; count], T::Text))
        }
        ("replace", 3) if text(0) && text(1) && text(2) => Some((Function::Replace, vec![T::Text; 3], T::Text)),
        ("strpos", 2) if text(0) && text(1) => Some((Function::Strpos, vec![T::Text; 2], T::Int)),
        ("left", 2) if text(0) && int(1) => Some((Function::Left, vec![T::Text, T::Int], T::Text)),
        ("right", 2) if text(0) && int(1) => Some((Function::Right, vec![T::Text, T::Int], T::Text)),
        ("concat", 1..) => Some((Function::Concat, known.iter().map(|ty| ty.unwrap_or(T::Text)).collect(), T::Text)),
        _ => None,
    };
    let Some((function, types, result)) = chosen else { return Err(undefined(name, &known)) };
    let args = args.into_iter().zip(types).map(|(arg, ty)| arg.coerce(ty, params)).collect::<Result<_, _>>()?;
    Ok((Expr::Call(function, args), result))
}

fn undefined(name: &str, types: &[Option<DataType>]) -> SqlError {
    let types: Vec<&str> = types.iter().map(|ty| ty.map_or("unknown", DataType::name)).collect();
    SqlError::new("42883", format!("function {name}({}) does not exist", types.join(", ")))
        .hint("No function matches the given name and argument types. You might need to add explicit type casts.")
}

/// 22003 if an operation on finite numbers left their range.
pub(super) fn check_float(result: f64, inputs: &[f64]) -> Result<f64, SqlError> {
    if result.is_infinite() && inputs.iter().all(|input| input.is_finite()) {
        return Err(SqlError::new("22003", "value out of range: overflow"));
    }
    Ok(result)
}

/// Calls it. Arguments are of the types that [`resolve`] gave them.
pub(super) fn call(function: Function, args: Vec<Datum>) -> Result<Datum, SqlError> {
    match function {
        Function::Concat => {
            check_length(args.iter().map(Datum::size_bytes).sum::<usize>())?;
            return Ok(Datum::Text(args.iter().filter_map(value::to_text).collect()));
        }
        Function::Greatest => return Ok(extreme(args, std::cmp::Ordering::Greater)),
        Function::Least => return Ok(extreme(args, std::cmp::Ordering::Less)),
        _ if args.iter().any(Datum::is_null) => return Ok(Datum::Null),
        _ => {}
    }
    Ok(match (function, args.as_slice()) {
        (Function::Abs, [Datum::Int(v)]) => Datum::Int(v.checked_abs().ok_or_else(out_of_range)?),
        (Function::Abs, [Datum::Float(v)]) => Datum::Float(v.abs()),
        (Function::Ceil, [Datum::Float(v)]) => Datum::Float(v.ceil()),
        (Function::Floor, [Datum::Float(v)]) => Datum::Float(v.floor()),
        (Function::Round, [Datum::Float(v)]) => Datum::Float(v.round_ties_even()),
        (Function::RoundTo, [Datum::Float(v), Datum::Int(digits)]) => Datum::Float(round_to(*v, *digits)),
        (Function::Sign, [Datum::Float(v)]) => Datum::Float(if *v == 0.0 { 0.0 } else { v.signum() }),
        (Function::Sqrt, [Datum::Float(v)]) if *v < 0.0 => {
            return Err(SqlError::new("2201F", "cannot take square root of a negative number"));
        }
        (Function::Sqrt, [Datum::Float(v)]) => Datum::Float(v.sqrt()),
        (Function::Power, [Datum::Float(a), Datum::Float(b)]) => {
            let result = a.powf(*b);
            if result.is_nan() && !a.is_nan() && !b.is_nan() {
                return Err(SqlError::new(
                    "2201F",
                    "a negative number raised to a non-integer power yields a complex result",
                ));
            }
            if *a == 0.0 && *b < 0.0 {
                return Err(SqlError::new("2201F", "zero raised to a negative power is undefined"));
            }
            Datum::Float(check_float(result, &[*a, *b])?)
        }
        (Function::Mod, [Datum::Int(_), Datum::Int(0)]) => return Err(division_by_zero()),
        (Function::Mod, [Datum::Int(a), Datum::Int(b)]) => Datum::Int(a.wrapping_rem(*b)),
        (Function::Length, [Datum::Text(v)]) => Datum::Int(v.chars().count() as i64),
        (Function::OctetLength, [Datum::Text(v)]) => Datum::Int(v.len() as i64),
        (Function::OctetLength, [Datum::Bytes(v)]) => Datum::Int(v.len() as i64),
        (Function::Lower, [Datum::Text(v)]) => Datum::Text(v.to_lowercase()),
        (Function::Upper, [Datum::Text(v)]) => Datum::Text(v.to_uppercase()),
        (Function::Substr, [Datum::Text(v), Datum::Int(from)]) => Datum::Text(substr(v, *from, None)?),
        (Function::Substr, [Datum::Text(v), Datum::Int(from), Datum::Int(len)]) => {
            Datum::Text(substr(v, *from, Some(*len))?)
        }
        (Function::Trim | Function::TrimStart | Function::TrimEnd, [Datum::Text(v), rest @ ..]) => {
            let set: Vec<char> = match rest {
                [Datum::Text(set)] => set.chars().collect(),
                _ => vec![' '],
            };
            let mut trimmed = v.as_str();
            if function != Function::TrimEnd {
                trimmed = trimmed.trim_start_matches(&set[..]);
            }
            if function != Function::TrimStart {
                trimmed = trimmed.trim_end_matches(&set[..]);
            }
            Datum::Text(trimmed.to_string())
        }
        (Function::Replace, [Datum::Text(v), Datum::Text(from), Datum::Text(to)]) => {
            if from.is_empty() {
                return Ok(Datum::Text(v.clone()));
            }
            let hits = v.matches(from.as_str()).count();
            check_length(v.len() - hits * from.len() + hits.saturating_mul(to.len()))?;
            Datum::Text(v.replace(from.as_str(), to))
        }
        (Function::Strpos, [Datum::Text(v), Datum::Text(part)]) => {
            Datum::Int(v.find(part.as_str()).map_or(0, |at| v[..at].chars().count() as i64 + 1))
        }
        (Function::Left | Function::Right, [Datum::Text(v), Datum::Int(n)]) => {
            let count = v.chars().count() as i64;
            let kept = if *n >= 0 { (*n).min(count) } else { count.saturating_add(*n).max(0) } as usize;
            Datum::Text(match function {
                Function::Left => v.chars().take(kept).collect(),
                _ => v.chars().skip(count as usize - kept).collect(),
            })
        }
        (function, args) => panic!("{function:?} of {args:?}"),
    })
}

fn extreme(args: Vec<Datum>, want: std::cmp::Ordering) -> Datum {
    let not_null = args.into_iter().filter(|arg| !arg.is_null());
    not_null.reduce(|best, next| if value::compare(&next, &best) == want { next } else { best }).unwrap_or(Datum::Null)
}

fn round_to(v: f64, digits: i64) -> f64 {
    if digits > 300 || !v.is_finite() {
        return v;
    }
    if digits < -308 {
        return 0.0;
    }
    let scale = 10f64.powi(digits.unsigned_abs() as i32);
    let (scaled, back) = if digits >= 0 { (v * scale, 1.0 / scale) } else { (v / scale, scale) };
    if scaled.is_infinite() {
        return v;
    }
    if digits >= 0 { scaled.round() / scale } else { scaled.round() * back }
}

fn substr(text: &str, from: i64, len: Option<i64>) -> Result<String, SqlError> {
    let end = match len {
        Some(len) if len < 0 => return Err(SqlError::new("22011", "negative substring length not allowed")),
        Some(len) => from.saturating_add(len),
        None => i64::MAX,
    };
    let start = from.max(1);
    let count = end.saturating_sub(start).max(0) as usize;
    Ok(text.chars().skip((start - 1) as usize).take(count).collect())
}
