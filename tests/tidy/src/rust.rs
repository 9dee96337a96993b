//! Rules for `.rs` files.

use crate::lexer::{Line, has_word, lines};
use crate::tables::{DATAFUSION_FOLDER, LINES_MAX, LONG_FILES, MAY_SLEEP, PURE, PURE_MUST_NOT_SAY, WIRE_FILES};
use crate::{File, Violation};

/// All rules of this module.
pub fn check(file: &File, found: &mut Vec<Violation>) {
    let lines = lines(&file.text);
    module_docs(file, found);
    length(file, LONG_FILES, found);
    leftovers(file, &lines, found);
    sleeps(file, &lines, found);
    purity(file, &lines, found);
    wire(file, &lines, found);
    datafusion(file, &lines, found);
}

/// A module says what it is for, before anything else.
fn module_docs(file: &File, found: &mut Vec<Violation>) {
    if !file.text.lines().take(3).any(|line| line.starts_with("//!")) {
        found.push(file.violation(1, "no module documentation: begin the file with `//!` and what it is for"));
    }
}

/// Files stay short.
fn length(file: &File, long_files: &[(&str, usize)], found: &mut Vec<Violation>) {
    let length = file.text.lines().count();
    let listed = long_files.iter().find(|(path, _)| *path == file.path);
    let max = listed.map_or(LINES_MAX, |(_, max)| *max);
    if length > max {
        found.push(file.violation(max + 1, format!("{length} lines, at most {max}: split it by role")));
    }
}

/// What is meant for the author's eyes only.
fn leftovers(file: &File, lines: &[Line], found: &mut Vec<Violation>) {
    for (number, line) in (1..).zip(lines) {
        for (macro_name, instead) in [
            ("dbg!", "use tracing, or a dump in a golden script"),
            ("todo!", "finish it, or leave it out"),
            ("unimplemented!", "return a typed error"),
        ] {
            if has_word(&line.code, macro_name) {
                found.push(file.violation(number, format!("{macro_name} left over: {instead}")));
            }
        }
        if line.code.contains("#[ignore") {
            found.push(file.violation(number, "an ignored test tests nothing: make it fast, or remove it"));
        }
        for mark in ["FIXME", "XXX"] {
            if has_word(&line.comment, mark) {
                found.push(file.violation(number, format!("{mark} left over: fix it, or file an issue")));
            }
        }
    }
}

/// Tests wait for a condition, not for time to pass.
fn sleeps(file: &File, lines: &[Line], found: &mut Vec<Violation>) {
    if MAY_SLEEP.iter().any(|(path, _)| *path == file.path) {
        return;
    }
    let all_test = is_test_file(&file.path);
    for (number, line) in (1..).zip(lines).filter(|(_, line)| all_test || line.test) {
        // `world.sleep(..)` is somebody's own method and `fn sleep(` its definition.
        let bare = line.code.match_indices("sleep(").any(|(at, _)| {
            let before = line.code[..at].trim_end();
            !before.ends_with(|c: char| c == '.' || c == '_' || c.is_alphanumeric())
        });
        if bare {
            found.push(
                file.violation(number, "a test that sleeps is slow or flaky: wait for a condition, by a deadline"),
            );
        }
    }
}

/// The pure crates stay pure. Their tests may read files.
fn purity(file: &File, lines: &[Line], found: &mut Vec<Violation>) {
    let pure = PURE.iter().any(|name| file.path.starts_with(&format!("{name}/src/")));
    if !pure || is_test_file(&file.path) {
        return;
    }
    for (number, line) in (1..).zip(lines).filter(|(_, line)| !line.test) {
        for (word, instead) in PURE_MUST_NOT_SAY {
            // `use std::{fmt, fs}` says std::fs as well.
            let grouped = word
                .strip_prefix("std::")
                .is_some_and(|module| line.code.split_once("std::{").is_some_and(|(_, group)| has_word(group, module)));
            if grouped || has_word(&line.code, word) {
                found.push(file.violation(number, format!("{word} in a pure crate: {instead}")));
            }
        }
    }
}

/// Wire types become domain types in one place of the server.
fn wire(file: &File, lines: &[Line], found: &mut Vec<Violation>) {
    let allowed = WIRE_FILES.iter().any(|path| match path.ends_with('/') {
        true => file.path.starts_with(path),
        false => file.path == *path,
    });
    if !file.path.starts_with("server/src/") || allowed {
        return;
    }
    for (number, _) in (1..).zip(lines).filter(|(_, line)| has_word(&line.code, "proto::")) {
        let text = format!("wire types outside {}: convert them there", WIRE_FILES.join(", "));
        found.push(file.violation(number, text));
    }
}

/// DataFusion is known in one folder, so that it can be left out, and replaced.
fn datafusion(file: &File, lines: &[Line], found: &mut Vec<Violation>) {
    if file.path.starts_with(DATAFUSION_FOLDER) {
        return;
    }
    for (number, _) in (1..).zip(lines).filter(|(_, line)| has_word(&line.code, "datafusion::")) {
        found.push(file.violation(number, format!("DataFusion outside {DATAFUSION_FOLDER}: keep it there")));
    }
}

/// Whether all of the file is a test: below a `tests` folder, or a test module of its own.
fn is_test_file(path: &str) -> bool {
    path.split('/').any(|part| part == "tests" || part == "tests.rs" || part == "golden" || part == "golden.rs")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines and texts that `check` finds in a sample.
    fn found(path: &str, text: &str) -> Vec<(usize, String)> {
        let mut found = Vec::new();
        check(&File::new(path, text), &mut found);
        found.into_iter().map(|violation| (violation.line, violation.text)).collect()
    }

    /// Asserts one violation, on `line`, that says `part`; and none once it is repaired.
    fn assert_breaks(path: &str, bad: &str, line: usize, part: &str, good: &str) {
        let found_bad = found(path, bad);
        assert!(found_bad.len() == 1 && found_bad[0].0 == line && found_bad[0].1.contains(part), "{found_bad:?}");
        assert_eq!(found(path, good), []);
    }

    #[test]
    fn a_module_needs_docs() {
        assert_breaks("sql/build.rs", "fn main() {}", 1, "module documentation", "//! Builds.\nfn main() {}");
    }

    #[test]
    fn a_file_must_not_be_long() {
        let text = |lines| format!("//! Long.\n{}", "// x\n".repeat(lines - 1));
        assert_breaks("sql/src/a.rs", &text(LINES_MAX + 1), LINES_MAX + 1, "601 lines", &text(LINES_MAX));
        let mut found = Vec::new();
        length(&File::new("a.rs", &text(700)), &[("a.rs", 700)], &mut found);
        assert_eq!(found, []);
        length(&File::new("a.rs", &text(701)), &[("a.rs", 700)], &mut found);
        assert_eq!(found.len(), 1);
    }

    #[test]
    fn leftovers_are_found_in_code_but_not_in_strings() {
        for (bad, part) in [
            ("//! A.\nfn a() { dbg!(1); }", "dbg!"),
            ("//! A.\nfn a() { todo!() }", "todo!"),
            ("//! A.\nfn a() { unimplemented!() }", "unimplemented!"),
            ("//! A.\n#[ignore] fn a() {}", "ignored"),
            ("//! A.\n#[ignore = \"slow\"] fn a() {}", "ignored"),
            (concat!("//! A.\n// FIX", "ME later"), concat!("FIX", "ME")),
            (concat!("//! A.\n/* XX", "X */"), concat!("XX", "X")),
        ] {
            assert_breaks("sql/src/a.rs", bad, 2, part, "//! A.\nfn a() { b(\"todo!() dbg!\") }");
        }
    }

    #[test]
    fn tests_must_not_sleep() {
        let good = "//! A.\nfn f() { sleep(d); }\n#[cfg(test)]\nmod tests { fn g() { world.sleep(1); } }";
        for call in ["std::thread::sleep(d)", "tokio::time::sleep(d)", "sleep(d)"] {
            let bad = format!("//! A.\n#[cfg(test)]\nmod tests {{\n  fn f() {{ {call}; }}\n}}");
            assert_breaks("server/src/a.rs", &bad, 4, "sleeps", good);
        }
        assert_breaks("tests/e2e/src/a.rs", "//! A.\nfn f() { sleep(d) }", 2, "sleeps", "//! A.\nfn sleep(d: u8) {}");
        assert_eq!(found(MAY_SLEEP[0].0, "//! A.\nfn f() { sleep(d) }"), []);
    }

    #[test]
    fn pure_crates_must_not_read_clocks_or_files() {
        for (word, _) in PURE_MUST_NOT_SAY {
            let bad = format!("//! A.\nuse {word};");
            let good = format!("//! {word}\n#[cfg(test)]\nmod tests {{ use {word}; }}");
            assert_breaks("paxos/src/a.rs", &bad, 2, word, &good);
            assert_eq!(found("server/src/a.rs", &bad), []);
        }
        assert_breaks("txn/src/a.rs", "//! A.\nuse std::{fmt, fs};", 2, "std::fs", "//! A.\nuse std::{fmt, ops};");
    }

    #[test]
    fn datafusion_stays_in_its_folder() {
        let bad = "//! A.\nuse datafusion::arrow;";
        assert_breaks("sql/src/session.rs", bad, 2, "DataFusion outside", "//! datafusion::x\nuse sql::x;");
        assert_eq!(found("sql/src/select/scan.rs", bad), []);
    }

    #[test]
    fn wire_types_stay_at_the_boundary() {
        let bad = "//! A.\nuse proto::meridian as wire;";
        assert_breaks("server/src/driver.rs", bad, 2, "wire types", "//! proto::meridian\nuse sql::x;");
        for path in ["server/src/wire.rs", "server/src/frontend/grpc.rs", "shell/src/client.rs"] {
            assert_eq!(found(path, bad), []);
        }
    }
}
