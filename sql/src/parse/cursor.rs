//! A position in the tokens of one statement.

use sqlparser::tokenizer::{Span, Token, TokenWithSpan};

use super::near;
use crate::SqlError;

/// Tokens without blanks, and how many were taken.
pub(super) struct Cursor<'a> {
    pub(super) sql: &'a str,
    tokens: Vec<TokenWithSpan>,
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(sql: &'a str, tokens: Vec<TokenWithSpan>) -> Cursor<'a> {
        Cursor { sql, tokens, at: 0 }
    }

    pub(super) fn into_tokens(self) -> Vec<TokenWithSpan> {
        self.tokens
    }

    /// The tokens not taken yet.
    pub(super) fn rest(&self) -> Vec<TokenWithSpan> {
        self.tokens[self.at..].to_vec()
    }

    /// Back to the start.
    pub(super) fn rewind(&mut self) {
        self.at = 0;
    }

    pub(super) fn peek(&self) -> &Token {
        self.tokens.get(self.at).map_or(&Token::EOF, |token| &token.token)
    }

    pub(super) fn advance(&mut self) {
        self.at += 1;
    }

    /// Whether the next token is this unquoted word.
    pub(super) fn is_word(&self, word: &str) -> bool {
        matches!(self.peek(), Token::Word(found) if found.quote_style.is_none() && found.value.eq_ignore_ascii_case(word))
    }

    /// Whether the next tokens are these unquoted words.
    pub(super) fn is_words(&mut self, words: &[&str]) -> bool {
        let start = self.at;
        let found = self.eat_all(words);
        self.at = start;
        found
    }

    /// Takes all that is left.
    pub(super) fn take_all(&mut self) {
        self.at = self.tokens.len();
    }

    /// Takes a word if it is next.
    pub(super) fn eat(&mut self, word: &str) -> bool {
        let found = self.is_word(word);
        self.at += usize::from(found);
        found
    }

    /// Takes all of these words if they are next, else none.
    pub(super) fn eat_all(&mut self, words: &[&str]) -> bool {
        let start = self.at;
        let found = words.iter().all(|word| self.eat(word));
        if !found {
            self.at = start;
        }
        found
    }

    pub(super) fn eat_token(&mut self, token: &Token) -> bool {
        let found = self.peek() == token;
        self.at += usize::from(found);
        found
    }

    pub(super) fn expect(&mut self, word: &str) -> Result<(), SqlError> {
        if self.eat(word) { Ok(()) } else { Err(self.unexpected().detail(format!("Expected {word}."))) }
    }

    pub(super) fn unexpected(&self) -> SqlError {
        match self.tokens.get(self.at) {
            Some(token) => near(self.sql, token),
            None => near(self.sql, &TokenWithSpan::new(Token::EOF, Span::empty())),
        }
    }

    /// Nothing may follow.
    pub(super) fn end(&self) -> Result<(), SqlError> {
        if self.at >= self.tokens.len() { Ok(()) } else { Err(self.unexpected()) }
    }

    /// A name, folded to lower case unless quoted.
    pub(super) fn name(&mut self) -> Result<String, SqlError> {
        let name = match self.peek() {
            Token::Word(word) if word.quote_style.is_some() => word.value.clone(),
            Token::Word(word) => word.value.to_lowercase(),
            _ => return Err(self.unexpected()),
        };
        self.at += 1;
        Ok(name)
    }

    /// `t` or `public.t`.
    pub(super) fn table(&mut self) -> Result<String, SqlError> {
        let mut name = self.name()?;
        if name == "public" && self.eat_token(&Token::Period) {
            name = self.name()?;
        }
        Ok(name)
    }

    pub(super) fn string(&mut self) -> Result<String, SqlError> {
        let text = match self.peek() {
            Token::SingleQuotedString(text) | Token::EscapedStringLiteral(text) => text.clone(),
            _ => return Err(self.unexpected()),
        };
        self.at += 1;
        Ok(text)
    }

    pub(super) fn number(&mut self) -> Result<u64, SqlError> {
        let number = match self.peek() {
            Token::Number(digits, _) => digits.parse().ok(),
            _ => None,
        };
        let number = number.ok_or_else(|| self.unexpected())?;
        self.at += 1;
        Ok(number)
    }
}
