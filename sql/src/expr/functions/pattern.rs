//! LIKE patterns: `%` any text, `_` any character, the escape character before either of them.

use crate::SqlError;

/// Whether all of `text` matches. 22025 if the pattern ends with the escape character.
pub(in crate::expr) fn like(text: &str, pattern: &str, escape: Option<char>) -> Result<bool, SqlError> {
    enum Part {
        Any,
        One,
        Char(char),
    }
    let mut parts = Vec::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        parts.push(match c {
            c if Some(c) == escape => Part::Char(
                chars
                    .next()
                    .ok_or_else(|| SqlError::new("22025", "LIKE pattern must not end with escape character"))?,
            ),
            '%' => Part::Any,
            '_' => Part::One,
            c => Part::Char(c),
        });
    }
    let text: Vec<char> = text.chars().collect();
    // Only the last `%` need ever be tried again: what an earlier one could gain, it gains too.
    let (mut t, mut p) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        match parts.get(p) {
            Some(Part::Any) => {
                p += 1;
                retry = Some((p, t));
                continue;
            }
            Some(Part::One) => {
                p += 1;
                t += 1;
                continue;
            }
            Some(Part::Char(c)) if *c == text[t] => {
                p += 1;
                t += 1;
                continue;
            }
            _ => {}
        }
        match &mut retry {
            Some((after, from)) => {
                *from += 1;
                p = *after;
                t = *from;
            }
            None => return Ok(false),
        }
    }
    Ok(parts[p..].iter().all(|part| matches!(part, Part::Any)))
}

/// A regular expression for a pattern of SIMILAR TO: 22025 if it ends with the escape character, 2201B for what is
/// none.
pub(super) fn similar(pattern: &str, escape: Option<char>) -> Result<String, SqlError> {
    let mut out = String::from("^(?:");
    let mut chars = pattern.chars();
    let mut in_class = false;
    while let Some(c) = chars.next() {
        if Some(c) == escape {
            let next = chars.next().ok_or_else(|| SqlError::new("22025", "invalid escape string"))?;
            out.push_str(&regex::escape(&next.to_string()));
            continue;
        }
        match c {
            ']' if in_class => {
                in_class = false;
                out.push(c);
            }
            '[' if !in_class => {
                in_class = true;
                out.push(c);
            }
            '\\' => out.push_str("\\\\"),
            c if in_class => out.push(c),
            '%' => out.push_str(".*"),
            '_' => out.push('.'),
            '(' => out.push_str("(?:"),
            '.' | '^' | '$' => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out.push_str(")$");
    Ok(out)
}
