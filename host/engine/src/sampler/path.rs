//! The path of a run: its levels, settled before the first step, in the terms that every solver shares.
//!
//! Everything about a run that does not depend on how it is solved is answered from here: what the network is told, what the
//! first noise is multiplied with, what a prediction stands for, how a given picture is brought to a level.

use crate::schedule::{Levels, Prediction, Schedule};

/// How much of the clean picture and how much noise latents hold: `signal · picture + spread · noise`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mix {
    /// Factor of the clean picture.
    pub signal: f64,
    /// Factor of the noise.
    pub spread: f64,
}

impl Mix {
    /// No noise.
    pub(super) const CLEAN: Self = Self { signal: 1.0, spread: 0.0 };

    /// Of a share of signal (alpha-bar): the squares of both factors are 1 together.
    pub(super) fn of_alpha(alpha: f64) -> Self {
        Self { signal: alpha.sqrt(), spread: (1.0 - alpha).sqrt() }
    }

    /// The picture at full strength under noise of `sigma`.
    pub(super) fn of_sigma(sigma: f64) -> Self {
        Self { signal: 1.0, spread: sigma }
    }

    /// A flow's level: as much less picture as there is noise.
    pub(super) fn of_flow(sigma: f64) -> Self {
        Self { signal: 1.0 - sigma, spread: sigma }
    }

    /// The clean picture that a prediction stands for.
    pub(super) fn clean(self, prediction: Prediction, latent: f64, predicted: f64) -> f64 {
        let Self { signal, spread } = self;
        match prediction {
            Prediction::Epsilon => (latent - spread * predicted) / signal,
            Prediction::Velocity => {
                let whole = signal * signal + spread * spread;
                signal * latent / whole - spread / whole.sqrt() * predicted
            }
            Prediction::Sample => predicted,
            Prediction::Flow => latent - spread * predicted,
        }
    }
}

/// The levels of a run.
#[derive(Clone, Debug)]
pub struct Path {
    /// What the network is told, for each time it is asked.
    pub timesteps: Vec<f64>,
    /// What the latents hold before each of these.
    pub mixes: Vec<Mix>,
    /// The standard deviation of the noise the run starts from.
    pub start: f64,
    /// Whether the network sees latents of unit variance instead of a picture at full strength.
    pub scales_input: bool,
    /// What the network predicts.
    pub prediction: Prediction,
    /// Bound of the clean picture, if it is clipped.
    pub clip: Option<f64>,
}

impl Path {
    /// A run in sigmas, whose latents hold the picture at full strength.
    pub(super) fn of_sigmas(schedule: &Schedule, levels: &Levels, start: f64) -> Self {
        let mixes = levels.sigmas.iter().take(levels.timesteps.len()).map(|sigma| Mix::of_sigma(*sigma));
        Self {
            timesteps: levels.timesteps.clone(),
            mixes: mixes.collect(),
            start,
            scales_input: true,
            prediction: schedule.config().prediction,
            clip: None,
        }
    }

    /// The clean picture that a prediction at a step stands for.
    pub(super) fn clean(&self, step: usize, latent: f64, predicted: f64) -> f64 {
        let clean = self.mixes[step].clean(self.prediction, latent, predicted);
        self.clip.map_or(clean, |bound| clean.clamp(-bound, bound))
    }
}
