//! What a style does to words. Pure.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The most style tags that are read from one prompt; further ones stay as they are.
const MAX_TAGS: usize = 8;

/// `[plugin.prompt-styles.config]`.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Config {
    /// The styles by name.
    pub styles: BTreeMap<String, Style>,
    /// The style of requests that name none; empty for no style.
    pub default_style: String,
}

/// One style.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Style {
    /// The prompt with `{prompt}` in the place of the request's; words without it are added behind.
    #[serde(default)]
    prompt: String,
    /// What is added to the negative prompt.
    #[serde(default)]
    negative_prompt: String,
}

impl Style {
    /// A prompt in this style.
    pub fn prompt(&self, prompt: &str) -> String {
        if self.prompt.contains("{prompt}") {
            self.prompt.replace("{prompt}", prompt)
        } else {
            joined(prompt, &self.prompt)
        }
    }

    /// A negative prompt in this style.
    pub fn negative_prompt(&self, prompt: &str) -> String {
        joined(prompt, &self.negative_prompt)
    }
}

/// Takes `<style:name>` out of a prompt: the names, and the prompt without them.
pub fn take_tags(prompt: &str) -> (Vec<String>, String) {
    let mut names = Vec::new();
    let mut text = String::with_capacity(prompt.len());
    let mut rest = prompt;
    while names.len() < MAX_TAGS
        && let Some((before, after)) = rest.split_once("<style:")
    {
        let Some((name, behind)) = after.split_once('>') else { break };
        names.push(name.trim().to_owned());
        text.push_str(before);
        // Two words around a tag stay two words with one space between them.
        rest = if text.is_empty() || text.ends_with(' ') { behind.trim_start_matches(' ') } else { behind };
    }
    text.push_str(rest);
    if !names.is_empty() {
        text.truncate(text.trim_end().len());
    }
    (names, text)
}

fn joined(words: &str, more: &str) -> String {
    match (words.is_empty(), more.is_empty()) {
        (_, true) => words.to_owned(),
        (true, false) => more.to_owned(),
        (false, false) => format!("{words}, {more}"),
    }
}
