//! The safety checker: whether a finished picture may be shown.
//!
//! Defined by diffusers' `StableDiffusionSafetyChecker`, the one that Stable Diffusion's folders bring: CLIP looks at the
//! picture (`vision.rs`), as its processor hands it over (`picture.rs`), and what it sees is compared with concepts by
//! their angles. It looks at pictures only, so it serves every family. What happens to a picture that it blocks is the
//! device's thread's business (`device.rs`): it is never given to anybody.

mod picture;
mod vision;

use candle_core::{DType, Device, Tensor};
use serde::Deserialize;

use crate::checkpoint::{Files, Weights};
use crate::config::read_json;
use crate::error::{Error, Result};
use crate::pixels::Pixels;
use crate::trace::{Recorder, Trace, Values};
use picture::Preparation;
use vision::{Vision, VisionConfig};

/// The folder of the checker, in a model's folder or beside all models.
pub(crate) const FOLDER: &str = "safety_checker";

/// Whether pictures are checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Safety {
    /// Always: a model without a checker is not served.
    Required,
    /// Where there is a checker; otherwise answers say that there was none.
    #[default]
    Available,
    /// Never.
    Off,
}

/// These files, if a checker lies among them.
pub(crate) fn files(files: &Files) -> Option<&Files> {
    files.has(&format!("{FOLDER}/config.json")).then_some(files)
}

/// A loaded checker.
pub struct SafetyChecker {
    preparation: Preparation,
    vision: Vision,
    special: Concepts,
    concepts: Concepts,
    device: Device,
}

/// What a checker found in a picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The concepts that were seen, by number; with one of them the picture is blocked.
    pub concepts: Vec<usize>,
    /// The concepts that call for more care and were seen.
    pub special: Vec<usize>,
}

impl Verdict {
    /// Whether the picture may not be shown.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        !self.concepts.is_empty()
    }
}

/// Directions, of length 1, each with the cosine from which on it is seen.
struct Concepts {
    directions: Vec<Vec<f32>>,
    thresholds: Vec<f32>,
}

/// What is added to every score once a special concept was seen.
const MORE_CARE: f32 = 0.01;

/// The shortest vector that is brought to length 1.
const SHORTEST: f32 = 1e-12;

impl SafetyChecker {
    /// Loads the checker that lies in the folder `safety_checker` of these files, onto the CPU.
    ///
    /// # Errors
    /// What its files lack, by file and key or tensor.
    pub fn open(files: &Files) -> Result<Self> {
        Self::load(files, &Device::Cpu)
    }

    pub(crate) fn load(files: &Files, device: &Device) -> Result<Self> {
        #[derive(Deserialize)]
        struct Raw {
            #[serde(default = "projected_width")]
            projection_dim: usize,
            #[serde(default)]
            vision_config: serde_json::Value,
        }
        let file = format!("{FOLDER}/config.json");
        let raw: Raw = read_json(files, &file)?;
        let config = VisionConfig::read(&file, raw.vision_config, raw.projection_dim)?;
        let weights = files.weights(FOLDER, "model", device)?;
        let width = raw.projection_dim;
        Ok(Self {
            preparation: Preparation::read(files, config.side)?,
            vision: Vision::load(&config, &weights)?,
            special: Concepts::load("special_care_embeds", width, &weights)?,
            concepts: Concepts::load("concept_embeds", width, &weights)?,
            device: device.clone(),
        })
    }

    /// Looks at a picture.
    ///
    /// # Errors
    /// A tensor operation that failed; [`Error::NotAPicture`] when what was seen is no number.
    pub fn check(&self, picture: &Pixels) -> Result<Verdict> {
        self.look(picture, Trace::none())
    }

    /// Looks at a picture, telling what happens inside.
    ///
    /// # Errors
    /// As [`SafetyChecker::check`].
    pub fn check_traced(&self, picture: &Pixels, recorder: &Recorder) -> Result<Verdict> {
        self.look(picture, recorder.trace())
    }

    /// A picture as the network sees it: `[height, width, 3]`.
    #[must_use]
    pub fn prepared(&self, picture: &Pixels) -> Values {
        let side = self.preparation.crop;
        Values { dims: vec![side, side, 3], values: self.preparation.prepare(picture) }
    }

    fn look(&self, picture: &Pixels, trace: Trace<'_>) -> Result<Verdict> {
        let side = self.preparation.crop;
        let seen = Tensor::from_vec(self.preparation.prepare(picture), (1, side, side, 3), &self.device)?;
        let seen = self.vision.forward(&seen, trace)?.flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>()?;
        let seen = unit(seen);
        // An angle that is no number would be seen by nobody.
        if seen.iter().any(|value| !value.is_finite()) {
            return Err(Error::NotAPicture { what: "a picture that the safety checker cannot see" });
        }
        let special = self.special.seen(&seen, 0.0);
        let care = if special.is_empty() { 0.0 } else { MORE_CARE };
        Ok(Verdict { concepts: self.concepts.seen(&seen, care), special })
    }
}

impl Concepts {
    fn load(name: &str, width: usize, weights: &Weights) -> Result<Self> {
        let thresholds = weights.get_any(&format!("{name}_weights"))?.flatten_all()?.to_vec1::<f32>()?;
        let directions = weights.get(name, &[thresholds.len(), width])?.to_vec2::<f32>()?;
        // A threshold that is no number could never be passed.
        if thresholds.iter().chain(directions.iter().flatten()).any(|value| !value.is_finite()) {
            let reason = "holds values that are not numbers".to_owned();
            return Err(Error::Weights { tensor: weights.name(name), reason });
        }
        Ok(Self { directions: directions.into_iter().map(unit).collect(), thresholds })
    }

    /// Which of them are seen in a direction. A score counts from 0.0005 on: it is rounded to three places first.
    fn seen(&self, direction: &[f32], care: f32) -> Vec<usize> {
        let cosine = |concept: &[f32]| concept.iter().zip(direction).map(|(a, b)| a * b).sum::<f32>();
        let scores =
            self.directions.iter().zip(&self.thresholds).map(|(concept, least)| cosine(concept) - least + care);
        let seen = scores.enumerate().filter(|(_, score)| (score * 1000.0).round_ties_even() > 0.0);
        seen.map(|(index, _)| index).collect()
    }
}

fn unit(mut vector: Vec<f32>) -> Vec<f32> {
    let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt().max(SHORTEST);
    vector.iter_mut().for_each(|value| *value /= length);
    vector
}

fn projected_width() -> usize {
    512
}

#[cfg(test)]
mod tests {
    use super::{Concepts, unit};

    #[test]
    fn a_score_counts_when_it_rounds_up_to_a_thousandth_and_more_care_adds_a_hundredth() {
        let concepts = |threshold| Concepts { directions: vec![unit(vec![3.0, 4.0])], thresholds: vec![threshold] };
        let direction = unit(vec![1.0, 0.0]);
        // The cosine is 0.6.
        for (threshold, care, seen) in [
            (0.5990, 0.0, true),
            (0.5996, 0.0, false),
            (0.6004, 0.0, false),
            (0.6004, 0.01, true),
            (0.6096, 0.01, false),
        ] {
            assert_eq!(!concepts(threshold).seen(&direction, care).is_empty(), seen, "{threshold} {care}");
        }
    }
}
