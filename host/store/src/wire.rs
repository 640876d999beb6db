//! A request's parameters as they stand in the database. Prompts have columns of their own.

use std::collections::BTreeMap;

use easel_core::GenerationRequest;
use serde::Serialize;
use serde_json::Value;

#[derive(Serialize)]
struct Parameters<'a> {
    task: &'static str,
    count: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    steps: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    guidance: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sampler: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    compression: Option<u8>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    inputs: Vec<Input>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    options: BTreeMap<&'a str, Value>,
}

/// A picture that the request brought; its bytes are not kept.
#[derive(Serialize)]
struct Input {
    role: &'static str,
    format: &'static str,
    size: String,
}

/// Writes the parameters of a request as a JSON object.
pub(crate) fn parameters(request: &GenerationRequest) -> String {
    // An option that is not JSON after all is kept as the text it is.
    let value = |json: &String| serde_json::from_str(json).unwrap_or_else(|_| Value::String(json.clone()));
    let input = |input: &easel_core::Input| Input {
        role: input.role.name(),
        format: input.image.format.name(),
        size: input.image.size.to_string(),
    };
    let parameters = Parameters {
        task: request.task.name(),
        count: request.count,
        size: request.size.map(|size| size.to_string()),
        seed: request.seed,
        steps: request.steps,
        guidance: request.guidance,
        sampler: request.sampler.as_deref(),
        format: request.format.map(|format| format.name()),
        compression: request.compression,
        inputs: request.inputs.iter().map(input).collect(),
        options: request.options.iter().map(|(name, option)| (name.as_str(), value(&option.json))).collect(),
    };
    serde_json::to_string(&parameters).expect("text, numbers and maps with text keys are always JSON")
}
