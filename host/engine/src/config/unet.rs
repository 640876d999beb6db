//! `unet/config.json`: the denoising network.

use serde::Deserialize;
use serde_json::Value;

use super::{divides, only, parse, read_json, unsupported};
use crate::checkpoint::Files;
use crate::error::{Error, Result};

/// The denoising network, as `unet/config.json` describes it.
#[derive(Clone, Debug)]
pub(crate) struct UnetConfig {
    /// Channels of the latents going in.
    pub(crate) in_channels: usize,
    /// Channels of the prediction.
    pub(crate) out_channels: usize,
    /// Side of the latents it was trained on.
    pub(crate) sample_size: usize,
    /// The levels going down, the finest first.
    pub(crate) down: Vec<UnetLevel>,
    /// Whether each level going up attends to the text, the coarsest first.
    pub(crate) up_attends: Vec<bool>,
    /// Width of the text states.
    pub(crate) text_width: usize,
    /// Groups of every group norm.
    pub(crate) groups: usize,
    /// Epsilon of the residual parts' norms.
    pub(crate) epsilon: f64,
    /// Whether the time embedding holds its cosines before its sines.
    pub(crate) cosine_first: bool,
    /// Shift of the time embedding's frequencies.
    pub(crate) frequency_shift: f64,
    /// What is added to the time embedding, besides the time.
    pub(crate) addition: Option<UnetAddition>,
}

/// The embedding of a pooled text and of the sizes of a picture, which SDXL adds to that of the time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UnetAddition {
    /// Width of the pooled text and of all embedded sizes together.
    pub(crate) width: usize,
    /// Width of one embedded size.
    pub(crate) size_width: usize,
}

/// One level of the denoising network.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UnetLevel {
    /// Channels.
    pub(crate) channels: usize,
    /// Residual parts going down; going up there is one more.
    pub(crate) layers: usize,
    /// Whether it attends to the text.
    pub(crate) attends: bool,
    /// Attention heads.
    pub(crate) heads: usize,
    /// Transformer blocks per attention.
    pub(crate) depth: usize,
}

/// Reads `unet/config.json`.
///
/// # Errors
/// [`Error::File`], [`Error::Config`] or [`Error::Unsupported`].
pub(crate) fn unet(files: &Files) -> Result<UnetConfig> {
    let file = "unet/config.json";
    let value: Value = read_json(files, file)?;
    only(file, &value, UNET_FIXED)?;
    let raw: RawUnet = parse(file, value)?;
    let levels = raw.block_out_channels.len();
    if levels == 0 || raw.down_block_types.len() != levels || raw.up_block_types.len() != levels {
        let reason = "block_out_channels, down_block_types and up_block_types must be of one length, at least 1";
        return Err(Error::Config { file: file.to_owned(), reason: reason.to_owned() });
    }
    // In these files `attention_head_dim` is the number of heads; `num_attention_heads` was added later to say so.
    let heads = raw.num_attention_heads.or(raw.attention_head_dim).unwrap_or(PerLevel::One(8));
    let heads = heads.spread(file, "attention_head_dim", levels)?;
    let layers = raw.layers_per_block.spread(file, "layers_per_block", levels)?;
    let depths = raw.transformer_layers_per_block.spread(file, "transformer_layers_per_block", levels)?;
    let mut down = Vec::with_capacity(levels);
    for (level, name) in raw.down_block_types.iter().enumerate() {
        let attends = match name.as_str() {
            "CrossAttnDownBlock2D" => true,
            "DownBlock2D" => false,
            other => return Err(unsupported(file, "down_block_types", other, "CrossAttnDownBlock2D, DownBlock2D")),
        };
        let channels = raw.block_out_channels[level];
        divides(file, "attention_head_dim", heads[level], channels)?;
        divides(file, "norm_num_groups", raw.norm_num_groups, channels)?;
        down.push(UnetLevel { channels, layers: layers[level], attends, heads: heads[level], depth: depths[level] });
    }
    let up_attends = raw.up_block_types.iter().map(|name| match name.as_str() {
        "CrossAttnUpBlock2D" => Ok(true),
        "UpBlock2D" => Ok(false),
        other => Err(unsupported(file, "up_block_types", other, "CrossAttnUpBlock2D, UpBlock2D")),
    });
    let addition = match (
        raw.addition_embed_type,
        raw.projection_class_embeddings_input_dim,
        raw.addition_time_embed_dim,
    ) {
        (None, _, _) => None,
        (Some(_), Some(width), Some(size_width)) => Some(UnetAddition { width, size_width }),
        (Some(kind), _, _) => {
            let reason = format!(
                "addition_embed_type is {kind}, which needs projection_class_embeddings_input_dim and addition_time_embed_dim"
            );
            return Err(Error::Config { file: file.to_owned(), reason });
        }
    };
    Ok(UnetConfig {
        addition,
        in_channels: raw.in_channels,
        out_channels: raw.out_channels,
        sample_size: raw.sample_size.unwrap_or(64),
        down,
        up_attends: up_attends.collect::<Result<_>>()?,
        text_width: raw.cross_attention_dim,
        groups: raw.norm_num_groups,
        epsilon: raw.norm_eps,
        cosine_first: raw.flip_sin_to_cos,
        frequency_shift: raw.freq_shift,
    })
}

#[derive(Deserialize)]
struct RawUnet {
    in_channels: usize,
    out_channels: usize,
    sample_size: Option<usize>,
    block_out_channels: Vec<usize>,
    down_block_types: Vec<String>,
    up_block_types: Vec<String>,
    cross_attention_dim: usize,
    #[serde(default = "super::groups")]
    norm_num_groups: usize,
    #[serde(default = "unet_epsilon")]
    norm_eps: f64,
    #[serde(default = "super::yes")]
    flip_sin_to_cos: bool,
    #[serde(default)]
    freq_shift: f64,
    #[serde(default = "two")]
    layers_per_block: PerLevel,
    #[serde(default = "one")]
    transformer_layers_per_block: PerLevel,
    num_attention_heads: Option<PerLevel>,
    attention_head_dim: Option<PerLevel>,
    addition_embed_type: Option<String>,
    addition_time_embed_dim: Option<usize>,
    projection_class_embeddings_input_dim: Option<usize>,
}

/// Keys of `unet/config.json` whose other values would change the numbers in ways that are not built.
const UNET_FIXED: &[(&str, &[&str])] = &[
    ("_class_name", &["\"UNet2DConditionModel\""]),
    ("act_fn", &["\"silu\"", "\"swish\""]),
    ("addition_embed_type", &["\"text_time\""]),
    ("attention_type", &["\"default\""]),
    ("center_input_sample", &["false"]),
    ("class_embed_type", &[]),
    ("conv_in_kernel", &["3"]),
    ("conv_out_kernel", &["3"]),
    ("cross_attention_norm", &[]),
    ("downsample_padding", &["1"]),
    ("dual_cross_attention", &["false"]),
    ("encoder_hid_dim_type", &[]),
    ("mid_block_only_cross_attention", &["false"]),
    ("mid_block_scale_factor", &["1", "1.0"]),
    ("mid_block_type", &["\"UNetMidBlock2DCrossAttn\""]),
    ("num_class_embeds", &[]),
    ("only_cross_attention", &["false"]),
    ("resnet_out_scale_factor", &["1", "1.0"]),
    ("resnet_skip_time_act", &["false"]),
    ("resnet_time_scale_shift", &["\"default\""]),
    ("reverse_transformer_layers_per_block", &[]),
    ("time_cond_proj_dim", &[]),
    ("time_embedding_act_fn", &[]),
    ("time_embedding_dim", &[]),
    ("time_embedding_type", &["\"positional\""]),
    ("timestep_post_act", &[]),
];

/// A value for every level, or one for each.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum PerLevel {
    One(usize),
    Each(Vec<usize>),
}

impl PerLevel {
    fn spread(self, file: &str, key: &str, levels: usize) -> Result<Vec<usize>> {
        match self {
            Self::One(value) => Ok(vec![value; levels]),
            Self::Each(values) if values.len() == levels => Ok(values),
            Self::Each(values) => {
                let reason = format!("{key} has {} values for {levels} levels", values.len());
                Err(Error::Config { file: file.to_owned(), reason })
            }
        }
    }
}

// The defaults of the diffusers class, for files that leave keys out.

fn one() -> PerLevel {
    PerLevel::One(1)
}

fn two() -> PerLevel {
    PerLevel::One(2)
}

fn unet_epsilon() -> f64 {
    1e-5
}
