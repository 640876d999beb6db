//! Weights: the one way in which every network reads its tensors.
//!
//! A network asks by the dotted names that diffusers and transformers give its parts, so that the code which loads a layer
//! reads like the checkpoint. What lies in the file may be named, fused and stored otherwise: `layout/` says where each name
//! lies, `table.rs` (safetensors) and `gguf.rs` say what a file holds, from its header alone, and `number.rs` turns stored
//! bytes into f32. Nothing is read before it is asked for, and no converted copy is ever written. Mapping the files is the
//! business of `checkpoint.rs`.

mod asked;
mod gguf;
pub(crate) mod layout;
mod number;
mod table;

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};

pub use asked::{Asked, Examination, Parameters};
use layout::{Place, Turn};
use table::Entry;
pub(crate) use table::{Table, read_header};

use crate::checkpoint::Bytes;
use crate::error::{Error, Result};
use crate::variant::Change;

/// A file of weights: its bytes, and where in them each tensor lies.
pub(crate) struct Opened {
    bytes: Bytes,
    pub(crate) table: Table,
}

impl Opened {
    /// Reads the header of a file.
    ///
    /// # Errors
    /// [`Error::Damaged`] for what is no such file or a broken one.
    pub(crate) fn new(name: String, bytes: Bytes) -> Result<Self> {
        let table = match bytes.starts_with(gguf::MAGIC) {
            true => gguf::table(&bytes),
            false => table::table(&bytes),
        };
        match table {
            Ok(table) => Ok(Self { bytes, table }),
            Err(reason) => Err(Error::Damaged { file: name, reason }),
        }
    }

    fn bytes(&self, entry: &Entry) -> Option<&[u8]> {
        self.bytes.get(entry.start..entry.end)
    }
}

/// Where the tensors of a component come from.
enum Source {
    /// Files, and where in them each name lies.
    Files { files: Vec<Opened>, places: BTreeMap<String, Place> },
    /// Nowhere: what is asked for is written down, and answered with zeros that take no memory.
    Asked(Asked),
}

/// The tensors of one component, seen from one dotted path.
#[derive(Clone)]
pub struct Weights {
    source: Arc<Source>,
    device: Device,
    component: Arc<str>,
    path: String,
    /// What is added to what the files hold.
    change: Option<Arc<Change>>,
}

impl Weights {
    /// The tensors of a component that lie in these files.
    pub(crate) fn of_files(
        component: &str,
        files: Vec<Opened>,
        places: BTreeMap<String, Place>,
        device: &Device,
    ) -> Self {
        Self::new(component, Source::Files { files, places }, device)
    }

    /// Weights that are asked for and not there.
    pub(crate) fn of_nothing(component: &str, asked: Asked, device: &Device) -> Self {
        Self::new(component, Source::Asked(asked), device)
    }

    fn new(component: &str, source: Source, device: &Device) -> Self {
        Self {
            source: Arc::new(source),
            device: device.clone(),
            component: component.into(),
            path: String::new(),
            change: None,
        }
    }

    /// The same tensors, with what a variant adds to them.
    pub(crate) fn changed(self, change: Arc<Change>) -> Self {
        Self { change: Some(change), ..self }
    }

    /// Goes down to a part, such as `down_blocks.0`.
    #[must_use]
    pub fn at(&self, part: impl std::fmt::Display) -> Self {
        let path = if self.path.is_empty() { part.to_string() } else { format!("{}.{part}", self.path) };
        Self { path, ..self.clone() }
    }

    /// The component that these weights belong to: its folder's name.
    #[must_use]
    pub fn component(&self) -> &str {
        &self.component
    }

    /// The component and the part of it that these weights are seen from, such as `unet.down_blocks.0`.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{}.{}", self.component, self.path)
    }

    /// The full name of a tensor.
    #[must_use]
    pub fn name(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// The device that tensors are loaded to.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Whether there is a tensor by this name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        match &*self.source {
            Source::Files { places, .. } => places.contains_key(&self.name(name)),
            Source::Asked(asked) => asked.has(&self.component, &self.name(name)),
        }
    }

    /// Loads a tensor that must have this shape; one that differs only in trailing dimensions of 1 has it.
    ///
    /// # Errors
    /// [`Error::Weights`] when it is missing, has another shape or is stored in a way that is not read here.
    pub fn get(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let tensor = match &*self.source {
            Source::Files { .. } => self.get_any(name)?,
            Source::Asked(asked) => {
                asked.tell(&self.component, &self.name(name), shape);
                Tensor::zeros((), DType::F32, &self.device)?.broadcast_as(shape)?
            }
        };
        if tensor.dims() == shape {
            return Ok(tensor);
        }
        if without_trailing_ones(tensor.dims()) == without_trailing_ones(shape) {
            return Ok(tensor.reshape(shape)?);
        }
        let reason = format!("has the shape {:?}, and by the config must have {shape:?}", tensor.dims());
        Err(self.wrong(name, reason))
    }

    /// Loads a tensor of whatever shape.
    ///
    /// # Errors
    /// [`Error::Weights`] when it is missing or stored in a way that is not read here.
    pub fn get_any(&self, name: &str) -> Result<Tensor> {
        let full = self.name(name);
        match &*self.source {
            Source::Files { files, places } => match places.get(&full) {
                Some(place) => {
                    let tensor = read(files, place, &self.device).map_err(|reason| self.wrong(name, reason))?;
                    match &self.change {
                        Some(change) => change.patches.add(&self.component, &full, tensor),
                        None => Ok(tensor),
                    }
                }
                None => Err(self.wrong(name, "is missing".to_owned())),
            },
            Source::Asked(_) => Err(self.wrong(name, "must be asked for by its shape".to_owned())),
        }
    }

    /// Lays a tensor out in memory as a layer wants it. What was only asked for is left as it is: it has no memory.
    ///
    /// # Errors
    /// Whatever `lay` came to.
    pub(crate) fn lay_out(
        &self,
        tensor: Tensor,
        lay: impl FnOnce(Tensor) -> candle_core::Result<Tensor>,
    ) -> candle_core::Result<Tensor> {
        match &*self.source {
            Source::Files { .. } => lay(tensor),
            Source::Asked(_) => Ok(tensor),
        }
    }

    fn wrong(&self, name: &str, reason: String) -> Error {
        Error::Weights { tensor: self.name(name), reason }
    }
}

fn without_trailing_ones(shape: &[usize]) -> &[usize] {
    let ones = shape.iter().rev().take_while(|side| **side == 1).count();
    shape.split_at(shape.len() - ones).0
}

/// Reads what lies at a place. The error is a reason that completes "the tensor …".
fn read(files: &[Opened], place: &Place, device: &Device) -> std::result::Result<Tensor, String> {
    let at = |key: &str| {
        let file = files.get(place.file)?;
        file.table.tensors.get(key).map(|entry| (entry, file.bytes(entry)))
    };
    let Some((entry, Some(bytes))) = at(&place.key) else { return Err("is missing".to_owned()) };
    let scale = match number::scale_keys(&place.key).iter().find_map(|key| at(key)) {
        Some((scale, Some(bytes))) if entry.stored.is_fp8() => Some(number::scale(scale, bytes)?),
        _ => None,
    };
    let part = number::Part { entry, bytes, rows: place.rows, scale: scale.as_deref() };
    let mut tensor = number::tensor(&part, device)?;
    for turn in &place.turns {
        tensor = turn.apply(&tensor).map_err(|error| format!("cannot be read: {error}"))?;
    }
    Ok(tensor)
}

impl Turn {
    /// Does it.
    ///
    /// # Errors
    /// A tensor operation that failed.
    pub(crate) fn apply(self, tensor: &Tensor) -> candle_core::Result<Tensor> {
        match self {
            Self::Transpose => tensor.t()?.contiguous(),
            Self::Squeeze => {
                let dims = without_trailing_ones(tensor.dims()).to_vec();
                tensor.reshape(dims)
            }
            Self::SwapHalves => {
                let rows = tensor.dim(0)?;
                let half = rows / 2;
                Tensor::cat(&[tensor.narrow(0, half, rows - half)?, tensor.narrow(0, 0, half)?], 0)
            }
        }
    }
}

#[cfg(test)]
mod tests;
