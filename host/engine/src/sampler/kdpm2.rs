//! DPM-Solver-2 as Karras et al. 2022 write it: a half step in the logarithm of the noise, and a whole one by the slope there.
//!
//! Defined by diffusers' `KDPM2DiscreteScheduler` and `KDPM2AncestralDiscreteScheduler`; the latter goes further down than needed
//! and adds fresh noise. The network is asked twice for each level but the last.

use super::{EVERY_SPACING_FROM_LINSPACE, Mix, Path, Sampler, SamplerKind, Solves, Walk, left_out, levels};
use crate::error::Result;
use crate::schedule::{Curve, Schedule};

pub(super) const KIND: SamplerKind = SamplerKind {
    name: "kdpm_2",
    label: "DPM2",
    class_name: "KDPM2DiscreteScheduler",
    aliases: &["dpm2"],
    solves: Solves::Diffusion,
    takes_curves: true,
    spacings: EVERY_SPACING_FROM_LINSPACE,
    means: |_| true,
    begin: |schedule, walk| begin(schedule, walk, false),
};

pub(super) const ANCESTRAL: SamplerKind = SamplerKind {
    name: "kdpm_2_a",
    label: "DPM2 a",
    class_name: "KDPM2AncestralDiscreteScheduler",
    aliases: &["dpm2a", "dpm2ancestral"],
    begin: |schedule, walk| begin(schedule, walk, true),
    ..KIND
};

struct Kdpm2 {
    path: Path,
    /// The levels, each once.
    sigmas: Vec<f64>,
    is_ancestral: bool,
    /// Where the step began whose half was taken.
    halfway: Option<Vec<f32>>,
}

/// How far a step goes down, and how much noise brings it back up to the next level.
fn ancestral(sigma: f64, next: f64) -> (f64, f64) {
    let up = (next.powi(2) * (sigma.powi(2) - next.powi(2)) / sigma.powi(2)).max(0.0).sqrt();
    ((next.powi(2) - up.powi(2)).max(0.0).sqrt(), up)
}

fn begin(schedule: &Schedule, walk: &Walk, is_ancestral: bool) -> Result<Box<dyn Sampler>> {
    let (once, start) = levels(schedule, walk)?;
    let mut path = Path::of_sigmas(schedule, &once, start);
    let times: Vec<f64> = match walk.curve {
        Curve::Karras => once.timesteps.iter().map(|step| step.round_ties_even()).collect(),
        Curve::Trained | Curve::Exponential | Curve::Beta => once.timesteps.clone(),
    };
    (path.timesteps, path.mixes) = (Vec::new(), Vec::new());
    for (index, timestep) in times.iter().enumerate() {
        let (sigma, next) = (once.sigmas[index], once.sigmas[index + 1]);
        path.timesteps.push(*timestep);
        path.mixes.push(Mix::of_sigma(sigma));
        if index + 1 < times.len() {
            let half = (sigma * if is_ancestral { ancestral(sigma, next).0 } else { next }).sqrt();
            path.timesteps.push(schedule.step_of_sigma(half));
            path.mixes.push(Mix::of_sigma(half));
        }
    }
    Ok(Box::new(Kdpm2 { path, sigmas: once.sigmas, is_ancestral, halfway: None }))
}

impl Sampler for Kdpm2 {
    fn path(&self) -> &Path {
        &self.path
    }

    fn first_step(&self, strength: f64) -> usize {
        (2 * left_out(self.sigmas.len() - 1, strength)).min(self.steps())
    }

    fn step(&mut self, step: usize, latents: &mut [f32], predicted: &[f32], noise: &mut dyn FnMut(usize) -> Vec<f32>) {
        let (sigma, next) = (self.sigmas[step / 2], self.sigmas[step / 2 + 1]);
        let here = self.path.mixes[step].spread;
        let (start, to, up) = match self.halfway.take() {
            None => {
                // The last level has no half: it ends without noise.
                let half = self.path.mixes.get(step + 1).map_or(0.0, |mix| mix.spread);
                self.halfway = Some(latents.to_vec());
                (latents.to_vec(), half, None)
            }
            Some(start) if self.is_ancestral => {
                let (down, up) = ancestral(sigma, next);
                (start, down, Some(up))
            }
            Some(start) => (start, next, None),
        };
        let fresh = if up.is_some() { noise(latents.len()) } else { Vec::new() };
        for (index, (latent, output)) in latents.iter_mut().zip(predicted).enumerate() {
            let x = f64::from(*latent);
            let slope = (x - self.path.clean(step, x, f64::from(*output))) / here;
            let fresh = fresh.get(index).copied().map_or(0.0, f64::from);
            *latent = (f64::from(start[index]) + slope * (to - sigma) + up.unwrap_or(0.0) * fresh) as f32;
        }
    }
}
