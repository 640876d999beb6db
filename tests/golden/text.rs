//! The text encoders against transformers'.

use easel_engine::trace::Recorder;

use super::unet::{prompts, told_traced};
use super::{BLOCK, Golden, MODELS, model};

#[test]
fn every_layer_of_the_text_encoders_gives_what_transformers_gives() {
    for name in MODELS {
        let golden = Golden::read(&format!("{name}.safetensors"));
        for (row, prompt) in prompts(name).iter().enumerate() {
            let ids: Vec<f64> = model(name).tokens(prompt).unwrap().ids.into_iter().map(f64::from).collect();
            assert_eq!(ids, golden.flat(&format!("ids.{row}")), "{name}: {prompt:?}");
        }
        let recorder = Recorder::default();
        told_traced(name, &model(name), &recorder);
        let parts = if golden.has("text2.pooled") {
            &["text.hidden", "text.context", "text2."][..]
        } else {
            &["text.hidden", "text.last"][..]
        };
        let (error, key) = golden.worst(parts, &recorder.into_values());
        assert!(error <= BLOCK, "{name}: {key} is off by {error:e}");
        println!("{name}: text {error:.1e} at {key}");
        if golden.has("text.clip_skip.1") {
            let skipped = model(name).read(&prompts(name), 1, (8, 8), &Recorder::default()).unwrap().text;
            let error = golden.error("text.clip_skip.1", &skipped);
            assert!(error <= BLOCK, "{name}: clip skip is off by {error:e}");
        }
    }
}

#[test]
fn a_prompt_is_pooled_at_its_first_end_token() {
    let golden = Golden::read("tiny-sdxl.safetensors");
    let recorder = Recorder::default();
    model("tiny-sdxl").read(&["a red <|endoftext|> circle"; 2], 0, (8, 8), &recorder).unwrap();
    let error = golden.error("odd.pooled", &recorder.into_values()["text2.pooled"]);
    assert!(error <= BLOCK, "{error:e}");
}
