//! Hand-made histories.

use check::{Event, Key, Kind, Op, Process};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

pub const MS: u64 = 1_000_000;
pub const S: u64 = 1000 * MS;

/// Events, in the order of their times at the end.
#[derive(Default)]
pub struct History {
    events: Vec<Event>,
}

impl History {
    /// An event of something beside the clients.
    pub fn note(&mut self, time_ns: u64, process: &str, f: &str, value: Value) {
        let mut event = Event::new(0, Process::Named(process.into()), Kind::Info, time_ns);
        event.f = f.into();
        event.value = Some(value);
        self.events.push(event);
    }

    /// An operation of a client on a node.
    pub fn op(
        &mut self,
        process: u64,
        node: u64,
        times: (u64, u64),
        txn: Op,
        end: Kind,
        more: impl FnOnce(&mut Event),
    ) {
        let mut begin = Event::new(0, Process::Client(process), Kind::Invoke, times.0);
        begin.txn = vec![txn.clone()];
        begin.node = Some(node);
        let mut done = Event::new(0, Process::Client(process), end, times.1);
        done.txn = vec![txn];
        done.node = Some(node);
        more(&mut done);
        self.events.push(begin);
        self.events.push(done);
    }

    /// In order.
    pub fn events(mut self) -> Vec<Event> {
        self.events.sort_by_key(|e| e.time_ns);
        for (at, event) in self.events.iter_mut().enumerate() {
            event.index = at as u64;
        }
        self.events
    }
}

/// Three nodes and six clients for so many seconds. From 5 s on node 2 is dead for 3 s, and nobody writes
/// for the first 1,800 ms of them; from 15 s on n1 is cut off for 4 s, which costs 600 ms; at 22 s a clock
/// leaps, which costs nothing.
pub fn stormy(seconds: u64, pause_ns: u64) -> Vec<Event> {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut h = History::default();
    let setup = json!({"workload": "append", "seed": 7, "clients": 6, "duration_s": seconds as f64, "shards": 4});
    h.note(0, "setup", "setup", setup);
    h.note(5 * S, "nemesis", "kill", json!({"node": 2, "phase": "begin"}));
    h.note(8 * S, "nemesis", "kill", json!({"node": 2, "phase": "end"}));
    h.note(15 * S, "nemesis", "partition", json!({"nodes": [1], "phase": "begin", "plan": "1|23"}));
    h.note(19 * S, "nemesis", "partition", json!({"nodes": [1], "phase": "end"}));
    h.note(22 * S, "nemesis", "skew", json!({"node": 3, "offset": "+40ms"}));
    for second in 1..seconds {
        for node in 1..=3 {
            if !(node == 2 && (5..8).contains(&second)) {
                let ns = 1_500_000
                    + second % 7 * 200_000
                    + node * 50_000
                    + if second >= 22 && node == 3 { 4 * MS } else { 0 };
                h.note(second * S, "monitor", "epsilon", json!({"node": node, "epsilon_ns": ns}));
            }
        }
    }
    let (mut process, mut value) = (6, 0);
    for client in 0..6 {
        let (mut now, mut name) = (rng.random_range(0..5 * MS), client);
        while now < seconds * S {
            let dead = (5 * S..8 * S).contains(&now);
            let node = if dead && client % 3 + 1 == 2 { 1 } else { client % 3 + 1 };
            let mut took = 3 * MS + rng.random_range(0..9 * MS) * rng.random_range(0..100) / 60;
            let stopped = [(5 * S, 6800 * MS), (15 * S, 15_600 * MS)];
            if let Some((_, end)) = stopped.iter().find(|(from, end)| (*from..*end).contains(&(now + took))) {
                took = end - now + rng.random_range(0..40 * MS);
            }
            let (times, key) = ((now, now + took), Key::Number(rng.random_range(0..4) * 1_000_000 + 3));
            now += took + pause_ns;
            value += 1;
            match rng.random_range(0..100) {
                0..60 if took > 1000 * MS && client == 1 => {
                    h.op(name, node, times, Op::Append(key, value), Kind::Info, |e| {
                        e.error = "connection to 127.0.0.1:1 lost".into()
                    });
                    (name, process) = (process, process + 1);
                }
                0..60 if took > 1000 * MS => {
                    h.op(name, node, times, Op::Append(key, value), Kind::Ok, |e| e.status = "committed".into())
                }
                0..60 => {
                    h.op(name, node, times, Op::Append(key, value), Kind::Ok, |e| e.commit_ts = Some(times.1 as i64))
                }
                60..90 => {
                    h.op(name, node, times, Op::ReadList(key, vec![1]), Kind::Ok, |e| e.read_ts = Some(times.1 as i64))
                }
                90..94 => h.op(name, node, times, Op::ReadList(key, vec![]), Kind::Ok, |_| {}),
                _ => h.op(name, node, times, Op::Append(key, value), Kind::Fail, |e| {
                    e.error = "the transaction was wounded by an older one (SQLSTATE 40001)".into();
                }),
            }
        }
    }
    h.note(seconds * S + 400 * MS, "workload", "final", Value::Null);
    h.events()
}
