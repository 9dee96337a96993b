//! Changing JSONB: a new value with something added, replaced or left out.

use super::json::{json, texts};
use super::{check_length, int_of, text_of};
use crate::SqlError;
use crate::expr::signature::short::{BOOL, I4, JSON, TEXT, TEXTS, out};
use crate::expr::signature::{Signature, lenient, strict as f};
use crate::types::{Datum, Json};

pub(super) const FUNCTIONS: &[Signature] = &[
    f("||", &[JSON, JSON], out::JSON, |a, _| {
        check_length(json(&a[0]).size_bytes() + json(&a[1]).size_bytes())?;
        Ok(Datum::json(concat(json(&a[0]), json(&a[1]))))
    }),
    f("-", &[JSON, TEXT], out::JSON, |a, _| {
        without_keys(json(&a[0]), &[Some(text_of(&a[1]).to_string())]).map(Datum::json)
    }),
    f("-", &[JSON, TEXTS], out::JSON, |a, _| without_keys(json(&a[0]), &texts(&a[1])).map(Datum::json)),
    f("-", &[JSON, I4], out::JSON, |a, _| without_index(json(&a[0]), int_of(&a[1])).map(Datum::json)),
    f("#-", &[JSON, TEXTS], out::JSON, |a, _| {
        scalar_error(json(&a[0]), "delete path in scalar")?;
        change(json(&a[0]), &texts(&a[1]), 1, &Change::Delete).map(Datum::json)
    }),
    f("jsonb_set", &[JSON, TEXTS, JSON], out::JSON, |a, _| set(&a[0], &a[1], &a[2], true)),
    f("jsonb_set", &[JSON, TEXTS, JSON, BOOL], out::JSON, |a, _| set(&a[0], &a[1], &a[2], a[3] == Datum::Bool(true))),
    lenient("jsonb_set_lax", &[JSON, TEXTS, JSON], out::JSON, |a, _| match a {
        [target, path, _] if target.is_null() || path.is_null() => Ok(Datum::Null),
        [target, path, Datum::Null] => set(target, path, &Datum::json(Json::Null), true),
        [target, path, new] => set(target, path, new, true),
        _ => panic!("jsonb_set_lax takes three arguments"),
    }),
    f("jsonb_insert", &[JSON, TEXTS, JSON], out::JSON, |a, _| insert(&a[0], &a[1], &a[2], false)),
    f("jsonb_insert", &[JSON, TEXTS, JSON, BOOL], out::JSON, |a, _| {
        insert(&a[0], &a[1], &a[2], a[3] == Datum::Bool(true))
    }),
    f("jsonb_strip_nulls", &[JSON], out::JSON, |a, _| Ok(Datum::json(strip_nulls(json(&a[0]))))),
];

enum Change<'a> {
    Delete,
    /// Whether a place that there is not is made.
    Set(&'a Json, bool),
    /// Whether after the place.
    Insert(&'a Json, bool),
}

fn scalar_error(json: &Json, what: &str) -> Result<(), SqlError> {
    if matches!(json, Json::Array(_) | Json::Object(_)) {
        return Ok(());
    }
    Err(SqlError::new("22023", format!("cannot {what}")))
}

/// Two objects become one, all else a list.
fn concat(a: &Json, b: &Json) -> Json {
    match (a, b) {
        (Json::Object(a), Json::Object(b)) => Json::object(a.iter().chain(b).cloned().collect()),
        (a, b) => {
            let as_list = |json: &Json| match json {
                Json::Array(items) => items.clone(),
                other => vec![other.clone()],
            };
            Json::Array([as_list(a), as_list(b)].concat())
        }
    }
}

fn without_keys(json: &Json, keys: &[Option<String>]) -> Result<Json, SqlError> {
    scalar_error(json, "delete from scalar")?;
    let named = |text: &String| keys.iter().flatten().any(|key| key == text);
    Ok(match json {
        Json::Object(pairs) => Json::Object(pairs.iter().filter(|(key, _)| !named(key)).cloned().collect()),
        Json::Array(items) => Json::Array(
            items.iter().filter(|item| !matches!(item, Json::String(text) if named(text))).cloned().collect(),
        ),
        scalar => scalar.clone(),
    })
}

fn without_index(json: &Json, index: i64) -> Result<Json, SqlError> {
    match json {
        Json::Object(_) => Err(SqlError::new("22023", "cannot delete from object using integer index")),
        Json::Array(items) => {
            let at = if index < 0 { items.len() as i64 + index } else { index };
            let kept = items.iter().enumerate().filter(|(found, _)| *found as i64 != at).map(|(_, item)| item.clone());
            Ok(Json::Array(kept.collect()))
        }
        _ => Err(SqlError::new("22023", "cannot delete from scalar")),
    }
}

fn set(target: &Datum, path: &Datum, new: &Datum, create: bool) -> Result<Datum, SqlError> {
    scalar_error(json(target), "set path in scalar")?;
    change(json(target), &texts(path), 1, &Change::Set(json(new), create)).map(Datum::json)
}

fn insert(target: &Datum, path: &Datum, new: &Datum, after: bool) -> Result<Datum, SqlError> {
    scalar_error(json(target), "set path in scalar")?;
    change(json(target), &texts(path), 1, &Change::Insert(json(new), after)).map(Datum::json)
}

/// The value with a change at the end of the path; `number` is the place of its first step, for messages.
fn change(json: &Json, path: &[Option<String>], number: usize, what: &Change<'_>) -> Result<Json, SqlError> {
    let Some((step, rest)) = path.split_first() else { return Ok(json.clone()) };
    let Some(step) = step else {
        return Err(SqlError::new("22004", format!("path element at position {number} is null")));
    };
    match json {
        Json::Object(pairs) => {
            let mut pairs = pairs.clone();
            let at = pairs.iter().position(|(key, _)| key == step);
            match (at, rest.is_empty(), what) {
                (Some(at), false, _) => pairs[at].1 = change(&pairs[at].1, rest, number + 1, what)?,
                (Some(at), true, Change::Delete) => drop(pairs.remove(at)),
                (Some(at), true, Change::Set(new, _)) => pairs[at].1 = (*new).clone(),
                (Some(_), true, Change::Insert(..)) => {
                    return Err(SqlError::new("22023", "cannot replace existing key")
                        .hint("Try using the function jsonb_set to replace key value."));
                }
                (None, true, Change::Set(new, true) | Change::Insert(new, _)) => {
                    pairs.push((step.clone(), (*new).clone()))
                }
                (None, ..) => {}
            }
            Ok(Json::object(pairs))
        }
        Json::Array(items) => {
            let index: i64 = step.trim().parse().map_err(|_| {
                SqlError::new("22P02", format!("path element at position {number} is not an integer: \"{step}\""))
            })?;
            let mut items = items.clone();
            let count = items.len() as i64;
            let at = if index < 0 { count + index } else { index };
            let inside = usize::try_from(at).ok().filter(|at| *at < items.len());
            match (inside, rest.is_empty(), what) {
                (Some(at), false, _) => items[at] = change(&items[at], rest, number + 1, what)?,
                (Some(at), true, Change::Delete) => drop(items.remove(at)),
                (Some(at), true, Change::Set(new, _)) => items[at] = (*new).clone(),
                (Some(at), true, Change::Insert(new, after)) => items.insert(at + usize::from(*after), (*new).clone()),
                (None, true, Change::Set(new, true) | Change::Insert(new, _)) => {
                    items.insert(if at < 0 { 0 } else { items.len() }, (*new).clone());
                }
                (None, ..) => {}
            }
            Ok(Json::Array(items))
        }
        scalar => Ok(scalar.clone()),
    }
}

fn strip_nulls(json: &Json) -> Json {
    match json {
        Json::Object(pairs) => Json::Object(
            pairs.iter().filter(|(_, v)| *v != Json::Null).map(|(key, v)| (key.clone(), strip_nulls(v))).collect(),
        ),
        Json::Array(items) => Json::Array(items.iter().map(strip_nulls).collect()),
        scalar => scalar.clone(),
    }
}
