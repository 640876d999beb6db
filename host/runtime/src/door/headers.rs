//! Headers that are not the plugin's.

use http::HeaderName;

/// Headers that describe the connection or frame the message: the client's business.
pub(crate) fn is_connection_header(name: &HeaderName) -> bool {
    const NAMES: [&str; 13] = [
        "connection",
        "content-length",
        "expect",
        "host",
        "http2-settings",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    NAMES.contains(&name.as_str())
}

/// Headers that carry secrets, whoever sends them.
pub(super) fn is_secret_header(name: &HeaderName) -> bool {
    const NAMES: [&str; 7] =
        ["api-key", "authorization", "cookie", "set-cookie", "x-api-key", "x-goog-api-key", "x-key"];
    NAMES.contains(&name.as_str())
}
