//! SQL's engine over the simulated node's gateway, as the server's is over its channels.
//!
//! It follows `server::gateway` line by line where that has rules of its own: an operation is a loop
//! of step, send, wait; an idle transaction is kept alive by its host; a dropped one is rolled back.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::task::Poll;

use paxos::{GroupId, NodeId};
use sql::engine::{AdminCommand, AdminRows, CommitInfo, Engine, ReadBound, Transaction};
use sql::types::{DataType, Datum};
use truetime::{Interval, Now, Sabotage, Timestamp};
use txn::client::{
    ClientError, ClientInput, ClientReady, Gateway, Operation, Outcome, ReadWrite, SnapshotRead, StatusQuery,
};
use txn::{
    LockMode, LockPolicy, Mutation, Priority, ReadOp, ReadResult, Reply, Request, RequestBody, TxnId, TxnStatus,
};

/// What the sessions of one process share.
pub struct Shared {
    pub(super) node: NodeId,
    pub(super) gateway: Arc<Mutex<Gateway>>,
    inner: Mutex<Inner>,
    open: Mutex<BTreeMap<u64, Weak<Open>>>,
    sabotage: Sabotage,
}

/// What changes with every event.
pub struct Inner {
    /// The clock, as of the present event.
    pub now: Now,
    /// The client, and the call, whose future is being polled.
    pub client: (u64, u64),
    /// Requests to be sent.
    pub outbox: Vec<(NodeId, Request)>,
    /// Transactions begun, each with the client and the call.
    pub begun: Vec<((u64, u64), TxnId)>,
    /// Connections end without a word.
    pub silent: bool,
    inboxes: BTreeMap<u64, Inbox>,
    routes: BTreeMap<u64, u64>,
    next: u64,
    random: u64,
}

/// What an operation waits for, and what came.
struct Inbox {
    client: u64,
    inputs: Vec<ClientInput>,
    wake_at_ns: Option<i64>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nothing panics while it holds this")
}

impl Shared {
    /// Of a process that has just started.
    pub fn new(node: NodeId, gateway: Arc<Mutex<Gateway>>, now: Now, sabotage: Sabotage) -> Shared {
        let inner = Inner {
            now,
            client: (0, 0),
            outbox: Vec::new(),
            begun: Vec::new(),
            silent: false,
            inboxes: BTreeMap::new(),
            routes: BTreeMap::new(),
            next: 0,
            // Of the seed, which decides the time too: no other draw of the world is moved by it.
            random: now.tt.latest.as_nanos() as u64 ^ node.0 << 48,
        };
        Shared { node, gateway, inner: Mutex::new(inner), open: Mutex::default(), sabotage }
    }

    /// For the host, between polls.
    pub fn inner(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }

    /// A reply came: whose client may go on.
    pub fn deliver(&self, request: u64, reply: Reply) -> Option<u64> {
        let mut inner = self.inner();
        let inbox = inner.routes.remove(&request)?;
        let inbox = inner.inboxes.get_mut(&inbox)?;
        inbox.inputs.push(ClientInput::Reply { request, reply });
        Some(inbox.client)
    }

    /// When something is due, on the monotonic clock.
    pub fn wake_at_ns(&self) -> Option<i64> {
        let waiting = self.inner().inboxes.values().filter_map(|inbox| inbox.wake_at_ns).min();
        let idle = self.all_open().iter().filter_map(|open| lock(&open.state).idle_wake_ns()).min();
        waiting.into_iter().chain(idle).min()
    }

    /// The clients that wait for a time that has come.
    pub fn due(&self) -> Vec<u64> {
        let inner = self.inner();
        let now_ns = inner.now.mono_ns;
        let due = inner.inboxes.values().filter(|inbox| inbox.wake_at_ns.is_some_and(|at| at <= now_ns));
        due.map(|inbox| inbox.client).collect()
    }

    /// Keeps the locks of transactions whose sessions are idle.
    pub fn keep_alive(&self) {
        let now_ns = self.now().mono_ns;
        for open in self.all_open() {
            let mut state = lock(&open.state);
            if state.idle_wake_ns().is_none_or(|at| at > now_ns) {
                continue;
            }
            let mut ready = self.absorb(&mut state, open.inbox);
            let tick = self.step(&mut state.txn, ClientInput::Tick);
            ready.sends.extend(tick.sends);
            state.wake_at_ns = tick.wake_at_ns;
            drop(state);
            self.send(ready.sends, open.inbox);
        }
    }

    fn all_open(&self) -> Vec<Arc<Open>> {
        lock(&self.open).values().filter_map(Weak::upgrade).collect()
    }

    fn now(&self) -> Now {
        self.inner().now
    }

    fn open_inbox(&self) -> u64 {
        let mut inner = self.inner();
        inner.next += 1;
        let (number, client) = (inner.next, inner.client.0);
        inner.inboxes.insert(number, Inbox { client, inputs: Vec::new(), wake_at_ns: None });
        number
    }

    fn close_inbox(&self, inbox: u64) {
        let mut inner = self.inner();
        inner.inboxes.remove(&inbox);
        inner.routes.retain(|_, to| *to != inbox);
    }

    fn take(&self, inbox: u64) -> Vec<ClientInput> {
        self.inner().inboxes.get_mut(&inbox).map(|inbox| std::mem::take(&mut inbox.inputs)).unwrap_or_default()
    }

    fn send(&self, sends: Vec<(NodeId, Request)>, inbox: u64) {
        let mut inner = self.inner();
        for (to, request) in sends {
            inner.routes.insert(request.id, inbox);
            inner.outbox.push((to, request));
        }
    }

    fn step(&self, operation: &mut impl Operation, input: ClientInput) -> ClientReady {
        let now = self.now();
        operation.step(now, &mut lock(&self.gateway), input)
    }

    fn step_all(&self, operation: &mut impl Operation, inputs: Vec<ClientInput>) -> ClientReady {
        ClientReady::gather(inputs, |input| self.step(operation, input))
    }

    fn absorb(&self, state: &mut State, inbox: u64) -> ClientReady {
        let mut all = ClientReady::default();
        for input in self.take(inbox) {
            let ready = self.step(&mut state.txn, input);
            all.sends.extend(ready.sends);
            all.wake_at_ns = ready.wake_at_ns;
        }
        all
    }

    fn wait(&self, inbox: u64, wake_at_ns: Option<i64>) -> impl Future<Output = ()> + Send + '_ {
        poll_fn(move |_| {
            let mut inner = self.inner();
            let due = wake_at_ns.is_some_and(|at| at <= inner.now.mono_ns);
            let Some(inbox) = inner.inboxes.get_mut(&inbox) else { return Poll::Ready(()) };
            if due || !inbox.inputs.is_empty() {
                inbox.wake_at_ns = None;
                return Poll::Ready(());
            }
            inbox.wake_at_ns = wake_at_ns;
            Poll::Pending
        })
    }
}

/// An inbox that is closed when its operation ends, also when its future is dropped.
struct Held<'a>(&'a Shared, u64);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.close_inbox(self.1);
    }
}

/// A simulated gateway as SQL sees it.
#[derive(Clone)]
pub struct SimEngine(pub Arc<Shared>);

impl SimEngine {
    async fn drive(&self, mut operation: impl Operation + Send) -> Outcome {
        let held = Held(&self.0, self.0.open_inbox());
        let mut ready = self.0.step(&mut operation, ClientInput::Tick);
        loop {
            self.0.send(ready.sends, held.1);
            if let Some(outcome) = ready.outcome {
                return outcome;
            }
            self.0.wait(held.1, ready.wake_at_ns).await;
            ready = self.0.step_all(&mut operation, self.0.take(held.1));
        }
    }

    async fn status(&self, txn: TxnId, group: GroupId) -> Result<TxnStatus, ClientError> {
        match self.drive(StatusQuery::new(txn, group)).await {
            Outcome::Status(status) => Ok(status),
            Outcome::Failed(err) => Err(err),
            outcome => unreachable!("a status query ended with {outcome:?}"),
        }
    }
}

impl Engine for SimEngine {
    type Txn = SimTxn;

    fn now(&self) -> Interval {
        self.0.now().tt
    }

    fn present(&self) -> Result<Timestamp, ClientError> {
        let now = self.0.now();
        if !now.trusted {
            return Err(ClientError::Unavailable("the gateway's clock is not trusted".into()));
        }
        Ok(now.tt.latest)
    }

    fn sabotage(&self) -> Sabotage {
        self.0.sabotage
    }

    fn mono_ns(&self) -> i64 {
        self.0.now().mono_ns
    }

    async fn sleep_until_after(&self, t: Timestamp) {
        let held = Held(&self.0, self.0.open_inbox());
        loop {
            let now = self.0.now();
            if now.tt.after(t) {
                return;
            }
            let ns = t.since_ns(now.tt.earliest).clamp(0, 1_000_000_000) + 1;
            self.0.wait(held.1, Some(now.mono_ns + ns)).await;
        }
    }

    async fn sleep(&self, ns: i64) {
        let held = Held(&self.0, self.0.open_inbox());
        let at_ns = self.0.now().mono_ns.saturating_add(ns.max(0));
        self.0.wait(held.1, Some(at_ns)).await;
    }

    fn random_u64(&self) -> u64 {
        let mut inner = lock(&self.0.inner);
        // SplitMix64.
        inner.random = inner.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = inner.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn node(&self) -> u64 {
        self.0.node.0
    }

    fn begin(&self, priority: Option<Priority>) -> SimTxn {
        let shared = self.0.clone();
        let now = shared.now();
        let (id, own) = lock(&shared.gateway).begin(now);
        let priority = priority.unwrap_or(own);
        let inbox = shared.open_inbox();
        let state = State { txn: ReadWrite::new(id, priority), busy: false, wake_at_ns: None };
        let open = Arc::new(Open { state: Mutex::new(state), inbox });
        lock(&shared.open).insert(inbox, Arc::downgrade(&open));
        let mut inner = shared.inner();
        let client = inner.client;
        inner.begun.push((client, id));
        drop(inner);
        SimTxn { shared, open, id, priority, lock_timeout_ns: None, ended: false }
    }

    async fn snapshot(&self, bound: ReadBound, ops: Vec<ReadOp>) -> Result<(Timestamp, Vec<ReadResult>), ClientError> {
        let at = match bound {
            ReadBound::Strong => None,
            ReadBound::At(at) => Some(at),
            ReadBound::Staleness(ns) => Some(self.now().earliest.minus_ns(ns)),
        };
        match self.drive(SnapshotRead::new(ops, at, self.0.node)).await {
            Outcome::Rows { results, read_ts: Some(read_ts), .. } => Ok((read_ts, results)),
            Outcome::Rows { results, read_ts: None, .. } => Ok((self.now().latest, results)),
            Outcome::Failed(err) => Err(err),
            outcome => unreachable!("a snapshot read ended with {outcome:?}"),
        }
    }

    async fn admin(&self, command: AdminCommand) -> Result<AdminRows, ClientError> {
        let AdminCommand::TransactionStatus { txn, coordinator: Some(coordinator) } = command else {
            return Err(ClientError::Invalid("the simulated gateway has no such command".into()));
        };
        let columns = vec![("status".to_string(), DataType::Text), ("commit_ts".to_string(), DataType::Timestamp)];
        let text = |text: &str| Datum::Text(text.to_string());
        let row = match self.status(txn, GroupId(coordinator)).await? {
            TxnStatus::Committed(at) => vec![text("committed"), Datum::Timestamp(at)],
            TxnStatus::Aborted => vec![text("aborted"), Datum::Null],
            TxnStatus::Unknown => vec![text("unknown"), Datum::Null],
        };
        Ok(AdminRows { columns, rows: vec![row] })
    }
}

/// A transaction and where what comes for it goes.
struct Open {
    state: Mutex<State>,
    inbox: u64,
}

struct State {
    txn: ReadWrite,
    /// An operation of the session is in progress.
    busy: bool,
    /// When an idle transaction wants its next tick.
    wake_at_ns: Option<i64>,
}

impl State {
    fn idle_wake_ns(&self) -> Option<i64> {
        self.wake_at_ns.filter(|_| !self.busy)
    }
}

/// A transaction of a session. Dropping it rolls it back.
pub struct SimTxn {
    shared: Arc<Shared>,
    open: Arc<Open>,
    id: TxnId,
    priority: Priority,
    lock_timeout_ns: Option<i64>,
    ended: bool,
}

impl SimTxn {
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.open.state)
    }

    /// If the future of a read is dropped, the read is cancelled and the transaction goes on.
    async fn drive(&mut self, input: ClientInput) -> Outcome {
        let mut driving = Driving { txn: self, ended: false };
        let outcome = driving.txn.drive_on(input).await;
        driving.ended = true;
        outcome
    }

    async fn drive_on(&self, input: ClientInput) -> Outcome {
        let inbox = self.open.inbox;
        let mut ready = {
            let mut state = self.state();
            state.busy = true;
            let mut ready = self.shared.absorb(&mut state, inbox);
            assert!(ready.outcome.is_none(), "an idle transaction had an outcome");
            let more = self.shared.step(&mut state.txn, input);
            ready.sends.extend(more.sends);
            ready.outcome = more.outcome;
            ready.wake_at_ns = more.wake_at_ns;
            ready
        };
        loop {
            self.shared.send(std::mem::take(&mut ready.sends), inbox);
            if let Some(outcome) = ready.outcome {
                let mut state = self.state();
                state.busy = false;
                state.wake_at_ns = ready.wake_at_ns;
                return outcome;
            }
            self.shared.wait(inbox, ready.wake_at_ns).await;
            let mut state = self.state();
            ready = self.shared.step_all(&mut state.txn, self.shared.take(inbox));
        }
    }
}

/// An operation in progress.
struct Driving<'a> {
    txn: &'a SimTxn,
    ended: bool,
}

impl Drop for Driving<'_> {
    fn drop(&mut self) {
        // A connection that ends without a word says nothing here either.
        if self.ended || self.txn.shared.inner().silent {
            return;
        }
        let txn = self.txn;
        let mut state = txn.state();
        let mut ready = txn.shared.absorb(&mut state, txn.open.inbox);
        let cancel = txn.shared.step(&mut state.txn, ClientInput::Cancel);
        ready.sends.extend(cancel.sends);
        state.busy = false;
        state.wake_at_ns = cancel.wake_at_ns;
        drop(state);
        // Nobody waits there any more: a time that has come would be due for ever.
        if let Some(inbox) = txn.shared.inner().inboxes.get_mut(&txn.open.inbox) {
            inbox.wake_at_ns = None;
        }
        txn.shared.send(ready.sends, txn.open.inbox);
    }
}

impl Transaction for SimTxn {
    fn id(&self) -> TxnId {
        self.id
    }

    fn priority(&self) -> Priority {
        self.priority
    }

    async fn read_with(
        &mut self,
        ops: Vec<ReadOp>,
        mode: LockMode,
        policy: LockPolicy,
    ) -> Result<Vec<ReadResult>, ClientError> {
        let policy = policy.at_most(self.lock_timeout_ns);
        match self.drive(ClientInput::Read { ops, mode, policy }).await {
            Outcome::Rows { results, .. } => Ok(results),
            Outcome::Failed(err) => Err(err),
            outcome => unreachable!("a read ended with {outcome:?}"),
        }
    }

    fn set_lock_timeout(&mut self, ns: Option<i64>) {
        self.lock_timeout_ns = ns;
    }

    fn write(&mut self, mutations: Vec<Mutation>) -> Result<(), ClientError> {
        self.state().txn.buffer(mutations)
    }

    fn mark(&self) -> usize {
        self.state().txn.mark()
    }

    fn undo_to(&mut self, mark: usize) {
        self.state().txn.undo_to(mark);
    }

    fn can_go_on(&self) -> bool {
        let state = self.state();
        !state.busy && state.txn.is_idle()
    }

    fn lock_wait_ns(&self) -> i64 {
        self.state().txn.lock_wait_ns()
    }

    async fn commit(mut self, deadline: Option<Timestamp>) -> Result<CommitInfo, ClientError> {
        let outcome = self.drive(ClientInput::Commit { deadline }).await;
        self.ended = true;
        match outcome {
            Outcome::Committed(report) => Ok(CommitInfo::of(self.id, report)),
            Outcome::Failed(err) => Err(err),
            outcome => unreachable!("a commit ended with {outcome:?}"),
        }
    }

    async fn rollback(self) {
        // Dropping it sends the aborts; nobody waits for their answers.
    }
}

impl Drop for SimTxn {
    fn drop(&mut self) {
        lock(&self.shared.open).remove(&self.open.inbox);
        self.shared.close_inbox(self.open.inbox);
        if self.ended || self.shared.inner().silent {
            return;
        }
        let ready = self.shared.step(&mut self.state().txn, ClientInput::Rollback);
        self.shared.inner().outbox.extend(ready.sends);
    }
}

/// The commits among what is sent, each with the group that decides it.
pub fn commits(sends: &[(NodeId, Request)]) -> Vec<(TxnId, GroupId)> {
    let commit = |(_, request): &(NodeId, Request)| match &request.body {
        RequestBody::Commit { txn, .. } => Some((*txn, request.group)),
        _ => None,
    };
    sends.iter().filter_map(commit).collect()
}
