//! Bytes: what is written reads back; what is damaged is an error and never a panic.

use std::collections::BTreeSet;

use bytes::Bytes;
use paxos::{
    Ballot, Configuration, Entry, HardState, LeaseRequest, LeaseVote, Message, NodeId, Payload, Refusal, Slot,
};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use truetime::Timestamp;

struct Random(ChaCha8Rng);

impl Random {
    fn number(&mut self) -> u64 {
        let bits = self.0.random_range(0..=62);
        self.0.random_range(0..=1u64 << bits)
    }

    fn slot(&mut self) -> Slot {
        Slot(self.number())
    }

    fn ballot(&mut self) -> Ballot {
        Ballot { round: self.number(), node: NodeId(self.0.random()) }
    }

    fn time(&mut self) -> Timestamp {
        Timestamp::from_nanos(self.0.random())
    }

    fn lease(&mut self) -> LeaseRequest {
        LeaseRequest { start: self.time(), ns: self.0.random_range(0..10_000_000_000) }
    }

    fn maybe<T>(&mut self, value: impl FnOnce(&mut Random) -> T) -> Option<T> {
        self.0.random_bool(0.5).then(|| value(self))
    }

    fn several<T>(&mut self, mut value: impl FnMut(&mut Random) -> T) -> Vec<T> {
        (0..self.0.random_range(0..5)).map(|_| value(self)).collect()
    }

    fn bytes(&mut self) -> Bytes {
        let mut bytes = vec![0; self.0.random_range(0..100)];
        self.0.fill_bytes(&mut bytes);
        bytes.into()
    }

    fn config(&mut self) -> Configuration {
        let all: BTreeSet<NodeId> = self.several(|r| NodeId(r.0.random())).into_iter().collect();
        let (voters, learners) = all.into_iter().partition(|node| node.0 % 2 == 0);
        Configuration { voters, learners }
    }

    fn payload(&mut self) -> Payload {
        match self.0.random_range(0..4) {
            0 => Payload::Noop,
            1 => Payload::Start,
            2 => Payload::Command(self.bytes()),
            _ => Payload::Config(self.config()),
        }
    }

    fn entry(&mut self) -> Entry {
        Entry { slot: self.slot(), ballot: self.ballot(), origin: self.ballot(), payload: self.payload() }
    }

    fn hard(&mut self) -> HardState {
        HardState {
            promised: self.ballot(),
            lease: self.maybe(|r| LeaseVote { holder: NodeId(r.0.random()), until: r.time() }),
            lease_floor: self.maybe(Random::time),
            chosen: self.slot(),
            truncated: self.slot(),
        }
    }

    fn message(&mut self) -> Message {
        let ballot = self.ballot();
        match self.0.random_range(0..10) {
            0 => Message::Prepare { ballot, probe: self.0.random(), from: self.slot(), lease: self.lease() },
            1 => Message::Willing { ballot },
            2 => Message::Promise {
                ballot,
                chosen: self.slot(),
                floor: self.maybe(Random::time),
                lease: self.lease(),
                part: self.0.random(),
                parts: self.0.random(),
                entries: self.several(Random::entry),
            },
            3 => {
                let until = self.time();
                let all = [Refusal::Promised, Refusal::Leased(until), Refusal::Untrusted, Refusal::Behind];
                let reason = all[self.0.random_range(0..all.len())];
                Message::Reject { ballot, promised: self.ballot(), reason }
            }
            4 => {
                let entries = self.several(|r| Entry { ballot, ..r.entry() });
                Message::Accept { ballot, chosen: self.slot(), lease: self.lease(), entries }
            }
            5 => Message::Accepted {
                ballot,
                chosen: self.slot(),
                lease: self.maybe(Random::lease),
                ranges: self.several(|r| {
                    let (a, b) = (r.slot(), r.slot());
                    (a.min(b), a.max(b))
                }),
            },
            6 => Message::CatchUp { from: self.slot() },
            7 => Message::ChosenEntries { chosen: self.slot(), entries: self.several(Random::entry) },
            8 => Message::Release { ballot, used: self.time() },
            _ => Message::TimeoutNow { ballot, used: self.time() },
        }
    }
}

/// Reads back; any prefix is an error; a flipped bit is an error or another value, and never a panic.
fn check<T: PartialEq + std::fmt::Debug>(
    rng: &mut ChaCha8Rng,
    value: &T,
    bytes: Bytes,
    decode: impl Fn(Bytes) -> paxos::codec::Result<T>,
) {
    assert_eq!(decode(bytes.clone()).as_ref(), Ok(value));
    let cut = rng.random_range(0..bytes.len());
    assert!(decode(bytes.slice(..cut)).is_err(), "{cut} of {} bytes of {value:?}", bytes.len());
    let mut longer = bytes.to_vec();
    longer.push(rng.random());
    assert!(decode(longer.into()).is_err());
    for _ in 0..8 {
        let mut damaged = bytes.to_vec();
        let at = rng.random_range(0..damaged.len());
        damaged[at] ^= 1 << rng.random_range(0..8);
        let _ = decode(damaged.into());
    }
}

#[test]
fn what_is_written_reads_back_and_damage_is_an_error() {
    let mut random = Random(ChaCha8Rng::seed_from_u64(7));
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    for _ in 0..4000 {
        let message = random.message();
        assert!(message.encode().len() <= message.size_hint(), "{message:?}");
        check(&mut rng, &message, message.encode(), Message::decode);
        let entry = random.entry();
        check(&mut rng, &entry, entry.encode(), Entry::decode);
        let hard = random.hard();
        check(&mut rng, &hard, hard.encode(), HardState::decode);
        let config = random.config();
        check(&mut rng, &config, config.encode(), Configuration::decode);
    }
}

#[test]
fn noise_is_never_a_panic() {
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    for _ in 0..50_000 {
        let mut noise = vec![0; rng.random_range(0..80)];
        rng.fill_bytes(&mut noise);
        if noise.len() > 1 {
            // Past the version and into a tag, most of the time.
            noise[0] = if rng.random_bool(0.9) { 1 } else { noise[0] };
            noise[1] %= 12;
        }
        let noise = Bytes::from(noise);
        let _ = Message::decode(noise.clone());
        let _ = Entry::decode(noise.clone());
        let _ = HardState::decode(noise.clone());
        let _ = Configuration::decode(noise);
    }
}

#[test]
fn numbers_that_would_overflow_are_refused() {
    let huge = Ballot { round: u64::MAX, node: NodeId(1) };
    assert!(Message::decode(Message::Willing { ballot: huge }.encode()).is_err());
    assert!(Message::decode(Message::CatchUp { from: Slot(u64::MAX) }.encode()).is_err());
    let lease = LeaseRequest { start: Timestamp::ZERO, ns: i64::MAX };
    let ballot = Ballot { round: 1, node: NodeId(1) };
    let long = Message::Prepare { ballot, probe: false, from: Slot(1), lease };
    assert!(Message::decode(long.encode()).is_err());
    let both: BTreeSet<NodeId> = [NodeId(1)].into();
    let config = Configuration { voters: both.clone(), learners: both };
    assert!(Configuration::decode(config.encode()).is_err());
    let many = Configuration::of_voters((0..65).map(NodeId));
    assert!(Configuration::decode(many.encode()).is_err());
}
