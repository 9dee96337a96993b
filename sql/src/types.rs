//! SQL's types and values.

use truetime::Timestamp;

/// A column's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum DataType {
    /// BOOLEAN.
    Bool,
    /// BIGINT, INT8, INT, INTEGER, SMALLINT.
    Int,
    /// DOUBLE PRECISION.
    Float,
    /// TEXT, VARCHAR.
    Text,
    /// BYTEA.
    Bytes,
    /// TIMESTAMPTZ.
    Timestamp,
}

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Datum {
    /// NULL, of any type.
    Null,
    /// BOOLEAN.
    Bool(bool),
    /// BIGINT.
    Int(i64),
    /// DOUBLE PRECISION.
    Float(f64),
    /// TEXT.
    Text(String),
    /// BYTEA.
    Bytes(Vec<u8>),
    /// TIMESTAMPTZ.
    Timestamp(Timestamp),
}
