//! What replicas of one group say to each other, and its bytes.
//!
//! ```text
//!   candidate                acceptors              leader                   acceptors, learners
//!      | Prepare{probe} ------> |                      | Accept{entries,chosen} --> |
//!      | <------------- Willing |                      | <---------------- Accepted |
//!      | Prepare -------------> |                      | Accept{} (a heartbeat) --> |
//!      | <---- Promise, or Reject                      | Release, TimeoutNow -----> |  hand-over
//!                          laggard | CatchUp --------> | anyone
//!                                  | <--- ChosenEntries|
//! ```
//!
//! A message is one version byte, one tag byte, and fields. Decoding never panics; numbers that
//! could overflow an addition, and leases longer than [`LEASE_NS_MAX`], are refused there.

use bytes::Bytes;
use truetime::Timestamp;

use crate::codec::{DecodeError, Reader, Result, Writer};
use crate::log::entry_bytes;
use crate::stored::{get_ballot, get_entry, get_payload, get_slot, put_entry, put_payload};
use crate::{Ballot, Entry, Slot};

const VERSION: u8 = 1;
/// The longest lease that may be asked for: one hour.
pub const LEASE_NS_MAX: i64 = 3_600_000_000_000;

const PREPARE: u8 = 1;
const WILLING: u8 = 2;
const PROMISE: u8 = 3;
const REJECT: u8 = 4;
const ACCEPT: u8 = 5;
const ACCEPTED: u8 = 6;
const CATCH_UP: u8 = 7;
const CHOSEN_ENTRIES: u8 = 8;
const RELEASE: u8 = 9;
const TIMEOUT_NOW: u8 = 10;

/// A lease asked for, and echoed when it is granted: from `start` for `ns`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseRequest {
    /// `TT.now().earliest` of the one who asks, when it asked.
    pub start: Timestamp,
    /// Length in nanoseconds.
    pub ns: i64,
}

impl LeaseRequest {
    /// A vote for this request supports a lease up to here.
    pub fn end(&self) -> Timestamp {
        self.start.plus_ns(self.ns)
    }
}

/// Why an acceptor refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It has promised a higher ballot.
    Promised,
    /// Its lease vote for another node may not have expired; it has once this has surely passed.
    Leased(Timestamp),
    /// It cannot trust its clock.
    Untrusted,
    /// The candidate lacks slots that the acceptor has truncated: it needs a snapshot first.
    Behind,
}

/// A message between two replicas of the same group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Phase 1a for every slot from `from` on, and a request for a lease vote.
    Prepare {
        /// The candidate's ballot.
        ballot: Ballot,
        /// Only asks whether it would be granted; changes nothing.
        probe: bool,
        /// The candidate's first slot not known to be chosen.
        from: Slot,
        /// The lease asked for.
        lease: LeaseRequest,
    },
    /// The probe of this ballot would be granted now.
    Willing {
        /// The ballot of the probe.
        ballot: Ballot,
    },
    /// Phase 1b, in as many parts as its entries need.
    Promise {
        /// The ballot promised.
        ballot: Ballot,
        /// Slots up to here are known to be chosen; the candidate has to learn those.
        chosen: Slot,
        /// Timestamps up to here may have been used by earlier leaders that this acceptor voted for.
        floor: Option<Timestamp>,
        /// The lease granted.
        lease: LeaseRequest,
        /// Which part this is, from 0.
        part: u32,
        /// How many parts there are.
        parts: u32,
        /// What was accepted in slots that are open to both.
        entries: Vec<Entry>,
    },
    /// A Prepare or Accept is refused.
    Reject {
        /// The ballot refused.
        ballot: Ballot,
        /// The highest promise of the acceptor.
        promised: Ballot,
        /// Why.
        reason: Refusal,
    },
    /// Phase 2a; a heartbeat when it has no entries.
    Accept {
        /// The leader's ballot.
        ballot: Ballot,
        /// Slots up to here are chosen.
        chosen: Slot,
        /// The extension of the lease asked for.
        lease: LeaseRequest,
        /// Values proposed under `ballot`.
        entries: Vec<Entry>,
    },
    /// Phase 2b.
    Accepted {
        /// The ballot accepted.
        ballot: Ballot,
        /// The acceptor knows slots up to here to be chosen.
        chosen: Slot,
        /// The lease granted, if it was.
        lease: Option<LeaseRequest>,
        /// The slots accepted: first and last of each run.
        ranges: Vec<(Slot, Slot)>,
    },
    /// Asks for chosen entries.
    CatchUp {
        /// The first one wanted.
        from: Slot,
    },
    /// Chosen entries, without gaps.
    ChosenEntries {
        /// The sender knows slots up to here to be chosen.
        chosen: Slot,
        /// From the slot asked for, as many as fit.
        entries: Vec<Entry>,
    },
    /// The sender has given up its lease; it used no timestamp above `used`, and that has passed.
    Release {
        /// The ballot under which it had the lease, or stood for it.
        ballot: Ballot,
        /// The largest timestamp used.
        used: Timestamp,
    },
    /// A [`Message::Release`], and the request to stand for election at once.
    TimeoutNow {
        /// As in `Release`.
        ballot: Ballot,
        /// As in `Release`.
        used: Timestamp,
    },
}

fn put_lease(w: &mut Writer, lease: LeaseRequest) {
    w.timestamp(lease.start).i64(lease.ns);
}

fn get_lease(r: &mut Reader) -> Result<LeaseRequest> {
    let lease = LeaseRequest { start: r.timestamp()?, ns: r.i64()? };
    if !(0..=LEASE_NS_MAX).contains(&lease.ns) {
        return Err(DecodeError(format!("a lease of {} ns is out of range", lease.ns)));
    }
    Ok(lease)
}

fn get_range(r: &mut Reader) -> Result<(Slot, Slot)> {
    let (first, last) = (get_slot(r)?, get_slot(r)?);
    if first > last {
        return Err(DecodeError(format!("slots {first} to {last} are out of order")));
    }
    Ok((first, last))
}

impl Refusal {
    fn put(self, w: &mut Writer) {
        match self {
            Refusal::Promised => w.u8(0),
            Refusal::Leased(until) => w.u8(1).timestamp(until),
            Refusal::Untrusted => w.u8(2),
            Refusal::Behind => w.u8(3),
        };
    }

    fn get(r: &mut Reader) -> Result<Refusal> {
        match r.u8()? {
            0 => Ok(Refusal::Promised),
            1 => Ok(Refusal::Leased(r.timestamp()?)),
            2 => Ok(Refusal::Untrusted),
            3 => Ok(Refusal::Behind),
            tag => Err(DecodeError(format!("no refusal has tag {tag}"))),
        }
    }
}

impl Message {
    /// Its name, for traces and counters.
    pub fn name(&self) -> &'static str {
        match self {
            Message::Prepare { probe: true, .. } => "Probe",
            Message::Prepare { .. } => "Prepare",
            Message::Willing { .. } => "Willing",
            Message::Promise { .. } => "Promise",
            Message::Reject { .. } => "Reject",
            Message::Accept { .. } => "Accept",
            Message::Accepted { .. } => "Accepted",
            Message::CatchUp { .. } => "CatchUp",
            Message::ChosenEntries { .. } => "ChosenEntries",
            Message::Release { .. } => "Release",
            Message::TimeoutNow { .. } => "TimeoutNow",
        }
    }

    /// About how many bytes it takes encoded, for batching; never less than it does take.
    pub fn size_hint(&self) -> usize {
        const FIXED_BYTES: usize = 96;
        FIXED_BYTES
            + match self {
                Message::Promise { entries, .. }
                | Message::Accept { entries, .. }
                | Message::ChosenEntries { entries, .. } => entries.iter().map(entry_bytes).sum(),
                Message::Accepted { ranges, .. } => 16 * ranges.len(),
                _ => 0,
            }
    }

    /// Its bytes.
    pub fn encode(&self) -> Bytes {
        let mut w = Writer::with_capacity(self.size_hint());
        w.u8(VERSION);
        match self {
            Message::Prepare { ballot, probe, from, lease } => {
                w.u8(PREPARE).ballot(*ballot).bool(*probe).slot(*from);
                put_lease(&mut w, *lease);
            }
            Message::Willing { ballot } => {
                w.u8(WILLING).ballot(*ballot);
            }
            Message::Promise { ballot, chosen, floor, lease, part, parts, entries } => {
                w.u8(PROMISE).ballot(*ballot).slot(*chosen).option(*floor, |w, floor| {
                    w.timestamp(floor);
                });
                put_lease(&mut w, *lease);
                w.u32(*part).u32(*parts).list(entries.iter(), put_entry);
            }
            Message::Reject { ballot, promised, reason } => {
                w.u8(REJECT).ballot(*ballot).ballot(*promised);
                reason.put(&mut w);
            }
            Message::Accept { ballot, chosen, lease, entries } => {
                w.u8(ACCEPT).ballot(*ballot).slot(*chosen);
                put_lease(&mut w, *lease);
                // Every entry has the ballot of the message.
                w.list(entries.iter(), |w, entry| {
                    w.slot(entry.slot).ballot(entry.origin);
                    put_payload(w, &entry.payload);
                });
            }
            Message::Accepted { ballot, chosen, lease, ranges } => {
                w.u8(ACCEPTED).ballot(*ballot).slot(*chosen).option(*lease, put_lease);
                w.list(ranges.iter(), |w, (first, last)| {
                    w.slot(*first).slot(*last);
                });
            }
            Message::CatchUp { from } => {
                w.u8(CATCH_UP).slot(*from);
            }
            Message::ChosenEntries { chosen, entries } => {
                w.u8(CHOSEN_ENTRIES).slot(*chosen).list(entries.iter(), put_entry);
            }
            Message::Release { ballot, used } => {
                w.u8(RELEASE).ballot(*ballot).timestamp(*used);
            }
            Message::TimeoutNow { ballot, used } => {
                w.u8(TIMEOUT_NOW).ballot(*ballot).timestamp(*used);
            }
        }
        w.finish()
    }

    /// From bytes that a peer sent; commands share their memory.
    pub fn decode(bytes: Bytes) -> Result<Message> {
        let mut r = Reader::new(bytes);
        let version = r.u8()?;
        if version != VERSION {
            return Err(DecodeError(format!("message version {version} is not known")));
        }
        let message = match r.u8()? {
            PREPARE => Message::Prepare {
                ballot: get_ballot(&mut r)?,
                probe: r.bool()?,
                from: get_slot(&mut r)?,
                lease: get_lease(&mut r)?,
            },
            WILLING => Message::Willing { ballot: get_ballot(&mut r)? },
            PROMISE => Message::Promise {
                ballot: get_ballot(&mut r)?,
                chosen: get_slot(&mut r)?,
                floor: r.option(Reader::timestamp)?,
                lease: get_lease(&mut r)?,
                part: r.u32()?,
                parts: r.u32()?,
                entries: r.list(get_entry)?,
            },
            REJECT => Message::Reject {
                ballot: get_ballot(&mut r)?,
                promised: get_ballot(&mut r)?,
                reason: Refusal::get(&mut r)?,
            },
            ACCEPT => {
                let ballot = get_ballot(&mut r)?;
                Message::Accept {
                    ballot,
                    chosen: get_slot(&mut r)?,
                    lease: get_lease(&mut r)?,
                    entries: r.list(|r| {
                        Ok(Entry { slot: get_slot(r)?, ballot, origin: get_ballot(r)?, payload: get_payload(r)? })
                    })?,
                }
            }
            ACCEPTED => Message::Accepted {
                ballot: get_ballot(&mut r)?,
                chosen: get_slot(&mut r)?,
                lease: r.option(get_lease)?,
                ranges: r.list(get_range)?,
            },
            CATCH_UP => Message::CatchUp { from: get_slot(&mut r)? },
            CHOSEN_ENTRIES => Message::ChosenEntries { chosen: get_slot(&mut r)?, entries: r.list(get_entry)? },
            RELEASE => Message::Release { ballot: get_ballot(&mut r)?, used: r.timestamp()? },
            TIMEOUT_NOW => Message::TimeoutNow { ballot: get_ballot(&mut r)?, used: r.timestamp()? },
            tag => return Err(DecodeError(format!("no message has tag {tag}"))),
        };
        r.end()?;
        Ok(message)
    }
}
