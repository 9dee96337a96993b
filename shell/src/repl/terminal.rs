//! The conversation at a terminal.

use std::path::PathBuf;

use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{CompletionType, Config, Editor};

use super::complete::ShellHelper;
use super::prompt::prompt;
use super::{Flow, Shell};
use crate::lexer::Lexer;

/// How many statements the history keeps.
const HISTORY_MAX: usize = 10_000;

type LineEditor = Editor<ShellHelper, FileHistory>;

/// `~/.meridian_history`, or what `MERIDIAN_HISTORY` names.
fn history_path() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("MERIDIAN_HISTORY") {
        return Some(PathBuf::from(path)).filter(|path| !path.as_os_str().is_empty());
    }
    Some(PathBuf::from(std::env::var_os("HOME")?).join(".meridian_history"))
}

impl Shell {
    /// Reads and runs statements until the user leaves.
    pub(super) async fn talk(&mut self) -> anyhow::Result<()> {
        let config = Config::builder()
            .max_history_size(HISTORY_MAX)?
            .history_ignore_dups(true)?
            .history_ignore_space(true)
            .completion_type(CompletionType::List)
            .build();
        let mut editor: LineEditor = Editor::with_config(config)?;
        self.names.start(self.client.addresses().to_vec());
        editor.set_helper(Some(ShellHelper::new(self.names.clone())));
        let history = history_path();
        if let Some(path) = &history {
            let _ = editor.load_history(path);
        }
        self.greet();
        let mut entry = String::new();
        loop {
            let prompt = prompt(self.client.node(), &self.client.ready(), self.asof.as_deref(), &self.lexer);
            // Reading blocks; the connection's keepalive goes on meanwhile on other threads.
            let read = tokio::task::spawn_blocking(move || {
                let line = editor.readline(&prompt);
                (editor, line)
            });
            let (back, line) = read.await?;
            editor = back;
            match line {
                Ok(line) => {
                    if !entry.is_empty() {
                        entry.push('\n');
                    }
                    entry.push_str(&line);
                    let flow = self.feed(&format!("{line}\n")).await;
                    if !self.lexer.pending() {
                        let _ = editor.add_history_entry(entry.trim_end());
                        entry.clear();
                        if let Some(path) = &history {
                            let _ = editor.append_history(path);
                        }
                    }
                    if flow == Flow::Quit {
                        return Ok(());
                    }
                }
                Err(ReadlineError::Interrupted) => {
                    self.lexer = Lexer::default();
                    entry.clear();
                }
                Err(ReadlineError::Eof) => return Ok(()),
                Err(e) => return Err(e.into()),
            }
        }
    }

    fn greet(&mut self) {
        if let Some(hello) = self.client.hello().cloned() {
            let address = self.client.address().unwrap_or("").to_string();
            self.err.line(format!(
                "meridian {}: node n{} of {} at {address}. \\? lists the commands, \\q leaves.",
                hello.version,
                hello.node,
                hello.nodes.len().max(1)
            ));
        }
    }
}
