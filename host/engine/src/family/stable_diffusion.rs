//! Stable Diffusion 1 and 2: CLIP reads the prompt, a network takes the noise out of latents, an autoencoder shows them.
//!
//! Defined by diffusers' `StableDiffusionPipeline`: negative prompt first, both in one batch; no second pass when guidance
//! is at most 1; noise drawn as `[1, channels, height, width]` by the CPU generator of the seed.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};

use super::{Facts, Family, Model, Recipe, Run};
use crate::checkpoint::Files;
use crate::clip::ClipText;
use crate::config::{self, VaeConfig};
use crate::error::Result;
use crate::pixels::Pixels;
use crate::rng::TorchGenerator;
use crate::sampler::Sampler;
use crate::schedule::{NoiseConfig, Schedule};
use crate::tokenizer::{ClipTokenizer, Tokens};
use crate::trace::{Recorder, Trace, Values};
use crate::unet::Unet;
use crate::vae::{Decoder, Encoder};

/// The family's line in the table.
pub const FAMILY: Family = Family {
    name: "stable-diffusion",
    class_name: "StableDiffusionPipeline",
    describe,
    load: |files, device| Ok(Arc::new(StableDiffusion::load(files, device)?)),
};

fn describe(files: &Files) -> Result<Facts> {
    let (unet, vae, text) = (config::unet(files)?, config::vae(files)?, config::text(files)?);
    let factor = vae.factor();
    let side = u32::try_from(unet.sample_size * factor).unwrap_or(u32::MAX);
    Ok(Facts {
        native: (side, side),
        multiple: u32::try_from(factor).unwrap_or(u32::MAX),
        noise: noise(files)?,
        prompt_tokens: text.positions.saturating_sub(2),
    })
}

/// The noise of a model, as the pipeline corrects it: old files lack the offset, and clipping belongs to pixels.
fn noise(files: &Files) -> Result<NoiseConfig> {
    Ok(NoiseConfig { steps_offset: 1, clip_sample: None, ..config::noise(files)? })
}

/// A loaded Stable Diffusion model.
pub struct StableDiffusion {
    tokenizer: ClipTokenizer,
    text: ClipText,
    unet: Unet,
    decoder: Decoder,
    schedule: Schedule,
    vae: VaeConfig,
    files: Files,
    device: Device,
}

impl StableDiffusion {
    /// Loads everything that a text-to-image run needs.
    pub(crate) fn load(files: &Files, device: &Device) -> Result<Self> {
        let (text, vae) = (config::text(files)?, config::vae(files)?);
        Ok(Self {
            tokenizer: ClipTokenizer::load(files, text.positions)?,
            text: ClipText::load(&text, &files.weights("text_encoder", "model", device)?)?,
            unet: Unet::load(&config::unet(files)?, &files.weights("unet", WEIGHTS, device)?)?,
            decoder: Decoder::load(&vae, &files.weights("vae", WEIGHTS, device)?)?,
            schedule: Schedule::new(noise(files)?)?,
            vae,
            files: files.clone(),
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

    /// What the model says about its noise.
    #[must_use]
    pub fn noise(&self) -> &NoiseConfig {
        self.schedule.config()
    }

    /// The tokens of a prompt.
    ///
    /// # Errors
    /// [`crate::Error::Tokenizer`].
    pub fn tokens(&self, prompt: &str) -> Result<Tokens> {
        self.tokenizer.tokens(prompt)
    }

    /// The text states of prompts, as the network attends to them: `[prompts, tokens, width]`.
    ///
    /// # Errors
    /// As [`Model::begin`].
    pub fn states(&self, prompts: &[&str], clip_skip: usize, recorder: &Recorder) -> Result<Values> {
        Ok(Values::of(&self.encode(prompts, clip_skip, recorder.trace())?)?)
    }

    /// Time embeddings, one row for each timestep.
    ///
    /// # Errors
    /// A tensor operation that failed.
    pub fn times(&self, timesteps: &[f64], recorder: &Recorder) -> Result<Values> {
        Ok(Values::of(&self.unet.time(timesteps, recorder.trace())?)?)
    }

    /// The network's prediction for latents `[batch, channels, height, width]` and text `[batch, tokens, width]`.
    ///
    /// # Errors
    /// A tensor operation that failed.
    pub fn predict(&self, latents: &Values, timestep: f64, text: &Values, recorder: &Recorder) -> Result<Values> {
        let (latents, text) = (latents.map(&self.device)?, text.tensor(&self.device)?);
        Ok(Values::of_map(&self.unet.forward(&latents, timestep, &text, recorder.trace())?)?)
    }

    /// Decodes latents `[batch, channels, height, width]` that were divided by the scaling factor.
    ///
    /// # Errors
    /// A tensor operation that failed.
    pub fn decode(&self, latents: &Values, recorder: &Recorder) -> Result<Values> {
        Ok(Values::of_map(&self.decoder.forward(&latents.map(&self.device)?, recorder.trace())?)?)
    }

    /// Encodes a picture `[batch, 3, height, width]` in -1..1: mean and logarithm of the variance of its latents.
    ///
    /// # Errors
    /// What the files lack; a tensor operation that failed.
    pub fn encode_picture(&self, picture: &Values, recorder: &Recorder) -> Result<(Values, Values)> {
        let encoder = Encoder::load(&self.vae, &self.files.weights("vae", WEIGHTS, &self.device)?)?;
        let posterior = encoder.forward(&picture.map(&self.device)?, recorder.trace())?;
        Ok((Values::of_map(&posterior.mean)?, Values::of_map(&posterior.log_variance)?))
    }

    fn encode(&self, prompts: &[&str], clip_skip: usize, trace: Trace<'_>) -> Result<Tensor> {
        let tokens = prompts.iter().map(|prompt| Ok(self.tokenizer.tokens(prompt)?.ids));
        self.text.states(&tokens.collect::<Result<Vec<_>>>()?, clip_skip, trace)
    }

    fn show(&self, latents: &Tensor) -> Result<Pixels> {
        let latents = latents.affine(self.vae.scaling_factor.recip(), self.vae.shift_factor)?;
        let picture = self.decoder.forward(&latents, Trace::none())?;
        let (_, height, width, _) = picture.dims4()?;
        let values = picture.flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>()?;
        Pixels::from_signed(&values, width as u32, height as u32)
    }
}

/// The name that diffusers gives the weights of a network.
const WEIGHTS: &str = "diffusion_pytorch_model";

impl Model for StableDiffusion {
    fn begin(self: Arc<Self>, recipe: &Recipe) -> Result<Box<dyn Run>> {
        Ok(Box::new(Denoising::begin(self, recipe)?))
    }

    fn dropped_tokens(&self, prompt: &str) -> Result<usize> {
        Ok(self.tokenizer.tokens(prompt)?.dropped)
    }
}

/// One picture of a Stable Diffusion model being made.
pub struct Denoising {
    model: Arc<StableDiffusion>,
    sampler: Box<dyn Sampler>,
    noise: TorchGenerator,
    /// Negative prompt first; one row when nothing is guided.
    text: Tensor,
    guidance: f64,
    /// `[channels, height, width]`, the order in which noise is drawn.
    latents: Vec<f32>,
    /// What the last step took for the finished latents.
    clean: Vec<f32>,
    dims: (usize, usize, usize),
}

impl Denoising {
    /// Begins a picture.
    ///
    /// # Errors
    /// As [`Model::begin`].
    pub fn begin(model: Arc<StableDiffusion>, recipe: &Recipe) -> Result<Self> {
        let guided = recipe.guidance > 1.0;
        let prompts = [recipe.negative_prompt.as_str(), recipe.prompt.as_str()];
        let text = model.encode(if guided { &prompts } else { &prompts[1..] }, recipe.clip_skip, Trace::none())?;
        let sampler = recipe.choice.begin(&model.schedule, recipe.steps, recipe.eta)?;
        let factor = model.vae.factor();
        let (width, height) = (recipe.size.0 as usize / factor, recipe.size.1 as usize / factor);
        let dims = (model.vae.latent_channels, height, width);
        let mut noise = TorchGenerator::new(recipe.seed);
        let start = sampler.start() as f32;
        let latents: Vec<f32> = noise.normals(dims.0 * height * width).into_iter().map(|x| x * start).collect();
        let clean = latents.clone();
        Ok(Self { model, sampler, noise, text, guidance: recipe.guidance, latents, clean, dims })
    }

    /// Takes a step, telling `recorder` of what happens inside the network.
    ///
    /// # Errors
    /// A tensor operation that failed.
    pub fn step_traced(&mut self, step: usize, recorder: &Recorder) -> Result<()> {
        self.advance(step, recorder.trace())
    }

    /// The latents as they stand: `[1, channels, height, width]`.
    #[must_use]
    pub fn latents(&self) -> Values {
        let (channels, height, width) = self.dims;
        Values { dims: vec![1, channels, height, width], values: self.latents.clone() }
    }

    fn advance(&mut self, step: usize, trace: Trace<'_>) -> Result<()> {
        let scale = self.sampler.input_scale(step);
        let input = (self.map(&self.latents)? * scale)?;
        let batch = self.text.dim(0)?;
        let input = if batch == 2 { Tensor::cat(&[&input, &input], 0)? } else { input };
        let output = self.model.unet.forward(&input, self.sampler.timestep(step), &self.text, trace)?;
        let output = if batch == 2 {
            let (without, with) = (output.narrow(0, 0, 1)?, output.narrow(0, 1, 1)?);
            (&without + ((with - &without)? * self.guidance)?)?
        } else {
            output
        };
        let predicted = output.permute((0, 3, 1, 2))?.flatten_all()?.to_vec1::<f32>()?;
        self.sampler.clean(step, &self.latents, &predicted, &mut self.clean);
        let noise = &mut self.noise;
        self.sampler.step(step, &mut self.latents, &predicted, &mut |count| noise.normals(count));
        Ok(())
    }

    /// Latents as the network takes them: `[1, height, width, channels]`.
    fn map(&self, latents: &[f32]) -> Result<Tensor> {
        let (channels, height, width) = self.dims;
        let tensor = Tensor::from_slice(latents, (1, channels, height, width), &self.model.device)?;
        Ok(tensor.permute((0, 2, 3, 1))?.contiguous()?)
    }
}

impl Run for Denoising {
    fn steps(&self) -> usize {
        self.sampler.steps()
    }

    fn step(&mut self, step: usize) -> Result<()> {
        self.advance(step, Trace::none())
    }

    fn preview(&self) -> Result<Pixels> {
        self.model.show(&self.map(&self.clean)?)
    }

    fn finish(&mut self) -> Result<Pixels> {
        self.model.show(&self.map(&self.latents)?)
    }
}
