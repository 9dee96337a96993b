//! The tables of the workloads: made once, split over several groups, and emptied before each run.
//!
//! They are kept from run to run, because a split is for ever: a cluster that is tested all day
//! must not get new groups with each run.

use anyhow::Context as _;

use super::bank::{int, retrying};
use super::keys::SPAN;
use super::plan::Model;
use crate::client::{Client, Failure};

/// Into how many ranges each table is split.
pub const SHARDS: i64 = 4;

/// How often a step is tried again while a node is down.
const TRIES: u32 = 30;

/// Rows of one DELETE.
const BATCH_ROWS: i64 = 1000;

/// The statements of a model, by name.
pub fn statements(model: Model) -> Vec<(&'static str, &'static str)> {
    match model {
        Model::Lists => vec![
            ("read", "SELECT v FROM workload_lists WHERE k = $1"),
            ("read_for_update", "SELECT v FROM workload_lists WHERE k = $1 FOR UPDATE"),
            ("list_for_update", "SELECT v FROM workload_lists WHERE k = $1 FOR UPDATE"),
            ("replace", "UPSERT INTO workload_lists (k, v) VALUES ($1, $2)"),
            ("extend", "UPDATE workload_lists SET v = v || $2 WHERE k = $1"),
            ("first", "INSERT INTO workload_lists (k, v) VALUES ($1, $2)"),
            (
                "append",
                "INSERT INTO workload_lists AS held (k, v) VALUES ($1, $2) \
                 ON CONFLICT (k) DO UPDATE SET v = held.v || excluded.v",
            ),
        ],
        Model::Registers => vec![
            ("read", "SELECT v FROM workload_registers WHERE k = $1"),
            ("read_for_update", "SELECT v FROM workload_registers WHERE k = $1 FOR UPDATE"),
            ("upsert", "UPSERT INTO workload_registers (k, v) VALUES ($1, $2)"),
            (
                "set",
                "INSERT INTO workload_registers (k, v) VALUES ($1, $2) ON CONFLICT (k) DO UPDATE SET v = excluded.v",
            ),
            ("change", "UPDATE workload_registers SET v = $2 WHERE k = $1"),
            ("insert", "INSERT INTO workload_registers (k, v) VALUES ($1, $2)"),
            ("delete", "DELETE FROM workload_registers WHERE k = $1"),
            ("cas", "UPDATE workload_registers SET v = $3 WHERE k = $1 AND v = $2"),
            ("scan", "SELECT k, v FROM workload_registers WHERE k >= $1 AND k < $2 ORDER BY k"),
            ("page", "SELECT k, v FROM workload_registers WHERE k >= $1 AND k < $2 ORDER BY k LIMIT $3"),
        ],
        Model::Indexed => vec![
            ("read", "SELECT v FROM workload_indexed WHERE k = $1"),
            ("read_for_update", "SELECT v FROM workload_indexed WHERE k = $1 FOR UPDATE"),
            ("upsert", "UPSERT INTO workload_indexed (k, v) VALUES ($1, $2)"),
            ("set", "INSERT INTO workload_indexed (k, v) VALUES ($1, $2) ON CONFLICT (k) DO UPDATE SET v = excluded.v"),
            ("change", "UPDATE workload_indexed SET v = $2 WHERE k = $1"),
            ("insert", "INSERT INTO workload_indexed (k, v) VALUES ($1, $2)"),
            ("delete", "DELETE FROM workload_indexed WHERE k = $1"),
            ("cas", "UPDATE workload_indexed SET v = $3 WHERE k = $1 AND v = $2"),
            ("scan", "SELECT k, v FROM workload_indexed@workload_indexed_kv WHERE k >= $1 AND k < $2 ORDER BY k, v"),
            (
                "page",
                "SELECT k, v FROM workload_indexed@workload_indexed_kv WHERE k >= $1 AND k < $2 ORDER BY k LIMIT $3",
            ),
        ],
        Model::Sets => vec![
            ("read", "SELECT v FROM workload_sets WHERE s IN (0, 1, 2, 3) AND k = $1"),
            ("read_for_update", "SELECT v FROM workload_sets WHERE s IN (0, 1, 2, 3) AND k = $1 FOR UPDATE"),
            ("add", "INSERT INTO workload_sets (s, k, v) VALUES ($1, $2, $3)"),
        ],
        Model::Defaults => Vec::new(),
    }
}

/// Makes or empties the table of a model. Returns when, by the cluster's time: from then on, until
/// the run begins, it is empty.
pub async fn prepare(client: &mut Client, model: Model) -> anyhow::Result<i64> {
    match model {
        Model::Lists => keyed(client, "workload_lists", "k BIGINT PRIMARY KEY, v TEXT NOT NULL").await?,
        Model::Registers => keyed(client, "workload_registers", "k BIGINT PRIMARY KEY, v BIGINT NOT NULL").await?,
        Model::Indexed => {
            keyed(client, "workload_indexed", "k BIGINT PRIMARY KEY, v BIGINT NOT NULL").await?;
            let create = "CREATE INDEX IF NOT EXISTS workload_indexed_kv ON workload_indexed (k, v)";
            retrying(client, create, TRIES).await?;
        }
        Model::Sets => {
            let columns = "s BIGINT, k BIGINT, v BIGINT, PRIMARY KEY (s, k, v)";
            make(client, "workload_sets", columns, 1).await?;
            for shard in 0..SHARDS {
                empty(client, "workload_sets", &format!("s = {shard} AND "), "k, v").await?;
            }
        }
        Model::Defaults => {
            let tables = retrying(client, "SHOW TABLES", TRIES).await?;
            let names = tables.rows.iter().filter_map(|row| super::bank::text(row.values.first()?));
            let names: Vec<String> =
                names.filter(|name| name.starts_with("workload_defaults_")).map(str::to_string).collect();
            for name in names {
                retrying(client, &format!("DROP TABLE IF EXISTS {name}"), TRIES).await?;
            }
        }
    }
    // A strong read of a catalogue that every node has: after everything above.
    now(client).await
}

/// A timestamp above everything acknowledged so far.
pub async fn now(client: &mut Client) -> anyhow::Result<i64> {
    retrying(client, "CREATE TABLE IF NOT EXISTS workload_marks (k BIGINT PRIMARY KEY, v BIGINT NOT NULL)", TRIES)
        .await
        .context("the workload's table of marks")?;
    retrying(client, "UPSERT INTO workload_marks (k, v) VALUES (0, 0)", TRIES).await?;
    let read = retrying(client, "SELECT k FROM workload_marks", TRIES).await?;
    anyhow::ensure!(read.complete.read_ts_ns != 0, "a strong read did not say when it was");
    Ok(read.complete.read_ts_ns)
}

async fn keyed(client: &mut Client, table: &str, columns: &str) -> anyhow::Result<()> {
    make(client, table, columns, SPAN).await?;
    empty(client, table, "", "k").await
}

/// Creates a table and splits it at the multiples of `step`, unless an earlier run did.
async fn make(client: &mut Client, table: &str, columns: &str, step: i64) -> anyhow::Result<()> {
    retrying(client, &format!("CREATE TABLE IF NOT EXISTS {table} ({columns})"), TRIES).await?;
    let ranges = retrying(client, &format!("SHOW RANGES FROM TABLE {table}"), TRIES).await?;
    if (ranges.rows.len() as u64) < SHARDS.unsigned_abs() {
        let points: Vec<String> = (1..SHARDS).map(|shard| format!("({})", shard * step)).collect();
        retrying(client, &format!("ALTER TABLE {table} SPLIT AT VALUES {}", points.join(", ")), TRIES).await?;
    }
    Ok(())
}

/// Deletes all rows that the condition names, a batch at a time.
async fn empty(client: &mut Client, table: &str, condition: &str, order: &str) -> anyhow::Result<()> {
    loop {
        let sql =
            format!("SELECT k FROM {table} WHERE {condition}k >= 0 ORDER BY {order} LIMIT 1 OFFSET {}", BATCH_ROWS - 1);
        let row = retrying(client, &sql, TRIES).await?;
        let last = row.rows.first().and_then(|row| row.values.first()).and_then(int);
        let bound = last.map_or_else(|| "k >= 0".to_string(), |last| format!("k >= 0 AND k <= {last}"));
        // To delete twice is to delete once.
        retrying(client, &format!("DELETE FROM {table} WHERE {condition}{bound}"), TRIES).await?;
        if last.is_none() {
            return Ok(());
        }
    }
}

/// Whether the cluster takes writes and strong reads again.
pub async fn answers(client: &mut Client) -> Result<(), Failure> {
    client.execute("UPSERT INTO workload_marks (k, v) VALUES (0, 1)", Vec::new()).await?;
    client.execute("SELECT k FROM workload_marks", Vec::new()).await?;
    Ok(())
}
