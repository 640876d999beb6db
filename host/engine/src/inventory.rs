//! What lies in a folder of models, for people: `easel models` tells it. Headers are read, weights are not.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::checkpoint::{Files, weights_in};
use crate::error::Result;
use crate::models::{self, Entry};
use crate::weights::read_header;

/// A model in a folder, or what looks like one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its id: the name of its folder, or of its file without the ending.
    pub id: String,
    /// Where it lies.
    pub path: PathBuf,
    /// Its family, when it can be used.
    pub family: Option<&'static str>,
    /// `folder`, or what its single file was recognised as.
    pub layout: String,
    /// How its weights are stored, such as `F16`.
    pub stored: Vec<String>,
    /// The length of its weights' files.
    pub bytes: u64,
    /// Whether it brings a safety checker of its own.
    pub checks: bool,
    /// Why it cannot be used.
    pub problem: Option<String>,
}

/// Every model in a folder, and everything that looks like one and cannot be used, by name.
///
/// # Errors
/// [`crate::Error::Folder`] when the folder cannot be listed.
pub fn inventory(folder: &Path) -> Result<Vec<Listed>> {
    let candidates = models::candidates(folder)?;
    Ok(candidates.into_iter().map(|(id, path, entry)| Listed::new(id, path, entry)).collect())
}

/// Looks at one model, wherever it lies. `models` is the folder whose shared tokenizers count.
///
/// # Errors
/// Why it cannot be used.
pub fn look(path: &Path, models: &Path) -> Result<Listed> {
    let (id, files) = models::at(path, models)?;
    let entry = Entry::read(&id, files)?;
    Ok(Listed::new(id, path.to_owned(), Ok(entry)))
}

/// The files of a model in a folder of models, to examine them.
///
/// # Errors
/// [`crate::Error::NoModel`] when there is none by that id; why its file cannot be used.
pub fn files(id: &str, folder: &Path) -> Result<Files> {
    let candidates = models::candidates(folder)?;
    let found = candidates.into_iter().find(|(known, ..)| known == id);
    let (_, path, _) = found.ok_or_else(|| crate::Error::NoModel(id.to_owned()))?;
    Ok(models::at(&path, folder)?.1)
}

impl Listed {
    fn new(id: String, path: PathBuf, entry: std::result::Result<Entry, String>) -> Self {
        let weights = weights_of(&path);
        let bytes = weights.iter().filter_map(|file| Some(std::fs::metadata(file).ok()?.len())).sum();
        let mut stored = BTreeSet::new();
        for table in weights.iter().filter_map(|file| read_header(file).ok()) {
            // Positions and scales are not how weights are stored.
            stored
                .extend(table.tensors.values().filter(|entry| entry.shape.len() > 1).map(|entry| entry.stored.name()));
        }
        let stored = stored.into_iter().collect();
        let (family, layout, checks, problem) = match entry {
            Ok(entry) => {
                let layout = match &entry.files {
                    Files::Single(single) => single.kind().to_owned(),
                    Files::Folder(_) | Files::Embedded(_) | Files::Asked(..) | Files::Changed(_) => "folder".to_owned(),
                };
                (Some(entry.family.name), layout, crate::safety::files(&entry.files).is_some(), None)
            }
            Err(problem) => (None, "-".to_owned(), false, Some(problem)),
        };
        Self { id, path, family, layout, stored, bytes, checks, problem }
    }
}

/// The files of weights of a model: itself, those in its folder, and those in the folders there.
fn weights_of(path: &Path) -> Vec<PathBuf> {
    if !path.is_dir() {
        return vec![path.to_owned()];
    }
    let components = std::fs::read_dir(path).into_iter().flatten().flatten().map(|item| item.path());
    let mut files = weights_in(path).0;
    files.extend(components.filter(|path| path.is_dir()).flat_map(|folder| weights_in(&folder).0));
    files
}
