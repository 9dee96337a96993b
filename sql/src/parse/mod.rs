//! From text to statements.
//!
//! The text is cut into tokens and at its semicolons; then each statement goes one of two ways. What
//! Meridian has beside PostgreSQL, and what PostgreSQL's grammar makes of no interest to the planner
//! (transaction blocks, `SHOW`, `SET`), is parsed here from the tokens. The rest goes to `sqlparser`,
//! after `AS OF SYSTEM TIME` was cut out of it and `UPSERT` replaced.
//!
//! `sqlparser` builds trees whose depth is that of the text, and frees them recursively: so the
//! depth is bounded here, before it sees the tokens.

mod command;
mod cursor;
mod index;
mod time;

use sqlparser::ast;
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};

use crate::SqlError;
use cursor::Cursor;
pub use time::TimeExpr;

/// The longest text of one request, in bytes.
pub const SQL_BYTES_MAX: usize = 16 << 20;
/// The most operators in one expression, and so about the depth of its tree: ANDs and ORs count once,
/// others twice.
const OPERATORS_MAX: usize = 400;
/// The deepest nesting of parentheses, CASEs, NOTs and signs together. The parser's frames are big: a
/// thread's stack of 2 MiB must hold so many of them even where they are not optimised.
const NESTED_MAX: usize = 20;

/// A parsed statement.
#[derive(Clone, Debug, PartialEq)]
pub enum Statement {
    /// SELECT, VALUES.
    Select {
        /// The query.
        query: Box<ast::Query>,
        /// Its AS OF SYSTEM TIME.
        as_of: Option<TimeExpr>,
    },
    /// INSERT, UPSERT.
    Insert {
        /// The statement.
        insert: Box<ast::Insert>,
        /// Whether it said UPSERT.
        upsert: bool,
    },
    /// UPDATE.
    Update(Box<ast::Update>),
    /// DELETE.
    Delete(Box<ast::Delete>),
    /// CREATE TABLE.
    CreateTable(Box<ast::CreateTable>),
    /// DROP TABLE.
    DropTable {
        /// IF EXISTS.
        if_exists: bool,
        /// Which.
        names: Vec<String>,
    },
    /// CREATE INDEX.
    CreateIndex(Box<ast::CreateIndex>),
    /// DROP INDEX.
    DropIndex {
        /// IF EXISTS.
        if_exists: bool,
        /// Which.
        names: Vec<String>,
    },
    /// ALTER INDEX .. SPLIT AT VALUES.
    SplitIndex {
        /// Which.
        index: String,
        /// Values of its first columns.
        rows: Vec<Vec<ast::Expr>>,
    },
    /// CANCEL JOB n.
    CancelJob(u64),
    /// CHECK TABLE t, CHECK INDEXES.
    CheckTable {
        /// Which; all if none.
        table: Option<String>,
        /// AS OF SYSTEM TIME.
        as_of: Option<TimeExpr>,
    },
    /// ALTER TABLE .. SPLIT AT VALUES.
    Split {
        /// Which table.
        table: String,
        /// Values of the first columns of its primary key.
        rows: Vec<Vec<ast::Expr>>,
    },
    /// EXPLAIN.
    Explain {
        /// EXPLAIN ANALYZE.
        analyze: bool,
        /// Of what.
        statement: Box<Statement>,
    },
    /// BEGIN, START TRANSACTION.
    Begin(Begin),
    /// COMMIT, END.
    Commit,
    /// ROLLBACK, ABORT.
    Rollback,
    /// SET TRANSACTION of a mode that changes nothing.
    SetTransaction(Begin),
    /// SET, RESET.
    Set {
        /// The setting.
        name: String,
        /// `None` for its default.
        value: Option<String>,
    },
    /// SHOW.
    Show(Show),
    /// SET CLUSTER CLOCK, SET NODE n CLOCK.
    SetClock {
        /// Which node; all if none.
        node: Option<u64>,
        /// As for `--clock`.
        spec: String,
    },
    /// CHECK REPLICAS.
    CheckReplicas,
}

/// The modes of BEGIN.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Begin {
    /// READ ONLY; `None` if it was not said.
    pub read_only: Option<bool>,
    /// AS OF SYSTEM TIME.
    pub as_of: Option<TimeExpr>,
    /// A weaker isolation level was asked for.
    pub weaker: bool,
}

/// What SHOW shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Show {
    /// SHOW TABLES.
    Tables,
    /// SHOW COLUMNS FROM t.
    Columns(String),
    /// SHOW INDEXES FROM t.
    Indexes(String),
    /// SHOW JOBS.
    Jobs,
    /// SHOW CREATE TABLE t.
    CreateTable(String),
    /// SHOW RANGES [FROM TABLE t].
    Ranges(Option<String>),
    /// SHOW NODES.
    Nodes,
    /// SHOW GROUPS.
    Groups,
    /// SHOW TRANSACTIONS.
    Transactions,
    /// SHOW LOCKS.
    Locks,
    /// SHOW CLOCK.
    Clock,
    /// SHOW COMMIT TIMESTAMP.
    CommitTimestamp,
    /// SHOW READ TIMESTAMP.
    ReadTimestamp,
    /// SHOW TRANSACTION STATUS 'id' group.
    TransactionStatus {
        /// The transaction's name.
        txn: txn::TxnId,
        /// The coordinator's group; `None` for that of the session's last ambiguous commit.
        coordinator: Option<u64>,
    },
    /// SHOW ALL.
    All,
    /// SHOW name.
    Setting(String),
}

/// Parses a text of any number of statements. Nothing of it is run if any of it is wrong.
pub fn parse(sql: &str) -> Result<Vec<Statement>, SqlError> {
    if sql.len() > SQL_BYTES_MAX {
        return Err(SqlError::new("54000", format!("statement of {} bytes is too long", sql.len()))
            .detail(format!("A request has at most {SQL_BYTES_MAX} bytes.")));
    }
    let tokens = Tokenizer::new(&PostgreSqlDialect {}, sql).tokenize_with_location().map_err(|err| {
        let mut error = SqlError::syntax(lower_first(&err.message));
        error.position = position(sql, err.location);
        error
    })?;
    let mut statements = Vec::new();
    let mut current = Vec::new();
    for token in tokens {
        match token.token {
            Token::Whitespace(_) | Token::EOF => {}
            Token::SemiColon => {
                if !current.is_empty() {
                    statements.push(parse_tokens(sql, std::mem::take(&mut current))?);
                }
            }
            _ => current.push(token),
        }
    }
    if !current.is_empty() {
        statements.push(parse_tokens(sql, current)?);
    }
    Ok(statements)
}

/// Parses the text of one expression, such as a column's default.
pub fn parse_expr(text: &str) -> Result<ast::Expr, SqlError> {
    let tokens = Tokenizer::new(&PostgreSqlDialect {}, text)
        .tokenize_with_location()
        .map_err(|err| SqlError::syntax(lower_first(&err.message)))?;
    check_depth(&tokens)?;
    let mut parser = Parser::new(&PostgreSqlDialect {}).with_tokens_with_locations(tokens);
    parser.parse_expr().map_err(|err| parser_error(text, err))
}

fn parse_tokens(sql: &str, tokens: Vec<TokenWithSpan>) -> Result<Statement, SqlError> {
    check_depth(&tokens)?;
    let mut cursor = Cursor::new(sql, tokens);
    if let Some(statement) = index::parse(&mut cursor)? {
        return Ok(statement);
    }
    if let Some(statement) = command::parse(&mut cursor)? {
        return Ok(statement);
    }
    let upsert = cursor.is_word("UPSERT");
    let mut tokens = cursor.into_tokens();
    let as_of = time::cut_as_of(sql, &mut tokens)?;
    index::storing(&mut tokens);
    index::hints(&mut tokens);
    if upsert && let Token::Word(word) = &mut tokens[0].token {
        word.value = "INSERT".into();
        word.keyword = Keyword::INSERT;
    }
    let first = tokens[0].token.to_string();
    let mut parser = Parser::new(&PostgreSqlDialect {}).with_tokens_with_locations(tokens);
    let statement = parser.parse_statement().map_err(|err| parser_error(sql, err))?;
    let next = parser.peek_token();
    if next.token != Token::EOF {
        return Err(near(sql, &next));
    }
    let statement = match statement {
        ast::Statement::Query(query) => return Ok(Statement::Select { query, as_of }),
        ast::Statement::Insert(insert) => Statement::Insert { insert: Box::new(insert), upsert },
        ast::Statement::Update(update) => Statement::Update(Box::new(update)),
        ast::Statement::Delete(delete) => Statement::Delete(Box::new(delete)),
        ast::Statement::CreateTable(create) => Statement::CreateTable(Box::new(create)),
        ast::Statement::CreateIndex(create) => Statement::CreateIndex(Box::new(create)),
        ast::Statement::Drop {
            object_type: ast::ObjectType::Index,
            if_exists,
            names,
            cascade: _,
            restrict: _,
            purge: false,
            temporary: false,
            table: None,
        } => {
            // Nothing depends on an index that may be dropped.
            Statement::DropIndex { if_exists, names: names.iter().map(object_name).collect::<Result<_, _>>()? }
        }
        ast::Statement::Drop {
            object_type: ast::ObjectType::Table,
            if_exists,
            names,
            cascade: _,
            restrict: _,
            purge: false,
            temporary: false,
            table: None,
        } => {
            // Nothing depends on a table yet, so CASCADE and RESTRICT mean the same.
            Statement::DropTable { if_exists, names: names.iter().map(object_name).collect::<Result<_, _>>()? }
        }
        other => {
            let words: Vec<String> = other.to_string().split_whitespace().take(2).map(str::to_string).collect();
            return Err(SqlError::unsupported(if words.is_empty() { first } else { words.join(" ") }));
        }
    };
    match as_of {
        Some(_) => Err(SqlError::unsupported("AS OF SYSTEM TIME in a statement that is not a SELECT")),
        None => Ok(statement),
    }
}

/// The query of a `VALUES` list, from its tokens.
fn parse_values(sql: &str, tokens: Vec<TokenWithSpan>) -> Result<Vec<Vec<ast::Expr>>, SqlError> {
    let mut parser = Parser::new(&PostgreSqlDialect {}).with_tokens_with_locations(tokens);
    let statement = parser.parse_statement().map_err(|err| parser_error(sql, err))?;
    let next = parser.peek_token();
    if next.token != Token::EOF {
        return Err(near(sql, &next));
    }
    if let ast::Statement::Query(query) = statement
        && let ast::SetExpr::Values(values) = *query.body
    {
        return Ok(values.rows.into_iter().map(|row| row.content).collect());
    }
    Err(SqlError::syntax("expected a list of values"))
}

/// A table's name: `t` or `public.t`.
pub fn object_name(name: &ast::ObjectName) -> Result<String, SqlError> {
    let parts: Vec<&ast::Ident> = name
        .0
        .iter()
        .map(|part| match part {
            ast::ObjectNamePart::Identifier(ident) => Ok(ident),
            ast::ObjectNamePart::Function(_) => Err(SqlError::unsupported("a computed name")),
        })
        .collect::<Result<_, _>>()?;
    match parts.as_slice() {
        [name] => Ok(ident(name)),
        [schema, name] if ident(schema) == "public" => Ok(ident(name)),
        [schema, _] => Err(SqlError::new("3F000", format!("schema \"{}\" does not exist", ident(schema)))),
        _ => Err(SqlError::unsupported("a reference to another database")),
    }
}

/// A name, folded to lower case unless quoted.
pub fn ident(ident: &ast::Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
}

/// What is open at one level of parentheses.
#[derive(Default)]
struct Level {
    /// Operators of the expression so far: the parser puts each on top of what is left of it.
    operators: usize,
    /// CASEs without their END.
    cases: usize,
    /// NOTs and signs in a row: the parser recurses for each.
    prefixes: usize,
    /// Casts and tests in a row: each is a level of the tree above the one before.
    postfixes: usize,
    /// What the parenthesis itself counts: more in FROM, where the parser's frames are the biggest.
    weight: usize,
}

/// 54001 if the tree of any expression would be too deep.
fn check_depth(tokens: &[TokenWithSpan]) -> Result<(), SqlError> {
    use Keyword as K;
    let mut levels = vec![Level::default()];
    let mut operators = 0;
    let mut nested = 0;
    let mut after_operand = false;
    let mut after_from = false;
    for token in tokens {
        let top = levels.last_mut().expect("the outermost level is never popped");
        let was_operand = std::mem::replace(&mut after_operand, false);
        let was_from = std::mem::replace(&mut after_from, false);
        match &token.token {
            Token::LParen | Token::LBracket | Token::LBrace => {
                let weight = if was_from { 3 } else { 1 };
                levels.push(Level { weight, ..Level::default() });
                nested += weight;
                after_from = was_from;
            }
            Token::RParen | Token::RBracket | Token::RBrace => {
                after_operand = true;
                if levels.len() > 1
                    && let Some(done) = levels.pop()
                {
                    operators -= done.operators;
                    nested -= done.weight + 2 * done.cases + done.prefixes + done.postfixes;
                }
            }
            Token::Comma => {
                operators -= std::mem::take(&mut top.operators);
                nested -= std::mem::take(&mut top.prefixes) + std::mem::take(&mut top.postfixes);
            }
            Token::Number(..)
            | Token::SingleQuotedString(_)
            | Token::EscapedStringLiteral(_)
            | Token::DollarQuotedString(_)
            | Token::UnicodeStringLiteral(_)
            | Token::HexStringLiteral(_)
            | Token::NationalStringLiteral(_)
            | Token::Placeholder(_)
            | Token::Period => after_operand = true,
            Token::Word(word) => match word.keyword {
                K::CASE => {
                    top.cases += 1;
                    nested += 2;
                }
                K::END if top.cases > 0 => {
                    top.cases -= 1;
                    nested -= 2;
                    after_operand = true;
                }
                K::NOT | K::INTERVAL | K::PRIOR | K::EXISTS | K::SELECT | K::EXPLAIN | K::ARRAY => {
                    top.prefixes += 1;
                    nested += 1;
                }
                K::AND | K::OR | K::WHEN | K::THEN | K::ELSE | K::FROM | K::WHERE => {
                    after_from = word.keyword == K::FROM;
                    nested -= std::mem::take(&mut top.prefixes) + std::mem::take(&mut top.postfixes);
                    top.operators += 1;
                    operators += 1;
                }
                K::JOIN => {
                    after_from = true;
                    top.operators += 1;
                    operators += 1;
                }
                K::IS | K::IN | K::LIKE | K::ILIKE | K::BETWEEN | K::COLLATE | K::AT => {
                    top.postfixes += 1;
                    nested += 1;
                }
                K::UNION | K::EXCEPT | K::INTERSECT => {
                    top.prefixes += 1;
                    nested += 1;
                }
                _ => after_operand = true,
            },
            Token::DoubleColon => {
                top.postfixes += 1;
                nested += 1;
            }
            _ if was_operand => {
                // Twice: ANDs and ORs become one flat list, these do not.
                nested -= std::mem::take(&mut top.postfixes);
                top.operators += 2;
                operators += 2;
            }
            _ => {
                top.prefixes += 1;
                nested += 1;
            }
        }
        if operators > OPERATORS_MAX || nested > NESTED_MAX {
            return Err(too_complex());
        }
    }
    Ok(())
}

fn too_complex() -> SqlError {
    SqlError::new("54001", "statement is too complex").detail(format!(
        "An expression has at most {} operators, {OPERATORS_MAX} ANDs and ORs, and {NESTED_MAX} levels of nesting.",
        OPERATORS_MAX / 2
    ))
}

/// The 1-based character that a location names.
fn position(sql: &str, at: Location) -> Option<u32> {
    if at.line == 0 {
        return None;
    }
    let before: usize = sql.split_inclusive('\n').take(at.line as usize - 1).map(|line| line.chars().count()).sum();
    u32::try_from(before as u64 + at.column).ok()
}

/// PostgreSQL's syntax error at a token.
fn near(sql: &str, token: &TokenWithSpan) -> SqlError {
    if token.token == Token::EOF {
        return SqlError::syntax("syntax error at end of input");
    }
    let mut error = SqlError::syntax(format!("syntax error at or near \"{}\"", shorten(&token.token.to_string())));
    error.position = position(sql, token.span.start);
    error
}

fn shorten(text: &str) -> String {
    text.chars().take(60).collect()
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |first| first.to_lowercase().chain(chars).collect())
}

/// `Expected: an expression, found: FROM at Line: 1, Column: 8`, in PostgreSQL's form.
fn parser_error(sql: &str, err: ParserError) -> SqlError {
    let text = match err {
        ParserError::RecursionLimitExceeded => return too_complex(),
        ParserError::TokenizerError(text) | ParserError::ParserError(text) => text,
    };
    let (text, location) = match text.rfind(" at Line: ") {
        Some(at) => {
            let numbers: Vec<u64> =
                text[at..].split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).collect();
            let location = (numbers.len() == 2).then(|| Location { line: numbers[0], column: numbers[1] });
            (text[..at].to_string(), location)
        }
        None => (text, None),
    };
    let mut error = match text.strip_prefix("Expected: ").and_then(|rest| rest.split_once(", found: ")) {
        Some((expected, found)) => {
            let message = match found {
                "EOF" => "syntax error at end of input".to_string(),
                found => format!("syntax error at or near \"{}\"", shorten(found)),
            };
            SqlError::syntax(message).detail(format!("Expected {expected}."))
        }
        None => SqlError::syntax(lower_first(&text)),
    };
    error.position = location.and_then(|location| position(sql, location));
    error
}
