//! The models there are: those in a folder, and the demo model compiled into the program.
//!
//! In the folder a model is a folder in the diffusers layout, a file of weights, or a folder with one such file and what
//! the file lacks. Finding a model reads its JSON files and its file's header only. Beside those an `easel.json` may say what diffusers has no place for; its keys
//! are those of [`Extras`], and others are refused. A folder that cannot be used is told by name and reason, and hides no
//! other.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use easel_core::{Control, Determinism, ImageFormat, ModelInfo, ModelOption, Numbers, Size, SizeRule};
use serde::Deserialize;

use crate::checkpoint::{Files, Stamp, weights_in};
use crate::config::read_json;
use crate::error::{Error, Result};
use crate::family::{self, Facts, Family, Guiding};
use crate::safety;
use crate::single::{SingleFile, TOKENIZERS};

/// The id of the model compiled into the program.
pub const BUILT_IN: &str = "shapes";

/// The most pictures of one request.
const MAX_COUNT: u32 = 10;

/// The longest side a picture is made or enlarged to.
const MAX_SIDE: u32 = 4096;

/// The most pixels a picture is made with, and enlarged to.
const MAX_PIXELS: u64 = 4 * 1024 * 1024;

/// A model that was found.
#[derive(Debug)]
pub(crate) struct Entry {
    /// What is told of it.
    pub(crate) info: Arc<ModelInfo>,
    pub(crate) family: &'static Family,
    pub(crate) facts: Facts,
    pub(crate) files: Files,
    /// Whether it makes its native size only, and other sizes are made from that.
    pub(crate) fixed_size: bool,
    /// By which files that were replaced are told from those that were read.
    stamp: Vec<Stamp>,
}

/// What `easel.json` beside a model's files may say.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Extras {
    /// The name people read; otherwise the folder's.
    pub name: Option<String>,
    /// Whether it makes only the size it was trained on.
    pub fixed_size: bool,
    /// Steps, when a request names none; otherwise what suits the model's family.
    pub steps: Option<u32>,
    /// Guidance scale, when a request names none; otherwise what suits the model's family.
    pub guidance: Option<f64>,
}

/// A folder that looks like a model and cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The folder's name.
    pub id: String,
    /// Why it cannot be used.
    pub reason: String,
}

/// The demo model.
pub(crate) fn built_in() -> Result<Entry> {
    Entry::read(BUILT_IN, Files::Embedded(SHAPES))
}

/// Folders among the models that hold no model but what models share.
const SHARED: &[&str] = &[TOKENIZERS, safety::FOLDER, "embeddings", "loras"];

/// Every model in a folder, by name. A folder that does not exist holds none.
pub(crate) fn in_folder(folder: &Path) -> Result<(Vec<Entry>, Vec<Problem>)> {
    let (mut entries, mut problems) = (Vec::new(), Vec::new());
    for (id, _, found) in candidates(folder)? {
        match found {
            Ok(entry) => entries.push(entry),
            Err(reason) => problems.push(Problem { id, reason }),
        }
    }
    Ok((entries, problems))
}

/// What looks like a model: its id, where it lies, and what it says of itself or why it cannot be used.
pub(crate) type Candidates = Vec<(String, PathBuf, std::result::Result<Entry, String>)>;

/// Everything in a folder that looks like a model, by name.
pub(crate) fn candidates(folder: &Path) -> Result<Candidates> {
    let unreadable = |source| Error::Folder { folder: folder.to_owned(), source };
    let mut found = Vec::new();
    match std::fs::read_dir(folder) {
        Ok(list) => {
            for item in list {
                found.extend(candidate(&item.map_err(unreadable)?.path()));
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(unreadable(error)),
    }
    found.sort_unstable_by(|(left, one), (right, other)| (left, one.path()).cmp(&(right, other.path())));
    let mut candidates: Candidates = Vec::new();
    for (id, candidate) in found {
        let path = candidate.place().to_owned();
        let entry = match candidates.iter().any(|(known, _, entry)| *known == id && entry.is_ok()) {
            true => Err(format!("{} would be a second model by this name", path.display())),
            false => {
                candidate.files(folder).and_then(|files| Entry::read(&id, files)).map_err(|error| error.to_string())
            }
        };
        candidates.push((id, path, entry));
    }
    Ok(candidates)
}

/// The id that a model would have, and its files. `models` is the folder whose shared tokenizers count.
pub(crate) fn at(path: &Path, models: &Path) -> Result<(String, Files)> {
    let (id, candidate) = candidate(path).ok_or_else(|| Error::Damaged {
        file: path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned(),
        reason: "it is neither a folder with a model_index.json, nor a file of weights, nor a folder with one"
            .to_owned(),
    })?;
    Ok((id, candidate.files(models)?))
}

/// What looks like a model.
enum Candidate {
    /// A folder in the diffusers layout.
    Layout(PathBuf),
    /// A file, which may have a folder of its own.
    File { file: PathBuf, folder: Option<PathBuf> },
    /// A folder of files that are told apart by nothing.
    Several(PathBuf),
}

/// Whether something in the folder of models looks like one, and the id it would have.
fn candidate(path: &Path) -> Option<(String, Candidate)> {
    let name = path.file_name()?.to_str()?;
    if name.starts_with('.') {
        return None;
    }
    if !path.is_dir() {
        let is_model = matches!(path.extension()?.to_str()?, "safetensors" | "gguf" | "ckpt" | "pt" | "pth");
        let id = path.file_stem()?.to_str()?.to_owned();
        return is_model.then(|| (id, Candidate::File { file: path.to_owned(), folder: None }));
    }
    let candidate = match path.join("model_index.json").is_file() {
        true => Candidate::Layout(path.to_owned()),
        false if SHARED.contains(&name) => return None,
        false => match weights_in(path) {
            (weights, pickles) if weights.is_empty() && pickles.is_empty() => return None,
            (weights, pickles) => match (weights.as_slice(), pickles.as_slice()) {
                ([file], _) | ([], [file]) => Candidate::File { file: file.clone(), folder: Some(path.to_owned()) },
                _ => Candidate::Several(path.to_owned()),
            },
        },
    };
    Some((name.to_owned(), candidate))
}

impl Candidate {
    fn path(&self) -> &Path {
        match self {
            Self::Layout(path) | Self::File { file: path, .. } | Self::Several(path) => path,
        }
    }

    /// What would be moved or removed with it: its folder, otherwise its file.
    fn place(&self) -> &Path {
        match self {
            Self::File { folder: Some(folder), .. } => folder,
            other => other.path(),
        }
    }

    fn files(&self, models: &Path) -> Result<Files> {
        match self {
            Self::Layout(folder) => Ok(Files::Folder(folder.clone())),
            Self::File { file, folder } => {
                let shared = models.join(TOKENIZERS);
                Ok(Files::Single(Arc::new(SingleFile::open(file, folder.as_deref(), Some(&shared))?)))
            }
            Self::Several(folder) => Err(Error::Damaged {
                file: folder.file_name().unwrap_or_default().to_string_lossy().into_owned(),
                reason:
                    "it holds several files of weights and no model_index.json; a folder of its own holds one file, \
                         others lie in the folder of models itself"
                        .to_owned(),
            }),
        }
    }
}

impl Entry {
    /// Reads what a model says about itself.
    pub(crate) fn read(id: &str, files: Files) -> Result<Self> {
        let family = family::of(&files)?;
        let facts = (family.describe)(&files)?;
        let extras: Extras = match files.has("easel.json") {
            true => read_json(&files, "easel.json")?,
            false => Extras::default(),
        };
        Ok(Self::new(id, family, facts, files, extras))
    }

    /// Whether another reading of the folder found the same.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.info == other.info
            && self.facts == other.facts
            && self.fixed_size == other.fixed_size
            && self.stamp == other.stamp
    }

    pub(crate) fn new(id: &str, family: &'static Family, facts: Facts, files: Files, extras: Extras) -> Self {
        let info = ModelInfo {
            id: id.to_owned(),
            name: extras.name.unwrap_or_else(|| id.to_owned()),
            family: family.name.to_owned(),
            tasks: facts.tasks.clone(),
            inputs: facts.inputs,
            sizes: sizes(&facts, extras.fixed_size),
            max_count: MAX_COUNT,
            formats: ImageFormat::ALL.to_vec(),
            negative_prompt: match facts.guiding {
                Guiding::Above(_) => Control::Honoured(()),
                Guiding::Told | Guiding::Nothing => Control::Ignored,
            },
            seed: Control::Honoured(()),
            steps: Control::Honoured(Numbers {
                least: 1,
                most: 200,
                default: Some(extras.steps.unwrap_or(facts.steps)),
            }),
            guidance: match facts.guiding {
                Guiding::Above(_) | Guiding::Told => Control::Honoured(Numbers {
                    least: 0.0,
                    most: 30.0,
                    default: Some(extras.guidance.unwrap_or(facts.guidance)),
                }),
                Guiding::Nothing => Control::Ignored,
            },
            // Any name: samplers have many, and the engine refuses the unknown with the list.
            samplers: Control::Honoured(Vec::new()),
            options: (facts.options.iter())
                .map(|name| ModelOption { name: (*name).to_owned(), values: Vec::new() })
                .collect(),
            determinism: Determinism::Exact,
            price: None,
        };
        let stamp = files.stamp();
        Self { info: Arc::new(info), family, facts, files, fixed_size: extras.fixed_size, stamp }
    }
}

fn sizes(facts: &Facts, fixed_size: bool) -> SizeRule {
    let (width, height) = facts.native;
    match Size::new(width, height) {
        Some(native) if fixed_size => SizeRule::Range {
            least_side: 16,
            most_side: MAX_SIDE,
            multiple: 1,
            max_pixels: MAX_PIXELS,
            default: Some(native),
        },
        Some(native) => SizeRule::Range {
            least_side: facts.multiple.max(1) * 4,
            most_side: 2048,
            multiple: facts.multiple.max(1),
            max_pixels: MAX_PIXELS,
            default: Some(native),
        },
        None => SizeRule::Listed(Vec::new()),
    }
}

macro_rules! shapes {
    ($($file:literal),* $(,)?) => {
        &[$(($file, include_bytes!(concat!("../models/shapes/", $file)))),*]
    };
}

/// The demo model's files, which travel in the program.
const SHAPES: &[(&str, &[u8])] = shapes![
    "easel.json",
    "model_index.json",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "tokenizer/merges.txt",
    "tokenizer/special_tokens_map.json",
    "tokenizer/tokenizer_config.json",
    "tokenizer/vocab.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
];
