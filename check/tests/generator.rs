//! Histories of a little database that does everything right: it takes each transaction at one
//! instant between its invoke and its end, gives it the next timestamp, and keeps all versions.

use std::collections::BTreeMap;

use check::{Event, Key, Kind, Op, Process};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What is generated.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Transactions.
    pub transactions: u64,
    /// Clients that work at the same time.
    pub processes: u64,
    /// Keys in use at one time.
    pub keys: i64,
    /// A key is left after so many appends.
    pub appends: usize,
}

impl Settings {
    /// Quick, and with much contention.
    pub fn small() -> Settings {
        Settings { transactions: 300, processes: 5, keys: 3, appends: 8 }
    }

    /// As a workload would be.
    pub fn large() -> Settings {
        Settings { transactions: 100_000, processes: 20, keys: 10, appends: 32 }
    }
}

struct Open {
    ops: Vec<Op>,
    done: bool,
    stale: Option<i64>,
    commit_ts: Option<i64>,
    read_ts: Option<i64>,
    /// It will be lost: nobody hears of it.
    lost: bool,
    fails: bool,
}

/// A valid history.
pub fn generate(seed: u64, settings: &Settings) -> Vec<Event> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut events: Vec<Event> = Vec::new();
    let mut state: BTreeMap<i64, Vec<(i64, i64)>> = BTreeMap::new();
    let mut live: Vec<i64> = (0..settings.keys).collect();
    let mut next_key = settings.keys;
    let mut next_value = 0;
    let mut now: i64 = 1_000_000;
    let mut open: BTreeMap<u64, Open> = BTreeMap::new();
    let mut names: Vec<u64> = (0..settings.processes).collect();
    let mut next_name = settings.processes;
    let mut begun = 0;
    while begun < settings.transactions || !open.is_empty() {
        now += rng.random_range(1..20_000);
        let seat = rng.random_range(0..names.len());
        let process = names[seat];
        let event = |events: &mut Vec<Event>, kind| {
            let index = events.len() as u64;
            events.push(Event::new(index, Process::Client(process), kind, now as u64));
            events.len() - 1
        };
        let Some(work) = open.get_mut(&process) else {
            if begun == settings.transactions {
                continue;
            }
            begun += 1;
            let kind = rng.random_range(0..10);
            let writes = kind < 6;
            let mut ops = Vec::new();
            for _ in 0..rng.random_range(1..=if writes { 8 } else { 4 }) {
                let slot = rng.random_range(0..live.len());
                if writes && rng.random_range(0..2) == 0 {
                    next_value += 1;
                    ops.push(Op::Append(Key::Number(live[slot]), next_value));
                    if state.get(&live[slot]).is_some_and(|list| list.len() >= settings.appends) {
                        live[slot] = next_key;
                        next_key += 1;
                    }
                } else {
                    ops.push(Op::Read(Key::Number(live[slot])));
                }
            }
            let stale = (kind == 9).then(|| now - rng.random_range(0..1_000_000));
            let at = event(&mut events, Kind::Invoke);
            events[at].txn = ops.clone();
            (events[at].stale, events[at].read_ts) = (stale.is_some(), stale);
            let (lost, fails) = (rng.random_range(0..40) == 0, rng.random_range(0..20) == 0);
            let read_ts = (kind >= 7).then_some(0);
            open.insert(process, Open { ops, done: false, stale, commit_ts: None, read_ts, lost, fails });
            continue;
        };
        if !work.done {
            work.done = true;
            if work.fails || (work.lost && rng.random_range(0..2) == 0) {
                continue;
            }
            let ts = work.stale.unwrap_or(now);
            let snapshot = work.read_ts.is_some();
            let mut own: Vec<(i64, i64)> = Vec::new();
            for op in &mut work.ops {
                match op {
                    Op::Append(Key::Number(key), value) if !snapshot => own.push((*key, *value)),
                    Op::Read(Key::Number(key)) => {
                        let there = state.get(key).into_iter().flatten();
                        let there =
                            there.filter(|(at, _)| if snapshot { *at <= ts } else { *at < ts }).map(|(_, v)| *v);
                        let mine = own.iter().filter(|(k, _)| k == key).map(|(_, v)| *v);
                        let list = there.chain(mine).collect();
                        *op = Op::ReadList(Key::Number(*key), list);
                    }
                    _ => {}
                }
            }
            if snapshot {
                work.ops.retain(|op| matches!(op, Op::ReadList(..)));
                work.read_ts = Some(ts);
            } else if !own.is_empty() {
                own.iter().for_each(|(key, value)| state.entry(*key).or_default().push((ts, *value)));
                work.commit_ts = Some(ts);
            }
            continue;
        }
        let work = open.remove(&process).expect("it is open");
        let kind = if work.lost {
            Kind::Info
        } else if work.fails {
            Kind::Fail
        } else {
            Kind::Ok
        };
        let at = event(&mut events, kind);
        events[at].txn = work.ops;
        if kind == Kind::Ok {
            (events[at].commit_ts, events[at].read_ts) = (work.commit_ts, work.read_ts);
        }
        if work.lost {
            names[seat] = next_name;
            next_name += 1;
        }
    }
    events
}
