//! Cluster-wide operations: what `SHOW NODES` and its like, `SET ... CLOCK`, `ALTER TABLE ... SPLIT`
//! and `CHECK REPLICAS` do below SQL.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use paxos::{GroupId, NodeId};
use sql::engine::{AdminCommand, AdminRows, Engine as _, Transaction as _};
use truetime::ClockSpec;
use truetime::source::BaseSpec;
use txn::client::{ClientError, GroupOp, Outcome, StatusQuery};
use txn::{GroupError, Inspection, Key, LockMode, Mutation, ReadOp, Reply, RequestBody, Span, TxnId, TxnStatus};

use super::{GatewayEngine, show};

/// The system key that holds the largest group number ever given, as decimal digits.
const GROUP_COUNTER_KEY: &[u8] = b"\x00server/last-group";
/// Groups 0 and 1 exist from the start.
const FIRST_NEW_GROUP: u64 = 2;
/// Tries of an operation that meets others in its way.
const TRIES_MAX: usize = 10;
/// The pause between two looks at replicas that are not equally far, or at a group being born.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// How often to look before giving up.
const LOOKS_MAX: usize = 200;
/// A lease must outlast the uncertainty of the clocks by this factor, or it ends as it begins.
const LEASE_PER_EPSILON: i64 = 4;

/// Checks that leases of this length can hold under a clock source.
pub fn check_epsilon(spec: &ClockSpec, lease_ns: i64) -> Result<(), String> {
    let base_ns = match spec.base() {
        BaseSpec::Fixed { epsilon_ns } => epsilon_ns,
        BaseSpec::Kernel => 0,
    };
    let sawtooth_ns = match spec {
        ClockSpec::Sim(sim) => sim.sawtooth.map_or(0, |sawtooth| sawtooth.high_ns),
        ClockSpec::Base(_) => 0,
    };
    let epsilon_ns = base_ns.max(sawtooth_ns);
    if epsilon_ns.saturating_mul(LEASE_PER_EPSILON) > lease_ns {
        return Err(format!(
            "a clock bound of {} needs a lease of at least {}, and the lease is {}",
            truetime::format_duration_ns(epsilon_ns),
            truetime::format_duration_ns(epsilon_ns.saturating_mul(LEASE_PER_EPSILON)),
            truetime::format_duration_ns(lease_ns)
        ));
    }
    Ok(())
}

/// Does a command.
pub(super) async fn run(engine: &GatewayEngine, command: AdminCommand) -> Result<AdminRows, ClientError> {
    match command {
        AdminCommand::ShowNodes => Ok(show::nodes(&engine.gather().await)),
        AdminCommand::ShowGroups => Ok(show::show_groups(&engine.gather().await)),
        AdminCommand::ShowRanges => Ok(show::ranges(&engine.gather().await)),
        AdminCommand::ShowClock => Ok(show::clock(&engine.gather().await)),
        AdminCommand::ShowTransactions => Ok(show::transactions(&inspect(engine).await?)),
        AdminCommand::ShowLocks => Ok(show::locks(&inspect(engine).await?)),
        AdminCommand::SetClock { node, spec } => set_clock(engine, node, &spec).await,
        AdminCommand::CheckReplicas => check_replicas(engine).await,
        AdminCommand::TransactionStatus { txn, coordinator } => {
            Ok(show::transaction_status(transaction_status(engine, txn, coordinator).await?))
        }
        AdminCommand::Split { at } => split(engine, at).await,
    }
}

/// Every group that some node has.
async fn all_groups(engine: &GatewayEngine) -> Vec<GroupId> {
    show::groups(&engine.gather().await).into_keys().collect()
}

async fn group_op(
    engine: &GatewayEngine,
    group: GroupId,
    body: RequestBody,
    node: Option<NodeId>,
) -> Result<Reply, ClientError> {
    match engine.drive(GroupOp::new(group, body, node)).await {
        Outcome::Reply(reply) => Ok(reply),
        Outcome::Failed(err) => Err(err),
        outcome => unreachable!("a request to a group ended with {outcome:?}"),
    }
}

async fn inspect(engine: &GatewayEngine) -> Result<Vec<(GroupId, Inspection)>, ClientError> {
    let ask = async |group: GroupId| match group_op(engine, group, RequestBody::Inspect, None).await? {
        Reply::Inspection(inspection) => Ok((group, inspection)),
        reply => Err(nonsense(group, &reply)),
    };
    futures::future::try_join_all(all_groups(engine).await.into_iter().map(ask)).await
}

fn nonsense(group: GroupId, reply: &Reply) -> ClientError {
    tracing::warn!(%group, ?reply, "an answer to another question");
    ClientError::Unavailable(format!("{group} sent an answer to another question"))
}

async fn set_clock(engine: &GatewayEngine, node: Option<u64>, spec: &str) -> Result<AdminRows, ClientError> {
    let spec: ClockSpec =
        spec.parse().map_err(|err| ClientError::Invalid(format!("\"{spec}\" is not a clock source: {err}")))?;
    check_epsilon(&spec, engine.shared.about.lease_ns).map_err(ClientError::Invalid)?;
    let all = engine.transport().identity().peers.ids();
    let nodes = match node {
        Some(node) if !all.contains(&node) => return Err(ClientError::Invalid(format!("there is no node {node}"))),
        Some(node) => vec![node],
        None => all,
    };
    let mut failed = Vec::new();
    for node in nodes {
        if let Err(why) = engine.set_clock(node, &spec).await {
            failed.push(format!("node {node}: {why}"));
        }
    }
    if failed.is_empty() {
        return Ok(AdminRows::default());
    }
    Err(ClientError::Unavailable(format!("the clock was not set everywhere: {}", failed.join("; "))))
}

/// Of the group named, or of all groups: then it is committed if one says so, and
/// aborted if all do.
async fn transaction_status(
    engine: &GatewayEngine,
    txn: TxnId,
    coordinator: Option<u64>,
) -> Result<TxnStatus, ClientError> {
    let ask = async |group: GroupId| match engine.drive(StatusQuery::new(txn, group)).await {
        Outcome::Status(status) => Ok(status),
        Outcome::Failed(err) => Err(err),
        outcome => unreachable!("a status query ended with {outcome:?}"),
    };
    if let Some(coordinator) = coordinator {
        return ask(GroupId(coordinator)).await;
    }
    let groups = all_groups(engine).await;
    let answers = futures::future::join_all(groups.into_iter().map(ask)).await;
    let mut verdict = Ok(TxnStatus::Aborted);
    for answer in answers {
        match answer {
            Ok(TxnStatus::Committed(at)) => return Ok(TxnStatus::Committed(at)),
            Ok(TxnStatus::Unknown) if verdict.is_ok() => verdict = Ok(TxnStatus::Unknown),
            Ok(_) => {}
            Err(err) => verdict = Err(err),
        }
    }
    verdict
}

/// Compares the hashes of all replicas of each group, taken at the same applied slot (I6).
async fn check_replicas(engine: &GatewayEngine) -> Result<AdminRows, ClientError> {
    let nodes: Vec<NodeId> = engine.transport().identity().peers.ids().into_iter().map(NodeId).collect();
    let mut verdicts = Vec::new();
    for group in all_groups(engine).await {
        verdicts.push(check_group(engine, group, &nodes).await?);
    }
    Ok(show::checksums(verdicts))
}

async fn check_group(
    engine: &GatewayEngine,
    group: GroupId,
    nodes: &[NodeId],
) -> Result<(GroupId, show::Verdict), ClientError> {
    let ask = async |node: NodeId| match group_op(engine, group, RequestBody::Checksum, Some(node)).await? {
        Reply::Checksum { applied, hash } => Ok((node, applied, hash)),
        reply => Err(nonsense(group, &reply)),
    };
    // Hashes by slot, kept over the rounds: while a group is written, replicas are seldom asked at
    // the same slot, but each passes slots at which another was asked before.
    let mut seen: BTreeMap<u64, BTreeMap<NodeId, u64>> = BTreeMap::new();
    let mut last = BTreeMap::new();
    for _ in 0..LOOKS_MAX {
        for (node, applied, hash) in futures::future::try_join_all(nodes.iter().copied().map(ask)).await? {
            seen.entry(applied).or_default().insert(node, hash);
            last.insert(node, applied);
        }
        for (applied, hashes) in &seen {
            let first = hashes.values().next();
            let replicas =
                || hashes.iter().map(|(n, hash)| format!("{}:{hash:016x}", n.0)).collect::<Vec<_>>().join(" ");
            if hashes.values().any(|hash| Some(hash) != first) {
                tracing::error!("the replicas of {group} differ at slot {applied}: {}", replicas());
                return Ok((group, show::Verdict { applied: *applied, replicas: replicas(), equal: Some(false) }));
            }
            if hashes.len() == nodes.len() {
                return Ok((group, show::Verdict { applied: *applied, replicas: replicas(), equal: Some(true) }));
            }
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    let applied: Vec<String> = last.iter().map(|(node, applied)| format!("{}:{applied}", node.0)).collect();
    let least = last.values().min().copied().unwrap_or_default();
    Ok((group, show::Verdict { applied: least, replicas: applied.join(" "), equal: None }))
}

/// Splits the range that holds the key, unless it begins there already.
async fn split(engine: &GatewayEngine, at: Key) -> Result<AdminRows, ClientError> {
    let new_group = allocate_group(engine).await?;
    let nodes = engine.transport().identity().peers.ids();
    let leader = NodeId(nodes[(new_group.0 % nodes.len() as u64) as usize]);
    for _ in 0..TRIES_MAX {
        let Some(range) = locate(engine, &at).await? else { continue };
        if range.span.start == at {
            // Split there before, perhaps by a try of ours whose answer was lost.
            return split_done(engine, at, range.group).await;
        }
        let body = RequestBody::Split { at: at.clone(), new_group, leader };
        match group_op(engine, range.group, body, None).await {
            Ok(Reply::Done) => return split_done(engine, at, new_group).await,
            Ok(Reply::Error(GroupError::WrongRange(_))) => {}
            Ok(reply) => return Err(nonsense(range.group, &reply)),
            // Perhaps a repeated request whose first copy was executed.
            Err(ClientError::Invalid(why)) => {
                tracing::debug!("a split was refused: {why}");
                if locate(engine, &at).await?.is_some_and(|range| range.span.start == at) {
                    continue;
                }
                return Err(ClientError::Invalid(why));
            }
            Err(err) => return Err(err),
        }
    }
    Err(ClientError::Unavailable("the range to be split keeps changing".into()))
}

/// Waits until the new group has a leader, so that what follows meets no election.
async fn split_done(engine: &GatewayEngine, at: Key, group: GroupId) -> Result<AdminRows, ClientError> {
    for _ in 0..LOOKS_MAX {
        let answers = engine.gather().await;
        let groups = show::groups(&answers);
        if let Some(view) = groups.get(&group) {
            let mut gateway = engine.shared.gateway();
            for (known, view) in &groups {
                gateway.router.learn_range(view.best().range.clone());
                gateway.router.learn_leader(*known, view.leader().map(NodeId));
            }
            if view.leader().is_some() && view.best().range.span.start == at {
                break;
            }
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Ok(AdminRows::default())
}

/// The range that holds a key, as its group says.
async fn locate(engine: &GatewayEngine, key: &Key) -> Result<Option<txn::RangeDescriptor>, ClientError> {
    // A read makes the router learn what is true now.
    let op = ReadOp { span: Span::point(key.clone()), reverse: false, limit: 1 };
    engine.snapshot(sql::engine::ReadBound::Strong, vec![op]).await?;
    Ok(engine.shared.gateway().router.locate(key))
}

/// A group number that was never given before: a counter under a system key.
async fn allocate_group(engine: &GatewayEngine) -> Result<GroupId, ClientError> {
    let mut priority = None;
    let mut tries = 0;
    loop {
        let mut txn = engine.begin(priority);
        priority = Some(txn.priority());
        tries += 1;
        let next = async {
            let op = ReadOp { span: Span::point(GROUP_COUNTER_KEY.to_vec()), reverse: false, limit: 1 };
            let results = txn.read(vec![op], LockMode::Exclusive).await?;
            let last = results.first().and_then(|result| result.rows.first()).map(|row| &row.value);
            let last: u64 = match last {
                None => FIRST_NEW_GROUP - 1,
                Some(digits) => std::str::from_utf8(digits)
                    .ok()
                    .and_then(|digits| digits.parse().ok())
                    .ok_or_else(|| ClientError::Invalid("the counter of groups is damaged".into()))?,
            };
            let next = last + 1;
            let value = Bytes::from(next.to_string());
            txn.write(vec![Mutation { key: Bytes::from_static(GROUP_COUNTER_KEY), value: Some(value) }])?;
            txn.commit(None).await?;
            Ok(GroupId(next))
        };
        match next.await {
            Err(ClientError::Aborted { retryable: true, .. }) if tries < TRIES_MAX => {}
            // An ambiguous commit wastes a number at worst.
            Err(ClientError::Ambiguous { .. }) if tries < TRIES_MAX => {}
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_that_no_lease_outlasts_is_refused() {
        let check = |spec: &str| check_epsilon(&spec.parse().unwrap(), 2_000_000_000);
        assert!(check("fixed:500ms").is_ok() && check("kernel").is_ok());
        assert!(check("fixed:5s").unwrap_err().contains("lease"));
        assert!(check("sim:fixed:1ms,sawtooth=1ms..1s/30s").unwrap_err().contains("lease"));
    }
}
