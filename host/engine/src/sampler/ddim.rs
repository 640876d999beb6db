//! DDIM (Song et al. 2020) without added noise: a deterministic walk over timesteps.
//!
//! Defined by diffusers' `DDIMScheduler` with `eta = 0`.

use super::{Sampler, SamplerKind, Walk};
use crate::error::Result;
use crate::rng::TorchGenerator;
use crate::schedule::{Prediction, Schedule, Spacing};

pub(super) const KIND: SamplerKind = SamplerKind {
    name: "ddim",
    label: "DDIM",
    class_name: "DDIMScheduler",
    aliases: &["ddim"],
    takes_curves: false,
    default_spacing: Spacing::Leading,
    begin,
};

struct Ddim {
    prediction: Prediction,
    clip: Option<f64>,
    timesteps: Vec<f64>,
    /// The share of signal before and after each step.
    alphas: Vec<(f64, f64)>,
}

fn begin(schedule: &Schedule, walk: &Walk) -> Result<Box<dyn Sampler>> {
    let timesteps: Vec<f64> =
        schedule.timesteps(walk.steps, walk.spacing)?.into_iter().map(f64::round_ties_even).collect();
    let stride = (schedule.config().train_steps / walk.steps) as i64;
    let alphas = timesteps
        .iter()
        .map(|timestep| {
            let step = *timestep as i64;
            (schedule.alpha(step), schedule.alpha(step - stride))
        })
        .collect();
    let config = schedule.config();
    Ok(Box::new(Ddim { prediction: config.prediction, clip: config.clip_sample, timesteps, alphas }))
}

impl Sampler for Ddim {
    fn steps(&self) -> usize {
        self.timesteps.len()
    }

    fn timestep(&self, step: usize) -> f64 {
        self.timesteps[step]
    }

    fn start(&self) -> f64 {
        1.0
    }

    fn input_scale(&self, _step: usize) -> f64 {
        1.0
    }

    fn step(&mut self, step: usize, latents: &mut [f32], predicted: &[f32], _noise: &mut TorchGenerator) {
        let (alpha, next) = self.alphas[step];
        let (signal, noise) = (alpha.sqrt(), (1.0 - alpha).sqrt());
        let (next_signal, next_noise) = (next.sqrt(), (1.0 - next).sqrt());
        for (latent, output) in latents.iter_mut().zip(predicted) {
            let (x, y) = (f64::from(*latent), f64::from(*output));
            let (mut clean, epsilon) = match self.prediction {
                Prediction::Epsilon => ((x - noise * y) / signal, y),
                Prediction::Velocity => (signal * x - noise * y, signal * y + noise * x),
                Prediction::Sample => (y, (x - signal * y) / noise),
            };
            if let Some(bound) = self.clip {
                clean = clean.clamp(-bound, bound);
            }
            *latent = (next_signal * clean + next_noise * epsilon) as f32;
        }
    }
}
