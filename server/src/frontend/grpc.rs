//! The project's own client API, over gRPC.
//!
//! A session is one bidirectional stream and one task: requests are answered in order, one at a
//! time. Rows leave in chunks through a short queue, so a client that does not read holds its
//! statement back and nothing else. When the stream ends, or its client is gone while a statement
//! runs, the session is dropped, and its open transaction is rolled back by that.
//!
//! A node has room for so many sessions, works on so many statements at once (`gateway::admission`),
//! and has so much memory for them (`gateway::memory`). Who is too many gets an error in PostgreSQL's form.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures::{Stream, StreamExt as _};
use prost::Message as _;
use proto::v1::client_message::Body as Asked;
use proto::v1::database_server::{Database, DatabaseServer};
use proto::v1::server_message::Body as Answer;
use proto::v1::{
    ClientMessage, Columns, Hello, NodeAddress, Prepared, Row, Rows, ServerMessage, StatusRequest, StatusResponse,
    StopRequest, StopResponse,
};
use sql::sink::{ColumnInfo, Completion, Notice, Sink};
use sql::types::Datum;
use sql::{SessionState, SqlError};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use txn::client::ClientError;

use crate::gateway::GatewayEngine;
use crate::gateway::admission::{Admission, Place, RUN_MAX, Refused, THINK_MAX};
use crate::gateway::memory::Held;
use crate::metrics::{add, get};
use crate::wire;

/// The largest message of a client, in bytes.
const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// The longest text of statements, in bytes.
const SQL_BYTES_MAX: usize = 16 << 20;
/// Rows of one message, in bytes, about.
const CHUNK_BYTES: usize = 256 << 10;
/// Messages that leave together.
const MESSAGES_QUEUED_MAX: usize = 16;
/// What may wait for a client to read it, in KiB; each message counts as one at least. A larger one goes alone.
const KIB_QUEUED_MAX: u32 = 2048;

/// How many sessions there may be.
#[derive(Clone, Debug)]
pub struct SessionLimit {
    /// So many.
    pub max: u64,
    /// What an administrator can do about it.
    pub hint: String,
}

type SqlDatabase = sql::Database<GatewayEngine>;
type SqlSession = sql::Session<GatewayEngine>;
/// Each message with its room in the queue, which is free again once the message is taken.
type Out = mpsc::Sender<(ServerMessage, OwnedSemaphorePermit)>;

/// The `Database` service of a node.
pub struct DatabaseService {
    engine: GatewayEngine,
    database: SqlDatabase,
    sessions: SessionLimit,
    stop: Arc<Notify>,
}

/// The service over this engine, ready to be added to a server. It takes so many sessions at most;
/// `stop` is told when a client asks the node to stop.
pub fn service(
    engine: GatewayEngine,
    database: SqlDatabase,
    sessions: SessionLimit,
    stop: Arc<Notify>,
) -> DatabaseServer<DatabaseService> {
    let service = DatabaseService { engine, database, sessions, stop };
    DatabaseServer::new(service)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

impl DatabaseService {
    fn hello(&self) -> Hello {
        let identity = self.engine.transport().identity();
        let nodes = identity.peers.iter().map(|(node, address)| NodeAddress { node, address: address.into() });
        Hello {
            node: identity.node,
            version: crate::VERSION.to_string(),
            nodes: nodes.collect(),
            cluster_id: identity.cluster_id.clone(),
            faults_at: self.engine.faults_at().to_string(),
        }
    }
}

impl DatabaseService {
    fn too_many(&self) -> SqlError {
        let max = self.sessions.max;
        SqlError::new("53300", format!("too many sessions: this node takes {max}"))
            .hint(format!("Close sessions that are idle, connect to another node, or {}.", self.sessions.hint))
    }
}

/// Counts one session for as long as it lives.
struct Counted(GatewayEngine);

impl Counted {
    fn new(engine: &GatewayEngine) -> Counted {
        add(&engine.metrics().sessions_open, 1);
        Counted(engine.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.metrics().sessions_open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[tonic::async_trait]
impl Database for DatabaseService {
    type SessionStream = Pin<Box<dyn Stream<Item = Result<ServerMessage, Status>> + Send>>;

    async fn session(
        &self,
        request: Request<Streaming<ClientMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let counted = Counted::new(&self.engine);
        if self.engine.drain().is_closing() {
            return Ok(refused(stopping()));
        }
        if get(&self.engine.metrics().sessions_open) > self.sessions.max {
            add(&self.engine.metrics().sessions_refused, 1);
            return Ok(refused(self.too_many()));
        }
        let (out, answers) = mpsc::channel(KIB_QUEUED_MAX as usize);
        let session = self.database.session();
        let hello = self.hello();
        let asked = request.into_inner();
        let engine = self.engine.clone();
        tokio::spawn(async move {
            let _counted = counted;
            let place = Arc::new(Place::new(engine.admission().clone()));
            let room = Arc::new(Semaphore::new(KIB_QUEUED_MAX as usize));
            let sink = WireSink { out: out.clone(), room, ready: Vec::new(), started: Instant::now(), place };
            let talk = Conversation { session, asked, sink, engine };
            let drain = talk.engine.clone();
            tokio::select! {
                () = talk.run(hello) => {}
                // The node stops, and the session has had its time.
                () = drain.drain().cut() => {}
                // The client is gone. A statement in progress ends where it is.
                () = out.closed() => {}
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(answers).map(|(message, _)| Ok(message)))))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        Ok(Response::new(wire::node_status(self.engine.status().await)))
    }

    async fn stop(&self, _: Request<StopRequest>) -> Result<Response<StopResponse>, Status> {
        tracing::info!("a client asks the node to stop");
        self.stop.notify_one();
        Ok(Response::new(StopResponse {}))
    }
}

/// One session and the stream that it is had on.
struct Conversation {
    session: SqlSession,
    asked: Streaming<ClientMessage>,
    sink: WireSink,
    engine: GatewayEngine,
}

impl Conversation {
    /// Answers requests until the stream ends.
    async fn run(mut self, hello: Hello) {
        // No Ready follows it: a Ready always ends the answer to a request.
        self.sink.push(Answer::Hello(hello));
        if self.sink.flush().await.is_err() {
            return;
        }
        loop {
            let message = match self.next().await {
                Ok(Some(message)) => message,
                Ok(None) => return,
                Err(status) => {
                    tracing::debug!("a session ended: {status}");
                    return;
                }
            };
            self.sink.started = Instant::now();
            if let Err(err) = self.admit(message).await {
                self.sink.push(Answer::Error(wire::error(err)));
            }
            if !self.in_block() {
                self.sink.place.leave();
            }
            if self.sink.send_ready(&self.session).await.is_err() {
                return;
            }
        }
    }

    /// A transaction block that may hold locks, or has chosen its timestamp.
    fn in_block(&self) -> bool {
        matches!(self.session.state(), SessionState::Open { .. } | SessionState::ReadOnly { .. })
    }

    /// The next request; none either once the client has been silent in a block for longer than it said it would.
    async fn next(&mut self) -> Result<Option<ClientMessage>, Status> {
        let Some(ns) = self.session.idle_timeout_ns() else { return self.next_of_a_patient_node().await };
        let silence_max = Duration::from_nanos(ns.max(0).unsigned_abs());
        match tokio::time::timeout(silence_max, self.next_of_a_patient_node()).await {
            Ok(next) => next,
            Err(_) => {
                let err = self.session.end_idle().await;
                self.sink.push(Answer::Error(wire::error(err)));
                // Who is not there any more needs no goodbye.
                let _ = self.sink.flush().await;
                Ok(None)
            }
        }
    }

    /// The next request; none either if the node stops and the session is in no block.
    async fn next_of_a_patient_node(&mut self) -> Result<Option<ClientMessage>, Status> {
        if self.in_block() {
            return self.asked_next().await;
        }
        let engine = self.engine.clone();
        tokio::select! {
            message = self.asked_next() => message,
            () = engine.drain().closing() => Ok(None),
        }
    }

    /// The next request. A block whose client thinks gives its place up.
    async fn asked_next(&mut self) -> Result<Option<ClientMessage>, Status> {
        if self.sink.place.is_held() {
            match tokio::time::timeout(THINK_MAX, self.asked.message()).await {
                Ok(message) => return message,
                Err(_) => self.sink.place.leave(),
            }
        }
        self.asked.message().await
    }

    /// Answers a request once it is its turn.
    async fn admit(&mut self, message: ClientMessage) -> Result<(), SqlError> {
        if let Some(why) = self.engine.clock_behind().filter(|_| !is_about_the_node(&message)) {
            return Err(SqlError::new("57P03", "the clock of this node is behind, and nothing is begun in the past")
                .detail(format!("{}{}.", why[..1].to_uppercase(), &why[1..]))
                .hint("Set the clock of its machine right; SHOW CLOCK tells how all nodes see it."));
        }
        let mut held = Held::new(self.engine.memory().clone());
        held.grow(message.encoded_len()).map_err(ClientError::OutOfMemory)?;
        let place = self.sink.place.clone();
        if self.in_block() || self.session.state() == SessionState::Failed {
            place.take();
        } else {
            place.enter().await.map_err(|refused| refusal(refused, self.engine.admission()))?;
        }
        let work = answer(&mut self.session, message, &mut self.sink);
        tokio::pin!(work);
        match tokio::time::timeout(RUN_MAX, &mut work).await {
            Ok(done) => done,
            Err(_) => {
                place.leave();
                work.await
            }
        }
    }
}

/// Whether it may help to find out what is wrong with a node, or to mend it.
fn is_about_the_node(message: &ClientMessage) -> bool {
    let Some(Asked::Execute(execute)) = &message.body else { return false };
    let first = execute.sql.split_whitespace().next().unwrap_or_default();
    first.eq_ignore_ascii_case("SHOW") || first.eq_ignore_ascii_case("SET")
}

/// What a client is told whose statement was not begun.
fn refusal(refused: Refused, admission: &Admission) -> SqlError {
    let options = admission.options();
    let err = match refused {
        Refused::Full => SqlError::new("53400", "too many statements wait on this node")
            .detail(format!("It works on {} at once, and {} more may wait.", options.active_max, options.queued_max)),
        Refused::TooLong => SqlError::new(
            "57P03",
            format!("the statement waited {:?} for its turn and was not begun", options.wait_max),
        )
        .detail(format!("The node works on {} statements and transaction blocks at once.", options.active_max)),
    };
    err.hint("Try again later or at another node; --active-max, --queue-max and --queue-wait are the bounds.")
}

async fn answer(session: &mut SqlSession, message: ClientMessage, sink: &mut WireSink) -> Result<(), SqlError> {
    match message.body {
        None => Err(SqlError::new("08P01", "a request without a body")),
        Some(Asked::Execute(execute)) => {
            check_length(&execute.sql)?;
            session.execute(&execute.sql, &wire::datums(execute.parameters), sink).await
        }
        Some(Asked::Prepare(prepare)) => {
            check_length(&prepare.sql)?;
            let info = session.prepare(&prepare.name, &prepare.sql).await?;
            let prepared = Prepared {
                parameters: info.parameters.into_iter().map(|ty| wire::data_type(ty).into()).collect(),
                columns: wire::columns(info.columns),
            };
            sink.push(Answer::Prepared(prepared));
            Ok(())
        }
        Some(Asked::ExecutePrepared(execute)) => {
            session.execute_prepared(&execute.name, &wire::datums(execute.parameters), sink).await
        }
        Some(Asked::ClosePrepared(close)) => {
            session.close_prepared(&close.name);
            Ok(())
        }
    }
}

fn check_length(sql: &str) -> Result<(), SqlError> {
    if sql.len() <= SQL_BYTES_MAX {
        return Ok(());
    }
    let detail = format!("It has {} bytes, and at most {SQL_BYTES_MAX} are allowed.", sql.len());
    Err(SqlError::new("54000", "the text of the statement is too long").detail(detail))
}

fn stopping() -> SqlError {
    SqlError::new("57P03", "the node is stopping").hint("Connect to another node.")
}

/// A session that is not begun.
fn refused(err: SqlError) -> Response<<DatabaseService as Database>::SessionStream> {
    let error = Answer::Error(wire::error(err));
    let only = futures::stream::once(async { Ok(ServerMessage { body: Some(error) }) });
    Response::new(Box::pin(only))
}

fn gone() -> SqlError {
    SqlError::new("08006", "the client is gone")
}

/// Turns a session's results into messages.
struct WireSink {
    out: Out,
    room: Arc<Semaphore>,
    /// Messages that leave with the next one that waits for the client.
    ready: Vec<ServerMessage>,
    /// When the statement began.
    started: Instant,
    /// The session's, given up while the client does not take what it asked for.
    place: Arc<Place>,
}

impl WireSink {
    fn push(&mut self, body: Answer) {
        self.ready.push(ServerMessage { body: Some(body) });
    }

    async fn flush(&mut self) -> Result<(), SqlError> {
        for message in self.ready.drain(..) {
            let kib = u32::try_from(message.encoded_len() >> 10).unwrap_or(u32::MAX).clamp(1, KIB_QUEUED_MAX);
            let mut waited = false;
            let room = match self.room.clone().try_acquire_many_owned(kib) {
                Ok(room) => room,
                Err(_) => {
                    waited = self.place.is_held();
                    self.place.leave();
                    self.room.clone().acquire_many_owned(kib).await.map_err(|_| gone())?
                }
            };
            self.out.send((message, room)).await.map_err(|_| gone())?;
            if waited {
                self.place.take();
            }
        }
        Ok(())
    }

    async fn send_ready(&mut self, session: &SqlSession) -> Result<(), SqlError> {
        self.push(Answer::Ready(wire::session_state(session.state())));
        self.flush().await
    }

    fn push_rows(&mut self, chunk: &mut Vec<Row>) {
        let rows = std::mem::take(chunk);
        self.push(Answer::Rows(Rows { rows }));
    }
}

impl Sink for WireSink {
    async fn columns(&mut self, columns: Vec<ColumnInfo>) -> Result<(), SqlError> {
        // Not flushed: a small result leaves in one piece.
        self.push(Answer::Columns(Columns { columns: wire::columns(columns) }));
        Ok(())
    }

    async fn rows(&mut self, rows: Vec<Vec<Datum>>) -> Result<(), SqlError> {
        let mut chunk = Vec::new();
        let (mut bytes, mut large) = (0, false);
        for row in rows {
            bytes += row.iter().map(Datum::size_bytes).sum::<usize>();
            chunk.push(wire::row(row));
            if bytes >= CHUNK_BYTES {
                self.push_rows(&mut chunk);
                self.flush().await?;
                bytes = 0;
                large = true;
            }
        }
        if !chunk.is_empty() {
            self.push_rows(&mut chunk);
        }
        if large || self.ready.len() >= MESSAGES_QUEUED_MAX { self.flush().await } else { Ok(()) }
    }

    fn complete(&mut self, completion: Completion) {
        let elapsed_ns = i64::try_from(self.started.elapsed().as_nanos()).unwrap_or(i64::MAX);
        self.started = Instant::now();
        self.push(Answer::Complete(wire::complete(Completion { elapsed_ns, ..completion })));
    }

    fn notice(&mut self, notice: Notice) {
        let message = format!("{}:  {}", notice.severity, notice.message);
        self.push(Answer::Notice(proto::v1::Notice { message }));
    }
}
