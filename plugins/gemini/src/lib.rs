//! An adapter for Google's image models: Gemini, which answers `:generateContent`, and Imagen, which answers `:predict`, on
//! the Gemini API, on Vertex AI, and on any server that speaks either.
//!
//! [`catalogue`] has what is known of the models, as data; [`config`] what the operator sets; [`exchange`] sends one
//! request, and [`refusal`] reads what comes instead of pictures. [`generate_content`] and [`predict`] are the two kinds of
//! model, each with the other side's words and the mapping. Pictures stay in the host.

mod body;
mod catalogue;
mod config;
mod exchange;
mod generate_content;
mod known;
mod option;
mod predict;
mod refusal;
mod sizes;

use easel_sdk::health::{Condition, Depth};
use easel_sdk::{Adapter, Catalogue, Context, Health, Model, Money, Output, Progress, Request, Result};

use crate::config::Config;
use crate::exchange::Exchange;
use crate::known::Kind;

/// The adapter.
#[derive(Debug)]
pub struct Gemini;

easel_sdk::adapter!(Gemini: Catalogue, Health);

impl Adapter for Gemini {
    type Config = Config;

    fn models(config: &Config) -> Result<Vec<Model>> {
        config.models()
    }

    fn generate(context: &Context, config: &Config, request: &Request, progress: &Progress<'_>) -> Result<Output> {
        let known = config.asked(request)?;
        let exchange = Exchange::new(context, config, &known);
        match known.kind {
            Kind::Gemini => generate_content::generate(&exchange, request, progress),
            Kind::Imagen => predict::generate(&exchange, request, progress),
        }
    }
}

impl Catalogue for Gemini {
    fn estimate(_: &Context, config: &Config, request: &Request) -> Result<Option<Money>> {
        config.asked(request)?.estimate(config, request)
    }
}

impl Health for Gemini {
    fn check(context: &Context, config: &Config, depth: Depth) -> Result<Condition> {
        let credential = config.credential();
        if depth == Depth::Deep {
            let known = config.asked(&Request::new(""))?;
            Exchange::new(context, config, &known).look()?;
        }
        let with = credential.map_or_else(|| "without a credential".to_owned(), |name| format!("with {name}"));
        Ok(Condition::new(match depth {
            Depth::Shallow => format!("asks {with}"),
            Depth::Deep => format!("the server answers {with}"),
        }))
    }
}

#[cfg(test)]
mod tests;
