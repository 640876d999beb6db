//! The denoising network of Stable Diffusion: what noise is in these latents, at this time, given this text?
//!
//! Defined by diffusers' `UNet2DConditionModel`. Latents are `[batch, height, width, channels]`; every size goes in, also
//! those that the levels do not divide, because each level going up takes the size of the one it joins.

mod blocks;

use candle_core::{Result as TensorResult, Tensor};

use crate::checkpoint::Weights;
use crate::config::{UnetAddition, UnetConfig};
use crate::error::{Error, Result};
use crate::nn::{Activation, Conv, ConvShape, GroupNorm, Linear, time_embedding};
use crate::trace::Trace;
use blocks::{Level, LevelShape, Middle};

/// What the network is told besides latents and time; the same in every step of a run.
pub(crate) struct Conditions {
    /// What it attends to: `[batch, tokens, width]`.
    pub(crate) text: Tensor,
    /// What is added to the embedding of the time: [`Unet::addition`].
    pub(crate) added: Option<Tensor>,
}

/// A denoising network.
pub(crate) struct Unet {
    config: UnetConfig,
    name: String,
    time1: Linear,
    time2: Linear,
    addition: Option<Addition>,
    conv_in: Conv,
    down: Vec<Level>,
    middle: Middle,
    up: Vec<Level>,
    norm_out: GroupNorm,
    conv_out: Conv,
}

impl Unet {
    /// Loads a network.
    ///
    /// # Errors
    /// [`Error::Weights`] when a tensor is missing or has another shape.
    pub(crate) fn load(config: &UnetConfig, weights: &Weights) -> Result<Self> {
        let (Some(first), Some(last)) = (config.down.first(), config.down.last()) else {
            return Err(Error::Config { file: "unet/config.json".to_owned(), reason: "there is no level".to_owned() });
        };
        let time = first.channels * 4;
        let levels = config.down.len();

        // Every map that goes down is joined on the way up, the latest first.
        let mut joined = vec![first.channels];
        let mut down = Vec::with_capacity(levels);
        let mut channels = first.channels;
        for (index, level) in config.down.iter().enumerate() {
            let resizes = index + 1 < levels;
            let inputs = (0..level.layers).map(|layer| if layer == 0 { channels } else { level.channels }).collect();
            let shape = LevelShape { level, time, attends: level.attends, inputs, resizes, upwards: false };
            down.push(Level::load(config, &shape, &weights.at("down_blocks").at(index))?);
            channels = level.channels;
            joined.extend(std::iter::repeat_n(channels, level.layers + usize::from(resizes)));
        }

        let middle = Middle::load(config, last, time, &weights.at("mid_block"))?;

        let mut up = Vec::with_capacity(levels);
        for (index, (level, attends)) in config.down.iter().rev().zip(&config.up_attends).enumerate() {
            let mut inputs = Vec::with_capacity(level.layers + 1);
            for layer in 0..=level.layers {
                let before = if layer == 0 { channels } else { level.channels };
                inputs.push(before + joined.pop().unwrap_or(0));
            }
            let resizes = index + 1 < levels;
            let shape = LevelShape { level, time, attends: *attends, inputs, resizes, upwards: true };
            up.push(Level::load(config, &shape, &weights.at("up_blocks").at(index))?);
            channels = level.channels;
        }

        let time_weights = weights.at("time_embedding");
        let addition = match config.addition {
            Some(addition) => Some(Addition::load(addition, time, &weights.at("add_embedding"))?),
            None => None,
        };
        Ok(Self {
            addition,
            name: weights.component().to_owned(),
            time1: Linear::load(&time_weights.at("linear_1"), first.channels, time)?,
            time2: Linear::load(&time_weights.at("linear_2"), time, time)?,
            conv_in: Conv::load(&weights.at("conv_in"), config.in_channels, first.channels, ConvShape::SAME)?,
            down,
            middle,
            up,
            norm_out: GroupNorm::load(&weights.at("conv_norm_out"), config.groups, first.channels, config.epsilon)?,
            conv_out: Conv::load(&weights.at("conv_out"), first.channels, config.out_channels, ConvShape::SAME)?,
            config: config.clone(),
        })
    }

    /// Channels of what goes in.
    pub(crate) fn in_channels(&self) -> usize {
        self.config.in_channels
    }

    /// The prediction for latents `[batch, height, width, channels]` at one timestep, given as many rows of conditions.
    ///
    /// # Errors
    /// A tensor operation that failed.
    pub(crate) fn forward(
        &self,
        latents: &Tensor,
        timestep: f64,
        conditions: &Conditions,
        trace: Trace<'_>,
    ) -> TensorResult<Tensor> {
        let name = self.name.as_str();
        let text = &conditions.text;
        let time = self.time(&vec![timestep; latents.dim(0)?], trace)?;
        let time = match &conditions.added {
            Some(added) => (time + added)?,
            None => time,
        };
        // Every residual part begins with this activation, so it is done once.
        let time = Activation::Silu.apply(time)?;

        let mut x = self.conv_in.forward(latents)?;
        trace.tell_map(name, "conv_in", &x)?;
        let mut skips = vec![x.clone()];
        for level in &self.down {
            x = level.down(&x, &time, text, &mut skips, trace)?;
        }
        x = self.middle.forward(&x, &time, text, trace)?;
        for level in &self.up {
            x = level.up(&x, &time, text, &mut skips, trace)?;
        }
        if trace.listens() {
            trace.tell_map(name, "conv_norm_out", &self.norm_out.forward(&x)?)?;
        }
        let y = self.conv_out.forward(&self.norm_out.forward_silu(&x)?)?;
        trace.tell_map(name, "conv_out", &y)?;
        Ok(y)
    }

    /// Embeds timesteps, one row each, as the network sees them.
    ///
    /// # Errors
    /// A tensor operation that failed.
    pub(crate) fn time(&self, timesteps: &[f64], trace: Trace<'_>) -> TensorResult<Tensor> {
        let config = &self.config;
        let width = config.down.first().map_or(0, |level| level.channels);
        let device = self.conv_in.device();
        let waves = time_embedding(timesteps, width, config.cosine_first, config.frequency_shift, device)?;
        trace.tell(&self.name, "times.proj", &waves)?;
        let time = self.time2.forward(&Activation::Silu.apply(self.time1.forward(&waves)?)?)?;
        trace.tell(&self.name, "time_embedding", &time)?;
        Ok(time)
    }

    /// Embeds what SDXL adds to the time: a pooled text `[batch, width]`, and the sizes of the picture, the same for every row.
    /// Nothing where the network adds nothing.
    ///
    /// # Errors
    /// A tensor operation that failed; another number of values than the network was made for.
    pub(crate) fn addition(
        &self,
        pooled: Option<&Tensor>,
        sizes: &[f64],
        trace: Trace<'_>,
    ) -> TensorResult<Option<Tensor>> {
        let Some(addition) = &self.addition else { return Ok(None) };
        let Some(pooled) = pooled else { candle_core::bail!("the network adds a pooled text, and none is given") };
        let rows = pooled.dim(0)?;
        let config = &self.config;
        let waves = time_embedding(
            sizes,
            addition.config.size_width,
            config.cosine_first,
            config.frequency_shift,
            pooled.device(),
        )?;
        let waves = waves.reshape((1, ()))?.broadcast_as((rows, sizes.len() * addition.config.size_width))?;
        let both = Tensor::cat(&[pooled, &waves.contiguous()?], 1)?;
        let added = addition.second.forward(&Activation::Silu.apply(addition.first.forward(&both)?)?)?;
        trace.tell(&self.name, "add_embedding", &added)?;
        Ok(Some(added))
    }
}

/// The two layers behind [`Unet::addition`].
struct Addition {
    config: UnetAddition,
    first: Linear,
    second: Linear,
}

impl Addition {
    fn load(config: UnetAddition, time: usize, weights: &Weights) -> Result<Self> {
        let first = Linear::load(&weights.at("linear_1"), config.width, time)?;
        let second = Linear::load(&weights.at("linear_2"), time, time)?;
        Ok(Self { config, first, second })
    }
}
