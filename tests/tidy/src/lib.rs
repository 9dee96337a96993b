//! Style that matters is a test: this package reads the whole tree and fails on what the rules forbid.
//!
//! It imports nothing, so that it runs in a second and before anything else compiles. Each rule is a
//! function from the text of a file to violations; each is tested on a sample that breaks it, because a
//! rule that cannot fail checks nothing.
//!
//! ```text
//!   tree::read ---> Tree ---+--> manifest   who may depend on whom, and on what
//!     (files)               +--> rust       module docs, length, leftovers, sleeps, pure crates, the wire
//!                           +--> docs       links and `make` commands in the .md files
//!                                  |
//!                                  v
//!                              Violation { path, line, text: what, and what to do instead }
//! ```

pub mod docs;
pub mod lexer;
pub mod manifest;
pub mod rust;
pub mod tables;
pub mod tree;

pub use tree::{File, Tree, Violation};

/// All violations of all rules, in the order of paths and lines.
pub fn check(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for file in &tree.files {
        match file.path.rsplit('.').next() {
            Some("rs") => rust::check(file, &mut found),
            Some("toml") if file.path.ends_with("Cargo.toml") => manifest::check(file, &mut found),
            Some("md") => docs::check(file, tree, &mut found),
            _ => {}
        }
    }
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn the_tree_keeps_its_rules() {
        let root = Path::new("../..");
        let tree = tree::read(root).expect("the tree can be read");
        // Guards the guard: a walk that finds nothing would pass.
        for path in ["Cargo.toml", "truetime/src/lib.rs", "tests/tidy/src/lib.rs"] {
            assert!(tree.files.iter().any(|file| file.path == path), "the walk missed {path}");
        }
        let found = check(&tree);
        let lines: Vec<String> = found.iter().map(Violation::to_string).collect();
        assert!(found.is_empty(), "{} violations:\n{}\n", found.len(), lines.join("\n"));
    }
}
