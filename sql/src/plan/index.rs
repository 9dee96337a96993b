//! Indexes in plans: which keys a statement reads by, and which entries it must keep up to date.
//!
//! # Which keys
//!
//! The primary key and each public index are tried against the WHERE. The better one is, in this order: a single
//! row by its whole key; more columns pinned to values; a bound on the next column; the order that the
//! statement asks for; a partial index before a whole one; no need to read the rows beside the entries; the primary key. Without any condition an index is used
//! only for its order, and then only where that saves more than the reads of the rows cost: under a LIMIT, or
//! when no rows need be read.
//!
//! A partial index is tried only if each part of its condition stands in the WHERE, word for word.

use std::collections::BTreeSet;
use std::sync::Arc;

use truetime::{Guarantee, Sabotage};

use super::access::{self, Access};
use super::{Scan, SortKey, conjuncts, table_scope};
use crate::SqlError;
use crate::catalog::{Index, IndexState, Table};
use crate::engine::NoRandom;
use crate::entry::{Entry, Layout};
use crate::expr::{Binder, EvalContext, Expr, Params, is_true};
use crate::parse;
use truetime::Timestamp;

/// What separates a table's name from that of the index to be used (`t@i`), in the name that the parser sees. No
/// name has it.
pub const HINT: char = '\0';

/// How a scan uses an index.
#[derive(Clone, Debug)]
pub struct IndexUse {
    /// Its name.
    pub name: String,
    /// The rows need not be read beside the entries.
    pub covering: bool,
}

/// What a statement asks of a scan.
#[derive(Debug, Default)]
pub struct Wishes<'a> {
    /// The index that must be used.
    pub hint: Option<&'a str>,
    /// The columns that are needed beside those of the WHERE; all if `None`.
    pub needed: Option<BTreeSet<usize>>,
    /// The order of the rows.
    pub order: Option<&'a [(usize, SortKey)]>,
    /// There is a LIMIT.
    pub limited: bool,
}

/// A plan's way to the rows, and whether they come in the order that was asked for.
pub struct Chosen {
    /// How.
    pub scan: Scan,
    /// Whether nothing is left to be sorted.
    pub ordered: bool,
}

struct Candidate {
    layout: Layout,
    index: Option<IndexUse>,
    access: Access,
    left: Vec<Expr>,
    reverse: Option<bool>,
    partial: bool,
}

impl Candidate {
    /// `settled`: what holds of all rows that the index has.
    fn new(table: &Table, index: Option<&Index>, parts: &[Expr], settled: &[Expr], wishes: &Wishes<'_>) -> Candidate {
        let layout = index.map_or_else(|| Layout::primary(table), |index| Layout::of(table, index));
        let mut left = parts.to_vec();
        let access = access::choose(&layout, &mut left);
        left.retain(|part| !settled.contains(part));
        let mut needed = wishes.needed.clone();
        for part in &left {
            part.walk(&mut |expr| {
                if let (Expr::Column(column), Some(needed)) = (expr, &mut needed) {
                    needed.insert(*column);
                }
            });
        }
        let covers = |needed: &BTreeSet<usize>| needed.iter().all(|column| layout.covers(table, *column));
        let covering = needed.as_ref().is_some_and(covers);
        let index = index.map(|index| IndexUse { name: index.name.clone(), covering });
        let reverse = wishes.order.and_then(|order| access.gives_order(&layout, order));
        Candidate { layout, index, access, left, reverse, partial: !settled.is_empty() }
    }

    /// The greatest is used.
    fn rank(&self, wishes: &Wishes<'_>) -> impl Ord + use<> {
        let (width, bounded) = self.access.width();
        let covering = self.index.as_ref().is_none_or(|index| index.covering);
        let sorts = wishes.order.is_some_and(|order| !order.is_empty());
        let ordered = sorts && self.reverse.is_some() && (covering || wishes.limited || width > 0 || bounded);
        let single = self.access.is_points(&self.layout) && !self.access.is_list();
        (single, width, bounded, ordered, self.partial, covering, self.index.is_none())
    }
}

/// Chooses how to read the rows for which all parts of the WHERE hold. 42704 if the hint names no index, 0A000 if it
/// names one that cannot be read.
pub fn choose(table: &Arc<Table>, parts: Vec<Expr>, wishes: &Wishes<'_>) -> Result<Chosen, SqlError> {
    let candidate = match wishes.hint {
        Some(name) if *name == format!("{}_pkey", table.name) => Candidate::new(table, None, &parts, &[], wishes),
        Some(name) => {
            let index = table.index(name).ok_or_else(|| {
                SqlError::new("42704", format!("index \"{name}\" of \"{}\" does not exist", table.name))
            })?;
            if index.state != IndexState::Public {
                return Err(SqlError::new(
                    "55000",
                    format!("index \"{name}\" is {} and cannot be read", index.state.name()),
                ));
            }
            let Some(settled) = applies(table, index, &parts)? else {
                return Err(SqlError::new(
                    "42809",
                    format!("index \"{name}\" does not have all rows of the statement"),
                )
                .hint("Repeat the index's condition in the WHERE clause."));
            };
            Candidate::new(table, Some(index), &parts, &settled, wishes)
        }
        None => {
            let mut best = Candidate::new(table, None, &parts, &[], wishes);
            for index in table.indexes.iter().filter(|index| index.state == IndexState::Public) {
                let Some(settled) = applies(table, index, &parts)? else { continue };
                let candidate = Candidate::new(table, Some(index), &parts, &settled, wishes);
                if candidate.rank(wishes) > best.rank(wishes) {
                    best = candidate;
                }
            }
            best
        }
    };
    let Candidate { layout, index, access, mut left, reverse, .. } = candidate;
    let filter = match left.len() {
        0 => None,
        1 => left.pop(),
        _ => Some(Expr::And(left)),
    };
    let scan = Scan { table: Arc::clone(table), layout, index, access, filter, reverse: reverse.unwrap_or(false) };
    Ok(Chosen { scan, ordered: reverse.is_some() })
}

/// If an index has all rows for which these hold: those of them that hold for all its rows.
fn applies(table: &Table, index: &Index, parts: &[Expr]) -> Result<Option<Vec<Expr>>, SqlError> {
    let Some(predicate) = predicate(table, index)? else { return Ok(Some(Vec::new())) };
    let mut wanted = Vec::new();
    conjuncts(predicate, &mut wanted);
    Ok(wanted.iter().all(|part| parts.contains(part)).then_some(wanted))
}

fn predicate(table: &Table, index: &Index) -> Result<Option<Expr>, SqlError> {
    index.predicate.as_deref().map(|text| bind_predicate(table, text)).transpose()
}

/// The condition of a partial index. It must depend on the row and on nothing else: 42P17, 42P02.
pub fn bind_predicate(table: &Table, text: &str) -> Result<Expr, SqlError> {
    let scope = table_scope(table, &table.name);
    let mut params = Params::default();
    let mut binder = Binder { scope: &scope, params: &mut params, aggregates: None, clause: "index predicates" };
    let expr = binder.boolean(&parse::parse_expr(text)?, "WHERE")?;
    if !params.types.is_empty() {
        return Err(SqlError::new("42P02", "there are no parameters in an index predicate"));
    }
    let mut volatile = false;
    expr.walk(&mut |expr| {
        volatile |= match expr {
            Expr::Now => true,
            Expr::Call(function, _) => function.signature.volatile,
            _ => false,
        };
    });
    if volatile {
        return Err(SqlError::new("42P17", "functions in index predicate must be marked IMMUTABLE"));
    }
    Ok(expr)
}

/// An index that a statement which writes must keep up to date.
#[derive(Clone, Debug)]
pub struct Maintained {
    /// As the statement knows it.
    pub index: Index,
    /// Its entries.
    pub layout: Layout,
    predicate: Option<Expr>,
}

impl Maintained {
    /// An index of a table.
    pub fn new(table: &Table, index: &Index) -> Result<Maintained, SqlError> {
        let (layout, predicate) = (Layout::of(table, index), predicate(table, index)?);
        Ok(Maintained { index: index.clone(), layout, predicate })
    }

    /// The entry of a row; none if the index has none of such rows.
    pub fn entry(&self, row: &[crate::types::Datum]) -> Result<Option<Entry>, SqlError> {
        if let Some(predicate) = &self.predicate
            && !is_true(predicate, row, &EvalContext { params: &[], now: Timestamp::ZERO, random: &NoRandom })?
        {
            return Ok(None);
        }
        self.layout.entry(row).map(Some)
    }

    /// Whether two rows must not have the same entry.
    pub fn keeps_unique(&self) -> bool {
        self.index.unique && self.index.state.writes()
    }

    /// Whether an entry may be another row's, though its columns are this row's: until all rows have been looked at.
    pub fn may_be_of_another(&self) -> bool {
        self.index.unique && self.index.state != IndexState::Public
    }
}

/// All indexes of a table that statements must keep up to date.
pub fn maintained(table: &Table, sabotage: Sabotage) -> Result<Vec<Maintained>, SqlError> {
    let known = |index: &&Index| !(sabotage.breaks(Guarantee::IndexDeletes) && index.state == IndexState::DeleteOnly);
    table.indexes.iter().filter(known).map(|index| Maintained::new(table, index)).collect()
}
