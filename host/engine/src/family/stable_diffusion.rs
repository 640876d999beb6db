//! Stable Diffusion 1 and 2: one CLIP reads the prompt, and the network attends to its normed states.
//!
//! Defined by diffusers' `StableDiffusionPipeline`. Everything else is in `latent/`.

use std::sync::Arc;

use candle_core::Device;

use super::Family;
use crate::checkpoint::Files;
use crate::config;
use crate::error::Result;
use crate::latent::{self, Absent, LatentDiffusion, Prompts, Read};
use crate::reader::{ClipReader, Pooling, Text};
use crate::schedule::NoiseConfig;
use crate::tokenizer::Tokens;
use crate::trace::Trace;

/// The family's line in the table.
pub const FAMILY: Family = Family {
    name: "stable-diffusion",
    class_name: "StableDiffusionPipeline",
    describe: |files| latent::describe(files, noise(files)?),
    load: |files, device| Ok(Arc::new(load(files, device)?)),
};

/// The line of models that were made for inpainting.
pub const INPAINTING: Family = Family { class_name: "StableDiffusionInpaintPipeline", ..FAMILY };

/// Opens a model on the CPU.
///
/// # Errors
/// What its files lack, by file and key or tensor.
pub fn open(files: &Files) -> Result<LatentDiffusion> {
    load(files, &Device::Cpu)
}

fn load(files: &Files, device: &Device) -> Result<LatentDiffusion> {
    let prompts = OneReader { reader: ClipReader::load(files, "", Pooling::None, device)? };
    LatentDiffusion::load(files, noise(files)?, Box::new(prompts), device)
}

/// The noise of a model, as the pipeline corrects it: old files lack the offset, and clipping belongs to pixels.
fn noise(files: &Files) -> Result<NoiseConfig> {
    Ok(NoiseConfig { steps_offset: 1, clip_sample: None, ..config::noise(files)? })
}

struct OneReader {
    reader: ClipReader,
}

impl Prompts for OneReader {
    fn read(&self, texts: &[Text<'_>], trace: Trace<'_>) -> Result<Read> {
        let reading = self.reader.read(texts, 0, Pooling::None, trace)?;
        let states = self.reader.normed(&reading.states()?)?;
        let text = reading.weighted(&states)?;
        trace.tell("text", "last", &text)?;
        Ok(Read { text, pooled: None })
    }

    fn absent(&self) -> Absent {
        Absent::Empty
    }

    fn tokens(&self, prompt: &str) -> Result<Tokens> {
        self.reader.tokens(prompt)
    }

    fn dropped(&self, text: Text<'_>) -> Result<usize> {
        self.reader.dropped(text)
    }
}
