//! Modulation: a row made from the timestep that shifts, scales and gates what a transformer's block does; and the gated
//! product of its feed-forward.

use candle_core::{CpuStorage, CustomOp2, D, InplaceOp3, Layout, Result as TensorResult, Shape, Tensor};
use rayon::prelude::*;

use super::activation::Activation;
use super::norm::layer_norm;
use super::wide::{GRAIN, gelu, silu, slice, slice_mut, wide};

/// One set of shift, scale and gate, each `[width]`.
#[derive(Clone, Debug)]
pub(crate) struct Modulation {
    shift: Tensor,
    /// One is added to it already.
    scale: Tensor,
    gate: Tensor,
}

impl Modulation {
    /// Cuts a row `[1, 3 · sets · width]` into its sets, each in the order shift, scale, gate.
    ///
    /// # Errors
    /// A tensor operation that failed.
    pub(crate) fn split(row: &Tensor, sets: usize) -> TensorResult<Vec<Self>> {
        let parts = row.flatten_all()?.chunk(3 * sets, 0)?;
        parts
            .chunks(3)
            .map(|parts| match parts {
                [shift, scale, gate] => Ok(Self { shift: shift.clone(), scale: (scale + 1.0)?, gate: gate.clone() }),
                _ => candle_core::bail!("a modulation needs shift, scale and gate"),
            })
            .collect()
    }

    /// Norms the rows of `x`, without weights, then scales and shifts them.
    ///
    /// # Errors
    /// A tensor operation that failed.
    pub(crate) fn norm(&self, x: &Tensor, epsilon: f64) -> TensorResult<Tensor> {
        layer_norm(x, &self.scale, &self.shift, epsilon)
    }

    /// Adds `y` times the gate into `sum`, which nobody else may hold.
    ///
    /// # Errors
    /// A tensor operation that failed.
    pub(crate) fn add(&self, sum: &Tensor, y: &Tensor) -> TensorResult<()> {
        add_gated_in_place(sum, y, &self.gate)
    }
}

/// Adds `y` times a row `[width]` into `sum`, which nobody else may hold.
///
/// # Errors
/// A tensor operation that failed.
pub(crate) fn add_gated_in_place(sum: &Tensor, y: &Tensor, gate: &Tensor) -> TensorResult<()> {
    if sum.device().is_cpu() {
        return sum.inplace_op3(&y.contiguous()?, &gate.contiguous()?, &AddGated);
    }
    super::linear::add_in_place(sum, &y.broadcast_mul(gate)?)
}

struct AddGated;

impl InplaceOp3 for AddGated {
    fn name(&self) -> &'static str {
        "add-gated-in-place"
    }

    fn cpu_fwd(
        &self,
        s1: &mut CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> TensorResult<()> {
        let (sum, y, gate) = (slice_mut(s1, l1)?, slice(s2, l2)?, slice(s3, l3)?);
        let width = gate.len().max(1);
        let rows = (GRAIN / width).max(1) * width;
        sum.par_chunks_mut(rows).zip(y.par_chunks(rows)).for_each(|(sum, y)| {
            wide(|| {
                for (sum, y) in sum.chunks_mut(width).zip(y.chunks(width)) {
                    for ((sum, y), gate) in sum.iter_mut().zip(y).zip(gate) {
                        *sum += y * gate;
                    }
                }
            });
        });
        Ok(())
    }
}

/// The gated product of a feed-forward: the activation of `gate` times `value`, both of one shape.
///
/// # Errors
/// A tensor operation that failed.
pub(crate) fn gated(activation: Activation, gate: &Tensor, value: &Tensor) -> TensorResult<Tensor> {
    if gate.device().is_cpu() && matches!(activation, Activation::Silu | Activation::GeluErf) {
        return gate.contiguous()?.apply_op2_no_bwd(&value.contiguous()?, &Product { activation });
    }
    activation.apply(gate.contiguous()?.copy()?)? * value
}

/// The same where one tensor holds the gate in the first half of its last dimension and the value in the second.
///
/// # Errors
/// A tensor operation that failed.
pub(crate) fn gated_halves(activation: Activation, x: &Tensor) -> TensorResult<Tensor> {
    let half = x.dim(D::Minus1)? / 2;
    let (gate, value) = (x.narrow(D::Minus1, 0, half)?, x.narrow(D::Minus1, half, half)?);
    gated(activation, &gate, &value)
}

struct Product {
    activation: Activation,
}

impl CustomOp2 for Product {
    fn name(&self) -> &'static str {
        "gated-product"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> TensorResult<(CpuStorage, Shape)> {
        let (gate, value) = (slice(s1, l1)?, slice(s2, l2)?);
        if gate.len() != value.len() {
            candle_core::bail!("a gate of {} values was given {}", gate.len(), value.len());
        }
        let mut y = vec![0f32; gate.len()];
        y.par_chunks_mut(GRAIN).zip(gate.par_chunks(GRAIN)).zip(value.par_chunks(GRAIN)).for_each(|((y, g), v)| {
            wide(|| match self.activation {
                Activation::Silu => y.iter_mut().zip(g).zip(v).for_each(|((y, g), v)| *y = silu(*g) * v),
                _ => y.iter_mut().zip(g).zip(v).for_each(|((y, g), v)| *y = gelu(*g) * v),
            });
        });
        Ok((CpuStorage::F32(y), l1.shape().clone()))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::{Modulation, gated_halves};
    use crate::nn::Activation;

    fn gap(a: &Tensor, b: &Tensor) -> candle_core::Result<f32> {
        (a - b)?.abs()?.max_all()?.to_scalar::<f32>()
    }

    #[test]
    fn a_row_is_cut_into_shift_scale_and_gate() -> candle_core::Result<()> {
        let row = Tensor::rand(-1f32, 1., (1, 6 * 20), &Device::Cpu)?;
        let x = Tensor::rand(-3f32, 3., (1, 7, 20), &Device::Cpu)?;
        let parts = row.reshape((6, 20))?;
        let centred = x.broadcast_sub(&x.mean_keepdim(2)?)?;
        let normal = centred.broadcast_div(&(centred.sqr()?.mean_keepdim(2)? + 1e-6)?.sqrt()?)?;
        for (set, modulation) in Modulation::split(&row, 2)?.iter().enumerate() {
            let (shift, scale, gate) = (parts.get(3 * set)?, parts.get(3 * set + 1)?, parts.get(3 * set + 2)?);
            let want = normal.broadcast_mul(&(scale + 1.0)?)?.broadcast_add(&shift)?;
            assert!(gap(&modulation.norm(&x, 1e-6)?, &want)? < 5e-6);
            let sum = x.copy()?;
            modulation.add(&sum, &want)?;
            assert!(gap(&sum, &(&x + want.broadcast_mul(&gate)?)?)? < 1e-6);
        }
        Ok(())
    }

    #[test]
    fn the_first_half_gates_the_second() -> candle_core::Result<()> {
        let x = Tensor::rand(-4f32, 4., (1, 3, 14), &Device::Cpu)?;
        let (gate, value) = (x.narrow(2, 0, 7)?, x.narrow(2, 7, 7)?);
        assert!(gap(&gated_halves(Activation::Silu, &x)?, &(gate.silu()? * &value)?)? < 4e-6);
        assert!(gap(&gated_halves(Activation::GeluTanh, &x)?, &(gate.gelu()? * &value)?)? < 4e-6);
        Ok(())
    }
}
