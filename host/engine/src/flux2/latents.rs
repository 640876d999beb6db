//! What lies between FLUX.2's transformer and its autoencoder: latents gathered into patches of two by two and normed by
//! statistics from training.
//!
//! Defined by diffusers' `Flux2KleinPipeline` and the `bn` of its `AutoencoderKLFlux2`. Maps are
//! `[batch, rows, columns, channels]`; the channels of a patch count the latent's channel first, then its row, then its column.

use candle_core::{Result as TensorResult, Tensor};

use crate::checkpoint::Weights;
use crate::error::Result;

/// The statistics of gathered latents.
pub(crate) struct LatentNorm {
    mean: Tensor,
    /// The root of the variance.
    spread: Tensor,
}

impl LatentNorm {
    /// Loads them, for latents of so many channels.
    ///
    /// # Errors
    /// [`crate::Error::Weights`] when a tensor is missing or has another shape.
    pub(crate) fn load(weights: &Weights, channels: usize, epsilon: f64) -> Result<Self> {
        let gathered = 4 * channels;
        let variance = weights.get("running_var", &[gathered])?;
        Ok(Self { mean: weights.get("running_mean", &[gathered])?, spread: (variance + epsilon)?.sqrt()? })
    }

    /// Gathers and norms what the encoder gives.
    ///
    /// # Errors
    /// A tensor operation that failed.
    pub(crate) fn gather(&self, latents: &Tensor) -> TensorResult<Tensor> {
        let (batch, height, width, channels) = latents.dims4()?;
        let (rows, columns) = (height / 2, width / 2);
        let patches = latents.reshape((batch, rows, 2, columns, 2, channels))?.permute((0, 1, 3, 5, 2, 4))?;
        let gathered = patches.reshape((batch, rows, columns, 4 * channels))?;
        gathered.broadcast_sub(&self.mean)?.broadcast_div(&self.spread)
    }

    /// Undoes [`LatentNorm::gather`], for the decoder.
    ///
    /// # Errors
    /// A tensor operation that failed.
    pub(crate) fn scatter(&self, gathered: &Tensor) -> TensorResult<Tensor> {
        let (batch, rows, columns, channels) = gathered.dims4()?;
        let plain = gathered.broadcast_mul(&self.spread)?.broadcast_add(&self.mean)?;
        let patches = plain.reshape((batch, rows, columns, channels / 4, 2, 2))?.permute((0, 1, 4, 2, 5, 3))?;
        patches.reshape((batch, 2 * rows, 2 * columns, channels / 4))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::LatentNorm;

    #[test]
    fn what_was_gathered_scatters_back() -> candle_core::Result<()> {
        let norm = LatentNorm {
            mean: Tensor::rand(-1f32, 1., 20, &Device::Cpu)?,
            spread: Tensor::rand(0.5f32, 2., 20, &Device::Cpu)?,
        };
        let latents = Tensor::rand(-2f32, 2., (1, 6, 4, 5), &Device::Cpu)?;
        let gathered = norm.gather(&latents)?;
        assert_eq!(gathered.dims(), [1, 3, 2, 20]);
        // Channel 3 at row 1 and column 0 of the patch at (2, 1).
        let place = 3 * 4 + 2;
        let want = (latents.get(0)?.get(5)?.get(2)?.get(3)?.to_scalar::<f32>()?
            - norm.mean.get(place)?.to_scalar::<f32>()?)
            / norm.spread.get(place)?.to_scalar::<f32>()?;
        let got = gathered.get(0)?.get(2)?.get(1)?.get(place)?.to_scalar::<f32>()?;
        assert!((got - want).abs() < 1e-6);
        let gap = (norm.scatter(&gathered)? - latents)?.abs()?.max_all()?.to_scalar::<f32>()?;
        assert!(gap < 1e-6, "{gap}");
        Ok(())
    }
}
