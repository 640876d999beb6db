//! A picture as CLIP's processor hands it over: the shorter side made to fit, the middle cut out, each channel evened out.
//!
//! The resizing is Pillow's bicubic one, which widens its filter when it makes pictures smaller and reckons in whole
//! numbers, so that its bytes are matched exactly.

use serde::Deserialize;

use crate::checkpoint::Files;
use crate::config::read_json;
use crate::error::{Error, Result};
use crate::pixels::Pixels;

/// Bits behind the point of a filter's weights.
const PRECISION: u32 = 22;

/// How pictures are prepared.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Preparation {
    /// The shorter side after resizing.
    shortest: usize,
    /// The side of the middle that is cut out.
    pub(super) crop: usize,
    mean: [f32; 3],
    deviation: [f32; 3],
}

impl Preparation {
    /// Reads `preprocessor_config.json` beside the checker or in `feature_extractor/`; without either CLIP's own values hold.
    pub(super) fn read(files: &Files, side: usize) -> Result<Self> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Side {
            Plain(usize),
            Shortest { shortest_edge: usize },
            Both { height: usize, width: usize },
        }
        impl Side {
            fn length(&self) -> Option<usize> {
                match self {
                    Self::Plain(side) | Self::Shortest { shortest_edge: side } => Some(*side),
                    Self::Both { height, width } => (height == width).then_some(*height),
                }
            }
        }
        #[derive(Default, Deserialize)]
        struct Raw {
            size: Option<Side>,
            crop_size: Option<Side>,
            image_mean: Option<[f32; 3]>,
            image_std: Option<[f32; 3]>,
            resample: Option<u32>,
        }
        let places = ["safety_checker/preprocessor_config.json", "feature_extractor/preprocessor_config.json"];
        let file = places.into_iter().find(|file| files.has(file)).unwrap_or_default();
        let raw: Raw = if files.has(file) { read_json(files, file)? } else { Raw::default() };
        let wrong = |reason: String| Error::Config { file: file.to_owned(), reason };
        if raw.resample.is_some_and(|resample| resample != 3) {
            return Err(wrong(format!("resample is {:?}, and must be 3, which is bicubic", raw.resample.unwrap_or(0))));
        }
        let length = |given: &Option<Side>| given.as_ref().map_or(Some(side), Side::length);
        let (Some(shortest), Some(crop)) = (length(&raw.size), length(&raw.crop_size)) else {
            return Err(wrong("size and crop_size must be square".to_owned()));
        };
        if crop != side || shortest < crop {
            return Err(wrong(format!("size is {shortest} and crop_size {crop}; the network takes {side}")));
        }
        let deviation = raw.image_std.unwrap_or([0.268_629_54, 0.261_302_6, 0.275_777_1]);
        if deviation.contains(&0.0) {
            return Err(wrong("image_std has a 0".to_owned()));
        }
        let mean = raw.image_mean.unwrap_or([0.481_454_66, 0.457_827_5, 0.408_210_73]);
        Ok(Self { shortest, crop, mean, deviation })
    }

    /// The picture `[crop, crop, 3]`.
    pub(super) fn prepare(&self, picture: &Pixels) -> Vec<f32> {
        let (width, height) = picture.size();
        let (width, height) = (width as usize, height as usize);
        let (short, long) = (width.min(height).max(1), width.max(height));
        let long = self.shortest * long / short;
        let (new_width, new_height) = if width <= height { (self.shortest, long) } else { (long, self.shortest) };
        let resized = resize(picture.as_bytes(), (width, height), (new_width, new_height));
        let (left, top) = ((new_width - self.crop) / 2, (new_height - self.crop) / 2);
        let mut values = Vec::with_capacity(self.crop * self.crop * 3);
        for row in resized.chunks(new_width * 3).skip(top).take(self.crop) {
            for (at, byte) in row.iter().enumerate().skip(left * 3).take(self.crop * 3) {
                let channel = at % 3;
                let value = (f64::from(*byte) * (1.0 / 255.0)) as f32;
                values.push((value - self.mean[channel]) / self.deviation[channel]);
            }
        }
        values
    }
}

/// Resizes rows of RGB, along the rows first.
fn resize(bytes: &[u8], (width, height): (usize, usize), (new_width, new_height): (usize, usize)) -> Vec<u8> {
    let mut current = bytes.to_vec();
    if new_width != width {
        let filter = Filter::new(width, new_width);
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
    let (filter, line) = (Filter::new(height, new_height), new_width * 3);
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
    fn new(old: usize, new: usize) -> Self {
        let scale = old as f64 / new as f64;
        let widened = scale.max(1.0);
        let reach = 2.0 * widened;
        let tap = |at: usize| {
            let middle = (at as f64 + 0.5) * scale;
            let first = (middle - reach + 0.5).max(0.0) as usize;
            let end = ((middle + reach + 0.5) as usize).min(old);
            let weights: Vec<f64> =
                (first..end).map(|place| bicubic((place as f64 - middle + 0.5) / widened)).collect();
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
