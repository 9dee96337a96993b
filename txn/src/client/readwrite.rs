//! One read-write transaction, from its first read to its outcome.
//!
//! ```text
//!            Read                    Commit                       coordinator's answer
//!    Idle ----------> Reading   Idle --------> (Locating ->) Committing ----------> Ended
//!      ^                 |                                                            ^
//!      +--- Rows --------+------------- Aborted, timeout, Rollback -------------------+
//! ```
//!
//! 1. A read is cut by ranges and sent to the groups' leaders, which lock and answer. What comes
//!    back is overlaid with the transaction's own writes. A lost request is sent again: locking
//!    what is locked already is harmless. So is one whose group is led by another node meanwhile.
//! 2. Each group is remembered with the leadership that granted the locks. Every later request to
//!    it names that leadership; the group refuses if it is gone, and so does the gateway if two
//!    answers name different ones (I11).
//! 3. While the transaction is open, its groups are told every `keepalive_ns` that it is alive.
//! 4. A read that fails ends the transaction: `Abort` goes to every group that was asked anything,
//!    so that locks go at once, and later operations get the same error.
//!    A read that nobody waits for any more (`Cancel`: a statement's time was over) does not: its requests
//!    are as if their answers had been lost.
//! 5. Commit: every group that holds locks or gets a write takes part, also with nothing to write,
//!    because its locks must still be held. If the range of a write is not known, the key is locked
//!    first: the answer tells. See `commit.rs` for the rest.

use std::collections::{BTreeMap, BTreeSet};

use paxos::{Ballot, GroupId};
use truetime::{Now, Timestamp};

use crate::api::{AbortReason, GroupError, ReadOp, Reply, Request, RequestBody};
use crate::types::{LockMode, LockPolicy, Mutation, Priority, Span, TxnId, Value};

use super::buffer::{Mark, WriteBuffer};
use super::commit::{Commit, Share};
use super::gateway::Gateway;
use super::scan::Scan;
use super::{ClientError, ClientInput, ClientReady, CommitReport, Operation, Outcome, earliest};

/// A read-write transaction.
#[derive(Clone, Debug)]
pub struct ReadWrite {
    id: TxnId,
    priority: Priority,
    buffer: WriteBuffer,
    groups: BTreeMap<GroupId, Touched>,
    /// Requests of `KeepAlive` that were not answered yet.
    keepalives: BTreeMap<u64, GroupId>,
    lock_wait_ns: i64,
    /// Of its commit, once that was asked for.
    deadline: Option<Timestamp>,
    state: State,
}

/// A group that was asked for something.
#[derive(Clone, Debug)]
struct Touched {
    /// The leadership that holds locks for us, once it has said so.
    leadership: Option<Ballot>,
    heard_of_us_ns: i64,
}

#[derive(Clone, Debug)]
enum State {
    Idle,
    Reading(Reading),
    Committing(Box<Commit>),
    Ended(End),
}

#[derive(Clone, Debug)]
struct Reading {
    scan: Scan,
    mode: LockMode,
    policy: LockPolicy,
    /// Until when it may wait for locks, if not for ever. A request that is sent again does not begin anew.
    locks_by_ns: Option<i64>,
    /// A group could not give a lock in time: the read fails once nothing is in flight any more.
    refused: bool,
    deadline_ns: i64,
    wait_ns: i64,
    /// Not a read of the session: it finds out where keys to be written are. Commit follows.
    locating: bool,
}

#[derive(Clone, Debug)]
enum End {
    Committed,
    RolledBack,
    Failed(ClientError),
}

impl ReadWrite {
    /// A transaction with a name and an age by [`Gateway::begin`]; a retry passes the age of its first try.
    pub fn new(id: TxnId, priority: Priority) -> ReadWrite {
        ReadWrite {
            id,
            priority,
            buffer: WriteBuffer::default(),
            groups: BTreeMap::new(),
            keepalives: BTreeMap::new(),
            lock_wait_ns: 0,
            deadline: None,
            state: State::Idle,
        }
    }

    /// Its name.
    pub fn id(&self) -> TxnId {
        self.id
    }

    /// Its age.
    pub fn priority(&self) -> Priority {
        self.priority
    }

    /// Time spent waiting for locks by reads so far, in nanoseconds.
    pub fn lock_wait_ns(&self) -> i64 {
        self.lock_wait_ns
    }

    /// Why it was aborted or failed, if it was: for a session that is idle meanwhile.
    pub fn failure(&self) -> Option<&ClientError> {
        match &self.state {
            State::Ended(End::Failed(error)) => Some(error),
            _ => None,
        }
    }

    /// Whether it may read, write and commit: nothing has ended it, and no operation is in progress.
    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle)
    }

    /// Buffers writes, all or none. Fails if they are too large, or if the transaction has ended.
    pub fn buffer(&mut self, mutations: Vec<Mutation>) -> Result<(), ClientError> {
        match &self.state {
            State::Ended(end) => Err(end.error()),
            State::Committing(_) => Err(ClientError::Invalid("the transaction is being committed".into())),
            State::Idle | State::Reading(_) => self.buffer.write(mutations),
        }
    }

    /// What is buffered for a key: a value, a delete (`Some(None)`), or nothing.
    pub fn buffered(&self, key: &[u8]) -> Option<&Option<Value>> {
        self.buffer.get(key)
    }

    /// The present place in the sequence of writes.
    pub fn mark(&self) -> Mark {
        self.buffer.mark()
    }

    /// Forgets all writes since the mark: a statement failed.
    pub fn undo_to(&mut self, mark: Mark) {
        self.buffer.undo_to(mark);
    }

    /// Takes in one input. At most one operation (read, commit) may be in progress; `Rollback` may
    /// come at any time.
    pub fn step(&mut self, now: Now, gw: &mut Gateway, input: ClientInput) -> ClientReady {
        let mut ready = ClientReady::default();
        match input {
            ClientInput::Read { ops, mode, policy } => match &self.state {
                State::Ended(end) => ready.outcome = Some(Outcome::Failed(end.error())),
                State::Idle => {
                    let scan = Scan::new(ops, gw.options.page_bytes_max, &self.buffer);
                    let locks_by_ns = match policy {
                        LockPolicy::WaitAtMost(ns) => Some(now.mono_ns.saturating_add(ns.max(0))),
                        _ => None,
                    };
                    let reading = reading(scan, mode, now, gw, false);
                    self.state = State::Reading(Reading { policy, locks_by_ns, ..reading });
                }
                _ => panic!("a read of transaction {} while another operation is in progress", self.id),
            },
            ClientInput::Commit { deadline } => match &self.state {
                State::Ended(end) => ready.outcome = Some(Outcome::Failed(end.error())),
                State::Idle => {
                    self.deadline = deadline;
                    self.begin_commit(now, gw, &mut ready);
                }
                _ => panic!("a commit of transaction {} while another operation is in progress", self.id),
            },
            ClientInput::Cancel => {
                if matches!(self.state, State::Reading(Reading { locating: false, .. })) {
                    self.state = State::Idle;
                }
            }
            ClientInput::Rollback => self.rollback(gw, &mut ready),
            ClientInput::Reply { request, reply } => self.reply(now, gw, request, reply, &mut ready),
            ClientInput::SendFailed { request } => self.send_failed(now, gw, request),
            ClientInput::Tick => {}
        }
        self.poll(now, gw, &mut ready);
        ready.wake_at_ns = self.wake_at_ns(now, gw);
        self.assert_invariants();
        ready
    }

    fn reply(&mut self, now: Now, gw: &mut Gateway, id: u64, reply: Reply, ready: &mut ClientReady) {
        if let Some(group) = self.keepalives.remove(&id) {
            return self.keepalive_reply(gw, group, reply, ready);
        }
        match &mut self.state {
            State::Committing(commit) => {
                if let Some(verdict) = commit.reply(now, gw, id, reply, &mut ready.sends) {
                    self.end_commit(gw, verdict, ready);
                }
            }
            State::Reading(reading) => {
                let Some((group, _)) = reading.scan.call(id) else { return };
                match reply {
                    Reply::Rows { results, leadership, wait_ns, .. } => {
                        let Some(ballot) = leadership else {
                            return self.fail(gw, malformed(group, "rows without a leadership"), ready);
                        };
                        gw.router.learn_leader(group, Some(ballot.node));
                        let touched = self.groups.get_mut(&group).expect("an answer of a group that was not asked");
                        if touched.leadership.is_some_and(|known| known != ballot) {
                            return self.fail(gw, ClientError::aborted(AbortReason::LocksLost), ready);
                        }
                        touched.leadership = Some(ballot);
                        reading.wait_ns = reading.wait_ns.saturating_add(wait_ns.max(0));
                        let none = WriteBuffer::default();
                        let own = if reading.locating { &none } else { &self.buffer };
                        if let Err(why) = reading.scan.reply(gw, id, results, own) {
                            self.fail(gw, malformed(group, &why), ready);
                        }
                    }
                    Reply::Error(GroupError::Aborted(reason)) => self.fail(gw, ClientError::aborted(reason), ready),
                    Reply::Error(GroupError::Invalid(why)) => self.fail(gw, ClientError::Invalid(why), ready),
                    Reply::Error(GroupError::LockNotAvailable) if reading.policy != LockPolicy::Wait => {
                        reading.scan.drop_call(id);
                        reading.refused = true;
                    }
                    Reply::Error(error) => reading.scan.refused(now, gw, id, Some(&error)),
                    _ => self.fail(gw, malformed(group, "an answer to another question"), ready),
                }
            }
            State::Idle | State::Ended(_) => {}
        }
    }

    fn keepalive_reply(&mut self, gw: &mut Gateway, group: GroupId, reply: Reply, ready: &mut ClientReady) {
        if matches!(self.state, State::Committing(_) | State::Ended(_)) {
            return;
        }
        match reply {
            Reply::Error(GroupError::Aborted(reason)) => self.fail(gw, ClientError::aborted(reason), ready),
            Reply::Error(GroupError::NotLeader(Some(leader))) => gw.router.learn_leader(group, Some(leader)),
            // Anything else is for the next operation to find out.
            _ => {}
        }
    }

    fn send_failed(&mut self, now: Now, gw: &mut Gateway, id: u64) {
        self.keepalives.remove(&id);
        match &mut self.state {
            State::Committing(commit) => commit.send_failed(now, gw, id),
            State::Reading(reading) => reading.scan.refused(now, gw, id, None),
            State::Idle | State::Ended(_) => {}
        }
    }

    /// Goes on with whatever is in progress.
    fn poll(&mut self, now: Now, gw: &mut Gateway, ready: &mut ClientReady) {
        if let State::Reading(reading) = &mut self.state {
            reading.scan.give_up_overdue(now, gw);
            if reading.refused {
                // Locks are asked for elsewhere, too: the transaction goes on when it knows what it holds.
                if !reading.scan.in_flight() {
                    self.lock_wait_ns = self.lock_wait_ns.saturating_add(reading.wait_ns);
                    self.state = State::Idle;
                    ready.outcome = Some(Outcome::Failed(ClientError::LockNotAvailable));
                } else if reading.deadline_ns <= now.mono_ns {
                    self.fail(gw, ClientError::Unavailable("the read took too long".into()), ready);
                }
            } else if reading.scan.finished() {
                self.end_read(now, gw, ready);
            } else if reading.deadline_ns <= now.mono_ns {
                self.fail(gw, ClientError::Unavailable("the read took too long".into()), ready);
            } else {
                self.send_reads(now, gw, ready);
            }
        }
        if let State::Committing(commit) = &mut self.state
            && let Some(verdict) = commit.poll(now, gw, &mut ready.sends)
        {
            self.end_commit(gw, verdict, ready);
        }
        if matches!(self.state, State::Idle | State::Reading(_)) {
            self.keep_alive(now, gw, ready);
        }
    }

    fn send_reads(&mut self, now: Now, gw: &mut Gateway, ready: &mut ClientReady) {
        let State::Reading(reading) = &mut self.state else { return };
        let none = WriteBuffer::default();
        let own = if reading.locating { &none } else { &self.buffer };
        for batch in reading.scan.plan(now, gw, own) {
            let (id, group, node) = (gw.request_id(), batch.group, gw.router.leader(batch.group));
            let touched = self.groups.entry(group).or_insert(Touched { leadership: None, heard_of_us_ns: 0 });
            touched.heard_of_us_ns = now.mono_ns;
            let (leadership, ops) = (touched.leadership, batch.ops());
            let (txn, priority, mode) = (self.id, self.priority, reading.mode);
            let policy = match reading.locks_by_ns {
                Some(at) => LockPolicy::WaitAtMost(at.saturating_sub(now.mono_ns).max(0)),
                None => reading.policy,
            };
            let body = RequestBody::Read { txn, priority, leadership, ops, mode, policy };
            ready.sends.push((node, Request { id, group, body }));
            let deadline_ns = now.mono_ns.saturating_add(gw.options.request_timeout_ns);
            reading.scan.sent(id, batch, node, deadline_ns, Some(gw.look_at_ns(now)));
        }
    }

    fn end_read(&mut self, now: Now, gw: &mut Gateway, ready: &mut ClientReady) {
        let State::Reading(reading) = std::mem::replace(&mut self.state, State::Idle) else { return };
        self.lock_wait_ns = self.lock_wait_ns.saturating_add(reading.wait_ns);
        if reading.locating {
            return self.begin_commit(now, gw, ready);
        }
        let results = reading.scan.results();
        ready.outcome = Some(Outcome::Rows { results, read_ts: None, wait_ns: reading.wait_ns });
    }

    fn keep_alive(&mut self, now: Now, gw: &mut Gateway, ready: &mut ClientReady) {
        for (group, touched) in &mut self.groups {
            let Some(leadership) = touched.leadership else { continue };
            if touched.heard_of_us_ns.saturating_add(gw.options.keepalive_ns) > now.mono_ns {
                continue;
            }
            touched.heard_of_us_ns = now.mono_ns;
            let id = gw.request_id();
            // One unanswered keepalive for each group is enough to learn of an abort.
            self.keepalives.retain(|_, known| known != group);
            self.keepalives.insert(id, *group);
            let body = RequestBody::KeepAlive { txn: self.id, leadership };
            ready.sends.push((leadership.node, Request { id, group: *group, body }));
        }
    }

    fn begin_commit(&mut self, now: Now, gw: &mut Gateway, ready: &mut ClientReady) {
        let locked = self.groups.iter().filter(|(_, touched)| touched.leadership.is_some());
        let mut shares: BTreeMap<GroupId, Share> =
            locked.map(|(group, t)| (*group, Share { leadership: t.leadership, writes: Vec::new() })).collect();
        let mut unknown = Vec::new();
        for (key, value) in self.buffer.iter() {
            match gw.router.locate(key) {
                Some(range) => {
                    let mutation = Mutation { key: key.clone(), value: value.clone() };
                    shares.entry(range.group).or_default().writes.push(mutation);
                }
                None => unknown.push(ReadOp { span: Span::point(key.clone()), reverse: false, limit: 1 }),
            }
        }
        if !unknown.is_empty() {
            let scan = Scan::new(unknown, usize::MAX, &WriteBuffer::default());
            self.state = State::Reading(reading(scan, LockMode::Exclusive, now, gw, true));
            return;
        }
        // A group that was asked and never answered may hold locks of ours, for nothing.
        let idle: BTreeSet<GroupId> = self.groups.keys().copied().filter(|group| !shares.contains_key(group)).collect();
        self.send_aborts(gw, idle, ready);
        if shares.is_empty() {
            self.state = State::Ended(End::Committed);
            ready.outcome = Some(Outcome::Committed(CommitReport::default()));
            return;
        }
        self.state = State::Committing(Box::new(Commit::new(self.id, self.priority, shares, self.deadline, now, gw)));
    }

    fn end_commit(&mut self, gw: &mut Gateway, verdict: Result<CommitReport, ClientError>, ready: &mut ClientReady) {
        let State::Committing(commit) = std::mem::replace(&mut self.state, State::Ended(End::Committed)) else {
            return;
        };
        match verdict {
            Ok(report) => ready.outcome = Some(Outcome::Committed(report)),
            Err(error) => {
                if !matches!(error, ClientError::Ambiguous { .. }) {
                    self.send_aborts(gw, commit.participants().into_iter().collect(), ready);
                }
                self.state = State::Ended(End::Failed(error.clone()));
                ready.outcome = Some(Outcome::Failed(error));
            }
        }
    }

    fn rollback(&mut self, gw: &mut Gateway, ready: &mut ClientReady) {
        match &self.state {
            // The session went away meanwhile: nobody is left who cares for the outcome.
            State::Committing(commit) => {
                let error = ClientError::Ambiguous { txn: self.id, coordinator: commit.participants()[0] };
                self.state = State::Ended(End::Failed(error.clone()));
                ready.outcome = Some(Outcome::Failed(error));
            }
            State::Idle | State::Reading(_) => {
                self.send_aborts(gw, self.groups.keys().copied().collect(), ready);
                self.state = State::Ended(End::RolledBack);
                ready.outcome = Some(Outcome::RolledBack);
            }
            State::Ended(End::Committed) => {
                ready.outcome = Some(Outcome::Failed(End::Committed.error()));
            }
            State::Ended(_) => ready.outcome = Some(Outcome::RolledBack),
        }
    }

    /// Ends a transaction whose commit has not begun. The outcome belongs to the operation in
    /// progress; if there is none, the next one gets it.
    fn fail(&mut self, gw: &mut Gateway, error: ClientError, ready: &mut ClientReady) {
        self.send_aborts(gw, self.groups.keys().copied().collect(), ready);
        if matches!(self.state, State::Reading(_)) {
            ready.outcome = Some(Outcome::Failed(error.clone()));
        }
        self.state = State::Ended(End::Failed(error));
    }

    fn send_aborts(&self, gw: &mut Gateway, groups: BTreeSet<GroupId>, ready: &mut ClientReady) {
        for group in groups {
            let holder = self.groups.get(&group).and_then(|touched| touched.leadership);
            let node = holder.map_or_else(|| gw.router.leader(group), |ballot| ballot.node);
            let request = Request { id: gw.request_id(), group, body: RequestBody::Abort { txn: self.id } };
            ready.sends.push((node, request));
        }
    }

    fn wake_at_ns(&self, now: Now, gw: &Gateway) -> Option<i64> {
        let alive = self.groups.values().filter(|touched| touched.leadership.is_some());
        let alive = alive.map(|touched| touched.heard_of_us_ns.saturating_add(gw.options.keepalive_ns)).min();
        match &self.state {
            State::Idle => alive,
            State::Reading(reading) => {
                earliest(earliest(alive, reading.scan.wake_at_ns(now)), Some(reading.deadline_ns))
            }
            State::Committing(commit) => commit.wake_at_ns(),
            State::Ended(_) => None,
        }
    }

    fn assert_invariants(&self) {
        if let State::Reading(reading) = &self.state {
            reading.scan.assert_invariants();
            assert!(
                reading.refused || !reading.scan.finished(),
                "a finished read of transaction {} was not answered",
                self.id
            );
        }
        for group in self.keepalives.values() {
            let locked = self.groups.get(group).is_some_and(|touched| touched.leadership.is_some());
            assert!(locked, "transaction {} keeps no locks alive at {group}", self.id);
        }
    }
}

impl Operation for ReadWrite {
    fn step(&mut self, now: Now, gw: &mut Gateway, input: ClientInput) -> ClientReady {
        ReadWrite::step(self, now, gw, input)
    }
}

impl End {
    fn error(&self) -> ClientError {
        match self {
            End::Failed(error) => error.clone(),
            End::Committed => ClientError::Invalid("the transaction is committed already".into()),
            End::RolledBack => ClientError::Invalid("the transaction is rolled back already".into()),
        }
    }
}

fn reading(scan: Scan, mode: LockMode, now: Now, gw: &Gateway, locating: bool) -> Reading {
    let deadline_ns = now.mono_ns.saturating_add(gw.options.op_timeout_ns);
    let policy = LockPolicy::Wait;
    Reading { scan, mode, policy, locks_by_ns: None, refused: false, deadline_ns, wait_ns: 0, locating }
}

fn malformed(group: GroupId, why: &str) -> ClientError {
    ClientError::Unavailable(format!("{group} sent a malformed answer: {why}"))
}
