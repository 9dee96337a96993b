//! Runs the golden scripts in `testscripts/client/`: one gateway on node 1 of three, one operation
//! at a time, and a script that plays all groups.
//!
//! Commands (times in milliseconds; `SPAN` is `k`, `a..c`, `..c` or `a..`):
//!
//! ```text
//! range GROUP SPAN [EPOCH]      leader GROUP NODE      set OPTION VALUE      router
//! begin [from=MS]               a read-write transaction; its age may be an earlier one
//! cancel                        nobody waits for the read any more
//! read SPAN[:LIMIT][:r] ... [mode=exclusive] [wait=no|skip|unlocked|MS]           commit      rollback
//! put K=V ...    delete K ...   mark    undo MARK
//! snapshot SPAN[:LIMIT][:r] ... [at=MS] [prefer=NODE]
//! status GROUP                  split GROUP KEY        checksum GROUP NODE
//! rows ID RESULT ... [ballot=ROUND.NODE] [at=MS] [wait=MS]
//!                               RESULT is `k=v,k=v` in the order asked, `~SPAN` for the rest, or `-`
//! reply ID WHAT ...             committed MS, prepared MS, status-committed MS, status-aborted,
//!                               status-unknown, done, checksum, wounded, lost, given_up,
//!                               notleader [NODE], nogroup, wrongrange GROUP@EPOCH:SPAN ...,
//!                               unavailable, tooold MS, invalid
//! failed ID                     the request could not be sent
//! sleep MS                      ticks whenever the operation asked for it
//! untrust                       the gateway's clock is fenced
//! ```

use std::error::Error;
use std::fmt::Write as _;

use goldenscript::{ArgumentConsumer, Command};
use paxos::{Ballot, GroupId, NodeId};
use truetime::{Interval, Now, Timestamp};

use super::*;
use crate::api::{AbortReason, GroupError, RequestBody};
use crate::types::{Key, Mutation, Priority, RangeDescriptor, Row, Span, TxnId};

type Outcomes<T> = Result<T, Box<dyn Error>>;

const MS: i64 = 1_000_000;

enum Running {
    Nothing,
    Txn(Box<ReadWrite>),
    Other(Box<dyn Operation>),
}

struct World {
    now_ms: i64,
    trusted: bool,
    gw: Gateway,
    running: Running,
    wake_at_ns: Option<i64>,
}

impl World {
    fn new() -> World {
        let options = GatewayOptions {
            request_timeout_ns: 100 * MS,
            look_again_ns: 20 * MS,
            replica_timeout_ns: 50 * MS,
            op_timeout_ns: 1000 * MS,
            commit_timeout_ns: 300 * MS,
            status_timeout_ns: 300 * MS,
            keepalive_ns: 500 * MS,
            retry_min_ns: 10 * MS,
            retry_max_ns: 40 * MS,
            page_bytes_max: 1 << 20,
        };
        let gw = Gateway::new(NodeId(1), vec![NodeId(1), NodeId(2), NodeId(3)], options, 1);
        World { now_ms: 1000, trusted: true, gw, running: Running::Nothing, wake_at_ns: None }
    }

    fn now(&self) -> Now {
        let tt = Interval::around(Timestamp::from_nanos(self.now_ms * MS), MS);
        Now { tt, mono_ns: self.now_ms * MS, trusted: self.trusted }
    }

    fn txn(&mut self) -> Outcomes<&mut ReadWrite> {
        match &mut self.running {
            Running::Txn(txn) => Ok(txn),
            _ => Err("no transaction".into()),
        }
    }

    fn step(&mut self, input: ClientInput, out: &mut String) -> Outcomes<()> {
        let now = self.now();
        let ready = match &mut self.running {
            Running::Txn(txn) => txn.step(now, &mut self.gw, input),
            Running::Other(op) => op.step(now, &mut self.gw, input),
            Running::Nothing => return Err("nothing runs".into()),
        };
        for (node, Request { id, group, body }) in ready.sends {
            writeln!(out, "#{id} -> {node} {group} {}", show_body(&body))?;
        }
        if let Some(outcome) = ready.outcome {
            writeln!(out, "{}", show_outcome(outcome))?;
        }
        self.wake_at_ns = ready.wake_at_ns;
        assert!(self.wake_at_ns.is_none_or(|at| at > now.mono_ns), "asks to be woken in the past");
        Ok(())
    }

    fn sleep(&mut self, ms: i64, out: &mut String) -> Outcomes<()> {
        let until = self.now_ms + ms;
        while let Some(at) = self.wake_at_ns.filter(|at| *at <= until * MS) {
            self.now_ms = (at + MS - 1) / MS;
            let mut said = String::new();
            self.step(ClientInput::Tick, &mut said)?;
            for line in said.lines() {
                writeln!(out, "at {}: {line}", self.now_ms)?;
            }
        }
        self.now_ms = until;
        Ok(())
    }

    fn rows(&mut self, args: &mut ArgumentConsumer<'_>, out: &mut String) -> Outcomes<()> {
        let request = number(args)?;
        let leadership = args.take_key("ballot").map(parse_ballot).transpose()?;
        let read_ts = args.take_key("at").map(parse_ms).transpose()?;
        let wait_ns = args.take_key("wait").map_or(Ok(0), str::parse::<i64>)? * MS;
        let mut results = Vec::new();
        // A row `k=v` is an argument with a key, so rows come as one quoted word for each result.
        while let Some(text) = args.next_pos() {
            let (rows, resume) = text.split_once('~').map_or((text, None), |(rows, span)| (rows, Some(span)));
            let mut result = ReadResult { rows: Vec::new(), resume: resume.map(parse_span) };
            for row in rows.split(',').filter(|row| row.contains('=')) {
                let (key, value) = row.split_once('=').ok_or("not k=v")?;
                result.rows.push(Row { key: to_key(key), value: to_key(value), commit_ts: Timestamp::from_nanos(1) });
            }
            results.push(result);
        }
        let reply = Reply::Rows { results, leadership, read_ts, wait_ns };
        self.step(ClientInput::Reply { request, reply }, out)
    }

    fn reply(&mut self, args: &mut ArgumentConsumer<'_>, out: &mut String) -> Outcomes<()> {
        let request = number(args)?;
        let reply = match args.next_pos().ok_or("no reply")? {
            "committed" => {
                let timing = CommitTiming { replicate_ns: 5 * MS, total_ns: 7 * MS, ..CommitTiming::default() };
                Reply::Committed { commit_ts: parse_ms(args.next_pos().ok_or("when?")?)?, timing }
            }
            "status-committed" => Reply::Status(TxnStatus::Committed(parse_ms(args.next_pos().ok_or("when?")?)?)),
            "status-aborted" => Reply::Status(TxnStatus::Aborted),
            "status-unknown" => Reply::Status(TxnStatus::Unknown),
            "prepared" => {
                let prepare_ts = parse_ms(args.next_pos().ok_or("when?")?)?;
                Reply::Prepared { prepare_ts, lock_wait_ns: MS, replicate_ns: 2 * MS }
            }
            "done" => Reply::Done,
            "checksum" => Reply::Checksum { applied: 7, hash: 42 },
            "wounded" => Reply::Error(GroupError::Aborted(AbortReason::Wounded)),
            "lost" => Reply::Error(GroupError::Aborted(AbortReason::LocksLost)),
            "given_up" => Reply::Error(GroupError::Aborted(AbortReason::GivenUp)),
            "toolate" => Reply::Error(GroupError::Aborted(AbortReason::TooLate)),
            "notleader" => Reply::Error(GroupError::NotLeader(args.next_pos().map(parse_node).transpose()?)),
            "nogroup" => Reply::Error(GroupError::NoGroup),
            "unavailable" => Reply::Error(GroupError::Unavailable("busy".into())),
            "tooold" => Reply::Error(GroupError::TooOld { earliest: parse_ms(args.next_pos().ok_or("when?")?)? }),
            "lock-not-available" => Reply::Error(GroupError::LockNotAvailable),
            "invalid" => Reply::Error(GroupError::Invalid("nonsense".into())),
            "wrongrange" => {
                let mut ranges = Vec::new();
                while let Some(text) = args.next_pos() {
                    let (name, span) = text.split_once(':').ok_or("no span")?;
                    let (group, epoch) = name.split_once('@').ok_or("no epoch")?;
                    let (group, span, epoch) = (parse_group(group)?, parse_span(span), epoch.parse()?);
                    ranges.push(RangeDescriptor { group, span, epoch });
                }
                Reply::Error(GroupError::WrongRange(ranges))
            }
            other => return Err(format!("unknown reply {other}").into()),
        };
        self.step(ClientInput::Reply { request, reply }, out)
    }

    fn begin(&mut self, op: impl Operation + 'static, out: &mut String) -> Outcomes<()> {
        self.running = Running::Other(Box::new(op));
        self.step(ClientInput::Tick, out)
    }
}

impl goldenscript::Runner for World {
    type Command = Command;

    fn run(&mut self, command: &Command, _context: &goldenscript::Context) -> Outcomes<String> {
        let mut args = command.consume_args();
        let mut out = String::new();
        match command.name.as_str() {
            "range" => {
                let (group, span) = (parse_group(word(&mut args)?)?, parse_span(word(&mut args)?));
                let epoch = args.next_pos().map_or(Ok(1), str::parse)?;
                self.gw.router.learn_range(RangeDescriptor { group, span, epoch });
            }
            "leader" => {
                let (group, node) = (parse_group(word(&mut args)?)?, parse_node(word(&mut args)?)?);
                self.gw.router.learn_leader(group, Some(node));
            }
            "set" => match (word(&mut args)?, number(&mut args)?) {
                ("page_bytes_max", value) => self.gw.options.page_bytes_max = value as usize,
                (name, _) => return Err(format!("unknown option {name}").into()),
            },
            "router" => {
                for RangeDescriptor { group, span, epoch } in self.gw.router.ranges() {
                    writeln!(out, "{group}@{epoch} {} led by {}", show_span(&span), self.gw.router.leader(group))?;
                }
            }
            "begin" => {
                let (id, mut priority) = self.gw.begin(self.now());
                if let Some(from) = args.take_key("from") {
                    priority = Priority { start: parse_ms(from)?, id: TxnId(1) };
                }
                self.running = Running::Txn(Box::new(ReadWrite::new(id, priority)));
            }
            "read" => {
                let mode = match args.take_key("mode") {
                    Some("exclusive") => LockMode::Exclusive,
                    _ => LockMode::Shared,
                };
                let policy = parse_policy(args.take_key("wait"))?;
                let ops = parse_ops(&mut args)?;
                self.step(ClientInput::Read { ops, mode, policy }, &mut out)?;
            }
            "put" | "delete" => {
                let mut mutations = Vec::new();
                while let Some((key, value)) = args.next_key() {
                    mutations.push(Mutation { key: to_key(key), value: Some(to_key(value)) });
                }
                while let Some(key) = args.next_pos() {
                    mutations.push(Mutation { key: to_key(key), value: None });
                }
                if let Err(error) = self.txn()?.buffer(mutations) {
                    writeln!(out, "refused: {error}")?;
                }
            }
            "mark" => writeln!(out, "mark {}", self.txn()?.mark())?,
            "undo" => {
                let mark = number(&mut args)? as Mark;
                self.txn()?.undo_to(mark);
            }
            "commit" => {
                let deadline = args.take_key("by").map(parse_ms).transpose()?;
                self.step(ClientInput::Commit { deadline }, &mut out)?;
            }
            "rollback" => self.step(ClientInput::Rollback, &mut out)?,
            "snapshot" => {
                let at = args.take_key("at").map(parse_ms).transpose()?;
                let prefer = args.take_key("prefer").map_or(Ok(NodeId(1)), parse_node)?;
                let ops = parse_ops(&mut args)?;
                self.begin(SnapshotRead::new(ops, at, prefer), &mut out)?;
            }
            "status" => {
                let group = parse_group(word(&mut args)?)?;
                self.begin(StatusQuery::new(TxnId(1), group), &mut out)?;
            }
            "split" => {
                let (group, at) = (parse_group(word(&mut args)?)?, to_key(word(&mut args)?));
                let body = RequestBody::Split { at, new_group: GroupId(9), leader: NodeId(2) };
                self.begin(GroupOp::new(group, body, None), &mut out)?;
            }
            "checksum" => {
                let (group, node) = (parse_group(word(&mut args)?)?, parse_node(word(&mut args)?)?);
                self.begin(GroupOp::new(group, RequestBody::Checksum, Some(node)), &mut out)?;
            }
            "cancel" => self.step(ClientInput::Cancel, &mut out)?,
            "rows" => self.rows(&mut args, &mut out)?,
            "reply" => self.reply(&mut args, &mut out)?,
            "failed" => {
                let request = number(&mut args)?;
                self.step(ClientInput::SendFailed { request }, &mut out)?;
            }
            "sleep" => {
                let ms = number(&mut args)? as i64;
                self.sleep(ms, &mut out)?;
            }
            "untrust" => self.trusted = false,
            name => return Err(format!("unknown command {name}").into()),
        }
        args.reject_next()?;
        Ok(out)
    }
}

/// `no`, `skip`, `unlocked`, or milliseconds.
fn parse_policy(text: Option<&str>) -> Outcomes<LockPolicy> {
    Ok(match text {
        None => LockPolicy::Wait,
        Some("no") => LockPolicy::NoWait,
        Some("skip") => LockPolicy::Skip,
        Some("unlocked") => LockPolicy::Unlocked,
        Some(ms) => LockPolicy::WaitAtMost(ms.parse::<i64>()? * MS),
    })
}

fn word<'a>(args: &mut ArgumentConsumer<'a>) -> Outcomes<&'a str> {
    args.next_pos().ok_or_else(|| "an argument is missing".into())
}

fn number(args: &mut ArgumentConsumer<'_>) -> Outcomes<u64> {
    Ok(word(args)?.parse()?)
}

fn parse_node(text: &str) -> Outcomes<NodeId> {
    Ok(NodeId(text.trim_start_matches('n').parse()?))
}

fn parse_group(text: &str) -> Outcomes<GroupId> {
    Ok(GroupId(text.trim_start_matches('g').parse()?))
}

fn parse_ms(text: &str) -> Outcomes<Timestamp> {
    Ok(Timestamp::from_nanos(text.parse::<i64>()? * MS))
}

fn parse_ballot(text: &str) -> Outcomes<Ballot> {
    let (round, node) = text.split_once('.').ok_or("not ROUND.NODE")?;
    Ok(Ballot { round: round.parse()?, node: parse_node(node)? })
}

fn to_key(text: &str) -> Key {
    Key::copy_from_slice(text.as_bytes())
}

fn parse_span(text: &str) -> Span {
    match text.split_once("..") {
        Some((start, end)) => Span { start: to_key(start), end: to_key(end) },
        None => Span::point(to_key(text)),
    }
}

fn parse_op(text: &str) -> Outcomes<ReadOp> {
    let mut parts = text.split(':');
    let mut op = ReadOp { span: parse_span(parts.next().unwrap_or_default()), reverse: false, limit: 0 };
    for part in parts {
        match part {
            "r" => op.reverse = true,
            limit => op.limit = limit.parse()?,
        }
    }
    Ok(op)
}

fn parse_ops(args: &mut ArgumentConsumer<'_>) -> Outcomes<Vec<ReadOp>> {
    std::iter::from_fn(|| args.next_pos()).map(parse_op).collect()
}

fn show_key(key: &[u8]) -> String {
    String::from_utf8_lossy(key).replace('\0', "\\0")
}

fn show_span(span: &Span) -> String {
    match span.is_point() {
        true => show_key(&span.start),
        false => format!("{}..{}", show_key(&span.start), show_key(&span.end)),
    }
}

fn show_ops(ops: &[ReadOp]) -> String {
    let show = |op: &ReadOp| {
        let limit = if op.limit > 0 { format!(":{}", op.limit) } else { String::new() };
        format!("{}{limit}{}", show_span(&op.span), if op.reverse { ":r" } else { "" })
    };
    ops.iter().map(show).collect::<Vec<_>>().join(" ")
}

fn show_ms(ts: Timestamp) -> String {
    format!("{}ms", ts.as_nanos() / MS)
}

fn show_held(held: &Option<Ballot>) -> String {
    held.map_or_else(|| "no locks yet".into(), |ballot| format!("locks of {ballot}"))
}

fn show_writes(writes: &[Mutation]) -> String {
    let show = |m: &Mutation| {
        let value = m.value.as_ref().map_or_else(|| "deleted".into(), |value| show_key(value));
        format!("{}={value}", show_key(&m.key))
    };
    format!("[{}]", writes.iter().map(show).collect::<Vec<_>>().join(" "))
}

fn show_body(body: &RequestBody) -> String {
    match body {
        RequestBody::Read { priority, leadership, ops, mode, policy, .. } => {
            let (age, held) = (show_ms(priority.start), show_held(leadership));
            let policy = match policy {
                LockPolicy::Wait => String::new(),
                LockPolicy::WaitAtMost(ns) => format!(", waits {}ms", ns / MS),
                other => format!(", {other:?}").to_lowercase(),
            };
            format!("read {mode:?} {} (age {age}, {held}{policy})", show_ops(ops))
        }
        RequestBody::Snapshot { at, ops } => {
            format!("snapshot {} at {}", show_ops(ops), at.map_or_else(|| "leader's choice".into(), show_ms))
        }
        RequestBody::Commit { leadership, writes, participants, deadline, .. } => {
            let others = participants.iter().map(|group| group.to_string()).collect::<Vec<_>>().join(",");
            let by = deadline.map_or_else(String::new, |at| format!(" by {}", show_ms(at)));
            format!("commit{by} {} with [{others}] ({})", show_writes(writes), show_held(leadership))
        }
        RequestBody::Prepare { leadership, writes, coordinator, .. } => {
            format!("prepare {} for {coordinator} ({})", show_writes(writes), show_held(leadership))
        }
        RequestBody::Abort { .. } => "abort".into(),
        RequestBody::KeepAlive { leadership, .. } => format!("keepalive ({})", show_held(&Some(*leadership))),
        RequestBody::Status { .. } => "status".into(),
        other => format!("{other:?}"),
    }
}

fn show_outcome(outcome: Outcome) -> String {
    match outcome {
        Outcome::Rows { results, read_ts, wait_ns } => {
            let mut text = "rows".to_string();
            if let Some(ts) = read_ts {
                text += &format!(" at {}", show_ms(ts));
            }
            if wait_ns > 0 {
                text += &format!(" after {}ms", wait_ns / MS);
            }
            for result in results {
                let show = |row: &Row| {
                    let own = if row.commit_ts == Timestamp::ZERO { "*" } else { "" };
                    format!("{}={}{own}", show_key(&row.key), show_key(&row.value))
                };
                text += &format!("\n  [{}]", result.rows.iter().map(show).collect::<Vec<_>>().join(" "));
                text += &result.resume.map_or_else(String::new, |span| format!(" resume {}", show_span(&span)));
            }
            text
        }
        Outcome::Committed(report) => {
            let at = report.commit_ts.map_or_else(|| "nothing".into(), show_ms);
            let groups = report.participants.iter().map(|group| group.to_string()).collect::<Vec<_>>().join(",");
            let prepares: Vec<_> = report.prepares.iter().map(|(group, ..)| group.to_string()).collect();
            let ms = report.total_ns / MS;
            format!("committed {at} by [{groups}] in {ms}ms, prepared known of [{}]", prepares.join(","))
        }
        Outcome::Failed(ClientError::Ambiguous { coordinator, .. }) => format!("ambiguous, ask {coordinator}"),
        Outcome::Failed(error) => format!("failed: {error}"),
        other => format!("{other:?}"),
    }
}

#[test]
fn golden_scripts() {
    let root = std::path::PathBuf::from("testscripts/client");
    let mut scripts: Vec<_> = std::fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().path()).collect();
    scripts.sort();
    assert!(!scripts.is_empty(), "no scripts under {}", root.display());
    for path in scripts {
        eprintln!("running {}", path.display());
        goldenscript::run(&mut World::new(), &path).unwrap();
    }
}
