//! The provider's words to ours: how a task stands, and the errors that refusals become. Pure.

use std::time::Duration;

use easel_sdk::{Error, ErrorKind, Problem, Result};
use serde_json::Value;

use crate::catalogue::{Provider, Record};
use crate::config::{Config, Owner, is_under, origin};
use crate::wire::{Finished, MAX_ID, MAX_URL, Standing, Submitted};

/// When asking again is worth it where the provider does not say: about as long as a task takes.
const WAIT: Duration = Duration::from_secs(10);

/// The longest part of the provider's reasons that is passed on, in characters.
const MAX_REASONS: usize = 300;

/// How a task stands.
#[derive(Debug)]
pub enum Stand {
    /// It is being worked on; the word for it, as far as it is a known one.
    Going(&'static str),
    /// Its picture lies there.
    Ready(Finished),
    /// The provider does not know it: not yet, or no longer.
    Missing,
    /// It will not be made.
    Over(Error),
}

/// Reads how a task stands. A status that is not known is one of work.
///
/// # Errors
/// `Upstream` when it has none.
pub fn stand(standing: Standing) -> Result<Stand> {
    let Some(status) = standing.status else {
        return Err(Error::upstream("the provider's answer has no status"));
    };
    Ok(match status.as_str() {
        "Ready" if standing.result.sample.is_some() => Stand::Ready(standing.result),
        "Ready" => Stand::Over(Error::upstream("the provider finished the task without a picture")),
        "Error" | "Failed" => {
            Stand::Over(of_status(ErrorKind::Upstream, &status, "the provider failed at the task", &standing.details))
        }
        "Task not found" => Stand::Missing,
        _ => match blocked(&status, &standing.details) {
            Some(error) => Stand::Over(error),
            None => Stand::Going(stage(&status)),
        },
    })
}

/// The error of a status that says that the content was blocked, if it is one.
pub fn blocked(status: &str, details: &Value) -> Option<Error> {
    let what = match status {
        "Request Moderated" => "the provider blocked the request",
        "Content Moderated" => "the provider blocked the picture that it made; asked again, another one may pass",
        _ if status.contains("Moderated") => "the provider's moderation blocked it",
        _ => return None,
    };
    let error = of_status(ErrorKind::ContentPolicy, status, what, details);
    Some(if status == "Request Moderated" { error.with_param("prompt") } else { error })
}

fn of_status(kind: ErrorKind, status: &str, what: &str, details: &Value) -> Error {
    Error { provider_code: Some(status.to_owned()), ..Error::new(kind, with_reasons(what, details)) }
}

fn with_reasons(what: &str, details: &Value) -> String {
    let mut words = Vec::new();
    reasons(details, &mut words);
    let words = beginning(&words.join(", "), MAX_REASONS);
    if words.is_empty() { what.to_owned() } else { format!("{what}: {words}") }
}

/// At most so many characters of a text, none that controls a terminal.
pub fn beginning(text: &str, max: usize) -> String {
    text.chars().filter(|c| !c.is_control()).take(max).collect()
}

/// Every text of the provider's details.
fn reasons<'a>(details: &'a Value, words: &mut Vec<&'a str>) {
    match details {
        Value::String(text) => words.push(text.trim()),
        Value::Array(items) => items.iter().for_each(|item| reasons(item, words)),
        Value::Object(fields) => fields.values().for_each(|field| reasons(field, words)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn stage(status: &str) -> &'static str {
    match status {
        "Reasoning" => "reasoning",
        "Generating" => "generating",
        _ => "pending",
    }
}

/// The id of a task that was taken, and where to ask for its result.
///
/// # Errors
/// `ContentPolicy` where the answer says so; `Upstream` when it is no answer, or would have the key sent elsewhere.
pub fn taken(answer: &Submitted, config: &Config, provider: &Provider) -> Result<(String, String)> {
    if let Some(error) = answer.status.as_deref().and_then(|status| blocked(status, &answer.details)) {
        return Err(error);
    }
    let is_plain = |id: &&str| {
        (1..=MAX_ID).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte))
    };
    let Some(id) = answer.id.as_deref().filter(is_plain) else {
        let message = with_reasons("the provider named no task", &answer.detail);
        return Err(Error::upstream(message));
    };
    let Some(url) = answer.polling_url.as_deref() else {
        return Ok((id.to_owned(), format!("{}/v1/get_result?id={id}", config.base())));
    };
    let at = origin(url).filter(|_| url.len() <= MAX_URL);
    let may_go = at.is_some_and(|at| match config.owner(provider) {
        Ok(Owner::Provider) => is_under(at, &provider.domain),
        Ok(Owner::Other) => origin(config.base()).is_some_and(|base| base.eq_ignore_ascii_case(at)),
        Err(_) => false,
    });
    if !may_go {
        let at = beginning(at.unwrap_or(url), 100);
        return Err(Error::upstream(format!(
            "the provider would have its result asked for at {at:?}, which is no host of its own"
        )));
    }
    Ok((id.to_owned(), url.to_owned()))
}

/// Where a picture lies.
///
/// # Errors
/// `Upstream` for an address that is not https, unless it is the server's own.
pub fn sample<'a>(url: &'a str, config: &Config) -> Result<&'a str> {
    let is_own = |at: &str| origin(config.base()).is_some_and(|base| base.eq_ignore_ascii_case(at));
    match origin(url) {
        Some(at) if at.starts_with("https://") || is_own(at) => Ok(url),
        Some(_) | None => {
            let start = beginning(url, 40);
            Err(Error::upstream(format!("the provider's picture lies at an address that is not fetched: {start:?}")))
        }
    }
}

/// The error that a refusal of a new task becomes.
pub fn refusal(mut problem: Problem, record: &Record) -> Error {
    // Every model has an endpoint of its own.
    let kind = if problem.status == 404 { ErrorKind::ModelNotFound } else { problem.kind() };
    if kind == ErrorKind::ModelNotFound {
        let hint = format!(
            " (is {} offered there? see base_url and models.\"{}\" under [plugin.bfl.config])",
            record.endpoint, record.id
        );
        problem.message.push_str(&hint);
    }
    problem.param = problem.param.as_deref().map(|field| our_word(record, field));
    let mut error = common(problem, kind);
    if kind == ErrorKind::ModelNotFound {
        error.param = Some("model".to_owned());
    }
    if kind == ErrorKind::RateLimited {
        error.retry_after.get_or_insert(WAIT);
    }
    error
}

/// The error of a poll that was refused; that is never the client's fault.
pub fn poll_refusal(problem: Problem) -> Error {
    let kind = match problem.kind() {
        ErrorKind::InvalidRequest => ErrorKind::Upstream,
        kind => kind,
    };
    common(problem, kind)
}

fn common(problem: Problem, kind: ErrorKind) -> Error {
    let mut error = problem.into_error(kind);
    if kind == ErrorKind::Auth {
        error.message.push_str(" (is the key under [plugin.bfl.credentials] right?)");
    }
    error
}

/// The contract's word for a field of the body.
fn our_word(record: &Record, field: &str) -> String {
    let is_picture =
        field.strip_prefix(record.inputs.field.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'));
    if is_picture && !record.inputs.field.is_empty() {
        return "image".to_owned();
    }
    match field {
        "width" | "height" => "size".to_owned(),
        "output_format" => "format".to_owned(),
        "prompt" | "mask" | "seed" | "steps" | "guidance" => field.to_owned(),
        field if record.options.iter().any(|rule| rule.name == field) => format!("option.{field}"),
        field => field.to_owned(),
    }
}

#[cfg(test)]
mod tests;
