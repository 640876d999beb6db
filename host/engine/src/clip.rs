//! CLIP's text encoder: token ids to the states that the denoising network attends to.
//!
//! Defined by transformers' `CLIPTextModel`. It gives the hidden states (for clip-skip) and the normed last one; the pooled
//! state, which Stable Diffusion 1 and 2 do not use, is not made.

use candle_core::{Result as TensorResult, Tensor};

use crate::checkpoint::Weights;
use crate::config::TextConfig;
use crate::error::{Error, Result};
use crate::nn::{Activation, LayerNorm, Linear, add_in_place, causal_mask, multi_head};
use crate::trace::Trace;

/// A CLIP text encoder.
pub(crate) struct ClipText {
    tokens: Tensor,
    positions: Tensor,
    layers: Vec<Layer>,
    last_norm: LayerNorm,
    mask: Tensor,
}

impl ClipText {
    /// Loads an encoder.
    ///
    /// # Errors
    /// [`Error::Weights`] when a tensor is missing or has another shape.
    pub(crate) fn load(config: &TextConfig, weights: &Weights) -> Result<Self> {
        // Files written before transformers 5 have one level more.
        let weights =
            if weights.has("text_model.final_layer_norm.weight") { weights.at("text_model") } else { weights.clone() };
        let embeddings = weights.at("embeddings");
        let layers = weights.at("encoder.layers");
        Ok(Self {
            tokens: embeddings.get("token_embedding.weight", &[config.vocabulary, config.width])?,
            positions: embeddings.get("position_embedding.weight", &[config.positions, config.width])?,
            layers: (0..config.layers).map(|i| Layer::load(config, &layers.at(i))).collect::<Result<_>>()?,
            last_norm: LayerNorm::load(&weights.at("final_layer_norm"), config.width, config.epsilon)?,
            mask: causal_mask(config.positions, weights.device())?,
        })
    }

    /// The states `[prompts, tokens, width]` of prompts of equal length, leaving out the last `skip` layers.
    ///
    /// # Errors
    /// [`Error::Option`] when more layers are skipped than there are; a tensor operation that failed.
    pub(crate) fn states(&self, prompts: &[Vec<u32>], skip: usize, trace: Trace<'_>) -> Result<Tensor> {
        let Some(kept) = self.layers.len().checked_sub(skip).filter(|kept| *kept > 0) else {
            let message = format!("clip_skip must be from 0 to {}, not {skip}", self.layers.len() - 1);
            return Err(Error::Option { name: "clip_skip", message });
        };
        let length = prompts.first().map_or(0, Vec::len);
        let ids: Vec<u32> = prompts.iter().flatten().copied().collect();
        let ids = Tensor::from_vec(ids, prompts.len() * length, self.tokens.device())?;
        let x = self.tokens.index_select(&ids, 0)?.reshape((prompts.len(), length, ()))?;
        let mut x = x.broadcast_add(&self.positions.narrow(0, 0, length)?)?;
        let mask = self.mask.narrow(0, 0, length)?.narrow(1, 0, length)?.contiguous()?;
        trace.tell("text.hidden", "0", &x)?;
        for (index, layer) in self.layers.iter().take(kept).enumerate() {
            x = layer.forward(&x, &mask)?;
            trace.tell("text.hidden", &(index + 1).to_string(), &x)?;
        }
        let states = self.last_norm.forward(&x)?;
        trace.tell("text", if skip == 0 { "last" } else { "clip_skip" }, &states)?;
        Ok(states)
    }
}

struct Layer {
    norm1: LayerNorm,
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
    norm2: LayerNorm,
    widen: Linear,
    narrow: Linear,
    activation: Activation,
    heads: usize,
}

impl Layer {
    fn load(config: &TextConfig, weights: &Weights) -> Result<Self> {
        let (width, inner) = (config.width, config.inner_width);
        let attention = weights.at("self_attn");
        Ok(Self {
            norm1: LayerNorm::load(&weights.at("layer_norm1"), width, config.epsilon)?,
            query: Linear::load(&attention.at("q_proj"), width, width)?,
            key: Linear::load(&attention.at("k_proj"), width, width)?,
            value: Linear::load(&attention.at("v_proj"), width, width)?,
            out: Linear::load(&attention.at("out_proj"), width, width)?,
            norm2: LayerNorm::load(&weights.at("layer_norm2"), width, config.epsilon)?,
            widen: Linear::load(&weights.at("mlp.fc1"), width, inner)?,
            narrow: Linear::load(&weights.at("mlp.fc2"), inner, width)?,
            activation: config.activation,
            heads: config.heads,
        })
    }

    fn forward(&self, x: &Tensor, mask: &Tensor) -> TensorResult<Tensor> {
        let y = self.norm1.forward(x)?;
        let (q, k, v) = (self.query.forward(&y)?, self.key.forward(&y)?, self.value.forward(&y)?);
        let attended = self.out.forward(&multi_head(&q, &k, &v, self.heads, Some(mask))?)?;
        add_in_place(&attended, x)?;
        let y = self.activation.apply(self.widen.forward(&self.norm2.forward(&attended)?)?)?;
        let y = self.narrow.forward(&y)?;
        add_in_place(&y, &attended)?;
        Ok(y)
    }
}
