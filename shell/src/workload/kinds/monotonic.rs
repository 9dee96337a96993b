//! `monotonic`: each transaction reads the largest number and inserts the next.
//!
//! Under serializability no number is given twice; under external consistency the numbers rise
//! with the commit timestamps. The largest is found by scans of ranges in all groups, so a phantom
//! in any of them shows.

use std::collections::BTreeMap;
use std::sync::Arc;

use check::{Anomaly, Event, Key, Kind, Op};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::workload::keys::{Groups, SPAN, place};
use crate::workload::plan::{Desk, Mode, Model, Plan, Planner, Step, Workload, key};

/// Numbers of a sequence, after which a new one begins elsewhere.
const INSERTS: u32 = 48;

/// Keys of a sequence in each group's range.
const ROWS: i64 = 1 + INSERTS as i64;

/// The workload.
pub struct Monotonic {
    desk: Arc<Desk>,
    sequences: Arc<Groups>,
}

impl Monotonic {
    /// On this desk.
    pub fn new(desk: Arc<Desk>) -> Monotonic {
        Monotonic { desk, sequences: Arc::new(Groups::new(1, 1, INSERTS)) }
    }
}

/// Scans of a sequence in all groups.
fn scans(sequence: i64, shards: i64) -> Vec<Op> {
    (0..shards).map(|shard| shard * SPAN + sequence * ROWS).map(|low| Op::Scan(low, low + ROWS, None)).collect()
}

/// The sequence that a key belongs to.
fn sequence_of(k: i64) -> i64 {
    k % SPAN / ROWS
}

impl Workload for Monotonic {
    fn model(&self) -> Model {
        Model::Registers
    }

    fn planner(&self, _client: u64) -> Box<dyn Planner> {
        Box::new(Client { desk: self.desk.clone(), sequences: self.sequences.clone() })
    }

    fn last_reads(&self) -> Vec<Plan> {
        let shards = self.desk.shards;
        self.sequences.all().into_iter().map(|n| Plan::ops(Mode::Strong, scans(n, shards))).collect()
    }

    fn audit(&self, events: &[Event]) -> Vec<Anomaly> {
        audit(events)
    }
}

/// Numbers rise with commit timestamps, and none is given twice.
fn audit(events: &[Event]) -> Vec<Anomaly> {
    let mut sequences: BTreeMap<i64, Vec<(i64, i64, u64)>> = BTreeMap::new();
    for event in events.iter().filter(|event| event.kind == Kind::Ok) {
        for op in &event.txn {
            if let (Op::Write(Key::Number(k), number), Some(ts)) = (op, event.commit_ts) {
                sequences.entry(sequence_of(*k)).or_default().push((ts, *number, event.index));
            }
        }
    }
    let mut anomalies = Vec::new();
    for (sequence, mut numbers) in sequences {
        numbers.sort_unstable();
        for pair in numbers.windows(2) {
            let ((ts, number, index), (next_ts, next, next_index)) = (pair[0], pair[1]);
            if next <= number {
                let story = format!(
                    "in sequence {sequence}, number {number} was inserted at {ts} (event {index}),\n\
                     and number {next} at {next_ts} (event {next_index})"
                );
                anomalies.push(Anomaly { name: "non-monotonic".to_string(), story });
            }
        }
    }
    anomalies
}

struct Client {
    desk: Arc<Desk>,
    sequences: Arc<Groups>,
}

impl Planner for Client {
    fn next(&mut self, rng: &mut ChaCha8Rng) -> Plan {
        let shards = self.desk.shards;
        if rng.random_range(0..3) == 0 {
            return Plan::ops(self.desk.reading(rng), scans(self.sequences.look(rng), shards));
        }
        let (sequence, used) = self.sequences.enter();
        // A row of its own for each try, in any group.
        let at = place(i64::from(used) * shards + rng.random_range(0..shards), shards);
        let k = at + sequence * ROWS;
        Plan::ops(Mode::ReadWrite, scans(sequence, shards)).then(Vec::new(), move |seen| {
            let rows = seen.iter().flat_map(|op| match op {
                Op::Scan(_, _, Some(rows)) => rows.as_slice(),
                _ => &[],
            });
            let largest = rows.map(|(_, number)| *number).max().unwrap_or(sequence * 1000);
            vec![Step::Do(Op::Write(key(k), largest + 1))]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use check::Process;

    #[test]
    fn a_number_given_twice_or_out_of_order_is_found() {
        let insert = |index: u64, k: i64, number: i64, ts: i64| {
            let mut event = Event::new(index, Process::Client(index), Kind::Ok, index);
            event.txn = vec![Op::Write(key(k), number)];
            event.commit_ts = Some(ts);
            event
        };
        let good = [insert(1, 0, 1, 10), insert(2, SPAN, 2, 20), insert(3, ROWS, 1001, 15)];
        assert!(audit(&good).is_empty());
        assert_eq!(audit(&[insert(1, 0, 1, 10), insert(2, SPAN, 1, 20)]).len(), 1, "twice");
        assert_eq!(audit(&[insert(1, 0, 2, 10), insert(2, SPAN, 1, 20)]).len(), 1, "out of order");
    }
}
