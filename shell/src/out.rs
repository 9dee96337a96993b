//! Where output goes: stdout, stderr, a file, a command's input, or memory in tests.
//!
//! A reader that closes its end (`meridian sql ... | head`) is no error: what follows is dropped
//! quietly, and [`Out::closed`] tells a long loop that it may stop.

use std::fs::File;
use std::io::{self, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

enum Sink {
    Stdout(io::BufWriter<io::Stdout>),
    Stderr(io::Stderr),
    File(io::BufWriter<File>),
    Pipe(Child),
    Memory(Arc<Mutex<Vec<u8>>>),
}

/// A writer that survives a closed pipe.
pub struct Out {
    sink: Sink,
    closed: bool,
}

impl Out {
    fn new(sink: Sink) -> Out {
        Out { sink, closed: false }
    }

    /// Standard output, buffered until [`Out::flush`].
    pub fn stdout() -> Out {
        Out::new(Sink::Stdout(io::BufWriter::new(io::stdout())))
    }

    /// Standard error, unbuffered.
    pub fn stderr() -> Out {
        Out::new(Sink::Stderr(io::stderr()))
    }

    /// A new or truncated file. Fails as `File::create` does.
    pub fn file(path: &str) -> io::Result<Out> {
        Ok(Out::new(Sink::File(io::BufWriter::new(File::create(path)?))))
    }

    /// The standard input of a shell command; dropping this waits for the command's end.
    pub fn pipe(command: &str) -> io::Result<Out> {
        let child = Command::new("sh").arg("-c").arg(command).stdin(Stdio::piped()).spawn()?;
        Ok(Out::new(Sink::Pipe(child)))
    }

    /// Memory, which the other half reads.
    pub fn memory() -> (Out, Arc<Mutex<Vec<u8>>>) {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        (Out::new(Sink::Memory(bytes.clone())), bytes)
    }

    /// True once the reader has gone.
    pub fn closed(&self) -> bool {
        self.closed
    }

    /// Writes a line and its newline; a write error other than a closed pipe is said on stderr.
    pub fn line(&mut self, text: impl AsRef<str>) {
        self.text(text);
        self.text("\n");
    }

    /// Writes text as it is.
    pub fn text(&mut self, text: impl AsRef<str>) {
        let _ = self.write_all(text.as_ref().as_bytes());
    }

    fn guard<T>(&mut self, result: io::Result<T>, instead: T) -> io::Result<T> {
        match result {
            Ok(value) => Ok(value),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Err(e),
            Err(e) => {
                if !self.closed && e.kind() != io::ErrorKind::BrokenPipe {
                    let _ = writeln!(io::stderr(), "cannot write the output: {e}");
                }
                self.closed = true;
                Ok(instead)
            }
        }
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.closed {
            return Ok(bytes.len());
        }
        let result = match &mut self.sink {
            Sink::Stdout(out) => out.write(bytes),
            Sink::Stderr(out) => out.write(bytes),
            Sink::File(out) => out.write(bytes),
            Sink::Pipe(child) => match child.stdin.as_mut() {
                Some(stdin) => stdin.write(bytes),
                None => Ok(bytes.len()),
            },
            Sink::Memory(memory) => {
                memory.lock().unwrap_or_else(|e| e.into_inner()).extend_from_slice(bytes);
                Ok(bytes.len())
            }
        };
        self.guard(result, bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.closed {
            return Ok(());
        }
        let result = match &mut self.sink {
            Sink::Stdout(out) => out.flush(),
            Sink::Stderr(out) => out.flush(),
            Sink::File(out) => out.flush(),
            Sink::Pipe(child) => child.stdin.as_mut().map_or(Ok(()), |stdin| stdin.flush()),
            Sink::Memory(_) => Ok(()),
        };
        self.guard(result, ())
    }
}

impl Drop for Out {
    fn drop(&mut self) {
        let _ = self.flush();
        if let Sink::Pipe(child) = &mut self.sink {
            drop(child.stdin.take());
            let _ = child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_collects_and_a_finished_command_is_no_error() {
        let (mut out, bytes) = Out::memory();
        out.line("a");
        out.text("b");
        assert_eq!(bytes.lock().unwrap().as_slice(), b"a\nb");
        let mut pipe = Out::pipe("exec true").expect("sh");
        let lines = "x".repeat(1 << 20);
        pipe.line(&lines);
        pipe.line(&lines);
        assert!(pipe.closed(), "the command read nothing and ended");
    }
}
