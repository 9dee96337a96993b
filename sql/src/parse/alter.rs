//! TRUNCATE and COMMENT ON, from their tokens.

use sqlparser::tokenizer::Token;

use super::Statement;
use super::cursor::Cursor;
use crate::SqlError;

/// What a comment is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommentOn {
    /// A table.
    Table(String),
    /// A column, after its table.
    Column(String, String),
    /// An index.
    Index(String),
    /// A constraint, before its table.
    Constraint(String, String),
}

/// The statement, or `None` if it is another; then nothing was taken.
pub(super) fn parse(cursor: &mut Cursor<'_>) -> Result<Option<Statement>, SqlError> {
    let statement = if cursor.eat("TRUNCATE") {
        truncate(cursor)?
    } else if cursor.eat_all(&["COMMENT", "ON"]) {
        comment(cursor)?
    } else {
        return Ok(None);
    };
    cursor.end()?;
    Ok(Some(statement))
}

fn truncate(cursor: &mut Cursor<'_>) -> Result<Statement, SqlError> {
    cursor.eat("TABLE");
    let mut names = Vec::new();
    loop {
        cursor.eat("ONLY");
        names.push(cursor.table()?);
        cursor.eat_token(&Token::Mul);
        if !cursor.eat_token(&Token::Comma) {
            break;
        }
    }
    let restart = cursor.eat_all(&["RESTART", "IDENTITY"]);
    if !restart {
        cursor.eat_all(&["CONTINUE", "IDENTITY"]);
    }
    let cascade = cursor.eat("CASCADE");
    if !cascade {
        cursor.eat("RESTRICT");
    }
    Ok(Statement::Truncate { names, restart, cascade })
}

fn comment(cursor: &mut Cursor<'_>) -> Result<Statement, SqlError> {
    let on = if cursor.eat("TABLE") {
        CommentOn::Table(cursor.table()?)
    } else if cursor.eat("INDEX") {
        CommentOn::Index(cursor.table()?)
    } else if cursor.eat("COLUMN") {
        let table = cursor.table()?;
        if !cursor.eat_token(&Token::Period) {
            return Err(SqlError::syntax("column name must be qualified"));
        }
        CommentOn::Column(table, cursor.name()?)
    } else if cursor.eat("CONSTRAINT") {
        let name = cursor.name()?;
        cursor.expect("ON")?;
        CommentOn::Constraint(name, cursor.table()?)
    } else if let Token::Word(word) = cursor.peek() {
        return Err(SqlError::unsupported(format!("COMMENT ON {}", word.value.to_uppercase())));
    } else {
        return Err(cursor.unexpected());
    };
    cursor.expect("IS")?;
    let text = if cursor.eat("NULL") { None } else { Some(cursor.string()?) };
    Ok(Statement::Comment { on, text })
}
