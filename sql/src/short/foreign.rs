//! Keeping foreign keys: what the rows that a statement has changed mean for other rows.
//!
//! All is done at the end of the statement, once its writes are buffered, and sees them: so rows may refer to rows of the
//! same statement, and the order of the rows does not matter.
//!
//! ```text
//!   rows changed --> for each constraint on keys that went: RESTRICT looks at once,
//!        ^           CASCADE, SET NULL, SET DEFAULT write the rows that refer
//!        +--------------------------------------------+        (level by level)
//!   nothing left to write --> NO ACTION: the key is there again, or nobody refers to it
//!                         --> each row written refers to a row that is there
//! ```
//!
//! # Locks
//!
//! A row's parent is read under a shared lock on its key, or on the entry of the unique index. Rows that refer are read
//! under a lock on the span of an index that begins with the key that went, empty or not: exclusive if they are to be
//! written, else shared. Whoever takes the parent's key away holds it exclusively, so the two sides meet on it in
//! either order; and with the span locked no row can come to refer to it until the transaction has ended.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use txn::client::ClientError;
use txn::types::TXN_BYTES_MAX;
use txn::{AbortReason, Key, LockMode, ReadOp, Span};

use super::check::check_row;
use super::insert::{read_points, shown};
use super::modify::{Change, Target, write_changes, write_deletes};
use super::{Failure, Reader, set_key};
use crate::SqlError;
use crate::catalog::{Action, Table};
use crate::engine::Engine;
use crate::expr::{EvalContext, eval};
use crate::plan::foreign::{Graph, Incoming, Lookup, Node, Outgoing};
use crate::plan::generated::compute;
use crate::row;
use crate::types::Datum;
use crate::value;

/// How far a change may go on by CASCADE and its like.
const LEVELS_MAX: usize = 1000;
/// The most spans of one read.
const SPANS_MAX: usize = 256;

/// A row before and after a statement. Its key is the present one, or the last.
pub(super) struct Changed {
    pub(super) key: Key,
    pub(super) old: Option<Vec<Datum>>,
    pub(super) new: Option<Vec<Datum>>,
}

/// These columns of a row; none if one of them is NULL: such a row refers to nothing, and nothing to it.
pub(crate) fn pick(row: &[Datum], columns: &[usize]) -> Option<Vec<Datum>> {
    let values: Vec<Datum> = columns.iter().map(|column| row[*column].clone()).collect();
    values.iter().all(|value| !value.is_null()).then_some(values)
}

fn equal(a: &[Datum], b: &[Datum]) -> bool {
    a.iter().zip(b).all(|(a, b)| value::compare(a, b).is_eq())
}

fn names(table: &Table, columns: &[usize]) -> String {
    columns.iter().map(|column| table.columns[*column].name.as_str()).collect::<Vec<_>>().join(", ")
}

/// 23503: a row refers to one that is not there.
pub(crate) fn not_present(table: &Table, key: &Outgoing, values: &[Datum]) -> SqlError {
    let message =
        format!("insert or update on table \"{}\" violates foreign key constraint \"{}\"", table.name, key.name);
    let (names, values) = (names(table, &key.columns), shown(values.iter()));
    let detail = format!("Key ({names})=({values}) is not present in table \"{}\".", key.parent.name);
    SqlError::new("23503", message).detail(detail)
}

/// 23503: a key goes that rows refer to.
fn still_referenced(table: &Table, key: &Incoming, values: &[Datum]) -> SqlError {
    let (name, child) = (&key.name, &key.child.name);
    let message = format!(
        "update or delete on table \"{}\" violates foreign key constraint \"{name}\" on table \"{child}\"",
        table.name
    );
    let (names, values) = (names(table, &key.columns), shown(values.iter()));
    SqlError::new("23503", message)
        .detail(format!("Key ({names})=({values}) is still referenced from table \"{child}\"."))
}

/// Which of these keys are there, by their places.
async fn present<E: Engine>(
    lookup: &Lookup,
    wanted: &[&[Datum]],
    reader: &mut Reader<'_, E>,
) -> Result<Vec<bool>, Failure> {
    let keys: Vec<Option<Key>> = wanted.iter().map(|values| lookup.key(values).map(Key::from)).collect();
    let there = read_points(keys.iter().flatten().cloned(), LockMode::Shared, reader).await?;
    Ok(keys.iter().map(|key| key.as_ref().is_some_and(|key| there.contains_key(key))).collect())
}

/// The rows, or the entries, of these spans, each by its span's place: all of them, or so many.
async fn read_spans<E: Engine>(
    spans: Vec<Span>,
    limit: u64,
    mode: LockMode,
    reader: &mut Reader<'_, E>,
) -> Result<Vec<Vec<txn::Row>>, Failure> {
    let mut found = vec![Vec::new(); spans.len()];
    let mut left: VecDeque<(usize, Span)> = spans.into_iter().enumerate().collect();
    let mut bytes = 0;
    while !left.is_empty() {
        let batch: Vec<(usize, Span)> = left.drain(..left.len().min(SPANS_MAX)).collect();
        let ops = batch.iter().map(|(_, span)| ReadOp { span: span.clone(), reverse: false, limit }).collect();
        let results = reader.read(ops, mode, true).await?;
        let mut moved = false;
        for ((at, _), result) in batch.into_iter().zip(results) {
            moved |= !result.rows.is_empty() || result.resume.is_none();
            bytes += super::bytes_of(&result.rows);
            let enough = limit > 0 && !result.rows.is_empty();
            if let Some(rest) = result.resume.filter(|rest| !enough && !rest.is_empty()) {
                left.push_back((at, rest));
            }
            found[at].extend(result.rows);
        }
        if !moved {
            return Err(SqlError::new("XX000", "a read made no progress").into());
        }
        if bytes > TXN_BYTES_MAX as u64 {
            return Err(SqlError::new("54000", "the statement changes too many rows at once")
                .detail(format!("A transaction writes at most {TXN_BYTES_MAX} bytes, by foreign keys too."))
                .hint("Change the rows that refer first, in parts.")
                .into());
        }
    }
    Ok(found)
}

/// The first of these keys to which a row refers.
async fn first_referenced<'k, E: Engine>(
    key: &Incoming,
    keys: impl Iterator<Item = &'k [Datum]>,
    reader: &mut Reader<'_, E>,
) -> Result<Option<&'k [Datum]>, Failure> {
    let mut wanted = Vec::new();
    let mut spans = Vec::new();
    for values in keys {
        if let Some(prefix) = key.lookup.key(values) {
            wanted.push(values);
            spans.push(key.lookup.span(prefix));
        }
    }
    let found = read_spans(spans, 1, LockMode::Shared, reader).await?;
    Ok(wanted.into_iter().zip(found).find(|(_, rows)| !rows.is_empty()).map(|(values, _)| values))
}

/// The rows that refer to any of these keys, locked to be written.
async fn referring<E: Engine>(
    key: &Incoming,
    keys: impl Iterator<Item = &[Datum]>,
    reader: &mut Reader<'_, E>,
) -> Result<Vec<Target>, Failure> {
    let table = &key.child;
    let spans = keys.filter_map(|values| Some(key.lookup.span(key.lookup.key(values)?))).collect();
    let page: Vec<txn::Row> = read_spans(spans, 0, LockMode::Exclusive, reader).await?.into_iter().flatten().collect();
    let mut found = Vec::with_capacity(page.len());
    if !key.lookup.is_index {
        for stored in page {
            let row = row::decode_row(table, &stored.key, &stored.value)?;
            found.push((stored.key, row));
        }
        return Ok(found);
    }
    let keys = page.iter().map(|entry| key.lookup.layout.row_key(table, &entry.key, &entry.value));
    let keys: Vec<Key> = keys.collect::<Result<_, SqlError>>()?;
    let rows = read_points(keys.iter().cloned(), LockMode::Exclusive, reader).await?;
    for key in keys {
        // An entry without its row: the locks were lost meanwhile.
        let stored = rows.get(&key).ok_or_else(|| ClientError::aborted(AbortReason::LocksLost))?;
        let row = row::decode_row(table, &key, stored)?;
        found.push((key, row));
    }
    Ok(found)
}

/// The values that refer, and the place of their row in the statement.
type Placed = (usize, Vec<Datum>);

/// A row that was written, and the constraints that it may violate.
struct Pending {
    /// The place in the statement.
    place: usize,
    row: Vec<Datum>,
    constraints: BTreeSet<usize>,
}

/// What is left to be looked at once nothing is written any more.
#[derive(Default)]
struct Left {
    rows: BTreeMap<(u32, Key), Pending>,
    /// How many rows were written.
    places: usize,
    /// Table, constraint, and keys that went.
    keys: Vec<(u32, usize, Vec<Vec<Datum>>)>,
}

impl Left {
    fn note(&mut self, node: &Node, changes: &[Changed]) -> Result<(), SqlError> {
        let id = node.table.id;
        // Rows may have changed places: all of them leave before one arrives.
        let mut before = Vec::with_capacity(changes.len());
        for changed in changes {
            let key = changed.old.as_ref().map(|old| row::encode_key(&node.table, old)).transpose()?;
            before.push(key.and_then(|key| self.rows.remove(&(id, key.into()))));
        }
        for (changed, before) in changes.iter().zip(before) {
            let Some(new) = &changed.new else { continue };
            self.places += 1;
            let (place, mut constraints) =
                before.map_or_else(|| (self.places, BTreeSet::new()), |known| (known.place, known.constraints));
            for (number, key) in node.parents.iter().enumerate() {
                let Some(values) = pick(new, &key.columns) else {
                    constraints.remove(&number);
                    continue;
                };
                let old = changed.old.as_ref().and_then(|old| pick(old, &key.columns));
                if old.is_none_or(|old| !equal(&old, &values)) {
                    constraints.insert(number);
                }
            }
            if !constraints.is_empty() {
                self.rows.insert((id, changed.key.clone()), Pending { place, row: new.clone(), constraints });
            }
        }
        Ok(())
    }

    async fn check<E: Engine>(self, graph: &Graph, reader: &mut Reader<'_, E>) -> Result<(), Failure> {
        for (id, number, keys) in &self.keys {
            let node = &graph.nodes[id];
            let key = &node.children[*number];
            let wanted: Vec<&[Datum]> = keys.iter().map(Vec::as_slice).collect();
            let there = present(&key.own, &wanted, reader).await?;
            let gone = wanted.into_iter().zip(there).filter(|(_, there)| !there).map(|(values, _)| values);
            if let Some(values) = first_referenced(key, gone, reader).await? {
                return Err(still_referenced(&node.table, key, values).into());
            }
        }
        // Of each constraint once: many rows may refer to one.
        let mut wanted: BTreeMap<(u32, usize), Vec<Placed>> = BTreeMap::new();
        for ((id, _), pending) in self.rows {
            for number in pending.constraints {
                let columns = &graph.nodes[&id].parents[number].columns;
                let values = pick(&pending.row, columns).expect("only those without NULLs were noted");
                wanted.entry((id, number)).or_default().push((pending.place, values));
            }
        }
        let mut first: Option<(usize, SqlError)> = None;
        for ((id, number), rows) in wanted {
            let node = &graph.nodes[&id];
            let values: Vec<&[Datum]> = rows.iter().map(|(_, values)| values.as_slice()).collect();
            let there = present(&node.parents[number].lookup, &values, reader).await?;
            for ((place, values), _) in rows.iter().zip(there).filter(|(_, there)| !there) {
                if first.as_ref().is_none_or(|(known, _)| place < known) {
                    first = Some((*place, not_present(&node.table, &node.parents[number], values)));
                }
            }
        }
        first.map_or(Ok(()), |(_, err)| Err(err.into()))
    }
}

/// Looks at, and writes, whatever foreign keys ask for after a statement has changed these rows.
pub(super) async fn settle<E: Engine>(
    graph: Option<&Graph>,
    changes: Vec<Changed>,
    context: &EvalContext<'_>,
    reader: &mut Reader<'_, E>,
) -> Result<(), Failure> {
    let Some(graph) = graph else { return Ok(()) };
    let mut left = Left::default();
    let mut level = BTreeMap::from([(graph.root, changes)]);
    for depth in 0.. {
        if level.values().all(Vec::is_empty) {
            break;
        }
        if depth >= LEVELS_MAX {
            return Err(SqlError::new("54001", "foreign keys go on for too long")
                .detail(format!("A change of a row changes others over {LEVELS_MAX} levels at most."))
                .hint("Change the rows that refer first.")
                .into());
        }
        let mut next: BTreeMap<u32, Vec<Changed>> = BTreeMap::new();
        for (id, changes) in &level {
            let node = &graph.nodes[id];
            left.note(node, changes)?;
            for (number, key) in node.children.iter().enumerate() {
                let gone = Gone::of(key, changes);
                for (action, keys) in [(key.on_delete, &gone.deleted), (key.on_update, &gone.changed)] {
                    if keys.is_empty() {
                        continue;
                    }
                    match action {
                        Action::Restrict => {
                            let keys = keys.values().map(|(old, _)| old.as_slice());
                            if let Some(values) = first_referenced(key, keys, reader).await? {
                                return Err(still_referenced(&node.table, key, values).into());
                            }
                        }
                        Action::NoAction => {
                            left.keys.push((*id, number, keys.values().map(|(old, _)| old.clone()).collect()));
                        }
                        Action::Cascade | Action::SetNull | Action::SetDefault => {
                            let child = &graph.nodes[&key.child.id];
                            let changed = act(key, child, action, keys, context, reader).await?;
                            next.entry(key.child.id).or_default().extend(changed);
                            if action == Action::SetDefault {
                                // Rows that had the default already have not changed, and may refer to nothing now.
                                left.keys.push((*id, number, keys.values().map(|(old, _)| old.clone()).collect()));
                            }
                        }
                    }
                }
            }
        }
        level = next;
    }
    left.check(graph, reader).await
}

/// Keys that went, by their bytes, each with the key that came instead.
type Keys = BTreeMap<Vec<u8>, (Vec<Datum>, Option<Vec<Datum>>)>;

/// The keys of one constraint that went with the changes of some rows.
struct Gone {
    deleted: Keys,
    changed: Keys,
}

impl Gone {
    fn of(key: &Incoming, changes: &[Changed]) -> Gone {
        let mut gone = Gone { deleted: Keys::new(), changed: Keys::new() };
        for change in changes {
            let Some(old) = change.old.as_ref().and_then(|old| pick(old, &key.columns)) else { continue };
            let Some(new) = &change.new else {
                gone.deleted.insert(set_key(&old), (old, None));
                continue;
            };
            let new: Vec<Datum> = key.columns.iter().map(|column| new[*column].clone()).collect();
            if !new.iter().all(|value| !value.is_null()) || !equal(&old, &new) {
                gone.changed.insert(set_key(&old), (old, Some(new)));
            }
        }
        gone
    }
}

/// Writes the rows that refer to keys that went.
async fn act<E: Engine>(
    key: &Incoming,
    child: &Node,
    action: Action,
    keys: &Keys,
    context: &EvalContext<'_>,
    reader: &mut Reader<'_, E>,
) -> Result<Vec<Changed>, Failure> {
    let table = &child.table;
    let found = referring(key, keys.values().map(|(old, _)| old.as_slice()), reader).await?;
    if found.is_empty() {
        return Ok(Vec::new());
    }
    if action == Action::Cascade && keys.values().all(|(_, new)| new.is_none()) {
        write_deletes(table, &child.indexes, &found, reader).await?;
        return Ok(found.into_iter().map(|(key, row)| Changed { key, old: Some(row), new: None }).collect());
    }
    let mut changes = Vec::with_capacity(found.len());
    for (old_key, old) in found {
        let mut new = old.clone();
        for (at, column) in key.child_columns.iter().enumerate() {
            new[*column] = match action {
                Action::SetDefault => eval(&key.defaults[at], &[], context)?,
                Action::Cascade => {
                    let value = replacement(key, keys, &old, at)?;
                    let column = &table.columns[*column];
                    let value = value::cast(value, column.ty)?;
                    column
                        .modifier
                        .map_or(Ok(value.clone()), |modifier| value::apply_modifier(value, modifier, false))?
                }
                _ => Datum::Null,
            };
        }
        compute(&child.computed, &mut new, context)?;
        check_row(table, &child.checks, Some(&old), &new, context)?;
        let new_key: Key = row::encode_key(table, &new)?.into();
        changes.push(Change { old_key, old, new_key, new });
    }
    write_changes(table, &child.indexes, &changes, reader).await?;
    let changed = |change: Change| Changed { key: change.new_key, old: Some(change.old), new: Some(change.new) };
    Ok(changes.into_iter().map(changed).collect())
}

/// The new value of a column of a row that refers to a key that has changed.
fn replacement(key: &Incoming, keys: &Keys, row: &[Datum], at: usize) -> Result<Datum, SqlError> {
    let lost = || SqlError::new("XX001", format!("index \"{}\" has an entry of another row", key.lookup.name));
    let values = pick(row, &key.child_columns).ok_or_else(lost)?;
    let new = match keys.get(&set_key(&values)) {
        Some((_, new)) => new,
        // Of another type than the key's.
        None => &keys.values().find(|(old, _)| same_value(old, &values)).ok_or_else(lost)?.1,
    };
    new.as_ref().map(|new| new[at].clone()).ok_or_else(lost)
}

/// Whether values are equal that may be of different types.
fn same_value(a: &[Datum], b: &[Datum]) -> bool {
    a.iter().zip(b).all(|(a, b)| {
        let Some(ty) = b.data_type() else { return false };
        value::cast(a.clone(), ty).is_ok_and(|a| value::compare(&a, b).is_eq())
    })
}
