//! The words of a stored expression, and the same text with some of them replaced: what a column is called may change
//! while the rest of the text stays as its author wrote it.

use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

use super::{lower_first, position};
use crate::SqlError;

/// The words that PostgreSQL takes for a name in quotes only.
#[rustfmt::skip]
const RESERVED: [&str; 78] = [
    "all", "analyse", "analyze", "and", "any", "array", "as", "asc", "asymmetric", "both", "case", "cast", "check",
    "collate", "column", "constraint", "create", "current_catalog", "current_date", "current_role", "current_time",
    "current_timestamp", "current_user", "default", "deferrable", "desc", "distinct", "do", "else", "end", "except",
    "false", "fetch", "for", "foreign", "from", "grant", "group", "having", "in", "initially", "intersect", "into",
    "lateral", "leading", "limit", "localtime", "localtimestamp", "not", "null", "offset", "on", "only", "or", "order",
    "placing", "primary", "references", "returning", "select", "session_user", "some", "symmetric", "system_user",
    "table", "then", "to", "trailing", "true", "union", "unique", "user", "using", "variadic", "when", "where", "window",
    "with",
];

/// A word: where it stands, in characters, and what stands beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// Its first character.
    pub start: usize,
    /// After its last one.
    pub end: usize,
    /// Folded to lower case unless quoted.
    pub name: String,
    /// The word before a dot before it.
    pub qualifier: Option<(usize, String)>,
}

/// The words of a text that may be names of columns.
pub fn words(text: &str) -> Result<Vec<Word>, SqlError> {
    let tokens = Tokenizer::new(&PostgreSqlDialect {}, text)
        .tokenize_with_location()
        .map_err(|err| SqlError::syntax(lower_first(&err.message)))?;
    let tokens: Vec<&TokenWithSpan> =
        tokens.iter().filter(|token| !matches!(token.token, Token::Whitespace(_))).collect();
    let at = |location| position(text, location).map_or(0, |at| at as usize - 1);
    let name = |token: &TokenWithSpan| match &token.token {
        Token::Word(word) if word.quote_style.is_some() => Some(word.value.clone()),
        Token::Word(word) => Some(word.value.to_lowercase()),
        _ => None,
    };
    let mut words = Vec::new();
    for (number, token) in tokens.iter().enumerate() {
        let Some(found) = name(token) else { continue };
        let qualifier = number.checked_sub(2).and_then(|before| {
            let dot = tokens[number - 1].token == Token::Period;
            name(tokens[before]).filter(|_| dot).map(|name| (at(tokens[before].span.start), name))
        });
        words.push(Word { start: at(token.span.start), end: at(token.span.end), name: found, qualifier });
    }
    Ok(words)
}

/// A text with some parts replaced, none of which overlap: from, to, by what.
pub fn splice(text: &str, mut parts: Vec<(usize, usize, String)>) -> String {
    parts.sort();
    let chars: Vec<char> = text.chars().collect();
    let (mut result, mut done) = (String::new(), 0);
    for (start, end, by) in parts {
        result.extend(&chars[done.min(start)..start.min(chars.len())]);
        result.push_str(&by);
        done = end.min(chars.len());
    }
    result.extend(&chars[done..]);
    result
}

/// A name as SQL writes it: in quotes if it must be.
pub fn quoted(name: &str) -> String {
    let plain =
        name.chars().enumerate().all(|(at, c)| c.is_ascii_lowercase() || c == '_' || (at > 0 && c.is_ascii_digit()));
    if plain && RESERVED.binary_search(&name).is_err() { name.to_string() } else { in_quotes(name) }
}

/// A name in quotes.
pub fn in_quotes(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_where_they_stand() {
        let text = "é.A >\n 'a' AND \"b c\" = t . b";
        let found: Vec<(String, Option<String>)> =
            words(text).unwrap().into_iter().map(|w| (w.name, w.qualifier.map(|(_, name)| name))).collect();
        let plain = |name: &str| (name.to_string(), None);
        assert_eq!(
            found,
            [
                plain("é"),
                ("a".into(), Some("é".into())),
                plain("and"),
                plain("b c"),
                plain("t"),
                ("b".into(), Some("t".into()))
            ]
        );
        let parts = words(text).unwrap().into_iter().map(|w| (w.start, w.end, "x".to_string())).collect();
        assert_eq!(splice(text, parts), "x.x >\n 'a' x x = x . x");
        assert_eq!(splice("abc", vec![]), "abc");
    }

    #[test]
    fn names_are_quoted_where_they_must_be() {
        for (name, wanted) in
            [("a_1", "a_1"), ("A", "\"A\""), ("1a", "\"1a\""), ("select", "\"select\""), ("a\"b", "\"a\"\"b\"")]
        {
            assert_eq!(quoted(name), wanted);
        }
        assert!(RESERVED.is_sorted());
    }
}
