//! What the clients saw, as the events that the command line's judge reads: a second judge, which
//! shares no code with the simulator's own and trusts no timestamps where it looks for cycles.
//!
//! Lists, blind registers and totals are told; of keys that a range read did not find, nothing is.

use check::{Event, Key, Kind, Op, Process};
use sql::types::Datum;
use truetime::Timestamp;
use txn::{ReadOp, Row, TxnId};

use crate::history::{self, History};
use crate::invariants::of_anomaly;
use crate::plan::{ACCOUNTS, kind_of, list, number};
use crate::sql::judge;
use crate::sql::programs::{self, Style, When};
use crate::sql::statement::{OnConflict, Set, Statement, Table, What};

/// An operation with both its ends.
struct Told {
    process: u64,
    invoked: i64,
    ended: i64,
    aborted: bool,
    ops: Vec<Op>,
    commit_ts: Option<Timestamp>,
    read_ts: Option<Timestamp>,
    stale: bool,
    transaction: String,
}

/// All transactions that are known to have committed, and when.
pub fn committed<'a>(history: &'a History, sql: &'a [judge::Attempt]) -> impl Iterator<Item = (TxnId, Timestamp)> + 'a {
    let keys = history.attempts.iter().filter_map(|attempt| match attempt.ending {
        history::Ending::Committed(at) => Some((attempt.txn, at)),
        _ => None,
    });
    let sql = sql.iter().filter_map(|attempt| match attempt.ending {
        judge::Ending::Committed(at) => Some((attempt.txn?, at)),
        _ => None,
    });
    keys.chain(sql)
}

/// The events of the clients that read and write keys.
pub fn of_keys(history: &History) -> Vec<Event> {
    let mut told = Vec::new();
    for attempt in &history.attempts {
        let mut ops: Vec<Op> = attempt.reads.iter().flat_map(|seen| read_ops(&seen.ops, &seen.rows)).collect();
        for write in &attempt.writes {
            let key = key(&write.key);
            let numbers = write.value.as_ref().map(|value| list(value));
            match (kind_of(&write.key), numbers.as_deref()) {
                ('a', Some([.., last])) => ops.push(Op::Append(key, *last as i64)),
                ('r', Some([value])) => ops.push(Op::Write(key, *value as i64)),
                ('r', None) => ops.push(Op::Delete(key)),
                _ => {}
            }
        }
        let (commit_ts, aborted) = match attempt.ending {
            history::Ending::Committed(at) => (Some(at), false),
            history::Ending::Aborted(_) => (None, true),
            history::Ending::Open => continue,
        };
        told.push(Told {
            process: attempt.client,
            invoked: attempt.invoked,
            ended: attempt.ended,
            aborted,
            ops,
            commit_ts,
            read_ts: None,
            stale: false,
            transaction: attempt.txn.to_string(),
        });
    }
    for read in &history.snapshots {
        told.push(Told {
            process: read.client,
            invoked: read.invoked,
            ended: read.seen.at,
            aborted: false,
            ops: read_ops(&read.seen.ops, &read.seen.rows),
            commit_ts: None,
            read_ts: Some(read.read_ts),
            stale: !read.strong,
            transaction: String::new(),
        });
    }
    events(told)
}

fn key(key: &[u8]) -> Key {
    Key::Text(key.escape_ascii().to_string())
}

fn read_ops(ops: &[ReadOp], found: &[Vec<Row>]) -> Vec<Op> {
    let mut told = Vec::new();
    for (op, rows) in ops.iter().zip(found) {
        let point = txn::Span::point(op.span.start.clone()) == op.span;
        if rows.is_empty() && point && kind_of(&op.span.start) == 'a' {
            told.push(Op::ReadList(key(&op.span.start), Vec::new()));
        }
        for row in rows {
            let numbers = || list(&row.value).into_iter().map(|n| n as i64);
            match kind_of(&row.key) {
                'a' => told.push(Op::ReadList(key(&row.key), numbers().collect())),
                'r' => told.extend(numbers().next().map(|n| Op::ReadValue(key(&row.key), n))),
                _ => {}
            }
        }
    }
    let accounts: Vec<&Row> = found.iter().flatten().filter(|row| kind_of(&row.key) == 'b').collect();
    if accounts.len() as u64 == ACCOUNTS {
        let sum: u64 = accounts.iter().map(|row| number(&row.value)).sum();
        told.push(Op::Total(ACCOUNTS as i64, Some(sum as i64)));
    }
    told
}

/// The events of the clients that talk SQL.
pub fn of_sql(attempts: &[judge::Attempt]) -> Vec<Event> {
    let mut told = Vec::new();
    for attempt in attempts {
        let read_ts = attempt.done.iter().find_map(|done| match &done.result {
            Some(Ok(returned)) => returned.read_ts,
            _ => None,
        });
        let (Style::Alone(when) | Style::ReadOnly(when)) = attempt.style else {
            told.push(tell_sql(attempt, None, false));
            continue;
        };
        told.push(tell_sql(attempt, read_ts, when != When::Strong));
    }
    events(told)
}

fn tell_sql(attempt: &judge::Attempt, read_ts: Option<Timestamp>, stale: bool) -> Told {
    Told {
        process: attempt.client,
        invoked: attempt.invoked,
        ended: attempt.ended,
        aborted: attempt.ending == judge::Ending::Aborted,
        ops: attempt.kept().into_iter().flat_map(sql_ops).collect(),
        commit_ts: if let judge::Ending::Committed(at) = attempt.ending { Some(at) } else { None },
        read_ts,
        stale,
        transaction: attempt.txn.map_or(String::new(), |txn| txn.to_string()),
    }
}

fn sql_ops(done: &judge::Done) -> Vec<Op> {
    let table = done.statement.table();
    let key = |of: &[i64]| {
        let parts: Vec<String> = of.iter().map(i64::to_string).collect();
        Key::Text(format!("{}/{}", table.name(), parts.join("/")))
    };
    let returned = match &done.result {
        Some(Ok(returned)) => Some(returned),
        Some(Err(_)) => return Vec::new(),
        None => None,
    };
    let mut ops = Vec::new();
    if let (Table::Accounts, Statement::Select { what, .. }) = (table, &done.statement) {
        let rows = returned.map(|returned| &returned.rows[..]).unwrap_or_default();
        if let (What::Sum(_), [row]) = (what, rows)
            && let [Datum::Int(sum)] = row[..]
        {
            ops.push(Op::Total(programs::ACCOUNTS, Some(sum)));
        }
    }
    if !matches!(table, Table::Lists | Table::Pairs) {
        return ops;
    }
    let number = |text: &str| text.trim_end_matches(',').parse::<i64>().ok();
    let changed = returned.is_none_or(|returned| !returned.tag.ends_with(" 0"));
    let mut looked = None;
    match &done.statement {
        Statement::Update { rows, set: (_, Set::Concat(text)), .. } if changed => {
            ops.extend(number(text).map(|n| Op::Append(key(&rows.prefix), n)));
        }
        Statement::Insert { rows, conflict: OnConflict::Error | OnConflict::Update(..), .. } => {
            for (of, values) in rows {
                if let Some(Datum::Text(text)) = values.first() {
                    ops.extend(number(text).map(|n| Op::Append(key(of), n)));
                }
            }
        }
        Statement::Select { rows, .. } if rows.prefix.len() == table.key().len() => looked = Some(&rows.prefix),
        _ => {}
    }
    let Some(returned) = returned else { return ops };
    for row in &returned.rows {
        let of: Vec<i64> =
            row.iter().filter_map(|datum| if let Datum::Int(n) = datum { Some(*n) } else { None }).collect();
        if let Some(Datum::Text(text)) = row.last() {
            ops.push(Op::ReadList(key(&of), text.split(',').filter_map(number).collect()));
        }
    }
    if let (Some(of), true) = (looked, returned.rows.is_empty()) {
        ops.push(Op::ReadList(key(of), Vec::new()));
    }
    ops
}

/// In true order; where two things happen at once, what ends does so first.
fn events(told: Vec<Told>) -> Vec<Event> {
    let told: Vec<Told> = told.into_iter().filter(|t| t.ended > t.invoked && !t.ops.is_empty()).collect();
    let ends = told.iter().enumerate().map(|(at, t)| (t.ended, 0, at));
    let mut order: Vec<(i64, u8, usize)> =
        ends.chain(told.iter().enumerate().map(|(at, t)| (t.invoked, 1, at))).collect();
    order.sort_unstable();
    let event = |(index, (time, phase, at)): (usize, (i64, u8, usize))| {
        let t = &told[at];
        let kind = match (phase, t.aborted) {
            (1, _) => Kind::Invoke,
            (_, true) => Kind::Fail,
            (_, false) => Kind::Ok,
        };
        let mut event = Event::new(index as u64, Process::Client(t.process), kind, time as u64);
        event.stale = phase == 1 && t.stale;
        if phase == 0 {
            event.commit_ts = t.commit_ts.map(Timestamp::as_nanos);
            event.read_ts = t.read_ts.map(Timestamp::as_nanos);
        }
        event.transaction = t.transaction.clone();
        event.txn = if phase == 0 { t.ops.clone() } else { t.ops.iter().map(asked).collect() };
        event
    };
    order.into_iter().enumerate().map(event).collect()
}

/// An operation before its answer is known.
fn asked(op: &Op) -> Op {
    match op {
        Op::ReadList(key, _) | Op::ReadValue(key, _) => Op::Read(key.clone()),
        Op::Total(accounts, _) => Op::Total(*accounts, None),
        other => other.clone(),
    }
}

/// Asks the other judge. The error tells what it found. If clocks lied, what contradicts real time alone is no error,
/// but what it answers with.
pub fn second_opinion(history: &History, sql: &[judge::Attempt], clock_lied: bool) -> Result<bool, String> {
    let mut excused = false;
    for (whose, events) in [("keys", of_keys(history)), ("SQL", of_sql(sql))] {
        if !events.iter().any(|event| event.kind == Kind::Ok) {
            continue;
        }
        let mut verdict = check::judge(&events);
        verdict.clock_lied = clock_lied;
        if verdict.is_valid() {
            excused |= !verdict.anomalies.is_empty();
            continue;
        }
        let grave = verdict.anomalies.iter().find(|a| !(clock_lied && check::rests_on_real_time(&a.name)));
        if let Some(anomaly) = grave {
            let (invariant, counts) = (of_anomaly(&anomaly.name), &verdict.counts);
            return Err(format!("{invariant}: judge of {whose}: {}: {}\n{counts:?}", anomaly.name, anomaly.story));
        }
    }
    Ok(excused)
}
