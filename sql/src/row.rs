//! Rows as keys and values.
//!
//! A key is `10`, the table's id, and the columns of the primary key, so encoded that byte order is
//! the order of the values (a descending column has all its bits flipped):
//!
//! ```text
//!   boolean         1 byte
//!   integers        8 bytes, sign flipped; times and timestamps too; dates 4
//!   double, real    8 or 4 bytes, all bits flipped if negative, else the sign; NaN is one value, -0 is 0
//!   text, bytea     each 00 as 00 FF, then 00 01; a CHAR without its blanks
//!   numeric, interval, uuid, arrays: see `row/key.rs`
//! ```
//!
//! A value is a format byte and, for each other column that is not NULL, `id type bytes`. Reading
//! skips ids that the table does not have (any more): hence the type beside each. A column that was added with a
//! default is that default in rows that do not name it (see [`crate::catalog::Missing`]), so its NULL is written, as a type of its own. What equal values of
//! a key may differ in (the zeros after a NUMERIC, how an INTERVAL is written) is not in the key: if the
//! column's type does not tell it either, the value holds that column, too.
//!
//! Decoders take bytes from disks and peers: damage is XX001, never a panic.

mod key;
mod payload;

use txn::types::{KEY_BYTES_MAX, VALUE_BYTES_MAX};

use truetime::Timestamp;

use crate::SqlError;
use crate::catalog::{Catalog, Column, SYSTEM_PREFIX, TABLE_PREFIX, Table};
use crate::entry::Layout;
use crate::types::{DataType, Datum};
use crate::value;

const FORMAT: u8 = 1;
const SIGN: u64 = 1 << 63;

fn damaged(what: &str) -> SqlError {
    SqlError::new("XX001", format!("a stored row is damaged: {what}"))
}

/// Appends a value of a primary key. NULL is a bug of the caller.
pub fn encode_key_datum(out: &mut Vec<u8>, datum: &Datum, desc: bool) {
    let start = out.len();
    match datum {
        Datum::Null => panic!("NULL in a primary key"),
        Datum::Bool(v) => out.push(u8::from(*v)),
        Datum::Int(v) => out.extend_from_slice(&((*v as u64) ^ SIGN).to_be_bytes()),
        Datum::Timestamp(v) => out.extend_from_slice(&((v.as_nanos() as u64) ^ SIGN).to_be_bytes()),
        Datum::Float(v) => out.extend_from_slice(&float_bits(*v).to_be_bytes()),
        Datum::Text(v) => escape(out, v.as_bytes()),
        Datum::Bytes(v) => escape(out, v),
        other => key::encode(out, other),
    }
    if desc {
        out[start..].iter_mut().for_each(|byte| *byte = !*byte);
    }
}

fn float_bits(v: f64) -> u64 {
    let v = if v.is_nan() {
        f64::NAN.abs()
    } else if v == 0.0 {
        0.0
    } else {
        v
    };
    let bits = v.to_bits();
    if bits & SIGN != 0 { !bits } else { bits | SIGN }
}

fn escape(out: &mut Vec<u8>, bytes: &[u8]) {
    for &byte in bytes {
        out.push(byte);
        if byte == 0 {
            out.push(0xff);
        }
    }
    out.extend_from_slice(&[0, 1]);
}

/// Takes a value of a primary key off the front of `rest`.
pub fn decode_key_datum(rest: &mut &[u8], ty: DataType, desc: bool) -> Result<Datum, SqlError> {
    let flip = if desc { 0xff } else { 0 };
    let mut fixed = || -> Result<u64, SqlError> {
        let (head, tail) = rest.split_first_chunk::<8>().ok_or_else(|| damaged("its key is too short"))?;
        *rest = tail;
        Ok(u64::from_be_bytes(head.map(|byte| byte ^ flip)))
    };
    match ty {
        DataType::Int => Ok(Datum::Int((fixed()? ^ SIGN) as i64)),
        DataType::Int2 | DataType::Int4 => {
            let datum = Datum::Int((fixed()? ^ SIGN) as i64);
            if datum.is_of(ty) { Ok(datum) } else { Err(damaged("a number beyond its column's type")) }
        }
        DataType::Timestamp => Ok(Datum::Timestamp(Timestamp::from_nanos((fixed()? ^ SIGN) as i64))),
        DataType::Float => {
            let bits = fixed()?;
            Ok(Datum::Float(f64::from_bits(if bits & SIGN != 0 { bits & !SIGN } else { !bits })))
        }
        DataType::Bool => {
            let (head, tail) = rest.split_first().ok_or_else(|| damaged("its key is too short"))?;
            *rest = tail;
            match head ^ flip {
                0 => Ok(Datum::Bool(false)),
                1 => Ok(Datum::Bool(true)),
                _ => Err(damaged("a boolean that is neither")),
            }
        }
        DataType::Text => {
            let bytes = unescape(rest, flip)?;
            String::from_utf8(bytes).map(Datum::Text).map_err(|_| damaged("text that is not UTF-8"))
        }
        DataType::Bytes => unescape(rest, flip).map(Datum::Bytes),
        other => key::decode(rest, other, flip),
    }
}

/// What a column's value is after it was in a key, and nowhere else: its form may be another one.
fn from_key(column: &Column, datum: Datum) -> Datum {
    value::restore_modifier(datum, column.modifier)
}

/// Whether a key alone gives a column's value back as it is. If not, whoever keeps the key must keep the value,
/// too.
pub fn is_whole_in_key(column: &Column, datum: &Datum) -> bool {
    if !key::may_lose(datum) {
        return true;
    }
    let mut bytes = Vec::new();
    encode_key_datum(&mut bytes, datum, false);
    let back = decode_key_datum(&mut bytes.as_slice(), column.ty, false).map(|back| from_key(column, back));
    back.is_ok_and(|back| back == *datum)
}

fn unescape(rest: &mut &[u8], flip: u8) -> Result<Vec<u8>, SqlError> {
    let mut bytes = Vec::new();
    let mut at = 0;
    loop {
        let byte = rest.get(at).ok_or_else(|| damaged("its key does not end"))? ^ flip;
        at += 1;
        if byte != 0 {
            bytes.push(byte);
            continue;
        }
        let next = rest.get(at).ok_or_else(|| damaged("its key does not end"))? ^ flip;
        at += 1;
        match next {
            0xff => bytes.push(0),
            1 => {
                *rest = &rest[at..];
                return Ok(bytes);
            }
            _ => return Err(damaged("an escape of its key")),
        }
    }
}

/// The key of a row; 54000 if it is too long.
pub fn encode_key(table: &Table, row: &[Datum]) -> Result<Vec<u8>, SqlError> {
    let mut key = table.key_prefix();
    for part in &table.key {
        encode_key_datum(&mut key, &row[part.column], part.desc);
    }
    check_key_size(&key)?;
    Ok(key)
}

/// 54000 if a key is longer than `txn::types::KEY_BYTES_MAX`.
pub fn check_key_size(key: &[u8]) -> Result<(), SqlError> {
    if key.len() > KEY_BYTES_MAX {
        return Err(SqlError::new("54000", format!("primary key of {} bytes is too long", key.len()))
            .detail(format!("A key has at most {KEY_BYTES_MAX} bytes.")));
    }
    Ok(())
}

/// The value of a row; 54000 if it is too long.
pub fn encode_value(table: &Table, row: &[Datum]) -> Result<Vec<u8>, SqlError> {
    assert!(row.len() >= table.columns.len(), "a row without some of its columns");
    let mut out = vec![FORMAT];
    // A new row does not have the hidden ones: it is as one from before they were.
    for (index, (column, datum)) in table.columns.iter().chain(&table.hidden).zip(row).enumerate() {
        if datum.is_null() && column.missing.is_some() {
            put_varint(&mut out, u64::from(column.id));
            payload::put_null(&mut out);
            continue;
        }
        if datum.is_null() || (table.key_position(index).is_some() && is_whole_in_key(column, datum)) {
            continue;
        }
        put_varint(&mut out, u64::from(column.id));
        payload::put(&mut out, datum);
    }
    if out.len() > VALUE_BYTES_MAX {
        return Err(SqlError::new("54000", format!("row of {} bytes is too big", out.len()))
            .detail(format!("A row has at most {VALUE_BYTES_MAX} bytes.")));
    }
    Ok(out)
}

fn put_varint(out: &mut Vec<u8>, mut v: u64) {
    while v >= 0x80 {
        out.push(v as u8 | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
}

fn take_varint(rest: &mut &[u8]) -> Result<u64, SqlError> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (head, tail) = rest.split_first().ok_or_else(|| damaged("it ends in a number"))?;
        *rest = tail;
        if shift == 63 && *head > 1 {
            break;
        }
        value |= u64::from(head & 0x7f) << shift;
        if head & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(damaged("a number that is too long"))
}

fn take<'a>(rest: &mut &'a [u8], len: u64) -> Result<&'a [u8], SqlError> {
    let len = usize::try_from(len).ok().filter(|len| *len <= rest.len()).ok_or_else(|| damaged("it is too short"))?;
    let (head, tail) = rest.split_at(len);
    *rest = tail;
    Ok(head)
}

/// What a column is in a row that does not say.
fn absent(column: &Column) -> Datum {
    column.missing.as_ref().map_or(Datum::Null, |missing| missing.datum().clone())
}

/// A value as a row has it, without its column: for what the catalog holds. NULL is a bug of the caller.
pub(crate) fn datum_to_bytes(datum: &Datum) -> Vec<u8> {
    let mut bytes = Vec::new();
    payload::put(&mut bytes, datum);
    bytes
}

/// What [`datum_to_bytes`] wrote; XX001 if it is damaged.
pub(crate) fn datum_from_bytes(bytes: &[u8]) -> Result<Datum, SqlError> {
    let mut rest = bytes;
    let (tag, value) = payload::take_raw(&mut rest)?;
    if rest.is_empty() { payload::decode(tag, value) } else { Err(damaged("it is too long")) }
}

/// All columns of a row, in the table's order; then those that are hidden, if there are any.
pub fn decode_row(table: &Table, key: &[u8], value: &[u8]) -> Result<Vec<Datum>, SqlError> {
    decode_wanted(table, key, value, None)
}

/// As [`decode_row`], but of the columns beside the key only those that are wanted; the others are NULL.
pub fn decode_wanted(table: &Table, key: &[u8], value: &[u8], wanted: Option<&[bool]>) -> Result<Vec<Datum>, SqlError> {
    let mut row: Vec<Datum> = table.columns.iter().chain(&table.hidden).map(absent).collect();
    let mut rest =
        key.strip_prefix(table.key_prefix().as_slice()).ok_or_else(|| damaged("its key is of another table"))?;
    for part in &table.key {
        let column = &table.columns[part.column];
        row[part.column] = from_key(column, decode_key_datum(&mut rest, column.ty, part.desc)?);
    }
    if !rest.is_empty() {
        return Err(damaged("its key is too long"));
    }
    decode_value(table, value, wanted, &mut row)?;
    Ok(row)
}

pub(crate) fn decode_value(
    table: &Table,
    value: &[u8],
    wanted: Option<&[bool]>,
    row: &mut [Datum],
) -> Result<(), SqlError> {
    let mut rest = value.strip_prefix(&[FORMAT]).ok_or_else(|| damaged("an unknown format"))?;
    let mut hint = 0;
    while !rest.is_empty() {
        let id = take_varint(&mut rest)?;
        let (tag, bytes) = payload::take_raw(&mut rest)?;
        // Columns are stored in the table's order: look on from the last one.
        let count = row.len();
        let column = |i: usize| table.columns.get(i).unwrap_or_else(|| &table.hidden[i - table.columns.len()]);
        let found = (0..count).map(|i| (hint + i) % count).find(|i| u64::from(column(*i).id) == id);
        let Some(index) = found else { continue };
        hint = index + 1;
        if wanted.is_some_and(|wanted| !wanted.get(index).copied().unwrap_or(false)) {
            continue;
        }
        let column = column(index);
        if payload::is_null(tag) {
            if column.missing.is_none() {
                return Err(damaged("a NULL where absence says the same"));
            }
            row[index] = Datum::Null;
            continue;
        }
        let datum = value::restore_modifier(payload::decode(tag, bytes)?, column.modifier);
        if datum.is_null() || !datum.is_of(column.ty) {
            return Err(damaged("a value of another type than its column"));
        }
        row[index] = datum;
    }
    Ok(())
}

/// A key for people: `/accounts/42`, `/Table/17/\x..` for a table that is not there any more,
/// `/System/..`, `/Min` and, for an empty key, `/Max` where it stands for the end.
pub fn pretty_key(key: &[u8], catalog: &Catalog) -> String {
    let Some((&prefix, rest)) = key.split_first() else { return "/Min".into() };
    if prefix == SYSTEM_PREFIX {
        return format!("/System/{}", String::from_utf8_lossy(rest).escape_default());
    }
    let hex = |bytes: &[u8]| value::to_text(&Datum::Bytes(bytes.to_vec())).expect("not NULL");
    if prefix != TABLE_PREFIX {
        return format!("/{}", hex(key));
    }
    let Some((id, rest)) = rest.split_first_chunk::<4>() else {
        return if rest.is_empty() { "/Tables".into() } else { format!("/{}", hex(key)) };
    };
    let id = u32::from_be_bytes(*id);
    if let Some((table, index)) = catalog.index_by_id(id) {
        let (shown, rest) = Layout::of(table, index).pretty(rest);
        return format!("/{}@{}{shown}{}", table.name, index.name, pretty_rest(rest));
    }
    let Some(table) = catalog.table_by_id(id) else {
        return if rest.is_empty() { format!("/Table/{id}") } else { format!("/Table/{id}/{}", hex(rest)) };
    };
    let (shown, rest) = Layout::primary(table).pretty(rest);
    format!("/{}{shown}{}", table.name, pretty_rest(rest))
}

fn pretty_rest(rest: &[u8]) -> String {
    match rest {
        [] => String::new(),
        // What a point's span ends with.
        [0] => "/Next".into(),
        rest => format!("/{}", value::to_text(&Datum::Bytes(rest.to_vec())).expect("not NULL")),
    }
}
