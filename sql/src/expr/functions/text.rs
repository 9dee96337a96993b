//! Functions of text. Characters are Unicode's code points, as in PostgreSQL.

use super::{check_length, int, int_of, new_text, text_of};
use crate::SqlError;
use crate::expr::signature::short::{ANY, BYTES, CHAR, I4, I8, TEXT, out};
use crate::expr::signature::{Signature, lenient, strict as f};
use crate::types::Datum;
use crate::value;

pub(super) const FUNCTIONS: &[Signature] = &[
    f("length", &[TEXT], out::I4, |a, _| Ok(int(text_of(&a[0]).chars().count()))),
    f("length", &[CHAR], out::I4, |a, _| Ok(int(text_of(&a[0]).trim_end_matches(' ').chars().count()))),
    f("length", &[BYTES], out::I4, |a, _| Ok(int(bytes(&a[0]).len()))),
    f("char_length", &[TEXT], out::I4, |a, _| Ok(int(text_of(&a[0]).chars().count()))),
    f("character_length", &[TEXT], out::I4, |a, _| Ok(int(text_of(&a[0]).chars().count()))),
    f("octet_length", &[TEXT], out::I4, |a, _| Ok(int(text_of(&a[0]).len()))),
    f("octet_length", &[CHAR], out::I4, |a, _| Ok(int(text_of(&a[0]).len()))),
    f("octet_length", &[BYTES], out::I4, |a, _| Ok(int(bytes(&a[0]).len()))),
    f("bit_length", &[TEXT], out::I4, |a, _| Ok(int(text_of(&a[0]).len() * 8))),
    f("bit_length", &[BYTES], out::I4, |a, _| Ok(int(bytes(&a[0]).len() * 8))),
    f("lower", &[TEXT], out::TEXT, |a, _| new_text(text_of(&a[0]).to_lowercase())),
    f("upper", &[TEXT], out::TEXT, |a, _| new_text(text_of(&a[0]).to_uppercase())),
    f("initcap", &[TEXT], out::TEXT, |a, _| new_text(initcap(text_of(&a[0])))),
    f("substr", &[TEXT, I4], out::TEXT, |a, _| substr(text_of(&a[0]), int_of(&a[1]), None)),
    f("substr", &[TEXT, I4, I4], out::TEXT, |a, _| substr(text_of(&a[0]), int_of(&a[1]), Some(int_of(&a[2])))),
    f("substring", &[TEXT, I4], out::TEXT, |a, _| substr(text_of(&a[0]), int_of(&a[1]), None)),
    f("substring", &[TEXT, I4, I4], out::TEXT, |a, _| substr(text_of(&a[0]), int_of(&a[1]), Some(int_of(&a[2])))),
    f("btrim", &[TEXT], out::TEXT, |a, _| Ok(trim(a, true, true))),
    f("btrim", &[TEXT, TEXT], out::TEXT, |a, _| Ok(trim(a, true, true))),
    f("trim", &[TEXT], out::TEXT, |a, _| Ok(trim(a, true, true))),
    f("trim", &[TEXT, TEXT], out::TEXT, |a, _| Ok(trim(a, true, true))),
    f("ltrim", &[TEXT], out::TEXT, |a, _| Ok(trim(a, true, false))),
    f("ltrim", &[TEXT, TEXT], out::TEXT, |a, _| Ok(trim(a, true, false))),
    f("rtrim", &[TEXT], out::TEXT, |a, _| Ok(trim(a, false, true))),
    f("rtrim", &[TEXT, TEXT], out::TEXT, |a, _| Ok(trim(a, false, true))),
    f("replace", &[TEXT, TEXT, TEXT], out::TEXT, |a, _| replace(text_of(&a[0]), text_of(&a[1]), text_of(&a[2]))),
    f("strpos", &[TEXT, TEXT], out::I4, |a, _| Ok(int(position(text_of(&a[0]), text_of(&a[1]))))),
    f("position", &[TEXT, TEXT], out::I4, |a, _| Ok(int(position(text_of(&a[0]), text_of(&a[1]))))),
    f("left", &[TEXT, I4], out::TEXT, |a, _| {
        let (text, kept) = (text_of(&a[0]), kept(text_of(&a[0]), int_of(&a[1])));
        Ok(Datum::Text(text.chars().take(kept).collect()))
    }),
    f("right", &[TEXT, I4], out::TEXT, |a, _| {
        let (text, kept) = (text_of(&a[0]), kept(text_of(&a[0]), int_of(&a[1])));
        Ok(Datum::Text(text.chars().skip(text.chars().count() - kept).collect()))
    }),
    f("lpad", &[TEXT, I4], out::TEXT, |a, _| pad(text_of(&a[0]), int_of(&a[1]), " ", true)),
    f("lpad", &[TEXT, I4, TEXT], out::TEXT, |a, _| pad(text_of(&a[0]), int_of(&a[1]), text_of(&a[2]), true)),
    f("rpad", &[TEXT, I4], out::TEXT, |a, _| pad(text_of(&a[0]), int_of(&a[1]), " ", false)),
    f("rpad", &[TEXT, I4, TEXT], out::TEXT, |a, _| pad(text_of(&a[0]), int_of(&a[1]), text_of(&a[2]), false)),
    f("repeat", &[TEXT, I4], out::TEXT, |a, _| {
        let count = usize::try_from(int_of(&a[1])).unwrap_or(0);
        check_length(text_of(&a[0]).len().saturating_mul(count))?;
        Ok(Datum::Text(text_of(&a[0]).repeat(count)))
    }),
    f("reverse", &[TEXT], out::TEXT, |a, _| Ok(Datum::Text(text_of(&a[0]).chars().rev().collect()))),
    f("split_part", &[TEXT, TEXT, I4], out::TEXT, |a, _| split_part(text_of(&a[0]), text_of(&a[1]), int_of(&a[2]))),
    f("translate", &[TEXT, TEXT, TEXT], out::TEXT, |a, _| {
        new_text(translate(text_of(&a[0]), text_of(&a[1]), text_of(&a[2])))
    }),
    f("ascii", &[TEXT], out::I4, |a, _| {
        Ok(Datum::Int(text_of(&a[0]).chars().next().map_or(0, |c| i64::from(u32::from(c)))))
    }),
    f("chr", &[I4], out::TEXT, |a, _| chr(int_of(&a[0]))),
    f("starts_with", &[TEXT, TEXT], out::BOOL, |a, _| Ok(Datum::Bool(text_of(&a[0]).starts_with(text_of(&a[1]))))),
    f("^@", &[TEXT, TEXT], out::BOOL, |a, _| Ok(Datum::Bool(text_of(&a[0]).starts_with(text_of(&a[1]))))),
    f("overlay", &[TEXT, TEXT, I4], out::TEXT, |a, _| {
        let length = text_of(&a[1]).chars().count() as i64;
        overlay(text_of(&a[0]), text_of(&a[1]), int_of(&a[2]), length)
    }),
    f("overlay", &[TEXT, TEXT, I4, I4], out::TEXT, |a, _| {
        overlay(text_of(&a[0]), text_of(&a[1]), int_of(&a[2]), int_of(&a[3]))
    }),
    f("to_hex", &[I4], out::TEXT, |a, _| Ok(Datum::Text(format!("{:x}", int_of(&a[0]) as i32)))),
    f("to_hex", &[I8], out::TEXT, |a, _| Ok(Datum::Text(format!("{:x}", int_of(&a[0]))))),
    f("quote_ident", &[TEXT], out::TEXT, |a, _| new_text(quote_ident(text_of(&a[0])))),
    f("quote_literal", &[TEXT], out::TEXT, |a, _| new_text(quote_literal(text_of(&a[0])))),
    lenient("quote_nullable", &[TEXT], out::TEXT, |a, _| match &a[0] {
        Datum::Null => Ok(Datum::Text("NULL".into())),
        text => new_text(quote_literal(text_of(text))),
    }),
    lenient("concat", &[ANY], out::TEXT, |a, _| new_text(concat(a, ""))).repeated(),
    lenient("concat_ws", &[TEXT, ANY], out::TEXT, |a, _| match &a[0] {
        Datum::Null => Ok(Datum::Null),
        separator => new_text(concat(&a[1..], text_of(separator))),
    })
    .repeated(),
];

fn bytes(datum: &Datum) -> &[u8] {
    match datum {
        Datum::Bytes(bytes) => bytes,
        other => panic!("a function that takes bytes was given {other:?}"),
    }
}

/// The text of a value as `concat` and `format` print it.
pub(super) fn shown(datum: &Datum) -> Option<String> {
    value::to_text(datum)
}

fn concat(args: &[Datum], separator: &str) -> String {
    args.iter().filter_map(shown).collect::<Vec<_>>().join(separator)
}

fn initcap(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut in_word = false;
    for c in text.chars() {
        if in_word {
            out.extend(c.to_lowercase())
        } else {
            out.extend(c.to_uppercase())
        }
        in_word = c.is_alphanumeric();
    }
    out
}

fn substr(text: &str, from: i64, len: Option<i64>) -> Result<Datum, SqlError> {
    let end = match len {
        Some(len) if len < 0 => return Err(SqlError::new("22011", "negative substring length not allowed")),
        Some(len) => from.saturating_add(len),
        None => i64::MAX,
    };
    let start = from.max(1);
    let count = end.saturating_sub(start).max(0) as usize;
    Ok(Datum::Text(text.chars().skip((start - 1) as usize).take(count).collect()))
}

fn trim(args: &[Datum], start: bool, end: bool) -> Datum {
    let set: Vec<char> = args.get(1).map_or_else(|| vec![' '], |set| text_of(set).chars().collect());
    let mut trimmed = text_of(&args[0]);
    if start {
        trimmed = trimmed.trim_start_matches(&set[..]);
    }
    if end {
        trimmed = trimmed.trim_end_matches(&set[..]);
    }
    Datum::Text(trimmed.to_string())
}

fn replace(text: &str, from: &str, to: &str) -> Result<Datum, SqlError> {
    if from.is_empty() {
        return Ok(Datum::Text(text.into()));
    }
    let hits = text.matches(from).count();
    check_length(text.len() - hits * from.len() + hits.saturating_mul(to.len()))?;
    Ok(Datum::Text(text.replace(from, to)))
}

fn position(text: &str, part: &str) -> usize {
    text.find(part).map_or(0, |at| text[..at].chars().count() + 1)
}

/// How many characters `left` and `right` keep.
fn kept(text: &str, n: i64) -> usize {
    let count = text.chars().count() as i64;
    (if n >= 0 { n.min(count) } else { count.saturating_add(n).max(0) }) as usize
}

fn pad(text: &str, length: i64, fill: &str, left: bool) -> Result<Datum, SqlError> {
    let length = usize::try_from(length).unwrap_or(0);
    let count = text.chars().count();
    if count >= length || fill.is_empty() {
        return Ok(Datum::Text(text.chars().take(length).collect()));
    }
    check_length(text.len().saturating_add((length - count).saturating_mul(4)))?;
    let padding: String = fill.chars().cycle().take(length - count).collect();
    Ok(Datum::Text(if left { padding + text } else { text.to_string() + &padding }))
}

fn split_part(text: &str, separator: &str, n: i64) -> Result<Datum, SqlError> {
    if n == 0 {
        return Err(SqlError::new("22023", "field position must not be zero"));
    }
    let parts: Vec<&str> = if text.is_empty() {
        Vec::new()
    } else if separator.is_empty() {
        vec![text]
    } else {
        text.split(separator).collect()
    };
    let at = if n > 0 {
        usize::try_from(n - 1).ok()
    } else {
        (parts.len() as i64).checked_add(n).and_then(|at| usize::try_from(at).ok())
    };
    Ok(Datum::Text(at.and_then(|at| parts.get(at)).map_or(String::new(), |part| part.to_string())))
}

fn translate(text: &str, from: &str, to: &str) -> String {
    let from: Vec<char> = from.chars().collect();
    let to: Vec<char> = to.chars().collect();
    text.chars()
        .filter_map(|c| match from.iter().position(|found| *found == c) {
            None => Some(c),
            Some(at) => to.get(at).copied(),
        })
        .collect()
}

fn chr(code: i64) -> Result<Datum, SqlError> {
    if code == 0 {
        return Err(SqlError::new("54000", "null character not permitted"));
    }
    if code < 0 {
        return Err(SqlError::new("54000", "character number must be positive"));
    }
    match u32::try_from(code).ok().and_then(char::from_u32) {
        Some(c) => Ok(Datum::Text(c.into())),
        None => Err(SqlError::new("54000", format!("requested character not valid for encoding: {code}"))),
    }
}

fn overlay(text: &str, with: &str, from: i64, length: i64) -> Result<Datum, SqlError> {
    if from <= 0 {
        return Err(SqlError::new("22011", "negative substring length not allowed"));
    }
    let before: String = text.chars().take((from - 1) as usize).collect();
    let skip = from.saturating_sub(1).saturating_add(length).max(0) as usize;
    let after: String = text.chars().skip(skip).collect();
    new_text(before + with + &after)
}

/// A name as SQL writes it: quoted if it must be.
pub(super) fn quote_ident(text: &str) -> String {
    let plain =
        text.chars().enumerate().all(|(at, c)| c.is_ascii_lowercase() || c == '_' || (at > 0 && c.is_ascii_digit()));
    if plain && !text.is_empty() && !RESERVED.contains(&text) {
        text.into()
    } else {
        format!("\"{}\"", text.replace('"', "\"\""))
    }
}

/// The words that PostgreSQL does not take as names.
const RESERVED: &[&str] = &[
    "all",
    "analyse",
    "analyze",
    "and",
    "any",
    "array",
    "as",
    "asc",
    "asymmetric",
    "authorization",
    "between",
    "bigint",
    "binary",
    "bit",
    "boolean",
    "both",
    "case",
    "cast",
    "char",
    "character",
    "check",
    "coalesce",
    "collate",
    "collation",
    "column",
    "concurrently",
    "constraint",
    "create",
    "cross",
    "current_catalog",
    "current_date",
    "current_role",
    "current_schema",
    "current_time",
    "current_timestamp",
    "current_user",
    "dec",
    "decimal",
    "default",
    "deferrable",
    "desc",
    "distinct",
    "do",
    "else",
    "end",
    "except",
    "exists",
    "extract",
    "false",
    "fetch",
    "float",
    "for",
    "foreign",
    "freeze",
    "from",
    "full",
    "grant",
    "greatest",
    "group",
    "grouping",
    "having",
    "ilike",
    "in",
    "initially",
    "inner",
    "inout",
    "int",
    "integer",
    "intersect",
    "interval",
    "into",
    "is",
    "isnull",
    "join",
    "lateral",
    "leading",
    "least",
    "left",
    "like",
    "limit",
    "localtime",
    "localtimestamp",
    "national",
    "natural",
    "nchar",
    "none",
    "normalize",
    "not",
    "notnull",
    "null",
    "nullif",
    "numeric",
    "offset",
    "on",
    "only",
    "or",
    "order",
    "out",
    "outer",
    "overlaps",
    "overlay",
    "placing",
    "position",
    "precision",
    "primary",
    "real",
    "references",
    "returning",
    "right",
    "row",
    "select",
    "session_user",
    "setof",
    "similar",
    "smallint",
    "some",
    "substring",
    "symmetric",
    "table",
    "tablesample",
    "then",
    "time",
    "timestamp",
    "to",
    "trailing",
    "treat",
    "trim",
    "true",
    "union",
    "unique",
    "user",
    "using",
    "values",
    "varchar",
    "variadic",
    "verbose",
    "when",
    "where",
    "window",
    "with",
];

/// A text as SQL writes it.
pub(super) fn quote_literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if text.contains('\\') { format!("E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}
