//! Runs plans as SQL: one client's session, and what each step is in statements.
//!
//! A statement is never repeated by itself: whatever fails before COMMIT ends the transaction, which
//! then certainly had no effect; whatever fails at COMMIT, other than by a definite answer, is in
//! doubt, and its name is known, so it can be asked for. Where SQL has several ways to do a thing,
//! one is drawn, so that a run exercises them all.

use std::time::Duration;

use check::{Key, Op};
use proto::v1::value::Kind as Datum;
use proto::v1::{Complete, Row, TransactionState, Value};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::bank::{int, may_pass, text};
use super::kinds::defaults;
use super::plan::{At, Mode, Model, Plan, Step};
use super::tables;
use crate::client::{Client, Failure, StatementResult};
use crate::format::int_value;

/// How a transaction ended, as far as the client was told.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// It took effect.
    Ok {
        /// Of a writer.
        commit_ts: Option<i64>,
        /// Of a read without locks.
        read_ts: Option<i64>,
    },
    /// It certainly had no effect.
    Fail(Stop),
    /// It may have committed.
    Doubt {
        /// Its name, or nothing.
        transaction: String,
        /// The group that knows, or 0.
        coordinator: u64,
        /// What happened.
        reason: String,
    },
}

/// Why a transaction went no further.
#[derive(Clone, Debug, PartialEq)]
pub enum Stop {
    /// Another was in its way.
    Conflict(String),
    /// Whatever was in its way is none of the node's trouble: a key that is there already.
    Refused(String),
    /// The node or the connection had trouble.
    Trouble(String),
    /// An answer that cannot be.
    Violation(String),
}

impl Stop {
    /// The reason.
    pub fn text(&self) -> &str {
        match self {
            Stop::Conflict(why) | Stop::Refused(why) | Stop::Trouble(why) | Stop::Violation(why) => why,
        }
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Stop {
        let why = failure.to_string();
        match failure.sqlstate() {
            "40001" | "40P01" => Stop::Conflict(why),
            state if may_pass(state) || state == "25P02" => Stop::Trouble(why),
            _ => Stop::Refused(why),
        }
    }
}

/// What a plan did.
pub struct Ran {
    /// The operations, with what they saw.
    pub txn: Vec<Op>,
    /// The end.
    pub end: End,
    /// The database's name of it, if known.
    pub transaction: String,
}

/// A client's session.
pub struct Session {
    /// The connection.
    pub client: Client,
    model: Model,
    last: Complete,
}

impl Session {
    /// On this connection.
    pub fn new(client: Client, model: Model) -> Session {
        Session { client, model, last: Complete::default() }
    }

    /// Prepares the statements of the model.
    pub async fn prepare(&mut self) -> Result<(), Failure> {
        for (name, sql) in tables::statements(self.model) {
            self.client.prepare(name, sql).await?;
        }
        Ok(())
    }

    /// Runs a plan. With `lose`, the answer to COMMIT is waited for no longer than that.
    pub async fn run(&mut self, plan: Plan, lose: Option<Duration>, rng: &mut ChaCha8Rng) -> Ran {
        let invoked = plan.invoked();
        let mode = plan.mode;
        let (mut txn, mut transaction) = (Vec::new(), String::new());
        let ran = if mode == Mode::Single {
            self.single(plan, &mut txn, rng).await
        } else {
            self.block(plan, lose, &mut txn, &mut transaction, rng).await
        };
        let end = ran.unwrap_or_else(End::Fail);
        if self.client.state() != TransactionState::Idle {
            // A rollback that is lost is done by the end of the session.
            let _ = self.client.execute("ROLLBACK", Vec::new()).await;
        }
        let txn = if matches!(end, End::Fail(_)) { invoked } else { txn };
        Ran { txn, end, transaction }
    }

    async fn block(
        &mut self,
        plan: Plan,
        lose: Option<Duration>,
        txn: &mut Vec<Op>,
        transaction: &mut String,
        rng: &mut ChaCha8Rng,
    ) -> Result<End, Stop> {
        let begin = match plan.mode {
            Mode::Strong => "BEGIN READ ONLY".to_string(),
            Mode::Past(At::Exact(ns)) => format!("BEGIN READ ONLY AS OF SYSTEM TIME {ns}"),
            Mode::Past(At::Ago(age)) => format!("BEGIN READ ONLY AS OF SYSTEM TIME '-{}us'", age.as_micros()),
            _ => "BEGIN".to_string(),
        };
        self.client.execute(&begin, Vec::new()).await?;
        *transaction = self.client.ready().transaction;
        for step in &plan.steps {
            txn.extend(self.step(step, rng).await?);
        }
        if let Some(then) = plan.then {
            for step in then(txn) {
                txn.extend(self.step(&step, rng).await?);
            }
        }
        match plan.mode {
            Mode::ReadWrite => self.commit(txn, transaction, lose).await,
            Mode::RollBack => {
                self.client.execute("ROLLBACK", Vec::new()).await?;
                Err(Stop::Refused("rolled back on purpose".to_string()))
            }
            Mode::CutOff => {
                let _ = self.client.cancel().await;
                Err(Stop::Refused("cut off on purpose".to_string()))
            }
            Mode::Single | Mode::Strong | Mode::Past(_) => {
                let read_ts = Some(self.client.ready().read_ts_ns).filter(|ts| *ts != 0);
                // What was read is read, whatever becomes of the end of the block.
                let _ = self.client.execute("COMMIT", Vec::new()).await;
                Ok(End::Ok { commit_ts: None, read_ts })
            }
        }
    }

    async fn commit(&mut self, txn: &[Op], transaction: &str, lose: Option<Duration>) -> Result<End, Stop> {
        let doubt = |reason: String, name: String, coordinator| {
            let transaction = if name.is_empty() { transaction.to_string() } else { name };
            Ok(End::Doubt { transaction, coordinator, reason })
        };
        let commit = self.client.execute("COMMIT", Vec::new());
        let answer = match lose {
            None => commit.await,
            Some(patience) => match tokio::time::timeout(patience, commit).await {
                Ok(answer) => answer,
                // The session ends with the future: the server hears of it, the client of nothing.
                Err(_) => return doubt("the answer to COMMIT was lost on purpose".to_string(), String::new(), 0),
            },
        };
        match answer {
            Ok(mut results) => {
                let complete = results.pop().unwrap_or_default().complete;
                if complete.tag != "COMMIT" {
                    return Err(Stop::Conflict(format!("COMMIT answered {}", complete.tag)));
                }
                let commit_ts = complete.commit.map(|c| c.commit_ts_ns).filter(|ts| *ts != 0 && writes(txn));
                Ok(End::Ok { commit_ts, read_ts: None })
            }
            Err(Failure::Disconnected(lost)) if lost.in_doubt => {
                doubt(format!("COMMIT: connection lost: {}", lost.reason), String::new(), 0)
            }
            Err(Failure::Disconnected(lost)) => Err(Failure::Disconnected(lost).into()),
            Err(Failure::Server(e)) if definite(&e.sqlstate) => Err(Failure::Server(e).into()),
            Err(Failure::Server(e)) => {
                doubt(format!("COMMIT: {} (SQLSTATE {})", e.message, e.sqlstate), e.transaction, e.coordinator)
            }
        }
    }

    /// A statement without a block: the server tries it again by itself, and may not name it.
    async fn single(&mut self, plan: Plan, txn: &mut Vec<Op>, rng: &mut ChaCha8Rng) -> Result<End, Stop> {
        self.last = Complete::default();
        for step in &plan.steps {
            let writing = writes(&step.invoked());
            let seen = match step {
                Step::Schema(statements) => {
                    for sql in statements {
                        self.client.execute(sql, Vec::new()).await?;
                    }
                    Vec::new()
                }
                Step::Do(op) if writing => match self.write_alone(op, rng).await {
                    Ok(seen) => seen,
                    Err(Failure::Server(e)) if !definite(&e.sqlstate) => {
                        let reason = format!("{} (SQLSTATE {})", e.message, e.sqlstate);
                        txn.extend(step.invoked());
                        return Ok(End::Doubt { transaction: e.transaction, coordinator: e.coordinator, reason });
                    }
                    Err(Failure::Disconnected(lost)) if lost.in_doubt => {
                        let reason = format!("connection lost: {}", lost.reason);
                        txn.extend(step.invoked());
                        return Ok(End::Doubt { transaction: String::new(), coordinator: 0, reason });
                    }
                    Err(failure) => return Err(failure.into()),
                },
                step => self.step(step, rng).await?,
            };
            txn.extend(seen);
        }
        let commit_ts = self.last.commit.as_ref().map(|c| c.commit_ts_ns).filter(|ts| *ts != 0 && writes(txn));
        let read_ts = Some(self.last.read_ts_ns).filter(|ts| *ts != 0 && !writes(txn));
        Ok(End::Ok { commit_ts, read_ts })
    }

    /// One prepared statement.
    async fn call(&mut self, name: &str, parameters: Vec<Value>) -> Result<StatementResult, Failure> {
        let result = self.client.execute_prepared(name, parameters).await?;
        self.last = result.complete.clone();
        Ok(result)
    }

    /// A write that one statement can do.
    async fn write_alone(&mut self, op: &Op, rng: &mut ChaCha8Rng) -> Result<Vec<Op>, Failure> {
        match op {
            Op::Append(Key::Number(k), v) => {
                self.call("append", vec![int_value(*k), word(format!(",{v}"))]).await?;
            }
            Op::Write(Key::Number(k), v) if self.model == Model::Defaults => {
                let (sql, _) = defaults::insert(*k);
                let result = self.client.execute(&sql, Vec::new()).await?.pop().unwrap_or_default();
                self.last = result.complete;
                return Ok(vec![Op::Write(Key::Number(*k), *v)]);
            }
            Op::Write(Key::Number(k), v) => {
                let name = if rng.random() { "upsert" } else { "set" };
                self.call(name, vec![int_value(*k), int_value(*v)]).await?;
            }
            Op::Delete(Key::Number(k)) => {
                self.call("delete", vec![int_value(*k)]).await?;
            }
            Op::Cas(Key::Number(k), old, new) => {
                let result = self.call("cas", vec![int_value(*k), int_value(*old), int_value(*new)]).await?;
                if result.complete.tag != "UPDATE 1" {
                    return Ok(Vec::new());
                }
            }
            Op::Add(Key::Number(k), v) => {
                let shard = v.rem_euclid(tables::SHARDS);
                self.call("add", vec![int_value(shard), int_value(*k), int_value(*v)]).await?;
            }
            other => unreachable!("{other:?} is no write of one statement"),
        }
        Ok(vec![op.clone()])
    }

    /// One step, and what it saw.
    async fn step(&mut self, step: &Step, rng: &mut ChaCha8Rng) -> Result<Vec<Op>, Stop> {
        match step {
            Step::Do(Op::Append(Key::Number(k), v)) => match rng.random_range(0..3) {
                0 => {
                    let rows = self.call("list_for_update", vec![int_value(*k)]).await?.rows;
                    let held = rows.first().and_then(|row| row.values.first()).and_then(text).unwrap_or("");
                    self.call("replace", vec![int_value(*k), word(format!("{held},{v}"))]).await?;
                }
                1 => {
                    let result = self.call("extend", vec![int_value(*k), word(format!(",{v}"))]).await?;
                    if result.complete.tag == "UPDATE 0" {
                        self.call("first", vec![int_value(*k), word(format!(",{v}"))]).await?;
                    }
                }
                _ => {
                    self.call("append", vec![int_value(*k), word(format!(",{v}"))]).await?;
                }
            },
            Step::Do(Op::Write(Key::Number(k), v))
                if matches!(self.model, Model::Registers | Model::Indexed) && rng.random_range(0..3) == 0 =>
            {
                let result = self.call("change", vec![int_value(*k), int_value(*v)]).await?;
                if result.complete.tag == "UPDATE 0" {
                    self.call("insert", vec![int_value(*k), int_value(*v)]).await?;
                }
            }
            Step::Do(Op::Read(Key::Number(k))) => return Ok(vec![self.read(*k, false).await?]),
            Step::ReadForUpdate(k) => return Ok(vec![self.read(*k, true).await?]),
            Step::Do(Op::Scan(low, high, _)) => {
                let rows = self.call("scan", vec![int_value(*low), int_value(*high)]).await?.rows;
                return Ok(vec![Op::Scan(*low, *high, Some(pairs(&rows)?))]);
            }
            Step::Pages(low, high, size) => return Ok(vec![self.pages(*low, *high, *size).await?]),
            Step::Insert(k, v) => {
                self.call("insert", vec![int_value(*k), int_value(*v)]).await?;
                return Ok(step.invoked());
            }
            Step::Do(op) => return Ok(self.write_alone(op, rng).await?),
            Step::Schema(_) => unreachable!("schema changes run outside transactions"),
        }
        Ok(step.invoked())
    }

    async fn read(&mut self, k: i64, for_update: bool) -> Result<Op, Stop> {
        let name = if for_update { "read_for_update" } else { "read" };
        let rows = match self.model {
            Model::Defaults => {
                let sql = defaults::select(k);
                let result = self.client.execute(&sql, Vec::new()).await?.pop().unwrap_or_default();
                self.last = result.complete;
                result.rows
            }
            _ => self.call(name, vec![int_value(k)]).await?.rows,
        };
        let key = Key::Number(k);
        match self.model {
            Model::Lists => {
                let held = rows.first().and_then(|row| row.values.first()).and_then(text).unwrap_or("");
                let list: Result<Vec<i64>, _> = held.split(',').filter(|v| !v.is_empty()).map(str::parse).collect();
                let list = list.map_err(|_| Stop::Violation(format!("the list at {k} is garbled: {held:?}")))?;
                Ok(Op::ReadList(key, list))
            }
            Model::Sets => {
                let values: Option<Vec<i64>> =
                    rows.iter().map(|row| row.values.first().and_then(int)).collect::<Option<_>>();
                let values = values.ok_or_else(|| Stop::Violation(format!("the set at {k} has a NULL")))?;
                Ok(Op::ReadList(key, values))
            }
            Model::Registers | Model::Indexed | Model::Defaults if rows.len() > 1 => {
                Err(Stop::Violation(format!("{} rows have the key {k}", rows.len())))
            }
            Model::Registers | Model::Indexed => match rows.first().map(|row| row.values.first().and_then(int)) {
                None => Ok(Op::Read(key)),
                Some(Some(v)) => Ok(Op::ReadValue(key, v)),
                Some(None) => Err(Stop::Violation(format!("the register at {k} is NULL"))),
            },
            Model::Defaults => match rows.first() {
                None => Ok(Op::Read(key)),
                Some(row) => {
                    let v = defaults::judge(k, row).map_err(Stop::Violation)?;
                    Ok(Op::ReadValue(key, v))
                }
            },
        }
    }

    async fn pages(&mut self, low: i64, high: i64, size: u32) -> Result<Op, Stop> {
        let mut all: Vec<(i64, i64)> = Vec::new();
        let mut from = low;
        loop {
            let page = self.call("page", vec![int_value(from), int_value(high), int_value(size)]).await?;
            let page = pairs(&page.rows)?;
            let full = page.len() as u64 >= u64::from(size);
            all.extend(page);
            match all.last() {
                Some((last, _)) if full => from = last + 1,
                _ => return Ok(Op::Scan(low, high, Some(all))),
            }
        }
    }
}

/// SQLSTATEs by which a commit certainly had no effect: conflicts, refusals of what was asked, and
/// 57P03, by which the server says that it was not done. All others leave a doubt.
fn definite(sqlstate: &str) -> bool {
    matches!(sqlstate, "40001" | "40P01" | "40000" | "40002" | "54000" | "57P03")
        || ["0A", "22", "23", "25", "42"].iter().any(|class| sqlstate.starts_with(class))
}

/// Whether some of these write.
pub fn writes(txn: &[Op]) -> bool {
    txn.iter().any(|op| {
        matches!(op, Op::Append(..) | Op::Write(..) | Op::Delete(_) | Op::Cas(..) | Op::Add(..) | Op::Transfer(..))
    })
}

fn word(text: String) -> Value {
    Value { kind: Some(Datum::Text(text)) }
}

fn pairs(rows: &[Row]) -> Result<Vec<(i64, i64)>, Stop> {
    let pair = |row: &Row| Some((int(row.values.first()?)?, int(row.values.get(1)?)?));
    let pairs: Option<Vec<_>> = rows.iter().map(pair).collect();
    pairs.ok_or_else(|| Stop::Violation("a scan returned a NULL".to_string()))
}
