//! Arrays: a list of values with dimensions, and its text (`{1,2,NULL}`, `{{a,b},{c,"d e"}}`).
//!
//! Subscripts begin at 1. An array without values has no dimensions.

use std::cmp::Ordering;

use super::{compare, parse_text, to_text};
use crate::SqlError;
use crate::types::{Datum, Element};

/// The most dimensions, as in PostgreSQL.
pub const DIMENSIONS_MAX: usize = 6;
/// The most values of one array.
pub const ITEMS_MAX: usize = 1 << 20;

/// An array.
#[derive(Clone, Debug, PartialEq)]
pub struct ArrayValue {
    /// What it holds.
    pub element: Element,
    /// How many there are in each dimension; none if it is empty.
    pub dimensions: Vec<usize>,
    /// All values, the last dimension running fastest. NULLs too.
    pub items: Vec<Datum>,
}

impl ArrayValue {
    /// Of one dimension, or empty.
    pub fn flat(element: Element, items: Vec<Datum>) -> ArrayValue {
        let dimensions = if items.is_empty() { Vec::new() } else { vec![items.len()] };
        ArrayValue { element, dimensions, items }
    }

    /// About how much memory it takes, in bytes.
    pub fn size_bytes(&self) -> usize {
        std::mem::size_of::<ArrayValue>() + self.items.iter().map(Datum::size_bytes).sum::<usize>()
    }

    /// PostgreSQL's order: by the values, then by how many there are, then by the dimensions.
    pub fn compare(&self, other: &ArrayValue) -> Ordering {
        for (a, b) in self.items.iter().zip(&other.items) {
            let order = compare(a, b);
            if order.is_ne() {
                return order;
            }
        }
        let dimensions = || {
            let count = self.dimensions.len().cmp(&other.dimensions.len());
            count.then_with(|| self.dimensions.cmp(&other.dimensions))
        };
        self.items.len().cmp(&other.items.len()).then_with(dimensions)
    }

    /// As PostgreSQL prints it.
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        if self.items.is_empty() {
            return "{}".into();
        }
        let mut at = 0;
        self.push(&self.dimensions, &mut at, &mut out);
        out
    }

    fn push(&self, dimensions: &[usize], at: &mut usize, out: &mut String) {
        out.push('{');
        for index in 0..dimensions[0] {
            if index > 0 {
                out.push(',');
            }
            if dimensions.len() > 1 {
                self.push(&dimensions[1..], at, out);
            } else {
                match to_text(&self.items[*at]) {
                    None => out.push_str("NULL"),
                    Some(text) => push_item(&text, out),
                }
                *at += 1;
            }
        }
        out.push('}');
    }

    /// From text: 22P02, or what the values say.
    pub fn parse(text: &str, element: Element) -> Result<ArrayValue, SqlError> {
        let mut parser = Parser { text, rest: text.trim(), element, items: Vec::new(), dimensions: Vec::new() };
        // `[1:2]={..}`: only with lower bounds of 1.
        if parser.rest.starts_with('[') {
            let (bounds, rest) =
                parser.rest.split_once('=').ok_or_else(|| parser.bad("Missing \"=\" after array dimensions."))?;
            if bounds.trim().trim_start_matches('[').trim_end_matches(']').split("][").any(|b| !b.starts_with("1:")) {
                return Err(SqlError::unsupported("an array whose subscripts do not begin at 1"));
            }
            parser.rest = rest.trim_start();
        }
        parser.level(0)?;
        if !parser.rest.trim().is_empty() {
            return Err(parser.bad("Junk after closing right brace."));
        }
        let Parser { items, mut dimensions, .. } = parser;
        if items.is_empty() {
            dimensions.clear();
        }
        Ok(ArrayValue { element, dimensions, items })
    }
}

fn push_item(text: &str, out: &mut String) {
    let plain = !text.is_empty()
        && !text.eq_ignore_ascii_case("null")
        && !text.contains(['{', '}', ',', '"', '\\', ' ', '\t', '\n', '\r', '\x0b', '\x0c']);
    if plain {
        out.push_str(text);
        return;
    }
    out.push('"');
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
}

struct Parser<'a> {
    text: &'a str,
    rest: &'a str,
    element: Element,
    items: Vec<Datum>,
    /// As far as they are known: from the first list of each level.
    dimensions: Vec<usize>,
}

impl Parser<'_> {
    fn bad(&self, detail: &str) -> SqlError {
        let shown: String = self.text.chars().take(100).collect();
        SqlError::new("22P02", format!("malformed array literal: \"{shown}\"")).detail(detail)
    }

    /// One `{..}`.
    fn level(&mut self, depth: usize) -> Result<(), SqlError> {
        if depth == DIMENSIONS_MAX {
            return Err(SqlError::new(
                "54000",
                format!("number of array dimensions ({}) exceeds the maximum allowed ({DIMENSIONS_MAX})", depth + 1),
            ));
        }
        self.rest = self
            .rest
            .strip_prefix('{')
            .ok_or_else(|| self.bad("Array value must start with \"{\" or dimension information."))?
            .trim_start();
        let mut count = 0;
        let mut nested = None;
        if let Some(rest) = self.rest.strip_prefix('}') {
            self.rest = rest.trim_start();
            // Only the whole array may be empty.
            return if depth == 0 { Ok(()) } else { Err(self.bad("Unexpected \"}\" character.")) };
        }
        loop {
            let is_list = self.rest.starts_with('{');
            if nested.is_some_and(|nested| nested != is_list) {
                return Err(self.bad("Multidimensional arrays must have sub-arrays with matching dimensions."));
            }
            nested = Some(is_list);
            if is_list {
                self.level(depth + 1)?;
            } else {
                let item = self.item()?;
                self.items.push(item);
                if self.items.len() > ITEMS_MAX {
                    return Err(SqlError::new(
                        "54000",
                        format!("array size exceeds the maximum allowed ({ITEMS_MAX})"),
                    ));
                }
            }
            count += 1;
            self.rest = self.rest.trim_start();
            if let Some(rest) = self.rest.strip_prefix(',') {
                self.rest = rest.trim_start();
                continue;
            }
            match self.rest.strip_prefix('}') {
                Some(rest) => self.rest = rest.trim_start(),
                None if self.rest.is_empty() => return Err(self.bad("Unexpected end of input.")),
                None => return Err(self.bad("Unexpected array element.")),
            }
            break;
        }
        // The innermost list ends first and says how deep they all are.
        let deepest = nested == Some(false);
        if deepest && self.dimensions.is_empty() {
            self.dimensions = vec![0; depth + 1];
        }
        let levels = self.dimensions.len();
        match self.dimensions.get_mut(depth) {
            Some(known @ 0) => *known = count,
            Some(known) if *known == count && (!deepest || depth + 1 == levels) => {}
            _ => return Err(self.bad("Multidimensional arrays must have sub-arrays with matching dimensions.")),
        }
        Ok(())
    }

    fn item(&mut self) -> Result<Datum, SqlError> {
        let mut out = String::new();
        let mut quoted = false;
        let mut kept = 0;
        let mut chars = self.rest.char_indices();
        let mut in_quotes = false;
        let end = loop {
            let Some((at, c)) = chars.next() else { return Err(self.bad("Unexpected end of input.")) };
            match c {
                '"' => {
                    in_quotes = !in_quotes;
                    quoted = true;
                    kept = out.len();
                }
                '\\' => match chars.next() {
                    Some((_, c)) => {
                        out.push(c);
                        quoted = true;
                        kept = out.len();
                    }
                    None => return Err(self.bad("Unexpected end of input.")),
                },
                ',' | '}' if !in_quotes => break at,
                '{' if !in_quotes => return Err(self.bad("Unexpected \"{\" character.")),
                c => {
                    out.push(c);
                    if in_quotes || !c.is_ascii_whitespace() {
                        kept = out.len();
                    }
                }
            }
        };
        self.rest = &self.rest[end..];
        out.truncate(kept);
        if out.is_empty() && !quoted {
            return Err(self
                .bad("Unexpected \",\" character.")
                .detail(format!("Unexpected \"{}\" character.", self.rest.chars().next().unwrap_or(','))));
        }
        if !quoted && out.eq_ignore_ascii_case("null") {
            return Ok(Datum::Null);
        }
        parse_text(&out, self.element.data_type())
    }
}
