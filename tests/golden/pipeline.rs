//! Whole runs against diffusers' pipeline: the latents after every step, and the picture.

use std::path::Path;
use std::sync::Arc;

use easel_engine::family::{Recipe, Run};
use easel_engine::latent::{Denoising, LatentDiffusion};
use easel_engine::sampler;
use easel_engine::schedule::NoiseConfig;
use easel_engine::trace::Recorder;
use serde_json::{Value, json};

use super::{BLOCK, Golden, LATENTS, MODELS, folder, load};

#[test]
fn whole_runs_leave_the_latents_and_the_picture_that_diffusers_leaves() {
    for name in MODELS {
        let at = tempfile::tempdir().unwrap();
        let model = load(&prepared(name, at.path()));
        let golden = Golden::read(&format!("{name}.safetensors"));
        for kind in ["ddim", "euler", "euler_ancestral"] {
            let errors = run(name, kind, &model, &golden);
            assert!(errors.latents <= LATENTS, "{name}: {kind} latents are off by {:e}", errors.latents);
            assert!(errors.pixels <= 0.001, "{name}: {kind}: {} of the picture is off by a level", errors.pixels);
            println!("{name}: {kind} latents {:.1e}, picture {:.2e} beyond one level", errors.latents, errors.pixels);
        }
    }
}

#[test]
fn what_only_sdxl_has_leaves_the_latents_and_the_picture_that_diffusers_leaves() {
    let at = tempfile::tempdir().unwrap();
    let golden = Golden::read("tiny-sdxl.safetensors");
    let model = load(&prepared("tiny-sdxl", at.path()));
    // `turbo` is the model's own sampler.
    let own = load(&folder("tiny-sdxl"));
    for (kind, model) in [("absent", &model), ("empty", &model), ("skip", &model), ("turbo", &own)] {
        let errors = run("tiny-sdxl", kind, model, &golden);
        assert!(errors.latents <= LATENTS, "{kind} latents are off by {:e}", errors.latents);
        assert!(errors.pixels <= 0.001, "{kind}: {} of the picture is off by a level", errors.pixels);
    }
}

#[test]
fn a_step_inside_a_run_is_the_step_that_the_blocks_were_compared_in() {
    let at = tempfile::tempdir().unwrap();
    let model = load(&prepared("tiny-sd", at.path()));
    let golden = Golden::read("tiny-sd.safetensors");
    let recorder = Recorder::default();
    let mut denoising = Denoising::begin(Arc::clone(&model), &recipe("tiny-sd", "ddim", &model)).unwrap();
    denoising.step_traced(0, &recorder).unwrap();
    let (error, key) = golden.worst(&["unet."], &recorder.into_values());
    assert!(error <= BLOCK, "{key} is off by {error:e}");
}

#[test]
fn one_seed_gives_one_picture_to_the_last_byte() {
    let model = super::model("tiny-sd");
    let recipe = recipe("tiny-sd", "euler_ancestral", &model);
    let pictures = [0, 1].map(|_| {
        let mut run = Denoising::begin(Arc::clone(&model), &recipe).unwrap();
        (0..run.steps()).for_each(|step| run.step(step).unwrap());
        run.finish().unwrap()
    });
    assert_eq!(pictures[0], pictures[1]);
}

/// How far a run is from diffusers'.
pub(crate) struct Errors {
    /// The largest relative L2 of the latents after a step.
    pub(crate) latents: f64,
    /// The share of the picture's samples that are off by more than a level.
    pub(crate) pixels: f64,
}

/// Repeats a run of `runs.json`.
pub(crate) fn run(name: &str, kind: &str, model: &Arc<LatentDiffusion>, golden: &Golden) -> Errors {
    let mut denoising = Denoising::begin(Arc::clone(model), &recipe(name, kind, model)).unwrap();
    let (mut latents, mut compared) = (0f64, 0);
    for step in 0..denoising.steps() {
        denoising.step(step).unwrap();
        let key = format!("{kind}.latents.step{step}");
        if golden.has(&key) {
            latents = latents.max(golden.error(&key, &denoising.latents()));
            compared += 1;
        }
    }
    assert!(compared > 0, "{name}: no latents of {kind} to compare");
    let want = golden.flat(&format!("{kind}.image.u8"));
    let pixels = match denoising.finish() {
        Ok(picture) => {
            let got = picture.as_bytes();
            assert_eq!(got.len(), want.len());
            let off = got.iter().zip(want).filter(|(got, want)| (f64::from(**got) - **want).abs() > 1.0).count();
            off as f64 / want.len() as f64
        }
        Err(_) => 1.0,
    };
    Errors { latents, pixels }
}

/// The recipe of a run: one of the samplers of `settings`, or one of those that only SDXL has.
pub(crate) fn recipe(name: &str, kind: &str, model: &LatentDiffusion) -> Recipe {
    let run = super::settings(name);
    let text = |key: &str| run[key].as_str().unwrap().to_owned();
    let number = |key: &str| run[key].as_u64().unwrap();
    let negative = Some(text("negative_prompt"));
    let guidance = run["guidance_scale"].as_f64().unwrap();
    let (sampler, steps, negative_prompt, guidance, clip_skip) = match kind {
        "absent" => (Some("ddim"), 5, None, guidance, 0),
        "empty" => (Some("ddim"), 5, Some(String::new()), guidance, 0),
        "skip" => (Some("ddim"), 5, negative, guidance, 1),
        "turbo" => (None, 3, negative, 0.0, 0),
        kind => (Some(kind), run["steps"][kind].as_u64().unwrap() as usize, negative, guidance, 0),
    };
    Recipe {
        prompt: text("prompt"),
        negative_prompt,
        size: (number("width") as u32, number("height") as u32),
        seed: number("seed"),
        rng: Default::default(),
        steps,
        guidance,
        choice: sampler::choose(model.noise(), sampler, None).unwrap(),
        eta: 0.0,
        clip_skip,
        prompt_syntax: easel_engine::weighting::Syntax::Plain,
        given: None,
    }
}

/// A copy of a fixture model whose noise is described as the runs were made with it: the fixture's scripts put their own
/// samplers in, whatever the folder says.
pub(crate) fn prepared(name: &str, at: &Path) -> std::path::PathBuf {
    let copy = at.join(name);
    copy_folder(&folder(name), &copy);
    let file = copy.join("scheduler/scheduler_config.json");
    let own: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let noise = json!({
        "_class_name": "DDIMScheduler",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "steps_offset": 1,
        "timestep_spacing": "leading",
        "prediction_type": own["prediction_type"],
        "clip_sample": false,
        "set_alpha_to_one": false,
    });
    NoiseConfig::from_json(&noise.to_string()).unwrap();
    std::fs::write(file, noise.to_string()).unwrap();
    copy
}

/// Copies a model's folder, without what training left beside it.
pub(crate) fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for item in std::fs::read_dir(from).unwrap() {
        let item = item.unwrap();
        let target = to.join(item.file_name());
        match item.path().is_dir() {
            true if item.file_name() == "training" => {}
            true => copy_folder(&item.path(), &target),
            false => drop(std::fs::copy(item.path(), target).unwrap()),
        }
    }
}
