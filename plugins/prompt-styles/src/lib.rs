//! A transformer that adds named styles to prompts.
//!
//! A request names its styles with the option `style_preset` or with `<style:name>` in the prompt; the styles are the
//! operator's. This file decides, [`style`] does the words. It never invents a style: an unknown one is refused with
//! the list of those there are.

mod style;

use easel_sdk::{Context, Edit, Edits, Error, Request, Transformer, Verdict};

use crate::style::Config;

/// The option by which a request names a style.
const OPTION: &str = "style_preset";

/// The value of the option that turns the default style off.
const NO_STYLE: &str = "none";

/// The transformer.
#[derive(Debug)]
pub struct PromptStyles;

easel_sdk::transformer!(PromptStyles);

impl Transformer for PromptStyles {
    type Config = Config;

    fn check(config: &Config) -> easel_sdk::Result<()> {
        let default = &config.default_style;
        if default.is_empty() || default == NO_STYLE || config.styles.contains_key(default) {
            return Ok(());
        }
        Err(Error::config(format!("default_style: {}", unknown(config, default).message)))
    }

    fn on_request(_: &Context, config: &Config, request: &Request, edits: &mut Edits) -> Verdict {
        match apply(config, request, edits) {
            Ok(()) => Verdict::Next,
            Err(error) => Verdict::Reject(error),
        }
    }
}

fn apply(config: &Config, request: &Request, edits: &mut Edits) -> easel_sdk::Result<()> {
    let (tags, text) = style::take_tags(&request.prompt);
    let option: Option<String> = request.option(OPTION)?;
    if option.is_some() {
        // The option is ours: the model behind need not know it.
        edits.make(Edit::Option(OPTION.to_owned(), None));
    }
    let chosen = choose(config, option.as_deref(), &tags)?;
    if chosen.is_empty() && tags.is_empty() {
        return Ok(());
    }
    if text.trim().is_empty() {
        return Err(Error::invalid("prompt", "the prompt is empty without its style tags"));
    }

    let mut prompt = text;
    let mut negative = request.negative_prompt.clone().unwrap_or_default();
    for name in &chosen {
        let style = &config.styles[name];
        prompt = style.prompt(&prompt);
        negative = style.negative_prompt(&negative);
    }
    let names: Vec<_> = chosen.iter().map(String::as_str).collect();
    let names = names.join(", ");
    if prompt != request.prompt {
        edits.make(Edit::Prompt(prompt));
        edits.note("prompt", format!("style {names} was applied"));
    }
    if negative != request.negative_prompt.as_deref().unwrap_or_default() {
        edits.make(Edit::NegativePrompt(Some(negative)));
        edits.note("negative-prompt", format!("style {names} added to it"));
    }
    Ok(())
}

/// The names of the styles of a request, in the order in which they are applied, each once.
fn choose(config: &Config, option: Option<&str>, tags: &[String]) -> easel_sdk::Result<Vec<String>> {
    let mut names: Vec<String> = Vec::new();
    let default = Some(config.default_style.as_str()).filter(|name| !name.is_empty() && tags.is_empty());
    let first = option.or(default).map(|name| (name, format!("option.{OPTION}")));
    let tags = tags.iter().map(|name| (name.as_str(), "prompt".to_owned()));
    for (name, param) in first.into_iter().chain(tags) {
        if name == NO_STYLE || names.iter().any(|known| known == name) {
            continue;
        }
        if !config.styles.contains_key(name) {
            return Err(unknown(config, name).with_param(param));
        }
        names.push(name.to_owned());
    }
    Ok(names)
}

fn unknown(config: &Config, name: &str) -> Error {
    let known: Vec<_> = config.styles.keys().map(String::as_str).chain([NO_STYLE]).collect();
    Error::new(
        easel_sdk::ErrorKind::InvalidRequest,
        format!("there is no style {name:?}; there are: {}", known.join(", ")),
    )
}

#[cfg(test)]
mod tests;
