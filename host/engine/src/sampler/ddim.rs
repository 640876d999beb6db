//! DDIM (Song et al. 2020): a walk over timesteps, deterministic unless `eta` asks for noise.
//!
//! Defined by diffusers' `DDIMScheduler`.

use super::{Sampler, SamplerKind, Walk};
use crate::error::Result;
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
    eta: f64,
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
    Ok(Box::new(Ddim { prediction: config.prediction, clip: config.clip_sample, eta: walk.eta, timesteps, alphas }))
}

impl Ddim {
    fn clean_one(&self, alpha: f64, latent: f64, predicted: f64) -> f64 {
        let (signal, spread) = (alpha.sqrt(), (1.0 - alpha).sqrt());
        let clean = match self.prediction {
            Prediction::Epsilon => (latent - spread * predicted) / signal,
            Prediction::Velocity => signal * latent - spread * predicted,
            Prediction::Sample => predicted,
        };
        self.clip.map_or(clean, |bound| clean.clamp(-bound, bound))
    }
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

    fn clean(&self, step: usize, latents: &[f32], predicted: &[f32], clean: &mut [f32]) {
        let (alpha, _) = self.alphas[step];
        for ((clean, latent), output) in clean.iter_mut().zip(latents).zip(predicted) {
            *clean = self.clean_one(alpha, f64::from(*latent), f64::from(*output)) as f32;
        }
    }

    fn step(&mut self, step: usize, latents: &mut [f32], predicted: &[f32], noise: &mut dyn FnMut(usize) -> Vec<f32>) {
        let (alpha, next) = self.alphas[step];
        let (signal, spread) = (alpha.sqrt(), (1.0 - alpha).sqrt());
        let added = self.eta * ((1.0 - next) / (1.0 - alpha) * (1.0 - alpha / next)).max(0.0).sqrt();
        let (next_signal, next_spread) = (next.sqrt(), (1.0 - next - added * added).max(0.0).sqrt());
        let fresh = if self.eta > 0.0 { noise(latents.len()) } else { Vec::new() };
        for (index, (latent, output)) in latents.iter_mut().zip(predicted).enumerate() {
            let (x, y) = (f64::from(*latent), f64::from(*output));
            let clean = self.clean_one(alpha, x, y);
            let epsilon = match self.prediction {
                Prediction::Epsilon => y,
                Prediction::Velocity => signal * y + spread * x,
                Prediction::Sample => (x - signal * y) / spread,
            };
            let fresh = fresh.get(index).copied().map_or(0.0, f64::from);
            *latent = (next_signal * clean + next_spread * epsilon + added * fresh) as f32;
        }
    }
}
