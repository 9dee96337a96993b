//! Finds out how an ambiguous commit ended.

use std::time::{Duration, Instant};

use proto::v1::value::Kind;

use super::{options, text};
use crate::client::{Client, Failure, StatementResult};

/// How a transaction ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It committed, at this timestamp if the answer had one.
    Committed(Option<i64>),
    /// It did not and never will.
    Aborted,
    /// Nobody said in time; the text is the last answer.
    Unresolved(String),
}

/// Asks one node after another until one knows. `coordinator` 0: not known, so all groups are
/// asked.
pub async fn resolve(addresses: &[String], transaction: &str, coordinator: u64, timeout: Duration) -> Outcome {
    if transaction.is_empty() {
        return Outcome::Unresolved("the transaction's name was never told".to_string());
    }
    if !transaction.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
        return Outcome::Unresolved(format!("'{transaction}' is no transaction"));
    }
    let at = if coordinator == 0 { String::new() } else { format!(" COORDINATOR {coordinator}") };
    let sql = format!("SHOW TRANSACTION STATUS '{transaction}'{at}");
    let mut client = Client::offline(addresses, options(Duration::from_secs(5).min(timeout)));
    let began = Instant::now();
    loop {
        let last = match client.execute(&sql, Vec::new()).await {
            Ok(results) => match results.first().map(read_status) {
                Some(Some(outcome)) => return outcome,
                _ => "the server does not know".to_string(),
            },
            Err(failure) => {
                if let Failure::Server(_) = failure {
                    // Another node may know better.
                    let _ = client.reconnect().await;
                }
                failure.to_string()
            }
        };
        if began.elapsed() >= timeout {
            return Outcome::Unresolved(last);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Reads the answer: a word and a timestamp. Any other word is no answer.
pub fn read_status(result: &StatementResult) -> Option<Outcome> {
    let row = result.rows.first()?;
    let word = row.values.iter().find_map(text)?.trim().to_ascii_lowercase();
    let timestamp = row.values.iter().find_map(|value| match value.kind {
        Some(Kind::TimestampNs(ns)) => Some(ns),
        Some(Kind::Bigint(ns)) if ns > 1_000_000_000_000_000_000 => Some(ns),
        _ => None,
    });
    match word.as_str() {
        "committed" => Some(Outcome::Committed(timestamp)),
        "aborted" => Some(Outcome::Aborted),
        _ => None,
    }
}
