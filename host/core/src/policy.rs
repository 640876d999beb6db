//! Who asks, and what they may ask. Checked before the transformers and again after them, so that a transformer cannot
//! widen what was allowed.
//!
//! What counts of a model is the model itself, not the word it was asked by: an alias of an allowed model is allowed, and
//! so is `backend/model`; one that stands for another model is not.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::{Error, ErrorKind, GenerationRequest, Result, Snapshot};

/// Who asks.
#[derive(Clone, Debug)]
pub struct Principal {
    /// The name of the key, or `local` where none is needed. Goes into logs; never the key itself.
    pub name: Arc<str>,
    /// What they may ask.
    pub allowance: Arc<Allowance>,
}

impl Principal {
    /// The caller of a server without keys: everything is allowed.
    pub fn local() -> Self {
        Self { name: "local".into(), allowance: Arc::new(Allowance::default()) }
    }
}

/// What one caller may ask; the default allows everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowance {
    /// The most pictures of one request.
    pub max_count: Option<u32>,
    /// The most pixels of one picture.
    pub max_pixels: Option<u64>,
    /// The only models that may be used, each an id, which allows it on every backend that has it, `backend/id`, or an
    /// alias; `None` allows all.
    pub models: Option<BTreeSet<String>>,
}

impl Allowance {
    /// Tells whether a request stays within the allowance, as far as it says what it wants. A name that nobody has is no
    /// model: what takes its place is checked once it is chosen, with [`Allowance::check_model`].
    ///
    /// # Errors
    /// `Forbidden`, naming the parameter and its bound.
    pub fn check(&self, snapshot: &Snapshot, request: &GenerationRequest) -> Result<()> {
        let names = request.names();
        if let Some(most) = self.max_count
            && request.count > most
        {
            return Err(forbidden(names.count, format!("this key may ask for at most {most} images at a time")));
        }
        if let (Some(most), Some(size)) = (self.max_pixels, request.size)
            && size.pixels() > most
        {
            return Err(forbidden(names.size, format!("this key may ask for at most {most} pixels, {size} has more")));
        }
        if self.models.is_some()
            && let Some((backend, model)) = snapshot.named(request)
        {
            self.check_model(snapshot, names.model, backend.id(), &model.id)?;
        }
        Ok(())
    }

    /// Tells whether the model that was chosen may be used. `param` is the caller's word for it.
    ///
    /// # Errors
    /// `Forbidden`, listing the models that may be.
    pub fn check_model(&self, snapshot: &Snapshot, param: &'static str, backend: &str, model: &str) -> Result<()> {
        match &self.models {
            Some(models) if !self.allows_model(snapshot, backend, model) => {
                let models: Vec<_> = models.iter().map(String::as_str).collect();
                let message = format!("this key may use only these models: {}", models.join(", "));
                Err(forbidden(param, message))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Whether a model of a backend may be used.
    pub fn allows_model(&self, snapshot: &Snapshot, backend: &str, model: &str) -> bool {
        self.models.as_ref().is_none_or(|models| models.iter().any(|name| snapshot.is_name_of(name, backend, model)))
    }
}

fn forbidden(param: &'static str, message: String) -> Error {
    Error::new(ErrorKind::Forbidden, message).with_param(param)
}
