//! The 22 queries of TPC-H over a few rows: each is planned, runs, and returns rows.
//!
//! Two of them are computed here as well, the plain way.

use std::fmt::Write as _;

use sql::{Database, Session};

use crate::engine::MapEngine;
use crate::properties::Random;
use crate::{TextSink, block_on, error_text};

const SCHEMA: &str = include_str!("../tpch/schema.sql");
const QUERIES: &str = include_str!("../tpch/queries.sql");

struct Line {
    quantity: f64,
    price: f64,
    discount: f64,
    shipped: String,
    flag: &'static str,
}

fn run(session: &mut Session<MapEngine>, sql: &str) -> String {
    let mut sink = TextSink::default();
    match block_on(session.execute(sql, &[], &mut sink)) {
        Ok(()) => sink.text,
        Err(err) => panic!("{sql}\n{}", error_text(&err)),
    }
}

/// `INSERT INTO table VALUES` of rows.
fn insert(session: &mut Session<MapEngine>, table: &str, rows: &[String]) {
    for some in rows.chunks(50) {
        run(session, &format!("INSERT INTO {table} VALUES ({})", some.join("), (")));
    }
}

fn date(random: &mut Random, year: u64) -> String {
    format!("{}-{:02}-{:02}", year, 1 + random.below(12), 1 + random.below(28))
}

/// Values from short lists, so that every condition of the queries meets some rows.
fn fill(session: &mut Session<MapEngine>) -> Vec<Line> {
    let mut random = Random(22);
    let regions = ["AFRICA", "AMERICA", "ASIA", "EUROPE"];
    let rows: Vec<String> = regions.iter().enumerate().map(|(key, name)| format!("{key}, '{name}', ''")).collect();
    insert(session, "region", &rows);
    let nations =
        [("FRANCE", 3), ("GERMANY", 3), ("BRAZIL", 1), ("CANADA", 1), ("CHINA", 2), ("INDIA", 2), ("SAUDI ARABIA", 0)];
    let rows: Vec<String> =
        nations.iter().enumerate().map(|(key, (name, region))| format!("{key}, '{name}', {region}, ''")).collect();
    insert(session, "nation", &rows);

    let types = ["PROMO BRASS", "ECONOMY ANODIZED STEEL", "MEDIUM POLISHED TIN", "LARGE BRASS"];
    let mut rows = Vec::new();
    for key in 0..40 {
        let name = random.pick(&["forest green", "green almond", "forest blush", "misty rose"]);
        let brand = random.pick(&["Brand#12", "Brand#23", "Brand#45"]);
        let container = random.pick(&["MED BOX", "SM CASE", "MED BAG"]);
        let (ty, size) = (random.pick(&types), random.pick(&[3, 15, 4, 49]));
        rows.push(format!("{key}, '{name}', 'M', '{brand}', '{ty}', {size}, '{container}', 1.5, ''"));
    }
    insert(session, "part", &rows);
    let mut rows = Vec::new();
    for key in 0..14 {
        let comment = random.pick(&["fine", "Customer wrote Complaints", "quick"]);
        rows.push(format!("{key}, 'S{key}', 'A', {}, '12-3', {}.5, '{comment}'", key % 7, random.below(900)));
    }
    insert(session, "supplier", &rows);
    let mut rows = Vec::new();
    for part in 0..40 {
        for supplier in 0..7 {
            let supplier = (part + supplier * 2) % 14;
            rows.push(format!("{part}, {supplier}, {}, {}.25, ''", 100 + random.below(900), random.below(90)));
        }
    }
    insert(session, "partsupp", &rows);
    let mut rows = Vec::new();
    for key in 0..30 {
        let (segment, code) = (random.pick(&["BUILDING", "AUTOMOBILE"]), random.pick(&["13", "31", "17", "40"]));
        let balance = random.below(2000) as i64 - 300;
        rows.push(format!("{key}, 'C{key}', 'A', {}, '{code}-555', {balance}.75, '{segment}', ''", key % 7));
    }
    insert(session, "customer", &rows);

    let (mut orders, mut items, mut lines) = (Vec::new(), Vec::new(), Vec::new());
    for order in 0..150 {
        let year = 1993 + random.below(4);
        let (status, priority) = (random.pick(&["F", "O"]), random.pick(&["1-URGENT", "2-HIGH", "5-LOW"]));
        let comment = random.pick(&["", "special pending requests"]);
        let customer = random.below(24);
        let day = date(&mut random, year);
        orders.push(format!("{order}, {customer}, '{status}', {order}.5, '{day}', '{priority}', 'K', 0, '{comment}'"));
        for number in 0..1 + random.below(4) {
            let part = random.below(40);
            let line = Line {
                quantity: 1.0 + random.below(40) as f64,
                price: 100.0 + random.below(9000) as f64 / 4.0,
                discount: *random.pick(&[0.0, 0.02, 0.04, 0.06, 0.08, 0.1]),
                shipped: date(&mut random, year),
                flag: ["R", "A", "N"][random.below(3) as usize],
            };
            let mut row = format!("{order}, {part}, {}, {number}, ", (part + 2 * random.below(7)) % 14);
            write!(row, "{}, {}, {}, 0.05, ", line.quantity, line.price, line.discount).unwrap();
            write!(row, "'{}', '{}', '{}', ", line.flag, random.pick(&["O", "F"]), line.shipped).unwrap();
            write!(row, "'{}', '{}', ", date(&mut random, year), date(&mut random, year)).unwrap();
            let (how, mode) = (random.pick(&["DELIVER IN PERSON", "NONE"]), random.pick(&["MAIL", "SHIP", "AIR"]));
            items.push(row + &format!("'{how}', '{mode}', ''"));
            lines.push(line);
        }
    }
    insert(session, "orders", &orders);
    insert(session, "lineitem", &items);
    lines
}

fn cells(text: &str) -> Vec<Vec<String>> {
    let rows = text.lines().filter(|line| line.starts_with("  "));
    rows.map(|line| line.trim().split(" | ").map(str::to_string).collect()).collect()
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * a.abs().max(b.abs())
}

#[test]
fn all_queries_of_tpch_run() {
    let mut session = Database::new(MapEngine::with_pages(1000)).session();
    for statement in SCHEMA.split(';').filter(|statement| !statement.trim().is_empty()) {
        run(&mut session, statement);
    }
    let lines = fill(&mut session);
    let queries: Vec<&str> =
        QUERIES.split("-- ").filter_map(|part| part.split_once('\n')).map(|(_, sql)| sql).collect();
    assert_eq!(queries.len(), 22);
    let results: Vec<String> = queries.iter().map(|sql| run(&mut session, sql)).collect();
    for (number, result) in (1..).zip(&results) {
        assert!(!cells(result).is_empty(), "query {number} returns nothing: {result}");
    }

    // 1: grouped sums; all lines are older than the query's day.
    for row in cells(&results[0]) {
        let of_flag: Vec<&Line> = lines.iter().filter(|line| line.flag == row[0]).collect();
        let both: f64 = cells(&results[0])
            .iter()
            .filter(|other| other[0] == row[0])
            .map(|other| other[2].parse::<f64>().unwrap())
            .sum();
        assert!(close(both, of_flag.iter().map(|line| line.quantity).sum()), "{row:?}");
    }
    // 6: one filtered sum.
    let year = |line: &&Line| line.shipped.starts_with("1994") && line.quantity < 24.0;
    let rebate = |line: &&Line| line.discount == 0.06;
    let expected: f64 = lines.iter().filter(year).filter(rebate).map(|line| line.price * line.discount).sum();
    let revenue: f64 = cells(&results[5])[0][0].parse().unwrap();
    assert!(close(revenue, expected), "{revenue} {expected}");
}
