//! A recorded history: one JSON object a line, in true order.
//!
//! Every event passes one lock, under which its time is read and its line is written: the order
//! of the lines is the order of the events as this process saw them, and `time` never falls. An
//! operation is an `invoke` and then one of
//!
//! - `ok`: acknowledged, or found committed by its transaction's status;
//! - `fail`: certainly without effect;
//! - `info`: nobody knows. Its process number is never used again.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufWriter, Write};
use std::path::Path;
use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

use serde::{Deserialize, Serialize};

/// The phase of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The first line: how the workload was set up.
    Setup,
    /// It begins.
    Invoke,
    /// It took effect.
    Ok,
    /// It had no effect.
    Fail,
    /// Not known.
    Info,
}

/// What an operation does, or did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "f", rename_all = "lowercase")]
pub enum Op {
    /// The set-up.
    Bank {
        /// How many accounts there are, from 0.
        accounts: i64,
        /// What each held at first.
        initial_balance: i64,
        /// Names this run's rows in the ledger.
        run: i64,
        /// Whether transfers write the ledger.
        ledger: bool,
        /// Of the random choices.
        seed: u64,
    },
    /// Money moves.
    Transfer {
        /// The client that asked, for the ledger.
        client: i64,
        /// Its how many-th transfer.
        seq: i64,
        /// The account it leaves.
        from: i64,
        /// The account it reaches.
        to: i64,
        /// How much.
        amount: i64,
        /// The transaction, if known.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        transaction: String,
        /// When it committed, in nanoseconds, if known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        commit_ts: Option<i64>,
    },
    /// All balances are summed.
    Read {
        /// At this timestamp in nanoseconds; known beforehand only for a past read.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        read_ts: Option<i64>,
        /// A chosen past time, which owes nothing to real time.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        stale: bool,
        /// The sum.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        total: Option<i64>,
    },
}

/// A line of the history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Nanoseconds since the run began, by one monotonic clock.
    pub time: u64,
    /// Who: one operation at a time.
    pub process: u64,
    /// The phase.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// The operation.
    #[serde(flatten)]
    pub op: Op,
    /// The node that was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<u64>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error: String,
}

/// Writes a history; without a file it writes nothing.
pub struct Recorder {
    began: Instant,
    file: Option<Mutex<(BufWriter<File>, Option<io::Error>)>>,
}

impl Recorder {
    /// Creates or truncates the file.
    pub fn create(path: Option<&Path>, began: Instant) -> io::Result<Recorder> {
        let file = match path {
            Some(path) => Some(Mutex::new((BufWriter::with_capacity(1 << 20, File::create(path)?), None))),
            None => None,
        };
        Ok(Recorder { began, file })
    }

    fn lock(&self) -> Option<MutexGuard<'_, (BufWriter<File>, Option<io::Error>)>> {
        self.file.as_ref().map(|file| file.lock().unwrap_or_else(|e| e.into_inner()))
    }

    /// Records an event, now. A write error is kept for [`Recorder::flush`].
    pub fn record(&self, process: u64, kind: Kind, op: Op, node: Option<u64>, error: &str) {
        let Some(mut file) = self.lock() else { return };
        let time = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let event = Event { time, process, kind, op, node, error: error.to_string() };
        let line = serde_json::to_string(&event).expect("an event is plain data");
        if let Err(e) = writeln!(file.0, "{line}") {
            file.1.get_or_insert(e);
        }
    }

    /// Hands everything to the operating system. Returns the first error since the start.
    pub fn flush(&self) -> io::Result<()> {
        let Some(mut file) = self.lock() else { return Ok(()) };
        if let Err(e) = file.0.flush() {
            file.1.get_or_insert(e);
        }
        match &file.1 {
            Some(e) => Err(io::Error::new(e.kind(), e.to_string())),
            None => Ok(()),
        }
    }
}

/// Reads a history. The error names the line.
pub fn read(path: &Path) -> anyhow::Result<Vec<Event>> {
    let file = File::open(path).map_err(|e| anyhow::anyhow!("cannot open {}: {e}", path.display()))?;
    let mut events = Vec::new();
    for (at, line) in io::BufReader::new(file).lines().enumerate() {
        let line = line?;
        if line.trim().is_empty() {
            continue;
        }
        let event = serde_json::from_str(&line);
        events.push(event.map_err(|e| anyhow::anyhow!("{}:{}: {e}", path.display(), at + 1))?);
    }
    Ok(events)
}

/// A history that breaks its own rules proves nothing: each process does one thing at a time, a
/// process in doubt is gone, and time does not fall. Returns what is wrong.
pub fn faults(events: &[Event]) -> Vec<String> {
    #[derive(Clone, Copy, PartialEq)]
    enum State {
        Idle,
        Busy,
        Gone,
    }
    let mut faults = Vec::new();
    let mut processes: BTreeMap<u64, State> = BTreeMap::new();
    let mut time = 0;
    for (at, event) in events.iter().enumerate() {
        let line = at + 1;
        if event.time < time {
            faults.push(format!("line {line}: time falls from {time} to {}", event.time));
        }
        time = event.time;
        let state = processes.entry(event.process).or_insert(State::Idle);
        let (expected, next) = match event.kind {
            Kind::Setup => continue,
            Kind::Invoke => (State::Idle, State::Busy),
            Kind::Ok | Kind::Fail => (State::Busy, State::Idle),
            Kind::Info => (State::Busy, State::Gone),
        };
        if *state != expected {
            faults.push(format!("line {line}: process {} cannot {:?} here", event.process, event.kind));
        }
        *state = next;
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transfer(transaction: &str, commit_ts: Option<i64>) -> Op {
        let transaction = transaction.to_string();
        Op::Transfer { client: 1, seq: 2, from: 3, to: 4, amount: 5, transaction, commit_ts }
    }

    #[test]
    fn lines_as_written_and_read_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("history.jsonl");
        let recorder = Recorder::create(Some(&path), Instant::now()).expect("a file");
        let read = |read_ts: Option<i64>, total: Option<i64>| {
            let stale = read_ts.is_some() && total.is_none();
            Op::Read { read_ts, stale, total }
        };
        recorder.record(1, Kind::Invoke, transfer("", None), Some(2), "");
        recorder.record(2, Kind::Invoke, read(Some(77), None), None, "");
        recorder.record(1, Kind::Ok, transfer("ab", Some(99)), Some(2), "");
        recorder.record(2, Kind::Ok, read(Some(77), Some(1000)), None, "");
        recorder.record(1, Kind::Invoke, transfer("", None), None, "");
        recorder.record(1, Kind::Info, transfer("cd", None), None, "gone");
        recorder.flush().expect("written");
        let text = std::fs::read_to_string(&path).expect("readable");
        let bare: Vec<String> =
            text.lines().map(|line| format!("{{{}", line.split_once(",").map_or("", |(_, rest)| rest))).collect();
        assert_eq!(
            bare[..3],
            [
                r#"{"process":1,"type":"invoke","f":"transfer","client":1,"seq":2,"from":3,"to":4,"amount":5,"node":2}"#,
                r#"{"process":2,"type":"invoke","f":"read","read_ts":77,"stale":true}"#,
                r#"{"process":1,"type":"ok","f":"transfer","client":1,"seq":2,"from":3,"to":4,"amount":5,"transaction":"ab","commit_ts":99,"node":2}"#,
            ]
        );
        let mut events = super::read(&path).expect("parsed");
        assert_eq!(events.len(), 6);
        assert_eq!(faults(&events), Vec::<String>::new());
        events.push(Event { kind: Kind::Invoke, ..events[5].clone() });
        assert_eq!(faults(&events).len(), 1, "a process in doubt is never used again");
    }
}
