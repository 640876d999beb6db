//! One picture of a flow model being made: what FLUX and Z-Image share from the first noise to the last step.
//!
//! A family makes a [`Velocity`], which knows everything of the picture that does not change from step to step; a sampler
//! walks the levels; here the two take turns. Latents are a flat row in whatever order the family keeps them.

use crate::error::Result;
use crate::family::{Recipe, Run};
use crate::pixels::Pixels;
use crate::rng::TorchGenerator;
use crate::sampler::{Sampler, Walk};
use crate::schedule::Schedule;
use crate::trace::{Recorder, Trace, Values};

/// A network with everything about one picture settled.
pub(crate) trait Velocity {
    /// Draws the first noise, in the order in which latents are kept.
    fn noise(&self, generator: &mut TorchGenerator) -> Vec<f32>;

    /// The velocity of latents at a timestep from 0 to 1000.
    ///
    /// # Errors
    /// A tensor operation that failed.
    fn predict(&self, latents: &[f32], timestep: f64, trace: Trace<'_>) -> Result<Vec<f32>>;

    /// The picture that latents stand for.
    ///
    /// # Errors
    /// A tensor operation that failed; [`crate::Error::NotAPicture`].
    fn show(&self, latents: &[f32]) -> Result<Pixels>;

    /// The dimensions of latents.
    fn dims(&self) -> Vec<usize>;
}

/// The picture being made.
pub struct Flowing {
    velocity: Box<dyn Velocity>,
    sampler: Box<dyn Sampler>,
    generator: TorchGenerator,
    latents: Vec<f32>,
    /// What the last step took for the finished latents.
    clean: Vec<f32>,
}

impl Flowing {
    /// Begins a picture, whose shift is `mu` where the model's shift depends on the size.
    pub(crate) fn begin(
        velocity: Box<dyn Velocity>,
        schedule: &Schedule,
        recipe: &Recipe,
        mu: Option<f64>,
    ) -> Result<Self> {
        let steps = recipe.steps;
        // From pure noise in even steps to one step above none: the pipelines give these, whatever the schedule's own are.
        let levels = (0..steps).map(|step| 1.0 - step as f64 / steps as f64).collect();
        let walk = Walk { mu, levels: Some(levels), ..recipe.choice.walk(steps) };
        let sampler = recipe.choice.begin_walk(schedule, &walk)?;
        let mut generator = TorchGenerator::new(recipe.seed);
        let start = sampler.start() as f32;
        let latents: Vec<f32> = velocity.noise(&mut generator).into_iter().map(|x| x * start).collect();
        let clean = latents.clone();
        Ok(Self { velocity, sampler, generator, latents, clean })
    }

    /// Takes a step, telling `recorder` of what happens inside the network.
    ///
    /// # Errors
    /// A tensor operation that failed.
    pub fn step_traced(&mut self, step: usize, recorder: &Recorder) -> Result<()> {
        self.advance(step, recorder.trace())
    }

    /// The latents as they stand, in the dimensions that diffusers keeps them in.
    #[must_use]
    pub fn latents(&self) -> Values {
        Values { dims: self.velocity.dims(), values: self.latents.clone() }
    }

    fn advance(&mut self, step: usize, trace: Trace<'_>) -> Result<()> {
        let predicted = self.velocity.predict(&self.latents, self.sampler.timestep(step), trace)?;
        self.sampler.clean(step, &self.latents, &predicted, &mut self.clean);
        let generator = &mut self.generator;
        self.sampler.step(step, &mut self.latents, &predicted, &mut |count| generator.normals(count));
        Ok(())
    }
}

impl Run for Flowing {
    fn steps(&self) -> usize {
        self.sampler.steps()
    }

    fn step(&mut self, step: usize) -> Result<()> {
        self.advance(step, Trace::none())
    }

    fn preview(&self) -> Result<Pixels> {
        self.velocity.show(&self.clean)
    }

    fn finish(&mut self) -> Result<Pixels> {
        self.velocity.show(&self.latents)
    }
}

/// A timestep as the networks are told it: divided by a thousand and multiplied again, in f32 like diffusers, which does not
/// always give the same number back.
pub(crate) fn told(timestep: f64) -> f64 {
    f64::from(timestep as f32 / 1000.0 * 1000.0)
}

/// `negative + scale · (prompt − negative)`.
pub(crate) fn guide(prompt: &mut [f32], negative: &[f32], scale: f64) {
    let scale = scale as f32;
    prompt.iter_mut().zip(negative).for_each(|(x, negative)| *x = negative + scale * (*x - negative));
}
