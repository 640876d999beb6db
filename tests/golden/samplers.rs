//! The names of samplers and schedules, as diffusers, InvokeAI, AUTOMATIC1111 and ComfyUI write them.

use easel_engine::sampler;
use easel_engine::schedule::{Curve, NoiseConfig, Spacing};

/// What other solvers are called, by whom, and that they are not here.
const REFUSED: &[&str] = &[
    // InvokeAI
    "deis",
    "deis_k",
    "er_sde",
    // AUTOMATIC1111
    "DPM++ 2S a",
    "DPM++ 2S a Karras",
    "DPM fast",
    "DPM adaptive",
    "Restart",
    "DDIM CFG++",
    // ComfyUI
    "heunpp2",
    "dpm_fast",
    "dpmpp_2s_ancestral",
    "euler_cfg_pp",
    "ipndm",
    "res_multistep",
    "er_sde",
    // diffusers
    "DEISMultistepScheduler",
    "EDMEulerScheduler",
    "FlowMatchEulerDiscreteScheduler",
    "SASolverScheduler",
    // and nobody
    "k",
    "no such thing",
];

/// Names, what they mean here, and the curve they carry.
const NAMES: &[(&str, &str, Curve)] = &[
    // diffusers
    ("DDIMScheduler", "ddim", Curve::Trained),
    ("DDPMScheduler", "ddpm", Curve::Trained),
    ("PNDMScheduler", "pndm", Curve::Trained),
    ("EulerDiscreteScheduler", "euler", Curve::Trained),
    ("EulerAncestralDiscreteScheduler", "euler_a", Curve::Trained),
    ("HeunDiscreteScheduler", "heun", Curve::Trained),
    ("LMSDiscreteScheduler", "lms", Curve::Trained),
    ("KDPM2DiscreteScheduler", "kdpm_2", Curve::Trained),
    ("KDPM2AncestralDiscreteScheduler", "kdpm_2_a", Curve::Trained),
    ("DPMSolverMultistepScheduler", "dpmpp_2m", Curve::Trained),
    ("DPMSolverSinglestepScheduler", "dpmpp_2s", Curve::Trained),
    ("DPMSolverSDEScheduler", "dpmpp_sde", Curve::Trained),
    ("UniPCMultistepScheduler", "unipc", Curve::Trained),
    ("LCMScheduler", "lcm", Curve::Trained),
    ("TCDScheduler", "tcd", Curve::Trained),
    // InvokeAI
    ("ddim", "ddim", Curve::Trained),
    ("ddpm", "ddpm", Curve::Trained),
    ("lms", "lms", Curve::Trained),
    ("lms_k", "lms", Curve::Karras),
    ("pndm", "pndm", Curve::Trained),
    ("heun", "heun", Curve::Trained),
    ("heun_k", "heun", Curve::Karras),
    ("euler", "euler", Curve::Trained),
    ("euler_k", "euler", Curve::Karras),
    ("euler_a", "euler_a", Curve::Trained),
    ("kdpm_2", "kdpm_2", Curve::Trained),
    ("kdpm_2_k", "kdpm_2", Curve::Karras),
    ("kdpm_2_a", "kdpm_2_a", Curve::Trained),
    ("kdpm_2_a_k", "kdpm_2_a", Curve::Karras),
    ("dpmpp_2s", "dpmpp_2s", Curve::Trained),
    ("dpmpp_2s_k", "dpmpp_2s", Curve::Karras),
    ("dpmpp_2m", "dpmpp_2m", Curve::Trained),
    ("dpmpp_2m_k", "dpmpp_2m", Curve::Karras),
    ("dpmpp_2m_sde", "dpmpp_2m_sde", Curve::Trained),
    ("dpmpp_2m_sde_k", "dpmpp_2m_sde", Curve::Karras),
    ("dpmpp_3m", "dpmpp_3m", Curve::Trained),
    ("dpmpp_3m_k", "dpmpp_3m", Curve::Karras),
    ("dpmpp_sde", "dpmpp_sde", Curve::Trained),
    ("dpmpp_sde_k", "dpmpp_sde", Curve::Karras),
    ("unipc", "unipc", Curve::Trained),
    ("unipc_k", "unipc", Curve::Karras),
    ("lcm", "lcm", Curve::Trained),
    ("tcd", "tcd", Curve::Trained),
    // AUTOMATIC1111, with and without the curve, and its aliases
    ("DPM++ 2M", "dpmpp_2m", Curve::Trained),
    ("DPM++ 2M Karras", "dpmpp_2m", Curve::Karras),
    ("k_dpmpp_2m", "dpmpp_2m", Curve::Trained),
    ("k_dpmpp_2m_ka", "dpmpp_2m", Curve::Karras),
    ("DPM++ SDE", "dpmpp_sde", Curve::Trained),
    ("DPM++ SDE Karras", "dpmpp_sde", Curve::Karras),
    ("DPM++ 2M SDE", "dpmpp_2m_sde", Curve::Trained),
    ("DPM++ 2M SDE Karras", "dpmpp_2m_sde", Curve::Karras),
    ("DPM++ 2M SDE Exponential", "dpmpp_2m_sde", Curve::Exponential),
    ("DPM++ 2M SDE Heun", "dpmpp_2m_sde_heun", Curve::Trained),
    ("DPM++ 2M SDE Heun Karras", "dpmpp_2m_sde_heun", Curve::Karras),
    ("DPM++ 3M SDE", "dpmpp_3m_sde", Curve::Trained),
    ("DPM++ 3M SDE Exponential", "dpmpp_3m_sde", Curve::Exponential),
    ("Euler a", "euler_a", Curve::Trained),
    ("k_euler_a", "euler_a", Curve::Trained),
    ("k_euler_ancestral", "euler_a", Curve::Trained),
    ("Euler", "euler", Curve::Trained),
    ("Euler Beta", "euler", Curve::Beta),
    ("LMS", "lms", Curve::Trained),
    ("LMS Karras", "lms", Curve::Karras),
    ("Heun", "heun", Curve::Trained),
    ("DPM2", "kdpm_2", Curve::Trained),
    ("DPM2 Karras", "kdpm_2", Curve::Karras),
    ("DPM2 a", "kdpm_2_a", Curve::Trained),
    ("DPM2 a Karras", "kdpm_2_a", Curve::Karras),
    ("DDIM", "ddim", Curve::Trained),
    ("PLMS", "pndm", Curve::Trained),
    ("UniPC", "unipc", Curve::Trained),
    ("LCM", "lcm", Curve::Trained),
    // ComfyUI
    ("euler_ancestral", "euler_a", Curve::Trained),
    ("dpm_2", "kdpm_2", Curve::Trained),
    ("dpm_2_ancestral", "kdpm_2_a", Curve::Trained),
    ("dpmpp_3m_sde", "dpmpp_3m_sde", Curve::Trained),
    ("uni_pc_bh2", "unipc", Curve::Trained),
    // what says nothing
    ("Automatic", "euler", Curve::Trained),
    ("", "euler", Curve::Trained),
];

fn config(class: &str) -> NoiseConfig {
    NoiseConfig::from_json(&format!(r#"{{"_class_name": "{class}", "skip_prk_steps": true}}"#)).unwrap()
}

#[test]
fn a_name_from_elsewhere_means_the_solver_and_the_curve_that_it_means_there() {
    let model = config("EulerDiscreteScheduler");
    for (name, kind, curve) in NAMES {
        let choice = sampler::choose(&model, Some(name), None).unwrap();
        assert_eq!((choice.kind.name, choice.curve), (*kind, *curve), "{name}");
    }
    let named = |kind: &&sampler::SamplerKind| NAMES.iter().any(|(_, name, _)| *name == kind.name);
    assert!(sampler::SAMPLERS.iter().all(|kind| named(&kind)), "every sampler is in the table above");
}

#[test]
fn every_sampler_is_found_by_its_name_and_its_label() {
    for kind in sampler::SAMPLERS {
        let model =
            if kind.solves == sampler::Solves::Flow { "FlowMatchEulerDiscreteScheduler" } else { "DDIMScheduler" };
        for name in [kind.name, kind.label] {
            let choice = sampler::choose(&config(model), Some(name), None).unwrap();
            assert_eq!((choice.kind.name, choice.kind.solves), (kind.name, kind.solves), "{name}");
        }
    }
}

#[test]
fn a_name_whose_solver_is_not_here_is_refused_with_the_list() {
    for name in REFUSED {
        let error = sampler::choose(&config("DDIMScheduler"), Some(name), None).unwrap_err().to_string();
        let list = sampler::names(sampler::Solves::Diffusion).join(", ");
        assert!(error.contains(&format!("{name:?}")) && error.contains(&list), "{error}");
    }
    let flow = config("FlowMatchEulerDiscreteScheduler");
    let error = sampler::choose(&flow, Some("ddim"), None).unwrap_err().to_string();
    assert!(error.ends_with("it must be one of euler"), "{error}");
}

#[test]
fn a_schedule_by_any_of_its_names_is_that_curve_or_spacing() {
    let model = config("EulerDiscreteScheduler");
    for (name, curve, spacing) in [
        ("Karras", Curve::Karras, Spacing::Linspace),
        ("exponential", Curve::Exponential, Spacing::Linspace),
        ("Polyexponential", Curve::Exponential, Spacing::Linspace),
        ("beta", Curve::Beta, Spacing::Linspace),
        ("Uniform", Curve::Trained, Spacing::Linspace),
        ("normal", Curve::Trained, Spacing::Linspace),
        ("SGM Uniform", Curve::Trained, Spacing::Trailing),
        ("simple", Curve::Trained, Spacing::Trailing),
        ("ddim_uniform", Curve::Trained, Spacing::Leading),
        ("Automatic", Curve::Trained, Spacing::Linspace),
    ] {
        let choice = sampler::choose(&model, None, Some(name)).unwrap();
        assert_eq!((choice.curve, choice.spacing), (curve, spacing), "{name}");
    }
    for name in ["Align Your Steps", "KL Optimal", "linear_quadratic", "ays"] {
        let error = sampler::choose(&model, None, Some(name)).unwrap_err().to_string();
        assert!(error.contains("trained, karras, exponential, beta, leading, linspace, trailing"), "{error}");
    }
}

#[test]
fn a_schedule_that_a_sampler_cannot_walk_is_refused() {
    let model = config("EulerDiscreteScheduler");
    for (sampler, schedule, says) in [
        ("ddim", "karras", "the trained one, because the sampler ddim walks timesteps"),
        ("lcm", "trailing", "one of trained, leading"),
        ("dpmpp_2s", "leading", "one of trained, karras, exponential, beta, linspace"),
    ] {
        let error = sampler::choose(&model, Some(sampler), Some(schedule)).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn a_models_own_class_and_settings_choose_the_solver() {
    let multistep = "DPMSolverMultistepScheduler";
    for (json, kind) in [
        (r#""solver_order": 2"#, "dpmpp_2m"),
        (r#""solver_order": 3"#, "dpmpp_3m"),
        (r#""algorithm_type": "sde-dpmsolver++""#, "dpmpp_2m_sde"),
        (r#""algorithm_type": "sde-dpmsolver++", "solver_order": 3"#, "dpmpp_3m_sde"),
    ] {
        let model = NoiseConfig::from_json(&format!(r#"{{"_class_name": "{multistep}", {json}}}"#)).unwrap();
        for name in [None, Some(multistep)] {
            let choice = sampler::choose(&model, name, None).unwrap();
            assert!(choice.kind.name == kind && !choice.stands_in, "{json}: {}", choice.kind.name);
        }
    }
    // A model whose solver is not here is served by another one, and that is told.
    assert!(sampler::choose(&config("DEISMultistepScheduler"), None, None).unwrap().stands_in);
    assert!(sampler::choose(&config("FlowMatchLCMScheduler"), None, None).unwrap().stands_in);
}

#[test]
fn what_a_models_solver_cannot_do_here_is_refused_by_key() {
    for (class, key, value) in [
        ("DPMSolverMultistepScheduler", "algorithm_type", r#""dpmsolver""#),
        ("DPMSolverMultistepScheduler", "solver_order", "1"),
        ("DPMSolverMultistepScheduler", "use_lu_lambdas", "true"),
        ("DPMSolverMultistepScheduler", "lambda_min_clipped", "-5.1"),
        ("DPMSolverMultistepScheduler", "use_flow_sigmas", "true"),
        ("DPMSolverSinglestepScheduler", "solver_order", "3"),
        ("UniPCMultistepScheduler", "predict_x0", "false"),
        ("UniPCMultistepScheduler", "disable_corrector", "[0]"),
        ("UniPCMultistepScheduler", "solver_type", r#""bh3""#),
        ("DDPMScheduler", "variance_type", r#""learned""#),
        ("PNDMScheduler", "skip_prk_steps", "false"),
    ] {
        let json = format!(r#"{{"_class_name": "{class}", "{key}": {value}}}"#);
        let error = NoiseConfig::from_json(&json).unwrap_err().to_string();
        assert!(
            error.contains(&format!("{key} = {}", value.trim_matches('"')))
                || error.contains(&format!("{key} = {value}")),
            "{error}"
        );
    }
}

#[test]
fn more_steps_than_a_sampler_has_levels_are_refused_with_the_bound() {
    let model = config("EulerDiscreteScheduler");
    let schedule = easel_engine::schedule::Schedule::new(model.clone()).unwrap();
    for (name, most) in [
        ("lcm", 50),
        ("tcd", 50),
        ("dpmpp_2m", 999),
        ("unipc", 999),
        ("dpmpp_2s", 999),
        ("ddpm", 1000),
        ("pndm", 1000),
        ("heun", 1000),
    ] {
        let choice = sampler::choose(&model, Some(name), None).unwrap();
        let begun = |steps| choice.begin(&schedule, steps, 0.0).map(|sampler| sampler.steps());
        for steps in [0, most + 1, usize::MAX] {
            let error = begun(steps).unwrap_err().to_string();
            assert!(error.contains(&format!("steps is {steps}, and must be from 1 to {most}")), "{name}: {error}");
        }
        assert!(begun(1).unwrap() >= 1 && begun(most).unwrap() >= most, "{name}");
    }
}
