//! What a model declares about itself: what it can do, in which sizes and ranges, and how it treats what it cannot.

use std::str::FromStr;

use crate::{ImageFormat, Money, Size};

/// A kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Task {
    /// A picture from a prompt.
    TextToImage,
    /// A picture from a prompt and other pictures.
    ImageToImage,
    /// A picture of which the part under a mask is painted anew.
    Inpainting,
    /// Another picture like the one that is brought, without a prompt.
    Variation,
}

impl Task {
    /// Every kind, in the order in which lists of them are written.
    pub const ALL: [Self; 4] = [Self::TextToImage, Self::ImageToImage, Self::Inpainting, Self::Variation];

    /// The name in lists and declarations.
    pub fn name(self) -> &'static str {
        match self {
            Self::TextToImage => "text-to-image",
            Self::ImageToImage => "image-to-image",
            Self::Inpainting => "inpainting",
            Self::Variation => "variation",
        }
    }
}

impl FromStr for Task {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|task| task.name() == text).ok_or(())
    }
}

/// One model of one backend.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelInfo {
    /// The id by which requests name it.
    pub id: String,
    /// The name people read.
    pub name: String,
    /// The kind of model: `stable-diffusion`, `gpt-image`, …
    pub family: String,
    /// What it can do.
    pub tasks: Vec<Task>,
    /// The pictures that it takes.
    pub inputs: ModelInputs,
    /// The sizes it makes.
    pub sizes: SizeRule,
    /// The most pictures it makes in one request.
    pub max_count: u32,
    /// The file formats it gives, its default first. Never empty.
    pub formats: Vec<ImageFormat>,
    /// Whether it takes a negative prompt.
    pub negative_prompt: Control<()>,
    /// Whether it takes a seed.
    pub seed: Control<()>,
    /// Whether it takes a number of steps, and which.
    pub steps: Control<Numbers<u32>>,
    /// Whether it takes a guidance scale, and which.
    pub guidance: Control<Numbers<f64>>,
    /// Whether it takes a sampler; the names it takes. An empty list takes any name and leaves the check to the backend.
    pub samplers: Control<Vec<String>>,
    /// The options that only it understands.
    pub options: Vec<ModelOption>,
    /// Whether one seed gives one picture.
    pub determinism: Determinism,
    /// What one picture costs at most, where that is known.
    pub price: Option<Money>,
}

impl ModelInfo {
    /// What so many pictures cost at most, where that is known.
    pub fn price_of(&self, count: u32) -> Option<Money> {
        let price = self.price.as_ref()?;
        Some(Money { micros: price.micros.saturating_mul(count.into()), currency: price.currency.clone() })
    }
}

/// A model that a backend had, and that its provider has taken away. It is in no list; who asks for it is told what takes its
/// place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetiredModel {
    /// The id by which requests named it.
    pub id: String,
    /// Since when it is gone, as the backend writes it: `2026-05-12`.
    pub since: Option<String>,
    /// The model that takes its place.
    pub successor: Option<String>,
}

/// The pictures that a model takes in one request. A mask goes with the task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ModelInputs {
    /// The most images to edit.
    pub images: u32,
    /// The most references.
    pub references: u32,
}

/// How a model treats one parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control<T> {
    /// It does what it says, within these bounds.
    Honoured(T),
    /// It has no effect; the answer says so.
    Ignored,
    /// A request that sets it is refused.
    Refused,
}

/// A range of numbers, ends included.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Numbers<T> {
    /// The smallest.
    pub least: T,
    /// The largest.
    pub most: T,
    /// What the model takes when the request says nothing; `None` leaves that to the backend.
    pub default: Option<T>,
}

/// An option that only the model understands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelOption {
    /// Its name.
    pub name: String,
    /// The values it takes, as JSON text; empty where the backend checks them itself.
    pub values: Vec<String>,
}

/// The sizes a model makes.
#[derive(Clone, Debug, PartialEq)]
pub enum SizeRule {
    /// Just these, the default first; others are refused. Never empty.
    Listed(Vec<Size>),
    /// Every size within bounds whose sides are multiples of a number.
    Range {
        /// The shortest side.
        least_side: u32,
        /// The longest side.
        most_side: u32,
        /// What both sides must divide by.
        multiple: u32,
        /// The most pixels in all.
        max_pixels: u64,
        /// The size when the request names none; `None` leaves that to the backend.
        default: Option<Size>,
    },
}

impl SizeRule {
    /// The size when the request names none; `None` when the backend decides.
    pub fn default_size(&self) -> Option<Size> {
        match self {
            Self::Listed(sizes) => sizes.first().copied(),
            Self::Range { default, .. } => *default,
        }
    }

    /// Whether the model makes this size.
    pub fn allows(&self, size: Size) -> bool {
        match self {
            Self::Listed(sizes) => sizes.contains(&size),
            Self::Range { least_side, most_side, multiple, max_pixels, .. } => {
                let side = |side: u32| (*least_side..=*most_side).contains(&side) && side.is_multiple_of(*multiple);
                side(size.width()) && side(size.height()) && size.pixels() <= *max_pixels
            }
        }
    }

    /// Says in words what is allowed, for error messages.
    pub fn describe(&self) -> String {
        match self {
            Self::Listed(sizes) => {
                let sizes: Vec<_> = sizes.iter().map(Size::to_string).collect();
                format!("one of {}", sizes.join(", "))
            }
            Self::Range { least_side, most_side, multiple, max_pixels, .. } => {
                let multiple = if *multiple > 1 { format!(" in multiples of {multiple}") } else { String::new() };
                format!(
                    "WIDTHxHEIGHT with sides from {least_side} to {most_side}{multiple}, at most {max_pixels} pixels"
                )
            }
        }
    }
}

/// Whether one seed gives one picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Determinism {
    /// The model has no seed.
    None,
    /// The same seed gives a similar picture, mostly.
    BestEffort,
    /// The same request gives the same bytes.
    Exact,
}

impl Determinism {
    /// The name in lists and declarations.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::BestEffort => "best_effort",
            Self::Exact => "exact",
        }
    }
}
