//! LIKE patterns: `%` any text, `_` any character, the escape character before either of them.

use crate::SqlError;

/// Whether all of `text` matches. 22025 if the pattern ends with the escape character.
pub(super) fn matches(text: &str, pattern: &str, escape: Option<char>) -> Result<bool, SqlError> {
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
