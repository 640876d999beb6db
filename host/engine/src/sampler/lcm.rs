//! Latent consistency (Luo et al. 2023): each step goes to the clean picture, and back to the next level with fresh noise.
//!
//! Defined by diffusers' `LCMScheduler`. For models distilled that way; the levels are picked among those of the distillation.

use super::{Mix, Path, Sampler, SamplerKind, Solves, Walk, distilled_timesteps};
use crate::error::Result;
use crate::schedule::{Schedule, Spacing};

pub(super) const KIND: SamplerKind = SamplerKind {
    name: "lcm",
    label: "LCM",
    class_name: "LCMScheduler",
    aliases: &[],
    solves: Solves::Diffusion,
    takes_curves: false,
    spacings: &[Spacing::Leading],
    means: |_| true,
    begin,
};

struct Lcm {
    path: Path,
    scaling: f64,
}

fn begin(schedule: &Schedule, walk: &Walk) -> Result<Box<dyn Sampler>> {
    let config = schedule.config();
    let timesteps = distilled_timesteps(schedule, walk.steps)?;
    let path = Path {
        mixes: timesteps.iter().map(|step| Mix::of_alpha(schedule.alpha(*step as i64))).collect(),
        timesteps,
        start: 1.0,
        scales_input: false,
        prediction: config.prediction,
        clip: config.clip_sample,
    };
    Ok(Box::new(Lcm { path, scaling: config.solver.timestep_scaling }))
}

impl Sampler for Lcm {
    fn path(&self) -> &Path {
        &self.path
    }

    fn step(&mut self, step: usize, latents: &mut [f32], predicted: &[f32], noise: &mut dyn FnMut(usize) -> Vec<f32>) {
        // The standard deviation of the training pictures' latents, as the paper takes it.
        const SPREAD: f64 = 0.5;
        let time = self.path.timesteps[step] * self.scaling;
        let whole = time * time + SPREAD * SPREAD;
        let (kept, taken) = (SPREAD * SPREAD / whole, time / whole.sqrt());
        let next = self.path.mixes.get(step + 1).copied();
        let fresh = next.map_or_else(Vec::new, |_| noise(latents.len()));
        let Mix { signal, spread } = next.unwrap_or(Mix::CLEAN);
        for (index, (latent, output)) in latents.iter_mut().zip(predicted).enumerate() {
            let x = f64::from(*latent);
            let denoised = taken * self.path.clean(step, x, f64::from(*output)) + kept * x;
            let fresh = fresh.get(index).copied().map_or(0.0, f64::from);
            *latent = (signal * denoised + spread * fresh) as f32;
        }
    }
}
