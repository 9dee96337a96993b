//! Writes histories: the form of crate `check`, one event a line, in true order.
//!
//! Every event passes one lock, under which it gets its number and its time and is written: the
//! order of the lines is the order of the events as this process saw them, and their time never
//! falls.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

use check::{Event, Kind, Process};

enum Sink {
    Nothing,
    Memory(Vec<Event>),
    File(BufWriter<File>),
}

struct State {
    next: u64,
    sink: Sink,
    error: Option<io::Error>,
}

/// Records a history as it happens, into a file or into memory.
pub struct Recorder {
    began: Instant,
    path: Option<PathBuf>,
    state: Mutex<State>,
}

impl Recorder {
    /// Creates or truncates the file. Without one, the events are kept in memory if `keep` says so,
    /// and else dropped.
    pub fn create(path: Option<&Path>, keep: bool, began: Instant) -> io::Result<Recorder> {
        let sink = match path {
            Some(path) => Sink::File(BufWriter::with_capacity(1 << 20, File::create(path)?)),
            None if keep => Sink::Memory(Vec::new()),
            None => Sink::Nothing,
        };
        let state = Mutex::new(State { next: 0, sink, error: None });
        Ok(Recorder { began, path: path.map(Path::to_path_buf), state })
    }

    /// The file, if there is one.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn add(&self, process: Process, kind: Kind, fill: impl FnOnce(&mut Event)) {
        let mut event = Event::new(0, process, kind, 0);
        fill(&mut event);
        let mut state = self.lock();
        event.index = state.next;
        event.time_ns = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        state.next += 1;
        match &mut state.sink {
            Sink::Nothing => {}
            Sink::Memory(events) => events.push(event),
            Sink::File(file) => {
                if let Err(e) = writeln!(file, "{}", event.to_line()) {
                    state.error.get_or_insert(e);
                }
            }
        }
    }

    /// Records an event of a client, now; `fill` says what happened. A write error is kept for
    /// [`Recorder::flush`].
    pub fn record(&self, process: u64, kind: Kind, fill: impl FnOnce(&mut Event)) {
        self.add(Process::Client(process), kind, fill);
    }

    /// Records an event of something beside the clients, such as the nemesis, now.
    pub fn note(&self, process: &str, f: &str, value: serde_json::Value) {
        self.add(Process::Named(process.to_string()), Kind::Info, |event| {
            event.f = f.to_string();
            event.value = Some(value);
        });
    }

    /// Hands everything to the operating system. Returns the first error since the start.
    pub fn flush(&self) -> io::Result<()> {
        let mut state = self.lock();
        if let Sink::File(file) = &mut state.sink
            && let Err(e) = file.flush()
        {
            state.error.get_or_insert(e);
        }
        match &state.error {
            Some(e) => Err(io::Error::new(e.kind(), e.to_string())),
            None => Ok(()),
        }
    }

    /// The events so far: from memory, which is emptied, or from the file.
    pub fn events(&self) -> anyhow::Result<Vec<Event>> {
        self.flush().map_err(|e| anyhow::anyhow!("cannot write the history: {e}"))?;
        if let Some(path) = &self.path {
            return crate::check::read(path).map_err(anyhow::Error::msg);
        }
        match &mut self.lock().sink {
            Sink::Memory(events) => Ok(std::mem::take(events)),
            _ => Ok(Vec::new()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use check::{Key, Op};
    use serde_json::json;

    fn fill(recorder: &Recorder) {
        let append = vec![Op::Append(Key::Number(4), 17)];
        recorder.note("setup", "setup", json!({"workload": "append"}));
        recorder.record(1, Kind::Invoke, |e| e.txn = append.clone());
        recorder.record(2, Kind::Invoke, |e| {
            e.txn = vec![Op::Read(Key::Number(4))];
            e.read_ts = Some(77);
            e.stale = true;
        });
        recorder.record(1, Kind::Ok, |e| {
            e.txn = append.clone();
            e.commit_ts = Some(99);
            e.node = Some(2);
        });
        recorder.record(2, Kind::Info, |e| e.error = "gone".to_string());
    }

    #[test]
    fn what_is_recorded_is_read_again_from_the_file_or_from_memory() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("history.jsonl");
        let recorder = Recorder::create(Some(&path), false, Instant::now()).expect("a file");
        fill(&recorder);
        let mut events = recorder.events().expect("written");
        let memory = Recorder::create(None, true, Instant::now()).expect("memory");
        fill(&memory);
        let mut kept = memory.events().expect("kept");
        for event in events.iter_mut().chain(&mut kept) {
            event.time_ns = 0;
        }
        assert_eq!(events, kept);
        assert_eq!(events.iter().map(|e| e.index).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        assert_eq!(
            events[3].to_line(),
            r#"{"index":3,"process":1,"type":"ok","time_ns":0,"txn":[["append",4,17]],"commit_ts":99,"node":2}"#
        );
        assert_eq!(check::rules::broken(&events), Vec::<String>::new());
    }

    #[test]
    fn without_a_file_and_a_check_nothing_is_kept() {
        let recorder = Recorder::create(None, false, Instant::now()).expect("nothing");
        fill(&recorder);
        assert!(recorder.events().expect("nothing to write").is_empty());
    }
}
