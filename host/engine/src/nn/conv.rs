//! Two-dimensional convolution.
//!
//! On a CPU the window of every output pixel is laid out as a row (a few megabytes at a time, so that it stays in the
//! cache) and one matrix product does the rest; candle's own convolution first transposes the whole picture on one core.

use candle_core::{CpuStorage, CustomOp1, Device, Layout, Result as TensorResult, Shape, Tensor};
use rayon::prelude::*;

use super::linear::add_in_place;
use super::wide::{GRAIN, slice};
use crate::checkpoint::Weights;
use crate::error::Result;

/// Elements of laid-out windows made at a time.
const WINDOW_BUDGET: usize = 1 << 21;

/// The window of a convolution and how it moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ConvShape {
    /// Side of the window.
    pub(crate) kernel: usize,
    /// Pixels from one window to the next.
    pub(crate) stride: usize,
    /// Zeros before the first pixel of each side.
    pub(crate) before: usize,
    /// Zeros after the last pixel of each side.
    pub(crate) after: usize,
}

impl ConvShape {
    /// One pixel.
    pub(crate) const POINT: Self = Self { kernel: 1, stride: 1, before: 0, after: 0 };
    /// 3×3, the size is kept.
    pub(crate) const SAME: Self = Self { kernel: 3, stride: 1, before: 1, after: 1 };
    /// 3×3, the size is halved.
    pub(crate) const HALF: Self = Self { kernel: 3, stride: 2, before: 1, after: 1 };
    /// 3×3, the size is halved; padded on the far sides only, as the autoencoder does.
    pub(crate) const HALF_FAR: Self = Self { kernel: 3, stride: 2, before: 0, after: 1 };

    fn output(self, input: usize) -> usize {
        (input + self.before + self.after).saturating_sub(self.kernel) / self.stride + 1
    }
}

/// A convolution over `[batch, height, width, channels]`.
#[derive(Clone, Debug)]
pub(crate) struct Conv {
    /// `[kernel · kernel · in, out]`.
    weight: Tensor,
    bias: Tensor,
    shape: ConvShape,
    input: usize,
    output: usize,
}

impl Conv {
    /// Loads a convolution.
    ///
    /// # Errors
    /// [`crate::Error::Weights`] when a tensor is missing or has another shape.
    pub(crate) fn load(weights: &Weights, input: usize, output: usize, shape: ConvShape) -> Result<Self> {
        let kernel = shape.kernel;
        let weight = weights.get("weight", &[output, input, kernel, kernel])?;
        let weight = weights.lay_out(weight, |weight| {
            weight.permute((2, 3, 1, 0))?.contiguous()?.reshape((kernel * kernel * input, output))
        })?;
        Ok(Self { weight, bias: weights.get("bias", &[output])?, shape, input, output })
    }

    /// The device that the weights are on.
    pub(crate) fn device(&self) -> &Device {
        self.bias.device()
    }

    /// Applies the convolution.
    ///
    /// # Errors
    /// A tensor operation that failed.
    pub(crate) fn forward(&self, x: &Tensor) -> TensorResult<Tensor> {
        let y = self.product(x)?;
        add_in_place(&y, &self.bias)?;
        Ok(y)
    }

    /// Applies the convolution and adds a row of channels `[batch, out]` to every pixel of each batch entry.
    ///
    /// # Errors
    /// A tensor operation that failed.
    pub(crate) fn forward_plus(&self, x: &Tensor, row: &Tensor) -> TensorResult<Tensor> {
        let y = self.product(x)?;
        add_in_place(&y, &row.broadcast_add(&self.bias)?)?;
        Ok(y)
    }

    fn product(&self, x: &Tensor) -> TensorResult<Tensor> {
        let (batch, height, width, channels) = x.dims4()?;
        if channels != self.input {
            candle_core::bail!("a convolution for {} channels was given {channels}", self.input);
        }
        let (out_height, out_width) = (self.shape.output(height), self.shape.output(width));
        let dims = (batch, out_height, out_width, self.output);
        if self.shape == ConvShape::POINT {
            return x.reshape(((), channels))?.matmul(&self.weight)?.reshape(dims);
        }
        if !x.device().is_cpu() {
            return self.composed(x);
        }
        let x = x.contiguous()?;
        let lines = batch * out_height;
        let per_line = out_width * self.weight.dim(0)?;
        let lines_at_once = (WINDOW_BUDGET / per_line.max(1)).clamp(1, lines.max(1));
        if lines_at_once == lines {
            let windows = x.apply_op1_no_bwd(&Windows { shape: self.shape, from: 0, lines })?;
            return windows.matmul(&self.weight)?.reshape(dims);
        }
        let y = Tensor::zeros((lines * out_width, self.output), x.dtype(), x.device())?;
        for from in (0..lines).step_by(lines_at_once) {
            let count = lines_at_once.min(lines - from);
            let windows = x.apply_op1_no_bwd(&Windows { shape: self.shape, from, lines: count })?;
            y.slice_set(&windows.matmul(&self.weight)?, 0, from * out_width)?;
        }
        y.reshape(dims)
    }

    /// The same by candle's convolution, for devices that have no fused one.
    fn composed(&self, x: &Tensor) -> TensorResult<Tensor> {
        let kernel = self.shape.kernel;
        let weight = self.weight.reshape((kernel, kernel, self.input, self.output))?.permute((3, 2, 0, 1))?;
        let x = x.permute((0, 3, 1, 2))?;
        let (before, after) = (self.shape.before, self.shape.after);
        let x = x.pad_with_zeros(2, before, after)?.pad_with_zeros(3, before, after)?.contiguous()?;
        x.conv2d(&weight.contiguous()?, 0, self.shape.stride, 1, 1)?.permute((0, 2, 3, 1))?.contiguous()
    }
}

/// Lays out the windows of some lines of the output: `[lines · width, kernel · kernel · channels]`.
struct Windows {
    shape: ConvShape,
    from: usize,
    lines: usize,
}

impl CustomOp1 for Windows {
    fn name(&self) -> &'static str {
        "windows"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> TensorResult<(CpuStorage, Shape)> {
        let (_, height, width, channels) = layout.shape().dims4()?;
        let x = slice(storage, layout)?;
        let ConvShape { kernel, stride, before, .. } = self.shape;
        let (out_height, out_width) = (self.shape.output(height), self.shape.output(width));
        let row = kernel * kernel * channels;
        let mut rows = vec![0f32; self.lines * out_width * row];
        let lines_per_task = (GRAIN / (out_width * row).max(1)).max(1);
        rows.par_chunks_mut(lines_per_task * out_width * row).enumerate().for_each(|(task, rows)| {
            for (index, line) in rows.chunks_mut(out_width * row).enumerate() {
                let at = self.from + task * lines_per_task + index;
                let (entry, y) = (at / out_height, at % out_height);
                for ky in 0..kernel {
                    // Windows that reach over the rim keep their zeros.
                    let Some(source) = (y * stride + ky).checked_sub(before).filter(|y| *y < height) else { continue };
                    let source = &x[(entry * height + source) * width * channels..][..width * channels];
                    for (x_out, window) in line.chunks_mut(row).enumerate() {
                        let window = &mut window[ky * kernel * channels..][..kernel * channels];
                        let left = x_out * stride;
                        // The part of the window that lies inside the line.
                        let skipped = before.saturating_sub(left);
                        let first = left + skipped - before;
                        let count = (kernel - skipped).min(width.saturating_sub(first));
                        window[skipped * channels..(skipped + count) * channels]
                            .copy_from_slice(&source[first * channels..(first + count) * channels]);
                    }
                }
            }
        });
        Ok((CpuStorage::F32(rows), Shape::from((self.lines * out_width, row))))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::{Conv, ConvShape};

    #[test]
    fn the_laid_out_windows_give_what_candle_gives() -> candle_core::Result<()> {
        let device = Device::Cpu;
        for shape in [ConvShape::SAME, ConvShape::HALF, ConvShape::HALF_FAR] {
            for (height, width) in [(5, 4), (2, 7), (64, 96)] {
                let (input, output) = (6, 10);
                let weight = Tensor::rand(-1f32, 1., (9 * input, output), &device)?;
                let bias = Tensor::zeros(output, candle_core::DType::F32, &device)?;
                let conv = Conv { weight, bias, shape, input, output };
                let x = Tensor::rand(-1f32, 1., (2, height, width, input), &device)?;
                let gap = (conv.product(&x)? - conv.composed(&x)?)?.abs()?.max_all()?.to_scalar::<f32>()?;
                assert!(gap < 1e-4, "{shape:?} over {height}x{width}: {gap}");
            }
        }
        Ok(())
    }
}
