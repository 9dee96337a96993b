//! The log records of a group: what its replicas apply, in slot order, each exactly as the others.
//!
//! A record that assigns a timestamp (`Commit`, `Prepare`, `Split`) carries one above that of every
//! earlier such record: log order is timestamp order. `Decide` is the exception: its timestamp was
//! chosen by another group, and the prepare record has kept safe time below it.

use bytes::Bytes;
use paxos::codec::{DecodeError, Reader, Result, Writer};
use paxos::{GroupId, NodeId};
use truetime::Timestamp;

use crate::types::{Key, LockMode, Mutation, Priority, Span, TxnId};

/// What a participant promises to commit, if it is told to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreparedTxn {
    /// Which.
    pub txn: TxnId,
    /// Its age.
    pub priority: Priority,
    /// The prepare timestamp: the commit timestamp will not be below.
    pub prepare_ts: Timestamp,
    /// Who decides.
    pub coordinator: GroupId,
    /// What it writes here.
    pub writes: Vec<Mutation>,
    /// Every lock it holds here. A new leader takes them again: without its read locks, a
    /// transaction that is later given a larger timestamp could have read what was overwritten.
    pub locks: Vec<(Span, LockMode)>,
}

/// One log record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// A transaction has committed: this group was its only participant, or its coordinator.
    Commit {
        /// Which.
        txn: TxnId,
        /// When.
        ts: Timestamp,
        /// What it writes here.
        writes: Vec<Mutation>,
        /// Who else must be told.
        participants: Vec<GroupId>,
    },
    /// The transaction has not committed and never will.
    Abort {
        /// Which.
        txn: TxnId,
    },
    /// A participant has prepared.
    Prepare(PreparedTxn),
    /// A participant has learned the decision.
    Decide {
        /// Which.
        txn: TxnId,
        /// Committed then, or aborted.
        commit_ts: Option<Timestamp>,
    },
    /// Keys from `at` on belong to a new group.
    Split {
        /// Its first key.
        at: Key,
        /// Its number.
        new_group: GroupId,
        /// Who should lead it first.
        leader: NodeId,
        /// Every timestamp used for these keys so far is at or below.
        ts: Timestamp,
    },
    /// Versions below `line` are no longer readable; outcomes of transactions that began before
    /// `outcomes_before` are forgotten.
    Gc {
        /// Reads below get an error.
        line: Timestamp,
        /// By the transaction's start.
        outcomes_before: Timestamp,
    },
    /// Every participant of these transactions has applied the decision: the coordinator need not
    /// keep it any longer than other outcomes.
    Forget {
        /// Which.
        txns: Vec<TxnId>,
    },
}

impl Command {
    /// The timestamp that the leader assigned to it, if it carries one.
    pub fn assigned_ts(&self) -> Option<Timestamp> {
        match self {
            Command::Commit { ts, .. } | Command::Split { ts, .. } => Some(*ts),
            Command::Prepare(p) => Some(p.prepare_ts),
            Command::Abort { .. } | Command::Decide { .. } | Command::Gc { .. } | Command::Forget { .. } => None,
        }
    }

    /// The bytes of the record.
    pub fn encode(&self) -> Bytes {
        let mut w = Writer::with_capacity(64);
        match self {
            Command::Commit { txn, ts, writes, participants } => {
                w.u8(1).u128(txn.0).timestamp(*ts);
                put_writes(&mut w, writes);
                w.list(participants.iter(), |w, g| {
                    w.group(*g);
                });
            }
            Command::Abort { txn } => {
                w.u8(2).u128(txn.0);
            }
            Command::Prepare(prepared) => {
                w.u8(3);
                put_prepared(&mut w, prepared);
            }
            Command::Decide { txn, commit_ts } => {
                w.u8(4).u128(txn.0).option(*commit_ts, |w, ts| {
                    w.timestamp(ts);
                });
            }
            Command::Split { at, new_group, leader, ts } => {
                w.u8(5).bytes(at).group(*new_group).node(*leader).timestamp(*ts);
            }
            Command::Gc { line, outcomes_before } => {
                w.u8(6).timestamp(*line).timestamp(*outcomes_before);
            }
            Command::Forget { txns } => {
                w.u8(7).list(txns.iter(), |w, t| {
                    w.u128(t.0);
                });
            }
        }
        w.finish()
    }

    /// From the bytes of a record.
    pub fn decode(bytes: Bytes) -> Result<Command> {
        let mut r = Reader::new(bytes);
        let command = match r.u8()? {
            1 => Command::Commit {
                txn: TxnId(r.u128()?),
                ts: r.timestamp()?,
                writes: get_writes(&mut r)?,
                participants: r.list(Reader::group)?,
            },
            2 => Command::Abort { txn: TxnId(r.u128()?) },
            3 => Command::Prepare(get_prepared(&mut r)?),
            4 => Command::Decide { txn: TxnId(r.u128()?), commit_ts: r.option(Reader::timestamp)? },
            5 => Command::Split { at: r.bytes()?, new_group: r.group()?, leader: r.node()?, ts: r.timestamp()? },
            6 => Command::Gc { line: r.timestamp()?, outcomes_before: r.timestamp()? },
            7 => Command::Forget { txns: r.list(|r| Ok(TxnId(r.u128()?)))? },
            tag => return Err(DecodeError(format!("{tag} is not a command"))),
        };
        r.end()?;
        Ok(command)
    }
}

impl PreparedTxn {
    /// The bytes kept in the state store while the decision is out.
    pub fn encode(&self) -> Bytes {
        let mut w = Writer::with_capacity(128);
        put_prepared(&mut w, self);
        w.finish()
    }

    /// From the state store.
    pub fn decode(bytes: Bytes) -> Result<PreparedTxn> {
        let mut r = Reader::new(bytes);
        let prepared = get_prepared(&mut r)?;
        r.end()?;
        Ok(prepared)
    }
}

fn put_writes(w: &mut Writer, writes: &[Mutation]) {
    w.list(writes.iter(), |w, m| {
        w.bytes(&m.key).option(m.value.as_ref(), |w, v| {
            w.bytes(v);
        });
    });
}

fn get_writes(r: &mut Reader) -> Result<Vec<Mutation>> {
    r.list(|r| Ok(Mutation { key: r.bytes()?, value: r.option(Reader::bytes)? }))
}

fn put_prepared(w: &mut Writer, p: &PreparedTxn) {
    w.u128(p.txn.0).timestamp(p.priority.start).u128(p.priority.id.0).timestamp(p.prepare_ts).group(p.coordinator);
    put_writes(w, &p.writes);
    w.list(p.locks.iter(), |w, (span, mode)| {
        w.bytes(&span.start).bytes(&span.end).bool(*mode == LockMode::Exclusive);
    });
}

fn get_prepared(r: &mut Reader) -> Result<PreparedTxn> {
    Ok(PreparedTxn {
        txn: TxnId(r.u128()?),
        priority: Priority { start: r.timestamp()?, id: TxnId(r.u128()?) },
        prepare_ts: r.timestamp()?,
        coordinator: r.group()?,
        writes: get_writes(r)?,
        locks: r.list(|r| {
            let span = Span { start: r.bytes()?, end: r.bytes()? };
            let mode = if r.bool()? { LockMode::Exclusive } else { LockMode::Shared };
            Ok((span, mode))
        })?,
    })
}
