//! Euler's method on the probability-flow equation (Karras et al. 2022, algorithm 2 without churn).
//!
//! Defined by diffusers' `EulerDiscreteScheduler`.

use super::{EVERY_SPACING_FROM_LINSPACE, Path, Sampler, SamplerKind, Solves, Walk, levels};
use crate::error::Result;
use crate::schedule::Schedule;

pub(super) const KIND: SamplerKind = SamplerKind {
    name: "euler",
    label: "Euler",
    class_name: "EulerDiscreteScheduler",
    aliases: &["euler"],
    solves: Solves::Diffusion,
    takes_curves: true,
    spacings: EVERY_SPACING_FROM_LINSPACE,
    means: |_| true,
    begin,
};

struct Euler {
    path: Path,
    sigmas: Vec<f64>,
}

fn begin(schedule: &Schedule, walk: &Walk) -> Result<Box<dyn Sampler>> {
    let (levels, start) = levels(schedule, walk)?;
    let path = Path::of_sigmas(schedule, &levels, start);
    Ok(Box::new(Euler { path, sigmas: levels.sigmas }))
}

impl Sampler for Euler {
    fn path(&self) -> &Path {
        &self.path
    }

    fn step(&mut self, step: usize, latents: &mut [f32], predicted: &[f32], _noise: &mut dyn FnMut(usize) -> Vec<f32>) {
        let (sigma, next) = (self.sigmas[step], self.sigmas[step + 1]);
        for (latent, output) in latents.iter_mut().zip(predicted) {
            let x = f64::from(*latent);
            let slope = (x - self.path.clean(step, x, f64::from(*output))) / sigma;
            *latent = (x + slope * (next - sigma)) as f32;
        }
    }
}
