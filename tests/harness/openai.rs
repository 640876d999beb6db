//! The adapter `openai-images` in front of an upstream: the backend whose answers, and whose slowness, a test decides.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::{Reply, Server, pictures};

/// The component under its file's name.
pub const COMPONENT: (&str, &[u8]) = ("plugins/openai-images.wasm", include_bytes!(env!("COMPONENT_OPENAI_IMAGES")));

/// A config with the adapter in front of an upstream, beside a stub; `more` stands before it.
pub fn config(origin: &str, more: &str) -> String {
    format!(
        "mode = \"stub\"\n{more}\n[plugin.openai-images]\norigins = [\"{origin}\"]\n\
         [plugin.openai-images.config]\nbase_url = \"{origin}/v1\"\n"
    )
}

/// A server with the adapter in front of an upstream.
pub async fn server(origin: &str) -> Server {
    server_with(origin, "").await
}

/// The same with more config.
pub async fn server_with(origin: &str, more: &str) -> Server {
    server_of(&config(origin, more)).await
}

/// A server with the adapter and this config.
pub async fn server_of(config: &str) -> Server {
    Server::start_with(config, &[COMPONENT]).await
}

/// What an upstream answers: so many pictures as base64.
pub fn pictures(count: usize) -> Reply {
    let item = json!({ "b64_json": STANDARD.encode(pictures::png(8, 8)) });
    Reply::json(200, &json!({ "created": 1_700_000_000, "data": vec![item; count] }))
}
