//! Rules for `.md` files: what they point to exists.

use crate::{File, Tree, Violation};

/// Relative links point to files, and `make` commands to targets of the Makefile.
pub fn check(file: &File, tree: &Tree, found: &mut Vec<Violation>) {
    let mut in_block = false;
    for (number, line) in (1..).zip(file.text.lines()) {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        } else if in_block {
            command(file, tree, number, line, found);
        } else {
            links(file, tree, number, line, found);
        }
    }
}

/// A line in a block of code, with or without a prompt.
fn command(file: &File, tree: &Tree, number: usize, line: &str, found: &mut Vec<Violation>) {
    let line = line.trim().trim_start_matches("$ ");
    let Some(arguments) = line.strip_prefix("make ") else { return };
    let makefile = tree.text("Makefile").unwrap_or_default();
    // Up to a comment, another command, or the first variable, whose quoted value may hold spaces.
    let words = arguments.split_whitespace().take_while(|word| !word.contains(['#', '&', '|', ';', '=']));
    for target in words.filter(|word| !word.starts_with('-')) {
        if !targets(makefile).any(|known| known == target) {
            found.push(
                file.violation(number, format!("the Makefile has no target {target}: correct the text, or add it")),
            );
        }
    }
}

/// The targets of a Makefile: the words before a colon that is not part of an assignment.
fn targets(makefile: &str) -> impl Iterator<Item = &str> {
    let rules = makefile.lines().filter(|line| !line.starts_with(['\t', '#', ' ', '.']));
    rules
        .filter_map(|line| line.split_once(':').filter(|(_, rest)| !rest.starts_with('=')))
        .filter(|(names, _)| !names.contains('='))
        .flat_map(|(names, _)| names.split_whitespace())
}

/// The `](target)`s of a line outside of code.
fn links(file: &File, tree: &Tree, number: usize, line: &str, found: &mut Vec<Violation>) {
    // Odd parts lie between backticks.
    let text: String = line.split('`').step_by(2).collect::<Vec<_>>().join("``");
    for (at, _) in text.match_indices("](") {
        let Some((target, _)) = text[at + 2..].split_once(')') else { continue };
        let target = target.split_whitespace().next().unwrap_or_default().trim_matches(['<', '>']);
        let path = target.split('#').next().unwrap_or_default();
        if path.is_empty() || target.contains("://") || target.starts_with("mailto:") {
            continue;
        }
        let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        if !resolve(folder, path).is_some_and(|path| path.is_empty() || tree.paths.contains(&path)) {
            found.push(file.violation(number, format!("link to {target}, which does not exist: correct or remove it")));
        }
    }
}

/// `path` seen from `folder`, from the root; `None` outside of the tree.
fn resolve(folder: &str, path: &str) -> Option<String> {
    let start = if path.starts_with('/') { "" } else { folder };
    let mut parts: Vec<&str> = Vec::new();
    for part in start.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<(usize, String)> {
        let makefile = "X ?= 1\nY := a:b\n.PHONY: build\nbuild test: deps\n\tcargo build\ndeps:\n";
        let page = File::new("docs/a.md", text);
        let mut tree = Tree::of(vec![File::new("Makefile", makefile), page.clone(), File::new("README.md", "")]);
        tree.paths.insert("docs".to_string());
        let mut found = Vec::new();
        check(&page, &tree, &mut found);
        found.into_iter().map(|violation| (violation.line, violation.text)).collect()
    }

    #[test]
    fn links_must_lead_somewhere() {
        let good = "[a](a.md) [b](../README.md#top) [c](https://example.org/x) [d](#here) [e](/docs/) `[f](g)`";
        assert_eq!(found(good), []);
        for bad in ["[x](b.md)", "[x](../docs/b.md#top)", "[x](../../README.md)", "![x](</b.png> \"t\")"] {
            let found = found(&format!("\ntext {bad} text"));
            assert!(found.len() == 1 && found[0].0 == 2 && found[0].1.contains("does not exist"), "{bad}: {found:?}");
        }
    }

    #[test]
    fn make_commands_must_be_targets() {
        assert_eq!(
            found("```\n$ make test\nmake -j2 build deps X=1 # then\nmake build ARGS=\"a b\"\n```\nmake tea"),
            []
        );
        for bad in ["make tea", "$ make build tea", "make X", "make Y"] {
            let found = found(&format!("```sh\n{bad}\n```"));
            assert!(found.len() == 1 && found[0].0 == 2 && found[0].1.contains("no target"), "{bad}: {found:?}");
        }
    }
}
