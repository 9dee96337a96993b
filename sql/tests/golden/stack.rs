//! Input that is deep must not end the process, on the stack of an ordinary thread.

use sql::Database;

use crate::engine::MapEngine;
use crate::{TextSink, block_on};

fn outcome(sql: &str) -> String {
    let mut session = Database::new(MapEngine::new()).session();
    let mut sink = TextSink::default();
    match block_on(session.execute(sql, &[], &mut sink)) {
        Ok(()) => "ok".into(),
        Err(err) => err.sqlstate.into(),
    }
}

#[test]
fn deep_input_is_refused_or_served() {
    for depth in [10, 20, 24, 40, 100, 190, 390, 10_000, 100_000] {
        let parens = format!("SELECT {}1{}", "(".repeat(depth), ")".repeat(depth));
        let nots = format!("SELECT {} true", "NOT ".repeat(depth));
        let minus = format!("SELECT {} 1", "- ".repeat(depth));
        let plus = format!("SELECT 1{}", " + 1".repeat(depth));
        let casts = format!("SELECT 1{}", "::int".repeat(depth));
        let ors = format!("SELECT true{}", " OR true".repeat(depth));
        let cases = format!("SELECT {} 1 {}", "CASE WHEN true THEN ".repeat(depth), "END ".repeat(depth));
        let calls = format!("SELECT {}1{}", "abs(".repeat(depth), ")".repeat(depth));
        let subqueries = format!("SELECT {}1{}", "(SELECT ".repeat(depth), ")".repeat(depth));
        let unions = format!("SELECT 1{}", " UNION SELECT 1".repeat(depth));
        let joins = format!("SELECT 1 FROM a{}", " JOIN a ON true".repeat(depth));
        let nested = format!("SELECT 1 FROM {}a{}", "(".repeat(depth), ")".repeat(depth));
        let arrays = format!("SELECT {}1{}", "[".repeat(depth), "]".repeat(depth));
        let commas = format!("SELECT 1{}", ", 1".repeat(depth));
        let explains = format!("{} SELECT 1", "EXPLAIN ".repeat(depth));
        let types = format!("SELECT 1::{}int{}", "array<".repeat(depth), ">".repeat(depth));
        let dots = format!("SELECT a{}", ".a".repeat(depth));
        let intervals = format!("SELECT {} '1'", "INTERVAL ".repeat(depth));
        for sql in [
            parens, nots, minus, plus, casts, ors, cases, calls, subqueries, unions, joins, nested, arrays, commas,
            explains, types, dots, intervals,
        ] {
            let outcome = outcome(&sql);
            let start: String = sql.chars().take(40).collect();
            let known = ["ok", "54001", "42601", "0A000", "42P01", "42703", "54000"];
            assert!(known.contains(&outcome.as_str()), "{depth} of {start}: {outcome}");
        }
    }
}

#[test]
fn garbage_is_an_error() {
    let words = [
        "SELECT", "FROM", "(", ")", ",", "'", "\"", "$1", "$$", "1", "1e999", "x", ";", "*", "INSERT", "INTO",
        "VALUES", "AS", "OF", "SYSTEM", "TIME", "'-5s'", "BEGIN", "READ", "ONLY", "SHOW", "EXPLAIN", "ALTER", "TABLE",
        "SPLIT", "AT", "UPSERT", "SET", "=", "::", "--", "/*", "\\", "\u{0}", "é", "WHERE", "CASE", "WHEN", "END",
        "LIMIT", "ORDER", "BY",
    ];
    let mut seed = 7u64;
    for _ in 0..3_000 {
        let mut sql = String::new();
        for _ in 0..12 {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            sql.push_str(words[(seed >> 33) as usize % words.len()]);
            sql.push(' ');
        }
        outcome(&sql);
    }
}
