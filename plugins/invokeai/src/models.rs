//! The models that InvokeAI has, which of them a request means, and how a graph refers to one.
//!
//! Every reference is the whole object of five fields where the model is known: InvokeAI takes nothing less. What is
//! written for one that is not known is up to [`Mode`].

use easel_sdk::{Error, Note, Result};
use serde_json::Value;

use crate::reading::{names, object, set, text};
use crate::server::{Server, Version};

/// The most models that are looked at.
const MOST_MODELS: usize = 4096;

/// The longest text of a model that is read, in characters.
const MAX_TEXT: u32 = 300;

/// One installed model, as InvokeAI describes it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Installed(pub Value);

impl Installed {
    /// One of its texts: `key`, `hash`, `name`, `base`, `type`, `format`, `variant`.
    pub fn text(&self, field: &str) -> &str {
        text(&self.0, field)
    }

    /// How a graph refers to it.
    pub fn reference(&self) -> Value {
        let fields = ["key", "hash", "name", "base", "type"];
        object(fields.into_iter().map(|field| (field, self.text(field).into())).collect())
    }

    /// What the operator chose for it in InvokeAI.
    pub fn setting(&self, field: &str) -> Option<&Value> {
        self.0.get("default_settings")?.get(field).filter(|value| !value.is_null())
    }

    fn is_called(&self, word: &str) -> bool {
        ["key", "name", "hash"].into_iter().any(|field| self.text(field).eq_ignore_ascii_case(word))
    }

    fn is_of(&self, kind: &str, bases: &[&str]) -> bool {
        let base = self.text("base");
        self.text("type") == kind && (bases.is_empty() || base == "any" || bases.contains(&base))
    }
}

/// How a reference is written that could not be completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// An object with what is known of it.
    Id,
    /// Its name alone, which no InvokeAI since 4.0 takes.
    Name,
    /// As the template has it.
    Dict,
}

impl Mode {
    /// Its name in the config.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "id" => Self::Id,
            "name" => Self::Name,
            "dict" => Self::Dict,
            _ => return None,
        })
    }

    /// A reference as this mode has it.
    pub fn write(self, value: &Value) -> Value {
        match (self, value) {
            (Self::Id, Value::String(key)) => object(vec![("key", key.as_str().into())]),
            (Self::Name, Value::Object(_)) => set(text(value, "name")).unwrap_or(text(value, "key")).into(),
            (Self::Id | Self::Name | Self::Dict, value) => value.clone(),
        }
    }
}

/// What is installed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Models(pub Vec<Installed>);

/// Which main model is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// What the request or the config calls it.
    pub word: Option<&'a str>,
    /// What the template has.
    pub fallback: Option<&'a Value>,
    /// The architectures that the graph is for.
    pub bases: &'a [&'a str],
    /// Whether another one may not take its place.
    pub is_strict: bool,
}

impl Models {
    /// Asks for them, without those whose files are gone.
    ///
    /// # Errors
    /// What the server's refusal becomes.
    pub fn fetch(server: &Server<'_>, version: Version) -> Result<Self> {
        // Without the slash at the end it is a page of the user interface.
        let document = server.get("/api/v2/models/")?;
        let count = document.len("/models").unwrap_or_default().min(MOST_MODELS);
        let mut models = Vec::new();
        for index in 0..count {
            models.extend(document.get_cut(&format!("/models/{index}"), MAX_TEXT)?.map(Installed));
        }
        if version.knows_missing_models() && !models.is_empty() {
            let document = server.get("/api/v2/models/missing")?;
            for index in 0..document.len("/models").unwrap_or_default().min(MOST_MODELS) {
                let key: Option<Value> = document.get_cut(&format!("/models/{index}/key"), MAX_TEXT)?;
                models.retain(|model| model.0.get("key") != key.as_ref());
            }
        }
        Ok(Self(models))
    }

    /// Those of one kind, of one of these architectures; no architecture is any.
    pub fn of<'a>(&'a self, kind: &'a str, bases: &'a [&'a str]) -> impl Iterator<Item = &'a Installed> {
        self.0.iter().filter(move |model| model.is_of(kind, bases))
    }

    /// The first of a kind with a format and a part of its variant's name.
    pub fn first(&self, kind: &str, bases: &[&str], format: &str, variant: &str) -> Option<&Installed> {
        let fits = |model: &&Installed| {
            model.is_of(kind, bases)
                && (format.is_empty() || model.text("format") == format)
                && model.text("variant").contains(variant)
        };
        self.0.iter().find(fits)
    }

    /// The one that a word means: its key, hash or name.
    pub fn find(&self, word: &str, kind: &str, bases: &[&str]) -> Option<&Installed> {
        let mut fitting = self.0.iter().filter(|model| model.is_of(kind, bases) && model.is_called(word.trim()));
        let first = fitting.next()?;
        // Names that differ in case only are told apart by it.
        Some(fitting.find(|model| model.text("name") == word).filter(|_| first.text("name") != word).unwrap_or(first))
    }

    /// The one that a reference in a graph means: by its key, or else by its name.
    pub fn meant(&self, reference: &Value, kind: &str, bases: &[&str]) -> Option<&Installed> {
        let words = [reference.as_str().unwrap_or_default(), text(reference, "key"), text(reference, "name")];
        words.into_iter().filter_map(set).find_map(|word| self.find(word, kind, bases))
    }

    /// The only one whose name has a word as a part.
    fn find_part(&self, word: &str, bases: &[&str]) -> Option<&Installed> {
        let word = word.trim().to_ascii_lowercase();
        let is_part =
            |model: &&Installed| model.is_of("main", bases) && model.text("name").to_ascii_lowercase().contains(&word);
        let mut parts = self.0.iter().filter(is_part);
        let first = parts.next()?;
        parts.next().is_none().then_some(first)
    }

    /// The main model that a request means. Where that one is not installed, the answer depends on strictness: an error,
    /// or the template's or the first one with a note.
    ///
    /// # Errors
    /// `InvalidRequest` naming what is installed; `Upstream` where nothing fits at all.
    pub fn main(&self, wanted: Wanted<'_>) -> Result<(Installed, Option<Note>)> {
        let Wanted { word, fallback, bases, is_strict } = wanted;
        let mut missing = None;
        if let Some(word) = word {
            if let Some(model) = self.find(word, "main", bases) {
                return Ok((model.clone(), None));
            }
            if is_strict {
                return Err(self.not_found(word, bases));
            }
            missing = Some(word);
            if let Some(model) = self.find_part(word, bases) {
                return Ok((model.clone(), Some(replaced(word, model))));
            }
        }
        let mut found = None;
        if let Some(reference) = fallback {
            found = self.meant(reference, "main", bases);
            let name = reference_name(reference);
            if found.is_none() && is_strict {
                return Err(self.not_found(name, bases));
            }
            if found.is_none() {
                missing = missing.or(Some(name));
            }
        }
        let Some(model) = found.or_else(|| self.of("main", bases).next()) else {
            let bases = if bases.is_empty() { "any kind".to_owned() } else { names(bases.iter().copied()) };
            return Err(Error::upstream(format!("InvokeAI has no main model of {bases} installed")));
        };
        Ok((model.clone(), missing.map(|word| replaced(word, model))))
    }

    /// The error of a model that is not there.
    pub fn not_found(&self, word: &str, bases: &[&str]) -> Error {
        let there = names(self.of("main", bases).map(|model| model.text("name")));
        let message = format!("model {word:?} is not installed in InvokeAI; there are: {there}");
        let mut error = Error::model_not_found(message);
        error.provider_code = Some("model_not_found".to_owned());
        error
    }
}

/// What a reference in a graph calls its model.
pub fn reference_name(reference: &Value) -> &str {
    reference.as_str().or(set(text(reference, "name"))).unwrap_or(text(reference, "key"))
}

/// The note of a model that another took the place of.
pub fn replaced(word: &str, model: &Installed) -> Note {
    let name = model.text("name");
    Note::about("model", format!("model {word:?} is not installed in InvokeAI; {name} took its place"))
}

#[cfg(test)]
pub(crate) mod tests;
