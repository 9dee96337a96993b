//! Sequences as the catalog has them: what a sequence is, not how far it has come.
//!
//! ```text
//!   00 "sequence/" NAME   the descriptor           {"id":17,"name":"t_id_seq",...}
//!   10 id                 how far it has come      {"last":64,"called":true}
//! ```
//!
//! How far it has come is a row of its own among the rows of tables, under an id of the same counter as theirs: writers
//! that draw numbers do not meet those that change the schema, and nobody reads it with the catalog.
//!
//! # Numbers that are not a hot spot
//!
//! Rows whose keys only grow are all written at the end of one range, by one group. So where a table's primary key
//! begins with a SERIAL or IDENTITY column that says nothing of its sequence, the sequence is reversed, as
//! Spanner's `bit_reversed_positive` is: it counts 1, 2, 3 .., and gives out each count with its bits in reverse
//! order, within the positive numbers of the column's type (15, 31 or 63 bits). Each number comes once, none is
//! negative or 0, and neighbours lie far apart. `CREATE SEQUENCE`, and IDENTITY with options, count as PostgreSQL does.

use serde::{Deserialize, Serialize};
use txn::{Key, Span};

use super::TABLE_PREFIX;
use crate::SqlError;
use crate::types::DataType;

/// How many numbers a gateway takes at a time, if the sequence does not say.
pub const CACHE: i64 = 32;

/// The most that a gateway takes at a time.
pub const CACHE_MAX: i64 = 10_000;

/// The column that a sequence goes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The id of the table,
    pub table: u32,
    /// and of its column.
    pub column: u32,
}

/// A sequence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sequence {
    /// Unique for ever, among tables and indexes.
    pub id: u32,
    /// Its name, unique among tables and indexes.
    pub name: String,
    /// SMALLINT, INTEGER or BIGINT.
    pub ty: DataType,
    /// The first number.
    pub start: i64,
    /// The next number is this much larger.
    pub increment: i64,
    /// The least number.
    pub min: i64,
    /// The largest number.
    pub max: i64,
    /// How many numbers a gateway takes at a time.
    pub cache: i64,
    /// Whether it begins again after the last number.
    pub cycle: bool,
    /// Whether the numbers given out are the counts with their bits reversed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reversed: bool,
    /// It goes when that column goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Owner>,
}

/// How far a sequence has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The last count, or the next one.
    pub last: i64,
    /// Whether it was taken.
    pub called: bool,
}

/// The largest value of an integer type.
pub fn largest(ty: DataType) -> i64 {
    match ty {
        DataType::Int2 => i64::from(i16::MAX),
        DataType::Int4 => i64::from(i32::MAX),
        _ => i64::MAX,
    }
}

impl Sequence {
    /// A plain one, as CREATE SEQUENCE without options makes it.
    pub fn new(name: String, ty: DataType) -> Sequence {
        Sequence {
            id: 0,
            name,
            ty,
            start: 1,
            increment: 1,
            min: 1,
            max: largest(ty),
            cache: CACHE,
            cycle: false,
            reversed: false,
            owner: None,
        }
    }

    /// The key of its state.
    pub fn state_key(&self) -> Key {
        let mut key = vec![TABLE_PREFIX];
        key.extend_from_slice(&self.id.to_be_bytes());
        key.into()
    }

    /// All that is stored under its id.
    pub fn span(&self) -> Span {
        super::span_of(self.id)
    }

    /// As stored; XX001 if the bytes are no sound descriptor.
    pub fn from_bytes(bytes: &[u8]) -> Result<Sequence, SqlError> {
        let bad = |why: String| SqlError::new("XX001", format!("a sequence's descriptor is damaged: {why}"));
        let sequence: Sequence = serde_json::from_slice(bytes).map_err(|err| bad(err.to_string()))?;
        let takes = (1..=CACHE_MAX).contains(&sequence.cache);
        let sound = sequence.increment != 0 && sequence.min <= sequence.max && takes;
        if sound { Ok(sequence) } else { Err(bad(format!("\"{}\" gives out no numbers", sequence.name))) }
    }

    /// As [`Sequence::from_bytes`] reads it.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a descriptor has only strings and numbers")
    }

    /// As it begins, or begins again.
    pub fn initial(&self) -> State {
        State { last: self.start, called: false }
    }

    /// Up to so many counts after a state, at least one, and the state after them. 2200H if there is none left.
    pub fn take(&self, state: State, count: usize) -> Result<(Vec<i64>, State), SqlError> {
        let mut state = state;
        let mut taken = Vec::new();
        while taken.len() < count {
            let next = if state.called {
                state.last.checked_add(self.increment).filter(|next| (self.min..=self.max).contains(next))
            } else {
                Some(state.last)
            };
            let next = match next {
                Some(next) => next,
                None if self.cycle && self.increment > 0 => self.min,
                None if self.cycle => self.max,
                None if taken.is_empty() => {
                    let (which, end) = if self.increment > 0 { ("maximum", self.max) } else { ("minimum", self.min) };
                    let message = format!("nextval: reached {which} value of sequence \"{}\" ({end})", self.name);
                    return Err(SqlError::new("2200H", message));
                }
                None => break,
            };
            state = State { last: next, called: true };
            taken.push(next);
        }
        Ok((taken, state))
    }

    /// The number that is given out for a count.
    pub fn number(&self, count: i64) -> i64 {
        let bits = 64 - largest(self.ty).leading_zeros();
        if self.reversed { ((count as u64).reverse_bits() >> (64 - bits)) as i64 } else { count }
    }
}

impl State {
    /// As stored; XX001 if the bytes are no state.
    pub fn from_bytes(bytes: &[u8]) -> Result<State, SqlError> {
        let bad = |err| SqlError::new("XX001", format!("a sequence's state is damaged: {err}"));
        serde_json::from_slice(bytes).map_err(bad)
    }

    /// As [`State::from_bytes`] reads it.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a state has only numbers")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn reversed_numbers_are_positive_distinct_and_far_apart() {
        for ty in [DataType::Int2, DataType::Int4, DataType::Int] {
            let sequence = Sequence { reversed: true, ..Sequence::new("s".into(), ty) };
            let numbers: Vec<i64> = (1..5_000).map(|count| sequence.number(count)).collect();
            assert!(numbers.iter().all(|number| (1..=largest(ty)).contains(number)), "{ty:?}");
            assert_eq!(numbers.iter().collect::<BTreeSet<_>>().len(), numbers.len(), "{ty:?}");
            assert!(numbers.windows(2).all(|pair| (pair[0] - pair[1]).abs() > largest(ty) / 8), "{ty:?}");
            let ends: Vec<i64> = [1, 2, 3].map(|count| sequence.number(count)).into();
            let half = largest(ty) / 2 + 1;
            assert_eq!(ends, [half, half / 2, half / 2 + half], "{ty:?}");
            assert_eq!(sequence.number(largest(ty)), largest(ty));
        }
    }

    #[test]
    fn a_sequence_ends_or_begins_again() {
        let plain = Sequence { max: 3, ..Sequence::new("s".into(), DataType::Int) };
        let (taken, state) = plain.take(plain.initial(), 10).unwrap();
        assert_eq!(taken, [1, 2, 3]);
        assert_eq!(plain.take(state, 1).unwrap_err().sqlstate, "2200H");
        let cycle = Sequence { cycle: true, ..plain.clone() };
        assert_eq!(cycle.take(state, 4).unwrap().0, [1, 2, 3, 1]);
        let down = Sequence { increment: -2, min: -5, max: -1, start: -1, cycle: true, ..plain };
        assert_eq!(down.take(down.initial(), 5).unwrap().0, [-1, -3, -5, -1, -3]);
        let wide = Sequence { increment: i64::MAX, ..Sequence::new("s".into(), DataType::Int) };
        assert_eq!(wide.take(wide.initial(), 9).unwrap().0, [1]);
    }
}
