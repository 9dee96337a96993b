//! Single requests: to a group's leader, or to one node, until answered.
//!
//! A [`GroupOp`] follows hints, and repeats the request after silence; so the request must be safe
//! to repeat. A repeated `Split` is refused by the group (the new group exists, or the key is not
//! its own any more), which the caller must read as "perhaps done: look".

use paxos::{GroupId, NodeId};
use truetime::Now;

use crate::api::{GroupError, Reply, RequestBody};
use crate::types::TxnId;

use super::call::Call;
use super::gateway::Gateway;
use super::{ClientError, ClientInput, ClientReady, Operation, Outcome, earliest};

/// One request to one group. Begun by its first `Tick`.
#[derive(Clone, Debug)]
pub struct GroupOp {
    call: Call,
    group: GroupId,
    deadline_ns: Option<i64>,
    ended: bool,
}

impl GroupOp {
    /// A request to a node, or to the group's leader.
    pub fn new(group: GroupId, body: RequestBody, node: Option<NodeId>) -> GroupOp {
        GroupOp { call: Call::new(group, body, node), group, deadline_ns: None, ended: false }
    }

    /// Takes in one input: a reply, a failed send, or a tick. Ends with `Reply`, which may be the
    /// error `WrongRange` (learned already), or `Failed`.
    pub fn step(&mut self, now: Now, gw: &mut Gateway, input: ClientInput) -> ClientReady {
        let mut ready = ClientReady::default();
        if self.ended {
            return ready;
        }
        let op_timeout_ns = gw.options.op_timeout_ns;
        let deadline_ns = *self.deadline_ns.get_or_insert(now.mono_ns.saturating_add(op_timeout_ns));
        match input {
            ClientInput::Reply { request, reply } if self.call.owns(request) => {
                ready.outcome = self.reply(now, gw, request, reply);
            }
            ClientInput::SendFailed { request } => {
                self.call.send_failed(now, gw, request);
            }
            ClientInput::Reply { .. } | ClientInput::Tick => {}
            ClientInput::Read { .. } | ClientInput::Commit { .. } | ClientInput::Cancel | ClientInput::Rollback => {
                panic!("a request to {} was asked for something else", self.group)
            }
        }
        if ready.outcome.is_none() && deadline_ns <= now.mono_ns {
            let why = format!("{} did not answer in time", self.group);
            ready.outcome = Some(Outcome::Failed(ClientError::Unavailable(why)));
        }
        if ready.outcome.is_some() {
            self.ended = true;
            self.call.finish();
            return ready;
        }
        self.call.poll(now, gw, &mut ready.sends);
        ready.wake_at_ns = earliest(self.call.wake_at_ns(), Some(deadline_ns));
        ready
    }

    fn reply(&mut self, now: Now, gw: &mut Gateway, id: u64, reply: Reply) -> Option<Outcome> {
        let Reply::Error(error) = reply else { return Some(Outcome::Reply(reply)) };
        let last = self.call.refused(now, gw, id, &error);
        match error {
            GroupError::WrongRange(_) => Some(Outcome::Reply(Reply::Error(error))),
            GroupError::Aborted(reason) => Some(Outcome::Failed(ClientError::aborted(reason))),
            GroupError::TooOld { earliest } if last => Some(Outcome::Failed(ClientError::TooOld { earliest })),
            GroupError::Invalid(why) if last => Some(Outcome::Failed(ClientError::Invalid(why))),
            _ => None,
        }
    }
}

impl Operation for GroupOp {
    fn step(&mut self, now: Now, gw: &mut Gateway, input: ClientInput) -> ClientReady {
        GroupOp::step(self, now, gw, input)
    }
}

/// How did a transaction end? Asked of its coordinator's group, which decides it by that if it is
/// not decided yet. Begun by its first `Tick`.
#[derive(Clone, Debug)]
pub struct StatusQuery {
    op: GroupOp,
}

impl StatusQuery {
    /// Of a transaction, as [`ClientError::Ambiguous`] names it.
    pub fn new(txn: TxnId, coordinator: GroupId) -> StatusQuery {
        StatusQuery { op: GroupOp::new(coordinator, RequestBody::Status { txn }, None) }
    }

    /// Takes in one input, as [`GroupOp::step`]. Ends with `Status` or `Failed`.
    pub fn step(&mut self, now: Now, gw: &mut Gateway, input: ClientInput) -> ClientReady {
        let mut ready = self.op.step(now, gw, input);
        ready.outcome = ready.outcome.map(|outcome| match outcome {
            Outcome::Reply(Reply::Status(status)) => Outcome::Status(status),
            Outcome::Reply(_) => {
                let why = format!("{} sent an answer to another question", self.op.group);
                Outcome::Failed(ClientError::Unavailable(why))
            }
            outcome => outcome,
        });
        ready
    }
}

impl Operation for StatusQuery {
    fn step(&mut self, now: Now, gw: &mut Gateway, input: ClientInput) -> ClientReady {
        StatusQuery::step(self, now, gw, input)
    }
}
