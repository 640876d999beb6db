//! What was made.

use serde::Serialize;

#[cfg(target_arch = "wasm32")]
use crate::bindings::adapter::easel::plugin::images;
use crate::bindings::adapter::easel::plugin::types;
use crate::{Blob, Job};

/// A finished answer.
#[derive(Debug, Default)]
pub struct Output {
    /// The pictures, in order; as many as were asked for.
    pub pictures: Vec<Picture>,
    /// What it all cost. `None` means not knowing, which is not zero.
    pub cost: Option<Money>,
    /// What the provider counted: `input_tokens`, …
    pub usage: Vec<(String, u64)>,
    /// What was done differently than asked.
    pub notes: Vec<Note>,
    /// The provider's job that is to be polled for the pictures, which are not there yet.
    pub pending: Option<Job>,
}

impl Output {
    /// No pictures yet: the host polls this job. For adapters that implement [`Jobs`](crate::Jobs).
    pub fn pending(job: Job) -> Self {
        Self { pending: Some(job), ..Self::default() }
    }
}

/// One picture. The host reads its format and size from the bytes.
#[derive(Debug)]
pub struct Picture {
    /// The encoded file.
    pub blob: Blob,
    /// The seed that makes it again.
    pub seed: Option<u64>,
    /// The prompt as the provider rewrote it.
    pub revised_prompt: Option<String>,
}

impl From<Blob> for Picture {
    fn from(blob: Blob) -> Self {
        Self { blob, seed: None, revised_prompt: None }
    }
}

/// An amount of money.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Money {
    /// Millionths of the currency's unit.
    pub micros: u64,
    /// The currency's ISO 4217 code.
    pub currency: String,
}

impl From<types::Money> for Money {
    fn from(types::Money { micros, currency }: types::Money) -> Self {
        Self { micros, currency }
    }
}

impl From<Money> for types::Money {
    fn from(Money { micros, currency }: Money) -> Self {
        Self { micros, currency }
    }
}

/// Something that was done differently than asked, one sentence for the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The parameter it is about.
    pub param: Option<String>,
    /// What happened and why.
    pub message: String,
}

impl Note {
    /// Makes a note about one parameter.
    pub fn about(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self { param: Some(param.into()), message: message.into() }
    }
}

#[cfg(target_arch = "wasm32")]
impl From<Output> for images::ImageResult {
    fn from(output: Output) -> Self {
        let result = Self::new();
        for Picture { blob, seed, revised_prompt } in output.pictures {
            result.add_image(blob.into_raw(), &images::PictureInfo { seed, revised_prompt });
        }
        if let Some(cost) = output.cost {
            result.set_cost(&cost.into());
        }
        for (unit, quantity) in &output.usage {
            result.set_usage(unit, *quantity);
        }
        for note in &output.notes {
            result.add_note(note.param.as_deref(), &note.message);
        }
        if let Some(job) = output.pending {
            result.set_pending(&job.into());
        }
        result
    }
}
