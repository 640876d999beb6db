//! Families: kinds of diffusion model. A family is one file and one line of [`FAMILIES`].
//!
//! A family is found by the class that a model's `model_index.json` names. It can tell what a model does from its JSON files
//! alone, without touching the weights, and it can load it. What a loaded model does is a [`Model`]; one picture being made is a
//! [`Run`], which goes one denoising step at a time, so that the device's thread can take turns between several.

pub mod flux;
pub mod flux2_klein;
pub mod stable_diffusion;
pub mod stable_diffusion_xl;
pub mod z_image;

use std::sync::Arc;

use candle_core::Device;
use easel_core::{ModelInputs, Task};

use crate::checkpoint::Files;
use crate::config;
use crate::error::{Error, Result};
use crate::given::Given;
use crate::pixels::Pixels;
use crate::rng::Rng;
use crate::sampler::Choice;
use crate::schedule::NoiseConfig;

/// Every family there is.
pub const FAMILIES: &[Family] = &[
    flux::FAMILY,
    flux2_klein::FAMILY,
    stable_diffusion::FAMILY,
    stable_diffusion::INPAINTING,
    stable_diffusion_xl::FAMILY,
    stable_diffusion_xl::INPAINTING,
    z_image::FAMILY,
];

/// A kind of diffusion model.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// Our name for it.
    pub name: &'static str,
    /// The pipeline class that `model_index.json` names.
    pub class_name: &'static str,
    /// Reads what a model says about itself.
    pub describe: fn(&Files) -> Result<Facts>,
    /// Loads a model.
    pub load: fn(&Files, &Device) -> Result<Arc<dyn Model>>,
}

/// What a model says about itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// Width and height of the pictures it was trained on.
    pub native: (u32, u32),
    /// What the sides of a picture must divide by.
    pub multiple: u32,
    /// Its noise.
    pub noise: NoiseConfig,
    /// Prompt tokens that it reads, without start and end.
    pub prompt_tokens: usize,
    /// Steps, when neither the request nor `easel.json` says.
    pub steps: u32,
    /// Guidance scale, when neither the request nor `easel.json` says.
    pub guidance: f64,
    /// What it can do.
    pub tasks: Vec<Task>,
    /// The pictures that it takes.
    pub inputs: ModelInputs,
    /// What guidance does to it.
    pub guiding: Guiding,
    /// The options it understands.
    pub options: &'static [&'static str],
}

impl Facts {
    /// Whether a picture to change is painted over, as much as a strength says; otherwise it is looked at while a new one is
    /// made.
    #[must_use]
    pub fn paints_over(&self) -> bool {
        self.options.contains(&"strength")
    }
}

/// What guidance does to a model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Guiding {
    /// Above this scale, the network is asked once more with the negative prompt.
    Above(f64),
    /// The network is told the scale; a negative prompt does nothing.
    Told,
    /// Nothing, and a negative prompt does nothing either.
    Nothing,
}

/// A loaded model.
pub trait Model: Send + Sync {
    /// Reads the prompts and draws the first noise of one picture.
    ///
    /// # Errors
    /// Whatever of the recipe is not possible.
    fn begin(self: Arc<Self>, recipe: &Recipe) -> Result<Box<dyn Run>>;

    /// How many tokens of a prompt are more than the model reads.
    ///
    /// # Errors
    /// [`Error::Tokenizer`].
    fn dropped_tokens(&self, prompt: &str) -> Result<usize>;
}

/// One picture being made.
pub trait Run {
    /// How many steps there are.
    fn steps(&self) -> usize;

    /// Takes a step.
    ///
    /// # Errors
    /// A tensor operation that failed.
    fn step(&mut self, step: usize) -> Result<()>;

    /// The picture that the last step pointed to.
    ///
    /// # Errors
    /// A tensor operation that failed; [`Error::NotAPicture`].
    fn preview(&self) -> Result<Pixels>;

    /// The finished picture.
    ///
    /// # Errors
    /// A tensor operation that failed; [`Error::NotAPicture`].
    fn finish(&mut self) -> Result<Pixels>;
}

/// Everything one picture is made from. The same recipe gives the same picture.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// What to show.
    pub prompt: String,
    /// What not to show; of no effect when guidance is at most 1. To some models, none and an empty one are not the same.
    pub negative_prompt: Option<String>,
    /// Width and height, both multiples of what the model asks for.
    pub size: (u32, u32),
    /// Seed of the noise.
    pub seed: u64,
    /// What draws the noise.
    pub rng: Rng,
    /// Number of steps.
    pub steps: usize,
    /// Guidance scale.
    pub guidance: f64,
    /// Sampler and schedule.
    pub choice: Choice,
    /// Noise added by DDIM, 0 to 1.
    pub eta: f64,
    /// Text layers left out at the end.
    pub clip_skip: usize,
    /// The pictures that it starts from.
    pub given: Option<Arc<Given>>,
}

/// Finds the family of a model.
///
/// # Errors
/// [`Error::Unsupported`] for a class that no family has; [`Error::File`] or [`Error::Config`].
pub fn of(files: &Files) -> Result<&'static Family> {
    let class_name = config::pipeline_class(files)?;
    FAMILIES.iter().find(|family| family.class_name == class_name).ok_or_else(|| Error::Unsupported {
        file: "model_index.json".to_owned(),
        key: "_class_name".to_owned(),
        value: class_name,
        allowed: FAMILIES.iter().map(|family| family.class_name).collect::<Vec<_>>().join(", "),
    })
}
