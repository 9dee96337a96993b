//! `AS OF SYSTEM TIME`, and the times that it takes.

use sqlparser::tokenizer::{Token, TokenWithSpan};
use truetime::Timestamp;

use super::cursor::Cursor;
use crate::SqlError;
use crate::engine::ReadBound;
use crate::value;

/// When to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeExpr {
    /// Then.
    At(Timestamp),
    /// So many nanoseconds ago.
    Ago(i64),
}

impl TimeExpr {
    /// From text: a timestamp, `-5s` (units ns us ms s m h d), or nanoseconds since the epoch. 22007
    /// if it is none of them.
    pub fn parse(text: &str) -> Result<TimeExpr, SqlError> {
        let text = text.trim();
        let bad = || {
            SqlError::new("22007", format!("invalid time: \"{}\"", text.chars().take(60).collect::<String>())).hint(
                "Give a timestamp such as '2026-11-23 06:41:33Z', an age such as '-5s', or nanoseconds since the epoch.",
            )
        };
        if let Some(age) = text.strip_prefix('-') {
            return parse_age_ns(age.trim()).map(TimeExpr::Ago).ok_or_else(bad);
        }
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return text.parse().map(|ns| TimeExpr::At(Timestamp::from_nanos(ns))).map_err(|_| bad());
        }
        value::parse_timestamp(text).map(TimeExpr::At).map_err(|_| bad())
    }

    /// As the engine takes it.
    pub fn bound(self) -> ReadBound {
        match self {
            TimeExpr::At(at) => ReadBound::At(at),
            TimeExpr::Ago(ns) => ReadBound::Staleness(ns),
        }
    }
}

fn parse_age_ns(text: &str) -> Option<i64> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit_ns: i64 = match unit.trim() {
        "ns" => 1,
        "us" | "µs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" | "min" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        "d" => 86_400_000_000_000,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.len() > 9 {
        return None;
    }
    let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let scale = 10i128.pow(fraction.len() as u32);
    let fraction: i128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    whole.checked_mul(unit_ns)?.checked_add(i64::try_from(fraction * i128::from(unit_ns) / scale).ok()?)
}

/// Takes the time that follows `AS OF SYSTEM TIME`.
pub(super) fn take_time(cursor: &mut Cursor<'_>) -> Result<TimeExpr, SqlError> {
    let minus = cursor.eat_token(&Token::Minus);
    match cursor.peek().clone() {
        Token::SingleQuotedString(text) if !minus => {
            cursor.advance();
            TimeExpr::parse(&text)
        }
        Token::Number(digits, _) if !minus => {
            cursor.advance();
            TimeExpr::parse(&digits)
        }
        Token::Placeholder(_) => Err(SqlError::unsupported("a parameter in AS OF SYSTEM TIME")),
        _ => Err(cursor.unexpected().detail("Expected a timestamp, an age such as '-5s', or nanoseconds.")),
    }
}

/// Cuts `AS OF SYSTEM TIME time` out of a statement, wherever it stands outside parentheses.
pub(super) fn cut_as_of(sql: &str, tokens: &mut Vec<TokenWithSpan>) -> Result<Option<TimeExpr>, SqlError> {
    let mut depth = 0usize;
    let mut found = None;
    let mut at = 0;
    while at < tokens.len() {
        match &tokens[at].token {
            Token::LParen => depth += 1,
            Token::RParen => depth = depth.saturating_sub(1),
            Token::Word(_) if depth == 0 => {
                let mut cursor = Cursor::new(sql, tokens[at..].iter().take(8).cloned().collect());
                if cursor.eat_all(&["AS", "OF", "SYSTEM", "TIME"]) {
                    let time = take_time(&mut cursor)?;
                    if found.replace(time).is_some() {
                        return Err(SqlError::syntax("AS OF SYSTEM TIME is given twice"));
                    }
                    let left = cursor.rest().len();
                    let taken = (tokens.len() - at).min(8) - left;
                    tokens.drain(at..at + taken);
                    continue;
                }
            }
            _ => {}
        }
        at += 1;
    }
    Ok(found)
}
