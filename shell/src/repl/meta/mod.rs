//! Meta-commands: lines that begin with a backslash.

mod describe;
mod faults;
mod help;
mod settings;

use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;

use super::execute::{asof_statement, interrupted};
use super::{Flow, Shell};
use crate::format;
use crate::last;

pub use faults::WORDS;

/// A meta-command as `\?` lists it.
pub struct Command {
    /// With its backslash.
    pub name: &'static str,
    /// What follows it.
    pub arguments: &'static str,
    /// What it does.
    pub help: &'static str,
}

const fn command(name: &'static str, arguments: &'static str, help: &'static str) -> Command {
    Command { name, arguments, help }
}

/// All meta-commands, in the order of `\?`.
pub const COMMANDS: &[Command] = &[
    command("\\?", "", "this list"),
    command("\\h", "[STATEMENT]", "syntax of SQL statements"),
    command("\\q", "", "leave"),
    command("\\g", "", "run the statement so far, as ; does"),
    command("\\gx", "", "the same, with the rows shown vertically"),
    command("\\p", "", "show the statement so far"),
    command("\\r", "", "forget the statement so far"),
    command("\\e", "[FILE]", "edit the statement so far, the last one, or a file, with $EDITOR"),
    command("\\i", "FILE", "run a file"),
    command("\\o", "[FILE | |COMMAND]", "send results to a file or a command, or back to the screen"),
    command("\\watch", "[SECONDS [TIMES]]", "run the statement again and again (2 s), until Ctrl-C"),
    command("\\!", "[COMMAND]", "run a command of the operating system's shell"),
    command("\\echo", "[TEXT]", "print a text"),
    command("\\set", "[NAME [VALUE]]", "set a variable, for :NAME, :'NAME' and :\"NAME\"; ON_ERROR_STOP is one"),
    command("\\unset", "NAME", "forget a variable"),
    command("\\format", "[table|vertical|csv|tsv|json]", "the form of results"),
    command("\\x", "[on|off]", "show rows vertically"),
    command("\\timing", "[on|off]", "show how long each statement took"),
    command("\\conninfo", "", "the node, the session and its state"),
    command("\\l", "", "the database and its cluster"),
    command("\\d", "[TABLE]", "list the tables, or describe one; \\d+ adds its CREATE TABLE"),
    command("\\d+", "[TABLE]", "describe a table, with its CREATE TABLE"),
    command("\\dt", "", "list the tables"),
    command("\\tt", "", "TrueTime: the interval and epsilon of each node"),
    command("\\clock", "[SOURCE | N SOURCE]", "show the clocks, or choose the source of all nodes or of node N"),
    command("\\last", "", "the last commit: timestamp, participants, where its milliseconds went"),
    command("\\shards", "", "the ranges and who leads them"),
    command("\\groups", "", "the replicated groups"),
    command("\\nodes", "", "the nodes"),
    command("\\locks", "", "the locks"),
    command("\\txns", "", "the open transactions"),
    command("\\asof", "TIMESTAMP|-5s|now", "reads in this session happen then"),
    command("\\kill", "N ...|all", "in a demo's cluster: kill -9 these nodes, at once"),
    command("\\stop", "N ...|all", "in a demo's cluster: SIGTERM: the node hands over and stops"),
    command("\\restart", "N ...|all", "in a demo's cluster: start nodes; those that run are stopped gracefully before"),
    command("\\pause", "N ...|all", "in a demo's cluster: stop nodes with SIGSTOP"),
    command("\\resume", "N ...|all", "in a demo's cluster: let paused nodes go on"),
    command("\\partition", "1|23, 1>2, ring, bridge, off", "in a demo's cluster: who is not heard by whom"),
    command("\\skew", "N +40ms|drift=200ppm|step=+1s@5s|off", "in a demo's cluster: add a fault to a node's clock"),
    command("\\slow", "N [50ms [JITTER]]|off", "in a demo's cluster: delay all that a node sends and receives"),
    command("\\slow-disk", "N 20ms|off", "in a demo's cluster: delay each fsync of a node's log (injected)"),
    command("\\disconnect", "N ...|all", "in a demo's cluster: break the connections to other nodes, once"),
    command("\\heal", "[net]", "in a demo's cluster: end all faults, dead nodes started; or those of the network"),
    command("\\faults", "", "in a demo's cluster: the faults that are on"),
    command("\\demo", "", "in a demo's cluster: its nodes, their processes and data folders"),
];

/// A name as SQL wants it: with quotes if it needs them.
pub fn quoted(name: &str) -> String {
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if plain { name.to_string() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

/// A name as the user wrote it: quoted names keep their case, others are made lower case.
fn as_typed(name: &str) -> String {
    let name = name.trim_end_matches(';');
    if name.starts_with('"') { name.to_string() } else { quoted(&name.to_lowercase()) }
}

/// Splits arguments at blanks; quotes hold an argument together.
fn arguments(text: &str) -> Vec<String> {
    let (mut found, mut word, mut quote, mut any) = (Vec::new(), String::new(), None, false);
    for c in text.chars() {
        match quote {
            Some(q) if c == q => quote = None,
            Some(_) => word.push(c),
            None if c == '\'' => {
                quote = Some(c);
                any = true;
            }
            None if c.is_whitespace() => {
                if any || !word.is_empty() {
                    found.push(std::mem::take(&mut word));
                }
                any = false;
            }
            None => word.push(c),
        }
    }
    if any || !word.is_empty() {
        found.push(word);
    }
    found
}

impl Shell {
    /// Runs a meta-command. Boxed, because `\i` comes back here.
    pub(super) fn meta<'a>(&'a mut self, line: &'a str) -> BoxFuture<'a, Flow> {
        self.meta_command(line).boxed()
    }

    async fn meta_command(&mut self, line: &str) -> Flow {
        let end = line.find(char::is_whitespace).unwrap_or(line.len());
        let (name, rest) = (&line[..end], line[end..].trim());
        // As in psql, the shell command may follow its mark at once.
        let (name, rest) = if name.starts_with("\\!") { ("\\!", line[2..].trim()) } else { (name, rest) };
        let words = arguments(rest);
        let first = words.first().map(String::as_str);
        match name {
            "\\q" | "\\quit" => Flow::Quit,
            "\\?" => self.list_commands(),
            "\\h" | "\\help" => self.sql_help(rest.trim_end_matches(';')),
            "\\g" | "\\gx" => self.go(name == "\\gx").await,
            "\\p" => {
                let text = self.lexer.text().trim().to_string();
                let text = if text.is_empty() { self.last_sql.clone() } else { text };
                self.out.line(text);
                Flow::Done
            }
            "\\r" => {
                self.lexer = crate::lexer::Lexer::default();
                self.err.line("the statement so far is forgotten");
                Flow::Done
            }
            "\\e" => self.edit(first).await,
            "\\i" | "\\include" => match first {
                Some(path) => self.file(std::path::Path::new(path)).await,
                None => self.usage(name),
            },
            "\\o" => self.redirect(rest),
            "\\watch" => self.watch(&words).await,
            "\\!" => self.system(rest).await,
            "\\echo" => {
                let text = crate::lexer::interpolate(&words.join(" "), &self.variables);
                self.out.line(text);
                Flow::Done
            }
            "\\set" => self.set(&words),
            "\\unset" => match first {
                Some(name) => {
                    self.variables.remove(name);
                    Flow::Done
                }
                None => self.usage(name),
            },
            "\\format" => self.choose_format(first),
            "\\x" => {
                let wanted = self.switch(first, self.expanded);
                wanted.map_or(Flow::Failed, |on| {
                    self.expanded = on;
                    self.err.line(format!("rows are shown {}", if on { "vertically" } else { "in a table" }));
                    Flow::Done
                })
            }
            "\\timing" => {
                let wanted = self.switch(first, self.timing);
                wanted.map_or(Flow::Failed, |on| {
                    self.timing = on;
                    self.err.line(format!("timing is {}", if on { "on" } else { "off" }));
                    Flow::Done
                })
            }
            "\\conninfo" => self.connection_info(),
            "\\l" => self.database().await,
            "\\dt" => self.query("SHOW TABLES").await,
            "\\d" | "\\d+" => match first {
                None => self.query("SHOW TABLES").await,
                Some(table) => self.describe(&as_typed(table), name == "\\d+").await,
            },
            "\\tt" => self.query("SHOW CLOCK").await,
            "\\clock" => self.clock(&words).await,
            "\\last" => self.last(),
            "\\shards" => self.query("SHOW RANGES").await,
            "\\groups" => self.query("SHOW GROUPS").await,
            "\\nodes" => self.query("SHOW NODES").await,
            "\\locks" => self.query("SHOW LOCKS").await,
            "\\txns" => self.query("SHOW TRANSACTIONS").await,
            "\\asof" => self.asof(&words).await,
            "\\demo" => self.demo_nodes().await,
            "\\faults" => self.faults().await,
            _ if faults::NAMES.contains(&name) => self.hurt(name, &words).await,
            _ => self.complain(&format!("there is no command {name}; \\? lists them")),
        }
    }

    fn usage(&mut self, name: &str) -> Flow {
        let arguments = COMMANDS.iter().find(|c| c.name == name).map_or("", |c| c.arguments);
        self.complain(&format!("usage: {name} {arguments}"))
    }

    /// An on/off argument; without one the present state is turned.
    fn switch(&mut self, word: Option<&str>, now: bool) -> Option<bool> {
        match word {
            None => Some(!now),
            Some("on" | "1" | "true") => Some(true),
            Some("off" | "0" | "false") => Some(false),
            Some(other) => {
                self.complain(&format!("'{other}' is neither on nor off"));
                None
            }
        }
    }

    /// Runs the statement so far, or else the last one.
    async fn go(&mut self, vertical: bool) -> Flow {
        let sql = self.lexer.take();
        let sql = if sql.is_empty() { self.last_sql.clone() } else { sql };
        if sql.is_empty() {
            return self.complain("there is no statement to run");
        }
        let before = self.expanded;
        self.expanded |= vertical;
        let flow = self.statement(&sql).await;
        self.expanded = before;
        flow
    }

    async fn watch(&mut self, words: &[String]) -> Flow {
        let parsed = words.first().map_or(Ok(Duration::from_secs(2)), |w| crate::units::parse_duration(w));
        let times = words.get(1).map_or(Ok(u64::MAX), |w| w.parse::<u64>());
        let (Ok(pause), Ok(times)) = (parsed, times) else {
            return self.usage("\\watch");
        };
        let sql = self.lexer.take();
        let sql = if sql.is_empty() { self.last_sql.clone() } else { sql };
        if sql.is_empty() {
            return self.complain("there is no statement to watch");
        }
        for round in 0..times {
            if round > 0 {
                let stop = tokio::select! {
                    () = tokio::time::sleep(pause) => false,
                    () = interrupted(&mut self.interrupt) => true,
                };
                if stop {
                    break;
                }
            }
            if !self.format.is_for_programs() {
                let now = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
                self.out.line(format!("{now} (every {pause:?})\n"));
            }
            let flow = self.statement(&sql).await;
            if flow != Flow::Done || self.out.closed() {
                return flow;
            }
        }
        Flow::Done
    }

    async fn clock(&mut self, words: &[String]) -> Flow {
        let literal = |spec: &[String]| format!("'{}'", spec.join(" ").replace('\'', "''"));
        let sql = match words {
            [] => "SHOW CLOCK".to_string(),
            [node, spec @ ..] if !spec.is_empty() && node.trim_start_matches('n').parse::<u64>().is_ok() => {
                format!("SET NODE {} CLOCK = {}", node.trim_start_matches('n'), literal(spec))
            }
            spec => format!("SET CLUSTER CLOCK = {}", literal(spec)),
        };
        let flow = self.query(&sql).await;
        if flow == Flow::Done && !words.is_empty() { self.query("SHOW CLOCK").await } else { flow }
    }

    async fn asof(&mut self, words: &[String]) -> Flow {
        if words.is_empty() {
            let at = self.asof.clone().unwrap_or_else(|| "now".to_string());
            self.out.line(format!("reads are as of {at}"));
            return Flow::Done;
        }
        let at = words.join(" ");
        let at = at.trim_end_matches(';');
        let present = at.eq_ignore_ascii_case("now") || at.eq_ignore_ascii_case("default");
        let format = std::mem::replace(&mut self.format, format::Format::Csv);
        let flow = self.query(&asof_statement((!present).then_some(at))).await;
        self.format = format;
        if flow == Flow::Done {
            self.err.line(format!("reads are as of {}", if present { "now" } else { at }));
        }
        flow
    }

    fn last(&mut self) -> Flow {
        match &self.last_commit {
            None => self.complain("nothing was committed in this shell yet"),
            Some(commit) => {
                for line in last::describe(commit) {
                    self.out.line(line);
                }
                Flow::Done
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_and_names() {
        assert_eq!(arguments("  a 'b c'  d''  '' "), ["a", "b c", "d", ""]);
        assert_eq!(quoted("accounts"), "accounts");
        assert_eq!(quoted("Odd \"one\""), "\"Odd \"\"one\"\"\"");
        assert_eq!(as_typed("Accounts;"), "accounts");
        assert_eq!(as_typed("\"Accounts\""), "\"Accounts\"");
    }
}
