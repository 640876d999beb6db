//! Proof that the tolerances bite: each likely mistake, made by changing a model's own files, is far beyond its gate.
//!
//! `mutations.json` lists more mistakes and how far diffusers itself moves under them; these are those that can be made from
//! outside, without a hook in the engine.

use std::path::Path;

use easel_engine::trace::Recorder;
use serde_json::{Value, json};

use super::pipeline::{copy_folder, prepared, run};
use super::unet::{told, told_traced};
use super::{BLOCK, Golden, LATENTS, folder, load};

/// A mistake must pass its gate tenfold.
const BITES: f64 = 10.0;

#[test]
fn a_wrong_denoising_network_is_seen() {
    for (model, key, wrong) in [
        ("tiny-sd", "attention_head_dim", json!([3, 5])),
        ("tiny-sd2", "attention_head_dim", json!([8, 8])),
        ("tiny-sd", "norm_eps", json!(1e-6)),
        ("tiny-sd2", "norm_eps", json!(1e-6)),
        ("tiny-sd", "norm_num_groups", json!(4)),
        ("tiny-sd", "flip_sin_to_cos", json!(false)),
        ("tiny-sd2", "flip_sin_to_cos", json!(false)),
        ("tiny-sd", "freq_shift", json!(1)),
        ("tiny-sd2", "freq_shift", json!(1)),
        ("tiny-sdxl", "attention_head_dim", json!([4, 6, 2])),
        ("tiny-sdxl", "freq_shift", json!(1)),
    ] {
        let spoiled = Spoiled::new(model, "unet/config.json", key, &wrong);
        let golden = Golden::read(&format!("{model}.safetensors"));
        let right = told(model, &super::model(model));
        let wrong_model = load(spoiled.path());
        let got = wrong_model.predict(&golden.values("unet.odd.sample"), 500.0, &right, &Recorder::default()).unwrap();
        seen(&format!("{model}: {key} = {wrong}"), golden.error("unet.odd.output", &got), BLOCK);
    }
}

#[test]
fn a_wrong_text_encoder_is_seen() {
    for (model, key, wrong) in [
        ("tiny-sd", "hidden_act", json!("gelu")),
        ("tiny-sd2", "hidden_act", json!("quick_gelu")),
        ("tiny-sd2", "hidden_act", json!("gelu_new")),
        ("tiny-sd", "num_attention_heads", json!(2)),
        ("tiny-sd2", "num_attention_heads", json!(2)),
        ("tiny-sd", "layer_norm_eps", json!(1e-3)),
        ("tiny-sd", "num_hidden_layers", json!(4)),
    ] {
        let spoiled = Spoiled::new(model, "text_encoder/config.json", key, &wrong);
        let golden = Golden::read(&format!("{model}.safetensors"));
        let got = told(model, &load(spoiled.path())).text;
        seen(&format!("{model}: {key} = {wrong}"), golden.error("text.last", &got), BLOCK);
    }
}

#[test]
fn a_wrong_padding_token_is_seen() {
    let spoiled = Spoiled::new("tiny-sd", "tokenizer/tokenizer_config.json", "pad_token", &json!("!"));
    let golden = Golden::read("tiny-sd.safetensors");
    let model = load(spoiled.path());
    seen("pad token", golden.error("text.last", &told("tiny-sd", &model).text), BLOCK);
    assert_ne!(model.tokens("a").unwrap().ids, super::model("tiny-sd").tokens("a").unwrap().ids);
}

#[test]
fn a_wrong_second_text_encoder_is_seen() {
    let golden = Golden::read("tiny-sdxl.safetensors");
    let first_word = golden.flat("ids2.1")[1] as u64;
    for (file, key, wrong, tensor) in [
        ("tokenizer_2/tokenizer_config.json", "pad_token", json!("<|endoftext|>"), "text.context"),
        ("text_encoder_2/config.json", "hidden_act", json!("quick_gelu"), "text.context"),
        ("text_encoder_2/config.json", "num_hidden_layers", json!(3), "text.context"),
        ("text_encoder_2/config.json", "eos_token_id", json!(first_word), "text2.pooled"),
        ("text_encoder_2/config.json", "eos_token_id", json!(first_word), "unet.add_embedding"),
        ("unet/config.json", "flip_sin_to_cos", json!(false), "unet.add_embedding"),
    ] {
        let spoiled = Spoiled::new("tiny-sdxl", file, key, &wrong);
        let recorder = Recorder::default();
        told_traced("tiny-sdxl", &load(spoiled.path()), &recorder);
        seen(&format!("tiny-sdxl: {key} = {wrong}"), golden.error(tensor, &recorder.into_values()[tensor]), BLOCK);
    }
}

#[test]
fn a_prompt_that_is_absent_and_one_that_is_empty_are_told_apart() {
    let at = tempfile::tempdir().unwrap();
    let copy = prepared("tiny-sdxl", at.path());
    let golden = Golden::read("tiny-sdxl.safetensors");
    set(&copy.join("model_index.json"), "force_zeros_for_empty_prompt", &json!(false));
    seen("absent read as empty", run("tiny-sdxl", "absent", &load(&copy), &golden).latents, LATENTS);
}

#[test]
fn a_wrong_autoencoder_is_seen() {
    let spoiled = Spoiled::new("tiny-sd", "vae/config.json", "norm_num_groups", &json!(4));
    let golden = Golden::read("tiny-sd.safetensors");
    let got = load(spoiled.path()).decode(&golden.values("vae.decode.input"), &Recorder::default()).unwrap();
    seen("groups of the autoencoder", golden.error("vae.decode.output", &got), BLOCK);
}

#[test]
fn a_wrong_scaling_factor_is_seen_in_the_picture() {
    let at = tempfile::tempdir().unwrap();
    let copy = prepared("tiny-sd", at.path());
    let golden = Golden::read("tiny-sd.safetensors");
    let file = copy.join("vae/config.json");
    let right = read(&file)["scaling_factor"].as_f64().unwrap();
    set(&file, "scaling_factor", &json!(right * 1.1));
    let errors = run("tiny-sd", "ddim", &load(&copy), &golden);
    assert!(errors.latents <= LATENTS, "the latents come before it: {:e}", errors.latents);
    seen("scaling factor", errors.pixels, 0.001);
}

#[test]
fn wrong_noise_levels_are_seen_in_the_latents() {
    for (key, wrong) in [
        ("beta_schedule", json!("linear")),
        ("beta_end", json!(0.02)),
        ("prediction_type", json!("v_prediction")),
        ("timestep_spacing", json!("trailing")),
        ("set_alpha_to_one", json!(true)),
    ] {
        let at = tempfile::tempdir().unwrap();
        let copy = prepared("tiny-sd", at.path());
        set(&copy.join("scheduler/scheduler_config.json"), key, &wrong);
        let golden = Golden::read("tiny-sd.safetensors");
        seen(&format!("{key} = {wrong}"), run("tiny-sd", "ddim", &load(&copy), &golden).latents, LATENTS);
    }
}

#[test]
fn what_is_not_built_is_refused_by_file_key_and_value() {
    for (file, key, wrong) in [
        ("unet/config.json", "resnet_time_scale_shift", json!("scale_shift")),
        ("unet/config.json", "addition_embed_type", json!("text_image")),
        ("unet/config.json", "act_fn", json!("gelu")),
        ("text_encoder/config.json", "hidden_act", json!("relu")),
        ("vae/config.json", "_class_name", json!("AutoencoderTiny")),
    ] {
        let spoiled = Spoiled::new("tiny-sd", file, key, &wrong);
        let files = easel_engine::Files::Folder(spoiled.path().to_owned());
        let error = easel_engine::family::stable_diffusion::open(&files).err().unwrap().to_string();
        let value = wrong.as_str().unwrap();
        assert!(error.contains(file) && error.contains(key) && error.contains(value), "{error}");
    }
}

fn seen(mistake: &str, error: f64, gate: f64) {
    assert!(error >= BITES * gate, "{mistake}: {error:e} is not {BITES} times {gate:e}");
    println!("{mistake}: {:.0} times its gate", error / gate);
}

/// A copy of a model with one key of one file changed.
struct Spoiled {
    at: tempfile::TempDir,
}

impl Spoiled {
    fn new(model: &str, file: &str, key: &str, value: &Value) -> Self {
        let at = tempfile::tempdir().unwrap();
        copy_folder(&folder(model), at.path());
        set(&at.path().join(file), key, value);
        Self { at }
    }

    fn path(&self) -> &Path {
        self.at.path()
    }
}

fn read(file: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

fn set(file: &Path, key: &str, value: &Value) {
    let mut config = read(file);
    config[key] = value.clone();
    std::fs::write(file, config.to_string()).unwrap();
}
