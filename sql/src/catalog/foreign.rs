//! Foreign keys as the catalog has them.
//!
//! # Who must know
//!
//! A foreign key is kept by two kinds of writers. Who writes a row of the referencing table (the child) looks for the
//! row that it refers to (of the parent), under a shared lock on the key, or on the entry of the unique index, by
//! which it is referred to. Who takes such a key away from the parent looks for rows of the child that refer to it,
//! under a lock on the span of a child's index that begins with it. So the child's descriptor has the constraint,
//! and the parent's says which tables refer to it ([`Foreign::referenced_by`]): a statement that was planned
//! without that is one that was planned by another descriptor, and ends with its catalog's lease.
//!
//! # The steps of CREATE TABLE .. REFERENCES
//!
//! Gateways learn of a change at different times (see `catalog/index.rs`). Were the child usable at once, gateway A
//! could insert a child row, while gateway B, whose catalog is a second old, deletes its parent without a look.
//!
//! ```text
//!            one transaction                         wait_until           one transaction
//!   absent -------------------> child: in the making -----------> child: usable
//!                               parent: referenced by it          (the descriptor's `making` goes)
//! ```
//!
//! 1. One transaction writes both descriptors. A child in the making has its name, and nobody can read or write it: to
//!    statements it is not there. It is empty, so whoever does not know of it violates nothing.
//! 2. A job waits until no gateway can go by a catalog that is older than that. The end of the wait is written down
//!    by whoever has read the effect of the first step under a lock (`jobs/foreign.rs`): a catalog without it was
//!    known before, and ends a lease after that.
//! 3. One transaction makes the child usable. At each timestamp from here on, all transactions that write the
//!    parent were planned by a catalog that has the child, in the making or usable; both look for its rows.
//!
//! If the gateway is lost in between, another one takes the job over. A table that refers to no other needs no wait.
//!
//! The other way there is nothing to wait for: DROP TABLE of the child takes the constraint from the parent in the
//! same transaction. A gateway that does not know yet may write rows that refer to nothing into a table that is gone.
//! The same holds of DROP TABLE .. CASCADE of the parent: who still checks finds the rows of a dropped table.
//!
//! # The steps of ALTER TABLE .. ADD FOREIGN KEY
//!
//! Both tables are in use, so the constraint is kept before it holds, as a CHECK is (`constraint.rs`, `ddl/steps.rs`):
//!
//! ```text
//!           one transaction                      wait_until, a look             one transaction
//!   absent ------------------> child: validating ---------------> child: public
//!                              parent: referenced by it           (a row refers to nothing: absent again)
//! ```
//!
//! 1. One transaction writes both descriptors. From then on whoever knows it keeps it, on both sides.
//! 2. While some go by the catalog before, a row may come to refer to nothing: old A deletes a parent without a look, new B
//!    has just inserted a child of it. Neither is wrong, since nobody was promised anything yet.
//! 3. After the wait nobody goes by the catalog before. A job reads all rows of the child, and the keys that they refer
//!    to, at one timestamp that is later (`jobs/validate.rs`). If each is there then, each is there for ever:
//!    what commits at later timestamps was planned by a catalog that has the constraint, on whichever side
//!    it writes, and the two sides meet on the parent's key. If one is not, both descriptors go back, and the statement fails.
//! 4. Validating and public are kept by the same looks and locks, so those who are one step apart agree. They
//!    differ in what an action does: as long as the constraint may be taken back, CASCADE and its like write nothing, but
//!    refuse as NO ACTION does. Else rows would be gone because of a constraint that there never was.
//!
//! NOT VALID ends after the first step: that statement waits out the lease like any other. VALIDATE CONSTRAINT looks at
//! the rows from there; its job holds both tables, and actions go on as before.
//!
//! For 3. a transaction that was planned without the constraint must end with its catalog's lease. It would not if its
//! table looked the same to a later catalog (`session/touched.rs`): the child never does, because it has the
//! constraint. The parent may be referred to by this child already, by another key, about which an UPDATE of other columns
//! does not ask. So the parent's `numbers` are raised with each key that comes, and its descriptor is never again what it was.
//!
//! Both tables are in the job's steps until its end, and nothing else changes or drops either of them (55006).
//!
//! # Indexes
//!
//! The referenced columns are those of the parent's primary key or of a public, whole unique index. The referencing
//! ones are the first of some whole index of the child, or of its primary key: CREATE TABLE adds an index if there
//! is none. ALTER TABLE does so by a job of its own, before anything else. It is public then, and those who are a
//! step behind write all its entries. DROP INDEX refuses to take the last such index away.
//!
//! Columns are named by their ids and tables by theirs, so that neither a new name nor a column that goes
//! changes what a constraint says.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Catalog, CheckState, IndexState, Table};
use crate::SqlError;

/// What happens to rows that refer to a key that goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// An error, if there still are some at the end of the statement.
    NoAction,
    /// An error, even if the same key is there again.
    Restrict,
    /// They go, too, or take the new key.
    Cascade,
    /// They refer to nothing.
    SetNull,
    /// They refer to their columns' defaults.
    SetDefault,
}

impl Action {
    /// As SQL writes it.
    pub fn name(self) -> &'static str {
        match self {
            Action::NoAction => "NO ACTION",
            Action::Restrict => "RESTRICT",
            Action::Cascade => "CASCADE",
            Action::SetNull => "SET NULL",
            Action::SetDefault => "SET DEFAULT",
        }
    }

    /// Whether rows of the child are written.
    pub fn writes(self) -> bool {
        matches!(self, Action::Cascade | Action::SetNull | Action::SetDefault)
    }
}

/// A foreign key, in the descriptor of the table that refers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForeignKey {
    /// Unique in the table.
    pub name: String,
    /// The ids of the columns that refer.
    pub columns: Vec<u32>,
    /// The id of the table that they refer to,
    pub parent: u32,
    /// and of its columns, each beside its own.
    pub parent_columns: Vec<u32>,
    /// When the parent's row is deleted.
    pub on_delete: Action,
    /// When its key changes.
    pub on_update: Action,
    /// Whether all rows are known to keep it; whoever writes keeps it in any case.
    #[serde(default = "public", skip_serializing_if = "is_public")]
    pub state: CheckState,
}

/// For serde: what is not said.
fn public() -> CheckState {
    CheckState::Public
}

/// The same.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_public(state: &CheckState) -> bool {
    *state == CheckState::Public
}

impl ForeignKey {
    /// What happens when a row that is referred to is deleted, and when its key changes. Nothing is written because
    /// of a constraint that may yet be taken back.
    pub fn actions(&self) -> (Action, Action) {
        let kept = |action: Action| {
            if self.state == CheckState::Validating && action.writes() { Action::NoAction } else { action }
        };
        (kept(self.on_delete), kept(self.on_update))
    }

    /// Whether it says the same, whatever each of them is called, and however far it is.
    pub(crate) fn is_same(&self, other: &ForeignKey) -> bool {
        ForeignKey { name: other.name.clone(), state: other.state, ..self.clone() } == *other
    }
}

/// What a table has to do with foreign keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Foreign {
    /// Its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<ForeignKey>,
    /// The ids of the tables that refer to it, itself not among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub referenced_by: Vec<u32>,
    /// Nobody can use it yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub making: bool,
}

impl Foreign {
    /// Whether there is nothing to be said.
    pub fn is_empty(&self) -> bool {
        *self == Foreign::default()
    }
}

impl Foreign {
    /// Whether the descriptor makes sense beside its table's.
    pub(super) fn is_sound(&self, table: &Table) -> bool {
        self.keys.iter().all(|key| {
            let distinct = |ids: &[u32]| ids.iter().enumerate().all(|(at, id)| !ids[..at].contains(id));
            !key.columns.is_empty()
                && key.columns.len() == key.parent_columns.len()
                && distinct(&key.columns)
                && distinct(&key.parent_columns)
                && key.columns.iter().all(|id| table.column_by_id(*id).is_some())
        })
    }
}

/// The keys by which rows are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Of the table.
    Primary,
    /// Of that one of its indexes.
    Index(usize),
}

/// Whether the lists have the same members; neither has one twice.
fn same(a: impl Iterator<Item = usize>, b: &[usize]) -> bool {
    let mut a: Vec<usize> = a.collect();
    let mut b = b.to_vec();
    a.sort_unstable();
    b.sort_unstable();
    a == b
}

impl Table {
    /// The indexes of columns, by their ids. XX001 if one is gone.
    pub fn columns_by_id(&self, ids: &[u32]) -> Result<Vec<usize>, SqlError> {
        let at = |id: &u32| {
            let gone = || SqlError::new("XX001", format!("a foreign key names a column that \"{}\" lacks", self.name));
            self.column_by_id(*id).ok_or_else(gone)
        };
        ids.iter().map(at).collect()
    }

    /// The names of columns, by their ids.
    pub fn names_by_id(&self, ids: &[u32]) -> Vec<&str> {
        ids.iter().filter_map(|id| self.column_by_id(*id)).map(|at| self.columns[at].name.as_str()).collect()
    }

    /// How a row is found by the columns that are unique together; `without`: not by the index of that name.
    pub fn parent_way(&self, columns: &[usize], without: Option<&str>) -> Option<Way> {
        if same(self.key.iter().map(|part| part.column), columns) {
            return Some(Way::Primary);
        }
        let found = self.indexes.iter().position(|index| {
            index.unique
                && index.state == IndexState::Public
                && index.predicate.is_none()
                && Some(index.name.as_str()) != without
                && same(index.columns.iter().map(|part| part.column), columns)
        });
        found.map(Way::Index)
    }

    /// How the rows are found that have given values in these columns.
    pub fn child_way(&self, columns: &[usize], without: Option<&str>) -> Option<Way> {
        let count = columns.len();
        if self.key.len() >= count && same(self.key[..count].iter().map(|part| part.column), columns) {
            return Some(Way::Primary);
        }
        let found = self.indexes.iter().position(|index| {
            index.state == IndexState::Public
                && index.predicate.is_none()
                && Some(index.name.as_str()) != without
                && index.columns.len() >= count
                && same(index.columns[..count].iter().map(|part| part.column), columns)
        });
        found.map(Way::Index)
    }
}

impl Catalog {
    /// A table by id, also one in the making.
    pub fn any_table_by_id(&self, id: u32) -> Option<&Arc<Table>> {
        self.tables.values().chain(self.making.values()).find(|table| table.id == id)
    }

    /// A table by name, also one in the making.
    pub fn any_table(&self, name: &str) -> Option<&Arc<Table>> {
        self.tables.get(name).or_else(|| self.making.get(name))
    }

    /// The tables that refer to one, itself among them, each with the constraint.
    pub fn referring<'a>(&'a self, table: &'a Table) -> impl Iterator<Item = (&'a Arc<Table>, &'a ForeignKey)> {
        let own = (!table.foreign.keys.is_empty()).then_some(table.id);
        let ids = table.foreign.referenced_by.iter().copied().chain(own);
        let children = ids.filter_map(|id| self.any_table_by_id(id));
        children.flat_map(move |child| {
            let keys = child.foreign.keys.iter().filter(|key| key.parent == table.id);
            keys.map(move |key| (child, key))
        })
    }
}
