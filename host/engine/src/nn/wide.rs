//! Arithmetic over slices of f32, compiled for the widest vectors the CPU has and spread over its cores.
//!
//! [`wide`] runs a closure compiled three times (baseline, AVX2, AVX-512) and picks at run time; the loops in it are plain
//! Rust which the compiler vectorises, so there is no intrinsic and no `unsafe` here. The functions below have no
//! branch, because a branch would keep a loop scalar.

use candle_core::{CpuStorage, Layout, Result};
use pulp::{Arch, Simd, WithSimd};

/// Runs a closure with the CPU's widest vectors.
#[inline(always)]
pub(super) fn wide<R>(closure: impl FnOnce() -> R) -> R {
    struct Wide<F>(F);
    impl<R, F: FnOnce() -> R> WithSimd for Wide<F> {
        type Output = R;
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) -> R {
            simd.vectorize(self.0)
        }
    }
    Arch::new().dispatch(Wide(closure))
}

/// How many elements a core takes at a time: large enough to hide the hand-over, small enough for its cache.
pub(super) const GRAIN: usize = 16 * 1024;

/// The contiguous f32 elements of a tensor's storage.
pub(super) fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let values = storage.as_slice::<f32>()?;
    match layout.contiguous_offsets() {
        Some((from, to)) => Ok(&values[from..to]),
        None => candle_core::bail!("a fused operator was given a tensor that is not contiguous"),
    }
}

/// The contiguous f32 elements of a tensor's storage, to be written.
pub(super) fn slice_mut<'a>(storage: &'a mut CpuStorage, layout: &Layout) -> Result<&'a mut [f32]> {
    let Some((from, to)) = layout.contiguous_offsets() else {
        candle_core::bail!("a fused operator was given a tensor that is not contiguous");
    };
    match storage {
        CpuStorage::F32(values) => Ok(&mut values[from..to]),
        _ => candle_core::bail!("a fused operator was given a tensor that is not f32"),
    }
}

/// `e^x`, within two units in the last place; 0 far below, large but finite far above.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    const MAGIC: f32 = 12_582_912.0;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = x.clamp(-87.0, 88.0);
    // Adding and subtracting 1.5·2^23 rounds to a whole number, which then stands in the lowest bits.
    let shifted = x * std::f32::consts::LOG2_E + MAGIC;
    let whole = shifted - MAGIC;
    let r = x - whole * LN2_HIGH - whole * LN2_LOW;
    let p = 1.987_569_1e-4;
    let p = p * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 5.000_000_3e-1;
    let p = p * r * r + r + 1.0;
    let scale = f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3f80_0000));
    p * scale
}

/// The error function, within 4e-7: a quotient of polynomials on the range where it is not yet ±1 in f32.
#[inline(always)]
pub(super) fn erf(x: f32) -> f32 {
    let x = x.clamp(-3.92, 3.92);
    let s = x * x;
    let p = -2.726_142_4e-10;
    let p = p * s + 2.770_681_4e-8;
    let p = p * s - 2.101_024e-6;
    let p = p * s - 5.692_506_4e-5;
    let p = p * s - 7.349_906_5e-4;
    let p = p * s - 2.954_600_1e-3;
    let p = p * s - 1.609_603_3e-2;
    let q = -1.456_607_2e-5;
    let q = q * s - 2.133_740_5e-4;
    let q = q * s - 1.682_827e-3;
    let q = q * s - 7.373_329e-3;
    let q = q * s - 1.426_474e-2;
    x * p / q
}

/// `x / (1 + e^-x)`.
#[inline(always)]
pub(super) fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

/// PyTorch's exact GELU.
#[inline(always)]
pub(super) fn gelu(x: f32) -> f32 {
    0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2))
}

#[cfg(test)]
mod tests {
    use super::{erf, exp};

    #[test]
    fn exp_is_within_two_units_in_the_last_place() {
        for i in -8600..8700 {
            let x = i as f32 * 0.01;
            let want = f64::from(x).exp();
            assert!((f64::from(exp(x)) - want).abs() <= want * 2.4e-7, "at {x}: {} not {want}", exp(x));
        }
    }

    #[test]
    fn erf_is_within_four_tenths_of_a_millionth() {
        for i in -600..=600 {
            let x = f64::from(i) * 0.01;
            // The Maclaurin series, which converges for every argument.
            let (mut term, mut sum) = (x, x);
            for n in 1..200 {
                term *= -x * x / f64::from(n);
                sum += term / f64::from(2 * n + 1);
            }
            let want = if x.abs() > 5.0 { x.signum() } else { sum * std::f64::consts::FRAC_2_SQRT_PI };
            assert!((f64::from(erf(x as f32)) - want).abs() <= 4e-7, "at {x}: {} not {want}", erf(x as f32));
        }
    }
}
