//! Looking at a model's files without loading them: its parameters, what its headers hold, and single tensors.
//!
//! For `easel models`, and for the tests that compare names, shapes and layouts with diffusers.

use candle_core::Device;

use crate::checkpoint::Files;
use crate::error::Result;
use crate::family;
use crate::trace::Values;
use crate::weights::{Asked, Examination, Parameters, layout};

/// Every parameter of a model, by its configs alone.
///
/// # Errors
/// What its configs or its tokenizers lack.
pub fn parameters(files: &Files) -> Result<Parameters> {
    Ok(ask(files, Asked::default())?.parameters())
}

/// Holds the headers of a model's files against its configs. No weights are read.
///
/// # Errors
/// [`crate::Error::File`] or [`crate::Error::Damaged`] when a file is not there or broken; what its configs or tokenizers lack.
pub fn examine(files: &Files) -> Result<Examination> {
    Ok(ask(files, Asked::looking())?.examination())
}

fn ask(files: &Files, asked: Asked) -> Result<Asked> {
    let family = family::of(files)?;
    (family.load)(&Files::Asked(Box::new(files.clone()), asked.clone()), &Device::Cpu)?;
    Ok(asked)
}

/// The names of a component's tensors as its network asks for them, from the headers alone.
///
/// # Errors
/// As [`Files::weights`].
pub fn names(files: &Files, component: &str, stem: &str) -> Result<Vec<String>> {
    Ok(layout::places(component, &files.opened(component, stem)?).into_keys().collect())
}

/// One tensor of a component as its network would read it.
///
/// # Errors
/// As [`Files::weights`]; [`crate::Error::Weights`] when it is not there.
pub fn tensor(files: &Files, component: &str, stem: &str, name: &str) -> Result<Values> {
    Ok(Values::of(&files.weights(component, stem, &Device::Cpu)?.get_any(name)?)?)
}
