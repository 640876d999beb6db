//! The text encoder against transformers'.

use easel_engine::trace::Recorder;

use super::{BLOCK, Golden, MODELS, json, model};

#[test]
fn every_layer_of_the_text_encoder_gives_what_transformers_gives() {
    for name in MODELS {
        let golden = Golden::read(&format!("{name}.safetensors"));
        let run = &json("runs.json")[name];
        let prompts = [run["negative_prompt"].as_str().unwrap(), run["prompt"].as_str().unwrap()];
        let model = model(name);
        for (row, prompt) in prompts.iter().enumerate() {
            let ids: Vec<f64> = model.tokens(prompt).unwrap().ids.into_iter().map(f64::from).collect();
            assert_eq!(ids, golden.flat(&format!("ids.{row}")), "{name}: {prompt:?}");
        }
        let recorder = Recorder::default();
        model.states(&prompts, 0, &recorder).unwrap();
        let (error, key) = golden.worst(&["text.hidden", "text.last"], &recorder.into_values());
        assert!(error <= BLOCK, "{name}: {key} is off by {error:e}");
        println!("{name}: text {error:.1e} at {key}");

        let skipped = model.states(&prompts, 1, &Recorder::default()).unwrap();
        let error = golden.error("text.clip_skip.1", &skipped);
        assert!(error <= BLOCK, "{name}: clip skip is off by {error:e}");
    }
}
