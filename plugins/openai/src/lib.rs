//! An adapter for OpenAI and Azure OpenAI: GPT Image, and DALL-E where it is still offered.
//!
//! What each model takes, makes and costs is data in the manifest ([`wire`]), which operators change and add to; nothing
//! here names a model or a price. [`config`] says where the upstream is, [`convert`] how our words become theirs, [`price`]
//! what it costs. What upstreams of this API answer, the SDK reads ([`easel_sdk::images_api`]). Pictures stay in the host.

mod config;
mod convert;
mod day;
mod price;
mod wire;

use std::time::{Duration, Instant};

use easel_sdk::health::{Condition, Depth};
use easel_sdk::http::Request as HttpRequest;
use easel_sdk::images_api::{self, Exchange};
use easel_sdk::{
    Adapter, Catalogue, Context, Error, ErrorKind, Health, Model, Money, Output, Problem, Progress, Request, Result,
    Share, fan_out, host,
};
use serde_json::Value;

use crate::config::Config;
use crate::convert::Body;
use crate::day::Today;
use crate::wire::Entry;

/// The most entries of the upstream's list of models that are looked at.
const MOST_LISTED: usize = 1_000;

/// The adapter.
#[derive(Debug)]
pub struct OpenAi;

easel_sdk::adapter!(OpenAi: Catalogue, Health);

impl Adapter for OpenAi {
    type Config = Config;

    fn models(config: &Config) -> Result<Vec<Model>> {
        convert::models(config, Today::now())
    }

    fn generate(context: &Context, config: &Config, request: &Request, progress: &Progress<'_>) -> Result<Output> {
        let begun = Instant::now();
        let (id, entry) = chosen(config, request)?;
        let notice = convert::retirement(config, id, &entry, Today::now())?;
        check_key(config)?;
        convert::check(id, &entry, request)?;
        let mut output = fan_out(request.count, entry.per_request, |share| {
            progress.stage("upstream")?;
            let limit = context.left(begun).min(Duration::from_secs(config.timeout_s));
            ask(&Asked { config, id, entry: &entry, request, share, limit }, progress)
        })?;
        output.notes.extend(notice);
        Ok(output)
    }
}

impl Catalogue for OpenAi {
    fn estimate(_: &Context, config: &Config, request: &Request) -> Result<Option<Money>> {
        let (_, entry) = chosen(config, request)?;
        let Some(prices) = price::of(&entry, &config.price_list()?).cloned() else { return Ok(None) };
        let partials = if request.count == 1 && entry.partials { config.partial_images } else { 0 };
        Ok(price::estimate(&entry, &prices, request, partials))
    }
}

impl Health for OpenAi {
    fn check(context: &Context, config: &Config, depth: Depth) -> Result<Condition> {
        check_key(config)?;
        let service = config.service()?.name;
        let service = if service.is_empty() { config.root() } else { service };
        if depth == Depth::Shallow {
            return Ok(Condition::new(format!("ready for {service}")));
        }
        let answer = HttpRequest::get(config.models_address())
            .credential(config.credential())
            .total_timeout(context.deadline)
            .send()?
            .success()
            .map_err(images_api::refusal)?
            .into_document()?;
        let mut upstream = Vec::new();
        for index in 0..answer.len("/data").unwrap_or_default().min(MOST_LISTED) {
            let item: Value = answer.get_cut(&format!("/data/{index}"), 256)?.unwrap_or_default();
            upstream.push((item["id"].as_str().unwrap_or_default().to_owned(), item["shutdown_date"].clone()));
        }
        let (missing, details) = convert::listed(config, &upstream);
        let offered = config.offered.len();
        let summary = format!("{service} takes the key and lists {} of {offered} models", offered - missing.len());
        Ok(Condition { details, ..Condition::new(summary) })
    }
}

/// One request to the upstream, and what it is for.
struct Asked<'a> {
    config: &'a Config,
    id: &'a str,
    entry: &'a Entry,
    request: &'a Request,
    share: Share,
    limit: Duration,
}

fn chosen<'a>(config: &'a Config, request: &'a Request) -> Result<(&'a str, Entry)> {
    let id = request.model.as_deref().or(config.offered.first().map(String::as_str)).unwrap_or_default();
    Ok((id, config.entry(id)?))
}

/// A service that is known takes nobody without a key; a server of the operator's own may.
fn check_key(config: &Config) -> Result<()> {
    let service = config.service()?;
    let credential = config.credential();
    if service.name.is_empty() || host::has_credential(credential) {
        return Ok(());
    }
    let message = format!(
        "api key not found for {}: set {}, or credentials.{credential} under [plugin.openai] in easel.toml",
        service.name, service.variable
    );
    Err(Error::new(ErrorKind::Auth, message))
}

fn ask(asked: &Asked<'_>, progress: &Progress<'_>) -> Result<Output> {
    let Asked { config, id, entry, request, share, limit } = *asked;
    // Intermediate states do not say of which picture they are, and cost money.
    let is_shown = share.count == 1 && entry.partials && progress.wants_partial_images();
    let partials = if is_shown { config.partial_images } else { 0 };
    let call = convert::call(config, id, entry, request, share, partials)?;
    let mut http = match call.body {
        Body::Json(body) => HttpRequest::post_json(call.url, &body)?,
        Body::Form(parts) => HttpRequest::post_multipart(call.url, parts),
    };
    for (header, value) in [("openai-organization", &config.organization), ("openai-project", &config.project)] {
        if !value.is_empty() {
            http = http.header(header, value.as_str());
        }
    }
    let credential = config.credential();
    let answer = http
        .credential(credential)
        .total_timeout(limit)
        .send()?
        .success()
        .map_err(|problem| refusal(problem, id, entry))?;
    let root = config.root();
    let exchange = Exchange { count: share.count, first: share.first, base_url: &root, credential, limit };
    let made = images_api::read(answer, &exchange, progress)?;
    let usage = images_api::usage(&made.document)?;
    let prices = price::of(entry, &config.price_list()?).cloned();
    let cost = prices.and_then(|prices| price::actual(&prices, request, share.count, &usage));
    Ok(Output { pictures: made.pictures, cost, usage, notes: call.notes, ..Output::default() })
}

/// The error that a refusal becomes; of a model that the upstream does not have, with the one that took its place.
fn refusal(problem: Problem, id: &str, entry: &Entry) -> Error {
    let mut error = images_api::refusal(problem);
    if matches!(error.provider_code.as_deref(), Some("model_not_found" | "DeploymentNotFound")) {
        error.message.push_str(&match &entry.successor {
            None => format!(" (see offer and models under [plugin.openai.config] for {id})"),
            Some(successor) => format!(" (the successor of {id} is {successor})"),
        });
    }
    error
}

#[cfg(test)]
mod tests;
