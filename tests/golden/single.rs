//! Models in one file: what they give, how full-size ones are recognised, and how what is no model is refused.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use easel_engine::trace::Recorder;
use easel_engine::{Engine, EngineOptions, Files, SingleFile, examine};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};

use super::pipeline::{copy_folder, prepared, run};
use super::unet::told_traced;
use super::{BLOCK, Golden, LATENTS, folder, json, open};

/// The tensors of a fixture model as Stable Diffusion's own checkpoints would hold them, written by `names.json`.
fn checkpoint(model: &str) -> Vec<u8> {
    let bytes: BTreeMap<String, Vec<u8>> = ["unet", "vae", "text_encoder", "text_encoder_2"]
        .into_iter()
        .filter_map(|component| {
            Some((component.to_owned(), std::fs::read(weights(&folder(model).join(component))?).unwrap()))
        })
        .collect();
    let files: BTreeMap<&str, SafeTensors<'_>> =
        bytes.iter().map(|(name, bytes)| (name.as_str(), SafeTensors::deserialize(bytes).unwrap())).collect();
    let mut made = BTreeMap::new();
    for (key, from) in json("single/names.json")[model].as_object().unwrap() {
        let (turns, names): (Vec<_>, Vec<_>) = from.as_str().unwrap().split(' ').partition(|part| !part.contains('/'));
        let views: Vec<_> = names
            .iter()
            .map(|name| name.split_once('/').unwrap())
            .map(|(component, name)| files[component].tensor(name).unwrap())
            .collect();
        let mut shape = views[0].shape().to_vec();
        let mut data: Vec<u8> = views.iter().flat_map(|view| view.data().iter().copied()).collect();
        shape[0] *= views.len();
        match turns.as_slice() {
            [] => {}
            ["1x1"] => shape.extend([1, 1]),
            ["transposed"] => {
                let (rows, columns) = (shape[0], shape[1]);
                let old = data.clone();
                for (at, value) in old.chunks(2).enumerate() {
                    let to = (at % columns) * rows + at / columns;
                    data[2 * to..2 * to + 2].copy_from_slice(value);
                }
                shape.reverse();
            }
            other => panic!("{other:?}"),
        }
        made.insert(key.clone(), (views[0].dtype(), shape, data));
    }
    // What trainers leave in such files.
    made.insert("alphas_cumprod".to_owned(), (Dtype::F32, vec![2], vec![0; 8]));
    made.insert("cond_stage_model.model.logit_scale".to_owned(), (Dtype::F32, vec![], vec![0; 4]));
    if model != "tiny-sd2" {
        made.remove("cond_stage_model.model.logit_scale");
    }
    let views =
        made.iter().map(|(key, (dtype, shape, data))| (key, TensorView::new(*dtype, shape.clone(), data).unwrap()));
    safetensors::serialize(views, None).unwrap()
}

fn weights(folder: &Path) -> Option<PathBuf> {
    let items = std::fs::read_dir(folder).ok()?;
    items
        .map(|item| item.unwrap().path())
        .find(|path| path.extension().is_some_and(|extension| extension == "safetensors"))
}

/// Takes the weights out of a model's folder and puts a single file in.
fn as_single(model: &str, folder: &Path) -> Files {
    for component in ["unet", "vae", "text_encoder", "text_encoder_2"] {
        if let Some(path) = weights(&folder.join(component)) {
            std::fs::remove_file(path).unwrap();
        }
    }
    std::fs::remove_file(folder.join("model_index.json")).unwrap();
    let file = folder.join("model.safetensors");
    std::fs::write(&file, checkpoint(model)).unwrap();
    Files::Single(Arc::new(SingleFile::open(&file, Some(folder), None).unwrap()))
}

#[test]
fn a_single_file_gives_the_golden_numbers_of_its_folder() {
    for (name, kind) in
        [("tiny-sd", "stable-diffusion-1"), ("tiny-sd2", "stable-diffusion-2"), ("tiny-sdxl", "stable-diffusion-xl")]
    {
        let at = tempfile::tempdir().unwrap();
        let files = as_single(name, &prepared(name, at.path()));
        let Files::Single(single) = &files else { panic!("{files:?}") };
        assert_eq!(single.kind(), kind);
        let model = open(&files);
        let golden = Golden::read(&format!("{name}.safetensors"));
        let recorder = Recorder::default();
        told_traced(name, &model, &recorder);
        let (error, key) = golden.worst(&["text.hidden"], &recorder.into_values());
        assert!(error <= BLOCK, "{name}: {key} is off by {error:e}");
        let (mean, _) = model.encode_picture(&golden.values("vae.encode.input"), &Recorder::default()).unwrap();
        let error = golden.error("vae.encode.mean", &mean);
        assert!(error <= BLOCK, "{name}: the encoder is off by {error:e}");
        let errors = run(name, "euler", &model, &golden);
        assert!(errors.latents <= LATENTS && errors.pixels <= 0.001, "{name}: {:e} {}", errors.latents, errors.pixels);
        let examination = examine::examine(&files).unwrap();
        assert!(examination.missing.is_empty() && examination.wrong.is_empty(), "{name}: {examination:?}");
    }
}

/// Names and shapes from patterns with their numbers taken out.
pub(crate) fn unpacked(packed: &Value) -> BTreeMap<String, Vec<usize>> {
    let mut tensors: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (pattern, shapes) in packed.as_object().unwrap() {
        for (shape, numbers) in shapes.as_object().unwrap() {
            let shape: Vec<usize> = shape.split_whitespace().map(|side| side.parse().unwrap()).collect();
            for numbers in numbers.as_str().unwrap().split(',') {
                let mut numbers = numbers.split(' ');
                let key = pattern.split('#').collect::<Vec<_>>();
                let last = key.len() - 1;
                let filled = key.iter().enumerate().map(|(at, part)| match at == last {
                    true => (*part).to_owned(),
                    false => format!("{part}{}", numbers.next().unwrap()),
                });
                tensors.insert(filled.collect(), shape.clone());
            }
        }
    }
    tensors
}

/// Writes a header of `headers.json` over a file of the right length that takes no space.
fn full_size(kind: &str, more: &[(&str, Vec<usize>)], metadata: &Value, path: &Path) {
    let mut tensors = unpacked(&json("single/headers.json")[kind]);
    tensors.extend(more.iter().map(|(key, shape)| ((*key).to_owned(), shape.clone())));
    let mut header = json!({"__metadata__": metadata});
    let mut end = 0;
    for (key, shape) in tensors {
        let start = end;
        end += 2 * shape.iter().product::<usize>();
        header[key] = json!({"dtype": "F16", "shape": shape, "data_offsets": [start, end]});
    }
    let header = header.to_string();
    let mut file = File::create(path).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(header.as_bytes()).unwrap();
    file.set_len((8 + header.len() + end) as u64).unwrap();
}

/// A folder of models with the shared tokenizer in it; the demo model's words are as good as any for what is tested here.
fn models() -> tempfile::TempDir {
    let models = tempfile::tempdir().unwrap();
    copy_folder(&folder("shapes").join("tokenizer"), &models.path().join("tokenizers/clip"));
    models
}

#[test]
fn full_size_files_are_recognised_by_their_header_and_hold_what_the_networks_ask_for() {
    let models = models();
    let path = models.path().join("model.safetensors");
    let tokenizers = models.path().join("tokenizers");
    let open = || Files::Single(Arc::new(SingleFile::open(&path, None, Some(&tokenizers)).unwrap()));
    let noise = |files: &Files| {
        let config = files.read("scheduler/scheduler_config.json").unwrap();
        serde_json::from_slice::<Value>(&config).unwrap()["prediction_type"].as_str().unwrap().to_owned()
    };
    let nothing = json!({});
    for (header, more, metadata, kind, prediction) in [
        ("stable-diffusion-1", vec![], &nothing, "stable-diffusion-1", "epsilon"),
        ("stable-diffusion-1", vec![("v_pred", vec![0])], &nothing, "stable-diffusion-1", "v_prediction"),
        ("stable-diffusion-1-inpaint", vec![], &nothing, "stable-diffusion-1", "epsilon"),
        ("stable-diffusion-2", vec![], &nothing, "stable-diffusion-2", "v_prediction"),
        (
            "stable-diffusion-2",
            vec![],
            &json!({"modelspec.prediction_type": "epsilon"}),
            "stable-diffusion-2",
            "epsilon",
        ),
        ("stable-diffusion-xl", vec![], &nothing, "stable-diffusion-xl", "epsilon"),
        (
            "stable-diffusion-xl",
            vec![("v_pred", vec![0]), ("ztsnr", vec![0])],
            &nothing,
            "stable-diffusion-xl",
            "v_prediction",
        ),
    ] {
        full_size(header, &more, metadata, &path);
        let files = open();
        let Files::Single(single) = &files else { panic!("{files:?}") };
        assert_eq!((single.kind(), noise(&files).as_str()), (kind, prediction), "{header}");
        let channels =
            serde_json::from_slice::<Value>(&files.read("unet/config.json").unwrap()).unwrap()["in_channels"].clone();
        assert_eq!(channels, if header.ends_with("inpaint") { 9 } else { 4 }, "{header}");
    }
    for header in ["stable-diffusion-1", "stable-diffusion-2", "stable-diffusion-xl"] {
        full_size(header, &[], &nothing, &path);
        let examination = examine::examine(&open()).unwrap();
        assert!(examination.missing.is_empty() && examination.wrong.is_empty(), "{header}: {examination:?}");
        // The encoder waits for a picture; the second's last text layer is left out.
        let waits = [
            "vae.encoder.",
            "vae.quant_conv.",
            "text_encoder.text_model.encoder.layers.23.",
            "text_encoder.text_projection.",
        ];
        let unread = examination.unread.keys().find(|name| !waits.iter().any(|start| name.starts_with(start)));
        assert_eq!(unread, None, "{header}");
        assert!(examination.right > 1000, "{header}: {}", examination.right);
    }
}

#[test]
fn an_examination_names_what_is_missing_and_what_has_another_shape() {
    let at = tempfile::tempdir().unwrap();
    copy_folder(&folder("tiny-sd"), at.path());
    let config = at.path().join("unet/config.json");
    let mut unet: Value = serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap();
    unet["cross_attention_dim"] = json!(48);
    unet["transformer_layers_per_block"] = json!(2);
    std::fs::write(&config, unet.to_string()).unwrap();
    let examination = examine::examine(&Files::Folder(at.path().to_owned())).unwrap();
    let name = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight";
    assert_eq!(examination.wrong[name], (vec![24, 32], vec![24, 48]));
    assert!(examination.missing.keys().all(|name| name.contains("transformer_blocks.1")), "{:?}", examination.missing);
    assert!(!examination.missing.is_empty());
}

#[test]
fn what_is_no_model_is_told_by_what_it_is_and_hides_no_other() {
    let models = models();
    let lone = |name: &str, keys: &[&str]| {
        let header: serde_json::Map<_, _> = keys
            .iter()
            .map(|key| ((*key).to_owned(), json!({"dtype": "F32", "shape": [4, 4, 0], "data_offsets": [0, 0]})))
            .collect();
        let header = Value::Object(header).to_string();
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        std::fs::write(models.path().join(format!("{name}.safetensors")), bytes).unwrap();
    };
    lone("lora", &["lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight"]);
    lone("vae", &["encoder.down.0.block.0.norm1.weight", "decoder.conv_in.weight"]);
    lone(
        "refiner",
        &["model.diffusion_model.input_blocks.0.0.weight", "conditioner.embedders.0.model.ln_final.weight"],
    );
    lone("other", &["some.weight"]);
    lone("flux", &["double_blocks.0.img_attn.norm.key_norm.scale"]);
    std::fs::write(models.path().join("old.ckpt"), b"PK\x03\x04").unwrap();
    std::fs::write(models.path().join("text.safetensors"), b"not a model at all").unwrap();
    std::fs::write(models.path().join("cut.safetensors"), &checkpoint("tiny-sd")[..400_000]).unwrap();
    std::fs::create_dir(models.path().join("two")).unwrap();
    std::fs::write(models.path().join("two/a.safetensors"), b"x").unwrap();
    std::fs::write(models.path().join("two/b.safetensors"), b"x").unwrap();
    // A whole one, in a folder of its own.
    copy_folder(&folder("tiny-sd"), &models.path().join("good"));
    as_single("tiny-sd", &models.path().join("good"));
    let options = EngineOptions { models: Some(models.path().to_owned()), ..EngineOptions::default() };
    let engine = Engine::start(options).unwrap();
    let ids: Vec<_> = easel_core::Backend::models(&engine).iter().map(|model| model.id.clone()).collect();
    assert_eq!(ids, ["shapes", "good"]);
    let problems: BTreeMap<_, _> = engine.problems().into_iter().map(|problem| (problem.id, problem.reason)).collect();
    for (id, reason) in [
        ("cut", "cut.safetensors cannot be used: it is cut off: tensor"),
        ("flux", "it is a flux-1-schnell model without its text encoder (CLIP)"),
        ("lora", "it is a LoRA, not a model"),
        ("old", "old.ckpt cannot be used: it is a pickle checkpoint"),
        ("other", "its 1 tensors, some.weight and others, are of no kind of model that is known"),
        ("refiner", "it is the refiner of Stable Diffusion XL"),
        ("text", "text.safetensors cannot be used: it is text"),
        ("two", "it holds several files of weights and no model_index.json"),
        ("vae", "it is an autoencoder (VAE) alone"),
    ] {
        assert!(problems.get(id).is_some_and(|problem| problem.contains(reason)), "{id}: {:?}", problems.get(id));
    }
    assert_eq!(problems.len(), 9, "{problems:?}");
}

#[test]
fn a_file_without_a_vocabulary_says_where_one_must_be() {
    let models = tempfile::tempdir().unwrap();
    std::fs::write(models.path().join("model.safetensors"), checkpoint("tiny-sd")).unwrap();
    let options = EngineOptions { models: Some(models.path().to_owned()), ..EngineOptions::default() };
    let problems = Engine::start(options).unwrap().problems();
    let [problem] = problems.as_slice() else { panic!("{problems:?}") };
    assert!(
        problem.reason.contains("vocab.json of clip is not there; put it into tokenizers/clip"),
        "{}",
        problem.reason
    );
}
