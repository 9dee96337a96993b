//! `meridian`: nodes, groups, ranges, leases, clocks, transactions and locks, as `SHOW` has them, with
//! names that need no quotes and values that can be compared; and what this gateway remembers.

use txn::Span;

use super::{Source, SystemTable};
use crate::SqlError;
use crate::catalog::Catalog;
use crate::engine::{AdminCommand, AdminRows, Engine};
use crate::session::Database;
use crate::show;
use crate::types::DataType::{self, Bool, Float, Int, Text, Timestamp};
use crate::types::Datum;

/// What the engine is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ask {
    Nodes,
    Groups,
    Ranges,
    Clocks,
    Transactions,
    Locks,
}

const fn table(name: &'static str, columns: &'static [(&'static str, DataType)], source: Source) -> SystemTable {
    SystemTable { schema: "meridian", name, columns, source }
}

pub(super) static TABLES: &[SystemTable] = &[
    table(
        "nodes",
        &[
            ("node", Int),
            ("address", Text),
            ("state", Text),
            ("version", Text),
            ("pid", Int),
            ("uptime_s", Int),
            ("groups", Int),
            ("leads", Int),
            ("problem", Text),
        ],
        Source::Cluster(Ask::Nodes),
    ),
    table(
        "groups",
        &[
            ("group_id", Int),
            ("leader", Int),
            ("replicas", Text),
            ("applied", Int),
            ("chosen", Int),
            ("first_slot", Int),
            ("safe_ts", Timestamp),
            ("commits", Int),
            ("aborts", Int),
        ],
        Source::Cluster(Ask::Groups),
    ),
    table("leases", &[("group_id", Int), ("leader", Int), ("lease_end", Timestamp)], Source::Cluster(Ask::Groups)),
    table(
        "ranges",
        &[("table_name", Text), ("start_key", Text), ("end_key", Text), ("group_id", Int), ("leader", Int)],
        Source::Cluster(Ask::Ranges),
    ),
    table(
        "clocks",
        &[
            ("node", Int),
            ("source", Text),
            ("epsilon", Text),
            ("earliest", Timestamp),
            ("latest", Timestamp),
            ("trusted", Bool),
            ("jumps", Int),
            ("problem", Text),
        ],
        Source::Cluster(Ask::Clocks),
    ),
    table(
        "transactions",
        &[
            ("txn", Text),
            ("group_id", Int),
            ("state", Text),
            ("gateway", Int),
            ("began", Timestamp),
            ("age_ms", Float),
            ("prepare_ts", Timestamp),
            ("idle_ms", Float),
            ("locks", Int),
            ("waits_for", Text),
        ],
        Source::Cluster(Ask::Transactions),
    ),
    table(
        "locks",
        &[("group_id", Int), ("txn", Text), ("start_key", Text), ("end_key", Text), ("mode", Text), ("held", Bool)],
        Source::Cluster(Ask::Locks),
    ),
    table(
        "statements",
        &[
            ("node", Int),
            ("query", Text),
            ("calls", Int),
            ("rows", Int),
            ("errors", Int),
            ("retries", Int),
            ("total_ms", Float),
            ("mean_ms", Float),
            ("max_ms", Float),
        ],
        Source::Statements,
    ),
    table(
        "recent_commits",
        &[
            ("node", Int),
            ("txn", Text),
            ("commit_ts", Timestamp),
            ("participants", Text),
            ("lock_wait_ms", Float),
            ("prepare_ms", Float),
            ("replication_ms", Float),
            ("commit_wait_ms", Float),
            ("apply_ms", Float),
            ("coordinator_ms", Float),
            ("total_ms", Float),
        ],
        Source::RecentCommits,
    ),
    table("settings", &[("name", Text), ("setting", Text), ("description", Text)], Source::Settings),
];

/// Rows of the engine by the names of its columns.
struct Named {
    names: Vec<String>,
    rows: Vec<Vec<Datum>>,
}

impl Named {
    fn position(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|known| known == name)
    }

    fn text(&self, row: &[Datum], name: &str) -> Option<String> {
        match self.position(name).and_then(|at| row.get(at)) {
            Some(Datum::Text(text)) => Some(text.clone()),
            _ => None,
        }
    }
}

/// How the engine calls a column; the same, for most.
fn engine_name(column: &str) -> &str {
    match column {
        "group_id" => "group",
        "txn" => "transaction",
        "idle_ms" => "idle",
        name => name,
    }
}

async fn ask<E: Engine>(db: &Database<E>, command: AdminCommand) -> Result<(Named, AdminRows), SqlError> {
    let raw = db.engine().admin(command).await?;
    let keys = raw.columns.iter().any(|(_, ty)| *ty == DataType::Bytes);
    let catalog = if keys { db.catalog().await? } else { std::sync::Arc::new(Catalog::default()) };
    let (columns, rows) = show::admin(raw.clone(), &catalog);
    Ok((Named { names: columns.into_iter().map(|column| column.name).collect(), rows }, raw))
}

/// All rows of one of the tables above.
pub(super) async fn rows<E: Engine>(
    db: &Database<E>,
    table: &SystemTable,
    what: Ask,
) -> Result<Vec<Vec<Datum>>, SqlError> {
    let command = match what {
        Ask::Nodes => AdminCommand::ShowNodes,
        Ask::Groups => AdminCommand::ShowGroups,
        Ask::Ranges => AdminCommand::ShowRanges,
        Ask::Clocks => AdminCommand::ShowClock,
        Ask::Transactions => AdminCommand::ShowTransactions,
        Ask::Locks => AdminCommand::ShowLocks,
    };
    let (named, raw) = ask(db, command).await?;
    let catalog = if matches!(what, Ask::Ranges) { Some(db.catalog().await?) } else { None };
    // Two looks at a cluster that does not stand still: a transaction may have moved on in between.
    let locks = if matches!(what, Ask::Transactions) { Some(ask(db, AdminCommand::ShowLocks).await?.0) } else { None };
    let now = db.engine().now().latest;
    let mut result = Vec::with_capacity(named.rows.len());
    for (row, raw) in named.rows.iter().zip(&raw.rows) {
        let value = |(name, ty): &(&str, DataType)| {
            let found = named.position(engine_name(name)).map(|at| row[at].clone());
            match (*name, found) {
                ("idle_ms", Some(Datum::Text(idle))) => {
                    truetime::parse_duration_ns(&idle).map_or(Datum::Null, |ns| Datum::Float(ns as f64 / 1e6))
                }
                ("age_ms", _) => match named.position("began").map(|at| &row[at]) {
                    Some(Datum::Timestamp(began)) => Datum::Float(now.since_ns(*began).max(0) as f64 / 1e6),
                    _ => Datum::Null,
                },
                ("locks", _) if locks.is_some() => {
                    let own = |lock: &&Vec<Datum>| {
                        let locks = locks.as_ref().expect("looked at above");
                        locks.text(lock, "transaction") == named.text(row, "transaction")
                            && locks.position("group").map(|at| &lock[at]) == named.position("group").map(|at| &row[at])
                            && locks.position("held").is_some_and(|at| lock[at] == Datum::Bool(true))
                    };
                    Datum::Int(locks.iter().flat_map(|locks| &locks.rows).filter(own).count() as i64)
                }
                ("table_name", _) => catalog.as_ref().map_or(Datum::Null, |catalog| only_table(&named, raw, catalog)),
                (_, Some(datum)) if datum.is_null() || datum.data_type() == Some(*ty) => datum,
                _ => Datum::Null,
            }
        };
        result.push(table.columns.iter().map(value).collect());
    }
    Ok(result)
}

/// The table whose rows a range holds, if it is one and no more.
fn only_table(named: &Named, raw: &[Datum], catalog: &Catalog) -> Datum {
    let key = |name: &str| match named.position(name).and_then(|at| raw.get(at)) {
        Some(Datum::Bytes(key)) => Some(key.clone()),
        _ => None,
    };
    let (Some(start), Some(end)) = (key("start_key"), key("end_key")) else { return Datum::Null };
    let span = Span::new(start, end);
    let mut tables = catalog.tables.values().filter(|table| table.span().overlaps(&span));
    match (tables.next(), tables.next()) {
        (Some(table), None) => Datum::Text(table.name.clone()),
        _ => Datum::Null,
    }
}
