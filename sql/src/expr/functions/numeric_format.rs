//! `to_char` and `to_number` of numbers.

use super::{new_text, text_of};
use crate::SqlError;
use crate::expr::signature::short::{F8, I4, I8, NUM, TEXT, out};
use crate::expr::signature::{Signature, strict as f};
use crate::types::{Datum, Numeric};

pub(super) const FUNCTIONS: &[Signature] = &[
    f("to_char", &[I4, TEXT], out::TEXT, |a, _| to_char(&Numeric::from(super::int_of(&a[0])), text_of(&a[1]))),
    f("to_char", &[I8, TEXT], out::TEXT, |a, _| to_char(&Numeric::from(super::int_of(&a[0])), text_of(&a[1]))),
    f("to_char", &[NUM, TEXT], out::TEXT, |a, _| match &a[0] {
        Datum::Numeric(v) => to_char(v, text_of(&a[1])),
        other => panic!("a function that takes a numeric was given {other:?}"),
    }),
    f("to_char", &[F8, TEXT], out::TEXT, |a, _| {
        let places = places(&parse(text_of(&a[1]))?.pieces);
        let v = super::float_of(&a[0]);
        if !v.is_finite() {
            return Err(SqlError::unsupported("to_char of NaN or infinity"));
        }
        // A double's own rounding: 0.125 is exactly between.
        to_char(&Numeric::parse(&format!("{v:.places$}"))?, text_of(&a[1]))
    }),
    f("to_number", &[TEXT, TEXT], out::NUM, |a, _| to_number(text_of(&a[0]), text_of(&a[1])).map(Datum::Numeric)),
];

/// A piece of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    /// 9, or 0 if the flag is set.
    Digit(bool),
    Point,
    Comma,
    /// S, before or after the digits.
    Sign,
    /// MI: a minus, or a blank.
    Minus,
    /// PL: a plus, or a blank.
    Plus,
    /// SG: a minus or a plus.
    Either,
    /// PR: in angle brackets if negative.
    Brackets,
    /// RN.
    Roman(bool),
    /// TH.
    Ordinal(bool),
    Text(String),
}

struct Pattern {
    pieces: Vec<Piece>,
    /// FM: no padding.
    plain: bool,
}

fn parse(pattern: &str) -> Result<Pattern, SqlError> {
    let mut pieces = Vec::new();
    let mut plain = false;
    let mut rest = pattern;
    while let Some(first) = rest.chars().next() {
        let upper: String = rest.chars().take(4).collect::<String>().to_ascii_uppercase();
        let two = upper.get(..2).unwrap_or("");
        if upper.starts_with("EEEE") || upper.starts_with('V') {
            return Err(SqlError::unsupported(format!("\"{}\" in the pattern of a number", &upper[..1])));
        }
        let is_lower = rest.starts_with(|c: char| c.is_ascii_lowercase());
        let (piece, length) = match (two, &upper[..first.len_utf8().min(upper.len())]) {
            ("FM", _) => {
                plain = true;
                rest = &rest[2..];
                continue;
            }
            ("MI", _) => (Piece::Minus, 2),
            ("PL", _) => (Piece::Plus, 2),
            ("SG", _) => (Piece::Either, 2),
            ("PR", _) => (Piece::Brackets, 2),
            ("RN", _) => (Piece::Roman(is_lower), 2),
            ("TH", _) => (Piece::Ordinal(is_lower), 2),
            (_, "9") => (Piece::Digit(false), 1),
            (_, "0") => (Piece::Digit(true), 1),
            (_, "." | "D") => (Piece::Point, 1),
            (_, "," | "G") => (Piece::Comma, 1),
            (_, "S") => (Piece::Sign, 1),
            (_, "L") => (Piece::Text(" ".into()), 1),
            (_, "\"") => {
                let tail = &rest[1..];
                let end = tail.find('"').unwrap_or(tail.len());
                (Piece::Text(tail[..end].into()), (end + 2).min(rest.len()))
            }
            _ => (Piece::Text(first.to_string()), first.len_utf8()),
        };
        pieces.push(piece);
        rest = &rest[length..];
    }
    if pieces.iter().filter(|piece| **piece == Piece::Point).count() > 1 {
        return Err(SqlError::syntax("multiple decimal points"));
    }
    Ok(Pattern { pieces, plain })
}

/// How many digits stand after the point.
fn places(pieces: &[Piece]) -> usize {
    let after = pieces.iter().skip_while(|piece| **piece != Piece::Point);
    after.filter(|piece| matches!(piece, Piece::Digit(_))).count()
}

fn roman(mut v: i64) -> String {
    const UNITS: [(i64, &str); 13] = [
        (1000, "M"),
        (900, "CM"),
        (500, "D"),
        (400, "CD"),
        (100, "C"),
        (90, "XC"),
        (50, "L"),
        (40, "XL"),
        (10, "X"),
        (9, "IX"),
        (5, "V"),
        (4, "IV"),
        (1, "I"),
    ];
    let mut out = String::new();
    for (unit, letters) in UNITS {
        while v >= unit {
            out.push_str(letters);
            v -= unit;
        }
    }
    out
}

fn to_char(v: &Numeric, pattern: &str) -> Result<Datum, SqlError> {
    let Pattern { pieces, plain } = parse(pattern)?;
    if let Some(Piece::Roman(lower)) = pieces.iter().find(|piece| matches!(piece, Piece::Roman(_))) {
        let text = match v.to_i64() {
            Some(n @ 1..=3999) => roman(n),
            _ => "#".repeat(15),
        };
        let text = if *lower { text.to_lowercase() } else { text };
        return new_text(if plain { text } else { format!("{text:>15}") });
    }
    let point = pieces.iter().position(|piece| *piece == Piece::Point).unwrap_or(pieces.len());
    let count = |pieces: &[Piece]| pieces.iter().filter(|piece| matches!(piece, Piece::Digit(_))).count();
    let (whole_places, places) = (count(&pieces[..point]), count(&pieces[point.min(pieces.len())..]));
    let rounded = v.round(places as i64)?;
    let negative = rounded.is_negative();
    let text = rounded.abs().to_string();
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let whole = if whole == "0" { "" } else { whole };
    let too_long = whole.len() > whole_places;
    let mut whole_digits = format!("{whole:>whole_places$}").into_bytes();
    if too_long {
        whole_digits = vec![b'#'; whole_places];
    }
    // A number below 1 without a place after the point shows its zero.
    if whole.is_empty() && point == pieces.len() && whole_places > 0 {
        whole_digits[whole_places - 1] = b'0';
    }
    // From the first 0 of the pattern on, every place has a digit.
    let forced = pieces[..point]
        .iter()
        .filter(|piece| matches!(piece, Piece::Digit(_)))
        .position(|piece| *piece == Piece::Digit(true));
    if let Some(forced) = forced {
        whole_digits[forced..].iter_mut().filter(|digit| **digit == b' ').for_each(|digit| *digit = b'0');
    }
    // With FM, zeros at the end that the pattern does not force are left out.
    let fraction_pattern: Vec<bool> = pieces[point.min(pieces.len())..]
        .iter()
        .filter_map(|piece| match piece {
            Piece::Digit(zero) => Some(*zero),
            _ => None,
        })
        .collect();
    let forced_fraction = fraction_pattern.iter().rposition(|zero| *zero).map_or(0, |at| at + 1);
    let shown_fraction = if plain { fraction.trim_end_matches('0').len().max(forced_fraction) } else { fraction.len() };

    let explicit_sign = pieces
        .iter()
        .any(|piece| matches!(piece, Piece::Sign | Piece::Minus | Piece::Plus | Piece::Either | Piece::Brackets));
    let brackets = pieces.contains(&Piece::Brackets);
    let sign_at = pieces.iter().position(|piece| *piece == Piece::Sign);
    let first_digit = pieces.iter().position(|piece| matches!(piece, Piece::Digit(_))).unwrap_or(0);
    let leading_sign = sign_at.is_some_and(|at| at < first_digit);
    // What stands directly before the first digit.
    let lead = match (explicit_sign, negative) {
        _ if brackets => {
            if negative {
                "<"
            } else {
                " "
            }
        }
        _ if leading_sign => {
            if negative {
                "-"
            } else {
                "+"
            }
        }
        (false, true) => "-",
        (false, false) => " ",
        _ => "",
    };
    let lead = if plain && lead == " " { "" } else { lead };
    let mut out = String::new();
    let mut started = false;
    let (mut whole_at, mut fraction_at, mut after_point) = (0, 0, false);
    for (at, piece) in pieces.iter().enumerate() {
        let mut start = |out: &mut String| {
            if !std::mem::replace(&mut started, true) {
                out.push_str(lead);
            }
        };
        match piece {
            Piece::Digit(_) if !after_point => {
                let digit = whole_digits[whole_at];
                whole_at += 1;
                if digit != b' ' {
                    start(&mut out);
                    out.push(char::from(digit));
                } else if !plain {
                    out.push(' ');
                }
            }
            Piece::Digit(_) => {
                if fraction_at < shown_fraction {
                    out.push(if too_long { '#' } else { char::from(fraction.as_bytes()[fraction_at]) });
                }
                fraction_at += 1;
            }
            Piece::Point => {
                start(&mut out);
                after_point = true;
                out.push('.');
            }
            Piece::Comma if whole_digits[..whole_at].iter().any(|digit| *digit != b' ') => out.push(','),
            Piece::Comma => out.push_str(if plain { "" } else { " " }),
            Piece::Sign if at < first_digit => {}
            Piece::Sign => out.push(if negative { '-' } else { '+' }),
            Piece::Minus => out.push_str(if negative {
                "-"
            } else if plain {
                ""
            } else {
                " "
            }),
            Piece::Plus => out.push_str(if !negative {
                "+"
            } else if plain {
                ""
            } else {
                " "
            }),
            Piece::Either => out.push(if negative { '-' } else { '+' }),
            Piece::Brackets => out.push_str(if negative {
                ">"
            } else if plain {
                ""
            } else {
                " "
            }),
            Piece::Ordinal(lower) if !negative && places == 0 => {
                let ending = match (whole.parse::<u128>().unwrap_or(0) % 100, whole.parse::<u128>().unwrap_or(0) % 10) {
                    (11..=13, _) => "TH",
                    (_, 1) => "ST",
                    (_, 2) => "ND",
                    (_, 3) => "RD",
                    _ => "TH",
                };
                out.push_str(&if *lower { ending.to_lowercase() } else { ending.to_string() });
            }
            Piece::Ordinal(_) | Piece::Roman(_) => {}
            Piece::Text(text) => out.push_str(text),
        }
    }
    new_text(out)
}

/// Digits, signs and the point of the text, as the pattern has them.
fn to_number(text: &str, pattern: &str) -> Result<Numeric, SqlError> {
    let Pattern { pieces, .. } = parse(pattern)?;
    let mut digits = String::new();
    let mut negative = false;
    let mut rest = text.trim();
    for piece in &pieces {
        let take_sign = |rest: &mut &str, negative: &mut bool| {
            if let Some(tail) = rest.strip_prefix(['-', '<']) {
                *negative = true;
                *rest = tail;
            } else if let Some(tail) = rest.strip_prefix('+') {
                *rest = tail;
            }
        };
        match piece {
            Piece::Digit(_) => {
                rest = rest.trim_start();
                if digits.is_empty() {
                    take_sign(&mut rest, &mut negative);
                }
                if let Some(digit) = rest.chars().next().filter(char::is_ascii_digit) {
                    digits.push(digit);
                    rest = &rest[1..];
                }
            }
            Piece::Point => {
                if let Some(tail) = rest.strip_prefix('.') {
                    digits.push('.');
                    rest = tail;
                }
            }
            Piece::Comma => rest = rest.strip_prefix(',').unwrap_or(rest),
            Piece::Sign | Piece::Minus | Piece::Plus | Piece::Either | Piece::Brackets => {
                take_sign(&mut rest, &mut negative)
            }
            Piece::Text(text) => {
                let skipped = text.chars().count();
                rest = rest.char_indices().nth(skipped).map_or("", |(at, _)| &rest[at..]);
            }
            Piece::Roman(_) | Piece::Ordinal(_) => {}
        }
    }
    // A pattern with fewer places before the point than the text has.
    if digits.is_empty() || digits == "." {
        let shown: String = text.chars().take(60).collect();
        return Err(SqlError::new("22P02", format!("invalid input syntax for type numeric: \"{shown}\"")));
    }
    let v = Numeric::parse(&digits)?.round(places(&pieces) as i64)?;
    Ok(if negative { v.neg() } else { v })
}
