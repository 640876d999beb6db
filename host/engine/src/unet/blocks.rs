//! The levels of the denoising network, and the residual parts and transformers they are made of.

use candle_core::{Result as TensorResult, Tensor};

use crate::checkpoint::Weights;
use crate::config::{UnetConfig, UnetLevel};
use crate::error::Result;
use crate::nn::{Conv, ConvShape, GroupNorm, LayerNorm, Linear, add_in_place, gate_gelu, multi_head, upsample};
use crate::trace::Trace;

/// One level, going down or up: residual parts, each followed by a transformer where the level attends, then a change of
/// size.
pub(super) struct Level {
    name: String,
    residuals: Vec<Residual>,
    transformers: Vec<Transformer>,
    resize: Option<(String, Conv)>,
}

/// What a level is made of.
pub(super) struct LevelShape<'a> {
    pub(super) level: &'a UnetLevel,
    /// Width of the time embedding.
    pub(super) time: usize,
    pub(super) attends: bool,
    /// Channels that go into each residual part.
    pub(super) inputs: Vec<usize>,
    /// Whether the level ends with a change of size.
    pub(super) resizes: bool,
    pub(super) upwards: bool,
}

impl Level {
    pub(super) fn load(config: &UnetConfig, shape: &LevelShape<'_>, weights: &Weights) -> Result<Self> {
        let channels = shape.level.channels;
        let residuals = shape.inputs.iter().enumerate().map(|(index, input)| {
            Residual::load(config, *input, channels, shape.time, &weights.at("resnets").at(index))
        });
        let attentions = if shape.attends { shape.inputs.len() } else { 0 };
        let transformers =
            (0..attentions).map(|index| Transformer::load(config, shape.level, &weights.at("attentions").at(index)));
        let (part, window) =
            if shape.upwards { ("upsamplers.0", ConvShape::SAME) } else { ("downsamplers.0", ConvShape::HALF) };
        let resize = match shape.resizes {
            true => {
                let weights = weights.at(part);
                Some((weights.path(), Conv::load(&weights.at("conv"), channels, channels, window)?))
            }
            false => None,
        };
        Ok(Self {
            name: weights.path(),
            residuals: residuals.collect::<Result<_>>()?,
            transformers: transformers.collect::<Result<_>>()?,
            resize,
        })
    }

    /// Goes down; every map on the way is kept for the way up.
    pub(super) fn down(
        &self,
        x: &Tensor,
        time: &Tensor,
        text: &Tensor,
        skips: &mut Vec<Tensor>,
        trace: Trace<'_>,
    ) -> TensorResult<Tensor> {
        let mut x = x.clone();
        for (index, residual) in self.residuals.iter().enumerate() {
            x = residual.forward(&x, time, trace)?;
            if let Some(transformer) = self.transformers.get(index) {
                x = transformer.forward(&x, text, trace)?;
            }
            skips.push(x.clone());
        }
        if let Some((name, conv)) = &self.resize {
            x = conv.forward(&x)?;
            trace.tell_map(name, "", &x)?;
            skips.push(x.clone());
        }
        trace.tell_map(&self.name, "", &x)?;
        Ok(x)
    }

    /// Goes up, joining the maps that were kept.
    pub(super) fn up(
        &self,
        x: &Tensor,
        time: &Tensor,
        text: &Tensor,
        skips: &mut Vec<Tensor>,
        trace: Trace<'_>,
    ) -> TensorResult<Tensor> {
        let mut x = x.clone();
        for (index, residual) in self.residuals.iter().enumerate() {
            let Some(skip) = skips.pop() else { candle_core::bail!("a level going up has nothing left to join") };
            x = residual.forward(&Tensor::cat(&[&x, &skip], 3)?, time, trace)?;
            if let Some(transformer) = self.transformers.get(index) {
                x = transformer.forward(&x, text, trace)?;
            }
        }
        if let Some((name, conv)) = &self.resize {
            // The size of the level above, which need not be twice this one's.
            let (_, height, width, _) = x.dims4()?;
            let (height, width) = match skips.last() {
                Some(next) => (next.dim(1)?, next.dim(2)?),
                None => (height * 2, width * 2),
            };
            x = conv.forward(&upsample(&x, height, width)?)?;
            trace.tell_map(name, "", &x)?;
        }
        trace.tell_map(&self.name, "", &x)?;
        Ok(x)
    }
}

/// The coarsest level: a transformer between two residual parts.
pub(super) struct Middle {
    name: String,
    first: Residual,
    transformer: Transformer,
    second: Residual,
}

impl Middle {
    pub(super) fn load(config: &UnetConfig, level: &UnetLevel, time: usize, weights: &Weights) -> Result<Self> {
        let residual = |index: usize| {
            Residual::load(config, level.channels, level.channels, time, &weights.at("resnets").at(index))
        };
        Ok(Self {
            name: weights.path(),
            first: residual(0)?,
            transformer: Transformer::load(config, level, &weights.at("attentions.0"))?,
            second: residual(1)?,
        })
    }

    pub(super) fn forward(&self, x: &Tensor, time: &Tensor, text: &Tensor, trace: Trace<'_>) -> TensorResult<Tensor> {
        let x = self.first.forward(x, time, trace)?;
        let x = self.transformer.forward(&x, text, trace)?;
        let x = self.second.forward(&x, time, trace)?;
        trace.tell_map(&self.name, "", &x)?;
        Ok(x)
    }
}

/// Two convolutions with the time added between them, and the input added at the end.
struct Residual {
    name: String,
    norm1: GroupNorm,
    conv1: Conv,
    time: Linear,
    norm2: GroupNorm,
    conv2: Conv,
    shortcut: Option<Conv>,
}

impl Residual {
    fn load(config: &UnetConfig, input: usize, output: usize, time: usize, weights: &Weights) -> Result<Self> {
        let shortcut = match input == output {
            true => None,
            false => Some(Conv::load(&weights.at("conv_shortcut"), input, output, ConvShape::POINT)?),
        };
        Ok(Self {
            name: weights.path(),
            norm1: GroupNorm::load(&weights.at("norm1"), config.groups, input, config.epsilon)?,
            conv1: Conv::load(&weights.at("conv1"), input, output, ConvShape::SAME)?,
            time: Linear::load(&weights.at("time_emb_proj"), time, output)?,
            norm2: GroupNorm::load(&weights.at("norm2"), config.groups, output, config.epsilon)?,
            conv2: Conv::load(&weights.at("conv2"), output, output, ConvShape::SAME)?,
            shortcut,
        })
    }

    fn forward(&self, x: &Tensor, time: &Tensor, trace: Trace<'_>) -> TensorResult<Tensor> {
        let y = self.norm1.forward_silu(x)?;
        let y = self.conv1.forward_plus(&y, &self.time.forward(time)?)?;
        let y = self.conv2.forward(&self.norm2.forward_silu(&y)?)?;
        match &self.shortcut {
            Some(shortcut) => add_in_place(&y, &shortcut.forward(x)?)?,
            None => add_in_place(&y, x)?,
        }
        trace.tell_map(&self.name, "", &y)?;
        Ok(y)
    }
}

/// Pixels as tokens that attend to each other and to the text.
struct Transformer {
    name: String,
    norm: GroupNorm,
    enter: Linear,
    blocks: Vec<Block>,
    leave: Linear,
}

impl Transformer {
    /// Fixed in diffusers, whatever the config says of the other norms.
    const EPSILON: f64 = 1e-6;

    fn load(config: &UnetConfig, level: &UnetLevel, weights: &Weights) -> Result<Self> {
        let channels = level.channels;
        let blocks = (0..level.depth)
            .map(|index| Block::load(level, config.text_width, &weights.at("transformer_blocks").at(index)));
        Ok(Self {
            name: weights.path(),
            norm: GroupNorm::load(&weights.at("norm"), config.groups, channels, Self::EPSILON)?,
            // A 1×1 convolution or a linear layer, as the config says: the same sums over this layout of pixels.
            enter: Linear::load(&weights.at("proj_in"), channels, channels)?,
            blocks: blocks.collect::<Result<_>>()?,
            leave: Linear::load(&weights.at("proj_out"), channels, channels)?,
        })
    }

    fn forward(&self, x: &Tensor, text: &Tensor, trace: Trace<'_>) -> TensorResult<Tensor> {
        let (batch, height, width, channels) = x.dims4()?;
        let y = self.norm.forward(x)?.reshape((batch, height * width, channels))?;
        let mut y = self.enter.forward(&y)?;
        for block in &self.blocks {
            y = block.forward(&y, text, trace)?;
        }
        let y = self.leave.forward(&y)?.reshape((batch, height, width, channels))?;
        add_in_place(&y, x)?;
        trace.tell_map(&self.name, "", &y)?;
        Ok(y)
    }
}

/// Attention among the pixels, attention to the text, and a gated feed-forward.
struct Block {
    name: String,
    norm1: LayerNorm,
    among: Attention,
    norm2: LayerNorm,
    to_text: Attention,
    norm3: LayerNorm,
    widen: Linear,
    narrow: Linear,
}

impl Block {
    /// PyTorch's default, which diffusers leaves as it is.
    const EPSILON: f64 = 1e-5;

    fn load(level: &UnetLevel, text_width: usize, weights: &Weights) -> Result<Self> {
        let channels = level.channels;
        let norm = |name: &str| LayerNorm::load(&weights.at(name), channels, Self::EPSILON);
        Ok(Self {
            name: weights.path(),
            norm1: norm("norm1")?,
            among: Attention::load(channels, channels, level.heads, &weights.at("attn1"))?,
            norm2: norm("norm2")?,
            to_text: Attention::load(channels, text_width, level.heads, &weights.at("attn2"))?,
            norm3: norm("norm3")?,
            widen: Linear::load(&weights.at("ff.net.0.proj"), channels, channels * 8)?,
            narrow: Linear::load(&weights.at("ff.net.2"), channels * 4, channels)?,
        })
    }

    fn forward(&self, x: &Tensor, text: &Tensor, trace: Trace<'_>) -> TensorResult<Tensor> {
        let y = self.norm1.forward(x)?;
        let first = self.among.forward(&y, &y)?;
        trace.tell(&self.name, "attn1", &first)?;
        add_in_place(&first, x)?;
        let second = self.to_text.forward(&self.norm2.forward(&first)?, text)?;
        trace.tell(&self.name, "attn2", &second)?;
        add_in_place(&second, &first)?;
        let third = self.narrow.forward(&gate_gelu(&self.widen.forward(&self.norm3.forward(&second)?)?)?)?;
        trace.tell(&self.name, "ff", &third)?;
        add_in_place(&third, &second)?;
        trace.tell(&self.name, "", &third)?;
        Ok(third)
    }
}

struct Attention {
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
    heads: usize,
}

impl Attention {
    fn load(channels: usize, from: usize, heads: usize, weights: &Weights) -> Result<Self> {
        Ok(Self {
            query: Linear::load_without_bias(&weights.at("to_q"), channels, channels)?,
            key: Linear::load_without_bias(&weights.at("to_k"), from, channels)?,
            value: Linear::load_without_bias(&weights.at("to_v"), from, channels)?,
            out: Linear::load(&weights.at("to_out.0"), channels, channels)?,
            heads,
        })
    }

    fn forward(&self, x: &Tensor, from: &Tensor) -> TensorResult<Tensor> {
        let (q, k, v) = (self.query.forward(x)?, self.key.forward(from)?, self.value.forward(from)?);
        self.out.forward(&multi_head(&q, &k, &v, self.heads, None)?)
    }
}
