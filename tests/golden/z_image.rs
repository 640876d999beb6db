//! Z-Image against transformers and diffusers: tokens, text states, every block, runs guided and not; and mistakes that each
//! show.

use std::sync::{Arc, OnceLock};

use easel_engine::family::Run;
use easel_engine::family::z_image::ZImage;
use easel_engine::trace::Recorder;
use serde_json::json;

use super::flow::{Spoiled, complaint, files, finish, recipe, refuses, seen, shared};
use super::{BLOCK, Golden, LATENTS, folder};

const MODEL: &str = "tiny-z-image";

fn model() -> Arc<ZImage> {
    static LOADED: OnceLock<Arc<ZImage>> = OnceLock::new();
    shared(&LOADED, || ZImage::open(&files(MODEL)).unwrap())
}

fn golden() -> Golden {
    Golden::read("tiny-z-image.safetensors")
}

fn text(key: &str) -> String {
    super::json("tiny-z-image.json")[key].as_str().unwrap().to_owned()
}

fn open(spoiled: &Spoiled) -> Arc<ZImage> {
    Arc::new(ZImage::open(&spoiled.files()).unwrap())
}

#[test]
fn the_prompt_is_read_without_padding_from_the_layer_before_the_last() {
    let golden = golden();
    assert_eq!(model().chat(&text("prompt")).unwrap(), text("chat"));
    let tokens = model().tokens(&text("prompt")).unwrap();
    let ids: Vec<f64> = tokens.ids[..tokens.used].iter().copied().map(f64::from).collect();
    assert_eq!(ids, golden.flat("ids"));
    let states = model().states(&text("prompt"), &Recorder::default()).unwrap();
    let error = golden.error("text.states", &states);
    assert!(error <= BLOCK, "{error:e}");
    println!("text {error:.1e}");
}

#[test]
fn every_block_of_the_transformer_gives_what_diffusers_gives() {
    let (error, key) = blocks(&model());
    assert!(error <= BLOCK, "{key} is off by {error:e}");
    println!("transformer {error:.1e} at {key}");
}

/// The worst block of a run's second step; in the first, the time is 0 and hides its embedding.
fn blocks(model: &Arc<ZImage>) -> (f64, String) {
    let recorder = Recorder::default();
    let mut recipe = recipe(MODEL, &folder(MODEL));
    recipe.guidance = 0.0;
    let mut run = Arc::clone(model).begin_traced(&recipe, &recorder).unwrap();
    run.step(0).unwrap();
    run.step_traced(1, &recorder).unwrap();
    golden().worst(&["transformer."], &recorder.into_values())
}

#[test]
fn the_decoder_gives_what_diffusers_gives() {
    let (golden, recorder) = (golden(), Recorder::default());
    let picture = model().decode(&golden.values("vae.decode.input"), &recorder).unwrap();
    let (error, key) = golden.worst(&["vae."], &recorder.into_values());
    assert!(error <= BLOCK, "{key} is off by {error:e}");
    let error = golden.error("vae.decode.output", &picture);
    assert!(error <= BLOCK, "{error:e}");
}

/// Runs by this model: the worst of the latents and of the picture.
fn run(model: &Arc<ZImage>, kind: &str) -> (f64, f64) {
    let mut recipe = recipe(MODEL, &folder(MODEL));
    recipe.guidance = 0.0;
    if kind == "guided" {
        recipe.guidance = super::json("tiny-z-image.json")["guidance_scale"].as_f64().unwrap();
        recipe.negative_prompt = Some(text("negative_prompt"));
    }
    finish(Arc::clone(model).begin_traced(&recipe, &Recorder::default()).unwrap(), kind, &golden())
}

#[test]
fn whole_runs_leave_what_diffusers_leaves_guided_and_not() {
    for kind in ["plain", "guided"] {
        let (latents, pixels) = run(&model(), kind);
        assert!(latents <= LATENTS, "{kind}: latents are off by {latents:e}");
        assert!(pixels <= 0.001, "{kind}: {pixels} of the picture is off by a level");
        println!("{kind}: latents {latents:.1e}, picture {pixels:.2e} beyond one level");
    }
}

#[test]
fn a_wrong_transformer_is_seen() {
    let weights = "transformer/diffusion_pytorch_model.safetensors";
    let config = "transformer/config.json";
    for (mistake, spoiled) in [
        ("no token for the picture's padding", Spoiled::copy(MODEL).with_zeros(weights, "x_pad_token")),
        ("no token for the text's padding", Spoiled::copy(MODEL).with_zeros(weights, "cap_pad_token")),
        ("axes of unequal share", Spoiled::copy(MODEL).with(config, "axes_dims", json!([6, 6, 6]))),
        ("frequencies", Spoiled::copy(MODEL).with(config, "rope_theta", json!(10_000.0))),
        ("the time's scale", Spoiled::copy(MODEL).with(config, "t_scale", json!(1.0))),
        ("epsilon", Spoiled::copy(MODEL).with(config, "norm_eps", json!(1e-3))),
        ("scale and gate swapped", {
            Spoiled::copy(MODEL).with_swapped_halves(weights, "layers.1.adaLN_modulation.0.weight")
        }),
    ] {
        seen(mistake, blocks(&open(&spoiled)).0, BLOCK);
    }
}

#[test]
fn a_wrong_text_levels_and_autoencoder_are_seen() {
    let scheduler = "scheduler/scheduler_config.json";
    seen("no shift", run(&open(&Spoiled::copy(MODEL).with(scheduler, "shift", json!(1.0))), "plain").0, LATENTS);
    let layer = Spoiled::copy(MODEL).with("text_encoder/config.json", "num_hidden_layers", json!(3));
    seen("another layer of the text", run(&open(&layer), "plain").0, LATENTS);
    let template = "tokenizer/chat_template.jinja";
    let chat = Spoiled::copy(MODEL);
    let thinking = std::fs::read_to_string(chat.path().join(template)).unwrap();
    std::fs::write(chat.path().join(template), thinking.replace("enable_thinking is false", "enable_thinking"))
        .unwrap();
    seen("a chat that may not think", run(&open(&chat), "plain").0, LATENTS);
    for key in ["shift_factor", "scaling_factor"] {
        seen(key, run(&open(&Spoiled::copy(MODEL).with("vae/config.json", key, json!(0.6))), "plain").1, 0.001);
    }
}

#[test]
fn a_picture_with_more_patches_than_places_is_refused_with_both_numbers() {
    let mut recipe = recipe(MODEL, &folder(MODEL));
    recipe.size = (4 * 49, 24);
    let error = model().begin_traced(&recipe, &Recorder::default()).err().unwrap().to_string();
    assert!(error.contains("49 by 6") && error.contains("48 by 64"), "{error}");
}

#[test]
fn what_is_not_built_is_refused_by_file_and_key_without_weights() {
    refuses(
        MODEL,
        complaint,
        &[
            ("transformer/config.json", "_class_name", json!("FluxTransformer2DModel")),
            ("transformer/config.json", "all_patch_size", json!([1])),
            ("transformer/config.json", "all_f_patch_size", json!([2])),
            ("transformer/config.json", "qk_norm", json!(false)),
            ("transformer/config.json", "siglip_feat_dim", json!(1152)),
            ("transformer/config.json", "n_kv_heads", json!(1)),
            ("transformer/config.json", "axes_dims", json!([4, 8, 8])),
            ("transformer/config.json", "axes_lens", json!([4, 8])),
            ("transformer/config.json", "cap_feat_dim", json!(20)),
            ("transformer/config.json", "in_channels", json!(4)),
            ("text_encoder/config.json", "model_type", json!("mistral")),
            ("text_encoder/config.json", "num_hidden_layers", json!(1)),
            ("vae/config.json", "_class_name", json!("AutoencoderKLFlux2")),
            ("vae/config.json", "latents_mean", json!([0.0])),
        ],
    );
}
