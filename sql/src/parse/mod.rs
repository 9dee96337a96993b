//! From text to statements.
//!
//! The text is cut into tokens and at its semicolons; then each statement goes one of two ways. What
//! Meridian has beside PostgreSQL, and what PostgreSQL's grammar makes of no interest to the planner
//! (transaction blocks, `SHOW`, `SET`), is parsed here from the tokens. The rest goes to `sqlparser`,
//! after `AS OF SYSTEM TIME` was cut out of it and `UPSERT` replaced.
//!
//! `sqlparser` builds trees whose depth is that of the text, and frees them recursively: so the
//! depth is bounded here, before it sees the tokens.

mod alter;
mod command;
mod cursor;
mod depth;
mod fingerprint;
mod index;
pub(crate) mod names;
mod select;
mod sequence;
mod session;
mod time;

use std::sync::Arc;

use sqlparser::ast;
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};

use crate::SqlError;
use crate::plan::generated::Overriding;
use crate::types::DataType;
pub use alter::CommentOn;
use cursor::Cursor;
use depth::{check_depth, too_complex};
use fingerprint::Fingerprint;
pub(crate) use select::empty_select;
pub(crate) use sequence::parse_options;
pub use sequence::{SequenceOptions, SequenceStatement};
pub use time::TimeExpr;

/// The longest text of one request, in bytes.
pub const SQL_BYTES_MAX: usize = 16 << 20;
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
        /// OVERRIDING SYSTEM VALUE.
        overriding: Overriding,
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
        /// CASCADE.
        cascade: bool,
    },
    /// CREATE VIEW.
    CreateView(Box<ast::CreateView>),
    /// DROP VIEW.
    DropView {
        /// IF EXISTS.
        if_exists: bool,
        /// Which.
        names: Vec<String>,
        /// CASCADE.
        cascade: bool,
    },
    /// CREATE, ALTER, DROP SEQUENCE.
    Sequence(Box<SequenceStatement>),
    /// CREATE INDEX.
    CreateIndex(Box<ast::CreateIndex>),
    /// DROP INDEX.
    DropIndex {
        /// IF EXISTS.
        if_exists: bool,
        /// Which.
        names: Vec<String>,
    },
    /// ALTER TABLE, but for SPLIT AT.
    AlterTable(Box<ast::AlterTable>),
    /// TRUNCATE.
    Truncate {
        /// Which.
        names: Vec<String>,
        /// RESTART IDENTITY.
        restart: bool,
        /// CASCADE: the tables that refer to them, too.
        cascade: bool,
    },
    /// COMMENT ON.
    Comment {
        /// What.
        on: CommentOn,
        /// None for NULL, which takes it away.
        text: Option<String>,
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
        /// How.
        options: ExplainOptions,
        /// Of what.
        statement: Box<Statement>,
    },
    /// BEGIN, START TRANSACTION.
    Begin(Begin),
    /// COMMIT, END.
    Commit {
        /// AND CHAIN: another block like this one begins at once.
        chain: bool,
    },
    /// ROLLBACK, ABORT.
    Rollback {
        /// AND CHAIN.
        chain: bool,
    },
    /// SAVEPOINT.
    Savepoint(String),
    /// ROLLBACK TO SAVEPOINT.
    RollbackTo(String),
    /// RELEASE SAVEPOINT.
    Release(String),
    /// SET TRANSACTION of a mode that changes nothing.
    SetTransaction(Begin),
    /// SET.
    Set {
        /// The setting.
        name: String,
        /// `None` for its default.
        value: Option<String>,
        /// SET LOCAL: until the end of the block.
        local: bool,
    },
    /// RESET name, or of all if none.
    Reset(Option<String>),
    /// DISCARD ALL, or PLANS, SEQUENCES, TEMP, of which a session keeps nothing.
    Discard(&'static str),
    /// PREPARE.
    Prepare {
        /// Its name.
        name: String,
        /// Of its first parameters, where it says so.
        types: Vec<DataType>,
        /// Its text, for the bound on what a session prepares.
        text: String,
        /// What it does.
        statement: Box<Statement>,
    },
    /// EXECUTE.
    Execute {
        /// Of which prepared statement.
        name: String,
        /// Its parameters.
        values: Vec<ast::Expr>,
    },
    /// DEALLOCATE name, or all if none.
    Deallocate(Option<String>),
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

impl Statement {
    /// Whether it is planned: it reads rows, or writes them.
    pub fn is_query(&self) -> bool {
        matches!(
            self,
            Statement::Select { .. } | Statement::Insert { .. } | Statement::Update(_) | Statement::Delete(_)
        )
    }

    /// Whether it may be run in a block that has failed.
    pub fn ends_a_failure(&self) -> bool {
        matches!(self, Statement::Commit { .. } | Statement::Rollback { .. } | Statement::RollbackTo(_))
    }
}

/// The options of EXPLAIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExplainOptions {
    /// ANALYZE: run it.
    pub analyze: bool,
    /// VERBOSE: where its keys are, too.
    pub verbose: bool,
    /// FORMAT JSON.
    pub json: bool,
    /// TIMING: how long it took.
    pub timing: bool,
    /// SUMMARY: how long planning took, also without ANALYZE.
    pub summary: bool,
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
    /// It said START TRANSACTION, as the tag will.
    pub start: bool,
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
    /// SHOW CREATE VIEW v.
    CreateView(String),
    /// SHOW VIEWS.
    Views,
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

/// A statement and what it has in common with others.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// The statement.
    pub statement: Statement,
    /// Its text without its values.
    pub fingerprint: Arc<str>,
}

/// Parses a text of any number of statements. Nothing of it is run if any of it is wrong.
pub fn parse(sql: &str) -> Result<Vec<Statement>, SqlError> {
    Ok(parse_all(sql)?.into_iter().map(|parsed| parsed.statement).collect())
}

/// As [`parse`], with the statements' fingerprints.
pub fn parse_all(sql: &str) -> Result<Vec<Parsed>, SqlError> {
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
    let mut fingerprint = Fingerprint::default();
    let end = TokenWithSpan::new(Token::SemiColon, sqlparser::tokenizer::Span::empty());
    for token in tokens.into_iter().chain([end]) {
        match &token.token {
            Token::EOF => {}
            Token::SemiColon => {
                let fingerprint = fingerprint.finish().into();
                if !current.is_empty() {
                    let statement = parse_tokens(sql, std::mem::take(&mut current))?;
                    statements.push(Parsed { statement, fingerprint });
                }
            }
            blank @ Token::Whitespace(_) => fingerprint.add(blank),
            other => {
                fingerprint.add(other);
                current.push(token);
            }
        }
    }
    Ok(statements)
}

/// The tokens of a text, without blanks.
fn tokens(text: &str) -> Result<Vec<TokenWithSpan>, SqlError> {
    let tokens = Tokenizer::new(&PostgreSqlDialect {}, text)
        .tokenize_with_location()
        .map_err(|err| SqlError::syntax(lower_first(&err.message)))?;
    Ok(tokens.into_iter().filter(|token| !matches!(token.token, Token::Whitespace(_) | Token::EOF)).collect())
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
    if let Some(statement) = sequence::parse(&mut cursor)? {
        return Ok(statement);
    }
    if let Some(statement) = alter::parse(&mut cursor)? {
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
    cut_key_locks(&mut tokens);
    let overriding = sequence::cut_overriding(&mut tokens);
    sequence::order_options(&mut tokens);
    if matches!(&tokens[0].token, Token::Word(word) if word.quote_style.is_none() && word.keyword == Keyword::TABLE) {
        // TABLE t is SELECT * FROM t.
        let span = tokens[0].span;
        let words = [Token::make_keyword("SELECT"), Token::Mul, Token::make_keyword("FROM")];
        tokens.splice(0..1, words.map(|token| TokenWithSpan::new(token, span)));
    }
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
        ast::Statement::Insert(insert) => Statement::Insert { insert: Box::new(insert), upsert, overriding },
        ast::Statement::Update(update) => Statement::Update(Box::new(update)),
        ast::Statement::Delete(delete) => Statement::Delete(Box::new(delete)),
        ast::Statement::CreateTable(create) => Statement::CreateTable(Box::new(create)),
        ast::Statement::CreateView(create) => Statement::CreateView(Box::new(create)),
        ast::Statement::AlterTable(alter) => Statement::AlterTable(Box::new(alter)),
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
            object_type: object_type @ (ast::ObjectType::Table | ast::ObjectType::View),
            if_exists,
            names,
            cascade,
            restrict: _,
            purge: false,
            temporary: false,
            table: None,
        } => {
            let names = names.iter().map(object_name).collect::<Result<_, _>>()?;
            match object_type {
                ast::ObjectType::Table => Statement::DropTable { if_exists, names, cascade },
                _ => Statement::DropView { if_exists, names, cascade },
            }
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

/// `FOR NO KEY UPDATE` and `FOR KEY SHARE`, which `sqlparser` does not know, as what locks the same here: a
/// lock is on a row, and does not tell its key from the rest of it.
fn cut_key_locks(tokens: &mut Vec<TokenWithSpan>) {
    let word = |token: Option<&TokenWithSpan>, wanted: &str| {
        matches!(token.map(|token| &token.token), Some(Token::Word(found))
            if found.quote_style.is_none() && found.value.eq_ignore_ascii_case(wanted))
    };
    let mut at = 0;
    while at < tokens.len() {
        let is = |offset: usize, wanted: &str| word(tokens.get(at + offset), wanted);
        if is(0, "FOR") && is(1, "NO") && is(2, "KEY") && is(3, "UPDATE") {
            tokens.drain(at + 1..at + 3);
        } else if is(0, "FOR") && is(1, "KEY") && is(2, "SHARE") {
            tokens.remove(at + 1);
        }
        at += 1;
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
        // What may be read of it is found elsewhere: nothing can be made or changed there.
        [schema, _] if crate::system::SCHEMAS.contains(&ident(schema).as_str()) => {
            Err(SqlError::new("42501", format!("permission denied for schema {}", ident(schema))))
        }
        [schema, _] => Err(SqlError::new("3F000", format!("schema \"{}\" does not exist", ident(schema)))),
        _ => Err(SqlError::unsupported("a reference to another database")),
    }
}

/// A name, folded to lower case unless quoted.
pub fn ident(ident: &ast::Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
}

/// The text that some tokens were cut from.
fn text_of(sql: &str, tokens: &[TokenWithSpan]) -> String {
    let chars = |at: Location| position(sql, at).map_or(0, |at| at as usize - 1);
    match (tokens.first(), tokens.last()) {
        (Some(first), Some(last)) => {
            let (from, to) = (chars(first.span.start), chars(last.span.end));
            sql.chars().skip(from).take(to.saturating_sub(from)).collect()
        }
        _ => String::new(),
    }
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
