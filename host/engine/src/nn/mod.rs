//! The layers that networks are made of, each with PyTorch's numbers.
//!
//! Pictures and feature maps are `[batch, height, width, channels]`: a row of attention tokens is then a row of pixels, a
//! 1×1 convolution is a linear layer, a decoded picture is its RGB bytes, and nothing is ever transposed in between.
//! Weights keep PyTorch's layout in the file and are turned once, while loading.
//!
//! Where candle's own operator is slow on a CPU, a layer has a fused one over slices beside the same thing composed of
//! candle's operators, which runs on every other device; tests hold the two against each other.

mod activation;
mod attention;
mod conv;
mod linear;
mod modulation;
mod norm;
mod projections;
mod resample;
mod rope;
mod time;
mod wide;

pub(crate) use activation::{Activation, gate_gelu};
pub(crate) use attention::{causal_mask, multi_head};
pub(crate) use conv::{Conv, ConvShape};
pub(crate) use linear::{Linear, add_in_place};
pub(crate) use modulation::{Modulation, add_gated_in_place, gated, gated_halves};
pub(crate) use norm::{GroupNorm, LayerNorm, RmsNorm, layer_norm};
pub(crate) use projections::{Heads, JointAttention, Projections};
pub(crate) use resample::upsample;
pub(crate) use rope::{Axis, Pairs, Rope, Rounding};
pub(crate) use time::{TimeEmbedding, time_embedding};
