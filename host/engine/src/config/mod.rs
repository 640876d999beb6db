//! A model's own description of itself: the JSON files of the diffusers layout, read and then checked.
//!
//! Reading (serde, private) and meaning (the public types) are two steps, and each file of the layout has a module here that
//! does both. What would change the numbers and is not built here is refused by name and value, never passed over; what
//! does not change them is ignored. No constant of a model stands in the code.

mod flux;
mod flux2;
mod noise;
mod qwen3;
mod solver;
mod text;
mod unet;
mod vae;
mod z_image;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::checkpoint::Files;
use crate::error::{Error, Result};

pub(crate) use flux::{FluxConfig, T5Config, flux, t5};
pub(crate) use flux2::{Flux2Config, Flux2VaeConfig, flux2, flux2_vae};
pub(crate) use noise::noise;
pub(crate) use qwen3::{Qwen3Config, qwen3};
pub(crate) use text::{TextConfig, activation, text};
pub(crate) use unet::{UnetAddition, UnetConfig, UnetLevel, unet};
pub(crate) use vae::{VaeConfig, vae};
pub(crate) use z_image::{ZImageConfig, z_image};

/// The class a model's `model_index.json` names, by which its family is found.
///
/// # Errors
/// [`Error::File`] or [`Error::Config`].
pub(crate) fn pipeline_class(files: &Files) -> Result<String> {
    #[derive(Deserialize)]
    struct Raw {
        _class_name: String,
    }
    Ok(read_json::<Raw>(files, "model_index.json")?._class_name)
}

/// Reads a JSON file of a model.
pub(crate) fn read_json<T: DeserializeOwned>(files: &Files, file: &str) -> Result<T> {
    let bytes = files.read(file)?;
    serde_json::from_slice(&bytes).map_err(|error| Error::Config { file: file.to_owned(), reason: error.to_string() })
}

fn parse<T: DeserializeOwned>(file: &str, value: Value) -> Result<T> {
    serde_json::from_value(value).map_err(|error| Error::Config { file: file.to_owned(), reason: error.to_string() })
}

/// Checks keys that may only hold certain values (as JSON text) or null.
fn only(file: &str, value: &Value, fixed: &[(&str, &[&str])]) -> Result<()> {
    for (key, allowed) in fixed {
        let Some(found) = value.get(key).filter(|found| !found.is_null()) else { continue };
        let text = found.to_string();
        if !allowed.contains(&text.as_str()) {
            let allowed = if allowed.is_empty() { "null".to_owned() } else { allowed.join(", ") };
            return Err(unsupported(file, key, &text, &allowed));
        }
    }
    Ok(())
}

fn divides(file: &str, key: &str, divisor: usize, value: usize) -> Result<()> {
    if divisor != 0 && value.is_multiple_of(divisor) && value != 0 {
        return Ok(());
    }
    Err(Error::Config { file: file.to_owned(), reason: format!("{key} is {divisor}, which does not divide {value}") })
}

fn unsupported(file: &str, key: &str, value: &str, allowed: &str) -> Error {
    Error::Unsupported {
        file: file.to_owned(),
        key: key.to_owned(),
        value: value.to_owned(),
        allowed: allowed.to_owned(),
    }
}

// The defaults that several diffusers classes share, for files that leave keys out.

fn yes() -> bool {
    true
}

fn groups() -> usize {
    32
}
