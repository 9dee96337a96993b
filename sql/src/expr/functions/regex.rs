//! Regular expressions, by the crate `regex`: in time linear in the text, whatever the pattern.
//!
//! What differs from PostgreSQL: there are no back references in patterns and no look-around (2201B); of
//! alternatives the first that matches is taken, not the longest. Class names (`[[:alpha:]]`, `\d`, `\w`, `\s`),
//! `\y`, `\m`, `\M` and `\A`, `\Z` mean what they mean in PostgreSQL.

use std::cell::RefCell;
use std::sync::Arc;

use regex::{Captures, Regex, RegexBuilder};

use super::pattern::similar;
use super::{check_length, int, int_of, new_text, text_of};
use crate::SqlError;
use crate::expr::signature::short::{I4, TEXT, out};
use crate::expr::signature::{Signature, strict as f};
use crate::types::{Datum, Element};

/// The most memory of one compiled pattern, in bytes.
const PATTERN_BYTES_MAX: usize = 1 << 20;
/// How many compiled patterns a thread keeps.
const KEPT_MAX: usize = 64;

pub(super) const FUNCTIONS: &[Signature] = &[
    f("~", &[TEXT, TEXT], out::BOOL, |a, _| is_match(&a[0], &a[1], "")),
    f("~*", &[TEXT, TEXT], out::BOOL, |a, _| is_match(&a[0], &a[1], "i")),
    f("!~", &[TEXT, TEXT], out::BOOL, |a, _| not(is_match(&a[0], &a[1], "")?)),
    f("!~*", &[TEXT, TEXT], out::BOOL, |a, _| not(is_match(&a[0], &a[1], "i")?)),
    f("similar_to", &[TEXT, TEXT], out::BOOL, |a, _| {
        let pattern = similar(text_of(&a[1]), Some('\\'))?;
        Ok(Datum::Bool(compile(&pattern, "s")?.is_match(text_of(&a[0]))))
    }),
    f("similar_to", &[TEXT, TEXT, TEXT], out::BOOL, |a, _| {
        let pattern = similar(text_of(&a[1]), text_of(&a[2]).chars().next())?;
        Ok(Datum::Bool(compile(&pattern, "s")?.is_match(text_of(&a[0]))))
    }),
    f("regexp_like", &[TEXT, TEXT], out::BOOL, |a, _| is_match(&a[0], &a[1], "")),
    f("regexp_like", &[TEXT, TEXT, TEXT], out::BOOL, |a, _| {
        no_global(text_of(&a[2]), "regexp_like")?;
        is_match(&a[0], &a[1], text_of(&a[2]))
    }),
    f("regexp_match", &[TEXT, TEXT], out::TEXTS, |a, _| first_match(&a[0], &a[1], "")),
    f("regexp_match", &[TEXT, TEXT, TEXT], out::TEXTS, |a, _| {
        no_global(text_of(&a[2]), "regexp_match")?;
        first_match(&a[0], &a[1], text_of(&a[2]))
    }),
    f("regexp_substr", &[TEXT, TEXT], out::TEXT, |a, _| {
        let found = compile(text_of(&a[1]), "")?.find(text_of(&a[0])).map(|found| found.as_str().to_string());
        Ok(found.map_or(Datum::Null, Datum::Text))
    }),
    f("substring", &[TEXT, TEXT], out::TEXT, |a, _| {
        let regex = compile(text_of(&a[1]), "")?;
        let Some(captures) = regex.captures(text_of(&a[0])) else { return Ok(Datum::Null) };
        let group = if captures.len() > 1 { captures.get(1) } else { captures.get(0) };
        Ok(group.map_or(Datum::Null, |found| Datum::Text(found.as_str().into())))
    }),
    f("regexp_count", &[TEXT, TEXT], out::I4, |a, _| {
        Ok(int(compile(text_of(&a[1]), "")?.find_iter(text_of(&a[0])).count()))
    }),
    f("regexp_instr", &[TEXT, TEXT], out::I4, |a, _| {
        let text = text_of(&a[0]);
        let found =
            compile(text_of(&a[1]), "")?.find(text).map_or(0, |found| text[..found.start()].chars().count() + 1);
        Ok(int(found))
    }),
    f("regexp_split_to_array", &[TEXT, TEXT], out::TEXTS, |a, _| split(&a[0], &a[1], "")),
    f("regexp_split_to_array", &[TEXT, TEXT, TEXT], out::TEXTS, |a, _| split(&a[0], &a[1], text_of(&a[2]))),
    f("regexp_replace", &[TEXT, TEXT, TEXT], out::TEXT, |a, _| {
        replace(text_of(&a[0]), text_of(&a[1]), text_of(&a[2]), "", 0, 1)
    }),
    f("regexp_replace", &[TEXT, TEXT, TEXT, TEXT], out::TEXT, |a, _| {
        let flags = text_of(&a[3]);
        if flags.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(SqlError::new("22023", format!("invalid regular expression option: \"{}\"", &flags[..1]))
                .hint("If you meant to use regexp_replace() with a start parameter, cast the fourth argument to integer explicitly."));
        }
        let which = if flags.contains('g') { 0 } else { 1 };
        replace(text_of(&a[0]), text_of(&a[1]), text_of(&a[2]), &flags.replace('g', ""), 0, which)
    }),
    f("regexp_replace", &[TEXT, TEXT, TEXT, I4], out::TEXT, |a, _| {
        replace(text_of(&a[0]), text_of(&a[1]), text_of(&a[2]), "", start(&a[3])?, 1)
    }),
    f("regexp_replace", &[TEXT, TEXT, TEXT, I4, I4], out::TEXT, |a, _| {
        let which = usize::try_from(int_of(&a[4]))
            .map_err(|_| SqlError::new("22023", format!("invalid value for parameter \"n\": {}", int_of(&a[4]))))?;
        replace(text_of(&a[0]), text_of(&a[1]), text_of(&a[2]), "", start(&a[3])?, which)
    }),
];

fn start(datum: &Datum) -> Result<usize, SqlError> {
    match int_of(datum) {
        v @ 1.. => Ok(v as usize - 1),
        v => Err(SqlError::new("22023", format!("invalid value for parameter \"start\": {v}"))),
    }
}

fn no_global(flags: &str, name: &str) -> Result<(), SqlError> {
    if flags.contains('g') {
        return Err(SqlError::new("22023", format!("{name}() does not support the \"global\" option")));
    }
    Ok(())
}

fn not(datum: Datum) -> Result<Datum, SqlError> {
    Ok(Datum::Bool(datum == Datum::Bool(false)))
}

thread_local! {
    /// The patterns that were used last: compiling one is much dearer than using it.
    static KEPT: RefCell<Vec<(String, Arc<Regex>)>> = const { RefCell::new(Vec::new()) };
}

/// PostgreSQL's escapes that the crate writes otherwise.
fn translated(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('y') => out.push_str("\\b"),
            Some('Y') => out.push_str("\\B"),
            Some('m') => out.push_str("\\b{start}"),
            Some('M') => out.push_str("\\b{end}"),
            Some('Z') => out.push_str("\\z"),
            Some(c) => out.extend(['\\', c]),
            None => out.push('\\'),
        }
    }
    out
}

/// The compiled pattern: 2201B, 22023 for a flag that there is not.
fn compile(pattern: &str, flags: &str) -> Result<Arc<Regex>, SqlError> {
    let key = format!("{flags}/{pattern}");
    let kept = KEPT.with_borrow_mut(|kept| {
        let at = kept.iter().position(|(known, _)| *known == key)?;
        // The one used last is the last.
        let entry = kept.remove(at);
        kept.push(entry);
        kept.last().map(|(_, regex)| Arc::clone(regex))
    });
    if let Some(regex) = kept {
        return Ok(regex);
    }
    let literal = flags.contains('q');
    let source = if literal { regex::escape(pattern) } else { translated(pattern) };
    let mut builder = RegexBuilder::new(&source);
    // PostgreSQL's dot takes newlines, too, and ^ and $ are those of the text.
    builder.size_limit(PATTERN_BYTES_MAX).dot_matches_new_line(true);
    for flag in flags.chars() {
        match flag {
            'i' => builder.case_insensitive(true),
            'c' => builder.case_insensitive(false),
            'n' | 'm' => builder.multi_line(true).dot_matches_new_line(false),
            'p' => builder.dot_matches_new_line(false),
            'w' => builder.multi_line(true),
            's' => builder.multi_line(false).dot_matches_new_line(true),
            'x' => builder.ignore_whitespace(true),
            'q' | 'e' | 'b' | 't' => &mut builder,
            other => return Err(SqlError::new("22023", format!("invalid regular expression option: \"{other}\""))),
        };
    }
    let regex = builder.build().map_err(|err| {
        let why = match err {
            regex::Error::CompiledTooBig(_) => "the pattern is too big".to_string(),
            err => err.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_string(),
        };
        SqlError::new("2201B", format!("invalid regular expression: {why}"))
    })?;
    let regex = Arc::new(regex);
    KEPT.with_borrow_mut(|kept| {
        if kept.len() >= KEPT_MAX {
            kept.remove(0);
        }
        kept.push((key, Arc::clone(&regex)));
    });
    Ok(regex)
}

fn is_match(text: &Datum, pattern: &Datum, flags: &str) -> Result<Datum, SqlError> {
    Ok(Datum::Bool(compile(text_of(pattern), flags)?.is_match(text_of(text))))
}

fn first_match(text: &Datum, pattern: &Datum, flags: &str) -> Result<Datum, SqlError> {
    let regex = compile(text_of(pattern), flags)?;
    let Some(captures) = regex.captures(text_of(text)) else { return Ok(Datum::Null) };
    let whole = captures.len() == 1;
    let groups = captures.iter().skip(usize::from(!whole));
    let groups = groups.map(|group| group.map_or(Datum::Null, |group| Datum::Text(group.as_str().into())));
    Ok(Datum::array(Element::Text, groups.collect()))
}

fn split(text: &Datum, pattern: &Datum, flags: &str) -> Result<Datum, SqlError> {
    no_global(flags, "regexp_split_to_array")?;
    let regex = compile(text_of(pattern), flags)?;
    let text = text_of(text);
    let mut parts = Vec::new();
    let mut from = 0;
    for found in regex.find_iter(text) {
        // A match of nothing splits between characters, not before the first or after the last.
        if found.is_empty() && (found.start() == 0 || found.start() == text.len() || found.start() == from) {
            continue;
        }
        parts.push(Datum::Text(text[from..found.start()].into()));
        from = found.end();
    }
    parts.push(Datum::Text(text[from..].into()));
    Ok(Datum::array(Element::Text, parts))
}

/// Replaces the match of this number after `skip` characters; all of them if it is 0.
fn replace(text: &str, pattern: &str, with: &str, flags: &str, skip: usize, which: usize) -> Result<Datum, SqlError> {
    let regex = compile(pattern, flags)?;
    let begin = text.char_indices().nth(skip).map_or(text.len(), |(at, _)| at);
    let mut out = text[..begin].to_string();
    let mut from = begin;
    for (number, captures) in regex.captures_iter(&text[begin..]).enumerate() {
        let found = captures.get(0).expect("group 0 is the match");
        if which != 0 && number + 1 != which {
            continue;
        }
        out.push_str(&text[from..begin + found.start()]);
        expand(with, &captures, &mut out);
        check_length(out.len())?;
        from = begin + found.end();
    }
    out.push_str(&text[from..]);
    new_text(out)
}

/// `\1` to `\9` are groups, `\&` is the match.
fn expand(with: &str, captures: &Captures<'_>, out: &mut String) {
    let mut chars = with.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('&') => out.push_str(&captures[0]),
            Some(digit @ '1'..='9') => {
                let group = digit as usize - '0' as usize;
                out.push_str(captures.get(group).map_or("", |group| group.as_str()));
            }
            Some('\\') => out.push('\\'),
            Some(other) => out.extend(['\\', other]),
            None => out.push('\\'),
        }
    }
}
