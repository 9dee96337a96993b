//! Random messages of every variant there and back, and bytes that are no message.

use bytes::Bytes;
use paxos::{Ballot, Configuration, GroupId, NodeId, Slot};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use truetime::Timestamp;

use crate::api::{
    AbortReason, CommitTiming, GroupError, Inspection, LockRow, ReadOp, ReadResult, Reply, Request, RequestBody,
    TxnRow, TxnStatus,
};
use crate::message::{NodeMessage, SnapshotEnd, SnapshotMessage, TwoPhase};
use crate::types::{LockMode, LockPolicy, Mutation, Priority, RangeDescriptor, Row, Span, TxnId};

/// Draws values; numbers are small, large or at an end, and lists are often empty.
struct Gen(ChaCha8Rng);

impl Gen {
    fn below(&mut self, n: u32) -> u32 {
        self.0.random_range(0..n)
    }

    fn u64(&mut self) -> u64 {
        match self.below(4) {
            0 => u64::from(self.below(3)),
            1 => u64::MAX,
            _ => self.0.random(),
        }
    }

    fn i64(&mut self) -> i64 {
        self.u64() as i64
    }

    fn bytes(&mut self) -> Bytes {
        let mut out = vec![0; self.below(12) as usize];
        self.0.fill_bytes(&mut out);
        out.into()
    }

    fn text(&mut self) -> String {
        ["", "prepared", "größer", "a longer sentence with spaces"][self.below(4) as usize].to_string()
    }

    fn list<T>(&mut self, mut item: impl FnMut(&mut Gen) -> T) -> Vec<T> {
        (0..self.below(4)).map(|_| item(self)).collect()
    }

    fn option<T>(&mut self, item: impl FnOnce(&mut Gen) -> T) -> Option<T> {
        (self.below(2) == 0).then(|| item(self))
    }

    fn bool(&mut self) -> bool {
        self.below(2) == 0
    }

    fn ts(&mut self) -> Timestamp {
        Timestamp::from_nanos(self.i64())
    }

    fn group(&mut self) -> GroupId {
        GroupId(self.u64())
    }

    fn node(&mut self) -> NodeId {
        NodeId(self.u64())
    }

    fn ballot(&mut self) -> Ballot {
        Ballot { round: self.u64(), node: self.node() }
    }

    fn txn(&mut self) -> TxnId {
        TxnId(u128::from(self.u64()) << 64 | u128::from(self.u64()))
    }

    fn priority(&mut self) -> Priority {
        Priority { start: self.ts(), id: self.txn() }
    }

    fn span(&mut self) -> Span {
        Span { start: self.bytes(), end: self.bytes() }
    }

    fn mode(&mut self) -> LockMode {
        if self.bool() { LockMode::Shared } else { LockMode::Exclusive }
    }

    fn policy(&mut self) -> LockPolicy {
        use LockPolicy::*;
        [Wait, WaitAtMost(self.i64()), NoWait, Skip, Unlocked][self.below(5) as usize]
    }

    fn abort(&mut self) -> AbortReason {
        use AbortReason::*;
        [Wounded, LocksLost, Participant, GivenUp, Split, TooLate][self.below(6) as usize]
    }

    fn ops(&mut self) -> Vec<ReadOp> {
        self.list(|g| ReadOp { span: g.span(), reverse: g.bool(), limit: g.u64() })
    }

    fn writes(&mut self) -> Vec<Mutation> {
        self.list(|g| Mutation { key: g.bytes(), value: g.option(Gen::bytes) })
    }

    fn range(&mut self) -> RangeDescriptor {
        RangeDescriptor { group: self.group(), span: self.span(), epoch: self.u64() }
    }

    fn request(&mut self, kind: u32) -> RequestBody {
        let (txn, priority) = (self.txn(), self.priority());
        let leadership = self.option(Gen::ballot);
        match kind {
            0 => RequestBody::Read {
                txn,
                priority,
                leadership,
                ops: self.ops(),
                mode: self.mode(),
                policy: self.policy(),
            },
            1 => RequestBody::Snapshot { at: self.option(Gen::ts), ops: self.ops() },
            2 => RequestBody::Commit {
                txn,
                priority,
                leadership,
                writes: self.writes(),
                participants: self.list(Gen::group),
                deadline: self.option(Gen::ts),
            },
            3 => RequestBody::Prepare { txn, priority, leadership, writes: self.writes(), coordinator: self.group() },
            4 => RequestBody::Abort { txn },
            5 => RequestBody::KeepAlive { txn, leadership: self.ballot() },
            6 => RequestBody::Status { txn },
            7 => RequestBody::Split { at: self.bytes(), new_group: self.group(), leader: self.node() },
            8 => RequestBody::HandOver { to: self.option(Gen::node) },
            9 => RequestBody::Inspect,
            _ => RequestBody::Checksum,
        }
    }

    fn rows(&mut self) -> ReadResult {
        ReadResult {
            rows: self.list(|g| Row { key: g.bytes(), value: g.bytes(), commit_ts: g.ts() }),
            resume: self.option(Gen::span),
        }
    }

    fn inspection(&mut self) -> Inspection {
        Inspection {
            txns: self.list(|g| TxnRow {
                txn: g.txn(),
                priority: g.priority(),
                state: g.text(),
                prepare_ts: g.option(Gen::ts),
                idle_ns: g.i64(),
            }),
            locks: self.list(|g| LockRow { txn: g.txn(), span: g.span(), mode: g.mode(), held: g.bool() }),
        }
    }

    fn reply(&mut self, kind: u32) -> Reply {
        match kind {
            0 => Reply::Rows {
                results: self.list(Gen::rows),
                leadership: self.option(Gen::ballot),
                read_ts: self.option(Gen::ts),
                wait_ns: self.i64(),
            },
            1 => Reply::Committed {
                commit_ts: self.ts(),
                timing: CommitTiming {
                    lock_wait_ns: self.i64(),
                    prepare_ns: self.i64(),
                    replicate_ns: self.i64(),
                    commit_wait_ns: self.i64(),
                    apply_ns: self.i64(),
                    total_ns: self.i64(),
                },
            },
            2 => Reply::Prepared { prepare_ts: self.ts(), lock_wait_ns: self.i64(), replicate_ns: self.i64() },
            3 => Reply::Status(TxnStatus::Committed(self.ts())),
            4 => Reply::Status(TxnStatus::Aborted),
            5 => Reply::Status(TxnStatus::Unknown),
            6 => Reply::Done,
            7 => Reply::Inspection(self.inspection()),
            8 => Reply::Checksum { applied: self.u64(), hash: self.u64() },
            9 => Reply::Error(GroupError::NotLeader(self.option(Gen::node))),
            10 => Reply::Error(GroupError::WrongRange(self.list(Gen::range))),
            11 => Reply::Error(GroupError::NoGroup),
            12 => Reply::Error(GroupError::Unavailable(self.text())),
            13 => Reply::Error(GroupError::Aborted(self.abort())),
            14 => Reply::Error(GroupError::TooOld { earliest: self.ts() }),
            _ => Reply::Error(GroupError::Invalid(self.text())),
        }
    }

    /// A message of every kind in turn: `KINDS` numbers cover each variant of each enum.
    fn message(&mut self, kind: u32) -> NodeMessage {
        let group = self.group();
        match kind {
            0 => NodeMessage::SafeTime { group, ballot: self.ballot(), slot: Slot(self.u64()), ts: self.ts() },
            1 => NodeMessage::WantSafeTime { group, ts: self.ts() },
            2 => NodeMessage::Snapshot {
                group,
                message: SnapshotMessage::Chunk {
                    transfer: self.i64(),
                    number: self.u64(),
                    pairs: self.list(|g| (g.bytes(), g.bytes())),
                    last: self.option(|g| SnapshotEnd {
                        applied: Slot(g.u64()),
                        epoch: g.ballot(),
                        config: Configuration {
                            voters: g.list(Gen::node).into_iter().collect(),
                            learners: g.list(Gen::node).into_iter().collect(),
                        },
                        meta: g.bytes(),
                        read_upto: Slot(g.u64()),
                    }),
                },
            },
            3 => NodeMessage::Snapshot {
                group,
                message: SnapshotMessage::Ack { transfer: self.i64(), number: self.u64() },
            },
            4..8 => {
                let (hops, txn, from) = (self.u64() as u8, self.txn(), self.group());
                let body = match kind {
                    4 => TwoPhase::Prepared { txn, from, prepare_ts: self.ts() },
                    5 => TwoPhase::Refused { txn, from, reason: self.abort() },
                    6 => TwoPhase::Acknowledged { txn, from },
                    _ => TwoPhase::Decided { txn, from, commit_ts: self.option(Gen::ts) },
                };
                NodeMessage::TwoPhase { group, hops, body }
            }
            8..19 => NodeMessage::Request(Request { id: self.u64(), group, body: self.request(kind - 8) }),
            _ => NodeMessage::Reply { id: self.u64(), reply: self.reply(kind - 19) },
        }
    }
}

const KINDS: u32 = 19 + 16;

#[test]
fn every_message_comes_back_as_it_was() {
    let mut g = Gen(ChaCha8Rng::seed_from_u64(1));
    for round in 0..200 {
        for kind in 0..KINDS {
            let message = g.message(kind);
            assert_eq!(NodeMessage::decode(message.encode()).as_ref(), Ok(&message), "round {round}");
        }
    }
}

#[test]
fn a_message_cut_short_or_with_a_tail_is_refused() {
    let mut g = Gen(ChaCha8Rng::seed_from_u64(2));
    for kind in (0..KINDS).cycle().take(10 * KINDS as usize) {
        let bytes = g.message(kind).encode();
        for len in 0..bytes.len() {
            assert!(NodeMessage::decode(bytes.slice(..len)).is_err(), "kind {kind} cut to {len}");
        }
        let mut longer = bytes.to_vec();
        longer.push(0);
        assert!(NodeMessage::decode(longer.into()).is_err(), "kind {kind} with a tail");
    }
}

#[test]
fn damaged_bytes_never_panic_and_what_decodes_is_stable() {
    let mut g = Gen(ChaCha8Rng::seed_from_u64(3));
    for kind in (0..KINDS).cycle().take(100 * KINDS as usize) {
        let mut bytes = g.message(kind).encode().to_vec();
        for _ in 0..=g.below(3) {
            let at = g.below(bytes.len() as u32) as usize;
            bytes[at] ^= 1 << g.below(8);
        }
        if let Ok(message) = NodeMessage::decode(bytes.into()) {
            assert_eq!(NodeMessage::decode(message.encode()), Ok(message));
        }
    }
}

#[test]
fn noise_never_panics() {
    let mut g = Gen(ChaCha8Rng::seed_from_u64(4));
    for _ in 0..50_000 {
        let mut bytes = vec![0; g.below(80) as usize];
        g.0.fill_bytes(&mut bytes);
        // A right beginning, so that the noise reaches every decoder.
        if bytes.len() > 2 && g.below(4) > 0 {
            bytes[0] = super::FORMAT;
            bytes[1] %= 8;
        }
        let _ = NodeMessage::decode(bytes.into());
    }
}

#[test]
fn another_format_is_refused_by_name() {
    let mut bytes = NodeMessage::WantSafeTime { group: GroupId(1), ts: Timestamp::ZERO }.encode().to_vec();
    bytes[0] = 9;
    let err = NodeMessage::decode(bytes.into()).unwrap_err();
    assert_eq!(err.to_string(), "malformed bytes: message format 9, expected 1");
}

#[test]
fn a_decoded_value_shares_the_memory_of_its_message() {
    let value = Bytes::from(vec![7; 1000]);
    let pairs = vec![(Bytes::from_static(b"k"), value)];
    let message = SnapshotMessage::Chunk { transfer: 0, number: 0, pairs, last: None };
    let bytes = NodeMessage::Snapshot { group: GroupId(1), message }.encode();
    let Ok(NodeMessage::Snapshot { message: SnapshotMessage::Chunk { pairs, .. }, .. }) =
        NodeMessage::decode(bytes.clone())
    else {
        panic!("the chunk does not decode");
    };
    assert!(bytes.as_ptr_range().contains(&pairs[0].1.as_ptr()), "the value was copied");
}
