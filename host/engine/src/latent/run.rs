//! The denoising loop: one picture of a latent diffusion model being made.
//!
//! Negative prompt first, both in one batch; no second pass when guidance is at most 1; noise drawn as
//! `[1, channels, height, width]` by the generator that the recipe names. Where it starts, and what it keeps of a given picture, is
//! `canvas.rs`.

use std::sync::Arc;

use candle_core::Tensor;

use super::canvas::{Canvas, Kept};
use super::{Absent, LatentDiffusion, Read};
use crate::error::Result;
use crate::family::{Recipe, Run};
use crate::pixels::Pixels;
use crate::reader::Text;
use crate::rng::Generator;
use crate::sampler::Sampler;
use crate::trace::{Recorder, Trace, Values};
use crate::unet::Conditions;

/// One picture of a latent diffusion model being made.
pub struct Denoising {
    model: Arc<LatentDiffusion>,
    sampler: Box<dyn Sampler>,
    noise: Generator,
    /// Negative prompt first; one row when nothing is guided.
    conditions: Conditions,
    guidance: f64,
    /// `[channels, height, width]`, the order in which noise is drawn.
    latents: Vec<f32>,
    /// What the last step took for the finished latents.
    clean: Vec<f32>,
    size: (u32, u32),
    /// The step of the sampler that this run begins with.
    first: usize,
    kept: Option<Kept>,
    beside: Option<Tensor>,
}

impl Denoising {
    /// Begins a picture.
    ///
    /// # Errors
    /// As [`crate::family::Model::begin`].
    pub fn begin(model: Arc<LatentDiffusion>, recipe: &Recipe) -> Result<Self> {
        let read = read(&model, recipe)?;
        let conditions = model.conditions(read, recipe.size, Trace::none())?;
        let sampler = recipe.choice.begin(&model.schedule, recipe.steps, recipe.eta)?;
        let mut noise = recipe.rng.start(recipe.seed);
        let Canvas { first, latents, kept, beside } = Canvas::new(&model, recipe, &*sampler, &mut noise)?;
        let (clean, size, guidance) = (latents.clone(), recipe.size, recipe.guidance);
        Ok(Self { model, sampler, noise, conditions, guidance, latents, clean, size, first, kept, beside })
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
        let (channels, height, width) = self.model.dims(self.size);
        Values { dims: vec![1, channels, height, width], values: self.latents.clone() }
    }

    fn advance(&mut self, step: usize, trace: Trace<'_>) -> Result<()> {
        let step = self.first + step;
        let scale = self.sampler.input_scale(step);
        let input = (self.model.map(&self.latents, self.size)? * scale)?;
        let input = match &self.beside {
            Some(beside) => Tensor::cat(&[&input, beside], 3)?,
            None => input,
        };
        let batch = self.conditions.text.dim(0)?;
        let input = if batch == 2 { Tensor::cat(&[&input, &input], 0)? } else { input };
        let output = self.model.unet.forward(&input, self.sampler.timestep(step), &self.conditions, trace)?;
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
        if let Some(kept) = &self.kept {
            kept.put_back(&*self.sampler, step + 1, &mut self.latents);
        }
        Ok(())
    }
}

/// Reads the prompts of a recipe: the negative one first, where the picture is guided. Layers are left out of the prompt
/// alone, as diffusers has it.
fn read(model: &LatentDiffusion, recipe: &Recipe) -> Result<Read> {
    let prompt = Text { words: &recipe.prompt, skip: recipe.clip_skip, syntax: recipe.prompt_syntax };
    if recipe.guidance <= 1.0 {
        return model.prompts.read(&[prompt], Trace::none());
    }
    match (&recipe.negative_prompt, model.prompts.absent()) {
        (None, Absent::Zeros) => {
            let read = model.prompts.read(&[prompt], Trace::none())?;
            let before = |tensor: &Tensor| Tensor::cat(&[&tensor.zeros_like()?, tensor], 0);
            Ok(Read { text: before(&read.text)?, pooled: read.pooled.as_ref().map(before).transpose()? })
        }
        (negative, _) => {
            let words = negative.as_deref().unwrap_or_default();
            let negative = Text { words, skip: 0, syntax: recipe.prompt_syntax };
            model.prompts.read(&[negative, prompt], Trace::none())
        }
    }
}

impl Run for Denoising {
    fn steps(&self) -> usize {
        self.sampler.steps() - self.first
    }

    fn step(&mut self, step: usize) -> Result<()> {
        self.advance(step, Trace::none())
    }

    fn preview(&self) -> Result<Pixels> {
        self.model.show(&self.model.map(&self.clean, self.size)?)
    }

    fn finish(&mut self) -> Result<Pixels> {
        self.model.show(&self.model.map(&self.latents, self.size)?)
    }
}
