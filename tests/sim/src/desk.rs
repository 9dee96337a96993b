//! A gateway as its clients meet it: the production gateway's operations, one session for each
//! client, and the way of each reply to the operation that waits for it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use paxos::{GroupId, NodeId};
use rand_chacha::ChaCha8Rng;
use truetime::Now;
use txn::client::{
    ClientError, ClientInput, ClientReady, Gateway, GatewayOptions, Operation, Outcome, ReadWrite, SnapshotRead,
    StatusQuery,
};
use txn::{LockPolicy, RangeDescriptor, Reply, Request, RequestBody, Row, TxnId};

use crate::clients::{Answer, Call};
use crate::plan::When;
use crate::rng::pick;
use crate::sql::host::{Host, SqlOptions};

/// What follows from an input.
#[derive(Debug, Default)]
pub struct DeskOut {
    /// To be sent; the node may be this one.
    pub sends: Vec<(NodeId, Request)>,
    /// To a client, for its call of that number.
    pub answers: Vec<(u64, u64, Answer)>,
    /// Commits that were sent, and the group that decides each.
    pub coordinators: Vec<(TxnId, GroupId)>,
    /// Transactions that SQL sessions began, each with the client and its call.
    pub begun: Vec<((u64, u64), TxnId)>,
}

/// The gateway of one process, and its sessions.
pub struct Desk {
    gateway: Arc<Mutex<Gateway>>,
    /// Those of its clients that talk SQL.
    sql: Host,
    nodes: Vec<NodeId>,
    sessions: BTreeMap<u64, Session>,
    /// Whose each request is.
    routes: BTreeMap<u64, u64>,
    rng: ChaCha8Rng,
}

#[derive(Default)]
struct Session {
    /// The call to be answered.
    seq: u64,
    operation: Option<Running>,
    /// The timestamp of the read under way, if one was asked for.
    asked: Option<truetime::Timestamp>,
    requests: Vec<u64>,
    wake_at_ns: Option<i64>,
}

enum Running {
    ReadWrite(Box<ReadWrite>),
    Other(Box<dyn Operation>),
}

impl Desk {
    /// The gateway of a process that starts for the `incarnation`th time.
    pub fn new(
        id: NodeId,
        nodes: Vec<NodeId>,
        options: GatewayOptions,
        sql: SqlOptions,
        incarnation: u64,
        now: Now,
        rng: ChaCha8Rng,
    ) -> Desk {
        let gateway = Arc::new(Mutex::new(Gateway::new(id, nodes.clone(), options, incarnation << 32)));
        let sql = Host::new(id, gateway.clone(), now, sql);
        Desk { gateway, sql, nodes, sessions: BTreeMap::new(), routes: BTreeMap::new(), rng }
    }

    fn gateway(&self) -> MutexGuard<'_, Gateway> {
        self.gateway.lock().expect("nothing panics while it holds the gateway")
    }

    /// What the node knows of ranges and leaders.
    pub fn learn(&mut self, ranges: Vec<(RangeDescriptor, Option<NodeId>)>) {
        for (range, leader) in ranges {
            let group = range.group;
            self.gateway().router.learn_range(range);
            if leader.is_some() {
                self.gateway().router.learn_leader(group, leader);
            }
        }
    }

    /// When something is due, on the monotonic clock.
    pub fn wake_at_ns(&self) -> Option<i64> {
        let keys = self.sessions.values().filter_map(|session| session.wake_at_ns).min();
        keys.into_iter().chain(self.sql.wake_at_ns()).min()
    }

    /// A client's call. `coordinator` is the group that decides the transaction whose status is asked.
    pub fn call(&mut self, now: Now, client: u64, seq: u64, call: Call, coordinator: Option<GroupId>) -> DeskOut {
        let mut out = DeskOut::default();
        let call = match call {
            Call::Sql(call) => {
                self.sql.call(now, client, seq, call, &mut out);
                return out;
            }
            call => call,
        };
        let session = self.sessions.entry(client).or_default();
        session.seq = seq;
        let input = match call {
            Call::Begin(priority) => {
                let (txn, fresh) = self.gateway().begin(now);
                let priority = priority.unwrap_or(fresh);
                self.replace(client, Some(Running::ReadWrite(Box::new(ReadWrite::new(txn, priority)))));
                out.answers.push((client, seq, Answer::Begun(txn, priority)));
                return out;
            }
            Call::Snapshot(ops, when, replica) => {
                let at = match when {
                    When::Strong => None,
                    When::Offset(ns) => Some(now.tt.earliest.plus_ns(ns)),
                    When::Exactly(at) => Some(at),
                };
                let prefer = replica.unwrap_or(*pick(&mut self.rng, &self.nodes));
                self.replace(client, Some(Running::Other(Box::new(SnapshotRead::new(ops, at, prefer)))));
                self.sessions.get_mut(&client).expect("made above").asked = at;
                ClientInput::Tick
            }
            Call::Status(txn) => {
                let Some(coordinator) = coordinator else {
                    out.answers.push((client, seq, Answer::Broken));
                    return out;
                };
                self.replace(client, Some(Running::Other(Box::new(StatusQuery::new(txn, coordinator)))));
                ClientInput::Tick
            }
            Call::Sql(_) | Call::SqlStatus(_) => unreachable!("dealt with above, and by the world"),
            Call::Read(ops, mode) => ClientInput::Read { ops, mode, policy: LockPolicy::Wait },
            Call::Rollback => ClientInput::Rollback,
            Call::Commit(writes, ahead_ns) => {
                if let Some(Session { operation: Some(Running::ReadWrite(rw)), .. }) = self.sessions.get_mut(&client)
                    && let Err(e) = rw.buffer(writes)
                {
                    let answer = self.failed(client, e);
                    out.answers.push((client, seq, answer));
                    return out;
                }
                ClientInput::Commit { deadline: ahead_ns.map(|ns| now.tt.latest.plus_ns(ns)) }
            }
        };
        let session = &self.sessions[&client];
        let fits = match (&session.operation, &input) {
            (Some(Running::Other(_)), ClientInput::Tick) => true,
            (Some(Running::ReadWrite(_)), input) => *input != ClientInput::Tick,
            _ => false,
        };
        if !fits {
            // The session was another process's.
            out.answers.push((client, seq, Answer::Broken));
            return out;
        }
        self.run(now, client, input, &mut out);
        out
    }

    /// A reply came.
    pub fn reply(&mut self, now: Now, request: u64, reply: Reply) -> DeskOut {
        let mut out = DeskOut::default();
        if let Some(client) = self.routes.get(&request).copied() {
            self.run(now, client, ClientInput::Reply { request, reply }, &mut out);
        } else {
            self.sql.reply(now, request, reply, &mut out);
        }
        out
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Now) -> DeskOut {
        let mut out = DeskOut::default();
        let due = |session: &Session| session.wake_at_ns.is_some_and(|at| at <= now.mono_ns);
        let clients: Vec<u64> = self.sessions.iter().filter(|(_, s)| due(s)).map(|(client, _)| *client).collect();
        for client in clients {
            self.run(now, client, ClientInput::Tick, &mut out);
        }
        self.sql.tick(now, &mut out);
        out
    }

    /// A client is gone. Politely: the gateway noticed at once, and gives its transaction up.
    pub fn hang_up(&mut self, now: Now, client: u64, politely: bool) -> DeskOut {
        let mut out = DeskOut::default();
        self.sql.hang_up(now, client, politely, &mut out);
        let session = self.sessions.get(&client);
        if politely && matches!(session, Some(Session { operation: Some(Running::ReadWrite(_)), .. })) {
            self.run(now, client, ClientInput::Rollback, &mut out);
        }
        out.answers.clear();
        self.replace(client, None);
        out
    }

    fn replace(&mut self, client: u64, operation: Option<Running>) {
        let session = self.sessions.entry(client).or_default();
        for request in session.requests.drain(..) {
            self.routes.remove(&request);
        }
        *session = Session { seq: session.seq, operation, ..Session::default() };
    }

    fn run(&mut self, now: Now, client: u64, input: ClientInput, out: &mut DeskOut) {
        let Some(session) = self.sessions.get_mut(&client) else { return };
        let gateway = &mut self.gateway.lock().expect("nothing panics while it holds the gateway");
        let ready: ClientReady = match &mut session.operation {
            Some(Running::ReadWrite(rw)) => rw.step(now, gateway, input),
            Some(Running::Other(operation)) => operation.step(now, gateway, input),
            None => return,
        };
        session.wake_at_ns = ready.wake_at_ns;
        for (to, request) in ready.sends {
            if let RequestBody::Commit { txn, .. } = &request.body {
                out.coordinators.push((*txn, request.group));
            }
            session.requests.push(request.id);
            self.routes.insert(request.id, client);
            out.sends.push((to, request));
        }
        let (seq, asked) = (session.seq, session.asked);
        let answer = match ready.outcome {
            None => return,
            Some(Outcome::Rows { results, read_ts, .. }) => {
                assert!(results.iter().all(|result| result.resume.is_none()), "a page of a few rows is full");
                let rows: Vec<Vec<Row>> = results.into_iter().map(|result| result.rows).collect();
                match read_ts {
                    Some(read_ts) => Answer::SnapshotRows { asked, read_ts, rows },
                    None => Answer::Rows(rows),
                }
            }
            Some(Outcome::Committed(report)) => match report.commit_ts {
                Some(ts) => Answer::Committed(ts),
                None => Answer::Aborted(None),
            },
            Some(Outcome::RolledBack) => Answer::RolledBack,
            Some(Outcome::Status(status)) => Answer::Status(status),
            Some(Outcome::Reply(reply)) => Answer::Failed(format!("{reply:?}")),
            Some(Outcome::Failed(error)) => self.failed(client, error),
        };
        out.answers.push((client, seq, answer));
    }

    fn failed(&self, client: u64, error: ClientError) -> Answer {
        match error {
            ClientError::Aborted { reason, .. } => Answer::Aborted(Some(reason)),
            ClientError::Ambiguous { .. } => Answer::InDoubt,
            ClientError::TooOld { .. } => Answer::TooOld(self.sessions.get(&client).and_then(|s| s.asked)),
            ClientError::Unavailable(_) => Answer::Failed(error.to_string()),
            // These clients wait for their locks.
            ClientError::Invalid(_) | ClientError::TooLarge(_) | ClientError::LockNotAvailable => {
                Answer::Wrong(error.to_string())
            }
            ClientError::OutOfMemory(_) => Answer::Failed(error.to_string()),
        }
    }
}
