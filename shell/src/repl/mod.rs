//! The SQL shell of `meridian sql` and `meridian demo`.
//!
//! Text comes in line by line, from a terminal, a file, `-e` or standard input; the [`Lexer`]
//! cuts it into statements and meta-commands; each runs to its end before the next. Results go to
//! standard output and all else to standard error. At a terminal an error ends the statement;
//! elsewhere it ends the shell, with exit code 1.

mod complete;
mod execute;
mod meta;
mod prompt;
mod terminal;

use std::collections::BTreeMap;
use std::io::{BufRead, IsTerminal, Write as _};
use std::path::{Path, PathBuf};

use proto::v1::Commit;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::args::SqlArgs;
use crate::client::{Client, ClientOptions};
use crate::format::Format;
use crate::lexer::{Lexer, Piece};
use crate::out::Out;

/// How deep `\i` may nest.
const INCLUDE_DEPTH_MAX: usize = 16;

/// What a shell is started with.
#[derive(Clone)]
pub struct ReplOptions {
    /// Nodes to try.
    pub connect: Vec<String>,
    /// Texts to run instead of reading standard input.
    pub execute: Vec<String>,
    /// A file to run after them; `-` is standard input.
    pub file: Option<PathBuf>,
    /// The form of results.
    pub format: Format,
}

impl From<&SqlArgs> for ReplOptions {
    fn from(args: &SqlArgs) -> ReplOptions {
        ReplOptions {
            connect: args.connect.addresses(),
            execute: args.execute.clone(),
            file: args.file.clone(),
            format: args.format,
        }
    }
}

/// How a statement, a command or a script ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Well.
    Done,
    /// An error was shown.
    Failed,
    /// The user wants to leave.
    Quit,
}

impl Flow {
    fn of(good: bool) -> Flow {
        if good { Flow::Done } else { Flow::Failed }
    }
}

/// Runs a shell until its input ends, and returns the exit code.
pub async fn run(options: ReplOptions) -> anyhow::Result<i32> {
    let scripted = !options.execute.is_empty() || options.file.is_some();
    let interactive = !scripted && std::io::stdin().is_terminal();
    let mut err = Out::stderr();
    let client = match Client::connect_with(&options.connect, ClientOptions::default()).await {
        Ok(client) => client,
        Err(e) => {
            err.line(format!("ERROR:  {e}"));
            err.line("HINT:  Start a cluster with 'meridian demo', or say where it is with --connect.");
            return Ok(1);
        }
    };
    let mut shell = Shell::new(client, Out::stdout(), err);
    shell.format = options.format;
    if interactive {
        shell.interrupt = Some(signal(SignalKind::interrupt())?);
        shell.interactive = true;
        shell.colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        shell.talk().await?;
        return Ok(0);
    }
    let mut flow = Flow::Done;
    for text in &options.execute {
        if flow == Flow::Done {
            flow = shell.script(text).await;
        }
    }
    if flow == Flow::Done {
        match &options.file {
            Some(path) => flow = shell.file(path).await,
            None if options.execute.is_empty() => {
                flow = shell.lines(&mut std::io::BufReader::new(std::io::stdin())).await
            }
            None => {}
        }
    }
    let _ = shell.out.flush();
    Ok(i32::from(flow == Flow::Failed))
}

/// A shell's state.
pub struct Shell {
    client: Client,
    out: Out,
    err: Out,
    format: Format,
    /// `\x`: rows are shown vertically.
    expanded: bool,
    timing: bool,
    interactive: bool,
    colour: bool,
    lexer: Lexer,
    last_sql: String,
    last_commit: Option<Commit>,
    variables: BTreeMap<String, String>,
    /// What the session's reads are as of, as the user wrote it.
    asof: Option<String>,
    names: complete::SharedNames,
    interrupt: Option<Signal>,
    include_depth: usize,
}

impl Shell {
    /// A shell for scripts: it stops at the first error.
    pub fn new(client: Client, out: Out, err: Out) -> Shell {
        Shell {
            client,
            out,
            err,
            format: Format::Table,
            expanded: false,
            timing: false,
            interactive: false,
            colour: false,
            lexer: Lexer::default(),
            last_sql: String::new(),
            last_commit: None,
            variables: BTreeMap::new(),
            asof: None,
            names: complete::SharedNames::default(),
            interrupt: None,
            include_depth: 0,
        }
    }

    /// Sets the form of results.
    pub fn set_format(&mut self, format: Format) {
        self.format = format;
    }

    fn stops_at_errors(&self) -> bool {
        match self.variables.get("ON_ERROR_STOP").map(String::as_str) {
            Some("off" | "0" | "false") => false,
            Some(_) => true,
            None => !self.interactive,
        }
    }

    /// The form in which rows are shown now.
    fn form(&self) -> Format {
        if self.expanded && self.format == Format::Table { Format::Vertical } else { self.format }
    }

    /// Runs what is complete after adding a text of whole lines.
    async fn feed(&mut self, text: &str) -> Flow {
        self.lexer.push(text);
        let mut result = Flow::Done;
        while let Some(piece) = self.lexer.next_piece() {
            let flow = match piece {
                Piece::Statement(sql) => self.statement(&sql).await,
                Piece::Meta(line) => self.meta(&line).await,
            };
            match flow {
                Flow::Done => {}
                Flow::Failed if !self.stops_at_errors() => result = Flow::Failed,
                stop => {
                    self.lexer = Lexer::default();
                    return stop;
                }
            }
        }
        result
    }

    /// Runs a whole text; its last statement needs no semicolon.
    pub async fn script(&mut self, text: &str) -> Flow {
        let flow = self.feed(&format!("{text}\n")).await;
        self.finish(flow).await
    }

    /// Runs what is left at the end of an input.
    async fn finish(&mut self, flow: Flow) -> Flow {
        if flow == Flow::Quit || (flow == Flow::Failed && self.stops_at_errors()) {
            self.lexer = Lexer::default();
            return flow;
        }
        let rest = self.lexer.take();
        if rest.is_empty() {
            return flow;
        }
        match self.statement(&rest).await {
            Flow::Done => flow,
            other => other,
        }
    }

    /// Runs all lines of an input.
    async fn lines(&mut self, input: &mut (dyn BufRead + Send)) -> Flow {
        let mut result = Flow::Done;
        loop {
            let mut bytes = Vec::new();
            match input.read_until(b'\n', &mut bytes) {
                Ok(0) => return self.finish(result).await,
                Ok(_) => {}
                Err(e) => return self.complain(&format!("cannot read the input: {e}")),
            }
            let Ok(line) = String::from_utf8(bytes) else {
                return self.complain("the input is not UTF-8 text");
            };
            match self.feed(&line).await {
                Flow::Done => {}
                Flow::Failed if !self.stops_at_errors() => result = Flow::Failed,
                stop => return stop,
            }
            if self.out.closed() {
                return Flow::Quit;
            }
        }
    }

    /// Runs a file; `-` is standard input.
    async fn file(&mut self, path: &Path) -> Flow {
        if path == Path::new("-") {
            return self.lines(&mut std::io::BufReader::new(std::io::stdin())).await;
        }
        let file = match std::fs::File::open(path) {
            Ok(file) => file,
            Err(e) => return self.complain(&format!("cannot open {}: {e}", path.display())),
        };
        if self.include_depth >= INCLUDE_DEPTH_MAX {
            return self.complain("files include each other too deeply");
        }
        self.include_depth += 1;
        // The including text waits, so that the file begins with an empty buffer.
        let outer = std::mem::take(&mut self.lexer);
        let flow = self.lines(&mut std::io::BufReader::new(file)).await;
        self.lexer = outer;
        self.include_depth -= 1;
        flow
    }

    /// Shows an error of the shell's own.
    fn complain(&mut self, what: &str) -> Flow {
        let label = self.error_label();
        self.err.line(format!("{label}  {what}"));
        Flow::Failed
    }

    fn error_label(&self) -> &'static str {
        if self.colour { "\x1b[1;31mERROR:\x1b[0m" } else { "ERROR:" }
    }
}
