//! What FLUX.1's own files say: `transformer/config.json`, and `text_encoder_2/config.json` of its T5.

use candle_transformers::models::t5::ActivationWithOptionalGating;
pub(crate) use candle_transformers::models::t5::Config as T5Config;
use serde::Deserialize;
use serde_json::Value;

use super::{only, parse, read_json};
use crate::checkpoint::Files;
use crate::error::{Error, Result};

/// FLUX.1's transformer, as `transformer/config.json` describes it.
#[derive(Clone, Debug)]
pub(crate) struct FluxConfig {
    /// Channels of a token of the picture.
    pub(crate) channels: usize,
    /// Width of the text states that it attends to.
    pub(crate) text_width: usize,
    /// Width of the text's one state as a whole.
    pub(crate) pooled_width: usize,
    /// Blocks with a stream for the text and one for the picture.
    pub(crate) double_blocks: usize,
    /// Blocks with one stream for both.
    pub(crate) single_blocks: usize,
    /// Attention heads.
    pub(crate) heads: usize,
    /// Channels of a head for each axis of a token's place: unused, row, column.
    pub(crate) axes: Vec<usize>,
    /// Whether it is told a guidance scale.
    pub(crate) is_guided: bool,
}

impl FluxConfig {
    /// Channels of a head.
    pub(crate) fn head_width(&self) -> usize {
        self.axes.iter().sum()
    }

    /// Width of the streams.
    pub(crate) fn width(&self) -> usize {
        self.heads * self.head_width()
    }
}

/// Reads `transformer/config.json`.
///
/// # Errors
/// [`Error::File`], [`Error::Config`] or [`Error::Unsupported`].
pub(crate) fn flux(files: &Files) -> Result<FluxConfig> {
    #[derive(Deserialize)]
    struct Raw {
        in_channels: usize,
        out_channels: Option<usize>,
        num_layers: usize,
        num_single_layers: usize,
        attention_head_dim: usize,
        num_attention_heads: usize,
        joint_attention_dim: usize,
        pooled_projection_dim: usize,
        #[serde(default)]
        guidance_embeds: bool,
        #[serde(default = "axes")]
        axes_dims_rope: Vec<usize>,
    }
    let file = "transformer/config.json";
    let value: Value = read_json(files, file)?;
    only(file, &value, &[("_class_name", &["\"FluxTransformer2DModel\""]), ("patch_size", &["1"])])?;
    let raw: Raw = parse(file, value)?;
    let reason = if raw.out_channels.is_some_and(|out| out != raw.in_channels) {
        Some(format!("out_channels must be {}, as in_channels", raw.in_channels))
    } else if raw.axes_dims_rope.len() != 3 || raw.axes_dims_rope.iter().sum::<usize>() != raw.attention_head_dim {
        Some(format!("axes_dims_rope must be three whose sum is {}, attention_head_dim", raw.attention_head_dim))
    } else if raw.axes_dims_rope.iter().any(|axis| !axis.is_multiple_of(2)) {
        Some("axes_dims_rope must be even".to_owned())
    } else {
        None
    };
    if let Some(reason) = reason {
        return Err(Error::Config { file: file.to_owned(), reason });
    }
    Ok(FluxConfig {
        channels: raw.in_channels,
        text_width: raw.joint_attention_dim,
        pooled_width: raw.pooled_projection_dim,
        double_blocks: raw.num_layers,
        single_blocks: raw.num_single_layers,
        heads: raw.num_attention_heads,
        axes: raw.axes_dims_rope,
        is_guided: raw.guidance_embeds,
    })
}

/// The encoder of T5, as its `config.json` describes it.
///
/// # Errors
/// [`Error::File`], [`Error::Config`] or [`Error::Unsupported`].
pub(crate) fn t5(files: &Files) -> Result<T5Config> {
    #[derive(Deserialize)]
    struct Raw {
        vocab_size: usize,
        d_model: usize,
        d_kv: usize,
        d_ff: usize,
        num_layers: usize,
        num_heads: usize,
        relative_attention_num_buckets: usize,
        #[serde(default = "max_distance")]
        relative_attention_max_distance: usize,
        layer_norm_epsilon: f64,
        feed_forward_proj: String,
    }
    let file = "text_encoder_2/config.json";
    let value: Value = read_json(files, file)?;
    const FIXED: &[(&str, &[&str])] =
        &[("feed_forward_proj", &["\"gated-gelu\"", "\"relu\""]), ("model_type", &["\"t5\""])];
    only(file, &value, FIXED)?;
    let raw: Raw = parse(file, value)?;
    if !raw.relative_attention_num_buckets.is_multiple_of(4) || raw.relative_attention_num_buckets == 0 {
        let reason = format!(
            "relative_attention_num_buckets is {}, and must be a multiple of 4",
            raw.relative_attention_num_buckets
        );
        return Err(Error::Config { file: file.to_owned(), reason });
    }
    Ok(T5Config {
        vocab_size: raw.vocab_size,
        d_model: raw.d_model,
        d_kv: raw.d_kv,
        d_ff: raw.d_ff,
        num_layers: raw.num_layers,
        num_heads: raw.num_heads,
        relative_attention_num_buckets: raw.relative_attention_num_buckets,
        relative_attention_max_distance: raw.relative_attention_max_distance,
        layer_norm_epsilon: raw.layer_norm_epsilon,
        feed_forward_proj: match raw.feed_forward_proj.as_str() {
            "relu" => ActivationWithOptionalGating { gated: false, activation: candle_nn::Activation::Relu },
            // What T5 calls its GELU is the tanh form.
            _ => ActivationWithOptionalGating { gated: true, activation: candle_nn::Activation::NewGelu },
        },
        use_cache: false,
        ..T5Config::default()
    })
}

fn max_distance() -> usize {
    128
}

fn axes() -> Vec<usize> {
    vec![16, 56, 56]
}
