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

use crate::error::{Error, Result};
use crate::schedule::{Curve, Levels, NoiseConfig, Prediction, Schedule, Spacing};

/// Every sampler there is. Adding one is its file and its line here.
pub const SAMPLERS: &[SamplerKind] = &[ddim::KIND, euler::KIND, euler_ancestral::KIND];

/// A solver in the middle of a run.
pub trait Sampler: Send {
    /// How many times the network is asked.
    fn steps(&self) -> usize;

    /// What the network is told the time is at a step.
    fn timestep(&self, step: usize) -> f64;

    /// The standard deviation of the noise the run starts from.
    fn start(&self) -> f64;

    /// What the latents are multiplied with before the network sees them at a step.
    fn input_scale(&self, step: usize) -> f64;

    /// The clean latents that a prediction stands for, into `clean`: what previews show.
    fn clean(&self, step: usize, latents: &[f32], predicted: &[f32], clean: &mut [f32]);

    /// Moves the latents one step, given what the network predicted for them. Solvers that add noise draw it from `noise`,
    /// as much as there are latents.
    fn step(&mut self, step: usize, latents: &mut [f32], predicted: &[f32], noise: &mut dyn FnMut(usize) -> Vec<f32>);
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
    /// Whether the solver can walk another curve than the trained one.
    pub takes_curves: bool,
    /// The spacing, where the model's own description gives none.
    pub default_spacing: Spacing,
    /// Begins a run of so many steps over a curve.
    pub begin: fn(&Schedule, &Walk) -> Result<Box<dyn Sampler>>,
}

/// The walk asked of a sampler.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Walk {
    /// Number of steps.
    pub steps: usize,
    /// How the visited timesteps are spread.
    pub spacing: Spacing,
    /// How the noise falls between the ends.
    pub curve: Curve,
    /// How much noise DDIM adds at each step: 0 none, 1 as much as DDPM. The others take no notice.
    pub eta: f64,
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
        (self.kind.begin)(schedule, &Walk { steps, spacing: self.spacing, curve: self.curve, eta })
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
    let (kind, mut curve, stands_in) = match asked {
        Some(name) => {
            let (kind, curve) = find(name).ok_or_else(|| unknown("sampler", name, &names()))?;
            (kind, curve, false)
        }
        None => match find(&model.class_name) {
            Some((kind, curve)) => (kind, curve, false),
            None => (&SAMPLERS[0], None, true),
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
        (Some(Curve::Karras | Curve::Exponential), false) => {
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

/// The names of all samplers.
#[must_use]
pub fn names() -> Vec<&'static str> {
    SAMPLERS.iter().map(|kind| kind.name).collect()
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
];

const SPACINGS: &[(&str, Spacing)] =
    &[("leading", Spacing::Leading), ("linspace", Spacing::Linspace), ("trailing", Spacing::Trailing)];

fn find(name: &str) -> Option<(&'static SamplerKind, Option<Curve>)> {
    let plain = plain(name);
    if let Some(kind) = SAMPLERS.iter().find(|kind| kind.is_called(&plain)) {
        return Some((kind, None));
    }
    // Some programs write `euler_k`, others `Euler Karras`.
    [("karras", Curve::Karras), ("k", Curve::Karras), ("exponential", Curve::Exponential)].iter().find_map(
        |(suffix, curve)| {
            let stem = plain.strip_suffix(suffix)?;
            SAMPLERS.iter().find(|kind| kind.is_called(stem)).map(|kind| (kind, Some(*curve)))
        },
    )
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

/// The clean picture a network's answer stands for, at noise level `sigma` of a run that scales its input.
fn clean(prediction: Prediction, latent: f64, predicted: f64, sigma: f64) -> f64 {
    match prediction {
        Prediction::Epsilon => latent - sigma * predicted,
        Prediction::Velocity => predicted * (-sigma / (sigma * sigma + 1.0).sqrt()) + latent / (sigma * sigma + 1.0),
        Prediction::Sample => predicted,
    }
}

/// [`clean`] for all latents.
fn all_clean(prediction: Prediction, sigma: f64, latents: &[f32], predicted: &[f32], clean_latents: &mut [f32]) {
    for ((clean_latent, latent), output) in clean_latents.iter_mut().zip(latents).zip(predicted) {
        *clean_latent = clean(prediction, f64::from(*latent), f64::from(*output), sigma) as f32;
    }
}

/// The levels of a run in sigmas, and where it starts.
fn levels(schedule: &Schedule, walk: &Walk) -> Result<(Levels, f64)> {
    let timesteps = schedule.timesteps(walk.steps, walk.spacing)?;
    let levels = schedule.sigmas(&timesteps, walk.curve);
    let start = levels.start(walk.spacing);
    Ok((levels, start))
}
