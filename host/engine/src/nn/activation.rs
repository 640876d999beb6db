//! Activations, and the gated feed-forward of Stable Diffusion's transformers.

use candle_core::{CpuStorage, CustomOp1, D, InplaceOp1, Layout, Result as TensorResult, Shape, Tensor};
use rayon::prelude::*;

use super::wide::{GRAIN, exp, gelu, silu, slice, slice_mut, wide};

/// An activation, by the name that models' files give it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Activation {
    /// `x / (1 + e^-x)`.
    Silu,
    /// `x / (1 + e^-1.702x)`, as the first CLIP has it.
    QuickGelu,
    /// GELU by the error function: what Python calls `gelu`.
    GeluErf,
    /// GELU by the hyperbolic tangent.
    GeluTanh,
}

impl Activation {
    /// Applies it, to a tensor that nobody else holds.
    ///
    /// # Errors
    /// A tensor operation that failed.
    pub(crate) fn apply(self, x: Tensor) -> TensorResult<Tensor> {
        if x.device().is_cpu() {
            x.inplace_op1(&self)?;
            return Ok(x);
        }
        match self {
            Self::Silu => x.silu(),
            Self::QuickGelu => {
                let gate = ((&x * -1.702)?.exp()? + 1.0)?.recip()?;
                x * gate
            }
            Self::GeluErf => x.gelu_erf(),
            Self::GeluTanh => x.gelu(),
        }
    }
}

impl InplaceOp1 for Activation {
    fn name(&self) -> &'static str {
        "activation"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> TensorResult<()> {
        let values = slice_mut(storage, layout)?;
        values.par_chunks_mut(GRAIN).for_each(|values| {
            wide(|| match self {
                Self::Silu => values.iter_mut().for_each(|x| *x = silu(*x)),
                Self::QuickGelu => values.iter_mut().for_each(|x| *x /= 1.0 + exp(-1.702 * *x)),
                Self::GeluErf => values.iter_mut().for_each(|x| *x = gelu(*x)),
                Self::GeluTanh => values.iter_mut().for_each(|x| *x = gelu_tanh(*x)),
            });
        });
        Ok(())
    }
}

/// `x / (1 + e^-2y)` with `y = √(2/π)·(x + 0.044715·x³)`, which is the tanh form rearranged.
#[inline(always)]
fn gelu_tanh(x: f32) -> f32 {
    x / (1.0 + exp(-1.595_769 * (x + 0.044_715 * x * x * x)))
}

/// The gated feed-forward: the first half of the last dimension times the GELU of the second.
///
/// # Errors
/// A tensor operation that failed.
pub(crate) fn gate_gelu(x: &Tensor) -> TensorResult<Tensor> {
    if x.device().is_cpu() {
        return x.contiguous()?.apply_op1_no_bwd(&Gate);
    }
    let parts = x.chunk(2, D::Minus1)?;
    &parts[0] * parts[1].gelu_erf()?
}

struct Gate;

impl CustomOp1 for Gate {
    fn name(&self) -> &'static str {
        "gate-gelu"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> TensorResult<(CpuStorage, Shape)> {
        let x = slice(storage, layout)?;
        let mut dims = layout.dims().to_vec();
        let Some(last) = dims.last_mut().filter(|last| **last >= 2 && last.is_multiple_of(2)) else {
            candle_core::bail!("a gate was given a tensor without two halves");
        };
        let double = *last;
        *last /= 2;
        let width = *last;
        let rows = (GRAIN / width).max(1);
        let mut y = vec![0f32; x.len() / 2];
        y.par_chunks_mut(rows * width).zip(x.par_chunks(rows * double)).for_each(|(y, x)| {
            wide(|| {
                for (y, x) in y.chunks_mut(width).zip(x.chunks(double)) {
                    let (value, gate) = x.split_at(width);
                    for ((y, value), gate) in y.iter_mut().zip(value).zip(gate) {
                        *y = value * gelu(*gate);
                    }
                }
            });
        });
        Ok((CpuStorage::F32(y), Shape::from(dims)))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::{Activation, gate_gelu};

    fn gap(a: &Tensor, b: &Tensor) -> candle_core::Result<f32> {
        (a - b)?.abs()?.max_all()?.to_scalar::<f32>()
    }

    #[test]
    fn fused_activations_give_what_candle_gives() -> candle_core::Result<()> {
        let x = Tensor::rand(-9f32, 9., (7, 50), &Device::Cpu)?;
        assert!(gap(&Activation::Silu.apply(x.copy()?)?, &x.silu()?)? < 2e-6);
        assert!(gap(&Activation::GeluErf.apply(x.copy()?)?, &x.gelu_erf()?)? < 4e-6);
        assert!(gap(&Activation::GeluTanh.apply(x.copy()?)?, &x.gelu()?)? < 4e-6);
        let parts = x.chunk(2, 1)?;
        assert!(gap(&gate_gelu(&x)?, &(&parts[0] * parts[1].gelu_erf()?)?)? < 3e-5);
        Ok(())
    }
}
