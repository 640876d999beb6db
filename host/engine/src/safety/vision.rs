//! CLIP's vision tower: a picture to the direction in which it lies.
//!
//! Defined by transformers' `CLIPVisionModel` and a projection. The layers are those of the text encoder, without a mask.

use candle_core::{Result as TensorResult, Tensor};
use serde::Deserialize;
use serde_json::Value;

use crate::checkpoint::Weights;
use crate::clip::{Layer, LayerConfig};
use crate::config::activation;
use crate::error::{Error, Result};
use crate::nn::{LayerNorm, Linear};
use crate::trace::Trace;

/// The vision tower, as `vision_config` describes it.
#[derive(Clone, Debug)]
pub(super) struct VisionConfig {
    layer: LayerConfig,
    layers: usize,
    /// Side of the pictures it takes.
    pub(super) side: usize,
    /// Side of a patch.
    patch: usize,
    projected_width: usize,
}

impl VisionConfig {
    /// Makes sense of a `vision_config`; what it leaves out is as transformers has it.
    pub(super) fn read(file: &str, value: Value, projected_width: usize) -> Result<Self> {
        #[derive(Deserialize)]
        #[serde(default)]
        struct Raw {
            hidden_size: usize,
            intermediate_size: usize,
            num_hidden_layers: usize,
            num_attention_heads: usize,
            image_size: usize,
            patch_size: usize,
            num_channels: usize,
            layer_norm_eps: f64,
            hidden_act: String,
        }
        impl Default for Raw {
            fn default() -> Self {
                Self {
                    hidden_size: 768,
                    intermediate_size: 3072,
                    num_hidden_layers: 12,
                    num_attention_heads: 12,
                    image_size: 224,
                    patch_size: 32,
                    num_channels: 3,
                    layer_norm_eps: 1e-5,
                    hidden_act: "quick_gelu".to_owned(),
                }
            }
        }
        let wrong = |reason: String| Error::Config { file: file.to_owned(), reason };
        let raw: Raw = match value {
            Value::Null => Raw::default(),
            value => serde_json::from_value(value).map_err(|error| wrong(format!("vision_config: {error}")))?,
        };
        let fits = |side: usize, part: usize| part > 0 && side > 0 && side.is_multiple_of(part);
        if !fits(raw.image_size, raw.patch_size) || raw.image_size > 1024 || raw.num_channels != 3 {
            return Err(wrong(format!(
                "vision_config takes pictures of {} pixels and {} channels in patches of {}",
                raw.image_size, raw.num_channels, raw.patch_size
            )));
        }
        if !fits(raw.hidden_size, raw.num_attention_heads) {
            let (width, heads) = (raw.hidden_size, raw.num_attention_heads);
            return Err(wrong(format!("num_attention_heads is {heads}, which does not divide {width}")));
        }
        Ok(Self {
            layer: LayerConfig {
                width: raw.hidden_size,
                inner_width: raw.intermediate_size,
                heads: raw.num_attention_heads,
                epsilon: raw.layer_norm_eps,
                activation: activation(file, &raw.hidden_act)?,
            },
            layers: raw.num_hidden_layers,
            side: raw.image_size,
            patch: raw.patch_size,
            projected_width,
        })
    }
}

/// A vision tower.
pub(super) struct Vision {
    patch: usize,
    /// `[patch · patch · 3, width]`.
    patches: Tensor,
    class: Tensor,
    positions: Tensor,
    first_norm: LayerNorm,
    layers: Vec<Layer>,
    last_norm: LayerNorm,
    projection: Linear,
}

impl Vision {
    pub(super) fn load(config: &VisionConfig, weights: &Weights) -> Result<Self> {
        let (width, patch) = (config.layer.width, config.patch);
        let projection = Linear::load_without_bias(&weights.at("visual_projection"), width, config.projected_width)?;
        // Files written before transformers 5 have one level more.
        let weights = weights.at("vision_model");
        let weights =
            if weights.has("vision_model.post_layernorm.weight") { weights.at("vision_model") } else { weights };
        let embeddings = weights.at("embeddings");
        let patches = embeddings.get("patch_embedding.weight", &[width, 3, patch, patch])?;
        let patches = patches.permute((2, 3, 1, 0))?.contiguous()?.reshape((patch * patch * 3, width))?;
        let count = (config.side / patch).pow(2) + 1;
        let norm = |name: &str| LayerNorm::load(&weights.at(name), width, config.layer.epsilon);
        let layers = weights.at("encoder.layers");
        Ok(Self {
            patch,
            patches,
            class: embeddings.get("class_embedding", &[width])?,
            positions: embeddings.get("position_embedding.weight", &[count, width])?,
            // The misspelling is the files'.
            first_norm: norm("pre_layrnorm")?,
            layers: (0..config.layers).map(|i| Layer::load(&config.layer, &layers.at(i))).collect::<Result<_>>()?,
            last_norm: norm("post_layernorm")?,
            projection,
        })
    }

    /// The direction `[1, projected width]` of a picture `[1, side, side, 3]`.
    pub(super) fn forward(&self, picture: &Tensor, trace: Trace<'_>) -> TensorResult<Tensor> {
        let (_, height, width, channels) = picture.dims4()?;
        let (rows, columns, side) = (height / self.patch, width / self.patch, self.patch);
        let patches = picture.reshape((rows, side, columns, side * channels))?.permute((0, 2, 1, 3))?.contiguous()?;
        let patches = patches.reshape((rows * columns, side * side * channels))?.matmul(&self.patches)?;
        let x = Tensor::cat(&[&self.class.unsqueeze(0)?, &patches], 0)?;
        let mut x = self.first_norm.forward(&(x + &self.positions)?.unsqueeze(0)?)?;
        trace.tell("safety.hidden", "0", &x)?;
        for (index, layer) in self.layers.iter().enumerate() {
            x = layer.forward(&x, None)?;
            trace.tell("safety.hidden", &(index + 1).to_string(), &x)?;
        }
        let seen = self.projection.forward(&self.last_norm.forward(&x.narrow(1, 0, 1)?.contiguous()?)?.squeeze(1)?)?;
        trace.tell("safety", "direction", &seen)?;
        Ok(seen)
    }
}
