//! Arrays: making them, taking them apart, and asking what is in them.

use super::{check_length, int, int_of, text_of};
use crate::SqlError;
use crate::expr::signature::short::{ARRAY, ELEMENT, I4, INTS, out};
use crate::expr::signature::{Result as ResultType, Signature, lenient, strict as f};
use crate::types::{ArrayValue, DataType, Datum, Element};
use crate::value::{self, array::ITEMS_MAX};

const SAME: ResultType = ResultType::AnyArray;

pub(super) const FUNCTIONS: &[Signature] = &[
    lenient("array_append", &[ARRAY, ELEMENT], SAME, |a, e| add(&a[0], &a[1], e.result, false)),
    lenient("array_prepend", &[ELEMENT, ARRAY], SAME, |a, e| add(&a[1], &a[0], e.result, true)),
    lenient("array_cat", &[ARRAY, ARRAY], SAME, |a, _| concat(&a[0], &a[1])),
    lenient("||", &[ARRAY, ARRAY], SAME, |a, _| concat(&a[0], &a[1])),
    lenient("||", &[ARRAY, ELEMENT], SAME, |a, e| add(&a[0], &a[1], e.result, false)),
    lenient("||", &[ELEMENT, ARRAY], SAME, |a, e| add(&a[1], &a[0], e.result, true)),
    f("@>", &[ARRAY, ARRAY], out::BOOL, |a, _| Ok(Datum::Bool(contains(array(&a[0]), array(&a[1]))))),
    f("<@", &[ARRAY, ARRAY], out::BOOL, |a, _| Ok(Datum::Bool(contains(array(&a[1]), array(&a[0]))))),
    f("&&", &[ARRAY, ARRAY], out::BOOL, |a, _| {
        let (a, b) = (array(&a[0]), array(&a[1]));
        Ok(Datum::Bool(a.items.iter().any(|item| holds(b, item))))
    }),
    f("array_length", &[ARRAY, I4], out::I4, |a, _| Ok(length(array(&a[0]), int_of(&a[1])))),
    f("array_upper", &[ARRAY, I4], out::I4, |a, _| Ok(length(array(&a[0]), int_of(&a[1])))),
    f("array_lower", &[ARRAY, I4], out::I4, |a, _| match length(array(&a[0]), int_of(&a[1])) {
        Datum::Null => Ok(Datum::Null),
        _ => Ok(Datum::Int(1)),
    }),
    f("array_ndims", &[ARRAY], out::I4, |a, _| match array(&a[0]).dimensions.len() {
        0 => Ok(Datum::Null),
        count => Ok(int(count)),
    }),
    f("array_dims", &[ARRAY], out::TEXT, |a, _| {
        let dimensions = &array(&a[0]).dimensions;
        let text: String = dimensions.iter().map(|length| format!("[1:{length}]")).collect();
        Ok(if dimensions.is_empty() { Datum::Null } else { Datum::Text(text) })
    }),
    f("cardinality", &[ARRAY], out::I4, |a, _| Ok(int(array(&a[0]).items.len()))),
    lenient("array_position", &[ARRAY, ELEMENT], out::I4, |a, _| position(&a[0], &a[1], 1)),
    lenient("array_position", &[ARRAY, ELEMENT, I4], out::I4, |a, _| match &a[2] {
        Datum::Null => Err(SqlError::new("22004", "initial position must not be null")),
        from => position(&a[0], &a[1], int_of(from)),
    }),
    lenient("array_positions", &[ARRAY, ELEMENT], out::INTS, |a, _| {
        if a[0].is_null() {
            return Ok(Datum::Null);
        }
        let found = one_dimension(&a[0])?.items.iter().enumerate().filter(|(_, item)| same(item, &a[1]));
        Ok(Datum::array(Element::Int4, found.map(|(at, _)| int(at + 1)).collect()))
    }),
    lenient("array_remove", &[ARRAY, ELEMENT], SAME, |a, _| {
        if a[0].is_null() {
            return Ok(Datum::Null);
        }
        let from = one_dimension(&a[0])?;
        let kept = from.items.iter().filter(|item| !same(item, &a[1])).cloned().collect();
        Ok(Datum::array(from.element, kept))
    }),
    lenient("array_replace", &[ARRAY, ELEMENT, ELEMENT], SAME, |a, _| {
        if a[0].is_null() {
            return Ok(Datum::Null);
        }
        let mut changed = array(&a[0]).clone();
        for item in changed.items.iter_mut().filter(|item| same(item, &a[1])) {
            *item = a[2].clone();
        }
        Ok(Datum::Array(Box::new(changed)))
    }),
    f("trim_array", &[ARRAY, I4], SAME, |a, _| {
        let from = one_dimension(&a[0])?;
        let cut = usize::try_from(int_of(&a[1])).ok().filter(|cut| *cut <= from.items.len());
        let cut = cut.ok_or_else(|| {
            SqlError::new("2202E", format!("number of elements to trim must be between 0 and {}", from.items.len()))
        })?;
        Ok(Datum::array(from.element, from.items[..from.items.len() - cut].to_vec()))
    }),
    lenient("array_fill", &[ELEMENT, INTS], SAME, |a, e| {
        let Datum::Array(lengths) = &a[1] else {
            return Err(SqlError::new("22004", "dimension array or low bound array cannot be null"));
        };
        let dimensions = lengths.items.iter().map(|length| match length {
            Datum::Int(v @ 0..) => Ok(*v as usize),
            Datum::Null => Err(SqlError::new("22004", "dimension values cannot be null")),
            _ => Err(SqlError::new("2202E", "array size exceeds the maximum allowed")),
        });
        let dimensions: Vec<usize> = dimensions.collect::<Result<_, _>>()?;
        if dimensions.is_empty() || dimensions.contains(&0) {
            return Ok(Datum::array(element_of(e.result), Vec::new()));
        }
        let count = dimensions.iter().try_fold(1usize, |product, length| product.checked_mul(*length));
        let count = count
            .filter(|count| *count <= ITEMS_MAX && dimensions.len() <= value::array::DIMENSIONS_MAX)
            .ok_or_else(too_big)?;
        check_length(count.saturating_mul(a[0].size_bytes()))?;
        Ok(Datum::Array(Box::new(ArrayValue {
            element: element_of(e.result),
            dimensions,
            items: vec![a[0].clone(); count],
        })))
    }),
];

fn too_big() -> SqlError {
    SqlError::new("54000", format!("array size exceeds the maximum allowed ({ITEMS_MAX})"))
}

pub(super) fn array(datum: &Datum) -> &ArrayValue {
    match datum {
        Datum::Array(array) => array,
        other => panic!("a function that takes an array was given {other:?}"),
    }
}

fn element_of(ty: DataType) -> Element {
    match ty {
        DataType::Array(element) => element,
        other => panic!("{other:?} is no array"),
    }
}

/// Equal; NULL equals NULL here.
fn same(a: &Datum, b: &Datum) -> bool {
    value::compare(a, b).is_eq()
}

/// As `=`: NULL is in nothing.
fn holds(array: &ArrayValue, item: &Datum) -> bool {
    !item.is_null() && array.items.iter().any(|found| !found.is_null() && same(found, item))
}

fn contains(a: &ArrayValue, b: &ArrayValue) -> bool {
    b.items.iter().all(|item| holds(a, item))
}

fn length(array: &ArrayValue, dimension: i64) -> Datum {
    let at = usize::try_from(dimension).ok().and_then(|at| at.checked_sub(1));
    at.and_then(|at| array.dimensions.get(at)).map_or(Datum::Null, |length| int(*length))
}

fn one_dimension(datum: &Datum) -> Result<&ArrayValue, SqlError> {
    let array = array(datum);
    if array.dimensions.len() > 1 {
        return Err(SqlError::unsupported("searching for or removing elements in multidimensional arrays"));
    }
    Ok(array)
}

fn add(to: &Datum, item: &Datum, result: DataType, front: bool) -> Result<Datum, SqlError> {
    let mut items = match to {
        Datum::Null => Vec::new(),
        to if array(to).dimensions.len() > 1 => {
            return Err(SqlError::new("22000", "argument must be empty or one-dimensional array"));
        }
        to => array(to).items.clone(),
    };
    items.insert(if front { 0 } else { items.len() }, item.clone());
    if items.len() > ITEMS_MAX {
        return Err(too_big());
    }
    Ok(Datum::array(element_of(result), items))
}

fn concat(a: &Datum, b: &Datum) -> Result<Datum, SqlError> {
    let (a, b) = match (a, b) {
        (Datum::Null, other) | (other, Datum::Null) => return Ok(other.clone()),
        (a, b) => (array(a), array(b)),
    };
    if a.items.is_empty() {
        return Ok(Datum::Array(Box::new(b.clone())));
    }
    if b.items.is_empty() {
        return Ok(Datum::Array(Box::new(a.clone())));
    }
    // Of arrays of arrays the outermost dimension grows; one that has a dimension less is one of the others.
    let mut dimensions =
        if a.dimensions.len() >= b.dimensions.len() { a.dimensions.clone() } else { b.dimensions.clone() };
    let inner = |array: &ArrayValue| match array.dimensions.len() + 1 == dimensions.len() {
        true => (1, array.dimensions.clone()),
        false => (array.dimensions[0], array.dimensions[1..].to_vec()),
    };
    let ((a_count, a_inner), (b_count, b_inner)) = (inner(a), inner(b));
    if a_inner != b_inner || a_inner != dimensions[1..] {
        return Err(SqlError::new("2202E", "cannot concatenate incompatible arrays")
            .detail("Arrays with differing element dimensions are not compatible for concatenation."));
    }
    dimensions[0] = a_count + b_count;
    let items: Vec<Datum> = a.items.iter().chain(&b.items).cloned().collect();
    if items.len() > ITEMS_MAX {
        return Err(too_big());
    }
    Ok(Datum::Array(Box::new(ArrayValue { element: a.element, dimensions, items })))
}

fn position(of: &Datum, item: &Datum, from: i64) -> Result<Datum, SqlError> {
    if of.is_null() {
        return Ok(Datum::Null);
    }
    let skip = (from.max(1) - 1) as usize;
    let found = one_dimension(of)?.items.iter().enumerate().skip(skip).find(|(_, found)| same(found, item));
    Ok(found.map_or(Datum::Null, |(at, _)| int(at + 1)))
}

/// `ARRAY[..]`: of values, or of arrays with one size.
pub(in crate::expr) fn make_array(element: Element, items: Vec<Datum>) -> Result<Datum, SqlError> {
    let nested = items.iter().any(|item| matches!(item, Datum::Array(_)));
    if !nested {
        return Ok(Datum::array(element, items));
    }
    let mut dimensions: Option<Vec<usize>> = None;
    let count = items.len();
    let mut all = Vec::new();
    for item in items {
        let wrong =
            || SqlError::new("2202E", "multidimensional arrays must have array expressions with matching dimensions");
        let Datum::Array(inner) = item else { return Err(wrong()) };
        if dimensions.as_ref().is_some_and(|known| *known != inner.dimensions) {
            return Err(wrong());
        }
        dimensions = Some(inner.dimensions);
        all.extend(inner.items);
        if all.len() > ITEMS_MAX {
            return Err(too_big());
        }
    }
    let inner = dimensions.unwrap_or_default();
    if inner.is_empty() {
        return Ok(Datum::array(element, Vec::new()));
    }
    let dimensions: Vec<usize> = std::iter::once(count).chain(inner).collect();
    if dimensions.len() > value::array::DIMENSIONS_MAX {
        return Err(too_big());
    }
    Ok(Datum::Array(Box::new(ArrayValue { element, dimensions, items: all })))
}

/// `a[1]`, `a[2][3]`, `a[2:3]`: for each dimension a lower and an upper bound; only an upper one if none is a
/// slice. What is outside is NULL, or an empty array.
pub(in crate::expr) fn element_at(
    of: &Datum,
    bounds: &[(Option<Datum>, Option<Datum>)],
    slice: bool,
) -> Result<Datum, SqlError> {
    let Datum::Array(array) = of else { return Ok(Datum::Null) };
    if bounds.iter().flat_map(|(low, high)| [low, high]).flatten().any(Datum::is_null) {
        return Ok(Datum::Null);
    }
    let empty = || Datum::array(array.element, Vec::new());
    if bounds.len() > array.dimensions.len() || (!slice && bounds.len() != array.dimensions.len()) {
        return Ok(if slice { empty() } else { Datum::Null });
    }
    let mut ranges = Vec::new();
    for (at, length) in array.dimensions.iter().enumerate() {
        let bound = |datum: &Option<Datum>, otherwise: usize| datum.as_ref().map_or(otherwise as i64, int_of);
        let (low, high) = match bounds.get(at) {
            Some((low, high)) => (bound(low, 1), bound(high, *length)),
            None => (1, *length as i64),
        };
        if !slice && (low < 1 || high > *length as i64) {
            return Ok(Datum::Null);
        }
        let (low, high) = (low.max(1), high.min(*length as i64));
        if low > high {
            return Ok(if slice { empty() } else { Datum::Null });
        }
        ranges.push((low as usize - 1)..high as usize);
    }
    let mut items = Vec::new();
    let mut place: Vec<usize> = ranges.iter().map(|range| range.start).collect();
    loop {
        let at = place.iter().zip(&array.dimensions).fold(0, |at, (index, length)| at * length + index);
        items.push(array.items[at].clone());
        // The next place, the last dimension first.
        let Some(grow) = (0..place.len()).rev().find(|d| place[*d] + 1 < ranges[*d].end) else { break };
        place[grow] += 1;
        for d in grow + 1..place.len() {
            place[d] = ranges[d].start;
        }
    }
    if !slice {
        return Ok(items.remove(0));
    }
    let dimensions = ranges.into_iter().map(|range| range.len()).collect();
    Ok(Datum::Array(Box::new(ArrayValue { element: array.element, dimensions, items })))
}

/// The text of an item, for `array_to_string`.
pub(super) fn item_text(datum: &Datum) -> Option<String> {
    value::to_text(datum)
}

/// A separator or a replacement: NULL is none.
pub(super) fn optional_text(datum: Option<&Datum>) -> Option<&str> {
    datum.filter(|datum| !datum.is_null()).map(text_of)
}
