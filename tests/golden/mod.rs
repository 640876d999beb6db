//! Golden numbers: the engine against what diffusers, transformers and PyTorch computed.
//!
//! The fixtures beside these files, the scripts that made them, and why each tolerance is what it is: `README.md`. Here is
//! what the tests share: reading fixtures, loading models, and one way of comparing.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a fixture that cannot be read is a failed test")]

mod edits;
mod files;
mod flow;
mod flux;
mod flux2;
mod full_size;
mod given;
mod lora;
mod mutations;
mod parameters;
mod picture;
mod pipeline;
mod rng;
mod safety;
mod samplers;
mod schedules;
mod single;
mod text;
mod tokens;
mod unet;
mod vae;
mod z_image;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use easel_engine::Files;
use easel_engine::family::{stable_diffusion, stable_diffusion_xl};
use easel_engine::latent::LatentDiffusion;
use easel_engine::trace::Values;
use serde_json::Value;

/// Relative L2 of every block in f32.
pub(crate) const BLOCK: f64 = 1e-5;
/// Relative L2 of the latents after a step in f32.
pub(crate) const LATENTS: f64 = 1e-4;
/// The models that have fixtures.
pub(crate) const MODELS: [&str; 4] = ["tiny-sd", "tiny-sd2", "tiny-sdxl", "shapes"];

/// The folder of a fixture model.
pub(crate) fn folder(model: &str) -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    match model {
        "shapes" => tests.join("../host/engine/models/shapes"),
        tiny => tests.join("golden").join(tiny),
    }
}

/// The run of a fixture model in `runs.json`.
pub(crate) fn settings(model: &str) -> Value {
    match model {
        "tiny-sdxl" => json("sdxl.json")["runs"][model].clone(),
        other => json("runs.json")[other].clone(),
    }
}

/// A JSON fixture.
pub(crate) fn json(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(name);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// A fixture model, loaded once for all tests.
pub(crate) fn model(name: &'static str) -> Arc<LatentDiffusion> {
    static LOADED: Mutex<BTreeMap<&str, Arc<LatentDiffusion>>> = Mutex::new(BTreeMap::new());
    let mut loaded = LOADED.lock().unwrap();
    Arc::clone(loaded.entry(name).or_insert_with(|| load(&folder(name))))
}

/// Loads a model from a folder.
pub(crate) fn load(folder: &Path) -> Arc<LatentDiffusion> {
    open(&Files::Folder(folder.to_owned()))
}

/// Loads a model from its files.
pub(crate) fn open(files: &Files) -> Arc<LatentDiffusion> {
    let index: Value = serde_json::from_slice(&files.read("model_index.json").unwrap()).unwrap();
    let open = match index["_class_name"].as_str().unwrap().contains("XL") {
        true => stable_diffusion_xl::open,
        false => stable_diffusion::open,
    };
    Arc::new(open(files).unwrap())
}

/// A file of golden tensors.
pub(crate) struct Golden {
    tensors: BTreeMap<String, Stored>,
}

struct Stored {
    dims: Vec<usize>,
    values: Vec<f64>,
    /// A large tensor is kept as every n-th value of its flat form.
    stride: usize,
}

impl Golden {
    /// Reads a `.safetensors` fixture.
    pub(crate) fn read(name: &str) -> Self {
        use safetensors::{Dtype, SafeTensors};
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(name);
        let bytes = std::fs::read(path).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let tensors = file.iter().map(|(key, view)| {
            let data = view.data();
            let values = match view.dtype() {
                Dtype::F32 => data.as_chunks::<4>().0.iter().map(|x| f64::from(f32::from_le_bytes(*x))).collect(),
                Dtype::I64 => data.as_chunks::<8>().0.iter().map(|x| i64::from_le_bytes(*x) as f64).collect(),
                Dtype::U8 => data.iter().map(|x| f64::from(*x)).collect(),
                other => panic!("{key} is {other:?}"),
            };
            let (key, stride) = key.split_once('#').map_or((key, 1), |(key, stride)| (key, stride.parse().unwrap()));
            (key.to_owned(), Stored { dims: view.shape().to_vec(), values, stride })
        });
        Self { tensors: tensors.collect() }
    }

    /// Whether there is a tensor of that name.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.tensors.contains_key(key)
    }

    /// The names that begin with a prefix.
    pub(crate) fn keys(&self, prefix: &str) -> Vec<&str> {
        self.tensors.keys().map(String::as_str).filter(|key| key.starts_with(prefix)).collect()
    }

    /// The flat values of a tensor.
    pub(crate) fn flat(&self, key: &str) -> &[f64] {
        &self.tensors[key].values
    }

    /// A whole tensor, to put into the engine.
    pub(crate) fn values(&self, key: &str) -> Values {
        let stored = &self.tensors[key];
        assert_eq!(stored.stride, 1, "{key} is sampled");
        Values { dims: stored.dims.clone(), values: stored.values.iter().map(|x| *x as f32).collect() }
    }

    /// How far what we got is from a tensor: relative L2.
    pub(crate) fn error(&self, key: &str, got: &Values) -> f64 {
        let want = &self.tensors[key];
        if want.stride == 1 {
            assert_eq!(got.dims, want.dims, "{key}");
        }
        let got: Vec<f64> = got.values.iter().step_by(want.stride).map(|x| f64::from(*x)).collect();
        assert_eq!(got.len(), want.values.len(), "{key}");
        relative_l2(&got, &want.values)
    }

    /// The largest error among recorded tensors, over every key with one of the prefixes; each must have been recorded.
    pub(crate) fn worst(&self, prefixes: &[&str], got: &BTreeMap<String, Values>) -> (f64, String) {
        let given = ["unet.times", "unet.odd", "vae.decode.", "vae.encode."];
        let mut worst = (0.0, String::new());
        for key in prefixes.iter().flat_map(|prefix| self.keys(prefix)) {
            if given.iter().any(|given| key.starts_with(given)) {
                continue;
            }
            let got = got.get(key).unwrap_or_else(|| panic!("{key} was not recorded; recorded: {:?}", got.keys()));
            let error = self.error(key, got);
            if error >= worst.0 {
                worst = (error, key.to_owned());
            }
        }
        assert!(!worst.1.is_empty(), "nothing compared for {prefixes:?}");
        worst
    }
}

/// `‖got − want‖ / ‖want‖`; what is not a number counts as infinitely far.
pub(crate) fn relative_l2(got: &[f64], want: &[f64]) -> f64 {
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
    let gap = norm(&mut got.iter().zip(want).map(|(a, b)| a - b));
    let ratio = gap / norm(&mut want.iter().copied()).max(1e-300);
    if ratio.is_nan() { f64::INFINITY } else { ratio }
}
