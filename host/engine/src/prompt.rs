//! Prompts for language models: the words of a chat around them, then tokens by the model's own `tokenizer.json`.
//!
//! The words come from the chat template in the model's folder. It is a program from outside, so it runs on a bounded amount
//! of fuel, sees the prompt and the names of the special tokens, and can call nothing.

use std::collections::BTreeMap;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::ValueKind;
use minijinja::{Environment, ErrorKind, context};
use serde::Deserialize;
use serde_json::Value;
use tokenizers::Tokenizer;

use crate::checkpoint::Files;
use crate::config::read_json;
use crate::error::{Error, Result};
use crate::tokenizer::Tokens;

/// Instructions that a chat template may take. Qwen's takes some hundred.
const FUEL: u64 = 100_000;

/// Turns text into the token ids of a language model, by a `tokenizer.json`.
pub(crate) struct TextTokenizer {
    tokenizer: Tokenizer,
    /// What the tokenizer puts after every text.
    end: Vec<u32>,
    pad: u32,
    length: usize,
}

impl TextTokenizer {
    /// Reads the tokenizer in a folder, for texts of `length` tokens.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::Config`], [`Error::Unsupported`] or [`Error::Tokenizer`] when a file is missing or wrong.
    pub(crate) fn load(files: &Files, folder: &str, length: usize) -> Result<Self> {
        let file = format!("{folder}/tokenizer.json");
        let bytes = files.read(&file)?;
        let wrong = |error: tokenizers::Error| Error::Config { file: file.clone(), reason: error.to_string() };
        let mut tokenizer = Tokenizer::from_bytes(bytes).map_err(wrong)?;
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(wrong)?;
        let end = tokenizer.encode("", true).map_err(wrong)?.get_ids().to_vec();
        let word = tokenizer.encode("a", true).map_err(wrong)?;
        if word.get_special_tokens_mask().first().is_some_and(|added| *added == 1) || end.len() >= length {
            let reason = "it must put nothing before a text, and little after it".to_owned();
            return Err(Error::Config { file, reason });
        }
        let settings = Settings::read(files, folder)?;
        let Some(pad) = settings.special.get("pad_token") else {
            let file = format!("{folder}/tokenizer_config.json");
            return Err(Error::Config { file, reason: "pad_token is missing".to_owned() });
        };
        let Some(pad) = tokenizer.token_to_id(pad) else {
            return Err(Error::Tokenizer(format!("the padding {pad:?} is not in {file}")));
        };
        Ok(Self { tokenizer, end, pad, length })
    }

    /// The tokens of a text, with what the tokenizer puts around it; what does not fit is cut off and counted.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] when the text cannot be cut into words.
    pub(crate) fn tokens(&self, text: &str) -> Result<Tokens> {
        let broken = |error: tokenizers::Error| Error::Tokenizer(error.to_string());
        let mut ids = self.tokenizer.encode(text, true).map_err(broken)?.get_ids().to_vec();
        let dropped = ids.len().saturating_sub(self.length);
        if dropped > 0 {
            ids.truncate(self.length - self.end.len());
            ids.extend_from_slice(&self.end);
        }
        let used = ids.len();
        ids.resize(self.length, self.pad);
        Ok(Tokens { ids, used, dropped })
    }
}

/// Whether a language model is left room to think aloud before it answers, which its template may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Thinking {
    /// It answers at once.
    Off,
    /// It may think first.
    On,
}

/// Puts the words of a chat around a prompt, then cuts it into tokens.
pub(crate) struct ChatTokenizer {
    text: TextTokenizer,
    template: Environment<'static>,
    special: BTreeMap<String, String>,
    thinking: Thinking,
}

impl ChatTokenizer {
    /// Reads tokenizer and template in a folder, for texts of `length` tokens.
    ///
    /// # Errors
    /// As [`TextTokenizer::load`].
    pub(crate) fn load(files: &Files, folder: &str, length: usize, thinking: Thinking) -> Result<Self> {
        let text = TextTokenizer::load(files, folder, length)?;
        let settings = Settings::read(files, folder)?;
        let wrong = |file: String| {
            move |error: minijinja::Error| Error::Config {
                file,
                reason: format!("the chat template cannot be read: {error}"),
            }
        };
        let mut template = Environment::new();
        // As transformers reads templates.
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        template.set_syntax(syntax.map_err(wrong(settings.template_file.clone()))?);
        template.set_fuel(Some(FUEL));
        template.set_unknown_method_callback(method);
        template.add_template_owned(CHAT, settings.template).map_err(wrong(settings.template_file))?;
        Ok(Self { text, template, special: settings.special, thinking })
    }

    /// The prompt as the language model reads it.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] when the template does not run to its end.
    pub(crate) fn chat(&self, prompt: &str) -> Result<String> {
        let broken = |error: minijinja::Error| Error::Tokenizer(format!("the chat template does not run: {error}"));
        let message = minijinja::Value::from_pairs([("role", "user"), ("content", prompt)]);
        let said = context! {
            messages => vec![message],
            add_generation_prompt => true,
            enable_thinking => self.thinking == Thinking::On,
            ..minijinja::Value::from_pairs(self.special.clone())
        };
        self.template.get_template(CHAT).map_err(broken)?.render(said).map_err(broken)
    }

    /// The tokens of a prompt in its chat.
    ///
    /// # Errors
    /// As [`ChatTokenizer::chat`] and [`TextTokenizer::tokens`].
    pub(crate) fn tokens(&self, prompt: &str) -> Result<Tokens> {
        self.text.tokens(&self.chat(prompt)?)
    }
}

/// The name of the one template in its environment.
const CHAT: &str = "chat";

/// The methods of Python's strings that templates call on what was said.
fn method(
    _: &mut minijinja::State<'_, '_>,
    value: &minijinja::Value,
    method: &str,
    arguments: &[minijinja::Value],
) -> Result<minijinja::Value, minijinja::Error> {
    let unknown = || minijinja::Error::new(ErrorKind::UnknownMethod, format!("{method} is not here"));
    let text = value.as_str().filter(|_| value.kind() == ValueKind::String).ok_or_else(unknown)?;
    let argument = arguments.first().and_then(minijinja::Value::as_str);
    let set = |c: char| argument.map_or(c.is_whitespace(), |set| set.contains(c));
    Ok(match (method, argument) {
        ("startswith", Some(start)) => text.starts_with(start).into(),
        ("endswith", Some(end)) => text.ends_with(end).into(),
        ("split", Some(by)) if !by.is_empty() => text.split(by).map(minijinja::Value::from).collect::<Vec<_>>().into(),
        ("strip", _) => text.trim_matches(set).into(),
        ("lstrip", _) => text.trim_start_matches(set).into(),
        ("rstrip", _) => text.trim_end_matches(set).into(),
        _ => return Err(unknown()),
    })
}

/// What stands beside a `tokenizer.json`.
struct Settings {
    special: BTreeMap<String, String>,
    template: String,
    template_file: String,
}

impl Settings {
    fn read(files: &Files, folder: &str) -> Result<Self> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Token {
            Plain(String),
            Added { content: String },
        }
        let file = format!("{folder}/tokenizer_config.json");
        let config: serde_json::Map<String, Value> = read_json(files, &file)?;
        if let Some(side) = config.get("padding_side").and_then(Value::as_str).filter(|side| *side != "right") {
            let allowed = "right".to_owned();
            return Err(Error::Unsupported { file, key: "padding_side".to_owned(), value: side.to_owned(), allowed });
        }
        let mut sources = vec![config.clone()];
        let map = format!("{folder}/special_tokens_map.json");
        if files.has(&map) {
            sources.push(read_json(files, &map)?);
        }
        let mut special = BTreeMap::new();
        for name in ["bos_token", "eos_token", "pad_token", "unk_token"] {
            let found = sources.iter().filter_map(|source| source.get(name)).find(|token| !token.is_null());
            let token = found.and_then(|token| serde_json::from_value(token.clone()).ok());
            if let Some(Token::Plain(text) | Token::Added { content: text }) = token {
                special.insert(name.to_owned(), text);
            }
        }
        let template_file = format!("{folder}/chat_template.jinja");
        if files.has(&template_file) {
            let bytes = files.read(&template_file)?;
            let template = String::from_utf8_lossy(&bytes).into_owned();
            return Ok(Self { special, template, template_file });
        }
        let template = match config.get("chat_template") {
            Some(Value::String(template)) => template.clone(),
            _ => String::new(),
        };
        Ok(Self { special, template, template_file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::{ChatTokenizer, Thinking};
    use crate::checkpoint::Files;
    use crate::error::Result;

    /// A tokenizer of single bytes; the template is the test's.
    fn chat(template: &str) -> (tempfile::TempDir, Result<ChatTokenizer>) {
        let at = tempfile::tempdir().unwrap();
        let folder = at.path().join("tokenizer");
        std::fs::create_dir(&folder).unwrap();
        let tokenizer = r#"{"version": "1.0", "truncation": null, "padding": null, "normalizer": null, "pre_tokenizer": null,
            "post_processor": null, "decoder": null, "added_tokens": [{"id": 2, "content": "<pad>", "single_word": false,
            "lstrip": false, "rstrip": false, "normalized": false, "special": true}],
            "model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": []}}"#;
        std::fs::write(folder.join("tokenizer.json"), tokenizer).unwrap();
        std::fs::write(folder.join("tokenizer_config.json"), r#"{"pad_token": {"content": "<pad>"}}"#).unwrap();
        std::fs::write(folder.join("chat_template.jinja"), template).unwrap();
        let chat = ChatTokenizer::load(&Files::Folder(at.path().to_owned()), "tokenizer", 8, Thinking::Off);
        (at, chat)
    }

    #[test]
    fn a_template_sees_the_prompt_and_the_names_of_tokens_and_nothing_is_escaped() {
        let (_at, chat) =
            chat("{%- if not enable_thinking %}\n    <{{ messages[0].content.strip() }}>{{ pad_token }}\n{% endif %}");
        assert_eq!(chat.unwrap().chat(" a<b ").unwrap(), "    <a<b><pad>\n");
    }

    #[test]
    fn what_does_not_fit_is_cut_off_and_counted() {
        let (_at, chat) = chat("{{ messages[0].content }}");
        let chat = chat.unwrap();
        let tokens = chat.tokens("abab").unwrap();
        assert_eq!((tokens.ids.as_slice(), tokens.used, tokens.dropped), ([0, 1, 0, 1, 2, 2, 2, 2].as_slice(), 4, 0));
        let tokens = chat.tokens(&"ab".repeat(6)).unwrap();
        assert_eq!((tokens.ids.len(), tokens.used, tokens.dropped), (8, 8, 4));
    }

    #[test]
    fn a_template_that_does_not_end_is_stopped() {
        let (_at, chat) = chat("{% for i in range(9000) %}{% for j in range(9000) %}a{% endfor %}{% endfor %}");
        let error = chat.unwrap().chat("a").unwrap_err().to_string();
        assert!(error.contains("the chat template does not run"), "{error}");
    }

    #[test]
    fn a_template_that_cannot_be_read_or_calls_what_is_not_there_is_refused() {
        let (_at, broken) = chat("{% if %}");
        let error = broken.err().unwrap().to_string();
        assert!(error.contains("tokenizer/chat_template.jinja"), "{error}");
        for template in ["{{ open('/etc/passwd') }}", "{{ messages[0].content.format(1) }}", "{% include 'x' %}"] {
            let (_at, chat) = chat(template);
            assert!(chat.unwrap().chat("a").is_err(), "{template}");
        }
    }
}
