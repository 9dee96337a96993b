//! Many clients at once in one process: each has a connection and a session of its own, and is a task.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use proto::v1::database_client::DatabaseClient;
use proto::v1::server_message::Body;
use proto::v1::{ClientMessage, Execute, StatusRequest, client_message};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// What became of all that a crowd asked for.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Sessions that were opened.
    pub sessions: u64,
    /// Transactions that were committed.
    pub done: u64,
    /// How long each of them took, in milliseconds, in order.
    pub latency_ms: Vec<f64>,
    /// Errors by their SQLSTATE, with the first one's words; `08006` is a broken connection.
    pub errors: BTreeMap<String, (u64, String)>,
    /// The largest memory of any node, in bytes, and its largest queue of statements.
    pub resident_bytes_max: u64,
    /// As above.
    pub queued_max: u64,
    /// How long it went on, from the moment when all sessions were open.
    pub elapsed: Duration,
}

impl Tally {
    /// Transactions a second.
    pub fn rate(&self) -> f64 {
        self.done as f64 / self.elapsed.as_secs_f64().max(0.001)
    }

    /// How often an error came.
    pub fn count(&self, sqlstate: &str) -> u64 {
        self.errors.get(sqlstate).map_or(0, |(count, _)| *count)
    }

    /// A part of the latencies, such as 0.99, in milliseconds.
    pub fn percentile_ms(&self, part: f64) -> f64 {
        let at = (self.latency_ms.len() as f64 * part) as usize;
        self.latency_ms.get(at.min(self.latency_ms.len().saturating_sub(1))).copied().unwrap_or_default()
    }

    fn error(&mut self, sqlstate: &str, message: &str) {
        self.errors.entry(sqlstate.into()).or_insert_with(|| (0, message.into())).0 += 1;
    }
}

/// The first try again after a refusal; doubled for each further one, up to the last.
const PAUSE_FIRST: Duration = Duration::from_millis(20);
const PAUSE_LAST: Duration = Duration::from_millis(640);

struct One {
    send: mpsc::Sender<ClientMessage>,
    receive: tonic::Streaming<proto::v1::ServerMessage>,
}

type Failure = (String, String);

fn lost(why: impl std::fmt::Display) -> Failure {
    ("08006".into(), why.to_string())
}

impl One {
    async fn open(address: &str) -> Result<One, Failure> {
        let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}")).map_err(lost)?;
        let channel = endpoint.connect_timeout(Duration::from_secs(10)).connect().await.map_err(lost)?;
        let (send, queue) = mpsc::channel(4);
        let call = DatabaseClient::new(channel).session(ReceiverStream::new(queue)).await.map_err(lost)?;
        let mut receive = call.into_inner();
        match receive.message().await.map_err(lost)?.and_then(|message| message.body) {
            Some(Body::Hello(_)) => Ok(One { send, receive }),
            Some(Body::Error(e)) => Err((e.sqlstate, e.message)),
            other => Err(lost(format!("no greeting: {other:?}"))),
        }
    }

    async fn execute(&mut self, sql: &str) -> Result<(), Failure> {
        let body = client_message::Body::Execute(Execute { sql: sql.into(), parameters: Vec::new() });
        self.send.send(ClientMessage { body: Some(body) }).await.map_err(lost)?;
        let mut error = None;
        loop {
            let message = self.receive.message().await.map_err(lost)?;
            match message.ok_or_else(|| lost("the stream has ended"))?.body {
                Some(Body::Error(e)) => error = Some((e.sqlstate, e.message)),
                Some(Body::Ready(_)) => return error.map_or(Ok(()), Err),
                _ => {}
            }
        }
    }

    async fn transaction(&mut self, statements: &[String]) -> Result<(), Failure> {
        for sql in statements {
            if let Err(failure) = self.execute(sql).await {
                if statements.len() > 1 && failure.0 != "08006" {
                    self.execute("ROLLBACK").await?;
                }
                return Err(failure);
            }
        }
        Ok(())
    }
}

/// So many clients repeat a transaction for a while: `work` makes the statements of the n-th one of a
/// client. Each stays at one of the addresses. A client that gets an error pauses, for longer each time,
/// and goes on; one that cannot have a session counts its error once.
pub fn crowd(
    addresses: &[String],
    clients: usize,
    time: Duration,
    work: impl Fn(usize, u64) -> Vec<String> + Send + Sync + 'static,
) -> Tally {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let tally = Arc::new(Mutex::new(Tally::default()));
    let lock = |tally: &Arc<Mutex<Tally>>, change: &dyn Fn(&mut Tally)| change(&mut tally.lock().expect("no panic"));
    let work = Arc::new(work);
    runtime.block_on(async {
        let (go, begin) = tokio::sync::watch::channel(None::<Instant>);
        let (opened, mut all_opened) = mpsc::channel::<()>(1);
        let mut tasks = Vec::new();
        for client in 0..clients {
            let (address, work, tally) = (addresses[client % addresses.len()].clone(), work.clone(), tally.clone());
            let (mut begin, opened) = (begin.clone(), opened.clone());
            tasks.push(tokio::spawn(async move {
                let one = One::open(&address).await;
                drop(opened);
                let mut one = match one {
                    Ok(one) => one,
                    Err((state, why)) => return lock(&tally, &|tally| tally.error(&state, &why)),
                };
                lock(&tally, &|tally| tally.sessions += 1);
                let until = *begin.wait_for(Option::is_some).await.expect("it begins");
                let until = until.expect("as waited for");
                let mut pause = PAUSE_FIRST;
                for n in 0.. {
                    let begun = Instant::now();
                    if begun >= until {
                        return;
                    }
                    match one.transaction(&work(client, n)).await {
                        // What ends after the time is up is not counted: it would flatter the rate.
                        Ok(()) if Instant::now() > until => return,
                        Ok(()) => {
                            let ms = begun.elapsed().as_secs_f64() * 1e3;
                            lock(&tally, &|tally| {
                                tally.done += 1;
                                tally.latency_ms.push(ms);
                            });
                            pause = PAUSE_FIRST;
                        }
                        Err((state, why)) => {
                            lock(&tally, &|tally| tally.error(&state, &why));
                            if state == "08006" {
                                return;
                            }
                            // The only wait of a client: a deadline of the runtime, not of a test.
                            let _ = tokio::time::timeout(pause, std::future::pending::<()>()).await;
                            pause = (pause * 2).min(PAUSE_LAST);
                        }
                    }
                }
            }));
        }
        drop(opened);
        let _ = all_opened.recv().await;
        let begun = Instant::now();
        go.send(Some(begun + time)).expect("the clients wait for it");
        let watch = async {
            let mut ticks = tokio::time::interval(Duration::from_millis(200));
            loop {
                ticks.tick().await;
                for address in addresses {
                    let Some(counters) = status(address).await else { continue };
                    lock(&tally, &|tally| {
                        tally.resident_bytes_max = tally.resident_bytes_max.max(counters.resident_bytes);
                        tally.queued_max = tally.queued_max.max(counters.statements_queued);
                    });
                }
            }
        };
        tokio::select! {
            () = watch => {}
            _ = async { for task in tasks { task.await.expect("no client panics"); } } => {}
        }
    });
    runtime.shutdown_background();
    let mut tally = tally.lock().expect("no panic").clone();
    tally.elapsed = time;
    tally.latency_ms.sort_by(f64::total_cmp);
    tally
}

async fn status(address: &str) -> Option<proto::v1::Counters> {
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{address}")).ok()?.connect().await.ok()?;
    DatabaseClient::new(channel).status(StatusRequest {}).await.ok()?.into_inner().counters
}

/// The counters of the node at an address, if it answers.
pub fn counters(address: &str) -> Option<proto::v1::Counters> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?.block_on(status(address))
}
