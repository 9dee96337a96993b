//! One read-write transaction of a session, and the task that keeps idle ones alive.
//!
//! The transaction's state is shared by the session's object and the node's list of open
//! transactions. While an operation runs, its driver steps the state, keepalives included; while
//! the session is idle, the node's ticker does. `busy` says which.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use sql::engine::{CommitInfo, Transaction};
use truetime::Timestamp;
use txn::client::{ClientError, ClientInput, ClientReady, Outcome, ReadWrite};
use txn::{LockMode, LockPolicy, Mutation, Priority, ReadOp, ReadResult, TxnId};

use super::memory::Held;
use super::{Inbox, Shared};

/// How often idle transactions are looked at. A transaction is lost after
/// `NodeOptions::txn_idle_ns` of silence, which is many times this.
const TICK: Duration = Duration::from_millis(250);

/// The open transactions of a node, in the order in which they began.
#[derive(Default)]
pub(super) struct OpenTxns {
    next: AtomicU64,
    txns: Mutex<BTreeMap<u64, Weak<Open>>>,
}

impl OpenTxns {
    fn add(&self, txn: &Arc<Open>) -> u64 {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        lock(&self.txns).insert(number, Arc::downgrade(txn));
        number
    }

    fn remove(&self, number: u64) {
        lock(&self.txns).remove(&number);
    }

    fn all(&self) -> Vec<Arc<Open>> {
        lock(&self.txns).values().filter_map(Weak::upgrade).collect()
    }
}

/// A transaction and what came for it.
struct Open {
    state: Mutex<State>,
    inbox: Arc<Inbox>,
}

struct State {
    txn: ReadWrite,
    /// An operation of the session is in progress.
    busy: bool,
    /// When an idle transaction wants its next tick.
    wake_at_ns: Option<i64>,
    /// Requests that may still get a reply.
    sent: Vec<u64>,
    /// What its writes take of the node's memory for sessions. Undone writes count until its end.
    held: Held,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no thread panics while it holds a transaction")
}

/// A transaction of a session. Dropping it rolls it back.
pub struct GatewayTxn {
    shared: Arc<Shared>,
    open: Arc<Open>,
    number: u64,
    id: TxnId,
    priority: Priority,
    /// How long its reads wait for locks.
    lock_timeout_ns: Option<i64>,
    ended: bool,
}

impl GatewayTxn {
    pub(super) fn begin(shared: Arc<Shared>, priority: Option<Priority>) -> GatewayTxn {
        let now = shared.now();
        let (id, own) = shared.gateway().begin(now);
        let priority = priority.unwrap_or(own);
        let txn = ReadWrite::new(id, priority);
        let held = Held::new(shared.memory.clone());
        let state = State { txn, busy: false, wake_at_ns: None, sent: Vec::new(), held };
        let open = Arc::new(Open { state: Mutex::new(state), inbox: Arc::new(Inbox::default()) });
        let number = shared.open.add(&open);
        GatewayTxn { shared, open, number, id, priority, lock_timeout_ns: None, ended: false }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.open.state)
    }

    /// Runs one operation to its end. If the future of a read is dropped before, the read is cancelled and
    /// the transaction goes on; a commit's takes the transaction with it.
    async fn drive(&mut self, input: ClientInput) -> Outcome {
        let mut driving = Driving { txn: self, ended: false };
        let outcome = driving.txn.drive_on(input).await;
        driving.ended = true;
        outcome
    }

    async fn drive_on(&self, input: ClientInput) -> Outcome {
        let mut ready = {
            let mut state = self.state();
            state.busy = true;
            let mut ready = absorb(&self.shared, &mut state, self.open.inbox.take());
            // What came while the session was idle cannot end an operation that has not begun.
            assert!(ready.outcome.is_none(), "an idle transaction had an outcome");
            let more = self.shared.step(&mut state.txn, input);
            ready.sends.extend(more.sends);
            ready.outcome = more.outcome;
            ready.wake_at_ns = more.wake_at_ns;
            note_sends(&mut state, &ready);
            ready
        };
        loop {
            self.shared.send(std::mem::take(&mut ready.sends), &self.open.inbox);
            if let Some(outcome) = ready.outcome {
                let mut state = self.state();
                state.busy = false;
                state.wake_at_ns = ready.wake_at_ns;
                return outcome;
            }
            self.shared.wait(&self.open.inbox, ready.wake_at_ns).await;
            let mut state = self.state();
            ready = self.shared.step_all(&mut state.txn, self.open.inbox.take());
            note_sends(&mut state, &ready);
        }
    }
}

/// An operation in progress.
struct Driving<'a> {
    txn: &'a GatewayTxn,
    ended: bool,
}

impl Drop for Driving<'_> {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let txn = self.txn;
        let mut state = txn.state();
        // An answer that came meanwhile is the read's, if any.
        let mut ready = absorb(&txn.shared, &mut state, txn.open.inbox.take());
        let cancel = txn.shared.step(&mut state.txn, ClientInput::Cancel);
        ready.sends.extend(cancel.sends);
        state.busy = false;
        state.wake_at_ns = cancel.wake_at_ns;
        note_sends(&mut state, &ready);
        drop(state);
        txn.shared.send(ready.sends, &txn.open.inbox);
    }
}

/// Takes in replies that came while the session was idle.
fn absorb(shared: &Shared, state: &mut State, inputs: Vec<ClientInput>) -> ClientReady {
    let mut all = ClientReady::default();
    for input in inputs {
        let ready = shared.step(&mut state.txn, input);
        all.sends.extend(ready.sends);
        all.wake_at_ns = ready.wake_at_ns;
    }
    all
}

fn note_sends(state: &mut State, ready: &ClientReady) {
    state.sent.extend(ready.sends.iter().map(|(_, request)| request.id));
}

impl Transaction for GatewayTxn {
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
        let size = |m: &Mutation| m.key.len() + m.value.as_ref().map_or(0, |value| value.len());
        let mut state = self.state();
        state.held.grow(mutations.iter().map(size).sum()).map_err(ClientError::OutOfMemory)?;
        state.txn.buffer(mutations)
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

impl Drop for GatewayTxn {
    fn drop(&mut self) {
        self.shared.open.remove(self.number);
        let mut state = self.state();
        // The ticker may still hold it.
        state.busy = true;
        for id in std::mem::take(&mut state.sent) {
            self.shared.replies.forget(id);
        }
        if self.ended {
            return;
        }
        let ready = self.shared.step(&mut state.txn, ClientInput::Rollback);
        drop(state);
        self.shared.send_and_forget(ready.sends);
    }
}

/// Keeps the locks of idle sessions' transactions, and takes in that some were lost. Runs for ever.
pub async fn keep_alive(engine: super::GatewayEngine) {
    let shared = engine.shared;
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let now_ns = shared.clock.mono_ns();
        for open in shared.open.all() {
            let sends = {
                let mut state = lock(&open.state);
                if state.busy || state.wake_at_ns.is_none_or(|at| at > now_ns) {
                    continue;
                }
                let mut ready = absorb(&shared, &mut state, open.inbox.take());
                let tick = shared.step(&mut state.txn, ClientInput::Tick);
                ready.sends.extend(tick.sends);
                state.wake_at_ns = tick.wake_at_ns;
                note_sends(&mut state, &ready);
                ready.sends
            };
            shared.send(sends, &open.inbox);
        }
    }
}
