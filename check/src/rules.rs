//! The rules that a history must keep to prove anything, and its transactions.
//!
//! The lines are in true order; each process does one thing at a time; a process whose operation
//! ended in doubt is gone; `fail` is only said of what certainly had no effect; each value is written
//! once. A history that breaks them proves nothing, whatever it contains: that is an anomaly too,
//! named `bad-history`.

use std::collections::{BTreeMap, BTreeSet};

use crate::Verdict;
use crate::history::{Event, Key, Kind, Op, Process, Value};

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It took effect.
    Committed,
    /// It certainly had none.
    Aborted,
    /// Nobody knows.
    Unknown,
}

/// A transaction: an `invoke` with its end.
#[derive(Clone, Debug)]
pub struct Txn {
    /// Who.
    pub process: u64,
    /// The position of its `invoke` among the events.
    pub begin: usize,
    /// The position of its `ok` or `fail`; `None` if nobody knows how it ended.
    pub end: Option<usize>,
    /// The numbers that the history gives both.
    pub index: (u64, Option<u64>),
    /// When both were, in nanoseconds.
    pub time_ns: (u64, Option<u64>),
    /// How it ended.
    pub fate: Fate,
    /// What it did; of reads that did not end well, only what they asked.
    pub ops: Vec<Op>,
    /// If it is known to have committed then.
    pub commit_ts: Option<i64>,
    /// If it read without locks.
    pub read_ts: Option<i64>,
    /// The timestamp that it asked for.
    pub asked_ts: Option<i64>,
    /// It asked for a past time.
    pub stale: bool,
    /// The database's name for it.
    pub name: String,
    /// What its status said, if it was asked.
    pub status: String,
}

impl Txn {
    /// What it is, in one line.
    pub fn tell(&self) -> String {
        let ops: Vec<String> =
            self.ops.iter().map(|op| serde_json::to_string(op).expect("an operation is plain data")).collect();
        let end = self.index.1.map_or("?".to_string(), |index| index.to_string());
        let mut line = format!("process {}, events {}..{end}: {}", self.process, self.index.0, ops.join(" "));
        if let Some(ts) = self.commit_ts {
            line.push_str(&format!(", committed at {ts}"));
        }
        if let Some(ts) = self.read_ts {
            line.push_str(&format!(", read at {ts}"));
        }
        match self.fate {
            Fate::Committed => {}
            Fate::Aborted => line.push_str(", failed"),
            Fate::Unknown => line.push_str(", in doubt"),
        }
        if !self.status.is_empty() {
            line.push_str(&format!(", status {}", self.status));
        }
        line
    }

    /// Whether it may have taken effect.
    pub fn possible(&self) -> bool {
        self.fate != Fate::Aborted
    }
}

/// What is wrong with a history as a history, apart from what it says of the database.
pub fn broken(events: &[Event]) -> Vec<String> {
    let mut verdict = Verdict::default();
    transactions(events, &mut verdict);
    verdict.anomalies.into_iter().map(|anomaly| anomaly.story).collect()
}

/// The transactions of a history, in the order of their beginnings.
pub fn transactions(events: &[Event], verdict: &mut Verdict) -> Vec<Txn> {
    let mut txns: Vec<Txn> = Vec::new();
    let mut busy: BTreeMap<u64, usize> = BTreeMap::new();
    let mut gone: BTreeSet<u64> = BTreeSet::new();
    let mut last: Option<(u64, u64)> = None;
    for (at, event) in events.iter().enumerate() {
        if let Some((index, time_ns)) = last
            && (event.index <= index || event.time_ns < time_ns)
        {
            let next = event.index;
            bad(verdict, || format!("event {next} does not follow event {index}: numbers rise, and time never falls"));
        }
        last = Some((event.index, event.time_ns));
        let Process::Client(process) = event.process else { continue };
        if event.kind == Kind::Invoke {
            if gone.contains(&process) {
                bad(verdict, || format!("event {}: process {process} was in doubt, and is used again", event.index));
            }
            if busy.contains_key(&process) {
                bad(verdict, || format!("event {}: process {process} does two things at once", event.index));
            }
            busy.insert(process, txns.len());
            txns.push(Txn {
                process,
                begin: at,
                end: None,
                index: (event.index, None),
                time_ns: (event.time_ns, None),
                fate: Fate::Unknown,
                ops: event.txn.clone(),
                commit_ts: None,
                read_ts: None,
                asked_ts: event.read_ts,
                stale: event.stale,
                name: event.transaction.clone(),
                status: String::new(),
            });
            continue;
        }
        let Some(txn) = busy.remove(&process) else {
            bad(verdict, || format!("event {}: process {process} ends what it has not begun", event.index));
            continue;
        };
        let txn = &mut txns[txn];
        txn.status = event.status.clone();
        if !event.transaction.is_empty() {
            txn.name = event.transaction.clone();
        }
        match event.kind {
            Kind::Ok => {
                txn.fate = Fate::Committed;
                txn.ops = event.txn.clone();
                (txn.commit_ts, txn.read_ts) = (event.commit_ts, event.read_ts);
            }
            Kind::Fail => txn.fate = Fate::Aborted,
            _ => {
                // What it came to write may depend on what it read, and be known only at the end.
                if !event.txn.is_empty() {
                    txn.ops = event.txn.iter().map(asked).collect();
                }
                gone.insert(process);
                continue;
            }
        }
        txn.end = Some(at);
        txn.index.1 = Some(event.index);
        txn.time_ns.1 = Some(event.time_ns);
    }
    values_are_unique(&txns, verdict);
    txns
}

/// An operation without its answer.
fn asked(op: &Op) -> Op {
    match op {
        Op::ReadList(key, _) | Op::ReadValue(key, _) => Op::Read(key.clone()),
        Op::Scan(low, high, _) => Op::Scan(*low, *high, None),
        Op::Total(accounts, _) => Op::Total(*accounts, None),
        op => op.clone(),
    }
}

fn values_are_unique(txns: &[Txn], verdict: &mut Verdict) {
    let mut seen: BTreeSet<(&str, &Key, Value)> = BTreeSet::new();
    let mut count = 0u64;
    for txn in txns {
        for op in &txn.ops {
            let (what, key, value) = match op {
                Op::Append(key, value) => ("append", key, *value),
                Op::Add(key, value) => ("add", key, *value),
                Op::Write(key, value) | Op::Cas(key, _, value) => ("write", key, *value),
                _ => continue,
            };
            count += 1;
            // To add one element to a set by several clients at once may be what the workload is about.
            if !seen.insert((what, key, value)) && what != "add" {
                bad(verdict, || {
                    format!("{value} is written to {key} twice, so its reads prove nothing: {}", txn.tell())
                });
            }
        }
    }
    verdict.checked.push(format!("the rules of a history, and {count} written values"));
}

fn bad(verdict: &mut Verdict, story: impl FnOnce() -> String) {
    verdict.found("bad-history", story);
}
