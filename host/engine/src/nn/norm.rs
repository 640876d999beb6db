//! Group norm (with the activation that so often follows it), layer norm, and the norm by the root mean square.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result as TensorResult, Shape, Tensor};
use rayon::prelude::*;

use super::wide::{GRAIN, silu, slice, wide};
use crate::checkpoint::Weights;
use crate::error::Result;

/// Group norm over `[batch, height, width, channels]`.
#[derive(Clone, Debug)]
pub(crate) struct GroupNorm {
    weight: Tensor,
    bias: Tensor,
    groups: usize,
    epsilon: f64,
}

impl GroupNorm {
    /// Loads a group norm.
    ///
    /// # Errors
    /// [`crate::Error::Weights`] when a tensor is missing or has another shape.
    pub(crate) fn load(weights: &Weights, groups: usize, channels: usize, epsilon: f64) -> Result<Self> {
        let (weight, bias) = (weights.get("weight", &[channels])?, weights.get("bias", &[channels])?);
        if !channels.is_multiple_of(groups) {
            let reason = format!("has {channels} channels, which {groups} groups do not divide");
            return Err(crate::Error::Weights { tensor: weights.name("weight"), reason });
        }
        Ok(Self { weight, bias, groups, epsilon })
    }

    /// Normalises.
    ///
    /// # Errors
    /// A tensor operation that failed.
    pub(crate) fn forward(&self, x: &Tensor) -> TensorResult<Tensor> {
        self.run(x, false)
    }

    /// Normalises and applies SiLU.
    ///
    /// # Errors
    /// A tensor operation that failed.
    pub(crate) fn forward_silu(&self, x: &Tensor) -> TensorResult<Tensor> {
        self.run(x, true)
    }

    fn run(&self, x: &Tensor, activate: bool) -> TensorResult<Tensor> {
        if !x.device().is_cpu() {
            let y = self.composed(x)?;
            return if activate { y.silu() } else { Ok(y) };
        }
        let op = Groups { groups: self.groups, epsilon: self.epsilon, activate };
        x.contiguous()?.apply_op3_no_bwd(&self.weight, &self.bias, &op)
    }

    /// The same by candle's operators, for devices that have no fused one.
    fn composed(&self, x: &Tensor) -> TensorResult<Tensor> {
        let (batch, height, width, channels) = x.dims4()?;
        let grouped = x.reshape((batch, height * width, self.groups, channels / self.groups))?;
        let grouped = grouped.broadcast_sub(&grouped.mean_keepdim(3)?.mean_keepdim(1)?)?;
        let variance = grouped.sqr()?.mean_keepdim(3)?.mean_keepdim(1)?;
        let normal = grouped.broadcast_div(&(variance + self.epsilon)?.sqrt()?)?.reshape(x.shape())?;
        normal.broadcast_mul(&self.weight)?.broadcast_add(&self.bias)
    }
}

struct Groups {
    groups: usize,
    epsilon: f64,
    activate: bool,
}

impl CustomOp3 for Groups {
    fn name(&self) -> &'static str {
        "group-norm"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> TensorResult<(CpuStorage, Shape)> {
        let (_, height, width, channels) = l1.shape().dims4()?;
        let (x, weight, bias) = (slice(s1, l1)?, slice(s2, l2)?, slice(s3, l3)?);
        let mut y = vec![0f32; x.len()];
        let entry = height * width * channels;
        let per_task = (GRAIN / channels).max(1) * channels;
        for (x, y) in x.chunks(entry).zip(y.chunks_mut(entry)) {
            let sums: Vec<_> = x.par_chunks(per_task).map(|x| channel_sums(x, channels)).collect();
            let (scale, shift) = self.scale_and_shift(&sums, entry / self.groups, weight, bias);
            y.par_chunks_mut(per_task).zip(x.par_chunks(per_task)).for_each(|(y, x)| {
                wide(|| {
                    for (y, x) in y.chunks_mut(channels).zip(x.chunks(channels)) {
                        for (((y, x), scale), shift) in y.iter_mut().zip(x).zip(&scale).zip(&shift) {
                            *y = x * scale + shift;
                        }
                    }
                    if self.activate {
                        y.iter_mut().for_each(|y| *y = silu(*y));
                    }
                });
            });
        }
        Ok((CpuStorage::F32(y), l1.shape().clone()))
    }
}

impl Groups {
    /// What each channel is multiplied by and what is added, from the sums of each part of the picture.
    fn scale_and_shift(
        &self,
        sums: &[(Vec<f64>, Vec<f64>)],
        count: usize,
        weight: &[f32],
        bias: &[f32],
    ) -> (Vec<f32>, Vec<f32>) {
        let per_group = weight.len() / self.groups;
        let (mut scale, mut shift) = (vec![0f32; weight.len()], vec![0f32; weight.len()]);
        for group in 0..self.groups {
            let channels = group * per_group..(group + 1) * per_group;
            let total: f64 = sums.iter().map(|(sum, _)| sum[channels.clone()].iter().sum::<f64>()).sum();
            let squares: f64 = sums.iter().map(|(_, squares)| squares[channels.clone()].iter().sum::<f64>()).sum();
            let mean = total / count as f64;
            // In f64, so that the difference of two large sums loses nothing that matters.
            let variance = (squares / count as f64 - mean * mean).max(0.0);
            let inverse = (variance + self.epsilon).sqrt().recip();
            for channel in channels {
                let factor = f64::from(weight[channel]) * inverse;
                scale[channel] = factor as f32;
                shift[channel] = (f64::from(bias[channel]) - mean * factor) as f32;
            }
        }
        (scale, shift)
    }
}

/// The sum and the sum of squares of every channel.
fn channel_sums(x: &[f32], channels: usize) -> (Vec<f64>, Vec<f64>) {
    let (mut sums, mut squares) = (vec![0f64; channels], vec![0f64; channels]);
    wide(|| {
        for row in x.chunks(channels) {
            for ((x, sum), square) in row.iter().zip(&mut sums).zip(&mut squares) {
                let x = f64::from(*x);
                *sum += x;
                *square += x * x;
            }
        }
    });
    (sums, squares)
}

/// Layer norm over the last dimension.
#[derive(Clone, Debug)]
pub(crate) struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    epsilon: f64,
}

impl LayerNorm {
    /// Loads a layer norm.
    ///
    /// # Errors
    /// [`crate::Error::Weights`] when a tensor is missing or has another shape.
    pub(crate) fn load(weights: &Weights, width: usize, epsilon: f64) -> Result<Self> {
        Ok(Self { weight: weights.get("weight", &[width])?, bias: weights.get("bias", &[width])?, epsilon })
    }

    /// Normalises.
    ///
    /// # Errors
    /// A tensor operation that failed.
    pub(crate) fn forward(&self, x: &Tensor) -> TensorResult<Tensor> {
        layer_norm(x, &self.weight, &self.bias, self.epsilon)
    }
}

/// Layer norm over the last dimension with any weight and bias `[width]`.
///
/// # Errors
/// A tensor operation that failed.
pub(crate) fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, epsilon: f64) -> TensorResult<Tensor> {
    if x.device().is_cpu() {
        return x.contiguous()?.apply_op3_no_bwd(weight, bias, &Rows { epsilon });
    }
    let x = x.broadcast_sub(&x.mean_keepdim(candle_core::D::Minus1)?)?;
    let variance = x.sqr()?.mean_keepdim(candle_core::D::Minus1)?;
    let normal = x.broadcast_div(&(variance + epsilon)?.sqrt()?)?;
    normal.broadcast_mul(weight)?.broadcast_add(bias)
}

struct Rows {
    epsilon: f64,
}

impl CustomOp3 for Rows {
    fn name(&self) -> &'static str {
        "layer-norm"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> TensorResult<(CpuStorage, Shape)> {
        let (x, weight, bias) = (slice(s1, l1)?, slice(s2, l2)?, slice(s3, l3)?);
        let width = weight.len();
        let per_task = (GRAIN / width).max(1) * width;
        let mut y = vec![0f32; x.len()];
        y.par_chunks_mut(per_task).zip(x.par_chunks(per_task)).for_each(|(y, x)| {
            wide(|| {
                for (y, x) in y.chunks_mut(width).zip(x.chunks(width)) {
                    let mean = sum(x, |x| x) / width as f32;
                    let variance = sum(x, |x| (x - mean) * (x - mean)) / width as f32;
                    let inverse = (variance + self.epsilon as f32).sqrt().recip();
                    for (((y, x), weight), bias) in y.iter_mut().zip(x).zip(weight).zip(bias) {
                        *y = (x - mean) * inverse * weight + bias;
                    }
                }
            });
        });
        Ok((CpuStorage::F32(y), l1.shape().clone()))
    }
}

/// Division by the root of the mean square, over runs of `width` values: whole rows, or the heads within them.
#[derive(Clone, Debug)]
pub(crate) struct RmsNorm {
    weight: Tensor,
    epsilon: f64,
}

impl RmsNorm {
    /// Loads a norm.
    ///
    /// # Errors
    /// [`crate::Error::Weights`] when a tensor is missing or has another shape.
    pub(crate) fn load(weights: &Weights, width: usize, epsilon: f64) -> Result<Self> {
        Ok(Self { weight: weights.get("weight", &[width])?, epsilon })
    }

    /// Normalises.
    ///
    /// # Errors
    /// A tensor operation that failed.
    pub(crate) fn forward(&self, x: &Tensor) -> TensorResult<Tensor> {
        self.run(x, &self.weight)
    }

    /// Normalises and scales by a row `[width]` besides.
    ///
    /// # Errors
    /// A tensor operation that failed.
    pub(crate) fn forward_scaled(&self, x: &Tensor, scale: &Tensor) -> TensorResult<Tensor> {
        self.run(x, &(&self.weight * scale)?)
    }

    fn run(&self, x: &Tensor, weight: &Tensor) -> TensorResult<Tensor> {
        if x.device().is_cpu() {
            return x.contiguous()?.apply_op2_no_bwd(weight, &Squares { epsilon: self.epsilon });
        }
        let runs = x.reshape(((), weight.dim(0)?))?;
        let mean = (runs.sqr()?.mean_keepdim(1)? + self.epsilon)?.sqrt()?;
        runs.broadcast_div(&mean)?.broadcast_mul(weight)?.reshape(x.shape())
    }
}

struct Squares {
    epsilon: f64,
}

impl CustomOp2 for Squares {
    fn name(&self) -> &'static str {
        "rms-norm"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> TensorResult<(CpuStorage, Shape)> {
        let (x, weight) = (slice(s1, l1)?, slice(s2, l2)?);
        let width = weight.len().max(1);
        let per_task = (GRAIN / width).max(1) * width;
        let mut y = vec![0f32; x.len()];
        y.par_chunks_mut(per_task).zip(x.par_chunks(per_task)).for_each(|(y, x)| {
            wide(|| {
                for (y, x) in y.chunks_mut(width).zip(x.chunks(width)) {
                    let mean = sum(x, |x| x * x) / width as f32;
                    let inverse = (mean + self.epsilon as f32).sqrt().recip();
                    for ((y, x), weight) in y.iter_mut().zip(x).zip(weight) {
                        *y = x * inverse * weight;
                    }
                }
            });
        });
        Ok((CpuStorage::F32(y), l1.shape().clone()))
    }
}

/// A sum over sixteen lanes, so that it vectorises and rounds little.
#[inline(always)]
fn sum(values: &[f32], of: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0f32; 16];
    let mut chunks = values.chunks_exact(16);
    for chunk in &mut chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += of(*value);
        }
    }
    let rest: f32 = chunks.remainder().iter().map(|value| of(*value)).sum();
    lanes.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Tensor};

    use super::GroupNorm;

    #[test]
    fn the_fused_group_norm_gives_what_the_composed_one_gives() -> candle_core::Result<()> {
        // Values without a pattern along any axis, the same in every run.
        let values = |count: usize, least: f64, most: f64| {
            let value = |i: usize| (least + (most - least) * (i as f64 * 0.618_033_988_75).fract()) as f32;
            Tensor::from_iter((0..count).map(value), &Device::Cpu)
        };
        let norm = GroupNorm { weight: values(24, 0.5, 2.)?, bias: values(24, -1., 1.)?, groups: 8, epsilon: 1e-5 };
        // A mean far from zero, where a careless variance would be off.
        let x = values(2 * 37 * 41 * 24, 19., 21.)?.reshape((2, 37, 41, 24))?;
        let wide = |x: &Tensor| x.to_dtype(DType::F64);
        let exact = GroupNorm { weight: wide(&norm.weight)?, bias: wide(&norm.bias)?, ..norm.clone() };
        let exact = exact.composed(&wide(&x)?)?;
        let gap = |x: Tensor, exact: &Tensor| (wide(&x)? - exact)?.abs()?.max_all()?.to_scalar::<f64>();
        // One unit in the last place of 20 is 1.9e-6; over a deviation of 0.58 and a weight of 2 it is 6.6e-6.
        let plain = gap(norm.forward(&x)?, &exact)?;
        assert!(plain < 1e-5, "{plain}");
        let activated = gap(norm.forward_silu(&x)?, &exact.silu()?)?;
        assert!(activated < 1e-5, "{activated}");
        Ok(())
    }
}
