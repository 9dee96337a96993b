//! Why an operation of a gateway failed, by what its caller should do next.

use std::fmt;

use paxos::GroupId;
use truetime::Timestamp;

use crate::api::AbortReason;
use crate::types::TxnId;

/// A failed operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientError {
    /// The transaction has no effect and never will.
    Aborted {
        /// Why.
        reason: AbortReason,
        /// Whether the same transaction, tried again from its start, may succeed.
        retryable: bool,
    },
    /// The commit may or may not have happened: ask for its status later.
    Ambiguous {
        /// Which transaction.
        txn: TxnId,
        /// Whom to ask.
        coordinator: GroupId,
    },
    /// Not done: a group could not be reached in time. Try again later.
    Unavailable(String),
    /// The timestamp is below what is kept.
    TooOld {
        /// The earliest timestamp still readable.
        earliest: Timestamp,
    },
    /// The request itself is wrong: fail the statement.
    Invalid(String),
    /// It is more than a transaction may be: fail the statement.
    TooLarge(String),
    /// A lock of the read could not be had in the time that its policy allows. The transaction goes on.
    LockNotAvailable,
    /// Not done: the gateway has no memory left for it. Try again later, or elsewhere.
    OutOfMemory(String),
}

impl ClientError {
    /// A transaction that a group aborted.
    pub fn aborted(reason: AbortReason) -> ClientError {
        ClientError::Aborted { reason, retryable: true }
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientError::Aborted { reason, .. } => write!(f, "transaction aborted: {reason}"),
            ClientError::Ambiguous { txn, coordinator } => {
                write!(f, "the outcome of transaction {txn} is not known; its coordinator is {coordinator}")
            }
            ClientError::Unavailable(why) => write!(f, "unavailable: {why}"),
            ClientError::TooOld { earliest } => {
                write!(f, "the read timestamp is too old: the earliest still readable is {earliest}")
            }
            ClientError::Invalid(why) | ClientError::TooLarge(why) => f.write_str(why),
            ClientError::LockNotAvailable => f.write_str("a lock could not be had in time"),
            ClientError::OutOfMemory(why) => write!(f, "out of memory: {why}"),
        }
    }
}

impl std::error::Error for ClientError {}
