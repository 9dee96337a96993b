//! The bank: transfers between random accounts, and snapshots that sum all balances.
//!
//! A transfer takes from one account and gives to another in one transaction, so at every
//! timestamp the balances add up to what they began with. Whatever loses an update, tears a
//! transaction, shows a write early or reads two shards at two times breaks the sum.
//!
//! ```text
//!   BEGIN; SELECT from FOR UPDATE; SELECT to FOR UPDATE; UPDATE from; UPDATE to; COMMIT
//! ```
//!
//! Checked while it runs:
//! 1. each snapshot, at the present or at a past time, has the whole sum and all accounts;
//! 2. a snapshot read again, by another client and so often on another node, has the same rows;
//! 3. a commit's timestamp is above that of each commit acknowledged before it was asked for, and
//!    a strong read's is at least that (external consistency);
//! 4. no balance is negative, no account is missing.
//!
//! In the history a transfer's `value` has the client and its how many-th transfer it was, which is
//! its name in the ledger.
//!
//! A commit whose answer was lost is *ambiguous*: the worker asks for the transaction's status
//! until it knows. What it cannot find out is listed, never guessed.

pub mod check;
pub mod init;
pub mod reader;
pub mod report;
pub mod resolve;
pub mod run;
pub mod worker;

use std::time::Duration;

use proto::v1::Value;
use proto::v1::value::Kind;

use crate::client::{Client, ClientOptions, Failure, StatementResult};

/// Reads and locks an account.
pub const SELECT_BALANCE: &str = "SELECT balance FROM accounts WHERE id = $1 FOR UPDATE";
/// Takes from an account.
pub const DEBIT: &str = "UPDATE accounts SET balance = balance - $1 WHERE id = $2";
/// Gives to an account.
pub const CREDIT: &str = "UPDATE accounts SET balance = balance + $1 WHERE id = $2";
/// Writes the ledger.
pub const LEDGER: &str = "INSERT INTO bank_ledger (run, client, seq, src, dst, amount) VALUES ($1, $2, $3, $4, $5, $6)";
/// Sums a snapshot.
pub const SUM: &str = "SELECT sum(balance)::bigint, count(*) FROM accounts";
/// Lists a snapshot.
pub const ROWS: &str = "SELECT id, balance FROM accounts";

/// What `init` made, as the table `bank_setup` remembers it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Setup {
    /// Accounts, numbered from 0.
    pub accounts: i64,
    /// What each held at first.
    pub initial_balance: i64,
    /// Into how many ranges they were split.
    pub shards: i64,
    /// Whether there is a ledger.
    pub ledger: bool,
    /// How many runs there were.
    pub runs: i64,
}

impl Setup {
    /// What all balances add up to.
    pub fn total(&self) -> i64 {
        self.accounts.saturating_mul(self.initial_balance)
    }

    /// Reads the set-up. Without one the error says to run `init`.
    pub async fn load(client: &mut Client) -> anyhow::Result<Setup> {
        let result = retrying(client, "SELECT name, value FROM bank_setup", 20).await;
        let result = match result {
            Err(Failure::Server(e)) if e.sqlstate == "42P01" => {
                anyhow::bail!("there is no bank yet: run 'meridian workload bank init' first, or add --init")
            }
            other => other?,
        };
        let mut setup = Setup::default();
        for row in &result.rows {
            let (Some(name), Some(value)) = (row.values.first().and_then(text), row.values.get(1).and_then(int)) else {
                continue;
            };
            match name {
                "accounts" => setup.accounts = value,
                "initial_balance" => setup.initial_balance = value,
                "shards" => setup.shards = value,
                "ledger" => setup.ledger = value != 0,
                "runs" => setup.runs = value,
                _ => {}
            }
        }
        anyhow::ensure!(setup.accounts >= 2, "the bank is half made: run 'meridian workload bank init' again");
        Ok(setup)
    }
}

/// Timeouts of the workload's clients.
pub fn options(statement_timeout: Duration) -> ClientOptions {
    ClientOptions { statement_timeout: Some(statement_timeout), ..ClientOptions::default() }
}

/// Runs one statement that may safely run twice, until it succeeds: conflicts and lost
/// connections are tried again, with a pause, so many times.
pub async fn retrying(client: &mut Client, sql: &str, tries: u32) -> Result<StatementResult, Failure> {
    let mut tried = 0;
    loop {
        tried += 1;
        match client.execute(sql, Vec::new()).await {
            Ok(mut results) => return Ok(results.pop().unwrap_or_default()),
            Err(failure) if tried >= tries => return Err(failure),
            Err(Failure::Server(e)) if !may_pass(&e.sqlstate) => return Err(Failure::Server(e)),
            Err(_) => tokio::time::sleep(Duration::from_millis(100 * u64::from(tried.min(10)))).await,
        }
    }
}

/// Errors that another try may not meet: conflicts, in doubt, no leader, shutting down.
pub fn may_pass(sqlstate: &str) -> bool {
    ["40", "08", "53", "55", "57"].iter().any(|class| sqlstate.starts_with(class))
}

/// A whole number, in whatever type a sum or a count comes.
pub fn int(value: &Value) -> Option<i64> {
    match value.kind.as_ref()? {
        Kind::Bigint(n) => Some(*n),
        Kind::Text(s) => s.trim().parse().ok(),
        Kind::Double(d) if d.fract() == 0.0 && d.abs() < 9e15 => Some(*d as i64),
        _ => None,
    }
}

/// A text.
pub fn text(value: &Value) -> Option<&str> {
    match value.kind.as_ref()? {
        Kind::Text(s) => Some(s),
        _ => None,
    }
}
