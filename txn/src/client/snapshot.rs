//! One lock-free read, of any number of groups, at one timestamp (paper, 4.2.2).
//!
//! 1. At a given timestamp, each group is asked at the nearest replica: a replica whose safe time
//!    lags behind waits until it has caught up. If that takes longer than `replica_timeout_ns`, or
//!    fails, the leader is asked, then the others in turn.
//! 2. A strong read of a single group leaves the choice of the timestamp to the group's leader, which
//!    may know an earlier one that is as good and needs no waiting (4.2.4). Its further pages are
//!    read at the timestamp of the first.
//! 3. A strong read of several groups is read at `TT.now().latest` of the gateway as it begins: no
//!    transaction that was answered before can have a larger timestamp. Nobody negotiates.
//!
//! Invariant: once a timestamp is chosen, by whomever, every request names it (I12).

use paxos::NodeId;
use truetime::{Now, Timestamp};

use crate::api::{GroupError, ReadOp, Reply, Request, RequestBody};

use super::buffer::WriteBuffer;
use super::gateway::Gateway;
use super::scan::Scan;
use super::{ClientError, ClientInput, ClientReady, Operation, Outcome, earliest};

/// A snapshot read. Begun by its first `Tick`.
#[derive(Clone, Debug)]
pub struct SnapshotRead {
    ops: Vec<ReadOp>,
    at: Option<Timestamp>,
    prefer: NodeId,
    wait_ns: i64,
    /// None before the first step, and after the last.
    running: Option<Running>,
    ended: bool,
}

#[derive(Clone, Debug)]
struct Running {
    scan: Scan,
    deadline_ns: i64,
}

impl SnapshotRead {
    /// A read at a timestamp, or a strong one, with the replica to ask first.
    pub fn new(ops: Vec<ReadOp>, at: Option<Timestamp>, prefer: NodeId) -> SnapshotRead {
        SnapshotRead { ops, at, prefer, wait_ns: 0, running: None, ended: false }
    }

    /// Takes in one input: a reply, a failed send, or a tick. Ends with `Rows` (which has the
    /// timestamp read at) or `Failed`.
    pub fn step(&mut self, now: Now, gw: &mut Gateway, input: ClientInput) -> ClientReady {
        let mut ready = ClientReady::default();
        if self.ended {
            return ready;
        }
        if self.running.is_none() {
            let ops = std::mem::take(&mut self.ops);
            let scan = Scan::new(ops, gw.options.page_bytes_max, &WriteBuffer::default());
            let deadline_ns = now.mono_ns.saturating_add(gw.options.op_timeout_ns);
            self.running = Some(Running { scan, deadline_ns });
        }
        let error = match input {
            ClientInput::Reply { request, reply } => self.reply(now, gw, request, reply).err(),
            ClientInput::SendFailed { request } => {
                self.running.iter_mut().for_each(|running| running.scan.refused(now, gw, request, None));
                None
            }
            ClientInput::Tick => None,
            ClientInput::Read { .. } | ClientInput::Commit { .. } | ClientInput::Cancel | ClientInput::Rollback => {
                panic!("a snapshot read was asked for something else")
            }
        };
        let ended = match error {
            Some(error) => Some(Outcome::Failed(error)),
            None => self.poll(now, gw, &mut ready),
        };
        match ended {
            Some(outcome) => {
                self.ended = true;
                self.running = None;
                ready.outcome = Some(outcome);
            }
            None => {
                let running = self.running.as_ref().expect("a snapshot read without its scan");
                running.scan.assert_invariants();
                ready.wake_at_ns = earliest(running.scan.wake_at_ns(now), Some(running.deadline_ns));
            }
        }
        ready
    }

    fn reply(&mut self, now: Now, gw: &mut Gateway, id: u64, reply: Reply) -> Result<(), ClientError> {
        let Some(running) = &mut self.running else { return Ok(()) };
        let Some((group, node)) = running.scan.call(id) else { return Ok(()) };
        let malformed = |why: &str| ClientError::Unavailable(format!("{group} sent a malformed answer: {why}"));
        match reply {
            Reply::Rows { results, read_ts: Some(read_ts), wait_ns, .. } => {
                if self.at.is_some_and(|at| at != read_ts) {
                    return Err(malformed("rows of another timestamp"));
                }
                if self.at.is_none() {
                    gw.router.learn_leader(group, Some(node));
                }
                self.at = Some(read_ts);
                self.wait_ns = self.wait_ns.max(wait_ns);
                running.scan.reply(gw, id, results, &WriteBuffer::default()).map_err(|why| malformed(&why))
            }
            Reply::Error(GroupError::TooOld { earliest }) => Err(ClientError::TooOld { earliest }),
            Reply::Error(GroupError::Invalid(why)) => Err(ClientError::Invalid(why)),
            Reply::Error(GroupError::Aborted(reason)) => Err(ClientError::aborted(reason)),
            Reply::Error(error) => {
                running.scan.refused(now, gw, id, Some(&error));
                Ok(())
            }
            _ => Err(malformed("an answer to another question")),
        }
    }

    fn poll(&mut self, now: Now, gw: &mut Gateway, ready: &mut ClientReady) -> Option<Outcome> {
        let running = self.running.as_mut()?;
        running.scan.give_up_overdue(now, gw);
        if running.scan.finished() {
            let results = self.running.take()?.scan.results();
            return Some(Outcome::Rows { results, read_ts: self.at, wait_ns: self.wait_ns });
        }
        if running.deadline_ns <= now.mono_ns {
            return Some(Outcome::Failed(ClientError::Unavailable("the read took too long".into())));
        }
        if self.at.is_none() && !matches!(running.scan.groups(gw)[..], [Some(_)]) {
            // An interval that is not trusted may lie in the past, and the read would miss commits.
            if !now.trusted {
                return Some(Outcome::Failed(ClientError::Unavailable("the gateway's clock is not trusted".into())));
            }
            self.at = Some(now.tt.latest);
        }
        for batch in running.scan.plan(now, gw, &WriteBuffer::default()) {
            let (id, group) = (gw.request_id(), batch.group);
            // Nearest, leader, next replica, leader, the one after ...
            let turn = batch.attempts as usize / 2;
            let (node, timeout_ns, look_ns) = match (self.at, batch.attempts % 2) {
                (None, _) | (_, 1) => {
                    (gw.router.leader(group), gw.options.request_timeout_ns, Some(gw.look_at_ns(now)))
                }
                (_, _) => (gw.router.replica(self.prefer, turn), gw.options.replica_timeout_ns, None),
            };
            let body = RequestBody::Snapshot { at: self.at, ops: batch.ops() };
            ready.sends.push((node, Request { id, group, body }));
            running.scan.sent(id, batch, node, now.mono_ns.saturating_add(timeout_ns), look_ns);
        }
        None
    }
}

impl Operation for SnapshotRead {
    fn step(&mut self, now: Now, gw: &mut Gateway, input: ClientInput) -> ClientReady {
        SnapshotRead::step(self, now, gw, input)
    }
}
