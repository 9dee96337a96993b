//! A client session over the wire, for tests that need an open transaction or exact times.

use std::time::Duration;

use proto::v1::database_client::DatabaseClient;
use proto::v1::server_message::Body;
use proto::v1::{self, ClientMessage, Value, client_message, value};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// The answer to one statement. Values are shown as text; NULL is `NULL`.
#[derive(Clone, Debug, Default)]
pub struct Statement {
    /// Column names.
    pub columns: Vec<String>,
    /// Rows.
    pub rows: Vec<Vec<String>>,
    /// Its end: tag, commit, read timestamp.
    pub complete: v1::Complete,
}

/// Why a statement failed.
#[derive(Clone, Debug)]
pub enum Failure {
    /// The server said so.
    Server(Box<v1::Error>),
    /// The connection is gone.
    Lost(String),
}

impl Failure {
    /// The SQLSTATE, or 08006 if the connection is gone.
    pub fn sqlstate(&self) -> &str {
        match self {
            Failure::Server(e) => &e.sqlstate,
            Failure::Lost(_) => "08006",
        }
    }
}

/// A session. Dropping it rolls its transaction back.
pub struct Session {
    runtime: Runtime,
    send: mpsc::Sender<ClientMessage>,
    receive: tonic::Streaming<v1::ServerMessage>,
    /// The state after the last statement.
    pub ready: v1::Ready,
    /// The longest that a statement may take.
    pub limit: Duration,
}

impl Session {
    /// Opens a session at HOST:PORT.
    pub fn open(address: &str) -> Result<Session, Failure> {
        let lost = |e: &dyn std::fmt::Display| Failure::Lost(e.to_string());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| lost(&e))?;
        let url = format!("http://{address}");
        let (send, receive) = runtime.block_on(async {
            let endpoint = tonic::transport::Endpoint::from_shared(url).map_err(|e| lost(&e))?;
            let endpoint = endpoint.connect_timeout(Duration::from_secs(2));
            let channel = tokio::time::timeout(Duration::from_secs(3), endpoint.connect())
                .await
                .map_err(|e| lost(&e))?
                .map_err(|e| lost(&e))?;
            let (send, queue) = mpsc::channel(4);
            let call = DatabaseClient::new(channel).max_decoding_message_size(64 << 20);
            let mut call = call.max_encoding_message_size(64 << 20);
            let answer = tokio::time::timeout(Duration::from_secs(5), call.session(ReceiverStream::new(queue)))
                .await
                .map_err(|e| lost(&e))?
                .map_err(|e| lost(&e))?;
            Ok::<_, Failure>((send, answer.into_inner()))
        })?;
        Ok(Session { runtime, send, receive, ready: v1::Ready::default(), limit: Duration::from_secs(30) })
    }

    /// Runs SQL and returns the answer to its last statement.
    pub fn query(&mut self, sql: &str) -> Result<Statement, Failure> {
        Ok(self.execute(sql, Vec::new())?.pop().unwrap_or_default())
    }

    /// Runs SQL with parameters.
    pub fn execute(&mut self, sql: &str, parameters: Vec<Value>) -> Result<Vec<Statement>, Failure> {
        let body = client_message::Body::Execute(v1::Execute { sql: sql.into(), parameters });
        let Session { runtime, send, receive, ready, limit } = self;
        let work = async {
            let lost = || Failure::Lost("the stream has ended".into());
            // A stream that has ended may still hold the reason.
            let _ = send.send(ClientMessage { body: Some(body) }).await;
            let mut done = Vec::new();
            let mut current = Statement::default();
            let mut error = None;
            loop {
                let message = receive.message().await.map_err(|e| Failure::Lost(e.to_string()))?;
                let Some(message) = message else {
                    // A session that was refused ends with the reason, and without a Ready.
                    return Err(error.map_or_else(lost, |e| Failure::Server(Box::new(e))));
                };
                match message.body {
                    Some(Body::Columns(c)) => current.columns = c.columns.into_iter().map(|c| c.name).collect(),
                    Some(Body::Rows(r)) => {
                        let rows = r.rows.into_iter().map(|row| row.values.into_iter().map(show).collect());
                        current.rows.extend(rows);
                    }
                    Some(Body::Complete(c)) => {
                        current.complete = c;
                        done.push(std::mem::take(&mut current));
                    }
                    Some(Body::Error(e)) => error = Some(e),
                    Some(Body::Ready(r)) => {
                        *ready = r;
                        return match error {
                            Some(e) => Err(Failure::Server(Box::new(e))),
                            None => Ok(done),
                        };
                    }
                    _ => {}
                }
            }
        };
        runtime.block_on(async {
            match tokio::time::timeout(*limit, work).await {
                Ok(result) => result,
                Err(_) => Err(Failure::Lost(format!("no answer within {limit:?}"))),
            }
        })
    }

    /// Sends SQL, and reads nothing of the answer.
    pub fn ask(&mut self, sql: &str) {
        let body = client_message::Body::Execute(v1::Execute { sql: sql.into(), parameters: Vec::new() });
        let sent = self.runtime.block_on(async {
            let sent = self.send.send(ClientMessage { body: Some(body) }).await;
            // Lets the connection's task write it.
            let _ = tokio::time::timeout(Duration::from_millis(50), std::future::pending::<()>()).await;
            sent
        });
        sent.expect("the session is open");
    }

    /// Runs SQL that must succeed.
    pub fn must(&mut self, sql: &str) -> Statement {
        self.query(sql).unwrap_or_else(|e| panic!("{sql}: {e:?}"))
    }

    /// Runs SQL that must fail, and returns its SQLSTATE and message.
    pub fn must_fail(&mut self, sql: &str) -> (String, String) {
        match self.query(sql) {
            Ok(answer) => panic!("{sql}: succeeded with {answer:?}"),
            Err(Failure::Lost(why)) => panic!("{sql}: connection lost: {why}"),
            Err(Failure::Server(e)) => (e.sqlstate, e.message),
        }
    }
}

fn show(value: Value) -> String {
    match value.kind {
        None => "NULL".into(),
        Some(value::Kind::Boolean(v)) => if v { "t" } else { "f" }.into(),
        Some(value::Kind::Bigint(v)) => v.to_string(),
        Some(value::Kind::Double(v)) => v.to_string(),
        Some(value::Kind::Text(v)) => v,
        Some(value::Kind::Bytea(v)) => v.iter().map(|b| format!("{b:02x}")).collect(),
        Some(value::Kind::TimestampNs(v)) => v.to_string(),
    }
}
