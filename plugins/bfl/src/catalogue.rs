//! What the provider's models take, by `models.toml` and the operator's changes to it. The code knows kinds of fields; which
//! model has which, and all limits and prices, are data. [`read`] turns the list into these types.

mod read;

use easel_sdk::models::{Control, Determinism, Inputs, ModelOption, Numbers, Retired, SizeRange, Sizes, Treatment};
use easel_sdk::{Error, Format, Model, Money, Result, Size};
use serde_json::{Map, Number, Value};

use crate::config::{Config, Owner, Unsupported};
use crate::fields::{Faults, Fields, written};

/// `models.toml` as the build wrote it.
const LIST: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/models.json"));

/// Its table `provider`.
const PROVIDER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/provider.json"));

/// The largest side that the contract knows.
const MOST_SIDE: u32 = 16_384;

/// The sides of pictures whose size the provider chooses by their ratio.
const RATIO_SIDES: (u32, u32) = (256, 4096);

/// The longest list of an option's values that is declared; longer ones are checked here.
const MOST_VALUES: i64 = 16;

/// The whole list, under the operator's changes: each replaces fields of a model, or adds one.
pub struct Catalogue<'a> {
    list: Value,
    changes: &'a Map<String, Value>,
}

/// What holds for all of its models.
pub struct Provider {
    pub domain: String,
    pub currency: String,
    pub credit_micros: u64,
}

/// One model.
#[derive(Clone, Debug)]
pub struct Record {
    pub id: String,
    name: Option<String>,
    family: String,
    pub endpoint: String,
    /// The model to use in place of one that the provider has retired.
    pub successor: Option<String>,
    tasks: Vec<String>,
    pub inputs: Pictures,
    pub size: SizeRule,
    pub formats: Vec<Format>,
    pub seed: bool,
    steps: Option<Numbers<u32>>,
    guidance: Option<Numbers<f64>>,
    pub options: Vec<OptionRule>,
    pub max_active: Option<u32>,
    pub price: Option<Price>,
}

/// The pictures that a model takes.
#[derive(Clone, Debug, Default)]
pub struct Pictures {
    pub field: String,
    pub list: bool,
    images: u32,
    references: u32,
    pub most: usize,
    pub mask: Option<String>,
    pub least_side: u32,
    pub most_pixels: Option<u64>,
    pub most_bytes: Option<u64>,
}

/// How a model is told the size.
#[derive(Clone, Debug)]
pub enum SizeRule {
    /// By `width` and `height`.
    Pixels { least_side: u32, most_side: u32, multiple: u32, most_pixels: u64, default: Size },
    /// By `aspect_ratio`, and by `resolution` where there are tiers.
    Ratio { ratios: Vec<Ratio>, tiers: Vec<(String, u64)>, default_tier: Option<String> },
    /// Not at all: it is that of the picture that is edited.
    Input,
    /// By what is added around the picture that is edited.
    Margins { most: u32 },
}

/// Width to height, as in `16:9`.
#[derive(Clone, Debug)]
pub struct Ratio {
    pub text: String,
    pub value: f64,
}

/// A field that has no word in the contract.
#[derive(Clone, Debug)]
pub struct OptionRule {
    pub name: String,
    pub takes: Takes,
    pub least: Option<Number>,
    pub most: Option<Number>,
    pub values: Vec<String>,
}

/// The type of an option's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    Flag,
    Integer,
    Number,
    Text,
}

/// What a picture costs, in millionths.
#[derive(Clone, Debug, Default)]
pub struct Price {
    pub picture: Option<u64>,
    pub first: Option<u64>,
    pub more: u64,
    pub input: u64,
    pub tiers: Vec<(String, u64)>,
}

impl<'a> Catalogue<'a> {
    /// Reads the list.
    ///
    /// # Errors
    /// `Internal` when it is none.
    pub fn read(changes: &'a Map<String, Value>) -> Result<Self> {
        Ok(Self { list: parsed(LIST)?, changes })
    }

    /// One model.
    ///
    /// # Errors
    /// `InvalidRequest` when there is none of that id; `Internal` when its fields make no sense.
    pub fn record(&self, id: &str) -> Result<Record> {
        let known = self.listed().find(|model| model["id"] == id);
        let change = self.changes.get(id);
        if known.or(change).is_none() {
            return Err(Error::invalid("model", format!("there is no model {id:?}")));
        }
        let faults = Faults::default();
        let place = format!("models.{id}");
        let mut tables: Vec<_> = [change, known].into_iter().flatten().collect();
        if let Some(kind) = tables.iter().find_map(|table| table.get("kind")?.as_str()) {
            match self.list["kind"].get(kind) {
                Some(fields) => tables.push(fields),
                None => {
                    let known: Vec<_> = self.list["kind"].as_object().into_iter().flat_map(Map::keys).collect();
                    faults.add(format!("{place}: there is no kind {kind:?}; there are: {known:?}"));
                }
            }
        }
        let record = Record::read(id, &Fields::new(&place, tables, &faults));
        faults.none(record)
    }

    /// The id of every model: those of the list, then those that the operator added.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        let listed = self.listed().filter_map(|model| model["id"].as_str());
        let is_new = |id: &&String| !self.listed().any(|model| model["id"] == **id);
        listed.chain(self.changes.keys().filter(is_new).map(String::as_str))
    }

    fn listed(&self) -> impl Iterator<Item = &Value> {
        self.list["model"].as_array().into_iter().flatten()
    }
}

impl Record {
    /// What the host is told of it. A server that is not the provider's may still have what the provider took away.
    pub fn model(&self, config: &Config, provider: &Provider, owner: Owner) -> Model {
        let unsupported = |is_there: bool| match config.unsupported {
            _ if is_there => Treatment::Honoured,
            Unsupported::Ignore => Treatment::Ignored,
            Unsupported::Refuse => Treatment::Refused,
        };
        let is_retired = self.successor.is_some() && owner == Owner::Provider;
        Model {
            name: self.name.as_ref().unwrap_or(&self.id).clone(),
            retired: is_retired.then(|| Retired { since: None, successor: self.successor.clone() }),
            tasks: self.tasks.clone(),
            inputs: Some(Inputs { images: self.inputs.images, references: self.inputs.references }),
            sizes: Sizes::Range(self.size.range()),
            max_count: config.max_count.min(self.max_active.unwrap_or(u32::MAX)).min(config.max_active),
            formats: match self.formats.as_slice() {
                // The host makes what was asked for of whatever comes.
                [] => vec![Format::Png, Format::Jpeg, Format::Webp],
                formats => formats.to_vec(),
            },
            negative_prompt: unsupported(false),
            seed: unsupported(self.seed),
            steps: self.steps.map_or(unused(config.unsupported), Control::Honoured),
            guidance: self.guidance.map_or(unused(config.unsupported), Control::Honoured),
            samplers: unused(config.unsupported),
            options: self.options.iter().map(OptionRule::declared).collect(),
            determinism: if self.seed { Determinism::BestEffort } else { Determinism::None },
            // What depends on size and pictures is told for each request.
            price: self.price.as_ref().and_then(|price| price.picture).map(|micros| provider.money(micros)),
            ..Model::new(self.id.as_str(), self.family.as_str())
        }
    }
}

fn parsed(json: &[u8]) -> Result<Value> {
    serde_json::from_slice(json).map_err(|error| Error::internal(error.to_string()))
}

impl Provider {
    /// What the list says of the provider.
    ///
    /// # Errors
    /// `Internal` when that makes no sense.
    pub fn known() -> Result<Self> {
        let (table, faults) = (parsed(PROVIDER)?, Faults::default());
        let provider = Self::read(&Fields::new("provider", vec![&table], &faults));
        faults.none(provider)
    }

    /// An amount in the provider's currency.
    pub fn money(&self, micros: u64) -> Money {
        Money { micros, currency: self.currency.clone() }
    }
}

fn unused<T>(unsupported: Unsupported) -> Control<T> {
    match unsupported {
        Unsupported::Ignore => Control::Ignored,
        Unsupported::Refuse => Control::Refused,
    }
}

impl SizeRule {
    /// The sizes that it takes. None has a default: what is edited keeps its size, and the rest is decided here.
    fn range(&self) -> SizeRange {
        let any = |least_side: u32, most_side: u32| SizeRange {
            least_side,
            most_side,
            multiple: 1,
            max_pixels: u64::from(most_side) * u64::from(most_side),
            default: None,
        };
        match *self {
            Self::Pixels { least_side, most_side, multiple, most_pixels, .. } => {
                SizeRange { least_side, most_side, multiple, max_pixels: most_pixels, default: None }
            }
            Self::Ratio { .. } => any(RATIO_SIDES.0, RATIO_SIDES.1),
            Self::Input | Self::Margins { .. } => any(1, MOST_SIDE),
        }
    }
}

impl OptionRule {
    fn declared(&self) -> ModelOption {
        let whole = |number: &Option<Number>| number.as_ref().and_then(Number::as_i64);
        let values = match (self.takes, whole(&self.least), whole(&self.most)) {
            (Takes::Flag, _, _) => vec![true.into(), false.into()],
            (Takes::Integer, Some(least), Some(most)) if most - least < MOST_VALUES => {
                (least..=most).map(Value::from).collect()
            }
            (Takes::Text, _, _) => self.values.iter().map(|value| value.as_str().into()).collect(),
            (Takes::Integer | Takes::Number, _, _) => Vec::new(),
        };
        ModelOption { name: self.name.clone(), values }
    }

    /// Checks a value of a request.
    ///
    /// # Errors
    /// `InvalidRequest` naming the option and what it takes.
    pub fn check(&self, value: &Value) -> Result<()> {
        let bound = |number: &Option<Number>| number.as_ref().and_then(Number::as_f64);
        let (least, most) = (bound(&self.least), bound(&self.most));
        let within = |number: f64| least.is_none_or(|least| number >= least) && most.is_none_or(|most| number <= most);
        let is_right = match (self.takes, value) {
            (Takes::Flag, Value::Bool(_)) => true,
            (Takes::Integer, Value::Number(number)) => number.is_i64() && number.as_f64().is_some_and(within),
            (Takes::Number, Value::Number(number)) => number.as_f64().is_some_and(within),
            (Takes::Text, Value::String(text)) => self.values.is_empty() || self.values.contains(text),
            _ => false,
        };
        if is_right {
            return Ok(());
        }
        let name = &self.name;
        Err(Error::invalid(
            format!("option.{name}"),
            format!("{name} must be {}, not {}", self.wanted(), written(value)),
        ))
    }

    fn wanted(&self) -> String {
        let bound = |number: &Number| written(&Value::Number(number.clone()));
        let bounds = match (&self.least, &self.most) {
            (Some(least), Some(most)) => format!(" from {} to {}", bound(least), bound(most)),
            (Some(least), None) => format!(" of at least {}", bound(least)),
            (None, Some(most)) => format!(" of at most {}", bound(most)),
            (None, None) => String::new(),
        };
        match self.takes {
            Takes::Flag => "true or false".to_owned(),
            Takes::Integer => format!("a whole number{bounds}"),
            Takes::Number => format!("a number{bounds}"),
            Takes::Text if self.values.is_empty() => "text".to_owned(),
            Takes::Text => format!("one of {}", self.values.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests;
