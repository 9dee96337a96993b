//! Statements about indexes and jobs that PostgreSQL's grammar does not have, and what must be made of the tokens of
//! those that it has, so that `sqlparser` understands them.

use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Token, TokenWithSpan, Word};

use super::cursor::Cursor;
use super::{Show, Statement, parse_values, time};
use crate::SqlError;
use crate::plan::index::HINT;

/// The statement, or `None` if it is another; then nothing was taken.
pub(super) fn parse(cursor: &mut Cursor<'_>) -> Result<Option<Statement>, SqlError> {
    if cursor.eat_all(&["ALTER", "INDEX"]) {
        let index = cursor.table()?;
        if !cursor.eat_all(&["SPLIT", "AT"]) {
            cursor.rewind();
            return Ok(None);
        }
        if !cursor.is_word("VALUES") {
            return Err(cursor.unexpected().detail("Expected VALUES."));
        }
        let rows = parse_values(cursor.sql, cursor.rest())?;
        return Ok(Some(Statement::SplitIndex { index, rows }));
    }
    let statement = if cursor.eat_all(&["CANCEL", "JOB"]) {
        Statement::CancelJob(cursor.number()?)
    } else if cursor.eat_all(&["CHECK", "INDEXES"]) {
        Statement::CheckTable { table: None, as_of: as_of(cursor)? }
    } else if cursor.eat_all(&["CHECK", "TABLE"]) {
        Statement::CheckTable { table: Some(cursor.table()?), as_of: as_of(cursor)? }
    } else if cursor.eat_all(&["SHOW", "JOBS"]) {
        Statement::Show(Show::Jobs)
    } else if cursor.eat_all(&["SHOW", "INDEXES", "FROM"]) || cursor.eat_all(&["SHOW", "INDEX", "FROM"]) {
        cursor.eat("TABLE");
        Statement::Show(Show::Indexes(cursor.table()?))
    } else {
        return Ok(None);
    };
    cursor.end()?;
    Ok(Some(statement))
}

fn as_of(cursor: &mut Cursor<'_>) -> Result<Option<super::TimeExpr>, SqlError> {
    if cursor.eat_all(&["AS", "OF", "SYSTEM", "TIME"]) { time::take_time(cursor).map(Some) } else { Ok(None) }
}

fn is_word(token: Option<&TokenWithSpan>, word: &str) -> bool {
    matches!(token, Some(TokenWithSpan { token: Token::Word(found), .. })
        if found.quote_style.is_none() && found.value.eq_ignore_ascii_case(word))
}

/// STORING as INCLUDE, in CREATE INDEX.
pub(super) fn storing(tokens: &mut [TokenWithSpan]) {
    let index =
        is_word(tokens.get(1), "INDEX") || (is_word(tokens.get(1), "UNIQUE") && is_word(tokens.get(2), "INDEX"));
    if !is_word(tokens.first(), "CREATE") || !index {
        return;
    }
    for token in tokens {
        if let Token::Word(word) = &mut token.token
            && word.quote_style.is_none()
            && word.value.eq_ignore_ascii_case("storing")
        {
            *word = Word { value: "INCLUDE".into(), quote_style: None, keyword: Keyword::INCLUDE };
        }
    }
}

/// `t@i` after FROM and UPDATE as one name.
pub(super) fn hints(tokens: &mut Vec<TokenWithSpan>) {
    let name = |token: &TokenWithSpan| match &token.token {
        Token::Word(word) if word.quote_style.is_some() => Some(word.value.clone()),
        Token::Word(word) => Some(word.value.to_lowercase()),
        _ => None,
    };
    let mut at = 1;
    while at + 2 < tokens.len() {
        let after = is_word(tokens.get(at - 1), "FROM")
            || is_word(tokens.get(at - 1), "UPDATE")
            || tokens[at - 1].token == Token::Period;
        if after
            && tokens[at + 1].token == Token::AtSign
            && let (Some(table), Some(index)) = (name(&tokens[at]), name(&tokens[at + 2]))
        {
            let value = format!("{table}{HINT}{index}");
            tokens[at].token = Token::Word(Word { value, quote_style: Some('"'), keyword: Keyword::NoKeyword });
            tokens.drain(at + 1..at + 3);
        }
        at += 1;
    }
}
