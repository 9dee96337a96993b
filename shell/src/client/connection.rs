//! One connection: how it is set up, one request and its answer, and the calls without a session.

use std::error::Error as _;
use std::time::Duration;

use proto::v1::client_message::Body as Request;
use proto::v1::database_client::DatabaseClient;
use proto::v1::server_message::Body as Reply;
use proto::v1::{ClientMessage, Error, Hello, Prepared, Ready, StatusRequest, StatusResponse, StopRequest};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};

use super::{ClientOptions, Event, MESSAGE_BYTES_MAX};

/// An open session.
pub(super) struct Session {
    pub(super) requests: mpsc::Sender<ClientMessage>,
    pub(super) replies: Streaming<proto::v1::ServerMessage>,
    pub(super) hello: Hello,
    pub(super) address: String,
    pub(super) ready: Ready,
}

/// Sends a request and receives up to Ready: the server's error if there was one, and the plan of
/// a prepared statement.
pub(super) async fn converse(
    session: &mut Session,
    request: Request,
    on: &mut (dyn FnMut(Event) + Send),
) -> Result<(Option<Error>, Option<Prepared>), String> {
    let gone = "the server ended the session";
    let message = ClientMessage { body: Some(request) };
    let sent = session.requests.send(message).await;
    let (mut error, mut prepared) = (None, None);
    loop {
        let reply = session.replies.message().await.map_err(|status| status_text(&status))?;
        let Some(reply) = reply else {
            return Err(gone.to_string());
        };
        match reply.body {
            Some(Reply::Columns(columns)) => on(Event::Columns(columns.columns)),
            Some(Reply::Rows(rows)) => on(Event::Rows(rows.rows)),
            Some(Reply::Complete(complete)) => on(Event::Complete(complete)),
            Some(Reply::Notice(notice)) => on(Event::Notice(notice.message)),
            Some(Reply::Error(e)) => error = Some(e),
            Some(Reply::Prepared(plan)) => prepared = Some(plan),
            Some(Reply::Ready(ready)) => {
                session.ready = ready;
                break;
            }
            Some(Reply::Hello(_)) | None => {}
        }
        if sent.is_err() {
            return Err(gone.to_string());
        }
    }
    Ok((error, prepared))
}

fn endpoint(address: &str, options: &ClientOptions) -> Result<Endpoint, String> {
    let uri = if address.contains("://") { address.to_string() } else { format!("http://{address}") };
    let endpoint = Endpoint::from_shared(uri).map_err(|e| format!("not an address: {e}"))?;
    Ok(endpoint
        .connect_timeout(options.connect_timeout)
        .tcp_nodelay(true)
        .tcp_keepalive(Some(Duration::from_secs(10)))
        .http2_keep_alive_interval(options.keepalive)
        .keep_alive_timeout(options.keepalive_timeout)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20))
}

/// Connects, opens a session, and waits for its greeting.
pub(super) async fn open(address: &str, options: &ClientOptions) -> Result<Session, String> {
    let channel = endpoint(address, options)?.connect().await.map_err(|e| root_cause(&e))?;
    let mut database = DatabaseClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let (requests, outgoing) = mpsc::channel(4);
    let response = database.session(ReceiverStream::new(outgoing)).await.map_err(|s| status_text(&s))?;
    let mut replies = response.into_inner();
    let first = replies.message().await.map_err(|s| status_text(&s))?;
    match first.and_then(|m| m.body) {
        Some(Reply::Hello(hello)) => {
            Ok(Session { requests, replies, hello, address: address.to_string(), ready: Ready::default() })
        }
        Some(Reply::Error(e)) => Err(refusal(&e)),
        _ => Err("it is no Meridian node: it sent no greeting".to_string()),
    }
}

/// A server's error in one line.
fn refusal(error: &Error) -> String {
    let hint = if error.hint.is_empty() { String::new() } else { format!("; {}", error.hint) };
    format!("{} (SQLSTATE {}){hint}", error.message, error.sqlstate)
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// What the transport said, for people.
pub(super) fn status_text(status: &tonic::Status) -> String {
    match status.source() {
        Some(source) => root_cause(source),
        None if status.message().is_empty() => status.code().to_string(),
        None => status.message().to_string(),
    }
}

/// A client of the calls without a session that connects at its first use and again after a loss.
pub fn lazy(address: &str, options: &ClientOptions) -> Result<DatabaseClient<Channel>, String> {
    Ok(DatabaseClient::new(endpoint(address, options)?.connect_lazy()))
}

/// What a node says of itself; the error says why it did not answer within the timeout.
pub async fn status(address: &str, timeout: Duration) -> Result<StatusResponse, String> {
    let mut database = lazy(address, &ClientOptions::default())?;
    match tokio::time::timeout(timeout, database.status(StatusRequest {})).await {
        Ok(answer) => answer.map(tonic::Response::into_inner).map_err(|s| status_text(&s)),
        Err(_) => Err(format!("no answer within {timeout:?}")),
    }
}

/// Asks a node to hand its leaderships over and stop.
pub async fn stop(address: &str, timeout: Duration) -> Result<(), String> {
    let mut database = lazy(address, &ClientOptions::default())?;
    match tokio::time::timeout(timeout, database.stop(StopRequest {})).await {
        Ok(answer) => answer.map(|_| ()).map_err(|s| status_text(&s)),
        Err(_) => Err(format!("no answer within {timeout:?}")),
    }
}
