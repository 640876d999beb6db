//! A picture as CLIP's processor hands it over: the shorter side made to fit, the middle cut out, each channel evened out.
//!
//! The resizing is Pillow's bicubic one (`resample.rs`).

use serde::Deserialize;

use crate::checkpoint::Files;
use crate::config::read_json;
use crate::error::{Error, Result};
use crate::pixels::Pixels;
use crate::resample::{BICUBIC, resize};

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
        let resized = resize(picture.as_bytes(), (width, height), (new_width, new_height), BICUBIC);
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
