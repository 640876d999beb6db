//! Trajectory consistency (Zheng et al. 2024): each step goes beyond the next level, and back to it with fresh noise.
//!
//! Defined by diffusers' `TCDScheduler`. How far beyond is `eta`: at 0 no noise is added, at 1 each step goes all the way.

use super::{Mix, Path, Sampler, SamplerKind, Solves, Walk, distilled_timesteps};
use crate::error::Result;
use crate::schedule::{Prediction, Schedule, Spacing};

pub(super) const KIND: SamplerKind = SamplerKind {
    name: "tcd",
    label: "TCD",
    class_name: "TCDScheduler",
    aliases: &[],
    solves: Solves::Diffusion,
    takes_curves: false,
    spacings: &[Spacing::Leading],
    means: |_| true,
    begin,
};

struct Tcd {
    path: Path,
    /// The share of signal at the next level and beyond it, for each step.
    targets: Vec<(f64, f64)>,
    is_noisy: bool,
}

fn begin(schedule: &Schedule, walk: &Walk) -> Result<Box<dyn Sampler>> {
    let config = schedule.config();
    let timesteps = distilled_timesteps(schedule, walk.steps)?;
    // In f32, as diffusers multiplies: it decides on which side of a whole number a product falls.
    let share = (1.0 - walk.eta) as f32;
    let beyond = |next: f64| (share * next as f32).floor() as i64;
    let target = |next: f64| (schedule.alpha(next as i64), schedule.alpha(beyond(next)));
    let targets = timesteps.iter().skip(1).copied().chain([0.0]).map(target).collect();
    let path = Path {
        mixes: timesteps.iter().map(|step| Mix::of_alpha(schedule.alpha(*step as i64))).collect(),
        timesteps,
        start: 1.0,
        scales_input: false,
        prediction: config.prediction,
        clip: None,
    };
    Ok(Box::new(Tcd { path, targets, is_noisy: walk.eta > 0.0 }))
}

impl Sampler for Tcd {
    fn path(&self) -> &Path {
        &self.path
    }

    fn step(&mut self, step: usize, latents: &mut [f32], predicted: &[f32], noise: &mut dyn FnMut(usize) -> Vec<f32>) {
        let Mix { signal, spread } = self.path.mixes[step];
        let (next, beyond) = self.targets[step];
        let target = Mix::of_alpha(beyond);
        let is_last = step + 1 == self.steps();
        let fresh = if self.is_noisy && !is_last { noise(latents.len()) } else { Vec::new() };
        for (index, (latent, output)) in latents.iter_mut().zip(predicted).enumerate() {
            let (x, y) = (f64::from(*latent), f64::from(*output));
            let clean = self.path.clean(step, x, y);
            let epsilon = match self.path.prediction {
                Prediction::Epsilon => y,
                Prediction::Velocity => signal * y + spread * x,
                Prediction::Sample | Prediction::Flow => (x - signal * clean) / spread,
            };
            let there = target.signal * clean + target.spread * epsilon;
            *latent = match fresh.get(index) {
                Some(fresh) => {
                    (next / beyond).sqrt() * there + (1.0 - next / beyond).max(0.0).sqrt() * f64::from(*fresh)
                }
                None => there,
            } as f32;
        }
    }
}
