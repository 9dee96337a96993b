//! Foreign keys against a dumb twin: random statements on four tables that refer to each other, of which the last refers to
//! itself too, with random actions. The twin keeps rows in maps, does what the actions say one level after the other,
//! and then looks at every row.

use std::collections::{BTreeMap, BTreeSet};

use sql::{Database, Session};

use crate::engine::MapEngine;
use crate::properties::Random;
use crate::{TextSink, block_on};

/// `t0`, `t1` which refers to `t0`, and so on.
const TABLES: usize = 4;
const KEYS: u64 = 8;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Action {
    Nothing,
    Restrict,
    Cascade,
    SetNull,
}

const ACTIONS: [(Action, &str); 4] = [
    (Action::Nothing, "NO ACTION"),
    (Action::Restrict, "RESTRICT"),
    (Action::Cascade, "CASCADE"),
    (Action::SetNull, "SET NULL"),
];

/// A constraint: from a column of a table to the key of another.
#[derive(Clone, Copy, Debug)]
struct Reference {
    child: usize,
    column: usize,
    parent: usize,
    on_delete: Action,
    on_update: Action,
}

/// For each table its rows: by key, the two columns that may refer.
type Rows = Vec<BTreeMap<i64, [Option<i64>; 2]>>;

struct Twin {
    references: Vec<Reference>,
    rows: Rows,
}

impl Twin {
    /// Keys that went, each with the key that came instead; then all that follows. False if it must not be.
    fn settle(&self, rows: &mut Rows, table: usize, gone: BTreeMap<i64, Option<i64>>) -> bool {
        let mut level = vec![(table, gone)];
        while let Some((table, gone)) = level.pop() {
            for reference in self.references.iter().filter(|reference| reference.parent == table) {
                let mut next: BTreeMap<i64, Option<i64>> = BTreeMap::new();
                let before = rows[reference.child].clone();
                for (key, row) in before {
                    let Some((_, new)) = row[reference.column].and_then(|to| gone.get_key_value(&to)) else { continue };
                    let action = if new.is_some() { reference.on_update } else { reference.on_delete };
                    match (action, new) {
                        (Action::Nothing, _) => {}
                        (Action::Restrict, _) => return false,
                        (Action::Cascade, None) => {
                            rows[reference.child].remove(&key);
                            next.insert(key, None);
                        }
                        (Action::Cascade, Some(new)) => {
                            rows[reference.child].get_mut(&key).unwrap()[reference.column] = Some(*new);
                        }
                        (Action::SetNull, _) => {
                            rows[reference.child].get_mut(&key).unwrap()[reference.column] = None;
                        }
                    }
                }
                if !next.is_empty() {
                    level.insert(0, (reference.child, next));
                }
            }
        }
        self.references.iter().all(|reference| {
            let refers = rows[reference.child].values().filter_map(|row| row[reference.column]);
            refers.into_iter().all(|to| rows[reference.parent].contains_key(&to))
        })
    }
}

fn text(value: Option<i64>) -> String {
    value.map_or("NULL".into(), |value| value.to_string())
}

fn run(session: &mut Session<MapEngine>, sql: &str) -> Result<String, sql::SqlError> {
    let mut sink = TextSink::default();
    block_on(session.execute(sql, &[], &mut sink)).map(|()| sink.text)
}

/// One random statement: its text, and what the twin makes of it, if it may be.
fn statement(twin: &Twin, random: &mut Random) -> (String, Option<Rows>) {
    let table = random.below(TABLES as u64) as usize;
    let mut rows = twin.rows.clone();
    let key = |random: &mut Random| random.below(KEYS) as i64;
    let maybe = |random: &mut Random| (random.below(3) > 0).then(|| random.below(KEYS) as i64);
    match random.below(5) {
        0 | 1 => {
            let mut new: BTreeMap<i64, [Option<i64>; 2]> = BTreeMap::new();
            for _ in 0..=random.below(3) {
                new.insert(key(random), [maybe(random), maybe(random)]);
            }
            let list: Vec<String> =
                new.iter().map(|(key, row)| format!("({key}, {}, {})", text(row[0]), text(row[1]))).collect();
            let fits = new.keys().all(|key| !rows[table].contains_key(key));
            rows[table].extend(new);
            let ok = fits && twin.settle(&mut rows, table, BTreeMap::new());
            (format!("INSERT INTO t{table} VALUES {}", list.join(", ")), ok.then_some(rows))
        }
        2 => {
            let (from, to) = (key(random), key(random));
            let gone: BTreeSet<i64> = rows[table].range(from.min(to)..=from.max(to)).map(|(key, _)| *key).collect();
            gone.iter().for_each(|key| _ = rows[table].remove(key));
            let ok = twin.settle(&mut rows, table, gone.into_iter().map(|key| (key, None)).collect());
            (format!("DELETE FROM t{table} WHERE id BETWEEN {} AND {}", from.min(to), from.max(to)), ok.then_some(rows))
        }
        3 => {
            // All keys change places, or some leave.
            let sum = random.below(2 * KEYS) as i64;
            let old = std::mem::take(&mut rows[table]);
            let gone = old.keys().filter(|key| sum - **key != **key).map(|key| (*key, Some(sum - key))).collect();
            rows[table] = old.into_iter().map(|(key, row)| (sum - key, row)).collect();
            let ok = twin.settle(&mut rows, table, gone);
            (format!("UPDATE t{table} SET id = {sum} - id"), ok.then_some(rows))
        }
        _ => {
            let (at, to) = (key(random), [maybe(random), maybe(random)]);
            rows[table].range_mut(at..).for_each(|(_, row)| *row = to);
            let ok = twin.settle(&mut rows, table, BTreeMap::new());
            let set = format!("a = {}, b = {}", text(to[0]), text(to[1]));
            (format!("UPDATE t{table} SET {set} WHERE id >= {at}"), ok.then_some(rows))
        }
    }
}

fn compare(seed: u64) -> (u32, u32) {
    let mut random = Random(seed);
    let mut action = || ACTIONS[random.below(4) as usize];
    let (mut references, mut later) = (Vec::new(), Vec::new());
    let mut session = Database::new(MapEngine::new()).session();
    for table in 0..TABLES {
        let mut columns = [String::new(), String::new()];
        // Of the last table, to itself, too.
        let targets = [table.checked_sub(1), if table + 1 == TABLES { Some(table) } else { table.checked_sub(2) }];
        for (column, parent) in targets.into_iter().enumerate() {
            let Some(parent) = parent else { continue };
            let ((on_delete, delete), (on_update, update)) = (action(), action());
            references.push(Reference { child: table, column, parent, on_delete, on_update });
            let clause = format!(" REFERENCES t{parent} ON DELETE {delete} ON UPDATE {update}");
            // Every other one comes when the tables are there.
            if (seed + column as u64).is_multiple_of(2) {
                columns[column] = clause;
            } else {
                let name = ["a", "b"][column];
                later.push(format!("ALTER TABLE t{table} ADD FOREIGN KEY ({name}){clause}"));
            }
        }
        let [a, b] = columns;
        run(&mut session, &format!("CREATE TABLE t{table} (id INT PRIMARY KEY, a INT{a}, b INT{b})")).unwrap();
    }
    later.iter().for_each(|sql| _ = run(&mut session, sql).unwrap());
    let mut twin = Twin { references, rows: vec![BTreeMap::new(); TABLES] };
    let (mut done, mut refused) = (0, 0);
    for step in 0..120 {
        let (sql, expected) = statement(&twin, &mut random);
        let result = run(&mut session, &sql);
        let why =
            |text: &str| format!("seed {seed}, step {step}: {sql}: {text}\n{:?}\n{:?}", twin.references, twin.rows);
        match (&result, &expected) {
            (Ok(_), Some(_)) => done += 1,
            (Err(err), None) => {
                assert!(matches!(err.sqlstate, "23503" | "23505"), "{}", why(&err.to_string()));
                refused += 1;
            }
            (result, expected) => panic!("{}", why(&format!("{result:?}, and not {expected:?}"))),
        }
        if let Some(rows) = expected {
            for (table, expected) in rows.iter().enumerate() {
                let mut wanted = String::from("| id | a | b |\n");
                for (key, row) in expected {
                    wanted.push_str(&format!("  {key} | {} | {}\n", text(row[0]), text(row[1])));
                }
                let found = run(&mut session, &format!("SELECT * FROM t{table}")).unwrap();
                assert!(found.starts_with(&wanted), "{}", why(&format!("t{table} is {found}, and not {wanted}")));
            }
            twin.rows = rows;
        }
    }
    let checked = run(&mut session, "CHECK INDEXES").unwrap();
    assert!(checked.lines().filter(|line| line.starts_with("  ")).all(|line| line.ends_with("NULL")), "{checked}");
    (done, refused)
}

/// A chain of rows that is longer than a cascade may be; and one that is not.
#[test]
fn a_cascade_has_a_bound() {
    let mut session = Database::new(MapEngine::new()).session();
    run(&mut session, "CREATE TABLE t (id INT PRIMARY KEY, up INT REFERENCES t ON DELETE CASCADE)").unwrap();
    let chain: Vec<String> = (0..1002).map(|id| format!("({id}, {})", text((id > 0).then(|| id - 1)))).collect();
    run(&mut session, &format!("INSERT INTO t VALUES {}", chain.join(", "))).unwrap();
    assert_eq!(run(&mut session, "DELETE FROM t WHERE id = 0").unwrap_err().sqlstate, "54001");
    assert!(run(&mut session, "SELECT count(*) FROM t").unwrap().contains("1002"));
    run(&mut session, "DELETE FROM t WHERE id = 10").unwrap();
    assert!(run(&mut session, "SELECT count(*) FROM t").unwrap().contains("10\n"));
}

#[test]
fn foreign_keys_do_what_a_dumb_twin_does() {
    let (mut done, mut refused) = (0, 0);
    for seed in 0..60 {
        let (some, others) = compare(seed);
        done += some;
        refused += others;
    }
    assert!(done > 1000 && refused > 1000, "{done} done, {refused} refused: too one-sided");
}
