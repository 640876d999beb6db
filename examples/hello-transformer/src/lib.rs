//! The smallest transformer: it adds the operator's words to every prompt that lacks them, and says so.

use easel_sdk::{Context, Edit, Edits, Request, Transformer, Verdict};
use serde::Deserialize;

/// The transformer.
#[derive(Debug)]
pub struct Hello;

/// `[plugin.hello-transformer.config]`.
#[derive(Debug, Deserialize)]
pub struct Config {
    /// What is added.
    word: String,
}

easel_sdk::transformer!(Hello);

impl Transformer for Hello {
    type Config = Config;

    fn on_request(_: &Context, config: &Config, request: &Request, edits: &mut Edits) -> Verdict {
        if !config.word.is_empty() && !request.prompt.contains(&config.word) {
            edits.make(Edit::Prompt(format!("{}, {}", request.prompt, config.word)));
            edits.note("prompt", format!("{:?} was added", config.word));
        }
        Verdict::Next
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn edits(word: &str, prompt: &str) -> Edits {
        let context = Context::new("r", Duration::from_secs(1));
        let mut edits = Edits::default();
        let verdict = Hello::on_request(&context, &Config { word: word.to_owned() }, &Request::new(prompt), &mut edits);
        assert!(matches!(verdict, Verdict::Next));
        edits
    }

    #[test]
    fn word_is_added_once_and_noted() {
        let made = edits("at dusk", "a fox");
        assert_eq!(made.edits, [Edit::Prompt("a fox, at dusk".to_owned())]);
        assert_eq!(made.notes.len(), 1);
        assert_eq!(edits("at dusk", "a fox at dusk"), Edits::default());
        assert_eq!(edits("", "a fox"), Edits::default());
    }
}
