//! OpenAI Images as it is on the wire, with the extensions that other servers of this API take.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The longest address or text that is read from an answer, in characters.
pub const MAX_TEXT: u32 = 8 * 1024;

/// The body of `POST /images/generations`: OpenAI's fields, then those that servers of open models take as well.
#[derive(Debug, Default, PartialEq, Serialize)]
pub struct Body<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<&'a str>,
    pub prompt: &'a str,
    pub n: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
    pub response_format: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_format: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_compression: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cfg_scale: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub negative_prompt: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<&'a str>,
    /// Fields that are the upstream's business: `quality`, `style`, …
    #[serde(flatten)]
    pub options: BTreeMap<&'a str, Value>,
}

/// One picture of the answer, without its base64.
#[derive(Debug, Default, Deserialize)]
pub struct Item {
    /// Where it is, for servers that do not give base64.
    pub url: Option<String>,
    /// The prompt as the server rewrote it.
    pub revised_prompt: Option<String>,
    /// The seed as servers of open models add it; some add other things by that name.
    #[serde(default)]
    seed: Value,
}

impl Item {
    /// The seed, where it is one.
    pub fn seed(&self) -> Option<u64> {
        self.seed.as_u64()
    }
}
