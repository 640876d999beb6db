//! Samplers: the solvers that walk a [`Schedule`] from noise to a picture.
//!
//! A sampler is one file and one line of [`SAMPLERS`]; it knows numbers only (f64 coefficients over f32 slices) and nothing
//! of tensors, devices or models, so its golden numbers are checked without any of them. Siblings never import each other.
//!
//! Names come from everywhere (diffusers classes, the labels and ids of other programs); [`choose`] (`names.rs`) reads
//! them all and refuses, with the list, those whose solver is not here.

mod brownian;
mod ddim;
mod ddpm;
mod dpm_multistep;
mod dpm_sde;
mod dpm_singlestep;
mod euler;
mod euler_ancestral;
mod exponential;
mod flow_euler;
mod heun;
mod kdpm2;
mod lcm;
mod lms;
mod names;
mod path;
mod pndm;
mod tcd;
mod unipc;

use crate::error::{Error, Result};
use crate::schedule::{Curve, Levels, NoiseConfig, Schedule, Spacing};

pub use brownian::BrownianPath;
use exponential::{Point, Rule, exponential_path};
pub use names::{choose, names, schedule_names};
pub use path::{Mix, Path};

/// Every sampler there is. Adding one is its file and its line here.
pub const SAMPLERS: &[SamplerKind] = &[
    ddim::KIND,
    ddpm::KIND,
    pndm::KIND,
    euler::KIND,
    euler_ancestral::KIND,
    heun::KIND,
    lms::KIND,
    kdpm2::KIND,
    kdpm2::ANCESTRAL,
    dpm_multistep::SECOND,
    dpm_multistep::SECOND_STOCHASTIC,
    dpm_multistep::SECOND_STOCHASTIC_HEUN,
    dpm_multistep::THIRD,
    dpm_multistep::THIRD_STOCHASTIC,
    dpm_singlestep::KIND,
    dpm_sde::KIND,
    unipc::KIND,
    lcm::KIND,
    tcd::KIND,
    flow_euler::KIND,
];

/// The spacings of solvers that have no default of their own but the first.
const EVERY_SPACING: &[Spacing] = &[Spacing::Leading, Spacing::Linspace, Spacing::Trailing];
const EVERY_SPACING_FROM_LINSPACE: &[Spacing] = &[Spacing::Linspace, Spacing::Leading, Spacing::Trailing];

/// A solver in the middle of a run.
///
/// A run takes its steps in order, and all of them up to the last; it may leave out the first ones (image to image), so a solver
/// that looks back counts the steps it was asked for. A step is one answer of the network: a solver that asks twice for one
/// level has two steps there.
pub trait Sampler: Send {
    /// The levels the run walks.
    fn path(&self) -> &Path;

    /// Moves the latents one step, given what the network predicted for them. Solvers that add noise draw it from `noise`,
    /// as much as there are latents.
    fn step(&mut self, step: usize, latents: &mut [f32], predicted: &[f32], noise: &mut dyn FnMut(usize) -> Vec<f32>);

    /// The first step of a run that starts from a picture and changes it by `strength`: 1 is everything, and leaves out no step;
    /// 0 is nothing, and leaves out all of them. What the latents must hold there is [`Sampler::noised`].
    fn first_step(&self, strength: f64) -> usize {
        left_out(self.steps(), strength)
    }

    /// How many times the network is asked.
    fn steps(&self) -> usize {
        self.path().timesteps.len()
    }

    /// What the network is told the time is at a step.
    fn timestep(&self, step: usize) -> f64 {
        self.path().timesteps[step]
    }

    /// The standard deviation of the noise the run starts from.
    fn start(&self) -> f64 {
        self.path().start
    }

    /// What the latents are multiplied with before the network sees them at a step.
    fn input_scale(&self, step: usize) -> f64 {
        let path = self.path();
        if path.scales_input { path.mixes[step].spread.hypot(1.0).recip() } else { 1.0 }
    }

    /// The clean latents that a prediction stands for, into `clean`: what previews show.
    fn clean(&self, step: usize, latents: &[f32], predicted: &[f32], clean: &mut [f32]) {
        for ((clean, latent), output) in clean.iter_mut().zip(latents).zip(predicted) {
            *clean = self.path().clean(step, f64::from(*latent), f64::from(*output)) as f32;
        }
    }

    /// The latents of a given picture under `noise` (of unit variance) as they stand before a step: where image to image begins,
    /// and what inpainting keeps of the picture between steps. After the last step ([`Sampler::steps`]) it is the picture itself.
    fn noised(&self, step: usize, clean: &[f32], noise: &[f32]) -> Vec<f32> {
        let Mix { signal, spread } = self.path().mixes.get(step).copied().unwrap_or(Mix::CLEAN);
        let mixed = |(clean, noise): (&f32, &f32)| (signal * f64::from(*clean) + spread * f64::from(*noise)) as f32;
        clean.iter().zip(noise).map(mixed).collect()
    }
}

/// How many of `steps` a strength leaves out; what is asked of is rounded down, as diffusers does.
fn left_out(steps: usize, strength: f64) -> usize {
    let kept = (steps as f64 * strength.clamp(0.0, 1.0)) as usize;
    steps - kept.min(steps)
}

/// What is known of a sampler before a run: its names and how to begin.
#[derive(Clone, Copy, Debug)]
pub struct SamplerKind {
    /// Our name, as requests and lists give it.
    pub name: &'static str,
    /// The name people know from the form in which it is written into the picture's metadata.
    pub label: &'static str,
    /// The diffusers class that defines the numbers.
    pub class_name: &'static str,
    /// Other names, without case, blanks and punctuation.
    pub aliases: &'static [&'static str],
    /// The noise it solves; models of the other kind never meet it.
    pub solves: Solves,
    /// Whether the solver can walk another curve than the trained one.
    pub takes_curves: bool,
    /// The spacings it can walk; the first is meant where the model's own description gives none of them.
    pub spacings: &'static [Spacing],
    /// Whether a model whose own class is `class_name` means this solver; some classes are several.
    pub means: fn(&NoiseConfig) -> bool,
    /// Begins a run of so many steps over a curve.
    pub begin: fn(&Schedule, &Walk) -> Result<Box<dyn Sampler>>,
}

/// The two kinds of noise that models are trained on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Solves {
    /// Betas over trained steps ([`Schedule::timesteps`], [`Schedule::sigmas`]).
    Diffusion,
    /// A flow ([`crate::schedule::FlowNoise`]).
    Flow,
}

/// The walk asked of a sampler. A family takes [`Choice::walk`] and adds what only it knows.
#[derive(Clone, Debug, PartialEq)]
pub struct Walk {
    /// Number of steps.
    pub steps: usize,
    /// How the visited timesteps are spread.
    pub spacing: Spacing,
    /// How the noise falls between the ends.
    pub curve: Curve,
    /// How much noise DDIM adds at each step (0 none, 1 as much as DDPM), and how far TCD goes beyond each level. The others take
    /// no notice.
    pub eta: f64,
    /// The dynamic shift of a flow, for the size of this picture.
    pub mu: Option<f64>,
    /// A family's own levels for a flow, noisiest first, one for each step, before any shift.
    pub levels: Option<Vec<f64>>,
}

/// A sampler and the schedule it is to walk, settled from names and the model's own description.
#[derive(Clone, Copy, Debug)]
pub struct Choice {
    /// The solver.
    pub kind: &'static SamplerKind,
    /// How the visited timesteps are spread.
    pub spacing: Spacing,
    /// How the noise falls between the ends.
    pub curve: Curve,
    /// Whether the model asks for a solver that is not here, and this one stands in for it.
    pub stands_in: bool,
}

impl Choice {
    /// Begins a run.
    ///
    /// # Errors
    /// [`Error::Noise`] when the number of steps is not possible.
    pub fn begin(&self, schedule: &Schedule, steps: usize, eta: f64) -> Result<Box<dyn Sampler>> {
        self.begin_walk(schedule, &Walk { eta, ..self.walk(steps) })
    }

    /// The walk of so many steps, without what a family adds.
    #[must_use]
    pub fn walk(&self, steps: usize) -> Walk {
        Walk { steps, spacing: self.spacing, curve: self.curve, eta: 0.0, mu: None, levels: None }
    }

    /// Begins a run over a walk that a family completed.
    ///
    /// # Errors
    /// [`Error::Noise`] when the number of steps or the levels are not possible.
    pub fn begin_walk(&self, schedule: &Schedule, walk: &Walk) -> Result<Box<dyn Sampler>> {
        (self.kind.begin)(schedule, walk)
    }

    /// The name of the curve, as the metadata gives it.
    #[must_use]
    pub fn schedule_label(&self) -> &'static str {
        names::curve_label(self.curve)
    }
}

/// The levels of a run in sigmas, and where it starts.
fn levels(schedule: &Schedule, walk: &Walk) -> Result<(Levels, f64)> {
    let timesteps = schedule.timesteps(walk.steps, walk.spacing)?;
    let levels = schedule.sigmas(&timesteps, walk.curve);
    let start = levels.start(walk.spacing);
    Ok((levels, start))
}

/// [`levels`] of solvers that end without noise, whatever the model says of another's end.
fn levels_to_clean(schedule: &Schedule, walk: &Walk) -> Result<(Levels, f64)> {
    let (mut levels, start) = levels(schedule, walk)?;
    if let Some(end) = levels.sigmas.last_mut() {
        *end = 0.0;
    }
    Ok((levels, start))
}

/// The timesteps of a run among those that a model was distilled on, the noisiest first.
fn distilled_timesteps(schedule: &Schedule, steps: usize) -> Result<Vec<f64>> {
    let config = schedule.config();
    let original = config.solver.original_steps;
    if original == 0 || original > config.train_steps {
        let reason = format!("original_inference_steps is {original}, and must be from 1 to {}", config.train_steps);
        return Err(Error::Noise(reason));
    }
    if steps == 0 || steps > original {
        return Err(Error::Noise(format!("steps is {steps}, and must be from 1 to {original}")));
    }
    let (stride, share) = (config.train_steps / original, original as f64 / steps as f64);
    let pick = |index: usize| original - (index as f64 * share).floor() as usize;
    Ok((0..steps).map(|index| (pick(index) * stride - 1) as f64).collect())
}
