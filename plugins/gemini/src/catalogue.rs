//! What is known of the models: `config.catalogue` of `plugin.toml`, changed and added to by the operator's `models`. What
//! they declare to the host, and what they cost, follows from it; no model, limit or price stands in code.

use easel_sdk::models::{Control, Determinism, Inputs, ModelOption, Numbers, Retired, SizeRange, Sizes, Treatment};
use easel_sdk::{Error, Format, Model, Money, Request, Result, Table};
use serde_json::Value;

use crate::body::only;
use crate::config::{Api, Config, SizePolicy, Unsupported};
use crate::known::{Kind, Known};
use crate::{option, sizes};

/// The most pictures of one role that the contract lets a model take.
const MOST_INPUTS: u32 = 16;

/// Millionths of a dollar.
pub fn dollars(micros: u64) -> Money {
    Money { micros, currency: "USD".to_owned() }
}

impl Config {
    /// The models it offers, the default first.
    ///
    /// # Errors
    /// `Internal` naming the entry that makes no sense.
    pub fn models(&self) -> Result<Vec<Model>> {
        self.check()?;
        let mut models = Vec::new();
        for entry in self.entries()? {
            models.push(entry.known(self)?.declare(self)?);
        }
        Ok(models)
    }

    /// What is known of the model of a request, or of the default one.
    ///
    /// # Errors
    /// `Internal` when there is none.
    pub fn asked(&self, request: &Request) -> Result<Known> {
        for entry in self.entries()? {
            if request.model.as_deref().is_some_and(|id| id != entry.id) {
                continue;
            }
            let known = entry.known(self)?;
            if request.model.is_some() || known.end(self).is_none() {
                return Ok(known);
            }
        }
        Err(Error::internal("the request's model is not one of the catalogue"))
    }

    /// The entries that are offered: the catalogue's with the operator's changes, then those that only the operator has.
    fn entries(&self) -> Result<Vec<Entry<'_>>> {
        let mut entries: Vec<_> = self.catalogue.iter().map(Entry::new).collect();
        for value in &self.models {
            let change = Entry::new(value);
            match entries.iter_mut().find(|entry| entry.id == change.id) {
                Some(entry) => entry.change = Some(value),
                None => entries.push(Entry { change: Some(value), ..change }),
            }
        }
        if self.offer.is_empty() {
            return Ok(entries);
        }
        let mut offered = Vec::new();
        for id in &self.offer {
            let Some(entry) = entries.iter().find(|entry| entry.id == id) else {
                let known: Vec<_> = entries.iter().map(|entry| entry.id).collect();
                return Err(Error::config(format!(
                    "offer names an unknown model {id:?}; there are {}",
                    known.join(", ")
                )));
            };
            offered.push(*entry);
        }
        Ok(offered)
    }
}

/// One entry of the catalogue, and what the operator changes of it.
#[derive(Clone, Copy)]
struct Entry<'a> {
    id: &'a str,
    known: &'a Value,
    change: Option<&'a Value>,
}

impl<'a> Entry<'a> {
    fn new(known: &'a Value) -> Self {
        Self { id: known["id"].as_str().unwrap_or_default(), known, change: None }
    }

    /// The model. The provider's prices say nothing of another server; there, only the operator's count.
    fn known(self, config: &Config) -> Result<Known> {
        let table = |value: Value| Table::new(format!("models.{}", self.id), value).map_err(Error::config);
        let mut entry = table(self.known.clone())?;
        if !config.is_providers_own() {
            entry = entry.under(&table(only("token_prices", Value::Null))?);
        }
        if let Some(change) = self.change {
            entry = entry.under(&table(change.clone())?);
        }
        let mut known = Known::read(config, self.id, entry)?;
        if !config.is_providers_own() && self.change.is_none_or(|change| change["tiers"].is_null()) {
            known.tiers.iter_mut().for_each(|tier| tier.price = None);
        }
        Ok(known)
    }
}

impl Known {
    /// What a request would cost at most by the list, the tokens of its prompt apart.
    ///
    /// # Errors
    /// `InvalidRequest` when its size cannot be had.
    pub fn estimate(&self, config: &Config, request: &Request) -> Result<Option<Money>> {
        let choice = sizes::choose(config, self, request)?;
        let attempts = match self.kind {
            Kind::Gemini => u64::from(config.retries) + 1,
            Kind::Imagen => 1,
        };
        let is_metered = option::flag(request, "google_search")?.unwrap_or(false);
        let price = self.tier(&choice).and_then(|tier| tier.price).filter(|_| !is_metered);
        let most = |price: u64| dollars(price.saturating_mul(attempts).saturating_mul(request.count.into()));
        Ok(price.map(most))
    }

    fn declare(&self, config: &Config) -> Result<Model> {
        let is_vertex = config.api == Api::Vertex;
        let takes_seed = self.most_seed(config).is_some();
        let inputs = self.max_inputs.min(MOST_INPUTS);
        let mut model = Model {
            name: self.name.clone(),
            sizes: self.sizes(config)?,
            formats: vec![Format::Png, Format::Jpeg, Format::Webp],
            negative_prompt: unsupported(config, self.kind == Kind::Imagen && is_vertex),
            seed: if takes_seed { Treatment::Honoured } else { Treatment::Ignored },
            max_count: self.max_count.map_or(config.max_count, |most| most.min(config.max_count)),
            steps: refused(config),
            guidance: match self.guidance {
                true => Control::Honoured(Numbers { least: 0.0, most: 100.0, default: None }),
                false => refused(config),
            },
            samplers: refused(config),
            determinism: if takes_seed { Determinism::BestEffort } else { Determinism::None },
            price: self.price(),
            retired: self
                .end(config)
                .map(|day| Retired { since: Some(day.to_owned()), successor: self.successor.clone() }),
            ..Model::new(self.id.clone(), "")
        };
        match self.kind {
            Kind::Gemini => {
                model.family = "gemini".to_owned();
                model.options = self.gemini_options(config);
            }
            Kind::Imagen => {
                model.family = "imagen".to_owned();
                model.options = self.imagen_options(is_vertex);
            }
        }
        if inputs > 0 {
            model.tasks.push("image-to-image".to_owned());
            model.inputs = Some(Inputs { images: inputs, references: inputs });
        }
        Ok(model)
    }

    /// What one picture of the dearest tier costs.
    fn price(&self) -> Option<Money> {
        let mut most = 0;
        for tier in &self.tiers {
            most = tier.price?.max(most);
        }
        Some(dollars(most))
    }

    fn sizes(&self, config: &Config) -> Result<Sizes> {
        if config.sizes == SizePolicy::Nearest {
            let (least_side, most_side) = (config.least_side, config.most_side);
            let max_pixels = u64::from(most_side) * u64::from(most_side);
            return Ok(Sizes::Range(SizeRange { least_side, most_side, multiple: 1, max_pixels, default: None }));
        }
        let mut listed = Vec::new();
        for tier in &self.tiers {
            for size in self.ratios.iter().filter_map(|ratio| config.size_of(self.kind, ratio)) {
                let size = sizes::scaled(size, tier);
                if !listed.contains(&size) {
                    listed.push(size);
                }
            }
        }
        Ok(Sizes::Listed(listed))
    }

    fn shape_options(&self) -> Vec<ModelOption> {
        let mut options = vec![one_of("aspect_ratio", &self.ratios)];
        if self.tiers.len() > 1 {
            let names: Vec<_> = self.tiers.iter().map(|tier| tier.name.clone()).collect();
            options.push(one_of("image_size", &names));
        }
        options
    }

    fn gemini_options(&self, config: &Config) -> Vec<ModelOption> {
        let mut options = self.shape_options();
        if !self.thinking.is_empty() {
            options.push(one_of("thinking_level", &self.thinking));
        }
        if self.search {
            options.push(flag("google_search"));
        }
        // What the operator says of safety, callers do not loosen.
        if config.safety_settings.is_empty() {
            options.push(ModelOption::any("safety_settings"));
        }
        if config.api == Api::Vertex && !self.people.is_empty() {
            options.push(one_of("person_generation", &self.people));
        }
        options
    }

    fn imagen_options(&self, is_vertex: bool) -> Vec<ModelOption> {
        let mut options = self.shape_options();
        if !self.people.is_empty() {
            options.push(one_of("person_generation", &self.people));
        }
        options.push(ModelOption::any("safety_setting"));
        options.push(ModelOption::any("language"));
        if is_vertex {
            options.extend([flag("enhance_prompt"), flag("add_watermark")]);
        }
        options
    }
}

fn one_of(name: &str, values: &[String]) -> ModelOption {
    ModelOption { name: name.to_owned(), values: values.iter().map(|value| value.as_str().into()).collect() }
}

fn flag(name: &str) -> ModelOption {
    ModelOption { name: name.to_owned(), values: vec![true.into(), false.into()] }
}

fn unsupported(config: &Config, is_supported: bool) -> Treatment {
    match (is_supported, config.unsupported) {
        (true, _) => Treatment::Honoured,
        (false, Unsupported::Refuse) => Treatment::Refused,
        (false, Unsupported::Ignore) => Treatment::Ignored,
    }
}

fn refused<T>(config: &Config) -> Control<T> {
    match config.unsupported {
        Unsupported::Refuse => Control::Refused,
        Unsupported::Ignore => Control::Ignored,
    }
}

#[cfg(test)]
mod tests;
