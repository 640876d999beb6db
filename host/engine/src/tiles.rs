//! Decoding in tiles: large pictures within the memory of a small one.
//!
//! Defined by `tiled_decode` of diffusers' autoencoders: tiles overlap by a quarter, and where they do each fades into the
//! next in a straight line. A tile's group norms see that tile only, so the picture is near the one that is decoded whole
//! and not equal to it; hence nothing is decoded in tiles that need not be (`UNTILED`).

use candle_core::{Result as TensorResult, Tensor};

/// The most latents of a picture that are decoded at once: 1280 by 1280 pixels at the usual factor of 8.
const UNTILED: usize = 160 * 160;

/// The side of a tile in latents: 1024 pixels at the usual factor.
const TILE: usize = 128;

/// Decodes latents `[1, height, width, channels]` whole if they are few, otherwise in tiles. `factor` is how many pixels a
/// latent stands for along each side.
///
/// # Errors
/// A tensor operation that failed.
pub(crate) fn decode(
    latents: &Tensor,
    factor: usize,
    decoder: impl Fn(&Tensor) -> TensorResult<Tensor>,
) -> TensorResult<Tensor> {
    let (_, height, width, _) = latents.dims4()?;
    if height * width <= UNTILED {
        return decoder(latents);
    }
    in_tiles(latents, factor, TILE, decoder)
}

/// Decodes latents in tiles of this side.
///
/// # Errors
/// A tensor operation that failed.
pub(crate) fn in_tiles(
    latents: &Tensor,
    factor: usize,
    tile: usize,
    decoder: impl Fn(&Tensor) -> TensorResult<Tensor>,
) -> TensorResult<Tensor> {
    let (_, height, width, _) = latents.dims4()?;
    let tile = tile.max(4);
    // Three quarters to the next tile; the last quarter fades.
    let (stride, fade) = (tile * 3 / 4, tile * factor / 4);
    let kept = tile * factor - fade;
    let mut rows = Vec::new();
    // The tiles above, each with what it was faded with.
    let mut above: Vec<Tensor> = Vec::new();
    for top in (0..height).step_by(stride) {
        let band = latents.narrow(1, top, tile.min(height - top))?;
        let mut current: Vec<Tensor> = Vec::new();
        for (column, left) in (0..width).step_by(stride).enumerate() {
            let piece = band.narrow(2, left, tile.min(width - left))?.contiguous()?;
            let mut piece = decoder(&piece)?;
            if let Some(above) = above.get(column) {
                piece = faded(above, &piece, 1, fade)?;
            }
            if let Some(left) = current.last() {
                piece = faded(left, &piece, 2, fade)?;
            }
            current.push(piece);
        }
        let cut = current.iter().map(|piece| {
            let piece = piece.narrow(1, 0, kept.min(piece.dim(1)?))?;
            piece.narrow(2, 0, kept.min(piece.dim(2)?))
        });
        rows.push(Tensor::cat(&cut.collect::<TensorResult<Vec<_>>>()?, 2)?);
        above = current;
    }
    Tensor::cat(&rows, 1)
}

/// The second tile, whose beginning along a dimension fades from the end of the first.
fn faded(first: &Tensor, second: &Tensor, dimension: usize, fade: usize) -> TensorResult<Tensor> {
    let (before, length) = (first.dim(dimension)?, second.dim(dimension)?);
    let fade = fade.min(before).min(length);
    if fade == 0 {
        return Ok(second.clone());
    }
    let mut shape = [1; 4];
    if let Some(side) = shape.get_mut(dimension) {
        *side = fade;
    }
    let share: Vec<f32> = (0..fade).map(|at| (at as f64 / fade as f64) as f32).collect();
    let share = Tensor::from_vec(share, &shape, second.device())?;
    let (end, begin) = (first.narrow(dimension, before - fade, fade)?, second.narrow(dimension, 0, fade)?);
    let both = (end.broadcast_mul(&share.affine(-1.0, 1.0)?)? + begin.broadcast_mul(&share)?)?;
    match length - fade {
        0 => Ok(both),
        rest => Tensor::cat(&[both, second.narrow(dimension, fade, rest)?], dimension),
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::{TILE, UNTILED, decode, in_tiles};

    /// Stands for a decoder that sees nothing but the latent of each pixel.
    fn enlarge(latents: &Tensor) -> candle_core::Result<Tensor> {
        let (batch, height, width, channels) = latents.dims4()?;
        let wide = latents
            .reshape((batch, height, 1, width, 1, channels))?
            .broadcast_as((batch, height, 2, width, 2, channels))?;
        wide.contiguous()?.reshape((batch, 2 * height, 2 * width, channels))
    }

    #[test]
    fn tiles_of_a_decoder_that_sees_single_latents_join_without_a_seam() -> candle_core::Result<()> {
        for (height, width) in [(8, 8), (9, 31), (30, 24), (50, 5)] {
            let latents = Tensor::rand(-1f32, 1., (1, height, width, 3), &Device::Cpu)?;
            let (tiled, whole) = (in_tiles(&latents, 2, 8, enlarge)?, enlarge(&latents)?);
            assert_eq!(tiled.dims(), whole.dims());
            let gap = (tiled - whole)?.abs()?.max_all()?.to_scalar::<f32>()?;
            assert!(gap < 1e-6, "{height} {width}: {gap}");
        }
        Ok(())
    }

    #[test]
    fn only_what_is_large_is_decoded_in_tiles_and_no_tile_is_larger_than_it_may_be() -> candle_core::Result<()> {
        for (height, width, tiled) in [(160, 160, false), (161, 160, true), (100, 300, true)] {
            let latents = Tensor::zeros((1, height, width, 1), candle_core::DType::F32, &Device::Cpu)?;
            let largest = std::cell::Cell::new(0);
            decode(&latents, 2, |piece| {
                largest.set(largest.get().max(piece.elem_count()));
                enlarge(piece)
            })?;
            assert_eq!(largest.get() < height * width, tiled, "{height} {width}");
            assert!(largest.get() <= UNTILED.max(TILE * TILE));
        }
        Ok(())
    }
}
