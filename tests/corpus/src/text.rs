//! Short texts of users: durations, times, clocks, names, and what the shell is typed.

use std::collections::BTreeMap;

use shell::lexer::{self, Lexer, Mode, Piece};
use truetime::duration::{format_duration_ns, parse_duration_ns};
use truetime::{ClockSpec, Timestamp};
use txn::TxnId;

/// Durations, timestamps, clock sources, transactions' names: whatever is read is written as something
/// that is read as the same.
pub fn specs(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(ns) = parse_duration_ns(text) {
        assert_eq!(parse_duration_ns(&format_duration_ns(ns)), Ok(ns));
    }
    if let Ok(ts) = Timestamp::parse_rfc3339(text) {
        assert_eq!(Timestamp::parse_rfc3339(&ts.to_string()), Ok(ts));
    }
    if let Ok(spec) = text.parse::<ClockSpec>() {
        assert_eq!(spec.to_string().parse(), Ok(spec.clone()), "{spec}");
        if let ClockSpec::Sim(sim) = &spec {
            for elapsed in [0, 1, 30_000_000_000, i64::MAX] {
                let _ = sim.shift_ns(elapsed);
                let epsilon = sim.sawtooth.map_or(0, |sawtooth| sawtooth.epsilon_ns(elapsed));
                assert!(epsilon >= 0, "{spec} has a negative epsilon after {elapsed}");
            }
        }
    }
    if let Ok(txn) = text.parse::<TxnId>() {
        assert_eq!(txn.to_string().parse(), Ok(txn));
    }
    let _ = shell::units::parse_duration(text);
}

/// What is typed into the shell, at once and line by line: nothing is lost, and where it is cut changes
/// nothing.
pub fn lexer(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let _ = lexer::first_words(&text, 4);
    let variables = BTreeMap::from([("x".to_string(), "1".to_string())]);
    let _ = lexer::interpolate(&text, &variables);
    let statements = lexer::statements(&text);
    assert!(statements.iter().all(|statement| !statement.trim().is_empty()), "a blank statement");
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let ((one, at_once), (other, by_line)) = (pieces(&[&text]), pieces(&lines));
    assert_eq!(one, other, "inside of something else at the end");
    assert_eq!(at_once.len(), by_line.len(), "{at_once:?} became {by_line:?}");
    for (whole, part) in at_once.iter().zip(&by_line) {
        // Comments and blanks before a statement are forgotten at the end of their line.
        assert!(whole.ends_with(part.as_str()), "{whole:?} became {part:?}");
    }
}

fn pieces(pushes: &[&str]) -> (Mode, Vec<String>) {
    let mut lexer = Lexer::default();
    let mut found = Vec::new();
    for text in pushes {
        lexer.push(text);
        while let Some(piece) = lexer.next_piece() {
            found.push(match piece {
                Piece::Statement(text) | Piece::Meta(text) => text,
            });
        }
    }
    (lexer.mode().clone(), found)
}
