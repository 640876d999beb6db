//! The noise of a CUDA device: Philox4x32-10 (Salmon et al. 2011), as `torch.randn` draws with it there.
//!
//! Each value has a counter of its own: which draw it belongs to, and its place in that. Of the four words at a counter the
//! first two make a normal (Box and Muller, the sine), the other two are left. So it is on every card for draws of up to as many
//! values as it has threads, some hundred thousand; beyond that cards differ from each other, and from this.

/// Added to the key after each round.
const WEYL: [u32; 2] = [0x9e37_79b9, 0xbb67_ae85];
/// What the first and the third word are multiplied with.
const FACTORS: [u32; 2] = [0xd251_1f53, 0xcd9e_8d57];
const ROUNDS: usize = 10;

/// PyTorch's generator on a CUDA device.
#[derive(Clone, Debug)]
pub struct PhiloxGenerator {
    key: [u32; 2],
    draws: u32,
}

impl PhiloxGenerator {
    /// Starts the stream of a seed; all of its 64 bits count.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { key: [seed as u32, (seed >> 32) as u32], draws: 0 }
    }

    /// Draws `count` standard normals as `torch.randn(count, device="cuda")` would, and advances the stream alike.
    pub fn normals(&mut self, count: usize) -> Vec<f32> {
        let draw = self.draws;
        self.draws = self.draws.wrapping_add(1);
        let normal = |place: u32| {
            let [first, second, _, _] = philox([draw, 0, place, 0], self.key);
            box_muller(first, second)
        };
        (0u32..).take(count).map(normal).collect()
    }
}

fn philox(mut words: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..ROUNDS {
        let product = |factor: u32, word: u32| u64::from(factor) * u64::from(word);
        let (first, third) = (product(FACTORS[0], words[0]), product(FACTORS[1], words[2]));
        let high = |product: u64| (product >> 32) as u32;
        words = [high(third) ^ words[1] ^ key[0], third as u32, high(first) ^ words[3] ^ key[1], first as u32];
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    words
}

/// A normal from two words, with CUDA's constants in f32: each is taken for the middle of its step.
fn box_muller(first: u32, second: u32) -> f32 {
    const STEP: f32 = 1.0 / 4_294_967_296.0;
    const TURN: f32 = STEP * 2.0 * std::f32::consts::PI;
    let share = (first as f32).mul_add(STEP, STEP / 2.0);
    let angle = (second as f32).mul_add(TURN, TURN / 2.0);
    (-2.0 * share.ln()).sqrt() * angle.sin()
}

#[cfg(test)]
mod tests {
    use super::{PhiloxGenerator, philox};

    #[test]
    fn the_words_are_those_that_the_authors_published() {
        for (counter, key, words) in [
            ([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
            ([u32::MAX; 4], [u32::MAX; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
            (
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0],
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
            ),
        ] {
            assert_eq!(philox(counter, key), words);
        }
    }

    #[test]
    fn the_normals_are_those_that_a_card_gives_for_seed_0() {
        // As published for `torch.manual_seed(0); torch.randn(3, 4, device="cuda")`.
        let published = [
            -0.924_662_6,
            -0.425_344_15,
            -2.643_845_7,
            0.145_183_88,
            -0.120_866_47,
            -0.579_725_6,
            -0.622_851_2,
            -0.328_387_1,
            -1.074_542_3,
            -0.363_144_07,
            -1.671_050_7,
            2.265_505,
        ];
        let drawn = PhiloxGenerator::new(0).normals(12);
        for (drawn, published) in drawn.iter().zip(published) {
            assert!((drawn - published).abs() < 2e-6, "{drawn} is not {published}");
        }
    }

    #[test]
    fn each_draw_goes_on_and_every_bit_of_a_seed_counts() {
        let mut generator = PhiloxGenerator::new(7);
        let (first, second) = (generator.normals(8), generator.normals(8));
        assert_ne!(first, second);
        assert_ne!(first, PhiloxGenerator::new(7 + (1 << 32)).normals(8));
        assert_eq!(first[..4], PhiloxGenerator::new(7).normals(4));
    }
}
