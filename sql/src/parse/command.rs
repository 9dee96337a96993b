//! The statements that are parsed from their tokens: transaction blocks, SET, SHOW, EXPLAIN, and what
//! PostgreSQL does not have.

use sqlparser::tokenizer::Token;

use super::cursor::Cursor;
use super::{Begin, ExplainOptions, Show, Statement, TimeExpr, parse_tokens, parse_values, session, time};
use crate::SqlError;

/// The statement, or `None` if it is one for `sqlparser`; then nothing was taken.
pub(super) fn parse(cursor: &mut Cursor<'_>) -> Result<Option<Statement>, SqlError> {
    let statement = if cursor.eat("EXPLAIN") {
        explain(cursor)?
    } else if cursor.eat("BEGIN") {
        if !cursor.eat("WORK") {
            cursor.eat("TRANSACTION");
        }
        Statement::Begin(modes(cursor)?)
    } else if cursor.eat_all(&["START", "TRANSACTION"]) {
        Statement::Begin(Begin { start: true, ..modes(cursor)? })
    } else if cursor.eat("COMMIT") || cursor.eat("END") {
        Statement::Commit { chain: end_of_block(cursor)? }
    } else if cursor.eat("ROLLBACK") || cursor.eat("ABORT") {
        rollback(cursor)?
    } else if let Some(statement) = session::parse(cursor)? {
        statement
    } else if cursor.eat("SET") {
        set(cursor)?
    } else if cursor.eat("SHOW") {
        Statement::Show(show(cursor)?)
    } else if cursor.eat_all(&["CHECK", "REPLICAS"]) {
        Statement::CheckReplicas
    } else if cursor.eat_all(&["ALTER", "TABLE"]) {
        match split(cursor)? {
            Some(statement) => return Ok(Some(statement)),
            None => {
                cursor.rewind();
                return Ok(None);
            }
        }
    } else {
        return Ok(None);
    };
    if !matches!(statement, Statement::Explain { .. }) {
        cursor.end()?;
    }
    Ok(Some(statement))
}

fn explain(cursor: &mut Cursor<'_>) -> Result<Statement, SqlError> {
    let mut options = ExplainOptions { analyze: false, verbose: false, json: false, timing: true, summary: false };
    if cursor.eat_token(&Token::LParen) {
        loop {
            let option = cursor.name()?;
            if option == "format" {
                options.json = match cursor.name()?.to_lowercase().as_str() {
                    "json" => true,
                    "text" => false,
                    other @ ("xml" | "yaml") => {
                        return Err(SqlError::unsupported(format!("EXPLAIN (FORMAT {})", other.to_uppercase())));
                    }
                    other => {
                        let message = format!("unrecognized value for EXPLAIN option \"format\": \"{other}\"");
                        return Err(SqlError::new("22023", message));
                    }
                };
                if cursor.eat_token(&Token::RParen) {
                    break;
                }
                if !cursor.eat_token(&Token::Comma) {
                    return Err(cursor.unexpected());
                }
                continue;
            }
            let on = !(cursor.eat("OFF") || cursor.eat("FALSE"));
            if on && !cursor.eat("ON") {
                cursor.eat("TRUE");
            }
            match option.as_str() {
                "analyze" => options.analyze = on,
                "verbose" => options.verbose = on,
                "timing" => options.timing = on,
                "summary" => options.summary = on,
                // There are no costs, and no buffers to count.
                "costs" | "buffers" | "wal" | "settings" | "generic_plan" | "memory" => {}
                other => return Err(SqlError::syntax(format!("unrecognized EXPLAIN option \"{other}\""))),
            }
            if cursor.eat_token(&Token::RParen) {
                break;
            }
            if !cursor.eat_token(&Token::Comma) {
                return Err(cursor.unexpected());
            }
        }
    } else {
        options.analyze = cursor.eat("ANALYZE");
        options.verbose = cursor.eat("VERBOSE");
    }
    let rest = cursor.rest();
    if rest.is_empty() || cursor.is_word("EXPLAIN") {
        return Err(cursor.unexpected());
    }
    let statement = parse_tokens(cursor.sql, rest)?;
    match statement {
        Statement::Select { .. } | Statement::Insert { .. } | Statement::Update(_) | Statement::Delete(_) => {
            Ok(Statement::Explain { options, statement: Box::new(statement) })
        }
        _ => Err(SqlError::unsupported("EXPLAIN of a statement that reads or writes no table")),
    }
}

fn rollback(cursor: &mut Cursor<'_>) -> Result<Statement, SqlError> {
    let chain = end_of_block(cursor)?;
    if !chain && cursor.eat("TO") {
        return Ok(Statement::RollbackTo(session::savepoint(cursor)?));
    }
    Ok(Statement::Rollback { chain })
}

/// Whether it says AND CHAIN.
fn end_of_block(cursor: &mut Cursor<'_>) -> Result<bool, SqlError> {
    if !cursor.eat("WORK") {
        cursor.eat("TRANSACTION");
    }
    if cursor.eat_all(&["AND", "NO", "CHAIN"]) {
        return Ok(false);
    }
    if cursor.eat_all(&["AND", "CHAIN"]) {
        return Ok(true);
    }
    if cursor.is_word("PREPARED") {
        return Err(SqlError::unsupported("a transaction prepared by its client"));
    }
    Ok(false)
}

fn modes(cursor: &mut Cursor<'_>) -> Result<Begin, SqlError> {
    let mut begin = Begin::default();
    loop {
        if cursor.eat_all(&["READ", "ONLY"]) {
            begin.read_only = Some(true);
        } else if cursor.eat_all(&["READ", "WRITE"]) {
            begin.read_only = Some(false);
        } else if cursor.eat_all(&["ISOLATION", "LEVEL"]) {
            let levels: [&[&str]; 4] =
                [&["SERIALIZABLE"], &["REPEATABLE", "READ"], &["READ", "COMMITTED"], &["READ", "UNCOMMITTED"]];
            let level = levels.iter().position(|level| cursor.eat_all(level)).ok_or_else(|| cursor.unexpected())?;
            begin.weaker = level > 0;
        } else if cursor.eat_all(&["NOT", "DEFERRABLE"]) || cursor.eat("DEFERRABLE") {
            // A read-only transaction never waits for a safe snapshot here: there is nothing to defer.
        } else if cursor.eat_all(&["AS", "OF", "SYSTEM", "TIME"]) {
            begin.as_of = Some(time::take_time(cursor)?);
        } else {
            break;
        }
        cursor.eat_token(&Token::Comma);
    }
    if begin.as_of.is_some() && begin.read_only != Some(true) {
        return Err(SqlError::syntax("AS OF SYSTEM TIME needs READ ONLY"));
    }
    Ok(begin)
}

/// `application_name`, `spanner.read_only_staleness`, `TIME ZONE`.
pub(super) fn setting_name(cursor: &mut Cursor<'_>) -> Result<String, SqlError> {
    if cursor.eat_all(&["TIME", "ZONE"]) {
        return Ok("timezone".into());
    }
    let mut name = cursor.name()?.to_lowercase();
    while cursor.eat_token(&Token::Period) {
        name.push('.');
        name.push_str(&cursor.name()?.to_lowercase());
    }
    Ok(name)
}

fn set(cursor: &mut Cursor<'_>) -> Result<Statement, SqlError> {
    if cursor.eat_all(&["CLUSTER", "CLOCK"]) {
        return set_clock(cursor, None);
    }
    if cursor.eat("NODE") {
        let node = cursor.number()?;
        cursor.expect("CLOCK")?;
        return set_clock(cursor, Some(node));
    }
    if cursor.eat_all(&["SESSION", "CHARACTERISTICS", "AS", "TRANSACTION"]) {
        let begin = modes(cursor)?;
        let value = begin.read_only.map(|on| if on { "on" } else { "off" }.to_string());
        return Ok(match value {
            Some(value) => {
                Statement::Set { name: "default_transaction_read_only".into(), value: Some(value), local: false }
            }
            None => Statement::SetTransaction(begin),
        });
    }
    if cursor.eat("TRANSACTION") {
        return Ok(Statement::SetTransaction(modes(cursor)?));
    }
    let local = cursor.eat("LOCAL");
    if !local {
        cursor.eat("SESSION");
    }
    let name = setting_name(cursor)?;
    if name != "timezone" && !cursor.eat("TO") && !cursor.eat_token(&Token::Eq) {
        return Err(cursor.unexpected());
    }
    if name == "timezone" && !cursor.eat("TO") {
        cursor.eat_token(&Token::Eq);
    }
    if cursor.eat("DEFAULT") {
        return Ok(Statement::Set { name, value: None, local });
    }
    let mut values = Vec::new();
    loop {
        let minus = if cursor.eat_token(&Token::Minus) { "-" } else { "" };
        let value = match cursor.peek() {
            Token::SingleQuotedString(text) | Token::EscapedStringLiteral(text) => text.clone(),
            Token::Number(text, _) => text.clone(),
            Token::Word(word) => word.value.clone(),
            _ => return Err(cursor.unexpected()),
        };
        values.push(format!("{minus}{value}"));
        cursor.advance();
        if !cursor.eat_token(&Token::Comma) {
            break;
        }
    }
    Ok(Statement::Set { name, value: Some(values.join(", ")), local })
}

fn set_clock(cursor: &mut Cursor<'_>, node: Option<u64>) -> Result<Statement, SqlError> {
    if !cursor.eat_token(&Token::Eq) && !cursor.eat("TO") {
        return Err(cursor.unexpected());
    }
    Ok(Statement::SetClock { node, spec: cursor.string()? })
}

fn show(cursor: &mut Cursor<'_>) -> Result<Show, SqlError> {
    if cursor.eat_all(&["COMMIT", "TIMESTAMP"]) {
        return Ok(Show::CommitTimestamp);
    }
    if cursor.eat_all(&["READ", "TIMESTAMP"]) {
        return Ok(Show::ReadTimestamp);
    }
    if cursor.eat_all(&["CREATE", "TABLE"]) {
        return Ok(Show::CreateTable(cursor.table()?));
    }
    if cursor.eat_all(&["CREATE", "VIEW"]) {
        return Ok(Show::CreateView(cursor.table()?));
    }
    if cursor.eat_all(&["TRANSACTION", "ISOLATION", "LEVEL"]) {
        return Ok(Show::Setting("transaction_isolation".into()));
    }
    if cursor.eat_all(&["TRANSACTION", "STATUS"]) {
        let text = cursor.string()?;
        let txn = text.parse().map_err(|why: String| SqlError::new("22P02", why))?;
        if !cursor.eat("COORDINATOR") {
            cursor.eat("GROUP");
        }
        let coordinator = if *cursor.peek() == Token::EOF { None } else { Some(cursor.number()?) };
        return Ok(Show::TransactionStatus { txn, coordinator });
    }
    let name = setting_name(cursor)?;
    Ok(match name.as_str() {
        "tables" => Show::Tables,
        "views" => Show::Views,
        "columns" => {
            cursor.expect("FROM")?;
            cursor.eat("TABLE");
            Show::Columns(cursor.table()?)
        }
        "ranges" if cursor.eat("FROM") => {
            cursor.eat("TABLE");
            Show::Ranges(Some(cursor.table()?))
        }
        "ranges" => Show::Ranges(None),
        "nodes" => Show::Nodes,
        "groups" => Show::Groups,
        "transactions" => Show::Transactions,
        "locks" => Show::Locks,
        "clock" => Show::Clock,
        "all" => Show::All,
        _ => Show::Setting(name),
    })
}

/// `t SPLIT AT VALUES (..), (..)`, or `None` for any other ALTER TABLE.
fn split(cursor: &mut Cursor<'_>) -> Result<Option<Statement>, SqlError> {
    let table = cursor.table()?;
    if !cursor.eat_all(&["SPLIT", "AT"]) {
        return Ok(None);
    }
    if !cursor.is_word("VALUES") {
        return Err(cursor.unexpected().detail("Expected VALUES."));
    }
    let rows = parse_values(cursor.sql, cursor.rest())?;
    Ok(Some(Statement::Split { table, rows }))
}

impl TimeExpr {
    /// The value of the setting `read_timestamp`: `None` for the present.
    pub fn parse_setting(text: &str) -> Result<Option<TimeExpr>, SqlError> {
        match text.trim().to_ascii_lowercase().as_str() {
            "" | "now" | "default" | "strong" => Ok(None),
            _ => TimeExpr::parse(text).map(Some),
        }
    }
}
