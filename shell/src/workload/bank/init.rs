//! Makes the bank: drops and creates its tables, splits the accounts evenly, fills them.

use std::io::IsTerminal;

use indicatif::ProgressBar;

use super::{Setup, options, retrying};
use crate::args::BankArgs;
use crate::client::{Client, Failure};
use crate::out::Out;

/// Rows of one INSERT.
const BATCH_ROWS: i64 = 250;

/// How often a step is tried again while a node is down.
const TRIES: u32 = 30;

/// `meridian workload bank init`
pub async fn run(args: &BankArgs, err: &mut Out) -> anyhow::Result<i32> {
    let mut client = Client::connect_with(&args.connect.addresses(), options(args.statement_timeout * 6)).await?;
    let setup = make(&mut client, args, err).await?;
    err.line(format!(
        "{} accounts with {} each in {} shards; the sum is {}",
        setup.accounts,
        setup.initial_balance,
        setup.shards,
        setup.total()
    ));
    Ok(0)
}

/// Makes the bank on an open session.
pub async fn make(client: &mut Client, args: &BankArgs, err: &mut Out) -> anyhow::Result<Setup> {
    let accounts = args.accounts.unwrap_or(1000);
    let shards = args.shards.clamp(1, accounts);
    let setup = Setup { accounts, initial_balance: args.initial_balance, shards, ledger: args.ledger, runs: 0 };
    for table in ["accounts", "bank_ledger", "bank_setup"] {
        retrying(client, &format!("DROP TABLE IF EXISTS {table}"), TRIES).await?;
    }
    create(client, "CREATE TABLE accounts (id BIGINT PRIMARY KEY, balance BIGINT NOT NULL)").await?;
    if setup.ledger {
        let columns =
            "run BIGINT, client BIGINT, seq BIGINT, src BIGINT NOT NULL, dst BIGINT NOT NULL, amount BIGINT NOT NULL";
        create(client, &format!("CREATE TABLE bank_ledger ({columns}, PRIMARY KEY (run, client, seq))")).await?;
    }
    create(client, "CREATE TABLE bank_setup (name TEXT PRIMARY KEY, value BIGINT NOT NULL)").await?;
    if let Some(points) = split_points(accounts, shards) {
        retrying(client, &format!("ALTER TABLE accounts SPLIT AT VALUES {points}"), TRIES).await?;
    }
    let bar =
        if std::io::stderr().is_terminal() { ProgressBar::new(accounts.unsigned_abs()) } else { ProgressBar::hidden() };
    let mut first = 0;
    while first < accounts {
        let last = (first + BATCH_ROWS).min(accounts);
        let rows: Vec<String> = (first..last).map(|id| format!("({id}, {})", setup.initial_balance)).collect();
        // An upsert may be repeated: nobody transfers yet.
        retrying(client, &format!("UPSERT INTO accounts (id, balance) VALUES {}", rows.join(", ")), TRIES).await?;
        bar.inc((last - first).unsigned_abs());
        first = last;
    }
    bar.finish_and_clear();
    let values = format!(
        "('accounts', {accounts}), ('initial_balance', {}), ('shards', {shards}), ('ledger', {}), ('runs', 0)",
        setup.initial_balance,
        i64::from(setup.ledger),
    );
    retrying(client, &format!("UPSERT INTO bank_setup (name, value) VALUES {values}"), TRIES).await?;
    for notice in client.take_notices() {
        err.line(notice);
    }
    Ok(setup)
}

/// Creates a table; if a first try was cut off, it may exist already.
async fn create(client: &mut Client, sql: &str) -> Result<(), Failure> {
    let failure = match retrying(client, sql, 1).await {
        Ok(_) => return Ok(()),
        Err(failure @ Failure::Disconnected(_)) => failure,
        Err(Failure::Server(e)) if e.sqlstate == "42P07" => return Err(Failure::Server(e)),
        Err(failure) => failure,
    };
    match retrying(client, sql, TRIES).await {
        Err(Failure::Server(e)) if e.sqlstate == "42P07" => Ok(()),
        Err(Failure::Server(e)) if matches!(failure, Failure::Server(_)) => Err(Failure::Server(e)),
        other => other.map(|_| ()),
    }
}

/// The first account of each shard but the first, as VALUES rows.
fn split_points(accounts: i64, shards: i64) -> Option<String> {
    let points: Vec<String> = (1..shards).map(|shard| format!("({})", accounts * shard / shards)).collect();
    (!points.is_empty()).then(|| points.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_split_evenly() {
        assert_eq!(split_points(1000, 4).as_deref(), Some("(250), (500), (750)"));
        assert_eq!(split_points(10, 3).as_deref(), Some("(3), (6)"));
        assert_eq!(split_points(10, 1), None);
    }
}
