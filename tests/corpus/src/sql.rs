//! SQL text, and rows and descriptors as stored.

use std::cmp::Ordering;
use std::sync::{Arc, LazyLock};

use ::sql::catalog::{Catalog, Column, KeyColumn, Table};
use ::sql::parse::{self as parser, Statement, TimeExpr};
use ::sql::types::{DataType, Datum, Element};
use ::sql::{Queries, plan as planner, row as rows, value};

use crate::split;

/// What all queries share: it takes longer to make than to plan one.
static QUERIES: LazyLock<Queries> = LazyLock::new(Queries::default);

/// The types of the key, in its order.
pub fn key_types() -> Vec<DataType> {
    let scalars = Element::ALL.into_iter().map(Element::data_type).filter(|ty| ty.is_orderable_in_key());
    scalars.chain([DataType::Array(Element::Numeric), DataType::Array(Element::Text)]).collect()
}

/// A table with a column of each type in its key, every second one descending, and one of each beside it.
pub fn table() -> Table {
    let keys = key_types();
    let mut columns = Vec::new();
    for (at, ty) in keys.iter().copied().chain(DataType::all()).enumerate() {
        let is_key = at < keys.len();
        let name = format!("{}{at}", if is_key { "k" } else { "v" });
        let default = (at == keys.len() + 1).then(|| "1 + 2".to_string());
        columns.push(Column { not_null: is_key, default, ..Column::new(at as u32 + 1, name, ty) });
    }
    let key = (0..keys.len()).map(|column| KeyColumn { column, desc: column % 2 == 1 }).collect();
    Table { id: 7, name: "t".into(), columns, key, ..Table::default() }
}

/// That table, and a simple one `a (id BIGINT PRIMARY KEY, b TEXT, c DOUBLE, d TIMESTAMPTZ)`.
pub fn two_tables() -> Catalog {
    let mut catalog = Catalog::default();
    let column = |id: u32, name: &str, ty| Column { not_null: id == 1, ..Column::new(id, name, ty) };
    let columns = vec![
        column(1, "id", DataType::Int),
        column(2, "b", DataType::Text),
        column(3, "c", DataType::Float),
        column(4, "d", DataType::Timestamp),
    ];
    let simple =
        Table { id: 8, name: "a".into(), columns, key: vec![KeyColumn { column: 0, desc: false }], ..Table::default() };
    for table in [table(), simple] {
        catalog.tables.insert(table.name.clone(), Arc::new(table));
    }
    catalog
}

/// Text to statements, and every smaller reader of text in SQL.
pub fn parse(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = parser::parse(text);
    let _ = parser::parse_expr(text);
    let _ = (TimeExpr::parse(text), value::parse_timestamp(text));
    for ty in DataType::all() {
        let Ok(datum) = value::parse_text(text, ty) else { continue };
        let written = value::to_text(&datum).expect("not NULL");
        let again = value::parse_text(&written, ty).expect("what was written is read");
        assert_eq!(value::compare(&datum, &again), Ordering::Equal, "{text:?} became {written:?}");
        for other in DataType::all() {
            let _ = value::cast(datum.clone(), other);
        }
    }
}

/// Text to plans, over two tables.
pub fn plan(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let catalog = two_tables();
    for statement in parser::parse(text).unwrap_or_default() {
        plan_one(&statement, &catalog);
    }
}

fn plan_one(statement: &Statement, catalog: &Catalog) {
    match statement {
        Statement::Explain { statement, .. } => plan_one(statement, catalog),
        // The planner is given nothing else.
        Statement::Select { .. } | Statement::Insert { .. } | Statement::Update(_) | Statement::Delete(_) => {
            let _ = planner::plan(statement, catalog, &QUERIES);
        }
        _ => {}
    }
}

/// A key and a value of a table with all types; the first byte is the length of the key.
pub fn row(data: &[u8]) {
    let Some((length, data)) = data.split_first() else { return };
    let (key, value) = data.split_at(usize::from(*length).min(data.len()));
    let catalog = two_tables();
    let _ = rows::pretty_key(key, &catalog);
    let table = table();
    let mut whole = table.key_prefix();
    whole.extend_from_slice(key);
    let _ = rows::pretty_key(&whole, &catalog);
    let Ok(row) = rows::decode_row(&table, &whole, value) else { return };
    let key = rows::encode_key(&table, &row).expect("it was not longer before");
    let value = rows::encode_value(&table, &row).expect("it was not longer before");
    let again = rows::decode_row(&table, &key, &value).expect("what was encoded decodes");
    let same = |(a, b): (&Datum, &Datum)| value::compare(a, b) == Ordering::Equal;
    assert!(row.iter().zip(&again).all(same), "{row:?} became {again:?}");
}

/// A table's descriptor, and statements on whatever table it describes. After a zero byte: a key of it.
pub fn catalog(data: &[u8]) {
    let (descriptor, key) = split(data, 0);
    let _ = ::sql::catalog::parse_number(data);
    let _ = (::sql::catalog::Sequence::from_bytes(data), ::sql::catalog::sequence::State::from_bytes(data));
    let Ok(table) = Table::from_bytes(descriptor) else { return };
    let again = Table::from_bytes(&table.to_bytes()).expect("what was written is read");
    assert_eq!(table, again);
    let _ = (table.span(), table.key_names());
    let mut whole = table.key_prefix();
    whole.extend_from_slice(key);
    let _ = rows::decode_row(&table, &whole, &[1]);
    let mut catalog = Catalog::default();
    // Under a name that statements can say.
    catalog.tables.insert("t".into(), Arc::new(table));
    let _ = rows::pretty_key(&whole, &catalog);
    let statements = ["SELECT * FROM t", "INSERT INTO t VALUES (DEFAULT)", "DELETE FROM t", "UPDATE t SET a = DEFAULT"];
    for text in statements {
        for statement in parser::parse(text).expect("a sound statement") {
            let _ = planner::plan(&statement, &catalog, &QUERIES);
        }
    }
}
