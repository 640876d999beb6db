//! The published models at their full size, by name and shape alone: what our networks ask for is what diffusers' and
//! transformers' have.

use std::collections::BTreeMap;
use std::path::Path;

use easel_engine::{Files, examine};
use serde_json::{Map, Value};

use super::pipeline::copy_folder;
use super::single::unpacked;
use super::{folder, json};

/// The parameters that a model asks for, its configs being those of a kind of single file with changes.
fn asked(kind: &str, changes: &Value) -> BTreeMap<String, Vec<usize>> {
    let at = tempfile::tempdir().unwrap();
    let kinds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../host/engine/kinds");
    let files = std::fs::read(kinds.join(format!("{kind}.json"))).unwrap();
    let mut files: Map<String, Value> = serde_json::from_slice(&files).unwrap();
    for (file, values) in changes.as_object().unwrap() {
        files[file].as_object_mut().unwrap().extend(values.as_object().unwrap().clone());
    }
    // Any tokenizer will do: none is asked about a prompt.
    let tokenizers = folder(if kind.contains("flux-1") { "tiny-flux" } else { "tiny-klein" });
    for name in ["tokenizer", "tokenizer_2"] {
        if tokenizers.join(name).is_dir() {
            copy_folder(&tokenizers.join(name), &at.path().join(name));
        }
    }
    for (file, content) in files.iter().filter(|(file, _)| !file.starts_with("tokenizer")) {
        let path = at.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content.to_string()).unwrap();
    }
    examine::parameters(&Files::Folder(at.path().to_owned())).unwrap()
}

/// Parts of the published models that no run reads: layers of the language model above the last one that is read, and the half
/// of the autoencoder that reads pictures, where none are taken.
fn is_left_out(model: &str, name: &str) -> bool {
    let layers = if model.starts_with("flux-2") { 27 } else { 35 };
    let above =
        name.strip_prefix("text_encoder.layers.").and_then(|rest| rest.split('.').next()?.parse::<usize>().ok());
    match model {
        "flux-1-dev" => name.starts_with("vae.encoder."),
        "z-image-turbo" if name.starts_with("vae.encoder.") => true,
        _ => above.is_some_and(|layer| layer >= layers) || name == "text_encoder.norm.weight",
    }
}

#[test]
fn full_size_networks_ask_for_the_parameters_that_diffusers_has() {
    for (model, row) in json("full_size.json").as_object().unwrap() {
        let got = asked(row["kind"].as_str().unwrap(), &row["changes"]);
        let mut want = unpacked(&row["parameters"]);
        let whole: usize = want
            .iter()
            .filter(|(name, _)| name.starts_with("transformer."))
            .map(|(_, shape)| shape.iter().product::<usize>())
            .sum();
        assert_eq!(whole as u64, row["counts"]["transformer"].as_u64().unwrap(), "{model}");
        want.retain(|name, _| !is_left_out(model, name));
        let missing: Vec<_> = want.iter().filter(|(name, _)| !got.contains_key(*name)).take(5).collect();
        let more: Vec<_> = got.iter().filter(|(name, _)| !want.contains_key(*name)).take(5).collect();
        assert!(missing.is_empty() && more.is_empty(), "{model}: not asked for {missing:?}, asked for {more:?}");
        assert_eq!(got, want, "{model}");
        println!("{model}: {} parameters, {whole} values in the transformer", got.len());
    }
}

#[test]
fn schnell_is_dev_without_the_embedding_of_guidance() {
    let nothing = Value::Object(Map::new());
    let mut dev = asked("flux-1-dev", &nothing);
    dev.retain(|name, _| !name.starts_with("transformer.time_text_embed.guidance_embedder."));
    assert_eq!(asked("flux-1-schnell", &nothing), dev);
}
