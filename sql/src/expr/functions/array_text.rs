//! Between arrays and text.

use super::array::{array, item_text, optional_text};
use super::json::text_array;
use super::new_text;
use crate::SqlError;
use crate::expr::signature::short::{ARRAY, TEXT, out};
use crate::expr::signature::{Signature, lenient};
use crate::types::{Datum, Element};

pub(super) const FUNCTIONS: &[Signature] = &[
    lenient("array_to_string", &[ARRAY, TEXT], out::TEXT, |a, _| join(&a[0], &a[1], None)),
    lenient("array_to_string", &[ARRAY, TEXT, TEXT], out::TEXT, |a, _| join(&a[0], &a[1], optional_text(a.get(2)))),
    lenient("string_to_array", &[TEXT, TEXT], out::TEXTS, |a, _| split(&a[0], &a[1], None)),
    lenient("string_to_array", &[TEXT, TEXT, TEXT], out::TEXTS, |a, _| split(&a[0], &a[1], optional_text(a.get(2)))),
];

fn join(of: &Datum, separator: &Datum, null: Option<&str>) -> Result<Datum, SqlError> {
    if of.is_null() || separator.is_null() {
        return Ok(Datum::Null);
    }
    let items = array(of).items.iter().filter_map(|item| item_text(item).or_else(|| null.map(str::to_string)));
    new_text(items.collect::<Vec<_>>().join(super::text_of(separator)))
}

fn split(text: &Datum, separator: &Datum, null: Option<&str>) -> Result<Datum, SqlError> {
    let Some(text) = optional_text(Some(text)) else { return Ok(Datum::Null) };
    if text.is_empty() {
        return Ok(Datum::array(Element::Text, Vec::new()));
    }
    let parts: Vec<String> = match optional_text(Some(separator)) {
        // Without a separator every character is a part.
        None => text.chars().map(String::from).collect(),
        Some("") => vec![text.to_string()],
        Some(separator) => text.split(separator).map(str::to_string).collect(),
    };
    let Datum::Array(mut all) = text_array(parts.into_iter()) else { panic!("an array of texts is one") };
    for item in all.items.iter_mut().filter(|item| null.is_some() && optional_text(Some(item)) == null) {
        *item = Datum::Null;
    }
    Ok(Datum::Array(all))
}
