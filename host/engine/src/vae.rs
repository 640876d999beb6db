//! The autoencoder: latents to pictures and back.
//!
//! Defined by diffusers' `AutoencoderKL`. Pictures are `[batch, height, width, 3]` in -1..1, latents
//! `[batch, height, width, channels]`. Sampling from the encoder's distribution is the caller's: it takes noise.

use candle_core::{Result as TensorResult, Tensor};

use crate::checkpoint::Weights;
use crate::config::VaeConfig;
use crate::error::Result;
use crate::nn::{Conv, ConvShape, GroupNorm, Linear, add_in_place, multi_head, upsample};
use crate::trace::Trace;

/// Epsilon of every norm in it, whatever the config says.
const EPSILON: f64 = 1e-6;

/// The half that turns latents into pictures.
pub(crate) struct Decoder {
    name: String,
    first: Option<Conv>,
    conv_in: Conv,
    middle: Middle,
    levels: Vec<Level>,
    norm_out: GroupNorm,
    conv_out: Conv,
}

impl Decoder {
    /// Loads the decoder.
    ///
    /// # Errors
    /// [`crate::Error::Weights`] when a tensor is missing or has another shape.
    pub(crate) fn load(config: &VaeConfig, weights: &Weights) -> Result<Self> {
        let latent = config.latent_channels;
        let first = match config.unquantizes {
            true => Some(Conv::load(&weights.at("post_quant_conv"), latent, latent, ConvShape::POINT)?),
            false => None,
        };
        let (finest, coarsest) = ends(&config.channels);
        let weights = weights.at("decoder");
        let mut input = coarsest;
        let mut levels = Vec::with_capacity(config.channels.len());
        for (index, channels) in config.channels.iter().rev().enumerate() {
            let resize = (index + 1 < config.channels.len()).then_some(("upsamplers.0", ConvShape::SAME));
            let weights = weights.at("up_blocks").at(index);
            levels.push(Level::load(config, (input, *channels), config.layers + 1, resize, &weights)?);
            input = *channels;
        }
        Ok(Self {
            name: weights.component().to_owned(),
            first,
            conv_in: Conv::load(&weights.at("conv_in"), latent, coarsest, ConvShape::SAME)?,
            middle: Middle::load(config, coarsest, &weights.at("mid_block"))?,
            levels,
            norm_out: GroupNorm::load(&weights.at("conv_norm_out"), config.groups, finest, EPSILON)?,
            conv_out: Conv::load(&weights.at("conv_out"), finest, config.picture_channels, ConvShape::SAME)?,
        })
    }

    /// Decodes latents that were already divided by the scaling factor.
    ///
    /// # Errors
    /// A tensor operation that failed.
    pub(crate) fn forward(&self, latents: &Tensor, trace: Trace<'_>) -> TensorResult<Tensor> {
        let mut x = latents.clone();
        if let Some(first) = &self.first {
            x = first.forward(&x)?;
            trace.tell_map(&self.name, "post_quant_conv", &x)?;
        }
        x = self.conv_in.forward(&x)?;
        trace.tell_map(&self.name, "decoder.conv_in", &x)?;
        x = self.middle.forward(&x, trace)?;
        for level in &self.levels {
            x = level.forward(&x, true, trace)?;
        }
        finish(&self.norm_out, &self.conv_out, &x, &format!("{}.decoder", self.name), trace)
    }
}

/// The half that turns pictures into latents.
pub(crate) struct Encoder {
    name: String,
    conv_in: Conv,
    levels: Vec<Level>,
    middle: Middle,
    norm_out: GroupNorm,
    conv_out: Conv,
    last: Option<Conv>,
}

/// Where a picture lies among latents: a mean, and how sure the encoder is of it.
#[derive(Clone, Debug)]
pub(crate) struct Posterior {
    /// The mean.
    pub(crate) mean: Tensor,
    /// The logarithm of the variance, within -30..20.
    pub(crate) log_variance: Tensor,
}

impl Encoder {
    /// Loads the encoder.
    ///
    /// # Errors
    /// [`crate::Error::Weights`] when a tensor is missing or has another shape.
    pub(crate) fn load(config: &VaeConfig, weights: &Weights) -> Result<Self> {
        let double = 2 * config.latent_channels;
        let last = match config.quantizes {
            true => Some(Conv::load(&weights.at("quant_conv"), double, double, ConvShape::POINT)?),
            false => None,
        };
        let (finest, coarsest) = ends(&config.channels);
        let weights = weights.at("encoder");
        let mut input = finest;
        let mut levels = Vec::with_capacity(config.channels.len());
        for (index, channels) in config.channels.iter().enumerate() {
            let resize = (index + 1 < config.channels.len()).then_some(("downsamplers.0", ConvShape::HALF_FAR));
            let weights = weights.at("down_blocks").at(index);
            levels.push(Level::load(config, (input, *channels), config.layers, resize, &weights)?);
            input = *channels;
        }
        Ok(Self {
            name: weights.component().to_owned(),
            conv_in: Conv::load(&weights.at("conv_in"), config.picture_channels, finest, ConvShape::SAME)?,
            levels,
            middle: Middle::load(config, coarsest, &weights.at("mid_block"))?,
            norm_out: GroupNorm::load(&weights.at("conv_norm_out"), config.groups, coarsest, EPSILON)?,
            conv_out: Conv::load(&weights.at("conv_out"), coarsest, double, ConvShape::SAME)?,
            last,
        })
    }

    /// Encodes a picture; the latents still have to be multiplied by the scaling factor.
    ///
    /// # Errors
    /// A tensor operation that failed.
    pub(crate) fn forward(&self, picture: &Tensor, trace: Trace<'_>) -> TensorResult<Posterior> {
        let mut x = self.conv_in.forward(picture)?;
        trace.tell_map(&self.name, "encoder.conv_in", &x)?;
        for level in &self.levels {
            x = level.forward(&x, false, trace)?;
        }
        x = self.middle.forward(&x, trace)?;
        x = finish(&self.norm_out, &self.conv_out, &x, &format!("{}.encoder", self.name), trace)?;
        if let Some(last) = &self.last {
            x = last.forward(&x)?;
            trace.tell_map(&self.name, "quant_conv", &x)?;
        }
        let channels = x.dim(3)? / 2;
        let mean = x.narrow(3, 0, channels)?.contiguous()?;
        let log_variance = x.narrow(3, channels, channels)?.contiguous()?.clamp(-30f32, 20f32)?;
        Ok(Posterior { mean, log_variance })
    }
}

fn finish(norm: &GroupNorm, conv: &Conv, x: &Tensor, name: &str, trace: Trace<'_>) -> TensorResult<Tensor> {
    if trace.listens() {
        trace.tell_map(name, "conv_norm_out", &norm.forward(x)?)?;
    }
    let y = conv.forward(&norm.forward_silu(x)?)?;
    trace.tell_map(name, "conv_out", &y)?;
    Ok(y)
}

fn ends(channels: &[usize]) -> (usize, usize) {
    (channels.first().copied().unwrap_or(0), channels.last().copied().unwrap_or(0))
}

/// One level: residual parts, then a change of size.
struct Level {
    name: String,
    residuals: Vec<Residual>,
    resize: Option<(String, Conv)>,
}

impl Level {
    fn load(
        config: &VaeConfig,
        (input, channels): (usize, usize),
        layers: usize,
        resize: Option<(&str, ConvShape)>,
        weights: &Weights,
    ) -> Result<Self> {
        let residuals = (0..layers).map(|index| {
            let input = if index == 0 { input } else { channels };
            Residual::load(config, input, channels, &weights.at("resnets").at(index))
        });
        let resize = match resize {
            Some((part, shape)) => {
                let weights = weights.at(part);
                Some((weights.path(), Conv::load(&weights.at("conv"), channels, channels, shape)?))
            }
            None => None,
        };
        Ok(Self { name: weights.path(), residuals: residuals.collect::<Result<_>>()?, resize })
    }

    fn forward(&self, x: &Tensor, upwards: bool, trace: Trace<'_>) -> TensorResult<Tensor> {
        let mut x = x.clone();
        for residual in &self.residuals {
            x = residual.forward(&x, trace)?;
        }
        if let Some((name, conv)) = &self.resize {
            if upwards {
                x = upsample(&x, x.dim(1)? * 2, x.dim(2)? * 2)?;
            }
            x = conv.forward(&x)?;
            trace.tell_map(name, "", &x)?;
        }
        trace.tell_map(&self.name, "", &x)?;
        Ok(x)
    }
}

/// The coarsest level: attention between two residual parts.
struct Middle {
    name: String,
    first: Residual,
    attention: Option<Attention>,
    second: Residual,
}

impl Middle {
    fn load(config: &VaeConfig, channels: usize, weights: &Weights) -> Result<Self> {
        let residual = |index: usize| Residual::load(config, channels, channels, &weights.at("resnets").at(index));
        let attention = match config.mid_attends {
            true => Some(Attention::load(config, channels, &weights.at("attentions.0"))?),
            false => None,
        };
        Ok(Self { name: weights.path(), first: residual(0)?, attention, second: residual(1)? })
    }

    fn forward(&self, x: &Tensor, trace: Trace<'_>) -> TensorResult<Tensor> {
        let mut x = self.first.forward(x, trace)?;
        if let Some(attention) = &self.attention {
            x = attention.forward(&x, trace)?;
        }
        let x = self.second.forward(&x, trace)?;
        trace.tell_map(&self.name, "", &x)?;
        Ok(x)
    }
}

/// Two convolutions, and the input added at the end.
struct Residual {
    name: String,
    norm1: GroupNorm,
    conv1: Conv,
    norm2: GroupNorm,
    conv2: Conv,
    shortcut: Option<Conv>,
}

impl Residual {
    fn load(config: &VaeConfig, input: usize, output: usize, weights: &Weights) -> Result<Self> {
        let shortcut = match input == output {
            true => None,
            false => Some(Conv::load(&weights.at("conv_shortcut"), input, output, ConvShape::POINT)?),
        };
        Ok(Self {
            name: weights.path(),
            norm1: GroupNorm::load(&weights.at("norm1"), config.groups, input, EPSILON)?,
            conv1: Conv::load(&weights.at("conv1"), input, output, ConvShape::SAME)?,
            norm2: GroupNorm::load(&weights.at("norm2"), config.groups, output, EPSILON)?,
            conv2: Conv::load(&weights.at("conv2"), output, output, ConvShape::SAME)?,
            shortcut,
        })
    }

    fn forward(&self, x: &Tensor, trace: Trace<'_>) -> TensorResult<Tensor> {
        let y = self.conv1.forward(&self.norm1.forward_silu(x)?)?;
        let y = self.conv2.forward(&self.norm2.forward_silu(&y)?)?;
        match &self.shortcut {
            Some(shortcut) => add_in_place(&y, &shortcut.forward(x)?)?,
            None => add_in_place(&y, x)?,
        }
        trace.tell_map(&self.name, "", &y)?;
        Ok(y)
    }
}

/// Attention of one head among all pixels.
struct Attention {
    name: String,
    norm: GroupNorm,
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
}

impl Attention {
    fn load(config: &VaeConfig, channels: usize, weights: &Weights) -> Result<Self> {
        // Names before diffusers 0.16 come second.
        let linear = |name: &str, old: &str| {
            let name = if weights.has(&format!("{old}.weight")) { old } else { name };
            Linear::load(&weights.at(name), channels, channels)
        };
        Ok(Self {
            name: weights.path(),
            norm: GroupNorm::load(&weights.at("group_norm"), config.groups, channels, EPSILON)?,
            query: linear("to_q", "query")?,
            key: linear("to_k", "key")?,
            value: linear("to_v", "value")?,
            out: linear("to_out.0", "proj_attn")?,
        })
    }

    fn forward(&self, x: &Tensor, trace: Trace<'_>) -> TensorResult<Tensor> {
        let (batch, height, width, channels) = x.dims4()?;
        let y = self.norm.forward(x)?.reshape((batch, height * width, channels))?;
        let (q, k, v) = (self.query.forward(&y)?, self.key.forward(&y)?, self.value.forward(&y)?);
        let y = self.out.forward(&multi_head(&q, &k, &v, 1, None)?)?.reshape((batch, height, width, channels))?;
        add_in_place(&y, x)?;
        trace.tell_map(&self.name, "", &y)?;
        Ok(y)
    }
}
