//! Keys of the types whose order needs more than their bytes.
//!
//! ```text
//!   numeric    01 negative, 02 zero, 03 positive; then 3 bytes of exponent and pairs of digits, each plus 1, and 00:
//!              0.d1d2d3.. * 10^exponent. Of a negative number all of that is flipped. 1.0 and 1.00 are the same
//!   interval   16 bytes: all of it in nanoseconds, sign flipped
//!   uuid       16 bytes
//!   array      for each value 01 and the value, or 02 for NULL (the last in order); then 00, how many dimensions,
//!              and 4 bytes for each
//!   jsonb      only as the key of a set, where the order does not matter: its text, as text
//! ```

use truetime::Timestamp;

use super::{damaged, encode_key_datum, escape, unescape};
use crate::SqlError;
use crate::types::{ArrayValue, DataType, Datum, Element, Interval, Numeric};
use crate::value::array::{DIMENSIONS_MAX, ITEMS_MAX};
use crate::value::datetime::DAY_US;

const SIGN_32: u32 = 1 << 31;
const SIGN_64: u64 = 1 << 63;
const SIGN_128: u128 = 1 << 127;
/// Added to a numeric's exponent, so that it is never below 0.
const EXPONENT_BIAS: i64 = 1 << 20;

pub(super) fn encode(out: &mut Vec<u8>, datum: &Datum) {
    match datum {
        Datum::Float4(v) => out.extend_from_slice(&real_bits(*v).to_be_bytes()),
        Datum::Numeric(v) => encode_numeric(out, v),
        Datum::Char(v) => escape(out, v.trim_end_matches(' ').as_bytes()),
        Datum::Date(v) => out.extend_from_slice(&((*v as u32) ^ SIGN_32).to_be_bytes()),
        Datum::Time(v) | Datum::LocalTimestamp(v) => out.extend_from_slice(&((*v as u64) ^ SIGN_64).to_be_bytes()),
        Datum::Interval(v) => out.extend_from_slice(&((v.total_ns() as u128) ^ SIGN_128).to_be_bytes()),
        Datum::Uuid(v) => out.extend_from_slice(v),
        Datum::Json(v) => escape(out, v.canonical_text().as_bytes()),
        Datum::Array(v) => encode_array(out, v),
        other => panic!("{other:?} has a simple key"),
    }
}

/// Whether the key of a value may stand for others that are equal to it and look different.
pub(super) fn may_lose(datum: &Datum) -> bool {
    match datum {
        Datum::Numeric(_) | Datum::Interval(_) | Datum::Char(_) | Datum::Json(_) => true,
        Datum::Array(array) => array.items.iter().any(may_lose),
        _ => false,
    }
}

fn real_bits(v: f32) -> u32 {
    let v = if v.is_nan() {
        f32::NAN.abs()
    } else if v == 0.0 {
        0.0
    } else {
        v
    };
    let bits = v.to_bits();
    if bits & SIGN_32 != 0 { !bits } else { bits | SIGN_32 }
}

fn encode_numeric(out: &mut Vec<u8>, v: &Numeric) {
    if v.is_zero() {
        out.push(2);
        return;
    }
    let negative = v.is_negative();
    out.push(if negative { 1 } else { 3 });
    let start = out.len();
    let digits = v.digit_text();
    let exponent = digits.len() as i64 - i64::from(v.scale()) + EXPONENT_BIAS;
    out.extend_from_slice(&(exponent as u32).to_be_bytes()[1..]);
    for pair in digits.trim_end_matches('0').as_bytes().chunks(2) {
        let low = pair.get(1).map_or(0, |digit| digit - b'0');
        out.push((pair[0] - b'0') * 10 + low + 1);
    }
    out.push(0);
    if negative {
        out[start..].iter_mut().for_each(|byte| *byte = !*byte);
    }
}

fn encode_array(out: &mut Vec<u8>, array: &ArrayValue) {
    for item in &array.items {
        if item.is_null() {
            out.push(2);
        } else {
            out.push(1);
            encode_key_datum(out, item, false);
        }
    }
    out.push(0);
    out.push(array.dimensions.len() as u8);
    for length in &array.dimensions {
        out.extend_from_slice(&(*length as u32).to_be_bytes());
    }
}

fn fixed<const N: usize>(rest: &mut &[u8], flip: u8) -> Result<[u8; N], SqlError> {
    let (head, tail) = rest.split_first_chunk::<N>().ok_or_else(|| damaged("its key is too short"))?;
    *rest = tail;
    Ok(head.map(|byte| byte ^ flip))
}

pub(super) fn decode(rest: &mut &[u8], ty: DataType, flip: u8) -> Result<Datum, SqlError> {
    let long = |rest: &mut &[u8]| Ok::<i64, SqlError>((u64::from_be_bytes(fixed(rest, flip)?) ^ SIGN_64) as i64);
    Ok(match ty {
        DataType::Float4 => {
            let bits = u32::from_be_bytes(fixed(rest, flip)?);
            Datum::Float4(f32::from_bits(if bits & SIGN_32 != 0 { bits & !SIGN_32 } else { !bits }))
        }
        DataType::Numeric => Datum::Numeric(decode_numeric(rest, flip)?),
        DataType::Char => {
            let text = String::from_utf8(unescape(rest, flip)?).map_err(|_| damaged("text that is not UTF-8"))?;
            Datum::Char(text)
        }
        DataType::Date => Datum::Date((u32::from_be_bytes(fixed(rest, flip)?) ^ SIGN_32) as i32),
        DataType::Time => match long(rest)? {
            us @ 0..=DAY_US => Datum::Time(us),
            _ => return Err(damaged("a time that no day has")),
        },
        DataType::LocalTimestamp => Datum::LocalTimestamp(long(rest)?),
        DataType::Timestamp => Datum::Timestamp(Timestamp::from_nanos(long(rest)?)),
        DataType::Interval => {
            let total = (u128::from_be_bytes(fixed(rest, flip)?) ^ SIGN_128) as i128;
            Datum::Interval(Interval::from_total_ns(total).ok_or_else(|| damaged("an interval out of range"))?)
        }
        DataType::Uuid => Datum::Uuid(fixed(rest, flip)?),
        DataType::Array(element) => decode_array(rest, element, flip)?,
        _ => return Err(damaged("a key of a type that no key has")),
    })
}

fn decode_numeric(rest: &mut &[u8], flip: u8) -> Result<Numeric, SqlError> {
    let bad = || damaged("a number of its key");
    let [sign] = fixed::<1>(rest, flip)?;
    let negative = match sign {
        2 => return Ok(Numeric::ZERO),
        1 => true,
        3 => false,
        _ => return Err(bad()),
    };
    let flip = if negative { !flip } else { flip };
    let [a, b, c] = fixed::<3>(rest, flip)?;
    let exponent = i64::from(u32::from_be_bytes([0, a, b, c])) - EXPONENT_BIAS;
    let mut digits = String::new();
    loop {
        match fixed::<1>(rest, flip)? {
            [0] => break,
            [pair @ 1..=100] => digits.push_str(&format!("{:02}", pair - 1)),
            _ => return Err(bad()),
        }
    }
    let digits = digits.strip_suffix('0').unwrap_or(&digits);
    if digits.is_empty() || digits.starts_with('0') || digits.ends_with('0') {
        return Err(bad());
    }
    let sign = if negative { "-" } else { "" };
    Numeric::parse(&format!("{sign}0.{digits}e{exponent}")).map_err(|_| bad())
}

fn decode_array(rest: &mut &[u8], element: Element, flip: u8) -> Result<Datum, SqlError> {
    let mut items = Vec::new();
    loop {
        match fixed::<1>(rest, flip)? {
            [0] => break,
            [1] => items.push(super::decode_key_datum(rest, element.data_type(), flip != 0)?),
            [2] => items.push(Datum::Null),
            _ => return Err(damaged("an array of its key")),
        }
    }
    let [count] = fixed::<1>(rest, flip)?;
    let mut dimensions = Vec::new();
    for _ in 0..usize::from(count).min(DIMENSIONS_MAX + 1) {
        dimensions.push(u32::from_be_bytes(fixed(rest, flip)?) as usize);
    }
    array(element, dimensions, items)
}

/// XX001 unless there are as many values as the dimensions say.
pub(super) fn array(element: Element, dimensions: Vec<usize>, items: Vec<Datum>) -> Result<Datum, SqlError> {
    let product = dimensions.iter().try_fold(1usize, |product, length| product.checked_mul(*length));
    let count = if dimensions.is_empty() { Some(0) } else { product };
    if count != Some(items.len())
        || (items.is_empty() && !dimensions.is_empty())
        || dimensions.len() > DIMENSIONS_MAX
        || items.len() > ITEMS_MAX
    {
        return Err(damaged("an array of another size than it says"));
    }
    Ok(Datum::Array(Box::new(ArrayValue { element, dimensions, items })))
}
