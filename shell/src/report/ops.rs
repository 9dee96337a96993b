//! The operations of a history: each `invoke` with its end, and what kind of work it was.

use std::collections::BTreeMap;

use check::{Event, Key, Kind, Op, Process};

use super::summary::Setup;
use crate::workload::keys::SPAN;

/// What kind of work an operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Work {
    /// A transaction that writes.
    Write,
    /// A transaction that reads with locks.
    LockingRead,
    /// A read of the present, without locks.
    StrongRead,
    /// A read of a chosen past time.
    PastRead,
}

impl Work {
    /// All, in the order of a report.
    pub const ALL: [Work; 4] = [Work::Write, Work::LockingRead, Work::StrongRead, Work::PastRead];

    /// Its name in a report.
    pub fn name(self) -> &'static str {
        match self {
            Work::Write => "writes",
            Work::LockingRead => "reads with locks",
            Work::StrongRead => "reads of the present",
            Work::PastRead => "reads of the past",
        }
    }
}

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Acknowledged.
    Ok,
    /// It certainly had no effect.
    Failed,
    /// Nobody knows, or the history ends before it does.
    Unknown,
}

/// An operation.
#[derive(Clone, Debug)]
pub struct Done {
    /// When it was asked for.
    pub began_ns: u64,
    /// When its end was known; that of the history if never.
    pub ended_ns: u64,
    /// What it was.
    pub work: Work,
    /// How it ended.
    pub end: End,
    /// Its answer was lost, and its status was asked for.
    pub asked: bool,
    /// Who answered.
    pub node: Option<u64>,
    /// Which ranges of keys it touched: a bit each, of the first 64.
    pub ranges: u64,
}

impl Done {
    /// How long it took.
    pub fn took_ns(&self) -> u64 {
        self.ended_ns.saturating_sub(self.began_ns)
    }
}

/// All operations, in the order of their ends.
pub fn of(events: &[Event], setup: &Setup) -> Vec<Done> {
    let mut open: BTreeMap<u64, &Event> = BTreeMap::new();
    let mut done = Vec::new();
    for event in events {
        let Process::Client(process) = event.process else { continue };
        if event.kind == Kind::Invoke {
            // A process does one thing at a time; what a broken history left open stays unknown.
            if let Some(before) = open.insert(process, event) {
                done.push(finish(before, None, event.time_ns, setup));
            }
        } else if let Some(begin) = open.remove(&process) {
            done.push(finish(begin, Some(event), event.time_ns, setup));
        }
    }
    let last = events.iter().map(|e| e.time_ns).max().unwrap_or(0);
    done.extend(open.into_values().map(|begin| finish(begin, None, last, setup)));
    done.sort_by_key(|d| d.ended_ns);
    done
}

fn finish(begin: &Event, end: Option<&Event>, ended_ns: u64, setup: &Setup) -> Done {
    let txn = end.map(|e| &e.txn).filter(|txn| !txn.is_empty()).unwrap_or(&begin.txn);
    let work = if begin.txn.iter().chain(txn).any(writes) {
        Work::Write
    } else if begin.stale {
        Work::PastRead
    } else if end.is_some_and(|e| e.read_ts.is_some()) {
        Work::StrongRead
    } else {
        Work::LockingRead
    };
    Done {
        began_ns: begin.time_ns.min(ended_ns),
        ended_ns,
        work,
        end: match end.map(|e| e.kind) {
            Some(Kind::Ok) => End::Ok,
            Some(Kind::Fail) => End::Failed,
            _ => End::Unknown,
        },
        asked: end.is_some_and(|e| !e.status.is_empty()),
        node: end.and_then(|e| e.node).or(begin.node),
        ranges: txn.iter().filter_map(|op| range(op, setup)).fold(0, |all, range| all | 1 << range),
    }
}

fn writes(op: &Op) -> bool {
    match op {
        Op::Append(..) | Op::Write(..) | Op::Delete(_) | Op::Cas(..) | Op::Add(..) | Op::Transfer(..) => true,
        Op::Read(_) | Op::ReadList(..) | Op::ReadValue(..) | Op::Scan(..) | Op::Total(..) => false,
    }
}

/// The range that a key lies in, where the workload's way to place keys is known.
fn range(op: &Op, setup: &Setup) -> Option<u32> {
    let key = match op {
        Op::Append(k, _) | Op::Read(k) | Op::ReadList(k, _) | Op::ReadValue(k, _) => k,
        Op::Write(k, _) | Op::Delete(k) | Op::Cas(k, ..) | Op::Add(k, _) => k,
        Op::Scan(low, ..) => &Key::Number(*low),
        Op::Transfer(..) | Op::Total(..) => return None,
    };
    let (Key::Number(key), true) = (key, setup.keys_by_span) else { return None };
    let range = key.div_euclid(SPAN);
    u32::try_from(range).ok().filter(|range| *range < 64 && i64::from(*range) < setup.shards)
}
