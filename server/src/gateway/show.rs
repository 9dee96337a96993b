//! The rows of `SHOW NODES` and its like.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use paxos::GroupId;
use sql::engine::AdminRows;
use sql::types::{DataType, Datum};
use truetime::format_duration_ns;
use txn::{GroupStatus, Inspection, LockMode, LockRow, TxnId};

use super::status::{Answer, NodeStatus};

/// A group as its replicas describe it.
pub struct GroupView<'a> {
    /// By node.
    pub replicas: BTreeMap<u64, &'a GroupStatus>,
}

impl<'a> GroupView<'a> {
    /// The replica that leads, or else the one that has applied the most.
    pub fn best(&self) -> &'a GroupStatus {
        let leads = self.leader_replica();
        let newest = || self.replicas.values().copied().max_by_key(|replica| replica.applied);
        leads.or_else(newest).expect("a view has at least one replica")
    }

    fn leader_replica(&self) -> Option<&'a GroupStatus> {
        self.replicas.values().copied().filter(|replica| replica.lease_end.is_some()).max_by_key(|r| r.lease_end)
    }

    /// The node that leads with a valid lease, or the one that is believed to.
    pub fn leader(&self) -> Option<u64> {
        let leads = self.replicas.iter().filter(|(_, r)| r.lease_end.is_some()).max_by_key(|(_, r)| r.lease_end);
        // A belief is worth something only while the node believed in is there to lead.
        leads.map(|(node, _)| *node)
    }
}

/// The groups of all answers.
pub fn groups(answers: &[Answer]) -> BTreeMap<GroupId, GroupView<'_>> {
    let mut groups: BTreeMap<GroupId, GroupView> = BTreeMap::new();
    for status in answers.iter().filter_map(|(_, answer)| answer.as_ref().ok()) {
        for replica in &status.groups {
            let view = groups.entry(replica.range.group).or_insert_with(|| GroupView { replicas: BTreeMap::new() });
            view.replicas.insert(status.node, replica);
        }
    }
    groups
}

fn table(columns: &[(&str, DataType)], rows: Vec<Vec<Datum>>) -> AdminRows {
    AdminRows { columns: columns.iter().map(|(name, ty)| (name.to_string(), *ty)).collect(), rows }
}

fn text(value: impl Into<String>) -> Datum {
    Datum::Text(value.into())
}

fn int(value: u64) -> Datum {
    Datum::Int(i64::try_from(value).unwrap_or(i64::MAX))
}

fn option<T>(value: Option<T>, datum: impl FnOnce(T) -> Datum) -> Datum {
    value.map_or(Datum::Null, datum)
}

/// One row for each node.
pub fn nodes(answers: &[Answer]) -> AdminRows {
    let columns = [
        ("node", DataType::Int),
        ("address", DataType::Text),
        ("state", DataType::Text),
        ("version", DataType::Text),
        ("pid", DataType::Int),
        ("uptime_s", DataType::Int),
        ("groups", DataType::Int),
        ("leads", DataType::Int),
        ("problem", DataType::Text),
    ];
    let row = |(peer, answer): &Answer| {
        let mut row = vec![int(peer.node), text(&peer.address)];
        match answer {
            Ok(status) => {
                let leads = status.groups.iter().filter(|group| group.lease_end.is_some()).count();
                row.extend([
                    text(state(status)),
                    text(&status.version),
                    int(status.pid.into()),
                    int(status.uptime_ms.max(0).unsigned_abs() / 1000),
                    int(status.groups.len() as u64),
                    int(leads as u64),
                ]);
            }
            Err(why) => {
                row.push(text(format!("down: {why}")));
                row.extend(std::iter::repeat_n(Datum::Null, 5));
            }
        }
        row.push(option(peer.problem.clone().filter(|_| !peer.connected), text));
        row
    };
    table(&columns, answers.iter().map(row).collect())
}

fn state(status: &NodeStatus) -> String {
    let state = match (&status.clock.fenced, status.clock.trusted) {
        (Some(_), _) => "fenced",
        (None, false) => "clock not trusted",
        (None, true) => "up",
    };
    match status.fsync_delay {
        Duration::ZERO => state.to_string(),
        delay => format!("{state}, injected fsync delay {delay:?}"),
    }
}

/// One row for each group.
pub fn show_groups(answers: &[Answer]) -> AdminRows {
    let columns = [
        ("group", DataType::Int),
        ("leader", DataType::Int),
        ("lease_end", DataType::Timestamp),
        ("replicas", DataType::Text),
        ("applied", DataType::Int),
        ("chosen", DataType::Int),
        ("first_slot", DataType::Int),
        ("safe_ts", DataType::Timestamp),
        ("commits", DataType::Int),
        ("aborts", DataType::Int),
    ];
    let row = |(group, view): (&GroupId, &GroupView)| {
        let best = view.best();
        let replicas: Vec<String> = view.replicas.iter().map(|(node, r)| format!("{node}:{}", r.applied.0)).collect();
        vec![
            int(group.0),
            option(view.leader(), int),
            option(best.lease_end, Datum::Timestamp),
            text(replicas.join(" ")),
            int(best.applied.0),
            int(best.chosen.0),
            int(best.first_slot.0),
            Datum::Timestamp(best.safe_ts),
            int(view.replicas.values().map(|replica| replica.commits).sum()),
            int(view.replicas.values().map(|replica| replica.aborts).sum()),
        ]
    };
    table(&columns, groups(answers).iter().map(row).collect())
}

/// One row for each range, in the order of their keys.
pub fn ranges(answers: &[Answer]) -> AdminRows {
    let columns = [
        ("start_key", DataType::Bytes),
        ("end_key", DataType::Bytes),
        ("group", DataType::Int),
        ("leader", DataType::Int),
    ];
    let groups = groups(answers);
    let mut views: Vec<(&GroupId, &GroupView)> = groups.iter().collect();
    views.sort_by_key(|(_, view)| view.best().range.span.start.clone());
    let row = |(group, view): (&GroupId, &GroupView)| {
        let span = &view.best().range.span;
        vec![
            Datum::Bytes(span.start.to_vec()),
            Datum::Bytes(span.end.to_vec()),
            int(group.0),
            option(view.leader(), int),
        ]
    };
    table(&columns, views.into_iter().map(row).collect())
}

/// One row for each node's clock.
pub fn clock(answers: &[Answer]) -> AdminRows {
    let columns = [
        ("node", DataType::Int),
        ("source", DataType::Text),
        ("epsilon", DataType::Text),
        ("earliest", DataType::Timestamp),
        ("latest", DataType::Timestamp),
        ("trusted", DataType::Bool),
        ("jumps", DataType::Int),
        ("problem", DataType::Text),
    ];
    let row = |(peer, answer): &Answer| match answer {
        Ok(status) => {
            let clock = &status.clock;
            let mut problems: Vec<String> = clock.fenced.iter().chain(&clock.conflicts).cloned().collect();
            if !clock.trusted && clock.fenced.is_none() {
                problems.insert(0, "the clock is not synchronised: the node neither leads nor votes".into());
            }
            vec![
                int(peer.node),
                text(&clock.source),
                text(format_duration_ns(clock.interval.epsilon_ns())),
                Datum::Timestamp(clock.interval.earliest),
                Datum::Timestamp(clock.interval.latest),
                Datum::Bool(clock.trusted),
                int(clock.anomalies),
                option(Some(problems.join("; ")).filter(|problems| !problems.is_empty()), text),
            ]
        }
        Err(why) => {
            let mut row = vec![int(peer.node)];
            row.extend(std::iter::repeat_n(Datum::Null, 6));
            row.push(text(format!("down: {why}")));
            row
        }
    };
    table(&columns, answers.iter().map(row).collect())
}

/// One row for each transaction and group.
pub fn transactions(inspections: &[(GroupId, Inspection)]) -> AdminRows {
    let columns = [
        ("transaction", DataType::Text),
        ("group", DataType::Int),
        ("state", DataType::Text),
        ("gateway", DataType::Int),
        ("began", DataType::Timestamp),
        ("prepare_ts", DataType::Timestamp),
        ("idle", DataType::Text),
        ("waits_for", DataType::Text),
    ];
    let rows = inspections.iter().flat_map(|(group, inspection)| {
        inspection.txns.iter().map(|row| {
            vec![
                text(row.txn.to_string()),
                int(group.0),
                text(&row.state),
                int(row.txn.gateway().0),
                Datum::Timestamp(row.txn.start()),
                option(row.prepare_ts, Datum::Timestamp),
                text(format_duration_ns(row.idle_ns)),
                option(waits_for(inspection, row.txn), text),
            ]
        })
    });
    table(&columns, rows.collect())
}

/// The transactions whose locks one waits for, in one group; `None` if it waits for none. One that waits behind
/// others that wait is not told of those.
fn waits_for(inspection: &Inspection, txn: TxnId) -> Option<String> {
    let wants: Vec<&LockRow> = inspection.locks.iter().filter(|lock| lock.txn == txn && !lock.held).collect();
    let in_its_way = |held: &&LockRow| {
        held.held
            && held.txn != txn
            && wants.iter().any(|want| {
                want.span.overlaps(&held.span) && (want.mode == LockMode::Exclusive || held.mode == LockMode::Exclusive)
            })
    };
    let holders: BTreeSet<TxnId> = inspection.locks.iter().filter(in_its_way).map(|held| held.txn).collect();
    let holders: Vec<String> = holders.iter().map(TxnId::to_string).collect();
    (!holders.is_empty()).then(|| holders.join(", "))
}

/// One row for each lock.
pub fn locks(inspections: &[(GroupId, Inspection)]) -> AdminRows {
    let columns = [
        ("group", DataType::Int),
        ("transaction", DataType::Text),
        ("start_key", DataType::Bytes),
        ("end_key", DataType::Bytes),
        ("mode", DataType::Text),
        ("held", DataType::Bool),
    ];
    let rows = inspections.iter().flat_map(|(group, inspection)| {
        inspection.locks.iter().map(|row| {
            // A lock on one key has no end of its own.
            let end = if row.span.is_point() { Datum::Null } else { Datum::Bytes(row.span.end.to_vec()) };
            let mode = match row.mode {
                LockMode::Shared => "shared",
                LockMode::Exclusive => "exclusive",
            };
            vec![
                int(group.0),
                text(row.txn.to_string()),
                Datum::Bytes(row.span.start.to_vec()),
                end,
                text(mode),
                Datum::Bool(row.held),
            ]
        })
    });
    table(&columns, rows.collect())
}

/// What the comparison of a group's replicas came to.
pub struct Verdict {
    /// The slot at which they were compared; without a comparison, the least applied.
    pub applied: u64,
    /// Each node's hash; without a comparison, its applied slot.
    pub replicas: String,
    /// `None`: they were never seen at the same slot.
    pub equal: Option<bool>,
}

/// The verdict on each group's replicas.
pub fn checksums(verdicts: Vec<(GroupId, Verdict)>) -> AdminRows {
    let columns =
        [("group", DataType::Int), ("applied", DataType::Int), ("replicas", DataType::Text), ("equal", DataType::Bool)];
    let row = |(group, verdict): (GroupId, Verdict)| {
        vec![int(group.0), int(verdict.applied), text(verdict.replicas), option(verdict.equal, Datum::Bool)]
    };
    table(&columns, verdicts.into_iter().map(row).collect())
}

/// How a transaction ended.
pub fn transaction_status(status: txn::TxnStatus) -> AdminRows {
    let columns = [("status", DataType::Text), ("commit_ts", DataType::Timestamp)];
    let row = match status {
        txn::TxnStatus::Committed(at) => vec![text("committed"), Datum::Timestamp(at)],
        txn::TxnStatus::Aborted => vec![text("aborted"), Datum::Null],
        txn::TxnStatus::Unknown => vec![text("unknown"), Datum::Null],
    };
    table(&columns, vec![row])
}

#[cfg(test)]
mod tests {
    use super::*;
    use txn::Span;

    #[test]
    fn whom_a_transaction_waits_for() {
        let (a, b, c) = (TxnId(1), TxnId(2), TxnId(3));
        let lock = |txn, key: &'static [u8], mode, held| LockRow { txn, span: Span::point(key), mode, held };
        let (shared, exclusive) = (LockMode::Shared, LockMode::Exclusive);
        let locks = vec![
            lock(a, b"k", shared, true),
            lock(b, b"k", shared, true),
            lock(b, b"other", exclusive, true),
            lock(c, b"k", exclusive, false),
            lock(a, b"k", exclusive, false),
        ];
        let inspection = Inspection { txns: Vec::new(), locks };
        assert_eq!(waits_for(&inspection, c), Some(format!("{a}, {b}")));
        assert_eq!(waits_for(&inspection, a), Some(b.to_string()), "nobody waits for himself");
        assert_eq!(waits_for(&inspection, b), None);
    }
}
