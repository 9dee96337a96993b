//! SQL's types and values.
//!
//! A [`DataType`] is what an expression has; what a column adds to it (a length, a precision) is its
//! [`TypeModifier`]. VARCHAR is TEXT with a modifier. All integers are one [`Datum`], within the range of
//! their type.

use truetime::Timestamp;

pub use crate::value::array::ArrayValue;
pub use crate::value::interval::Interval;
pub use crate::value::json::Json;
pub use crate::value::numeric::Numeric;

/// The type of a column or an expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum DataType {
    /// BOOLEAN.
    Bool,
    /// BIGINT, INT8.
    Int,
    /// DOUBLE PRECISION.
    Float,
    /// TEXT, VARCHAR.
    Text,
    /// BYTEA.
    Bytes,
    /// TIMESTAMP WITH TIME ZONE, to the nanosecond.
    Timestamp,
    /// SMALLINT, INT2.
    Int2,
    /// INTEGER, INT, INT4.
    Int4,
    /// REAL.
    Float4,
    /// NUMERIC, DECIMAL.
    Numeric,
    /// CHAR(n): padded with blanks, compared without them.
    Char,
    /// DATE.
    Date,
    /// TIME WITHOUT TIME ZONE, to the microsecond.
    Time,
    /// TIMESTAMP WITHOUT TIME ZONE, to the microsecond.
    LocalTimestamp,
    /// INTERVAL.
    Interval,
    /// UUID.
    Uuid,
    /// JSONB.
    Json,
    /// An array.
    Array(Element),
}

/// What an array may hold: every type but another array (arrays have dimensions of their own).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[allow(missing_docs)]
pub enum Element {
    Bool,
    Int,
    Float,
    Text,
    Bytes,
    Timestamp,
    Int2,
    Int4,
    Float4,
    Numeric,
    Char,
    Date,
    Time,
    LocalTimestamp,
    Interval,
    Uuid,
    Json,
}

impl Element {
    /// All of them.
    pub const ALL: [Element; 17] = [
        Element::Bool,
        Element::Int,
        Element::Float,
        Element::Text,
        Element::Bytes,
        Element::Timestamp,
        Element::Int2,
        Element::Int4,
        Element::Float4,
        Element::Numeric,
        Element::Char,
        Element::Date,
        Element::Time,
        Element::LocalTimestamp,
        Element::Interval,
        Element::Uuid,
        Element::Json,
    ];

    /// The type of one of them.
    pub const fn data_type(self) -> DataType {
        match self {
            Element::Bool => DataType::Bool,
            Element::Int => DataType::Int,
            Element::Float => DataType::Float,
            Element::Text => DataType::Text,
            Element::Bytes => DataType::Bytes,
            Element::Timestamp => DataType::Timestamp,
            Element::Int2 => DataType::Int2,
            Element::Int4 => DataType::Int4,
            Element::Float4 => DataType::Float4,
            Element::Numeric => DataType::Numeric,
            Element::Char => DataType::Char,
            Element::Date => DataType::Date,
            Element::Time => DataType::Time,
            Element::LocalTimestamp => DataType::LocalTimestamp,
            Element::Interval => DataType::Interval,
            Element::Uuid => DataType::Uuid,
            Element::Json => DataType::Json,
        }
    }
}

impl DataType {
    /// What an array of it holds; `None` for an array.
    pub const fn as_element(self) -> Option<Element> {
        Some(match self {
            DataType::Bool => Element::Bool,
            DataType::Int => Element::Int,
            DataType::Float => Element::Float,
            DataType::Text => Element::Text,
            DataType::Bytes => Element::Bytes,
            DataType::Timestamp => Element::Timestamp,
            DataType::Int2 => Element::Int2,
            DataType::Int4 => Element::Int4,
            DataType::Float4 => Element::Float4,
            DataType::Numeric => Element::Numeric,
            DataType::Char => Element::Char,
            DataType::Date => Element::Date,
            DataType::Time => Element::Time,
            DataType::LocalTimestamp => Element::LocalTimestamp,
            DataType::Interval => Element::Interval,
            DataType::Uuid => Element::Uuid,
            DataType::Json => Element::Json,
            DataType::Array(_) => return None,
        })
    }

    /// Every type: the scalars, then their arrays.
    pub fn all() -> impl Iterator<Item = DataType> {
        Element::ALL.into_iter().map(Element::data_type).chain(Element::ALL.into_iter().map(DataType::Array))
    }

    /// PostgreSQL's name, as in its messages.
    pub const fn name(self) -> &'static str {
        match self {
            DataType::Bool => "boolean",
            DataType::Int => "bigint",
            DataType::Float => "double precision",
            DataType::Text => "text",
            DataType::Bytes => "bytea",
            DataType::Timestamp => "timestamp with time zone",
            DataType::Int2 => "smallint",
            DataType::Int4 => "integer",
            DataType::Float4 => "real",
            DataType::Numeric => "numeric",
            DataType::Char => "character",
            DataType::Date => "date",
            DataType::Time => "time without time zone",
            DataType::LocalTimestamp => "timestamp without time zone",
            DataType::Interval => "interval",
            DataType::Uuid => "uuid",
            DataType::Json => "jsonb",
            DataType::Array(element) => match element {
                Element::Bool => "boolean[]",
                Element::Int => "bigint[]",
                Element::Float => "double precision[]",
                Element::Text => "text[]",
                Element::Bytes => "bytea[]",
                Element::Timestamp => "timestamp with time zone[]",
                Element::Int2 => "smallint[]",
                Element::Int4 => "integer[]",
                Element::Float4 => "real[]",
                Element::Numeric => "numeric[]",
                Element::Char => "character[]",
                Element::Date => "date[]",
                Element::Time => "time without time zone[]",
                Element::LocalTimestamp => "timestamp without time zone[]",
                Element::Interval => "interval[]",
                Element::Uuid => "uuid[]",
                Element::Json => "jsonb[]",
            },
        }
    }

    /// PostgreSQL's internal name (`pg_type.typname`), which is what it calls the column of a cast.
    pub const fn internal_name(self) -> &'static str {
        match self {
            DataType::Bool => "bool",
            DataType::Int => "int8",
            DataType::Float => "float8",
            DataType::Text => "text",
            DataType::Bytes => "bytea",
            DataType::Timestamp => "timestamptz",
            DataType::Int2 => "int2",
            DataType::Int4 => "int4",
            DataType::Float4 => "float4",
            DataType::Numeric => "numeric",
            DataType::Char => "bpchar",
            DataType::Date => "date",
            DataType::Time => "time",
            DataType::LocalTimestamp => "timestamp",
            DataType::Interval => "interval",
            DataType::Uuid => "uuid",
            DataType::Json => "jsonb",
            // The column of a cast is called as the element's type is.
            DataType::Array(element) => element.data_type().internal_name(),
        }
    }

    /// Whether it is SMALLINT, INTEGER or BIGINT.
    pub const fn is_integer(self) -> bool {
        matches!(self, DataType::Int2 | DataType::Int4 | DataType::Int)
    }

    /// Whether it is a number of any kind.
    pub const fn is_number(self) -> bool {
        self.is_integer() || matches!(self, DataType::Numeric | DataType::Float4 | DataType::Float)
    }

    /// Whether it is TEXT or CHAR.
    pub const fn is_string(self) -> bool {
        matches!(self, DataType::Text | DataType::Char)
    }

    /// Whether a primary key or an index may have a column of it. JSONB may not: equal values can have
    /// different texts in more ways than a key could keep.
    pub const fn is_orderable_in_key(self) -> bool {
        !matches!(self, DataType::Json | DataType::Array(Element::Json))
    }
}

/// What a column, or a cast, says of a type beside its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum TypeModifier {
    /// TEXT: VARCHAR, and its most characters.
    Varchar(Option<u32>),
    /// CHAR: how many characters.
    Char(u32),
    /// NUMERIC(precision, scale).
    Numeric {
        /// The most digits in all: 1 to 1000.
        precision: u16,
        /// Digits after the point; negative: so many before it are 0.
        scale: i16,
    },
    /// TIME, TIMESTAMP, TIMESTAMPTZ, INTERVAL: the digits of a second's fraction.
    Precision(u8),
}

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Datum {
    /// NULL, of any type.
    Null,
    /// BOOLEAN.
    Bool(bool),
    /// SMALLINT, INTEGER, BIGINT: within the range of its type.
    Int(i64),
    /// DOUBLE PRECISION.
    Float(f64),
    /// TEXT, VARCHAR.
    Text(String),
    /// BYTEA.
    Bytes(Vec<u8>),
    /// TIMESTAMP WITH TIME ZONE.
    Timestamp(Timestamp),
    /// REAL.
    Float4(f32),
    /// NUMERIC.
    Numeric(Numeric),
    /// CHAR, with its padding.
    Char(String),
    /// DATE: days since 1970-01-01.
    Date(i32),
    /// TIME: microseconds since midnight, up to and with 24:00.
    Time(i64),
    /// TIMESTAMP WITHOUT TIME ZONE: microseconds since 1970-01-01 00:00.
    LocalTimestamp(i64),
    /// INTERVAL.
    Interval(Interval),
    /// UUID.
    Uuid([u8; 16]),
    /// JSONB.
    Json(Box<Json>),
    /// An array.
    Array(Box<ArrayValue>),
}
