//! How long a row cannot be written after its leader has ended.
//!
//! ```text
//!   writes of other nodes  | | | | |                       | | | |
//!                                ^signal   ^process is gone ^    ^ begun after the end, acknowledged:
//!                                |<------- outage --------->|      the round is over
//! ```
//!
//! 1. One row; clients at every node update it without a pause, each with a session of its own that stays
//!    at its node. (They meet each other's lock: some wait, the row is written all the time.)
//! 2. The node that leads the row's group is killed, or stopped gracefully. Only writes through the other
//!    nodes count from here: what a client feels that was connected to the victim is its reconnection.
//! 3. The outage is the longest stretch without an acknowledged write, from the signal on, until a write is
//!    acknowledged that began when the process was gone. After a kill this is the time from the signal to
//!    the first write that a new leader acknowledged; a graceful stop goes on answering for a while.
//! 4. The node is started; all are well and somebody leads; the load runs for a moment; again.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail};
use proto::v1::ProcessAction;
use serde_json::json;

use super::args::{EndKind, RecoveryArgs};
use super::control::{self, Control};
use super::watch::{leaders, until, well};
use crate::args::Report;
use crate::client::{Client, ClientOptions};
use crate::out::Out;

/// The table of the row.
const TABLE: &str = "meridian_recovery";
/// Clients at each node.
const CLIENTS: u64 = 2;
/// How long the cluster may take to be well again.
const WELL_TIMEOUT: Duration = Duration::from_secs(90);
/// How long a write may not be acknowledged until the measurement gives up.
const OUTAGE_MAX: Duration = Duration::from_secs(120);
/// The load before each round.
const CALM: Duration = Duration::from_millis(700);
/// How often the acknowledgements are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// The pause of a client after a failure.
const PAUSE: Duration = Duration::from_millis(20);

/// A write that was acknowledged.
#[derive(Clone, Copy)]
struct Ack {
    node: u64,
    began: Instant,
    at: Instant,
}

#[derive(Default)]
struct Shared {
    acks: Mutex<Vec<Ack>>,
    stop: AtomicBool,
}

impl Shared {
    fn acks(&self) -> MutexGuard<'_, Vec<Ack>> {
        self.acks.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// Measures, and prints the median, the 90th percentile and the worst. The exit code is 0.
pub async fn run(args: &RecoveryArgs, out: &mut Out, err: &mut Out) -> anyhow::Result<i32> {
    let addresses = args.connect.addresses();
    let control = Control::learn(&addresses).await.map_err(|why| anyhow!(why))?;
    let state = control.describe().await.map_err(|why| anyhow!(why))?;
    if state.nodes.len() < 3 {
        bail!("{} nodes have no majority without their leader: it takes three", state.nodes.len());
    }
    let nodes: BTreeMap<u64, String> = state.nodes.into_iter().map(|node| (node.node, node.address)).collect();
    let all: Vec<String> = nodes.values().cloned().collect();
    let group = prepare(&all).await?;

    let shared = Arc::new(Shared::default());
    let mut writers = Vec::new();
    for (node, address) in nodes.iter().flat_map(|node| (0..CLIENTS).map(move |_| node)) {
        writers.push(tokio::spawn(write(*node, address.clone(), shared.clone())));
    }
    let mut outages = Vec::new();
    for round in 1..=args.times {
        let (victim, outage) = once(&control, &nodes, group, args.kind, &shared).await?;
        err.line(format!("{round:>4}  node {victim}  {:>8.1} ms", ms(outage)));
        let _ = err.flush();
        outages.push(outage);
    }
    shared.stop.store(true, Ordering::SeqCst);
    for writer in writers {
        writer.await?;
    }
    let mut client = Client::connect(&all).await?;
    client.execute(&format!("DROP TABLE IF EXISTS {TABLE}"), Vec::new()).await?;

    outages.sort_unstable();
    let lease_ms = state.lease_ns as f64 / 1e6;
    let (median, p90, worst) = (at(&outages, 50), at(&outages, 90), at(&outages, 100));
    let kind = match args.kind {
        EndKind::Kill => "kill -9",
        EndKind::Stop => "graceful stop",
    };
    match args.report {
        Report::Text => out.line(format!(
            "{kind} of the leader, {} times, lease {lease_ms:.0} ms: no write for {:.0} ms (median), {:.0} ms (90 %), \
             {:.0} ms (worst)",
            outages.len(),
            ms(median),
            ms(p90),
            ms(worst)
        )),
        Report::Json => {
            let each: Vec<f64> = outages.iter().map(|outage| ms(*outage)).collect();
            let report = json!({
                "kind": kind, "times": outages.len(), "lease_ms": lease_ms, "median_ms": ms(median),
                "p90_ms": ms(p90), "worst_ms": ms(worst), "sorted_ms": each,
            });
            out.line(report.to_string());
        }
    }
    let _ = out.flush();
    Ok(0)
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// The least of the sorted values that so many percent do not exceed.
fn at(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() * percent).div_ceil(100).max(1) - 1]
}

/// Makes the row, and says which group holds it.
async fn prepare(addresses: &[String]) -> anyhow::Result<u64> {
    let mut client = Client::connect(addresses).await?;
    for sql in [
        format!("DROP TABLE IF EXISTS {TABLE}"),
        format!("CREATE TABLE {TABLE} (id BIGINT PRIMARY KEY, v BIGINT NOT NULL)"),
        format!("INSERT INTO {TABLE} VALUES (1, 0)"),
    ] {
        client.execute(&sql, Vec::new()).await?;
    }
    let ranges = client.execute(&format!("SHOW RANGES FROM TABLE {TABLE}"), Vec::new()).await?.pop();
    let ranges = ranges.unwrap_or_default();
    let column = ranges.columns.iter().position(|column| column.name == "group");
    let cell = column.and_then(|column| ranges.rows.first()?.values.get(column));
    let group = cell.and_then(crate::format::text).and_then(|text| text.parse().ok());
    group.ok_or_else(|| anyhow!("SHOW RANGES does not say which group holds {TABLE}"))
}

/// Updates the row through one node for as long as it can.
async fn write(node: u64, address: String, shared: Arc<Shared>) {
    let sql = format!("UPDATE {TABLE} SET v = v + 1 WHERE id = 1");
    let options = ClientOptions { connect_timeout: Duration::from_millis(500), ..ClientOptions::default() };
    let offline = || Client::offline(std::slice::from_ref(&address), options.clone());
    let mut client = offline();
    while !shared.stop.load(Ordering::SeqCst) {
        // A client that lost its node would go to another: then it would count for the wrong one.
        if client.node().is_some_and(|at| at != node) {
            client = offline();
        }
        let began = Instant::now();
        match client.execute(&sql, Vec::new()).await {
            Ok(_) if client.node() == Some(node) => {
                shared.acks().push(Ack { node, began, at: Instant::now() });
            }
            Ok(_) => {}
            Err(_) => {
                client = offline();
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// One round: who was ended, and how long the row could not be written.
async fn once(
    control: &Control,
    nodes: &BTreeMap<u64, String>,
    group: u64,
    kind: EndKind,
    shared: &Shared,
) -> anyhow::Result<(u64, Duration)> {
    let led = until(WELL_TIMEOUT, nodes, |seen| {
        well(nodes, seen)?;
        let leader = leaders(seen).into_iter().find(|(led, _)| *led == group).map(|(_, node)| node);
        leader.ok_or_else(|| format!("nobody leads group {group}"))
    });
    led.await.map_err(|why| anyhow!("the cluster is not well: {why}"))?;
    tokio::time::sleep(CALM).await;
    let victim = until(WELL_TIMEOUT, nodes, |seen| {
        let leader = leaders(seen).into_iter().find(|(led, _)| *led == group).map(|(_, node)| node);
        leader.ok_or_else(|| format!("nobody leads group {group}"))
    });
    let victim = victim.await.map_err(|why| anyhow!(why))?;
    shared.acks().clear();
    let action = match kind {
        EndKind::Kill => ProcessAction::Kill,
        EndKind::Stop => ProcessAction::Stop,
    };
    let signal = Instant::now();
    control.inject(&[victim], control::process(action)).await.map_err(|why| anyhow!(why))?;
    let gone = Instant::now();
    let outage = loop {
        if let Some(outage) = outage(&shared.acks(), victim, signal, gone) {
            break outage;
        }
        if gone.elapsed() > OUTAGE_MAX {
            bail!("no write was acknowledged for {OUTAGE_MAX:?} after the end of node {victim}");
        }
        tokio::time::sleep(LOOK_EVERY).await;
    };
    control.inject(&[victim], control::process(ProcessAction::Start)).await.map_err(|why| anyhow!(why))?;
    Ok((victim, outage))
}

/// The longest stretch without an acknowledgement, up to the first one of a write that began when the process
/// was gone; `None` before there is such a one.
fn outage(acks: &[Ack], victim: u64, signal: Instant, gone: Instant) -> Option<Duration> {
    let mut others: Vec<&Ack> = acks.iter().filter(|ack| ack.node != victim && ack.at >= signal).collect();
    others.sort_unstable_by_key(|ack| ack.at);
    let last = others.iter().position(|ack| ack.began >= gone)?;
    let ends = others[..=last].iter().map(|ack| ack.at);
    let begins = std::iter::once(signal).chain(ends.clone());
    begins.zip(ends).map(|(from, to)| to.duration_since(from)).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outage_ends_with_a_write_that_began_after_the_end() {
        let zero = Instant::now();
        let at = |ms: u64| zero + Duration::from_millis(ms);
        let ack = |node, began, ended| Ack { node, began: at(began), at: at(ended) };
        let (signal, gone) = (at(100), at(110));
        // Sent by the old leader before it died, and by the victim itself: neither is a recovery.
        let mut acks = vec![ack(2, 90, 95), ack(2, 96, 104), ack(1, 120, 130)];
        assert_eq!(outage(&acks, 1, signal, gone), None);
        acks.extend([ack(3, 105, 900), ack(2, 901, 905), ack(3, 902, 910)]);
        assert_eq!(outage(&acks, 1, signal, gone), Some(Duration::from_millis(796)));
    }

    #[test]
    fn percentiles() {
        let values: Vec<Duration> = (1..=50).map(Duration::from_millis).collect();
        assert_eq!([50, 90, 100].map(|percent| at(&values, percent).as_millis()), [25, 45, 50]);
        assert_eq!(at(&values[..1], 50).as_millis(), 1);
    }
}
