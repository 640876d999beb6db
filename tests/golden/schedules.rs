//! Noise levels and samplers against diffusers', with nothing but arithmetic: the fixture's model is a sine.

use easel_engine::sampler::{self, Sampler};
use easel_engine::schedule::{Curve, NoiseConfig, Schedule};
use serde_json::Value;

use super::{json, relative_l2};

#[test]
fn the_trained_noise_levels_are_diffusers_own() {
    for table in json("schedules.json")["tables"].as_array().unwrap() {
        let schedule = Schedule::new(NoiseConfig::from_json(&table["config"].to_string()).unwrap()).unwrap();
        let exact = table["config"]["rescale_betas_zero_snr"] != true;
        for (step, want) in table["timesteps"].as_array().unwrap().iter().zip(floats(&table["alphas_cumprod"])) {
            let got = schedule.alpha(step.as_i64().unwrap());
            // The rescaled table goes through torch's square root, which is an ulp off here and there; summed up, 3.6e-7.
            let gate = if exact { 0.0 } else { 5e-7 };
            assert!((got - f64::from(want as f32)).abs() <= gate, "{} at {step}: {got} not {want}", table["config"]);
        }
    }
}

#[test]
fn every_sampler_walks_as_diffusers_does() {
    let mut walked = 0;
    for row in json("schedules.json")["rows"].as_array().unwrap() {
        // The one curve that is not here; the test below holds that it is refused.
        if row["config"]["use_beta_sigmas"] != true {
            walk(row);
            walked += 1;
        }
    }
    assert!(walked > 40, "{walked}");
}

#[test]
fn a_curve_that_is_not_here_is_refused_by_its_key() {
    let error =
        NoiseConfig::from_json(r#"{"_class_name": "EulerDiscreteScheduler", "use_beta_sigmas": true}"#).unwrap_err();
    assert!(error.to_string().contains("use_beta_sigmas = true"), "{error}");
}

#[test]
fn a_samplers_name_may_carry_its_curve() {
    let euler = NoiseConfig::from_json(r#"{"_class_name": "EulerDiscreteScheduler"}"#).unwrap();
    for (name, kind, curve) in [
        ("ddim", "ddim", Curve::Trained),
        ("DDIMScheduler", "ddim", Curve::Trained),
        ("DDIM", "ddim", Curve::Trained),
        ("euler", "euler", Curve::Trained),
        ("Euler", "euler", Curve::Trained),
        ("EulerDiscreteScheduler", "euler", Curve::Trained),
        ("euler_k", "euler", Curve::Karras),
        ("Euler Karras", "euler", Curve::Karras),
        ("Euler Exponential", "euler", Curve::Exponential),
        ("euler_a", "euler_a", Curve::Trained),
        ("Euler a", "euler_a", Curve::Trained),
        ("euler_ancestral", "euler_a", Curve::Trained),
        ("EulerAncestralDiscreteScheduler", "euler_a", Curve::Trained),
        ("Euler a Karras", "euler_a", Curve::Karras),
        ("Automatic", "euler", Curve::Trained),
    ] {
        let choice = sampler::choose(&euler, Some(name), None).unwrap();
        assert_eq!((choice.kind.name, choice.curve), (kind, curve), "{name}");
    }
    assert_eq!(sampler::choose(&euler, Some("euler"), Some("Karras")).unwrap().curve, Curve::Karras);
}

#[test]
fn a_name_whose_solver_is_not_here_is_refused_with_the_list() {
    let ddim = NoiseConfig::from_json(r#"{"_class_name": "DDIMScheduler"}"#).unwrap();
    for name in ["DPM++ 2M Karras", "dpmpp_2m", "LCM", "no such thing"] {
        let error = sampler::choose(&ddim, Some(name), None).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains("ddim, euler, euler_a"), "{error}");
    }
    let error = sampler::choose(&ddim, None, Some("ays")).unwrap_err().to_string();
    assert!(error.contains("trained, karras, exponential, leading, linspace, trailing"), "{error}");
    assert!(sampler::choose(&ddim, Some("ddim"), Some("karras")).is_err(), "ddim walks timesteps");
    // A model that names such a solver is served by another one, and that is told.
    let pndm = NoiseConfig::from_json(r#"{"_class_name": "PNDMScheduler"}"#).unwrap();
    assert!(sampler::choose(&pndm, None, None).unwrap().stands_in);
}

fn walk(row: &Value) {
    let name = row["name"].as_str().unwrap();
    let steps = row["steps"].as_u64().unwrap() as usize;
    let schedule = Schedule::new(NoiseConfig::from_json(&row["config"].to_string()).unwrap()).unwrap();
    let choice = sampler::choose(schedule.config(), None, None).unwrap();
    assert_eq!(choice.kind.class_name, row["config"]["_class_name"].as_str().unwrap(), "{name}");
    let mut sampler = choice.begin(&schedule, steps, row["eta"].as_f64().unwrap()).unwrap();

    let respaced = name.contains("karras") || name.contains("exponential");
    let timesteps = floats(&row["timesteps"]);
    assert_eq!(sampler.steps(), timesteps.len(), "{name}");
    for (step, want) in timesteps.iter().enumerate() {
        let gap = (sampler.timestep(step) - f64::from(*want as f32)).abs();
        assert!(gap <= if respaced { 1e-3 } else { 0.0 }, "{name}: timestep {step} is off by {gap}");
    }
    let start = row["init_noise_sigma"].as_f64().unwrap();
    assert!((sampler.start() / start - 1.0).abs() <= 1e-6, "{name}: starts at {} not {start}", sampler.start());

    // f32 between the steps costs up to 6e-8 of the largest value, which a step may then shrink.
    let gate = (10.0 * row["double_gap"].as_f64().unwrap()).max(1e-6);
    let mut latents: Vec<f32> = floats(&row["start"]).iter().map(|x| *x as f32).collect();
    let want = row["samples"].as_array().unwrap();
    for (step, (input, want)) in row["inputs"].as_array().unwrap().iter().zip(want).enumerate() {
        let scaled: Vec<f64> = latents.iter().map(|x| f64::from(*x) * sampler.input_scale(step)).collect();
        let error = relative_l2(&scaled, &floats(input));
        assert!(error <= gate, "{name}: input {step} is off by {error:e}, not {gate:e}");
        latents = stepped(&mut *sampler, step, &latents);
        let got: Vec<f64> = latents.iter().map(|x| f64::from(*x)).collect();
        let error = relative_l2(&got, &floats(want));
        assert!(error <= gate, "{name}: step {step} is off by {error:e}, not {gate:e}");
    }
}

fn stepped(sampler: &mut dyn Sampler, step: usize, latents: &[f32]) -> Vec<f32> {
    let wave = |a: f64, b: f64| (0..latents.len()).map(move |j| a * j as f64 + b * step as f64);
    let predicted: Vec<f32> = wave(0.37, 0.91).map(|x| x.sin() as f32).collect();
    let noise: Vec<f32> = wave(0.53, 0.29).map(|x| x.cos() as f32).collect();
    let mut latents = latents.to_vec();
    sampler.step(step, &mut latents, &predicted, &mut |count| noise[..count].to_vec());
    latents
}

fn floats(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}
