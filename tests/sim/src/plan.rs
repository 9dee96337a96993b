//! What clients do: the transactions of each workload, as reads and what follows from them.
//!
//! Keys are `<digit><kind><number>`, the digit being the number's last: so each workload's keys lie
//! all over the key space, and the range of every group holds some of each.
//!
//! | kind | keys | invariant |
//! | --- | --- | --- |
//! | append | lists that grow by one unique number at a time | exactly once, in one order |
//! | bank | accounts | the total |
//! | register | unique values written blindly, and deletes | every read is of a version |
//! | skew | pairs of switches | one of a pair is on |
//! | phantom | a short range of rows | never more than three rows |

use bytes::Bytes;
use paxos::NodeId;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use truetime::Timestamp;
use txn::{Key, LockMode, Mutation, ReadOp, Row, Span};

use crate::rng::pick;

/// Accounts of the bank.
pub const ACCOUNTS: u64 = 20;
/// What each account starts with.
pub const BALANCE: u64 = 100;
/// Rows of one digit's phantom range, at most.
pub const PHANTOMS: usize = 3;
/// A key of lists is left alone once its list is about this long.
const LIST_LENGTH: u64 = 32;

/// The kinds of transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Append to one to four lists.
    Append,
    /// Move money.
    Transfer,
    /// Sum the bank under shared locks.
    LockedTotal,
    /// Write and delete without reading.
    Register,
    /// Turn a switch off if both are on, or both on again.
    Skew,
    /// Insert where there is room, or empty the range.
    Phantom,
    /// Read now, without locks.
    StrongRead,
    /// Read the past, or a moment from now.
    TimedRead,
    /// Read what was read before, at the same timestamp, from elsewhere.
    ReadAgain,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 9] = [
        Kind::Append,
        Kind::Transfer,
        Kind::LockedTotal,
        Kind::Register,
        Kind::Skew,
        Kind::Phantom,
        Kind::StrongRead,
        Kind::TimedRead,
        Kind::ReadAgain,
    ];
}

/// The key of a number of a kind.
pub fn key(kind: char, number: u64) -> Key {
    format!("{}{kind}{number:04}", number % 10).into()
}

/// The kind of a key.
pub fn kind_of(key: &[u8]) -> char {
    key.get(1).map_or('?', |b| char::from(*b))
}

fn span_of(digit: u64, kind: char) -> Span {
    let next = char::from(kind as u8 + 1);
    Span::new(format!("{digit}{kind}"), format!("{digit}{next}"))
}

/// The spans that hold every key of a kind.
pub fn all_of(kind: char) -> Vec<ReadOp> {
    (0..10).map(|digit| read(span_of(digit, kind))).collect()
}

/// Every key of every kind: SQL's keys lie below.
pub fn everything() -> Span {
    Span::new("0", "")
}

/// The read of a whole span.
pub fn read(span: Span) -> ReadOp {
    ReadOp { span, reverse: false, limit: 0 }
}

/// A list of numbers from its value.
pub fn list(value: &[u8]) -> Vec<u64> {
    value.chunks(8).map(|chunk| chunk.try_into().map_or(u64::MAX, u64::from_le_bytes)).collect()
}

/// A balance or a switch from its value.
pub fn number(value: &[u8]) -> u64 {
    list(value).first().copied().unwrap_or(u64::MAX)
}

fn value(numbers: &[u64]) -> Bytes {
    numbers.iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<u8>>().into()
}

/// A read-write transaction to be tried until it commits.
#[derive(Clone, Debug)]
pub struct ReadWritePlan {
    /// Which workload.
    pub kind: Kind,
    /// Read one after the other.
    pub steps: Vec<(Vec<ReadOp>, LockMode)>,
    then: Then,
}

/// What follows from the reads.
#[derive(Clone, Debug)]
enum Then {
    Setup,
    Append(Vec<Key>),
    Transfer { from: Key, to: Key, amount: u64 },
    Nothing,
    Register { puts: Vec<Key>, deletes: Vec<Key> },
    SwitchOff { which: usize, pair: [Key; 2] },
    SwitchOn { pair: [Key; 2] },
    Insert(Key),
    Empty,
}

/// When a read without locks happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Now: it sees everything acknowledged before.
    Strong,
    /// So long from the gateway's present; negative is the past.
    Offset(i64),
    /// Then.
    Exactly(Timestamp),
}

/// Anything a client may do.
#[derive(Clone, Debug)]
pub enum Plan {
    /// A read-write transaction.
    ReadWrite(ReadWritePlan),
    /// A read without locks.
    Snapshot {
        /// What.
        ops: Vec<ReadOp>,
        /// When.
        when: When,
        /// Through which gateway, and at its own replicas first; any if none.
        gateway: Option<NodeId>,
    },
}

/// What plans are drawn from, shared by all clients.
#[derive(Debug)]
pub struct Pool {
    keys: u64,
    appends: u64,
    next_value: u64,
    next_row: u64,
    /// Earlier reads without locks, to be read again.
    pub answered: Vec<(Vec<ReadOp>, Timestamp)>,
}

impl Pool {
    /// A pool with so many keys of a kind in use at one time.
    pub fn new(keys: u64) -> Pool {
        Pool { keys, appends: 0, next_value: 0, next_row: 0, answered: Vec::new() }
    }

    /// A number never used before.
    pub fn fresh(&mut self) -> u64 {
        self.next_value += 1;
        self.next_value
    }

    /// A plan of the kind.
    pub fn draw(&mut self, kind: Kind, rng: &mut ChaCha8Rng) -> Plan {
        let mode = |rng: &mut ChaCha8Rng| *pick(rng, &[LockMode::Shared, LockMode::Exclusive, LockMode::Exclusive]);
        let (steps, then) = match kind {
            Kind::Append => {
                let count = rng.random_range(1..=4);
                let keys = distinct(count, rng, |rng| self.list_key(rng));
                self.appends += keys.len() as u64;
                let (mut steps, mut written) = (Vec::new(), Vec::new());
                for key in keys {
                    let only_read = rng.random_range(0..4) == 0;
                    let mode = if only_read { LockMode::Shared } else { mode(rng) };
                    steps.push((vec![read(Span::point(key.clone()))], mode));
                    if !only_read {
                        written.push(key);
                    }
                }
                if rng.random_range(0..2) == 0 {
                    // All at once instead of one by one.
                    let ops = steps.drain(..).flat_map(|(ops, _)| ops).collect();
                    steps.push((ops, mode(rng)));
                }
                (steps, Then::Append(written))
            }
            Kind::Transfer => {
                let from = rng.random_range(0..ACCOUNTS);
                let to = (from + rng.random_range(1..ACCOUNTS)) % ACCOUNTS;
                let keys = [key('b', from), key('b', to)];
                let ops: Vec<ReadOp> = keys.iter().map(|key| read(Span::point(key.clone()))).collect();
                let steps = if rng.random_range(0..2) == 0 {
                    vec![(ops, mode(rng))]
                } else {
                    let lock = mode(rng);
                    ops.into_iter().map(|op| (vec![op], lock)).collect()
                };
                let amount = rng.random_range(1..=BALANCE / 2);
                (steps, Then::Transfer { from: keys[0].clone(), to: keys[1].clone(), amount })
            }
            Kind::LockedTotal => (vec![(all_of('b'), LockMode::Shared)], Then::Nothing),
            Kind::Register => {
                let count = rng.random_range(1..=4);
                let mut keys = distinct(count, rng, |rng| key('r', rng.random_range(0..self.keys * 2)));
                let deletes = if rng.random_range(0..3) == 0 { keys.split_off(keys.len() / 2) } else { Vec::new() };
                (Vec::new(), Then::Register { puts: keys, deletes })
            }
            Kind::Skew => {
                let pair = rng.random_range(0..self.keys);
                // Of two different digits, so of two groups as often as not.
                let pair = [key('s', pair * 10), key('s', pair * 10 + 1 + pair % 9)];
                let ops = pair.iter().map(|key| read(Span::point(key.clone()))).collect();
                let then = match rng.random_range(0..3) {
                    0 => Then::SwitchOn { pair },
                    which => Then::SwitchOff { which: which - 1, pair },
                };
                (vec![(ops, LockMode::Shared)], then)
            }
            Kind::Phantom => {
                let digit = rng.random_range(0..10);
                self.next_row += 10;
                // Keys of a digit come in no order, so that inserts fall between rows too.
                let number = (self.next_row * 37) % 10_000 / 10 * 10 + digit;
                let then = if rng.random_range(0..4) == 0 { Then::Empty } else { Then::Insert(key('p', number)) };
                (vec![(vec![read(span_of(digit, 'p'))], LockMode::Shared)], then)
            }
            Kind::StrongRead => {
                return Plan::Snapshot { ops: self.some_spans(rng), when: When::Strong, gateway: None };
            }
            Kind::TimedRead => {
                let when = match rng.random_range(0..4) {
                    0 => When::Offset(rng.random_range(0..200_000_000)),
                    1 => When::Offset(-rng.random_range(0..20_000_000)),
                    _ => When::Offset(-rng.random_range(0..4_000_000_000)),
                };
                return Plan::Snapshot { ops: self.some_spans(rng), when, gateway: None };
            }
            Kind::ReadAgain if self.answered.is_empty() => return self.draw(Kind::StrongRead, rng),
            Kind::ReadAgain => {
                let (ops, at) = pick(rng, &self.answered).clone();
                return Plan::Snapshot { ops, when: When::Exactly(at), gateway: None };
            }
        };
        Plan::ReadWrite(ReadWritePlan { kind, steps, then })
    }

    fn list_key(&self, rng: &mut ChaCha8Rng) -> Key {
        let generation = self.appends / (LIST_LENGTH * self.keys);
        key('a', generation * self.keys + rng.random_range(0..self.keys))
    }

    fn some_spans(&self, rng: &mut ChaCha8Rng) -> Vec<ReadOp> {
        match rng.random_range(0..8) {
            0..3 => all_of('b'),
            3 => vec![ReadOp { span: everything(), reverse: rng.random(), limit: rng.random_range(0..30) }],
            4 => vec![read(Span::point(self.list_key(rng)))],
            5 => all_of('s'),
            6 => all_of('p'),
            _ => {
                let (a, b) = (rng.random_range(b'0'..=b'9'), rng.random_range(b'0'..=b'9'));
                let span = Span::new(vec![a.min(b)], vec![a.max(b) + 1]);
                vec![ReadOp { span, reverse: rng.random(), limit: rng.random_range(0..3) * 4 }]
            }
        }
    }
}

/// Up to `count` keys, no two alike.
fn distinct(count: usize, rng: &mut ChaCha8Rng, mut draw: impl FnMut(&mut ChaCha8Rng) -> Key) -> Vec<Key> {
    let mut keys = Vec::new();
    for _ in 0..count * 4 {
        let key = draw(rng);
        if keys.len() < count && !keys.contains(&key) {
            keys.push(key);
        }
    }
    keys
}

/// Gives the bank its money, unless it has it.
pub fn setup() -> Plan {
    let steps = vec![(all_of('b'), LockMode::Exclusive)];
    Plan::ReadWrite(ReadWritePlan { kind: Kind::Transfer, steps, then: Then::Setup })
}

impl ReadWritePlan {
    /// Whether everything else rests on it.
    pub fn is_setup(&self) -> bool {
        matches!(self.then, Then::Setup)
    }

    /// The writes that follow from what each step read; none means: roll back.
    pub fn writes(&self, reads: &[Vec<Row>], pool: &mut Pool) -> Option<Vec<Mutation>> {
        let rows = || reads.iter().flatten();
        let found = |key: &Key| rows().find(|row| row.key == key).map(|row| &row.value[..]);
        let put = |key: &Key, numbers: &[u64]| Mutation { key: key.clone(), value: Some(value(numbers)) };
        Some(match &self.then {
            Then::Setup if rows().next().is_some() => return None,
            Then::Setup => (0..ACCOUNTS).map(|n| put(&key('b', n), &[BALANCE])).collect(),
            Then::Append(keys) => {
                let mut writes = Vec::new();
                for key in keys {
                    let mut numbers = found(key).map_or(Vec::new(), list);
                    numbers.push(pool.fresh());
                    writes.push(put(key, &numbers));
                }
                writes
            }
            Then::Transfer { from, to, amount } => {
                let (have, other) = (number(found(from)?), number(found(to)?));
                let amount = *amount.min(&have);
                vec![put(from, &[have - amount]), put(to, &[other + amount])]
            }
            Then::Nothing => Vec::new(),
            Then::Register { puts, deletes } => {
                let puts = puts.iter().map(|key| put(key, &[pool.fresh()]));
                let mut writes: Vec<Mutation> = puts.collect();
                writes.extend(deletes.iter().map(|key| Mutation { key: key.clone(), value: None }));
                writes
            }
            Then::SwitchOff { which, pair } => {
                let on = |key| found(key).is_some_and(|value| number(value) == 1);
                if !(on(&pair[0]) && on(&pair[1])) {
                    return None;
                }
                vec![put(&pair[*which], &[0])]
            }
            Then::SwitchOn { pair } => pair.iter().map(|key| put(key, &[1])).collect(),
            Then::Insert(key) if rows().count() < PHANTOMS => vec![put(key, &[pool.fresh()])],
            Then::Insert(_) => return None,
            Then::Empty => rows().map(|row| Mutation { key: row.key.clone(), value: None }).collect(),
        })
    }
}
