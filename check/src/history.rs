//! The form of a history: one JSON object a line, one event each, in true order.
//!
//! ```text
//! {"index":7,"process":3,"type":"invoke","time_ns":120,"txn":[["append",4,17],["r",9,null]]}
//! {"index":9,"process":3,"type":"ok","time_ns":410,"txn":[["append",4,17],["r",9,[2,5]]],"commit_ts":456}
//! {"index":10,"process":"nemesis","type":"info","time_ns":500,"f":"kill","value":{"node":2}}
//! ```
//!
//! An operation is an `invoke` and later one of
//!
//! - `ok`: it took effect, and these are its results;
//! - `fail`: it certainly had no effect;
//! - `info`: nobody knows. Its process number is never used again.
//!
//! A process does one thing at a time. Events whose process is a string are about the run itself:
//! its set-up, its faults, what was measured beside it.

use std::fmt;

use serde::de::Error as _;
use serde::ser::SerializeTuple as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The phase of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It begins.
    Invoke,
    /// It took effect.
    Ok,
    /// It certainly had no effect.
    Fail,
    /// Nobody knows; or the event is about the run itself.
    Info,
}

/// Who does it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Process {
    /// A client: one operation at a time.
    Client(u64),
    /// Something beside the clients, such as `"nemesis"`.
    Named(String),
}

/// The name of what is read or written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Key {
    /// A number.
    Number(i64),
    /// A text, such as `"x:7"`.
    Text(String),
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Key::Number(n) => n.fmt(f),
            Key::Text(t) => t.fmt(f),
        }
    }
}

/// What is appended or written. Values are unique per key in a history that proves something.
pub type Value = i64;

/// One micro-operation of a transaction, written as `[name, key, value]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// `["append",k,v]`: v is put at the end of the list at k.
    Append(Key, Value),
    /// `["r",k,null]` where nothing is known yet; on `ok`, of a register that does not exist.
    Read(Key),
    /// `["r",k,[..]]`: the list at k; empty if there is none.
    ReadList(Key, Vec<Value>),
    /// `["r",k,v]`: the register at k.
    ReadValue(Key, Value),
    /// `["w",k,v]`: the register at k is set.
    Write(Key, Value),
    /// `["d",k,null]`: the register at k is removed.
    Delete(Key),
    /// `["cas",k,[old,new]]`: the register at k held `old` and is set. On `fail` it held another.
    Cas(Key, Value, Value),
    /// `["add",k,v]`: v is put into the set at k, whose reads are lists in any order.
    Add(Key, Value),
    /// `["scan",[low,high],null|[[k,v],..]]`: all registers with `low <= k < high`, in order.
    Scan(i64, i64, Option<Vec<(i64, Value)>>),
    /// `["transfer",[from,to],amount]`.
    Transfer(i64, i64, Value),
    /// `["total",accounts,null|sum]`: the sum of the balances of all accounts.
    Total(i64, Option<Value>),
}

impl Op {
    fn parts(&self) -> (&'static str, serde_json::Value, serde_json::Value) {
        use serde_json::{Value as Json, json};
        match self {
            Op::Append(k, v) => ("append", json!(k), json!(v)),
            Op::Read(k) => ("r", json!(k), Json::Null),
            Op::ReadList(k, list) => ("r", json!(k), json!(list)),
            Op::ReadValue(k, v) => ("r", json!(k), json!(v)),
            Op::Write(k, v) => ("w", json!(k), json!(v)),
            Op::Delete(k) => ("d", json!(k), Json::Null),
            Op::Cas(k, old, new) => ("cas", json!(k), json!([old, new])),
            Op::Add(k, v) => ("add", json!(k), json!(v)),
            Op::Scan(low, high, rows) => ("scan", json!([low, high]), json!(rows)),
            Op::Transfer(from, to, amount) => ("transfer", json!([from, to]), json!(amount)),
            Op::Total(accounts, sum) => ("total", json!(accounts), json!(sum)),
        }
    }

    fn from_parts(name: &str, key: serde_json::Value, value: serde_json::Value) -> Result<Op, serde_json::Error> {
        use serde_json::from_value as get;
        Ok(match name {
            "append" => Op::Append(get(key)?, get(value)?),
            "r" if value.is_null() => Op::Read(get(key)?),
            "r" if value.is_array() => Op::ReadList(get(key)?, get(value)?),
            "r" => Op::ReadValue(get(key)?, get(value)?),
            "w" => Op::Write(get(key)?, get(value)?),
            "d" => Op::Delete(get(key)?),
            "cas" => {
                let (old, new) = get(value)?;
                Op::Cas(get(key)?, old, new)
            }
            "add" => Op::Add(get(key)?, get(value)?),
            "scan" => {
                let (low, high) = get(key)?;
                Op::Scan(low, high, get(value)?)
            }
            "transfer" => {
                let (from, to) = get(key)?;
                Op::Transfer(from, to, get(value)?)
            }
            "total" => Op::Total(get(key)?, get(value)?),
            other => return Err(serde_json::Error::custom(format!("unknown operation {other:?}"))),
        })
    }
}

impl Serialize for Op {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (name, key, value) = self.parts();
        let mut tuple = serializer.serialize_tuple(3)?;
        tuple.serialize_element(name)?;
        tuple.serialize_element(&key)?;
        tuple.serialize_element(&value)?;
        tuple.end()
    }
}

impl<'de> Deserialize<'de> for Op {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Op, D::Error> {
        let (name, key, value): (String, serde_json::Value, serde_json::Value) =
            Deserialize::deserialize(deserializer)?;
        Op::from_parts(&name, key, value).map_err(D::Error::custom)
    }
}

/// A line of the history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its number, rising from 0.
    pub index: u64,
    /// Who.
    pub process: Process,
    /// The phase.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// Nanoseconds since the run began, by one monotonic clock; never falls.
    pub time_ns: u64,
    /// What is done, or was.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub txn: Vec<Op>,
    /// On the `ok` of a writer: its commit timestamp in nanoseconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit_ts: Option<i64>,
    /// On the `ok` of a read without locks: its timestamp. On the `invoke` of a read at a chosen
    /// time: that time, if it is an exact one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_ts: Option<i64>,
    /// On the `invoke` of a read at a chosen past time, which owes nothing to real time.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stale: bool,
    /// The node that was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<u64>,
    /// The database's name of the transaction, if known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub transaction: String,
    /// How an ambiguous commit was resolved, if it was: `committed` or `aborted`, by its status.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub status: String,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error: String,
    /// Of a named process: what it did, such as `setup`, `kill`, `heal`, `final`, `epsilon`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub f: String,
    /// Of a named process: the particulars.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<serde_json::Value>,
}

impl Event {
    /// An event with nothing but its head.
    pub fn new(index: u64, process: Process, kind: Kind, time_ns: u64) -> Event {
        Event {
            index,
            process,
            kind,
            time_ns,
            txn: Vec::new(),
            commit_ts: None,
            read_ts: None,
            stale: false,
            node: None,
            transaction: String::new(),
            status: String::new(),
            error: String::new(),
            f: String::new(),
            value: None,
        }
    }

    /// Its line, without the line's end.
    pub fn to_line(&self) -> String {
        serde_json::to_string(self).expect("an event is plain data")
    }

    /// Reads a line. The error says what is wrong with it.
    pub fn parse(line: &str) -> Result<Event, String> {
        serde_json::from_str(line).map_err(|e| e.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_as_written_and_read_again() {
        let lines = [
            r#"{"index":1,"process":3,"type":"invoke","time_ns":5,"txn":[["append",4,17],["r","x:1",null]]}"#,
            r#"{"index":2,"process":3,"type":"ok","time_ns":9,"txn":[["append",4,17],["r","x:1",[2,5]]],"commit_ts":456}"#,
            r#"{"index":3,"process":4,"type":"invoke","time_ns":9,"txn":[["scan",[0,9],null]],"read_ts":77,"stale":true}"#,
            r#"{"index":4,"process":4,"type":"ok","time_ns":10,"txn":[["scan",[0,9],[[1,2],[3,4]]]],"read_ts":77}"#,
            r#"{"index":5,"process":5,"type":"info","time_ns":11,"txn":[["cas",1,[2,3]],["w",2,9],["r",2,9],["d",2,null]]}"#,
            r#"{"index":6,"process":"nemesis","type":"info","time_ns":12,"f":"kill","value":{"node":2}}"#,
        ];
        for line in lines {
            assert_eq!(Event::parse(line).expect(line).to_line(), line);
        }
        assert!(
            Event::parse(r#"{"index":1,"process":3,"type":"ok","time_ns":5,"txn":[["pop",4,17]]}"#)
                .unwrap_err()
                .contains("pop")
        );
    }
}
