//! Who asks, and what they may ask. Checked before the transformers and again after them, so that a transformer cannot
//! widen what was allowed.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::{Error, ErrorKind, GenerationRequest, Result};

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
    /// The only models that may be named; `None` allows all.
    pub models: Option<BTreeSet<String>>,
}

impl Allowance {
    /// Tells whether a request stays within the allowance.
    ///
    /// # Errors
    /// `Forbidden`, naming the parameter and its bound.
    pub fn check(&self, request: &GenerationRequest) -> Result<()> {
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
        if let Some(model) = &request.model {
            self.check_model(names.model, model)?;
        }
        Ok(())
    }

    /// Tells whether a model may be used, also one that the server chose.
    ///
    /// # Errors
    /// `Forbidden`, listing the models that may be.
    pub fn check_model(&self, param: &'static str, model: &str) -> Result<()> {
        match &self.models {
            Some(models) if !models.contains(model) => {
                let models: Vec<_> = models.iter().map(String::as_str).collect();
                Err(forbidden(param, format!("this key may use only these models: {}", models.join(", "))))
            }
            Some(_) | None => Ok(()),
        }
    }
}

fn forbidden(param: &'static str, message: String) -> Error {
    Error::new(ErrorKind::Forbidden, message).with_param(param)
}
