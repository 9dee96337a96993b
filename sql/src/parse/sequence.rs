//! Statements about sequences, and what must be made of the tokens of those with generated columns, so that
//! `sqlparser` understands them.
//!
//! The options of a sequence come in any order, here as in PostgreSQL: `sqlparser` wants them in its own.

use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Token, TokenWithSpan};

use super::Statement;
use super::cursor::Cursor;
use crate::SqlError;
use crate::plan::generated::Overriding;
use crate::types::DataType;

/// The options of a sequence, as far as they were given.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SequenceOptions {
    /// AS.
    pub ty: Option<DataType>,
    /// INCREMENT BY.
    pub increment: Option<i64>,
    /// MINVALUE, NO MINVALUE.
    pub min: Option<Option<i64>>,
    /// MAXVALUE, NO MAXVALUE.
    pub max: Option<Option<i64>>,
    /// START WITH.
    pub start: Option<i64>,
    /// CACHE.
    pub cache: Option<i64>,
    /// CYCLE, NO CYCLE.
    pub cycle: Option<bool>,
    /// RESTART, RESTART WITH.
    pub restart: Option<Option<i64>>,
    /// OWNED BY table.column, OWNED BY NONE.
    pub owner: Option<Option<(String, String)>>,
}

/// A statement about sequences.
#[derive(Clone, Debug, PartialEq)]
pub enum SequenceStatement {
    /// CREATE SEQUENCE.
    Create {
        /// IF NOT EXISTS.
        if_not_exists: bool,
        /// Its name.
        name: String,
        /// How it counts.
        options: SequenceOptions,
    },
    /// ALTER SEQUENCE.
    Alter {
        /// IF EXISTS.
        if_exists: bool,
        /// Which.
        name: String,
        /// What is new.
        options: SequenceOptions,
    },
    /// DROP SEQUENCE.
    Drop {
        /// IF EXISTS.
        if_exists: bool,
        /// Which.
        names: Vec<String>,
        /// CASCADE.
        cascade: bool,
    },
}

/// The statement, or `None` if it is another; then nothing was taken.
pub(super) fn parse(cursor: &mut Cursor<'_>) -> Result<Option<Statement>, SqlError> {
    let temporary = ["TEMP", "TEMPORARY"].iter().any(|word| cursor.is_words(&["CREATE", word, "SEQUENCE"]));
    if temporary {
        return Err(SqlError::unsupported("a temporary sequence"));
    }
    let statement = if cursor.eat_all(&["CREATE", "SEQUENCE"]) {
        let if_not_exists = cursor.eat_all(&["IF", "NOT", "EXISTS"]);
        let name = cursor.table()?;
        SequenceStatement::Create { if_not_exists, name, options: options(cursor, false)? }
    } else if cursor.eat_all(&["ALTER", "SEQUENCE"]) {
        let if_exists = cursor.eat_all(&["IF", "EXISTS"]);
        let name = cursor.table()?;
        for what in ["RENAME", "SET"] {
            if cursor.is_word(what) {
                return Err(SqlError::unsupported(format!("ALTER SEQUENCE .. {what}")));
            }
        }
        SequenceStatement::Alter { if_exists, name, options: options(cursor, true)? }
    } else if cursor.eat_all(&["DROP", "SEQUENCE"]) {
        let if_exists = cursor.eat_all(&["IF", "EXISTS"]);
        let mut names = vec![cursor.table()?];
        while cursor.eat_token(&Token::Comma) {
            names.push(cursor.table()?);
        }
        let cascade = cursor.eat("CASCADE");
        if !cascade {
            cursor.eat("RESTRICT");
        }
        SequenceStatement::Drop { if_exists, names, cascade }
    } else {
        return Ok(None);
    };
    cursor.end()?;
    Ok(Some(Statement::Sequence(Box::new(statement))))
}

/// The options in a text, such as `START WITH 5 INCREMENT BY 2`.
pub(crate) fn parse_options(text: &str) -> Result<SequenceOptions, SqlError> {
    let tokens = super::tokens(text)?;
    let mut cursor = Cursor::new(text, tokens);
    let options = options(&mut cursor, false)?;
    cursor.end()?;
    Ok(options)
}

fn once<T>(slot: &mut Option<T>, value: T) -> Result<(), SqlError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(SqlError::syntax("conflicting or redundant options")),
    }
}

fn signed(cursor: &mut Cursor<'_>) -> Result<i64, SqlError> {
    let minus = cursor.eat_token(&Token::Minus);
    if !minus {
        cursor.eat_token(&Token::Plus);
    }
    let Token::Number(digits, _) = cursor.peek() else { return Err(cursor.unexpected()) };
    let text = if minus { format!("-{digits}") } else { digits.clone() };
    let out_of_range = || SqlError::new("22003", format!("value \"{text}\" is out of range for type bigint"));
    let value = text.parse().map_err(|_| out_of_range())?;
    cursor.advance();
    Ok(value)
}

fn options(cursor: &mut Cursor<'_>, alter: bool) -> Result<SequenceOptions, SqlError> {
    let mut options = SequenceOptions::default();
    loop {
        if cursor.eat("AS") {
            let name = cursor.name()?;
            let ty = match name.as_str() {
                "smallint" | "int2" => DataType::Int2,
                "integer" | "int" | "int4" => DataType::Int4,
                "bigint" | "int8" => DataType::Int,
                _ => return Err(SqlError::new("22023", "sequence type must be smallint, integer, or bigint")),
            };
            once(&mut options.ty, ty)?;
        } else if cursor.eat("INCREMENT") {
            cursor.eat("BY");
            let by = signed(cursor)?;
            once(&mut options.increment, by)?;
        } else if cursor.eat_all(&["NO", "MINVALUE"]) {
            once(&mut options.min, None)?;
        } else if cursor.eat("MINVALUE") {
            let min = signed(cursor)?;
            once(&mut options.min, Some(min))?;
        } else if cursor.eat_all(&["NO", "MAXVALUE"]) {
            once(&mut options.max, None)?;
        } else if cursor.eat("MAXVALUE") {
            let max = signed(cursor)?;
            once(&mut options.max, Some(max))?;
        } else if cursor.eat("START") {
            cursor.eat("WITH");
            let start = signed(cursor)?;
            once(&mut options.start, start)?;
        } else if alter && cursor.eat("RESTART") {
            let given = cursor.eat("WITH") || matches!(cursor.peek(), Token::Number(..) | Token::Minus | Token::Plus);
            let restart = if given { Some(signed(cursor)?) } else { None };
            once(&mut options.restart, restart)?;
        } else if cursor.eat("CACHE") {
            let cache = signed(cursor)?;
            once(&mut options.cache, cache)?;
        } else if cursor.eat_all(&["NO", "CYCLE"]) {
            once(&mut options.cycle, false)?;
        } else if cursor.eat("CYCLE") {
            once(&mut options.cycle, true)?;
        } else if cursor.eat_all(&["OWNED", "BY"]) {
            let mut parts = vec![cursor.name()?];
            while cursor.eat_token(&Token::Period) {
                parts.push(cursor.name()?);
            }
            let owner = match parts.as_slice() {
                [none] if none == "none" => None,
                [table, column] => Some((table.clone(), column.clone())),
                [schema, table, column] if schema == "public" => Some((table.clone(), column.clone())),
                _ => {
                    return Err(SqlError::syntax("invalid OWNED BY option")
                        .hint("Specify OWNED BY table.column or OWNED BY NONE."));
                }
            };
            once(&mut options.owner, owner)?;
        } else {
            return Ok(options);
        }
    }
}

fn is_word(token: Option<&TokenWithSpan>, wanted: &str) -> bool {
    matches!(token.map(|token| &token.token), Some(Token::Word(found))
        if found.quote_style.is_none() && found.value.eq_ignore_ascii_case(wanted))
}

/// Takes `OVERRIDING SYSTEM VALUE` out of an INSERT.
pub(super) fn cut_overriding(tokens: &mut Vec<TokenWithSpan>) -> Overriding {
    if !is_word(tokens.first(), "INSERT") && !is_word(tokens.first(), "UPSERT") {
        return Overriding::Nothing;
    }
    for at in 1..tokens.len() {
        let is = |offset: usize, wanted: &str| is_word(tokens.get(at + offset), wanted);
        if is(0, "VALUES") || is(0, "SELECT") {
            break;
        }
        if is(0, "OVERRIDING") && is(2, "VALUE") {
            let overriding = match (is(1, "SYSTEM"), is(1, "USER")) {
                (true, _) => Overriding::System,
                (_, true) => Overriding::User,
                _ => break,
            };
            tokens.drain(at..at + 3);
            return overriding;
        }
    }
    Overriding::Nothing
}

/// Brings the options of `AS IDENTITY (..)` into the order that `sqlparser` wants.
pub(super) fn order_options(tokens: &mut [TokenWithSpan]) {
    const ORDER: [Keyword; 6] =
        [Keyword::INCREMENT, Keyword::MINVALUE, Keyword::MAXVALUE, Keyword::START, Keyword::CACHE, Keyword::CYCLE];
    if !is_word(tokens.first(), "CREATE") {
        return;
    }
    let mut at = 1;
    while at + 1 < tokens.len() {
        let opens = is_word(tokens.get(at - 1), "AS") && is_word(tokens.get(at), "IDENTITY");
        at += 1;
        if !opens || tokens[at].token != Token::LParen {
            continue;
        }
        let inner = at + 1;
        let Some(length) = tokens[inner..].iter().position(|token| token.token == Token::RParen) else { return };
        let mut groups: Vec<(usize, Vec<TokenWithSpan>)> = Vec::new();
        let mut no = false;
        for token in &tokens[inner..inner + length] {
            let keyword = match &token.token {
                Token::Word(word) if word.quote_style.is_none() => word.keyword,
                _ => Keyword::NoKeyword,
            };
            match ORDER.iter().position(|known| *known == keyword) {
                Some(rank) if !no => groups.push((rank, vec![token.clone()])),
                Some(rank) => {
                    let last = groups.last_mut().expect("NO began one");
                    last.0 = rank;
                    last.1.push(token.clone());
                }
                None if keyword == Keyword::NO => groups.push((usize::MAX, vec![token.clone()])),
                None => match groups.last_mut() {
                    Some((_, group)) => group.push(token.clone()),
                    // Not what options begin with: its error is the parser's.
                    None => return,
                },
            }
            no = keyword == Keyword::NO;
        }
        groups.sort_by_key(|(rank, _)| *rank);
        for (to, token) in tokens[inner..inner + length].iter_mut().zip(groups.into_iter().flat_map(|(_, group)| group))
        {
            *to = token;
        }
    }
}
