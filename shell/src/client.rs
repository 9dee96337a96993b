//! The gRPC client: one session at a time, on one node at a time.
//!
//! A session is one stream. When the stream breaks, the server rolls back the open transaction,
//! so the client may go on with another node; but it never repeats a statement by itself: a
//! statement that may have committed before the connection was lost is *in doubt*, and only the
//! caller knows whether to ask for its transaction's status ([`Disconnected`]).
//!
//! ```text
//!   execute --> no session? connect to the next address, prepare again, run the session's
//!          |                statements (SET ...)
//!          '-> send, then receive until Ready      lost: Failure::Disconnected, no session
//! ```
//!
//! A node that is stopped but not dead (SIGSTOP) keeps its sockets open. HTTP/2 pings find it
//! out within [`ClientOptions::keepalive`] plus [`ClientOptions::keepalive_timeout`].

mod connection;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use futures::FutureExt;
use proto::v1::client_message::Body as Request;
use proto::v1::server_message::Body as Reply;
use proto::v1::{
    Column, Complete, Error, Execute, ExecutePrepared, Hello, Prepare, Prepared, Ready, Row, TransactionState, Value,
};

pub use connection::{lazy, status, stop};

use connection::{Session, converse, open, status_text};

use crate::lexer;

/// The largest message accepted from a server, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// Timeouts of a [`Client`].
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// For one address, from TCP to the session's Hello.
    pub connect_timeout: Duration,
    /// Between two HTTP/2 pings.
    pub keepalive: Duration,
    /// How long a ping may go unanswered.
    pub keepalive_timeout: Duration,
    /// How long one request may take; `None`: as long as the connection lives.
    pub statement_timeout: Option<Duration>,
}

impl Default for ClientOptions {
    fn default() -> ClientOptions {
        ClientOptions {
            connect_timeout: Duration::from_secs(2),
            keepalive: Duration::from_secs(1),
            keepalive_timeout: Duration::from_secs(2),
            statement_timeout: None,
        }
    }
}

/// No node could be reached.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ClientError {
    /// The list of addresses was empty.
    #[error("no address to connect to")]
    NoAddress,
    /// Each address was tried once.
    #[error("cannot connect to any node: {}", .0.iter().map(|(a, why)| format!("{a}: {why}")).collect::<Vec<_>>().join("; "))]
    Unreachable(Vec<(String, String)>),
}

/// A connection that was lost during a request.
#[derive(Clone, Debug)]
pub struct Disconnected {
    /// Of the node, as HOST:PORT.
    pub address: String,
    /// Its number, 0 if it was never known.
    pub node: u64,
    /// What the transport said.
    pub reason: String,
    /// True if something may have been committed; false if certainly nothing was.
    pub in_doubt: bool,
    /// The transaction that was open before the request, in hexadecimal, or empty.
    pub transaction: String,
}

/// Why a request failed.
#[derive(Clone, Debug)]
pub enum Failure {
    /// The server said so; the session lives on.
    Server(Box<Error>),
    /// The session is gone.
    Disconnected(Box<Disconnected>),
}

impl Failure {
    /// The SQLSTATE, or `08006` for a lost connection.
    pub fn sqlstate(&self) -> &str {
        match self {
            Failure::Server(e) => &e.sqlstate,
            Failure::Disconnected(_) => "08006",
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Server(e) => write!(f, "{} (SQLSTATE {})", e.message, e.sqlstate),
            Failure::Disconnected(d) => write!(f, "connection to {} lost: {}", d.address, d.reason),
        }
    }
}

impl std::error::Error for Failure {}

/// What one statement answered.
#[derive(Clone, Debug, Default)]
pub struct StatementResult {
    /// Empty if it returns no rows.
    pub columns: Vec<Column>,
    /// All rows.
    pub rows: Vec<Row>,
    /// Tag, commit, read timestamp.
    pub complete: Complete,
}

/// A part of an answer, in the order of arrival.
#[derive(Clone, Debug)]
pub enum Event {
    /// A statement returns rows of this shape.
    Columns(Vec<Column>),
    /// Some rows.
    Rows(Vec<Row>),
    /// A statement ended well.
    Complete(Complete),
    /// Something to tell the user.
    Notice(String),
}

/// A client with one session, which moves to another node when it is lost.
pub struct Client {
    options: ClientOptions,
    addresses: Vec<String>,
    next: usize,
    session: Option<Session>,
    statements: Vec<String>,
    prepared: BTreeMap<String, (String, Prepared)>,
    notices: Vec<String>,
    sessions: u64,
    faults_at: String,
}

impl Client {
    /// Connects to the first address that answers.
    pub async fn connect(addresses: &[String]) -> Result<Client, ClientError> {
        Client::connect_with(addresses, ClientOptions::default()).await
    }

    /// As [`Client::connect`], with timeouts.
    pub async fn connect_with(addresses: &[String], options: ClientOptions) -> Result<Client, ClientError> {
        let mut client = Client::offline(addresses, options);
        client.reconnect().await?;
        Ok(client)
    }

    /// A client that connects with its first request.
    pub fn offline(addresses: &[String], options: ClientOptions) -> Client {
        Client {
            options,
            addresses: addresses.to_vec(),
            next: 0,
            session: None,
            statements: Vec::new(),
            prepared: BTreeMap::new(),
            notices: Vec::new(),
            sessions: 0,
            faults_at: String::new(),
        }
    }

    /// Statements that each new session runs first, such as `SET read_timestamp = ...`.
    pub fn set_session_statements(&mut self, statements: Vec<String>) {
        self.statements = statements;
    }

    /// Drops the session, if any, and opens one on the next address that answers; the address
    /// left is tried last.
    pub async fn reconnect(&mut self) -> Result<(), ClientError> {
        self.session = None;
        if self.addresses.is_empty() {
            return Err(ClientError::NoAddress);
        }
        let mut tried = Vec::new();
        for step in 0..self.addresses.len() {
            let at = (self.next + step) % self.addresses.len();
            let address = self.addresses[at].clone();
            let opened = tokio::time::timeout(self.options.connect_timeout, open(&address, &self.options)).await;
            match opened {
                Ok(Ok(session)) => {
                    for node in &session.hello.nodes {
                        if !node.address.is_empty() && !self.addresses.contains(&node.address) {
                            self.addresses.push(node.address.clone());
                        }
                    }
                    self.next = (at + 1) % self.addresses.len();
                    self.faults_at.clone_from(&session.hello.faults_at);
                    self.session = Some(session);
                    self.sessions += 1;
                    match self.prepare_session().await {
                        Ok(()) => return Ok(()),
                        Err(lost) => tried.push((address, lost.to_string())),
                    }
                }
                Ok(Err(reason)) => tried.push((address, reason)),
                Err(_) => tried.push((address, format!("no answer within {:?}", self.options.connect_timeout))),
            }
        }
        Err(ClientError::Unreachable(tried))
    }

    /// Drops the session, so that the server cancels what it does, and opens one on the same node
    /// if possible.
    pub async fn cancel(&mut self) -> Result<(), ClientError> {
        if let Some(session) = self.session.take() {
            self.next = self.addresses.iter().position(|a| *a == session.address).unwrap_or(0);
        }
        self.reconnect().await
    }

    /// Brings a new session to where the old one was. Errors of the server become notices.
    async fn prepare_session(&mut self) -> Result<(), Failure> {
        for sql in self.statements.clone() {
            let request = Request::Execute(Execute { sql: sql.clone(), parameters: Vec::new() });
            match self.exchange(request, false, &mut |_| {}).await {
                Err(Failure::Server(e)) => self.notices.push(format!("{sql}: {}", e.message)),
                other => other?,
            }
        }
        let prepared: Vec<(String, String)> = self.prepared.iter().map(|(n, p)| (n.clone(), p.0.clone())).collect();
        for (name, sql) in prepared {
            match self.exchange(Request::Prepare(Prepare { name: name.clone(), sql }), false, &mut |_| {}).await {
                Err(Failure::Server(e)) => {
                    self.prepared.remove(&name);
                    self.notices.push(format!("prepared statement {name}: {}", e.message));
                }
                other => other?,
            }
        }
        Ok(())
    }

    /// What servers said outside an answer, and trouble while a session was set up again.
    pub fn take_notices(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notices)
    }

    /// How many sessions were opened so far; a change means that the client moved.
    pub fn sessions(&self) -> u64 {
        self.sessions
    }

    /// All nodes' addresses known so far.
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// Where the cluster's faults can be injected, as the last session's node said; empty: nowhere.
    pub fn faults_at(&self) -> &str {
        &self.faults_at
    }

    /// The Hello of the present session.
    pub fn hello(&self) -> Option<&Hello> {
        self.session.as_ref().map(|s| &s.hello)
    }

    /// The node of the present session.
    pub fn node(&self) -> Option<u64> {
        self.hello().map(|h| h.node)
    }

    /// Where the present session is connected to.
    pub fn address(&self) -> Option<&str> {
        self.session.as_ref().map(|s| s.address.as_str())
    }

    /// The state after the last answer; idle without a session.
    pub fn ready(&self) -> Ready {
        self.session.as_ref().map(|s| s.ready.clone()).unwrap_or_default()
    }

    /// The transaction's state.
    pub fn state(&self) -> TransactionState {
        self.ready().state()
    }

    /// Looks, without waiting, whether the session is still there, and forgets it if it is not.
    /// Returns why it was lost.
    pub fn probe(&mut self) -> Option<String> {
        let session = self.session.as_mut()?;
        // Its last words, if it had any.
        let mut told = None;
        let reason = loop {
            match session.replies.message().now_or_never() {
                None => break None,
                Some(Ok(Some(message))) => match message.body {
                    Some(Reply::Notice(notice)) => self.notices.push(notice.message),
                    Some(Reply::Error(error)) => told = Some(error.message),
                    _ => {}
                },
                Some(Ok(None)) => break Some(told.unwrap_or_else(|| "the server ended the session".to_string())),
                Some(Err(status)) => break Some(status_text(&status)),
            }
        };
        if reason.is_some() {
            self.session = None;
        }
        reason
    }

    /// Runs a text of one or more statements, or one with parameters, and collects the answers.
    /// At an error, the answers of the statements before it are dropped.
    pub async fn execute(&mut self, sql: &str, parameters: Vec<Value>) -> Result<Vec<StatementResult>, Failure> {
        let mut results = Collector::default();
        self.stream(sql, parameters, &mut |event| results.take(event)).await?;
        Ok(results.done)
    }

    /// Runs statements and hands over each part of the answer as it comes.
    pub async fn stream(
        &mut self,
        sql: &str,
        parameters: Vec<Value>,
        on: &mut (dyn FnMut(Event) + Send),
    ) -> Result<(), Failure> {
        self.ensure().await?;
        let in_doubt = may_commit(self.state(), sql);
        self.exchange(Request::Execute(Execute { sql: sql.to_string(), parameters }), in_doubt, on).await
    }

    /// Plans a statement once for this session and those that follow it.
    pub async fn prepare(&mut self, name: &str, sql: &str) -> Result<Prepared, Failure> {
        self.ensure().await?;
        let request = Request::Prepare(Prepare { name: name.to_string(), sql: sql.to_string() });
        self.prepared.insert(name.to_string(), (sql.to_string(), Prepared::default()));
        if let Err(failure) = self.exchange(request, false, &mut |_| {}).await {
            self.prepared.remove(name);
            return Err(failure);
        }
        Ok(self.prepared.get(name).map(|p| p.1.clone()).unwrap_or_default())
    }

    /// Runs a prepared statement.
    pub async fn execute_prepared(&mut self, name: &str, parameters: Vec<Value>) -> Result<StatementResult, Failure> {
        self.ensure().await?;
        let sql = self.prepared.get(name).map_or("", |p| p.0.as_str());
        let in_doubt = may_commit(self.state(), sql);
        let mut results = Collector::default();
        let request = Request::ExecutePrepared(ExecutePrepared { name: name.to_string(), parameters });
        self.exchange(request, in_doubt, &mut |event| results.take(event)).await?;
        Ok(results.done.pop().unwrap_or_default())
    }

    /// Makes sure of a session. One that died while idle is replaced, unless a transaction was
    /// open in it: the caller must hear that it is gone.
    async fn ensure(&mut self) -> Result<(), Failure> {
        let before = self.ready();
        let node = self.node().unwrap_or(0);
        let address = self.address().unwrap_or("").to_string();
        if let Some(reason) = self.probe()
            && before.state() != TransactionState::Idle
        {
            let transaction = before.transaction;
            return Err(lost(Disconnected { address, node, reason, in_doubt: false, transaction }));
        }
        if self.session.is_none()
            && let Err(e) = self.reconnect().await
        {
            let (reason, transaction) = (e.to_string(), String::new());
            return Err(lost(Disconnected { address, node, reason, in_doubt: false, transaction }));
        }
        Ok(())
    }

    /// One request and its answer, up to Ready. Any other end loses the session.
    async fn exchange(
        &mut self,
        request: Request,
        in_doubt: bool,
        on: &mut (dyn FnMut(Event) + Send),
    ) -> Result<(), Failure> {
        let prepare = match &request {
            Request::Prepare(p) => Some(p.name.clone()),
            _ => None,
        };
        let Some(mut session) = self.session.take() else {
            let reason = "not connected".to_string();
            let (address, transaction) = (String::new(), String::new());
            return Err(lost(Disconnected { address, node: 0, reason, in_doubt: false, transaction }));
        };
        // The session is put back only after Ready: a future dropped half-way ends the stream.
        let transaction = session.ready.transaction.clone();
        let limit = self.options.statement_timeout;
        let talk = converse(&mut session, request, on);
        let outcome = match limit {
            None => talk.await,
            Some(limit) => match tokio::time::timeout(limit, talk).await {
                Ok(outcome) => outcome,
                Err(_) => Err(format!("no answer within {limit:?}")),
            },
        };
        match outcome {
            Ok((error, answer)) => {
                self.session = Some(session);
                if let (Some(name), Some(answer)) = (prepare, answer)
                    && let Some(entry) = self.prepared.get_mut(&name)
                {
                    entry.1 = answer;
                }
                error.map_or(Ok(()), |e| Err(Failure::Server(Box::new(e))))
            }
            Err(reason) => {
                let (address, node) = (session.address.clone(), session.hello.node);
                Err(lost(Disconnected { address, node, reason, in_doubt, transaction }))
            }
        }
    }
}

fn lost(disconnected: Disconnected) -> Failure {
    Failure::Disconnected(Box::new(disconnected))
}

#[derive(Default)]
struct Collector {
    current: StatementResult,
    done: Vec<StatementResult>,
}

impl Collector {
    fn take(&mut self, event: Event) {
        match event {
            Event::Columns(columns) => self.current.columns = columns,
            Event::Rows(rows) => self.current.rows.extend(rows),
            Event::Complete(complete) => {
                self.current.complete = complete;
                self.done.push(std::mem::take(&mut self.current));
            }
            Event::Notice(_) => {}
        }
    }
}

/// Whether a text, run in this state, may commit something: if the connection is lost, its
/// outcome is in doubt.
fn may_commit(state: TransactionState, sql: &str) -> bool {
    let mut open = state != TransactionState::Idle;
    for statement in lexer::statements(sql) {
        let words = lexer::first_words(&statement, 4);
        let first = words.first().map_or("", String::as_str);
        match first {
            "COMMIT" | "END" if open => return state != TransactionState::ReadOnly,
            "BEGIN" | "START" => open = true,
            // To a savepoint, or with another block after it.
            "ROLLBACK" | "ABORT" if words.iter().any(|word| word == "TO" || word == "CHAIN") => {}
            "ROLLBACK" | "ABORT" => open = false,
            "SELECT" | "VALUES" | "TABLE" | "SHOW" => {}
            "EXPLAIN" if words.get(1).is_none_or(|w| w != "ANALYZE") => {}
            _ if !open => return true,
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_have_committed_is_in_doubt() {
        use TransactionState::{Idle, Open, ReadOnly};
        for (state, sql, in_doubt) in [
            (Idle, "INSERT INTO t VALUES (1)", true),
            (Idle, "SELECT 1; SHOW TABLES", false),
            (Idle, "BEGIN; UPDATE t SET a = 1", false),
            (Idle, "BEGIN; UPDATE t SET a = 1; COMMIT", true),
            (Idle, "EXPLAIN UPDATE t SET a = 1", false),
            (Idle, "EXPLAIN ANALYZE UPDATE t SET a = 1", true),
            (Idle, "WITH x AS (SELECT 1) SELECT * FROM x", true),
            (Open, "UPDATE t SET a = 1", false),
            (Open, "/* done */ commit", true),
            (Open, "ROLLBACK", false),
            (Open, "ROLLBACK; DELETE FROM t", true),
            (Open, "ROLLBACK TO a; DELETE FROM t", false),
            (Open, "ROLLBACK WORK TO SAVEPOINT a; COMMIT", true),
            (Open, "ROLLBACK AND CHAIN; DELETE FROM t", false),
            (ReadOnly, "COMMIT", false),
        ] {
            assert_eq!(may_commit(state, sql), in_doubt, "{state:?} {sql}");
        }
    }
}
