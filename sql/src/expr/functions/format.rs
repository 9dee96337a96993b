//! `format`, with its `%s`, `%I`, `%L` and `%%`.

use super::new_text;
use super::text::{quote_ident, quote_literal, shown};
use crate::SqlError;
use crate::expr::signature::short::{ANY, TEXT, out};
use crate::expr::signature::{Signature, lenient};
use crate::types::Datum;

/// The widest a value is padded to.
const WIDTH_MAX: usize = 1 << 20;

pub(super) const FUNCTIONS: &[Signature] = &[lenient("format", &[TEXT, ANY], out::TEXT, |a, _| format(a)).repeated()];

fn bad(message: &str) -> SqlError {
    SqlError::new("22023", message)
}

fn format(args: &[Datum]) -> Result<Datum, SqlError> {
    let Datum::Text(pattern) = &args[0] else { return Ok(Datum::Null) };
    let mut out = String::new();
    let mut next = 1;
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let unterminated = || bad("unterminated format() type specifier").hint("For a single \"%\" use \"%%\".");
        if chars.peek() == Some(&'%') {
            chars.next();
            out.push('%');
            continue;
        }
        let mut digits = String::new();
        let mut take_digits = |chars: &mut std::iter::Peekable<std::str::Chars<'_>>| {
            digits.clear();
            while let Some(digit) = chars.next_if(char::is_ascii_digit) {
                digits.push(digit);
            }
            digits.clone()
        };
        let mut number = take_digits(&mut chars);
        let mut position = None;
        let mut left = false;
        if !number.is_empty() && chars.next_if_eq(&'$').is_some() {
            let at: usize = number.parse().map_err(|_| bad("number is out of range"))?;
            if at == 0 {
                return Err(bad("format specifies argument 0, but arguments are numbered from 1"));
            }
            position = Some(at);
            number = String::new();
        }
        let mut width = 0;
        if number.is_empty() {
            left = chars.next_if_eq(&'-').is_some();
            if chars.next_if_eq(&'*').is_some() {
                let datum = args.get(next).ok_or_else(|| bad("too few arguments for format()"))?;
                next += 1;
                if let Datum::Int(v) = datum {
                    left |= *v < 0;
                    width = v.unsigned_abs() as usize;
                }
            } else {
                number = take_digits(&mut chars);
            }
        }
        if !number.is_empty() {
            width = number.parse().map_err(|_| bad("number is out of range"))?;
        }
        if width > WIDTH_MAX {
            return Err(bad("number is out of range"));
        }
        let kind = chars.next().ok_or_else(unterminated)?;
        if !matches!(kind, 's' | 'I' | 'L') {
            return Err(
                bad(&format!("unrecognized format() type specifier \"{kind}\"")).hint("For a single \"%\" use \"%%\".")
            );
        }
        let at = position.unwrap_or(next);
        next = at + 1;
        let datum = args.get(at).ok_or_else(|| bad("too few arguments for format()"))?;
        let text = match (kind, shown(datum)) {
            ('s', text) => text.unwrap_or_default(),
            ('I', None) => return Err(SqlError::new("22004", "null values cannot be formatted as an SQL identifier")),
            ('I', Some(text)) => quote_ident(&text),
            (_, None) => "NULL".into(),
            (_, Some(text)) => quote_literal(&text),
        };
        let padding = " ".repeat(width.saturating_sub(text.chars().count()));
        if left {
            out.push_str(&text);
        }
        out.push_str(&padding);
        if !left {
            out.push_str(&text);
        }
        super::check_length(out.len())?;
    }
    new_text(out)
}
