//! `meridian status`: what each node says of itself.

use std::time::Duration;

use proto::v1::{StatusResponse, Type};

use crate::args::StatusArgs;
use crate::client;
use crate::format::{self, int_value, null, text_value};
use crate::out::Out;
use crate::units::{human, ms, timestamp};

/// How long a node may take to answer.
const TIMEOUT: Duration = Duration::from_secs(2);

/// A node's address and its answer, or why there was none.
pub type NodeAnswer = (String, Result<StatusResponse, String>);

/// Asks the given nodes, and those that they know, at the same time.
pub async fn gather(addresses: &[String], timeout: Duration) -> Vec<NodeAnswer> {
    let mut answers: Vec<NodeAnswer> = Vec::new();
    let mut ask: Vec<String> = Vec::new();
    for address in addresses {
        if !ask.contains(address) {
            ask.push(address.clone());
        }
    }
    while !ask.is_empty() {
        let asked = ask.iter().map(|address| client::status(address, timeout));
        let results = futures::future::join_all(asked).await;
        answers.extend(std::mem::take(&mut ask).into_iter().zip(results));
        for peer in answers.iter().filter_map(|(_, a)| a.as_ref().ok()).flat_map(|a| &a.peers) {
            let known =
                answers.iter().any(|(a, s)| *a == peer.address || s.as_ref().is_ok_and(|s| s.node == peer.node));
            if !known && !peer.address.is_empty() && !ask.contains(&peer.address) {
                ask.push(peer.address.clone());
            }
        }
    }
    answers.sort_by_key(|(address, answer)| (number(&answers_node(answer)), address.clone()));
    // One node may have been reached by two of its names.
    answers.dedup_by(|b, a| match (&a.1, &b.1) {
        (Ok(a), Ok(b)) => a.node == b.node && a.pid == b.pid,
        _ => false,
    });
    answers
}

fn answers_node(answer: &Result<StatusResponse, String>) -> Option<u64> {
    answer.as_ref().ok().map(|a| a.node)
}

fn number(node: &Option<u64>) -> u64 {
    node.unwrap_or(u64::MAX)
}

/// Prints one row for each node. The exit code is 0 if all are up, 1 if any is down.
pub async fn run(args: &StatusArgs, out: &mut Out, err: &mut Out) -> anyhow::Result<i32> {
    let answers = gather(&args.connect.addresses(), TIMEOUT).await;
    if answers.iter().all(|(_, a)| a.is_err()) {
        for (address, answer) in &answers {
            if let Err(why) = answer {
                err.line(format!("{address}: {why}"));
            }
        }
        err.line("ERROR:  no node answers");
        return Ok(1);
    }
    let columns = [
        ("node", Type::Bigint),
        ("address", Type::Text),
        ("state", Type::Text),
        ("version", Type::Text),
        ("pid", Type::Bigint),
        ("uptime", Type::Text),
        ("clock", Type::Text),
        ("epsilon_ms", Type::Double),
        ("now", Type::Timestamptz),
        ("groups_led", Type::Text),
        ("groups", Type::Bigint),
        ("commits", Type::Bigint),
        ("aborts", Type::Bigint),
        ("fsyncs", Type::Bigint),
        ("log_mb", Type::Bigint),
        ("cpu_s", Type::Text),
        ("memory_mb", Type::Bigint),
        ("sessions", Type::Bigint),
        ("active", Type::Bigint),
        ("queued", Type::Bigint),
        ("refused", Type::Bigint),
        ("data", Type::Text),
    ];
    let mut down = false;
    let rows = answers.iter().map(|(address, answer)| match answer {
        Ok(status) => up(address, status),
        Err(why) => {
            down = true;
            let known = answers.iter().filter_map(|(_, a)| a.as_ref().ok()).flat_map(|a| &a.peers);
            let node = known.filter(|p| p.address == *address).map(|p| p.node).next();
            let mut row = vec![
                node.map_or_else(null, int_value),
                text_value(address.as_str()),
                text_value(format!("down: {why}")),
            ];
            row.resize(columns.len(), null());
            row
        }
    });
    let rows = rows.collect();
    format::print(args.format, &columns, rows, out);
    Ok(i32::from(down))
}

fn up(address: &str, status: &StatusResponse) -> Vec<proto::v1::Value> {
    let clock = status.clock.clone().unwrap_or_default();
    let counters = status.counters.unwrap_or_default();
    let led: Vec<String> = status.groups.iter().filter(|g| g.leading).map(|g| format!("g{}", g.group)).collect();
    let away = status.peers.iter().filter(|p| !p.connected && p.node != status.node);
    let unreachable: Vec<String> = away
        .map(|p| match p.problem.as_str() {
            "" => format!("n{}", p.node),
            why => format!("n{} ({why})", p.node),
        })
        .collect();
    let mut state = "up".to_string();
    if !clock.fenced.is_empty() {
        state = format!("fenced: {}", clock.fenced);
    } else if !clock.trusted {
        state = "up, clock not trusted".to_string();
    }
    if status.fsync_delay_ns > 0 {
        state.push_str(&format!(", injected fsync delay {} ms", ms(status.fsync_delay_ns)));
    }
    if !unreachable.is_empty() {
        state.push_str(&format!(", no connection to {}", unreachable.join(" ")));
    }
    if !clock.conflicts.is_empty() {
        state.push_str(&format!("; {}", clock.conflicts.join("; ")));
    }
    let epsilon_ns = clock.latest_ns.saturating_sub(clock.earliest_ns) / 2;
    vec![
        int_value(status.node),
        text_value(address),
        text_value(state),
        text_value(status.version.as_str()),
        int_value(status.pid),
        text_value(human(Duration::from_millis(status.uptime_ms.max(0).unsigned_abs()))),
        text_value(clock.source),
        text_value(ms(epsilon_ns)),
        text_value(timestamp(clock.earliest_ns.saturating_add(epsilon_ns))),
        text_value(led.join(" ")),
        int_value(status.groups.len()),
        int_value(counters.commits),
        int_value(counters.aborts),
        int_value(counters.fsyncs),
        int_value(counters.log_bytes >> 20),
        text_value(format!("{:.1}", counters.cpu_us as f64 / 1e6)),
        int_value(counters.resident_bytes >> 20),
        int_value(counters.sessions_open),
        int_value(counters.statements_active),
        int_value(counters.statements_queued),
        int_value(counters.statements_refused + counters.sessions_refused + counters.connections_refused),
        text_value(status.data_dir.as_str()),
    ]
}
