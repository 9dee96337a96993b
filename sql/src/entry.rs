//! Entries of indexes as keys and values; and the one form in which access paths see every key.
//!
//! ```text
//!   a row           10 table  pk..                          value: see `row`
//!   of an index     10 index  (marker column).. pk..        value: stored columns
//!   of a unique one 10 index  (marker column)..             value: length pk.. stored columns
//!     with a NULL   10 index  (marker column).. pk..        value: the same
//! ```
//!
//! An index's id comes from the same counter as tables': neither is ever used again, so what is left under a
//! dropped one harms nobody. Columns are encoded as those of a primary key, each behind a marker: `01` and
//! the value, or for NULL `00` (NULLS FIRST) or `02` (NULLS LAST) alone, so that byte order is the
//! index's order. Of the primary key only the columns that the index does not have anyhow follow. A unique
//! entry's key has no primary key in it, so that two rows meet at one key; those with a NULL, which never equal
//! each other, have.
//!
//! The value of a key column may be lost in its encoding where values are equal that are not the same (-0 and 0):
//! such a column is not read from the entry, see [`is_exact`].

use crate::SqlError;
use crate::catalog::{Index, Table};
use crate::row::{self, decode_key_datum, encode_key_datum};
use crate::types::{DataType, Datum};
use crate::value;
use txn::types::KEY_BYTES_MAX;
use txn::{Key, Span, Value};

const NULL_FIRST: u8 = 0;
const NOT_NULL: u8 = 1;
const NULL_LAST: u8 = 2;

fn damaged(what: &str) -> SqlError {
    SqlError::new("XX001", format!("a stored index entry is damaged: {what}"))
}

/// Whether a value of the type can be had back from a key, bit for bit.
pub fn is_exact(ty: DataType) -> bool {
    use DataType as T;
    matches!(ty, T::Bool | T::Int2 | T::Int4 | T::Int | T::Text | T::Bytes | T::Date | T::Uuid | T::Timestamp)
}

/// Whether values that are equal may differ in their form, which no key keeps: a row keeps it beside its key.
fn has_forms(ty: DataType) -> bool {
    use DataType as T;
    matches!(ty, T::Numeric | T::Interval | T::Char | T::Json | T::Array(_))
}

/// One column of a key.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// Its index in [`Table::columns`].
    pub column: usize,
    /// Whether larger values come first.
    pub desc: bool,
    /// Where its NULLs are, if it has a marker; a column of the primary key has none.
    pub nulls_first: Option<bool>,
    /// Whether there can be no NULL.
    pub not_null: bool,
    ty: DataType,
}

impl Part {
    fn encode(&self, out: &mut Vec<u8>, datum: &Datum) {
        match (self.nulls_first, datum) {
            (Some(first), Datum::Null) => return out.push(if first { NULL_FIRST } else { NULL_LAST }),
            (Some(_), _) => out.push(NOT_NULL),
            (None, _) => {}
        }
        encode_key_datum(out, datum, self.desc);
    }

    /// As [`Part::encode`], of a value that is not NULL; also what all of them begin with, and nothing else.
    pub fn encode_value(&self, out: &mut Vec<u8>, datum: Option<&Datum>) {
        if self.nulls_first.is_some() {
            out.push(NOT_NULL);
        }
        if let Some(datum) = datum {
            encode_key_datum(out, datum, self.desc);
        }
    }

    fn decode(&self, rest: &mut &[u8]) -> Result<Datum, SqlError> {
        if let Some(first) = self.nulls_first {
            let (marker, tail) = rest.split_first().ok_or_else(|| damaged("its key is too short"))?;
            *rest = tail;
            match (*marker, first) {
                (NOT_NULL, _) => {}
                (NULL_FIRST, true) | (NULL_LAST, false) => return Ok(Datum::Null),
                _ => return Err(damaged("an unknown marker in its key")),
            }
        }
        decode_key_datum(rest, self.ty, self.desc)
    }
}

/// The keys of a table or of an index.
#[derive(Clone, Debug)]
pub struct Layout {
    /// What every key begins with.
    pub prefix: Vec<u8>,
    /// All keys.
    pub span: Span,
    /// The columns, in order. If all are known, and not NULL, so is the key.
    pub parts: Vec<Part>,
    /// What follows in a unique index's entries that have a NULL; in the others it is in the value.
    pub tail: Vec<Part>,
    /// For messages.
    name: String,
    unique: bool,
    /// Of a table with the stored columns only.
    stored: Option<Table>,
    storing: Vec<usize>,
}

/// An entry, as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its key.
    pub key: Key,
    /// Its value.
    pub value: Value,
    /// Whether another row's entry would have the same key.
    pub is_unique: bool,
}

fn primary_parts(table: &Table) -> impl Iterator<Item = Part> + '_ {
    table.key.iter().map(|part| Part {
        column: part.column,
        desc: part.desc,
        nulls_first: None,
        not_null: true,
        ty: table.columns[part.column].ty,
    })
}

impl Layout {
    /// Of a table's rows.
    pub fn primary(table: &Table) -> Layout {
        Layout {
            prefix: table.key_prefix(),
            span: table.span(),
            parts: primary_parts(table).collect(),
            tail: Vec::new(),
            name: format!("{}_pkey", table.name),
            unique: true,
            stored: None,
            storing: Vec::new(),
        }
    }

    /// Of an index's entries.
    pub fn of(table: &Table, index: &Index) -> Layout {
        let mut parts: Vec<Part> = index
            .columns
            .iter()
            .map(|part| Part {
                column: part.column,
                desc: part.desc,
                nulls_first: Some(part.nulls_first),
                not_null: table.columns[part.column].not_null,
                ty: table.columns[part.column].ty,
            })
            .collect();
        let rest: Vec<Part> =
            primary_parts(table).filter(|part| parts.iter().all(|known| known.column != part.column)).collect();
        let stored = Table {
            id: table.id,
            name: table.name.clone(),
            columns: index.storing.iter().map(|column| table.columns[*column].clone()).collect(),
            ..Table::default()
        };
        let mut tail = Vec::new();
        if index.unique {
            tail = rest
        } else {
            parts.extend(rest)
        }
        Layout {
            prefix: index.key_prefix(),
            span: index.span(),
            parts,
            tail,
            name: index.name.clone(),
            unique: index.unique,
            stored: Some(stored),
            storing: index.storing.clone(),
        }
    }

    /// The columns in the order in which the keys are sorted, down to one row for each.
    pub fn order(&self) -> impl Iterator<Item = &Part> {
        self.parts.iter().chain(&self.tail)
    }

    /// Whether a column's value can be had from an entry.
    pub fn covers(&self, table: &Table, column: usize) -> bool {
        let is_key = table.key_position(column).is_some();
        let in_key = self.order().any(|part| part.column == column);
        let ty = table.columns[column].ty;
        match is_key {
            true => in_key && !has_forms(ty),
            false => self.storing.contains(&column) || (in_key && is_exact(ty)),
        }
    }

    /// The columns of a key, without its prefix, for people; and what is left of it.
    pub fn pretty<'k>(&self, key: &'k [u8]) -> (String, &'k [u8]) {
        let (mut text, mut rest) = (String::new(), key);
        for part in self.order() {
            if rest.is_empty() {
                break;
            }
            let before = rest;
            match part.decode(&mut rest) {
                Ok(Datum::Text(v)) => text.push_str(&format!("/\"{}\"", v.escape_default())),
                Ok(datum) => {
                    text.push('/');
                    text.push_str(&value::to_text(&datum).unwrap_or_else(|| "NULL".into()));
                }
                Err(_) => {
                    rest = before;
                    break;
                }
            }
        }
        (text, rest)
    }

    /// A row's entry. 54000 if it is too long.
    pub fn entry(&self, row: &[Datum]) -> Result<Entry, SqlError> {
        let mut key = self.prefix.clone();
        for part in &self.parts {
            part.encode(&mut key, &row[part.column]);
        }
        let has_null = self.parts.iter().any(|part| row[part.column].is_null());
        let mut rest = Vec::new();
        for part in &self.tail {
            part.encode(&mut rest, &row[part.column]);
        }
        if has_null {
            key.extend_from_slice(&rest);
        }
        if key.len() > KEY_BYTES_MAX {
            let message =
                format!("index row size {} exceeds maximum {KEY_BYTES_MAX} for index \"{}\"", key.len(), self.name);
            return Err(SqlError::new("54000", message));
        }
        let mut value = Vec::new();
        if self.unique {
            value.extend_from_slice(&(rest.len() as u32).to_be_bytes());
            value.extend_from_slice(&rest);
        }
        if let Some(stored) = &self.stored {
            let columns: Vec<Datum> = self.storing.iter().map(|column| row[*column].clone()).collect();
            value.extend(row::encode_value(stored, &columns)?);
        }
        Ok(Entry { key: key.into(), value: value.into(), is_unique: self.unique && !has_null })
    }

    /// What an entry says of its row: the other columns are NULL. XX001 if it is damaged.
    pub fn decode(&self, table: &Table, key: &[u8], value: &[u8]) -> Result<Vec<Datum>, SqlError> {
        let mut row = vec![Datum::Null; table.columns.len()];
        let mut rest = key.strip_prefix(&self.prefix[..]).ok_or_else(|| damaged("its key is of another index"))?;
        let mut has_null = false;
        for part in &self.parts {
            let datum = part.decode(&mut rest)?;
            has_null |= datum.is_null();
            row[part.column] = datum;
        }
        let mut value = value;
        if self.unique {
            let (len, tail) = value.split_first_chunk::<4>().ok_or_else(|| damaged("it is too short"))?;
            let len = u32::from_be_bytes(*len) as usize;
            let (mut primary, tail) = tail.split_at_checked(len).ok_or_else(|| damaged("it is too short"))?;
            value = tail;
            if has_null {
                rest = rest.strip_prefix(primary).ok_or_else(|| damaged("its key and its value disagree"))?;
            }
            for part in &self.tail {
                row[part.column] = part.decode(&mut primary)?;
            }
            if !primary.is_empty() {
                return Err(damaged("it is too long"));
            }
        }
        if !rest.is_empty() {
            return Err(damaged("its key is too long"));
        }
        if let Some(stored) = &self.stored {
            let mut columns = vec![Datum::Null; self.storing.len()];
            row::decode_value(stored, value, None, &mut columns)?;
            for (column, datum) in self.storing.iter().zip(columns) {
                // What is in the key, too, is exact only here.
                if table.key_position(*column).is_none() {
                    row[*column] = datum;
                }
            }
        }
        Ok(row)
    }

    /// The key of the row that an entry is of.
    pub fn row_key(&self, table: &Table, key: &[u8], value: &[u8]) -> Result<Key, SqlError> {
        Ok(row::encode_key(table, &self.decode(table, key, value)?)?.into())
    }
}
