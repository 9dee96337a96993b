//! Foreign keys in plans: what a statement that writes must look at, and what it must write beside.
//!
//! A statement on one table may write others: by CASCADE their rows, and the rows that refer to those. So a plan
//! has a graph of the tables that it can reach, each with its indexes and with the constraints on both of its sides,
//! made once when the statement is planned. All of them are tables that the transaction has touched: it must
//! not commit by a descriptor that is out of date.

use std::collections::BTreeMap;
use std::sync::Arc;

use txn::Span;
use txn::types::KEY_BYTES_MAX;

use super::access::after_prefix;
use super::check::Checks;
use super::generated::{Computed, computed, default_value};
use super::index::{self, Maintained};
use crate::SqlError;
use crate::catalog::{Action, Catalog, ForeignKey, Table, Way};
use crate::entry::Layout;
use crate::expr::{Expr, Params};
use crate::types::{DataType, Datum};
use crate::value;

/// How the rows are found that have given values in some columns.
#[derive(Clone, Debug)]
pub struct Lookup {
    /// The keys that are read.
    pub layout: Layout,
    /// Whether they are those of an index's entries.
    pub is_index: bool,
    /// For each of the first columns of the keys, which of the values it has.
    order: Vec<usize>,
    /// The types of the columns, in the order of the values.
    types: Vec<DataType>,
    /// The index's name, for messages.
    pub name: String,
}

/// A value as one of another type, if there is one that is equal.
fn convert(datum: &Datum, to: DataType) -> Option<Datum> {
    if datum.is_of(to) {
        return Some(datum.clone());
    }
    let back = datum.data_type()?;
    let other = value::cast(datum.clone(), to).ok()?;
    let again = value::cast(other.clone(), back).ok()?;
    value::compare(&again, datum).is_eq().then_some(other)
}

impl Lookup {
    fn new(table: &Table, columns: &[usize], way: Option<Way>) -> Result<Lookup, SqlError> {
        let lost = || SqlError::new("XX001", format!("a foreign key needs an index that \"{}\" lacks", table.name));
        let (layout, is_index, name) = match way.ok_or_else(lost)? {
            Way::Primary => (Layout::primary(table), false, format!("{}_pkey", table.name)),
            Way::Index(at) => (Layout::of(table, &table.indexes[at]), true, table.indexes[at].name.clone()),
        };
        let place = |at: usize| {
            let column = layout.parts.get(at).map(|part| part.column);
            columns.iter().position(|known| Some(*known) == column).ok_or_else(lost)
        };
        let order = (0..columns.len()).map(place).collect::<Result<_, _>>()?;
        let types = columns.iter().map(|column| table.columns[*column].ty).collect();
        Ok(Lookup { layout, is_index, order, types, name })
    }

    /// What the keys begin with whose rows have these values; none if no row can have them.
    pub fn key(&self, values: &[Datum]) -> Option<Vec<u8>> {
        let mut key = self.layout.prefix.clone();
        for (part, at) in self.layout.parts.iter().zip(&self.order) {
            part.encode_value(&mut key, Some(&convert(&values[*at], self.types[*at])?));
        }
        (key.len() <= KEY_BYTES_MAX).then_some(key)
    }

    /// All keys that begin so.
    pub fn span(&self, key: Vec<u8>) -> Span {
        Span::new(key.clone(), after_prefix(key))
    }
}

/// A constraint on the rows of a table: they refer to others.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// Its name.
    pub name: String,
    /// The columns that refer.
    pub columns: Vec<usize>,
    /// Where to.
    pub parent: Arc<Table>,
    /// How the parent's row is found.
    pub lookup: Lookup,
}

/// A constraint on the keys of a table: others refer to them.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// Its name.
    pub name: String,
    /// The columns that are referred to.
    pub columns: Vec<usize>,
    /// How a row with the same key is found.
    pub own: Lookup,
    /// Who refers.
    pub child: Arc<Table>,
    /// The columns that refer.
    pub child_columns: Vec<usize>,
    /// How the rows that refer are found.
    pub lookup: Lookup,
    /// When a row is deleted.
    pub on_delete: Action,
    /// When its key changes.
    pub on_update: Action,
    /// What the referring columns are by SET DEFAULT.
    pub defaults: Vec<Expr>,
}

/// A table that a statement may write.
#[derive(Clone, Debug)]
pub struct Node {
    /// The table.
    pub table: Arc<Table>,
    /// What else is to be written with its rows.
    pub indexes: Vec<Maintained>,
    /// Its columns that are computed.
    pub computed: Computed,
    /// What its rows must be.
    pub checks: Checks,
    /// Its own constraints.
    pub parents: Vec<Outgoing>,
    /// Those that refer to it.
    pub children: Vec<Incoming>,
}

/// All tables that a statement may write, by their ids.
#[derive(Clone, Debug)]
pub struct Graph {
    /// The table of the statement.
    pub root: u32,
    /// Its tables.
    pub nodes: BTreeMap<u32, Node>,
}

impl Graph {
    /// The tables that the statement must know as they are.
    pub fn tables(&self) -> impl Iterator<Item = &Arc<Table>> {
        self.nodes.values().flat_map(|node| {
            let parents = node.parents.iter().map(|parent| &parent.parent);
            let children = node.children.iter().map(|child| &child.child);
            std::iter::once(&node.table).chain(parents).chain(children)
        })
    }
}

/// What a statement does to the rows of its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writes<'a> {
    /// Puts new ones in, and nothing else.
    Inserts,
    /// Puts new ones in, or changes any column of those that are there.
    InsertsOrUpdates,
    /// Changes these columns.
    Updates(&'a [usize]),
    /// Takes them out.
    Deletes,
}

/// The graph of a statement; none if no foreign key concerns it.
pub fn graph(table: &Arc<Table>, catalog: &Catalog, writes: Writes<'_>) -> Result<Option<Arc<Graph>>, SqlError> {
    let hits = |ids: &[u32], columns: &[usize]| {
        ids.iter().any(|id| table.column_by_id(*id).is_some_and(|at| columns.contains(&at)))
    };
    let (own, theirs) = match writes {
        Writes::Inserts => (!table.foreign.keys.is_empty(), false),
        Writes::InsertsOrUpdates => (!table.foreign.keys.is_empty(), catalog.referring(table).next().is_some()),
        Writes::Updates(columns) => (
            table.foreign.keys.iter().any(|key| hits(&key.columns, columns)),
            catalog.referring(table).any(|(_, key)| hits(&key.parent_columns, columns)),
        ),
        Writes::Deletes => (false, catalog.referring(table).next().is_some()),
    };
    if !own && !theirs {
        return Ok(None);
    }
    let mut graph = Graph { root: table.id, nodes: BTreeMap::new() };
    let mut todo = vec![(Arc::clone(table), own || theirs, theirs)];
    while let Some((table, own, theirs)) = todo.pop() {
        if graph.nodes.contains_key(&table.id) {
            continue;
        }
        let mut node = Node {
            indexes: index::maintained(&table, catalog.sabotage)?,
            computed: computed(&table)?,
            checks: Checks::of(&table)?,
            parents: Vec::new(),
            children: Vec::new(),
            table: Arc::clone(&table),
        };
        for key in table.foreign.keys.iter().filter(|_| own) {
            let gone = || SqlError::new("XX001", format!("the table that \"{}\" refers to is gone", key.name));
            let parent = catalog.any_table_by_id(key.parent).ok_or_else(gone)?;
            node.parents.push(outgoing(&table, key, parent)?);
        }
        if theirs {
            for (child, key) in catalog.referring(&table) {
                node.children.push(incoming(&table, child, key)?);
                let (on_delete, on_update) = key.actions();
                if on_delete.writes() || on_update.writes() {
                    todo.push((Arc::clone(child), true, true));
                }
            }
        }
        graph.nodes.insert(table.id, node);
    }
    Ok(Some(Arc::new(graph)))
}

/// A constraint of a table, of which this is the one that it refers to.
pub(crate) fn outgoing(table: &Table, key: &ForeignKey, parent: &Arc<Table>) -> Result<Outgoing, SqlError> {
    let columns = parent.columns_by_id(&key.parent_columns)?;
    let lookup = Lookup::new(parent, &columns, parent.parent_way(&columns, None))?;
    let columns = table.columns_by_id(&key.columns)?;
    Ok(Outgoing { name: key.name.clone(), columns, parent: Arc::clone(parent), lookup })
}

fn incoming(table: &Table, child: &Arc<Table>, key: &ForeignKey) -> Result<Incoming, SqlError> {
    let columns = table.columns_by_id(&key.parent_columns)?;
    let own = Lookup::new(table, &columns, table.parent_way(&columns, None))?;
    let child_columns = child.columns_by_id(&key.columns)?;
    let lookup = Lookup::new(child, &child_columns, child.child_way(&child_columns, None))?;
    let (on_delete, on_update) = key.actions();
    let mut defaults = Vec::new();
    if on_delete == Action::SetDefault || on_update == Action::SetDefault {
        let mut params = Params::default();
        for column in &child_columns {
            defaults.push(default_value(child, *column, &mut params)?);
        }
    }
    let (name, child) = (key.name.clone(), Arc::clone(child));
    Ok(Incoming { name, columns, own, child, child_columns, lookup, on_delete, on_update, defaults })
}
