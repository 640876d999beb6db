//! `scheduler_config.json`: what a model says about the noise of its training.

use serde::Deserialize;
use serde_json::Value;

use super::solver::solver;
use super::{only, parse, unsupported};
use crate::checkpoint::Files;
use crate::error::{Error, Result};
use crate::schedule::flow::FlowShift;
use crate::schedule::{BetaCurve, Curve, FlowNoise, NoiseConfig, Prediction, Spacing};

/// Reads `scheduler/scheduler_config.json`.
///
/// # Errors
/// [`Error::File`], [`Error::Config`] or [`Error::Unsupported`].
pub(crate) fn noise(files: &Files) -> Result<NoiseConfig> {
    let file = "scheduler/scheduler_config.json";
    noise_from(file, &String::from_utf8_lossy(&files.read(file)?))
}

impl NoiseConfig {
    /// Makes sense of the contents of a `scheduler_config.json`.
    ///
    /// # Errors
    /// [`Error::Config`] or [`Error::Unsupported`].
    pub fn from_json(text: &str) -> Result<Self> {
        noise_from("scheduler/scheduler_config.json", text)
    }
}

fn noise_from(file: &str, text: &str) -> Result<NoiseConfig> {
    // Python writes infinities in a way that is not JSON; `lambda_min_clipped` is one in many published files.
    let value: Value = serde_json::from_str(&text.replace("-Infinity", "null"))
        .map_err(|error| Error::Config { file: file.to_owned(), reason: error.to_string() })?;
    const FIXED: &[(&str, &[&str])] = &[
        ("interpolation_type", &["\"linear\""]),
        ("thresholding", &["false"]),
        ("timestep_type", &["\"discrete\""]),
        ("use_flow_sigmas", &["false"]),
        ("invert_sigmas", &["false"]),
    ];
    only(file, &value, FIXED)?;
    let solver = solver(file, &value)?;
    let raw: RawNoise = parse(file, value)?;
    let (first, last, rise) = default_betas(&raw._class_name);
    let beta_curve = match raw.beta_schedule.as_deref().unwrap_or(rise) {
        "linear" => BetaCurve::Linear,
        "scaled_linear" => BetaCurve::ScaledLinear,
        "squaredcos_cap_v2" => BetaCurve::SquaredCosine,
        other => return Err(unsupported(file, "beta_schedule", other, "linear, scaled_linear, squaredcos_cap_v2")),
    };
    let prediction = match raw.prediction_type.as_str() {
        "epsilon" => Prediction::Epsilon,
        "v_prediction" => Prediction::Velocity,
        "sample" => Prediction::Sample,
        other => return Err(unsupported(file, "prediction_type", other, "epsilon, v_prediction, sample")),
    };
    let spacing = match raw.timestep_spacing.as_deref() {
        None => None,
        Some("leading") => Some(Spacing::Leading),
        Some("linspace") => Some(Spacing::Linspace),
        Some("trailing") => Some(Spacing::Trailing),
        Some(other) => return Err(unsupported(file, "timestep_spacing", other, "leading, linspace, trailing")),
    };
    let curves = [
        (raw.use_karras_sigmas, Curve::Karras),
        (raw.use_exponential_sigmas, Curve::Exponential),
        (raw.use_beta_sigmas, Curve::Beta),
    ];
    let mut asked = curves.iter().filter(|(is_asked, _)| is_asked.unwrap_or(false)).map(|(_, curve)| *curve);
    let curve = asked.next().unwrap_or(Curve::Trained);
    if asked.next().is_some() {
        let reason = "only one of use_karras_sigmas, use_exponential_sigmas and use_beta_sigmas can be true".to_owned();
        return Err(Error::Config { file: file.to_owned(), reason });
    }
    let flow = raw._class_name.starts_with("FlowMatch").then(|| flow(file, &raw)).transpose()?;
    let prediction = if flow.is_some() { Prediction::Flow } else { prediction };
    Ok(NoiseConfig {
        class_name: raw._class_name,
        train_steps: raw.num_train_timesteps,
        beta_start: raw.beta_start.unwrap_or(first),
        beta_end: raw.beta_end.unwrap_or(last),
        beta_curve,
        trained_betas: raw.trained_betas,
        prediction,
        spacing,
        steps_offset: raw.steps_offset,
        zero_terminal_snr: raw.rescale_betas_zero_snr,
        set_alpha_to_one: raw.set_alpha_to_one,
        clip_sample: raw.clip_sample.then_some(raw.clip_sample_range),
        curve,
        ends_at_sigma_min: raw.final_sigmas_type.as_deref() == Some("sigma_min"),
        sigma_min: raw.sigma_min,
        sigma_max: raw.sigma_max,
        flow,
        solver,
    })
}

/// What the classes for flows say; their names all begin alike.
fn flow(file: &str, raw: &RawNoise) -> Result<FlowNoise> {
    let wrong = |reason: String| Err(Error::Config { file: file.to_owned(), reason });
    let exponential = match raw.time_shift_type.as_deref() {
        None | Some("exponential") => true,
        Some("linear") => false,
        Some(other) => return Err(unsupported(file, "time_shift_type", other, "exponential, linear")),
    };
    let (base_tokens, max_tokens) = (raw.base_image_seq_len.unwrap_or(256), raw.max_image_seq_len.unwrap_or(4096));
    if raw.use_dynamic_shifting && base_tokens >= max_tokens {
        return wrong(format!(
            "base_image_seq_len is {base_tokens}, and must be less than max_image_seq_len, {max_tokens}"
        ));
    }
    let shift = raw.shift.unwrap_or(1.0);
    if !(shift > 0.0 && shift.is_finite()) {
        return wrong(format!("shift is {shift}, and must be more than 0"));
    }
    if let Some(terminal) = raw.shift_terminal.filter(|terminal| !(0.0..1.0).contains(terminal)) {
        return wrong(format!("shift_terminal is {terminal}, and must be at least 0 and less than 1"));
    }
    Ok(FlowNoise {
        shift: if raw.use_dynamic_shifting {
            let (base, max) = (raw.base_shift.unwrap_or(0.5), raw.max_shift.unwrap_or(1.15));
            FlowShift::Dynamic { exponential, base, max, base_tokens, max_tokens }
        } else {
            FlowShift::Static(shift)
        },
        // To diffusers, 0 is none.
        terminal: raw.shift_terminal.filter(|terminal| *terminal != 0.0),
        stochastic: raw.stochastic_sampling,
    })
}

#[derive(Deserialize)]
struct RawNoise {
    #[serde(default)]
    _class_name: String,
    #[serde(default = "thousand")]
    num_train_timesteps: usize,
    beta_start: Option<f64>,
    beta_end: Option<f64>,
    beta_schedule: Option<String>,
    trained_betas: Option<Vec<f64>>,
    #[serde(default = "epsilon_prediction")]
    prediction_type: String,
    timestep_spacing: Option<String>,
    #[serde(default)]
    steps_offset: usize,
    #[serde(default)]
    rescale_betas_zero_snr: bool,
    #[serde(default = "super::yes")]
    set_alpha_to_one: bool,
    #[serde(default = "super::yes")]
    clip_sample: bool,
    #[serde(default = "unit")]
    clip_sample_range: f64,
    use_karras_sigmas: Option<bool>,
    use_exponential_sigmas: Option<bool>,
    final_sigmas_type: Option<String>,
    sigma_min: Option<f64>,
    sigma_max: Option<f64>,
    use_beta_sigmas: Option<bool>,
    shift: Option<f64>,
    #[serde(default)]
    use_dynamic_shifting: bool,
    base_shift: Option<f64>,
    max_shift: Option<f64>,
    base_image_seq_len: Option<usize>,
    max_image_seq_len: Option<usize>,
    shift_terminal: Option<f64>,
    time_shift_type: Option<String>,
    #[serde(default)]
    stochastic_sampling: bool,
}

// The defaults of the diffusers class, for files that leave keys out.

/// First and last beta, and how they rise.
fn default_betas(class_name: &str) -> (f64, f64, &'static str) {
    match class_name {
        "LCMScheduler" | "TCDScheduler" => (0.000_85, 0.012, "scaled_linear"),
        "HeunDiscreteScheduler"
        | "KDPM2DiscreteScheduler"
        | "KDPM2AncestralDiscreteScheduler"
        | "DPMSolverSDEScheduler" => (0.000_85, 0.012, "linear"),
        _ => (1e-4, 0.02, "linear"),
    }
}

fn thousand() -> usize {
    1000
}

fn unit() -> f64 {
    1.0
}

fn epsilon_prediction() -> String {
    "epsilon".to_owned()
}
