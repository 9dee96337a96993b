//! The bytes of a [`NodeMessage`]: a format byte, then the message by [`paxos::codec`]'s rules, a
//! tag byte for each enum.
//!
//! What arrives was written by a peer, so everything is checked and nothing is trusted: whatever
//! the bytes are, decoding answers with a message or with an error. It checks form only; a span
//! with its ends out of order, say, is for the group to refuse. Keys and values of a decoded
//! message share the memory of the bytes it came from.
//!
//! The tags of a released format never change their meaning: a new variant takes a new tag, and a
//! change of an old one takes a new format byte.

use bytes::Bytes;
use paxos::Configuration;
use paxos::codec::{DecodeError, Reader, Result, Writer};

use crate::api::{
    AbortReason, CommitTiming, GroupError, Inspection, LockRow, ReadOp, ReadResult, Reply, Request, RequestBody,
    TxnRow, TxnStatus,
};
use crate::message::{NodeMessage, SnapshotEnd, SnapshotMessage, TwoPhase};
use crate::types::{LockMode, LockPolicy, Mutation, Priority, RangeDescriptor, Row, Span, TxnId};

#[cfg(test)]
mod tests;

/// The first byte of every message.
const FORMAT: u8 = 1;

impl NodeMessage {
    /// The message as bytes.
    pub fn encode(&self) -> Bytes {
        let mut w = Writer::with_capacity(256);
        w.u8(FORMAT);
        match self {
            NodeMessage::Paxos { group, message } => {
                w.u8(0).group(*group).bytes(&message.encode());
            }
            NodeMessage::SafeTime { group, ballot, slot, ts } => {
                w.u8(1).group(*group).ballot(*ballot).slot(*slot).timestamp(*ts);
            }
            NodeMessage::WantSafeTime { group, ts } => {
                w.u8(2).group(*group).timestamp(*ts);
            }
            NodeMessage::Snapshot { group, message } => put_snapshot(w.u8(3).group(*group), message),
            NodeMessage::TwoPhase { group, hops, body } => put_two_phase(w.u8(4).group(*group).u8(*hops), body),
            NodeMessage::Request(request) => put_request(w.u8(5), request),
            NodeMessage::Reply { id, reply } => put_reply(w.u8(6).u64(*id), reply),
        }
        w.finish()
    }

    /// The message of these bytes. Fails unless they are exactly one message.
    pub fn decode(bytes: Bytes) -> Result<NodeMessage> {
        let mut r = Reader::new(bytes);
        let format = r.u8()?;
        if format != FORMAT {
            return Err(DecodeError(format!("message format {format}, expected {FORMAT}")));
        }
        let message = match r.u8()? {
            0 => NodeMessage::Paxos { group: r.group()?, message: paxos::Message::decode(r.bytes()?)? },
            1 => NodeMessage::SafeTime { group: r.group()?, ballot: r.ballot()?, slot: r.slot()?, ts: r.timestamp()? },
            2 => NodeMessage::WantSafeTime { group: r.group()?, ts: r.timestamp()? },
            3 => NodeMessage::Snapshot { group: r.group()?, message: get_snapshot(&mut r)? },
            4 => NodeMessage::TwoPhase { group: r.group()?, hops: r.u8()?, body: get_two_phase(&mut r)? },
            5 => NodeMessage::Request(get_request(&mut r)?),
            6 => NodeMessage::Reply { id: r.u64()?, reply: get_reply(&mut r)? },
            tag => return unknown("message", tag),
        };
        r.end()?;
        Ok(message)
    }
}

fn unknown<T>(what: &str, tag: u8) -> Result<T> {
    Err(DecodeError(format!("{tag} is no kind of {what}")))
}

fn put_snapshot(w: &mut Writer, message: &SnapshotMessage) {
    match message {
        SnapshotMessage::Chunk { transfer, number, pairs, last } => {
            w.u8(0).i64(*transfer).u64(*number);
            w.list(pairs.iter(), |w, (key, value)| {
                w.bytes(key).bytes(value);
            });
            w.option(last.as_ref(), put_snapshot_end);
        }
        SnapshotMessage::Ack { transfer, number } => {
            w.u8(1).i64(*transfer).u64(*number);
        }
    }
}

fn get_snapshot(r: &mut Reader) -> Result<SnapshotMessage> {
    Ok(match r.u8()? {
        0 => SnapshotMessage::Chunk {
            transfer: r.i64()?,
            number: r.u64()?,
            pairs: r.list(|r| Ok((r.bytes()?, r.bytes()?)))?,
            last: r.option(get_snapshot_end)?,
        },
        1 => SnapshotMessage::Ack { transfer: r.i64()?, number: r.u64()? },
        tag => return unknown("snapshot message", tag),
    })
}

fn put_snapshot_end(w: &mut Writer, end: &SnapshotEnd) {
    w.slot(end.applied).ballot(end.epoch);
    for nodes in [&end.config.voters, &end.config.learners] {
        w.list(nodes.iter(), |w, node| {
            w.node(*node);
        });
    }
    w.bytes(&end.meta).slot(end.read_upto);
}

fn get_snapshot_end(r: &mut Reader) -> Result<SnapshotEnd> {
    let (applied, epoch) = (r.slot()?, r.ballot()?);
    let voters = r.list(Reader::node)?.into_iter().collect();
    let learners = r.list(Reader::node)?.into_iter().collect();
    Ok(SnapshotEnd {
        applied,
        epoch,
        config: Configuration { voters, learners },
        meta: r.bytes()?,
        read_upto: r.slot()?,
    })
}

fn put_two_phase(w: &mut Writer, body: &TwoPhase) {
    match body {
        TwoPhase::Prepared { txn, from, prepare_ts } => {
            w.u8(0).u128(txn.0).group(*from).timestamp(*prepare_ts);
        }
        TwoPhase::Refused { txn, from, reason } => {
            w.u8(1).u128(txn.0).group(*from).u8(abort_tag(*reason));
        }
        TwoPhase::Decided { txn, from, commit_ts } => {
            w.u8(2).u128(txn.0).group(*from).option(*commit_ts, |w, ts| {
                w.timestamp(ts);
            });
        }
        TwoPhase::Acknowledged { txn, from } => {
            w.u8(3).u128(txn.0).group(*from);
        }
    }
}

fn get_two_phase(r: &mut Reader) -> Result<TwoPhase> {
    Ok(match r.u8()? {
        0 => TwoPhase::Prepared { txn: get_txn(r)?, from: r.group()?, prepare_ts: r.timestamp()? },
        1 => TwoPhase::Refused { txn: get_txn(r)?, from: r.group()?, reason: get_abort(r)? },
        2 => TwoPhase::Decided { txn: get_txn(r)?, from: r.group()?, commit_ts: r.option(Reader::timestamp)? },
        3 => TwoPhase::Acknowledged { txn: get_txn(r)?, from: r.group()? },
        tag => return unknown("two-phase message", tag),
    })
}

fn put_request(w: &mut Writer, request: &Request) {
    w.u64(request.id).group(request.group);
    match &request.body {
        RequestBody::Read { txn, priority, leadership, ops, mode, policy } => {
            // A read that waits is one that older nodes understand, too.
            put_txn(w.u8(if *policy == LockPolicy::Wait { 0 } else { 11 }), *txn, *priority);
            w.option(*leadership, put_ballot).list(ops.iter(), put_read_op).u8(mode_tag(*mode));
            match policy {
                LockPolicy::Wait => {}
                LockPolicy::WaitAtMost(ns) => {
                    w.u8(0).i64(*ns);
                }
                LockPolicy::NoWait => {
                    w.u8(1);
                }
                LockPolicy::Skip => {
                    w.u8(2);
                }
                LockPolicy::Unlocked => {
                    w.u8(3);
                }
            }
        }
        RequestBody::Snapshot { at, ops } => {
            w.u8(1).option(*at, put_timestamp).list(ops.iter(), put_read_op);
        }
        RequestBody::Commit { txn, priority, leadership, writes, participants, deadline } => {
            put_txn(w.u8(2), *txn, *priority);
            w.option(*leadership, put_ballot).list(writes.iter(), put_mutation);
            w.list(participants.iter(), |w, group| {
                w.group(*group);
            });
            w.option(*deadline, put_timestamp);
        }
        RequestBody::Prepare { txn, priority, leadership, writes, coordinator } => {
            put_txn(w.u8(3), *txn, *priority);
            w.option(*leadership, put_ballot).list(writes.iter(), put_mutation).group(*coordinator);
        }
        RequestBody::Abort { txn } => {
            w.u8(4).u128(txn.0);
        }
        RequestBody::KeepAlive { txn, leadership } => {
            w.u8(5).u128(txn.0).ballot(*leadership);
        }
        RequestBody::Status { txn } => {
            w.u8(6).u128(txn.0);
        }
        RequestBody::Split { at, new_group, leader } => {
            w.u8(7).bytes(at).group(*new_group).node(*leader);
        }
        RequestBody::HandOver { to } => {
            w.u8(8).option(*to, |w, node| {
                w.node(node);
            });
        }
        RequestBody::Inspect => {
            w.u8(9);
        }
        RequestBody::Checksum => {
            w.u8(10);
        }
    }
}

fn get_request(r: &mut Reader) -> Result<Request> {
    let (id, group) = (r.u64()?, r.group()?);
    let body = match r.u8()? {
        tag @ (0 | 11) => RequestBody::Read {
            txn: get_txn(r)?,
            priority: get_priority(r)?,
            leadership: r.option(Reader::ballot)?,
            ops: r.list(get_read_op)?,
            mode: get_mode(r)?,
            policy: if tag == 0 { LockPolicy::Wait } else { get_policy(r)? },
        },
        1 => RequestBody::Snapshot { at: r.option(Reader::timestamp)?, ops: r.list(get_read_op)? },
        2 => RequestBody::Commit {
            txn: get_txn(r)?,
            priority: get_priority(r)?,
            leadership: r.option(Reader::ballot)?,
            writes: r.list(get_mutation)?,
            participants: r.list(Reader::group)?,
            deadline: r.option(Reader::timestamp)?,
        },
        3 => RequestBody::Prepare {
            txn: get_txn(r)?,
            priority: get_priority(r)?,
            leadership: r.option(Reader::ballot)?,
            writes: r.list(get_mutation)?,
            coordinator: r.group()?,
        },
        4 => RequestBody::Abort { txn: get_txn(r)? },
        5 => RequestBody::KeepAlive { txn: get_txn(r)?, leadership: r.ballot()? },
        6 => RequestBody::Status { txn: get_txn(r)? },
        7 => RequestBody::Split { at: r.bytes()?, new_group: r.group()?, leader: r.node()? },
        8 => RequestBody::HandOver { to: r.option(Reader::node)? },
        9 => RequestBody::Inspect,
        10 => RequestBody::Checksum,
        tag => return unknown("request", tag),
    };
    Ok(Request { id, group, body })
}

fn put_reply(w: &mut Writer, reply: &Reply) {
    match reply {
        Reply::Rows { results, leadership, read_ts, wait_ns } => {
            w.u8(0).list(results.iter(), put_read_result);
            w.option(*leadership, put_ballot).option(*read_ts, put_timestamp).i64(*wait_ns);
        }
        Reply::Committed { commit_ts, timing } => put_timing(w.u8(1).timestamp(*commit_ts), timing),
        Reply::Prepared { prepare_ts, lock_wait_ns, replicate_ns } => {
            w.u8(2).timestamp(*prepare_ts).i64(*lock_wait_ns).i64(*replicate_ns);
        }
        Reply::Status(status) => {
            w.u8(3);
            match status {
                TxnStatus::Committed(ts) => w.u8(0).timestamp(*ts),
                TxnStatus::Aborted => w.u8(1),
                TxnStatus::Unknown => w.u8(2),
            };
        }
        Reply::Done => {
            w.u8(4);
        }
        Reply::Inspection(inspection) => {
            w.u8(5).list(inspection.txns.iter(), put_txn_row).list(inspection.locks.iter(), put_lock_row);
        }
        Reply::Checksum { applied, hash } => {
            w.u8(6).u64(*applied).u64(*hash);
        }
        Reply::Error(error) => put_error(w.u8(7), error),
    }
}

fn get_reply(r: &mut Reader) -> Result<Reply> {
    Ok(match r.u8()? {
        0 => Reply::Rows {
            results: r.list(get_read_result)?,
            leadership: r.option(Reader::ballot)?,
            read_ts: r.option(Reader::timestamp)?,
            wait_ns: r.i64()?,
        },
        1 => Reply::Committed { commit_ts: r.timestamp()?, timing: get_timing(r)? },
        2 => Reply::Prepared { prepare_ts: r.timestamp()?, lock_wait_ns: r.i64()?, replicate_ns: r.i64()? },
        3 => Reply::Status(match r.u8()? {
            0 => TxnStatus::Committed(r.timestamp()?),
            1 => TxnStatus::Aborted,
            2 => TxnStatus::Unknown,
            tag => return unknown("status", tag),
        }),
        4 => Reply::Done,
        5 => Reply::Inspection(Inspection { txns: r.list(get_txn_row)?, locks: r.list(get_lock_row)? }),
        6 => Reply::Checksum { applied: r.u64()?, hash: r.u64()? },
        7 => Reply::Error(get_error(r)?),
        tag => return unknown("reply", tag),
    })
}

fn put_error(w: &mut Writer, error: &GroupError) {
    match error {
        GroupError::NotLeader(hint) => {
            w.u8(0).option(*hint, |w, node| {
                w.node(node);
            });
        }
        GroupError::WrongRange(ranges) => {
            w.u8(1).list(ranges.iter(), |w, range| {
                w.group(range.group);
                put_span(w, &range.span);
                w.u64(range.epoch);
            });
        }
        GroupError::NoGroup => {
            w.u8(2);
        }
        GroupError::Unavailable(why) => {
            w.u8(3).string(why);
        }
        GroupError::Aborted(reason) => {
            w.u8(4).u8(abort_tag(*reason));
        }
        GroupError::TooOld { earliest } => {
            w.u8(5).timestamp(*earliest);
        }
        GroupError::Invalid(why) => {
            w.u8(6).string(why);
        }
        GroupError::LockNotAvailable => {
            w.u8(7);
        }
    }
}

fn get_error(r: &mut Reader) -> Result<GroupError> {
    Ok(match r.u8()? {
        0 => GroupError::NotLeader(r.option(Reader::node)?),
        1 => GroupError::WrongRange(
            r.list(|r| Ok(RangeDescriptor { group: r.group()?, span: get_span(r)?, epoch: r.u64()? }))?,
        ),
        2 => GroupError::NoGroup,
        3 => GroupError::Unavailable(r.string()?),
        4 => GroupError::Aborted(get_abort(r)?),
        5 => GroupError::TooOld { earliest: r.timestamp()? },
        6 => GroupError::Invalid(r.string()?),
        7 => GroupError::LockNotAvailable,
        tag => return unknown("error", tag),
    })
}

fn abort_tag(reason: AbortReason) -> u8 {
    match reason {
        AbortReason::Wounded => 0,
        AbortReason::LocksLost => 1,
        AbortReason::Participant => 2,
        AbortReason::GivenUp => 3,
        AbortReason::Split => 4,
        AbortReason::TooLate => 5,
    }
}

fn get_abort(r: &mut Reader) -> Result<AbortReason> {
    Ok(match r.u8()? {
        0 => AbortReason::Wounded,
        1 => AbortReason::LocksLost,
        2 => AbortReason::Participant,
        3 => AbortReason::GivenUp,
        4 => AbortReason::Split,
        5 => AbortReason::TooLate,
        tag => return unknown("abort", tag),
    })
}

fn mode_tag(mode: LockMode) -> u8 {
    match mode {
        LockMode::Shared => 0,
        LockMode::Exclusive => 1,
    }
}

fn get_mode(r: &mut Reader) -> Result<LockMode> {
    Ok(match r.u8()? {
        0 => LockMode::Shared,
        1 => LockMode::Exclusive,
        tag => return unknown("lock", tag),
    })
}

fn get_policy(r: &mut Reader) -> Result<LockPolicy> {
    Ok(match r.u8()? {
        0 => LockPolicy::WaitAtMost(r.i64()?),
        1 => LockPolicy::NoWait,
        2 => LockPolicy::Skip,
        3 => LockPolicy::Unlocked,
        tag => return unknown("lock policy", tag),
    })
}

fn put_ballot(w: &mut Writer, ballot: paxos::Ballot) {
    w.ballot(ballot);
}

fn put_timestamp(w: &mut Writer, ts: truetime::Timestamp) {
    w.timestamp(ts);
}

fn put_txn(w: &mut Writer, txn: TxnId, priority: Priority) {
    w.u128(txn.0).timestamp(priority.start).u128(priority.id.0);
}

fn get_txn(r: &mut Reader) -> Result<TxnId> {
    Ok(TxnId(r.u128()?))
}

fn get_priority(r: &mut Reader) -> Result<Priority> {
    Ok(Priority { start: r.timestamp()?, id: get_txn(r)? })
}

fn put_span(w: &mut Writer, span: &Span) {
    w.bytes(&span.start).bytes(&span.end);
}

fn get_span(r: &mut Reader) -> Result<Span> {
    Ok(Span { start: r.bytes()?, end: r.bytes()? })
}

fn put_read_op(w: &mut Writer, op: &ReadOp) {
    put_span(w, &op.span);
    w.bool(op.reverse).u64(op.limit);
}

fn get_read_op(r: &mut Reader) -> Result<ReadOp> {
    Ok(ReadOp { span: get_span(r)?, reverse: r.bool()?, limit: r.u64()? })
}

fn put_mutation(w: &mut Writer, mutation: &Mutation) {
    w.bytes(&mutation.key).option(mutation.value.as_ref(), |w, value| {
        w.bytes(value);
    });
}

fn get_mutation(r: &mut Reader) -> Result<Mutation> {
    Ok(Mutation { key: r.bytes()?, value: r.option(Reader::bytes)? })
}

fn put_read_result(w: &mut Writer, result: &ReadResult) {
    w.list(result.rows.iter(), |w, row| {
        w.bytes(&row.key).bytes(&row.value).timestamp(row.commit_ts);
    });
    w.option(result.resume.as_ref(), put_span);
}

fn get_read_result(r: &mut Reader) -> Result<ReadResult> {
    let rows = r.list(|r| Ok(Row { key: r.bytes()?, value: r.bytes()?, commit_ts: r.timestamp()? }))?;
    Ok(ReadResult { rows, resume: r.option(get_span)? })
}

fn put_timing(w: &mut Writer, t: &CommitTiming) {
    w.i64(t.lock_wait_ns).i64(t.prepare_ns).i64(t.replicate_ns);
    w.i64(t.commit_wait_ns).i64(t.apply_ns).i64(t.total_ns);
}

fn get_timing(r: &mut Reader) -> Result<CommitTiming> {
    Ok(CommitTiming {
        lock_wait_ns: r.i64()?,
        prepare_ns: r.i64()?,
        replicate_ns: r.i64()?,
        commit_wait_ns: r.i64()?,
        apply_ns: r.i64()?,
        total_ns: r.i64()?,
    })
}

fn put_txn_row(w: &mut Writer, row: &TxnRow) {
    put_txn(w, row.txn, row.priority);
    w.string(&row.state).option(row.prepare_ts, put_timestamp).i64(row.idle_ns);
}

fn get_txn_row(r: &mut Reader) -> Result<TxnRow> {
    Ok(TxnRow {
        txn: get_txn(r)?,
        priority: get_priority(r)?,
        state: r.string()?,
        prepare_ts: r.option(Reader::timestamp)?,
        idle_ns: r.i64()?,
    })
}

fn put_lock_row(w: &mut Writer, row: &LockRow) {
    w.u128(row.txn.0);
    put_span(w, &row.span);
    w.u8(mode_tag(row.mode)).bool(row.held);
}

fn get_lock_row(r: &mut Reader) -> Result<LockRow> {
    Ok(LockRow { txn: get_txn(r)?, span: get_span(r)?, mode: get_mode(r)?, held: r.bool()? })
}
