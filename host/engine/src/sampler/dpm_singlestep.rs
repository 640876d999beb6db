//! DPM-Solver++ within one step (Lu et al. 2022): every second step repeats the one before, knowing what lies between.
//!
//! Defined by diffusers' `DPMSolverSinglestepScheduler` of second order. A run that ends without noise ends with a step of its own.

use super::{Path, Point, Rule, Sampler, SamplerKind, Solves, Walk, exponential_path};
use crate::error::Result;
use crate::schedule::{Schedule, Spacing};

pub(super) const KIND: SamplerKind = SamplerKind {
    name: "dpmpp_2s",
    label: "DPM++ 2S",
    class_name: "DPMSolverSinglestepScheduler",
    aliases: &[],
    solves: Solves::Diffusion,
    takes_curves: true,
    spacings: &[Spacing::Linspace],
    means: |_| true,
    begin,
};

struct Singlestep {
    path: Path,
    points: Vec<Point>,
    rule: Rule,
    /// Whether the last step stands alone, whatever its number.
    ends_alone: bool,
    /// The latents before the step before, and what that took for clean.
    before: Option<(Vec<f32>, Vec<f64>)>,
}

fn begin(schedule: &Schedule, walk: &Walk) -> Result<Box<dyn Sampler>> {
    let config = schedule.config();
    let (path, points) = exponential_path(schedule, walk, Spacing::Linspace, true)?;
    let ends_alone =
        config.solver.lower_order_final.unwrap_or(false) || !config.ends_at_sigma_min || !walk.steps.is_multiple_of(2);
    let rule = Rule { is_stochastic: false, is_heun: config.solver.is_heun };
    Ok(Box::new(Singlestep { path, points, rule, ends_alone, before: None }))
}

impl Sampler for Singlestep {
    fn path(&self) -> &Path {
        &self.path
    }

    fn step(&mut self, step: usize, latents: &mut [f32], predicted: &[f32], _noise: &mut dyn FnMut(usize) -> Vec<f32>) {
        let is_last = step + 2 == self.points.len();
        let repeats = step % 2 == 1 && !(is_last && self.ends_alone);
        let pairs = latents.iter().zip(predicted);
        let newest: Vec<f64> = pairs.map(|(x, y)| self.path.clean(step, f64::from(*x), f64::from(*y))).collect();
        match self.before.take().filter(|_| repeats) {
            Some((start, clean)) => {
                let weights = self.rule.weights(self.points[step - 1], self.points[step + 1], 1);
                let whole = self.points[step + 1].log - self.points[step - 1].log;
                let ratio = (self.points[step].log - self.points[step - 1].log) / whole;
                for (index, latent) in latents.iter_mut().enumerate() {
                    let difference = (newest[index] - clean[index]) / ratio;
                    *latent = (weights.latents * f64::from(start[index])
                        + weights.clean * clean[index]
                        + weights.differences[0] * difference) as f32;
                }
                self.before = Some((start, newest));
            }
            None => {
                let start = latents.to_vec();
                let weights = self.rule.weights(self.points[step], self.points[step + 1], 0);
                for (latent, clean) in latents.iter_mut().zip(&newest) {
                    *latent = (weights.latents * f64::from(*latent) + weights.clean * clean) as f32;
                }
                self.before = Some((start, newest));
            }
        }
    }
}
