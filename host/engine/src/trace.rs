//! A look inside a run: intermediate tensors by the names diffusers gives the modules that made them.
//!
//! Golden tests use it to compare every block with diffusers. In a server nothing listens, and then no name is put
//! together and nothing is copied.

use std::cell::RefCell;
use std::collections::BTreeMap;

use candle_core::{DType, Device, Result as TensorResult, Tensor};

/// A tensor outside of any device: dimensions and values, the last dimension running fastest.
#[derive(Clone, Debug, PartialEq)]
pub struct Values {
    /// The dimensions; feature maps are `[batch, channels, height, width]`, like diffusers.
    pub dims: Vec<usize>,
    /// The values.
    pub values: Vec<f32>,
}

impl Values {
    pub(crate) fn of(tensor: &Tensor) -> TensorResult<Self> {
        let values = tensor.flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>()?;
        Ok(Self { dims: tensor.dims().to_vec(), values })
    }

    /// Copies a feature map `[batch, height, width, channels]`.
    pub(crate) fn of_map(map: &Tensor) -> TensorResult<Self> {
        Self::of(&map.permute((0, 3, 1, 2))?.contiguous()?)
    }

    pub(crate) fn tensor(&self, device: &Device) -> TensorResult<Tensor> {
        Tensor::from_slice(&self.values, self.dims.as_slice(), device)
    }

    /// The feature map `[batch, height, width, channels]`.
    pub(crate) fn map(&self, device: &Device) -> TensorResult<Tensor> {
        self.tensor(device)?.permute((0, 2, 3, 1))?.contiguous()
    }
}

/// Where intermediate tensors are told. Copying it shares the recorder.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Trace<'a> {
    recorder: Option<&'a Recorder>,
}

/// Keeps the first tensor told under each name.
#[derive(Debug, Default)]
pub struct Recorder {
    tensors: RefCell<BTreeMap<String, Values>>,
}

impl Recorder {
    /// Starts to listen.
    pub(crate) fn trace(&self) -> Trace<'_> {
        Trace { recorder: Some(self) }
    }

    /// Everything recorded, by name.
    pub fn into_values(self) -> BTreeMap<String, Values> {
        self.tensors.into_inner()
    }

    fn keep(&self, name: &str, part: &str, tensor: impl FnOnce() -> TensorResult<Values>) -> TensorResult<()> {
        let name = if part.is_empty() { name.to_owned() } else { format!("{name}.{part}") };
        let known = self.tensors.borrow().contains_key(&name);
        if !known {
            self.tensors.borrow_mut().insert(name, tensor()?);
        }
        Ok(())
    }
}

impl Trace<'_> {
    /// A trace to which nobody listens.
    pub(crate) fn none() -> Self {
        Self { recorder: None }
    }

    /// Whether anybody listens, for what would have to be computed only to be told.
    pub(crate) fn listens(self) -> bool {
        self.recorder.is_some()
    }

    /// Tells a tensor as it is.
    ///
    /// # Errors
    /// A tensor operation that failed.
    pub(crate) fn tell(self, name: &str, part: &str, tensor: &Tensor) -> TensorResult<()> {
        match self.recorder {
            Some(recorder) => recorder.keep(name, part, || Values::of(tensor)),
            None => Ok(()),
        }
    }

    /// Tells a feature map `[batch, height, width, channels]`.
    ///
    /// # Errors
    /// A tensor operation that failed.
    pub(crate) fn tell_map(self, name: &str, part: &str, map: &Tensor) -> TensorResult<()> {
        match self.recorder {
            Some(recorder) => recorder.keep(name, part, || Values::of_map(map)),
            None => Ok(()),
        }
    }
}
