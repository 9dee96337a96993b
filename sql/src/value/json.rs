//! JSONB: values, their order, and their text as PostgreSQL prints it.
//!
//! Numbers are exact and keep their digits. The keys of an object are unique (the last one counts) and
//! sorted as PostgreSQL stores them: the shorter first, then by bytes.

use std::cmp::Ordering;

use super::json_parse;
use super::numeric::Numeric;
use crate::SqlError;

/// The deepest nesting.
pub const DEPTH_MAX: usize = 128;

/// A JSON value.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    /// null
    Null,
    /// true, false
    Bool(bool),
    /// A number.
    Number(Numeric),
    /// A string.
    String(String),
    /// A list.
    Array(Vec<Json>),
    /// Keys with values: made by [`Json::object`].
    Object(Vec<(String, Json)>),
}

/// The order in which the keys of an object are kept.
pub(crate) fn key_order(a: &str, b: &str) -> Ordering {
    a.len().cmp(&b.len()).then_with(|| a.as_bytes().cmp(b.as_bytes()))
}

impl Json {
    /// An object; of several values for one key the last counts.
    pub fn object(mut pairs: Vec<(String, Json)>) -> Json {
        pairs.sort_by(|(a, _), (b, _)| key_order(a, b));
        let mut unique: Vec<(String, Json)> = Vec::with_capacity(pairs.len());
        for pair in pairs {
            match unique.last_mut() {
                Some(last) if last.0 == pair.0 => *last = pair,
                _ => unique.push(pair),
            }
        }
        Json::Object(unique)
    }

    /// From text: 22P02.
    pub fn parse(text: &str) -> Result<Json, SqlError> {
        json_parse::parse(text)
    }

    /// The value under a key, if it is an object that has it.
    pub fn get(&self, key: &str) -> Option<&Json> {
        let Json::Object(pairs) = self else { return None };
        pairs.binary_search_by(|(found, _)| key_order(found, key)).ok().map(|at| &pairs[at].1)
    }

    /// The value at a place, from the end if negative, if it is a list that has it.
    pub fn at(&self, index: i64) -> Option<&Json> {
        let Json::Array(items) = self else { return None };
        let at = if index < 0 { index.checked_add(items.len() as i64)? } else { index };
        items.get(usize::try_from(at).ok()?)
    }

    /// `object`, `array`, `string`, `number`, `boolean` or `null`.
    pub fn kind(&self) -> &'static str {
        match self {
            Json::Null => "null",
            Json::Bool(_) => "boolean",
            Json::Number(_) => "number",
            Json::String(_) => "string",
            Json::Array(_) => "array",
            Json::Object(_) => "object",
        }
    }

    /// About how much memory it takes, in bytes.
    pub fn size_bytes(&self) -> usize {
        std::mem::size_of::<Json>()
            + match self {
                Json::Null | Json::Bool(_) => 0,
                Json::Number(v) => v.heap_bytes(),
                Json::String(v) => v.len(),
                Json::Array(items) => items.iter().map(Json::size_bytes).sum(),
                Json::Object(pairs) => pairs.iter().map(|(key, v)| 24 + key.len() + v.size_bytes()).sum(),
            }
    }

    fn rank(&self) -> u8 {
        match self {
            Json::Null => 0,
            Json::String(_) => 1,
            Json::Number(_) => 2,
            Json::Bool(_) => 3,
            Json::Array(_) => 4,
            Json::Object(_) => 5,
        }
    }

    /// PostgreSQL's order of jsonb.
    pub fn compare(&self, other: &Json) -> Ordering {
        let is_scalar = |json: &Json| json.rank() < 4;
        match (self, other) {
            // A scalar alone is kept as a list of one, and lists are compared by their length first.
            (Json::Array(items), scalar) if is_scalar(scalar) => items.len().cmp(&1).then(Ordering::Greater),
            (scalar, Json::Array(items)) if is_scalar(scalar) => 1.cmp(&items.len()).then(Ordering::Less),
            _ => self.compare_inner(other),
        }
    }

    fn compare_inner(&self, other: &Json) -> Ordering {
        match (self, other) {
            (Json::Bool(a), Json::Bool(b)) => a.cmp(b),
            (Json::Number(a), Json::Number(b)) => a.compare(b),
            (Json::String(a), Json::String(b)) => a.as_bytes().cmp(b.as_bytes()),
            (Json::Array(a), Json::Array(b)) => a.len().cmp(&b.len()).then_with(|| {
                a.iter().zip(b).map(|(a, b)| a.compare_inner(b)).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
            }),
            (Json::Object(a), Json::Object(b)) => a.len().cmp(&b.len()).then_with(|| {
                let pair = |((a_key, a), (b_key, b)): (&(String, Json), &(String, Json))| {
                    a_key.as_bytes().cmp(b_key.as_bytes()).then_with(|| a.compare_inner(b))
                };
                a.iter().zip(b).map(pair).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
            }),
            _ => self.rank().cmp(&other.rank()),
        }
    }

    /// As PostgreSQL prints it: a blank after each colon and comma.
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        self.push(&mut out, false);
        out
    }

    /// The same for all values that are equal, however many zeros end their numbers.
    pub(crate) fn canonical_text(&self) -> String {
        let mut out = String::new();
        self.push(&mut out, true);
        out
    }

    fn push(&self, out: &mut String, canonical: bool) {
        match self {
            Json::Null => out.push_str("null"),
            Json::Bool(v) => out.push_str(if *v { "true" } else { "false" }),
            Json::Number(v) if canonical => out.push_str(&v.trimmed().to_string()),
            Json::Number(v) => out.push_str(&v.to_string()),
            Json::String(v) => push_string(v, out),
            Json::Array(items) => {
                out.push('[');
                for (at, item) in items.iter().enumerate() {
                    if at > 0 {
                        out.push_str(", ");
                    }
                    item.push(out, canonical);
                }
                out.push(']');
            }
            Json::Object(pairs) => {
                out.push('{');
                for (at, (key, value)) in pairs.iter().enumerate() {
                    if at > 0 {
                        out.push_str(", ");
                    }
                    push_string(key, out);
                    out.push_str(": ");
                    value.push(out, canonical);
                }
                out.push('}');
            }
        }
    }

    /// On several lines, as `jsonb_pretty` prints it.
    pub fn pretty(&self) -> String {
        let mut out = String::new();
        self.push_pretty(&mut out, 0);
        out
    }

    fn push_pretty(&self, out: &mut String, depth: usize) {
        let indent = |out: &mut String, depth: usize| {
            out.push('\n');
            (0..depth * 4).for_each(|_| out.push(' '));
        };
        match self {
            Json::Array(items) => {
                out.push('[');
                for (at, item) in items.iter().enumerate() {
                    out.push_str(if at > 0 { "," } else { "" });
                    indent(out, depth + 1);
                    item.push_pretty(out, depth + 1);
                }
                indent(out, depth);
                out.push(']');
            }
            Json::Object(pairs) => {
                out.push('{');
                for (at, (key, value)) in pairs.iter().enumerate() {
                    out.push_str(if at > 0 { "," } else { "" });
                    indent(out, depth + 1);
                    push_string(key, out);
                    out.push_str(": ");
                    value.push_pretty(out, depth + 1);
                }
                indent(out, depth);
                out.push('}');
            }
            scalar => scalar.push(out, false),
        }
    }
}

fn push_string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if u32::from(c) < 0x20 => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
}
