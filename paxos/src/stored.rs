//! The bytes of what is kept on disk: entries, the hard state, configurations. A leading version
//! byte lets a later release read what this one wrote.

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::codec::{DecodeError, Reader, Result, Writer};
use crate::quorum::VOTERS_MAX;
use crate::{Ballot, Configuration, Entry, HardState, LeaseVote, NodeId, Payload, Slot};

const VERSION: u8 = 1;
/// Slots and rounds beyond this are refused when decoded, so that adding one never overflows.
const NUMBER_MAX: u64 = 1 << 62;
/// Learners of one group at most.
const LEARNERS_MAX: usize = 1024;

const NOOP: u8 = 0;
const START: u8 = 1;
const COMMAND: u8 = 2;
const CONFIG: u8 = 3;

/// A slot whose successor is still a slot.
pub(crate) fn get_slot(r: &mut Reader) -> Result<Slot> {
    let slot = r.slot()?;
    if slot.0 > NUMBER_MAX {
        return Err(DecodeError(format!("{slot} is too large")));
    }
    Ok(slot)
}

/// A ballot whose successor is still a ballot.
pub(crate) fn get_ballot(r: &mut Reader) -> Result<Ballot> {
    let ballot = r.ballot()?;
    if ballot.round > NUMBER_MAX {
        return Err(DecodeError(format!("{ballot} is too large")));
    }
    Ok(ballot)
}

pub(crate) fn put_payload(w: &mut Writer, payload: &Payload) {
    match payload {
        Payload::Noop => {
            w.u8(NOOP);
        }
        Payload::Start => {
            w.u8(START);
        }
        Payload::Command(command) => {
            w.u8(COMMAND).bytes(command);
        }
        Payload::Config(config) => {
            w.u8(CONFIG);
            put_config(w, config);
        }
    }
}

pub(crate) fn get_payload(r: &mut Reader) -> Result<Payload> {
    match r.u8()? {
        NOOP => Ok(Payload::Noop),
        START => Ok(Payload::Start),
        COMMAND => Ok(Payload::Command(r.bytes()?)),
        CONFIG => Ok(Payload::Config(get_config(r)?)),
        tag => Err(DecodeError(format!("no payload has tag {tag}"))),
    }
}

pub(crate) fn put_entry(w: &mut Writer, entry: &Entry) {
    w.slot(entry.slot).ballot(entry.ballot).ballot(entry.origin);
    put_payload(w, &entry.payload);
}

pub(crate) fn get_entry(r: &mut Reader) -> Result<Entry> {
    Ok(Entry { slot: get_slot(r)?, ballot: get_ballot(r)?, origin: get_ballot(r)?, payload: get_payload(r)? })
}

fn put_config(w: &mut Writer, config: &Configuration) {
    w.list(config.voters.iter(), |w, node| {
        w.node(*node);
    });
    w.list(config.learners.iter(), |w, node| {
        w.node(*node);
    });
}

fn get_config(r: &mut Reader) -> Result<Configuration> {
    let voters: BTreeSet<NodeId> = r.list(Reader::node)?.into_iter().collect();
    let learners: BTreeSet<NodeId> = r.list(Reader::node)?.into_iter().collect();
    if voters.len() > VOTERS_MAX || learners.len() > LEARNERS_MAX {
        return Err(DecodeError(format!("{} voters and {} learners are too many", voters.len(), learners.len())));
    }
    if !voters.is_disjoint(&learners) {
        return Err(DecodeError("a node is both voter and learner".to_string()));
    }
    Ok(Configuration { voters, learners })
}

fn version(r: &mut Reader) -> Result<()> {
    match r.u8()? {
        VERSION => Ok(()),
        other => Err(DecodeError(format!("version {other} is not known"))),
    }
}

impl Entry {
    /// Its bytes on disk.
    pub fn encode(&self) -> Bytes {
        let mut w = Writer::with_capacity(64 + crate::log::entry_bytes(self));
        w.u8(VERSION);
        put_entry(&mut w, self);
        w.finish()
    }

    /// From its bytes; a command shares their memory.
    pub fn decode(bytes: Bytes) -> Result<Entry> {
        let mut r = Reader::new(bytes);
        version(&mut r)?;
        let entry = get_entry(&mut r)?;
        r.end()?;
        Ok(entry)
    }
}

impl HardState {
    /// Its bytes on disk.
    pub fn encode(&self) -> Bytes {
        let mut w = Writer::with_capacity(96);
        w.u8(VERSION).ballot(self.promised);
        w.option(self.lease, |w, vote| {
            w.node(vote.holder).timestamp(vote.until);
        });
        w.option(self.lease_floor, |w, floor| {
            w.timestamp(floor);
        });
        w.slot(self.chosen).slot(self.truncated);
        w.finish()
    }

    /// From its bytes.
    pub fn decode(bytes: Bytes) -> Result<HardState> {
        let mut r = Reader::new(bytes);
        version(&mut r)?;
        let hard = HardState {
            promised: get_ballot(&mut r)?,
            lease: r.option(|r| Ok(LeaseVote { holder: r.node()?, until: r.timestamp()? }))?,
            lease_floor: r.option(Reader::timestamp)?,
            chosen: get_slot(&mut r)?,
            truncated: get_slot(&mut r)?,
        };
        r.end()?;
        Ok(hard)
    }
}

impl Configuration {
    /// Its bytes on disk.
    pub fn encode(&self) -> Bytes {
        let mut w = Writer::new();
        w.u8(VERSION);
        put_config(&mut w, self);
        w.finish()
    }

    /// From its bytes. Too many voters, and a node that is both voter and learner, are errors.
    pub fn decode(bytes: Bytes) -> Result<Configuration> {
        let mut r = Reader::new(bytes);
        version(&mut r)?;
        let config = get_config(&mut r)?;
        r.end()?;
        Ok(config)
    }
}
