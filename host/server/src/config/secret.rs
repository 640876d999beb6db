//! Where a secret comes from. The config names the place, an environment variable or a file; the secret itself never
//! stands in it, so a config can be shown, copied and committed.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use easel_core::Secret;

use super::ConfigError;
use super::section::Section;
use super::tree::{Node, Value};

/// The largest secret file: room for a service account's key, not for a mistaken picture.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// What a place held.
pub(super) enum Found {
    /// The secret.
    Value(Secret),
    /// The variable is not set, or the file is not there; what is missing, for the operator.
    Missing(String),
}

/// Reads `{ env = "NAME" }` or `{ file = "path" }`.
pub(super) fn read(parent: &Section, path: &str, node: &Node) -> Result<Found, ConfigError> {
    const HINT: &str = r#"name the place instead: { env = "NAME" } or { file = "path" }"#;
    if let Value::Text(_) = node.value {
        let message = format!("{path} must not hold the secret itself");
        return Err(ConfigError::at(&node.origin, message).with_hint(HINT));
    }
    let mut section = parent.item(path.to_owned(), node)?;
    let found = match (section.text("env")?, section.text("file")?) {
        // What is no name could be the secret itself, so it is not repeated.
        (Some(variable), None) if !is_name(&variable) => {
            let message = format!("{path}.env must be the name of an environment variable");
            return Err(ConfigError::at(&node.origin, message).with_hint(HINT));
        }
        (Some(variable), None) => match parent.variable(&variable) {
            Some(value) => Found::Value(Secret::new(value)),
            None => Found::Missing(format!("the environment variable {variable} is not set")),
        },
        (None, Some(file)) => {
            parent.secret_file(Path::new(&file));
            match read_file(Path::new(&file)) {
                Ok(secret) => Found::Value(secret),
                Err(why) => Found::Missing(format!("the secret file {file} {why}")),
            }
        }
        (Some(_), Some(_)) | (None, None) => {
            return Err(ConfigError::at(&node.origin, format!("{path} must have env or file")).with_hint(HINT));
        }
    };
    section.finish()?;
    Ok(found)
}

/// What a secret's file holds, if it holds something.
pub(crate) fn text_of(path: &Path) -> Option<Secret> {
    read_file(path).ok()
}

fn is_name(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn read_file(path: &Path) -> Result<Secret, String> {
    let unreadable = |error: std::io::Error| format!("cannot be read: {error}");
    let mut text = String::new();
    // One byte more than allowed, to see that there is more; what claims to be empty may be endless.
    File::open(path).map_err(unreadable)?.take(MAX_FILE_BYTES + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(format!("has more than {MAX_FILE_BYTES} bytes"));
    }
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() { Err("is empty".to_owned()) } else { Ok(Secret::new(text)) }
}
