//! What writing rows means for the entries of indexes.
//!
//! Which entries a statement deletes and writes follows from the row before and after it, and from how far each
//! index has come (see `catalog/index.rs`); an index of which neither key nor value changes is not touched. A
//! unique index's key is locked, exclusively, as the statement runs, and read: it must be free, or left by the same
//! statement.
//!
//! Until all rows of a table have an entry in a unique index, two of them may agree in its columns, and then the one
//! entry is of one of them. A statement that deletes the other must leave it alone: hence [`Owners`].

use std::collections::BTreeMap;

use txn::{Key, Mutation};

use super::insert::{read_keys, shown};
use super::{Failure, Reader};
use crate::SqlError;
use crate::catalog::{Index, Table};
use crate::engine::Engine;
use crate::entry::Entry;
use crate::plan::index::Maintained;
use crate::types::Datum;

/// 23505, as PostgreSQL says it.
pub(crate) fn duplicate(table: &Table, index: &Index, row: &[Datum]) -> SqlError {
    let values = shown(index.columns.iter().map(|part| &row[part.column]));
    SqlError::new("23505", format!("duplicate key value violates unique constraint \"{}\"", index.name))
        .detail(format!("Key ({})=({values}) already exists.", index.column_names(table)))
}

/// Whose entries of a unique index are: the keys of their rows.
#[derive(Debug, Default)]
pub(crate) struct Owners(BTreeMap<Key, Option<Key>>);

impl Owners {
    /// Reads and locks.
    pub(crate) async fn read<E: Engine>(
        known: &Maintained,
        table: &Table,
        keys: Vec<Key>,
        reader: &mut Reader<'_, E>,
    ) -> Result<Owners, Failure> {
        let mut owners = Owners::default();
        owners.add(known, table, keys, reader).await?;
        Ok(owners)
    }

    async fn add<E: Engine>(
        &mut self,
        known: &Maintained,
        table: &Table,
        keys: Vec<Key>,
        reader: &mut Reader<'_, E>,
    ) -> Result<(), Failure> {
        if keys.is_empty() {
            return Ok(());
        }
        let there = read_keys(keys.iter().cloned(), reader).await?;
        for key in keys {
            let owner = there.get(&key).map(|value| known.layout.row_key(table, &key, value)).transpose()?;
            self.0.insert(key, owner);
        }
        Ok(())
    }

    /// The owner of an entry that was read; none if it is not there.
    pub(crate) fn get(&self, entry: &Key) -> Option<&Key> {
        self.0.get(entry)?.as_ref()
    }

    /// Whether an entry is a row's.
    pub(super) fn is(&self, entry: &Entry, row: &Key) -> bool {
        self.get(&entry.key) == Some(row)
    }
}

/// The entries of the rows that one INSERT writes, as they are after each of its rows.
pub(super) struct Writer<'a> {
    table: &'a Table,
    indexes: &'a [Maintained],
    /// For each index.
    owners: Vec<Owners>,
    pub(super) mutations: Vec<Mutation>,
}

impl<'a> Writer<'a> {
    /// Reads and locks the entries that these rows would have in unique indexes.
    pub(super) async fn new<E: Engine>(
        table: &'a Table,
        indexes: &'a [Maintained],
        rows: impl Iterator<Item = &Vec<Datum>> + Clone,
        reader: &mut Reader<'_, E>,
    ) -> Result<Writer<'a>, Failure> {
        let mut owners = Vec::with_capacity(indexes.len());
        for known in indexes {
            let mut keys = Vec::new();
            if known.keeps_unique() {
                for row in rows.clone() {
                    keys.extend(known.entry(row)?.filter(|entry| entry.is_unique).map(|entry| entry.key));
                }
            }
            owners.push(Owners::read(known, table, keys, reader).await?);
        }
        Ok(Writer { table, indexes, owners, mutations: Vec::new() })
    }

    /// The row that has, in a unique index, what this one would have.
    pub(super) fn conflict(&self, index: usize, row: &[Datum]) -> Result<Option<Key>, SqlError> {
        let known = &self.indexes[index];
        if !known.keeps_unique() {
            return Ok(None);
        }
        let entry = known.entry(row)?.filter(|entry| entry.is_unique);
        Ok(entry.and_then(|entry| self.owners[index].get(&entry.key).cloned()))
    }

    /// The first unique index, but for one, in which another row has what this one would have.
    pub(super) fn any_conflict(&self, row: &[Datum], except: Option<usize>) -> Result<Option<usize>, SqlError> {
        for index in (0..self.indexes.len()).filter(|index| Some(*index) != except) {
            if self.conflict(index, row)?.is_some() {
                return Ok(Some(index));
            }
        }
        Ok(None)
    }

    /// 23505 of an index.
    pub(super) fn duplicate(&self, index: usize, row: &[Datum]) -> SqlError {
        duplicate(self.table, &self.indexes[index].index, row)
    }

    /// A row of this key changes, or is new.
    pub(super) async fn change<E: Engine>(
        &mut self,
        key: &Key,
        old: Option<&[Datum]>,
        new: &[Datum],
        reader: &mut Reader<'_, E>,
    ) -> Result<(), Failure> {
        for (at, known) in self.indexes.iter().enumerate() {
            let old = old.map(|old| known.entry(old)).transpose()?.flatten();
            let entry = known.entry(new)?;
            if old == entry {
                continue;
            }
            let owners = &mut self.owners[at];
            let mut unread = Vec::new();
            for entry in old.iter().chain(&entry).filter(|entry| known.index.unique && entry.is_unique) {
                if !owners.0.contains_key(&entry.key) {
                    unread.push(entry.key.clone());
                }
            }
            owners.add(known, self.table, unread, reader).await?;
            if let Some(old) = old {
                let owned = !known.may_be_of_another() || !old.is_unique || owners.is(&old, key);
                if owned {
                    owners.0.insert(old.key.clone(), None);
                    self.mutations.push(Mutation { key: old.key, value: None });
                }
            }
            let Some(entry) = entry.filter(|_| known.index.state.writes()) else { continue };
            if known.keeps_unique() && entry.is_unique {
                if owners.get(&entry.key).is_some() {
                    return Err(duplicate(self.table, &known.index, new).into());
                }
                owners.0.insert(entry.key.clone(), Some(key.clone()));
            }
            self.mutations.push(Mutation { key: entry.key, value: Some(entry.value) });
        }
        Ok(())
    }
}
