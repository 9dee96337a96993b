//! Real inputs to begin with: what the encoders write, and text as users write it.

use std::collections::BTreeSet;

use bytes::Bytes;
use paxos::{
    Ballot, Configuration, Entry, GroupId, HardState, LeaseRequest, LeaseVote, Message, NodeId, Payload, Refusal, Slot,
};
use prost::Message as _;
use proto::v1;
use sql::row as rows;
use sql::types::{DataType, Datum, Interval, Json, Numeric};
use truetime::Timestamp;
use txn::command::{Command, PreparedTxn};
use txn::meta::{self, GroupMeta};
use txn::{
    AbortReason, CommitTiming, GroupError, Inspection, LockMode, LockPolicy, Mutation, NodeMessage, Priority,
    RangeDescriptor, ReadOp, ReadResult, Reply, Request, RequestBody, Row, SnapshotEnd, SnapshotMessage, Span,
    TwoPhase, TxnId, TxnStatus, keyspace,
};

type Seeds = Vec<Vec<u8>>;

fn vecs(all: impl IntoIterator<Item = Bytes>) -> Seeds {
    all.into_iter().map(|bytes| bytes.to_vec()).collect()
}

fn texts(all: &[&str]) -> Seeds {
    all.iter().map(|text| text.as_bytes().to_vec()).collect()
}

fn tagged(tag: u8, bytes: &[u8]) -> Vec<u8> {
    [&[tag], bytes].concat()
}

fn ts(ns: i64) -> Timestamp {
    Timestamp::from_nanos(ns)
}

fn ballot() -> Ballot {
    Ballot { round: 3, node: NodeId(2) }
}

fn config() -> Configuration {
    Configuration { learners: BTreeSet::from([NodeId(4)]), ..Configuration::of_voters((1..=3).map(NodeId)) }
}

fn entries() -> Vec<Entry> {
    let payloads = [Payload::Start, Payload::Noop, Payload::Command(b"command"[..].into()), Payload::Config(config())];
    let entry = |(at, payload)| Entry { slot: Slot(at), ballot: ballot(), origin: Ballot::ZERO, payload };
    (7..).zip(payloads).map(entry).collect()
}

fn messages() -> Vec<Message> {
    let (ballot, lease) = (ballot(), LeaseRequest { start: ts(5), ns: 3_000_000_000 });
    let reject = |reason| Message::Reject { ballot, promised: ballot, reason };
    vec![
        Message::Prepare { ballot, probe: true, from: Slot(7), lease },
        Message::Willing { ballot },
        Message::Promise { ballot, chosen: Slot(6), floor: Some(ts(9)), lease, part: 0, parts: 2, entries: entries() },
        reject(Refusal::Promised),
        reject(Refusal::Leased(ts(8))),
        reject(Refusal::Behind),
        Message::Accept { ballot, chosen: Slot(6), lease, entries: entries() },
        Message::Accepted { ballot, chosen: Slot(6), lease: Some(lease), ranges: vec![(Slot(7), Slot(9))] },
        Message::CatchUp { from: Slot(2) },
        Message::ChosenEntries { chosen: Slot(10), entries: entries() },
        Message::Release { ballot, used: ts(11) },
        Message::TimeoutNow { ballot, used: ts(11) },
    ]
}

/// Of `paxos_message`.
pub fn paxos_message() -> Seeds {
    vecs(messages().iter().map(Message::encode))
}

/// Of `paxos_stored`.
pub fn paxos_stored() -> Seeds {
    let lease = Some(LeaseVote { holder: NodeId(2), until: ts(9) });
    let hard = HardState { promised: ballot(), lease, lease_floor: Some(ts(1)), chosen: Slot(9), truncated: Slot(4) };
    let mut seeds: Seeds = entries().iter().map(|entry| tagged(0, &entry.encode())).collect();
    seeds.push(tagged(1, &hard.encode()));
    seeds.push(tagged(1, &HardState::default().encode()));
    seeds.push(tagged(2, &config().encode()));
    seeds
}

fn txn() -> TxnId {
    TxnId::new(ts(1_700_000_000_000_000_000), NodeId(2), 17)
}

fn priority() -> Priority {
    Priority { start: ts(5), id: txn() }
}

fn writes() -> Vec<Mutation> {
    vec![
        Mutation { key: b"a"[..].into(), value: Some(b"1"[..].into()) },
        Mutation { key: b"b\0"[..].into(), value: None },
    ]
}

fn range() -> RangeDescriptor {
    RangeDescriptor { group: GroupId(3), span: Span::new(&b"a"[..], &b"m"[..]), epoch: 2 }
}

fn group_meta() -> GroupMeta {
    GroupMeta::new(range(), config(), NodeId(1), ts(4))
}

fn requests() -> Vec<RequestBody> {
    let (txn, priority, leadership) = (txn(), priority(), Some(ballot()));
    let ops = vec![ReadOp { span: Span::all(), reverse: true, limit: 10 }];
    vec![
        RequestBody::Read {
            txn,
            priority,
            leadership,
            ops: ops.clone(),
            mode: LockMode::Shared,
            policy: LockPolicy::Skip,
        },
        RequestBody::Snapshot { at: Some(ts(3)), ops },
        RequestBody::Commit {
            txn,
            priority,
            leadership,
            writes: writes(),
            participants: vec![GroupId(4)],
            deadline: None,
        },
        RequestBody::Prepare { txn, priority, leadership: None, writes: writes(), coordinator: GroupId(1) },
        RequestBody::KeepAlive { txn, leadership: ballot() },
        RequestBody::Status { txn },
        RequestBody::Split { at: b"k"[..].into(), new_group: GroupId(9), leader: NodeId(2) },
        RequestBody::HandOver { to: Some(NodeId(3)) },
        RequestBody::Checksum,
    ]
}

fn replies() -> Vec<Reply> {
    let row = Row { key: b"k"[..].into(), value: b"v"[..].into(), commit_ts: ts(2) };
    let result = ReadResult { rows: vec![row], resume: Some(Span::all()) };
    vec![
        Reply::Rows { results: vec![result], leadership: Some(ballot()), read_ts: Some(ts(3)), wait_ns: 7 },
        Reply::Committed { commit_ts: ts(4), timing: CommitTiming::default() },
        Reply::Status(TxnStatus::Committed(ts(5))),
        Reply::Inspection(Inspection::default()),
        Reply::Checksum { applied: 5, hash: 6 },
        Reply::Error(GroupError::WrongRange(vec![range()])),
        Reply::Error(GroupError::Aborted(AbortReason::Wounded)),
        Reply::Error(GroupError::Unavailable("größer".into())),
    ]
}

/// Of `txn_message`.
pub fn txn_message() -> Seeds {
    let group = GroupId(3);
    let last = SnapshotEnd {
        applied: Slot(9),
        epoch: ballot(),
        config: config(),
        meta: group_meta().encode(),
        read_upto: Slot(11),
    };
    let chunk = SnapshotMessage::Chunk {
        transfer: 5,
        number: 1,
        pairs: vec![(keyspace::version_key(b"a", ts(1)).into(), b"\x01v"[..].into())],
        last: Some(last),
    };
    let two_phase = [
        TwoPhase::Prepared { txn: txn(), from: group, prepare_ts: ts(6) },
        TwoPhase::Decided { txn: txn(), from: group, commit_ts: Some(ts(7)) },
        TwoPhase::Acknowledged { txn: txn(), from: group },
    ];
    let mut all = vec![
        NodeMessage::SafeTime { group, ballot: ballot(), slot: Slot(8), ts: ts(9) },
        NodeMessage::WantSafeTime { group, ts: ts(10) },
        NodeMessage::Snapshot { group, message: chunk },
        NodeMessage::Snapshot { group, message: SnapshotMessage::Ack { transfer: 5, number: 1 } },
        NodeMessage::Paxos { group, message: messages().swap_remove(6) },
    ];
    all.extend(two_phase.into_iter().map(|body| NodeMessage::TwoPhase { group, hops: 2, body }));
    all.extend(requests().into_iter().map(|body| NodeMessage::Request(Request { id: 1, group, body })));
    all.extend(replies().into_iter().map(|reply| NodeMessage::Reply { id: 1, reply }));
    vecs(all.iter().map(NodeMessage::encode))
}

fn prepared() -> PreparedTxn {
    PreparedTxn {
        txn: txn(),
        priority: priority(),
        prepare_ts: ts(8),
        coordinator: GroupId(1),
        writes: writes(),
        locks: vec![(Span::all(), LockMode::Exclusive), (Span::point(&b"a"[..]), LockMode::Shared)],
    }
}

/// Of `txn_command`.
pub fn txn_command() -> Seeds {
    let commands = [
        Command::Commit { txn: txn(), ts: ts(9), writes: writes(), participants: vec![GroupId(2), GroupId(3)] },
        Command::Abort { txn: txn() },
        Command::Prepare(prepared()),
        Command::Decide { txn: txn(), commit_ts: Some(ts(10)) },
        Command::Split { at: b"k"[..].into(), new_group: GroupId(9), leader: NodeId(2), ts: ts(11) },
        Command::Gc { line: ts(1), outcomes_before: ts(2) },
        Command::Forget { txns: vec![txn()] },
    ];
    vecs(commands.iter().map(Command::encode).chain([prepared().encode()]))
}

/// Of `txn_meta`.
pub fn txn_meta() -> Seeds {
    let outcomes = [meta::encode_outcome(None), meta::encode_outcome(Some(ts(3)))];
    let decision = meta::encode_decision(ts(4), &[GroupId(2), GroupId(3)]);
    vecs(outcomes.into_iter().chain([group_meta().encode(), decision]))
}

/// Of `txn_store`.
pub fn txn_store() -> Seeds {
    let mut versions = Vec::new();
    for (key, at, value) in [(&b"a"[..], 5, &b"\x01v"[..]), (b"a", 3, b"\0"), (b"\0b", -1, b"\x01"), (b"c", 9, b"")] {
        // Without the first byte, which the target adds.
        let raw = keyspace::version_key(key, ts(at)).split_off(1);
        versions.push((value.len() as u8) << 5 | raw.len() as u8);
        versions.extend_from_slice(&raw);
        versions.extend_from_slice(value);
    }
    vec![versions, tagged(10, &keyspace::meta_key(GroupId(3)))]
}

/// Of `sql_parse` and `sql_plan`.
pub fn sql_text() -> Seeds {
    texts(&[
        "SELECT id, b FROM a WHERE id = $1 AND c > 1.5 ORDER BY b DESC NULLS FIRST LIMIT 10 OFFSET 2 FOR UPDATE",
        "SELECT count(*), sum(id), max(d) FROM a GROUP BY b HAVING count(*) > 1",
        "SELECT DISTINCT b || 'x' FROM a WHERE b LIKE 'a%' OR id IN (1, 2, 3) OR d BETWEEN '2020-01-01' AND now()",
        "SELECT * FROM t AS OF SYSTEM TIME '-5s' WHERE k0 AND k1 > -7 AND v9 IS NOT NULL",
        "INSERT INTO a (id, b) VALUES (1, 'x'), (2, NULL) ON CONFLICT (id) DO UPDATE SET b = excluded.b RETURNING *",
        "UPSERT INTO a VALUES (1, E'\\n', 2.5e-3, TIMESTAMP '2024-02-29T23:59:59.5Z')",
        "UPDATE a SET b = CASE WHEN c IS NULL THEN 'n' ELSE upper(b) END WHERE id >= 1 AND id < 9",
        "DELETE FROM a WHERE id = -9223372036854775808 OR c = 'NaN'::DOUBLE PRECISION",
        "CREATE TABLE x (a BIGINT NOT NULL DEFAULT 1 + 1, b BYTEA, PRIMARY KEY (a DESC)); DROP TABLE IF EXISTS x, y",
        "ALTER TABLE a SPLIT AT VALUES (10), (20)",
        "BEGIN READ ONLY AS OF SYSTEM TIME '2024-01-01T00:00:00Z'; COMMIT; ROLLBACK",
        "EXPLAIN ANALYZE SELECT ((1 + 2) * 3 % 4) = CAST('3' AS BIGINT), -- note\n /* /* */ */ $$x$$, '\\xff'::bytea",
        "SELECT ARRAY[1, 2.5][1:2], '{{a,\"b c\"},{NULL,d}}'::text[], INTERVAL '1-2' YEAR TO MONTH, '{\"a\": [1.50]}'::jsonb #>> '{a,0}'",
        "SELECT (id, b) IN ((1, 'x')), b SIMILAR TO 'a%', extract(epoch FROM d AT TIME ZONE 'UTC'), id = ANY ($1), 1.50::numeric(5,1)",
        "CREATE TABLE y (a NUMERIC(10,2)[], b CHAR(3), c TIMESTAMP(3), d VARCHAR(5) DEFAULT 'x', e UUID PRIMARY KEY)",
        "SET CLUSTER CLOCK = 'fixed:7ms'; SET NODE 2 CLOCK = 'kernel'; SHOW RANGES FROM TABLE a; CHECK REPLICAS",
        "SET statement_timeout = '5s'; SHOW ALL; RESET statement_timeout; SHOW COMMIT TIMESTAMP",
    ])
}

/// A value of a type, one of a few.
fn datum(ty: DataType, n: i64) -> Datum {
    let text = if n == 0 { String::new() } else { "a\0ü".to_string() };
    match ty {
        DataType::Bool => Datum::Bool(n != 0),
        DataType::Int => Datum::Int(-n),
        DataType::Int4 => Datum::Int(n % 1000),
        DataType::Int2 => Datum::Int(-(n % 1000)),
        DataType::Float => Datum::Float(n as f64 / 3.0),
        DataType::Float4 => Datum::Float4(n as f32 / 3.0),
        DataType::Numeric => Datum::Numeric(Numeric::from_i128(i128::from(n) * 1_000_000_000_000, 2).expect("small")),
        DataType::Text => Datum::Text(text),
        DataType::Char => Datum::Char(text + "  "),
        DataType::Bytes => Datum::Bytes(text.into_bytes()),
        DataType::Timestamp => Datum::Timestamp(ts(n)),
        DataType::Date => Datum::Date((n % 1000) as i32),
        DataType::Time => Datum::Time(n % 86_400_000_000),
        DataType::LocalTimestamp => Datum::LocalTimestamp(-n),
        DataType::Interval => Datum::Interval(Interval { months: 1, days: -30, nanos: n }),
        DataType::Uuid => Datum::Uuid([n as u8; 16]),
        DataType::Json => Datum::json(Json::parse(r#"{"a": [1.50, null, "x"], "b": {}}"#).expect("sound")),
        DataType::Array(element) => {
            Datum::array(element, vec![datum(element.data_type(), n), Datum::Null, datum(element.data_type(), 0)])
        }
    }
}

/// Of `sql_row`.
pub fn sql_row() -> Seeds {
    let table = crate::sql::table();
    let row = |n: i64| {
        let row: Vec<Datum> = table.columns.iter().map(|column| datum(column.ty, n)).collect();
        let key = rows::encode_key(&table, &row).expect("short").split_off(table.key_prefix().len());
        let value = rows::encode_value(&table, &row).expect("short");
        tagged(u8::try_from(key.len()).expect("a short key"), &[key, value].concat())
    };
    [0, 1, i64::MAX / 2].map(row).to_vec()
}

/// Of `sql_catalog`.
pub fn sql_catalog() -> Seeds {
    let mut seeds: Seeds = crate::sql::two_tables().tables.values().map(|table| table.to_bytes()).collect();
    seeds.push([seeds[0].as_slice(), b"\0\x80\0\0\0\0\0\0\x05"].concat());
    seeds.push(b"42".to_vec());
    seeds
}

/// Of `wire`.
pub fn wire() -> Seeds {
    use v1::client_message::Body as Ask;
    use v1::server_message::Body as Tell;
    use v1::value::Kind;
    let kinds = [
        Kind::Boolean(true),
        Kind::Bigint(-5),
        Kind::Double(f64::NAN),
        Kind::Text("ü".into()),
        Kind::Bytea(vec![0, 255]),
        Kind::TimestampNs(i64::MIN),
    ];
    let mut values: Vec<v1::Value> = kinds.into_iter().map(|kind| v1::Value { kind: Some(kind) }).collect();
    values.push(v1::Value { kind: None });
    let asks = [
        Ask::Execute(v1::Execute { sql: "SELECT $1".into(), parameters: values.clone() }),
        Ask::Prepare(v1::Prepare { name: "p".into(), sql: "SELECT 1".into() }),
        Ask::ClosePrepared(v1::ClosePrepared { name: "p".into() }),
    ];
    let tells = [
        Tell::Rows(v1::Rows { rows: vec![v1::Row { values }] }),
        Tell::Complete(v1::Complete {
            tag: "COMMIT".into(),
            commit: Some(v1::Commit::default()),
            ..Default::default()
        }),
        Tell::Error(v1::Error { sqlstate: "40001".into(), position: 3, ..Default::default() }),
    ];
    let hello = v1::PeerHello {
        node: 1,
        cluster_id: "c".into(),
        format: 1,
        nodes: vec![v1::NodeAddress { node: 2, address: "b:2".into() }],
        folders: [(1, "f".to_string())].into(),
    };
    let messages = txn_message().into_iter().take(3).map(Bytes::from).collect();
    let batch = v1::PeerBatch { hello: Some(hello), earliest_ns: 3, latest_ns: 4, messages, ..Default::default() };
    let status = v1::StatusResponse {
        node: 1,
        clock: Some(v1::ClockStatus { source: "kernel".into(), latest_ns: 5, ..Default::default() }),
        groups: vec![v1::GroupStatus { group: 1, leading: true, ..Default::default() }],
        ..Default::default()
    };
    let mut seeds = Vec::new();
    seeds.extend(asks.map(|body| tagged(0, &v1::ClientMessage { body: Some(body) }.encode_to_vec())));
    seeds.extend(tells.map(|body| tagged(1, &v1::ServerMessage { body: Some(body) }.encode_to_vec())));
    seeds.push(tagged(2, &batch.encode_to_vec()));
    seeds.push(tagged(3, &status.encode_to_vec()));
    seeds
}

/// Of `specs`.
pub fn specs() -> Seeds {
    texts(&[
        "7ms",
        "-1.5s",
        "µs",
        "9223372036854775807ns",
        "2h",
        "2026-11-23T06:41:33.5+02:00",
        "1677-09-21T00:12:43.145224192Z",
        "2262-04-11T23:47:16.854775807Z",
        "fixed:7ms",
        "kernel",
        "sim:kernel,offset=+40ms,drift=200ppm,step=+1s@30s,sawtooth=1ms..7ms/30s",
        "sim:fixed:1ms,drift=-999999ppm",
        "0000000000000001000200000000000a",
    ])
}

/// Of `shell_lexer`.
pub fn shell_lexer() -> Seeds {
    texts(&[
        "SELECT 1; SELECT 'a;''b' ;\n",
        "SELECT E'\\';', \"q;\"\"\" -- c;\n;\\d t\n",
        "/* /* ; */ */ SELECT $$;$$, $tag$;$$;$tag$, $1;\n",
        "\\set x 1\nSELECT :x, :'x', :\"x\", a::int;\n\\gx",
    ])
}

/// Of `history_lines`.
pub fn history_lines() -> Seeds {
    let list = [
        r#"{"index":0,"process":"setup","type":"info","time_ns":0,"f":"setup","value":{"workload":"append","seed":7,"clients":2,"duration_s":3.0,"shards":4,"accounts":3,"initial_balance":5}}"#,
        r#"{"index":1,"process":1,"type":"invoke","time_ns":5,"txn":[["append",1000004,17],["r","x:1",null]]}"#,
        r#"{"index":2,"process":"nemesis","type":"info","time_ns":6,"f":"kill","value":{"node":2,"phase":"begin"}}"#,
        r#"{"index":3,"process":1,"type":"ok","time_ns":900000000,"txn":[["append",1000004,17],["r","x:1",[2,5]]],"commit_ts":456,"node":1}"#,
        r#"{"index":4,"process":1,"type":"invoke","time_ns":900000001,"txn":[["scan",[0,9],null]],"read_ts":77,"stale":true}"#,
        r#"{"index":5,"process":"nemesis","type":"info","time_ns":900000002,"f":"kill","value":{"node":2,"phase":"end"}}"#,
        r#"{"index":6,"process":1,"type":"fail","time_ns":900000003,"txn":[["scan",[0,9],null]],"error":"no (SQLSTATE 40001)"}"#,
        r#"{"index":7,"process":"monitor","type":"info","time_ns":900000003,"f":"epsilon","value":{"node":1,"epsilon_ns":7000000}}"#,
    ];
    let registers = [
        r#"{"index":0,"process":1,"type":"invoke","time_ns":1,"txn":[["w",1,2]]}"#,
        r#"{"index":1,"process":2,"type":"invoke","time_ns":2,"txn":[["cas",1,[2,3]],["d",1,null],["add",1,4],["r",1,9]]}"#,
        r#"{"index":2,"process":1,"type":"info","time_ns":3,"txn":[["w",1,2]],"transaction":"00ff","status":""}"#,
        r#"{"index":3,"process":2,"type":"ok","time_ns":4,"txn":[["cas",1,[2,3]]],"status":"committed"}"#,
        r#"{"index":4,"process":3,"type":"invoke","time_ns":5,"txn":[["transfer",[0,1],5],["total",3,null]]}"#,
        r#"{"index":5,"process":3,"type":"ok","time_ns":6,"txn":[["transfer",[0,1],5],["total",3,15]],"read_ts":6}"#,
    ];
    texts(&[&list.join("\n"), &registers.join("\n")])
}

/// Of `history_judge`.
pub fn history_judge() -> Seeds {
    let append = [[0x01, 0, 0x04, 0x10], [0x41, 0, 0x04, 0x15], [0x02, 1, 0x00, 0x10], [0x42, 2, 0x24, 0x12]];
    let registers = [[0x01, 4, 0x08, 0x10], [0x02, 6, 0x48, 0x00], [0xc1, 4, 0x08, 0x10], [0x42, 6, 0x48, 0x15]];
    let bank = [[0x17, 9, 0x25, 0x11], [0x03, 9, 0x25, 0x11], [0x43, 10, 0x25, 0x23], [0x0c, 8, 0x61, 0x22]];
    [append, registers, bank].map(|events| events.concat()).to_vec()
}
