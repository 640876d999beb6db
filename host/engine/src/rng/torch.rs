//! The noise of PyTorch's CPU generator.
//!
//! The integers (MT19937, 19937 bits of state) are bit-equal to `torch.Generator("cpu").manual_seed(seed)`; the normals
//! made from them differ by at most 5e-7, because PyTorch takes its logarithms and cosines from SLEEF. So one seed is one
//! picture here, in diffusers and in the programs that draw as it does, on every device.

const STATE: usize = 624;
const SHIFT: usize = 397;

/// The smallest draw for which PyTorch fills blocks of sixteen from 24-bit uniforms instead of drawing pairs in `f64`.
const BLOCK: usize = 16;

/// PyTorch's CPU generator: a stream of normals that goes on where the last draw stopped.
#[derive(Clone, Debug)]
pub struct TorchGenerator {
    state: [u32; STATE],
    next: usize,
    spare: Option<f64>,
}

impl TorchGenerator {
    /// Starts the stream of a seed. Like PyTorch, only the low 32 bits of the seed count.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut state = [0u32; STATE];
        let mut word = seed as u32;
        for (index, slot) in (0u32..).zip(state.iter_mut()) {
            if index > 0 {
                word = 1_812_433_253u32.wrapping_mul(word ^ (word >> 30)).wrapping_add(index);
            }
            *slot = word;
        }
        Self { state, next: STATE, spare: None }
    }

    /// Draws `count` standard normals as `torch.randn(count, generator=self)` would, and advances the stream alike.
    pub fn normals(&mut self, count: usize) -> Vec<f32> {
        if count < BLOCK {
            return (0..count).map(|_| self.paired_normal()).collect();
        }
        let mut values: Vec<f32> = (0..count).map(|_| self.uniform24()).collect();
        for block in values.chunks_exact_mut(BLOCK) {
            box_muller(block);
        }
        let rest = count % BLOCK;
        if rest != 0 {
            // PyTorch redraws the last sixteen, overlapping the block before.
            let last = &mut values[count - BLOCK..];
            last.fill_with(|| self.uniform24());
            box_muller(last);
        }
        values
    }

    /// The generator's next raw 32 bits.
    pub fn next_u32(&mut self) -> u32 {
        if self.next == STATE {
            self.twist();
        }
        let mut word = self.state[self.next];
        self.next += 1;
        word ^= word >> 11;
        word ^= (word << 7) & 0x9d2c_5680;
        word ^= (word << 15) & 0xefc6_0000;
        word ^ (word >> 18)
    }

    fn twist(&mut self) {
        for k in 0..STATE {
            let joined = (self.state[k] & 0x8000_0000) | (self.state[(k + 1) % STATE] & 0x7fff_ffff);
            let mut word = self.state[(k + SHIFT) % STATE] ^ (joined >> 1);
            if joined & 1 == 1 {
                word ^= 0x9908_b0df;
            }
            self.state[k] = word;
        }
        self.next = 0;
    }

    fn uniform24(&mut self) -> f32 {
        (self.next_u32() & 0x00ff_ffff) as f32 * (1.0 / 16_777_216.0)
    }

    fn uniform53(&mut self) -> f64 {
        let high = u64::from(self.next_u32());
        let low = u64::from(self.next_u32());
        (((high << 32) | low) & ((1 << 53) - 1)) as f64 / (1u64 << 53) as f64
    }

    fn paired_normal(&mut self) -> f32 {
        if let Some(spare) = self.spare.take() {
            return spare as f32;
        }
        let angle = 2.0 * std::f64::consts::PI * self.uniform53();
        let radius = (-2.0 * (-self.uniform53()).ln_1p()).sqrt();
        self.spare = Some(radius * angle.sin());
        (radius * angle.cos()) as f32
    }
}

/// Turns sixteen uniforms into sixteen normals in place: the first eight give the radii, the last eight the angles.
fn box_muller(block: &mut [f32]) {
    let (first, second) = block.split_at_mut(BLOCK / 2);
    for (a, b) in first.iter_mut().zip(second) {
        let radius = (-2.0 * (1.0 - *a).ln()).sqrt();
        let angle = 2.0 * std::f32::consts::PI * *b;
        *a = radius * angle.cos();
        *b = radius * angle.sin();
    }
}

#[cfg(test)]
mod tests {
    use super::TorchGenerator;

    #[test]
    fn the_integers_are_those_of_mt19937() {
        // The first outputs of the reference implementation for its default seed 5489.
        let mut generator = TorchGenerator::new(5489);
        let drawn: Vec<u32> = (0..4).map(|_| generator.next_u32()).collect();
        assert_eq!(drawn, [3_499_211_612, 581_869_302, 3_890_346_734, 3_586_334_585]);
    }

    #[test]
    fn the_stream_goes_on_where_the_last_draw_stopped() {
        let mut whole = TorchGenerator::new(7);
        let mut parts = TorchGenerator::new(7);
        let all = whole.normals(64);
        let mut split = parts.normals(32);
        split.extend(parts.normals(32));
        assert_eq!(all, split);
    }

    #[test]
    fn only_the_low_32_bits_of_a_seed_count() {
        assert_eq!(TorchGenerator::new(3).normals(20), TorchGenerator::new(3 + (1 << 32)).normals(20));
    }
}
