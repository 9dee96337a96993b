//! Just enough of SQL's lexical rules to find where a statement ends.
//!
//! A statement ends at a semicolon outside quotes, dollar quotes and comments. A backslash
//! outside them begins a meta-command, which runs to the end of its line. Text is pushed line by
//! line, and what was scanned is not scanned again, so that a file with one huge statement costs
//! linear time.

use std::collections::BTreeMap;

/// What the scanner is inside of.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Mode {
    /// Plain text.
    #[default]
    Code,
    /// A string; in an `E''` string a backslash escapes.
    Single {
        /// Whether a backslash escapes the next character.
        escapes: bool,
    },
    /// A quoted identifier.
    Double,
    /// A `--` comment.
    LineComment,
    /// A nested comment, so deep.
    BlockComment(usize),
    /// A dollar-quoted string that ends with this tag, dollars included.
    Dollar(String),
}

/// What was found next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// A whole statement without its semicolon; never blank.
    Statement(String),
    /// A meta-command, from its backslash to the end of the line. What stood before it stays in
    /// the buffer ([`Lexer::take`]).
    Meta(String),
}

fn is_word(c: char) -> bool {
    c == '_' || c == '$' || c.is_alphanumeric()
}

/// Consumes the next character or mark of `text` at `at`, changes the mode, and returns its end.
fn advance(mode: &mut Mode, text: &str, at: usize) -> usize {
    let rest = &text[at..];
    let first = rest.chars().next().map_or(1, char::len_utf8);
    match mode {
        Mode::Code => {
            let mut before = text[..at].chars().rev();
            let previous = before.next();
            if rest.starts_with("--") {
                *mode = Mode::LineComment;
                return at + 2;
            }
            if rest.starts_with("/*") {
                *mode = Mode::BlockComment(1);
                return at + 2;
            }
            if rest.starts_with('\'') {
                let marked = matches!(previous, Some('e' | 'E')) && !before.next().is_some_and(is_word);
                *mode = Mode::Single { escapes: marked };
            } else if rest.starts_with('"') {
                *mode = Mode::Double;
            } else if rest.starts_with('$')
                && !previous.is_some_and(is_word)
                && let Some(tag) = dollar_tag(rest)
            {
                let end = at + tag.len();
                *mode = Mode::Dollar(tag.to_string());
                return end;
            }
        }
        Mode::Single { escapes } => {
            if *escapes && rest.starts_with('\\') {
                return at + 1 + rest[1..].chars().next().map_or(0, char::len_utf8);
            }
            if rest.starts_with("''") {
                return at + 2;
            }
            if rest.starts_with('\'') {
                *mode = Mode::Code;
            }
        }
        Mode::Double => {
            if rest.starts_with('"') {
                *mode = Mode::Code;
            }
        }
        Mode::LineComment => {
            if rest.starts_with('\n') {
                *mode = Mode::Code;
            }
        }
        Mode::BlockComment(depth) => {
            if rest.starts_with("/*") {
                *depth += 1;
                return at + 2;
            }
            if rest.starts_with("*/") {
                *depth -= 1;
                if *depth == 0 {
                    *mode = Mode::Code;
                }
                return at + 2;
            }
        }
        Mode::Dollar(tag) => {
            if rest.starts_with(tag.as_str()) {
                let end = at + tag.len();
                *mode = Mode::Code;
                return end;
            }
        }
    }
    at + first
}

/// `$$` or `$name$` at the start of the text; `$1` is a parameter.
fn dollar_tag(text: &str) -> Option<&str> {
    let end = text[1..].find('$')? + 1;
    let name = &text[1..end];
    let good = name.chars().all(|c| c == '_' || c.is_alphanumeric()) && !name.starts_with(|c: char| c.is_ascii_digit());
    good.then(|| &text[..=end])
}

/// Cuts pushed text into statements and meta-commands.
#[derive(Clone, Debug, Default)]
pub struct Lexer {
    text: String,
    at: usize,
    mode: Mode,
    content: bool,
}

impl Lexer {
    /// Adds text; whole lines, so that no mark is cut in two.
    pub fn push(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// What the scanner is inside of, at the end of what it scanned.
    pub fn mode(&self) -> &Mode {
        &self.mode
    }

    /// True if a statement has begun: something other than blanks and comments.
    pub fn pending(&self) -> bool {
        self.content || !matches!(self.mode, Mode::Code | Mode::LineComment)
    }

    /// The text of the unfinished statement.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Takes the unfinished statement, for `\g`, `\e` or the end of the input. Empty if blank.
    pub fn take(&mut self) -> String {
        let whole = std::mem::take(self);
        if whole.pending() { whole.text.trim().to_string() } else { String::new() }
    }

    /// The next statement or meta-command, if it is complete.
    pub fn next_piece(&mut self) -> Option<Piece> {
        while self.at < self.text.len() {
            let start = self.at;
            let c = self.text[start..].chars().next().unwrap_or(' ');
            if self.mode == Mode::Code && c == ';' {
                let rest = self.text.split_off(start + 1);
                let mut statement = std::mem::replace(&mut self.text, rest);
                statement.pop();
                self.at = 0;
                let had = std::mem::take(&mut self.content);
                if had {
                    return Some(Piece::Statement(statement.trim().to_string()));
                }
                continue;
            }
            if self.mode == Mode::Code && c == '\\' {
                let end = self.text[start..].find('\n').map_or(self.text.len(), |i| start + i);
                let meta = self.text[start..end].trim().to_string();
                self.text.replace_range(start..end, "");
                return Some(Piece::Meta(meta));
            }
            self.at = advance(&mut self.mode, &self.text, start);
            let comment = matches!(self.mode, Mode::LineComment | Mode::BlockComment(_));
            // The mark that closes a comment is no content either.
            let closes = self.mode == Mode::Code && self.text[start..self.at] == *"*/" && !self.content;
            if !c.is_whitespace() && !comment && !closes {
                self.content = true;
            }
        }
        if !self.content && self.mode == Mode::Code {
            // Blanks and comments alone: nothing to keep, and no error position to preserve.
            self.text.clear();
            self.at = 0;
        }
        None
    }
}

/// The statements of a text, in order; the last needs no semicolon.
pub fn statements(sql: &str) -> Vec<String> {
    let mut lexer = Lexer::default();
    lexer.push(sql);
    let mut found = Vec::new();
    while let Some(piece) = lexer.next_piece() {
        if let Piece::Statement(statement) = piece {
            found.push(statement);
        }
    }
    let last = lexer.take();
    if !last.is_empty() {
        found.push(last);
    }
    found
}

/// The first words of a statement in upper case, past comments and opening parentheses.
pub fn first_words(sql: &str, count: usize) -> Vec<String> {
    let mut mode = Mode::Code;
    let (mut words, mut word, mut at) = (Vec::new(), String::new(), 0);
    while at < sql.len() && words.len() < count {
        let was_code = mode == Mode::Code;
        let end = advance(&mut mode, sql, at);
        let c = sql[at..end].chars().next().unwrap_or(' ');
        if was_code && mode == Mode::Code && is_word(c) {
            word.push(c.to_ascii_uppercase());
        } else {
            if !word.is_empty() {
                words.push(std::mem::take(&mut word));
            }
            let opens = was_code && (c.is_whitespace() || c == '(');
            let comment = matches!(mode, Mode::LineComment | Mode::BlockComment(_));
            if !opens && !comment && was_code {
                return words;
            }
        }
        at = end;
    }
    if !word.is_empty() && words.len() < count {
        words.push(word);
    }
    words
}

/// Replaces `:name`, `:'name'` (as a string) and `:"name"` (as an identifier) outside quotes and
/// comments by the variable's value; unknown names stay as they are, and so does `::`.
pub fn interpolate(sql: &str, variables: &BTreeMap<String, String>) -> String {
    if variables.is_empty() || !sql.contains(':') {
        return sql.to_string();
    }
    let mut mode = Mode::Code;
    let (mut result, mut at) = (String::with_capacity(sql.len()), 0);
    while at < sql.len() {
        let colon = mode == Mode::Code && sql[at..].starts_with(':') && !sql[..at].ends_with(':');
        if colon {
            let rest = &sql[at + 1..];
            let quote = rest.chars().next().filter(|c| *c == '\'' || *c == '"');
            let name_at = usize::from(quote.is_some());
            let name_end = rest[name_at..].find(|c: char| !is_word(c)).map_or(rest.len(), |i| name_at + i);
            let closed = quote.is_none_or(|q| rest[name_end..].starts_with(q));
            if let (true, Some(value)) = (closed, variables.get(&rest[name_at..name_end])) {
                match quote {
                    Some(q) => {
                        let doubled = value.replace(q, &format!("{q}{q}"));
                        result.push_str(&format!("{q}{doubled}{q}"));
                    }
                    None => result.push_str(value),
                }
                at += 1 + name_end + usize::from(quote.is_some());
                continue;
            }
        }
        let end = advance(&mut mode, sql, at);
        result.push_str(&sql[at..end]);
        at = end;
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(text: &str) -> (Vec<Piece>, Lexer) {
        let mut lexer = Lexer::default();
        let mut found = Vec::new();
        for line in text.split_inclusive('\n') {
            lexer.push(line);
            while let Some(piece) = lexer.next_piece() {
                found.push(piece);
            }
        }
        (found, lexer)
    }

    #[test]
    fn semicolons_in_quotes_and_comments_end_nothing() {
        let text =
            "select ';', \"a;b\", $$;$$, $x$ ; $$ ; $x$ -- ; no\n /* ; /* ; */ ; */ , E'\\';', 'it''s;';\nselect 2;";
        let found = statements(text);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].ends_with("'it''s;'"), "{found:?}");
        assert_eq!(found[1], "select 2");
    }

    #[test]
    fn a_parameter_is_no_dollar_quote() {
        assert_eq!(statements("select $1, $2; select a$b$c; select 3").len(), 3);
    }

    #[test]
    fn blank_statements_and_comments_vanish() {
        assert_eq!(statements(" ;; -- x\n ; /* y */ ; "), Vec::<String>::new());
        let (found, lexer) = pieces("-- only a comment\n");
        assert!(found.is_empty() && !lexer.pending() && lexer.text().is_empty());
    }

    #[test]
    fn the_mode_says_what_is_open() {
        for (text, mode) in [
            ("select 'a\n", Mode::Single { escapes: false }),
            ("select \"a\n", Mode::Double),
            ("select $f$ a\n", Mode::Dollar("$f$".into())),
            ("/* a /* b */\n", Mode::BlockComment(1)),
            ("select 1\n", Mode::Code),
        ] {
            let (found, lexer) = pieces(text);
            assert!(found.is_empty() && lexer.pending(), "{text}");
            assert_eq!(*lexer.mode(), mode, "{text}");
        }
    }

    #[test]
    fn meta_commands_stand_at_the_start_or_after_a_statement() {
        let (found, mut lexer) = pieces("\\dt accounts\nselect 1 \\gx\nselect '\\d' ");
        assert_eq!(found, [Piece::Meta("\\dt accounts".into()), Piece::Meta("\\gx".into())]);
        assert_eq!(lexer.take(), "select 1 \nselect '\\d'");
    }

    #[test]
    fn first_words_skip_comments_and_parentheses() {
        assert_eq!(first_words(" -- hi\n /* x */ (select 1)", 1), ["SELECT"]);
        assert_eq!(first_words("explain analyze update t", 2), ["EXPLAIN", "ANALYZE"]);
        assert_eq!(first_words("commit", 1), ["COMMIT"]);
        assert!(first_words("'x'", 1).is_empty());
    }

    #[test]
    fn variables() {
        let variables = BTreeMap::from([("t".to_string(), "it's".to_string()), ("n".to_string(), "5".to_string())]);
        assert_eq!(
            interpolate("select :n, :'t', ':n', x::n, :m -- :n", &variables),
            "select 5, 'it''s', ':n', x::n, :m -- :n"
        );
    }

    /// The dumb twin: cutting at any line boundary gives the same pieces as the whole text.
    #[test]
    fn pushing_in_parts_changes_nothing() {
        let text = "select 1;\nselect 'a\nb;c' ; /* ;\n; */ select $$\n;$$;\nselect 4";
        let mut whole = Lexer::default();
        whole.push(text);
        let mut expected = Vec::new();
        while let Some(piece) = whole.next_piece() {
            expected.push(piece);
        }
        let (found, lexer) = pieces(text);
        assert_eq!(found, expected);
        assert_eq!(lexer.text().trim(), whole.text().trim());
    }
}
