//! FLUX.2 [klein] against transformers and diffusers: tokens, text states, every block, runs with and without pictures to look
//! at, guided and not; and mistakes that each show.

use std::sync::{Arc, OnceLock};

use easel_engine::family::flux2_klein::Klein;
use easel_engine::family::{Model, Recipe};
use easel_engine::given::Given;
use easel_engine::pixels::Pixels;
use easel_engine::trace::Recorder;
use serde_json::json;

use super::flow::{Spoiled, agrees, complaint, files, finish, recipe, refuses, seen, shared};
use super::{BLOCK, Golden, LATENTS, folder};

const MODEL: &str = "tiny-klein";

fn model() -> Arc<Klein> {
    static LOADED: OnceLock<Arc<Klein>> = OnceLock::new();
    shared(&LOADED, || Klein::open(&files(MODEL)).unwrap())
}

fn golden() -> Golden {
    Golden::read("tiny-klein.safetensors")
}

fn prompt() -> String {
    super::json("tiny-klein.json")["prompt"].as_str().unwrap().to_owned()
}

fn references(golden: &Golden, count: usize) -> Vec<Pixels> {
    (0..count)
        .map(|index| {
            let stored = golden.values(&format!("reference.{index}.u8"));
            let bytes = stored.values.iter().map(|value| *value as u8).collect();
            Pixels::from_bytes(bytes, stored.dims[1] as u32, stored.dims[0] as u32).unwrap()
        })
        .collect()
}

#[test]
fn the_prompt_is_put_into_its_chat_and_cut_into_tokens_as_transformers_does() {
    let golden = golden();
    assert_eq!(model().chat(&prompt()).unwrap(), super::json("tiny-klein.json")["chat"].as_str().unwrap());
    let tokens = model().tokens(&prompt()).unwrap();
    let ids: Vec<f64> = tokens.ids.iter().copied().map(f64::from).collect();
    assert_eq!(ids, golden.flat("ids"));
    assert_eq!(tokens.used as f64, golden.flat("used")[0]);
    assert_eq!(tokens.dropped, 0);
    let long = model().tokens(&"circle ".repeat(2000)).unwrap();
    assert_eq!((long.ids.len(), long.used), (512, 512));
    assert!(long.dropped > 1000, "{}", long.dropped);
}

#[test]
fn the_text_encoder_gives_what_transformers_gives_padding_included() {
    let (golden, recorder) = (golden(), Recorder::default());
    let states = model().states(&prompt(), &recorder).unwrap();
    let (error, key) = golden.worst(&["text.hidden"], &recorder.into_values());
    assert!(error <= BLOCK, "{key} is off by {error:e}");
    println!("text {error:.1e} at {key}");
    let error = golden.error("text.states", &states);
    assert!(error <= BLOCK, "{error:e}");
}

#[test]
fn every_block_of_the_transformer_gives_what_diffusers_gives() {
    let (error, key) = blocks(&model());
    assert!(error <= BLOCK, "{key} is off by {error:e}");
    println!("transformer {error:.1e} at {key}");
}

/// The worst block of a run's first step.
fn blocks(model: &Arc<Klein>) -> (f64, String) {
    let (golden, recorder) = (golden(), Recorder::default());
    let recipe = recipe(MODEL, &folder(MODEL));
    let mut run = Arc::clone(model).begin_with(&recipe, &[], &recorder).unwrap();
    run.step_traced(0, &recorder).unwrap();
    golden.worst(&["transformer."], &recorder.into_values())
}

#[test]
fn both_halves_of_the_autoencoder_give_what_diffusers_gives() {
    let (golden, recorder) = (golden(), Recorder::default());
    let picture = model().decode(&golden.values("vae.decode.input"), &recorder).unwrap();
    let latents = model().encode_picture(&golden.values("vae.encode.input"), &recorder).unwrap();
    let (error, key) = golden.worst(&["vae."], &recorder.into_values());
    assert!(error <= BLOCK, "{key} is off by {error:e}");
    println!("autoencoder {error:.1e} at {key}");
    let ends = [golden.error("vae.decode.output", &picture), golden.error("vae.encode.output", &latents)];
    assert!(ends.iter().all(|error| *error <= BLOCK), "{ends:?}");
}

#[test]
fn a_picture_is_scaled_to_the_last_bit_as_python_programs_scale() {
    let golden = golden();
    let picture = references(&golden, 1).remove(0);
    for (width, height) in [(41, 57), (70, 90), (83, 31)] {
        let scaled = picture.scaled(width, height).unwrap();
        let got: Vec<f64> = scaled.as_bytes().iter().copied().map(f64::from).collect();
        assert_eq!(got, golden.flat(&format!("scaled.{width}x{height}.u8")), "{width}x{height}");
    }
}

#[test]
fn whole_runs_leave_what_diffusers_leaves() {
    let (golden, recipe) = (golden(), recipe(MODEL, &folder(MODEL)));
    let begin =
        |recipe: &Recipe, count| model().begin_with(recipe, &references(&golden, count), &Recorder::default()).unwrap();
    agrees(begin(&recipe, 0), "plain", &golden);
    agrees(begin(&recipe, 2), "edit", &golden);
    let mut sized = recipe;
    sized.size = (80, 68);
    agrees(begin(&sized, 1), "edit-sized", &golden);
}

#[test]
fn the_pictures_of_a_request_are_looked_at_those_to_change_first() {
    let golden = golden();
    let mut images = references(&golden, 2);
    let references = vec![images.pop().unwrap()];
    let given = Given { images, references, mask: None, strength: 0.8 };
    let recipe = Recipe { given: Some(Arc::new(given)), ..recipe(MODEL, &folder(MODEL)) };
    let mut run = Model::begin(model(), &recipe).unwrap();
    for step in 0..run.steps() {
        run.step(step).unwrap();
        assert_eq!(run.preview().unwrap().size(), (40, 24));
    }
    let (got, want) = (run.finish().unwrap(), golden.flat("edit.image.u8"));
    let off = got.as_bytes().iter().zip(want).filter(|(got, want)| (f64::from(**got) - **want).abs() > 1.0).count();
    assert!(off as f64 <= 0.001 * want.len() as f64, "{off} of {} are off", want.len());
}

#[test]
fn a_model_that_is_not_distilled_is_guided_and_a_distilled_one_is_not() {
    let golden = golden();
    let mut guided = recipe(MODEL, &folder(MODEL));
    guided.guidance = super::json("tiny-klein.json")["guidance_scale"].as_f64().unwrap();
    agrees(model().begin_with(&guided, &[], &Recorder::default()).unwrap(), "plain", &golden);
    let spoiled = Spoiled::copy(MODEL).with("model_index.json", "is_distilled", json!(false));
    let model = Arc::new(Klein::open(&spoiled.files()).unwrap());
    agrees(model.begin_with(&guided, &[], &Recorder::default()).unwrap(), "guided", &golden);
}

#[test]
fn a_wrong_text_encoder_is_seen() {
    let golden = golden();
    for (key, wrong) in [
        ("rope_parameters.rope_theta", json!(10_000.0)),
        ("rms_norm_eps", json!(1e-3)),
        ("num_hidden_layers", json!(4)),
    ] {
        let spoiled = Spoiled::copy(MODEL).with("text_encoder/config.json", key, wrong);
        let got = Klein::open(&spoiled.files()).unwrap().states(&prompt(), &Recorder::default()).unwrap();
        seen(key, golden.error("text.states", &got), BLOCK);
    }
    let chat = "{{ '<|im_start|>user\\n' + messages[0].content + '<|im_end|>\\n<|im_start|>assistant\\n' }}";
    let spoiled = Spoiled::copy(MODEL);
    std::fs::write(spoiled.path().join("tokenizer/chat_template.jinja"), chat).unwrap();
    let got = Klein::open(&spoiled.files()).unwrap().states(&prompt(), &Recorder::default()).unwrap();
    seen("a chat that may think", golden.error("text.states", &got), BLOCK);
}

#[test]
fn a_wrong_transformer_is_seen() {
    let weights = "transformer/diffusion_pytorch_model.safetensors";
    let config = "transformer/config.json";
    for (mistake, spoiled) in [
        (
            "scale and shift swapped at the end",
            Spoiled::copy(MODEL).with_swapped_halves(weights, "norm_out.linear.weight"),
        ),
        ("axes of unequal share", Spoiled::copy(MODEL).with(config, "axes_dims_rope", json!([4, 4, 4, 4]))),
        ("frequencies", Spoiled::copy(MODEL).with(config, "rope_theta", json!(10_000))),
        ("epsilon", Spoiled::copy(MODEL).with(config, "eps", json!(1e-3))),
    ] {
        let (error, _) = blocks(&Arc::new(Klein::open(&spoiled.files()).unwrap()));
        seen(mistake, error, BLOCK);
    }
}

#[test]
fn wrong_latents_levels_and_pictures_to_look_at_are_seen() {
    let (golden, recipe) = (golden(), recipe(MODEL, &folder(MODEL)));
    let run = |model: Arc<Klein>, pictures: &[Pixels], kind| {
        finish(model.begin_with(&recipe, pictures, &Recorder::default()).unwrap(), kind, &golden)
    };
    let open = |spoiled: &Spoiled| Arc::new(Klein::open(&spoiled.files()).unwrap());
    seen("no picture to look at", run(model(), &[], "edit").0, LATENTS);
    let mut swapped = references(&golden, 2);
    swapped.reverse();
    seen("pictures to look at in another order", run(model(), &swapped, "edit").0, LATENTS);
    seen("one picture of two", run(model(), &swapped[1..], "edit").0, LATENTS);
    let noise = "scheduler/scheduler_config.json";
    let level = Spoiled::copy(MODEL).with(noise, "time_shift_type", json!("linear"));
    seen("a linear shift", run(open(&level), &[], "plain").0, LATENTS);
    let epsilon = Spoiled::copy(MODEL).with("vae/config.json", "batch_norm_eps", json!(1e-1));
    seen("epsilon of the latents", run(open(&epsilon), &references(&golden, 2), "edit").0, LATENTS);
    let weights = "vae/diffusion_pytorch_model.safetensors";
    let mean = Spoiled::copy(MODEL).with_zeros(weights, "bn.running_mean");
    seen("no mean of the latents", run(open(&mean), &[], "plain").1, 0.001);
}

#[test]
fn what_is_not_built_is_refused_by_file_and_key_without_weights() {
    let other = |name: &str| json!(name);
    refuses(
        MODEL,
        complaint,
        &[
            ("transformer/config.json", "guidance_embeds", json!(true)),
            ("transformer/config.json", "patch_size", json!(2)),
            ("transformer/config.json", "_class_name", other("FluxTransformer2DModel")),
            ("transformer/config.json", "axes_dims_rope", json!([2, 4, 6])),
            ("transformer/config.json", "in_channels", json!(24)),
            ("transformer/config.json", "joint_attention_dim", json!(48)),
            ("transformer/config.json", "out_channels", json!(40)),
            ("text_encoder/config.json", "model_type", other("mistral")),
            ("text_encoder/config.json", "hidden_act", other("gelu")),
            ("text_encoder/config.json", "attention_bias", json!(true)),
            ("text_encoder/config.json", "use_sliding_window", json!(true)),
            ("text_encoder/config.json", "rope_parameters.rope_type", other("yarn")),
            ("text_encoder/config.json", "num_hidden_layers", json!(7)),
            ("vae/config.json", "_class_name", other("AutoencoderKL")),
            ("vae/config.json", "patch_size", json!([1, 1])),
            ("vae/config.json", "act_fn", other("relu")),
        ],
    );
}
