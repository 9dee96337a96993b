//! Twins: byte order against value order, rows against their bytes, access paths against a filter.

use std::cmp::Ordering;

use sql::catalog::{Catalog, Column, KeyColumn, Missing, Table};
use sql::types::{ArrayValue, DataType, Datum, Element, Interval, Json, Numeric};
use sql::{Database, row, value};
use truetime::Timestamp;

use crate::engine::MapEngine;
use crate::{TextSink, block_on, error_text};

/// A small generator of its own: the same numbers in every run.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len() as u64) as usize]
    }

    fn bytes(&mut self) -> Vec<u8> {
        (0..self.below(6)).map(|_| *self.pick(&[0, 0, 1, 2, b'a', b'b', 0x7f, 0xfe, 0xff])).collect()
    }

    fn datum(&mut self, ty: DataType) -> Datum {
        match ty {
            DataType::Bool => Datum::Bool(self.below(2) == 0),
            DataType::Int => Datum::Int(*self.pick(&[i64::MIN, -1, 0, 1, 255, 256, i64::MAX, 42, -42])),
            DataType::Float => Datum::Float(*self.pick(&[
                f64::NEG_INFINITY,
                -1e300,
                -1.5,
                -f64::MIN_POSITIVE,
                -0.0,
                0.0,
                5e-324,
                1.0,
                1.5,
                1e300,
                f64::INFINITY,
                f64::NAN,
                -f64::NAN,
            ])),
            DataType::Text => Datum::Text(
                (0..self.below(6)).map(|_| *self.pick(&['\0', '\u{1}', 'a', 'b', 'é', '\u{10ffff}'])).collect(),
            ),
            DataType::Bytes => Datum::Bytes(self.bytes()),
            DataType::Timestamp => Datum::Timestamp(Timestamp::from_nanos(self.next() as i64 >> self.below(64))),
            DataType::Int2 => Datum::Int(*self.pick(&[-32768, -1, 0, 1, 255, 256, 32767])),
            DataType::Int4 => Datum::Int(*self.pick(&[-2147483648, -1, 0, 1, 255, 65536, 2147483647])),
            DataType::Float4 => {
                let values = [f32::NEG_INFINITY, -1.5, -0.0, 0.0, 1e-45, 0.1, 1.5, f32::MAX, f32::INFINITY, f32::NAN];
                Datum::Float4(*self.pick(&values))
            }
            DataType::Numeric => Datum::Numeric(self.numeric()),
            DataType::Char => {
                let text: String = (0..self.below(4)).map(|_| *self.pick(&['\0', '\u{1}', ' ', 'a', 'é'])).collect();
                Datum::Char(text + *self.pick(&["", " ", "  "]))
            }
            DataType::Date => Datum::Date(self.next() as i32 >> self.below(32)),
            DataType::Time => Datum::Time(*self.pick(&[0, 1, 255, 256, 86_399_999_999, 86_400_000_000])),
            DataType::LocalTimestamp => Datum::LocalTimestamp(self.next() as i64 >> self.below(64)),
            DataType::Interval => Datum::Interval(Interval {
                months: *self.pick(&[0, 0, 1, -1, 12, i32::MAX, i32::MIN]),
                days: *self.pick(&[0, 0, 1, -30, 30, 31, i32::MAX, i32::MIN]),
                nanos: *self.pick(&[0, 0, 1, -1, 86_400_000_000_000, i64::MAX, i64::MIN]),
            }),
            DataType::Uuid => {
                let mut bytes = [0; 16];
                bytes[self.below(16) as usize] = self.next() as u8;
                Datum::Uuid(bytes)
            }
            DataType::Json => Datum::json(self.json(3)),
            DataType::Array(element) => self.array(element),
        }
    }

    /// Few digits at few scales, so that values of several forms are equal.
    fn numeric(&mut self) -> Numeric {
        let digits = match self.below(4) {
            0 => 0,
            1 => i128::from(self.next() as i64) * i128::from(self.next() as i64),
            _ => *self.pick(&[1, -1, 10, -10, 99, 100, 101, 1230, -1230, 10_000, i128::from(i64::MAX), i128::MIN]),
        };
        Numeric::from_i128(digits, *self.pick(&[0, 1, 2, 3, 7, 40])).unwrap()
    }

    fn json(&mut self, depth: u64) -> Json {
        match self.below(if depth == 0 { 4 } else { 6 }) {
            0 => Json::Null,
            1 => Json::Bool(self.below(2) == 0),
            2 => Json::Number(self.numeric()),
            3 => Json::String(self.pick(&["", "a", "b\"\n", "é"]).to_string()),
            4 => Json::Array((0..self.below(3)).map(|_| self.json(depth - 1)).collect()),
            _ => {
                let pairs =
                    (0..self.below(3)).map(|_| (self.pick(&["a", "b", "aa"]).to_string(), self.json(depth - 1)));
                Json::object(pairs.collect())
            }
        }
    }

    fn array(&mut self, element: Element) -> Datum {
        let mut item = || if self.below(4) == 0 { Datum::Null } else { self.datum(element.data_type()) };
        let mut items: Vec<Datum> = (0..4).map(|_| item()).collect();
        if self.below(4) == 0 {
            let dimensions = self.pick(&[[1, 4], [2, 2], [4, 1]]).to_vec();
            return Datum::Array(Box::new(ArrayValue { element, dimensions, items }));
        }
        items.truncate(self.below(4) as usize);
        Datum::array(element, items)
    }
}

/// Of rows.
fn types() -> Vec<DataType> {
    DataType::all().collect()
}

/// Of keys.
fn key_types() -> Vec<DataType> {
    DataType::all().filter(|ty| ty.is_orderable_in_key()).collect()
}

#[test]
fn byte_order_is_value_order() {
    let mut random = Random(1);
    let types = key_types();
    for _ in 0..50_000 {
        let shape: Vec<(DataType, bool)> =
            (0..1 + random.below(3)).map(|_| (*random.pick(&types), random.below(2) == 0)).collect();
        let a: Vec<Datum> = shape.iter().map(|(ty, _)| random.datum(*ty)).collect();
        let b: Vec<Datum> = shape.iter().map(|(ty, _)| random.datum(*ty)).collect();
        let encode = |row: &[Datum]| {
            let mut key = Vec::new();
            row.iter().zip(&shape).for_each(|(datum, (_, desc))| row::encode_key_datum(&mut key, datum, *desc));
            key
        };
        let expected = a
            .iter()
            .zip(&b)
            .zip(&shape)
            .map(|((a, b), (_, desc))| if *desc { value::compare(b, a) } else { value::compare(a, b) })
            .find(|order| order.is_ne())
            .unwrap_or(Ordering::Equal);
        let (key_a, key_b) = (encode(&a), encode(&b));
        assert_eq!(key_a.cmp(&key_b), expected, "{a:?} {b:?} {shape:?}");
        assert!(key_a == key_b || !key_b.starts_with(&key_a), "{a:?} is a prefix of {b:?}");
        let mut rest = key_a.as_slice();
        for (datum, (ty, desc)) in a.iter().zip(&shape) {
            let back = row::decode_key_datum(&mut rest, *ty, *desc).unwrap();
            assert!(value::compare(&back, datum).is_eq(), "{datum:?} came back as {back:?}");
        }
        assert!(rest.is_empty());
    }
}

pub fn random_table(random: &mut Random) -> Table {
    let count = 1 + random.below(6) as usize;
    let keys = 1 + random.below(count as u64) as usize;
    let columns = (0..count)
        .map(|index| {
            let ty = if index < count - keys { *random.pick(&types()) } else { *random.pick(&key_types()) };
            let added = index < count - keys && random.below(3) == 0;
            let missing = if added { Missing::new(random.datum(ty)) } else { None };
            Column { missing, ..Column::new(index as u32 * 50 + 1, format!("c{index}"), ty) }
        })
        .collect();
    let key = (0..keys).map(|at| KeyColumn { column: count - 1 - at, desc: random.below(2) == 0 }).collect();
    Table { id: 16 + random.below(3) as u32, name: "t".into(), columns, key, ..Table::default() }
}

pub fn random_row(table: &Table, random: &mut Random) -> Vec<Datum> {
    let column = |(index, column): (usize, &Column)| {
        let null = table.key_position(index).is_none() && random.below(4) == 0;
        if null { Datum::Null } else { random.datum(column.ty) }
    };
    table.columns.iter().enumerate().map(column).collect()
}

/// Equal, and printed alike; but the sign of a zero is not kept in a key.
pub fn same(a: &[Datum], b: &[Datum]) -> bool {
    let text = |datum: &Datum| value::to_text(datum).map(|text| text.replace("-0", "0"));
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| value::compare(a, b).is_eq() && text(a) == text(b))
}

#[test]
fn rows_come_back() {
    let mut random = Random(2);
    for _ in 0..20_000 {
        let table = random_table(&mut random);
        let stored = random_row(&table, &mut random);
        let key = row::encode_key(&table, &stored).unwrap();
        let bytes = row::encode_value(&table, &stored).unwrap();
        assert!(table.span().contains(&key));
        assert!(same(&row::decode_row(&table, &key, &bytes).unwrap(), &stored), "{table:?} {stored:?}");
        // A table that lacks a column skips it.
        let mut narrow = table.clone();
        if table.key_position(0).is_none() {
            narrow.columns[0].id = 9_999;
            let mut expected = stored.clone();
            let missing = table.columns[0].missing.as_ref();
            expected[0] = missing.map_or(Datum::Null, |missing| missing.datum().clone());
            assert!(same(&row::decode_row(&narrow, &key, &bytes).unwrap(), &expected));
            // One that hides it keeps it; who inserts without it leaves it to what is missing.
            let mut hiding = table.with_columns(table.columns[1..].to_vec());
            hiding.hidden = vec![table.columns[0].clone()];
            let seen = row::decode_row(&hiding, &key, &bytes).unwrap();
            assert!(same(&seen[..seen.len() - 1], &stored[1..]) && same(&seen[seen.len() - 1..], &stored[..1]));
            let kept = row::encode_value(&hiding, &seen).unwrap();
            assert!(same(&row::decode_row(&table, &key, &kept).unwrap(), &stored));
            let inserted = row::encode_value(&hiding, &stored[1..]).unwrap();
            assert!(same(&row::decode_row(&table, &key, &inserted).unwrap(), &expected));
        }
    }
}

#[test]
fn damaged_bytes_are_errors() {
    let mut random = Random(3);
    for _ in 0..50_000 {
        let table = random_table(&mut random);
        let stored = random_row(&table, &mut random);
        let mut key = row::encode_key(&table, &stored).unwrap();
        let mut bytes = row::encode_value(&table, &stored).unwrap();
        for target in [&mut key, &mut bytes] {
            match random.below(4) {
                0 => target.truncate(random.below(target.len() as u64 + 1) as usize),
                1 => target.extend(random.bytes()),
                2 => {
                    let at = random.below(target.len() as u64) as usize;
                    target[at] ^= 1 << random.below(8);
                }
                _ => *target = (0..random.below(30)).map(|_| random.next() as u8).collect(),
            }
        }
        if let Err(err) = row::decode_row(&table, &key, &bytes) {
            assert_eq!(err.sqlstate, "XX001");
        }
        let mut catalog = Catalog::default();
        catalog.tables.insert("t".into(), table.into());
        row::pretty_key(&key, &catalog);
        let _ = Table::from_bytes(&bytes);
    }
}

/// `c - c`-like wrappers hide a column from the access path, so the same condition runs as a filter
/// over a full scan: both must find the same rows in the same order.
#[test]
fn access_paths_find_what_a_filter_finds() {
    let mut random = Random(4);
    let database = Database::new(MapEngine::new());
    let mut session = database.session();
    let mut run = |sql: &str| {
        let mut sink = TextSink::default();
        match block_on(session.execute(sql, &[], &mut sink)) {
            Ok(()) => sink.text,
            Err(err) => error_text(&err),
        }
    };
    run("CREATE TABLE t (a INT, b TEXT, c DOUBLE PRECISION, v INT, PRIMARY KEY (a, b DESC, c))");
    for a in -2..3 {
        for b in ["", "x", "y", "yy"] {
            for c in ["-1.5", "0", "2"] {
                run(&format!("INSERT INTO t VALUES ({a}, '{b}', {c}, {})", a * 3));
            }
        }
    }
    for round in 0..1_500 {
        let mut plain = Vec::new();
        let mut hidden = Vec::new();
        for _ in 0..1 + random.below(4) {
            let (column, hide, values): (&str, &str, &[&str]) = match random.below(4) {
                0 | 1 => ("a", "(a + 0)", &["-3", "-2", "-1", "0", "1", "2", "3", "NULL"]),
                2 => ("b", "(b || '')", &["''", "'x'", "'xx'", "'y'", "'yy'", "'z'"]),
                _ => ("c", "(c + 0.0)", &["-1.5", "0", "1.0", "2", "-7"]),
            };
            let condition = match random.below(8) {
                0..=2 => format!("= {}", random.pick(values)),
                3 => format!("IN ({}, {}, {})", random.pick(values), random.pick(values), random.pick(values)),
                4 => format!("BETWEEN {} AND {}", random.pick(values), random.pick(values)),
                5 => format!("< {}", random.pick(values)),
                6 => format!(">= {}", random.pick(values)),
                _ => format!("{} {}", random.pick(&["<=", ">", "<>"]), random.pick(values)),
            };
            plain.push(format!("{column} {condition}"));
            hidden.push(format!("{hide} {condition}"));
        }
        let joint = if random.below(6) == 0 { " OR " } else { " AND " };
        let order = random.pick(&[
            "a, b DESC, c",
            "a DESC, b, c DESC",
            "a, b, c",
            "b, a, c",
            "a, b DESC, c DESC",
            "b DESC, c, a",
            "c, a, b",
        ]);
        let limit = if random.below(2) == 0 {
            format!(" LIMIT {} OFFSET {}", random.below(9), random.below(4))
        } else {
            String::new()
        };
        let query = |conditions: &[String], order: &str| {
            format!("SELECT a, b, c, v FROM t WHERE {} ORDER BY {order}{limit}", conditions.join(joint))
        };
        let hidden_order = order.replace('a', "(a + 0)").replace('b', "(b || '')");
        let hidden_order =
            hidden_order.replace("c", "(c + 0.0)").replace("DES(c + 0.0)", "DESC").replace("DESC(c", "DESC, (c");
        let (fast, slow) = (run(&query(&plain, order)), run(&query(&hidden, &hidden_order)));
        assert_eq!(fast, slow, "round {round}: {}", query(&plain, order));
        assert!(!fast.contains("ERROR"), "{fast}: {}", query(&plain, order));
    }
}
