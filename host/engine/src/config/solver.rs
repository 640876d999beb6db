//! The part of `scheduler_config.json` that concerns the solver rather than the noise.
//!
//! Each class of diffusers reads some of these keys and no others, and each has values that its solver here cannot do: those are
//! refused by key where the class is the model's own. Where a request chooses another solver, keys that are not its own do not
//! concern it.

use serde::Deserialize;
use serde_json::Value;

use super::{only, parse, unsupported};
use crate::error::Result;
use crate::schedule::SolverConfig;

/// Keys, and what each may hold.
type Fixed = &'static [(&'static str, &'static [&'static str])];

/// What each class must hold, as JSON text, or null.
const CLASSES: &[(&str, Fixed)] = &[
    (
        "DPMSolverMultistepScheduler",
        &[
            ("algorithm_type", &["\"dpmsolver++\"", "\"sde-dpmsolver++\""]),
            ("solver_order", &["2", "3"]),
            ("use_lu_lambdas", &["false"]),
            ("lambda_min_clipped", &[]),
            ("variance_type", &[]),
        ],
    ),
    (
        "DPMSolverSinglestepScheduler",
        &[
            ("algorithm_type", &["\"dpmsolver++\""]),
            ("solver_order", &["2"]),
            ("lambda_min_clipped", &[]),
            ("variance_type", &[]),
        ],
    ),
    (
        "UniPCMultistepScheduler",
        &[
            ("solver_order", &["1", "2", "3"]),
            ("predict_x0", &["true"]),
            ("disable_corrector", &["[]"]),
            ("solver_p", &[]),
            ("lower_order_final", &["true"]),
            ("sigma_min", &[]),
            ("sigma_max", &[]),
        ],
    ),
    ("DDPMScheduler", &[("variance_type", &["\"fixed_small\"", "\"fixed_large\""])]),
    ("KDPM2DiscreteScheduler", &[("prediction_type", &["\"epsilon\"", "\"v_prediction\""])]),
    ("KDPM2AncestralDiscreteScheduler", &[("prediction_type", &["\"epsilon\"", "\"v_prediction\""])]),
    ("DPMSolverSDEScheduler", &[("prediction_type", &["\"epsilon\"", "\"v_prediction\""])]),
];

/// Reads what concerns the solver.
pub(super) fn solver(file: &str, value: &Value) -> Result<SolverConfig> {
    let class_name = value.get("_class_name").and_then(Value::as_str).unwrap_or_default();
    if let Some((_, fixed)) = CLASSES.iter().find(|(class, _)| *class == class_name) {
        only(file, value, fixed)?;
    }
    let raw: RawSolver = parse(file, value.clone())?;
    // The Runge-Kutta steps at the start are what its file asks for unless it says otherwise.
    if class_name == "PNDMScheduler" && !raw.skip_prk_steps {
        return Err(unsupported(file, "skip_prk_steps", "false", "true"));
    }
    let is_plain = match raw.solver_type.as_deref() {
        None | Some("midpoint" | "heun" | "logrho" | "bh2") => false,
        Some("bh1") => true,
        Some(other) => return Err(unsupported(file, "solver_type", other, "midpoint, heun, logrho, bh1, bh2")),
    };
    Ok(SolverConfig {
        order: raw.solver_order.unwrap_or(2),
        is_stochastic: raw.algorithm_type.as_deref().is_some_and(|name| name.starts_with("sde-")),
        is_heun: raw.solver_type.as_deref() == Some("heun"),
        is_plain,
        lower_order_final: raw.lower_order_final,
        euler_at_final: raw.euler_at_final,
        is_large_variance: raw.variance_type.as_deref() == Some("fixed_large"),
        original_steps: raw.original_inference_steps.unwrap_or(50),
        timestep_scaling: raw.timestep_scaling.unwrap_or(10.0),
        noise_seed: raw.noise_sampler_seed.unwrap_or(0),
    })
}

#[derive(Deserialize)]
struct RawSolver {
    solver_order: Option<usize>,
    algorithm_type: Option<String>,
    solver_type: Option<String>,
    lower_order_final: Option<bool>,
    #[serde(default)]
    euler_at_final: bool,
    variance_type: Option<String>,
    original_inference_steps: Option<usize>,
    timestep_scaling: Option<f64>,
    noise_sampler_seed: Option<u64>,
    #[serde(default)]
    skip_prk_steps: bool,
}
