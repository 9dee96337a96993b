//! Completion of keywords, tables, columns and meta-commands.
//!
//! Names come from a session of their own, so that fetching them disturbs no transaction and no
//! `\asof` of the user's. They are fetched at the start and after each change of the schema, in
//! the background: the prompt never waits for them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use rustyline::completion::{Completer, Pair};
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::validate::Validator;
use rustyline::{Context, Helper};
use tokio::sync::mpsc;

use super::meta;
use crate::client::{Client, ClientOptions};
use crate::workload::bank::text;

/// How many tables' columns are fetched.
const TABLES_MAX: usize = 200;

/// Words that statements are made of.
const KEYWORDS: &[&str] = &[
    "ALTER",
    "ANALYZE",
    "AND",
    "AS",
    "ASC",
    "BEGIN",
    "BETWEEN",
    "BIGINT",
    "BOOLEAN",
    "BY",
    "BYTEA",
    "CASE",
    "CAST",
    "CHAIN",
    "CLOCK",
    "CLUSTER",
    "COLUMNS",
    "COMMIT",
    "CONFLICT",
    "COUNT",
    "CREATE",
    "DEALLOCATE",
    "DEFAULT",
    "DELETE",
    "DESC",
    "DISCARD",
    "DISTINCT",
    "DO",
    "DOUBLE",
    "DROP",
    "ELSE",
    "END",
    "EXECUTE",
    "EXISTS",
    "EXPLAIN",
    "FALSE",
    "FETCH",
    "FOR",
    "FORMAT",
    "FROM",
    "GROUP",
    "GROUPS",
    "HAVING",
    "IF",
    "IN",
    "INSERT",
    "INTO",
    "IS",
    "JSON",
    "KEY",
    "LIKE",
    "LIMIT",
    "LOCAL",
    "LOCKED",
    "LOCKS",
    "NODE",
    "NODES",
    "NOT",
    "NOTHING",
    "NOWAIT",
    "NULL",
    "OF",
    "OFFSET",
    "ON",
    "ONLY",
    "OR",
    "ORDER",
    "PRECISION",
    "PREPARE",
    "PRIMARY",
    "RANGES",
    "READ",
    "RELEASE",
    "RESET",
    "RETURNING",
    "ROLLBACK",
    "SAVEPOINT",
    "SELECT",
    "SET",
    "SHARE",
    "SHOW",
    "SKIP",
    "SPLIT",
    "STATUS",
    "SYSTEM",
    "TABLE",
    "TABLES",
    "TEXT",
    "THEN",
    "TIME",
    "TIMESTAMP",
    "TIMESTAMPTZ",
    "TO",
    "TRANSACTION",
    "TRANSACTIONS",
    "TRUE",
    "UPDATE",
    "UPSERT",
    "VALUES",
    "VARCHAR",
    "VERBOSE",
    "WHEN",
    "WHERE",
    "WRITE",
];

/// Tables and their columns.
pub type Names = BTreeMap<String, Vec<String>>;

/// The names as last fetched, and how to fetch them again.
#[derive(Clone, Default)]
pub struct SharedNames {
    names: Arc<RwLock<Names>>,
    wake: Option<mpsc::Sender<()>>,
}

impl SharedNames {
    /// Begins to fetch names from these nodes.
    pub fn start(&mut self, addresses: Vec<String>) {
        // One wish that waits is enough: it sees all changes before it.
        let (wake, mut wishes) = mpsc::channel(1);
        let names = self.names.clone();
        self.wake = Some(wake);
        tokio::spawn(async move {
            while wishes.recv().await.is_some() {
                if let Some(fetched) = fetch(&addresses).await {
                    *names.write().unwrap_or_else(|e| e.into_inner()) = fetched;
                }
            }
        });
        self.refresh();
    }

    /// Wishes for new names.
    pub fn refresh(&self) {
        if let Some(wake) = &self.wake {
            let _ = wake.try_send(());
        }
    }
}

async fn fetch(addresses: &[String]) -> Option<Names> {
    let options = ClientOptions { statement_timeout: Some(Duration::from_secs(5)), ..ClientOptions::default() };
    let mut client = Client::connect_with(addresses, options).await.ok()?;
    let tables = first_column(&mut client, "SHOW TABLES").await?;
    let mut names = Names::new();
    for table in tables.into_iter().take(TABLES_MAX) {
        let sql = format!("SHOW COLUMNS FROM {}", meta::quoted(&table));
        let columns = first_column(&mut client, &sql).await.unwrap_or_default();
        names.insert(table, columns);
    }
    Some(names)
}

async fn first_column(client: &mut Client, sql: &str) -> Option<Vec<String>> {
    let result = client.execute(sql, Vec::new()).await.ok()?.pop()?;
    Some(result.rows.iter().filter_map(|row| text(row.values.first()?)).map(str::to_string).collect())
}

/// The completions of a line at a position in bytes, and where the completed word begins.
pub fn candidates(line: &str, position: usize, names: &Names) -> (usize, Vec<String>) {
    let before = &line[..position];
    if before.starts_with('\\')
        && let Some(found) = meta_candidates(before)
    {
        return found;
    }
    let start = before
        .char_indices()
        .rev()
        .take_while(|(_, c)| c.is_alphanumeric() || matches!(c, '_' | '\\' | '?' | '!' | '+'))
        .last()
        .map_or(position, |(at, _)| at);
    let word = &before[start..];
    let lead = before[..start].trim_end();
    let upper = lead.to_ascii_uppercase();
    let wants_table = ["FROM", "INTO", "UPDATE", "TABLE", "JOIN", "\\D"].iter().any(|k| {
        upper.ends_with(k) && !upper[..upper.len() - k.len()].ends_with(|c: char| c.is_alphanumeric() || c == '_')
    });
    let lower = word.to_lowercase();
    let fits = |name: &&String| name.to_lowercase().starts_with(&lower);
    let mut found: BTreeSet<String> = names.keys().filter(fits).map(|table| meta::quoted(table)).collect();
    if wants_table {
        return (start, found.into_iter().collect());
    }
    if word.is_empty() {
        return (start, Vec::new());
    }
    // Columns of the tables that the line names, or of all if it names none.
    let named = |table: &str| line.to_lowercase().contains(&table.to_lowercase());
    let any = names.keys().any(|table| named(table));
    for (_, columns) in names.iter().filter(|(table, _)| !any || named(table)) {
        found.extend(columns.iter().filter(fits).map(|column| meta::quoted(column)));
    }
    let mut all: Vec<String> = found.into_iter().collect();
    let small = word.chars().all(|c| !c.is_uppercase());
    let keywords = KEYWORDS.iter().filter(|k| k.to_lowercase().starts_with(&lower));
    all.extend(keywords.map(|k| if small { k.to_lowercase() } else { k.to_string() }));
    (start, all)
}

/// Of a meta-command's name, or of the words that may follow it if it has such.
fn meta_candidates(before: &str) -> Option<(usize, Vec<String>)> {
    let fits = |word: &str, all: &mut dyn Iterator<Item = &'static str>| {
        all.filter(|name| name.starts_with(word)).map(str::to_string).collect::<Vec<_>>()
    };
    let Some((name, _)) = before.split_once(char::is_whitespace) else {
        return Some((0, fits(before, &mut meta::COMMANDS.iter().map(|c| c.name))));
    };
    let (_, words) = meta::WORDS.iter().find(|(known, _)| *known == name)?;
    let start = before.rfind(char::is_whitespace).map_or(0, |at| at + 1);
    Some((start, fits(&before[start..], &mut words.iter().copied())))
}

/// What rustyline asks.
pub struct ShellHelper {
    names: SharedNames,
}

impl ShellHelper {
    /// With the shell's names.
    pub fn new(names: SharedNames) -> ShellHelper {
        ShellHelper { names }
    }
}

impl Completer for ShellHelper {
    type Candidate = Pair;

    fn complete(&self, line: &str, position: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let names = self.names.names.read().unwrap_or_else(|e| e.into_inner());
        let (start, found) = candidates(line, position, &names);
        Ok((start, found.into_iter().map(|text| Pair { display: text.clone(), replacement: text }).collect()))
    }
}

impl Hinter for ShellHelper {
    type Hint = String;
}

impl Highlighter for ShellHelper {}

impl Validator for ShellHelper {}

impl Helper for ShellHelper {}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete(line: &str) -> Vec<String> {
        let names = Names::from([
            ("accounts".to_string(), vec!["id".to_string(), "balance".to_string()]),
            ("Odd".to_string(), vec!["barn".to_string()]),
        ]);
        candidates(line, line.len(), &names).1
    }

    #[test]
    fn words_in_their_place() {
        assert_eq!(complete("sel"), ["select"]);
        assert_eq!(complete("SEL"), ["SELECT"]);
        assert_eq!(complete("select * from a"), ["accounts"]);
        assert_eq!(complete("insert into "), ["\"Odd\"", "accounts"]);
        assert_eq!(complete("update accounts set ba"), ["balance"]);
        assert_eq!(complete("select ba"), ["balance", "barn"]);
        assert_eq!(complete("\\as"), ["\\asof"]);
        assert_eq!(complete("\\d a"), ["accounts"]);
        assert_eq!(complete("\\slow-"), ["\\slow-disk"]);
        assert_eq!(complete("\\partition r"), ["ring"]);
        assert_eq!(complete("\\skew 2 o"), ["off", "offset="]);
        assert_eq!(complete("select é"), Vec::<String>::new());
    }
}
