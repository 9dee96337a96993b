//! `meridian start`: puts a node together, runs it, and takes it apart.

use std::io::Read as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, anyhow};
use paxos::{GroupId, NodeId};
use rand::SeedableRng;
use rand_chacha::{ChaCha8Rng, ChaCha20Rng};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tonic::transport::Server;
use truetime::fence::JUDGE_EVERY_NS;
use txn::client::{Gateway, GatewayOptions};
use txn::node::Node;
use txn::{NodeOptions, RangeDescriptor};

use crate::clock::NodeClock;
use crate::config::{Config, LogFormat, StartArgs};
use crate::engine::{self, EngineHandle, Event, FlushPolicy};
use crate::frontend::grpc::{self, SessionLimit};
use crate::gateway::{About, GatewayEngine, Replies, admin, keep_alive};
use crate::incoming::incoming;
use crate::injected::Injected;
use crate::limits::FileBudget;
use crate::log_writer::LogWriter;
use crate::metrics::Metrics;
use crate::storage::{Acquaintances, DataFolder, LogStore, RocksState, StateOptions};
use crate::transport::{Identity, Receiver, Transport};
use crate::wire;

/// How often the clock is compared with the peers'.
const JUDGE_EVERY: Duration = Duration::from_nanos(JUDGE_EVERY_NS.unsigned_abs());
/// How often the catalog is read.
const CATALOG_EVERY: Duration = Duration::from_millis(500);
/// How often the node looks for schema changes whose gateways are gone.
const JOBS_EVERY: Duration = Duration::from_secs(1);
/// How long a hand-over may take.
const HAND_OVER_MAX: Duration = Duration::from_millis(1500);
/// How long the last writes and the last flush may take then.
const LAST_FLUSH_MAX: Duration = Duration::from_secs(30);
/// How long the last messages may take to leave.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(500);
/// HTTP/2 pings find clients that are gone.
const CLIENT_PING_INTERVAL: Duration = Duration::from_secs(10);
const CLIENT_PING_TIMEOUT: Duration = Duration::from_secs(10);
/// Streams of one connection: a client may have many sessions on it.
const STREAMS_PER_CONNECTION_MAX: u32 = 1024;
/// Flow control must not throttle a batch of a peer.
const WINDOW_BYTES: u32 = 8 << 20;

/// Runs a node until it is told to stop.
pub async fn run(args: StartArgs) -> anyhow::Result<()> {
    let config = args.check()?;
    admin::check_epsilon(&config.clock, config.lease_ns).map_err(|why| anyhow!("--clock: {why}"))?;
    start_log(&args)?;
    let stop = Arc::new(Notify::new());
    watch_for_stop(&stop, args.stop_with_stdin)?;

    let files = FileBudget::of_process(config.sessions_max).map_err(|why| anyhow!(why))?;
    let listener = listen(&config.listen).await?;
    let mut folder = DataFolder::open(&config.data, config.node, &config.peers)?;
    let node = Parts::open(&config, &folder, files)?;
    folder.stores_made()?;
    tracing::info!(
        node = config.node, listen = %config.listen, cluster = folder.cluster_id(), data = %config.data.display(),
        clock = %config.clock, version = crate::VERSION, "the node starts"
    );
    if files.sessions_max < config.sessions_max {
        tracing::warn!(
            "the limit of {} open files leaves room for {} sessions, not for the {} of --sessions-max: raise it with \
             `ulimit -n`, or LimitNOFILE= of the service",
            files.limit,
            files.sessions_max,
            config.sessions_max
        );
    }
    node.serve(listener, stop).await
}

fn start_log(args: &StartArgs) -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_new(&args.log).with_context(|| format!("--log {:?}", args.log))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match args.log_format {
        LogFormat::Text => builder.with_ansi(false).init(),
        LogFormat::Json => builder.json().init(),
    }
    // A panic is a broken invariant of ours: the node stops, and a restart recovers from its log.
    std::panic::set_hook(Box::new(|panic| {
        if sql::tolerates_panic() {
            tracing::error!("a query failed: {panic}");
            return;
        }
        let backtrace = std::backtrace::Backtrace::force_capture();
        tracing::error!("the node stops: {panic}\n{backtrace}");
        crate::end_process(101);
    }));
    Ok(())
}

/// SIGTERM, SIGINT and, if asked, the end of standard input stop the node.
fn watch_for_stop(stop: &Arc<Notify>, stdin: bool) -> anyhow::Result<()> {
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let mut signals = signal(kind)?;
        let stop = stop.clone();
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                stop.notify_one();
            }
        });
    }
    if stdin {
        let stop = stop.clone();
        let watch = move || {
            // An error is an end as well.
            let _ = std::io::stdin().lock().read_to_end(&mut Vec::new());
            stop.notify_one();
        };
        std::thread::Builder::new().name("stdin".into()).spawn(watch)?;
    }
    Ok(())
}

async fn listen(address: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|err| match err.kind() {
        std::io::ErrorKind::AddrInUse => anyhow!("could not listen on {address}: address already in use"),
        _ => anyhow!("could not listen on {address}: {err}"),
    })
}

/// Everything of a running node but its sockets.
struct Parts {
    clock: Arc<NodeClock>,
    metrics: Arc<Metrics>,
    transport: Arc<Transport>,
    replies: Arc<Replies>,
    handle: EngineHandle,
    engine: std::thread::JoinHandle<()>,
    gateway: GatewayEngine,
    files: FileBudget,
    sessions_wanted: u64,
    queries: sql::Queries,
    lease_ns: i64,
    injected: Arc<Injected>,
}

/// The memory of the queries, and the folder that they spill to, without what an earlier process left.
fn queries(config: &Config, folder: &DataFolder) -> anyhow::Result<sql::Queries> {
    let spill = folder.queries();
    match std::fs::remove_dir_all(&spill) {
        Err(err) if err.kind() != std::io::ErrorKind::NotFound => {
            return Err(err).with_context(|| format!("could not empty {}", spill.display()));
        }
        _ => {}
    }
    std::fs::create_dir_all(&spill).with_context(|| format!("could not create {}", spill.display()))?;
    let options = sql::QueryOptions { memory_bytes: config.query_memory_max, spill: Some(spill) };
    sql::Queries::new(&options).context("the queries cannot be set up")
}

impl Parts {
    /// Opens the stores and starts the threads.
    fn open(config: &Config, folder: &DataFolder, files: FileBudget) -> anyhow::Result<Parts> {
        let voters = config.peers.ids();
        let nodes: Vec<NodeId> = voters.iter().copied().map(NodeId).collect();
        let me = NodeId(config.node);
        let clock = Arc::new(NodeClock::new(config.node, voters, config.clock.clone()));
        let metrics = Arc::new(Metrics::default());
        let acquaintances = Arc::new(Acquaintances::open(folder.path(), config.node, folder.name())?);
        let cluster_id = folder.cluster_id().to_string();
        let identity = Identity { node: config.node, cluster_id, peers: config.peers.clone(), acquaintances };
        let transport = Arc::new(Transport::new(identity, config.peer_via.clone(), metrics.clone()));
        let replies = Arc::new(Replies::default());
        let injected = Arc::new(Injected::new(config.faults_at.clone()));

        let store = LogStore::open_with(&folder.log(), files.log)?;
        let logs = store.load()?;
        for log in logs.values() {
            let promised = log.hard.lease.map(|vote| vote.until).max(log.hard.lease_floor);
            promised.iter().for_each(|until| clock.voted_until(*until, config.lease_ns));
        }
        let state = RocksState::open(
            &folder.state(),
            &StateOptions { open_files_max: files.state, ..StateOptions::default() },
        )?;
        let rng = ChaCha8Rng::from_seed(crate::clock::seed().context("no randomness")?);
        let (node, first) = Node::new(options(config, &nodes), state, logs, clock.now(), rng)?;

        clock.used(node.used_ts(), config.lease_ns);
        clock.judge();

        // Above the numbers of any earlier process of this node, whose late replies may still come.
        let first_request = u64::try_from(clock.system_ns()).unwrap_or(1);
        let gateway_options = GatewayOptions {
            keepalive_ns: idle_ns(config.lease_ns) / 4,
            request_timeout_ns: config.lease_ns.clamp(500_000_000, 3_000_000_000),
            ..GatewayOptions::default()
        };
        let gateway = Arc::new(Mutex::new(Gateway::new(me, nodes, gateway_options, first_request)));

        let (handle, events) = EngineHandle::channel();
        let durable = {
            let handle = handle.clone();
            move |number| handle.persisted(number)
        };
        let log = LogWriter::start(store, metrics.clone(), injected.clone(), durable)?;
        let parts = engine::Parts {
            node,
            first,
            clock: clock.clone(),
            log,
            transport: transport.clone(),
            replies: replies.clone(),
            gateway: gateway.clone(),
            flush: FlushPolicy { bytes: config.state_flush_bytes, ns: config.state_flush_ns },
        };
        let engine = engine::start(parts, &handle, events)?;
        let about = About {
            data_dir: folder.path().display().to_string(),
            lease_ns: config.lease_ns,
            started_mono_ns: clock.mono_ns(),
            admission: config.admission,
            session_memory_max: config.session_memory_max,
            injected: injected.clone(),
        };
        let gateway = GatewayEngine::new(
            gateway,
            clock.clone(),
            handle.clone(),
            transport.clone(),
            replies.clone(),
            metrics.clone(),
            about,
            ChaCha20Rng::from_seed(crate::clock::seed().context("no randomness")?),
        );
        let queries = queries(config, folder)?;
        let (sessions_wanted, lease_ns) = (config.sessions_max, config.lease_ns);
        Ok(Parts {
            clock,
            metrics,
            transport,
            replies,
            handle,
            engine,
            gateway,
            files,
            sessions_wanted,
            queries,
            lease_ns,
            injected,
        })
    }

    fn sessions(&self) -> SessionLimit {
        let hint = if self.files.sessions_max < self.sessions_wanted {
            format!("raise its limit of {} open files (ulimit -n)", self.files.limit)
        } else {
            "raise its --sessions-max".to_string()
        };
        SessionLimit { max: self.files.sessions_max, hint }
    }

    async fn serve(self, listener: TcpListener, stop: Arc<Notify>) -> anyhow::Result<()> {
        self.transport.start(&self.clock, &self.replies);
        tokio::spawn(keep_alive(self.gateway.clone()));
        tokio::spawn(judge(self.clock.clone(), self.handle.clone(), self.lease_ns));

        let receiver = Receiver::new(
            self.transport.clone(),
            self.clock.clone(),
            self.handle.clone(),
            self.replies.clone(),
            self.metrics.clone(),
            self.lease_ns,
            self.injected.clone(),
        );
        let database = sql::Database::with_queries(self.gateway.clone(), self.queries.clone());
        tokio::spawn(refresh_catalog(database.clone()));
        tokio::spawn(tend_jobs(database.clone()));
        let server = Server::builder()
            .http2_keepalive_interval(Some(CLIENT_PING_INTERVAL))
            .http2_keepalive_timeout(Some(CLIENT_PING_TIMEOUT))
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
            .add_service(wire::peer::service(Arc::new(receiver)))
            .add_service(grpc::service(self.gateway.clone(), database, self.sessions(), stop.clone()))
            .serve_with_incoming(incoming(listener, self.files.connections_max, self.metrics.clone()));
        let server = tokio::spawn(async move {
            if let Err(err) = server.await {
                // A node that nobody can reach must not look as if it were well.
                crate::fatal(&format!("it can no longer serve: {err}"));
            }
        });

        stop.notified().await;
        tracing::info!("the node ends its sessions, hands over and stops");
        self.gateway.drain().run(&self.metrics).await;
        let Parts { engine, handle, transport, .. } = self;
        let ended = tokio::task::spawn_blocking(move || {
            // Its panic has stopped the process already.
            let _ = engine.join();
        });
        tokio::pin!(ended);
        // An engine that waits for its disk takes no events, and its queue may be full: these waits have ends.
        let hand_over = async {
            let _ = handle.send(Event::Shutdown).await;
            let _ = (&mut ended).await;
        };
        if tokio::time::timeout(HAND_OVER_MAX, hand_over).await.is_err() {
            tracing::warn!("no peer took over in time; stopping without that");
            let halt = async {
                let _ = handle.send(Event::Halt).await;
                let _ = (&mut ended).await;
            };
            if tokio::time::timeout(LAST_FLUSH_MAX, halt).await.is_err() {
                crate::fatal("the disk does not answer; what was promised is in the log");
            }
        }
        let deadline = tokio::time::Instant::now() + DRAIN_TIMEOUT;
        while !transport.drained() && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // What was taken from the queues is still on its way to the sockets.
        tokio::time::sleep(Duration::from_millis(20)).await;
        server.abort();
        tracing::info!("the node has stopped");
        Ok(())
    }
}

/// Judges the clock by its peers, and by what was used before.
async fn judge(clock: Arc<NodeClock>, engine: EngineHandle, lease_ns: i64) {
    let asked = clock.clone();
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(JUDGE_EVERY);
        // Until the node ends.
        while let Ok(used) = engine.query(|node, _| node.used_ts()).await {
            asked.used(used, lease_ns);
            ticks.tick().await;
        }
    });
    let mut ticks = tokio::time::interval(JUDGE_EVERY);
    loop {
        ticks.tick().await;
        clock.judge();
    }
}

/// Keeps the catalog of the node's statements fresh, so that they seldom wait for it.
async fn refresh_catalog(database: sql::Database<GatewayEngine>) {
    let mut ticks = tokio::time::interval(CATALOG_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(err) = database.refresh_catalog().await {
            tracing::debug!("the catalog could not be refreshed: {err}");
        }
    }
}

/// Goes on with schema changes whose gateways are gone.
async fn tend_jobs(database: sql::Database<GatewayEngine>) {
    let mut ticks = tokio::time::interval(JOBS_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match database.tend_jobs().await {
            Ok(0) => {}
            Ok(jobs) => tracing::info!("{jobs} schema changes of lost gateways were brought to their ends"),
            Err(err) => tracing::debug!("a schema change of a lost gateway could not be taken over: {err}"),
        }
    }
}

/// A gateway that was not heard of for so long is dead, as a leader is that was not heard of for a lease: its
/// transactions lose their locks.
fn idle_ns(lease_ns: i64) -> i64 {
    lease_ns.clamp(1_000_000_000, 10_000_000_000)
}

/// The node's options: a new cluster has one group for the catalogue and one for all tables.
fn options(config: &Config, nodes: &[NodeId]) -> NodeOptions {
    let mut options = NodeOptions::new(NodeId(config.node), nodes.to_vec(), config.lease_ns);
    options.txn_idle_ns = idle_ns(config.lease_ns);
    options.version_retention_ns = config.retention_ns;
    options.gc_every_ns = config.gc_every_ns;
    options.outcome_retention_ns = options.outcome_retention_ns.max(config.retention_ns);
    let group = |number: u64, span| {
        let leader = nodes[number as usize % nodes.len()];
        (RangeDescriptor { group: GroupId(number), span, epoch: 1 }, leader)
    };
    options.bootstrap = vec![group(0, sql::system_span()), group(1, sql::user_span())];
    options
}
