//! Savepoints, and the statements about the session itself: SQL's own PREPARE and EXECUTE, DEALLOCATE,
//! RESET and DISCARD.

use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Token, TokenWithSpan};

use super::cursor::Cursor;
use super::{Statement, parse_tokens, parser_error, text_of};
use crate::SqlError;
use crate::expr::bind::data_type;

/// The statement, or `None` if it is of another kind; then nothing was taken.
pub(super) fn parse(cursor: &mut Cursor<'_>) -> Result<Option<Statement>, SqlError> {
    Ok(Some(if cursor.eat("SAVEPOINT") {
        Statement::Savepoint(cursor.name()?)
    } else if cursor.eat("RELEASE") {
        Statement::Release(savepoint(cursor)?)
    } else if cursor.eat("RESET") {
        let all = cursor.eat("ALL");
        Statement::Reset(if all { None } else { Some(super::command::setting_name(cursor)?) })
    } else if cursor.eat("DISCARD") {
        let what = ["ALL", "PLANS", "SEQUENCES", "TEMP", "TEMPORARY"].into_iter().find(|what| cursor.eat(what));
        Statement::Discard(what.ok_or_else(|| cursor.unexpected())?)
    } else if cursor.eat("DEALLOCATE") {
        cursor.eat("PREPARE");
        let all = cursor.eat("ALL");
        Statement::Deallocate(if all { None } else { Some(cursor.name()?) })
    } else if cursor.is_word("PREPARE") && !cursor.is_words(&["PREPARE", "TRANSACTION"]) {
        cursor.advance();
        prepare(cursor)?
    } else if cursor.eat("EXECUTE") {
        execute(cursor)?
    } else {
        return Ok(None);
    }))
}

/// `[SAVEPOINT] name`.
pub(super) fn savepoint(cursor: &mut Cursor<'_>) -> Result<String, SqlError> {
    cursor.eat("SAVEPOINT");
    cursor.name()
}

/// `name [(type, ..)] AS statement`.
fn prepare(cursor: &mut Cursor<'_>) -> Result<Statement, SqlError> {
    let name = cursor.name()?;
    let mut types = Vec::new();
    if *cursor.peek() == Token::LParen {
        // The names of types are sqlparser's business: it may be any number of words.
        let list = parenthesized(cursor)?;
        let mut parser = Parser::new(&PostgreSqlDialect {}).with_tokens_with_locations(list);
        let sql = cursor.sql;
        let parsed = parser.parse_comma_separated(Parser::parse_data_type).map_err(|err| parser_error(sql, err))?;
        types = parsed.iter().map(data_type).collect::<Result<_, _>>()?;
    }
    cursor.expect("AS")?;
    let rest = cursor.rest();
    if rest.is_empty() || cursor.is_word("PREPARE") || cursor.is_word("EXPLAIN") {
        return Err(cursor.unexpected());
    }
    let text = text_of(cursor.sql, &rest);
    let statement = parse_tokens(cursor.sql, rest)?;
    if !statement.is_query() {
        return Err(cursor.unexpected());
    }
    cursor.take_all();
    Ok(Statement::Prepare { name, types, text, statement: Box::new(statement) })
}

/// `name [(expression, ..)]`.
fn execute(cursor: &mut Cursor<'_>) -> Result<Statement, SqlError> {
    let name = cursor.name()?;
    let mut values = Vec::new();
    if *cursor.peek() == Token::LParen {
        let list = parenthesized(cursor)?;
        let mut parser = Parser::new(&PostgreSqlDialect {}).with_tokens_with_locations(list);
        values = parser.parse_comma_separated(Parser::parse_expr).map_err(|err| parser_error(cursor.sql, err))?;
        let next = parser.peek_token();
        if next.token != Token::EOF {
            return Err(super::near(cursor.sql, &next));
        }
    }
    Ok(Statement::Execute { name, values })
}

/// What stands between the parenthesis that is next and the one that closes it.
fn parenthesized(cursor: &mut Cursor<'_>) -> Result<Vec<TokenWithSpan>, SqlError> {
    let tokens = cursor.rest();
    let mut depth = 0usize;
    for (at, token) in tokens.iter().enumerate() {
        match token.token {
            Token::LParen => depth += 1,
            Token::RParen if depth == 1 => {
                (0..=at).for_each(|_| cursor.advance());
                return Ok(tokens[1..at].to_vec());
            }
            Token::RParen => depth -= 1,
            _ => {}
        }
    }
    cursor.take_all();
    Err(cursor.unexpected())
}
