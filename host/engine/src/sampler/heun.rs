//! Heun's method (Karras et al. 2022, algorithm 1 without churn): a step is tried, and taken by the mean of both slopes.
//!
//! Defined by diffusers' `HeunDiscreteScheduler`. The network is asked twice for each level but the last.

use super::{EVERY_SPACING_FROM_LINSPACE, Path, Sampler, SamplerKind, Solves, Walk, left_out, levels};
use crate::error::Result;
use crate::schedule::{Levels, Schedule};

pub(super) const KIND: SamplerKind = SamplerKind {
    name: "heun",
    label: "Heun",
    class_name: "HeunDiscreteScheduler",
    aliases: &[],
    solves: Solves::Diffusion,
    takes_curves: true,
    spacings: EVERY_SPACING_FROM_LINSPACE,
    means: |_| true,
    begin,
};

struct Heun {
    path: Path,
    /// The levels, each once.
    sigmas: Vec<f64>,
    /// Where the step that is being tried began, and its slope there.
    tried: Option<(Vec<f32>, Vec<f64>)>,
}

fn begin(schedule: &Schedule, walk: &Walk) -> Result<Box<dyn Sampler>> {
    let (once, start) = levels(schedule, walk)?;
    let twice = |values: &[f64]| values.iter().flat_map(|x| [*x, *x]).skip(1).collect::<Vec<_>>();
    let sigmas = once.sigmas.clone();
    let levels = Levels { timesteps: twice(&once.timesteps), sigmas: twice(&once.sigmas) };
    Ok(Box::new(Heun { path: Path::of_sigmas(schedule, &levels, start), sigmas, tried: None }))
}

impl Sampler for Heun {
    fn path(&self) -> &Path {
        &self.path
    }

    fn first_step(&self, strength: f64) -> usize {
        (2 * left_out(self.sigmas.len() - 1, strength)).min(self.steps())
    }

    fn step(&mut self, step: usize, latents: &mut [f32], predicted: &[f32], _noise: &mut dyn FnMut(usize) -> Vec<f32>) {
        let (sigma, next) = (self.sigmas[step / 2], self.sigmas[step / 2 + 1]);
        let here = self.path.mixes[step].spread;
        let slopes = latents.iter().zip(predicted).map(|(latent, output)| {
            let x = f64::from(*latent);
            (x - self.path.clean(step, x, f64::from(*output))) / here
        });
        let slopes: Vec<f64> = slopes.collect();
        match self.tried.take() {
            None => {
                let start = latents.to_vec();
                for (latent, slope) in latents.iter_mut().zip(&slopes) {
                    *latent = (f64::from(*latent) + slope * (next - sigma)) as f32;
                }
                self.tried = Some((start, slopes));
            }
            Some((start, first)) => {
                for (index, latent) in latents.iter_mut().enumerate() {
                    let slope = 0.5 * (first[index] + slopes[index]);
                    *latent = (f64::from(start[index]) + slope * (next - sigma)) as f32;
                }
            }
        }
    }
}
