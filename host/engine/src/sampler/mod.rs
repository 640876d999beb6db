//! Samplers: the solvers that walk a [`Schedule`] from noise to a picture.
//!
//! A sampler is one file and one line of [`SAMPLERS`]; it knows numbers only (f64 coefficients over f32 slices) and nothing
//! of tensors, devices or models, so its golden numbers are checked without any of them. Siblings never import each other.
//!
//! Names come from everywhere (diffusers classes, the labels and ids of other programs); [`choose`] reads them all
//! and refuses, with the list, those whose solver is not here.

mod ddim;
mod euler;
mod euler_ancestral;
mod flow_euler;
mod path;

use crate::error::{Error, Result};
use crate::schedule::{Curve, Levels, NoiseConfig, Schedule, Spacing};

pub use path::{Mix, Path};

/// Every sampler there is. Adding one is its file and its line here.
pub const SAMPLERS: &[SamplerKind] = &[ddim::KIND, euler::KIND, euler_ancestral::KIND, flow_euler::KIND];

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
    /// The spacing, where the model's own description gives none.
    pub default_spacing: Spacing,
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
    /// How much noise DDIM adds at each step: 0 none, 1 as much as DDPM. The others take no notice.
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
        CURVES.iter().find(|(_, curve, _)| *curve == self.curve).map_or("Automatic", |(_, _, label)| label)
    }
}

/// Settles on a sampler: what the request names, otherwise what the model names, otherwise the first of the table.
///
/// A sampler's name may carry its curve (`euler_k`, `Euler Karras`); `schedule` names a curve or a spacing on its own.
///
/// # Errors
/// [`Error::Name`] for a name that is not known, with the names that are.
pub fn choose(model: &NoiseConfig, sampler: Option<&str>, schedule: Option<&str>) -> Result<Choice> {
    let asked = sampler.filter(|name| !is_automatic(name));
    let solves = if model.flow.is_some() { Solves::Flow } else { Solves::Diffusion };
    let (kind, mut curve, stands_in) = match asked {
        Some(name) => {
            let (kind, curve) = find(name, solves).ok_or_else(|| unknown("sampler", name, &names(solves)))?;
            (kind, curve, false)
        }
        None => match find(&model.class_name, solves) {
            Some((kind, curve)) => (kind, curve, false),
            None => (first(solves), None, true),
        },
    };
    let mut spacing = model.spacing.unwrap_or(kind.default_spacing);
    if let Some(name) = schedule.filter(|name| !is_automatic(name)) {
        match (curve_of(name), spacing_of(name)) {
            (Some(named), _) => curve = Some(named),
            (None, Some(named)) => spacing = named,
            (None, None) => return Err(unknown("schedule", name, &schedule_names())),
        }
    }
    let curve = match (curve, kind.takes_curves) {
        (Some(Curve::Karras | Curve::Exponential | Curve::Beta), false) => {
            return Err(Error::Name {
                what: "schedule",
                name: schedule.or(sampler).unwrap_or_default().to_owned(),
                allowed: format!("the trained one, because the sampler {} walks timesteps", kind.name),
            });
        }
        (Some(curve), _) => curve,
        (None, true) => model.curve,
        (None, false) => Curve::Trained,
    };
    Ok(Choice { kind, spacing, curve, stands_in })
}

/// The names of all samplers for one kind of noise.
#[must_use]
pub fn names(solves: Solves) -> Vec<&'static str> {
    SAMPLERS.iter().filter(|kind| kind.solves == solves).map(|kind| kind.name).collect()
}

/// The names of all schedules: the curves, then the spacings.
#[must_use]
pub fn schedule_names() -> Vec<&'static str> {
    CURVES.iter().map(|(name, _, _)| *name).chain(SPACINGS.iter().map(|(name, _)| *name)).collect()
}

const CURVES: &[(&str, Curve, &str)] = &[
    ("trained", Curve::Trained, "Automatic"),
    ("karras", Curve::Karras, "Karras"),
    ("exponential", Curve::Exponential, "Exponential"),
    ("beta", Curve::Beta, "Beta"),
];

const SPACINGS: &[(&str, Spacing)] =
    &[("leading", Spacing::Leading), ("linspace", Spacing::Linspace), ("trailing", Spacing::Trailing)];

fn find(name: &str, solves: Solves) -> Option<(&'static SamplerKind, Option<Curve>)> {
    let plain = plain(name);
    let called = |plain: &str| SAMPLERS.iter().find(|kind| kind.solves == solves && kind.is_called(plain));
    if let Some(kind) = called(&plain) {
        return Some((kind, None));
    }
    // Some programs write `euler_k`, others `Euler Karras`.
    let suffixes =
        [("karras", Curve::Karras), ("k", Curve::Karras), ("exponential", Curve::Exponential), ("beta", Curve::Beta)];
    suffixes.iter().find_map(|(suffix, curve)| called(plain.strip_suffix(suffix)?).map(|kind| (kind, Some(*curve))))
}

/// The sampler that stands in for one that is not here.
fn first(solves: Solves) -> &'static SamplerKind {
    match solves {
        Solves::Diffusion => &ddim::KIND,
        Solves::Flow => &flow_euler::KIND,
    }
}

impl SamplerKind {
    fn is_called(&self, plain_name: &str) -> bool {
        plain(self.name) == plain_name || plain(self.class_name) == plain_name || self.aliases.contains(&plain_name)
    }
}

fn curve_of(name: &str) -> Option<Curve> {
    let plain = plain(name);
    CURVES.iter().find(|(known, _, _)| *known == plain).map(|(_, curve, _)| *curve)
}

fn spacing_of(name: &str) -> Option<Spacing> {
    let plain = plain(name);
    SPACINGS.iter().find(|(known, _)| *known == plain).map(|(_, spacing)| *spacing)
}

fn is_automatic(name: &str) -> bool {
    matches!(plain(name).as_str(), "" | "automatic" | "auto" | "default")
}

/// A name without case, blanks and punctuation, so that `Euler a`, `euler_a` and `euler-a` are one.
fn plain(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

fn unknown(what: &'static str, name: &str, allowed: &[&str]) -> Error {
    Error::Name { what, name: name.to_owned(), allowed: format!("one of {}", allowed.join(", ")) }
}

/// The levels of a run in sigmas, and where it starts.
fn levels(schedule: &Schedule, walk: &Walk) -> Result<(Levels, f64)> {
    let timesteps = schedule.timesteps(walk.steps, walk.spacing)?;
    let levels = schedule.sigmas(&timesteps, walk.curve);
    let start = levels.start(walk.spacing);
    Ok((levels, start))
}
