//! `config.json` of a CLIP text encoder: `text_encoder/`, and `text_encoder_2/` where there are two.

use serde::Deserialize;

use super::{divides, read_json, unsupported};
use crate::checkpoint::Files;
use crate::error::Result;
use crate::nn::Activation;

/// A CLIP text encoder, as its `config.json` describes it.
#[derive(Clone, Debug)]
pub(crate) struct TextConfig {
    /// Rows of the token table.
    pub(crate) vocabulary: usize,
    /// Width of the states.
    pub(crate) width: usize,
    /// Width inside the feed-forward parts.
    pub(crate) inner_width: usize,
    /// Number of layers.
    pub(crate) layers: usize,
    /// Attention heads per layer.
    pub(crate) heads: usize,
    /// Tokens of a prompt, start, end and padding included.
    pub(crate) positions: usize,
    /// Epsilon of every layer norm.
    pub(crate) epsilon: f64,
    /// Activation of the feed-forward parts.
    pub(crate) activation: Activation,
    /// The id of the end token, at which a prompt is pooled; 2 in old files, whatever it is.
    pub(crate) end: u32,
    /// Width of the pooled state, where it is projected.
    pub(crate) projected_width: usize,
}

/// Reads `config.json` in the folder of a text encoder.
///
/// # Errors
/// [`Error::File`], [`Error::Config`] or [`Error::Unsupported`].
pub(crate) fn text(files: &Files, folder: &str) -> Result<TextConfig> {
    #[derive(Deserialize)]
    struct Raw {
        vocab_size: usize,
        hidden_size: usize,
        intermediate_size: usize,
        num_hidden_layers: usize,
        num_attention_heads: usize,
        max_position_embeddings: usize,
        layer_norm_eps: f64,
        hidden_act: String,
        #[serde(default = "end_token")]
        eos_token_id: u32,
        #[serde(default = "projected_width")]
        projection_dim: usize,
    }
    let file = format!("{folder}/config.json");
    let file = file.as_str();
    let raw: Raw = read_json(files, file)?;
    divides(file, "num_attention_heads", raw.num_attention_heads, raw.hidden_size)?;
    Ok(TextConfig {
        vocabulary: raw.vocab_size,
        width: raw.hidden_size,
        inner_width: raw.intermediate_size,
        layers: raw.num_hidden_layers,
        heads: raw.num_attention_heads,
        positions: raw.max_position_embeddings,
        epsilon: raw.layer_norm_eps,
        activation: activation(file, &raw.hidden_act)?,
        end: raw.eos_token_id,
        projected_width: raw.projection_dim,
    })
}

// The defaults of the transformers class, for files that leave keys out.

fn end_token() -> u32 {
    49_407
}

fn projected_width() -> usize {
    512
}

/// The activation that a file of CLIP names.
///
/// # Errors
/// [`crate::Error::Unsupported`] for any other.
pub(crate) fn activation(file: &str, name: &str) -> Result<Activation> {
    match name {
        "quick_gelu" => Ok(Activation::QuickGelu),
        "gelu" => Ok(Activation::GeluErf),
        "gelu_new" | "gelu_pytorch_tanh" => Ok(Activation::GeluTanh),
        other => Err(unsupported(file, "hidden_act", other, "quick_gelu, gelu, gelu_new, gelu_pytorch_tanh")),
    }
}
