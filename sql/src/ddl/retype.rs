//! ALTER COLUMN .. TYPE, where no row need be rewritten: the stored bytes of each old value are those of the same value of
//! the new type, in rows, in keys and in entries of indexes.
//!
//! ```text
//!   SMALLINT -> INTEGER -> BIGINT           one encoding for all integers
//!   VARCHAR(n) -> VARCHAR(m), m >= n; VARCHAR, TEXT        all are text
//!   CHAR(n) -> CHAR(m), m >= n              blanks are restored by the column's length
//!   NUMERIC(p, s) -> NUMERIC(q, s), q >= p; NUMERIC        not the latter in a primary key, which lost the zeros
//!   TIME, TIMESTAMP, TIMESTAMPTZ, INTERVAL (p) -> (q), q >= p, or without
//! ```
//!
//! Anything else is 0A000: a table is not rewritten.

use crate::SqlError;
use crate::catalog::{Column, Missing, Table};
use crate::types::{DataType, TypeModifier};
use crate::value;

/// Why the values of a column cannot stay as they are; `None` if they can.
fn obstacle(
    (from, old): (DataType, Option<TypeModifier>),
    (to, new): (DataType, Option<TypeModifier>),
    is_key: bool,
) -> Option<&'static str> {
    use TypeModifier as M;
    const REWRITE: &str = "Its values would have to be rewritten.";
    const LOOK: &str = "All values would have to be looked at, and some may not be of the new type.";
    let width = |ty: DataType| match ty {
        DataType::Int2 => 2,
        DataType::Int4 => 4,
        _ => 8,
    };
    if from.is_integer() && to.is_integer() {
        return (width(from) > width(to)).then_some(LOOK);
    }
    if from != to {
        return Some(REWRITE);
    }
    match (old, new) {
        (old, new) if old == new => None,
        (None | Some(M::Varchar(_)), None | Some(M::Varchar(None))) if from != DataType::Numeric => None,
        (Some(M::Varchar(Some(old))), Some(M::Varchar(Some(new)))) => (new < old).then_some(LOOK),
        (Some(M::Char(old)), Some(M::Char(new))) => (new < old).then_some(LOOK),
        (Some(M::Numeric { .. }), None) if is_key => {
            Some("It is part of the primary key, where the zeros after its point are not kept.")
        }
        (Some(M::Numeric { .. }), None) => None,
        (Some(M::Numeric { precision: old, scale }), Some(M::Numeric { precision: new, scale: same }))
            if scale == same =>
        {
            (new < old).then_some(LOOK)
        }
        (Some(M::Precision(old)), Some(M::Precision(new))) if new >= old => None,
        (Some(M::Precision(_)), None) => None,
        _ => Some(REWRITE),
    }
}

/// Gives a column another type: 0A000 if that is more than a change of the descriptor.
pub(super) fn retype(
    table: &mut Table,
    at: usize,
    ty: DataType,
    modifier: Option<TypeModifier>,
) -> Result<(), SqlError> {
    let is_key = table.key_position(at).is_some();
    let column: &mut Column = &mut table.columns[at];
    if let Some(why) = obstacle((column.ty, column.modifier), (ty, modifier), is_key) {
        let (from, to) = (value::type_text(column.ty, column.modifier), value::type_text(ty, modifier));
        let message = format!("changing the type of column \"{}\" from {from} to {to} is not supported", column.name);
        return Err(SqlError::new("0A000", message)
            .detail(why)
            .hint("Add a column of that type, fill it by UPDATE, drop the old one, and rename."));
    }
    let missing = column.missing.take().map(|missing| missing.datum().clone());
    column.missing = missing.and_then(|datum| Missing::new(value::restore_modifier(datum, modifier)));
    (column.ty, column.modifier) = (ty, modifier);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row;
    use crate::types::{Datum, Numeric};
    use TypeModifier as M;

    /// The dumb twin: a row written by the old type and read by the new one has the same value.
    #[test]
    fn what_is_allowed_reads_the_same() {
        let text = |text: &str| Datum::Text(text.into());
        let number = |text: &str| Datum::Numeric(Numeric::parse(text).unwrap());
        let fixed = |precision, scale| Some(M::Numeric { precision, scale });
        let kinds: Vec<(DataType, Option<M>, Datum)> = vec![
            (DataType::Int2, None, Datum::Int(-7)),
            (DataType::Int4, None, Datum::Int(70_000)),
            (DataType::Int, None, Datum::Int(1 << 40)),
            (DataType::Text, None, text("abc")),
            (DataType::Text, Some(M::Varchar(None)), text("abc")),
            (DataType::Text, Some(M::Varchar(Some(3))), text("abc")),
            (DataType::Text, Some(M::Varchar(Some(9))), text("abcdefghi")),
            (DataType::Char, Some(M::Char(3)), Datum::Char("ab ".into())),
            (DataType::Char, Some(M::Char(5)), Datum::Char("ab   ".into())),
            (DataType::Numeric, fixed(5, 2), number("1.50")),
            (DataType::Numeric, fixed(9, 2), number("1234567.50")),
            (DataType::Numeric, fixed(9, 3), number("1.500")),
            (DataType::Numeric, None, number("1.5")),
            (DataType::LocalTimestamp, Some(M::Precision(0)), Datum::LocalTimestamp(1_000_000)),
            (DataType::LocalTimestamp, Some(M::Precision(3)), Datum::LocalTimestamp(1_001_000)),
            (DataType::LocalTimestamp, None, Datum::LocalTimestamp(1_000_001)),
        ];
        let mut allowed = 0;
        for is_key in [false, true] {
            for (from, old, datum) in &kinds {
                for (to, new, _) in &kinds {
                    if obstacle((*from, *old), (*to, *new), is_key).is_some() {
                        continue;
                    }
                    allowed += 1;
                    let column = |ty, modifier| Column { modifier, ..Column::new(1, "a", ty) };
                    let other = Column::new(2, "b", DataType::Int);
                    let key = crate::catalog::KeyColumn { column: usize::from(!is_key), desc: is_key };
                    let before =
                        Table { columns: vec![column(*from, *old), other], key: vec![key], ..Table::default() };
                    let row = vec![datum.clone(), Datum::Int(1)];
                    let (key, bytes) =
                        (row::encode_key(&before, &row).unwrap(), row::encode_value(&before, &row).unwrap());
                    let mut after = before.clone();
                    retype(&mut after, 0, *to, *new).unwrap();
                    let back = row::decode_row(&after, &key, &bytes).unwrap();
                    let same = match (&back[0], datum) {
                        (Datum::Char(a), Datum::Char(b)) => a.trim_end() == b.trim_end(),
                        (a, b) => value::to_text(a) == value::to_text(b),
                    };
                    assert!(same, "{from:?} {old:?} to {to:?} {new:?}: {datum:?} is {:?}", back[0]);
                    // Where it is in a key, it is under the same key.
                    assert_eq!(row::encode_key(&after, &back).unwrap(), key);
                }
            }
        }
        assert!(allowed > 40, "{allowed}");
        assert!(obstacle((DataType::Int, None), (DataType::Int4, None), false).is_some());
        assert!(obstacle((DataType::Text, None), (DataType::Text, Some(M::Varchar(Some(3)))), false).is_some());
        assert!(obstacle((DataType::Int4, None), (DataType::Float, None), false).is_some());
        assert!(obstacle((DataType::Numeric, None), (DataType::Numeric, fixed(5, 2)), false).is_some());
    }
}
