//! A fake database: two or more "nodes" on one in-memory bank, with faults at will.
//!
//! It understands just the statements that the bank and these tests send. Transactions run one
//! after another under one lock; each commit keeps a whole copy of the balances, so that a past
//! read is exact.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use proto::v1::client_message::Body as Request;
use proto::v1::database_server::{Database, DatabaseServer};
use proto::v1::server_message::Body as Reply;
use proto::v1::value::Kind;
use proto::v1::*;
use tokio::net::TcpListener;
use tokio::sync::{OwnedMutexGuard, mpsc};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Response, Status, Streaming};

/// What goes wrong with a COMMIT.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    Conflict,
    LoseBefore,
    LoseAfter,
    InDoubtCommitted,
    ErrorAborted,
}

#[derive(Default)]
pub struct State {
    pub versions: BTreeMap<i64, BTreeMap<i64, i64>>,
    pub setup: BTreeMap<String, i64>,
    pub ledger: Vec<Vec<i64>>,
    pub outcomes: BTreeMap<String, Option<i64>>,
    pub faults: VecDeque<Fault>,
    /// Every so many commits, the next fault strikes.
    pub fault_every: u64,
    pub commits: u64,
    /// Snapshots lie by this much.
    pub lie: i64,
    /// Text of all statements, per node.
    pub seen: Vec<(u64, String)>,
    /// End the session at the next statement with this prefix, before running it.
    pub cut_at: Option<String>,
    names: u64,
}

impl State {
    fn now(&self) -> i64 {
        self.versions.keys().next_back().copied().unwrap_or(2_000_000_000_000_000_000)
    }

    fn balances(&self, at: i64) -> BTreeMap<i64, i64> {
        self.versions.range(..=at).next_back().map(|(_, b)| b.clone()).unwrap_or_default()
    }

    fn install(&mut self, balances: BTreeMap<i64, i64>) -> i64 {
        let ts = self.now() + 1000;
        self.versions.insert(ts, balances);
        ts
    }
}

#[derive(Clone, Default)]
pub struct Cluster {
    pub state: Arc<Mutex<State>>,
    lock: Arc<tokio::sync::Mutex<()>>,
    pub addresses: Vec<String>,
}

impl Cluster {
    pub async fn start(nodes: u64) -> Cluster {
        let mut cluster = Cluster::default();
        let mut listeners = Vec::new();
        for _ in 0..nodes {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            cluster.addresses.push(listener.local_addr().expect("bound").to_string());
            listeners.push(listener);
        }
        for (node, listener) in (1..).zip(listeners) {
            let service = DatabaseServer::new(Node { node, cluster: cluster.clone() });
            let incoming = TcpListenerStream::new(listener);
            tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming));
        }
        cluster
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }
}

struct Node {
    node: u64,
    cluster: Cluster,
}

#[tonic::async_trait]
impl Database for Node {
    type SessionStream = ReceiverStream<Result<ServerMessage, Status>>;

    async fn session(
        &self,
        request: tonic::Request<Streaming<ClientMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let (replies, stream) = mpsc::channel(16);
        let nodes = (1..).zip(&self.cluster.addresses);
        let nodes = nodes.map(|(node, address)| NodeAddress { node, address: address.clone() }).collect();
        let hello =
            Hello { node: self.node, version: "test".into(), nodes, cluster_id: "c".into(), faults_at: String::new() };
        let session =
            Session { node: self.node, cluster: self.cluster.clone(), open: None, prepared: BTreeMap::new(), replies };
        tokio::spawn(session.serve(hello, request.into_inner()));
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn status(&self, _: tonic::Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let commits = self.cluster.state().commits;
        let counters =
            Counters { fsyncs: commits * 2, cpu_us: i64::try_from(commits).unwrap_or(0), ..Counters::default() };
        let clock =
            ClockStatus { source: "fixed:1ms".into(), latest_ns: 2_000_000, trusted: true, ..ClockStatus::default() };
        let peers = (1..).zip(&self.cluster.addresses);
        let peers = peers
            .map(|(node, a)| PeerStatus { node, address: a.clone(), connected: true, ..PeerStatus::default() })
            .collect();
        Ok(Response::new(StatusResponse {
            node: self.node,
            pid: 7,
            peers,
            counters: Some(counters),
            clock: Some(clock),
            ..StatusResponse::default()
        }))
    }

    async fn stop(&self, _: tonic::Request<StopRequest>) -> Result<Response<StopResponse>, Status> {
        Ok(Response::new(StopResponse {}))
    }
}

struct Open {
    name: String,
    balances: BTreeMap<i64, i64>,
    ledger: Vec<Vec<i64>>,
    read_only: bool,
    _lock: Option<OwnedMutexGuard<()>>,
}

struct Session {
    node: u64,
    cluster: Cluster,
    open: Option<Open>,
    prepared: BTreeMap<String, String>,
    replies: mpsc::Sender<Result<ServerMessage, Status>>,
}

/// What a statement does to the session.
enum Answer {
    Rows(Vec<(&'static str, Type)>, Vec<Vec<Value>>, i64),
    Tag(String, Option<Commit>),
    Error(Error),
    Cut,
}

fn int(n: i64) -> Value {
    Value { kind: Some(Kind::Bigint(n)) }
}

fn word(text: &str) -> Value {
    Value { kind: Some(Kind::Text(text.into())) }
}

fn tag(text: &str) -> Answer {
    Answer::Tag(text.into(), None)
}

fn error(sqlstate: &str, message: &str) -> Answer {
    Answer::Error(Error { sqlstate: sqlstate.into(), message: message.into(), ..Error::default() })
}

impl Session {
    async fn serve(mut self, hello: Hello, mut requests: Streaming<ClientMessage>) {
        if !self.reply(Reply::Hello(hello)).await {
            return;
        }
        while let Some(Ok(message)) = requests.next().await {
            let going = match message.body {
                Some(Request::Execute(e)) => {
                    let mut going = true;
                    for sql in shell::lexer::statements(&e.sql) {
                        match self.run(&sql, &e.parameters).await {
                            Some(true) => {}
                            Some(false) => break,
                            None => {
                                going = false;
                                break;
                            }
                        }
                    }
                    going
                }
                Some(Request::Prepare(p)) => {
                    self.prepared.insert(p.name, p.sql);
                    self.reply(Reply::Prepared(Prepared::default())).await
                }
                Some(Request::ExecutePrepared(e)) => match self.prepared.get(&e.name).cloned() {
                    Some(sql) => self.run(&sql, &e.parameters).await.is_some(),
                    None => {
                        let error =
                            Error { sqlstate: "26000".into(), message: "no such statement".into(), ..Error::default() };
                        self.reply(Reply::Error(error)).await
                    }
                },
                _ => true,
            };
            let state = match &self.open {
                None => TransactionState::Idle,
                Some(open) if open.read_only => TransactionState::ReadOnly,
                Some(_) => TransactionState::Open,
            };
            let transaction = self.open.as_ref().map_or_else(String::new, |o| o.name.clone());
            let ready = Ready { state: state as i32, read_ts_ns: 0, transaction };
            if !going || !self.reply(Reply::Ready(ready)).await {
                return;
            }
        }
    }

    async fn reply(&self, body: Reply) -> bool {
        self.replies.send(Ok(ServerMessage { body: Some(body) })).await.is_ok()
    }

    /// `None`: the session ends; false: an error ended the batch.
    async fn run(&mut self, sql: &str, parameters: &[Value]) -> Option<bool> {
        let answer = self.answer(sql, parameters).await;
        let (good, complete) = match answer {
            Answer::Cut => return None,
            Answer::Error(e) => {
                self.reply(Reply::Error(e)).await;
                return Some(false);
            }
            Answer::Tag(tag, commit) => (true, Complete { tag, commit, ..Complete::default() }),
            Answer::Rows(columns, rows, read_ts_ns) => {
                let columns = columns.into_iter().map(|(n, t)| Column { name: n.into(), r#type: t as i32 }).collect();
                self.reply(Reply::Columns(Columns { columns })).await;
                let rows: Vec<Row> = rows.into_iter().map(|values| Row { values }).collect();
                let tag = format!("SELECT {}", rows.len());
                self.reply(Reply::Rows(Rows { rows })).await;
                (true, Complete { tag, read_ts_ns, ..Complete::default() })
            }
        };
        self.reply(Reply::Complete(complete)).await;
        Some(good)
    }

    async fn answer(&mut self, sql: &str, parameters: &[Value]) -> Answer {
        let cluster = self.cluster.clone();
        {
            let mut state = cluster.state();
            if state.cut_at.as_ref().is_some_and(|prefix| sql.starts_with(prefix.as_str())) {
                state.cut_at = None;
                return Answer::Cut;
            }
            state.seen.push((self.node, sql.to_string()));
        }
        let numbers: Vec<i64> = parameters.iter().filter_map(shell::workload::bank::int).collect();
        match sql {
            "BEGIN" => {
                let lock = cluster.lock.clone().lock_owned().await;
                let mut state = cluster.state();
                state.names += 1;
                let name = format!("{:08x}", state.names);
                let balances = state.balances(i64::MAX);
                self.open = Some(Open { name, balances, ledger: Vec::new(), read_only: false, _lock: Some(lock) });
                return tag("BEGIN");
            }
            "BEGIN READ ONLY" => {
                let balances = cluster.state().balances(i64::MAX);
                let name = String::new();
                self.open = Some(Open { name, balances, ledger: Vec::new(), read_only: true, _lock: None });
                return tag("BEGIN");
            }
            "ROLLBACK" => {
                self.open = None;
                return tag("ROLLBACK");
            }
            "COMMIT" => return self.commit(),
            _ => {}
        }
        if let Some(open) = &mut self.open {
            if sql.contains("WHERE id = $1 FOR UPDATE") {
                let rows = open.balances.get(&numbers[0]).map(|b| vec![int(*b)]);
                return Answer::Rows(vec![("balance", Type::Bigint)], rows.into_iter().collect(), 0);
            }
            if sql.starts_with("UPDATE accounts") {
                let sign = if sql.contains("balance - ") { -1 } else { 1 };
                *open.balances.entry(numbers[1]).or_default() += sign * numbers[0];
                return tag("UPDATE 1");
            }
            if sql.starts_with("INSERT INTO bank_ledger") {
                open.ledger.push(numbers);
                return tag("INSERT 0 1");
            }
        }
        self.outside(sql)
    }

    fn outside(&mut self, sql: &str) -> Answer {
        let mut state = self.cluster.state();
        if let Some(rest) = sql.strip_prefix("UPSERT INTO ") {
            let values: Vec<&str> = rest.split_once("VALUES ").expect("values").1.split("), (").collect();
            let mut balances = state.balances(i64::MAX);
            for value in values {
                let (key, number) = value.trim_matches(|c| c == '(' || c == ')').split_once(", ").expect("two");
                let number = number.parse().expect("a number");
                if rest.starts_with("bank_setup") {
                    state.setup.insert(key.trim_matches('\'').to_string(), number);
                } else {
                    balances.insert(key.parse().expect("a number"), number);
                }
            }
            state.install(balances);
            return tag("INSERT 0 1");
        }
        if sql.starts_with("UPDATE bank_setup") {
            *state.setup.entry("runs".into()).or_default() += 1;
            return tag("UPDATE 1");
        }
        if sql.starts_with("SELECT name, value FROM bank_setup") {
            if state.setup.is_empty() {
                return error("42P01", "relation \"bank_setup\" does not exist");
            }
            let rows = state.setup.iter().map(|(k, v)| vec![word(k), int(*v)]).collect();
            return Answer::Rows(vec![("name", Type::Text), ("value", Type::Bigint)], rows, 0);
        }
        let at = sql.rsplit_once("TIME ").map(|(_, ns)| ns.parse::<i64>().expect("nanoseconds"));
        let at = at.unwrap_or_else(|| state.now());
        if sql.starts_with("SELECT sum(balance)::bigint, count(*) FROM accounts") {
            let balances = state.balances(at);
            let sum = balances.values().sum::<i64>() + state.lie;
            let count = i64::try_from(balances.len()).expect("few");
            let columns = vec![("sum", Type::Bigint), ("count", Type::Bigint)];
            return Answer::Rows(columns, vec![vec![int(sum), int(count)]], at);
        }
        if sql.starts_with("SELECT id, balance FROM accounts") {
            let balances = match &self.open {
                Some(open) => open.balances.clone(),
                None => state.balances(at),
            };
            let rows = balances.into_iter().map(|(id, b)| vec![int(id), int(b)]).collect();
            return Answer::Rows(vec![("id", Type::Bigint), ("balance", Type::Bigint)], rows, at);
        }
        if sql.contains("FROM bank_ledger") {
            let rows = state.ledger.iter().map(|row| row.iter().map(|n| int(*n)).collect()).collect();
            return Answer::Rows(vec![("x", Type::Bigint); 6], rows, at);
        }
        if let Some(rest) = sql.strip_prefix("SHOW TRANSACTION STATUS '") {
            let name = rest.split('\'').next().expect("a name");
            let (word_, ts) = match state.outcomes.get(name) {
                Some(Some(ts)) => ("committed", Value { kind: Some(Kind::TimestampNs(*ts)) }),
                _ => ("aborted", Value { kind: None }),
            };
            let columns = vec![("status", Type::Text), ("commit_timestamp", Type::Timestamptz)];
            return Answer::Rows(columns, vec![vec![word(word_), ts]], 0);
        }
        if sql == "SELECT 1" {
            return Answer::Rows(vec![("one", Type::Bigint)], vec![vec![int(1)]], 0);
        }
        match sql.split(' ').next() {
            Some("DROP" | "CREATE" | "ALTER" | "SET" | "INSERT") => tag(sql.split(' ').next().unwrap_or("")),
            _ => error("42601", "syntax error"),
        }
    }

    fn commit(&mut self) -> Answer {
        let Some(open) = self.open.take() else { return tag("COMMIT") };
        if open.read_only {
            return tag("COMMIT");
        }
        let mut state = self.cluster.state();
        state.commits += 1;
        let due = state.fault_every > 0 && state.commits.is_multiple_of(state.fault_every);
        let fault = if due { state.faults.pop_front() } else { None };
        if matches!(fault, Some(Fault::Conflict | Fault::LoseBefore | Fault::ErrorAborted)) {
            state.outcomes.insert(open.name.clone(), None);
        }
        match fault {
            Some(Fault::Conflict) => return error("40001", "restart transaction"),
            Some(Fault::LoseBefore) => return Answer::Cut,
            Some(Fault::ErrorAborted) => return error("58000", "the disk is full"),
            _ => {}
        }
        let ts = state.install(open.balances);
        state.ledger.extend(open.ledger);
        state.outcomes.insert(open.name.clone(), Some(ts));
        match fault {
            Some(Fault::LoseAfter) => Answer::Cut,
            Some(Fault::InDoubtCommitted) => {
                let (sqlstate, message) = ("40003".to_string(), "in doubt".to_string());
                Answer::Error(Error { sqlstate, message, transaction: open.name, coordinator: 5, ..Error::default() })
            }
            _ => Answer::Tag(
                "COMMIT".into(),
                Some(Commit { transaction: open.name, commit_ts_ns: ts, ..Commit::default() }),
            ),
        }
    }
}
