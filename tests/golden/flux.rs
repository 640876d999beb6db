//! FLUX.1 against transformers and diffusers: tokens, text states, every block, runs as dev and as schnell; and mistakes that each
//! show.

use std::sync::{Arc, OnceLock};

use easel_engine::family::flux::Flux;
use easel_engine::trace::Recorder;
use serde_json::json;

use super::flow::{Spoiled, agrees, complaint, files, finish, recipe, refuses, seen, shared};
use super::{BLOCK, Golden, LATENTS, folder};

const MODEL: &str = "tiny-flux";

fn model() -> Arc<Flux> {
    static LOADED: OnceLock<Arc<Flux>> = OnceLock::new();
    shared(&LOADED, || Flux::open(&files(MODEL)).unwrap())
}

fn golden() -> Golden {
    Golden::read("tiny-flux.safetensors")
}

fn open(spoiled: &Spoiled) -> Arc<Flux> {
    Arc::new(Flux::open(&spoiled.files()).unwrap())
}

/// The model as schnell: told no guidance, its levels not shifted.
fn schnell() -> Spoiled {
    Spoiled::copy(MODEL)
        .with("transformer/config.json", "guidance_embeds", json!(false))
        .with("scheduler/scheduler_config.json", "use_dynamic_shifting", json!(false))
        .with("scheduler/scheduler_config.json", "shift", json!(1.0))
}

fn begin(model: &Arc<Flux>, at: &std::path::Path, recorder: &Recorder) -> easel_engine::flow::Flowing {
    let mut recipe = recipe(MODEL, at);
    recipe.guidance = super::json("tiny-flux.json")["guidance_scale"].as_f64().unwrap();
    Arc::clone(model).begin_traced(&recipe, recorder).unwrap()
}

#[test]
fn t5_cuts_and_reads_a_prompt_as_transformers_does_and_clip_reads_it_as_a_whole() {
    let golden = golden();
    let prompt = super::json("tiny-flux.json")["prompt"].as_str().unwrap().to_owned();
    for (row, text) in [prompt.as_str(), "a Zebra  photographs\n1874 ~ mountain-lakes "].into_iter().enumerate() {
        let tokens = model().tokens(text).unwrap();
        let ids: Vec<f64> = tokens.ids[..tokens.used].iter().copied().map(f64::from).collect();
        assert_eq!(ids, golden.flat(&format!("ids.{row}")), "{text:?}");
        assert_eq!((tokens.ids.len(), tokens.dropped), (512, 0));
    }
    let long = model().tokens(&"circle ".repeat(600)).unwrap();
    assert_eq!((long.used, long.ids[511]), (512, 1), "the end token is kept");
    assert!(long.dropped >= 600 + 1 - 512);
    let (states, whole) = model().states(&prompt, &Recorder::default()).unwrap();
    let errors = [golden.error("text2.last", &states), golden.error("text.whole", &whole)];
    assert!(errors.iter().all(|error| *error <= BLOCK), "{errors:?}");
    println!("text {errors:?}");
}

#[test]
fn every_block_of_the_transformer_gives_what_diffusers_gives() {
    let (error, key) = blocks(&model());
    assert!(error <= BLOCK, "{key} is off by {error:e}");
    println!("transformer {error:.1e} at {key}");
}

/// The worst block of a run's first step.
fn blocks(model: &Arc<Flux>) -> (f64, String) {
    let recorder = Recorder::default();
    begin(model, &folder(MODEL), &recorder).step_traced(0, &recorder).unwrap();
    golden().worst(&["transformer."], &recorder.into_values())
}

#[test]
fn whole_runs_leave_what_diffusers_leaves_as_dev_and_as_schnell() {
    let golden = golden();
    agrees(begin(&model(), &folder(MODEL), &Recorder::default()), "dev", &golden);
    let schnell = schnell();
    agrees(begin(&open(&schnell), schnell.path(), &Recorder::default()), "schnell", &golden);
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
        ("axes of unequal share", Spoiled::copy(MODEL).with(config, "axes_dims_rope", json!([4, 8, 4]))),
    ] {
        seen(mistake, blocks(&open(&spoiled)).0, BLOCK);
    }
    let recorder = Recorder::default();
    let mut other = recipe(MODEL, &folder(MODEL));
    other.guidance = 3.4;
    model().begin_traced(&other, &recorder).unwrap().step_traced(0, &recorder).unwrap();
    seen("another guidance", golden().worst(&["transformer."], &recorder.into_values()).0, BLOCK);
}

#[test]
fn wrong_texts_levels_and_latents_are_seen() {
    let golden = golden();
    let prompt = super::json("tiny-flux.json")["prompt"].as_str().unwrap().to_owned();
    let t5 = "text_encoder_2/config.json";
    for (key, wrong) in
        [("relative_attention_max_distance", json!(64)), ("layer_norm_epsilon", json!(1e-3)), ("num_layers", json!(2))]
    {
        let (states, _) =
            open(&Spoiled::copy(MODEL).with(t5, key, wrong)).states(&prompt, &Recorder::default()).unwrap();
        seen(key, golden.error("text2.last", &states), BLOCK);
    }
    let clip = Spoiled::copy(MODEL).with("text_encoder/config.json", "hidden_act", json!("gelu"));
    let (_, whole) = open(&clip).states(&prompt, &Recorder::default()).unwrap();
    seen("the other GELU", golden.error("text.whole", &whole), BLOCK);
    let run =
        |spoiled: Spoiled, kind| finish(begin(&open(&spoiled), spoiled.path(), &Recorder::default()), kind, &golden);
    let scheduler = "scheduler/scheduler_config.json";
    seen("schnell with a shift", run(schnell().with(scheduler, "shift", json!(3.0)), "schnell").0, LATENTS);
    seen("another shift of dev", run(Spoiled::copy(MODEL).with(scheduler, "base_shift", json!(0.6)), "dev").0, LATENTS);
    for key in ["shift_factor", "scaling_factor"] {
        seen(key, run(Spoiled::copy(MODEL).with("vae/config.json", key, json!(0.6)), "dev").1, 0.001);
    }
}

#[test]
fn a_tensor_that_t5_lacks_is_told_by_its_name() {
    let spoiled = Spoiled::copy(MODEL).with("text_encoder_2/config.json", "num_layers", json!(4));
    let error = Flux::open(&spoiled.files()).err().unwrap().to_string();
    assert!(error.contains("encoder.block.3.layer.0.") && error.contains("missing"), "{error}");
    let spoiled = Spoiled::copy(MODEL).with("text_encoder_2/config.json", "d_ff", json!(50));
    let error = Flux::open(&spoiled.files()).err().unwrap().to_string();
    assert!(error.contains("DenseReluDense") && error.contains("[50, 40]"), "{error}");
}

#[test]
fn what_is_not_built_is_refused_by_file_and_key_without_weights() {
    refuses(
        MODEL,
        complaint,
        &[
            ("transformer/config.json", "_class_name", json!("Flux2Transformer2DModel")),
            ("transformer/config.json", "patch_size", json!(2)),
            ("transformer/config.json", "out_channels", json!(64)),
            ("transformer/config.json", "axes_dims_rope", json!([8, 8])),
            ("transformer/config.json", "in_channels", json!(24)),
            ("transformer/config.json", "joint_attention_dim", json!(48)),
            ("transformer/config.json", "pooled_projection_dim", json!(48)),
            ("text_encoder_2/config.json", "model_type", json!("umt5")),
            ("text_encoder_2/config.json", "feed_forward_proj", json!("gated-silu")),
            ("text_encoder_2/config.json", "relative_attention_num_buckets", json!(30)),
            ("vae/config.json", "_class_name", json!("AutoencoderKLFlux2")),
        ],
    );
}
