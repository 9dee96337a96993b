//! A replica's durable metadata: one small record, written in the same batch as the data that it
//! vouches for, so that the applied index and the applied state can never disagree.

use bytes::Bytes;
use paxos::codec::{DecodeError, Reader, Result, Writer};
use paxos::{Ballot, Configuration, GroupId, NodeId, Slot};
use truetime::Timestamp;

use crate::types::{RangeDescriptor, Span, TxnId};

/// The metadata of one group's replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMeta {
    /// Which keys it holds.
    pub range: RangeDescriptor,
    /// Who takes part.
    pub config: Configuration,
    /// Every slot up to here is applied.
    pub applied: Slot,
    /// The last `Start` applied (see the epoch rule in `paxos`).
    pub epoch: Ballot,
    /// The largest timestamp that a leader assigned to an applied record: no later slot holds a
    /// smaller one.
    pub assigned_ts: Timestamp,
    /// The largest commit timestamp applied; may exceed `assigned_ts` by another group's choice.
    pub commit_ts: Timestamp,
    /// Every timestamp used before the group existed is at or below: the lease floor of its birth.
    pub born_ts: Timestamp,
    /// Reads below get an error.
    pub gc_line: Timestamp,
    /// Outcomes of transactions that began before are forgotten.
    pub outcomes_before: Timestamp,
    /// Who should lead.
    pub preferred: NodeId,
    /// A snapshot was being installed: the data is of no use until one has been.
    pub installing: bool,
}

const FORMAT: u8 = 1;

impl GroupMeta {
    /// Of a new group.
    pub fn new(range: RangeDescriptor, config: Configuration, preferred: NodeId, born_ts: Timestamp) -> GroupMeta {
        GroupMeta {
            range,
            config,
            applied: Slot(0),
            epoch: Ballot::ZERO,
            assigned_ts: born_ts,
            commit_ts: born_ts,
            born_ts,
            gc_line: Timestamp::MIN,
            outcomes_before: Timestamp::MIN,
            preferred,
            installing: false,
        }
    }

    /// The bytes of the record.
    pub fn encode(&self) -> Bytes {
        let mut w = Writer::with_capacity(192);
        w.u8(FORMAT).group(self.range.group).bytes(&self.range.span.start).bytes(&self.range.span.end);
        w.u64(self.range.epoch);
        w.bytes(&self.config.encode());
        w.slot(self.applied).ballot(self.epoch).timestamp(self.assigned_ts).timestamp(self.commit_ts);
        w.timestamp(self.born_ts).timestamp(self.gc_line).timestamp(self.outcomes_before);
        w.node(self.preferred).bool(self.installing);
        w.finish()
    }

    /// From the bytes of a record.
    pub fn decode(bytes: Bytes) -> Result<GroupMeta> {
        let mut r = Reader::new(bytes);
        let format = r.u8()?;
        if format != FORMAT {
            return Err(DecodeError(format!("group metadata of format {format}")));
        }
        let meta = GroupMeta {
            range: RangeDescriptor {
                group: r.group()?,
                span: Span { start: r.bytes()?, end: r.bytes()? },
                epoch: r.u64()?,
            },
            config: Configuration::decode(r.bytes()?)?,
            applied: r.slot()?,
            epoch: r.ballot()?,
            assigned_ts: r.timestamp()?,
            commit_ts: r.timestamp()?,
            born_ts: r.timestamp()?,
            gc_line: r.timestamp()?,
            outcomes_before: r.timestamp()?,
            preferred: r.node()?,
            installing: r.bool()?,
        };
        r.end()?;
        Ok(meta)
    }

    /// The group.
    pub fn group(&self) -> GroupId {
        self.range.group
    }
}

/// How a transaction ended, as kept by a group: `None` for aborted.
pub fn encode_outcome(commit_ts: Option<Timestamp>) -> Bytes {
    let mut w = Writer::with_capacity(9);
    w.option(commit_ts, |w, ts| {
        w.timestamp(ts);
    });
    w.finish()
}

/// From the bytes of an outcome.
pub fn decode_outcome(bytes: Bytes) -> Result<Option<Timestamp>> {
    let mut r = Reader::new(bytes);
    let outcome = r.option(Reader::timestamp)?;
    r.end()?;
    Ok(outcome)
}

/// A commit decision that participants may still have to learn: when, and who they are.
pub fn encode_decision(ts: Timestamp, participants: &[GroupId]) -> Bytes {
    let mut w = Writer::with_capacity(32);
    w.timestamp(ts).list(participants.iter(), |w, g| {
        w.group(*g);
    });
    w.finish()
}

/// From the bytes of a decision.
pub fn decode_decision(bytes: Bytes) -> Result<(Timestamp, Vec<GroupId>)> {
    let mut r = Reader::new(bytes);
    let decision = (r.timestamp()?, r.list(Reader::group)?);
    r.end()?;
    Ok(decision)
}

/// The smallest name of a transaction that began at `start`: names are ordered by age.
pub fn first_txn_at(start: Timestamp) -> TxnId {
    TxnId((start.as_nanos().max(0) as u128) << 64)
}
