//! What the nemesis sees of the cluster: who leads, whose clock is how uncertain, who answers.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proto::v1::StatusResponse;

use crate::client;

/// How long a node may take to answer while others wait.
const LOOK_TIMEOUT: Duration = Duration::from_millis(700);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The answers of all nodes that answer, by number.
pub async fn look(nodes: &BTreeMap<u64, String>) -> BTreeMap<u64, StatusResponse> {
    let asked = nodes.values().map(|address| client::status(address, LOOK_TIMEOUT));
    let answers = futures::future::join_all(asked).await;
    nodes.keys().copied().zip(answers).filter_map(|(node, answer)| Some((node, answer.ok()?))).collect()
}

/// The node that leads each group with a valid lease, in the order of the groups.
pub fn leaders(seen: &BTreeMap<u64, StatusResponse>) -> Vec<(u64, u64)> {
    let mut found: BTreeMap<u64, (i64, u64)> = BTreeMap::new();
    for (node, status) in seen {
        for group in status.groups.iter().filter(|group| group.leading) {
            let best = found.entry(group.group).or_insert((i64::MIN, *node));
            *best = (*best).max((group.lease_end_ns, *node));
        }
    }
    found.into_iter().map(|(group, (_, node))| (group, node)).collect()
}

/// Looks until all is as wished, or returns what was not when the time was over.
pub async fn until<T>(
    limit: Duration,
    nodes: &BTreeMap<u64, String>,
    wish: impl Fn(&BTreeMap<u64, StatusResponse>) -> Result<T, String>,
) -> Result<T, String> {
    let deadline = Instant::now() + limit;
    loop {
        match wish(&look(nodes).await) {
            Ok(found) => return Ok(found),
            Err(why) if Instant::now() > deadline => return Err(why),
            Err(_) => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
}

/// All nodes answer, reach each other, and trust their clocks.
pub fn well(nodes: &BTreeMap<u64, String>, seen: &BTreeMap<u64, StatusResponse>) -> Result<(), String> {
    for node in nodes.keys() {
        let status = seen.get(node).ok_or_else(|| format!("node {node} does not answer"))?;
        if let Some(peer) = status.peers.iter().find(|peer| !peer.connected && peer.node != *node) {
            return Err(format!("node {node} has no connection to node {}: {}", peer.node, peer.problem));
        }
        if !status.clock.as_ref().is_some_and(|clock| clock.trusted) {
            return Err(format!("node {node} does not trust its clock"));
        }
    }
    Ok(())
}
