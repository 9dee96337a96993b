//! Errors in PostgreSQL's form: a SQLSTATE, a lower-case message, and optional detail and hint.

use std::fmt;

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
}

impl SqlError {
    /// With a code and a message.
    pub fn new(sqlstate: &'static str, message: impl Into<String>) -> SqlError {
        SqlError { sqlstate, message: message.into(), detail: None, hint: None, position: None }
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

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (SQLSTATE {})", self.message, self.sqlstate)
    }
}

impl std::error::Error for SqlError {}
