//! Runs the golden scripts in `testscripts/cluster/`: three nodes with two groups (`g1` up to key m,
//! `g2` from there), a perfect network of 1 ms, disks that sync in 1 ms, clocks with an epsilon of
//! 2 ms and a lease of 500 ms.
//!
//! Commands (times in milliseconds since the start; `SPAN` is a key or `a..c`):
//!
//! ```text
//! begin TXN [node=N]              a read-write transaction; the order of begins is that of age
//! read TXN SPAN... [lock=x] [wait=no|skip|unlocked|MS]    locks and reads; `...` if it waits
//! put TXN K=V...                  buffers writes
//! commit TXN     rollback TXN     cancel TXN    (cancel: its read in progress is given up)
//! snapshot SPAN... [node=N] [at=MS]    without `at`: a strong read
//! drop                            forgets every gateway operation that waits: its gateway is gone
//! status TXN group=G [node=N]     how did it end?
//! split at=KEY group=G leader=N
//! hand-over group=G to=N
//! run MS                          time passes; prints what ended meanwhile
//! crash N   restart N   freeze N   thaw N   cut N   heal
//! lose KIND [group=G]             drops messages of a kind from now on: decided, prepared, accepted, reply
//! groups    locks [group=G]    txns [group=G]    versions K [node=N]    equal
//! ```

mod world;

use std::collections::BTreeSet;
use std::fmt::Write as _;

use goldenscript::{ArgumentConsumer, Command};
use paxos::{GroupId, NodeId};
use truetime::Timestamp;

use crate::api::{ReadOp, RequestBody, TxnStatus};
use crate::client::{ClientError, ClientInput, GroupOp, Outcome, ReadWrite, SnapshotRead, StatusQuery};
use crate::types::{Key, LockMode, LockPolicy, Mutation, Span};
use world::{EPOCH_MS, MS, Op, Outcomes, World};

fn at_ms(ts: Timestamp) -> String {
    format!("{}", ts.as_nanos() / MS - EPOCH_MS)
}

fn show_span(span: &Span) -> String {
    let text = |k: &Key| String::from_utf8_lossy(k).into_owned();
    if span.is_point() { text(&span.start) } else { format!("{}..{}", text(&span.start), text(&span.end)) }
}

fn show(outcome: Outcome) -> String {
    match outcome {
        Outcome::Rows { results, .. } => {
            let rows: Vec<String> = results
                .iter()
                .flat_map(|r| &r.rows)
                .map(|r| format!("{}={}", String::from_utf8_lossy(&r.key), String::from_utf8_lossy(&r.value)))
                .collect();
            format!("[{}]", rows.join(" "))
        }
        Outcome::Committed(report) => match report.commit_ts {
            Some(ts) => format!(
                "committed at {} by {:?}",
                at_ms(ts),
                report.participants.iter().map(|g| g.0).collect::<Vec<_>>()
            ),
            None => "committed without a timestamp".into(),
        },
        Outcome::RolledBack => "rolled back".into(),
        Outcome::Status(TxnStatus::Committed(ts)) => format!("it committed at {}", at_ms(ts)),
        Outcome::Status(TxnStatus::Aborted) => "it is aborted".into(),
        Outcome::Status(TxnStatus::Unknown) => "not known".into(),
        Outcome::Reply(reply) => format!("{reply:?}"),
        Outcome::Failed(ClientError::TooOld { earliest }) => format!("too old: the earliest is {}", at_ms(earliest)),
        Outcome::Failed(ClientError::Ambiguous { coordinator, .. }) => format!("ambiguous: ask {coordinator}"),
        Outcome::Failed(e) => format!("failed: {e}"),
    }
}

fn parse_span(text: &str) -> Span {
    match text.split_once("..") {
        Some((start, end)) => Span::new(start.as_bytes().to_vec(), end.as_bytes().to_vec()),
        None => Span::point(text.as_bytes().to_vec()),
    }
}

fn ops(args: &mut ArgumentConsumer<'_>) -> Vec<ReadOp> {
    let mut ops = Vec::new();
    while let Some(text) = args.next_pos() {
        ops.push(ReadOp { span: parse_span(text), reverse: false, limit: 0 });
    }
    ops
}

fn node_of(args: &mut ArgumentConsumer<'_>) -> Outcomes<NodeId> {
    Ok(NodeId(args.take_key("node").map_or(Ok(1), str::parse)?))
}

fn pos<'a>(args: &mut ArgumentConsumer<'a>) -> Outcomes<&'a str> {
    args.next_pos().ok_or_else(|| "an argument is missing".into())
}

impl goldenscript::Runner for World {
    type Command = Command;

    fn run(&mut self, command: &Command, _context: &goldenscript::Context) -> Outcomes<String> {
        let mut args = command.consume_args();
        match command.name.as_str() {
            "begin" => {
                let node = node_of(&mut args)?;
                let name = pos(&mut args)?;
                self.now_ms += 1;
                let now = self.now();
                let gateway = &mut self.servers.get_mut(&node).ok_or("no such node")?.gateway;
                let (id, priority) = gateway.begin(now);
                self.names.insert(id, name.into());
                self.begin(name, node, Op::Txn(Box::new(ReadWrite::new(id, priority))), None);
            }
            "read" | "put" | "commit" | "rollback" | "cancel" => {
                let deadline = args.take_key("by").map(str::parse::<i64>).transpose()?;
                let deadline = deadline.map(|ms| Timestamp::from_nanos((EPOCH_MS + ms + 1) * MS - 1));
                let mode = match args.take_key("lock") {
                    Some(_) => LockMode::Exclusive,
                    None => LockMode::Shared,
                };
                let policy = match args.take_key("wait") {
                    None => LockPolicy::Wait,
                    Some("no") => LockPolicy::NoWait,
                    Some("skip") => LockPolicy::Skip,
                    Some("unlocked") => LockPolicy::Unlocked,
                    Some(ms) => LockPolicy::WaitAtMost(ms.parse::<i64>()? * MS),
                };
                let name = pos(&mut args)?;
                let client = self.clients.get_mut(name).ok_or("no such transaction")?;
                let input = match command.name.as_str() {
                    "put" => {
                        let Op::Txn(txn) = &mut client.op else { return Err("no transaction".into()) };
                        let mut writes = Vec::new();
                        while let Some((key, value)) = args.next_key() {
                            let value = (value != "-").then(|| value.as_bytes().to_vec().into());
                            writes.push(Mutation { key: key.as_bytes().to_vec().into(), value });
                        }
                        txn.buffer(writes)?;
                        args.reject_next()?;
                        return Ok(String::new());
                    }
                    "read" => ClientInput::Read { ops: ops(&mut args), mode, policy },
                    "commit" => ClientInput::Commit { deadline },
                    "cancel" => {
                        self.client(name, ClientInput::Cancel);
                        return Ok(String::new());
                    }
                    _ => ClientInput::Rollback,
                };
                client.busy = true;
                self.client(name, input);
                self.finish(name);
            }
            "snapshot" => {
                let node = node_of(&mut args)?;
                let at = args.take_key("at").map(str::parse::<i64>).transpose()?;
                let at = at.map(|ms| Timestamp::from_nanos((EPOCH_MS + ms + 1) * MS - 1));
                self.reads += 1;
                let name = format!("read{}", self.reads);
                let op = SnapshotRead::new(ops(&mut args), at, node);
                self.begin(&name, node, Op::Other(Box::new(op)), Some(ClientInput::Tick));
                self.finish(&name);
            }
            "drop" => self.clients.clear(),
            "status" => {
                let node = node_of(&mut args)?;
                let group = GroupId(args.take_key("group").ok_or("which group?")?.parse()?);
                let name = pos(&mut args)?;
                let txn = *self.names.iter().find(|(_, n)| *n == name).ok_or("no such transaction")?.0;
                let op = Op::Other(Box::new(StatusQuery::new(txn, group)));
                self.begin(&format!("status of {name}"), node, op, Some(ClientInput::Tick));
                self.finish(&format!("status of {name}"));
            }
            "split" | "hand-over" => {
                let body = if command.name == "split" {
                    let at = args.take_key("at").ok_or("where?")?.as_bytes().to_vec().into();
                    let new_group = GroupId(args.take_key("new").ok_or("which?")?.parse()?);
                    RequestBody::Split {
                        at,
                        new_group,
                        leader: NodeId(args.take_key("leader").ok_or("who?")?.parse()?),
                    }
                } else {
                    let to = args.take_key("to").map(str::parse).transpose()?.map(NodeId);
                    RequestBody::HandOver { to }
                };
                let group = GroupId(args.take_key("group").ok_or("which group?")?.parse()?);
                let op = Op::Other(Box::new(GroupOp::new(group, body, None)));
                self.begin(&command.name, NodeId(1), op, Some(ClientInput::Tick));
                self.finish(&command.name);
            }
            "run" => {
                let ms = pos(&mut args)?.parse()?;
                self.run(ms);
                self.now_ms += 1;
            }
            "crash" => self.crash(NodeId(pos(&mut args)?.parse()?)),
            "restart" => self.start(NodeId(pos(&mut args)?.parse()?)),
            "freeze" | "thaw" | "cut" => {
                let id = NodeId(pos(&mut args)?.parse()?);
                let server = self.servers.get_mut(&id).ok_or("no such node")?;
                match command.name.as_str() {
                    "cut" => server.cut = true,
                    other => server.frozen = other == "freeze",
                }
            }
            "heal" => {
                self.servers.values_mut().for_each(|s| s.cut = false);
                self.lost.clear();
            }
            "lose" => {
                self.lost.insert(pos(&mut args)?.into());
            }
            "flush" => {
                for id in (1..=3).map(NodeId) {
                    self.flush(id);
                }
            }
            "groups" => {
                let now = self.now();
                for (id, server) in &self.servers {
                    let Some(node) = &server.node else {
                        writeln!(self.out, "{id} is down")?;
                        continue;
                    };
                    for g in node.status(now) {
                        if g.lease_end.is_some() {
                            writeln!(self.out, "{} {} led by {id}", g.range.group, show_span(&g.range.span))?;
                        }
                    }
                }
            }
            "locks" | "txns" => {
                let group = GroupId(args.take_key("group").map_or(Ok(1), str::parse)?);
                let inspection = self.inspect(group)?;
                if command.name == "locks" {
                    for l in inspection.locks {
                        let held = if l.held { "holds" } else { "waits for" };
                        writeln!(self.out, "{} {held} {:?} {}", self.name(l.txn), l.mode, show_span(&l.span))?;
                    }
                } else {
                    for t in inspection.txns {
                        writeln!(self.out, "{} {}", self.name(t.txn), t.state)?;
                    }
                }
            }
            "equal" => {
                for group in self.servers[&NodeId(1)].node.as_ref().ok_or("n1 is down")?.applied() {
                    let hashes: BTreeSet<u64> =
                        self.servers.values().filter_map(|s| s.node.as_ref()?.checksum(group.0)?.ok()).collect();
                    let all = if hashes.len() == 1 { "equal" } else { "NOT equal" };
                    writeln!(self.out, "replicas of {} are {all}", group.0)?;
                }
            }
            other => return Err(format!("unknown command {other}").into()),
        }
        args.reject_next()?;
        Ok(std::mem::take(&mut self.out))
    }
}

#[test]
fn scripts() {
    let folder = std::path::PathBuf::from("testscripts/cluster");
    let mut count = 0;
    let entries = std::fs::read_dir(folder).expect("testscripts/cluster");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    for path in paths {
        goldenscript::run(&mut World::new(), &path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        count += 1;
    }
    assert!(count >= 10, "only {count} scripts were found");
}
