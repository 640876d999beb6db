//! What LoRA files add to the weights of a model: two small matrices whose product, scaled, is added to a large one.
//!
//! Defined by diffusers' `load_lora_weights` over PEFT: the scale is alpha over rank, alpha being the rank where nobody says, times the
//! weight asked for. Everything is computed in f32. What a file holds and this cannot do (DoRA, LoHa, LoKr, biases) is refused by
//! key, as is what belongs to no part of the model.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use candle_core::{Device, Result as TensorResult, Tensor};
use serde_json::Value;

use super::Lora;
use super::names::{Names, Target};
use crate::checkpoint::Bytes;
use crate::error::{Error, Result};
use crate::weights::layout::Place;
use crate::weights::{Opened, Parameters, Weights};

/// The ends of the keys of the two matrices, the one that narrows first.
const PAIRS: &[(&str, &str)] = &[
    (".lora_down.weight", ".lora_up.weight"),
    (".lora_A.weight", ".lora_B.weight"),
    (".lora.down.weight", ".lora.up.weight"),
    (".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight"),
    (".down.weight", ".up.weight"),
];

/// Everything that is added to a model's weights, by the parameter to which it is added.
#[derive(Default)]
pub(crate) struct Patches {
    patches: BTreeMap<String, Vec<Patch>>,
}

/// One addition to one parameter.
struct Patch {
    file: Weights,
    down: String,
    up: String,
    scale: f64,
    target: Target,
}

impl fmt::Debug for Patches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Patches({} parameters)", self.patches.len())
    }
}

impl Patches {
    /// Reads the headers of files that are to be added to a model with these parameters.
    ///
    /// # Errors
    /// [`Error::Option`] for a file that cannot be added, with the key for which it cannot.
    pub(crate) fn read(loras: &[Lora], parameters: &Parameters) -> Result<Self> {
        let names = Names::of(parameters);
        let mut all = Self::default();
        for lora in loras {
            let refuse = |reason: String| Error::Option {
                name: "loras",
                message: format!("lora {} cannot be added to this model: {reason}", lora.file.name),
            };
            let bytes = Bytes::map(&lora.file.path).map_err(|error| refuse(error.to_string()))?;
            let opened = Opened::new(lora.file.name.clone(), bytes)?;
            let modules = modules(&opened).map_err(refuse)?;
            let metadata = opened.table.metadata.clone();
            let places = opened
                .table
                .tensors
                .keys()
                .map(|key| (key.clone(), Place { file: 0, key: key.clone(), rows: None, turns: Vec::new() }));
            let places = places.collect();
            let shapes: BTreeMap<String, Vec<usize>> =
                opened.table.tensors.iter().map(|(key, entry)| (key.clone(), entry.shape.clone())).collect();
            let file = Weights::of_files("lora", vec![opened], places, &Device::Cpu);
            for module in modules {
                let Some(targets) = names.find(&module.name) else {
                    return Err(refuse(format!("{} belongs to no part of it", module.down)));
                };
                let rank = shapes.get(&module.down).and_then(|shape| shape.first()).copied().unwrap_or(0);
                let alpha = alpha(&file, &module, &metadata).map_err(refuse)?.unwrap_or(rank as f64);
                if rank == 0 {
                    return Err(refuse(format!("{} has no rows", module.down)));
                }
                for target in targets {
                    let patch = Patch {
                        file: file.clone(),
                        down: module.down.clone(),
                        up: module.up.clone(),
                        scale: lora.weight * alpha / rank as f64,
                        target: target.clone(),
                    };
                    all.patches.entry(target.parameter.clone()).or_default().push(patch);
                }
            }
        }
        Ok(all)
    }

    /// A parameter with everything that is added to it. `name` is the component and the name there.
    ///
    /// # Errors
    /// [`Error::Weights`] when matrices have other sizes than the parameter.
    pub(crate) fn add(&self, component: &str, name: &str, tensor: Tensor) -> Result<Tensor> {
        let name = name.strip_prefix("text_model.").unwrap_or(name);
        let Some(patches) = self.patches.get(&format!("{component}.{name}")) else { return Ok(tensor) };
        let mut sum = tensor;
        for patch in patches {
            let (down, up) = (patch.file.get_any(&patch.down)?, patch.file.get_any(&patch.up)?);
            let added = patch.product(&down, &up, &sum).map_err(|error| Error::Weights {
                tensor: patch.down.clone(),
                reason: format!("cannot be added to {name}, which has the shape {:?}: {error}", sum.dims()),
            })?;
            let added = added.reshape(sum.dims())?.to_device(sum.device())?;
            sum = (sum + added)?;
        }
        Ok(sum)
    }
}

impl Patch {
    /// What is added to a parameter, scaled.
    fn product(&self, down: &Tensor, up: &Tensor, parameter: &Tensor) -> TensorResult<Tensor> {
        let rank = down.dim(0)?;
        // Convolutions: the one that narrows has the window, the other is one pixel wide.
        let (down, up) = (down.reshape((rank, ()))?, up.reshape((up.dim(0)?, rank))?);
        let (rows, columns) = (up.dim(0)?, down.dim(1)?);
        let (first, count) = match &self.target.rows {
            None => (0, rows),
            Some(part) => match part.of(rows) {
                Some(part) => part,
                None => candle_core::bail!("its {rows} rows do not part as the parameters' do"),
            },
        };
        // Before anything is multiplied: sizes in a file are the file's own claim.
        if count != parameter.dim(0)? || count.checked_mul(columns) != Some(parameter.elem_count()) {
            candle_core::bail!("it has {count} rows of {columns}");
        }
        let up = up.narrow(0, first, count)?.contiguous()?;
        let mut added = (up.matmul(&down)? * self.scale)?;
        for turn in &self.target.turns {
            added = turn.apply(&added)?;
        }
        Ok(added)
    }
}

/// Two matrices of a file, and the module that they belong to.
struct Module {
    name: String,
    down: String,
    up: String,
    alpha: Option<String>,
}

/// Sorts the keys of a file. The error is a reason.
fn modules(file: &Opened) -> Result<Vec<Module>, String> {
    let keys: BTreeSet<&str> = file.table.tensors.keys().map(String::as_str).collect();
    let mut known = BTreeSet::new();
    let mut modules = Vec::new();
    for key in &keys {
        let Some((stem, up)) = PAIRS.iter().find_map(|(down, up)| Some((key.strip_suffix(down)?, *up))) else {
            continue;
        };
        let up = format!("{stem}{up}");
        if !keys.contains(up.as_str()) {
            return Err(format!("{key} has no {up} beside it"));
        }
        let alpha = Some(format!("{stem}.alpha")).filter(|alpha| keys.contains(alpha.as_str()));
        known.extend([(*key).to_owned(), up.clone()].into_iter().chain(alpha.clone()));
        modules.push(Module { name: module_name(stem), down: (*key).to_owned(), up, alpha });
    }
    match keys.iter().find(|key| !known.contains(**key)) {
        Some(key) => Err(format!("{key} is of a kind that is not added here")),
        None => Ok(modules),
    }
}

/// The module of a stem, without what some writers put around it.
fn module_name(stem: &str) -> String {
    let stem = stem.strip_prefix("base_model.model.").unwrap_or(stem);
    let stem =
        stem.strip_prefix("model.diffusion_model.").map_or(stem.to_owned(), |rest| format!("diffusion_model.{rest}"));
    // Before PEFT, diffusers kept those of an attention in an object of its own.
    match stem.split_once(".processor.") {
        Some((attention, "to_out_lora")) => format!("{attention}.to_out.0"),
        Some((attention, part)) => format!("{attention}.{}", part.strip_suffix("_lora").unwrap_or(part)),
        None => stem,
    }
}

/// The alpha of a module, if the file says one: beside its matrices, or in PEFT's own words in the header.
fn alpha(file: &Weights, module: &Module, metadata: &BTreeMap<String, String>) -> Result<Option<f64>, String> {
    if let Some(key) = &module.alpha {
        let alpha = file.get_any(key).map_err(|error| error.to_string())?;
        let alpha = alpha.flatten_all().and_then(|alpha| alpha.to_vec1::<f32>()).map_err(|error| error.to_string())?;
        return match alpha.as_slice() {
            [alpha] if alpha.is_finite() => Ok(Some(f64::from(*alpha))),
            _ => Err(format!("{key} must be one number")),
        };
    }
    let Some(text) = metadata.get("lora_adapter_metadata") else { return Ok(None) };
    let said: Value = serde_json::from_str(text).map_err(|error| format!("lora_adapter_metadata: {error}"))?;
    let Some((component, path)) = module.name.split_once('.') else { return Ok(None) };
    let of = |key: &str| said.get(format!("{component}.{key}"));
    for key in ["use_dora", "use_rslora"] {
        if of(key).and_then(Value::as_bool) == Some(true) {
            return Err(format!("its lora_adapter_metadata has {key}, which is not added here"));
        }
    }
    let patterns = of("alpha_pattern").and_then(Value::as_object).into_iter().flatten();
    let ends = |pattern: &str| path == pattern || path.ends_with(&format!(".{pattern}"));
    let own = patterns.into_iter().find(|(pattern, _)| ends(pattern)).map(|(_, alpha)| alpha);
    Ok(own.or_else(|| of("lora_alpha")).and_then(Value::as_f64))
}
