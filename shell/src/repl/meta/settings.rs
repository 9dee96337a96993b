//! Meta-commands that change the shell, and those that leave it for a moment.

use std::process::Command;

use super::super::{Flow, Shell};
use crate::format::Format;
use crate::out::Out;

impl Shell {
    pub(super) fn set(&mut self, words: &[String]) -> Flow {
        match words {
            [] => {
                let lines: Vec<String> =
                    self.variables.iter().map(|(name, value)| format!("{name} = '{value}'")).collect();
                for line in lines {
                    self.out.line(line);
                }
            }
            [name, values @ ..] => {
                self.variables.insert(name.clone(), values.concat());
            }
        }
        Flow::Done
    }

    pub(super) fn choose_format(&mut self, name: Option<&str>) -> Flow {
        match name.map(Format::parse) {
            None => {
                let name = format!("{:?}", self.format).to_lowercase();
                self.out.line(format!("the format is {name}"));
                Flow::Done
            }
            Some(Ok(format)) => {
                self.format = format;
                Flow::Done
            }
            Some(Err(why)) => self.complain(&why),
        }
    }

    /// `\o`: a file, a command after a bar, or the screen again.
    pub(super) fn redirect(&mut self, target: &str) -> Flow {
        let opened = match target.strip_prefix('|') {
            Some(command) => Out::pipe(command),
            None if target.is_empty() => Ok(Out::stdout()),
            None => Out::file(target),
        };
        match opened {
            Ok(out) => {
                self.out = out;
                Flow::Done
            }
            Err(e) => self.complain(&format!("cannot open {target}: {e}")),
        }
    }

    /// `\!`: a command, or a shell of the system's.
    pub(super) async fn system(&mut self, command: &str) -> Flow {
        let mut process = Command::new("sh");
        if !command.is_empty() {
            process.arg("-c").arg(command);
        }
        let _ = std::io::Write::flush(&mut self.out);
        let ended = tokio::task::spawn_blocking(move || process.status()).await;
        // Ctrl-C was meant for the command.
        self.forget_interrupts();
        match ended {
            Ok(Ok(status)) if status.success() => Flow::Done,
            Ok(Ok(status)) => self.complain(&format!("the command ended with {status}")),
            Ok(Err(e)) => self.complain(&format!("cannot run a shell: {e}")),
            Err(e) => self.complain(&e.to_string()),
        }
    }

    fn forget_interrupts(&mut self) {
        use futures::FutureExt;
        if let Some(signal) = &mut self.interrupt {
            while let Some(Some(())) = signal.recv().now_or_never() {}
        }
    }

    /// `\e`: the statement so far, or else the last one, in an editor; what it leaves is run if it
    /// is complete.
    pub(super) async fn edit(&mut self, file: Option<&str>) -> Flow {
        let own = std::env::temp_dir().join(format!("meridian-edit-{}.sql", std::process::id()));
        let path = file.map_or_else(|| own.clone(), Into::into);
        if file.is_none() {
            let text = self.lexer.take();
            let text = if text.is_empty() && !self.last_sql.is_empty() { format!("{};", self.last_sql) } else { text };
            if let Err(e) = std::fs::write(&path, format!("{text}\n")) {
                return self.complain(&format!("cannot write {}: {e}", path.display()));
            }
        }
        let editor = ["VISUAL", "EDITOR"].iter().find_map(|name| std::env::var(name).ok().filter(|e| !e.is_empty()));
        let editor = editor.unwrap_or_else(|| "vi".to_string());
        let mut process = Command::new("sh");
        process.arg("-c").arg(format!("{editor} \"$1\"")).arg("sh").arg(&path);
        let ended = tokio::task::spawn_blocking(move || process.status()).await;
        self.forget_interrupts();
        let text = std::fs::read_to_string(&path);
        if file.is_none() {
            let _ = std::fs::remove_file(&own);
        }
        match (ended, text) {
            (Ok(Ok(status)), Ok(text)) if status.success() => {
                self.err.line(text.trim_end());
                Box::pin(self.feed(&text)).await
            }
            (Ok(Ok(status)), Ok(_)) => self.complain(&format!("the editor ended with {status}")),
            (_, Err(e)) => self.complain(&format!("cannot read {}: {e}", path.display())),
            (Ok(Err(e)), _) => self.complain(&format!("cannot start {editor}: {e}")),
            (Err(e), _) => self.complain(&e.to_string()),
        }
    }
}
