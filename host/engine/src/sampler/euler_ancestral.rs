//! Ancestral sampling with Euler steps: each step goes further down than needed and adds fresh noise.
//!
//! Defined by diffusers' `EulerAncestralDiscreteScheduler`; the noise goes on from the generator that drew the first latents,
//! and is drawn at the last step too, where it counts for nothing, so that the stream stays in step with diffusers.

use super::{Sampler, SamplerKind, Walk, all_clean, clean, levels};
use crate::error::Result;
use crate::schedule::{Levels, Prediction, Schedule, Spacing};

pub(super) const KIND: SamplerKind = SamplerKind {
    name: "euler_a",
    label: "Euler a",
    class_name: "EulerAncestralDiscreteScheduler",
    aliases: &["eulerancestral"],
    takes_curves: true,
    default_spacing: Spacing::Linspace,
    begin,
};

struct EulerAncestral {
    prediction: Prediction,
    levels: Levels,
    start: f64,
}

fn begin(schedule: &Schedule, walk: &Walk) -> Result<Box<dyn Sampler>> {
    let (levels, start) = levels(schedule, walk)?;
    Ok(Box::new(EulerAncestral { prediction: schedule.config().prediction, levels, start }))
}

impl Sampler for EulerAncestral {
    fn steps(&self) -> usize {
        self.levels.timesteps.len()
    }

    fn timestep(&self, step: usize) -> f64 {
        self.levels.timesteps[step]
    }

    fn start(&self) -> f64 {
        self.start
    }

    fn input_scale(&self, step: usize) -> f64 {
        self.levels.sigmas[step].hypot(1.0).recip()
    }

    fn clean(&self, step: usize, latents: &[f32], predicted: &[f32], clean: &mut [f32]) {
        all_clean(self.prediction, self.levels.sigmas[step], latents, predicted, clean);
    }

    fn step(&mut self, step: usize, latents: &mut [f32], predicted: &[f32], noise: &mut dyn FnMut(usize) -> Vec<f32>) {
        let (sigma, next) = (self.levels.sigmas[step], self.levels.sigmas[step + 1]);
        let up = (next.powi(2) * (sigma.powi(2) - next.powi(2)) / sigma.powi(2)).max(0.0).sqrt();
        let down = (next.powi(2) - up.powi(2)).max(0.0).sqrt();
        let fresh = noise(latents.len());
        for ((latent, output), fresh) in latents.iter_mut().zip(predicted).zip(fresh) {
            let x = f64::from(*latent);
            let slope = (x - clean(self.prediction, x, f64::from(*output), sigma)) / sigma;
            *latent = (x + slope * (down - sigma) + f64::from(fresh) * up) as f32;
        }
    }
}
