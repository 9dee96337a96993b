//! The boundary: wire types become domain types here, and nowhere else.

pub mod peer;

use std::time::Duration;

use proto::v1;
use proto::v1::value::Kind;
use sql::engine::CommitInfo;
use sql::sink::{ColumnInfo, Completion};
use sql::types::{DataType, Datum};
use sql::{SessionState, SqlError};
use truetime::{Interval, Timestamp};
use txn::{GroupStatus, RangeDescriptor, Span};

use crate::gateway::admission::AdmissionState;
use crate::gateway::status::{ClockSummary, Counters, NodeStatus};
use crate::transport::PeerState;

/// A type, to the wire.
pub fn data_type(ty: DataType) -> v1::Type {
    match ty {
        DataType::Bool => v1::Type::Boolean,
        DataType::Int => v1::Type::Bigint,
        DataType::Float => v1::Type::Double,
        DataType::Text => v1::Type::Text,
        DataType::Bytes => v1::Type::Bytea,
        DataType::Timestamp => v1::Type::Timestamptz,
        DataType::Int2 => v1::Type::Smallint,
        DataType::Int4 => v1::Type::Integer,
        DataType::Float4 => v1::Type::Real,
        DataType::Numeric => v1::Type::Numeric,
        DataType::Char => v1::Type::Character,
        DataType::Date => v1::Type::Date,
        DataType::Time => v1::Type::Time,
        DataType::LocalTimestamp => v1::Type::Timestamp,
        DataType::Interval => v1::Type::Interval,
        DataType::Uuid => v1::Type::Uuid,
        DataType::Json => v1::Type::Jsonb,
        // The proto numbers an array's type 100 above its element's.
        DataType::Array(element) => {
            let element = data_type(element.data_type());
            v1::Type::try_from(i32::from(element) + 100).expect("every type has its array")
        }
    }
}

/// A value, to the wire.
pub fn value(datum: Datum) -> v1::Value {
    let kind = match datum {
        Datum::Null => None,
        Datum::Bool(v) => Some(Kind::Boolean(v)),
        Datum::Int(v) => Some(Kind::Bigint(v)),
        Datum::Float(v) => Some(Kind::Double(v)),
        Datum::Text(v) => Some(Kind::Text(v)),
        Datum::Bytes(v) => Some(Kind::Bytea(v)),
        Datum::Timestamp(v) => Some(Kind::TimestampNs(v.as_nanos())),
        other => sql::value::to_text(&other).map(Kind::Text),
    };
    v1::Value { kind }
}

/// A value, from the wire. Every form is a value.
pub fn datum(value: v1::Value) -> Datum {
    match value.kind {
        None => Datum::Null,
        Some(Kind::Boolean(v)) => Datum::Bool(v),
        Some(Kind::Bigint(v)) => Datum::Int(v),
        Some(Kind::Double(v)) => Datum::Float(v),
        Some(Kind::Text(v)) => Datum::Text(v),
        Some(Kind::Bytea(v)) => Datum::Bytes(v),
        Some(Kind::TimestampNs(v)) => Datum::Timestamp(Timestamp::from_nanos(v)),
    }
}

/// Parameters of a statement, from the wire.
pub fn datums(values: Vec<v1::Value>) -> Vec<Datum> {
    values.into_iter().map(datum).collect()
}

/// Columns, to the wire.
pub fn columns(columns: Vec<ColumnInfo>) -> Vec<v1::Column> {
    columns.into_iter().map(|c| v1::Column { name: c.name, r#type: data_type(c.ty).into() }).collect()
}

/// A row, to the wire.
pub fn row(row: Vec<Datum>) -> v1::Row {
    v1::Row { values: row.into_iter().map(value).collect() }
}

/// The end of a statement, to the wire.
pub fn complete(completion: Completion) -> v1::Complete {
    v1::Complete {
        tag: completion.tag,
        commit: completion.commit.map(commit),
        read_ts_ns: completion.read_ts.map_or(0, Timestamp::as_nanos),
        elapsed_ns: completion.elapsed_ns,
    }
}

fn commit(info: CommitInfo) -> v1::Commit {
    let timing = info.timing;
    v1::Commit {
        transaction: info.txn.to_string(),
        commit_ts_ns: info.commit_ts.map_or(0, Timestamp::as_nanos),
        participants: info.participants,
        lock_wait_ns: timing.lock_wait_ns,
        prepare_ns: timing.prepare_ns,
        replicate_ns: timing.replicate_ns,
        commit_wait_ns: timing.commit_wait_ns,
        apply_ns: timing.apply_ns,
        coordinator_ns: timing.total_ns,
        total_ns: info.total_ns,
    }
}

/// An error, to the wire.
pub fn error(err: SqlError) -> v1::Error {
    let (transaction, coordinator) =
        err.ambiguous.map_or_else(Default::default, |ambiguous| (ambiguous.txn.to_string(), ambiguous.coordinator));
    v1::Error {
        sqlstate: err.sqlstate.to_string(),
        message: err.message,
        detail: err.detail.unwrap_or_default(),
        hint: err.hint.unwrap_or_default(),
        position: err.position.unwrap_or_default(),
        transaction,
        coordinator,
    }
}

/// Where a session stands, to the wire.
pub fn session_state(state: SessionState) -> v1::Ready {
    let (state, read_ts, txn) = match state {
        SessionState::Idle => (v1::TransactionState::Idle, None, None),
        SessionState::Open { txn } => (v1::TransactionState::Open, None, Some(txn)),
        SessionState::ReadOnly { read_ts } => (v1::TransactionState::ReadOnly, read_ts, None),
        SessionState::Failed => (v1::TransactionState::Failed, None, None),
    };
    v1::Ready {
        state: state.into(),
        read_ts_ns: read_ts.map_or(0, Timestamp::as_nanos),
        transaction: txn.map_or_else(String::new, |txn| txn.to_string()),
    }
}

fn group(status: GroupStatus) -> v1::GroupStatus {
    v1::GroupStatus {
        group: status.range.group.0,
        start: status.range.span.start.to_vec(),
        end: status.range.span.end.to_vec(),
        leader: status.leader.map_or(0, |node| node.0),
        leading: status.lease_end.is_some(),
        lease_end_ns: status.lease_end.map_or(0, Timestamp::as_nanos),
        applied: status.applied.0,
        chosen: status.chosen.0,
        safe_ts_ns: status.safe_ts.as_nanos(),
        first_slot: status.first_slot.0,
        epoch: status.range.epoch,
        commits: status.commits,
        aborts: status.aborts,
    }
}

fn group_from(status: v1::GroupStatus) -> GroupStatus {
    let range = RangeDescriptor {
        group: paxos::GroupId(status.group),
        span: Span::new(status.start, status.end),
        epoch: status.epoch,
    };
    GroupStatus {
        range,
        leader: (status.leader != 0).then_some(paxos::NodeId(status.leader)),
        lease_end: status.leading.then(|| Timestamp::from_nanos(status.lease_end_ns)),
        applied: paxos::Slot(status.applied),
        chosen: paxos::Slot(status.chosen),
        first_slot: paxos::Slot(status.first_slot),
        safe_ts: Timestamp::from_nanos(status.safe_ts_ns),
        commits: status.commits,
        aborts: status.aborts,
    }
}

/// A node's status, to the wire.
pub fn node_status(status: NodeStatus) -> v1::StatusResponse {
    let peer = |peer: PeerState| v1::PeerStatus {
        node: peer.node,
        address: peer.address,
        connected: peer.connected,
        problem: peer.problem.unwrap_or_default(),
    };
    let clock = v1::ClockStatus {
        source: status.clock.source,
        earliest_ns: status.clock.interval.earliest.as_nanos(),
        latest_ns: status.clock.interval.latest.as_nanos(),
        trusted: status.clock.trusted,
        fenced: status.clock.fenced.unwrap_or_default(),
        anomalies: status.clock.anomalies,
        conflicts: status.clock.conflicts,
    };
    let counters = status.counters;
    v1::StatusResponse {
        node: status.node,
        version: status.version,
        cluster_id: status.cluster_id,
        peers: status.peers.into_iter().map(peer).collect(),
        clock: Some(clock),
        groups: status.groups.into_iter().map(group).collect(),
        counters: Some(v1::Counters {
            fsyncs: counters.fsyncs,
            log_bytes: counters.log_bytes,
            cpu_us: counters.cpu_us,
            commits: counters.commits,
            aborts: counters.aborts,
            messages_sent: counters.messages_sent,
            batches_sent: counters.batches_sent,
            resident_bytes: counters.resident_bytes,
            messages_dropped: counters.messages_dropped,
            messages_malformed: counters.messages_malformed,
            sessions_open: counters.sessions_open,
            sessions_refused: counters.sessions_refused,
            statements_active: counters.admission.active,
            statements_queued: counters.admission.queued,
            statements_refused: counters.admission.refused,
            session_bytes: counters.session_bytes,
            log_queue_bytes: counters.log_queue_bytes,
            connections_open: counters.connections_open,
            connections_refused: counters.connections_refused,
        }),
        data_dir: status.data_dir,
        pid: status.pid,
        uptime_ms: status.uptime_ms,
        faults_at: status.faults_at,
        fsync_delay_ns: i64::try_from(status.fsync_delay.as_nanos()).unwrap_or(i64::MAX),
    }
}

fn nonempty(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

/// A node's status, from the wire: an error if it makes no sense.
pub fn node_status_from(status: v1::StatusResponse) -> Result<NodeStatus, String> {
    let peer = |peer: v1::PeerStatus| PeerState {
        node: peer.node,
        address: peer.address,
        connected: peer.connected,
        problem: nonempty(peer.problem),
    };
    let clock = status.clock.ok_or("a status without a clock")?;
    let interval = Interval::checked(Timestamp::from_nanos(clock.earliest_ns), Timestamp::from_nanos(clock.latest_ns))
        .ok_or("a status with a malformed interval")?;
    let counters = status.counters.unwrap_or_default();
    Ok(NodeStatus {
        node: status.node,
        version: status.version,
        cluster_id: status.cluster_id,
        peers: status.peers.into_iter().map(peer).collect(),
        clock: ClockSummary {
            source: clock.source,
            interval,
            trusted: clock.trusted,
            fenced: nonempty(clock.fenced),
            anomalies: clock.anomalies,
            conflicts: clock.conflicts,
        },
        groups: status.groups.into_iter().map(group_from).collect(),
        counters: Counters {
            fsyncs: counters.fsyncs,
            log_bytes: counters.log_bytes,
            cpu_us: counters.cpu_us,
            commits: counters.commits,
            aborts: counters.aborts,
            messages_sent: counters.messages_sent,
            batches_sent: counters.batches_sent,
            resident_bytes: counters.resident_bytes,
            messages_dropped: counters.messages_dropped,
            messages_malformed: counters.messages_malformed,
            sessions_open: counters.sessions_open,
            sessions_refused: counters.sessions_refused,
            admission: AdmissionState {
                active: counters.statements_active,
                queued: counters.statements_queued,
                refused: counters.statements_refused,
            },
            session_bytes: counters.session_bytes,
            log_queue_bytes: counters.log_queue_bytes,
            connections_open: counters.connections_open,
            connections_refused: counters.connections_refused,
        },
        data_dir: status.data_dir,
        pid: status.pid,
        uptime_ms: status.uptime_ms,
        faults_at: status.faults_at,
        fsync_delay: Duration::from_nanos(u64::try_from(status.fsync_delay_ns).unwrap_or_default()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_has_its_own_number() {
        let types: std::collections::BTreeSet<i32> = DataType::all().map(|ty| data_type(ty).into()).collect();
        assert_eq!(types.len(), DataType::all().count());
    }

    #[test]
    fn values_round_trip() {
        for one in [
            Datum::Null,
            Datum::Bool(true),
            Datum::Int(i64::MIN),
            Datum::Float(-0.5),
            Datum::Text("ü".into()),
            Datum::Bytes(vec![0, 255]),
            Datum::Timestamp(Timestamp::from_nanos(-1)),
        ] {
            assert_eq!(datum(value(one.clone())), one);
        }
        let half = Datum::Numeric(sql::types::Numeric::parse("0.50").unwrap());
        assert_eq!(datum(value(half)), Datum::Text("0.50".into()), "other types are their text");
    }

    #[test]
    fn a_status_round_trips() {
        let range = RangeDescriptor { group: paxos::GroupId(3), span: Span::new(&b"a"[..], &b""[..]), epoch: 2 };
        let status = NodeStatus {
            node: 2,
            version: "1".into(),
            cluster_id: "c".into(),
            peers: vec![PeerState { node: 1, address: "a:1".into(), connected: false, problem: Some("x".into()) }],
            clock: ClockSummary {
                source: "kernel".into(),
                interval: Interval::around(Timestamp::from_nanos(5), 3),
                trusted: false,
                fenced: Some("why".into()),
                anomalies: 7,
                conflicts: vec!["c".into()],
            },
            groups: vec![GroupStatus {
                range,
                leader: None,
                lease_end: Some(Timestamp::from_nanos(9)),
                applied: paxos::Slot(4),
                chosen: paxos::Slot(5),
                first_slot: paxos::Slot(1),
                safe_ts: Timestamp::from_nanos(8),
                commits: 11,
                aborts: 12,
            }],
            counters: Counters { fsyncs: 1, log_bytes: 2, cpu_us: 3, sessions_open: 4, ..Counters::default() },
            data_dir: "d".into(),
            pid: 6,
            uptime_ms: 7,
            faults_at: "127.0.0.1:8".into(),
            fsync_delay: Duration::from_millis(9),
        };
        let sent = node_status(status.clone());
        let back = node_status_from(sent.clone()).unwrap();
        assert_eq!(format!("{back:?}"), format!("{status:?}"));
        assert!(node_status_from(v1::StatusResponse { clock: None, ..sent.clone() }).is_err());
        let clock = v1::ClockStatus { earliest_ns: 2, latest_ns: 1, ..v1::ClockStatus::default() };
        assert!(node_status_from(v1::StatusResponse { clock: Some(clock), ..sent }).is_err());
    }

    #[test]
    fn an_ambiguous_commit_names_its_transaction() {
        let txn = "0000000000000001000200000000000a".parse().unwrap();
        let err: SqlError = txn::client::ClientError::Ambiguous { txn, coordinator: paxos::GroupId(5) }.into();
        let sent = error(err);
        assert_eq!((sent.sqlstate.as_str(), sent.coordinator), ("40003", 5));
        assert_eq!(sent.transaction, "0000000000000001000200000000000a");
    }
}
