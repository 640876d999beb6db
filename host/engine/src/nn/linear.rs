//! Linear layers, and the sums that follow a product: bias and residual.

use candle_core::{CpuStorage, InplaceOp2, Layout, Result as TensorResult, Tensor};
use rayon::prelude::*;

use super::wide::{GRAIN, slice, slice_mut, wide};
use crate::checkpoint::Weights;
use crate::error::Result;

/// `y = x·Wᵀ + b`.
#[derive(Clone, Debug)]
pub(crate) struct Linear {
    /// `[in, out]`.
    weight: Tensor,
    bias: Option<Tensor>,
    out: usize,
}

impl Linear {
    /// Loads a layer with a bias.
    ///
    /// # Errors
    /// [`crate::Error::Weights`] when a tensor is missing or has another shape.
    pub(crate) fn load(weights: &Weights, input: usize, output: usize) -> Result<Self> {
        let bias = weights.get("bias", &[output])?;
        Ok(Self { bias: Some(bias), ..Self::load_without_bias(weights, input, output)? })
    }

    /// Loads a layer without a bias.
    ///
    /// # Errors
    /// As [`Linear::load`].
    pub(crate) fn load_without_bias(weights: &Weights, input: usize, output: usize) -> Result<Self> {
        let weight = weights.get("weight", &[output, input])?;
        Ok(Self::from_rows(weights, weight)?)
    }

    /// A layer without a bias, from rows `[out, in]` out of `weights`: some layers are saved as one.
    ///
    /// # Errors
    /// A tensor operation that failed.
    pub(crate) fn from_rows(weights: &Weights, rows: Tensor) -> TensorResult<Self> {
        let out = rows.dim(0)?;
        Ok(Self { weight: weights.lay_out(rows, |rows| rows.t()?.contiguous())?, bias: None, out })
    }

    /// Applies the layer to the last dimension.
    ///
    /// # Errors
    /// A tensor operation that failed.
    pub(crate) fn forward(&self, x: &Tensor) -> TensorResult<Tensor> {
        let mut dims = x.dims().to_vec();
        let Some(last) = dims.last_mut() else { candle_core::bail!("a linear layer was given a scalar") };
        let y = x.reshape(((), *last))?.matmul(&self.weight)?;
        *last = self.out;
        if let Some(bias) = &self.bias {
            add_in_place(&y, bias)?;
        }
        y.reshape(dims)
    }
}

/// Adds into `sum`, which nobody else may hold: an equal tensor, or a row `[channels]` to every row, or one row
/// `[batch, channels]` for each batch entry.
///
/// # Errors
/// A tensor operation that failed.
pub(crate) fn add_in_place(sum: &Tensor, other: &Tensor) -> TensorResult<()> {
    sum.inplace_op2(&other.contiguous()?, &Add { rows_per_entry: sum.elem_count() / other.elem_count().max(1) })
}

struct Add {
    /// How often each row of the other tensor is used.
    rows_per_entry: usize,
}

impl InplaceOp2 for Add {
    fn name(&self) -> &'static str {
        "add-in-place"
    }

    fn cpu_fwd(&self, sum: &mut CpuStorage, l1: &Layout, other: &CpuStorage, l2: &Layout) -> TensorResult<()> {
        let (sum, rows) = (slice_mut(sum, l1)?, slice(other, l2)?);
        let channels = l2.dims().last().copied().unwrap_or(1);
        if self.rows_per_entry == 1 {
            sum.par_chunks_mut(GRAIN).zip(rows.par_chunks(GRAIN)).for_each(|(sum, other)| add(sum, other));
            return Ok(());
        }
        let entry = self.rows_per_entry * channels;
        let per_task = (GRAIN / channels).max(1) * channels;
        for (sum, row) in sum.chunks_mut(entry).zip(rows.chunks(channels)) {
            sum.par_chunks_mut(per_task)
                .for_each(|sum| wide(|| sum.chunks_mut(channels).for_each(|s| add_plain(s, row))));
        }
        Ok(())
    }
}

fn add(sum: &mut [f32], other: &[f32]) {
    wide(|| add_plain(sum, other));
}

#[inline(always)]
fn add_plain(sum: &mut [f32], other: &[f32]) {
    for (s, o) in sum.iter_mut().zip(other) {
        *s += o;
    }
}
