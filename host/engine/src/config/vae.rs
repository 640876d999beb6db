//! `vae/config.json`: the autoencoder.

use serde::Deserialize;
use serde_json::Value;

use super::{divides, only, parse, read_json, unsupported};
use crate::checkpoint::Files;
use crate::error::{Error, Result};

/// The autoencoder, as `vae/config.json` describes it.
#[derive(Clone, Debug)]
pub(crate) struct VaeConfig {
    /// Channels of the picture.
    pub(crate) picture_channels: usize,
    /// Channels of the latents.
    pub(crate) latent_channels: usize,
    /// Channels per level, the finest first.
    pub(crate) channels: Vec<usize>,
    /// Residual parts per level of the encoder; the decoder has one more.
    pub(crate) layers: usize,
    /// Groups of every group norm.
    pub(crate) groups: usize,
    /// What latents are divided by before decoding.
    pub(crate) scaling_factor: f64,
    /// What is added to latents before decoding, after the division.
    pub(crate) shift_factor: f64,
    /// Whether the coarsest level attends.
    pub(crate) mid_attends: bool,
    /// Whether a 1×1 convolution follows the encoder.
    pub(crate) quantizes: bool,
    /// Whether a 1×1 convolution precedes the decoder.
    pub(crate) unquantizes: bool,
}

impl VaeConfig {
    /// How many pixels a latent stands for along each side.
    #[must_use]
    pub(crate) fn factor(&self) -> usize {
        1 << self.channels.len().saturating_sub(1)
    }
}

/// Reads `vae/config.json`.
///
/// # Errors
/// [`Error::File`], [`Error::Config`] or [`Error::Unsupported`].
pub(crate) fn vae(files: &Files) -> Result<VaeConfig> {
    let file = "vae/config.json";
    let value: Value = read_json(files, file)?;
    only(file, &value, &[("_class_name", &["\"AutoencoderKL\""])])?;
    vae_from(file, value)
}

/// Makes sense of what `vae/config.json` says, whatever its class.
pub(super) fn vae_from(file: &str, value: Value) -> Result<VaeConfig> {
    #[derive(Deserialize)]
    struct Raw {
        in_channels: usize,
        latent_channels: usize,
        block_out_channels: Vec<usize>,
        layers_per_block: usize,
        #[serde(default = "super::groups")]
        norm_num_groups: usize,
        #[serde(default = "stable_diffusion_scale")]
        scaling_factor: f64,
        shift_factor: Option<f64>,
        #[serde(default = "super::yes")]
        mid_block_add_attention: bool,
        #[serde(default = "super::yes")]
        use_quant_conv: bool,
        #[serde(default = "super::yes")]
        use_post_quant_conv: bool,
    }
    const FIXED: &[(&str, &[&str])] = &[
        ("act_fn", &["\"silu\"", "\"swish\""]),
        ("in_channels", &["3"]),
        ("latents_mean", &[]),
        ("latents_std", &[]),
        ("out_channels", &["3"]),
    ];
    only(file, &value, FIXED)?;
    for (key, block) in [("down_block_types", "DownEncoderBlock2D"), ("up_block_types", "UpDecoderBlock2D")] {
        let types = value.get(key).and_then(Value::as_array).into_iter().flatten();
        if let Some(other) = types.into_iter().find(|name| name.as_str() != Some(block)) {
            return Err(unsupported(file, key, &other.to_string(), block));
        }
    }
    let raw: Raw = parse(file, value)?;
    if raw.block_out_channels.is_empty() || raw.block_out_channels.len() > 8 {
        let reason = format!("block_out_channels has {} levels, and must have 1 to 8", raw.block_out_channels.len());
        return Err(Error::Config { file: file.to_owned(), reason });
    }
    for channels in &raw.block_out_channels {
        divides(file, "norm_num_groups", raw.norm_num_groups, *channels)?;
    }
    Ok(VaeConfig {
        picture_channels: raw.in_channels,
        latent_channels: raw.latent_channels,
        channels: raw.block_out_channels,
        layers: raw.layers_per_block,
        groups: raw.norm_num_groups,
        scaling_factor: raw.scaling_factor,
        shift_factor: raw.shift_factor.unwrap_or(0.0),
        mid_attends: raw.mid_block_add_attention,
        quantizes: raw.use_quant_conv,
        unquantizes: raw.use_post_quant_conv,
    })
}

// The defaults of the diffusers class, for files that leave keys out.

fn stable_diffusion_scale() -> f64 {
    0.18215
}
