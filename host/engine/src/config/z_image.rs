//! `transformer/config.json` of Z-Image.

use serde::Deserialize;
use serde_json::Value;

use super::{divides, only, parse, read_json};
use crate::checkpoint::Files;
use crate::error::{Error, Result};

/// Z-Image's transformer, as `transformer/config.json` describes it.
#[derive(Clone, Debug)]
pub(crate) struct ZImageConfig {
    /// Channels of the latents.
    pub(crate) channels: usize,
    /// Width of the stream.
    pub(crate) width: usize,
    /// Blocks that see text and picture.
    pub(crate) layers: usize,
    /// Blocks that see one of them, before the others.
    pub(crate) refiners: usize,
    /// Attention heads.
    pub(crate) heads: usize,
    /// Epsilon of the norms of the stream.
    pub(crate) epsilon: f64,
    /// Width of the text's states.
    pub(crate) text_width: usize,
    /// Base of the rotary frequencies.
    pub(crate) theta: f64,
    /// What the time, from 0 to 1, is multiplied with.
    pub(crate) time_scale: f64,
    /// Channels of a head for each axis of a token's place: word or picture, row, column.
    pub(crate) axes: Vec<usize>,
    /// How many places each axis has.
    pub(crate) places: Vec<usize>,
}

/// Reads `transformer/config.json`.
///
/// # Errors
/// [`Error::File`], [`Error::Config`] or [`Error::Unsupported`].
pub(crate) fn z_image(files: &Files) -> Result<ZImageConfig> {
    #[derive(Deserialize)]
    struct Raw {
        in_channels: usize,
        dim: usize,
        n_layers: usize,
        n_refiner_layers: usize,
        n_heads: usize,
        n_kv_heads: usize,
        norm_eps: f64,
        cap_feat_dim: usize,
        rope_theta: f64,
        t_scale: f64,
        axes_dims: Vec<usize>,
        axes_lens: Vec<usize>,
    }
    const FIXED: &[(&str, &[&str])] = &[
        ("_class_name", &["\"ZImageTransformer2DModel\""]),
        ("all_f_patch_size", &["[1]"]),
        ("all_patch_size", &["[2]"]),
        ("qk_norm", &["true"]),
        ("siglip_feat_dim", &[]),
    ];
    let file = "transformer/config.json";
    let value: Value = read_json(files, file)?;
    only(file, &value, FIXED)?;
    let raw: Raw = parse(file, value)?;
    divides(file, "n_heads", raw.n_heads, raw.dim)?;
    let head = raw.dim / raw.n_heads;
    let reason = if raw.n_kv_heads != raw.n_heads {
        Some(format!("n_kv_heads is {}, and must be {}, as n_heads", raw.n_kv_heads, raw.n_heads))
    } else if raw.axes_dims.len() != 3 || raw.axes_dims.iter().sum::<usize>() != head {
        Some(format!("axes_dims must be three whose sum is {head}, dim divided by n_heads"))
    } else if raw.axes_dims.iter().any(|axis| !axis.is_multiple_of(2)) {
        Some("axes_dims must be even".to_owned())
    } else if raw.axes_lens.len() != 3 {
        Some("axes_lens must be three".to_owned())
    } else {
        None
    };
    if let Some(reason) = reason {
        return Err(Error::Config { file: file.to_owned(), reason });
    }
    Ok(ZImageConfig {
        channels: raw.in_channels,
        width: raw.dim,
        layers: raw.n_layers,
        refiners: raw.n_refiner_layers,
        heads: raw.n_heads,
        epsilon: raw.norm_eps,
        text_width: raw.cap_feat_dim,
        theta: raw.rope_theta,
        time_scale: raw.t_scale,
        axes: raw.axes_dims,
        places: raw.axes_lens,
    })
}
