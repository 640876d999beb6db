//! The files of a model: where they lie. The only file of this crate that maps memory.
//!
//! A model lies in a folder in the diffusers layout, in a single file (`single/`), or is compiled into the program; [`Files`]
//! is any of them, and looks to the rest of the crate like the folder. What the files of weights hold, and how tensors come
//! out of them, is in `weights/`.

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::Device;
use memmap2::Mmap;

use crate::error::{Error, Result};
use crate::single::SingleFile;
use crate::variant::Change;
pub use crate::weights::Weights;
use crate::weights::{Asked, Opened, layout};

/// A file of weights as it was found: path, length, time of its last change.
pub(crate) type Stamp = (PathBuf, u64, Option<std::time::SystemTime>);

/// Where the files of a model are.
#[derive(Clone, Debug)]
pub enum Files {
    /// In a folder.
    Folder(PathBuf),
    /// In the program: relative names and contents.
    Embedded(&'static [(&'static str, &'static [u8])]),
    /// In one file, which was recognised; what it lacks comes from descriptions compiled into the program.
    Single(Arc<SingleFile>),
    /// As in these files, but weights are only written down when they are asked for, and not read.
    Asked(Box<Files>, Asked),
    /// As in other files, with something changed.
    Changed(Arc<Change>),
}

impl Files {
    /// Whether a file is there.
    #[must_use]
    pub fn has(&self, file: &str) -> bool {
        match self {
            Self::Folder(folder) => folder.join(file).is_file(),
            Self::Embedded(files) => files.iter().any(|(name, _)| *name == file),
            Self::Single(single) => single.has(file),
            Self::Asked(files, _) => files.has(file),
            Self::Changed(change) => change.files_of(file).has(file),
        }
    }

    /// Reads a small file whole.
    ///
    /// # Errors
    /// [`Error::File`] when it is not there or cannot be read.
    pub fn read(&self, file: &str) -> Result<Cow<'static, [u8]>> {
        match self {
            Self::Folder(folder) => std::fs::read(folder.join(file))
                .map(Cow::Owned)
                .map_err(|source| Error::File { file: file.to_owned(), source }),
            Self::Embedded(files) => embedded(files, file).map(Cow::Borrowed),
            Self::Single(single) => single.read(file),
            Self::Asked(files, _) => files.read(file),
            Self::Changed(change) => change.files_of(file).read(file),
        }
    }

    /// Opens the weights of a component. In a folder: `stem.safetensors`, its half-precision variant, the parts its index
    /// names, or whatever single file of weights lies there, in any layout that is known.
    ///
    /// # Errors
    /// [`Error::File`] when there are none, [`Error::Damaged`] when a file is something else or broken.
    pub fn weights(&self, folder: &str, stem: &str, device: &Device) -> Result<Weights> {
        let asked = match self {
            Self::Asked(_, asked) if !asked.looks() => return Ok(Weights::of_nothing(folder, asked.clone(), device)),
            Self::Asked(_, asked) => Some(asked),
            Self::Changed(change) => {
                let weights = change.files_of(folder).weights(folder, stem, device)?;
                return Ok(weights.changed(Arc::clone(change)));
            }
            Self::Folder(_) | Self::Embedded(_) | Self::Single(_) => None,
        };
        let opened = self.opened(folder, stem)?;
        let places = layout::places(folder, &opened);
        if let Some(asked) = asked {
            asked.find(folder, &opened, &places);
            return Ok(Weights::of_nothing(folder, asked.clone(), device));
        }
        Ok(Weights::of_files(folder, opened, places, device))
    }

    /// Opens the files that hold the weights of a component, reading their headers.
    ///
    /// # Errors
    /// As [`Files::weights`].
    pub(crate) fn opened(&self, folder: &str, stem: &str) -> Result<Vec<Opened>> {
        let open = |name: String, bytes: io::Result<Bytes>| {
            Opened::new(name.clone(), bytes.map_err(|source| Error::File { file: name, source })?)
        };
        match self {
            Self::Folder(root) => {
                let parts = self.parts(root, folder, stem)?;
                parts.into_iter().map(|part| open(part.clone(), Bytes::map(&root.join(part)))).collect()
            }
            Self::Embedded(files) => {
                let file = format!("{folder}/{stem}.safetensors");
                let bytes = Bytes::Embedded(embedded(files, &file)?);
                Ok(vec![Opened::new(file, bytes)?])
            }
            Self::Single(single) => match single.beside(folder) {
                Some(files) => files.opened(folder, stem),
                None => Ok(vec![open(single.name(), Bytes::map(single.path()))?]),
            },
            Self::Asked(files, _) => files.opened(folder, stem),
            Self::Changed(change) => change.files_of(folder).opened(folder, stem),
        }
    }

    /// What changes when a file of weights is replaced, without reading any.
    pub(crate) fn stamp(&self) -> Vec<Stamp> {
        let mut stamps = Vec::new();
        let mut tell = |path: &Path| {
            if let Ok(metadata) = std::fs::metadata(path) {
                stamps.push((path.to_owned(), metadata.len(), metadata.modified().ok()));
            }
        };
        match self {
            Self::Folder(folder) => {
                let mut components: Vec<_> = std::fs::read_dir(folder).into_iter().flatten().flatten().collect();
                components.sort_unstable_by_key(std::fs::DirEntry::file_name);
                components.iter().flat_map(|component| weights_in(&component.path()).0).for_each(|file| tell(&file));
            }
            Self::Single(single) => tell(single.path()),
            Self::Asked(files, _) => return files.stamp(),
            Self::Changed(change) => return change.files.stamp(),
            Self::Embedded(_) => {}
        }
        stamps
    }

    /// The files of a component's weights, relative to the model's folder.
    fn parts(&self, root: &Path, folder: &str, stem: &str) -> Result<Vec<String>> {
        let whole = [format!("{folder}/{stem}.safetensors"), format!("{folder}/{stem}.fp16.safetensors")];
        if let Some(file) = whole.iter().find(|file| self.has(file)) {
            return Ok(vec![file.clone()]);
        }
        for index in ["index", "index.fp16"] {
            let file = format!("{folder}/{stem}.safetensors.{index}.json");
            if self.has(&file) {
                return self.indexed(folder, file);
            }
        }
        let name = |path: &Path| format!("{folder}/{}", path.file_name().unwrap_or_default().to_string_lossy());
        let (weights, pickles) = weights_in(&root.join(folder));
        match (weights.as_slice(), pickles.first()) {
            ([only], _) => Ok(vec![name(only)]),
            ([_, other, ..], _) => {
                let reason =
                    format!("{folder} holds more than one file of weights; it must be one, or {stem}.safetensors");
                Err(Error::Damaged { file: name(other), reason })
            }
            ([], Some(pickle)) => Err(Error::Damaged { file: name(pickle), reason: PICKLE.to_owned() }),
            ([], None) => {
                let [file, _] = whole;
                Err(Error::File { file, source: io::ErrorKind::NotFound.into() })
            }
        }
    }

    fn indexed(&self, folder: &str, file: String) -> Result<Vec<String>> {
        let index: Index = crate::config::read_json(self, &file)?;
        let mut parts: Vec<String> = Vec::new();
        for part in index.weight_map.into_values() {
            if part.contains(['/', '\\']) || !part.ends_with(".safetensors") {
                return Err(Error::Config { file, reason: format!("{part:?} is not the name of a safetensors file") });
            }
            let part = format!("{folder}/{part}");
            if !parts.contains(&part) {
                parts.push(part);
            }
        }
        Ok(parts)
    }
}

/// Why files of PyTorch's own kind are not read.
pub(crate) const PICKLE: &str = "it is a pickle checkpoint (.ckpt, .pt, .bin), which can run any code while it is read; \
    convert it to safetensors";

/// The files of weights in a folder, and the pickles, each by name.
pub(crate) fn weights_in(folder: &Path) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let (mut weights, mut pickles) = (Vec::new(), Vec::new());
    for path in std::fs::read_dir(folder).into_iter().flatten().flatten().map(|item| item.path()) {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("safetensors" | "gguf") if path.is_file() => weights.push(path),
            Some("ckpt" | "pt" | "pth" | "bin") if path.is_file() => pickles.push(path),
            _ => {}
        }
    }
    weights.sort_unstable();
    pickles.sort_unstable();
    (weights, pickles)
}

fn embedded(files: &'static [(&'static str, &'static [u8])], file: &str) -> Result<&'static [u8]> {
    let found = files.iter().find(|(name, _)| *name == file).map(|(_, bytes)| *bytes);
    found.ok_or_else(|| Error::File { file: file.to_owned(), source: io::ErrorKind::NotFound.into() })
}

#[derive(serde::Deserialize)]
struct Index {
    weight_map: std::collections::BTreeMap<String, String>,
}

/// The bytes of a file of weights.
pub(crate) enum Bytes {
    /// Mapped from a file.
    Mapped(Mmap),
    /// Part of the program.
    Embedded(&'static [u8]),
}

impl Bytes {
    /// Maps a file.
    ///
    /// # Errors
    /// What opening or mapping it came to.
    pub(crate) fn map(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        if file.metadata()?.len() == 0 {
            // An empty file cannot be mapped everywhere.
            return Ok(Self::Embedded(&[]));
        }
        #[expect(unsafe_code, reason = "mapping a file is the purpose of this module")]
        // SAFETY: the mapping is read-only and lives only while a model is being loaded or its header read; every tensor is
        // copied out of it. What remains is the contract that models' files are not truncated or rewritten in place
        // meanwhile, which `host/engine/README.md` states: replace a model by renaming a new one over it.
        let mapped = unsafe { Mmap::map(&file) }?;
        Ok(Self::Mapped(mapped))
    }
}

impl std::ops::Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(mapped) => mapped,
            Self::Embedded(bytes) => bytes,
        }
    }
}
