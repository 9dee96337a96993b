//! Which keys a statement must read: points, ranges, or all.
//!
//! From the front of the key (of the table, or of an index): columns that WHERE pins to one value or to a list of them make
//! a prefix; the next column may have a lower and an upper bound. All columns pinned: points. None,
//! and no bound either: a full scan. What of the WHERE this settles is taken out of it.

use txn::types::KEY_BYTES_MAX;
use txn::{Key, Span};

use crate::SqlError;
use crate::entry::Layout;
use crate::expr::{CompareOp, EvalContext, Expr, eval};
use crate::plan::SortKey;
use crate::row;
use crate::types::Datum;

/// The most combinations of values that lists on several columns may make.
const COMBINATIONS_MAX: usize = 10_000;

/// A bound of a range: the value, and whether it belongs to the range.
pub type Bound = Option<(Expr, bool)>;

/// The possible values of a column.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// These.
    List(Vec<Expr>),
    /// The elements of an array.
    Elements(Expr),
}

impl Values {
    /// Whether there is one.
    pub fn is_single(&self) -> bool {
        matches!(self, Values::List(list) if list.len() == 1)
    }

    /// How many there are; of an array nobody knows before the statement runs.
    fn count(&self) -> usize {
        match self {
            Values::List(list) => list.len(),
            Values::Elements(_) => COMBINATIONS_MAX,
        }
    }

    fn datums(&self, context: &EvalContext<'_>) -> Result<Vec<Datum>, SqlError> {
        match self {
            Values::List(list) => list.iter().map(|value| eval(value, &[], context)).collect(),
            Values::Elements(array) => Ok(match eval(array, &[], context)? {
                Datum::Array(array) => array.items.clone(),
                // Of no array.
                _ => Vec::new(),
            }),
        }
    }
}

/// Which keys.
#[derive(Clone, Debug, PartialEq)]
pub enum Access {
    /// All of the table.
    Full,
    /// Those that begin so.
    Keys {
        /// For each of the first columns of the key, its possible values.
        prefix: Vec<Values>,
        /// The least value of the next column.
        low: Bound,
        /// The largest value of the next column.
        high: Bound,
    },
}

/// Chooses, and takes what is thereby settled out of the conjuncts.
pub fn choose(layout: &Layout, conjuncts: &mut Vec<Expr>) -> Access {
    let mut prefix: Vec<Values> = Vec::new();
    let mut combinations = 1usize;
    let (mut low, mut high) = (None, None);
    for part in &layout.parts {
        if let Some((at, values)) = find_values(conjuncts, part.column)
            && (values.count() <= 1
                || prefix.is_empty()
                || combinations.saturating_mul(values.count()) <= COMBINATIONS_MAX)
        {
            combinations = combinations.saturating_mul(values.count());
            conjuncts.remove(at);
            prefix.push(values);
            continue;
        }
        low = take_bound(conjuncts, part.column, CompareOp::Gt, CompareOp::Ge);
        high = take_bound(conjuncts, part.column, CompareOp::Lt, CompareOp::Le);
        break;
    }
    if prefix.is_empty() && low.is_none() && high.is_none() { Access::Full } else { Access::Keys { prefix, low, high } }
}

/// `column op constant`, whichever side the column is on.
fn column_compare(expr: &Expr, column: usize) -> Option<(CompareOp, &Expr)> {
    let Expr::Compare(op, a, b) = expr else { return None };
    match (&**a, &**b) {
        (Expr::Column(found), value) if *found == column && value.is_constant() => Some((*op, value)),
        (value, Expr::Column(found)) if *found == column && value.is_constant() => Some((op.flipped(), value)),
        _ => None,
    }
}

fn find_values(conjuncts: &[Expr], column: usize) -> Option<(usize, Values)> {
    let equal = conjuncts.iter().enumerate().find_map(|(at, expr)| match column_compare(expr, column) {
        Some((CompareOp::Eq, value)) => Some((at, Values::List(vec![value.clone()]))),
        _ => None,
    });
    equal.or_else(|| {
        conjuncts.iter().enumerate().find_map(|(at, expr)| match expr {
            Expr::In(a, list) if **a == Expr::Column(column) && list.iter().all(Expr::is_constant) => {
                Some((at, Values::List(list.clone())))
            }
            Expr::Quantified(CompareOp::Eq, a, array, true) if **a == Expr::Column(column) && array.is_constant() => {
                Some((at, Values::Elements((**array).clone())))
            }
            _ => None,
        })
    })
}

fn take_bound(conjuncts: &mut Vec<Expr>, column: usize, open: CompareOp, closed: CompareOp) -> Bound {
    let found = conjuncts.iter().enumerate().find_map(|(at, expr)| match column_compare(expr, column) {
        Some((op, value)) if op == open || op == closed => Some((at, (value.clone(), op == closed))),
        _ => None,
    });
    let (at, bound) = found?;
    conjuncts.remove(at);
    Some(bound)
}

/// The first key after all that begin with these bytes; empty if there is none.
pub(crate) fn after_prefix(mut key: Vec<u8>) -> Vec<u8> {
    while let Some(last) = key.pop() {
        if last < 0xff {
            key.push(last + 1);
            break;
        }
    }
    key
}

impl Access {
    /// How many columns it pins, and whether it bounds the next one.
    pub fn width(&self) -> (usize, bool) {
        match self {
            Access::Full => (0, false),
            Access::Keys { prefix, low, high } => (prefix.len(), low.is_some() || high.is_some()),
        }
    }

    /// Whether it pins a column to more than one value.
    pub fn is_list(&self) -> bool {
        matches!(self, Access::Keys { prefix, .. } if !prefix.iter().all(Values::is_single))
    }

    /// Whether it reads single keys.
    pub fn is_points(&self, layout: &Layout) -> bool {
        matches!(self, Access::Keys { prefix, .. } if prefix.len() == layout.parts.len())
    }

    /// The spans to read, in key order and apart from each other. NULL equals nothing, so it has no
    /// span. 54000 for a bound that is longer than any key.
    pub fn spans(&self, layout: &Layout, context: &EvalContext<'_>) -> Result<Vec<Span>, SqlError> {
        let Access::Keys { prefix, low, high } = self else { return Ok(vec![layout.span.clone()]) };
        let points = prefix.len() == layout.parts.len();
        let mut starts = vec![layout.prefix.clone()];
        for (part, values) in layout.parts.iter().zip(prefix) {
            let datums = values.datums(context)?;
            let mut next = Vec::with_capacity(starts.len() * datums.len());
            for datum in datums {
                if datum.is_null() {
                    continue;
                }
                for start in &starts {
                    let mut key = start.clone();
                    part.encode_value(&mut key, Some(&datum));
                    // No row can have such a key.
                    if key.len() <= KEY_BYTES_MAX {
                        next.push(key);
                    }
                }
            }
            starts = next;
        }
        starts.sort_unstable();
        starts.dedup();
        if points {
            return Ok(starts.into_iter().map(Span::point).collect());
        }
        let bound = |bound: &Bound| -> Result<Option<(Datum, bool)>, SqlError> {
            bound.as_ref().map(|(expr, closed)| Ok((eval(expr, &[], context)?, *closed))).transpose()
        };
        let (mut low, mut high) = (bound(low)?, bound(high)?);
        let null = |bound: &Option<(Datum, bool)>| matches!(bound, Some((Datum::Null, _)));
        if null(&low) || null(&high) {
            return Ok(Vec::new());
        }
        let part = &layout.parts[prefix.len()];
        if part.desc {
            std::mem::swap(&mut low, &mut high);
        }
        let mut spans = Vec::with_capacity(starts.len());
        for start in starts {
            let with = |datum: &Datum| {
                let mut key = start.clone();
                part.encode_value(&mut key, Some(datum));
                row::check_key_size(&key)?;
                Ok::<_, SqlError>(key)
            };
            // A bound leaves the NULLs out, on its other side too.
            let mut values = start.clone();
            if low.is_some() || high.is_some() {
                part.encode_value(&mut values, None);
            }
            let from: Key = match &low {
                None => values.clone().into(),
                Some((datum, true)) => with(datum)?.into(),
                Some((datum, false)) => after_prefix(with(datum)?).into(),
            };
            let to: Key = match &high {
                None => after_prefix(values).into(),
                Some((datum, true)) => after_prefix(with(datum)?).into(),
                Some((datum, false)) => with(datum)?.into(),
            };
            let span = Span::new(from, to);
            if !span.is_empty() {
                spans.push(span);
            }
        }
        Ok(spans)
    }

    /// Whether reading the spans in key order, or in reverse, gives rows in the order of these
    /// columns of the table: `Some(reverse)` if so.
    pub fn gives_order(&self, layout: &Layout, order: &[(usize, SortKey)]) -> Option<bool> {
        // Rows that are computed come in no order.
        layout.order().next()?;
        let parts: Vec<_> = layout.order().collect();
        let fixed = |position: usize| match self {
            Access::Full => false,
            Access::Keys { prefix, .. } => prefix.get(position).is_some_and(Values::is_single),
        };
        // Where no NULL can be met, it does not matter on which side they would be.
        let no_nulls = |position: usize| match self {
            _ if parts[position].not_null => true,
            Access::Full => false,
            Access::Keys { prefix, low, high } => {
                position < prefix.len() || (position == prefix.len() && (low.is_some() || high.is_some()))
            }
        };
        let mut next = 0;
        let mut reverse = None;
        for (column, sort) in order {
            while next < parts.len() && fixed(next) {
                next += 1;
            }
            if next == parts.len() {
                break;
            }
            let position = parts.iter().position(|part| part.column == *column)?;
            if fixed(position) {
                continue;
            }
            let backwards = sort.desc != parts[position].desc;
            let nulls = parts[position].nulls_first.is_some_and(|first| (first != backwards) != sort.nulls_first);
            if nulls && !no_nulls(position) {
                return None;
            }
            if position != next || reverse.is_some_and(|reverse| reverse != backwards) {
                return None;
            }
            reverse = Some(backwards);
            next += 1;
        }
        Some(reverse.unwrap_or(false))
    }
}
