//! Twins of indexes: the order of entries against the order of values, and a table with indexes against one without.

use std::cmp::Ordering;

use sql::catalog::{Index, IndexColumn, IndexState, Table};
use sql::entry::{Layout, is_exact};
use sql::types::Datum;
use sql::{Database, Session, row, value};

use crate::engine::MapEngine;
use crate::properties::{Random, random_row, random_table, same};
use crate::{TextSink, block_on, error_text};

fn random_index(table: &Table, random: &mut Random) -> Index {
    let mut columns: Vec<IndexColumn> = Vec::new();
    for _ in 0..1 + random.below(3) {
        let column = random.below(table.columns.len() as u64) as usize;
        let may = table.columns[column].ty.is_orderable_in_key();
        if may && columns.iter().all(|known| known.column != column) {
            columns.push(IndexColumn { column, desc: random.below(2) == 0, nulls_first: random.below(2) == 0 });
        }
    }
    if columns.is_empty() {
        columns.push(IndexColumn { column: table.key[0].column, desc: false, nulls_first: false });
    }
    let storing = (0..table.columns.len()).filter(|_| random.below(3) == 0).collect();
    Index {
        id: 40,
        name: "i".into(),
        unique: random.below(2) == 0,
        constraint: false,
        columns,
        storing,
        predicate: None,
        state: IndexState::Public,
    }
}

/// Column by column, as the index declares it; then by the primary key, unless that does not matter.
fn expected_order(table: &Table, index: &Index, a: &[Datum], b: &[Datum]) -> Ordering {
    let mut has_null = false;
    for part in &index.columns {
        let (a, b) = (&a[part.column], &b[part.column]);
        has_null |= a.is_null() || b.is_null();
        let order = match (a.is_null(), b.is_null()) {
            (true, true) => Ordering::Equal,
            (a, b) if a || b => {
                if part.nulls_first {
                    b.cmp(&a)
                } else {
                    a.cmp(&b)
                }
            }
            _ if part.desc => value::compare(b, a),
            _ => value::compare(a, b),
        };
        if order.is_ne() {
            return order;
        }
    }
    if index.unique && !has_null {
        return Ordering::Equal;
    }
    let rest = table.key.iter().filter(|part| index.columns.iter().all(|known| known.column != part.column));
    rest.map(|part| {
        let order = value::compare(&a[part.column], &b[part.column]);
        if part.desc { order.reverse() } else { order }
    })
    .find(|order| order.is_ne())
    .unwrap_or(Ordering::Equal)
}

#[test]
fn entries_are_in_the_order_of_their_values() {
    let mut random = Random(11);
    for _ in 0..20_000 {
        let table = random_table(&mut random);
        let index = random_index(&table, &mut random);
        let layout = Layout::of(&table, &index);
        let (a, b) = (random_row(&table, &mut random), random_row(&table, &mut random));
        let (entry_a, entry_b) = (layout.entry(&a).unwrap(), layout.entry(&b).unwrap());
        let expected = expected_order(&table, &index, &a, &b);
        assert_eq!(entry_a.key.cmp(&entry_b.key), expected, "{a:?} {b:?} {index:?}");
        let prefix = entry_a.key != entry_b.key && entry_b.key.starts_with(&entry_a.key);
        assert!(!prefix, "{a:?} is a prefix of {b:?}");
        assert!(index.span().contains(&entry_a.key));

        let back = layout.decode(&table, &entry_a.key, &entry_a.value).unwrap();
        for column in (0..table.columns.len()).filter(|column| layout.covers(&table, *column)) {
            assert!(same(&back[column..=column], &a[column..=column]), "{a:?} came back as {back:?}: {index:?}");
            let bits = is_exact(table.columns[column].ty) || index.storing.contains(&column);
            assert!(
                !bits
                    || table.key_position(column).is_some()
                    || back[column] == a[column]
                    || !is_exact(table.columns[column].ty)
            );
        }
        let key = row::encode_key(&table, &a).unwrap();
        assert_eq!(layout.row_key(&table, &entry_a.key, &entry_a.value).unwrap(), key);
    }
}

#[test]
fn damaged_entries_are_errors() {
    let mut random = Random(12);
    for _ in 0..20_000 {
        let table = random_table(&mut random);
        let index = random_index(&table, &mut random);
        let layout = Layout::of(&table, &index);
        let entry = layout.entry(&random_row(&table, &mut random)).unwrap();
        let (mut key, mut value) = (entry.key.to_vec(), entry.value.to_vec());
        for bytes in [&mut key, &mut value] {
            match random.below(4) {
                0 => bytes.truncate(random.below(bytes.len() as u64 + 1) as usize),
                1 if !bytes.is_empty() => {
                    let at = random.below(bytes.len() as u64) as usize;
                    bytes[at] ^= 1 << random.below(8);
                }
                2 => bytes.push(random.below(256) as u8),
                _ => {}
            }
        }
        // Whatever it says, it says it without a panic.
        if let Err(err) = layout.decode(&table, &key, &value) {
            assert_eq!(err.sqlstate, "XX001", "{err}");
        }
        let _ = layout.row_key(&table, &key, &value).map_err(|err| assert!(["XX001", "54000"].contains(&err.sqlstate)));
    }
}

struct Twins {
    with: Session<MapEngine>,
    without: Session<MapEngine>,
}

impl Twins {
    fn on(session: &mut Session<MapEngine>, sql: &str) -> String {
        let mut sink = TextSink::default();
        match block_on(session.execute(sql, &[], &mut sink)) {
            Ok(()) => sink.text,
            Err(err) => error_text(&err),
        }
    }

    /// Runs it on both, which must answer the same.
    fn both(&mut self, sql: &str) -> String {
        let (with, without) = (Twins::on(&mut self.with, sql), Twins::on(&mut self.without, sql));
        assert_eq!(with, without, "{sql}");
        with
    }
}

/// A table with indexes answers every statement as one without does, and its indexes are what the table says.
#[test]
fn indexes_change_no_answer() {
    let mut random = Random(13);
    let session = || Database::new(MapEngine::new()).session();
    let mut twins = Twins { with: session(), without: session() };
    twins.both("CREATE TABLE t (id INT PRIMARY KEY, a INT, b TEXT, c FLOAT, d BOOLEAN)");
    let mut made: Vec<u64> = Vec::new();
    let mut violations = 0;
    for round in 0..1_200u64 {
        if round % 60 == 5 {
            let columns = random.pick(&[
                "(a)",
                "(a DESC, b)",
                "(b, a) STORING (c)",
                "(c)",
                "(c DESC NULLS LAST, d) STORING (b, c)",
                "(a NULLS FIRST)",
                "(b) WHERE d",
                "(a) WHERE a > 2 AND b IS NOT NULL",
                "(d, c, a)",
            ]);
            Twins::on(&mut twins.with, &format!("CREATE INDEX i{round} ON t {columns}"));
            made.push(round);
        }
        if round % 60 == 45 && made.len() > 3 {
            let at = random.below(made.len() as u64) as usize;
            let answer = Twins::on(&mut twins.with, &format!("DROP INDEX i{}", made.remove(at)));
            assert!(answer.contains("DROP INDEX"), "{answer}");
        }
        let id = random.below(30);
        let a = *random.pick(&["NULL", "0", "1", "2", "3", "4", "-1"]);
        let b = *random.pick(&["NULL", "''", "'x'", "'y'", "'yy'"]);
        let c = *random.pick(&["NULL", "0", "'-0'", "1.5", "'NaN'", "-2"]);
        let d = *random.pick(&["NULL", "true", "false"]);
        let condition = match random.below(9) {
            0 => format!("a = {a}"),
            1 => format!("a > {a} AND b = {b}"),
            2 => format!("b >= {b}"),
            3 => format!("c = {c} AND d = {d}"),
            4 => format!("c < {c}"),
            5 => format!("d AND b = {b}"),
            6 => format!("a > 2 AND b IS NOT NULL AND a = {a}"),
            7 => format!("a IN (0, {a}, 3) AND b <= {b}"),
            _ => format!("id = {id}"),
        };
        let statement = match random.below(12) {
            0..3 => format!("UPSERT INTO t VALUES ({id}, {a}, {b}, {c}, {d})"),
            3 => format!("INSERT INTO t VALUES ({id}, {a}, {b}, {c}, {d}), ({}, {a}, {b}, NULL, {d})", id + 1),
            4 => format!(
                "INSERT INTO t VALUES ({id}, {a}, {b}, {c}, {d}) ON CONFLICT (id) DO UPDATE SET a = {a}, c = {c}"
            ),
            5 => format!("UPDATE t SET a = {a}, b = {b} WHERE {condition}"),
            6 => format!("UPDATE t SET c = {c}, d = {d} WHERE {condition}"),
            7 => format!("UPDATE t SET id = id + 100 WHERE id = {id}"),
            8 => format!("DELETE FROM t WHERE {condition} AND id > {}", random.below(20)),
            _ => {
                let order =
                    random.pick(&["a, id", "a DESC, b, id", "b, a, id", "c DESC, id", "d, c, a, id", "id DESC"]);
                let limit = if random.below(2) == 0 { " LIMIT 5" } else { "" };
                format!("SELECT * FROM t WHERE {condition} ORDER BY {order}{limit}")
            }
        };
        let answer = twins.both(&statement);
        violations += u64::from(answer.contains("23505"));
        if round % 20 == 0 {
            twins.both("SELECT a, id FROM t ORDER BY a, id");
            twins.both("SELECT b, a, id FROM t ORDER BY b DESC, a DESC, id DESC LIMIT 7");
            let check = Twins::on(&mut twins.with, "CHECK TABLE t");
            let bad =
                check.lines().filter(|line| line.contains(" | ")).skip(1).any(|line| !line.ends_with("| 0 | 0 | NULL"));
            assert!(!bad, "round {round}: {check}");
        }
    }
    assert!(violations > 10, "the keys never met");
}

/// The same for unique indexes: whether a statement is refused is what a look at all rows says.
#[test]
fn unique_indexes_refuse_what_a_scan_refuses() {
    let mut random = Random(14);
    let mut session = Database::new(MapEngine::new()).session();
    Twins::on(&mut session, "CREATE TABLE t (id INT PRIMARY KEY, a INT, b INT, UNIQUE (a, b), UNIQUE (b))");
    let mut rows: Vec<(u64, Option<u64>, Option<u64>)> = Vec::new();
    let text = |v: Option<u64>| v.map_or("NULL".to_string(), |v| v.to_string());
    let (mut refused, mut done) = (0, 0);
    for round in 0..2_000 {
        let id = random.below(12);
        let mut value = || Some(random.below(9)).filter(|v| *v < 8);
        let (a, b) = (value(), value());
        let unique = |rows: &[(u64, Option<u64>, Option<u64>)]| {
            rows.iter().enumerate().all(|(at, (id, a, b))| {
                rows[..at].iter().all(|(other, c, d)| {
                    let both = a.is_some() && b.is_some() && (a, b) == (c, d);
                    id != other && !both && !(b.is_some() && b == d)
                })
            })
        };
        let mut after = rows.clone();
        let statement = match random.below(5) {
            0 | 1 => {
                after.push((id, a, b));
                format!("INSERT INTO t VALUES ({id}, {}, {})", text(a), text(b))
            }
            2 => {
                after.iter_mut().filter(|row| row.1 == a && a.is_some()).for_each(|row| row.2 = row.2.map(|b| b + 1));
                format!("UPDATE t SET b = b + 1 WHERE a = {}", text(a))
            }
            3 => {
                after.iter_mut().filter(|row| row.0 == id).for_each(|row| (row.1, row.2) = (a, b));
                format!("UPDATE t SET a = {}, b = {} WHERE id = {id}", text(a), text(b))
            }
            _ => {
                after.retain(|row| !(row.2 == b && b.is_some()));
                format!("DELETE FROM t WHERE b = {}", text(b))
            }
        };
        let answer = Twins::on(&mut session, &statement);
        assert_eq!(answer.contains("23505"), !unique(&after), "round {round}: {statement}: {answer}{rows:?}");
        if unique(&after) {
            rows = after;
            done += 1;
        } else {
            refused += 1;
        }
        rows.sort_unstable();
        let lines: Vec<String> =
            rows.iter().map(|(id, a, b)| format!("  {id} | {} | {}", text(*a), text(*b))).collect();
        let found = Twins::on(&mut session, "SELECT * FROM t ORDER BY id");
        let found: Vec<&str> = found.lines().filter(|line| line.starts_with("  ")).collect();
        assert_eq!(found, lines, "round {round}: {statement}");
    }
    let check = Twins::on(&mut session, "CHECK TABLE t");
    assert_eq!(check.matches("| 0 | 0 | NULL").count(), 2, "{check}");
    assert!(refused > 100 && done > 100, "{refused} refused, {done} done");
}
