//! Text that must not be shown: keys of callers, credentials of plugins.
//!
//! Whoever needs the text says so with [`Secret::expose`], so that every such place can be found and counted. How two
//! secrets are compared, and where they come from, is the business of those who hold them.

use std::fmt;
use std::sync::Arc;

/// Text that is redacted wherever it is formatted. Cloning shares it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Takes the text.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the place that compares or sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}
