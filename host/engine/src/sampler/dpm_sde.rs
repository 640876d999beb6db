//! DPM++ SDE (Katherine Crowson): two ancestral half steps of second order over one Brownian path.
//!
//! Defined by diffusers' `DPMSolverSDEScheduler`. The noise is not the generator's that drew the first latents, but a path's of
//! its own (`brownian.rs`), by the seed that the model's file gives, else 0: so it is the same for every picture, and does not depend
//! on the number of steps. The network is asked twice for each level but the last.

use super::{
    BrownianPath, EVERY_SPACING_FROM_LINSPACE, Mix, Path, Sampler, SamplerKind, Solves, Walk, left_out, levels_to_clean,
};
use crate::error::Result;
use crate::schedule::Schedule;

pub(super) const KIND: SamplerKind = SamplerKind {
    name: "dpmpp_sde",
    label: "DPM++ SDE",
    class_name: "DPMSolverSDEScheduler",
    aliases: &[],
    solves: Solves::Diffusion,
    takes_curves: true,
    spacings: EVERY_SPACING_FROM_LINSPACE,
    means: |_| true,
    begin,
};

struct DpmSde {
    path: Path,
    /// The levels, each once.
    sigmas: Vec<f64>,
    brownian: BrownianPath,
    /// Where the step began whose half was taken.
    halfway: Option<Vec<f32>>,
}

fn begin(schedule: &Schedule, walk: &Walk) -> Result<Box<dyn Sampler>> {
    let (once, start) = levels_to_clean(schedule, walk)?;
    let mut path = Path::of_sigmas(schedule, &once, start);
    let times = std::mem::take(&mut path.timesteps);
    path.mixes = Vec::new();
    for (timestep, pair) in times.iter().zip(once.sigmas.windows(2)) {
        path.timesteps.push(*timestep);
        path.mixes.push(Mix::of_sigma(pair[0]));
        if path.timesteps.len() < 2 * times.len() - 1 {
            let half = (pair[0] * pair[1]).sqrt();
            path.timesteps.push(schedule.step_of_sigma(half));
            path.mixes.push(Mix::of_sigma(half));
        }
    }
    let (high, low) = once
        .sigmas
        .iter()
        .filter(|sigma| **sigma > 0.0)
        .fold((0.0f64, f64::INFINITY), |ends, sigma| (ends.0.max(*sigma), ends.1.min(*sigma)));
    let brownian = BrownianPath::new(schedule.config().solver.noise_seed, low, high);
    Ok(Box::new(DpmSde { path, sigmas: once.sigmas, brownian, halfway: None }))
}

impl DpmSde {
    /// Noise of unit variance for the way between two levels.
    fn noise(&self, sigma: f64, next: f64, count: usize) -> Vec<f32> {
        // Through the logarithm and back in f32, as diffusers hands levels on: the path is fine enough to tell.
        let there = |sigma: f64| (sigma as f32).ln().exp();
        let (from, to) = (there(sigma), there(next));
        let scale = -(from - to).abs().sqrt().recip();
        let increment = self.brownian.increment(f64::from(to), f64::from(from), count);
        increment.into_iter().map(|x| x * scale).collect()
    }
}

impl Sampler for DpmSde {
    fn path(&self) -> &Path {
        &self.path
    }

    fn first_step(&self, strength: f64) -> usize {
        (2 * left_out(self.sigmas.len() - 1, strength)).min(self.steps())
    }

    fn step(&mut self, step: usize, latents: &mut [f32], predicted: &[f32], _noise: &mut dyn FnMut(usize) -> Vec<f32>) {
        let (sigma, next) = (self.sigmas[step / 2], self.sigmas[step / 2 + 1]);
        let clean = latents.iter().zip(predicted);
        let clean: Vec<f64> = clean.map(|(x, y)| self.path.clean(step, f64::from(*x), f64::from(*y))).collect();
        let (start, to) = match self.halfway.take() {
            Some(start) => (start, next),
            None => {
                self.halfway = Some(latents.to_vec());
                (latents.to_vec(), self.path.mixes.get(step + 1).map_or(next, |mix| mix.spread))
            }
        };
        if to == 0.0 {
            latents.iter_mut().zip(&clean).for_each(|(latent, clean)| *latent = *clean as f32);
            return;
        }
        let up = (to * to * (sigma * sigma - to * to) / (sigma * sigma)).max(0.0).sqrt().min(to);
        let kept = (to * to - up * up).max(0.0).sqrt() / sigma;
        let fresh = self.noise(sigma, to, latents.len());
        for (index, latent) in latents.iter_mut().enumerate() {
            let moved = kept * f64::from(start[index]) + (1.0 - kept) * clean[index];
            *latent = (moved + up * f64::from(fresh[index])) as f32;
        }
    }
}
