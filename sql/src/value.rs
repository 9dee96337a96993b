//! Values: their order, their text, and conversions from one type to another.
//!
//! Text is compared by its bytes (PostgreSQL's "C" collation). Floats have a total order: NaN is
//! equal to itself and above everything else; -0 equals 0.

use std::cmp::Ordering;

use truetime::Timestamp;

use crate::SqlError;
use crate::types::{DataType, Datum};

impl DataType {
    /// PostgreSQL's name, as in its messages.
    pub fn name(self) -> &'static str {
        match self {
            DataType::Bool => "boolean",
            DataType::Int => "bigint",
            DataType::Float => "double precision",
            DataType::Text => "text",
            DataType::Bytes => "bytea",
            DataType::Timestamp => "timestamp with time zone",
        }
    }
}

impl Datum {
    /// Its type; `None` for NULL.
    pub fn data_type(&self) -> Option<DataType> {
        Some(match self {
            Datum::Null => return None,
            Datum::Bool(_) => DataType::Bool,
            Datum::Int(_) => DataType::Int,
            Datum::Float(_) => DataType::Float,
            Datum::Text(_) => DataType::Text,
            Datum::Bytes(_) => DataType::Bytes,
            Datum::Timestamp(_) => DataType::Timestamp,
        })
    }

    /// Whether it is NULL.
    pub fn is_null(&self) -> bool {
        matches!(self, Datum::Null)
    }

    /// About how much memory it takes, in bytes.
    pub fn size_bytes(&self) -> usize {
        std::mem::size_of::<Datum>()
            + match self {
                Datum::Text(text) => text.len(),
                Datum::Bytes(bytes) => bytes.len(),
                _ => 0,
            }
    }
}

/// The order of two values of one type, NULL last.
pub fn compare(a: &Datum, b: &Datum) -> Ordering {
    match (a, b) {
        (Datum::Null, Datum::Null) => Ordering::Equal,
        (Datum::Null, _) => Ordering::Greater,
        (_, Datum::Null) => Ordering::Less,
        (Datum::Bool(a), Datum::Bool(b)) => a.cmp(b),
        (Datum::Int(a), Datum::Int(b)) => a.cmp(b),
        (Datum::Float(a), Datum::Float(b)) => compare_floats(*a, *b),
        (Datum::Text(a), Datum::Text(b)) => a.as_bytes().cmp(b.as_bytes()),
        (Datum::Bytes(a), Datum::Bytes(b)) => a.cmp(b),
        (Datum::Timestamp(a), Datum::Timestamp(b)) => a.cmp(b),
        _ => panic!("compared values of two types: {a:?} and {b:?}"),
    }
}

fn compare_floats(a: f64, b: f64) -> Ordering {
    match (a.is_nan(), b.is_nan()) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Greater,
        (false, true) => Ordering::Less,
        (false, false) => a.partial_cmp(&b).expect("neither is NaN"),
    }
}

/// The value as PostgreSQL prints it; `None` for NULL.
pub fn to_text(datum: &Datum) -> Option<String> {
    Some(match datum {
        Datum::Null => return None,
        Datum::Bool(true) => "t".into(),
        Datum::Bool(false) => "f".into(),
        Datum::Int(v) => v.to_string(),
        Datum::Float(v) => float_text(*v),
        Datum::Text(v) => v.clone(),
        Datum::Bytes(v) => {
            let mut text = String::with_capacity(2 + 2 * v.len());
            text.push_str("\\x");
            for byte in v {
                text.push(char::from_digit(u32::from(byte >> 4), 16).expect("a nibble"));
                text.push(char::from_digit(u32::from(byte & 15), 16).expect("a nibble"));
            }
            text
        }
        Datum::Timestamp(v) => v.to_string(),
    })
}

fn float_text(v: f64) -> String {
    if v.is_nan() {
        return "NaN".into();
    }
    if v.is_infinite() {
        return if v > 0.0 { "Infinity".into() } else { "-Infinity".into() };
    }
    // As PostgreSQL does: an exponent for what would need more than 15 digits before the point or
    // 4 zeros after it. `{:e}` has the shortest digits that read back to the same value.
    let scientific = format!("{v:e}");
    let (digits, exponent) = scientific.split_once('e').expect("`{:e}` has an exponent");
    let exponent: i32 = exponent.parse().expect("`{:e}` has a decimal exponent");
    if v != 0.0 && !(-4..15).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    format!("{v}")
}

fn invalid(ty: DataType, text: &str) -> SqlError {
    let shown: String = text.chars().take(100).collect();
    SqlError::new("22P02", format!("invalid input syntax for type {}: \"{shown}\"", ty.name()))
}

/// Reads a value of a type from its text: 22P02, 22003, 22007 if it is none.
pub fn parse_text(text: &str, ty: DataType) -> Result<Datum, SqlError> {
    let trimmed = text.trim();
    match ty {
        DataType::Bool => {
            let lower = trimmed.to_ascii_lowercase();
            let prefix_of = |word: &str| !lower.is_empty() && word.starts_with(&lower);
            match lower.as_str() {
                "1" | "on" => Ok(Datum::Bool(true)),
                "0" | "off" | "of" => Ok(Datum::Bool(false)),
                _ if prefix_of("true") || prefix_of("yes") => Ok(Datum::Bool(true)),
                _ if prefix_of("false") || prefix_of("no") => Ok(Datum::Bool(false)),
                _ => Err(invalid(ty, text)),
            }
        }
        DataType::Int => trimmed.parse().map(Datum::Int).map_err(|err: std::num::ParseIntError| match err.kind() {
            std::num::IntErrorKind::PosOverflow | std::num::IntErrorKind::NegOverflow => {
                SqlError::new("22003", format!("value \"{trimmed}\" is out of range for type bigint"))
            }
            _ => invalid(ty, text),
        }),
        DataType::Float => {
            let lower = trimmed.to_ascii_lowercase();
            let value: f64 = lower.parse().map_err(|_| invalid(ty, text))?;
            if value.is_infinite() && !lower.contains("inf") {
                return Err(SqlError::new("22003", format!("\"{trimmed}\" is out of range for type double precision")));
            }
            Ok(Datum::Float(value))
        }
        DataType::Text => {
            if text.contains('\0') {
                return Err(SqlError::new("22021", "invalid byte sequence for encoding \"UTF8\": 0x00"));
            }
            Ok(Datum::Text(text.into()))
        }
        DataType::Bytes => parse_bytea(text).map(Datum::Bytes).ok_or_else(|| invalid(ty, text)),
        DataType::Timestamp => parse_timestamp(trimmed).map(Datum::Timestamp),
    }
}

/// `\x` and hexadecimal digits, or text with `\\` and `\ooo`.
fn parse_bytea(text: &str) -> Option<Vec<u8>> {
    if let Some(hex) = text.strip_prefix("\\x") {
        let digits: Vec<u8> = hex
            .chars()
            .filter(|c| !c.is_ascii_whitespace())
            .map(|c| c.to_digit(16).map(|d| d as u8))
            .collect::<Option<_>>()?;
        return digits.len().is_multiple_of(2).then(|| digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'\\' {
            bytes.push(byte);
        } else if let Some(tail) = rest.strip_prefix(b"\\") {
            bytes.push(b'\\');
            rest = tail;
        } else {
            let octal = rest.get(..3)?;
            let value = octal
                .iter()
                .try_fold(0u32, |acc, d| (b'0'..=b'7').contains(d).then(|| acc * 8 + u32::from(d - b'0')))?;
            bytes.push(u8::try_from(value).ok()?);
            rest = &rest[3..];
        }
    }
    Some(bytes)
}

/// RFC 3339, or the forms that PostgreSQL prints: a blank instead of the `T`, no zone (UTC), a zone
/// of hours only, a date alone.
pub fn parse_timestamp(text: &str) -> Result<Timestamp, SqlError> {
    let bad = || SqlError::new("22007", format!("invalid input syntax for type timestamp with time zone: \"{text}\""));
    let mut text_rfc = text.to_string();
    if !text.is_ascii() || text.len() < 10 || text.len() > 64 {
        return Err(bad());
    }
    if text.len() == 10 {
        text_rfc.push_str("T00:00:00Z");
    } else {
        let (date, time) = text.split_at(10);
        let time = match time.as_bytes()[0] {
            b'T' | b't' | b' ' => time[1..].trim_start(),
            // A date and a zone.
            _ => time,
        };
        let time =
            if time.starts_with(|c: char| c.is_ascii_digit()) { time.to_string() } else { format!("00:00{time}") };
        let zone_at = time.find(['Z', 'z', '+', '-', ' ']).unwrap_or(time.len());
        let (clock, zone) = time.split_at(zone_at);
        let zone = zone.trim_start();
        let clock = if clock.len() == 5 { format!("{clock}:00") } else { clock.to_string() };
        let zone = match zone.len() {
            0 => "Z".to_string(),
            1 => "Z".to_string(),
            3 if zone.eq_ignore_ascii_case("UTC") => "Z".to_string(),
            3 => format!("{zone}:00"),
            5 if !zone.contains(':') => format!("{}:{}", &zone[..3], &zone[3..]),
            _ => zone.to_string(),
        };
        text_rfc = format!("{date}T{clock}{zone}");
    }
    Timestamp::parse_rfc3339(&text_rfc).map_err(|why| {
        if why.contains("out of range") {
            SqlError::new("22008", format!("timestamp out of range: \"{text}\""))
        } else {
            bad()
        }
    })
}

/// An explicit cast (`CAST`, `::`).
pub fn cast(datum: Datum, to: DataType) -> Result<Datum, SqlError> {
    let range = || SqlError::new("22003", "bigint out of range");
    Ok(match (datum, to) {
        (Datum::Null, _) => Datum::Null,
        (datum, to) if datum.data_type() == Some(to) => datum,
        (Datum::Int(v), DataType::Float) => Datum::Float(v as f64),
        (Datum::Float(v), DataType::Int) => {
            let rounded = v.round_ties_even();
            // 2^63 is a float, and the first one that does not fit.
            if !(-9223372036854775808.0..9223372036854775808.0).contains(&rounded) {
                return Err(range());
            }
            Datum::Int(rounded as i64)
        }
        (Datum::Int(v), DataType::Bool) => Datum::Bool(v != 0),
        (Datum::Bool(v), DataType::Int) => Datum::Int(i64::from(v)),
        (Datum::Bool(v), DataType::Text) => Datum::Text(if v { "true" } else { "false" }.into()),
        (Datum::Text(text), to) => parse_text(&text, to)?,
        (datum, DataType::Text) => Datum::Text(to_text(&datum).expect("not NULL")),
        (datum, to) => {
            let from = datum.data_type().expect("not NULL");
            return Err(SqlError::new("42846", format!("cannot cast type {} to {}", from.name(), to.name())));
        }
    })
}

/// Whether [`cast`] knows the way at all.
pub fn can_cast(from: DataType, to: DataType) -> bool {
    from == to
        || from == DataType::Text
        || to == DataType::Text
        || matches!(
            (from, to),
            (DataType::Int, DataType::Float | DataType::Bool)
                | (DataType::Float, DataType::Int)
                | (DataType::Bool, DataType::Int)
        )
}
