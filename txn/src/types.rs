//! Keys, spans, transactions' names and mutations.

use std::fmt;

use bytes::Bytes;
use paxos::{GroupId, NodeId};
use truetime::Timestamp;

/// A user key: opaque bytes, ordered as bytes.
pub type Key = Bytes;
/// A value: opaque bytes.
pub type Value = Bytes;

/// The longest key, in bytes; a longer one is refused by whoever makes it.
pub const KEY_BYTES_MAX: usize = 8 << 10;
/// The longest value, in bytes.
pub const VALUE_BYTES_MAX: usize = 10 << 20;
/// The most bytes that one transaction may write.
pub const TXN_BYTES_MAX: usize = 64 << 20;

/// A transaction's name, unique for ever: its start in the high 64 bits (so that a name tells its
/// age), the gateway and a number of its own in the low 64.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TxnId(pub u128);

impl TxnId {
    /// From the gateway's clock at the start, the gateway, and a number that the gateway never
    /// uses twice at one start.
    pub fn new(start: Timestamp, gateway: NodeId, number: u64) -> TxnId {
        let low = (gateway.0 & 0xffff) << 48 | (number & 0xffff_ffff_ffff);
        TxnId((start.as_nanos() as u64 as u128) << 64 | low as u128)
    }

    /// When its gateway began it.
    pub fn start(self) -> Timestamp {
        Timestamp::from_nanos((self.0 >> 64) as u64 as i64)
    }

    /// The gateway.
    pub fn gateway(self) -> NodeId {
        NodeId((self.0 as u64) >> 48)
    }
}

impl fmt::Display for TxnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl std::str::FromStr for TxnId {
    type Err = String;

    fn from_str(text: &str) -> Result<TxnId, String> {
        u128::from_str_radix(text, 16).map(TxnId).map_err(|_| format!("invalid transaction identifier \"{text}\""))
    }
}

/// Age for wound-wait: smaller is older and wins. A retry keeps the age of the first try.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Priority {
    /// When the first try began.
    pub start: Timestamp,
    /// The first try's name: no two transactions share a priority.
    pub id: TxnId,
}

/// How a lock excludes others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LockMode {
    /// Compatible with other shared locks.
    Shared,
    /// Compatible with nothing.
    Exclusive,
}

/// What a locking read does about locks that it cannot have at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LockPolicy {
    /// Waits, and wounds who is younger and in its way.
    #[default]
    Wait,
    /// The same, for so long in each group, in nanoseconds; then the read fails and locks nothing there.
    WaitAtMost(i64),
    /// Fails, and wounds nobody.
    NoWait,
    /// Leaves the rows out. Locks those that it returns and nothing between them: rows that are inserted there
    /// meanwhile are not seen, so that this is a weaker read than serializability asks for.
    Skip,
    /// Locks nothing at all, and so says nothing about what will be there in the next moment: for finding rows
    /// which are then read again, by key, under another policy.
    Unlocked,
}

impl LockPolicy {
    /// With a bound on the wait, if this one waits for ever.
    pub fn at_most(self, ns: Option<i64>) -> LockPolicy {
        match (self, ns) {
            (LockPolicy::Wait, Some(ns)) => LockPolicy::WaitAtMost(ns),
            (policy, _) => policy,
        }
    }
}

/// Keys from `start` (inclusive) to `end` (exclusive). An empty `end` means "to the last key".
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// First key.
    pub start: Key,
    /// First key after the span, or empty.
    pub end: Key,
}

impl Span {
    /// Between two keys.
    pub fn new(start: impl Into<Key>, end: impl Into<Key>) -> Span {
        Span { start: start.into(), end: end.into() }
    }

    /// Just one key.
    pub fn point(key: impl Into<Key>) -> Span {
        let start: Key = key.into();
        let mut end = Vec::with_capacity(start.len() + 1);
        end.extend_from_slice(&start);
        end.push(0);
        Span { start, end: end.into() }
    }

    /// Every key.
    pub fn all() -> Span {
        Span { start: Key::new(), end: Key::new() }
    }

    /// Whether it holds exactly one key, by its form.
    pub fn is_point(&self) -> bool {
        self.end.len() == self.start.len() + 1
            && self.end[..self.start.len()] == self.start[..]
            && self.end.last() == Some(&0)
    }

    /// Whether the key lies within.
    pub fn contains(&self, key: &[u8]) -> bool {
        key >= &self.start[..] && (self.end.is_empty() || key < &self.end[..])
    }

    /// Whether the two share a key (of all byte strings).
    pub fn overlaps(&self, other: &Span) -> bool {
        (other.end.is_empty() || self.start < other.end) && (self.end.is_empty() || other.start < self.end)
    }

    /// Whether `other` lies wholly within.
    pub fn covers(&self, other: &Span) -> bool {
        self.start <= other.start && (self.end.is_empty() || (!other.end.is_empty() && other.end <= self.end))
    }

    /// The part that lies in both, if any.
    pub fn intersect(&self, other: &Span) -> Option<Span> {
        if !self.overlaps(other) {
            return None;
        }
        let start = self.start.clone().max(other.start.clone());
        let end = match (self.end.is_empty(), other.end.is_empty()) {
            (true, _) => other.end.clone(),
            (_, true) => self.end.clone(),
            _ => self.end.clone().min(other.end.clone()),
        };
        Some(Span { start, end })
    }

    /// Whether it holds no key at all.
    pub fn is_empty(&self) -> bool {
        !self.end.is_empty() && self.start >= self.end
    }
}

/// One buffered write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mutation {
    /// Of which key.
    pub key: Key,
    /// The new value; `None` deletes.
    pub value: Option<Value>,
}

/// A row as read: its newest version at or below the read timestamp.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its key.
    pub key: Key,
    /// Its value.
    pub value: Value,
    /// When that version was committed.
    pub commit_ts: Timestamp,
}

/// Which group holds which keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeDescriptor {
    /// The group.
    pub group: GroupId,
    /// Its keys.
    pub span: Span,
    /// Raised by every split; of two descriptors of one group, the larger is true.
    pub epoch: u64,
}
