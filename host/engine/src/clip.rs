//! CLIP's text encoder: token ids to the states that the denoising network attends to.
//!
//! Defined by transformers' `CLIPTextModel` and `CLIPTextModelWithProjection`. It gives the hidden states after as many
//! layers as are asked for, the final norm by itself (Stable Diffusion 1 and 2 want it, SDXL does not), and the pooled state
//! at the first end token, through the projection. Which of them count is the family's to say (`family/`).

use candle_core::{Result as TensorResult, Tensor};

use crate::checkpoint::Weights;
use crate::config::TextConfig;
use crate::error::{Error, Result};
use crate::nn::{Activation, LayerNorm, Linear, add_in_place, causal_mask, multi_head};
use crate::trace::Trace;

/// A CLIP text encoder.
pub(crate) struct ClipText {
    name: &'static str,
    tokens: Tensor,
    positions: Tensor,
    layers: Vec<Layer>,
    last_norm: LayerNorm,
    projection: Option<Linear>,
    end: u32,
    mask: Tensor,
}

impl ClipText {
    /// Loads an encoder. `name` is what traces call it: `text`, or `text2` where there are two.
    ///
    /// # Errors
    /// [`Error::Weights`] when a tensor is missing or has another shape.
    pub(crate) fn load(name: &'static str, config: &TextConfig, weights: &Weights) -> Result<Self> {
        // Files written before transformers 5 have one level more, as have those with a projection.
        let weights =
            if weights.has("text_model.final_layer_norm.weight") { weights.at("text_model") } else { weights.clone() };
        let embeddings = weights.at("embeddings");
        let layers = weights.at("encoder.layers");
        let layer = LayerConfig {
            width: config.width,
            inner_width: config.inner_width,
            heads: config.heads,
            epsilon: config.epsilon,
            activation: config.activation,
        };
        Ok(Self {
            name,
            tokens: embeddings.get("token_embedding.weight", &[config.vocabulary, config.width])?,
            positions: embeddings.get("position_embedding.weight", &[config.positions, config.width])?,
            layers: (0..config.layers).map(|i| Layer::load(&layer, &layers.at(i))).collect::<Result<_>>()?,
            last_norm: LayerNorm::load(&weights.at("final_layer_norm"), config.width, config.epsilon)?,
            projection: None,
            end: config.end,
            mask: causal_mask(config.positions, weights.device())?,
        })
    }

    /// Loads an encoder and the projection of its pooled state.
    ///
    /// # Errors
    /// As [`ClipText::load`].
    pub(crate) fn load_projected(name: &'static str, config: &TextConfig, weights: &Weights) -> Result<Self> {
        let projection = weights.at("text_projection");
        let projection = Linear::load_without_bias(&projection, config.width, config.projected_width)?;
        Ok(Self { projection: Some(projection), ..Self::load(name, config, weights)? })
    }

    /// How many layers remain when the last `skip` are left out, on top of `extra` that the family leaves out anyway.
    ///
    /// # Errors
    /// [`Error::Option`] when none would.
    pub(crate) fn layers_without(&self, skip: usize, extra: usize) -> Result<usize> {
        let layers = self.layers.len().saturating_sub(extra);
        layers.checked_sub(skip).filter(|kept| *kept > 0).ok_or_else(|| {
            let message = format!("clip_skip must be from 0 to {}, not {skip}", layers.saturating_sub(1));
            Error::Option { name: "clip_skip", message }
        })
    }

    /// The states `[prompts, tokens, width]` of prompts of equal length before any layer, and after each of the first
    /// `layers`.
    ///
    /// # Errors
    /// A tensor operation that failed.
    pub(crate) fn hidden(&self, prompts: &[Vec<u32>], layers: usize, trace: Trace<'_>) -> TensorResult<Vec<Tensor>> {
        let length = prompts.first().map_or(0, Vec::len);
        let ids: Vec<u32> = prompts.iter().flatten().copied().collect();
        let ids = Tensor::from_vec(ids, prompts.len() * length, self.tokens.device())?;
        let x = self.tokens.index_select(&ids, 0)?.reshape((prompts.len(), length, ()))?;
        let mut x = x.broadcast_add(&self.positions.narrow(0, 0, length)?)?;
        let mask = self.mask.narrow(0, 0, length)?.narrow(1, 0, length)?.contiguous()?;
        let mut hidden = Vec::with_capacity(layers + 1);
        for index in 0..=layers.min(self.layers.len()) {
            if let Some(layer) = index.checked_sub(1).and_then(|index| self.layers.get(index)) {
                x = layer.forward(&x, Some(&mask))?;
            }
            trace.tell(self.name, &format!("hidden.{index}"), &x)?;
            hidden.push(x.clone());
        }
        Ok(hidden)
    }

    /// The final norm of a state.
    ///
    /// # Errors
    /// A tensor operation that failed.
    pub(crate) fn normed(&self, state: &Tensor) -> TensorResult<Tensor> {
        self.last_norm.forward(state)
    }

    /// What a prompt comes to as a whole, `[prompts, projected width]`, from the states after the last layer: the normed state
    /// at the first end token, projected. Without a projection there is none.
    ///
    /// # Errors
    /// A tensor operation that failed.
    pub(crate) fn pooled(&self, prompts: &[Vec<u32>], last: &Tensor, trace: Trace<'_>) -> TensorResult<Option<Tensor>> {
        let Some(projection) = &self.projection else { return Ok(None) };
        let pooled = projection.forward(&self.ended(prompts, last, trace)?)?;
        trace.tell(self.name, "pooled", &pooled)?;
        Ok(Some(pooled))
    }

    /// The same before the projection: `[prompts, width]`.
    ///
    /// # Errors
    /// A tensor operation that failed.
    pub(crate) fn ended(&self, prompts: &[Vec<u32>], last: &Tensor, trace: Trace<'_>) -> TensorResult<Tensor> {
        let normed = self.normed(last)?;
        trace.tell(self.name, "last", &normed)?;
        let mut rows = Vec::with_capacity(prompts.len());
        for (row, ids) in prompts.iter().enumerate() {
            rows.push(normed.narrow(0, row, 1)?.narrow(1, self.end_of(ids), 1)?.squeeze(1)?);
        }
        Tensor::cat(&rows, 0)?.contiguous()
    }

    /// Where a prompt ends. Files older than transformers 4.31 have 2 for the end token whatever it is; the highest id
    /// is meant then, which the end token has.
    fn end_of(&self, ids: &[u32]) -> usize {
        const OLD: u32 = 2;
        let end = if self.end == OLD { ids.iter().copied().max().unwrap_or(OLD) } else { self.end };
        ids.iter().position(|id| *id == end).unwrap_or(0)
    }
}

/// What a layer of CLIP is like, in its text encoder and in its vision tower.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LayerConfig {
    /// Width of the states.
    pub(crate) width: usize,
    /// Width inside the feed-forward part.
    pub(crate) inner_width: usize,
    /// Attention heads.
    pub(crate) heads: usize,
    /// Epsilon of both norms.
    pub(crate) epsilon: f64,
    /// Activation of the feed-forward part.
    pub(crate) activation: Activation,
}

/// A layer of CLIP: attention, then a feed-forward part.
pub(crate) struct Layer {
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
    /// Loads a layer.
    ///
    /// # Errors
    /// [`Error::Weights`] when a tensor is missing or has another shape.
    pub(crate) fn load(config: &LayerConfig, weights: &Weights) -> Result<Self> {
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

    /// Applies the layer to states `[batch, tokens, width]`.
    ///
    /// # Errors
    /// A tensor operation that failed.
    pub(crate) fn forward(&self, x: &Tensor, mask: Option<&Tensor>) -> TensorResult<Tensor> {
        let y = self.norm1.forward(x)?;
        let (q, k, v) = (self.query.forward(&y)?, self.key.forward(&y)?, self.value.forward(&y)?);
        let attended = self.out.forward(&multi_head(&q, &k, &v, self.heads, mask)?)?;
        add_in_place(&attended, x)?;
        let y = self.activation.apply(self.widen.forward(&self.norm2.forward(&attended)?)?)?;
        let y = self.narrow.forward(&y)?;
        add_in_place(&y, &attended)?;
        Ok(y)
    }
}
