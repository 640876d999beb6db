//! Models in one file: recognised from the header alone, and shown to the rest of the crate as the folder they stand for.
//!
//! `kind.rs` tells what a file is; `description.rs` has the JSON files that such a model would have in a folder, as data in
//! `kinds/`; the weights stay where they are (`weights/layout/`). What the file cannot hold, the tokenizer's vocabulary above
//! all, comes from beside it or from the folder that all models share.

mod description;
mod kind;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use crate::checkpoint::Files;
use crate::error::{Error, Result};
use crate::weights::{Table, layout, read_header};

pub(crate) use kind::Kind;

/// The folder among the models that holds tokenizers for all of them.
pub(crate) const TOKENIZERS: &str = "tokenizers";

/// A model in one file.
#[derive(Debug)]
pub struct SingleFile {
    path: PathBuf,
    kind: Kind,
    description: BTreeMap<String, Vec<u8>>,
    /// The model's own folder, when it has one; what lies there goes first.
    folder: Option<PathBuf>,
    /// The folder of tokenizers that models share.
    tokenizers: Option<PathBuf>,
}

impl SingleFile {
    /// Recognises a file by its header. `folder` is a folder of its own, where files in the diffusers layout may lie beside
    /// it; `tokenizers` is where vocabularies for all models lie, each in a folder of its own (`clip`, `t5`, `qwen`).
    ///
    /// # Errors
    /// [`Error::File`] when it cannot be opened; [`Error::Damaged`] when it is broken, not a model, or not the whole of one.
    pub fn open(path: &Path, folder: Option<&Path>, tokenizers: Option<&Path>) -> Result<Self> {
        let table = read_header(path)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let damaged = |reason: String| Error::Damaged { file: name.clone(), reason };
        let kind = Kind::of(&table).map_err(damaged)?;
        let single = Self {
            path: path.to_owned(),
            kind,
            description: description::files(&kind),
            folder: folder.map(Path::to_owned),
            tokenizers: tokenizers.map(Path::to_owned),
        };
        single.whole(&table).map_err(damaged)?;
        Ok(single)
    }

    /// What it was recognised as, such as `stable-diffusion-xl`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        self.kind.base.name()
    }

    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    pub(crate) fn has(&self, file: &str) -> bool {
        self.beside_path(file).is_some() || self.description.contains_key(file) || self.shared(file).is_some()
    }

    pub(crate) fn read(&self, file: &str) -> Result<Cow<'static, [u8]>> {
        if let Some(path) = self.beside_path(file) {
            return std::fs::read(path).map(Cow::Owned).map_err(|source| Error::File { file: file.to_owned(), source });
        }
        if let Some(bytes) = self.description.get(file) {
            return Ok(Cow::Owned(bytes.clone()));
        }
        let shared = self.shared(file).map(std::fs::read);
        let bytes = shared.unwrap_or_else(|| Err(io::ErrorKind::NotFound.into()));
        bytes.map(Cow::Owned).map_err(|source| Error::File { file: file.to_owned(), source })
    }

    /// The folder of its own, when a component's weights lie there and not in the file.
    pub(crate) fn beside(&self, component: &str) -> Option<Files> {
        let folder = self.folder.as_ref()?;
        let (weights, _) = crate::checkpoint::weights_in(&folder.join(component));
        (!weights.is_empty()).then(|| Files::Folder(folder.clone()))
    }

    fn beside_path(&self, file: &str) -> Option<PathBuf> {
        self.folder.as_ref().map(|folder| folder.join(file)).filter(|path| path.is_file())
    }

    /// A file of the shared tokenizer that stands for one of the model's.
    fn shared(&self, file: &str) -> Option<PathBuf> {
        let (component, name) = file.split_once('/')?;
        let (_, tokenizer) = self.kind.base.tokenizers().iter().find(|(own, _)| *own == component)?;
        Some(self.tokenizers.as_ref()?.join(tokenizer).join(name)).filter(|path| path.is_file())
    }

    /// Refuses a model that lacks a part.
    fn whole(&self, table: &Table) -> std::result::Result<(), String> {
        for (component, what) in self.kind.base.components() {
            let prefix = layout::prefix(component, |prefix| table.under(prefix).next().is_some());
            let is_network = self.kind.prefix.is_empty() && matches!(*component, "unet" | "transformer");
            if prefix.is_none() && !is_network && self.beside(component).is_none() {
                let name = self.kind.base.name();
                return Err(format!(
                    "it is a {name} model without its {what}; put the file into a folder of its own, and the {what} into \
                     the folder {component} there"
                ));
            }
        }
        for (component, tokenizer) in self.kind.base.tokenizers() {
            let files: &[&str] = match *tokenizer {
                "clip" => &["vocab.json", "merges.txt"],
                _ => &["tokenizer.json"],
            };
            if let Some(file) = files.iter().find(|file| !self.has(&format!("{component}/{file}"))) {
                return Err(format!(
                    "such files hold no tokenizer, and {file} of {tokenizer} is not there; put it into \
                     {TOKENIZERS}/{tokenizer} in the folder of models, or give the file a folder of its own with \
                     {component}/{file}"
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
