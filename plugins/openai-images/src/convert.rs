//! Our words to theirs and back. Pure: no call to the host.

use std::collections::BTreeMap;
use std::time::Duration;

use easel_sdk::models::{Control, Determinism, ModelOption, Numbers, SizeRange, Sizes, Treatment};
use easel_sdk::{Error, ErrorKind, Format, Model, Problem, Request, Result, Size};
use serde::Deserialize;
use serde_json::Value;

use crate::wire::Body;

/// The largest side that the contract knows.
const MOST_SIDE: u32 = 16_384;

/// OpenAI's own fields that have no word in the contract; they are passed on as they come.
const OPTIONS: [&str; 7] = ["background", "complexity", "moderation", "quality", "safety_identifier", "style", "user"];

/// What the upstream counts.
const USAGE: [&str; 3] = ["input_tokens", "output_tokens", "total_tokens"];

/// The error of an answer that is neither pictures nor an error.
pub const NO_DATA: &str = "the upstream's answer has no data";

/// `[plugin.openai-images.config]`; `README.md` says what each key means.
#[derive(Clone, Debug, Deserialize)]
pub struct Config {
    pub base_url: String,
    pub model: String,
    pub models: Vec<String>,
    pub sizes: Vec<Size>,
    pub max_count: u32,
    pub timeout_s: u64,
    pub extensions: bool,
}

impl Config {
    /// The models it offers.
    ///
    /// # Errors
    /// `Internal` naming the key that makes no sense.
    pub fn models(&self) -> Result<Vec<Model>> {
        if self.base_url.is_empty() {
            return Err(Error::config(
                "base_url does not name the upstream yet; write at the top of easel.toml: plugin.openai-images = { origins \
                 = [\"http://127.0.0.1:9000\"], config = { base_url = \"http://127.0.0.1:9000/v1\" } }",
            ));
        }
        if !(self.base_url.starts_with("http://") || self.base_url.starts_with("https://")) {
            let message = format!(
                "base_url must be the upstream's address up to and with /v1, not {:?}; set base_url = \
                 \"http://127.0.0.1:9000/v1\" under [plugin.openai-images.config]",
                self.base_url
            );
            return Err(Error::config(message));
        }
        if self.models.is_empty() || self.models.iter().any(|entry| self.offer(entry).0.is_empty()) {
            return Err(Error::config("models must list at least one id, and no empty one"));
        }
        Ok(self.models.iter().map(|entry| self.model(self.offer(entry).0)).collect())
    }

    /// Where requests go.
    pub fn address(&self) -> String {
        format!("{}/images/generations", self.base_url.trim_end_matches('/'))
    }

    fn model(&self, id: &str) -> Model {
        let treatment = if self.extensions { Treatment::Honoured } else { Treatment::Ignored };
        Model {
            sizes: if self.sizes.is_empty() {
                let max_pixels = u64::from(MOST_SIDE) * u64::from(MOST_SIDE);
                Sizes::Range(SizeRange { least_side: 1, most_side: MOST_SIDE, multiple: 1, max_pixels, default: None })
            } else {
                Sizes::Listed(self.sizes.clone())
            },
            max_count: self.max_count,
            formats: vec![Format::Png, Format::Jpeg, Format::Webp],
            negative_prompt: treatment,
            seed: treatment,
            steps: if self.extensions {
                Control::Honoured(Numbers { least: 1, most: 1000, default: None })
            } else {
                Control::Ignored
            },
            guidance: if self.extensions {
                Control::Honoured(Numbers { least: 0.0, most: 100.0, default: None })
            } else {
                Control::Ignored
            },
            samplers: if self.extensions { Control::Honoured(Vec::new()) } else { Control::Ignored },
            options: OPTIONS.into_iter().map(ModelOption::any).collect(),
            determinism: if self.extensions { Determinism::BestEffort } else { Determinism::None },
            ..Model::new(id, "openai-images")
        }
    }

    /// An entry of `models`: the id here, and the upstream's name for it where the request has one.
    fn offer<'a>(&'a self, entry: &'a str) -> (&'a str, Option<&'a str>) {
        let (id, name) = entry.split_once('=').unwrap_or((entry, &self.model));
        (id.trim(), Some(name.trim()).filter(|name| !name.is_empty()))
    }
}

/// The body of the upstream's request.
///
/// # Errors
/// `InvalidRequest` when an option is not JSON.
pub fn body<'a>(config: &'a Config, request: &'a Request) -> Result<Body<'a>> {
    let offers = config.models.iter().map(|entry| config.offer(entry));
    let model = match &request.model {
        Some(asked) => offers.into_iter().find(|(id, _)| id == asked).and_then(|(_, name)| name),
        None => None,
    };
    // PNG is what every server gives by itself, and not every server knows the field.
    let format = request.format.filter(|format| *format != Format::Png);
    let mut options = BTreeMap::new();
    for name in OPTIONS {
        if let Some(value) = request.option::<Value>(name)? {
            options.insert(name, value);
        }
    }
    Ok(Body {
        model,
        prompt: &request.prompt,
        n: request.count,
        size: request.size.map(|size| size.to_string()),
        response_format: "b64_json",
        output_format: format.map(Format::name),
        output_compression: request.compression.filter(|_| format.is_some()),
        // Without extensions the model declares that it has none of these, so the request has none.
        seed: request.seed,
        steps: request.steps,
        cfg_scale: request.guidance,
        negative_prompt: request.negative_prompt.as_deref(),
        scheduler: request.sampler.as_deref(),
        options,
    })
}

/// What the upstream counted.
pub fn usage(usage: Option<Value>) -> Vec<(String, u64)> {
    let usage = usage.unwrap_or_default();
    let count = |unit: &str| Some((unit.to_owned(), usage.get(unit)?.as_u64()?));
    USAGE.into_iter().filter_map(count).collect()
}

/// Where a picture of the answer is, and whether that is the upstream's own origin. Some servers answer addresses
/// without their host.
///
/// # Errors
/// `Upstream` when it is no address.
pub fn picture_address(base_url: &str, url: &str) -> Result<(String, bool)> {
    let own = origin(base_url);
    if url.starts_with('/') && !url.starts_with("//") {
        return Ok((format!("{own}{url}"), true));
    }
    if (url.starts_with("http://") || url.starts_with("https://")) && url.len() < crate::wire::MAX_TEXT as usize {
        return Ok((url.to_owned(), origin(url).eq_ignore_ascii_case(own)));
    }
    let start: String = url.chars().take(40).collect();
    Err(Error::upstream(format!("the upstream answered a picture by an address that cannot be fetched: {start:?}")))
}

/// Scheme, host and port of an absolute address, as they are written.
fn origin(url: &str) -> &str {
    let authority = url.find("://").map_or(0, |scheme| scheme + 3);
    let end = url[authority..].find(['/', '?', '#', '\\']).map_or(url.len(), |end| authority + end);
    &url[..end]
}

/// The error that an upstream's refusal becomes.
pub fn error(mut problem: Problem) -> Error {
    let code = problem.code.as_deref().unwrap_or_default();
    let kind = match code {
        "moderation_blocked" | "content_policy_violation" | "content_filter" => ErrorKind::ContentPolicy,
        // A 429 without end: trying again is useless until somebody pays.
        "insufficient_quota" | "billing_hard_limit_reached" | "insufficient_credits" => ErrorKind::Quota,
        // The name is the operator's choice, not the client's.
        "model_not_found" => ErrorKind::Upstream,
        _ => problem.kind(),
    };
    if code == "model_not_found" && !problem.message.is_empty() {
        problem.message.push_str(" (see model and models under [plugin.openai-images.config])");
    }
    if kind == ErrorKind::RateLimited && problem.retry_after.is_none() {
        problem.retry_after = spoken_wait(&problem.message);
    }
    problem.param = problem.param.as_deref().map(our_word);
    problem.into_error(kind)
}

/// The contract's word for a field of the API; fields without one keep their name.
fn our_word(field: &str) -> String {
    match field {
        "n" => "count",
        "negative_prompt" => "negative-prompt",
        "cfg_scale" => "guidance",
        "scheduler" => "sampler",
        "output_format" => "format",
        "output_compression" => "compression",
        field => field,
    }
    .to_owned()
}

/// The wait in "Please try again in 12s": OpenAI says it in words where it sends no header.
fn spoken_wait(message: &str) -> Option<Duration> {
    let (_, rest) = message.split_once("try again in ")?;
    let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    let (number, unit) = rest.split_at(digits);
    let scale = if unit.starts_with("ms") {
        0.001
    } else if unit.starts_with('s') {
        1.0
    } else {
        return None;
    };
    Duration::try_from_secs_f64(number.trim_end_matches('.').parse::<f64>().ok()? * scale).ok()
}

#[cfg(test)]
mod tests;
