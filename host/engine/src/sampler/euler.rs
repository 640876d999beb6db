//! Euler's method on the probability-flow equation (Karras et al. 2022, algorithm 2 without churn).
//!
//! Defined by diffusers' `EulerDiscreteScheduler`.

use super::{Sampler, SamplerKind, Walk, all_clean, clean, levels};
use crate::error::Result;
use crate::schedule::{Levels, Prediction, Schedule, Spacing};

pub(super) const KIND: SamplerKind = SamplerKind {
    name: "euler",
    label: "Euler",
    class_name: "EulerDiscreteScheduler",
    aliases: &["euler"],
    takes_curves: true,
    default_spacing: Spacing::Linspace,
    begin,
};

struct Euler {
    prediction: Prediction,
    levels: Levels,
    start: f64,
}

fn begin(schedule: &Schedule, walk: &Walk) -> Result<Box<dyn Sampler>> {
    let (levels, start) = levels(schedule, walk)?;
    Ok(Box::new(Euler { prediction: schedule.config().prediction, levels, start }))
}

impl Sampler for Euler {
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

    fn step(&mut self, step: usize, latents: &mut [f32], predicted: &[f32], _noise: &mut dyn FnMut(usize) -> Vec<f32>) {
        let (sigma, next) = (self.levels.sigmas[step], self.levels.sigmas[step + 1]);
        for (latent, output) in latents.iter_mut().zip(predicted) {
            let x = f64::from(*latent);
            let slope = (x - clean(self.prediction, x, f64::from(*output), sigma)) / sigma;
            *latent = (x + slope * (next - sigma)) as f32;
        }
    }
}
