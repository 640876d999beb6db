//! Ancestral sampling with Euler steps: each step goes further down than needed and adds fresh noise.
//!
//! Defined by diffusers' `EulerAncestralDiscreteScheduler`; the noise goes on from the generator that drew the first latents,
//! and is drawn at the last step too, where it counts for nothing, so that the stream stays in step with diffusers.

use super::{EVERY_SPACING_FROM_LINSPACE, Path, Sampler, SamplerKind, Solves, Walk, levels};
use crate::error::Result;
use crate::schedule::Schedule;

pub(super) const KIND: SamplerKind = SamplerKind {
    name: "euler_a",
    label: "Euler a",
    class_name: "EulerAncestralDiscreteScheduler",
    aliases: &["eulerancestral"],
    solves: Solves::Diffusion,
    takes_curves: true,
    spacings: EVERY_SPACING_FROM_LINSPACE,
    means: |_| true,
    begin,
};

struct EulerAncestral {
    path: Path,
    sigmas: Vec<f64>,
}

fn begin(schedule: &Schedule, walk: &Walk) -> Result<Box<dyn Sampler>> {
    let (levels, start) = levels(schedule, walk)?;
    let path = Path::of_sigmas(schedule, &levels, start);
    Ok(Box::new(EulerAncestral { path, sigmas: levels.sigmas }))
}

impl Sampler for EulerAncestral {
    fn path(&self) -> &Path {
        &self.path
    }

    fn step(&mut self, step: usize, latents: &mut [f32], predicted: &[f32], noise: &mut dyn FnMut(usize) -> Vec<f32>) {
        let (sigma, next) = (self.sigmas[step], self.sigmas[step + 1]);
        let up = (next.powi(2) * (sigma.powi(2) - next.powi(2)) / sigma.powi(2)).max(0.0).sqrt();
        let down = (next.powi(2) - up.powi(2)).max(0.0).sqrt();
        let fresh = noise(latents.len());
        for ((latent, output), fresh) in latents.iter_mut().zip(predicted).zip(fresh) {
            let x = f64::from(*latent);
            let slope = (x - self.path.clean(step, x, f64::from(*output))) / sigma;
            *latent = (x + slope * (down - sigma) + f64::from(fresh) * up) as f32;
        }
    }
}
