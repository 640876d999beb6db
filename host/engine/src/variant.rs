//! A model as a request wants it: with LoRA files added, or with the autoencoder of another model.
//!
//! A variant changes no file. Its files are those of the model, seen through [`Change`]; a model loaded through them has what
//! was asked for, and one loaded without is what it was to the last bit.

use std::path::Path;
use std::sync::Arc;

use easel_core::{GenerationRequest, Task};
use serde::Deserialize;
use serde_json::Value;

use crate::checkpoint::Files;
use crate::config;
use crate::error::{Error, Result};
use crate::examine;
use crate::lora::{self, Lora, LoraFile, Patches, Shelf};
use crate::models::Entry;

/// How a model differs from what its files say.
#[derive(Clone, Debug, Default)]
pub(crate) struct Variant {
    /// What is added to its weights, in this order.
    pub(crate) loras: Vec<Lora>,
    /// The model whose autoencoder takes the place of its own.
    pub(crate) vae: Option<Arc<Entry>>,
}

impl PartialEq for Variant {
    fn eq(&self, other: &Self) -> bool {
        let is_same = |left: &Option<Arc<Entry>>, right: &Option<Arc<Entry>>| match (left, right) {
            (Some(left), Some(right)) => Arc::ptr_eq(left, right),
            (None, None) => true,
            _ => false,
        };
        self.loras == other.loras && is_same(&self.vae, &other.vae)
    }
}

/// Files, seen through a variant.
#[derive(Debug)]
pub struct Change {
    pub(crate) files: Files,
    pub(crate) vae: Option<Files>,
    pub(crate) patches: Patches,
}

impl Change {
    /// The files that a file or a folder of the model is in.
    pub(crate) fn files_of(&self, path: &str) -> &Files {
        match &self.vae {
            Some(vae) if path == "vae" || path.starts_with("vae/") => vae,
            _ => &self.files,
        }
    }
}

impl Variant {
    /// Reads what a request asks for, in its options and in its prompt.
    ///
    /// # Errors
    /// [`Error::Option`] for what cannot be understood, or is not there.
    pub(crate) fn asked(request: &GenerationRequest, shelf: &Shelf, models: &[Arc<Entry>]) -> Result<Self> {
        let mut asked = match request.options.get("loras") {
            Some(option) => listed(&option.json)?,
            None => Vec::new(),
        };
        if request.task != Task::Variation {
            asked.extend(lora::from_prompt(&request.prompt)?.1);
        }
        let vae = request.options.get("vae").map(|option| other(&option.json, models)).transpose()?.flatten();
        Ok(Self { loras: shelf.find(&asked)?, vae })
    }

    /// A model's files as this variant has them.
    ///
    /// # Errors
    /// [`Error::Option`] for what cannot be added to this model, and for an autoencoder of other latents.
    pub(crate) fn files(&self, files: &Files) -> Result<Files> {
        if self.loras.is_empty() && self.vae.is_none() {
            return Ok(files.clone());
        }
        if let Some(entry) = &self.vae {
            let of = |files: &Files| config::vae(files).map(|vae| (vae.latent_channels, vae.factor()));
            let (ours, theirs) = (of(files)?, of(&entry.files)?);
            if ours != theirs {
                let message = format!(
                    "the autoencoder of {} has {} channels of latents and a factor of {}; this model's has {} and {}",
                    entry.info.id, theirs.0, theirs.1, ours.0, ours.1
                );
                return Err(Error::Option { name: "vae", message });
            }
        }
        let patches = match self.loras.is_empty() {
            true => Patches::default(),
            false => Patches::read(&self.loras, &examine::parameters(files)?)?,
        };
        let vae = self.vae.as_ref().map(|entry| entry.files.clone());
        Ok(Files::Changed(Arc::new(Change { files: files.clone(), vae, patches })))
    }
}

impl Files {
    /// These files with LoRA files added, each with a weight.
    ///
    /// # Errors
    /// [`Error::Option`] for what cannot be added to this model, with the key for which it cannot.
    pub fn with_loras(&self, loras: &[(&Path, f64)]) -> Result<Self> {
        let lora = |(path, weight): &(&Path, f64)| Lora { file: Arc::new(LoraFile::at(path)), weight: *weight };
        Variant { loras: loras.iter().map(lora).collect(), vae: None }.files(self)
    }
}

/// The model whose autoencoder is asked for.
fn other(json: &str, models: &[Arc<Entry>]) -> Result<Option<Arc<Entry>>> {
    let refuse = |message: String| Err(Error::Option { name: "vae", message });
    let id = match serde_json::from_str(json) {
        Ok(Value::Null) => return Ok(None),
        Ok(Value::String(id)) => id,
        _ => return refuse(format!("vae must be the name of a model, not {json}")),
    };
    let has_one = |entry: &&Arc<Entry>| entry.files.has("vae/config.json");
    match models.iter().filter(has_one).find(|entry| entry.info.id == id) {
        Some(entry) => Ok(Some(Arc::clone(entry))),
        None => {
            let known: Vec<_> = models.iter().filter(has_one).map(|entry| entry.info.id.as_str()).collect();
            refuse(format!("there is no model {id:?} whose autoencoder could be taken: {}", known.join(", ")))
        }
    }
}

fn listed(json: &str) -> Result<Vec<(String, f64)>> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Named {
        name: String,
        #[serde(default = "whole")]
        weight: f64,
    }
    fn whole() -> f64 {
        1.0
    }
    let value: Value = serde_json::from_str(json).unwrap_or(Value::Null);
    if value.is_null() {
        return Ok(Vec::new());
    }
    let named: Vec<Named> = serde_json::from_value(value).map_err(|error| Error::Option {
        name: "loras",
        message: format!("loras must be a list of {{\"name\": …, \"weight\": …}}: {error}"),
    })?;
    Ok(named.into_iter().map(|named| (named.name, named.weight)).collect())
}
