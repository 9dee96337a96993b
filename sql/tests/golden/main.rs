//! SQL scripts, and the properties of keys, rows and access paths.
//!
//! A script is a list of blocks: an input, a line `----`, the output, an empty line. The input is SQL,
//! or a command of the test: see `Script::run`. `UPDATE_GOLDENFILES=1 cargo test -p sql` writes the
//! outputs anew; read the difference. Scripts under `select_datafusion` need the feature of that name,
//! those under `without_datafusion` need it off, the others must not care.

mod added;
#[cfg(feature = "datafusion")]
mod differential;
mod engine;
mod foreign;
mod index;
mod properties;
mod stack;
#[cfg(feature = "datafusion")]
mod tpch;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::future::Future;
use std::path::{Path, PathBuf};
#[cfg(not(feature = "datafusion"))]
use std::{
    pin::pin,
    task::{Context, Poll, Waker},
};

use engine::{Fault, MapEngine};
use sql::types::Datum;
use sql::{ColumnInfo, Completion, Database, Notice, Session, SessionState, Sink, SqlError, value};

/// Runs a future. DataFusion's operators may start tasks, which need a runtime.
#[cfg(feature = "datafusion")]
pub fn block_on<F: Future>(future: F) -> F::Output {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime =
            tokio::runtime::Builder::new_current_thread().build().expect("a runtime without drivers");
    }
    RUNTIME.with(|runtime| runtime.block_on(future))
}

/// Runs a future that never waits: the engine is a map.
#[cfg(not(feature = "datafusion"))]
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut context = Context::from_waker(Waker::noop());
    match pin!(future).poll(&mut context) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("a future of the map engine waits"),
    }
}

/// Prints what it receives.
#[derive(Default)]
pub struct TextSink {
    /// The lines so far.
    pub text: String,
    /// An error for the next rows, as of a client that went away.
    pub broken: bool,
}

impl Sink for TextSink {
    async fn columns(&mut self, columns: Vec<ColumnInfo>) -> Result<(), SqlError> {
        let names: Vec<String> = columns.into_iter().map(|column| column.name).collect();
        writeln!(self.text, "| {} |", names.join(" | ")).unwrap();
        Ok(())
    }

    async fn rows(&mut self, rows: Vec<Vec<Datum>>) -> Result<(), SqlError> {
        assert!(!rows.is_empty(), "an empty batch of rows");
        if self.broken {
            return Err(SqlError::new("57014", "the client went away"));
        }
        for row in rows {
            let cells: Vec<String> = row.iter().map(|datum| value::to_text(datum).unwrap_or("NULL".into())).collect();
            writeln!(self.text, "  {}", cells.join(" | ").replace('\n', "\n  ")).unwrap();
        }
        Ok(())
    }

    fn complete(&mut self, completion: Completion) {
        self.text.push_str(&completion.tag);
        if completion.commit.is_some_and(|commit| commit.commit_ts.is_some()) {
            self.text.push_str("  (committed)");
        }
        self.text.push('\n');
    }

    fn notice(&mut self, notice: Notice) {
        writeln!(self.text, "{}: {} ({})", notice.severity, notice.message, notice.sqlstate).unwrap();
    }
}

/// An error, with all that it has.
pub fn error_text(error: &SqlError) -> String {
    let mut text = format!("ERROR {}: {}\n", error.sqlstate, error.message);
    if let Some(detail) = &error.detail {
        writeln!(text, "DETAIL: {detail}").unwrap();
    }
    if let Some(hint) = &error.hint {
        writeln!(text, "HINT: {hint}").unwrap();
    }
    if let Some(position) = error.position {
        writeln!(text, "POSITION: {position}").unwrap();
    }
    text
}

struct Script {
    engine: MapEngine,
    databases: BTreeMap<String, Database<MapEngine>>,
    sessions: BTreeMap<String, Session<MapEngine>>,
    current: String,
}

impl Script {
    fn new() -> Script {
        let engine = MapEngine::new();
        let mut script = Script { engine, databases: BTreeMap::new(), sessions: BTreeMap::new(), current: "a".into() };
        script.open("a");
        script
    }

    /// A session on a gateway of its own.
    fn open(&mut self, name: &str) {
        let database = Database::new(self.engine.clone());
        self.sessions.insert(name.into(), database.session());
        self.databases.insert(name.into(), database);
    }

    fn run(&mut self, input: &str) -> String {
        let mut sink = TextSink::default();
        let (word, rest) = input.split_once(' ').unwrap_or((input, ""));
        let result = match word {
            // The following blocks run on that gateway.
            "\\session" => {
                if !self.sessions.contains_key(rest) {
                    self.open(rest);
                }
                self.current = rest.into();
                Ok(())
            }
            "\\advance" => {
                self.engine.advance(truetime::parse_duration_ns(rest).expect("a duration"));
                Ok(())
            }
            "\\abort" => {
                (0..rest.parse().expect("a number")).for_each(|_| self.engine.fault(Fault::Aborted));
                Ok(())
            }
            "\\ambiguous" => {
                self.engine.fault(Fault::Ambiguous);
                Ok(())
            }
            // So many commits fail, after so many that do not: a gateway that is cut off.
            "\\cut" => {
                let (after, count) = rest.split_once(' ').expect("two numbers");
                let number = |text: &str| text.parse::<u32>().expect("a number");
                (0..number(after)).for_each(|_| self.engine.fault(Fault::None));
                (0..number(count)).for_each(|_| self.engine.fault(Fault::Unavailable));
                Ok(())
            }
            // The same for good, and nobody waits for it: what it knew is gone, and the others go on at once.
            "\\lose" => {
                (0..rest.parse().expect("a number")).for_each(|_| self.engine.fault(Fault::None));
                (0..1_000).for_each(|_| self.engine.fault(Fault::Gone));
                Ok(())
            }
            "\\heal" => {
                self.engine.no_faults();
                Ok(())
            }
            // What each gateway does about every second.
            "\\tend" => {
                let database = self.databases[&self.current].clone();
                block_on(database.refresh_catalog()).and_then(|()| block_on(database.tend_jobs())).map(|jobs| {
                    writeln!(sink.text, "{jobs} jobs done").unwrap();
                })
            }
            // The client says nothing for as long as it may.
            "\\idle" => {
                let session = self.sessions.get_mut(&self.current).unwrap();
                match session.idle_timeout_ns() {
                    None => {
                        sink.text.push_str("it may think for ever\n");
                        Ok(())
                    }
                    Some(ns) => {
                        writeln!(sink.text, "after {} ms:", ns / 1_000_000).unwrap();
                        Err(block_on(session.end_idle()))
                    }
                }
            }
            // The next locking read waits for ever.
            "\\hang" => {
                self.engine.hang();
                Ok(())
            }
            // The next transaction that reads is wounded.
            "\\wound" => {
                self.engine.wound();
                Ok(())
            }
            "\\unavailable" => {
                self.engine.lose_a_read();
                Ok(())
            }
            "\\forget" => {
                self.engine.forget_until_now();
                Ok(())
            }
            // The reads of the statement that follows on the line.
            "\\reads" => {
                self.engine.take_log();
                let session = self.sessions.get_mut(&self.current).unwrap();
                let result = block_on(session.execute(rest, &[], &mut sink));
                for line in self.engine.take_log() {
                    writeln!(sink.text, "read: {line}").unwrap();
                }
                result
            }
            "\\prepare" => {
                let (name, sql) = rest.split_once(' ').unwrap_or((rest, ""));
                let session = self.sessions.get_mut(&self.current).unwrap();
                block_on(session.prepare(name, sql)).map(|info| {
                    let types: Vec<&str> = info.parameters.iter().map(|ty| ty.name()).collect();
                    let columns: Vec<String> =
                        info.columns.iter().map(|column| format!("{} {}", column.name, column.ty.name())).collect();
                    writeln!(sink.text, "parameters: {}\ncolumns: {}", types.join(", "), columns.join(", ")).unwrap();
                })
            }
            "\\run" => {
                let mut words = rest.split(' ');
                let name = words.next().unwrap();
                let params: Vec<Datum> = words
                    .map(|word| match word {
                        "NULL" => Datum::Null,
                        "true" => Datum::Bool(true),
                        word => match word.parse::<i64>() {
                            Ok(v) => Datum::Int(v),
                            Err(_) => word.parse().map_or(Datum::Text(word.into()), Datum::Float),
                        },
                    })
                    .collect();
                let session = self.sessions.get_mut(&self.current).unwrap();
                block_on(session.execute_prepared(name, &params, &mut sink))
            }
            // A text of so many bytes instead of each `@`.
            "\\long" => {
                let (bytes, sql) = rest.split_once(' ').expect("a size and a statement");
                let sql = sql.replace('@', &"x".repeat(bytes.parse().expect("a number")));
                let session = self.sessions.get_mut(&self.current).unwrap();
                block_on(session.execute(&sql, &[], &mut sink))
            }
            "\\state" => {
                let state = match self.sessions[&self.current].state() {
                    SessionState::Idle => "idle".into(),
                    SessionState::Open { .. } => "open".into(),
                    SessionState::ReadOnly { read_ts } => {
                        format!("read-only at {read_ts:?}").replace("None", "no time yet")
                    }
                    SessionState::Failed => "failed".into(),
                };
                writeln!(sink.text, "{state}").unwrap();
                Ok(())
            }
            _ => block_on(self.sessions.get_mut(&self.current).unwrap().execute(input, &[], &mut sink)),
        };
        if let Err(error) = result {
            sink.text.push_str(&error_text(&error));
        }
        if sink.text.is_empty() {
            sink.text.push_str("ok\n");
        }
        sink.text
    }
}

fn run_script(text: &str) -> String {
    let mut script = Script::new();
    let mut output = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if line.is_empty() || line.starts_with('#') {
            output.push_str(line);
            output.push('\n');
            continue;
        }
        let mut input = vec![line];
        while let Some(line) = lines.next()
            && line != "----"
        {
            assert!(!line.is_empty(), "no ---- after {input:?}");
            input.push(line);
        }
        while lines.peek().is_some_and(|line| !line.is_empty()) {
            lines.next();
        }
        let input = input.join("\n");
        write!(output, "{input}\n----\n{}", script.run(&input)).unwrap();
    }
    output
}

fn scripts(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("the scripts") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { scripts(&path, found) } else { found.push(path) }
    }
}

#[test]
fn golden_scripts() {
    let mut paths = Vec::new();
    scripts(Path::new("testscripts"), &mut paths);
    let other = if cfg!(feature = "datafusion") { "without_datafusion" } else { "select_datafusion" };
    paths.retain(|path| !path.starts_with(Path::new("testscripts").join(other)));
    paths.sort();
    assert!(!paths.is_empty(), "no scripts");
    let mut failed = Vec::new();
    for path in paths {
        let text = std::fs::read_to_string(&path).expect("a readable script");
        let result = run_script(&text);
        if result == text {
            continue;
        }
        if std::env::var_os("UPDATE_GOLDENFILES").is_some() {
            std::fs::write(&path, result).expect("a writable script");
            continue;
        }
        let differs = text.lines().zip(result.lines()).position(|(a, b)| a != b).unwrap_or(0);
        let context = |text: &str| text.lines().skip(differs.saturating_sub(3)).take(8).collect::<Vec<_>>().join("\n");
        failed.push(format!(
            "{} line {}:\n{}\n--- is now\n{}",
            path.display(),
            differs + 1,
            context(&text),
            context(&result)
        ));
    }
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}

/// The futures of a session can run on any thread.
#[test]
fn futures_are_send() {
    fn assert_send<T: Send>(future: T) -> T {
        future
    }
    let database = Database::new(MapEngine::new());
    let mut session = database.session();
    let mut sink = TextSink::default();
    block_on(assert_send(session.execute("SELECT 1", &[], &mut sink))).unwrap();
    block_on(assert_send(session.prepare("p", "SELECT 1"))).unwrap();
    block_on(assert_send(session.execute_prepared("p", &[], &mut sink))).unwrap();
    block_on(assert_send(database.refresh_catalog())).unwrap();
    block_on(assert_send(session.close()));
}

/// A client that goes away in the middle of a result leaves a usable session.
#[test]
fn a_broken_sink_stops_the_statement() {
    let database = Database::new(MapEngine::new());
    let mut session = database.session();
    let mut sink = TextSink { broken: true, ..TextSink::default() };
    let error = block_on(session.execute("SELECT 1", &[], &mut sink)).unwrap_err();
    assert_eq!(error.sqlstate, "57014");
    sink.broken = false;
    block_on(session.execute("SELECT 1", &[], &mut sink)).unwrap();
}
