//! The commit of one read-write transaction, as its gateway drives it.
//!
//! One group: `Commit` is sent to its leader. Several: one of them is the coordinator; it gets
//! `Commit` with the names of the others, and at the same time each of the others gets `Prepare`.
//! Participants tell the coordinator directly that they have prepared; the gateway waits for the
//! coordinator alone.
//!
//! ```text
//!   gateway ---Commit{b,c}---> a  <--Prepared-- b, c        a logs the decision, tells b and c
//!      |------Prepare--------> b        |
//!      |------Prepare--------> c        v
//!      <-----------Committed{s}------- a
//! ```
//!
//! Who may say how it ended:
//!
//! 1. Until a copy of `Commit` may have been executed (all were refused with "nothing was done"),
//!    the gateway may: without that request nobody can commit. It aborts everywhere.
//! 2. After that, only the coordinator's group: by its answer to any copy, or, after
//!    `commit_timeout_ns`, by its `Status`, which ends an undecided transaction. A refusal of a
//!    later copy proves nothing about an earlier one.
//! 3. If it does not say so in time either, the commit is ambiguous.
//!
//! A participant that refuses to prepare cannot end the transaction, but dooms it: the coordinator
//! waits for its `Prepared` in vain. So the gateway sends `Abort` to the coordinator and waits for
//! its answer like before.

use std::collections::BTreeMap;

use paxos::{Ballot, GroupId, NodeId};
use truetime::{Now, Timestamp};

use crate::api::{AbortReason, GroupError, Reply, Request, RequestBody, TxnStatus};
use crate::types::{Mutation, Priority, TxnId};

use super::call::Call;
use super::gateway::Gateway;
use super::{ClientError, CommitReport};

/// What one group has to do with a commit.
#[derive(Clone, Debug, Default)]
pub(super) struct Share {
    pub leadership: Option<Ballot>,
    pub writes: Vec<Mutation>,
}

/// A commit in progress.
#[derive(Clone, Debug)]
pub(super) struct Commit {
    txn: TxnId,
    coordinator: GroupId,
    commit: Call,
    prepares: BTreeMap<GroupId, Call>,
    /// Asked once the commit has timed out.
    status: Option<Call>,
    /// Why a participant refused.
    refused: Option<ClientError>,
    prepared: Vec<(GroupId, i64, i64)>,
    started_ns: i64,
    /// Of the present stage.
    deadline_ns: i64,
}

type Verdict = Result<CommitReport, ClientError>;

impl Commit {
    /// Begins the commit of these groups; there is at least one.
    pub fn new(
        txn: TxnId,
        priority: Priority,
        shares: BTreeMap<GroupId, Share>,
        deadline: Option<Timestamp>,
        now: Now,
        gw: &Gateway,
    ) -> Commit {
        let writes = shares.values().any(|share| !share.writes.is_empty());
        // A group that must write a record anyhow, then one whose leader is here: no network hop.
        let cost = |(group, share): &(&GroupId, &Share)| {
            (writes && share.writes.is_empty(), gw.router.leader(**group) != gw.me, **group)
        };
        let coordinator = *shares.iter().min_by_key(cost).expect("a commit of no group").0;
        let mut participants: Vec<GroupId> = shares.keys().copied().filter(|group| *group != coordinator).collect();
        let mut prepares = BTreeMap::new();
        let mut commit = None;
        for (group, Share { leadership, writes }) in shares {
            if group == coordinator {
                let participants = std::mem::take(&mut participants);
                let body = RequestBody::Commit { txn, priority, leadership, writes, participants, deadline };
                commit = Some(Call::new(group, body, None));
            } else {
                let body = RequestBody::Prepare { txn, priority, leadership, writes, coordinator };
                prepares.insert(group, Call::new(group, body, None));
            }
        }
        Commit {
            txn,
            coordinator,
            commit: commit.expect("a commit without its coordinator"),
            prepares,
            status: None,
            refused: None,
            prepared: Vec::new(),
            started_ns: now.mono_ns,
            deadline_ns: now.mono_ns.saturating_add(gw.options.commit_timeout_ns),
        }
    }

    /// Its groups, the coordinator first.
    pub fn participants(&self) -> Vec<GroupId> {
        std::iter::once(self.coordinator).chain(self.prepares.keys().copied()).collect()
    }

    /// Takes in an answer; may be the end.
    pub fn reply(
        &mut self,
        now: Now,
        gw: &mut Gateway,
        id: u64,
        reply: Reply,
        sends: &mut Vec<(NodeId, Request)>,
    ) -> Option<Verdict> {
        if self.commit.owns(id) {
            return self.coordinator_says(now, gw, id, reply);
        }
        if let Some(call) = &mut self.status
            && call.owns(id)
        {
            return match reply {
                Reply::Status(TxnStatus::Committed(commit_ts)) => {
                    let report = CommitReport { commit_ts: Some(commit_ts), ..CommitReport::default() };
                    Some(Ok(self.report(now, report)))
                }
                Reply::Status(TxnStatus::Aborted) => Some(Err(self.aborted(AbortReason::GivenUp))),
                Reply::Status(TxnStatus::Unknown) => Some(Err(self.ambiguous())),
                Reply::Error(error) => call.refused(now, gw, id, &error).then(|| Err(self.ambiguous())),
                _ => {
                    call.garbled(now, gw, id);
                    None
                }
            };
        }
        let (group, call) = self.prepares.iter_mut().find(|(_, call)| call.owns(id))?;
        let refused = match reply {
            Reply::Prepared { lock_wait_ns, replicate_ns, .. } => {
                if self.prepared.iter().all(|(known, ..)| known != group) {
                    self.prepared.push((*group, lock_wait_ns, replicate_ns));
                }
                call.finish();
                return None;
            }
            Reply::Error(error) => {
                let last = call.refused(now, gw, id, &error);
                match error {
                    GroupError::WrongRange(_) => Some(ClientError::aborted(AbortReason::Split)),
                    GroupError::Aborted(reason) => Some(ClientError::aborted(reason)),
                    GroupError::Invalid(why) if last => Some(ClientError::Invalid(why)),
                    _ if last => Some(ClientError::aborted(AbortReason::Participant)),
                    _ => None,
                }
            }
            _ => {
                call.garbled(now, gw, id);
                None
            }
        };
        let error = refused?;
        call.finish();
        if self.refused.is_none() {
            self.refused = Some(error);
            let request =
                Request { id: gw.request_id(), group: self.coordinator, body: RequestBody::Abort { txn: self.txn } };
            sends.push((gw.router.leader(self.coordinator), request));
        }
        None
    }

    fn coordinator_says(&mut self, now: Now, gw: &mut Gateway, id: u64, reply: Reply) -> Option<Verdict> {
        match reply {
            Reply::Committed { commit_ts, timing } => {
                let report = CommitReport { commit_ts: Some(commit_ts), timing, ..CommitReport::default() };
                Some(Ok(self.report(now, report)))
            }
            Reply::Error(GroupError::Aborted(reason)) => Some(Err(self.aborted(reason))),
            Reply::Error(error) => {
                let last = self.commit.refused(now, gw, id, &error);
                // A lease that ran out as the answer left takes the place of the answer.
                self.commit.unanswered |= matches!(error, GroupError::Unavailable(_));
                match error {
                    GroupError::WrongRange(_) => self.undone(now, gw, ClientError::aborted(AbortReason::Split)),
                    GroupError::Invalid(why) if last => self.undone(now, gw, ClientError::Invalid(why)),
                    _ if last => self.undone(now, gw, ClientError::aborted(AbortReason::Participant)),
                    _ => match self.refused.clone() {
                        Some(error) => self.undone(now, gw, error),
                        None => None,
                    },
                }
            }
            _ => {
                self.commit.garbled(now, gw, id);
                None
            }
        }
    }

    /// The last copy of `Commit` was not executed, and no other shall be sent. If none was, that
    /// is the end; otherwise the status tells.
    fn undone(&mut self, now: Now, gw: &Gateway, error: ClientError) -> Option<Verdict> {
        if !self.commit.unanswered {
            return Some(Err(error));
        }
        self.refused.get_or_insert(error);
        self.ask_status(now, gw);
        None
    }

    fn ask_status(&mut self, now: Now, gw: &Gateway) {
        if self.status.is_none() {
            self.commit.finish();
            self.prepares.values_mut().for_each(Call::finish);
            self.status = Some(Call::new(self.coordinator, RequestBody::Status { txn: self.txn }, None));
            self.deadline_ns = now.mono_ns.saturating_add(gw.options.status_timeout_ns);
        }
    }

    /// A request could not be sent.
    pub fn send_failed(&mut self, now: Now, gw: &mut Gateway, id: u64) {
        let lost = self.commit.send_failed(now, gw, id);
        for call in self.prepares.values_mut().chain(&mut self.status) {
            call.send_failed(now, gw, id);
        }
        if lost && self.refused.is_some() {
            self.ask_status(now, gw);
        }
    }

    /// Sends what is due; may be the end.
    pub fn poll(&mut self, now: Now, gw: &mut Gateway, sends: &mut Vec<(NodeId, Request)>) -> Option<Verdict> {
        if now.mono_ns >= self.deadline_ns {
            if self.status.is_some() {
                return Some(Err(self.ambiguous()));
            }
            // Whoever still has a copy of the request may be about to execute it.
            if !self.commit.unanswered && !self.commit.in_flight() {
                let why = format!("{} did not take the commit in time", self.coordinator);
                return Some(Err(ClientError::Unavailable(why)));
            }
            self.ask_status(now, gw);
        }
        for call in self.prepares.values_mut() {
            call.poll(now, gw, sends);
        }
        if self.commit.poll(now, gw, sends) && self.refused.is_some() {
            self.ask_status(now, gw);
        }
        if let Some(call) = &mut self.status {
            call.poll(now, gw, sends);
        }
        None
    }

    /// When something is due.
    pub fn wake_at_ns(&self) -> Option<i64> {
        let calls = self.prepares.values().chain(&self.status).chain([&self.commit]);
        calls.filter_map(Call::wake_at_ns).chain([self.deadline_ns]).min()
    }

    fn report(&self, now: Now, report: CommitReport) -> CommitReport {
        CommitReport {
            participants: self.participants(),
            coordinator: Some(self.coordinator),
            total_ns: now.mono_ns.saturating_sub(self.started_ns),
            prepares: self.prepared.clone(),
            ..report
        }
    }

    /// The participant that refused knows the cause; the coordinator only the consequence.
    fn aborted(&self, reason: AbortReason) -> ClientError {
        match (&self.refused, reason) {
            (Some(cause), AbortReason::GivenUp | AbortReason::Participant) => cause.clone(),
            _ => ClientError::aborted(reason),
        }
    }

    fn ambiguous(&self) -> ClientError {
        ClientError::Ambiguous { txn: self.txn, coordinator: self.coordinator }
    }
}
