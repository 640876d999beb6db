//! Noise levels and samplers against diffusers', with nothing but arithmetic: the fixture's model is a sine.

use std::collections::BTreeSet;

use easel_engine::sampler::{self, BrownianPath, Sampler, Walk};
use easel_engine::schedule::{NoiseConfig, Schedule};
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
    let rows = ["schedules.json", "samplers.json"].map(|file| json(file)["rows"].as_array().unwrap().clone()).concat();
    let walked: BTreeSet<_> = rows.iter().map(walk).collect();
    let missing: Vec<_> = sampler::SAMPLERS.iter().filter(|kind| !walked.contains(kind.label)).collect();
    assert!(missing.is_empty(), "without golden rows: {missing:?}");
}

#[test]
fn a_brownian_path_is_the_one_that_diffusers_walks() {
    for row in json("samplers.json")["brownian"].as_array().unwrap() {
        let ends = floats(&row["ends"]);
        let path = BrownianPath::new(row["seed"].as_u64().unwrap(), ends[0], ends[1]);
        let want = floats(&row["increment"]);
        let got = path.increment(row["from"].as_f64().unwrap(), row["to"].as_f64().unwrap(), want.len());
        for (got, want) in got.iter().zip(&want) {
            // Normals within 5e-7, times the square root of the time, up to fifty of them.
            assert!((f64::from(*got) - want).abs() <= 1e-5, "{row}: {got} not {want}");
        }
    }
}

#[test]
fn infinities_as_python_writes_them_are_read() {
    let json = r#"{"_class_name": "DPMSolverMultistepScheduler", "lambda_min_clipped": -Infinity}"#;
    assert_eq!(sampler::choose(&NoiseConfig::from_json(json).unwrap(), None, None).unwrap().kind.name, "dpmpp_2m");
}

#[test]
fn two_curves_at_once_are_refused_by_their_keys() {
    let both = r#"{"_class_name": "EulerDiscreteScheduler", "use_beta_sigmas": true, "use_karras_sigmas": true}"#;
    let error = NoiseConfig::from_json(both).unwrap_err().to_string();
    assert!(error.contains("only one of") && error.contains("use_beta_sigmas"), "{error}");
}

#[test]
fn what_a_flow_says_and_the_engine_cannot_do_is_refused_by_key() {
    for (key, value) in [
        ("invert_sigmas", "true"),
        ("time_shift_type", "\"square\""),
        ("shift", "-1"),
        ("shift_terminal", "1"),
        ("base_image_seq_len", "4096"),
    ] {
        let json = format!(
            r#"{{"_class_name": "FlowMatchEulerDiscreteScheduler", "use_dynamic_shifting": true, "{key}": {value}}}"#
        );
        let error = NoiseConfig::from_json(&json).unwrap_err().to_string();
        assert!(error.contains(key) && error.contains(value.trim_matches('"')), "{error}");
    }
}

/// Walks a row, and tells whose it is.
fn walk(row: &Value) -> &'static str {
    let name = row["name"].as_str().unwrap();
    let steps = row["steps"].as_u64().unwrap() as usize;
    let schedule = Schedule::new(NoiseConfig::from_json(&row["config"].to_string()).unwrap()).unwrap();
    let choice = sampler::choose(schedule.config(), row["sampler"].as_str(), None).unwrap();
    assert_eq!(choice.kind.class_name, row["config"]["_class_name"].as_str().unwrap(), "{name}");
    let walk = Walk {
        eta: row["eta"].as_f64().unwrap_or(0.0),
        mu: row["mu"].as_f64(),
        levels: row.get("levels").map(floats),
        ..choice.walk(steps)
    };
    let mut sampler = choice.begin_walk(&schedule, &walk).unwrap();

    // Read back from the logarithm of a level in f32, where a curve or a half step moved it.
    let respaced = ["karras", "exponential", "beta-", "kdpm2", "sde-"].iter().any(|curve| name.contains(curve));
    let timesteps = floats(&row["timesteps"]);
    assert_eq!(sampler.steps(), timesteps.len(), "{name}");
    for (step, want) in timesteps.iter().enumerate() {
        let gap = (sampler.timestep(step) - f64::from(*want as f32)).abs();
        assert!(gap <= if respaced { 1e-3 } else { 0.0 }, "{name}: timestep {step} is off by {gap}");
    }
    let start = row["init_noise_sigma"].as_f64().unwrap();
    assert!((sampler.start() / start - 1.0).abs() <= 1e-6, "{name}: starts at {} not {start}", sampler.start());

    let mut latents = single(&row["start"]);
    let first = row["strength"].as_f64().map_or(0, |strength| sampler.first_step(strength));
    if row.get("strength").is_some() {
        assert_eq!(Some(first as u64), row["first"].as_u64(), "{name}");
        let picture = single(&row["picture"]);
        latents = sampler.noised(first, &picture, &noise(latents.len(), -1.0));
        let error = relative_l2(&latents.iter().map(|x| f64::from(*x)).collect::<Vec<_>>(), &floats(&row["noised"]));
        assert!(error <= 1e-6, "{name}: the noised picture is off by {error:e}");
        assert_eq!(sampler.noised(sampler.steps(), &picture, &latents), picture, "{name}");
    }
    // f32 between the steps costs up to 6e-8 of the largest value, which a step may then shrink.
    let gate = (10.0 * row["double_gap"].as_f64().unwrap()).max(1e-6);
    let want = row["samples"].as_array().unwrap();
    for (step, (input, want)) in (first..).zip(row["inputs"].as_array().unwrap().iter().zip(want)) {
        let scaled: Vec<f64> = latents.iter().map(|x| f64::from(*x) * sampler.input_scale(step)).collect();
        let error = relative_l2(&scaled, &floats(input));
        assert!(error <= gate, "{name}: input {step} is off by {error:e}, not {gate:e}");
        latents = stepped(&mut *sampler, step, &latents);
        let got: Vec<f64> = latents.iter().map(|x| f64::from(*x)).collect();
        let error = relative_l2(&got, &floats(want));
        assert!(error <= gate, "{name}: step {step} is off by {error:e}, not {gate:e}");
    }
    assert_eq!(first + want.len(), sampler.steps(), "{name}");
    choice.kind.label
}

fn stepped(sampler: &mut dyn Sampler, step: usize, latents: &[f32]) -> Vec<f32> {
    let wave = (0..latents.len()).map(|j| 0.37 * j as f64 + 0.91 * step as f64);
    let predicted: Vec<f32> = wave.map(|x| x.sin() as f32).collect();
    let mut latents = latents.to_vec();
    sampler.step(step, &mut latents, &predicted, &mut |count| noise(count, step as f64));
    latents
}

fn noise(count: usize, step: f64) -> Vec<f32> {
    (0..count).map(|j| (0.53 * j as f64 + 0.29 * step).cos() as f32).collect()
}

fn single(value: &Value) -> Vec<f32> {
    floats(value).iter().map(|x| *x as f32).collect()
}

fn floats(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}
