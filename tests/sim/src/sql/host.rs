//! The sessions of one process, and the polling of their calls.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use paxos::NodeId;
use sql::engine::CommitInfo;
use sql::engine::Engine;
use sql::types::Datum;
use sql::{ColumnInfo, Completion, Database, JobOptions, Notice, Session, SessionState, Sink, SqlError};
use truetime::{Now, Sabotage, Timestamp};
use txn::client::Gateway;
use txn::{Reply, TxnId};

use super::engine::{Shared, SimEngine, commits};
use crate::clients::Answer;
use crate::desk::DeskOut;
use crate::trace::ms_of;

/// What one statement returned.
#[derive(Clone, Debug, Default)]
pub struct Returned {
    /// The names of its columns.
    pub columns: Vec<String>,
    /// Its rows.
    pub rows: Vec<Vec<Datum>>,
    /// Its tag.
    pub tag: String,
    /// What it committed.
    pub commit: Option<(TxnId, Option<Timestamp>)>,
    /// When it read.
    pub read_ts: Option<Timestamp>,
}

/// The answer to a text.
#[derive(Clone, Debug)]
pub struct SqlAnswer {
    /// Of each statement that did not fail.
    pub returned: Vec<Returned>,
    /// Of the one that did.
    pub error: Option<SqlError>,
    /// The transaction that the session is in, if it is in a read-write one.
    pub open: Option<TxnId>,
    /// Whether it is in a failed block.
    pub failed: bool,
}

impl SqlAnswer {
    /// Whether it tells of a commit that wrote something.
    pub fn has_committed(&self) -> bool {
        self.returned.iter().any(|returned| matches!(returned.commit, Some((_, Some(_)))))
    }

    /// In a few words: nobody reads all rows of all answers, and the nodes' messages have them too.
    pub fn describe(&self) -> String {
        let mut text = String::new();
        for Returned { rows, tag, commit, read_ts, .. } in &self.returned {
            let _ = write!(text, "{tag} ");
            if let [row] = &rows[..] {
                let _ = write!(text, "{row:?} ");
            }
            if let Some((txn, at)) = commit {
                let _ = write!(text, "{txn} committed at {} ", at.map_or("no time".into(), ms_of));
            }
            if let Some(at) = read_ts {
                let _ = write!(text, "read at {} ", ms_of(*at));
            }
        }
        if let Some(err) = &self.error {
            let _ = write!(text, "{err} ");
        }
        if let Some(txn) = self.open {
            let _ = write!(text, "in {txn}");
        }
        text
    }
}

/// A text for a session.
#[derive(Clone, Debug)]
pub struct SqlCall {
    /// On a new connection; else on the one there is.
    pub connect: bool,
    /// Parsed and planned in a step of its own.
    pub prepared: bool,
    /// What to run.
    pub text: String,
    /// Its parameters.
    pub params: Vec<Datum>,
}

#[derive(Default)]
struct Results {
    done: Vec<Returned>,
    next: Returned,
}

impl Sink for Results {
    async fn columns(&mut self, columns: Vec<ColumnInfo>) -> Result<(), SqlError> {
        self.next.columns = columns.into_iter().map(|column| column.name).collect();
        Ok(())
    }

    async fn rows(&mut self, rows: Vec<Vec<Datum>>) -> Result<(), SqlError> {
        self.next.rows.extend(rows);
        Ok(())
    }

    fn complete(&mut self, completion: Completion) {
        let mut returned = std::mem::take(&mut self.next);
        returned.tag = completion.tag;
        returned.commit = completion.commit.map(|CommitInfo { txn, commit_ts, .. }| (txn, commit_ts));
        returned.read_ts = completion.read_ts;
        self.done.push(returned);
    }

    fn notice(&mut self, _: Notice) {}
}

type Ended = (Session<SimEngine>, Results, Result<(), SqlError>);

struct Connection {
    seq: u64,
    session: Option<Session<SimEngine>>,
    running: Option<Pin<Box<dyn Future<Output = Ended> + Send>>>,
}

/// What a process does about SQL.
#[derive(Clone, Copy, Debug, Default)]
pub struct SqlOptions {
    /// It goes on with schema changes whose gateways are gone.
    pub tends_jobs: bool,
    /// What is broken on purpose.
    pub sabotage: Sabotage,
}

/// The number of what tends the schema changes, among the clients.
const TENDER: u64 = u64::MAX;
/// How often it does so.
const TEND_NS: i64 = 1_000_000_000;
/// An owner that is not heard of for so long has lost its schema change: less than outside, because runs are short.
const JOB_LEASE_NS: i64 = 1_500_000_000;

/// As the server does about every second.
async fn tend(database: Database<SimEngine>) {
    loop {
        let now = database.engine().now().latest;
        database.engine().sleep_until_after(now.plus_ns(TEND_NS)).await;
        if database.refresh_catalog().await.is_ok() {
            // What could not be done now is done the next time, or by another.
            let _ = database.tend_jobs().await;
        }
    }
}

/// All sessions of a process.
pub struct Host {
    shared: Arc<Shared>,
    database: Database<SimEngine>,
    connections: BTreeMap<u64, Connection>,
    tender: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Host {
    /// Of a process that has just started.
    pub fn new(node: NodeId, gateway: Arc<Mutex<Gateway>>, now: Now, options: SqlOptions) -> Host {
        let shared = Arc::new(Shared::new(node, gateway, now, options.sabotage));
        let jobs = JobOptions { lease_ns: JOB_LEASE_NS, chunk_rows: 7, ..JobOptions::default() };
        let database = Database::with_jobs(SimEngine(shared.clone()), jobs);
        let mut host = Host { database: database.clone(), shared, connections: BTreeMap::new(), tender: None };
        if options.tends_jobs {
            host.tender = Some(Box::pin(tend(database)));
            host.poll_tender();
        }
        host
    }

    fn is_idle(&self) -> bool {
        self.connections.is_empty() && self.tender.is_none()
    }

    fn poll_tender(&mut self) {
        let Some(tender) = &mut self.tender else { return };
        self.shared.inner().client = (TENDER, 0);
        let polled = tender.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(polled.is_pending(), "what tends the schema changes has ended");
    }

    /// When something is due, on the monotonic clock.
    pub fn wake_at_ns(&self) -> Option<i64> {
        if self.is_idle() { None } else { self.shared.wake_at_ns() }
    }

    /// A client's call.
    pub fn call(&mut self, now: Now, client: u64, seq: u64, call: SqlCall, out: &mut DeskOut) {
        self.shared.inner().now = now;
        if call.connect {
            self.connections.remove(&client);
            let session = Some(self.database.session());
            self.connections.insert(client, Connection { seq, session, running: None });
        }
        let Some(connection) = self.connections.get_mut(&client) else {
            // It was another process's.
            out.answers.push((client, seq, Answer::Broken));
            return;
        };
        connection.seq = seq;
        let mut session = connection.session.take().expect("a client waits for the answer to its last call");
        connection.running = Some(Box::pin(async move {
            let mut results = Results::default();
            let result = if call.prepared {
                match session.prepare("", &call.text).await {
                    Ok(_) => session.execute_prepared("", &call.params, &mut results).await,
                    Err(err) => Err(err),
                }
            } else {
                session.execute(&call.text, &call.params, &mut results).await
            };
            (session, results, result)
        }));
        self.poll(client, out);
        self.drain(out);
    }

    /// A reply came, perhaps to a request of a session.
    pub fn reply(&mut self, now: Now, request: u64, reply: Reply, out: &mut DeskOut) {
        self.shared.inner().now = now;
        if let Some(client) = self.shared.deliver(request, reply) {
            self.poll(client, out);
            self.drain(out);
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Now, out: &mut DeskOut) {
        if self.is_idle() {
            return;
        }
        self.shared.inner().now = now;
        self.shared.keep_alive();
        for client in self.shared.due() {
            self.poll(client, out);
        }
        self.drain(out);
    }

    /// A client is gone; politely: the gateway noticed.
    pub fn hang_up(&mut self, now: Now, client: u64, politely: bool, out: &mut DeskOut) {
        let mut inner = self.shared.inner();
        inner.now = now;
        inner.silent = !politely;
        drop(inner);
        self.connections.remove(&client);
        self.shared.inner().silent = false;
        self.drain(out);
    }

    fn poll(&mut self, client: u64, out: &mut DeskOut) {
        if client == TENDER {
            return self.poll_tender();
        }
        let Some(connection) = self.connections.get_mut(&client) else { return };
        let Some(running) = &mut connection.running else { return };
        self.shared.inner().client = (client, connection.seq);
        let Poll::Ready((session, results, result)) = running.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        else {
            return;
        };
        connection.running = None;
        let state = session.state();
        let answer = SqlAnswer {
            returned: results.done,
            error: result.err(),
            open: if let SessionState::Open { txn } = state { Some(txn) } else { None },
            failed: state == SessionState::Failed,
        };
        connection.session = Some(session);
        out.answers.push((client, connection.seq, Answer::Sql(Box::new(answer))));
    }

    fn drain(&mut self, out: &mut DeskOut) {
        let mut inner = self.shared.inner();
        out.begun.append(&mut inner.begun);
        out.coordinators.extend(commits(&inner.outbox));
        out.sends.append(&mut inner.outbox);
    }
}
