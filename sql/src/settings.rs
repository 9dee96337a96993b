//! A session's settings: `SET`, `SHOW`, `RESET`.
//!
//! Most are kept because drivers and shells set them, and change nothing. These do something:
//! `read_timestamp` (all reads happen then, and writes are refused) and
//! `default_transaction_read_only`; and the timeouts.

mod timeout;

use std::collections::BTreeMap;

use crate::SqlError;
use crate::parse::TimeExpr;
use crate::types::{DataType, Datum};
use crate::value;

/// Name, default, description.
const KNOWN: &[(&str, &str, &str)] = &[
    ("application_name", "", "the client's name for itself"),
    ("bytea_output", "hex", "accepted; always hex"),
    ("client_encoding", "UTF8", "always UTF8"),
    ("client_min_messages", "notice", "accepted"),
    ("datestyle", "ISO, MDY", "accepted; always ISO"),
    ("default_transaction_isolation", "serializable", "always serializable"),
    ("default_transaction_read_only", "off", "transactions are read-only unless they say otherwise"),
    ("extra_float_digits", "1", "accepted; floats are always exact"),
    (
        "idle_in_transaction_session_timeout",
        "0",
        "ends a session whose client is silent in a block for longer; 0 is never",
    ),
    ("intervalstyle", "postgres", "accepted"),
    ("lock_timeout", "0", "ends a statement that waits longer for a lock; 0 is never"),
    ("read_timestamp", "now", "when reads happen: a timestamp, an age such as -5s, or now"),
    ("search_path", "public", "accepted"),
    ("server_encoding", "UTF8", "always UTF8"),
    ("server_version", "15.0", "the PostgreSQL whose dialect this is"),
    ("standard_conforming_strings", "on", "always on"),
    ("statement_timeout", "0", "ends a statement that takes longer; 0 is never"),
    ("timezone", "UTC", "always UTC"),
    ("transaction_isolation", "serializable", "always serializable"),
    ("transaction_read_only", "off", "whether the transaction is read-only"),
];

/// The longest value of a setting, in bytes.
const VALUE_BYTES_MAX: usize = 1024;

/// The settings of one session.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    values: BTreeMap<&'static str, String>,
    read_time: Option<TimeExpr>,
    read_only: bool,
    /// By name, in milliseconds.
    timeouts_ms: BTreeMap<&'static str, i64>,
}

/// Settings that are times.
const TIMEOUTS: &[&str] = &["idle_in_transaction_session_timeout", "lock_timeout", "statement_timeout"];

fn known(name: &str) -> Result<&'static (&'static str, &'static str, &'static str), SqlError> {
    let name = if name == "spanner.read_only_staleness" { "read_timestamp" } else { name };
    KNOWN
        .iter()
        .find(|(known, ..)| *known == name)
        .ok_or_else(|| SqlError::new("42704", format!("unrecognized configuration parameter \"{name}\"")))
}

fn invalid(name: &str, value: &str) -> SqlError {
    SqlError::new("22023", format!("invalid value for parameter \"{name}\": \"{value}\""))
}

impl Settings {
    /// When autocommitted reads and read-only transactions happen; `None` for the present.
    pub fn read_time(&self) -> Option<TimeExpr> {
        self.read_time
    }

    /// Whether a plain BEGIN is read-only.
    pub fn read_only(&self) -> bool {
        self.read_only
    }

    /// One of the timeouts, in nanoseconds; `None` for never.
    pub fn timeout_ns(&self, name: &str) -> Option<i64> {
        self.timeouts_ms.get(name).filter(|ms| **ms > 0).map(|ms| ms * 1_000_000)
    }

    /// Sets one; `None` for its default. 42704 for a name that there is not, 22023 for a value that
    /// it cannot have.
    pub fn set(&mut self, name: &str, value: Option<&str>) -> Result<(), SqlError> {
        let (name, default, _) = *known(name)?;
        let value = value.unwrap_or(default);
        if value.len() > VALUE_BYTES_MAX {
            return Err(SqlError::new("22023", format!("value of parameter \"{name}\" is too long")));
        }
        if TIMEOUTS.contains(&name) {
            let ms = timeout::parse(name, value)?;
            self.timeouts_ms.insert(name, ms);
            self.values.insert(name, timeout::show(ms));
            return Ok(());
        }
        match name {
            "read_timestamp" => {
                // PGAdapter's form of Spanner's bounds.
                let upper = value.trim().to_ascii_uppercase();
                self.read_time = match upper.split_once(' ') {
                    Some(("EXACT_STALENESS", age)) => {
                        TimeExpr::parse_setting(&format!("-{}", age.trim().to_ascii_lowercase()))?
                    }
                    Some(("READ_TIMESTAMP", at)) => TimeExpr::parse_setting(at)?,
                    _ => TimeExpr::parse_setting(value)?,
                };
            }
            "default_transaction_read_only" => {
                self.read_only = match value::parse_text(value, DataType::Bool) {
                    Ok(Datum::Bool(on)) => on,
                    _ => return Err(invalid(name, value)),
                };
            }
            "client_encoding" | "server_encoding"
                if !matches!(value.to_ascii_lowercase().as_str(), "utf8" | "utf-8" | "unicode") =>
            {
                return Err(invalid(name, value));
            }
            "timezone"
                if !matches!(
                    value.to_ascii_lowercase().as_str(),
                    "utc" | "gmt" | "etc/utc" | "z" | "default" | "local"
                ) =>
            {
                return Err(invalid(name, value).hint("Times are always shown in UTC."));
            }
            "standard_conforming_strings" if !value.eq_ignore_ascii_case("on") && value != "true" => {
                return Err(invalid(name, value));
            }
            "server_version" | "transaction_read_only" => {
                return Err(SqlError::new("55P02", format!("parameter \"{name}\" cannot be changed")));
            }
            _ => {}
        }
        self.values.insert(name, value.to_string());
        Ok(())
    }

    /// The value of one. 42704.
    pub fn get(&self, name: &str) -> Result<&str, SqlError> {
        let (name, default, _) = *known(name)?;
        Ok(self.values.get(name).map_or(default, String::as_str))
    }

    /// All of them: name, value, description.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, &str, &'static str)> {
        KNOWN
            .iter()
            .map(|(name, default, about)| (*name, self.values.get(name).map_or(*default, String::as_str), *about))
    }
}
