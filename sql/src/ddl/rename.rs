//! New names in old texts: a CHECK or the condition of an index that mentions a column that is called otherwise now.
//!
//! A word of a text may be the column, or something else of the same name: a type, a function, a unit of time, a keyword.
//! Which it is, is asked of those who know: the word is replaced by a name that nobody has, and the text is bound to a
//! table with one more column of that name. If that gives the same expression but for this column, the word is the column.

use crate::SqlError;
use crate::catalog::{Column, Table};
use crate::expr::Expr;
use crate::parse::names::{in_quotes, quoted, splice, words};
use crate::plan::check::bind_check;

/// A name that no column has: of the table's columns it is longer than any.
fn nobody(table: &Table) -> String {
    let longest = table.columns.iter().map(|column| column.name.len()).max().unwrap_or(0);
    "x".repeat(longest + 1)
}

fn replace(expr: &mut Expr, from: usize, to: usize) {
    if let Expr::Column(at) = expr
        && *at == from
    {
        *at = to;
    }
    expr.for_children_mut(&mut |child| replace(child, from, to));
}

/// The text of a condition once one of its columns has another name.
pub(super) fn column_in(text: &str, table: &Table, at: usize, name: &str) -> Result<String, SqlError> {
    let old = &table.columns[at];
    let meant = bind_check(table, text)?;
    let fresh = nobody(table);
    let mut wider = table.clone();
    let number = wider.next_number();
    wider.columns.push(Column { id: number, name: fresh.clone(), ..old.clone() });
    let mut parts = Vec::new();
    for word in words(text)?.into_iter().filter(|word| word.name == old.name) {
        let asked = splice(text, vec![(word.start, word.end, quoted(&fresh))]);
        let Ok(mut found) = bind_check(&wider, &asked) else { continue };
        if found == meant {
            // Whatever it is called, it is not looked at.
            continue;
        }
        replace(&mut found, table.columns.len(), at);
        if found == meant {
            parts.push((word.start, word.end));
        }
    }
    let mut renamed = table.clone();
    renamed.columns[at].name = name.to_string();
    // In quotes only where it would mean something else without.
    for written in [quoted(name), in_quotes(name)] {
        let text = splice(text, parts.iter().map(|(start, end)| (*start, *end, written.clone())).collect());
        if bind_check(&renamed, &text).is_ok_and(|found| found == meant) {
            return Ok(text);
        }
    }
    Err(SqlError::unsupported(format!("renaming a column in the condition {text}")))
}

/// The text of a condition without the table's name before its columns, so that the table may be called otherwise.
pub(super) fn unqualified(text: &str, table: &Table) -> Result<String, SqlError> {
    let meant = bind_check(table, text)?;
    let parts = words(text)?.into_iter().filter_map(|word| match word.qualifier {
        Some((start, name)) if name == table.name => Some((start, word.start, String::new())),
        _ => None,
    });
    let plain = splice(text, parts.collect());
    match bind_check(table, &plain) {
        Ok(found) if found == meant => Ok(plain),
        _ => Ok(text.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::DataType;

    fn table() -> Table {
        let column = |id, name: &str, ty| Column::new(id, name, ty);
        let columns = vec![
            column(1, "a", DataType::Int4),
            column(2, "year", DataType::Int4),
            column(3, "date", DataType::Date),
            column(4, "text", DataType::Text),
            column(5, "Odd \"one\"", DataType::Text),
        ];
        Table { name: "t".into(), columns, ..Table::default() }
    }

    #[test]
    fn only_the_column_is_renamed() {
        for (at, text, wanted) in [
            (0, "a > 0 AND t.a < 'a'::TEXT::INT", "b > 0 AND t.b < 'a'::TEXT::INT"),
            (0, "A > 0 AND \"a\" < 9", "b > 0 AND b < 9"),
            (1, "year = extract(year FROM date)", "b = extract(year FROM date)"),
            (2, "date > DATE '2020-01-01' AND date::date < date", "b > DATE '2020-01-01' AND b::date < b"),
            (3, "text <> 'text' AND CAST(a AS text) = text", "b <> 'text' AND CAST(a AS text) = b"),
            (4, "\"Odd \"\"one\"\"\" <> 'it''s'", "b <> 'it''s'"),
            (0, "year > 0", "year > 0"),
        ] {
            // The first is a number that is none, which only matters when a row is checked.
            let text = text.replace("'a'::TEXT::INT", "length('a'::TEXT)");
            let wanted = wanted.replace("'a'::TEXT::INT", "length('a'::TEXT)");
            assert_eq!(column_in(&text, &table(), at, "b").unwrap(), wanted);
        }
        assert_eq!(column_in("a > 0", &table(), 0, "Größe 1").unwrap(), "\"Größe 1\" > 0");
    }

    #[test]
    fn the_table_is_not_named() {
        let plain = |text: &str| unqualified(text, &table()).unwrap();
        assert_eq!(plain("t.a > 0 AND T . year < t.\"a\""), "a > 0 AND year < \"a\"");
        assert_eq!(plain("a > 0"), "a > 0");
    }
}
