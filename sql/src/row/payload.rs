//! One value of a row's value: a byte for the type, and the bytes of it.
//!
//! ```text
//!   0 boolean   1 byte                        6 real               9 date        zigzag varint
//!   1 integer   zigzag varint                 7 numeric            10 time       zigzag varint
//!   2 double    8 bytes                       8 char, its blanks   11 timestamp  zigzag varint
//!   3 text      length, bytes                   only if nothing    12 interval   three of them
//!   4 bytea     length, bytes                   tells how many     13 uuid
//!   5 timestamp with zone, 8 bytes                                 14 jsonb      15 array
//! ```
//!
//! From 6 on a length comes first, so that a value can be skipped without knowing its type's form.

use num_bigint::BigInt;
use truetime::Timestamp;

use super::{damaged, key, put_varint, take, take_varint};
use crate::SqlError;
use crate::types::{Datum, Element, Interval, Json, Numeric};
use crate::value::array::{DIMENSIONS_MAX, ITEMS_MAX};
use crate::value::datetime::DAY_US;
use crate::value::json::DEPTH_MAX;

/// In an array, and of a column of which absence means something else: NULL.
const NULL_TAG: u8 = 255;

fn zigzag(v: i64) -> u64 {
    ((v << 1) ^ (v >> 63)) as u64
}

fn put_signed(out: &mut Vec<u8>, v: i64) {
    put_varint(out, zigzag(v));
}

fn take_signed(rest: &mut &[u8]) -> Result<i64, SqlError> {
    let raw = take_varint(rest)?;
    Ok((raw >> 1) as i64 ^ -((raw & 1) as i64))
}

fn put_bytes(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends NULL.
pub(super) fn put_null(out: &mut Vec<u8>) {
    out.push(NULL_TAG);
}

/// Whether the type that [`take_raw`] took is that of NULL.
pub(super) fn is_null(tag: u8) -> bool {
    tag == NULL_TAG
}

/// Appends the type and the bytes of a value that is not NULL.
pub(super) fn put(out: &mut Vec<u8>, datum: &Datum) {
    match datum {
        Datum::Null => panic!("NULL is left out of a row"),
        Datum::Bool(v) => out.extend_from_slice(&[0, u8::from(*v)]),
        Datum::Int(v) => {
            out.push(1);
            put_signed(out, *v);
        }
        Datum::Float(v) => {
            out.push(2);
            out.extend_from_slice(&v.to_bits().to_le_bytes());
        }
        Datum::Text(v) => put_bytes(out, 3, v.as_bytes()),
        Datum::Bytes(v) => put_bytes(out, 4, v),
        Datum::Timestamp(v) => {
            out.push(5);
            out.extend_from_slice(&v.as_nanos().to_le_bytes());
        }
        Datum::Float4(v) => put_bytes(out, 6, &v.to_bits().to_le_bytes()),
        Datum::Numeric(v) => {
            let mut bytes = Vec::with_capacity(12);
            put_numeric(&mut bytes, v);
            put_bytes(out, 7, &bytes);
        }
        Datum::Char(v) => put_bytes(out, 8, v.as_bytes()),
        Datum::Date(v) => put_number(out, 9, i64::from(*v)),
        Datum::Time(v) => put_number(out, 10, *v),
        Datum::LocalTimestamp(v) => put_number(out, 11, *v),
        Datum::Interval(v) => {
            let mut bytes = Vec::with_capacity(12);
            put_signed(&mut bytes, i64::from(v.months));
            put_signed(&mut bytes, i64::from(v.days));
            put_signed(&mut bytes, v.nanos);
            put_bytes(out, 12, &bytes);
        }
        Datum::Uuid(v) => put_bytes(out, 13, v),
        Datum::Json(v) => {
            let mut bytes = Vec::new();
            put_json(&mut bytes, v);
            put_bytes(out, 14, &bytes);
        }
        Datum::Array(v) => {
            let mut bytes = vec![element_code(v.element), v.dimensions.len() as u8];
            v.dimensions.iter().for_each(|length| put_varint(&mut bytes, *length as u64));
            for item in &v.items {
                if item.is_null() { bytes.push(NULL_TAG) } else { put(&mut bytes, item) }
            }
            put_bytes(out, 15, &bytes);
        }
    }
}

fn put_number(out: &mut Vec<u8>, tag: u8, v: i64) {
    let mut bytes = Vec::with_capacity(10);
    put_signed(&mut bytes, v);
    put_bytes(out, tag, &bytes);
}

/// The place of an element in [`Element::ALL`], which only ever grows at its end.
fn element_code(element: Element) -> u8 {
    Element::ALL.iter().position(|known| *known == element).expect("ALL has all") as u8
}

fn put_numeric(out: &mut Vec<u8>, v: &Numeric) {
    put_varint(out, u64::from(v.scale()));
    out.extend_from_slice(&v.unscaled().to_signed_bytes_le());
}

/// Takes the type and the bytes of a value off the front, without looking into them.
pub(super) fn take_raw<'a>(rest: &mut &'a [u8]) -> Result<(u8, &'a [u8]), SqlError> {
    let tag = take(rest, 1)?[0];
    let bytes = match tag {
        0 => take(rest, 1)?,
        1 => {
            let before = *rest;
            take_varint(rest)?;
            &before[..before.len() - rest.len()]
        }
        2 | 5 => take(rest, 8)?,
        NULL_TAG => &[],
        3 | 4 | 6..=15 => {
            let len = take_varint(rest)?;
            take(rest, len)?
        }
        _ => return Err(damaged("an unknown type")),
    };
    Ok((tag, bytes))
}

fn text(bytes: &[u8]) -> Result<String, SqlError> {
    Ok(std::str::from_utf8(bytes).map_err(|_| damaged("text that is not UTF-8"))?.to_string())
}

fn exactly<const N: usize>(bytes: &[u8]) -> Result<[u8; N], SqlError> {
    bytes.try_into().map_err(|_| damaged("a value of another length than its type"))
}

/// What `put` wrote.
pub(super) fn decode(tag: u8, bytes: &[u8]) -> Result<Datum, SqlError> {
    let mut rest = bytes;
    let datum = match tag {
        0 => return Ok(Datum::Bool(bytes[0] != 0)),
        1 => Datum::Int(take_signed(&mut rest)?),
        2 => return Ok(Datum::Float(f64::from_le_bytes(exactly(bytes)?))),
        3 => return text(bytes).map(Datum::Text),
        4 => return Ok(Datum::Bytes(bytes.to_vec())),
        5 => return Ok(Datum::Timestamp(Timestamp::from_nanos(i64::from_le_bytes(exactly(bytes)?)))),
        6 => return Ok(Datum::Float4(f32::from_le_bytes(exactly(bytes)?))),
        7 => Datum::Numeric(take_numeric(&mut rest, bytes.len())?),
        8 => return text(bytes).map(Datum::Char),
        9 => Datum::Date(i32::try_from(take_signed(&mut rest)?).map_err(|_| damaged("a date out of range"))?),
        10 => match take_signed(&mut rest)? {
            us @ 0..=DAY_US => Datum::Time(us),
            _ => return Err(damaged("a time that no day has")),
        },
        11 => Datum::LocalTimestamp(take_signed(&mut rest)?),
        12 => {
            let mut short = || i32::try_from(take_signed(&mut rest)?).map_err(|_| damaged("an interval out of range"));
            let (months, days) = (short()?, short()?);
            Datum::Interval(Interval { months, days, nanos: take_signed(&mut rest)? })
        }
        13 => return Ok(Datum::Uuid(exactly(bytes)?)),
        14 => Datum::json(take_json(&mut rest, 0)?),
        15 => take_array(&mut rest)?,
        _ => return Err(damaged("an unknown type")),
    };
    if rest.is_empty() { Ok(datum) } else { Err(damaged("a value that is longer than it says")) }
}

fn take_numeric(rest: &mut &[u8], len: usize) -> Result<Numeric, SqlError> {
    let bad = |_| damaged("a number out of range");
    let before = rest.len();
    let scale = take_varint(rest)?;
    let scale = i64::try_from(scale).map_err(|_| damaged("a number out of range"))?;
    let digits = take(rest, (len - (before - rest.len())) as u64)?;
    Numeric::new(BigInt::from_signed_bytes_le(digits), scale).map_err(bad)
}

fn put_json(out: &mut Vec<u8>, json: &Json) {
    match json {
        Json::Null => out.push(0),
        Json::Bool(false) => out.push(1),
        Json::Bool(true) => out.push(2),
        Json::Number(v) => {
            let mut bytes = Vec::with_capacity(12);
            put_numeric(&mut bytes, v);
            put_bytes(out, 3, &bytes);
        }
        Json::String(v) => put_bytes(out, 4, v.as_bytes()),
        Json::Array(items) => {
            out.push(5);
            put_varint(out, items.len() as u64);
            items.iter().for_each(|item| put_json(out, item));
        }
        Json::Object(pairs) => {
            out.push(6);
            put_varint(out, pairs.len() as u64);
            for (key, value) in pairs {
                put_varint(out, key.len() as u64);
                out.extend_from_slice(key.as_bytes());
                put_json(out, value);
            }
        }
    }
}

fn take_json(rest: &mut &[u8], depth: usize) -> Result<Json, SqlError> {
    if depth > DEPTH_MAX {
        return Err(damaged("a JSON value that is nested too deeply"));
    }
    Ok(match take(rest, 1)?[0] {
        0 => Json::Null,
        1 => Json::Bool(false),
        2 => Json::Bool(true),
        3 => {
            let len = take_varint(rest)?;
            let mut bytes = take(rest, len)?;
            let len = bytes.len();
            Json::Number(take_numeric(&mut bytes, len)?)
        }
        4 => {
            let len = take_varint(rest)?;
            Json::String(text(take(rest, len)?)?)
        }
        5 => {
            let count = take_varint(rest)?;
            Json::Array((0..count).map(|_| take_json(rest, depth + 1)).collect::<Result<_, _>>()?)
        }
        6 => {
            let count = take_varint(rest)?;
            let mut pairs: Vec<(String, Json)> = Vec::new();
            for _ in 0..count {
                let len = take_varint(rest)?;
                let key = text(take(rest, len)?)?;
                pairs.push((key, take_json(rest, depth + 1)?));
            }
            Json::object(pairs)
        }
        _ => return Err(damaged("an unknown kind of JSON")),
    })
}

fn take_array(rest: &mut &[u8]) -> Result<Datum, SqlError> {
    let code = take(rest, 1)?[0];
    let element = *Element::ALL.get(usize::from(code)).ok_or_else(|| damaged("an array of an unknown type"))?;
    let count = usize::from(take(rest, 1)?[0]);
    if count > DIMENSIONS_MAX {
        return Err(damaged("an array of too many dimensions"));
    }
    let mut dimensions = Vec::with_capacity(count);
    for _ in 0..count {
        let length = take_varint(rest)?;
        dimensions.push(usize::try_from(length).map_err(|_| damaged("an array that is too long"))?);
    }
    let mut items = Vec::new();
    while !rest.is_empty() && items.len() <= ITEMS_MAX {
        if rest[0] == NULL_TAG {
            *rest = &rest[1..];
            items.push(Datum::Null);
            continue;
        }
        let (tag, bytes) = take_raw(rest)?;
        let item = if tag == 15 { return Err(damaged("an array in an array")) } else { decode(tag, bytes)? };
        items.push(item);
    }
    key::array(element, dimensions, items)
}
