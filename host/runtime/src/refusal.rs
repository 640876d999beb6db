//! Why a plugin was not loaded, told to its operator: in its status and in the log. What a running call does wrong is
//! another matter (`fault.rs`).

/// Why a plugin was not loaded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Refusal {
    message: String,
    is_own_word: bool,
}

impl Refusal {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), is_own_word: false }
    }

    /// The plugin's own error value: it works, and says why it cannot serve.
    pub(crate) fn by_plugin(message: impl Into<String>) -> Self {
        Self { is_own_word: true, ..Self::new(message) }
    }

    /// Whether the plugin itself said so.
    pub(crate) fn is_own_word(&self) -> bool {
        self.is_own_word
    }

    /// Adds the next sentence: what to do about it.
    #[must_use]
    pub(crate) fn with_fix(mut self, fix: impl std::fmt::Display) -> Self {
        self.message.push_str(&format!(": {fix}"));
        self
    }
}

/// Says which of the known words is meant, or lists them.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<_> = known.into_iter().collect();
    let near = known
        .iter()
        .map(|name| (strsim::damerau_levenshtein(word, name), *name))
        .filter(|(distance, name)| *distance <= 2.max(name.len() / 3))
        .min();
    match near {
        Some((_, name)) => format!("did you mean {name:?}?"),
        None if known.is_empty() => "there are none".to_owned(),
        None => format!("there are: {}", known.join(", ")),
    }
}
