//! What FLUX.2's own files say: `transformer/config.json`, and what its autoencoder has beyond others.

use serde::Deserialize;
use serde_json::Value;

use super::vae::vae_from;
use super::{VaeConfig, only, parse, read_json};
use crate::checkpoint::Files;
use crate::error::{Error, Result};

/// FLUX.2's transformer, as `transformer/config.json` describes it.
#[derive(Clone, Debug)]
pub(crate) struct Flux2Config {
    /// Channels of a token of the picture.
    pub(crate) channels: usize,
    /// Width of the text states that it attends to.
    pub(crate) text_width: usize,
    /// Blocks with a stream for the text and one for the picture.
    pub(crate) double_blocks: usize,
    /// Blocks with one stream for both.
    pub(crate) single_blocks: usize,
    /// Attention heads.
    pub(crate) heads: usize,
    /// Channels of a head for each axis of a token's place: picture, row, column, word.
    pub(crate) axes: Vec<usize>,
    /// Base of the rotary frequencies.
    pub(crate) theta: f64,
    /// Width inside the feed-forward parts.
    pub(crate) inner_width: usize,
    /// Sines and cosines of a timestep.
    pub(crate) waves: usize,
    /// Whether it is told a guidance scale.
    pub(crate) is_guided: bool,
    /// Epsilon of every norm.
    pub(crate) epsilon: f64,
}

impl Flux2Config {
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
pub(crate) fn flux2(files: &Files) -> Result<Flux2Config> {
    #[derive(Deserialize)]
    struct Raw {
        #[serde(default = "channels")]
        in_channels: usize,
        out_channels: Option<usize>,
        num_layers: usize,
        num_single_layers: usize,
        attention_head_dim: usize,
        num_attention_heads: usize,
        joint_attention_dim: usize,
        #[serde(default = "waves")]
        timestep_guidance_channels: usize,
        #[serde(default = "ratio")]
        mlp_ratio: f64,
        #[serde(default = "axes")]
        axes_dims_rope: Vec<usize>,
        #[serde(default = "theta")]
        rope_theta: f64,
        #[serde(default = "epsilon")]
        eps: f64,
        #[serde(default = "super::yes")]
        guidance_embeds: bool,
    }
    let file = "transformer/config.json";
    let value: Value = read_json(files, file)?;
    only(file, &value, &[("_class_name", &["\"Flux2Transformer2DModel\""]), ("patch_size", &["1"])])?;
    let raw: Raw = parse(file, value)?;
    let reason = if raw.out_channels.is_some_and(|out| out != raw.in_channels) {
        Some(format!("out_channels must be {}, as in_channels", raw.in_channels))
    } else if raw.axes_dims_rope.len() != 4 || raw.axes_dims_rope.iter().sum::<usize>() != raw.attention_head_dim {
        Some(format!("axes_dims_rope must be four whose sum is {}, attention_head_dim", raw.attention_head_dim))
    } else if raw.axes_dims_rope.iter().any(|axis| !axis.is_multiple_of(2)) {
        Some("axes_dims_rope must be even".to_owned())
    } else if !raw.in_channels.is_multiple_of(4) || raw.in_channels == 0 {
        Some(format!("in_channels is {}, and must be a multiple of 4, the latents of a patch", raw.in_channels))
    } else {
        None
    };
    if let Some(reason) = reason {
        return Err(Error::Config { file: file.to_owned(), reason });
    }
    let width = raw.num_attention_heads * raw.attention_head_dim;
    Ok(Flux2Config {
        channels: raw.in_channels,
        text_width: raw.joint_attention_dim,
        double_blocks: raw.num_layers,
        single_blocks: raw.num_single_layers,
        heads: raw.num_attention_heads,
        axes: raw.axes_dims_rope,
        theta: raw.rope_theta,
        inner_width: (width as f64 * raw.mlp_ratio) as usize,
        waves: raw.timestep_guidance_channels,
        is_guided: raw.guidance_embeds,
        epsilon: raw.eps,
    })
}

/// FLUX.2's autoencoder, as `vae/config.json` describes it.
#[derive(Clone, Debug)]
pub(crate) struct Flux2VaeConfig {
    /// The half that turns pictures into latents.
    pub(crate) encoder: VaeConfig,
    /// The half that turns latents into pictures, which may be smaller.
    pub(crate) decoder: VaeConfig,
    /// Added to the variances by which latents are normed.
    pub(crate) epsilon: f64,
}

/// Reads `vae/config.json`.
///
/// # Errors
/// [`Error::File`], [`Error::Config`] or [`Error::Unsupported`].
pub(crate) fn flux2_vae(files: &Files) -> Result<Flux2VaeConfig> {
    let file = "vae/config.json";
    let mut value: Value = read_json(files, file)?;
    only(file, &value, &[("_class_name", &["\"AutoencoderKLFlux2\""]), ("patch_size", &["[2,2]"])])?;
    let epsilon = value.get("batch_norm_eps").and_then(Value::as_f64).unwrap_or(1e-4);
    value["scaling_factor"] = 1.0.into();
    let encoder = vae_from(file, value.clone())?;
    if let Some(channels) = value.get("decoder_block_out_channels").filter(|channels| !channels.is_null()).cloned() {
        value["block_out_channels"] = channels;
    }
    let decoder = vae_from(file, value)?;
    if decoder.channels.len() != encoder.channels.len() {
        let reason = "decoder_block_out_channels must have as many levels as block_out_channels".to_owned();
        return Err(Error::Config { file: file.to_owned(), reason });
    }
    Ok(Flux2VaeConfig { encoder, decoder, epsilon })
}

// The defaults of the diffusers class, for files that leave keys out.

fn channels() -> usize {
    128
}

fn waves() -> usize {
    256
}

fn ratio() -> f64 {
    3.0
}

fn axes() -> Vec<usize> {
    vec![32; 4]
}

fn theta() -> f64 {
    2000.0
}

fn epsilon() -> f64 {
    1e-6
}
