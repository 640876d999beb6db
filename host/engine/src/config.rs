//! A model's own description of itself: the JSON files of the diffusers layout, read and then checked.
//!
//! Reading (serde, private) and meaning (the public types) are two steps. What would change the numbers and is not built
//! here is refused by name and value, never passed over; what does not change them is ignored. No constant of a model
//! stands in the code.

use std::fmt::Debug;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::checkpoint::Files;
use crate::error::{Error, Result};
use crate::nn::Activation;
use crate::schedule::{BetaCurve, Curve, NoiseConfig, Prediction, Spacing};

/// The CLIP text encoder, as `text_encoder/config.json` describes it.
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
}

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

/// The class a model's `model_index.json` names, by which its family is found.
///
/// # Errors
/// [`Error::File`] or [`Error::Config`].
pub(crate) fn pipeline_class(files: &Files) -> Result<String> {
    #[derive(Deserialize)]
    struct Raw {
        _class_name: String,
    }
    Ok(read_json::<Raw>(files, "model_index.json")?._class_name)
}

/// Reads `text_encoder/config.json`.
///
/// # Errors
/// [`Error::File`], [`Error::Config`] or [`Error::Unsupported`].
pub(crate) fn text(files: &Files) -> Result<TextConfig> {
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
    }
    let file = "text_encoder/config.json";
    let raw: Raw = read_json(files, file)?;
    let activation = match raw.hidden_act.as_str() {
        "quick_gelu" => Activation::QuickGelu,
        "gelu" => Activation::GeluErf,
        "gelu_new" | "gelu_pytorch_tanh" => Activation::GeluTanh,
        other => return Err(unsupported(file, "hidden_act", other, "quick_gelu, gelu, gelu_new, gelu_pytorch_tanh")),
    };
    divides(file, "num_attention_heads", raw.num_attention_heads, raw.hidden_size)?;
    Ok(TextConfig {
        vocabulary: raw.vocab_size,
        width: raw.hidden_size,
        inner_width: raw.intermediate_size,
        layers: raw.num_hidden_layers,
        heads: raw.num_attention_heads,
        positions: raw.max_position_embeddings,
        epsilon: raw.layer_norm_eps,
        activation,
    })
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
    Ok(UnetConfig {
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
    #[serde(default = "groups")]
    norm_num_groups: usize,
    #[serde(default = "unet_epsilon")]
    norm_eps: f64,
    #[serde(default = "yes")]
    flip_sin_to_cos: bool,
    #[serde(default)]
    freq_shift: f64,
    #[serde(default = "two")]
    layers_per_block: PerLevel,
    #[serde(default = "one")]
    transformer_layers_per_block: PerLevel,
    num_attention_heads: Option<PerLevel>,
    attention_head_dim: Option<PerLevel>,
}

/// Keys of `unet/config.json` whose other values would change the numbers in ways that are not built.
const UNET_FIXED: &[(&str, &[&str])] = &[
    ("_class_name", &["\"UNet2DConditionModel\""]),
    ("act_fn", &["\"silu\"", "\"swish\""]),
    ("addition_embed_type", &[]),
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

/// Reads `vae/config.json`.
///
/// # Errors
/// [`Error::File`], [`Error::Config`] or [`Error::Unsupported`].
pub(crate) fn vae(files: &Files) -> Result<VaeConfig> {
    #[derive(Deserialize)]
    struct Raw {
        in_channels: usize,
        latent_channels: usize,
        block_out_channels: Vec<usize>,
        layers_per_block: usize,
        #[serde(default = "groups")]
        norm_num_groups: usize,
        #[serde(default = "stable_diffusion_scale")]
        scaling_factor: f64,
        shift_factor: Option<f64>,
        #[serde(default = "yes")]
        mid_block_add_attention: bool,
        #[serde(default = "yes")]
        use_quant_conv: bool,
        #[serde(default = "yes")]
        use_post_quant_conv: bool,
    }
    const FIXED: &[(&str, &[&str])] = &[
        ("_class_name", &["\"AutoencoderKL\""]),
        ("act_fn", &["\"silu\"", "\"swish\""]),
        ("in_channels", &["3"]),
        ("latents_mean", &[]),
        ("latents_std", &[]),
        ("out_channels", &["3"]),
    ];
    let file = "vae/config.json";
    let value: Value = read_json(files, file)?;
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

/// Reads `scheduler/scheduler_config.json`.
///
/// # Errors
/// [`Error::File`], [`Error::Config`] or [`Error::Unsupported`].
pub(crate) fn noise(files: &Files) -> Result<NoiseConfig> {
    let file = "scheduler/scheduler_config.json";
    noise_from(file, read_json(files, file)?)
}

impl NoiseConfig {
    /// Makes sense of the contents of a `scheduler_config.json`.
    ///
    /// # Errors
    /// [`Error::Config`] or [`Error::Unsupported`].
    pub fn from_json(text: &str) -> Result<Self> {
        let file = "scheduler/scheduler_config.json";
        let value = serde_json::from_str(text);
        noise_from(file, value.map_err(|error| Error::Config { file: file.to_owned(), reason: error.to_string() })?)
    }
}

fn noise_from(file: &str, value: Value) -> Result<NoiseConfig> {
    const FIXED: &[(&str, &[&str])] = &[
        ("interpolation_type", &["\"linear\""]),
        ("thresholding", &["false"]),
        ("timestep_type", &["\"discrete\""]),
        ("use_beta_sigmas", &["false"]),
    ];
    only(file, &value, FIXED)?;
    let raw: RawNoise = parse(file, value)?;
    let beta_curve = match raw.beta_schedule.as_str() {
        "linear" => BetaCurve::Linear,
        "scaled_linear" => BetaCurve::ScaledLinear,
        "squaredcos_cap_v2" => BetaCurve::SquaredCosine,
        other => return Err(unsupported(file, "beta_schedule", other, "linear, scaled_linear, squaredcos_cap_v2")),
    };
    let prediction = match raw.prediction_type.as_str() {
        "epsilon" => Prediction::Epsilon,
        "v_prediction" => Prediction::Velocity,
        "sample" => Prediction::Sample,
        other => return Err(unsupported(file, "prediction_type", other, "epsilon, v_prediction, sample")),
    };
    let spacing = match raw.timestep_spacing.as_deref() {
        None => None,
        Some("leading") => Some(Spacing::Leading),
        Some("linspace") => Some(Spacing::Linspace),
        Some("trailing") => Some(Spacing::Trailing),
        Some(other) => return Err(unsupported(file, "timestep_spacing", other, "leading, linspace, trailing")),
    };
    let curve = match (raw.use_karras_sigmas.unwrap_or(false), raw.use_exponential_sigmas.unwrap_or(false)) {
        (false, false) => Curve::Trained,
        (true, false) => Curve::Karras,
        (false, true) => Curve::Exponential,
        (true, true) => {
            let reason = "use_karras_sigmas and use_exponential_sigmas cannot both be true".to_owned();
            return Err(Error::Config { file: file.to_owned(), reason });
        }
    };
    Ok(NoiseConfig {
        class_name: raw._class_name,
        train_steps: raw.num_train_timesteps,
        beta_start: raw.beta_start,
        beta_end: raw.beta_end,
        beta_curve,
        trained_betas: raw.trained_betas,
        prediction,
        spacing,
        steps_offset: raw.steps_offset,
        zero_terminal_snr: raw.rescale_betas_zero_snr,
        set_alpha_to_one: raw.set_alpha_to_one,
        clip_sample: raw.clip_sample.then_some(raw.clip_sample_range),
        curve,
        ends_at_sigma_min: raw.final_sigmas_type.as_deref() == Some("sigma_min"),
        sigma_min: raw.sigma_min,
        sigma_max: raw.sigma_max,
    })
}

#[derive(Deserialize)]
struct RawNoise {
    #[serde(default)]
    _class_name: String,
    #[serde(default = "thousand")]
    num_train_timesteps: usize,
    #[serde(default = "first_beta")]
    beta_start: f64,
    #[serde(default = "last_beta")]
    beta_end: f64,
    #[serde(default = "linear")]
    beta_schedule: String,
    trained_betas: Option<Vec<f64>>,
    #[serde(default = "epsilon_prediction")]
    prediction_type: String,
    timestep_spacing: Option<String>,
    #[serde(default)]
    steps_offset: usize,
    #[serde(default)]
    rescale_betas_zero_snr: bool,
    #[serde(default = "yes")]
    set_alpha_to_one: bool,
    #[serde(default = "yes")]
    clip_sample: bool,
    #[serde(default = "unit")]
    clip_sample_range: f64,
    use_karras_sigmas: Option<bool>,
    use_exponential_sigmas: Option<bool>,
    final_sigmas_type: Option<String>,
    sigma_min: Option<f64>,
    sigma_max: Option<f64>,
}

/// Reads a JSON file of a model.
pub(crate) fn read_json<T: DeserializeOwned>(files: &Files, file: &str) -> Result<T> {
    let bytes = files.read(file)?;
    serde_json::from_slice(&bytes).map_err(|error| Error::Config { file: file.to_owned(), reason: error.to_string() })
}

fn parse<T: DeserializeOwned>(file: &str, value: Value) -> Result<T> {
    serde_json::from_value(value).map_err(|error| Error::Config { file: file.to_owned(), reason: error.to_string() })
}

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

/// Checks keys that may only hold certain values (as JSON text) or null.
fn only(file: &str, value: &Value, fixed: &[(&str, &[&str])]) -> Result<()> {
    for (key, allowed) in fixed {
        let Some(found) = value.get(key).filter(|found| !found.is_null()) else { continue };
        let text = found.to_string();
        if !allowed.contains(&text.as_str()) {
            let allowed = if allowed.is_empty() { "null".to_owned() } else { allowed.join(", ") };
            return Err(unsupported(file, key, &text, &allowed));
        }
    }
    Ok(())
}

fn divides(file: &str, key: &str, divisor: usize, value: usize) -> Result<()> {
    if divisor != 0 && value.is_multiple_of(divisor) && value != 0 {
        return Ok(());
    }
    Err(Error::Config { file: file.to_owned(), reason: format!("{key} is {divisor}, which does not divide {value}") })
}

fn unsupported(file: &str, key: &str, value: &str, allowed: &str) -> Error {
    Error::Unsupported {
        file: file.to_owned(),
        key: key.to_owned(),
        value: value.to_owned(),
        allowed: allowed.to_owned(),
    }
}

// The defaults of the diffusers classes, for files that leave keys out.

fn yes() -> bool {
    true
}

fn one() -> PerLevel {
    PerLevel::One(1)
}

fn two() -> PerLevel {
    PerLevel::One(2)
}

fn groups() -> usize {
    32
}

fn thousand() -> usize {
    1000
}

fn unet_epsilon() -> f64 {
    1e-5
}

fn first_beta() -> f64 {
    1e-4
}

fn last_beta() -> f64 {
    0.02
}

fn unit() -> f64 {
    1.0
}

fn stable_diffusion_scale() -> f64 {
    0.18215
}

fn linear() -> String {
    "linear".to_owned()
}

fn epsilon_prediction() -> String {
    "epsilon".to_owned()
}
