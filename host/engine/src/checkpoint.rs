//! The files of a model: where they lie, and the weights in them. The only file of this crate that maps memory.
//!
//! A model lies in a folder in the diffusers layout, or is compiled into the program; [`Files`] is either. [`Weights`] are
//! the tensors of one component, found by the same dotted names that PyTorch gives them, so that the code which loads a
//! layer reads like the checkpoint. Tensors come out in f32, whatever the file holds.

use std::borrow::Cow;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use candle_core::safetensors::{Load, MmapedSafetensors, SliceSafetensors};
use candle_core::{DType, Device, Tensor};

use crate::error::{Error, Result};

/// Where the files of a model are.
#[derive(Clone, Debug)]
pub enum Files {
    /// In a folder.
    Folder(PathBuf),
    /// In the program: relative names and contents.
    Embedded(&'static [(&'static str, &'static [u8])]),
}

impl Files {
    /// Whether a file is there.
    #[must_use]
    pub fn has(&self, file: &str) -> bool {
        match self {
            Self::Folder(folder) => folder.join(file).is_file(),
            Self::Embedded(files) => files.iter().any(|(name, _)| *name == file),
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
        }
    }

    /// Opens the weights of a component: `stem.safetensors`, its half-precision variant, or the parts its index names.
    ///
    /// # Errors
    /// [`Error::File`] when there are none, [`Error::Weights`] or [`Error::Tensor`] when they are damaged.
    pub fn weights(&self, folder: &str, stem: &str, device: &Device) -> Result<Weights> {
        let whole = [format!("{folder}/{stem}.safetensors"), format!("{folder}/{stem}.fp16.safetensors")];
        let parts = match whole.iter().find(|file| self.has(file)) {
            Some(file) => vec![file.clone()],
            None => self.parts(folder, stem)?,
        };
        let tensors = match self {
            Self::Folder(root) => {
                let paths: Vec<PathBuf> = parts.iter().map(|part| root.join(part)).collect();
                Tensors::Mapped(map(&paths)?)
            }
            Self::Embedded(files) => {
                let [part] = parts.as_slice() else {
                    return Err(Error::Weights { tensor: stem.to_owned(), reason: "must be one file".to_owned() });
                };
                Tensors::Embedded(SliceSafetensors::new(embedded(files, part)?)?)
            }
        };
        Ok(Weights {
            tensors: Arc::new(tensors),
            device: device.clone(),
            component: folder.into(),
            path: String::new(),
        })
    }

    fn parts(&self, folder: &str, stem: &str) -> Result<Vec<String>> {
        let file = format!("{folder}/{stem}.safetensors.index.json");
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

fn embedded(files: &'static [(&'static str, &'static [u8])], file: &str) -> Result<&'static [u8]> {
    let found = files.iter().find(|(name, _)| *name == file).map(|(_, bytes)| *bytes);
    found.ok_or_else(|| Error::File { file: file.to_owned(), source: io::ErrorKind::NotFound.into() })
}

#[derive(serde::Deserialize)]
struct Index {
    weight_map: std::collections::BTreeMap<String, String>,
}

fn map(paths: &[PathBuf]) -> Result<MmapedSafetensors> {
    #[expect(unsafe_code, reason = "mapping a file is the purpose of this module")]
    // SAFETY: the mapping is read-only and lives only while a model is being loaded, during which every tensor is copied
    // out of it. What remains is the contract that models' files are not truncated or rewritten in place during a load,
    // which `host/engine/README.md` states: replace a model by renaming a new folder over it.
    let mapped = unsafe { MmapedSafetensors::multi(paths) };
    Ok(mapped?)
}

enum Tensors {
    Mapped(MmapedSafetensors),
    Embedded(SliceSafetensors<'static>),
}

/// The tensors of one component, seen from one dotted path.
#[derive(Clone)]
pub struct Weights {
    tensors: Arc<Tensors>,
    device: Device,
    component: Arc<str>,
    path: String,
}

impl Weights {
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

    /// The full name of a tensor, as in the file.
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
        self.view(&self.name(name)).is_some()
    }

    /// Loads a tensor that must have this shape.
    ///
    /// # Errors
    /// [`Error::Weights`] when it is missing or has another shape.
    pub fn get(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let tensor = self.get_any(name)?;
        if tensor.dims() != shape {
            let reason = format!("has the shape {:?}, and by the config must have {shape:?}", tensor.dims());
            return Err(Error::Weights { tensor: self.name(name), reason });
        }
        Ok(tensor)
    }

    /// Loads a tensor of whatever shape.
    ///
    /// # Errors
    /// [`Error::Weights`] when it is missing.
    pub fn get_any(&self, name: &str) -> Result<Tensor> {
        let full = self.name(name);
        let Some(view) = self.view(&full) else {
            return Err(Error::Weights { tensor: full, reason: "is missing".to_owned() });
        };
        Ok(view.load(&self.device)?.to_dtype(DType::F32)?)
    }

    fn view(&self, name: &str) -> Option<safetensors::tensor::TensorView<'_>> {
        match &*self.tensors {
            Tensors::Mapped(tensors) => tensors.get(name).ok(),
            Tensors::Embedded(tensors) => tensors.get(name).ok(),
        }
    }
}
