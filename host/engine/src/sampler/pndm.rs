//! PNDM (Liu et al. 2022) by linear multistep alone, as Stable Diffusion uses it: up to four predictions make the next.
//!
//! Defined by diffusers' `PNDMScheduler` with `skip_prk_steps`. The first step is taken twice, the second time with the mean of
//! both predictions, so a run asks the network once more than it has steps.

use std::collections::VecDeque;

use super::{Mix, Path, Sampler, SamplerKind, Solves, Walk, left_out};
use crate::error::Result;
use crate::schedule::{Prediction, Schedule, Spacing};

pub(super) const KIND: SamplerKind = SamplerKind {
    name: "pndm",
    label: "PLMS",
    class_name: "PNDMScheduler",
    aliases: &["plms"],
    solves: Solves::Diffusion,
    takes_curves: false,
    spacings: &[Spacing::Leading, Spacing::Linspace, Spacing::Trailing],
    means: |_| true,
    begin,
};

struct Pndm {
    path: Path,
    steps: usize,
    /// The share of signal of a step, by its timestep.
    schedule: Schedule,
    stride: i64,
    asked: usize,
    /// The latents that the first step is taken from again.
    first: Vec<f32>,
    /// The last predictions, the newest first.
    history: VecDeque<Vec<f64>>,
}

fn begin(schedule: &Schedule, walk: &Walk) -> Result<Box<dyn Sampler>> {
    let config = schedule.config();
    let mut timesteps: Vec<f64> =
        schedule.timesteps(walk.steps, walk.spacing)?.into_iter().map(f64::round_ties_even).collect();
    if let Some(second) = timesteps.get(1).copied() {
        timesteps.insert(1, second);
    }
    let path = Path {
        mixes: timesteps.iter().map(|step| Mix::of_alpha(schedule.alpha(*step as i64))).collect(),
        timesteps,
        start: 1.0,
        scales_input: false,
        prediction: config.prediction,
        clip: None,
    };
    Ok(Box::new(Pndm {
        path,
        steps: walk.steps,
        schedule: schedule.clone(),
        stride: (config.train_steps / walk.steps) as i64,
        asked: 0,
        first: Vec::new(),
        history: VecDeque::with_capacity(4),
    }))
}

impl Sampler for Pndm {
    fn path(&self) -> &Path {
        &self.path
    }

    /// Counted without the step that is taken twice.
    fn first_step(&self, strength: f64) -> usize {
        match left_out(self.steps, strength) {
            all if all == self.steps => self.steps(),
            some => some,
        }
    }

    fn step(&mut self, step: usize, latents: &mut [f32], predicted: &[f32], _noise: &mut dyn FnMut(usize) -> Vec<f32>) {
        let timestep = self.path.timesteps[step] as i64;
        let newest: Vec<f64> = predicted.iter().map(|x| f64::from(*x)).collect();
        // The weights are those of Adams and Bashforth.
        let (from, to, weights): (i64, i64, &[f64]) = match (self.asked, self.history.len()) {
            (1, _) => (timestep + self.stride, timestep, &[0.5, 0.5]),
            (_, 0) => (timestep, timestep - self.stride, &[1.0]),
            (_, 1) => (timestep, timestep - self.stride, &[1.5, -0.5]),
            (_, 2) => (timestep, timestep - self.stride, &[23.0 / 12.0, -16.0 / 12.0, 5.0 / 12.0]),
            _ => (timestep, timestep - self.stride, &[55.0 / 24.0, -59.0 / 24.0, 37.0 / 24.0, -9.0 / 24.0]),
        };
        match self.asked {
            0 => self.first = latents.to_vec(),
            1 => latents.copy_from_slice(&self.first),
            _ => self.first = Vec::new(),
        }
        let (alpha, next) = (self.schedule.alpha(from), self.schedule.alpha(to));
        let scale = (next / alpha).sqrt();
        let bottom = alpha * (1.0 - next).sqrt() + (alpha * (1.0 - alpha) * next).sqrt();
        for (index, latent) in latents.iter_mut().enumerate() {
            let x = f64::from(*latent);
            let past = self.history.iter().map(|predicted| predicted[index]);
            let combined: f64 = std::iter::once(newest[index]).chain(past).zip(weights).map(|(y, w)| y * w).sum();
            let epsilon = match self.path.prediction {
                Prediction::Velocity => alpha.sqrt() * combined + (1.0 - alpha).sqrt() * x,
                Prediction::Sample => (x - alpha.sqrt() * combined) / (1.0 - alpha).sqrt(),
                Prediction::Epsilon | Prediction::Flow => combined,
            };
            *latent = (scale * x - (next - alpha) * epsilon / bottom) as f32;
        }
        if self.asked != 1 {
            self.history.truncate(3);
            self.history.push_front(newest);
        }
        self.asked += 1;
    }
}
