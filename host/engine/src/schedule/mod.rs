//! Noise levels: how much noise a picture holds at each step, from pure noise to none.
//!
//! A [`NoiseConfig`] is what a model says about its own training (its `scheduler_config.json`); a [`Schedule`] is that,
//! made into numbers; [`Schedule::timesteps`] and [`Schedule::sigmas`] pick the few levels that a run walks. Who walks them,
//! and how, is [`crate::sampler`]. Models trained on flows have no betas: their levels are in [`flow`].
//!
//! Pure numbers: no candle, no tensor. What diffusers holds in f32 is rounded to f32 here too, so the levels are its levels.

mod curves;
pub mod flow;

use crate::error::{Error, Result};
use curves::curved;
pub use flow::FlowNoise;

/// What the network was trained to predict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prediction {
    /// The noise that was added.
    Epsilon,
    /// The velocity: noise and picture mixed by the noise level.
    Velocity,
    /// The clean picture.
    Sample,
    /// The noise less the clean picture, both mixed evenly by the noise level (rectified flow).
    Flow,
}

/// How the visited timesteps are spread over the trained ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spacing {
    /// Every k-th step counted from the clean end.
    Leading,
    /// Evenly from the first to the last trained step, both included.
    Linspace,
    /// Every k-th step counted from the noisy end.
    Trailing,
}

/// How the noise falls between the two ends of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Curve {
    /// As the training noise falls.
    Trained,
    /// Karras et al. 2022, with rho 7: more steps where there is little noise.
    Karras,
    /// Evenly in the logarithm of the noise.
    Exponential,
    /// As the quantiles of the beta distribution with both parameters 0.6: more steps at both ends.
    Beta,
}

/// How the training noise rises over the trained steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BetaCurve {
    /// `beta` rises evenly.
    Linear,
    /// The square root of `beta` rises evenly (Stable Diffusion).
    ScaledLinear,
    /// Nichol and Dhariwal's cosine.
    SquaredCosine,
}

/// A model's own description of its noise, as its `scheduler_config.json` gives it.
#[derive(Clone, Debug, PartialEq)]
pub struct NoiseConfig {
    /// The diffusers class named by the file, for example `DDIMScheduler`.
    pub class_name: String,
    /// Number of trained steps.
    pub train_steps: usize,
    /// First beta.
    pub beta_start: f64,
    /// Last beta.
    pub beta_end: f64,
    /// How the betas run between the two.
    pub beta_curve: BetaCurve,
    /// Betas written out, which win over the three fields above.
    pub trained_betas: Option<Vec<f64>>,
    /// What the network predicts.
    pub prediction: Prediction,
    /// Spacing, if the file says so; otherwise each sampler has its own default.
    pub spacing: Option<Spacing>,
    /// Added to every timestep of the leading spacing.
    pub steps_offset: usize,
    /// Whether the last trained step is rescaled to hold no signal at all.
    pub zero_terminal_snr: bool,
    /// Whether the step before the first counts as free of noise (DDIM).
    pub set_alpha_to_one: bool,
    /// Bound of the predicted clean picture (DDIM), if it is clipped.
    pub clip_sample: Option<f64>,
    /// How the noise falls between the ends.
    pub curve: Curve,
    /// Whether a run ends at the smallest trained sigma instead of zero.
    pub ends_at_sigma_min: bool,
    /// Lowest sigma of the Karras and exponential curves, if not that of the run itself.
    pub sigma_min: Option<f64>,
    /// Highest sigma of the Karras and exponential curves, if not that of the run itself.
    pub sigma_max: Option<f64>,
    /// What a model trained on flows says instead of betas.
    pub flow: Option<FlowNoise>,
    /// What it says about its solver.
    pub solver: SolverConfig,
}

/// What a model says about how its noise is to be solved. A solver reads what concerns it.
#[derive(Clone, Debug, PartialEq)]
pub struct SolverConfig {
    /// How many predictions a solver that looks back combines, at most.
    pub order: usize,
    /// Whether it solves the stochastic equation, with fresh noise at each step (DPM-Solver++).
    pub is_stochastic: bool,
    /// Whether differences count by the trapezoid rule instead of the midpoint's (DPM-Solver++).
    pub is_heun: bool,
    /// Whether UniPC weighs its corrections by the step alone (`bh1`).
    pub is_plain: bool,
    /// Whether the last of few steps look back less; solvers have their own defaults.
    pub lower_order_final: Option<bool>,
    /// Whether the last step looks back never.
    pub euler_at_final: bool,
    /// Whether the fresh noise of DDPM is as large as the noise of the step it undoes.
    pub is_large_variance: bool,
    /// How many steps the model was distilled from (LCM, TCD).
    pub original_steps: usize,
    /// By what LCM multiplies the time.
    pub timestep_scaling: f64,
    /// The seed of the Brownian path (DPM++ SDE).
    pub noise_seed: u64,
}

/// The trained noise levels, ready to pick from.
#[derive(Clone, Debug)]
pub struct Schedule {
    config: NoiseConfig,
    alphas: Vec<f64>,
}

impl Schedule {
    /// Computes the trained levels of a model.
    ///
    /// # Errors
    /// [`Error::Noise`] when the description has no step, or a beta outside 0..1.
    pub fn new(config: NoiseConfig) -> Result<Self> {
        if config.flow.is_some() {
            return Ok(Self { config, alphas: Vec::new() });
        }
        let betas = match &config.trained_betas {
            Some(betas) => betas.iter().map(|beta| *beta as f32).collect(),
            None => betas(&config),
        };
        if betas.is_empty() {
            return Err(Error::Noise("num_train_timesteps is 0, and must be at least 1".into()));
        }
        if let Some(beta) = betas.iter().find(|beta| !(0.0..=1.0).contains(*beta)) {
            return Err(Error::Noise(format!("a beta is {beta}, and must lie between 0 and 1")));
        }
        let mut alphas = cumulated(&betas);
        if config.zero_terminal_snr {
            alphas = cumulated(&without_terminal_signal(&alphas));
        }
        let alphas = alphas.into_iter().map(f64::from).collect();
        Ok(Self { config, alphas })
    }

    /// The description this schedule was computed from.
    #[must_use]
    pub fn config(&self) -> &NoiseConfig {
        &self.config
    }

    /// The share of signal (alpha-bar) left at a trained step; before the first, what `set_alpha_to_one` says.
    #[must_use]
    pub fn alpha(&self, step: i64) -> f64 {
        match usize::try_from(step) {
            Ok(step) => self.alphas.get(step).copied().unwrap_or_else(|| self.alphas.last().copied().unwrap_or(1.0)),
            Err(_) if self.config.set_alpha_to_one => 1.0,
            Err(_) => self.alphas.first().copied().unwrap_or(1.0),
        }
    }

    /// The timesteps a run of `steps` visits, noisiest first; not necessarily whole numbers.
    ///
    /// # Errors
    /// [`Error::Noise`] when there are more steps than trained ones, or none.
    pub fn timesteps(&self, steps: usize, spacing: Spacing) -> Result<Vec<f64>> {
        let trained = self.alphas.len();
        if trained == 0 {
            return Err(Error::Noise("the model was trained on a flow, which has no timesteps to pick from".into()));
        }
        possible(steps, trained)?;
        let last = real(trained - 1);
        Ok(match spacing {
            Spacing::Linspace if steps == 1 => vec![0.0],
            Spacing::Linspace => {
                let stride = last / real(steps - 1);
                (0..steps).rev().map(|i| if i == steps - 1 { last } else { real(i) * stride }).collect()
            }
            Spacing::Leading => {
                let stride = trained / steps;
                (0..steps).rev().map(|i| real((i * stride + self.config.steps_offset).min(trained - 1))).collect()
            }
            Spacing::Trailing => {
                let stride = real(trained) / real(steps);
                (0..steps).map(|i| (real(trained) - real(i) * stride).round_ties_even() - 1.0).collect()
            }
        })
    }

    /// The timesteps of a run of `steps` as [`Schedule::timesteps`] gives them, but with the clean end counted as a step that the
    /// run leaves out, and whole: the way of the solvers in half the logarithm of signal to noise.
    ///
    /// # Errors
    /// [`Error::Noise`] when there are as many steps as trained ones or more, or none.
    pub fn inner_timesteps(&self, steps: usize, spacing: Spacing) -> Result<Vec<f64>> {
        let trained = self.alphas.len();
        possible(steps, trained.saturating_sub(1))?;
        let last = real(trained - 1);
        Ok(match spacing {
            Spacing::Linspace => {
                let stride = last / real(steps);
                (1..=steps)
                    .rev()
                    .map(|i| if i == steps { last } else { (real(i) * stride).round_ties_even() })
                    .collect()
            }
            Spacing::Leading => {
                let stride = trained / (steps + 1);
                (1..=steps).rev().map(|i| real((i * stride + self.config.steps_offset).min(trained - 1))).collect()
            }
            Spacing::Trailing => self.timesteps(steps, Spacing::Trailing)?,
        })
    }

    /// The noise levels of a run over `timesteps` and the timesteps that belong to them (a curve moves both), then the level
    /// at which the run ends.
    #[must_use]
    pub fn sigmas(&self, timesteps: &[f64], curve: Curve) -> Levels {
        let trained = self.trained_sigmas();
        let sigmas: Vec<f64> = timesteps.iter().map(|step| between(&trained, *step)).collect();
        let high = self.config.sigma_max.or(sigmas.first().copied()).unwrap_or(1.0);
        let low = self.config.sigma_min.or(sigmas.last().copied()).unwrap_or(1.0);
        let levels = self.levels(&trained, sigmas, timesteps, (curve, high, low));
        Levels { timesteps: levels.timesteps.into_iter().map(single).collect(), ..levels }
    }

    /// [`Schedule::sigmas`], but with curves that run over all trained levels instead of those between the ends of the run, and
    /// with whole timesteps: rounded for Karras, where `rounds` says so, and cut off otherwise.
    #[must_use]
    pub fn inner_sigmas(&self, timesteps: &[f64], curve: Curve, rounds: bool) -> Levels {
        let trained = self.trained_sigmas();
        let sigmas = timesteps.iter().map(|step| between(&trained, *step)).collect();
        let (high, low) = (trained.last().copied().unwrap_or(1.0), trained.first().copied().unwrap_or(1.0));
        let mut levels = self.levels(&trained, sigmas, timesteps, (curve, high, low));
        for timestep in &mut levels.timesteps {
            *timestep = if curve == Curve::Karras && rounds { timestep.round_ties_even() } else { timestep.trunc() };
        }
        levels
    }

    /// The (fractional) trained step whose noise is `sigma`.
    #[must_use]
    pub fn step_of_sigma(&self, sigma: f64) -> f64 {
        step_of(&logs(&self.trained_sigmas()), sigma)
    }

    fn trained_sigmas(&self) -> Vec<f64> {
        let mut trained: Vec<f64> = self.alphas.iter().map(|alpha| sigma(*alpha)).collect();
        if self.config.zero_terminal_snr
            && let Some(last) = trained.last_mut()
        {
            // Infinite otherwise; diffusers puts the smallest f16 here.
            *last = sigma(2f64.powi(-24));
        }
        trained
    }

    /// The levels in f32, and their timesteps in full.
    fn levels(&self, trained: &[f64], sigmas: Vec<f64>, timesteps: &[f64], curve: (Curve, f64, f64)) -> Levels {
        let (mut sigmas, mut timesteps) = (sigmas, timesteps.to_vec());
        let (curve, high, low) = curve;
        if curve != Curve::Trained {
            let logs = logs(trained);
            sigmas = curved(curve, high, low, sigmas.len());
            timesteps = sigmas.iter().map(|sigma| step_of(&logs, *sigma)).collect();
        }
        let end = if self.config.ends_at_sigma_min { trained.first().copied().unwrap_or(0.0) } else { 0.0 };
        sigmas.push(end);
        Levels { timesteps, sigmas: sigmas.into_iter().map(single).collect() }
    }
}

/// The levels one run walks: one timestep per step, and one sigma more, where it ends.
#[derive(Clone, Debug, PartialEq)]
pub struct Levels {
    /// What the network is told, per step.
    pub timesteps: Vec<f64>,
    /// The noise before each step, and after the last.
    pub sigmas: Vec<f64>,
}

impl Levels {
    /// The standard deviation of the noise a run starts from.
    #[must_use]
    pub fn start(&self, spacing: Spacing) -> f64 {
        let high = self.sigmas.iter().copied().fold(0.0, f64::max);
        match spacing {
            Spacing::Leading => high.hypot(1.0),
            Spacing::Linspace | Spacing::Trailing => high,
        }
    }
}

/// Refuses a number of steps that no walk over so many trained ones has.
fn possible(steps: usize, trained: usize) -> Result<()> {
    if steps == 0 || steps > trained {
        return Err(Error::Noise(format!("steps is {steps}, and must be from 1 to {trained}")));
    }
    Ok(())
}

fn betas(config: &NoiseConfig) -> Vec<f32> {
    match config.beta_curve {
        BetaCurve::Linear => linspace(config.beta_start, config.beta_end, config.train_steps),
        BetaCurve::ScaledLinear => linspace(config.beta_start.sqrt(), config.beta_end.sqrt(), config.train_steps)
            .into_iter()
            .map(|root| root * root)
            .collect(),
        BetaCurve::SquaredCosine => {
            let signal = |time: f64| ((time + 0.008) / 1.008 * std::f64::consts::FRAC_PI_2).cos().powi(2);
            let steps = config.train_steps as f64;
            (0..config.train_steps)
                .map(|i| (1.0 - signal((i + 1) as f64 / steps) / signal(i as f64 / steps)).min(0.999) as f32)
                .collect()
        }
    }
}

/// `torch.linspace` in f32: counted from both ends towards the middle, each value rounded once.
fn linspace(start: f64, end: f64, count: usize) -> Vec<f32> {
    let (start, end) = (start as f32, end as f32);
    if count < 2 {
        return vec![start; count];
    }
    let stride = (end - start) / (count - 1) as f32;
    (0..count)
        .map(|i| {
            if i < count / 2 { stride.mul_add(i as f32, start) } else { (-stride).mul_add((count - 1 - i) as f32, end) }
        })
        .collect()
}

/// The cumulated product of `1 - beta`; accumulated in f64 and stored in f32, as torch does.
fn cumulated(betas: &[f32]) -> Vec<f32> {
    betas
        .iter()
        .scan(1.0f64, |product, beta| {
            *product *= f64::from(1.0 - beta);
            Some(*product as f32)
        })
        .collect()
}

/// Betas whose last step holds no signal: Lin et al. 2023, algorithm 1.
fn without_terminal_signal(alphas: &[f32]) -> Vec<f32> {
    let mut roots: Vec<f32> = alphas.iter().map(|alpha| alpha.sqrt()).collect();
    let (Some(first), Some(last)) = (roots.first().copied(), roots.last().copied()) else { return Vec::new() };
    for root in &mut roots {
        *root = (*root - last) * (first / (first - last));
    }
    let squares: Vec<f32> = roots.iter().map(|root| root * root).collect();
    let ratios = squares.windows(2).map(|pair| 1.0 - pair[1] / pair[0]);
    squares.first().map(|first| 1.0 - first).into_iter().chain(ratios).collect()
}

/// In f32 throughout, as torch computes it.
fn sigma(alpha: f64) -> f64 {
    let alpha = alpha as f32;
    f64::from(((1.0 - alpha) / alpha).sqrt())
}

/// The logarithms of noise levels as NumPy keeps them, in f32: where timesteps are cut off, it shows on which side of a whole
/// number they fell.
fn logs(sigmas: &[f64]) -> Vec<f64> {
    sigmas.iter().map(|sigma| f64::from((*sigma as f32).ln())).collect()
}

/// `np.interp` over the trained steps.
fn between(table: &[f64], at: f64) -> f64 {
    let Some(last) = table.len().checked_sub(1) else { return 0.0 };
    let at = at.clamp(0.0, real(last));
    let low = (at.floor() as usize).min(last);
    let high = (low + 1).min(last);
    table[low] + (table[high] - table[low]) * (at - real(low))
}

/// The (fractional) trained step whose sigma this is.
fn step_of(logs: &[f64], sigma: f64) -> f64 {
    let log = sigma.max(1e-10).ln();
    let Some(top) = logs.len().checked_sub(2) else { return 0.0 };
    let low = logs.partition_point(|entry| *entry <= log).saturating_sub(1).min(top);
    let weight = ((logs[low] - log) / (logs[low] - logs[low + 1])).clamp(0.0, 1.0);
    (1.0 - weight) * real(low) + weight * real(low + 1)
}

fn real(count: usize) -> f64 {
    count as f64
}

/// Rounds to f32, in which diffusers keeps its levels.
fn single(value: f64) -> f64 {
    f64::from(value as f32)
}
