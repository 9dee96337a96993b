//! Accepting connections, and going on when there is no room for more.
//!
//! The HTTP/2 library ends its server at the first error of `accept` that is not about one connection,
//! and running out of open files is such an error: a node that a crowd has filled would stay deaf for
//! ever. So connections are accepted here. Those beyond the bound are closed at once, and after an error
//! the listener rests for a moment.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::{Stream, stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tonic::transport::server::Connected;

use crate::metrics::{Metrics, add, get};

/// How long accepting rests after an error: whoever holds a file may close it meanwhile.
const REST: Duration = Duration::from_millis(100);
/// The same trouble is logged again only after so long.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// A connection, counted for as long as it lives.
pub struct Connection {
    socket: TcpStream,
    metrics: Arc<Metrics>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.metrics.connections_open.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Listener {
    listener: TcpListener,
    connections_max: u64,
    metrics: Arc<Metrics>,
    logged: Option<Instant>,
}

/// The connections to a listener, never an error. So many are open at the same time at most.
pub fn incoming(
    listener: TcpListener,
    connections_max: u64,
    metrics: Arc<Metrics>,
) -> impl Stream<Item = io::Result<Connection>> {
    let listener = Listener { listener, connections_max, metrics, logged: None };
    stream::unfold(listener, async |mut listener| Some((Ok(listener.next().await), listener)))
}

impl Listener {
    async fn next(&mut self) -> Connection {
        loop {
            match self.listener.accept().await {
                Ok((socket, _)) if get(&self.metrics.connections_open) >= self.connections_max => {
                    drop(socket);
                    add(&self.metrics.connections_refused, 1);
                    self.log(&format!("{} connections are open, a new one was closed", self.connections_max));
                }
                Ok((socket, _)) => {
                    // Without it a connection is slow and not wrong.
                    let _ = socket.set_nodelay(true);
                    add(&self.metrics.connections_open, 1);
                    return Connection { socket, metrics: self.metrics.clone() };
                }
                Err(err) => {
                    add(&self.metrics.connections_refused, 1);
                    self.log(&format!("a connection could not be accepted: {err}"));
                    tokio::time::sleep(REST).await;
                }
            }
        }
    }

    fn log(&mut self, what: &str) {
        if self.logged.is_none_or(|at| at.elapsed() > LOG_EVERY) {
            tracing::warn!("{what}");
            self.logged = Some(Instant::now());
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = <TcpStream as Connected>::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.socket.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::StreamExt as _;
    use tokio::io::AsyncReadExt as _;

    #[tokio::test]
    async fn connections_beyond_the_bound_are_closed_and_room_is_found_again() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let metrics = Arc::new(Metrics::default());
        let mut incoming = Box::pin(incoming(listener, 1, metrics.clone()));
        let _first = TcpStream::connect(address).await.unwrap();
        let held = incoming.next().await.unwrap().unwrap();
        let mut second = TcpStream::connect(address).await.unwrap();
        let closed = async { second.read(&mut [0]).await };
        tokio::select! {
            _ = incoming.next() => panic!("there is no room"),
            read = closed => assert!(matches!(read, Ok(0) | Err(_)), "{read:?}"),
        }
        assert_eq!((get(&metrics.connections_open), get(&metrics.connections_refused)), (1, 1));
        drop(held);
        let _third = TcpStream::connect(address).await.unwrap();
        assert!(incoming.next().await.unwrap().is_ok());
    }
}
