//! Resizing pictures to the last bit as Pillow does, with which Python programs prepare what models see: the filter is widened
//! when a picture is made smaller, weights are whole numbers, and there are eight bits between columns and rows.

/// Bits behind the point of a filter's weights.
const PRECISION: u32 = 22;

/// A filter: how far it reaches, in pixels, and its weight at a distance.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kernel {
    reach: f64,
    weight: fn(f64) -> f64,
}

/// Pillow's `BICUBIC`.
pub(crate) const BICUBIC: Kernel = Kernel { reach: 2.0, weight: bicubic };

/// Pillow's `LANCZOS`.
pub(crate) const LANCZOS: Kernel = Kernel { reach: 3.0, weight: lanczos };

/// Resizes rows of RGB from one width and height to another.
pub(crate) fn resize(
    bytes: &[u8],
    (width, height): (usize, usize),
    (new_width, new_height): (usize, usize),
    kernel: Kernel,
) -> Vec<u8> {
    let mut current = bytes.to_vec();
    if new_width != width {
        let filter = Filter::new(width, new_width, kernel);
        let rows = current.chunks(width * 3).flat_map(|row| {
            filter.taps.iter().flat_map(move |(first, weights)| {
                (0..3).map(move |channel| sum(weights, |tap| row[(first + tap) * 3 + channel]))
            })
        });
        current = rows.collect();
    }
    if new_height == height {
        return current;
    }
    let (filter, line) = (Filter::new(height, new_height, kernel), new_width * 3);
    let columns = filter.taps.iter().flat_map(|(first, weights)| {
        let current = &current;
        (0..line).map(move |at| sum(weights, |tap| current[(first + tap) * line + at]))
    });
    columns.collect()
}

fn sum(weights: &[i32], byte: impl Fn(usize) -> u8) -> u8 {
    let half = 1i32 << (PRECISION - 1);
    let sum = weights.iter().enumerate().fold(half, |sum, (tap, weight)| sum + weight * i32::from(byte(tap)));
    (sum >> PRECISION).clamp(0, 255) as u8
}

/// For each new place along a side, the first old place that counts and the weights from there on.
struct Filter {
    taps: Vec<(usize, Vec<i32>)>,
}

impl Filter {
    fn new(old: usize, new: usize, kernel: Kernel) -> Self {
        let scale = old as f64 / new as f64;
        let widened = scale.max(1.0);
        let reach = kernel.reach * widened;
        let tap = |at: usize| {
            let middle = (at as f64 + 0.5) * scale;
            let first = (middle - reach + 0.5).max(0.0) as usize;
            let end = ((middle + reach + 0.5) as usize).min(old);
            let weights: Vec<f64> =
                (first..end).map(|place| (kernel.weight)((place as f64 - middle + 0.5) / widened)).collect();
            let whole: f64 = weights.iter().sum();
            let fixed = |weight: f64| {
                let weight = weight / whole * f64::from(1u32 << PRECISION);
                (weight + 0.5f64.copysign(weight)) as i32
            };
            (first, weights.into_iter().map(fixed).collect())
        };
        Self { taps: (0..new).map(tap).collect() }
    }
}

fn bicubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    match x.abs() {
        x if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
        x if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
        _ => 0.0,
    }
}

fn lanczos(x: f64) -> f64 {
    let sinc = |x: f64| if x == 0.0 { 1.0 } else { (std::f64::consts::PI * x).sin() / (std::f64::consts::PI * x) };
    if (-3.0..3.0).contains(&x) { sinc(x) * sinc(x / 3.0) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::{BICUBIC, LANCZOS, resize};

    #[test]
    fn one_colour_stays_one_colour_and_the_same_size_is_the_same() {
        let grey = vec![77; 3 * 50 * 40];
        let picture: Vec<u8> = (0..3 * 50 * 40).map(|i| (i * 7 % 251) as u8).collect();
        for kernel in [BICUBIC, LANCZOS] {
            assert!(resize(&grey, (50, 40), (23, 61), kernel).iter().all(|byte| *byte == 77));
            assert_eq!(resize(&picture, (50, 40), (50, 40), kernel), picture);
        }
    }
}
