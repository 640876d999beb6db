//! The time embedding: a timestep as sines and cosines, and the small network that reads them.

use candle_core::{Device, Result as TensorResult, Tensor};

use super::activation::Activation;
use super::linear::Linear;

/// Embeds timesteps, one row each. Frequencies and angles are f32, rounded where diffusers rounds them; in half precision the
/// angles near step 999 would be off by radians.
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
    let falling = -(10_000f64.ln()) as f32;
    let mut rows = Vec::with_capacity(timesteps.len() * width);
    for timestep in timesteps {
        let timestep = *timestep as f32;
        let frequency = |k: usize| f64::from(falling * k as f32 / (half as f64 - frequency_shift) as f32).exp() as f32;
        let angles = (0..half).map(|k| f64::from(timestep * frequency(k)));
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

/// Two linear layers over the sines and cosines of a number: a timestep, a guidance scale.
#[derive(Clone, Debug)]
pub(crate) struct TimeEmbedding {
    /// How many sines and cosines there are.
    pub(crate) waves: usize,
    /// From the waves inwards.
    pub(crate) first: Linear,
    /// To the embedding.
    pub(crate) second: Linear,
}

impl TimeEmbedding {
    /// Embeds a number: `[1, width]`.
    ///
    /// # Errors
    /// A tensor operation that failed.
    pub(crate) fn forward(&self, number: f64, device: &Device) -> TensorResult<Tensor> {
        let waves = time_embedding(&[number], self.waves, true, 0.0, device)?;
        self.second.forward(&Activation::Silu.apply(self.first.forward(&waves)?)?)
    }
}
