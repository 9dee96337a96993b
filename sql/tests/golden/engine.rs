//! The engine as a map with versions: one node, no locks, a clock that the test moves.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use sql::engine::{AdminCommand, AdminRows, CommitInfo, Engine, ReadBound, Transaction};
use sql::types::{DataType, Datum};
use truetime::{Interval, Timestamp};
use txn::client::ClientError;
use txn::{
    AbortReason, CommitTiming, Key, LockMode, LockPolicy, Mutation, Priority, ReadOp, ReadResult, Row, Span, TxnId,
    Value,
};

/// What the next commit does instead of committing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It was wounded.
    Aborted,
    /// Its answer is lost.
    Ambiguous,
    /// It is not taken.
    Unavailable,
    /// The same, and the gateway gives up at once: no time passes for the others.
    Gone,
    /// Nothing else.
    None,
}

#[derive(Debug)]
struct Map {
    versions: BTreeMap<Key, Vec<(Timestamp, Option<Value>)>>,
    now_ns: i64,
    txns: u64,
    random: u64,
    faults: VecDeque<Fault>,
    /// So many of the next reads without locks fail.
    unavailable: u32,
    /// What open transactions have locked. Only those look who would rather not wait.
    locks: Vec<(TxnId, Span, LockMode)>,
    /// So many of the next locking reads never end.
    hangs: u32,
    /// The transaction of the next locking read is wounded.
    wounds: u32,
    splits: Vec<Key>,
    /// Rows in one reply at most: small, so that paging is always tested.
    page_rows: usize,
    earliest: Timestamp,
    log: Vec<String>,
}

#[derive(Clone, Debug)]
pub struct MapEngine(Arc<Mutex<Map>>);

impl MapEngine {
    pub fn new() -> MapEngine {
        MapEngine::with_pages(3)
    }

    /// With so many rows in one reply at most.
    pub fn with_pages(page_rows: usize) -> MapEngine {
        MapEngine(Arc::new(Mutex::new(Map {
            versions: BTreeMap::new(),
            now_ns: 1_767_225_600_000_000_000,
            txns: 0,
            random: 7,
            faults: VecDeque::new(),
            unavailable: 0,
            wounds: 0,
            locks: Vec::new(),
            hangs: 0,
            splits: Vec::new(),
            page_rows,
            earliest: Timestamp::ZERO,
            log: Vec::new(),
        })))
    }

    fn map(&self) -> MutexGuard<'_, Map> {
        self.0.lock().unwrap()
    }

    pub fn advance(&self, ns: i64) {
        self.map().now_ns += ns;
    }

    pub fn fault(&self, fault: Fault) {
        self.map().faults.push_back(fault);
    }

    /// All is well again.
    pub fn no_faults(&self) {
        self.map().faults.clear();
    }

    /// The next read without locks fails.
    pub fn lose_a_read(&self) {
        self.map().unavailable += 1;
    }

    /// The next transaction that reads has lost its locks.
    pub fn wound(&self) {
        self.map().wounds += 1;
    }

    /// The next locking read waits for ever.
    pub fn hang(&self) {
        self.map().hangs += 1;
    }

    /// Everything older is gone.
    pub fn forget_until_now(&self) {
        let mut map = self.map();
        map.earliest = Timestamp::from_nanos(map.now_ns);
    }

    /// The reads since the last call, one line each.
    pub fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut self.map().log)
    }
}

impl Map {
    /// Takes a lock if nobody else has one in its way.
    fn lock(&mut self, txn: TxnId, span: &Span, mode: LockMode) -> bool {
        let exclusive = |m: LockMode| m == LockMode::Exclusive || mode == LockMode::Exclusive;
        let free = self.locks.iter().all(|(t, s, m)| *t == txn || !s.overlaps(span) || !exclusive(*m));
        if free {
            self.locks.push((txn, span.clone(), mode));
        }
        free
    }

    /// When something in these spans was last written.
    fn last_commit(&self, ops: &[ReadOp]) -> Option<Timestamp> {
        let written = self.versions.iter().filter(|(key, _)| ops.iter().any(|op| op.span.contains(key)));
        written.filter_map(|(_, versions)| versions.last().map(|(at, _)| *at)).max()
    }

    fn read(&mut self, op: &ReadOp, at: Timestamp, buffer: &BTreeMap<Key, Option<Value>>, kind: &str) -> ReadResult {
        let point = if op.span.is_point() { "point" } else { "span" };
        self.log.push(format!("{kind} {point} limit {}{}", op.limit, if op.reverse { " reverse" } else { "" }));
        let mut visible: BTreeMap<Key, (Value, Timestamp)> = BTreeMap::new();
        for (key, versions) in &self.versions {
            if op.span.contains(key)
                && let Some((ts, Some(value))) = versions.iter().rev().find(|(ts, _)| *ts <= at)
            {
                visible.insert(key.clone(), (value.clone(), *ts));
            }
        }
        for (key, value) in buffer {
            if op.span.contains(key) {
                match value {
                    Some(value) => visible.insert(key.clone(), (value.clone(), Timestamp::MAX)),
                    None => visible.remove(key),
                };
            }
        }
        let mut rows: Vec<Row> =
            visible.into_iter().map(|(key, (value, commit_ts))| Row { key, value, commit_ts }).collect();
        if op.reverse {
            rows.reverse();
        }
        if op.limit > 0 {
            rows.truncate(op.limit as usize);
        }
        let mut resume = None;
        if rows.len() > self.page_rows {
            rows.truncate(self.page_rows);
            let last = rows.last().unwrap().key.clone();
            resume = Some(if op.reverse {
                Span { start: op.span.start.clone(), end: last }
            } else {
                Span { start: Span::point(last).end, end: op.span.end.clone() }
            });
        }
        ReadResult { rows, resume }
    }
}

pub struct MapTxn {
    engine: MapEngine,
    id: TxnId,
    priority: Priority,
    buffer: Vec<Mutation>,
    lock_timeout_ns: Option<i64>,
    ended: bool,
}

impl Drop for MapTxn {
    fn drop(&mut self) {
        let id = self.id;
        self.engine.map().locks.retain(|(txn, ..)| *txn != id);
    }
}

impl Transaction for MapTxn {
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
        let hangs = {
            let mut map = self.engine.map();
            std::mem::take(&mut map.hangs) > 0
        };
        if hangs {
            std::future::pending::<()>().await;
        }
        let buffer: BTreeMap<Key, Option<Value>> =
            self.buffer.iter().map(|m| (m.key.clone(), m.value.clone())).collect();
        let kind = format!("{mode:?}").to_lowercase();
        let mut map = self.engine.map();
        if map.faults.front() == Some(&Fault::Gone) {
            return Err(ClientError::Unavailable("nobody answers".into()));
        }
        if map.wounds > 0 {
            map.wounds -= 1;
            self.ended = true;
        }
        if self.ended {
            return Err(ClientError::aborted(AbortReason::Wounded));
        }
        let policy = policy.at_most(self.lock_timeout_ns);
        match policy {
            LockPolicy::Wait => map.locks.extend(ops.iter().map(|op| (self.id, op.span.clone(), mode))),
            LockPolicy::NoWait | LockPolicy::WaitAtMost(_) => {
                if !ops.iter().all(|op| map.lock(self.id, &op.span, mode)) {
                    if let LockPolicy::WaitAtMost(ns) = policy {
                        map.now_ns += ns;
                    }
                    return Err(ClientError::LockNotAvailable);
                }
            }
            LockPolicy::Skip | LockPolicy::Unlocked => {}
        }
        let kind = match policy {
            LockPolicy::Unlocked => "unlocked".into(),
            LockPolicy::Skip => format!("{kind} unless locked"),
            _ => kind,
        };
        let mut results: Vec<ReadResult> = ops.iter().map(|op| map.read(op, Timestamp::MAX, &buffer, &kind)).collect();
        if policy == LockPolicy::Skip {
            for result in &mut results {
                result.rows.retain(|row| map.lock(self.id, &Span::point(row.key.clone()), mode));
            }
        }
        Ok(results)
    }

    fn set_lock_timeout(&mut self, ns: Option<i64>) {
        self.lock_timeout_ns = ns;
    }

    fn write(&mut self, mutations: Vec<Mutation>) -> Result<(), ClientError> {
        self.buffer.extend(mutations);
        Ok(())
    }

    fn mark(&self) -> usize {
        self.buffer.len()
    }

    fn undo_to(&mut self, mark: usize) {
        self.buffer.truncate(mark);
    }

    fn can_go_on(&self) -> bool {
        !self.ended
    }

    fn lock_wait_ns(&self) -> i64 {
        0
    }

    async fn commit(mut self, deadline: Option<Timestamp>) -> Result<CommitInfo, ClientError> {
        let buffer = std::mem::take(&mut self.buffer);
        let mut map = self.engine.map();
        if deadline.is_some_and(|deadline| Timestamp::from_nanos(map.now_ns + 1_000_000) > deadline) {
            return Err(ClientError::aborted(AbortReason::TooLate));
        }
        match map.faults.pop_front() {
            Some(Fault::Aborted) => return Err(ClientError::aborted(AbortReason::Wounded)),
            Some(Fault::Ambiguous) => {
                return Err(ClientError::Ambiguous { txn: self.id, coordinator: Default::default() });
            }
            Some(Fault::Unavailable | Fault::Gone) => return Err(ClientError::Unavailable("nobody answers".into())),
            Some(Fault::None) | None => {}
        }
        map.now_ns += 1_000_000;
        let at = Timestamp::from_nanos(map.now_ns);
        for mutation in buffer {
            map.versions.entry(mutation.key).or_default().push((at, mutation.value));
        }
        let timing = CommitTiming {
            lock_wait_ns: 1_000,
            prepare_ns: 2_000,
            replicate_ns: 3_000_000,
            commit_wait_ns: 4_000_000,
            apply_ns: 5_000,
            total_ns: 7_008_000,
        };
        Ok(CommitInfo { txn: self.id, commit_ts: Some(at), participants: vec![1], timing, total_ns: 7_500_000 })
    }

    async fn rollback(self) {}
}

impl Engine for MapEngine {
    type Txn = MapTxn;

    fn now(&self) -> Interval {
        let mut map = self.map();
        map.now_ns += 1_000;
        Interval::around(Timestamp::from_nanos(map.now_ns), 500)
    }

    fn mono_ns(&self) -> i64 {
        0
    }

    async fn sleep(&self, ns: i64) {
        self.advance(ns);
    }

    async fn sleep_until_after(&self, t: Timestamp) {
        let mut map = self.map();
        if map.faults.front() == Some(&Fault::Gone) {
            return;
        }
        map.now_ns = map.now_ns.max(t.as_nanos() + 1_000);
    }

    fn random_u64(&self) -> u64 {
        let mut map = self.map();
        map.random = map.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        map.random ^ map.random >> 32
    }

    fn node(&self) -> u64 {
        1
    }

    fn begin(&self, priority: Option<Priority>) -> MapTxn {
        let mut map = self.map();
        map.txns += 1;
        let id = TxnId(u128::from(map.txns));
        let priority = priority.unwrap_or(Priority { start: Timestamp::from_nanos(map.now_ns), id });
        drop(map);
        MapTxn { engine: self.clone(), id, priority, buffer: Vec::new(), lock_timeout_ns: None, ended: false }
    }

    async fn snapshot(&self, bound: ReadBound, ops: Vec<ReadOp>) -> Result<(Timestamp, Vec<ReadResult>), ClientError> {
        let mut map = self.map();
        let now = Timestamp::from_nanos(map.now_ns);
        let at = match bound {
            // As a group does that was not written to since.
            ReadBound::Strong => map.last_commit(&ops).unwrap_or(now),
            ReadBound::At(at) => at,
            ReadBound::Staleness(ns) => now.minus_ns(ns),
        };
        if map.unavailable > 0 {
            map.unavailable -= 1;
            return Err(ClientError::Unavailable("nobody answers".into()));
        }
        if at < map.earliest {
            return Err(ClientError::TooOld { earliest: map.earliest });
        }
        let how = if bound == ReadBound::Strong { "strong snapshot" } else { "snapshot" };
        let results = ops.iter().map(|op| map.read(op, at, &BTreeMap::new(), how)).collect();
        Ok((at, results))
    }

    async fn admin(&self, command: AdminCommand) -> Result<AdminRows, ClientError> {
        let mut map = self.map();
        let text = |name: &str| (name.to_string(), DataType::Text);
        Ok(match command {
            AdminCommand::ShowRanges => {
                let columns = vec![
                    ("start_key".into(), DataType::Bytes),
                    ("end_key".into(), DataType::Bytes),
                    ("group".into(), DataType::Int),
                ];
                let mut edges = vec![Key::new(), Key::from_static(&[0x10])];
                edges.extend(map.splits.iter().cloned());
                edges.sort();
                let ends = edges.iter().skip(1).cloned().chain([Key::new()]);
                let rows = edges.iter().zip(ends).enumerate().map(|(group, (start, end))| {
                    vec![Datum::Bytes(start.to_vec()), Datum::Bytes(end.to_vec()), Datum::Int(group as i64)]
                });
                AdminRows { columns, rows: rows.collect() }
            }
            AdminCommand::Split { at } => {
                map.splits.push(at);
                AdminRows::default()
            }
            AdminCommand::TransactionStatus { coordinator, .. } => AdminRows {
                columns: vec![text("status")],
                rows: vec![vec![Datum::Text(format!("aborted, says group {coordinator:?}"))]],
            },
            other => AdminRows { columns: vec![text("command")], rows: vec![vec![Datum::Text(format!("{other:?}"))]] },
        })
    }
}
