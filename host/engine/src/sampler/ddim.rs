//! DDIM (Song et al. 2020): a walk over timesteps, deterministic unless `eta` asks for noise.
//!
//! Defined by diffusers' `DDIMScheduler`.

use super::{EVERY_SPACING, Mix, Path, Sampler, SamplerKind, Solves, Walk};
use crate::error::Result;
use crate::schedule::{Prediction, Schedule};

pub(super) const KIND: SamplerKind = SamplerKind {
    name: "ddim",
    label: "DDIM",
    class_name: "DDIMScheduler",
    aliases: &["ddim"],
    solves: Solves::Diffusion,
    takes_curves: false,
    spacings: EVERY_SPACING,
    means: |_| true,
    begin,
};

struct Ddim {
    path: Path,
    eta: f64,
    /// The share of signal before and after each step.
    alphas: Vec<(f64, f64)>,
}

fn begin(schedule: &Schedule, walk: &Walk) -> Result<Box<dyn Sampler>> {
    let timesteps: Vec<f64> =
        schedule.timesteps(walk.steps, walk.spacing)?.into_iter().map(f64::round_ties_even).collect();
    let stride = (schedule.config().train_steps / walk.steps) as i64;
    let alphas: Vec<(f64, f64)> = timesteps
        .iter()
        .map(|timestep| {
            let step = *timestep as i64;
            (schedule.alpha(step), schedule.alpha(step - stride))
        })
        .collect();
    let config = schedule.config();
    let path = Path {
        mixes: alphas.iter().map(|(alpha, _)| Mix::of_alpha(*alpha)).collect(),
        timesteps,
        start: 1.0,
        scales_input: false,
        prediction: config.prediction,
        clip: config.clip_sample,
    };
    Ok(Box::new(Ddim { path, eta: walk.eta, alphas }))
}

impl Sampler for Ddim {
    fn path(&self) -> &Path {
        &self.path
    }

    fn step(&mut self, step: usize, latents: &mut [f32], predicted: &[f32], noise: &mut dyn FnMut(usize) -> Vec<f32>) {
        let (alpha, next) = self.alphas[step];
        let (signal, spread) = (alpha.sqrt(), (1.0 - alpha).sqrt());
        let added = self.eta * ((1.0 - next) / (1.0 - alpha) * (1.0 - alpha / next)).max(0.0).sqrt();
        let (next_signal, next_spread) = (next.sqrt(), (1.0 - next - added * added).max(0.0).sqrt());
        let fresh = if self.eta > 0.0 { noise(latents.len()) } else { Vec::new() };
        for (index, (latent, output)) in latents.iter_mut().zip(predicted).enumerate() {
            let (x, y) = (f64::from(*latent), f64::from(*output));
            let clean = self.path.clean(step, x, y);
            let epsilon = match self.path.prediction {
                Prediction::Epsilon => y,
                Prediction::Velocity => signal * y + spread * x,
                Prediction::Sample | Prediction::Flow => (x - signal * clean) / spread,
            };
            let fresh = fresh.get(index).copied().map_or(0.0, f64::from);
            *latent = (next_signal * clean + next_spread * epsilon + added * fresh) as f32;
        }
    }
}
