//! A statement's text without its values: what statements that differ only in them have in common.

use sqlparser::tokenizer::Token;

/// The longest, in bytes; the rest is cut off.
const BYTES_MAX: usize = 1024;

/// Takes in the tokens of a statement, blanks and comments too.
#[derive(Debug, Default)]
pub(super) struct Fingerprint {
    text: String,
    blank: bool,
}

impl Fingerprint {
    /// One more token.
    pub fn add(&mut self, token: &Token) {
        let literal = matches!(
            token,
            Token::Number(..)
                | Token::SingleQuotedString(_)
                | Token::EscapedStringLiteral(_)
                | Token::DollarQuotedString(_)
                | Token::UnicodeStringLiteral(_)
                | Token::HexStringLiteral(_)
                | Token::NationalStringLiteral(_)
        );
        if matches!(token, Token::Whitespace(_)) {
            self.blank = true;
            return;
        }
        if self.text.len() >= BYTES_MAX {
            return;
        }
        if std::mem::take(&mut self.blank) && !self.text.is_empty() {
            self.text.push(' ');
        }
        if literal {
            // A list of values is as good as a longer one.
            let list = self.text.trim_end_matches([' ', ',']);
            if list.len() < self.text.len() && self.text[list.len()..].contains(',') && list.ends_with(['?', '.']) {
                let list = list.len();
                self.text.truncate(list);
                if !self.text.ends_with("..") {
                    self.text.push_str(", ..");
                }
            } else {
                self.text.push('?');
            }
            return;
        }
        self.text.push_str(&token.to_string());
    }

    /// The text so far; the next one begins.
    pub fn finish(&mut self) -> String {
        let Fingerprint { mut text, .. } = std::mem::take(self);
        if text.len() > BYTES_MAX {
            let end = (0..=BYTES_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            text.truncate(end);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn values_are_left_out() {
        for (sql, expected) in [
            ("SELECT  *\n FROM t -- all\n WHERE id=7 AND v = 'x'", "SELECT * FROM t WHERE id=? AND v = ?"),
            ("SELECT * FROM t WHERE id IN (1, 2,3 , 4)", "SELECT * FROM t WHERE id IN (?, ..)"),
            ("INSERT INTO t VALUES (1, 'a'), (2, $1)", "INSERT INTO t VALUES (?, ..), (?, $1)"),
            ("SELECT -1.5e3, \"Q\"", "SELECT -?, \"Q\""),
        ] {
            let parsed = crate::parse::parse_all(sql).unwrap();
            assert_eq!(parsed[0].fingerprint.as_ref(), expected);
        }
        let long = format!("SELECT \"{}\"", "é".repeat(2_000));
        assert_eq!(crate::parse::parse_all(&long).unwrap()[0].fingerprint.len(), super::BYTES_MAX);
    }
}
