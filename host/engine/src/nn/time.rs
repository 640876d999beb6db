//! The time embedding: a timestep as sines and cosines.

use candle_core::{Device, Result as TensorResult, Tensor};

/// Embeds timesteps, one row each. Computed in f64 and rounded to f32 once: in half precision the angles near step 999
/// are off by radians.
///
/// # Errors
/// A tensor operation that failed.
pub(crate) fn time_embedding(
    timesteps: &[f64],
    width: usize,
    cosine_first: bool,
    frequency_shift: f64,
    device: &Device,
) -> TensorResult<Tensor> {
    let half = width / 2;
    let falling = -(10_000f64.ln()) / (half as f64 - frequency_shift);
    let mut rows = Vec::with_capacity(timesteps.len() * width);
    for timestep in timesteps {
        let angles = (0..half).map(|k| timestep * (falling * k as f64).exp());
        let sines = angles.clone().map(|angle| angle.sin() as f32);
        let cosines = angles.map(|angle| angle.cos() as f32);
        match cosine_first {
            true => rows.extend(cosines.chain(sines)),
            false => rows.extend(sines.chain(cosines)),
        }
        rows.extend(std::iter::repeat_n(0f32, width % 2));
    }
    Tensor::from_vec(rows, (timesteps.len(), width), device)
}
