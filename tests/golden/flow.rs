//! What the tests of the flow models share: runs against diffusers', and models with one thing spoiled.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use easel_engine::family::{Recipe, Run};
use easel_engine::flow::Flowing;
use easel_engine::schedule::NoiseConfig;
use easel_engine::{Files, sampler};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::Value;

use super::pipeline::copy_folder;
use super::{Golden, LATENTS, folder};

/// A mistake must pass its gate tenfold.
pub(crate) const BITES: f64 = 10.0;

/// A run as `<model>.json` has it, by the model's own sampler.
pub(crate) fn recipe(model: &str, at: &Path) -> Recipe {
    let run = super::json(&format!("{model}.json"));
    let number = |key: &str| run[key].as_u64().unwrap();
    let noise = std::fs::read_to_string(at.join("scheduler/scheduler_config.json")).unwrap();
    let noise = NoiseConfig::from_json(&noise).unwrap();
    Recipe {
        prompt: run["prompt"].as_str().unwrap().to_owned(),
        negative_prompt: None,
        size: (number("width") as u32, number("height") as u32),
        seed: number("seed"),
        steps: number("steps") as usize,
        guidance: 1.0,
        choice: sampler::choose(&noise, None, None).unwrap(),
        eta: 0.0,
        clip_skip: 0,
        given: None,
    }
}

/// Finishes a run; the largest relative L2 of the latents after a step, and the share of the picture's samples that are off by
/// more than a level.
pub(crate) fn finish(mut run: Flowing, kind: &str, golden: &Golden) -> (f64, f64) {
    let mut latents = 0f64;
    for step in 0..run.steps() {
        run.step(step).unwrap();
        latents = latents.max(golden.error(&format!("{kind}.latents.step{step}"), &run.latents()));
    }
    let want = golden.flat(&format!("{kind}.image.u8"));
    let picture = run.finish().unwrap();
    let got = picture.as_bytes();
    assert_eq!(got.len(), want.len());
    let off = got.iter().zip(want).filter(|(got, want)| (f64::from(**got) - **want).abs() > 1.0).count();
    (latents, off as f64 / want.len() as f64)
}

/// Holds that a run leaves what diffusers leaves.
pub(crate) fn agrees(run: Flowing, kind: &str, golden: &Golden) {
    let (latents, pixels) = finish(run, kind, golden);
    assert!(latents <= LATENTS, "{kind}: latents are off by {latents:e}");
    assert!(pixels <= 0.001, "{kind}: {pixels} of the picture is off by a level");
    println!("{kind}: latents {latents:.1e}, picture {pixels:.2e} beyond one level");
}

/// Holds that a mistake passes its gate tenfold.
pub(crate) fn seen(mistake: &str, error: f64, gate: f64) {
    assert!(error >= BITES * gate, "{mistake}: {error:e} is not {BITES} times {gate:e}");
    println!("{mistake}: {:.0} times its gate", error / gate);
}

/// A copy of a model that something can be changed in.
pub(crate) struct Spoiled {
    at: tempfile::TempDir,
}

impl Spoiled {
    /// A copy as it is.
    pub(crate) fn copy(model: &str) -> Self {
        let at = tempfile::tempdir().unwrap();
        copy_folder(&folder(model), at.path());
        Self { at }
    }

    /// With a key of a JSON file changed; a dot goes one level down.
    pub(crate) fn with(self, file: &str, key: &str, value: Value) -> Self {
        let file = self.at.path().join(file);
        let mut config: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        match key.split_once('.') {
            Some((outer, inner)) => config[outer][inner] = value,
            None => config[key] = value,
        }
        std::fs::write(file, config.to_string()).unwrap();
        self
    }

    /// With the two halves of a tensor's rows swapped.
    pub(crate) fn with_swapped_halves(self, file: &str, tensor: &str) -> Self {
        self.with_tensor(file, tensor, |data| {
            let half = data.len() / 2;
            data.rotate_left(half);
        })
    }

    /// With a tensor set to zeros.
    pub(crate) fn with_zeros(self, file: &str, tensor: &str) -> Self {
        self.with_tensor(file, tensor, |data| data.fill(0))
    }

    fn with_tensor(self, file: &str, tensor: &str, change: impl Fn(&mut Vec<u8>)) -> Self {
        let file = self.at.path().join(file);
        let bytes = std::fs::read(&file).unwrap();
        let whole = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let mut tensors: BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)> = whole
            .iter()
            .map(|(name, view)| (name.to_owned(), (view.dtype(), view.shape().to_vec(), view.data().to_vec())))
            .collect();
        change(&mut tensors.get_mut(tensor).unwrap().2);
        let views = tensors
            .iter()
            .map(|(name, (dtype, shape, data))| (name.clone(), TensorView::new(*dtype, shape.clone(), data).unwrap()));
        std::fs::write(&file, safetensors::serialize(views.collect::<Vec<_>>(), None).unwrap()).unwrap();
        self
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        self.at.path()
    }

    /// The same for the engine.
    pub(crate) fn files(&self) -> Files {
        Files::Folder(self.path().to_owned())
    }
}

/// Holds that a key which the code cannot do is refused by file, key and value, from the JSON files alone.
pub(crate) fn refuses(model: &str, describe: fn(&Files) -> Option<String>, rows: &[(&str, &str, Value)]) {
    for (file, key, wrong) in rows {
        let spoiled = Spoiled::copy(model).with(file, key, wrong.clone());
        for weights in ["transformer", "text_encoder", "text_encoder_2", "vae"] {
            for name in ["diffusion_pytorch_model.safetensors", "model.safetensors"] {
                drop(std::fs::remove_file(spoiled.path().join(weights).join(name)));
            }
        }
        let error = describe(&spoiled.files()).unwrap_or_else(|| panic!("{file}: {key} = {wrong} is passed over"));
        let key = key.rsplit('.').next().unwrap();
        assert!(error.contains(file) && error.contains(key), "{file} {key} {wrong}: {error}");
    }
}

/// What the family of a model says against it.
pub(crate) fn complaint(files: &Files) -> Option<String> {
    let family = easel_engine::family::of(files);
    family.and_then(|family| (family.describe)(files)).err().map(|error| error.to_string())
}

/// Opens what may be opened once for all tests.
pub(crate) fn files(model: &str) -> Files {
    Files::Folder(folder(model))
}

/// Loads for a test that changes nothing.
pub(crate) fn shared<T>(cell: &'static std::sync::OnceLock<Arc<T>>, load: impl FnOnce() -> T) -> Arc<T> {
    Arc::clone(cell.get_or_init(|| Arc::new(load())))
}
