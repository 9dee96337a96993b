//! Looking into JSONB: its operators and functions that read.

use super::{int, int_of, new_text, text_of};
use crate::SqlError;
use crate::expr::signature::short::{ANY, I4, JSON, TEXT, TEXTS, out};
use crate::expr::signature::{Signature, lenient, strict as f};
use crate::types::{ArrayValue, Datum, Element, Json, Numeric};
use crate::value;

pub(super) const FUNCTIONS: &[Signature] = &[
    f("->", &[JSON, TEXT], out::JSON, |a, _| Ok(found(json(&a[0]).get(text_of(&a[1]))))),
    f("->", &[JSON, I4], out::JSON, |a, _| Ok(found(json(&a[0]).at(int_of(&a[1]))))),
    f("->>", &[JSON, TEXT], out::TEXT, |a, _| Ok(as_text(json(&a[0]).get(text_of(&a[1]))))),
    f("->>", &[JSON, I4], out::TEXT, |a, _| Ok(as_text(json(&a[0]).at(int_of(&a[1]))))),
    f("#>", &[JSON, TEXTS], out::JSON, |a, _| Ok(found(at_path(json(&a[0]), &texts(&a[1]))))),
    f("#>>", &[JSON, TEXTS], out::TEXT, |a, _| Ok(as_text(at_path(json(&a[0]), &texts(&a[1]))))),
    f("jsonb_extract_path", &[JSON, TEXT], out::JSON, |a, _| Ok(found(at_path(json(&a[0]), &rest_of_path(&a[1..])))))
        .repeated(),
    f("jsonb_extract_path_text", &[JSON, TEXT], out::TEXT, |a, _| {
        Ok(as_text(at_path(json(&a[0]), &rest_of_path(&a[1..]))))
    })
    .repeated(),
    f("@>", &[JSON, JSON], out::BOOL, |a, _| Ok(Datum::Bool(contains_top(json(&a[0]), json(&a[1]))))),
    f("<@", &[JSON, JSON], out::BOOL, |a, _| Ok(Datum::Bool(contains_top(json(&a[1]), json(&a[0]))))),
    f("?", &[JSON, TEXT], out::BOOL, |a, _| Ok(Datum::Bool(exists(json(&a[0]), text_of(&a[1]))))),
    f("?|", &[JSON, TEXTS], out::BOOL, |a, _| {
        Ok(Datum::Bool(texts(&a[1]).iter().flatten().any(|key| exists(json(&a[0]), key))))
    }),
    f("?&", &[JSON, TEXTS], out::BOOL, |a, _| {
        Ok(Datum::Bool(texts(&a[1]).iter().flatten().all(|key| exists(json(&a[0]), key))))
    }),
    f("jsonb_typeof", &[JSON], out::TEXT, |a, _| Ok(Datum::Text(json(&a[0]).kind().into()))),
    f("jsonb_array_length", &[JSON], out::I4, |a, _| match json(&a[0]) {
        Json::Array(items) => Ok(int(items.len())),
        Json::Object(_) => Err(SqlError::new("22023", "cannot get array length of a non-array")),
        _ => Err(SqlError::new("22023", "cannot get array length of a scalar")),
    }),
    f("jsonb_pretty", &[JSON], out::TEXT, |a, _| new_text(json(&a[0]).pretty())),
    lenient("to_jsonb", &[ANY], out::JSON, |a, _| match &a[0] {
        Datum::Null => Ok(Datum::Null),
        datum => Ok(Datum::json(of_datum(datum))),
    }),
    lenient("jsonb_build_array", &[ANY], out::JSON, |a, _| {
        Ok(Datum::json(Json::Array(a.iter().map(of_datum).collect())))
    })
    .repeated(),
    lenient("jsonb_build_object", &[ANY], out::JSON, |a, _| build_object(a)).repeated(),
    f("jsonb_object", &[TEXTS], out::JSON, |a, _| object_of_pairs(&a[0])),
    f("jsonb_object", &[TEXTS, TEXTS], out::JSON, |a, _| {
        let (keys, values) = (texts(&a[0]), texts(&a[1]));
        if keys.len() != values.len() {
            return Err(SqlError::new("2202E", "mismatched array dimensions"));
        }
        keys.into_iter()
            .zip(values)
            .map(|(key, value)| text_pair(key, value))
            .collect::<Result<_, _>>()
            .map(Json::object)
            .map(Datum::json)
    }),
];

pub(super) fn json(datum: &Datum) -> &Json {
    match datum {
        Datum::Json(json) => json,
        other => panic!("a function that takes jsonb was given {other:?}"),
    }
}

fn found(json: Option<&Json>) -> Datum {
    json.map_or(Datum::Null, |json| Datum::json(json.clone()))
}

/// A string without its quotes; null is NULL.
fn as_text(json: Option<&Json>) -> Datum {
    match json {
        None | Some(Json::Null) => Datum::Null,
        Some(Json::String(text)) => Datum::Text(text.clone()),
        Some(json) => Datum::Text(json.to_text()),
    }
}

pub(super) fn texts(datum: &Datum) -> Vec<Option<String>> {
    let Datum::Array(array) = datum else { panic!("a function that takes texts was given {datum:?}") };
    array.items.iter().map(|item| if item.is_null() { None } else { Some(text_of(item).to_string()) }).collect()
}

fn rest_of_path(args: &[Datum]) -> Vec<Option<String>> {
    args.iter().map(|arg| Some(text_of(arg).to_string())).collect()
}

fn at_path<'a>(json: &'a Json, path: &[Option<String>]) -> Option<&'a Json> {
    path.iter().try_fold(json, |json, step| {
        let step = step.as_deref()?;
        match json {
            Json::Object(_) => json.get(step),
            Json::Array(_) => json.at(step.trim().parse().ok()?),
            _ => None,
        }
    })
}

fn exists(json: &Json, key: &str) -> bool {
    match json {
        Json::Object(_) => json.get(key).is_some(),
        Json::Array(items) => items.iter().any(|item| matches!(item, Json::String(text) if text == key)),
        Json::String(text) => text == key,
        _ => false,
    }
}

fn contains_top(a: &Json, b: &Json) -> bool {
    match (a, b) {
        // By exception a list contains a scalar.
        (Json::Array(items), b) if !matches!(b, Json::Array(_) | Json::Object(_)) => {
            items.iter().any(|item| contains(item, b))
        }
        _ => contains(a, b),
    }
}

fn contains(a: &Json, b: &Json) -> bool {
    match (a, b) {
        (Json::Object(_), Json::Object(pairs)) => {
            pairs.iter().all(|(key, b)| a.get(key).is_some_and(|a| contains(a, b)))
        }
        (Json::Array(a), Json::Array(b)) => b.iter().all(|b| a.iter().any(|a| contains(a, b))),
        (Json::Object(_) | Json::Array(_), _) | (_, Json::Object(_) | Json::Array(_)) => false,
        (a, b) => a.compare(b).is_eq(),
    }
}

/// A value of any type as JSON, as `to_jsonb` makes it.
pub(super) fn of_datum(datum: &Datum) -> Json {
    match datum {
        Datum::Null => Json::Null,
        Datum::Bool(v) => Json::Bool(*v),
        Datum::Int(v) => Json::Number(Numeric::from(*v)),
        Datum::Numeric(v) => Json::Number(v.clone()),
        Datum::Float(_) | Datum::Float4(_) => {
            let text = value::to_text(datum).expect("not NULL");
            Numeric::parse(&text).map_or(Json::String(text), Json::Number)
        }
        Datum::Json(json) => (**json).clone(),
        Datum::Array(array) => of_array(array),
        // ISO 8601's T.
        Datum::LocalTimestamp(_) => Json::String(value::to_text(datum).expect("not NULL").replacen(' ', "T", 1)),
        Datum::Timestamp(_) => Json::String(value::to_text(datum).expect("not NULL").replacen(' ', "T", 1) + ":00"),
        other => Json::String(value::to_text(other).expect("not NULL")),
    }
}

fn of_array(array: &ArrayValue) -> Json {
    fn level(dimensions: &[usize], items: &mut std::slice::Iter<'_, Datum>) -> Json {
        let (length, inner) = dimensions.split_first().expect("a dimension");
        let item = |items: &mut std::slice::Iter<'_, Datum>| {
            if inner.is_empty() { items.next().map_or(Json::Null, of_datum) } else { level(inner, items) }
        };
        Json::Array((0..*length).map(|_| item(items)).collect())
    }
    if array.items.is_empty() { Json::Array(Vec::new()) } else { level(&array.dimensions, &mut array.items.iter()) }
}

fn build_object(args: &[Datum]) -> Result<Datum, SqlError> {
    if !args.len().is_multiple_of(2) {
        return Err(SqlError::new("22023", "argument list must have even number of elements")
            .hint("The arguments of jsonb_build_object() must consist of alternating keys and values."));
    }
    let pairs = args.chunks(2).enumerate().map(|(at, pair)| match &pair[0] {
        Datum::Null => Err(SqlError::new("22023", format!("argument {}: key must not be null", at * 2 + 1))),
        Datum::Array(_) | Datum::Json(_) => {
            Err(SqlError::new("22023", "key value must be scalar, not array, composite, or json"))
        }
        Datum::Bool(v) => Ok((v.to_string(), of_datum(&pair[1]))),
        key => Ok((value::to_text(key).expect("not NULL"), of_datum(&pair[1]))),
    });
    Ok(Datum::json(Json::object(pairs.collect::<Result<_, _>>()?)))
}

fn text_pair(key: Option<String>, value: Option<String>) -> Result<(String, Json), SqlError> {
    let key = key.ok_or_else(|| SqlError::new("22004", "null value not allowed for object key"))?;
    Ok((key, value.map_or(Json::Null, Json::String)))
}

fn object_of_pairs(array: &Datum) -> Result<Datum, SqlError> {
    let items = texts(array);
    if !items.len().is_multiple_of(2) {
        return Err(SqlError::new("2202E", "array must have even number of elements"));
    }
    let pairs = items.chunks(2).map(|pair| text_pair(pair[0].clone(), pair[1].clone()));
    Ok(Datum::json(Json::object(pairs.collect::<Result<_, _>>()?)))
}

/// An array of texts.
pub(super) fn text_array(items: impl Iterator<Item = String>) -> Datum {
    Datum::array(Element::Text, items.map(Datum::Text).collect())
}
