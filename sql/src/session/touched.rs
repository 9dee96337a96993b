//! The tables that a transaction has touched, and until when it may commit because of them.
//!
//! A statement is planned by a catalog that holds, or is one step behind, up to a timestamp
//! ([`crate::catalog::Catalog::valid_until`]): the transaction must not commit after it. A transaction block may well last
//! longer than that. So at its commit the catalog is looked at again: where a table's descriptor is still
//! what the statements went by, the newer catalog vouches for it, up to its own end; where it has changed, the
//! old end stays. The group that chooses the commit timestamp keeps the least of these ends.

use std::sync::Arc;

use truetime::Timestamp;

use super::Database;
use crate::SqlError;
use crate::catalog::{CATALOG_LEASE_NS, Table};
use crate::engine::Engine;

/// Descriptors as they were when statements were planned by them, each with the end of what is known of it.
#[derive(Debug, Default)]
pub(super) struct Touched {
    tables: Vec<(Arc<Table>, Timestamp)>,
}

impl Touched {
    pub(super) fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// A statement was planned with this descriptor, out of a catalog that holds until then.
    pub(super) fn add(&mut self, table: &Arc<Table>, valid_until: Timestamp) {
        match self.tables.iter_mut().find(|(known, _)| Arc::ptr_eq(known, table) || known == table) {
            Some((_, until)) => *until = valid_until.max(*until),
            None => self.tables.push((Arc::clone(table), valid_until)),
        }
    }

    /// The latest timestamp at which the transaction may commit; none if it touched no table. 40001 if a table was
    /// dropped or truncated since.
    pub(super) async fn deadline<E: Engine>(&self, db: &Database<E>) -> Result<Option<Timestamp>, SqlError> {
        if self.tables.is_empty() {
            return Ok(None);
        }
        let mut catalog = db.catalog().await?;
        // One that is about to run out would leave the commit no time.
        let soon = db.engine().now().latest.plus_ns(CATALOG_LEASE_NS / 2);
        if soon > catalog.valid_until()
            && let Ok(newer) = db.load_strong().await
        {
            catalog = newer;
        }
        let mut deadline: Option<Timestamp> = None;
        for (table, until) in &self.tables {
            // By its id: it may be called otherwise now.
            let until = match catalog.any_table_by_id(table.id) {
                Some(current) if current == table => catalog.valid_until().max(*until),
                Some(_) => *until,
                None => {
                    // By another id, it is another table, or has lost all its rows.
                    let what = if catalog.table(&table.name).is_some() { "truncated, or made anew" } else { "dropped" };
                    let message = format!("could not serialize access: table \"{}\" was {what}", table.name);
                    return Err(SqlError::new("40001", message).hint("Retry the transaction from its start."));
                }
            };
            deadline = Some(deadline.map_or(until, |known| known.min(until)));
        }
        Ok(deadline)
    }
}
