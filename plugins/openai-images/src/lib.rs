//! An adapter for any server that speaks OpenAI Images: OpenAI itself, LocalAI, a gateway, another Easel.
//!
//! One call here, one request there. [`wire`] has the other side's words, [`convert`] says how ours become theirs and
//! back, and this file is the walk between the two. Pictures stay in the host: base64 is taken out of the answer there,
//! and an answer with addresses has the host fetch them. Edits, variations and streaming are not done here.

mod convert;
mod wire;

use std::time::Duration;

use easel_sdk::http::{Document, Request as HttpRequest};
use easel_sdk::{Adapter, Blob, Context, Error, Model, Output, Picture, Problem, Progress, Request, Result};
use serde_json::Value;

use crate::convert::Config;
use crate::wire::Item;

/// The adapter.
#[derive(Debug)]
pub struct OpenAiImages;

easel_sdk::adapter!(OpenAiImages);

impl Adapter for OpenAiImages {
    type Config = Config;

    fn models(config: &Config) -> Result<Vec<Model>> {
        config.models()
    }

    fn generate(context: &Context, config: &Config, request: &Request, progress: &Progress<'_>) -> Result<Output> {
        let limit = context.deadline.min(Duration::from_secs(config.timeout_s));
        let body = convert::body(config, request)?;
        progress.stage("upstream")?;
        let document = HttpRequest::post_json(config.address(), &body)?
            .credential("api_key")
            .total_timeout(limit)
            .send()?
            .success()
            .map_err(convert::error)?
            .into_document()?;
        check_count(&document, request.count)?;

        let mut output = Output { usage: convert::usage(document.get("/usage")?), ..Output::default() };
        for index in 0..request.count {
            progress.check()?;
            output.pictures.push(picture(config, &document, index, limit)?);
        }
        Ok(output)
    }
}

/// An answer of 200 can still be an error, or hold more or fewer pictures than were asked for.
fn check_count(document: &Document, asked: u32) -> Result<()> {
    match document.len("/data") {
        Some(made) if made == asked as usize => Ok(()),
        Some(made) => Err(Error::upstream(format!("the upstream made {made} pictures where {asked} were asked for"))),
        None => {
            let said: Option<Value> = document.get_cut("", wire::MAX_TEXT)?;
            let said = Problem::read(200, None, said.unwrap_or_default().to_string().as_bytes());
            Err(if said.message.is_empty() { Error::upstream(convert::NO_DATA) } else { convert::error(said) })
        }
    }
}

fn picture(config: &Config, document: &Document, index: u32, limit: Duration) -> Result<Picture> {
    let item: Item = document.get_cut(&format!("/data/{index}"), wire::MAX_TEXT)?.unwrap_or_default();
    let blob = if document.has_text(&format!("/data/{index}/b64_json")) {
        document.take_base64(&format!("/data/{index}/b64_json"))?
    } else {
        match item.url.as_deref() {
            Some(url) if url.starts_with("data:") => document.take_base64(&format!("/data/{index}/url"))?,
            Some(url) => download(config, url, limit)?,
            None => return Err(Error::upstream(format!("picture {index} of the answer has no b64_json and no url"))),
        }
    };
    Ok(Picture { blob, seed: item.seed(), revised_prompt: item.revised_prompt })
}

/// Fetches a picture that the upstream answered by address; its own origin gets the credential, others do not.
fn download(config: &Config, url: &str, limit: Duration) -> Result<Blob> {
    let (url, is_own) = convert::picture_address(&config.base_url, url)?;
    let request = HttpRequest::get(url).total_timeout(limit);
    let request = if is_own { request.credential("api_key") } else { request };
    let response = request
        .send()?
        .success()
        .map_err(|problem| Error::upstream(format!("the picture's address answered {}", problem.status)))?;
    response.into_blob()
}

#[cfg(test)]
mod tests;
