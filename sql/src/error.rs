//! Errors in PostgreSQL's form: a SQLSTATE, a lower-case message, and optional detail and hint.

use std::fmt;

use txn::TxnId;
use txn::client::ClientError;

/// A failed statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqlError {
    /// Five characters, as in PostgreSQL's appendix A.
    pub sqlstate: &'static str,
    /// Lower case, without a full stop.
    pub message: String,
    /// A full sentence with the particulars.
    pub detail: Option<String>,
    /// A full sentence on what to do.
    pub hint: Option<String>,
    /// 1-based character position in the statement, if known.
    pub position: Option<u32>,
    /// For 40003: whose outcome is not known.
    pub ambiguous: Option<Box<Ambiguous>>,
}

/// A commit that was sent and not answered: `SHOW TRANSACTION STATUS` tells how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ambiguous {
    /// The transaction.
    pub txn: TxnId,
    /// Its coordinator's group.
    pub coordinator: u64,
}

impl SqlError {
    /// With a code and a message.
    pub fn new(sqlstate: &'static str, message: impl Into<String>) -> SqlError {
        SqlError { sqlstate, message: message.into(), detail: None, hint: None, position: None, ambiguous: None }
    }

    /// 0A000.
    pub fn unsupported(what: impl fmt::Display) -> SqlError {
        SqlError::new("0A000", format!("{what} is not supported"))
    }

    /// Whether it says that the short path does not serve a statement, or knows no such function or
    /// operator: the other path may.
    pub(crate) fn is_beyond_short_path(&self) -> bool {
        matches!(self.sqlstate, "0A000" | "42883")
    }

    /// 42601.
    pub fn syntax(message: impl Into<String>) -> SqlError {
        SqlError::new("42601", message)
    }

    /// With a detail.
    pub fn detail(mut self, detail: impl Into<String>) -> SqlError {
        self.detail = Some(detail.into());
        self
    }

    /// With a hint.
    pub fn hint(mut self, hint: impl Into<String>) -> SqlError {
        self.hint = Some(hint.into());
        self
    }
}

impl From<ClientError> for SqlError {
    fn from(err: ClientError) -> SqlError {
        match err {
            ClientError::Aborted { reason, retryable } => {
                let err = SqlError::new("40001", "could not serialize access: the transaction was aborted")
                    .detail(format!("Reason: {reason}."));
                if retryable { err.hint("Retry the transaction from its start.") } else { err }
            }
            ClientError::Ambiguous { txn, coordinator } => {
                let mut err = SqlError::new("40003", "the outcome of the commit is not known")
                    .detail(format!("Transaction {txn}, coordinator group {}.", coordinator.0))
                    .hint(format!("Ask for it with SHOW TRANSACTION STATUS '{txn}' {}.", coordinator.0));
                err.ambiguous = Some(Box::new(Ambiguous { txn, coordinator: coordinator.0 }));
                err
            }
            ClientError::Unavailable(why) => SqlError::new("57P03", format!("the database is not available: {why}")),
            ClientError::TooOld { earliest } => {
                SqlError::new("72000", "snapshot too old: the versions at that timestamp are gone")
                    .detail(format!("The earliest timestamp still readable is {earliest}."))
            }
            ClientError::LockNotAvailable => SqlError::new("55P03", "canceling statement due to lock timeout"),
            ClientError::Invalid(why) => SqlError::new("22023", why),
            ClientError::TooLarge(why) => SqlError::new("54000", why),
            ClientError::OutOfMemory(why) => SqlError::new(
                "53200",
                "the node has no memory left for this session's work",
            )
            .detail(format!("{}{}.", why[..1].to_uppercase(), &why[1..]))
            .hint("Try again later or at another node, write less in a transaction, or raise --session-memory-max."),
        }
    }
}

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (SQLSTATE {})", self.message, self.sqlstate)
    }
}

impl std::error::Error for SqlError {}
