//! LoRA files against diffusers' `load_lora_weights`, and through the engine's seam: chosen by option and in the prompt,
//! refused by name and key, and gone without a trace.

use std::path::{Path, PathBuf};

use easel_core::{Draft, Error, ErrorKind, OnUnknown, OptionValue, Output};
use easel_engine::family::{Recipe, Run, stable_diffusion};
use easel_engine::latent::Denoising;
use easel_engine::{Engine, EngineOptions, Files};
use serde_json::{Value, json};

use super::picture::make;
use super::pipeline::{copy_folder, prepared, recipe};
use super::{Golden, LATENTS, folder, json, open};

#[test]
fn files_of_every_trainer_give_the_numbers_that_diffusers_gives() {
    let (golden, fixture) = (Golden::read("lora.safetensors"), json("lora.json"));
    let mut compared = 0;
    for run in fixture["runs"].as_array().unwrap() {
        let loras: Vec<(PathBuf, f64)> = run["loras"]
            .as_array()
            .unwrap()
            .iter()
            .map(|lora| (file(lora["name"].as_str().unwrap()), lora["weight"].as_f64().unwrap()))
            .collect();
        let (name, model) = (run["name"].as_str().unwrap(), run["model"].as_str().unwrap());
        let error = latents(&golden, name, model, &loras).unwrap();
        assert!(error <= LATENTS, "{name}: latents are off by {error:e}");
        println!("{name}: latents {error:.1e}");
        compared += 1;
    }
    assert_eq!(compared, 6);
}

#[test]
fn another_weight_another_order_of_files_and_none_are_told_apart() {
    let golden = Golden::read("lora.safetensors");
    let (kohya, peft) = (file("sd-kohya"), file("sd-peft"));
    for (name, wrong) in [
        ("weighted", vec![(kohya.clone(), 1.0)]),
        ("two", vec![(kohya.clone(), -0.6), (peft.clone(), 0.5)]),
        ("two", vec![(kohya.clone(), 0.5)]),
        ("peft", Vec::new()),
    ] {
        let error = latents(&golden, name, "tiny-sd", &wrong).unwrap();
        assert!(error >= 10.0 * LATENTS, "{name} with {wrong:?} is only {error:e} off");
    }
    let turned = latents(&golden, "two", "tiny-sd", &[(peft, -0.6), (kohya, 0.5)]).unwrap();
    assert!(turned <= LATENTS, "what is added does not depend on the order: {turned:e}");
}

#[test]
fn what_cannot_be_added_is_refused_by_its_key() {
    let at = tempfile::tempdir().unwrap();
    let files = Files::Folder(folder("tiny-sd"));
    for (change, says) in [
        (json!({"lora_unet_nowhere.lora_down.weight": [2, 3]}), "has no lora_unet_nowhere.lora_up.weight"),
        (
            json!({"lora_unet_nowhere.lora_down.weight": [2, 3], "lora_unet_nowhere.lora_up.weight": [3, 2]}),
            "lora_unet_nowhere.lora_down.weight belongs to no part",
        ),
        (json!({"lora_unet_conv_in.dora_scale": [2]}), "lora_unet_conv_in.dora_scale is of a kind"),
        (json!({"lora_unet_conv_in.hada_w1_a": [2, 2]}), "hada_w1_a is of a kind"),
    ] {
        let path = at.path().join("odd.safetensors");
        write(&path, &change);
        let error = files.with_loras(&[(&path, 1.0)]).unwrap_err().to_string();
        assert!(error.contains("lora odd") && error.contains(says), "{error}");
    }
    let path = at.path().join("wide.safetensors");
    write(&path, &json!({"lora_unet_conv_out.lora_down.weight": [2, 3], "lora_unet_conv_out.lora_up.weight": [4, 2]}));
    let error = stable_diffusion::open(&files.with_loras(&[(&path, 1.0)]).unwrap()).err().unwrap().to_string();
    assert!(error.contains("lora_unet_conv_out.lora_down.weight cannot be added to conv_out.weight"), "{error}");
    assert!(error.contains("[4, 24, 3, 3]") && error.contains("4 rows of 3"), "{error}");
    // Two thin matrices whose product would take a hundred gigabytes.
    write(
        &path,
        &json!({"lora_unet_conv_out.lora_down.weight": [1, 200_000], "lora_unet_conv_out.lora_up.weight": [200_000, 1]}),
    );
    let error = stable_diffusion::open(&files.with_loras(&[(&path, 1.0)]).unwrap()).err().unwrap().to_string();
    assert!(error.contains("200000 rows of 200000"), "{error}");
    let other = files.with_loras(&[(&file("xl-kohya"), 1.0)]).unwrap_err().to_string();
    assert!(other.contains("belongs to no part of it"), "{other}");
}

#[tokio::test]
async fn additions_are_chosen_by_option_or_in_the_prompt_and_leave_no_trace() {
    let models = models();
    let engine = start(models.path());
    let plain = picture(&engine, "a fox", None).await.unwrap();
    let by_option = picture(&engine, "a fox", Some(r#"[{"name":"sd-kohya","weight":0.5}]"#)).await.unwrap();
    let by_prompt = picture(&engine, "a fox<lora:sd-kohya:0.5>", None).await.unwrap();
    assert_ne!(pixels(&plain), pixels(&by_option));
    assert_eq!(pixels(&by_option), pixels(&by_prompt));
    let both = picture(&engine, "a <lora:sd-peft>fox", Some(r#"[{"name":"sd-kohya","weight":0.5}]"#)).await.unwrap();
    assert_ne!(pixels(&both), pixels(&by_option));
    assert_eq!(plain.images[0].image.bytes, picture(&engine, "a fox", None).await.unwrap().images[0].image.bytes);
    let file = &by_prompt.images[0].image.bytes;
    let has = |text: &str| file.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(has("a fox <lora:sd-kohya:0.5>\nSteps") && has(r#""loras":[{"name":"sd-kohya","weight":0.5}]"#));
}

#[tokio::test]
async fn two_requests_at_once_each_have_their_own_additions() {
    let models = models();
    let engine = start(models.path());
    let kohya = Some(r#"[{"name":"sd-kohya"}]"#);
    let (one, other) = tokio::join!(picture(&engine, "a fox", kohya), picture(&engine, "a fox", None));
    assert_eq!(pixels(&one.unwrap()), pixels(&picture(&engine, "a fox", kohya).await.unwrap()));
    assert_eq!(pixels(&other.unwrap()), pixels(&picture(&engine, "a fox", None).await.unwrap()));
}

#[tokio::test]
async fn what_is_not_there_or_not_understood_is_refused_with_what_is() {
    let models = models();
    let engine = start(models.path());
    let many = Value::from(vec![json!({"name": "sd-peft"}); 17]).to_string();
    for (prompt, loras, says) in [
        ("a", Some(r#"[{"name":"ink"}]"#), "lora \"ink\" is not here: sd-kohya, sd-old, sd-peft, xl-kohya"),
        ("a <lora:ink:1>", None, "sd-kohya"),
        ("a <lora:sd-peft:much>", None, "no number"),
        ("a", Some(r#"[{"name":"sd-peft","weight":11}]"#), "from -10 to 10"),
        ("a", Some(r#"[{"name":"sd-peft","strength":1}]"#), "strength"),
        ("a", Some(r#""sd-peft""#), "must be a list"),
        ("a", Some(many.as_str()), "at most 16"),
        ("a", Some(r#"[{"name":"xl-kohya"}]"#), "belongs to no part of it"),
    ] {
        let error = picture(&engine, prompt, loras).await.unwrap_err();
        assert_eq!((error.kind(), error.param()), (ErrorKind::InvalidRequest, Some("options.loras")), "{error}");
        assert!(error.message().contains(says), "{error} does not say {says}");
    }
}

#[tokio::test]
async fn the_autoencoder_of_another_model_can_take_the_place_of_its_own() {
    let models = models();
    let other = models.path().join("other");
    copy_folder(&folder("tiny-sd"), &other);
    let config = other.join("vae/config.json");
    let mut spoiled: Value = serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap();
    spoiled["scaling_factor"] = json!(3.0);
    std::fs::write(config, spoiled.to_string()).unwrap();
    copy_folder(&folder("tiny-sd2"), &models.path().join("wider"));
    let engine = start(models.path());
    let make = |vae: &str| {
        let option = OptionValue { json: vae.to_owned(), on_unknown: OnUnknown::Refuse };
        draft("a fox", [("vae".to_owned(), option)].into())
    };
    let own = super::picture::make(&engine, make("null")).await.unwrap();
    assert_ne!(pixels(&own), pixels(&super::picture::make(&engine, make("\"other\"")).await.unwrap()));
    assert_eq!(pixels(&own), pixels(&super::picture::make(&engine, make("\"sd\"")).await.unwrap()));
    for (vae, says) in [("\"nowhere\"", "sd, other, wider"), ("1", "name of a model"), ("\"wider\"", "factor of 4")] {
        let error = super::picture::make(&engine, make(vae)).await.unwrap_err();
        assert_eq!(error.param(), Some("options.vae"), "{error}");
        assert!(error.message().contains(says), "{error}");
    }
}

fn file(name: &str) -> PathBuf {
    folder("loras").join(format!("{name}.safetensors"))
}

/// How far the latents of a run are off at most.
fn latents(golden: &Golden, name: &str, model: &str, loras: &[(PathBuf, f64)]) -> easel_engine::Result<f64> {
    let at = tempfile::tempdir().unwrap();
    let files = Files::Folder(prepared(model, at.path()));
    let loras: Vec<(&Path, f64)> = loras.iter().map(|(path, weight)| (path.as_path(), *weight)).collect();
    let model_with = open(&files.with_loras(&loras)?);
    let recipe = Recipe { steps: 3, ..recipe(model, "ddim", &model_with) };
    let mut run = Denoising::begin(model_with, &recipe)?;
    let mut worst = 0f64;
    for step in 0..run.steps() {
        run.step(step)?;
        worst = worst.max(golden.error(&format!("{name}.latents.step{step}"), &run.latents()));
    }
    Ok(worst)
}

/// Writes tensors of these shapes, full of zeros.
fn write(path: &Path, shapes: &Value) {
    let (mut header, mut end) = (json!({}), 0);
    for (key, shape) in shapes.as_object().unwrap() {
        let start = end;
        end += 4 * shape.as_array().unwrap().iter().map(|side| side.as_u64().unwrap()).product::<u64>();
        header[key] = json!({"dtype": "F32", "shape": shape, "data_offsets": [start, end]});
    }
    let header = header.to_string();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + end as usize, 0);
    std::fs::write(path, bytes).unwrap();
}

/// A folder of models with one model and the fixture's files.
fn models() -> tempfile::TempDir {
    let models = tempfile::tempdir().unwrap();
    copy_folder(&prepared("tiny-sd", models.path().join("made").as_path()), &models.path().join("sd"));
    std::fs::remove_dir_all(models.path().join("made")).unwrap();
    copy_folder(&folder("loras"), &models.path().join("loras"));
    models
}

fn start(models: &Path) -> Engine {
    let options = EngineOptions {
        models: Some(models.to_owned()),
        default_model: Some("sd".to_owned()),
        built_in: false,
        ..EngineOptions::default()
    };
    Engine::start(options).unwrap()
}

fn draft(prompt: &str, options: std::collections::BTreeMap<String, OptionValue>) -> Draft {
    Draft { seed: Some(1), steps: Some(2), size: easel_core::Size::new(24, 16), options, ..Draft::new(prompt) }
}

async fn picture(engine: &Engine, prompt: &str, loras: Option<&str>) -> Result<Output, Error> {
    let option = |json: &str| OptionValue { json: json.to_owned(), on_unknown: OnUnknown::Refuse };
    make(engine, draft(prompt, loras.map(|json| ("loras".to_owned(), option(json))).into_iter().collect())).await
}

fn pixels(output: &Output) -> Vec<u8> {
    image::load_from_memory(&output.images[0].image.bytes).unwrap().to_rgb8().into_raw()
}
