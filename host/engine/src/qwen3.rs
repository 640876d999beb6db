//! Qwen3 as a text encoder: token ids to the states of some of its layers.
//!
//! Defined by transformers' `Qwen3ForCausalLM`. Image models read its middle layers, so only the layers up to the last one
//! asked for are loaded: no final norm, no head, and nothing is generated.

use candle_core::{Result as TensorResult, Tensor};

use crate::checkpoint::Weights;
use crate::config::Qwen3Config;
use crate::error::{Error, Result};
use crate::nn::{Activation, Axis, Heads, Linear, Pairs, Projections, RmsNorm, Rope, Rounding, add_in_place, gated};
use crate::trace::Trace;

/// The lower layers of a Qwen3 model.
pub(crate) struct Qwen3 {
    tokens: Tensor,
    layers: Vec<Layer>,
    axis: Axis,
}

impl Qwen3 {
    /// Loads the first `layers` layers.
    ///
    /// # Errors
    /// [`Error::Weights`] when a tensor is missing or has another shape.
    pub(crate) fn load(config: &Qwen3Config, layers: usize, weights: &Weights) -> Result<Self> {
        // Saved with the head that generates, names have one level more.
        let weights = if weights.has("model.embed_tokens.weight") { weights.at("model") } else { weights.clone() };
        Ok(Self {
            tokens: weights.get("embed_tokens.weight", &[config.vocabulary, config.width])?,
            layers: (0..layers)
                .map(|index| Layer::load(config, &weights.at("layers").at(index)))
                .collect::<Result<_>>()?,
            axis: Axis { width: config.head_width, theta: config.theta },
        })
    }

    /// The states `[1, tokens, width]` after those of the loaded layers that `wanted` counts from 1, in its order.
    ///
    /// The first `used` tokens are the text; the padding after them is computed, and no token looks at it.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] for a token that the table does not have; a tensor operation that failed.
    pub(crate) fn states(&self, ids: &[u32], used: usize, wanted: &[usize], trace: Trace<'_>) -> Result<Vec<Tensor>> {
        let rows = self.tokens.dim(0)?;
        if let Some(id) = ids.iter().find(|id| **id as usize >= rows) {
            return Err(Error::Tokenizer(format!("token {id} is beyond the {rows} that the text encoder knows")));
        }
        let device = self.tokens.device();
        let x = self.tokens.index_select(&Tensor::new(ids, device)?, 0)?.unsqueeze(0)?;
        let places: Vec<[u32; 1]> = (0..ids.len() as u32).map(|place| [place]).collect();
        let rope = Rope::new(&places, &[self.axis], Pairs::Halves, Rounding::Frequencies, device)?;
        let hidden = (0..ids.len()).flat_map(|row| {
            (0..ids.len()).map(move |column| match column > row || column >= used {
                true => f32::NEG_INFINITY,
                false => 0.0,
            })
        });
        let mask = Tensor::from_iter(hidden, device)?.reshape((ids.len(), ids.len()))?;
        trace.tell("text.hidden", "0", &x)?;
        let mut states = Vec::with_capacity(self.layers.len());
        let mut x = x;
        for (index, layer) in self.layers.iter().enumerate() {
            x = layer.forward(&x, &rope, &mask)?;
            trace.tell("text.hidden", &(index + 1).to_string(), &x)?;
            states.push(x.clone());
        }
        let wanted = wanted.iter().map(|layer| layer.checked_sub(1).and_then(|index| states.get(index)).cloned());
        let wanted: Option<Vec<_>> = wanted.collect();
        Ok(wanted.ok_or_else(|| candle_core::Error::Msg("a layer was asked for that is not loaded".to_owned()))?)
    }
}

struct Layer {
    norm1: RmsNorm,
    attention: Projections,
    out: Linear,
    norm2: RmsNorm,
    gate: Linear,
    widen: Linear,
    narrow: Linear,
}

impl Layer {
    fn load(config: &Qwen3Config, weights: &Weights) -> Result<Self> {
        let (width, inner, epsilon) = (config.width, config.inner_width, config.epsilon);
        let heads = Heads { queries: config.heads, keys: config.key_heads, width: config.head_width, epsilon };
        let (attention, forward) = (weights.at("self_attn"), weights.at("mlp"));
        let names = ["q_proj", "k_proj", "v_proj", "q_norm", "k_norm"];
        let linear = Linear::load_without_bias;
        Ok(Self {
            norm1: RmsNorm::load(&weights.at("input_layernorm"), width, epsilon)?,
            attention: Projections::load(&attention, names, width, heads, linear)?,
            out: linear(&attention.at("o_proj"), config.heads * config.head_width, width)?,
            norm2: RmsNorm::load(&weights.at("post_attention_layernorm"), width, epsilon)?,
            gate: linear(&forward.at("gate_proj"), width, inner)?,
            widen: linear(&forward.at("up_proj"), width, inner)?,
            narrow: linear(&forward.at("down_proj"), inner, width)?,
        })
    }

    fn forward(&self, x: &Tensor, rope: &Rope, mask: &Tensor) -> TensorResult<Tensor> {
        let attended = self.out.forward(&self.attention.attend(&self.norm1.forward(x)?, rope, Some(mask))?)?;
        add_in_place(&attended, x)?;
        let y = self.norm2.forward(&attended)?;
        let y = gated(Activation::Silu, &self.gate.forward(&y)?, &self.widen.forward(&y)?)?;
        let y = self.narrow.forward(&y)?;
        add_in_place(&y, &attended)?;
        Ok(y)
    }
}
