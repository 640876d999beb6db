//! Changing pictures and painting parts of them anew, against diffusers' pipelines for both.

use std::path::Path;
use std::sync::Arc;

use easel_engine::family::{Recipe, Run};
use easel_engine::given::{Given, Mask};
use easel_engine::latent::{Denoising, LatentDiffusion};
use easel_engine::pixels::Pixels;
use easel_engine::sampler;

use super::pipeline::{copy_folder, prepared, recipe};
use super::{Golden, LATENTS, folder, json, load};

#[test]
fn changed_pictures_leave_the_latents_and_the_picture_that_diffusers_leaves() {
    for name in ["tiny-sd", "tiny-sd2"] {
        let at = tempfile::tempdir().unwrap();
        let model = load(&prepared(name, at.path()));
        let golden = Golden::read(&format!("{name}.safetensors"));
        for kind in ["ddim", "euler"] {
            let recipe = recipe(name, kind, &model);
            let image = picture(&golden, "img2img.input.u8", recipe.size);
            let given = Given { images: vec![image], references: Vec::new(), mask: None, strength: 0.6 };
            let recipe = Recipe { given: Some(Arc::new(given)), ..recipe };
            compare(&golden, &format!("img2img.{kind}"), &model, &recipe);
        }
    }
}

#[test]
fn pictures_changed_in_part_leave_the_latents_and_the_picture_that_diffusers_leaves() {
    let (golden, runs) = (Golden::read("edits.safetensors"), json("edits.json"));
    let mut compared = 0;
    for run in runs["runs"].as_array().unwrap() {
        let text = |key: &str| run[key].as_str().unwrap();
        let at = tempfile::tempdir().unwrap();
        let model = load(&edited_model(text("model"), at.path()));
        compare(&golden, text("name"), &model, &edit(&golden, run, &model));
        compared += 1;
    }
    assert_eq!(compared, 9);
}

#[test]
fn a_mask_turned_round_and_another_strength_are_seen() {
    let (golden, runs) = (Golden::read("edits.safetensors"), json("edits.json"));
    for name in ["sd.ddim", "nine.whole", "xl.inpaint"] {
        let run = runs["runs"].as_array().unwrap().iter().find(|run| run["name"] == name).unwrap();
        let at = tempfile::tempdir().unwrap();
        let model = load(&edited_model(run["model"].as_str().unwrap(), at.path()));
        let right = edit(&golden, run, &model);
        let given = right.given.as_deref().unwrap();
        let turned: Vec<u8> = golden
            .flat(&format!("{}.mask.u8", run["model"].as_str().unwrap()))
            .iter()
            .flat_map(|grey| [255 - *grey as u8; 3])
            .collect();
        let mask = Mask::new(Pixels::from_bytes(turned, right.size.0, right.size.1).unwrap());
        let wrong = Given { mask: Some(mask), ..given.clone() };
        let error = latents(&golden, name, &model, &Recipe { given: Some(Arc::new(wrong)), ..right.clone() });
        assert!(error >= 10.0 * LATENTS, "{name}: a mask turned round is {error:e} off");
        let wrong = Given { strength: 0.4, ..given.clone() };
        let error = latents(&golden, name, &model, &Recipe { given: Some(Arc::new(wrong)), ..right.clone() });
        assert!(error >= 10.0 * LATENTS, "{name}: another strength is {error:e} off");
    }
}

/// The folder of a model of `edits.json`, its noise described as the runs were made with it.
fn edited_model(model: &str, at: &Path) -> std::path::PathBuf {
    if model != "tiny-inpaint" {
        return prepared(model, at);
    }
    // A network of its own, for the other parts of `tiny-sd`.
    let copy = prepared("tiny-sd", at);
    copy_folder(&folder("tiny-inpaint").join("unet"), &copy.join("unet"));
    copy
}

fn edit(golden: &Golden, run: &serde_json::Value, model: &LatentDiffusion) -> Recipe {
    let text = |key: &str| run[key].as_str().unwrap();
    let settings = if text("model") == "tiny-sdxl" { "tiny-sdxl" } else { "tiny-sd" };
    let recipe = recipe(settings, "ddim", model);
    let mask = Mask::new(picture(golden, &format!("{}.mask.u8", text("model")), recipe.size));
    let given = Given {
        images: vec![picture(golden, &format!("{}.input.u8", text("model")), recipe.size)],
        references: Vec::new(),
        mask: (text("pipeline") == "inpaint").then_some(mask),
        strength: run["strength"].as_f64().unwrap(),
    };
    let choice = sampler::choose(model.noise(), Some(text("sampler")), None).unwrap();
    Recipe { choice, given: Some(Arc::new(given)), ..recipe }
}

/// A stored picture; one without colours is given three.
fn picture(golden: &Golden, key: &str, (width, height): (u32, u32)) -> Pixels {
    let stored = golden.flat(key);
    let repeats = (3 * width * height) as usize / stored.len();
    let bytes = stored.iter().flat_map(|value| std::iter::repeat_n(*value as u8, repeats)).collect();
    Pixels::from_bytes(bytes, width, height).unwrap()
}

/// Holds a run against the stored one.
fn compare(golden: &Golden, name: &str, model: &Arc<LatentDiffusion>, recipe: &Recipe) {
    let error = latents(golden, name, model, recipe);
    assert!(error <= LATENTS, "{name}: latents are off by {error:e}");
    let mut run = Denoising::begin(Arc::clone(model), recipe).unwrap();
    (0..run.steps()).for_each(|step| run.step(step).unwrap());
    let (got, want) = (run.finish().unwrap(), golden.flat(&format!("{name}.image.u8")));
    let off = got.as_bytes().iter().zip(want).filter(|(got, want)| (f64::from(**got) - **want).abs() > 1.0).count();
    assert!(off as f64 <= 0.001 * want.len() as f64, "{name}: {off} of {} samples are off by a level", want.len());
    println!("{name}: latents {error:.1e}, {off} samples beyond one level");
}

/// How far the latents are off at most; infinitely, when there is another number of steps.
fn latents(golden: &Golden, name: &str, model: &Arc<LatentDiffusion>, recipe: &Recipe) -> f64 {
    let mut run = Denoising::begin(Arc::clone(model), recipe).unwrap();
    let prefix = format!("{name}.latents.");
    if golden.keys(&prefix).len() != run.steps() {
        return f64::INFINITY;
    }
    let mut worst = 0f64;
    for step in 0..run.steps() {
        run.step(step).unwrap();
        worst = worst.max(golden.error(&format!("{prefix}step{step}"), &run.latents()));
    }
    worst
}
