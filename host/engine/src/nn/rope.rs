//! Rotary position embedding: each pair of channels of a query or key is turned by an angle that grows with the token's
//! place.
//!
//! A token may have a place along several axes (row, column, picture), each with its own share of the channels. Angles are
//! made in f64: in half precision two neighbours beyond place 256 stand on the same spot.

use candle_core::{CpuStorage, Device, InplaceOp3, Layout, Result as TensorResult, Tensor};
use rayon::prelude::*;

use super::wide::{GRAIN, slice, slice_mut};

/// Which channels of a head make a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pairs {
    /// Channels 0 and 1, 2 and 3, …
    Adjacent,
    /// Channel i of the first half and channel i of the second.
    Halves,
}

/// Where the definition that a model was trained by leaves f64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rounding {
    /// Sines and cosines are made in f64 (FLUX).
    Late,
    /// Angles are rounded to f32, their sines and cosines are of the rounded ones (Z-Image).
    Angles,
    /// Frequencies are rounded to f32 already (Qwen).
    Frequencies,
}

/// The share of one axis in the channels of a head.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Axis {
    /// Channels, an even number.
    pub(crate) width: usize,
    /// The base of the frequencies.
    pub(crate) theta: f64,
}

/// The angles of a sequence of tokens.
#[derive(Clone, Debug)]
pub(crate) struct Rope {
    /// `[tokens, pairs]`.
    cos: Tensor,
    sin: Tensor,
    pairs: Pairs,
}

impl Rope {
    /// Makes the angles of tokens at these places, one number for each axis.
    ///
    /// # Errors
    /// A tensor operation that failed.
    pub(crate) fn new<P: AsRef<[u32]>>(
        places: &[P],
        axes: &[Axis],
        pairs: Pairs,
        rounding: Rounding,
        device: &Device,
    ) -> TensorResult<Self> {
        let frequencies: Vec<(usize, f64)> = axes
            .iter()
            .enumerate()
            .flat_map(|(index, axis)| (0..axis.width / 2).map(move |pair| (index, frequency(*axis, pair, rounding))))
            .collect();
        let count = places.len() * frequencies.len();
        let (mut cos, mut sin) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for place in places {
            let place = place.as_ref();
            for (axis, frequency) in &frequencies {
                let angle = f64::from(place.get(*axis).copied().unwrap_or(0)) * frequency;
                let (s, c) = match rounding {
                    Rounding::Late => angle.sin_cos(),
                    Rounding::Angles | Rounding::Frequencies => f64::from(angle as f32).sin_cos(),
                };
                cos.push(c as f32);
                sin.push(s as f32);
            }
        }
        let dims = (places.len(), frequencies.len());
        Ok(Self { cos: Tensor::from_vec(cos, dims, device)?, sin: Tensor::from_vec(sin, dims, device)?, pairs })
    }

    /// Turns queries or keys `[batch, tokens, heads · width]` that nobody else holds.
    ///
    /// # Errors
    /// A tensor operation that failed.
    pub(crate) fn turn(&self, x: Tensor) -> TensorResult<Tensor> {
        let (tokens, pairs) = self.cos.dims2()?;
        if x.dim(1)? != tokens || !x.dim(2)?.is_multiple_of(2 * pairs) {
            candle_core::bail!("places of {tokens} tokens and {pairs} pairs were given {:?}", x.dims());
        }
        if x.device().is_cpu() {
            let x = if x.is_contiguous() { x } else { x.contiguous()? };
            x.inplace_op3(&self.cos, &self.sin, &Turn { pairs: self.pairs })?;
            return Ok(x);
        }
        self.composed(&x)
    }

    /// The same by candle's operators, for devices that have no fused one.
    fn composed(&self, x: &Tensor) -> TensorResult<Tensor> {
        let (batch, tokens, channels) = x.dims3()?;
        let pairs = self.cos.dim(1)?;
        let heads = channels / (2 * pairs);
        let (dims, axis) = match self.pairs {
            Pairs::Adjacent => ((batch, tokens, heads, pairs, 2), 4),
            Pairs::Halves => ((batch, tokens, heads, 2, pairs), 3),
        };
        let split = x.reshape(dims)?;
        let (a, b) = (split.narrow(axis, 0, 1)?.squeeze(axis)?, split.narrow(axis, 1, 1)?.squeeze(axis)?);
        let (cos, sin) = (self.cos.reshape((1, tokens, 1, pairs))?, self.sin.reshape((1, tokens, 1, pairs))?);
        let first = (a.broadcast_mul(&cos)? - b.broadcast_mul(&sin)?)?;
        let second = (b.broadcast_mul(&cos)? + a.broadcast_mul(&sin)?)?;
        Tensor::stack(&[first, second], axis)?.reshape((batch, tokens, channels))
    }
}

fn frequency(axis: Axis, pair: usize, rounding: Rounding) -> f64 {
    let share = 2.0 * pair as f64 / axis.width as f64;
    match rounding {
        Rounding::Late | Rounding::Angles => axis.theta.powf(share).recip(),
        Rounding::Frequencies => f64::from((axis.theta.powf(share) as f32).recip()),
    }
}

struct Turn {
    pairs: Pairs,
}

impl InplaceOp3 for Turn {
    fn name(&self) -> &'static str {
        "rotary-embedding"
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
        let channels = l1.dims().last().copied().unwrap_or(1).max(1);
        let (tokens, pairs) = l2.shape().dims2()?;
        let (x, cos, sin) = (slice_mut(s1, l1)?, slice(s2, l2)?, slice(s3, l3)?);
        let rows = (GRAIN / channels).max(1);
        x.par_chunks_mut(rows * channels).enumerate().for_each(|(chunk, x)| {
            for (row, x) in x.chunks_mut(channels).enumerate() {
                let token = (chunk * rows + row) % tokens;
                let (cos, sin) = (&cos[token * pairs..][..pairs], &sin[token * pairs..][..pairs]);
                for head in x.chunks_mut(2 * pairs) {
                    match self.pairs {
                        Pairs::Adjacent => {
                            for ((pair, c), s) in head.as_chunks_mut::<2>().0.iter_mut().zip(cos).zip(sin) {
                                let [a, b] = *pair;
                                *pair = [a * c - b * s, b * c + a * s];
                            }
                        }
                        Pairs::Halves => {
                            let (first, second) = head.split_at_mut(pairs);
                            for (((a, b), c), s) in first.iter_mut().zip(second).zip(cos).zip(sin) {
                                (*a, *b) = (*a * c - *b * s, *b * c + *a * s);
                            }
                        }
                    }
                }
            }
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::{Axis, Pairs, Rope, Rounding};

    #[test]
    fn the_fused_turn_gives_what_the_composed_one_gives() -> candle_core::Result<()> {
        let places: Vec<[u32; 2]> = (0..23).map(|i| [i * 40, i]).collect();
        let axes = [Axis { width: 6, theta: 2000.0 }, Axis { width: 10, theta: 2000.0 }];
        for pairs in [Pairs::Adjacent, Pairs::Halves] {
            let rope = Rope::new(&places, &axes, pairs, Rounding::Late, &Device::Cpu)?;
            let x = Tensor::rand(-2f32, 2., (2, 23, 3 * 16), &Device::Cpu)?;
            let gap = (rope.composed(&x)? - rope.turn(x.copy()?)?)?.abs()?.max_all()?.to_scalar::<f32>()?;
            assert!(gap < 1e-6, "{pairs:?}: {gap}");
        }
        Ok(())
    }

    #[test]
    fn a_turn_keeps_lengths_and_the_first_place_turns_nothing() -> candle_core::Result<()> {
        let axes = [Axis { width: 8, theta: 10_000.0 }];
        let rope = Rope::new(&[[0], [700]], &axes, Pairs::Adjacent, Rounding::Angles, &Device::Cpu)?;
        let x = Tensor::rand(-2f32, 2., (1, 2, 8), &Device::Cpu)?;
        let turned = rope.turn(x.copy()?)?;
        assert_eq!(turned.get(0)?.get(0)?.to_vec1::<f32>()?, x.get(0)?.get(0)?.to_vec1::<f32>()?);
        let length = |x: &Tensor| x.get(0)?.get(1)?.sqr()?.sum_all()?.to_scalar::<f32>();
        assert!((length(&turned)? - length(&x)?).abs() < 1e-4);
        Ok(())
    }
}
