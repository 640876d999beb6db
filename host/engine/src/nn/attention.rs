//! Scaled dot-product attention over several heads.
//!
//! Scores are made for a bounded number of queries at a time, so that memory does not grow with the square of the picture
//! and no score is ever addressed beyond 2^31.

use candle_core::{CpuStorage, D, DType, Device, InplaceOp1, Layout, Result as TensorResult, Tensor};
use rayon::prelude::*;

use super::wide::{GRAIN, exp, slice_mut, wide};

/// Scores held at a time.
const SCORE_BUDGET: usize = 1 << 23;

/// Attends from the queries to the keys: all are `[batch, tokens, heads · width]`, and so is the answer.
///
/// `mask`, if any, is added to the scores and is `[queries, keys]`.
///
/// # Errors
/// A tensor operation that failed.
pub(crate) fn multi_head(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    heads: usize,
    mask: Option<&Tensor>,
) -> TensorResult<Tensor> {
    let (batch, queries, channels) = q.dims3()?;
    let keys = k.dim(1)?;
    let width = channels / heads.max(1);
    let split = |x: &Tensor, tokens: usize| {
        x.reshape((batch, tokens, heads, width))?.transpose(1, 2)?.contiguous()?.reshape((batch * heads, tokens, width))
    };
    // Scaling the queries costs tokens × width instead of tokens × tokens.
    let q = (split(q, queries)? * (width as f64).sqrt().recip())?;
    let k = split(k, keys)?.transpose(1, 2)?;
    let v = split(v, keys)?;
    let at_once = (SCORE_BUDGET / (batch * heads * keys).max(1)).clamp(1, queries.max(1));
    let mut parts = Vec::with_capacity(queries.div_ceil(at_once));
    for from in (0..queries).step_by(at_once) {
        let count = at_once.min(queries - from);
        let q = if count == queries { q.clone() } else { q.narrow(1, from, count)?.contiguous()? };
        let mut scores = q.matmul(&k)?;
        if let Some(mask) = mask {
            scores = scores.broadcast_add(&mask.narrow(0, from, count)?)?;
        }
        parts.push(softmax(scores)?.matmul(&v)?);
    }
    let mixed = match parts.as_slice() {
        [one] => one.clone(),
        many => Tensor::cat(many, 1)?,
    };
    mixed.reshape((batch, heads, queries, width))?.transpose(1, 2)?.contiguous()?.reshape((batch, queries, channels))
}

/// The mask by which no token sees a later one: zero on and below the diagonal, minus infinity above.
///
/// # Errors
/// A tensor operation that failed.
pub(crate) fn causal_mask(tokens: usize, device: &Device) -> TensorResult<Tensor> {
    let rows =
        (0..tokens).flat_map(|row| (0..tokens).map(move |column| if column > row { f32::NEG_INFINITY } else { 0.0 }));
    Tensor::from_iter(rows, device)?.reshape((tokens, tokens))?.to_dtype(DType::F32)
}

/// Softmax over the last dimension of a tensor that nobody else holds.
fn softmax(x: Tensor) -> TensorResult<Tensor> {
    if x.device().is_cpu() {
        x.inplace_op1(&Softmax)?;
        return Ok(x);
    }
    let x = x.broadcast_sub(&x.max_keepdim(D::Minus1)?)?.exp()?;
    x.broadcast_div(&x.sum_keepdim(D::Minus1)?)
}

struct Softmax;

impl InplaceOp1 for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> TensorResult<()> {
        let width = layout.dims().last().copied().unwrap_or(1).max(1);
        let rows = (GRAIN / width).max(1);
        slice_mut(storage, layout)?.par_chunks_mut(rows * width).for_each(|values| {
            wide(|| values.chunks_mut(width).for_each(softmax_row));
        });
        Ok(())
    }
}

#[inline(always)]
fn softmax_row(row: &mut [f32]) {
    let mut highest = [f32::NEG_INFINITY; 16];
    let mut chunks = row.chunks_exact(16);
    for chunk in &mut chunks {
        for (high, x) in highest.iter_mut().zip(chunk) {
            *high = high.max(*x);
        }
    }
    let rest = chunks.remainder().iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let highest = highest.iter().copied().fold(rest, f32::max);
    let mut sums = [0f32; 16];
    let mut chunks = row.chunks_exact_mut(16);
    for chunk in &mut chunks {
        for (sum, x) in sums.iter_mut().zip(chunk) {
            *x = exp(*x - highest);
            *sum += *x;
        }
    }
    let mut sum: f32 = 0.0;
    for x in chunks.into_remainder() {
        *x = exp(*x - highest);
        sum += *x;
    }
    let inverse = (sum + sums.iter().sum::<f32>()).recip();
    row.iter_mut().for_each(|x| *x *= inverse);
}

#[cfg(test)]
mod tests {
    use candle_core::{D, Device, Tensor};

    use super::{causal_mask, multi_head, softmax};

    #[test]
    fn softmax_rows_sum_to_one_and_masked_keys_get_nothing() -> candle_core::Result<()> {
        let x = Tensor::rand(-30f32, 30., (3, 19, 19), &Device::Cpu)?;
        let x = softmax(x.broadcast_add(&causal_mask(19, &Device::Cpu)?)?)?;
        let gap = (x.sum_keepdim(D::Minus1)? - 1.0)?.abs()?.max_all()?.to_scalar::<f32>()?;
        assert!(gap < 1e-5, "{gap}");
        assert!(x.get(0)?.get(3)?.get(4)?.to_scalar::<f32>()? < 1e-37);
        Ok(())
    }

    #[test]
    fn attending_in_parts_gives_what_attending_at_once_gives() -> candle_core::Result<()> {
        // 2 · 4 heads · 2100 keys: more scores than the budget holds, so there are two parts.
        let (q, kv) = (
            Tensor::rand(-1f32, 1., (2, 600, 32), &Device::Cpu)?,
            Tensor::rand(-1f32, 1., (2, 2100, 32), &Device::Cpu)?,
        );
        let whole = multi_head(&q, &kv, &kv, 4, None)?;
        let first = multi_head(&q.narrow(1, 0, 100)?.contiguous()?, &kv, &kv, 4, None)?;
        let gap = (whole.narrow(1, 0, 100)? - first)?.abs()?.max_all()?.to_scalar::<f32>()?;
        assert!(gap < 1e-6, "{gap}");
        Ok(())
    }
}
