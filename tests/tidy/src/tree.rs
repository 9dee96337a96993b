//! The files that the rules look at, and what they report.

use std::collections::BTreeSet;
use std::path::Path;
use std::{fmt, fs, io};

/// One text file.
#[derive(Clone, Debug)]
pub struct File {
    /// From the root, with `/`.
    pub path: String,
    /// The whole text.
    pub text: String,
}

/// The tree: the text of the files that rules read, and the paths of all.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    /// `.rs`, `.toml`, `.md` and the Makefile.
    pub files: Vec<File>,
    /// Every file and directory, from the root, with `/`.
    pub paths: BTreeSet<String>,
}

/// Something that a rule forbids. Displays as `path:line: text`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    /// From the root.
    pub path: String,
    /// From 1.
    pub line: usize,
    /// What is wrong and what to do.
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.text)
    }
}

impl File {
    /// A file from its parts.
    pub fn new(path: &str, text: &str) -> File {
        File { path: path.to_string(), text: text.to_string() }
    }

    /// A violation in this file.
    pub fn violation(&self, line: usize, text: impl Into<String>) -> Violation {
        Violation { path: self.path.clone(), line, text: text.into() }
    }
}

impl Tree {
    /// A tree made of files only, for tests.
    pub fn of(files: Vec<File>) -> Tree {
        let paths = files.iter().map(|file| file.path.clone()).collect();
        Tree { files, paths }
    }

    /// The text of a file, if there is such a file.
    pub fn text(&self, path: &str) -> Option<&str> {
        self.files.iter().find(|file| file.path == path).map(|file| file.text.as_str())
    }
}

/// Folders that hold no source.
const SKIPPED: &[&str] = &["target", ".git", "meridian-data"];

/// Reads the tree below `root`.
pub fn read(root: &Path) -> io::Result<Tree> {
    let mut tree = Tree::default();
    read_folder(root, "", &mut tree)?;
    tree.files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(tree)
}

fn read_folder(root: &Path, folder: &str, tree: &mut Tree) -> io::Result<()> {
    for entry in fs::read_dir(root.join(folder))? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
        if SKIPPED.contains(&name.as_str()) {
            continue;
        }
        tree.paths.insert(path.clone());
        if entry.file_type()?.is_dir() {
            read_folder(root, &path, tree)?;
        } else if name == "Makefile" || [".rs", ".toml", ".md"].iter().any(|end| name.ends_with(end)) {
            let text = String::from_utf8_lossy(&fs::read(entry.path())?).into_owned();
            tree.files.push(File { path, text });
        }
    }
    Ok(())
}
