//! A Brownian path over the levels of a run: noise that depends on where a step goes, not on how many steps went before.
//!
//! The numbers of torchsde's `BrownianInterval` with its halving tree, which diffusers and k-diffusion take: the interval is halved until
//! its ends, rounded to six places, are met; each half's share is drawn by a seed of its own, which NumPy's `SeedSequence` derives
//! from the place in the tree. Nothing is kept: an increment is computed anew, from about fifty draws.

use crate::rng::TorchGenerator;

/// A path between two times.
#[derive(Clone, Debug)]
pub struct BrownianPath {
    seed: u64,
    start: f64,
    end: f64,
    /// The square root of the time that it takes, before its ends are rounded.
    spread: f64,
}

/// A part of the interval: where it lies in the tree, and the increment over it.
struct Part {
    start: f64,
    end: f64,
    key: u64,
    depth: u64,
    increment: Vec<f32>,
}

impl BrownianPath {
    /// The path of a seed between two times, the earlier first.
    #[must_use]
    pub fn new(seed: u64, start: f64, end: f64) -> Self {
        Self { seed, start: rounded(start), end: rounded(end), spread: (end - start).max(0.0).sqrt() }
    }

    /// What `count` paths, one for each value, gain from one time to a later one; nothing outside of their ends.
    #[must_use]
    pub fn increment(&self, from: f64, to: f64, count: usize) -> Vec<f32> {
        let (from, to) = (rounded(from.max(self.start)), rounded(to.min(self.end)));
        let mut sum = vec![0.0; count];
        if from < to {
            let mut increment = TorchGenerator::new(u64::from(seed_of(self.seed, None))).normals(count);
            let spread = self.spread as f32;
            increment.iter_mut().for_each(|x| *x *= spread);
            let whole = Part { start: self.start, end: self.end, key: 0, depth: 0, increment };
            self.add(&whole, (from, to), &mut sum);
        }
        sum
    }

    /// Adds what a part has of an increment, earlier parts first.
    fn add(&self, part: &Part, wanted: (f64, f64), sum: &mut [f32]) {
        let (from, to) = wanted;
        if from <= part.start && part.end <= to {
            sum.iter_mut().zip(&part.increment).for_each(|(sum, x)| *sum += x);
            return;
        }
        let middle = rounded(0.5 * (part.end + part.start));
        // No place lies between: the ends are neighbours. Rounded times cannot ask for that.
        if middle <= part.start || middle >= part.end {
            return;
        }
        let (before, after) = (middle - part.start, part.end - middle);
        let share = (part.end - part.start).recip();
        let (weight, share, spread) = (before as f32, share as f32, (before * after * share).sqrt() as f32);
        let seed = seed_of(self.seed, Some((part.key, part.depth)));
        let noise = TorchGenerator::new(u64::from(seed)).normals(part.increment.len());
        let left: Vec<f32> =
            part.increment.iter().zip(noise).map(|(whole, noise)| weight * whole * share + spread * noise).collect();
        let right = part.increment.iter().zip(&left).map(|(whole, left)| whole - left).collect();
        let (key, depth) = (2 * part.key, part.depth + 1);
        if from < middle {
            self.add(&Part { start: part.start, end: middle, key, depth, increment: left }, wanted, sum);
        }
        if to > middle {
            self.add(&Part { start: middle, end: part.end, key: key + 1, depth, increment: right }, wanted, sum);
        }
    }
}

/// To six decimal places, as Python rounds: by the exact value, halves to even.
fn rounded(time: f64) -> f64 {
    format!("{time:.6}").parse().unwrap_or(time)
}

/// A place in the tree: its key among its depth, and the depth.
type Child = (u64, u64);

/// The first word that NumPy's `SeedSequence` makes of an entropy, for a child or for itself, with a pool of 24 words.
fn seed_of(entropy: u64, child: Option<Child>) -> u32 {
    const POOL: usize = 24;
    let words = |value: u64| {
        let (low, high) = (value as u32, (value >> 32) as u32);
        if high == 0 { vec![low] } else { vec![low, high] }
    };
    let mut given = words(entropy);
    if let Some((key, depth)) = child {
        given.resize(POOL, 0);
        given.extend(words(key));
        given.extend(words(depth));
    }
    let mut factor = 0x43b0_d7e5_u32;
    let mut hashed = |value: u32| {
        let value = value ^ factor;
        factor = factor.wrapping_mul(0x931e_8875);
        let value = value.wrapping_mul(factor);
        value ^ (value >> 16)
    };
    let mixed = |a: u32, b: u32| {
        let value = a.wrapping_mul(0xca01_f9dd).wrapping_sub(b.wrapping_mul(0x4973_f715));
        value ^ (value >> 16)
    };
    let mut pool: Vec<u32> = (0..POOL).map(|index| hashed(given.get(index).copied().unwrap_or(0))).collect();
    for from in 0..POOL {
        for to in (0..POOL).filter(|to| *to != from) {
            pool[to] = mixed(pool[to], hashed(pool[from]));
        }
    }
    for word in given.iter().skip(POOL) {
        for slot in &mut pool {
            *slot = mixed(*slot, hashed(*word));
        }
    }
    let factor = 0x8b51_f9dd_u32;
    let value = (pool[0] ^ factor).wrapping_mul(factor.wrapping_mul(0x58f3_8ded));
    value ^ (value >> 16)
}

#[cfg(test)]
mod tests {
    use super::{BrownianPath, Child, rounded, seed_of};

    #[test]
    fn increments_add_up_and_do_not_depend_on_the_steps() {
        let path = BrownianPath::new(3, 0.03, 14.6);
        let whole = path.increment(1.0, 9.0, 20);
        let (first, second) = (path.increment(1.0, 4.25, 20), path.increment(4.25, 9.0, 20));
        for ((whole, first), second) in whole.iter().zip(&first).zip(&second) {
            assert!((whole - first - second).abs() < 1e-5, "{whole} {first} {second}");
        }
        assert_eq!(path.increment(2.0, 2.0, 4), [0.0; 4]);
        assert_eq!(path.increment(0.0, 99.0, 4), path.increment(0.03, 14.6, 4));
    }

    #[test]
    fn the_variance_is_the_time() {
        let increments = BrownianPath::new(1, 0.0, 8.0).increment(1.5, 4.0, 20_000);
        let variance = increments.iter().map(|x| f64::from(x * x)).sum::<f64>() / 20_000.0;
        assert!((variance / 2.5 - 1.0).abs() < 0.05, "{variance}");
    }

    #[test]
    fn seeds_are_those_of_numpy() {
        for (entropy, child, want) in SEEDS {
            assert_eq!(seed_of(*entropy, *child), *want, "{entropy} {child:?}");
        }
    }

    #[test]
    fn times_are_rounded_as_python_rounds_them() {
        assert_eq!((rounded(14.614_646_9), rounded(0.000_000_5), rounded(1.000_001_5)), (14.614_647, 0.0, 1.000_001));
    }

    /// `numpy.random.SeedSequence(entropy, spawn_key=child, pool_size=24).generate_state(1)` of NumPy 2.4.6.
    const SEEDS: &[(u64, Option<Child>, u32)] = &[
        (0, None, 4_025_752_534),
        (0, Some((0, 0)), 245_430_115),
        (42, None, 387_750_627),
        (42, Some((5, 3)), 3_084_123_560),
        (1_099_511_627_783, None, 3_531_690_330),
        (1_099_511_627_783, Some((1_000_003, 22)), 3_310_413_922),
        (9_007_199_254_740_991, Some((0, 1)), 4_192_483_562),
    ];
}
