//! Exponential integration, shared by the solvers that walk half the logarithm of signal to noise (DPM-Solver++, UniPC).
//!
//! Their latents keep unit variance; a level is given by its sigma, and the logarithm is `-ln sigma`, without bound where the
//! noise ends.

use super::{Mix, Path, Walk};
use crate::error::Result;
use crate::schedule::{Schedule, Spacing};

/// One level in the terms of these solvers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Point {
    /// How much of picture and noise the latents hold.
    pub(super) mix: Mix,
    /// Half the logarithm of signal to noise.
    pub(super) log: f64,
}

impl Point {
    fn of_sigma(sigma: f64) -> Self {
        let signal = sigma.hypot(1.0).recip();
        Self { mix: Mix { signal, spread: sigma * signal }, log: -sigma.ln() }
    }
}

/// The path of a run, and its levels with the one where it ends.
pub(super) fn exponential_path(
    schedule: &Schedule,
    walk: &Walk,
    spacing: Spacing,
    rounds: bool,
) -> Result<(Path, Vec<Point>)> {
    let timesteps = schedule.inner_timesteps(walk.steps, spacing)?;
    let levels = schedule.inner_sigmas(&timesteps, walk.curve, rounds);
    let points: Vec<Point> = levels.sigmas.iter().map(|sigma| Point::of_sigma(*sigma)).collect();
    let path = Path {
        mixes: points.iter().take(levels.timesteps.len()).map(|point| point.mix).collect(),
        timesteps: levels.timesteps,
        start: 1.0,
        scales_input: false,
        prediction: schedule.config().prediction,
        clip: None,
    };
    Ok((path, points))
}

/// How a step of DPM-Solver++ weighs what it knows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    /// Whether it solves the stochastic equation.
    pub(super) is_stochastic: bool,
    /// Whether the first difference counts by the trapezoid rule.
    pub(super) is_heun: bool,
}

/// What each part counts in a step of DPM-Solver++.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weights {
    /// The latents before the step.
    pub(super) latents: f64,
    /// The clean picture.
    pub(super) clean: f64,
    /// Its first and second difference, each in the length of this step.
    pub(super) differences: [f64; 2],
    /// Fresh noise.
    pub(super) noise: f64,
}

impl Rule {
    /// The flow of probability, by the rule of the midpoint.
    pub(super) const FLOW: Self = Self { is_stochastic: false, is_heun: false };
    /// The stochastic equation, by the rule of the midpoint.
    pub(super) const STOCHASTIC: Self = Self { is_stochastic: true, is_heun: false };

    /// The weights of the step between two levels, with so many differences.
    pub(super) fn weights(self, from: Point, to: Point, differences: usize) -> Weights {
        let length = to.log - from.log;
        // The stochastic equation goes twice as far, and half of that back.
        let far = if self.is_stochastic { 2.0 * length } else { length };
        let share = -(-far).exp_m1();
        let signal = to.mix.signal;
        let first = if self.is_heun || differences > 1 { 1.0 - share / far } else { 0.5 * share };
        Weights {
            latents: to.mix.spread / from.mix.spread * if self.is_stochastic { (-length).exp() } else { 1.0 },
            clean: signal * share,
            differences: [
                if differences > 0 { signal * first } else { 0.0 },
                if differences > 1 {
                    signal * (0.5 * if self.is_stochastic { -1.0 } else { 1.0 } + (share - far) / (far * far))
                } else {
                    0.0
                },
            ],
            noise: if self.is_stochastic { to.mix.spread * share.sqrt() } else { 0.0 },
        }
    }
}
