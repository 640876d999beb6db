//! Levels of models trained on flows (FLUX, Z-Image, Stable Diffusion 3): a level is the share of noise, from 1 to 0.
//!
//! Such a model says how its levels are shifted towards the noise ([`FlowNoise`]); its family may say which levels are shifted,
//! and by how much for the picture at hand (`mu`). Defined by `FlowMatchEulerDiscreteScheduler` of diffusers, down to the
//! type it computes in: levels given by a family are f32 throughout, its own are f64 until they are done.

use super::curves::curved;
use super::{Curve, Levels, possible, real, single};
use crate::error::{Error, Result};

/// How a model shifts its levels.
#[derive(Clone, Debug, PartialEq)]
pub struct FlowNoise {
    /// The shift.
    pub shift: FlowShift,
    /// What the last level before the end is stretched to.
    pub terminal: Option<f64>,
    /// Whether each step goes to the clean picture and adds fresh noise.
    pub stochastic: bool,
}

/// By what levels are shifted.
#[derive(Clone, Debug, PartialEq)]
pub enum FlowShift {
    /// The same factor for all pictures.
    Static(f64),
    /// By the length of the picture, in latent tokens.
    Dynamic {
        /// Whether `mu` counts as a logarithm.
        exponential: bool,
        /// `mu` of a picture of [`Self::Dynamic::base_tokens`].
        base: f64,
        /// `mu` of a picture of [`Self::Dynamic::max_tokens`].
        max: f64,
        /// A small picture.
        base_tokens: usize,
        /// A large picture.
        max_tokens: usize,
    },
}

impl FlowNoise {
    /// `mu` of a picture of so many latent tokens, on the straight line that the model gives; none for a static shift.
    #[must_use]
    pub fn mu(&self, tokens: usize) -> Option<f64> {
        match self.shift {
            FlowShift::Static(_) => None,
            FlowShift::Dynamic { base, max, base_tokens, max_tokens, .. } => {
                let slope = (max - base) / (real(max_tokens) - real(base_tokens));
                Some(real(tokens) * slope + (base - slope * real(base_tokens)))
            }
        }
    }

    /// The levels of a run of `steps`.
    ///
    /// `given` are a family's own levels, before any shift; otherwise they are spread evenly over the trained ones. `mu` is needed
    /// where the shift is dynamic, and takes no effect where it is not.
    ///
    /// # Errors
    /// [`Error::Noise`] for a number of steps that is not possible, for another number of levels than steps, for a level outside
    /// 0..=1, and without the `mu` of a dynamic shift.
    pub fn levels(&self, train_steps: usize, steps: usize, walk: FlowWalk<'_>) -> Result<Levels> {
        possible(steps, train_steps)?;
        let in_single = walk.given.is_some();
        let keep = |value: f64| if in_single { single(value) } else { value };
        let given = match walk.given {
            Some(given) if given.len() != steps => {
                return Err(Error::Noise(format!("{} levels are given for {steps} steps", given.len())));
            }
            Some(given) => given.iter().copied().map(keep).collect(),
            None => self.even(train_steps, steps),
        };
        if let Some(level) = given.iter().find(|level| !(0.0..=1.0).contains(*level)) {
            return Err(Error::Noise(format!("a level is {level}, and must lie between 0 and 1")));
        }
        let mut sigmas = self.shifted(given, walk.mu, keep)?;
        if let (Some(terminal), Some(last)) = (self.terminal, sigmas.last().copied()) {
            let scale = keep(keep(1.0 - last) / keep(1.0 - terminal));
            for sigma in &mut sigmas {
                *sigma = keep(1.0 - keep(keep(1.0 - *sigma) / scale));
            }
        }
        if walk.curve != Curve::Trained
            && let (Some(high), Some(low)) = (sigmas.first().copied(), sigmas.last().copied())
        {
            sigmas = curved(walk.curve, high, low, steps);
        }
        let mut sigmas: Vec<f64> = sigmas.into_iter().map(single).collect();
        let timesteps = sigmas.iter().map(|sigma| single(sigma * real(train_steps))).collect();
        sigmas.push(0.0);
        Ok(Levels { timesteps, sigmas })
    }

    /// Even levels between the ends of the trained ones, which a static shift has moved already.
    fn even(&self, train_steps: usize, steps: usize) -> Vec<f64> {
        let end = |level: f64| match self.shift {
            FlowShift::Static(shift) => {
                single(single(single(shift) * level) / single(1.0 + single(single(shift - 1.0) * level)))
            }
            FlowShift::Dynamic { .. } => level,
        };
        let trained = real(train_steps);
        let (high, low) = (end(1.0) * trained, end(single(1.0 / trained)) * trained);
        let stride = (low - high) / real(steps.saturating_sub(1).max(1));
        (0..steps).map(|i| (if i > 0 && i + 1 == steps { low } else { real(i) * stride + high }) / trained).collect()
    }

    fn shifted(&self, levels: Vec<f64>, mu: Option<f64>, keep: impl Fn(f64) -> f64) -> Result<Vec<f64>> {
        Ok(match self.shift {
            FlowShift::Static(shift) => levels
                .into_iter()
                .map(|level| keep(keep(keep(shift) * level) / keep(1.0 + keep(keep(shift - 1.0) * level))))
                .collect(),
            FlowShift::Dynamic { exponential, .. } => {
                let Some(mu) = mu else {
                    return Err(Error::Noise(
                        "the shift of the model is dynamic and needs the size of the picture".into(),
                    ));
                };
                let factor = keep(if exponential { mu.exp() } else { mu });
                // A level of 0 is infinitely far from 1, and stays 0.
                levels.into_iter().map(|level| keep(factor / keep(factor + keep(keep(1.0 / level) - 1.0)))).collect()
            }
        })
    }
}

/// What a family and a request say about the levels of one run.
#[derive(Clone, Copy, Debug)]
pub struct FlowWalk<'a> {
    /// The family's own levels, one for each step.
    pub given: Option<&'a [f64]>,
    /// The dynamic shift of this picture.
    pub mu: Option<f64>,
    /// How the levels fall between the ends.
    pub curve: Curve,
}

#[cfg(test)]
mod tests {
    use super::{Curve, FlowNoise, FlowShift, FlowWalk};

    const DYNAMIC: FlowNoise = FlowNoise {
        shift: FlowShift::Dynamic { exponential: true, base: 0.5, max: 1.15, base_tokens: 256, max_tokens: 4096 },
        terminal: None,
        stochastic: false,
    };

    #[test]
    fn mu_lies_on_the_line_between_the_two_sizes() {
        for (tokens, want) in [(256, 0.5), (4096, 1.15), (1024, 0.63)] {
            assert!((DYNAMIC.mu(tokens).unwrap() - want).abs() < 1e-12, "{tokens}");
        }
        assert_eq!(FlowNoise { shift: FlowShift::Static(3.0), ..DYNAMIC }.mu(256), None);
    }

    #[test]
    fn levels_that_cannot_be_are_refused_with_the_reason() {
        let walk = FlowWalk { given: None, mu: Some(1.0), curve: Curve::Trained };
        let refused = |steps, walk| DYNAMIC.levels(1000, steps, walk).unwrap_err().to_string();
        assert!(refused(0, walk).contains("from 1 to 1000"));
        assert!(refused(1001, walk).contains("from 1 to 1000"));
        assert!(refused(4, FlowWalk { mu: None, ..walk }).contains("dynamic"));
        assert!(refused(3, FlowWalk { given: Some(&[1.0, 0.5]), ..walk }).contains("2 levels are given for 3 steps"));
        assert!(refused(2, FlowWalk { given: Some(&[1.5, 0.5]), ..walk }).contains("1.5"));
        assert!(refused(2, FlowWalk { given: Some(&[f64::NAN, 0.5]), ..walk }).contains("NaN"));
    }
}
