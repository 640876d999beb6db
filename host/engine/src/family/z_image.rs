//! Z-Image: Qwen3 reads the prompt, a transformer with one stream for words and patches moves latents from noise to what they
//! show, an autoencoder shows them.
//!
//! Defined by diffusers' `ZImagePipeline`. Guidance counts from 0 here: `prompt + guidance · (prompt − negative)`, so that 0 and
//! not 1 is none, and the distilled Turbo model is made for 0.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use easel_core::{ModelInputs, Task};

use super::{Facts, Family, Guiding, Model, Recipe, Run};
use crate::checkpoint::Files;
use crate::config::{self, Qwen3Config, VaeConfig, ZImageConfig};
use crate::error::{Error, Result};
use crate::flow::{Flowing, Velocity};
use crate::pixels::Pixels;
use crate::prompt::{ChatTokenizer, Thinking};
use crate::qwen3::Qwen3;
use crate::rng::Generator;
use crate::schedule::Schedule;
use crate::tiles;
use crate::tokenizer::Tokens;
use crate::trace::{Recorder, Trace, Values};
use crate::vae::Decoder;
use crate::z_image::{Caption, Transformer};

/// The family's line in the table.
pub const FAMILY: Family = Family {
    name: "z-image",
    class_name: "ZImagePipeline",
    describe,
    load: |files, device| Ok(Arc::new(ZImage::load(files, device)?)),
};

/// Tokens of the prompt's chat, words around it included.
const PROMPT_TOKENS: usize = 512;

/// Side of the pictures it was trained on, in latents.
const NATIVE_LATENTS: usize = 128;

/// What the publisher of the Turbo model recommends; no file says it, nor which of the two a model is.
const STEPS: u32 = 8;

struct Parts {
    transformer: ZImageConfig,
    vae: VaeConfig,
    text: Qwen3Config,
}

impl Parts {
    fn read(files: &Files) -> Result<Self> {
        let parts =
            Self { transformer: config::z_image(files)?, vae: config::vae(files)?, text: config::qwen3(files)? };
        let wrong = |reason: String| Err(Error::Config { file: "transformer/config.json".to_owned(), reason });
        let Self { transformer, vae, text } = &parts;
        if transformer.text_width != text.width {
            let (found, must) = (transformer.text_width, text.width);
            return wrong(format!("cap_feat_dim is {found}, and by the text encoder must be {must}"));
        }
        if transformer.channels != vae.latent_channels {
            let (found, must) = (transformer.channels, vae.latent_channels);
            return wrong(format!("in_channels is {found}, and by the autoencoder must be {must}"));
        }
        if text.layers < 2 {
            let reason = format!("num_hidden_layers is {}, and must be at least 2", text.layers);
            return Err(Error::Config { file: "text_encoder/config.json".to_owned(), reason });
        }
        Ok(parts)
    }
}

fn describe(files: &Files) -> Result<Facts> {
    let parts = Parts::read(files)?;
    let factor = parts.vae.factor();
    let side = u32::try_from(NATIVE_LATENTS * factor).unwrap_or(u32::MAX);
    Ok(Facts {
        native: (side, side),
        multiple: u32::try_from(2 * factor).unwrap_or(u32::MAX),
        noise: config::noise(files)?,
        prompt_tokens: PROMPT_TOKENS,
        steps: STEPS,
        guidance: 0.0,
        tasks: vec![Task::TextToImage],
        inputs: ModelInputs { images: 0, references: 0 },
        guiding: Guiding::Above(0.0),
        options: &["loras", "rng", "schedule"],
    })
}

/// A loaded Z-Image model.
pub struct ZImage {
    parts: Parts,
    tokenizer: ChatTokenizer,
    text: Qwen3,
    transformer: Transformer,
    decoder: Decoder,
    schedule: Schedule,
    device: Device,
}

impl ZImage {
    /// Loads a model.
    pub(crate) fn load(files: &Files, device: &Device) -> Result<Self> {
        let parts = Parts::read(files)?;
        let weights = "diffusion_pytorch_model";
        let text = files.weights("text_encoder", "model", device)?;
        Ok(Self {
            tokenizer: ChatTokenizer::load(files, "tokenizer", PROMPT_TOKENS, Thinking::On)?,
            // The state before the last layer is read.
            text: Qwen3::load(&parts.text, parts.text.layers - 1, &text)?,
            transformer: Transformer::load(&parts.transformer, &files.weights("transformer", weights, device)?)?,
            decoder: Decoder::load(&parts.vae, &files.weights("vae", weights, device)?)?,
            schedule: Schedule::new(config::noise(files)?)?,
            parts,
            device: device.clone(),
        })
    }

    /// Loads a model onto the CPU.
    ///
    /// # Errors
    /// What its files lack, by file and key or tensor.
    pub fn open(files: &Files) -> Result<Self> {
        Self::load(files, &Device::Cpu)
    }

    /// The prompt in its chat, as the text encoder reads it.
    ///
    /// # Errors
    /// [`Error::Tokenizer`].
    pub fn chat(&self, prompt: &str) -> Result<String> {
        self.tokenizer.chat(prompt)
    }

    /// The tokens of a prompt in its chat.
    ///
    /// # Errors
    /// [`Error::Tokenizer`].
    pub fn tokens(&self, prompt: &str) -> Result<Tokens> {
        self.tokenizer.tokens(prompt)
    }

    /// The text states of a prompt without padding: `[1, tokens, width]`.
    ///
    /// # Errors
    /// As [`Model::begin`].
    pub fn states(&self, prompt: &str, recorder: &Recorder) -> Result<Values> {
        Ok(Values::of(&self.encode(prompt, recorder.trace())?)?)
    }

    /// Decodes latents `[1, channels, height, width]` as the run leaves them.
    ///
    /// # Errors
    /// A tensor operation that failed.
    pub fn decode(&self, latents: &Values, recorder: &Recorder) -> Result<Values> {
        let vae = &self.parts.vae;
        let latents = latents.map(&self.device)?.affine(vae.scaling_factor.recip(), vae.shift_factor)?;
        Ok(Values::of_map(&self.decoder.forward(&latents, recorder.trace())?)?)
    }

    /// Begins a picture, telling `recorder` of what happens before the first step.
    ///
    /// # Errors
    /// As [`Model::begin`].
    pub fn begin_traced(self: Arc<Self>, recipe: &Recipe, recorder: &Recorder) -> Result<Flowing> {
        self.paint(recipe, recorder.trace())
    }

    fn paint(self: Arc<Self>, recipe: &Recipe, trace: Trace<'_>) -> Result<Flowing> {
        let multiple = 2 * self.parts.vae.factor();
        let grid = (recipe.size.1 as usize / multiple, recipe.size.0 as usize / multiple);
        let text = self.transformer.read(&self.encode(&recipe.prompt, trace)?, grid, trace)?;
        let negative = match recipe.guidance > 0.0 {
            true => {
                let prompt = recipe.negative_prompt.as_deref().unwrap_or_default();
                Some(self.transformer.read(&self.encode(prompt, Trace::none())?, grid, Trace::none())?)
            }
            false => None,
        };
        let schedule = self.schedule.clone();
        let mu = schedule.config().flow.as_ref().and_then(|flow| flow.mu(grid.0 * grid.1));
        let painting = Painting { model: self, text, negative, guidance: recipe.guidance, grid };
        Flowing::begin(Box::new(painting), &schedule, recipe, mu)
    }

    fn encode(&self, prompt: &str, trace: Trace<'_>) -> Result<Tensor> {
        let tokens = self.tokenizer.tokens(prompt)?;
        // No word looks at what follows it, so the padding need not be there at all.
        let ids = tokens.ids.get(..tokens.used).unwrap_or(&tokens.ids);
        let states = self.text.states(ids, ids.len(), &[self.parts.text.layers - 1], trace)?;
        Ok(Tensor::cat(&states, 2)?)
    }
}

impl Model for ZImage {
    fn begin(self: Arc<Self>, recipe: &Recipe) -> Result<Box<dyn Run>> {
        Ok(Box::new(self.paint(recipe, Trace::none())?))
    }

    fn dropped_tokens(&self, prompt: &str) -> Result<usize> {
        Ok(self.tokenizer.tokens(prompt)?.dropped)
    }
}

/// Everything about one picture that does not change from step to step.
struct Painting {
    model: Arc<ZImage>,
    text: Caption,
    negative: Option<Caption>,
    guidance: f64,
    /// Rows and columns of patches.
    grid: (usize, usize),
}

impl Painting {
    /// Latents as the network takes them: `[1, height, width, channels]`.
    fn map(&self, latents: &[f32]) -> Result<Tensor> {
        let map = Tensor::from_slice(latents, self.dims(), &self.model.device)?;
        Ok(map.permute((0, 2, 3, 1))?.contiguous()?)
    }

    fn output(&self, latents: &Tensor, text: &Caption, time: f64, trace: Trace<'_>) -> Result<Vec<f32>> {
        let output = self.model.transformer.forward(latents, text, time, trace)?;
        Ok(output.permute((0, 3, 1, 2))?.flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>()?)
    }
}

impl Velocity for Painting {
    fn noise(&self, generator: &mut Generator) -> Vec<f32> {
        generator.normals(self.dims().iter().product())
    }

    fn predict(&self, latents: &[f32], timestep: f64, trace: Trace<'_>) -> Result<Vec<f32>> {
        let latents = self.map(latents)?;
        let time = f64::from((1000.0 - timestep as f32) / 1000.0);
        let mut output = self.output(&latents, &self.text, time, trace)?;
        if let Some(negative) = &self.negative {
            let without = self.output(&latents, negative, time, Trace::none())?;
            let scale = self.guidance as f32;
            output.iter_mut().zip(without).for_each(|(with, without)| *with += scale * (*with - without));
        }
        output.iter_mut().for_each(|output| *output = -*output);
        Ok(output)
    }

    fn show(&self, latents: &[f32]) -> Result<Pixels> {
        let vae = &self.model.parts.vae;
        let latents = self.map(latents)?.affine(vae.scaling_factor.recip(), vae.shift_factor)?;
        let decoder = |piece: &Tensor| self.model.decoder.forward(piece, Trace::none());
        let picture = tiles::decode(&latents, vae.factor(), decoder)?;
        let (_, height, width, _) = picture.dims4()?;
        let values = picture.flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>()?;
        Pixels::from_signed(&values, width as u32, height as u32)
    }

    fn dims(&self) -> Vec<usize> {
        vec![1, self.model.parts.transformer.channels, 2 * self.grid.0, 2 * self.grid.1]
    }
}
