//! Latent diffusion: prompts become conditions, a network takes the noise out of latents, an autoencoder shows them.
//!
//! What Stable Diffusion 1, 2 and SDXL share: the parts of a model, and one denoising loop (`run.rs`). What differs is how
//! they read prompts; each family gives a [`Prompts`] for that, and nothing else. Making, changing and inpainting pictures is one
//! loop too; they differ in where it starts (`canvas.rs`). Defined by diffusers' `StableDiffusionPipeline`,
//! `StableDiffusionXLPipeline` and their siblings.

mod canvas;
mod run;

use std::sync::{Arc, OnceLock};

use candle_core::{DType, Device, Tensor};
use easel_core::{ModelInputs, Task};

use crate::checkpoint::Files;
use crate::config::{self, VaeConfig};
use crate::error::{Error, Result};
use crate::family::{Facts, Guiding, Model, Recipe, Run};
use crate::pixels::Pixels;
use crate::reader::Text;
use crate::schedule::{NoiseConfig, Schedule, Spacing};
use crate::tiles;
use crate::tokenizer::Tokens;
use crate::trace::{Recorder, Trace, Values};
use crate::unet::{Conditions, Unet};
use crate::vae::{Decoder, Encoder};

pub use run::Denoising;

/// How a family reads prompts.
pub(crate) trait Prompts: Send + Sync {
    /// Reads prompts, one row each.
    ///
    /// # Errors
    /// [`crate::Error::Option`] for layers that cannot be left out; a tensor operation that failed.
    fn read(&self, texts: &[Text<'_>], trace: Trace<'_>) -> Result<Read>;

    /// What a negative prompt that was not given is.
    fn absent(&self) -> Absent;

    /// The tokens of a prompt, as the first tokenizer cuts it.
    ///
    /// # Errors
    /// [`crate::Error::Tokenizer`].
    fn tokens(&self, prompt: &str) -> Result<Tokens>;
}

/// Prompts that were read.
pub(crate) struct Read {
    /// What the network attends to: `[prompts, tokens, width]`.
    pub(crate) text: Tensor,
    /// What is added to the time, where the network adds a text: `[prompts, width]`.
    pub(crate) pooled: Option<Tensor>,
}

/// What a negative prompt that was not given is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Absent {
    /// The empty prompt, read as any other.
    Empty,
    /// Nothing but zeros.
    Zeros,
}

/// A loaded model.
pub struct LatentDiffusion {
    prompts: Box<dyn Prompts>,
    unet: Unet,
    decoder: Decoder,
    /// Loaded when the first picture is to be changed.
    encoder: OnceLock<Encoder>,
    schedule: Schedule,
    vae: VaeConfig,
    files: Files,
    device: Device,
}

/// The name that diffusers gives the weights of a network.
const WEIGHTS: &str = "diffusion_pytorch_model";

/// What the files of a model say of it, apart from its noise and its prompts.
///
/// # Errors
/// [`crate::Error::File`], [`crate::Error::Config`] or [`crate::Error::Unsupported`].
pub(crate) fn describe(files: &Files, noise: NoiseConfig) -> Result<Facts> {
    let (unet, vae, text) = (config::unet(files)?, config::vae(files)?, config::text(files, "text_encoder")?);
    let factor = vae.factor();
    // Latents alone, or with a mask and the latents of what it leaves: a network for inpainting and nothing else.
    let latent = vae.latent_channels;
    let tasks = match unet.in_channels {
        channels if channels == latent => Task::ALL.to_vec(),
        channels if channels == 2 * latent + 1 => vec![Task::Inpainting],
        channels => {
            return Err(Error::Unsupported {
                file: "unet/config.json".to_owned(),
                key: "in_channels".to_owned(),
                value: channels.to_string(),
                allowed: format!("{latent}, and {} for inpainting", 2 * latent + 1),
            });
        }
    };
    let side = u32::try_from(unet.sample_size * factor).unwrap_or(u32::MAX);
    // A network that was distilled to a few steps without guidance says so nowhere but in its sampler.
    let distilled =
        noise.class_name.starts_with("Euler") && noise.spacing == Some(Spacing::Trailing) && !noise.zero_terminal_snr;
    let (steps, guidance) = if distilled { (4, 0.0) } else { (30, 7.5) };
    Ok(Facts {
        native: (side, side),
        multiple: u32::try_from(factor).unwrap_or(u32::MAX),
        noise,
        prompt_tokens: text.positions.saturating_sub(2),
        steps,
        guidance,
        tasks,
        inputs: ModelInputs { images: 1, references: 0 },
        guiding: Guiding::Above(1.0),
        options: &["clip_skip", "eta", "schedule", "strength"],
    })
}

impl LatentDiffusion {
    /// Loads the parts that all families have.
    ///
    /// # Errors
    /// What the files lack, by file and key or tensor.
    pub(crate) fn load(files: &Files, noise: NoiseConfig, prompts: Box<dyn Prompts>, device: &Device) -> Result<Self> {
        let vae = config::vae(files)?;
        Ok(Self {
            prompts,
            unet: Unet::load(&config::unet(files)?, &files.weights("unet", WEIGHTS, device)?)?,
            decoder: Decoder::load(&vae, &files.weights("vae", WEIGHTS, device)?)?,
            encoder: OnceLock::new(),
            schedule: Schedule::new(noise)?,
            vae,
            files: files.clone(),
            device: device.clone(),
        })
    }

    /// What the model says about its noise.
    #[must_use]
    pub fn noise(&self) -> &NoiseConfig {
        self.schedule.config()
    }

    /// The tokens of a prompt, as the first tokenizer cuts it.
    ///
    /// # Errors
    /// [`crate::Error::Tokenizer`].
    pub fn tokens(&self, prompt: &str) -> Result<Tokens> {
        self.prompts.tokens(prompt)
    }

    /// What prompts come to, one row each, for pictures of a size.
    ///
    /// # Errors
    /// As [`Model::begin`].
    pub fn read(&self, prompts: &[&str], clip_skip: usize, size: (u32, u32), recorder: &Recorder) -> Result<Told> {
        let texts: Vec<_> = prompts.iter().map(|words| Text { words, skip: clip_skip }).collect();
        let read = self.prompts.read(&texts, recorder.trace())?;
        let conditions = self.conditions(read, size, recorder.trace())?;
        let added = conditions.added.as_ref().map(Values::of).transpose()?;
        Ok(Told { text: Values::of(&conditions.text)?, added })
    }

    /// Time embeddings, one row for each timestep.
    ///
    /// # Errors
    /// A tensor operation that failed.
    pub fn times(&self, timesteps: &[f64], recorder: &Recorder) -> Result<Values> {
        Ok(Values::of(&self.unet.time(timesteps, recorder.trace())?)?)
    }

    /// The network's prediction for latents `[batch, channels, height, width]` and as many rows of what it is told.
    ///
    /// # Errors
    /// A tensor operation that failed.
    pub fn predict(&self, latents: &Values, timestep: f64, told: &Told, recorder: &Recorder) -> Result<Values> {
        let added = told.added.as_ref().map(|added| added.tensor(&self.device)).transpose()?;
        let conditions = Conditions { text: told.text.tensor(&self.device)?, added };
        let latents = latents.map(&self.device)?;
        Ok(Values::of_map(&self.unet.forward(&latents, timestep, &conditions, recorder.trace())?)?)
    }

    /// Decodes latents `[batch, channels, height, width]` that were divided by the scaling factor.
    ///
    /// # Errors
    /// A tensor operation that failed.
    pub fn decode(&self, latents: &Values, recorder: &Recorder) -> Result<Values> {
        Ok(Values::of_map(&self.decoder.forward(&latents.map(&self.device)?, recorder.trace())?)?)
    }

    /// The same in tiles of so many latents along each side.
    ///
    /// # Errors
    /// A tensor operation that failed.
    pub fn decode_in_tiles(&self, latents: &Values, tile: usize) -> Result<Values> {
        let decoder = |piece: &Tensor| self.decoder.forward(piece, Trace::none());
        Ok(Values::of_map(&tiles::in_tiles(&latents.map(&self.device)?, self.vae.factor(), tile, decoder)?)?)
    }

    /// Encodes a picture `[batch, 3, height, width]` in -1..1: mean and logarithm of the variance of its latents.
    ///
    /// # Errors
    /// What the files lack; a tensor operation that failed.
    pub fn encode_picture(&self, picture: &Values, recorder: &Recorder) -> Result<(Values, Values)> {
        let posterior = self.encoder()?.forward(&picture.map(&self.device)?, recorder.trace())?;
        Ok((Values::of_map(&posterior.mean)?, Values::of_map(&posterior.log_variance)?))
    }

    /// The conditions of a picture of this size. The network is told that the picture was that size from the start and
    /// was not cropped, as diffusers tells it.
    fn conditions(&self, read: Read, (width, height): (u32, u32), trace: Trace<'_>) -> Result<Conditions> {
        let (width, height) = (f64::from(width), f64::from(height));
        let sizes = [height, width, 0.0, 0.0, height, width];
        let added = self.unet.addition(read.pooled.as_ref(), &sizes, trace)?;
        Ok(Conditions { text: read.text, added })
    }

    fn encoder(&self) -> Result<&Encoder> {
        if let Some(encoder) = self.encoder.get() {
            return Ok(encoder);
        }
        let encoder = Encoder::load(&self.vae, &self.files.weights("vae", WEIGHTS, &self.device)?)?;
        Ok(self.encoder.get_or_init(|| encoder))
    }

    /// The dimensions of a picture's latents: channels, height, width.
    fn dims(&self, (width, height): (u32, u32)) -> (usize, usize, usize) {
        let factor = self.vae.factor();
        (self.vae.latent_channels, height as usize / factor, width as usize / factor)
    }

    /// Latents `[channels, height, width]` of a picture as the network takes them: `[1, height, width, channels]`.
    fn map(&self, latents: &[f32], size: (u32, u32)) -> Result<Tensor> {
        let (channels, height, width) = self.dims(size);
        let tensor = Tensor::from_slice(latents, (1, channels, height, width), &self.device)?;
        Ok(tensor.permute((0, 2, 3, 1))?.contiguous()?)
    }

    fn show(&self, latents: &Tensor) -> Result<Pixels> {
        let latents = latents.affine(self.vae.scaling_factor.recip(), self.vae.shift_factor)?;
        let picture = tiles::decode(&latents, self.vae.factor(), |piece| self.decoder.forward(piece, Trace::none()))?;
        let (_, height, width, _) = picture.dims4()?;
        let values = picture.flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>()?;
        Pixels::from_signed(&values, width as u32, height as u32)
    }
}

impl Model for LatentDiffusion {
    fn begin(self: Arc<Self>, recipe: &Recipe) -> Result<Box<dyn Run>> {
        Ok(Box::new(Denoising::begin(self, recipe)?))
    }

    fn dropped_tokens(&self, prompt: &str) -> Result<usize> {
        Ok(self.prompts.tokens(prompt)?.dropped)
    }
}

/// What a network is told besides latents and time, outside of any device.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// What it attends to: `[rows, tokens, width]`.
    pub text: Values,
    /// What is added to the embedding of the time: `[rows, width]`.
    pub added: Option<Values>,
}
