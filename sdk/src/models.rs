//! What a model declares about itself. The types serialise to the contract's models schema (`wit/README.md`).

pub(crate) mod written;

use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::{Format, Money, Size};

/// One model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Model {
    /// The id by which requests name it.
    pub id: String,
    /// The name people read.
    pub name: String,
    /// The kind of model: `stable-diffusion`, `gpt-image`, …
    pub family: String,
    /// What it can do: `text-to-image`, `image-to-image`, `inpainting`, `variation`.
    pub tasks: Vec<String>,
    /// The pictures that it takes; `None` is one image for a model that edits, and no reference.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inputs: Option<Inputs>,
    /// The sizes it makes.
    pub sizes: Sizes,
    /// The most pictures it makes in one request.
    pub max_count: u32,
    /// The file formats it gives, its default first.
    pub formats: Vec<Format>,
    /// How it treats a negative prompt.
    pub negative_prompt: Treatment,
    /// How it treats a seed.
    pub seed: Treatment,
    /// How it treats a number of steps.
    pub steps: Control<Numbers<u32>>,
    /// How it treats a guidance scale.
    pub guidance: Control<Numbers<f64>>,
    /// How it treats a sampler; an empty list takes any name.
    pub samplers: Control<Vec<String>>,
    /// The options that only it understands.
    pub options: Vec<ModelOption>,
    /// Whether one seed gives one picture.
    pub determinism: Determinism,
    /// What one picture costs at most, where that is known.
    pub price: Option<Money>,
    /// Whether its provider has taken it away: then it is in no list, and who asks for it is told what takes its place.
    #[serde(skip)]
    pub retired: Option<Retired>,
}

/// How a model ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retired {
    /// The day since which it is gone, as in `2026-05-12`.
    pub since: Option<String>,
    /// The id of the model that takes its place.
    pub successor: Option<String>,
}

impl Model {
    /// Starts with a model that makes one 1024x1024 PNG from a prompt, refuses a negative prompt and ignores every
    /// other control.
    pub fn new(id: impl Into<String>, family: impl Into<String>) -> Self {
        let id = id.into();
        Self {
            name: id.clone(),
            id,
            family: family.into(),
            tasks: vec!["text-to-image".to_owned()],
            inputs: None,
            sizes: Sizes::Listed(vec![Size::new(1024, 1024)]),
            max_count: 1,
            formats: vec![Format::Png],
            negative_prompt: Treatment::Refused,
            seed: Treatment::Ignored,
            steps: Control::Ignored,
            guidance: Control::Ignored,
            samplers: Control::Ignored,
            options: Vec::new(),
            determinism: Determinism::None,
            price: None,
            retired: None,
        }
    }
}

/// The pictures that a model takes in one request; a mask goes with the task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Inputs {
    /// The most images to edit; 0 exactly where no task edits.
    pub images: u32,
    /// The most references.
    pub references: u32,
}

/// The sizes a model makes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Sizes {
    /// Just these, the default first.
    Listed(Vec<Size>),
    /// Every size within these bounds.
    Range(SizeRange),
}

/// Bounds of a picture's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SizeRange {
    /// The shortest side.
    pub least_side: u32,
    /// The longest side, at most 16384.
    pub most_side: u32,
    /// What both sides must divide by.
    pub multiple: u32,
    /// The most pixels in all.
    pub max_pixels: u64,
    /// The size when the request names none; `None` leaves that to [`Adapter::generate`](crate::Adapter::generate).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<Size>,
}

/// How a model treats a parameter that has no bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Treatment {
    /// It does what it says.
    Honoured,
    /// It has no effect; the answer says so.
    Ignored,
    /// A request that sets it is refused.
    Refused,
}

/// How a model treats a parameter that has bounds.
#[derive(Clone, Debug, PartialEq)]
pub enum Control<T> {
    /// It does what it says, within these bounds.
    Honoured(T),
    /// It has no effect; the answer says so.
    Ignored,
    /// A request that sets it is refused.
    Refused,
}

impl<T: Serialize> Serialize for Control<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Honoured(bounds) => bounds.serialize(serializer),
            Self::Ignored => serializer.serialize_str("ignored"),
            Self::Refused => serializer.serialize_str("refused"),
        }
    }
}

/// A range of numbers, ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Numbers<T> {
    /// The smallest.
    pub least: T,
    /// The largest.
    pub most: T,
    /// What the model takes when the request says nothing; `None` leaves that to [`Adapter::generate`](crate::Adapter::generate).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<T>,
}

/// An option that only the model understands.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModelOption {
    /// Its name.
    pub name: String,
    /// The values it takes; empty where the plugin checks them itself.
    pub values: Vec<Value>,
}

impl ModelOption {
    /// An option whose values the plugin, or its upstream, checks.
    pub fn any(name: impl Into<String>) -> Self {
        Self { name: name.into(), values: Vec::new() }
    }
}

/// Whether one seed gives one picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Determinism {
    /// The model has no seed.
    None,
    /// The same seed gives a similar picture, mostly.
    BestEffort,
    /// The same request gives the same bytes.
    Exact,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn models_are_written_as_the_schema_says() {
        let plain = Model::new("one", "demo");
        let rich = Model {
            name: "Two".to_owned(),
            sizes: Sizes::Range(SizeRange {
                least_side: 64,
                most_side: 2048,
                multiple: 8,
                max_pixels: 4_194_304,
                default: Some(Size::new(512, 768)),
            }),
            max_count: 4,
            formats: vec![Format::Webp, Format::Jpeg],
            negative_prompt: Treatment::Honoured,
            seed: Treatment::Honoured,
            steps: Control::Honoured(Numbers { least: 1, most: 50, default: Some(20) }),
            guidance: Control::Refused,
            samplers: Control::Honoured(vec!["euler".to_owned()]),
            options: vec![ModelOption { name: "quality".to_owned(), values: vec![json!("low"), json!(2)] }],
            determinism: Determinism::BestEffort,
            price: Some(Money { micros: 40_000, currency: "USD".to_owned() }),
            ..Model::new("two", "demo")
        };
        let expected = json!([
            {"id": "one", "name": "one", "family": "demo", "tasks": ["text-to-image"],
             "sizes": {"listed": ["1024x1024"]}, "max_count": 1, "formats": ["png"], "negative_prompt": "refused",
             "seed": "ignored", "steps": "ignored", "guidance": "ignored", "samplers": "ignored", "options": [],
             "determinism": "none", "price": null},
            {"id": "two", "name": "Two", "family": "demo", "tasks": ["text-to-image"],
             "sizes": {"range": {"least_side": 64, "most_side": 2048, "multiple": 8, "max_pixels": 4_194_304,
                                 "default": "512x768"}},
             "max_count": 4, "formats": ["webp", "jpeg"], "negative_prompt": "honoured", "seed": "honoured",
             "steps": {"least": 1, "most": 50, "default": 20}, "guidance": "refused", "samplers": ["euler"],
             "options": [{"name": "quality", "values": ["low", 2]}], "determinism": "best_effort",
             "price": {"micros": 40_000, "currency": "USD"}},
        ]);
        assert_eq!(serde_json::to_value([plain, rich]).unwrap(), expected);
    }

    #[test]
    fn every_field_is_the_schemas_and_every_field_of_the_schema_is_there() {
        let schema: Value = serde_json::from_str(include_str!("../../wit/schema/models.json")).unwrap();
        let names = |value: &Value| -> Vec<String> { value.as_object().unwrap().keys().cloned().collect() };
        let model = Model { inputs: Some(Inputs::default()), ..Model::new("one", "demo") };
        let model = serde_json::to_value(model).unwrap();
        assert_eq!(names(&model), names(&schema["$defs"]["model"]["properties"]));
    }
}
