//! DDPM (Ho et al. 2020): back along the chain that the noise was added by, with fresh noise at each step but the last.
//!
//! Defined by diffusers' `DDPMScheduler`, with the variance fixed.

use super::{EVERY_SPACING, Mix, Path, Sampler, SamplerKind, Solves, Walk};
use crate::error::Result;
use crate::schedule::Schedule;

pub(super) const KIND: SamplerKind = SamplerKind {
    name: "ddpm",
    label: "DDPM",
    class_name: "DDPMScheduler",
    aliases: &[],
    solves: Solves::Diffusion,
    takes_curves: false,
    spacings: EVERY_SPACING,
    means: |_| true,
    begin,
};

struct Ddpm {
    path: Path,
    /// The share of signal before and after each step.
    alphas: Vec<(f64, f64)>,
    is_large_variance: bool,
}

fn begin(schedule: &Schedule, walk: &Walk) -> Result<Box<dyn Sampler>> {
    let config = schedule.config();
    let timesteps: Vec<f64> =
        schedule.timesteps(walk.steps, walk.spacing)?.into_iter().map(f64::round_ties_even).collect();
    let after = timesteps.iter().skip(1).map(|step| schedule.alpha(*step as i64)).chain([1.0]);
    let alphas: Vec<(f64, f64)> = timesteps.iter().map(|step| schedule.alpha(*step as i64)).zip(after).collect();
    let path = Path {
        mixes: alphas.iter().map(|(alpha, _)| Mix::of_alpha(*alpha)).collect(),
        timesteps,
        start: 1.0,
        scales_input: false,
        prediction: config.prediction,
        clip: config.clip_sample,
    };
    Ok(Box::new(Ddpm { path, alphas, is_large_variance: config.solver.is_large_variance }))
}

impl Sampler for Ddpm {
    fn path(&self) -> &Path {
        &self.path
    }

    fn step(&mut self, step: usize, latents: &mut [f32], predicted: &[f32], noise: &mut dyn FnMut(usize) -> Vec<f32>) {
        let (alpha, next) = self.alphas[step];
        let kept = alpha / next;
        let clean_weight = next.sqrt() * (1.0 - kept) / (1.0 - alpha);
        let latent_weight = kept.sqrt() * (1.0 - next) / (1.0 - alpha);
        let variance =
            if self.is_large_variance { 1.0 - kept } else { ((1.0 - next) / (1.0 - alpha) * (1.0 - kept)).max(1e-20) };
        // The chain's first step is the only one that no noise follows.
        let fresh = if self.path.timesteps[step] > 0.0 { noise(latents.len()) } else { Vec::new() };
        for (index, (latent, output)) in latents.iter_mut().zip(predicted).enumerate() {
            let x = f64::from(*latent);
            let clean = self.path.clean(step, x, f64::from(*output));
            let fresh = fresh.get(index).copied().map_or(0.0, f64::from);
            *latent = (clean_weight * clean + latent_weight * x + variance.sqrt() * fresh) as f32;
        }
    }
}
