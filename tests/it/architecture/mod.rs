//! The rules of the house, read from `cargo metadata` and from the tree. Each rule is a function that returns what breaks
//! it, and each is also run on a sample that breaks it, so that no rule can hold by accident.
//!
//! [`packages`] holds who may depend on whom, [`sources`] what may stand in which file, [`contract`] what `wit/` must say
//! and who speaks it, [`words`] which words are said where.

mod contract;
mod packages;
mod sources;
mod words;

use std::fmt;
use std::path::{Path, PathBuf};

/// Something that breaks a rule: where, and what.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fault(String);

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A file of the repository.
#[derive(Clone, Debug)]
struct File {
    /// From the root of the repository, with `/`.
    path: String,
    text: String,
}

impl File {
    #[cfg(test)]
    fn sample(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }

    fn fault(&self, line: usize, what: &str) -> Fault {
        Fault(format!("{}:{}: {what}", self.path, line + 1))
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests have a folder above them").to_owned()
}

/// Every text file of these endings, in order of their paths; what git does not keep is left out.
fn files(endings: &[&str]) -> Vec<File> {
    let mut files = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("the tree can be listed") {
            let path = entry.expect("the tree can be listed").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() {
                if !matches!(name.as_str(), "target" | ".git" | "data" | "node_modules") {
                    folders.push(path);
                }
            } else if endings.iter().any(|ending| name.ends_with(ending)) {
                let inside =
                    path.strip_prefix(root()).expect("the walk stays inside").to_string_lossy().replace('\\', "/");
                let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{inside}: {error}"));
                files.push(File { path: inside, text });
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

/// Fails the test with every fault on a line of its own.
fn assert_none(faults: &[Fault]) {
    let lines: Vec<_> = faults.iter().map(ToString::to_string).collect();
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), lines.join("\n"));
}

/// Fails the test unless a rule finds exactly this many faults in a bad sample.
fn assert_found(faults: &[Fault], expected: usize) {
    assert_eq!(faults.len(), expected, "{faults:#?}");
}
