//! Rules for `Cargo.toml` files: who may depend on whom.
//!
//! Reads just the TOML that manifests of this workspace are written in: one dependency a line, or a
//! table of its own (`[dependencies.NAME]`).

use crate::tables::{EDGES, MUST_NOT_USE, PURE, PURE_MAY_ALSO_USE, PURE_MAY_USE};
use crate::{File, Violation};

/// One dependency.
#[derive(Debug, PartialEq, Eq)]
struct Dependency<'a> {
    line: usize,
    name: &'a str,
    dev: bool,
}

/// Checks a package's manifest. Development dependencies may be anything outside of the workspace.
pub fn check(file: &File, found: &mut Vec<Violation>) {
    let (package, dependencies) = parse(&file.text);
    let Some(package) = package else {
        // The workspace itself.
        return;
    };
    let Some((_, edges)) = EDGES.iter().find(|(name, _)| *name == package) else {
        let text =
            format!("package {package} is not in the table of crate edges: say in tests/tidy what it may import");
        found.push(file.violation(1, text));
        return;
    };
    for Dependency { line, name, dev } in dependencies {
        if EDGES.iter().any(|(internal, _)| *internal == name) {
            if !edges.contains(&name) {
                let text = format!("{package} must not import {name}: it may import {edges:?}");
                found.push(file.violation(line, text));
            }
        } else if dev {
            continue;
        } else if PURE.contains(&package) && !PURE_MAY_USE.contains(&name) && !may_also_use(package, name) {
            let text = format!("pure crate {package} must not use {name}: it may use {PURE_MAY_USE:?}");
            found.push(file.violation(line, text));
        } else if package == "tidy" {
            found.push(file.violation(line, format!("tidy imports nothing, not even {name}: it runs before all else")));
        } else if let Some((_, _, why)) =
            MUST_NOT_USE.iter().find(|(user, used, _)| *user == package && used.contains(&name))
        {
            found.push(file.violation(line, format!("{package} must not use {name}: {why}")));
        }
    }
}

fn may_also_use(package: &str, name: &str) -> bool {
    PURE_MAY_ALSO_USE.iter().any(|(user, used)| *user == package && used.contains(&name))
}

/// The package's name, if the manifest has one, and its dependencies.
fn parse(text: &str) -> (Option<&str>, Vec<Dependency<'_>>) {
    let (mut package, mut dependencies) = (None, Vec::new());
    let mut section = "";
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if let Some(header) = line.strip_prefix('[') {
            section = header.trim_end_matches(']').trim_start_matches('[');
            // [dependencies.NAME]
            if let Some((kind, name)) = section.rsplit_once('.').filter(|(kind, _)| kind.ends_with("dependencies")) {
                let workspace = kind.starts_with("workspace");
                if !workspace {
                    dependencies.push(Dependency { line: number, name: unquoted(name), dev: kind.contains("dev-") });
                }
            }
            continue;
        }
        let Some((key, value)) = line.split_once('=').filter(|_| !line.starts_with('#')) else { continue };
        let key = key.trim();
        if section == "package" && key == "name" {
            package = Some(unquoted(value.trim()));
        } else if section.ends_with("dependencies") && !section.starts_with("workspace") {
            let name = unquoted(key.split('.').next().unwrap_or(key));
            // `alias = { package = "name" }` imports name.
            let name = value.split_once("package =").and_then(|(_, rest)| rest.split('"').nth(1)).unwrap_or(name);
            dependencies.push(Dependency { line: number, name, dev: section.contains("dev-") });
        }
    }
    (package, dependencies)
}

fn unquoted(text: &str) -> &str {
    text.trim_matches('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(package: &str, rest: &str) -> Vec<String> {
        let mut found = Vec::new();
        let text = format!("[package]\nname = \"{package}\"\n\n{rest}");
        check(&File::new("x/Cargo.toml", &text), &mut found);
        found.iter().map(Violation::to_string).collect()
    }

    #[test]
    fn reads_every_way_to_write_a_dependency() {
        let text = "[package]\nname = \"a\"\n[dependencies]\n# c = 1\nb.workspace = true\n\"c\" = \"1\"\n\
                    x = { package = \"d\", path = \"..\" }\n[dependencies.e]\nversion = \"1\"\n\
                    [target.'cfg(unix)'.dependencies]\nf = \"1\"\n[dev-dependencies]\ng = \"1\"\n\
                    [build-dependencies]\nh = \"1\"\n[lints]\nworkspace = true\n[[bin]]\nname = \"z\"";
        let (package, dependencies) = parse(text);
        assert_eq!(package, Some("a"));
        let names: Vec<_> = dependencies.iter().map(|d| (d.line, d.name, d.dev)).collect();
        let expected = [(5, "b"), (6, "c"), (7, "d"), (8, "e"), (11, "f"), (13, "g"), (15, "h")];
        assert_eq!(names, expected.map(|(line, name)| (line, name, name == "g")));
        assert_eq!(parse("[workspace]\n[workspace.dependencies]\na = \"1\"").1, []);
    }

    #[test]
    fn an_edge_that_is_not_in_the_table_is_refused() {
        assert_eq!(found("txn", "[dependencies]\npaxos.workspace = true"), [""; 0]);
        let refused = found("paxos", "[dependencies]\ntxn.workspace = true");
        assert_eq!(refused, ["x/Cargo.toml:5: paxos must not import txn: it may import [\"truetime\"]"]);
        // In tests as well: what a test imports, a reader must know.
        assert_eq!(found("paxos", "[dev-dependencies]\ntxn.workspace = true").len(), 1);
        assert_eq!(found("newcomer", "").len(), 1);
    }

    #[test]
    fn a_pure_crate_has_few_friends() {
        assert_eq!(found("txn", "[dependencies]\nbytes = \"1\"\n[dev-dependencies]\ngoldenscript = \"1\""), [""; 0]);
        assert_eq!(found("check", "[dependencies]\nserde = \"1\""), [""; 0]);
        for name in ["tokio", "tonic", "prost", "rocksdb", "libc", "rand_os"] {
            assert_eq!(found("txn", &format!("[dependencies]\n{name} = \"1\"")).len(), 1);
        }
    }

    #[test]
    fn others_have_their_own_absences() {
        for (package, names, _) in MUST_NOT_USE {
            for name in *names {
                assert_eq!(found(package, &format!("[dependencies.{name}]\nversion = \"1\"")).len(), 1);
            }
        }
        assert_eq!(found("tidy", "[dependencies]\nregex = \"1\"").len(), 1);
        assert_eq!(found("server", "[dependencies]\nrocksdb = \"1\""), [""; 0]);
    }
}
