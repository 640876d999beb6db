//! DPM-Solver++ over several steps (Lu et al. 2022): each step looks back at what the ones before took for clean.
//!
//! Defined by diffusers' `DPMSolverMultistepScheduler`: two or three steps, of the flow of probability or of the stochastic
//! equation. Few steps end with a shorter look back, and a run that ends without noise ends with none.

use std::collections::VecDeque;

use super::{EVERY_SPACING_FROM_LINSPACE, Path, Point, Rule, Sampler, SamplerKind, Solves, Walk, exponential_path};
use crate::error::Result;
use crate::schedule::{BetaCurve, Schedule};

pub(super) const SECOND: SamplerKind = SamplerKind {
    name: "dpmpp_2m",
    label: "DPM++ 2M",
    class_name: "DPMSolverMultistepScheduler",
    aliases: &[],
    solves: Solves::Diffusion,
    takes_curves: true,
    spacings: EVERY_SPACING_FROM_LINSPACE,
    means: |config| config.solver.order == 2 && !config.solver.is_stochastic,
    begin: |schedule, walk| begin(schedule, walk, 2, Rule::FLOW),
};

pub(super) const SECOND_STOCHASTIC: SamplerKind = SamplerKind {
    name: "dpmpp_2m_sde",
    label: "DPM++ 2M SDE",
    means: |config| config.solver.order == 2 && config.solver.is_stochastic,
    begin: |schedule, walk| begin(schedule, walk, 2, Rule::STOCHASTIC),
    ..SECOND
};

/// The stochastic one by the trapezoid rule, whatever the model says; a model's own is found above.
pub(super) const SECOND_STOCHASTIC_HEUN: SamplerKind = SamplerKind {
    name: "dpmpp_2m_sde_heun",
    label: "DPM++ 2M SDE Heun",
    means: |_| false,
    begin: |schedule, walk| begin(schedule, walk, 2, Rule { is_heun: true, ..Rule::STOCHASTIC }),
    ..SECOND
};

pub(super) const THIRD: SamplerKind = SamplerKind {
    name: "dpmpp_3m",
    label: "DPM++ 3M",
    means: |config| config.solver.order == 3 && !config.solver.is_stochastic,
    begin: |schedule, walk| begin(schedule, walk, 3, Rule::FLOW),
    ..SECOND
};

pub(super) const THIRD_STOCHASTIC: SamplerKind = SamplerKind {
    name: "dpmpp_3m_sde",
    label: "DPM++ 3M SDE",
    means: |config| config.solver.order == 3 && config.solver.is_stochastic,
    begin: |schedule, walk| begin(schedule, walk, 3, Rule::STOCHASTIC),
    ..SECOND
};

struct Multistep {
    path: Path,
    points: Vec<Point>,
    order: usize,
    rule: Rule,
    /// Whether the last of few steps look back less.
    ends_lower: bool,
    /// Whether the last step looks back never.
    ends_alone: bool,
    /// What the last steps took for clean, the newest first.
    history: VecDeque<Vec<f64>>,
}

fn begin(schedule: &Schedule, walk: &Walk, order: usize, rule: Rule) -> Result<Box<dyn Sampler>> {
    let config = schedule.config();
    let rounds = config.beta_curve != BetaCurve::SquaredCosine;
    let (path, points) = exponential_path(schedule, walk, walk.spacing, rounds)?;
    let ends_lower = config.solver.lower_order_final.unwrap_or(true) && walk.steps < 15;
    Ok(Box::new(Multistep {
        path,
        points,
        order,
        rule: Rule { is_heun: rule.is_heun || config.solver.is_heun, ..rule },
        ends_lower,
        ends_alone: ends_lower || config.solver.euler_at_final || !config.ends_at_sigma_min,
        history: VecDeque::with_capacity(order),
    }))
}

impl Multistep {
    /// How many earlier steps this one looks back at.
    fn looks_back(&self, step: usize) -> usize {
        let left = self.points.len() - 2 - step;
        let most = match left {
            0 if self.ends_alone => 0,
            1 if self.ends_lower => 1,
            _ => self.order - 1,
        };
        most.min(self.history.len())
    }

    fn length(&self, step: usize) -> f64 {
        self.points[step + 1].log - self.points[step].log
    }
}

impl Sampler for Multistep {
    fn path(&self) -> &Path {
        &self.path
    }

    fn step(&mut self, step: usize, latents: &mut [f32], predicted: &[f32], noise: &mut dyn FnMut(usize) -> Vec<f32>) {
        let back = self.looks_back(step);
        let weights = self.rule.weights(self.points[step], self.points[step + 1], back);
        // Lengths of the steps before, in that of this one.
        let ratio = |ago: usize| self.length(step - ago) / self.length(step);
        let fresh = if self.rule.is_stochastic { noise(latents.len()) } else { Vec::new() };
        let mut clean = Vec::with_capacity(latents.len());
        for (index, (latent, output)) in latents.iter_mut().zip(predicted).enumerate() {
            let x = f64::from(*latent);
            let newest = self.path.clean(step, x, f64::from(*output));
            let past = |ago: usize| self.history[ago][index];
            let (first, second) = match back {
                0 => (0.0, 0.0),
                1 => ((newest - past(0)) / ratio(1), 0.0),
                _ => {
                    let (near, far) = (ratio(1), ratio(2));
                    let (steep, before) = ((newest - past(0)) / near, (past(0) - past(1)) / far);
                    let bend = (steep - before) / (near + far);
                    (steep + near * bend, bend)
                }
            };
            let fresh = fresh.get(index).copied().map_or(0.0, f64::from);
            let [first_weight, second_weight] = weights.differences;
            *latent = (weights.latents * x
                + weights.clean * newest
                + first_weight * first
                + second_weight * second
                + weights.noise * fresh) as f32;
            clean.push(newest);
        }
        self.history.truncate(self.order - 2);
        self.history.push_front(clean);
    }
}
