//! Enlarging a feature map.

use candle_core::{CpuStorage, CustomOp1, Layout, Result as TensorResult, Shape, Tensor};
use rayon::prelude::*;

use super::wide::slice;

/// Enlarges `[batch, height, width, channels]` to a size by repeating the nearest pixel.
///
/// # Errors
/// A tensor operation that failed.
pub(crate) fn upsample(x: &Tensor, height: usize, width: usize) -> TensorResult<Tensor> {
    if x.device().is_cpu() {
        return x.contiguous()?.apply_op1_no_bwd(&Nearest { height, width });
    }
    x.permute((0, 3, 1, 2))?.contiguous()?.upsample_nearest2d(height, width)?.permute((0, 2, 3, 1))?.contiguous()
}

struct Nearest {
    height: usize,
    width: usize,
}

impl CustomOp1 for Nearest {
    fn name(&self) -> &'static str {
        "nearest"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> TensorResult<(CpuStorage, Shape)> {
        let (batch, height, width, channels) = layout.shape().dims4()?;
        let x = slice(storage, layout)?;
        let mut y = vec![0f32; batch * self.height * self.width * channels];
        y.par_chunks_mut(self.width * channels).enumerate().for_each(|(line, y)| {
            let (entry, row) = (line / self.height, line % self.height * height / self.height);
            let source = &x[(entry * height + row) * width * channels..][..width * channels];
            for (column, y) in y.chunks_mut(channels).enumerate() {
                let from = column * width / self.width * channels;
                y.copy_from_slice(&source[from..from + channels]);
            }
        });
        Ok((CpuStorage::F32(y), Shape::from((batch, self.height, self.width, channels))))
    }
}
