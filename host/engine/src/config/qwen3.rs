//! `text_encoder/config.json` of models that read their prompts with Qwen3.

use serde::Deserialize;
use serde_json::Value;

use super::{divides, only, parse, read_json};
use crate::checkpoint::Files;
use crate::error::{Error, Result};

/// The Qwen3 language model, as its `config.json` describes it.
#[derive(Clone, Debug)]
pub(crate) struct Qwen3Config {
    /// Rows of the token table.
    pub(crate) vocabulary: usize,
    /// Width of the states.
    pub(crate) width: usize,
    /// Width inside the feed-forward parts.
    pub(crate) inner_width: usize,
    /// Number of layers.
    pub(crate) layers: usize,
    /// Heads of the queries.
    pub(crate) heads: usize,
    /// Heads of the keys and values.
    pub(crate) key_heads: usize,
    /// Channels of a head.
    pub(crate) head_width: usize,
    /// Epsilon of every norm.
    pub(crate) epsilon: f64,
    /// Base of the rotary frequencies.
    pub(crate) theta: f64,
}

/// Reads `text_encoder/config.json`.
///
/// # Errors
/// [`Error::File`], [`Error::Config`] or [`Error::Unsupported`].
pub(crate) fn qwen3(files: &Files) -> Result<Qwen3Config> {
    #[derive(Deserialize)]
    struct Raw {
        vocab_size: usize,
        hidden_size: usize,
        intermediate_size: usize,
        num_hidden_layers: usize,
        num_attention_heads: usize,
        num_key_value_heads: usize,
        head_dim: Option<usize>,
        rms_norm_eps: f64,
        // Where older files have it.
        rope_theta: Option<f64>,
        rope_parameters: Option<RopeParameters>,
    }
    #[derive(Deserialize)]
    struct RopeParameters {
        rope_theta: Option<f64>,
    }
    const FIXED: &[(&str, &[&str])] = &[
        ("attention_bias", &["false"]),
        ("hidden_act", &["\"silu\""]),
        ("model_type", &["\"qwen3\""]),
        ("rope_scaling", &[]),
        ("use_sliding_window", &["false"]),
    ];
    let file = "text_encoder/config.json";
    let value: Value = read_json(files, file)?;
    only(file, &value, FIXED)?;
    if let Some(rope) = value.get("rope_parameters") {
        only(file, rope, &[("rope_type", &["\"default\""])])?;
    }
    for layer in value.get("layer_types").and_then(Value::as_array).into_iter().flatten() {
        only(file, &serde_json::json!({ "layer_types": layer }), &[("layer_types", &["\"full_attention\""])])?;
    }
    let raw: Raw = parse(file, value)?;
    divides(file, "num_key_value_heads", raw.num_key_value_heads, raw.num_attention_heads)?;
    let head_width = match raw.head_dim {
        Some(width) => width,
        None => {
            divides(file, "num_attention_heads", raw.num_attention_heads, raw.hidden_size)?;
            raw.hidden_size / raw.num_attention_heads
        }
    };
    if !head_width.is_multiple_of(2) || head_width == 0 {
        let reason = format!("head_dim is {head_width}, and must be a multiple of 2, the channels that turn together");
        return Err(Error::Config { file: file.to_owned(), reason });
    }
    Ok(Qwen3Config {
        vocabulary: raw.vocab_size,
        width: raw.hidden_size,
        inner_width: raw.intermediate_size,
        layers: raw.num_hidden_layers,
        heads: raw.num_attention_heads,
        key_heads: raw.num_key_value_heads,
        head_width,
        epsilon: raw.rms_norm_eps,
        theta: raw.rope_parameters.and_then(|rope| rope.rope_theta).or(raw.rope_theta).unwrap_or(10_000.0),
    })
}
