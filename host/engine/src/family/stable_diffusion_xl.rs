//! SDXL and SDXL-Turbo: two CLIPs read the prompt, and the network is told the sizes of the picture besides.
//!
//! Defined by diffusers' `StableDiffusionXLPipeline`. The network attends to the states before the last layer of both
//! encoders, side by side and without a final norm; the second one's pooled state is added to the time, together with the
//! sizes. Everything else is in `latent/`. Not here: the refiner, whose first encoder is missing.

use std::sync::Arc;

use candle_core::{D, Device, Tensor};
use serde::Deserialize;

use super::Family;
use crate::checkpoint::Files;
use crate::config::{self, read_json};
use crate::error::{Error, Result};
use crate::latent::{self, Absent, LatentDiffusion, Prompts, Read};
use crate::reader::{ClipReader, Pooling, Text};
use crate::tokenizer::Tokens;
use crate::trace::Trace;

/// The family's line in the table.
pub const FAMILY: Family = Family {
    name: "stable-diffusion-xl",
    class_name: "StableDiffusionXLPipeline",
    describe: |files| {
        index(files)?;
        latent::describe(files, config::noise(files)?)
    },
    load: |files, device| Ok(Arc::new(load(files, device)?)),
};

/// The line of models that were made for inpainting.
pub const INPAINTING: Family = Family { class_name: "StableDiffusionXLInpaintPipeline", ..FAMILY };

/// Opens a model on the CPU.
///
/// # Errors
/// What its files lack, by file and key or tensor.
pub fn open(files: &Files) -> Result<LatentDiffusion> {
    load(files, &Device::Cpu)
}

fn load(files: &Files, device: &Device) -> Result<LatentDiffusion> {
    let prompts = TwoReaders {
        first: ClipReader::load(files, "", Pooling::None, device)?,
        second: ClipReader::load(files, "_2", Pooling::Projected, device)?,
        absent: if index(files)?.force_zeros_for_empty_prompt { Absent::Zeros } else { Absent::Empty },
    };
    LatentDiffusion::load(files, config::noise(files)?, Box::new(prompts), device)
}

/// What `model_index.json` says besides the class.
#[derive(Deserialize)]
struct Index {
    #[serde(default = "yes")]
    force_zeros_for_empty_prompt: bool,
    #[serde(default)]
    requires_aesthetics_score: bool,
}

fn yes() -> bool {
    true
}

fn index(files: &Files) -> Result<Index> {
    let file = "model_index.json";
    let index: Index = read_json(files, file)?;
    if index.requires_aesthetics_score {
        return Err(Error::Unsupported {
            file: file.to_owned(),
            key: "requires_aesthetics_score".to_owned(),
            value: "true".to_owned(),
            allowed: "base models, not the refiner: false".to_owned(),
        });
    }
    Ok(index)
}

struct TwoReaders {
    first: ClipReader,
    second: ClipReader,
    absent: Absent,
}

impl Prompts for TwoReaders {
    fn read(&self, texts: &[Text<'_>], trace: Trace<'_>) -> Result<Read> {
        let first = self.first.read(texts, 1, Pooling::None, trace)?;
        let second = self.second.read(texts, 1, Pooling::Projected, trace)?;
        let text = Tensor::cat(&[first.weighted(&first.states()?)?, second.weighted(&second.states()?)?], D::Minus1)?;
        trace.tell("text", "context", &text)?;
        Ok(Read { text, pooled: self.second.pooled(&second, trace)? })
    }

    fn absent(&self) -> Absent {
        self.absent
    }

    fn tokens(&self, prompt: &str) -> Result<Tokens> {
        self.first.tokens(prompt)
    }

    fn dropped(&self, text: Text<'_>) -> Result<usize> {
        self.first.dropped(text)
    }
}
